//! The topics that every node follows.

use super::*;

/// Remembers the messages of the buckets, in order.
#[derive(Default)]
struct Everybody {
    heard: Mutex<Vec<String>>,
    freed: Mutex<Vec<FreedSummary>>,
}

impl Everybody {
    fn note(&self, what: String) {
        self.heard.lock().push(what);
    }

    async fn hears(&self, count: usize) -> Vec<String> {
        let heard = async {
            while self.heard.lock().len() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, heard).await.is_ok(), "{:?}", self.heard.lock());
        self.heard.lock().clone()
    }
}

impl Audience for Everybody {
    fn tell_freed(&self, freed: FreedSummary) {
        self.note(format!("freed {}", freed.count));
        self.freed.lock().push(freed);
    }

    fn tell_user(&self, message: UserMessage) {
        self.note(format!("user {} {} {}", message.user, message.sequence, message.event));
    }

    fn tell_user_messages_missed(&self, _: Bucket) {}

    fn tell_everyone(&self, message: EveryoneMessage) {
        self.note(format!("everyone {} {}", message.event, message.data));
    }

    fn disconnect_user(&self, command: DisconnectUser) {
        self.note(format!("disconnect {}", command.user));
    }
}

async fn follow(node: &Node) -> Arc<Everybody> {
    let everybody = Arc::new(Everybody::default());
    tokio::spawn(node.feed.clone().follow_buckets(everybody.clone()));
    // Comparing heads tells the health once all buckets are followed.
    tokio::spawn(node.feed.clone().compare_heads());
    let ready = async {
        while !node.app.app.health.obstacles().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    node.app.app.health.set_feed_in_step(false);
    assert!(tokio::time::timeout(PATIENCE, ready).await.is_ok());
    everybody
}

#[tokio::test]
async fn what_is_for_a_user_comes_in_order_with_commands_in_their_place() {
    let node = Node::start();
    let everybody = follow(&node).await;
    let user = UserId::new("7").unwrap();
    let data = || RawValue::from_string("{\"n\": 1.10}".into()).unwrap();
    let to_user = |event: &str| Publication::ToUser { user: user.clone(), event: event.into(), data: data() };
    let store = &node.app.app.store;
    for publication in [to_user("one"), to_user("two"), Publication::DisconnectUser(user.clone()), to_user("three")] {
        store.publish(publication).await.unwrap();
    }
    let heard = everybody.hears(4).await;
    let (mut told, mut sequences) = (Vec::new(), Vec::new());
    for line in &heard {
        let words: Vec<&str> = line.split(' ').collect();
        if let [_, _, sequence, event] = words[..] {
            sequences.push(sequence.parse::<u64>().unwrap());
            told.push(event);
        } else {
            told.push(line);
        }
    }
    assert_eq!(told, ["one", "two", "disconnect 7", "three"]);
    assert!(sequences.is_sorted_by(|one, next| one < next), "{sequences:?}");
    store.publish(Publication::ToEveryone(EveryoneMessage { event: "news".into(), data: data() })).await.unwrap();
    assert_eq!(everybody.hears(5).await[4], "everyone news {\"n\": 1.10}");
}

#[tokio::test]
async fn what_ends_within_a_second_is_told_once() {
    let node = Node::start();
    let everybody = follow(&node).await;
    for slots in [vec![1, 2], vec![5]] {
        let body = json!({"idSpazio": 3, "sedeId": 1, "date": node.app.tomorrow(), "slots": slots, "holdSeconds": 1});
        node.app.post("/api/slots/hold", &node.app.user("7"), body).await.data();
    }
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    node.app.post("/api/sweep", &node.app.staff("1", "admin"), json!({})).await;
    assert_eq!(everybody.hears(1).await, ["freed 3"]);
    let freed = everybody.freed.lock().remove(0);
    let listed: HashMap<SpaceKey, usize> =
        freed.spaces.iter().map(|(space, slots)| (*space, slots.slots.len())).collect();
    assert_eq!(listed, HashMap::from([(space(), 3)]));
}
