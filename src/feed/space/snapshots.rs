//! The boards that members are shown. To show them, the task must know the schedule and the store's time, and its
//! position must be the store's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::SpaceTask;
use super::batch::Batch;
use crate::domain::refusal::Code;
use crate::domain::{Day, OwnTerms, Position, Refusal, Schedule, StoreTime};
use crate::feed::own::DaySnapshot;
use crate::feed::{MemberId, boards};
use crate::spaces::catalog::Board;
use crate::store::Topic;
use crate::store::refuse::unavailable;

/// The pause after the store did not give a snapshot.
const RETRY: Duration = Duration::from_millis(500);

/// How many times a snapshot is read again because the space changed during the read.
const ATTEMPTS: u32 = 8;

/// The steps over which snapshots that all members need at once are spread. Each step costs at most one read for each
/// day.
const SPREAD_STEPS: u32 = 20;

/// If members lack at most this many changes, all of them are moved forward for one member that asks.
const NEAR: u64 = 16;

/// A snapshot, and the position that it shows.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) snapshot: Arc<DaySnapshot>,
    pub(super) at: Position,
}

impl SpaceTask {
    /// A snapshot of a day, from the task's memory or else from the store. Requests of one batch share a snapshot.
    pub(super) async fn snapshot(&mut self, day: Day) -> Result<Shown, Refusal> {
        let known = self.boards.shared(day);
        let known = if known.is_none() && self.is_current() { self.show(day)? } else { known };
        match known {
            Some(snapshot) => Ok(Shown { snapshot, at: self.follower.at().clone() }),
            None => self.read_snapshot(day).await,
        }
    }

    /// A snapshot of a day from the store. If the task is far behind the store, it is shown only to the member that asked.
    pub(super) async fn read_snapshot(&mut self, day: Day) -> Result<Shown, Refusal> {
        if let Some(shown) = self.batch.ahead.get(&day).filter(|shown| self.is_ahead(&shown.at)) {
            return Ok(shown.clone());
        }
        for _ in 0..ATTEMPTS {
            let Board { state, schedule } = self.feed.app.catalog.read_board_or_none(self.space, day).await?;
            // This comes first: the next step takes a while, after which the store's clock would seem to be behind.
            self.clock.learn(state.now);
            let at = self.meet(&state.at).await?;
            if at != state.at {
                continue;
            }
            if at != *self.follower.at() {
                let terms = self.own_terms();
                let snapshot = boards::show_once(self.space, day, schedule.as_deref(), state, terms)?;
                let shown = Shown { snapshot, at };
                self.batch.ahead.insert(day, shown.clone());
                return Ok(shown);
            }
            self.batch.reach(&self.feed, self.space);
            // This comes last: an event on the way here may have changed the schedule and made the task forget it.
            self.learn(schedule);
            self.boards.learn(day, state);
            if let Some(snapshot) = self.show(day)? {
                return Ok(Shown { snapshot, at });
            }
        }
        Err(Refusal::because(Code::Unavailable, "the space changed while it was read; try again"))
    }

    /// Whether events that are still to come will bring the task to a position.
    pub(super) fn is_ahead(&self, at: &Position) -> bool {
        self.ahead_at(at).is_some()
    }

    /// The version of a position that is ahead of the task.
    pub(super) fn ahead_at(&self, at: &Position) -> Option<u64> {
        let task = self.follower.at();
        (at.epoch == task.epoch && at.version > task.version).then_some(at.version)
    }

    /// The snapshot of a day that the task knows.
    fn show(&mut self, day: Day) -> Result<Option<Arc<DaySnapshot>>, Refusal> {
        let now = self.store_now().max(self.batch.begun);
        let terms = self.own_terms();
        self.boards.show(day, self.schedule.as_deref(), self.follower.at(), now, terms)
    }

    /// What users are told of their own slots.
    pub(super) fn own_terms(&self) -> OwnTerms {
        self.feed.app.config.holds.own_terms()
    }

    /// Whether a remembered board may be shown. A board depends on the time, so the clock must be recent, too.
    fn is_current(&self) -> bool {
        self.is_confirmed() && self.clock.is_fresh()
    }

    pub(super) async fn today(&mut self) -> Result<Day, Refusal> {
        self.learn_schedule().await?;
        Ok(self.schedule.clone().unwrap_or_default().today(self.store_now()))
    }

