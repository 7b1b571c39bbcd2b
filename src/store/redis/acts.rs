//! Acts on slots, and the answers that are kept for an `Idempotency-Key`.

use super::RedisStore;
use super::call::{Budget, Call};
use super::journal;
use super::record::{parse_time, parse_token};
use super::reply::Reply;
use super::scripts::{self, Script};
use super::taken;
use crate::domain::act::{Idempotency, SlotActKind, SlotTime, StaffStatus};
use crate::domain::event::to_json;
use crate::domain::rule::HoldAnswer;
use crate::domain::{Actor, Code, Day, HoldToken, Refusal, SlotAct, SlotNumber, UserId};
use crate::store::digest::digest_of;
use crate::store::{ActOutcome, ApplyError, DAYS_KEPT, StoreError, Topic};
use crate::telemetry::users::logged;

/// Does an act.
pub(super) async fn apply(store: &RedisStore, act: &SlotAct) -> Result<ActOutcome, ApplyError> {
    let budget = Budget::of_a_call();
    if let Some(idempotency) = &act.idempotency {
        refuse_other_call(store, idempotency, budget).await?;
    }
    let call = call_of(store, act)?;
    let reply = store.runner.once(&call, budget).await.inspect_err(|_| {
        if act.kind.may_take() {
            taken::send_later(&store.runner, act.space.bucket());
        }
    })?;
    let outcome = read_outcome(&reply)?;
    let is_new = reply.text_at(0)? == "done";
    if is_new {
        store.runner.positions.learn(Topic::Space(act.space), &outcome.at);
    }
    if let Some(idempotency) = act.idempotency.as_ref().filter(|_| is_new) {
        remember_call(store, idempotency, budget).await;
    }
    if is_new {
        taken::send_soon(&store.runner, act.space.bucket(), reply.texts_from(6)?);
    }
    Ok(outcome)
}

fn call_of(store: &RedisStore, act: &SlotAct) -> Result<Call, StoreError> {
    let (space, bucket) = (act.space, act.space.bucket());
    let (of_space, of_bucket) = (Topic::Space(space), Topic::Bucket(bucket));
    let keys = &store.keys;
    let revision = act.revision.as_ref().map_or_else(String::new, |at| format!("{}:{}", at.epoch, at.version));
    let mut call = call_with_keys(store, act)
        .arg(format_args!("{revision}\n{}", store.runner.positions.arg(of_space)))
        .arg(keys.channel(of_space))
        .arg(keys.channel(of_bucket))
        .arg(space.site)
        .arg(space.space)
        .arg(act.day)
        .arg(forgotten_at_seconds(act.day))
        .arg(act.idempotency.as_ref().map_or_else(String::new, lines_of));
    for arg in args_of_kind(&act.kind) {
        call = call.arg(arg);
    }
    call = call.arg(journal::about(store, act.kind.journal_act(), act.origin.as_ref()));
    for slot in &act.slots {
        call = call.arg(slot.number).arg(slot.start.as_millis()).arg(slot.end.as_millis()).arg(label_of(slot)?);
    }
    Ok(call)
}

/// The act's script with its keys, in the order that `act.lua` names.
fn call_with_keys(store: &RedisStore, act: &SlotAct) -> Call {
    let (space, bucket) = (act.space, act.space.bucket());
    let (of_space, of_bucket) = (Topic::Space(space), Topic::Bucket(bucket));
    let keys = &store.keys;
    let mut call = Call::writing(script_of(&act.kind), of_space)
        .key(keys.head(of_space))
        .key(keys.log(of_space))
        .key(keys.day(space, act.day))
        .key(keys.days(space))
        .key(keys.ends(bucket))
        .key(keys.holds(bucket))
        .key(keys.head(of_bucket))
        .key(keys.log(of_bucket))
        .key(keys.journal(bucket))
        .key(journal::people_key(store, bucket))
        .key(keys.bookings(bucket))
        .key(keys.places(bucket));
    if let Some(idempotency) = &act.idempotency {
        call = call.key(keys.calls(bucket, &idempotency.caller)).key(keys.answer(
            bucket,
            &idempotency.caller,
            &idempotency.key,
        ));
    }
    if act.kind.may_take() {
        call = call.key(keys.taken(bucket));
    }
    call
}

fn script_of(kind: &SlotActKind) -> &'static Script {
    match kind {
        SlotActKind::Hold { .. } => &scripts::HOLD,
        SlotActKind::Book { .. } => &scripts::BOOK,
        SlotActKind::Release { .. } => &scripts::RELEASE,
        SlotActKind::Extend { .. } => &scripts::EXTEND,
        SlotActKind::Update { .. } => &scripts::UPDATE,
    }
}

/// ARGV 14: the digests of the key and of the call, and the call itself.
fn lines_of(idempotency: &Idempotency) -> String {
    let Idempotency { key, fingerprint, .. } = idempotency;
    format!("{}\n{}\n{fingerprint}", digest_of(key), digest_of(fingerprint))
}

