//! Slot records as Redis has them; [`super::keys`] says what each line is.

use serde::Deserialize;
use serde::de::IntoDeserializer;

use crate::domain::slot::{Hold, SlotState};
use crate::domain::{HoldToken, SlotData, SlotRecord, StoreTime, UserId};

/// Reads a record; `None` when it is not one.
pub(super) fn parse_record(text: &str) -> Option<SlotRecord> {
    let lines: Vec<&str> = text.splitn(12, '\n').collect();
    let &[state, version, start, end, label, user, token, began, until, first_until, first_version, data] = &*lines
    else {
        return None;
    };
    let user = UserId::new(user);
    let data = || if data.is_empty() { Some(None) } else { serde_json::from_str::<SlotData>(data).ok().map(Some) };
    let first_version = || first_version.parse().ok();
    let state = match state {
        "a" => SlotState::Available { data: data()? },
        "b" => SlotState::Booked { user, first_version: first_version()?, data: data()? },
        "c" => SlotState::Blocked { data: data()? },
        "h" => SlotState::Held(Hold {
            user: user?,
            token: parse_token(token)?,
            began: parse_time(began)?,
            until: parse_time(until)?,
            first_until: parse_time(first_until)?,
            first_version: first_version()?,
        }),
        _ => return None,
    };
    let (start, end) = (parse_time(start)?, parse_time(end)?);
    Some(SlotRecord { state, version: version.parse().ok()?, start, end, label: label.into() })
}

/// A token that this store keeps.
pub(super) fn parse_token(text: &str) -> Option<HoldToken> {
    let text: serde::de::value::StrDeserializer<'_, serde::de::value::Error> = text.into_deserializer();
    HoldToken::deserialize(text).ok()
}

/// An instant in ms.
pub(super) fn parse_time(text: &str) -> Option<StoreTime> {
    text.parse().ok().map(StoreTime::from_millis)
}
