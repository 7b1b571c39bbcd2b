//! The notification to users from whom staff's act took slots.

use serde::Serialize;

use super::act::SlotAct;
use super::event::to_json;
use super::journal::{Done, Taken};
use super::slot::status_of;
use super::{Day, SiteId, SlotNumber, SpaceId, Status, UserId};

/// The payload of [`ServerEvent::SlotTaken`](super::ServerEvent::SlotTaken).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SlotTaken<'a> {
    /// The id of the act's entry in the journal.
    id: String,
    spazio_id: SpaceId,
    sede_id: SiteId,
    date: Day,
    slots: &'a [SlotNumber],
    status: &'static str,
    epoch: &'a str,
    version: u64,
}

/// The users who must be told of an act, each with the payload as JSON.
pub fn notices(done: &Done<'_>, act: &SlotAct) -> Vec<(UserId, String)> {
    if !act.kind.may_take() {
        return Vec::new();
    }
    let taken = done.taken_by(act).into_iter();
    taken.filter_map(|Taken { user, slots }| Some((user?, payload(done, &slots)?))).collect()
}

/// The payload about these slots; `None` without slots.
fn payload(done: &Done<'_>, slots: &[SlotNumber]) -> Option<String> {
    let (site, space, epoch, version) = (done.space.site, done.space.space, &done.last.epoch, done.last.version);
    Some(to_json(&SlotTaken {
        id: format!("{epoch}-{site}-{space}-{version}"),
        spazio_id: space,
        sede_id: site,
        date: done.day,
        slots,
        status: status_of_slot(done, *slots.first()?)?.as_str(),
        epoch,
        version,
    }))
}

/// The new status of a slot.
fn status_of_slot(done: &Done<'_>, number: SlotNumber) -> Option<Status> {
    let change = done.changes.iter().find(|change| !change.freed && change.slot.number == number)?;
    Some(status_of(&change.state, change.slot.start, done.now))
}
