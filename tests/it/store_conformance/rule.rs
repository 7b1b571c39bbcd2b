//! What an act makes of a slot, for each state of the slot.

use super::*;

/// The state of the slot before the act.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Found {
    Free,
    Ended,
    Mine,
    Others,
    BookedByMe,
    Booked,
    BookedByStaff,
    Blocked,
    Past,
    PastEnded,
}

/// The result of the act: so many events, of which so many free a slot; the answer of an earlier act; or a refusal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Comes {
    To(u64, Status),
    ToFreeing(u64, Status),
    ToTheSame,
    ToNo(Code),
}

pub async fn every_cell_of_the_rule_table(factory: impl StoreFactory) {
    use Comes::*;
    use Found::*;
    let bench = bench(&factory).await;
    let release_as_staff =
        |actor, of| SlotActKind::Release { actor, token: None, booked_by: Some(of), cancel_before: None };
    let me = || Actor::User(user("me"));
    let found = [Free, Ended, Mine, Others, BookedByMe, Booked, BookedByStaff, Blocked, Past, PastEnded];
    let (no_hold, taken, past) = (ToNo(Code::NotHeld), ToNo(Code::SlotUnavailable), ToNo(Code::Past));
    let (free, booked, blocked) = (Status::Available, Status::Booked, Status::Blocked);
    let rows: Vec<(SlotActKind, [Comes; 10])> = vec![
        (hold_by("me", MINUTE), {
            let occupied = Status::Occupied;
            [To(1, occupied), ToFreeing(2, occupied), ToTheSame, taken, taken, taken, taken, taken, past, past]
        }),
        (book_by("me"), {
            [no_hold, no_hold, To(1, booked), no_hold, ToTheSame, no_hold, no_hold, no_hold, no_hold, no_hold]
        }),
        (release_by("me"), {
            [no_hold, no_hold, To(1, free), no_hold, no_hold, no_hold, no_hold, no_hold, no_hold, no_hold]
        }),
        (cancel_by("me", 0), {
            [no_hold, no_hold, To(1, free), no_hold, To(1, free), no_hold, no_hold, no_hold, no_hold, no_hold]
        }),
        // The bench's slots start within a day, so this is too late for each of them.
        (cancel_by("me", 24 * HOUR), {
            let late = ToNo(Code::TooLate);
            [no_hold, no_hold, To(1, free), no_hold, late, no_hold, no_hold, no_hold, no_hold, no_hold]
        }),
        (release_as_staff(me(), me()), {
            [no_hold, no_hold, To(1, free), no_hold, To(1, free), no_hold, no_hold, no_hold, no_hold, no_hold]
        }),
        (release_as_staff(me(), Actor::Anyone), {
            let freed = To(1, free);
            [no_hold, no_hold, freed, no_hold, freed, freed, freed, no_hold, no_hold, no_hold]
        }),
        (release_as_staff(Actor::Anyone, Actor::Anyone), {
            let freed = To(1, free);
            [no_hold, no_hold, freed, freed, freed, freed, freed, no_hold, no_hold, no_hold]
        }),
        (extend_by("me", MINUTE), {
            let extended = To(1, Status::Occupied);
            [no_hold, no_hold, extended, no_hold, no_hold, no_hold, no_hold, no_hold, no_hold, no_hold]
        }),
        (update(StaffStatus::Available), {
            let set = To(1, free);
            [set, ToFreeing(2, free), set, set, set, set, set, set, past, past]
        }),
        (update(StaffStatus::Booked), {
            let set = To(1, booked);
            [set, ToFreeing(2, booked), set, set, set, set, set, set, past, past]
        }),
        (update(StaffStatus::Blocked), {
            let set = To(1, blocked);
            [set, ToFreeing(2, blocked), set, set, set, set, set, set, past, past]
        }),
    ];

    // Each cell has a space of its own. All spaces are made ready first, so the test waits only once for holds to end.
    // No space is in the bucket of a user from whom staff takes a slot, because the message to the user takes a version
    // there some time after the act.
    let of_users = ["me", "other"].map(|name| user(name).bucket());
    let mut spaces = (1..).map(space).filter(|space| !of_users.contains(&space.bucket()));
    let mut cells = Vec::new();
    let mut latest = bench.began;
    for (kind, row) in rows {
        for (found, comes) in found.into_iter().zip(row) {
            let cell_space = spaces.next().unwrap();
            let (slot, first) = prepare(&bench, cell_space, found).await;
            if matches!(found, Ended | Past | PastEnded) {
                let ends = bench.now().await.plus_millis(30);
                latest = latest.max(if found == Ended { ends } else { slot.start });
            }
            cells.push((cell_space, slot, first, found, kind.clone(), comes));
        }
    }
    bench.wait_past(latest).await;

    for (space, slot, first, found, kind, comes) in cells {
        let cell = format!("{kind:?} on {found:?}");
        let (version, bucket_version) = bench.heads(space).await;
        let act =
            SlotAct { space, day: day(), slots: vec![slot], revision: None, kind, idempotency: None, origin: None };
        let result = bench.store.apply(act).await;
        let (new_version, new_bucket_version) = bench.heads(space).await;
        let written = (new_version - version, new_bucket_version - bucket_version);
        match comes {
            To(events, status) | ToFreeing(events, status) => {
                let freeing = u64::from(matches!(comes, ToFreeing(..)));
                assert_eq!(written, (events, freeing), "{cell}");
                let outcome = result.unwrap_or_else(|error| panic!("{cell}: {error}"));
                assert_eq!(outcome.at.version, new_version, "{cell}");
                assert_eq!(bench.status(space, 1).await, status, "{cell}");
                let updates = bench.updates(space, version).await;
                assert_eq!(updates.last(), Some(&(1, status.as_str().to_owned())), "{cell}");
            }
            ToTheSame => {
                assert_eq!(written, (0, 0), "{cell}");
                assert_eq!(result.unwrap(), repeat_of(&first.unwrap()), "{cell}");
            }
            ToNo(code) => {
                assert_eq!(written, (0, 0), "{cell}");
                assert_eq!(refusal(result), (code, vec![1]), "{cell}");
            }
        }
    }
}

