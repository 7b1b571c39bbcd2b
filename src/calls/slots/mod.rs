//! What the acts on slots share: their request and answer ([`wire`]), the checks, and the way to the store.

pub mod wire;

use std::collections::HashSet;
use std::time::Duration;

use super::act_log::{self, Done};
use super::{origin_of, parse_day};
use crate::app::App;
use crate::auth::Claims;
use crate::config::HoldConfig;
use crate::domain::act::{Idempotency, MAX_SLOTS_PER_ACT};
use crate::domain::{
    Act, Actor, Code, Day, Refusal, Schedule, SlotAct, SlotActKind, SlotNumber, SlotTime, SpaceKey, Status, StoreTime,
    UserId,
};
use crate::spaces::catalog::Resolved;
use crate::store::refuse::{ATTEMPTS, unavailable, unsettled};
use crate::store::{ActOutcome, ApplyError};
pub use wire::{HeldUntil, SlotIds, SlotRequest, SlotsAnswer, SlotsRequest};

/// The slots of a request, in the shape that every act takes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NamedSlots {
    pub space: SpaceKey,
    pub day: Day,
    /// Distinct, ascending, at least one.
    pub numbers: Vec<SlotNumber>,
}

/// Checks the shape of the fields that name the slots.
pub(crate) fn name_slots(request: &SlotsRequest) -> Result<NamedSlots, Refusal> {
    let space = SpaceKey { site: request.site, space: request.space };
    let day = parse_day(&request.date)?;
    let numbers = distinct_ascending(&request.slots)?;
    Ok(NamedSlots { space, day, numbers })
}

pub(super) fn distinct_ascending(slots: &[SlotNumber]) -> Result<Vec<SlotNumber>, Refusal> {
    if !(1..=MAX_SLOTS_PER_ACT).contains(&slots.len()) {
        return Err(Refusal::because(Code::Malformed, format_args!("slots: 1 to {MAX_SLOTS_PER_ACT} numbers")));
    }
    let mut seen = HashSet::new();
    // Numbers that fit no slot are all read as the same number. They are out of range, and are not repeated numbers.
    if let Some(twice) = slots.iter().find(|slot| fits_a_schedule(**slot) && !seen.insert(**slot)) {
        return Err(Refusal::because(Code::Malformed, format_args!("slots: {twice} is named twice")));
    }
    let mut numbers = slots.to_vec();
    numbers.sort_unstable();
    Ok(numbers)
}

fn fits_a_schedule(slot: SlotNumber) -> bool {
    slot.get() <= SlotNumber::MAX
}

/// Refuses `holdSeconds` that are too many for every space. The refusal tells no bound, because each space has its own.
pub(crate) fn require_seconds(request: &SlotsRequest, config: &HoldConfig) -> Result<(), Refusal> {
    millis_up_to(request, config.duration.max(config.max)).map_err(|refusal| refusal.code.into()).map(drop)
}

/// The refusal of `holdSeconds` that no space takes, with the bound of this space. Where the space cannot be read, it tells
/// the configured duration.
async fn bad_seconds(app: &App, space: SpaceKey) -> Refusal {
    let resolved = app.catalog.resolve(space).await;
    let config = &app.config.holds;
    refuse_seconds(resolved.map_or(config.duration, |resolved| longest_hold(config, &resolved.schedule)))
}

fn refuse_seconds(longest: Duration) -> Refusal {
    Refusal::telling(Code::BadHoldSeconds, format_args!("1-{}", longest.as_secs()))
}

/// How long a hold lasts, in ms: `holdSeconds`, or else the duration of the space, or else the configured duration.
/// `holdSeconds` must be a whole number up to that duration. Any other value is `bad_hold_seconds`, and is never clamped.
pub(crate) fn hold_millis(request: &SlotsRequest, config: &HoldConfig, schedule: &Schedule) -> Result<i64, Refusal> {
    millis_up_to(request, longest_hold(config, schedule))
}

