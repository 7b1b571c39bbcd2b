use jsonwebtoken::{EncodingKey, Header, encode};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::auth::issue;

const SECRET: &[u8] = b"a-secret-of-more-than-thirty-two-bytes";

/// The time of all checks in this file, in seconds.
const NOW: i64 = 1_800_000_000;

fn config() -> AuthConfig {
    let keys = KeySource::Secret(SECRET.to_vec());
    AuthConfig { keys, issuer: None, audience: None, secret_is_random: false, node_secret: None, previous_secret: None }
}

fn sign(claims: &Value) -> String {
    encode(&Header::default(), claims, &EncodingKey::from_secret(SECRET)).unwrap()
}

fn base64(text: &str) -> String {
    // The library's own encoder makes base64url only for a token's header, so the text is encoded as a header.
    let token =
        encode(&Header::default(), &serde_json::from_str::<Value>(text).unwrap(), &EncodingKey::from_secret(SECRET));
    token.unwrap().split('.').nth(1).unwrap().to_string()
}

async fn verify_with(config: &AuthConfig, token: &str) -> Result<Claims, TokenError> {
    Verifier::new(config).unwrap().verify_at(token, StoreTime::from_millis(NOW * 1_000)).await
}

async fn verify(token: &str) -> Result<Claims, TokenError> {
    verify_with(&config(), token).await
}

async fn verify_claims(claims: Value) -> Result<Claims, TokenError> {
    verify(&sign(&claims)).await
}

#[tokio::test]
async fn a_user_is_a_number_or_a_string() {
    let by_number = verify_claims(json!({"id_utente": 7, "exp": NOW + 60})).await.unwrap();
    let by_string = verify_claims(json!({"id_utente": "7", "exp": NOW + 60})).await.unwrap();
    assert_eq!(by_number, by_string);
    assert_eq!(by_number.user, UserId::new("7").unwrap());
    assert_eq!(by_number.expires, StoreTime::from_millis((NOW + 60) * 1_000));
    assert_eq!((by_number.role, by_number.sites), (None, None));
}

#[tokio::test]
async fn a_token_without_a_proper_user_is_refused() {
    for claims in [
        json!({"exp": NOW + 60}),
        json!({"id_utente": null, "exp": NOW + 60}),
        json!({"id_utente": "", "exp": NOW + 60}),
        json!({"id_utente": 1.5, "exp": NOW + 60}),
        json!({"id_utente": [7], "exp": NOW + 60}),
        json!({"sub": "7", "exp": NOW + 60}),
    ] {
        assert_eq!(verify_claims(claims.clone()).await, Err(TokenError::Claims), "{claims}");
    }
}

#[tokio::test]
async fn claims_are_an_object() {
    // The fields' values in order, as a list. Serde would read a struct from it.
    for claims in [
        json!([NOW + 60, null, 7, "admin", null]),
        json!([NOW + 60, NOW - 60, 7, "admin", [1]]),
        json!([]),
        json!(null),
        json!("7"),
    ] {
        let refused = verify_claims(claims.clone()).await;
        assert!(matches!(refused, Err(TokenError::Claims | TokenError::Malformed)), "{claims}: {refused:?}");
    }
}

#[tokio::test]
async fn only_staff_roles_are_roles() {
    let role =
        async |name: Value| verify_claims(json!({"id_utente": 7, "exp": NOW + 60, "ruolo": name})).await.unwrap().role;
    assert_eq!(role(json!("responsabile")).await, Some(Role::SiteManager));
    assert_eq!(role(json!("gestore")).await, Some(Role::Manager));
    assert_eq!(role(json!("amministratore")).await, Some(Role::Administrator));
    assert_eq!(role(json!("admin")).await, Some(Role::Administrator));
    assert_eq!(role(json!("servizio")).await, Some(Role::Service));
    assert_eq!(role(json!("cliente")).await, None);
    assert_eq!(role(json!("ADMIN")).await, None);
    assert_eq!(role(json!(null)).await, None);
    let list = verify_claims(json!({"id_utente": 7, "exp": NOW + 60, "ruolo": ["admin"]})).await;
    assert_eq!(list, Err(TokenError::Claims));
}

