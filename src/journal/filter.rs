//! Selects the entries that a reader wants.

use std::collections::BTreeSet;

use crate::domain::{Bucket, Day, JournalAct, JournalEntry, SiteId, SpaceId, SpaceKey, StoreTime, UserId};

/// An entry passes if it matches everything that is set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// The sites of the space.
    pub sites: Option<BTreeSet<SiteId>>,
    /// The id of the space.
    pub space: Option<SpaceId>,
    /// A user who has or had the slots, or from whom they were taken.
    pub user: Option<UserId>,
    /// The acts.
    pub acts: Option<BTreeSet<JournalAct>>,
    /// The entry's earliest instant.
    pub from: Option<StoreTime>,
    /// The instant before which the entry was written.
    pub until: Option<StoreTime>,
}

impl Filter {
    /// Whether an entry fits.
    pub fn wants(&self, entry: &JournalEntry) -> bool {
        let is_of_user = |user: &UserId| {
            entry.user.as_ref() == Some(user) || entry.taken.iter().any(|taken| taken.user.as_ref() == Some(user))
        };
        self.sites.as_ref().is_none_or(|sites| sites.contains(&entry.space.site))
            && self.space.is_none_or(|space| space == entry.space.space)
            && self.user.as_ref().is_none_or(is_of_user)
            && self.acts.as_ref().is_none_or(|acts| acts.contains(&entry.act))
            && self.from.is_none_or(|from| from <= entry.at)
            && self.until.is_none_or(|until| entry.at < until)
    }

    /// The buckets that may have matching entries, ascending.
    pub fn buckets(&self) -> Vec<Bucket> {
        match (&self.sites, self.space) {
            (Some(sites), Some(space)) => {
                let buckets: BTreeSet<Bucket> =
                    sites.iter().map(|site| SpaceKey { site: *site, space }.bucket()).collect();
                buckets.into_iter().collect()
            }
            _ => Bucket::all().collect(),
        }
    }
}

/// The acts in a list with commas; `None` if a word is not an act.
pub fn parse_acts(text: &str) -> Option<BTreeSet<JournalAct>> {
    text.split(',').map(JournalAct::parse).collect()
}

/// The first and the last instant of a bound: a day in UTC, `2026-11-30`, or an instant, `2026-11-30T12:00:00Z`, which is
/// both. `None` for anything else.
pub fn parse_bound(text: &str) -> Option<(StoreTime, StoreTime)> {
    if let Some(day) = Day::parse(text) {
        return Some((midnight_of(Some(day.date())), midnight_of(day.date().tomorrow().ok())));
    }
    let instant: jiff::Timestamp = text.parse().ok()?;
    let instant = StoreTime::from(instant);
    Some((instant, instant))
}

/// When a day begins in UTC. A day beyond the calendar begins at its end.
fn midnight_of(date: Option<jiff::civil::Date>) -> StoreTime {
    let midnight = date.and_then(|date| date.at(0, 0, 0, 0).to_zoned_datetime(jiff::tz::TimeZone::UTC).ok());
    midnight.map_or(StoreTime::from_millis(i64::MAX), |midnight| midnight.timestamp().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_a_day_or_an_instant() {
        let at = |text: &str| StoreTime::from(text.parse::<jiff::Timestamp>().unwrap());
        assert_eq!(parse_bound("2026-11-30"), Some((at("2026-11-30T00:00:00Z"), at("2026-12-01T00:00:00Z"))));
        let noon = at("2026-11-30T12:00:00Z");
        for text in ["2026-11-30T12:00:00Z", "2026-11-30T13:00:00+01:00", "2026-11-30T12:00:00.000Z"] {
            assert_eq!(parse_bound(text), Some((noon, noon)), "{text}");
        }
        assert_eq!(parse_bound("9999-12-31").unwrap().1, StoreTime::from_millis(i64::MAX));
        assert!(parse_bound("0000-01-01").is_some());
        for bad in ["", "yesterday", "2026-11-31", "2026-11-30T12:00", "1795900000"] {
            assert_eq!(parse_bound(bad), None, "{bad}");
        }
    }

    #[test]
    fn acts_are_a_list() {
        assert_eq!(parse_acts("book,cancel").map(|acts| acts.len()), Some(2));
        for bad in ["", "book,", "dance", "Book"] {
            assert_eq!(parse_acts(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_space_of_known_sites_is_in_few_buckets() {
        let one =
            Filter { sites: Some([SiteId::new(1).unwrap()].into()), space: SpaceId::new(12), ..Filter::default() };
        let key = SpaceKey { site: SiteId::new(1).unwrap(), space: SpaceId::new(12).unwrap() };
        assert_eq!(one.buckets(), [key.bucket()]);
        assert_eq!(Filter::default().buckets().len(), 128);
        assert!(Filter { sites: Some(BTreeSet::new()), ..one }.buckets().is_empty());
    }
}