/// Brings slot 1 of a space into a state. Answers the slot, and the last answer to `me`.
pub(super) async fn prepare(bench: &Bench, space: SpaceKey, found: Found) -> (SlotTime, Option<ActOutcome>) {
    // This leaves time to act on the slot before, on any machine. All cells wait for the instant together.
    let soon = bench.now().await.plus_millis(500 + bench.slack);
    let slot = match found {
        Found::Past | Found::PastEnded => bench.slot_at(1, soon),
        _ => bench.slot(1),
    };
    let kinds = match found {
        Found::Free | Found::Past => vec![],
        Found::Ended => vec![hold_by("me", 20)],
        Found::PastEnded => vec![hold_by("me", MINUTE)],
        Found::Mine => vec![hold_by("me", HOUR)],
        Found::Others => vec![hold_by("other", HOUR)],
        Found::BookedByMe => vec![hold_by("me", HOUR), book_by("me")],
        Found::Booked => vec![hold_by("other", HOUR), book_by("other")],
        Found::BookedByStaff => vec![update(StaffStatus::Booked)],
        Found::Blocked => vec![update(StaffStatus::Blocked)],
    };
    let mut last = None;
    for kind in kinds {
        let act = SlotAct {
            space,
            day: day(),
            slots: vec![slot.clone()],
            revision: None,
            kind,
            idempotency: None,
            origin: None,
        };
        last = Some(bench.store.apply(act).await.unwrap());
    }
    (slot, last)
}

pub async fn a_version_is_one_message_heard_in_order(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let topic = Topic::Space(space(1));
    let mut watch = bench.subscriptions.watch(topic).await.unwrap();
    let mut other = bench.subscriptions.watch(Topic::Space(space(2))).await.unwrap();

    for (n, kind) in [(1, hold_by("a", MINUTE)), (1, book_by("a")), (2, hold_by("b", MINUTE)), (2, release_by("b"))] {
        bench.apply(space(1), &[n], kind).await.unwrap();
    }
    refusal(bench.apply(space(1), &[1], hold_by("b", MINUTE)).await);
    bench.apply(space(2), &[1], hold_by("b", MINUTE)).await.unwrap();

    let head = bench.space_head(space(1)).await;
    let mut heard = Vec::new();
    for version in 1..=4 {
        let message = next_message(&mut watch).await;
        assert_eq!(message.at, Position { version, ..head.clone() });
        assert_eq!(message.kind, MessageKind::SlotUpdate);
        let payload = json(&message.payload);
        assert_eq!(payload["version"], version);
        assert_eq!(payload["epoch"], *head.epoch);
        heard.push(slot_and_status(&payload));
    }
    let expected = [(1, "occupied"), (1, "booked"), (2, "occupied"), (2, "available")];
    assert_eq!(heard, expected.map(|(n, status)| (n, status.to_owned())));
    assert_eq!(bench.updates(space(1), 0).await, heard);
    let of_the_other_space = next_message(&mut other).await;
    assert_eq!(json(&of_the_other_space.payload)["data"]["spazioId"], 2);
}

