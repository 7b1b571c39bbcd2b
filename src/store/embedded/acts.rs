//! Acts on slots, and the answers that are kept for an `Idempotency-Key`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::batch::{Batch, Place};
use super::failure::Failure;
use super::publish::publish;
use super::tables::{parse, read_slot, user_space_range};
use crate::domain::Position;
use crate::domain::act::{Idempotency, SlotActKind};
use crate::domain::journal::Done;
use crate::domain::rule::{self, Change, Decision, hold_answer};
use crate::domain::taken::notices;
use crate::domain::{Code, Refusal, ServerEvent, SlotAct, SlotNumber, SlotRecord, SpaceKey, StoreTime, UserId};
use crate::store::digest::digest_of;
use crate::store::{ActOutcome, ApplyError, CALLS_KEPT, KEEP_MILLIS, KeptCall, Publication};

use redb::ReadableTable;

/// Does an act, or refuses it. A refused act writes nothing.
pub(super) fn apply(batch: &mut Batch<'_>, act: &SlotAct) -> Result<Result<ActOutcome, ApplyError>, Failure> {
    // This comes before the check of the revision: a given answer is repeated even if the schedule has changed since.
    if let Some(answered) = recall_answer(batch, act.idempotency.as_ref())? {
        return Ok(answered.map_err(ApplyError::Refused));
    }
    if act.revision != super::spaces::revision(batch, act.space)? {
        return Ok(Err(ApplyError::Stale));
    }
    let place = Place { space: act.space, day: act.day };
    let live_holds = match &act.kind {
        SlotActKind::Hold { user, .. } => count_live_holds(batch, user, act.space)?,
        _ => rule::LiveHolds::default(),
    };
    let mut view = rule::DayView { records: batch.day_records(place)?, live_holds };
    let outcome = match rule::decide(&view, act, batch.now()) {
        Err(refusal) => return Ok(Err(refusal.into())),
        // A repeat's answer is not kept under its key: the next repeat gets the same answer anyway.
        Ok(Decision::Repeat { version, epoch, hold }) => {
            let at = epoch.map_or_else(|| batch.position(version), |epoch| Position { epoch, version });
            return Ok(Ok(ActOutcome { at, hold, is_repeat: true }));
        }
        Ok(Decision::Write(changes)) => {
            let hold = match act.kind {
                SlotActKind::Hold { .. } | SlotActKind::Extend { .. } => hold_answer(&changes),
                _ => None,
            };
            ActOutcome { at: write(batch, act, &mut view.records, changes)?, hold, is_repeat: false }
        }
    };
    keep_answer(batch, act.space, act.idempotency.as_ref(), &outcome)?;
    Ok(Ok(outcome))
}

/// Writes an act's changes, its entries in the journal, and the notifications to users who lose slots. Answers the position
/// of the last change.
fn write(
    batch: &mut Batch<'_>,
    act: &SlotAct,
    records: &mut BTreeMap<SlotNumber, SlotRecord>,
    changes: Vec<Change>,
) -> Result<Position, Failure> {
    let before = before_changes(records, &changes);
    let (space, day) = (act.space, act.day);
    let at = batch.write_changes(Place { space, day }, records, &changes)?;
    let done = Done { space, day, now: batch.now(), before: &before, changes: &changes, last: &at };
    super::journal::write(batch, space.bucket(), done.entries_of_act(act))?;
    for (user, payload) in notices(&done, act) {
        let data = RawValue::from_string(payload).map_err(|error| Failure::BadRow(error.to_string()))?;
        publish(batch, Publication::ToUser { user, event: ServerEvent::SlotTaken.as_str().into(), data })?;
    }
    Ok(at)
}

/// The records of the slots that are about to change.
pub(super) fn before_changes(
    records: &BTreeMap<SlotNumber, SlotRecord>,
    changes: &[Change],
) -> BTreeMap<SlotNumber, SlotRecord> {
    let numbers = changes.iter().map(|change| change.slot.number);
    numbers.filter_map(|number| Some((number, records.get(&number)?.clone()))).collect()
}

/// How many slots and holds the user has in the space, over all days.
fn count_live_holds(batch: &Batch<'_>, user: &UserId, space: SpaceKey) -> Result<rule::LiveHolds, Failure> {
    let tables = batch.tables();
    let mut records = Vec::new();
    for row in tables.user_holds.range(user_space_range(user, space))? {
        let (_, site, space, day, number) = row?.0.value();
        records.extend(read_slot(&tables.slots, (site, space, day, number))?);
    }
    Ok(rule::count_live_holds(records.iter(), user, batch.now()))
}

/// The stored answer to a call.
#[derive(Serialize, Deserialize)]
struct KeptAnswer {
    /// The call's parts that count, or their digest.
    fingerprint: String,
    /// The answer to the call.
    outcome: ActOutcome,
    /// When the answer is forgotten.
    ends: StoreTime,
    /// The bucket of the act's space; missing in files of 0.1.
    bucket: Option<u8>,
}

