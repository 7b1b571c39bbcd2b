//! One task a watched space. It owns the members and is the only one that sends them the space's events.
//!
//! Whatever a member is sent — an event, a snapshot, a replay — is sent at the task's position: before a snapshot of
//! version `v` goes out, the task has brought everybody else to `v`. So no socket sees an old state after a new one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::boards::Boards;
use super::clock::BoardClock;
use super::days::Days;
use super::follower::{Follower, Step};
use super::payload::{age_of, joined_space};
use super::{Feed, Interest, Joined, Member, MemberId};
use crate::calls::catalog::Board;
use crate::domain::event::Position;
use crate::domain::refusal::Code;
use crate::domain::{Day, Refusal, Schedule, SpaceKey, StoreTime};
use crate::store::{LogRead, Message, MessageKind, ShowBoard, StoreError, Topic};

/// How long the task outlives its last member, so that a page that is loaded again finds it.
const LINGER: Duration = Duration::from_secs(10);

/// Over how long the snapshots that everybody needs at once are spread.
const SPREAD: Duration = Duration::from_secs(2);

/// In how many steps they are: at most one read a step and day.
const SPREAD_STEPS: u32 = 20;

/// After how long a snapshot that the store could not give is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// How many times a snapshot is read again because the space changed underneath.
const ATTEMPTS: u32 = 8;

/// How many commands are done before events are looked at again.
const COMMANDS_AT_ONCE: usize = 256;

/// How many members are sent an event before other tasks may run.
const FAN_OUT_CHUNK: usize = 256;

/// What sockets ask of the task.
pub(super) enum Command {
    Join { member: Arc<dyn Member>, interest: Interest, answer: oneshot::Sender<Result<Joined, Refusal>> },
    Sync { member: MemberId, interest: Interest, answer: oneshot::Sender<Result<Joined, Refusal>> },
    Leave { member: MemberId, answer: oneshot::Sender<()> },
}

struct Watcher {
    member: Arc<dyn Member>,
    /// The day that it last asked for.
    day: Option<Day>,
    /// It needs a snapshot before any further event.
    is_behind: bool,
}

pub(super) struct SpaceTask {
    feed: Feed,
    space: SpaceKey,
    follower: Follower,
    watchers: HashMap<MemberId, Watcher>,
    member_count: Arc<AtomicUsize>,
    /// Snapshots to send, by when.
    snapshots: BTreeMap<Instant, Vec<MemberId>>,
    /// Days that staff wants shown to the room.
    to_show: Vec<Day>,
    days: Days,
    boards: Boards,
    empty_since: Instant,
    /// The schedule as of the last read; slot starts follow from it.
    schedule: Option<Arc<Schedule>>,
    clock: BoardClock,
    batch: Batch,
}

/// What is done together: commands, or snapshots that are due. All of it was asked for before the batch began.
struct Batch {
    begun: StoreTime,
    /// Up to where the node had answered then.
    acknowledged: Vec<Position>,
    /// Whether the head was read, and reached, since then.
    is_at_head: bool,
}

impl SpaceTask {
    /// Runs until nobody watches the space any more.
    pub(super) async fn run(
        feed: Feed,
        space: SpaceKey,
        mut commands: mpsc::UnboundedReceiver<Command>,
        member_count: Arc<AtomicUsize>,
    ) {
        let follower = loop {
            match Follower::start(feed.shared().clone(), Topic::Space(space)).await {
                Ok(follower) => break follower,
                Err(error) => {
                    tracing::warn!(space = %space, %error, "cannot watch a space");
                    refuse_waiting(&mut commands);
                    if feed.retire(space, &mut commands) {
                        return;
                    }
                }
            }
        };
        // From here on it hears of changes; what was read before may be old.
        feed.shared().app.catalog.forget_unless_at(space, follower.at());
        feed.shared().app.metrics.feed_topics.inc();
        let mut task = Self {
            feed,
            space,
            follower,
            watchers: HashMap::new(),
            member_count,
            snapshots: BTreeMap::new(),
            to_show: Vec::new(),
            days: Days::default(),
            boards: Boards::new(space),
            schedule: None,
            empty_since: Instant::now(),
            clock: BoardClock::default(),
            batch: Batch { begun: StoreTime::from_millis(0), acknowledged: Vec::new(), is_at_head: false },
        };
        while task.step(&mut commands).await {}
    }

