//! The store of any number of nodes, in Redis.
//!
//! - [`endpoint`]: what `REDIS_URL` says.
//! - [`connect`]: the connection that commands take.
//! - [`subscriptions`]: how a node hears what the store announces; [`link`] is one connection of it.
//! - [`checks`]: what is wrong with the Redis that a node is about to stand on.

pub mod endpoint;
pub mod connect;
mod wire_stub;
mod link;
pub mod subscriptions;
pub mod checks;

pub use connect::Commands;
pub use endpoint::Endpoint;
pub use subscriptions::RedisSubscriptions;
