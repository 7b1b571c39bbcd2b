//! Removes entries from the journal once all endpoints have them. With `SLOTCAST_JOURNAL_DAYS=0` the journal is kept for
//! endpoints only.
//!
//! The last entry that all endpoints have stays, because a reader compares its place with it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use super::place::BucketPlace;
use crate::domain::Bucket;
use crate::store::{SlotStore, StoreError};

/// How often the places of all endpoints are compared.
const EVERY: Duration = Duration::from_secs(2);

/// How many buckets are asked for at the same time.
const AT_ONCE: usize = 16;

/// Removes entries that all readers have read, until `stop`.
pub(super) async fn run(
    store: Arc<dyn SlotStore>,
    readers: Vec<String>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut done = vec![0; Bucket::all().count()];
    while tokio::time::timeout(EVERY, stop.cancelled()).await.is_err() {
        if let Err(error) = forget_read(store.as_ref(), &readers, &mut done).await {
            tracing::debug!(%error, "cannot trim the entries that all endpoints have; will try again");
        }
    }
    Ok(())
}

/// Removes entries that all readers have read. `done` has, for each bucket in order, the number before which entries were
/// removed already.
/// # Errors
///
/// The store fails. Entries that were not removed are removed the next time.
async fn forget_read(store: &dyn SlotStore, readers: &[String], done: &mut [u64]) -> Result<(), StoreError> {
    let buckets: Vec<Bucket> = Bucket::all().collect();
    let mut known = Vec::with_capacity(readers.len());
    for reader in readers {
        known.push(store.reader_places(reader, &buckets).await?);
    }
    let mut steps = Vec::with_capacity(buckets.len());
    for (index, (bucket, done)) in buckets.into_iter().zip(done).enumerate() {
        let places = known.iter().map(|places| places[index].clone()).collect::<Option<Vec<String>>>();
        // A new endpoint has not written its first place yet.
        let Some(places) = places else { continue };
        steps.push(forget_in(store, bucket, readers.iter().cloned().zip(places).collect(), done));
    }
    let results: Vec<Result<(), StoreError>> = stream::iter(steps).buffer_unordered(AT_ONCE).collect().await;
    results.into_iter().collect()
}

/// Removes entries in one bucket.
async fn forget_in(
    store: &dyn SlotStore,
    bucket: Bucket,
    places: Vec<(String, String)>,
    done: &mut u64,
) -> Result<(), StoreError> {
    let Some(before) = read_by_all(&places).filter(|before| *before > *done) else { return Ok(()) };
    if store.forget_read(bucket, before, &places).await? {
        *done = before;
    }
    Ok(())
}

/// The number up to which all readers have read; `None` if a place is unreadable.
fn read_by_all(places: &[(String, String)]) -> Option<u64> {
    let settled: Option<Vec<u64>> =
        places.iter().map(|(_, text)| BucketPlace::parse(text).map(|place| place.settled())).collect();
    settled?.into_iter().min()
}
