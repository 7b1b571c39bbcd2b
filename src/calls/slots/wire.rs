//! The requests and answers of the acts on slots, as JSON.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::calls::act_log::About;
use crate::domain::{HoldToken, SiteId, SlotNumber, SpaceId, SpaceKey, UserId};

/// One or more slots of one day to hold, book, release or extend: all of them, or none.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SlotsRequest {
    /// The space; `spazioId` is taken too.
    #[serde(rename = "idSpazio", alias = "spazioId")]
    #[schema(value_type = u64, minimum = 1)]
    pub space: SpaceId,
    /// The space's site.
    #[serde(rename = "sedeId")]
    #[schema(value_type = u64, minimum = 1)]
    pub site: SiteId,
    /// The local day, `YYYY-MM-DD`.
    #[schema(format = Date)]
    pub date: String,
    /// 1 to 32 distinct numbers, in any order.
    #[schema(value_type = Vec<u16>, min_items = 1, max_items = 32)]
    pub slots: Vec<SlotNumber>,
    /// Hold and extend: a whole number from 1 to the duration of the space or else of the configuration, which is the default.
    #[schema(value_type = Option<u32>, minimum = 1)]
    pub hold_seconds: Option<Value>,
    /// Book, release and extend: only if the hold is still the one with this token.
    #[schema(value_type = Option<String>, max_length = 128)]
    pub hold_token: Option<HoldToken>,
    /// Role `servizio`: the user to act for, a number or text.
    #[serde(rename = "id_utente")]
    #[schema(value_type = Option<Value>)]
    pub user: Option<UserId>,
}

impl SlotsRequest {
    /// The parts of the request that the log names.
    pub(in crate::calls) fn about(&self) -> About<'_> {
        let space = SpaceKey { site: self.site, space: self.space };
        About { space, date: Some(&self.date), slots: &self.slots, user: self.user.as_ref() }
    }
}

/// One slot of one day, named elsewhere, to hold, book, release or extend.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SlotRequest {
    /// The space; `spazioId` is taken too.
    #[serde(rename = "idSpazio", alias = "spazioId")]
    #[schema(value_type = u64, minimum = 1)]
    pub space: SpaceId,
    /// The space's site.
    #[serde(rename = "sedeId")]
    #[schema(value_type = u64, minimum = 1)]
    pub site: SiteId,
    /// The local day, `YYYY-MM-DD`.
    #[schema(format = Date)]
    pub date: String,
    /// Hold and extend: a whole number from 1 to the duration of the space or else of the configuration, which is the default.
    #[schema(value_type = Option<u32>, minimum = 1)]
    pub hold_seconds: Option<Value>,
    /// Book, release and extend: only if the hold is still the one with this token.
    #[schema(value_type = Option<String>, max_length = 128)]
    pub hold_token: Option<HoldToken>,
    /// Role `servizio`: the user to act for, a number or text.
    #[serde(rename = "id_utente")]
    #[schema(value_type = Option<Value>)]
    pub user: Option<UserId>,
}

impl SlotRequest {
    /// The same request for the slot of this number.
    pub fn of_slot(self, number: SlotNumber) -> SlotsRequest {
        let Self { space, site, date, hold_seconds, hold_token, user } = self;
        SlotsRequest { space, site, date, slots: vec![number], hold_seconds, hold_token, user }
    }
}

/// The result of an act.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct SlotsAnswer {
    /// The slots that were named.
    #[serde(flatten)]
    pub slots: SlotIds,
    /// The new status of the slots.
    #[schema(example = "occupied")]
    pub status: &'static str,
    /// The hold, after hold and extend.
    #[serde(flatten)]
    #[schema(inline)]
    pub hold: Option<HeldUntil>,
    /// The space's epoch.
    pub epoch: String,
    /// The version of the last event that the act caused.
    pub version: u64,
}

impl SlotsAnswer {
    /// The same answer, for a call that names one slot in its path.
    pub fn of_one_slot(self) -> Self {
        let slots = match &self.slots {
            SlotIds::Many(numbers) => match numbers.as_slice() {
                [number] => SlotIds::One(*number),
                _ => self.slots,
            },
            SlotIds::One(_) => self.slots,
        };
        Self { slots, ..self }
    }
}

/// The slots of an answer, as they were asked for: one by itself, or a list.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub enum SlotIds {
    /// The one slot of a call about one slot.
    #[serde(rename = "slotId")]
    #[schema(value_type = u16)]
    One(SlotNumber),
    /// Ascending.
    #[serde(rename = "slots")]
    #[schema(value_type = Vec<u16>)]
    Many(Vec<SlotNumber>),
}

/// The end and the token of a hold.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeldUntil {
    /// The earliest end of the held slots, RFC 3339.
    #[schema(format = DateTime)]
    pub held_until: String,
    /// The same, under the name that boards use.
    #[serde(rename = "expires_at")]
    #[schema(format = DateTime)]
    pub expires_at: String,
    /// What its owner presents to book, release or extend.
    #[schema(value_type = String)]
    pub hold_token: HoldToken,
}
