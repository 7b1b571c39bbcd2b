//! Mistakes that an operator may make without noticing.

use super::*;

#[test]
fn what_is_around_a_value_is_said() {
    let secret = format!("{SECRET}\n");
    let warned = |pairs: &[(&str, &str)]| load(pairs, Needs::CHECK).unwrap().warnings;
    assert_eq!(
        warned(&[("JWT_SECRET", &secret)]),
        ["JWT_SECRET (environment) has a newline at its end, which counts as a part of it"]
    );
    for (name, text) in [
        ("JWT_SECRET", format!("\"{SECRET}\"")),
        ("JWT_ISSUER", "'us'".into()),
        ("JWT_AUDIENCE", "slotcast ".into()),
        ("SLOTCAST_DATA_DIR", "./data\n".into()),
    ] {
        let warnings = warned(&[(name, &text)]);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].starts_with(&format!("{name} (environment) has ")), "{warnings:?}");
    }
    for (name, text, around) in [
        ("PORT", "3000\n", "a newline at its end"),
        ("SLOTCAST_ENV", "\"production\"", "quotes around it"),
        ("REDIS_URL", "redis://host:6379\n", "a newline at its end"),
        ("SLOTCAST_MAX_ROOMS", " 5", "white space around it"),
    ] {
        let message = message(&[(name, text)], Needs::CHECK);
        assert!(message.starts_with(name) && message.contains(&format!("(it has {around})")), "{message}");
    }
    assert_eq!(warned(&[("CORS_ORIGIN", "https://a.example, https://b.example"), ("JWT_SECRET", SECRET)]), [""; 0]);
}

#[test]
fn a_secret_that_anybody_can_guess_is_refused_in_production() {
    let repeated = "x".repeat(40);
    for (secret, reason) in [(repeated.as_str(), "guess"), ("please-change-me-please-change-it-now", "placeholder")] {
        let production = [("SLOTCAST_ENV", "production"), ("REDIS_URL", "redis://host"), ("JWT_SECRET", secret)];
        for needs in [Needs::SERVE, Needs::CHECK, Needs::TOKEN] {
            let message = message(&production, needs);
            assert!(message.starts_with("JWT_SECRET must not be") && message.contains(reason), "{message}");
            assert!(!message.contains(secret), "{message}");
        }
        let warnings = load(&[("JWT_SECRET", secret)], Needs::SERVE).unwrap().warnings;
        assert!(warnings[0].contains("production refuses it"), "{warnings:?}");
    }
}

#[test]
fn what_production_should_not_leave_to_chance_is_a_warning() {
    let production = [
        ("SLOTCAST_ENV", "production"),
        ("REDIS_URL", "redis://host"),
        ("JWT_SECRET", SECRET),
        ("SLOTCAST_ADMIN_ADDR", "0.0.0.0:9090"),
        ("SLOTCAST_USER_RATE", "0"),
        ("SLOTCAST_EVENT_RATE", "0"),
    ];
    let warnings = load(&production, Needs::CHECK).unwrap().warnings;
    for name in ["CORS_ORIGIN", "SLOTCAST_ADMIN_ADDR", "SLOTCAST_USER_RATE", "SLOTCAST_EVENT_RATE"] {
        assert!(warnings.iter().any(|warning| warning.starts_with(name)), "{name}: {warnings:?}");
    }
    assert_eq!(
        load(&production, Needs::SWEEP).unwrap().warnings,
        [""; 0],
        "what a node does is not a sweeper's matter"
    );
    let careful = [production[..3].to_vec(), vec![("CORS_ORIGIN", "https://a.example")]].concat();
    assert_eq!(load(&careful, Needs::CHECK).unwrap().warnings, [""; 0]);
}

#[test]
fn a_name_that_is_nearly_ours_is_found_and_others_names_are_not() {
    for (name, near) in [
        ("CORS_ORIGINS", "CORS_ORIGIN"),
        ("cors_origin", "CORS_ORIGIN"),
        ("REDIS_URI", "REDIS_URL"),
        ("REDISURL", "REDIS_URL"),
        ("JWT_SECRETS", "JWT_SECRET"),
        ("JWT_SECRET_KEY", "JWT_SECRET"),
        ("SLOTCAST-LOG", "SLOTCAST_LOG"),
        ("SLOTCATS_LOG", "SLOTCAST_LOG"),
        ("SLOTCASTENV", "SLOTCAST_ENV"),
        ("SLOT_MAX_DAYS", "SLOTCAST_MAX_DAYS"),
        ("SLOTCAST_REDIS_URL", "REDIS_URL"),
        ("port", "PORT"),
    ] {
        let warnings = load(&[(name, "x")], Needs::SERVE).unwrap().warnings;
        assert_eq!(warnings, [format!("{name} (environment) is not a setting; did you mean {near}?")]);
    }
    for name in ["HOSTNAME", "REDIS_PORT", "REDIS_TLS_URL", "REDIS_SERVICE_HOST", "CORS", "SLOT", "PORTS", "HOSTTYPE"] {
        assert_eq!(load(&[(name, "x")], Needs::SERVE).unwrap().warnings, [""; 0], "{name}");
    }
}

#[test]
fn a_wrong_configuration_still_tells_its_warnings() {
    let pairs = [("SLOTCAST_ENV", "production"), ("JWT_SECRET", SECRET), ("REDIS_URI", "redis://host")];
    let error = load(&pairs, Needs::SERVE).unwrap_err().to_string();
    assert!(error.contains("SLOTCAST_STORE must be `embedded`"), "{error}");
    assert!(error.contains("\nwarning: REDIS_URI (environment) is not a setting; did you mean REDIS_URL?"), "{error}");
}

#[test]
fn what_logs_look_like_is_known_of_a_wrong_configuration_too() {
    use crate::telemetry::log::Format;
    assert_eq!(log_format(&env(&[("SLOTCAST_ENV", "production"), ("PORT", "x")])), Format::Json);
    assert_eq!(log_format(&env(&[("SLOTCAST_ENV", "prod")])), Format::Text);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("slotcast.toml");
    std::fs::write(&path, "SLOTCAST_ENV = \"production\"\nnonsense = 1").unwrap();
    assert_eq!(log_format(&env(&[("SLOTCAST_CONFIG", path.to_str().unwrap())])), Format::Json);
}
