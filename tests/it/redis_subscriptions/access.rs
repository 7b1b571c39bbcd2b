//! TLS and passwords.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_by_the_named_certificates_alone() {
    let certificates = Certificates::make();
    let port = free_port();
    let path = |name: &str| certificates.path(name).to_str().unwrap().to_owned();
    let _redis = RedisServer::start_with(
        port,
        &[
            "--port",
            "0",
            "--tls-port",
            &port.to_string(),
            "--tls-cert-file",
            &path("server.pem"),
            "--tls-key-file",
            &path("server.key"),
            "--tls-ca-cert-file",
            &path("ca.pem"),
            "--tls-auth-clients",
            "no",
            "--requirepass",
            "hunter2",
        ],
    );
    wait_until("the server listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    let url = format!("rediss://:hunter2@127.0.0.1:{port}?ca={}", path("ca.pem"));
    let node = Node::start(&url).await;
    let mut watch = node.subscriptions.watch(space(1)).await.unwrap();
    node.publish(space(1), 1).await;
    assert_eq!(next_message(&mut watch).await.at.version, 1);
    assert_eq!(texts(&node.check(&url).await, Severity::Good).len(), 1);

    // The system's certificates do not include the one that signed the server's.
    let other = Node::connect(&format!("rediss://:hunter2@127.0.0.1:{port}"));
    assert!(other.ping().await.is_err());
    assert!(other.subscriptions.watch(space(1)).await.is_err());
    let missing = Endpoint::parse("rediss://h?ca=/nowhere/ca.pem").unwrap();
    let failure = Commands::start(&missing).err().unwrap();
    assert!(failure.0.contains("/nowhere/ca.pem"), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_given_and_a_wrong_one_said() {
    let redis = RedisServer::start(&["--requirepass", "p@ss/word"]);
    let url = format!("redis://:p%40ss%2Fword@127.0.0.1:{}/3", redis.port);
    let node = Node::start(&url).await;
    let mut watch = node.subscriptions.watch(space(1)).await.unwrap();
    node.publish(space(1), 1).await;
    assert_eq!(next_message(&mut watch).await.at.version, 1);

    let findings = checks::check_url(&format!("redis://:hunter2@127.0.0.1:{}", redis.port), PREFIX).await;
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].severity, Severity::Error);
    assert!(findings[0].text.contains("WRONGPASS") && !findings[0].text.contains("hunter2"), "{findings:?}");
    assert!(findings[0].text.contains(&format!("redis://127.0.0.1:{}", redis.port)), "{findings:?}");
    let nobody = checks::check_url(&format!("redis://127.0.0.1:{}", free_port()), PREFIX).await;
    assert!(nobody[0].text.contains("Is it running"), "{nobody:?}");
}
