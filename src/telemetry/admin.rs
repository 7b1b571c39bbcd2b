//! The admin listener (`SLOTCAST_ADMIN_ADDR`), which asks for no token and belongs inside the operator's network.
//!
//! | route | answer |
//! |---|---|
//! | `GET /metrics` | every metric of [`Metrics`] as Prometheus text |

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;

use super::metrics::Metrics;
use crate::net::connection::Connections;

/// Prometheus text, version 0.0.4.
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The routes of the admin listener. `connections` are the connections of clients.
pub fn router(metrics: Metrics, connections: Connections) -> Router {
    Router::new().route("/metrics", get(show_metrics)).with_state((metrics, connections))
}

async fn show_metrics(State((metrics, connections)): State<(Metrics, Connections)>) -> impl IntoResponse {
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    metrics.tasks.set(i64::try_from(tasks).unwrap_or(i64::MAX));
    metrics.tcp_connections.set(i64::try_from(connections.count()).unwrap_or(i64::MAX));
    ([(CONTENT_TYPE, PROMETHEUS_TEXT)], metrics.encode())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::{Request, StatusCode};
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn metrics_are_prometheus_text() {
        let (metrics, connections) = (Metrics::new(), Connections::default());
        metrics.connections.set(3);
        let _open = connections.guard(tokio::io::empty());
        let _task = tokio::spawn(std::future::pending::<()>());
        let request = Request::get("/metrics").body(Body::empty()).unwrap();
        let response = router(metrics, connections).oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[CONTENT_TYPE], PROMETHEUS_TEXT);
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body = String::from_utf8_lossy(&body);
        for line in ["slotcast_connections 3", "slotcast_tcp_connections 1", "slotcast_tasks 1"] {
            assert!(body.lines().any(|one| one == line), "{line}: {body}");
        }
    }
}
