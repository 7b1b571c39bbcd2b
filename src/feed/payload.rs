//! The payloads that the feed makes itself, and the facts that it reads in payloads that it passes on.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;

use super::Joined;
use crate::domain::event::to_raw_json;
use crate::domain::refusal::Code;
use crate::domain::{Refusal, SpaceKey, StoreTime};

/// The payload of `joined_space`.
pub(crate) fn joined_space(space: SpaceKey, joined: &Joined, now: StoreTime) -> Box<RawValue> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct JoinedSpace<'a> {
        room: String,
        spazio_id: crate::domain::SpaceId,
        sede_id: crate::domain::SiteId,
        timestamp: String,
        epoch: &'a str,
        version: u64,
        recovered: bool,
    }
    let payload = JoinedSpace {
        room: space.room(),
        spazio_id: space.space,
        sede_id: space.site,
        timestamp: now.rfc3339(),
        epoch: &joined.at.epoch,
        version: joined.at.version,
        recovered: joined.recovered,
    };
    to_raw_json(&payload)
}

/// JSON that was made as text.
pub(super) fn raw(json: String) -> Result<Arc<RawValue>, Refusal> {
    let raw = RawValue::from_string(json).map_err(|error| Refusal::because(Code::Unavailable, error))?;
    Ok(raw.into())
}

/// The age in seconds of the change in a payload, by the payload's last `timestamp`.
pub(super) fn age_of(payload: &RawValue) -> Option<f64> {
    const KEY: &str = "\"timestamp\":\"";
    let json = payload.get();
    let rest = json.get(json.rfind(KEY)? + KEY.len()..)?;
    let timestamp: jiff::Timestamp = rest.get(..rest.find('"')?)?.parse().ok()?;
    Some(StoreTime::from(timestamp).until(crate::clock::wall()).as_secs_f64())
}
