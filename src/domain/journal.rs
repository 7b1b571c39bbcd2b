//! The journal: who did what to which slots. An act leaves one entry, made of the records before and after it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::act::{SlotAct, SlotActKind};
use super::position::Position;
use super::rule::Change;
use super::slot::SlotState;
use super::{Actor, Day, SlotNumber, SlotRecord, SpaceKey, Status, StoreTime, UserId};

/// Who asked for an act, and with which request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The user of the token, even if the act is done for another user.
    pub user: UserId,
    /// The token's role.
    pub role: Option<Arc<str>>,
    /// The request's id: 1 to 64 letters, digits, `.`, `_` or `-`.
    pub request_id: Option<Arc<str>>,
}

/// What was done, as an entry says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JournalAct {
    /// Slots were held.
    Hold,
    /// A held slot was booked.
    Book,
    /// A held slot was released.
    Release,
    /// The end of a hold was moved.
    Extend,
    /// A hold ended. A sweeper or the next act on the slot found it.
    Expire,
    /// Staff set the status of slots.
    Update,
    /// A booked slot was released.
    Cancel,
    /// A space was registered, changed or removed.
    Space,
}

impl JournalAct {
    /// All of them.
    pub const ALL: [JournalAct; 8] = [
        JournalAct::Hold,
        JournalAct::Book,
        JournalAct::Release,
        JournalAct::Extend,
        JournalAct::Expire,
        JournalAct::Update,
        JournalAct::Cancel,
        JournalAct::Space,
    ];

    /// Its name on the wire and in what is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            JournalAct::Hold => "hold",
            JournalAct::Book => "book",
            JournalAct::Release => "release",
            JournalAct::Extend => "extend",
            JournalAct::Expire => "expire",
            JournalAct::Update => "update",
            JournalAct::Cancel => "cancel",
            JournalAct::Space => "space",
        }
    }

    /// The type of the event that backends are sent for it.
    pub const fn event_type(self) -> &'static str {
        match self {
            JournalAct::Hold => "slot.held",
            JournalAct::Book => "slot.booked",
            JournalAct::Release => "slot.released",
            JournalAct::Extend => "slot.extended",
            JournalAct::Expire => "slot.expired",
            JournalAct::Update => "slot.updated",
            JournalAct::Cancel => "slot.cancelled",
            JournalAct::Space => "space.changed",
        }
    }

    /// The act of a name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|act| act.as_str() == name)
    }
}

/// One entry. `P` is the type of people's names: a store keeps references instead of ids.
#[derive(Clone, Debug, PartialEq)]
pub struct JournalEntry<P = UserId> {
    /// When it was done, by the store's clock.
    pub at: StoreTime,
    /// What was done.
    pub act: JournalAct,
    /// Who did it; `None` for the end of a hold, which nobody does.
    pub actor: Option<JournalActor<P>>,
    /// Who has the slots afterwards; for freed slots, who had them. Of several people, the one of the first slot.
    pub user: Option<P>,
    /// From whom staff's act took slots.
    pub taken: Vec<Taken<P>>,
    /// The space.
    pub space: SpaceKey,
    /// The local day; `None` for a change of a space's schedule.
    pub date: Option<Day>,
    /// The slots, ascending; empty for a space's schedule.
    pub slots: Vec<SlotNumber>,
    /// The new status of the slots. If they differ, it is the status of the first slot.
    pub status: Option<Status>,
    /// The position of the act's last event.
    pub position: Position,
    /// The request's id.
    pub request_id: Option<Arc<str>>,
}

/// Who did something.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JournalActor<P = UserId> {
    /// The user; `None` if the store no longer knows it.
    pub id: Option<P>,
    /// The token's role.
    pub role: Option<Arc<str>>,
}

/// Slots that staff took from somebody.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Taken<P = UserId> {
    /// Who had them; `None` if the store no longer knows.
    #[serde(rename = "id_utente")]
    pub user: Option<P>,
    /// Ascending.
    pub slots: Vec<SlotNumber>,
}

impl<P> JournalEntry<P> {
    /// The entry's id, which never changes: `{epoch}-{sedeId}-{spazioId}-{version}`.
    pub fn id(&self) -> String {
        let Position { epoch, version } = &self.position;
        format!("{epoch}-{}-{}-{version}", self.space.site, self.space.space)
    }

