//! `slotcast sweep`: frees once what has ended, for a cron job.

use std::io::Write;

use anyhow::Context;

use crate::config::{Config, StoreKind};
use crate::store::embedded::OpenError;
use crate::sweeper;

/// Sweeps all buckets once and writes the report as one line of JSON.
///
/// # Errors
///
/// The store cannot be opened, also because a node has it, or fails.
pub async fn sweep(config: &Config, out: &mut dyn Write) -> anyhow::Result<()> {
    let store = super::serve::open_store(config).map_err(|error| explain_lock(error, config))?;
    let report = sweeper::sweep_all(&store, None).await.context("the sweep failed")?;
    serde_json::to_writer(&mut *out, &report)?;
    writeln!(out)?;
    Ok(())
}

/// A node that has the file frees what ends by itself; asking it is the way to do it now.
fn explain_lock(error: anyhow::Error, config: &Config) -> anyhow::Error {
    match (&config.store.kind, error.downcast_ref::<OpenError>()) {
        (StoreKind::Embedded(_), Some(OpenError::Locked { .. })) => {
            error.context("a node is running on this file: use POST /api/sweep of that node (a staff token is needed)")
        }
        _ => error,
    }
}
