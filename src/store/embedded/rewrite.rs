//! Writes the data file anew. A free page keeps its old content until it is used again, and a used page may keep removed
//! data. Only a new file has nothing but its rows.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, StorageError, TableDefinition, TableError};
use redb::{TableHandle, WriteTransaction};
use tokio::sync::oneshot;

use super::failure::Failure;
use super::guarded::Guard;
use super::open::{FILE_NAME, Name, create_private, identity_of, open_guarded, sync_folder};
use super::tables::{
    ANSWER_ENDS, ANSWER_ORDER, ANSWERS, COMMITS, DAYS, ERASING, HEADS, HOLD_ENDS, JOURNAL, LOG, LOG_ENDS, META, PEOPLE,
    READERS, REFERENCES, REGISTERED, SLOTS, SPACES, USER_BOOKINGS, USER_HOLDS, USER_LOG, USER_LOG_ENDS, USERS,
};
use crate::domain::UserId;
use crate::store::StoreError;

/// The most users that are remembered because their rewrite was finished after their callers had gone.
const MOST_REMEMBERED: usize = 1_000;

/// The callers that wait for the file to be written anew at the end of an erasure.
#[derive(Default)]
pub(super) struct Rewrites {
    waiting: Vec<Asked>,
    /// Erased users whose rewrite was finished after their callers had given up. Without this, a file that takes longer
    /// than a call may wait would be written anew at each repeat, and no call would ever succeed.
    done: HashSet<UserId>,
}

/// A caller that waits for the rewrite.
pub(super) struct Asked {
    user: UserId,
    answer: oneshot::Sender<Result<(), StoreError>>,
}

impl Rewrites {
    /// Asks for a rewrite after the erasure of a user; `None` if it was done already.
    pub(super) fn ask(&mut self, user: &UserId) -> Option<oneshot::Receiver<Result<(), StoreError>>> {
        if self.done.remove(user) {
            return None;
        }
        let (answer, answered) = oneshot::channel();
        self.waiting.push(Asked { user: user.clone(), answer });
        Some(answered)
    }

    /// Removes all waiting callers, and answers them.
    pub(super) fn take_waiting(&mut self) -> Vec<Asked> {
        std::mem::take(&mut self.waiting)
    }

    /// Answers one waiting caller.
    pub(super) fn answer(&mut self, asked: Asked, result: Result<(), StoreError>) {
        let is_done = result.is_ok();
        if asked.answer.send(result).is_err() && is_done {
            if self.done.len() >= MOST_REMEMBERED {
                self.done.clear();
            }
            self.done.insert(asked.user);
        }
    }

    /// Whether the erasure of a user is complete except for its answer.
    pub(super) fn is_done_for(&self, user: &UserId) -> bool {
        self.done.contains(user)
    }

    /// Notes that new data of the user was found.
    pub(super) fn found_more_of(&mut self, user: &UserId) {
        self.done.remove(user);
    }
}

/// The name of the new file until it is complete.
const UNFINISHED_NAME: &str = "slotcast.redb.anew";

/// A new file that has replaced the old one.
pub(super) struct Rewritten {
    pub(super) database: Database,
    pub(super) name: Name,
}

/// Copies all committed data into a new file, which then takes the old one's name. Nobody else may write meanwhile. After a
/// failure, either file may have the name. Both have the same commits, so it is enough to open the file again.
pub(super) fn write_anew(old: &Database, folder: &Path) -> Result<Rewritten, Failure> {
    let (file, unfinished) = (folder.join(FILE_NAME), folder.join(UNFINISHED_NAME));
    forget_unfinished(folder);
    let written = fill(old, &unfinished).and_then(|(database, guard)| {
        // The operator may have set other permissions than the default.
        let rights = fs::metadata(&file).map_err(StorageError::Io)?.permissions();
        fs::set_permissions(&unfinished, rights).map_err(StorageError::Io)?;
        fs::rename(&unfinished, &file).map_err(StorageError::Io)?;
        sync_folder(folder).map_err(StorageError::Io)?;
        Ok(Rewritten { database, name: Name::of(&file, guard).map_err(StorageError::Io)? })
    });
    if written.is_err() {
        forget_unfinished(folder);
    }
    written
}

