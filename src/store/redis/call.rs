//! Runs a script exactly once or not at all, within a second.
//!
//! **Invariant:** an act is done once, whatever happens to its reply. It has an id, by which a repeat is recognized,
//! and a deadline in the store's time, after which the script does nothing. So a caller who was told of a failure knows
//! a second later that the act will not be done any more. A copy that comes after a later copy, for example over a
//! connection that was given up, does nothing either.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, ServerErrorKind, Value};

use super::Fence;
use super::connect::{Commands, Route, Server, was_not_sent};
use super::formats::{Formats, is_not_open};
use super::indexes::Indexed;
use super::keys::Keys;
use super::positions::Positions;
use super::reply::Reply;
use super::scripts::{self, Script};
use crate::clock;
use crate::domain::Bucket;
use crate::random;
use crate::store::health::{StoreFault, StoreHealth};
use crate::store::{StoreError, Topic};

/// How long a call may take, including its repeats. This is less than the second after which a 503 is final.
const CALL_TIME: Duration = Duration::from_millis(900);

/// The shortest and the longest pause between two tries. Each pause is twice the one before.
const PAUSES: (Duration, Duration) = (Duration::from_millis(4), Duration::from_millis(64));

/// One run of a script, without the arguments that every script gets.
pub(super) struct Call {
    script: &'static Script,
    /// The bucket whose fence is the first key.
    fence: Option<Bucket>,
    /// The topic that the script writes to, which may be half done.
    topic: Option<Topic>,
    keys: Vec<String>,
    args: Vec<String>,
}

impl Call {
    pub(super) fn new(script: &'static Script) -> Self {
        Self { script, fence: None, topic: None, keys: Vec::new(), args: Vec::new() }
    }

    /// Makes the bucket's fence the first key.
    pub(super) fn fence(mut self, bucket: Bucket) -> Self {
        self.fence = Some(bucket);
        self
    }

