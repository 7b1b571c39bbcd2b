//! Properties of the rule that hold for any acts in any order, while time passes.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;
use serde_json::value::RawValue;
use slotcast::domain::act::StaffStatus;
use slotcast::domain::event::{self, Viewer};
use slotcast::domain::rule::{self, Change, DayView, Decision};
use slotcast::domain::slot::{Hold, SlotState};
use slotcast::domain::{
    Actor, Code, Day, HoldToken, Position, PublicChange, PublicDay, Refusal, SiteId, SlotAct, SlotActKind, SlotData,
    SlotNumber, SlotRecord, SlotTime, SpaceId, SpaceKey, Status, StoreTime, UserId,
};

const SLOTS: u64 = 5;
const MAX_HOLDS: u32 = 2;
const MAX_MILLIS: i64 = 2_000;

/// An act that somebody wants, some time after the act before it.
#[derive(Clone, Debug)]
struct Wish {
    after_millis: i64,
    /// One bit for each slot. At least one bit is set.
    slots: u8,
    kind: WishKind,
}

#[derive(Clone, Debug)]
enum WishKind {
    Hold { user: u8, millis: i64 },
    Book { user: Option<u8>, with_token: Option<u8> },
    Release { user: Option<u8>, as_staff: Option<bool>, cancel_before: Option<i64> },
    Extend { user: u8, millis: i64 },
    Update { to: StaffStatus, with_data: bool },
}

fn wishes() -> impl Strategy<Value = Vec<Wish>> {
    let user = 0..3_u8;
    let anyone = prop_oneof![4 => user.clone().prop_map(Some), 1 => Just(None)];
    let kind = prop_oneof![
        6 => (user.clone(), 1..900_i64).prop_map(|(user, millis)| WishKind::Hold { user, millis }),
        3 => (anyone.clone(), prop_oneof![3 => Just(None), 1 => (0..60_u8).prop_map(Some)])
            .prop_map(|(user, with_token)| WishKind::Book { user, with_token }),
        3 => (anyone, any::<Option<bool>>(), prop::option::of(0..4_000_i64)).prop_map(|(user, as_staff, cancel_before)| {
            WishKind::Release { user, as_staff, cancel_before }
        }),
        2 => (user, 1..900_i64).prop_map(|(user, millis)| WishKind::Extend { user, millis }),
        1 => (prop_oneof![
            Just(StaffStatus::Available),
            Just(StaffStatus::Booked),
            Just(StaffStatus::Blocked),
        ], any::<bool>()).prop_map(|(to, with_data)| WishKind::Update { to, with_data }),
    ];
    let wish = (prop_oneof![Just(0), 0..400_i64], 1..(1_u8 << SLOTS), kind)
        .prop_map(|(after_millis, slots, kind)| Wish { after_millis, slots, kind });
    prop::collection::vec(wish, 1..60)
}

/// A store without storage: the records, and their version.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    records: BTreeMap<SlotNumber, SlotRecord>,
    version: u64,
}

impl Model {
    fn view(&self, act: &SlotAct, now: StoreTime) -> DayView {
        let live_holds = match &act.kind {
            SlotActKind::Hold { user, .. } => rule::count_live_holds(self.records.values(), user, now),
            _ => rule::LiveHolds::default(),
        };
        DayView { records: self.records.clone(), live_holds }
    }

    fn decide(&self, act: &SlotAct, now: StoreTime) -> Result<Decision, Refusal> {
        rule::decide(&self.view(act, now), act, now)
    }

    fn write(&mut self, changes: &[Change]) {
        for change in changes {
            self.version += 1;
            let mut state = change.state.clone();
            state.fill_first(&"epoch".into(), self.version);
            let SlotTime { number, start, end, label } = change.slot.clone();
            self.records.insert(number, SlotRecord { state, version: self.version, start, end, label });
        }
    }

    fn status(&self, slot: &SlotTime, now: StoreTime) -> Status {
        let free = SlotState::Available { data: None };
        let state = self.records.get(&slot.number).map_or(&free, |record| &record.state);
        slotcast::domain::slot::status_of(state, slot.start, now)
    }

    /// Who has a slot at an instant, by a live hold or a booking.
    fn owner(&self, number: SlotNumber, now: StoreTime) -> Option<UserId> {
        let record = self.records.get(&number)?;
        match &record.state {
            SlotState::Booked { user, .. } => user.clone(),
            _ => record.live_hold(now).map(|hold| hold.user.clone()),
        }
    }
}

fn user(index: u8) -> UserId {
    UserId::new(&format!("u{index}")).unwrap()
}

fn actor(index: Option<u8>) -> Actor {
    index.map_or(Actor::Anyone, |index| Actor::User(user(index)))
}

