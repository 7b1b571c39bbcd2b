//! The values that each variable takes, and the values that contradict each other.

use super::*;

#[test]
fn each_variable_refuses_what_it_does_not_take() {
    for (name, bad) in [
        ("PORT", "http"),
        ("SLOTCAST_ADMIN_ADDR", "9090"),
        ("SLOTCAST_ADMIN_ADDR", "example.org:9090"),
        ("SLOTCAST_ADVERTISE_ADDR", "10.0.0.7"),
        ("SLOTCAST_ADVERTISE_ADDR", "http://10.0.0.7:3000/"),
        ("SLOTCAST_ADVERTISE_ADDR", "0.0.0.0:3000"),
        ("SLOTCAST_ADVERTISE_ADDR", "[::]:3000"),
        ("SLOTCAST_ADVERTISE_ADDR", "fd00::7:3000"),
        ("SLOTCAST_ADVERTISE_ADDR", "node?1:3000"),
        ("SLOTCAST_ADVERTISE_ADDR", "node\n1:3000"),
        ("SLOTCAST_ADVERTISE_ADDR", "node-1:+3000"),
        ("CORS_ORIGIN", "*"),
        ("CORS_ORIGIN", "https://a.example/"),
        ("CORS_ORIGIN", "https://A.example"),
        ("CORS_ORIGIN", "https://a.example:443"),
        ("CORS_ORIGIN", "a.example"),
        ("CORS_ORIGIN", "null"),
        ("CORS_ORIGIN", "https://*.example.com"),
        ("CORS_ORIGIN", "https://.example.com"),
        ("CORS_ORIGIN", "https://%2A.example.com"),
        ("CORS_ORIGIN", "capacitor://*"),
        ("CORS_ORIGIN", "capacitor://localhost/"),
        ("CORS_ORIGIN", "capacitor:localhost"),
        ("CORS_ORIGIN", "Capacitor://localhost"),
        ("CORS_ORIGIN", "wss://a.example"),
        ("CORS_ORIGIN", "file://"),
        ("CORS_ORIGIN", "\"https://a.example\""),
        ("CORS_ORIGIN", "https://a.example https://b.example"),
        ("SLOTCAST_DRAIN_TIME", "25s"),
        ("SLOTCAST_DRAIN_GRACE", "-1"),
        ("SLOTCAST_STORE", "memory"),
        ("REDIS_URL", "localhost:6379"),
        ("REDIS_URL", "http://localhost"),
        ("REDIS_URL", "redis://"),
        ("REDIS_URL", "redis://h:6379?family=0"),
        ("REDIS_URL", "redis://h:6379\n"),
        ("REDIS_URL", "\"redis://h:6379\""),
        ("REDIS_URL", "redis://h/abc"),
        ("REDIS_URL", "redis://a,b"),
        ("REDIS_URL", "redis-sentinel://h"),
        ("SLOTCAST_REDIS_PREFIX", "a{b}"),
        ("JWT_ALGORITHM", "none"),
        ("JWT_ALGORITHM", "HS512"),
        ("JWT_SECRET", "0123456789012345678901234567890"),
        ("SLOT_HOLD_DURATION", "0"),
        ("SLOT_HOLD_DURATION", "99999999999999999999999"),
        ("SLOT_HOLD_MAX", "1441"),
        ("SLOT_TIMER_INTERVAL", "-1"),
        ("SLOT_TIMER_INTERVAL", "9"),
        ("SLOT_MAX_HOLDS", "twelve"),
        ("SLOTCAST_FREED_TO", "nobody"),
        ("SLOTCAST_OPEN_CATALOG", "yes"),
        ("SLOTCAST_USER_RATE", "0.5"),
        ("SLOTCAST_ANONYMOUS_RATE", "-1"),
        ("SLOTCAST_TRUSTED_PROXIES", "10.0.0.0/33"),
        ("SLOTCAST_TRUSTED_PROXIES", "10.0.0.0/8, proxy"),
        ("SLOTCAST_FORWARDED_HEADER", "x-real-ip"),
        ("SLOTCAST_FRAME_ANCESTORS", "*"),
        ("SLOTCAST_FRAME_ANCESTORS", "'self'"),
        ("SLOTCAST_FRAME_ANCESTORS", "https://a.example/page"),
        ("SLOTCAST_FRAME_ANCESTORS", "capacitor://localhost"),
        ("SLOTCAST_MAX_ROOMS", "0"),
        ("SLOTCAST_LOG", "slotcast=loud"),
        ("SLOTCAST_LOG", "inof"),
        ("SLOTCAST_LOG", "info debug"),
        ("SLOTCAST_LOG", "info;slotcast::feed=debug"),
        ("SLOTCAST_LOG", "info, slotcast::feed=debug"),
        ("SLOTCAST_LOG_USERS", "hashed"),
        ("SLOTCAST_LOG", "in\u{fffd}fo"),
    ] {
        let message = message(&[(name, bad)], Needs::SERVE);
        assert!(message.starts_with(&format!("{name} ")), "{message}");
        assert!(message.ends_with("(environment)"), "{message}");
    }
}

