//! The public keys of an issuer (RFC 7517), fetched when needed and kept.
//!
//! A set is fresh for as long as the issuer says (`Cache-Control: max-age`), within bounds. The next use of a stale set
//! fetches it again. An unknown key causes a fetch at most every [`UNKNOWN_KEY_PAUSE`], so that nobody can hammer the
//! issuer with invented `kid`s. One fetch runs at a time, in a task of its own: a caller that goes away does not end it.
//! While the issuer does not answer, the old keys are used for [`LONGEST_OUTAGE`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use parking_lot::RwLock;
use reqwest::header::CACHE_CONTROL;
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::clock;

/// The shortest time that a set is fresh, whatever the issuer says.
pub const SHORTEST_FRESH: Duration = Duration::from_secs(60);

/// The longest time that a set is fresh, and the time for an issuer that says nothing usable.
pub const LONGEST_FRESH: Duration = Duration::from_secs(60 * 60);

/// The time between two fetches that an unknown key causes.
pub const UNKNOWN_KEY_PAUSE: Duration = Duration::from_secs(30);

/// The pause after a failed fetch before a stale or missing set is fetched again.
pub const FAILURE_PAUSE: Duration = Duration::from_secs(5);

/// How often the node looks for the first set while the issuer does not answer.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest time after its fetch that a set is used while no newer set can be fetched.
pub const LONGEST_OUTAGE: Duration = Duration::from_secs(24 * 60 * 60);

/// The largest set, in bytes.
const LARGEST_SET: usize = 1024 * 1024;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// The set has no key with this `kid`.
    Unknown,
    /// No set could be fetched.
    Unavailable,
}

/// The key set of one URL.
#[derive(Clone)]
pub struct KeyCache {
    shared: Arc<Shared>,
}

struct Shared {
    url: String,
    algorithm: Algorithm,
    client: reqwest::Client,
    keys: RwLock<Option<Arc<KeySet>>>,
    /// Held across the awaits of a fetch, so that only one fetch runs at a time.
    last_fetch: Arc<Mutex<Option<Fetch>>>,
}

/// When a fetch was started, and how it went.
#[derive(Clone, Copy)]
struct Fetch {
    started: Instant,
    succeeded: bool,
}

/// The usable keys of a set.
struct KeySet {
    keys: Vec<(Option<String>, DecodingKey)>,
    fetched: Instant,
    fresh_for: Duration,
}

impl KeySet {
    /// The key of a `kid`; without one, the only key.
    fn find(&self, kid: Option<&str>) -> Option<DecodingKey> {
        match (kid, self.keys.as_slice()) {
            (Some(kid), keys) => keys.iter().find(|(id, _)| id.as_deref() == Some(kid)).map(|(_, key)| key.clone()),
            (None, [(_, key)]) => Some(key.clone()),
            (None, _) => None,
        }
    }

    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.fetched)
    }
}

impl KeyCache {
    /// Prepares to fetch from `url`. Only keys for `algorithm` are used.
    ///
    /// # Errors
    ///
    /// TLS could not be set up on this system.
    pub fn new(url: &str, algorithm: Algorithm) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder()
            // The operator chose the address. A redirect must not replace it.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(FETCH_TIMEOUT)
            .build()
            .context("cannot prepare to fetch JWT_JWKS_URL")?;
        let (keys, last_fetch) = (RwLock::default(), Arc::default());
        Ok(Self { shared: Arc::new(Shared { url: url.into(), algorithm, client, keys, last_fetch }) })
    }

    /// The key of a token's `kid`. Fetches the set if it is missing, stale or without that key, and a fetch is due.
    ///
    /// # Errors
    ///
    /// [`KeyError::Unknown`] where the set has no such key, [`KeyError::Unavailable`] where there is no set.
    pub async fn find(&self, kid: Option<&str>, now: Instant) -> Result<DecodingKey, KeyError> {
        let known = self.usable(now).and_then(|set| Some((set.find(kid)?, set.age(now) < set.fresh_for)));
        match known {
            Some((key, true)) => return Ok(key),
            // A fetch of the stale set is running already. Nobody waits for a slow issuer.
            Some((key, false)) => match self.shared.last_fetch.clone().try_lock_owned() {
                Ok(turn) => self.fetch_if_due(turn, true, now).await,
                Err(_) => return Ok(key),
            },
            None => {
                let turn = self.shared.last_fetch.clone().lock_owned().await;
                let was_fetched_meanwhile = self.usable(now).is_some_and(|set| set.find(kid).is_some());
                if !was_fetched_meanwhile {
                    self.fetch_if_due(turn, false, now).await;
                }
            }
        }
        let set = self.usable(now).ok_or(KeyError::Unavailable)?;
        set.find(kid).ok_or(KeyError::Unknown)
    }

    /// Whether tokens can be checked: a set was fetched, and it is not too old.
    pub fn has_keys(&self, now: Instant) -> bool {
        self.usable(now).is_some()
    }

    /// Tries to fetch the set until that succeeds.
    pub async fn fetch_first(&self) {
        while !self.has_keys(clock::instant()) {
            let turn = self.shared.last_fetch.clone().lock_owned().await;
            self.fetch_if_due(turn, false, clock::instant()).await;
            if !self.has_keys(clock::instant()) {
                tokio::time::sleep(FIRST_PAUSE).await;
            }
        }
    }

    /// The set, unless it is too old to be used at all.
    fn usable(&self, now: Instant) -> Option<Arc<KeySet>> {
        self.shared.keys.read().clone().filter(|set| set.age(now) < LONGEST_OUTAGE)
    }

    /// Fetches the set, unless the last fetch was too recent. If the key is unknown, the pause between fetches is longer.
    async fn fetch_if_due(&self, mut turn: OwnedMutexGuard<Option<Fetch>>, is_known: bool, now: Instant) {
        let pause = match *turn {
            Some(Fetch { succeeded: true, .. }) if is_known => Duration::ZERO,
            _ if is_known || self.usable(now).is_none() => FAILURE_PAUSE,
            _ => UNKNOWN_KEY_PAUSE,
        };
        if turn.is_some_and(|last| now.saturating_duration_since(last.started) < pause) {
            return;
        }
        let shared = self.shared.clone();
        let fetching = tokio::spawn(async move {
            let succeeded = shared.fetch(now).await;
            *turn = Some(Fetch { started: now, succeeded });
        });
        if let Err(error) = fetching.await {
            tracing::error!(%error, "the task that fetches the key set of JWT_JWKS_URL panicked");
        }
    }
}

