//! What every store must do, whichever it is: the guarantees of [`slotcast::store::SlotStore`], each as a case.
//!
//! A store takes part with a [`StoreFactory`] and one line: `store_conformance!(its_module, ItsFactory);`. Cases use real
//! time and short holds; where one must wait, it waits until the store's own clock has passed an instant.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use serde_json::Value;
use serde_json::value::RawValue;
use slotcast::domain::act::{Idempotency, StaffStatus};
use slotcast::domain::schedule::ScheduleSpec;
use slotcast::domain::slot::SlotState;
use slotcast::domain::{
    Actor, Bucket, Code, Day, HoldToken, Position, Schedule, SiteId, SlotAct, SlotActKind, SlotData, SlotNumber,
    SlotTime, SpaceId, SpaceKey, Status, StoreTime, UserId,
};
use slotcast::store::{
    ActOutcome, ApplyError, CALLS_KEPT, DisconnectUser, EveryoneMessage, FreedSlots, LOG_LENGTH, LOG_PORTION, LogRead,
    Message, MessageKind, NodeReport, Publication, ShowBoard, Signal, SlotStore, SpaceChange, Subscriptions, Topic,
    USER_LOG_LENGTH, UserMessage, is_portion, read_whole_log,
};

use crate::support::repeat_of;

/// Makes stores for the cases.
#[async_trait]
pub trait StoreFactory: Send + Sync + Sized {
    /// Starts with a store of its own that has nothing in it.
    async fn start() -> Self;

    /// A way to the store; where several nodes may share one, each is another node's.
    async fn open(&self) -> Handles;

    /// Ends all there is of the store except what it keeps durably. The caller has dropped its handles.
    async fn restart(&mut self);

    /// How much longer than usual, in ms, a few acts may take on a busy machine: where a case acts on something before it
    /// ends.
    fn slack_millis(&self) -> i64 {
        1_500
    }
}

/// The two faces of a store.
#[derive(Clone)]
pub struct Handles {
    /// State.
    pub store: Arc<dyn SlotStore>,
    /// Announcements.
    pub subscriptions: Arc<dyn Subscriptions>,
}

/// Runs every case with a factory, each as a test, in a module of the given name.
#[macro_export]
macro_rules! store_conformance {
    ($module:ident, $factory:ty) => {
        $crate::conformance_cases!(store_conformance, @cases $module, $factory);
    };
    (@cases $module:ident, $factory:ty, $($case:ident),* $(,)?) => {
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    use $crate::store_conformance::StoreFactory;
                    $crate::store_conformance::$case(<$factory>::start().await).await;
                }
            )*
        }
    };
}

/// Hands the names of all cases to another macro, after what it is to get before them.
#[macro_export]
macro_rules! conformance_cases {
    ($handler:ident, $($before:tt)*) => {
        $crate::$handler! { $($before)*,
            every_cell_of_the_rule_table,
            a_version_is_one_message_heard_in_order,
            nodes_are_told_who_has_a_slot,
            several_slots_are_one_act,
            one_slot_that_is_taken_refuses_them_all,
            an_ended_hold_is_freed_by_the_next,
            an_ended_hold_found_by_a_refused_act_stays,
            a_repeated_hold_answers_as_the_first,
            a_repeated_book_answers_as_the_first,
            an_extension_moves_the_end_up_to_the_limit,
            holds_of_one_user_become_one_when_extended,
            a_hold_never_ends_after_the_start,
            what_has_started_is_past,
            a_slot_that_moved_is_judged_by_its_present_start,
            too_many_holds_are_counted_over_all_days,
            held_slots_are_counted_over_all_holds,
            the_data_of_a_day_is_bounded,
            a_repeat_that_changes_nothing_is_not_kept,
            the_last_calls_of_a_caller_are_kept,
            a_token_must_be_that_of_the_hold,
            staff_data_stays_until_the_next_change,
            an_idempotency_key_answers_as_the_first_time,
            a_refusal_is_not_kept_under_its_key,
            an_act_on_another_schedule_is_stale,
            a_space_is_put_changed_and_removed,
            a_change_that_moves_a_taken_slot_is_refused_whole,
            acts_that_move_nothing_do_not_disturb_a_change,
            holds_that_ended_are_freed_before_a_change,
            what_stays_is_told_by_its_present_hour,
            taken_slots_are_those_of_the_future,
            a_log_is_exact_or_gone,
            a_log_keeps_its_last_changes,
            a_log_of_large_changes_is_read_in_portions,
            a_node_goes_on_with_a_bucket_where_it_was,
            a_day_of_large_slots_is_read_as_of_one_version,
            two_sweepers_free_each_hold_once,
            a_sweep_is_bounded_and_tells_what_is_left,
            an_extended_hold_is_swept_at_its_new_end,
            messages_to_a_user_wait_for_the_user,
            a_user_keeps_the_last_messages,
            publications_reach_their_topics,
            holds_of_a_user_are_the_live_ones,
            bookings_of_a_user_are_those_of_the_days_asked_for,
            spaces_with_something_on_a_day_are_known,
            what_is_registered_is_listed,
            a_booking_is_cancelled_until_some_time_before_its_start,
            staff_book_for_a_user,
            a_read_never_mixes_two_versions,
            nodes_are_told_until_their_lease_ends,
            random_acts_of_many_never_collide,
            a_restart_keeps_everything,
        }
    };
}

// What cases are made of.

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

/// A store with the words to act on it.
struct Bench {
    store: Arc<dyn SlotStore>,
    subscriptions: Arc<dyn Subscriptions>,
    /// The store's time when the case began.
    began: StoreTime,
    /// How much longer than usual, in ms, a few acts may take.
    slack: i64,
}

async fn bench(factory: &impl StoreFactory) -> Bench {
    let Handles { store, subscriptions } = factory.open().await;
    let began = store.ping().await.unwrap();
    Bench { store, subscriptions, began, slack: factory.slack_millis() }
}

fn space(number: u64) -> SpaceKey {
    SpaceKey { site: SiteId::new(1).unwrap(), space: SpaceId::new(number).unwrap() }
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn number(number: u64) -> SlotNumber {
    SlotNumber::new(number).unwrap()
}

/// A day of the far future: what a store forgets by date does not concern it.
fn day() -> Day {
    Day::parse("2090-05-05").unwrap()
}

fn token(name: &str) -> HoldToken {
    let mut bytes = [0; 16];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    HoldToken::from_random(bytes)
}

fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.into()).unwrap()
}

fn json(payload: &RawValue) -> Value {
    serde_json::from_str(payload.get()).unwrap()
}

fn hold_by(who: &str, millis: i64) -> SlotActKind {
    SlotActKind::Hold { user: user(who), token: token(who), millis, max_holds: None, max_held: None }
}

fn book_by(who: &str) -> SlotActKind {
    SlotActKind::Book { actor: Actor::User(user(who)), token: None }
}

fn release_by(who: &str) -> SlotActKind {
    SlotActKind::Release { actor: Actor::User(user(who)), token: None, booked_by: None, cancel_before: None }
}

fn cancel_by(who: &str, before: i64) -> SlotActKind {
    SlotActKind::Release { actor: Actor::User(user(who)), token: None, booked_by: None, cancel_before: Some(before) }
}

fn extend_by(who: &str, millis: i64) -> SlotActKind {
    SlotActKind::Extend { user: user(who), token: None, millis, max_millis: HOUR }
}

fn update(to: StaffStatus) -> SlotActKind {
    SlotActKind::Update { to, data: None, user: None }
}

fn refusal(result: Result<ActOutcome, ApplyError>) -> (Code, Vec<u16>) {
    match result {
        Err(ApplyError::Refused(refusal)) => (refusal.code, refusal.conflicts.iter().map(|n| n.get()).collect()),
        other => panic!("not refused: {other:?}"),
    }
}

impl Bench {
    /// Slot `n` starts `n` hours after the case began.
    fn slot(&self, n: u64) -> SlotTime {
        self.slot_at(n, self.began.plus_millis(n as i64 * HOUR))
    }

    fn slot_at(&self, n: u64, start: StoreTime) -> SlotTime {
        SlotTime { number: number(n), start, end: start.plus_millis(HOUR), label: format!("{n:02}:00") }
    }

    fn act(&self, space: SpaceKey, slots: &[u64], kind: SlotActKind) -> SlotAct {
        let slots = slots.iter().map(|n| self.slot(*n)).collect();
        SlotAct { space, day: day(), slots, revision: None, kind, idempotency: None, origin: None }
    }

    async fn apply(&self, space: SpaceKey, slots: &[u64], kind: SlotActKind) -> Result<ActOutcome, ApplyError> {
        self.store.apply(self.act(space, slots, kind)).await
    }

    /// Puts a space whose schedule must be of a revision of the current epoch, 0 for none.
    async fn put_space(
        &self,
        space: SpaceKey,
        spec: Option<ScheduleSpec>,
        revision: u64,
    ) -> Result<Position, ApplyError> {
        let revised_at = self.revision(space, revision).await;
        self.store.put_space(SpaceChange::new(space, spec, revised_at).unwrap()).await
    }

    async fn revision(&self, space: SpaceKey, revision: u64) -> Option<Position> {
        let head = self.space_head(space).await;
        (revision > 0).then_some(Position { version: revision, ..head })
    }

    /// Acts on slots as a schedule has them.
    async fn apply_under(
        &self,
        spec: &ScheduleSpec,
        revision: u64,
        slots: &[u64],
        kind: SlotActKind,
    ) -> Result<ActOutcome, ApplyError> {
        let schedule = Schedule::new(spec.clone()).unwrap();
        let slots = slots.iter().map(|n| schedule.slot(day(), number(*n)).unwrap()).collect();
        let revision = self.revision(space(1), revision).await;
        self.store.apply(SlotAct { slots, revision, ..self.act(space(1), &[], kind) }).await
    }

    async fn head(&self, topic: Topic) -> Position {
        self.store.heads(&[topic]).await.unwrap().remove(0)
    }

    async fn space_head(&self, space: SpaceKey) -> Position {
        self.head(Topic::Space(space)).await
    }

    /// Where the space and its bucket stand.
    async fn heads(&self, space: SpaceKey) -> (u64, u64) {
        let heads = self.store.heads(&[Topic::Space(space), Topic::Bucket(space.bucket())]).await.unwrap();
        (heads[0].version, heads[1].version)
    }

    /// The log after a version of the current epoch, which must reach back that far.
    async fn log(&self, topic: Topic, since: u64) -> Vec<Message> {
        let since = Position { version: since, ..self.head(topic).await };
        match read_whole_log(self.store.as_ref(), topic, &since).await.unwrap() {
            LogRead::Messages(messages) => messages,
            LogRead::Gone(head) => panic!("gone at {head:?}"),
        }
    }

    /// Slot and status of each `slot_update` after a version.
    async fn updates(&self, space: SpaceKey, since: u64) -> Vec<(u64, String)> {
        let messages = self.log(Topic::Space(space), since).await;
        let updates = messages.iter().filter(|message| message.kind == MessageKind::SlotUpdate);
        updates.map(|message| slot_and_status(&json(&message.payload))).collect()
    }

    async fn freed_after(&self, bucket: Bucket, since: u64) -> Vec<FreedSlots> {
        let messages = self.log(Topic::Bucket(bucket), since).await;
        let freed = messages.iter().filter(|message| message.kind == MessageKind::Freed);
        freed.map(|message| serde_json::from_str(message.payload.get()).unwrap()).collect()
    }

    /// The status of a stored slot, or what an absent one is.
    async fn status(&self, space: SpaceKey, n: u64) -> Status {
        let read = self.store.read_day(space, day()).await.unwrap();
        read.records.get(&number(n)).map_or(Status::Available, |record| record.status(read.now))
    }

    /// Waits until the store's clock has passed an instant.
    async fn wait_past(&self, instant: StoreTime) {
        loop {
            let now = self.store.ping().await.unwrap();
            if now > instant {
                return;
            }
            tokio::time::sleep(now.until(instant) + Duration::from_millis(1)).await;
        }
    }

    async fn now(&self) -> StoreTime {
        self.store.ping().await.unwrap()
    }
}

fn slot_and_status(payload: &Value) -> (u64, String) {
    (payload["slotId"].as_u64().unwrap(), payload["status"].as_str().unwrap().into())
}

// The rule.

/// What a cell finds.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Found {
    Free,
    Ended,
    Mine,
    Others,
    BookedByMe,
    Booked,
    BookedByStaff,
    Blocked,
    Past,
    PastEnded,
}

/// What a cell comes to: so many events, so many of them freeing; the answer of before; or a refusal.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Comes {
    To(u64, Status),
    ToFreeing(u64, Status),
    ToTheSame,
    ToNo(Code),
}

