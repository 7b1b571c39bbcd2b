//! The guarantees of [`slotcast::store::SlotStore`], each as a case that every store must pass.
//!
//! A store takes part with a [`StoreFactory`] and one line: `store_conformance!(its_module, ItsFactory);`. Cases use
//! real time and short holds. A case that has to wait does so until the store's own clock has passed an instant.

mod rule;
mod repeats;
mod spaces;
mod logs;
mod sweeping;
mod messages;
mod reads;
mod at_once;
mod afterwards;

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

pub use afterwards::*;
pub use at_once::*;
pub use logs::*;
pub use messages::*;
pub use reads::*;
pub use repeats::*;
pub use rule::*;
pub use spaces::*;
pub use sweeping::*;

/// Makes stores for the cases.
#[async_trait]
pub trait StoreFactory: Send + Sync + Sized {
    /// Starts a store of its own, which is empty.
    async fn start() -> Self;

    /// Opens a handle to the store. If several nodes may share the store, each handle is one of another node.
    async fn open(&self) -> Handles;

    /// Ends everything of the store except what it keeps durably. The caller has dropped its handles.
    async fn restart(&mut self);

    /// How many ms longer than usual a few acts may take on a busy machine. Cases use it where they must act before
    /// something ends.
    fn slack_millis(&self) -> i64 {
        1_500
    }
}

/// The two sides of a store.
#[derive(Clone)]
pub struct Handles {
    /// The state.
    pub store: Arc<dyn SlotStore>,
    /// The announcements.
    pub subscriptions: Arc<dyn Subscriptions>,
}

/// Makes each case a test, with the given factory, in a module of the given name.
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

/// Calls another macro with the arguments that are given, and then the names of all cases.
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

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

/// A store, and short methods to act on it.
struct Bench {
    store: Arc<dyn SlotStore>,
    subscriptions: Arc<dyn Subscriptions>,
    /// The store's time when the case began.
    began: StoreTime,
    /// How many ms longer than usual a few acts may take.
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

/// A day of the far future, so no store forgets it by its date.
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

    /// Registers a schedule. `revision` is the version of the schedule that it replaces, in the current epoch; 0 if
    /// there is none.
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

    /// Acts on slots at the times that a schedule gives them.
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

    /// The versions of the space and of its bucket.
    async fn heads(&self, space: SpaceKey) -> (u64, u64) {
        let heads = self.store.heads(&[Topic::Space(space), Topic::Bucket(space.bucket())]).await.unwrap();
        (heads[0].version, heads[1].version)
    }

    /// The log after a version of the current epoch. The log must reach back that far.
    async fn log(&self, topic: Topic, since: u64) -> Vec<Message> {
        let since = Position { version: since, ..self.head(topic).await };
        match read_whole_log(self.store.as_ref(), topic, &since).await.unwrap() {
            LogRead::Messages(messages) => messages,
            LogRead::Gone(head) => panic!("gone at {head:?}"),
        }
    }

    /// The slot and the status of each `slot_update` after a version.
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

    /// The status of a slot. A slot without a record is free.
    async fn status(&self, space: SpaceKey, n: u64) -> Status {
        let read = self.store.read_day(space, day()).await.unwrap();
        read.records.get(&number(n)).map_or(Status::Available, |record| record.status(read.now))
    }

    /// Waits until the store's clock has passed the instant.
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
