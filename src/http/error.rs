//! The form of refusals, and which error goes where.
//!
//! - A caller's mistake, or a state that stands in the way, is a [`Refusal`] where it is found. Handlers pass it on
//!   with `?`, and it becomes `{success: false, error, code, detail, conflicts?}` with the status of its code.
//! - A failing store is logged where it is turned into `unavailable` ([`crate::calls`]); a 5xx body says nothing of the
//!   cause.
//! - A rejection by axum itself never reaches a client: the extractors of [`super::extract`] turn it into a refusal, the
//!   handlers below answer unknown paths, wrong methods and panics.

use std::any::Any;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::{Code, Refusal, SlotNumber};

/// A refusal as the answer to an HTTP call.
#[derive(Debug, PartialEq)]
pub struct ApiError(pub Refusal);

/// What a handler answers.
pub type ApiResult<T> = Result<super::answer::Success<T>, ApiError>;

/// The body of every failure.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorBody {
    /// Always `false`.
    success: bool,
    /// For people, Italian.
    error: String,
    /// For programs.
    #[schema(example = "slot_unavailable")]
    code: &'static str,
    /// For developers, English: what is wrong, and where.
    detail: String,
    /// The slots that stood in the way, ascending.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<u16>, required = false)]
    conflicts: Vec<SlotNumber>,
    /// Of the journal's `gone`: what `after` takes to read everything that is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

impl ErrorBody {
    fn new(refusal: Refusal) -> Self {
        let Refusal { code, message, detail, conflicts, next } = refusal;
        Self { success: false, error: message, code: code.as_str(), detail, conflicts, next }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        Self(refusal)
    }
}

impl From<Code> for ApiError {
    fn from(code: Code) -> Self {
        Self(code.into())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let code = self.0.code;
        let status = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let refusal = if status.is_server_error() { Refusal::new(code) } else { self.0 };
        let mut response = (status, Json(ErrorBody::new(refusal))).into_response();
        let headers = response.headers_mut();
        match code {
            Code::Unauthorized => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            // The rest of the caller's body is read and thrown away (see `body`). No other call follows on this connection.
            Code::TooLarge => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Code::RateLimited | Code::Unavailable | Code::Draining => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}

/// Return `404 Not Found`: there is no such path.
pub async fn answer_unknown_path() -> ApiError {
    Code::NotFound.into()
}

/// Return `405 Method Not Allowed`: the path has other methods, named in `Allow`.
pub async fn answer_wrong_method() -> Response {
    let refusal = Refusal {
        message: "Metodo HTTP non previsto, vedi Allow".into(),
        detail: "the path does not take this method; the header Allow names those that it takes".into(),
        ..Refusal::new(Code::NotFound)
    };
    (StatusCode::METHOD_NOT_ALLOWED, Json(ErrorBody::new(refusal))).into_response()
}

/// Return `503 Service Unavailable`: this program has a defect. For the caller it is like any other failure of the
/// node: the call may have been done, and repeating it is safe.
pub(super) fn answer_panic(panic: Box<dyn Any + Send>) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    tracing::error!(panic = text.unwrap_or("not a text"), "a call panicked");
    ApiError::from(Code::Unavailable).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn body_of(response: Response) -> String {
        let bytes = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_refusal_lists_its_conflicts() {
        let conflicts = vec![SlotNumber::new(3).unwrap(), SlotNumber::new(5).unwrap()];
        let response = ApiError(Refusal::of_slots(Code::SlotUnavailable, conflicts)).into_response();
        assert_eq!(response.status(), StatusCode::CONFLICT);
        let expected = concat!(
            r#"{"success":false,"error":"Slot non disponibile","code":"slot_unavailable","#,
            r#""detail":"somebody has the slot","conflicts":[3,5]}"#
        );
        assert_eq!(body_of(response).await, expected);
    }

    #[tokio::test]
    async fn a_5xx_says_nothing_of_its_cause() {
        let response = ApiError(Refusal::because(Code::Unavailable, "disk on fire")).into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        assert!(!body_of(response).await.contains("fire"));
    }

    #[tokio::test]
    async fn a_panic_has_the_one_shape_and_its_text_stays_here() {
        use axum::{Router, body::Body, extract::Request, routing::get};
        use tower::ServiceExt;
        let defect = async || -> &'static str { std::panic::panic_any("boom") };
        let routes: Router = Router::new().route("/", get(defect));
        let routes = routes.layer(tower_http::catch_panic::CatchPanicLayer::custom(answer_panic));
        let response = routes.oneshot(Request::new(Body::empty())).await.unwrap();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        let body = body_of(response).await;
        assert!(body.starts_with(r#"{"success":false,"error":"#) && !body.contains("boom"), "{body}");
    }

    #[tokio::test]
    async fn a_401_asks_for_a_bearer_token() {
        let response = ApiError::from(Code::Unauthorized).into_response();
        assert_eq!(response.headers()[header::WWW_AUTHENTICATE], "Bearer");
        let expected = concat!(
            r#"{"success":false,"error":"Token non valido","code":"unauthorized","#,
            r#""detail":"there is no token, or the token is not valid"}"#
        );
        assert_eq!(body_of(response).await, expected);
    }
}
