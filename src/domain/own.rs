//! What only a slot's user is told of the slot. Nodes keep it beside the payload for everybody, and never in it.

use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

use super::slot::SlotState;
use super::{HoldToken, StoreTime, UserId};

/// Who has a slot, and since when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Owned {
    /// The user who holds or booked it.
    #[serde(rename = "u")]
    pub user: UserId,
    /// The hold's token; `None` if the slot is booked.
    #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
    pub token: Option<HoldToken>,
    /// When the hold began or the booking was made, if that is known.
    #[serde(rename = "g", default, skip_serializing_if = "Option::is_none")]
    pub began: Option<StoreTime>,
    /// When the slot starts.
    #[serde(rename = "b")]
    pub start: StoreTime,
}

impl Owned {
    /// Who has a slot that starts at `start`; `None` if nobody has it, or if its user is not known.
    pub fn of(state: &SlotState, start: StoreTime) -> Option<Self> {
        match state {
            SlotState::Held(hold) => {
                Some(Self { user: hold.user.clone(), token: Some(hold.token.clone()), began: Some(hold.began), start })
            }
            SlotState::Booked { user, booked_at, .. } => {
                Some(Self { user: user.clone()?, token: None, began: *booked_at, start })
            }
            SlotState::Available { .. } | SlotState::Blocked { .. } => None,
        }
    }
}

/// What a space allows its users, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnTerms {
    /// How long a hold may last from its beginning.
    pub max_hold: i64,
    /// How long before its start a booking can be cancelled by its user; `None` for never.
    pub cancel_before: Option<i64>,
}

/// The most bytes of JSON that a held own slot has besides its token, and the most that a booked own slot has.
const HELD_BYTES: usize = 108;
const BOOKED_BYTES: usize = 53;

/// The members that a user's own slot has besides the members for everybody.
#[derive(Clone, Copy, Debug)]
pub struct OwnMembers<'a> {
    owned: &'a Owned,
    terms: OwnTerms,
}

impl<'a> OwnMembers<'a> {
    /// The members of a slot under a space's terms.
    pub fn new(owned: &'a Owned, terms: OwnTerms) -> Self {
        Self { owned, terms }
    }

    /// The most bytes that the members take as JSON in an object.
    pub fn most_bytes(owned: &Owned) -> usize {
        match &owned.token {
            Some(token) => HELD_BYTES + token.as_str().len(),
            None => BOOKED_BYTES,
        }
    }

    /// Adds the members to an object.
    pub fn add_to<M: SerializeMap>(self, map: &mut M) -> Result<(), M::Error> {
        let Owned { token, began, start, .. } = self.owned;
        map.serialize_entry("mine", &true)?;
        match (token, began) {
            (Some(token), Some(began)) => {
                map.serialize_entry("holdToken", token)?;
                map.serialize_entry("heldAt", &began.rfc3339())?;
                let last = began.plus_millis(self.terms.max_hold).min(*start);
                map.serialize_entry("extendableUntil", &last.rfc3339())
            }
            _ => {
                let last = self.terms.cancel_before.map(|millis| start.plus_millis(-millis).rfc3339());
                map.serialize_entry("cancelUntil", &last)
            }
        }
    }

    /// The members as JSON text to put after the opening brace of an object that has members.
    fn text(self) -> Option<String> {
        let own = super::event::to_json(&self);
        Some(format!("{},", own.strip_prefix('{')?.strip_suffix('}')?))
    }
}

/// Inserts own members into objects of JSON that have members. A place is the index after an object's opening brace; places
/// ascend. `None` if a place is out of range.
pub fn insert_own<'a>(json: &str, own: impl Iterator<Item = (usize, OwnMembers<'a>)>) -> Option<String> {
    let (mut told, mut from) = (String::with_capacity(json.len() + 512), 0);
    for (place, members) in own {
        told.push_str(json.get(from..place)?);
        told.push_str(&members.text()?);
        from = place;
    }
    told.push_str(json.get(from..)?);
    Some(told)
}

impl Serialize for OwnMembers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.add_to(&mut map)?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: StoreTime = StoreTime::from_millis(10_000_000);

    fn owned(token: Option<HoldToken>) -> Owned {
        let began = token.as_ref().map(|_| StoreTime::from_millis(7_000_000));
        Owned { user: UserId::new("7").unwrap(), token, began, start: START }
    }

    fn members(owned: &Owned, max_hold: i64, cancel_before: Option<i64>) -> String {
        let members = OwnMembers::new(owned, OwnTerms { max_hold, cancel_before });
        insert_own(r#"{"a":{"b":1}}"#, std::iter::once((6, members))).unwrap()
    }

    #[test]
    fn a_held_slot_can_be_extended_to_its_start_at_most() {
        let held = owned(Some(HoldToken::from_random([1; 16])));
        let told = |until| {
            format!(
                r#"{{"a":{{"mine":true,"holdToken":"{}","heldAt":"1970-01-01T01:56:40.000Z","extendableUntil":"{until}","b":1}}}}"#,
                "01".repeat(16)
            )
        };
        assert_eq!(members(&held, 1_000_000, None), told("1970-01-01T02:13:20.000Z"));
        assert_eq!(members(&held, 9_000_000, Some(1)), told("1970-01-01T02:46:40.000Z"));
    }

    #[test]
    fn a_booked_slot_can_be_cancelled_until_some_time_before_its_start_or_never() {
        assert_eq!(members(&owned(None), 1, None), r#"{"a":{"mine":true,"cancelUntil":null,"b":1}}"#);
        let told = r#"{"a":{"mine":true,"cancelUntil":"1970-01-01T02:45:40.000Z","b":1}}"#;
        assert_eq!(members(&owned(None), 1, Some(60_000)), told);
    }

    #[test]
    fn what_an_own_slot_has_more_is_known_to_the_byte() {
        let plain = r#"{"a":{"b":1}}"#.len();
        for one in [owned(Some(HoldToken::from_random([1; 16]))), owned(None)] {
            assert_eq!(members(&one, 1_000, Some(60_000)).len() - plain, OwnMembers::most_bytes(&one));
        }
        assert!(members(&owned(None), 1_000, None).len() - plain < OwnMembers::most_bytes(&owned(None)));
    }

    #[test]
    fn what_nodes_are_told_is_read_back_and_later_members_are_ignored() {
        let held = owned(Some(HoldToken::from_random([1; 16])));
        let json = serde_json::to_string(&held).unwrap();
        assert_eq!(serde_json::from_str::<Owned>(&json).unwrap(), held);
        let later = r#"{"u":"7","b":10000000,"z":{}}"#;
        assert_eq!(serde_json::from_str::<Owned>(later).unwrap(), owned(None));
    }
}