pub async fn every_cell_of_the_rule_table(factory: impl StoreFactory) {
    use Comes::*;
    use Found::*;
    let bench = bench(&factory).await;
    let release_as_staff =
        |actor, of| SlotActKind::Release { actor, token: None, booked_by: Some(of), cancel_before: None };
    let me = || Actor::User(user("me"));
    let found = [Free, Ended, Mine, Others, BookedByMe, Booked, BookedByStaff, Blocked, Past, PastEnded];
    let (no_hold, taken, past) = (ToNo(Code::NotHeld), ToNo(Code::SlotUnavailable), ToNo(Code::Past));
    let (free, booked, blocked) = (Status::Available, Status::Booked, Status::Blocked);
    let rows: Vec<(SlotActKind, [Comes; 10])> = vec![
        (hold_by("me", MINUTE), {
            let occupied = Status::Occupied;
            [To(1, occupied), ToFreeing(2, occupied), ToTheSame, taken, taken, taken, taken, taken, past, past]
        }),
        (book_by("me"), {
            [no_hold, no_hold, To(1, booked), no_hold, ToTheSame, no_hold, no_hold, no_hold, no_hold, no_hold]
        }),
        (release_by("me"), {
            [no_hold, no_hold, To(1, free), no_hold, no_hold, no_hold, no_hold, no_hold, no_hold, no_hold]
        }),
        (cancel_by("me", 0), {
            [no_hold, no_hold, To(1, free), no_hold, To(1, free), no_hold, no_hold, no_hold, no_hold, no_hold]
        }),
        // Every slot of the bench starts within a day.
        (cancel_by("me", 24 * HOUR), {
            let late = ToNo(Code::TooLate);
            [no_hold, no_hold, To(1, free), no_hold, late, no_hold, no_hold, no_hold, no_hold, no_hold]
        }),
        (release_as_staff(me(), me()), {
            [no_hold, no_hold, To(1, free), no_hold, To(1, free), no_hold, no_hold, no_hold, no_hold, no_hold]
        }),
        (release_as_staff(me(), Actor::Anyone), {
            let freed = To(1, free);
            [no_hold, no_hold, freed, no_hold, freed, freed, freed, no_hold, no_hold, no_hold]
        }),
        (release_as_staff(Actor::Anyone, Actor::Anyone), {
            let freed = To(1, free);
            [no_hold, no_hold, freed, freed, freed, freed, freed, no_hold, no_hold, no_hold]
        }),
        (extend_by("me", MINUTE), {
            let extended = To(1, Status::Occupied);
            [no_hold, no_hold, extended, no_hold, no_hold, no_hold, no_hold, no_hold, no_hold, no_hold]
        }),
        (update(StaffStatus::Available), {
            let set = To(1, free);
            [set, ToFreeing(2, free), set, set, set, set, set, set, past, past]
        }),
        (update(StaffStatus::Booked), {
            let set = To(1, booked);
            [set, ToFreeing(2, booked), set, set, set, set, set, set, past, past]
        }),
        (update(StaffStatus::Blocked), {
            let set = To(1, blocked);
            [set, ToFreeing(2, blocked), set, set, set, set, set, set, past, past]
        }),
    ];

    // Every cell has a space of its own; all are made ready first, so that the ends are waited for once.
    let mut cells = Vec::new();
    let mut latest = bench.began;
    for (kind, row) in rows {
        for (found, comes) in found.into_iter().zip(row) {
            let cell_space = space(1 + cells.len() as u64);
            let (slot, first) = prepare(&bench, cell_space, found).await;
            if matches!(found, Ended | Past | PastEnded) {
                let ends = bench.now().await.plus_millis(30);
                latest = latest.max(if found == Ended { ends } else { slot.start });
            }
            cells.push((cell_space, slot, first, found, kind.clone(), comes));
        }
    }
    bench.wait_past(latest).await;

    for (space, slot, first, found, kind, comes) in cells {
        let cell = format!("{kind:?} on {found:?}");
        let (version, bucket_version) = bench.heads(space).await;
        let act =
            SlotAct { space, day: day(), slots: vec![slot], revision: None, kind, idempotency: None, origin: None };
        let result = bench.store.apply(act).await;
        let (new_version, new_bucket_version) = bench.heads(space).await;
        let written = (new_version - version, new_bucket_version - bucket_version);
        match comes {
            To(events, status) | ToFreeing(events, status) => {
                let freeing = u64::from(matches!(comes, ToFreeing(..)));
                assert_eq!(written, (events, freeing), "{cell}");
                let outcome = result.unwrap_or_else(|error| panic!("{cell}: {error}"));
                assert_eq!(outcome.at.version, new_version, "{cell}");
                assert_eq!(bench.status(space, 1).await, status, "{cell}");
                let updates = bench.updates(space, version).await;
                assert_eq!(updates.last(), Some(&(1, status.as_str().to_owned())), "{cell}");
            }
            ToTheSame => {
                assert_eq!(written, (0, 0), "{cell}");
                assert_eq!(result.unwrap(), repeat_of(&first.unwrap()), "{cell}");
            }
            ToNo(code) => {
                assert_eq!(written, (0, 0), "{cell}");
                assert_eq!(refusal(result), (code, vec![1]), "{cell}");
            }
        }
    }
}

/// Brings slot 1 of a space into the state that a cell finds, and tells the slot, and the last answer of "me".
async fn prepare(bench: &Bench, space: SpaceKey, found: Found) -> (SlotTime, Option<ActOutcome>) {
    // Long enough to be acted on before, on any machine; all cells wait for it together.
    let soon = bench.now().await.plus_millis(500 + bench.slack);
    let slot = match found {
        Found::Past | Found::PastEnded => bench.slot_at(1, soon),
        _ => bench.slot(1),
    };
    let kinds = match found {
        Found::Free | Found::Past => vec![],
        Found::Ended => vec![hold_by("me", 20)],
        Found::PastEnded => vec![hold_by("me", MINUTE)],
        Found::Mine => vec![hold_by("me", HOUR)],
        Found::Others => vec![hold_by("other", HOUR)],
        Found::BookedByMe => vec![hold_by("me", HOUR), book_by("me")],
        Found::Booked => vec![hold_by("other", HOUR), book_by("other")],
        Found::BookedByStaff => vec![update(StaffStatus::Booked)],
        Found::Blocked => vec![update(StaffStatus::Blocked)],
    };
    let mut last = None;
    for kind in kinds {
        let act = SlotAct {
            space,
            day: day(),
            slots: vec![slot.clone()],
            revision: None,
            kind,
            idempotency: None,
            origin: None,
        };
        last = Some(bench.store.apply(act).await.unwrap());
    }
    (slot, last)
}

pub async fn a_version_is_one_message_heard_in_order(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let topic = Topic::Space(space(1));
    let mut watch = bench.subscriptions.watch(topic).await.unwrap();
    let mut other = bench.subscriptions.watch(Topic::Space(space(2))).await.unwrap();

    for (n, kind) in [(1, hold_by("a", MINUTE)), (1, book_by("a")), (2, hold_by("b", MINUTE)), (2, release_by("b"))] {
        bench.apply(space(1), &[n], kind).await.unwrap();
    }
    refusal(bench.apply(space(1), &[1], hold_by("b", MINUTE)).await);
    bench.apply(space(2), &[1], hold_by("b", MINUTE)).await.unwrap();

    let head = bench.space_head(space(1)).await;
    let mut heard = Vec::new();
    for version in 1..=4 {
        let message = next_message(&mut watch).await;
        assert_eq!(message.at, Position { version, ..head.clone() });
        assert_eq!(message.kind, MessageKind::SlotUpdate);
        let payload = json(&message.payload);
        assert_eq!(payload["version"], version);
        assert_eq!(payload["epoch"], *head.epoch);
        heard.push(slot_and_status(&payload));
    }
    let expected = [(1, "occupied"), (1, "booked"), (2, "occupied"), (2, "available")];
    assert_eq!(heard, expected.map(|(n, status)| (n, status.to_owned())));
    assert_eq!(bench.updates(space(1), 0).await, heard);
    let of_the_other_space = next_message(&mut other).await;
    assert_eq!(json(&of_the_other_space.payload)["data"]["spazioId"], 2);
}

async fn next_message(watch: &mut slotcast::store::hub::Watch) -> Message {
    match tokio::time::timeout(Duration::from_secs(10), watch.next()).await.expect("nothing was heard") {
        Signal::Message(message) => message,
        Signal::Lagged => panic!("lagged"),
    }
}

pub async fn nodes_are_told_who_has_a_slot(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let mut watch = bench.subscriptions.watch(Topic::Space(space(1))).await.unwrap();
    let short = bench.apply(space(1), &[3], hold_by("c", 20)).await.unwrap();
    bench.wait_past(short.hold.unwrap().until).await;
    let staff_releases =
        SlotActKind::Release { actor: Actor::Anyone, token: None, booked_by: Some(Actor::Anyone), cancel_before: None };
    for (slots, kind) in [
        (&[1, 2][..], hold_by("a\"b", MINUTE)),
        (&[2], extend_by("a\"b", 2 * MINUTE)),
        (&[2], book_by("a\"b")),
        // Staff's object on a booking does not take it from its user.
        (&[2], update(StaffStatus::Booked)),
        (&[2], staff_releases),
        (&[1], update(StaffStatus::Booked)),
        (&[3], hold_by("7", MINUTE)),
    ] {
        bench.apply(space(1), slots, kind).await.unwrap();
    }
    let expected = [
        (3, Some("c"), true),
        (1, Some("a\"b"), true),
        (2, Some("a\"b"), true),
        (2, Some("a\"b"), true),
        (2, Some("a\"b"), false),
        (2, Some("a\"b"), false),
        (2, None, false),
        (1, None, false),
        // What had ended is freed first.
        (3, None, false),
        (3, Some("7"), true),
    ];
    let logged = bench.log(Topic::Space(space(1)), 0).await;
    for (message, (slot, owner, is_held)) in logged.iter().zip(expected) {
        let heard = next_message(&mut watch).await;
        assert_eq!((&heard.at, &heard.owned), (&message.at, &message.owned));
        let owned = message.owned.as_deref();
        assert_eq!(owned.map(|owned| owned.user.as_str()), owner, "{}", message.payload);
        assert_eq!(owned.is_some_and(|owned| owned.token.is_some()), is_held);
        assert_eq!(owned.is_some_and(|owned| owned.began.is_some_and(|began| began >= bench.began)), owner.is_some());
        assert_eq!(owned.map(|owned| owned.start), owner.map(|_| bench.slot(slot).start));
        assert!(
            !message.payload.get().contains("a\\\"b") && !message.payload.get().contains("mine"),
            "{}",
            message.payload
        );
    }
    assert_eq!(logged.len(), expected.len());
}

pub async fn several_slots_are_one_act(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    bench.apply(space(1), &[9], hold_by("b", MINUTE)).await.unwrap();
    let held = bench.apply(space(1), &[2, 3, 5], hold_by("a", MINUTE)).await.unwrap();
    assert_eq!(held.at.version, 4);
    let updates = bench.updates(space(1), 1).await;
    assert_eq!(updates, [2, 3, 5].map(|n| (n, "occupied".to_owned())));
    assert_eq!(held.hold.unwrap().token, token("a"));

    let booked = bench.apply(space(1), &[2, 3, 5], book_by("a")).await.unwrap();
    assert_eq!((booked.at.version, booked.hold), (7, None));
    assert_eq!(bench.updates(space(1), 4).await, [2, 3, 5].map(|n| (n, "booked".to_owned())));
}

pub async fn one_slot_that_is_taken_refuses_them_all(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    bench.apply(space(1), &[3], hold_by("b", MINUTE)).await.unwrap();
    bench.apply(space(1), &[5], update(StaffStatus::Blocked)).await.unwrap();
    let before = bench.heads(space(1)).await;

    let refused = refusal(bench.apply(space(1), &[1, 3, 4, 5], hold_by("a", MINUTE)).await);
    assert_eq!(refused, (Code::SlotUnavailable, vec![3, 5]));
    let refused = refusal(bench.apply(space(1), &[1, 3], release_by("b")).await);
    assert_eq!(refused, (Code::NotHeld, vec![1]));
    assert_eq!(bench.heads(space(1)).await, before);
    assert_eq!(bench.status(space(1), 1).await, Status::Available);

    // Part of one's own hold and another slot is no repeat.
    bench.apply(space(1), &[1, 2], hold_by("a", MINUTE)).await.unwrap();
    let refused = refusal(bench.apply(space(1), &[2, 4], hold_by("a", MINUTE)).await);
    assert_eq!(refused, (Code::SlotUnavailable, vec![2]));
    let refused = refusal(bench.apply(space(1), &[1], hold_by("a", MINUTE)).await);
    assert_eq!(refused, (Code::SlotUnavailable, vec![1]));
}

pub async fn an_ended_hold_is_freed_by_the_next(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let first = bench.apply(space(1), &[1, 2], hold_by("a", 30)).await.unwrap();
    bench.wait_past(first.hold.unwrap().until).await;
    assert_eq!(bench.status(space(1), 1).await, Status::Available);
    let bucket = space(1).bucket();
    let before = bench.head(Topic::Bucket(bucket)).await.version;

    let second = bench.apply(space(1), &[1, 2, 3], hold_by("b", MINUTE)).await.unwrap();
    assert_eq!(second.at.version, 7);
    let expected = [(1, "available"), (2, "available"), (1, "occupied"), (2, "occupied"), (3, "occupied")];
    assert_eq!(bench.updates(space(1), 2).await, expected.map(|(n, status)| (n, status.to_owned())));
    let freed = bench.freed_after(bucket, before).await;
    let SpaceKey { space: id, site } = space(1);
    assert_eq!(freed, [FreedSlots { space: id, site, date: day(), slots: vec![number(1), number(2)] }]);

    // What was freed is not freed again.
    let swept = bench.store.sweep(bucket, 100).await.unwrap();
    assert_eq!((swept.freed, swept.more), (0, false));
    refusal(bench.apply(space(1), &[1], book_by("a")).await);
    bench.apply(space(1), &[1], book_by("b")).await.unwrap();
}

