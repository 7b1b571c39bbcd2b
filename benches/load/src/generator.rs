//! All clients and all publishers on one thread.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use mio::{Events, Interest, Poll, Token, Waker};
use serde_json::{Value, json};

use crate::client::{Client, Heard, Script, Stage, client_frame};
use crate::commands::{ComeBack, Open, Publish};
use crate::latency::Latencies;
use crate::publisher::Publisher;

/// The token of the waker; clients count from 0, publishers from `PUBLISHERS`.
const WAKER: Token = Token(usize::MAX - 1);
const PUBLISHERS: usize = 1 << 32;

/// How long the last updates may come after the last answer.
const LAST_UPDATES: Duration = Duration::from_secs(20);

/// The longest turn while something is awaited.
const TURN: Duration = Duration::from_millis(1);

/// The text before the sending time in an update.
const SENT: &[u8] = b"\"sent\":";

/// All clients and publishers.
pub struct Generator {
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    started: Instant,
    clients: Vec<Slot>,
    publishers: Vec<Publisher>,
    heard: Updates,
    answers: Answers,
    opening: Opening,
    returning: Option<Returning>,
}

/// A client's entry, which stays while the client is away.
struct Slot {
    client: Option<Client>,
    script: Rc<Script>,
    attempts: u32,
    /// When it lost its connection.
    lost: Option<Instant>,
}

/// What clients heard since the last `forget`.
#[derive(Default)]
struct Updates {
    latencies: Latencies,
    count: u64,
    snapshots: u64,
    last: Option<Instant>,
}

/// What publishers were answered.
#[derive(Default)]
struct Answers {
    latencies: Latencies,
    by_status: BTreeMap<u16, u64>,
    last: Option<Instant>,
}

/// The outcome for the clients of the last `open`.
#[derive(Default)]
struct Opening {
    settled: usize,
    failures: BTreeMap<String, usize>,
    latencies: Latencies,
    last: Option<Instant>,
}

impl Opening {
    fn failed(&self) -> usize {
        self.failures.values().sum()
    }

    fn fail(&mut self, why: &str) {
        *self.failures.entry(why.to_owned()).or_default() += 1;
    }
}

/// How clients come back, and since when.
struct Returning {
    how: ComeBack,
    turn: usize,
    /// When each client tries again.
    due: BTreeMap<(Instant, usize), ()>,
    first_loss: Option<Instant>,
    lost: usize,
    attempts: usize,
    back: usize,
    latencies: Latencies,
    last: Option<Instant>,
}