    /// Waits for one thing and does it; `false` when the task has ended.
    async fn step(&mut self, commands: &mut mpsc::UnboundedReceiver<Command>) -> bool {
        let due = self.next_due();
        let linger_end = self.linger_end();
        tokio::select! {
            () = sleep_until(due) => self.do_what_is_due().await,
            heard = self.follower.hear() => {
                let steps = self.follower.take(heard).await;
                self.take(steps).await;
                self.show_boards().await;
            }
            command = commands.recv() => match command {
                Some(command) => self.obey_all(command, commands).await,
                None => return false,
            },
            () = sleep_until(linger_end) => return !self.feed.retire(self.space, commands),
        }
        true
    }

    // --- Events

    /// Sends on what the follower says.
    async fn take(&mut self, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Deliver(message) => self.deliver(&message).await,
                Step::Restarted => {
                    self.forget_schedule();
                    self.put_all_behind(SPREAD);
                }
            }
        }
    }

    async fn deliver(&mut self, message: &Message) {
        match message.kind {
            MessageKind::SlotUpdate => {
                self.boards.apply(&message.payload);
                self.send_to_room(message).await;
            }
            MessageKind::SpaceChanged => {
                self.forget_schedule();
                self.put_all_behind(Duration::ZERO);
            }
            MessageKind::ShowBoard => match serde_json::from_str::<ShowBoard>(message.payload.get()) {
                Ok(show) => self.to_show.push(show.date),
                Err(error) => tracing::error!(space = %self.space, %error, "an unreadable command in the feed"),
            },
            other => tracing::error!(space = %self.space, kind = other.name(), "not a message of a space"),
        }
    }

    async fn send_to_room(&mut self, message: &Message) {
        let mut recipients = 0;
        for watcher in self.watchers.values().filter(|watcher| !watcher.is_behind) {
            watcher.member.send("slot_update", &message.payload);
            recipients += 1;
            if recipients % FAN_OUT_CHUNK == 0 {
                tokio::task::yield_now().await;
            }
        }
        let metrics = &self.feed.shared().app.metrics;
        metrics.count_event_out("slot_update", recipients as u64);
        if let Some(seconds) = age_of(&message.payload) {
            metrics.feed_lag_seconds.observe(seconds);
        }
        tracing::info!(
            event.name = "slot_update",
            room = self.space.room(),
            recipients,
            version = message.at.version,
            "broadcast"
        );
    }

    // --- Commands

    /// Does a command and those that already wait behind it: a crowd that joins shares its reads.
    ///
    /// What comes meanwhile is left for the next time: its sender may know of a newer version than a read that was
    /// made before it came. And events get their turn, however many join.
    async fn obey_all(&mut self, first: Command, commands: &mut mpsc::UnboundedReceiver<Command>) {
        let mut waiting = vec![first];
        while waiting.len() < COMMANDS_AT_ONCE
            && let Ok(next) = commands.try_recv()
        {
            waiting.push(next);
        }
        self.begin_batch();
        for command in waiting {
            self.obey(command).await;
        }
        self.end_batch();
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Join { member, interest, answer } => {
                let joined = self.join(member, interest).await;
                let _ = answer.send(joined);
            }
            Command::Sync { member, interest, answer } => {
                let synced = self.sync(member, interest).await;
                let _ = answer.send(synced);
            }
            Command::Leave { member, answer } => {
                self.remove(member);
                let _ = answer.send(());
            }
        }
    }

    async fn join(&mut self, member: Arc<dyn Member>, interest: Interest) -> Result<Joined, Refusal> {
        let id = member.id();
        let prepared = self.prepare(&member, &interest).await?;
        let joined = Joined { at: self.follower.at().clone(), recovered: matches!(prepared, Prepared::Replay(_)) };
        member.send("joined_space", &joined_space(self.space, &joined, self.store_now()));
        self.feed.shared().app.metrics.count_event_out("joined_space", 1);
        self.place(id, member, interest.day, prepared);
        Ok(joined)
    }

    async fn sync(&mut self, id: MemberId, interest: Interest) -> Result<Joined, Refusal> {
        let Some(member) = self.watchers.get(&id).map(|watcher| watcher.member.clone()) else {
            return Err(not_joined());
        };
        let prepared = self.prepare(&member, &interest).await?;
        let recovered = matches!(prepared, Prepared::Replay(_));
        self.place(id, member, interest.day, prepared);
        Ok(Joined { at: self.follower.at().clone(), recovered })
    }

    /// Puts a member where `prepared` brings it, and sends it that. From here on it gets every event.
    fn place(&mut self, id: MemberId, member: Arc<dyn Member>, day: Option<Day>, prepared: Prepared) {
        let before = self.watchers.remove(&id);
        if before.is_none() {
            self.member_count.fetch_add(1, Ordering::Relaxed);
        }
        let (day_before, was_behind) = before.map_or((None, false), |watcher| (watcher.day, watcher.is_behind));
        let day = day.or(day_before);
        // Asked for before it is given up, so that a start of a slot that is due stays due.
        if let Some(day) = day {
            // As of the beginning: a slot that has started since may not be past yet in what was shown.
            self.days.ask_for(day, self.schedule.as_deref(), self.batch.begun);
        }
        if let Some(before) = day_before {
            self.days.give_up(before);
        }
        // One that waits for a snapshot and joins again without asking for anything still waits for it.
        let is_behind = was_behind && matches!(prepared, Prepared::Nothing);
        self.watchers.insert(id, Watcher { member, day, is_behind });
        self.send_prepared(id, prepared);
    }

    /// Reads what a socket is to be sent, and brings everybody else to the same position.
    async fn prepare(&mut self, member: &Arc<dyn Member>, interest: &Interest) -> Result<Prepared, Refusal> {
        if interest.day.is_some() {
            self.learn_schedule().await?;
        }
        if interest.since.as_ref() == Some(self.follower.at()) && self.is_confirmed() {
            return Ok(Prepared::Replay(Vec::new()));
        }
        if let Some(since) = &interest.since
            && let Some(replay) = self.read_replay(since).await?
            && member.admits_replay(replay.len(), replay.iter().map(|message| message.payload.get().len()).sum())
        {
            if interest.day.is_some() {
                // What came with the replay may have made it forgotten, and the day's slot starts follow from it.
                self.learn_schedule().await?;
            }
            return Ok(Prepared::Replay(replay));
        }
        if interest.since.is_none() && interest.day.is_none() {
            self.bring_to_head().await?;
            return Ok(Prepared::Nothing);
        }
        let known = self.watchers.get(&member.id()).and_then(|watcher| watcher.day);
        let day = match interest.day.or(known) {
            Some(day) => day,
            None => self.today().await?,
        };
        Ok(Prepared::Snapshot(self.snapshot(day).await?))
    }

    /// The missed updates, or `None` when they are not all in the log, or not all that was missed is an update.
    async fn read_replay(&mut self, since: &Position) -> Result<Option<Vec<Message>>, Refusal> {
        let store = self.feed.shared().app.store.clone();
        let read = store.read_log(Topic::Space(self.space), since).await.map_err(unavailable)?;
        let messages = match read {
            LogRead::Messages(messages) => messages,
            LogRead::Gone(head) => {
                // The store may have lost writes: what the task knows is not to be shown for what there is.
                self.bring_to(&head).await?;
                return Ok(None);
            }
        };
        let target = messages.last().map_or(since, |message| &message.at).clone();
        self.bring_to(&target).await?;
        let is_exact = *self.follower.at() == target;
        let all_updates = messages.iter().all(|message| message.kind == MessageKind::SlotUpdate);
        Ok((is_exact && all_updates).then_some(messages))
    }

    fn send_prepared(&mut self, member: MemberId, prepared: Prepared) {
        let Some(watcher) = self.watchers.get(&member) else { return };
        let metrics = &self.feed.shared().app.metrics;
        match prepared {
            Prepared::Nothing => {}
            Prepared::Snapshot(payload) => {
                watcher.member.send("slots_status_update", &payload);
                metrics.feed_snapshots.inc();
                metrics.count_event_out("slots_status_update", 1);
            }
            Prepared::Replay(messages) => {
                messages.iter().for_each(|message| watcher.member.send("slot_update", &message.payload));
                metrics.count_event_out("slot_update", messages.len() as u64);
            }
        }
    }

    // --- Snapshots

    /// A day's snapshot at the task's position: of what the task knows, or else of what the store has. One that was made
    /// in this batch is shared.
    async fn snapshot(&mut self, day: Day) -> Result<Arc<RawValue>, Refusal> {
        if let Some(payload) = self.boards.shared(day) {
            return Ok(payload);
        }
        if self.is_current()
            && let Some(payload) = self.show(day)?
        {
            return Ok(payload);
        }
        for _ in 0..ATTEMPTS {
            let Board { state, schedule } = self.feed.shared().app.catalog.read_board_or_none(self.space, day).await?;
            // At once: what follows takes its time, and the store's clock would seem to be behind by that much.
            self.clock.learn(state.now);
            self.bring_to(&state.at).await?;
            if *self.follower.at() != state.at {
                continue;
            }
            self.reach_acknowledged();
            // Only now: a change of the schedule on the way there made the task forget what it knew.
            self.learn(schedule);
            self.boards.learn(day, state);
            if let Some(payload) = self.show(day)? {
                return Ok(payload);
            }
        }
        Err(Refusal::because(Code::Unavailable, "the space changes too fast to be read"))
    }

    /// The snapshot of a day that the task knows.
    fn show(&mut self, day: Day) -> Result<Option<Arc<RawValue>>, Refusal> {
        let now = self.store_now().max(self.batch.begun);
        self.boards.show(day, self.schedule.as_deref(), self.follower.at(), now)
    }

    /// Whether a board that the task knows may be shown: a board depends on the time, too.
    fn is_current(&self) -> bool {
        self.is_confirmed() && self.clock.is_fresh()
    }

    /// Whether the task's position may pass for the head: the store has confirmed it lately, and nothing that this node
    /// had answered before the batch began is missing in it. Something newer may be on its way; whoever is told the
    /// position gets that next.
    fn is_confirmed(&self) -> bool {
        let health = &self.feed.shared().app.health;
        let at = self.follower.at();
        let is_reached = |noted: &Position| noted.epoch == at.epoch && noted.version <= at.version;
        // A store that may lose writes without telling is asked each time.
        health.is_store_reachable()
            && !health.is_unfenced()
            && self.follower.is_in_step()
            && self.batch.acknowledged.iter().all(is_reached)
    }

    /// The store was read in this batch, and everybody is brought there.
    fn reach_acknowledged(&mut self) {
        let reached = std::mem::take(&mut self.batch.acknowledged);
        if !reached.is_empty() {
            self.feed.shared().app.acknowledged.reach(self.space, &reached);
        }
    }

    fn begin_batch(&mut self) {
        let acknowledged = self.feed.shared().app.acknowledged.last(self.space);
        self.batch = Batch { begun: self.store_now(), acknowledged, is_at_head: false };
    }

    fn end_batch(&mut self) {
        self.boards.pass(&self.days);
    }

    async fn today(&mut self) -> Result<Day, Refusal> {
        self.learn_schedule().await?;
        Ok(self.schedule.clone().unwrap_or_default().today(self.store_now()))
    }

    /// Reads the schedule, unless it is known.
    async fn learn_schedule(&mut self) -> Result<(), Refusal> {
        if self.schedule.is_some() {
            return Ok(());
        }
        let schedule = match self.feed.shared().app.catalog.resolve(self.space).await {
            Ok(resolved) => Some(resolved.schedule),
            Err(refusal) if refusal.code == Code::SpaceNotFound => None,
            Err(refusal) => return Err(refusal),
        };
        self.learn(schedule);
        Ok(())
    }

    fn learn(&mut self, schedule: Option<Arc<Schedule>>) {
        let is_known = match (&self.schedule, &schedule) {
            (Some(known), Some(read)) => Arc::ptr_eq(known, read),
            _ => false,
        };
        self.schedule = schedule;
        if !is_known {
            self.boards.forget();
            self.days.learn(self.schedule.as_deref(), self.store_now());
        }
    }

    fn store_now(&self) -> StoreTime {
        self.clock.now().unwrap_or_else(|| self.feed.shared().app.catalog.store_now())
    }

    async fn bring_to_head(&mut self) -> Result<(), Refusal> {
        if self.batch.is_at_head || self.is_confirmed() {
            return Ok(());
        }
        let store = self.feed.shared().app.store.clone();
        let heads = store.heads(&[Topic::Space(self.space)]).await.map_err(unavailable)?;
        match heads.first() {
            Some(head) => self.bring_to(head).await?,
            None => return Err(Code::Unavailable.into()),
        }
        self.batch.is_at_head = true;
        self.reach_acknowledged();
        Ok(())
    }

    /// Delivers to the members what they lack up to `target`. A position that is not reached means that continuity was
    /// lost on the way, and everybody is to get a snapshot.
    async fn bring_to(&mut self, target: &Position) -> Result<(), Refusal> {
        let steps = self.follower.bring_to(target).await.map_err(unavailable)?;
        self.take(steps).await;
        Ok(())
    }

    /// Lets no member have an event before a snapshot, and spreads these over a time.
    fn put_all_behind(&mut self, spread: Duration) {
        self.snapshots.clear();
        let now = Instant::now();
        for (id, watcher) in &mut self.watchers {
            watcher.is_behind = true;
            self.snapshots.entry(now + random_step(spread)).or_default().push(*id);
        }
    }

    async fn send_snapshots(&mut self, members: Vec<MemberId>) {
        self.begin_batch();
        let mut by_day: BTreeMap<Option<Day>, Vec<MemberId>> = BTreeMap::new();
        for id in members {
            if let Some(watcher) = self.watchers.get(&id) {
                by_day.entry(watcher.day).or_default().push(id);
            }
        }
        for (day, members) in by_day {
            let read = match day {
                Some(day) => self.snapshot(day).await,
                None => match self.today().await {
                    Ok(day) => self.snapshot(day).await,
                    Err(refusal) => Err(refusal),
                },
            };
            match read {
                Ok(payload) => self.send_snapshot(&members, &payload),
                Err(refusal) => {
                    tracing::warn!(space = %self.space, %refusal, "cannot read a snapshot; will try again");
                    self.snapshots.entry(Instant::now() + RETRY).or_default().extend(members);
                }
            }
        }
        self.end_batch();
    }

    fn send_snapshot(&mut self, members: &[MemberId], payload: &RawValue) {
        for id in members {
            if let Some(watcher) = self.watchers.get_mut(id) {
                watcher.member.send("slots_status_update", payload);
                watcher.is_behind = false;
            }
        }
        self.count_snapshots(members.len());
    }

    /// Sends the boards that staff wants shown to the whole room.
    async fn show_boards(&mut self) {
        if self.to_show.is_empty() {
            return;
        }
        self.begin_batch();
        for day in std::mem::take(&mut self.to_show) {
            let payload = match self.snapshot(day).await {
                Ok(payload) => payload,
                Err(refusal) => {
                    tracing::warn!(space = %self.space, %refusal, "cannot show a board");
                    continue;
                }
            };
            self.watchers.values().for_each(|watcher| watcher.member.send("slots_status_update", &payload));
            self.count_snapshots(self.watchers.len());
        }
        self.end_batch();
    }

    fn count_snapshots(&self, recipients: usize) {
        let metrics = &self.feed.shared().app.metrics;
        metrics.feed_snapshots.inc_by(recipients as u64);
        metrics.count_event_out("slots_status_update", recipients as u64);
        tracing::info!(event.name = "slots_status_update", room = self.space.room(), recipients, "broadcast");
    }

    // --- Time

    fn next_due(&self) -> Option<Instant> {
        let snapshot = self.snapshots.keys().next().copied();
        let start = self.days.next_start().map(|start| self.instant_of(start));
        snapshot.into_iter().chain(start).min()
    }

    async fn do_what_is_due(&mut self) {
        self.start_slots();
        let later = self.snapshots.split_off(&(Instant::now() + Duration::from_nanos(1)));
        let due = std::mem::replace(&mut self.snapshots, later);
        let members = due.into_values().flatten().collect::<Vec<_>>();
        if !members.is_empty() {
            self.send_snapshots(members).await;
        }
    }

    /// Plans a snapshot for everybody who asked for a day of which a slot has started.
    fn start_slots(&mut self) {
        let now = self.store_now();
        for day in self.days.take_started(self.schedule.as_deref(), now) {
            for (id, _) in self.watchers.iter().filter(|(_, watcher)| watcher.day == Some(day)) {
                self.snapshots.entry(Instant::now() + random_step(SPREAD)).or_default().push(*id);
            }
        }
    }

    fn forget_schedule(&mut self) {
        self.feed.shared().app.catalog.forget(self.space);
        self.schedule = None;
        self.boards.forget();
        self.days.forget_schedule();
    }

    /// When an instant of the store's clock comes, on this node's. A little later than exactly, so that a snapshot read
    /// then shows the slot as past.
    fn instant_of(&self, time: StoreTime) -> Instant {
        Instant::now() + self.store_now().until(time) + Duration::from_millis(2)
    }

    // --- Members

    fn remove(&mut self, member: MemberId) {
        let Some(watcher) = self.watchers.remove(&member) else { return };
        self.member_count.fetch_sub(1, Ordering::Relaxed);
        if let Some(day) = watcher.day {
            self.days.give_up(day);
        }
        if self.watchers.is_empty() {
            self.empty_since = Instant::now();
        }
    }

    fn linger_end(&self) -> Option<Instant> {
        self.watchers.is_empty().then(|| self.empty_since + LINGER)
    }
}

