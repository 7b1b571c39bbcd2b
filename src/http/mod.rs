//! The HTTP calls of the wire contract. All routes are on this page; handlers parse, call [`crate::calls`] and answer.
//!
//! - [`slots`], [`spaces`], [`users`], [`privacy`], [`journal`], [`operations`]: the handlers, by the beginning of the
//!   path.
//! - [`page`]: the live board, for a browser; `page_facts`: what the node tells its own page.
//! - [`extract`]: the arguments of handlers, which decide who may call and what is malformed.
//! - [`error`]: the form of refusals. [`answer`]: the form of successes; `outgoing`: long ones, counted until they are
//!   read.
//! - [`body`]: request bodies of bounded size, whose senders can read the answer.
//! - `anonymous`: how often an address may call without a token.
//! - `parameters`: refuses a query with a parameter that the call does not have.
//! - [`layers`]: what every call gets: request ids, CORS, limits, answers after panics.
//! - [`schemas`]: parts of the OpenAPI document that the types cannot give. [`document`]: the finished document.

pub mod slots;
pub mod spaces;
pub mod users;
pub mod operations;
pub mod journal;
pub mod privacy;
pub mod page;
mod page_facts;
pub mod extract;
pub mod error;
pub mod answer;
mod outgoing;
pub mod body;
pub mod layers;
mod anonymous;
mod parameters;
pub mod schemas;
pub mod document;

pub use layers::cors_layer;

use std::sync::Arc;

use axum::{Router, middleware};
use utoipa::OpenApi;
use utoipa::openapi::RefOr;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::AppState;
use anonymous::AnonymousLimit;
use document::Document;
use parameters::Parameters;

/// All calls, ready to serve, with their limits, CORS and request ids.
pub fn router(app: AppState) -> Router {
    let (probes, _) = probe_routes().split_for_parts();
    let limit = Arc::new(AnonymousLimit::new(&app.config));
    let api = guarded(api_routes(), limit.clone());
    let waiting = guarded(waiting_routes(), limit);
    let routes = layers::limit_load(api, layers::MAX_IN_FLIGHT, layers::TIMEOUT)
        .merge(layers::limit_load(waiting, layers::MAX_WAITING, layers::WAITING_TIMEOUT))
        .merge(probes)
        .fallback(error::answer_unknown_path)
        .method_not_allowed_fallback(error::answer_wrong_method);
    layers::surround(routes, &app).with_state(app)
}

/// Calls behind the checks that each of them needs: the limit of calls without a token, and the call's parameters.
fn guarded(routes: OpenApiRouter<AppState>, limit: Arc<AnonymousLimit>) -> Router<AppState> {
    let (routes, document) = routes.split_for_parts();
    routes
        .route_layer(middleware::from_fn_with_state(Parameters::of(&document), parameters::check))
        .layer(middleware::from_fn_with_state(limit, anonymous::limit))
}

/// The OpenAPI document of all calls.
pub fn openapi() -> Document {
    let mut derived = api_routes().merge(waiting_routes()).merge(probe_routes()).into_openapi();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
    let components = derived.components.get_or_insert_default();
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    describe_responses(&mut derived);
    Document::finish(&derived)
}

/// OpenAPI requires a description of every response. Responses that are described by their schema get one here.
fn describe_responses(document: &mut utoipa::openapi::OpenApi) {
    let items = document.paths.paths.values_mut();
    let operations = items.flat_map(|item| {
        [&mut item.get, &mut item.put, &mut item.post, &mut item.delete].into_iter().filter_map(Option::as_mut)
    });
    for (status, response) in operations.flat_map(|operation| operation.responses.responses.iter_mut()) {
        if let RefOr::T(response) = response
            && response.description.is_empty()
        {
            response.description = if status.starts_with('2') { "Done." } else { "Refused." }.into();
        }
    }
}

fn api_routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(About::openapi())
        .routes(routes!(slots::read_board))
        .routes(routes!(slots::hold_slot))
        .routes(routes!(slots::book_slot))
        .routes(routes!(slots::release_slot))
        .routes(routes!(slots::extend_slot))
        .routes(routes!(slots::hold_slots))
        .routes(routes!(slots::book_slots))
        .routes(routes!(slots::release_slots))
        .routes(routes!(slots::extend_slots))
        .routes(routes!(slots::update_slot))
        .routes(routes!(slots::update_slots))
        .routes(routes!(users::list_holds))
        .routes(routes!(users::list_bookings))
        .routes(routes!(spaces::list_spaces))
        .routes(routes!(spaces::put_space, spaces::read_space, spaces::delete_space))
        .routes(routes!(spaces::list_changes))
        .routes(routes!(spaces::show_board))
        .routes(routes!(users::notify_user))
        .routes(routes!(users::disconnect_user))
        .routes(routes!(privacy::export_user, privacy::erase_user))
        .routes(routes!(operations::broadcast))
        .routes(routes!(operations::sweep))
        .routes(routes!(operations::read_stats))
        .routes(routes!(operations::read_openapi))
}

/// Calls that may wait. They have a time limit and a count of their own.
fn waiting_routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(journal::read_journal))
}

fn probe_routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(operations::check_alive)).routes(routes!(operations::check_ready))
}

/// What the document says about itself.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "slotcast",
        description = "Live availability: hold, book and release slots, seen at once by every Socket.IO client.\n\n\
            Success is `{success: true, data}`, failure `{success: false, error, code, conflicts?}`. Every act may be \
            repeated safely. Prometheus metrics are at `GET /metrics` of the admin listener."
    ),
    tags(
        (name = "slots", description = "Boards, and acts on slots"),
        (name = "spaces", description = "Spaces and their schedules"),
        (name = "users", description = "Own holds; messages to users; what is kept of a user"),
        (name = "operations", description = "Statistics, messages to everyone, probes")
    )
)]
struct About;
