//! Follows a bucket's topic across epochs, and ends an epoch in which the store went back.

use serde_json::value::RawValue;

use super::RedisStore;
use super::call::{Budget, Call};
use super::reads::bad_value;
use super::reply::Reply;
use super::scripts;
use crate::domain::{Bucket, Position, StoreTime};
use crate::store::told::{BucketRead, BucketStart, Told};
use crate::store::{LOG_PORTION, Message, MessageKind, StoreError, Topic};

pub(super) async fn start_bucket(store: &RedisStore, bucket: Bucket) -> Result<BucketStart, StoreError> {
    let call = read_call(store, bucket).arg("").arg(0);
    let reply = store.runner.repeatable(&call, Budget::of_a_call()).await?;
    let last = if reply.text_at(4)?.is_empty() { None } else { Some(reply.position_at(4)?) };
    Ok(BucketStart {
        told: Told::begin(reply.time_at(0)?, reply.position_at(1)?, last),
        freed: Some(reply.number_at(3)?),
    })
}

pub(super) async fn read_bucket(store: &RedisStore, bucket: Bucket, told: &Told) -> Result<BucketRead, StoreError> {
    let mut call = read_call(store, bucket).arg(told.began.as_millis()).arg(told.at.version);
    for position in told.up_to() {
        call = call.arg(&position.epoch).arg(position.version);
    }
    let reply = store.runner.repeatable(&call, Budget::of_a_call()).await?;
    let log = store.keys.log(Topic::Bucket(bucket));
    Ok(BucketRead {
        head: reply.position_at(1)?,
        freed: Some(reply.number_at(3)?),
        messages: messages_of(&reply).ok_or_else(|| bad_value(&log))?,
    })
}

fn read_call(store: &RedisStore, bucket: Bucket) -> Call {
    let (keys, topic) = (&store.keys, Topic::Bucket(bucket));
    let mut call = Call::new(&scripts::READ_BUCKET).fence(bucket).key(keys.head(topic)).key(keys.log(topic));
    if bucket == Bucket::EVERYONE {
        call = call.key(keys.everyone());
    }
    call.arg(LOG_PORTION)
}

fn messages_of(reply: &Reply) -> Option<Vec<Message>> {
    let parts = reply.texts_from(6).ok()?;
    let message = |part: &[&str]| match part {
        [version, epoch, written, kind, payload] => Some(Message {
            at: Position { epoch: (*epoch).into(), version: version.parse().ok()? },
            kind: MessageKind::parse(kind)?,
            payload: RawValue::from_string((*payload).into()).ok()?.into(),
            owned: None,
            written: Some(StoreTime::from_millis(written.parse().ok()?)),
        }),
        _ => None,
    };
    parts.chunks(5).map(message).collect()
}

pub(super) async fn end_epoch(store: &RedisStore, topic: Topic, epoch: &str) -> Result<Position, StoreError> {
    let call = Call::new(&scripts::END_EPOCH).fence(topic.bucket()).key(store.keys.head(topic)).arg(epoch);
    store.runner.repeatable(&call, Budget::of_a_call()).await?.position_at(1)
}