/// The duration of the space, or else the configured duration.
fn longest_hold(config: &HoldConfig, schedule: &Schedule) -> Duration {
    let of_space = schedule.spec().hold_minutes.map(|minutes| Duration::from_secs(u64::from(minutes) * 60));
    // The configured bound may have been lowered since the space was registered.
    of_space.map_or(config.duration, |of_space| of_space.min(config.max))
}

fn millis_up_to(request: &SlotsRequest, longest: Duration) -> Result<i64, Refusal> {
    let most = i64::try_from(longest.as_secs()).unwrap_or(i64::MAX / 1_000);
    let seconds = match &request.hold_seconds {
        None => Some(most),
        Some(value) => value.as_i64().filter(|seconds| (1..=most).contains(seconds)),
    };
    let seconds = seconds.ok_or_else(|| refuse_seconds(longest))?;
    Ok(seconds.saturating_mul(1_000))
}

/// The user for whom booking or releasing a hold counts. Only the role `servizio` may act for another user, or for
/// anyone.
pub(super) fn actor_of(caller: &Claims, named: Option<&UserId>) -> Result<Actor, Refusal> {
    match named {
        None if caller.is_service() => Ok(Actor::Anyone),
        None => Ok(Actor::User(caller.user.clone())),
        Some(user) => acting_user(caller, Some(user)).map(Actor::User),
    }
}

/// The user who will hold, or whose hold is extended: the caller, or the user that the role `servizio` names.
pub(super) fn acting_user(caller: &Claims, named: Option<&UserId>) -> Result<UserId, Refusal> {
    match named {
        Some(user) if *user != caller.user && !caller.is_service() => Err(Code::Forbidden.into()),
        Some(user) => Ok(user.clone()),
        None => Ok(caller.user.clone()),
    }
}

/// Lets the caller into the site, and counts the act against the user's rate. Staff of the space has no rate.
fn admit(app: &App, caller: &Claims, space: SpaceKey) -> Result<(), Refusal> {
    if !caller.may_enter(space.site) {
        return Err(Code::Forbidden.into());
    }
    if caller.is_staff_of(space) { Ok(()) } else { app.rates.check(&caller.user) }
}

/// The parts of the call that the store remembers under the caller's `Idempotency-Key`: those that the act reads, each
/// in one spelling. All were checked, and are short.
fn idempotency_of(
    act: Act,
    caller: &Claims,
    request: &SlotsRequest,
    named: &NamedSlots,
    key: Option<String>,
) -> Option<Idempotency> {
    let is_for_a_time = match act {
        Act::Hold | Act::Extend => true,
        Act::Book | Act::Release | Act::Update => false,
    };
    let call = (
        act.as_str(),
        named.space.site,
        named.space.space,
        named.day,
        &named.numbers,
        request.hold_seconds.as_ref().filter(|_| is_for_a_time),
        &request.hold_token,
        &request.user,
    );
    let fingerprint = crate::domain::event::to_json(&call);
    key.map(|key| Idempotency { caller: caller.user.clone(), key, fingerprint })
}

/// Does an act on the slots that the request names, and logs it when it is over. `kind` makes the act's kind, as far as
/// the space's schedule is not needed, and runs before the act counts against the user's rate. `status` is the status
/// in which the act leaves the slots.
pub(super) async fn perform<K>(
    app: &App,
    caller: &Claims,
    act: Act,
    request: &SlotsRequest,
    idempotency_key: Option<String>,
    kind: impl FnOnce(SpaceKey) -> Result<K, Refusal>,
    status: impl FnOnce(&[SlotTime]) -> Status,
) -> Result<SlotsAnswer, Refusal>
where
    K: Fn(&Schedule) -> Result<SlotActKind, Refusal>,
{
    let running = act_log::begin(app, act.as_str(), caller);
    let result = async {
        let named = name_slots(request)?;
        let kind = match kind(named.space) {
            Err(refusal) if refusal.code == Code::BadHoldSeconds => return Err(bad_seconds(app, named.space).await),
            kind => kind?,
        };
        admit(app, caller, named.space)?;
        let idempotency = idempotency_of(act, caller, request, &named, idempotency_key);
        apply(app, caller, &named, idempotency, kind).await
    }
    .await;
    running.end(&request.about(), &result, Applied::done);
    let applied = result?;
    let status = status(&applied.slots);
    Ok(answer(applied, status))
}

