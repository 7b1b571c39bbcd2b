//! Running a script: once for sure or not at all, within a second.
//!
//! **Invariant:** an act is applied once, whatever happens to its reply. It carries an id, by which a repeat is
//! recognised, and a deadline in the store's time, after which it does nothing: who was told that it failed knows, a
//! second later, that it will not happen any more.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, ServerErrorKind, Value};

use super::Fence;
use super::connect::{Commands, was_not_sent};
use super::formats::{Formats, is_not_open};
use super::keys::Keys;
use super::reply::Reply;
use super::scripts::{self, Script};
use crate::clock;
use crate::domain::Bucket;
use crate::store::StoreError;
use crate::store::health::StoreHealth;

/// How long a call may take, its repeats included. Less than the second after which a 503 is final.
const CALL_TIME: Duration = Duration::from_millis(900);

/// The pauses between two tries: doubled from the first to the last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(4), Duration::from_millis(64));

/// One run of a script, but for what every script gets.
pub(super) struct Call {
    script: &'static Script,
    /// Whose fence is the first key.
    fence: Option<Bucket>,
    keys: Vec<String>,
    args: Vec<String>,
}

impl Call {
    pub(super) fn new(script: &'static Script) -> Self {
        Self { script, fence: None, keys: Vec::new(), args: Vec::new() }
    }

    /// Makes the fence of a bucket the first key.
    pub(super) fn fence(mut self, bucket: Bucket) -> Self {
        self.fence = Some(bucket);
        self
    }

    pub(super) fn key(mut self, key: String) -> Self {
        self.keys.push(key);
        self
    }

    pub(super) fn arg(mut self, arg: impl ToString) -> Self {
        self.args.push(arg.to_string());
        self
    }
}

/// Until when something must be answered.
#[derive(Clone, Copy)]
pub(super) struct Budget {
    ends: Instant,
}

impl Budget {
    /// What one call has, from now.
    pub(super) fn of_a_call() -> Self {
        Self { ends: clock::instant() + CALL_TIME }
    }

    fn left(self) -> Duration {
        self.ends.saturating_duration_since(clock::instant())
    }
}

/// Runs scripts and commands.
pub(super) struct Runner {
    commands: Commands,
    pub(super) keys: Keys,
    pub(super) formats: Formats,
    fence: Fence,
    shift_millis: i64,
    health: Arc<StoreHealth>,
    /// One a bucket: on a Cluster each may be on another server, whose clock is another.
    clocks: Vec<StoreClock>,
    /// Of whichever server answered last: good enough for the first act in a bucket.
    any_clock: StoreClock,
}

impl Runner {
    pub(super) fn new(
        commands: Commands,
        keys: Keys,
        fence: Fence,
        shift_millis: i64,
        health: Arc<StoreHealth>,
    ) -> Self {
        let clocks = Bucket::all().map(|_| StoreClock::default()).collect();
        let (formats, any_clock) = (Formats::default(), StoreClock::default());
        Self { commands, keys, formats, fence, shift_millis, health, clocks, any_clock }
    }

    /// Runs a script that may run any number of times: one that only reads, or sets what it would set again.
    pub(super) async fn repeatable(&self, call: &Call, budget: Budget) -> Result<Reply, StoreError> {
        let mut tries = Tries::new(call.script.name, budget);
        loop {
            match tries.within(self.send(call, &[])).await {
                Ok(reply) => return Ok(reply),
                Err(error) => tries.pause_after(error).await?,
            }
        }
    }

    /// Runs a script that must not run twice, whose first key is the fence of the bucket. It gets the act's id, the deadline
    /// and whether it was sent before as ARGV 4, 5 and 6, and answers `late` and `unknown` as `act.lua` says, with the
    /// store's time second.
    pub(super) async fn once(&self, bucket: Bucket, call: &Call, budget: Budget) -> Result<Reply, StoreError> {
        let mut tries = Tries::new(call.script.name, budget);
        let act_id = random_hex()?;
        if self.time(bucket).is_none() {
            self.learn_time(bucket, budget).await?;
        }
        loop {
            let deadline = self.time(bucket).unwrap_or_default().saturating_add(as_millis(budget.left()));
            let was_sent = if tries.may_be_done { "1" } else { "0" };
            let extra = [act_id.clone(), deadline.to_string(), was_sent.to_owned()];
            let sent = clock::instant();
            match tries.within(self.send(call, &extra)).await {
                Ok(reply) => {
                    self.learn(bucket, reply.number_at(1)?, sent);
                    match reply.text_at(0)? {
                        // This store's idea of the time was wrong, or the reply before this one took too long.
                        "late" => tries.pause_after(Failure::NotDone("it came after its deadline".into())).await?,
                        "unknown" => {
                            let cause = "its reply was lost, and the log does not reach back far enough to tell";
                            return Err(StoreError::new(call.script.name, cause));
                        }
                        _ => return Ok(reply),
                    }
                }
                Err(error) => tries.pause_after(error).await?,
            }
        }
    }

