//! The connection to Redis that commands take.
//!
//! [`Commands`] is made again by itself whenever it is lost, follows the sentinels' primary and the cluster's slots, and
//! answers or fails within [`ANSWER_TIMEOUT`].
//! `commands` sends, `keeper` keeps the connection up, `connector` makes it.
//!
//! **Invariant:** no command is sent twice. By [`was_not_sent`] the store knows that it was not sent at all; after any
//! other error the store decides what is safe to repeat. (A command that another node of a cluster is responsible for was
//! refused, not done: sending it there is not sending it twice.)

mod commands;
mod connector;
mod keeper;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use redis::{ErrorKind, RedisError};

pub use self::commands::Commands;
pub(super) use self::connector::{Connector, read_ca};

/// The longest that a command takes, waiting for a connection included: an act is to fail within a second.
pub const ANSWER_TIMEOUT: Duration = Duration::from_millis(800);

/// The longest that one attempt to connect takes, with asking sentinels or the nodes of a cluster.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Whether an error of [`Commands`] says that there was no connection, so that nothing was sent.
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
        // The system's own error of that kind comes in the middle of things.
        assert!(!was_not_sent(&io::Error::from(io::ErrorKind::NotConnected).into()));
        assert!(!was_not_sent(&io::Error::new(io::ErrorKind::TimedOut, "late").into()));
        assert!(!was_not_sent(&misused("so")));
    }
}
