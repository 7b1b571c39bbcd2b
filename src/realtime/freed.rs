//! `slots_freed`: tells sockets which slots are free because their holds have ended.

use std::collections::{BTreeSet, HashMap};

use serde::Serialize;
use serde_json::value::RawValue;

use super::Shared;
use crate::config::FreedTo;
use crate::domain::event::to_raw_json;
use crate::domain::{ServerEvent, SiteId, SpaceKey, StoreTime};
use crate::feed::buckets::FreedSummary;
use crate::store::FreedSlots;

/// How many spaces and days one `slots_freed` lists.
const FREED_SPACES: usize = 500;

/// Tells the sockets of this node which slots were freed within a second.
pub(super) fn tell(shared: &Shared, freed: &FreedSummary) {
    let now = shared.app.clock.now();
    match shared.app.config.holds.freed_to {
        FreedTo::Everyone => tell_everyone(shared, freed, now),
        FreedTo::Rooms => tell_rooms(shared, freed, now),
    }
}

fn tell_everyone(shared: &Shared, freed: &FreedSummary, now: StoreTime) {
    let mut payloads = Payloads::new(freed, now);
    let mut recipients = 0;
    for session in shared.sessions.all() {
        let claims = session.claims();
        let Some(payload) = payloads.of(claims.sites.as_ref()) else { continue };
        recipients += usize::from(session.emit(ServerEvent::SlotsFreed.as_str(), payload));
    }
    tracing::info!(event.name = ServerEvent::SlotsFreed.as_str(), room = "*", recipients, "broadcast");
}

fn tell_rooms(shared: &Shared, freed: &FreedSummary, now: StoreTime) {
    let mut by_space: HashMap<SpaceKey, Vec<&FreedSlots>> = HashMap::new();
    for (space, slots) in &freed.spaces {
        by_space.entry(*space).or_default().push(slots);
    }
    for session in shared.sessions.all() {
        let own = session.spaces().into_iter().filter_map(|space| by_space.get(&space)).flatten();
        let own: Vec<&FreedSlots> = own.copied().collect();
        if let Some(payload) = payload_of(count_slots(&own), own, false, now) {
            session.emit(ServerEvent::SlotsFreed.as_str(), &payload);
        }
    }
}

/// The payloads of one second. Each is made when the first socket needs it. Tokens with the same `sedi` share one.
struct Payloads<'a> {
    freed: &'a FreedSummary,
    now: StoreTime,
    of_all: Option<Box<RawValue>>,
    of_sites: HashMap<BTreeSet<SiteId>, Option<Box<RawValue>>>,
}

impl<'a> Payloads<'a> {
    fn new(freed: &'a FreedSummary, now: StoreTime) -> Self {
        let all = freed.spaces.iter().map(|(_, slots)| slots).collect();
        Self { freed, now, of_all: payload_of(freed.count, all, freed.unnamed > 0, now), of_sites: HashMap::new() }
    }

    /// The payload for a token with these `sedi`; `None` if nothing was freed in them.
    fn of(&mut self, sites: Option<&BTreeSet<SiteId>>) -> Option<&RawValue> {
        let Some(sites) = sites else { return self.of_all.as_deref() };
        if !self.of_sites.contains_key(sites) {
            let own = self.freed.spaces.iter().filter(|(space, _)| sites.contains(&space.site));
            let own: Vec<&FreedSlots> = own.map(|(_, slots)| slots).collect();
            let payload = payload_of(count_slots(&own), own, self.freed.unnamed > 0, self.now);
            self.of_sites.insert(sites.clone(), payload);
        }
        self.of_sites.get(sites)?.as_deref()
    }
}

fn count_slots(spaces: &[&FreedSlots]) -> u64 {
    spaces.iter().map(|slots| slots.slots.len() as u64).sum()
}

