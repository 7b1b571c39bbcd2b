//! The targets of the fuzzers: one function for each parser that meets the network. `tests/it/fuzz_parsers.rs` calls them
//! on the stable toolchain, and `fuzz/` guided by coverage.
//!
//! Each target takes any bytes and tells whether its parser accepted them. It checks that an accepted value means what its
//! bytes say. A panic in the target or the parser is a finding.

use std::sync::LazyLock;
use std::time::Duration;

use axum::extract::Query;
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri};
use futures_util::FutureExt;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::auth::{Claims, Verifier};
use crate::calls;
use crate::calls::messages::{ShowBoardRequest, require_message};
use crate::calls::slots::{SlotsRequest, hold_millis, name_slots};
use crate::calls::update::update_kind;
use crate::config::{AuthConfig, FreedTo, HoldConfig, KeySource};
use crate::domain::act::MAX_SLOTS_PER_ACT;
use crate::domain::ids::parse_id;
use crate::domain::schedule::{ScheduleSpec, WallTime};
use crate::domain::{Day, HoldToken, Position, Schedule, SiteId, SlotNumber, SpaceId, StoreTime, UserId};
use crate::http::extract::{bearer_token, idempotency_key, parse_id as parse_path_id, slot_number};
use crate::http::slots::BoardQuery;
use crate::http::spaces::ChangesQuery;
use crate::journal::Cursor;
use crate::realtime::connect::carries_token;
use crate::realtime::emitted_json;
use crate::realtime::events::is_well_formed;
use crate::realtime::request::is_one_reading;

/// A parser under test.
pub type Target = fn(&[u8]) -> bool;

/// Every target by the name of its corpus.
pub const TARGETS: &[(&str, Target)] = &[
    ("ids", ids),
    ("dates", dates),
    ("wall_times", wall_times),
    ("schedules", schedules),
    ("slots_requests", slots_requests),
    ("staff_requests", staff_requests),
    ("positions", positions),
    ("request_lines", request_lines),
    ("tokens", tokens),
    ("claims", claims),
    ("events", events),
    ("handshakes", handshakes),
    ("emitted", emitted),
    ("cursors", cursors),
];

/// A message in msgpack, as another program's emitter publishes it.
pub fn emitted(input: &[u8]) -> bool {
    let Some(json) = emitted_json(input) else { return false };
    assert!(serde_json::from_str::<Vec<&serde_json::value::RawValue>>(&json).is_ok(), "what is sent is JSON");
    true
}

/// The cursor of the journal in `after`.
pub fn cursors(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let Some(cursor) = Cursor::decode(text) else { return false };
    assert_eq!(cursor.encode(), text, "a place has one spelling");
    true
}

/// Ids of every kind, as text and as JSON.
pub fn ids(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let number = parse_id(text);
    assert!(number.is_none_or(|number| number.to_string() == text), "an id has one spelling");
    let user = UserId::new(text);
    assert!(user.as_ref().is_none_or(|user| user.as_str() == text));
    let accepted = [
        survives_json::<SpaceId>(input),
        survives_json::<SiteId>(input),
        survives_json::<SlotNumber>(input),
        survives_json::<UserId>(input),
        survives_json::<HoldToken>(input),
    ];
    number.is_some() || user.is_some() || accepted.contains(&true)
}

/// A date, `YYYY-MM-DD`.
pub fn dates(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let day = Day::parse(text);
    assert!(day.is_none_or(|day| day.to_string() == text), "a day has one spelling");
    day.is_some()
}

/// A time of day, `HH:MM`.
pub fn wall_times(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let time = WallTime::parse(text);
    assert!(time.is_none_or(|time| time.to_string() == text), "a time of day has one spelling");
    time.is_some()
}

/// The body of `PUT /api/spaces/{sedeId}/{idSpazio}`, and the slots that follow from it.
pub fn schedules(input: &[u8]) -> bool {
    let Ok(spec) = calls::parse::<ScheduleSpec>(input) else { return false };
    assert_survives_json(&spec);
    let Ok(schedule) = Schedule::new(spec) else { return false };
    for day in DAYS.iter() {
        let slots = schedule.slots(*day);
        assert!(slots.len() <= usize::from(SlotNumber::MAX));
        assert!(slots.iter().all(|slot| slot.start < slot.end));
        assert!(
            slots.is_sorted_by(|one, next| one.end == next.start && one.number < next.number),
            "slots tile the day"
        );
        assert!(slots.iter().all(|slot| schedule.slot(*day, slot.number).as_ref() == Some(slot)));
    }
    true
}

/// The first and the last day of the calendar, both changes of the clock, a leap day, and days that some zone skipped.
static DAYS: LazyLock<Vec<Day>> = LazyLock::new(|| {
    let days = ["0000-01-01", "0001-01-01", "2011-12-30", "2026-03-29", "2026-10-25", "2028-02-29", "9999-12-31"];
    days.into_iter().filter_map(Day::parse).collect()
});

/// The body of hold, book, release and extend, and the payload of their events.
pub fn slots_requests(input: &[u8]) -> bool {
    let Ok(request) = calls::parse::<SlotsRequest>(input) else { return false };
    let Ok(millis) = hold_millis(&request, &HOLDS, &SCHEDULE) else { return false };
    assert!((1_000..=900_000).contains(&millis), "a hold lasts from a second to the configured duration");
    let Ok(named) = name_slots(&request) else { return false };
    assert!((1..=MAX_SLOTS_PER_ACT).contains(&named.numbers.len()));
    true
}

