//! Registered spaces, their schedules, and what a change of a schedule may not do.

use super::*;

pub(super) fn spec(minutes: u16) -> ScheduleSpec {
    ScheduleSpec { slot_minutes: minutes, name: Some(format!("every {minutes}")), ..ScheduleSpec::default() }
}

pub async fn an_act_on_another_schedule_is_stale(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let at = bench.put_space(space(1), Some(spec(30)), 0).await.unwrap();
    assert_eq!(at.version, 1);
    let before = bench.heads(space(1)).await;
    let of_another_epoch = Position { epoch: "another".into(), ..at.clone() };
    for revision in [None, Some(Position { version: 2, ..at.clone() }), Some(of_another_epoch.clone())] {
        let act = SlotAct { revision, ..bench.act(space(1), &[1], hold_by("a", MINUTE)) };
        assert_eq!(bench.store.apply(act).await, Err(ApplyError::Stale));
    }
    assert_eq!(bench.heads(space(1)).await, before);
    let act = SlotAct { revision: Some(at), ..bench.act(space(1), &[1], hold_by("a", MINUTE)) };
    assert_eq!(bench.store.apply(act.clone()).await.unwrap().at.version, 2);
    assert_eq!(bench.store.read_day(space(1), day()).await.unwrap().revision, 1);

    let of_another_epoch = SpaceChange::new(space(1), None, Some(of_another_epoch)).unwrap();
    assert_eq!(bench.store.put_space(of_another_epoch).await, Err(ApplyError::Stale));
    bench.store.apply(SlotAct { kind: release_by("a"), ..act.clone() }).await.unwrap();
    bench.put_space(space(1), None, 1).await.unwrap();
    assert_eq!(bench.store.apply(act).await, Err(ApplyError::Stale));
    assert_eq!(bench.store.read_day(space(1), day()).await.unwrap().revision, 4);
}

pub async fn a_space_is_put_changed_and_removed(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let elsewhere = SpaceKey { site: SiteId::new(12).unwrap(), ..space(1) };
    let unknown = bench.store.read_space(space(1)).await.unwrap();
    assert_eq!((unknown.at.version, unknown.revision, unknown.schedule, unknown.taken.len()), (0, 0, None, 0));
    assert!(bench.store.sites_of(space(1).space).await.unwrap().is_empty());

    assert_eq!(bench.put_space(space(1), Some(spec(30)), 1).await, Err(ApplyError::Stale));
    bench.put_space(space(1), Some(spec(30)), 0).await.unwrap();
    assert_eq!(bench.put_space(space(1), Some(spec(45)), 0).await, Err(ApplyError::Stale));
    bench.put_space(space(1), Some(spec(45)), 1).await.unwrap();
    bench.put_space(elsewhere, Some(spec(60)), 0).await.unwrap();
    bench.put_space(space(2), Some(spec(60)), 0).await.unwrap();

    let read = bench.store.read_space(space(1)).await.unwrap();
    assert_eq!((read.at.version, read.revision, &read.schedule), (2, 2, &Some(spec(45))));
    assert_eq!(bench.store.sites_of(space(1).space).await.unwrap(), [space(1).site, elsewhere.site]);

    // Acts change the space's version. The next change names the schedule's own version.
    bench.apply_under(&spec(45), 2, &[1], hold_by("a", MINUTE)).await.unwrap();
    bench.apply_under(&spec(45), 2, &[1], release_by("a")).await.unwrap();
    let removed = bench.put_space(space(1), None, 2).await.unwrap();
    assert_eq!(removed.version, 5);
    let read = bench.store.read_space(space(1)).await.unwrap();
    assert_eq!((read.at, read.revision, read.schedule), (removed, 5, None));
    assert_eq!(bench.store.sites_of(space(1).space).await.unwrap(), [elsewhere.site]);

    let kinds: Vec<MessageKind> = bench.log(Topic::Space(space(1)), 0).await.iter().map(|m| m.kind).collect();
    use MessageKind::{SlotUpdate, SpaceChanged};
    assert_eq!(kinds, [SpaceChanged, SpaceChanged, SlotUpdate, SlotUpdate, SpaceChanged]);
    let messages = bench.log(Topic::Space(space(1)), 4).await;
    assert_eq!(messages[0].payload.get(), "null");
    // The space may be registered again, and its version goes on.
    assert_eq!(bench.put_space(space(1), Some(spec(30)), 5).await.unwrap().version, 6);
}

