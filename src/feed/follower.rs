//! Follows one topic. Turns an unreliable subscription into every message once, in order.
//!
//! The follower delivers the next version, drops an older one, and reads a gap from the log in portions. A message of
//! another epoch is only a hint: the follower asks the store, and drops the message if the store does not confirm it. If
//! the log cannot fill the gap, the follower says [`Step::Restarted`] and continues from the head. In a bucket it first
//! tells what the log still has, through all epochs, and then how many freed slots the log lacks.
//!
//! A head that goes back under the same epoch proves that an older copy has replaced the store. The follower then ends the
//! epoch, so that no version of it names two contents.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Shared;
use super::bucket_memory::BucketMemory;
use super::heads::Head;
use crate::domain::{Bucket, Position, StoreTime};
use crate::store::hub::Watch;
use crate::store::told::BucketRead;
use crate::store::{LogRead, Message, Signal, StoreError, Topic, is_portion};

/// How many heads in a row may be ahead of a silent subscription. One may be chance: the head overtook its message.
const UNHEARD_HEADS: u32 = 2;

/// How long the store's answer about the head is good for. The store is asked every few seconds, so one missed answer does
/// no harm.
const CONFIRMED_FOR: Duration = Duration::from_secs(10);

/// How many missed messages are delivered in one turn. Sockets that join get the next turn.
const TURN: usize = 16;

/// How many of the last messages are remembered, so that a repeated message is recognized by its content.
const RECOGNISED: usize = 64;

/// What happened in the topic.
#[derive(Debug)]
pub enum Step {
    /// The next message, from the subscription.
    Deliver(Message),
    /// The next message, which the subscription missed and the log had.
    Missed(Message),
    /// In a bucket: this many slots were freed, and nothing names them.
    FreedUnnamed(u64),
    /// Continuity is lost: the members' knowledge is void. Messages continue after the follower's position.
    Restarted,
}

/// A reason for the follower to act.
#[derive(Debug)]
pub enum Heard {
    /// From the subscription.
    Signal(Signal),
    /// The store's head, which is read from time to time.
    Head(Head),
    /// A portion of the log was delivered, and there is more.
    More,
}

/// One followed topic.
pub struct Follower {
    shared: Arc<Shared>,
    topic: Topic,
    watch: Watch,
    id: u64,
    heads: mpsc::UnboundedReceiver<Head>,
    at: Position,
    /// The bucket and its memory, if the topic is a bucket's.
    bucket: Option<(Bucket, BucketMemory)>,
    /// A catch-up failed or is unfinished. Nothing is delivered until one succeeds.
    is_behind: bool,
    /// Messages that were read from the log and are to be delivered after `at`.
    ready: VecDeque<Message>,
    /// Whether the log has more than what was read.
    has_more: bool,
    /// When the store last showed that nothing was missed.
    confirmed: Instant,
    /// When the log or the head was read last.
    asked: Instant,
    /// How many heads in a row were ahead of a silent subscription.
    unheard_heads: u32,
    /// The last version that the subscription brought or can no longer bring. It brings no version twice.
    heard_to: u64,
    /// A version that came twice, while the follower finds out why.
    suspected: Option<u64>,
    /// The last messages of this epoch, the newest last.
    recognised: VecDeque<Known>,
}

impl Follower {
    /// Subscribes first, and then reads where the topic stands, so that nothing is missed in between.
    pub(crate) async fn start(shared: Arc<Shared>, topic: Topic) -> Result<Self, StoreError> {
        let watch = shared.subscriptions.watch(topic).await?;
        let (at, bucket) = match topic {
            Topic::Space(_) => (shared.app.store.head_of(topic).await?, None),
            Topic::Bucket(bucket) => {
                let memory = BucketMemory::new(shared.app.store.start_bucket(bucket).await?);
                (memory.at().clone(), Some((bucket, memory)))
            }
        };
        let (id, heads) = shared.followed.insert(topic);
        Ok(Self {
            shared,
            topic,
            watch,
            id,
            heads,
            heard_to: at.version,
            at,
            bucket,
            is_behind: false,
            ready: VecDeque::new(),
            has_more: false,
            confirmed: Instant::now(),
            asked: Instant::now(),
            unheard_heads: 0,
            suspected: None,
            recognised: VecDeque::new(),
        })
    }

    /// The position up to which everything was delivered.
    pub fn at(&self) -> &Position {
        &self.at
    }

    /// Whether everything that was heard is delivered, and the store has lately confirmed that there is no more.
    pub fn is_in_step(&self) -> bool {
        !self.is_behind && self.confirmed.elapsed() < CONFIRMED_FOR
    }

    /// Waits for the next thing to take. Cancel safe.
    pub async fn hear(&mut self) -> Heard {
        if self.has_more || !self.ready.is_empty() {
            // Messages of the subscription wait here. The log has them too, so they will be old then.
            return Heard::More;
        }
        tokio::select! {
            signal = self.watch.next() => Heard::Signal(signal),
            Some(head) = self.heads.recv() => Heard::Head(head),
        }
    }

