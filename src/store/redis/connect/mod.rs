//! The connection to Redis for commands.
//!
//! [`Commands`] replaces a lost connection by itself. It follows the sentinels' primary, the cluster's slots and the
//! address of a host name. It waits for a connection, and for an answer, no longer than [`ANSWER_TIMEOUT`].
//!
//! - `commands`: sending. `line`: one connection that is kept up, and the server behind it. `keeper`: keeping it up.
//!   `connector`: making it.
//! - `aim`: the server to talk to, as `names` or `sentinels` say. `cluster`, `slots`: one connection to each primary of
//!   a cluster, and the slots that each has.
//! - `clock`: a server's clock.
//!
//! **Invariant:** a node asks who is primary, and does not assume it. While the primary is being replaced nothing is sent.
//! A server that has lost a replica refuses acts (`lua/common.lua`) until others have confirmed that it is the primary.
//!
//! **Invariant:** no command is sent twice. [`was_not_sent`] tells the store that a command was not sent at all. After
//! any other error the store decides what is safe to repeat. (In a cluster, a node may refuse a command because another
//! node has its slot. The command was not done then, so sending it to the other node is not sending it twice.)

mod aim;
mod clock;
mod cluster;
mod commands;
mod connector;
mod keeper;
mod line;
mod names;
mod sentinels;
mod slots;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use redis::{ErrorKind, RedisError};

#[cfg(feature = "server")]
pub(super) use self::aim::{Aim, Target, changed};
pub use self::commands::Commands;
pub(super) use self::commands::Route;
#[cfg(feature = "server")]
pub(super) use self::connector::{Connector, read_ca};
pub(super) use self::line::Server;

/// The longest wait for an answer of a server, and for a connection. An act must fail within a second.
pub const ANSWER_TIMEOUT: Duration = Duration::from_millis(800);

/// The longest that one attempt to connect takes, including questions to sentinels or to the nodes of a cluster.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Whether an error of [`Commands`] says that there was no connection. Then nothing was sent.
pub fn was_not_sent(error: &RedisError) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<Arc<Cause>>());
    let cause = cause.and_then(|cause| cause.downcast_ref::<io::Error>()).and_then(io::Error::get_ref);
    cause.is_some_and(|cause| cause.is::<NotConnected>())
}

/// A cause as the library keeps it.
type Cause = dyn std::error::Error + Send + Sync;

#[derive(Debug, thiserror::Error)]
#[error("Redis cannot be reached: {0}")]
struct NotConnected(String);

fn not_connected(why: &str) -> RedisError {
    io::Error::new(io::ErrorKind::NotConnected, NotConnected(why.to_owned())).into()
}

fn misused(what: &'static str) -> RedisError {
    (ErrorKind::InvalidClientConfig, what).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_had_no_connection_was_not_sent() {
        assert!(was_not_sent(&not_connected("why")));
        // An error of this kind that comes from the system may come in the middle of a command.
        assert!(!was_not_sent(&io::Error::from(io::ErrorKind::NotConnected).into()));
        assert!(!was_not_sent(&io::Error::new(io::ErrorKind::TimedOut, "late").into()));
        assert!(!was_not_sent(&misused("so")));
    }
}
