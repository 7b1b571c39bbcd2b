//! What each event of a client does. An event is answered by its acknowledgement, or, refused without one, by
//! `space_error`.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use socketioxide_core::Value;

use super::inbox::Incoming;
use super::session::Session;
use super::{Realtime, json, statistics};
use crate::calls;
use crate::domain::event::Position;
use crate::domain::{Code, Object, Refusal, SiteId, SlotNumber, SpaceId, SpaceKey};
use crate::feed::{Interest, joined_space};
use crate::telemetry::users::logged;

/// What an event is answered with: the object behind `ok: true`.
type Answer = Result<Box<RawValue>, Refusal>;

/// Does one event and answers it.
pub(super) async fn handle(realtime: &Realtime, session: &Arc<Session>, incoming: Incoming) {
    let (event, payload) = parse_event(&incoming.value);
    realtime.0.app.metrics.count_event_in(&event);
    let answered = match payload {
        _ if !session.inbox.admits_event() => Err(Code::RateLimited.into()),
        Ok(payload) => dispatch(realtime, session, &event, payload.as_deref()).await,
        Err(refusal) => Err(refusal),
    };
    answer(session, &event, incoming.ack_id, answered);
}

async fn dispatch(realtime: &Realtime, session: &Arc<Session>, event: &str, payload: Option<&RawValue>) -> Answer {
    match event {
        "join_space" => join_space(realtime, session, parse(payload)?).await,
        "leave_space" => leave_space(realtime, session, parse(payload)?).await,
        "sync" => sync(realtime, session, parse(payload)?).await,
        "hold_slot" => act(calls::hold::hold(&realtime.0.app, &session.claims(), parse(payload)?, None).await),
        "book_slot" => act(calls::book::book(&realtime.0.app, &session.claims(), parse(payload)?, None).await),
        "release_slot" => act(calls::release::release(&realtime.0.app, &session.claims(), parse(payload)?, None).await),
        "extend_hold" => act(calls::extend::extend(&realtime.0.app, &session.claims(), parse(payload)?, None).await),
        "refresh_token" => refresh_token(realtime, session, parse(payload)?).await,
        "watch_stats" => watch_stats(realtime, session).await,
        _ => Err(Code::UnknownEvent.into()),
    }
}

fn act(answer: Result<calls::slots::SlotsAnswer, Refusal>) -> Answer {
    answer.map(|answer| json(&answer))
}

// --- Rooms

#[derive(Deserialize)]
struct JoinRequest {
    #[serde(rename = "spazioId", alias = "idSpazio")]
    space: SpaceId,
    #[serde(rename = "sedeId")]
    site: SiteId,
    date: Option<String>,
    since: Option<Object<Position>>,
}

impl JoinRequest {
    fn space(&self) -> SpaceKey {
        SpaceKey { site: self.site, space: self.space }
    }
}

async fn join_space(realtime: &Realtime, session: &Arc<Session>, request: JoinRequest) -> Answer {
    let shared = &realtime.0;
    let space = request.space();
    let interest = read_interest(realtime, session, request).await?;
    let was_in = session.is_in(space);
    if !session.enter(space, shared.app.config.limits.max_rooms) {
        return Err(Code::TooManyRooms.into());
    }
    let joined = shared.feed.join(space, session.clone(), interest).await;
    if joined.is_err() && !was_in {
        session.exit(space);
    }
    if session.has_ended() {
        // It ended meanwhile, perhaps before the feed heard of it.
        shared.feed.leave(space, session.id()).await;
    }
    let joined = joined?;
    tracing::info!(user.id = %logged(session.user()), session = session.id(), room = space.room(), "joined");
    Ok(joined_space(space, &joined, shared.app.catalog.store_now()))
}

async fn sync(realtime: &Realtime, session: &Arc<Session>, request: JoinRequest) -> Answer {
    if request.date.is_none() {
        return Err(Refusal::because(Code::Malformed, "missing field `date`"));
    }
    let space = request.space();
    let interest = read_interest(realtime, session, request).await?;
    let synced = realtime.0.feed.sync(space, session.id(), interest).await?;
    Ok(joined_space(space, &synced, realtime.0.app.catalog.store_now()))
}

/// Checks that the socket may watch the space, and what it wants of it.
async fn read_interest(realtime: &Realtime, session: &Session, request: JoinRequest) -> Result<Interest, Refusal> {
    let space = request.space();
    let day = request.date.as_deref().map(calls::parse_day).transpose()?;
    if !session.claims().may_enter(space.site) {
        return Err(Code::Forbidden.into());
    }
    let catalog = &realtime.0.app.catalog;
    let watches = realtime.0.feed.watches(space);
    let resolved = if watches { catalog.resolve(space).await? } else { catalog.resolve_anew(space).await? };
    if let Some(day) = day {
        catalog.require_near(&resolved.schedule, day)?;
    }
    Ok(Interest { day, since: request.since.map(|Object(position)| position) })
}

