//! The calls: what a caller may ask, over HTTP or Socket.IO. HTTP and Socket.IO parse requests and send answers, and
//! the calls decide.
//!
//! Each call takes the [`App`], the caller and a parsed request. It answers what goes out as `data`, or a [`Refusal`]. It
//! checks the shape first, then rights, then the caller's rate, then state.
//!
//! - Acts on slots: [`hold`], [`book`], [`release`], [`extend`], [`update`]; what they share is in [`slots`].
//! - `act_log`: the one line and the one count of an act.
//! - Reading: [`board`], [`holds`], [`bookings`], [`changes`], [`stats`], [`journal`].
//! - Staff: [`spaces`], [`messages`].
//! - What is kept of a user: [`privacy`] shows it, and [`erasure`] erases it.

pub mod slots;
pub mod hold;
pub mod book;
pub mod release;
pub mod extend;
pub mod update;
pub mod board;
pub mod bookings;
pub mod holds;
pub mod changes;
pub mod stats;
pub mod journal;
pub mod spaces;
pub mod trial;
pub mod messages;
pub mod privacy;
pub mod erasure;
mod act_log;

use serde::de::DeserializeOwned;

use crate::app::App;
use crate::auth::{Claims, TokenError};
use crate::domain::{Code, Day, Origin, Refusal, SpaceKey};
use crate::telemetry::request::current_id;

/// Reads a request, which is a JSON object. Anything else is `malformed`, and the refusal names the field.
pub fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, Refusal> {
    // Without this check serde would read an array as a struct's fields in order.
    if !json.trim_ascii_start().starts_with(b"{") {
        return Err(Refusal::because(Code::Malformed, "not an object"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let request = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| malformed_at(&error))?;
    deserializer.end().map_err(|error| Refusal::because(Code::Malformed, error))?;
    Ok(request)
}

fn malformed_at(error: &serde_path_to_error::Error<serde_json::Error>) -> Refusal {
    match error.path().to_string().as_str() {
        // An error at the root needs no path: it names the missing field, or is about syntax.
        "." => Refusal::because(Code::Malformed, error.inner()),
        path => Refusal::because(Code::Malformed, format_args!("{path}: {}", error.inner())),
    }
}

/// The caller that a token names. For an invalid token the answer is `unauthorized`; the log has the reason, which the
/// caller does not learn. While the token cannot be checked, the answer is `unavailable`: the caller keeps the token and
/// tries again.
pub async fn verify_token(app: &App, token: &str) -> Result<Claims, Refusal> {
    app.verifier.verify(token).await.map_err(|error| {
        tracing::debug!(%error, "a token was refused");
        if error == TokenError::KeysUnavailable { Code::Unavailable.into() } else { Code::Unauthorized.into() }
    })
}

/// Reads a date of a call. A day that does not exist is `bad_date`.
pub(crate) fn parse_day(text: &str) -> Result<Day, Refusal> {
    Day::parse(text).ok_or_else(|| Refusal::telling(Code::BadDate, "YYYY-MM-DD"))
}

/// Lets only staff of the space pass.
fn require_staff_of(caller: &Claims, space: SpaceKey) -> Result<(), Refusal> {
    if caller.is_staff_of(space) { Ok(()) } else { Err(Code::Forbidden.into()) }
}

/// Lets only staff pass whose token has no `sedi`. Only they may do what concerns all users or all nodes.
pub fn require_staff_everywhere(caller: &Claims) -> Result<(), Refusal> {
    if caller.is_staff_everywhere() { Ok(()) } else { Err(Code::Forbidden.into()) }
}

/// The caller as the journal names it.
pub(crate) fn origin_of(caller: &Claims) -> Origin {
    let role = caller.role.map(|role| role.as_str().into());
    Origin { user: caller.user.clone(), role, request_id: current_id() }
}

#[cfg(test)]
mod tests {
    use super::slots::SlotsRequest;
    use super::*;

    fn refused(json: &str) -> String {
        let refusal = parse::<SlotsRequest>(json.as_bytes()).unwrap_err();
        assert_eq!(refusal.code, Code::Malformed, "{json}");
        refusal.detail
    }

    #[test]
    fn a_malformed_request_names_its_field() {
        let site = refused(r#"{"idSpazio": 1, "sedeId": -1, "date": "2026-11-25", "slots": [1]}"#);
        assert!(site.contains("sedeId: invalid"), "{site}");
        let slot = refused(r#"{"idSpazio": 1, "sedeId": 1, "date": "2026-11-25", "slots": [1, 2.5]}"#);
        assert!(slot.contains("slots[1]: invalid"), "{slot}");
        let missing = refused(r#"{"idSpazio": 1, "sedeId": 1, "slots": [1]}"#);
        assert!(missing.contains("missing field `date`"), "{missing}");
        let trailing = refused(r#"{"idSpazio": 1, "sedeId": 1, "date": "2026-11-25", "slots": [1]} {}"#);
        assert!(trailing.contains("trailing"), "{trailing}");
        for text in ["", "[]", r#"[1, 1, "2026-11-25", [1], null, null, null]"#, "null", "7", "{", "\"{}\"", "\u{0}"] {
            refused(text);
        }
    }
}
