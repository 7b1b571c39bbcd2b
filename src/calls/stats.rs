//! Reading who is connected, on the whole cluster.

use std::collections::BTreeSet;

use serde::Serialize;
use utoipa::ToSchema;

use super::require_staff_everywhere;
use crate::app::App;
use crate::auth::Claims;
use crate::domain::Refusal;
use crate::store::NodeReport;
use crate::store::refuse::unavailable;

/// How many rooms are named.
const ROOMS_NAMED: usize = 1_000;

/// Who is connected now.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatsAnswer {
    /// The sum of the distinct users of each node.
    pub connected_users: u64,
    /// Connected sockets.
    pub total_sockets: u64,
    /// The names of the first 1,000 rooms, sorted.
    pub rooms: Vec<String>,
    /// How many rooms have members.
    pub room_count: u64,
    /// This node first; the others as they told at most two seconds ago.
    pub nodes: Vec<NodeStats>,
}

/// What one node has.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeStats {
    /// Random, new with each start.
    pub id: String,
    /// Where other nodes reach it.
    pub address: String,
    /// The version of the program.
    pub version: String,
    /// When it started, RFC 3339.
    #[schema(format = DateTime)]
    pub started_at: String,
    /// Connected sockets.
    pub sockets: u64,
    /// Distinct users among them.
    pub users: u64,
    /// Rooms with members.
    pub rooms: u64,
}

/// The statistics, if the caller may see them.
pub async fn read_stats(app: &App, caller: &Claims) -> Result<StatsAnswer, Refusal> {
    require_staff_everywhere(caller)?;
    collect_stats(app).await
}

/// The statistics. The caller has checked who asks.
pub async fn collect_stats(app: &App) -> Result<StatsAnswer, Refusal> {
    let own = app.presence.report();
    let others = app.store.nodes().await.map_err(|error| unavailable(&error))?;
    Ok(merge(own, others))
}

fn merge(own: NodeReport, others: Vec<NodeReport>) -> StatsAnswer {
    let others = others.into_iter().filter(|report| report.id != own.id);
    let mut reports: Vec<NodeReport> = others.collect();
    reports.sort_by(|a, b| a.id.cmp(&b.id));
    reports.insert(0, own);
    let rooms: BTreeSet<&String> = reports.iter().flat_map(|report| report.rooms.keys()).collect();
    StatsAnswer {
        connected_users: reports.iter().map(|report| report.users).sum(),
        total_sockets: reports.iter().map(|report| report.sockets).sum(),
        room_count: rooms.len() as u64,
        rooms: rooms.into_iter().take(ROOMS_NAMED).cloned().collect(),
        nodes: reports.iter().map(node_stats).collect(),
    }
}

fn node_stats(report: &NodeReport) -> NodeStats {
    NodeStats {
        id: report.id.clone(),
        address: report.address.clone(),
        version: report.version.clone(),
        started_at: report.started_at.clone(),
        sockets: report.sockets,
        users: report.users,
        rooms: report.rooms.len() as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(id: &str, sockets: u64, rooms: impl Iterator<Item = String>) -> NodeReport {
        NodeReport {
            id: id.into(),
            address: "127.0.0.1:3000".into(),
            proof: None,
            version: "0.1.0".into(),
            started_at: "2026-11-23T12:00:00.000Z".into(),
            sockets,
            users: 1,
            rooms: rooms.map(|room| (room, 1)).collect(),
        }
    }

    fn names(range: std::ops::Range<usize>) -> impl Iterator<Item = String> {
        range.map(|number| format!("room_{number:04}"))
    }

    #[test]
    fn the_answering_node_counts_itself_live_and_once() {
        let stats = merge(report("b", 5, names(0..2)), vec![report("b", 4, names(0..9)), report("a", 1, names(1..3))]);
        assert_eq!((stats.total_sockets, stats.connected_users, stats.room_count), (6, 2, 3));
        assert_eq!(stats.nodes.iter().map(|node| node.id.as_str()).collect::<Vec<_>>(), ["b", "a"]);
        assert_eq!(stats.rooms, ["room_0000", "room_0001", "room_0002"]);
    }

    #[test]
    fn only_the_first_thousand_rooms_are_named() {
        let stats = merge(report("a", 1, names(0..1_500)), Vec::new());
        assert_eq!((stats.rooms.len(), stats.room_count), (1_000, 1_500));
    }
}
