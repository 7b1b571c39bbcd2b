//! Opens the data file: checks it, and finds out whether it continues what this node left.
//!
//! **Invariant:** a file that this program cannot use is never written to. `TrialBackend` looks at it first, and only a
//! file that passes is opened for writing. A new file gets its name when it is complete.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, WriteTransaction};

use super::batch::booker_of;
use super::failure::Failure;
use super::guarded::{Guard, GuardedBackend};
use super::mark::Mark;
use super::set_back::shorten_holds;
use super::tables::{
    COMMITS, FORMAT, HEADS, LOG, LOG_ENDS, META, OLDEST_FORMAT, SLOTS, Tables, USER_BOOKINGS, parse_slot,
};
use super::trial::TrialBackend;
use crate::random;

/// The data file's name in its folder.
pub const FILE_NAME: &str = "slotcast.redb";

/// The file beside it that has the number of its commits: see `mark.rs`.
pub const MARK_NAME: &str = "slotcast.mark";

/// The most bytes of the file that are cached in memory.
const CACHE_BYTES: usize = 128 * 1024 * 1024;

/// Why the data file could not be opened. In each case the file is unchanged.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error(
        "{file} is locked by another process: one node at a time may use it. Stop it, or set SLOTCAST_DATA_DIR to \
         another folder"
    )]
    Locked {
        /// The data file.
        file: PathBuf,
    },
    /// It is damaged, cut short, or not a data file at all.
    #[error(
        "{file} is not a whole data file ({cause}). It was left as it is: restore a backup in its place, or move it away \
         to start with an empty store"
    )]
    Corrupt {
        /// The data file.
        file: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// A newer program wrote it.
    #[error(
        "{file} has format {found}, and this version of slotcast knows none above {known}. It was left as it is: run the \
         newer version, or restore a backup from before it"
    )]
    NewerFormat {
        /// The data file.
        file: PathBuf,
        /// Its format.
        found: String,
        /// The newest format that this program knows.
        known: u64,
    },
    /// Another program's database.
    #[error(
        "{file} is a database, but not slotcast's. It was left as it is: move it away, or set SLOTCAST_DATA_DIR to another \
         folder"
    )]
    Foreign {
        /// The data file.
        file: PathBuf,
    },
    /// The folder is not a folder, cannot be made, or may not be used.
    #[error(
        "{folder} cannot be used as the data folder: {cause}. Set SLOTCAST_DATA_DIR to a folder that this user may write \
         to"
    )]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The system refused.
    #[error("{file} cannot be opened: {cause}. Check the disk, and the rights of this user to the file")]
    Io {
        /// The data file, or the mark beside it.
        file: PathBuf,
        /// What the system, or redb, said.
        cause: String,
    },
}

/// A data file that is ready for use.
pub(super) struct Opened {
    pub(super) database: Database,
    pub(super) epoch: Arc<str>,
    /// How many commits it has.
    pub(super) commits: u64,
    /// Whether it was moved to the newest format.
    pub(super) was_moved: bool,
    pub(super) mark: Mark,
    pub(super) name: Name,
}

/// The name of the open file. If somebody removes or replaces the file, the open one has no name any more. Whatever is
/// written to it is lost with the process.
#[derive(Debug)]
pub(super) struct Name {
    file: PathBuf,
    place: String,
    guard: Arc<Guard>,
}

impl Name {
    pub(super) fn of(file: &Path, guard: Arc<Guard>) -> io::Result<Self> {
        Ok(Self { file: file.into(), place: place_of(&fs::metadata(file)?), guard })
    }

    /// Whether the name still leads to the open file, in the state in which this node left it.
    pub(super) fn is_there(&self) -> bool {
        let leads_to_it = match fs::metadata(&self.file) {
            Ok(metadata) => place_of(&metadata) == self.place,
            // Any other error, such as too many open files, says nothing about the file.
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        };
        leads_to_it && self.guard.is_untouched()
    }

    /// Notes the state of the file after a transaction of this node, committed or not.
    pub(super) fn note_written(&self) {
        if let Err(error) = self.guard.note_written() {
            tracing::warn!(%error, "the data file cannot be looked at");
        }
    }
}

/// Opens a checked file, guarded against other writers.
pub(super) fn open_guarded(file: &Path) -> Result<(Database, Arc<Guard>), DatabaseError> {
    let opened = OpenOptions::new().read(true).write(true).open(file).map_err(StorageError::Io)?;
    let backend = GuardedBackend::new(opened)?;
    let guard = backend.guard();
    Ok((builder().create_with_backend(backend)?, guard))
}

