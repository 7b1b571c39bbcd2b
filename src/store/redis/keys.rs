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
//! With a database number N other than 0 in `REDIS_URL`, `P@N` stands in place of `P` in the names of channels (not of
//! keys): Redis has one space of channels for all its databases.
//!
//! A payload is six parts, a line end (`\n`) between two: the format, `2`; the epoch; the version in decimal; the kind; one
//! line of JSON for nodes, an object that has `at`, the store's time in ms, and `owned` where the message is a `slot_update`
//! of a slot that a user has: `u` the user, `t` the hold's token, `g` when the hold began and `b` when the slot starts, in ms.
//! It may get more members (a reader ignores those that it does not know); and JSON, which is all that follows the fifth line end. Format 1, which 0.1 publishes,
//! and 0.2 while a node of 0.1 lives, has five parts: `1` in the first line, and no line for nodes. The kinds are the names
//! of [`MessageKind`]:
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
//! Under one epoch the versions of a topic are consecutive, and none names two contents. A message may be heard twice.
//! A process that was not connected does not hear it, and finds it in the log of the same topic.
//!
//! # Keys: for this store alone
//!
//! | key | type | content |
//! |---|---|---|
//! | `P:{bN}:fence` | hash | `format` of the bucket, `epoch`, and `replid`: the server's `master_replid` when it began; `indexed` where `bookings` and `places` have all that is stored. Only from format 2 on |
//! | `P:{bN}:epoch` | | in format 1 the fence: a hash with `epoch` and `replid`. From format 2 on a string, so that each script of 0.1 fails |
//! | `P:{bN}:head`, `P:{bN}:head:S:X` | hash | of a topic: `v` version; of a bucket also `f`, how many slots were ever freed in it; of a space also `r` revision (version of the last change of the schedule) and `j` schedule as JSON, empty when it was removed; `half` while a script is at work or after one that failed in its middle: what it was about, lines as `mark_of` in `lua/changes.lua` says, or `-`; `again`: the acts that were sent again within the last second or so, as `is_outrun` in `lua/topic.lua` says. Never expires |
//! | `P:{bN}:log`, `P:{bN}:log:S:X` | stream | of a topic: entry `<version>-0` with `e` epoch, `k` kind, `p` JSON, `t` instant in ms, `o` the member `owned` of the line for nodes; the last of an act also `a` the act's id and `r` its answer (token and end, a line each). The last 1,024, for 24 h after the last |
//! | `P:{b0}:everyone` | stream | as the log of bucket 0, of its messages to everyone only: the last 1,024 of these, for 24 h after the last |
//! | `P:{bN}:day:S:X:YYYYMMDD` | hash | slot number to record (below). Until 32 days after the day |
//! | `P:{bN}:days:S:X` | zset | the days that the space has slots on, `YYYYMMDD` as member and score |
//! | `P:{bN}:ends` | zset | score: a hold's end in ms; member: site, space, day, slot, user, token, label, a line each, and from format 2 on how long the hold lasts from when its end was set, in ms |
//! | `P:{bN}:holds` | zset | score 0; member: user, site, space, day, slot, token, end in ms, label, a line each |
//! | `P:{bN}:bookings` | zset | score 0; member of a slot that a user has booked: user, day, site, space, slot, start and end in ms, label, and when it was booked in ms (empty where 0.1 booked it), a line each. Of days past, some are removed with each booking |
//! | `P:{bN}:taken` | hash | what users are still to be told from whom acts on spaces of this bucket took slots: the user and the id of the notification, a line each, to its payload. 24 h after the last. Only from format 2 on |
//! | `P:{bN}:places` | zset | score: a day, `YYYYMMDD`; member of a space that has slots on it: `S:X:YYYYMMDD`. Removed 32 days after the day |
//! | `P:{bN}:spaces` | zset | score 0; member: space and site of a registered space, `X\|S` |
//! | `P:{bN}:calls:U` | hash | the last 256 calls of caller U under an Idempotency-Key in the spaces of this bucket: `kn` how many there were, `ksR` the digest at place R of the ring, `k` and a key's digest the call: its number, its instant in ms, epoch, version, token, end and the digest of the call, a line each. In U's own bucket also `cn`, `csR` and `c` and a digest: those in whichever space, number, instant and digest of the call. 24 h after the last |
//! | `P:{bN}:answer:L:U:K` | string | of format 1: what the call under the Idempotency-Key K of caller U (L bytes long) was answered: epoch, version, token, end, the call, a line each. 24 h |
//! | `P:{bN}:user:U` | hash | `sent`, `received`: sequences of the user's messages. Never expires; removed when the user is erased |
//! | `P:{bN}:mail:U` | stream | the user's messages: entry `<sequence>-0` with `j` JSON and `ends` instant in ms. The last 100, for 24 h |
//! | `P:{bN}:erasing:U` | string | while the user is being erased: the id that takes the place of the user's |
//! | `P:{bN}:journal` | stream | who did what in the bucket's spaces: entry `0-<number>`, numbers consecutive from 1, with `j` the entry, lines as `store/journal.rs` says. The last 5,000 or a few more (`SLOTCAST_JOURNAL_MAX`), 90 days (`SLOTCAST_JOURNAL_DAYS`); the last entry stays. Only from format 2 on |
//! | `P:{bN}:people:G` | hash | the people whom entries of a month name, G months since the year 0: `u` and a user the reference, `r` and a reference the user, `n` how many there were. Until the entries are gone |
//! | `P:{bN}:readers` | hash | where readers of the bucket's journal are, a field each: `webhook:NAME`, lines as `webhooks/place.rs` says. Never expires |
//! | `P:{nodes}:leases` | zset | score: a node's lease's end in ms; member: its id |
//! | `P:{nodes}:knows:2` | zset | as `leases`: of the nodes that know format 2 |
//! | `P:{nodes}:node:ID` | hash | its report, a field each, `room:NAME` the members of a room, `proof` the node's signature of its address, `lease` how long a lease lasts in ms; and `stamp`, new with each change |
//! | `P:{nodes}:indexer` | string | as `sweeper`: who fills `bookings` and `places` with what 0.1 stored |
//! | `P:{nodes}:reader:NAME` | string | as `sweeper`: who may read the journal as this reader |
//! | `P:{nodes}:sweeper` | string | who may walk all buckets, for how long, and until when, in ms, a line each; expires then |
//!
//! A record of format 2 is an object of JSON that begins with `{`; its members are texts, and those that do not apply are left
//! out: `s` state (`a` available, `h` held, `b` booked, `c` blocked), `v` version, `b` and `e` start and end of the slot in
//! ms, `l` its label, `u` user, `t` token, `g` when the hold began or the booking was made, `h` when it ends, `f` when it was first to end (ms), `n` how
//! long it lasts from when its end was set (ms), `w` and `x` version and epoch of the event that the hold or booking first
//! caused, `d` staff's JSON, digit for digit. Later versions may add members: a reader ignores those that it does not know.
//!
//! A record of format 1 is twelve lines: state (`a` available, `h` held, `b` booked, `c` blocked), version, start and end of the slot in
//! ms, its label, user, token, when the hold began, when it ends, when it was first to end (ms), the version it first
//! took, and staff's JSON, digit for digit, which may have line ends of its own. What does not apply is empty.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::domain::ids::parse_id;
use crate::domain::{Bucket, Day, Owned, Position, SiteId, SpaceId, SpaceKey, StoreTime, UserId};
use crate::store::{Message, MessageKind, Topic};

