//! Checks that the pages for people are true, as far as a program can tell: every link leads somewhere, the page of
//! settings says what the code takes, and the front page stays short.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use slotcast::config::{Config, Needs};
use slotcast::domain::{ClientEvent, ServerEvent};

/// The longest front page, in lines.
const FRONT_PAGE_LINES: usize = 120;

/// Folders without pages of ours.
const FOREIGN_FOLDERS: [&str; 5] = ["target", "node_modules", "data", "vendor", "snapshots"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every page in Markdown, as a path from the root.
fn pages() -> Vec<PathBuf> {
    let mut pages = Vec::new();
    let mut folders = vec![root().to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let is_foreign = FOREIGN_FOLDERS.contains(&name.as_str()) || (name.starts_with('.') && name != ".github");
            if path.is_dir() && !is_foreign {
                folders.push(path);
            } else if name.ends_with(".md") {
                pages.push(path);
            }
        }
    }
    pages.sort();
    pages
}

/// The lines of a page outside of code blocks, each with its number.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_code = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        (!is_code && !is_fence).then_some((index + 1, line))
    })
}

/// The targets of a line's links: the second part of each `[text](target)`.
fn targets(line: &str) -> Vec<&str> {
    line.match_indices("](").filter_map(|(at, _)| line[at + 2..].split_once(')')).map(|(target, _)| target).collect()
}

/// The anchors of a page, as GitHub makes them from its headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut seen = BTreeMap::<String, usize>::new();
    let headings = prose(text).filter_map(|(_, line)| line.strip_prefix('#'));
    headings
        .map(|heading| {
            let heading = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = heading.chars().filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter));
            let anchor: String = kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect();
            let times = seen.entry(anchor.clone()).or_default();
            *times += 1;
            if *times == 1 { anchor } else { format!("{anchor}-{}", *times - 1) }
        })
        .collect()
}

/// What is wrong with a link of `page`; `None` if nothing is.
fn fault_of(page: &Path, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = target.split_once('#').map_or((target, None), |(file, anchor)| (file, Some(anchor)));
    let path = if file.is_empty() { page.to_path_buf() } else { page.parent().unwrap().join(file) };
    if !path.exists() {
        return Some(format!("there is no {file}"));
    }
    let anchor = anchor?;
    let has_it = path.is_file() && anchors(&fs::read_to_string(&path).unwrap()).contains(anchor);
    (!has_it).then(|| format!("{} has no heading #{anchor}", path.display()))
}

#[test]
fn every_link_within_the_repository_leads_somewhere() {
    let mut dead = Vec::new();
    let mut links = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for (number, line) in prose(&text) {
            for target in targets(line) {
                links += 1;
                // In the code map and in rustdoc a link may name an item instead.
                let is_item = target.contains("::");
                let fault = if is_item { None } else { fault_of(&page, target) };
                dead.extend(fault.map(|fault| format!("{}:{number}: {target}: {fault}", page.display())));
            }
        }
    }
    assert!(links > 50, "only {links} links were found");
    assert!(dead.is_empty(), "{}", dead.join("\n"));
}

#[test]
fn a_dead_link_is_seen() {
    let page = root().join("docs/protocol.md");
    assert_eq!(fault_of(&page, "limits.md#times"), None);
    assert_eq!(fault_of(&page, "#what-others-may-read-in-redis"), None);
    assert_eq!(fault_of(&page, "limit.md"), Some("there is no limit.md".into()));
    assert!(fault_of(&page, "limits.md#tims").is_some());
    assert!(fault_of(&page, "#slot").is_some());
    assert_eq!(targets("see [one](a.md), and [two](b.md#c)"), ["a.md", "b.md#c"]);
    assert_eq!(
        anchors("# A b\n```\n# no\n```\n## `X_Y`, Z!\n# A b"),
        ["a-b", "x_y-z", "a-b-1"].map(String::from).into()
    );
}

#[test]
fn the_front_page_is_short() {
    let lines = read("README.md").lines().count();
    assert!(lines <= FRONT_PAGE_LINES, "README.md has {lines} lines: say it on a page under docs/");
}

#[test]
fn the_page_of_settings_is_made_from_the_defaults_and_names_what_the_code_takes() {
    let path = "docs/configuration.md";
    let page = read(path);
    let (head, rest) = page.split_at(page.find("<!-- From here on").expect("a marker"));
    let marker = rest.lines().next().unwrap();
    let settings = settings_page(&read("src/config/default.toml"));
    let made = format!("{head}{marker}\n\n{settings}");
    if std::env::var_os("UPDATE_PAGES").is_some() {
        fs::write(root().join(path), &made).unwrap();
    }
    assert!(read(path) == made, "{path} is not what src/config/default.toml makes: UPDATE_PAGES=1 writes it");

    let loaded = Config::load(&BTreeMap::new(), Needs::PROBE).unwrap();
    for setting in loaded.settings {
        assert!(made.contains(&format!("`{}`", setting.name)), "{} is missing in {path}", setting.name);
    }
}

