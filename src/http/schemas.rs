//! Parts of the OpenAPI document that the types cannot give: JSON that is written by hand, and the refusals of each call.

#![allow(dead_code, reason = "these types describe, nobody makes them")]

use utoipa::{IntoParams, IntoResponses, ToSchema};

use super::error::ErrorBody;

/// The board of a day.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct Board {
    id_spazio: u64,
    sede_id: u64,
    #[schema(format = Date)]
    date: String,
    /// The IANA name of the space's time zone.
    #[schema(example = "Europe/Rome")]
    time_zone: String,
    /// The store's time of the read.
    #[schema(format = DateTime)]
    timestamp: String,
    /// How many slots the day has.
    count: usize,
    epoch: String,
    version: u64,
    slots: Vec<BoardSlot>,
}

/// One slot of a board, with the members of staff's `data` besides these.
#[derive(ToSchema)]
pub struct BoardSlot {
    id_slot: u16,
    /// Its local start, `HH:MM`.
    #[schema(example = "09:00")]
    orario: String,
    /// When it starts, UTC: tells two slots apart that start at one local time.
    #[serde(rename = "startsAt")]
    #[schema(format = DateTime)]
    starts_at: String,
    /// When it ends, UTC.
    #[serde(rename = "endsAt")]
    #[schema(format = DateTime)]
    ends_at: String,
    #[schema(pattern = "^(available|occupied|booked|blocked|past)$")]
    status: String,
    #[schema(example = "Slot disponibile")]
    title: String,
    /// While it is occupied: the hold's end.
    #[schema(format = DateTime)]
    held_until: Option<String>,
    /// While it is occupied: the hold's end again, under another name.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// While it is occupied: whole minutes until its end, rounded up.
    minutes_remaining: Option<i64>,
    /// `true` on the caller's own slots; only these have the four members that follow.
    mine: Option<bool>,
    /// While the caller holds it: what to present to book, release or extend it.
    #[serde(rename = "holdToken")]
    hold_token: Option<String>,
    /// While the caller holds it: when the hold began.
    #[serde(rename = "heldAt")]
    #[schema(format = DateTime)]
    held_at: Option<String>,
    /// While the caller holds it: the latest end that it can be extended to.
    #[serde(rename = "extendableUntil")]
    #[schema(format = DateTime)]
    extendable_until: Option<String>,
    /// Where the caller booked it: until when the caller can cancel it, `null` for never.
    #[serde(rename = "cancelUntil")]
    #[schema(format = DateTime)]
    cancel_until: Option<String>,
    /// Only for staff: who holds or booked it; a number if the id is one, otherwise text.
    #[schema(value_type = Option<Value>)]
    id_utente: Option<String>,
}

/// A page of the journal, and where the next one begins.
#[derive(ToSchema)]
pub struct JournalPage {
    /// In order within a space.
    entries: Vec<JournalEntry>,
    /// The cursor for `after`, even if there is no entry.
    next: String,
    /// Whether this call stopped before the end.
    more: bool,
}

/// An entry of the journal.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct JournalEntry {
    /// The same each time that it is read: `{epoch}-{sedeId}-{spazioId}-{version}`.
    id: String,
    /// When it was done.
    #[schema(format = DateTime)]
    at: String,
    /// `hold`, `book`, `release`, `extend`, `expire` (a hold ended), `update` (staff), `cancel` (a booking was released),
    /// `space` (its schedule changed).
    #[schema(pattern = "^(hold|book|release|extend|expire|update|cancel|space)$")]
    act: String,
    /// Who did it; `null` where nobody did.
    #[schema(required)]
    actor: Option<JournalActor>,
    /// Who has the slots afterwards; for freed slots, who had them.
    #[schema(rename = "id_utente", value_type = Option<Value>, required)]
    id_utente: Option<String>,
    /// From whom staff's act took slots.
    taken: Option<Vec<JournalTaken>>,
    sede_id: u64,
    spazio_id: u64,
    /// The local day; missing for `space`.
    #[schema(format = Date)]
    date: Option<String>,
    /// Ascending.
    slots: Vec<u16>,
    /// The new status of the slots; missing for `space`.
    #[schema(pattern = "^(available|occupied|booked|blocked)$")]
    status: Option<String>,
    epoch: String,
    /// The version of the act's last event.
    version: u64,
    /// The request's id.
    request_id: Option<String>,
}

