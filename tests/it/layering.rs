//! The layers of the code map. The tests read the sources.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The modules of the crate, from the bottom up. Each may import only those before it, so there is no circle.
const LAYERS: [&str; 23] = [
    "domain",
    "clock",
    "random",
    "files",
    "net",
    "telemetry",
    "store",
    "config",
    "auth",
    "spaces",
    "journal",
    "webhooks",
    "sweeper",
    "app",
    "feed",
    "calls",
    "http",
    "realtime",
    "presence",
    "node",
    "function",
    "cli",
    "fuzzing",
];

/// The most lines that a file may have.
const FILE_LINES: usize = 500;

/// A line with this beginning divides a file into sections. Each section belongs into a file of its own.
const BANNERS: [&str; 5] = ["// ---", "// ===", "// ***", "// ###", "// ___"];

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

/// Fails for each line of code in `folder` that names one of `forbidden`. Comments may name them.
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

/// The lines of code of a file, each with its number, without comments and unit tests, which may import anything.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_tests = |line: &str| line.starts_with("mod tests {");
    let lines = text.lines().enumerate().take_while(move |(_, line)| !is_tests(line));
    lines.filter(|(_, line)| !line.trim_start().starts_with("//")).map(|(index, line)| (index + 1, line))
}

/// The modules of the crate that a line names.
fn named_modules(line: &str) -> Vec<&str> {
    let after = line.match_indices("crate::").map(|(at, name)| &line[at + name.len()..]);
    let names = after.map(|rest| rest.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next());
    names.flatten().filter(|name| !name.is_empty()).collect()
}

/// The module of the crate that a file belongs to; `None` for the root and the programs.
fn module_of(path: &Path) -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let first = path.strip_prefix(root).unwrap().components().next().unwrap().as_os_str().to_str().unwrap();
    let name = first.trim_end_matches(".rs");
    (!["lib", "bin"].contains(&name)).then(|| name.to_owned())
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| *layer == module)
}

/// The imports of `text`, a file of `module`, that are not allowed: number of the line, and the imported module.
fn upward_imports(module: &str, text: &str) -> Vec<(usize, String)> {
    let own = layer_of(module).unwrap_or_else(|| panic!("{module} has no place in LAYERS"));
    let named = code(text).flat_map(|(number, line)| named_modules(line).into_iter().map(move |name| (number, name)));
    let upward = named.filter(|(_, name)| layer_of(name).is_some_and(|layer| layer > own));
    upward.map(|(number, name)| (number, name.to_owned())).collect()
}

#[test]
fn no_import_runs_back_up_and_so_there_is_no_circle() {
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    for path in sources("src").into_iter().filter(|path| !path.ends_with("tests.rs")) {
        let Some(module) = module_of(&path) else { continue };
        for (number, name) in upward_imports(&module, &fs::read_to_string(&path).unwrap()) {
            found.push(format!("{}:{number}: {module} imports {name}, which is above it", path.display()));
        }
        seen.insert(module);
    }
    assert_eq!(seen, LAYERS.map(String::from).into(), "LAYERS names every module, and nothing else");
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn an_import_that_runs_back_up_is_seen() {
    let text = "//! [`crate::calls`]\nuse crate::domain::Day;\nuse crate::calls::slots;\nfn f(app: &crate::app::App) {}\n\
                mod tests {\n    use crate::http::router;\n}\n";
    assert_eq!(upward_imports("spaces", text), [(3, "calls".into()), (4, "app".into())]);
    assert_eq!(upward_imports("feed", text), [(3, "calls".into())]);
    assert_eq!(upward_imports("http", text), []);
}

#[test]
fn every_file_is_one_thing_of_bounded_length() {
    for path in sources("src") {
        let text = fs::read_to_string(&path).unwrap();
        let lines = text.lines().count();
        assert!(lines <= FILE_LINES, "{} has {lines} lines: it is more than one file", path.display());
        let banner = text.lines().position(|line| BANNERS.iter().any(|banner| line.trim_start().starts_with(banner)));
        assert_eq!(banner, None, "{} has a banner in that line: what is below is another file", path.display());
    }
}
