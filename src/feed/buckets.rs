//! The topics of the buckets. Every node follows all of them. They carry freed slots, messages to users and to
//! everyone, and commands. None of these belongs to one watched space.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Feed;
use super::follower::{Follower, Step};
use crate::domain::{Bucket, Day, SlotNumber, SpaceKey};
use crate::store::{DisconnectUser, EveryoneMessage, FreedSlots, Message, MessageKind, Topic, UserMessage};

/// How long freed slots are gathered for one message.
const FREED_WINDOW: Duration = Duration::from_secs(1);

/// The pause before a bucket is followed again after a failure.
const RETRY: Duration = Duration::from_millis(500);

/// Handles the messages of the buckets.
pub trait Audience: Send + Sync + 'static {
    /// Slots that were freed within a second.
    fn tell_freed(&self, freed: FreedSummary);

    /// A message to one user, who may have sockets here.
    fn tell_user(&self, message: UserMessage);

    /// Messages to users of this bucket may have been missed. The kept messages must be read.
    fn tell_user_messages_missed(&self, bucket: Bucket);

    /// A message to every socket.
    fn tell_everyone(&self, message: EveryoneMessage);

    /// A user's sockets are to be closed.
    fn disconnect_user(&self, command: DisconnectUser);
}

/// The slots that were freed within a second.
#[derive(Clone, Debug, PartialEq)]
pub struct FreedSummary {
    /// How many slots were freed, including those that are only counted.
    pub count: u64,
    /// How many of them no message names. The node was cut off for longer than the bucket's log reaches back.
    pub unnamed: u64,
    /// The freed slots in ascending order, one entry for each space and day.
    pub spaces: Vec<(SpaceKey, FreedSlots)>,
}

impl Feed {
    /// Follows all buckets for an audience. Returns only after a panic, when a bucket can no longer be followed.
    pub async fn follow_buckets(self, audience: Arc<dyn Audience>) {
        let (freed, gathered) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        tasks.spawn(gather_freed(gathered, audience.clone()));
        for bucket in Bucket::all() {
            tasks.spawn(follow_bucket(self.clone(), bucket, audience.clone(), freed.clone()));
        }
        let _ = tasks.join_next().await;
    }
}

async fn follow_bucket(feed: Feed, bucket: Bucket, audience: Arc<dyn Audience>, freed: mpsc::UnboundedSender<Freed>) {
    let mut follower = loop {
        match Follower::start(feed.shared().clone(), Topic::Bucket(bucket)).await {
            Ok(follower) => break follower,
            Err(error) => {
                tracing::warn!(bucket = bucket.get(), %error, "cannot follow a bucket; will try again");
                tokio::time::sleep(RETRY).await;
            }
        }
    };
    // The node has heard nothing between its start and now.
    audience.tell_user_messages_missed(bucket);
    loop {
        let heard = follower.hear().await;
        for step in follower.take(heard).await {
            match step {
                Step::Deliver(message) | Step::Missed(message) => deliver(&message, audience.as_ref(), &freed),
                // The send cannot fail: the receiver lives as long as this task.
                Step::FreedUnnamed(count) => drop(freed.send(Freed::Unnamed(count))),
                Step::Restarted => audience.tell_user_messages_missed(bucket),
            }
        }
    }
}

fn deliver(message: &Message, audience: &dyn Audience, freed: &mpsc::UnboundedSender<Freed>) {
    match message.kind {
        MessageKind::Freed => read(message).into_iter().for_each(|slots| {
            // The send cannot fail: the receiver lives as long as this task.
            let _ = freed.send(Freed::Slots(slots));
        }),
        MessageKind::User => read(message).into_iter().for_each(|message| audience.tell_user(message)),
        MessageKind::Everyone => read(message).into_iter().for_each(|message| audience.tell_everyone(message)),
        MessageKind::Disconnect => read(message).into_iter().for_each(|command| audience.disconnect_user(command)),
        other => tracing::error!(kind = other.as_str(), "ignored a message that no bucket has"),
    }
}

fn read<T: DeserializeOwned>(message: &Message) -> Option<T> {
    serde_json::from_str(message.payload.get())
        .inspect_err(
            |error| tracing::error!(kind = message.kind.as_str(), %error, "ignored a message that cannot be read"),
        )
        .ok()
}

/// Merges the messages of one window, which begins with the first message.
async fn gather_freed(mut freed: mpsc::UnboundedReceiver<Freed>, audience: Arc<dyn Audience>) {
    while let Some(first) = freed.recv().await {
        let mut gathered = Gathered::default();
        gathered.add(first);
        let window = tokio::time::sleep(FREED_WINDOW);
        tokio::pin!(window);
        loop {
            tokio::select! {
                () = &mut window => break,
                more = freed.recv() => match more {
                    Some(more) => gathered.add(more),
                    None => break,
                },
            }
        }
        audience.tell_freed(gathered.summary());
    }
}

/// Freed slots of one message.
enum Freed {
    Slots(FreedSlots),
    /// So many slots, whose names are not known.
    Unnamed(u64),
}

#[derive(Default)]
struct Gathered {
    count: u64,
    unnamed: u64,
    slots: BTreeMap<(SpaceKey, Day), BTreeSet<SlotNumber>>,
}

impl Gathered {
    fn add(&mut self, freed: Freed) {
        let freed = match freed {
            Freed::Slots(freed) => freed,
            Freed::Unnamed(count) => {
                self.count += count;
                self.unnamed += count;
                return;
            }
        };
        self.count += freed.slots.len() as u64;
        let space = SpaceKey { site: freed.site, space: freed.space };
        self.slots.entry((space, freed.date)).or_default().extend(freed.slots);
    }

    fn summary(self) -> FreedSummary {
        let spaces = self.slots.into_iter().map(|((space, date), slots)| {
            let slots = slots.into_iter().collect();
            (space, FreedSlots { space: space.space, site: space.site, date, slots })
        });
        FreedSummary { count: self.count, unnamed: self.unnamed, spaces: spaces.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{SiteId, SpaceId};

    fn freed(space: u64, slots: &[u64]) -> FreedSlots {
        FreedSlots {
            space: SpaceId::new(space).unwrap(),
            site: SiteId::new(1).unwrap(),
            date: Day::parse("2026-11-23").unwrap(),
            slots: slots.iter().map(|slot| SlotNumber::new(*slot).unwrap()).collect(),
        }
    }

    #[test]
    fn the_same_day_of_a_space_is_listed_once() {
        let mut gathered = Gathered::default();
        gathered.add(Freed::Slots(freed(2, &[5])));
        gathered.add(Freed::Slots(freed(1, &[1])));
        gathered.add(Freed::Unnamed(7));
        gathered.add(Freed::Slots(freed(2, &[3, 4])));
        let summary = gathered.summary();
        assert_eq!((summary.count, summary.unnamed), (11, 7));
        let listed: Vec<_> = summary.spaces.into_iter().map(|(_, slots)| slots).collect();
        assert_eq!(listed, [freed(1, &[1]), freed(2, &[3, 4, 5])]);
    }
}
