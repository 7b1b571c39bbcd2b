//! The version and the commit of this program.

/// The version and the commit, such as `0.1.0 (4f2a91c07d3e)`. A development build has the last commit with a `+`, because
/// it includes later changes, too.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("SLOTCAST_COMMIT"), ")");

/// The commit alone; `unknown` if neither `SLOTCAST_REVISION` nor git told it to the build.
pub const COMMIT: &str = env!("SLOTCAST_COMMIT");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commit_is_a_hash_or_unknown() {
        let hash = COMMIT.strip_suffix('+').unwrap_or(COMMIT);
        let is_hash = hash.len() >= 7 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        assert!(is_hash || COMMIT == "unknown", "{COMMIT}");
        assert!(VERSION.contains(COMMIT) && VERSION.starts_with(env!("CARGO_PKG_VERSION")), "{VERSION}");
    }
}
