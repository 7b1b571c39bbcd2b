//! The live board: one page for people, served from memory. It is a client like any other, and asks the same calls.
//!
//! `/` · `/board.css` · `/board.js` · `/slotcast-client.js` · `/vendor/socket.io.esm.min.js`

use axum::Router;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// Nothing but this node's own files and connections: no inline script, no frame, no other origin. Browsers that do
/// not count `ws:` as `'self'` need it named.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// The page's files. Each answers `304 Not Modified` to the `ETag` that it gave, and is asked again each time.
pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .merge(file("/", HTML, include_str!("../../web/index.html")))
        .merge(file("/board.css", CSS, include_str!("../../web/board.css")))
        .merge(file("/board.js", JAVASCRIPT, include_str!("../../web/board.js")))
        .merge(file("/slotcast-client.js", JAVASCRIPT, include_str!("../../web/slotcast-client.js")))
        .merge(file("/vendor/socket.io.esm.min.js", JAVASCRIPT, include_str!("../../web/vendor/socket.io.esm.min.js")))
}

fn file<S: Clone + Send + Sync + 'static>(path: &str, content_type: &'static str, text: &'static str) -> Router<S> {
    let tag = entity_tag(text);
    Router::new().route(path, get(move |request: HeaderMap| async move { answer(&request, &tag, content_type, text) }))
}

fn answer(request: &HeaderMap, tag: &str, content_type: &'static str, text: &'static str) -> Response {
    let headers: [(HeaderName, &str); 6] = [
        (CONTENT_TYPE, content_type),
        (ETAG, tag),
        // The files change together with the node, and refer to each other.
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
    ];
    if has_tag(request, tag) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, text).into_response()
}

/// Whether one of the tags of `If-None-Match` is `tag`, weak or not: a proxy that compresses weakens it.
fn has_tag(request: &HeaderMap, tag: &str) -> bool {
    request
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|candidate| candidate.trim().trim_start_matches("W/"))
        .any(|candidate| candidate == tag || candidate == "*")
}

/// FNV-1a of the content: the same in every build of the same files, so that all nodes agree.
fn entity_tag(text: &str) -> String {
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("\"{hash:016x}\"")
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use tower::ServiceExt;

    use super::*;

    async fn get_path(path: &str, if_none_match: Option<&str>) -> Response {
        let mut request = Request::get(path);
        if let Some(tag) = if_none_match {
            request = request.header(IF_NONE_MATCH, tag);
        }
        let request = request.body(Body::empty()).unwrap();
        routes::<()>().oneshot(request).await.unwrap()
    }

    #[tokio::test]
    async fn every_file_that_the_page_names_is_served_as_what_it_is() {
        for (path, content_type) in [
            ("/", HTML),
            ("/board.css", CSS),
            ("/board.js", JAVASCRIPT),
            ("/slotcast-client.js", JAVASCRIPT),
            ("/vendor/socket.io.esm.min.js", JAVASCRIPT),
        ] {
            let response = get_path(path, None).await;
            assert_eq!(response.status(), StatusCode::OK, "{path}");
            assert_eq!(response.headers()[CONTENT_TYPE], content_type, "{path}");
            assert_eq!(response.headers()[X_CONTENT_TYPE_OPTIONS], "nosniff", "{path}");
            assert_eq!(response.headers()[CONTENT_SECURITY_POLICY], POLICY, "{path}");
        }
    }

    #[tokio::test]
    async fn a_file_that_the_browser_has_is_not_sent_again() {
        let first = get_path("/board.js", None).await;
        let tag = first.headers()[ETAG].to_str().unwrap();
        for known in [tag.to_owned(), format!("W/{tag}"), format!("\"other\", {tag}")] {
            assert_eq!(get_path("/board.js", Some(&known)).await.status(), StatusCode::NOT_MODIFIED, "{known}");
        }
        assert_eq!(get_path("/board.js", Some("\"other\"")).await.status(), StatusCode::OK);
    }

    #[test]
    fn the_page_has_no_inline_script_or_style() {
        let html = include_str!("../../web/index.html");
        assert!(!html.contains("style="), "the policy forbids style attributes");
        assert!(!html.contains("<style"), "the policy forbids style elements");
        assert_eq!(html.matches("<script").count(), html.matches("<script type=\"module\" src=").count());
    }
}
