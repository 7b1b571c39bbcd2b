//! Brings what the store announces to this node's sockets: in order, once, without a silent gap.
//!
//! - [`follower`]: keeps one topic in step with the store, whatever the subscription loses, repeats or reorders.
//! - [`space`]: one task for each watched space. It has the members, their snapshots and replays, and sends every event
//!   to them. `days` has the days that they look at, `boards` the known state of these days, `own` what only the user of
//!   a slot is told, and `payload` the payloads that the feed makes.
//! - [`buckets`]: the topics that every node follows: freed slots, messages to users and everyone, commands.
//!   `bucket_memory` lets a node follow a bucket through epochs and past the end of a log.
//! - [`heads`]: compares what was received with what the store has, so that a lost last message is found.
//!
//! **Invariant:** an event reaches a socket only through the task of its space, after everything older. No handler
//! emits what it did.

mod boards;
mod bucket_memory;
pub mod buckets;
mod days;
pub mod follower;
pub mod heads;
mod own;
mod payload;
pub mod space;

use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};

use crate::app::App;
use crate::domain::refusal::Code;
use crate::domain::{Day, Position, Refusal, SpaceKey, UserId};
use crate::store::{Subscriptions, Topic};

pub(crate) use payload::joined_space;
use space::{Command, SpaceTask};

/// Names a member within this node.
pub type MemberId = u64;

/// A socket as the feed sees it.
pub trait Member: Send + Sync {
    /// Its name within this node.
    fn id(&self) -> MemberId;

    /// The user of the socket, if it has one.
    fn user(&self) -> Option<&UserId> {
        None
    }

    /// Queues an event for the member; the feed counts it. The implementation closes a member that cannot keep up, so that
    /// no member misses one event and gets a later one.
    fn send(&self, event: &'static str, payload: &RawValue);

    /// Whether there is room for this many missed events at once, of this many bytes in all. If so, they count as sent. If
    /// not, the member gets a snapshot.
    fn admits_replay(&self, events: usize, bytes: usize) -> bool;

    /// Whether there is room for one more missed event of this many bytes beside the waiting events. If not, the member
    /// gets a snapshot.
    fn has_room(&self, bytes: usize) -> bool;

    /// Closes the member, because later events may not reach it. Its client comes back and starts anew.
    fn abandon(&self);
}

/// What a socket wants of a space that it joins or is in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Interest {
    /// The day whose snapshots it wants from now on. `None` keeps the day that it last asked for, or else today.
    pub day: Option<Day>,
    /// The position of the client, if it wants what it missed.
    pub since: Option<Position>,
}

/// What a socket is told when it has joined.
#[derive(Clone, Debug)]
pub struct Joined {
    /// The position of the space. The next event has the next version.
    pub at: Position,
    /// Whether the missed events follow. If not, a snapshot follows, or nothing.
    pub recovered: bool,
}

/// The feed of this node.
#[derive(Clone)]
pub struct Feed(Arc<Shared>);

impl Deref for Feed {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// What the tasks of the feed share. Only this crate sees inside.
pub struct Shared {
    pub(crate) app: Arc<App>,
    pub(crate) subscriptions: Arc<dyn Subscriptions>,
    pub(crate) followed: heads::Followed,
    rooms: Arc<Rooms>,
    /// Held for a map access and an unbounded send only, never across an await.
    spaces: Mutex<HashMap<SpaceKey, mpsc::UnboundedSender<Command>>>,
}

/// How many members each space has on this node.
#[derive(Debug, Default)]
pub struct Rooms {
    /// Held for a map access only, never across an await.
    members: Mutex<HashMap<SpaceKey, Arc<AtomicUsize>>>,
}

impl Rooms {
    /// The rooms with at least one member, by name.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        let members = self.members.lock();
        let counted = members.iter().map(|(space, count)| (space, count.load(Ordering::Relaxed) as u64));
        counted.filter(|(_, count)| *count > 0).map(|(space, count)| (space.room(), count)).collect()
    }

