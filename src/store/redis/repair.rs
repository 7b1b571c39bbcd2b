//! Repairs what a script leaves behind if the server refuses a command in its middle.
//!
//! Redis keeps what a script did before it failed. Each script that writes marks its topic with its first effect, and
//! removes the mark with its last. The next script that finds a mark has the topic repaired before anything else is written
//! to it. If the marked changes were made, their events and the answer follow. If not, a new epoch begins. A repair runs
//! only if the server allows every command that it needs.

use redis::Value;

use super::Fence;
use super::call::{Budget, Call, Runner};
use super::keys::parse_compact;
use super::{acts, scripts};
use crate::domain::Bucket;
use crate::store::health::StoreFault;
use crate::store::{StoreError, Topic};

/// The line of a mark, from 0 on, that has the key of the caller's calls.
const CALLS_LINE: usize = 7;

impl Runner {
    /// Repairs a topic that was found half done, unless another caller was faster. Fails if the server still refuses a
    /// command of the repair.
    pub(super) async fn repair(&self, topic: Topic, mark: &str, budget: Budget) -> Result<(), StoreError> {
        let bucket = topic.bucket();
        if let Some(missing) = self.missing_right(bucket).await? {
            self.health.suspect(StoreFault::RightsMissing, &*missing);
            return Err(StoreError::new("Redis", missing));
        }
        let reply = self.repeatable(&self.repair_call(topic, mark), budget).await?;
        if reply.text_at(0)? == "done" {
            tracing::warn!(?topic, days = days_of(mark), "repaired a change that the server had refused in its middle");
        }
        Ok(())
    }

    fn repair_call(&self, topic: Topic, mark: &str) -> Call {
        let (keys, bucket) = (&self.keys, topic.bucket());
        let mut call = Call::new(&scripts::REPAIR)
            .fence(bucket)
            .key(keys.head(topic))
            .key(keys.log(topic))
            .key(keys.head(Topic::Bucket(bucket)))
            .key(keys.log(Topic::Bucket(bucket)))
            .key(keys.ends(bucket))
            .key(keys.holds(bucket))
            .key(keys.spaces(bucket))
            .key(keys.journal(bucket))
            .arg(mark)
            .arg(keys.channel(topic))
            .arg(keys.channel(Topic::Bucket(bucket)));
        if let Topic::Space(space) = topic {
            call =
                call.key(keys.days(space)).key(keys.bookings(bucket)).key(keys.places(bucket)).key(keys.taken(bucket));
            call = call.arg(space.site).arg(space.space);
            for day in days_of(mark).split(',').filter_map(parse_compact) {
                call = call.key(keys.day(space, day)).arg(day).arg(acts::forgotten_at_seconds(day));
            }
            if let Some(calls) = mark.split('\n').nth(CALLS_LINE).filter(|key| keys.is_calls(bucket, key)) {
                call = call.key(calls.to_owned());
            }
        }
        call
    }

    /// Checks, before a script writes, whether a missing right is back. A refusal at this point leaves nothing half
    /// done.
    pub(super) async fn refuse_without_rights(&self, bucket: Bucket) -> Result<(), StoreError> {
        if !self.health.has(StoreFault::RightsMissing) {
            return Ok(());
        }
        match self.missing_right(bucket).await? {
            None => {
                self.health.doubt(StoreFault::RightsMissing);
                Ok(())
            }
            Some(missing) => Err(StoreError::new("Redis", missing)),
        }
    }

    /// Tries every command of the scripts on separate keys in a bucket. Answers the first refused one, with the server's
    /// words.
    async fn missing_right(&self, bucket: Bucket) -> Result<Option<String>, StoreError> {
        let channel = self.keys.channel(Topic::Bucket(bucket));
        let mut command = redis::cmd("EVAL");
        command.arg(&scripts::CHECK.text).arg(4);
        for kind in ["hash", "string", "zset", "stream"] {
            command.arg(self.keys.check(bucket, kind));
        }
        command.arg(&channel).arg(format!("{channel}:0:0"));
        let refused = match self.commands.send(&command).await {
            Ok(refused) => read_refused(refused)?,
            Err(error) => return Err(StoreError::new("Redis: trying the commands of the scripts", error)),
        };
        // Without a fence no script needs INFO.
        let missing = refused.into_iter().find(|(command, _)| command != "INFO" || self.fence() == Fence::Up);
        Ok(missing.map(|(command, words)| format!("scripts of this user may not use {command}: {words}")))
    }
}

/// The first line of a mark, which names its days. The other lines have a hold's token and a user.
fn days_of(mark: &str) -> &str {
    mark.split('\n').next().unwrap_or_default()
}

fn read_refused(reply: Value) -> Result<Vec<(String, String)>, StoreError> {
    redis::from_redis_value(reply).map_err(|error| StoreError::new("Redis: the script check", error))
}
