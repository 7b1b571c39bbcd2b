//! Reads what an Engine.IO request asks for once, so that the gate and the library never read it differently.
//!
//! The library finds `EIO`, `sid` and `transport` by their literal names, takes the first of each, and decodes nothing. A
//! request that a decoding reader would understand differently is refused. Refusals look like those of the stock server on
//! Node.js.

use axum::extract::Request;
use axum::http::header::{CONNECTION, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use axum::response::{IntoResponse, Response};
use hyper::upgrade::OnUpgrade;

/// The parameters that the library reads.
const PARAMETERS: [&str; 3] = ["EIO", "transport", "sid"];

/// The only version of the protocol that is served.
const PROTOCOL: &str = "4";

/// The only version of websockets (RFC 6455).
const WEBSOCKET_VERSION: HeaderValue = HeaderValue::from_static("13");

/// The length of a websocket's key: 16 bytes in base64, including two characters of padding.
const KEY_LENGTH: usize = 24;

/// The kinds of requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A new session that begins by polling.
    BeginPolling,
    /// A new session on a websocket.
    BeginWebsocket,
    /// Asks for a session's waiting packets.
    Poll {
        /// The session's id as the client knows it.
        sid: String,
    },
    /// Sends packets to a session.
    Post {
        /// The session's id as the client knows it.
        sid: String,
    },
    /// A polling session asks to continue over a websocket.
    Upgrade {
        /// The session's id as the client knows it.
        sid: String,
    },
}

/// Why a request is not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// `transport` is neither `polling` nor `websocket`.
    Transport,
    /// The session is not known.
    Session,
    /// A handshake is a GET.
    Method,
    /// The request contradicts itself, or two readers would read it differently.
    Request,
    /// `EIO` is not 4.
    Protocol,
    /// The websocket's version is not 13.
    WebsocketVersion,
}

impl IntoResponse for Unfit {
    fn into_response(self) -> Response {
        let (code, message) = match self {
            Unfit::Transport => (0, "Transport unknown"),
            Unfit::Session => (1, "Session ID unknown"),
            Unfit::Method => (2, "Bad handshake method"),
            Unfit::Request => (3, "Bad request"),
            Unfit::Protocol => (5, "Unsupported protocol version"),
            Unfit::WebsocketVersion => {
                let headers = [(SEC_WEBSOCKET_VERSION, WEBSOCKET_VERSION)];
                return (StatusCode::UPGRADE_REQUIRED, headers).into_response();
            }
        };
        let headers = [(header::CONTENT_TYPE, "application/json")];
        (StatusCode::BAD_REQUEST, headers, format!(r#"{{"code":{code},"message":"{message}"}}"#)).into_response()
    }
}

/// Reads a request's method, query and, for a websocket, its head.
pub(crate) fn read(request: &Request) -> Result<Asked, Unfit> {
    let [protocol, transport, sid] = parameters(request.uri().query().unwrap_or_default())?;
    let (method, sid) = (request.method(), sid.map(str::to_owned));
    let asked = match (transport, method, sid) {
        (Some("polling"), &Method::GET, None) => Asked::BeginPolling,
        (Some("websocket"), &Method::GET, None) => Asked::BeginWebsocket,
        (Some("polling" | "websocket"), _, None) => return Err(Unfit::Method),
        (Some("polling"), &Method::GET, Some(sid)) => Asked::Poll { sid },
        (Some("polling"), &Method::POST, Some(sid)) => Asked::Post { sid },
        (Some("websocket"), &Method::GET, Some(sid)) => Asked::Upgrade { sid },
        (Some("polling" | "websocket"), _, Some(_)) => return Err(Unfit::Request),
        _ => return Err(Unfit::Transport),
    };
    if protocol != Some(PROTOCOL) {
        return Err(Unfit::Protocol);
    }
    if matches!(asked, Asked::BeginWebsocket | Asked::Upgrade { .. }) {
        require_websocket(request)?;
    }
    Ok(asked)
}

/// The values of [`PARAMETERS`]. Each may come once, spelt without escapes.
fn parameters(query: &str) -> Result<[Option<&str>; PARAMETERS.len()], Unfit> {
    let mut values = [None; PARAMETERS.len()];
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let meant = form_urlencoded::parse(name.as_bytes()).next().map(|(name, _)| name);
        let Some(index) = PARAMETERS.iter().position(|known| Some(*known) == meant.as_deref()) else { continue };
        let is_plain = name == PARAMETERS[index] && !value.contains(['%', '+', '=']);
        if !is_plain || values[index].replace(value).is_some() {
            return Err(Unfit::Request);
        }
    }
    Ok(values)
}

/// Requires a head that asks for a websocket, on a connection that can become one.
fn require_websocket(request: &Request) -> Result<(), Unfit> {
    let headers = request.headers();
    let is_asked = request.version() == Version::HTTP_11
        && request.extensions().get::<OnUpgrade>().is_some()
        && lists(headers, &UPGRADE, "websocket")
        && lists(headers, &CONNECTION, "upgrade");
    if !is_asked {
        return Err(Unfit::Request);
    }
    if [SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION].iter().any(|name| headers.get_all(name).iter().count() > 1) {
        return Err(Unfit::Request);
    }
    if headers.get(SEC_WEBSOCKET_VERSION) != Some(&WEBSOCKET_VERSION) {
        return Err(Unfit::WebsocketVersion);
    }
    let is_key = headers.get(SEC_WEBSOCKET_KEY).is_some_and(|key| is_websocket_key(key.as_bytes()));
    let is_protocol = headers.get(SEC_WEBSOCKET_PROTOCOL).is_none() || subprotocol(headers).is_some();
    if is_key && is_protocol { Ok(()) } else { Err(Unfit::Request) }
}

/// Whether a header's comma separated list names something, in any case.
fn lists(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|listed| listed.trim().eq_ignore_ascii_case(wanted))
}

