//! Messages to users and to everyone, and commands.

use super::RedisStore;
use super::call::{Budget, Call, Runner};
use super::keys::Keys;
use super::reads::bad_value;
use super::scripts;
use crate::domain::event::to_json;
use crate::domain::{Bucket, UserId};
use crate::store::{MessageKind, Publication, ShowBoard, StoreError, Topic, USER_LOG_LENGTH, UserBacklog, UserMessage};

pub(super) async fn publish(runner: &Runner, publication: Publication) -> Result<(), StoreError> {
    let keys = &runner.keys;
    match publication {
        Publication::ToUser { user, event, data } => {
            let topic = Topic::Bucket(user.bucket());
            let call = Call::writing(&scripts::NOTIFY, topic)
                .key(keys.head(topic))
                .key(keys.log(topic))
                .key(keys.user(&user))
                .key(keys.mail(&user))
                .arg(keys.channel(topic))
                .arg(USER_LOG_LENGTH)
                .arg(runner.positions.arg(topic))
                .arg(format_args!("{{\"user\":{},\"sequence\":", to_json(&user)))
                .arg(format_args!(",\"event\":{},\"data\":{}}}", to_json(&event), data.get()));
            once(runner, topic, &call).await
        }
        Publication::ToEveryone(message) => {
            let topic = Topic::Bucket(Bucket::EVERYONE);
            let call = Call::writing(&scripts::PUBLISH, topic)
                .key(keys.head(topic))
                .key(keys.log(topic))
                .key(keys.everyone())
                .arg(keys.channel(topic))
                .arg(runner.positions.arg(topic))
                .arg(MessageKind::Everyone.as_str())
                .arg(to_json(&message));
            once(runner, topic, &call).await
        }
        Publication::DisconnectUser(user) => {
            let payload = format!("{{\"user\":{},\"before\":", to_json(&user));
            let call = announcement(keys, Topic::Bucket(user.bucket()), MessageKind::Disconnect, &payload).arg("}");
            runner.repeatable(&call, Budget::of_a_call()).await.map(drop)
        }
        Publication::ShowBoard(space, day) => {
            let payload = to_json(&ShowBoard { date: day });
            let call = announcement(keys, Topic::Space(space), MessageKind::ShowBoard, &payload);
            runner.repeatable(&call, Budget::of_a_call()).await.map(drop)
        }
    }
}

/// Commands may be announced twice: a board is shown again, and closed sockets stay closed.
fn announcement(keys: &Keys, topic: Topic, kind: MessageKind, payload: &str) -> Call {
    Call::new(&scripts::ANNOUNCE)
        .fence(topic.bucket())
        .key(keys.head(topic))
        .arg(keys.channel(topic))
        .arg(kind.as_str())
        .arg(payload)
}

async fn once(runner: &Runner, topic: Topic, call: &Call) -> Result<(), StoreError> {
    let reply = runner.once(call, Budget::of_a_call()).await?;
    if reply.text_at(0)? != "done" {
        return Err(reply.unexpected(0));
    }
    runner.positions.learn(topic, &reply.position_at(2)?);
    Ok(())
}

pub(super) async fn mark_received(store: &RedisStore, user: &UserId, sequence: u64) -> Result<(), StoreError> {
    let call = Call::new(&scripts::RECEIVED).key(store.keys.user(user)).arg(sequence);
    store.runner.repeatable(&call, Budget::of_a_call()).await.map(drop)
}

/// Every connect reads the user's messages, and most users have none waiting. A plain command finds that out at a tenth
/// of a script's cost for Redis.
pub(super) async fn messages_of(
    store: &RedisStore,
    user: &UserId,
    since: Option<u64>,
    bytes: usize,
) -> Result<UserBacklog, StoreError> {
    let key = store.keys.user(user);
    let mut command = redis::cmd("HMGET");
    command.arg(&key).arg("sent").arg("received");
    let counts = store.runner.command("messages_of", &command, Budget::of_a_call()).await?;
    let counts: (Option<u64>, Option<u64>) = redis::from_redis_value(counts).map_err(|_| bad_value(&key))?;
    let (sent, received) = (counts.0.unwrap_or_default(), counts.1.unwrap_or_default());
    let after = since.unwrap_or(received);
    let messages = if sent > after { read_messages(store, user, after, bytes).await? } else { Vec::new() };
    let has_more = messages.last().is_some_and(|last| last.sequence < sent);
    Ok(UserBacklog { after, messages, has_more })
}

async fn read_messages(
    store: &RedisStore,
    user: &UserId,
    after: u64,
    bytes: usize,
) -> Result<Vec<UserMessage>, StoreError> {
    let call = Call::new(&scripts::MESSAGES).key(store.keys.mail(user)).arg(after).arg(bytes);
    let reply = store.runner.repeatable(&call, Budget::of_a_call()).await?;
    let messages = reply.texts_from(0)?.into_iter().map(serde_json::from_str).collect::<Result<_, _>>();
    messages.map_err(|_| bad_value(&store.keys.mail(user)))
}
