//! Holding slots: nobody else can take them until the hold ends.

use super::act_log;
use super::slots::{
    self, SlotsAnswer, SlotsRequest, acting_user, admit, hold_millis, idempotency_of, name_slots, require_seconds,
};
use crate::app::App;
use crate::auth::Claims;
use crate::domain::{Code, HoldToken, Refusal, Schedule, SlotActKind, Status};

const ACT: crate::domain::Act = crate::domain::Act::Hold;

/// Holds the named slots for the caller, or refuses them all. Answers the first answer when the caller holds exactly
/// these already.
pub async fn hold(
    app: &App,
    caller: &Claims,
    request: SlotsRequest,
    idempotency_key: Option<String>,
) -> Result<SlotsAnswer, Refusal> {
    let running = act_log::begin(app, ACT.as_str(), caller);
    let result = try_hold(app, caller, &request, idempotency_key).await;
    running.end(&request.about(), &result, |answer| answer.version);
    result
}

async fn try_hold(
    app: &App,
    caller: &Claims,
    request: &SlotsRequest,
    idempotency_key: Option<String>,
) -> Result<SlotsAnswer, Refusal> {
    let named = name_slots(request)?;
    require_seconds(request, &app.config.holds)?;
    let (user, token) = (acting_user(caller, request.user.as_ref())?, new_hold_token()?);
    admit(app, caller, named.space)?;
    let idempotency = idempotency_of(ACT, caller, request, &named, idempotency_key);
    let holds = &app.config.holds;
    let kind = |schedule: &Schedule| {
        let millis = hold_millis(request, holds, schedule)?;
        let (user, token) = (user.clone(), token.clone());
        Ok(SlotActKind::Hold { user, token, millis, max_holds: holds.max_holds, max_held: holds.max_held })
    };
    let applied = slots::apply(app, caller, &named, idempotency, kind).await?;
    Ok(slots::answer(applied, Status::Occupied))
}

fn new_hold_token() -> Result<HoldToken, Refusal> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| {
        tracing::error!(%error, "the system has no random bytes");
        Code::Unavailable
    })?;
    Ok(HoldToken::from_random(bytes))
}
