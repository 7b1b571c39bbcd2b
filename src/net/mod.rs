//! TCP connections: each can be killed or held back, and is closed when its peer stops reading.
//!
//! - [`advertise`]: the address at which other nodes reach this one.
//! - [`connection`]: the guarded stream and its handle.
//! - `frames`: the packets that have left over a websocket.
//! - [`descriptors`]: how many connections fit.
//! - [`proxy`]: sends a request on to another node.
//! - [`server`]: accepts, speaks HTTP/1.1 with upgrades, and closes in step with the drain.

pub mod advertise;
pub mod connection;
pub mod descriptors;
mod frames;
pub mod proxy;
pub mod server;
