//! Whether a token is valid: its signature by the configured algorithm, its times, its issuer and audience, its claims.
//!
//! **Invariant:** nothing that a token says chooses how it is checked. The algorithm and the keys are the
//! configuration's; `kid` only selects among the keys of the configured set, and `jku`, `x5u` and `jwk` are ignored.

use std::collections::BTreeSet;
use std::fmt;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use super::jwks::{KeyCache, KeyError};
use super::{Claims, Role};
use crate::clock;
use crate::config::{AuthConfig, KeySource};
use crate::domain::{Object, SiteId, StoreTime, UserId};

/// How far the clocks of issuer and node may differ. A socket stays open for the same time after its token has ended.
pub const LEEWAY_MILLIS: i64 = 10_000;

/// The longest token that is parsed, in bytes.
pub const LONGEST_TOKEN: usize = 8 * 1024;

/// Why a token is not valid. Clients see `Token non valido` for each reason; the log has the reason. The texts quote
/// nothing of the token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Longer than [`LONGEST_TOKEN`].
    #[error("the token is longer than {LONGEST_TOKEN} bytes")]
    TooLong,
    /// Not three parts of base64 with JSON in them, or a header with an extension that must be understood (`crit`).
    #[error("the token is malformed")]
    Malformed,
    /// Signed by another algorithm than the configured one, or not signed. Or the header does not name the algorithm
    /// properly.
    #[error("the token's algorithm is not the configured one")]
    Algorithm,
    /// The signature is missing, or another key made it.
    #[error("the token's signature is wrong")]
    Signature,
    /// The set has no key with the token's `kid`; or the token has no `kid`, and the set has several keys.
    #[error("the token's `kid` is missing, or names no key of the set")]
    UnknownKey,
    /// The key set could not be fetched, so the token cannot be checked now.
    #[error("the key set could not be fetched, so the token cannot be checked now")]
    KeysUnavailable,
    /// `exp` was 10 s ago or more.
    #[error("the token has expired")]
    Expired,
    /// `nbf` is more than 10 s ahead.
    #[error("the token is not yet valid")]
    NotYetValid,
    /// `iss` is not `JWT_ISSUER`.
    #[error("the token's `iss` is not JWT_ISSUER")]
    Issuer,
    /// `aud` does not contain `JWT_AUDIENCE`.
    #[error("the token's `aud` does not have JWT_AUDIENCE")]
    Audience,
    /// `exp` or `id_utente` is missing, or a claim has a type or value that it cannot have.
    #[error("the token's claims are missing or malformed")]
    Claims,
}

/// Checks tokens. One verifier serves all checks at once.
pub struct Verifier {
    keys: Keys,
    validation: Validation,
}

enum Keys {
    /// The key of the present secret, then the key of the previous one.
    Secrets(Vec<DecodingKey>),
    Set(KeyCache),
}

impl Verifier {
    /// Prepares the keys. A key set is fetched by [`Self::fetch_first_keys`], or when the first token comes.
    ///
    /// # Errors
    ///
    /// The system's TLS could not be set up for fetching a key set.
    pub fn new(config: &AuthConfig) -> anyhow::Result<Self> {
        let (algorithm, keys) = match &config.keys {
            KeySource::Secret(secret) => {
                let secrets = [Some(secret), config.previous_secret.as_ref()].into_iter().flatten();
                (Algorithm::HS256, Keys::Secrets(secrets.map(|secret| DecodingKey::from_secret(secret)).collect()))
            }
            KeySource::Jwks { algorithm, url } => (*algorithm, Keys::Set(KeyCache::new(url, *algorithm)?)),
        };
        Ok(Self { keys, validation: validation_of(config, algorithm) })
    }

    /// Whether tokens can be checked now. Without a key set they always can.
    pub fn has_keys(&self) -> bool {
        match &self.keys {
            Keys::Secrets(_) => true,
            Keys::Set(cache) => cache.has_keys(clock::instant()),
        }
    }

    /// Fetches the key set, if there is one, until it is there.
    pub async fn fetch_first_keys(&self) {
        if let Keys::Set(cache) = &self.keys {
            cache.fetch_first().await;
        }
    }

    /// Checks a token against this machine's clock. Fetches the key set if a fetch is due, else answers at once.
    ///
    /// # Errors
    ///
    /// The reason why the token is not valid.
    pub async fn verify(&self, token: &str) -> Result<Claims, TokenError> {
        self.verify_at(token, clock::wall()).await
    }