/// What to do if there is no file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absent {
    /// Make one. The node starts for the first time.
    Create,
    /// Fail. The file was there a moment ago.
    Refuse,
}

/// Opens the data file of a folder. Begins a new epoch unless it can prove that the file is in the state in which this
/// node left it.
pub(super) fn open(folder: &Path, absent: Absent) -> Result<Opened, OpenError> {
    let file = folder.join(FILE_NAME);
    let mark = folder.join(MARK_NAME);
    if !exists(&file, folder)? {
        if absent == Absent::Refuse {
            return Err(OpenError::Io { file, cause: "it is gone".into() });
        }
        create_folder(folder)?;
        create_file(folder, &file)?;
    }
    check(&file)?;

    let (database, guard) = open_guarded(&file).map_err(|error| database_error(&file, error))?;
    let continued = continue_file(&database, &file, Mark::read(&mark)).map_err(|failure| io_error(&file, failure))?;
    let open_mark = Mark::open(&mark, continued.commits).map_err(|error| io_error(&mark, error))?;
    guard.note_written().map_err(|error| io_error(&file, error))?;
    // The file is locked now. Only a program that ignores locks can have put another file there in between.
    let name = Name::of(&file, guard).map_err(|error| io_error(&file, error))?;
    super::rewrite::forget_unfinished(folder);
    let Continued { epoch, commits, was_moved } = continued;
    Ok(Opened { database, epoch, commits, was_moved, mark: open_mark, name })
}

pub(super) fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

fn exists(file: &Path, folder: &Path) -> Result<bool, OpenError> {
    match file.try_exists() {
        Ok(exists) => Ok(exists),
        Err(error) => Err(OpenError::Folder { folder: folder.into(), cause: error }),
    }
}

fn create_folder(folder: &Path) -> Result<(), OpenError> {
    fs::create_dir_all(folder).map_err(|cause| OpenError::Folder { folder: folder.into(), cause })
}

/// Makes a complete file under another name, and then links it to its own name, which replaces nothing. If another
/// process was faster, that process's file stays, and this process opens it.
fn create_file(folder: &Path, file: &Path) -> Result<(), OpenError> {
    let in_folder = |cause| OpenError::Folder { folder: folder.into(), cause };
    let unfinished = folder.join(format!("{FILE_NAME}.{}.new", random::hex().map_err(|error| io_error(file, error))?));
    create_private(&unfinished).map_err(in_folder)?;
    let written = fill_file(&unfinished).map_err(|failure| io_error(&unfinished, failure));
    let linked = written.and_then(|()| match fs::hard_link(&unfinished, file) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // Not every file system has links. A rename is atomic, too. It may only replace the file of another process that
        // starts for the first time now.
        Err(_) if !file.exists() => fs::rename(&unfinished, file).map_err(in_folder),
        Err(_) => Ok(()),
    });
    // After a rename it is gone already.
    let _ = fs::remove_file(&unfinished);
    linked?;
    sync_folder(folder).map_err(in_folder)
}

/// Makes an empty file that only this user may read: anybody who reads a hold's token can end the hold.
pub(super) fn create_private(file: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.write(true).create_new(true).open(file).map(drop)
}

/// Writes the tables and the meta rows of an empty store, but no identity. The first opening sees by the missing
/// identity that the file was never used.
fn fill_file(file: &Path) -> Result<(), Failure> {
    let database = builder().create(file)?;
    let transaction = database.begin_write()?;
    Tables::open(&transaction)?;
    transaction.open_table(COMMITS)?.insert((), 0)?;
    transaction.open_table(META)?.insert("format", FORMAT.to_string().as_str())?;
    index_bookings(&transaction)?;
    transaction.commit()?;
    Ok(database.close()?)
}

#[cfg(unix)]
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
pub(super) fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}

/// Checks that a file is complete, ours, and of our format, without changing it. Reads every page and compares its
/// checksum.
fn check(file: &Path) -> Result<(), OpenError> {
    // redb may panic on bytes that it never wrote.
    catch_unwind(AssertUnwindSafe(|| check_contents(file)))
        .unwrap_or_else(|_| Err(corrupt(file, "it makes the database library fail")))
}

