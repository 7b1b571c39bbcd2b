//! Serves the live board from memory: a page for people, and the element of that page for the pages of others.
//!
//! `build.rs` packs what `npm run build` in `web/` has made, or a notice if nothing was built:
//!
//! - `/`: a shell around the element. It is a client like any other, and asks the same calls.
//! - `/page.json`: what the page is told of its node (`page_facts`).
//! - `/slotcast.js`: the element with its client, for pages of any origin.
//! - `/socket.io/socket.io.js`, `.min.js`, `.esm.min.js`: the stock client, as Socket.IO's own servers give it.
//!
//! Each file except the page itself is also served under a name with its hash, where it never changes. All files answer
//! `304 Not Modified` to their `ETag`, and are compressed for clients that accept that.

use axum::Router;
use axum::extract::Request;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use memory_serve::{CacheControl, MemoryServe};
use tracing::subscriber::NoSubscriber;

use super::page_facts;
use crate::config::Config;

/// What the page may do, apart from who may frame it. It may load this node's files and connect to this node. It may
/// run no inline script or style, and only lit's templates may turn text into markup. `'self'` includes the websocket
/// in all browsers except Safari 15 and older, which poll.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types lit-html";

/// Lets pages of other origins load a script.
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// The page and its files.
pub fn routes<S: Clone + Send + Sync + 'static>(config: &Config) -> Router<S> {
    let policy = policy_for(&config.listen.frame_ancestors);
    let headers = middleware::from_fn(move |request: Request, next: Next| {
        let policy = policy.clone();
        async move {
            let is_for_all = is_for_all(request.uri().path());
            let mut response: Response = next.run(request).await;
            add_headers(response.headers_mut(), is_for_all, &policy);
            response
        }
    });
    let facts = config.clone();
    let tell = get(async move |request: HeaderMap| page_facts::answer(&facts, &request));
    packed_files().route("/page.json", tell).layer(headers)
}

/// The files that `build.rs` packed. Browsers ask for a name without a hash each time, because it changes with the node.
fn packed_files<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let files: MemoryServe = memory_serve::load!();
    let files = files
        .html_cache_control(CacheControl::NoCache)
        .cache_control(CacheControl::NoCache)
        .enable_hashed_routes(true)
        .enable_gzip(true)
        // Brotli takes long, so a development build does not use it.
        .enable_brotli(!cfg!(debug_assertions));
    // The library would log each file.
    tracing::subscriber::with_default(NoSubscriber::default(), || files.into_router())
}

/// The whole policy, with the pages that may frame this one.
fn policy_for(frame_ancestors: &[String]) -> HeaderValue {
    let sources = frame_ancestors.iter().map(|one| if one == "self" { "'self'" } else { one });
    let sources = sources.collect::<Vec<_>>().join(" ");
    let allowed = if sources.is_empty() { "'none'" } else { &sources };
    HeaderValue::from_str(&format!("{POLICY}; frame-ancestors {allowed}"))
        .unwrap_or_else(|_| HeaderValue::from_static("frame-ancestors 'none'"))
}

/// Whether pages of any origin may load the file: the element and the stock client.
fn is_for_all(path: &str) -> bool {
    path.starts_with("/socket.io/") || path.starts_with("/slotcast.")
}

fn add_headers(headers: &mut HeaderMap, is_for_all: bool, policy: &HeaderValue) {
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CONTENT_SECURITY_POLICY, policy.clone());
    if is_for_all {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        headers.insert(RESOURCE_POLICY, HeaderValue::from_static("cross-origin"));
    }
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if let Some(text) = content_type.filter(|value| value.starts_with("text/") && !value.contains("charset"))
        && let Ok(with_charset) = HeaderValue::from_str(&format!("{text}; charset=utf-8"))
    {
        headers.insert(CONTENT_TYPE, with_charset);
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::StatusCode;
    use axum::http::header::{ACCEPT_ENCODING, CACHE_CONTROL, ETAG, IF_NONE_MATCH};
    use tower::ServiceExt;

    use super::*;
    use crate::config::Needs;

    fn config(frame_ancestors: &str) -> Config {
        let env = [("SLOTCAST_FRAME_ANCESTORS".to_owned(), frame_ancestors.to_owned())];
        Config::load(&std::collections::BTreeMap::from(env), Needs::SERVE).unwrap().config
    }

    async fn fetch(path: &str, header: Option<(HeaderName, &str)>, frame_ancestors: &str) -> Response {
        let mut request = Request::get(path);
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        let request = request.body(Body::empty()).unwrap();
        routes::<()>(&config(frame_ancestors)).oneshot(request).await.unwrap()
    }

    #[tokio::test]
    async fn the_page_allows_nothing_but_this_node() {
        let response = fetch("/", None, "").await;
        assert_eq!(response.status(), StatusCode::OK);
        let headers = response.headers();
        assert_eq!(headers[CONTENT_TYPE], "text/html; charset=utf-8");
        assert_eq!(headers[X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(headers[CACHE_CONTROL], "no-cache");
        let policy = headers[CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert_eq!(policy, format!("{POLICY}; frame-ancestors 'none'"));
        assert!(!policy.contains("ws:") && !policy.contains("unsafe"), "{policy}");
        assert!(!headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
    }

    #[tokio::test]
    async fn the_setting_names_who_may_frame_the_page() {
        let response = fetch("/", None, "self, https://www.example.org").await;
        let policy = response.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.ends_with("; frame-ancestors 'self' https://www.example.org"), "{policy}");
    }

    #[tokio::test]
    async fn a_file_that_the_browser_has_is_not_sent_again() {
        let first = fetch("/", None, "").await;
        let tag = first.headers()[ETAG].to_str().unwrap();
        for known in [tag.to_owned(), format!("W/{tag}"), format!("\"other\", {tag}")] {
            assert_eq!(
                fetch("/", Some((IF_NONE_MATCH, &known)), "").await.status(),
                StatusCode::NOT_MODIFIED,
                "{known}"
            );
        }
        assert_eq!(fetch("/", Some((IF_NONE_MATCH, "\"other\"")), "").await.status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn what_is_long_is_compressed_for_who_takes_it() {
        let response = fetch("/", Some((ACCEPT_ENCODING, "gzip")), "").await;
        assert_eq!(response.headers()["content-encoding"], "gzip");
        assert_eq!(response.headers()["vary"], "accept-encoding");
        let plain = fetch("/", None, "").await;
        assert!(!plain.headers().contains_key("content-encoding"));
    }

    #[test]
    fn pages_of_any_origin_load_the_element_and_the_stock_client_alone() {
        for (path, expected) in [
            ("/slotcast.js", true),
            ("/slotcast.0123456789abcdef.js", true),
            ("/socket.io/socket.io.min.js", true),
            ("/", false),
            ("/page.js", false),
        ] {
            assert_eq!(is_for_all(path), expected, "{path}");
        }
    }

    #[test]
    fn the_page_and_the_notice_have_no_inline_script_or_style() {
        for html in [include_str!("../../web/absent/index.html"), include_str!("../../web/page/index.html")] {
            assert!(!html.contains("style="), "the policy forbids style attributes");
            assert!(!html.contains("<style"), "the policy forbids style elements");
            assert_eq!(html.matches("<script").count(), html.matches("<script type=\"module\" src=").count());
        }
    }
}
