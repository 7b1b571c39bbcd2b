//! The connection that the scripts run over.

use std::time::Duration;

use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig};
use redis::cluster_async::ClusterConnection;
use redis::{Cmd, Pipeline, RedisFuture, Value};

use crate::store::StoreError;

/// How long connecting may take, and a reply; a call has its own, shorter time.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Where commands are sent; clones share the connection. What was sent and not answered is not sent again: the caller
/// knows what is safe to repeat. (On a Cluster the client follows redirections by itself: what was redirected was not
/// done, and an act that was done is recognised by its id.)
#[derive(Clone)]
pub enum Commands {
    /// One server, or the present primary: replaced when it breaks.
    Single(ConnectionManager),
    /// A Cluster.
    Cluster(ClusterConnection),
}

impl Commands {
    /// To a single server, which need not be there yet.
    pub fn standalone(url: &str) -> Result<Self, StoreError> {
        let failed = |error| StoreError::new("connecting to Redis", error);
        let config = ConnectionManagerConfig::new()
            .set_min_delay(Duration::from_millis(20))
            .set_max_delay(Duration::from_millis(500))
            .set_pipeline_buffer_size(1_024)
            .set_connection_timeout(Some(TIMEOUT))
            .set_response_timeout(Some(TIMEOUT));
        let client = redis::Client::open(url).map_err(failed)?;
        Ok(Self::Single(ConnectionManager::new_lazy_with_config(client, config).map_err(failed)?))
    }
}

impl ConnectionLike for Commands {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Single(manager) => manager.req_packed_command(cmd),
            Self::Cluster(cluster) => cluster.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Single(manager) => manager.req_packed_commands(pipeline, offset, count),
            Self::Cluster(cluster) => cluster.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Single(manager) => manager.get_db(),
            Self::Cluster(cluster) => cluster.get_db(),
        }
    }
}
