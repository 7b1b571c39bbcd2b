//! Topics and their messages, as they are announced and heard.

use std::borrow::Cow;
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

#[cfg(doc)]
use super::SlotStore;
use crate::domain::wire::names;
use crate::domain::{Bucket, Day, Owned, Position, SiteId, SlotNumber, SpaceId, SpaceKey, StoreTime, UserId};

/// A signal from a topic's subscription.
#[derive(Clone, Debug)]
pub enum Signal {
    /// A message was announced. Messages may come out of order, or twice.
    Message(Message),
    /// Messages may have been missed. The log has them.
    Lagged,
}

/// A stream of messages. Each space has one, and each bucket has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// Changes of one space.
    Space(SpaceKey),
    /// Freed slots, messages to users and commands of a bucket; messages to everyone in [`Bucket::EVERYONE`].
    Bucket(Bucket),
}

impl Topic {
    /// The bucket of the topic.
    pub fn bucket(self) -> Bucket {
        match self {
            Topic::Space(space) => space.bucket(),
            Topic::Bucket(bucket) => bucket,
        }
    }
}

/// An announced message. The log has the same.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its position in its topic. A message that is never kept ([`MessageKind::is_kept`]) has the topic's head.
    pub at: Position,
    /// The subject of the message.
    pub kind: MessageKind,
    /// Ready JSON. The kind decides its shape.
    pub payload: Arc<RawValue>,
    /// For a [`MessageKind::SlotUpdate`]: who has the slot afterwards. Nodes tell this only to that user. Missing in
    /// messages of 0.1.
    pub owned: Option<Arc<Owned>>,
    /// When it was written, by the store's clock, if that is known. It tells two messages with the same content apart.
    pub written: Option<StoreTime>,
}

names! {
    /// The subject of a message, which decides the shape of its payload. Logs, announcements and metrics use its name.
    MessageKind {
        /// In a space: the payload of `slot_update`, for clients as it is.
        SlotUpdate = "slot_update",
        /// In a space: its schedule changed; `null`. Everyone who watches gets a snapshot.
        SpaceChanged = "space_changed",
        /// In a space: staff wants a day's board sent; [`ShowBoard`]. Not kept.
        ShowBoard = "show_board",
        /// In a bucket: [`FreedSlots`].
        Freed = "freed",
        /// In a bucket: [`UserMessage`].
        User = "user",
        /// In bucket 0: [`EveryoneMessage`].
        Everyone = "everyone",
        /// In a bucket: [`DisconnectUser`]. Not kept.
        Disconnect = "disconnect",
    }
}

impl Serialize for MessageKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for MessageKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = Cow::<str>::deserialize(deserializer)?;
        Self::parse(&name).ok_or_else(|| D::Error::custom(format_args!("no kind of message is called {name:?}")))
    }
}

impl MessageKind {
    /// Whether the message takes a version and is kept in the log.
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
    /// The user who gets it.
    pub user: UserId,
    /// Ascending among the user's messages. It is never used twice, even if the store has lost some messages.
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
    /// The user whose sockets are closed.
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

/// A message that [`SlotStore::publish`] announces.
#[derive(Clone, Debug)]
pub enum Publication {
    /// Appends to the user's log and announces [`MessageKind::User`].
    ToUser {
        /// The user who gets it.
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
