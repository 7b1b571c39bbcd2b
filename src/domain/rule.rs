//! The state machine of slots: what an act does to a slot in each state. Only this file decides. The Redis scripts do
//! the same, and the conformance suite holds them to it.
//!
//! | act on | free | hold ended | held by the actor | held by others | booked by the actor | booked | blocked | past |
//! |---|---|---|---|---|---|---|---|---|
//! | hold | take | free, take | refuse, or repeat | refuse | refuse | refuse | refuse | refuse |
//! | book | refuse | refuse | book | refuse | repeat | refuse | refuse | refuse |
//! | release | refuse | refuse | release | refuse | staff: release; cancel | staff: release | refuse | refuse |
//! | extend | refuse | refuse | extend | refuse | refuse | refuse | refuse | refuse |
//! | update | set | free, set | set | set | set | set | set | refuse |
//! | expire | - | free | - | - | - | - | - | free |
//!
//! The user who booked a slot may cancel it until the configured time before its start. After that a cancellation is
//! `too_late`.
//!
//! A refused act changes nothing, not even an ended hold that it found. An act first writes one change for each ended
//! hold that it found, then one change a slot, in ascending order. Each change takes the next version.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::act::{SlotAct, SlotActKind, SlotTime, StaffStatus};
use super::refusal::Code;
use super::slot::{Hold, MAX_DAY_DATA_BYTES, SlotData, SlotRecord, SlotState, Status};
use super::{Actor, HoldToken, PublicState, Refusal, SlotNumber, StoreTime, UserId};

/// What the rule needs: the day's records, and the holds of the acting user in the whole space.
#[derive(Clone, Debug, Default)]
pub struct DayView {
    /// The stored slots of the day.
    pub records: BTreeMap<SlotNumber, SlotRecord>,
    /// The holds of the user of a `hold` act; not read for other acts.
    pub live_holds: LiveHolds,
}

/// How much a user holds in a space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LiveHolds {
    /// Live holds. One hold may have several slots.
    pub holds: u32,
    /// The slots of all live holds.
    pub slots: u32,
}

/// The decision about an act.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Write these, in this order.
    Write(Vec<Change>),
    /// The act was done before. It gets the first answer, and nothing is written.
    Repeat {
        /// The version of the last event that the first call caused.
        version: u64,
        /// The epoch of that version. `None` if it is not known: then the present epoch counts.
        epoch: Option<Arc<str>>,
        /// For a hold: its token and its first end.
        hold: Option<HoldAnswer>,
    },
}

/// One change of one slot.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The slot.
    pub slot: SlotTime,
    /// The new state. Its `first_version` is filled in once the version is known.
    pub state: SlotState,
    /// Whether the change frees an ended hold. Then it counts in `slots_freed`.
    pub freed: bool,
}

/// What `hold` and `extend` answer about the hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HoldAnswer {
    /// The token of the hold.
    pub token: HoldToken,
    /// The earliest end of the named slots.
    pub until: StoreTime,
}

/// Decides an act at `now`. The caller has checked that `act.slots` are distinct and ascending.
pub fn decide(view: &DayView, act: &SlotAct, now: StoreTime) -> Result<Decision, Refusal> {
    let slots = Slots { view, act, now };
    match &act.kind {
        SlotActKind::Hold { user, token, millis, max_holds, max_held } => {
            slots.hold(user, token, *millis, [*max_holds, *max_held])
        }
        SlotActKind::Book { actor, token } => slots.book(actor, token.as_ref()),
        SlotActKind::Release { actor, token, booked_by, cancel_before } => {
            slots.release(actor, token.as_ref(), booked_by.as_ref(), *cancel_before)
        }
        SlotActKind::Extend { user, token, millis, max_millis } => {
            slots.extend(user, token.as_ref(), *millis, *max_millis)
        }
        SlotActKind::Update { to, data, user } => slots.update(*to, data, user.as_ref()),
    }
}

