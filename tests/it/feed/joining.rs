//! What members are sent when they join, sync and leave.

use super::*;

#[tokio::test]
async fn a_member_is_told_that_it_joined_then_the_day_then_each_change() {
    let node = Node::start();
    node.change(1, "blocked").await;
    let member = Recorder::new();
    let joined = node.join(&member, day(node.tomorrow())).await;
    assert_eq!((joined.at.version, joined.recovered), (1, false));
    for status in ["blocked", "available", "booked"] {
        node.change(2, status).await;
    }
    member.reaches(4).await;
    let expected = ["joined_space 1", "slots_status_update 1", "slot_update 2", "slot_update 3", "slot_update 4"];
    assert_eq!(member.names(), expected);
    let snapshot = &member.heard()[1].1;
    assert_eq!(
        (&snapshot["date"], &snapshot["slotsStatus"][0]["status"]),
        (&json!(node.tomorrow()), &json!("blocked"))
    );
    assert_eq!(member.heard()[4].1["status"], "booked");
}

#[tokio::test]
async fn without_a_day_nothing_comes_between_the_joining_and_the_next_change() {
    let node = Node::start();
    node.change(1, "blocked").await;
    let member = Recorder::new();
    node.join(&member, Interest::default()).await;
    node.change(1, "available").await;
    member.reaches(2).await;
    assert_eq!(member.names(), ["joined_space 1", "slot_update 2"]);
}

#[tokio::test]
async fn what_was_missed_is_sent_exactly_as_it_was() {
    let node = Node::start();
    let witness = Recorder::new();
    let start = node.join(&witness, Interest::default()).await.at;
    node.churn().await;
    witness.reaches(18).await;
    let late = Recorder::new();
    let at = Position { version: 5, ..start.clone() };
    let joined = node.join(&late, Interest { day: Some(node.tomorrow()), since: Some(at) }).await;
    assert_eq!((joined.at.version, joined.recovered), (18, true));
    assert_eq!(late.heard()[1..], witness.heard()[6..], "byte for byte what the others got, and nothing else");
    let current = Recorder::new();
    assert!(node.join(&current, since(&joined.at)).await.recovered);
    assert_eq!(current.names(), ["joined_space 18"], "nothing was missed");
}

#[tokio::test]
async fn what_cannot_be_replayed_is_a_snapshot() {
    let node = Node::start();
    let other_epoch = Position { epoch: "another".into(), version: 1 };
    let mut lost = vec![other_epoch];
    let first = node.join(&Recorder::new(), Interest::default()).await.at;
    for _ in 0..58 {
        node.churn().await;
    }
    let head = node.head().await;
    assert!(head.version > 1_024 + first.version);
    lost.push(first);
    lost.push(Position { version: head.version + 1, ..head.clone() });
    lost.push(Position { version: u64::MAX, ..head.clone() });
    for position in lost {
        let member = Recorder::new();
        let joined = node.join(&member, Interest { day: Some(node.tomorrow()), since: Some(position.clone()) }).await;
        assert!(!joined.recovered, "{position:?}");
        let version = head.version;
        assert_eq!(member.names(), [format!("joined_space {version}"), format!("slots_status_update {version}")]);
    }
    // This is the longest possible replay.
    let member = Recorder::new();
    assert!(node.join(&member, since(&Position { version: head.version - 1_024, ..head })).await.recovered);
    assert_eq!(member.heard().len(), 1_025);
}

#[tokio::test]
async fn one_without_room_for_what_it_missed_gets_a_snapshot() {
    let node = Node::start();
    let member = Recorder::new();
    let start = node.join(&member, day(node.tomorrow())).await.at;
    member.room_for.store(17, Ordering::SeqCst);
    node.churn().await;
    member.reaches(18).await;
    assert!(!node.feed.sync(space(), member.id(), since(&start)).await.unwrap().recovered);
    assert_eq!(member.names().last().unwrap(), "slots_status_update 18");
    let almost = Position { version: 1, ..start };
    assert!(node.feed.sync(space(), member.id(), since(&almost)).await.unwrap().recovered);
}

