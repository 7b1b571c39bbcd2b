//! A data file that nobody else writes to while it is open.
//!
//! Its lock does not keep `cp` from putting a backup over the file, nor anybody from cutting it. redb would go on with what it has
//! in memory, and acts would be answered that no restart finds again. So the file must be what this node left before anything
//! is written to it. Where it is not, nothing is written to it any more, also when it is closed: it is opened anew, as at start.

use std::fs::File;
use std::io;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use redb::StorageBackend;
use redb::backends::FileBackend;

use super::locks::pass_on_locks;

/// How many bytes of the file's beginning are compared: what redb writes last in each commit is there.
const HEAD: usize = 512;

/// What tells whether a file was written to. Not when: some file systems change that some time after a write.
#[derive(Debug, PartialEq)]
struct Traces {
    len: u64,
    head: Vec<u8>,
}

impl Traces {
    fn of(file: &File) -> io::Result<Self> {
        Ok(Self { len: file.metadata()?.len(), head: read_head(file)? })
    }
}

#[cfg(unix)]
fn read_head(file: &File) -> io::Result<Vec<u8>> {
    let mut head = vec![0; HEAD];
    let read = std::os::unix::fs::FileExt::read_at(file, &mut head, 0)?;
    head.truncate(read);
    Ok(head)
}

#[cfg(not(unix))]
fn read_head(_file: &File) -> io::Result<Vec<u8>> {
    Ok(Vec::with_capacity(HEAD))
}

/// How this node left the file.
#[derive(Debug)]
enum Left {
    At(Traces),
    /// It has written since, and not synced yet.
    Writing,
    /// Somebody else has written to it.
    Foreign,
}

/// Knows whether somebody else has written to the open file.
#[derive(Debug)]
pub(super) struct Guard {
    file: File,
    /// Held for one look, never across an await.
    left: Mutex<Left>,
}

impl Guard {
    /// Whether nobody else has written to the file since this node did.
    pub(super) fn is_untouched(&self) -> bool {
        let mut left = self.lock();
        let Left::At(traces) = &*left else { return matches!(*left, Left::Writing) };
        // A file that cannot be looked at, such as for too many open files, says nothing.
        let is_untouched = Traces::of(&self.file).map_or(true, |now| now == *traces);
        if !is_untouched {
            *left = Left::Foreign;
        }
        is_untouched
    }

    /// Notes how the file is now that the caller, who alone writes to it, is done.
    pub(super) fn note_written(&self) -> io::Result<()> {
        let mut left = self.lock();
        if matches!(*left, Left::Writing) {
            *left = Left::At(Traces::of(&self.file)?);
        }
        Ok(())
    }

    fn begin_writing(&self) -> io::Result<()> {
        if !self.is_untouched() {
            return Err(io::Error::other("another program has written to the data file"));
        }
        *self.lock() = Left::Writing;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Left> {
        self.left.lock()
    }
}

/// The file, with its guard.
#[derive(Debug)]
pub(super) struct GuardedBackend {
    file: FileBackend,
    guard: Arc<Guard>,
}

impl GuardedBackend {
    /// Takes an open file, as it is.
    pub(super) fn new(file: File) -> Result<Self, redb::DatabaseError> {
        let left = Traces::of(&file).map_err(redb::StorageError::Io)?;
        let seen = file.try_clone().map_err(redb::StorageError::Io)?;
        let guard = Guard { file: seen, left: Mutex::new(Left::At(left)) };
        Ok(Self { file: FileBackend::new(file)?, guard: Arc::new(guard) })
    }

    /// What knows whether somebody else has written to it.
    pub(super) fn guard(&self) -> Arc<Guard> {
        self.guard.clone()
    }
}

impl StorageBackend for GuardedBackend {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.guard.begin_writing()?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()?;
        self.guard.note_written()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.guard.begin_writing()?;
        self.file.write(offset, data)
    }

    pass_on_locks!();
}
