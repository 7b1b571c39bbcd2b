//! What every part of a node shares. Handlers take it as [`AppState`].

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::auth::Verifier;
use crate::auth::rates::UserRates;
use crate::clock::StoreClock;
use crate::config::Config;
use crate::journal::Tails;
use crate::spaces::acknowledged::Acknowledged;
use crate::spaces::catalog::Catalog;
use crate::store::health::{StoreFault, StoreHealth};
use crate::store::{NodeReport, SlotStore};
use crate::sweeper::deadlines::{Deadlines, Told};
use crate::sweeper::timer::Tools;
use crate::telemetry::metrics::Metrics;
use crate::webhooks::{self, patience::Patience};

/// The parts of a node.
pub struct App {
    /// What the operator set.
    pub config: Config,
    /// State.
    pub store: Arc<dyn SlotStore>,
    /// Checks tokens.
    pub verifier: Verifier,
    /// The store's time, as its last answers told it.
    pub clock: Arc<StoreClock>,
    /// Knows the spaces' schedules.
    pub catalog: Catalog,
    /// Knows up to which position this node has answered for each space that it follows.
    pub acknowledged: Acknowledged,
    /// Limits how many acts a user may do.
    pub rates: UserRates,
    /// Wakes readers when the journal has new entries.
    pub journal: Arc<Tails>,
    /// Tells this node's sweeper when holds end.
    pub deadlines: Deadlines,
    /// Counts events for `/metrics`.
    pub metrics: Metrics,
    /// Says whether this node can serve.
    pub health: Health,
    /// Tells what this node has now, for statistics.
    pub presence: Arc<dyn Presence>,
}

/// The obstacle of a node that cannot check tokens, and its reason.
const NO_KEYS: (&str, &str) =
    ("keys_unavailable", "no token can be checked: the key set of JWT_JWKS_URL cannot be fetched");

impl App {
    /// What keeps the node from serving, one word each; empty when the node is ready.
    pub fn obstacles(&self) -> Vec<&'static str> {
        let mut obstacles = self.health.obstacles();
        obstacles.extend((!self.verifier.has_keys()).then_some(NO_KEYS.0));
        obstacles
    }

    /// The reasons for the obstacles, one line for each obstacle that has more to say than its word.
    pub fn reasons(&self) -> Vec<String> {
        let mut reasons = self.health.reasons();
        reasons.extend((!self.verifier.has_keys()).then(|| NO_KEYS.1.to_owned()));
        reasons
    }
}

/// The parts of an [`App`] that differ between a node and a test.
pub struct Parts {
    /// What the operator set.
    pub config: Config,
    /// State.
    pub store: Arc<dyn SlotStore>,
    /// Checks tokens.
    pub verifier: Verifier,
    /// Counts events for `/metrics`.
    pub metrics: Metrics,
    /// Says whether this node can serve.
    pub health: Health,
    /// Reports what is connected to this node.
    pub presence: Arc<dyn Presence>,
}

impl App {
    /// Makes a node's shared state, and the receiver that tells its sweeper of deadlines.
    pub fn new(parts: Parts) -> (Self, Told) {
        let Parts { config, store, verifier, metrics, health, presence } = parts;
        let (deadlines, told) = Deadlines::new();
        let clock = Arc::new(StoreClock::default());
        let app = Self {
            catalog: Catalog::new(store.clone(), clock.clone(), config.catalog.clone()),
            acknowledged: Acknowledged::default(),
            rates: UserRates::new(config.limits.user_rate),
            journal: Tails::new(store.clone()),
            clock,
            store,
            verifier,
            deadlines,
            metrics,
            health,
            presence,
            config,
        };
        (app, told)
    }

    /// The parts of the node that its sweeper works with.
    pub fn sweeper_tools(&self) -> Tools {
        Tools { store: self.store.clone(), clock: self.clock.clone(), metrics: self.metrics.clone() }
    }

