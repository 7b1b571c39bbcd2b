//! What a node finds at its start, before its first act.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_good_redis_gets_one_line() {
    let redis = RedisServer::start(&[]);
    let checked = Node::connect(&redis.url()).check(&redis.url()).await;
    assert_eq!(checked.findings.len(), 1, "{:?}", checked.findings);
    assert!(names_the_server(&checked.findings[0].text), "{:?}", checked.findings);
    assert!(checked.is_fenced && !checked.is_too_old);
    assert_eq!(redis.cli(&["DBSIZE"]).trim(), "0", "the checks leave no key behind");
}

/// Whether a line names the server under test: Debian's Redis 7, or Valkey.
fn names_the_server(line: &str) -> bool {
    line.contains("is Redis 7.") || line.contains("is Valkey ")
}

#[tokio::test(flavor = "multi_thread")]
async fn check_config_asks_the_redis_that_is_set() {
    let redis = RedisServer::start(&["--requirepass", "hunter2", "--appendfsync", "everysec"]);
    let report = async |url: String| {
        let env = BTreeMap::from([("REDIS_URL".to_owned(), url)]);
        let loaded = Config::load(&env, Needs::CHECK);
        let findings = check_config::check_store(&loaded).await;
        let mut out = Vec::new();
        let code =
            check_config::report(&loaded, &findings, check_config::CheckConfigArgs::default(), &mut out).unwrap();
        (code, String::from_utf8(out).unwrap())
    };
    let (code, text) = report(format!("redis://:hunter2@127.0.0.1:{}", redis.port)).await;
    assert_eq!(code, 0, "{text}");
    let line = text.lines().find(|line| line.starts_with(&format!("ok: 127.0.0.1:{} is ", redis.port)));
    assert!(line.is_some_and(names_the_server), "{text}");
    assert!(text.contains("\nwarning: ") && text.contains("has appendfsync everysec"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");

    let (code, text) = report(format!("redis://:hunter3@127.0.0.1:{}", redis.port)).await;
    assert_eq!(code, 64, "{text}");
    assert!(text.contains("\nerror: redis://127.0.0.1:") && !text.contains("hunter3"), "{text}");

    let (code, text) = report("redis://hunter2@localhost".into()).await;
    assert_eq!(code, 64, "{text}");
    assert!(text.contains("REDIS_URL has a user without a password") && !text.contains("hunter2"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_unsafe_setting_has_its_line() {
    let redis = RedisServer::start(&[]);
    let node = Node::start(&redis.url()).await;
    let has = async |severity, words: &str| {
        let found = texts(&node.check(&redis.url()).await, severity);
        assert!(found.iter().any(|text| text.contains(words)), "{words}: {found:?}");
    };
    redis.cli(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    has(Severity::Error, "set noeviction").await;
    redis.cli(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    redis.cli(&["CONFIG", "SET", "appendfsync", "everysec"]);
    has(Severity::Warning, "set appendfsync always").await;
    redis.cli(&["CONFIG", "SET", "appendfsync", "always"]);
    redis.cli(&["CONFIG", "SET", "appendonly", "no"]);
    has(Severity::Error, "set appendonly yes").await;
    redis.cli(&["CONFIG", "SET", "appendonly", "yes"]);
    let _replica = RedisServer::start(&["--replicaof", "127.0.0.1", &redis.port.to_string()]);
    wait_until("there is a replica", || redis.cli(&["INFO", "replication"]).contains("connected_slaves:1"));
    has(Severity::Warning, "set min-replicas-to-write 1").await;
    redis.cli(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    wait_until("the replica is in step", || redis.cli(&["INFO", "replication"]).contains("min_slaves_good_slaves:1"));
    assert_eq!(texts(&node.check(&redis.url()).await, Severity::Warning), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_that_a_user_lacks_are_found_before_the_first_act() {
    let redis = RedisServer::start(&[]);
    let lines = async |rights: &[&str]| {
        let mut command = vec!["ACL", "SETUSER", "anna", "reset", "on", ">secret"];
        command.extend(rights);
        assert_eq!(redis.cli(&command).trim(), "OK");
        let url = format!("redis://anna:secret@127.0.0.1:{}", redis.port);
        Node::connect(&url).check(&url).await
    };
    let all = ["~test:*", "&test:*", "+@all"];
    assert_eq!(lines(&all).await.findings.len(), 1);

    let without = lines(&[&all[..], &["-xadd", "-zscore"]].concat()).await;
    let errors = texts(&without, Severity::Error);
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors[0].contains("may not use XADD") && errors[1].contains("may not use ZSCORE"), "{errors:?}");
    assert!(without.is_fenced);

    let without = lines(&[&all[..], &["-info"]].concat()).await;
    assert!(!without.is_fenced);
    assert_eq!(texts(&without, Severity::Error), Vec::<String>::new());
    let warnings = texts(&without, Severity::Warning);
    assert!(warnings.iter().any(|text| text.contains("cannot tell when Redis has lost")), "{warnings:?}");

    let without = lines(&[&all[..], &["-config"]].concat()).await;
    let warnings = texts(&without, Severity::Warning);
    assert!(warnings.len() == 1 && warnings[0].contains("CONFIG is refused"), "{warnings:?}");

    let errors = texts(&lines(&["~other:*", "&test:*", "+@all"]).await, Severity::Error);
    assert!(errors.iter().any(|text| text.contains("may not run scripts on the keys test:*")), "{errors:?}");

    let errors = texts(&lines(&["~test:*", "&test:{b0}:t", "+@all"]).await, Severity::Error);
    assert!(errors.iter().any(|text| text.contains("may not use PUBLISH")), "{errors:?}");
    assert!(errors.iter().any(|text| text.contains("may not subscribe")), "{errors:?}");

    let errors = texts(&lines(&[&all[..], &["-ping"]].concat()).await, Severity::Error);
    assert!(errors.len() == 1 && errors[0].contains("may not use PING"), "{errors:?}");

    let errors = texts(&lines(&[&all[..], &["-evalsha"]].concat()).await, Severity::Error);
    assert!(errors.len() == 1 && errors[0].contains("EVALSHA"), "{errors:?}");
}
