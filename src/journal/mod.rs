//! Reading the journal, over all buckets: who did what, in order within a space.
//!
//! - [`cursor`]: where a reader is, as clients keep it.
//! - [`reader`]: what comes after a cursor, whatever happened to the store meanwhile.
//! - [`filter`]: which entries a reader wants.
//! - [`tails`]: whether something new is there, asked for all who wait together.
//!
//! **Invariant:** a reader may repeat, and never skips. A cursor names the last entry that it has seen of each bucket with the
//! epoch of that entry. Where the store has another entry in that place, it has lost some: the reader goes on after the last
//! one that both have seen.

pub mod cursor;
pub mod filter;
pub mod reader;
pub mod tails;

pub use cursor::{Cursor, Place};
pub use reader::{Begins, JournalRead, PlacedEntries, ReadError, read, read_placed};
pub use tails::Tails;
