//! Extending holds: their end moves to some time from now.

use super::act_log;
use super::slots::{
    self, SlotsAnswer, SlotsRequest, acting_user, admit, hold_millis, idempotency_of, name_slots, require_seconds,
};
use crate::app::App;
use crate::auth::Claims;
use crate::domain::{Refusal, Schedule, SlotActKind, Status};

const ACT: crate::domain::Act = crate::domain::Act::Extend;

/// Extends the caller's holds of the named slots; more than they may last from their beginning is `hold_limit`.
pub async fn extend(
    app: &App,
    caller: &Claims,
    request: SlotsRequest,
    idempotency_key: Option<String>,
) -> Result<SlotsAnswer, Refusal> {
    let running = act_log::begin(app, ACT.as_str(), caller);
    let result = try_extend(app, caller, &request, idempotency_key).await;
    running.end(&request.about(), &result, |answer| answer.version);
    result
}

async fn try_extend(
    app: &App,
    caller: &Claims,
    request: &SlotsRequest,
    idempotency_key: Option<String>,
) -> Result<SlotsAnswer, Refusal> {
    let named = name_slots(request)?;
    require_seconds(request, &app.config.holds)?;
    let user = acting_user(caller, request.user.as_ref())?;
    admit(app, caller, named.space)?;
    let idempotency = idempotency_of(ACT, caller, request, &named, idempotency_key);
    let holds = &app.config.holds;
    let kind = |schedule: &Schedule| {
        let millis = hold_millis(request, holds, schedule)?;
        let (user, token, max_millis) = (user.clone(), request.hold_token.clone(), holds.own_terms().max_hold);
        Ok(SlotActKind::Extend { user, token, millis, max_millis })
    };
    let applied = slots::apply(app, caller, &named, idempotency, kind).await?;
    Ok(slots::answer(applied, Status::Occupied))
}
