//! Prefixes of keys, and how long keys live.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idempotency_key_is_one_call_in_whatever_bucket() {
    let factory = OnRedis::start().await;
    let store = store_at(&factory.server.url(), &factory.prefix);
    let other = (2..).find(|n| space(*n).bucket() != space(1).bucket()).unwrap();
    let keyed = |in_space, fingerprint: &str| {
        let idempotency = Idempotency { caller: user("a"), key: "k{1}:".into(), fingerprint: fingerprint.into() };
        SlotAct { idempotency: Some(idempotency), ..act(in_space, &[1], hold("a", MINUTE)) }
    };
    let first = store.apply(keyed(1, "one")).await.unwrap();
    let refused = store.apply(keyed(other, "other")).await;
    assert!(matches!(refused, Err(ApplyError::Refused(refusal)) if refusal.code == Code::IdempotencyMismatch));
    assert_eq!(head(&store, Topic::Space(space(other))).await.version, 0);
    assert_eq!(store.apply(keyed(1, "one")).await.unwrap(), repeat_of(&first));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_ends_in_its_time_and_versions_never() {
    let server = RedisServer::start();
    let store = server.store();
    let idempotency = Some(Idempotency { caller: user("a"), key: "k".into(), fingerprint: "f".into() });
    let origin = Some(Origin { user: user("a"), role: None, request_id: None });
    store.apply(SlotAct { idempotency, origin, ..act(1, &[1], hold("a", MINUTE)) }).await.unwrap();
    store.apply(act(1, &[2], set(StaffStatus::Booked))).await.unwrap();
    let data = serde_json::value::RawValue::from_string("1".into()).unwrap();
    store.publish(Publication::ToUser { user: user("a"), event: "e".into(), data }).await.unwrap();
    let ttl = |key: &str| server.cli(&["TTL", key]).parse::<i64>().unwrap();
    let keys: Vec<String> = server.cli(&["KEYS", "*"]).lines().map(str::to_owned).collect();
    let (day_seconds, forgotten) = (24 * 60 * 60, Day::parse("2090-06-06").unwrap());
    let until_forgotten = {
        let midnight = forgotten.date().at(0, 0, 0, 0).to_zoned_datetime(jiff::tz::TimeZone::UTC).unwrap();
        midnight.timestamp().as_second() - store.ping().await.unwrap().as_millis() / 1_000
    };
    let mut seen = BTreeSet::new();
    for key in &keys {
        let kind = key.split("}:").nth(1).and_then(|rest| rest.split(':').next()).unwrap().to_owned();
        let ttl = ttl(key);
        match kind.as_str() {
            "fence" | "epoch" | "head" | "ends" | "holds" | "places" | "user" | "journal" => {
                assert_eq!(ttl, -1, "{key}")
            }
            "log" | "calls" | "mail" => assert!((day_seconds - 60..=day_seconds).contains(&ttl), "{key}"),
            // This is as long as the journal's days, and two months more. Then no entry names the user any more.
            "people" => assert!((151 * day_seconds..=152 * day_seconds).contains(&ttl), "{key} in {ttl} s"),
            "day" | "days" => assert!((ttl - until_forgotten).abs() < 60, "{key} in {ttl} s"),
            other => panic!("{other}"),
        }
        seen.insert(kind);
    }
    assert_eq!(seen.len(), 14, "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_writes_only_what_changed() {
    let server = RedisServer::start();
    let store = server.store();
    let mut report = slotcast::store::NodeReport {
        id: "one".into(),
        address: "127.0.0.1:1".into(),
        proof: None,
        version: "1".into(),
        started_at: "2026-01-01T00:00:00.000Z".into(),
        sockets: 1,
        users: 1,
        rooms: (0..10_000).map(|n| (format!("spazio_{n}_sede_1"), n)).collect(),
    };
    let lease = Duration::from_secs(60);
    let written = || {
        let stats = server.cli(&["INFO", "stats"]);
        let line = stats.lines().find_map(|line| line.strip_prefix("total_net_input_bytes:")).unwrap().to_owned();
        line.trim().parse::<u64>().unwrap()
    };
    let before = written();
    store.report_node(report.clone(), lease).await.unwrap();
    let whole = written() - before;
    // With its first report a node opens all buckets in the background. That writes little beside 10,000 rooms.
    let formats = store.formats();
    wait_until(|| Bucket::all().all(|bucket| formats.of(bucket).is_some())).await;
    let before = written();
    report.rooms.insert("spazio_5_sede_1".into(), 77);
    report.rooms.remove("spazio_6_sede_1");
    report.sockets = 2;
    store.report_node(report.clone(), lease).await.unwrap();
    let changed = written() - before;
    assert!(changed < whole / 10, "{changed} bytes of {whole}");
    let nodes = store.nodes().await.unwrap();
    assert_eq!(serde_json::to_string(&nodes).unwrap(), serde_json::to_string(&[report.clone()]).unwrap());
    // The server has lost the report, so the next one is whole again.
    server.cli(&["FLUSHALL"]);
    report.users = 2;
    store.report_node(report.clone(), lease).await.unwrap();
    let nodes = server.store().nodes().await.unwrap();
    assert_eq!(serde_json::to_string(&nodes).unwrap(), serde_json::to_string(&[report]).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sweep_lease_has_one_holder() {
    let server = RedisServer::start();
    let (one, two) = (server.store(), server.store());
    // This is longer than the busiest machine takes to ask three times.
    let lease = Duration::from_secs(60);
    assert_eq!(one.take_sweep_lease("one", lease).await.unwrap(), None);
    assert!(two.take_sweep_lease("two", lease).await.unwrap().is_some_and(|left| left <= lease));
    // The holder renews the lease, so that it ends soon.
    let soon = Duration::from_millis(300);
    assert_eq!(one.take_sweep_lease("one", soon).await.unwrap(), None);
    let began = clock::instant();
    while let Some(left) = two.take_sweep_lease("two", lease).await.unwrap() {
        assert!(left <= soon && began.elapsed() < PATIENCE, "{left:?}");
        tokio::time::sleep(left + Duration::from_millis(1)).await;
    }
    assert!(one.take_sweep_lease("one", lease).await.unwrap().is_some());
}