#[tokio::test]
async fn sites_are_numbers_or_digits_and_anything_else_is_refused() {
    let sites = async |sites: Value| verify_claims(json!({"id_utente": 7, "exp": NOW + 60, "sedi": sites})).await;
    let two = BTreeSet::from([SiteId::new(1).unwrap(), SiteId::new(2).unwrap()]);
    assert_eq!(sites(json!([1, "2"])).await.unwrap().sites, Some(two));
    assert_eq!(sites(json!([])).await.unwrap().sites, Some(BTreeSet::new()));
    for bad in
        [json!(null), json!(1), json!("1"), json!([0]), json!(["01"]), json!([1.5]), json!([null]), json!({"1": true})]
    {
        assert_eq!(sites(bad.clone()).await, Err(TokenError::Claims), "{bad}");
    }
}

#[tokio::test]
async fn a_token_ends_ten_seconds_after_its_time_and_must_have_one() {
    let until = async |exp: Value| verify_claims(json!({"id_utente": 7, "exp": exp})).await.map(drop);
    assert_eq!(until(json!(NOW - 9)).await, Ok(()));
    assert_eq!(until(json!(NOW - 10)).await, Err(TokenError::Expired));
    assert_eq!(until(json!(0)).await, Err(TokenError::Expired));
    assert_eq!(until(json!(-1)).await, Err(TokenError::Expired));
    assert_eq!(until(json!(i64::MIN)).await, Err(TokenError::Expired));
    assert_eq!(until(json!(NOW as f64 + 0.5)).await, Ok(()));
    assert_eq!(until(json!(u64::MAX)).await, Ok(()));
    assert_eq!(until(json!(1e300)).await, Ok(()));
    for bad in [json!(null), json!("soon"), json!((NOW + 60).to_string()), json!(true), json!([NOW + 60])] {
        assert_eq!(until(bad.clone()).await, Err(TokenError::Claims), "{bad}");
    }
    assert_eq!(verify_claims(json!({"id_utente": 7})).await, Err(TokenError::Claims));
}

#[tokio::test]
async fn a_token_is_not_valid_before_its_time() {
    let from = async |nbf: Value| verify_claims(json!({"id_utente": 7, "exp": NOW + 600, "nbf": nbf})).await.map(drop);
    assert_eq!(from(json!(NOW)).await, Ok(()));
    assert_eq!(from(json!(NOW + 10)).await, Ok(()));
    assert_eq!(from(json!(NOW + 11)).await, Err(TokenError::NotYetValid));
    assert_eq!(from(json!(1e300)).await, Err(TokenError::NotYetValid));
    assert_eq!(from(json!("now")).await, Err(TokenError::Claims));
    assert_eq!(from(json!(null)).await, Err(TokenError::Claims));
}

#[tokio::test]
async fn issuer_and_audience_count_only_when_configured() {
    let strict = AuthConfig { issuer: Some("us".into()), audience: Some("slotcast".into()), ..config() };
    let token = |extra: Value| {
        let mut claims = json!({"id_utente": 7, "exp": NOW + 60});
        claims.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        sign(&claims)
    };
    assert!(verify(&token(json!({"iss": "them", "aud": ["other"]}))).await.is_ok());
    assert!(verify(&token(json!({"iss": 5, "aud": {}}))).await.is_ok());
    assert!(verify_with(&strict, &token(json!({"iss": "us", "aud": "slotcast"}))).await.is_ok());
    assert!(verify_with(&strict, &token(json!({"iss": "us", "aud": ["x", "slotcast"]}))).await.is_ok());
    for (extra, reason) in [
        (json!({"iss": "them", "aud": "slotcast"}), TokenError::Issuer),
        (json!({"aud": "slotcast"}), TokenError::Issuer),
        (json!({"iss": 5, "aud": "slotcast"}), TokenError::Issuer),
        (json!({"iss": "us", "aud": "other"}), TokenError::Audience),
        (json!({"iss": "us", "aud": []}), TokenError::Audience),
        (json!({"iss": "us"}), TokenError::Audience),
    ] {
        assert_eq!(verify_with(&strict, &token(extra.clone())).await, Err(reason), "{extra}");
    }
}

