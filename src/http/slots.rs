//! `/api/slots`: boards, and acts on slots.

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use utoipa::IntoParams;

use super::answer::Success;
use super::error::{ApiError, ApiResult};
use super::extract::{BoardPath, Caller, IdempotencyKey, Json, Query, SlotPath, parse_id};
use super::outgoing::long_answer;
use super::schemas::{self, ActRefused, IdempotencyHeader, ReadRefused};
use crate::app::AppState;
use crate::calls;
use crate::calls::slots::{SlotRequest, SlotsAnswer, SlotsRequest};
use crate::calls::update::{UpdateRequest, UpdatesRequest};

/// Which site's board.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub struct BoardQuery {
    /// May be left out if exactly one registered space has this id.
    #[param(value_type = Option<u64>, minimum = 1)]
    sede_id: Option<String>,
}

/// The board of a day.
#[utoipa::path(
    get, path = "/api/slots/{idSpazio}/{date}", tag = "slots",
    params(
        ("idSpazio" = u64, Path, description = "The space"),
        ("date" = String, Path, description = "The local day, `YYYY-MM-DD`"),
        BoardQuery
    ),
    responses((status = 200, body = Success<schemas::Board>), ReadRefused),
    security((), ("bearer" = []))
)]
pub async fn read_board(
    State(app): State<AppState>,
    caller: Option<Caller>,
    path: BoardPath,
    Query(query): Query<BoardQuery>,
) -> Result<Response, ApiError> {
    let site = query.sede_id.map(|site| parse_id("sedeId", &site)).transpose()?;
    let caller = caller.as_ref().map(|Caller(claims)| claims);
    long_answer(calls::board::read_board(&app, caller, path.space, site, &path.date).await?)
}

/// Hold one slot.
#[utoipa::path(
    post, path = "/api/slots/{id}/hold", tag = "slots",
    params(("id" = u16, Path, description = "The slot's number"), IdempotencyHeader),
    request_body = SlotRequest,
    responses((status = 200, body = Success<SlotsAnswer>), ActRefused),
    security(("bearer" = []))
)]
pub async fn hold_slot(
    State(app): State<AppState>,
    Caller(caller): Caller,
    SlotPath(number): SlotPath,
    IdempotencyKey(key): IdempotencyKey,
    Json(request): Json<SlotRequest>,
) -> ApiResult<SlotsAnswer> {
    let answer = calls::hold::hold(&app, &caller, request.of_slot(number), key).await?;
    Ok(Success::new(answer.of_one_slot()))
}

/// Book one slot that the caller holds.
#[utoipa::path(
    post, path = "/api/slots/{id}/book", tag = "slots",
    params(("id" = u16, Path, description = "The slot's number"), IdempotencyHeader),
    request_body = SlotRequest,
    responses((status = 200, body = Success<SlotsAnswer>), ActRefused),
    security(("bearer" = []))
)]
pub async fn book_slot(
    State(app): State<AppState>,
    Caller(caller): Caller,
    SlotPath(number): SlotPath,
    IdempotencyKey(key): IdempotencyKey,
    Json(request): Json<SlotRequest>,
) -> ApiResult<SlotsAnswer> {
    let answer = calls::book::book(&app, &caller, request.of_slot(number), key).await?;
    Ok(Success::new(answer.of_one_slot()))
}

/// Release one slot that the caller holds, or as staff a booked one.
#[utoipa::path(
    post, path = "/api/slots/{id}/release", tag = "slots",
    params(("id" = u16, Path, description = "The slot's number"), IdempotencyHeader),
    request_body = SlotRequest,
    responses((status = 200, body = Success<SlotsAnswer>), ActRefused),
    security(("bearer" = []))
)]
pub async fn release_slot(
    State(app): State<AppState>,
    Caller(caller): Caller,
    SlotPath(number): SlotPath,
    IdempotencyKey(key): IdempotencyKey,
    Json(request): Json<SlotRequest>,
) -> ApiResult<SlotsAnswer> {
    let answer = calls::release::release(&app, &caller, request.of_slot(number), key).await?;
    Ok(Success::new(answer.of_one_slot()))
}

