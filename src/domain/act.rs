//! An act on slots as the store takes it: parsed, allowed, and resolved against the schedule.

use super::journal::{JournalAct, Origin};
use super::position::Position;
use super::{Day, HoldToken, SlotData, SlotNumber, SpaceKey, StoreTime, UserId};

/// The most slots that one act may name.
pub const MAX_SLOTS_PER_ACT: usize = 32;

/// One slot of a day as the schedule has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotTime {
    /// Its number.
    pub number: SlotNumber,
    /// When it starts.
    pub start: StoreTime,
    /// When it ends.
    pub end: StoreTime,
    /// Its local start, `HH:MM`.
    pub label: String,
}

/// For whom an act counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// This user; what others hold is not touched.
    User(UserId),
    /// The user who holds or booked the slot, whichever it is: for the role `servizio` that names no user, and for staff on
    /// what is booked.
    Anyone,
}

/// What is to be done with the named slots.
#[derive(Clone, Debug, PartialEq)]
pub enum SlotActKind {
    /// Take them all for a while, or none.
    Hold {
        /// Who will hold them.
        user: UserId,
        /// The token of the new hold, made by the caller's node.
        token: HoldToken,
        /// How long, in milliseconds.
        millis: i64,
        /// How many live holds the user may have in the space; `None` for any number.
        max_holds: Option<u32>,
        /// How many slots the user may hold in the space, with these; `None` for any number.
        max_held: Option<u32>,
    },
    /// Confirm what is held.
    Book {
        /// Whose hold.
        actor: Actor,
        /// The hold's token, when the caller sent one.
        token: Option<HoldToken>,
    },
    /// Let go of what is held, or, as staff, of what is booked, or cancel what one booked oneself.
    Release {
        /// Whose hold.
        actor: Actor,
        /// The hold's token, when the caller sent one.
        token: Option<HoldToken>,
        /// As staff: whose booked slots may be released too.
        booked_by: Option<Actor>,
        /// Until how long before the start who booked a slot may release it, in milliseconds; `None` for never.
        cancel_before: Option<i64>,
    },
    /// Move the end of what is held to `millis` from now.
    Extend {
        /// Whose hold: nobody moves another's, or gets its token.
        user: UserId,
        /// The hold's token, when the caller sent one.
        token: Option<HoldToken>,
        /// How long from now, in milliseconds.
        millis: i64,
        /// The longest that a hold may last from its beginning, in milliseconds.
        max_millis: i64,
    },
    /// Set what staff says.
    Update {
        /// The new status.
        to: StaffStatus,
        /// Staff's object.
        data: Option<SlotData>,
        /// With [`StaffStatus::Booked`]: for whom. Another's booking is replaced; `None` leaves a booking to its user.
        user: Option<UserId>,
    },
}

impl SlotActKind {
    /// Whether it may take slots from users who let nobody have them: only then users may have to be told of it.
    pub fn may_take(&self) -> bool {
        match self {
            SlotActKind::Update { .. } => true,
            SlotActKind::Release { actor, booked_by, .. } => {
                *actor == Actor::Anyone || booked_by.as_ref().is_some_and(|whose| whose != actor)
            }
            SlotActKind::Hold { .. } | SlotActKind::Book { .. } | SlotActKind::Extend { .. } => false,
        }
    }

    /// As what the journal has it. A release of what was booked is [`JournalAct::Cancel`] there: the rule knows that.
    pub const fn journal_act(&self) -> JournalAct {
        match self {
            SlotActKind::Hold { .. } => JournalAct::Hold,
            SlotActKind::Book { .. } => JournalAct::Book,
            SlotActKind::Release { .. } => JournalAct::Release,
            SlotActKind::Extend { .. } => JournalAct::Extend,
            SlotActKind::Update { .. } => JournalAct::Update,
        }
    }
}

/// The statuses that staff may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StaffStatus {
    /// Free for anyone.
    Available,
    /// Confirmed; an existing booking keeps its user, unless another is named.
    Booked,
    /// Closed.
    Blocked,
}

/// One act on slots of one day of one space: all of them, or none.
#[derive(Clone, Debug, PartialEq)]
pub struct SlotAct {
    /// The space.
    pub space: SpaceKey,
    /// The local day.
    pub day: Day,
    /// 1 to [`MAX_SLOTS_PER_ACT`] distinct slots, ascending.
    pub slots: Vec<SlotTime>,
    /// The revision of the schedule that `slots` came from, with the epoch under which it was read; `None` for that of a
    /// space whose schedule never changed. The store refuses a stale one.
    pub revision: Option<Position>,
    /// What to do.
    pub kind: SlotActKind,
    /// Answer a repeat under this key as the first time.
    pub idempotency: Option<Idempotency>,
    /// Who asked for it, for the journal; `None` where nobody did.
    pub origin: Option<Origin>,
}

/// A caller's `Idempotency-Key` with what the call was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// Whose key it is: the caller, not the user acted for.
    pub caller: UserId,
    /// The key.
    pub key: String,
    /// All of the call that counts; the same key with another one is refused.
    pub fingerprint: String,
}
