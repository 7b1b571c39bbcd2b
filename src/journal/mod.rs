//! Reading the journal, over all buckets: who did what, in order within a space.
//!
//! - [`cursor`]: the reader's place, as clients keep it.
//! - [`reader`]: the entries after a cursor, whatever has happened to the store.
//! - [`filter`]: the entries that a reader wants.
//! - [`tails`]: whether there are new entries, with one question for all that wait.
//!
//! **Invariant:** a reader may repeat an entry, and never skips one. A cursor names the last entry that the reader has seen
//! of each bucket, with that entry's epoch. If the store has another entry in that place, it has lost some: the reader goes
//! on after the last entry that both have.

pub mod cursor;
pub mod filter;
pub mod reader;
pub mod tails;

pub use cursor::{Cursor, Place};
pub use reader::{Begins, JournalRead, PlacedEntries, ReadError, read, read_placed};
pub use tails::Tails;
