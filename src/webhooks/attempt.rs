//! One attempt to send the next entry of a space, which is read from the journal first.

use std::sync::Arc;

use super::delivery::{Outcome, deliver};
use crate::config::Webhook;
use crate::domain::{JournalEntry, SpaceKey, StoreTime};
use crate::store::{SlotStore, StoreError};

/// How many entries are read at a time on the way to the next one of the space.
const PORTION: usize = 32;

/// The task of an attempt.
#[derive(Clone)]
pub struct Task {
    /// The space.
    pub space: SpaceKey,
    /// The life of the bucket's place for which this attempt is made. If the place is replaced meanwhile, the result is
    /// void.
    pub life: u64,
    /// The number up to which the space is settled.
    pub settled: u64,
    /// The number up to which the attempt may look for entries.
    pub upto: u64,
}

/// The result of an attempt.
pub struct Done {
    /// The task.
    pub task: Task,
    /// Whether entries right after the settled one are no longer kept.
    pub is_gone: bool,
    /// What the attempt found.
    pub found: Found,
}

/// The findings of an attempt.
pub enum Found {
    /// An entry, which was sent.
    Sent {
        /// Its number.
        number: u64,
        /// Its name.
        id: String,
        /// When it was written.
        at: StoreTime,
        /// The outcome of the message.
        outcome: Outcome,
    },
    /// There is no entry for the endpoint as far as the attempt may look.
    Nothing,
    /// The journal ends before the entry, because the store has lost entries.
    Lost,
    /// The store failed.
    Failed(StoreError),
}

/// Whether an endpoint wants an entry.
pub fn is_wanted(webhook: &Webhook, entry: &JournalEntry) -> bool {
    webhook.acts.contains(&entry.act) && webhook.sites.as_ref().is_none_or(|sites| sites.contains(&entry.space.site))
}

/// Sends the first unsettled entry of the space.
pub async fn attempt(store: Arc<dyn SlotStore>, client: reqwest::Client, webhook: Arc<Webhook>, task: Task) -> Done {
    let mut is_gone = false;
    let found = match find(store.as_ref(), &webhook, &task, &mut is_gone).await {
        Ok(Next::Entry(number, entry)) => {
            let outcome = deliver(&client, &webhook, &entry).await;
            Found::Sent { number, id: entry.id(), at: entry.at, outcome }
        }
        Ok(Next::None) => Found::Nothing,
        Ok(Next::Lost) => Found::Lost,
        Err(error) => Found::Failed(error),
    };
    Done { task, is_gone, found }
}

enum Next {
    Entry(u64, Box<JournalEntry>),
    None,
    Lost,
}

async fn find(store: &dyn SlotStore, webhook: &Webhook, task: &Task, is_gone: &mut bool) -> Result<Next, StoreError> {
    let mut from = task.settled + 1;
    while from <= task.upto {
        let read = store.read_journal(task.space.bucket(), from, PORTION).await?;
        let Some(last) = read.last().map(|last| last.number) else { return Ok(Next::Lost) };
        *is_gone |= read.first().is_some_and(|first| first.number > from);
        for numbered in read.into_iter().take_while(|numbered| numbered.number <= task.upto) {
            if let Some(entry) = numbered.entry.filter(|entry| entry.space == task.space && is_wanted(webhook, entry)) {
                return Ok(Next::Entry(numbered.number, Box::new(entry)));
            }
        }
        from = last + 1;
    }
    Ok(Next::None)
}
