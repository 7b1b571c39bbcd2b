use parking_lot::Mutex as SyncMutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::*;
use crate::auth::{TokenError, Verifier};
use crate::config::{AuthConfig, KeySource};
use crate::domain::UserId;

/// An issuer on this machine. A test can change its answer, and it counts how often it was asked.
#[derive(Clone)]
struct Issuer {
    url: String,
    answer: Arc<SyncMutex<Answer>>,
    asked: Arc<AtomicUsize>,
}

#[derive(Clone)]
struct Answer {
    status: StatusCode,
    cache_control: &'static str,
    body: String,
    /// How long the issuer takes to answer.
    delay: Duration,
}

impl Issuer {
    async fn start(keys: &[Value]) -> Issuer {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let answer = Answer {
            status: StatusCode::OK,
            cache_control: "public, max-age=120",
            body: json!({"keys": keys}).to_string(),
            delay: Duration::ZERO,
        };
        let issuer = Issuer { url, answer: Arc::new(SyncMutex::new(answer)), asked: Arc::default() };
        let asked = issuer.clone();
        let router = Router::new()
            .route("/keys", get(async move || asked.respond().await))
            .route("/moved", get(async || Redirect::temporary("/keys")));
        tokio::spawn(async move { axum::serve(listener, router).await });
        issuer
    }

    async fn respond(&self) -> Response {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let answer = self.answer.lock().clone();
        tokio::time::sleep(answer.delay).await;
        (answer.status, [(CACHE_CONTROL, answer.cache_control)], answer.body).into_response()
    }

    fn set_keys(&self, keys: &[Value]) {
        self.answer.lock().body = json!({"keys": keys}).to_string();
    }

    fn fail(&self, fails: bool) {
        self.answer.lock().status = if fails { StatusCode::BAD_GATEWAY } else { StatusCode::OK };
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// A new Ed25519 key: the private half that signs, and the entry of the set.
fn ed25519(kid: &str) -> (EncodingKey, Value) {
    let key = Ed25519KeyPair::generate().unwrap();
    let der: Pkcs8V1Der = key.as_der().unwrap();
    shown(EncodingKey::from_ed_der(der.as_ref()), Algorithm::EdDSA, kid)
}

fn es256(kid: &str) -> (EncodingKey, Value) {
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    shown(EncodingKey::from_ec_der(key.to_pkcs8v1().unwrap().as_ref()), Algorithm::ES256, kid)
}

fn rs256(kid: &str) -> (EncodingKey, Value) {
    let key = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    let der: Pkcs8V1Der = key.as_der().unwrap();
    // The library signs with the inner key of the PKCS #8 envelope, which begins after a head of 26 bytes.
    shown(EncodingKey::from_rsa_der(&der.as_ref()[26..]), Algorithm::RS256, kid)
}

fn shown(key: EncodingKey, algorithm: Algorithm, kid: &str) -> (EncodingKey, Value) {
    let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&key, algorithm).unwrap()).unwrap();
    jwk["kid"] = kid.into();
    (key, jwk)
}

fn sign(key: &EncodingKey, algorithm: Algorithm, kid: Option<&str>) -> String {
    let header = Header { kid: kid.map(str::to_string), ..Header::new(algorithm) };
    encode(&header, &json!({"id_utente": 7, "exp": u32::MAX}), key).unwrap()
}

fn verifier(issuer: &Issuer, algorithm: Algorithm) -> Verifier {
    let keys = KeySource::Jwks { algorithm, url: issuer.url.clone() };
    Verifier::new(&AuthConfig {
        keys,
        issuer: None,
        audience: None,
        secret_is_random: false,
        node_secret: None,
        previous_secret: None,
    })
    .unwrap()
}

fn cache(issuer: &Issuer) -> KeyCache {
    KeyCache::new(&issuer.url, Algorithm::EdDSA).unwrap()
}

