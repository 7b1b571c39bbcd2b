//! The boards that a space's members are shown, and what has to be known for that: the schedule, the store's time, and
//! that the task is where the store is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::time::Instant;

use super::batch::Batch;
use super::{SpaceTask, unavailable};
use crate::calls::catalog::Board;
use crate::domain::event::Position;
use crate::domain::refusal::Code;
use crate::domain::{Day, Refusal, Schedule, StoreTime};
use crate::feed::MemberId;
use crate::store::Topic;

/// After how long a snapshot that the store could not give is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// How many times a snapshot is read again because the space changed underneath.
const ATTEMPTS: u32 = 8;

/// In how many steps snapshots that everybody needs at once are spread: at most one read a step and day.
const SPREAD_STEPS: u32 = 20;

impl SpaceTask {
    /// A day's snapshot at the task's position: of what the task knows, or else of what the store has. One that was made
    /// in this batch is shared.
    pub(super) async fn snapshot(&mut self, day: Day) -> Result<Arc<RawValue>, Refusal> {
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
            self.batch.reach(self.feed.shared(), self.space);
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

    pub(super) async fn today(&mut self) -> Result<Day, Refusal> {
        self.learn_schedule().await?;
        Ok(self.schedule.clone().unwrap_or_default().today(self.store_now()))
    }

    /// Reads the schedule, unless it is known.
    pub(super) async fn learn_schedule(&mut self) -> Result<(), Refusal> {
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

    pub(super) fn store_now(&self) -> StoreTime {
        self.clock.now().unwrap_or_else(|| self.feed.shared().app.catalog.store_now())
    }

    pub(super) async fn bring_to_head(&mut self) -> Result<(), Refusal> {
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
        self.batch.reach(self.feed.shared(), self.space);
        Ok(())
    }

    /// Delivers to the members what they lack up to `target`. A position that is not reached means that continuity was
    /// lost on the way, and everybody is to get a snapshot.
    pub(super) async fn bring_to(&mut self, target: &Position) -> Result<(), Refusal> {
        let steps = self.follower.bring_to(target).await.map_err(unavailable)?;
        self.take(steps).await;
        Ok(())
    }

    /// Lets no member have an event before a snapshot, and spreads these over a time.
    pub(super) fn put_all_behind(&mut self, spread: Duration) {
        self.snapshots.clear();
        let now = Instant::now();
        for (id, watcher) in &mut self.watchers {
            watcher.is_behind = true;
            self.snapshots.entry(now + random_step(spread)).or_default().push(*id);
        }
    }

    pub(super) async fn send_snapshots(&mut self, members: Vec<MemberId>) {
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
    pub(super) async fn show_boards(&mut self) {
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

    pub(super) fn begin_batch(&mut self) {
        self.batch = Batch::begin(self.feed.shared(), self.space, self.store_now());
    }

    /// See [`Batch::is_confirmed`].
    pub(super) fn is_confirmed(&self) -> bool {
        self.batch.is_confirmed(self.feed.shared(), &self.follower)
    }

    pub(super) fn end_batch(&mut self) {
        self.boards.pass(&self.days);
    }

    pub(super) fn forget_schedule(&mut self) {
        self.feed.shared().app.catalog.forget(self.space);
        self.schedule = None;
        self.boards.forget();
        self.days.forget_schedule();
    }
}

pub(super) fn random_step(spread: Duration) -> Duration {
    (spread / SPREAD_STEPS) * fastrand::u32(0..SPREAD_STEPS)
}
