//! Shows a user all that is kept under the user's id, in portions of bounded size.

use serde::Serialize;
use serde_json::value::RawValue;

use super::bookings::{OwnBooking, list_all};
use super::holds::{OwnHold, list_of};
use crate::app::App;
use crate::auth::Claims;
use crate::domain::{Bucket, Code, JournalEntry, Refusal, UserId};
use crate::journal::{Cursor, JournalRead, ReadError, read};
use crate::store::refuse::unavailable;
use crate::store::{KeptCall, KeptOfUser, UserMessage};

/// How many entries of the journal a portion has at most.
const MOST_ENTRIES: usize = 500;

/// A portion of what is kept under a user's id.
#[derive(Debug, Serialize)]
pub struct UserDataAnswer {
    /// The user.
    pub id_utente: UserId,
    /// Live holds; in the first portion.
    pub holds: Vec<OwnHold>,
    /// In order of their start.
    pub bookings: Vec<OwnBooking>,
    /// What is kept of the user's notifications; in the first portion.
    pub notifications: Vec<KeptNotification>,
    /// Which notifications the user was sent and has received; in the first portion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequences: Option<KeptSequences>,
    /// What is remembered under an `Idempotency-Key`; in the first portion.
    pub calls: Vec<KeptCallAnswer>,
    /// Entries that name the user, without the ids of other people.
    pub journal: Vec<JournalEntry>,
    /// What `after` takes for the next portion; `None` in the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A notification that is kept.
#[derive(Debug, Serialize)]
pub struct KeptNotification {
    /// Ascending.
    pub sequence: u64,
    /// The event's name.
    pub event: String,
    /// The payload as it was sent.
    pub data: Box<RawValue>,
}

/// Which notifications a user was sent and has received.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KeptSequences {
    /// The sequence of the last message that was sent.
    pub last_sent: u64,
    /// The sequence of the last message that was received.
    pub last_received: u64,
}

/// A call that is remembered.
#[derive(Debug, Serialize)]
pub struct KeptCallAnswer {
    /// When it was answered, RFC 3339.
    pub at: String,
    /// The epoch of the position that it was answered.
    pub epoch: String,
    /// The version of that position.
    pub version: u64,
}

/// Where a portion ended.
#[derive(Clone, Debug, PartialEq)]
enum Place {
    /// After a booking, which is named as on a page of bookings.
    Bookings(String),
    /// At a place of the journal; `None` at its beginning.
    Journal(Option<Cursor>),
}

impl Place {
    fn parse(text: &str) -> Option<Self> {
        match text.split_once(':')? {
            ("bookings", place) => Some(Place::Bookings(place.to_owned())),
            ("journal", "") => Some(Place::Journal(None)),
            ("journal", place) => Some(Place::Journal(Some(Cursor::decode(place)?))),
            _ => None,
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Bookings(place) => write!(f, "bookings:{place}"),
            Place::Journal(None) => f.write_str("journal:"),
            Place::Journal(Some(cursor)) => write!(f, "journal:{}", cursor.encode()),
        }
    }
}

/// A portion of what is kept under a user's id, for the user and for staff of all sites. If `after` is no `next` of an
/// earlier portion, the call is `malformed`.
pub async fn export(app: &App, caller: &Claims, user: &UserId, after: Option<&str>) -> Result<UserDataAnswer, Refusal> {
    let after = after.map(|text| Place::parse(text).ok_or_else(bad_place)).transpose()?;
    if caller.user != *user && !caller.is_staff_everywhere() {
        return Err(Code::Forbidden.into());
    }
    if !caller.is_staff_everywhere() {
        app.rates.check(&caller.user)?;
    }
    let mut answer = empty(user);
    let journal_from = match after {
        None => {
            add_small(app, user, &mut answer).await?;
            if add_bookings(app, user, None, &mut answer).await? {
                return Ok(answer);
            }
            None
        }
        Some(Place::Bookings(place)) => {
            if add_bookings(app, user, Some(&place), &mut answer).await? {
                return Ok(answer);
            }
            None
        }
        Some(Place::Journal(cursor)) => cursor,
    };
    add_journal(app, user, journal_from, &mut answer).await?;
    Ok(answer)
}