#[tokio::test]
async fn the_algorithm_is_never_the_tokens_choice() {
    let body = base64(&format!(r#"{{"id_utente":7,"exp":{}}}"#, NOW + 60));
    for alg in ["none", "None", "NONE", "hs256", ""] {
        let header = base64(&format!(r#"{{"alg":"{alg}","typ":"JWT"}}"#));
        assert!(verify(&format!("{header}.{body}.")).await.is_err(), "{alg}");
    }
    // First the right secret under another algorithm's name, then the right secret with a longer hash.
    let header = base64(r#"{"alg":"RS256"}"#);
    let message = format!("{header}.{body}");
    let key = EncodingKey::from_secret(SECRET);
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    assert_eq!(verify(&format!("{message}.{signature}")).await, Err(TokenError::Algorithm));
    let longer = encode(&Header::new(Algorithm::HS512), &json!({"id_utente": 7, "exp": NOW + 60}), &key).unwrap();
    assert_eq!(verify(&longer).await, Err(TokenError::Algorithm));
    let header = base64(r#"{"alg":"HS256","crit":["exp"]}"#);
    let message = format!("{header}.{body}");
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    assert_eq!(verify(&format!("{message}.{signature}")).await, Err(TokenError::Malformed));
}

#[tokio::test]
async fn no_part_of_a_token_can_be_cut_or_changed() {
    let token = sign(&json!({"id_utente": 7, "exp": NOW + 60}));
    assert!(verify(&token).await.is_ok());
    for length in 0..token.len() {
        assert!(verify(&token[..length]).await.is_err(), "{length}");
    }
    let other = encode(&Header::default(), &json!({"id_utente": 7, "exp": NOW + 60}), &EncodingKey::from_secret(b"x"));
    assert_eq!(verify(&other.unwrap()).await, Err(TokenError::Signature));
    assert!(verify(&format!("{token}.{token}")).await.is_err());
    assert!(verify(&format!(" {token}")).await.is_err());
}

#[tokio::test]
async fn a_token_under_the_secret_before_holds_and_its_claims_are_checked_as_well() {
    const BEFORE: &[u8] = b"the-secret-before-this-one-is-also-long";
    let both = AuthConfig { previous_secret: Some(BEFORE.to_vec()), ..config() };
    let signed = |secret: &[u8], exp: i64| {
        let claims = json!({"id_utente": 7, "exp": exp});
        encode(&Header::default(), &claims, &EncodingKey::from_secret(secret)).unwrap()
    };
    for secret in [SECRET, BEFORE] {
        assert!(verify_with(&both, &signed(secret, NOW + 60)).await.is_ok());
        assert_eq!(verify_with(&both, &signed(secret, NOW - 60)).await, Err(TokenError::Expired));
    }
    assert_eq!(verify_with(&config(), &signed(BEFORE, NOW + 60)).await, Err(TokenError::Signature));
    assert_eq!(verify_with(&both, &signed(b"another", NOW + 60)).await, Err(TokenError::Signature));
    let claims = Claims {
        user: UserId::new("7").unwrap(),
        role: None,
        sites: None,
        expires: StoreTime::from_millis((NOW + 60) * 1_000),
    };
    let token = issue(&both, &claims, StoreTime::from_millis(NOW * 1_000)).unwrap();
    assert!(verify(&token).await.is_ok(), "none is made under the secret before");
}

#[tokio::test]
async fn a_long_token_is_refused_before_it_is_parsed() {
    let long = sign(&json!({"id_utente": 7, "exp": NOW + 60, "padding": "x".repeat(LONGEST_TOKEN)}));
    assert_eq!(verify(&long).await, Err(TokenError::TooLong));
}

#[tokio::test]
async fn what_is_issued_is_verified() {
    let strict = AuthConfig { issuer: Some("us".into()), audience: Some("slotcast".into()), ..config() };
    let claims = Claims {
        user: UserId::new("anna").unwrap(),
        role: Some(Role::Administrator),
        sites: Some(BTreeSet::from([SiteId::new(3).unwrap()])),
        expires: StoreTime::from_millis((NOW + 60) * 1_000),
    };
    let token = issue(&strict, &claims, StoreTime::from_millis(NOW * 1_000)).unwrap();
    assert_eq!(verify_with(&strict, &token).await.unwrap(), claims);
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(token in ".{0,200}", header in ".{0,50}", claims in ".{0,50}") {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        prop_assert!(runtime.block_on(verify(&token)).is_err());
        let three_parts = format!("{header}.{claims}.{token}");
        prop_assert!(runtime.block_on(verify(&three_parts)).is_err());
    }

    #[test]
    fn no_claims_make_it_panic(
        exp in prop_oneof![any::<f64>().prop_map(|x| json!(x)), any::<u64>().prop_map(|x| json!(x)), any::<i64>().prop_map(|x| json!(x))],
        id in prop_oneof![any::<i64>().prop_map(|x| json!(x)), ".{0,200}".prop_map(|x| json!(x))],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        if let Ok(claims) = runtime.block_on(verify_claims(json!({"id_utente": id, "exp": exp}))) {
            prop_assert!(claims.expires.as_millis() > (NOW - 10) * 1_000);
        }
    }
}
