//! Handles the events of clients. The answer to an event is its acknowledgement. If an event without an acknowledgement
//! is refused, the client gets `space_error`.
//!
//! `rooms` and `connection` have the events' effects; acts on slots are calls.

mod connection;
mod rooms;

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use socketioxide_core::Value;
use tracing::Instrument;

use super::inbox::Incoming;
use super::session::Session;
use super::{Realtime, guests};
use crate::calls;
use crate::domain::event::to_raw_json;
use crate::domain::{ClientEvent, Code, Refusal, SlotNumber};
use crate::telemetry::request::{new_id, serve};
use connection::{RefreshRequest, refresh_token, watch_stats};
use rooms::{JoinRequest, LeaveRequest, join_space, leave_space, sync};

/// The answer to an event: the object behind `ok: true`.
type Answer = Result<Box<RawValue>, Refusal>;

/// Handles one event and answers it.
pub(super) async fn handle(realtime: &Realtime, session: &Arc<Session>, incoming: Incoming) {
    let (event, payload) = parse_event(&incoming.value);
    let name = realtime.app.metrics.count_event_in(&event);
    let id = new_id();
    let span = tracing::info_span!("event", event.name = name, session = session.id(), request.id = &*id);
    let answered = match payload {
        _ if !session.inbox.admits_event() => Err(Code::RateLimited.into()),
        Ok(payload) => {
            let dispatched = dispatch(realtime, session, &event, payload.as_deref()).instrument(span);
            serve(id, dispatched).await
        }
        Err(refusal) => Err(refusal),
    };
    answer(session, &event, incoming.ack_id, answered);
}

async fn dispatch(realtime: &Realtime, session: &Arc<Session>, event: &str, payload: Option<&RawValue>) -> Answer {
    if session.is_guest() && !guests::may(event) {
        return Err(Code::Unauthorized.into());
    }
    let app = &realtime.app;
    match ClientEvent::parse(event).ok_or(Code::UnknownEvent)? {
        ClientEvent::JoinSpace => join_space(realtime, session, parse(payload)?).await,
        ClientEvent::LeaveSpace => leave_space(realtime, session, parse(payload)?).await,
        ClientEvent::Sync => sync(realtime, session, parse(payload)?).await,
        ClientEvent::HoldSlot => act(calls::hold::hold(app, &session.claims(), parse(payload)?, None).await),
        ClientEvent::BookSlot => act(calls::book::book(app, &session.claims(), parse(payload)?, None).await),
        ClientEvent::ReleaseSlot => act(calls::release::release(app, &session.claims(), parse(payload)?, None).await),
        ClientEvent::ExtendHold => act(calls::extend::extend(app, &session.claims(), parse(payload)?, None).await),
        ClientEvent::RefreshToken => refresh_token(realtime, session, parse(payload)?).await,
        ClientEvent::WatchStats => watch_stats(realtime, session).await,
    }
}

fn act(answer: Result<calls::slots::SlotsAnswer, Refusal>) -> Answer {
    answer.map(|answer| to_raw_json(&answer))
}

/// Splits `["name", payload?]` into the name, which is empty if there is none, and the payload.
fn parse_event(value: &Value) -> (String, Result<Option<Box<RawValue>>, Refusal>) {
    let Value::Str(text, attachments) = value else { return (String::new(), Err(malformed("binary"))) };
    let (name, mut payload) = match parse_parts(text) {
        Ok(parts) => parts,
        Err(refusal) => return (String::new(), Err(refusal)),
    };
    let has_more = payload.len() > 1 || attachments.as_ref().is_some_and(|attachments| !attachments.is_empty());
    (name, if has_more { Err(malformed("an event takes one object")) } else { Ok(payload.pop()) })
}

/// The name, and the values that follow it.
fn parse_parts(text: &str) -> Result<(String, Vec<Box<RawValue>>), Refusal> {
    let mut parts: Vec<Box<RawValue>> = serde_json::from_str(text).map_err(malformed)?;
    if parts.is_empty() {
        return Err(malformed("no event name"));
    }
    let name = serde_json::from_str(parts.remove(0).get()).map_err(malformed)?;
    Ok((name, parts))
}

