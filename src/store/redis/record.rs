//! Slot records as they are stored in Redis. [`super::keys`] describes each member and each line.

use serde::Deserialize;
use serde::de::IntoDeserializer;

use crate::domain::slot::{Hold, SlotState};
use crate::domain::{HoldToken, SlotData, SlotRecord, StoreTime, UserId};

/// The parts of a record, in either format; a part that does not apply is empty.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Parts {
    #[serde(rename = "s")]
    state: String,
    #[serde(rename = "v")]
    version: String,
    #[serde(rename = "b")]
    start: String,
    #[serde(rename = "e")]
    end: String,
    #[serde(rename = "l")]
    label: String,
    #[serde(rename = "u")]
    user: String,
    #[serde(rename = "t")]
    token: String,
    #[serde(rename = "g")]
    began: String,
    #[serde(rename = "h")]
    until: String,
    #[serde(rename = "f")]
    first_until: String,
    #[serde(rename = "w")]
    first_version: String,
    #[serde(rename = "x")]
    first_epoch: String,
    #[serde(rename = "n")]
    length: String,
    #[serde(rename = "d")]
    data: String,
}

/// Reads a record at the instant `now`; `None` if the text is not a record.
pub(super) fn parse_record(text: &str, now: StoreTime) -> Option<SlotRecord> {
    let parts = if text.starts_with('{') { serde_json::from_str(text).ok()? } else { parse_lines(text)? };
    let mut record = record_of(&parts)?;
    if let SlotState::Held(hold) = &mut record.state {
        hold.until = hold.ends(now);
    }
    Some(record)
}

/// The twelve lines of format 1.
fn parse_lines(text: &str) -> Option<Parts> {
    let mut lines = text.splitn(12, '\n');
    let mut line = || Some(lines.next()?.to_owned());
    Some(Parts {
        state: line()?,
        version: line()?,
        start: line()?,
        end: line()?,
        label: line()?,
        user: line()?,
        token: line()?,
        began: line()?,
        until: line()?,
        first_until: line()?,
        first_version: line()?,
        data: line()?,
        ..Parts::default()
    })
}

fn record_of(parts: &Parts) -> Option<SlotRecord> {
    let Parts { version, start, end, label, .. } = parts;
    let (start, end) = (parse_time(start)?, parse_time(end)?);
    Some(SlotRecord { state: state_of(parts)?, version: version.parse().ok()?, start, end, label: label.clone() })
}

fn state_of(parts: &Parts) -> Option<SlotState> {
    let user = UserId::new(&parts.user);
    let data = match &*parts.data {
        "" => None,
        data => Some(serde_json::from_str::<SlotData>(data).ok()?),
    };
    let first_epoch = (!parts.first_epoch.is_empty()).then(|| parts.first_epoch.as_str().into());
    let first_version = || parts.first_version.parse().ok();
    Some(match &*parts.state {
        "a" => SlotState::Available { data },
        "b" => {
            let booked_at = parse_time(&parts.began);
            SlotState::Booked { user, first_version: first_version()?, first_epoch, booked_at, data }
        }
        "c" => SlotState::Blocked { data },
        "h" => SlotState::Held(Hold {
            user: user?,
            token: parse_token(&parts.token)?,
            began: parse_time(&parts.began)?,
            until: parse_time(&parts.until)?,
            first_until: parse_time(&parts.first_until)?,
            first_version: first_version()?,
            first_epoch,
            length: parts.length.parse().ok(),
        }),
        _ => return None,
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: StoreTime = StoreTime::from_millis(1_000);

    fn held(until: &str, length: &str) -> String {
        let token = "0".repeat(32);
        format!(
            r#"{{"s":"h","v":"5","b":"9000","e":"9900","l":"09:00","u":"ada","t":"{token}","g":"500","h":"{until}",
            "f":"2000","w":"5","x":"e1","n":"{length}","later":"unknown"}}"#
        )
    }

    #[test]
    fn both_forms_are_read_and_members_of_later_versions_ignored() {
        let record = parse_record("b\n3\n9000\n9900\n09:00\n7\n\n\n\n\n3\n{\"a\":1.50}", NOW).unwrap();
        let SlotState::Booked { user, first_version: 3, first_epoch: None, booked_at: None, data } = record.state
        else {
            panic!()
        };
        assert_eq!((user.unwrap().as_str(), data.unwrap().iter().count()), ("7", 1));
        let record = parse_record(&held("2000", "1500"), NOW).unwrap();
        let SlotState::Held(hold) = record.state else { panic!() };
        assert_eq!((hold.until.as_millis(), hold.first_epoch.as_deref()), (2_000, Some("e1")));
        for bad in ["", "{", "{}", "x\n", r#"{"s":"a"}"#, r#"{"s":"b","v":"1","b":"1","e":"2","l":"x"}"#] {
            assert_eq!(parse_record(bad, NOW), None, "{bad}");
        }
    }

    #[test]
    fn a_hold_never_lasts_longer_than_when_its_end_was_set() {
        let record = parse_record(&held("90000000", "1500"), NOW).unwrap();
        let SlotState::Held(hold) = record.state else { panic!() };
        assert_eq!(hold.until.as_millis(), 2_500);
    }
}