fn check_contents(file: &Path) -> Result<(), OpenError> {
    let opened = OpenOptions::new().read(true).write(true).open(file).map_err(|error| io_error(file, error))?;
    let length = opened.metadata().map_err(|error| io_error(file, error))?.len();
    if length == 0 {
        return Err(corrupt(file, "it is empty"));
    }
    let backend = FileBackend::new(opened).map_err(|error| database_error(file, error))?;
    let trial = TrialBackend::new(backend).map_err(|error| io_error(file, error))?;
    let mut builder = builder();
    builder.set_check_integrity_on_open(true);
    let database = builder.create_with_backend(trial).map_err(|error| database_error(file, error))?;
    let format = read_format(&database).map_err(|failure| corrupt(file, failure))?;
    let Some(format) = format else { return Err(OpenError::Foreign { file: file.into() }) };
    match format.parse::<u64>() {
        Ok(OLDEST_FORMAT..=FORMAT) => {}
        Ok(found) if found > FORMAT => {
            return Err(OpenError::NewerFormat { file: file.into(), found: format, known: FORMAT });
        }
        _ => return Err(corrupt(file, format_args!("its format is {format:?}"))),
    }
    check_tables(&database).map_err(|failure| corrupt(file, failure))
}

/// The format; `None` if the file is not a database of ours.
fn read_format(database: &Database) -> Result<Option<String>, Failure> {
    let transaction = database.begin_read()?;
    let meta = match transaction.open_table(META) {
        Ok(meta) => meta,
        Err(redb::TableError::Storage(error)) => return Err(error.into()),
        Err(_) => return Ok(None),
    };
    Ok(meta.get("format")?.map(|format| format.value().to_owned()))
}

/// Opens every table, so that a table of a wrong type is found now. This runs on the trial view, where making a missing
/// table does no harm.
fn check_tables(database: &Database) -> Result<(), Failure> {
    let transaction = database.begin_write()?;
    Tables::open(&transaction)?;
    transaction.open_table(COMMITS)?;
    Ok(transaction.abort()?)
}

/// The epoch under which the file continues, and its number of commits.
struct Continued {
    epoch: Arc<str>,
    commits: u64,
    was_moved: bool,
}

/// Makes the file this node's own: checks whether it is the file that this node left.
fn continue_file(database: &Database, file: &Path, mark: Option<u64>) -> Result<Continued, Failure> {
    let identity = identity_of(&fs::metadata(file).map_err(StorageError::Io)?);
    let transaction = database.begin_write()?;
    let commits = read_commits(&transaction)?;
    let (stored_epoch, stored_identity, format, indexed) = {
        let meta = transaction.open_table(META)?;
        let text = |key| -> Result<Option<String>, Failure> { Ok(meta.get(key)?.map(|row| row.value().to_owned())) };
        (text("epoch")?, text("identity")?, text("format")?, text("bookings")?)
    };
    let shortened = shorten_holds(&transaction, crate::clock::wall())?;
    // A power cut leaves a mark that is behind. A mark that is ahead or missing proves nothing. If a hold was
    // shortened, the board changed without an event, so its version would name two boards.
    let proved = shortened == 0
        && stored_identity.as_deref() == Some(identity.as_str())
        && mark.is_some_and(|mark| mark <= commits);
    let has_newest_format = format.as_deref() == Some(FORMAT.to_string().as_str());
    match stored_epoch {
        Some(epoch) if proved && has_newest_format && indexed.is_some() => {
            transaction.abort()?;
            Ok(Continued { epoch: epoch.into(), commits, was_moved: false })
        }
        Some(epoch) if proved => {
            let commits = commit_newest(transaction, commits, has_newest_format)?;
            Ok(Continued { epoch: epoch.into(), commits, was_moved: !has_newest_format })
        }
        stored => {
            if stored.is_some() {
                tracing::warn!(
                    store.commits = commits,
                    store.mark = mark,
                    "the data file was restored, copied or changed since slotcast wrote to it; beginning a new epoch"
                );
            }
            let epoch = random::hex()?;
            start_epoch(&transaction, &epoch, &identity)?;
            let commits = commit_newest(transaction, commits, has_newest_format)?;
            Ok(Continued { epoch: epoch.into(), commits, was_moved: !has_newest_format })
        }
    }
}

/// Commits the file in the newest format, with all of its indexes. Answers the new number of commits.
fn commit_newest(transaction: WriteTransaction, commits: u64, has_newest_format: bool) -> Result<u64, Failure> {
    if !has_newest_format {
        move_to_newest(&transaction)?;
    }
    index_bookings(&transaction)?;
    let commits = commits + 1;
    count_commit(&transaction, commits)?;
    transaction.commit()?;
    Ok(commits)
}

