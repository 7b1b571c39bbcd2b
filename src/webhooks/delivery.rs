//! One message to one endpoint: the request, and the meaning of its answer.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::redirect::Policy;
use serde::Serialize;

use super::patience::parse_retry_after;
use super::signing::sign;
use crate::clock;
use crate::config::Webhook;
use crate::domain::JournalEntry;

/// How long a message may take, from the lookup of the name to the head of the answer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(15);

/// How long a connection may take to be made.
const CONNECTED_WITHIN: Duration = Duration::from_secs(5);

/// How many idle connections to an endpoint are kept for the next message, and for how long.
const IDLE: (usize, Duration) = (8, Duration::from_secs(30));

/// How much of an answer's body is read so that the connection can be reused, and for how long. A longer answer's
/// connection is closed.
const BODY: (usize, Duration) = (4 * 1024, Duration::from_secs(1));

/// The outcome of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The endpoint has it.
    Delivered,
    /// The message has to be sent again.
    Failed(Failure, Option<Duration>),
}

/// Why a message must be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The answer's status is not 2xx.
    Refused(u16),
    /// There was no answer in time.
    Timeout,
    /// There was no connection, or it ended without an answer.
    Unreachable,
}

impl Failure {
    /// The name in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Failure::Refused(_) => "refused",
            Failure::Timeout => "timeout",
            Failure::Unreachable => "unreachable",
        }
    }

    /// The answer's status, if there was an answer.
    pub const fn status(self) -> Option<u16> {
        match self {
            Failure::Refused(status) => Some(status),
            Failure::Timeout | Failure::Unreachable => None,
        }
    }
}

/// The body of a message.
#[derive(Serialize)]
struct Message<'a> {
    r#type: &'static str,
    timestamp: String,
    data: &'a JournalEntry,
}

/// The HTTP client that sends messages.
///
/// # Errors
///
/// TLS could not be set up on this system.
pub fn client() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        // The operator chose the address. A redirect must not replace it.
        .redirect(Policy::none())
        .connect_timeout(CONNECTED_WITHIN)
        .timeout(ANSWERED_WITHIN)
        .pool_max_idle_per_host(IDLE.0)
        .pool_idle_timeout(IDLE.1)
        .user_agent(concat!("slotcast/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// Sends an entry.
pub async fn deliver(client: &reqwest::Client, webhook: &Webhook, entry: &JournalEntry) -> Outcome {
    let id = entry.id();
    let message = Message { r#type: entry.act.event_type(), timestamp: entry.at.rfc3339(), data: entry };
    let body = match serde_json::to_vec(&message) {
        Ok(body) => body,
        Err(error) => {
            tracing::error!(webhook = webhook.name, id, %error, "an entry of the journal cannot be written as JSON");
            return Outcome::Failed(Failure::Unreachable, None);
        }
    };
    let timestamp = clock::wall().timestamp().as_second();
    let request = client
        .post(webhook.url.clone())
        .header(CONTENT_TYPE, "application/json")
        .header("webhook-signature", sign(&webhook.secrets, &id, timestamp, &body))
        .header("webhook-timestamp", timestamp)
        .header("webhook-id", id);
    match request.body(body).send().await {
        Ok(answer) => judge(answer).await,
        Err(error) => {
            let failure = if error.is_timeout() { Failure::Timeout } else { Failure::Unreachable };
            let error = anyhow::Error::from(error.without_url());
            tracing::debug!(
                webhook = webhook.name,
                error = format!("{error:#}"),
                "an endpoint did not answer a message"
            );
            Outcome::Failed(failure, None)
        }
    }
}

async fn judge(answer: reqwest::Response) -> Outcome {
    let status = answer.status();
    let asked = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let asked = asked.and_then(|value| parse_retry_after(value, clock::wall()));
    read_rest(answer).await;
    if status.is_success() { Outcome::Delivered } else { Outcome::Failed(Failure::Refused(status.as_u16()), asked) }
}

/// Reads a short body to its end. The body does not matter, because the status has settled the message.
async fn read_rest(mut answer: reqwest::Response) {
    let read = async {
        let mut length = 0;
        while let Ok(Some(chunk)) = answer.chunk().await {
            length += chunk.len();
            if length > BODY.0 {
                break;
            }
        }
    };
    // If this takes too long, the answer is dropped together with its connection.
    let _ = tokio::time::timeout(BODY.1, read).await;
}
