//! The data under a user's id, and its erasure. Removed data may still be readable in the file's pages, so the file is
//! written anew at the end of an erasure (`rewrite`).

use redb::{ReadTransaction, ReadableTable, Table};

use super::acts::{calls_of, forget_answers_of};
use super::batch::{Batch, LogKind};
use super::failure::Failure;
use super::publish::read_user;
use super::tables::{
    ANSWERS, BookingKey, HeadRow, SlotKey, TopicKey, USERS, open_for_reading, read_slot, space_of, user_range,
};
use crate::domain::event::to_json;
use crate::domain::slot::SlotState;
use crate::domain::{Bucket, Owned, SlotRecord, UserId};
use crate::store::privacy::BOOKINGS_A_STEP;
use crate::store::{Erasure, ErasureStep, KeptOfUser};

/// A row of the index of bookings.
type BookingRow = (i32, u64, u64, u16);

/// The user's remembered calls, and the sequences of the notifications.
pub(super) fn kept_of(transaction: &ReadTransaction, user: &UserId) -> Result<KeptOfUser, Failure> {
    let calls = calls_of(&open_for_reading(transaction, ANSWERS)?, user)?;
    let (last_sent, last_received) = read_user(&open_for_reading(transaction, USERS)?, user)?;
    Ok(KeptOfUser { calls, last_sent, last_received })
}

/// The id that replaces the user's: the one of a running erasure, or else `new`.
pub(super) fn begin(batch: &mut Batch<'_>, user: &UserId, new: UserId) -> Result<UserId, Failure> {
    let known = batch.tables().erasing.get(user.as_str())?.and_then(|row| UserId::new(row.value()));
    if let Some(known) = known {
        return Ok(known);
    }
    batch.write().erasing.insert(user.as_str(), new.as_str())?;
    Ok(new)
}

/// Forgets the id that replaced the user's.
pub(super) fn end(batch: &mut Batch<'_>, user: &UserId) -> Result<(), Failure> {
    batch.write().erasing.remove(user.as_str())?;
    Ok(())
}

/// One step in a bucket: gives away some bookings, or, if there are none, everything else. Also answers whether the
/// bucket had anything of the user.
pub(super) fn erase_in(
    batch: &mut Batch<'_>,
    bucket: Bucket,
    erasure: &Erasure,
) -> Result<(ErasureStep, bool), Failure> {
    if has_hold(batch, bucket, &erasure.user)? {
        return Ok((ErasureStep::Taken, true));
    }
    let rows = bookings_in(batch, bucket, &erasure.user)?;
    if !rows.is_empty() {
        return Ok((give_bookings(batch, erasure, &rows)?, true));
    }
    let found = [
        give_references(batch, erasure)?,
        forget_answers_of(batch, &erasure.user)?,
        forget_messages(batch, &erasure.user)?,
        trim_logs(batch, bucket, &erasure.user)?,
    ];
    Ok((ErasureStep::Done, found.contains(&true)))
}

