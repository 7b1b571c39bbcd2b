//! A node whose subscription brings nothing, although nothing shows that it is broken.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::json;
use serde_json::value::RawValue;
use slotcast::domain::{SiteId, SpaceId, SpaceKey};
use slotcast::feed::{Feed, Interest, Member, MemberId};
use slotcast::store::hub::{Hub, Watch};
use slotcast::store::{StoreError, Subscriptions, Topic};
use tokio::sync::mpsc;

use crate::support::TestApp;

const PATIENCE: Duration = Duration::from_secs(20);

/// Subscriptions that seem to work, but bring nothing.
struct Mute {
    hub: Hub,
    renewed: Mutex<Vec<Topic>>,
}

#[async_trait]
impl Subscriptions for Mute {
    async fn watch(&self, topic: Topic) -> Result<Watch, StoreError> {
        Ok(self.hub.watch(topic))
    }

    async fn renew(&self, topic: Topic) {
        self.renewed.lock().push(topic);
    }
}

struct Socket(mpsc::UnboundedSender<&'static str>);

impl Member for Socket {
    fn id(&self) -> MemberId {
        1
    }

    fn send(&self, event: &'static str, _: &RawValue) {
        let _ = self.0.send(event);
    }

    fn admits_replay(&self, _: usize, _: usize) -> bool {
        true
    }

    fn has_room(&self, _: usize) -> bool {
        true
    }

    fn abandon(&self) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_found_behind_twice_in_silence_is_subscribed_anew() {
    let app = TestApp::start();
    let mute = Arc::new(Mute { hub: Hub::default(), renewed: Mutex::default() });
    let feed = Feed::new(app.app.0.clone(), mute.clone(), Arc::default());
    let (socket, mut events) = mpsc::unbounded_channel();
    let space = SpaceKey { site: SiteId::new(1).unwrap(), space: SpaceId::new(1).unwrap() };
    feed.join(space, Arc::new(Socket(socket)), Interest::default()).await.unwrap();
    assert_eq!(events.recv().await, Some("joined_space"));
    let comparing = tokio::spawn(feed.clone().compare_heads());

    let anna = app.user("7");
    for slot in ["1", "2"] {
        assert_eq!(*mute.renewed.lock(), []);
        let body = json!({"idSpazio": 1, "sedeId": 1, "date": app.tomorrow()});
        assert_eq!(app.post(&format!("/api/slots/{slot}/hold"), &anna, body).await.status, 200);
        // The comparison of heads finds the gap, and the log fills it.
        let event = tokio::time::timeout(PATIENCE, events.recv()).await;
        assert_eq!(event.expect("an event in time"), Some("slot_update"));
    }
    assert_eq!(*mute.renewed.lock(), [Topic::Space(space)]);
    comparing.abort();
}
