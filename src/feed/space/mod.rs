//! One task for each watched space. It owns the members, and nothing else sends them the space's events.
//!
//! The task sends an event, a snapshot or a replay at its own position: before it sends a snapshot of version `v`, it
//! brings all other members to `v`. So no socket sees an old state after a new one. If that would take long, the member
//! that asks is shown the store's state and is *ahead*: it gets no event up to that version.
//!
//! `commands` has the requests of sockets, `events` the events to them, `snapshots` the boards, `batch` the work that
//! is done together, and `due` the work at set times.
//! together, and `due` what is done at set times.

mod batch;
mod commands;
mod due;
mod events;
mod snapshots;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::boards::Boards;
use super::days::Days;
use super::follower::Follower;
use super::{Feed, Interest, Joined, Member, MemberId};
use crate::clock::{StoreClock, sleep_until};
use crate::domain::{Day, Refusal, Schedule, SpaceKey};
use crate::store::Topic;
use batch::Batch;
use commands::refuse_waiting;

/// How long the task outlives its last member, so that a reloaded page finds it.
const LINGER: Duration = Duration::from_secs(10);

/// Snapshots that all members need at once are spread over this time.
const SPREAD: Duration = Duration::from_secs(2);

/// How long a member without room for missed events may take to read, before it is sent a snapshot.
const ROOM_AFTER: Duration = Duration::from_millis(250);

/// How many members are sent an event before other tasks may run.
const FAN_OUT_CHUNK: usize = 256;

/// A request of a socket to the task.
pub(super) enum Command {
    Join { member: Arc<dyn Member>, interest: Interest, answer: oneshot::Sender<Result<Joined, Refusal>> },
    Sync { member: MemberId, interest: Interest, answer: oneshot::Sender<Result<Joined, Refusal>> },
    Leave { member: MemberId, answer: oneshot::Sender<()> },
}

/// How events arrive.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// One by one, as they happen.
    Live,
    /// In one burst, because they were missed.
    Burst,
}

struct Watcher {
    member: Arc<dyn Member>,
    /// The day that the member last asked for.
    day: Option<Day>,
    /// Whether the member needs a snapshot before any further event.
    is_behind: bool,
    /// The version of the task's epoch up to which the member was already shown everything. The other members still have to
    /// get these events.
    ahead: Option<u64>,
}

pub(super) struct SpaceTask {
    feed: Feed,
    space: SpaceKey,
    follower: Follower,
    watchers: HashMap<MemberId, Watcher>,
    member_count: Arc<AtomicUsize>,
    /// The members to send snapshots to, by the time at which they get them.
    snapshots: BTreeMap<Instant, Vec<MemberId>>,
    /// The days that staff wants shown, each with the members that were in the room at that time.
    to_show: Vec<(Day, Vec<MemberId>)>,
    days: Days,
    boards: Boards,
    empty_since: Instant,
    /// The schedule at the last read. Slot starts follow from it.
    schedule: Option<Arc<Schedule>>,
    clock: StoreClock,
    batch: Batch,
}

impl SpaceTask {
    /// Runs until nobody watches the space.
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
                    tracing::warn!(space.id = %space, %error, "cannot watch a space");
                    refuse_waiting(&mut commands);
                    if feed.retire(space, &mut commands) {
                        return;
                    }
                }
            }
        };
        // The task hears of changes from here on. Anything read before may be outdated.
        feed.app.catalog.forget_unless_at(space, follower.at());
        feed.app.metrics.feed_topics.inc();
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
            clock: StoreClock::default(),
            batch: Batch::none(),
        };
        while task.step(&mut commands).await {}
    }

    /// Waits for one thing and does it. Answers `false` at the task's end.
    async fn step(&mut self, commands: &mut mpsc::UnboundedReceiver<Command>) -> bool {
        let due = self.next_due();
        let linger_end = self.linger_end();
        tokio::select! {
            () = sleep_until(due) => self.do_what_is_due().await,
            heard = self.follower.hear() => {
                self.take_heard(heard).await;
                // A command gets a turn after each event, so that events cannot crowd commands out.
                if let Ok(command) = commands.try_recv() {
                    self.obey_all(command, commands).await;
                }
            }
            command = commands.recv() => match command {
                Some(command) => {
                    self.obey_all(command, commands).await;
                    // An event gets a turn after each command, so that commands cannot crowd events out.
                    if let Some(heard) = self.follower.hear().now_or_never() {
                        self.take_heard(heard).await;
                    }
                }
                None => return false,
            },
            () = sleep_until(linger_end) => return !self.feed.retire(self.space, commands),
        }
        true
    }

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
    /// Closes the remaining members, for example after a panic, so that none of them believes that it still watches.
    fn drop(&mut self) {
        self.feed.app.metrics.feed_topics.dec();
        self.member_count.fetch_sub(self.watchers.len(), Ordering::Relaxed);
        for watcher in self.watchers.values() {
            watcher.member.abandon();
        }
    }
}