    /// Acts on what was heard. Answers the steps that the caller must tell.
    pub async fn take(&mut self, heard: Heard) -> Vec<Step> {
        if matches!(heard, Heard::Signal(_)) {
            self.unheard_heads = 0;
        }
        match heard {
            Heard::Signal(Signal::Lagged) => self.catch_up("lagged").await,
            Heard::Signal(Signal::Message(message)) => self.take_message(message).await,
            Heard::Head(head) => self.take_head(&head).await,
            Heard::More => self.catch_up("more").await,
        }
    }

    async fn take_head(&mut self, head: &Head) -> Vec<Step> {
        if head.at.epoch == self.at.epoch && head.at.version < self.at.version {
            // The head may have been read before the last message came. A read from the present position tells.
            return self.catch_up("back").await;
        }
        if !self.is_beyond(&head.at) {
            self.confirmed = self.confirmed.max(head.asked);
            return if self.is_behind { self.catch_up("head").await } else { Vec::new() };
        }
        self.unheard_heads += 1;
        if self.unheard_heads >= UNHEARD_HEADS {
            self.unheard_heads = 0;
            tracing::warn!(
                topic = ?self.topic,
                "a subscription does not bring what the store announces; subscribing again"
            );
            self.shared.subscriptions.renew(self.topic).await;
        }
        self.catch_up("head").await
    }

    async fn take_message(&mut self, message: Message) -> Vec<Step> {
        self.shared.app.metrics.feed_messages.with_label_values(&[message.kind.as_str()]).inc();
        if !message.kind.is_kept() {
            // The message bears the topic's head. The events up to that head must be delivered before it.
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
            return self.take_old(&message).await;
        }
        self.heard_to = message.at.version;
        if message.at.version > self.at.version + 1 {
            return self.catch_up("gap").await;
        }
        self.note_delivered(&message);
        vec![Step::Deliver(message)]
    }

    /// Takes a version that was already delivered. Either the log had it before the subscription brought it, or the
    /// store has gone back and gives its versions a second time.
    async fn take_old(&mut self, message: &Message) -> Vec<Step> {
        let known = self.recognised.iter().rev().find(|known| known.version == message.at.version);
        let is_another = known.is_some_and(|known| !known.is(message));
        if !is_another && message.at.version > self.heard_to {
            self.heard_to = message.at.version;
            return Vec::new();
        }
        self.suspected = Some(message.at.version);
        let steps = if is_another { self.end_epoch().await } else { self.catch_up("back").await };
        self.suspected = None;
        steps
    }

    /// Delivers a portion of the log towards `target`, a position that the store has just shown. Answers `true` once
    /// nothing before `target` is left to deliver.
    pub async fn bring_towards(&mut self, target: &Position) -> Result<(Vec<Step>, bool), StoreError> {
        if *target == self.at {
            self.asked = Instant::now();
            self.note_rest();
            return Ok((Vec::new(), true));
        }
        if target.epoch != self.at.epoch || target.version < self.at.version {
            // The messages that were read are no longer what the store has.
            self.ready.clear();
        }
        if self.ready.is_empty() {
            self.asked = Instant::now();
            let read = self.shared.app.store.read_log(self.topic, &self.at).await?;
            let steps = self.take_log(read).await;
            if !steps.is_empty() || self.ready.is_empty() {
                return Ok((steps, true));
            }
        }
        let steps = self.deliver_ready(Some(target));
        let is_done = steps.is_empty() || *target == self.at;
        Ok((steps, is_done))
    }

    /// Reads what was missed, or its first portion. If the store does not answer, the follower stays behind, and the next
    /// head or message tries again.
    pub async fn catch_up(&mut self, cause: &'static str) -> Vec<Step> {
        if !self.ready.is_empty() {
            return self.deliver_ready(None);
        }
        self.has_more = false;
        self.shared.app.metrics.feed_catch_ups.with_label_values(&[cause]).inc();
        let store = self.shared.app.store.clone();
        self.asked = Instant::now();
        let read = match &self.bucket {
            Some((bucket, memory)) => store.read_bucket(*bucket, memory.told()).await.map(Read::Bucket),
            None => store.read_log(self.topic, &self.at).await.map(Read::Log),
        };
        match read {
            Ok(Read::Log(read)) => {
                let steps = self.take_log(read).await;
                if steps.is_empty() { self.deliver_ready(None) } else { steps }
            }
            Ok(Read::Bucket(read)) if self.has_gone_back(&read.head) => self.end_epoch().await,
            Ok(Read::Bucket(read)) => self.take_bucket(read),
            Err(error) => self.stay_behind(&error),
        }
    }

    fn take_bucket(&mut self, read: BucketRead) -> Vec<Step> {
        let is_more = is_portion(&read.messages);
        self.has_more = is_more;
        self.note_rest();
        let Some((_, memory)) = &mut self.bucket else { return Vec::new() };
        let steps = memory.take(read, is_more);
        let at = memory.at().clone();
        self.move_to(at);
        for step in &steps {
            if let Step::Missed(message) = step
                && message.at.epoch == self.at.epoch
            {
                self.remember(message);
            }
        }
        steps
    }

