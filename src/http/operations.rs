//! `/api/broadcast`, `/api/stats`, `/api/openapi.json`, and the probes.

use std::sync::LazyLock;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use serde::Serialize;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::answer::Success;
use super::error::{ApiError, ApiResult, ErrorBody};
use super::extract::{Caller, Json};
use super::schemas::{StaffBodyRefused, StaffRefused};
use crate::app::AppState;
use crate::calls;
use crate::calls::messages::{BroadcastAnswer, MessageRequest};
use crate::calls::stats::StatsAnswer;
use crate::domain::{Code, Refusal};
use crate::store::refuse::unavailable;
use crate::sweeper::{self, SweepReport};

/// How long one sweep may take. It must be answered before the call's time is up.
const SWEEP_TIME: Duration = Duration::from_secs(20);

/// The obstacle of a node that has not reached its store since it started.
const STORE_NEVER_REACHED: &str = "store_never_reached";

/// Send an event to every client on every node.
#[utoipa::path(
    post, path = "/api/broadcast", tag = "operations",
    request_body = MessageRequest,
    responses(
        (status = 200, body = Success<BroadcastAnswer>),
        (status = 422, body = ErrorBody, description = "`reserved_event`"),
        StaffRefused, StaffBodyRefused
    ),
    security(("bearer" = []))
)]
pub async fn broadcast(
    State(app): State<AppState>,
    Caller(caller): Caller,
    Json(request): Json<MessageRequest>,
) -> ApiResult<BroadcastAnswer> {
    Ok(Success::new(calls::messages::broadcast(&app, &caller, request).await?))
}

/// Free once what has ended: for a scheduler, where nodes free nothing by themselves.
///
/// After 20 s it answers what it did, and leaves the rest to the next sweep.
#[utoipa::path(
    post, path = "/api/sweep", tag = "operations",
    responses((status = 200, body = Success<SweepReport>), StaffRefused),
    security(("bearer" = []))
)]
pub async fn sweep(State(app): State<AppState>, Caller(caller): Caller) -> ApiResult<SweepReport> {
    calls::require_staff_everywhere(&caller)?;
    let deadline = Instant::now() + SWEEP_TIME;
    let report = sweeper::sweep_all(&app.store, Some(deadline)).await.map_err(|error| unavailable(&error))?;
    sweeper::timer::record(&app.metrics, report.freed, report.oldest_late_ms, "call");
    Ok(Success::new(report))
}

/// Who is connected, on the whole cluster.
#[utoipa::path(
    get, path = "/api/stats", tag = "operations",
    responses((status = 200, body = Success<StatsAnswer>), StaffRefused),
    security(("bearer" = []))
)]
pub async fn read_stats(State(app): State<AppState>, Caller(caller): Caller) -> ApiResult<StatsAnswer> {
    Ok(Success::new(calls::stats::read_stats(&app, &caller).await?))
}

/// This document.
#[utoipa::path(
    get, path = "/api/openapi.json", tag = "operations",
    responses((status = 200, description = "OpenAPI 3.1", body = Object, content_type = "application/json"))
)]
pub async fn read_openapi() -> impl IntoResponse {
    static DOCUMENT: LazyLock<String> = LazyLock::new(|| crate::domain::event::to_json(&super::openapi()));
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.as_str())
}

/// The health of a node.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProbeBody {
    /// `ok` or `unavailable`.
    #[schema(example = "ok")]
    status: &'static str,
    /// What stands in the way: `store_unreachable`, `store_never_reached`, `feed_behind`, `store_rights_missing`,
    /// `store_cannot_subscribe`, `store_refuses_writes`, `store_server_away`, `data_file_gone`, `keys_unavailable`, `draining`.
    obstacles: Vec<&'static str>,
    /// The reasons, in words for the operator, if there are any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<String>,
    /// What is less than it could be, of `/readyz` where there is any: `store_unfenced`, the store cannot tell when it
    /// has lost writes; `record_unreadable: ...`, a slot that is shown as blocked until staff sets it anew.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

/// Whether the node is alive: the store was reached once since its start.
#[utoipa::path(
    get, path = "/healthz", tag = "operations",
    responses((status = 200, body = ProbeBody), (status = 503, body = ProbeBody))
)]
pub async fn check_alive(State(app): State<AppState>) -> impl IntoResponse {
    probe(if app.health.is_alive() { Vec::new() } else { vec![STORE_NEVER_REACHED] }, Vec::new(), Vec::new())
}

/// Whether the node is ready to serve: the store can be reached now and does all that it must, the feed is in step, and
/// the node is not draining.
#[utoipa::path(
    get, path = "/readyz", tag = "operations",
    responses((status = 200, body = ProbeBody), (status = 503, body = ProbeBody))
)]
pub async fn check_ready(State(app): State<AppState>) -> impl IntoResponse {
    probe(app.obstacles(), app.reasons(), app.health.notes())
}

/// Answers for a node that waits for its store: it is not alive, and the caller may ask again.
pub fn starting_router() -> Router {
    let not_yet = async || probe(vec![STORE_NEVER_REACHED], Vec::new(), Vec::new());
    Router::new()
        .route("/healthz", get(not_yet))
        .route("/readyz", get(not_yet))
        .fallback(async || ApiError::from(Refusal::because(Code::Unavailable, "the store has not answered yet")))
}

fn probe(obstacles: Vec<&'static str>, reasons: Vec<String>, notes: Vec<String>) -> impl IntoResponse {
    let (code, status) =
        if obstacles.is_empty() { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, "unavailable") };
    (code, axum::Json(ProbeBody { status, obstacles, reasons, notes }))
}
