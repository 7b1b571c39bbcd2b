//! The place of a journal's reader: opaque to clients, and short enough for a query.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::domain::Bucket;

/// The first byte of a cursor. Another number stands for another encoding.
const SHAPE: u8 = 1;

/// The reader's place in each bucket that it reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor(BTreeMap<Bucket, Place>);

/// The last entry of a bucket that a reader has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The entry's number; 0 before the first one.
    pub number: u64,
    /// The mark of the entry's epoch; [`UNKNOWN`] if the reader has not seen the entry.
    pub mark: u32,
}

/// The mark of an unknown epoch.
pub const UNKNOWN: u32 = 0;

/// Tells epochs apart in a cursor: FNV-1a, never [`UNKNOWN`].
pub fn mark_of(epoch: &str) -> u32 {
    let hash = epoch.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash.max(1)
}

impl Cursor {
    /// The place in a bucket; `None` if this cursor has none.
    pub fn place(&self, bucket: Bucket) -> Option<Place> {
        self.0.get(&bucket).copied()
    }

    /// Sets the place in a bucket.
    pub fn set(&mut self, bucket: Bucket, place: Place) {
        self.0.insert(bucket, place);
    }

    /// The cursor as clients keep it: base64url of a byte for the encoding, then for each bucket its number, the entry's
    /// number in groups of seven bits, and the four bytes of the mark unless the entry's number is 0.
    pub fn encode(&self) -> String {
        let mut bytes = vec![SHAPE];
        for (bucket, Place { number, mark }) in &self.0 {
            bytes.push(bucket.get());
            push_number(&mut bytes, *number);
            if *number > 0 {
                bytes.extend(mark.to_be_bytes());
            }
        }
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads what [`Self::encode`] wrote; `None` for anything else.
    pub fn decode(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let mut rest = bytes.strip_prefix(&[SHAPE])?.iter().copied();
        let mut places = BTreeMap::new();
        while let Some(bucket) = rest.next() {
            let bucket = Bucket::all().find(|known| known.get() == bucket)?;
            let number = take_number(&mut rest)?;
            let mut mark = [0; 4];
            if number > 0 {
                for byte in &mut mark {
                    *byte = rest.next()?;
                }
            }
            let place = Place { number, mark: u32::from_be_bytes(mark) };
            // Each bucket comes once, in ascending order, so that a cursor has one spelling.
            if places.last_key_value().is_some_and(|(last, _)| *last >= bucket) {
                return None;
            }
            places.insert(bucket, place);
        }
        Some(Self(places))
    }
}

fn push_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Reads a number below 2^53, which every entry's number is. `None` for a larger number, an unfinished one, or one with
/// needless bytes.
fn take_number(bytes: &mut impl Iterator<Item = u8>) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..8).map(|group| group * 7) {
        let byte = bytes.next()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let is_shortest = shift == 0 || byte != 0;
            return (is_shortest && number < 1 << 53).then_some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(places: &[(usize, u64, u32)]) -> Cursor {
        let buckets: Vec<Bucket> = Bucket::all().collect();
        let mut cursor = Cursor::default();
        for &(bucket, number, mark) in places {
            cursor.set(buckets[bucket], Place { number, mark });
        }
        cursor
    }

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        let all: Vec<(usize, u64, u32)> = (0..128).map(|bucket| (bucket, (1 << 53) - 1, u32::MAX)).collect();
        for places in [&[][..], &[(3, 0, 0)], &[(0, 1, 7), (5, 300, UNKNOWN), (127, 0, 0)], &all] {
            let cursor = cursor(places);
            let text = cursor.encode();
            assert_eq!(Cursor::decode(&text), Some(cursor));
            assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{text}");
            assert!(text.len() < 2_300, "{}", text.len());
        }
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        let bytes = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let twice = bytes(&[SHAPE, 3, 0, 3, 0]);
        let beyond = bytes(&[SHAPE, 128, 0]);
        let cut = bytes(&[SHAPE, 3, 5, 0, 0, 0]);
        let endless = bytes(&[SHAPE, 3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0]);
        let longer = bytes(&[SHAPE, 3, 0x85, 0, 0, 0, 0, 1]);
        for bad in ["", "x", "AQ==", "****", "AA", "Ag", &twice, &beyond, &cut, &endless, &longer] {
            assert_eq!(Cursor::decode(bad), None, "{bad}");
        }
        assert_eq!(Cursor::decode("AQ"), Some(Cursor::default()));
    }

    #[test]
    fn marks_tell_epochs_apart() {
        let marks: std::collections::BTreeSet<u32> = (0..1_000).map(|n| mark_of(&format!("{n:032x}"))).collect();
        assert_eq!(marks.len(), 1_000);
        assert!(!marks.contains(&UNKNOWN));
    }
}
