//! A subscription that loses, repeats and swaps messages. Members are shown the right boards all the same.

use super::*;

/// Loses, repeats and swaps announced messages, and brings messages of an epoch that never existed.
pub(super) struct Unreliable {
    pub(super) inner: Arc<dyn Subscriptions>,
    pub(super) hub: Hub,
    pub(super) fault: Fault,
}

#[derive(Clone, Copy)]
pub(super) enum Fault {
    /// All of these faults, chosen by a seed.
    Chaos(u64),
    /// Nothing arrives.
    Silence,
}

#[async_trait]
impl Subscriptions for Unreliable {
    async fn watch(&self, topic: Topic) -> Result<Watch, StoreError> {
        let inner = self.inner.watch(topic).await?;
        let watch = self.hub.watch(topic);
        tokio::spawn(disturb(inner, self.hub.clone(), topic, self.fault));
        Ok(watch)
    }
}

async fn disturb(mut inner: Watch, hub: Hub, topic: Topic, fault: Fault) {
    let mut random = fastrand::Rng::with_seed(if let Fault::Chaos(seed) = fault { seed } else { 0 });
    let mut held: Option<Message> = None;
    loop {
        let message = match inner.next().await {
            Signal::Lagged => {
                hub.lag_all();
                continue;
            }
            Signal::Message(message) => message,
        };
        if matches!(fault, Fault::Silence) {
            continue;
        }
        match random.u32(0..6) {
            0 => {}
            1 => (0..2).for_each(|_| hub.announce(topic, message.clone())),
            2 => held = Some(message),
            3 => {
                let at = Position { epoch: "never was".into(), version: message.at.version + 1 };
                hub.announce(topic, Message { at, ..message.clone() });
                hub.announce(topic, message);
            }
            _ => {
                hub.announce(topic, message);
                held.take().into_iter().for_each(|late| hub.announce(topic, late));
            }
        }
        if random.u32(0..20) == 0 {
            hub.lag_all();
        }
    }
}

#[tokio::test]
async fn whatever_is_lost_repeated_or_swapped_each_version_comes_once_in_order() {
    for seed in 0..8 {
        let hub = Hub::default();
        let node = {
            let hub = hub.clone();
            Node::hearing(move |inner| Arc::new(Unreliable { inner, hub, fault: Fault::Chaos(seed) }))
        };
        let member = Recorder::new();
        node.join(&member, day(node.tomorrow())).await;
        for _ in 0..4 {
            node.churn().await;
        }
        let last = node.change(1, "blocked").await;
        hub.lag_all();
        member.reaches(last).await;
        member.check(None);
        let updates = member.heard().iter().filter(|(name, _)| *name == "slot_update").count();
        assert_eq!(updates as u64, last, "seed {seed}: an epoch that never was is no reason for a snapshot");
    }
}

#[tokio::test]
async fn a_lost_last_change_is_found_by_comparing_heads() {
    find_a_lost_last_change(TestApp::start()).await;
}

#[tokio::test]
async fn a_lost_last_change_is_found_while_the_server_of_the_ping_is_away() {
    find_a_lost_last_change(TestApp::start_through(|store| Arc::new(FaultyStore { store, loses: "ping" }))).await;
}

async fn find_a_lost_last_change(app: TestApp) {
    let hub = Hub::default();
    let node = Node::of(app, |inner| Arc::new(Unreliable { inner, hub, fault: Fault::Silence }));
    let member = Recorder::new();
    node.join(&member, Interest::default()).await;
    let comparing = tokio::spawn(node.feed.clone().compare_heads());
    let last = node.change(1, "blocked").await;
    member.reaches(last).await;
    comparing.abort();
    assert_eq!(member.names(), ["joined_space 0", "slot_update 1"]);
}

#[tokio::test]
async fn whoever_was_answered_is_not_shown_a_board_from_before_that() {
    let hub = Hub::default();
    let node = Node::hearing(|inner| Arc::new(Unreliable { inner, hub, fault: Fault::Silence }));
    let (first, second) = (Recorder::new(), Recorder::new());
    node.join(&first, day(node.tomorrow())).await;
    assert_eq!(first.names(), ["joined_space 0", "slots_status_update 0"]);
    let answered = node.change(1, "blocked").await;
    node.join(&second, day(node.tomorrow())).await;
    assert_eq!(second.names(), [format!("joined_space {answered}"), format!("slots_status_update {answered}")]);
    assert_eq!(second.heard()[1].1["slotsStatus"][0]["status"], "blocked");
    let answered = node.change(2, "blocked").await;
    assert_eq!(node.join(&first, Interest::default()).await.at.version, answered);
    // The messages that the other members lacked came first.
    for member in [first, second] {
        member.reaches(answered).await;
        member.check(None);
    }
}

