//! `slotcast check-config`: the settings in force, where each comes from, and what is wrong with them.

use std::io::{self, Write};

use crate::config::{ConfigError, EXIT_CODE, Loaded, Setting, StoreKind};
use crate::store::finding::{Finding, Severity};
use crate::store::redis::checks;

/// Writes the report, no secret in it, and answers the exit code: 0, or [`EXIT_CODE`] where the configuration or a
/// finding is wrong. `findings` are what the checks of the store came to; none where the configuration is wrong.
///
/// # Errors
///
/// The report could not be written.
pub fn report(loaded: &Result<Loaded, ConfigError>, findings: &[Finding], out: &mut dyn Write) -> io::Result<u8> {
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(error) => {
            writeln!(out, "{error}")?;
            return Ok(EXIT_CODE);
        }
    };
    write_settings(&loaded.settings, out)?;
    writeln!(out)?;
    for warning in &loaded.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    for finding in findings {
        writeln!(out, "{}: {}", finding.severity.as_str(), finding.text)?;
    }
    if findings.iter().any(|finding| finding.severity == Severity::Error) {
        return Ok(EXIT_CODE);
    }
    writeln!(out, "the configuration is good")?;
    Ok(0)
}

/// Checks the store that the configuration names, by asking it where it is a server; nothing where it is wrong.
pub async fn check_store(loaded: &Result<Loaded, ConfigError>) -> Vec<Finding> {
    match loaded.as_ref().map(|loaded| &loaded.config.store) {
        Ok(store) => match &store.kind {
            StoreKind::Redis(url) => checks::check_url(url, &store.redis_prefix).await,
            StoreKind::Embedded(_) => Vec::new(),
        },
        Err(_) => Vec::new(),
    }
}

/// One line a variable: name, value, source.
fn write_settings(settings: &[Setting], out: &mut dyn Write) -> io::Result<()> {
    let width = settings.iter().map(|setting| setting.name.len()).max().unwrap_or(0);
    for Setting { name, value } in settings {
        match value {
            Some((value, source)) => writeln!(out, "{name:width$}  {value}  ({source})")?,
            None => writeln!(out, "{name:width$}  not set")?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::{Config, Needs};

    fn check(pairs: &[(&str, &str)], findings: &[Finding]) -> (u8, String) {
        let env: BTreeMap<String, String> =
            pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let mut out = Vec::new();
        let code = report(&Config::load(&env, Needs::CHECK), findings, &mut out).unwrap();
        (code, String::from_utf8(out).unwrap())
    }

    #[test]
    fn each_value_is_shown_with_its_source_and_secrets_are_not() {
        let secret = "a-secret-of-more-than-thirty-two-bytes";
        let (code, text) = check(&[("JWT_SECRET", secret), ("PORT", "8080"), ("SLOTCAST_PORT", "1")], &[]);
        assert_eq!(code, 0);
        assert!(text.contains("\nPORT                       \"8080\"  (environment)\n"), "{text}");
        assert!(text.contains("\nJWT_SECRET                 (hidden)  (environment)\n"), "{text}");
        assert!(text.contains("\nSLOT_HOLD_MAX              \"60\"  (default)\n"), "{text}");
        assert!(text.contains("\nREDIS_URL                  not set\n"), "{text}");
        assert!(text.contains("\nwarning: SLOTCAST_PORT (environment) is not a setting"), "{text}");
        assert!(text.ends_with("\nthe configuration is good\n"), "{text}");
        assert!(!text.contains(secret), "{text}");
    }

    #[test]
    fn a_wrong_configuration_ends_with_64() {
        let (code, text) = check(&[("PORT", "x"), ("HOST", "y")], &[]);
        assert_eq!(code, 64);
        assert!(text.starts_with("the configuration is wrong in 2 places:\n  HOST must be"), "{text}");
    }

    #[test]
    fn a_finding_that_is_an_error_ends_with_64_and_a_warning_does_not() {
        let finding = |severity| Finding { severity, text: "Redis is older than 7.0".into() };
        assert_eq!(check(&[], &[finding(Severity::Warning)]).0, 0);
        let (code, text) = check(&[], &[finding(Severity::Good), finding(Severity::Error)]);
        assert_eq!(code, 64);
        assert!(text.ends_with("ok: Redis is older than 7.0\nerror: Redis is older than 7.0\n"), "{text}");
    }
}
