//! `slotcast sweep`: frees ended holds, once for a cron job, or repeatedly as a process of its own.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use jiff::SignedDuration;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, StoreKind};
use crate::store::SlotStore;
use crate::store::embedded::OpenError;
use crate::sweeper;

/// The bounds of the time between two sweeps, the same as for nodes. A shorter time would only be load.
const INTERVALS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3_600));

/// How often to sweep.
#[derive(Args, Clone, Debug, PartialEq)]
pub struct SweepArgs {
    /// Sweep at this interval, such as 30s or 1m, until SIGTERM or SIGINT
    #[arg(long, value_parser = parse_interval)]
    pub every: Option<Duration>,
}

/// Sweeps all buckets once and writes the report as one line of JSON.
///
/// # Errors
///
/// The store cannot be opened, for example because a node has its file, or it fails.
pub async fn sweep(config: &Config, out: &mut dyn Write) -> anyhow::Result<()> {
    let store = super::serve::open_store(config).map_err(|error| explain_lock(error, config))?;
    sweep_once(&store, out).await
}

/// Sweeps at once and then at each interval, and writes a line of JSON for each sweep. A failed sweep is logged, and the
/// next one tries again; slots of ended holds count as free meanwhile. Returns after the sweep during which `shutdown` is
/// cancelled.
///
/// # Errors
///
/// The store cannot be opened.
pub async fn sweep_every(
    config: &Config,
    every: Duration,
    shutdown: CancellationToken,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let store = super::serve::open_store(config).map_err(|error| explain_lock(error, config))?;
    let mut ticks = tokio::time::interval_at(Instant::now(), every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        if let Err(error) = sweep_once(&store, out).await {
            tracing::error!("{error:#}; will try again at the next interval");
        }
    }
}

async fn sweep_once(store: &Arc<dyn SlotStore>, out: &mut dyn Write) -> anyhow::Result<()> {
    let report = sweeper::sweep_all(store, None).await.context("the sweep failed")?;
    serde_json::to_writer(&mut *out, &report)?;
    writeln!(out)?;
    Ok(out.flush()?)
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let (shortest, longest) = INTERVALS;
    let interval = text.parse::<SignedDuration>().ok().and_then(|interval| Duration::try_from(interval).ok());
    let is_allowed = |interval: &Duration| (shortest..=longest).contains(interval);
    interval.filter(is_allowed).ok_or_else(|| "a time from 1s to 1h, such as 30s or 1m".into())
}

/// A node that has the file open frees ended holds itself. The error says how to have that node sweep at once.
fn explain_lock(error: anyhow::Error, config: &Config) -> anyhow::Error {
    match (&config.store.kind, error.downcast_ref::<OpenError>()) {
        (StoreKind::Embedded(_), Some(OpenError::Locked { .. })) => {
            error.context("a node is running on this file: use POST /api/sweep of that node (a staff token is needed)")
        }
        _ => error,
    }
}
