//! Keeps a connection up.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use redis::RedisResult;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::CONNECT_TIMEOUT;
use super::commands::{Connection, Current, State};
use super::connector::Connector;

/// The wait after the first failed attempt to connect; it doubles with each.
const FIRST_RETRY: Duration = Duration::from_millis(50);

/// The longest wait between two attempts: what a node is late after an outage.
const LAST_RETRY: Duration = Duration::from_millis(500);

/// How soon the connections to a cluster may be replaced again: they mend themselves, except where a node is silent.
const CLUSTER_RENEWAL: Duration = Duration::from_secs(5);

/// Keeps a connection up for as long as somebody has a handle.
pub(super) struct Keeper {
    pub(super) connector: Arc<Connector>,
    pub(super) state: watch::Sender<State>,
    pub(super) reporter: mpsc::UnboundedSender<u64>,
    pub(super) reports: mpsc::UnboundedReceiver<u64>,
    pub(super) number: u64,
}

impl Keeper {
    pub(super) async fn run(mut self) {
        let mut retry = FIRST_RETRY;
        loop {
            if self.state.is_closed() {
                return;
            }
            match self.connect().await {
                Ok(connection) => {
                    if self.number > 1 || retry > FIRST_RETRY {
                        tracing::info!(redis = %self.connector.endpoint, "connected to Redis");
                    }
                    retry = FIRST_RETRY;
                    self.state.send_replace(State::Connected(Current { number: self.number, connection }));
                    if !self.wait_for_loss().await {
                        return;
                    }
                    tracing::warn!(redis = %self.connector.endpoint, "the connection to Redis is lost; connecting again");
                }
                Err(error) => {
                    if retry == FIRST_RETRY {
                        tracing::warn!(redis = %self.connector.endpoint, %error, "cannot connect to Redis; will try again");
                    }
                    if !self.has_old_connection() {
                        self.state.send_replace(State::Connecting { failure: Some(error.to_string().into()) });
                    }
                    retry = (retry * 2).min(LAST_RETRY);
                }
            }
            // With jitter, so that the nodes do not come all at once to a Redis that has just started.
            tokio::time::sleep(retry.mul_f64(0.5 + 0.5 * fastrand::f64())).await;
        }
    }

    async fn connect(&mut self) -> RedisResult<Connection> {
        self.number += 1;
        let (number, reporter) = (self.number, self.reporter.clone());
        let connecting = self.connector.connect(move || {
            // After the keeper's end nobody needs to know.
            let _ = reporter.send(number);
        });
        match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer").into()),
        }
    }

    /// Waits until the present connection has to be replaced; `false` when nobody has a handle any more.
    async fn wait_for_loss(&mut self) -> bool {
        let connected = Instant::now();
        loop {
            tokio::select! {
                () = self.state.closed() => return false,
                report = self.reports.recv() => match report {
                    Some(number) if number == self.number => break,
                    Some(_) => {}
                    None => return false,
                },
            }
        }
        if self.connector.is_cluster() {
            // One silent node must not cut off the others: the connections are used until there are new ones.
            tokio::time::sleep_until(connected + CLUSTER_RENEWAL).await;
        } else {
            self.state.send_replace(State::Connecting { failure: None });
        }
        true
    }

    fn has_old_connection(&self) -> bool {
        matches!(&*self.state.borrow(), State::Connected(_))
    }
}
