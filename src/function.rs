//! The scheduled function on AWS Lambda: each invocation is one sweep. `bin/sweeper_lambda.rs` starts it.
//!
//! - A scheduler's event (any event that is not HTTP) is answered with the bare report. A sweep that fails is a failed
//!   invocation, because only then do the platform's retries, dead letters and alarms see it.
//! - An HTTP event (a function URL, API Gateway, a load balancer) is answered with 200 and the report, or 503.
//!
//! **Invariant:** no token is checked here. The function's URL is protected by the platform.

use std::sync::Arc;
use std::time::Duration;

use lambda_http::http::{Response, StatusCode, header};
use lambda_http::lambda_runtime::Diagnostic;
use lambda_http::request::RequestContext;
use lambda_http::{Body, Context, Error, Request, RequestExt, service_fn};
use lambda_runtime_api_client::PooledClient;
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;

use crate::clock;
use crate::domain::{Code, Refusal, StoreTime};
use crate::store::SlotStore;
use crate::sweeper::{self, SweepReport};

/// No further batch is started after this part of an invocation's time.
const SWEEPING_SHARE: f64 = 0.8;

/// A running batch is given up after this part of an invocation's time. So this program reports the failure before the
/// platform kills it.
const WAITING_SHARE: f64 = 0.95;

/// The longest that the platform lets an invocation run.
const LONGEST_INVOCATION: Duration = Duration::from_secs(15 * 60);

/// Answers invocations, one at a time, all with one store. Returns only if the platform cannot be asked for more.
///
/// # Errors
///
/// The Runtime API failed.
///
/// # Panics
///
/// The environment is not that of a function: see [`lambda_http::run`].
pub async fn run(store: Arc<dyn SlotStore>) -> Result<(), Error> {
    lambda_http::run(service_fn(|event| answer(&store, event))).await
}

/// Sweeps once and answers one event.
///
/// # Errors
///
/// The sweep failed and the event was not HTTP.
pub async fn answer(store: &Arc<dyn SlotStore>, event: Request) -> Result<Response<Body>, Diagnostic> {
    let time_left = event.lambda_context_ref().map(time_left).unwrap_or_default();
    match (sweep_within(store, time_left).await, is_http(&event)) {
        (Ok(report), _) => {
            let SweepReport { freed, spaces, oldest_late_ms, took_ms } = report;
            tracing::info!(freed, spaces, oldest_late_ms, took_ms, "swept");
            Ok(json_response(StatusCode::OK, &report))
        }
        // The runtime logs the error.
        (Err(error), false) => Err(Diagnostic { error_type: "SweepFailed".into(), error_message: error }),
        (Err(error), true) => {
            tracing::error!(error, "the sweep failed");
            let refusal = Refusal::new(Code::Unavailable);
            let body = json!({"success": false, "error": refusal.message, "detail": refusal.detail, "code": refusal.code.as_str()});
            let mut response = json_response(StatusCode::SERVICE_UNAVAILABLE, &body);
            response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
            Ok(response)
        }
    }
}

/// Tells the platform, and through it the function's caller, why the function cannot start. The process must end
/// afterwards.
///
/// # Errors
///
/// The Runtime API could not be told.
///
/// # Panics
///
/// `AWS_LAMBDA_RUNTIME_API` is missing, or is not an address.
pub async fn report_failed_start(reason: &str) -> Result<(), Error> {
    const TYPE: &str = "Runtime.FailedStart";
    let body = json!({"errorType": TYPE, "errorMessage": reason}).to_string();
    let request = lambda_runtime_api_client::build_request()
        .method("POST")
        .uri("/2018-06-01/runtime/init/error")
        .header("lambda-runtime-function-error-type", TYPE)
        .body(body.into())?;
    PooledClient::builder().build().call(request).await?;
    Ok(())
}

/// How long the platform lets this invocation run.
fn time_left(context: &Context) -> Duration {
    let deadline = StoreTime::from_millis(i64::try_from(context.deadline).unwrap_or(i64::MAX));
    clock::wall().until(deadline).min(LONGEST_INVOCATION)
}

fn is_http(event: &Request) -> bool {
    !matches!(event.request_context_ref(), None | Some(RequestContext::PassThrough))
}

/// Sweeps until little of the time is left. An error is a sentence for operators.
async fn sweep_within(store: &Arc<dyn SlotStore>, time_left: Duration) -> Result<SweepReport, String> {
    let now = Instant::now();
    let last_start = now + time_left.mul_f64(SWEEPING_SHARE);
    let last_wait = now + time_left.mul_f64(WAITING_SHARE);
    match tokio::time::timeout_at(last_wait, sweeper::sweep_all(store, Some(last_start))).await {
        Ok(swept) => swept.map_err(|error| error.to_string()),
        Err(_) => Err(format!(
            "the store did not answer before the function's time was up ({} ms); what was freed stays freed",
            time_left.as_millis()
        )),
    }
}

fn json_response(status: StatusCode, body: &impl Serialize) -> Response<Body> {
    let mut response = Response::new(Body::Text(crate::domain::event::to_json(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}
