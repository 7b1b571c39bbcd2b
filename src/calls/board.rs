//! Reading the board of a day: every slot with its status now.

use serde::Serialize;
use serde_json::value::RawValue;

use super::parse_day;
use crate::app::App;
use crate::auth::Claims;
use crate::domain::event::{BoardEntry, Viewer, board};
use crate::domain::{Code, Day, OwnTerms, Refusal, SiteId, SpaceId, SpaceKey};
use crate::spaces::catalog::Board;
use crate::store::refuse::unavailable;

/// The board of a day, for any caller. Without a site, exactly one registered space must have this id.
///
/// Answers JSON: `{idSpazio, sedeId, date, timeZone, timestamp, count, epoch, version, slots}`.
pub async fn read_board(
    app: &App,
    caller: Option<&Claims>,
    space: SpaceId,
    site: Option<SiteId>,
    date: &str,
) -> Result<Box<RawValue>, Refusal> {
    let day = parse_day(date)?;
    let site = match site {
        Some(site) => site,
        None => only_site_of(app, space).await?,
    };
    let space = SpaceKey { site, space };
    let board = match caller {
        None => app.catalog.shared.read(&app.catalog, space, day).await?,
        Some(_) => app.catalog.read_board(space, day).await?,
    };
    app.acknowledged.note(space, &board.state.at);
    show(app, &board, caller, space, day)
}

async fn only_site_of(app: &App, space: SpaceId) -> Result<SiteId, Refusal> {
    let sites = app.store.sites_of(space).await.map_err(|error| unavailable(&error))?;
    match sites.as_slice() {
        [site] => Ok(*site),
        _ => Err(Code::SedeRequired.into()),
    }
}

fn viewer_of(caller: Option<&Claims>, space: SpaceKey, terms: OwnTerms) -> Viewer {
    match caller {
        None => Viewer::Anyone,
        Some(caller) if caller.is_staff_of(space) => Viewer::Staff,
        Some(caller) => Viewer::User(caller.user.clone(), terms),
    }
}

fn show(app: &App, read: &Board, caller: Option<&Claims>, space: SpaceKey, day: Day) -> Result<Box<RawValue>, Refusal> {
    let schedule = read.schedule.as_ref().ok_or(Code::SpaceNotFound)?;
    app.catalog.require_near(schedule, day)?;
    let viewer = viewer_of(caller, space, app.config.holds.own_terms());
    let times = schedule.slots(day);
    let slots = board(&times, &read.state.records, read.state.now, &viewer, true);
    let answer = BoardAnswer {
        id_spazio: space.space,
        sede_id: space.site,
        date: day,
        time_zone: schedule.time_zone(),
        timestamp: read.state.now.rfc3339(),
        count: slots.len(),
        epoch: &read.state.at.epoch,
        version: read.state.at.version,
        slots,
    };
    serde_json::value::to_raw_value(&answer).map_err(|error| {
        tracing::error!(%error, space.id = %space, "a board could not be written");
        Code::Unavailable.into()
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BoardAnswer<'a> {
    id_spazio: SpaceId,
    sede_id: SiteId,
    date: Day,
    time_zone: &'a str,
    timestamp: String,
    count: usize,
    epoch: &'a str,
    version: u64,
    slots: Vec<BoardEntry<'a>>,
}
