//! Sends entries to one endpoint while this node has the right to send. It reads new entries in each bucket, sends the
//! first waiting entry of each space, and writes the endpoint's place.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::attempt::{Done, Found, Task, attempt, is_wanted};
use super::delivery::{Failure, Outcome, client};
use super::place::BucketPlace;
use super::queue::Queue;
use super::start::{Stored, load};
use super::{Tools, reader_of};
use crate::clock::sleep_until;
use crate::config::Webhook;
use crate::domain::{Bucket, SpaceKey, StoreTime};
use crate::journal::{Place, PlacedEntries, read_placed};
use crate::store::StoreError;

/// How many entries of a bucket are read at a time.
const PORTION: usize = 200;

/// How many buckets are read at the same time.
const READ_AT_ONCE: usize = 32;

/// How often changed places are written. After a node's death, entries that were sent since the last write are sent
/// again.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// How often all buckets are read, whatever their tails say. A journal that has lost entries and gained as many has the
/// same tail.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// The pause after a failure of the store, for the bucket or the space that failed. One server of a Cluster may be away.
const STORE_PAUSE: Duration = Duration::from_secs(2);

/// How long messages on their way may take when the node gives the right back.
const PARTING: Duration = Duration::from_secs(2);

/// Sends to one endpoint.
pub(super) struct Sender {
    tools: Tools,
    webhook: Arc<Webhook>,
    client: reqwest::Client,
    /// The name of this reader in the store.
    reader: String,
    /// The buckets, in their order.
    buckets: Vec<Reading>,
    queue: Queue,
    running: JoinSet<Done>,
    /// A new endpoint hears of acts from this instant on.
    begun: StoreTime,
}

/// A bucket that is read.
struct Reading {
    bucket: Bucket,
    /// Whether the place is known. It is read from the store first.
    is_loaded: bool,
    place: BucketPlace,
    /// The stored text of the place, as far as this node knows.
    stored: Option<String>,
    is_dirty: bool,
    /// Whether there may be more to read.
    must_read: bool,
    /// The bucket is not read before this instant.
    not_before: Instant,
    /// A new number each time that the place is replaced. Results of earlier attempts are void.
    life: u64,
}

impl Sender {
    /// A sender for an endpoint. A new endpoint begins with acts that were done since `begun`.
    pub(super) fn new(tools: Tools, webhook: Arc<Webhook>, begun: StoreTime) -> anyhow::Result<Self> {
        let (client, reader) = (client()?, reader_of(&webhook));
        let buckets = Bucket::all().map(Reading::new).collect();
        Ok(Self { tools, webhook, client, reader, buckets, queue: Queue::default(), running: JoinSet::new(), begun })
    }

    /// Sends until `stop`, and then writes the endpoint's place. Fails if an attempt panicked.
    pub(super) async fn run(mut self, stop: CancellationToken) -> Result<(), JoinError> {
        let mut tails = self.tools.tails.follow();
        let (mut save, mut look) = (tokio::time::interval(SAVE_EVERY), tokio::time::interval(LOOK_EVERY));
        save.set_missed_tick_behavior(MissedTickBehavior::Delay);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !stop.is_cancelled() {
            self.start_what_is_due();
            let (read_at, due_at) = (self.read_at(), self.due_at());
            tokio::select! {
                () = stop.cancelled() => {}
                known = tails.next() => self.hear(known.as_deref()),
                Some(done) = self.running.join_next() => self.finish(done?),
                () = sleep_until(read_at) => self.read_some().await,
                () = sleep_until(due_at) => {}
                _ = save.tick() => self.save().await,
                _ = look.tick() => self.buckets.iter_mut().for_each(|reading| reading.must_read = true),
            }
        }
        self.part().await;
        Ok(())
    }

    /// Waits a moment for messages on their way, so that the next node does not send them again, and writes the places.
    async fn part(&mut self) {
        let until = Instant::now() + PARTING;
        while let Ok(Some(done)) = tokio::time::timeout_at(until, self.running.join_next()).await {
            if let Ok(done) = done {
                self.finish(done);
            }
        }
        self.save().await;
        self.tell_what_waits(false);
    }

    /// Notes which buckets have new tails. If the tails could not be read, any bucket may have one.
    fn hear(&mut self, tails: Option<&[u64]>) {
        for (index, reading) in self.buckets.iter_mut().enumerate() {
            let tail = tails.and_then(|tails| tails.get(index));
            reading.must_read |= tail.is_none_or(|tail| *tail != reading.place.seen.number);
        }
    }

