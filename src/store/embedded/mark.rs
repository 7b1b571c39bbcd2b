//! The mark beside the data file: the file's number of commits when this node last wrote it.
//!
//! The file alone cannot tell that it was rolled back: a backup that was copied over it keeps its inode, and a damaged last
//! commit makes redb fall back to the one before. The mark is written after each commit and never before, so it is never
//! larger than the file's own number, unless the file went back in time. Then versions would be used twice, and the epoch
//! must change.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::Path;

/// The open mark.
#[derive(Debug)]
pub(super) struct Mark {
    file: File,
}

impl Mark {
    /// The number in the mark; `None` if the mark is missing or unreadable.
    pub(super) fn read(path: &Path) -> Option<u64> {
        let mut text = String::new();
        File::open(path).ok()?.take(64).read_to_string(&mut text).ok()?;
        text.trim_end().parse().ok()
    }

    /// Opens the mark for writing, makes it if it is missing, and sets it durably.
    pub(super) fn open(path: &Path, commits: u64) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        let mark = Self { file };
        mark.set(commits)?;
        mark.file.set_len(LENGTH)?;
        mark.file.sync_all()?;
        Ok(mark)
    }

    /// Sets the mark without waiting for the disk. A mark that is too low proves less, but nothing wrong.
    pub(super) fn set(&self, commits: u64) -> io::Result<()> {
        write_at_start(&self.file, format!("{commits:020}\n").as_bytes())
    }
}

/// The length of the mark: a `u64` has at most 20 digits, and a line end follows. So each write covers the last one.
const LENGTH: u64 = 21;

#[cfg(unix)]
fn write_at_start(file: &File, bytes: &[u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, 0)
}

#[cfg(not(unix))]
fn write_at_start(mut file: &File, bytes: &[u8]) -> io::Result<()> {
    use std::io::{Seek, SeekFrom, Write};
    file.seek(SeekFrom::Start(0))?;
    file.write_all(bytes)
}
