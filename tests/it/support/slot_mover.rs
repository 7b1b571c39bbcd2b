//! Moves hash slots of a Cluster to and fro while somebody uses them.
//!
//! ```ignore
//! let mover = SlotMover::start(cluster);
//! let user = mover.user();        // of one test case
//! user.use_tag("b17").await;      // the slot of the keys with {b17} is on its way now, and again and again
//! user.moves();                   // how many moves were begun of slots that it uses
//! ```
//!
//! A slot moves as with `redis-cli --cluster reshard`, and rests in each state for a moment: on its way with all its keys,
//! with half of them, with none, and arrived.
//!
//! All slots of a round go to one server, and the next round waits until all servers have heard each other and agree. Faster
//! moves would lose keys by a fault of the servers, not of the program under test:
//!
//! - A server may get a slot before it has heard of the last slot that another server got. Then it may take a configuration
//!   epoch that is too low, lose the slot again to a late message of the old owner, and delete the slot's keys.
//! - A server that gets several slots says so after each of them. Its message about the first slot may be 40 ms late, since
//!   small messages wait for the answer to earlier ones, and it does not name the second slot. If the second slot moves on
//!   meanwhile, Valkey 8 and 9 read the late message as the end of that move: the target has the slot at once, and the owner
//!   deletes the keys that are still there (`no longer being imported from node`, then `Deleting keys in dirty slot` in their
//!   logs). Servers that name the same owner prove nothing here, since each was told by `SETSLOT`.
//!
//! Each slot has a marker, a key that only the mover writes. The marker must survive all moves: a lost marker shows that the
//! servers have lost keys, and that the program under test is not to blame.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use redis::PubSub;
use tokio::sync::watch;

use super::redis::RedisCluster;

/// How many slots of one user are moved at once: the last ones that it used.
const SLOTS_OF_A_USER: usize = 3;

/// How long slots rest in each state on their way.
const ON_THE_WAY: Duration = Duration::from_millis(10);

/// How long slots rest when they have arrived. While a slot is on its way, a script is refused if one of its keys does
/// not exist yet. Such scripts run during this rest.
const AT_REST: Duration = Duration::from_millis(30);

/// One round in 32 is long: its slots are on their way for longer than a call waits, so calls are refused.
const LONG_ROUND: usize = 32;

/// How long slots rest in each state in a long round.
const LONG: Duration = Duration::from_millis(1_100);

/// How long a user waits at most for the first move of a slot that it uses.
const BEGINNING: Duration = Duration::from_secs(60);

/// How many times a server is asked, every 10 ms, whether it knows what another server was told.
const PATIENCE: usize = 3_000;

/// How long the mover waits for a server to hear another server's message. Then the other server says it again.
const HEARING: Duration = Duration::from_secs(1);

/// How many times a server says the same message at most.
const ATTEMPTS: usize = 60;

/// The channel in which servers announce that they have said everything.
const CHANNEL: &str = "slot-mover";

/// Moves slots on a thread of its own, which ends with the value.
pub struct SlotMover {
    shared: Arc<Shared>,
    moving: Option<JoinHandle<()>>,
}

struct Shared {
    cluster: Arc<RedisCluster>,
    /// Held briefly, never across a move.
    state: Mutex<State>,
    /// How many rounds were begun.
    rounds: watch::Sender<usize>,
    is_ending: AtomicBool,
}

#[derive(Default)]
struct State {
    users: HashMap<usize, Use>,
    next_user: usize,
    /// How many moves of each tag's slot were begun.
    moves: HashMap<String, usize>,
    /// How many moves were finished, of all slots.
    finished: usize,
    /// How many keys were moved, of all slots.
    keys: usize,
}

/// The slots that one user uses.
#[derive(Default)]
struct Use {
    /// The last tags that it used, the newest at the end.
    tags: VecDeque<String>,
    /// How many moves were begun of the slots of `tags`.
    moves: usize,
}

impl SlotMover {
    /// Starts the mover. Nothing moves until somebody uses a slot.
    pub fn start(cluster: Arc<RedisCluster>) -> Self {
        let shared = Arc::new(Shared {
            cluster,
            state: Mutex::default(),
            rounds: watch::Sender::new(0),
            is_ending: AtomicBool::new(false),
        });
        let mover = shared.clone();
        let moving = std::thread::spawn(move || {
            let _ending = Ending(&mover);
            mover.run();
        });
        Self { shared, moving: Some(moving) }
    }

    /// A user of slots. Its slots move until it is dropped.
    pub fn user(&self) -> SlotUser {
        let mut state = self.shared.lock();
        state.next_user += 1;
        let id = state.next_user;
        state.users.insert(id, Use::default());
        SlotUser { shared: self.shared.clone(), id }
    }

