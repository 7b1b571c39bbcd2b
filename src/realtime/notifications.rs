//! Messages to one user: on all of the user's sockets, in order, and kept while there is none.
//!
//! The store numbers a user's messages and remembers up to which one any socket received them. A socket that connects
//! reads what is newer; what arrives meanwhile waits behind it. What is sent to a socket counts as received, also where its
//! network is gone and the node has not noticed yet: clients do not acknowledge.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

use super::session::Session;
use super::{Realtime, Shared};
use crate::domain::UserId;
use crate::store::{SlotStore, UserBacklog, UserMessage};
use crate::telemetry::users::logged;

/// After how long a backlog that the store could not give is read again.
const RETRY: Duration = Duration::from_secs(1);

/// How many backlogs are read at once: enough to keep the store busy. A crowd that connects waits here for its turn,
/// rather than in the store, where all would wait until each call is too late.
pub(super) const BACKLOG_READS: usize = 64;

/// Up to where a socket got its user's messages.
pub(super) struct Cursor {
    /// Held while messages are queued for the socket, so that they stay in order; never across an await.
    state: Mutex<CursorState>,
}

struct CursorState {
    /// `None` until the first backlog is read.
    sequence: Option<u64>,
    /// Backlogs that are to be read yet: until then messages wait, whatever way they came.
    unread_backlogs: usize,
    waiting: Vec<UserMessage>,
}

impl Cursor {
    /// Of a socket that is to get its backlog first.
    pub(super) fn new() -> Self {
        Self { state: Mutex::new(CursorState { sequence: None, unread_backlogs: 1, waiting: Vec::new() }) }
    }

    /// Messages may have been missed: one backlog more is read before any other message.
    pub(super) fn expect_backlog(&self) {
        self.lock().unread_backlogs += 1;
    }

    /// Up to where messages were sent.
    fn sequence(&self) -> Option<u64> {
        self.lock().sequence
    }

    /// Sends a message once everything before it is sent; answers the last sequence that was sent now.
    fn take_message(&self, session: &Session, message: UserMessage) -> Option<u64> {
        let mut state = self.lock();
        state.waiting.push(message);
        state.send_waiting(session)
    }

    /// Takes one expected backlog, and sends what waited for it; answers as [`Self::take_message`].
    fn take_backlog(&self, session: &Session, backlog: UserBacklog) -> Option<u64> {
        let mut state = self.lock();
        state.unread_backlogs = state.unread_backlogs.saturating_sub(1);
        // Not forward, where another backlog waits that begins earlier.
        state.sequence = Some(state.sequence.map_or(backlog.after, |last| last.min(backlog.after)));
        state.waiting.extend(backlog.messages);
        state.send_waiting(session)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, CursorState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CursorState {
    fn send_waiting(&mut self, session: &Session) -> Option<u64> {
        if self.unread_backlogs > 0 {
            return None;
        }
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.sort_by_key(|message| message.sequence);
        let mut sent = None;
        for message in waiting {
            if self.sequence.is_none_or(|last| message.sequence > last) {
                self.sequence = Some(message.sequence);
                if session.emit(&message.event, &message.data) {
                    sent = Some(message.sequence);
                }
            }
        }
        sent
    }
}

/// Sends a message to the user's sockets on this node.
pub(super) fn deliver(shared: &Shared, message: UserMessage) {
    let sessions = shared.sessions.of_user(&message.user);
    let sent = sessions.iter().filter_map(|session| session.cursor.take_message(session, message.clone()));
    let sent: Vec<u64> = sent.collect();
    if let Some(sequence) = sent.iter().max() {
        shared.receipts.note(message.user.clone(), *sequence);
    }
    tracing::info!(event.name = message.event, user.id = %logged(&message.user), recipients = sent.len(), "notification");
}

/// Sends a socket the backlog of its user that its cursor expects. A store that cannot be asked is asked again until the
/// socket ends.
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
    // Never closed, so that it is always a permit.
    let _permit = realtime.0.backlog_reads.acquire().await;
    match realtime.0.app.store.messages_of(session.user(), session.cursor.sequence()).await {
        Ok(backlog) => {
            if let Some(sequence) = session.cursor.take_backlog(session, backlog) {
                realtime.0.receipts.note(session.user().clone(), sequence);
            }
            true
        }
        Err(error) => {
            tracing::warn!(user.id = %logged(session.user()), %error, "cannot read what was kept for a user; will try again");
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
                // The user may get the message once more.
                tracing::warn!(user.id = %logged(&user), %error, "cannot remember what a user received");
            }
        }
    }
}