pub async fn an_ended_hold_found_by_a_refused_act_stays(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let held = bench.apply(space(1), &[1], hold_by("a", 30)).await.unwrap();
    bench.apply(space(1), &[2], update(StaffStatus::Blocked)).await.unwrap();
    bench.wait_past(held.hold.unwrap().until).await;
    let before = bench.heads(space(1)).await;

    let refused = refusal(bench.apply(space(1), &[1, 2], hold_by("b", MINUTE)).await);
    assert_eq!(refused, (Code::SlotUnavailable, vec![2]));
    assert_eq!(bench.heads(space(1)).await, before);
    let swept = bench.store.sweep(space(1).bucket(), 100).await.unwrap();
    assert_eq!((swept.freed, swept.spaces), (1, vec![space(1)]));
}

pub async fn a_repeated_hold_answers_as_the_first(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let first = bench.apply(space(1), &[1, 2], hold_by("a", MINUTE)).await.unwrap();
    bench.apply(space(1), &[3], hold_by("b", MINUTE)).await.unwrap();
    let before = bench.heads(space(1)).await;

    let again = SlotActKind::Hold {
        user: user("a"),
        token: token("new"),
        millis: 5 * MINUTE,
        max_holds: Some(1),
        max_held: None,
    };
    assert_eq!(bench.apply(space(1), &[1, 2], again).await.unwrap(), repeat_of(&first));
    assert_eq!(bench.heads(space(1)).await, before);

    // Also after it was extended.
    bench.apply(space(1), &[1, 2], extend_by("a", 3 * MINUTE)).await.unwrap();
    assert_eq!(bench.apply(space(1), &[1, 2], hold_by("a", MINUTE)).await.unwrap(), repeat_of(&first));
}

pub async fn a_repeated_book_answers_as_the_first(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    bench.apply(space(1), &[1, 2], hold_by("a", MINUTE)).await.unwrap();
    let first = bench.apply(space(1), &[1, 2], book_by("a")).await.unwrap();
    bench.apply(space(1), &[3], hold_by("b", MINUTE)).await.unwrap();
    assert_eq!(bench.apply(space(1), &[1, 2], book_by("a")).await.unwrap(), repeat_of(&first));
    assert_eq!(bench.space_head(space(1)).await.version, 5);
    // Also after staff set booked what it was.
    bench.apply(space(1), &[1], update(StaffStatus::Booked)).await.unwrap();
    assert_eq!(bench.apply(space(1), &[1, 2], book_by("a")).await.unwrap(), repeat_of(&first));
    // Who books again has a new first answer.
    bench.apply(space(1), &[1], update(StaffStatus::Available)).await.unwrap();
    bench.apply(space(1), &[1], hold_by("a", MINUTE)).await.unwrap();
    let second = bench.apply(space(1), &[1], book_by("a")).await.unwrap();
    assert_eq!(second.at.version, 9);
    assert_eq!(bench.apply(space(1), &[1], book_by("a")).await.unwrap(), repeat_of(&second));
    // A second release finds nothing.
    bench.apply(space(1), &[3], release_by("b")).await.unwrap();
    assert_eq!(refusal(bench.apply(space(1), &[3], release_by("b")).await).0, Code::NotHeld);
}

pub async fn an_extension_moves_the_end_up_to_the_limit(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let held = bench.apply(space(1), &[1], hold_by("a", MINUTE)).await.unwrap().hold.unwrap();
    let extended = bench.apply(space(1), &[1], extend_by("a", 10 * MINUTE)).await.unwrap().hold.unwrap();
    assert_eq!(extended.token, held.token);
    let moved = extended.until.as_millis() - held.until.as_millis();
    assert!((9 * MINUTE..10 * MINUTE).contains(&moved), "{moved}");
    // Back as well: it is from now.
    let shortened = bench.apply(space(1), &[1], extend_by("a", MINUTE)).await.unwrap().hold.unwrap();
    assert!(shortened.until < extended.until);

    let before = bench.heads(space(1)).await;
    let too_long =
        SlotActKind::Extend { user: user("a"), token: None, millis: 10 * MINUTE, max_millis: 10 * MINUTE - 1 };
    assert_eq!(refusal(bench.apply(space(1), &[1], too_long).await), (Code::HoldLimit, vec![1]));
    assert_eq!(bench.heads(space(1)).await, before);
    let read = bench.store.read_day(space(1), day()).await.unwrap();
    assert_eq!(read.records[&number(1)].live_hold(read.now).unwrap().until, shortened.until);
}

pub async fn holds_of_one_user_become_one_when_extended(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let hold = |who: &str, name: &str| SlotActKind::Hold {
        user: user(who),
        token: token(name),
        millis: MINUTE,
        max_holds: None,
        max_held: None,
    };
    for (n, who, name) in [(1, "a", "one"), (2, "b", "two"), (3, "a", "three"), (4, "b", "four")] {
        bench.apply(space(1), &[n], hold(who, name)).await.unwrap();
    }
    assert_eq!(refusal(bench.apply(space(1), &[1, 2, 3], extend_by("a", MINUTE)).await), (Code::NotHeld, vec![2]));
    let extended = bench.apply(space(1), &[1, 3], extend_by("a", MINUTE)).await.unwrap();
    assert_eq!(extended.hold.unwrap().token, token("one"));
    let read = bench.store.read_day(space(1), day()).await.unwrap();
    let tokens: Vec<_> =
        read.records.values().map(|record| record.live_hold(read.now).unwrap().token.clone()).collect();
    assert_eq!(tokens, [token("one"), token("two"), token("one"), token("four")]);
}

pub async fn a_hold_never_ends_after_the_start(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let start = bench.now().await.plus_millis(30_000);
    let slots = vec![bench.slot_at(1, start), bench.slot_at(2, start.plus_millis(MINUTE))];
    let act = |kind| SlotAct { slots: slots.clone(), ..bench.act(space(1), &[], kind) };
    let held = bench.store.apply(act(hold_by("a", HOUR))).await.unwrap();
    assert_eq!(held.hold.unwrap().until, start);
    let extended = bench.store.apply(act(extend_by("a", HOUR - MINUTE))).await.unwrap();
    assert_eq!(extended.hold.unwrap().until, start);
    let read = bench.store.read_day(space(1), day()).await.unwrap();
    for slot in &slots {
        assert_eq!(read.records[&slot.number].live_hold(read.now).unwrap().until, slot.start);
    }
}

pub async fn what_has_started_is_past(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let slots = vec![bench.slot_at(1, bench.began.plus_millis(-1)), bench.slot(2)];
    let act = |kind| SlotAct { slots: slots.clone(), ..bench.act(space(1), &[], kind) };
    assert_eq!(refusal(bench.store.apply(act(hold_by("a", MINUTE))).await), (Code::Past, vec![1]));
    assert_eq!(refusal(bench.store.apply(act(update(StaffStatus::Blocked))).await), (Code::Past, vec![1]));
    assert_eq!(bench.heads(space(1)).await, (0, 0));

    // What is booked or blocked when it starts, staff may still change.
    let start = bench.now().await.plus_millis(300 + bench.slack);
    let near = |kind| SlotAct { slots: vec![bench.slot_at(3, start)], ..bench.act(space(1), &[], kind) };
    bench.store.apply(near(update(StaffStatus::Booked))).await.unwrap();
    bench.wait_past(start).await;
    assert_eq!(bench.status(space(1), 3).await, Status::Booked);
    bench.store.apply(near(update(StaffStatus::Available))).await.unwrap();
    // A slot that is free has no record of its own: from its start on, the schedule says that it is past.
    assert_eq!(refusal(bench.store.apply(near(hold_by("a", MINUTE))).await), (Code::Past, vec![3]));
}

