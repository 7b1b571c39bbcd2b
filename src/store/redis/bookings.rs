//! Bookings: by user, and by day of a site.

use futures_util::future::try_join_all;

use super::RedisStore;
use super::call::Budget;
use super::keys::{compact, space_key};
use super::reads::{bad_value, lex_ranges};
use super::record::parse_time;
use crate::domain::{Bucket, Day, SiteId, SlotNumber, SpaceId, UserId};
use crate::store::{BookedSlot, StoreError};

pub(super) async fn bookings_of(
    store: &RedisStore,
    user: &UserId,
    from: Day,
    to: Day,
) -> Result<Vec<BookedSlot>, StoreError> {
    store.require_indexes().await?;
    // A vertical tab sorts right after a line end, so this range has no other day's bookings.
    let (first, last) = (format!("[{user}\n{from}"), format!("({user}\n{to}\u{b}"));
    let members = lex_ranges(store, |bucket| store.keys.bookings(bucket), &first, &last).await?;
    let booked = members.iter().map(|member| parse_booking(member).ok_or_else(|| bad_value("an index of bookings")));
    booked.collect()
}

fn parse_booking(member: &str) -> Option<BookedSlot> {
    let mut lines = member.splitn(9, '\n').skip(1);
    let mut line = || lines.next();
    let (day, site, space, slot) = (line()?, line()?, line()?, line()?);
    let (start, end, label, booked_at) = (line()?, line()?, line()?, line()?);
    Some(BookedSlot {
        space: space_key(site, space)?,
        day: Day::parse(day)?,
        slot: SlotNumber::new(slot.parse().ok()?)?,
        label: label.into(),
        start: parse_time(start)?,
        end: parse_time(end)?,
        booked_at: parse_time(booked_at),
    })
}

pub(super) async fn spaces_on(store: &RedisStore, site: SiteId, day: Day) -> Result<Vec<SpaceId>, StoreError> {
    store.require_indexes().await?;
    let (budget, day) = (Budget::of_a_call(), compact(day));
    let ranges = Bucket::all().map(|bucket| {
        let mut range = redis::cmd("ZRANGEBYSCORE");
        range.arg(store.keys.places(bucket)).arg(&day).arg(&day);
        async move {
            let members = store.runner.command("zrangebyscore", &range, budget).await?;
            redis::from_redis_value::<Vec<String>>(members).map_err(|_| bad_value("an index of days"))
        }
    });
    let mut spaces = Vec::new();
    for member in try_join_all(ranges).await?.concat() {
        let mut parts = member.split(':');
        let place = parts.next().zip(parts.next()).and_then(|(site, space)| space_key(site, space));
        let place = place.ok_or_else(|| bad_value("an index of days"))?;
        if place.site == site {
            spaces.push(place.space);
        }
    }
    spaces.sort_unstable();
    Ok(spaces)
}