/// A bucket's hash tag: the text in braces in the names of all its keys.
#[cfg(feature = "server")]
pub(super) fn bucket_tag(bucket: Bucket) -> String {
    format!("{{b{}}}", bucket.get())
}

/// The beginning of all channels' names: the prefix, and the number of a database other than 0.
pub fn channel_prefix(prefix: &str, database: u8) -> String {
    if database == 0 { prefix.to_owned() } else { format!("{prefix}@{database}") }
}

/// The channel of a topic. `prefix` is a [`channel_prefix`].
pub fn channel(prefix: &str, topic: Topic) -> String {
    of_topic(prefix, "t", topic)
}

/// The topic of a channel; `None` if the name is not the name of a channel under the [`channel_prefix`].
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
    // Only the canonical name counts, with the topic's own bucket and no needless digits.
    (self::channel(prefix, topic) == channel).then_some(topic)
}

/// Reads a payload; `None` for another format.
pub fn parse_message(payload: &[u8]) -> Option<Message> {
    let (format, rest) = std::str::from_utf8(payload).ok()?.split_once('\n')?;
    let has_line_for_nodes = match format {
        "1" => false,
        "2" => true,
        _ => return None,
    };
    let mut parts = rest.splitn(if has_line_for_nodes { 5 } else { 4 }, '\n');
    let epoch = parts.next()?.into();
    let version = parts.next()?.parse().ok()?;
    let kind = MessageKind::parse(parts.next()?)?;
    let (written, owned) = if has_line_for_nodes { read_line(parts.next()?) } else { (None, None) };
    let payload = RawValue::from_string(parts.next()?.into()).ok()?.into();
    Some(Message { at: Position { epoch, version }, kind, payload, owned, written })
}

