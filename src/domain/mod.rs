//! What a slot is and what may happen to it. Pure: no I/O, no async, no clock.
//!
//! - [`ids`]: spaces, sites, users, slot numbers, and the buckets that they hash into.
//! - [`object`]: JSON objects that are never read from an array.
//! - [`time`]: instants of the store's clock, days.
//! - [`schedule`]: opening times and the slots of a local day.
//! - [`slot`]: what is stored for a slot, and the status that follows from it and the clock.
//! - [`act`]: what a caller asks for, parsed and resolved against the schedule.
//! - [`rule`]: the state machine, one table: what an act does to what it finds.
//! - [`journal`]: who did what, as the journal has it.
//! - [`position`]: where something stands among the changes of a topic.
//! - [`event`]: the JSON that every client receives.
//! - [`own`]: what only the user of a slot is told of it.
//! - [`public`]: what everybody may know of a slot, and how it follows from the events.
//! - [`refusal`]: every way to say no, with its code.
//! - [`wire`]: the names of events and acts.

pub mod act;
pub mod event;
pub mod ids;
pub mod journal;
pub mod object;
pub mod own;
pub mod position;
pub mod public;
pub mod refusal;
pub mod rule;
pub mod schedule;
pub mod slot;
pub mod taken;
pub mod time;
pub mod wire;

pub use act::{Actor, SlotAct, SlotActKind, SlotTime};
pub use ids::{Bucket, HoldToken, SiteId, SlotNumber, SpaceId, SpaceKey, UserId};
pub use journal::{JournalAct, JournalEntry, Origin};
pub use object::Object;
pub use own::{OwnTerms, Owned};
pub use position::Position;
pub use public::{PublicChange, PublicDay, PublicSlot, PublicState};
pub use refusal::{Code, Refusal};
pub use schedule::Schedule;
pub use slot::{SlotData, SlotRecord, Status};
pub use time::{Day, StoreTime};
pub use wire::{Act, ClientEvent, ServerEvent};
