//! Shortens holds if the machine's clock was set back while no node had the file open.

use redb::{ReadableTable, WriteTransaction};

use super::failure::Failure;
use super::tables::{HOLD_ENDS, META, SLOTS, parse_slot};
use crate::domain::StoreTime;
use crate::domain::slot::SlotState;

/// The row of the file that has the instant of its last commit, in ms. Files from before 0.2 do not have it.
const LAST_COMMIT: &str = "clock";

/// Notes the instant of a commit, in the transaction that is about to be committed.
pub(super) fn note_instant(transaction: &WriteTransaction, now: StoreTime) -> Result<(), Failure> {
    transaction.open_table(META)?.insert(LAST_COMMIT, now.as_millis().to_string().as_str())?;
    Ok(())
}

/// The instant of the file's last commit.
fn last_instant(transaction: &WriteTransaction) -> Result<StoreTime, Failure> {
    let meta = transaction.open_table(META)?;
    let noted = meta.get(LAST_COMMIT)?.and_then(|row| row.value().parse().ok());
    Ok(StoreTime::from_millis(noted.unwrap_or(i64::MIN)))
}

/// Shortens holds that would last longer from now than when their end was set, because the clock was set back. A hold
/// that had ended when the file was last written ends at once, because its slot may have been shown as free. Answers
/// how many holds were shortened.
pub(super) fn shorten_holds(transaction: &WriteTransaction, now: StoreTime) -> Result<usize, Failure> {
    let last = last_instant(transaction)?;
    let (mut ends, mut slots) = (transaction.open_table(HOLD_ENDS)?, transaction.open_table(SLOTS)?);
    let rows = ends.iter()?.map(|row| row.map(|(key, _)| key.value()));
    let mut shortened = 0;
    for key @ (bucket, until, site, space, day, slot) in rows.collect::<Result<Vec<_>, _>>()? {
        let slot_key = (site, space, day, slot);
        let Some(mut record) = slots.get(slot_key)?.and_then(|row| parse_slot(row.value())) else { continue };
        let SlotState::Held(hold) = &mut record.state else { continue };
        let nearer = if hold.until <= last { hold.until.min(now) } else { hold.ends(now) };
        if hold.until.as_millis() != until || nearer >= hold.until {
            continue;
        }
        hold.until = nearer;
        let json = serde_json::to_string(&record).map_err(|error| Failure::BadRow(error.to_string()))?;
        slots.insert(slot_key, json.as_str())?;
        ends.remove(key)?;
        ends.insert((bucket, nearer.as_millis(), site, space, day, slot), ())?;
        shortened += 1;
    }
    if shortened > 0 {
        tracing::warn!(
            holds = shortened,
            "the clock was set back while holds were live: a hold that had ended stays ended, and each other one ends at most \
             its own length from now"
        );
    }
    Ok(shortened)
}
