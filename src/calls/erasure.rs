//! Erasing a user: releases what the user has, and deletes what is kept under the user's id or moves it to a random id.
//!
//! Each step may be repeated. If a call ends in the middle, the next one continues: the store remembers the random id until
//! all buckets are done.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use utoipa::ToSchema;

use super::bookings::future_of;
use super::{origin_of, require_staff_everywhere};
use crate::app::App;
use crate::auth::Claims;
use crate::clock;
use crate::domain::act::MAX_SLOTS_PER_ACT;
use crate::domain::slot::SlotState;
use crate::domain::{Actor, Bucket, Code, Day, Refusal, SlotAct, SlotActKind, SlotTime, SpaceKey, UserId};
use crate::store::refuse::unavailable;
use crate::store::{ApplyError, DayState, Erasure, ErasureStep};
use crate::telemetry::request::current_id;
use crate::telemetry::users::logged;

/// How long one call works, which is less than a call may take. The next call does the rest.
const WORKS_FOR: Duration = Duration::from_secs(25);

/// The number of buckets that are erased at once.
const BUCKETS_AT_ONCE: usize = 8;

/// One sweep frees at most this many ended holds.
const SWEPT_AT_ONCE: usize = 500;

/// The pause before slots that could not be released are read again. The store's clock and this node's may differ by as
/// much.
const PAUSE: Duration = Duration::from_millis(50);

/// What was released before the user was erased, by this call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct ErasedAnswer {
    /// Slots that the user held.
    pub released: usize,
    /// Slots that the user had booked, and that had not started.
    pub cancelled: usize,
}

/// Erases a user; only staff of all sites may. If the user has bookings that have not started, answers `has_bookings`,
/// unless `force` cancels them. Answers `unavailable` if something is left to do: then the caller repeats the call.
pub async fn erase(app: &App, caller: &Claims, user: &UserId, force: bool) -> Result<ErasedAnswer, Refusal> {
    require_staff_everywhere(caller)?;
    let started = clock::instant();
    let mut freed = ErasedAnswer::default();
    let work = Work { app, caller, user, force };
    let result = tokio::time::timeout(WORKS_FOR, work.run(&mut freed)).await;
    let result = result.unwrap_or_else(|_| Err(Code::Unavailable.into())).map(|()| freed);
    work.tell(&result, freed, started);
    result
}

struct Work<'a> {
    app: &'a App,
    caller: &'a Claims,
    user: &'a UserId,
    force: bool,
}

