//! Every key, channel and payload of this store in Redis.
//!
//! `P` is the prefix (`SLOTCAST_REDIS_PREFIX`), `{bN}` the hash tag of bucket N (0 to 127, decimal; spaces and users hash
//! into buckets by [`Bucket`]), `S:X` a site and a space, `U` a user. All keys of a bucket are in one slot of a Cluster.
//!
//! # Channels: for everyone to read
//!
//! | channel | announces |
//! |---|---|
//! | `P:{bN}:t:S:X` | changes of a space |
//! | `P:{bN}:t` | freed slots, messages to users and commands of a bucket; messages to everyone in bucket 0 |
//!
//! A payload is five parts, a line end (`\n`) between two: the format's version, `1`; the epoch; the version in decimal; the
//! kind; and JSON, which is all that follows the fourth line end. The kinds are the names of [`MessageKind`]:
//!
//! | kind | JSON |
//! |---|---|
//! | `slot_update` | the payload of the Socket.IO event of that name |
//! | `space_changed` | `null`: the schedule changed |
//! | `show_board` | `{"date"}`: staff wants the day's board sent; bears the head's version |
//! | `freed` | `{"spazioId", "sedeId", "date", "slots": [n]}`: holds of these slots ended |
//! | `user` | `{"user", "sequence", "event", "data"}`: a notification |
//! | `everyone` | `{"event", "data"}`: a notification to all |
//! | `disconnect` | `{"user", "before"}`: close the user's sockets connected before that instant, in ms; bears the head's version |
//!
//! Under one epoch the versions of a topic are consecutive, and none names two contents. A message may be heard twice, or
//! not at all by who was not connected: the log of the same topic tells.
//!
//! # Keys: for this store alone
//!
//! | key | type | content |
//! |---|---|---|
//! | `P:{bN}:epoch` | hash | `epoch`, and `replid`: the server's `master_replid` when it began |
//! | `P:{bN}:head`, `P:{bN}:head:S:X` | hash | of a topic: `v` version; of a space also `r` revision (version of the last change of the schedule) and `j` schedule as JSON. Never expires |
//! | `P:{bN}:log`, `P:{bN}:log:S:X` | stream | of a topic: entry `<version>-0` with `e` epoch, `k` kind, `p` JSON, `t` instant in ms; the last of an act also `a` the act's id and `r` its answer (token and end, a line each). The last 1,024, for 24 h after the last |
//! | `P:{bN}:day:S:X:YYYYMMDD` | hash | slot number to record (below). Until 32 days after the day |
//! | `P:{bN}:days:S:X` | zset | the days that the space has slots on, `YYYYMMDD` as member and score |
//! | `P:{bN}:ends` | zset | score: a hold's end in ms; member: site, space, day, slot, user, token, label, a line each |
//! | `P:{bN}:holds` | zset | score 0; member: user, site, space, day, slot, token, end in ms, label, a line each |
//! | `P:{bN}:spaces` | zset | score 0; member: space and site of a registered space, `X\|S` |
//! | `P:{bN}:answer:L:U:K` | string | of the space's bucket: what the call under the Idempotency-Key K of caller U (L bytes long) was answered: epoch, version, token, end, the call, a line each. 24 h |
//! | `P:{bN}:call:L:U:K` | string | of the caller's bucket: the call under that key. 24 h |
//! | `P:{bN}:user:U` | hash | `sent`, `received`: sequences of the user's messages. Never expires |
//! | `P:{bN}:mail:U` | stream | the user's messages: entry `<sequence>-0` with `j` JSON and `ends` instant in ms. The last 100, for 24 h |
//! | `P:{nodes}:leases` | zset | score: a node's lease's end in ms; member: its id |
//! | `P:{nodes}:node:ID` | hash | its report, a field each, `room:NAME` the members of a room; and `stamp`, new with each change |
//! | `P:session:ID` | string | the node that has this Engine.IO session; expires with the claim |
//! | `P:{nodes}:sweeper` | string | who may walk all buckets, a line, and until when, in ms; expires then |
//!
//! A record is twelve lines: state (`a` available, `h` held, `b` booked, `c` blocked), version, start and end of the slot in
//! ms, its label, user, token, when the hold began, when it ends, when it was first to end (ms), the version it first
//! took, and staff's JSON, digit for digit, which may have line ends of its own. What does not apply is empty.

use std::sync::Arc;

use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde_json::value::RawValue;

