//! Reading the journal: who did what, in order within a space.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::app::App;
use crate::auth::{Claims, Role};
use crate::domain::{Bucket, Code, JournalEntry, Refusal, SiteId};
use crate::journal::filter::Filter;
use crate::journal::{Begins, Cursor, JournalRead, ReadError, read};
use crate::store::refuse::unavailable;
use crate::telemetry::metrics::InFlight;

/// The number of entries if the caller names none, and the most that a caller may ask for.
pub const LIMITS: (usize, usize) = (100, 500);

/// The longest that a call waits.
pub const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The parameters of a read.
#[derive(Clone, Debug, Default)]
pub struct JournalRequest {
    /// The one site to read. With it, `filter.sites` is ignored.
    pub site: Option<SiteId>,
    /// Selects the entries.
    pub filter: Filter,
    /// The cursor at which an earlier call stopped.
    pub after: Option<String>,
    /// How many entries at most.
    pub limit: Option<usize>,
    /// How long to wait for the first entry.
    pub wait: Duration,
}

/// Entries, and where to go on.
#[derive(Debug, Serialize)]
pub struct JournalAnswer {
    /// In order within a space.
    pub entries: Vec<JournalEntry>,
    /// The cursor for `after`, even if there is no entry.
    pub next: String,
    /// Whether this call stopped before the end.
    pub more: bool,
}

/// The journal's entries for a caller who is staff of the sites. Refusals: `malformed` for a text that is not a cursor,
/// `gone` for a cursor from before the oldest entry, `not_found` if no journal is kept.
pub async fn read_journal(app: &App, caller: &Claims, request: JournalRequest) -> Result<JournalAnswer, Refusal> {
    let limit = request.limit.unwrap_or(LIMITS.0);
    if !(1..=LIMITS.1).contains(&limit) {
        return Err(Refusal::because(Code::Malformed, format_args!("limit: 1-{}", LIMITS.1)));
    }
    if request.wait > LONGEST_WAIT {
        return Err(Refusal::because(Code::Malformed, format_args!("wait: 0-{}", LONGEST_WAIT.as_secs())));
    }
    let after = request.after.as_deref().map(|text| {
        Cursor::decode(text).ok_or_else(|| Refusal::because(Code::Malformed, "after: not a place in the journal"))
    });
    let after = after.transpose()?;
    let sites = allowed_sites(caller, request.site)?;
    if !app.config.journal.is_kept() {
        return Err(Code::NotFound.into());
    }
    let filter = Filter { sites, ..request.filter };
    read_or_wait(app, &filter, after, limit, request.wait).await
}

/// The sites that the caller asked for and may read; `None` for all.
fn allowed_sites(caller: &Claims, asked: Option<SiteId>) -> Result<Option<BTreeSet<SiteId>>, Refusal> {
    let own = caller.sites.as_ref();
    let is_allowed = match (caller.role, asked) {
        (None, _) => false,
        (Some(_), Some(site)) => own.is_some_and(|own| own.contains(&site)) || caller.is_staff_everywhere(),
        (Some(Role::SiteManager), None) => own.is_some(),
        (Some(_), None) => true,
    };
    if !is_allowed {
        return Err(Code::Forbidden.into());
    }
    Ok(asked.map(|site| [site].into()).or_else(|| own.cloned()))
}

async fn read_or_wait(
    app: &App,
    filter: &Filter,
    after: Option<Cursor>,
    limit: usize,
    wait: Duration,
) -> Result<JournalAnswer, Refusal> {
    let (deadline, buckets) = (Instant::now() + wait, filter.buckets());
    // Starts listening before the first read, so that no entry slips in between the two.
    let mut waiting = match wait {
        Duration::ZERO => None,
        _ => Some(app.journal.wait().ok_or(Code::RateLimited)?),
    };
    let _counted = waiting.as_ref().map(|_| InFlight::enter(&app.metrics.journal_waiting));
    let mut read = read_once(app, filter, &buckets, after.as_ref(), limit).await?;
    while read.entries.is_empty()
        && !read.more
        && !app.health.is_draining()
        && let Some(waiting) = &mut waiting
    {
        let Ok(tails) = tokio::time::timeout_at(deadline, waiting.next()).await else { break };
        if tails.is_some_and(|tails| has_moved(&tails, &buckets, &read.next)) {
            read = read_once(app, filter, &buckets, Some(&read.next), limit).await?;
        }
    }
    app.metrics.journal_entries.inc_by(read.entries.len() as u64);
    Ok(JournalAnswer { entries: read.entries, next: read.next.encode(), more: read.more })
}

fn has_moved(tails: &[u64], buckets: &[Bucket], seen: &Cursor) -> bool {
    let tail = |bucket: &Bucket| tails.get(usize::from(bucket.get())).copied();
    buckets.iter().any(|bucket| seen.place(*bucket).map(|place| place.number) != tail(bucket))
}

async fn read_once(
    app: &App,
    filter: &Filter,
    buckets: &[Bucket],
    after: Option<&Cursor>,
    limit: usize,
) -> Result<JournalRead, Refusal> {
    // Entries older than this are about to be deleted, and are not shown.
    let oldest = app.config.journal.oldest(app.clock.now());
    let wanted = |entry: &JournalEntry| entry.at >= oldest && filter.wants(entry);
    let result = read(app.store.as_ref(), buckets, after, wanted, limit).await;
    result.map_err(|error| match error {
        ReadError::Gone(begins) => gone(&begins),
        ReadError::Store(error) => unavailable(&error),
    })
}

fn gone(begins: &Begins) -> Refusal {
    let refusal = match begins.at {
        Some(at) => {
            let (usual, at) = (Refusal::new(Code::Gone), at.rfc3339());
            let message = format!("{}: il registro comincia {at}", usual.message);
            Refusal { message, detail: format!("the journal begins at {at}"), ..usual }
        }
        None => Code::Gone.into(),
    };
    Refusal { next: Some(begins.cursor.encode()), ..refusal }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{StoreTime, UserId};

    fn caller(role: Option<Role>, sites: Option<&[u64]>) -> Claims {
        let sites = sites.map(|sites| sites.iter().map(|site| SiteId::new(*site).unwrap()).collect());
        Claims { user: UserId::new("9").unwrap(), role, sites, expires: StoreTime::from_millis(0) }
    }

    #[test]
    fn staff_reads_the_sites_of_the_token() {
        let allowed = |role, sites, asked: Option<u64>| {
            allowed_sites(&caller(role, sites), asked.and_then(SiteId::new))
                .map(|sites| sites.map(|sites| sites.into_iter().map(SiteId::get).collect::<Vec<_>>()))
                .map_err(|refusal| refusal.code)
        };
        let (manager, of_site) = (Some(Role::Manager), Some(Role::SiteManager));
        assert_eq!(allowed(manager, None, None), Ok(None));
        assert_eq!(allowed(manager, None, Some(3)), Ok(Some(vec![3])));
        for role in [manager, of_site] {
            assert_eq!(allowed(role, Some(&[1, 2]), None), Ok(Some(vec![1, 2])));
            assert_eq!(allowed(role, Some(&[1, 2]), Some(2)), Ok(Some(vec![2])));
            assert_eq!(allowed(role, Some(&[1, 2]), Some(3)), Err(Code::Forbidden));
        }
        for forbidden in
            [(of_site, None, None), (of_site, None, Some(1)), (None, None, None), (None, Some(&[1][..]), Some(1))]
        {
            assert_eq!(allowed(forbidden.0, forbidden.1, forbidden.2), Err(Code::Forbidden), "{forbidden:?}");
        }
    }
}
