//! What is announced, and what is heard: topics and their messages.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

#[cfg(doc)]
use super::SlotStore;
use crate::domain::{Bucket, Day, Owned, Position, SiteId, SlotNumber, SpaceId, SpaceKey, StoreTime, UserId};

/// What is heard of a topic.
#[derive(Clone, Debug)]
pub enum Signal {
    /// Announced, perhaps not in order, perhaps twice.
    Message(Message),
    /// Something may have been missed: read the log.
    Lagged,
}

/// A stream of messages: one a space, one a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// Changes of one space.
    Space(SpaceKey),
    /// Freed slots, messages to users and commands of a bucket; messages to everyone in [`Bucket::EVERYONE`].
    Bucket(Bucket),
}

impl Topic {
    /// The bucket that it lives in.
    pub fn bucket(self) -> Bucket {
        match self {
            Topic::Space(space) => space.bucket(),
            Topic::Bucket(bucket) => bucket,
        }
    }
}

/// One announced message: as live, so in the log.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its place in its topic. Messages that are never kept ([`MessageKind::is_kept`]) bear the topic's head.
    pub at: Position,
    /// What it is about.
    pub kind: MessageKind,
    /// Ready JSON, its shape given by the kind.
    pub payload: Arc<RawValue>,
    /// Of a [`MessageKind::SlotUpdate`]: who has the slot from then on. For nodes, which tell nobody else. Not known of what
    /// 0.1 wrote.
    pub owned: Option<Arc<Owned>>,
    /// When it was written, by the store's clock, where that is known: by this two that say the same are told apart.
    pub written: Option<StoreTime>,
}

/// What a message is about, and so what its payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageKind {
    /// In a space: the payload of `slot_update`, for clients as it is.
    SlotUpdate,
    /// In a space: its schedule changed; `null`. Everyone who watches gets a snapshot.
    SpaceChanged,
    /// In a space: staff wants a day's board sent; [`ShowBoard`]. Not kept.
    ShowBoard,
    /// In a bucket: [`FreedSlots`].
    Freed,
    /// In a bucket: [`UserMessage`].
    User,
    /// In bucket 0: [`EveryoneMessage`].
    Everyone,
    /// In a bucket: [`DisconnectUser`]. Not kept.
    Disconnect,
}

impl MessageKind {
    /// Its name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            MessageKind::SlotUpdate => "slot_update",
            MessageKind::SpaceChanged => "space_changed",
            MessageKind::ShowBoard => "show_board",
            MessageKind::Freed => "freed",
            MessageKind::User => "user",
            MessageKind::Everyone => "everyone",
            MessageKind::Disconnect => "disconnect",
        }
    }

    /// Whether the message takes a version and goes into the log.
    pub const fn is_kept(self) -> bool {
        !matches!(self, MessageKind::ShowBoard | MessageKind::Disconnect)
    }
}

/// Slots of one day that one act or sweep freed because their holds ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FreedSlots {
    /// The space.
    #[serde(rename = "spazioId")]
    pub space: SpaceId,
    /// Its site.
    #[serde(rename = "sedeId")]
    pub site: SiteId,
    /// The day.
    pub date: Day,
    /// Ascending.
    pub slots: Vec<SlotNumber>,
}

/// A notification to one user.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UserMessage {
    /// To whom.
    pub user: UserId,
    /// Ascending among the messages of the user, and never given twice, also where the store lost some.
    pub sequence: u64,
    /// The event's name.
    pub event: String,
    /// Its payload, unchanged.
    pub data: Box<RawValue>,
}

/// A message to every client on every node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EveryoneMessage {
    /// The event's name.
    pub event: String,
    /// Its payload, unchanged.
    pub data: Box<RawValue>,
}

/// A command: close the sockets of a user that connected before an instant.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DisconnectUser {
    /// Whose sockets.
    pub user: UserId,
    /// The store's time of the command.
    pub before: StoreTime,
}

/// A command: send a day's board to the room.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ShowBoard {
    /// The day.
    pub date: Day,
}

/// What [`SlotStore::publish`] announces.
#[derive(Clone, Debug)]
pub enum Publication {
    /// Appends to the user's log and announces [`MessageKind::User`].
    ToUser {
        /// To whom.
        user: UserId,
        /// The event's name.
        event: String,
        /// Its payload.
        data: Box<RawValue>,
    },
    /// Announces [`MessageKind::Everyone`].
    ToEveryone(EveryoneMessage),
    /// Announces [`MessageKind::Disconnect`], as of the store's time.
    DisconnectUser(UserId),
    /// Announces [`MessageKind::ShowBoard`] in the space.
    ShowBoard(SpaceKey, Day),
}
