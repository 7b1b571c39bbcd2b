//! Which node has which Engine.IO session: one key a session, which ends with its claim.

use std::time::Duration;

use async_trait::async_trait;

use super::RedisStore;
use super::call::Budget;
use crate::store::{SessionDirectory, StoreError};

#[async_trait]
impl SessionDirectory for RedisStore {
    async fn claim(&self, engine_id: &str, node: &str, lease: Duration) -> Result<(), StoreError> {
        let mut set = redis::cmd("SET");
        set.arg(self.keys.session(engine_id)).arg(node).arg("PX").arg(lease.as_millis().max(1) as u64);
        self.runner.command("claiming a session", &set, Budget::of_a_call()).await.map(drop)
    }

    async fn owner(&self, engine_id: &str) -> Result<Option<String>, StoreError> {
        let mut get = redis::cmd("GET");
        get.arg(self.keys.session(engine_id));
        let owner = self.runner.command("looking for a session", &get, Budget::of_a_call()).await?;
        redis::from_redis_value(owner).map_err(|error| StoreError::new("Redis: the owner of a session", error))
    }
}
