//! `slotcast check-config`: the settings in force, where each comes from, and what is wrong with them.

use std::io::{self, Write};

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::config::{ConfigError, EXIT_CODE, Loaded, Needs, Setting, StoreKind, Webhook};
use crate::store::embedded;
use crate::store::finding::{Finding, Severity};
use crate::store::redis::checks;

/// How to report.
#[derive(Args, Clone, Copy, Debug, Default, PartialEq)]
pub struct CheckConfigArgs {
    /// Take warnings for errors
    #[arg(long)]
    pub strict: bool,
    /// Write one JSON object: {good, settings: [{name, value, source}], findings: [{severity, text}]}
    #[arg(long)]
    pub json: bool,
    /// The command that will run with these settings: one that only sweeps needs no secret
    #[arg(long = "for", value_enum, default_value_t)]
    pub purpose: Purpose,
}

/// The command that the settings are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Purpose {
    /// `slotcast serve`
    #[default]
    Serve,
    /// `slotcast sweep`
    Sweep,
}

impl Purpose {
    /// The parts of the configuration that the command needs.
    pub const fn needs(self) -> Needs {
        match self {
            Purpose::Serve => Needs::CHECK,
            Purpose::Sweep => Needs::SWEEP,
        }
    }
}

/// The report as JSON.
#[derive(Serialize)]
struct Report<'a> {
    /// Whether `serve` would run with the configuration, and with `--strict` without a warning.
    good: bool,
    /// Every variable; empty if the configuration is wrong.
    settings: Vec<ShownSetting<'a>>,
    findings: Vec<ShownFinding>,
}

#[derive(Serialize)]
struct ShownSetting<'a> {
    name: &'a str,
    value: Option<&'a str>,
    source: Option<String>,
}

#[derive(Serialize)]
struct ShownFinding {
    /// `ok`, `warning` or `error`.
    severity: &'static str,
    text: String,
}

/// Writes the report, without secrets, and answers the exit code: 0, or [`EXIT_CODE`] if the configuration or a finding is
/// wrong. `findings` come from the checks of the store, which run only for a good configuration.
///
/// # Errors
///
/// The report could not be written.
pub fn report(
    loaded: &Result<Loaded, ConfigError>,
    findings: &[Finding],
    args: CheckConfigArgs,
    out: &mut dyn Write,
) -> io::Result<u8> {
    let report = judge(loaded, findings, args.strict);
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &report)?;
        writeln!(out)?;
    } else {
        write_text(&report, loaded, args.strict, out)?;
    }
    Ok(if report.good { 0 } else { EXIT_CODE })
}

/// An endpoint in one line, without secrets.
fn describe(webhook: &Webhook) -> String {
    let types: Vec<&str> = webhook.acts.iter().map(|act| act.event_type()).collect();
    let sites = match &webhook.sites {
        Some(sites) => format!("sites {}", sites.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
        None => "all sites".into(),
    };
    format!("the webhook {:?} tells {} of {}, of {sites}", webhook.name, webhook.shown_url(), types.join(", "))
}

fn judge<'a>(loaded: &'a Result<Loaded, ConfigError>, findings: &[Finding], strict: bool) -> Report<'a> {
    let shown = |severity: Severity, text: &str| ShownFinding { severity: severity.as_str(), text: text.into() };
    let (settings, warnings) = match loaded {
        Ok(loaded) => (loaded.settings.as_slice(), &loaded.warnings),
        Err(error) => (&[][..], &error.warnings),
    };
    let problems = loaded.as_ref().err().into_iter().flat_map(|error| &error.problems);
    let mut all: Vec<ShownFinding> = problems.map(|problem| shown(Severity::Error, &problem.message)).collect();
    all.extend(warnings.iter().map(|warning| shown(Severity::Warning, warning)));
    let webhooks = loaded.as_ref().ok().into_iter().flat_map(|loaded| &loaded.config.webhooks);
    all.extend(webhooks.map(|webhook| shown(Severity::Good, &describe(webhook))));
    all.extend(findings.iter().map(|finding| shown(finding.severity, &finding.text)));
    let is_bad = |finding: &ShownFinding| match finding.severity {
        "error" => true,
        "warning" => strict,
        _ => false,
    };
    Report { good: !all.iter().any(is_bad), settings: settings.iter().map(show_setting).collect(), findings: all }
}

fn show_setting(setting: &Setting) -> ShownSetting<'_> {
    let value = setting.value.as_ref();
    ShownSetting {
        name: setting.name,
        value: value.map(|(value, _)| value.as_str()),
        source: value.map(|(_, source)| source.to_string()),
    }
}

fn write_text(
    report: &Report,
    loaded: &Result<Loaded, ConfigError>,
    strict: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    match loaded {
        Err(error) => return writeln!(out, "{error}"),
        Ok(loaded) => write_settings(&loaded.settings, out)?,
    }
    writeln!(out)?;
    for finding in &report.findings {
        writeln!(out, "{}: {}", finding.severity, finding.text)?;
    }
    let has_errors = report.findings.iter().any(|finding| finding.severity == "error");
    match (report.good, has_errors) {
        (true, _) => writeln!(out, "the configuration is good"),
        (false, false) if strict => writeln!(out, "with --strict a warning is an error"),
        (false, _) => Ok(()),
    }
}