impl Work<'_> {
    async fn run(&self, freed: &mut ErasedAnswer) -> Result<(), Refusal> {
        self.refuse_bookings().await?;
        let stand_in = self.app.store.begin_erasure(self.user).await.map_err(|error| unavailable(&error))?;
        let erasure = Erasure { user: self.user.clone(), stand_in };
        let mut left: Vec<Bucket> = Bucket::all().collect();
        while !left.is_empty() {
            self.free_all(freed).await?;
            let steps = stream::iter(left).map(|bucket| self.erase_bucket(bucket, &erasure));
            let taken: Vec<Option<Bucket>> = steps.buffer_unordered(BUCKETS_AT_ONCE).try_collect().await?;
            left = taken.into_iter().flatten().collect();
            if !left.is_empty() {
                self.sweep(&left).await?;
                tokio::time::sleep(PAUSE).await;
            }
        }
        self.app.store.end_erasure(self.user).await.map_err(|error| unavailable(&error))
    }

    /// Refuses a user with bookings that have not started, unless they are to be cancelled.
    async fn refuse_bookings(&self) -> Result<(), Refusal> {
        // Learns the store's time first: the store's clock decides which bookings have started.
        self.app.clock.learn(self.app.store.ping().await.map_err(|error| unavailable(&error))?);
        if !self.force && !future_of(self.app, self.user).await?.is_empty() {
            return Err(Code::HasBookings.into());
        }
        Ok(())
    }

    /// Erases what a bucket keeps. Answers the bucket if the user has slots in it that must be released first.
    async fn erase_bucket(&self, bucket: Bucket, erasure: &Erasure) -> Result<Option<Bucket>, Refusal> {
        loop {
            match self.app.store.erase_in(bucket, erasure).await.map_err(|error| unavailable(&error))? {
                ErasureStep::Done => return Ok(None),
                ErasureStep::More => {}
                ErasureStep::Taken => return Ok(Some(bucket)),
            }
        }
    }

    /// Releases all holds of the user, and cancels all bookings that have not started, as acts of the caller.
    async fn free_all(&self, freed: &mut ErasedAnswer) -> Result<(), Refusal> {
        self.refuse_bookings().await?;
        let held = self.app.store.holds_of(self.user).await.map_err(|error| unavailable(&error))?;
        let booked = future_of(self.app, self.user).await?;
        let mut places: BTreeSet<(SpaceKey, Day)> = held.iter().map(|slot| (slot.space, slot.day)).collect();
        places.extend(booked.iter().map(|slot| (slot.space, slot.day)));
        for (space, day) in places {
            let state = self.app.store.read_day(space, day).await.map_err(|error| unavailable(&error))?;
            let (held, booked) = slots_of(&state, self.user);
            freed.released += self.free(space, day, &state, &held).await?;
            if self.force {
                freed.cancelled += self.free(space, day, &state, &booked).await?;
            }
        }
        Ok(())
    }

    /// Releases slots of a day, and tells how many. Skips slots that are no longer the user's, or whose schedule has
    /// changed: the next round reads them again.
    async fn free(&self, space: SpaceKey, day: Day, state: &DayState, slots: &[SlotTime]) -> Result<usize, Refusal> {
        let mut freed = 0;
        for slots in slots.chunks(MAX_SLOTS_PER_ACT) {
            match self.app.store.apply(self.release(space, day, state, slots)).await {
                Ok(outcome) => {
                    self.app.acknowledged.note(space, &outcome.at);
                    freed += slots.len();
                }
                Err(ApplyError::Store(error)) => return Err(unavailable(&error)),
                Err(ApplyError::Refused(_) | ApplyError::Stale | ApplyError::InUse(_)) => {}
            }
        }
        Ok(freed)
    }

    /// The act that releases slots that the user holds or has booked. It takes nothing from other users, so nobody is
    /// sent `slot_taken`.
    fn release(&self, space: SpaceKey, day: Day, state: &DayState, slots: &[SlotTime]) -> SlotAct {
        let actor = Actor::User(self.user.clone());
        let kind =
            SlotActKind::Release { actor: actor.clone(), token: None, booked_by: Some(actor), cancel_before: None };
        let revision = state.revised_at();
        let origin = Some(origin_of(self.caller));
        SlotAct { space, day, slots: slots.to_vec(), revision, kind, idempotency: None, origin }
    }

    /// Frees ended holds in these buckets.
    async fn sweep(&self, buckets: &[Bucket]) -> Result<(), Refusal> {
        for bucket in buckets {
            let swept = self.app.store.sweep(*bucket, SWEPT_AT_ONCE).await.map_err(|error| unavailable(&error))?;
            self.app.metrics.freed.inc_by(swept.freed);
        }
        Ok(())
    }

    /// Counts and logs the outcome, without the user's id.
    fn tell(&self, result: &Result<ErasedAnswer, Refusal>, freed: ErasedAnswer, started: Instant) {
        let outcome = result.as_ref().err().map_or("ok", |refusal| refusal.code.as_str());
        self.app.metrics.erasures.with_label_values(&[outcome]).inc();
        let is_own = self.caller.user == *self.user;
        tracing::info!(
            outcome,
            actor.id = (!is_own).then(|| tracing::field::display(logged(&self.caller.user))),
            actor.role = self.caller.role.map(|role| role.as_str()),
            released = freed.released,
            cancelled = freed.cancelled,
            request.id = current_id().as_deref(),
            duration_ms = clock::instant().saturating_duration_since(started).as_micros() as f64 / 1_000.0,
            "a call to erase a user has ended"
        );
    }
}

/// The slots of a day that the user holds, and the ones that the user has booked and that have not started.
fn slots_of(state: &DayState, user: &UserId) -> (Vec<SlotTime>, Vec<SlotTime>) {
    let (mut held, mut booked) = (Vec::new(), Vec::new());
    for (number, record) in &state.records {
        match &record.state {
            SlotState::Held(hold) if hold.user == *user && state.now < hold.until => held.push(record.time(*number)),
            SlotState::Booked { user: Some(by), .. } if by == user && record.start > state.now => {
                booked.push(record.time(*number));
            }
            _ => {}
        }
    }
    (held, booked)
}