/// Who did something.
#[derive(ToSchema)]
pub struct JournalActor {
    /// A number if the id is one, otherwise text; `null` if it is no longer known.
    #[schema(value_type = Option<Value>, required)]
    id: Option<String>,
    /// The staff role of the token.
    #[schema(required)]
    role: Option<String>,
}

/// Slots that were taken from somebody.
#[derive(ToSchema)]
pub struct JournalTaken {
    /// A number if the id is one, otherwise text; `null` if it is no longer known.
    #[schema(rename = "id_utente", value_type = Option<Value>, required)]
    id_utente: Option<String>,
    slots: Vec<u16>,
}

/// A portion of all that is kept under a user's id.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct UserData {
    /// The user's id: a number if it is one, otherwise text.
    #[schema(rename = "id_utente", value_type = Value)]
    id_utente: String,
    /// Live holds, one entry a token; in the first portion.
    holds: Vec<crate::calls::holds::OwnHold>,
    /// Bookings in order of their start, past and future; 500 a portion.
    bookings: Vec<crate::calls::bookings::OwnBooking>,
    /// Notifications that are kept for the user, received or not; in the first portion.
    notifications: Vec<KeptNotification>,
    /// The sequence of the last notification that was sent to the user, and of the last that was received; in the first portion.
    sequences: Option<KeptSequences>,
    /// Calls that are remembered under an `Idempotency-Key`; in the first portion.
    calls: Vec<KeptCallBody>,
    /// Entries of the journal that name the user, in order within a space; other people's ids are `null`.
    journal: Vec<JournalEntry>,
    /// What `after` takes for the next portion; left out in the last one.
    next: Option<String>,
}

/// A notification that is kept.
#[derive(ToSchema)]
pub struct KeptNotification {
    sequence: u64,
    event: String,
    /// As it was sent.
    #[schema(value_type = Value)]
    data: String,
}

/// How far a user's notifications have come.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct KeptSequences {
    last_sent: u64,
    last_received: u64,
}

/// A call under an `Idempotency-Key`: the key and the call are kept as digests.
#[derive(ToSchema)]
pub struct KeptCallBody {
    /// When it was answered.
    #[schema(format = DateTime)]
    at: String,
    /// The position that it was answered.
    epoch: String,
    version: u64,
}

/// What `GET /api/bookings` answers: one's own, or what staff see of a site's day.
#[derive(ToSchema)]
#[serde(untagged)]
pub enum BookingsBody {
    /// Without `sedeId` and `date`.
    Own(crate::calls::bookings::BookingsAnswer),
    /// With `sedeId` and `date`.
    OfDay(DayBookings),
}

/// All that is held, booked or blocked on a day of a site; a page of it.
#[derive(ToSchema)]
pub struct DayBookings {
    /// By space and slot, each an entry of a board besides.
    entries: Vec<DayBooking>,
    /// What `after` takes for the next page; left out on the last one.
    next: Option<String>,
}

/// One slot of a site's day.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct DayBooking {
    spazio_id: u64,
    slot_id: u16,
    #[serde(flatten)]
    entry: BoardSlot,
}

