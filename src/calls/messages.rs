//! Messages and commands of staff: to one user, to everyone, to a room.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::update::require_fit;
use super::{parse_day, require_staff_everywhere, require_staff_of};
use crate::app::App;
use crate::auth::Claims;
use crate::domain::wire::is_reserved;
use crate::domain::{Code, Day, Refusal, SiteId, SpaceId, SpaceKey, UserId};
use crate::store::refuse::unavailable;
use crate::store::{EveryoneMessage, Publication};

/// The longest name of an event, in bytes.
pub(crate) const MAX_EVENT_BYTES: usize = 128;

/// An event of the caller's own with its payload.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct MessageRequest {
    /// 1 to 128 bytes; names of Socket.IO and of this protocol are `reserved_event`.
    #[schema(min_length = 1, max_length = 128)]
    pub event: String,
    /// Any JSON, 16 KiB at most, passed on unchanged.
    #[schema(value_type = Value)]
    pub data: Box<RawValue>,
}

/// Which board to send to the room.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct ShowBoardRequest {
    /// The local day, `YYYY-MM-DD`.
    #[schema(format = Date)]
    pub date: String,
}

/// A notification that is on its way.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct NotifiedAnswer {
    /// The user who gets it.
    #[serde(rename = "id_utente")]
    #[schema(value_type = Value)]
    pub user: UserId,
    /// The event's name.
    pub event: String,
}

/// A user whose sockets are being closed.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct DisconnectedAnswer {
    /// The user whose sockets are closed.
    #[serde(rename = "id_utente")]
    #[schema(value_type = Value)]
    pub user: UserId,
}

/// A message to everyone that is on its way.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct BroadcastAnswer {
    /// The event's name.
    pub event: String,
}

/// A board that is on its way to the room of its space.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BoardShownAnswer {
    /// The space.
    #[schema(value_type = u64)]
    pub id_spazio: SpaceId,
    /// Its site.
    #[schema(value_type = u64)]
    pub sede_id: SiteId,
    /// The local day.
    #[schema(value_type = String, format = Date)]
    pub date: Day,
}

/// Notifies one user on all of the user's sockets. While the user has no socket, the message is kept for a day.
pub async fn notify_user(
    app: &App,
    caller: &Claims,
    user: UserId,
    request: MessageRequest,
) -> Result<NotifiedAnswer, Refusal> {
    require_message(&request)?;
    require_staff_everywhere(caller)?;
    let MessageRequest { event, data } = request;
    publish(app, Publication::ToUser { user: user.clone(), event: event.clone(), data }).await?;
    Ok(NotifiedAnswer { user, event })
}

/// Closes the sockets that the user has now, on all nodes.
pub async fn disconnect_user(app: &App, caller: &Claims, user: UserId) -> Result<DisconnectedAnswer, Refusal> {
    require_staff_everywhere(caller)?;
    publish(app, Publication::DisconnectUser(user.clone())).await?;
    Ok(DisconnectedAnswer { user })
}

/// Sends an event to every client on every node.
pub async fn broadcast(app: &App, caller: &Claims, request: MessageRequest) -> Result<BroadcastAnswer, Refusal> {
    require_message(&request)?;
    require_staff_everywhere(caller)?;
    let MessageRequest { event, data } = request;
    publish(app, Publication::ToEveryone(EveryoneMessage { event: event.clone(), data })).await?;
    Ok(BroadcastAnswer { event })
}

/// Sends a day's board to the room of the space.
pub async fn show_board(
    app: &App,
    caller: &Claims,
    space: SpaceKey,
    request: ShowBoardRequest,
) -> Result<BoardShownAnswer, Refusal> {
    let day = parse_day(&request.date)?;
    require_staff_of(caller, space)?;
    let resolved = app.catalog.resolve_anew(space).await?;
    app.catalog.require_near(&resolved.schedule, day)?;
    publish(app, Publication::ShowBoard(space, day)).await?;
    Ok(BoardShownAnswer { id_spazio: space.space, sede_id: space.site, date: day })
}

async fn publish(app: &App, publication: Publication) -> Result<(), Refusal> {
    app.store.publish(publication).await.map_err(|error| unavailable(&error))
}

/// Refuses event names and payloads that no message may have.
pub(crate) fn require_message(request: &MessageRequest) -> Result<(), Refusal> {
    if !(1..=MAX_EVENT_BYTES).contains(&request.event.len()) {
        return Err(Refusal::because(Code::Malformed, format_args!("event: 1 to {MAX_EVENT_BYTES} bytes")));
    }
    require_fit(&request.data)?;
    if is_reserved(&request.event) {
        return Err(Refusal::telling(Code::ReservedEvent, &request.event));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::parse;

    fn judged(json: &str) -> Result<(), Code> {
        let request: MessageRequest = parse(json.as_bytes()).map_err(|refusal| refusal.code)?;
        require_message(&request).map_err(|refusal| refusal.code)
    }

    #[test]
    fn any_other_name_and_any_json_is_a_message() {
        for good in ["{}", "null", "[1.10, \"x\"]", "7"] {
            assert_eq!(judged(&format!(r#"{{"event": "offer", "data": {good}}}"#)), Ok(()), "{good}");
        }
        let request: MessageRequest = parse(br#"{"event": "offer", "data": {"n": 1.10,  "big": 1e400}}"#).unwrap();
        assert_eq!(request.data.get(), r#"{"n": 1.10,  "big": 1e400}"#, "byte for byte");
    }

    #[test]
    fn names_of_the_protocol_and_bad_shapes_are_refused() {
        for event in ["connect", "join_space", "slots_freed", "slot_taken"] {
            assert_eq!(judged(&format!(r#"{{"event": "{event}", "data": 1}}"#)), Err(Code::ReservedEvent), "{event}");
        }
        assert_eq!(judged(r#"{"event": "", "data": 1}"#), Err(Code::Malformed));
        assert_eq!(judged(&format!(r#"{{"event": "{}", "data": 1}}"#, "x".repeat(129))), Err(Code::Malformed));
        assert_eq!(judged(r#"{"event": "offer"}"#), Err(Code::Malformed));
        assert_eq!(judged(r#"{"event": 7, "data": 1}"#), Err(Code::Malformed));
        let long = format!(r#"{{"event": "offer", "data": "{}"}}"#, "x".repeat(16 * 1024));
        assert_eq!(judged(&long), Err(Code::TooLarge));
    }
}
