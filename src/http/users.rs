//! `/api/holds`, `/api/bookings` and `/api/users`: what a user holds and has booked, and messages to one.

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use utoipa::IntoParams;

use super::answer::Success;
use super::error::{ApiError, ApiResult, ErrorBody};
use super::extract::{Caller, Json, Query, UserPath, parse_id};
use super::outgoing::long_answer;
use super::schemas::{BookingsBody, OwnRefused, StaffBodyRefused, StaffRefused};
use crate::app::AppState;
use crate::calls;
use crate::calls::bookings::OwnQuery;
use crate::calls::holds::HoldsAnswer;
use crate::calls::messages::{DisconnectedAnswer, MessageRequest, NotifiedAnswer};
use crate::domain::{Code, Refusal};

/// The caller's own live holds.
#[utoipa::path(
    get, path = "/api/holds", tag = "users",
    responses((status = 200, body = Success<HoldsAnswer>), OwnRefused),
    security(("bearer" = []))
)]
pub async fn list_holds(State(app): State<AppState>, Caller(caller): Caller) -> ApiResult<HoldsAnswer> {
    Ok(Success::new(calls::holds::list_holds(&app, &caller).await?))
}

/// Which bookings are listed: own ones by `from` and `to`, or a site's by `sedeId` and `date`.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub struct BookingsQuery {
    /// Own bookings: the first day, `YYYY-MM-DD`. Without it and `to`, from today on.
    from: Option<String>,
    /// Own bookings: the last day.
    to: Option<String>,
    /// As staff, with `date`: all that somebody has in this site.
    #[param(value_type = Option<u64>, minimum = 1)]
    sede_id: Option<String>,
    /// As staff, with `sedeId`: on this day.
    date: Option<String>,
    /// `next` of the page before.
    after: Option<String>,
}

/// The caller's own bookings; or, as staff of a site, all that is held, booked or blocked there on a day. 500 a page.
#[utoipa::path(
    get, path = "/api/bookings", tag = "users",
    params(BookingsQuery),
    responses(
        (status = 200, body = Success<BookingsBody>),
        (status = 422, body = ErrorBody, description = "`bad_date`"),
        StaffRefused
    ),
    security(("bearer" = []))
)]
pub async fn list_bookings(
    State(app): State<AppState>,
    Caller(caller): Caller,
    Query(query): Query<BookingsQuery>,
) -> Result<Response, ApiError> {
    let BookingsQuery { from, to, sede_id, date, after } = query;
    match (sede_id, date) {
        (None, None) => {
            let query = OwnQuery { from, to, after };
            long_answer(calls::bookings::list_own(&app, &caller, &query).await?)
        }
        (Some(site), Some(date)) if from.is_none() && to.is_none() => {
            let site = parse_id("sedeId", &site)?;
            let answer = calls::bookings::list_of_day(&app, &caller, site, &date, after.as_deref()).await?;
            long_answer(answer)
        }
        _ => {
            let reason = "either sedeId and date, or from and to, each where wanted";
            Err(Refusal::because(Code::Malformed, reason).into())
        }
    }
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
