//! A data file that notices if another program writes to it while it is open.
//!
//! The file's lock does not keep `cp` from putting a backup over the file, or anybody from cutting it. redb would go on
//! with its pages in memory, and would answer acts that are gone after a restart. So before each write, the file must
//! be as this node left it. At each sync, the file must be as this node has made it. If it is not, nothing is written
//! to it any more, not even when it is closed. It is opened again, as at start.
//!
//! A change in the middle of the file alone, for example by a bad disk, is not noticed. The next start reads every
//! page, and refuses the file.

use std::fs::File;
use std::io;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use redb::StorageBackend;
use redb::backends::FileBackend;

use super::locks::pass_on_locks;

/// How many bytes at the file's beginning are compared. redb's last write of each commit is there.
const HEAD: usize = 512;

/// What shows that a file was written to. The time of the last write is not used, because some file systems change it
/// some time after a write.
#[derive(Debug, PartialEq)]
struct Traces {
    len: u64,
    head: Vec<u8>,
}

impl Traces {
    fn of(file: &File) -> io::Result<Self> {
        Ok(Self { len: file.metadata()?.len(), head: read_head(file)? })
    }

    /// Notes what this node has written.
    fn add_write(&mut self, offset: u64, data: &[u8]) {
        self.set_len(self.len.max(offset.saturating_add(data.len() as u64)));
        let begin = usize::try_from(offset).unwrap_or(usize::MAX);
        for (byte, written) in self.head.iter_mut().skip(begin).zip(data) {
            *byte = *written;
        }
    }

    fn set_len(&mut self, len: u64) {
        self.len = len;
        if cfg!(unix) {
            self.head.resize(usize::try_from(len).unwrap_or(usize::MAX).min(HEAD), 0);
        }
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
    /// This node has written since its last sync. Has the traces of the file as it must be now, or `None` after a
    /// failed write, which may have written a part.
    Writing(Option<Traces>),
    /// Another program has written to the file.
    Foreign,
}

/// Knows whether another program has written to the open file.
#[derive(Debug)]
pub(super) struct Guard {
    file: File,
    /// Held for one check, never across an await.
    left: Mutex<Left>,
}

impl Guard {
    /// Whether no other program has written to the file since this node did. While this node writes, the answer is
    /// `true`, and [`Self::note_written`] finds out.
    pub(super) fn is_untouched(&self) -> bool {
        let mut left = self.lock();
        match &*left {
            Left::At(traces) => {
                let is_untouched = self.is_still(traces);
                if !is_untouched {
                    *left = Left::Foreign;
                }
                is_untouched
            }
            Left::Writing(_) => true,
            Left::Foreign => false,
        }
    }

    /// Whether the file still has these traces. If the file cannot be read, for example because of too many open files,
    /// it counts as unchanged.
    fn is_still(&self, traces: &Traces) -> bool {
        Traces::of(&self.file).map_or(true, |now| now == *traces)
    }

    /// Notes the state of the file after the caller's writes. Only the caller writes to it.
    pub(super) fn note_written(&self) -> io::Result<()> {
        let mut left = self.lock();
        let Left::Writing(made) = &*left else { return Ok(()) };
        let now = Traces::of(&self.file)?;
        let is_foreign = made.as_ref().is_some_and(|made| *made != now);
        *left = if is_foreign { Left::Foreign } else { Left::At(now) };
        Ok(())
    }

    /// Allows this node's next write. If the write reaches the file's beginning, that must be as this node has made it,
    /// because the write would hide what others have written there.
    fn begin_writing(&self, reaches_head: bool) -> io::Result<()> {
        let is_allowed = self.is_untouched();
        let mut left = self.lock();
        let traces = match std::mem::replace(&mut *left, Left::Foreign) {
            Left::At(traces) if is_allowed => Some(traces),
            Left::Writing(Some(made)) if reaches_head && !self.is_still(&made) => return Err(foreign()),
            Left::Writing(made) => made,
            Left::At(_) | Left::Foreign => return Err(foreign()),
        };
        *left = Left::Writing(traces);
        Ok(())
    }

