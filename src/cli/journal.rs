//! `slotcast journal`: prints who did what, one entry a line, read from the store itself.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, StoreKind};
use crate::domain::{JournalAct, JournalEntry, SiteId, SpaceId, StoreTime, UserId};
use crate::journal::filter::{Filter, parse_acts, parse_bound};
use crate::journal::{Cursor, ReadError, read};
use crate::store::embedded::OpenError;
use crate::store::{SlotStore, StoreError};

/// How many entries are read at a time.
const AT_ONCE: usize = 500;

/// How often the store is asked for more.
const EVERY: Duration = Duration::from_millis(500);

/// Which entries.
#[derive(Args, Clone, Debug, Default, PartialEq)]
pub struct JournalArgs {
    /// Print each new entry, too, until SIGTERM or SIGINT
    #[arg(long)]
    pub follow: bool,
    /// Only entries of this site
    #[arg(long, value_parser = parse_site)]
    pub site: Option<SiteId>,
    /// Only entries of spaces with this id
    #[arg(long, value_parser = parse_space)]
    pub space: Option<SpaceId>,
    /// Only entries of this user, who has or had the slots, or lost them to staff
    #[arg(long, value_parser = parse_user)]
    pub user: Option<UserId>,
    /// Only entries of these acts, separated by commas, such as book,cancel
    #[arg(long, value_parser = parse_act_list)]
    pub act: Option<ActList>,
    /// Only entries from this day (UTC) on, or from this instant (RFC 3339) on
    #[arg(long, value_parser = parse_from)]
    pub from: Option<StoreTime>,
    /// Only entries up to the end of this day (UTC), or before this instant (RFC 3339)
    #[arg(long, value_parser = parse_to)]
    pub to: Option<StoreTime>,
}

/// A list of acts.
#[derive(Clone, Debug, PartialEq)]
pub struct ActList(BTreeSet<JournalAct>);

impl JournalArgs {
    fn filter(&self) -> Filter {
        Filter {
            sites: self.site.map(|site| [site].into()),
            space: self.space,
            user: self.user.clone(),
            acts: self.act.clone().map(|acts| acts.0),
            from: self.from,
            until: self.to,
        }
    }
}

/// Prints the journal. With `follow` it also prints new entries, until `shutdown` is cancelled or the output's reader
/// is gone. A store that fails is asked again.
///
/// # Errors
///
/// No journal is kept, or the store cannot be opened, for example because a node has its file. Or the store fails; with
/// `follow`, only before the first read.
pub async fn journal(
    config: &Config,
    args: &JournalArgs,
    shutdown: CancellationToken,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    if !config.journal.is_kept() {
        bail!("no journal is kept, because SLOTCAST_JOURNAL_DAYS is 0");
    }
    let store = super::serve::open_store(config).map_err(|error| explain_lock(error, config))?;
    let (filter, mut after, mut is_away) = (args.filter(), None, false);
    while !shutdown.is_cancelled() {
        match print_some(store.as_ref(), config, &filter, &mut after, out).await {
            Ok(is_at_end) => {
                is_away = false;
                if !is_at_end {
                    continue;
                }
                if !args.follow {
                    break;
                }
            }
            Err(PrintError::Closed) => break,
            Err(PrintError::Store(error)) if args.follow && after.is_some() => {
                if !is_away {
                    tracing::warn!(%error, "cannot read the journal; will go on when the store answers");
                }
                is_away = true;
            }
            Err(PrintError::Store(error)) => return Err(error).context("cannot read the journal"),
            Err(PrintError::Output(error)) => return Err(error).context("the journal cannot be printed"),
        }
        // The shutdown or the next read, whichever comes first.
        let _ = tokio::time::timeout(EVERY, shutdown.cancelled()).await;
    }
    Ok(())
}

/// Why entries cannot be printed.
enum PrintError {
    /// The reader of the output has gone away, for example `head`.
    Closed,
    /// Writing the output failed.
    Output(io::Error),
    /// The store fails.
    Store(StoreError),
}

impl From<io::Error> for PrintError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { PrintError::Closed } else { PrintError::Output(error) }
    }
}

impl From<StoreError> for PrintError {
    fn from(error: StoreError) -> Self {
        PrintError::Store(error)
    }
}

/// Prints the next entries, and answers whether these were the last.
async fn print_some(
    store: &dyn SlotStore,
    config: &Config,
    filter: &Filter,
    after: &mut Option<Cursor>,
    out: &mut dyn Write,
) -> Result<bool, PrintError> {
    let oldest = config.journal.oldest(store.ping().await?);
    let wanted = |entry: &JournalEntry| entry.at >= oldest && filter.wants(entry);
    match read(store, &filter.buckets(), after.as_ref(), wanted, AT_ONCE).await {
        Ok(read) => {
            for entry in &read.entries {
                serde_json::to_writer(&mut *out, entry).map_err(io::Error::from)?;
                writeln!(out)?;
            }
            out.flush()?;
            *after = Some(read.next);
            Ok(!read.more)
        }
        Err(ReadError::Gone(begins)) => {
            tracing::warn!("entries were trimmed before they were printed; goes on with the oldest one that is kept");
            *after = Some(begins.cursor);
            Ok(false)
        }
        Err(ReadError::Store(error)) => Err(error.into()),
    }
}

fn parse_site(text: &str) -> Result<SiteId, &'static str> {
    text.parse().map_err(|()| "a site's id, such as 3")
}

fn parse_space(text: &str) -> Result<SpaceId, &'static str> {
    text.parse().map_err(|()| "a space's id, such as 12")
}

fn parse_user(text: &str) -> Result<UserId, &'static str> {
    UserId::new(text).ok_or("a user's id")
}

fn parse_act_list(text: &str) -> Result<ActList, String> {
    let names = || JournalAct::ALL.map(JournalAct::as_str).join(", ");
    parse_acts(text).map(ActList).ok_or_else(|| format!("one or more of {}, a comma between", names()))
}

fn parse_from(text: &str) -> Result<StoreTime, &'static str> {
    parse_bound(text)
        .map(|(start, _)| start)
        .ok_or("a day such as 2026-11-30, or an instant such as 2026-11-30T12:00:00Z")
}

fn parse_to(text: &str) -> Result<StoreTime, &'static str> {
    parse_bound(text).map(|(_, end)| end).ok_or("a day such as 2026-11-30, or an instant such as 2026-11-30T12:00:00Z")
}

/// A node that has the file open answers calls for its journal, so the error says so.
fn explain_lock(error: anyhow::Error, config: &Config) -> anyhow::Error {
    match (&config.store.kind, error.downcast_ref::<OpenError>()) {
        (StoreKind::Embedded(_), Some(OpenError::Locked { .. })) => {
            error.context("a node is running on this file: use GET /api/journal of that node (a staff token is needed)")
        }
        _ => error,
    }
}