/// The change that frees a slot if its hold has ended at `now`.
pub fn expire(number: SlotNumber, record: &SlotRecord, now: StoreTime) -> Option<Change> {
    record.ended_hold(now)?;
    let slot = SlotTime { number, start: record.start, end: record.end, label: record.label.clone() };
    Some(Change { slot, state: SlotState::Available { data: None }, freed: true })
}

/// The earliest end among the holds that the changes leave, with their token: the answer of `hold` and `extend`.
pub fn hold_answer(changes: &[Change]) -> Option<HoldAnswer> {
    let holds = changes.iter().filter_map(|change| match &change.state {
        SlotState::Held(hold) => Some(hold),
        _ => None,
    });
    holds.min_by_key(|hold| hold.until).map(|hold| HoldAnswer { token: hold.token.clone(), until: hold.until })
}

struct Slots<'a> {
    view: &'a DayView,
    act: &'a SlotAct,
    now: StoreTime,
}

impl Slots<'_> {
    /// `limits` are the most live holds and the most held slots.
    fn hold(
        &self,
        user: &UserId,
        token: &HoldToken,
        millis: i64,
        limits: [Option<u32>; 2],
    ) -> Result<Decision, Refusal> {
        if let Some(repeat) = self.same_hold(user) {
            return Ok(repeat);
        }
        self.refuse_where(Code::Past, |slot, _| slot.start <= self.now)?;
        self.refuse_where(Code::SlotUnavailable, |slot, record| self.status(slot, record) != Status::Available)?;
        let LiveHolds { holds, slots } = self.view.live_holds;
        let [max_holds, max_held] = limits;
        let held = (slots as usize).saturating_add(self.act.slots.len());
        if max_holds.is_some_and(|max| holds >= max) || max_held.is_some_and(|max| held > max as usize) {
            return Err(Code::TooManyHolds.into());
        }
        Ok(self.write(|slot, _| {
            let until = self.now.plus_millis(millis).min(slot.start);
            SlotState::Held(Hold {
                user: user.clone(),
                token: token.clone(),
                began: self.now,
                until,
                first_until: until,
                first_version: 0,
                first_epoch: None,
                length: Some(until.as_millis() - self.now.as_millis()),
            })
        }))
    }

    /// The first answer, if the named slots are exactly the slots of one live hold of the user.
    fn same_hold(&self, user: &UserId) -> Option<Decision> {
        let first = self.record(self.act.slots.first()?)?.live_hold(self.now)?;
        if first.user != *user {
            return None;
        }
        let held: Vec<(SlotNumber, &Hold)> = self
            .view
            .records
            .iter()
            .filter_map(|(number, record)| Some((*number, record.live_hold(self.now)?)))
            .filter(|(_, hold)| hold.token == first.token)
            .collect();
        let named = self.act.slots.iter().map(|slot| slot.number);
        if !named.eq(held.iter().map(|(number, _)| *number)) {
            return None;
        }
        let until = held.iter().map(|(_, hold)| hold.first_until).min()?;
        let (_, last) = held.iter().max_by_key(|(_, hold)| hold.first_version)?;
        let (version, epoch) = (last.first_version, last.first_epoch.clone());
        Some(Decision::Repeat { version, epoch, hold: Some(HoldAnswer { token: first.token.clone(), until }) })
    }

    fn book(&self, actor: &Actor, token: Option<&HoldToken>) -> Result<Decision, Refusal> {
        if let Some((version, epoch)) = self.booked_at(actor) {
            return Ok(Decision::Repeat { version, epoch, hold: None });
        }
        self.require_held(actor, token)?;
        Ok(self.write(|_, record| {
            let user = record.and_then(|record| record.live_hold(self.now)).map(|hold| hold.user.clone());
            SlotState::Booked { user, first_version: 0, first_epoch: None, booked_at: Some(self.now), data: None }
        }))
    }

    /// If the actor has booked all named slots: the last version under which one was booked, with its epoch.
    fn booked_at(&self, actor: &Actor) -> Option<(u64, Option<Arc<str>>)> {
        let positions = self.act.slots.iter().map(|slot| match &self.record(slot)?.state {
            SlotState::Booked { user, first_version, first_epoch, .. } => {
                is_actor(actor, user.as_ref()).then_some((*first_version, first_epoch.clone()))
            }
            _ => None,
        });
        positions.collect::<Option<Vec<_>>>()?.into_iter().max_by_key(|(version, _)| *version)
    }

    fn release(
        &self,
        actor: &Actor,
        token: Option<&HoldToken>,
        booked_by: Option<&Actor>,
        cancel_before: Option<i64>,
    ) -> Result<Decision, Refusal> {
        let as_staff = |record: &SlotRecord| booked_by.is_some_and(|actor| is_booked_by(record, actor));
        // A token names a hold, so with a token no booking is released.
        let cancel_before = cancel_before.filter(|_| token.is_none() && matches!(actor, Actor::User(_)));
        let cancels = |record: &SlotRecord| cancel_before.is_some() && is_booked_by(record, actor);
        self.require(actor, token, |record| as_staff(record) || cancels(record))?;
        self.refuse_where(Code::TooLate, |slot, record| {
            let Some((record, before)) = record.zip(cancel_before) else { return false };
            cancels(record) && !as_staff(record) && self.now > slot.start.plus_millis(-before)
        })?;
        Ok(self.write(|_, _| SlotState::Available { data: None }))
    }

    fn extend(
        &self,
        user: &UserId,
        token: Option<&HoldToken>,
        millis: i64,
        max_millis: i64,
    ) -> Result<Decision, Refusal> {
        self.require_held(&Actor::User(user.clone()), token)?;
        let wanted = self.now.plus_millis(millis);
        self.refuse_where(Code::HoldLimit, |_, record| {
            let hold = record.and_then(|record| record.live_hold(self.now));
            hold.is_some_and(|hold| wanted > hold.began.plus_millis(max_millis))
        })?;
        Ok(self.write(|slot, record| match record.and_then(|record| record.live_hold(self.now)) {
            Some(hold) => {
                // The answer has one token for all slots, so extending several holds joins them into one.
                let first = self.act.slots.iter().find_map(|slot| self.record(slot)?.live_hold(self.now));
                let token = first.unwrap_or(hold).token.clone();
                let until = wanted.min(slot.start);
                let length = Some(until.as_millis() - self.now.as_millis());
                SlotState::Held(Hold { until, token, length, ..hold.clone() })
            }
            None => SlotState::Available { data: None },
        }))
    }

    fn update(&self, to: StaffStatus, data: &Option<SlotData>, user: Option<&UserId>) -> Result<Decision, Refusal> {
        self.refuse_where(Code::Past, |slot, record| self.status(slot, record) == Status::Past)?;
        self.require_room(data.as_ref())?;
        Ok(self.write(|_, record| {
            let data = data.clone();
            match (to, record.map(|record| &record.state)) {
                (StaffStatus::Available, _) => SlotState::Available { data },
                (StaffStatus::Blocked, _) => SlotState::Blocked { data },
                (
                    StaffStatus::Booked,
                    Some(SlotState::Booked { user: of, first_version, first_epoch, booked_at, .. }),
                ) if user.is_none() || user == of.as_ref() => {
                    let (user, first_version, first_epoch) = (of.clone(), *first_version, first_epoch.clone());
                    SlotState::Booked { user, first_version, first_epoch, booked_at: *booked_at, data }
                }
                (StaffStatus::Booked, _) => {
                    let (user, booked_at) = (user.cloned(), Some(self.now));
                    SlotState::Booked { user, first_version: 0, first_epoch: None, booked_at, data }
                }
            }
        }))
    }

    /// Refuses staff's object if the day's data would exceed its bound.
    fn require_room(&self, data: Option<&SlotData>) -> Result<(), Refusal> {
        let bytes_of = |record: &SlotRecord| record.data().map_or(0, SlotData::byte_count);
        let replaced: usize = self.act.slots.iter().filter_map(|slot| self.record(slot)).map(bytes_of).sum();
        let added = data.map_or(0, SlotData::byte_count) * self.act.slots.len();
        if added <= replaced {
            return Ok(());
        }
        let before: usize = self.view.records.values().map(bytes_of).sum();
        let fits = before - replaced + added <= MAX_DAY_DATA_BYTES;
        if fits { Ok(()) } else { Err(Code::TooLarge.into()) }
    }

    fn require_held(&self, actor: &Actor, token: Option<&HoldToken>) -> Result<(), Refusal> {
        self.require(actor, token, |_| false)
    }

    /// Refuses the act unless each named slot is held live by the actor (and under the token, if one was sent), or `also`
    /// allows it.
    fn require(
        &self,
        actor: &Actor,
        token: Option<&HoldToken>,
        also: impl Fn(&SlotRecord) -> bool,
    ) -> Result<(), Refusal> {
        let code = if token.is_some() { Code::HoldExpired } else { Code::NotHeld };
        self.refuse_where(code, |_, record| {
            let Some(record) = record else { return true };
            let held = record.live_hold(self.now).is_some_and(|hold| {
                is_actor(actor, Some(&hold.user)) && token.is_none_or(|token| *token == hold.token)
            });
            !held && !also(record)
        })
    }

    fn refuse_where(
        &self,
        code: Code,
        stands_in_the_way: impl Fn(&SlotTime, Option<&SlotRecord>) -> bool,
    ) -> Result<(), Refusal> {
        let in_the_way = self.act.slots.iter().filter(|slot| stands_in_the_way(slot, self.record(slot)));
        let conflicts: Vec<SlotNumber> = in_the_way.map(|slot| slot.number).collect();
        if conflicts.is_empty() { Ok(()) } else { Err(Refusal::of_slots(code, conflicts)) }
    }

    /// Writes the ended holds of the named slots first, then the act itself.
    fn write(&self, becomes: impl Fn(&SlotTime, Option<&SlotRecord>) -> SlotState) -> Decision {
        let ended = |slot: &&SlotTime| self.record(slot).is_some_and(|record| record.ended_hold(self.now).is_some());
        let freed = self.act.slots.iter().filter(ended).map(|slot| Change {
            slot: slot.clone(),
            state: SlotState::Available { data: None },
            freed: true,
        });
        let acted = self.act.slots.iter().map(|slot| Change {
            slot: slot.clone(),
            state: becomes(slot, self.record(slot)),
            freed: false,
        });
        Decision::Write(freed.chain(acted).collect())
    }

    /// The slot's status by the present schedule. The record may have the start of an earlier schedule.
    fn status(&self, slot: &SlotTime, record: Option<&SlotRecord>) -> Status {
        record.map_or(PublicState::Available, |record| PublicState::from(&record.state)).status(slot.start, self.now)
    }

    fn record(&self, slot: &SlotTime) -> Option<&SlotRecord> {
        self.view.records.get(&slot.number)
    }
}

fn is_booked_by(record: &SlotRecord, actor: &Actor) -> bool {
    matches!(&record.state, SlotState::Booked { user, .. } if is_actor(actor, user.as_ref()))
}

fn is_actor(actor: &Actor, user: Option<&UserId>) -> bool {
    match actor {
        Actor::User(actor) => user == Some(actor),
        Actor::Anyone => true,
    }
}

/// Counts the holds of a user in records, for [`DayView::live_holds`].
pub fn count_live_holds<'a>(records: impl Iterator<Item = &'a SlotRecord>, user: &UserId, now: StoreTime) -> LiveHolds {
    let own = records.filter_map(|record| record.live_hold(now)).filter(|hold| hold.user == *user);
    let (mut tokens, mut slots) = (HashSet::new(), 0);
    for hold in own {
        tokens.insert(&hold.token);
        slots += 1;
    }
    LiveHolds { holds: u32::try_from(tokens.len()).unwrap_or(u32::MAX), slots }
}