/// A kind that does not depend on the space's schedule.
pub(super) fn by_any_schedule(kind: SlotActKind) -> impl Fn(&Schedule) -> Result<SlotActKind, Refusal> {
    move |_| Ok(kind.clone())
}

/// The store's outcome of an act, and the slots with their times.
pub(super) struct Applied {
    pub outcome: ActOutcome,
    pub slots: Vec<SlotTime>,
}

impl Applied {
    pub(super) fn done(&self) -> Done {
        Done { version: self.outcome.at.version, is_repeat: self.outcome.is_repeat }
    }
}

/// Resolves the slots and acts on them, again if the space changed in between. `kind` makes the act's kind for the
/// space's schedule.
pub(super) async fn apply(
    app: &App,
    caller: &Claims,
    named: &NamedSlots,
    idempotency: Option<Idempotency>,
    kind: impl Fn(&Schedule) -> Result<SlotActKind, Refusal>,
) -> Result<Applied, Refusal> {
    let origin = origin_of(caller);
    for _ in 0..ATTEMPTS {
        let resolved = app.catalog.resolve(named.space).await?;
        let judged = kind(&resolved.schedule).and_then(|kind| Ok((kind, resolve_slots(app, &resolved, named)?)));
        let (kind, slots) = match judged {
            // A remembered schedule may be old, so only a schedule that was just read may refuse.
            Err(_) if !resolved.fresh => {
                app.catalog.forget(named.space);
                continue;
            }
            judged => judged?,
        };
        let act = SlotAct {
            space: named.space,
            day: named.day,
            slots: slots.clone(),
            revision: resolved.revision,
            kind,
            idempotency: idempotency.clone(),
            origin: Some(origin.clone()),
        };
        note_latest_end(app, &act);
        match app.store.apply(act).await {
            Ok(outcome) => {
                note_done(app, named.space, &outcome);
                return Ok(Applied { outcome, slots });
            }
            Err(ApplyError::Refused(refusal)) => return Err(refusal),
            Err(ApplyError::Store(error)) => return Err(unavailable(&error)),
            // The store gives this answer only to changes of a schedule.
            Err(ApplyError::InUse(_)) => return Err(Code::SpaceInUse.into()),
            Err(ApplyError::Stale) => app.catalog.forget(named.space),
        }
    }
    Err(unsettled(named.space))
}

/// Notes how far this node has answered in the space, and when the act's hold ends.
fn note_done(app: &App, space: SpaceKey, outcome: &ActOutcome) {
    app.acknowledged.note(space, &outcome.at);
    if let Some(hold) = &outcome.hold {
        app.deadlines.note(space.bucket(), hold.until);
    }
}

/// Tells the sweeper the latest end that the act's hold may have, in case the act's answer never comes. The act may
/// still be done until a second from now. The answer tells the exact end, which is earlier and replaces this one.
fn note_latest_end(app: &App, act: &SlotAct) {
    let (SlotActKind::Hold { millis, .. } | SlotActKind::Extend { millis, .. }) = &act.kind else { return };
    let latest = app.clock.now().plus_millis(millis.saturating_add(1_000));
    let start = act.slots.first().map_or(latest, |slot| slot.start);
    app.deadlines.note(act.space.bucket(), latest.min(start));
}

