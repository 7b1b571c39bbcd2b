//! A store on a Cluster whose hash slots move, for cases that know nothing of moves. It repeats a call that was answered with
//! `unavailable`, and it shows the epochs that come and go with the moves as one epoch.
//!
//! It checks everything that it hides, and excuses nothing else:
//!
//! - A write is done once. Of the writes that go on at once in one topic, all but one bear an `Idempotency-Key` and are repeated
//!   under it. The write without a key is repeated only after a second, when it can no longer happen, and only if the log shows
//!   that it has not happened. Otherwise the log has the answer.
//! - The epoch of a bucket changes no more often than its slot moves.
//! - A position of an epoch that is over is answered with `Gone`.
//! - No (epoch, version) has two contents, wherever it is met: announced, or in a log.
//! - Each version in a log is announced ([`Ledger::check_announced`]).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::{Mutex, MutexGuard};
use serde_json::value::RawValue;
use slotcast::clock;
use slotcast::domain::act::Idempotency;
use slotcast::domain::rule::HoldAnswer;
use slotcast::domain::schedule::ScheduleSpec;
use slotcast::domain::{Bucket, Day, HoldToken, Position, SiteId, SlotAct, SpaceId, SpaceKey, StoreTime, UserId};
use slotcast::store::hub::Hub;
use slotcast::store::redis::{Commands, Endpoint, RedisStore};
use slotcast::store::{
    ActOutcome, ApplyError, BookedSlot, DayState, Erasure, ErasureStep, HeldSlot, KeptOfUser, LOG_PORTION, LogRead,
    Message, MessageKind, NodeReport, NumberedEntry, Publication, ScheduleState, SlotStore, SpaceChange, SpaceState,
    StoreError, SweepBatch, Topic, UserBacklog,
};

use super::redis::{PlainSubscriptions, RedisCluster};
use super::slot_mover::SlotUser;

/// The epoch that cases see in place of all others.
const ONE_EPOCH: &str = "0123456789abcdef0123456789abcdef";

/// The time after which an unknown outcome is final.
const FINAL: Duration = Duration::from_secs(1);

/// How long a test waits for something that is sure to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// What one case does with the store, and what it sees.
pub struct Ledger {
    cluster: Arc<RedisCluster>,
    prefix: String,
    slots: SlotUser,
    /// Held briefly, never across an await.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The true epochs of each bucket.
    epochs: BTreeMap<u8, BTreeSet<Arc<str>>>,
    /// The kind and the payload of each message, by topic, version and true epoch.
    contents: HashMap<(Topic, u64, Arc<str>), (MessageKind, String)>,
    /// The versions that were announced in each topic, each with its true epoch.
    announced: BTreeMap<Topic, BTreeMap<u64, Arc<str>>>,
    /// The writes of each topic that are going on, and those that were answered.
    writes: HashMap<Topic, Writes>,
    next_write: u64,
    /// Messages that were kept for users and everyone, by topic.
    published: HashMap<Topic, usize>,
    /// The answers that said that the store is unavailable, and how often each came.
    refusals: BTreeMap<String, usize>,
}

/// The writes of a topic.
#[derive(Default)]
struct Writes {
    /// Whether a write without a key is going on.
    has_keyless: bool,
    /// The writes with a key that are going on.
    keyed: BTreeSet<u64>,
    /// The last versions of the writes that were answered.
    answered: BTreeSet<u64>,
}

/// One entry of a log, as Redis has it.
struct Entry {
    version: u64,
    message: Message,
    /// On the last entry of an act: the answer of the act, which is a token and an end, or empty. Other entries have
    /// none.
    answer: Option<String>,
}

impl Entry {
    /// The answer of the act that ends with this entry.
    fn outcome(&self) -> ActOutcome {
        let answer = self.answer.as_deref().and_then(|answer| answer.split_once('\n'));
        let hold = answer.filter(|(token, _)| !token.is_empty()).map(|(token, until)| HoldAnswer {
            token: HoldToken::from_random(u128::from_str_radix(token, 16).expect("a token").to_be_bytes()),
            until: StoreTime::from_millis(until.parse().expect("an end")),
        });
        ActOutcome { at: self.message.at.clone(), hold, is_repeat: false }
    }
}

