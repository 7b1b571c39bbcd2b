//! Every refusal. One type serves HTTP bodies, Socket.IO acknowledgements and `space_error`.

use std::borrow::Cow;

use super::SlotNumber;

/// The longest field name that people are shown, in bytes.
const LONGEST_FIELD: usize = 64;

/// How many bytes of a long text a refusal repeats: of the beginning, and of the end, which says what was expected.
const ECHOED: (usize, usize) = (160, 96);

/// A text with the caller's words in it, short enough to be sent back: a long one loses its middle.
pub fn echo(text: &str) -> Cow<'_, str> {
    let (first, last) = ECHOED;
    if text.len() <= first + last {
        return text.into();
    }
    let (beginning, end) = (text.floor_char_boundary(first), text.ceil_char_boundary(text.len() - last));
    format!("{}...{}", &text[..beginning], &text[end..]).into()
}

/// The stable code of a refusal, for programs. Its text is [`Code::as_str`], its HTTP status [`Code::status`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// 400: the request does not have the shape that the call takes.
    Malformed,
    /// 400: the space's id alone does not name one space.
    SedeRequired,
    /// 401: there is no token, or the token is not valid.
    Unauthorized,
    /// 403: the token is valid, and does not allow this.
    Forbidden,
    /// 404: no such call, user or thing.
    NotFound,
    /// 404: no such space.
    SpaceNotFound,
    /// 404: the caller holds nothing there.
    NotHeld,
    /// 409: somebody has the slot.
    SlotUnavailable,
    /// 409: the hold would last longer than it may.
    HoldLimit,
    /// 409: the booking starts too soon to be cancelled.
    TooLate,
    /// 409: the user has booked slots that have not started.
    HasBookings,
    /// 409: the change would move or remove a slot that somebody has.
    SpaceInUse,
    /// 410: no live hold of the caller has the `holdToken` that was sent.
    HoldExpired,
    /// 410: the log no longer reaches back that far.
    Gone,
    /// 413: the body or the data is too large.
    TooLarge,
    /// 422: the day has no slot of that number.
    SlotOutOfRange,
    /// 422: the date is not a day, or is too far ahead.
    BadDate,
    /// 422: the slot has started.
    Past,
    /// 422: `holdSeconds` is not a number of seconds that a hold may last.
    BadHoldSeconds,
    /// 422: an event name that belongs to the protocol.
    ReservedEvent,
    /// 422: no such event.
    UnknownEvent,
    /// 422: the key was used with another body.
    IdempotencyMismatch,
    /// 429: too many acts or events a second.
    RateLimited,
    /// 429: the user has as many live holds in the space as one user may have.
    TooManyHolds,
    /// 429: the socket is in as many rooms as one socket may join.
    TooManyRooms,
    /// 503: the store cannot be reached. For one second the call may still be done; after that it is not done.
    Unavailable,
    /// 503: this node is going away; another one will answer.
    Draining,
}