    /// When to read next; `None` while there is nothing to read.
    fn read_at(&self) -> Option<Instant> {
        let taken = self.shared_room_taken();
        self.buckets.iter().filter(|reading| reading.can_read(taken)).map(|reading| reading.not_before).min()
    }

    /// When the next space is due; `None` while no more messages may be sent.
    fn due_at(&self) -> Option<Instant> {
        let due = self.queue.next_due()?;
        Some(Instant::now() + self.tools.clock.now().until(due))
    }

    /// How much of the shared room is taken.
    fn shared_room_taken(&self) -> usize {
        self.buckets.iter().map(|reading| reading.place.shared()).sum()
    }

    async fn read_some(&mut self) {
        let (now, store, reader, begun) = (Instant::now(), self.tools.store.as_ref(), &self.reader, self.begun);
        let taken = self.shared_room_taken();
        let is_due = |reading: &&Reading| reading.can_read(taken) && reading.not_before <= now;
        let mut due: Vec<&Reading> = self.buckets.iter().filter(is_due).collect();
        // The bucket that has waited longest comes first, so that buckets of an absent server keep no others waiting.
        due.sort_by_key(|reading| reading.not_before);
        let reads = due.into_iter().take(READ_AT_ONCE).map(|reading| async move {
            let (bucket, seen) = (reading.bucket, reading.place.seen);
            let read = match reading.is_loaded {
                true => read_placed(store, bucket, seen, PORTION).await.map(Read::Entries),
                false => load(store, reader, bucket, begun).await.map(Read::Place),
            };
            (bucket, read)
        });
        for (bucket, read) in join_all(reads).await {
            let index = usize::from(bucket.get());
            let pause = if read.is_ok() { Duration::ZERO } else { STORE_PAUSE };
            self.buckets[index].not_before = Instant::now() + pause;
            match read {
                Ok(Read::Entries(entries)) => self.take(index, entries),
                Ok(Read::Place(stored)) => self.begin(index, stored),
                Err(error) => self.note_failure(&error),
            }
        }
    }

    /// Continues in a bucket from the endpoint's stored place.
    fn begin(&mut self, index: usize, stored: Stored) {
        let reading = &mut self.buckets[index];
        (reading.is_loaded, reading.is_dirty) = (true, stored.text.is_none());
        (reading.place, reading.stored) = (stored.place, stored.text);
        let waiting = &reading.place.waiting;
        waiting.iter().for_each(|(space, waiting)| self.queue.push(*space, waiting.due, waiting.tries));
    }

    /// Takes the entries that were read of a bucket.
    fn take(&mut self, index: usize, read: PlacedEntries) {
        let now = self.tools.clock.now();
        let taken = self.shared_room_taken();
        let reading = &mut self.buckets[index];
        let is_moved = read.from != reading.place.seen;
        if is_moved {
            tell_of_gap(&self.webhook.name, reading, &read);
            self.tools.metrics.webhook_lost.with_label_values(&[&self.webhook.name]).inc_by(read.gone);
            reading.go_on_after(read.from);
        }
        reading.is_dirty |= is_moved || !read.entries.is_empty();
        let unreadable = read.entries.iter().filter(|(_, entry)| entry.is_none()).count() as u64;
        self.tools.metrics.webhook_lost.with_label_values(&[&self.webhook.name]).inc_by(unreadable);
        // One entry of a portion may be the one after which it was requested.
        reading.must_read = read.entries.len() + 1 >= PORTION;
        // The bucket's own share counts on both sides, so the room does not shrink because of it.
        let room = reading.place.room(taken);
        for (place, entry) in read.entries {
            if let Some(entry) = entry.filter(|entry| is_wanted(&self.webhook, entry)) {
                match reading.place.note(entry.space, place.number, entry.at, now, room) {
                    Some(true) => self.queue.push(entry.space, now, 0),
                    Some(false) => {}
                    None => {
                        reading.must_read = true;
                        break;
                    }
                }
            }
            reading.place.seen = place;
        }
    }

    fn start_what_is_due(&mut self) {
        let now = self.tools.clock.now();
        while let Some(space) = self.queue.pop(now) {
            let reading = &self.buckets[usize::from(space.bucket().get())];
            let Some(waiting) = reading.place.waiting.get(&space) else { continue };
            if waiting.due > now {
                self.queue.push(space, waiting.due, waiting.tries);
                continue;
            }
            if self.queue.begin(space, waiting.tries) {
                let (life, settled, upto) = (reading.life, waiting.settled, reading.place.seen.number);
                let task = Task { space, life, settled, upto };
                let (store, client) = (self.tools.store.clone(), self.client.clone());
                self.running.spawn(attempt(store, client, self.webhook.clone(), task));
            }
        }
    }

