//! A view of a file that keeps what is written to it in memory.
//!
//! redb repairs a file while opening it, and marks it as open before anyone has seen its content. So a file is first opened
//! through this view, which finds out whether it is complete, ours, and of a known format, without changing a byte.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;

use parking_lot::{Mutex, MutexGuard};
use redb::StorageBackend;
use redb::backends::FileBackend;

use super::locks::pass_on_locks;

const PAGE: usize = 4_096;

/// The view. Locks are taken on the file itself, so that nobody writes to it meanwhile.
#[derive(Debug)]
pub(super) struct TrialBackend {
    file: FileBackend,
    /// Held for one read or write, and only by the opening thread.
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    /// The length that the view shows.
    len: u64,
    /// The file's own bytes show up to here; zeros follow.
    visible: u64,
    /// Pages that were written to, by their number.
    pages: HashMap<u64, Box<[u8; PAGE]>>,
}

impl TrialBackend {
    /// Opens a view of a file, which is never written to.
    pub(super) fn new(file: FileBackend) -> io::Result<Self> {
        let len = file.len()?;
        Ok(Self { file, written: Mutex::new(Written { len, visible: len, pages: HashMap::new() }) })
    }

    fn lock(&self) -> MutexGuard<'_, Written> {
        self.written.lock()
    }

    /// The file's own bytes at `offset`. Bytes that do not show are zeros.
    fn read_file(&self, visible: u64, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let shown = usize::try_from(visible.saturating_sub(offset)).unwrap_or(usize::MAX).min(out.len());
        let (from_file, zeros) = out.split_at_mut(shown);
        zeros.fill(0);
        if from_file.is_empty() { Ok(()) } else { self.file.read(offset, from_file) }
    }
}

/// The parts of `offset..offset + len` by page: the page's number, the offset in the page, and the range in the buffer.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = offset + done as u64;
        let within = (at % PAGE as u64) as usize;
        let part = done..len.min(done + PAGE - within);
        done = part.end;
        Some((at / PAGE as u64, within, part))
    })
}

impl StorageBackend for TrialBackend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let written = self.lock();
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > written.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.read_file(written.visible, offset, out)?;
        for (number, within, part) in parts(offset, out.len()) {
            if let Some(page) = written.pages.get(&number) {
                let len = part.len();
                out[part].copy_from_slice(&page[within..within + len]);
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut written = self.lock();
        if len < written.len {
            written.visible = written.visible.min(len);
            written.pages.retain(|number, _| number * (PAGE as u64) < len);
            if let Some(page) = written.pages.get_mut(&(len / PAGE as u64)) {
                page[(len % PAGE as u64) as usize..].fill(0);
            }
        }
        written.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut written = self.lock();
        let visible = written.visible;
        for (number, within, part) in parts(offset, data.len()) {
            let page = match written.pages.entry(number) {
                Entry::Occupied(page) => page.into_mut(),
                Entry::Vacant(vacant) => {
                    let mut page = Box::new([0; PAGE]);
                    self.read_file(visible, number * PAGE as u64, &mut page[..])?;
                    vacant.insert(page)
                }
            };
            page[within..within + part.len()].copy_from_slice(&data[part]);
        }
        Ok(())
    }

    pass_on_locks!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_view_reads_what_was_written_and_the_file_keeps_its_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let bytes: Vec<u8> = (0..10_000_u32).map(|n| (n % 251) as u8).collect();
        std::fs::write(&path, &bytes).unwrap();
        let view = TrialBackend::new(FileBackend::new(std::fs::File::open(&path).unwrap()).unwrap()).unwrap();
        let read = |offset: u64, len: usize| {
            let mut out = vec![0; len];
            view.read(offset, &mut out).map(|()| out)
        };

        let mut model = bytes.clone();
        view.write(4_090, &[7; 5_000]).unwrap();
        model[4_090..9_090].fill(7);
        assert_eq!(read(0, 10_000).unwrap(), model);
        assert_eq!(read(4_089, 2).unwrap(), model[4_089..4_091]);

        view.set_len(5_000).unwrap();
        view.set_len(12_000).unwrap();
        model.truncate(5_000);
        model.resize(12_000, 0);
        assert_eq!(read(0, 12_000).unwrap(), model);
        assert!(read(11_999, 2).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }
}