impl Generator {
    /// A generator without connections.
    ///
    /// # Errors
    ///
    /// The system has no more descriptors.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(4_096),
            buffer: vec![0; 65_536],
            started: Instant::now(),
            clients: Vec::new(),
            publishers: Vec::new(),
            heard: Updates::default(),
            answers: Answers::default(),
            opening: Opening::default(),
            returning: None,
        })
    }

    /// Wakes a turn from another thread.
    ///
    /// # Errors
    ///
    /// The system has no more descriptors.
    pub fn waker(&self) -> anyhow::Result<Waker> {
        Ok(Waker::new(self.poll.registry(), WAKER)?)
    }

    /// Handles what has come; waits for it until `patience` is over, and without one until something comes.
    ///
    /// # Errors
    ///
    /// The system cannot wait.
    pub fn turn(&mut self, patience: Option<Duration>) -> anyhow::Result<()> {
        let patience = if self.returning.is_some() { Some(patience.unwrap_or(TURN).min(TURN)) } else { patience };
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        let polled = self.poll.poll(&mut events, patience);
        if let Err(error) = polled
            && error.kind() != io::ErrorKind::Interrupted
        {
            self.events = events;
            return Err(error.into());
        }
        let mut heard = Ok(());
        for event in &events {
            match event.token() {
                WAKER => {}
                Token(index) if index >= PUBLISHERS => heard = heard.and(self.hear_answer(index - PUBLISHERS)),
                Token(index) => {
                    let is_readable = event.is_readable() || event.is_read_closed() || event.is_error();
                    self.hear_client(index, event.is_writable(), is_readable);
                }
            }
        }
        self.events = events;
        self.try_again();
        heard
    }

    fn hear_client(&mut self, index: usize, is_writable: bool, is_readable: bool) {
        let Some(client) = self.clients.get_mut(index).and_then(|slot| slot.client.as_mut()) else { return };
        let (began, now) = (client.began, Instant::now());
        let nanos = u64::try_from((now - self.started).as_nanos()).unwrap_or(u64::MAX);
        let mut settled = false;
        let mut refusal = None;
        let updates = &mut self.heard;
        let mut ended = if is_writable { client.writable() } else { Ok(()) };
        if ended.is_ok() && is_readable && client.stage != Stage::Connecting {
            ended = client.readable(&mut self.buffer, |heard| match heard {
                Heard::Update(text) => updates.note(text, nanos, now),
                Heard::Snapshot => updates.snapshots += 1,
                Heard::Settled => settled = true,
                Heard::Refused(text) => refusal = Some(String::from_utf8_lossy(text).into_owned()),
            });
        }
        if settled {
            self.note_settled(index, began);
        }
        if let Some(refusal) = refusal {
            ended = Err(io::Error::other(refusal));
        }
        if let Err(error) = ended {
            self.lose(index, &error);
        }
    }

    fn note_settled(&mut self, index: usize, began: Instant) {
        let now = Instant::now();
        let nanos = |since: Instant| u64::try_from((now - since).as_nanos()).unwrap_or(u64::MAX);
        let Some(slot) = self.clients.get_mut(index) else { return };
        slot.attempts = 0;
        if let (Some(lost), Some(returning)) = (slot.lost.take(), self.returning.as_mut()) {
            returning.back += 1;
            returning.latencies.note_nanos(nanos(lost));
            returning.last = Some(now);
            return;
        }
        self.opening.settled += 1;
        self.opening.latencies.note_nanos(nanos(began));
        self.opening.last = Some(now);
    }

    /// Notes that a client's connection has ended. The client comes back if clients do.
    fn lose(&mut self, index: usize, error: &io::Error) {
        let Some(slot) = self.clients.get_mut(index) else { return };
        let Some(client) = slot.client.take() else { return };
        let now = Instant::now();
        if let Some(returning) = self.returning.as_mut() {
            if slot.lost.is_none() {
                slot.lost = Some(now);
                returning.lost += 1;
                returning.first_loss.get_or_insert(now);
            }
            returning.due.insert((now + returning.wait(slot.attempts), index), ());
            slot.attempts += 1;
        } else if client.stage != Stage::Settled {
            self.opening.fail(&format!("{:?}: {error}", client.stage));
        } else {
            self.opening.fail(&format!("later: {error}"));
        }
    }

    /// Connects those whose wait is over.
    fn try_again(&mut self) {
        let now = Instant::now();
        loop {
            let Some(returning) = self.returning.as_mut() else { return };
            let Some((&(due, index), ())) = returning.due.first_key_value() else { return };
            if due > now {
                return;
            }
            returning.due.remove(&(due, index));
            returning.attempts += 1;
            returning.turn += 1;
            let Some(&target) = returning.how.targets.get(returning.turn % returning.how.targets.len().max(1)) else {
                return;
            };
            if let Err(error) = self.connect(index, target) {
                self.lose(index, &error);
            }
        }
    }

    fn connect(&mut self, index: usize, target: SocketAddr) -> io::Result<()> {
        let Some(slot) = self.clients.get_mut(index) else { return Ok(()) };
        let mut client = Client::connect(index, target, slot.script.clone())?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(client.stream(), Token(index), interest)?;
        slot.client = Some(client);
        Ok(())
    }

    /// Connects clients. Answers once all are settled or the patience is over.
    ///
    /// # Errors
    ///
    /// The tokens cannot be read.
    pub fn open(&mut self, open: Open) -> anyhow::Result<Value> {
        ensure!(!open.targets.is_empty() && open.parallel > 0, "no target, or none at a time");
        let tokens = std::fs::read_to_string(&open.tokens).context("reading the tokens")?;
        let tokens: Vec<&str> = tokens.lines().collect();
        let first = self.clients.len();
        for number in first..first + open.count {
            let token = tokens.get(number % tokens.len().max(1)).context("no tokens")?;
            let script = Rc::new(script_of(&open, token, number));
            self.clients.push(Slot { client: None, script, attempts: 0, lost: None });
        }
        self.opening = Opening::default();
        let began = Instant::now();
        let patience = Duration::from_millis(open.patience_ms);
        let mut begun = 0;
        while self.opening.settled + self.opening.failed() < open.count && began.elapsed() < patience {
            let due = if open.rate == 0 { usize::MAX } else { due_at(open.rate, began.elapsed()) };
            while begun < open.count.min(due)
                && begun - self.opening.settled.min(begun) < open.parallel + self.opening.failed()
            {
                let target = open.targets.get(begun % open.targets.len()).context("no target")?;
                if let Err(error) = self.connect(first + begun, *target) {
                    self.opening.fail(&format!("connect: {error}"));
                }
                begun += 1;
            }
            self.turn(Some(TURN))?;
        }
        let took = self.opening.last.map_or(0.0, |last| (last - began).as_secs_f64());
        Ok(json!({
            "asked": open.count,
            "settled": self.opening.settled,
            "stuck": self.stuck(first),
            "failures": self.opening.failures,
            "took_s": took,
            "latency_us": self.opening.latencies.summary(),
        }))
    }

    /// How many clients are connected or joined, as requested.
    fn settled(&self) -> usize {
        let clients = self.clients.iter().filter_map(|slot| slot.client.as_ref());
        clients.filter(|client| client.stage == Stage::Settled).count()
    }

    /// How many of the clients from `first` on stand at each stage of the handshakes.
    fn stuck(&self, first: usize) -> BTreeMap<String, usize> {
        let mut stages = BTreeMap::new();
        for client in self.clients.iter().skip(first).filter_map(|slot| slot.client.as_ref()) {
            if client.stage != Stage::Settled {
                *stages.entry(format!("{:?}", client.stage)).or_default() += 1;
            }
        }
        stages
    }

    /// Forgets the updates that were heard.
    pub fn forget(&mut self) -> Value {
        self.heard = Updates::default();
        json!({})
    }

    /// How many clients there are, and what they heard.
    pub fn heard(&mut self) -> Value {
        json!({
            "settled": self.settled(),
            "lost": self.opening.failures,
            "updates": self.heard.count,
            "snapshots": self.heard.snapshots,
            "latency_us": self.heard.latencies.summary(),
        })
    }

    /// Sends requests, and answers when all answers and all updates have come, or no more do.
    ///
    /// # Errors
    ///
    /// The server cannot be reached, or closed a connection.
    pub fn publish(&mut self, publish: Publish) -> anyhow::Result<Value> {
        self.publishers.clear();
        ensure!(!publish.targets.is_empty() && !publish.requests.is_empty(), "no target, or no request");
        self.open_publishers(&publish)?;
        self.heard = Updates::default();
        self.answers = Answers::default();
        let began = Instant::now();
        let sent = self.send_requests(&publish, began)?;
        let sending = began.elapsed();
        self.await_updates(&publish)?;
        let success = self.answers.by_status.get(&200).copied().unwrap_or(0);
        self.publishers.clear();
        let last_answer = self.answers.last.map_or(sending, |last| last - began);
        let last = self.heard.last.map_or(last_answer, |last| (last - began).max(last_answer));
        Ok(json!({
            "sent": sent,
            "accepted": success,
            "by_status": self.answers.by_status,
            "accepted_per_s": success as f64 / last_answer.as_secs_f64(),
            "answer_us": self.answers.latencies.summary(),
            "settled": self.settled(),
            "expected": success * publish.recipients,
            "delivered": self.heard.count,
            "snapshots": self.heard.snapshots,
            "took_s": last.as_secs_f64(),
            "sending_s": last_answer.as_secs_f64(),
            "latency_us": self.heard.latencies.summary(),
        }))
    }

    fn open_publishers(&mut self, publish: &Publish) -> anyhow::Result<()> {
        for number in 0..publish.connections {
            let target = publish.targets.get(number % publish.targets.len()).context("no target")?;
            let requests = publish.requests.get(number % publish.requests.len()).cloned().unwrap_or_default();
            let mut publisher = Publisher::connect(*target, &publish.token, requests, publish.once)?;
            self.poll.registry().register(publisher.stream(), Token(PUBLISHERS + number), Interest::READABLE)?;
            self.publishers.push(publisher);
        }
        Ok(())
    }

    /// Sends until the time is over or nothing is left, and waits for the answers. Returns how many requests were sent.
    fn send_requests(&mut self, publish: &Publish, began: Instant) -> anyhow::Result<u64> {
        let end = Duration::from_millis(publish.for_ms);
        let mut sent = 0_u64;
        let mut exhausted = 0;
        let mut turn = 0;
        loop {
            let is_over = if publish.once { exhausted >= self.publishers.len() } else { began.elapsed() >= end };
            if is_over && self.publishers.iter().all(|publisher| publisher.sent.is_none()) {
                return Ok(sent);
            }
            ensure!(
                !is_over || began.elapsed() < end + LAST_UPDATES || publish.once,
                "some requests were not answered"
            );
            let count = self.publishers.len();
            // Starts where the last round ended, so that a slow answer does not keep the others waiting.
            for _ in 0..count {
                if is_over || sent >= self.allowed(publish, began) {
                    break;
                }
                let now = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
                let Some(publisher) = self.publishers.get_mut(turn % count) else { break };
                turn += 1;
                if publisher.sent.is_some() {
                    continue;
                }
                if publisher.send(now).context("sending a request")? {
                    sent += 1;
                } else {
                    exhausted += 1;
                }
            }
            if publish.once && exhausted < count {
                exhausted = 0;
            }
            self.turn(Some(TURN))?;
        }
    }

    /// How many requests may have been sent by now, by the rate and by what was heard.
    fn allowed(&self, publish: &Publish, began: Instant) -> u64 {
        let due = if publish.rate == 0 { u64::MAX } else { due_at(publish.rate, began.elapsed()) as u64 };
        let heard = self.heard.count.checked_div(publish.recipients).unwrap_or(0);
        if publish.ahead == 0 { due } else { due.min(heard + publish.ahead) }
    }

    /// Waits for the updates that are still to come.
    fn await_updates(&mut self, publish: &Publish) -> anyhow::Result<()> {
        let expected = self.answers.by_status.get(&200).copied().unwrap_or(0) * publish.recipients;
        let mut last = Instant::now();
        let mut count = self.heard.count;
        while self.heard.count < expected && last.elapsed() < LAST_UPDATES {
            self.turn(Some(TURN))?;
            if self.heard.count != count {
                count = self.heard.count;
                last = Instant::now();
            }
        }
        Ok(())
    }

    fn hear_answer(&mut self, index: usize) -> anyhow::Result<()> {
        let Some(publisher) = self.publishers.get_mut(index) else { return Ok(()) };
        let sent = publisher.sent;
        let read = publisher.readable(&mut self.buffer);
        if read.is_err() && sent.is_none() {
            publisher.reconnect().context("connecting again")?;
            self.poll.registry().register(publisher.stream(), Token(PUBLISHERS + index), Interest::READABLE)?;
            return Ok(());
        }
        let Some(status) = read.context("reading an answer")? else { return Ok(()) };
        let now = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        if let Some(sent) = sent {
            self.answers.latencies.note_nanos(now.saturating_sub(sent));
        }
        *self.answers.by_status.entry(status).or_default() += 1;
        self.answers.last = Some(Instant::now());
        Ok(())
    }

    /// Clients that lose their connection come back from now on.
    ///
    /// # Errors
    ///
    /// There is nowhere to come back to.
    pub fn come_back(&mut self, how: ComeBack) -> anyhow::Result<Value> {
        ensure!(!how.targets.is_empty(), "no target");
        self.returning = Some(Returning::new(how));
        Ok(json!({}))
    }

    /// Waits until all that were lost are back. Clients stay where they are lost after that.
    ///
    /// # Errors
    ///
    /// `come_back` was not called.
    pub fn await_back(&mut self, patience_ms: u64) -> anyhow::Result<Value> {
        let began = Instant::now();
        let is_back = |returning: &Returning| returning.lost > 0 && returning.back >= returning.lost;
        while began.elapsed() < Duration::from_millis(patience_ms) && !self.returning.as_ref().is_none_or(is_back) {
            self.turn(Some(TURN))?;
        }
        let mut returning = self.returning.take().context("nobody was told to come back")?;
        let took = returning.first_loss.zip(returning.last).map(|(first, last)| (last - first).as_secs_f64());
        Ok(json!({
            "lost": returning.lost,
            "back": returning.back,
            "attempts": returning.attempts,
            "took_s": took,
            "latency_us": returning.latencies.summary(),
        }))
    }

    /// Closes all clients, each with a FIN.
    ///
    /// # Errors
    ///
    /// The system refuses.
    pub fn close(&mut self) -> anyhow::Result<Value> {
        let count = self.clients.len();
        self.clients.clear();
        self.heard = Updates::default();
        Ok(json!({ "closed": count }))
    }
}

