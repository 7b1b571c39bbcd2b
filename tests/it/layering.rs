//! The layers of the code map, held by reading the sources.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "{folder} has no sources");
    found
}

/// Fails for each line of code in `folder` that names one of `forbidden`. Comments may.
fn check(folder: &str, forbidden: &[&str]) {
    for path in sources(folder) {
        let text = fs::read_to_string(&path).unwrap();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            for name in forbidden {
                assert!(!line.contains(name), "{}:{}: {name} does not belong in {folder}", path.display(), number + 1);
            }
        }
    }
}

#[test]
fn the_domain_knows_no_input_output_and_no_other_module() {
    let others = [
        "tokio",
        "redb",
        "redis",
        "axum",
        "socketioxide",
        "async ",
        ".await",
        "crate::store",
        "crate::feed",
        "crate::calls",
        "crate::realtime",
        "crate::http",
        "crate::app",
        "crate::clock",
        "std::fs",
        "std::net",
    ];
    check("src/domain", &others);
}

#[test]
fn stores_know_no_caller() {
    check("src/store", &["axum", "socketioxide", "crate::calls", "crate::feed", "crate::realtime", "crate::http"]);
}

#[test]
fn the_feed_knows_no_transport() {
    check("src/feed", &["axum", "socketioxide", "crate::realtime", "crate::http", "crate::net"]);
}

#[test]
fn calls_know_no_transport() {
    check("src/calls", &["axum::", "socketioxide", "crate::realtime", "crate::http", "crate::feed"]);
}

#[test]
fn only_sessions_and_http_speak_to_clients() {
    for folder in ["src/domain", "src/store", "src/feed", "src/calls", "src/net"] {
        check(folder, &[".emit("]);
    }
}
