//! Releasing slots: what is held, what one booked and may still cancel, or as staff what anybody booked, becomes free.

use super::act_log;
use super::slots::{self, NamedSlots, SlotsAnswer, SlotsRequest, actor_of, admit, idempotency_of, name_slots};
use crate::app::App;
use crate::auth::Claims;
use crate::domain::{Actor, Refusal, SlotActKind};

const ACT: crate::domain::Act = crate::domain::Act::Release;

/// Releases the named slots, all of which the caller holds, or booked and may still cancel; or, as staff of the space, booked
/// ones, whoever booked them.
pub async fn release(
    app: &App,
    caller: &Claims,
    request: SlotsRequest,
    idempotency_key: Option<String>,
) -> Result<SlotsAnswer, Refusal> {
    let running = act_log::begin(app, ACT.as_str(), caller);
    let result = try_release(app, caller, &request, idempotency_key).await;
    running.end(&request.about(), &result, |answer| answer.version);
    result
}

async fn try_release(
    app: &App,
    caller: &Claims,
    request: &SlotsRequest,
    idempotency_key: Option<String>,
) -> Result<SlotsAnswer, Refusal> {
    let named = name_slots(request)?;
    let kind = release_kind(app, caller, request, &named)?;
    admit(app, caller, named.space)?;
    let idempotency = idempotency_of(ACT, caller, request, &named, idempotency_key);
    let applied = slots::apply(app, caller, &named, idempotency, |_| Ok(kind.clone())).await?;
    let status = slots::free_status(&applied.slots, app.clock.now());
    Ok(slots::answer(applied, status))
}

fn release_kind(
    app: &App,
    caller: &Claims,
    request: &SlotsRequest,
    named: &NamedSlots,
) -> Result<SlotActKind, Refusal> {
    let actor = actor_of(caller, request.user.as_ref())?;
    // Staff who name a user may release only that user's bookings.
    let whose = if request.user.is_none() { Actor::Anyone } else { actor.clone() };
    let booked_by = caller.is_staff_of(named.space).then_some(whose);
    let cancel_before = app.config.holds.own_terms().cancel_before;
    Ok(SlotActKind::Release { actor, token: request.hold_token.clone(), booked_by, cancel_before })
}
