//! Reads how tokens are checked, and the secret with which nodes sign.

use jsonwebtoken::Algorithm;

use super::load::{KeyNeed, Noted, Reader};
use super::parse;
use super::slips::why_guessable;
use super::{AuthConfig, Environment, KeySource};
use crate::random;

/// The length of a secret that is made at start.
const RANDOM_SECRET_BYTES: usize = 48;

/// The command that makes a secret.
const MAKES_A_SECRET: &str = "openssl rand -base64 48";

/// Reads how tokens are checked; `None` if the command needs no keys and none are set.
pub(super) fn read_auth(reader: &mut Reader, environment: Environment) -> Result<Option<AuthConfig>, Noted> {
    let algorithm = reader.read("JWT_ALGORITHM", parse::word(parse::ALGORITHMS));
    let secret = reader.read_optional("JWT_SECRET", parse::secret);
    let previous = reader.read_optional("JWT_SECRET_PREVIOUS", parse::secret);
    let url = reader.read_optional("JWT_JWKS_URL", parse::jwks_url(environment == Environment::Production));
    let issuer = reader.read_optional("JWT_ISSUER", |text| Ok(text.to_string()));
    let audience = reader.read_optional("JWT_AUDIENCE", |text| Ok(text.to_string()));
    let (algorithm, secret, previous, url) = (algorithm?, secret?, previous?, url?);
    let (issuer, audience) = (issuer?, audience?);

    let previous_secret = match previous {
        Some(previous) => Some(judge_previous(reader, previous, secret.as_deref(), environment)?),
        None => None,
    };
    let auth = |keys, secret_is_random, node_secret| AuthConfig {
        keys,
        issuer,
        audience,
        secret_is_random,
        node_secret,
        previous_secret,
    };
    match algorithm {
        Algorithm::HS256 => {
            if url.is_some() {
                let otherwise = "must be RS256, ES256 or EdDSA with JWT_JWKS_URL: a key set is public, a secret is not";
                reader.contradict(["JWT_ALGORITHM", "JWT_JWKS_URL"], otherwise);
            }
            let (secret, is_random) = match secret {
                Some(secret) => (Some(judge_secret(reader, "JWT_SECRET", secret, environment)?), false),
                None => (missing_secret(reader, environment)?, true),
            };
            Ok(secret.map(|secret| auth(KeySource::Secret(secret.clone()), is_random, Some(secret))))
        }
        algorithm => {
            let url = require_key_set(reader, url, secret.is_some())?;
            Ok(Some(auth(KeySource::Jwks { algorithm, url }, false, secret)))
        }
    }
}

/// The URL of the key set for an algorithm with public keys, which needs one and cannot sign here.
fn require_key_set(reader: &mut Reader, url: Option<String>, has_secret: bool) -> Result<String, Noted> {
    if has_secret {
        let name = reader.text("JWT_ALGORITHM");
        reader.warn(format!("JWT_SECRET checks no tokens, because JWT_ALGORITHM is {name}: only nodes sign with it"));
    }
    if reader.needs.keys == KeyNeed::Sign {
        let otherwise = "must be HS256 for this command to sign: ask the issuer of the key set for a token";
        reader.problem("JWT_ALGORITHM", otherwise);
    }
    url.ok_or_else(|| reader.contradict(["JWT_ALGORITHM", "JWT_JWKS_URL"], "needs JWT_JWKS_URL"))
}

/// Judges the previous secret by the rules for the present one: tokens are accepted under both.
fn judge_previous(
    reader: &mut Reader,
    previous: Vec<u8>,
    secret: Option<&[u8]>,
    environment: Environment,
) -> Result<Vec<u8>, Noted> {
    match secret {
        None if reader.needs.keys != KeyNeed::None => {
            let otherwise =
                "needs JWT_SECRET beside it: the previous secret only checks tokens, and JWT_SECRET signs them";
            reader.contradict(["JWT_SECRET_PREVIOUS", "JWT_SECRET"], otherwise);
        }
        Some(secret) if secret == previous => {
            reader.warn("JWT_SECRET_PREVIOUS is the same as JWT_SECRET: it has no effect");
        }
        _ => {}
    }
    judge_secret(reader, "JWT_SECRET_PREVIOUS", previous, environment)
}

/// Refuses a guessable secret in production, and warns of one elsewhere.
fn judge_secret(
    reader: &mut Reader,
    name: &'static str,
    secret: Vec<u8>,
    environment: Environment,
) -> Result<Vec<u8>, Noted> {
    let reason = why_guessable(reader.text(name));
    match (reason, environment) {
        (Some(reason), Environment::Production) if reader.needs.keys != KeyNeed::None => {
            Err(reader.problem(name, &format!("{reason} (`{MAKES_A_SECRET}` makes a good one)")))
        }
        (Some(reason), _) => {
            reader.warn(format!("{name} {reason}; production refuses it"));
            Ok(secret)
        }
        (None, _) => Ok(secret),
    }
}

/// The secret to use if none is set; `None` for a command that needs none.
fn missing_secret(reader: &mut Reader, environment: Environment) -> Result<Option<Vec<u8>>, Noted> {
    match (reader.needs.keys, environment) {
        (KeyNeed::None, _) | (KeyNeed::Report, Environment::Development) => Ok(None),
        (KeyNeed::Verify, Environment::Development) => random_secret(reader).map(Some),
        (KeyNeed::Verify | KeyNeed::Report, Environment::Production) => {
            let otherwise = format!("must be set in production: at least 32 bytes (`{MAKES_A_SECRET}`)");
            Err(reader.problem("JWT_SECRET", &otherwise))
        }
        (KeyNeed::Sign, _) => {
            let otherwise = "must be set to the secret of the nodes, which check the token with it";
            Err(reader.problem("JWT_SECRET", otherwise))
        }
    }
}

fn random_secret(reader: &mut Reader) -> Result<Vec<u8>, Noted> {
    match random::bytes::<RANDOM_SECRET_BYTES>() {
        Ok(secret) => Ok(secret.into()),
        Err(error) => Err(reader.problem("JWT_SECRET", &format!("must be set, because {error}"))),
    }
}
