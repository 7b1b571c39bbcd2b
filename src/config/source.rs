//! Where values come from: the compiled-in defaults, the operator's file, the environment. The last one that has a value
//! wins.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::Problem;
use super::files::{FILED, both_set, read_value};
use super::strings::Strings;
use crate::files::read_bounded;

/// All defaults, and what each setting means.
const DEFAULTS: &str = include_str!("default.toml");

/// The table of [`DEFAULTS`] with the defaults for production.
const PRODUCTION: &str = "production";

/// The file that is read when `SLOTCAST_CONFIG` names none.
const USUAL_FILE: &str = "slotcast.toml";

/// The longest file, in bytes.
const LONGEST_FILE: u64 = 1024 * 1024;

/// The variable that names the file; the only one that a file cannot hold.
const CONFIG: &str = "SLOTCAST_CONFIG";

/// The list of tables in a file that no variable can hold.
pub(super) const WEBHOOKS: &str = "webhooks";

/// The beginning of most of our variables.
const PREFIX: &str = "SLOTCAST_";

/// The end of the names of variables that name a file.
const FILE_SUFFIX: &str = "_FILE";

/// The first words of our other variables. Other programs use these words, too.
const OUR_WORDS: &[&str] = &["SLOT", "JWT", "CORS", "REDIS"];

/// How similar to a known word, from 0 to 1, an unknown one must be to count as a misspelling of it.
const LIKELY: f64 = 0.7;

/// Every variable that a file or the environment may set.
pub(super) const VARIABLES: &[&str] = &[
    "SLOTCAST_ENV",
    "HOST",
    "PORT",
    "SLOTCAST_ADMIN_ADDR",
    "SLOTCAST_ADVERTISE_ADDR",
    "CORS_ORIGIN",
    "SLOTCAST_TRUSTED_PROXIES",
    "SLOTCAST_FORWARDED_HEADER",
    "SLOTCAST_FRAME_ANCESTORS",
    "SLOTCAST_DRAIN_TIME",
    "SLOTCAST_DRAIN_GRACE",
    "SLOTCAST_STORE",
    "SLOTCAST_DATA_DIR",
    "REDIS_URL",
    "REDIS_URL_FILE",
    "SLOTCAST_REDIS_PREFIX",
    "SLOTCAST_EMITTER",
    "JWT_ALGORITHM",
    "JWT_SECRET",
    "JWT_SECRET_FILE",
    "JWT_SECRET_PREVIOUS",
    "JWT_SECRET_PREVIOUS_FILE",
    "JWT_JWKS_URL",
    "JWT_ISSUER",
    "JWT_AUDIENCE",
    "SLOT_HOLD_DURATION",
    "SLOT_HOLD_MAX",
    "SLOT_TIMER_INTERVAL",
    "SLOT_MAX_HOLDS",
    "SLOT_MAX_HELD",
    "SLOT_CANCEL_UNTIL",
    "SLOTCAST_FREED_TO",
    "SLOTCAST_OPEN_CATALOG",
    "SLOTCAST_MAX_DAYS",
    "SLOTCAST_USER_RATE",
    "SLOTCAST_ANONYMOUS_RATE",
    "SLOTCAST_EVENT_RATE",
    "SLOTCAST_MAX_ROOMS",
    "SLOTCAST_GUESTS",
    "SLOTCAST_MAX_GUESTS",
    "SLOTCAST_JOURNAL_DAYS",
    "SLOTCAST_JOURNAL_MAX",
    "SLOTCAST_WEBHOOK_URL",
    "SLOTCAST_WEBHOOK_SECRET",
    "SLOTCAST_WEBHOOK_SECRET_FILE",
    "SLOTCAST_WEBHOOK_TYPES",
    "SLOTCAST_WEBHOOK_SITES",
    "SLOTCAST_LOG",
    "SLOTCAST_LOG_USERS",
];

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The default.
    Default,
    /// A default of `SLOTCAST_ENV=production` that differs from development's.
    ProductionDefault,
    /// The operator's file.
    File(Arc<Path>),
    /// The environment.
    Environment,
    /// The file that a variable such as `JWT_SECRET_FILE` names.
    SecretFile(Arc<Path>),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("default"),
            Source::ProductionDefault => f.write_str("default in production"),
            Source::File(path) => write!(f, "file {}", path.display()),
            Source::Environment => f.write_str("environment"),
            Source::SecretFile(path) => write!(f, "content of {}", path.display()),
        }
    }
}

