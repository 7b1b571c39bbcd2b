//! Tells users that an act took slots from them. The act's own script leaves the notifications in the space's bucket,
//! because the users are in other buckets. The process of the act sends them right after it, or, if the answer was lost, a
//! second later. If that process ends or a server does not answer, the next walk of all buckets sends them.
//!
//! **Invariant:** a notification is removed only after it was sent. It may be sent twice, but is not lost.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use serde_json::value::RawValue;

use super::call::{Budget, Runner};
use super::keys::space_key;
use super::messages;
use super::reads::bad_value;
use crate::domain::{Bucket, ServerEvent, SpaceKey, UserId};
use crate::store::{Publication, StoreError, Topic};

/// How many notifications of one bucket a walk sends at once.
const AT_ONCE: usize = 16;

/// The pauses before leftover notifications are looked for. A second after a failure the act is done, or never will be.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

/// A notification that is still to be sent: a field of the bucket's hash.
#[derive(Clone, Debug)]
struct Notice {
    /// The user and the notification's id, a line each.
    field: String,
    /// The payload as JSON.
    payload: String,
}

/// Sends the notifications that an act has left, in a task of its own, because the act is done whether its users can be
/// told now or not. `left` has two texts for each notification, as in the script's answer.
pub(super) fn send_soon(runner: &Arc<Runner>, bucket: Bucket, left: Vec<&str>) {
    if left.is_empty() {
        return;
    }
    let notices: Vec<Notice> = left.chunks_exact(2).map(|two| Notice::new(two[0], two[1])).collect();
    let runner = runner.clone();
    tokio::spawn(async move {
        for failed in join_all(notices.iter().map(|notice| send(&runner, bucket, notice))).await {
            if let Err(error) = failed {
                tracing::warn!(
                    %error,
                    "cannot tell a user yet that a slot was taken; the next walk of all buckets will try again"
                );
            }
        }
    });
}

/// Looks for notifications of an act whose answer was lost, because the act may have been done. The first look is when the
/// act's outcome is final. A few more follow if Redis still does not answer.
pub(super) fn send_later(runner: &Arc<Runner>, bucket: Bucket) {
    let runner = runner.clone();
    tokio::spawn(async move {
        for pause in PAUSES {
            tokio::time::sleep(pause).await;
            if send_left_in(&runner, bucket).await.is_ok() {
                return;
            }
        }
    });
}

/// Sends the notifications that were left in all buckets. Answers the first failure after trying all.
pub(super) async fn send_left(runner: &Runner) -> Result<(), StoreError> {
    join_all(Bucket::all().map(|bucket| send_left_in(runner, bucket))).await.into_iter().collect()
}

async fn send_left_in(runner: &Runner, bucket: Bucket) -> Result<(), StoreError> {
    let key = runner.keys.taken(bucket);
    let mut get = redis::cmd("HGETALL");
    get.arg(&key);
    let left = runner.command("hgetall", &get, Budget::of_a_call()).await?;
    let left: Vec<(String, String)> = redis::from_redis_value(left).map_err(|_| bad_value(&key))?;
    let sending = left.into_iter().map(|(field, payload)| async move {
        let notice = Notice { field, payload };
        if stands(runner, bucket, &notice).await? { send(runner, bucket, &notice).await } else { Ok(()) }
    });
    let sent: Vec<Result<(), StoreError>> = stream::iter(sending).buffer_unordered(AT_ONCE).collect().await;
    sent.into_iter().collect()
}

/// Removes a user's unsent notifications about acts in a bucket.
pub(super) async fn forget(runner: &Runner, bucket: Bucket, user: &UserId) -> Result<(), StoreError> {
    let key = runner.keys.taken(bucket);
    let mut get = redis::cmd("HGETALL");
    get.arg(&key);
    let left = runner.command("hgetall", &get, Budget::of_a_call()).await?;
    let left: Vec<(String, String)> = redis::from_redis_value(left).map_err(|_| bad_value(&key))?;
    let is_own = |field: &String| field.split_once('\n').is_some_and(|(name, _)| name == user.as_str());
    let own: Vec<String> = left.into_iter().map(|(field, _)| field).filter(is_own).collect();
    if own.is_empty() {
        return Ok(());
    }
    let mut forget = redis::cmd("HDEL");
    forget.arg(&key).arg(own);
    runner.command("hdel", &forget, Budget::of_a_call()).await.map(drop)
}

/// Whether the act of a notice was done. A script that failed in its middle may have left only the notice. Then the
/// space is marked until it is repaired, and the repair removes the notice. So the notice is read once more after the
/// mark is gone.
async fn stands(runner: &Runner, bucket: Bucket, notice: &Notice) -> Result<bool, StoreError> {
    let Some(space) = notice.space() else { return Ok(true) };
    let mark = read_field(runner, &runner.keys.head(Topic::Space(space)), "half").await?;
    Ok(mark.is_none() && read_field(runner, &runner.keys.taken(bucket), &notice.field).await?.is_some())
}

async fn read_field(runner: &Runner, key: &str, field: &str) -> Result<Option<String>, StoreError> {
    let mut get = redis::cmd("HGET");
    get.arg(key).arg(field);
    let value = runner.command("hget", &get, Budget::of_a_call()).await?;
    redis::from_redis_value(value).map_err(|_| bad_value(key))
}

async fn send(runner: &Runner, bucket: Bucket, notice: &Notice) -> Result<(), StoreError> {
    let key = runner.keys.taken(bucket);
    match notice.publication() {
        Some(publication) => messages::publish(runner, publication).await?,
        // Otherwise each walk would find this entry first.
        None => tracing::error!(key, "removed a notification of a taken slot that cannot be read"),
    }
    let mut forget = redis::cmd("HDEL");
    forget.arg(&key).arg(&notice.field);
    runner.command("hdel", &forget, Budget::of_a_call()).await.map(drop)
}

impl Notice {
    fn new(field: &str, payload: &str) -> Self {
        Self { field: field.into(), payload: payload.into() }
    }

    /// The space of the slots, from the notification's id.
    fn space(&self) -> Option<SpaceKey> {
        let (_, id) = self.field.split_once('\n')?;
        let mut parts = id.rsplit('-').skip(1);
        let (space, site) = (parts.next()?, parts.next()?);
        space_key(site, space)
    }

    fn publication(&self) -> Option<Publication> {
        let (user, _) = self.field.split_once('\n')?;
        let data = RawValue::from_string(self.payload.clone()).ok()?;
        Some(Publication::ToUser { user: UserId::new(user)?, event: ServerEvent::SlotTaken.as_str().into(), data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_names_its_user_and_its_space() {
        let notice = Notice::new("anna - \"é\"\n0af3-12-7-41", "{\"id\":\"0af3-12-7-41\"}");
        assert_eq!(notice.space(), space_key("12", "7"));
        let Some(Publication::ToUser { user, event, data }) = notice.publication() else { panic!("a message") };
        assert_eq!((user.as_str(), event.as_str(), data.get()), ("anna - \"é\"", "slot_taken", &*notice.payload));
        for (field, payload) in [("", "{}"), ("7", "{}"), ("\n0af3-12-7-41", "{}"), ("7\nx", "{")] {
            let bad = Notice::new(field, payload);
            assert!(bad.publication().is_none() && (bad.space().is_none() || field.starts_with('\n')), "{field:?}");
        }
    }
}
