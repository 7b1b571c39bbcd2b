//! Makes a checked [`Config`] from the values in force. Reports all bad values at once.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use super::auth::read_auth;
use super::error::{ConfigError, Problem};
use super::parse::{self, Parsed};
use super::proxies::Network;
use super::redis::MAX_JOURNAL_DAYS;
use super::slips::surroundings;
use super::source::{Layers, OperatorFile, Source, VARIABLES, Value, read_operator_file};
use super::strings::Strings;
use super::webhooks::read_webhooks;
use super::{
    CatalogConfig, Config, Environment, ForwardedHeader, FreedTo, HoldConfig, LimitConfig, ListenConfig, StoreConfig,
    StoreKind,
};
use crate::store::JournalBounds;
use crate::telemetry::log;
use crate::telemetry::users::LogUsers;

/// The most characters of a value that an error or a report shows.
const SHOWN_LENGTH: usize = 200;

/// The default of `SLOTCAST_DRAIN_GRACE` takes at most 1/5 of a short drain time.
const GRACE_SHARE: u32 = 5;

/// The values of `SLOTCAST_LOG_USERS`.
const LOG_USERS: &[(&str, LogUsers)] =
    &[("plain", LogUsers::Plain), ("digest", LogUsers::Digest), ("none", LogUsers::None)];

/// The fewest and the most entries of the journal that a bucket may keep.
const MIN_JOURNAL: u32 = 100;
const MAX_JOURNAL: u32 = 1_000_000;

/// The settings that set no limit if they are 0, each with what one client may do then.
const LIMITS: [(&str, &str); 3] = [
    ("SLOTCAST_USER_RATE", "act as fast as the store can"),
    ("SLOTCAST_ANONYMOUS_RATE", "read without a token as fast as the store can"),
    ("SLOTCAST_EVENT_RATE", "send events as fast as the node can take them"),
];

/// The parts of the configuration that a command needs, apart from each value being allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// The keys of tokens.
    pub keys: KeyNeed,
    /// Whether the command opens the store. Then production must name an embedded store.
    pub store: bool,
    /// Whether the command is about a node that listens. Then doubtful settings of the listeners are worth a warning.
    pub listens: bool,
}

/// Why a command needs the keys of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyNeed {
    /// The command needs no keys. If none are set, [`Config::auth`] is `None`.
    None,
    /// To report what `serve` would refuse. Without `JWT_SECRET` in development, [`Config::auth`] is `None`.
    Report,
    /// To check tokens. Without `JWT_SECRET`, development makes a random one.
    Verify,
    /// To sign a token for nodes that have the same secret: `JWT_SECRET` must be set.
    Sign,
}

impl Needs {
    /// `slotcast serve`.
    pub const SERVE: Needs = Needs { keys: KeyNeed::Verify, store: true, listens: true };
    /// `slotcast sweep` and the scheduled function.
    pub const SWEEP: Needs = Needs { keys: KeyNeed::None, store: true, listens: false };
    /// `slotcast token`.
    pub const TOKEN: Needs = Needs { keys: KeyNeed::Sign, store: false, listens: false };
    /// `slotcast healthcheck`: where the node listens.
    pub const PROBE: Needs = Needs { keys: KeyNeed::None, store: false, listens: false };
    /// `slotcast check-config`.
    pub const CHECK: Needs = Needs { keys: KeyNeed::Report, store: true, listens: true };
}

/// A checked configuration, with the warnings and settings that an operator may want to see.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The checked configuration.
    pub config: Config,
    /// Values that are allowed but look wrong, one sentence each.
    pub warnings: Vec<String>,
    /// Every variable and the source of its value, in the order of `default.toml`.
    pub settings: Vec<Setting>,
}

/// One variable as people may see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The variable's name.
    pub name: &'static str,
    /// The variable's value and its source; `None` if it has no value. A secret's value is `(hidden)`.
    pub value: Option<(String, Source)>,
}

impl Config {
    /// Reads the defaults, then the file that `SLOTCAST_CONFIG` names (or `./slotcast.toml` if there), then `env`, and
    /// checks all of it. An empty value counts as not set.
    ///
    /// # Errors
    ///
    /// Every bad field, unknown key of the file and contradiction at once.
    pub fn load(env: &dyn Strings, needs: Needs) -> Result<Loaded, ConfigError> {
        let file =
            read_operator_file(env).map_err(|problem| ConfigError { problems: vec![problem], warnings: Vec::new() })?;
        load_layers(env, file, needs)
    }
}