impl Ledger {
    /// A ledger for a case, which has a prefix of its own.
    pub fn new(cluster: Arc<RedisCluster>, prefix: String, slots: SlotUser) -> Arc<Self> {
        Arc::new(Self { cluster, prefix, slots, state: Mutex::default() })
    }

    /// Opens a store, like that of another node.
    pub async fn store(self: &Arc<Self>) -> MovingStore {
        let endpoint = Endpoint::parse(&self.cluster.url()).expect("an address");
        let commands = Commands::start(&endpoint).expect("a connection");
        MovingStore { ledger: self.clone(), store: self.cluster.store(&self.prefix).await, commands }
    }

    /// Announces the kept messages of each topic in the order of their versions. After a move, messages may arrive by
    /// other ways and out of order. Topics must be new when this begins.
    pub async fn subscriptions(self: &Arc<Self>) -> PlainSubscriptions {
        let (ledger, mut orders) = (self.clone(), HashMap::<Topic, Order>::new());
        let hear = move |hub: &Hub, topic: Topic, message: Message| {
            ledger.meet(topic, &message);
            if message.kind.is_kept() {
                ledger.lock().announced.entry(topic).or_default().insert(message.at.version, message.at.epoch.clone());
            }
            let order = orders.entry(topic).or_default();
            order.waiting.push(message);
            for message in order.take_next() {
                hub.announce(topic, as_one_epoch(message));
            }
        };
        PlainSubscriptions::connect_through(&self.cluster.urls()[0], &self.prefix, hear).await
    }

    /// How many moves of the case's slots were begun.
    pub fn moves(&self) -> usize {
        self.slots.moves()
    }

    /// The answers that said that the store is unavailable, and how often each came.
    pub fn refusals(&self) -> BTreeMap<String, usize> {
        self.lock().refusals.clone()
    }

    /// How many epochs the buckets had, without the first one of each.
    pub fn epoch_changes(&self) -> usize {
        self.lock().epochs.values().map(|epochs| epochs.len() - 1).sum()
    }

