//! Extending holds: their end moves to some time from now.

use super::slots::{self, SlotsAnswer, SlotsRequest, acting_user, hold_millis, require_seconds};
use crate::app::App;
use crate::auth::Claims;
use crate::domain::{Act, Refusal, Schedule, SlotActKind, Status};

/// Extends the caller's holds of the named slots. A hold that would last too long from its beginning is `hold_limit`.
pub async fn extend(
    app: &App,
    caller: &Claims,
    request: SlotsRequest,
    idempotency_key: Option<String>,
) -> Result<SlotsAnswer, Refusal> {
    let kind = |_| extend_kind(app, caller, &request);
    slots::perform(app, caller, Act::Extend, &request, idempotency_key, kind, |_| Status::Occupied).await
}

fn extend_kind(
    app: &App,
    caller: &Claims,
    request: &SlotsRequest,
) -> Result<impl Fn(&Schedule) -> Result<SlotActKind, Refusal>, Refusal> {
    let holds = &app.config.holds;
    require_seconds(request, holds)?;
    let user = acting_user(caller, request.user.as_ref())?;
    Ok(move |schedule: &Schedule| {
        let millis = hold_millis(request, holds, schedule)?;
        let (user, token, max_millis) = (user.clone(), request.hold_token.clone(), holds.own_terms().max_hold);
        Ok(SlotActKind::Extend { user, token, millis, max_millis })
    })
}
