//! What a caller may ask, whichever way it came: HTTP and Socket.IO parse and answer, the calls decide.

pub mod catalog;
pub mod rates;
