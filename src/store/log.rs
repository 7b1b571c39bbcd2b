//! Reads a topic's log in portions.

use super::{Message, SlotStore, StoreError, Topic};
use crate::domain::Position;

/// A read of a log stops after the message with which the payloads reach this many bytes. Over a narrow link, a whole log
/// of large changes would take longer than a call may take, again and again.
pub const LOG_PORTION: usize = 64 * 1024;

/// The answer to a read of a log after a position.
#[derive(Clone, Debug)]
pub enum LogRead {
    /// The kept messages after the position, ascending; none if the position is the head. They reach to the head, unless
    /// they are a portion ([`is_portion`]).
    Messages(Vec<Message>),
    /// The log does not reach back that far, or the position is of another epoch, or it never existed.
    Gone(Position),
}

/// Whether a read of a log may have stopped before the head.
pub fn is_portion(messages: &[Message]) -> bool {
    messages.iter().map(|message| message.payload.get().len()).sum::<usize>() >= LOG_PORTION
}

/// The whole log after a position, read in portions. Each portion has the time of a call of its own.
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
