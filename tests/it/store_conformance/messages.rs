//! Messages to users, messages to everyone, and commands.

use super::*;

pub(super) fn to_user(name: &str, event: &str, data: &str) -> Publication {
    Publication::ToUser { user: user(name), event: event.into(), data: raw(data) }
}

pub(super) async fn sequences(store: &dyn SlotStore, name: &str) -> Vec<u64> {
    let backlog = store.messages_of(&user(name), None, usize::MAX).await.unwrap().messages;
    backlog.iter().map(|message| message.sequence).collect()
}

pub async fn messages_to_a_user_wait_for_the_user(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let topic = Topic::Bucket(user("anna").bucket());
    let mut watch = bench.subscriptions.watch(topic).await.unwrap();
    for (event, data) in [("first", r#"{"price": 1.10}"#), ("second", "[1, 2]"), ("third", "null")] {
        bench.store.publish(to_user("anna", event, data)).await.unwrap();
    }
    bench.store.publish(to_user("7", "other", "1")).await.unwrap();

    let backlog = bench.store.messages_of(&user("anna"), None, usize::MAX).await.unwrap().messages;
    let got: Vec<_> = backlog.iter().map(|m| (m.event.as_str(), m.data.get())).collect();
    assert_eq!(got, [("first", r#"{"price": 1.10}"#), ("second", "[1, 2]"), ("third", "null")]);
    let [first, second, third] = sequences(&*bench.store, "anna").await[..] else { panic!("three messages") };
    assert!(first < second && second < third);
    assert_eq!(sequences(&*bench.store, "7").await.len(), 1);

    for (version, sequence) in (1..).zip([first, second, third]) {
        let message = next_message(&mut watch).await;
        assert_eq!((message.kind, message.at.version), (MessageKind::User, version));
        let heard: UserMessage = serde_json::from_str(message.payload.get()).unwrap();
        assert_eq!((heard.user, heard.sequence), (user("anna"), sequence));
    }

    bench.store.mark_received(&user("anna"), second).await.unwrap();
    assert_eq!(sequences(&*bench.store, "anna").await, [third]);
    // A socket that got fewer messages than another one is told the rest.
    for (since, missed) in [(first, vec![second, third]), (second, vec![third]), (third, vec![])] {
        let backlog = bench.store.messages_of(&user("anna"), Some(since), usize::MAX).await.unwrap();
        let sequences: Vec<u64> = backlog.messages.iter().map(|message| message.sequence).collect();
        assert_eq!((backlog.after, sequences), (since, missed));
    }
    // The mark does not go back.
    bench.store.mark_received(&user("anna"), first).await.unwrap();
    assert_eq!(sequences(&*bench.store, "anna").await, [third]);
    // The mark does not go beyond the last message, so the next one counts as not received.
    bench.store.mark_received(&user("anna"), u64::MAX).await.unwrap();
    assert!(sequences(&*bench.store, "anna").await.is_empty());
    bench.store.publish(to_user("anna", "fourth", "4")).await.unwrap();
    let fourth = sequences(&*bench.store, "anna").await;
    assert!(fourth.len() == 1 && fourth[0] > third, "{fourth:?} after {third}");
    bench.store.mark_received(&user("nobody"), 9).await.unwrap();
    assert!(sequences(&*bench.store, "nobody").await.is_empty());
}

pub async fn a_user_keeps_the_last_messages(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let count = USER_LOG_LENGTH + 7;
    for number in 1..=count {
        bench.store.publish(to_user("anna", "e", &number.to_string())).await.unwrap();
    }
    let kept = bench.store.messages_of(&user("anna"), None, usize::MAX).await.unwrap().messages;
    let numbers: Vec<String> = kept.iter().map(|message| message.data.get().to_owned()).collect();
    assert_eq!(numbers, (8..=count).map(|number| number.to_string()).collect::<Vec<_>>());
    assert!(kept.is_sorted_by_key(|message| message.sequence));
    // The backlog is read in portions. A portion has at least one message, and ends when it has so many bytes.
    for (bytes, most) in [(0, 1), (300, 10), (3_000, USER_LOG_LENGTH)] {
        let (mut read, mut since) = (Vec::new(), None);
        loop {
            let portion = bench.store.messages_of(&user("anna"), since, bytes).await.unwrap();
            assert!((1..=most).contains(&portion.messages.len()), "{} for {bytes}", portion.messages.len());
            since = portion.messages.last().map(|message| message.sequence);
            read.extend(portion.messages.iter().map(|message| message.data.get().to_owned()));
            if !portion.has_more {
                break;
            }
        }
        assert_eq!(read, numbers, "by {bytes} bytes");
    }
    let last = kept.last().map(|message| message.sequence);
    let none = bench.store.messages_of(&user("anna"), last, 1).await.unwrap();
    assert!(none.messages.is_empty() && !none.has_more);
}

pub async fn publications_reach_their_topics(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let everyone = Topic::Bucket(Bucket::EVERYONE);
    let of_user = Topic::Bucket(user("anna").bucket());
    let of_space = Topic::Space(space(1));
    let mut watch_everyone = bench.subscriptions.watch(everyone).await.unwrap();
    let mut watch_user = bench.subscriptions.watch(of_user).await.unwrap();
    let mut watch_space = bench.subscriptions.watch(of_space).await.unwrap();
    bench.apply(space(1), &[1], hold_by("a", MINUTE)).await.unwrap();
    next_message(&mut watch_space).await;

    let message = EveryoneMessage { event: "avviso".into(), data: raw(r#"{"n": 1.0}"#) };
    bench.store.publish(Publication::ToEveryone(message)).await.unwrap();
    let heard = next_message(&mut watch_everyone).await;
    assert_eq!((heard.kind, heard.at.version), (MessageKind::Everyone, 1));
    let heard: EveryoneMessage = serde_json::from_str(heard.payload.get()).unwrap();
    assert_eq!((heard.event.as_str(), heard.data.get()), ("avviso", r#"{"n": 1.0}"#));
    assert_eq!(bench.log(everyone, 0).await.len(), 1);

    // A message that is not kept takes no version. It has the position of the head.
    let before = bench.now().await;
    bench.store.publish(Publication::DisconnectUser(user("anna"))).await.unwrap();
    let heard = next_message(&mut watch_user).await;
    assert_eq!((heard.kind, heard.at.clone()), (MessageKind::Disconnect, bench.head(of_user).await));
    let command: DisconnectUser = serde_json::from_str(heard.payload.get()).unwrap();
    assert_eq!(command.user, user("anna"));
    assert!((before..=bench.now().await).contains(&command.before));
    assert_eq!(bench.head(of_user).await.version, 0);

    bench.store.publish(Publication::ShowBoard(space(1), day())).await.unwrap();
    let heard = next_message(&mut watch_space).await;
    assert_eq!((heard.kind, heard.at.version), (MessageKind::ShowBoard, 1));
    let show: ShowBoard = serde_json::from_str(heard.payload.get()).unwrap();
    assert_eq!(show.date, day());
    assert_eq!(bench.space_head(space(1)).await.version, 1);
    assert_eq!(bench.log(of_space, 0).await.len(), 1);
}
