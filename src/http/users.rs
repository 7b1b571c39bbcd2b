//! `/api/holds` and `/api/users`: what a user holds, and messages to one.

use axum::extract::State;

use super::answer::Success;
use super::error::{ApiResult, ErrorBody};
use super::extract::{Caller, Json, UserPath};
use super::schemas::{OwnRefused, StaffBodyRefused, StaffRefused};
use crate::app::AppState;
use crate::calls;
use crate::calls::holds::HoldsAnswer;
use crate::calls::messages::{DisconnectedAnswer, MessageRequest, NotifiedAnswer};

/// The caller's own live holds.
#[utoipa::path(
    get, path = "/api/holds", tag = "users",
    responses((status = 200, body = Success<HoldsAnswer>), OwnRefused),
    security(("bearer" = []))
)]
pub async fn list_holds(State(app): State<AppState>, Caller(caller): Caller) -> ApiResult<HoldsAnswer> {
    Ok(Success::new(calls::holds::list_holds(&app, &caller).await?))
}

/// Notify one user, now or when the user is back.
#[utoipa::path(
    post, path = "/api/users/{id}/notify", tag = "users",
    params(("id" = String, Path, description = "The user")),
    request_body = MessageRequest,
    responses(
        (status = 200, body = Success<NotifiedAnswer>),
        (status = 422, body = ErrorBody, description = "`reserved_event`"),
        StaffRefused, StaffBodyRefused
    ),
    security(("bearer" = []))
)]
pub async fn notify_user(
    State(app): State<AppState>,
    Caller(caller): Caller,
    UserPath(user): UserPath,
    Json(request): Json<MessageRequest>,
) -> ApiResult<NotifiedAnswer> {
    Ok(Success::new(calls::messages::notify_user(&app, &caller, user, request).await?))
}

/// Close the sockets that a user has now, on all nodes.
#[utoipa::path(
    post, path = "/api/users/{id}/disconnect", tag = "users",
    params(("id" = String, Path, description = "The user")),
    responses((status = 200, body = Success<DisconnectedAnswer>), StaffRefused),
    security(("bearer" = []))
)]
pub async fn disconnect_user(
    State(app): State<AppState>,
    Caller(caller): Caller,
    UserPath(user): UserPath,
) -> ApiResult<DisconnectedAnswer> {
    Ok(Success::new(calls::messages::disconnect_user(&app, &caller, user).await?))
}