/// The settings in Markdown: a heading for each `##` of the defaults, and under it each block of settings.
fn settings_page(defaults: &str) -> String {
    let values: toml::Table = toml::from_str(defaults).unwrap();
    let blocks = defaults.split("\n\n").skip_while(|block| !block.starts_with("## "));
    let blocks = blocks.take_while(|block| *block != "## Production");
    let parts: Vec<String> = blocks.map(|block| settings_block(block.trim(), &values)).collect();
    format!("{}\n", parts.join("\n\n"))
}

/// A heading, or the names of a block's settings with their defaults and meaning.
fn settings_block(block: &str, values: &toml::Table) -> String {
    if let Some(title) = block.strip_prefix("## ") {
        return format!("## {title}");
    }
    let (mut names, mut defaults, mut meaning) = (Vec::new(), Vec::new(), Vec::new());
    for line in block.lines() {
        let comment = line.strip_prefix('#').map(str::trim_start);
        match setting_of(comment.unwrap_or(line)) {
            Some((name, value)) => {
                names.push(format!("`{name}`"));
                defaults.push(default_of(name, comment.map(|_| value), values));
            }
            None => meaning.extend(comment),
        }
    }
    let meaning = meaning.join("\n");
    if names.is_empty() {
        return meaning;
    }
    let defaults = match defaults.as_slice() {
        [default] => default.clone(),
        defaults => names
            .iter()
            .zip(defaults)
            .map(|(name, default)| format!("{name}: {default}"))
            .collect::<Vec<_>>()
            .join("; "),
    };
    format!("### {}\n\nDefault: {defaults}.\n\n{meaning}", names.join(", "))
}

/// The name and the value in a line that sets something.
fn setting_of(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once(" = ")?;
    let is_name = name.chars().all(|letter| letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_');
    (is_name && !name.is_empty()).then_some((name, value))
}

/// The value that is in force by default. `example` is the value that the file shows for a setting without a default.
fn default_of(name: &str, example: Option<&str>, values: &toml::Table) -> String {
    let usual = match (example, values.get(name)) {
        (Some("\"\""), _) => "none".into(),
        (Some(example), _) => format!("none (an example is `{}`)", example.trim_matches('"')),
        (None, value) => shown(value.unwrap()),
    };
    match values["production"].get(name) {
        Some(value) => format!("{usual} (in production {})", shown(value)),
        None => usual,
    }
}

fn shown(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) if text.is_empty() => "none".into(),
        toml::Value::String(text) => format!("`{text}`"),
        toml::Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(", "),
        value => format!("`{value}`"),
    }
}

#[test]
fn the_page_of_the_protocol_names_every_event_and_code() {
    let page = read("docs/protocol.md");
    let refusals = read("src/domain/refusal.rs");
    let codes = refusals.split_once("fn as_str").and_then(|(_, rest)| rest.split_once("fn status")).unwrap().0;
    let codes: Vec<&str> = codes.split('"').skip(1).step_by(2).collect();
    assert!(codes.len() > 20, "{codes:?}");
    let events = ClientEvent::ALL.iter().map(|event| event.as_str());
    let events = events.chain(ServerEvent::ALL.iter().map(|event| event.as_str()));
    let missing: Vec<&str> = events.chain(codes).filter(|name| !page.contains(&format!("`{name}`"))).collect();
    assert_eq!(missing, <[&str; 0]>::default(), "docs/protocol.md must say what these mean");
}

#[test]
fn one_version_of_the_compiler_is_named_everywhere() {
    let toolchain: toml::Table = toml::from_str(&read("rust-toolchain.toml")).unwrap();
    let version = toolchain["toolchain"]["channel"].as_str().unwrap();
    for path in ["infra/Dockerfile", ".github/workflows/release.yml"] {
        let text = read(path);
        let named: Vec<&str> = text.match_indices("rust:").map(|(at, _)| &text[at + 5..]).collect();
        assert!(!named.is_empty(), "{path} names no image of Rust");
        for image in named {
            assert!(image.starts_with(&format!("{version}-")), "{path} names another Rust than {version}: {image:.20}");
        }
    }
    let manifest: toml::Table = toml::from_str(&read("Cargo.toml")).unwrap();
    let oldest = manifest["package"]["rust-version"].as_str().unwrap();
    let workflow = read(".github/workflows/ci.yml");
    assert!(workflow.contains(&format!("cargo +{oldest} check")), "ci.yml tries another oldest Rust than {oldest}");
}
