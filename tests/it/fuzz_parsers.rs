//! Feeds every parser that meets the network with the kept corpus, with mutations of it, and with noise.
//!
//! `FUZZ_SECONDS` is how long all targets take together (default 3). A failure prints the smallest input that it found.
//! Put that into the target's folder in `tests/corpus/`, where it is tried first from then on. `fuzz/` searches the
//! same targets by coverage.

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
use slotcast::clock;
use slotcast::fuzzing::{TARGETS, Target};

/// The longest input that is made. Any fault with a longer input also shows with a short one, except for limits, which have
/// tests of their own.
const MAX_BYTES: usize = 4 * 1024;

/// Pieces that parsers trip over.
const FRAGMENTS: &[&str] = &[
    "\"",
    "\\",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "null",
    "true",
    "0",
    "-1",
    "-0",
    "1.0",
    "1e3",
    "1e400",
    "00",
    "9007199254740991",
    "9007199254740992",
    "18446744073709551616",
    "-9223372036854775809",
    "65536",
    "\\u0000",
    "\\ud800",
    "\u{0}",
    "\u{202e}",
    "é",
    "٣",
    "２",
    "2026-02-30",
    "0000-00-00",
    "9999-12-31",
    "24:00",
    "23:60",
    "\"timezone\":",
    "\"Europe/Rome\"",
    "\"../../etc/passwd\"",
    "\"since\":",
    "\"slots\":",
    "[1,1]",
    "__proto__",
    "%00",
    "%ff",
    "&",
    "=",
    "?",
    "Bearer ",
    ".",
    "..",
    "eyJhbGciOiJub25lIn0",
    "[[[[[[[[[[[[[[[[",
    "{\"a\":{\"a\":",
];

#[derive(Clone, Debug)]
enum Mutation {
    FlipBit(Index, u8),
    Overwrite(Index, u8),
    Insert(Index, &'static str),
    Remove(Index, usize),
    Repeat(Index, usize),
    Truncate(Index),
    Splice(Index, Index, usize),
}

/// A byte, usually one that the grammars use.
fn any_byte() -> impl Strategy<Value = u8> {
    prop_oneof![3 => select(b"0123456789".as_slice()), 1 => select(b"-+:.,\"{}[]eE ".as_slice()), 1 => any::<u8>()]
}

fn any_mutation() -> impl Strategy<Value = Mutation> {
    let place = any::<Index>;
    prop_oneof![
        1 => (place(), 0..8_u8).prop_map(|(at, bit)| Mutation::FlipBit(at, bit)),
        2 => (place(), any_byte()).prop_map(|(at, byte)| Mutation::Overwrite(at, byte)),
        1 => (place(), select(FRAGMENTS)).prop_map(|(at, fragment)| Mutation::Insert(at, fragment)),
        1 => (place(), 1..32_usize).prop_map(|(at, count)| Mutation::Remove(at, count)),
        1 => (place(), 1..32_usize).prop_map(|(at, count)| Mutation::Repeat(at, count)),
        1 => place().prop_map(Mutation::Truncate),
        1 => (place(), place(), 0..5_000_usize).prop_map(|(at, from, other)| Mutation::Splice(at, from, other)),
    ]
}

impl Mutation {
    fn apply(&self, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let place = |at: &Index| at.index(input.len() + 1);
        match self {
            Mutation::FlipBit(at, bit) => {
                let at = place(at);
                input.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << bit);
            }
            Mutation::Overwrite(at, with) => {
                let at = place(at);
                input.iter_mut().skip(at).take(1).for_each(|byte| *byte = *with);
            }
            Mutation::Insert(at, fragment) => {
                let at = place(at);
                input.splice(at..at, fragment.bytes());
            }
            Mutation::Remove(at, count) => {
                let at = place(at);
                input.drain(at..(at + count).min(input.len()));
            }
            Mutation::Repeat(at, count) => {
                let at = place(at);
                let piece = input[at..(at + count).min(input.len())].to_vec();
                input.splice(at..at, piece);
            }
            Mutation::Truncate(at) => input.truncate(place(at)),
            Mutation::Splice(at, from, other) => {
                let at = place(at);
                let other = &corpus[other % corpus.len()];
                input.truncate(at);
                input.extend_from_slice(&other[from.index(other.len() + 1)..]);
            }
        }
        input.truncate(MAX_BYTES);
    }
}