/// Moves the file to the newest format, which older programs refuse. The rows of format 1 are valid rows of format 2.
fn move_to_newest(transaction: &WriteTransaction) -> Result<(), Failure> {
    transaction.open_table(META)?.insert("format", FORMAT.to_string().as_str())?;
    Tables::open(transaction)?;
    tracing::info!(
        format = FORMAT,
        "moved the data file to a new format: versions of slotcast before 0.2 cannot use it any more"
    );
    Ok(())
}

/// Fills the index of bookings once, which files of 0.1 do not have.
fn index_bookings(transaction: &WriteTransaction) -> Result<(), Failure> {
    if transaction.open_table(META)?.insert("bookings", "indexed")?.is_some() {
        return Ok(());
    }
    let (slots, mut bookings) = (transaction.open_table(SLOTS)?, transaction.open_table(USER_BOOKINGS)?);
    let mut count = 0_u64;
    for row in slots.iter()? {
        let (key, record) = row?;
        let (site, space, day, slot) = key.value();
        let record = parse_slot(record.value());
        if let Some(user) = record.as_ref().and_then(booker_of) {
            bookings.insert((user.as_str(), day, site, space, slot), ())?;
            count += 1;
        }
    }
    if count > 0 {
        tracing::info!(bookings = count, "indexed the bookings that slotcast 0.1 stored");
    }
    Ok(())
}

/// Begins an epoch. Versions continue, but logs begin anew, because their messages name the old epoch.
fn start_epoch(transaction: &WriteTransaction, epoch: &str, identity: &str) -> Result<(), Failure> {
    let mut meta = transaction.open_table(META)?;
    meta.insert("epoch", epoch)?;
    meta.insert("identity", identity)?;
    transaction.delete_table(LOG)?;
    transaction.delete_table(LOG_ENDS)?;
    let mut heads = transaction.open_table(HEADS)?;
    let rows = heads.iter()?.map(|row| row.map(|(key, head)| (key.value(), head.value())));
    for (key, (version, last_change, _)) in rows.collect::<Result<Vec<_>, _>>()? {
        heads.insert(key, (version, last_change, version + 1))?;
    }
    drop(heads);
    Tables::open(transaction)?;
    Ok(())
}

fn read_commits(transaction: &WriteTransaction) -> Result<u64, Failure> {
    let commits = transaction.open_table(COMMITS)?;
    let count = commits.get(())?.map(|row| row.value());
    Ok(count.unwrap_or(0))
}

/// Counts one more commit, inside the transaction that is to be committed.
pub(super) fn count_commit(transaction: &WriteTransaction, commits: u64) -> Result<(), Failure> {
    transaction.open_table(COMMITS)?.insert((), commits)?;
    Ok(())
}

/// Tells a file from a copy of it: its device, inode and time of birth. The inode alone is not enough, because a freed
/// inode is soon used again.
pub(super) fn identity_of(metadata: &Metadata) -> String {
    let born = metadata
        .created()
        .ok()
        .and_then(|born| born.duration_since(std::time::UNIX_EPOCH).ok())
        .map_or_else(|| "unknown".into(), |born| born.as_nanos().to_string());
    format!("{} born {born}", place_of(metadata))
}

#[cfg(unix)]
fn place_of(metadata: &Metadata) -> String {
    use std::os::unix::fs::MetadataExt;
    format!("device {} inode {}", metadata.dev(), metadata.ino())
}

#[cfg(not(unix))]
fn place_of(_metadata: &Metadata) -> String {
    "file".into()
}

fn corrupt(file: &Path, cause: impl std::fmt::Display) -> OpenError {
    OpenError::Corrupt { file: file.into(), cause: cause.to_string() }
}

fn io_error(file: &Path, cause: impl std::fmt::Display) -> OpenError {
    OpenError::Io { file: file.into(), cause: cause.to_string() }
}

fn database_error(file: &Path, error: DatabaseError) -> OpenError {
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            OpenError::Locked { file: file.into() }
        }
        DatabaseError::Storage(StorageError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
            corrupt(file, error)
        }
        DatabaseError::Storage(StorageError::Io(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
            corrupt(file, error)
        }
        DatabaseError::Storage(StorageError::Corrupted(cause)) => corrupt(file, cause),
        DatabaseError::UpgradeRequired(version) => corrupt(file, format_args!("its redb format {version} is too old")),
        other => io_error(file, other),
    }
}