#[tokio::test]
async fn who_joins_a_watched_space_is_shown_what_is_known_and_then_the_rest() {
    let hub = Hub::default();
    let node = Node::hearing(|inner| Arc::new(Unreliable { inner, hub, fault: Fault::Silence }));
    let (first, second) = (Recorder::new(), Recorder::new());
    node.join(&first, day(node.tomorrow())).await;
    // This node has not heard of the change yet.
    let elsewhere = node.put_default_schedule().await;
    node.join(&second, day(node.tomorrow())).await;
    assert_eq!(second.names(), ["joined_space 0", "slots_status_update 0"]);
    let comparing = tokio::spawn(node.feed.clone().compare_heads());
    second.reaches(elsewhere.version).await;
    comparing.abort();
    second.check(None);
}

#[tokio::test]
async fn a_schedule_that_was_read_before_the_space_was_watched_is_not_gone_by() {
    let node = Node::start();
    let catalog = &node.app.app.catalog;
    assert_eq!(catalog.resolve(space()).await.unwrap().revision, None);
    let at = node.put_default_schedule().await;
    let member = Recorder::new();
    node.join(&member, Interest { day: Some(node.tomorrow()), since: Some(at.clone()) }).await;
    assert_eq!(member.names(), ["joined_space 1"]);
    // The day's slot starts follow from this schedule.
    assert_eq!(catalog.resolve(space()).await.unwrap().revision, Some(at));
}

#[tokio::test]
async fn a_position_that_the_store_does_not_know_brings_everybody_to_where_it_is() {
    let hub = Hub::default();
    let node = Node::hearing(|inner| Arc::new(Unreliable { inner, hub, fault: Fault::Silence }));
    let (first, second) = (Recorder::new(), Recorder::new());
    node.join(&first, day(node.tomorrow())).await;
    let at = node.put_default_schedule().await;
    let lost = Position { epoch: "lost".into(), version: 9 };
    node.join(&second, Interest { day: Some(node.tomorrow()), since: Some(lost) }).await;
    assert_eq!(second.names(), [format!("joined_space {}", at.version), format!("slots_status_update {}", at.version)]);
    first.reaches(at.version).await;
}

#[tokio::test]
async fn a_board_that_is_known_from_events_is_that_of_the_store() {
    let node = Node::start();
    let watching = Recorder::new();
    node.join(&watching, day(node.tomorrow())).await;
    node.churn().await;
    let body = |more: Value| {
        let mut body = json!({"idSpazio": 3, "sedeId": 1, "date": node.app.tomorrow()});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    node.app.post("/api/slots/2/hold", &node.app.user("7"), body(json!({}))).await.data();
    node.app.post("/api/slots/3/hold", &node.app.user("7"), body(json!({}))).await.data();
    node.app.post("/api/slots/3/book", &node.app.user("7"), body(json!({}))).await.data();
    let data = json!({"price": 12.5, "note": "\"blu\""});
    let staff = node.app.staff("1", "admin");
    node.app.put("/api/slots/4", &staff, body(json!({"status": "blocked", "data": data}))).await.data();
    let last = node.change(5, "available").await;
    watching.reaches(last).await;

    let joining = Recorder::new();
    node.join(&joining, day(node.tomorrow())).await;
    let [_, (_, known)] = joining.heard().try_into().unwrap();
    assert_eq!(known["version"], last);
    let state = node.app.app.catalog.read_board_or_none(space(), node.tomorrow()).await.unwrap();
    let day_of_store = state.state.records.into_iter().map(|(number, record)| (number, record.into())).collect();
    let stored = event::slots_status_update(
        space(),
        node.tomorrow(),
        state.schedule.as_deref(),
        &day_of_store,
        &state.state.at,
        state.state.now,
    );
    let stored: Value = serde_json::from_str(&stored.json).unwrap();
    assert_eq!(known["slotsStatus"], stored["slotsStatus"]);
    assert_eq!(known["slotsStatus"][3]["price"], 12.5);
}
