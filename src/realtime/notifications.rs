//! Messages to one user: on all of the user's sockets, in order, and kept while there is none.
//!
//! The store numbers a user's messages and remembers up to which one any socket received them. A socket that connects
//! reads what is newer; what arrives meanwhile waits behind it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

use super::session::Session;
use super::{Realtime, Shared};
use crate::domain::UserId;
use crate::store::{SlotStore, UserMessage};

/// After how long a backlog that the store could not give is read again.
const RETRY: Duration = Duration::from_secs(1);

/// Up to where a socket got its user's messages.
#[derive(Default)]
pub(super) struct Cursor {
    /// Held while messages are queued for the socket, so that they stay in order; never across an await.
    state: Mutex<CursorState>,
}

#[derive(Default)]
struct CursorState {
    sequence: u64,
    /// The backlog is not read yet: live messages wait.
    is_live: bool,
    waiting: Vec<UserMessage>,
}

impl Cursor {
    /// Sends messages that the socket has not got; `true` when there was one.
    fn advance(&self, session: &Session, messages: impl IntoIterator<Item = UserMessage>, is_backlog: bool) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_backlog && !state.is_live {
            state.waiting.extend(messages);
            return false;
        }
        state.is_live = true;
        let waiting = std::mem::take(&mut state.waiting);
        let mut sent = false;
        for message in messages.into_iter().chain(waiting) {
            if message.sequence > state.sequence {
                state.sequence = message.sequence;
                session.emit(&message.event, &message.data);
                sent = true;
            }
        }
        sent
    }

    fn sequence(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).sequence
    }
}

/// Sends a message to the user's sockets on this node.
pub(super) fn deliver(shared: &Shared, message: UserMessage) {
    let (user, sequence) = (message.user.clone(), message.sequence);
    let sessions = shared.sessions.of_user(&user);
    let sent = sessions.iter().filter(|session| session.cursor.advance(session, [message.clone()], false)).count();
    if sent > 0 {
        shared.receipts.note(user.clone(), sequence);
    }
    tracing::info!(event.name = message.event, user.id = %user, recipients = sent, "notification");
}

/// Sends a socket what was kept for its user. A store that cannot be asked is asked again until the socket ends.
pub(super) async fn deliver_backlog(realtime: Realtime, session: Arc<Session>) {
    if try_deliver_backlog(&realtime, &session).await {
        return;
    }
    tokio::spawn(async move {
        while !session.has_ended() {
            tokio::time::sleep(RETRY).await;
            if try_deliver_backlog(&realtime, &session).await {
                return;
            }
        }
    });
}

async fn try_deliver_backlog(realtime: &Realtime, session: &Session) -> bool {
    match realtime.0.app.store.unreceived(session.user()).await {
        Ok(backlog) => {
            session.set_connected_at(backlog.now);
            if session.cursor.advance(session, backlog.messages, true) {
                realtime.0.receipts.note(session.user().clone(), session.cursor.sequence());
            }
            true
        }
        Err(error) => {
            tracing::warn!(user.id = %session.user(), %error, "cannot read what was kept for a user; will try again");
            false
        }
    }
}

/// Remembers in the store what was received, without making delivery wait for it.
pub(crate) struct Receipts(mpsc::UnboundedSender<(UserId, u64)>);

impl Receipts {
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<(UserId, u64)>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    fn note(&self, user: UserId, sequence: u64) {
        // The writer lives as long as the node does.
        let _ = self.0.send((user, sequence));
    }
}

/// Writes receipts, those that wait of one user as one; never returns while the node lives.
pub(super) async fn write_receipts(store: Arc<dyn SlotStore>, mut received: mpsc::UnboundedReceiver<(UserId, u64)>) {
    while let Some(first) = received.recv().await {
        let mut latest = HashMap::from([first]);
        while let Ok((user, sequence)) = received.try_recv() {
            let known = latest.entry(user).or_default();
            *known = sequence.max(*known);
        }
        for (user, sequence) in latest {
            if let Err(error) = store.mark_received(&user, sequence).await {
                // The user may get the message once more: at least once is what is promised.
                tracing::warn!(user.id = %user, %error, "cannot remember what a user received");
            }
        }
    }
}
