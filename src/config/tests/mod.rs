//! Where values come from, and how warnings and errors name them.

mod slips;
mod values;
mod webhooks;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::load::load_layers;
use super::source::{OperatorFile, VARIABLES};
use super::*;

const SECRET: &str = "a-secret-of-more-than-thirty-two-bytes";

fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

fn load(pairs: &[(&str, &str)], needs: Needs) -> Result<Loaded, ConfigError> {
    load_layers(&env(pairs), None, needs)
}

fn load_file(content: &str, pairs: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    let file = OperatorFile { path: PathBuf::from("my.toml"), content: content.into() };
    load_layers(&env(pairs), Some(file), Needs::SERVE)
}

#[expect(clippy::unwrap_used, reason = "clippy does not count helpers of tests as tests")]
fn messages(result: Result<Loaded, ConfigError>) -> Vec<String> {
    result.unwrap_err().problems.into_iter().map(|problem| problem.message).collect()
}

/// The one message of a wrong configuration.
fn message(pairs: &[(&str, &str)], needs: Needs) -> String {
    let mut messages = messages(load(pairs, needs));
    assert_eq!(messages.len(), 1, "{messages:?}");
    messages.remove(0)
}

#[test]
fn without_anything_set_the_defaults_of_the_contract_hold() {
    let Loaded { config, warnings, settings } = load(&[], Needs::SERVE).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(config.environment, Environment::Development);
    assert_eq!(config.listen.address.to_string(), "127.0.0.1:3000");
    assert_eq!(config.listen.admin.to_string(), "127.0.0.1:9090");
    assert!(!config.listen.admin_is_explicit);
    assert_eq!(config.listen.advertise, None);
    assert_eq!(config.listen.cors_origins.len(), 7);
    assert!(config.listen.cors_origins.contains(&"http://localhost:5173".to_string()), "Vite's");
    assert_eq!(config.listen.drain_time, Duration::from_secs(25));
    assert_eq!(config.listen.drain_grace, Duration::ZERO);
    assert_eq!(config.store.kind, StoreKind::Embedded("./data".into()));
    assert_eq!(config.store.redis_prefix, "slotcast");
    assert_eq!(config.holds.duration, Duration::from_secs(15 * 60));
    assert_eq!(config.holds.max, Duration::from_secs(60 * 60));
    assert_eq!(config.holds.timer_interval, Some(Duration::from_secs(30)));
    assert_eq!(config.holds.max_holds, Some(12));
    assert_eq!(config.holds.max_held, Some(64));
    assert_eq!(config.holds.freed_to, FreedTo::Everyone);
    assert!(config.catalog.open);
    assert_eq!(config.catalog.max_days, 400);
    assert_eq!(config.limits.user_rate.map(|rate| rate.get()), Some(20));
    assert_eq!(config.limits.event_rate.map(|rate| rate.get()), Some(50));
    assert_eq!(config.limits.max_rooms, 256);
    assert_eq!(config.log_filter, "info");
    assert_eq!(settings.len(), VARIABLES.len());
    assert!(settings.iter().flat_map(|setting| &setting.value).all(|(_, source)| *source == Source::Default));
}

#[test]
fn every_variable_is_in_the_commented_defaults() {
    let defaults = include_str!("../default.toml");
    for name in VARIABLES {
        let is_set = defaults.lines().any(|line| line.starts_with(&format!("{name} = ")));
        let is_named = defaults.lines().any(|line| line.starts_with(&format!("# {name} = ")));
        assert!(is_set != is_named, "{name} must be there once, set or as a comment");
    }
}