impl Code {
    /// The code on the wire.
    pub const fn as_str(self) -> &'static str {
        use Code::*;
        match self {
            Malformed => "malformed",
            SedeRequired => "sede_required",
            Unauthorized => "unauthorized",
            Forbidden => "forbidden",
            NotFound => "not_found",
            SpaceNotFound => "space_not_found",
            NotHeld => "not_held",
            SlotUnavailable => "slot_unavailable",
            HoldLimit => "hold_limit",
            TooLate => "too_late",
            HasBookings => "has_bookings",
            SpaceInUse => "space_in_use",
            HoldExpired => "hold_expired",
            Gone => "gone",
            TooLarge => "too_large",
            SlotOutOfRange => "slot_out_of_range",
            BadDate => "bad_date",
            Past => "past",
            BadHoldSeconds => "bad_hold_seconds",
            ReservedEvent => "reserved_event",
            UnknownEvent => "unknown_event",
            IdempotencyMismatch => "idempotency_mismatch",
            RateLimited => "rate_limited",
            TooManyHolds => "too_many_holds",
            TooManyRooms => "too_many_rooms",
            Unavailable => "unavailable",
            Draining => "draining",
        }
    }

    /// The HTTP status.
    pub const fn status(self) -> u16 {
        use Code::*;
        match self {
            Malformed | SedeRequired => 400,
            Unauthorized => 401,
            Forbidden => 403,
            NotFound | SpaceNotFound | NotHeld => 404,
            SlotUnavailable | HoldLimit | TooLate | HasBookings | SpaceInUse => 409,
            HoldExpired | Gone => 410,
            TooLarge => 413,
            SlotOutOfRange | BadDate | Past | BadHoldSeconds | ReservedEvent | UnknownEvent | IdempotencyMismatch => {
                422
            }
            RateLimited | TooManyHolds | TooManyRooms => 429,
            Unavailable | Draining => 503,
        }
    }

    /// What people read, in the language of the site.
    const fn text(self) -> &'static str {
        use Code::*;
        match self {
            Malformed => "Richiesta non valida",
            SedeRequired => "Indicare sedeId: lo spazio non è unico",
            Unauthorized => "Token non valido",
            Forbidden => "Operazione non consentita",
            NotFound => "Non trovato",
            SpaceNotFound => "Spazio non trovato",
            NotHeld => "Nessuno slot trattenuto da te",
            SlotUnavailable => "Slot non disponibile",
            HoldLimit => "Durata massima del blocco superata",
            TooLate => "Troppo tardi per annullare la prenotazione",
            HasBookings => "L'utente ha prenotazioni future",
            SpaceInUse => "Lo spazio ha slot occupati, prenotati o chiusi che cambierebbero",
            HoldExpired => "Il blocco dello slot è scaduto",
            Gone => "Le modifiche richieste non sono più conservate",
            TooLarge => "Contenuto troppo grande",
            SlotOutOfRange => "Slot inesistente in questo giorno",
            BadDate => "Data non valida",
            Past => "Orario già passato",
            BadHoldSeconds => "holdSeconds non valido",
            ReservedEvent => "Nome evento riservato",
            UnknownEvent => "Evento sconosciuto",
            IdempotencyMismatch => "Idempotency-Key già usata con un altro contenuto",
            RateLimited => "Troppe richieste, riprovare tra poco",
            TooManyHolds => "Troppi slot trattenuti in questo spazio",
            TooManyRooms => "Troppe room per questa connessione",
            Unavailable => "Servizio momentaneamente non disponibile, riprovare",
            Draining => "Nodo in chiusura, riprovare",
        }
    }
}

impl Code {
    /// What developers read, in English.
    const fn detail(self) -> &'static str {
        use Code::*;
        match self {
            Malformed => "the request does not have the shape that the call takes",
            SedeRequired => "sedeId must be named: the space's id alone does not name one space",
            Unauthorized => "there is no token, or the token is not valid",
            Forbidden => "the token does not allow this",
            NotFound => "there is no such call, user or thing",
            SpaceNotFound => "there is no such space",
            NotHeld => "the user holds nothing there",
            SlotUnavailable => "somebody has the slot",
            HoldLimit => "the hold would last longer than it may",
            TooLate => "the booking starts too soon to be cancelled",
            HasBookings => "the user has bookings that have not started; force=true cancels them",
            SpaceInUse => "the change would move or remove slots that somebody has",
            HoldExpired => "no live hold of the user has this holdToken",
            Gone => "the changes or entries that were asked for are no longer kept",
            TooLarge => "the body or the data is too large",
            SlotOutOfRange => "the day has no slot of this number",
            BadDate => "the date is not a day, or is too far ahead",
            Past => "the slot has started",
            BadHoldSeconds => "holdSeconds must be a whole number within its bounds",
            ReservedEvent => "an event of this name belongs to the protocol",
            UnknownEvent => "there is no such event",
            IdempotencyMismatch => "this Idempotency-Key was used for another call",
            RateLimited => "too many at a time: try again in a moment",
            TooManyHolds => "the user has as many live holds in the space as one user may have",
            TooManyRooms => "the socket is in as many rooms as one socket may join",
            Unavailable => {
                "the store cannot be reached, and the call may or may not be done: repeat it after one second"
            }
            Draining => "this node is going away: try again, and another one answers",
        }
    }
}

