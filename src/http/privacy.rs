//! `/api/users/{id}/data`: what is kept under a user's id, and erasing it.

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use utoipa::IntoParams;

use super::answer::Success;
use super::error::{ApiError, ApiResult, ErrorBody};
use super::extract::{Caller, Query, UserPath};
use super::outgoing::long_answer;
use super::schemas::{StaffRefused, UserData};
use crate::app::AppState;
use crate::calls;
use crate::calls::erasure::ErasedAnswer;

/// Which portion.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ExportQuery {
    /// `next` of the portion before.
    after: Option<String>,
}

/// All that is kept under a user's id, for the user and for staff of all sites.
///
/// It comes in portions: `after` takes `next` of the one before, and the last one has none.
#[utoipa::path(
    get, path = "/api/users/{id}/data", tag = "users",
    params(("id" = String, Path, description = "The user"), ExportQuery),
    responses(
        (status = 200, body = Success<UserData>),
        (status = 429, body = ErrorBody, description = "`rate_limited`"),
        StaffRefused
    ),
    security(("bearer" = []))
)]
pub async fn export_user(
    State(app): State<AppState>,
    Caller(caller): Caller,
    UserPath(user): UserPath,
    Query(query): Query<ExportQuery>,
) -> Result<Response, ApiError> {
    long_answer(calls::privacy::export(&app, &caller, &user, query.after.as_deref()).await?)
}

/// What becomes of bookings.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct EraseQuery {
    /// Cancel bookings that have not started.
    force: Option<bool>,
}

/// Erase a user.
///
/// Releases what the user holds, forgets notifications and remembered calls, and gives past bookings and the journal's entries
/// to a random id. After a 503, repeat it: it goes on where it stopped.
#[utoipa::path(
    delete, path = "/api/users/{id}/data", tag = "users",
    params(("id" = String, Path, description = "The user"), EraseQuery),
    responses(
        (status = 200, body = Success<ErasedAnswer>),
        (status = 409, body = ErrorBody, description = "`has_bookings`: the user has bookings that have not started"),
        StaffRefused
    ),
    security(("bearer" = []))
)]
pub async fn erase_user(
    State(app): State<AppState>,
    Caller(caller): Caller,
    UserPath(user): UserPath,
    Query(query): Query<EraseQuery>,
) -> ApiResult<ErasedAnswer> {
    Ok(Success::new(calls::erasure::erase(&app, &caller, &user, query.force.unwrap_or(false)).await?))
}
