//! What is read of a topic's log, a portion at a time.

use super::{Message, SlotStore, StoreError, Topic};
use crate::domain::Position;

/// How many bytes of payload one read of a log has, about: it stops with the message that makes it so many. A whole log of
/// large changes would take a narrow link longer than a call may take, again and again.
pub const LOG_PORTION: usize = 64 * 1024;

/// What a log has after a position.
#[derive(Clone, Debug)]
pub enum LogRead {
    /// The kept messages after the position, ascending; empty when the position is the head. All of them up to the head,
    /// unless they are a portion ([`is_portion`]).
    Messages(Vec<Message>),
    /// The log does not reach back that far, or the position is of another epoch or never was.
    Gone(Position),
}

/// Whether a read of a log may have stopped before the head.
pub fn is_portion(messages: &[Message]) -> bool {
    messages.iter().map(|message| message.payload.get().len()).sum::<usize>() >= LOG_PORTION
}

/// Everything that a log has after a position, read portion by portion. Each portion has the time of a call of its own.
pub async fn read_whole_log(store: &dyn SlotStore, topic: Topic, since: &Position) -> Result<LogRead, StoreError> {
    let mut messages: Vec<Message> = Vec::new();
    loop {
        let from = messages.last().map_or(since, |message| &message.at).clone();
        match store.read_log(topic, &from).await? {
            LogRead::Messages(portion) => {
                let is_more = is_portion(&portion);
                messages.extend(portion);
                if !is_more {
                    return Ok(LogRead::Messages(messages));
                }
            }
            gone => return Ok(gone),
        }
    }
}
