//! Counts long answers until they are written out. Otherwise boards and logs that are requested and never read would pile
//! up in memory, once for each connection.

use std::sync::{Arc, LazyLock};

use axum::body::Bytes;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::answer::Success;
use super::error::ApiError;
use crate::domain::Code;

/// How many bytes of long answers a node may have on their way at once. A board has at most 0.5 MiB, a log 17 MiB.
const MAX_OUTGOING_BYTES: usize = 64 * 1024 * 1024;

static OUTGOING: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(MAX_OUTGOING_BYTES)));

/// A text that counts until the connection has written all of it.
struct Outgoing {
    json: Vec<u8>,
    _counted: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Outgoing {
    fn as_ref(&self) -> &[u8] {
        &self.json
    }
}

/// An answer that may be long. It is `unavailable` if too many such answers wait to be read.
pub(super) fn long_answer<T: Serialize>(data: T) -> Result<Response, ApiError> {
    let json = serde_json::to_vec(&Success::new(data)).map_err(|error| {
        tracing::error!(%error, "an answer cannot be written as JSON");
        Code::Unavailable
    })?;
    let bytes = count(&OUTGOING, json).ok_or_else(|| {
        tracing::warn!(
            bytes = MAX_OUTGOING_BYTES,
            "refused a long answer: too many bytes wait for clients that do not read"
        );
        Code::Unavailable
    })?;
    Ok(([(header::CONTENT_TYPE, "application/json")], bytes).into_response())
}

fn count(outgoing: &Arc<Semaphore>, json: Vec<u8>) -> Option<Bytes> {
    let length = u32::try_from(json.len()).ok()?;
    let counted = outgoing.clone().try_acquire_many_owned(length).ok()?;
    Some(Bytes::from_owner(Outgoing { json, _counted: counted }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_until_its_last_byte_is_gone() {
        let outgoing = Arc::new(Semaphore::new(100));
        let mut first = count(&outgoing, vec![0; 60]).unwrap();
        assert!(count(&outgoing, vec![0; 41]).is_none());
        let second = count(&outgoing, vec![0; 40]).unwrap();
        let begun = first.split_to(59);
        drop((begun, second));
        assert_eq!(outgoing.available_permits(), 40, "a byte of the first waits");
        drop(first);
        assert_eq!(outgoing.available_permits(), 100);
    }
}