/// Like [`Config::load`], with a file that was already read.
pub(super) fn load_layers(env: &dyn Strings, file: Option<OperatorFile>, needs: Needs) -> Result<Loaded, ConfigError> {
    let mut reader = Reader { layers: Layers::collect(env, file), needs };
    let config = read_config(&mut reader);
    let settings = reader.settings();
    let Layers { problems, warnings, .. } = reader.layers;
    match config {
        Ok(config) if problems.is_empty() => Ok(Loaded { config, warnings, settings }),
        _ => Err(ConfigError { problems, warnings }),
    }
}

/// The log format of a program whose configuration may be wrong: as `SLOTCAST_ENV` says in the environment or in the file.
pub fn log_format(env: &dyn Strings) -> log::Format {
    let layers = Layers::collect(env, read_operator_file(env).ok().flatten());
    let is_production = layers.values.get("SLOTCAST_ENV").is_some_and(|value| value.text == "production");
    let environment = if is_production { Environment::Production } else { Environment::Development };
    environment.log_format()
}

fn read_config(reader: &mut Reader) -> Result<Config, Noted> {
    // All parts are read before the first `?`, so that all their problems are found.
    let environment = reader.read(
        "SLOTCAST_ENV",
        parse::word(&[("development", Environment::Development), ("production", Environment::Production)]),
    );
    let checked_as = environment.unwrap_or(Environment::Development);
    let listen = read_listen(reader, checked_as);
    let store = read_store(reader, checked_as);
    let auth = read_auth(reader, checked_as);
    let holds = read_holds(reader);
    let catalog = read_catalog(reader);
    let limits = read_limits(reader);
    let journal = read_journal(reader);
    let webhooks = read_webhooks(reader);
    let log_filter = reader.read("SLOTCAST_LOG", parse::log_filter);
    let log_users = reader.read_optional("SLOTCAST_LOG_USERS", parse::word(LOG_USERS));
    Ok(Config {
        environment: environment?,
        listen: listen?,
        store: store?,
        auth: auth?,
        holds: holds?,
        catalog: catalog?,
        limits: limits?,
        journal: journal?,
        webhooks: webhooks?,
        log_filter: log_filter?,
        log_users: log_users?.unwrap_or_default(),
    })
}

fn read_listen(reader: &mut Reader, environment: Environment) -> Result<ListenConfig, Noted> {
    let host = reader.read("HOST", parse::host);
    let port = reader.read("PORT", parse::number(0..=u16::MAX));
    let admin = reader.read("SLOTCAST_ADMIN_ADDR", parse::address);
    let admin_is_explicit = reader.is_set("SLOTCAST_ADMIN_ADDR");
    let advertise = reader.read_optional("SLOTCAST_ADVERTISE_ADDR", parse::advertised);
    let cors_origins = reader.read_optional("CORS_ORIGIN", parse::origins);
    let trusted_proxies = reader.read_optional("SLOTCAST_TRUSTED_PROXIES", parse::networks);
    let forwarded_header = reader.read(
        "SLOTCAST_FORWARDED_HEADER",
        parse::word(&[("x-forwarded-for", ForwardedHeader::XForwardedFor), ("forwarded", ForwardedHeader::Forwarded)]),
    );
    let frame_ancestors = reader.read_optional("SLOTCAST_FRAME_ANCESTORS", parse::frame_ancestors);
    let drain_times = read_drain_times(reader);
    let address = SocketAddr::new(host?, port?);
    let admin = admin?;
    if admin_is_explicit && is_same_listener(address, admin) {
        reader.contradict(["SLOTCAST_ADMIN_ADDR", "PORT"], "must be another port than PORT");
    }
    if environment == Environment::Production && reader.needs.listens {
        warn_of_open_doors(reader, admin);
    }
    if let Ok(Some(trusted)) = &trusted_proxies {
        warn_of_proxies(reader, trusted);
    }
    let (drain_time, drain_grace) = drain_times?;
    Ok(ListenConfig {
        address,
        admin,
        admin_is_explicit,
        advertise: advertise?,
        cors_origins: cors_origins?.unwrap_or_default(),
        trusted_proxies: trusted_proxies?.unwrap_or_default(),
        forwarded_header: forwarded_header?,
        frame_ancestors: frame_ancestors?.unwrap_or_default(),
        drain_time,
        drain_grace,
    })
}

