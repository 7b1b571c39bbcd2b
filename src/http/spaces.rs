//! `/api/spaces`: spaces, their schedules, their changes and their rooms.

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use utoipa::IntoParams;

use super::answer::Success;
use super::error::{ApiError, ApiResult, ErrorBody};
use super::extract::{Caller, Json, Query, SpacePath, parse_id};
use super::outgoing::long_answer;
use super::schemas::{self, ReadRefused, StaffBodyRefused, StaffRefused};
use crate::app::AppState;
use crate::calls;
use crate::calls::changes::ChangesAnswer;
use crate::calls::messages::{BoardShownAnswer, ShowBoardRequest};
use crate::calls::spaces::{SpaceAnswer, SpacesAnswer};
use crate::calls::trial::SpaceOrTrial;
use crate::domain::Position;
use crate::domain::schedule::ScheduleSpec;

/// Which spaces.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub struct SpacesQuery {
    /// Only those of this site.
    #[param(value_type = Option<u64>, minimum = 1)]
    sede_id: Option<String>,
    /// `next` of the page before.
    after: Option<String>,
}

/// The registered spaces, 500 a page.
#[utoipa::path(
    get, path = "/api/spaces", tag = "spaces",
    params(SpacesQuery),
    responses((status = 200, body = Success<SpacesAnswer>), ReadRefused),
    security((), ("bearer" = []))
)]
pub async fn list_spaces(
    State(app): State<AppState>,
    caller: Option<Caller>,
    Query(query): Query<SpacesQuery>,
) -> Result<Response, ApiError> {
    let site = query.sede_id.map(|site| parse_id("sedeId", &site)).transpose()?;
    let caller = caller.as_ref().map(|Caller(claims)| claims);
    long_answer(calls::spaces::list_spaces(&app, caller, site, query.after.as_deref()).await?)
}

/// Whether a change is made.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub struct ChangeQuery {
    /// `true`: changes nothing, and answers what the change would move or remove.
    #[serde(default)]
    #[param(required = false)]
    dry_run: bool,
}

/// Register a space, or change its schedule.
#[utoipa::path(
    put, path = "/api/spaces/{sedeId}/{idSpazio}", tag = "spaces",
    params(
        ("sedeId" = u64, Path, description = "The site"), ("idSpazio" = u64, Path, description = "The space"),
        ChangeQuery
    ),
    request_body = schemas::SpaceRequest,
    responses(
        (status = 200, body = Success<SpaceOrTrial>),
        (status = 409, body = ErrorBody, description = "`space_in_use`: a slot that somebody has would move"),
        StaffRefused, StaffBodyRefused
    ),
    security(("bearer" = []))
)]
pub async fn put_space(
    State(app): State<AppState>,
    Caller(caller): Caller,
    SpacePath(space): SpacePath,
    Query(query): Query<ChangeQuery>,
    Json(spec): Json<ScheduleSpec>,
) -> ApiResult<SpaceOrTrial> {
    Ok(Success::new(if query.dry_run {
        SpaceOrTrial::Trial(calls::trial::try_put(&app, &caller, space, spec).await?)
    } else {
        SpaceOrTrial::Space(Box::new(calls::spaces::put_space(&app, &caller, space, spec).await?))
    }))
}

/// A space's schedule.
#[utoipa::path(
    get, path = "/api/spaces/{sedeId}/{idSpazio}", tag = "spaces",
    params(("sedeId" = u64, Path, description = "The site"), ("idSpazio" = u64, Path, description = "The space")),
    responses((status = 200, body = Success<SpaceAnswer>), ReadRefused),
    security((), ("bearer" = []))
)]
pub async fn read_space(
    State(app): State<AppState>,
    // A call with a token does not count as a stranger's, so the token must be valid.
    _: Option<Caller>,
    SpacePath(space): SpacePath,
) -> ApiResult<SpaceAnswer> {
    Ok(Success::new(calls::spaces::read_space(&app, space).await?))
}

/// Remove a space's registration; its version stays.
#[utoipa::path(
    delete, path = "/api/spaces/{sedeId}/{idSpazio}", tag = "spaces",
    params(
        ("sedeId" = u64, Path, description = "The site"), ("idSpazio" = u64, Path, description = "The space"),
        ChangeQuery
    ),
    responses(
        (status = 200, body = Success<SpaceOrTrial>, description = "What it was"),
        (status = 404, body = ErrorBody, description = "`space_not_found`: nobody registered it"),
        (status = 409, body = ErrorBody, description = "`space_in_use`: a slot that somebody has would move"),
        StaffRefused
    ),
    security(("bearer" = []))
)]
pub async fn delete_space(
    State(app): State<AppState>,
    Caller(caller): Caller,
    SpacePath(space): SpacePath,
    Query(query): Query<ChangeQuery>,
) -> ApiResult<SpaceOrTrial> {
    Ok(Success::new(if query.dry_run {
        SpaceOrTrial::Trial(calls::trial::try_delete(&app, &caller, space).await?)
    } else {
        SpaceOrTrial::Space(Box::new(calls::spaces::delete_space(&app, &caller, space).await?))
    }))
}

/// A place in a space's log.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ChangesQuery {
    /// The epoch of the version.
    epoch: String,
    /// The last version that the caller knows.
    version: u64,
}

/// What changed in a space after a version.
#[utoipa::path(
    get, path = "/api/spaces/{sedeId}/{idSpazio}/changes", tag = "spaces",
    params(
        ("sedeId" = u64, Path, description = "The site"),
        ("idSpazio" = u64, Path, description = "The space"),
        ChangesQuery
    ),
    responses(
        (status = 200, body = Success<ChangesAnswer>),
        (status = 410, body = ErrorBody, description = "`gone`: the log does not reach back that far"),
        StaffRefused
    ),
    security(("bearer" = []))
)]
pub async fn list_changes(
    State(app): State<AppState>,
    Caller(caller): Caller,
    SpacePath(space): SpacePath,
    Query(query): Query<ChangesQuery>,
) -> Result<Response, ApiError> {
    let since = Position { epoch: query.epoch.into(), version: query.version };
    long_answer(calls::changes::list_changes(&app, &caller, space, since).await?)
}

/// Send a day's board to the space's room.
#[utoipa::path(
    post, path = "/api/spaces/{sedeId}/{idSpazio}/broadcast", tag = "spaces",
    params(("sedeId" = u64, Path, description = "The site"), ("idSpazio" = u64, Path, description = "The space")),
    request_body = ShowBoardRequest,
    responses(
        (status = 200, body = Success<BoardShownAnswer>),
        (status = 404, body = ErrorBody, description = "`space_not_found`"),
        (status = 422, body = ErrorBody, description = "`bad_date`"),
        StaffRefused, StaffBodyRefused
    ),
    security(("bearer" = []))
)]
pub async fn show_board(
    State(app): State<AppState>,
    Caller(caller): Caller,
    SpacePath(space): SpacePath,
    Json(request): Json<ShowBoardRequest>,
) -> ApiResult<BoardShownAnswer> {
    Ok(Success::new(calls::messages::show_board(&app, &caller, space, request).await?))
}