/// ARGV 15 to 18.
fn args_of_kind(kind: &SlotActKind) -> [String; 4] {
    let none = String::new;
    match kind {
        SlotActKind::Hold { user, token, millis, max_holds, max_held } => {
            let limit = |max: &Option<u32>| max.map_or_else(none, |max| max.to_string());
            let limits = format!("{}:{}", limit(max_holds), limit(max_held));
            [user.to_string(), token.as_str().into(), millis.to_string(), limits]
        }
        SlotActKind::Book { actor, token } => [actor_arg(actor), token_arg(token.as_ref()), none(), none()],
        SlotActKind::Release { actor, token, booked_by, cancel_before } => {
            let cancel_before = cancel_before.map_or_else(none, |millis| millis.to_string());
            let as_staff = format!("{}:{cancel_before}", u8::from(booked_by.is_some()));
            let booked_by = booked_by.as_ref().map_or_else(none, actor_arg);
            [actor_arg(actor), token_arg(token.as_ref()), as_staff, booked_by]
        }
        SlotActKind::Extend { user, token, millis, max_millis } => {
            [user.to_string(), token_arg(token.as_ref()), millis.to_string(), max_millis.to_string()]
        }
        SlotActKind::Update { to, data, user } => {
            let to = match to {
                StaffStatus::Available => "available",
                StaffStatus::Booked => "booked",
                StaffStatus::Blocked => "blocked",
            };
            let user = user.as_ref().map_or_else(none, UserId::to_string);
            [to.into(), data.as_ref().map_or_else(none, to_json), user, none()]
        }
    }
}

fn actor_arg(actor: &Actor) -> String {
    match actor {
        Actor::User(user) => user.to_string(),
        Actor::Anyone => String::new(),
    }
}

fn token_arg(token: Option<&HoldToken>) -> String {
    token.map_or_else(String::new, |token| token.as_str().into())
}

/// A record has one line for the label, so a label must not have a line end.
fn label_of(slot: &SlotTime) -> Result<&str, StoreError> {
    let fits = !slot.label.contains('\n');
    fits.then_some(&*slot.label).ok_or_else(|| StoreError(format!("slot {} has no proper label", slot.number)))
}

/// When the slots of a day are forgotten, in seconds since 1970: [`DAYS_KEPT`] after the day has ended everywhere, like
/// in the embedded store.
pub(super) fn forgotten_at_seconds(day: Day) -> i64 {
    let date = day.date().saturating_add(jiff::Span::new().days(i64::from(DAYS_KEPT) + 2));
    let midnight = date.at(0, 0, 0, 0).to_zoned_datetime(jiff::tz::TimeZone::UTC);
    midnight.map_or(jiff::Timestamp::MAX.as_second(), |midnight| midnight.timestamp().as_second())
}

fn read_outcome(reply: &Reply) -> Result<ActOutcome, ApplyError> {
    match reply.text_at(0)? {
        how @ ("done" | "repeat") => {
            let hold = match parse_token(reply.text_at(4)?) {
                Some(token) => {
                    let until = parse_time(reply.text_at(5)?).ok_or_else(|| reply.unexpected(5))?;
                    Some(HoldAnswer { token, until })
                }
                None => None,
            };
            Ok(ActOutcome { at: reply.position_at(2)?, hold, is_repeat: how == "repeat" })
        }
        "stale" => Err(ApplyError::Stale),
        "mismatch" => Err(Refusal::from(Code::IdempotencyMismatch).into()),
        "refused" => Err(read_refusal(reply)?.into()),
        _ => Err(reply.unexpected(0).into()),
    }
}

fn read_refusal(reply: &Reply) -> Result<Refusal, StoreError> {
    let codes = [
        Code::Past,
        Code::SlotUnavailable,
        Code::TooManyHolds,
        Code::TooLarge,
        Code::NotHeld,
        Code::HoldExpired,
        Code::HoldLimit,
        Code::TooLate,
    ];
    let name = reply.text_at(2)?;
    let code = codes.into_iter().find(|code| code.as_str() == name).ok_or_else(|| reply.unexpected(2))?;
    let numbers = reply.texts_from(3)?;
    let conflicts: Option<Vec<SlotNumber>> =
        numbers.iter().map(|number| number.parse().ok().and_then(SlotNumber::new)).collect();
    Ok(Refusal::of_slots(code, conflicts.ok_or_else(|| reply.unexpected(3))?))
}

/// Refuses a call under a key that its caller used for another call, in any space. The key in the space's bucket is exact,
/// because the act's own script reads and writes it. The copy in the caller's bucket is only the best that is possible
/// across buckets: after two calls at the same time, or if a node ends between an act and [`remember_call`], one key may
/// serve two calls in two spaces.
async fn refuse_other_call(store: &RedisStore, key: &Idempotency, budget: Budget) -> Result<(), ApplyError> {
    let mut get = redis::cmd("HGET");
    get.arg(store.keys.calls(key.caller.bucket(), &key.caller)).arg(format!("c{}", digest_of(&key.key)));
    let known = store.runner.command("hget", &get, budget).await?;
    let known: Option<String> =
        redis::from_redis_value(known).map_err(|error| StoreError::new("Redis: the call under a key", error))?;
    match known.as_deref().and_then(|known| known.rsplit('\n').next()) {
        Some(known) if known != digest_of(&key.fingerprint) => Err(Refusal::from(Code::IdempotencyMismatch).into()),
        _ => Ok(()),
    }
}

async fn remember_call(store: &RedisStore, key: &Idempotency, budget: Budget) {
    let call = Call::new(&scripts::REMEMBER_CALL)
        .key(store.keys.calls(key.caller.bucket(), &key.caller))
        .arg(digest_of(&key.key))
        .arg(digest_of(&key.fingerprint));
    if let Err(error) = store.runner.repeatable(&call, budget).await {
        tracing::debug!(
            %error, user.id = %logged(&key.caller),
            "an Idempotency-Key is in its space's bucket, and not in its user's"
        );
    }
}