    /// Returns when the mover has ended because a move failed. [`end`](Self::end) tells why.
    pub async fn failed(&self) {
        let mut rounds = self.shared.rounds.subscribe();
        let ended = rounds.wait_for(|_| self.shared.is_ending.load(Ordering::Acquire)).await;
        ended.expect("a mover that is there");
    }

    /// Ends the mover when the slots on their way have arrived. Answers how many moves were finished, and how many keys
    /// besides markers they moved.
    ///
    /// # Panics
    ///
    /// A move failed, or the servers have lost keys by one.
    pub fn end(mut self) -> (usize, usize) {
        self.stop().unwrap_or_else(|cause| std::panic::resume_unwind(cause));
        let state = self.shared.lock();
        (state.finished, state.keys)
    }

    fn stop(&mut self) -> std::thread::Result<()> {
        self.shared.is_ending.store(true, Ordering::Release);
        self.moving.take().map_or(Ok(()), JoinHandle::join)
    }
}

impl Drop for SlotMover {
    fn drop(&mut self) {
        // A caller that waits for a move sees that none comes.
        let _ = self.stop();
    }
}

/// Ends all waiting for moves when the mover has ended for any reason.
struct Ending<'a>(&'a Shared);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.is_ending.store(true, Ordering::Release);
        self.0.rounds.send_modify(|round| *round += 1);
    }
}

/// A user of slots, such as a test case.
pub struct SlotUser {
    shared: Arc<Shared>,
    id: usize,
}

impl SlotUser {
    /// Notes that the user uses keys with a hash tag. The first call for a tag returns when its slot is on its way, or
    /// when the mover has ended.
    pub async fn use_tag(&self, tag: &str) {
        let is_first = {
            let mut state = self.shared.lock();
            let tags = &mut state.users.entry(self.id).or_default().tags;
            let is_first = tags.is_empty();
            tags.retain(|known| known != tag);
            tags.push_back(tag.to_owned());
            if tags.len() > SLOTS_OF_A_USER {
                tags.pop_front();
            }
            is_first
        };
        if is_first {
            let mut rounds = self.shared.rounds.subscribe();
            let begun = rounds.wait_for(|_| self.moves() > 0 || self.shared.is_ending.load(Ordering::Acquire));
            let begun = tokio::time::timeout(BEGINNING, begun).await;
            assert!(matches!(begun, Ok(Ok(_))), "the slot of {tag} does not move");
        }
    }

    /// How many moves were begun of the slots that this user had used last at the time.
    pub fn moves(&self) -> usize {
        self.shared.lock().users.get(&self.id).map_or(0, |used| used.moves)
    }

    /// How many moves of the slot of a tag were begun, of all users.
    pub fn moves_of(&self, tag: &str) -> usize {
        self.shared.lock().moves.get(tag).copied().unwrap_or_default()
    }
}

impl Drop for SlotUser {
    fn drop(&mut self) {
        self.shared.lock().users.remove(&self.id);
    }
}

