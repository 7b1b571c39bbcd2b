//! What this node knows of spaces, besides what the store has.
//!
//! - [`catalog`]: the schedules, remembered and compared with the store; `shared_boards`: one read for callers that ask at once.
//! - [`acknowledged`]: up to which position this node has answered for each space that it follows.

pub mod catalog;
pub mod shared_boards;
pub mod acknowledged;
