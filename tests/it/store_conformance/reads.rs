//! Reading the slots of users, days, and the nodes.

use super::*;

pub async fn holds_of_a_user_are_the_live_ones(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let hold = |in_space: u64, date: &str, slots: &[u64], name: &str, millis| {
        let kind = SlotActKind::Hold { user: user("a"), token: token(name), millis, max_holds: None, max_held: None };
        SlotAct { day: Day::parse(date).unwrap(), ..bench.act(space(in_space), slots, kind) }
    };
    bench.store.apply(hold(2, "2090-01-01", &[3], "one", MINUTE)).await.unwrap();
    bench.store.apply(hold(1, "2090-01-02", &[2, 10], "two", MINUTE)).await.unwrap();
    bench.store.apply(hold(1, "2090-01-01", &[9], "three", MINUTE)).await.unwrap();
    let ended = bench.store.apply(hold(1, "2090-01-01", &[1], "four", 20)).await.unwrap();
    bench.store.apply(hold(1, "2090-01-03", &[1], "five", MINUTE)).await.unwrap();
    let release = SlotAct { day: Day::parse("2090-01-03").unwrap(), ..bench.act(space(1), &[1], release_by("a")) };
    bench.store.apply(release).await.unwrap();
    bench.apply(space(1), &[1], hold_by("ab", MINUTE)).await.unwrap();
    bench.wait_past(ended.hold.unwrap().until).await;

    let holds = bench.store.holds_of(&user("a")).await.unwrap();
    let got: Vec<_> = holds
        .iter()
        .map(|held| (held.space.space.get(), held.day.to_string(), held.slot.get(), held.token.clone()))
        .collect();
    let expected = [
        (1, "2090-01-01".to_owned(), 9, token("three")),
        (1, "2090-01-02".to_owned(), 2, token("two")),
        (1, "2090-01-02".to_owned(), 10, token("two")),
        (2, "2090-01-01".to_owned(), 3, token("one")),
    ];
    assert_eq!(got, expected);
    assert_eq!(holds[0].label, "09:00");
    assert!(bench.store.holds_of(&user("nobody")).await.unwrap().is_empty());
}

pub async fn bookings_of_a_user_are_those_of_the_days_asked_for(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let on = |in_space: u64, date: &str, slots: &[u64], kind| SlotAct {
        day: Day::parse(date).unwrap(),
        ..bench.act(space(in_space), slots, kind)
    };
    for (in_space, date, slots, who) in [
        (2, "2090-01-01", &[3][..], "a"),
        (1, "2090-01-03", &[2, 10], "a"),
        (1, "2090-01-01", &[9], "ab"),
        (1, "2090-01-02", &[4], "a"),
        (1, "2090-01-02", &[5], "a"),
        (3, "2090-01-04", &[1], "a"),
    ] {
        bench.store.apply(on(in_space, date, slots, hold_by(who, MINUTE))).await.unwrap();
        bench.store.apply(on(in_space, date, slots, book_by(who))).await.unwrap();
    }
    // Slot 6 is only held. Then one slot is released, staff takes one, and staff adds data to one that stays its
    // user's.
    bench.store.apply(on(1, "2090-01-02", &[6], hold_by("a", MINUTE))).await.unwrap();
    let release =
        SlotActKind::Release { actor: Actor::Anyone, token: None, booked_by: Some(Actor::Anyone), cancel_before: None };
    bench.store.apply(on(1, "2090-01-02", &[5], release)).await.unwrap();
    bench.store.apply(on(1, "2090-01-03", &[10], update(StaffStatus::Blocked))).await.unwrap();
    bench.store.apply(on(1, "2090-01-02", &[4], update(StaffStatus::Booked))).await.unwrap();

    let booked = async |who: &str, from: &str, to: &str| {
        let [from, to] = [from, to].map(|date| Day::parse(date).unwrap());
        let mut booked = bench.store.bookings_of(&user(who), from, to).await.unwrap();
        booked.sort_by_key(|slot| (slot.day, slot.space.space, slot.slot));
        booked
    };
    let all = booked("a", "2090-01-01", "2090-01-04").await;
    let got: Vec<_> = all.iter().map(|slot| (slot.day.to_string(), slot.space.space.get(), slot.slot.get())).collect();
    let expected = [("2090-01-01", 2, 3), ("2090-01-02", 1, 4), ("2090-01-03", 1, 2), ("2090-01-04", 3, 1)];
    assert_eq!(got, expected.map(|(date, in_space, slot)| (date.to_owned(), in_space, slot)));
    let (first, time) = (&all[0], bench.slot(3));
    assert_eq!((first.start, first.end, first.label.as_str()), (time.start, time.end, "03:00"));
    assert!(all.iter().all(|slot| slot.booked_at.is_some_and(|booked_at| booked_at >= bench.began)));
    assert_eq!(booked("a", "2090-01-02", "2090-01-03").await, all[1..3]);
    assert_eq!(booked("a", "2090-01-05", "2090-01-04").await, []);
    assert_eq!(booked("ab", "2090-01-01", "2090-01-04").await.len(), 1);
    assert_eq!(booked("nobody", "0001-01-01", "9999-12-31").await, []);
}