#[tokio::test]
async fn joining_again_and_syncing_keep_one_membership_and_the_day() {
    let node = Node::start();
    let member = Recorder::new();
    let start = node.join(&member, day(node.tomorrow())).await.at;
    node.join(&member, Interest::default()).await;
    assert_eq!(node.members(), 1);
    node.change(1, "blocked").await;
    member.reaches(1).await;
    let synced = node.feed.sync(space(), member.id(), since(&start)).await.unwrap();
    assert!(synced.recovered);
    // The member names no day, so the day that it last asked for counts.
    let other = Position { epoch: "another".into(), version: 0 };
    assert!(!node.feed.sync(space(), member.id(), since(&other)).await.unwrap().recovered);
    let expected = [
        "joined_space 0",
        "slots_status_update 0",
        "joined_space 0",
        "slot_update 1",
        "slot_update 1",
        "slots_status_update 1",
    ];
    assert_eq!(member.names(), expected);
    assert_eq!(member.heard()[5].1["date"], json!(node.tomorrow()));
    assert_eq!(node.members(), 1);
}

#[tokio::test]
async fn one_that_left_hears_nothing_and_cannot_sync() {
    let node = Node::start();
    let (leaving, staying) = (Recorder::new(), Recorder::new());
    node.join(&leaving, Interest::default()).await;
    node.join(&staying, Interest::default()).await;
    node.leave(&leaving).await;
    node.change(1, "blocked").await;
    staying.reaches(1).await;
    assert_eq!(leaving.names(), ["joined_space 0"]);
    leaving.check(None);
    let refused = node.feed.sync(space(), leaving.id(), day(node.tomorrow())).await.unwrap_err();
    assert_eq!(refused.code, Code::NotFound);
    node.leave(&leaving).await;
    assert_eq!(node.members(), 1);
}

#[tokio::test]
async fn a_change_of_the_schedule_is_a_snapshot_before_any_later_change() {
    let node = Node::start();
    let (with_day, without) = (Recorder::new(), Recorder::new());
    let start = node.join(&with_day, day(node.tomorrow())).await.at;
    node.join(&without, Interest::default()).await;
    let changed = node.change_schedule("12:00").await;
    let last = node.change(1, "blocked").await;
    for member in [&with_day, &without] {
        member.reaches(last).await;
        member.check(None);
        let heard = member.heard();
        let after: Vec<_> = heard.iter().filter(|(_, payload)| payload["version"].as_u64() >= Some(changed)).collect();
        assert_eq!((after[0].0, &after[0].1["slotsStatus"][0]["orario"]), ("slots_status_update", &json!("12:00")));
    }
    assert_eq!(without.heard()[1].1["date"], json!(node.app.day_ahead(0)), "who asked for no day gets today");
    // The replay cannot include this change, which is not a `slot_update`.
    let late = Recorder::new();
    let joined = node.join(&late, Interest { day: Some(node.tomorrow()), since: Some(start) }).await;
    assert!(!joined.recovered);
    assert_eq!(late.heard()[1].1["slotsStatus"][0]["orario"], "12:00");
}

#[tokio::test]
async fn a_schedule_that_changes_all_the_time_leaves_nobody_behind() {
    let node = Node::start();
    let members: Vec<_> = (0..20).map(|_| Recorder::new()).collect();
    let joining = async {
        for member in &members {
            node.join(member, day(node.tomorrow())).await;
            tokio::task::yield_now().await;
        }
    };
    let changing = async {
        for round in 0..20 {
            node.change_schedule(if round % 2 == 0 { "10:00" } else { "11:00" }).await;
            node.change(1, "available").await;
        }
    };
    tokio::join!(joining, changing);
    let last = node.change(2, "blocked").await;
    for member in &members {
        member.reaches(last).await;
        member.check(None);
        let heard = member.heard();
        let shown = heard.iter().rev().find(|(name, _)| *name == "slots_status_update").unwrap();
        assert_eq!(shown.1["slotsStatus"][0]["orario"], "11:00");
    }
}