    fn finish(&mut self, done: Done) {
        let space = done.task.space;
        self.queue.end(space);
        if self.reading_of(space).life == done.task.life {
            self.settle(done);
        }
        let waiting = self.reading_of(space).place.waiting.get(&space).map(|waiting| (waiting.due, waiting.tries));
        if let Some((due, tries)) = waiting {
            self.queue.push(space, due, tries);
        }
    }

    fn settle(&mut self, done: Done) {
        let Done { task: Task { space, upto, .. }, is_gone, found } = done;
        if is_gone {
            self.note_gone(space, &found);
        }
        let now = self.tools.clock.now();
        match found {
            Found::Sent { number, at, outcome: Outcome::Delivered, .. } => {
                self.count("delivered");
                let lag = at.until(now).as_secs_f64();
                self.tools.metrics.webhook_lag_seconds.with_label_values(&[&self.webhook.name]).observe(lag);
                self.reading_of(space).place.settle(space, number, now);
            }
            Found::Sent { number, id, at, outcome: Outcome::Failed(failure, asked) } => {
                self.count(failure.as_str());
                self.fail(space, (number, &id, at), failure, asked);
            }
            Found::Nothing => self.reading_of(space).place.pass(space, upto),
            Found::Lost => {
                let reading = self.reading_of(space);
                reading.must_read = true;
                reading.postpone(space, now.plus(STORE_PAUSE));
            }
            Found::Failed(error) => {
                self.note_failure(&error);
                self.reading_of(space).postpone(space, now.plus(STORE_PAUSE));
            }
        }
        self.reading_of(space).is_dirty = true;
    }

    /// Counts an entry that is no longer kept, once.
    fn note_gone(&mut self, space: SpaceKey, found: &Found) {
        let name = self.webhook.name.clone();
        match found {
            Found::Sent { number, .. } => {
                if let Some(waiting) = self.reading_of(space).place.waiting.get_mut(&space) {
                    waiting.settled = number - 1;
                }
            }
            Found::Nothing => {}
            Found::Lost | Found::Failed(_) => return,
        }
        let SpaceKey { site, space } = space;
        tracing::error!(webhook = name, site.id = %site, space.id = %space, "an entry was trimmed before it was delivered");
        self.tools.metrics.webhook_lost.with_label_values(&[&name]).inc();
    }

    /// Waits before the entry is sent again, or skips it after long enough.
    fn fail(&mut self, space: SpaceKey, entry: (u64, &str, StoreTime), failure: Failure, asked: Option<Duration>) {
        let (number, id, at) = entry;
        let (now, patience) = (self.tools.clock.now(), self.tools.patience);
        let name = self.webhook.name.clone();
        let Some(waiting) = self.reading_of(space).place.waiting.get_mut(&space) else { return };
        waiting.tries = waiting.tries.saturating_add(1);
        waiting.at = at;
        let tries = waiting.tries;
        let (why, status) = (failure.as_str(), failure.status());
        if waiting.first_try.get_or_insert(now).until(now) >= patience.all {
            tracing::error!(webhook = name, id, tries, why, status, "skipped an entry that could not be delivered");
            self.reading_of(space).place.settle(space, number, now);
            self.count("skipped");
            return;
        }
        let pause = patience.pause(tries, asked, fastrand::f64());
        waiting.due = now.plus(pause);
        let pause_ms = pause.as_millis() as u64;
        if tries == 1 {
            tracing::warn!(webhook = name, id, why, status, pause_ms, "an entry was not delivered; will try again");
        } else {
            tracing::debug!(webhook = name, id, tries, why, status, pause_ms, "an entry was not delivered again");
        }
    }

    fn count(&self, outcome: &str) {
        self.tools.metrics.webhook_deliveries.with_label_values(&[&self.webhook.name, outcome]).inc();
    }

    /// The store logs its own failures.
    fn note_failure(&self, error: &StoreError) {
        tracing::debug!(webhook = self.webhook.name, %error, "cannot read the journal");
    }

    fn reading_of(&mut self, space: SpaceKey) -> &mut Reading {
        &mut self.buckets[usize::from(space.bucket().get())]
    }

