//! What a node and its commands can be told.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::proxies::{ForwardedHeader, Network};
use super::webhooks::Webhook;
use crate::domain::OwnTerms;
use crate::store::JournalBounds;
use crate::telemetry::log;
use crate::telemetry::users::LogUsers;

/// All settings, checked. One struct for each concern; each field names its variable and default.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which checks apply.
    pub environment: Environment,
    /// Where the node listens.
    pub listen: ListenConfig,
    /// Where state lives.
    pub store: StoreConfig,
    /// How tokens are checked; `None` where the command needs no tokens and `JWT_SECRET` is not set.
    pub auth: Option<AuthConfig>,
    /// How long holds last, and who frees them.
    pub holds: HoldConfig,
    /// Which spaces and dates exist.
    pub catalog: CatalogConfig,
    /// Limits of users and sockets.
    pub limits: LimitConfig,
    /// `SLOTCAST_JOURNAL_DAYS` (90) and `SLOTCAST_JOURNAL_MAX` (5000): how much of the journal is kept.
    pub journal: JournalBounds,
    /// `SLOTCAST_WEBHOOK_URL` and the variables beside it, and `[[webhooks]]` of the file. Default none.
    pub webhooks: Vec<Webhook>,
    /// `SLOTCAST_LOG`, a tracing filter. Default `info`.
    pub log_filter: String,
    /// `SLOTCAST_LOG_USERS`. Default: ids that are numbers plain, others as a digest.
    pub log_users: LogUsers,
}

/// The fewest days that the journal is kept if webhooks read it, which is longer than a delivery is tried.
const DAYS_FOR_WEBHOOKS: u32 = 4;

impl Config {
    /// How much of the journal the store keeps. Webhooks need some days of it, even if the operator shows none or fewer.
    pub fn stored_journal(&self) -> JournalBounds {
        let days = if self.webhooks.is_empty() { 0 } else { DAYS_FOR_WEBHOOKS };
        JournalBounds { days: self.journal.days.max(days), ..self.journal }
    }
}

/// `SLOTCAST_ENV`. Default `development`; `production` refuses what is unsafe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Environment {
    /// Convenient: a random secret, an embedded store, text logs.
    Development,
    /// Strict: everything that matters must be set; JSON logs.
    Production,
}

impl Environment {
    /// How log lines look.
    pub fn log_format(self) -> log::Format {
        match self {
            Environment::Development => log::Format::Text,
            Environment::Production => log::Format::Json,
        }
    }
}

/// Where the node listens, and how it leaves.
#[derive(Clone, Debug)]
pub struct ListenConfig {
    /// `HOST` (127.0.0.1, in production 0.0.0.0) and `PORT` (3000; with 0 any free port).
    pub address: SocketAddr,
    /// `SLOTCAST_ADMIN_ADDR`. Default 127.0.0.1:9090.
    pub admin: SocketAddr,
    /// Whether the operator set `SLOTCAST_ADMIN_ADDR`. If not, and the default port is taken, the node takes a free
    /// one.
    pub admin_is_explicit: bool,
    /// `SLOTCAST_ADVERTISE_ADDR`. Default: this host and port. For a listener on all addresses see
    /// [`crate::net::advertise`].
    pub advertise: Option<String>,
    /// `CORS_ORIGIN`, comma separated. Default: the six of the origin and Vite's; in production none: then only the node's
    /// own pages may call it.
    pub cors_origins: Vec<String>,
    /// `SLOTCAST_TRUSTED_PROXIES`, comma separated. Default none: the proxies that are believed when they name a
    /// caller's address.
    pub trusted_proxies: Vec<Network>,
    /// `SLOTCAST_FORWARDED_HEADER`. Default `x-forwarded-for`: the header in which proxies name a caller's address.
    pub forwarded_header: ForwardedHeader,
    /// `SLOTCAST_FRAME_ANCESTORS`, comma separated. Default none: the origins whose pages may show the node's page in a
    /// frame.
    pub frame_ancestors: Vec<String>,
    /// `SLOTCAST_DRAIN_TIME` in seconds. Default 25: the time between SIGTERM or SIGINT and exit 0.
    pub drain_time: Duration,
    /// `SLOTCAST_DRAIN_GRACE` in seconds, a part of the drain time. Default 0, in production 5: how long `/readyz` says 503
    /// after SIGTERM or SIGINT before the first connection is closed.
    pub drain_grace: Duration,
}

/// Where state lives.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Which store.
    pub kind: StoreKind,
    /// `SLOTCAST_REDIS_PREFIX`. Default `slotcast`.
    pub redis_prefix: String,
    /// Whether `SLOTCAST_EMITTER` is `socket.io`: then sockets get what `@socket.io/redis-emitter` publishes. Default no.
    pub hears_emitters: bool,
}

