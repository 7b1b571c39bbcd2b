//! An act on slots as the store takes it: parsed, allowed, and with its slots' times from the schedule.

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

/// Whose slots an act may touch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// Only slots of this user. The holds of others are not touched.
    User(UserId),
    /// The slots of every user. The role `servizio` acts so if it names no user, and staff acts so on booked slots.
    Anyone,
}

/// What is to be done with the named slots.
#[derive(Clone, Debug, PartialEq)]
pub enum SlotActKind {
    /// Holds all of them for a time, or none.
    Hold {
        /// The user who will hold them.
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
    /// Books held slots.
    Book {
        /// Whose hold is booked.
        actor: Actor,
        /// The hold's token, when the caller sent one.
        token: Option<HoldToken>,
    },
    /// Frees held slots; frees booked slots for staff, or for the user who booked them (a cancellation).
    Release {
        /// Whose hold is released.
        actor: Actor,
        /// The hold's token, when the caller sent one.
        token: Option<HoldToken>,
        /// For staff: whose booked slots may be released, too.
        booked_by: Option<Actor>,
        /// How long before the start the user who booked a slot may still release it, in milliseconds; `None` for never.
        cancel_before: Option<i64>,
    },
    /// Moves the end of the holds to `millis` from now.
    Extend {
        /// Who holds the slots. Nobody else may extend the holds, or gets their token.
        user: UserId,
        /// The hold's token, when the caller sent one.
        token: Option<HoldToken>,
        /// How long from now, in milliseconds.
        millis: i64,
        /// The longest that a hold may last from its beginning, in milliseconds.
        max_millis: i64,
    },
    /// Sets slots as staff.
    Update {
        /// The new status.
        to: StaffStatus,
        /// Staff's object.
        data: Option<SlotData>,
        /// With [`StaffStatus::Booked`]: the user of the booking, who replaces another user. `None` keeps an existing
        /// booking's user.
        user: Option<UserId>,
    },
}

impl SlotActKind {
    /// Whether the act may take slots from users who did not give them up. Such users have to be told.
    pub fn may_take(&self) -> bool {
        match self {
            SlotActKind::Update { .. } => true,
            SlotActKind::Release { actor, booked_by, .. } => {
                *actor == Actor::Anyone || booked_by.as_ref().is_some_and(|whose| whose != actor)
            }
            SlotActKind::Hold { .. } | SlotActKind::Book { .. } | SlotActKind::Extend { .. } => false,
        }
    }

    /// The act's name in the journal. The rule calls a release of a booked slot [`JournalAct::Cancel`] instead.
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
    /// The revision of the schedule that gave `slots` their times, and the epoch under which it was read. `None` for a
    /// space whose schedule never changed. The store refuses an outdated one.
    pub revision: Option<Position>,
    /// What to do.
    pub kind: SlotActKind,
    /// The key under which a repeat gets the first answer.
    pub idempotency: Option<Idempotency>,
    /// Who asked for the act, for the journal; `None` for an act that nobody asked for.
    pub origin: Option<Origin>,
}

/// A caller's `Idempotency-Key` with a fingerprint of the call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// The caller, who is not always the user whom the act is for.
    pub caller: UserId,
    /// The key.
    pub key: String,
    /// The parts of the call that count. The same key with another fingerprint is refused.
    pub fingerprint: String,
}