#[tokio::test]
async fn staff_shows_a_board_to_the_whole_room_in_its_place() {
    let node = Node::start();
    let member = Recorder::new();
    node.join(&member, Interest::default()).await;
    node.change(1, "blocked").await;
    node.app.app.store.publish(Publication::ShowBoard(space(), node.tomorrow())).await.unwrap();
    node.change(1, "available").await;
    member.reaches(2).await;
    member.hears(4).await;
    member.check(None);
    let heard = member.heard();
    let shown: Vec<_> = heard.iter().filter(|(name, _)| *name == "slots_status_update").collect();
    assert_eq!(shown.len(), 1);
    assert_eq!(shown[0].1["date"], json!(node.tomorrow()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_who_join_while_slots_change_each_hear_every_version() {
    let node = Arc::new(Node::start());
    let changing = tokio::spawn({
        let node = node.clone();
        async move {
            for _ in 0..20 {
                node.churn().await;
            }
        }
    });
    let known = node.head().await;
    let joining = (0..1_000).map(|number| {
        let node = node.clone();
        let known = known.clone();
        tokio::spawn(async move {
            let member = Recorder::new();
            let interest = match number % 3 {
                0 => Interest::default(),
                1 => day(node.tomorrow()),
                _ => since(&known),
            };
            node.join(&member, interest).await;
            member
        })
    });
    let members = futures_util::future::join_all(joining.collect::<Vec<_>>()).await;
    changing.await.unwrap();
    let last = node.change(1, "blocked").await;
    assert_eq!(node.members(), 1_000);
    for member in members {
        let member = member.unwrap();
        member.reaches(last).await;
        member.check(Some(known.version));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joining_leaving_and_syncing_at_once_lose_nothing() {
    let node = Arc::new(Node::start());
    let coming_and_going = (0..40).map(|seed| {
        let node = node.clone();
        tokio::spawn(async move {
            let mut random = fastrand::Rng::with_seed(seed);
            let member = Recorder::new();
            for _ in 0..30 {
                match random.u32(0..4) {
                    0 => node.leave(&member).await,
                    1 => drop(node.join(&member, Interest::default()).await),
                    2 => drop(node.join(&member, day(node.tomorrow())).await),
                    _ => drop(node.feed.sync(space(), member.id(), day(node.tomorrow())).await),
                }
            }
            node.leave(&member).await;
            member
        })
    });
    let tasks: Vec<_> = coming_and_going.collect();
    for _ in 0..10 {
        node.churn().await;
    }
    for task in tasks {
        check_visits(&task.await.unwrap());
    }
    assert_eq!(node.members(), 0);
}

/// Like [`Recorder::check`], for a member that was away at times. Each `joined_space` begins anew, and never goes back.
fn check_visits(member: &Recorder) {
    assert!(!member.heard_after_leaving.load(Ordering::SeqCst));
    let mut at = 0;
    for (name, payload) in member.heard() {
        let version = payload["version"].as_u64().unwrap();
        let follows = if name == "slot_update" { version == at + 1 } else { version >= at };
        assert!(follows, "{name} {version} after {at}: {:?}", member.names());
        at = version;
    }
}

#[tokio::test]
async fn a_space_that_nobody_watches_is_let_go_and_watched_again() {
    let node = Node::start();
    let topics = || node.app.app.metrics.feed_topics.get();
    let member = Recorder::new();
    node.join(&member, Interest::default()).await;
    node.leave(&member).await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(9)).await;
    tokio::task::yield_now().await;
    assert_eq!(topics(), 1, "a page that is loaded again finds it");
    tokio::time::advance(Duration::from_secs(2)).await;
    while topics() > 0 {
        tokio::task::yield_now().await;
    }
    tokio::time::resume();
    node.change(1, "blocked").await;
    let joined = node.join(&member, Interest::default()).await;
    assert_eq!(joined.at.version, 1);
    node.change(1, "available").await;
    member.reaches(2).await;
    assert_eq!((topics(), node.members()), (1, 1));
}
