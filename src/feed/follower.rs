//! Follows one topic: turns what a subscription happens to bring into every message once, in order.
//!
//! The next version is delivered, an older one dropped, a gap read from the log. A message of another epoch is only a
//! hint: the store is asked, and what it does not confirm is dropped. When the log cannot fill the gap, the follower says
//! [`Step::Restarted`] and goes on from the head.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Shared;
use super::heads::Head;
use crate::domain::event::Position;
use crate::store::hub::Watch;
use crate::store::{LogRead, Message, Signal, StoreError, Topic};

/// How many times a head may be beyond a subscription that stays silent: one may just have overtaken its message.
const UNHEARD_HEADS: u32 = 2;

/// How long the store's word about the head is good for: it is asked every few seconds, and one that was missed is no harm.
const CONFIRMED_FOR: Duration = Duration::from_secs(10);

/// What happened in the topic.
#[derive(Debug)]
pub enum Step {
    /// The next message.
    Deliver(Message),
    /// Continuity is lost: what is known is void, messages go on after the follower's position.
    Restarted,
}

/// What made the follower look.
#[derive(Debug)]
pub enum Heard {
    /// From the subscription.
    Signal(Signal),
    /// The store's head, read from time to time.
    Head(Head),
}

/// One followed topic.
pub struct Follower {
    shared: Arc<Shared>,
    topic: Topic,
    watch: Watch,
    id: u64,
    heads: mpsc::UnboundedReceiver<Head>,
    at: Position,
    /// A catch-up failed: nothing is delivered until one succeeds.
    is_behind: bool,
    /// When the store last showed that nothing was missed.
    confirmed: Instant,
    /// How many times a head was beyond what the subscription had brought, which was silent since.
    unheard_heads: u32,
}

impl Follower {
    /// Starts listening, then reads where the topic stands: nothing after that is missed.
    pub(crate) async fn start(shared: Arc<Shared>, topic: Topic) -> Result<Self, StoreError> {
        let watch = shared.subscriptions.watch(topic).await?;
        let at = head(&shared, topic).await?;
        let (id, heads) = shared.followed.insert(topic);
        let confirmed = Instant::now();
        Ok(Self { shared, topic, watch, id, heads, at, is_behind: false, confirmed, unheard_heads: 0 })
    }

    /// Where it stands: everything up to here was delivered.
    pub fn at(&self) -> &Position {
        &self.at
    }

    /// Whether it has all that it heard of, and the store has confirmed lately that this is all.
    pub fn is_in_step(&self) -> bool {
        !self.is_behind && self.confirmed.elapsed() < CONFIRMED_FOR
    }

    /// The next thing to look at. Cancel safe.
    pub async fn hear(&mut self) -> Heard {
        tokio::select! {
            signal = self.watch.next() => Heard::Signal(signal),
            Some(head) = self.heads.recv() => Heard::Head(head),
        }
    }

    /// What follows from it.
    pub async fn take(&mut self, heard: Heard) -> Vec<Step> {
        if matches!(heard, Heard::Signal(_)) {
            self.unheard_heads = 0;
        }
        match heard {
            Heard::Signal(Signal::Lagged) => self.catch_up("lagged").await,
            Heard::Signal(Signal::Message(message)) => self.take_message(message).await,
            Heard::Head(head) => self.take_head(&head).await,
        }
    }

    async fn take_head(&mut self, head: &Head) -> Vec<Step> {
        if !self.is_beyond(&head.at) {
            self.confirmed = self.confirmed.max(head.asked);
            return if self.is_behind { self.catch_up("head").await } else { Vec::new() };
        }
        self.unheard_heads += 1;
        if self.unheard_heads >= UNHEARD_HEADS {
            self.unheard_heads = 0;
            tracing::warn!(topic = ?self.topic, "a subscription brings nothing of what the store announces");
            self.shared.subscriptions.renew(self.topic).await;
        }
        self.catch_up("head").await
    }

    async fn take_message(&mut self, message: Message) -> Vec<Step> {
        self.shared.app.metrics.feed_messages.with_label_values(&[message.kind.name()]).inc();
        if !message.kind.is_kept() {
            // It bears the topic's head: what it shows is not to be shown before what it follows.
            let mut steps = if self.is_beyond(&message.at) { self.catch_up("gap").await } else { Vec::new() };
            steps.push(Step::Deliver(message));
            return steps;
        }
        if self.is_behind {
            return self.catch_up("behind").await;
        }
        if message.at.epoch != self.at.epoch {
            return self.catch_up("epoch").await;
        }
        if message.at.version <= self.at.version {
            return Vec::new();
        }
        if message.at.version > self.at.version + 1 {
            return self.catch_up("gap").await;
        }
        self.at = message.at.clone();
        vec![Step::Deliver(message)]
    }

    /// Delivers from the log up to exactly `target`, a position that the store has just shown.
    pub async fn bring_to(&mut self, target: &Position) -> Result<Vec<Step>, StoreError> {
        let steps = if *target == self.at {
            Vec::new()
        } else {
            let read = self.shared.app.store.read_log(self.topic, &self.at).await?;
            self.take_log(read, Some(target))
        };
        self.confirm();
        Ok(steps)
    }

    /// Reads everything that was missed. A store that cannot be asked leaves the follower behind; the next head or
    /// message tries again.
    pub async fn catch_up(&mut self, cause: &'static str) -> Vec<Step> {
        self.shared.app.metrics.feed_catch_ups.with_label_values(&[cause]).inc();
        match self.shared.app.store.read_log(self.topic, &self.at).await {
            Ok(read) => {
                self.confirm();
                self.take_log(read, None)
            }
            Err(error) => {
                tracing::warn!(topic = ?self.topic, %error, "cannot read what was missed; will try again");
                self.set_behind(true);
                Vec::new()
            }
        }
    }

    fn take_log(&mut self, read: LogRead, up_to: Option<&Position>) -> Vec<Step> {
        match read {
            LogRead::Messages(messages) => {
                let wanted = |message: &Message| {
                    up_to.is_none_or(|target| message.at.epoch == target.epoch && message.at.version <= target.version)
                };
                let messages: Vec<Message> = messages.into_iter().take_while(wanted).collect();
                if let Some(last) = messages.last() {
                    self.at = last.at.clone();
                }
                messages.into_iter().map(Step::Deliver).collect()
            }
            LogRead::Gone(head) => {
                self.at = head;
                vec![Step::Restarted]
            }
        }
    }

    fn is_beyond(&self, head: &Position) -> bool {
        head.epoch != self.at.epoch || head.version > self.at.version
    }

    /// The store has just shown all that there is.
    fn confirm(&mut self) {
        self.confirmed = Instant::now();
        self.set_behind(false);
    }

    fn set_behind(&mut self, is_behind: bool) {
        if self.is_behind != is_behind {
            self.is_behind = is_behind;
            self.shared.followed.count_behind(is_behind);
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.set_behind(false);
        self.shared.followed.remove(self.topic, self.id);
    }
}

async fn head(shared: &Shared, topic: Topic) -> Result<Position, StoreError> {
    let heads = shared.app.store.heads(&[topic]).await?;
    heads.into_iter().next().ok_or_else(|| StoreError("the store gave no head for a topic".into()))
}