/// A schedule with these hours. If it opens an hour later, its slot 2 has the times that slot 1 had.
pub(super) fn opened(opens: &str, closes: &str) -> ScheduleSpec {
    serde_json::from_value(serde_json::json!({"opens": opens, "closes": closes})).unwrap()
}

pub async fn a_change_that_moves_a_taken_slot_is_refused_whole(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let before = opened("09:00", "18:00");
    bench.put_space(space(1), Some(before.clone()), 0).await.unwrap();
    bench.apply_under(&before, 1, &[2], hold_by("a", MINUTE)).await.unwrap();
    bench.apply_under(&before, 1, &[4], update(StaffStatus::Booked)).await.unwrap();
    bench.apply_under(&before, 1, &[9], update(StaffStatus::Blocked)).await.unwrap();
    // Slot 8 was released, and another slot has only data. Neither is in the way.
    bench.apply_under(&before, 1, &[8], hold_by("b", MINUTE)).await.unwrap();
    bench.apply_under(&before, 1, &[8], release_by("b")).await.unwrap();
    let data = Some(SlotData::new(serde_json::from_str(r#"{"a": 1}"#).unwrap()));
    bench
        .apply_under(&before, 1, &[7], SlotActKind::Update { to: StaffStatus::Available, data, user: None })
        .await
        .unwrap();

    let (heads, read) = (bench.heads(space(1)).await, bench.store.read_day(space(1), day()).await.unwrap());
    let taken = |slots: &[u64]| Err(ApplyError::InUse(slots.iter().map(|n| (day(), number(*n))).collect()));
    for (spec, slots) in [
        (Some(opened("10:00", "18:00")), vec![2, 4, 9]),
        (Some(opened("09:00", "17:00")), vec![9]),
        (Some(opened("09:00", "12:00")), vec![4, 9]),
        (Some(ScheduleSpec { timezone: "Europe/London".into(), ..before.clone() }), vec![2, 4, 9]),
        (Some(ScheduleSpec { slot_minutes: 30, ..before.clone() }), vec![2, 4, 9]),
        (Some(serde_json::from_str(r#"{"closures": ["2090-05-05"]}"#).unwrap()), vec![2, 4, 9]),
        (None, vec![2, 4, 9]),
    ] {
        assert_eq!(bench.put_space(space(1), spec.clone(), 1).await, taken(&slots), "{spec:?}");
    }
    assert_eq!(bench.heads(space(1)).await, heads);
    assert_eq!(bench.store.read_day(space(1), day()).await.unwrap().records, read.records);
    // Longer days, other closures and another name move no slot.
    bench.put_space(space(1), Some(opened("09:00", "20:00")), 1).await.unwrap();
}

pub async fn acts_that_move_nothing_do_not_disturb_a_change(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let (before, after) = (opened("09:00", "18:00"), opened("09:00", "20:00"));
    bench.put_space(space(1), Some(before.clone()), 0).await.unwrap();
    bench.apply_under(&before, 1, &[1], hold_by("a", MINUTE)).await.unwrap();
    let longer = SpaceChange::new(space(1), Some(after), bench.revision(space(1), 1).await).unwrap();
    let shorter =
        SpaceChange { schedule: Some(Schedule::new(opened("09:00", "10:00")).unwrap().into()), ..longer.clone() };
    // Both holds were made before the change.
    bench.apply_under(&before, 1, &[2], hold_by("b", MINUTE)).await.unwrap();
    assert_eq!(bench.store.put_space(shorter).await, Err(ApplyError::InUse(vec![(day(), number(2))])));
    let at = bench.store.put_space(longer).await.unwrap();
    assert_eq!(at.version, 4);
    let read = bench.store.read_day(space(1), day()).await.unwrap();
    assert!(read.records.values().all(|record| record.status(read.now) == Status::Occupied), "{:?}", read.records);
}

pub async fn holds_that_ended_are_freed_before_a_change(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let before = opened("09:00", "18:00");
    bench.put_space(space(1), Some(before.clone()), 0).await.unwrap();
    let held = bench.apply_under(&before, 1, &[1, 2, 9], hold_by("a", 20)).await.unwrap();
    bench.apply_under(&before, 1, &[5], hold_by("b", MINUTE)).await.unwrap();
    let elsewhere = bench.apply(space(2), &[3], hold_by("c", 20)).await.unwrap().hold.unwrap();
    bench.wait_past(held.hold.unwrap().until.max(elsewhere.until)).await;

    // Slot 5 is in the way of this change, so nothing is freed.
    let heads = bench.heads(space(1)).await;
    assert!(matches!(bench.put_space(space(1), Some(opened("08:00", "18:00")), 1).await, Err(ApplyError::InUse(_))));
    assert_eq!(bench.heads(space(1)).await, heads);

    let (version, of_bucket) = heads;
    let at = bench.put_space(space(1), Some(opened("09:00", "14:00")), 1).await.unwrap();
    assert_eq!(at.version, version + 4);
    let messages = bench.log(Topic::Space(space(1)), version).await;
    let told: Vec<String> = messages
        .iter()
        .map(|message| match message.kind {
            MessageKind::SlotUpdate => {
                let payload = json(&message.payload);
                format!("{} {} {}", payload["slotId"], payload["status"], payload["data"]["orario"])
            }
            kind => kind.as_str().to_owned(),
        })
        .collect();
    // Slot 9 was at 17:00 in the schedule that had it.
    let expected =
        [r#"1 "available" "09:00""#, r#"2 "available" "10:00""#, r#"9 "available" "17:00""#, "space_changed"];
    assert_eq!(told, expected);
    let freed = bench.freed_after(space(1).bucket(), of_bucket).await;
    let slots: Vec<u16> = freed.iter().flat_map(|freed| &freed.slots).map(|slot| slot.get()).collect();
    assert_eq!((freed.len(), slots), (1, vec![1, 2, 9]));
    assert!(bench.store.holds_of(&user("a")).await.unwrap().is_empty());
    // The change has left nothing for a sweep. The other space's hold is still there.
    assert_eq!(bench.store.sweep(space(1).bucket(), 10).await.unwrap().freed, 0);
    assert_eq!(bench.store.sweep(space(2).bucket(), 10).await.unwrap().freed, 1);
    assert_eq!(bench.status(space(1), 5).await, Status::Occupied);
}

pub async fn what_stays_is_told_by_its_present_hour(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let in_rome = opened("09:00", "18:00");
    let in_london = ScheduleSpec { timezone: "Europe/London".into(), ..opened("08:00", "17:00") };
    bench.put_space(space(1), Some(in_rome.clone()), 0).await.unwrap();
    let held = bench.apply_under(&in_rome, 1, &[1], hold_by("a", 1_000 + bench.slack)).await.unwrap();
    bench.apply_under(&in_rome, 1, &[2], update(StaffStatus::Booked)).await.unwrap();
    // The slots have the same instants with other labels.
    bench.put_space(space(1), Some(in_london), 1).await.unwrap();
    assert_eq!(bench.store.holds_of(&user("a")).await.unwrap()[0].label, "08:00");
    let labels: Vec<_> =
        bench.store.read_space(space(1)).await.unwrap().taken.into_iter().map(|taken| taken.2.label).collect();
    assert_eq!(labels, ["08:00", "09:00"]);
    bench.wait_past(held.hold.unwrap().until).await;
    assert_eq!(bench.store.sweep(space(1).bucket(), 10).await.unwrap().freed, 1);
    let last = bench.log(Topic::Space(space(1)), 4).await.pop().unwrap();
    assert_eq!(json(&last.payload)["data"]["orario"], "08:00");
    assert!(bench.store.holds_of(&user("a")).await.unwrap().is_empty());
}

pub async fn taken_slots_are_those_of_the_future(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let soon = bench.now().await.plus_millis(300 + bench.slack);
    let near = |n, kind| SlotAct { slots: vec![bench.slot_at(n, soon)], ..bench.act(space(1), &[], kind) };
    bench.store.apply(near(1, update(StaffStatus::Booked))).await.unwrap();
    bench.apply(space(1), &[2], hold_by("a", 20)).await.unwrap();
    bench.apply(space(1), &[3], hold_by("a", MINUTE)).await.unwrap();
    bench.apply(space(1), &[4], update(StaffStatus::Blocked)).await.unwrap();
    let data = Some(SlotData::new(serde_json::from_str(r#"{"a": 1}"#).unwrap()));
    let with_data = SlotActKind::Update { to: StaffStatus::Available, data, user: None };
    bench.apply(space(1), &[5], with_data).await.unwrap();
    bench.apply(space(2), &[6], update(StaffStatus::Blocked)).await.unwrap();
    bench.wait_past(soon).await;

    let read = bench.store.read_space(space(1)).await.unwrap();
    let taken: Vec<_> = read.taken.iter().map(|(day, n, _)| (*day, n.get())).collect();
    assert_eq!(taken, [(day(), 3), (day(), 4)]);
    assert_eq!(read.taken[0].2.label, "03:00");
}
