//! How far one socket is in its user's messages: which were queued, and which the client has confirmed.
//!
//! A message is queued in order or not at all. The first message that finds no room, and all later ones, stay in the store.
//! One task reads them from there in portions when there is room. A queued message counts as received once the client has
//! confirmed it. Messages that were lost with a connection are sent over the next one.

use std::collections::VecDeque;

use parking_lot::{Mutex, MutexGuard};

use crate::store::{UserBacklog, UserMessage};

/// The most unconfirmed messages that are remembered one by one. If there are more, the last two count as one.
const REMEMBERED: usize = 128;

/// The place of one socket. It sends messages through a closure, which answers the message's place on the way to the
/// client, or `None` if there is no room. Places ascend.
pub(super) struct Cursor {
    /// Held while messages are queued, which keeps them in order. Never held across an await.
    state: Mutex<State>,
}

struct State {
    /// The last queued message; `None` until the first portion is read.
    sequence: Option<u64>,
    /// Whether the store may have messages that must be queued before any other.
    is_behind: bool,
    /// Whether messages were published during the read of a portion, which may lack them.
    is_to_read_again: bool,
    /// Whether a task attends to the socket: it reads the portions, and waits for the client's confirmations.
    is_attended: bool,
    /// Sequence and place of each queued and unconfirmed message, oldest first.
    unshown: VecDeque<(u64, u64)>,
}

/// What happened to a message that has just been published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub is_queued: bool,
    /// Whether the caller must start a task that attends to the socket.
    pub is_to_attend: bool,
}

/// The next step of the task that attends to the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing. No task attends to the socket from now on.
    Rest,
    /// Reads a portion once there is room.
    Read,
    /// Waits for the client to confirm messages.
    Wait,
}

impl Cursor {
    /// The cursor of a socket that is first sent the kept messages of its user. The caller attends to it.
    pub(super) fn new() -> Self {
        let state = State {
            sequence: None,
            is_behind: true,
            is_to_read_again: false,
            is_attended: true,
            unshown: VecDeque::new(),
        };
        Self { state: Mutex::new(state) }
    }

    /// Notes that messages may have been missed. They are read from the store before any other is sent. Answers whether the
    /// caller must attend to the socket.
    pub(super) fn expect_portion(&self) -> bool {
        let mut state = self.lock();
        state.fall_behind();
        !std::mem::replace(&mut state.is_attended, true)
    }

    /// Sends a message that was just published, unless other messages must be sent before it.
    pub(super) fn take_message(&self, message: &UserMessage, send: impl FnOnce(&UserMessage) -> Option<u64>) -> Taken {
        let mut state = self.lock();
        if state.is_behind {
            // The message stays in the store.
            state.fall_behind();
            return Taken { is_queued: false, is_to_attend: !std::mem::replace(&mut state.is_attended, true) };
        }
        if state.has(message) {
            return Taken { is_queued: false, is_to_attend: false };
        }
        let place = send(message);
        match place {
            Some(place) => state.note_queued(message.sequence, place),
            None => state.fall_behind(),
        }
        Taken { is_queued: place.is_some(), is_to_attend: !std::mem::replace(&mut state.is_attended, true) }
    }

    /// The message after which the next portion is read. `None` reads what no socket of the user has received. Call this
    /// just before the read.
    pub(super) fn begin_portion(&self) -> Option<u64> {
        let mut state = self.lock();
        state.is_to_read_again = false;
        state.sequence
    }

    /// Sends as much of a portion as there is room for.
    pub(super) fn take_portion(&self, portion: &UserBacklog, mut send: impl FnMut(&UserMessage) -> Option<u64>) {
        let mut state = self.lock();
        state.sequence.get_or_insert(portion.after);
        for message in &portion.messages {
            if state.has(message) {
                continue;
            }
            let Some(place) = send(message) else { return };
            state.note_queued(message.sequence, place);
        }
        state.is_behind = portion.has_more || state.is_to_read_again;
    }

    /// Notes that the client has confirmed everything up to a place. Answers the sequence of the last message before that
    /// place, if this is news.
    pub(super) fn take_shown(&self, place: u64) -> Option<u64> {
        let mut state = self.lock();
        let shown = state.unshown.partition_point(|(_, of_message)| *of_message <= place);
        let last = state.unshown.drain(..shown).next_back().map(|(sequence, _)| sequence);
        if state.unshown.is_empty() {
            // Most sockets get nothing for a long time, so the buffer is given back.
            state.unshown = VecDeque::new();
        }
        last
    }