pub(super) async fn next_message(watch: &mut slotcast::store::hub::Watch) -> Message {
    match tokio::time::timeout(Duration::from_secs(10), watch.next()).await.expect("nothing was heard") {
        Signal::Message(message) => message,
        Signal::Lagged => panic!("lagged"),
    }
}

pub async fn nodes_are_told_who_has_a_slot(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let mut watch = bench.subscriptions.watch(Topic::Space(space(1))).await.unwrap();
    let short = bench.apply(space(1), &[3], hold_by("c", 20)).await.unwrap();
    bench.wait_past(short.hold.unwrap().until).await;
    let staff_releases =
        SlotActKind::Release { actor: Actor::Anyone, token: None, booked_by: Some(Actor::Anyone), cancel_before: None };
    for (slots, kind) in [
        (&[1, 2][..], hold_by("a\"b", MINUTE)),
        (&[2], extend_by("a\"b", 2 * MINUTE)),
        (&[2], book_by("a\"b")),
        // An object that staff puts on a booking leaves the booking to its user.
        (&[2], update(StaffStatus::Booked)),
        (&[2], staff_releases),
        (&[1], update(StaffStatus::Booked)),
        (&[3], hold_by("7", MINUTE)),
    ] {
        bench.apply(space(1), slots, kind).await.unwrap();
    }
    let expected = [
        (3, Some("c"), true),
        (1, Some("a\"b"), true),
        (2, Some("a\"b"), true),
        (2, Some("a\"b"), true),
        (2, Some("a\"b"), false),
        (2, Some("a\"b"), false),
        (2, None, false),
        (1, None, false),
        // The hold that has ended is freed first.
        (3, None, false),
        (3, Some("7"), true),
    ];
    let logged = bench.log(Topic::Space(space(1)), 0).await;
    for (message, (slot, owner, is_held)) in logged.iter().zip(expected) {
        let heard = next_message(&mut watch).await;
        assert_eq!((&heard.at, &heard.owned), (&message.at, &message.owned));
        let owned = message.owned.as_deref();
        assert_eq!(owned.map(|owned| owned.user.as_str()), owner, "{}", message.payload);
        assert_eq!(owned.is_some_and(|owned| owned.token.is_some()), is_held);
        assert_eq!(owned.is_some_and(|owned| owned.began.is_some_and(|began| began >= bench.began)), owner.is_some());
        assert_eq!(owned.map(|owned| owned.start), owner.map(|_| bench.slot(slot).start));
        assert!(
            !message.payload.get().contains("a\\\"b") && !message.payload.get().contains("mine"),
            "{}",
            message.payload
        );
    }
    assert_eq!(logged.len(), expected.len());
}

pub async fn several_slots_are_one_act(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    bench.apply(space(1), &[9], hold_by("b", MINUTE)).await.unwrap();
    let held = bench.apply(space(1), &[2, 3, 5], hold_by("a", MINUTE)).await.unwrap();
    assert_eq!(held.at.version, 4);
    let updates = bench.updates(space(1), 1).await;
    assert_eq!(updates, [2, 3, 5].map(|n| (n, "occupied".to_owned())));
    assert_eq!(held.hold.unwrap().token, token("a"));

    let booked = bench.apply(space(1), &[2, 3, 5], book_by("a")).await.unwrap();
    assert_eq!((booked.at.version, booked.hold), (7, None));
    assert_eq!(bench.updates(space(1), 4).await, [2, 3, 5].map(|n| (n, "booked".to_owned())));
}

pub async fn one_slot_that_is_taken_refuses_them_all(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    bench.apply(space(1), &[3], hold_by("b", MINUTE)).await.unwrap();
    bench.apply(space(1), &[5], update(StaffStatus::Blocked)).await.unwrap();
    let before = bench.heads(space(1)).await;

    let refused = refusal(bench.apply(space(1), &[1, 3, 4, 5], hold_by("a", MINUTE)).await);
    assert_eq!(refused, (Code::SlotUnavailable, vec![3, 5]));
    let refused = refusal(bench.apply(space(1), &[1, 3], release_by("b")).await);
    assert_eq!(refused, (Code::NotHeld, vec![1]));
    assert_eq!(bench.heads(space(1)).await, before);
    assert_eq!(bench.status(space(1), 1).await, Status::Available);

    // Slots of the user's own hold and another slot are together no repeat.
    bench.apply(space(1), &[1, 2], hold_by("a", MINUTE)).await.unwrap();
    let refused = refusal(bench.apply(space(1), &[2, 4], hold_by("a", MINUTE)).await);
    assert_eq!(refused, (Code::SlotUnavailable, vec![2]));
    let refused = refusal(bench.apply(space(1), &[1], hold_by("a", MINUTE)).await);
    assert_eq!(refused, (Code::SlotUnavailable, vec![1]));
}

