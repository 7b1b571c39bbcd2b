//! Updating slots as staff: staff frees, books or closes slots, whatever their status is.

use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::act_log::{self, About};
use super::slots::{self, Applied, NamedSlots, SlotsAnswer, distinct_ascending};
use super::{parse, parse_day, require_staff_of};
use crate::app::App;
use crate::auth::Claims;
use crate::domain::act::{Idempotency, StaffStatus};
use crate::domain::event::to_json;
use crate::domain::slot::MAX_DATA_BYTES;
use crate::domain::{Code, Refusal, SiteId, SlotActKind, SlotData, SlotNumber, SpaceId, SpaceKey, Status, UserId};
use crate::store::digest::digest_of;

const ACT: crate::domain::Act = crate::domain::Act::Update;

/// What staff sets a slot to.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct UpdateRequest {
    /// The space; `spazioId` is taken too.
    #[serde(rename = "idSpazio", alias = "spazioId")]
    #[schema(value_type = u64, minimum = 1)]
    pub space: SpaceId,
    /// The space's site.
    #[serde(rename = "sedeId")]
    #[schema(value_type = u64, minimum = 1)]
    pub site: SiteId,
    /// The local day, `YYYY-MM-DD`.
    #[schema(format = Date)]
    pub date: String,
    /// `available`, `booked` or `blocked`.
    #[schema(value_type = String, pattern = "^(available|booked|blocked)$")]
    pub status: StaffStatus,
    /// An object that stays with the slot until its next change, 16 KiB of JSON at most.
    #[schema(value_type = Option<Object>)]
    pub data: Option<Box<RawValue>>,
    /// With `booked`: the user of the booking, a number or text. Another user who had the slot loses it. Without it a booking keeps its user.
    #[serde(rename = "id_utente")]
    #[schema(value_type = Option<Value>)]
    pub user: Option<UserId>,
}

/// What staff sets several slots to.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct UpdatesRequest {
    /// 1 to 32 distinct numbers, in any order.
    #[schema(value_type = Vec<u16>, min_items = 1, max_items = 32)]
    pub slots: Vec<SlotNumber>,
    /// The space; `spazioId` is taken too.
    #[serde(rename = "idSpazio", alias = "spazioId")]
    #[schema(value_type = u64, minimum = 1)]
    pub space: SpaceId,
    /// The space's site.
    #[serde(rename = "sedeId")]
    #[schema(value_type = u64, minimum = 1)]
    pub site: SiteId,
    /// The local day, `YYYY-MM-DD`.
    #[schema(format = Date)]
    pub date: String,
    /// `available`, `booked` or `blocked`.
    #[schema(value_type = String, pattern = "^(available|booked|blocked)$")]
    pub status: StaffStatus,
    /// An object that stays with each slot until its next change, 16 KiB of JSON at most.
    #[schema(value_type = Option<Object>)]
    pub data: Option<Box<RawValue>>,
    /// With `booked`: the user of the booking, a number or text.
    #[serde(rename = "id_utente")]
    #[schema(value_type = Option<Value>)]
    pub user: Option<UserId>,
}

impl UpdatesRequest {
    /// The slots, and the update of each.
    pub fn into_parts(self) -> (Vec<SlotNumber>, UpdateRequest) {
        let Self { slots, space, site, date, status, data, user } = self;
        (slots, UpdateRequest { space, site, date, status, data, user })
    }
}

/// Sets slots, all or none. Each slot takes a version and is broadcast, even if nothing changed. Only a repeat under the
/// caller's `Idempotency-Key` does nothing and gets the first answer.
pub async fn update(
    app: &App,
    caller: &Claims,
    numbers: &[SlotNumber],
    request: UpdateRequest,
    idempotency_key: Option<String>,
) -> Result<SlotsAnswer, Refusal> {
    let running = act_log::begin(app, ACT.as_str(), caller);
    let result = try_update(app, caller, numbers, &request, idempotency_key).await;
    let space = SpaceKey { site: request.site, space: request.space };
    let about = About { space, date: Some(&request.date), slots: numbers, user: request.user.as_ref() };
    running.end(&about, &result, Applied::done);
    let applied = result?;
    let status = match request.status {
        StaffStatus::Available => slots::free_status(&applied.slots, app.clock.now()),
        StaffStatus::Booked => Status::Booked,
        StaffStatus::Blocked => Status::Blocked,
    };
    Ok(slots::answer(applied, status))
}

async fn try_update(
    app: &App,
    caller: &Claims,
    numbers: &[SlotNumber],
    request: &UpdateRequest,
    idempotency_key: Option<String>,
) -> Result<Applied, Refusal> {
    let space = SpaceKey { site: request.site, space: request.space };
    let named = NamedSlots { space, day: parse_day(&request.date)?, numbers: distinct_ascending(numbers)? };
    let kind = update_kind(request)?;
    require_staff_of(caller, space)?;
    let idempotency = idempotency_of(caller, request, &named, idempotency_key);
    slots::apply(app, caller, &named, idempotency, slots::by_any_schedule(kind)).await
}

