//! `/page.json`: the facts that a node's own page needs, with example users in development.
//!
//! Tokens of example users are given only to a browser on this machine, and never in production. The node must listen
//! on a loopback address and be asked under a loopback name, not through a proxy. The name matters because a page may
//! point its own name at this machine.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Json;
use axum::http::header::{CACHE_CONTROL, HOST};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::auth::{Claims, Role, issue};
use crate::clock;
use crate::config::{AuthConfig, Config, Environment};
use crate::domain::{StoreTime, UserId};

/// The users that the page offers, with their roles.
const USERS: [(&str, Option<Role>); 3] = [("7", None), ("8", None), ("1", Some(Role::Manager))];

/// How long the example users' tokens are valid.
const TOKENS_LAST: Duration = Duration::from_secs(86_400);

/// Headers that a proxy adds. Behind a proxy the node cannot see who asks.
const PROXY_HEADERS: [&str; 4] = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];

/// The content of `/page.json`.
#[derive(Debug, Default, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(super) struct PageFacts {
    is_development: bool,
    users: Vec<ExampleUser>,
}

/// One user, with a valid token.
#[derive(Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
struct ExampleUser {
    name: &'static str,
    is_staff: bool,
    token: String,
}

/// Answers what this node's page may know.
pub(super) fn answer(config: &Config, request: &HeaderMap) -> Response {
    let no_store = [(CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    (no_store, Json(facts(config, request))).into_response()
}

fn facts(config: &Config, request: &HeaderMap) -> PageFacts {
    if config.environment != Environment::Development {
        return PageFacts::default();
    }
    let may_have_tokens = is_local(config.listen.address, request);
    let auth = config.auth.as_ref().filter(|_| may_have_tokens);
    PageFacts { is_development: true, users: auth.map(example_users).unwrap_or_default() }
}

/// Whether the request can only come from this node's own page in a browser on this machine.
fn is_local(listens_on: SocketAddr, request: &HeaderMap) -> bool {
    let is_through_proxy = PROXY_HEADERS.iter().any(|name| request.contains_key(*name));
    let host = request.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    listens_on.ip().is_loopback() && !is_through_proxy && ["localhost", "127.0.0.1", "[::1]"].contains(&name)
}

/// The users whose tokens this node can sign. With a key set it has no private key.
fn example_users(auth: &AuthConfig) -> Vec<ExampleUser> {
    let now = clock::wall();
    let user = |(name, role): (&'static str, Option<Role>)| {
        let expires = StoreTime::from_millis(now.as_millis() + TOKENS_LAST.as_millis() as i64);
        let claims = Claims { user: UserId::new(name)?, role, sites: None, expires };
        Some(ExampleUser { name, is_staff: role.is_some(), token: issue(auth, &claims, now).ok()? })
    };
    USERS.into_iter().filter_map(user).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::Needs;

    const SECRET: &str = "a secret of these tests, long enough";

    fn config(settings: &[(&str, &str)]) -> Config {
        let mut env: BTreeMap<String, String> = BTreeMap::from([("JWT_SECRET".into(), SECRET.into())]);
        env.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        Config::load(&env, Needs::SERVE).unwrap().config
    }

    fn users_for(settings: &[(&str, &str)], headers: &[(&'static str, &'static str)]) -> usize {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
        facts(&config(settings), &headers.collect::<HeaderMap>()).users.len()
    }

    #[test]
    fn example_users_are_for_a_browser_on_this_machine() {
        for host in ["localhost:3000", "127.0.0.1:3000", "[::1]:3000", "localhost"] {
            assert_eq!(users_for(&[], &[("host", host)]), 3, "{host}");
        }
        for host in ["slots.example.org", "localhost.example.org:3000", "127.0.0.1.example.org", ""] {
            assert_eq!(users_for(&[], &[("host", host)]), 0, "{host}");
        }
        for header in PROXY_HEADERS {
            assert_eq!(users_for(&[], &[("host", "localhost:3000"), (header, "10.0.0.1")]), 0, "{header}");
        }
        assert_eq!(users_for(&[("HOST", "0.0.0.0")], &[("host", "localhost:3000")]), 0);
    }

    #[test]
    fn production_tells_nothing() {
        let production = [
            ("SLOTCAST_ENV", "production"),
            ("HOST", "127.0.0.1"),
            ("SLOTCAST_STORE", "embedded"),
            ("JWT_SECRET", "Zk3vN8qLr1xT6yBw9uHs2cJd5fGa7eMp"),
        ];
        let host = HeaderMap::from_iter([(HOST, HeaderValue::from_static("localhost"))]);
        assert_eq!(facts(&config(&production), &host), PageFacts::default());
    }
}