fn is_websocket_key(key: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    key.len() == KEY_LENGTH && key.ends_with(b"==") && key[..KEY_LENGTH - 2].iter().all(is_digit)
}

/// The first subprotocol that a websocket's client asks for. The stock server answers with that one, too. `None` if the
/// client asks for none, or if the name may not be sent.
pub(super) fn subprotocol(headers: &HeaderMap) -> Option<HeaderValue> {
    let first = headers.get(SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?.split(',').next()?.trim();
    let is_sign = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    let is_token = !first.is_empty() && first.as_bytes().iter().all(is_sign);
    HeaderValue::from_str(first).ok().filter(|_| is_token)
}

/// Whether a query can be read in one way only. For the fuzzers.
pub(crate) fn is_one_reading(query: &str) -> bool {
    let Ok(values) = parameters(query) else { return false };
    for (known, value) in PARAMETERS.iter().zip(values) {
        let mut decoded = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == known);
        let first = decoded.next().map(|(_, value)| value.into_owned());
        assert_eq!(first.as_deref(), value, "a decoding reader reads the same");
        assert!(decoded.next().is_none(), "{known} is named once");
    }
    true
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn asked(method: &str, query: &str) -> Result<Asked, Unfit> {
        let request = Request::builder().method(method).uri(format!("/socket.io/?{query}"));
        read(&request.body(Body::empty()).unwrap())
    }

    #[test]
    fn a_request_is_read_as_the_library_reads_it() {
        let sid = || "abc".to_owned();
        assert_eq!(asked("GET", "EIO=4&transport=polling"), Ok(Asked::BeginPolling));
        assert_eq!(asked("GET", "EIO=4&transport=polling&t=x%26sid=1"), Ok(Asked::BeginPolling));
        assert_eq!(asked("GET", "t=1&sid=abc&transport=polling&EIO=4"), Ok(Asked::Poll { sid: sid() }));
        assert_eq!(asked("POST", "EIO=4&transport=polling&sid=abc"), Ok(Asked::Post { sid: sid() }));
        assert_eq!(asked("POST", "EIO=4&transport=polling"), Err(Unfit::Method));
        assert_eq!(asked("GET", "EIO=3&transport=polling"), Err(Unfit::Protocol));
        assert_eq!(asked("GET", "transport=polling"), Err(Unfit::Protocol));
        assert_eq!(asked("GET", "EIO=4&transport=carrier"), Err(Unfit::Transport));
        assert_eq!(asked("GET", ""), Err(Unfit::Transport));
        assert_eq!(asked("PUT", "EIO=4&transport=polling&sid=abc"), Err(Unfit::Request));
        assert_eq!(asked("GET", "EIO=4&transport=websocket"), Err(Unfit::Request), "nothing asks for an upgrade");
    }

    // Attack 4.
    #[test]
    fn what_two_readers_would_read_differently_is_refused() {
        for query in [
            "EIO=4&transport=polling&s%69d=abc",
            "EIO=4&transport=polling&sid=abc&sid=def",
            "EIO=4&transport=polling&sid=abc&s%69d=abc",
            "EIO=4&transport=polling&sid=a%62c",
            "EIO=4&transport=polling&sid=a+b",
            "EIO=4&transport=polling&sid=abc=",
            "EIO=4&EIO=3&transport=polling",
            "EIO=4&transport=polling&transport=websocket",
            "EIO=4&transport=poll%69ng",
            "%45IO=4&transport=polling",
            "EIO=4&%74ransport=websocket&transport=polling",
        ] {
            assert_eq!(asked("GET", query), Err(Unfit::Request), "{query}");
            assert!(!is_one_reading(query), "{query}");
        }
        for query in
            ["EIO=4&transport=polling&sids=1&SID=2&xsid=3", "EIO=4&&transport=polling&", "EIO=4&transport=polling&t"]
        {
            assert_eq!(asked("GET", query), Ok(Asked::BeginPolling), "{query}");
            assert!(is_one_reading(query), "{query}");
        }
    }

    #[test]
    fn the_first_subprotocol_is_answered() {
        let first = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_str(value).unwrap());
            subprotocol(&headers).map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(first("v1.app").as_deref(), Some("v1.app"));
        assert_eq!(first("v2.app, v1.app").as_deref(), Some("v2.app"));
        for bad in ["", ", a", "a b", "a/b", "é"] {
            assert_eq!(first(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_websocket_key_is_sixteen_bytes() {
        assert!(is_websocket_key(b"dGhlIHNhbXBsZSBub25jZQ=="));
        for bad in ["", "x", "dGhlIHNhbXBsZSBub25jZQ=", "dGhlIHNhbXBsZSBub25jZQAA", "dGhlIHNhbXBsZSB!b25jZQ=="] {
            assert!(!is_websocket_key(bad.as_bytes()), "{bad}");
        }
    }
}