#[test]
fn each_variable_takes_what_it_should() {
    for (name, good) in [
        ("PORT", "0"),
        ("HOST", "localhost"),
        ("HOST", "::"),
        ("HOST", "[::1]"),
        ("SLOTCAST_ADMIN_ADDR", "localhost:0"),
        ("SLOTCAST_ADMIN_ADDR", "[::1]:9090"),
        ("SLOTCAST_ADVERTISE_ADDR", "node-1.internal:3000"),
        ("CORS_ORIGIN", "https://a.example:8443,http://127.0.0.1:5500"),
        ("CORS_ORIGIN", "capacitor://localhost,ionic://localhost,tauri://localhost,app://my-app:8080"),
        ("CORS_ORIGIN", "chrome-extension://abcdefghijklmnop"),
        ("REDIS_URL", "redis://localhost"),
        ("REDIS_URL", "rediss://user:secret@redis.example:6380/1"),
        ("REDIS_URL", "redis-cluster://a:1,b:2"),
        ("REDIS_URL", "rediss-cluster://a:1"),
        ("REDIS_URL", "redis-sentinel://a:1,b:2/main"),
        ("REDIS_URL", "rediss-sentinel://a:1/main"),
        ("SLOT_TIMER_INTERVAL", "0"),
        ("SLOT_MAX_HOLDS", "0"),
        ("SLOTCAST_USER_RATE", "0"),
        ("SLOTCAST_ANONYMOUS_RATE", "0"),
        ("SLOTCAST_TRUSTED_PROXIES", "10.0.0.0/8, fd00::/8,127.0.0.1"),
        ("SLOTCAST_FORWARDED_HEADER", "forwarded"),
        ("SLOTCAST_FRAME_ANCESTORS", "self, https://a.example"),
        ("SLOTCAST_FREED_TO", "rooms"),
        ("SLOTCAST_LOG", "info,slotcast::feed=debug"),
        ("SLOTCAST_LOG", "WARN"),
        ("SLOTCAST_LOG", "hyper"),
        ("SLOTCAST_LOG_USERS", "none"),
        ("JWT_SECRET", SECRET),
    ] {
        assert!(load(&[(name, good)], Needs::SERVE).is_ok(), "{name}={good}");
    }
}

#[test]
fn zero_means_none_where_the_contract_says_so() {
    let pairs = [
        ("SLOT_TIMER_INTERVAL", "0"),
        ("SLOT_MAX_HOLDS", "0"),
        ("SLOT_MAX_HELD", "0"),
        ("SLOTCAST_USER_RATE", "0"),
        ("SLOTCAST_ANONYMOUS_RATE", "0"),
        ("SLOTCAST_EVENT_RATE", "0"),
    ];
    let config = load(&pairs, Needs::SERVE).unwrap().config;
    assert_eq!(config.holds.timer_interval, None);
    assert_eq!(config.holds.max_holds, None);
    assert_eq!(config.holds.max_held, None);
    assert_eq!(config.limits.user_rate, None);
    assert_eq!(config.limits.anonymous_rate, None);
    assert_eq!(config.limits.event_rate, None);
}

#[test]
fn the_grace_is_a_part_of_the_drain_time() {
    let grace = |pairs: &[(&str, &str)]| {
        let production = [("SLOTCAST_ENV", "production"), ("JWT_SECRET", SECRET), ("SLOTCAST_STORE", "embedded")];
        load(&[&production, pairs].concat(), Needs::SERVE).unwrap().config.listen.drain_grace.as_secs()
    };
    assert_eq!(grace(&[]), 5);
    assert_eq!(grace(&[("SLOTCAST_DRAIN_TIME", "10")]), 2, "the default gives way");
    assert_eq!(grace(&[("SLOTCAST_DRAIN_TIME", "0")]), 0);
    assert_eq!(grace(&[("SLOTCAST_DRAIN_GRACE", "20")]), 20);
    assert_eq!(grace(&[("SLOTCAST_DRAIN_GRACE", "0"), ("SLOTCAST_DRAIN_TIME", "0")]), 0);
}

