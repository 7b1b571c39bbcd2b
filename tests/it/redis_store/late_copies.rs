//! Acts that are sent again, and whose first copy comes last. On a slow or broken line, bytes of an old connection may
//! reach the server after those of the connection that replaced it.

use super::*;

/// A server with a hold of `z` in space 1, a store behind a proxy, and a store that speaks to the server directly.
async fn start() -> (RedisServer, LossyProxy, RedisStore, RedisStore) {
    let server = RedisServer::start();
    let proxy = LossyProxy::start(server.address()).await;
    let (store, direct) = (store_at(&proxy.url(), "slotcast"), server.store());
    store.apply(act(1, &[9], hold("z", MINUTE))).await.unwrap();
    (server, proxy, store, direct)
}

/// A part of every request that [`act`] makes.
const OF_ACTS: &str = "\r\n2090-05-05\r\n";

/// Delivers the copy that was held back, which must change nothing.
async fn assert_comes_to_nothing(proxy: &LossyProxy, direct: &RedisStore, topic: Topic) {
    assert!(proxy.has_lost_all());
    let before = head(direct, topic).await;
    let answers = proxy.deliver_late().await;
    assert_eq!(answers.len(), 1);
    assert_eq!(head(direct, topic).await, before, "the first copy was answered {answers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_copy_that_comes_last_does_not_do_an_act_again() {
    let (_server, proxy, store, direct) = start().await;
    let topic = Topic::Space(space(1));
    // These acts change something each time. Other acts would be repeats, which write nothing.
    let steps = [
        hold("a", MINUTE),
        extend("a", 2 * MINUTE),
        book("a"),
        set(StaffStatus::Blocked),
        set(StaffStatus::Available),
        hold("a", MINUTE),
        release("a"),
    ];
    for kind in steps {
        let before = head(&direct, topic).await.version;
        proxy.hold_back(OF_ACTS);
        let outcome = store.apply(act(1, &[1, 2], kind)).await.unwrap();
        assert_eq!(outcome.at.version, before + 2);
        assert_comes_to_nothing(&proxy, &direct, topic).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_copy_does_not_take_back_what_came_after_the_answer() {
    let (_server, proxy, store, direct) = start().await;
    proxy.hold_back(OF_ACTS);
    store.apply(act(1, &[1], hold("a", MINUTE))).await.unwrap();
    direct.apply(act(1, &[1], release("a"))).await.unwrap();
    assert_comes_to_nothing(&proxy, &direct, Topic::Space(space(1))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_copy_does_not_do_what_was_refused_since() {
    let (_server, proxy, store, direct) = start().await;
    let refused_by = async |kind, code| {
        proxy.hold_back(OF_ACTS);
        let refused = store.apply(act(1, &[9], kind)).await;
        assert!(matches!(&refused, Err(ApplyError::Refused(refusal)) if refusal.code == code), "{refused:?}");
    };
    refused_by(hold("a", MINUTE), Code::SlotUnavailable).await;
    direct.apply(act(1, &[9], release("z"))).await.unwrap();
    assert_comes_to_nothing(&proxy, &direct, Topic::Space(space(1))).await;

    refused_by(book("a"), Code::NotHeld).await;
    direct.apply(act(1, &[9], hold("a", MINUTE))).await.unwrap();
    assert_comes_to_nothing(&proxy, &direct, Topic::Space(space(1))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_copy_of_a_message_or_a_schedule_does_not_tell_it_again() {
    let (_server, proxy, store, direct) = start().await;
    let data = || serde_json::value::RawValue::from_string("1".into()).unwrap();
    let of_user = Topic::Bucket(user("a").bucket());
    proxy.hold_back("hello");
    store.publish(Publication::ToUser { user: user("a"), event: "hello".into(), data: data() }).await.unwrap();
    assert_comes_to_nothing(&proxy, &direct, of_user).await;
    assert_eq!(direct.messages_of(&user("a"), None, usize::MAX).await.unwrap().messages.len(), 1);

    proxy.hold_back("hello");
    let message = EveryoneMessage { event: "hello".into(), data: data() };
    store.publish(Publication::ToEveryone(message)).await.unwrap();
    assert_comes_to_nothing(&proxy, &direct, Topic::Bucket(Bucket::EVERYONE)).await;

    proxy.hold_back("Europe/Rome");
    let change = SpaceChange::new(space(2), Some(ScheduleSpec::default()), None).unwrap();
    store.put_space(change).await.unwrap();
    assert_comes_to_nothing(&proxy, &direct, Topic::Space(space(2))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_noted_of_copies_is_forgotten() {
    let (server, proxy, store, direct) = start().await;
    let key = format!("slotcast:{{b{}}}:head:1:1", space(1).bucket().get());
    let noted = || server.cli(&["HGET", &key, "again"]).trim().to_owned();
    proxy.hold_back(OF_ACTS);
    store.apply(act(1, &[1], set(StaffStatus::Blocked))).await.unwrap();
    assert_ne!(noted(), "");
    proxy.deliver_late().await;
    let began = clock::instant();
    while !noted().is_empty() {
        assert!(began.elapsed() < PATIENCE, "{}", noted());
        direct.apply(act(1, &[1], set(StaffStatus::Blocked))).await.unwrap();
    }
}