/// The instant and the slot's owner in the line for nodes.
fn read_line(line: &str) -> (Option<StoreTime>, Option<Arc<Owned>>) {
    #[derive(Deserialize)]
    struct ForNodes<'a> {
        at: i64,
        #[serde(borrow)]
        owned: Option<&'a RawValue>,
    }
    let Ok(line) = serde_json::from_str::<ForNodes<'_>>(line) else { return (None, None) };
    (Some(StoreTime::from_millis(line.at)), line.owned.and_then(|owned| parse_owned(owned.get())))
}

/// The owner of a slot in a message or log; `None` if there is none.
pub(super) fn parse_owned(json: &str) -> Option<Arc<Owned>> {
    serde_json::from_str(json).ok()
}

/// The space of two texts.
pub(super) fn space_key(site: &str, space: &str) -> Option<SpaceKey> {
    Some(SpaceKey { site: SiteId::new(parse_id(site)?)?, space: SpaceId::new(parse_id(space)?)? })
}

/// Makes the names of keys under a prefix.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: Arc<str>,
    channel_prefix: Arc<str>,
}

impl Keys {
    /// The names in a database. `None` if the prefix has a brace, which would replace the hash tags, or if it ends like
    /// the channels of a database.
    pub(super) fn new(prefix: &str, database: u8) -> Option<Self> {
        let names_database = prefix.rsplit_once('@').is_some_and(|(_, number)| number.parse::<u8>().is_ok());
        let channel_prefix = channel_prefix(prefix, database).into();
        (!prefix.contains(['{', '}']) && !names_database).then(|| Self { prefix: prefix.into(), channel_prefix })
    }

    pub(super) fn channel(&self, topic: Topic) -> String {
        channel(&self.channel_prefix, topic)
    }

    pub(super) fn fence(&self, bucket: Bucket) -> String {
        self.of_bucket(bucket, "fence")
    }

    /// The fence of format 1.
    pub(super) fn old_fence(&self, bucket: Bucket) -> String {
        self.of_bucket(bucket, "epoch")
    }

    pub(super) fn head(&self, topic: Topic) -> String {
        of_topic(&self.prefix, "head", topic)
    }

    pub(super) fn log(&self, topic: Topic) -> String {
        of_topic(&self.prefix, "log", topic)
    }

    /// The log of messages to everyone.
    pub(super) fn everyone(&self) -> String {
        self.of_bucket(Bucket::EVERYONE, "everyone")
    }

