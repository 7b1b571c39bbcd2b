//! Reads the journal's entries after a cursor.

use std::collections::VecDeque;

use futures_util::future::try_join_all;

use super::cursor::{Cursor, Place, UNKNOWN, mark_of};
use crate::domain::{Bucket, JournalEntry, StoreTime};
use crate::store::{NumberedEntry, SlotStore, StoreError};

/// One read looks at no more than this many entries.
const MOST_LOOKED_AT: usize = 10_000;

/// How many entries of a bucket one portion has: if one bucket is read, and if several are.
const PORTIONS: (usize, usize) = (500, 32);

/// The result of a read.
#[derive(Clone, Debug, PartialEq)]
pub struct JournalRead {
    /// In order within a space.
    pub entries: Vec<JournalEntry>,
    /// Where the next read goes on.
    pub next: Cursor,
    /// Whether this read stopped before the end.
    pub more: bool,
}

/// Where the journal begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Begins {
    /// The cursor from which everything that is kept can be read.
    pub cursor: Cursor,
    /// When the first of those entries was written; `None` without any.
    pub at: Option<StoreTime>,
}

/// Why a read has no answer.
#[derive(Clone, Debug, PartialEq)]
pub enum ReadError {
    /// Entries after the cursor are no longer kept.
    Gone(Begins),
    /// The store failed.
    Store(StoreError),
}

impl From<StoreError> for ReadError {
    fn from(error: StoreError) -> Self {
        ReadError::Store(error)
    }
}

/// Reads the journal of buckets after a cursor, or from its beginning: up to `limit` of the entries that are `wanted`.
/// Entries of several buckets are merged by their instants.
///
/// # Errors
///
/// The cursor is older than every kept entry, or the store fails.
pub async fn read(
    store: &dyn SlotStore,
    buckets: &[Bucket],
    after: Option<&Cursor>,
    wanted: impl Fn(&JournalEntry) -> bool,
    limit: usize,
) -> Result<JournalRead, ReadError> {
    let portion = if buckets.len() == 1 { PORTIONS.0 } else { PORTIONS.1 };
    let begin = buckets.iter().map(|bucket| Tail::begin(store, *bucket, after, portion));
    let mut tails = Vec::with_capacity(buckets.len());
    let mut is_gone = false;
    for begun in try_join_all(begin).await? {
        is_gone |= begun.is_none();
        tails.extend(begun);
    }
    if is_gone {
        return Err(ReadError::Gone(find_beginning(store, buckets).await?));
    }
    let (mut entries, mut looked_at) = (Vec::new(), 0);
    while entries.len() < limit && looked_at < MOST_LOOKED_AT {
        let refill = tails.iter_mut().filter(|tail| tail.buffer.is_empty() && !tail.is_at_end);
        try_join_all(refill.map(|tail| tail.refill(store, portion))).await?;
        let Some(first) = tails.iter_mut().filter(|tail| !tail.buffer.is_empty()).min_by_key(|tail| tail.next_at())
        else {
            break;
        };
        looked_at += 1;
        entries.extend(first.take().filter(|entry| wanted(entry)));
    }
    let more = tails.iter().any(|tail| !tail.buffer.is_empty() || !tail.is_at_end);
    let mut next = after.cloned().unwrap_or_default();
    tails.iter().for_each(|tail| next.set(tail.bucket, tail.seen));
    Ok(JournalRead { entries, next, more })
}

/// Entries of one bucket, each with its place.
#[derive(Clone, Debug, PartialEq)]
pub struct PlacedEntries {
    /// The place after which the entries come. It is another place than the requested one if the store has lost entries, or
    /// no longer keeps them.
    pub from: Place,
    /// The entries, ascending; `None` for an unreadable one.
    pub entries: Vec<(Place, Option<JournalEntry>)>,
    /// At least how many entries after the requested place are no longer kept.
    pub gone: u64,
}

/// Reads a bucket's journal after a place: up to `limit` entries of any kind. If entries after the place are no longer
/// kept, it goes on with the first kept entry.
///
/// # Errors
///
/// The store fails.
pub async fn read_placed(
    store: &dyn SlotStore,
    bucket: Bucket,
    after: Place,
    limit: usize,
) -> Result<PlacedEntries, StoreError> {
    let mut cursor = Cursor::default();
    cursor.set(bucket, after);
    let (mut tail, is_gone) = match Tail::begin(store, bucket, Some(&cursor), limit).await? {
        Some(tail) => (tail, false),
        None => {
            let mut tail = Tail { bucket, seen: Place::default(), buffer: VecDeque::new(), is_at_end: false };
            tail.fill_from(store, 0, limit).await?;
            tail.see_before_first();
            (tail, true)
        }
    };
    let from = tail.seen;
    let gone = if is_gone { from.number.saturating_sub(after.number).max(1) } else { 0 };
    let mut entries = Vec::with_capacity(tail.buffer.len());
    while !tail.buffer.is_empty() {
        let entry = tail.take();
        entries.push((tail.seen, entry));
    }
    Ok(PlacedEntries { from, entries, gone })
}