pub async fn a_slot_that_moved_is_judged_by_its_present_start(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let soon = bench.now().await.plus_millis(500 + bench.slack);
    let early = |n, kind| SlotAct { slots: vec![bench.slot_at(n, soon)], ..bench.act(space(1), &[], kind) };
    let data = Some(SlotData::new(serde_json::from_str(r#"{"a": 1}"#).unwrap()));
    for n in [1, 2] {
        let with_data = SlotActKind::Update { to: StaffStatus::Available, data: data.clone(), user: None };
        bench.store.apply(early(n, with_data)).await.unwrap();
    }
    for n in [3, 4] {
        bench.store.apply(early(n, hold_by("a", HOUR))).await.unwrap();
    }
    bench.wait_past(soon).await;

    // Free or ended, they moved to later hours of the day.
    let before = bench.space_head(space(1)).await.version;
    bench.apply(space(1), &[1, 3], hold_by("b", MINUTE)).await.unwrap();
    bench.apply(space(1), &[2], update(StaffStatus::Available)).await.unwrap();
    bench.apply(space(1), &[4], update(StaffStatus::Available)).await.unwrap();
    let updates = bench.updates(space(1), before).await;
    let (free, held) = ("available".to_owned(), "occupied".to_owned());
    let expected = [(3, &free), (1, &held), (3, &held), (2, &free), (4, &free), (4, &free)];
    assert_eq!(updates.iter().map(|(n, status)| (*n, status)).collect::<Vec<_>>(), expected);

    // And what moved to an hour that has passed, is past.
    bench.apply(space(1), &[6], SlotActKind::Update { to: StaffStatus::Available, data, user: None }).await.unwrap();
    for kind in [hold_by("b", MINUTE), update(StaffStatus::Blocked)] {
        assert_eq!(refusal(bench.store.apply(early(6, kind)).await), (Code::Past, vec![6]));
    }
}

pub async fn too_many_holds_are_counted_over_all_days(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let hold = |date: &str, n: u64, name: &str, in_space: u64, millis| {
        let kind =
            SlotActKind::Hold { user: user("a"), token: token(name), millis, max_holds: Some(2), max_held: None };
        SlotAct { day: Day::parse(date).unwrap(), ..bench.act(space(in_space), &[n, n + 1], kind) }
    };
    let short = bench.store.apply(hold("2090-01-01", 1, "one", 1, 300 + bench.slack)).await.unwrap();
    bench.store.apply(hold("2090-01-02", 1, "two", 1, MINUTE)).await.unwrap();
    // Elsewhere, and of others, are not counted.
    bench.store.apply(hold("2090-01-01", 1, "three", 2, MINUTE)).await.unwrap();
    bench.apply(space(1), &[9], hold_by("b", MINUTE)).await.unwrap();

    let before = bench.heads(space(1)).await;
    let third = bench.store.apply(hold("2090-01-03", 1, "four", 1, MINUTE)).await;
    if bench.now().await < short.hold.clone().unwrap().until {
        assert_eq!(refusal(third), (Code::TooManyHolds, vec![]));
        assert_eq!(bench.heads(space(1)).await, before);
    }
    // An ended hold does not count, swept or not.
    bench.wait_past(short.hold.unwrap().until).await;
    bench.store.apply(hold("2090-01-03", 1, "four", 1, MINUTE)).await.unwrap();
    let more = bench.store.apply(hold("2090-01-04", 1, "five", 1, MINUTE)).await;
    assert_eq!(refusal(more), (Code::TooManyHolds, vec![]));
    // What was booked does not count either.
    let book = SlotAct { day: Day::parse("2090-01-02").unwrap(), ..bench.act(space(1), &[1, 2], book_by("a")) };
    bench.store.apply(book).await.unwrap();
    bench.store.apply(hold("2090-01-04", 1, "five", 1, MINUTE)).await.unwrap();
}

/// Issue 10, item 9.
pub async fn held_slots_are_counted_over_all_holds(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let hold = |date: &str, slots: &[u64], name: &str, in_space: u64| {
        let (max_holds, max_held) = (None, Some(6));
        let kind = SlotActKind::Hold { user: user("a"), token: token(name), millis: MINUTE, max_holds, max_held };
        SlotAct { day: Day::parse(date).unwrap(), ..bench.act(space(in_space), slots, kind) }
    };
    bench.store.apply(hold("2090-01-01", &[1, 2, 3], "one", 1)).await.unwrap();
    // Elsewhere, and of others, are not counted.
    bench.store.apply(hold("2090-01-01", &[1, 2, 3, 4], "two", 2)).await.unwrap();
    bench.apply(space(1), &[1, 2, 3, 4], hold_by("b", MINUTE)).await.unwrap();
    let before = bench.heads(space(1)).await;
    for slots in [&[1, 2, 3, 4][..], &[1, 2, 3, 4, 5, 6, 7]] {
        let more = bench.store.apply(hold("2090-01-02", slots, "three", 1)).await;
        assert_eq!(refusal(more), (Code::TooManyHolds, vec![]));
    }
    assert_eq!(bench.heads(space(1)).await, before);
    bench.store.apply(hold("2090-01-02", &[1, 2, 3], "three", 1)).await.unwrap();
    let more = bench.store.apply(hold("2090-01-03", &[1], "four", 1)).await;
    assert_eq!(refusal(more), (Code::TooManyHolds, vec![]));
    // A repeat changes nothing, and what was let go of leaves room.
    bench.store.apply(hold("2090-01-02", &[1, 2, 3], "five", 1)).await.unwrap();
    let release = SlotAct { day: Day::parse("2090-01-01").unwrap(), ..bench.act(space(1), &[2], release_by("a")) };
    bench.store.apply(release).await.unwrap();
    bench.store.apply(hold("2090-01-03", &[1], "four", 1)).await.unwrap();
}

/// Issue 10, item 8.
pub async fn the_data_of_a_day_is_bounded(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    // 16 KiB each: 16 of them fill the day.
    let with = |bytes: usize| {
        let text = "x".repeat(bytes - r#"{"a":""}"#.len());
        let data = serde_json::from_str(&format!(r#"{{"a":"{text}"}}"#)).unwrap();
        SlotActKind::Update { to: StaffStatus::Blocked, data: Some(data), user: None }
    };
    for n in 1..=15 {
        bench.apply(space(1), &[n], with(16 * 1024)).await.unwrap();
    }
    let before = bench.heads(space(1)).await;
    assert_eq!(refusal(bench.apply(space(1), &[16], with(16 * 1024 + 1)).await), (Code::TooLarge, vec![]));
    assert_eq!(refusal(bench.apply(space(1), &[16, 17], with(8 * 1024 + 1)).await), (Code::TooLarge, vec![]));
    assert_eq!(bench.heads(space(1)).await, before);
    bench.apply(space(1), &[16, 17], with(8 * 1024)).await.unwrap();
    // Full: not a byte more, but as much and less.
    assert_eq!(refusal(bench.apply(space(1), &[18], with(100)).await), (Code::TooLarge, vec![]));
    assert_eq!(refusal(bench.apply(space(1), &[16], with(8 * 1024 + 1)).await), (Code::TooLarge, vec![]));
    bench.apply(space(1), &[18], update(StaffStatus::Blocked)).await.unwrap();
    bench.apply(space(1), &[16], with(8 * 1024)).await.unwrap();
    bench.apply(space(1), &[1], with(16 * 1024 - 100)).await.unwrap();
    bench.apply(space(1), &[18], with(100)).await.unwrap();
    // Another day has its own.
    let day = Day::parse("2090-05-06").unwrap();
    bench.store.apply(SlotAct { day, ..bench.act(space(1), &[1], with(16 * 1024)) }).await.unwrap();
    bench.apply(space(1), &[1, 2], update(StaffStatus::Available)).await.unwrap();
    bench.apply(space(1), &[3, 19], with(16 * 1024)).await.unwrap();
}

/// Issue 10, item 7.
pub async fn a_repeat_that_changes_nothing_is_not_kept(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let under = |key: &str, call: &str, kind| SlotAct {
        idempotency: Some(Idempotency { caller: user("a"), key: key.into(), fingerprint: call.into() }),
        ..bench.act(space(1), &[1], kind)
    };
    let first = bench.store.apply(under("first", "hold", hold_by("a", MINUTE))).await.unwrap();
    let again = bench.store.apply(under("again", "hold", hold_by("a", MINUTE))).await.unwrap();
    assert_eq!(again, repeat_of(&first));
    // Had the repeat been kept, its key would be of another call now.
    let booked = bench.store.apply(under("again", "book", book_by("a"))).await.unwrap();
    let repeated = bench.store.apply(under("third", "book", book_by("a"))).await.unwrap();
    assert_eq!(repeated, repeat_of(&booked));
    let staff = bench.store.apply(under("third", "update", update(StaffStatus::Booked))).await.unwrap();
    assert!(staff.at.version > booked.at.version);
    // What did change something is exact.
    assert_eq!(bench.store.apply(under("first", "hold", hold_by("a", MINUTE))).await.unwrap(), repeat_of(&first));
    let other = bench.store.apply(under("first", "other", hold_by("a", MINUTE))).await;
    assert_eq!(refusal(other), (Code::IdempotencyMismatch, vec![]));
}

/// Issue 10, item 7.
pub async fn the_last_calls_of_a_caller_are_kept(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let put = |caller: &str, key: usize, call: &str| SlotAct {
        idempotency: Some(Idempotency { caller: user(caller), key: format!("key {key}"), fingerprint: call.into() }),
        ..bench.act(space(1), &[1], update(StaffStatus::Blocked))
    };
    bench.store.apply(put("b", 0, "call")).await.unwrap();
    let mut versions = Vec::new();
    for key in 0..300 {
        versions.push(bench.store.apply(put("a", key, "call")).await.unwrap().at.version);
    }
    for (key, version) in versions.iter().enumerate().skip(300 - CALLS_KEPT) {
        let again = bench.store.apply(put("a", key, "call")).await.unwrap();
        assert_eq!(again.at.version, *version, "{key}");
    }
    assert_eq!(refusal(bench.store.apply(put("a", 200, "other")).await), (Code::IdempotencyMismatch, vec![]));
    // Another caller's is not displaced by them; the oldest was, and is a new act.
    assert!(bench.store.apply(put("b", 0, "call")).await.unwrap().at.version < versions[0]);
    assert!(bench.store.apply(put("a", 0, "call")).await.unwrap().at.version > versions[299]);
}

pub async fn a_token_must_be_that_of_the_hold(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    bench.apply(space(1), &[1], hold_by("a", MINUTE)).await.unwrap();
    let with = |name: &str| SlotActKind::Book { actor: Actor::User(user("a")), token: Some(token(name)) };
    assert_eq!(refusal(bench.apply(space(1), &[1], with("wrong")).await), (Code::HoldExpired, vec![1]));
    bench.apply(space(1), &[1], with("a")).await.unwrap();
    // For the service that acts for everyone: it does not matter who holds.
    bench.apply(space(1), &[2], hold_by("b", MINUTE)).await.unwrap();
    bench.apply(space(1), &[2], SlotActKind::Book { actor: Actor::Anyone, token: None }).await.unwrap();
    let read = bench.store.read_day(space(1), day()).await.unwrap();
    let SlotState::Booked { user: booked_by, first_version: 4, data: None, booked_at, .. } =
        &read.records[&number(2)].state
    else {
        panic!("{:?}", read.records[&number(2)]);
    };
    assert_eq!(*booked_by, Some(user("b")));
    assert!(booked_at.is_some_and(|booked_at| booked_at >= bench.began));
}

pub async fn staff_data_stays_until_the_next_change(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let object = r#"{"note": "€ \u0041", "price": 12345678901234567890.10, "nested": {"z": 1, "a": [ 2 ]}}"#;
    let data = SlotData::new(serde_json::from_str(object).unwrap());
    let set = |to| SlotActKind::Update { to, data: Some(data.clone()), user: None };
    let before = bench.space_head(space(1)).await.version;
    for to in [StaffStatus::Available, StaffStatus::Booked, StaffStatus::Blocked, StaffStatus::Available] {
        bench.apply(space(1), &[1], set(to)).await.unwrap();
        let read = bench.store.read_day(space(1), day()).await.unwrap();
        assert_eq!(read.records[&number(1)].data(), Some(&data));
    }
    for message in bench.log(Topic::Space(space(1)), before).await {
        let text = message.payload.get();
        assert!(text.contains("12345678901234567890.10"), "{text}");
        assert!(text.contains(r#""€ \u0041""#), "{text}");
    }
    bench.apply(space(1), &[1], hold_by("a", MINUTE)).await.unwrap();
    let read = bench.store.read_day(space(1), day()).await.unwrap();
    assert_eq!(read.records[&number(1)].data(), None);
}

// Repeats under a key.

fn keyed(mut act: SlotAct, caller: &str, key: &str, fingerprint: &str) -> SlotAct {
    let (key, fingerprint) = (key.into(), fingerprint.into());
    act.idempotency = Some(Idempotency { caller: user(caller), key, fingerprint });
    act
}

pub async fn an_idempotency_key_answers_as_the_first_time(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let hold = keyed(bench.act(space(1), &[1], hold_by("a", MINUTE)), "a", "k1", "hold 1");
    let extend = keyed(bench.act(space(1), &[1], extend_by("a", MINUTE)), "a", "k2", "extend 1");
    let held = bench.store.apply(hold.clone()).await.unwrap();
    let extended = bench.store.apply(extend.clone()).await.unwrap();
    let release = keyed(bench.act(space(1), &[1], release_by("a")), "a", "k3", "release 1");
    let released = bench.store.apply(release.clone()).await.unwrap();
    let before = bench.heads(space(1)).await;

    assert_eq!(bench.store.apply(hold.clone()).await.unwrap(), repeat_of(&held));
    assert_eq!(bench.store.apply(extend).await.unwrap(), repeat_of(&extended));
    assert_eq!(bench.store.apply(release).await.unwrap(), repeat_of(&released));
    // Whatever happened to the schedule since.
    let stale = SlotAct { revision: Some(Position { version: 77, ..held.at.clone() }), ..hold.clone() };
    assert_eq!(bench.store.apply(stale).await.unwrap(), repeat_of(&held));
    // Another call, even one that would be refused, under the same key.
    let other = keyed(bench.act(space(1), &[2], hold_by("a", MINUTE)), "a", "k1", "hold 2");
    assert_eq!(refusal(bench.store.apply(other).await), (Code::IdempotencyMismatch, vec![]));
    assert_eq!(bench.heads(space(1)).await, before);
    assert_eq!(bench.status(space(1), 1).await, Status::Available);

    // The same key of another caller is another key.
    let of_another = keyed(bench.act(space(1), &[2], hold_by("b", MINUTE)), "b", "k1", "hold 2");
    assert_eq!(bench.store.apply(of_another).await.unwrap().at.version, before.0 + 1);
    // A repeat that wrote nothing is not kept: when what it repeated is gone, it acts.
    let again = keyed(bench.act(space(1), &[2], hold_by("b", MINUTE)), "b", "k4", "hold 2 again");
    assert_eq!(bench.store.apply(again.clone()).await.unwrap().at.version, before.0 + 1);
    bench.apply(space(1), &[2], release_by("b")).await.unwrap();
    assert_eq!(bench.store.apply(again).await.unwrap().at.version, before.0 + 3);
    assert_eq!(bench.status(space(1), 2).await, Status::Occupied);
}

pub async fn a_refusal_is_not_kept_under_its_key(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    bench.apply(space(1), &[1], hold_by("b", MINUTE)).await.unwrap();
    let hold = keyed(bench.act(space(1), &[1], hold_by("a", MINUTE)), "a", "k", "hold 1");
    assert_eq!(refusal(bench.store.apply(hold.clone()).await).0, Code::SlotUnavailable);
    bench.apply(space(1), &[1], release_by("b")).await.unwrap();
    let held = bench.store.apply(hold.clone()).await.unwrap();
    assert_eq!(held.at.version, 3);
    assert_eq!(bench.store.apply(hold).await.unwrap(), repeat_of(&held));
}

// Spaces.

fn spec(minutes: u16) -> ScheduleSpec {
    ScheduleSpec { slot_minutes: minutes, name: Some(format!("every {minutes}")), ..ScheduleSpec::default() }
}

pub async fn an_act_on_another_schedule_is_stale(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let at = bench.put_space(space(1), Some(spec(30)), 0).await.unwrap();
    assert_eq!(at.version, 1);
    let before = bench.heads(space(1)).await;
    let of_another_epoch = Position { epoch: "another".into(), ..at.clone() };
    for revision in [None, Some(Position { version: 2, ..at.clone() }), Some(of_another_epoch.clone())] {
        let act = SlotAct { revision, ..bench.act(space(1), &[1], hold_by("a", MINUTE)) };
        assert_eq!(bench.store.apply(act).await, Err(ApplyError::Stale));
    }
    assert_eq!(bench.heads(space(1)).await, before);
    let act = SlotAct { revision: Some(at), ..bench.act(space(1), &[1], hold_by("a", MINUTE)) };
    assert_eq!(bench.store.apply(act.clone()).await.unwrap().at.version, 2);
    assert_eq!(bench.store.read_day(space(1), day()).await.unwrap().revision, 1);

    let of_another_epoch = SpaceChange::new(space(1), None, Some(of_another_epoch)).unwrap();
    assert_eq!(bench.store.put_space(of_another_epoch).await, Err(ApplyError::Stale));
    bench.store.apply(SlotAct { kind: release_by("a"), ..act.clone() }).await.unwrap();
    bench.put_space(space(1), None, 1).await.unwrap();
    assert_eq!(bench.store.apply(act).await, Err(ApplyError::Stale));
    assert_eq!(bench.store.read_day(space(1), day()).await.unwrap().revision, 4);
}

pub async fn a_space_is_put_changed_and_removed(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let elsewhere = SpaceKey { site: SiteId::new(12).unwrap(), ..space(1) };
    let unknown = bench.store.read_space(space(1)).await.unwrap();
    assert_eq!((unknown.at.version, unknown.revision, unknown.schedule, unknown.taken.len()), (0, 0, None, 0));
    assert!(bench.store.sites_of(space(1).space).await.unwrap().is_empty());

    assert_eq!(bench.put_space(space(1), Some(spec(30)), 1).await, Err(ApplyError::Stale));
    bench.put_space(space(1), Some(spec(30)), 0).await.unwrap();
    assert_eq!(bench.put_space(space(1), Some(spec(45)), 0).await, Err(ApplyError::Stale));
    bench.put_space(space(1), Some(spec(45)), 1).await.unwrap();
    bench.put_space(elsewhere, Some(spec(60)), 0).await.unwrap();
    bench.put_space(space(2), Some(spec(60)), 0).await.unwrap();

    let read = bench.store.read_space(space(1)).await.unwrap();
    assert_eq!((read.at.version, read.revision, &read.schedule), (2, 2, &Some(spec(45))));
    assert_eq!(bench.store.sites_of(space(1).space).await.unwrap(), [space(1).site, elsewhere.site]);

    // An act moves the version; what a change was made for is the schedule.
    bench.apply_under(&spec(45), 2, &[1], hold_by("a", MINUTE)).await.unwrap();
    bench.apply_under(&spec(45), 2, &[1], release_by("a")).await.unwrap();
    let removed = bench.put_space(space(1), None, 2).await.unwrap();
    assert_eq!(removed.version, 5);
    let read = bench.store.read_space(space(1)).await.unwrap();
    assert_eq!((read.at, read.revision, read.schedule), (removed, 5, None));
    assert_eq!(bench.store.sites_of(space(1).space).await.unwrap(), [elsewhere.site]);

    let kinds: Vec<MessageKind> = bench.log(Topic::Space(space(1)), 0).await.iter().map(|m| m.kind).collect();
    use MessageKind::{SlotUpdate, SpaceChanged};
    assert_eq!(kinds, [SpaceChanged, SpaceChanged, SlotUpdate, SlotUpdate, SpaceChanged]);
    let messages = bench.log(Topic::Space(space(1)), 4).await;
    assert_eq!(messages[0].payload.get(), "null");
    // It may come back, with its version.
    assert_eq!(bench.put_space(space(1), Some(spec(30)), 5).await.unwrap().version, 6);
}

/// Opens an hour later, so that slot 2 is what slot 1 was, or closes earlier.
fn opened(opens: &str, closes: &str) -> ScheduleSpec {
    serde_json::from_value(serde_json::json!({"opens": opens, "closes": closes})).unwrap()
}

pub async fn a_change_that_moves_a_taken_slot_is_refused_whole(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let before = opened("09:00", "18:00");
    bench.put_space(space(1), Some(before.clone()), 0).await.unwrap();
    bench.apply_under(&before, 1, &[2], hold_by("a", MINUTE)).await.unwrap();
    bench.apply_under(&before, 1, &[4], update(StaffStatus::Booked)).await.unwrap();
    bench.apply_under(&before, 1, &[9], update(StaffStatus::Blocked)).await.unwrap();
    // One that nobody has any more, and one that has data only.
    bench.apply_under(&before, 1, &[8], hold_by("b", MINUTE)).await.unwrap();
    bench.apply_under(&before, 1, &[8], release_by("b")).await.unwrap();
    let data = Some(SlotData::new(serde_json::from_str(r#"{"a": 1}"#).unwrap()));
    bench
        .apply_under(&before, 1, &[7], SlotActKind::Update { to: StaffStatus::Available, data, user: None })
        .await
        .unwrap();

    let (heads, read) = (bench.heads(space(1)).await, bench.store.read_day(space(1), day()).await.unwrap());
    let taken = |slots: &[u64]| Err(ApplyError::InUse(slots.iter().map(|n| (day(), number(*n))).collect()));
    for (spec, slots) in [
        (Some(opened("10:00", "18:00")), vec![2, 4, 9]),
        (Some(opened("09:00", "17:00")), vec![9]),
        (Some(opened("09:00", "12:00")), vec![4, 9]),
        (Some(ScheduleSpec { timezone: "Europe/London".into(), ..before.clone() }), vec![2, 4, 9]),
        (Some(ScheduleSpec { slot_minutes: 30, ..before.clone() }), vec![2, 4, 9]),
        (Some(serde_json::from_str(r#"{"closures": ["2090-05-05"]}"#).unwrap()), vec![2, 4, 9]),
        (None, vec![2, 4, 9]),
    ] {
        assert_eq!(bench.put_space(space(1), spec.clone(), 1).await, taken(&slots), "{spec:?}");
    }
    assert_eq!(bench.heads(space(1)).await, heads);
    assert_eq!(bench.store.read_day(space(1), day()).await.unwrap().records, read.records);
    // Longer days, other closures and another name move nothing.
    bench.put_space(space(1), Some(opened("09:00", "20:00")), 1).await.unwrap();
}

pub async fn acts_that_move_nothing_do_not_disturb_a_change(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let (before, after) = (opened("09:00", "18:00"), opened("09:00", "20:00"));
    bench.put_space(space(1), Some(before.clone()), 0).await.unwrap();
    bench.apply_under(&before, 1, &[1], hold_by("a", MINUTE)).await.unwrap();
    let longer = SpaceChange::new(space(1), Some(after), bench.revision(space(1), 1).await).unwrap();
    let shorter =
        SpaceChange { schedule: Some(Schedule::new(opened("09:00", "10:00")).unwrap().into()), ..longer.clone() };
    // Both were made before this.
    bench.apply_under(&before, 1, &[2], hold_by("b", MINUTE)).await.unwrap();
    assert_eq!(bench.store.put_space(shorter).await, Err(ApplyError::InUse(vec![(day(), number(2))])));
    let at = bench.store.put_space(longer).await.unwrap();
    assert_eq!(at.version, 4);
    let read = bench.store.read_day(space(1), day()).await.unwrap();
    assert!(read.records.values().all(|record| record.status(read.now) == Status::Occupied), "{:?}", read.records);
}

pub async fn holds_that_ended_are_freed_before_a_change(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let before = opened("09:00", "18:00");
    bench.put_space(space(1), Some(before.clone()), 0).await.unwrap();
    let held = bench.apply_under(&before, 1, &[1, 2, 9], hold_by("a", 20)).await.unwrap();
    bench.apply_under(&before, 1, &[5], hold_by("b", MINUTE)).await.unwrap();
    let elsewhere = bench.apply(space(2), &[3], hold_by("c", 20)).await.unwrap().hold.unwrap();
    bench.wait_past(held.hold.unwrap().until.max(elsewhere.until)).await;

    // Slot 5 is in the way of this one: then nothing is freed, either.
    let heads = bench.heads(space(1)).await;
    assert!(matches!(bench.put_space(space(1), Some(opened("08:00", "18:00")), 1).await, Err(ApplyError::InUse(_))));
    assert_eq!(bench.heads(space(1)).await, heads);

    let (version, of_bucket) = heads;
    let at = bench.put_space(space(1), Some(opened("09:00", "14:00")), 1).await.unwrap();
    assert_eq!(at.version, version + 4);
    let messages = bench.log(Topic::Space(space(1)), version).await;
    let told: Vec<String> = messages
        .iter()
        .map(|message| match message.kind {
            MessageKind::SlotUpdate => {
                let payload = json(&message.payload);
                format!("{} {} {}", payload["slotId"], payload["status"], payload["data"]["orario"])
            }
            kind => kind.as_str().to_owned(),
        })
        .collect();
    // Slot 9 was at 17:00 as long as there was one.
    let expected =
        [r#"1 "available" "09:00""#, r#"2 "available" "10:00""#, r#"9 "available" "17:00""#, "space_changed"];
    assert_eq!(told, expected);
    let freed = bench.freed_after(space(1).bucket(), of_bucket).await;
    let slots: Vec<u16> = freed.iter().flat_map(|freed| &freed.slots).map(|slot| slot.get()).collect();
    assert_eq!((freed.len(), slots), (1, vec![1, 2, 9]));
    assert!(bench.store.holds_of(&user("a")).await.unwrap().is_empty());
    // Nothing of them is left for a sweep, and what is another space's is.
    assert_eq!(bench.store.sweep(space(1).bucket(), 10).await.unwrap().freed, 0);
    assert_eq!(bench.store.sweep(space(2).bucket(), 10).await.unwrap().freed, 1);
    assert_eq!(bench.status(space(1), 5).await, Status::Occupied);
}

pub async fn what_stays_is_told_by_its_present_hour(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let in_rome = opened("09:00", "18:00");
    let in_london = ScheduleSpec { timezone: "Europe/London".into(), ..opened("08:00", "17:00") };
    bench.put_space(space(1), Some(in_rome.clone()), 0).await.unwrap();
    let held = bench.apply_under(&in_rome, 1, &[1], hold_by("a", 1_000 + bench.slack)).await.unwrap();
    bench.apply_under(&in_rome, 1, &[2], update(StaffStatus::Booked)).await.unwrap();
    // The same instants under other names.
    bench.put_space(space(1), Some(in_london), 1).await.unwrap();
    assert_eq!(bench.store.holds_of(&user("a")).await.unwrap()[0].label, "08:00");
    let labels: Vec<_> =
        bench.store.read_space(space(1)).await.unwrap().taken.into_iter().map(|taken| taken.2.label).collect();
    assert_eq!(labels, ["08:00", "09:00"]);
    bench.wait_past(held.hold.unwrap().until).await;
    assert_eq!(bench.store.sweep(space(1).bucket(), 10).await.unwrap().freed, 1);
    let last = bench.log(Topic::Space(space(1)), 4).await.pop().unwrap();
    assert_eq!(json(&last.payload)["data"]["orario"], "08:00");
    assert!(bench.store.holds_of(&user("a")).await.unwrap().is_empty());
}

pub async fn taken_slots_are_those_of_the_future(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let soon = bench.now().await.plus_millis(300 + bench.slack);
    let near = |n, kind| SlotAct { slots: vec![bench.slot_at(n, soon)], ..bench.act(space(1), &[], kind) };
    bench.store.apply(near(1, update(StaffStatus::Booked))).await.unwrap();
    bench.apply(space(1), &[2], hold_by("a", 20)).await.unwrap();
    bench.apply(space(1), &[3], hold_by("a", MINUTE)).await.unwrap();
    bench.apply(space(1), &[4], update(StaffStatus::Blocked)).await.unwrap();
    let data = Some(SlotData::new(serde_json::from_str(r#"{"a": 1}"#).unwrap()));
    let with_data = SlotActKind::Update { to: StaffStatus::Available, data, user: None };
    bench.apply(space(1), &[5], with_data).await.unwrap();
    bench.apply(space(2), &[6], update(StaffStatus::Blocked)).await.unwrap();
    bench.wait_past(soon).await;

    let read = bench.store.read_space(space(1)).await.unwrap();
    let taken: Vec<_> = read.taken.iter().map(|(day, n, _)| (*day, n.get())).collect();
    assert_eq!(taken, [(day(), 3), (day(), 4)]);
    assert_eq!(read.taken[0].2.label, "03:00");
}

// Logs.

pub async fn a_log_is_exact_or_gone(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let topic = Topic::Space(space(1));
    let head = bench.space_head(space(1)).await;
    assert_eq!(head.version, 0);
    assert!(bench.log(topic, 0).await.is_empty());

    bench.apply(space(1), &[1, 2, 3], hold_by("a", MINUTE)).await.unwrap();
    for since in 0..=3 {
        let messages = bench.log(topic, since).await;
        let versions: Vec<u64> = messages.iter().map(|message| message.at.version).collect();
        assert_eq!(versions, (since + 1..=3).collect::<Vec<_>>());
        assert!(messages.iter().all(|message| message.at.epoch == head.epoch));
    }
    let gone = |read| match read {
        LogRead::Gone(head) => head,
        LogRead::Messages(messages) => panic!("{} messages", messages.len()),
    };
    let now_at = Position { version: 3, ..head.clone() };
    assert_eq!(gone(bench.store.read_log(topic, &Position { version: 4, ..head.clone() }).await.unwrap()), now_at);
    for version in [0, 1, 3] {
        let of_another_epoch = Position { epoch: "another".into(), version };
        assert_eq!(gone(bench.store.read_log(topic, &of_another_epoch).await.unwrap()), now_at);
    }
    let huge = Position { version: u64::MAX, ..head };
    assert_eq!(gone(bench.store.read_log(topic, &huge).await.unwrap()), now_at);
}

pub async fn a_log_keeps_its_last_changes(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let topic = Topic::Space(space(1));
    let changes = LOG_LENGTH + 6;
    let acts = (0..changes).map(|_| bench.apply(space(1), &[1], update(StaffStatus::Blocked)));
    // Some at a time: what waits for more than a second is refused.
    let mut outcomes = futures_util::stream::iter(acts).buffer_unordered(64);
    while let Some(outcome) = outcomes.next().await {
        outcome.unwrap();
    }
    let head = bench.space_head(space(1)).await;
    assert_eq!(head.version, changes);
    assert_eq!(bench.log(topic, 6).await.len() as u64, LOG_LENGTH);
    for version in [0, 4, 5] {
        let since = Position { version, ..head.clone() };
        let read = bench.store.read_log(topic, &since).await.unwrap();
        assert!(matches!(read, LogRead::Gone(at) if at == head), "{version}");
    }
}

pub async fn a_log_of_large_changes_is_read_in_portions(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let topic = Topic::Space(space(1));
    let start = bench.space_head(space(1)).await;
    let filler = |bytes: usize| format!("{{\"filler\":\"{}\"}}", "x".repeat(bytes));
    for number in 0..40 {
        let data = Some(SlotData::new(serde_json::from_str(&filler(1_000 + 300 * number)).unwrap()));
        let kind = SlotActKind::Update { to: StaffStatus::Blocked, data, user: None };
        bench.apply(space(1), &[1], kind).await.unwrap();
    }
    let (mut at, mut portions) = (start.clone(), 0);
    while at.version < 40 {
        let LogRead::Messages(portion) = bench.store.read_log(topic, &at).await.unwrap() else { panic!("gone") };
        let bytes: Vec<usize> = portion.iter().map(|message| message.payload.get().len()).collect();
        let (last, before) = bytes.split_last().expect("each read makes progress");
        assert!(before.iter().sum::<usize>() < LOG_PORTION, "{bytes:?}");
        assert_eq!(is_portion(&portion), before.iter().sum::<usize>() + last >= LOG_PORTION);
        assert!(is_portion(&portion) || portion.last().unwrap().at.version == 40);
        for message in portion {
            assert_eq!(message.at, Position { version: at.version + 1, ..at.clone() });
            at = message.at;
        }
        portions += 1;
    }
    assert!(portions >= 4, "{portions}");
    assert!(matches!(bench.store.read_log(topic, &at).await.unwrap(), LogRead::Messages(none) if none.is_empty()));
}

pub async fn a_day_of_large_slots_is_read_as_of_one_version(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let large = || Some(SlotData::new(serde_json::from_str(&format!("{{\"x\":\"{}\"}}", "x".repeat(4_096))).unwrap()));
    let numbers: Vec<u64> = (1..=60).collect();
    for some in numbers.chunks(30) {
        let kind = SlotActKind::Update { to: StaffStatus::Booked, data: large(), user: None };
        bench.apply(space(1), some, kind).await.unwrap();
    }
    // Slots change, and lose their records, while the day is read.
    let writing = async {
        let mut written = BTreeMap::new();
        for round in 0..90_u64 {
            let slot = 1 + round * 7 % 60;
            let (to, data) =
                if round % 3 == 0 { (StaffStatus::Available, None) } else { (StaffStatus::Booked, large()) };
            let has_record = data.is_some();
            let at = bench.apply(space(1), &[slot], SlotActKind::Update { to, data, user: None }).await.unwrap().at;
            written.insert(at.version, (slot, has_record));
        }
        written
    };
    let reading = async {
        let mut reads = Vec::new();
        for _ in 0..30 {
            let read = bench.store.read_day(space(1), day()).await.unwrap();
            let records = read.records.iter().map(|(number, record)| (u64::from(number.get()), record.version));
            reads.push((read.at.version, records.collect::<BTreeMap<_, _>>()));
        }
        reads
    };
    let (written, mut reads) = futures_util::future::join(writing, reading).await;
    let read = bench.store.read_day(space(1), day()).await.unwrap();
    reads
        .push((read.at.version, read.records.iter().map(|(n, record)| (u64::from(n.get()), record.version)).collect()));
    for (at, records) in reads {
        let mut expected: BTreeMap<u64, u64> = numbers.iter().map(|number| (*number, *number)).collect();
        for (version, (slot, has_record)) in written.range(..=at) {
            if *has_record {
                expected.insert(*slot, *version);
            } else {
                expected.remove(slot);
            }
        }
        assert_eq!(records, expected, "as of {at}");
    }
}

pub async fn a_node_goes_on_with_a_bucket_where_it_was(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let bucket = space(1).bucket();
    let user = (1..).map(|n: u64| UserId::new(&n.to_string()).unwrap()).find(|user| user.bucket() == bucket).unwrap();
    let notify = |event: &str| {
        let data = RawValue::from_string("1".into()).unwrap();
        bench.store.publish(Publication::ToUser { user: user.clone(), event: event.into(), data })
    };
    notify("before").await.unwrap();
    let mut told = bench.store.start_bucket(bucket).await.unwrap().told;
    assert_eq!(told.at, bench.store.head_of(Topic::Bucket(bucket)).await.unwrap());
    assert!(bench.store.read_bucket(bucket, &told).await.unwrap().messages.is_empty());
    for round in 0..3 {
        for event in ["one", "two"] {
            notify(event).await.unwrap();
        }
        let read = bench.store.read_bucket(bucket, &told).await.unwrap();
        let events: Vec<String> =
            read.messages.iter().map(|message| json(&message.payload)["event"].to_string()).collect();
        assert_eq!(events, ["\"one\"", "\"two\""], "{round}");
        assert_eq!(read.head, read.messages[1].at);
        read.messages.into_iter().for_each(|message| told.note(message.at));
    }
}

// Sweeping.

pub async fn two_sweepers_free_each_hold_once(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let second = factory.open().await.store;
    let bucket = space(1).bucket();
    let days = [day(), Day::parse("2090-05-06").unwrap()];
    for (index, date) in days.into_iter().enumerate() {
        for n in [1, 4, 7] {
            let name = format!("t{index}{n}");
            let kind = SlotActKind::Hold {
                user: user(&name),
                token: token(&name),
                millis: 40,
                max_holds: None,
                max_held: None,
            };
            let act = SlotAct { day: date, ..bench.act(space(1), &[n, n + 1], kind) };
            bench.store.apply(act).await.unwrap();
        }
    }
    bench.wait_past(bench.now().await.plus_millis(50)).await;
    let (version, bucket_version) = bench.heads(space(1)).await;

    let sweep_all = |store: Arc<dyn SlotStore>| async move {
        let mut freed = 0;
        loop {
            let batch = store.sweep(bucket, 3).await.unwrap();
            freed += batch.freed;
            if !batch.more {
                return freed;
            }
        }
    };
    let (one, other) = tokio::join!(tokio::spawn(sweep_all(bench.store.clone())), tokio::spawn(sweep_all(second)),);
    assert_eq!(one.unwrap() + other.unwrap(), 12);
    assert_eq!(bench.heads(space(1)).await.0, version + 12);

    let mut listed = BTreeSet::new();
    for freed in bench.freed_after(bucket, bucket_version).await {
        assert!(freed.slots.is_sorted(), "{freed:?}");
        for slot in freed.slots {
            assert!(listed.insert((freed.date, slot)), "{slot} of {} twice", freed.date);
        }
    }
    assert_eq!(listed.len(), 12);
    let updates = bench.log(Topic::Space(space(1)), version).await;
    let freed: BTreeSet<_> = updates
        .iter()
        .map(|message| json(&message.payload))
        .map(|payload| (payload["data"]["date"].as_str().unwrap().to_owned(), slot_and_status(&payload)))
        .collect();
    assert_eq!(freed.len(), 12);
    assert!(freed.iter().all(|(_, (_, status))| status == "available"));
}

pub async fn a_sweep_is_bounded_and_tells_what_is_left(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let bucket = space(1).bucket();
    let nothing = bench.store.sweep(bucket, 10).await.unwrap();
    assert_eq!((nothing.freed, nothing.more, nothing.next_end_in_ms), (0, false, None));
    assert!(nothing.spaces.is_empty());

    bench.apply(space(1), &[4], hold_by("b", MINUTE)).await.unwrap();
    let early = bench.store.sweep(bucket, 10).await.unwrap();
    assert_eq!((early.freed, early.more), (0, false));
    assert!(early.next_end_in_ms.unwrap() as i64 <= MINUTE);
    let held = bench.apply(space(1), &[1, 2, 3], hold_by("a", 30)).await.unwrap().hold.unwrap();
    bench.wait_past(held.until.plus_millis(20)).await;

    let first = bench.store.sweep(bucket, 2).await.unwrap();
    assert_eq!((first.freed, first.more, first.next_end_in_ms), (2, true, Some(0)));
    assert_eq!(first.spaces, [space(1)]);
    assert!(first.oldest_late_ms >= 20, "{first:?}");
    let second = bench.store.sweep(bucket, 2).await.unwrap();
    assert_eq!((second.freed, second.more), (1, false));
    let next = second.next_end_in_ms.unwrap() as i64;
    assert!((MINUTE - 30_000..=MINUTE).contains(&next), "{next}");
    assert_eq!(bench.status(space(1), 4).await, Status::Occupied);

    // Another bucket's holds are not touched.
    let elsewhere = Bucket::all().find(|other| *other != bucket).unwrap();
    assert_eq!(bench.store.sweep(elsewhere, 10).await.unwrap().next_end_in_ms, None);
    bench.apply(space(1), &[4], release_by("b")).await.unwrap();
    assert_eq!(bench.store.sweep(bucket, 10).await.unwrap().next_end_in_ms, None);
}

pub async fn an_extended_hold_is_swept_at_its_new_end(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let bucket = space(1).bucket();
    // Long enough for the slowest store to extend it in time, short enough to be waited for.
    let held = bench.apply(space(1), &[1], hold_by("a", 500 + bench.slack)).await.unwrap().hold.unwrap();
    bench.apply(space(1), &[1], extend_by("a", MINUTE)).await.unwrap();
    bench.wait_past(held.until).await;
    assert_eq!(bench.store.sweep(bucket, 10).await.unwrap().freed, 0);
    assert_eq!(bench.status(space(1), 1).await, Status::Occupied);
    let end = bench.apply(space(1), &[1], extend_by("a", 30)).await.unwrap().hold.unwrap().until;
    bench.wait_past(end).await;
    assert_eq!(bench.store.sweep(bucket, 10).await.unwrap().freed, 1);
}

// Messages.

fn to_user(name: &str, event: &str, data: &str) -> Publication {
    Publication::ToUser { user: user(name), event: event.into(), data: raw(data) }
}

async fn sequences(store: &dyn SlotStore, name: &str) -> Vec<u64> {
    let backlog = store.messages_of(&user(name), None, usize::MAX).await.unwrap().messages;
    backlog.iter().map(|message| message.sequence).collect()
}

pub async fn messages_to_a_user_wait_for_the_user(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let topic = Topic::Bucket(user("anna").bucket());
    let mut watch = bench.subscriptions.watch(topic).await.unwrap();
    for (event, data) in [("first", r#"{"price": 1.10}"#), ("second", "[1, 2]"), ("third", "null")] {
        bench.store.publish(to_user("anna", event, data)).await.unwrap();
    }
    bench.store.publish(to_user("7", "other", "1")).await.unwrap();

    let backlog = bench.store.messages_of(&user("anna"), None, usize::MAX).await.unwrap().messages;
    let got: Vec<_> = backlog.iter().map(|m| (m.event.as_str(), m.data.get())).collect();
    assert_eq!(got, [("first", r#"{"price": 1.10}"#), ("second", "[1, 2]"), ("third", "null")]);
    let [first, second, third] = sequences(&*bench.store, "anna").await[..] else { panic!("three messages") };
    assert!(first < second && second < third);
    assert_eq!(sequences(&*bench.store, "7").await.len(), 1);

    for (version, sequence) in (1..).zip([first, second, third]) {
        let message = next_message(&mut watch).await;
        assert_eq!((message.kind, message.at.version), (MessageKind::User, version));
        let heard: UserMessage = serde_json::from_str(message.payload.get()).unwrap();
        assert_eq!((heard.user, heard.sequence), (user("anna"), sequence));
    }

    bench.store.mark_received(&user("anna"), second).await.unwrap();
    assert_eq!(sequences(&*bench.store, "anna").await, [third]);
    // A socket that got less than another one is told what it lacks.
    for (since, missed) in [(first, vec![second, third]), (second, vec![third]), (third, vec![])] {
        let backlog = bench.store.messages_of(&user("anna"), Some(since), usize::MAX).await.unwrap();
        let sequences: Vec<u64> = backlog.messages.iter().map(|message| message.sequence).collect();
        assert_eq!((backlog.after, sequences), (since, missed));
    }
    // Never back.
    bench.store.mark_received(&user("anna"), first).await.unwrap();
    assert_eq!(sequences(&*bench.store, "anna").await, [third]);
    // Never beyond what was sent: the next message is not received yet.
    bench.store.mark_received(&user("anna"), u64::MAX).await.unwrap();
    assert!(sequences(&*bench.store, "anna").await.is_empty());
    bench.store.publish(to_user("anna", "fourth", "4")).await.unwrap();
    let fourth = sequences(&*bench.store, "anna").await;
    assert!(fourth.len() == 1 && fourth[0] > third, "{fourth:?} after {third}");
    bench.store.mark_received(&user("nobody"), 9).await.unwrap();
    assert!(sequences(&*bench.store, "nobody").await.is_empty());
}

pub async fn a_user_keeps_the_last_messages(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let count = USER_LOG_LENGTH + 7;
    for number in 1..=count {
        bench.store.publish(to_user("anna", "e", &number.to_string())).await.unwrap();
    }
    let kept = bench.store.messages_of(&user("anna"), None, usize::MAX).await.unwrap().messages;
    let numbers: Vec<String> = kept.iter().map(|message| message.data.get().to_owned()).collect();
    assert_eq!(numbers, (8..=count).map(|number| number.to_string()).collect::<Vec<_>>());
    assert!(kept.is_sorted_by_key(|message| message.sequence));
    // In portions: at least one message each, and as many as are enough for so many bytes.
    for (bytes, most) in [(0, 1), (300, 10), (3_000, USER_LOG_LENGTH)] {
        let (mut read, mut since) = (Vec::new(), None);
        loop {
            let portion = bench.store.messages_of(&user("anna"), since, bytes).await.unwrap();
            assert!((1..=most).contains(&portion.messages.len()), "{} for {bytes}", portion.messages.len());
            since = portion.messages.last().map(|message| message.sequence);
            read.extend(portion.messages.iter().map(|message| message.data.get().to_owned()));
            if !portion.has_more {
                break;
            }
        }
        assert_eq!(read, numbers, "by {bytes} bytes");
    }
    let last = kept.last().map(|message| message.sequence);
    let none = bench.store.messages_of(&user("anna"), last, 1).await.unwrap();
    assert!(none.messages.is_empty() && !none.has_more);
}

pub async fn publications_reach_their_topics(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let everyone = Topic::Bucket(Bucket::EVERYONE);
    let of_user = Topic::Bucket(user("anna").bucket());
    let of_space = Topic::Space(space(1));
    let mut watch_everyone = bench.subscriptions.watch(everyone).await.unwrap();
    let mut watch_user = bench.subscriptions.watch(of_user).await.unwrap();
    let mut watch_space = bench.subscriptions.watch(of_space).await.unwrap();
    bench.apply(space(1), &[1], hold_by("a", MINUTE)).await.unwrap();
    next_message(&mut watch_space).await;

    let message = EveryoneMessage { event: "avviso".into(), data: raw(r#"{"n": 1.0}"#) };
    bench.store.publish(Publication::ToEveryone(message)).await.unwrap();
    let heard = next_message(&mut watch_everyone).await;
    assert_eq!((heard.kind, heard.at.version), (MessageKind::Everyone, 1));
    let heard: EveryoneMessage = serde_json::from_str(heard.payload.get()).unwrap();
    assert_eq!((heard.event.as_str(), heard.data.get()), ("avviso", r#"{"n": 1.0}"#));
    assert_eq!(bench.log(everyone, 0).await.len(), 1);

    // What is not kept takes no version, and bears the head.
    let before = bench.now().await;
    bench.store.publish(Publication::DisconnectUser(user("anna"))).await.unwrap();
    let heard = next_message(&mut watch_user).await;
    assert_eq!((heard.kind, heard.at.clone()), (MessageKind::Disconnect, bench.head(of_user).await));
    let command: DisconnectUser = serde_json::from_str(heard.payload.get()).unwrap();
    assert_eq!(command.user, user("anna"));
    assert!((before..=bench.now().await).contains(&command.before));
    assert_eq!(bench.head(of_user).await.version, 0);

    bench.store.publish(Publication::ShowBoard(space(1), day())).await.unwrap();
    let heard = next_message(&mut watch_space).await;
    assert_eq!((heard.kind, heard.at.version), (MessageKind::ShowBoard, 1));
    let show: ShowBoard = serde_json::from_str(heard.payload.get()).unwrap();
    assert_eq!(show.date, day());
    assert_eq!(bench.space_head(space(1)).await.version, 1);
    assert_eq!(bench.log(of_space, 0).await.len(), 1);
}

// Reads.

pub async fn holds_of_a_user_are_the_live_ones(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let hold = |in_space: u64, date: &str, slots: &[u64], name: &str, millis| {
        let kind = SlotActKind::Hold { user: user("a"), token: token(name), millis, max_holds: None, max_held: None };
        SlotAct { day: Day::parse(date).unwrap(), ..bench.act(space(in_space), slots, kind) }
    };
    bench.store.apply(hold(2, "2090-01-01", &[3], "one", MINUTE)).await.unwrap();
    bench.store.apply(hold(1, "2090-01-02", &[2, 10], "two", MINUTE)).await.unwrap();
    bench.store.apply(hold(1, "2090-01-01", &[9], "three", MINUTE)).await.unwrap();
    let ended = bench.store.apply(hold(1, "2090-01-01", &[1], "four", 20)).await.unwrap();
    bench.store.apply(hold(1, "2090-01-03", &[1], "five", MINUTE)).await.unwrap();
    let release = SlotAct { day: Day::parse("2090-01-03").unwrap(), ..bench.act(space(1), &[1], release_by("a")) };
    bench.store.apply(release).await.unwrap();
    bench.apply(space(1), &[1], hold_by("ab", MINUTE)).await.unwrap();
    bench.wait_past(ended.hold.unwrap().until).await;

    let holds = bench.store.holds_of(&user("a")).await.unwrap();
    let got: Vec<_> = holds
        .iter()
        .map(|held| (held.space.space.get(), held.day.to_string(), held.slot.get(), held.token.clone()))
        .collect();
    let expected = [
        (1, "2090-01-01".to_owned(), 9, token("three")),
        (1, "2090-01-02".to_owned(), 2, token("two")),
        (1, "2090-01-02".to_owned(), 10, token("two")),
        (2, "2090-01-01".to_owned(), 3, token("one")),
    ];
    assert_eq!(got, expected);
    assert_eq!(holds[0].label, "09:00");
    assert!(bench.store.holds_of(&user("nobody")).await.unwrap().is_empty());
}

pub async fn bookings_of_a_user_are_those_of_the_days_asked_for(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let on = |in_space: u64, date: &str, slots: &[u64], kind| SlotAct {
        day: Day::parse(date).unwrap(),
        ..bench.act(space(in_space), slots, kind)
    };
    for (in_space, date, slots, who) in [
        (2, "2090-01-01", &[3][..], "a"),
        (1, "2090-01-03", &[2, 10], "a"),
        (1, "2090-01-01", &[9], "ab"),
        (1, "2090-01-02", &[4], "a"),
        (1, "2090-01-02", &[5], "a"),
        (3, "2090-01-04", &[1], "a"),
    ] {
        bench.store.apply(on(in_space, date, slots, hold_by(who, MINUTE))).await.unwrap();
        bench.store.apply(on(in_space, date, slots, book_by(who))).await.unwrap();
    }
    // Held and not booked; released; taken by staff; given data by staff, who leave it to its user.
    bench.store.apply(on(1, "2090-01-02", &[6], hold_by("a", MINUTE))).await.unwrap();
    let release =
        SlotActKind::Release { actor: Actor::Anyone, token: None, booked_by: Some(Actor::Anyone), cancel_before: None };
    bench.store.apply(on(1, "2090-01-02", &[5], release)).await.unwrap();
    bench.store.apply(on(1, "2090-01-03", &[10], update(StaffStatus::Blocked))).await.unwrap();
    bench.store.apply(on(1, "2090-01-02", &[4], update(StaffStatus::Booked))).await.unwrap();

    let booked = async |who: &str, from: &str, to: &str| {
        let [from, to] = [from, to].map(|date| Day::parse(date).unwrap());
        let mut booked = bench.store.bookings_of(&user(who), from, to).await.unwrap();
        booked.sort_by_key(|slot| (slot.day, slot.space.space, slot.slot));
        booked
    };
    let all = booked("a", "2090-01-01", "2090-01-04").await;
    let got: Vec<_> = all.iter().map(|slot| (slot.day.to_string(), slot.space.space.get(), slot.slot.get())).collect();
    let expected = [("2090-01-01", 2, 3), ("2090-01-02", 1, 4), ("2090-01-03", 1, 2), ("2090-01-04", 3, 1)];
    assert_eq!(got, expected.map(|(date, in_space, slot)| (date.to_owned(), in_space, slot)));
    let (first, time) = (&all[0], bench.slot(3));
    assert_eq!((first.start, first.end, first.label.as_str()), (time.start, time.end, "03:00"));
    assert!(all.iter().all(|slot| slot.booked_at.is_some_and(|booked_at| booked_at >= bench.began)));
    assert_eq!(booked("a", "2090-01-02", "2090-01-03").await, all[1..3]);
    assert_eq!(booked("a", "2090-01-05", "2090-01-04").await, []);
    assert_eq!(booked("ab", "2090-01-01", "2090-01-04").await.len(), 1);
    assert_eq!(booked("nobody", "0001-01-01", "9999-12-31").await, []);
}

pub async fn spaces_with_something_on_a_day_are_known(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let elsewhere = SpaceKey { site: SiteId::new(2).unwrap(), ..space(1) };
    for at in [space(30), space(4), elsewhere] {
        bench.apply(at, &[1], hold_by("a", MINUTE)).await.unwrap();
    }
    bench
        .store
        .apply(SlotAct { day: Day::parse("2090-05-06").unwrap(), ..bench.act(space(5), &[1], hold_by("a", MINUTE)) })
        .await
        .unwrap();
    let numbers = async |site: u64| {
        let spaces = bench.store.spaces_on(SiteId::new(site).unwrap(), day()).await.unwrap();
        spaces.into_iter().map(SpaceId::get).collect::<Vec<_>>()
    };
    assert_eq!((numbers(1).await, numbers(2).await, numbers(3).await), (vec![4, 30], vec![1], vec![]));
}

pub async fn what_is_registered_is_listed(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    assert_eq!(bench.store.registered_spaces().await.unwrap(), []);
    let elsewhere = SpaceKey { site: SiteId::new(2).unwrap(), ..space(1) };
    let spec = ScheduleSpec { hold_minutes: Some(5), ..ScheduleSpec::default() };
    for at in [elsewhere, space(30), space(4)] {
        bench.put_space(at, Some(spec.clone()), 0).await.unwrap();
    }
    bench.apply(space(7), &[1], hold_by("a", MINUTE)).await.unwrap();
    assert_eq!(bench.store.registered_spaces().await.unwrap(), [space(4), space(30), elsewhere]);
    bench.put_space(space(4), None, 1).await.unwrap();
    assert_eq!(bench.store.registered_spaces().await.unwrap(), [space(30), elsewhere]);
    let schedules = bench.store.schedules_of(&[elsewhere, space(4), space(7)]).await.unwrap();
    assert_eq!(schedules, [Some(spec), None, None]);
}

pub async fn a_booking_is_cancelled_until_some_time_before_its_start(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    for who in ["a", "b"] {
        let slots = if who == "a" { &[2, 4][..] } else { &[3] };
        bench.apply(space(1), slots, hold_by(who, MINUTE)).await.unwrap();
        bench.apply(space(1), slots, book_by(who)).await.unwrap();
    }
    let cancel = async |slots: &[u64], kind| refusal(bench.apply(space(1), slots, kind).await);
    // Slot 2 starts in two hours, slot 4 in four.
    assert_eq!(cancel(&[2, 4], cancel_by("a", 3 * HOUR)).await, (Code::TooLate, vec![2]));
    assert_eq!(cancel(&[3, 4], cancel_by("a", 0)).await, (Code::NotHeld, vec![3]));
    assert_eq!(cancel(&[2], release_by("a")).await, (Code::NotHeld, vec![2]));
    let under_token = SlotActKind::Release {
        actor: Actor::User(user("a")),
        token: Some(token("a")),
        booked_by: None,
        cancel_before: Some(0),
    };
    assert_eq!(cancel(&[2], under_token).await, (Code::HoldExpired, vec![2]));
    bench.apply(space(1), &[5], hold_by("a", MINUTE)).await.unwrap();
    bench.apply(space(1), &[4, 5], cancel_by("a", 3 * HOUR)).await.unwrap();
    assert_eq!(
        (bench.status(space(1), 4).await, bench.status(space(1), 5).await),
        (Status::Available, Status::Available)
    );
    let booked = bench.store.bookings_of(&user("a"), day(), day()).await.unwrap();
    assert_eq!(booked.iter().map(|slot| slot.slot.get()).collect::<Vec<_>>(), [2]);
}

pub async fn staff_book_for_a_user(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let book_for = |who: Option<&str>| {
        let data = serde_json::from_str::<SlotData>(r#"{"a":1}"#).ok();
        SlotActKind::Update { to: StaffStatus::Booked, data, user: who.map(user) }
    };
    bench.apply(space(1), &[2], hold_by("b", MINUTE)).await.unwrap();
    let first = bench.apply(space(1), &[1, 2], book_for(Some("a"))).await.unwrap();
    assert_eq!(first.at.version, 3);
    let of = async |who: &str| {
        let booked = bench.store.bookings_of(&user(who), day(), day()).await.unwrap();
        let mut slots: Vec<u16> = booked.iter().map(|slot| slot.slot.get()).collect();
        slots.sort_unstable();
        slots
    };
    assert_eq!((of("a").await, of("b").await), (vec![1, 2], vec![]));
    assert!(bench.store.holds_of(&user("b")).await.unwrap().is_empty());
    // A repeated `book` is answered the position of staff's booking, also after staff named the same user again.
    bench.apply(space(1), &[2], book_for(Some("a"))).await.unwrap();
    bench.apply(space(1), &[1], book_for(None)).await.unwrap();
    assert_eq!(bench.apply(space(1), &[1, 2], book_by("a")).await.unwrap().at, first.at);
    // Another's booking is replaced, and is a new one.
    let replaced = bench.apply(space(1), &[2], book_for(Some("b"))).await.unwrap();
    assert_eq!((of("a").await, of("b").await), (vec![1], vec![2]));
    assert_eq!(bench.apply(space(1), &[2], book_by("b")).await.unwrap().at, replaced.at);
    let told = bench.log(Topic::Space(space(1)), 3).await;
    let owners = told.iter().map(|message| message.owned.as_ref().map(|owned| owned.user.to_string()));
    assert_eq!(owners.collect::<Vec<_>>(), [Some("a".into()), Some("a".into()), Some("b".into())]);
}

pub async fn a_read_never_mixes_two_versions(factory: impl StoreFactory) {
    let bench = Arc::new(bench(&factory).await);
    let writer = bench.clone();
    let writing = tokio::spawn(async move {
        for round in 0..60 {
            let to = if round % 2 == 0 { StaffStatus::Blocked } else { StaffStatus::Booked };
            writer.apply(space(1), &[1, 2, 3], update(to)).await.unwrap();
        }
    });
    while !writing.is_finished() {
        let read = bench.store.read_day(space(1), day()).await.unwrap();
        // Each act writes all three slots and takes three versions: any read sees whole acts.
        assert_eq!(read.at.version % 3, 0);
        let versions: Vec<u64> = read.records.values().map(|record| record.version).collect();
        let last = read.at.version;
        let whole = if last == 0 { vec![] } else { vec![last - 2, last - 1, last] };
        assert_eq!(versions, whole);
        tokio::task::yield_now().await;
    }
    writing.await.unwrap();
}

pub async fn nodes_are_told_until_their_lease_ends(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let report = |id: &str, sockets| NodeReport {
        id: id.into(),
        address: "127.0.0.1:3000".into(),
        proof: None,
        version: "1".into(),
        started_at: "2026-01-01T00:00:00.000Z".into(),
        sockets,
        users: 1,
        rooms: BTreeMap::from([("spazio_1_sede_1".into(), 2)]),
    };
    let long = Duration::from_secs(60);
    bench.store.report_node(report("one", 1), long).await.unwrap();
    bench.store.report_node(report("two", 2), Duration::from_millis(20)).await.unwrap();
    bench.store.report_node(report("one", 5), long).await.unwrap();
    bench.wait_past(bench.now().await.plus_millis(25)).await;
    let nodes = bench.store.nodes().await.unwrap();
    let got: Vec<_> = nodes.iter().map(|node| (node.id.as_str(), node.sockets, node.rooms.len())).collect();
    assert_eq!(got, [("one", 5, 1)]);
    assert_eq!(bench.store.take_sweep_lease("one", long).await.unwrap(), None);
    assert_eq!(bench.store.take_sweep_lease("one", long).await.unwrap(), None);
}

/// How many times the holds of a user are listed while one of them is extended, and for how long at most: a busy machine
/// lists fewer.
const LISTINGS: usize = 400;
const LISTING: Duration = Duration::from_secs(20);

/// How long the hold lasts from each extension on, in ms.
const EXTENDED_BY: i64 = 40;

/// Two ways to one store: by one a hold is extended again and again shortly before its end, by the other its user's holds are
/// listed. Not a case of the suite: it needs a store that answers within milliseconds.
pub async fn an_extended_hold_is_always_there([extending, listing]: [Arc<dyn SlotStore>; 2]) {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    let start = extending.ping().await.unwrap().plus_millis(HOUR);
    let slot = SlotTime { number: number(1), start, end: start.plus_millis(HOUR), label: "01:00".into() };
    let act = |kind| {
        let slots = vec![slot.clone()];
        extending.apply(SlotAct {
            space: space(1),
            day: day(),
            slots,
            revision: None,
            kind,
            idempotency: None,
            origin: None,
        })
    };
    // How often the hold began anew, since it was extended too late, and how often it was extended.
    let (begun, extended, is_over) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let extend = async {
        // A machine that is too busy to extend it in time gets longer holds, until it does.
        let mut late = 0;
        while !is_over.load(Ordering::SeqCst) {
            match act(extend_by("a", EXTENDED_BY)).await {
                Ok(_) => {
                    late = 0;
                    extended.fetch_add(1, Ordering::SeqCst);
                }
                Err(_) => {
                    begun.fetch_add(1, Ordering::SeqCst);
                    act(hold_by("a", EXTENDED_BY << late.min(9))).await.unwrap();
                    begun.fetch_add(1, Ordering::SeqCst);
                    late += 1;
                }
            }
        }
    };
    let listing_until = slotcast::clock::instant() + LISTING;
    let is_enough = |listings| {
        let has_many = listings >= LISTINGS || slotcast::clock::instant() >= listing_until;
        has_many && extended.load(Ordering::SeqCst) >= 10
    };
    let list = async {
        let mut listings = 0;
        while !is_enough(listings) {
            listings += 1;
            // A store that answers without waiting leaves the other one no time.
            tokio::task::yield_now().await;
            let (began, extensions) = (begun.load(Ordering::SeqCst), extended.load(Ordering::SeqCst));
            let holds = listing.holds_of(&user("a")).await.unwrap();
            assert!(holds.len() <= 1, "twice: {holds:?}");
            if !holds.is_empty() || extensions == 0 {
                continue;
            }
            // One that is extended after the answer was there throughout, unless it began anew since the question.
            let answered = extended.load(Ordering::SeqCst);
            while begun.load(Ordering::SeqCst) == began && extended.load(Ordering::SeqCst) < answered + 2 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            assert_ne!(begun.load(Ordering::SeqCst), began, "a hold that was extended is missing");
        }
        is_over.store(true, Ordering::SeqCst);
    };
    let both = async { tokio::join!(extend, list) };
    tokio::time::timeout(Duration::from_secs(180), both).await.expect("the hold is extended");
}

// All at once.

/// What one task did, with the last version of its act.
#[derive(Clone, Debug, PartialEq)]
struct Done {
    who: usize,
    act: &'static str,
    slots: Vec<u64>,
}

pub async fn random_acts_of_many_never_collide(factory: impl StoreFactory) {
    const TASKS: usize = 64;
    const ACTS: usize = 20;
    const SPACES: u64 = 3;
    let bench = Arc::new(bench(&factory).await);
    let mut tasks = tokio::task::JoinSet::new();
    for who in 0..TASKS {
        let bench = bench.clone();
        tasks.spawn(async move {
            let mut random = Random(0x9E37_79B9 + who as u64);
            let mut done = Vec::new();
            let mut booked = BTreeSet::new();
            for _ in 0..ACTS {
                let in_space = 1 + random.below(SPACES);
                let first = 1 + random.below(4);
                let slots: Vec<u64> = (first..=first + random.below(2)).collect();
                let name = format!("u{who}");
                let token = HoldToken::from_random(random.bytes());
                let (act, kind) = match random.below(10) {
                    0..5 => ("hold", {
                        let millis = 1 + random.below(60) as i64;
                        SlotActKind::Hold {
                            user: user(&name),
                            token: token.clone(),
                            millis,
                            max_holds: None,
                            max_held: None,
                        }
                    }),
                    // Once a slot: a second booking may be a repeat, which answers with another act's version.
                    5 if slots.iter().all(|slot| booked.insert((in_space, *slot))) => ("book", book_by(&name)),
                    6 => ("clear", {
                        let (actor, booked_by) = (Actor::Anyone, Some(Actor::Anyone));
                        SlotActKind::Release { actor, token: None, booked_by, cancel_before: None }
                    }),
                    5..8 => ("release", release_by(&name)),
                    _ => ("extend", extend_by(&name, 1 + random.below(40) as i64)),
                };
                match bench.apply(space(in_space), &slots, kind).await {
                    // Another token than the one sent is the answer to an earlier hold.
                    Ok(outcome) if act == "hold" && outcome.hold.as_ref().unwrap().token != token => {}
                    Ok(outcome) => done.push((in_space, outcome.at.version, Done { who, act, slots })),
                    Err(ApplyError::Refused(_)) => {}
                    Err(other) => panic!("{other}"),
                }
                if random.below(4) == 0 {
                    bench.store.sweep(space(in_space).bucket(), 2).await.unwrap();
                }
            }
            done
        });
    }
    let mut acts: BTreeMap<(u64, u64), Done> = BTreeMap::new();
    while let Some(done) = tasks.join_next().await {
        for (in_space, version, act) in done.unwrap() {
            let known = acts.entry((in_space, version)).or_insert_with(|| act.clone());
            assert_eq!(*known, act, "version {version} was answered to two different acts");
        }
    }
    assert!(acts.len() > 50, "only {} acts were done", acts.len());
    for in_space in 1..=SPACES {
        replay(&bench, in_space, &acts).await;
    }
}

/// Replays a space's log, and checks each event against who did it, and the end against the board.
async fn replay(bench: &Bench, in_space: u64, acts: &BTreeMap<(u64, u64), Done>) {
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Has {
        Held(usize),
        Booked(usize),
    }
    // Each event belongs to the act that ends with it or soon after it; what no act claims was freed.
    let mut doers: BTreeMap<u64, &Done> = BTreeMap::new();
    for ((_, version), done) in acts.range((in_space, 0)..=(in_space, u64::MAX)) {
        for version in version + 1 - done.slots.len() as u64..=*version {
            assert!(doers.insert(version, done).is_none(), "version {version} belongs to two acts");
        }
    }
    let mut board: BTreeMap<u64, Has> = BTreeMap::new();
    let messages = bench.log(Topic::Space(space(in_space)), 0).await;
    for (message, version) in messages.iter().zip(1..) {
        assert_eq!(message.at.version, version);
        let payload = json(&message.payload);
        let (slot, status) = slot_and_status(&payload);
        let had = board.remove(&slot);
        let Some(done) = doers.get(&version) else {
            assert!(matches!(had, Some(Has::Held(_))), "freed {had:?} at {version}");
            assert_eq!(status, "available");
            continue;
        };
        assert!(done.slots.contains(&slot));
        match done.act {
            "hold" => assert_eq!(had, None, "held twice at {version}"),
            "clear" => assert!(had.is_some(), "cleared nothing at {version}"),
            act => assert_eq!(had, Some(Has::Held(done.who)), "{act} at {version}"),
        }
        match done.act {
            "hold" | "extend" => board.insert(slot, Has::Held(done.who)),
            "book" => board.insert(slot, Has::Booked(done.who)),
            _ => None,
        };
    }
    let read = bench.store.read_day(space(in_space), day()).await.unwrap();
    assert_eq!(read.at.version, messages.len() as u64);
    let who = |user: &UserId| user.as_str().trim_start_matches('u').parse().unwrap();
    let stored = read.records.iter().filter_map(|(number, record)| match &record.state {
        SlotState::Held(hold) => Some((u64::from(number.get()), Has::Held(who(&hold.user)))),
        SlotState::Booked { user, .. } => Some((u64::from(number.get()), Has::Booked(who(user.as_ref().unwrap())))),
        _ => None,
    });
    assert_eq!(stored.collect::<BTreeMap<_, _>>(), board);
}

/// Xorshift: the same acts in each run; what differs is their order.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn bytes(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.next().to_be_bytes());
        bytes[8..].copy_from_slice(&self.next().to_be_bytes());
        bytes
    }
}

// Afterwards.

pub async fn a_restart_keeps_everything(mut factory: impl StoreFactory) {
    let before = bench(&factory).await;
    let held = before.apply(space(1), &[1, 2], hold_by("a", MINUTE)).await.unwrap();
    before.apply(space(1), &[3], hold_by("b", MINUTE)).await.unwrap();
    before.apply(space(1), &[3], book_by("b")).await.unwrap();
    let ending = before.apply(space(1), &[4], hold_by("c", 30)).await.unwrap().hold.unwrap();
    let keyed_act = keyed(before.act(space(1), &[5], hold_by("d", MINUTE)), "d", "key", "body");
    let keyed_outcome = before.store.apply(keyed_act.clone()).await.unwrap();
    before.put_space(space(2), Some(spec(30)), 0).await.unwrap();
    before.store.publish(to_user("a", "hello", "1")).await.unwrap();
    let first = sequences(&*before.store, "a").await;
    before.store.mark_received(&user("a"), first[0]).await.unwrap();
    before.store.publish(to_user("a", "hello", "2")).await.unwrap();
    let second = sequences(&*before.store, "a").await;
    let topics = [Topic::Space(space(1)), Topic::Space(space(2)), Topic::Bucket(user("a").bucket())];
    let heads = before.store.heads(&topics).await.unwrap();
    let log = before.log(topics[0], 0).await;
    let board = before.store.read_day(space(1), day()).await.unwrap();
    let began = before.began;
    drop(before);
    factory.restart().await;

    let after = Bench { began, ..bench(&factory).await };
    assert_eq!(after.store.heads(&topics).await.unwrap(), heads);
    let log_after = after.log(topics[0], 0).await;
    let as_text = |log: &[Message]| -> Vec<_> {
        log.iter().map(|m| (m.at.clone(), m.kind, m.payload.get().to_owned())).collect()
    };
    assert_eq!(as_text(&log_after), as_text(&log));
    let board_after = after.store.read_day(space(1), day()).await.unwrap();
    assert_eq!((board_after.at, board_after.records), (board.at, board.records));
    assert_eq!(after.store.read_space(space(2)).await.unwrap().schedule, Some(spec(30)));
    assert_eq!(sequences(&*after.store, "a").await, second);
    assert_eq!(after.store.apply(keyed_act).await.unwrap(), repeat_of(&keyed_outcome));
    assert_eq!(after.apply(space(1), &[1, 2], hold_by("a", MINUTE)).await.unwrap(), repeat_of(&held));
    after.wait_past(ending.until).await;
    let swept = after.store.sweep(space(1).bucket(), 10).await.unwrap();
    assert_eq!(swept.freed, 1);
    let next = after.apply(space(1), &[1, 2], book_by("a")).await.unwrap();
    assert_eq!(next.at, Position { version: heads[0].version + 3, ..heads[0].clone() });
    after.store.publish(to_user("a", "hello", "3")).await.unwrap();
    let waiting = sequences(&*after.store, "a").await;
    assert!(waiting.len() == 2 && waiting[0] == second[0] && waiting[0] < waiting[1], "{waiting:?} after {second:?}");
}