/// The stored answer under the key; a refusal if the key was used for another call.
fn recall_answer(
    batch: &Batch<'_>,
    idempotency: Option<&Idempotency>,
) -> Result<Option<Result<ActOutcome, Refusal>>, Failure> {
    let Some(Idempotency { caller, key, fingerprint }) = idempotency else { return Ok(None) };
    let mut kept = read_answer(batch, caller, &digest_of(key))?;
    let mut told = digest_of(fingerprint);
    if kept.is_none() {
        // Files of 0.1 have the key and the call as texts. They stay for a day.
        (kept, told) = (read_answer(batch, caller, key)?, fingerprint.clone());
    }
    let Some(kept) = kept.filter(|kept| batch.now() < kept.ends) else { return Ok(None) };
    if kept.fingerprint != told {
        return Ok(Some(Err(Code::IdempotencyMismatch.into())));
    }
    Ok(Some(Ok(ActOutcome { is_repeat: true, ..kept.outcome })))
}

/// Stores an answer. It replaces one that has ended, or the caller's oldest in the bucket if there are too many.
fn keep_answer(
    batch: &mut Batch<'_>,
    space: SpaceKey,
    idempotency: Option<&Idempotency>,
    outcome: &ActOutcome,
) -> Result<(), Failure> {
    let Some(Idempotency { caller, key, fingerprint }) = idempotency else { return Ok(()) };
    let digest = digest_of(key);
    if let Some(ended) = read_answer(batch, caller, &digest)? {
        forget_answer(batch, ended.ends.as_millis(), caller.as_str(), &digest)?;
    }
    let (bucket, ends) = (space.bucket().get(), batch.now().plus_millis(KEEP_MILLIS));
    let kept = KeptAnswer { fingerprint: digest_of(fingerprint), outcome: outcome.clone(), ends, bucket: Some(bucket) };
    let json = serde_json::to_string(&kept).map_err(|error| Failure::BadRow(error.to_string()))?;
    let ends = ends.as_millis();
    let tables = batch.write();
    tables.answers.insert((caller.as_str(), digest.as_str()), json.as_str())?;
    tables.answer_ends.insert((ends, caller.as_str(), digest.as_str()), ())?;
    tables.answer_order.insert((caller.as_str(), bucket, ends, digest.as_str()), ())?;
    forget_oldest(batch, caller, bucket)
}

/// Forgets the oldest of a caller's answers in a bucket, if there are more than [`CALLS_KEPT`].
fn forget_oldest(batch: &mut Batch<'_>, caller: &UserId, bucket: u8) -> Result<(), Failure> {
    let all = (caller.as_str(), bucket, i64::MIN, "")..(caller.as_str(), bucket + 1, i64::MIN, "");
    let mut order = Vec::new();
    for row in batch.tables().answer_order.range(all)? {
        let row = row?;
        let (_, _, ends, digest) = row.0.value();
        order.push((ends, digest.to_owned()));
    }
    let beyond = order.len().saturating_sub(CALLS_KEPT);
    for (ends, digest) in &order[..beyond] {
        forget_answer(batch, *ends, caller.as_str(), digest)?;
    }
    Ok(())
}

/// Forgets an answer that ends at this instant, in ms.
pub(super) fn forget_answer(batch: &mut Batch<'_>, ends: i64, caller: &str, digest: &str) -> Result<(), Failure> {
    let tables = batch.write();
    tables.answer_ends.remove((ends, caller, digest))?;
    let kept = tables.answers.remove((caller, digest))?.map(|row| parse(row.value(), "answers", (caller, digest)));
    let kept: Option<KeptAnswer> = kept.transpose()?;
    if let Some(bucket) = kept.and_then(|kept| kept.bucket) {
        tables.answer_order.remove((caller, bucket, ends, digest))?;
    }
    Ok(())
}

fn read_answer(batch: &Batch<'_>, caller: &UserId, key: &str) -> Result<Option<KeptAnswer>, Failure> {
    let key = (caller.as_str(), key);
    let row = batch.tables().answers.get(key)?;
    row.map(|row| parse(row.value(), "answers", key)).transpose()
}

/// The calls that are remembered of a caller.
pub(super) fn calls_of(
    answers: &impl ReadableTable<(&'static str, &'static str), &'static str>,
    caller: &UserId,
) -> Result<Vec<KeptCall>, Failure> {
    let mut calls: Vec<KeptCall> = answers_of(answers, caller)?.into_iter().map(|(_, kept)| kept.into()).collect();
    calls.sort_by_key(|call| call.at);
    Ok(calls)
}

/// Forgets all answers of a caller.
pub(super) fn forget_answers_of(batch: &mut Batch<'_>, caller: &UserId) -> Result<bool, Failure> {
    let kept = answers_of(&batch.tables().answers, caller)?;
    let has_any = !kept.is_empty();
    for (digest, kept) in kept {
        forget_answer(batch, kept.ends.as_millis(), caller.as_str(), &digest)?;
    }
    Ok(has_any)
}

fn answers_of(
    answers: &impl ReadableTable<(&'static str, &'static str), &'static str>,
    caller: &UserId,
) -> Result<Vec<(String, KeptAnswer)>, Failure> {
    let mut kept = Vec::new();
    for row in answers.range((caller.as_str(), "")..)? {
        let (key, answer) = row?;
        let (of, digest) = key.value();
        if of != caller.as_str() {
            break;
        }
        kept.push((digest.to_owned(), parse(answer.value(), "answers", key.value())?));
    }
    Ok(kept)
}

impl From<KeptAnswer> for KeptCall {
    fn from(kept: KeptAnswer) -> Self {
        Self { at: kept.ends.plus_millis(-KEEP_MILLIS), position: kept.outcome.at }
    }
}
