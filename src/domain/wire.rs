//! The names on the wire: events in both directions, and acts. Each list of names is made from these enums, so the
//! compiler finds every place that must handle a new name.

/// Makes an enum of names: a list of all variants, the text of each, and the variant of a text.
macro_rules! names {
    ($(#[$about:meta])* $name:ident { $($(#[$meaning:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$meaning])* $variant,)+
        }

        impl $name {
            /// All variants.
            pub const ALL: &[$name] = &[$($name::$variant),+];

            /// The name on the wire.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $($name::$variant => $text,)+
                }
            }

            /// The variant with this name.
            pub fn parse(text: &str) -> Option<Self> {
                match text {
                    $($text => Some($name::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

pub(crate) use names;

names! {
    /// An event that a client sends.
    ClientEvent {
        /// Enters the room of a space.
        JoinSpace = "join_space",
        /// Leaves the room.
        LeaveSpace = "leave_space",
        /// Asks for the changes of a day that the client missed.
        Sync = "sync",
        /// [`Act::Hold`].
        HoldSlot = "hold_slot",
        /// [`Act::Book`].
        BookSlot = "book_slot",
        /// [`Act::Release`].
        ReleaseSlot = "release_slot",
        /// [`Act::Extend`].
        ExtendHold = "extend_hold",
        /// Replaces the token of the connection.
        RefreshToken = "refresh_token",
        /// Asks for [`ServerEvent::Stats`] from now on.
        WatchStats = "watch_stats",
    }
}

names! {
    /// An event that nodes send themselves. Any other name is a message of staff.
    ServerEvent {
        /// The socket is connected.
        ConnectionConfirmed = "connection_confirmed",
        /// The socket is in a room.
        JoinedSpace = "joined_space",
        /// The socket has left a room.
        LeftSpace = "left_space",
        /// One slot changed.
        SlotUpdate = "slot_update",
        /// All slots of a day.
        SlotsStatusUpdate = "slots_status_update",
        /// Holds ended.
        SlotsFreed = "slots_freed",
        /// Staff took slots from the user. The event is kept like a notification.
        SlotTaken = "slot_taken",
        /// The token of the connection ends soon.
        TokenExpiring = "token_expiring",
        /// An event without an acknowledgement was refused.
        SpaceError = "space_error",
        /// Who is connected.
        Stats = "stats",
    }
}

names! {
    /// An act on slots, as metrics name it.
    Act {
        /// Makes a hold.
        Hold = "hold",
        /// Makes a booking of a hold.
        Book = "book",
        /// Ends a hold, or as staff a booking.
        Release = "release",
        /// Moves the end of a hold.
        Extend = "extend",
        /// Sets a slot, as staff.
        Update = "update",
    }
}

/// The events of Socket.IO itself.
const OF_SOCKET_IO: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// Whether the name has a meaning of its own, so that no message of staff may have it.
pub fn is_reserved(event: &str) -> bool {
    OF_SOCKET_IO.contains(&event) || ClientEvent::parse(event).is_some() || ServerEvent::parse(event).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_back_and_names_one_thing() {
        for event in ClientEvent::ALL {
            assert_eq!(ClientEvent::parse(event.as_str()), Some(*event));
            assert_eq!(ServerEvent::parse(event.as_str()), None);
        }
        for event in ServerEvent::ALL {
            assert_eq!(ServerEvent::parse(event.as_str()), Some(*event));
        }
        assert_eq!(
            Act::ALL.iter().map(|act| act.as_str()).collect::<Vec<_>>(),
            ["hold", "book", "release", "extend", "update"]
        );
    }

    #[test]
    fn what_means_something_is_reserved() {
        for event in ["connect", "newListener", "join_space", "slots_freed", "slot_taken", "stats"] {
            assert!(is_reserved(event), "{event}");
        }
        assert!(!is_reserved("booking_paid") && !is_reserved("Join_space") && !is_reserved(""));
    }
}
