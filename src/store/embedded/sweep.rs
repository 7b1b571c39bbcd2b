//! Frees ended holds.

use std::collections::BTreeMap;

use redb::ReadableTable;

use super::acts::before_changes;
use super::batch::{Batch, Place};
use super::failure::Failure;
use super::tables::{day_of, number_of, slot_key, space_of};
use crate::domain::journal::Done;
use crate::domain::rule::expire;
use crate::domain::{Bucket, SlotNumber, SpaceKey};
use crate::store::SweepBatch;

/// Frees up to `limit` ended holds of a bucket, the longest ended first.
pub(super) fn sweep(batch: &mut Batch<'_>, bucket: Bucket, limit: usize) -> Result<SweepBatch, Failure> {
    let now = batch.now().as_millis();
    let ended = ended_holds(batch, bucket, limit)?;
    let mut report = SweepBatch::default();
    let mut places: BTreeMap<Place, Vec<SlotNumber>> = BTreeMap::new();
    for &(until, place, number) in &ended {
        report.oldest_late_ms = report.oldest_late_ms.max(u64::try_from(now - until).unwrap_or(0));
        places.entry(place).or_default().push(number);
    }
    for (place, mut numbers) in places {
        numbers.sort_unstable();
        report.freed += free(batch, place, &numbers)?;
        if report.spaces.last() != Some(&place.space) {
            report.spaces.push(place.space);
        }
    }
    forget_entries(batch, bucket, ended)?;
    if let Some(next) = next_end(batch, bucket)? {
        report.more = next <= now;
        report.next_end_in_ms = Some(u64::try_from(next - now).unwrap_or(0));
    }
    Ok(report)
}

/// The ended holds in a bucket's index, oldest first.
fn ended_holds(batch: &Batch<'_>, bucket: Bucket, limit: usize) -> Result<Vec<(i64, Place, SlotNumber)>, Failure> {
    let bucket = bucket.get();
    let first = (bucket, i64::MIN, 0, 0, i32::MIN, 0);
    let last = (bucket, batch.now().as_millis(), u64::MAX, u64::MAX, i32::MAX, u16::MAX);
    let mut ended = Vec::new();
    for row in batch.tables().hold_ends.range(first..=last)?.take(limit) {
        let (_, until, site, space, day, number) = row?.0.value();
        let place = Place { space: space_of(site, space)?, day: day_of(day)? };
        ended.push((until, place, number_of(number)?));
    }
    Ok(ended)
}

/// Frees all holds of one space that have ended.
pub(super) fn free_space(batch: &mut Batch<'_>, space: SpaceKey) -> Result<(), Failure> {
    let mut days: BTreeMap<Place, Vec<SlotNumber>> = BTreeMap::new();
    for (_, place, number) in ended_holds(batch, space.bucket(), usize::MAX)? {
        if place.space == space {
            days.entry(place).or_default().push(number);
        }
    }
    for (place, mut numbers) in days {
        numbers.sort_unstable();
        free(batch, place, &numbers)?;
    }
    Ok(())
}

/// Removes entries from the index whose holds were freed, or whose records are unreadable.
fn forget_entries(
    batch: &mut Batch<'_>,
    bucket: Bucket,
    entries: Vec<(i64, Place, SlotNumber)>,
) -> Result<(), Failure> {
    for (until, place, number) in entries {
        let (site, space, day, slot) = slot_key(place.space, place.day, number);
        let key = (bucket.get(), until, site, space, day, slot);
        if batch.tables().hold_ends.get(key)?.is_some() {
            batch.write().hold_ends.remove(key)?;
        }
    }
    Ok(())
}

/// Frees slots of one day, and answers how many. A slot without an ended hold is left alone, and its entry is removed from
/// the index.
fn free(batch: &mut Batch<'_>, place: Place, numbers: &[SlotNumber]) -> Result<u64, Failure> {
    let mut records = batch.day_records(place)?;
    let now = batch.now();
    let changes: Vec<_> = numbers.iter().filter_map(|number| expire(*number, records.get(number)?, now)).collect();
    let before = before_changes(&records, &changes);
    let at = batch.write_changes(place, &mut records, &changes)?;
    let Place { space, day } = place;
    let done = Done { space, day, now, before: &before, changes: &changes, last: &at };
    super::journal::write(batch, space.bucket(), done.expirations())?;
    Ok(changes.len() as u64)
}

/// When the bucket's next hold ends, in milliseconds of the store's clock.
fn next_end(batch: &Batch<'_>, bucket: Bucket) -> Result<Option<i64>, Failure> {
    let bucket = bucket.get();
    let first = (bucket, i64::MIN, 0, 0, i32::MIN, 0);
    let last = (bucket, i64::MAX, u64::MAX, u64::MAX, i32::MAX, u16::MAX);
    let next = batch.tables().hold_ends.range(first..=last)?.next().transpose()?;
    Ok(next.map(|(key, _)| key.value().1))
}
