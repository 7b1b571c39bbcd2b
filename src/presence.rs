//! Tells the other nodes every two seconds what is connected to this node.

use std::sync::Arc;
use std::time::Duration;

use crate::app::{App, Presence};
use crate::domain::StoreTime;
use crate::feed::Rooms;
use crate::realtime::sessions::Sessions;
use crate::store::NodeReport;

/// How often a node reports what is connected to it.
const REPORT_EVERY: Duration = Duration::from_secs(2);

/// How long a report counts without a newer one. A frozen or dead node disappears after that.
const LEASE: Duration = Duration::from_secs(6);

/// This node, as the other nodes know it.
pub struct LocalPresence {
    /// Random, new with each start.
    pub id: String,
    /// Where other nodes reach it.
    pub address: String,
    /// The node's signature of its own address; `None` if nodes have no common key.
    pub proof: Option<String>,
    /// When it started, by its own clock.
    pub started_at: StoreTime,
    /// Who is connected.
    pub sessions: Arc<Sessions>,
    /// Who watches which spaces.
    pub rooms: Arc<Rooms>,
}

impl Presence for LocalPresence {
    fn report(&self) -> NodeReport {
        let (sockets, users) = self.sessions.counts();
        NodeReport {
            id: self.id.clone(),
            address: self.address.clone(),
            proof: self.proof.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            started_at: self.started_at.rfc3339(),
            sockets,
            users,
            rooms: self.rooms.counts(),
        }
    }
}

/// Reports until the node ends.
pub async fn run(app: Arc<App>) {
    loop {
        let report = app.presence.report();
        app.metrics.users.set(i64::try_from(report.users).unwrap_or(i64::MAX));
        app.metrics.rooms.set(i64::try_from(report.rooms.len()).unwrap_or(i64::MAX));
        app.metrics.room_members.set(i64::try_from(report.rooms.values().sum::<u64>()).unwrap_or(i64::MAX));
        app.metrics.unreadable_records.set(i64::try_from(app.health.count_unreadable()).unwrap_or(i64::MAX));
        if let Err(error) = app.store.report_node(report, LEASE).await {
            tracing::debug!(%error, "cannot tell the other nodes what this node has");
        }
        tokio::time::sleep(REPORT_EVERY).await;
    }
}