/// Whether a frame is an event with a valid shape. For the fuzzers.
pub(crate) fn is_well_formed(frame: &str) -> bool {
    let (event, Ok(payload)) = parse_event(&Value::Str(frame.to_owned().into(), None)) else { return false };
    let payload = payload.as_deref();
    let Some(event) = ClientEvent::parse(&event) else { return false };
    match event {
        ClientEvent::JoinSpace | ClientEvent::Sync => parse::<JoinRequest>(payload).is_ok(),
        ClientEvent::LeaveSpace => parse::<LeaveRequest>(payload).is_ok(),
        ClientEvent::RefreshToken => parse::<RefreshRequest>(payload).is_ok(),
        ClientEvent::HoldSlot | ClientEvent::BookSlot | ClientEvent::ReleaseSlot | ClientEvent::ExtendHold => {
            parse::<calls::slots::SlotsRequest>(payload).is_ok()
        }
        ClientEvent::WatchStats => true,
    }
}

/// Reads a payload. A missing payload is an empty object.
fn parse<T: DeserializeOwned>(payload: Option<&RawValue>) -> Result<T, Refusal> {
    calls::parse(payload.map_or("{}", RawValue::get).as_bytes())
}

fn malformed(reason: impl std::fmt::Display) -> Refusal {
    Refusal::because(Code::Malformed, reason)
}

fn answer(session: &Session, event: &str, ack_id: Option<i64>, answer: Answer) {
    match (ack_id, answer) {
        (Some(id), Ok(answer)) => session.acknowledge(id, &with_ok(&answer)),
        (Some(id), Err(refusal)) => session.acknowledge(id, &NotOk::from(&refusal)),
        (None, Err(refusal)) => session.emit_error(event, &refusal),
        (None, Ok(_)) => {}
    }
}

/// `{"ok":true, ...}` with the members of a JSON object.
fn with_ok(object: &RawValue) -> Box<RawValue> {
    let members = object.get().trim_start_matches('{');
    let separator = if members.trim() == "}" { "" } else { "," };
    RawValue::from_string(format!("{{\"ok\":true{separator}{members}")).unwrap_or_default()
}

#[derive(Serialize)]
struct NotOk<'a> {
    ok: bool,
    error: NotOkError<'a>,
}

#[derive(Serialize)]
struct NotOkError<'a> {
    code: &'static str,
    message: &'a str,
    detail: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    conflicts: &'a [SlotNumber],
}

impl<'a> From<&'a Refusal> for NotOk<'a> {
    fn from(refusal: &'a Refusal) -> Self {
        let Refusal { code, message, detail, conflicts, .. } = refusal;
        Self { ok: false, error: NotOkError { code: code.as_str(), message, detail, conflicts } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_an_object_with_ok_first() {
        let object = |json: &str| RawValue::from_string(json.into()).unwrap();
        assert_eq!(with_ok(&object(r#"{"a":{}}"#)).get(), r#"{"ok":true,"a":{}}"#);
        assert_eq!(with_ok(&object("{}")).get(), r#"{"ok":true}"#);
    }

    #[test]
    fn an_event_is_a_name_and_at_most_one_object() {
        let parse = |json: &str| {
            let (name, payload) = parse_event(&Value::Str(json.to_owned().into(), None));
            (name, payload.is_ok())
        };
        assert_eq!(parse(r#"["join_space",{"a":1}]"#), ("join_space".into(), true));
        assert_eq!(parse(r#"["join_space"]"#), ("join_space".into(), true));
        assert_eq!(parse(r#"["join_space",{},{}]"#), ("join_space".into(), false), "its refusal names it");
        for bad in ["[]", "[1]", "{}", "", "[\"a\""] {
            assert_eq!(parse(bad), (String::new(), false), "{bad}");
        }
    }
}
