//! The formats of stored and published data, and the move from one to the next.
//!
//! Each bucket has a format of its own, which is in its fence: on a Cluster, a bucket's script cannot read a key of the
//! whole deployment.
//!
//! | format | since | fence | records | messages |
//! |---|---|---|---|---|
//! | 1 | 0.1 | hash `P:{bN}:epoch` | twelve lines | five parts |
//! | 2 | 0.2 | hash `P:{bN}:fence` with `format`; `P:{bN}:epoch` is a string | JSON | six parts |
//!
//! A node reads both formats. It writes each bucket in the bucket's format, and moves the bucket once every live node says
//! in its lease that it knows the next format. A process without a lease (the function, cron) moves nothing.
//!
//! **Invariant:** no script of 0.1 does anything in a bucket of format 2: it fails at its fence, before it writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redis::RedisError;
#[cfg(feature = "server")]
use redis::RedisResult;

use super::call::{Call, Failure, Runner};
#[cfg(feature = "server")]
use super::connect::Commands;
use super::scripts;
use crate::clock;
use crate::domain::Bucket;
use crate::store::StoreError;
#[cfg(feature = "server")]
use crate::store::finding::{Finding, Severity};

/// The newest format that this program knows.
pub const NEWEST: u8 = 2;

/// The oldest format that this program knows.
const OLDEST: u8 = 1;

/// How long an answer about the leases is good for.
const LEASES_HOLD: Duration = Duration::from_secs(1);

/// How long no node of 0.1 may be seen before a bucket moves, if one was seen. This is longer than a lease, so a Redis that
/// has lost its leases has them again by then.
const QUIET: Duration = Duration::from_secs(10);

/// The buckets' formats as far as this process knows them. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Formats(Arc<Known>);

#[derive(Debug)]
struct Known {
    /// The format of each bucket; 0 while it is unknown.
    buckets: Vec<AtomicU8>,
    /// Held for a copy, never across an await.
    old_nodes: Mutex<OldNodes>,
    is_tended: AtomicBool,
}

/// Whether nodes that do not know the newest format are live.
#[derive(Clone, Copy, Debug, Default)]
struct OldNodes {
    told: Option<(Instant, bool)>,
    last_seen: Option<Instant>,
}

impl Default for Known {
    fn default() -> Self {
        let buckets = Bucket::all().map(|_| AtomicU8::new(0)).collect();
        Self { buckets, old_nodes: Mutex::default(), is_tended: AtomicBool::new(false) }
    }
}

impl Formats {
    /// The format of a bucket; `None` while this process has not asked.
    pub fn of(&self, bucket: Bucket) -> Option<u8> {
        let format = self.0.buckets.get(usize::from(bucket.get()))?.load(Ordering::Acquire);
        (format != 0).then_some(format)
    }

    fn set(&self, bucket: Bucket, format: u8) {
        if let Some(known) = self.0.buckets.get(usize::from(bucket.get())) {
            known.store(format, Ordering::Release);
        }
    }

    /// Learns the number of old nodes from the leases.
    pub(super) fn learn_old_nodes(&self, count: u64) {
        let now = clock::instant();
        let mut old_nodes = self.0.old_nodes.lock();
        old_nodes.told = Some((now, count > 0));
        if count > 0 {
            old_nodes.last_seen = Some(now);
        }
    }

    fn old_nodes(&self) -> OldNodes {
        *self.0.old_nodes.lock()
    }

    /// Whether buckets of format 1 may move now.
    fn may_move(&self) -> bool {
        let OldNodes { told, last_seen } = self.old_nodes();
        told.is_some_and(|(_, lives)| !lives) && last_seen.is_none_or(|seen| age(seen) > QUIET)
    }

    /// Whether every bucket is known to have the newest format.
    fn are_all_newest(&self) -> bool {
        Bucket::all().all(|bucket| self.of(bucket) == Some(NEWEST))
    }

    /// Whether there are buckets to open or to move.
    fn wants_tending(&self) -> bool {
        let may_move = self.may_move();
        Bucket::all().any(|bucket| self.of(bucket).is_none_or(|format| may_move && format < NEWEST))
    }
}

fn age(instant: Instant) -> Duration {
    clock::instant().saturating_duration_since(instant)
}

/// A line about the buckets' formats: an error if this program does not know one of them, or else how many have an
/// older one. `None` if all have the newest, or if there are no buckets yet.
///
/// # Errors
///
/// Redis does not answer.
#[cfg(feature = "server")]
pub(super) async fn check(commands: &Commands, prefix: &str) -> RedisResult<Option<Finding>> {
    let formats = Bucket::all().map(|bucket| format_of(commands, prefix, bucket));
    let formats = futures_util::future::try_join_all(formats).await?;
    let is_unknown = |format: &&String| **format != NEWEST.to_string() && **format != OLDEST.to_string();
    if let Some(found) = formats.iter().flatten().find(is_unknown) {
        return Ok(Some(Finding { severity: Severity::Error, text: refusal(found) }));
    }
    let older = formats.iter().flatten().filter(|format| **format == OLDEST.to_string()).count();
    let text = format!(
        "{older} of {} buckets have format {OLDEST}: nodes move them to {NEWEST} when no node of slotcast 0.1 is live",
        formats.len()
    );
    Ok((older > 0).then_some(Finding { severity: Severity::Good, text }))
}

/// The format of a bucket; `None` if it has no fence.
#[cfg(feature = "server")]
async fn format_of(commands: &Commands, prefix: &str, bucket: Bucket) -> RedisResult<Option<String>> {
    let key = |name| format!("{prefix}:{{b{}}}:{name}", bucket.get());
    let mut get = redis::cmd("HGET");
    get.arg(key("fence")).arg("format");
    if let Some(format) = get.query_async(&mut commands.clone()).await? {
        return Ok(Some(format));
    }
    let mut get = redis::cmd("HGET");
    get.arg(key("epoch")).arg("epoch");
    let epoch: Option<String> = get.query_async(&mut commands.clone()).await?;
    Ok(epoch.map(|_| OLDEST.to_string()))
}

