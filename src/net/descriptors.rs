//! How many files this process may have open. Each connection is one.

use std::io;

/// 1/10 of all files, but at least [`RESERVED`], is kept for the store, logs, metrics and calls to other nodes.
const RESERVED_SHARE: u64 = 10;

/// The fewest files that are kept, if the limit is at least twice that.
const RESERVED: u64 = 64;

/// Raises this process's limit to the most that the system allows, and answers the new limit. Shells and service
/// managers often start programs with 1,024, and a node would serve no more clients than that.
///
/// # Errors
///
/// The system refuses. The limit stays the same.
pub fn raise_limit() -> io::Result<u64> {
    rlimit::increase_nofile_limit(u64::MAX)
}

/// How many connections of clients the present limit allows, besides the files that the node itself needs.
pub fn room_for_connections() -> usize {
    let limit = rlimit::getrlimit(rlimit::Resource::NOFILE).map_or(u64::MAX, |(soft, _)| soft);
    usize::try_from(without_reserve(limit)).unwrap_or(usize::MAX)
}

fn without_reserve(limit: u64) -> u64 {
    limit - (limit / RESERVED_SHARE).max(RESERVED).min(limit / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_files_are_kept_for_the_node_itself() {
        for (limit, room) in [(0, 0), (100, 50), (128, 64), (1_024, 922), (20_000, 18_000)] {
            assert_eq!(without_reserve(limit), room, "{limit}");
        }
        assert!(without_reserve(u64::MAX) > 0);
    }
}