#[test]
fn production_has_other_defaults_and_asks_for_what_matters() {
    let messages = messages(load(&[("SLOTCAST_ENV", "production")], Needs::SERVE));
    assert_eq!(
        messages,
        [
            "SLOTCAST_STORE must be `embedded` for production on the file of one node; for more nodes set REDIS_URL; \
             SLOTCAST_STORE is \"auto\" (default), REDIS_URL is not set",
            "JWT_SECRET must be set in production: at least 32 bytes (`openssl rand -base64 48`); it is not set",
        ]
    );
    let production = [("SLOTCAST_ENV", "production"), ("SLOTCAST_STORE", "embedded"), ("JWT_SECRET", SECRET)];
    let Loaded { config, settings, warnings } = load(&production, Needs::SERVE).unwrap();
    assert_eq!(config.listen.address.to_string(), "0.0.0.0:3000");
    assert_eq!(config.listen.cors_origins, Vec::<String>::new());
    let origins = settings.iter().find(|setting| setting.name == "CORS_ORIGIN").unwrap();
    assert_eq!(origins.value, None);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].starts_with("CORS_ORIGIN is not set: only pages that this node serves"), "{warnings:?}");
    assert!(!config.catalog.open);
    let host = settings.iter().find(|setting| setting.name == "HOST").unwrap();
    assert_eq!(host.value, Some(("\"0.0.0.0\"".into(), Source::ProductionDefault)));
}

#[test]
fn the_environment_wins_over_the_file_and_the_file_over_the_defaults() {
    let file = "PORT = 4000\nSLOT_MAX_HOLDS = \"3\"\nSLOTCAST_OPEN_CATALOG = false\nSLOTCAST_LOG = \"\"\n";
    let Loaded { config, settings, .. } = load_file(file, &[("PORT", "5000"), ("SLOT_MAX_HOLDS", "")]).unwrap();
    assert_eq!(config.listen.address.port(), 5000);
    assert_eq!(config.holds.max_holds, Some(3));
    assert!(!config.catalog.open);
    assert_eq!(config.log_filter, "info");
    let source = |name| {
        let setting = settings.iter().find(|setting| setting.name == name).unwrap();
        setting.value.as_ref().unwrap().1.to_string()
    };
    assert_eq!(source("PORT"), "environment");
    assert_eq!(source("SLOT_MAX_HOLDS"), "file my.toml");
    assert_eq!(source("HOST"), "default");
}

#[test]
fn production_may_be_said_in_the_file() {
    let file = format!("SLOTCAST_ENV = \"production\"\nSLOTCAST_STORE = \"embedded\"\nJWT_SECRET = \"{SECRET}\"\n");
    assert_eq!(load_file(&file, &[]).unwrap().config.environment, Environment::Production);
}