#[derive(Deserialize)]
struct LeaveRequest {
    #[serde(rename = "spazioId", alias = "idSpazio")]
    space: SpaceId,
    #[serde(rename = "sedeId")]
    site: SiteId,
}

async fn leave_space(realtime: &Realtime, session: &Arc<Session>, request: LeaveRequest) -> Answer {
    let space = SpaceKey { site: request.site, space: request.space };
    Ok(leave(realtime, session, space).await)
}

/// Takes the socket out of a room and tells it.
async fn leave(realtime: &Realtime, session: &Session, space: SpaceKey) -> Box<RawValue> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct LeftSpace {
        room: String,
        spazio_id: SpaceId,
        sede_id: SiteId,
        timestamp: String,
    }
    if session.exit(space) {
        realtime.0.feed.leave(space, session.id()).await;
        tracing::info!(user.id = %logged(session.user()), session = session.id(), room = space.room(), "left");
    }
    let timestamp = realtime.0.app.catalog.store_now().rfc3339();
    let left = json(&LeftSpace { room: space.room(), spazio_id: space.space, sede_id: space.site, timestamp });
    session.emit("left_space", &left);
    left
}

// --- The connection itself

#[derive(Deserialize)]
struct RefreshRequest {
    token: String,
}

async fn refresh_token(realtime: &Realtime, session: &Arc<Session>, request: RefreshRequest) -> Answer {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Refreshed {
        expires_at: String,
    }
    let claims = calls::verify_token(&realtime.0.app, &request.token).await?;
    if claims.user != *session.user() {
        return Err(Refusal::because(Code::Forbidden, "id_utente"));
    }
    let expires = claims.expires;
    session.set_claims(claims);
    realtime.0.expiry.watch(session.id(), expires);
    for space in session.spaces() {
        if !session.claims().may_enter(space.site) {
            leave(realtime, session, space).await;
        }
    }
    Ok(json(&Refreshed { expires_at: expires.rfc3339() }))
}

async fn watch_stats(realtime: &Realtime, session: &Arc<Session>) -> Answer {
    if !session.claims().is_staff_everywhere() {
        return Err(Code::Forbidden.into());
    }
    session.set_watches_stats();
    statistics::send_to(realtime, vec![session.clone()]).await;
    Ok(json(&serde_json::Map::new()))
}

// --- In and out

/// Takes apart `["name", payload?]`: the name, empty where there is none, and the payload.
fn parse_event(value: &Value) -> (String, Result<Option<Box<RawValue>>, Refusal>) {
    let Value::Str(text, attachments) = value else { return (String::new(), Err(malformed("binary"))) };
    let (name, mut payload) = match parse_parts(text) {
        Ok(parts) => parts,
        Err(refusal) => return (String::new(), Err(refusal)),
    };
    let has_more = payload.len() > 1 || attachments.as_ref().is_some_and(|attachments| !attachments.is_empty());
    (name, if has_more { Err(malformed("an event takes one object")) } else { Ok(payload.pop()) })
}

/// The name, and all that follows it.
fn parse_parts(text: &str) -> Result<(String, Vec<Box<RawValue>>), Refusal> {
    let mut parts: Vec<Box<RawValue>> = serde_json::from_str(text).map_err(malformed)?;
    if parts.is_empty() {
        return Err(malformed("no event name"));
    }
    let name = serde_json::from_str(parts.remove(0).get()).map_err(malformed)?;
    Ok((name, parts))
}

/// Whether a frame is an event that is not refused for its shape. For the fuzzers.
pub(crate) fn is_well_formed(frame: &str) -> bool {
    let (event, Ok(payload)) = parse_event(&Value::Str(frame.to_owned().into(), None)) else { return false };
    let payload = payload.as_deref();
    match event.as_str() {
        "join_space" | "sync" => parse::<JoinRequest>(payload).is_ok(),
        "leave_space" => parse::<LeaveRequest>(payload).is_ok(),
        "refresh_token" => parse::<RefreshRequest>(payload).is_ok(),
        "hold_slot" | "book_slot" | "release_slot" | "extend_hold" => {
            parse::<calls::slots::SlotsRequest>(payload).is_ok()
        }
        event => event == "watch_stats",
    }
}

/// Reads a payload; an absent one is an empty object.
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
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    conflicts: &'a [SlotNumber],
}

impl<'a> From<&'a Refusal> for NotOk<'a> {
    fn from(refusal: &'a Refusal) -> Self {
        let Refusal { code, message, conflicts } = refusal;
        Self { ok: false, error: NotOkError { code: code.as_str(), message, conflicts } }
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