/// Why a bucket's format cannot be used, in one line for the operator.
pub(super) fn refusal(found: &str) -> String {
    let is_newer = found.parse::<u32>().is_ok_and(|found| found > u32::from(NEWEST));
    let (word, advice) = if is_newer {
        ("newer", "run the version of slotcast that wrote it, or a later one")
    } else {
        ("older", "run `slotcast migrate` of the version between")
    };
    format!(
        "the data in Redis has format {found}, which is {word} than this version of slotcast knows ({OLDEST} to {NEWEST}): \
         {advice}"
    )
}

/// Whether an error of a script says that the bucket's fence is elsewhere. Then the script has done nothing.
pub(super) fn is_not_open(error: &RedisError, format: u8) -> bool {
    match error.code() {
        Some("FENCE" | "FORMAT") => true,
        Some("WRONGTYPE") => format < NEWEST,
        _ => false,
    }
}

impl Runner {
    /// The key of a bucket's fence for the bucket's format, as far as that is known.
    pub(super) fn fence_key(&self, bucket: Bucket) -> (String, u8) {
        match self.formats.of(bucket) {
            Some(1) => (self.keys.old_fence(bucket), 1),
            format => (self.keys.fence(bucket), format.unwrap_or(NEWEST)),
        }
    }

    /// Finds out a bucket's format, and makes a missing fence. With `is_moving`, moves the bucket to the newest format.
    /// Answers whether it was moved.
    pub(super) async fn open_bucket(&self, bucket: Bucket, is_moving: bool) -> Result<bool, Failure> {
        let as_flag = |flag| if flag { "1" } else { "0" };
        let call = Call::new(&scripts::OPEN_BUCKET)
            .key(self.keys.fence(bucket))
            .key(self.keys.old_fence(bucket))
            .arg(as_flag(self.old_nodes_live().await))
            .arg(as_flag(is_moving));
        let reply = self.send_plain(&call, None, None).await?.reply;
        let text = |index| reply.text_at(index).map_err(|error| Failure::Final(error.0));
        if text(0)? != "open" {
            return Err(Failure::Final(refusal(text(1)?)));
        }
        self.formats.set(bucket, text(1)?.parse().unwrap_or(NEWEST));
        Ok(text(2)? == "1")
    }

    /// Fails while nodes of 0.1 may use the bucket, because they could not read the data that is about to be written.
    pub(super) async fn require_newest(&self, bucket: Bucket) -> Result<(), StoreError> {
        if self.formats.of(bucket).is_none() {
            let opened = self.open_bucket(bucket, false).await;
            opened.map_err(|failure| StoreError::new("Redis: opening a bucket", failure.cause()))?;
        }
        if self.formats.of(bucket) == Some(NEWEST) {
            return Ok(());
        }
        Err(StoreError("Redis: a node of slotcast 0.1 is live, and cannot read this format".into()))
    }

    /// Whether nodes of 0.1 may be live. If nobody can say, they may be. Then a new bucket gets the old format, and
    /// moves later.
    async fn old_nodes_live(&self) -> bool {
        if let Some((told, lives)) = self.formats.old_nodes().told
            && age(told) < LEASES_HOLD
        {
            return lives;
        }
        match self.ask_old_nodes().await {
            Ok(count) => count > 0,
            Err(_) => true,
        }
    }

    async fn ask_old_nodes(&self) -> Result<u64, Failure> {
        let call = Call::new(&scripts::OLD_NODES).key(self.keys.leases()).key(self.keys.leases_knowing(NEWEST));
        let reply = self.send_plain(&call, None, None).await?.reply;
        let count = reply.number_at(0).map_err(|error| Failure::Final(error.0))?;
        self.formats.learn_old_nodes(count);
        Ok(count)
    }
}

/// Opens unopened buckets, moves those that may move, and fills their indexes, in the background. A node calls this with
/// each of its reports.
pub(super) fn tend(runner: &Arc<Runner>, node: &str) {
    let formats = &runner.formats;
    let has_work = formats.wants_tending() || formats.are_all_newest() && !runner.indexed.has_all();
    if has_work && !formats.0.is_tended.swap(true, Ordering::AcqRel) {
        let (runner, node) = (runner.clone(), node.to_owned());
        tokio::spawn(async move {
            tend_all(&runner).await;
            if runner.formats.are_all_newest()
                && let Err(error) = runner.fill_indexes(&node).await
            {
                tracing::warn!(%error, "cannot index what slotcast 0.1 stored; will try again");
            }
            runner.formats.0.is_tended.store(false, Ordering::Release);
        });
    }
}

async fn tend_all(runner: &Runner) {
    let mut moved = 0;
    for bucket in Bucket::all() {
        let is_moving = runner.formats.may_move();
        if runner.formats.of(bucket).is_some_and(|format| format == NEWEST || !is_moving) {
            continue;
        }
        match runner.open_bucket(bucket, is_moving).await {
            Ok(true) => moved += 1,
            Ok(false) => {}
            Err(failure) => {
                tracing::warn!(
                    bucket = bucket.get(),
                    error = failure.cause(),
                    "a bucket cannot be opened; will try again"
                );
                break;
            }
        }
    }
    if moved > 0 {
        tracing::info!(
            buckets = moved,
            format = NEWEST,
            "moved buckets to a new format, since every live node knows it: nodes of slotcast 0.1 cannot use them any more"
        );
    }
}
