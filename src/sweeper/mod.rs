//! Frees ended holds. [`sweep_all`] does it once. The node's own [`timer`], the command, the call and the scheduled
//! function only decide when to sweep.
//!
//! A slot is free at the instant at which its hold ends, swept or not. Sweeping announces that. Any number of sweepers may
//! run at once, and each hold is freed once.

#[cfg(feature = "server")]
pub mod deadlines;
#[cfg(feature = "server")]
pub mod timer;

use std::collections::HashSet;
use std::sync::Arc;

use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::domain::{Bucket, SpaceKey};
use crate::store::{SlotStore, StoreError, SweepBatch};

/// The most holds that one step of a sweep frees.
const BATCH: usize = 500;

/// How many buckets one walk sweeps at once.
const CONCURRENT: usize = 8;

/// How many random buckets' journals one walk trims. Entries are kept by the day, and a day has many walks.
const TRIMMED: usize = 4;

/// The report of a sweep.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct SweepReport {
    /// How many holds were freed.
    pub freed: u64,
    /// How many spaces these holds were in.
    pub spaces: u64,
    /// How late the oldest was freed, in milliseconds.
    pub oldest_late_ms: u64,
    /// How long the sweep took, in milliseconds.
    pub took_ms: u64,
}

/// The result of sweeping one bucket.
#[derive(Debug, Default)]
struct Swept {
    freed: u64,
    spaces: HashSet<SpaceKey>,
    oldest_late_ms: u64,
    next_end_in_ms: Option<u64>,
    /// Whether the time ran out before all ended holds were freed.
    is_cut: bool,
}

impl Swept {
    fn add(&mut self, batch: SweepBatch) {
        self.freed += batch.freed;
        self.spaces.extend(batch.spaces);
        self.oldest_late_ms = self.oldest_late_ms.max(batch.oldest_late_ms);
        self.next_end_in_ms = batch.next_end_in_ms;
    }
}

/// Frees all ended holds in every bucket, or as many as possible until `deadline`. At the deadline no new batch begins, and
/// running batches are finished. The log tells what is left for the next sweep, and the report counts what was done.
///
/// # Errors
///
/// The first failure of the store, after all other buckets were swept: one server of a Cluster may fail while the
/// others work. Freed holds stay freed, and were announced.
pub async fn sweep_all(store: &Arc<dyn SlotStore>, deadline: Option<Instant>) -> Result<SweepReport, StoreError> {
    let started = Instant::now();
    let mut report = SweepReport::default();
    let mut spaces = HashSet::new();
    let mut buckets_left = 0_u32;
    for_each_bucket(store, deadline, |_, swept| {
        report.freed += swept.freed;
        report.oldest_late_ms = report.oldest_late_ms.max(swept.oldest_late_ms);
        spaces.extend(swept.spaces);
        buckets_left += u32::from(swept.is_cut);
    })
    .await?;
    trim_some_journals(store.as_ref()).await;
    store.tell_taken().await?;
    report.spaces = spaces.len() as u64;
    report.took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    if buckets_left > 0 {
        tracing::warn!(freed = report.freed, buckets_left, "the time for this sweep is up; the next one goes on");
    }
    Ok(report)
}

/// Sweeps every bucket, a few at a time, and answers the first failure after the other buckets are done. If no bucket
/// answers, not all are tried. A sweep begins with a random bucket, so that sweeps with too little time do not always leave
/// out the same ones.
async fn for_each_bucket(
    store: &Arc<dyn SlotStore>,
    deadline: Option<Instant>,
    mut done: impl FnMut(Bucket, Swept),
) -> Result<(), StoreError> {
    let mut order: Vec<Bucket> = Bucket::all().collect();
    let first = fastrand::usize(..order.len());
    order.rotate_left(first);
    let mut buckets = order.into_iter();
    let mut running = JoinSet::new();
    let (mut answered, mut failures) = (false, Vec::new());
    loop {
        while running.len() < CONCURRENT
            && (answered || failures.len() < CONCURRENT)
            && let Some(bucket) = buckets.next()
        {
            let store = store.clone();
            running.spawn(async move { (bucket, sweep_bucket(store.as_ref(), bucket, deadline).await) });
        }
        let Some(joined) = running.join_next().await else { return failures.into_iter().next().map_or(Ok(()), Err) };
        match joined.map_err(|error| StoreError::new("sweeping", error)) {
            Ok((bucket, Ok(swept))) => {
                answered = true;
                done(bucket, swept);
            }
            Ok((_, Err(error))) | Err(error) => failures.push(error),
        }
    }
}

/// Removes entries that are too old from the journals of a few buckets. A failure here does not fail the sweep.
async fn trim_some_journals(store: &dyn SlotStore) {
    let mut buckets: Vec<Bucket> = Bucket::all().collect();
    fastrand::shuffle(&mut buckets);
    for bucket in buckets.into_iter().take(TRIMMED) {
        if let Err(error) = store.trim_journal(bucket).await {
            tracing::warn!(bucket = bucket.get(), %error, "the journal cannot be trimmed; another walk will");
            return;
        }
    }
}

/// Frees the ended holds of one bucket, batch by batch, while there is time.
async fn sweep_bucket(store: &dyn SlotStore, bucket: Bucket, deadline: Option<Instant>) -> Result<Swept, StoreError> {
    let mut swept = Swept::default();
    loop {
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            swept.is_cut = true;
            return Ok(swept);
        }
        let batch = store.sweep(bucket, BATCH).await?;
        let more = batch.more;
        swept.add(batch);
        if !more {
            return Ok(swept);
        }
    }
}
