//! Booking slots: a hold becomes a booking.

use super::slots::{self, SlotsAnswer, SlotsRequest, actor_of, by_any_schedule};
use crate::app::App;
use crate::auth::Claims;
use crate::domain::{Act, Refusal, SlotActKind, Status};

/// Books the named slots, if the caller holds all of them. If the caller has booked them already, repeats the first answer.
pub async fn book(
    app: &App,
    caller: &Claims,
    request: SlotsRequest,
    idempotency_key: Option<String>,
) -> Result<SlotsAnswer, Refusal> {
    let kind = |_| book_kind(caller, &request).map(by_any_schedule);
    slots::perform(app, caller, Act::Book, &request, idempotency_key, kind, |_| Status::Booked).await
}

fn book_kind(caller: &Claims, request: &SlotsRequest) -> Result<SlotActKind, Refusal> {
    let actor = actor_of(caller, request.user.as_ref())?;
    Ok(SlotActKind::Book { actor, token: request.hold_token.clone() })
}