/// Extend the hold of one slot.
#[utoipa::path(
    post, path = "/api/slots/{id}/extend", tag = "slots",
    params(("id" = u16, Path, description = "The slot's number"), IdempotencyHeader),
    request_body = SlotRequest,
    responses((status = 200, body = Success<SlotsAnswer>), ActRefused),
    security(("bearer" = []))
)]
pub async fn extend_slot(
    State(app): State<AppState>,
    Caller(caller): Caller,
    SlotPath(number): SlotPath,
    IdempotencyKey(key): IdempotencyKey,
    Json(request): Json<SlotRequest>,
) -> ApiResult<SlotsAnswer> {
    let answer = calls::extend::extend(&app, &caller, request.of_slot(number), key).await?;
    Ok(Success::new(answer.of_one_slot()))
}

/// Hold several slots of one day, all or none.
#[utoipa::path(
    post, path = "/api/slots/hold", tag = "slots",
    params(IdempotencyHeader),
    request_body = SlotsRequest,
    responses((status = 200, body = Success<SlotsAnswer>), ActRefused),
    security(("bearer" = []))
)]
pub async fn hold_slots(
    State(app): State<AppState>,
    Caller(caller): Caller,
    IdempotencyKey(key): IdempotencyKey,
    Json(request): Json<SlotsRequest>,
) -> ApiResult<SlotsAnswer> {
    Ok(Success::new(calls::hold::hold(&app, &caller, request, key).await?))
}

/// Book several slots that the caller holds, all or none.
#[utoipa::path(
    post, path = "/api/slots/book", tag = "slots",
    params(IdempotencyHeader),
    request_body = SlotsRequest,
    responses((status = 200, body = Success<SlotsAnswer>), ActRefused),
    security(("bearer" = []))
)]
pub async fn book_slots(
    State(app): State<AppState>,
    Caller(caller): Caller,
    IdempotencyKey(key): IdempotencyKey,
    Json(request): Json<SlotsRequest>,
) -> ApiResult<SlotsAnswer> {
    Ok(Success::new(calls::book::book(&app, &caller, request, key).await?))
}

/// Release several slots that the caller holds, or as staff booked ones, all or none.
#[utoipa::path(
    post, path = "/api/slots/release", tag = "slots",
    params(IdempotencyHeader),
    request_body = SlotsRequest,
    responses((status = 200, body = Success<SlotsAnswer>), ActRefused),
    security(("bearer" = []))
)]
pub async fn release_slots(
    State(app): State<AppState>,
    Caller(caller): Caller,
    IdempotencyKey(key): IdempotencyKey,
    Json(request): Json<SlotsRequest>,
) -> ApiResult<SlotsAnswer> {
    Ok(Success::new(calls::release::release(&app, &caller, request, key).await?))
}

/// Extend the holds of several slots, all or none.
#[utoipa::path(
    post, path = "/api/slots/extend", tag = "slots",
    params(IdempotencyHeader),
    request_body = SlotsRequest,
    responses((status = 200, body = Success<SlotsAnswer>), ActRefused),
    security(("bearer" = []))
)]
pub async fn extend_slots(
    State(app): State<AppState>,
    Caller(caller): Caller,
    IdempotencyKey(key): IdempotencyKey,
    Json(request): Json<SlotsRequest>,
) -> ApiResult<SlotsAnswer> {
    Ok(Success::new(calls::extend::extend(&app, &caller, request, key).await?))
}

/// Set a slot as staff.
#[utoipa::path(
    put, path = "/api/slots/{id}", tag = "slots",
    params(("id" = u16, Path, description = "The slot's number"), IdempotencyHeader),
    request_body = UpdateRequest,
    responses((status = 200, body = Success<SlotsAnswer>), ActRefused),
    security(("bearer" = []))
)]
pub async fn update_slot(
    State(app): State<AppState>,
    Caller(caller): Caller,
    SlotPath(number): SlotPath,
    IdempotencyKey(key): IdempotencyKey,
    Json(request): Json<UpdateRequest>,
) -> ApiResult<SlotsAnswer> {
    let answer = calls::update::update(&app, &caller, &[number], request, key).await?;
    Ok(Success::new(answer.of_one_slot()))
}

/// Set several slots of one day as staff, all or none.
#[utoipa::path(
    put, path = "/api/slots", tag = "slots",
    params(IdempotencyHeader),
    request_body = UpdatesRequest,
    responses((status = 200, body = Success<SlotsAnswer>), ActRefused),
    security(("bearer" = []))
)]
pub async fn update_slots(
    State(app): State<AppState>,
    Caller(caller): Caller,
    IdempotencyKey(key): IdempotencyKey,
    Json(request): Json<UpdatesRequest>,
) -> ApiResult<SlotsAnswer> {
    let (slots, update) = request.into_parts();
    Ok(Success::new(calls::update::update(&app, &caller, &slots, update, key).await?))
}
