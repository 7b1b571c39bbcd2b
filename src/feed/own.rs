//! What only the user of a slot is told. An update or a snapshot is made once for everybody, and once more for the sockets
//! of each user who has one of its slots.
//!
//! **Invariant:** nobody else's payload changes by a byte because a user has the slot.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::value::RawValue;

use super::Member;
use super::payload::raw;
use crate::domain::event::{DayText, own_slot_update};
use crate::domain::own::{OwnMembers, insert_own};
use crate::domain::{OwnTerms, Owned, Refusal, SlotNumber, UserId};
use crate::store::{DayState, Message};

/// The most bytes of payload that an update has for a member.
pub(super) fn bytes_to(message: &Message, member: &dyn Member) -> usize {
    let own = owner_for(message, member).map_or(0, OwnMembers::most_bytes);
    message.payload.get().len() + own
}

fn owner_for<'a>(message: &'a Message, member: &dyn Member) -> Option<&'a Owned> {
    let owned = message.owned.as_deref()?;
    (member.user() == Some(&owned.user)).then_some(owned)
}

/// One update, while it is sent to the members of a room.
pub(super) struct OwnUpdate<'a> {
    message: &'a Message,
    terms: OwnTerms,
    /// The owner's payload, made for the first socket of the owner.
    own: Option<Box<RawValue>>,
}

impl<'a> OwnUpdate<'a> {
    pub(super) fn new(message: &'a Message, terms: OwnTerms) -> Self {
        Self { message, terms, own: None }
    }

    pub(super) fn send_to(&mut self, member: &dyn Member) {
        let Some(owned) = owner_for(self.message, member) else {
            member.send("slot_update", &self.message.payload);
            return;
        };
        if self.own.is_none() {
            let json = own_slot_update(self.message.payload.get(), owned, self.terms);
            self.own = json.and_then(|json| RawValue::from_string(json).ok());
        }
        member.send("slot_update", self.own.as_deref().unwrap_or(&self.message.payload));
    }
}

/// The users of a day's slots, as far as nodes are told.
#[derive(Debug, Default)]
pub(super) struct Owners(BTreeMap<SlotNumber, Arc<Owned>>);

impl Owners {
    /// The owners on a day as the store has it.
    pub(super) fn of(state: &DayState) -> Self {
        let owned = state.records.iter().filter_map(|(number, record)| {
            let owned = Owned::of(&record.state, record.start)?;
            Some((*number, Arc::new(owned)))
        });
        Self(owned.collect())
    }

    /// Applies what an update says of a slot's user.
    pub(super) fn set(&mut self, slot: SlotNumber, owned: Option<Arc<Owned>>) {
        match owned {
            Some(owned) => self.0.insert(slot, owned),
            None => self.0.remove(&slot),
        };
    }
}

/// The `slots_status_update` of a day.
#[derive(Debug)]
pub(super) struct DaySnapshot {
    payload: Arc<RawValue>,
    /// The slots of each user, with their places in the payload, ascending.
    own: HashMap<UserId, Vec<(usize, Arc<Owned>)>>,
    terms: OwnTerms,
}

impl DaySnapshot {
    pub(super) fn new(text: DayText, owners: &Owners, terms: OwnTerms) -> Result<Self, Refusal> {
        let mut own: HashMap<UserId, Vec<(usize, Arc<Owned>)>> = HashMap::new();
        for (slot, place) in &text.taken {
            if let Some(owned) = owners.0.get(slot) {
                own.entry(owned.user.clone()).or_default().push((*place, owned.clone()));
            }
        }
        Ok(Self { payload: raw(text.json)?, own, terms })
    }

    pub(super) fn send_to(&self, member: &dyn Member) {
        let own = member.user().and_then(|user| self.own.get(user)).and_then(|slots| self.with_own(slots));
        member.send("slots_status_update", own.as_deref().unwrap_or(&self.payload));
    }

    fn with_own(&self, slots: &[(usize, Arc<Owned>)]) -> Option<Box<RawValue>> {
        let own = slots.iter().map(|(place, owned)| (*place, OwnMembers::new(owned, self.terms)));
        RawValue::from_string(insert_own(self.payload.get(), own)?).ok()
    }
}