    pub(super) fn day(&self, space: SpaceKey, day: Day) -> String {
        self.day_of_text(space, &compact(day))
    }

    /// The key of a day that may not exist, spelt as in the list of days.
    pub(super) fn day_of_text(&self, space: SpaceKey, day: &str) -> String {
        format!("{}:{day}", of_topic(&self.prefix, "day", Topic::Space(space)))
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

    pub(super) fn bookings(&self, bucket: Bucket) -> String {
        self.of_bucket(bucket, "bookings")
    }

    pub(super) fn taken(&self, bucket: Bucket) -> String {
        self.of_bucket(bucket, "taken")
    }

    pub(super) fn places(&self, bucket: Bucket) -> String {
        self.of_bucket(bucket, "places")
    }

    pub(super) fn spaces(&self, bucket: Bucket) -> String {
        self.of_bucket(bucket, "spaces")
    }

    pub(super) fn journal(&self, bucket: Bucket) -> String {
        self.of_bucket(bucket, "journal")
    }

    /// The places of the journal's readers.
    pub(super) fn readers(&self, bucket: Bucket) -> String {
        self.of_bucket(bucket, "readers")
    }

    /// The people that the journal's entries of a generation name.
    pub(super) fn people(&self, bucket: Bucket, generation: u32) -> String {
        self.of_bucket(bucket, &format!("people:{generation}"))
    }

    pub(super) fn calls(&self, bucket: Bucket, caller: &UserId) -> String {
        self.of_bucket(bucket, &format!("calls:{caller}"))
    }

    /// Whether a key holds a caller's calls in a bucket.
    pub(super) fn is_calls(&self, bucket: Bucket, key: &str) -> bool {
        key.starts_with(&self.of_bucket(bucket, "calls:"))
    }

    /// The key of an answer in a bucket of format 1.
    pub(super) fn answer(&self, bucket: Bucket, caller: &UserId, key: &str) -> String {
        // The length tells a colon inside a user's id from the one after it.
        self.of_bucket(bucket, &format!("answer:{}:{caller}:{key}", caller.as_str().len()))
    }

    pub(super) fn user(&self, user: &UserId) -> String {
        self.of_bucket(user.bucket(), &format!("user:{user}"))
    }

    /// The id that replaces a user's during an erasure.
    pub(super) fn erasing(&self, user: &UserId) -> String {
        self.of_bucket(user.bucket(), &format!("erasing:{user}"))
    }

    pub(super) fn mail(&self, user: &UserId) -> String {
        self.of_bucket(user.bucket(), &format!("mail:{user}"))
    }

    /// The space and the day of a day's key.
    pub(super) fn parse_day(&self, key: &str) -> Option<(SpaceKey, Day)> {
        let mut parts = key.rsplitn(4, ':');
        let (day, space, site) = (parts.next()?, parts.next()?, parts.next()?);
        let (space, day) = (space_key(site, space)?, parse_compact(day)?);
        (self.day(space, day) == key).then_some((space, day))
    }

    /// Matches the keys of all days of a bucket.
    #[cfg(feature = "server")]
    pub(super) fn pattern_of_days(&self, bucket: Bucket) -> String {
        self.pattern_of_days_in(&format!("b{}", bucket.get()))
    }

    /// Matches the keys of all days of all buckets.
    pub(super) fn pattern_of_all_days(&self) -> String {
        self.pattern_of_days_in("b*")
    }

    fn pattern_of_days_in(&self, buckets: &str) -> String {
        let literal = |character: char| match character {
            '*' | '?' | '[' | ']' | '\\' => format!("\\{character}"),
            other => other.to_string(),
        };
        let prefix: String = self.prefix.chars().map(literal).collect();
        format!("{prefix}:{{{buckets}}}:day:*")
    }

    /// A new key each time, on which commands are tried.
    pub(super) fn check(&self, bucket: Bucket, kind: &str) -> String {
        self.of_bucket(bucket, &format!("check:{:016x}:{kind}", fastrand::u64(..)))
    }

    pub(super) fn leases(&self) -> String {
        format!("{}:{{nodes}}:leases", self.prefix)
    }

    /// The leases of the nodes that know a format.
    pub(super) fn leases_knowing(&self, format: u8) -> String {
        format!("{}:{{nodes}}:knows:{format}", self.prefix)
    }

    pub(super) fn node(&self, id: &str) -> String {
        format!("{}:{{nodes}}:node:{id}", self.prefix)
    }

    /// The node that fills the indexes for data of 0.1.
    pub(super) fn indexer(&self) -> String {
        format!("{}:{{nodes}}:indexer", self.prefix)
    }

    /// The node that may read the journal as a reader.
    pub(super) fn reader_lease(&self, reader: &str) -> String {
        format!("{}:{{nodes}}:reader:{reader}", self.prefix)
    }

    pub(super) fn sweeper(&self) -> String {
        format!("{}:{{nodes}}:sweeper", self.prefix)
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
    fn a_database_has_channels_of_its_own() {
        let names = |database| channel(&channel_prefix("slotcast", database), Topic::Bucket(Bucket::EVERYONE));
        assert_eq!((names(0), names(3)), ("slotcast:{b0}:t".into(), "slotcast@3:{b0}:t".into()));
        assert_eq!(topic_of_channel("slotcast", &names(3)), None);
        assert_eq!(topic_of_channel("slotcast@3", &names(0)), None);
        assert!(Keys::new("slotcast@3", 0).is_none() && Keys::new("slotcast@eu", 0).is_some());
    }

    #[test]
    fn a_payload_of_format_2_has_a_line_for_nodes() {
        let message = parse_message(b"2\nabc\n17\nfreed\n{\"at\":5,\"new\":1}\n{\"a\":\n 1.0}").unwrap();
        assert_eq!(message.at, Position { epoch: "abc".into(), version: 17 });
        assert_eq!((message.kind, message.payload.get()), (MessageKind::Freed, "{\"a\":\n 1.0}"));
        assert_eq!((message.written, message.owned), (Some(StoreTime::from_millis(5)), None));
        let owned = |line: &str| {
            let message = parse_message(format!("2\nabc\n17\nslot_update\n{line}\n{{}}").as_bytes()).unwrap();
            (message.written.map(StoreTime::as_millis), message.owned.map(|owned| owned.user.to_string()))
        };
        assert_eq!(owned(r#"{"at":5,"owned":{"u":"7","t":"x","g":1,"b":2,"n":0}}"#), (Some(5), Some("7".into())));
        for bad in ["7", "{}", r#"{"u":"7"}"#, r#"{"u":"","b":2}"#, "null"] {
            assert_eq!(owned(&format!(r#"{{"at":5,"owned":{bad}}}"#)), (Some(5), None), "{bad}");
        }
        assert!(parse_message(b"2\nabc\n17\nfreed\n{}").is_none());
    }

    #[test]
    fn a_payload_of_format_1_is_five_parts() {
        let message = parse_message(b"1\nabc\n17\nslot_update\n{\"a\":\n 1.0}").unwrap();
        assert_eq!(message.at, Position { epoch: "abc".into(), version: 17 });
        assert_eq!((message.kind, message.payload.get()), (MessageKind::SlotUpdate, "{\"a\":\n 1.0}"));
        for bad in [
            "",
            "3\nabc\n17\nslot_update\n{}\n{}",
            "1\nabc\nx\nslot_update\n{}",
            "1\nabc\n17\nnothing\n{}",
            "1\nabc\n17\nfreed\n{",
        ] {
            assert!(parse_message(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    #[test]
    fn keys_of_a_bucket_share_its_tag() {
        let keys = Keys::new("slotcast", 0).unwrap();
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
        assert!(Keys::new("a{b}", 0).is_none());
    }
}
