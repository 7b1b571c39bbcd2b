//! Checks the values that both a node and the scheduled function read.

use crate::store::redis::Endpoint;

/// The most days that the journal may be kept: ten years.
pub(super) const MAX_JOURNAL_DAYS: u32 = 3_650;

/// The result of a parser: the value, or what would have been allowed.
pub(super) type Parsed<T> = Result<T, String>;

/// The URL of a Redis, in the form that the client takes. The error never quotes it.
pub(super) fn redis_url(text: &str) -> Parsed<String> {
    Endpoint::parse(text).map(|_| text.into()).map_err(|error| error.to_string())
}

/// The prefix of keys and channels. It has no braces: these would change which server of a Cluster has a key.
pub(super) fn redis_prefix(text: &str) -> Parsed<String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte);
    if (1..=64).contains(&text.len()) && text.bytes().all(is_plain) {
        return Ok(text.into());
    }
    Err("must be 1 to 64 letters, digits, `_`, `-`, `.` or `:`".into())
}
