//! Webhooks to receivers that fail, on both stores: each entry is delivered at least once, in order within a space, and
//! none is skipped.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use slotcast::clock::StoreClock;
use slotcast::config::Webhook;
use slotcast::config::webhooks::Secret;
use slotcast::domain::act::StaffStatus;
use slotcast::domain::{
    Day, JournalAct, SiteId, SlotAct, SlotActKind, SlotNumber, SlotTime, SpaceId, SpaceKey, StoreTime,
};
use slotcast::journal::Tails;
use slotcast::store::embedded::EmbeddedStore;
use slotcast::store::redis::{RedisOptions, RedisStore};
use slotcast::store::{JournalBounds, SlotStore};
use slotcast::telemetry::metrics::Metrics;
use slotcast::webhooks::patience::Patience;
use slotcast::webhooks::place::OWN_ROOM;
use slotcast::webhooks::{self, Tools};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::redis::RedisServer;

/// How long a test waits for something that should take milliseconds.
const DEADLINE: Duration = Duration::from_secs(60);

/// Tries that follow each other quickly.
const QUICK: Patience =
    Patience { first: Duration::from_millis(20), longest: Duration::from_millis(100), all: Duration::from_secs(3_600) };

fn space(number: u64) -> SpaceKey {
    SpaceKey { site: SiteId::new(1).unwrap(), space: SpaceId::new(number).unwrap() }
}

fn act(in_space: u64) -> SlotAct {
    let (number, start) = (SlotNumber::new(1).unwrap(), StoreTime::from_millis(3_797_000_000_000));
    SlotAct {
        space: space(in_space),
        day: Day::parse("2090-05-05").unwrap(),
        slots: vec![SlotTime { number, start, end: start.plus_millis(1), label: "09:00".into() }],
        revision: None,
        kind: SlotActKind::Update { to: StaffStatus::Blocked, data: None, user: None },
        idempotency: None,
        origin: None,
    }
}

async fn act_in(store: &dyn SlotStore, spaces: &[u64]) {
    for space in spaces {
        store.apply(act(*space)).await.unwrap();
    }
}

