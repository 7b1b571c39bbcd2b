//! Why the file could not be read or written. At the store's edge this becomes a [`StoreError`].

use crate::random::NoRandomBytes;
use crate::store::StoreError;

/// The storage failed, or holds what this program never wrote.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// redb failed.
    #[error(transparent)]
    Storage(redb::Error),
    /// A row is inconsistent.
    #[error("the data file has a row that cannot be read: {0}")]
    BadRow(String),
    /// A job panicked, and its batch was undone.
    #[error("a write panicked and was undone")]
    Panicked,
    /// The file lost its name, or another program wrote to it: see [`super::open::Name`].
    #[error("the data file was removed, replaced or written to by another program while it was in use")]
    Gone,
    /// An epoch or an id could not be made.
    #[error(transparent)]
    NoRandomBytes(#[from] NoRandomBytes),
    /// A write failed not long ago, and would fail again.
    #[error("writes to the data file are refused because a write failed: {0}")]
    Refused(String),
    /// The file could not be opened again after a failure.
    #[error("the data file is closed after a failure: {0}")]
    Closed(String),
}

impl Failure {
    /// Whether reopening the file may end the failure.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Failure::Storage(_) | Failure::NoRandomBytes(_) | Failure::Closed(_))
    }

    /// Whether the failure was known before this call.
    pub(super) fn is_old(&self) -> bool {
        matches!(self, Failure::Refused(_) | Failure::Closed(_))
    }

    /// Whether redb may refuse all calls until the file is opened again.
    pub(super) fn needs_reopening(&self) -> bool {
        matches!(self, Failure::Storage(_) | Failure::Gone)
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