#[tokio::test]
async fn tokens_of_each_algorithm_hold_by_the_set() {
    for (algorithm, (key, jwk)) in
        [(Algorithm::EdDSA, ed25519("a")), (Algorithm::ES256, es256("a")), (Algorithm::RS256, rs256("a"))]
    {
        let issuer = Issuer::start(&[jwk]).await;
        let verifier = verifier(&issuer, algorithm);
        let claims = verifier.verify(&sign(&key, algorithm, Some("a"))).await.unwrap();
        assert_eq!(claims.user, UserId::new("7").unwrap());
        assert!(verifier.verify(&sign(&key, algorithm, None)).await.is_ok(), "{algorithm:?}: the only key");
        assert_eq!(issuer.asked(), 1);
    }
}

#[tokio::test]
async fn a_public_key_is_never_taken_for_a_secret() {
    let (_, jwk) = es256("a");
    let issuer = Issuer::start(&[jwk.clone(), json!({"kty": "oct", "k": "c2VjcmV0", "kid": "s"})]).await;
    let verifier = verifier(&issuer, Algorithm::ES256);
    for secret in [jwk.to_string(), jwk["x"].as_str().unwrap().to_string(), "secret".to_string()] {
        let token = sign(&EncodingKey::from_secret(secret.as_bytes()), Algorithm::HS256, Some("a"));
        assert_eq!(verifier.verify(&token).await, Err(TokenError::Algorithm));
    }
    assert_eq!(issuer.asked(), 0, "a wrong algorithm is refused before any key is looked for");
}

#[tokio::test]
async fn only_keys_of_the_algorithm_are_used() {
    let (key, jwk) = ed25519("a");
    let (other, _) = ed25519("a");
    let encryption = json!({"kty": "OKP", "crv": "Ed25519", "x": jwk["x"], "kid": "enc", "use": "enc"});
    let issuer = Issuer::start(&[json!("no key"), es256("b").1, encryption, jwk]).await;
    let verifier = verifier(&issuer, Algorithm::EdDSA);
    assert!(verifier.verify(&sign(&key, Algorithm::EdDSA, None)).await.is_ok(), "the only usable key");
    for (key, kid, reason) in [
        (&other, "a", TokenError::Signature),
        (&key, "b", TokenError::UnknownKey),
        (&key, "enc", TokenError::UnknownKey),
        (&key, "", TokenError::UnknownKey),
    ] {
        assert_eq!(verifier.verify(&sign(key, Algorithm::EdDSA, Some(kid))).await, Err(reason), "{kid}");
    }
}

#[tokio::test]
async fn a_token_without_a_kid_needs_a_set_of_one_key() {
    let (key, jwk) = ed25519("a");
    let issuer = Issuer::start(&[jwk, ed25519("b").1]).await;
    let verifier = verifier(&issuer, Algorithm::EdDSA);
    assert_eq!(verifier.verify(&sign(&key, Algorithm::EdDSA, None)).await, Err(TokenError::UnknownKey));
    assert!(verifier.verify(&sign(&key, Algorithm::EdDSA, Some("a"))).await.is_ok());
}

#[tokio::test]
async fn a_new_key_is_found_when_its_first_token_comes() {
    let start = clock::instant();
    let (first, second) = (ed25519("a"), ed25519("b"));
    let issuer = Issuer::start(std::slice::from_ref(&first.1)).await;
    let cache = cache(&issuer);
    assert!(cache.find(Some("a"), start).await.is_ok());
    issuer.set_keys(&[first.1, second.1.clone()]);
    assert_eq!(cache.find(Some("b"), start + Duration::from_secs(29)).await.err(), Some(KeyError::Unknown));
    assert_eq!(issuer.asked(), 1);
    assert!(cache.find(Some("b"), start + UNKNOWN_KEY_PAUSE).await.is_ok());
    assert_eq!(issuer.asked(), 2);

    issuer.set_keys(&[second.1]);
    let fresh = start + UNKNOWN_KEY_PAUSE + Duration::from_secs(119);
    assert!(cache.find(Some("a"), fresh).await.is_ok(), "until the set is stale");
    assert_eq!(cache.find(Some("a"), fresh + Duration::from_secs(1)).await.err(), Some(KeyError::Unknown));
    assert_eq!(issuer.asked(), 3);
}

#[tokio::test]
async fn invented_kids_do_not_hammer_the_issuer() {
    let start = clock::instant();
    let issuer = Issuer::start(&[ed25519("a").1]).await;
    let cache = cache(&issuer);
    for second in 0..90_u64 {
        let kid = format!("invented-{second}");
        assert_eq!(cache.find(Some(&kid), start + Duration::from_secs(second)).await.err(), Some(KeyError::Unknown));
    }
    assert_eq!(issuer.asked(), 3);
}

