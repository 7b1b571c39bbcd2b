//! Whether a folder can be the data folder. The file itself is not opened, because a node may have it open.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;

use super::open::{FILE_NAME, MARK_NAME, OpenError};
use crate::store::finding::{Finding, Severity};

/// The fault of a data folder: it is not a folder, cannot be made, or cannot be written to. A missing folder is not
/// made, and the trial file is removed.
pub fn check_folder(folder: &Path) -> Option<Finding> {
    let cause = try_folder(folder).err()?;
    let error = OpenError::Folder { folder: folder.into(), cause };
    Some(Finding { severity: Severity::Error, text: error.to_string() })
}

fn try_folder(folder: &Path) -> io::Result<()> {
    // `serve` would make the missing folders inside the nearest one that exists.
    let existing = folder.ancestors().map(or_here).find(|ancestor| ancestor.exists()).unwrap_or(folder);
    if !fs::metadata(existing)?.is_dir() {
        return Err(io::Error::from(io::ErrorKind::NotADirectory));
    }
    tempfile_in(existing)?;
    for name in [FILE_NAME, MARK_NAME] {
        match OpenOptions::new().write(true).open(folder.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The parent of a relative name is empty, which stands for the current folder.
fn or_here(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

/// Makes a file of one byte and removes it.
fn tempfile_in(folder: &Path) -> io::Result<()> {
    let path = folder.join(format!(".slotcast-check-{}", std::process::id()));
    let written = fs::write(&path, b"x");
    let removed = fs::remove_file(&path);
    written.and(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_can_be_written_is_good_and_stays_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(check_folder(folder.path()), None);
        assert_eq!(check_folder(&folder.path().join("not/yet")), None);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert_eq!(check_folder(Path::new("./no-such-folder-of-the-tests")), None);
        assert_eq!(check_folder(Path::new("no-such-folder-of-the-tests")), None);
    }

    #[test]
    fn what_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "x").unwrap();
        let taken = folder.path().join("taken");
        fs::create_dir_all(taken.join(FILE_NAME)).unwrap();
        // Root may write to all places except these.
        for bad in [file.as_path(), &file.join("below"), Path::new("/proc/slotcast"), &taken] {
            let finding = check_folder(bad).unwrap();
            assert_eq!(finding.severity, Severity::Error);
            assert!(finding.text.contains("SLOTCAST_DATA_DIR"), "{}", finding.text);
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), "x");
    }
}
