//! Tells backends of acts, after [Standard Webhooks](https://www.standardwebhooks.com). The sender is a reader of the
//! journal.
//!
//! - [`signing`]: the signature of a message. [`delivery`]: one request, and the meaning of its answer.
//! - [`place`]: the place of an endpoint in a bucket's journal; `start`: the place at which it begins.
//! - [`attempt`]: one entry, read and sent. [`queue`]: the order of the spaces. [`patience`]: when an entry is tried
//!   again.
//! - `sender`: does all of this for one endpoint, on the one node that has the right to send. `forgetting`: removes
//!   entries that all endpoints have, if no journal is kept besides.
//!
//! **Invariant:** an entry is sent again until the endpoint has it; later entries of its space wait. A place is written
//! after its entries are settled, and only over the place that the writer knows. So a node that dies, two nodes at
//! once, or a store that has lost entries may repeat entries, but never skip one.
//!
//! Memory is bounded while an endpoint is away: only numbers of waiting entries are kept. The journal has the entries.

pub mod attempt;
pub mod delivery;
mod forgetting;
pub mod patience;
pub mod place;
pub mod queue;
mod sender;
pub mod signing;
mod start;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::patience::Patience;
use self::sender::Sender;
use crate::clock::StoreClock;
use crate::config::Webhook;
use crate::domain::StoreTime;
use crate::journal::Tails;
use crate::store::SlotStore;
use crate::telemetry::metrics::Metrics;

/// The name of the right to send in the store.
const READER: &str = "webhooks";

/// How long the right to send lasts. If a node dies, another one continues after that.
const LEASE: Duration = Duration::from_millis(1_500);

/// How often the node with the right renews it.
const RENEW_EVERY: Duration = Duration::from_millis(500);

/// A new endpoint hears of acts from this long before the node's start, so that an act in that moment is sent rather than
/// missed.
const MARGIN: Duration = Duration::from_secs(1);

/// The pause after a failure.
const PAUSE: Duration = Duration::from_secs(1);

/// The parts of a node that its webhooks use.
#[derive(Clone)]
pub struct Tools {
    /// The store with the journal and the places.
    pub store: Arc<dyn SlotStore>,
    /// Tells the store's time.
    pub clock: Arc<StoreClock>,
    /// Counts the sent messages.
    pub metrics: Metrics,
    /// Wakes readers when the journal has new entries.
    pub tails: Arc<Tails>,
    /// When an entry is tried again, and for how long.
    pub patience: Patience,
    /// Whether entries are removed from the journal once all endpoints have them.
    pub forgets: bool,
}

/// Sends to all endpoints while this node has the right to send, which it takes as `holder`. When `leaving` is cancelled,
/// gives the right to another node. Never returns.
pub async fn run(tools: Tools, webhooks: Vec<Webhook>, holder: String, leaving: CancellationToken) {
    let webhooks: Vec<Arc<Webhook>> = webhooks.into_iter().map(Arc::new).collect();
    for webhook in &webhooks {
        tell_of(webhook, &tools.metrics);
    }
    let begun = find_begun(&tools).await;
    let turn = Turn { tools, webhooks, holder, begun };
    while !leaving.is_cancelled() {
        let pause = turn.take(&leaving).await;
        // Waits for the end of the pause or the end of the node, whichever comes first.
        let _ = tokio::time::timeout(pause, leaving.cancelled()).await;
    }
    turn.give_back().await;
    std::future::pending().await
}

/// Logs the endpoint, and starts its series at 0, so that an alert sees the first count.
fn tell_of(webhook: &Webhook, metrics: &Metrics) {
    let name = webhook.name.as_str();
    for outcome in ["delivered", "refused", "timeout", "unreachable", "skipped"] {
        metrics.webhook_deliveries.with_label_values(&[name, outcome]);
    }
    metrics.webhook_lost.with_label_values(&[name]);
    metrics.webhook_lag_seconds.with_label_values(&[name]);
    metrics.webhook_waiting.with_label_values(&[name]);
    metrics.webhook_oldest_seconds.with_label_values(&[name]);
    tracing::info!(webhook = name, url = webhook.shown_url(), "an endpoint is told of acts");
}