    /// Checks that each version in a log was announced under its epoch, for each topic that was heard or written.
    /// Contents are compared where they are met.
    pub async fn check_announced(self: &Arc<Self>) {
        let store = self.store().await;
        let topics: BTreeSet<Topic> = {
            let state = self.lock();
            state.announced.keys().chain(state.writes.keys()).chain(state.published.keys()).copied().collect()
        };
        for topic in topics {
            let log = store.read_entries(topic).await;
            let deadline = clock::instant() + PATIENCE;
            loop {
                let missing = self.never_announced(topic, &log);
                if missing.is_empty() {
                    break;
                }
                assert!(clock::instant() < deadline, "never announced of {topic:?}: {missing:?}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }

    fn never_announced(&self, topic: Topic, log: &[Entry]) -> Vec<u64> {
        let state = self.lock();
        let announced = state.announced.get(&topic);
        let epoch_of = |version| announced.and_then(|announced| announced.get(&version));
        let missing = log.iter().filter(|entry| epoch_of(entry.version) != Some(&entry.message.at.epoch));
        missing.map(|entry| entry.version).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Begins a write under a key.
    fn begin_keyed(&self, topic: Topic) -> u64 {
        let state = &mut *self.lock();
        state.next_write += 1;
        state.writes.entry(topic).or_default().keyed.insert(state.next_write);
        state.next_write
    }

    /// Begins a write without a key. Answers `false` if there is one already.
    fn begin_keyless(&self, topic: Topic) -> bool {
        !std::mem::replace(&mut self.lock().writes.entry(topic).or_default().has_keyless, true)
    }

    /// Notes a true epoch.
    fn meet_epoch(&self, bucket: Bucket, epoch: &Arc<str>) {
        let mut state = self.lock();
        let epochs = state.epochs.entry(bucket.get()).or_default();
        if epochs.insert(epoch.clone()) {
            let (changes, moves) = (epochs.len() - 1, self.slots.moves_of(&tag_of(bucket.get())));
            assert!(changes <= moves, "bucket {} had {changes} new epochs in {moves} moves", bucket.get());
        }
    }

    /// Notes a message with its true epoch.
    fn meet(&self, topic: Topic, message: &Message) {
        let Position { epoch, version } = &message.at;
        self.meet_epoch(bucket_of(topic), epoch);
        if !message.kind.is_kept() {
            return;
        }
        let content = (message.kind, message.payload.get().to_owned());
        let mut state = self.lock();
        let known = state.contents.entry((topic, *version, epoch.clone())).or_insert_with(|| content.clone());
        assert_eq!(*known, content, "{topic:?} {epoch} {version} has two contents");
    }

    /// A position as the cases see it.
    fn place(&self, bucket: Bucket, at: Position) -> Position {
        self.meet_epoch(bucket, &at.epoch);
        Position { epoch: ONE_EPOCH.into(), ..at }
    }
}

/// The messages of a topic that wait for earlier ones.
#[derive(Default)]
struct Order {
    /// The version of the last message that was handed on.
    last: u64,
    waiting: Vec<Message>,
}

impl Order {
    /// The messages that come next. A message that is not kept has the version of the message before it.
    fn take_next(&mut self) -> Vec<Message> {
        let mut next = Vec::new();
        let is_next = |last: u64, message: &Message| match message.kind.is_kept() {
            true => message.at.version == last + 1,
            false => message.at.version <= last,
        };
        while let Some(index) = self.waiting.iter().position(|message| is_next(self.last, message)) {
            let message = self.waiting.remove(index);
            self.last = self.last.max(message.at.version);
            next.push(message);
        }
        next
    }
}

/// A message as the cases see it.
fn as_one_epoch(message: Message) -> Message {
    let text = message.payload.get();
    let payload = match message.kind {
        MessageKind::SlotUpdate => {
            let (of, one) = (format!(r#","epoch":"{}","#, message.at.epoch), format!(r#","epoch":"{ONE_EPOCH}","#));
            assert_eq!(text.matches(&of).count(), 1, "the payload of {:?} names its epoch: {text}", message.at);
            text.replace(&of, &one)
        }
        _ => text.to_owned(),
    };
    let payload = RawValue::from_string(payload).expect("JSON").into();
    Message { at: Position { epoch: ONE_EPOCH.into(), ..message.at }, payload, ..message }
}

fn bucket_of(topic: Topic) -> Bucket {
    match topic {
        Topic::Space(space) => space.bucket(),
        Topic::Bucket(bucket) => bucket,
    }
}

fn tag_of(bucket: u8) -> String {
    format!("b{bucket}")
}

/// The store that cases get.
pub struct MovingStore {
    ledger: Arc<Ledger>,
    store: RedisStore,
    commands: Commands,
}

impl MovingStore {
    async fn use_bucket(&self, bucket: Bucket) {
        self.ledger.slots.use_tag(&tag_of(bucket.get())).await;
    }

    async fn use_nodes(&self) {
        self.ledger.slots.use_tag("nodes").await;
    }

    fn note_refusal(&self, doing: &str, error: &StoreError) {
        // The cause without numbers, which differ from one error to the next.
        let cause = error.0.split_whitespace().filter(|word| !word.contains(|c: char| c.is_ascii_digit()));
        let cause = format!("{doing}: {}", cause.collect::<Vec<_>>().join(" "));
        *self.ledger.lock().refusals.entry(cause).or_default() += 1;
    }

    /// Asks until there is an answer. For calls that may be repeated: reads, and writes that set the same value again.
    async fn ask<T, F>(&self, doing: &str, call: impl Fn() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let deadline = clock::instant() + PATIENCE;
        loop {
            match call().await {
                Err(error) if clock::instant() < deadline => self.note_refusal(doing, &error),
                result => return result,
            }
        }
    }

    /// Acts under a key. Repeats the act until the answer is not `unavailable`.
    async fn apply_keyed(&self, topic: Topic, act: &SlotAct) -> Result<ActOutcome, ApplyError> {
        let id = self.ledger.begin_keyed(topic);
        let mut act = act.clone();
        act.idempotency.get_or_insert_with(|| Idempotency {
            caller: UserId::new("repeats").expect("a user"),
            key: format!("write{id}"),
            fingerprint: "as before".into(),
        });
        let deadline = clock::instant() + PATIENCE;
        let result = loop {
            match self.apply_true(topic, &act).await {
                Err(ApplyError::Store(error)) if clock::instant() < deadline => self.note_refusal("apply", &error),
                result => break result,
            }
        };
        let mut state = self.ledger.lock();
        let writes = state.writes.entry(topic).or_default();
        writes.keyed.remove(&id);
        writes.answered.extend(result.as_ref().ok().map(|outcome| outcome.at.version));
        result
    }

    /// Writes without a key. Repeats the write until the answer is not `unavailable`, or until the log has the answer.
    async fn write_keyless<F>(&self, doing: &str, topic: Topic, call: impl Fn() -> F) -> Result<ActOutcome, ApplyError>
    where
        F: Future<Output = Result<ActOutcome, ApplyError>>,
    {
        let deadline = clock::instant() + PATIENCE;
        let result = loop {
            match call().await {
                Err(ApplyError::Store(error)) if clock::instant() < deadline => self.note_refusal(doing, &error),
                result => break result,
            }
            tokio::time::sleep(FINAL).await;
            if let Some(entry) = self.find_unanswered(topic).await {
                break Ok(entry.outcome());
            }
        };
        let mut state = self.ledger.lock();
        let writes = state.writes.entry(topic).or_default();
        writes.has_keyless = false;
        writes.answered.extend(result.as_ref().ok().map(|outcome| outcome.at.version));
        result
    }

    /// The log's last entry of the one write without a key. That write can no longer happen.
    async fn find_unanswered(&self, topic: Topic) -> Option<Entry> {
        let entries = self.read_entries(topic).await;
        // All other entries of the log are answered, or will be.
        let others = self.ledger.lock().writes.entry(topic).or_default().keyed.clone();
        let deadline = clock::instant() + PATIENCE;
        while !self.ledger.lock().writes.entry(topic).or_default().keyed.is_disjoint(&others) {
            assert!(clock::instant() < deadline, "writes in {topic:?} do not end");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let answered = self.ledger.lock().writes.entry(topic).or_default().answered.clone();
        let is_unanswered = |entry: &Entry| entry.answer.is_some() && !answered.contains(&entry.version);
        let unanswered: Vec<Entry> = entries.into_iter().filter(is_unanswered).collect();
        let versions: Vec<u64> = unanswered.iter().map(|entry| entry.version).collect();
        assert!(versions.len() <= 1, "done in {topic:?}, and answered to nobody: {versions:?}");
        unanswered.into_iter().next()
    }

    /// All entries of a log, in all epochs.
    async fn read_entries(&self, topic: Topic) -> Vec<Entry> {
        let bucket = bucket_of(topic).get();
        let prefix = &self.ledger.prefix;
        let key = match topic {
            Topic::Bucket(_) => format!("{prefix}:{{b{bucket}}}:log"),
            Topic::Space(SpaceKey { site, space }) => format!("{prefix}:{{b{bucket}}}:log:{site}:{space}"),
        };
        let mut command = redis::cmd("XRANGE");
        command.arg(key).arg("-").arg("+");
        let range = || async {
            let answer = command.query_async::<redis::streams::StreamRangeReply>(&mut self.commands.clone()).await;
            answer.map_err(|error| StoreError::new("XRANGE", error))
        };
        let range = self.ask("xrange", range).await.expect("a log");
        range.ids.iter().map(|entry| read_entry(self, topic, entry)).collect()
    }

    /// The store's own position for a position that a case names.
    async fn true_position(&self, topic: Topic, since: &Position) -> Result<Position, StoreError> {
        if &*since.epoch != ONE_EPOCH {
            return Ok(since.clone());
        }
        let topics = [topic];
        let heads = self.ask("heads", || self.store.heads(&topics)).await?;
        let epoch = heads.into_iter().next().expect("a head").epoch;
        Ok(Position { epoch, version: since.version })
    }

    /// Writes at the position that the case names. Writes again if the slot moved between the two questions.
    async fn with_true<T, F>(&self, topic: Topic, at: &Position, call: impl Fn(Position) -> F) -> Result<T, ApplyError>
    where
        F: Future<Output = Result<T, ApplyError>>,
    {
        loop {
            let true_at = self.true_position(topic, at).await?;
            match call(true_at.clone()).await {
                Err(ApplyError::Stale) if self.true_position(topic, at).await? != true_at => {}
                result => return result,
            }
        }
    }

    async fn apply_true(&self, topic: Topic, act: &SlotAct) -> Result<ActOutcome, ApplyError> {
        let Some(at) = &act.revision else { return self.store.apply(act.clone()).await };
        self.with_true(topic, at, |at| self.store.apply(SlotAct { revision: Some(at), ..act.clone() })).await
    }

    /// The entries of a log after a version, across epochs. `None` if the log does not reach back that far.
    async fn read_through(&self, topic: Topic, since: &Position, head: &Position) -> Option<Vec<Message>> {
        let entries = self.read_entries(topic).await;
        let after = |version: u64| entries.iter().filter(move |entry| entry.version > version);
        let is_whole = after(since.version).zip(since.version + 1..).all(|(entry, version)| entry.version == version);
        if !is_whole || (after(since.version).count() as u64) < head.version.checked_sub(since.version)? {
            return None;
        }
        let is_of_one = after(since.version).all(|entry| entry.message.at.epoch == head.epoch);
        assert!(!is_of_one, "{topic:?} after {since:?} is all there and of one epoch, and is said to be gone");
        // A caller with a position of an old epoch must not believe that it missed nothing.
        for entry in after(since.version).filter(|entry| entry.message.at.epoch != head.epoch).take(1) {
            let old = Position { epoch: entry.message.at.epoch.clone(), version: since.version };
            let read = self.ask("read_log", || self.store.read_log(topic, &old)).await.expect("a log");
            assert!(matches!(read, LogRead::Gone(_)), "{topic:?} after {old:?} of an epoch that is over");
        }
        Some(after(since.version).map(|entry| as_one_epoch(entry.message.clone())).collect())
    }
}

/// The messages of one read of a log, which has a bounded size.
fn first_portion(messages: Vec<Message>) -> Vec<Message> {
    let mut bytes = 0;
    let fits = |message: &Message| {
        let begins_within = bytes < LOG_PORTION;
        bytes += message.payload.get().len();
        begins_within
    };
    messages.into_iter().take_while(fits).collect()
}

fn read_entry(store: &MovingStore, topic: Topic, entry: &redis::streams::StreamId) -> Entry {
    let field = |name: &str| entry.get::<String>(name);
    let version = entry.id.strip_suffix("-0").and_then(|version| version.parse().ok()).expect("a version");
    let epoch: Arc<str> = field("e").expect("an epoch").into();
    let kind = serde_json::from_value(field("k").expect("a kind").into()).expect("a kind");
    let payload = RawValue::from_string(field("p").expect("a payload")).expect("JSON").into();
    let owned = field("o").map(|owned| serde_json::from_str(&owned).expect("an owner"));
    let message = Message { at: Position { epoch, version }, kind, payload, owned, written: None };
    store.ledger.meet(topic, &message);
    let answer = field("a").and_then(|_| field("r"));
    Entry { version, message, answer }
}

#[async_trait]
impl SlotStore for MovingStore {
    async fn apply(&self, act: SlotAct) -> Result<ActOutcome, ApplyError> {
        let bucket = act.space.bucket();
        self.use_bucket(bucket).await;
        let topic = Topic::Space(act.space);
        let outcome = if act.idempotency.is_some() || !self.ledger.begin_keyless(topic) {
            self.apply_keyed(topic, &act).await?
        } else {
            self.write_keyless("apply", topic, || self.apply_true(topic, &act)).await?
        };
        Ok(ActOutcome { at: self.ledger.place(bucket, outcome.at), ..outcome })
    }

    async fn put_space(&self, change: SpaceChange) -> Result<Position, ApplyError> {
        let bucket = change.space.bucket();
        self.use_bucket(bucket).await;
        let topic = Topic::Space(change.space);
        assert!(self.ledger.begin_keyless(topic), "no case changes a schedule beside another act");
        let put = |revised_at| self.store.put_space(SpaceChange { revised_at, ..change.clone() });
        let call = || async {
            let at = match &change.revised_at {
                Some(at) => self.with_true(topic, at, |at| put(Some(at))).await?,
                None => put(None).await?,
            };
            Ok(ActOutcome { at, hold: None, is_repeat: false })
        };
        let outcome = self.write_keyless("put_space", topic, call).await?;
        Ok(self.ledger.place(bucket, outcome.at))
    }

    async fn sweep(&self, bucket: Bucket, limit: usize) -> Result<SweepBatch, StoreError> {
        self.use_bucket(bucket).await;
        self.ask("sweep", || self.store.sweep(bucket, limit)).await
    }

    async fn publish(&self, publication: Publication) -> Result<(), StoreError> {
        let topic = match &publication {
            Publication::ToUser { user, .. } | Publication::DisconnectUser(user) => Topic::Bucket(user.bucket()),
            Publication::ToEveryone(_) => Topic::Bucket(Bucket::EVERYONE),
            Publication::ShowBoard(space, _) => Topic::Space(*space),
        };
        self.use_bucket(bucket_of(topic)).await;
        if matches!(publication, Publication::DisconnectUser(_) | Publication::ShowBoard(..)) {
            return self.ask("announce", || self.store.publish(publication.clone())).await;
        }
        let deadline = clock::instant() + PATIENCE;
        loop {
            match self.store.publish(publication.clone()).await {
                Err(error) if clock::instant() < deadline => self.note_refusal("publish", &error),
                Ok(()) => {
                    *self.ledger.lock().published.entry(topic).or_default() += 1;
                    return Ok(());
                }
                error => return error,
            }
            tokio::time::sleep(FINAL).await;
            let kept = self.read_entries(topic).await.iter().filter(|entry| entry.answer.is_some()).count();
            // No case publishes two messages at once in one topic, or as many as a log keeps.
            let mut state = self.ledger.lock();
            let published = state.published.entry(topic).or_default();
            if kept > *published {
                assert_eq!(kept, *published + 1, "kept in {topic:?}, and answered to nobody");
                *published = kept;
                return Ok(());
            }
        }
    }

    async fn mark_received(&self, user: &UserId, sequence: u64) -> Result<(), StoreError> {
        self.use_bucket(user.bucket()).await;
        self.ask("mark_received", || self.store.mark_received(user, sequence)).await
    }

    async fn read_schedule(&self, space: SpaceKey) -> Result<ScheduleState, StoreError> {
        self.use_bucket(space.bucket()).await;
        let read = self.ask("read_schedule", || self.store.read_schedule(space)).await?;
        Ok(ScheduleState { at: self.ledger.place(space.bucket(), read.at), ..read })
    }

    async fn read_space(&self, space: SpaceKey) -> Result<SpaceState, StoreError> {
        self.use_bucket(space.bucket()).await;
        let read = self.ask("read_space", || self.store.read_space(space)).await?;
        Ok(SpaceState { at: self.ledger.place(space.bucket(), read.at), ..read })
    }

    async fn read_day(&self, space: SpaceKey, day: Day) -> Result<DayState, StoreError> {
        self.use_bucket(space.bucket()).await;
        let read = self.ask("read_day", || self.store.read_day(space, day)).await?;
        Ok(DayState { at: self.ledger.place(space.bucket(), read.at), ..read })
    }

    async fn sites_of(&self, space: SpaceId) -> Result<Vec<SiteId>, StoreError> {
        self.ask("sites_of", || self.store.sites_of(space)).await
    }

    async fn registered_spaces(&self) -> Result<Vec<SpaceKey>, StoreError> {
        self.ask("registered_spaces", || self.store.registered_spaces()).await
    }

    async fn schedules_of(&self, spaces: &[SpaceKey]) -> Result<Vec<Option<ScheduleSpec>>, StoreError> {
        self.ask("schedules_of", || self.store.schedules_of(spaces)).await
    }

    async fn bookings_of(&self, user: &UserId, from: Day, to: Day) -> Result<Vec<BookedSlot>, StoreError> {
        self.ask("bookings_of", || self.store.bookings_of(user, from, to)).await
    }

    async fn spaces_on(&self, site: SiteId, day: Day) -> Result<Vec<SpaceId>, StoreError> {
        self.ask("spaces_on", || self.store.spaces_on(site, day)).await
    }

    async fn holds_of(&self, user: &UserId) -> Result<Vec<HeldSlot>, StoreError> {
        self.ask("holds_of", || self.store.holds_of(user)).await
    }

    async fn messages_of(&self, user: &UserId, since: Option<u64>, bytes: usize) -> Result<UserBacklog, StoreError> {
        self.use_bucket(user.bucket()).await;
        self.ask("messages_of", || self.store.messages_of(user, since, bytes)).await
    }

    async fn read_log(&self, topic: Topic, since: &Position) -> Result<LogRead, StoreError> {
        let bucket = bucket_of(topic);
        self.use_bucket(bucket).await;
        loop {
            let true_since = self.true_position(topic, since).await?;
            let read = self.ask("read_log", || self.store.read_log(topic, &true_since)).await?;
            let head = match read {
                LogRead::Messages(messages) => {
                    messages.iter().for_each(|message| self.ledger.meet(topic, message));
                    return Ok(LogRead::Messages(messages.into_iter().map(as_one_epoch).collect()));
                }
                LogRead::Gone(head) => head,
            };
            if &*since.epoch == ONE_EPOCH && since.version <= head.version {
                if head.epoch != true_since.epoch {
                    // The slot moved between the two questions.
                    continue;
                }
                if let Some(messages) = self.read_through(topic, &true_since, &head).await {
                    return Ok(LogRead::Messages(first_portion(messages)));
                }
            }
            return Ok(LogRead::Gone(self.ledger.place(bucket, head)));
        }
    }

    async fn heads(&self, topics: &[Topic]) -> Result<Vec<Position>, StoreError> {
        for topic in topics {
            self.use_bucket(bucket_of(*topic)).await;
        }
        let heads = self.ask("heads", || self.store.heads(topics)).await?;
        Ok(topics.iter().zip(heads).map(|(topic, at)| self.ledger.place(bucket_of(*topic), at)).collect())
    }

    async fn read_journal(&self, bucket: Bucket, from: u64, limit: usize) -> Result<Vec<NumberedEntry>, StoreError> {
        self.use_bucket(bucket).await;
        self.ask("read_journal", || self.store.read_journal(bucket, from, limit)).await
    }

    async fn journal_tails(&self, buckets: &[Bucket]) -> Result<Vec<u64>, StoreError> {
        self.ask("journal_tails", || self.store.journal_tails(buckets)).await
    }

    async fn tell_taken(&self) -> Result<(), StoreError> {
        self.ask("tell_taken", || self.store.tell_taken()).await
    }

    async fn trim_journal(&self, bucket: Bucket) -> Result<(), StoreError> {
        self.ask("trim_journal", || self.store.trim_journal(bucket)).await
    }

    async fn kept_of(&self, user: &UserId) -> Result<KeptOfUser, StoreError> {
        self.ask("kept_of", || self.store.kept_of(user)).await
    }

    async fn begin_erasure(&self, user: &UserId) -> Result<UserId, StoreError> {
        self.use_bucket(user.bucket()).await;
        self.ask("begin_erasure", || self.store.begin_erasure(user)).await
    }

    async fn erase_in(&self, bucket: Bucket, erasure: &Erasure) -> Result<ErasureStep, StoreError> {
        self.use_bucket(bucket).await;
        self.ask("erase_in", || self.store.erase_in(bucket, erasure)).await
    }

    async fn end_erasure(&self, user: &UserId) -> Result<(), StoreError> {
        self.use_bucket(user.bucket()).await;
        self.ask("end_erasure", || self.store.end_erasure(user)).await
    }

    async fn reader_places(&self, reader: &str, buckets: &[Bucket]) -> Result<Vec<Option<String>>, StoreError> {
        self.ask("reader_places", || self.store.reader_places(reader, buckets)).await
    }

    async fn move_reader(
        &self,
        reader: &str,
        bucket: Bucket,
        known: Option<&str>,
        place: &str,
    ) -> Result<bool, StoreError> {
        self.use_bucket(bucket).await;
        self.ask("move_reader", || self.store.move_reader(reader, bucket, known, place)).await
    }

    async fn forget_read(&self, bucket: Bucket, before: u64, readers: &[(String, String)]) -> Result<bool, StoreError> {
        self.use_bucket(bucket).await;
        self.ask("forget_read", || self.store.forget_read(bucket, before, readers)).await
    }

    async fn take_reader_lease(
        &self,
        reader: &str,
        holder: &str,
        lease: Duration,
    ) -> Result<Option<Duration>, StoreError> {
        self.ask("take_reader_lease", || self.store.take_reader_lease(reader, holder, lease)).await
    }

    async fn report_node(&self, report: NodeReport, lease: Duration) -> Result<(), StoreError> {
        self.use_nodes().await;
        self.ask("report_node", || self.store.report_node(report.clone(), lease)).await
    }

    async fn nodes(&self) -> Result<Vec<NodeReport>, StoreError> {
        self.use_nodes().await;
        self.ask("nodes", || self.store.nodes()).await
    }

    async fn take_sweep_lease(&self, holder: &str, lease: Duration) -> Result<Option<Duration>, StoreError> {
        self.use_nodes().await;
        self.ask("take_sweep_lease", || self.store.take_sweep_lease(holder, lease)).await
    }

    async fn ping(&self) -> Result<StoreTime, StoreError> {
        self.ask("ping", || self.store.ping()).await
    }
}