pub async fn spaces_with_something_on_a_day_are_known(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let elsewhere = SpaceKey { site: SiteId::new(2).unwrap(), ..space(1) };
    for at in [space(30), space(4), elsewhere] {
        bench.apply(at, &[1], hold_by("a", MINUTE)).await.unwrap();
    }
    bench
        .store
        .apply(SlotAct { day: Day::parse("2090-05-06").unwrap(), ..bench.act(space(5), &[1], hold_by("a", MINUTE)) })
        .await
        .unwrap();
    let numbers = async |site: u64| {
        let spaces = bench.store.spaces_on(SiteId::new(site).unwrap(), day()).await.unwrap();
        spaces.into_iter().map(SpaceId::get).collect::<Vec<_>>()
    };
    assert_eq!((numbers(1).await, numbers(2).await, numbers(3).await), (vec![4, 30], vec![1], vec![]));
}

pub async fn what_is_registered_is_listed(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    assert_eq!(bench.store.registered_spaces().await.unwrap(), []);
    let elsewhere = SpaceKey { site: SiteId::new(2).unwrap(), ..space(1) };
    let spec = ScheduleSpec { hold_minutes: Some(5), ..ScheduleSpec::default() };
    for at in [elsewhere, space(30), space(4)] {
        bench.put_space(at, Some(spec.clone()), 0).await.unwrap();
    }
    bench.apply(space(7), &[1], hold_by("a", MINUTE)).await.unwrap();
    assert_eq!(bench.store.registered_spaces().await.unwrap(), [space(4), space(30), elsewhere]);
    bench.put_space(space(4), None, 1).await.unwrap();
    assert_eq!(bench.store.registered_spaces().await.unwrap(), [space(30), elsewhere]);
    let schedules = bench.store.schedules_of(&[elsewhere, space(4), space(7)]).await.unwrap();
    assert_eq!(schedules, [Some(spec), None, None]);
}

pub async fn a_booking_is_cancelled_until_some_time_before_its_start(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    for who in ["a", "b"] {
        let slots = if who == "a" { &[2, 4][..] } else { &[3] };
        bench.apply(space(1), slots, hold_by(who, MINUTE)).await.unwrap();
        bench.apply(space(1), slots, book_by(who)).await.unwrap();
    }
    let cancel = async |slots: &[u64], kind| refusal(bench.apply(space(1), slots, kind).await);
    // Slot 2 starts in two hours, and slot 4 starts in four.
    assert_eq!(cancel(&[2, 4], cancel_by("a", 3 * HOUR)).await, (Code::TooLate, vec![2]));
    assert_eq!(cancel(&[3, 4], cancel_by("a", 0)).await, (Code::NotHeld, vec![3]));
    assert_eq!(cancel(&[2], release_by("a")).await, (Code::NotHeld, vec![2]));
    let under_token = SlotActKind::Release {
        actor: Actor::User(user("a")),
        token: Some(token("a")),
        booked_by: None,
        cancel_before: Some(0),
    };
    assert_eq!(cancel(&[2], under_token).await, (Code::HoldExpired, vec![2]));
    bench.apply(space(1), &[5], hold_by("a", MINUTE)).await.unwrap();
    bench.apply(space(1), &[4, 5], cancel_by("a", 3 * HOUR)).await.unwrap();
    assert_eq!(
        (bench.status(space(1), 4).await, bench.status(space(1), 5).await),
        (Status::Available, Status::Available)
    );
    let booked = bench.store.bookings_of(&user("a"), day(), day()).await.unwrap();
    assert_eq!(booked.iter().map(|slot| slot.slot.get()).collect::<Vec<_>>(), [2]);
}

