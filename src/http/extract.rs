//! The arguments of handlers. The types of the arguments are the access rules: a handler with a [`Caller`] has a valid
//! token, and a handler with a [`SpacePath`] has a space. Every rejection is one of our refusals.

use axum::extract::{FromRequest, FromRequestParts, OptionalFromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use serde::Deserialize;
use serde::de::value::{Error as ValueError, StrDeserializer};
use serde::de::{DeserializeOwned, IntoDeserializer};

use super::body::read_body;
use super::error::ApiError;
use crate::app::AppState;
use crate::auth::Claims;
use crate::calls;
use crate::domain::{Code, Refusal, SlotNumber, SpaceId, SpaceKey, UserId};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The longest `Idempotency-Key`, in bytes.
const MAX_KEY_BYTES: usize = 255;

/// A body of JSON, whatever its content type is. Otherwise `malformed` with the field, or `too_large`.
pub struct Json<T>(pub T);

impl<T: DeserializeOwned> FromRequest<AppState> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &AppState) -> Result<Self, ApiError> {
        let body = read_body(request.into_body()).await?;
        Ok(Self(calls::parse(&body)?))
    }
}

/// The caller, by a valid bearer token; else `401 Unauthorized`. `Option<Caller>` also takes a call without a token, but
/// refuses an invalid token.
pub struct Caller(pub Claims);

impl FromRequestParts<AppState> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, ApiError> {
        let caller = <Self as OptionalFromRequestParts<AppState>>::from_request_parts(parts, app).await?;
        caller.ok_or_else(|| {
            Refusal::because(Code::Unauthorized, "Authorization: must be Bearer, a space and a token").into()
        })
    }
}

impl OptionalFromRequestParts<AppState> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Option<Self>, ApiError> {
        let Some(token) = bearer_token(&parts.headers)? else { return Ok(None) };
        Ok(Some(Self(calls::verify_token(app, token).await?)))
    }
}

/// The token of the only `Authorization` header. Two such headers are refused, because another reader in front of this one
/// might take the other.
pub(crate) fn bearer_token(headers: &HeaderMap) -> Result<Option<&str>, Code> {
    let Some(value) = only(headers, &header::AUTHORIZATION).map_err(|_| Code::Unauthorized)? else { return Ok(None) };
    let (scheme, token) = value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or(Code::Unauthorized)?;
    let token = token.trim();
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() {
        return Err(Code::Unauthorized);
    }
    Ok(Some(token))
}

/// The error for a header that came twice and may come once.
struct Repeated;

/// The value of a header that may come once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>, Repeated> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (_, Some(_)) => Err(Repeated),
        (value, None) => Ok(value),
    }
}

/// The `Idempotency-Key`, if the caller sent it. It must come once and have 1 to 255 visible ASCII characters;
/// otherwise `malformed`.
pub struct IdempotencyKey(pub Option<String>);

impl FromRequestParts<AppState> for IdempotencyKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, ApiError> {
        Ok(Self(idempotency_key(&parts.headers)?))
    }
}

pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let otherwise = |_| {
        let allowed = format_args!("Idempotency-Key: one, of 1 to {MAX_KEY_BYTES} visible ASCII characters");
        Refusal::because(Code::Malformed, allowed)
    };
    let Some(value) = only(headers, &IDEMPOTENCY_KEY).map_err(otherwise)? else { return Ok(None) };
    let fits = (1..=MAX_KEY_BYTES).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic);
    let key = value.to_str().ok().filter(|_| fits).ok_or(Repeated).map_err(otherwise)?;
    Ok(Some(key.to_owned()))
}

/// A slot's number in the path: `/api/slots/{id}`. The call refuses a number beyond every schedule, because it knows
/// the day.
pub struct SlotPath(pub SlotNumber);

impl FromRequestParts<AppState> for SlotPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, ApiError> {
        let id: String = path_parameters(parts, app).await?;
        Ok(Self(slot_number(&id)?))
    }
}

pub(crate) fn slot_number(text: &str) -> Result<SlotNumber, Refusal> {
    let digits: StrDeserializer<'_, ValueError> = text.into_deserializer();
    SlotNumber::deserialize(digits).map_err(|error| Refusal::because(Code::Malformed, format_args!("id: {error}")))
}

/// A space in the path: `/api/spaces/{sedeId}/{idSpazio}`.
pub struct SpacePath(pub SpaceKey);

impl FromRequestParts<AppState> for SpacePath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, ApiError> {
        let (site, space): (String, String) = path_parameters(parts, app).await?;
        Ok(Self(SpaceKey { site: parse_id("sedeId", &site)?, space: parse_id("idSpazio", &space)? }))
    }
}

