//! The layers around every call.

use std::time::Duration;

use axum::error_handling::HandleErrorLayer;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::{BoxError, Router};
use tower::ServiceBuilder;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};
use tower_http::set_header::SetResponseHeaderLayer;
use tracing::Instrument;

use super::body::drain_when_unread;
use super::error::{ApiError, answer_panic};
use crate::app::AppState;
use crate::clock;
use crate::config::Config;
use crate::domain::Code;
use crate::telemetry::metrics::InFlight;
use crate::telemetry::request::{self, REQUEST_ID, RequestName, current_id};

/// The most calls in flight. One more is refused at once.
pub(super) const MAX_IN_FLIGHT: usize = 2_048;

/// How long a call may take, including reading its body.
pub(super) const TIMEOUT: Duration = Duration::from_secs(30);

/// The most calls in flight on routes that may wait: as many as may wait, and the same number of others.
pub(super) const MAX_WAITING: usize = 2 * crate::journal::tails::MOST_WAITING;

/// How long a call on a route that may wait may take.
pub(super) const WAITING_TIMEOUT: Duration =
    crate::calls::journal::LONGEST_WAIT.saturating_add(Duration::from_secs(15));

/// Refuses, as `unavailable`, calls beyond `max_in_flight` at once and calls that take longer than `timeout`.
pub(super) fn limit_load<S>(routes: Router<S>, max_in_flight: usize, timeout: Duration) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    let limits = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(answer_overload))
        .load_shed()
        // One limit counts all routes. A layer's own limit would count each route by itself.
        .layer(GlobalConcurrencyLimitLayer::new(max_in_flight))
        .timeout(timeout);
    routes.layer(limits)
}

async fn answer_overload(reason: BoxError) -> ApiError {
    tracing::warn!(%reason, "a call was refused for load or time");
    Code::Unavailable.into()
}

/// Adds what every call gets: a request id, CORS, counting, an answer after a panic, and reading of unread bodies.
pub(super) fn surround(routes: Router<AppState>, app: &AppState) -> Router<AppState> {
    let no_store = SetResponseHeaderLayer::if_not_present(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let layers = ServiceBuilder::new()
        .layer(middleware::from_fn(name_request))
        .layer(cors_layer(&app.config))
        .layer(middleware::from_fn_with_state(app.clone(), observe))
        .layer(no_store)
        .layer(middleware::from_fn_with_state(app.clone(), close_when_draining))
        .layer(CatchPanicLayer::custom(answer_panic))
        .layer(middleware::map_request(drain_when_unread));
    routes.layer(layers)
}

/// CORS for `/api/` and `/socket.io/`: credentials, and exactly the configured origins.
pub fn cors_layer(config: &Config) -> CorsLayer {
    // With credentials browsers refuse the wildcard, and the layer panics on it.
    let origins = config.listen.cors_origins.iter().filter(|origin| *origin != "*");
    let origins = origins.filter_map(|origin| HeaderValue::from_str(origin).ok());
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_credentials(true)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE, HeaderName::from_static("idempotency-key")])
        .expose_headers([REQUEST_ID])
        .max_age(Duration::from_secs(3_600))
}

/// Serves a request under its id. The answer has the id, too.
async fn name_request(request: Request, next: Next) -> Response {
    let name = RequestName::of(request.headers());
    let mut response = request::serve(name.id.clone(), next.run(request)).await;
    name.write_to(response.headers_mut());
    response
}

/// Counts the call under its route, and puts its request id on every line that is logged during the call.
async fn observe(State(app): State<AppState>, request: Request, next: Next) -> Response {
    let started = clock::instant();
    let _in_flight = InFlight::enter(&app.metrics.http_in_flight);
    let method = method_name(request.method());
    let route = request.extensions().get::<MatchedPath>().map_or("unknown", MatchedPath::as_str).to_owned();
    let span =
        tracing::info_span!("http", http.method = method, http.route = route, request.id = current_id().as_deref());
    let response = next.run(request).instrument(span.clone()).await;
    let took = clock::instant().saturating_duration_since(started);
    let status = response.status();
    if status.is_client_error() || status.is_server_error() {
        span.in_scope(|| tracing::debug!(http.status = status.as_u16(), "a call was refused"));
    }
    let labels = [method, &route, status.as_str()];
    app.metrics.http_seconds.with_label_values(&labels).observe(took.as_secs_f64());
    response
}

/// While the node is going away, closes each connection with its next answer. The caller's next call then goes to another
/// node, and no call is on its way when the connection closes.
async fn close_when_draining(State(app): State<AppState>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if app.health.is_draining() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The method's name for metrics. Invented methods share one name, so callers cannot add any.
fn method_name(method: &Method) -> &'static str {
    const NAMES: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"];
    NAMES.into_iter().find(|name| *name == method.as_str()).unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::body::Body;
    use axum::http::StatusCode;
    use axum::routing::get;
    use tokio::sync::Semaphore;
    use tower::ServiceExt;

    use super::*;

    fn request(path: &str) -> Request {
        Request::get(path).body(Body::empty()).unwrap()
    }

    #[tokio::test]
    async fn one_call_more_than_the_limit_is_refused_at_once_on_any_route() {
        let (gate, entered) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let slow = {
            let (gate, entered) = (gate.clone(), entered.clone());
            move || async move {
                entered.add_permits(1);
                let _ = gate.acquire().await;
                "done"
            }
        };
        let routes: Router = Router::new().route("/slow", get(slow)).route("/fast", get(async || "done"));
        let routes = limit_load(routes, 2, Duration::from_secs(60));
        let first = tokio::spawn(routes.clone().oneshot(request("/slow")));
        let second = tokio::spawn(routes.clone().oneshot(request("/slow")));
        let _ = entered.acquire_many(2).await.unwrap();
        let third = routes.clone().oneshot(request("/fast")).await.unwrap();
        assert_eq!(third.status(), StatusCode::SERVICE_UNAVAILABLE);
        gate.add_permits(2);
        for call in [first, second] {
            assert_eq!(call.await.unwrap().unwrap().status(), StatusCode::OK);
        }
        assert_eq!(routes.oneshot(request("/fast")).await.unwrap().status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn a_call_that_takes_too_long_is_unavailable() {
        let routes: Router = Router::new().route("/", get(std::future::pending::<&'static str>));
        let answer = limit_load(routes, 1, Duration::from_millis(10)).oneshot(request("/")).await.unwrap();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}