    fn counter(&self, space: SpaceKey) -> Arc<AtomicUsize> {
        self.members.lock().entry(space).or_default().clone()
    }

    fn forget(&self, space: SpaceKey) {
        self.members.lock().remove(&space);
    }
}

impl Feed {
    /// A feed that hears the store through `subscriptions`, and counts its members in `rooms`.
    pub fn new(app: Arc<App>, subscriptions: Arc<dyn Subscriptions>, rooms: Arc<Rooms>) -> Self {
        Self(Arc::new(Shared {
            app,
            subscriptions,
            followed: heads::Followed::default(),
            rooms,
            spaces: Mutex::default(),
        }))
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }

    /// Adds a socket to a space. It is sent `joined_space`, then the missed events or a snapshot as `interest` says, then
    /// every later event.
    pub async fn join(&self, space: SpaceKey, member: Arc<dyn Member>, interest: Interest) -> Result<Joined, Refusal> {
        // Without a subscription the socket would hear of changes only when the heads are compared.
        if !self.app.health.can_subscribe() {
            return Err(Refusal::because(Code::Unavailable, "the store does not allow subscriptions"));
        }
        self.ask(space, |answer| Command::Join { member, interest, answer }).await
    }

    /// Sends a socket of the space the events that it missed or a snapshot, in order among the events.
    pub async fn sync(&self, space: SpaceKey, member: MemberId, interest: Interest) -> Result<Joined, Refusal> {
        self.ask(space, |answer| Command::Sync { member, interest, answer }).await
    }

    /// Removes a socket from a space. Once this resolves, the socket is sent no event of the space.
    pub async fn leave(&self, space: SpaceKey, member: MemberId) {
        let (answer, left) = oneshot::channel();
        let sender = self.lock().get(&space).cloned();
        if sender.is_some_and(|sender| sender.send(Command::Leave { member, answer }).is_ok()) {
            // If the task has ended, the space has no members, which is an answer, too.
            let _ = left.await;
        }
    }

    /// Whether this node hears the changes of a space.
    pub fn watches(&self, space: SpaceKey) -> bool {
        self.lock().get(&space).is_some_and(|sender| !sender.is_closed())
    }

    async fn ask(
        &self,
        space: SpaceKey,
        command: impl FnOnce(oneshot::Sender<Result<Joined, Refusal>>) -> Command,
    ) -> Result<Joined, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.send(space, command(answer));
        answered.await.unwrap_or_else(|_| Err(Code::Unavailable.into()))
    }

    /// Sends a command to the space's task, and starts the task if there is none.
    fn send(&self, space: SpaceKey, command: Command) {
        let mut spaces = self.lock();
        let command = match spaces.get(&space) {
            Some(sender) => match sender.send(command) {
                Ok(()) => return,
                Err(mpsc::error::SendError(command)) => command,
            },
            None => command,
        };
        let (sender, commands) = mpsc::unbounded_channel();
        // The send cannot fail: the receiver lives.
        let _ = sender.send(command);
        spaces.insert(space, sender);
        self.app.acknowledged.follow(space);
        tokio::spawn(SpaceTask::run(self.clone(), space, commands, self.rooms.counter(space)));
    }

    /// Ends the space's task if no command waits. The lock keeps a new command out meanwhile.
    fn retire(&self, space: SpaceKey, commands: &mut mpsc::UnboundedReceiver<Command>) -> bool {
        let mut spaces = self.lock();
        if !commands.is_empty() {
            return false;
        }
        commands.close();
        spaces.remove(&space);
        self.rooms.forget(space);
        self.app.acknowledged.unfollow(space);
        true
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SpaceKey, mpsc::UnboundedSender<Command>>> {
        self.spaces.lock()
    }
}

impl From<SpaceKey> for Topic {
    fn from(space: SpaceKey) -> Self {
        Topic::Space(space)
    }
}