    /// The parts of the node that its webhooks work with.
    pub fn webhook_tools(&self) -> webhooks::Tools {
        webhooks::Tools {
            store: self.store.clone(),
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
            tails: self.journal.clone(),
            patience: Patience::default(),
            forgets: !self.config.journal.is_kept(),
        }
    }
}

/// [`App`] as an axum extractor and as Socket.IO state.
#[derive(Clone)]
pub struct AppState(pub Arc<App>);

impl Deref for AppState {
    type Target = App;

    fn deref(&self) -> &App {
        &self.0
    }
}

/// Tells what is connected to this node.
pub trait Presence: Send + Sync {
    /// This node's sockets, users and rooms.
    fn report(&self) -> NodeReport;
}

/// The most unreadable records that `/readyz` names.
const MOST_NOTES: usize = 20;

/// Whether this node can serve, as its parts tell it.
#[derive(Debug, Default)]
pub struct Health {
    store_was_reached: AtomicBool,
    store_is_reachable: AtomicBool,
    feed_in_step: AtomicBool,
    draining: AtomicBool,
    store: Arc<StoreHealth>,
}

impl Health {
    /// The health of a node whose store tells its faults in `store`.
    pub fn of_store(store: Arc<StoreHealth>) -> Self {
        Self { store, ..Self::default() }
    }

    /// The faults that the store has found in itself.
    pub fn store(&self) -> &StoreHealth {
        &self.store
    }

    /// Says whether the store answers now.
    pub fn set_store_reachable(&self, reachable: bool) {
        self.store_is_reachable.store(reachable, Ordering::Release);
        if reachable {
            self.store_was_reached.store(true, Ordering::Release);
        }
    }

    /// Whether the store answered the last question for its time. In a Cluster the server of the first bucket is asked.
    pub fn is_store_reachable(&self) -> bool {
        self.store_is_reachable.load(Ordering::Acquire)
    }

    /// Notes whether the store's announcements arrive.
    pub fn set_feed_in_step(&self, in_step: bool) {
        self.feed_in_step.store(in_step, Ordering::Release);
    }

    /// Notes that the node is going away. It never takes this back.
    pub fn start_draining(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether the node is going away.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Whether the store may lose writes and not notice it. Then one version may name two contents. The node serves all
    /// the same.
    pub fn is_unfenced(&self) -> bool {
        self.store.is_unfenced()
    }

    /// Whether this node can start new subscriptions to changes.
    pub fn can_subscribe(&self) -> bool {
        !self.store.has(StoreFault::CannotSubscribe)
    }

    /// Shortcomings that do not keep the node from serving, one line each.
    pub fn notes(&self) -> Vec<String> {
        let unfenced = self.is_unfenced().then(|| "store_unfenced".to_owned());
        let unreadable = self.store.unreadable().into_iter().take(MOST_NOTES);
        let unreadable = unreadable.map(|(place, slot)| format!("record_unreadable: slot {slot} of {place}"));
        unfenced.into_iter().chain(unreadable).collect()
    }

    /// How many stored records of slots cannot be read, as far as this node has seen.
    pub fn count_unreadable(&self) -> usize {
        self.store.unreadable().len()
    }

    /// Whether the node is alive: it has reached the store once since it started.
    pub fn is_alive(&self) -> bool {
        self.store_was_reached.load(Ordering::Acquire)
    }

    /// The obstacles in the store, the feed and the node itself, one word each.
    pub fn obstacles(&self) -> Vec<&'static str> {
        let mut obstacles = Vec::new();
        if !self.is_store_reachable() {
            obstacles.push("store_unreachable");
        }
        if !self.feed_in_step.load(Ordering::Acquire) {
            obstacles.push("feed_behind");
        }
        obstacles.extend(self.store.faults().iter().map(|(fault, _)| fault.as_str()));
        if self.is_draining() {
            obstacles.push("draining");
        }
        obstacles
    }

    /// The reasons for the store's faults, one line each.
    pub fn reasons(&self) -> Vec<String> {
        self.store.faults().into_iter().map(|(_, reason)| reason).collect()
    }
}