    /// Puts the messages that were read in line, or restarts if the log no longer has them.
    async fn take_log(&mut self, read: LogRead) -> Vec<Step> {
        match read {
            LogRead::Messages(messages) => {
                self.has_more = is_portion(&messages);
                self.ready = messages.into();
                self.note_rest();
                Vec::new()
            }
            LogRead::Gone(head) if self.has_gone_back(&head) => self.end_epoch().await,
            LogRead::Gone(head) => {
                self.confirm();
                self.restart(head)
            }
        }
    }

    /// Delivers one turn of the messages in line, up to `target`.
    fn deliver_ready(&mut self, target: Option<&Position>) -> Vec<Step> {
        let mut steps = Vec::new();
        let is_wanted = |message: &Message| {
            target.is_none_or(|target| message.at.epoch == target.epoch && message.at.version <= target.version)
        };
        while steps.len() < TURN
            && self.ready.front().is_some_and(is_wanted)
            && let Some(message) = self.ready.pop_front()
        {
            self.note_delivered(&message);
            steps.push(Step::Missed(message));
        }
        self.note_rest();
        steps
    }

    /// Ends the epoch, because an older copy has replaced the store.
    async fn end_epoch(&mut self) -> Vec<Step> {
        tracing::warn!(
            topic = ?self.topic, at = self.at.version,
            "an older copy has replaced the store; beginning a new epoch"
        );
        let store = self.shared.app.store.clone();
        self.asked = Instant::now();
        let head = match store.end_epoch(self.topic, &self.at.epoch).await {
            Ok(head) => head,
            Err(error) => return self.stay_behind(&error),
        };
        let Some((bucket, memory)) = &mut self.bucket else {
            self.confirm();
            return self.restart(head);
        };
        if let Some(version) = self.suspected {
            memory.forget_from(&self.at.epoch, version);
        }
        match store.read_bucket(*bucket, memory.told()).await {
            Ok(read) => self.take_bucket(read),
            Err(error) => self.stay_behind(&error),
        }
    }

    fn restart(&mut self, head: Position) -> Vec<Step> {
        self.move_to(head);
        vec![Step::Restarted]
    }

    fn move_to(&mut self, at: Position) {
        if at.epoch != self.at.epoch {
            // The subscription may still bring any version of the new epoch up to the present one.
            self.heard_to = 0;
            self.recognised.clear();
        }
        self.at = at;
        self.ready.clear();
    }

    fn stay_behind(&mut self, error: &StoreError) -> Vec<Step> {
        tracing::warn!(topic = ?self.topic, %error, "cannot read what was missed; will try again");
        self.set_behind(true);
        Vec::new()
    }

    fn note_delivered(&mut self, message: &Message) {
        self.at = message.at.clone();
        self.remember(message);
        if let Some((_, memory)) = &mut self.bucket {
            memory.note(message);
        }
    }

    fn remember(&mut self, message: &Message) {
        if self.recognised.len() == RECOGNISED {
            self.recognised.pop_front();
        }
        self.recognised.push_back(Known::new(message));
    }

    fn has_gone_back(&self, head: &Position) -> bool {
        head.epoch == self.at.epoch && head.version < self.at.version
    }

    fn is_beyond(&self, head: &Position) -> bool {
        head.epoch != self.at.epoch || head.version > self.at.version
    }

    /// Confirms the position if everything that the store has shown is delivered.
    fn note_rest(&mut self) {
        if self.has_more || !self.ready.is_empty() {
            self.set_behind(true);
        } else {
            self.confirm();
        }
    }

    /// Notes that everything that the store had at the last question is delivered.
    fn confirm(&mut self) {
        self.confirmed = self.confirmed.max(self.asked);
        self.set_behind(false);
    }

    fn set_behind(&mut self, is_behind: bool) {
        if self.is_behind != is_behind {
            self.is_behind = is_behind;
            self.shared.followed.count_behind(is_behind);
        }
    }
}

enum Read {
    Log(LogRead),
    Bucket(BucketRead),
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.set_behind(false);
        self.shared.followed.remove(self.topic, self.id);
    }
}

/// The parts of a delivered message by which it is recognized.
struct Known {
    version: u64,
    content: u64,
    written: Option<StoreTime>,
}

impl Known {
    fn new(message: &Message) -> Self {
        let mut hasher = DefaultHasher::new();
        (message.kind.as_str(), message.payload.get()).hash(&mut hasher);
        Self { version: message.at.version, content: hasher.finish(), written: message.written }
    }

    /// Whether a message is the same one, heard again.
    fn is(&self, message: &Message) -> bool {
        let other = Self::new(message);
        let is_of_one_instant = self.written.is_none() || other.written.is_none() || self.written == other.written;
        self.content == other.content && is_of_one_instant
    }
}