/// The name of an endpoint as a reader in the store.
fn reader_of(webhook: &Webhook) -> String {
    format!("webhook:{}", webhook.name)
}

/// When this node was started, by the store's clock.
async fn find_begun(tools: &Tools) -> StoreTime {
    let started = Instant::now();
    loop {
        match tools.store.ping().await {
            Ok(now) => {
                tools.clock.learn(now);
                let ago = started.elapsed() + MARGIN;
                return now.plus_millis(-i64::try_from(ago.as_millis()).unwrap_or(i64::MAX));
            }
            Err(error) => {
                tracing::debug!(%error, "cannot ask the store for its time, so webhooks wait; will try again")
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// This node's request for the right to send.
struct Turn {
    tools: Tools,
    webhooks: Vec<Arc<Webhook>>,
    holder: String,
    begun: StoreTime,
}

impl Turn {
    /// Asks for the right, and sends while this node has it. Answers when to ask again.
    async fn take(&self, leaving: &CancellationToken) -> Duration {
        match self.tools.store.take_reader_lease(READER, &self.holder, LEASE).await {
            Ok(None) => self.send(leaving).await,
            // The store tells the time to the millisecond.
            Ok(Some(left)) => left.min(LEASE) + Duration::from_millis(1),
            Err(error) => {
                tracing::debug!(%error, "cannot ask for the right to send webhooks");
                PAUSE
            }
        }
    }

    /// Sends to all endpoints until another node has the right, or this one leaves.
    async fn send(&self, leaving: &CancellationToken) -> Duration {
        tracing::info!("this node sends webhooks");
        let (stop, mut senders) = (CancellationToken::new(), JoinSet::new());
        for webhook in &self.webhooks {
            senders.spawn(send_to(self.tools.clone(), webhook.clone(), self.begun, stop.clone()));
        }
        if self.tools.forgets {
            senders.spawn(forgetting::run(self.tools.store.clone(), self.readers(), stop.clone()));
        }
        let pause = loop {
            tokio::select! {
                () = leaving.cancelled() => break Duration::ZERO,
                Some(ended) = senders.join_next() => {
                    tell_of_end(ended);
                    break PAUSE;
                }
                () = tokio::time::sleep(RENEW_EVERY) => {
                    // While the store does not answer, no other node gets the right.
                    if let Ok(Some(left)) = self.tools.store.take_reader_lease(READER, &self.holder, LEASE).await {
                        break left.min(LEASE);
                    }
                }
            }
        };
        stop.cancel();
        while senders.join_next().await.is_some() {}
        tracing::info!("this node sends no webhooks any more");
        pause
    }

    /// The names of the endpoints as readers in the store.
    fn readers(&self) -> Vec<String> {
        self.webhooks.iter().map(|webhook| reader_of(webhook)).collect()
    }

    /// Lets another node have the right at once.
    async fn give_back(&self) {
        let given = self.tools.store.take_reader_lease(READER, &self.holder, Duration::from_millis(1)).await;
        if let Err(error) = given {
            tracing::debug!(%error, "cannot give back the right to send webhooks; it ends by itself");
        }
    }
}

/// Sends to one endpoint until `stop`.
async fn send_to(tools: Tools, webhook: Arc<Webhook>, begun: StoreTime, stop: CancellationToken) -> anyhow::Result<()> {
    Sender::new(tools, webhook, begun)?.run(stop).await?;
    Ok(())
}

fn tell_of_end(ended: Result<anyhow::Result<()>, JoinError>) {
    let error = match ended {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error,
        Err(error) => error.into(),
    };
    tracing::error!(error = format!("{error:#}"), "the sender of an endpoint failed; will start it again");
}
