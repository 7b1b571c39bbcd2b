//! The Redis store, on real servers: the conformance suite, and what only a store behind a network has to do.

mod fence;
mod late_copies;
mod lost;
mod keys;
mod payloads;
mod sweeping;
mod leases;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use slotcast::clock;
use slotcast::config::CatalogConfig;
use slotcast::domain::act::{Idempotency, StaffStatus};
use slotcast::domain::event::slot_update;
use slotcast::domain::rule::Change;
use slotcast::domain::schedule::ScheduleSpec;
use slotcast::domain::slot::SlotState;
use slotcast::domain::{
    Actor, Bucket, Code, Day, HoldToken, Origin, Position, SiteId, SlotAct, SlotActKind, SlotData, SlotNumber,
    SlotTime, SpaceId, SpaceKey, StoreTime, UserId,
};
use slotcast::spaces::catalog::Catalog;
use slotcast::store::redis::{Fence, RedisOptions, RedisStore};
use slotcast::store::{
    ActOutcome, ApplyError, EveryoneMessage, LogRead, Message, NodeReport, Publication, SlotStore, SpaceChange, Topic,
    read_whole_log,
};

use self::fence::wait_until;
use crate::store_conformance;
use crate::store_conformance::{Handles, StoreFactory};
use crate::support::lateness::in_time;
use crate::support::redis::{LossyProxy, PlainSubscriptions, RedisCluster, RedisServer, store_at};
use crate::support::redis_server::free_port;
use crate::support::repeat_of;

/// A store under a prefix of its own, on the server that all tests share.
pub struct OnRedis {
    server: Arc<RedisServer>,
    prefix: String,
}

#[async_trait]
impl StoreFactory for OnRedis {
    async fn start() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("test{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let server = tokio::task::spawn_blocking(RedisServer::shared).await.unwrap();
        Self { server, prefix }
    }

    async fn open(&self) -> Handles {
        let url = self.server.url();
        let subscriptions = Arc::new(PlainSubscriptions::connect(&url, &self.prefix).await);
        Handles { store: Arc::new(store_at(&url, &self.prefix)), subscriptions }
    }

    /// Only the node ends here, and not the server. After a restart of the server the epoch changes, which the tests in
    /// `fence` show.
    async fn restart(&mut self) {}
}

store_conformance!(conformance, super::OnRedis);

/// A store on a Cluster of three primaries, under a prefix of its own.
pub struct OnCluster {
    cluster: Arc<RedisCluster>,
    prefix: String,
}

#[async_trait]
impl StoreFactory for OnCluster {
    async fn start() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("test{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let cluster = tokio::task::spawn_blocking(RedisCluster::shared).await.unwrap();
        Self { cluster, prefix }
    }

    async fn open(&self) -> Handles {
        // A message that is published plainly reaches subscribers on every node of the Cluster, even on nodes without
        // the slot.
        let subscriptions = PlainSubscriptions::connect(&self.cluster.urls()[0], &self.prefix).await;
        Handles { store: Arc::new(self.cluster.store(&self.prefix).await), subscriptions: Arc::new(subscriptions) }
    }

    async fn restart(&mut self) {}
}

store_conformance!(cluster_conformance, super::OnCluster);

const MINUTE: i64 = 60_000;

/// How long a test waits for anything.
const PATIENCE: Duration = Duration::from_secs(20);

fn space(number: u64) -> SpaceKey {
    SpaceKey { site: SiteId::new(1).unwrap(), space: SpaceId::new(number).unwrap() }
}

fn day() -> Day {
    Day::parse("2090-05-05").unwrap()
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

/// A slot in the far future. Slots start an hour apart.
fn slot(n: u64) -> SlotTime {
    let start = StoreTime::from_millis(3_797_000_000_000).plus_millis(n as i64 * 60 * MINUTE);
    let label = format!("{n:02}:00");
    SlotTime { number: SlotNumber::new(n).unwrap(), start, end: start.plus_millis(60 * MINUTE), label }
}

fn act(in_space: u64, slots: &[u64], kind: SlotActKind) -> SlotAct {
    let slots = slots.iter().map(|n| slot(*n)).collect();
    SlotAct { space: space(in_space), day: day(), slots, revision: None, kind, idempotency: None, origin: None }
}

fn hold(who: &str, millis: i64) -> SlotActKind {
    let mut bytes = [7; 16];
    bytes[..who.len()].copy_from_slice(who.as_bytes());
    SlotActKind::Hold { user: user(who), token: HoldToken::from_random(bytes), millis, max_holds: None, max_held: None }
}

fn book(who: &str) -> SlotActKind {
    SlotActKind::Book { actor: Actor::User(user(who)), token: None }
}

fn release(who: &str) -> SlotActKind {
    SlotActKind::Release { actor: Actor::User(user(who)), token: None, booked_by: None, cancel_before: None }
}

fn extend(who: &str, millis: i64) -> SlotActKind {
    SlotActKind::Extend { user: user(who), token: None, millis, max_millis: 60 * MINUTE }
}

fn set(to: StaffStatus) -> SlotActKind {
    SlotActKind::Update { to, data: None, user: None }
}

async fn head(store: &RedisStore, topic: Topic) -> Position {
    store.heads(&[topic]).await.unwrap().remove(0)
}

async fn messages(store: &RedisStore, topic: Topic, since: &Position) -> Vec<Message> {
    match read_whole_log(store, topic, since).await.unwrap() {
        LogRead::Messages(messages) => messages,
        LogRead::Gone(head) => panic!("gone at {head:?}"),
    }
}

fn is_unavailable(result: &Result<ActOutcome, ApplyError>) -> bool {
    matches!(result, Err(ApplyError::Store(_)))
}