impl Drop for SpaceTask {
    /// However the task ends, nobody is left who believes to be watching: after a panic the members are closed.
    fn drop(&mut self) {
        self.feed.shared().app.metrics.feed_topics.dec();
        self.member_count.fetch_sub(self.watchers.len(), Ordering::Relaxed);
        for watcher in self.watchers.values() {
            watcher.member.abandon();
        }
    }
}

/// What a socket is to be sent after `joined_space`.
enum Prepared {
    Nothing,
    Snapshot(Arc<RawValue>),
    Replay(Vec<Message>),
}

fn refuse_waiting(commands: &mut mpsc::UnboundedReceiver<Command>) {
    while let Ok(command) = commands.try_recv() {
        match command {
            Command::Join { answer, .. } | Command::Sync { answer, .. } => {
                let _ = answer.send(Err(Code::Unavailable.into()));
            }
            Command::Leave { answer, .. } => {
                let _ = answer.send(());
            }
        }
    }
}

fn not_joined() -> Refusal {
    Refusal::because(Code::NotFound, "join_space first")
}

fn unavailable(error: StoreError) -> Refusal {
    tracing::warn!(%error, "the store could not be read");
    Code::Unavailable.into()
}

fn random_step(spread: Duration) -> Duration {
    (spread / SPREAD_STEPS) * fastrand::u32(0..SPREAD_STEPS)
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
