//! `/api/journal`.

use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use utoipa::IntoParams;

use super::answer::Success;
use super::error::{ApiError, ErrorBody};
use super::extract::{Caller, Query, parse_id};
use super::outgoing::long_answer;
use super::schemas::{JournalPage, StaffRefused};
use crate::app::AppState;
use crate::calls;
use crate::calls::journal::JournalRequest;
use crate::domain::{Code, JournalAct, Refusal, StoreTime, UserId};
use crate::journal::filter::{Filter, parse_acts, parse_bound};

/// Which entries, and how.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct JournalQuery {
    /// Only entries of this site. Without it, entries of all sites of the token.
    #[serde(rename = "sedeId")]
    #[param(rename = "sedeId", value_type = Option<u64>)]
    site: Option<String>,
    /// Only entries of spaces with this id.
    #[serde(rename = "spazioId")]
    #[param(rename = "spazioId", value_type = Option<u64>)]
    space: Option<String>,
    /// Only entries of this user, who has or had the slots, or lost them to staff.
    #[serde(rename = "id_utente")]
    #[param(rename = "id_utente")]
    user: Option<String>,
    /// Only entries of these acts, separated by commas: `hold`, `book`, `release`, `extend`, `expire`, `update`, `cancel`, `space`.
    #[param(example = "book,cancel")]
    act: Option<String>,
    /// Only entries from this day (UTC) on, or from this instant (RFC 3339) on.
    #[param(example = "2026-11-30")]
    from: Option<String>,
    /// Only entries up to the end of this day (UTC), or before this instant (RFC 3339).
    #[param(example = "2026-11-30")]
    to: Option<String>,
    /// `next` of an earlier call. The answer begins after it.
    after: Option<String>,
    /// How many entries at most.
    #[param(minimum = 1, maximum = 500, default = 100)]
    limit: Option<usize>,
    /// How many seconds to wait for the first entry.
    #[param(minimum = 0, maximum = 30, default = 0)]
    wait: Option<u64>,
}

impl JournalQuery {
    fn parse(self) -> Result<JournalRequest, Refusal> {
        let bound = |name: &str, text: &Option<String>| {
            let parsed = text.as_deref().map(|text| {
                let what = "a day such as 2026-11-30, or an instant such as 2026-11-30T12:00:00Z";
                parse_bound(text).ok_or_else(|| malformed(name, what))
            });
            parsed.transpose()
        };
        let user = self.user.map(|user| UserId::new(&user).ok_or_else(|| malformed("id_utente", "not a user id")));
        let acts = self.act.map(|acts| parse_acts(&acts).ok_or_else(|| malformed("act", &known_acts())));
        let filter = Filter {
            sites: None,
            space: self.space.map(|space| parse_id("spazioId", &space)).transpose()?,
            user: user.transpose()?,
            acts: acts.transpose()?,
            from: bound("from", &self.from)?.map(|(start, _): (StoreTime, _)| start),
            until: bound("to", &self.to)?.map(|(_, end)| end),
        };
        Ok(JournalRequest {
            site: self.site.map(|site| parse_id("sedeId", &site)).transpose()?,
            filter,
            after: self.after,
            limit: self.limit,
            wait: Duration::from_secs(self.wait.unwrap_or(0)),
        })
    }
}

fn malformed(name: &str, what: &str) -> Refusal {
    Refusal::because(Code::Malformed, format_args!("{name}: {what}"))
}

fn known_acts() -> String {
    format!("one or more of {}, a comma between", JournalAct::ALL.map(JournalAct::as_str).join(", "))
}

/// Who did what, in order within a space.
///
/// `after` takes `next` of the call before and misses no entry; after a loss of data in the store an entry may come again
/// under the same `id`.
#[utoipa::path(
    get, path = "/api/journal", tag = "operations",
    params(JournalQuery),
    responses(
        (status = 200, body = Success<JournalPage>),
        (status = 404, body = ErrorBody, description = "`not_found`: no journal is kept"),
        (status = 410, body = ErrorBody, description = "`gone`: what comes after that place is no longer kept; `next` is \
            where the journal begins"),
        (status = 429, body = ErrorBody, description = "`rate_limited`: as many calls wait already as may"),
        StaffRefused
    ),
    security(("bearer" = []))
)]
pub async fn read_journal(
    State(app): State<AppState>,
    Caller(caller): Caller,
    Query(query): Query<JournalQuery>,
) -> Result<Response, ApiError> {
    long_answer(calls::journal::read_journal(&app, &caller, query.parse()?).await?)
}