fn resolve_slots(app: &App, resolved: &Resolved, named: &NamedSlots) -> Result<Vec<SlotTime>, Refusal> {
    app.catalog.require_near(&resolved.schedule, named.day)?;
    let found = named.numbers.iter().map(|number| resolved.schedule.slot(named.day, *number).ok_or(*number));
    let (slots, missing): (Vec<_>, Vec<_>) = found.partition(Result::is_ok);
    if missing.is_empty() {
        return Ok(slots.into_iter().flatten().collect());
    }
    let missing = missing.into_iter().filter_map(Result::err).filter(|number| fits_a_schedule(*number));
    Err(Refusal::of_slots(Code::SlotOutOfRange, missing.collect()))
}

/// The answer to an act that left the slots in `status`.
pub(super) fn answer(applied: Applied, status: Status) -> SlotsAnswer {
    let Applied { outcome, slots } = applied;
    let hold = outcome.hold.map(|hold| {
        let until = hold.until.rfc3339();
        HeldUntil { held_until: until.clone(), expires_at: until, hold_token: hold.token }
    });
    SlotsAnswer {
        slots: SlotIds::Many(slots.iter().map(|slot| slot.number).collect()),
        status: status.as_str(),
        hold,
        epoch: outcome.at.epoch.to_string(),
        version: outcome.at.version,
    }
}

