//! Where an endpoint begins in a bucket: at its stored place, or at the first act from now on.

use super::place::BucketPlace;
use crate::domain::{Bucket, StoreTime};
use crate::journal::Place;
use crate::journal::cursor::{UNKNOWN, mark_of};
use crate::store::{SlotStore, StoreError};

/// How many entries are read at a time while looking back for a new endpoint's beginning.
const PORTION: u64 = 200;

/// The place in a bucket, with its stored text.
pub(super) struct Stored {
    /// The place.
    pub(super) place: BucketPlace,
    /// The stored text; `None` if nothing is stored.
    pub(super) text: Option<String>,
}

/// Loads a reader's place in a bucket.
pub(super) async fn load(
    store: &dyn SlotStore,
    reader: &str,
    bucket: Bucket,
    begun: StoreTime,
) -> Result<Stored, StoreError> {
    let text = store.reader_places(reader, &[bucket]).await?.into_iter().next().flatten();
    let place = match text.as_deref() {
        Some(text) => BucketPlace::parse(text).unwrap_or_else(|| {
            // It begins at the journal's beginning, because a reader may repeat entries, but never skip one.
            tracing::error!(reader, bucket = bucket.get(), "cannot read the stored place of an endpoint");
            BucketPlace::default()
        }),
        None => BucketPlace { seen: find_begin(store, bucket, begun).await?, ..BucketPlace::default() },
    };
    Ok(Stored { place, text })
}

/// The last place of a bucket before an instant.
async fn find_begin(store: &dyn SlotStore, bucket: Bucket, begun: StoreTime) -> Result<Place, StoreError> {
    let mut upto = store.journal_tails(&[bucket]).await?.into_iter().next().unwrap_or_default();
    while upto > 0 {
        let from = upto.saturating_sub(PORTION - 1).max(1);
        let read = store.read_journal(bucket, from, PORTION as usize).await?;
        let before = read.iter().rev().filter_map(|numbered| Some((numbered.number, numbered.entry.as_ref()?)));
        let mut before = before.filter(|(_, entry)| entry.at < begun);
        if let Some((number, entry)) = before.next() {
            return Ok(Place { number, mark: mark_of(&entry.position.epoch) });
        }
        let first = read.first().map_or(from, |first| first.number);
        if first > from || from == 1 {
            return Ok(Place { number: first - 1, mark: UNKNOWN });
        }
        upto = from - 1;
    }
    Ok(Place::default())
}
