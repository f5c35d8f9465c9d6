//! Setting the folder of a replica aside: what is damaged or superseded is kept for people to look
//! at, under another name.

use std::io;
use std::path::Path;
use std::path::PathBuf;

use quorate_storage::Storage;

/// Earlier folders of one group that are kept.
const KEPT_MAX: u32 = 1_000;

/// Renames a folder, durably. None: there is no such folder.
pub(crate) fn set_aside(storage: &dyn Storage, dir: &Path) -> io::Result<Option<PathBuf>> {
    if !storage.exists(dir)? {
        return Ok(None);
    }
    for number in 1..=KEPT_MAX {
        let mut name = dir.as_os_str().to_owned();
        name.push(format!(".damaged-{number}"));
        let aside = PathBuf::from(name);
        if storage.exists(&aside)? {
            continue;
        }
        storage.rename(dir, &aside)?;
        if let Some(parent) = dir.parent() {
            storage.sync_dir(parent)?;
        }
        return Ok(Some(aside));
    }
    Err(io::Error::new(
        io::ErrorKind::AlreadyExists,
        format!("{KEPT_MAX} folders of this group were set aside: remove some"),
    ))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use quorate_storage::MemoryStorage;

    use super::*;

    #[test]
    fn a_folder_set_aside_keeps_its_content_and_takes_nobodys_place() {
        let storage = Arc::new(MemoryStorage::inline());
        let dir = Path::new("g/7-0");
        for name in ["g", "g/7-0", "g/7-0.damaged-1"] {
            storage.create_dir(Path::new(name)).unwrap();
        }
        let aside = set_aside(storage.as_ref(), dir).unwrap();
        assert_eq!(aside.as_deref(), Some(Path::new("g/7-0.damaged-2")));
        assert!(!storage.exists(dir).unwrap());
        assert!(storage.exists(Path::new("g/7-0.damaged-2")).unwrap());
        assert_eq!(set_aside(storage.as_ref(), dir).unwrap(), None);
    }
}