/// A value as text, with where it comes from.
#[derive(Clone, Debug)]
pub(super) struct Value {
    pub(super) text: String,
    pub(super) source: Source,
}

/// The operator's file.
pub(super) struct OperatorFile {
    pub(super) path: PathBuf,
    pub(super) content: String,
}

/// Reads the file that `SLOTCAST_CONFIG` names, else `./slotcast.toml` if it is there.
pub(super) fn read_operator_file(env: &dyn Strings) -> Result<Option<OperatorFile>, Problem> {
    let named = env.get(CONFIG).filter(|path| !path.is_empty());
    let path = PathBuf::from(named.as_deref().unwrap_or(USUAL_FILE));
    match read_bounded(&path, LONGEST_FILE).and_then(|bytes| String::from_utf8(bytes).map_err(|_| not_text())) {
        Ok(content) => Ok(Some(OperatorFile { path, content })),
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            let asked = if named.is_some() { " (environment)" } else { "" };
            Err(Problem::new(CONFIG, format!("cannot read the configuration file {path:?}{asked}: {error}")))
        }
    }
}

fn not_text() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, "it is not UTF-8")
}

/// The values in force, with the faults that were found while collecting them.
pub(super) struct Layers {
    pub(super) values: BTreeMap<&'static str, Value>,
    /// The value under [`WEBHOOKS`] in the file, and the file's name.
    pub(super) webhooks: Option<(toml::Value, Source)>,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<String>,
}

impl Layers {
    /// Puts the environment over the file, and the file over the defaults.
    pub(super) fn collect(env: &dyn Strings, file: Option<OperatorFile>) -> Layers {
        let mut problems = Vec::new();
        let warnings = unknown_names(env);
        let (mut set, webhooks) = file.map(|file| parse_operator_file(&file, &mut problems)).unwrap_or_default();
        for name in VARIABLES {
            if let Some(text) = env.get(name).filter(|text| !text.is_empty()) {
                set.insert(name, Value { text, source: Source::Environment });
            }
        }
        read_named_files(&mut set, &mut problems);
        let is_production = set.get("SLOTCAST_ENV").is_some_and(|value| value.text == PRODUCTION);
        let mut values = defaults(is_production, &mut problems);
        values.extend(set);
        Layers { values, webhooks, problems, warnings }
    }
}

/// Replaces values by the content of the files that variables such as `JWT_SECRET_FILE` name.
fn read_named_files(set: &mut BTreeMap<&'static str, Value>, problems: &mut Vec<Problem>) {
    for (name, file_name) in FILED {
        let Some(path) = set.get(file_name).map(|value| value.text.clone()) else { continue };
        if set.contains_key(name) {
            problems.push(Problem::new(name, both_set(name, file_name)));
            continue;
        }
        match read_value(&path) {
            Ok(text) => {
                set.insert(*name, Value { text, source: Source::SecretFile(Path::new(&path).into()) });
            }
            Err(otherwise) => problems.push(Problem::new(file_name, format!("{file_name} {otherwise}"))),
        }
    }
}

/// The defaults of an environment.
fn defaults(is_production: bool, problems: &mut Vec<Problem>) -> BTreeMap<&'static str, Value> {
    let mut table = parse_table(DEFAULTS, "the defaults", problems);
    let production = table.remove(PRODUCTION).and_then(|value| value.as_table().cloned()).unwrap_or_default();
    let mut values = texts_of(table, &Source::Default, problems);
    if is_production {
        values.extend(texts_of(production, &Source::ProductionDefault, problems));
        values.retain(|_, value| !value.text.is_empty());
    }
    values
}

