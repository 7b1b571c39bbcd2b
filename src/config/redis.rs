//! From text to checked value, for what both a node and the scheduled function read.

/// What a parser says: the value, or what would have been allowed.
pub(super) type Parsed<T> = Result<T, String>;

const REDIS_SCHEMES: &[&str] =
    &["redis", "rediss", "redis-cluster", "rediss-cluster", "redis-sentinel", "rediss-sentinel"];

/// The URL of a Redis. The error never quotes it.
pub(super) fn redis_url(text: &str) -> Parsed<String> {
    let is_known = |scheme: &str| REDIS_SCHEMES.contains(&scheme);
    match text.split_once("://") {
        Some((scheme, rest)) if is_known(scheme) && !rest.is_empty() => Ok(text.into()),
        _ => Err(format!("must be SCHEME://HOST:PORT, the scheme one of {}", REDIS_SCHEMES.join(", "))),
    }
}

/// What keys and channels begin with. No braces: they would change which node of a cluster has a key.
pub(super) fn redis_prefix(text: &str) -> Parsed<String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte);
    if (1..=64).contains(&text.len()) && text.bytes().all(is_plain) {
        return Ok(text.into());
    }
    Err("must be 1 to 64 letters, digits, `_`, `-`, `.` or `:`".into())
}