/// A refusal, with what the caller needs to act on it. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}", code = .code.as_str())]
pub struct Refusal {
    /// For programs.
    pub code: Code,
    /// For people, in Italian. It names the field if one is wrong.
    pub message: String,
    /// For developers, in English: what is wrong, and where.
    pub detail: String,
    /// The slots that stood in the way, ascending; empty if none did.
    pub conflicts: Vec<SlotNumber>,
    /// Only for the journal's `gone`: the cursor from which a call reads everything that is kept.
    pub next: Option<String>,
}

impl Refusal {
    /// A refusal with the usual texts of its code.
    pub fn new(code: Code) -> Self {
        let (message, detail) = (code.text().into(), code.detail().into());
        Self { code, message, detail, conflicts: Vec::new(), next: None }
    }

    /// A refusal that tells developers more than its code does. People are shown the field that `detail` names.
    pub fn because(code: Code, detail: impl std::fmt::Display) -> Self {
        let detail = echo(&detail.to_string()).into_owned();
        let message = match field_of(&detail) {
            Some(field) => format!("{}: {field}", code.text()),
            None => code.text().into(),
        };
        Self { message, detail, ..Self::new(code) }
    }

    /// A refusal with a fact that people and developers read alike, such as a number or a date.
    pub fn telling(code: Code, fact: impl std::fmt::Display) -> Self {
        let (message, detail) = (format!("{}: {fact}", code.text()), format!("{}: {fact}", code.detail()));
        Self { message, detail, ..Self::new(code) }
    }

    /// A refusal that lists the slots in the way.
    pub fn of_slots(code: Code, conflicts: Vec<SlotNumber>) -> Self {
        Self { conflicts, ..Self::new(code) }
    }
}

impl From<Code> for Refusal {
    fn from(code: Code) -> Self {
        Self::new(code)
    }
}

/// The name of the field in a text: before the first colon, or in the first backticks.
fn field_of(detail: &str) -> Option<&str> {
    let is_field = |text: &&str| {
        let fits = |letter: char| letter.is_ascii_alphanumeric() || "_-.[]".contains(letter);
        (1..=LONGEST_FIELD).contains(&text.len()) && text.chars().all(fits)
    };
    let in_front = detail.split_once(": ").map(|(field, _)| field).filter(is_field);
    in_front.or_else(|| detail.split('`').nth(1).filter(is_field))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_shown_the_field_and_developers_what_is_wrong_with_it() {
        let refusal = Refusal::because(Code::Malformed, "slots[1]: invalid type: string \"x\", expected a number");
        assert_eq!(refusal.message, "Richiesta non valida: slots[1]");
        assert_eq!(refusal.detail, "slots[1]: invalid type: string \"x\", expected a number");
        for (detail, message) in [
            ("missing field `date`", "Richiesta non valida: date"),
            ("Failed to deserialize query string: missing field `sedeId`", "Richiesta non valida: sedeId"),
            ("trailing characters at line 1 column 9", "Richiesta non valida"),
            ("unknown variant `<b>`, expected `a`", "Richiesta non valida"),
        ] {
            assert_eq!(Refusal::because(Code::Malformed, detail).message, message);
        }
    }

    #[test]
    fn a_refusal_repeats_only_the_ends_of_a_long_text() {
        for sent in ["€".repeat(20_000), format!("a{}", "€".repeat(20_000)), format!("{}a", "é".repeat(30_000))] {
            let detail = format!("status: unknown variant `{sent}`, expected `available`");
            let refusal = Refusal::because(Code::Malformed, detail);
            assert_eq!(refusal.message, "Richiesta non valida: status");
            let told = refusal.detail;
            assert!(
                told.starts_with("status: unknown variant `") && told.ends_with("`, expected `available`"),
                "{told}"
            );
            assert!(told.contains("...") && told.len() <= 260, "{told}");
        }
        assert_eq!(echo(&"x".repeat(256)), "x".repeat(256));
    }

    #[test]
    fn both_are_told_facts() {
        let refusal = Refusal::telling(Code::BadHoldSeconds, "1-900");
        assert_eq!(refusal.message, "holdSeconds non valido: 1-900");
        assert_eq!(refusal.detail, "holdSeconds must be a whole number within its bounds: 1-900");
    }
}