/// A board in the path: `/api/slots/{idSpazio}/{date}`. The call judges the date.
pub struct BoardPath {
    /// The space's id, without its site.
    pub space: SpaceId,
    /// The date as the path has it.
    pub date: String,
}

impl FromRequestParts<AppState> for BoardPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, ApiError> {
        let (space, date): (String, String) = path_parameters(parts, app).await?;
        Ok(Self { space: parse_id("idSpazio", &space)?, date })
    }
}

/// A user in the path: `/api/users/{id}`.
pub struct UserPath(pub UserId);

impl FromRequestParts<AppState> for UserPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, ApiError> {
        let id: String = path_parameters(parts, app).await?;
        UserId::new(&id).map(Self).ok_or_else(|| Refusal::because(Code::Malformed, "id: not a user id").into())
    }
}

async fn path_parameters<T>(parts: &mut Parts, app: &AppState) -> Result<T, ApiError>
where
    T: DeserializeOwned + Send,
{
    let path = <Path<T> as FromRequestParts<AppState>>::from_request_parts(parts, app).await;
    path.map(|Path(parameters)| parameters).map_err(|error| Refusal::because(Code::Malformed, error.body_text()).into())
}

/// An id in a path or a query; else `malformed` with the name of the parameter.
pub fn parse_id<T: std::str::FromStr>(name: &str, text: &str) -> Result<T, Refusal> {
    text.parse().map_err(|_| Refusal::because(Code::Malformed, format_args!("{name}: not an id")))
}

/// The query; else `malformed`.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<AppState> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, ApiError> {
        let query = axum::extract::Query::<T>::from_request_parts(parts, app).await;
        query.map(|query| Self(query.0)).map_err(|error| Refusal::because(Code::Malformed, error.body_text()).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &[u8]) -> HeaderMap {
        HeaderMap::from_iter([(name.parse().unwrap(), HeaderValue::from_bytes(value).unwrap())])
    }

    #[test]
    fn a_bearer_token_is_taken_whatever_the_case_of_its_scheme() {
        assert_eq!(bearer_token(&HeaderMap::new()), Ok(None));
        for good in ["Bearer x.y.z", "bearer x.y.z", "BEARER  x.y.z "] {
            assert_eq!(bearer_token(&headers("authorization", good.as_bytes())), Ok(Some("x.y.z")), "{good}");
        }
        for bad in ["", "Bearer", "Bearer ", "Basic eDp5", "x.y.z", "Bearer\tx"] {
            assert_eq!(bearer_token(&headers("authorization", bad.as_bytes())), Err(Code::Unauthorized), "{bad}");
        }
        assert_eq!(bearer_token(&headers("authorization", b"Bearer \xff")), Err(Code::Unauthorized));
    }

    // Attacks 4 and 7: requests that two readers would read differently.
    #[test]
    fn of_two_headers_none_is_taken() {
        let two = |name: &'static str, values: [&'static str; 2]| -> HeaderMap {
            let pairs = values.map(|value| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_static(value)));
            let mut headers = HeaderMap::new();
            pairs.into_iter().for_each(|(name, value)| {
                headers.append(name, value);
            });
            headers
        };
        for values in [["Bearer x.y.z", "Bearer a.b.c"], ["Bearer x.y.z", "Bearer x.y.z"], ["Bearer x.y.z", ""]] {
            assert_eq!(bearer_token(&two("authorization", values)), Err(Code::Unauthorized), "{values:?}");
        }
        for values in [["a", "b"], ["a", "a"], ["", "a"]] {
            let refusal = idempotency_key(&two("idempotency-key", values)).unwrap_err();
            assert!(refusal.detail.contains("Idempotency-Key: one"), "{values:?}: {}", refusal.detail);
        }
    }

    #[test]
    fn an_idempotency_key_is_visible_ascii() {
        let key = |value: &[u8]| idempotency_key(&headers("idempotency-key", value));
        assert_eq!(idempotency_key(&HeaderMap::new()), Ok(None));
        assert_eq!(key(b"a-1"), Ok(Some("a-1".into())));
        assert!(key(&[b'x'; 255]).is_ok());
        for bad in [&b""[..], b"a b", b"\xff", &[b'x'; 256]] {
            assert_eq!(key(bad).unwrap_err().code, Code::Malformed);
        }
    }

    #[test]
    fn a_slot_in_the_path_is_digits() {
        assert_eq!(slot_number("3").map(SlotNumber::get), Ok(3));
        assert!(slot_number("1000000000").is_ok(), "out of range, not malformed");
        for bad in ["", "0", "-1", "1.5", "03", "1e3", "x", " 1", "٣", "99999999999999999999"] {
            assert_eq!(slot_number(bad).unwrap_err().code, Code::Malformed, "{bad}");
        }
    }
}