#[test]
fn a_contradiction_names_both_fields() {
    assert_eq!(
        message(&[("SLOTCAST_DRAIN_GRACE", "25")], Needs::SERVE),
        "SLOTCAST_DRAIN_GRACE must be less than SLOTCAST_DRAIN_TIME, because the grace is a part of the drain time; \
         SLOTCAST_DRAIN_GRACE is \"25\" (environment), SLOTCAST_DRAIN_TIME is \"25\" (default)"
    );
    assert_eq!(
        message(&[("SLOT_HOLD_DURATION", "90")], Needs::SERVE),
        "SLOT_HOLD_MAX must not be less than SLOT_HOLD_DURATION; SLOT_HOLD_MAX is \"60\" (default), \
         SLOT_HOLD_DURATION is \"90\" (environment)"
    );
    assert_eq!(
        message(&[("SLOTCAST_STORE", "redis")], Needs::SERVE),
        "SLOTCAST_STORE needs REDIS_URL; SLOTCAST_STORE is \"redis\" (environment), REDIS_URL is not set"
    );
    assert_eq!(
        message(&[("JWT_ALGORITHM", "RS256")], Needs::SERVE),
        "JWT_ALGORITHM needs JWT_JWKS_URL; JWT_ALGORITHM is \"RS256\" (environment), JWT_JWKS_URL is not set"
    );
    let both = [("JWT_JWKS_URL", "https://login.example/keys"), ("JWT_SECRET", SECRET)];
    assert!(message(&both, Needs::SERVE).starts_with("JWT_ALGORITHM must be RS256, ES256 or EdDSA with JWT_JWKS_URL"));
    let same = [("PORT", "9090"), ("SLOTCAST_ADMIN_ADDR", "127.0.0.1:9090")];
    assert!(message(&same, Needs::SERVE).starts_with("SLOTCAST_ADMIN_ADDR must be another port than PORT"));
    assert!(load(&[("PORT", "9090")], Needs::SERVE).is_ok(), "the default gives way");
}