/// Warns of settings that leave a node in production open.
fn warn_of_open_doors(reader: &mut Reader, admin: SocketAddr) {
    if !reader.layers.values.contains_key("CORS_ORIGIN") {
        reader.warn(
            "CORS_ORIGIN is not set: only pages that this node serves itself may call it from a browser; name the origins of \
             yours, such as https://www.example.org",
        );
    }
    if admin.ip().is_unspecified() {
        reader.warn(
            "SLOTCAST_ADMIN_ADDR listens on all addresses, and whoever reaches it reads the metrics without a token: give it \
             an address of your own network, or keep its port closed from outside",
        );
    }
}

/// Warns of trusted proxies that anybody could pretend to be.
fn warn_of_proxies(reader: &mut Reader, trusted: &[Network]) {
    if reader.needs.listens && trusted.iter().any(Network::is_everybody) {
        reader.warn(
            "SLOTCAST_TRUSTED_PROXIES has a network of all addresses: each client can choose the address that its calls are \
             counted by, and so has no limit; name the networks of your proxies",
        );
    }
}

/// How long the node takes to leave, and how much of that time passes before it closes connections.
fn read_drain_times(reader: &mut Reader) -> Result<(Duration, Duration), Noted> {
    let time = reader.read("SLOTCAST_DRAIN_TIME", parse::number(0..=3_600_u32));
    let grace = reader.read("SLOTCAST_DRAIN_GRACE", parse::number(0..=3_600_u32));
    let (time, grace) = (time?, grace?);
    if !reader.is_set("SLOTCAST_DRAIN_GRACE") {
        return Ok((seconds(time), seconds(grace).min(seconds(time) / GRACE_SHARE)));
    }
    if grace > 0 && grace >= time {
        let otherwise = "must be less than SLOTCAST_DRAIN_TIME, because the grace is a part of the drain time";
        reader.contradict(["SLOTCAST_DRAIN_GRACE", "SLOTCAST_DRAIN_TIME"], otherwise);
    }
    Ok((seconds(time), seconds(grace)))
}

fn seconds(number: u32) -> Duration {
    Duration::from_secs(number.into())
}

fn is_same_listener(one: SocketAddr, other: SocketAddr) -> bool {
    let overlap = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && one.port() != 0 && overlap
}

/// `SLOTCAST_STORE`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StoreChoice {
    Auto,
    Embedded,
    Redis,
}

fn read_store(reader: &mut Reader, environment: Environment) -> Result<StoreConfig, Noted> {
    let choices = &[("auto", StoreChoice::Auto), ("embedded", StoreChoice::Embedded), ("redis", StoreChoice::Redis)];
    let choice = reader.read("SLOTCAST_STORE", parse::word(choices));
    let data_dir = reader.read("SLOTCAST_DATA_DIR", |text| Ok(text.into()));
    let url = reader.read_optional("REDIS_URL", parse::redis_url);
    let redis_prefix = reader.read("SLOTCAST_REDIS_PREFIX", parse::redis_prefix);
    let emitter = reader.read_optional("SLOTCAST_EMITTER", parse::word(&[("socket.io", true)]));
    let (choice, data_dir, url, redis_prefix) = (choice?, data_dir?, url?, redis_prefix?);
    let hears_emitters = emitter?.unwrap_or_default();

    let must_name = environment == Environment::Production && reader.needs.store;
    if choice == StoreChoice::Redis && url.is_none() {
        reader.contradict(["SLOTCAST_STORE", "REDIS_URL"], "needs REDIS_URL");
    } else if choice == StoreChoice::Auto && url.is_none() && must_name {
        reader.contradict(
            ["SLOTCAST_STORE", "REDIS_URL"],
            "must be `embedded` for production on the file of one node; for more nodes set REDIS_URL",
        );
    } else if choice == StoreChoice::Embedded && url.is_some() {
        reader.warn("REDIS_URL is not used, because SLOTCAST_STORE is embedded");
    }
    let kind = match url {
        Some(url) if choice != StoreChoice::Embedded => StoreKind::Redis(url),
        _ => StoreKind::Embedded(data_dir),
    };
    if hears_emitters && matches!(kind, StoreKind::Embedded(_)) {
        reader.contradict(["SLOTCAST_EMITTER", "REDIS_URL"], "needs REDIS_URL: emitters publish in Redis");
    }
    Ok(StoreConfig { kind, redis_prefix, hears_emitters })
}

