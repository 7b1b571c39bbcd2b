//! The leases and reports of nodes, and the lease of the node that walks all buckets.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::try_join_all;
use parking_lot::Mutex;

use super::call::{Budget, Call};
use super::scripts;
use super::{RedisStore, formats};
use crate::domain::StoreTime;
use crate::store::{NodeReport, StoreError};

/// The beginning of the name of a room's field.
const ROOM: &str = "room:";

/// The field with the length of the lease, in ms.
const LEASE: &str = "lease";

/// How long the lease of a node of 0.1 lasts, in ms.
const NODE_LEASE: u64 = 6_000;

/// The report that this node wrote last. Only later changes are written.
#[derive(Default)]
pub(super) struct LastReport {
    /// `None` if the stored report is not known. Held to take or put the report, never across an await.
    last: Mutex<Option<Written>>,
}

struct Written {
    id: String,
    stamp: u64,
    fields: BTreeMap<String, String>,
}

impl LastReport {
    fn take(&self, id: &str) -> Option<Written> {
        self.last.lock().take().filter(|written| written.id == id)
    }

    fn put(&self, written: Written) {
        *self.last.lock() = Some(written);
    }
}

pub(super) async fn report_node(store: &RedisStore, report: NodeReport, lease: Duration) -> Result<(), StoreError> {
    let budget = Budget::of_a_call();
    let id = report.id.clone();
    let fields = fields_of(report, lease);
    // The report is taken out, because if this call fails, the stored report is unknown, and the next call writes all
    // of it.
    let mut written = store.last_report.take(&id);
    loop {
        let stamp = fastrand::u64(1..);
        let call = call_of(store, &id, lease, &fields, written.as_ref(), stamp);
        let reply = store.runner.repeatable(&call, budget).await?;
        // The stored report was lost with its server, or its stamp differs after a lost reply. The whole report always
        // fits.
        if reply.text_at(0)? == "anew" && written.take().is_some() {
            continue;
        }
        store.runner.formats.learn_old_nodes(reply.number_at(2)?);
        formats::tend(&store.runner, &id);
        store.last_report.put(Written { id, stamp, fields });
        return Ok(());
    }
}

fn call_of(
    store: &RedisStore,
    id: &str,
    lease: Duration,
    fields: &BTreeMap<String, String>,
    written: Option<&Written>,
    stamp: u64,
) -> Call {
    let known = written.map(|written| &written.fields);
    let changed: Vec<(&String, &String)> =
        fields.iter().filter(|(name, value)| known.and_then(|known| known.get(*name)) != Some(*value)).collect();
    let removed = known.into_iter().flat_map(|known| known.keys()).filter(|name| !fields.contains_key(*name));
    let mut call = Call::new(&scripts::REPORT_NODE)
        .key(store.keys.leases())
        .key(store.keys.node(id))
        .key(store.keys.leases_knowing(formats::NEWEST))
        .arg(id)
        .arg(lease.as_millis())
        .arg(written.map_or_else(String::new, |written| written.stamp.to_string()))
        .arg(stamp)
        .arg(changed.len() * 2);
    for (name, value) in changed {
        call = call.arg(name).arg(value);
    }
    for name in removed {
        call = call.arg(name);
    }
    call
}

fn fields_of(report: NodeReport, lease: Duration) -> BTreeMap<String, String> {
    let mut fields: BTreeMap<String, String> =
        report.rooms.into_iter().map(|(room, members)| (format!("{ROOM}{room}"), members.to_string())).collect();
    fields.extend([
        ("id".into(), report.id),
        ("address".into(), report.address),
        ("version".into(), report.version),
        ("startedAt".into(), report.started_at),
        ("sockets".into(), report.sockets.to_string()),
        ("users".into(), report.users.to_string()),
        (LEASE.into(), lease.as_millis().to_string()),
    ]);
    fields.extend(report.proof.map(|proof| ("proof".into(), proof)));
    fields
}

/// The report in a node's fields; `None` if some are missing, for example after the end of a lease.
fn report_of(mut fields: BTreeMap<String, String>) -> Option<NodeReport> {
    Some(NodeReport {
        id: fields.remove("id")?,
        address: fields.remove("address")?,
        proof: fields.remove("proof"),
        version: fields.remove("version")?,
        started_at: fields.remove("startedAt")?,
        sockets: fields.remove("sockets")?.parse().ok()?,
        users: fields.remove("users")?.parse().ok()?,
        rooms: fields
            .into_iter()
            .filter_map(|(name, members)| Some((name.strip_prefix(ROOM)?.into(), members.parse().ok()?)))
            .collect(),
    })
}

pub(super) async fn nodes(store: &RedisStore) -> Result<Vec<NodeReport>, StoreError> {
    let budget = Budget::of_a_call();
    let leases = store.runner.repeatable(&Call::new(&scripts::NODES).key(store.keys.leases()), budget).await?;
    let now = leases.time_at(0)?;
    let mut nodes = Vec::new();
    for (index, id) in (1..).step_by(2).zip(leases.texts_from(1)?.into_iter().step_by(2)) {
        nodes.push((id, leases.time_at(index + 1)?));
    }
    nodes.sort_unstable();
    let reports = nodes.into_iter().map(|(id, ends)| async move {
        let mut get = redis::cmd("HGETALL");
        get.arg(store.keys.node(id));
        let fields = store.runner.command("hgetall", &get, budget).await?;
        let fields: BTreeMap<String, String> =
            redis::from_redis_value(fields).map_err(|error| StoreError::new("Redis: the report of a node", error))?;
        Ok::<_, StoreError>(if lease_may_end(&fields, now, ends) { report_of(fields) } else { None })
    });
    Ok(try_join_all(reports).await?.into_iter().flatten().collect())
}

/// Whether a lease that was just renewed could end at `end`. If not, it was given before the clock went back, and its node
/// may have been dead for long.
fn lease_may_end(fields: &BTreeMap<String, String>, now: StoreTime, ends: StoreTime) -> bool {
    // Nodes of 0.1 do not write the length.
    let lasts = fields.get(LEASE).and_then(|millis| millis.parse().ok()).unwrap_or(NODE_LEASE);
    now.until(ends) <= Duration::from_millis(lasts)
}

/// Takes or renews a lease. Each lease is a key of its own.
pub(super) async fn take_lease(
    store: &RedisStore,
    key: String,
    holder: &str,
    lease: Duration,
) -> Result<Option<Duration>, StoreError> {
    let millis = lease.as_millis().max(1);
    let call = Call::new(&scripts::LEASE).key(key).arg(holder).arg(millis);
    let reply = store.runner.repeatable(&call, Budget::of_a_call()).await?;
    Ok(reply.optional_number_at(0)?.map(Duration::from_millis))
}
