//! Key and certificate files: private ones are never readable by others, and nothing that
//! exists is ever overwritten.

use std::fs;
use std::io;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

/// Why new files could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// Files of these names are there; none was touched.
    #[error("{} exists already; it was left untouched (move it away or choose another directory)", list(.0))]
    Exists(Vec<PathBuf>),
    /// The system refused; what had been written was removed again.
    #[error("cannot write {}: {source}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a private key file is not trusted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// The file does not exist.
    #[error("the private key {} does not exist", .0.display())]
    Missing(PathBuf),
    /// Group or others have rights on it.
    #[error("the private key {} can be read by others (mode {mode:03o}); run: chmod 600 {}", .path.display(), .path.display())]
    ReadableByOthers {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The system refused.
    #[error("cannot read the private key {}: {source}", .path.display())]
    Io {
        /// The key file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn list(paths: &[PathBuf]) -> String {
    let names: Vec<_> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    names.join(", ")
}

/// Files that are to appear together or not at all.
#[derive(Default)]
pub(crate) struct NewFiles {
    files: Vec<NewFile>,
}

struct NewFile {
    path: PathBuf,
    content: String,
    mode: u32,
}

impl NewFiles {
    /// Adds a file that anybody may read.
    pub(crate) fn public(&mut self, path: &Path, content: &str) {
        self.add(path, content, 0o644);
    }

    /// Adds a file that only its owner may read.
    pub(crate) fn private(&mut self, path: &Path, content: &str) {
        self.add(path, content, 0o600);
    }

    /// Adds the files of another set.
    pub(crate) fn extend(&mut self, other: Self) {
        self.files.extend(other.files);
    }

    /// Writes all files, or none if one of them exists or cannot be written.
    pub(crate) fn write(&self) -> Result<(), WriteError> {
        let paths = self.files.iter().map(|file| &file.path);
        let existing: Vec<_> = paths
            .filter(|path| path.symlink_metadata().is_ok())
            .cloned()
            .collect();
        if !existing.is_empty() {
            return Err(WriteError::Exists(existing));
        }
        for (written, file) in self.files.iter().enumerate() {
            if let Err(error) = file.write() {
                self.remove_first(written);
                return Err(error);
            }
        }
        Ok(())
    }

    fn add(&mut self, path: &Path, content: &str, mode: u32) {
        self.files.push(NewFile {
            path: path.to_owned(),
            content: content.to_owned(),
            mode,
        });
    }

    /// Takes back the first `count` files; what cannot be removed is reported by the next attempt.
    fn remove_first(&self, count: usize) {
        for file in self.files.iter().take(count) {
            drop(fs::remove_file(&file.path));
        }
    }
}

impl NewFile {
    /// Writes beside the target, flushes, then links: a reader sees the whole file or none, and
    /// a file that appeared meanwhile wins.
    fn write(&self) -> Result<(), WriteError> {
        let folder = self.path.parent().unwrap_or_else(|| Path::new("."));
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let draft = folder.join(format!(".{name}.{}.new", std::process::id()));
        let result = create_folder(folder)
            .and_then(|()| self.write_draft(&draft))
            .map_err(|source| self.failed(source))
            .and_then(|()| fs::hard_link(&draft, &self.path).map_err(|source| self.taken(source)))
            .and_then(|()| sync_folder(folder).map_err(|source| self.failed(source)));
        drop(fs::remove_file(&draft));
        result
    }

    fn failed(&self, source: io::Error) -> WriteError {
        WriteError::Io {
            path: self.path.clone(),
            source,
        }
    }

    fn taken(&self, source: io::Error) -> WriteError {
        match source.kind() {
            io::ErrorKind::AlreadyExists => WriteError::Exists(vec![self.path.clone()]),
            _ => self.failed(source),
        }
    }

    fn write_draft(&self, draft: &Path) -> io::Result<()> {
        if draft.symlink_metadata().is_ok() {
            fs::remove_file(draft)?;
        }
        let mut options = fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(self.mode)
            .open(draft)?;
        file.write_all(self.content.as_bytes())?;
        file.sync_all()
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    fs::File::open(folder)?.sync_all()
}

fn create_folder(folder: &Path) -> io::Result<()> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
}

/// Checks that a private key exists and only its owner has rights on it.
///
/// # Errors
/// When the file is missing, or group or others may read, write or run it.
pub fn check_key_file(path: &Path) -> Result<(), KeyFileError> {
    let metadata = fs::metadata(path).map_err(|source| key_file_error(path, source))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::ReadableByOthers {
            path: path.to_owned(),
            mode,
        });
    }
    Ok(())
}

/// Reads a private key after [`check_key_file`].
pub(crate) fn read_key_file(path: &Path) -> Result<String, KeyFileError> {
    check_key_file(path)?;
    fs::read_to_string(path).map_err(|source| key_file_error(path, source))
}

fn key_file_error(path: &Path, source: io::Error) -> KeyFileError {
    match source.kind() {
        io::ErrorKind::NotFound => KeyFileError::Missing(path.to_owned()),
        _ => KeyFileError::Io {
            path: path.to_owned(),
            source,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode_of(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn private_files_are_0600_and_leave_no_draft() {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("a/b/key.pem");
        let mut files = NewFiles::default();
        files.private(&key, "secret");
        files.write().unwrap();
        assert_eq!(fs::read_to_string(&key).unwrap(), "secret");
        assert_eq!(mode_of(&key), 0o600);
        assert_eq!(fs::read_dir(key.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn an_existing_file_stops_all_and_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("first"), dir.path().join("second"));
        fs::write(&second, "mine").unwrap();
        let mut files = NewFiles::default();
        files.public(&first, "new");
        files.public(&second, "new");
        let refused = files.write().unwrap_err().to_string();
        assert!(refused.contains(&second.display().to_string()), "{refused}");
        assert!(!first.exists());
        assert_eq!(fs::read_to_string(&second).unwrap(), "mine");
    }

    #[test]
    fn a_failed_write_takes_back_the_earlier_files() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("plain"), "").unwrap();
        let first = dir.path().join("first");
        let mut files = NewFiles::default();
        files.public(&first, "new");
        files.public(&dir.path().join("plain/below-a-file"), "new");
        assert!(matches!(files.write(), Err(WriteError::Io { .. })));
        assert!(!first.exists());
    }

    #[test]
    fn a_key_others_can_read_is_refused_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("key.pem");
        assert!(matches!(
            check_key_file(&key),
            Err(KeyFileError::Missing(_))
        ));
        fs::write(&key, "secret").unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
        let refused = check_key_file(&key).unwrap_err().to_string();
        assert!(
            refused.contains("chmod 600") && refused.contains("640"),
            "{refused}"
        );
        fs::set_permissions(&key, fs::Permissions::from_mode(0o400)).unwrap();
        check_key_file(&key).unwrap();
    }
}
