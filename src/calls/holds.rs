//! Reading one's own live holds.

use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::auth::Claims;
use crate::domain::{Day, HoldToken, Refusal, SiteId, SlotNumber, SpaceId, StoreTime, UserId};
use crate::store::HeldSlot;
use crate::store::refuse::unavailable;

/// The live holds of a user.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct HoldsAnswer {
    /// In order of space and day.
    pub holds: Vec<OwnHold>,
}

/// One hold: the slots of one day under one token.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OwnHold {
    /// What to present to book, release or extend it.
    #[schema(value_type = String)]
    pub hold_token: HoldToken,
    /// The space's site.
    #[schema(value_type = u64)]
    pub sede_id: SiteId,
    /// The space.
    #[schema(value_type = u64)]
    pub spazio_id: SpaceId,
    /// The local day.
    #[schema(value_type = String, format = Date)]
    pub date: Day,
    /// Ascending.
    #[schema(value_type = Vec<u16>)]
    pub slots: Vec<SlotNumber>,
    /// The earliest end of its slots, RFC 3339.
    #[schema(format = DateTime)]
    pub held_until: String,
    /// The same, under the name that boards use.
    #[serde(rename = "expires_at")]
    #[schema(format = DateTime)]
    pub expires_at: String,
}

/// The caller's live holds, one entry for each token.
pub async fn list_holds(app: &App, caller: &Claims) -> Result<HoldsAnswer, Refusal> {
    Ok(HoldsAnswer { holds: list_of(app, &caller.user).await? })
}

/// The live holds of a user, one entry for each token.
pub(super) async fn list_of(app: &App, user: &UserId) -> Result<Vec<OwnHold>, Refusal> {
    let held = app.store.holds_of(user).await.map_err(|error| unavailable(&error))?;
    Ok(group_by_token(held))
}

fn group_by_token(held: Vec<HeldSlot>) -> Vec<OwnHold> {
    let mut groups: Vec<(HeldSlot, Vec<SlotNumber>, StoreTime)> = Vec::new();
    for slot in held {
        let same = |first: &HeldSlot| first.token == slot.token && first.space == slot.space && first.day == slot.day;
        match groups.iter_mut().find(|(first, ..)| same(first)) {
            Some((_, slots, until)) => {
                slots.push(slot.slot);
                *until = (*until).min(slot.until);
            }
            None => groups.push((slot.clone(), vec![slot.slot], slot.until)),
        }
    }
    groups.into_iter().map(|(first, slots, until)| own_hold(first, slots, until)).collect()
}

fn own_hold(first: HeldSlot, slots: Vec<SlotNumber>, until: StoreTime) -> OwnHold {
    OwnHold {
        hold_token: first.token,
        sede_id: first.space.site,
        spazio_id: first.space.space,
        date: first.day,
        slots,
        held_until: until.rfc3339(),
        expires_at: until.rfc3339(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::SpaceKey;

    fn held(token: u8, slot: u64, until: i64) -> HeldSlot {
        HeldSlot {
            space: SpaceKey { site: SiteId::new(1).unwrap(), space: SpaceId::new(3).unwrap() },
            day: Day::parse("2026-11-25").unwrap(),
            slot: SlotNumber::new(slot).unwrap(),
            label: "09:00".into(),
            token: HoldToken::from_random([token; 16]),
            until: StoreTime::from_millis(until),
        }
    }

    #[test]
    fn slots_of_one_token_are_one_hold_with_the_earliest_end() {
        let holds = group_by_token(vec![held(1, 1, 2_000), held(2, 2, 5_000), held(1, 3, 1_000)]);
        assert_eq!(holds.len(), 2);
        assert_eq!(holds[0].slots.iter().map(|slot| slot.get()).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(holds[0].held_until, "1970-01-01T00:00:01.000Z");
        assert_eq!(holds[1].slots.len(), 1);
    }
}