/// The status of slots that nobody has any more. It is past if all of them have started.
pub(super) fn free_status(slots: &[SlotTime], now: StoreTime) -> Status {
    if slots.iter().all(|slot| slot.start <= now) { Status::Past } else { Status::Available }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::auth::Role;
    use crate::calls::parse;
    use crate::config::FreedTo;
    use crate::domain::HoldToken;

    fn request(slots: &str, rest: &str) -> SlotsRequest {
        let json = format!(r#"{{"spazioId": "3", "sedeId": 1, "date": "2026-11-25", "slots": {slots}{rest}}}"#);
        parse(json.as_bytes()).unwrap()
    }

    fn holds() -> HoldConfig {
        HoldConfig {
            duration: Duration::from_secs(900),
            max: Duration::from_secs(3_600),
            timer_interval: None,
            max_holds: None,
            max_held: None,
            cancel_until: None,
            freed_to: FreedTo::Everyone,
        }
    }

    fn caller(role: Option<Role>) -> Claims {
        let user = UserId::new("7").unwrap();
        Claims { user, role, sites: Some(BTreeSet::new()), expires: StoreTime::from_millis(0) }
    }

    #[test]
    fn both_names_of_the_space_are_taken() {
        let other: SlotsRequest =
            parse(br#"{"idSpazio": 3, "sedeId": "1", "date": "2026-11-25", "slots": ["2"]}"#).unwrap();
        assert_eq!(name_slots(&other), name_slots(&request("[2]", "")));
    }

    #[test]
    fn slots_are_distinct_and_come_in_order() {
        let named = name_slots(&request("[3, 1, 2]", "")).unwrap();
        assert_eq!(named.numbers.iter().map(|number| number.get()).collect::<Vec<_>>(), [1, 2, 3]);
        let too_many = serde_json::to_string(&(1..=33).collect::<Vec<_>>()).unwrap();
        for bad in ["[]", "[1, 1]", "[1, \"1\"]", &too_many] {
            assert_eq!(name_slots(&request(bad, "")).unwrap_err().code, Code::Malformed, "{bad}");
        }
        assert!(name_slots(&request("[70000, 80000]", "")).is_ok(), "out of range, not twice the same");
    }

    #[test]
    fn hold_seconds_are_judged_and_never_clamped() {
        let millis = |rest: &str| hold_millis(&request("[1]", rest), &holds(), &Schedule::default());
        assert_eq!(millis(""), Ok(900_000));
        assert_eq!(millis(r#", "holdSeconds": null"#), Ok(900_000));
        assert_eq!(millis(r#", "holdSeconds": 1"#), Ok(1_000));
        assert_eq!(millis(r#", "holdSeconds": 900"#), Ok(900_000));
        for bad in ["0", "-1", "901", "1e9", "1000000000", "1.5", "1.0", "\"60\"", "true", "[]", "{}", "1e308"] {
            let refusal = millis(&format!(r#", "holdSeconds": {bad}"#)).unwrap_err();
            assert_eq!(refusal.code, Code::BadHoldSeconds, "{bad}");
        }
    }

    #[test]
    fn only_a_service_acts_for_others() {
        let own = UserId::new("7").unwrap();
        let other = UserId::new("8").unwrap();
        assert_eq!(actor_of(&caller(None), None), Ok(Actor::User(own.clone())));
        assert_eq!(actor_of(&caller(None), Some(&own)), Ok(Actor::User(own.clone())));
        assert_eq!(actor_of(&caller(Some(Role::Manager)), None), Ok(Actor::User(own.clone())));
        for role in [None, Some(Role::Manager), Some(Role::Administrator), Some(Role::SiteManager)] {
            assert_eq!(actor_of(&caller(role), Some(&other)).unwrap_err().code, Code::Forbidden, "{role:?}");
            assert_eq!(acting_user(&caller(role), Some(&other)).unwrap_err().code, Code::Forbidden, "{role:?}");
        }
        let service = caller(Some(Role::Service));
        assert_eq!(actor_of(&service, Some(&other)), Ok(Actor::User(other.clone())));
        assert_eq!(actor_of(&service, None), Ok(Actor::Anyone));
        assert_eq!(acting_user(&service, Some(&other)), Ok(other));
        assert_eq!(acting_user(&service, None), Ok(own));
    }

    #[test]
    fn answers_have_the_shape_of_the_contract() {
        let number = SlotNumber::new(3).unwrap();
        let answer = SlotsAnswer {
            slots: SlotIds::Many(vec![number]),
            status: "occupied",
            hold: Some(HeldUntil {
                held_until: "t".into(),
                expires_at: "t".into(),
                hold_token: HoldToken::from_random([0; 16]),
            }),
            epoch: "e".into(),
            version: 9,
        };
        let token = "0".repeat(32);
        let end = format!(r#""status":"occupied","heldUntil":"t","expires_at":"t","holdToken":"{token}""#);
        let json = |answer: &SlotsAnswer| serde_json::to_string(answer).unwrap();
        assert_eq!(json(&answer), format!(r#"{{"slots":[3],{end},"epoch":"e","version":9}}"#));
        assert_eq!(json(&answer.clone().of_one_slot()), format!(r#"{{"slotId":3,{end},"epoch":"e","version":9}}"#));
        let booked = SlotsAnswer { status: "booked", hold: None, ..answer }.of_one_slot();
        assert_eq!(json(&booked), r#"{"slotId":3,"status":"booked","epoch":"e","version":9}"#);
    }

    #[test]
    fn the_same_call_has_one_fingerprint() {
        let key = |act: Act, request: &SlotsRequest| {
            let named = name_slots(request).unwrap();
            idempotency_of(act, &caller(None), request, &named, Some("k".into())).unwrap().fingerprint
        };
        assert_eq!(key(Act::Hold, &request("[1, 2]", "")), key(Act::Hold, &request("[\"2\", 1]", "")));
        assert_ne!(key(Act::Hold, &request("[1, 2]", "")), key(Act::Hold, &request("[1]", "")));
        // `holdSeconds` counts for some acts only. Other acts do not check it, so it may have any length.
        let in_time = request("[1]", r#", "holdSeconds": 60"#);
        for (act, counts) in [(Act::Hold, true), (Act::Extend, true), (Act::Book, false), (Act::Release, false)] {
            assert_eq!(key(act, &request("[1]", "")) != key(act, &in_time), counts, "{act:?}");
        }
    }
}
