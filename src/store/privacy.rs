//! The data under a user's id, and the id that replaces it when the user is erased.

use crate::domain::{Position, StoreTime, UserId};

/// What a store keeps under a user's id besides holds, bookings, notifications and entries of the journal.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeptOfUser {
    /// The calls that are remembered under an `Idempotency-Key`, the oldest first.
    pub calls: Vec<KeptCall>,
    /// The sequence of the last notification that was sent to the user; 0 if there was none.
    pub last_sent: u64,
    /// The sequence of the last notification that the user has received; 0 if there was none.
    pub last_received: u64,
}

/// A call that is remembered under an `Idempotency-Key`. The key and the call are kept as digests.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptCall {
    /// When it was answered.
    pub at: StoreTime,
    /// The position in its answer.
    pub position: Position,
}

/// The user to be erased, and the id that replaces the user's.
#[derive(Clone, Debug, PartialEq)]
pub struct Erasure {
    /// The user.
    pub user: UserId,
    /// A random id, the same in all buckets: see [`super::SlotStore::begin_erasure`].
    pub stand_in: UserId,
}

/// The outcome of one step of an erasure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErasureStep {
    /// The bucket keeps nothing more under the user's id.
    Done,
    /// There is more to erase in the bucket.
    More,
    /// The user holds slots of the bucket, or has booked slots that have not started. These must be released first.
    Taken,
}

/// How many bookings one step gives to the other id.
pub(super) const BOOKINGS_A_STEP: usize = 200;

/// The beginning of ids that replace erased users' ids.
const STAND_IN: &str = "erased-";

/// The id with 32 random hexadecimal digits that replaces a user's.
pub(super) fn stand_in(random: &str) -> Option<UserId> {
    UserId::new(&format!("{STAND_IN}{random}"))
}