/// A space's schedule; what is left out has the default's value.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct SpaceRequest {
    /// A name for people, 200 bytes at most.
    name: Option<String>,
    /// An IANA name.
    #[schema(default = "Europe/Rome")]
    timezone: Option<String>,
    /// Local time of the first slot's start, `HH:MM`.
    #[schema(default = "09:00")]
    opens: Option<String>,
    /// Local time that no slot ends after, `HH:MM`, up to `24:00`.
    #[schema(default = "18:00")]
    closes: Option<String>,
    /// The length of a slot.
    #[schema(default = 60, minimum = 1, maximum = 1440)]
    slot_minutes: Option<u16>,
    /// `"2026-12-25"`, `{"from": "2026-08-10", "to": "2026-08-21"}` or `{"weekday": "sunday"}`; 1,000 at most.
    #[schema(value_type = Option<Vec<Value>>)]
    closures: Option<Vec<()>>,
    /// How long holds last here and the most that `holdSeconds` may ask for, up to `SLOT_HOLD_MAX`; without it the configured
    /// duration.
    #[schema(minimum = 1)]
    hold_minutes: Option<u16>,
}

/// The key under which an act's answer is stored.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub struct IdempotencyHeader {
    /// 1 to 255 visible ASCII characters. A repeat under the same key within 24 hours gets the first answer.
    #[param(rename = "Idempotency-Key", min_length = 1, max_length = 255)]
    idempotency_key: Option<String>,
}

/// How acts on slots are refused.
#[derive(IntoResponses)]
pub enum ActRefused {
    /// `malformed`
    #[response(status = 400)]
    Malformed(ErrorBody),
    /// `unauthorized`
    #[response(status = 401)]
    Unauthorized(ErrorBody),
    /// `forbidden`
    #[response(status = 403)]
    Forbidden(ErrorBody),
    /// `space_not_found`, `not_held`
    #[response(status = 404)]
    NotFound(ErrorBody),
    /// `slot_unavailable`, `hold_limit`, `too_late`; `conflicts` lists the slots
    #[response(status = 409)]
    Conflict(ErrorBody),
    /// `hold_expired`
    #[response(status = 410)]
    HoldExpired(ErrorBody),
    /// `too_large`
    #[response(status = 413)]
    TooLarge(ErrorBody),
    /// `slot_out_of_range`, `bad_date`, `past`, `bad_hold_seconds`, `idempotency_mismatch`
    #[response(status = 422)]
    Unprocessable(ErrorBody),
    /// `rate_limited`, `too_many_holds`
    #[response(status = 429)]
    TooMany(ErrorBody),
    /// `unavailable`: unknown for one second, then final; repeating the same call is safe
    #[response(status = 503)]
    Unavailable(ErrorBody),
}

/// How reading for anyone is refused.
#[derive(IntoResponses)]
pub enum ReadRefused {
    /// `malformed`, `sede_required`
    #[response(status = 400)]
    Malformed(ErrorBody),
    /// `unauthorized`: a token was sent, and it does not hold
    #[response(status = 401)]
    Unauthorized(ErrorBody),
    /// `space_not_found`
    #[response(status = 404)]
    NotFound(ErrorBody),
    /// `bad_date`
    #[response(status = 422)]
    BadDate(ErrorBody),
    /// `unavailable`
    #[response(status = 503)]
    Unavailable(ErrorBody),
}

/// How reading one's own is refused.
#[derive(IntoResponses)]
pub enum OwnRefused {
    /// `unauthorized`
    #[response(status = 401)]
    Unauthorized(ErrorBody),
    /// `unavailable`
    #[response(status = 503)]
    Unavailable(ErrorBody),
}

/// How staff's calls without a body are refused.
#[derive(IntoResponses)]
pub enum StaffRefused {
    /// `malformed`
    #[response(status = 400)]
    Malformed(ErrorBody),
    /// `unauthorized`
    #[response(status = 401)]
    Unauthorized(ErrorBody),
    /// `forbidden`
    #[response(status = 403)]
    Forbidden(ErrorBody),
    /// `unavailable`
    #[response(status = 503)]
    Unavailable(ErrorBody),
}

/// How staff's calls with a body are refused, besides [`StaffRefused`].
#[derive(IntoResponses)]
pub enum StaffBodyRefused {
    /// `too_large`
    #[response(status = 413)]
    TooLarge(ErrorBody),
}