    /// The same entry with other names for its people; `None` for a person who cannot be named.
    pub fn with_people<Q>(self, mut name: impl FnMut(P) -> Option<Q>) -> JournalEntry<Q> {
        let actor = self.actor.map(|actor| JournalActor { id: actor.id.and_then(&mut name), role: actor.role });
        let user = self.user.and_then(&mut name);
        let rename = |taken: Taken<P>| Taken { user: taken.user.and_then(&mut name), slots: taken.slots };
        let taken = self.taken.into_iter().map(rename).collect();
        let Self { at, act, space, date, slots, status, position, request_id, .. } = self;
        JournalEntry { at, act, actor, user, taken, space, date, slots, status, position, request_id }
    }

    /// Everybody whom the entry names.
    pub fn people(&self) -> impl Iterator<Item = &P> {
        let actor = self.actor.as_ref().and_then(|actor| actor.id.as_ref());
        actor.into_iter().chain(&self.user).chain(self.taken.iter().filter_map(|taken| taken.user.as_ref()))
    }
}

/// The form that clients get.
impl Serialize for JournalEntry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Wire<'a> {
            id: String,
            at: String,
            act: &'static str,
            actor: Option<&'a JournalActor>,
            id_utente: Option<&'a UserId>,
            #[serde(skip_serializing_if = "<[Taken]>::is_empty")]
            taken: &'a [Taken],
            #[serde(rename = "sedeId")]
            site: super::SiteId,
            #[serde(rename = "spazioId")]
            space: super::SpaceId,
            #[serde(skip_serializing_if = "Option::is_none")]
            date: Option<Day>,
            slots: &'a [SlotNumber],
            #[serde(skip_serializing_if = "Option::is_none")]
            status: Option<&'static str>,
            epoch: &'a str,
            version: u64,
            #[serde(rename = "requestId", skip_serializing_if = "Option::is_none")]
            request_id: Option<&'a str>,
        }
        Wire {
            id: self.id(),
            at: self.at.rfc3339(),
            act: self.act.as_str(),
            actor: self.actor.as_ref(),
            id_utente: self.user.as_ref(),
            taken: &self.taken,
            site: self.space.site,
            space: self.space.space,
            date: self.date,
            slots: &self.slots,
            status: self.status.map(Status::as_str),
            epoch: &self.position.epoch,
            version: self.position.version,
            request_id: self.request_id.as_deref(),
        }
        .serialize(serializer)
    }
}

/// What a script or a transaction knows when it has decided: the place, the time, and the last version.
#[derive(Clone, Copy, Debug)]
pub struct Done<'a> {
    /// The space.
    pub space: SpaceKey,
    /// The local day.
    pub day: Day,
    /// When.
    pub now: StoreTime,
    /// The day's records before the act.
    pub before: &'a BTreeMap<SlotNumber, SlotRecord>,
    /// The changes, in the order of their versions.
    pub changes: &'a [Change],
    /// The position of the last change.
    pub last: &'a Position,
}

