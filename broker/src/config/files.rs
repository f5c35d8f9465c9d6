//! Reads the configuration file and the certificates; the only reading of files before the start.
//!
//! A private key that others could have read is refused, never loaded with a warning.

use std::fmt;
use std::fs::File;
use std::io;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;

use thiserror::Error;

use crate::config::settings::TlsFiles;

/// Larger files are a mistake.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Permission bits of group and others.
const SHARED_BITS: u32 = 0o077;

/// Why a certificate or key file cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot read `tls.{key}` {}: {source}", path.display())]
    Unreadable {
        /// The key that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// Group or others may read or write it.
    #[error(
        "`tls.{key}` {path} has mode {mode:04o}: others have access to this private key; run `chmod 600 {path}`",
        path = path.display()
    )]
    Shared {
        /// The key that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// The PEM text of every file TLS needs.
pub struct TlsMaterial {
    /// Issuers of broker certificates.
    pub peer_ca: Vec<u8>,
    /// Issuers of client certificates.
    pub client_ca: Vec<u8>,
    /// This broker's certificate chain.
    pub certificate: Vec<u8>,
    /// Its private key.
    pub key: Vec<u8>,
}

impl fmt::Debug for TlsMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsMaterial").finish_non_exhaustive()
    }
}

impl TlsFiles {
    /// Reads all four files.
    ///
    /// # Errors
    /// A file cannot be read, or group or others have access to the private key.
    pub fn read(&self) -> Result<TlsMaterial, FileError> {
        Ok(TlsMaterial {
            peer_ca: read("peer_ca_file", &self.peer_ca_file)?,
            client_ca: read("client_ca_file", &self.client_ca_file)?,
            certificate: read("cert_file", &self.cert_file)?,
            key: read_private("key_file", &self.key_file)?,
        })
    }
}

/// The whole of a small text file.
pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    let bytes = read_to_end(&File::open(path)?)?;
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not UTF-8"))
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, FileError> {
    let opened = File::open(path).and_then(|file| read_to_end(&file));
    opened.map_err(unreadable(key, path))
}

fn read_private(key: &'static str, path: &Path) -> Result<Vec<u8>, FileError> {
    let file = File::open(path).map_err(unreadable(key, path))?;
    // Of the open file, so that it cannot be exchanged in between.
    let mode = file.metadata().map_err(unreadable(key, path))?.mode() & 0o7777;
    if mode & SHARED_BITS != 0 {
        return Err(FileError::Shared {
            key,
            path: path.to_owned(),
            mode,
        });
    }
    read_to_end(&file).map_err(unreadable(key, path))
}

fn unreadable(key: &'static str, path: &Path) -> impl Fn(io::Error) -> FileError {
    move |source| FileError::Unreadable {
        key,
        path: path.to_owned(),
        source,
    }
}

fn read_to_end(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut limited = file.take(FILE_BYTES_MAX + 1);
    limited.read_to_end(&mut bytes)?;
    if limited.limit() == 0 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "larger than 1 MiB",
        ));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn files(folder: &Path) -> TlsFiles {
        for name in ["peer", "client", "cert", "key"] {
            fs::write(folder.join(name), name).unwrap();
        }
        TlsFiles {
            peer_ca_file: folder.join("peer"),
            client_ca_file: folder.join("client"),
            cert_file: folder.join("cert"),
            key_file: folder.join("key"),
        }
    }

    #[test]
    fn a_key_that_group_or_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        for mode in [0o640, 0o604, 0o620, 0o666, 0o601] {
            fs::set_permissions(&files.key_file, fs::Permissions::from_mode(mode)).unwrap();
            let error = files.read().unwrap_err().to_string();
            assert!(error.contains(&format!("{mode:04o}")), "{error}");
            assert!(error.contains("chmod 600"), "{error}");
        }
        for mode in [0o600, 0o400] {
            fs::set_permissions(&files.key_file, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(files.read().unwrap().key, b"key");
        }
    }

    #[test]
    fn an_absent_file_is_named_with_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = files(folder.path());
        files.client_ca_file = folder.path().join("nowhere");
        let error = files.read().unwrap_err().to_string();
        assert!(error.contains("tls.client_ca_file"), "{error}");
        assert!(error.contains("nowhere"), "{error}");
    }

    #[test]
    fn an_oversized_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("big");
        let file = File::create(&path).unwrap();
        file.set_len(FILE_BYTES_MAX + 1).unwrap();
        assert!(read_text(&path).is_err());
        file.set_len(FILE_BYTES_MAX).unwrap();
        assert!(read_text(&path).is_ok());
    }
}
