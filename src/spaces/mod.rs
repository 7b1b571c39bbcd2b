//! What this node knows of spaces, beyond the store.
//!
//! - [`catalog`]: schedules, remembered and compared with the store; `shared_boards`: one read for callers that ask at
//!   once.
//! - [`acknowledged`]: the position up to which this node has answered, for each space that it follows.

pub mod catalog;
pub mod shared_boards;
pub mod acknowledged;