/// A slot that moves, and the servers that it moves from and to.
struct Move {
    tag: String,
    slot: String,
    from: usize,
    to: usize,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    fn run(&self) {
        let servers = Server::all(&self.cluster);
        let mut connections: Vec<redis::Connection> = servers.iter().map(Server::connect).collect();
        let mut ears: Vec<PubSub<'_>> = connections.iter_mut().map(redis::Connection::as_pubsub).collect();
        ears.iter_mut().for_each(|ear| ear.subscribe(CHANNEL).expect("a subscription"));
        let mut owners: HashMap<String, usize> = HashMap::new();
        let mut round = 0;
        while !self.is_ending.load(Ordering::Acquire) {
            let moves = self.next_moves(&servers, &owners, round % servers.len());
            round += 1;
            if moves.is_empty() {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            for moved in &moves {
                let Move { tag, slot, from, to } = moved;
                // The slot moves for the first time, so it gets its marker.
                if !owners.contains_key(slot) {
                    servers[*from].set_marker(tag);
                }
                servers[*from].check_marker(tag, "at rest");
                let left = servers[*to].count_keys(slot);
                assert_eq!(left, 0, "slot {slot} is not the server's, which has keys of it: {}", servers[*to].port);
            }
            self.run_round(&servers, &moves, round % LONG_ROUND == 0);
            owners.extend(moves.iter().map(|moved| (moved.slot.clone(), moved.to)));
            self.lock().finished += moves.len();
            hear_out(&servers, &mut ears, round);
            wait_for_agreement(&servers, &owners);
            moves.iter().for_each(|Move { tag, to, .. }| servers[*to].check_marker(tag, "moved"));
            std::thread::sleep(AT_REST);
        }
    }

    /// The moves to the server `to` of all used slots that other servers have.
    fn next_moves(&self, servers: &[Server], owners: &HashMap<String, usize>, to: usize) -> Vec<Move> {
        let mut tags: Vec<String> = self.lock().users.values().flat_map(|used| &used.tags).cloned().collect();
        tags.sort_unstable();
        tags.dedup();
        let moves = tags.into_iter().map(|tag| {
            let slot = servers[0].ask(&["CLUSTER", "KEYSLOT", &format!("{{{tag}}}")]);
            let from = owners.get(&slot).copied().unwrap_or_else(|| first_owner(servers, &slot));
            Move { tag, slot, from, to }
        });
        moves.filter(|moved| moved.from != to).collect()
    }

    /// Moves several slots at once, through all states.
    fn run_round(&self, servers: &[Server], moves: &[Move], is_long: bool) {
        for Move { tag, slot, from, to } in moves {
            // The move is counted first, because the slot's users may see at once what it does.
            *self.lock().moves.entry(tag.clone()).or_default() += 1;
            servers[*to].set_slot(slot, "IMPORTING", &servers[*from].id);
            servers[*from].set_slot(slot, "MIGRATING", &servers[*to].id);
        }
        for moved in moves {
            let users = &mut self.lock().users;
            users.values_mut().filter(|used| used.tags.contains(&moved.tag)).for_each(|used| used.moves += 1);
        }
        self.rounds.send_modify(|round| *round += 1);
        std::thread::sleep(if is_long { LONG } else { ON_THE_WAY });
        for moved in moves {
            let keys = servers[moved.from].keys_of(&moved.slot);
            self.move_keys(servers, moved, &keys[..keys.len().div_ceil(2)]);
        }
        std::thread::sleep(ON_THE_WAY);
        for moved in moves {
            self.move_all_keys(servers, moved);
        }
        std::thread::sleep(ON_THE_WAY);
        for Move { tag, slot, from, to } in moves {
            let left = servers[*from].count_keys(slot);
            assert_eq!(
                left, 0,
                "slot {slot} goes to another server, and this one has got keys of it: {}",
                servers[*from].port
            );
            let is_there = servers[*to].keys_of(slot).contains(&marker_of(tag));
            assert!(is_there, "the servers have lost keys of slot {slot} on its way from {from} to {to}");
        }
        for Move { slot, from, to, .. } in moves {
            // The new owner is told first, so that the slot always has an owner.
            let others = (0..servers.len()).filter(|index| index != from && index != to);
            for index in [*to, *from].into_iter().chain(others) {
                servers[index].set_slot(slot, "NODE", &servers[*to].id);
            }
        }
    }

    /// Moves keys until none is left. While the slot moves away, its keys may be written, but no new key is made.
    fn move_all_keys(&self, servers: &[Server], moved: &Move) {
        for _ in 0..PATIENCE {
            let keys = servers[moved.from].keys_of(&moved.slot);
            if keys.is_empty() {
                return;
            }
            self.move_keys(servers, moved, &keys);
        }
        panic!("slot {} does not become empty", moved.slot);
    }

    fn move_keys(&self, servers: &[Server], Move { tag, from, to, .. }: &Move, keys: &[String]) {
        if keys.is_empty() {
            return;
        }
        let mut command = vec!["MIGRATE", "127.0.0.1", &servers[*to].port, "", "0", "5000", "KEYS"];
        command.extend(keys.iter().map(String::as_str));
        let answer = servers[*from].ask(&command);
        // `NOKEY` means that the keys have expired meanwhile.
        assert!(answer == "OK" || answer == "NOKEY", "MIGRATE of {} keys: {answer}", keys.len());
        self.lock().keys += keys.iter().filter(|key| **key != marker_of(tag)).count();
    }
}

/// The first owner of a slot, as `RedisCluster::start` distributes the slots.
fn first_owner(servers: &[Server], slot: &str) -> usize {
    usize::min(slot.parse::<usize>().expect("a slot") / 5_461, servers.len() - 1)
}

/// Waits until each server has heard everything that the other servers have said so far. A published message takes the
/// same way as what a server says of its slots, and comes after it. If two servers have no connection, nobody hears the
/// message, so it is published again.
fn hear_out(servers: &[Server], ears: &mut [PubSub<'_>], round: usize) {
    for attempt in 0..ATTEMPTS {
        let word = format!("{round}.{attempt}");
        for server in servers {
            server.ask(&["PUBLISH", CHANNEL, &format!("{word} {}", server.id)]);
        }
        if ears.iter_mut().all(|ear| hear_all(ear, &word, servers.len())) {
            return;
        }
    }
    panic!("the servers do not hear each other");
}

/// Whether a word comes from so many servers, including the one that listens.
fn hear_all(ear: &mut PubSub<'_>, word: &str, count: usize) -> bool {
    let mut speakers = BTreeSet::new();
    while speakers.len() < count {
        let message = match ear.get_message() {
            Ok(message) => message,
            Err(error) if error.is_timeout() => return false,
            Err(error) => panic!("listening to a server: {error}"),
        };
        let text: String = message.get_payload().expect("a text");
        // Words of an earlier attempt may come late.
        if let Some((said, speaker)) = text.split_once(' ')
            && said == word
        {
            speakers.insert(speaker.to_owned());
        }
    }
    true
}

/// Waits until all servers know the same slots and epochs of all servers. Checks that the slots are where they were
/// moved to.
fn wait_for_agreement(servers: &[Server], owners: &HashMap<String, usize>) {
    let agreed = (0..PATIENCE).find_map(|_| {
        let views: Vec<_> = servers.iter().map(Server::view).collect();
        if views.windows(2).all(|pair| pair[0] == pair[1]) {
            return views.into_iter().next();
        }
        std::thread::sleep(Duration::from_millis(2));
        None
    });
    let view = agreed.expect("servers that agree");
    for (slot, owner) in owners {
        let number: usize = slot.parse().expect("a slot");
        assert!(view[&servers[*owner].id].has(number), "slot {slot} is not where it was moved to: {view:#?}");
    }
}

/// What one server knows of another: its configuration epoch and its slots.
#[derive(Debug, PartialEq)]
struct Known {
    epoch: String,
    slots: Vec<(usize, usize)>,
}

impl Known {
    fn has(&self, slot: usize) -> bool {
        self.slots.iter().any(|(first, last)| (*first..=*last).contains(&slot))
    }
}

/// The key whose loss shows that a slot's keys are lost.
fn marker_of(tag: &str) -> String {
    format!("slot-mover:{{{tag}}}:marker")
}

/// A primary of the Cluster.
struct Server {
    id: String,
    port: String,
    cluster: Arc<RedisCluster>,
    index: usize,
}

impl Server {
    fn all(cluster: &Arc<RedisCluster>) -> Vec<Self> {
        let servers = cluster.servers().iter().enumerate();
        servers
            .map(|(index, server)| Self {
                id: server.cli(&["CLUSTER", "MYID"]),
                port: server.address().port().to_string(),
                cluster: cluster.clone(),
                index,
            })
            .collect()
    }

    fn ask(&self, arguments: &[&str]) -> String {
        self.cluster.servers()[self.index].cli(arguments)
    }

    /// The slots of all servers, by the servers' ids. A slot that is being moved stands in brackets in the answer, and
    /// is left out here.
    fn view(&self) -> BTreeMap<String, Known> {
        let nodes = self.ask(&["CLUSTER", "NODES"]);
        let parse = |text: &str| text.parse().expect("a slot");
        let lines = nodes.lines().map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let slots = words[8..].iter().filter(|word| !word.starts_with('['));
            let slots = slots.map(|range| range.split_once('-').unwrap_or((range, range)));
            let slots = slots.map(|(first, last)| (parse(first), parse(last))).collect();
            (words[0].to_owned(), Known { epoch: words[6].to_owned(), slots })
        });
        lines.collect()
    }

