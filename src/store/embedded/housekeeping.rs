//! Removes data that has ended, to free its room. Readers no longer see such data.

use redb::ReadableTable;

use super::batch::{Batch, Place, log_has_ended, oldest_kept_day};
use super::failure::Failure;
use super::tables::{day_of, day_range, number_of, parse_slot, space_of};
use crate::domain::SlotRecord;
use crate::store::KEEP_MILLIS;

/// The most answers, and the most messages, that one step removes.
const ROWS: usize = 1_000;

/// The most logs and days that one step checks. A log has at most 1,024 messages, and a day 1,500 slots, so a step stays
/// well below the second that a job may wait.
const RANGES: usize = 4;

/// Removes a bounded part of the data that has ended. Answers whether there may be more.
pub(super) fn clean(batch: &mut Batch<'_>) -> Result<bool, Failure> {
    let rows = [clean_answers(batch)?, clean_user_messages(batch)?, super::journal::clean(batch)?];
    let ranges = [clean_logs(batch)?, clean_days(batch)?];
    Ok(rows.contains(&ROWS) || ranges.contains(&RANGES))
}

fn clean_answers(batch: &mut Batch<'_>) -> Result<usize, Failure> {
    let last = batch.now().as_millis().saturating_add(1);
    let mut ended = Vec::new();
    for row in batch.tables().answer_ends.range(..(last, "", ""))?.take(ROWS) {
        let row = row?;
        let (ends, caller, key) = row.0.value();
        ended.push((ends, caller.to_owned(), key.to_owned()));
    }
    for (ends, caller, key) in &ended {
        super::acts::forget_answer(batch, *ends, caller, key)?;
    }
    Ok(ended.len())
}

fn clean_user_messages(batch: &mut Batch<'_>) -> Result<usize, Failure> {
    let last = batch.now().as_millis().saturating_add(1);
    let mut ended = Vec::new();
    for row in batch.tables().user_log_ends.range(..(last, "", 0))?.take(ROWS) {
        let row = row?;
        let (ends, user, sequence) = row.0.value();
        ended.push((ends, user.to_owned(), sequence));
    }
    for (ends, user, sequence) in &ended {
        let tables = batch.write();
        tables.user_log_ends.remove((*ends, user.as_str(), *sequence))?;
        tables.user_log.remove((user.as_str(), *sequence))?;
    }
    Ok(ended.len())
}

/// Drops the logs of topics that have not changed for 24 hours. Logs that have changed since are checked again later.
fn clean_logs(batch: &mut Batch<'_>) -> Result<usize, Failure> {
    let last = batch.now().as_millis().saturating_add(1);
    let mut due = Vec::new();
    for row in batch.tables().log_ends.range(..(last, 0, 0, 0))?.take(RANGES) {
        due.push(row?.0.value());
    }
    for &(looked_at, tag, first, second) in &due {
        let head @ (version, last_change, first_kept) = batch.head_row((tag, first, second))?;
        let ended = log_has_ended(head, batch.now());
        let tables = batch.write();
        tables.log_ends.remove((looked_at, tag, first, second))?;
        if !ended {
            tables.log_ends.insert((last_change.saturating_add(KEEP_MILLIS), tag, first, second), ())?;
            continue;
        }
        tables.log.retain_in((tag, first, second, first_kept)..=(tag, first, second, version), |_, _| false)?;
        tables.heads.insert((tag, first, second), (version, last_change, version + 1))?;
    }
    Ok(due.len())
}

/// Forgets the slots of days that are 30 days past.
fn clean_days(batch: &mut Batch<'_>) -> Result<usize, Failure> {
    let oldest = oldest_kept_day(batch.now());
    let mut due = Vec::new();
    for row in batch.tables().days.range(..(oldest, 0, 0))?.take(RANGES) {
        due.push(row?.0.value());
    }
    for &(day, site, space) in &due {
        let place = Place { space: space_of(site, space)?, day: day_of(day)? };
        forget_slots(batch, place)?;
        batch.write().days.remove((day, site, space))?;
    }
    Ok(due.len())
}

fn forget_slots(batch: &mut Batch<'_>, place: Place) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for row in batch.tables().slots.range(day_range(place.space, place.day))? {
        let (key, record) = row?;
        rows.push((key.value(), parse_slot(record.value()).unwrap_or_else(SlotRecord::unreadable)));
    }
    for (key, record) in rows {
        batch.forget_taken(place, number_of(key.3)?, &record)?;
        batch.write().slots.remove(key)?;
    }
    Ok(())
}