/// Checks the configured store. A Redis is asked. Checks nothing if the configuration is wrong.
pub async fn check_store(loaded: &Result<Loaded, ConfigError>) -> Vec<Finding> {
    match loaded.as_ref().map(|loaded| &loaded.config.store) {
        Ok(store) => match &store.kind {
            StoreKind::Redis(url) => checks::check_url(url, &store.redis_prefix).await,
            StoreKind::Embedded(folder) => embedded::check_folder(folder).into_iter().collect(),
        },
        Err(_) => Vec::new(),
    }
}

/// Writes one line for each variable: its name, value and source.
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
    use crate::config::Config;

    fn check(pairs: &[(&str, &str)], findings: &[Finding]) -> (u8, String) {
        check_with(CheckConfigArgs::default(), pairs, findings)
    }

    fn check_with(args: CheckConfigArgs, pairs: &[(&str, &str)], findings: &[Finding]) -> (u8, String) {
        let env: BTreeMap<String, String> =
            pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let mut out = Vec::new();
        let code = report(&Config::load(&env, args.purpose.needs()), findings, args, &mut out).unwrap();
        (code, String::from_utf8(out).unwrap())
    }

    #[test]
    fn each_value_is_shown_with_its_source_and_secrets_are_not() {
        let secret = "a-secret-of-more-than-thirty-two-bytes";
        let (code, text) = check(&[("JWT_SECRET", secret), ("PORT", "8080"), ("SLOTCAST_PORT", "1")], &[]);
        assert_eq!(code, 0);
        assert!(text.contains("\nPORT                          \"8080\"  (environment)\n"), "{text}");
        assert!(text.contains("\nJWT_SECRET                    (hidden)  (environment)\n"), "{text}");
        assert!(text.contains("\nSLOT_HOLD_MAX                 \"60\"  (default)\n"), "{text}");
        assert!(text.contains("\nREDIS_URL                     not set\n"), "{text}");
        assert!(text.contains("\nwarning: SLOTCAST_PORT (environment) is not a setting"), "{text}");
        assert!(text.ends_with("\nthe configuration is good\n"), "{text}");
        assert!(!text.contains(secret), "{text}");
    }

    #[test]
    fn an_endpoint_is_shown_without_what_lets_slotcast_in() {
        let url = ("SLOTCAST_WEBHOOK_URL", "https://me:geheim@example.org/hooks?key=geheim");
        let secret = ("SLOTCAST_WEBHOOK_SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let (code, text) = check(&[url, secret, ("SLOTCAST_WEBHOOK_SITES", "1,2")], &[]);
        let told = "ok: the webhook \"environment\" tells https://example.org/hooks of slot.booked, slot.updated, \
                    slot.cancelled, of sites 1, 2\n";
        assert!(code == 0 && text.contains(told), "{text}");
        assert!(!text.contains("geheim") && !text.contains("MfKQ"), "{text}");
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

    #[test]
    fn strictly_a_warning_is_an_error() {
        let strict = CheckConfigArgs { strict: true, ..CheckConfigArgs::default() };
        let (code, text) = check_with(strict, &[("CORS_ORIGINS", "x")], &[]);
        assert_eq!(code, 64);
        assert!(text.contains("warning: CORS_ORIGINS") && text.ends_with("a warning is an error\n"), "{text}");
        assert_eq!(check_with(strict, &[], &[Finding { severity: Severity::Good, text: "ok".into() }]).0, 0);
        assert_eq!(check_with(strict, &[], &[Finding { severity: Severity::Warning, text: "hm".into() }]).0, 64);
    }

    #[test]
    fn programs_read_json() {
        let json = CheckConfigArgs { json: true, ..CheckConfigArgs::default() };
        let secret = "a-secret-of-more-than-thirty-two-bytes";
        let read = |pairs: &[(&str, &str)]| {
            let (code, text) = check_with(json, pairs, &[]);
            assert!(!text.contains(secret), "{text}");
            (code, serde_json::from_str::<serde_json::Value>(&text).unwrap())
        };
        let (code, good) = read(&[("JWT_SECRET", secret), ("PORT", "8080"), ("REDIS_URI", "x")]);
        assert_eq!((code, &good["good"]), (0, &true.into()));
        let port = good["settings"].as_array().unwrap().iter().find(|setting| setting["name"] == "PORT").unwrap();
        assert_eq!(*port, serde_json::json!({"name": "PORT", "value": "\"8080\"", "source": "environment"}));
        assert_eq!(good["findings"][0]["severity"], "warning");
        let (code, bad) = read(&[("PORT", "x"), ("HOST", "y"), ("REDIS_URI", "z")]);
        assert_eq!((code, &bad["good"]), (64, &false.into()));
        let severities: Vec<&str> =
            bad["findings"].as_array().unwrap().iter().filter_map(|finding| finding["severity"].as_str()).collect();
        assert_eq!(severities, ["error", "error", "warning"]);
    }
}
