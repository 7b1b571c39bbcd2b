//! Acts on slots, and the answers that are kept for an `Idempotency-Key`.

use serde::{Deserialize, Serialize};

use super::batch::{Batch, Place};
use super::failure::Failure;
use super::tables::{parse, read_slot, user_space_range};
use crate::domain::act::{Idempotency, SlotActKind};
use crate::domain::rule::{self, Decision, hold_answer};
use crate::domain::{Code, Refusal, SlotAct, SpaceKey, StoreTime, UserId};
use crate::store::{ActOutcome, ApplyError, KEEP_MILLIS};

use redb::ReadableTable;

/// Does an act, or says why not; then nothing was written.
pub(super) fn apply(batch: &mut Batch<'_>, act: &SlotAct) -> Result<Result<ActOutcome, ApplyError>, Failure> {
    // Before the revision: an answer that was given stays the answer, whatever happened to the schedule since.
    if let Some(answered) = recall_answer(batch, act.idempotency.as_ref())? {
        return Ok(answered.map_err(ApplyError::Refused));
    }
    if act.revision != super::spaces::revision(batch, act.space)? {
        return Ok(Err(ApplyError::Stale));
    }
    let place = Place { space: act.space, day: act.day };
    let live_holds = match &act.kind {
        SlotActKind::Hold { user, .. } => count_live_holds(batch, user, act.space)?,
        _ => 0,
    };
    let mut view = rule::DayView { records: batch.day_records(place)?, live_holds };
    let outcome = match rule::decide(&view, act, batch.now()) {
        Err(refusal) => return Ok(Err(refusal.into())),
        Ok(Decision::Repeat { version, hold }) => ActOutcome { at: batch.position(version), hold },
        Ok(Decision::Write(changes)) => {
            let hold = match act.kind {
                SlotActKind::Hold { .. } | SlotActKind::Extend { .. } => hold_answer(&changes),
                _ => None,
            };
            ActOutcome { at: batch.write_changes(place, &mut view.records, changes)?, hold }
        }
    };
    keep_answer(batch, act.idempotency.as_ref(), &outcome)?;
    Ok(Ok(outcome))
}

/// Distinct live holds of the user in the space, over all days.
fn count_live_holds(batch: &Batch<'_>, user: &UserId, space: SpaceKey) -> Result<u32, Failure> {
    let tables = batch.tables();
    let mut records = Vec::new();
    for row in tables.user_holds.range(user_space_range(user, space))? {
        let (_, site, space, day, number) = row?.0.value();
        records.extend(read_slot(&tables.slots, (site, space, day, number))?);
    }
    Ok(rule::count_live_holds(records.iter(), user, batch.now()))
}

/// What is kept of an answered call.
#[derive(Serialize, Deserialize)]
struct KeptAnswer {
    /// All of the call that counts.
    fingerprint: String,
    /// What it was answered.
    outcome: ActOutcome,
    /// Until when it is kept.
    ends: StoreTime,
}

/// The answer under the key: as the first time, or a refusal when the call is another one.
fn recall_answer(
    batch: &Batch<'_>,
    idempotency: Option<&Idempotency>,
) -> Result<Option<Result<ActOutcome, Refusal>>, Failure> {
    let Some(idempotency) = idempotency else { return Ok(None) };
    let Some(kept) = read_answer(batch, idempotency)? else { return Ok(None) };
    if kept.ends <= batch.now() {
        return Ok(None);
    }
    if kept.fingerprint != idempotency.fingerprint {
        return Ok(Some(Err(Code::IdempotencyMismatch.into())));
    }
    Ok(Some(Ok(kept.outcome)))
}

/// Keeps an answer, in the place of one that has ended.
fn keep_answer(batch: &mut Batch<'_>, idempotency: Option<&Idempotency>, outcome: &ActOutcome) -> Result<(), Failure> {
    let Some(idempotency) = idempotency else { return Ok(()) };
    let (caller, key) = (idempotency.caller.as_str(), idempotency.key.as_str());
    if let Some(ended) = read_answer(batch, idempotency)? {
        batch.write().answer_ends.remove((ended.ends.as_millis(), caller, key))?;
    }
    let ends = batch.now().plus_millis(KEEP_MILLIS);
    let kept = KeptAnswer { fingerprint: idempotency.fingerprint.clone(), outcome: outcome.clone(), ends };
    let json = serde_json::to_string(&kept).map_err(|error| Failure::BadRow(error.to_string()))?;
    let tables = batch.write();
    tables.answers.insert((caller, key), json.as_str())?;
    tables.answer_ends.insert((ends.as_millis(), caller, key), ())?;
    Ok(())
}

fn read_answer(batch: &Batch<'_>, idempotency: &Idempotency) -> Result<Option<KeptAnswer>, Failure> {
    let key = (idempotency.caller.as_str(), idempotency.key.as_str());
    let row = batch.tables().answers.get(key)?;
    row.map(|row| parse(row.value(), "answers", key)).transpose()
}