impl Shared {
    /// Replaces the set. If the fetch fails, the old set stays, and the log says so.
    async fn fetch(&self, now: Instant) -> bool {
        let started = clock::instant();
        match self.try_fetch(now).await {
            Ok(set) => {
                let duration_ms = started.elapsed().as_millis() as u64;
                tracing::info!(keys = set.keys.len(), duration_ms, "fetched the key set of JWT_JWKS_URL");
                *self.keys.write() = Some(Arc::new(set));
                true
            }
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "cannot fetch the key set of JWT_JWKS_URL");
                false
            }
        }
    }

    async fn try_fetch(&self, now: Instant) -> anyhow::Result<KeySet> {
        let mut response = self.client.get(&self.url).send().await.map_err(reqwest::Error::without_url)?;
        ensure!(response.status() == reqwest::StatusCode::OK, "the server answered {}", response.status());
        let cache_control = response.headers().get(CACHE_CONTROL).and_then(|value| value.to_str().ok());
        let fresh_for = fresh_for(cache_control);
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(reqwest::Error::without_url)? {
            if body.len() + chunk.len() > LARGEST_SET {
                bail!("the answer is larger than {LARGEST_SET} bytes");
            }
            body.extend_from_slice(&chunk);
        }
        let keys = usable_keys(&body, self.algorithm)?;
        ensure!(!keys.is_empty(), "the key set has no key for {:?}", self.algorithm);
        Ok(KeySet { keys, fetched: now, fresh_for })
    }
}

/// How long a set is fresh by its `Cache-Control`.
fn fresh_for(cache_control: Option<&str>) -> Duration {
    let seconds = cache_control.unwrap_or("").split(',').find_map(|directive| {
        let (name, value) = directive.trim().split_once('=')?;
        name.eq_ignore_ascii_case("max-age").then(|| value.trim_matches('"').parse().ok())?
    });
    let said = seconds.map_or(LONGEST_FRESH, Duration::from_secs);
    said.clamp(SHORTEST_FRESH, LONGEST_FRESH)
}

/// The keys of a set that may check signatures of the algorithm. Other keys, and entries that are not keys, are left
/// out, so that one odd entry does not make the rest useless.
fn usable_keys(body: &[u8], algorithm: Algorithm) -> anyhow::Result<Vec<(Option<String>, DecodingKey)>> {
    #[derive(serde::Deserialize)]
    struct Set {
        keys: Vec<serde_json::Value>,
    }

    let set: Set = serde_json::from_slice(body).context("the answer is not a key set")?;
    let keys = set.keys.into_iter().filter_map(|value| serde_json::from_value::<Jwk>(value).ok());
    Ok(keys
        .filter(|key| is_for(key, algorithm))
        .filter_map(|key| Some((key.common.key_id.clone(), DecodingKey::from_jwk(&key).ok()?)))
        .collect())
}

/// Whether a key's type and its `use`, `key_ops` and `alg` fit the algorithm.
fn is_for(key: &Jwk, algorithm: Algorithm) -> bool {
    let fits = match (algorithm, &key.algorithm) {
        (Algorithm::RS256, AlgorithmParameters::RSA(_)) => true,
        (Algorithm::ES256, AlgorithmParameters::EllipticCurve(curve)) => curve.curve == EllipticCurve::P256,
        (Algorithm::EdDSA, AlgorithmParameters::OctetKeyPair(pair)) => pair.curve == EllipticCurve::Ed25519,
        _ => false,
    };
    let common = &key.common;
    fits && common.key_algorithm.is_none_or(|named| named == KeyAlgorithm::from(algorithm))
        && common.public_key_use.as_ref().is_none_or(|usage| *usage == PublicKeyUse::Signature)
        && common.key_operations.as_ref().is_none_or(|operations| operations.contains(&KeyOperations::Verify))
}

#[cfg(test)]
mod tests;
