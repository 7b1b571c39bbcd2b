//! Guests: sockets without a token, where `SLOTCAST_GUESTS` allows them. They may watch registered spaces and do
//! nothing else. Their number on a node is bounded.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::auth::Claims;
use crate::domain::{StoreTime, UserId};

/// How many rooms a guest may be in.
pub(super) const MAX_ROOMS: usize = 4;

/// The events that a guest may send.
const ALLOWED: [&str; 3] = ["join_space", "leave_space", "sync"];

/// How many guests a node may have, and how many it has.
pub(crate) struct Guests {
    max: usize,
    present: Arc<AtomicUsize>,
}

/// A guest's place, which is free again when this is dropped.
pub(super) struct GuestPlace(Arc<AtomicUsize>);

impl Guests {
    /// Room for `max` guests; for none without `max`.
    pub(super) fn new(max: Option<usize>) -> Self {
        Self { max: max.unwrap_or_default(), present: Arc::default() }
    }

    /// A place for one more guest; `None` if no place is left.
    pub(super) fn admit(&self) -> Option<GuestPlace> {
        // The guest is counted first. If there is no room, dropping the place takes that back.
        let before = self.present.fetch_add(1, Ordering::AcqRel);
        let place = GuestPlace(self.present.clone());
        (before < self.max).then_some(place)
    }
}

impl Drop for GuestPlace {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The claims of a guest, who has no token. They never end, and allow nothing but watching.
pub(super) fn claims() -> Claims {
    Claims { user: UserId::guest(), role: None, sites: None, expires: StoreTime::from_millis(i64::MAX) }
}

/// Whether a guest may send this event.
pub(super) fn may(event: &str) -> bool {
    ALLOWED.contains(&event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_places_as_were_given() {
        assert!(Guests::new(None).admit().is_none());
        let guests = Guests::new(Some(2));
        let (first, second) = (guests.admit(), guests.admit());
        assert!(first.is_some() && second.is_some() && guests.admit().is_none() && guests.admit().is_none());
        drop(first);
        let third = guests.admit();
        assert!(third.is_some() && guests.admit().is_none());
    }
}