#[expect(clippy::unwrap_used, reason = "clippy does not count helpers of tests as tests")]
fn file_with(content: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("value");
    std::fs::write(&path, content).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

#[test]
fn a_secret_may_be_the_content_of_a_file() {
    let (_folder, path) = file_with(&format!("{SECRET}\n"));
    let Loaded { config, settings, warnings } =
        load(&[("JWT_SECRET_FILE", &path), ("JWT_SECRET", "")], Needs::SERVE).unwrap();
    assert_eq!(config.auth.unwrap().node_secret.as_deref(), Some(SECRET.as_bytes()));
    assert_eq!(warnings, Vec::<String>::new());
    let shown = |name| settings.iter().find(|setting| setting.name == name).and_then(|setting| setting.value.clone());
    assert_eq!(
        shown("JWT_SECRET"),
        Some(("(hidden)".into(), Source::SecretFile(PathBuf::from(&path).as_path().into())))
    );
    assert_eq!(shown("JWT_SECRET_FILE"), Some((format!("{path:?}"), Source::Environment)));
    let from_file = load_file(&format!("JWT_SECRET_FILE = {path:?}"), &[]).unwrap();
    assert_eq!(from_file.config.auth.unwrap().node_secret.as_deref(), Some(SECRET.as_bytes()));
    let (_folder, url) = file_with("redis://:geheim@cache\r\n");
    let config = load(&[("REDIS_URL_FILE", &url)], Needs::SWEEP).unwrap().config;
    assert_eq!(config.store.kind, StoreKind::Redis("redis://:geheim@cache".into()));
}

#[test]
fn a_variable_beside_its_file_is_an_error_wherever_each_is_set() {
    let (_folder, path) = file_with(SECRET);
    let told = |name: &str| format!("{name} and {name}_FILE are both set: leave one of them out");
    for name in ["JWT_SECRET", "JWT_SECRET_PREVIOUS", "REDIS_URL"] {
        let value = if name == "REDIS_URL" { "redis://h" } else { SECRET };
        let file_name = format!("{name}_FILE");
        let all = messages(load(&[(name, value), (&file_name, &path)], Needs::SERVE));
        assert!(all.contains(&told(name)), "{all:?}");
        let in_file = messages(load_file(&format!("{name} = {value:?}"), &[(&file_name, &path)]));
        assert!(in_file.contains(&told(name)), "{in_file:?}");
    }
}

#[test]
fn a_file_that_cannot_be_read_and_a_bad_value_in_one_are_told() {
    let missing = message(&[("REDIS_URL_FILE", "/does/not/exist")], Needs::SERVE);
    assert!(missing.starts_with("REDIS_URL_FILE names \"/does/not/exist\", which cannot be read: "), "{missing}");
    let (_folder, path) = file_with("geheim");
    let short = message(&[("JWT_SECRET_FILE", &path)], Needs::SERVE);
    assert!(short.starts_with("JWT_SECRET must have at least 32 bytes (it has 6)"), "{short}");
    assert!(short.ends_with(&format!("it is (hidden) (content of {path})")), "{short}");
}

#[test]
fn the_secret_before_goes_beside_the_present_one() {
    const BEFORE: &str = "the-secret-before-this-one-is-also-long";
    let pairs = [("JWT_SECRET", SECRET), ("JWT_SECRET_PREVIOUS", BEFORE)];
    let Loaded { config, warnings, settings } = load(&pairs, Needs::SERVE).unwrap();
    let auth = config.auth.unwrap();
    assert_eq!(auth.node_secret.as_deref(), Some(SECRET.as_bytes()));
    assert_eq!(auth.previous_secret.as_deref(), Some(BEFORE.as_bytes()));
    assert_eq!(warnings, Vec::<String>::new());
    assert!(!format!("{settings:?}").contains(BEFORE));
    let alone = message(&[("JWT_SECRET_PREVIOUS", BEFORE)], Needs::SERVE);
    assert!(alone.starts_with("JWT_SECRET_PREVIOUS needs JWT_SECRET beside it"), "{alone}");
    let same = load(&[("JWT_SECRET", SECRET), ("JWT_SECRET_PREVIOUS", SECRET)], Needs::SERVE).unwrap();
    assert_eq!(same.warnings, ["JWT_SECRET_PREVIOUS is the same as JWT_SECRET: it has no effect"]);
    let weak = [
        ("SLOTCAST_ENV", "production"),
        ("SLOTCAST_STORE", "embedded"),
        ("JWT_SECRET", SECRET),
        ("JWT_SECRET_PREVIOUS", "change-me-please-change-me-please-now"),
    ];
    let weak = message(&weak, Needs::SERVE);
    assert!(weak.starts_with("JWT_SECRET_PREVIOUS must not be a placeholder"), "{weak}");
}

#[test]
fn origins_are_a_list_or_comma_separated() {
    let two = ["http://localhost:3000", "https://a.example"];
    let from_env = load(&[("CORS_ORIGIN", "http://localhost:3000, https://a.example")], Needs::SERVE).unwrap();
    assert_eq!(from_env.config.listen.cors_origins, two);
    let from_file = load_file("CORS_ORIGIN = [\"http://localhost:3000\", \"https://a.example\"]", &[]).unwrap();
    assert_eq!(from_file.config.listen.cors_origins, two);
    let none = load_file("CORS_ORIGIN = []", &[]).unwrap();
    assert_eq!(none.config.listen.cors_origins, Vec::<String>::new());
}

#[test]
fn an_unknown_key_of_the_file_is_an_error_with_the_nearest_name() {
    let file = "SLOT_HOLD_DURATON = 5\nfoo = 1\nport = 1\nSLOTCAST_CONFIG = \"x\"\n[server]\nPORT = 1\n";
    let mut messages = messages(load_file(file, &[]));
    messages.sort();
    assert_eq!(
        messages,
        [
            "SLOTCAST_CONFIG (file my.toml) can only be set in the environment",
            "SLOT_HOLD_DURATON (file my.toml) is not a setting; did you mean SLOT_HOLD_DURATION?",
            "[server] (file my.toml) is a table, but the file has flat keys alone, with the variables' names, and [[webhooks]]",
            "foo (file my.toml) is not a setting; `slotcast check-config` lists all",
            "port (file my.toml) is not a setting; did you mean PORT?",
        ]
    );
}

#[test]
fn an_unknown_variable_of_the_environment_is_a_warning() {
    let pairs =
        [("SLOTCAST_MAX_ROOM", "1"), ("SLOTCAST_X", "1"), ("JWT_SECERT", "1"), ("PATH", "/bin"), ("JWT_X", "1")];
    assert_eq!(
        load(&pairs, Needs::SERVE).unwrap().warnings,
        [
            "JWT_SECERT (environment) is not a setting; did you mean JWT_SECRET?",
            "SLOTCAST_MAX_ROOM (environment) is not a setting; did you mean SLOTCAST_MAX_ROOMS?",
            "SLOTCAST_X (environment) is not a setting",
        ]
    );
}

#[test]
fn a_file_that_is_not_toml_is_named_with_the_line_and_never_quoted() {
    let message = messages(load_file("PORT = 1\nJWT_SECRET = \"hunter2hunter2\n", &[])).remove(0);
    assert!(message.starts_with("my.toml, line 2, is not TOML: "), "{message}");
    assert!(!message.contains("hunter2"), "{message}");
}

#[test]
fn a_file_that_was_named_must_be_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slotcast.toml");
    let pairs = [("SLOTCAST_CONFIG", path.to_str().unwrap())];
    let error = Config::load(&env(&pairs), Needs::SERVE).unwrap_err().to_string();
    assert!(error.contains("cannot read the configuration file"), "{error}");
    std::fs::write(&path, "PORT = 4321").unwrap();
    assert_eq!(Config::load(&env(&pairs), Needs::SERVE).unwrap().config.listen.address.port(), 4321);
}

#[test]
fn all_bad_fields_are_reported_at_once_with_value_and_source() {
    let pairs = [("PORT", "65536"), ("HOST", "example.org"), ("SLOTCAST_ENV", "prod"), ("SLOTCAST_MAX_DAYS", "-1")];
    assert_eq!(
        messages(load(&pairs, Needs::SERVE)),
        [
            "SLOTCAST_ENV must be one of development, production; it is \"prod\" (environment)",
            "HOST must be an IP address such as 127.0.0.1, 0.0.0.0 or ::, or localhost; it is \"example.org\" (environment)",
            "PORT must be a whole number from 0 to 65535; it is \"65536\" (environment)",
            "SLOTCAST_MAX_DAYS must be a whole number from 1 to 3650; it is \"-1\" (environment)",
        ]
    );
    let from_file = messages(load_file("PORT = 1.5\nHOST = [1]\nSLOTCAST_OPEN_CATALOG = 1", &[]));
    assert_eq!(
        from_file,
        [
            "HOST must be one simple value, not a list (file my.toml)",
            "PORT must be a whole number from 0 to 65535; it is \"1.5\" (file my.toml)",
            "SLOTCAST_OPEN_CATALOG must be true or false; it is \"1\" (file my.toml)",
        ]
    );
}