fn any_input(corpus: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let all = corpus.clone();
    let mutated =
        (select(corpus), prop::collection::vec(any_mutation(), 1..8)).prop_map(move |(mut input, mutations)| {
            mutations.iter().for_each(|mutation| mutation.apply(&mut input, &all));
            input
        });
    let fragments = prop::collection::vec(select(FRAGMENTS), 0..24).prop_map(|parts| parts.concat().into_bytes());
    let noise = prop::collection::vec(any::<u8>(), 0..256);
    prop_oneof![8 => mutated, 2 => fragments, 1 => noise]
}

fn corpus_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

fn read_corpus(target: &str) -> Vec<(Vec<u8>, PathBuf)> {
    let files = fs::read_dir(corpus_folder().join(target)).expect("every target has a corpus");
    files.map(|file| file.unwrap().path()).map(|path| (fs::read(&path).unwrap(), path)).collect()
}

/// A share of `FUZZ_SECONDS`.
fn budget() -> Duration {
    let seconds = std::env::var("FUZZ_SECONDS").map_or(3.0, |text| text.parse().expect("FUZZ_SECONDS is a number"));
    Duration::from_secs_f64(seconds) / TARGETS.len() as u32
}

/// Tries the corpus once, then new inputs until the time is over.
fn fuzz(name: &str) {
    let (_, target) = TARGETS.iter().find(|(other, _)| *other == name).expect("a target of this name");
    let corpus = read_corpus(name);
    let try_file = |input: &[u8], path: &Path| {
        catch_unwind(|| target(input)).unwrap_or_else(|_| panic!("the target panics on {}", path.display()))
    };
    let accepted = corpus.iter().filter(|(input, path)| try_file(input, path)).count();
    assert!(accepted > 0, "no input in the corpus is accepted: nothing behind the first check is reached");
    assert!(accepted < corpus.len(), "no input in the corpus is refused");
    let end = clock::instant() + budget();
    let inputs = any_input(corpus.into_iter().map(|(input, _)| input).collect());
    while clock::instant() < end {
        try_inputs(*target, &inputs);
    }
}

fn try_inputs(target: Target, inputs: &impl Strategy<Value = Vec<u8>>) {
    let config = Config { cases: 500, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(inputs, |input| {
        target(&input);
        Ok::<(), TestCaseError>(())
    });
    if let Err(TestError::Fail(reason, input)) = outcome {
        panic!("{reason}\ninput: {:?}\nas text: {:?}", input, String::from_utf8_lossy(&input));
    }
    outcome.unwrap();
}

#[test]
fn every_folder_of_the_corpus_is_a_targets() {
    let mut folders: Vec<String> = fs::read_dir(corpus_folder())
        .unwrap()
        .map(|folder| folder.unwrap().file_name().into_string().unwrap())
        .collect();
    let mut targets: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    folders.sort_unstable();
    targets.sort_unstable();
    assert_eq!(folders, targets);
}

macro_rules! no_input_panics_in {
    ($($name:ident),* $(,)?) => {
        mod no_input_panics_in {
            $(#[test]
            fn $name() {
                super::fuzz(stringify!($name));
            })*
        }

        #[test]
        fn every_target_is_fuzzed() {
            let fuzzed = [$(stringify!($name)),*];
            assert_eq!(fuzzed.to_vec(), TARGETS.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        }
    };
}

no_input_panics_in!(
    ids,
    dates,
    wall_times,
    schedules,
    slots_requests,
    staff_requests,
    positions,
    request_lines,
    tokens,
    claims,
    events,
    handshakes,
    emitted,
    cursors,
);