/// The payload about these slots; `None` if there are none. Slots beyond the longest list are only counted. Slots
/// without names are only counted, too, because nobody can tell whether they are in a token's sites.
fn payload_of(count: u64, mut spaces: Vec<&FreedSlots>, has_unnamed: bool, now: StoreTime) -> Option<Box<RawValue>> {
    #[derive(Serialize)]
    struct SlotsFreed<'a> {
        r#type: &'static str,
        count: u64,
        timestamp: String,
        spaces: Vec<&'a FreedSlots>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        truncated: bool,
    }
    if count == 0 {
        return None;
    }
    let truncated = has_unnamed || spaces.len() > FREED_SPACES;
    spaces.truncate(FREED_SPACES);
    Some(to_raw_json(&SlotsFreed {
        r#type: ServerEvent::SlotsFreed.as_str(),
        count,
        timestamp: now.rfc3339(),
        spaces,
        truncated,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Day, SlotNumber, SpaceId};

    fn freed(site: u64, space: u64, slots: &[u64]) -> FreedSlots {
        FreedSlots {
            space: SpaceId::new(space).unwrap(),
            site: SiteId::new(site).unwrap(),
            date: Day::parse("2026-11-23").unwrap(),
            slots: slots.iter().map(|slot| SlotNumber::new(*slot).unwrap()).collect(),
        }
    }

    fn summary(all: Vec<FreedSlots>) -> FreedSummary {
        let count = all.iter().map(|slots| slots.slots.len() as u64).sum();
        let keyed = |slots: FreedSlots| (SpaceKey { site: slots.site, space: slots.space }, slots);
        FreedSummary { count, unnamed: 0, spaces: all.into_iter().map(keyed).collect() }
    }

    /// The part of the payload that a test compares: the count, and the site and space of each entry.
    fn told(payloads: &mut Payloads, sites: Option<&[u64]>) -> Option<(u64, Vec<(u64, u64)>)> {
        let sites = sites.map(|sites| sites.iter().map(|site| SiteId::new(*site).unwrap()).collect());
        let payload: serde_json::Value = serde_json::from_str(payloads.of(sites.as_ref())?.get()).unwrap();
        let number = |value: &serde_json::Value| value.as_u64().unwrap();
        let entries = payload["spaces"].as_array().unwrap();
        let spaces = entries.iter().map(|entry| (number(&entry["sedeId"]), number(&entry["spazioId"]))).collect();
        Some((number(&payload["count"]), spaces))
    }

    #[test]
    fn a_token_with_sites_hears_of_these_alone() {
        let freed = summary(vec![freed(1, 1, &[1, 2]), freed(1, 2, &[3]), freed(2, 1, &[4])]);
        let mut payloads = Payloads::new(&freed, StoreTime::from_millis(0));
        assert_eq!(told(&mut payloads, None), Some((4, vec![(1, 1), (1, 2), (2, 1)])));
        assert_eq!(told(&mut payloads, Some(&[1])), Some((3, vec![(1, 1), (1, 2)])));
        assert_eq!(told(&mut payloads, Some(&[2, 7])), Some((1, vec![(2, 1)])));
        assert_eq!(told(&mut payloads, Some(&[1, 2])), Some((4, vec![(1, 1), (1, 2), (2, 1)])));
        assert_eq!(told(&mut payloads, Some(&[7])), None, "never with count 0");
        assert_eq!(told(&mut payloads, Some(&[])), None);
    }

    #[test]
    fn the_list_is_cut_at_500_and_the_count_is_not() {
        let told = |spaces: u64| {
            let freed: Vec<FreedSlots> = (1..=spaces).map(|space| freed(1, space, &[1])).collect();
            let json = payload_of(spaces, freed.iter().collect(), false, StoreTime::from_millis(0)).unwrap();
            let json: serde_json::Value = serde_json::from_str(json.get()).unwrap();
            (json["count"].as_u64(), json["spaces"].as_array().map(Vec::len), json["truncated"].as_bool())
        };
        assert_eq!(told(500), (Some(500), Some(500), None));
        assert_eq!(told(501), (Some(501), Some(500), Some(true)));
    }
}