use crate::domain::event::Position;
use crate::domain::ids::parse_id;
use crate::domain::{Bucket, Day, SiteId, SpaceId, SpaceKey, UserId};
use crate::store::{Message, MessageKind, Topic};

/// The version of the payloads' format.
const FORMAT: &str = "1";

/// The channel of a topic.
pub fn channel(prefix: &str, topic: Topic) -> String {
    of_topic(prefix, "t", topic)
}

/// The topic of a channel; `None` when it is no channel under the prefix.
pub fn topic_of_channel(prefix: &str, channel: &str) -> Option<Topic> {
    let rest = channel.strip_prefix(prefix)?.strip_prefix(":{b")?;
    let (bucket, rest) = rest.split_once("}:t")?;
    let topic = match rest.strip_prefix(':') {
        None => Topic::Bucket(Bucket::all().find(|known| known.get().to_string() == bucket)?),
        Some(rest) => {
            let (site, space) = rest.split_once(':')?;
            Topic::Space(space_key(site, space)?)
        }
    };
    // Only the canonical name is one: another bucket's, or other digits, are not.
    (self::channel(prefix, topic) == channel).then_some(topic)
}

/// Reads a payload; `None` when it is of another format.
pub fn parse_message(payload: &[u8]) -> Option<Message> {
    let mut parts = std::str::from_utf8(payload).ok()?.splitn(5, '\n');
    if parts.next()? != FORMAT {
        return None;
    }
    let epoch = parts.next()?.into();
    let version = parts.next()?.parse().ok()?;
    let kind = parse_kind(parts.next()?)?;
    let payload = RawValue::from_string(parts.next()?.into()).ok()?.into();
    Some(Message { at: Position { epoch, version }, kind, payload })
}

/// The kind of a name.
pub(super) fn parse_kind(name: &str) -> Option<MessageKind> {
    let name: serde::de::value::StrDeserializer<'_, serde::de::value::Error> = name.into_deserializer();
    MessageKind::deserialize(name).ok()
}

/// The space of two texts.
pub(super) fn space_key(site: &str, space: &str) -> Option<SpaceKey> {
    Some(SpaceKey { site: SiteId::new(parse_id(site)?)?, space: SpaceId::new(parse_id(space)?)? })
}

/// Names keys under a prefix.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: Arc<str>,
}

impl Keys {
    /// `None` when the prefix has a brace: it would take the place of the hash tags.
    pub(super) fn new(prefix: &str) -> Option<Self> {
        (!prefix.contains(['{', '}'])).then(|| Self { prefix: prefix.into() })
    }

    pub(super) fn channel(&self, topic: Topic) -> String {
        channel(&self.prefix, topic)
    }

    pub(super) fn epoch(&self, bucket: Bucket) -> String {
        self.of_bucket(bucket, "epoch")
    }

    pub(super) fn head(&self, topic: Topic) -> String {
        of_topic(&self.prefix, "head", topic)
    }

    pub(super) fn log(&self, topic: Topic) -> String {
        of_topic(&self.prefix, "log", topic)
    }

    pub(super) fn day(&self, space: SpaceKey, day: Day) -> String {
        format!("{}:{}", of_topic(&self.prefix, "day", Topic::Space(space)), compact(day))
    }

    pub(super) fn days(&self, space: SpaceKey) -> String {
        of_topic(&self.prefix, "days", Topic::Space(space))
    }

    pub(super) fn ends(&self, bucket: Bucket) -> String {
        self.of_bucket(bucket, "ends")
    }

    pub(super) fn holds(&self, bucket: Bucket) -> String {
        self.of_bucket(bucket, "holds")
    }

    pub(super) fn spaces(&self, bucket: Bucket) -> String {
        self.of_bucket(bucket, "spaces")
    }

    pub(super) fn answer(&self, bucket: Bucket, caller: &UserId, key: &str) -> String {
        // The length keeps a colon in a user's id apart from the one after it.
        self.of_bucket(bucket, &format!("answer:{}:{caller}:{key}", caller.as_str().len()))
    }

    pub(super) fn call(&self, caller: &UserId, key: &str) -> String {
        self.of_bucket(caller.bucket(), &format!("call:{}:{caller}:{key}", caller.as_str().len()))
    }

    pub(super) fn user(&self, user: &UserId) -> String {
        self.of_bucket(user.bucket(), &format!("user:{user}"))
    }