/// `REDIS_URL`, `SLOTCAST_STORE` and `SLOTCAST_DATA_DIR` together.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreKind {
    /// One process, with its file in this folder.
    Embedded(PathBuf),
    /// A Redis, shared by nodes. Its URL may carry a password and is never printed.
    Redis(String),
}

impl std::fmt::Debug for StoreKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StoreKind::Embedded(folder) => f.debug_tuple("Embedded").field(folder).finish(),
            StoreKind::Redis(_) => f.write_str("Redis(..)"),
        }
    }
}

/// How tokens are checked.
#[derive(Clone)]
pub struct AuthConfig {
    /// `JWT_SECRET` for HS256, `JWT_JWKS_URL` for the other algorithms.
    pub keys: KeySource,
    /// `JWT_ISSUER`. If it is set, `iss` must be equal to it.
    pub issuer: Option<String>,
    /// `JWT_AUDIENCE`. If it is set, `aud` must contain it.
    pub audience: Option<String>,
    /// Whether the secret was made at start. Then the program prints ready tokens.
    pub secret_is_random: bool,
    /// `JWT_SECRET`, however tokens are checked. A key derived from it signs what nodes tell each other.
    pub node_secret: Option<Vec<u8>>,
    /// `JWT_SECRET_PREVIOUS`. Tokens of HS256 and signatures of nodes are accepted under it, too. It signs nothing.
    pub previous_secret: Option<Vec<u8>>,
}

impl std::fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthConfig")
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .finish_non_exhaustive()
    }
}

/// Where the keys come from. The algorithm is fixed here, never by a token.
#[derive(Clone)]
pub enum KeySource {
    /// HS256 with `JWT_SECRET`, at least 32 bytes.
    Secret(Vec<u8>),
    /// `JWT_ALGORITHM` (RS256, ES256 or EdDSA) with the keys at `JWT_JWKS_URL`.
    Jwks {
        /// The one algorithm that is accepted.
        algorithm: jsonwebtoken::Algorithm,
        /// Where the key set is.
        url: String,
    },
}

/// How long holds last, and who frees them.
#[derive(Clone, Debug)]
pub struct HoldConfig {
    /// `SLOT_HOLD_DURATION` in minutes. Default 15: the longest and the usual hold.
    pub duration: Duration,
    /// `SLOT_HOLD_MAX` in minutes. Default 60: the longest after extensions.
    pub max: Duration,
    /// `SLOT_TIMER_INTERVAL` in milliseconds. Default 30000; `None` for 0: this node frees nothing by itself.
    pub timer_interval: Option<Duration>,
    /// `SLOT_MAX_HOLDS`. Default 12 live holds of one user in one space; `None` for 0: any number.
    pub max_holds: Option<u32>,
    /// `SLOT_MAX_HELD`: how many slots one user may hold at a time in one space. Default 64; `None` for 0, which is any number.
    pub max_held: Option<u32>,
    /// `SLOT_CANCEL_UNTIL` in minutes before the start. Default none: a user cannot cancel a booking.
    pub cancel_until: Option<Duration>,
    /// `SLOTCAST_FREED_TO`. Default `everyone`.
    pub freed_to: FreedTo,
}

impl HoldConfig {
    /// The terms that users are told of their own slots.
    pub fn own_terms(&self) -> OwnTerms {
        let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        OwnTerms { max_hold: millis(self.max), cancel_before: self.cancel_until.map(millis) }
    }
}

/// Who gets `slots_freed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FreedTo {
    /// Every client.
    Everyone,
    /// The rooms of the freed slots.
    Rooms,
}

/// Which spaces and dates exist.
#[derive(Clone, Debug)]
pub struct CatalogConfig {
    /// `SLOTCAST_OPEN_CATALOG`. Default true, in production false: whether unregistered spaces exist.
    pub open: bool,
    /// `SLOTCAST_MAX_DAYS`. Default 400: how far ahead a date may be.
    pub max_days: u16,
}

/// Limits of users and sockets. `None` stands for 0: no limit.
#[derive(Clone, Debug)]
pub struct LimitConfig {
    /// `SLOTCAST_USER_RATE`. Default 20 acts a second of one user, burst twice that.
    pub user_rate: Option<std::num::NonZeroU32>,
    /// `SLOTCAST_ANONYMOUS_RATE`. Default 50 calls without a token a second of one address, burst ten times that.
    pub anonymous_rate: Option<std::num::NonZeroU32>,
    /// `SLOTCAST_EVENT_RATE`. Default 50 events a second of one socket, burst 512.
    pub event_rate: Option<std::num::NonZeroU32>,
    /// `SLOTCAST_MAX_ROOMS`. Default 256 rooms of one socket.
    pub max_rooms: usize,
    /// `SLOTCAST_GUESTS` and `SLOTCAST_MAX_GUESTS`: how many sockets without a token may watch at once. Default `None`: no
    /// such socket is let in.
    pub guests: Option<usize>,
}
