//! The journal in the file: its entries, and the people whom they name.

use std::collections::HashMap;

use redb::{ReadTransaction, ReadableTable, TableDefinition, TableError};

use super::batch::Batch;
use super::failure::Failure;
use super::tables::{JOURNAL, PEOPLE, READERS};
use crate::domain::{Bucket, JournalEntry, UserId};
use crate::store::NumberedEntry;
use crate::store::journal::{DAY_MILLIS, PEOPLE_DAYS_MORE, StoredEntry, generation_at};

/// How many entries one step removes.
const ROWS: usize = 1_000;

/// Writes entries of a bucket's journal, and removes the oldest ones beyond the bound.
pub(super) fn write(batch: &mut Batch<'_>, bucket: Bucket, entries: Vec<JournalEntry>) -> Result<(), Failure> {
    let bounds = batch.journal_bounds();
    if !bounds.is_kept() {
        return Ok(());
    }
    let generation = generation_at(batch.now());
    for entry in entries {
        let mut references = HashMap::new();
        for user in entry.people() {
            if !references.contains_key(user) {
                references.insert(user.clone(), reference_of(batch, generation, user)?);
            }
        }
        let entry = entry.with_people(|user| references.get(&user).copied());
        let text = StoredEntry { generation, entry }.to_text();
        let number = last_number(&batch.tables().journal, bucket)? + 1;
        batch.write().journal.insert((bucket.get(), number), text.as_str())?;
        trim_to(batch, bucket, number.saturating_sub(u64::from(bounds.max)))?;
    }
    Ok(())
}

/// The reference of a user in a generation. Makes one if there is none.
fn reference_of(batch: &mut Batch<'_>, generation: u32, user: &UserId) -> Result<u64, Failure> {
    if let Some(known) = batch.tables().references.get((generation, user.as_str()))? {
        return Ok(known.value());
    }
    let last = batch.tables().people.range((generation, 0)..=(generation, u64::MAX))?.next_back().transpose()?;
    let reference = last.map_or(0, |(key, _)| key.value().1) + 1;
    let tables = batch.write();
    tables.references.insert((generation, user.as_str()), reference)?;
    tables.people.insert((generation, reference), user.as_str())?;
    Ok(reference)
}

fn last_number(journal: &impl ReadableTable<(u8, u64), &'static str>, bucket: Bucket) -> Result<u64, Failure> {
    let bucket = bucket.get();
    let last = journal.range((bucket, 0)..=(bucket, u64::MAX))?.next_back().transpose()?;
    Ok(last.map_or(0, |(key, _)| key.value().1))
}

/// Removes the entries up to a number.
fn trim_to(batch: &mut Batch<'_>, bucket: Bucket, number: u64) -> Result<usize, Failure> {
    let range = (bucket.get(), 0)..=(bucket.get(), number);
    let mut old = Vec::new();
    for row in batch.tables().journal.range(range)?.take(ROWS) {
        old.push(row?.0.value());
    }
    for key in &old {
        batch.write().journal.remove(*key)?;
    }
    Ok(old.len())
}

/// Removes a bounded number of a bucket's entries that are too old, but never the last one. Answers how many.
pub(super) fn trim(batch: &mut Batch<'_>, bucket: Bucket) -> Result<usize, Failure> {
    let oldest = batch.journal_bounds().oldest(batch.now());
    let last = last_number(&batch.tables().journal, bucket)?;
    let mut up_to = 0;
    for row in batch.tables().journal.range((bucket.get(), 0)..(bucket.get(), last))?.take(ROWS) {
        let (key, text) = row?;
        if StoredEntry::parse(text.value()).is_some_and(|stored| stored.entry.at >= oldest) {
            break;
        }
        up_to = key.value().1;
    }
    if up_to == 0 { Ok(0) } else { trim_to(batch, bucket, up_to) }
}

/// Removes a bounded number of old entries in all buckets, and of people whom no entry names any more. Answers how many.
pub(super) fn clean(batch: &mut Batch<'_>) -> Result<usize, Failure> {
    let mut removed = clean_people(batch)?;
    for bucket in Bucket::all() {
        if removed >= ROWS {
            break;
        }
        removed += trim(batch, bucket)?;
    }
    Ok(removed.min(ROWS))
}

