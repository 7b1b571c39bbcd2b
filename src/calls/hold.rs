//! Holding slots: nobody else can take them until the hold ends.

use super::slots::{self, SlotsAnswer, SlotsRequest, acting_user, hold_millis, require_seconds};
use crate::app::App;
use crate::auth::Claims;
use crate::domain::{Act, Code, HoldToken, Refusal, Schedule, SlotActKind, Status};
use crate::random;

/// Holds the named slots for the caller, all or none. If the caller holds exactly these slots already, repeats the first
/// answer.
pub async fn hold(
    app: &App,
    caller: &Claims,
    request: SlotsRequest,
    idempotency_key: Option<String>,
) -> Result<SlotsAnswer, Refusal> {
    let kind = |_| hold_kind(app, caller, &request);
    slots::perform(app, caller, Act::Hold, &request, idempotency_key, kind, |_| Status::Occupied).await
}

fn hold_kind(
    app: &App,
    caller: &Claims,
    request: &SlotsRequest,
) -> Result<impl Fn(&Schedule) -> Result<SlotActKind, Refusal>, Refusal> {
    let holds = &app.config.holds;
    require_seconds(request, holds)?;
    let (user, token) = (acting_user(caller, request.user.as_ref())?, new_hold_token()?);
    Ok(move |schedule: &Schedule| {
        let millis = hold_millis(request, holds, schedule)?;
        let (user, token) = (user.clone(), token.clone());
        Ok(SlotActKind::Hold { user, token, millis, max_holds: holds.max_holds, max_held: holds.max_held })
    })
}

fn new_hold_token() -> Result<HoldToken, Refusal> {
    let bytes = random::bytes().map_err(|error| {
        tracing::error!(%error, "cannot make a holdToken");
        Code::Unavailable
    })?;
    Ok(HoldToken::from_random(bytes))
}