/// What the store remembers under the caller's `Idempotency-Key`: all fields of the call, with staff's object as a digest.
fn idempotency_of(
    caller: &Claims,
    request: &UpdateRequest,
    named: &NamedSlots,
    key: Option<String>,
) -> Option<Idempotency> {
    let data = request.data.as_deref().map(|data| digest_of(data.get()));
    let NamedSlots { space, day, numbers } = named;
    let call = (ACT.as_str(), space.site, space.space, day, numbers, request.status, data, &request.user);
    let fingerprint = to_json(&call);
    key.map(|key| Idempotency { caller: caller.user.clone(), key, fingerprint })
}

/// The act that the request asks for, if its data fits.
pub(crate) fn update_kind(request: &UpdateRequest) -> Result<SlotActKind, Refusal> {
    let data = request.data.as_deref().map(parse_data).transpose()?;
    if request.user.is_some() && request.status != StaffStatus::Booked {
        return Err(Refusal::because(Code::Malformed, "id_utente: only with the status booked"));
    }
    Ok(SlotActKind::Update { to: request.status, data, user: request.user.clone() })
}

fn parse_data(data: &RawValue) -> Result<SlotData, Refusal> {
    require_fit(data)?;
    let object: IndexMap<String, Box<RawValue>> = parse(data.get().as_bytes())?;
    Ok(SlotData::new(object))
}

/// How deep JSON of callers may nest. Every client's parser reads this depth.
const MAX_DEPTH: usize = 64;

/// Refuses JSON that cannot be passed on to clients: longer than 16 KiB (`too_large`), or nested too deeply for a client's
/// parser (`malformed`).
pub(super) fn require_fit(data: &RawValue) -> Result<(), Refusal> {
    if data.get().len() > MAX_DATA_BYTES {
        return Err(Refusal::telling(Code::TooLarge, format_args!("data, {MAX_DATA_BYTES} byte")));
    }
    if depth_of(data.get()) > MAX_DEPTH {
        return Err(Refusal::because(Code::Malformed, format_args!("data: nests more than {MAX_DEPTH} deep")));
    }
    Ok(())
}

/// How deep JSON is nested. The text is known to be valid.
fn depth_of(json: &str) -> usize {
    let (mut depth, mut deepest, mut in_text, mut escaped) = (0_usize, 0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(data: &str) -> Result<UpdateRequest, Refusal> {
        let json =
            format!(r#"{{"idSpazio": 3, "sedeId": 1, "date": "2026-11-25", "status": "blocked", "data": {data}}}"#);
        parse(json.as_bytes())
    }

    fn data_of(data: &str) -> Result<Option<String>, Refusal> {
        match update_kind(&request(data)?)? {
            SlotActKind::Update { data, .. } => Ok(data.map(|data| serde_json::to_string(&data).unwrap())),
            _ => panic!("not an update"),
        }
    }

    #[test]
    fn data_passes_through_digit_for_digit_without_the_keys_of_the_protocol() {
        let kept = data_of(r#"{"price": 1.10, "id": 9, "n": 12345678901234567890123, "status": "x"}"#).unwrap();
        assert_eq!(kept.unwrap(), r#"{"price":1.10,"n":12345678901234567890123}"#);
        assert_eq!(data_of("null"), Ok(None));
    }

    #[test]
    fn data_is_an_object_of_bounded_size_and_depth() {
        for bad in ["[]", "7", "\"x\"", "true"] {
            assert_eq!(data_of(bad).unwrap_err().code, Code::Malformed, "{bad}");
        }
        let long = format!(r#"{{"a": "{}"}}"#, "x".repeat(MAX_DATA_BYTES));
        assert_eq!(data_of(&long).unwrap_err().code, Code::TooLarge);
        let nested = |depth: usize| format!(r#"{{"a\"[": {}{}}}"#, "[".repeat(depth - 1), "]".repeat(depth - 1));
        assert!(data_of(&nested(MAX_DEPTH)).is_ok());
        assert_eq!(data_of(&nested(MAX_DEPTH + 1)).unwrap_err().code, Code::Malformed);
    }

    #[test]
    fn only_three_statuses_can_be_set() {
        let json = |status: &str| {
            format!(r#"{{"idSpazio": 3, "sedeId": 1, "date": "2026-11-25", "status": "{status}"}}"#).into_bytes()
        };
        for good in ["available", "booked", "blocked"] {
            assert!(parse::<UpdateRequest>(&json(good)).is_ok(), "{good}");
        }
        for bad in ["occupied", "past", "", "Blocked"] {
            assert_eq!(parse::<UpdateRequest>(&json(bad)).unwrap_err().code, Code::Malformed, "{bad}");
        }
    }
}
