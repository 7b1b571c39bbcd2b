//! The Lua scripts, one file each. The text of a script is its first line, the shared files that it needs, and its own
//! file.
//!
//! The first line, `#!lua`, makes Redis check that all keys and channels of a script are in one slot, even on a single
//! server, and refuse the whole script if it could not write: read-only, without replicas, or out of memory. A script that
//! only reads has `flags=allow-oom`, so that boards are shown when memory is full. If Redis takes no writes for another
//! reason, such a script is sent with `flags=no-writes` instead, and fails only if it would have to begin an epoch.

use std::sync::LazyLock;

const COMMON: &str = include_str!("lua/common.lua");
const TOPIC: &str = include_str!("lua/topic.lua");
const RECORDS: &str = include_str!("lua/records.lua");
const CHANGES: &str = include_str!("lua/changes.lua");
const INDEXES: &str = include_str!("lua/indexes.lua");
const CALLS: &str = include_str!("lua/calls.lua");
const JOURNAL: &str = include_str!("lua/journal.lua");
const ACT: &str = include_str!("lua/act.lua");

/// The shared files of a script that changes a space. Redis makes every function of a script anew each time the script
/// runs, so a script has no more functions than it calls.
const CHANGING: [&str; 6] = [COMMON, TOPIC, RECORDS, CHANGES, INDEXES, JOURNAL];

/// The shared files of the acts on slots.
const ACTING: [&str; 8] = [COMMON, TOPIC, RECORDS, CHANGES, INDEXES, JOURNAL, CALLS, ACT];

/// The first line of scripts that only read, except that they may begin an epoch.
const READING: &str = "#!lua flags=allow-oom\n";

/// The first line of scripts that write nothing. Redis runs them even if it refuses all writes.
const READ_ONLY: &str = "#!lua flags=no-writes\n";

/// A script, with the hash by which the server knows it.
pub(super) struct Script {
    /// The name of its file, for errors.
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

        /// All scripts.
        #[cfg(test)]
        fn all() -> Vec<&'static Script> {
            vec![$(&*$constant),*]
        }
    };
}

scripts! {
    HOLD = &ACTING, "hold";
    BOOK = &ACTING, "book";
    RELEASE = &ACTING, "release";
    EXTEND = &ACTING, "extend";
    UPDATE = &ACTING, "update";
    REMEMBER_CALL = &[COMMON, CALLS], "remember_call";
    DUE = &[COMMON], "due";
    EXPIRE = &CHANGING, "expire";
    PUT_SPACE = &CHANGING, "put_space";
    TRIM_JOURNAL = &[COMMON], "trim_journal";
    MOVE_READER = &[COMMON], "move_reader";
    FORGET_READ = &[COMMON], "forget_read";
    READ_DAY = &[COMMON, RECORDS], "read_day";
    USER_HOLDS = &[COMMON], "user_holds";
    READ_SCHEDULE = &[COMMON], "read_schedule";
    READ_SPACE = &[COMMON, RECORDS], "read_space";
    READ_LOG = &[COMMON], "read_log";
    READ_BUCKET = &[COMMON], "read_bucket";
    END_EPOCH = &[COMMON], "end_epoch";
    HEADS = &[COMMON], "heads";
    NOTIFY = &[COMMON, TOPIC], "notify";
    PUBLISH = &[COMMON, TOPIC], "publish";
    ANNOUNCE = &[COMMON, TOPIC], "announce";
    RECEIVED = &[COMMON], "received";
    MESSAGES = &[COMMON], "messages";
    REPORT_NODE = &[COMMON], "report_node";
    NODES = &[COMMON], "nodes";
    LEASE = &[COMMON], "lease";
    PING = &[COMMON], "ping";
    FIND_DAYS = &[COMMON], "find_days";
    INDEX_DAY = &[COMMON, RECORDS, INDEXES], "index_day";
    MARK_INDEXED = &[COMMON], "mark_indexed";
    #[cfg_attr(not(feature = "server"), allow(dead_code, reason = "of a command that the function does not have"))]
    MIGRATE_DAY = &[COMMON, RECORDS], "migrate_day";
    BEGIN_ERASURE = &[COMMON], "begin_erasure";
    ERASE_BOOKINGS = &[COMMON, RECORDS, INDEXES], "erase_bookings";
    ERASE_USER = &[COMMON], "erase_user";
    ERASE_LOG = &[COMMON], "erase_log";
    END_ERASURE = &[COMMON], "end_erasure";
    REPAIR = &[COMMON, TOPIC, RECORDS, CHANGES, INDEXES, CALLS], "repair";
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

    /// The names that a file gives to others: its functions, and its values outside of functions.
    fn names_of(text: &str) -> Vec<&str> {
        let mut names = Vec::new();
        for line in text.lines() {
            if let Some(function) = line.strip_prefix("local function ") {
                names.extend(function.split('(').next());
            } else if let Some(values) = line.strip_prefix("local ") {
                names.extend(values.split(" =").next().unwrap_or_default().split(", "));
            }
        }
        names
    }

    /// The names that a text uses. The names of fields, the names that it sets, and its comments are left out.
    fn words_of(text: &str) -> std::collections::HashSet<&str> {
        let is_of_a_name = |character: char| character.is_ascii_alphanumeric() || character == '_' || character == '.';
        let code = text.lines().filter(|line| !line.trim_start().starts_with("--"));
        let read = code.flat_map(|line| line.split_inclusive(" = ")).map(|piece| match piece.strip_suffix(" = ") {
            Some(piece) => piece.trim_end_matches(is_of_a_name),
            None => piece,
        });
        read.flat_map(|piece| piece.split(|character| !is_of_a_name(character)))
            .filter(|word| !word.is_empty())
            .collect()
    }

    /// Redis would report an unknown name only when the line with the name runs.
    #[test]
    fn every_script_has_what_it_names() {
        // `act.lua` is left out, because other scripts use its names, such as `act`, for values of their own.
        let [shared @ .., _] = ACTING;
        for script in all().into_iter().filter(|script| script.name != "check") {
            let (has, uses) = (names_of(&script.text), words_of(&script.text));
            for name in shared.into_iter().flat_map(names_of).filter(|name| uses.contains(name)) {
                let is_own = script.text.contains(&format!("  local {name} ")) || has.contains(&name);
                assert!(is_own, "{} names {name}, and lacks the file that has it", script.name);
            }
        }
    }

    #[test]
    fn what_the_scripts_count_is_what_the_store_promises() {
        let length =
            format!("local LOG_LENGTH, KEEP_MILLIS = {}, {}", crate::store::LOG_LENGTH, crate::store::KEEP_MILLIS);
        assert!(COMMON.contains(&length));
        assert!(CALLS.contains(&format!("local CALLS_KEPT = {}", crate::store::CALLS_KEPT)));
        let people_kept = format!("tonumber(journal.days) + {}) * 86400000", crate::store::journal::PEOPLE_DAYS_MORE);
        assert!(JOURNAL.contains(&people_kept));
        let update = include_str!("lua/update.lua");
        assert!(update.contains(&format!("MAX_DAY_DATA_BYTES = {}", crate::domain::slot::MAX_DAY_DATA_BYTES)));
    }
}