pub async fn an_ended_hold_is_freed_by_the_next(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let first = bench.apply(space(1), &[1, 2], hold_by("a", 30)).await.unwrap();
    bench.wait_past(first.hold.unwrap().until).await;
    assert_eq!(bench.status(space(1), 1).await, Status::Available);
    let bucket = space(1).bucket();
    let before = bench.head(Topic::Bucket(bucket)).await.version;

    let second = bench.apply(space(1), &[1, 2, 3], hold_by("b", MINUTE)).await.unwrap();
    assert_eq!(second.at.version, 7);
    let expected = [(1, "available"), (2, "available"), (1, "occupied"), (2, "occupied"), (3, "occupied")];
    assert_eq!(bench.updates(space(1), 2).await, expected.map(|(n, status)| (n, status.to_owned())));
    let freed = bench.freed_after(bucket, before).await;
    let SpaceKey { space: id, site } = space(1);
    assert_eq!(freed, [FreedSlots { space: id, site, date: day(), slots: vec![number(1), number(2)] }]);

    // A sweep does not free again what an act has freed.
    let swept = bench.store.sweep(bucket, 100).await.unwrap();
    assert_eq!((swept.freed, swept.more), (0, false));
    refusal(bench.apply(space(1), &[1], book_by("a")).await);
    bench.apply(space(1), &[1], book_by("b")).await.unwrap();
}

pub async fn an_ended_hold_found_by_a_refused_act_stays(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let held = bench.apply(space(1), &[1], hold_by("a", 30)).await.unwrap();
    bench.apply(space(1), &[2], update(StaffStatus::Blocked)).await.unwrap();
    bench.wait_past(held.hold.unwrap().until).await;
    let before = bench.heads(space(1)).await;

    let refused = refusal(bench.apply(space(1), &[1, 2], hold_by("b", MINUTE)).await);
    assert_eq!(refused, (Code::SlotUnavailable, vec![2]));
    assert_eq!(bench.heads(space(1)).await, before);
    let swept = bench.store.sweep(space(1).bucket(), 100).await.unwrap();
    assert_eq!((swept.freed, swept.spaces), (1, vec![space(1)]));
}

pub async fn a_repeated_hold_answers_as_the_first(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let first = bench.apply(space(1), &[1, 2], hold_by("a", MINUTE)).await.unwrap();
    bench.apply(space(1), &[3], hold_by("b", MINUTE)).await.unwrap();
    let before = bench.heads(space(1)).await;

    let again = SlotActKind::Hold {
        user: user("a"),
        token: token("new"),
        millis: 5 * MINUTE,
        max_holds: Some(1),
        max_held: None,
    };
    assert_eq!(bench.apply(space(1), &[1, 2], again).await.unwrap(), repeat_of(&first));
    assert_eq!(bench.heads(space(1)).await, before);

    // The repeat has the same answer after the hold was extended.
    bench.apply(space(1), &[1, 2], extend_by("a", 3 * MINUTE)).await.unwrap();
    assert_eq!(bench.apply(space(1), &[1, 2], hold_by("a", MINUTE)).await.unwrap(), repeat_of(&first));
}

pub async fn a_repeated_book_answers_as_the_first(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    bench.apply(space(1), &[1, 2], hold_by("a", MINUTE)).await.unwrap();
    let first = bench.apply(space(1), &[1, 2], book_by("a")).await.unwrap();
    bench.apply(space(1), &[3], hold_by("b", MINUTE)).await.unwrap();
    assert_eq!(bench.apply(space(1), &[1, 2], book_by("a")).await.unwrap(), repeat_of(&first));
    assert_eq!(bench.space_head(space(1)).await.version, 5);
    // The repeat has the same answer after staff has set the booked slot to `booked`.
    bench.apply(space(1), &[1], update(StaffStatus::Booked)).await.unwrap();
    assert_eq!(bench.apply(space(1), &[1, 2], book_by("a")).await.unwrap(), repeat_of(&first));
    // A user who books the slot again gets a new first answer.
    bench.apply(space(1), &[1], update(StaffStatus::Available)).await.unwrap();
    bench.apply(space(1), &[1], hold_by("a", MINUTE)).await.unwrap();
    let second = bench.apply(space(1), &[1], book_by("a")).await.unwrap();
    assert_eq!(second.at.version, 9);
    assert_eq!(bench.apply(space(1), &[1], book_by("a")).await.unwrap(), repeat_of(&second));
    // A second release finds no hold.
    bench.apply(space(1), &[3], release_by("b")).await.unwrap();
    assert_eq!(refusal(bench.apply(space(1), &[3], release_by("b")).await).0, Code::NotHeld);
}

