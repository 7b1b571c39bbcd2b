//! Signs tokens for `slotcast token` and for tests. Only a shared secret can sign: a node has no private key.

use std::collections::BTreeSet;

use jsonwebtoken::{EncodingKey, Header};
use serde::Serialize;

use super::Claims;
use crate::config::{AuthConfig, KeySource};
use crate::domain::{SiteId, StoreTime, UserId};

/// Why no token was signed.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The configured keys belong to another issuer, so this program cannot sign with them.
    #[error("only tokens of HS256 with JWT_SECRET can be signed here; ask the issuer of JWT_JWKS_URL for one")]
    NoSecret,
    /// The token could not be made.
    #[error("the token could not be signed: {0}")]
    Signing(#[from] jsonwebtoken::errors::Error),
}

/// Signs a token that says `claims`, with the configured issuer and audience, if any. Times are written in whole seconds;
/// the end is rounded down.
///
/// # Errors
///
/// [`IssueError::NoSecret`] unless the configuration has a secret.
pub fn issue(config: &AuthConfig, claims: &Claims, now: StoreTime) -> Result<String, IssueError> {
    let KeySource::Secret(secret) = &config.keys else { return Err(IssueError::NoSecret) };
    let token = IssuedClaims {
        id_utente: &claims.user,
        ruolo: claims.role.map(|role| role.as_str()),
        sedi: claims.sites.as_ref(),
        iat: now.as_millis().div_euclid(1_000),
        exp: claims.expires.as_millis().div_euclid(1_000),
        iss: config.issuer.as_deref(),
        aud: config.audience.as_deref(),
    };
    Ok(jsonwebtoken::encode(&Header::default(), &token, &EncodingKey::from_secret(secret))?)
}

#[derive(Serialize)]
struct IssuedClaims<'a> {
    id_utente: &'a UserId,
    #[serde(skip_serializing_if = "Option::is_none")]
    ruolo: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sedi: Option<&'a BTreeSet<SiteId>>,
    iat: i64,
    exp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
}
