//! Booking slots: what is held becomes confirmed.

use super::act_log;
use super::slots::{self, SlotsAnswer, SlotsRequest, actor_of, admit, idempotency_of, name_slots};
use crate::app::App;
use crate::auth::Claims;
use crate::domain::{Refusal, SlotActKind, Status};

const ACT: crate::domain::Act = crate::domain::Act::Book;

/// Books the named slots, if the caller holds all of them. Answers the first answer when the caller has booked them.
pub async fn book(
    app: &App,
    caller: &Claims,
    request: SlotsRequest,
    idempotency_key: Option<String>,
) -> Result<SlotsAnswer, Refusal> {
    let running = act_log::begin(app, ACT.as_str(), caller);
    let result = try_book(app, caller, &request, idempotency_key).await;
    running.end(&request.about(), &result, |answer| answer.version);
    result
}

async fn try_book(
    app: &App,
    caller: &Claims,
    request: &SlotsRequest,
    idempotency_key: Option<String>,
) -> Result<SlotsAnswer, Refusal> {
    let named = name_slots(request)?;
    let kind = book_kind(caller, request)?;
    admit(app, caller, named.space)?;
    let idempotency = idempotency_of(ACT, caller, request, &named, idempotency_key);
    let applied = slots::apply(app, caller, &named, idempotency, |_| Ok(kind.clone())).await?;
    Ok(slots::answer(applied, Status::Booked))
}

fn book_kind(caller: &Claims, request: &SlotsRequest) -> Result<SlotActKind, Refusal> {
    let actor = actor_of(caller, request.user.as_ref())?;
    Ok(SlotActKind::Book { actor, token: request.hold_token.clone() })
}