fn has_hold(batch: &Batch<'_>, bucket: Bucket, user: &UserId) -> Result<bool, Failure> {
    for row in batch.tables().user_holds.range(user_range(user))? {
        let (_, site, space, _, _) = row?.0.value();
        if space_of(site, space)?.bucket() == bucket {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Some of the user's bookings in a bucket.
fn bookings_in(batch: &Batch<'_>, bucket: Bucket, user: &UserId) -> Result<Vec<BookingRow>, Failure> {
    let user = user.as_str();
    let all = (user, i32::MIN, 0, 0, 0)..=(user, i32::MAX, u64::MAX, u64::MAX, u16::MAX);
    let mut rows = Vec::new();
    for row in batch.tables().user_bookings.range(all)? {
        let (_, day, site, space, slot) = row?.0.value();
        if space_of(site, space)?.bucket() == bucket {
            rows.push((day, site, space, slot));
        }
        if rows.len() == BOOKINGS_A_STEP {
            break;
        }
    }
    Ok(rows)
}

/// Gives bookings to the other id. If one of them has not started, it must be released first, and nothing is changed.
fn give_bookings(batch: &mut Batch<'_>, erasure: &Erasure, rows: &[BookingRow]) -> Result<ErasureStep, Failure> {
    let mut given = Vec::with_capacity(rows.len());
    for &(day, site, space, slot) in rows {
        let record = read_slot(&batch.tables().slots, (site, space, day, slot))?;
        let record = record.filter(|record| is_booked_by(record, &erasure.user));
        if record.as_ref().is_some_and(|record| record.start > batch.now()) {
            return Ok(ErasureStep::Taken);
        }
        given.push(((day, site, space, slot), record));
    }
    let tables = batch.write();
    for (row @ (day, site, space, slot), record) in given {
        if let Some(record) = record {
            store_for(&mut tables.slots, (site, space, day, slot), record, &erasure.stand_in)?;
            index(&mut tables.user_bookings, &erasure.stand_in, row)?;
        }
        tables.user_bookings.remove((erasure.user.as_str(), day, site, space, slot))?;
    }
    Ok(ErasureStep::More)
}

fn is_booked_by(record: &SlotRecord, by: &UserId) -> bool {
    matches!(&record.state, SlotState::Booked { user: Some(user), .. } if user == by)
}

fn store_for(
    slots: &mut Table<'_, SlotKey, &'static str>,
    key: SlotKey,
    mut record: SlotRecord,
    stand_in: &UserId,
) -> Result<(), Failure> {
    if let SlotState::Booked { user, .. } = &mut record.state {
        *user = Some(stand_in.clone());
    }
    let json = serde_json::to_string(&record).map_err(|error| Failure::BadRow(error.to_string()))?;
    slots.insert(key, json.as_str())?;
    Ok(())
}

fn index(bookings: &mut Table<'_, BookingKey, ()>, stand_in: &UserId, row: BookingRow) -> Result<(), Failure> {
    let (day, site, space, slot) = row;
    bookings.insert((stand_in.as_str(), day, site, space, slot), ())?;
    Ok(())
}

/// Makes the journal's references to the user mean the other id, in each generation. Answers whether there were any.
fn give_references(batch: &mut Batch<'_>, erasure: &Erasure) -> Result<bool, Failure> {
    let Erasure { user, stand_in } = erasure;
    let mut has_any = false;
    let generations = {
        let people = &batch.tables().people;
        let (first, last) = (people.first()?, people.last()?);
        let Some((first, last)) = first.zip(last) else { return Ok(false) };
        first.0.value().0..=last.0.value().0
    };
    for generation in generations {
        let reference = batch.tables().references.get((generation, user.as_str()))?.map(|row| row.value());
        let Some(reference) = reference else { continue };
        let tables = batch.write();
        tables.people.insert((generation, reference), stand_in.as_str())?;
        tables.references.remove((generation, user.as_str()))?;
        tables.references.insert((generation, stand_in.as_str()), reference)?;
        has_any = true;
    }
    Ok(has_any)
}

/// Forgets the user's notifications and their numbers. Answers whether there were any.
fn forget_messages(batch: &mut Batch<'_>, user: &UserId) -> Result<bool, Failure> {
    let user = user.as_str();
    let mut kept = Vec::new();
    for row in batch.tables().user_log.range((user, 0)..=(user, u64::MAX))? {
        let (key, row) = row?;
        kept.push((key.value().1, row.value().0));
    }
    let mut has_any = !kept.is_empty();
    let tables = batch.write();
    for (sequence, ends) in kept {
        tables.user_log.remove((user, sequence))?;
        tables.user_log_ends.remove((ends, user, sequence))?;
    }
    has_any |= tables.users.remove(user)?.is_some();
    Ok(has_any)
}

/// Trims the logs of a bucket so that no message names the user. A client that has not seen the trimmed messages gets a
/// snapshot. Answers whether a message did name the user.
fn trim_logs(batch: &mut Batch<'_>, bucket: Bucket, user: &UserId) -> Result<bool, Failure> {
    let mut topics = Vec::new();
    for row in batch.tables().heads.iter()? {
        let (key, head) = row?;
        let (key, head) = (key.value(), head.value());
        if bucket_of(key)? == Some(bucket) {
            topics.push((key, head));
        }
    }
    let mut has_any = false;
    for (key, head) in topics {
        has_any |= trim_log(batch, key, head, user)?;
    }
    Ok(has_any)
}

/// The bucket of a topic in keys.
fn bucket_of((tag, first, second): TopicKey) -> Result<Option<Bucket>, Failure> {
    match tag {
        0 => Ok(Bucket::all().find(|bucket| u64::from(bucket.get()) == first)),
        _ => Ok(Some(space_of(first, second)?.bucket())),
    }
}

fn trim_log(batch: &mut Batch<'_>, key: TopicKey, head: HeadRow, user: &UserId) -> Result<bool, Failure> {
    let ((tag, first, second), (version, last_change, first_kept)) = (key, head);
    if first_kept > version {
        return Ok(false);
    }
    let kept = (tag, first, second, first_kept)..=(tag, first, second, version);
    let naming = Naming::new(user);
    let mut last = None;
    for row in batch.tables().log.range(kept)?.rev() {
        let (key, row) = row?;
        if naming.is_in(row.value()) {
            last = Some(key.value().3);
            break;
        }
    }
    let Some(last) = last else { return Ok(false) };
    let tables = batch.write();
    tables.log.retain_in((tag, first, second, first_kept)..=(tag, first, second, last), |_, _| false)?;
    tables.heads.insert(key, (version, last_change, last + 1))?;
    Ok(true)
}

/// The texts in a log's message that name a user.
struct Naming<'a> {
    user: &'a UserId,
    /// The id within the fields that tell nodes the owner of a slot.
    in_owned: String,
    /// The beginning of a notification to the user.
    notification: String,
}

impl<'a> Naming<'a> {
    fn new(user: &'a UserId) -> Self {
        let json = to_json(user);
        Self { user, in_owned: format!("\"u\":{json}"), notification: format!("{{\"user\":{json},") }
    }

    fn is_in(&self, (kind, payload): (&str, &str)) -> bool {
        if payload.starts_with(&self.notification) {
            return true;
        }
        let owned = kind.contains(&self.in_owned).then(|| serde_json::from_str::<LogKind<Owned>>(kind).ok()).flatten();
        owned.and_then(|owned| owned.into_parts().1).is_some_and(|owned| owned.user == *self.user)
    }
}
