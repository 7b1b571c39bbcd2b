//! `slotcast token`: signs a token with `JWT_SECRET`, for trials and scripts.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use jiff::{Span, SpanRelativeTo};

use crate::auth::{Claims, Role, issue};
use crate::config::AuthConfig;
use crate::domain::{SiteId, StoreTime, UserId};

/// The longest life of a token.
const LONGEST_TTL: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// Whose token, and what it allows.
#[derive(Args, Clone, Debug, PartialEq)]
pub struct TokenArgs {
    /// The user's id (`id_utente`)
    #[arg(long, value_parser = parse_user)]
    pub user: UserId,
    /// A staff role (`ruolo`): responsabile, gestore, amministratore, admin or servizio
    #[arg(long, value_parser = parse_role)]
    pub role: Option<Role>,
    /// The only sites that the user may enter (`sedi`), comma separated; without it, all sites
    #[arg(long, value_delimiter = ',', value_parser = parse_site)]
    pub sites: Option<Vec<SiteId>>,
    /// How long the token is valid, such as 30s, 15m, 1h or 7d
    #[arg(long, default_value = "1h", value_parser = parse_ttl)]
    pub ttl: Duration,
}

/// Signs the token.
///
/// # Errors
///
/// The configuration has no secret.
pub fn make_token(auth: Option<&AuthConfig>, args: &TokenArgs, now: StoreTime) -> anyhow::Result<String> {
    let auth = auth.context("cannot sign a token: JWT_SECRET is not set")?;
    let claims = Claims {
        user: args.user.clone(),
        role: args.role,
        sites: args.sites.as_ref().map(|sites| BTreeSet::from_iter(sites.iter().copied())),
        expires: now.plus_millis(i64::try_from(args.ttl.as_millis()).unwrap_or(i64::MAX)),
    };
    Ok(issue(auth, &claims, now)?)
}

fn parse_user(text: &str) -> Result<UserId, String> {
    UserId::new(text).ok_or_else(|| "a user id has 1 to 128 bytes and no control characters".into())
}

fn parse_role(text: &str) -> Result<Role, String> {
    Role::parse(text).ok_or_else(|| format!("staff roles are {}; an ordinary user has none", Role::NAMES.join(", ")))
}

fn parse_site(text: &str) -> Result<SiteId, String> {
    text.parse().map_err(|()| "a site's id is a whole number from 1".into())
}

fn parse_ttl(text: &str) -> Result<Duration, String> {
    let allowed = || format!("a time from 1s to {}d, such as 30s, 15m, 1h or 7d", LONGEST_TTL.as_secs() / 86_400);
    let span: Span = text.parse().map_err(|_| allowed())?;
    let ttl = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| allowed())?;
    let ttl = Duration::try_from(ttl).map_err(|_| allowed())?;
    if ttl < Duration::from_secs(1) || ttl > LONGEST_TTL {
        return Err(allowed());
    }
    Ok(ttl)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::auth::Verifier;
    use crate::cli::{Cli, Command};
    use crate::config::KeySource;

    fn parse(line: &str) -> Result<TokenArgs, clap::Error> {
        match Cli::try_parse_from(line.split(' '))?.command() {
            Command::Token(args) => Ok(args),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn the_token_says_what_was_asked_and_holds() {
        let keys = KeySource::Secret(vec![7; 32]);
        let auth = AuthConfig {
            keys,
            issuer: Some("us".into()),
            audience: None,
            secret_is_random: false,
            node_secret: None,
            previous_secret: None,
        };
        let args = parse("slotcast token --user 7 --role responsabile --sites 1,2 --ttl 7d").unwrap();
        let now = StoreTime::from_millis(1_800_000_000_000);
        let token = make_token(Some(&auth), &args, now).unwrap();
        let claims = Verifier::new(&auth).unwrap().verify_at(&token, now).await.unwrap();
        assert_eq!(claims.user, UserId::new("7").unwrap());
        assert_eq!(claims.role, Some(Role::SiteManager));
        assert_eq!(claims.sites.unwrap().len(), 2);
        assert_eq!(claims.expires, now.plus_millis(7 * 86_400_000));
    }

    #[test]
    fn an_ordinary_token_lasts_an_hour() {
        let args = parse("slotcast token --user anna").unwrap();
        assert_eq!(args.ttl, Duration::from_secs(3_600));
        assert_eq!((args.role, args.sites), (None, None));
    }

    #[test]
    fn what_makes_no_token_is_refused() {
        for line in [
            "slotcast token",
            "slotcast token --user 7 --role cliente",
            "slotcast token --user 7 --sites 0",
            "slotcast token --user 7 --sites a,b",
            "slotcast token --user 7 --ttl 0s",
            "slotcast token --user 7 --ttl -1h",
            "slotcast token --user 7 --ttl 500ms",
            "slotcast token --user 7 --ttl 367d",
            "slotcast token --user 7 --ttl 1000000000y",
            "slotcast token --user 7 --ttl soon",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn common_lengths_of_time_are_understood() {
        for (text, seconds) in [("30s", 30), ("15m", 900), ("1h", 3_600), ("1h30m", 5_400), ("7d", 604_800)] {
            assert_eq!(parse_ttl(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
    }
}