    pub(super) fn mail(&self, user: &UserId) -> String {
        self.of_bucket(user.bucket(), &format!("mail:{user}"))
    }

    pub(super) fn leases(&self) -> String {
        format!("{}:{{nodes}}:leases", self.prefix)
    }

    pub(super) fn node(&self, id: &str) -> String {
        format!("{}:{{nodes}}:node:{id}", self.prefix)
    }

    pub(super) fn sweeper(&self) -> String {
        format!("{}:{{nodes}}:sweeper", self.prefix)
    }

    #[cfg(feature = "server")]
    pub(super) fn session(&self, engine_id: &str) -> String {
        format!("{}:session:{engine_id}", self.prefix)
    }

    fn of_bucket(&self, bucket: Bucket, name: &str) -> String {
        format!("{}:{{b{}}}:{name}", self.prefix, bucket.get())
    }
}

/// A day as keys have it, `YYYYMMDD`.
pub(super) fn compact(day: Day) -> String {
    day.date().strftime("%Y%m%d").to_string()
}

/// The day of [`compact`].
pub(super) fn parse_compact(text: &str) -> Option<Day> {
    let (year, rest) = text.split_at_checked(4)?;
    let (month, day) = rest.split_at_checked(2)?;
    Day::parse(&format!("{year}-{month}-{day}"))
}

fn of_topic(prefix: &str, name: &str, topic: Topic) -> String {
    let bucket = topic.bucket().get();
    match topic {
        Topic::Bucket(_) => format!("{prefix}:{{b{bucket}}}:{name}"),
        Topic::Space(SpaceKey { site, space }) => format!("{prefix}:{{b{bucket}}}:{name}:{site}:{space}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space() -> SpaceKey {
        space_key("3", "7").unwrap()
    }

    #[test]
    fn a_channel_names_one_topic() {
        let bucket = space().bucket();
        for topic in [Topic::Space(space()), Topic::Bucket(bucket), Topic::Bucket(Bucket::EVERYONE)] {
            assert_eq!(topic_of_channel("p:x", &channel("p:x", topic)), Some(topic));
        }
        assert_eq!(channel("slotcast", Topic::Space(space())), format!("slotcast:{{b{}}}:t:3:7", bucket.get()));
        assert_eq!(channel("slotcast", Topic::Bucket(Bucket::EVERYONE)), "slotcast:{b0}:t");
        let another = (bucket.get() + 1) % 128;
        for bad in [
            "slotcast:{b0}",
            "slotcast:{b00}:t",
            "slotcast:{b128}:t",
            "slotcast:{b0}:tx",
            "other:{b0}:t",
            "slotcast:{b0}:t:3",
            "slotcast:{b0}:t:3:07",
            &format!("slotcast:{{b{another}}}:t:3:7"),
        ] {
            assert_eq!(topic_of_channel("slotcast", bad), None, "{bad}");
        }
    }

    #[test]
    fn a_payload_is_five_parts() {
        let message = parse_message(b"1\nabc\n17\nslot_update\n{\"a\":\n 1.0}").unwrap();
        assert_eq!(message.at, Position { epoch: "abc".into(), version: 17 });
        assert_eq!((message.kind, message.payload.get()), (MessageKind::SlotUpdate, "{\"a\":\n 1.0}"));
        for bad in [
            "",
            "2\nabc\n17\nslot_update\n{}",
            "1\nabc\nx\nslot_update\n{}",
            "1\nabc\n17\nnothing\n{}",
            "1\nabc\n17\nfreed\n{",
        ] {
            assert!(parse_message(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    #[test]
    fn keys_of_a_bucket_share_its_tag() {
        let keys = Keys::new("slotcast").unwrap();
        let day = Day::parse("0987-01-02").unwrap();
        let tag = format!("{{b{}}}", space().bucket().get());
        for key in [keys.head(Topic::Space(space())), keys.day(space(), day), keys.ends(space().bucket())] {
            assert!(key.contains(&tag), "{key}");
        }
        assert!(keys.day(space(), day).ends_with(":09870102"));
        assert_eq!(parse_compact("09870102"), Some(day));
        let (one, other) = (UserId::new("a").unwrap(), UserId::new("a:b").unwrap());
        let bucket = space().bucket();
        assert_ne!(keys.answer(bucket, &one, "b:c"), keys.answer(bucket, &other, "c"));
        assert!(Keys::new("a{b}").is_none());
    }
}
