//! Indexing what slotcast 0.1 stored. One look at a server's keys serves all buckets.

use std::time::Duration;

use slotcast::domain::{Bucket, Day, SiteId, SpaceId, SpaceKey, UserId};
use slotcast::store::redis::RedisStore;
use slotcast::store::{NodeReport, SlotStore};

use crate::support::redis::RedisServer;

const LEASE: Duration = Duration::from_secs(6);

/// How many spaces have a booking of 0.1. They are in about as many buckets.
const SPACES: u64 = 60;

/// How many other keys the server has. So a look at all keys takes several portions.
const OTHERS: u64 = 6_000;

fn day() -> Day {
    Day::parse("2090-05-05").unwrap()
}

fn space(number: u64) -> SpaceKey {
    SpaceKey { site: SiteId::new(1).unwrap(), space: SpaceId::new(number).unwrap() }
}

fn report() -> NodeReport {
    NodeReport {
        id: "new".into(),
        address: "127.0.0.1:1".into(),
        proof: None,
        version: "0.2.0".into(),
        started_at: "2090-01-01T00:00:00.000Z".into(),
        sockets: 0,
        users: 0,
        rooms: std::collections::BTreeMap::new(),
    }
}

/// Writes what 0.1 wrote for a booking of `ada` in each space, and other keys.
fn write_as_0_1(server: &RedisServer) {
    let script = "local lines = table.concat({ 'b', '4', '3797003600000', '3797007200000', '01:00', 'ada', '', '', '', '', '4', '' }, '\\n')
        for i = 1, #ARGV, 2 do
          redis.call('HSET', 'slotcast:{b' .. ARGV[i] .. '}:epoch', 'epoch', '0123456789abcdef0123456789abcdef', 'replid', '')
          redis.call('HSET', 'slotcast:{b' .. ARGV[i] .. '}:head:1:' .. ARGV[i + 1], 'v', '4')
          redis.call('HSET', 'slotcast:{b' .. ARGV[i] .. '}:day:1:' .. ARGV[i + 1] .. ':20900505', '1', lines)
        end
        return 1";
    let places: Vec<String> =
        (1..=SPACES).flat_map(|number| [space(number).bucket().get().to_string(), number.to_string()]).collect();
    let mut command = vec!["EVAL", script, "0"];
    command.extend(places.iter().map(String::as_str));
    assert_eq!(server.cli(&command), "1");
    let others = format!("for i = 1, {OTHERS} do redis.call('SET', 'other:' .. i, i) end return 1");
    assert_eq!(server.cli(&["EVAL", &others, "0"]), "1");
}

/// How often the server was asked for a portion of its keys.
fn scans(server: &RedisServer) -> u64 {
    let stats = server.cli(&["INFO", "commandstats"]);
    let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_scan:calls="));
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}

async fn are_indexed(store: &RedisStore) -> bool {
    store.report_node(report(), LEASE).await.unwrap();
    store.bookings_of(&UserId::new("ada").unwrap(), day(), day()).await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_buckets_of_a_server_are_indexed_with_one_look_at_its_keys() {
    let server = RedisServer::start();
    write_as_0_1(&server);
    let used: std::collections::BTreeSet<Bucket> = (1..=SPACES).map(|number| space(number).bucket()).collect();
    assert!(used.len() > 20, "many buckets: {}", used.len());
    let store = server.store();
    let before = scans(&server);
    let deadline = slotcast::clock::instant() + Duration::from_secs(120);
    while !are_indexed(&store).await {
        assert!(slotcast::clock::instant() < deadline, "not indexed in time");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut booked: Vec<u64> = store
        .bookings_of(&UserId::new("ada").unwrap(), day(), day())
        .await
        .unwrap()
        .into_iter()
        .map(|slot| slot.space.space.get())
        .collect();
    booked.sort_unstable();
    assert_eq!(booked, (1..=SPACES).collect::<Vec<_>>());
    let mut spaces: Vec<u64> =
        store.spaces_on(SiteId::new(1).unwrap(), day()).await.unwrap().into_iter().map(SpaceId::get).collect();
    spaces.sort_unstable();
    assert_eq!(spaces, (1..=SPACES).collect::<Vec<_>>());
    // A portion has about a thousand keys, and the server's table may have room for twice as many. A look may also have
    // begun anew.
    let portions = (OTHERS + 6 * SPACES + 1_000) / 1_000;
    let scanned = scans(&server) - before;
    assert!(scanned <= 4 * portions, "{scanned} portions for {} buckets, not about {portions}", used.len());
}