    /// Writes the places that have moved. A place that another node has written stays as it is.
    async fn save(&mut self) {
        let dirty: Vec<usize> = (0..self.buckets.len()).filter(|index| self.buckets[*index].is_dirty).collect();
        let (store, reader) = (self.tools.store.as_ref(), self.reader.as_str());
        let writes = dirty.iter().map(|index| {
            let reading = &self.buckets[*index];
            let text = reading.place.to_text();
            async move {
                let known = reading.stored.as_deref();
                let written = store.move_reader(reader, reading.bucket, known, &text).await;
                (text, written)
            }
        });
        for (index, (text, written)) in dirty.iter().zip(join_all(writes).await) {
            match written {
                Ok(true) => self.buckets[*index].saved(text),
                Ok(false) => self.reload(*index).await,
                Err(error) => tracing::debug!(webhook = self.webhook.name, %error, "cannot write the endpoint's place"),
            }
        }
        self.tell_what_waits(true);
    }

    /// Takes over the stored place of a bucket. If there is none, the store has lost it, and this node's knowledge stands.
    async fn reload(&mut self, index: usize) {
        let bucket = self.buckets[index].bucket;
        let read = self.tools.store.reader_places(&self.reader, &[bucket]).await;
        let Ok(Some(text)) = read.map(|places| places.into_iter().next()) else { return };
        let reading = &mut self.buckets[index];
        reading.must_read = true;
        if let Some(Some(place)) = text.as_deref().map(BucketPlace::parse) {
            tracing::info!(
                webhook = self.webhook.name,
                bucket = bucket.get(),
                "another node moved the endpoint's place; goes on from there"
            );
            reading.replace(place);
        }
        reading.stored = text;
        let waiting = &reading.place.waiting;
        waiting.iter().for_each(|(space, waiting)| self.queue.push(*space, waiting.due, waiting.tries));
    }

    /// Sets the gauges of waiting entries. A node that does not send sets them to 0.
    fn tell_what_waits(&self, is_sending: bool) {
        let waiting = || self.buckets.iter().flat_map(|reading| reading.place.waiting.values());
        let now = self.tools.clock.now();
        let oldest = waiting().map(|waiting| waiting.at).min().map_or(0, |at| at.until(now).as_secs());
        let (spaces, oldest) = if is_sending { (waiting().count() as u64, oldest) } else { (0, 0) };
        let name = [self.webhook.name.as_str()];
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.tools.metrics.webhook_waiting.with_label_values(&name).set(gauge(spaces));
        self.tools.metrics.webhook_oldest_seconds.with_label_values(&name).set(gauge(oldest));
    }
}

/// The result of reading a bucket.
enum Read {
    /// Entries after its place.
    Entries(PlacedEntries),
    /// The place itself.
    Place(Stored),
}

impl Reading {
    fn new(bucket: Bucket) -> Self {
        Self {
            bucket,
            is_loaded: false,
            place: BucketPlace::default(),
            stored: None,
            is_dirty: false,
            must_read: true,
            not_before: Instant::now(),
            life: 0,
        }
    }

    /// Whether there may be entries to read, and there is room for their spaces to wait.
    fn can_read(&self, shared_room_taken: usize) -> bool {
        self.must_read && self.place.waiting.len() < self.place.room(shared_room_taken)
    }

    fn go_on_after(&mut self, place: Place) {
        self.place.go_on_after(place);
        self.life += 1;
    }

    fn replace(&mut self, place: BucketPlace) {
        self.place = place;
        self.is_dirty = false;
        self.life += 1;
    }

    fn saved(&mut self, text: String) {
        self.stored = Some(text);
        self.is_dirty = false;
    }

    fn postpone(&mut self, space: SpaceKey, due: StoreTime) {
        if let Some(waiting) = self.place.waiting.get_mut(&space) {
            waiting.due = due;
        }
    }
}

/// Logs that a bucket's journal has lost entries.
fn tell_of_gap(webhook: &str, reading: &Reading, read: &PlacedEntries) {
    let (bucket, gone) = (reading.bucket.get(), read.gone);
    if gone > 0 {
        tracing::error!(webhook, bucket, gone, "entries were trimmed before they were read, and are not delivered");
    } else {
        let (seen, from) = (reading.place.seen.number, read.from.number);
        tracing::warn!(
            webhook,
            bucket,
            seen,
            from,
            "the store has lost entries; goes on after the last one that it has"
        );
    }
}