impl Done<'_> {
    /// The entries of an act: first one for each user whose ended holds it found, then its own.
    pub fn entries_of_act(&self, act: &SlotAct) -> Vec<JournalEntry> {
        let mut entries = self.expirations();
        entries.extend(self.entry_of_act(act));
        entries
    }

    /// One entry for each user whose holds ended, in the order of their first slots.
    pub fn expirations(&self) -> Vec<JournalEntry> {
        let first_version = (self.last.version + 1).saturating_sub(self.changes.len() as u64);
        let mut entries: Vec<JournalEntry> = Vec::new();
        for (version, change) in (first_version..).zip(self.changes).filter(|(_, change)| change.freed) {
            let number = change.slot.number;
            let user = self.before.get(&number).and_then(|record| record.ended_hold(self.now)).map(|hold| &hold.user);
            match entries.iter_mut().find(|entry| entry.user.as_ref() == user) {
                Some(entry) => {
                    entry.slots.push(number);
                    entry.position.version = version;
                }
                None => entries.push(JournalEntry {
                    user: user.cloned(),
                    slots: vec![number],
                    status: Some(Status::Available),
                    ..self.entry(JournalAct::Expire, version)
                }),
            }
        }
        entries
    }

    fn entry_of_act(&self, act: &SlotAct) -> Option<JournalEntry> {
        let acted = self.acted();
        let first = acted.first()?;
        let owners_before = || acted.iter().filter_map(|change| self.owner_before(change.slot.number));
        let user = acted.iter().find_map(|change| owner_of(&change.state)).or_else(|| owners_before().next());
        let origin = act.origin.as_ref();
        Some(JournalEntry {
            actor: origin.map(|origin| JournalActor { id: Some(origin.user.clone()), role: origin.role.clone() }),
            user: user.cloned(),
            taken: self.taken_by(act),
            slots: acted.iter().map(|change| change.slot.number).collect(),
            status: Some(stored_status(&first.state)),
            request_id: origin.and_then(|origin| origin.request_id.clone()),
            ..self.entry(self.name_of(act, &acted), self.last.version)
        })
    }

    /// The act's own changes, without the ended holds that it found.
    fn acted(&self) -> Vec<&Change> {
        self.changes.iter().filter(|change| !change.freed).collect()
    }

    fn entry(&self, act: JournalAct, version: u64) -> JournalEntry {
        JournalEntry {
            at: self.now,
            act,
            actor: None,
            user: None,
            taken: Vec::new(),
            space: self.space,
            date: Some(self.day),
            slots: Vec::new(),
            status: None,
            position: Position { epoch: self.last.epoch.clone(), version },
            request_id: None,
        }
    }

    fn name_of(&self, act: &SlotAct, acted: &[&Change]) -> JournalAct {
        let was_booked = |change: &&Change| {
            let record = self.before.get(&change.slot.number);
            record.is_some_and(|record| matches!(record.state, SlotState::Booked { .. }))
        };
        match act.kind.journal_act() {
            JournalAct::Release if acted.iter().any(was_booked) => JournalAct::Cancel,
            name => name,
        }
    }

    /// The users from whom an act took slots. An update takes slots from everybody but the new user. A release takes
    /// them from everybody but the user for whom it was made.
    pub fn taken_by(&self, act: &SlotAct) -> Vec<Taken> {
        let named = match &act.kind {
            SlotActKind::Update { .. } | SlotActKind::Release { actor: Actor::Anyone, .. } => None,
            SlotActKind::Release { actor: Actor::User(user), .. } => Some(user),
            _ => return Vec::new(),
        };
        let own = act.origin.as_ref().map(|origin| &origin.user);
        let mut all: Vec<Taken> = Vec::new();
        for change in self.acted() {
            let Some(user) = self.owner_before(change.slot.number) else { continue };
            if [named, own, owner_of(&change.state)].contains(&Some(user)) {
                continue;
            }
            match all.iter_mut().find(|taken| taken.user.as_ref() == Some(user)) {
                Some(taken) => taken.slots.push(change.slot.number),
                None => all.push(Taken { user: Some(user.clone()), slots: vec![change.slot.number] }),
            }
        }
        all
    }

    /// Who held the slot live, or had booked it, before the act.
    fn owner_before(&self, number: SlotNumber) -> Option<&UserId> {
        let record = self.before.get(&number)?;
        if record.ended_hold(self.now).is_some() { None } else { owner_of(&record.state) }
    }
}

/// The entry of a change of a space's schedule.
pub fn entry_of_space(space: SpaceKey, origin: Option<&Origin>, at: &Position, now: StoreTime) -> JournalEntry {
    JournalEntry {
        at: now,
        act: JournalAct::Space,
        actor: origin.map(|origin| JournalActor { id: Some(origin.user.clone()), role: origin.role.clone() }),
        user: None,
        taken: Vec::new(),
        space,
        date: None,
        slots: Vec::new(),
        status: None,
        position: at.clone(),
        request_id: origin.and_then(|origin| origin.request_id.clone()),
    }
}

fn owner_of(state: &SlotState) -> Option<&UserId> {
    match state {
        SlotState::Held(hold) => Some(&hold.user),
        SlotState::Booked { user, .. } => user.as_ref(),
        SlotState::Available { .. } | SlotState::Blocked { .. } => None,
    }
}

/// The stored status, which is never `past` and does not tell whether a hold has ended.
fn stored_status(state: &SlotState) -> Status {
    match state {
        SlotState::Available { .. } => Status::Available,
        SlotState::Held(_) => Status::Occupied,
        SlotState::Booked { .. } => Status::Booked,
        SlotState::Blocked { .. } => Status::Blocked,
    }
}