    fn connect(&self) -> redis::Connection {
        let client = redis::Client::open(self.cluster.servers()[self.index].url()).expect("an address");
        let connection = client.get_connection().expect("a server");
        connection.set_read_timeout(Some(HEARING)).expect("a time");
        connection
    }

    fn set_marker(&self, tag: &str) {
        let answer = self.ask(&["SET", &marker_of(tag), tag]);
        assert_eq!(answer, "OK", "the marker of {tag} on {}", self.port);
    }

    /// Checks that this server, which has the slot, has the slot's marker.
    fn check_marker(&self, tag: &str, when: &str) {
        let answer = self.ask(&["GET", &marker_of(tag)]);
        assert_eq!(answer, tag, "the servers have lost keys of the slot of {tag}, which is {when} on {}", self.port);
    }

    fn count_keys(&self, slot: &str) -> usize {
        self.ask(&["CLUSTER", "COUNTKEYSINSLOT", slot]).parse().expect("a number")
    }

    fn keys_of(&self, slot: &str) -> Vec<String> {
        let keys = self.ask(&["CLUSTER", "GETKEYSINSLOT", slot, "1000000"]);
        keys.lines().map(str::to_owned).collect()
    }

    /// Tells the server where a slot is or goes. If the server has not heard of the last move yet, it says that the
    /// slot is not its own. Then it is told again.
    fn set_slot(&self, slot: &str, how: &str, node: &str) {
        let mut answer = String::new();
        for _ in 0..PATIENCE {
            answer = self.ask(&["CLUSTER", "SETSLOT", slot, how, node]);
            if answer == "OK" {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("SETSLOT {slot} {how}: {answer}");
    }
}
