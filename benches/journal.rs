//! What the journal costs: Redis's CPU an act with it and without, by turns on one server, and the bytes of an entry in Redis
//! and in the file. `cargo test --all-features --bench journal`.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "a measurement")]

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use slotcast::domain::{
    Actor, Day, HoldToken, Origin, SiteId, SlotAct, SlotActKind, SlotNumber, SlotTime, SpaceId, SpaceKey, StoreTime,
    UserId,
};
use slotcast::store::embedded::EmbeddedStore;
use slotcast::store::redis::{RedisOptions, RedisStore};
use slotcast::store::{JournalBounds, SlotStore};

/// How often it is measured with and without, by turns.
const TURNS: usize = 5;

/// How many times a slot is held, booked and cancelled in one turn.
const ROUNDS: u64 = 700;

/// How many acts each of 50 callers does on the file.
const ACTS_OF_A_CALLER: u32 = 800;

const KEPT: JournalBounds = JournalBounds { days: 90, max: 1_000_000 };

const NOT_KEPT: JournalBounds = JournalBounds { days: 0, max: 1_000_000 };

fn act(user: &UserId, kind: SlotActKind) -> SlotAct {
    let start = StoreTime::from_millis(3_797_000_000_000);
    let number = SlotNumber::new(1).unwrap();
    SlotAct {
        space: SpaceKey { site: SiteId::new(1).unwrap(), space: SpaceId::new(1).unwrap() },
        day: Day::parse("2090-05-05").unwrap(),
        slots: vec![SlotTime { number, start, end: start.plus_millis(3_600_000), label: "09:00".into() }],
        revision: None,
        kind,
        idempotency: None,
        origin: Some(Origin {
            user: user.clone(),
            role: None,
            request_id: Some("9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d".into()),
        }),
    }
}

/// An act, again while a busy machine gives no answer in time.
async fn apply(store: &dyn SlotStore, act: SlotAct) {
    while store.apply(act.clone()).await.is_err() {}
}

/// Three acts, each of which changes something.
async fn round(store: &dyn SlotStore, number: u64) {
    let user = UserId::new(&format!("user-{}", number % 200)).unwrap();
    let token = HoldToken::from_random(u128::from(number).to_be_bytes());
    let own = || Actor::User(user.clone());
    let hold =
        SlotActKind::Hold { user: user.clone(), token, millis: 900_000, max_holds: Some(12), max_held: Some(64) };
    let cancel =
        SlotActKind::Release { actor: own(), token: None, booked_by: Some(Actor::Anyone), cancel_before: None };
    for kind in [hold, SlotActKind::Book { actor: own(), token: None }, cancel] {
        apply(store, act(&user, kind)).await;
    }
}

struct Server {
    port: u16,
    process: Child,
}

impl Server {
    fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::sleep(Duration::from_millis(5));
        }
        Self { port, process }
    }

    fn store(&self, journal: JournalBounds) -> RedisStore {
        let options = RedisOptions { journal, ..RedisOptions::default() };
        RedisStore::open(&format!("redis://127.0.0.1:{}", self.port), "slotcast", options).unwrap()
    }

    fn cli(&self, arguments: &[&str]) -> String {
        let output = Command::new("redis-cli").args(["-p", &self.port.to_string()]).args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What the server's process has used, in microseconds.
    fn cpu(&self) -> f64 {
        let path = format!("/proc/{}/schedstat", self.process.id());
        let text = std::fs::read_to_string(path).unwrap();
        text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1_000.0
    }

    /// What the scripts of acts have used by the server's own count, in microseconds.
    fn script_micros(&self) -> f64 {
        let stats = self.cli(&["INFO", "commandstats"]);
        let line = stats.lines().find(|line| line.starts_with("cmdstat_evalsha:")).unwrap_or_default();
        line.split("usec=").nth(1).and_then(|rest| rest.split(',').next()).map_or(0.0, |text| text.parse().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

async fn measure_redis() {
    let server = Server::start();
    let stores = [server.store(NOT_KEPT), server.store(KEPT)];
    for store in &stores {
        round(store, 0).await;
    }
    let (mut process, mut scripts) = ([vec![], vec![]], [vec![], vec![]]);
    for turn in 0..TURNS as u64 {
        for (index, store) in stores.iter().enumerate() {
            let before = (server.cpu(), server.script_micros());
            for number in 0..ROUNDS {
                round(store, turn * ROUNDS + number).await;
            }
            let acts = (ROUNDS * 3) as f64;
            process[index].push((server.cpu() - before.0) / acts);
            scripts[index].push((server.script_micros() - before.1) / acts);
        }
    }
    for (name, [without, with]) in [("process", process), ("scripts", scripts)] {
        let (without, with) = (median(without), median(with));
        let more = (with / without - 1.0) * 100.0;
        println!("Redis, {name}: {without:.1} us an act without, {with:.1} us with: {more:.1} % more");
    }
    let key = server.cli(&["KEYS", "*:journal"]).trim().to_owned();
    let bytes: f64 = server.cli(&["MEMORY", "USAGE", &key, "SAMPLES", "0"]).trim().parse().unwrap();
    let count: f64 = server.cli(&["XLEN", &key]).trim().parse().unwrap();
    let people = server.cli(&["KEYS", "*:people:*"]).trim().to_owned();
    let people: f64 = server.cli(&["MEMORY", "USAGE", &people, "SAMPLES", "0"]).trim().parse().unwrap();
    println!(
        "Redis: {:.0} bytes an entry ({count} entries), {:.0} bytes a person and month",
        bytes / count,
        people / 200.0
    );
}

async fn measure_file() {
    let mut sizes = Vec::new();
    for journal in [NOT_KEPT, KEPT] {
        let folder = tempfile::tempdir().unwrap();
        let store = std::sync::Arc::new(EmbeddedStore::open_with(folder.path(), journal).unwrap());
        let callers = (0..50_u64).map(|caller| {
            let store = store.clone();
            async move {
                for _ in 0..ACTS_OF_A_CALLER {
                    let user = UserId::new(&format!("user-{caller}")).unwrap();
                    let kind =
                        SlotActKind::Update { to: slotcast::domain::act::StaffStatus::Blocked, data: None, user: None };
                    apply(store.as_ref(), act(&user, kind)).await;
                }
            }
        });
        futures_util::future::join_all(callers).await;
        drop(store);
        sizes.push(std::fs::metadata(folder.path().join("slotcast.redb")).unwrap().len() as f64);
    }
    println!(
        "File: {:.0} and {:.0} KiB: {:.0} bytes an entry",
        sizes[0] / 1024.0,
        sizes[1] / 1024.0,
        (sizes[1] - sizes[0]) / f64::from(50 * ACTS_OF_A_CALLER)
    );
}

fn main() {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        measure_redis().await;
        measure_file().await;
    });
}