pub async fn an_extension_moves_the_end_up_to_the_limit(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let held = bench.apply(space(1), &[1], hold_by("a", MINUTE)).await.unwrap().hold.unwrap();
    let extended = bench.apply(space(1), &[1], extend_by("a", 10 * MINUTE)).await.unwrap().hold.unwrap();
    assert_eq!(extended.token, held.token);
    let moved = extended.until.as_millis() - held.until.as_millis();
    assert!((9 * MINUTE..10 * MINUTE).contains(&moved), "{moved}");
    // An extension may bring the end nearer, because it counts from now.
    let shortened = bench.apply(space(1), &[1], extend_by("a", MINUTE)).await.unwrap().hold.unwrap();
    assert!(shortened.until < extended.until);

    let before = bench.heads(space(1)).await;
    let too_long =
        SlotActKind::Extend { user: user("a"), token: None, millis: 10 * MINUTE, max_millis: 10 * MINUTE - 1 };
    assert_eq!(refusal(bench.apply(space(1), &[1], too_long).await), (Code::HoldLimit, vec![1]));
    assert_eq!(bench.heads(space(1)).await, before);
    let read = bench.store.read_day(space(1), day()).await.unwrap();
    assert_eq!(read.records[&number(1)].live_hold(read.now).unwrap().until, shortened.until);
}

pub async fn holds_of_one_user_become_one_when_extended(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let hold = |who: &str, name: &str| SlotActKind::Hold {
        user: user(who),
        token: token(name),
        millis: MINUTE,
        max_holds: None,
        max_held: None,
    };
    for (n, who, name) in [(1, "a", "one"), (2, "b", "two"), (3, "a", "three"), (4, "b", "four")] {
        bench.apply(space(1), &[n], hold(who, name)).await.unwrap();
    }
    assert_eq!(refusal(bench.apply(space(1), &[1, 2, 3], extend_by("a", MINUTE)).await), (Code::NotHeld, vec![2]));
    let extended = bench.apply(space(1), &[1, 3], extend_by("a", MINUTE)).await.unwrap();
    assert_eq!(extended.hold.unwrap().token, token("one"));
    let read = bench.store.read_day(space(1), day()).await.unwrap();
    let tokens: Vec<_> =
        read.records.values().map(|record| record.live_hold(read.now).unwrap().token.clone()).collect();
    assert_eq!(tokens, [token("one"), token("two"), token("one"), token("four")]);
}

pub async fn a_hold_never_ends_after_the_start(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let start = bench.now().await.plus_millis(30_000);
    let slots = vec![bench.slot_at(1, start), bench.slot_at(2, start.plus_millis(MINUTE))];
    let act = |kind| SlotAct { slots: slots.clone(), ..bench.act(space(1), &[], kind) };
    let held = bench.store.apply(act(hold_by("a", HOUR))).await.unwrap();
    assert_eq!(held.hold.unwrap().until, start);
    let extended = bench.store.apply(act(extend_by("a", HOUR - MINUTE))).await.unwrap();
    assert_eq!(extended.hold.unwrap().until, start);
    let read = bench.store.read_day(space(1), day()).await.unwrap();
    for slot in &slots {
        assert_eq!(read.records[&slot.number].live_hold(read.now).unwrap().until, slot.start);
    }
}

pub async fn what_has_started_is_past(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let slots = vec![bench.slot_at(1, bench.began.plus_millis(-1)), bench.slot(2)];
    let act = |kind| SlotAct { slots: slots.clone(), ..bench.act(space(1), &[], kind) };
    assert_eq!(refusal(bench.store.apply(act(hold_by("a", MINUTE))).await), (Code::Past, vec![1]));
    assert_eq!(refusal(bench.store.apply(act(update(StaffStatus::Blocked))).await), (Code::Past, vec![1]));
    assert_eq!(bench.heads(space(1)).await, (0, 0));

    // Staff may still change a slot that was booked or blocked when it started.
    let start = bench.now().await.plus_millis(300 + bench.slack);
    let near = |kind| SlotAct { slots: vec![bench.slot_at(3, start)], ..bench.act(space(1), &[], kind) };
    bench.store.apply(near(update(StaffStatus::Booked))).await.unwrap();
    bench.wait_past(start).await;
    assert_eq!(bench.status(space(1), 3).await, Status::Booked);
    bench.store.apply(near(update(StaffStatus::Available))).await.unwrap();
    // A free slot has no record, so the schedule says that it is past from its start on.
    assert_eq!(refusal(bench.store.apply(near(hold_by("a", MINUTE))).await), (Code::Past, vec![3]));
}

