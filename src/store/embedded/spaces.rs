//! Registering, changing and removing spaces.

use redb::ReadableTable;

use super::batch::Batch;
use super::failure::Failure;
use super::tables::parse;
use crate::domain::journal::entry_of_space;
use crate::domain::schedule::ScheduleSpec;
use crate::domain::{Origin, Position, SpaceKey};
use crate::store::{ApplyError, MessageKind, Topic};

/// The table of spaces, in either kind of transaction.
pub(super) trait SpacesTable: ReadableTable<(u64, u64), (u64, Option<&'static str>)> {}

impl<T: ReadableTable<(u64, u64), (u64, Option<&'static str>)>> SpacesTable for T {}

/// Sets or removes a space's schedule, unless the space is no more where it is `expected`.
pub(super) fn put_space(
    batch: &mut Batch<'_>,
    space: SpaceKey,
    schedule: Option<&ScheduleSpec>,
    expected: &Position,
    origin: Option<&Origin>,
) -> Result<Result<Position, ApplyError>, Failure> {
    let topic = Topic::Space(space);
    if batch.head(topic)? != *expected {
        return Ok(Err(ApplyError::Stale));
    }
    let json = schedule.map(serde_json::to_string).transpose();
    let json = json.map_err(|error| Failure::BadRow(error.to_string()))?;
    let at = batch.append(topic, MessageKind::SpaceChanged, |_| "null".into())?;
    let (site, id) = (space.site.get(), space.space.get());
    let tables = batch.write();
    tables.spaces.insert((site, id), (at.version, json.as_deref()))?;
    if json.is_some() {
        tables.registered.insert((id, site), ())?;
    } else {
        tables.registered.remove((id, site))?;
    }
    let entry = entry_of_space(space, origin, &at, batch.now());
    super::journal::write(batch, space.bucket(), vec![entry])?;
    Ok(Ok(at))
}

/// Where the space's schedule last changed; `None` when it never did.
pub(super) fn revision(batch: &Batch<'_>, space: SpaceKey) -> Result<Option<Position>, Failure> {
    let version = read_revision(&batch.tables().spaces, space)?;
    Ok((version > 0).then(|| batch.position(version)))
}

/// The version at which the space's schedule last changed; 0 when it never did.
pub(super) fn read_revision(spaces: &impl SpacesTable, space: SpaceKey) -> Result<u64, Failure> {
    let row = spaces.get((space.site.get(), space.space.get()))?;
    Ok(row.map_or(0, |row| row.value().0))
}

/// The schedule; `None` when nobody registered the space.
pub(super) fn read_schedule(spaces: &impl SpacesTable, space: SpaceKey) -> Result<Option<ScheduleSpec>, Failure> {
    let Some(row) = spaces.get((space.site.get(), space.space.get()))? else { return Ok(None) };
    let (_, json) = row.value();
    json.map(|json| parse(json, "spaces", space)).transpose()
}
