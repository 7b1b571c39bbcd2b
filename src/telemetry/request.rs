//! The id of the request or socket event that is being served. Its log lines, its answer and its entries in the store have
//! this id.
//!
//! A caller names its request by `x-request-id`, or by the trace of a W3C `traceparent`. Otherwise an id is made here. The
//! id belongs to the task that serves the request: [`serve`] sets it, [`current_id`] reads it.

use std::future::Future;
use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName, HeaderValue};

/// The header with a request's id, in both directions.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The header of W3C Trace Context, in both directions.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The longest `x-request-id` that is accepted.
const LONGEST_ID: usize = 64;

/// The length of a `traceparent` of version 00: two digits of the version, 32 of the trace, 16 of its parent, and two
/// of flags.
const TRACEPARENT_LENGTH: usize = 55;

tokio::task_local! {
    static CURRENT: Arc<str>;
}

/// The name of a request, given by its caller or made here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestName {
    /// 1 to 64 letters, digits, `.`, `_` or `-`.
    pub id: Arc<str>,
    /// The trace that the caller named: 32 hexadecimal digits, and the flags.
    trace: Option<(String, String)>,
}

impl RequestName {
    /// The name in a request's headers, or a new one. A header with an invalid id counts as missing.
    pub fn of(headers: &HeaderMap) -> Self {
        let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let trace = text(&TRACEPARENT).and_then(parse_traceparent);
        let named = text(&REQUEST_ID).filter(|id| is_id(id)).map(Arc::from);
        let id = named.or_else(|| trace.as_ref().map(|(trace, _)| trace.as_str().into())).unwrap_or_else(new_id);
        Self { id, trace }
    }

    /// Writes the name into the headers of an answer, or of a request that is sent on to another node. The trace continues
    /// with a span of this node.
    pub fn write_to(&self, headers: &mut HeaderMap) {
        if let Ok(id) = HeaderValue::from_str(&self.id) {
            headers.insert(REQUEST_ID, id);
        }
        if let Some((trace, flags)) = &self.trace {
            let span = fastrand::u64(1..);
            if let Ok(value) = HeaderValue::from_str(&format!("00-{trace}-{span:016x}-{flags}")) {
                headers.insert(TRACEPARENT, value);
            }
        }
    }
}

/// Serves a request under its id.
pub async fn serve<T>(id: Arc<str>, request: impl Future<Output = T>) -> T {
    CURRENT.scope(id, request).await
}

/// The id of the request that this task serves; `None` if it serves none.
pub fn current_id() -> Option<Arc<str>> {
    CURRENT.try_with(Arc::clone).ok()
}

/// A new id: 32 hexadecimal digits.
pub fn new_id() -> Arc<str> {
    format!("{:032x}", fastrand::u128(..)).into()
}

fn is_id(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=LONGEST_ID).contains(&text.len()) && text.bytes().all(is_plain)
}

/// The trace and the flags of a `traceparent` (W3C Trace Context, 3.2). A later version may have more after the flags.
fn parse_traceparent(text: &str) -> Option<(String, String)> {
    let (head, more) = text.split_at_checked(TRACEPARENT_LENGTH)?;
    let parts: Vec<&str> = head.split('-').collect();
    let [version, trace, parent, flags] = parts.as_slice() else { return None };
    let is_hexadecimal = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_zero = |text: &str| text.bytes().all(|byte| byte == b'0');
    let has_form = is_hexadecimal(version, 2)
        && is_hexadecimal(trace, 32)
        && is_hexadecimal(parent, 16)
        && is_hexadecimal(flags, 2);
    let ends_well = if *version == "00" { more.is_empty() } else { more.is_empty() || more.starts_with('-') };
    let is_good = has_form && ends_well && *version != "ff" && !is_zero(trace) && !is_zero(parent);
    is_good.then(|| ((*trace).to_owned(), (*flags).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    fn named(pairs: &[(HeaderName, &str)]) -> RequestName {
        let pairs =
            pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_bytes(value.as_bytes()).unwrap()));
        RequestName::of(&pairs.collect())
    }

    #[test]
    fn an_id_is_taken_when_it_is_plain_and_short() {
        let longest = "x".repeat(LONGEST_ID);
        for good in ["abc-1", "A.b_c-9", "7", &longest] {
            assert_eq!(&*named(&[(REQUEST_ID, good)]).id, good);
        }
        for bad in ["", "a b", "é", "a/b", "a\"b", "a\tb", "{x}", &"x".repeat(LONGEST_ID + 1)] {
            let made = named(&[(REQUEST_ID, bad)]).id;
            assert!(made.len() == 32 && is_id(&made) && &*made != bad, "{bad}");
        }
        assert_ne!(named(&[]).id, named(&[]).id);
    }

    #[test]
    fn a_trace_gives_the_id_where_there_is_none_and_goes_on() {
        let parent = format!("00-{TRACE}-b7ad6b7169203331-01");
        assert_eq!(&*named(&[(TRACEPARENT, &parent)]).id, TRACE);
        let both = named(&[(TRACEPARENT, &parent), (REQUEST_ID, "mine")]);
        assert_eq!(&*both.id, "mine");
        let mut headers = HeaderMap::new();
        both.write_to(&mut headers);
        assert_eq!(headers[REQUEST_ID], "mine");
        let answered = headers[TRACEPARENT].to_str().unwrap();
        assert!(answered.starts_with(&format!("00-{TRACE}-")) && answered.ends_with("-01"), "{answered}");
        assert_ne!(answered, parent, "the span is another one");
        assert!(parse_traceparent(answered).is_some());
        let mut headers = HeaderMap::new();
        named(&[]).write_to(&mut headers);
        assert!(!headers.contains_key(TRACEPARENT));
    }

    #[test]
    fn what_is_no_trace_counts_as_none() {
        let parent = "b7ad6b7169203331";
        assert!(parse_traceparent(&format!("cc-{TRACE}-{parent}-01-what.comes")).is_some(), "a later version");
        for bad in [
            String::new(),
            format!("00-{TRACE}-{parent}"),
            format!("00-{TRACE}-{parent}-01-x"),
            format!("ff-{TRACE}-{parent}-01"),
            format!("cc-{TRACE}-{parent}-01x"),
            format!("00-{}-{parent}-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00-{}-{parent}-01", TRACE.to_uppercase()),
            format!("00-{TRACE}-{parent}-0\u{e9}"),
            "é".repeat(40),
            "-".repeat(55),
        ] {
            assert_eq!(parse_traceparent(&bad), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn an_id_goes_with_its_task() {
        assert_eq!(current_id(), None);
        let (one, other) = tokio::join!(
            serve("one".into(), async {
                tokio::task::yield_now().await;
                current_id()
            }),
            serve("other".into(), async { current_id() })
        );
        assert_eq!((one.as_deref(), other.as_deref()), (Some("one"), Some("other")));
    }
}