pub async fn staff_book_for_a_user(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let book_for = |who: Option<&str>| {
        let data = serde_json::from_str::<SlotData>(r#"{"a":1}"#).ok();
        SlotActKind::Update { to: StaffStatus::Booked, data, user: who.map(user) }
    };
    bench.apply(space(1), &[2], hold_by("b", MINUTE)).await.unwrap();
    let first = bench.apply(space(1), &[1, 2], book_for(Some("a"))).await.unwrap();
    assert_eq!(first.at.version, 3);
    let of = async |who: &str| {
        let booked = bench.store.bookings_of(&user(who), day(), day()).await.unwrap();
        let mut slots: Vec<u16> = booked.iter().map(|slot| slot.slot.get()).collect();
        slots.sort_unstable();
        slots
    };
    assert_eq!((of("a").await, of("b").await), (vec![1, 2], vec![]));
    assert!(bench.store.holds_of(&user("b")).await.unwrap().is_empty());
    // A repeated `book` answers the position of staff's booking, even after staff has booked the slot for the same user
    // again.
    bench.apply(space(1), &[2], book_for(Some("a"))).await.unwrap();
    bench.apply(space(1), &[1], book_for(None)).await.unwrap();
    assert_eq!(bench.apply(space(1), &[1, 2], book_by("a")).await.unwrap().at, first.at);
    // A booking for another user replaces the booking, and is a new one.
    let replaced = bench.apply(space(1), &[2], book_for(Some("b"))).await.unwrap();
    assert_eq!((of("a").await, of("b").await), (vec![1], vec![2]));
    assert_eq!(bench.apply(space(1), &[2], book_by("b")).await.unwrap().at, replaced.at);
    let told = bench.log(Topic::Space(space(1)), 3).await;
    let owners = told.iter().map(|message| message.owned.as_ref().map(|owned| owned.user.to_string()));
    assert_eq!(owners.collect::<Vec<_>>(), [Some("a".into()), Some("a".into()), Some("b".into())]);
}

pub async fn a_read_never_mixes_two_versions(factory: impl StoreFactory) {
    let bench = Arc::new(bench(&factory).await);
    let writer = bench.clone();
    let writing = tokio::spawn(async move {
        for round in 0..60 {
            let to = if round % 2 == 0 { StaffStatus::Blocked } else { StaffStatus::Booked };
            writer.apply(space(1), &[1, 2, 3], update(to)).await.unwrap();
        }
    });
    while !writing.is_finished() {
        let read = bench.store.read_day(space(1), day()).await.unwrap();
        // Each act writes all three slots and takes three versions, so any read sees whole acts.
        assert_eq!(read.at.version % 3, 0);
        let versions: Vec<u64> = read.records.values().map(|record| record.version).collect();
        let last = read.at.version;
        let whole = if last == 0 { vec![] } else { vec![last - 2, last - 1, last] };
        assert_eq!(versions, whole);
        tokio::task::yield_now().await;
    }
    writing.await.unwrap();
}

pub async fn nodes_are_told_until_their_lease_ends(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let report = |id: &str, sockets| NodeReport {
        id: id.into(),
        address: "127.0.0.1:3000".into(),
        proof: None,
        version: "1".into(),
        started_at: "2026-01-01T00:00:00.000Z".into(),
        sockets,
        users: 1,
        rooms: BTreeMap::from([("spazio_1_sede_1".into(), 2)]),
    };
    let long = Duration::from_secs(60);
    bench.store.report_node(report("one", 1), long).await.unwrap();
    bench.store.report_node(report("two", 2), Duration::from_millis(20)).await.unwrap();
    bench.store.report_node(report("one", 5), long).await.unwrap();
    bench.wait_past(bench.now().await.plus_millis(25)).await;
    let nodes = bench.store.nodes().await.unwrap();
    let got: Vec<_> = nodes.iter().map(|node| (node.id.as_str(), node.sockets, node.rooms.len())).collect();
    assert_eq!(got, [("one", 5, 1)]);
    assert_eq!(bench.store.take_sweep_lease("one", long).await.unwrap(), None);
    assert_eq!(bench.store.take_sweep_lease("one", long).await.unwrap(), None);
}

/// How many times a user's holds are listed while one of them is extended, and how long this takes at most. A busy
/// machine lists fewer times.
pub(super) const LISTINGS: usize = 400;
pub(super) const LISTING: Duration = Duration::from_secs(20);

/// How many ms a hold lasts after each extension.
pub(super) const EXTENDED_BY: i64 = 40;

/// Two handles to one store. One extends a hold again and again shortly before its end, and the other lists the user's
/// holds. This is no case of the suite, because it needs a store that answers within milliseconds.
pub async fn an_extended_hold_is_always_there([extending, listing]: [Arc<dyn SlotStore>; 2]) {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    let start = extending.ping().await.unwrap().plus_millis(HOUR);
    let slot = SlotTime { number: number(1), start, end: start.plus_millis(HOUR), label: "01:00".into() };
    let act = |kind| {
        let slots = vec![slot.clone()];
        extending.apply(SlotAct {
            space: space(1),
            day: day(),
            slots,
            revision: None,
            kind,
            idempotency: None,
            origin: None,
        })
    };
    // How often the hold began anew because its extension came too late, and how often it was extended.
    let (begun, extended, is_over) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let extend = async {
        // If a busy machine extends the hold too late, the next hold is longer.
        let mut late = 0;
        while !is_over.load(Ordering::SeqCst) {
            match act(extend_by("a", EXTENDED_BY)).await {
                Ok(_) => {
                    late = 0;
                    extended.fetch_add(1, Ordering::SeqCst);
                }
                Err(_) => {
                    begun.fetch_add(1, Ordering::SeqCst);
                    act(hold_by("a", EXTENDED_BY << late.min(9))).await.unwrap();
                    begun.fetch_add(1, Ordering::SeqCst);
                    late += 1;
                }
            }
        }
    };
    let listing_until = slotcast::clock::instant() + LISTING;
    let is_enough = |listings| {
        let has_many = listings >= LISTINGS || slotcast::clock::instant() >= listing_until;
        has_many && extended.load(Ordering::SeqCst) >= 10
    };
    let list = async {
        let mut listings = 0;
        while !is_enough(listings) {
            listings += 1;
            // A store that answers without waiting would leave the other task no time.
            tokio::task::yield_now().await;
            let (began, extensions) = (begun.load(Ordering::SeqCst), extended.load(Ordering::SeqCst));
            let holds = listing.holds_of(&user("a")).await.unwrap();
            assert!(holds.len() <= 1, "twice: {holds:?}");
            if !holds.is_empty() || extensions == 0 {
                continue;
            }
            // A hold that is extended after this answer was there all the time, unless it began anew since the
            // question.
            let answered = extended.load(Ordering::SeqCst);
            while begun.load(Ordering::SeqCst) == began && extended.load(Ordering::SeqCst) < answered + 2 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            assert_ne!(begun.load(Ordering::SeqCst), began, "a hold that was extended is missing");
        }
        is_over.store(true, Ordering::SeqCst);
    };
    let both = async { tokio::join!(extend, list) };
    tokio::time::timeout(Duration::from_secs(180), both).await.expect("the hold is extended");
}
