//! Versions, and the log that tells a client what it missed.

use super::*;

pub async fn a_log_is_exact_or_gone(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let topic = Topic::Space(space(1));
    let head = bench.space_head(space(1)).await;
    assert_eq!(head.version, 0);
    assert!(bench.log(topic, 0).await.is_empty());

    bench.apply(space(1), &[1, 2, 3], hold_by("a", MINUTE)).await.unwrap();
    for since in 0..=3 {
        let messages = bench.log(topic, since).await;
        let versions: Vec<u64> = messages.iter().map(|message| message.at.version).collect();
        assert_eq!(versions, (since + 1..=3).collect::<Vec<_>>());
        assert!(messages.iter().all(|message| message.at.epoch == head.epoch));
    }
    let gone = |read| match read {
        LogRead::Gone(head) => head,
        LogRead::Messages(messages) => panic!("{} messages", messages.len()),
    };
    let now_at = Position { version: 3, ..head.clone() };
    assert_eq!(gone(bench.store.read_log(topic, &Position { version: 4, ..head.clone() }).await.unwrap()), now_at);
    for version in [0, 1, 3] {
        let of_another_epoch = Position { epoch: "another".into(), version };
        assert_eq!(gone(bench.store.read_log(topic, &of_another_epoch).await.unwrap()), now_at);
    }
    let huge = Position { version: u64::MAX, ..head };
    assert_eq!(gone(bench.store.read_log(topic, &huge).await.unwrap()), now_at);
}

pub async fn a_log_keeps_its_last_changes(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let topic = Topic::Space(space(1));
    let changes = LOG_LENGTH + 6;
    let acts = (0..changes).map(|_| bench.apply(space(1), &[1], update(StaffStatus::Blocked)));
    // 64 acts run at a time, because the store refuses an act that waits for more than a second.
    let mut outcomes = futures_util::stream::iter(acts).buffer_unordered(64);
    while let Some(outcome) = outcomes.next().await {
        outcome.unwrap();
    }
    let head = bench.space_head(space(1)).await;
    assert_eq!(head.version, changes);
    assert_eq!(bench.log(topic, 6).await.len() as u64, LOG_LENGTH);
    for version in [0, 4, 5] {
        let since = Position { version, ..head.clone() };
        let read = bench.store.read_log(topic, &since).await.unwrap();
        assert!(matches!(read, LogRead::Gone(at) if at == head), "{version}");
    }
}

pub async fn a_log_of_large_changes_is_read_in_portions(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let topic = Topic::Space(space(1));
    let start = bench.space_head(space(1)).await;
    let filler = |bytes: usize| format!("{{\"filler\":\"{}\"}}", "x".repeat(bytes));
    for number in 0..40 {
        let data = Some(SlotData::new(serde_json::from_str(&filler(1_000 + 300 * number)).unwrap()));
        let kind = SlotActKind::Update { to: StaffStatus::Blocked, data, user: None };
        bench.apply(space(1), &[1], kind).await.unwrap();
    }
    let (mut at, mut portions) = (start.clone(), 0);
    while at.version < 40 {
        let LogRead::Messages(portion) = bench.store.read_log(topic, &at).await.unwrap() else { panic!("gone") };
        let bytes: Vec<usize> = portion.iter().map(|message| message.payload.get().len()).collect();
        let (last, before) = bytes.split_last().expect("each read makes progress");
        assert!(before.iter().sum::<usize>() < LOG_PORTION, "{bytes:?}");
        assert_eq!(is_portion(&portion), before.iter().sum::<usize>() + last >= LOG_PORTION);
        assert!(is_portion(&portion) || portion.last().unwrap().at.version == 40);
        for message in portion {
            assert_eq!(message.at, Position { version: at.version + 1, ..at.clone() });
            at = message.at;
        }
        portions += 1;
    }
    assert!(portions >= 4, "{portions}");
    assert!(matches!(bench.store.read_log(topic, &at).await.unwrap(), LogRead::Messages(none) if none.is_empty()));
}

pub async fn a_day_of_large_slots_is_read_as_of_one_version(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let large = || Some(SlotData::new(serde_json::from_str(&format!("{{\"x\":\"{}\"}}", "x".repeat(4_096))).unwrap()));
    let numbers: Vec<u64> = (1..=60).collect();
    for some in numbers.chunks(30) {
        let kind = SlotActKind::Update { to: StaffStatus::Booked, data: large(), user: None };
        bench.apply(space(1), some, kind).await.unwrap();
    }
    // While the day is read, slots change and lose their records.
    let writing = async {
        let mut written = BTreeMap::new();
        for round in 0..90_u64 {
            let slot = 1 + round * 7 % 60;
            let (to, data) =
                if round % 3 == 0 { (StaffStatus::Available, None) } else { (StaffStatus::Booked, large()) };
            let has_record = data.is_some();
            let at = bench.apply(space(1), &[slot], SlotActKind::Update { to, data, user: None }).await.unwrap().at;
            written.insert(at.version, (slot, has_record));
        }
        written
    };
    let reading = async {
        let mut reads = Vec::new();
        for _ in 0..30 {
            let read = bench.store.read_day(space(1), day()).await.unwrap();
            let records = read.records.iter().map(|(number, record)| (u64::from(number.get()), record.version));
            reads.push((read.at.version, records.collect::<BTreeMap<_, _>>()));
        }
        reads
    };
    let (written, mut reads) = futures_util::future::join(writing, reading).await;
    let read = bench.store.read_day(space(1), day()).await.unwrap();
    reads
        .push((read.at.version, read.records.iter().map(|(n, record)| (u64::from(n.get()), record.version)).collect()));
    for (at, records) in reads {
        let mut expected: BTreeMap<u64, u64> = numbers.iter().map(|number| (*number, *number)).collect();
        for (version, (slot, has_record)) in written.range(..=at) {
            if *has_record {
                expected.insert(*slot, *version);
            } else {
                expected.remove(slot);
            }
        }
        assert_eq!(records, expected, "as of {at}");
    }
}

pub async fn a_node_goes_on_with_a_bucket_where_it_was(factory: impl StoreFactory) {
    let bench = bench(&factory).await;
    let bucket = space(1).bucket();
    let user = (1..).map(|n: u64| UserId::new(&n.to_string()).unwrap()).find(|user| user.bucket() == bucket).unwrap();
    let notify = |event: &str| {
        let data = RawValue::from_string("1".into()).unwrap();
        bench.store.publish(Publication::ToUser { user: user.clone(), event: event.into(), data })
    };
    notify("before").await.unwrap();
    let mut told = bench.store.start_bucket(bucket).await.unwrap().told;
    assert_eq!(told.at, bench.store.head_of(Topic::Bucket(bucket)).await.unwrap());
    assert!(bench.store.read_bucket(bucket, &told).await.unwrap().messages.is_empty());
    for round in 0..3 {
        for event in ["one", "two"] {
            notify(event).await.unwrap();
        }
        let read = bench.store.read_bucket(bucket, &told).await.unwrap();
        let events: Vec<String> =
            read.messages.iter().map(|message| json(&message.payload)["event"].to_string()).collect();
        assert_eq!(events, ["\"one\"", "\"two\""], "{round}");
        assert_eq!(read.head, read.messages[1].at);
        read.messages.into_iter().for_each(|message| told.note(message.at));
    }
}