    /// Like [`Self::verify`], at the time `now`.
    ///
    /// # Errors
    ///
    /// The reason why the token is not valid.
    pub async fn verify_at(&self, token: &str, now: StoreTime) -> Result<Claims, TokenError> {
        if token.len() > LONGEST_TOKEN {
            return Err(TokenError::TooLong);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|error| match error.kind() {
            // The library does not know this algorithm, for example `none`.
            ErrorKind::Json(error) if error.is_data() => TokenError::Algorithm,
            _ => reason_of(&error),
        })?;
        if !self.validation.algorithms.contains(&header.alg) {
            return Err(TokenError::Algorithm);
        }
        // A verifier must understand or refuse a critical extension (RFC 7515, 4.1.11). This one understands none.
        if header.crit.is_some() {
            return Err(TokenError::Malformed);
        }
        match &self.keys {
            Keys::Secrets(keys) => self.check_with_any(token, keys, now),
            Keys::Set(cache) => {
                let key = cache.find(header.kid.as_deref(), clock::instant()).await?;
                self.check(token, &key, now)
            }
        }
    }

    /// Checks a token with each key until its signature holds. If none holds, the answer is the last key's reason.
    fn check_with_any(&self, token: &str, keys: &[DecodingKey], now: StoreTime) -> Result<Claims, TokenError> {
        let mut checked = Err(TokenError::Signature);
        for key in keys {
            checked = self.check(token, key, now);
            if checked != Err(TokenError::Signature) {
                break;
            }
        }
        checked
    }

    fn check(&self, token: &str, key: &DecodingKey, now: StoreTime) -> Result<Claims, TokenError> {
        let decoded = jsonwebtoken::decode::<Object<RawClaims>>(token, key, &self.validation);
        let Object(claims) = decoded.map_err(|error| reason_of(&error))?.claims;
        claims.check(now)
    }
}

/// The library's checks besides the signature. This file checks the times, because the caller passes the clock's time
/// in.
fn validation_of(config: &AuthConfig, algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = config.audience.is_some();
    validation.required_spec_claims.clear();
    if let Some(issuer) = &config.issuer {
        validation.set_issuer(&[issuer]);
        validation.required_spec_claims.insert("iss".into());
    }
    if let Some(audience) = &config.audience {
        validation.set_audience(&[audience]);
        validation.required_spec_claims.insert("aud".into());
    }
    validation
}

fn reason_of(error: &jsonwebtoken::errors::Error) -> TokenError {
    match error.kind() {
        ErrorKind::InvalidSignature => TokenError::Signature,
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName | ErrorKind::UnsupportedAlgorithm => {
            TokenError::Algorithm
        }
        ErrorKind::InvalidIssuer => TokenError::Issuer,
        ErrorKind::InvalidAudience => TokenError::Audience,
        ErrorKind::MissingRequiredClaim(claim) if claim == "iss" => TokenError::Issuer,
        ErrorKind::MissingRequiredClaim(claim) if claim == "aud" => TokenError::Audience,
        ErrorKind::Json(error) if error.is_data() => TokenError::Claims,
        _ => TokenError::Malformed,
    }
}

impl From<KeyError> for TokenError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Unknown => TokenError::UnknownKey,
            KeyError::Unavailable => TokenError::KeysUnavailable,
        }
    }
}

/// The claims of the contract as a token carries them.
#[derive(Deserialize)]
struct RawClaims {
    exp: NumericDate,
    #[serde(default, deserialize_with = "not_null")]
    nbf: Option<NumericDate>,
    id_utente: UserId,
    ruolo: Option<String>,
    #[serde(default, deserialize_with = "not_null")]
    sedi: Option<BTreeSet<SiteId>>,
}

/// A claim that restricts the token. It may be missing, but not `null`: `null` would lift the restriction.
fn not_null<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl RawClaims {
    fn check(self, now: StoreTime) -> Result<Claims, TokenError> {
        let expires = self.exp.0;
        if now >= expires.plus_millis(LEEWAY_MILLIS) {
            return Err(TokenError::Expired);
        }
        if self.nbf.is_some_and(|not_before| not_before.0 > now.plus_millis(LEEWAY_MILLIS)) {
            return Err(TokenError::NotYetValid);
        }
        let role = self.ruolo.as_deref().and_then(Role::parse);
        Ok(Claims { user: self.id_utente, role, sites: self.sedi, expires })
    }
}

/// Seconds since 1970, with or without a fraction (RFC 7519, 2), as an instant. Saturates at the ends of its range.
struct NumericDate(StoreTime);

impl<'de> Deserialize<'de> for NumericDate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DateVisitor;

        impl Visitor<'_> for DateVisitor {
            type Value = NumericDate;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("seconds since 1970")
            }

            fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<NumericDate, E> {
                Ok(NumericDate(StoreTime::from_millis(seconds.saturating_mul(1_000))))
            }

            fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<NumericDate, E> {
                self.visit_i64(i64::try_from(seconds).unwrap_or(i64::MAX))
            }

            fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<NumericDate, E> {
                // A cast from a float saturates.
                Ok(NumericDate(StoreTime::from_millis((seconds * 1_000.0) as i64)))
            }
        }

        deserializer.deserialize_any(DateVisitor)
    }
}

#[cfg(test)]
mod tests;