fn read_journal(reader: &mut Reader) -> Result<JournalBounds, Noted> {
    let days = reader.read("SLOTCAST_JOURNAL_DAYS", parse::number(0..=MAX_JOURNAL_DAYS));
    let max = reader.read("SLOTCAST_JOURNAL_MAX", parse::number(MIN_JOURNAL..=MAX_JOURNAL));
    Ok(JournalBounds { days: days?, max: max? })
}

fn read_holds(reader: &mut Reader) -> Result<HoldConfig, Noted> {
    let duration = reader.read("SLOT_HOLD_DURATION", parse::number(1..=1_440_u64));
    let max = reader.read("SLOT_HOLD_MAX", parse::number(1..=1_440_u64));
    let timer_interval = reader.read("SLOT_TIMER_INTERVAL", parse::number_or_zero(10..=3_600_000));
    let max_holds = reader.read("SLOT_MAX_HOLDS", parse::number(0..=100_000_u32));
    let max_held = reader.read("SLOT_MAX_HELD", parse::number(0..=100_000_u32));
    let cancel_until = reader.read_optional("SLOT_CANCEL_UNTIL", parse::number(0..=525_600_u64));
    let freed_to =
        reader.read("SLOTCAST_FREED_TO", parse::word(&[("everyone", FreedTo::Everyone), ("rooms", FreedTo::Rooms)]));
    let (duration, max) = (duration?, max?);
    if max < duration {
        reader.contradict(["SLOT_HOLD_MAX", "SLOT_HOLD_DURATION"], "must not be less than SLOT_HOLD_DURATION");
    }
    Ok(HoldConfig {
        duration: Duration::from_secs(duration * 60),
        max: Duration::from_secs(max * 60),
        timer_interval: timer_interval?.map(Duration::from_millis),
        max_holds: Some(max_holds?).filter(|max| *max > 0),
        max_held: Some(max_held?).filter(|max| *max > 0),
        cancel_until: cancel_until?.map(|minutes| Duration::from_secs(minutes * 60)),
        freed_to: freed_to?,
    })
}

fn read_catalog(reader: &mut Reader) -> Result<CatalogConfig, Noted> {
    let open = reader.read("SLOTCAST_OPEN_CATALOG", parse::flag);
    let max_days = reader.read("SLOTCAST_MAX_DAYS", parse::number(1..=3_650));
    Ok(CatalogConfig { open: open?, max_days: max_days? })
}

fn read_limits(reader: &mut Reader) -> Result<LimitConfig, Noted> {
    let user_rate = reader.read("SLOTCAST_USER_RATE", parse::number(0..=1_000_000));
    let anonymous_rate = reader.read("SLOTCAST_ANONYMOUS_RATE", parse::number(0..=1_000_000));
    let event_rate = reader.read("SLOTCAST_EVENT_RATE", parse::number(0..=1_000_000));
    let max_rooms = reader.read("SLOTCAST_MAX_ROOMS", parse::number(1..=65_536));
    let may_watch = reader.read_optional("SLOTCAST_GUESTS", parse::word(&[("watch", ())]));
    let max_guests = reader.read("SLOTCAST_MAX_GUESTS", parse::number(1..=1_000_000));
    let (may_watch, max_guests) = (may_watch?, max_guests?);
    if reader.is_set("SLOTCAST_MAX_GUESTS") && may_watch.is_none() {
        reader.warn("SLOTCAST_MAX_GUESTS has no effect, because SLOTCAST_GUESTS is not set: no guest is let in");
    }
    for (name, may) in LIMITS {
        if reader.needs.listens && reader.text(name) == "0" {
            reader.warn(format!("{name} is 0: there is no limit, and one client may {may}"));
        }
    }
    Ok(LimitConfig {
        user_rate: NonZeroU32::new(user_rate?),
        anonymous_rate: NonZeroU32::new(anonymous_rate?),
        event_rate: NonZeroU32::new(event_rate?),
        max_rooms: max_rooms?,
        guests: may_watch.map(|()| max_guests),
    })
}