    /// The next step of the task that attends to the socket.
    pub(super) fn next(&self) -> Next {
        let mut state = self.lock();
        match (state.is_behind, state.unshown.is_empty()) {
            (true, _) => Next::Read,
            (false, false) => Next::Wait,
            (false, true) => {
                state.is_attended = false;
                Next::Rest
            }
        }
    }

    /// The place of the last queued and unconfirmed message.
    pub(super) fn last_unshown(&self) -> Option<u64> {
        self.lock().unshown.back().map(|(_, place)| *place)
    }

    /// Whether the task can do something now. The client was asked to confirm the messages up to the place `asked`, and has
    /// confirmed them up to `shown`.
    pub(super) fn can_go_on(&self, asked: Option<u64>, shown: u64, has_room: impl FnOnce() -> bool) -> bool {
        let state = self.lock();
        let last = state.unshown.back().map(|(_, place)| *place);
        let is_first_shown = state.unshown.front().is_some_and(|(_, place)| *place <= shown);
        is_first_shown || last != asked || state.is_behind && has_room()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl State {
    fn has(&self, message: &UserMessage) -> bool {
        self.sequence.is_some_and(|last| message.sequence <= last)
    }

    fn fall_behind(&mut self) {
        self.is_behind = true;
        self.is_to_read_again = true;
    }

    fn note_queued(&mut self, sequence: u64, place: u64) {
        self.sequence = Some(sequence);
        if self.unshown.len() >= REMEMBERED {
            self.unshown.pop_back();
        }
        self.unshown.push_back((sequence, place));
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use serde_json::value::RawValue;

    use super::*;
    use crate::domain::UserId;

    fn message(sequence: u64) -> UserMessage {
        let data = RawValue::from_string("null".into()).unwrap();
        UserMessage { user: UserId::new("7").unwrap(), sequence, event: "news".into(), data }
    }

    fn portion(after: u64, sequences: impl IntoIterator<Item = u64>, has_more: bool) -> UserBacklog {
        UserBacklog { after, messages: sequences.into_iter().map(message).collect(), has_more }
    }

    /// A client's queue: its messages, and how many more fit. The place of a message is its number in the queue, times
    /// ten.
    struct Way {
        queued: RefCell<Vec<u64>>,
        room: RefCell<usize>,
    }

    impl Way {
        fn with_room(room: usize) -> Self {
            Self { queued: RefCell::default(), room: RefCell::new(room) }
        }

        fn send(&self, message: &UserMessage) -> Option<u64> {
            let mut room = self.room.borrow_mut();
            *room = room.checked_sub(1)?;
            self.queued.borrow_mut().push(message.sequence);
            Some(self.queued.borrow().len() as u64 * 10)
        }

        fn queued(&self) -> Vec<u64> {
            self.queued.borrow().clone()
        }
    }

    /// A cursor that has read all that was kept, up to a sequence, and to which nobody attends.
    fn live_from(sequence: u64) -> Cursor {
        let cursor = Cursor::new();
        assert_eq!(cursor.begin_portion(), None);
        cursor.take_portion(&portion(sequence, [], false), |_| panic!("there is nothing"));
        assert_eq!(cursor.next(), Next::Rest);
        cursor
    }

    #[test]
    fn what_was_kept_comes_before_what_is_published_meanwhile_and_each_once() {
        let (cursor, way) = (Cursor::new(), Way::with_room(100));
        assert_eq!(cursor.begin_portion(), None);
        // These messages are published during the read. The portion may already have the first of them.
        for sequence in [4, 5] {
            let taken = cursor.take_message(&message(sequence), |_| panic!("not before the others"));
            assert_eq!(taken, Taken { is_queued: false, is_to_attend: false });
        }
        cursor.take_portion(&portion(1, [2, 3, 4], false), |message| way.send(message));
        assert_eq!(cursor.next(), Next::Read);
        assert_eq!(cursor.begin_portion(), Some(4));
        cursor.take_portion(&portion(4, [5], false), |message| way.send(message));
        assert_eq!(cursor.next(), Next::Wait);
        let old = cursor.take_message(&message(5), |_| panic!("it was sent"));
        assert_eq!(old, Taken { is_queued: false, is_to_attend: false });
        assert!(cursor.take_message(&message(6), |message| way.send(message)).is_queued);
        assert_eq!(way.queued(), [2, 3, 4, 5, 6]);
    }

    #[test]
    fn a_portion_without_room_goes_on_where_it_stopped() {
        let (cursor, way) = (Cursor::new(), Way::with_room(2));
        cursor.begin_portion();
        cursor.take_portion(&portion(0, 1..=3, true), |message| way.send(message));
        assert_eq!((cursor.next(), way.queued()), (Next::Read, vec![1, 2]));
        assert!(!cursor.can_go_on(Some(20), 0, || false));
        assert!(cursor.can_go_on(Some(20), 0, || true));
        *way.room.borrow_mut() = 2;
        assert_eq!(cursor.begin_portion(), Some(2));
        cursor.take_portion(&portion(2, 3..=4, true), |message| way.send(message));
        // Everything that was read has been sent, and the store has more.
        assert_eq!(cursor.next(), Next::Read);
        *way.room.borrow_mut() = 2;
        assert_eq!(cursor.begin_portion(), Some(4));
        cursor.take_portion(&portion(4, [5], false), |message| way.send(message));
        assert_eq!((cursor.next(), way.queued()), (Next::Wait, vec![1, 2, 3, 4, 5]));
    }

    #[test]
    fn what_finds_no_room_and_all_after_it_is_read_from_the_store() {
        let (cursor, way) = (live_from(0), Way::with_room(1));
        let first = cursor.take_message(&message(1), |message| way.send(message));
        assert_eq!(first, Taken { is_queued: true, is_to_attend: true });
        let second = cursor.take_message(&message(2), |message| way.send(message));
        assert_eq!(second, Taken { is_queued: false, is_to_attend: false });
        *way.room.borrow_mut() = 100;
        // There is room again, but the second message comes first.
        assert!(!cursor.take_message(&message(3), |message| way.send(message)).is_queued);
        assert_eq!(cursor.begin_portion(), Some(1));
        cursor.take_portion(&portion(1, [2, 3], false), |message| way.send(message));
        assert!(cursor.take_message(&message(4), |message| way.send(message)).is_queued);
        assert_eq!(way.queued(), [1, 2, 3, 4]);
    }

    #[test]
    fn a_portion_that_may_lack_what_was_missed_meanwhile_is_not_the_last() {
        let (cursor, way) = (live_from(5), Way::with_room(100));
        assert!(cursor.expect_portion(), "nobody attended to it");
        assert_eq!(cursor.begin_portion(), Some(5));
        assert!(!cursor.expect_portion(), "somebody does");
        cursor.take_portion(&portion(5, [6], false), |message| way.send(message));
        assert_eq!((cursor.next(), cursor.begin_portion()), (Next::Read, Some(6)));
        cursor.take_portion(&portion(6, [7], false), |message| way.send(message));
        assert_eq!((cursor.next(), way.queued()), (Next::Wait, vec![6, 7]));
    }

    #[test]
    fn only_what_was_shown_is_received_also_when_the_connection_is_killed_in_between() {
        let (cursor, way) = (live_from(0), Way::with_room(100));
        for sequence in 1..=3 {
            cursor.take_message(&message(sequence), |message| way.send(message));
        }
        assert_eq!((cursor.take_shown(9), cursor.last_unshown()), (None, Some(30)));
        assert!(!cursor.can_go_on(Some(30), 9, || true));
        assert!(cursor.can_go_on(Some(20), 9, || true), "it was not asked for the last one");
        assert!(cursor.can_go_on(Some(30), 10, || true));
        assert_eq!(cursor.take_shown(25), Some(2));
        assert_eq!(cursor.take_shown(25), None);
        // The connection is killed. The next socket of the user begins after the second message.
        let next = Cursor::new();
        next.begin_portion();
        next.take_portion(&portion(2, [3], false), |message| way.send(message));
        assert_eq!(way.queued(), [1, 2, 3, 3]);
        assert_eq!((next.next(), next.take_shown(40), next.next()), (Next::Wait, Some(3), Next::Rest));
    }

    #[test]
    fn of_many_that_are_not_shown_the_last_are_one() {
        let (cursor, way) = (live_from(0), Way::with_room(1_000));
        let count = REMEMBERED as u64 + 50;
        for sequence in 1..=count {
            cursor.take_message(&message(sequence), |message| way.send(message));
        }
        assert_eq!(cursor.take_shown((count - 1) * 10), Some(REMEMBERED as u64 - 1));
        assert_eq!(cursor.take_shown(count * 10), Some(count));
    }
}