pub async fn a_slot_that_moved_is_judged_by_its_present_start(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let soon = bench.now().await.plus_millis(500 + bench.slack);
    let early = |n, kind| SlotAct { slots: vec![bench.slot_at(n, soon)], ..bench.act(space(1), &[], kind) };
    let data = Some(SlotData::new(serde_json::from_str(r#"{"a": 1}"#).unwrap()));
    for n in [1, 2] {
        let with_data = SlotActKind::Update { to: StaffStatus::Available, data: data.clone(), user: None };
        bench.store.apply(early(n, with_data)).await.unwrap();
    }
    for n in [3, 4] {
        bench.store.apply(early(n, hold_by("a", HOUR))).await.unwrap();
    }
    bench.wait_past(soon).await;

    // These slots are free or their holds have ended, so the schedule may move them to later hours.
    let before = bench.space_head(space(1)).await.version;
    bench.apply(space(1), &[1, 3], hold_by("b", MINUTE)).await.unwrap();
    bench.apply(space(1), &[2], update(StaffStatus::Available)).await.unwrap();
    bench.apply(space(1), &[4], update(StaffStatus::Available)).await.unwrap();
    let updates = bench.updates(space(1), before).await;
    let (free, held) = ("available".to_owned(), "occupied".to_owned());
    let expected = [(3, &free), (1, &held), (3, &held), (2, &free), (4, &free), (4, &free)];
    assert_eq!(updates.iter().map(|(n, status)| (*n, status)).collect::<Vec<_>>(), expected);

    // A slot that moved to an hour that has passed is past.
    bench.apply(space(1), &[6], SlotActKind::Update { to: StaffStatus::Available, data, user: None }).await.unwrap();
    for kind in [hold_by("b", MINUTE), update(StaffStatus::Blocked)] {
        assert_eq!(refusal(bench.store.apply(early(6, kind)).await), (Code::Past, vec![6]));
    }
}

pub async fn too_many_holds_are_counted_over_all_days(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let hold = |date: &str, n: u64, name: &str, in_space: u64, millis| {
        let kind =
            SlotActKind::Hold { user: user("a"), token: token(name), millis, max_holds: Some(2), max_held: None };
        SlotAct { day: Day::parse(date).unwrap(), ..bench.act(space(in_space), &[n, n + 1], kind) }
    };
    let short = bench.store.apply(hold("2090-01-01", 1, "one", 1, 300 + bench.slack)).await.unwrap();
    bench.store.apply(hold("2090-01-02", 1, "two", 1, MINUTE)).await.unwrap();
    // Holds in other spaces and holds of other users do not count.
    bench.store.apply(hold("2090-01-01", 1, "three", 2, MINUTE)).await.unwrap();
    bench.apply(space(1), &[9], hold_by("b", MINUTE)).await.unwrap();

    let before = bench.heads(space(1)).await;
    let third = bench.store.apply(hold("2090-01-03", 1, "four", 1, MINUTE)).await;
    if bench.now().await < short.hold.clone().unwrap().until {
        assert_eq!(refusal(third), (Code::TooManyHolds, vec![]));
        assert_eq!(bench.heads(space(1)).await, before);
    }
    // A hold that has ended does not count, even before a sweep.
    bench.wait_past(short.hold.unwrap().until).await;
    bench.store.apply(hold("2090-01-03", 1, "four", 1, MINUTE)).await.unwrap();
    let more = bench.store.apply(hold("2090-01-04", 1, "five", 1, MINUTE)).await;
    assert_eq!(refusal(more), (Code::TooManyHolds, vec![]));
    // A booked slot does not count either.
    let book = SlotAct { day: Day::parse("2090-01-02").unwrap(), ..bench.act(space(1), &[1, 2], book_by("a")) };
    bench.store.apply(book).await.unwrap();
    bench.store.apply(hold("2090-01-04", 1, "five", 1, MINUTE)).await.unwrap();
}

pub async fn held_slots_are_counted_over_all_holds(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let hold = |date: &str, slots: &[u64], name: &str, in_space: u64| {
        let (max_holds, max_held) = (None, Some(6));
        let kind = SlotActKind::Hold { user: user("a"), token: token(name), millis: MINUTE, max_holds, max_held };
        SlotAct { day: Day::parse(date).unwrap(), ..bench.act(space(in_space), slots, kind) }
    };
    bench.store.apply(hold("2090-01-01", &[1, 2, 3], "one", 1)).await.unwrap();
    // Slots in other spaces and slots of other users do not count.
    bench.store.apply(hold("2090-01-01", &[1, 2, 3, 4], "two", 2)).await.unwrap();
    bench.apply(space(1), &[1, 2, 3, 4], hold_by("b", MINUTE)).await.unwrap();
    let before = bench.heads(space(1)).await;
    for slots in [&[1, 2, 3, 4][..], &[1, 2, 3, 4, 5, 6, 7]] {
        let more = bench.store.apply(hold("2090-01-02", slots, "three", 1)).await;
        assert_eq!(refusal(more), (Code::TooManyHolds, vec![]));
    }
    assert_eq!(bench.heads(space(1)).await, before);
    bench.store.apply(hold("2090-01-02", &[1, 2, 3], "three", 1)).await.unwrap();
    let more = bench.store.apply(hold("2090-01-03", &[1], "four", 1)).await;
    assert_eq!(refusal(more), (Code::TooManyHolds, vec![]));
    // A repeat changes nothing. A released slot makes room for another.
    bench.store.apply(hold("2090-01-02", &[1, 2, 3], "five", 1)).await.unwrap();
    let release = SlotAct { day: Day::parse("2090-01-01").unwrap(), ..bench.act(space(1), &[2], release_by("a")) };
    bench.store.apply(release).await.unwrap();
    bench.store.apply(hold("2090-01-03", &[1], "four", 1)).await.unwrap();
}

pub async fn the_data_of_a_day_is_bounded(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    // Each slot's data has up to 16 KiB, so 16 of them fill the day.
    let with = |bytes: usize| {
        let text = "x".repeat(bytes - r#"{"a":""}"#.len());
        let data = serde_json::from_str(&format!(r#"{{"a":"{text}"}}"#)).unwrap();
        SlotActKind::Update { to: StaffStatus::Blocked, data: Some(data), user: None }
    };
    for n in 1..=15 {
        bench.apply(space(1), &[n], with(16 * 1024)).await.unwrap();
    }
    let before = bench.heads(space(1)).await;
    assert_eq!(refusal(bench.apply(space(1), &[16], with(16 * 1024 + 1)).await), (Code::TooLarge, vec![]));
    assert_eq!(refusal(bench.apply(space(1), &[16, 17], with(8 * 1024 + 1)).await), (Code::TooLarge, vec![]));
    assert_eq!(bench.heads(space(1)).await, before);
    bench.apply(space(1), &[16, 17], with(8 * 1024)).await.unwrap();
    // The day is full. No slot may get more bytes, but a slot may get as many as before, or fewer.
    assert_eq!(refusal(bench.apply(space(1), &[18], with(100)).await), (Code::TooLarge, vec![]));
    assert_eq!(refusal(bench.apply(space(1), &[16], with(8 * 1024 + 1)).await), (Code::TooLarge, vec![]));
    bench.apply(space(1), &[18], update(StaffStatus::Blocked)).await.unwrap();
    bench.apply(space(1), &[16], with(8 * 1024)).await.unwrap();
    bench.apply(space(1), &[1], with(16 * 1024 - 100)).await.unwrap();
    bench.apply(space(1), &[18], with(100)).await.unwrap();
    // Another day has its own bound.
    let day = Day::parse("2090-05-06").unwrap();
    bench.store.apply(SlotAct { day, ..bench.act(space(1), &[1], with(16 * 1024)) }).await.unwrap();
    bench.apply(space(1), &[1, 2], update(StaffStatus::Available)).await.unwrap();
    bench.apply(space(1), &[3, 19], with(16 * 1024)).await.unwrap();
}

pub async fn a_repeat_that_changes_nothing_is_not_kept(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let under = |key: &str, call: &str, kind| SlotAct {
        idempotency: Some(Idempotency { caller: user("a"), key: key.into(), fingerprint: call.into() }),
        ..bench.act(space(1), &[1], kind)
    };
    let first = bench.store.apply(under("first", "hold", hold_by("a", MINUTE))).await.unwrap();
    let again = bench.store.apply(under("again", "hold", hold_by("a", MINUTE))).await.unwrap();
    assert_eq!(again, repeat_of(&first));
    // If the repeat had been kept, its key would belong to another call now.
    let booked = bench.store.apply(under("again", "book", book_by("a"))).await.unwrap();
    let repeated = bench.store.apply(under("third", "book", book_by("a"))).await.unwrap();
    assert_eq!(repeated, repeat_of(&booked));
    let staff = bench.store.apply(under("third", "update", update(StaffStatus::Booked))).await.unwrap();
    assert!(staff.at.version > booked.at.version);
    // The key of an act that changed something belongs to that call alone.
    assert_eq!(bench.store.apply(under("first", "hold", hold_by("a", MINUTE))).await.unwrap(), repeat_of(&first));
    let other = bench.store.apply(under("first", "other", hold_by("a", MINUTE))).await;
    assert_eq!(refusal(other), (Code::IdempotencyMismatch, vec![]));
}

pub async fn the_last_calls_of_a_caller_are_kept(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let put = |caller: &str, key: usize, call: &str| SlotAct {
        idempotency: Some(Idempotency { caller: user(caller), key: format!("key {key}"), fingerprint: call.into() }),
        ..bench.act(space(1), &[1], update(StaffStatus::Blocked))
    };
    bench.store.apply(put("b", 0, "call")).await.unwrap();
    let mut versions = Vec::new();
    for key in 0..300 {
        versions.push(bench.store.apply(put("a", key, "call")).await.unwrap().at.version);
    }
    for (key, version) in versions.iter().enumerate().skip(300 - CALLS_KEPT) {
        let again = bench.store.apply(put("a", key, "call")).await.unwrap();
        assert_eq!(again.at.version, *version, "{key}");
    }
    assert_eq!(refusal(bench.store.apply(put("a", 200, "other")).await), (Code::IdempotencyMismatch, vec![]));
    // These calls do not displace another caller's. They have displaced the oldest of their own, which is a new act.
    assert!(bench.store.apply(put("b", 0, "call")).await.unwrap().at.version < versions[0]);
    assert!(bench.store.apply(put("a", 0, "call")).await.unwrap().at.version > versions[299]);
}

pub async fn a_token_must_be_that_of_the_hold(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    bench.apply(space(1), &[1], hold_by("a", MINUTE)).await.unwrap();
    let with = |name: &str| SlotActKind::Book { actor: Actor::User(user("a")), token: Some(token(name)) };
    assert_eq!(refusal(bench.apply(space(1), &[1], with("wrong")).await), (Code::HoldExpired, vec![1]));
    bench.apply(space(1), &[1], with("a")).await.unwrap();
    // The service acts for everyone, so it may book whoever holds the slot.
    bench.apply(space(1), &[2], hold_by("b", MINUTE)).await.unwrap();
    bench.apply(space(1), &[2], SlotActKind::Book { actor: Actor::Anyone, token: None }).await.unwrap();
    let read = bench.store.read_day(space(1), day()).await.unwrap();
    let SlotState::Booked { user: booked_by, first_version: 4, data: None, booked_at, .. } =
        &read.records[&number(2)].state
    else {
        panic!("{:?}", read.records[&number(2)]);
    };
    assert_eq!(*booked_by, Some(user("b")));
    assert!(booked_at.is_some_and(|booked_at| booked_at >= bench.began));
}

pub async fn staff_data_stays_until_the_next_change(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let object = r#"{"note": "€ \u0041", "price": 12345678901234567890.10, "nested": {"z": 1, "a": [ 2 ]}}"#;
    let data = SlotData::new(serde_json::from_str(object).unwrap());
    let set = |to| SlotActKind::Update { to, data: Some(data.clone()), user: None };
    let before = bench.space_head(space(1)).await.version;
    for to in [StaffStatus::Available, StaffStatus::Booked, StaffStatus::Blocked, StaffStatus::Available] {
        bench.apply(space(1), &[1], set(to)).await.unwrap();
        let read = bench.store.read_day(space(1), day()).await.unwrap();
        assert_eq!(read.records[&number(1)].data(), Some(&data));
    }
    for message in bench.log(Topic::Space(space(1)), before).await {
        let text = message.payload.get();
        assert!(text.contains("12345678901234567890.10"), "{text}");
        assert!(text.contains(r#""€ \u0041""#), "{text}");
    }
    bench.apply(space(1), &[1], hold_by("a", MINUTE)).await.unwrap();
    let read = bench.store.read_day(space(1), day()).await.unwrap();
    assert_eq!(read.records[&number(1)].data(), None);
}
