//! The mark beside the data file: how many commits the file had when this node last wrote it.
//!
//! The file alone cannot tell that it was rolled back: a backup that was copied over it in place keeps its inode, and a
//! damaged last commit makes redb fall back to the one before. The mark is written after each commit and never before,
//! so it is at most what the file has, unless the file went back in time: then versions would be taken twice, and the
//! epoch must change.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::Path;

/// The open mark.
#[derive(Debug)]
pub(super) struct Mark {
    file: File,
}

impl Mark {
    /// What the mark says; `None` when there is none, or none that can be read.
    pub(super) fn read(path: &Path) -> Option<u64> {
        let mut text = String::new();
        File::open(path).ok()?.take(64).read_to_string(&mut text).ok()?;
        text.trim_end().parse().ok()
    }

    /// Opens the mark for writing, making it when it is missing, and sets it durably.
    pub(super) fn open(path: &Path, commits: u64) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        let mark = Self { file };
        mark.set(commits)?;
        mark.file.set_len(LENGTH)?;
        mark.file.sync_all()?;
        Ok(mark)
    }

    /// Sets the mark, without waiting for the disk: a mark that is behind is a weaker witness, never a wrong one.
    pub(super) fn set(&self, commits: u64) -> io::Result<()> {
        write_at_start(&self.file, format!("{commits:020}\n").as_bytes())
    }
}

/// Twenty digits, the most that a `u64` has, and the end of the line: each write covers the last one.
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
