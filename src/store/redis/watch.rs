//! Checks, while a node runs, whether Redis still lets it do everything that it must, and tells [`StoreHealth`]. It checks
//! each server of a Cluster every few seconds, and at once when a call was refused. It also tells when one of these servers
//! is away.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use redis::RedisResult;
use redis::aio::MultiplexedConnection;

use super::checks::{Rights, try_rights, try_subscribing};
use super::connect::{Commands, Route, Server};
use super::keys::bucket_tag;
use crate::domain::Bucket;
use crate::store::health::{StoreFault, StoreHealth};

/// How often it checks. One check of a server is about forty commands in one script, which take some 100 us of the
/// server's time, and two subscriptions that end at once.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// The shortest pause between two checks, so that refused calls one after another do not make it check without pause.
const PAUSE: Duration = Duration::from_millis(500);

/// Checks the servers, and remembers the results.
pub struct Watch {
    commands: Commands,
    prefix: String,
    health: Arc<StoreHealth>,
    /// The last answer of each server about our rights, by the server's address.
    known: BTreeMap<String, Rights>,
    /// Why channels cannot be subscribed to on a server, by its address.
    deaf: BTreeMap<String, Option<String>>,
    /// One connection to each server for subscriptions. The number beside it is that of the connection for commands at
    /// that time, because a name may come to mean another server.
    listening: BTreeMap<String, (u64, MultiplexedConnection)>,
}

impl Watch {
    /// Prepares the checks. `prefix` is the beginning of all keys' names.
    pub fn new(commands: Commands, prefix: &str, health: Arc<StoreHealth>) -> Self {
        health.set_watched();
        let prefix = prefix.to_owned();
        let (known, deaf, listening) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { commands, prefix, health, known, deaf, listening }
    }

    /// Looks for as long as the process lives.
    pub async fn run(self) {
        let telling = tell_of_servers(self.commands.clone(), self.health.clone());
        tokio::join!(telling, self.look_for_ever());
    }

    async fn look_for_ever(mut self) {
        loop {
            tokio::time::sleep(PAUSE).await;
            let health = self.health.clone();
            // Jitter keeps nodes that started together from asking together.
            let next = tokio::time::sleep(LOOK_EVERY.mul_f64(0.7 + 0.3 * fastrand::f64()));
            tokio::select! {
                () = next => {}
                () = health.suspected() => {}
            }
            self.look().await;
        }
    }

    /// Checks once, and tells the result. If a server does not answer, its last result stays, and the ping tells that
    /// the server is away.
    pub async fn look(&mut self) {
        let before = self.health.present();
        let (servers, mut is_complete) = self.servers().await;
        if is_complete {
            self.known.retain(|name, _| servers.contains_key(name));
            self.deaf.retain(|name, _| servers.contains_key(name));
            self.listening.retain(|name, _| servers.contains_key(name));
        }
        for (name, (server, bucket)) in servers {
            match try_rights(&self.commands, &self.prefix, bucket).await {
                Ok(rights) => drop(self.known.insert(name.clone(), rights)),
                Err(error) => {
                    is_complete = false;
                    tracing::debug!(%error, server = name, "cannot check what Redis allows this node to do");
                }
            }
            match self.look_at_subscribing(&name, &server).await {
                Ok(reason) => drop(self.deaf.insert(name, reason)),
                Err(error) => {
                    self.listening.remove(&name);
                    tracing::debug!(%error, server = name, "cannot check whether Redis allows this node to subscribe");
                }
            }
        }
        self.tell(is_complete, &before);
    }

    /// Each server with one of its buckets, by the server's address, and whether these are all servers.
    async fn servers(&self) -> (BTreeMap<String, (Server, Bucket)>, bool) {
        let asked = Bucket::all().map(async |bucket| {
            let route = Route::to_key(&bucket_tag(bucket));
            self.commands.server(&route).await.map(|server| (server.node.to_string(), (server, bucket)))
        });
        let answers = join_all(asked).await;
        let is_complete = answers.iter().all(RedisResult::is_ok);
        (answers.into_iter().flatten().collect(), is_complete)
    }

    /// Why channels cannot be subscribed to; `None` if they can.
    async fn look_at_subscribing(&mut self, name: &str, server: &Server) -> RedisResult<Option<String>> {
        let mut connection = match self.listening.get(name) {
            Some((number, connection)) if *number == server.number => connection.clone(),
            _ => self.commands.open_to(&server.node).await?,
        };
        let reason = try_subscribing(&mut connection, &self.commands, &self.prefix).await?;
        self.listening.insert(name.to_owned(), (server.number, connection));
        Ok(reason)
    }

    /// Tells the results of a look that began when the faults `before` were there.
    fn tell(&self, is_complete: bool, before: &BTreeSet<StoreFault>) {
        let refuses_info = self.known.values().find_map(|rights| rights.info.as_ref());
        if is_complete && refuses_info.is_none() && !self.known.is_empty() {
            self.health.set_fenced(true);
        }
        let mut missing: BTreeMap<&str, &str> = BTreeMap::new();
        for rights in self.known.values() {
            missing.extend(rights.missing.iter().map(|(command, words)| (command.as_str(), words.as_str())));
        }
        // If INFO was refused at the start, the node works without it. Otherwise its scripts fail.
        if let Some(words) = refuses_info.filter(|_| !self.health.is_unfenced()) {
            missing.insert("INFO", words);
        }
        let named: Vec<String> = missing.iter().map(|(command, words)| format!("{command} ({words})")).collect();
        let missing = (!named.is_empty()).then(|| format!("Redis refuses its user: {}", named.join("; ")));
        self.health.replace_after_look(StoreFault::RightsMissing, missing, before);
        let writes = self.known.iter().find_map(|(server, rights)| Some((server, rights.writes.as_ref()?)));
        let writes = writes.map(|(server, words)| format!("{server} takes no writes: {words}"));
        self.health.replace_after_look(StoreFault::WritesRefused, writes, before);
        let deaf = self.deaf.values().flatten().next().cloned();
        self.health.replace_after_look(StoreFault::CannotSubscribe, deaf, before);
    }
}

/// Tells which primary of a Cluster is away. A check of all servers would take too long, because it waits for each
/// server.
async fn tell_of_servers(commands: Commands, health: Arc<StoreHealth>) {
    let Some(mut away) = commands.away() else { return };
    loop {
        let reason = away.borrow_and_update().clone();
        health.replace(StoreFault::ServerAway, reason.map(|reason| reason.to_string()));
        if away.changed().await.is_err() {
            return;
        }
    }
}