    /// A script that writes to a topic. Its first key is the fence of the topic's bucket.
    pub(super) fn writing(script: &'static Script, topic: Topic) -> Self {
        Self { topic: Some(topic), ..Self::new(script).fence(topic.bucket()) }
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

/// The time until which something must be answered.
#[derive(Clone, Copy)]
pub(super) struct Budget {
    ends: Instant,
}

impl Budget {
    /// The time of one call, from now.
    pub(super) fn of_a_call() -> Self {
        Self { ends: clock::instant() + CALL_TIME }
    }

    fn left(self) -> Duration {
        self.ends.saturating_duration_since(clock::instant())
    }
}

/// Runs scripts and commands.
pub(super) struct Runner {
    pub(super) commands: Commands,
    pub(super) keys: Keys,
    pub(super) formats: Formats,
    pub(super) indexed: Indexed,
    pub(super) positions: Positions,
    fence: Fence,
    shift_millis: i64,
    pub(super) health: Arc<StoreHealth>,
}

/// The arguments of a script that must not run twice.
pub(super) struct Once {
    act_id: String,
    budget: Budget,
    /// How many copies were sent before, and may have been done or still come.
    copies: u32,
}

/// A script's reply, with what is needed to learn the server's time from it.
pub(super) struct Answer {
    pub(super) reply: Reply,
    server: Server,
    sent: Instant,
}

impl Answer {
    /// Learns the server's time, in ms, from the reply.
    fn learn_time(&self, millis: i64) {
        self.server.clock().learn(millis, self.sent);
    }
}

impl Runner {
    pub(super) fn new(
        commands: Commands,
        keys: Keys,
        fence: Fence,
        shift_millis: i64,
        health: Arc<StoreHealth>,
    ) -> Self {
        let (formats, indexed, positions) = (Formats::default(), Indexed::default(), Positions::default());
        Self { commands, keys, formats, indexed, positions, fence, shift_millis, health }
    }

    /// Runs a script that may run any number of times, because it only reads, or sets the same again.
    pub(super) async fn repeatable(&self, call: &Call, budget: Budget) -> Result<Reply, StoreError> {
        let mut tries = Tries::new(call.script.name, budget);
        loop {
            match tries.within(self.send(call, None)).await {
                Ok(answer) => return Ok(answer.reply),
                Err(error) => tries.pause_after(error).await?,
            }
        }
    }

    /// Runs a script that must not run twice, and whose first key is the bucket's fence. ARGV 4, 5 and 6 are the act's id,
    /// the deadline, and how many copies were sent before. The script answers `late`, `unknown` and `half` as `act.lua`
    /// says, each with the store's time second.
    pub(super) async fn once(&self, call: &Call, budget: Budget) -> Result<Reply, StoreError> {
        let mut tries = Tries::new(call.script.name, budget);
        let mut once = Once { act_id: random::hex()?, budget, copies: 0 };
        if let Some(bucket) = call.fence {
            self.refuse_without_rights(bucket).await?;
        }
        loop {
            once.copies = tries.unknown;
            match tries.within(self.send(call, Some(&once))).await {
                Ok(answer) => {
                    answer.learn_time(answer.reply.number_at(1)?);
                    let reply = answer.reply;
                    match reply.text_at(0)? {
                        // The deadline was computed from a wrong idea of the time, or an earlier reply took too long.
                        "late" => {
                            tries.pause_after(Failure::NotDone("the call came after its deadline".into())).await?
                        }
                        "half" => {
                            if let Some(topic) = call.topic {
                                self.repair(topic, reply.text_at(2)?, budget).await?;
                            }
                            tries.pause_after(Failure::NotDone("an earlier act is half done".into())).await?;
                        }
                        "unknown" => {
                            let cause = "the reply was lost, and the log no longer shows whether the act was done";
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

    /// Asks the server that takes a bucket's acts for its time in ms.
    pub(super) async fn ask_time(&self, bucket: Bucket, budget: Budget) -> Result<i64, StoreError> {
        let mut tries = Tries::new(scripts::PING.name, budget);
        let call = Call::new(&scripts::PING).fence(bucket);
        loop {
            match tries.within(self.send(&call, None)).await {
                Ok(answer) => {
                    let now = answer.reply.number_at(0)?;
                    answer.learn_time(now);
                    return Ok(now);
                }
                Err(error) => tries.pause_after(error).await?,
            }
        }
    }

    pub(super) fn fence(&self) -> Fence {
        match self.fence {
            Fence::Up if self.health.is_unfenced() => Fence::Down,
            fence => fence,
        }
    }

    /// Sends a call with the fence of its bucket. If the fence is elsewhere or missing, the script has done nothing: the
    /// bucket is opened, and the call is sent again.
    async fn send(&self, call: &Call, once: Option<&Once>) -> Result<Answer, Failure> {
        let Some(bucket) = call.fence else { return Ok(self.send_plain(call, None, once).await?) };
        let (key, format) = self.fence_key(bucket);
        match self.send_plain(call, Some(&key), once).await {
            Err(Refused::ByServer(error)) if is_not_open(&error, format) => {
                Box::pin(self.open_bucket(bucket, false)).await?;
                let (key, _) = self.fence_key(bucket);
                Ok(self.send_plain(call, Some(&key), once).await?)
            }
            other => Ok(other?),
        }
    }

    /// Sends a call, with the key of a fence first if it has one, to the server that has its first key, wherever that
    /// moves.
    pub(super) async fn send_plain(
        &self,
        call: &Call,
        fence: Option<&str>,
        once: Option<&Once>,
    ) -> Result<Answer, Refused> {
        let first_key = fence.or_else(|| call.keys.first().map(String::as_str));
        let mut route = Route::to_key(first_key.unwrap_or_default());
        loop {
            let server = self.commands.server(&route).await?;
            match self.send_to(&server, call, fence, once).await {
                Ok((value, sent)) => {
                    let values = Vec::from_redis_value(value)
                        .map_err(|error| Refused::Other(format!("a reply that is no array: {error}")))?;
                    return Ok(Answer { reply: Reply::new(call.script.name, values), server, sent });
                }
                Err(Refused::ByServer(error)) if self.commands.follow(&mut route, &error).await => {}
                Err(refused) => {
                    if let Refused::ByServer(error) = &refused {
                        self.suspect(error);
                        if error.code() == Some(ALONE) {
                            server.tell_alone();
                        }
                    }
                    return Err(refused);
                }
            }
        }
    }

    /// Runs a script on one server. Answers its reply, and when it was sent.
    async fn send_to(
        &self,
        server: &Server,
        call: &Call,
        fence: Option<&str>,
        once: Option<&Once>,
    ) -> Result<(Value, Instant), Refused> {
        let extra = match once {
            None => Vec::new(),
            Some(once) => self.args_of_once(server, once).await?,
        };
        // The id is a new one each time, because a script that runs twice must not begin the same epoch twice.
        let candidate = random::hex().map_err(|error| Refused::Other(error.to_string()))?;
        let run = async |script: &Script| {
            let fence_arg = self.fence_arg(server, script);
            let command = |how: &str, script: &str| {
                let mut command = redis::cmd(how);
                command.arg(script).arg(call.keys.len() + usize::from(fence.is_some())).arg(fence).arg(&call.keys);
                command.arg(&candidate).arg(&*fence_arg).arg(self.shift_millis);
                command.arg(&extra).arg(&call.args);
                command
            };
            match server.send(&command("EVALSHA", &script.sha)).await {
                Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                    server.send(&command("EVAL", &script.text)).await
                }
                answer => answer,
            }
        };
        let sent = clock::instant();
        let value = match (run(call.script).await, &call.script.reading) {
            // Reads still work. A script that has to begin an epoch cannot do so, and fails as before.
            (Err(error), Some(reading)) if refuses_writes(&error) => {
                self.suspect(&error);
                run(reading).await.map_err(|_| error)
            }
            (answer, _) => answer,
        };
        Ok((value?, sent))
    }

    /// Asks the watch to check the server's rights, if the server said that this process lacks some.
    fn suspect(&self, error: &RedisError) {
        if refuses_writes(error) {
            self.health.suspect(StoreFault::WritesRefused, format!("Redis takes no writes: {error}"));
        } else if refuses_user(error) {
            self.health.suspect(StoreFault::RightsMissing, format!("Redis refuses its user: {error}"));
        }
    }

    /// ARGV 4, 5 and 6. The deadline is by the clock of the server that gets the script. By another server's clock it
    /// could be so late that an act is done long after its 503.
    async fn args_of_once(&self, server: &Server, once: &Once) -> Result<Vec<String>, Refused> {
        let now = match server.clock().now() {
            Some(now) => now,
            None => self.learn_time(server).await?,
        };
        let deadline = now.saturating_add(as_millis(once.budget.left()));
        Ok(vec![once.act_id.clone(), deadline.to_string(), once.copies.to_string()])
    }

    /// Asks a server for its time in ms, once for each connection. The question names no key, because the bucket's keys
    /// may be moving to this server.
    async fn learn_time(&self, server: &Server) -> Result<i64, Refused> {
        let sent = clock::instant();
        let (seconds, micros): (i64, i64) = redis::from_redis_value(server.send(&redis::cmd("TIME")).await?)
            .map_err(|error| Refused::Other(format!("a time that is none: {error}")))?;
        let millis = seconds.saturating_mul(1_000).saturating_add(micros / 1_000).saturating_add(self.shift_millis);
        server.clock().learn(millis, sent);
        Ok(server.clock().now().unwrap_or(millis))
    }

    /// ARGV 2. A script that only reads may run on any server.
    fn fence_arg(&self, server: &Server, script: &Script) -> Cow<'static, str> {
        match (self.fence(), server.replicas()) {
            (Fence::Up, replicas @ 1..) if !script.only_reads => format!("+{replicas}").into(),
            (fence, _) => fence.arg().into(),
        }
    }
}

/// Whether a server says that it takes no writes: its disk or its memory is full, or replicas are missing.
pub(super) fn refuses_writes(error: &RedisError) -> bool {
    matches!(error.code(), Some("MISCONF" | "NOREPLICAS" | "OOM"))
}

/// Whether a server says that its user may not do this. Redis 7.0 says so about a script's commands in words only.
fn refuses_user(error: &RedisError) -> bool {
    let words = error.to_string();
    ["NOPERM", "The user executing the script can't", "ACL failure"].iter().any(|sign| words.contains(sign))
}

/// The error of a script that refuses to act on a server that has lost a replica.
const ALONE: &str = "ALONE";

/// Why a call has no reply.
pub(super) enum Refused {
    /// The connection or the server says so.
    ByServer(RedisError),
    /// Another try would fail in the same way.
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

/// The tries of one call, and the time that is left for them.
struct Tries {
    doing: &'static str,
    budget: Budget,
    pause: Duration,
    /// How many tries may have been done although they failed, or are still on their way.
    unknown: u32,
}

impl Tries {
    fn new(doing: &'static str, budget: Budget) -> Self {
        Self { doing, budget, pause: PAUSES.0, unknown: 0 }
    }

    async fn within<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let timeout = tokio::time::timeout(self.budget.left(), work).await;
        timeout.unwrap_or_else(|_| Err(Failure::Unknown("no answer in time".into())))
    }

    /// Waits before the next try. Fails if there is no next try.
    async fn pause_after(&mut self, failure: Failure) -> Result<(), StoreError> {
        self.unknown += u32::from(matches!(failure, Failure::Unknown(_)));
        let (Failure::NotDone(cause) | Failure::Unknown(cause) | Failure::Final(cause)) = &failure;
        if matches!(failure, Failure::Final(_)) || self.budget.left() <= self.pause {
            return Err(StoreError::new("Redis", StoreError::new(self.doing, cause)));
        }
        // Random, so that callers that failed together do not try again together.
        tokio::time::sleep(self.pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        self.pause = (self.pause * 2).min(PAUSES.1);
        Ok(())
    }
}

/// Why a try failed, which decides whether there is another one. Each has the cause.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nothing was done, and another try may succeed.
    NotDone(String),
    /// The try may have been done: the connection broke, or no answer came.
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
            // `BUSY`: another script runs for too long. `ALONE`: a replica has left, and other servers are asked which
            // one is the primary. `NOREPLICAS`: there are too few replicas for writes.
            _ if matches!(error.code(), Some("BUSY" | ALONE | "NOREPLICAS")) => Failure::NotDone(cause),
            ErrorKind::Io | ErrorKind::Parse | ErrorKind::ClusterConnectionNotFound => Failure::Unknown(cause),
            _ => Failure::Final(cause),
        }
    }
}

fn as_millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scripts_remember_a_copy_for_longer_than_a_call_takes() {
        let text = include_str!("lua/topic.lua");
        let millis = text.split("\nlocal COPY_MILLIS = ").nth(1).and_then(|rest| rest.lines().next()).unwrap();
        assert!(Duration::from_millis(millis.parse().unwrap()) > CALL_TIME, "else a late copy does an act twice");
    }
}