/// Stands for a bad value whose fault the [`Reader`] has noted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Noted;

/// Reads values of the layers, and notes their faults.
pub(super) struct Reader {
    pub(super) layers: Layers,
    pub(super) needs: Needs,
}

impl Reader {
    /// Reads a value that must be set.
    pub(super) fn read<T>(&mut self, name: &'static str, parse: impl FnOnce(&str) -> Parsed<T>) -> Result<T, Noted> {
        self.read_optional(name, parse)?.ok_or_else(|| self.problem(name, "must be set"))
    }

    /// Reads a value that may be missing.
    pub(super) fn read_optional<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Parsed<T>,
    ) -> Result<Option<T>, Noted> {
        let Some(value) = self.layers.values.get(name) else { return Ok(None) };
        if value.text.contains('\u{fffd}') {
            return Err(self.problem(name, "must be UTF-8"));
        }
        let around = surroundings(&value.text);
        match (parse(&value.text), around) {
            (Ok(parsed), None) => Ok(Some(parsed)),
            (Ok(parsed), Some(around)) => {
                let warning = format!("{name} ({}) has {around}, which counts as a part of it", value.source);
                self.warn(warning);
                Ok(Some(parsed))
            }
            (Err(allowed), None) => Err(self.problem(name, &allowed)),
            (Err(allowed), Some(around)) => Err(self.problem(name, &format!("{allowed} (it has {around})"))),
        }
    }

    /// Notes a value that is allowed but looks wrong.
    pub(super) fn warn(&mut self, warning: impl Into<String>) {
        self.layers.warnings.push(warning.into());
    }

    /// Whether the operator set it.
    fn is_set(&self, name: &str) -> bool {
        let source = self.layers.values.get(name).map(|value| &value.source);
        matches!(source, Some(Source::File(_) | Source::Environment | Source::SecretFile(_)))
    }

    pub(super) fn text(&self, name: &str) -> &str {
        self.layers.values.get(name).map(|value| value.text.as_str()).unwrap_or_default()
    }

    /// Notes that a variable's value is not allowed.
    pub(super) fn problem(&mut self, name: &'static str, otherwise: &str) -> Noted {
        let message = format!("{name} {otherwise}; {}", self.describe(name, "it"));
        self.layers.problems.push(Problem::new(name, message));
        Noted
    }

    /// Notes that two allowed values do not go together.
    pub(super) fn contradict(&mut self, names: [&'static str; 2], otherwise: &str) -> Noted {
        let [first, second] = names;
        let (one, other) = (self.describe(first, first), self.describe(second, second));
        self.layers.problems.push(Problem::new(first, format!("{first} {otherwise}; {one}, {other}")));
        Noted
    }

    fn describe(&self, name: &str, subject: &str) -> String {
        match self.layers.values.get(name) {
            Some(value) => format!("{subject} is {} ({})", show(name, &value.text), value.source),
            None => format!("{subject} is not set"),
        }
    }

    fn settings(&self) -> Vec<Setting> {
        let shown = |name, value: &Value| (show(name, &value.text), value.source.clone());
        let value = |name| self.layers.values.get(name).map(|value| shown(name, value));
        VARIABLES.iter().map(|name| Setting { name, value: value(*name) }).collect()
    }
}

/// A value as people may see it, without secrets and user names in URLs.
fn show(name: &str, text: &str) -> String {
    let is_secret = matches!(name, "JWT_SECRET" | "JWT_SECRET_PREVIOUS" | "REDIS_URL" | "SLOTCAST_WEBHOOK_SECRET");
    // The part of an address before `@`, or after `?` or `#`, may be a password.
    let lets_in = matches!(name, "SLOTCAST_WEBHOOK_URL" | "JWT_JWKS_URL") && text.contains(['@', '?', '#']);
    if is_secret || lets_in || (text.contains("://") && text.contains('@')) {
        return "(hidden)".into();
    }
    let start: String = text.chars().take(SHOWN_LENGTH).collect();
    let more = if start.len() < text.len() { "..." } else { "" };
    format!("{start:?}{more}")
}