    /// Runs a plain command that may run any number of times.
    pub(super) async fn command(
        &self,
        doing: &'static str,
        command: &Cmd,
        budget: Budget,
    ) -> Result<Value, StoreError> {
        let mut tries = Tries::new(doing, budget);
        loop {
            let run = async { self.commands.send(command).await.map_err(Failure::from) };
            match tries.within(run).await {
                Ok(value) => return Ok(value),
                Err(error) => tries.pause_after(error).await?,
            }
        }
    }

    /// Asks the time of the server that has a bucket.
    pub(super) async fn learn_time(&self, bucket: Bucket, budget: Budget) -> Result<i64, StoreError> {
        let sent = clock::instant();
        let reply = self.repeatable(&Call::new(&scripts::PING).fence(bucket), budget).await?;
        let now = reply.number_at(0)?;
        self.learn(bucket, now, sent);
        Ok(now)
    }

    /// The time in ms of the server that has a bucket, as far as it is known.
    fn time(&self, bucket: Bucket) -> Option<i64> {
        self.clock(bucket).and_then(StoreClock::now).or_else(|| self.any_clock.now())
    }

    fn learn(&self, bucket: Bucket, server_millis: i64, sent: Instant) {
        for clock in self.clock(bucket).into_iter().chain([&self.any_clock]) {
            clock.learn(server_millis, sent);
        }
    }

    fn clock(&self, bucket: Bucket) -> Option<&StoreClock> {
        self.clocks.get(usize::from(bucket.get()))
    }

    fn fence(&self) -> Fence {
        match self.fence {
            Fence::Up if self.health.is_unfenced() => Fence::Down,
            fence => fence,
        }
    }

    /// Sends a call with the fence of its bucket. Where the fence is elsewhere or missing, the script has done nothing: the
    /// bucket is opened, and the call is sent again.
    async fn send(&self, call: &Call, extra: &[String]) -> Result<Reply, Failure> {
        let Some(bucket) = call.fence else { return Ok(self.send_plain(call, None, extra).await?) };
        let (key, format) = self.fence_key(bucket);
        match self.send_plain(call, Some(&key), extra).await {
            Err(Refused::ByServer(error)) if is_not_open(&error, format) => {
                Box::pin(self.open_bucket(bucket, false)).await?;
                let (key, _) = self.fence_key(bucket);
                Ok(self.send_plain(call, Some(&key), extra).await?)
            }
            other => Ok(other?),
        }
    }

    /// Sends a call as it is, after the key of a fence if it has one.
    pub(super) async fn send_plain(
        &self,
        call: &Call,
        fence: Option<&str>,
        extra: &[String],
    ) -> Result<Reply, Refused> {
        // New each time: a script that runs twice must not make the same epoch twice.
        let candidate = random_hex().map_err(|error| Refused::Other(error.0))?;
        let command = |how: &str, script: &str| {
            let mut command = redis::cmd(how);
            command.arg(script).arg(call.keys.len() + usize::from(fence.is_some())).arg(fence).arg(&call.keys);
            command.arg(&candidate).arg(self.fence().arg()).arg(self.shift_millis);
            command.arg(extra).arg(&call.args);
            command
        };
        let by_hash = self.commands.send(&command("EVALSHA", &call.script.sha)).await;
        let value = match by_hash {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.commands.send(&command("EVAL", &call.script.text)).await?
            }
            other => other?,
        };
        Vec::from_redis_value(value)
            .map(|values| Reply::new(call.script.name, values))
            .map_err(|error| Refused::Other(format!("a reply that is no array: {error}")))
    }
}

/// Why a call has no reply.
pub(super) enum Refused {
    /// The connection or the server says so.
    ByServer(RedisError),
    /// It would be the same at another try.
    Other(String),
}

impl From<RedisError> for Refused {
    fn from(error: RedisError) -> Self {
        Refused::ByServer(error)
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::ByServer(error) => error.into(),
            Refused::Other(cause) => Failure::Final(cause),
        }
    }
}

/// The tries of one call.
struct Tries {
    doing: &'static str,
    budget: Budget,
    pause: Duration,
    /// Whether a try may have been done although it failed.
    may_be_done: bool,
}