fn clean_people(batch: &mut Batch<'_>) -> Result<usize, Failure> {
    let days = i64::from(batch.journal_bounds().days) + PEOPLE_DAYS_MORE;
    let oldest = generation_at(batch.now().plus_millis(-days * DAY_MILLIS));
    let mut old = Vec::new();
    for row in batch.tables().people.range(..(oldest, 0))?.take(ROWS) {
        let (key, user) = row?;
        old.push((key.value(), user.value().to_owned()));
    }
    for (key @ (generation, _), user) in &old {
        let tables = batch.write();
        tables.people.remove(*key)?;
        tables.references.remove((*generation, user.as_str()))?;
    }
    Ok(old.len())
}

/// Entries of a bucket from a number on.
pub(super) fn read(
    transaction: &ReadTransaction,
    bucket: Bucket,
    from: u64,
    limit: usize,
) -> Result<Vec<NumberedEntry>, Failure> {
    let (Some(journal), Some(people)) = (open(transaction, JOURNAL)?, open(transaction, PEOPLE)?) else {
        return Ok(Vec::new());
    };
    let mut entries = Vec::new();
    for row in journal.range((bucket.get(), from)..=(bucket.get(), u64::MAX))?.take(limit) {
        let (key, text) = row?;
        let (_, number) = key.value();
        let Some(StoredEntry { generation, entry }) = StoredEntry::parse(text.value()) else {
            tracing::error!(bucket = bucket.get(), number, "left out an entry of the journal that cannot be read");
            entries.push(NumberedEntry { number, entry: None });
            continue;
        };
        let mut names = HashMap::new();
        for reference in entry.people() {
            let user = people.get((generation, *reference))?.and_then(|user| UserId::new(user.value()));
            names.insert(*reference, user);
        }
        let entry = entry.with_people(|reference| names.get(&reference).cloned().flatten());
        entries.push(NumberedEntry { number, entry: Some(entry) });
    }
    Ok(entries)
}

/// The number of the last entry of each bucket.
pub(super) fn tails(transaction: &ReadTransaction, buckets: &[Bucket]) -> Result<Vec<u64>, Failure> {
    let Some(journal) = open(transaction, JOURNAL)? else { return Ok(vec![0; buckets.len()]) };
    buckets.iter().map(|bucket| last_number(&journal, *bucket)).collect()
}

/// The places of a reader in each bucket, as the reader wrote them.
pub(super) fn reader_places(
    transaction: &ReadTransaction,
    reader: &str,
    buckets: &[Bucket],
) -> Result<Vec<Option<String>>, Failure> {
    let Some(readers) = open(transaction, READERS)? else { return Ok(vec![None; buckets.len()]) };
    let place = |bucket: &Bucket| Ok(readers.get((reader, bucket.get()))?.map(|place| place.value().to_owned()));
    buckets.iter().map(place).collect()
}

/// Writes a reader's place in a bucket, unless another node has moved the reader.
pub(super) fn move_reader(
    batch: &mut Batch<'_>,
    reader: &str,
    bucket: Bucket,
    known: Option<&str>,
    place: &str,
) -> Result<bool, Failure> {
    let key = (reader, bucket.get());
    let is_known = batch.tables().readers.get(key)?.as_ref().map(|place| place.value()) == known;
    if is_known {
        batch.write().readers.insert(key, place)?;
    }
    Ok(is_known)
}

/// How many of the entries that all readers have read were removed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Forgotten {
    /// Nothing was removed: a reader has another place than the known one, or the entry that must stay is missing.
    Nothing,
    /// As many as one step may remove.
    Some,
    /// All of them.
    All,
}

/// Removes a bounded number of the entries that all readers of a bucket have read: the ones before an entry that stays.
pub(super) fn forget_read(
    batch: &mut Batch<'_>,
    bucket: Bucket,
    before: u64,
    readers: &[(String, String)],
) -> Result<Forgotten, Failure> {
    for (reader, known) in readers {
        let place = batch.tables().readers.get((reader.as_str(), bucket.get()))?;
        if place.is_none_or(|place| place.value() != known) {
            return Ok(Forgotten::Nothing);
        }
    }
    if batch.tables().journal.get((bucket.get(), before))?.is_none() {
        return Ok(Forgotten::Nothing);
    }
    let removed = trim_to(batch, bucket, before.saturating_sub(1))?;
    Ok(if removed < ROWS { Forgotten::All } else { Forgotten::Some })
}

/// A table that the file may not have yet.
fn open<K: redb::Key + 'static, V: redb::Value + 'static>(
    transaction: &ReadTransaction,
    table: TableDefinition<'_, K, V>,
) -> Result<Option<redb::ReadOnlyTable<K, V>>, Failure> {
    match transaction.open_table(table) {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
