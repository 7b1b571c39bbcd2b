//! The journal through months.

use super::*;
use crate::domain::Origin;

async fn people(store: &EmbeddedStore) -> [u64; 2] {
    let count = |batch: &mut Batch<'_>| Ok([batch.tables().people.len()?, batch.tables().references.len()?]);
    store.write(count).await.unwrap()
}

async fn numbers(store: &EmbeddedStore) -> Vec<u64> {
    let read = store.read_journal(space(1).bucket(), 1, 100).await.unwrap();
    read.into_iter().map(|entry| entry.number).collect()
}

#[tokio::test]
async fn what_is_too_old_goes_but_for_the_last_entry_and_people_go_after_it() {
    let (_folder, store) = open_store();
    let origin = Some(Origin { user: user("anna"), role: None, request_id: None });
    for _ in 0..5 {
        store.apply(SlotAct { origin: origin.clone(), ..block(&store) }).await.unwrap();
    }
    assert_eq!(people(&store).await, [1, 1]);
    store.shared.clock.shift(89 * DAY_MILLIS);
    while clean(&store).await {}
    assert_eq!(numbers(&store).await, [1, 2, 3, 4, 5]);
    store.shared.clock.shift(2 * DAY_MILLIS);
    while clean(&store).await {}
    assert_eq!((numbers(&store).await, people(&store).await), (vec![5], [1, 1]));
    // The number goes on. Within a month a user has one reference.
    store.apply(SlotAct { origin: origin.clone(), ..block(&store) }).await.unwrap();
    store.apply(SlotAct { origin, ..block(&store) }).await.unwrap();
    assert_eq!((numbers(&store).await, people(&store).await), (vec![5, 6, 7], [2, 2]));
    // After 93 days the people of the first month are forgotten.
    store.shared.clock.shift(93 * DAY_MILLIS);
    while clean(&store).await {}
    assert_eq!((numbers(&store).await, people(&store).await), (vec![7], [1, 1]));
}