impl Tries {
    fn new(doing: &'static str, budget: Budget) -> Self {
        Self { doing, budget, pause: PAUSES.0, may_be_done: false }
    }

    async fn within<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let timeout = tokio::time::timeout(self.budget.left(), work).await;
        timeout.unwrap_or_else(|_| Err(Failure::Unknown("no answer in time".into())))
    }

    /// Waits a little before the next try; an error when there is none.
    async fn pause_after(&mut self, failure: Failure) -> Result<(), StoreError> {
        self.may_be_done |= matches!(failure, Failure::Unknown(_));
        let (Failure::NotDone(cause) | Failure::Unknown(cause) | Failure::Final(cause)) = &failure;
        if matches!(failure, Failure::Final(_)) || self.budget.left() <= self.pause {
            return Err(StoreError::new("Redis", StoreError::new(self.doing, cause)));
        }
        // Spread, so that those who failed together do not come back together.
        tokio::time::sleep(self.pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        self.pause = (self.pause * 2).min(PAUSES.1);
        Ok(())
    }
}

/// Why a try failed, and so whether there is another. Each says the cause.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nothing was done; it may be different in a moment.
    NotDone(String),
    /// It may have been done: the connection broke, or there was no answer.
    Unknown(String),
    /// Another try would fail as well.
    Final(String),
}

impl Failure {
    pub(super) fn cause(&self) -> &str {
        let (Failure::NotDone(cause) | Failure::Unknown(cause) | Failure::Final(cause)) = self;
        cause
    }
}

impl From<RedisError> for Failure {
    fn from(error: RedisError) -> Self {
        use ServerErrorKind::{Ask, BusyLoading, ClusterDown, MasterDown, Moved, NoScript, ReadOnly, TryAgain};
        let cause = error.to_string();
        match error.kind() {
            _ if was_not_sent(&error) => Failure::NotDone(cause),
            ErrorKind::Server(
                Ask | BusyLoading | ClusterDown | MasterDown | Moved | NoScript | ReadOnly | TryAgain,
            ) => Failure::NotDone(cause),
            // Another script runs for too long.
            _ if error.code() == Some("BUSY") => Failure::NotDone(cause),
            ErrorKind::Io | ErrorKind::Parse | ErrorKind::ClusterConnectionNotFound => Failure::Unknown(cause),
            _ => Failure::Final(cause),
        }
    }
}

/// What the server's clock shows, as its replies told: never more than it does, by this node's monotonic clock.
struct StoreClock {
    base: Instant,
    /// The server's time at `base` in ms. Held to read and write it, never across an await.
    offset: Mutex<Option<i64>>,
}

impl Default for StoreClock {
    fn default() -> Self {
        Self { base: clock::instant(), offset: Mutex::default() }
    }
}

impl StoreClock {
    /// The server's time in ms; `None` while nothing is known.
    fn now(&self) -> Option<i64> {
        let offset = (*self.lock())?;
        Some(offset.saturating_add(self.elapsed(clock::instant())))
    }

    /// Takes the server's time of a reply to what was sent at an instant: it was between the sending and now.
    fn learn(&self, server_millis: i64, sent: Instant) {
        let latest = server_millis.saturating_add(1).saturating_sub(self.elapsed(sent));
        let earliest = server_millis.saturating_sub(self.elapsed(clock::instant()));
        let mut offset = self.lock();
        *offset = Some(offset.unwrap_or(earliest).clamp(earliest, latest.max(earliest)));
    }

    fn elapsed(&self, instant: Instant) -> i64 {
        as_millis(instant.saturating_duration_since(self.base))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<i64>> {
        self.offset.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn as_millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn random_hex() -> Result<String, StoreError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| StoreError::new("the system has no random bytes", error))?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_stays_within_what_replies_prove() {
        let clock = StoreClock::default();
        let sent = clock.base;
        assert_eq!(clock.now(), None);
        std::thread::sleep(Duration::from_millis(5));
        clock.learn(1_000_000, sent);
        // It was shown at some time in the last 5 ms: at least that by now, and at most that and what has passed.
        let now = clock.now().unwrap();
        assert!((1_000_000..1_000_100).contains(&now), "{now}");
        // A server with another clock: the old idea cannot be true any more.
        clock.learn(500_000, crate::clock::instant());
        let now = clock.now().unwrap();
        assert!((500_000..500_100).contains(&now), "{now}");
        clock.learn(2_000_000, crate::clock::instant());
        assert!((2_000_000..2_000_100).contains(&clock.now().unwrap()));
    }
}
