//! The Lua scripts, one file each. A script's text is its first line, the text that it shares with others, and its own.
//!
//! The first line, `#!lua`, makes Redis check that all keys and channels of a script are in one slot, even on a single
//! server, and refuse the whole script if it could not write: read-only, without replicas, or out of memory. A script that
//! only reads has `flags=allow-oom`, so that boards are shown when memory is full. If Redis takes no writes for another
//! reason, such a script is sent with `flags=no-writes` instead, and fails only if it would have to begin an epoch.

use std::sync::LazyLock;

const COMMON: &str = include_str!("lua/common.lua");
const ACT: &str = include_str!("lua/act.lua");

/// The first line of scripts that only read, except that they may begin an epoch.
const READING: &str = "#!lua flags=allow-oom\n";

/// The first line of scripts that write nothing. Redis runs them even if it refuses all writes.
const READ_ONLY: &str = "#!lua flags=no-writes\n";

/// A script, with the hash by which the server knows it.
pub(super) struct Script {
    /// Its file, in errors.
    pub(super) name: &'static str,
    pub(super) text: String,
    pub(super) sha: String,
    /// Whether the script takes no version and tells nothing new. Then it may run on a server that is about to be replaced.
    pub(super) only_reads: bool,
    /// The script for a server that takes no writes, if the script writes only to begin an epoch.
    pub(super) reading: Option<Box<Script>>,
}

impl Script {
    fn new(name: &'static str, shared: &[&str], own: &str) -> Self {
        let (engine, own) = own.split_at(own.find('\n').map_or(0, |end| end + 1));
        // The ping first asks whether writes are taken, and then whether the server is there at all.
        let reading =
            (engine == READING || name == "ping").then(|| Box::new(Self::with_engine(name, READ_ONLY, shared, own)));
        Self { reading, ..Self::with_engine(name, engine, shared, own) }
    }

    fn with_engine(name: &'static str, engine: &str, shared: &[&str], own: &str) -> Self {
        let text = [&[engine], shared, &[own]].concat().concat();
        let sha = redis::Script::new(&text).get_hash().to_owned();
        Self { name, only_reads: engine.contains("flags="), text, sha, reading: None }
    }
}

macro_rules! scripts {
    ($($(#[$attribute:meta])* $constant:ident = $shared:expr, $name:literal;)*) => {
        $($(#[$attribute])* pub(super) static $constant: LazyLock<Script> =
            LazyLock::new(|| Script::new($name, $shared, include_str!(concat!("lua/", $name, ".lua"))));)*

        /// All of them.
        #[cfg(test)]
        fn all() -> Vec<&'static Script> {
            vec![$(&*$constant),*]
        }
    };
}

scripts! {
    HOLD = &[COMMON, ACT], "hold";
    BOOK = &[COMMON, ACT], "book";
    RELEASE = &[COMMON, ACT], "release";
    EXTEND = &[COMMON, ACT], "extend";
    UPDATE = &[COMMON, ACT], "update";
    REMEMBER_CALL = &[COMMON], "remember_call";
    DUE = &[COMMON], "due";
    EXPIRE = &[COMMON], "expire";
    PUT_SPACE = &[COMMON], "put_space";
    TRIM_JOURNAL = &[COMMON], "trim_journal";
    MOVE_READER = &[COMMON], "move_reader";
    FORGET_READ = &[COMMON], "forget_read";
    READ_DAY = &[COMMON], "read_day";
    USER_HOLDS = &[COMMON], "user_holds";
    READ_SCHEDULE = &[COMMON], "read_schedule";
    READ_SPACE = &[COMMON], "read_space";
    READ_LOG = &[COMMON], "read_log";
    READ_BUCKET = &[COMMON], "read_bucket";
    END_EPOCH = &[COMMON], "end_epoch";
    HEADS = &[COMMON], "heads";
    NOTIFY = &[COMMON], "notify";
    PUBLISH = &[COMMON], "publish";
    ANNOUNCE = &[COMMON], "announce";
    RECEIVED = &[COMMON], "received";
    MESSAGES = &[COMMON], "messages";
    REPORT_NODE = &[COMMON], "report_node";
    NODES = &[COMMON], "nodes";
    LEASE = &[COMMON], "lease";
    PING = &[COMMON], "ping";
    FIND_DAYS = &[COMMON], "find_days";
    INDEX_DAY = &[COMMON], "index_day";
    MARK_INDEXED = &[COMMON], "mark_indexed";
    #[cfg_attr(not(feature = "server"), allow(dead_code, reason = "of a command that the function does not have"))]
    MIGRATE_DAY = &[COMMON], "migrate_day";
    BEGIN_ERASURE = &[COMMON], "begin_erasure";
    ERASE_BOOKINGS = &[COMMON], "erase_bookings";
    ERASE_USER = &[COMMON], "erase_user";
    ERASE_LOG = &[COMMON], "erase_log";
    END_ERASURE = &[COMMON], "end_erasure";
    REPAIR = &[COMMON], "repair";
    CHECK = &[], "check";
    OPEN_BUCKET = &[COMMON], "open_bucket";
    OLD_NODES = &[COMMON], "old_nodes";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_begins_with_its_engine_once_and_never_guesses() {
        for script in all() {
            let engine = script.text.lines().next();
            let engines = ["#!lua", READING.trim_end(), READ_ONLY.trim_end()];
            assert!(engine.is_some_and(|engine| engines.contains(&engine)), "{}", script.name);
            assert_eq!(script.text.matches("#!lua").count(), 1, "{}", script.name);
            // `math.random` gives the same sequence in every process, so no epoch may be made of it.
            assert!(!script.text.contains("math.random"), "{}", script.name);
            assert!(!script.text.contains("tostring"), "numbers leave by `text`: {}", script.name);
        }
    }

    #[test]
    fn what_the_scripts_count_is_what_the_store_promises() {
        let length =
            format!("local LOG_LENGTH, KEEP_MILLIS = {}, {}", crate::store::LOG_LENGTH, crate::store::KEEP_MILLIS);
        assert!(COMMON.contains(&length));
        assert!(COMMON.contains(&format!("local CALLS_KEPT = {}", crate::store::CALLS_KEPT)));
        let people_kept = format!("tonumber(journal.days) + {}) * 86400000", crate::store::journal::PEOPLE_DAYS_MORE);
        assert!(COMMON.contains(&people_kept));
        let update = include_str!("lua/update.lua");
        assert!(update.contains(&format!("MAX_DAY_DATA_BYTES = {}", crate::domain::slot::MAX_DAY_DATA_BYTES)));
    }
}
