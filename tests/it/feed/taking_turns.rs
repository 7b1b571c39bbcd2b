//! Members that are slow, and members that join while much waits to be sent.

use super::catching_up::{Fault, Unreliable};
use super::*;

/// A member whose queue takes long, while `is_stuck`.
struct Slow {
    recorder: Arc<Recorder>,
    is_stuck: AtomicBool,
}

impl Member for Slow {
    fn id(&self) -> MemberId {
        self.recorder.id()
    }

    fn send(&self, event: &'static str, payload: &RawValue) {
        while event == "slot_update" && self.is_stuck.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.recorder.send(event, payload);
    }

    fn admits_replay(&self, events: usize, _: usize) -> bool {
        self.recorder.admits_replay(events, 0)
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.recorder.has_room(bytes)
    }

    fn abandon(&self) {
        self.recorder.abandon();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_changes_than_a_watch_holds_are_one_snapshot() {
    let node = Node::start();
    let slow = Arc::new(Slow { recorder: Recorder::new(), is_stuck: AtomicBool::new(true) });
    let other = Recorder::new();
    slow.recorder.is_in.store(true, Ordering::SeqCst);
    node.feed.join(space(), slow.clone(), day(node.tomorrow())).await.unwrap();
    node.join(&other, day(node.tomorrow())).await;
    // The feed's task is stuck with the first of these. A watch and the log hold 1,024.
    for _ in 0..60 {
        node.churn().await;
    }
    slow.is_stuck.store(false, Ordering::SeqCst);
    other.reaches(1_080).await;
    slow.recorder.reaches(1_080).await;
    let last = node.change(1, "blocked").await;
    for member in [&other, &slow.recorder] {
        member.reaches(last).await;
        member.check(None);
        let heard = member.heard();
        let snapshots = heard.iter().filter(|(name, _)| *name == "slots_status_update").count();
        assert_eq!(snapshots, 2, "one when it joined, one instead of what is lost: {:?}", member.names());
        assert!(heard.len() < 20, "{}", heard.len());
    }
}

/// A member that has another member join during the first change that it is sent, and may be stuck there.
struct Inviting {
    recorder: Arc<Recorder>,
    feed: Feed,
    guest: Arc<Guest>,
    interest: Interest,
    is_stuck: AtomicBool,
    has_invited: AtomicBool,
}

/// A member that remembers how many changes its host had been sent when it joined.
struct Guest {
    recorder: Arc<Recorder>,
    host: Arc<Recorder>,
    waited_for: Mutex<Option<usize>>,
}

fn count_updates(recorder: &Recorder) -> usize {
    recorder.heard().iter().filter(|(name, _)| *name == "slot_update").count()
}

impl Member for Guest {
    fn id(&self) -> MemberId {
        self.recorder.id()
    }

    fn send(&self, event: &'static str, payload: &RawValue) {
        if event == "joined_space" {
            *self.waited_for.lock() = Some(count_updates(&self.host));
        }
        self.recorder.send(event, payload);
    }

    fn admits_replay(&self, events: usize, bytes: usize) -> bool {
        self.recorder.admits_replay(events, bytes)
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.recorder.has_room(bytes)
    }

    fn abandon(&self) {
        self.recorder.abandon();
    }
}

impl Member for Inviting {
    fn id(&self) -> MemberId {
        self.recorder.id()
    }

    fn send(&self, event: &'static str, payload: &RawValue) {
        while event == "slot_update" && self.is_stuck.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.recorder.send(event, payload);
        if event == "slot_update" && !self.has_invited.swap(true, Ordering::SeqCst) {
            let (feed, guest, interest) = (self.feed.clone(), self.guest.clone(), self.interest.clone());
            let mut joining = Box::pin(async move { feed.join(space(), guest, interest).await });
            // Polled once here, so that its command waits in the task's queue from this event on.
            assert!((&mut joining).now_or_never().is_none());
            tokio::spawn(joining);
        }
    }

    fn admits_replay(&self, events: usize, bytes: usize) -> bool {
        self.recorder.admits_replay(events, bytes)
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.recorder.has_room(bytes)
    }

    fn abandon(&self) {
        self.recorder.abandon();
    }
}

impl Inviting {
    async fn join(node: &Node, interest: Interest, is_stuck: bool) -> Arc<Self> {
        let (recorder, guest) = (Recorder::new(), Recorder::new());
        guest.is_in.store(true, Ordering::SeqCst);
        recorder.is_in.store(true, Ordering::SeqCst);
        let guest = Arc::new(Guest { recorder: guest, host: recorder.clone(), waited_for: Mutex::default() });
        let host = Arc::new(Self {
            recorder,
            feed: node.feed.clone(),
            guest,
            interest,
            is_stuck: AtomicBool::new(is_stuck),
            has_invited: AtomicBool::new(false),
        });
        node.feed.join(space(), host.clone(), day(node.tomorrow())).await.unwrap();
        host
    }

    /// The guest joined with few changes in between, and both are told everything up to the last.
    async fn ends_fairly(&self, last: u64) {
        for recorder in [&self.recorder, &self.guest.recorder] {
            recorder.reaches(last).await;
        }
        let waited_for = self.guest.waited_for.lock().unwrap();
        assert!(waited_for <= 64, "the guest waited for {waited_for} changes");
        assert_eq!(count_updates(&self.recorder) as u64, last, "the host missed nothing");
        let since = self.interest.since.as_ref().map(|since| since.version);
        self.recorder.check(None);
        self.guest.recorder.check(since);
    }
}

/// Everything that a joining member may ask for.
async fn interests(node: &Node) -> Vec<Interest> {
    let start = node.head().await;
    vec![
        day(node.tomorrow()),
        Interest::default(),
        since(&start),
        Interest { day: Some(node.tomorrow()), since: Some(Position { epoch: "another".into(), version: 1 }) },
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_who_joins_does_not_wait_for_all_that_waits_to_be_sent() {
    for index in 0..4 {
        let node = Node::start();
        let interest = interests(&node).await.remove(index);
        let host = Inviting::join(&node, interest, true).await;
        // All of these wait behind the first one, and this node has answered them to clients.
        for _ in 0..28 {
            node.churn().await;
        }
        let head = node.head().await.version;
        host.is_stuck.store(false, Ordering::SeqCst);
        host.ends_fairly(head).await;
        let last = node.change(1, "blocked").await;
        host.ends_fairly(last).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_who_joins_does_not_wait_for_all_that_was_missed() {
    for index in 0..4 {
        let node = Node::hearing(|inner| Arc::new(Unreliable { inner, hub: Hub::default(), fault: Fault::Silence }));
        let interest = interests(&node).await.remove(index);
        let host = Inviting::join(&node, interest, false).await;
        for _ in 0..28 {
            node.churn().await;
        }
        tokio::spawn(node.feed.clone().compare_heads());
        let head = node.head().await.version;
        host.ends_fairly(head).await;
    }
}