fn bad_place() -> Refusal {
    Refusal::because(Code::Malformed, "after: what `next` was")
}

fn empty(user: &UserId) -> UserDataAnswer {
    UserDataAnswer {
        id_utente: user.clone(),
        holds: Vec::new(),
        bookings: Vec::new(),
        notifications: Vec::new(),
        sequences: None,
        calls: Vec::new(),
        journal: Vec::new(),
        next: None,
    }
}

/// Adds the short lists: at most 64 held slots in a space, 100 notifications, and 256 remembered calls in a bucket.
async fn add_small(app: &App, user: &UserId, answer: &mut UserDataAnswer) -> Result<(), Refusal> {
    answer.holds = list_of(app, user).await?;
    let kept = app.store.messages_of(user, Some(0), usize::MAX).await.map_err(|error| unavailable(&error))?;
    answer.notifications = kept.messages.into_iter().map(KeptNotification::from).collect();
    let KeptOfUser { calls, last_sent, last_received } =
        app.store.kept_of(user).await.map_err(|error| unavailable(&error))?;
    answer.sequences = Some(KeptSequences { last_sent, last_received });
    answer.calls = calls.into_iter().map(KeptCallAnswer::from).collect();
    Ok(())
}

/// Adds a page of bookings, and answers whether more pages follow.
async fn add_bookings(
    app: &App,
    user: &UserId,
    after: Option<&str>,
    answer: &mut UserDataAnswer,
) -> Result<bool, Refusal> {
    let page = list_all(app, user, after).await?;
    answer.bookings = page.bookings;
    answer.next = page.next.map(|place| Place::Bookings(place).to_string());
    Ok(answer.next.is_some())
}

async fn add_journal(
    app: &App,
    user: &UserId,
    from: Option<Cursor>,
    answer: &mut UserDataAnswer,
) -> Result<(), Refusal> {
    let JournalRead { entries, next, more } = read_entries(app, user, from).await?;
    let only_the_user = |entry: JournalEntry| entry.with_people(|person| (person == *user).then_some(person));
    answer.journal = entries.into_iter().map(only_the_user).collect();
    answer.next = more.then(|| Place::Journal(Some(next)).to_string());
    Ok(())
}

/// Entries that name the user in any role. If the entries right after `from` were deleted, reading begins at the oldest
/// entry that is left.
async fn read_entries(app: &App, user: &UserId, from: Option<Cursor>) -> Result<JournalRead, Refusal> {
    let buckets: Vec<Bucket> = Bucket::all().collect();
    let names_user = |entry: &JournalEntry| entry.people().any(|person| person == user);
    let store = app.store.as_ref();
    let result = match read(store, &buckets, from.as_ref(), names_user, MOST_ENTRIES).await {
        Err(ReadError::Gone(begins)) => read(store, &buckets, Some(&begins.cursor), names_user, MOST_ENTRIES).await,
        other => other,
    };
    result.map_err(|error| match error {
        ReadError::Gone(_) => Code::Unavailable.into(),
        ReadError::Store(error) => unavailable(&error),
    })
}

impl From<UserMessage> for KeptNotification {
    fn from(message: UserMessage) -> Self {
        let UserMessage { sequence, event, data, .. } = message;
        Self { sequence, event, data }
    }
}

impl From<KeptCall> for KeptCallAnswer {
    fn from(call: KeptCall) -> Self {
        let KeptCall { at, position } = call;
        Self { at: at.rfc3339(), epoch: position.epoch.to_string(), version: position.version }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_was_written_and_nothing_else_is_one() {
        let cursor = Cursor::default();
        for place in [Place::Bookings("1.2.3.4".into()), Place::Journal(None), Place::Journal(Some(cursor))] {
            let read = Place::parse(&place.to_string());
            assert!(read == Some(place.clone()) || place.to_string() == "journal:", "{place}");
        }
        for bad in ["", "x", "bookings", "holds:1", "journal:?", ":"] {
            assert_eq!(Place::parse(bad), None, "{bad}");
        }
    }
}
