//! The events that a space's members are sent.

use std::time::Duration;

use tokio::time::Instant;

use super::snapshots::random_step;
use super::{FAN_OUT_CHUNK, Pace, ROOM_AFTER, SPREAD, SpaceTask, Watcher};
use crate::feed::follower::{Heard, Step};
use crate::feed::own::{OwnUpdate, bytes_to};
use crate::feed::payload::age_of;
use crate::store::{Message, MessageKind, ShowBoard};

impl SpaceTask {
    pub(super) async fn take_heard(&mut self, heard: Heard) {
        let steps = self.follower.take(heard).await;
        self.take(steps).await;
        self.show_boards().await;
    }

    /// Sends the follower's steps on to the members.
    pub(super) async fn take(&mut self, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Deliver(message) => self.deliver(&message, Pace::Live).await,
                Step::Missed(message) => self.deliver(&message, Pace::Burst).await,
                Step::FreedUnnamed(_) => tracing::error!(space.id = %self.space, "ignored a message that no space has"),
                Step::Restarted => {
                    self.forget_schedule();
                    self.put_all_behind(SPREAD, None);
                }
            }
        }
    }

    async fn deliver(&mut self, message: &Message, pace: Pace) {
        match message.kind {
            MessageKind::SlotUpdate => {
                self.boards.apply(message);
                if pace == Pace::Burst {
                    self.put_behind_without_room(message);
                }
                self.send_to_room(message).await;
            }
            MessageKind::SpaceChanged => {
                self.forget_schedule();
                self.put_all_behind(Duration::ZERO, Some(message.at.version));
            }
            MessageKind::ShowBoard => match serde_json::from_str::<ShowBoard>(message.payload.get()) {
                Ok(show) => self.to_show.push((show.date, self.watchers.keys().copied().collect())),
                Err(error) => tracing::error!(space.id = %self.space, %error, "ignored a command that cannot be read"),
            },
            other => {
                tracing::error!(space.id = %self.space, kind = other.as_str(), "ignored a message that no space has")
            }
        }
    }

    /// Missed events come in one burst. A member without room for the burst gets a snapshot of its end instead of being
    /// closed: it reads as fast as before.
    fn put_behind_without_room(&mut self, message: &Message) {
        let hears = |watcher: &Watcher| !watcher.is_behind && watcher.ahead.is_none();
        for (id, watcher) in self.watchers.iter_mut().filter(|(_, watcher)| hears(watcher)) {
            if !watcher.member.has_room(bytes_to(message, watcher.member.as_ref())) {
                watcher.is_behind = true;
                self.snapshots.entry(Instant::now() + ROOM_AFTER + random_step(SPREAD)).or_default().push(*id);
            }
        }
    }

    async fn send_to_room(&mut self, message: &Message) {
        let mut recipients = 0;
        let mut update = OwnUpdate::new(message, self.own_terms());
        for watcher in self.watchers.values_mut().filter(|watcher| !watcher.is_behind) {
            if let Some(ahead) = watcher.ahead {
                watcher.ahead = Some(ahead).filter(|ahead| *ahead > message.at.version);
                continue;
            }
            update.send_to(watcher.member.as_ref());
            recipients += 1;
            if recipients % FAN_OUT_CHUNK == 0 {
                tokio::task::yield_now().await;
            }
        }
        let metrics = &self.feed.app.metrics;
        metrics.count_event_out("slot_update", recipients as u64);
        if let Some(seconds) = age_of(&message.payload) {
            metrics.feed_lag_seconds.observe(seconds);
        }
        tracing::info!(
            event.name = "slot_update",
            room = self.space.room(),
            recipients,
            version = message.at.version,
            "broadcast"
        );
    }
}