#[test]
fn a_secret_is_never_shown() {
    let short = message(&[("JWT_SECRET", "hunter2")], Needs::SWEEP);
    assert_eq!(
        short,
        "JWT_SECRET must have at least 32 bytes (it has 7); `openssl rand -base64 48` makes one; it is (hidden) (environment)"
    );
    let url = message(&[("REDIS_URL", "hunter2://hunter2@host")], Needs::SERVE);
    assert!(!url.contains("hunter2"), "{url}");
    let keys = message(&[("JWT_ALGORITHM", "RS256"), ("JWT_JWKS_URL", "https://me:hunter2@host/keys")], Needs::SERVE);
    assert!(!keys.contains("hunter2"), "{keys}");
    let loaded = load(&[("JWT_SECRET", SECRET), ("REDIS_URL", "redis://:hunter2@host")], Needs::SERVE).unwrap();
    let shown = format!("{loaded:?}");
    assert!(!shown.contains(SECRET) && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn only_serve_and_token_need_a_secret() {
    assert!(load(&[], Needs::SWEEP).unwrap().config.auth.is_none());
    assert!(load(&[], Needs::CHECK).unwrap().config.auth.is_none());
    let random = load(&[], Needs::SERVE).unwrap().config.auth.unwrap();
    assert!(random.secret_is_random);
    let again = load(&[], Needs::SERVE).unwrap().config.auth.unwrap();
    let (KeySource::Secret(one), KeySource::Secret(other)) = (random.keys, again.keys) else { panic!("not secrets") };
    assert!(one.len() >= 32 && one != other);
    assert!(message(&[], Needs::TOKEN).starts_with("JWT_SECRET must be set"));
    assert!(!load(&[("JWT_SECRET", SECRET)], Needs::TOKEN).unwrap().config.auth.unwrap().secret_is_random);
    let production = [("SLOTCAST_ENV", "production"), ("REDIS_URL", "redis://host")];
    assert_eq!(load(&production, Needs::SWEEP).unwrap().warnings, Vec::<String>::new());
    assert!(message(&production, Needs::CHECK).starts_with("JWT_SECRET must be set in production"));
}

#[test]
fn a_key_set_has_its_algorithm_and_in_production_https() {
    let keys = [("JWT_ALGORITHM", "EdDSA"), ("JWT_JWKS_URL", "http://login.example/keys")];
    let auth = load(&keys, Needs::SERVE).unwrap().config.auth.unwrap();
    assert!(matches!(auth.keys, KeySource::Jwks { algorithm: jsonwebtoken::Algorithm::EdDSA, .. }));
    let production = [keys.as_slice(), &[("SLOTCAST_ENV", "production"), ("REDIS_URL", "redis://host")]].concat();
    assert!(message(&production, Needs::SERVE).starts_with("JWT_JWKS_URL must be an https:// URL"));
    assert!(message(&keys, Needs::TOKEN).starts_with("JWT_ALGORITHM must be HS256 for this command to sign"));
}

#[test]
fn a_redis_url_selects_redis_unless_the_embedded_store_is_named() {
    let redis = load(&[("REDIS_URL", "redis://host")], Needs::SERVE).unwrap();
    assert_eq!(redis.config.store.kind, StoreKind::Redis("redis://host".into()));
    let named = load(&[("REDIS_URL", "redis://host"), ("SLOTCAST_STORE", "embedded")], Needs::SERVE).unwrap();
    assert_eq!(named.config.store.kind, StoreKind::Embedded("./data".into()));
    assert_eq!(named.warnings, ["REDIS_URL is not used, because SLOTCAST_STORE is embedded"]);
}

#[test]
fn emitters_are_heard_only_where_that_is_asked_for_and_there_is_a_redis() {
    let hears = |pairs: &[(&str, &str)]| load(pairs, Needs::SERVE).unwrap().config.store.hears_emitters;
    assert!(!hears(&[("REDIS_URL", "redis://h")]));
    assert!(hears(&[("REDIS_URL", "redis://h"), ("SLOTCAST_EMITTER", "socket.io")]));
    let alone = message(&[("SLOTCAST_EMITTER", "socket.io")], Needs::SERVE);
    assert!(alone.starts_with("SLOTCAST_EMITTER needs REDIS_URL"), "{alone}");
    let other = message(&[("REDIS_URL", "redis://h"), ("SLOTCAST_EMITTER", "true")], Needs::SERVE);
    assert!(other.starts_with("SLOTCAST_EMITTER must be"), "{other}");
}

#[test]
fn guests_are_let_in_only_where_that_is_asked_for() {
    let loaded = |pairs: &[(&str, &str)]| load(pairs, Needs::SERVE).unwrap();
    assert_eq!(loaded(&[]).config.limits.guests, None);
    assert_eq!(loaded(&[("SLOTCAST_GUESTS", "watch")]).config.limits.guests, Some(2_000));
    let bounded = loaded(&[("SLOTCAST_GUESTS", "watch"), ("SLOTCAST_MAX_GUESTS", "5")]);
    assert_eq!((bounded.config.limits.guests, bounded.warnings.len()), (Some(5), 0));
    let idle = loaded(&[("SLOTCAST_MAX_GUESTS", "5")]);
    assert_eq!(idle.config.limits.guests, None);
    assert!(idle.warnings[0].starts_with("SLOTCAST_MAX_GUESTS has no effect"), "{:?}", idle.warnings);
    for (name, bad) in [("SLOTCAST_GUESTS", "true"), ("SLOTCAST_MAX_GUESTS", "0")] {
        assert!(message(&[(name, bad)], Needs::SERVE).starts_with(name));
    }
}

#[test]
fn who_trusts_everybody_is_told() {
    let warnings = |networks: &str| load(&[("SLOTCAST_TRUSTED_PROXIES", networks)], Needs::SERVE).unwrap().warnings;
    for everybody in ["0.0.0.0/0", "10.0.0.0/8, ::/0"] {
        let told = warnings(everybody);
        assert!(told.iter().any(|one| one.starts_with("SLOTCAST_TRUSTED_PROXIES ")), "{everybody}: {told:?}");
    }
    assert!(warnings("10.0.0.0/8,fd00::/8,203.0.113.7").is_empty());
}

#[test]
fn what_lets_slotcast_in_at_the_issuer_is_not_shown() {
    let url = "https://issuer.example/keys?apikey=geheim";
    let loaded = load(&[("JWT_ALGORITHM", "RS256"), ("JWT_JWKS_URL", url)], Needs::CHECK).unwrap();
    let shown = loaded.settings.iter().find(|setting| setting.name == "JWT_JWKS_URL").and_then(|one| one.value.clone());
    assert_eq!(shown.unwrap().0, "(hidden)");
}
