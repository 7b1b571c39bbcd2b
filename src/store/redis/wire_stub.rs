//! Channels and messages on the wire, until `keys.rs` has them.

use std::sync::Arc;

use serde_json::value::RawValue;

use crate::domain::event::Position;
use crate::domain::{Bucket, SiteId, SpaceId, SpaceKey};
use crate::store::{Message, MessageKind, Topic};

pub fn channel(prefix: &str, topic: Topic) -> String {
    match topic {
        Topic::Bucket(bucket) => format!("{prefix}:{{b{}}}:t", bucket.get()),
        Topic::Space(space) => {
            let (bucket, site, space) = (space.bucket().get(), space.site.get(), space.space.get());
            format!("{prefix}:{{b{bucket}}}:t:{site}:{space}")
        }
    }
}

pub fn topic_of_channel(prefix: &str, channel: &str) -> Option<Topic> {
    let rest = channel.strip_prefix(prefix)?.strip_prefix(":{b")?;
    let (bucket, rest) = rest.split_once("}:t")?;
    let bucket: u8 = bucket.parse().ok()?;
    match rest.strip_prefix(':') {
        None if rest.is_empty() => Bucket::all().find(|known| known.get() == bucket).map(Topic::Bucket),
        None => None,
        Some(rest) => {
            let (site, space) = rest.split_once(':')?;
            let site = SiteId::new(site.parse().ok()?)?;
            let space = SpaceId::new(space.parse().ok()?)?;
            Some(Topic::Space(SpaceKey { site, space }))
        }
    }
}

pub fn parse_message(bytes: &[u8]) -> Option<Message> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut parts = text.splitn(5, '\n');
    if parts.next()? != "1" {
        return None;
    }
    let epoch = Arc::from(parts.next()?);
    let version = parts.next()?.parse().ok()?;
    let kind: MessageKind = serde_json::from_value(parts.next()?.into()).ok()?;
    let payload = Arc::from(RawValue::from_string(parts.next()?.into()).ok()?);
    Some(Message { at: Position { epoch, version }, kind, payload })
}