async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while !is_so() {
        assert!(tokio::time::Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until the node's task, which runs on another thread, has begun. From then on it tells of acts. On a busy
/// machine this may be later than the moment before the start from which it tells of acts, too.
fn wait_until_running(metrics: &Metrics) {
    let began = slotcast::clock::instant();
    while !metrics.encode().contains("webhook_lost_total{") {
        assert!(began.elapsed() < DEADLINE, "the node does not begin");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A message that a receiver got.
#[derive(Clone, Debug)]
struct Got {
    id: String,
    space: u64,
    version: u64,
    accepted: bool,
}

/// What a receiver does with a message. The number says how many messages the receiver got before.
type Answer = dyn Fn(&Got, usize) -> Act + Send + Sync;

/// What a receiver does with a message.
enum Act {
    /// Answers with this status and these lines in the head.
    Status(u16, &'static str),
    /// Ends the connection.
    Reset,
}

/// A receiver on a port of its own.
struct Receiver {
    port: u16,
    got: Arc<Mutex<Vec<Got>>>,
    task: JoinHandle<()>,
}

impl Receiver {
    async fn start(answer: impl Fn(&Got, usize) -> Act + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let got: Arc<Mutex<Vec<Got>>> = Arc::default();
        let (shared, answer): (_, Arc<Answer>) = (got.clone(), Arc::new(answer));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, shared.clone(), answer.clone()));
            }
        });
        Self { port, got, task }
    }

    fn got(&self) -> Vec<Got> {
        self.got.lock().clone()
    }

    /// The versions of each space that were accepted, each once, in the order of their first acceptance.
    fn accepted(&self) -> BTreeMap<u64, Vec<u64>> {
        let mut accepted: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for got in self.got().iter().filter(|got| got.accepted) {
            let versions = accepted.entry(got.space).or_default();
            if !versions.contains(&got.version) {
                versions.push(got.version);
            }
        }
        accepted
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, shared: Arc<Mutex<Vec<Got>>>, answer: Arc<Answer>) {
    let mut buffer = Vec::new();
    while let Some((head, body)) = read_request(&mut stream, &mut buffer).await {
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let data = &body["data"];
        let (space, version) = (data["spazioId"].as_u64().unwrap(), data["version"].as_u64().unwrap());
        assert_eq!(head["webhook-id"], data["id"].as_str().unwrap());
        let mut got = Got { id: head["webhook-id"].clone(), space, version, accepted: false };
        let count = shared.lock().len();
        let act = answer(&got, count);
        got.accepted = matches!(act, Act::Status(200..=299, _));
        shared.lock().push(got);
        let Act::Status(status, lines) = act else { return };
        let head = format!("HTTP/1.1 {status} X\r\n{lines}content-length: 0\r\n\r\n");
        if stream.write_all(head.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<(HashMap<String, String>, Vec<u8>)> {
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(buffer[..end].to_vec()).unwrap();
            let fields: HashMap<String, String> = head
                .lines()
                .filter_map(|line| line.split_once(": "))
                .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
                .collect();
            let length: usize = fields["content-length"].parse().unwrap();
            if buffer.len() >= end + 4 + length {
                let body = buffer[end + 4..end + 4 + length].to_vec();
                buffer.drain(..end + 4 + length);
                return Some((fields, body));
            }
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

/// The part of a node that sends webhooks.
struct Node {
    metrics: Metrics,
    leaving: CancellationToken,
    task: JoinHandle<()>,
}

impl Node {
    fn start(store: Arc<dyn SlotStore>, receiver: &Receiver, name: &str, patience: Patience) -> Self {
        Self::start_that(false, store, receiver, name, patience)
    }

    /// Starts a node. If it `forgets`, it removes entries from the journal once they are delivered.
    fn start_that(
        forgets: bool,
        store: Arc<dyn SlotStore>,
        receiver: &Receiver,
        name: &str,
        patience: Patience,
    ) -> Self {
        let metrics = Metrics::new();
        let webhook = Webhook {
            name: "mail".into(),
            url: format!("http://127.0.0.1:{}/hooks", receiver.port).parse().unwrap(),
            secrets: vec![Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap()],
            acts: [JournalAct::Update].into(),
            sites: None,
        };
        let tails = Tails::new(store.clone());
        let clock = Arc::new(StoreClock::default());
        let tools = Tools { store, clock, metrics: metrics.clone(), tails, patience, forgets };
        let leaving = CancellationToken::new();
        let task = tokio::spawn(webhooks::run(tools, vec![webhook], name.into(), leaving.clone()));
        wait_until_running(&metrics);
        Self { metrics, leaving, task }
    }

    fn deliveries(&self, outcome: &str) -> u64 {
        self.metrics.webhook_deliveries.with_label_values(&["mail", outcome]).get()
    }

    fn lost(&self) -> u64 {
        self.metrics.webhook_lost.with_label_values(&["mail"]).get()
    }

    fn waiting(&self) -> i64 {
        self.metrics.webhook_waiting.with_label_values(&["mail"]).get()
    }

    /// Ends the node like a crash.
    fn kill(&self) {
        self.task.abort();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A store of either kind, and the server or folder behind it.
struct Scene {
    store: Arc<dyn SlotStore>,
    _server: Option<RedisServer>,
    _folder: tempfile::TempDir,
}

fn embedded(bounds: JournalBounds) -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(EmbeddedStore::open_with(folder.path(), bounds).unwrap());
    Scene { store, _server: None, _folder: folder }
}

fn redis(bounds: JournalBounds) -> Scene {
    let server = RedisServer::start();
    let options = RedisOptions { journal: bounds, ..RedisOptions::default() };
    let store = Arc::new(RedisStore::open(&server.url(), "slotcast", options).unwrap());
    Scene { store, _server: Some(server), _folder: tempfile::tempdir().unwrap() }
}

macro_rules! on_both_stores {
    ($($case:ident($bounds:expr);)*) => {
        mod on_a_file {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(super::embedded($bounds)).await;
            })*
        }
        mod on_redis {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(super::redis($bounds)).await;
            })*
        }
    };
}

on_both_stores! {
    every_entry_arrives_in_order_within_its_space(slotcast::store::JournalBounds::default());
    what_fails_holds_back_its_own_space_alone(slotcast::store::JournalBounds::default());
    many_spaces_that_fail_hold_back_no_other_of_their_bucket(slotcast::store::JournalBounds::default());
    what_all_have_is_forgotten_where_no_journal_is_kept(slotcast::store::JournalBounds::default());
    an_entry_is_skipped_after_its_time_and_the_next_one_comes(slotcast::store::JournalBounds::default());
    a_new_endpoint_begins_with_now(slotcast::store::JournalBounds::default());
    what_is_trimmed_before_its_delivery_is_counted(slotcast::store::JournalBounds { days: 90, max: 100 });
    a_node_that_comes_after_a_crash_goes_on(slotcast::store::JournalBounds::default());
}

async fn every_entry_arrives_in_order_within_its_space(scene: Scene) {
    let receiver = Receiver::start(|_, before| match before % 5 {
        1 => Act::Status(500, ""),
        2 => Act::Status(302, "location: http://127.0.0.1:1/\r\n"),
        3 => Act::Reset,
        _ => Act::Status(204, ""),
    })
    .await;
    let node = Node::start(scene.store.clone(), &receiver, "one", QUICK);
    for _ in 0..20 {
        act_in(scene.store.as_ref(), &[1, 2, 3]).await;
    }
    let all: Vec<u64> = (1..=20).collect();
    let wanted = BTreeMap::from([(1, all.clone()), (2, all.clone()), (3, all)]);
    eventually("every entry", || receiver.accepted() == wanted).await;
    let tried_before = |got: &Got| receiver.got().iter().filter(|other| other.id == got.id).count();
    assert!(receiver.got().iter().any(|got| tried_before(got) > 1), "something failed");
    for got in receiver.got() {
        assert!(
            receiver
                .got()
                .iter()
                .all(|other| (other.id == got.id) == ((other.space, other.version) == (got.space, got.version)))
        );
    }
    eventually("what was counted", || node.deliveries("delivered") == 60).await;
    eventually("nothing waits", || node.waiting() == 0).await;
    assert_eq!(node.lost(), 0);
    assert!(node.deliveries("refused") > 0 && node.deliveries("unreachable") > 0);
}

async fn what_fails_holds_back_its_own_space_alone(scene: Scene) {
    let is_well = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let well = is_well.clone();
    let receiver = Receiver::start(move |got, _| {
        let refused = got.space == 1 && !well.load(std::sync::atomic::Ordering::SeqCst);
        Act::Status(if refused { 503 } else { 200 }, "")
    })
    .await;
    let node = Node::start(scene.store.clone(), &receiver, "one", QUICK);
    act_in(scene.store.as_ref(), &[1, 1, 2, 1, 3, 2]).await;
    let others = BTreeMap::from([(2, vec![1, 2]), (3, vec![1])]);
    eventually("the other spaces", || receiver.accepted() == others).await;
    assert!(receiver.got().iter().all(|got| got.space != 1 || got.version == 1), "nothing goes before the first");
    is_well.store(true, std::sync::atomic::Ordering::SeqCst);
    eventually("the space that was held back", || receiver.accepted().get(&1) == Some(&vec![1, 2, 3])).await;
    assert_eq!(node.deliveries("skipped"), 0);
}

/// Numbers of spaces that are all in one bucket.
fn neighbours(count: usize) -> Vec<u64> {
    let bucket = space(1).bucket();
    (1..).filter(|number| space(*number).bucket() == bucket).take(count).collect()
}

async fn act_at_once(store: &dyn SlotStore, spaces: &[u64]) {
    for some in spaces.chunks(100) {
        futures_util::future::join_all(some.iter().map(|space| store.apply(act(*space)))).await;
    }
}

async fn many_spaces_that_fail_hold_back_no_other_of_their_bucket(scene: Scene) {
    let all = neighbours(2 * OWN_ROOM + 20);
    let (failing, well) = all.split_at(2 * OWN_ROOM);
    let refused: BTreeSet<u64> = failing.iter().copied().collect();
    let answer = move |got: &Got, _| Act::Status(if refused.contains(&got.space) { 503 } else { 200 }, "");
    let receiver = Receiver::start(answer).await;
    let patience = Patience { first: Duration::from_secs(5), longest: Duration::from_secs(60), ..QUICK };
    let node = Node::start(scene.store.clone(), &receiver, "one", patience);
    act_at_once(scene.store.as_ref(), failing).await;
    eventually("all that fail", || node.waiting() == failing.len() as i64).await;
    act_at_once(scene.store.as_ref(), well).await;
    eventually("the others", || receiver.accepted().len() == well.len()).await;
    // The node counts a delivery after the receiver has answered.
    eventually("what was counted", || node.deliveries("delivered") == well.len() as u64).await;
    assert_eq!(node.lost(), 0);
}

async fn what_all_have_is_forgotten_where_no_journal_is_kept(scene: Scene) {
    let is_well = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let well = is_well.clone();
    let [held_back, other] = neighbours(2)[..] else { panic!("two were asked for") };
    let receiver = Receiver::start(move |got, _| {
        let refused = got.space == held_back && !well.load(std::sync::atomic::Ordering::SeqCst);
        Act::Status(if refused { 503 } else { 200 }, "")
    })
    .await;
    let node = Node::start_that(true, scene.store.clone(), &receiver, "one", QUICK);
    let bucket = space(1).bucket();
    let kept = async |wanted: &[u64]| {
        let read = async || scene.store.read_journal(bucket, 1, 100).await.unwrap();
        let numbers = async || read().await.into_iter().map(|entry| entry.number).collect::<Vec<_>>();
        let all = async {
            while numbers().await != wanted {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        assert!(tokio::time::timeout(DEADLINE, all).await.is_ok(), "{wanted:?}, and not {:?}", numbers().await);
    };
    act_in(scene.store.as_ref(), &[other, other, other, held_back, other]).await;
    eventually("what is not held back", || receiver.accepted() == BTreeMap::from([(other, vec![1, 2, 3, 4])])).await;
    // Entry 3 stays because the endpoint has not moved past it, and entry 4 waits for its delivery.
    kept(&[3, 4, 5]).await;
    is_well.store(true, std::sync::atomic::Ordering::SeqCst);
    kept(&[5]).await;
    // New entries follow entry 5, which has stayed.
    act_in(scene.store.as_ref(), &[held_back, other]).await;
    let all = BTreeMap::from([(other, vec![1, 2, 3, 4, 5]), (held_back, vec![1, 2])]);
    eventually("all of it", || receiver.accepted() == all).await;
    assert_eq!(node.lost(), 0);
}

async fn an_entry_is_skipped_after_its_time_and_the_next_one_comes(scene: Scene) {
    let receiver = Receiver::start(|got, _| Act::Status(if got.version == 1 { 410 } else { 200 }, "")).await;
    let patience = Patience { all: Duration::from_millis(300), ..QUICK };
    let node = Node::start(scene.store.clone(), &receiver, "one", patience);
    act_in(scene.store.as_ref(), &[1, 1, 1]).await;
    eventually("those after it", || receiver.accepted() == BTreeMap::from([(1, vec![2, 3])])).await;
    eventually("what was counted", || (node.deliveries("skipped"), node.deliveries("delivered")) == (1, 2)).await;
    assert!(receiver.got().iter().filter(|got| got.version == 1).count() > 1, "it was tried again");
}

async fn a_new_endpoint_begins_with_now(scene: Scene) {
    act_in(scene.store.as_ref(), &[1, 1, 2]).await;
    // A node also tells of acts from the second before its start. These acts have to be older.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let receiver = Receiver::start(|_, _| Act::Status(200, "")).await;
    let _node = Node::start(scene.store.clone(), &receiver, "one", QUICK);
    act_in(scene.store.as_ref(), &[1, 2, 3]).await;
    let wanted = BTreeMap::from([(1, vec![3]), (2, vec![2]), (3, vec![1])]);
    eventually("what is new", || receiver.accepted().len() == 3).await;
    assert_eq!(receiver.accepted(), wanted);
}

async fn what_is_trimmed_before_its_delivery_is_counted(scene: Scene) {
    let is_well = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let well = is_well.clone();
    let answer =
        move |_: &Got, _| Act::Status(if well.load(std::sync::atomic::Ordering::SeqCst) { 200 } else { 500 }, "");
    let receiver = Receiver::start(answer).await;
    let node = Node::start(scene.store.clone(), &receiver, "one", QUICK);
    act_in(scene.store.as_ref(), &[1]).await;
    eventually("a first try", || node.deliveries("refused") > 0).await;
    act_in(scene.store.as_ref(), &vec![1; 700]).await;
    is_well.store(true, std::sync::atomic::Ordering::SeqCst);
    eventually("the last", || receiver.accepted().get(&1).is_some_and(|versions| versions.contains(&701))).await;
    assert!(node.lost() > 0);
    let versions = receiver.accepted().remove(&1).unwrap();
    assert!(versions.is_sorted(), "{versions:?}");
}

async fn a_node_that_comes_after_a_crash_goes_on(scene: Scene) {
    let is_well = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let well = is_well.clone();
    let answer = move |got: &Got, _| {
        let refused = got.version > 3 && !well.load(std::sync::atomic::Ordering::SeqCst);
        Act::Status(if refused { 500 } else { 200 }, "")
    };
    let receiver = Receiver::start(answer).await;
    let node = Node::start(scene.store.clone(), &receiver, "one", QUICK);
    act_in(scene.store.as_ref(), &[1, 2, 1, 2, 1, 2, 1, 2]).await;
    eventually("a refusal", || node.deliveries("refused") > 3).await;
    node.kill();
    act_in(scene.store.as_ref(), &[1, 2, 3]).await;
    is_well.store(true, std::sync::atomic::Ordering::SeqCst);
    let other = Node::start(scene.store.clone(), &receiver, "other", QUICK);
    let five: Vec<u64> = (1..=5).collect();
    let wanted = BTreeMap::from([(1, five.clone()), (2, five), (3, vec![1])]);
    eventually("all of them", || receiver.accepted() == wanted).await;
    assert_eq!(other.lost(), 0);
    other.leaving.cancel();
}

/// Two nodes that send at once repeat entries and skip none. This happens if a node was stopped for longer than its
/// right lasts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_at_once_repeat_and_never_skip() {
    // This embedded store grants the right to both nodes.
    let scene = embedded(JournalBounds::default());
    let receiver = Receiver::start(|_, before| Act::Status(if before % 3 == 0 { 500 } else { 200 }, "")).await;
    let (one, two) = (
        Node::start(scene.store.clone(), &receiver, "one", QUICK),
        Node::start(scene.store.clone(), &receiver, "two", QUICK),
    );
    let all: Vec<u64> = (1..=40).collect();
    for _ in &all {
        act_in(scene.store.as_ref(), &[1, 2]).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let wanted = BTreeMap::from([(1, all.clone()), (2, all)]);
    eventually("every entry", || receiver.accepted() == wanted).await;
    eventually("nothing waits", || one.waiting() + two.waiting() == 0).await;
    assert_eq!(one.lost() + two.lost(), 0);
}

/// The right goes to another node at once if its node leaves, and soon if its node dies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_node_goes_on_where_one_leaves() {
    let scene = redis(JournalBounds::default());
    let receiver = Receiver::start(|_, _| Act::Status(200, "")).await;
    let one = Node::start(scene.store.clone(), &receiver, "one", QUICK);
    act_in(scene.store.as_ref(), &[1]).await;
    eventually("the first", || one.deliveries("delivered") == 1).await;
    let two = Node::start(scene.store.clone(), &receiver, "two", QUICK);
    act_in(scene.store.as_ref(), &[1]).await;
    eventually("the second", || one.deliveries("delivered") == 2).await;
    assert_eq!(two.deliveries("delivered"), 0);
    one.leaving.cancel();
    act_in(scene.store.as_ref(), &[1]).await;
    eventually("the third", || receiver.accepted() == BTreeMap::from([(1, vec![1, 2, 3])])).await;
    act_in(scene.store.as_ref(), &[1]).await;
    eventually("the fourth", || receiver.accepted() == BTreeMap::from([(1, vec![1, 2, 3, 4])])).await;
    assert_eq!(receiver.got().len(), 4, "a node that leaves has written where it is");
    eventually("the node that sends now", || two.deliveries("delivered") > 0).await;
}