static SCHEDULE: LazyLock<Schedule> = LazyLock::new(Schedule::default);

static HOLDS: LazyLock<HoldConfig> = LazyLock::new(|| HoldConfig {
    duration: Duration::from_secs(900),
    max: Duration::from_secs(3_600),
    timer_interval: None,
    max_holds: None,
    max_held: None,
    cancel_until: None,
    freed_to: FreedTo::Everyone,
});

/// The bodies that staff sends: a slot's new status with data, a message, and which board to show.
pub fn staff_requests(input: &[u8]) -> bool {
    let update = calls::parse(input).and_then(|request| update_kind(&request));
    let message = calls::parse(input).and_then(|request| require_message(&request));
    let board = calls::parse::<ShowBoardRequest>(input);
    update.is_ok() || message.is_ok() || board.is_ok()
}

/// The position in `since`.
pub fn positions(input: &[u8]) -> bool {
    let Ok(position) = calls::parse::<Position>(input) else { return false };
    assert_survives_json(&position);
    true
}

/// The values in paths, queries and headers.
pub fn request_lines(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let in_path = slot_number(text).is_ok() | parse_path_id::<SpaceId>("idSpazio", text).is_ok();
    let in_query = text.parse::<Uri>().is_ok_and(|uri| {
        Query::<BoardQuery>::try_from_uri(&uri).is_ok() | Query::<ChangesQuery>::try_from_uri(&uri).is_ok()
    });
    let of_a_session = text.parse::<Uri>().is_ok_and(|uri| uri.query().is_some_and(is_one_reading));
    in_path | in_query | of_a_session | HeaderValue::from_bytes(input).is_ok_and(is_good_header)
}

fn is_good_header(value: HeaderValue) -> bool {
    let headers = HeaderMap::from_iter([(AUTHORIZATION, value.clone()), (IDEMPOTENCY_KEY, value)]);
    let key = idempotency_key(&headers);
    assert!(key.as_ref().is_ok_and(Option::is_some) || key.is_err(), "a key that was sent is taken or refused");
    bearer_token(&headers).is_ok() || key.is_ok()
}

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Whole tokens. Nobody can make one without the secret, so an accepted token is from the corpus.
pub fn tokens(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    verify(text).is_some()
}

/// A token's claims, signed correctly.
pub fn claims(input: &[u8]) -> bool {
    let header = base64url(br#"{"alg":"HS256"}"#);
    let message = format!("{header}.{}", base64url(input));
    let key = EncodingKey::from_secret(SECRET);
    let Ok(signature) = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256) else { return false };
    verify(&format!("{message}.{signature}")).is_some()
}

/// The secret of the fuzzers, with which the tokens of the corpus are signed.
const SECRET: &[u8] = b"the fuzzers sign with this one secret";

/// The time at which the fuzzers' tokens are checked, which is in 2027.
const NOW: StoreTime = StoreTime::from_millis(1_800_000_000_000);

fn verify(token: &str) -> Option<Claims> {
    static VERIFIER: LazyLock<Option<Verifier>> = LazyLock::new(|| {
        let keys = KeySource::Secret(SECRET.to_vec());
        Verifier::new(&AuthConfig {
            keys,
            issuer: None,
            audience: None,
            secret_is_random: false,
            node_secret: None,
            previous_secret: None,
        })
        .ok()
    });
    // With a secret nothing is fetched, so the future is ready at once.
    VERIFIER.as_ref()?.verify_at(token, NOW).now_or_never()?.ok()
}

fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let sextets = |chunk: &[u8]| {
        let triple = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        (0..=chunk.len()).map(move |place| char::from(ALPHABET[(triple >> (18 - 6 * place) & 63) as usize]))
    };
    bytes.chunks(3).flat_map(sextets).collect()
}

/// The frame of an event: its name and payload, up to the point where it would act.
pub fn events(input: &[u8]) -> bool {
    std::str::from_utf8(input).is_ok_and(is_well_formed)
}

/// The token that a connecting client sends along, in `auth` or in the query.
pub fn handshakes(input: &[u8]) -> bool {
    std::str::from_utf8(input).is_ok_and(|text| carries_token(text, text))
}

/// Whether JSON can be read as a `T`. Checks that the value, written and read again, is the same JSON.
#[expect(clippy::expect_used, reason = "a panic is how a fuzzer hears of a finding")]
fn survives_json<T: Serialize + DeserializeOwned>(json: &[u8]) -> bool {
    let Ok(value) = serde_json::from_slice::<T>(json) else { return false };
    let written = serde_json::to_string(&value).expect("what was read can be written");
    let again: T = serde_json::from_str(&written).expect("what was written can be read");
    assert_eq!(serde_json::to_string(&again).expect("it was written before"), written);
    true
}

#[expect(clippy::expect_used, reason = "a panic is how a fuzzer hears of a finding")]
fn assert_survives_json<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) {
    let written = serde_json::to_string(value).expect("what was read can be written");
    assert_eq!(&serde_json::from_str::<T>(&written).expect("what was written can be read"), value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64url_is_that_of_the_standard() {
        for (bytes, text) in
            [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg"), ("??>", "Pz8-")]
        {
            assert_eq!(base64url(bytes.as_bytes()), text);
        }
    }
}
