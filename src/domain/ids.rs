//! Types of ids. Each is made only from an allowed value, so no later code checks it again.

use std::fmt;
use std::sync::Arc;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The largest integer that every client reads exactly (2^53 - 1).
pub const MAX_ID: u64 = (1 << 53) - 1;

/// The longest user id, in bytes.
pub const MAX_USER_ID_BYTES: usize = 128;

/// The number of buckets that spaces and users are hashed into. It is a part of the stored format and never changes.
pub const BUCKETS: u8 = 128;

/// Parses digits without a sign or a leading zero, from 1 to [`MAX_ID`].
pub fn parse_id(text: &str) -> Option<u64> {
    let canonical = !text.starts_with('0') && !text.is_empty() && text.len() <= 16;
    if !canonical || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|id| *id <= MAX_ID)
}

/// Reads an id as a JSON number or a string of digits; anything else is an error that says so.
struct IdVisitor;

impl Visitor<'_> for IdVisitor {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from 1 to {MAX_ID}, or its digits as a string")
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<u64, E> {
        (1..=MAX_ID)
            .contains(&value)
            .then_some(value)
            .ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(value), &self))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<u64, E> {
        parse_id(value).ok_or_else(|| E::invalid_value(de::Unexpected::Str(value), &self))
    }
}

macro_rules! numeric_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(u64);

        impl $name {
            /// Wraps a number from 1 to [`MAX_ID`]; `None` outside of it.
            pub fn new(value: u64) -> Option<Self> {
                (1..=MAX_ID).contains(&value).then_some(Self(value))
            }

            /// The number.
            pub fn get(self) -> u64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = ();

            fn from_str(text: &str) -> Result<Self, ()> {
                parse_id(text).map(Self).ok_or(())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(IdVisitor).map(Self)
            }
        }
    };
}

numeric_id! {
    /// A bookable space within its site (`spazioId`, `idSpazio` on the wire).
    SpaceId
}
numeric_id! {
    /// A site (`sedeId` on the wire).
    SiteId
}

/// A space as the whole system knows it: the pair of site and space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpaceKey {
    /// The site of the space.
    pub site: SiteId,
    /// The space.
    pub space: SpaceId,
}

impl SpaceKey {
    /// The name of its Socket.IO room, `spazio_{spazioId}_sede_{sedeId}`.
    pub fn room(&self) -> String {
        format!("spazio_{}_sede_{}", self.space, self.site)
    }

    /// The space whose room has this name; `None` for any other name.
    pub fn of_room(name: &str) -> Option<Self> {
        let (space, site) = name.strip_prefix("spazio_")?.split_once("_sede_")?;
        Some(Self { space: space.parse().ok()?, site: site.parse().ok()? })
    }

    /// The bucket of all keys of the space.
    pub fn bucket(&self) -> Bucket {
        Bucket::of(&format!("s:{}:{}", self.site, self.space))
    }
}

impl fmt::Display for SpaceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.site, self.space)
    }
}

/// The id that stands for a guest inside one process. It never leaves it.
const GUEST: &str = "\u{0}guest";

/// A user. Ids compare as strings, so "7" and 7 are one user; an id of digits is sent as a number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(Arc<str>);

impl UserId {
    /// Takes any text of 1 to [`MAX_USER_ID_BYTES`] bytes without control characters.
    pub fn new(text: &str) -> Option<Self> {
        let fits = (1..=MAX_USER_ID_BYTES).contains(&text.len());
        (fits && !text.chars().any(char::is_control)).then(|| Self(text.into()))
    }

    /// The id of a guest, who has none. Its control character keeps any token from carrying it.
    pub fn guest() -> Self {
        Self(GUEST.into())
    }

    /// Whether the id is a guest's.
    pub fn is_guest(&self) -> bool {
        &*self.0 == GUEST
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The bucket of the user's log and commands.
    pub fn bucket(&self) -> Bucket {
        Bucket::of(&format!("u:{}", self.0))
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for UserId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match parse_id(&self.0) {
            Some(number) => serializer.serialize_u64(number),
            None => serializer.serialize_str(&self.0),
        }
    }
}

impl<'de> Deserialize<'de> for UserId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct UserVisitor;

