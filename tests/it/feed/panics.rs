//! A task of a space that panics.

use super::*;

/// A member that makes its space's task panic.
struct Faulty;

impl Member for Faulty {
    fn id(&self) -> MemberId {
        0
    }

    #[allow(clippy::panic, reason = "the test is about that")]
    fn send(&self, event: &'static str, _: &RawValue) {
        assert_ne!(event, "slot_update", "as the test wants it");
    }

    fn admits_replay(&self, _: usize, _: usize) -> bool {
        true
    }

    fn has_room(&self, _: usize) -> bool {
        true
    }

    fn abandon(&self) {}
}

#[tokio::test]
async fn after_a_panic_no_member_waits_for_events_that_never_come() {
    let node = Node::start();
    let member = Recorder::new();
    node.join(&member, Interest::default()).await;
    node.feed.join(space(), Arc::new(Faulty), Interest::default()).await.unwrap();
    node.change(1, "blocked").await;
    let abandoned = async {
        while !member.is_abandoned.load(Ordering::SeqCst) {
            member.more.notified().await;
        }
    };
    tokio::time::timeout(PATIENCE, abandoned).await.unwrap();
    assert_eq!(node.members(), 0);

    // Members that come back make the space watched anew.
    let back = Recorder::new();
    node.join(&back, Interest::default()).await;
    let last = node.change(2, "blocked").await;
    back.reaches(last).await;
    assert_eq!(node.members(), 1);
}
