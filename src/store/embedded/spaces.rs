//! Registering, changing and removing spaces.

use redb::ReadableTable;

use super::batch::{Batch, Place};
use super::failure::Failure;
use super::sweep;
use super::tables::{SlotKey, day_of, number_of, parse, parse_slot, space_range};
use crate::domain::journal::entry_of_space;
use crate::domain::schedule::ScheduleSpec;
use crate::domain::slot::Status;
use crate::domain::{Day, Position, SlotNumber, SlotRecord, SpaceKey, StoreTime};
use crate::store::{ApplyError, MessageKind, SpaceChange, Topic};

/// The table of spaces, in either kind of transaction.
pub(super) trait SpacesTable: ReadableTable<(u64, u64), (u64, Option<&'static str>)> {}

impl<T: ReadableTable<(u64, u64), (u64, Option<&'static str>)>> SpacesTable for T {}

/// Sets or removes a space's schedule. Refuses a change that would move a taken slot, or that was made for another schedule
/// than the present one.
pub(super) fn put_space(batch: &mut Batch<'_>, change: &SpaceChange) -> Result<Result<Position, ApplyError>, Failure> {
    let space = change.space;
    if revision(batch, space)? != change.revised_at {
        return Ok(Err(ApplyError::Stale));
    }
    let taken = read_taken(&batch.tables().slots, space, batch.now())?;
    let moves = taken.iter().filter(|(day, number, record)| change.kept_slot(*day, *number, record).is_none());
    let moves: Vec<_> = moves.map(|(day, number, _)| (*day, *number)).collect();
    if !moves.is_empty() {
        return Ok(Err(ApplyError::InUse(moves)));
    }
    let json = change.spec.as_ref().map(serde_json::to_string).transpose();
    let json = json.map_err(|error| Failure::BadRow(error.to_string()))?;
    sweep::free_space(batch, space)?;
    let at = batch.append(Topic::Space(space), MessageKind::SpaceChanged, |_| "null".into())?;
    rename(batch, change, taken, at.version)?;
    let (site, id) = (space.site.get(), space.space.get());
    let tables = batch.write();
    tables.spaces.insert((site, id), (at.version, json.as_deref()))?;
    if json.is_some() {
        tables.registered.insert((id, site), ())?;
    } else {
        tables.registered.remove((id, site))?;
    }
    let entry = entry_of_space(space, change.origin.as_ref(), &at, batch.now());
    super::journal::write(batch, space.bucket(), vec![entry])?;
    Ok(Ok(at))
}

/// Gives the remaining taken slots their new labels.
fn rename(batch: &mut Batch<'_>, change: &SpaceChange, taken: Vec<Taken>, version: u64) -> Result<(), Failure> {
    for (day, number, record) in taken {
        let label = change.kept_slot(day, number, &record).map(|slot| slot.label);
        if let Some(label) = label.filter(|label| *label != record.label) {
            batch.store_record(Place { space: change.space, day }, number, &SlotRecord { label, version, ..record })?;
        }
    }
    Ok(())
}

/// A slot that is held, booked or blocked.
pub(super) type Taken = (Day, SlotNumber, SlotRecord);

/// The slots of a space that start in the future and are held live, booked or blocked.
pub(super) fn read_taken(
    slots: &impl ReadableTable<SlotKey, &'static str>,
    space: SpaceKey,
    now: StoreTime,
) -> Result<Vec<Taken>, Failure> {
    let today = now.timestamp().to_zoned_datetime(jiff::tz::TimeZone::UTC).date();
    // A local day is at most one day off.
    let from = Day::from(today.yesterday().unwrap_or(today));
    let mut taken = Vec::new();
    for row in slots.range(space_range(space, from))? {
        let (key, record) = row?;
        let (_, _, day, number) = key.value();
        // The day's board shows an unreadable record as blocked and reports it.
        let Some(record) = parse_slot(record.value()) else { continue };
        let is_taken = matches!(record.status(now), Status::Occupied | Status::Booked | Status::Blocked);
        if is_taken && record.start > now {
            taken.push((day_of(day)?, number_of(number)?, record));
        }
    }
    Ok(taken)
}

/// The position of the schedule's last change; `None` if it never changed.
pub(super) fn revision(batch: &Batch<'_>, space: SpaceKey) -> Result<Option<Position>, Failure> {
    let version = read_revision(&batch.tables().spaces, space)?;
    Ok((version > 0).then(|| batch.position(version)))
}

/// The version of the schedule's last change; 0 if it never changed.
pub(super) fn read_revision(spaces: &impl SpacesTable, space: SpaceKey) -> Result<u64, Failure> {
    let row = spaces.get((space.site.get(), space.space.get()))?;
    Ok(row.map_or(0, |row| row.value().0))
}

/// The schedule; `None` if the space is not registered.
pub(super) fn read_schedule(spaces: &impl SpacesTable, space: SpaceKey) -> Result<Option<ScheduleSpec>, Failure> {
    let Some(row) = spaces.get((space.site.get(), space.space.get()))? else { return Ok(None) };
    let (_, json) = row.value();
    json.map(|json| parse(json, "spaces", space)).transpose()
}