        impl Visitor<'_> for UserVisitor {
            type Value = UserId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a user id: a whole number, or 1 to {MAX_USER_ID_BYTES} bytes of text")
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<UserId, E> {
                Ok(UserId(value.to_string().into()))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<UserId, E> {
                Ok(UserId(value.to_string().into()))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<UserId, E> {
                UserId::new(value).ok_or_else(|| E::invalid_value(de::Unexpected::Str(value), &self))
            }
        }

        deserializer.deserialize_any(UserVisitor)
    }
}

/// A slot of a day, numbered from 1 at opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct SlotNumber(u16);

impl SlotNumber {
    /// The largest number that any schedule can have: one-minute slots on a day of 25 hours.
    pub const MAX: u16 = 1500;

    /// Wraps a number from 1 to [`Self::MAX`].
    pub fn new(value: u64) -> Option<Self> {
        let number = u16::try_from(value).ok()?;
        (1..=Self::MAX).contains(&number).then_some(Self(number))
    }

    /// The number.
    pub fn get(self) -> u16 {
        self.0
    }

    /// Its place in a day's list of slots, from 0.
    pub fn index(self) -> usize {
        usize::from(self.0) - 1
    }
}

impl fmt::Display for SlotNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for SlotNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let id = deserializer.deserialize_any(IdVisitor)?;
        // A number beyond every schedule is out of range, not malformed. It becomes the largest number, and the caller
        // refuses it.
        Ok(Self(u16::try_from(id).unwrap_or(u16::MAX)))
    }
}

/// The secret that a hold's owner presents to book, release or extend it.
#[derive(Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct HoldToken(Arc<str>);

impl HoldToken {
    /// Writes 16 random bytes as 32 hexadecimal digits.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(format!("{:032x}", u128::from_be_bytes(bytes)).into())
    }

    /// The token as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for HoldToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HoldToken(..)")
    }
}

impl<'de> Deserialize<'de> for HoldToken {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() || text.len() > 128 {
            return Err(de::Error::custom("a holdToken has 1 to 128 bytes"));
        }
        Ok(Self(text.into()))
    }
}

/// One of the [`BUCKETS`] partitions of all state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket(u8);

impl Bucket {
    /// The bucket of messages to everyone.
    pub const EVERYONE: Bucket = Bucket(0);

    /// All buckets, in order.
    pub fn all() -> impl Iterator<Item = Bucket> {
        (0..BUCKETS).map(Bucket)
    }

    /// The number, from 0.
    pub fn get(self) -> u8 {
        self.0
    }

    /// FNV-1a is the same in every build and language. Folding it spreads short names over all buckets.
    fn of(name: &str) -> Bucket {
        let hash = name
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        let folded = (hash >> 32) ^ hash;
        Bucket((folded % u64::from(BUCKETS)) as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse<T: serde::de::DeserializeOwned>(json: &str) -> Option<T> {
        serde_json::from_str(json).ok()
    }

    #[test]
    fn an_id_is_a_whole_number_or_its_digits() {
        for good in ["7", "\"7\"", "9007199254740991", "\"9007199254740991\""] {
            assert!(parse::<SpaceId>(good).is_some(), "{good}");
        }
        for bad in [
            "0",
            "-1",
            "1.5",
            "1e3",
            "9007199254740992",
            "\"07\"",
            "\"\"",
            "\"-1\"",
            "\" 7\"",
            "\"7a\"",
            "true",
            "null",
            "[]",
            "{}",
            "1e400",
        ] {
            assert!(parse::<SpaceId>(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_user_is_the_same_as_a_number_and_as_a_string() {
        assert_eq!(parse::<UserId>("7"), parse::<UserId>("\"7\""));
        assert_eq!(serde_json::to_string(&UserId::new("7").unwrap()).unwrap(), "7");
        assert_eq!(serde_json::to_string(&UserId::new("anna").unwrap()).unwrap(), "\"anna\"");
        assert_eq!(serde_json::to_string(&UserId::new("007").unwrap()).unwrap(), "\"007\"");
        assert!(parse::<UserId>("\"\"").is_none());
        assert!(parse::<UserId>("1.5").is_none());
    }

    #[test]
    fn spaces_spread_over_all_buckets() {
        let mut seen = [0_u32; BUCKETS as usize];
        for id in 1..=12_800 {
            let key = SpaceKey { site: SiteId::new(1).unwrap(), space: SpaceId::new(id).unwrap() };
            seen[usize::from(key.bucket().get())] += 1;
        }
        assert!(seen.iter().all(|count| (40..=200).contains(count)), "{seen:?}");
    }
}