impl Updates {
    fn note(&mut self, text: &[u8], nanos: u64, now: Instant) {
        self.count += 1;
        self.last = Some(now);
        let Some(start) = memchr::memmem::rfind(text, SENT) else { return };
        let digits = text.get(start + SENT.len()..).unwrap_or_default().iter().take_while(|byte| byte.is_ascii_digit());
        let sent = digits.fold(0_u64, |sum, byte| sum.wrapping_mul(10).wrapping_add(u64::from(byte - b'0')));
        self.latencies.note_nanos(nanos.saturating_sub(sent));
    }
}

impl Returning {
    fn new(how: ComeBack) -> Self {
        let due = BTreeMap::new();
        let latencies = Latencies::default();
        Self { how, turn: 0, due, first_loss: None, lost: 0, attempts: 0, back: 0, latencies, last: None }
    }

    /// The wait before an attempt, as `socket.io-client` computes it.
    fn wait(&self, attempts: u32) -> Duration {
        let wait = self.how.delay_ms.saturating_mul(1 << attempts.min(16)) as f64;
        let random = f64::from(random()) / f64::from(u32::MAX) * 2.0 - 1.0;
        let wait = (wait + wait * self.how.randomization * random).min(self.how.delay_max_ms as f64);
        Duration::from_secs_f64(wait / 1_000.0)
    }
}

/// A number that nobody needs to foresee. It need not be more random than that.
fn random() -> u32 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let bits = RandomState::new().build_hasher().finish();
    u32::try_from(bits >> 32).unwrap_or(0)
}

/// How many are due after a time at a rate a second. The first one is due at once.
fn due_at(rate: u64, elapsed: Duration) -> usize {
    1 + (elapsed.as_secs_f64() * rate as f64) as usize
}

fn script_of(open: &Open, token: &str, number: usize) -> Script {
    let connect = client_frame(&format!("40{}", json!({ "token": token })));
    let Some(space) = number.checked_rem(open.spaces.len()).and_then(|index| open.spaces.get(index)) else {
        return Script { connect, join: Vec::new(), joins: false };
    };
    let mut space = json!({ "spazioId": space, "sedeId": 1 });
    if let (Some(date), Some(fields)) = (&open.date, space.as_object_mut()) {
        fields.insert("date".to_owned(), json!(date));
    }
    let join = client_frame(&format!("42{}", json!(["join_space", space])));
    if open.early {
        return Script { connect: [connect, join].concat(), join: Vec::new(), joins: true };
    }
    Script { connect, join, joins: true }
}
