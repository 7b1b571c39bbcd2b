//! Why the file could not be read or written, until it becomes a [`StoreError`] at the store's edge.

use crate::store::StoreError;

/// The storage failed, or holds what this program never wrote.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// redb says so.
    #[error(transparent)]
    Storage(redb::Error),
    /// A row does not hold together.
    #[error("the data file has a row that cannot be read: {0}")]
    BadRow(String),
    /// A job panicked; its batch was given up.
    #[error("a write panicked and was undone")]
    Panicked,
    /// The file could not be opened again after a failure.
    #[error("the data file is closed after a failure: {0}")]
    Closed(String),
}

impl Failure {
    /// Whether redb may refuse everything until the file is opened again.
    pub(super) fn needs_reopening(&self) -> bool {
        matches!(self, Failure::Storage(_))
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        StoreError::new("embedded store", failure)
    }
}

macro_rules! from_redb {
    ($($error:ident),*) => {
        $(impl From<redb::$error> for Failure {
            fn from(error: redb::$error) -> Self {
                Failure::Storage(error.into())
            }
        })*
    };
}

from_redb!(StorageError, TableError, TransactionError, CommitError, DatabaseError, SetDurabilityError);
