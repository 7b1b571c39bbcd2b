//! Knows the schedules of the spaces. A remembered schedule may be outdated. So every write carries the revision and the
//! epoch under which it was resolved, and every read compares both. If they differ, the space is forgotten and read again.
//! A call that compares nothing reads the schedule anew, unless this node watches the space: a watched space is forgotten
//! as soon as it changes.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::shared_boards::SharedBoards;
use crate::clock::StoreClock;
use crate::config::CatalogConfig;
use crate::domain::schedule::ScheduleSpec;
use crate::domain::{Code, Day, Position, Refusal, Schedule, SpaceKey};
use crate::store::refuse::{ATTEMPTS, unavailable, unsettled};
use crate::store::{DayState, SlotStore};

/// How many spaces are remembered at most.
const CAPACITY: usize = 10_000;

/// The schedules of the spaces, read from the store as they are asked for.
pub struct Catalog {
    store: Arc<dyn SlotStore>,
    config: CatalogConfig,
    /// The schedule of unregistered spaces.
    default: Arc<Schedule>,
    /// The boards that are being read for callers without a token.
    pub(crate) shared: SharedBoards,
    /// Held for a map access only, never across an await.
    known: Mutex<HashMap<SpaceKey, Known>>,
    /// Learns the store's time from each read.
    clock: Arc<StoreClock>,
}

/// A space, ready for an act.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The version of the schedule's last change, if it ever changed. Acts carry it.
    pub revision: Option<Position>,
    /// Its own schedule, or the default one.
    pub schedule: Arc<Schedule>,
    /// Whether somebody registered it.
    pub registered: bool,
    /// Whether it was just read, not remembered.
    pub fresh: bool,
}

/// One day of a space, with the schedule that its records belong to.
#[derive(Clone, Debug)]
pub struct Board {
    /// The stored state of the day.
    pub state: DayState,
    /// `None` for a space that does not exist.
    pub schedule: Option<Arc<Schedule>>,
}

/// The remembered facts of a space.
#[derive(Clone)]
struct Known {
    /// The position of the space when it was read.
    at: Position,
    revision: u64,
    /// `None` for a space that does not exist.
    schedule: Option<Arc<Schedule>>,
    registered: bool,
}

impl Catalog {
    /// A catalog that remembers no space.
    pub fn new(store: Arc<dyn SlotStore>, clock: Arc<StoreClock>, config: CatalogConfig) -> Self {
        Self { store, config, default: Arc::default(), shared: SharedBoards::default(), known: Mutex::default(), clock }
    }

    /// The space's schedule with its revision. If the catalog is open, a space that nobody registered has the default
    /// schedule. Otherwise it is `space_not_found`, which is never answered from memory.
    pub async fn resolve(&self, space: SpaceKey) -> Result<Resolved, Refusal> {
        let remembered = self.remembered(space).filter(|known| known.schedule.is_some());
        let fresh = remembered.is_none();
        let known = match remembered {
            Some(known) => known,
            None => self.read(space).await?,
        };
        let schedule = known.schedule.ok_or(Code::SpaceNotFound)?;
        let revision = Position { epoch: known.at.epoch, version: known.revision };
        let revision = (revision.version > 0).then_some(revision);
        Ok(Resolved { revision, schedule, registered: known.registered, fresh })
    }

    /// The space's schedule as the store has it now.
    pub async fn resolve_anew(&self, space: SpaceKey) -> Result<Resolved, Refusal> {
        self.forget(space);
        self.resolve(space).await
    }

    /// Forgets a space, unless it was read at this position.
    pub fn forget_unless_at(&self, space: SpaceKey, at: &Position) {
        let mut all = self.lock();
        if all.get(&space).is_some_and(|known| known.at != *at) {
            all.remove(&space);
        }
    }

    /// Forgets a space, because it changed or may have.
    pub fn forget(&self, space: SpaceKey) {
        self.lock().remove(&space);
    }

    /// A day of a space that exists, else `space_not_found`.
    pub async fn read_board(&self, space: SpaceKey, day: Day) -> Result<Board, Refusal> {
        let board = self.read_board_or_none(space, day).await?;
        if board.schedule.is_some() { Ok(board) } else { Err(Code::SpaceNotFound.into()) }
    }

    /// A day of any space. A space that does not exist has no schedule, so its snapshot has no slots. Its versions count
    /// all the same.
    pub async fn read_board_or_none(&self, space: SpaceKey, day: Day) -> Result<Board, Refusal> {
        for _ in 0..ATTEMPTS {
            let known = match self.remembered(space) {
                Some(known) => known,
                None => self.read(space).await?,
            };
            let state = self.store.read_day(space, day).await.map_err(|error| unavailable(&error))?;
            self.clock.learn(state.now);
            if known.revision == state.revision && known.at.epoch == state.at.epoch {
                return Ok(Board { state, schedule: known.schedule });
            }
            self.forget(space);
        }
        Err(unsettled(space))
    }

    /// The schedule of a space that has `stored` in the store; `None` if the space does not exist.
    pub fn schedule_of(&self, space: SpaceKey, stored: Option<&ScheduleSpec>) -> Option<Arc<Schedule>> {
        let Some(spec) = stored else { return self.schedule_of_unregistered() };
        match Schedule::new(spec.clone()) {
            Ok(schedule) => Some(Arc::new(schedule)),
            Err(reason) => {
                // Only consistent schedules are ever written, so another program wrote this one. Showing no slots is better
                // than showing wrong slots.
                tracing::error!(space.id = %space, reason, "the stored schedule is not valid: store the space anew");
                None
            }
        }
    }

    /// The schedule of unregistered spaces; `None` if they do not exist.
    pub fn schedule_of_unregistered(&self) -> Option<Arc<Schedule>> {
        self.config.open.then(|| self.default.clone())
    }

    /// Refuses a day that is further ahead than dates may be, as `bad_date`.
    pub fn require_near(&self, schedule: &Schedule, day: Day) -> Result<(), Refusal> {
        let span = jiff::Span::new().days(i64::from(self.config.max_days));
        let last = schedule.today(self.clock.now()).date().saturating_add(span);
        if day.date() <= last { Ok(()) } else { Err(Refusal::because(Code::BadDate, format_args!("dopo il {last}"))) }
    }

    async fn read(&self, space: SpaceKey) -> Result<Known, Refusal> {
        let state = self.store.read_schedule(space).await.map_err(|error| unavailable(&error))?;
        self.clock.learn(state.now);
        let known = Known {
            schedule: self.schedule_of(space, state.schedule.as_ref()),
            registered: state.schedule.is_some(),
            revision: state.revision,
            at: state.at,
        };
        self.remember(space, known.clone());
        Ok(known)
    }

    fn remembered(&self, space: SpaceKey) -> Option<Known> {
        self.lock().get(&space).cloned()
    }

    fn remember(&self, space: SpaceKey, known: Known) {
        let mut all = self.lock();
        // Another space makes room, which costs one read of that space.
        if all.len() >= CAPACITY
            && let Some(other) = all.keys().next().copied()
        {
            all.remove(&other);
        }
        all.insert(space, known);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SpaceKey, Known>> {
        self.known.lock()
    }
}