    /// Reads the schedule if it is not known.
    pub(super) async fn learn_schedule(&mut self) -> Result<(), Refusal> {
        if self.schedule.is_some() {
            return Ok(());
        }
        let schedule = match self.feed.app.catalog.resolve(self.space).await {
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
        self.clock.told_now().unwrap_or_else(|| self.feed.app.clock.now())
    }

    /// The space's head. With `may_remember`, the task's own position serves if it may count as the head.
    pub(super) async fn find_head(&mut self, may_remember: bool) -> Result<Position, Refusal> {
        if may_remember && (self.batch.is_at_head || self.is_confirmed()) {
            return Ok(self.follower.at().clone());
        }
        if let Some(head) = self.batch.head.as_ref().filter(|head| self.is_ahead(head)) {
            return Ok(head.clone());
        }
        let store = self.feed.app.store.clone();
        let head = store.head_of(Topic::Space(self.space)).await.map_err(|error| unavailable(&error))?;
        let at = self.meet(&head).await?;
        if at == *self.follower.at() {
            self.batch.is_at_head = true;
            self.batch.reach(&self.feed, self.space);
        }
        self.batch.head = Some(at.clone());
        Ok(at)
    }

    /// Brings all members to a position that the store has just shown. If that would take long, it brings only the member
    /// that asked, so that this member does not wait for all the others. Answers the position of the member that asked.
    pub(super) async fn meet(&mut self, target: &Position) -> Result<Position, Refusal> {
        let is_far = self.ahead_at(target).is_some_and(|version| version > self.follower.at().version + NEAR);
        if is_far {
            return Ok(target.clone());
        }
        self.bring_to(target).await?;
        Ok(self.follower.at().clone())
    }

    /// Delivers to the members what they lack up to `target`. If continuity was lost on the way, `target` is not reached,
    /// and all members will get a snapshot.
    pub(super) async fn bring_to(&mut self, target: &Position) -> Result<(), Refusal> {
        loop {
            let (steps, is_done) = self.follower.bring_towards(target).await.map_err(|error| unavailable(&error))?;
            self.take(steps).await;
            if is_done {
                return Ok(());
            }
        }
    }

    /// Holds back events from all members until each has a snapshot, and spreads the snapshots over a time. Leaves out
    /// members that were already shown what `version` brought.
    pub(super) fn put_all_behind(&mut self, spread: Duration, version: Option<u64>) {
        self.snapshots.clear();
        let now = Instant::now();
        for (id, watcher) in &mut self.watchers {
            if version.is_some() && watcher.ahead >= version {
                watcher.ahead = watcher.ahead.filter(|ahead| Some(*ahead) > version);
            } else {
                watcher.is_behind = true;
                watcher.ahead = None;
            }
            self.snapshots.entry(now + random_step(spread)).or_default().push(*id);
        }
    }

    pub(super) async fn send_snapshots(&mut self, members: Vec<MemberId>) {
        self.begin_batch();
        let mut by_day: BTreeMap<Option<Day>, Vec<MemberId>> = BTreeMap::new();
        for id in members {
            match self.watchers.get(&id) {
                // The member was shown something newer than this snapshot would be.
                Some(watcher) if watcher.ahead.is_some() => {
                    self.snapshots.entry(Instant::now() + RETRY).or_default().push(id);
                }
                Some(watcher) => by_day.entry(watcher.day).or_default().push(id),
                None => {}
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
                Ok(shown) => self.send_snapshot(&members, &shown),
                Err(refusal) => {
                    tracing::warn!(space.id = %self.space, %refusal, "cannot read a snapshot; will try again");
                    self.snapshots.entry(Instant::now() + RETRY).or_default().extend(members);
                }
            }
        }
        self.end_batch();
    }

    fn send_snapshot(&mut self, members: &[MemberId], shown: &Shown) {
        let ahead = self.ahead_at(&shown.at);
        for id in members {
            if let Some(watcher) = self.watchers.get_mut(id) {
                shown.snapshot.send_to(watcher.member.as_ref());
                watcher.is_behind = false;
                watcher.ahead = ahead;
            }
        }
        self.count_snapshots(members.len());
    }

    /// Sends the room the boards that staff wants shown. Members that were shown something newer get them once the others
    /// have reached that version.
    pub(super) async fn show_boards(&mut self) {
        if self.to_show.is_empty() {
            return;
        }
        self.begin_batch();
        for (day, members) in std::mem::take(&mut self.to_show) {
            let is_ahead = |id: &MemberId| self.watchers.get(id).is_some_and(|watcher| watcher.ahead.is_some());
            let (later, now): (Vec<MemberId>, Vec<MemberId>) = members.into_iter().partition(is_ahead);
            if !later.is_empty() {
                self.to_show.push((day, later));
            }
            if now.is_empty() {
                continue;
            }
            match self.snapshot(day).await {
                Ok(shown) => self.send_board(&now, &shown),
                Err(refusal) => tracing::warn!(space.id = %self.space, %refusal, "cannot show a board"),
            }
        }
        self.end_batch();
    }

    /// Sends a board to members that did not ask for it. A member that waits for a snapshot keeps waiting.
    fn send_board(&mut self, members: &[MemberId], shown: &Shown) {
        let ahead = self.ahead_at(&shown.at);
        for watcher in members.iter().filter_map(|id| self.watchers.get(id)) {
            shown.snapshot.send_to(watcher.member.as_ref());
        }
        if ahead.is_some() {
            members.iter().for_each(|id| {
                if let Some(watcher) = self.watchers.get_mut(id) {
                    watcher.ahead = ahead;
                }
            });
        }
        self.count_snapshots(members.len());
    }

    fn count_snapshots(&self, recipients: usize) {
        let metrics = &self.feed.app.metrics;
        metrics.feed_snapshots.inc_by(recipients as u64);
        metrics.count_event_out("slots_status_update", recipients as u64);
        tracing::info!(event.name = "slots_status_update", room = self.space.room(), recipients, "broadcast");
    }

    pub(super) fn begin_batch(&mut self) {
        self.batch = Batch::begin(&self.feed, self.space, self.store_now());
    }

    /// See [`Batch::is_confirmed`].
    pub(super) fn is_confirmed(&self) -> bool {
        self.batch.is_confirmed(&self.feed, &self.follower)
    }

    pub(super) fn end_batch(&mut self) {
        self.boards.pass(&self.days);
    }

    pub(super) fn forget_schedule(&mut self) {
        self.feed.app.catalog.forget(self.space);
        self.schedule = None;
        self.boards.forget();
        self.days.forget_schedule();
    }
}

pub(super) fn random_step(spread: Duration) -> Duration {
    (spread / SPREAD_STEPS) * fastrand::u32(0..SPREAD_STEPS)
}
