//! What the scheduled function reads: a few variables, from the environment alone.

use std::fmt;

use super::error::{ConfigError, Problem};
use super::files::{FILED, both_set, read_value};
use super::redis::{MAX_JOURNAL_DAYS, Parsed, redis_prefix, redis_url};
use super::strings::Strings;

/// Everything that the scheduled function can be told, checked.
#[derive(Clone, PartialEq, Eq)]
pub struct FunctionConfig {
    /// `REDIS_URL`, or the content of the file that `REDIS_URL_FILE` names. It must be set. It may have a password, and
    /// is never printed.
    pub redis_url: String,
    /// `SLOTCAST_REDIS_PREFIX`. Default `slotcast`, as for nodes.
    pub redis_prefix: String,
    /// `SLOTCAST_JOURNAL_DAYS`. Default 90, as for nodes. With 0 no sweep writes into the journal.
    pub journal_days: u32,
    /// `SLOTCAST_LOG`, a tracing filter. Default `info`.
    pub log_filter: String,
}

impl fmt::Debug for FunctionConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FunctionConfig")
            .field("redis_prefix", &self.redis_prefix)
            .field("log_filter", &self.log_filter)
            .finish_non_exhaustive()
    }
}

impl FunctionConfig {
    /// Reads `env` and checks it. An empty value counts as not set.
    ///
    /// # Errors
    ///
    /// Every bad variable at once.
    pub fn load(env: &dyn Strings) -> Result<Self, ConfigError> {
        let mut problems = Vec::new();
        let mut read = |name: &str, default: Option<&str>, parse: fn(&str) -> Parsed<String>| {
            let parsed = value_of(env, name).and_then(|set| match set.as_deref().or(default) {
                Some(text) => parse(text).map_err(|allowed| format!("{name} {allowed}")),
                None => Err(format!("{name} must be set: the function sweeps a store that nodes share")),
            });
            parsed.map_err(|message| problems.push(Problem::new(name, message))).ok()
        };
        let redis_url = read("REDIS_URL", None, redis_url);
        let redis_prefix = read("SLOTCAST_REDIS_PREFIX", Some("slotcast"), redis_prefix);
        let log_filter = read("SLOTCAST_LOG", Some("info"), log_filter);
        let days = read("SLOTCAST_JOURNAL_DAYS", Some("90"), |text| journal_days(text).map(|_| text.into()));
        let journal_days = days.and_then(|text| journal_days(&text).ok());
        match (redis_url, redis_prefix, journal_days, log_filter) {
            (Some(redis_url), Some(redis_prefix), Some(journal_days), Some(log_filter)) => {
                Ok(Self { redis_url, redis_prefix, journal_days, log_filter })
            }
            _ => Err(ConfigError { problems, warnings: Vec::new() }),
        }
    }
}

/// The value of a variable from the environment, or from the file that a variable such as `REDIS_URL_FILE` names.
fn value_of(env: &dyn Strings, name: &str) -> Result<Option<String>, String> {
    let get = |name: &str| env.get(name).filter(|text| !text.is_empty());
    let set = get(name);
    let named = FILED.iter().find(|(filed, _)| *filed == name);
    let Some((file_name, path)) = named.and_then(|(_, file_name)| Some((file_name, get(file_name)?))) else {
        return Ok(set);
    };
    if set.is_some() {
        return Err(both_set(name, file_name));
    }
    read_value(&path).map(Some).map_err(|otherwise| format!("{file_name} {otherwise}"))
}

fn journal_days(text: &str) -> Parsed<u32> {
    let days = text.parse().ok().filter(|days| *days <= MAX_JOURNAL_DAYS);
    days.ok_or_else(|| format!("must be a whole number from 0 to {MAX_JOURNAL_DAYS}"))
}

fn log_filter(text: &str) -> Parsed<String> {
    match crate::telemetry::log::parse_filter(text) {
        Ok(_) => Ok(text.into()),
        Err(error) => Err(format!("must be a tracing filter, such as info or info,slotcast::store=debug ({error})")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn load(pairs: &[(&str, &str)]) -> Result<FunctionConfig, ConfigError> {
        let env: BTreeMap<String, String> = pairs.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect();
        FunctionConfig::load(&env)
    }

    #[test]
    fn the_url_alone_is_enough() {
        let config = load(&[("REDIS_URL", "rediss://:geheim@cache:6379")]).unwrap();
        assert_eq!(config.redis_url, "rediss://:geheim@cache:6379");
        assert_eq!((config.redis_prefix.as_str(), config.log_filter.as_str()), ("slotcast", "info"));
        assert!(!format!("{config:?}").contains("geheim"));
    }

    #[cfg(feature = "server")]
    #[test]
    fn its_defaults_are_those_of_a_node() {
        let function = load(&[("REDIS_URL", "redis://cache")]).unwrap();
        let node = crate::config::Config::load(&BTreeMap::new(), crate::config::Needs::SWEEP).unwrap().config;
        assert_eq!(function.redis_prefix, node.store.redis_prefix);
        assert_eq!(function.log_filter, node.log_filter);
        assert_eq!(function.journal_days, node.journal.days);
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once_and_no_url_is_quoted() {
        let wrong =
            [("REDIS_URL", "http://:geheim@cache"), ("SLOTCAST_REDIS_PREFIX", "{a}"), ("SLOTCAST_LOG", "a=loud")];
        let error = load(&wrong).unwrap_err();
        let variables: Vec<&str> = error.problems.iter().map(|problem| problem.variable.as_str()).collect();
        assert_eq!(variables, ["REDIS_URL", "SLOTCAST_REDIS_PREFIX", "SLOTCAST_LOG"]);
        assert!(error.to_string().contains("must be SCHEME://HOST:PORT"), "{error}");
        let cut = load(&[("REDIS_URL", "redis://cache:6379?geheim=1")]).unwrap_err();
        assert!(cut.to_string().contains("REDIS_URL has an unknown parameter"), "{cut}");
        assert!(!error.to_string().contains("geheim"), "{error}");
    }

    #[test]
    fn the_url_may_be_in_a_file_and_not_in_both_places() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("url");
        std::fs::write(&path, "redis://:geheim@cache\n").unwrap();
        let file = path.to_str().unwrap();
        assert_eq!(load(&[("REDIS_URL_FILE", file)]).unwrap().redis_url, "redis://:geheim@cache");
        assert_eq!(load(&[("REDIS_URL_FILE", file), ("REDIS_URL", "")]).unwrap().redis_url, "redis://:geheim@cache");
        let both = load(&[("REDIS_URL_FILE", file), ("REDIS_URL", "redis://other")]).unwrap_err().to_string();
        assert!(both.contains("REDIS_URL and REDIS_URL_FILE are both set"), "{both}");
        let missing = load(&[("REDIS_URL_FILE", "/does/not/exist")]).unwrap_err().to_string();
        assert!(missing.contains("REDIS_URL_FILE names \"/does/not/exist\", which cannot be read"), "{missing}");
        std::fs::write(&path, "http://:geheim@cache").unwrap();
        let wrong = load(&[("REDIS_URL_FILE", file)]).unwrap_err().to_string();
        assert!(wrong.contains("REDIS_URL must be") && !wrong.contains("geheim"), "{wrong}");
    }

    #[test]
    fn an_empty_url_is_none() {
        let error = load(&[("REDIS_URL", "")]).unwrap_err();
        assert!(error.to_string().contains("REDIS_URL must be set"), "{error}");
    }
}
