//! Messages to one user: sent to all of the user's sockets, in order, and kept while the user has none.
//!
//! The store numbers a user's messages, and remembers the last one that the user received. A new socket is sent the later
//! messages, in portions that its outbox has room for. A message that is published meanwhile waits in the store. A message
//! counts as received when a client has confirmed it: over a websocket by answering a ping that was sent after the message,
//! by polling with the request after the one that brought it. A message that was on a connection when it broke does not
//! count.
//!
//! A socket has a task only while messages wait for it or await its client's confirmation. An idle socket has none.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Realtime;
use super::cursor::Next;
use super::outbox::NOTIFICATION_BYTES;
use super::session::Session;
use super::worker::CloseOnPanic;
use crate::domain::UserId;
use crate::store::{SlotStore, UserMessage};
use crate::telemetry::users::logged;

/// The pause after the store did not give a portion.
const RETRY: Duration = Duration::from_secs(1);

/// How many portions are read at once, which is enough to keep the store busy. The rest of a crowd that connects waits
/// here. If all of it waited in the store, every call would be too late.
pub(super) const BACKLOG_READS: usize = 64;

/// How long a socket must live after a message has left before the message counts as received, if a proxy hides a
/// websocket's own pings. This is longer than 45 s, the time after which the library ends a socket that answers no ping
/// of Engine.IO.
const OUTLIVED: Duration = Duration::from_secs(60);

/// How often a task checks whether an upgrade has ended.
const UPGRADE_PAUSE: Duration = Duration::from_millis(250);

/// Sends a message to the user's sockets on this node.
pub(super) fn deliver(realtime: &Realtime, message: &UserMessage) {
    let mut recipients = 0;
    for session in realtime.sessions.of_user(&message.user) {
        let taken = session.cursor.take_message(message, |message| session.notify(message));
        recipients += usize::from(taken.is_queued);
        see_to(realtime, session, taken.is_to_attend);
    }
    tracing::info!(event.name = message.event, user.id = %logged(&message.user), recipients, "notification");
}

/// Reads the messages that a socket may have missed, before anything else is sent to it.
pub(super) fn deliver_missed(realtime: &Realtime, session: Arc<Session>) {
    let is_to_attend = session.cursor.expect_portion();
    see_to(realtime, session, is_to_attend);
}

fn see_to(realtime: &Realtime, session: Arc<Session>, is_to_attend: bool) {
    if is_to_attend {
        tokio::spawn(attend(realtime.clone(), session));
    } else {
        session.tell_progress();
    }
}

/// Sends a new socket the kept messages of its user. The first portion is sent before this returns, the others as there is
/// room. If the store does not answer, it is asked again until the socket ends.
pub(super) async fn deliver_kept(realtime: &Realtime, session: &Arc<Session>) {
    if !deliver_portion(realtime, session).await {
        let (realtime, session) = (realtime.clone(), session.clone());
        tokio::spawn(async move {
            tokio::time::sleep(RETRY).await;
            attend(realtime, session).await;
        });
    } else if session.cursor.next() != Next::Rest {
        tokio::spawn(attend(realtime.clone(), session.clone()));
    }
}

/// Sends the messages in the store as there is room, and remembers which ones the client has confirmed. Ends when nothing
/// is left to send or confirm.
async fn attend(realtime: Realtime, session: Arc<Session>) {
    let _guard = CloseOnPanic(session.clone());
    let mut outlived = Outlived { since: Instant::now(), left: session.left_packets() };
    loop {
        if let Some(sequence) = session.cursor.take_shown(session.shown_packets()) {
            realtime.receipts.note(session.user().clone(), sequence);
        }
        match session.cursor.next() {
            _ if session.has_ended() => return,
            Next::Rest => return,
            Next::Read if session.has_room_to_notify() => {
                if !deliver_portion(&realtime, &session).await {
                    tokio::time::sleep(RETRY).await;
                }
            }
            Next::Read | Next::Wait => wait_for_progress(&realtime, &session, &mut outlived).await,
        }
    }
}

/// How many packets had left at an instant. They count as received if the socket still lives a while later.
struct Outlived {
    since: Instant,
    left: u64,
}

async fn wait_for_progress(realtime: &Realtime, session: &Session, outlived: &mut Outlived) {
    let asked = session.cursor.last_unshown();
    asked.iter().for_each(|place| session.ask_shown(*place));
    let mut until = outlived.since + OUTLIVED;
    if session.is_changing_transport() {
        until = until.min(Instant::now() + UPGRADE_PAUSE);
    }
    let can_go_on = || {
        session.has_ended() || session.cursor.can_go_on(asked, session.shown_packets(), || session.has_room_to_notify())
    };
    let _ = tokio::time::timeout_at(until, session.progress(can_go_on)).await;
    let now = Instant::now();
    if now >= outlived.since + OUTLIVED && !session.has_ended() {
        if let Some(sequence) = session.cursor.take_shown(outlived.left) {
            realtime.receipts.note(session.user().clone(), sequence);
        }
        *outlived = Outlived { since: now, left: session.left_packets() };
    }
}

async fn deliver_portion(realtime: &Realtime, session: &Session) -> bool {
    // The permit always comes: the semaphore is never closed.
    let _permit = realtime.backlog_reads.acquire().await;
    let since = session.cursor.begin_portion();
    match realtime.app.store.messages_of(session.user(), since, NOTIFICATION_BYTES).await {
        Ok(portion) => {
            session.cursor.take_portion(&portion, |message| session.notify(message));
            true
        }
        Err(error) => {
            tracing::warn!(user.id = %logged(session.user()), %error, "cannot read what was kept for a user; will try again");
            false
        }
    }
}

/// Remembers in the store which messages were received. Delivery does not wait for it.
pub(crate) struct Receipts(mpsc::UnboundedSender<(UserId, u64)>);

impl Receipts {
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<(UserId, u64)>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    fn note(&self, user: UserId, sequence: u64) {
        // The send cannot fail: the writer lives as long as the node.
        let _ = self.0.send((user, sequence));
    }
}

/// Writes receipts. Waiting receipts of one user are written as one. Never returns.
pub(super) async fn write_receipts(store: Arc<dyn SlotStore>, mut received: mpsc::UnboundedReceiver<(UserId, u64)>) {
    while let Some(first) = received.recv().await {
        let mut latest = HashMap::from([first]);
        while let Ok((user, sequence)) = received.try_recv() {
            let known = latest.entry(user).or_default();
            *known = sequence.max(*known);
        }
        for (user, sequence) in latest {
            if let Err(error) = store.mark_received(&user, sequence).await {
                // The user may get the message once more.
                tracing::warn!(user.id = %logged(&user), %error, "cannot remember what a user received");
            }
        }
    }
}