/// The part of one bucket that is still to be read.
struct Tail {
    bucket: Bucket,
    seen: Place,
    buffer: VecDeque<NumberedEntry>,
    is_at_end: bool,
}

impl Tail {
    /// Finds the place of a cursor; `None` if entries after it are no longer kept.
    async fn begin(
        store: &dyn SlotStore,
        bucket: Bucket,
        after: Option<&Cursor>,
        portion: usize,
    ) -> Result<Option<Self>, StoreError> {
        let place = after.and_then(|after| after.place(bucket));
        let mut tail = Self { bucket, seen: place.unwrap_or_default(), buffer: VecDeque::new(), is_at_end: false };
        let Some(place) = place else {
            tail.fill_from(store, 0, portion).await?;
            tail.see_before_first();
            return Ok(Some(tail));
        };
        tail.fill_from(store, place.number, portion).await?;
        match tail.buffer.front() {
            Some(first) if first.number == place.number && is_of(first, place.mark) => {
                tail.buffer.pop_front();
                return Ok(Some(tail));
            }
            None if place.number == 0 => return Ok(Some(tail)),
            _ => {}
        }
        tail.find_after_loss(store, place, portion).await
    }

    /// Finds where to go on if the place's number has another entry, or none: after the last entry that the reader has
    /// certainly seen.
    async fn find_after_loss(
        mut self,
        store: &dyn SlotStore,
        place: Place,
        portion: usize,
    ) -> Result<Option<Self>, StoreError> {
        self.fill_from(store, 0, portion).await?;
        let Some(first) = self.buffer.front() else {
            // Everything is lost, and no entry has come since.
            self.see_before_first();
            return Ok(Some(self));
        };
        let follows = first.number == place.number + 1;
        if first.number > place.number + 1 || (follows && place.number > 0 && !is_of(first, place.mark)) {
            return Ok(None);
        }
        if follows {
            return Ok(Some(self));
        }
        let is_kept_from_start = first.number == 1;
        let mut last_seen = None;
        let mut from = 0;
        'search: loop {
            let read = store.read_journal(self.bucket, from, PORTIONS.0).await?;
            for entry in &read {
                if entry.number > place.number {
                    break 'search;
                }
                if is_of(entry, place.mark) {
                    last_seen = Some(entry.number);
                }
            }
            match read.last() {
                Some(last) if read.len() == PORTIONS.0 => from = last.number + 1,
                _ => break,
            }
        }
        match last_seen {
            Some(number) => {
                self.fill_from(store, number + 1, portion).await?;
                self.seen = Place { number, mark: place.mark };
            }
            None if is_kept_from_start => self.see_before_first(),
            None => return Ok(None),
        }
        Ok(Some(self))
    }

    async fn fill_from(&mut self, store: &dyn SlotStore, from: u64, portion: usize) -> Result<(), StoreError> {
        let read = store.read_journal(self.bucket, from, portion).await?;
        self.is_at_end = read.len() < portion;
        self.buffer = read.into();
        Ok(())
    }

    async fn refill(&mut self, store: &dyn SlotStore, portion: usize) -> Result<(), StoreError> {
        self.fill_from(store, self.seen.number + 1, portion).await
    }

    /// Begins before the first entry that is kept.
    fn see_before_first(&mut self) {
        let number = self.buffer.front().map_or(0, |first| first.number.saturating_sub(1));
        self.seen = Place { number, mark: UNKNOWN };
    }

    /// When its next entry was written. Unreadable entries are skipped at once.
    fn next_at(&self) -> Option<StoreTime> {
        self.buffer.front()?.entry.as_ref().map(|entry| entry.at)
    }

    fn take(&mut self) -> Option<JournalEntry> {
        let NumberedEntry { number, entry } = self.buffer.pop_front()?;
        let mark = entry.as_ref().map_or(UNKNOWN, |entry| mark_of(&entry.position.epoch));
        self.seen = Place { number, mark };
        entry
    }
}

/// Whether an entry may be of the epoch with this mark. An unknown mark fits every epoch.
fn is_of(entry: &NumberedEntry, mark: u32) -> bool {
    let of_entry = entry.entry.as_ref().map(|entry| mark_of(&entry.position.epoch));
    mark == UNKNOWN || of_entry.is_none_or(|of_entry| of_entry == mark)
}

async fn find_beginning(store: &dyn SlotStore, buckets: &[Bucket]) -> Result<Begins, StoreError> {
    let firsts = buckets.iter().map(|bucket| store.read_journal(*bucket, 0, 1));
    let firsts = try_join_all(firsts).await?;
    let (mut cursor, mut at) = (Cursor::default(), None);
    for (bucket, first) in buckets.iter().zip(firsts) {
        let first = first.into_iter().next();
        let number = first.as_ref().map_or(0, |first| first.number.saturating_sub(1));
        cursor.set(*bucket, Place { number, mark: UNKNOWN });
        let written = first.and_then(|first| first.entry).map(|entry| entry.at);
        at = [at, written].into_iter().flatten().min();
    }
    Ok(Begins { cursor, at })
}
