//! Releasing slots: a hold or a booking ends, and the slot is free again.

use super::slots::{self, SlotsAnswer, SlotsRequest, actor_of, by_any_schedule, free_status};
use crate::app::App;
use crate::auth::Claims;
use crate::domain::{Act, Actor, Refusal, SlotActKind, SlotTime, SpaceKey};

/// Releases the named slots. The caller must hold each of them, or have booked it with time left to cancel. Staff of the
/// space may also release slots that others have booked.
pub async fn release(
    app: &App,
    caller: &Claims,
    request: SlotsRequest,
    idempotency_key: Option<String>,
) -> Result<SlotsAnswer, Refusal> {
    let kind = |space| release_kind(app, caller, &request, space).map(by_any_schedule);
    let status = |slots: &[SlotTime]| free_status(slots, app.clock.now());
    slots::perform(app, caller, Act::Release, &request, idempotency_key, kind, status).await
}

fn release_kind(app: &App, caller: &Claims, request: &SlotsRequest, space: SpaceKey) -> Result<SlotActKind, Refusal> {
    let actor = actor_of(caller, request.user.as_ref())?;
    // Staff who name a user may release only that user's bookings.
    let whose = if request.user.is_none() { Actor::Anyone } else { actor.clone() };
    let booked_by = caller.is_staff_of(space).then_some(whose);
    let cancel_before = app.config.holds.own_terms().cancel_before;
    Ok(SlotActKind::Release { actor, token: request.hold_token.clone(), booked_by, cancel_before })
}