/// The values of a file, and its value under [`WEBHOOKS`].
type OfFile = (BTreeMap<&'static str, Value>, Option<(toml::Value, Source)>);

fn parse_operator_file(file: &OperatorFile, problems: &mut Vec<Problem>) -> OfFile {
    let mut table = parse_table(&file.content, &file.path.display().to_string(), problems);
    let source = Source::File(file.path.as_path().into());
    let webhooks = table.remove(WEBHOOKS).map(|webhooks| (webhooks, source.clone()));
    let mut values = texts_of(table, &source, problems);
    values.retain(|_, value| !value.text.is_empty());
    (values, webhooks)
}

fn parse_table(content: &str, place: &str, problems: &mut Vec<Problem>) -> toml::Table {
    content.parse().unwrap_or_else(|error: toml::de::Error| {
        // The error's own text is not used: it quotes the line, which may hold a secret.
        let before = error.span().and_then(|span| content.get(..span.start)).unwrap_or("");
        let line = before.matches('\n').count() + 1;
        problems.push(Problem::new(CONFIG, format!("{place}, line {line}, is not TOML: {}", error.message())));
        toml::Table::new()
    })
}

/// The values of a table as texts. A value that no variable can have is a problem.
fn texts_of(table: toml::Table, source: &Source, problems: &mut Vec<Problem>) -> BTreeMap<&'static str, Value> {
    let mut values = BTreeMap::new();
    for (key, value) in table {
        match (VARIABLES.iter().find(|name| **name == key), text_of(&key, &value)) {
            (Some(name), Some(text)) => {
                values.insert(*name, Value { text, source: source.clone() });
            }
            (Some(_), None) => {
                let allowed = if key == "CORS_ORIGIN" { "a string or a list of strings" } else { "one simple value" };
                problems
                    .push(Problem::new(&key, format!("{key} must be {allowed}, not {} ({source})", kind_of(&value))));
            }
            (None, _) => problems.push(Problem::new(&key, unknown_key(&key, &value, source))),
        }
    }
    values
}

fn text_of(key: &str, value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        // A fraction stays a text: the variable's own check then says what it takes.
        toml::Value::Float(number) => Some(number.to_string()),
        toml::Value::Array(items) if key == "CORS_ORIGIN" => {
            let items: Option<Vec<&str>> = items.iter().map(toml::Value::as_str).collect();
            // An empty list becomes a single comma: a text that is not empty and names no origin.
            items.map(|items| if items.is_empty() { ",".into() } else { items.join(",") })
        }
        toml::Value::Array(_) | toml::Value::Table(_) | toml::Value::Datetime(_) => None,
    }
}

fn kind_of(value: &toml::Value) -> &'static str {
    match value {
        toml::Value::Array(_) => "a list",
        toml::Value::Table(_) => "a table",
        toml::Value::Datetime(_) => "a date",
        _ => "this",
    }
}

fn unknown_key(key: &str, value: &toml::Value, source: &Source) -> String {
    if key == CONFIG {
        return format!("{key} ({source}) can only be set in the environment");
    }
    if value.is_table() {
        return format!(
            "[{key}] ({source}) is a table, but the file has flat keys alone, with the variables' names, and [[webhooks]]"
        );
    }
    match nearest(key, VARIABLES) {
        Some(name) => format!("{key} ({source}) is not a setting; did you mean {name}?"),
        None => format!("{key} ({source}) is not a setting; `slotcast check-config` lists all"),
    }
}

/// Warns of names in the environment that look like ours and are not.
fn unknown_names(env: &dyn Strings) -> Vec<String> {
    let mut names = env.names();
    names.sort();
    names
        .into_iter()
        .filter(|name| name != CONFIG && !VARIABLES.contains(&name.as_str()))
        .filter_map(|name| {
            let upper = name.to_uppercase().replace('-', "_");
            let is_ours = upper.starts_with(PREFIX);
            // Other programs may own these names, so only a likely misspelling is worth a warning.
            let may_be_ours =
                OUR_WORDS.iter().any(|word| upper.starts_with(word)) || VARIABLES.contains(&upper.as_str());
            match nearest(&name, VARIABLES).filter(|_| is_ours || may_be_ours) {
                Some(near) => Some(format!("{name} (environment) is not a setting; did you mean {near}?")),
                None => is_ours.then(|| format!("{name} (environment) is not a setting")),
            }
        })
        .collect()
}

/// The known word that a misspelt one most likely means. A correctly spelt prefix of ours is left out of the comparison,
/// because all names with it would look alike.
pub(super) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let upper = word.to_uppercase().replace('-', "_");
    let likeness = |name: &str| {
        let name = name.to_uppercase();
        let bare_name = name.strip_prefix(PREFIX).unwrap_or(&name);
        match upper.strip_prefix(PREFIX) {
            Some(bare) => strsim::normalized_damerau_levenshtein(bare, bare_name),
            None => strsim::normalized_damerau_levenshtein(&upper, bare_name)
                .max(strsim::normalized_damerau_levenshtein(&upper, &name)),
        }
    };
    // JWT_SECRET_KEY means the secret, not the file that has it.
    let is_of_its_kind = |name: &&&str| !name.ends_with(FILE_SUFFIX) || upper.ends_with(FILE_SUFFIX);
    known
        .iter()
        .filter(is_of_its_kind)
        .map(|name| (likeness(name), *name))
        .filter(|(likeness, _)| *likeness > LIKELY)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, name)| name)
}