    /// Notes the result of this node's write, which has begun.
    fn end_writing(&self, written: &io::Result<()>, take_in: impl FnOnce(&mut Traces)) {
        if let Left::Writing(made) = &mut *self.lock() {
            match made {
                Some(traces) if written.is_ok() => take_in(traces),
                _ => *made = None,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Left> {
        self.left.lock()
    }
}

fn foreign() -> io::Error {
    io::Error::other("another program has written to the data file")
}

/// The file and its guard.
#[derive(Debug)]
pub(super) struct GuardedBackend {
    file: FileBackend,
    guard: Arc<Guard>,
}

impl GuardedBackend {
    /// Takes an open file in its present state.
    pub(super) fn new(file: File) -> Result<Self, redb::DatabaseError> {
        let left = Traces::of(&file).map_err(redb::StorageError::Io)?;
        let seen = file.try_clone().map_err(redb::StorageError::Io)?;
        let guard = Guard { file: seen, left: Mutex::new(Left::At(left)) };
        Ok(Self { file: FileBackend::new(file)?, guard: Arc::new(guard) })
    }

    /// The guard, which knows whether another program has written to the file.
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
        self.guard.begin_writing(true)?;
        let written = self.file.set_len(len);
        self.guard.end_writing(&written, |traces| traces.set_len(len));
        written
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()?;
        self.guard.note_written()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.guard.begin_writing(offset < HEAD as u64)?;
        let written = self.file.write(offset, data);
        self.guard.end_writing(&written, |traces| traces.add_write(offset, data));
        written
    }

    pass_on_locks!();
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    const PAGE: [u8; 64] = [7; 64];

    /// An open file of two pages, and another program's handle to it.
    fn start() -> Result<(GuardedBackend, File), redb::DatabaseError> {
        let file = tempfile::tempfile()?;
        file.write_all_at(&[1; 8192], 0)?;
        let other = file.try_clone()?;
        Ok((GuardedBackend::new(file)?, other))
    }

    #[test]
    fn what_this_node_writes_is_its_own() {
        let (backend, _other) = start().unwrap();
        for (offset, len) in [(0, 8192), (500, 8192), (8192, 8256), (300, 100), (0, 600)] {
            backend.write(offset, &PAGE).unwrap();
            backend.set_len(len).unwrap();
            backend.sync_data().unwrap();
            assert!(backend.guard().is_untouched(), "{offset} {len}");
        }
    }

    #[test]
    fn what_others_write_to_the_beginning_between_two_transactions_is_noticed() {
        let (backend, other) = start().unwrap();
        other.write_all_at(&[9], 100).unwrap();
        assert!(!backend.guard().is_untouched());
        assert!(backend.write(4096, &PAGE).is_err());
    }

    #[test]
    fn what_others_write_to_the_beginning_during_a_transaction_is_noticed() {
        // The other program writes after this node wrote there. The sync finds it.
        let (backend, other) = start().unwrap();
        backend.write(0, &PAGE).unwrap();
        other.write_all_at(&[9], 10).unwrap();
        backend.sync_data().unwrap();
        assert!(!backend.guard().is_untouched());
        // The other program writes before this node does, and this node's write would hide it.
        let (backend, other) = start().unwrap();
        backend.write(4096, &PAGE).unwrap();
        other.write_all_at(&[9], 10).unwrap();
        assert!(backend.write(0, &PAGE).is_err());
        assert!(!backend.guard().is_untouched());
        // The file was cut, and has its length again.
        let (backend, other) = start().unwrap();
        backend.write(4096, &PAGE).unwrap();
        other.set_len(0).unwrap();
        other.set_len(8192).unwrap();
        backend.sync_data().unwrap();
        assert!(!backend.guard().is_untouched());
    }
}
