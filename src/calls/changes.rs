//! Reading what changed in a space after a version, as its log has it.

use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::require_staff_of;
use crate::app::App;
use crate::auth::Claims;
use crate::domain::{Code, Position, Refusal, SpaceKey};
use crate::store::refuse::unavailable;
use crate::store::{LogRead, Message, Topic, read_whole_log};

/// What changed, and where that leads.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ChangesAnswer {
    /// The space's epoch.
    pub epoch: String,
    /// The version of the last change, or the one asked about when nothing changed since.
    pub version: u64,
    /// Ascending, without a gap.
    pub changes: Vec<ChangeEntry>,
}

/// One change of a space.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ChangeEntry {
    /// Its version.
    pub version: u64,
    /// `slot_update` or `space_changed`.
    #[schema(example = "slot_update")]
    pub event: &'static str,
    /// What clients received; `null` for `space_changed`.
    #[schema(value_type = Option<Object>, required)]
    pub payload: Box<RawValue>,
}

/// All changes of a space after a position, or `gone` if the log no longer has them all.
pub async fn list_changes(
    app: &App,
    caller: &Claims,
    space: SpaceKey,
    since: Position,
) -> Result<ChangesAnswer, Refusal> {
    require_staff_of(caller, space)?;
    let log = read_whole_log(app.store.as_ref(), Topic::Space(space), &since).await;
    let LogRead::Messages(messages) = log.map_err(|error| unavailable(&error))? else { return Err(Code::Gone.into()) };
    let head = messages.last().map_or(since, |message| message.at.clone());
    app.acknowledged.note(space, &head);
    Ok(ChangesAnswer {
        epoch: head.epoch.to_string(),
        version: head.version,
        changes: messages.into_iter().map(entry).collect(),
    })
}

fn entry(message: Message) -> ChangeEntry {
    ChangeEntry { version: message.at.version, event: message.kind.as_str(), payload: (*message.payload).to_owned() }
}