#[tokio::test]
async fn many_callers_share_one_fetch_and_none_is_needed_for_it_to_end() {
    let start = clock::instant();
    let issuer = Issuer::start(&[ed25519("a").1]).await;
    issuer.answer.lock().delay = Duration::from_millis(100);
    let cache = cache(&issuer);
    let gone = tokio::spawn({
        let cache = cache.clone();
        async move { cache.find(Some("a"), start).await.is_ok() }
    });
    while issuer.asked() == 0 {
        tokio::task::yield_now().await;
    }
    gone.abort();
    let callers = (0..20).map(|_| cache.find(Some("a"), start));
    let found = futures_util::future::join_all(callers).await;
    assert!(found.iter().all(Result::is_ok));
    assert_eq!(issuer.asked(), 1);
}

#[tokio::test]
async fn old_keys_go_on_while_the_issuer_does_not_answer() {
    let start = clock::instant();
    let (_, jwk) = ed25519("a");
    let issuer = Issuer::start(&[jwk]).await;
    let cache = cache(&issuer);
    assert!(cache.find(Some("a"), start).await.is_ok());
    issuer.fail(true);
    let stale = start + Duration::from_secs(120);
    assert!(cache.find(Some("a"), stale).await.is_ok());
    assert!(cache.find(Some("a"), stale + Duration::from_secs(4)).await.is_ok());
    assert_eq!(issuer.asked(), 2, "not again within the pause");
    assert!(cache.find(Some("a"), stale + FAILURE_PAUSE).await.is_ok());
    assert_eq!(issuer.asked(), 3);
    let error = cache.find(Some("a"), start + LONGEST_OUTAGE).await.err();
    assert_eq!(error, Some(KeyError::Unavailable), "but not for ever");
    issuer.fail(false);
    assert!(cache.find(Some("a"), start + LONGEST_OUTAGE + FAILURE_PAUSE).await.is_ok());
}

#[tokio::test]
async fn without_a_set_nothing_can_be_said() {
    let (key, jwk) = ed25519("a");
    let token = sign(&key, Algorithm::EdDSA, Some("a"));
    let set = json!({"keys": [jwk]}).to_string();
    let huge = format!("{{\"keys\": [], \"padding\": \"{}\"}}", "x".repeat(LARGEST_SET));
    for (status, body) in [
        (StatusCode::NOT_FOUND, set.as_str()),
        (StatusCode::FOUND, &set),
        (StatusCode::OK, "<html>"),
        (StatusCode::OK, "{\"keys\": []}"),
        (StatusCode::OK, &huge),
    ] {
        let issuer = Issuer::start(&[]).await;
        *issuer.answer.lock() = Answer { status, cache_control: "no-store", body: body.into(), delay: Duration::ZERO };
        let verifier = verifier(&issuer, Algorithm::EdDSA);
        assert_eq!(verifier.verify(&token).await, Err(TokenError::KeysUnavailable), "{status}");
    }
}

#[tokio::test]
async fn an_issuer_cannot_send_the_node_elsewhere() {
    let issuer = Issuer::start(&[ed25519("a").1]).await;
    let cache = KeyCache::new(&issuer.url.replace("/keys", "/moved"), Algorithm::EdDSA).unwrap();
    assert_eq!(cache.find(Some("a"), clock::instant()).await.err(), Some(KeyError::Unavailable));
    assert_eq!(issuer.asked(), 0);
}

#[test]
fn freshness_is_what_the_issuer_says_within_bounds() {
    for (said, seconds) in [
        (None, 3_600),
        (Some("no-store"), 3_600),
        (Some("max-age=0"), 60),
        (Some("public, Max-Age=600, must-revalidate"), 600),
        (Some("s-maxage=5, max-age=\"300\""), 300),
        (Some("max-age=31536000"), 3_600),
        (Some("max-age=-1"), 3_600),
        (Some("max-age=99999999999999999999"), 3_600),
    ] {
        assert_eq!(fresh_for(said), Duration::from_secs(seconds), "{said:?}");
    }
}
