//! `slotcast migrate`: moves all stored data to the newest format.

use std::io::Write;

use anyhow::Context;

use crate::config::{Config, StoreKind};
use crate::store::embedded::EmbeddedStore;
use crate::store::redis::{Fence, RedisOptions, RedisStore};

/// Migrates the configured store, and writes a report as one line of JSON. Progress goes to the log.
///
/// # Errors
///
/// The store cannot be opened, for example because a node has its file. Or a node that does not know the format is
/// live, and the error names it.
pub async fn migrate(config: &Config, out: &mut dyn Write) -> anyhow::Result<()> {
    let migration = match &config.store.kind {
        StoreKind::Embedded(folder) => {
            let store =
                EmbeddedStore::open(folder).context("cannot open the data file, which opening would migrate")?;
            store.migration()?
        }
        StoreKind::Redis(url) => {
            let options = RedisOptions { fence: Fence::WhereAllowed, ..RedisOptions::default() };
            let store = RedisStore::open(url, &config.store.redis_prefix, options)?;
            let progress = |done: u64| {
                if done.is_multiple_of(16) {
                    tracing::info!(done, of = 128, "migrated buckets");
                }
            };
            store.migrate(progress).await.context("some buckets are not migrated; run the command again")?
        }
    };
    for place in &migration.unreadable {
        tracing::error!(place, "a record cannot be read, so its slot is shown as blocked: staff can set the slot anew");
    }
    serde_json::to_writer(&mut *out, &migration)?;
    writeln!(out)?;
    Ok(out.flush()?)
}