fn token(step: u8) -> HoldToken {
    HoldToken::from_random([step; 16])
}

fn day() -> Day {
    Day::parse("2026-11-23").unwrap()
}

fn slots_of_the_day() -> Vec<SlotTime> {
    let slot = |n: u64| {
        let start = StoreTime::from_millis(n as i64 * 1_500);
        SlotTime { number: SlotNumber::new(n).unwrap(), start, end: start.plus_millis(1_500), label: "00:00".into() }
    };
    (1..=SLOTS).map(slot).collect()
}

fn staff_data() -> SlotData {
    serde_json::from_str(r#"{"price": 1.10, "note": "Sala \"blu\"", "n": 12345678901234567890123}"#).unwrap()
}

fn act_of(wish: &Wish, step: u8) -> SlotAct {
    let slots = slots_of_the_day().into_iter();
    let named = slots.filter(|slot| wish.slots & (1 << (slot.number.get() - 1)) != 0);
    let kind = match wish.kind.clone() {
        WishKind::Hold { user: index, millis } => SlotActKind::Hold {
            user: user(index),
            token: token(step),
            millis,
            max_holds: Some(MAX_HOLDS),
            max_held: None,
        },
        WishKind::Book { user, with_token } => SlotActKind::Book { actor: actor(user), token: with_token.map(token) },
        WishKind::Release { user, as_staff, cancel_before } => {
            let booked_by = as_staff.map(|of_all| if of_all { Actor::Anyone } else { actor(user) });
            SlotActKind::Release { actor: actor(user), token: None, booked_by, cancel_before }
        }
        WishKind::Extend { user: index, millis } => {
            SlotActKind::Extend { user: user(index), token: None, millis, max_millis: MAX_MILLIS }
        }
        WishKind::Update { to, with_data } => {
            // Half of the updates to `booked` book for a user.
            let of = (to == StaffStatus::Booked && wish.slots.is_multiple_of(2)).then(|| user(0));
            SlotActKind::Update { to, data: with_data.then(staff_data), user: of }
        }
    };
    SlotAct {
        space: SpaceKey { site: SiteId::new(1).unwrap(), space: SpaceId::new(1).unwrap() },
        day: day(),
        slots: named.collect(),
        revision: None,
        kind,
        idempotency: None,
        origin: None,
    }
}

/// An act makes one change for each slot that it names, in ascending order. Before them come the changes of holds that
/// have ended.
fn check_changes(model: &Model, act: &SlotAct, changes: &[Change], now: StoreTime) -> Result<(), TestCaseError> {
    let ended = act.slots.iter().map(|slot| slot.number);
    let ended = ended.filter(|n| model.records.get(n).is_some_and(|record| record.ended_hold(now).is_some()));
    let expected: Vec<(SlotNumber, bool)> =
        ended.map(|n| (n, true)).chain(act.slots.iter().map(|slot| (slot.number, false))).collect();
    let got: Vec<(SlotNumber, bool)> = changes.iter().map(|change| (change.slot.number, change.freed)).collect();
    prop_assert_eq!(got, expected);
    for change in changes {
        if change.freed {
            prop_assert_eq!(&change.state, &SlotState::Available { data: None });
        }
        if let SlotState::Held(Hold { began, until, .. }) = &change.state {
            prop_assert!(*until <= change.slot.start, "ends after the start");
            prop_assert!(now < *until && *began <= now, "is not live");
            prop_assert!(until.as_millis() - began.as_millis() <= MAX_MILLIS, "lasts too long");
        }
    }
    Ok(())
}

/// A user's act changes no slot that another user has. Staff may release bookings.
fn check_owners(before: &Model, after: &Model, act: &SlotAct, now: StoreTime) -> Result<(), TestCaseError> {
    let actor = match &act.kind {
        SlotActKind::Hold { user, .. } | SlotActKind::Extend { user, .. } => Actor::User(user.clone()),
        SlotActKind::Book { actor, .. } | SlotActKind::Release { actor, .. } => actor.clone(),
        SlotActKind::Update { .. } => return Ok(()),
    };
    let releases_bookings = matches!(act.kind, SlotActKind::Release { booked_by: Some(Actor::Anyone), .. });
    for slot in &act.slots {
        let (had, has) = (before.owner(slot.number, now), after.owner(slot.number, now));
        match &actor {
            Actor::User(actor) => {
                let is_released = releases_bookings && before.status(slot, now) == Status::Booked;
                if had.is_some() && had.as_ref() != Some(actor) && !is_released {
                    prop_assert_eq!(&has, &had, "another's slot was changed");
                }
                prop_assert!(has.is_none() || has.as_ref() == Some(actor) || has == had);
            }
            Actor::Anyone => prop_assert!(has.is_none() || has == had, "a slot went to another user"),
        }
    }
    for (number, record) in &before.records {
        if !act.slots.iter().any(|slot| slot.number == *number) {
            prop_assert_eq!(Some(record), after.records.get(number), "a slot that was not named");
        }
    }
    Ok(())
}

/// Applies a change's event to a day, as a node that only hears the space does.
fn hear(known: &mut PublicDay, act: &SlotAct, change: &Change, version: u64, now: StoreTime) {
    let at = Position { epoch: "e".into(), version };
    let update = RawValue::from_string(event::slot_update(act.space, act.day, change, &at, now)).unwrap();
    let heard = PublicChange::read(&update).unwrap();
    assert_eq!((heard.day, heard.number), (act.day, change.slot.number));
    known.insert(heard.number, heard.slot);
}

/// A listener who heard every event shows the same day as the store, now and at any later time.
fn check_heard(model: &Model, known: &PublicDay, now: StoreTime) -> Result<(), TestCaseError> {
    let slots = slots_of_the_day();
    for later in [0, 1, 300, 900, 4_000, 9_000] {
        let at = now.plus_millis(later);
        let stored = event::board(&slots, &model.records, at, &Viewer::Anyone, true);
        let heard = event::board(&slots, known, at, &Viewer::Anyone, true);
        prop_assert_eq!(event::to_json(&heard), event::to_json(&stored), "{} ms later", later);
    }
    Ok(())
}

/// A repeat straight after the act has the act's answer.
fn check_repeat(model: &Model, act: &SlotAct, changes: &[Change], now: StoreTime) -> Result<(), TestCaseError> {
    let hold = match &act.kind {
        SlotActKind::Hold { .. } => rule::hold_answer(changes),
        SlotActKind::Book { .. } => None,
        _ => return Ok(()),
    };
    let repeated = act.clone();
    let expected = Decision::Repeat { version: model.version, epoch: Some("epoch".into()), hold };
    prop_assert_eq!(model.decide(&repeated, now), Ok(expected));
    Ok(())
}

/// A refusal names slots of the act. A hold is refused only if something stands in its way.
fn check_refusal(model: &Model, act: &SlotAct, refusal: &Refusal, now: StoreTime) -> Result<(), TestCaseError> {
    prop_assert!(refusal.conflicts.is_sorted());
    for conflict in &refusal.conflicts {
        prop_assert!(act.slots.iter().any(|slot| slot.number == *conflict));
    }
    prop_assert_eq!(refusal.conflicts.is_empty(), refusal.code == Code::TooManyHolds);
    let SlotActKind::Hold { user, .. } = &act.kind else { return Ok(()) };
    let all_free = act.slots.iter().all(|slot| model.status(slot, now) == Status::Available);
    let live = rule::count_live_holds(model.records.values(), user, now);
    prop_assert!(!all_free || live.holds >= MAX_HOLDS, "a hold of free slots was refused: {}", refusal);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn the_rule_holds_whatever_is_wished(wishes in wishes()) {
        let mut model = Model::default();
        let mut known = PublicDay::new();
        let mut now = StoreTime::from_millis(0);
        for (step, wish) in wishes.iter().enumerate() {
            now = now.plus_millis(wish.after_millis);
            let act = act_of(wish, step as u8);
            let before = model.clone();
            match model.decide(&act, now) {
                Ok(Decision::Write(changes)) => {
                    check_changes(&before, &act, &changes, now)?;
                    model.write(&changes);
                    for (change, version) in changes.iter().zip(before.version + 1..) {
                        hear(&mut known, &act, change, version, now);
                    }
                    prop_assert_eq!(model.version, before.version + changes.len() as u64);
                    check_owners(&before, &model, &act, now)?;
                    check_repeat(&model, &act, &changes, now)?;
                }
                Ok(Decision::Repeat { version, .. }) => prop_assert!(version <= model.version && version > 0),
                Err(refusal) => check_refusal(&model, &act, &refusal, now)?,
            }
            check_heard(&model, &known, now)?;
            // At most one user has a slot, by one live hold or one booking.
            for (number, record) in &model.records {
                if record.live_hold(now).is_some() {
                    prop_assert!(record.start > now, "slot {} is held after its start", number);
                }
            }
            let holders: HashMap<&HoldToken, &UserId> = model.records.values()
                .filter_map(|record| record.live_hold(now)).map(|hold| (&hold.token, &hold.user)).collect();
            for hold in model.records.values().filter_map(|record| record.live_hold(now)) {
                prop_assert_eq!(holders.get(&hold.token), Some(&&hold.user), "two users share a token");
            }
        }
    }
}
