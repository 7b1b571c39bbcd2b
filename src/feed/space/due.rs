//! The work of a space's task at set times.

use std::time::Duration;

use tokio::time::Instant;

use super::snapshots::random_step;
use super::{SPREAD, SpaceTask};
use crate::domain::StoreTime;

impl SpaceTask {
    pub(super) fn next_due(&self) -> Option<Instant> {
        let snapshot = self.snapshots.keys().next().copied();
        let start = self.days.next_start().map(|start| self.instant_of(start));
        snapshot.into_iter().chain(start).min()
    }

    pub(super) async fn do_what_is_due(&mut self) {
        self.start_slots();
        let later = self.snapshots.split_off(&(Instant::now() + Duration::from_nanos(1)));
        let due = std::mem::replace(&mut self.snapshots, later);
        let members = due.into_values().flatten().collect::<Vec<_>>();
        if !members.is_empty() {
            self.send_snapshots(members).await;
        }
    }

    /// Plans a snapshot for every socket that watches a day on which a slot has started.
    fn start_slots(&mut self) {
        let now = self.store_now();
        for day in self.days.take_started(self.schedule.as_deref(), now) {
            for (id, _) in self.watchers.iter().filter(|(_, watcher)| watcher.day == Some(day)) {
                self.snapshots.entry(Instant::now() + random_step(SPREAD)).or_default().push(*id);
            }
        }
    }

    /// The instant of this node's clock at which the store's clock shows `time`, plus 2 ms: a snapshot that is read then
    /// shows the slot as past.
    fn instant_of(&self, time: StoreTime) -> Instant {
        Instant::now() + self.store_now().until(time) + Duration::from_millis(2)
    }
}