/// Removes the unfinished new file of a killed process. Only the process that has the data file open may do this.
pub(super) fn forget_unfinished(folder: &Path) {
    // Usually there is none.
    let _ = fs::remove_file(folder.join(UNFINISHED_NAME));
}

fn fill(old: &Database, unfinished: &Path) -> Result<(Database, Arc<Guard>), Failure> {
    create_private(unfinished).map_err(StorageError::Io)?;
    let (database, guard) = open_guarded(unfinished)?;
    let identity = identity_of(&fs::metadata(unfinished).map_err(StorageError::Io)?);
    let (from, into) = (old.begin_read()?, database.begin_write()?);
    copy_all(&from, &into)?;
    into.open_table(META)?.insert("identity", identity.as_str())?;
    into.commit()?;
    guard.note_written().map_err(StorageError::Io)?;
    Ok((database, guard))
}

/// Copies the named tables, and fails if there is another one.
macro_rules! copy_tables {
    ($from:expr, $into:expr, $($table:ident),*) => {{
        let known = [$($table.name()),*];
        for table in $from.list_tables()? {
            if !known.contains(&table.name()) {
                return Err(Failure::BadRow(format!("table {}, which `copy_all` does not copy", table.name())));
            }
        }
        $(copy($from, $into, $table)?;)*
    }};
}

/// Copies all tables of `tables.rs`. A new table must be added here, too.
fn copy_all(from: &ReadTransaction, into: &WriteTransaction) -> Result<(), Failure> {
    copy_tables!(
        from,
        into,
        META,
        COMMITS,
        HEADS,
        LOG,
        LOG_ENDS,
        SPACES,
        REGISTERED,
        SLOTS,
        DAYS,
        HOLD_ENDS,
        USER_HOLDS,
        USER_BOOKINGS,
        ANSWERS,
        ANSWER_ENDS,
        ANSWER_ORDER,
        USERS,
        USER_LOG,
        USER_LOG_ENDS,
        JOURNAL,
        PEOPLE,
        REFERENCES,
        READERS,
        ERASING
    );
    Ok(())
}

fn copy<K: redb::Key + 'static, V: redb::Value + 'static>(
    from: &ReadTransaction,
    into: &WriteTransaction,
    table: TableDefinition<'_, K, V>,
) -> Result<(), Failure> {
    let rows = match from.open_table(table) {
        Ok(rows) => rows,
        Err(TableError::TableDoesNotExist(_)) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let mut copy = into.open_table(table)?;
    for row in rows.iter()? {
        let (key, value) = row?;
        copy.insert(key.value(), value.value())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::*;
    use crate::store::embedded::open::builder;
    use crate::store::embedded::tables::Tables;

    fn in_memory() -> Database {
        builder().create_with_backend(InMemoryBackend::new()).unwrap()
    }

    #[test]
    fn every_table_is_copied() {
        let (old, new) = (in_memory(), in_memory());
        let transaction = old.begin_write().unwrap();
        Tables::open(&transaction).unwrap();
        transaction.open_table(META).unwrap().insert("format", "2").unwrap();
        transaction.open_table(COMMITS).unwrap().insert((), 7).unwrap();
        transaction.commit().unwrap();
        let into = new.begin_write().unwrap();
        copy_all(&old.begin_read().unwrap(), &into).unwrap();
        into.commit().unwrap();
        let names = |database: &Database| -> Vec<String> {
            let transaction = database.begin_read().unwrap();
            let mut names: Vec<_> = transaction.list_tables().unwrap().map(|table| table.name().to_owned()).collect();
            names.sort();
            names
        };
        assert_eq!(names(&new), names(&old));
        let copy = new.begin_read().unwrap().open_table(COMMITS).unwrap();
        assert_eq!(copy.get(()).unwrap().unwrap().value(), 7);
    }
}
