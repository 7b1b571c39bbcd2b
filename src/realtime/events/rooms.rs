//! The events by which a socket enters, follows and leaves rooms.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Answer;
use crate::calls;
use crate::domain::event::to_raw_json;
use crate::domain::{Code, Object, Position, Refusal, ServerEvent, SiteId, SpaceId, SpaceKey};
use crate::feed::{Interest, joined_space};
use crate::realtime::session::Session;
use crate::realtime::{Realtime, guests};
use crate::telemetry::users::logged;

#[derive(Deserialize)]
pub(super) struct JoinRequest {
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

pub(super) async fn join_space(realtime: &Realtime, session: &Arc<Session>, request: JoinRequest) -> Answer {
    let space = request.space();
    let interest = read_interest(realtime, session, request).await?;
    let was_in = session.is_in(space);
    let max_rooms = realtime.app.config.limits.max_rooms;
    let max_rooms = if session.is_guest() { max_rooms.min(guests::MAX_ROOMS) } else { max_rooms };
    if !session.enter(space, max_rooms) {
        return Err(Code::TooManyRooms.into());
    }
    let joined = realtime.feed.join(space, session.clone(), interest).await;
    if joined.is_err() && !was_in {
        session.exit(space);
    }
    if session.has_ended() {
        // The socket has ended, perhaps before the feed heard of it.
        realtime.feed.leave(space, session.id()).await;
    }
    let joined = joined?;
    tracing::info!(user.id = %logged(session.user()), session = session.id(), room = space.room(), "joined");
    Ok(joined_space(space, &joined, realtime.app.clock.now()))
}

pub(super) async fn sync(realtime: &Realtime, session: &Arc<Session>, request: JoinRequest) -> Answer {
    if request.date.is_none() {
        return Err(Refusal::because(Code::Malformed, "missing field `date`"));
    }
    let space = request.space();
    let interest = read_interest(realtime, session, request).await?;
    let synced = realtime.feed.sync(space, session.id(), interest).await?;
    Ok(joined_space(space, &synced, realtime.app.clock.now()))
}

/// Checks that the socket may watch the space, and reads what it wants.
async fn read_interest(realtime: &Realtime, session: &Session, request: JoinRequest) -> Result<Interest, Refusal> {
    let space = request.space();
    let day = request.date.as_deref().map(calls::parse_day).transpose()?;
    if !session.claims().may_enter(space.site) {
        return Err(Code::Forbidden.into());
    }
    let catalog = &realtime.app.catalog;
    let watches = realtime.feed.watches(space);
    let resolved = if watches { catalog.resolve(space).await? } else { catalog.resolve_anew(space).await? };
    if session.is_guest() && !resolved.registered {
        return Err(Code::SpaceNotFound.into());
    }
    if let Some(day) = day {
        catalog.require_near(&resolved.schedule, day)?;
    }
    Ok(Interest { day, since: request.since.map(|Object(position)| position) })
}

#[derive(Deserialize)]
pub(super) struct LeaveRequest {
    #[serde(rename = "spazioId", alias = "idSpazio")]
    space: SpaceId,
    #[serde(rename = "sedeId")]
    site: SiteId,
}

pub(super) async fn leave_space(realtime: &Realtime, session: &Arc<Session>, request: LeaveRequest) -> Answer {
    let space = SpaceKey { site: request.site, space: request.space };
    Ok(leave(realtime, session, space).await)
}

/// Removes the socket from a room, and tells it.
pub(super) async fn leave(realtime: &Realtime, session: &Session, space: SpaceKey) -> Box<RawValue> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct LeftSpace {
        room: String,
        spazio_id: SpaceId,
        sede_id: SiteId,
        timestamp: String,
    }
    if session.exit(space) {
        realtime.feed.leave(space, session.id()).await;
        tracing::info!(user.id = %logged(session.user()), session = session.id(), room = space.room(), "left");
    }
    let timestamp = realtime.app.clock.now().rfc3339();
    let left = to_raw_json(&LeftSpace { room: space.room(), spazio_id: space.space, sede_id: space.site, timestamp });
    session.emit(ServerEvent::LeftSpace.as_str(), &left);
    left
}
