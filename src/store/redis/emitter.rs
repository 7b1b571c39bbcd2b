//! Hears the messages of the stock `@socket.io/redis-emitter`, on a connection of its own.
//!
//! The emitter publishes in `socket.io#/#` or, for one room, in `socket.io#/#ROOM#`. A node cannot know which rooms an
//! emitter will name, so it subscribes to a pattern. Redis has one set of channels for all of its databases. Nothing is
//! kept: messages that are published while the connection is being replaced are lost, as they are for the stock
//! servers.

use std::time::Duration;

use fred::types::Message as Delivered;
use tokio::sync::{broadcast, mpsc};

use super::connect::Commands;
use super::link::{Link, config_of, tls_of};
use super::subscriptions::Nodes;
use crate::store::{ForeignMessage, StoreError};

/// The channels of events in the namespace `/`.
const EVENTS: &str = "socket.io#/#*";

/// The channel of requests to servers, such as to disconnect sockets.
const REQUESTS: &str = "socket.io-request#/#";

/// How many messages may wait for the connection's reader.
const CAPACITY: usize = 1_024;

/// How many messages may wait to be sent to sockets. Any more are dropped.
const WAITING: usize = 1_024;

/// How often the connection is pinged.
const PING_EVERY: Duration = Duration::from_secs(2);

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The pause before the next attempt to connect.
const RETRY: Duration = Duration::from_millis(500);

/// Starts to hear emitters, in a task of the current runtime, until the receiver is dropped.
///
/// # Errors
///
/// The file of certificates cannot be used.
pub fn hear_emitters(commands: &Commands) -> Result<mpsc::Receiver<ForeignMessage>, StoreError> {
    let (sender, receiver) = mpsc::channel(WAITING);
    let nodes = Nodes::of(commands, tls_of(&commands.connector().endpoint)?);
    tokio::spawn(run(nodes, sender));
    Ok(receiver)
}

async fn run(mut nodes: Nodes, sender: mpsc::Sender<ForeignMessage>) {
    let mut was_told = false;
    loop {
        let ended = tokio::select! {
            ended = hear(&mut nodes, &sender, &mut was_told) => ended,
            () = sender.closed() => return,
        };
        if let Err(error) = ended
            && !was_told
        {
            tracing::warn!(%error, "the connection on which emitters are heard is lost; connecting again");
            was_told = true;
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Connects, and passes on what is heard as long as the connection works.
async fn hear(nodes: &mut Nodes, sender: &mpsc::Sender<ForeignMessage>, was_told: &mut bool) -> Result<(), StoreError> {
    let (mut link, mut messages) = match tokio::time::timeout(CONNECT_TIMEOUT, open(nodes)).await {
        Ok(opened) => opened?,
        Err(_) => return Err(StoreError("no answer".into())),
    };
    *was_told = false;
    let mut ping = tokio::time::interval(PING_EVERY);
    loop {
        tokio::select! {
            reason = link.closed() => return Err(StoreError(reason)),
            () = nodes.moved() => return Err(StoreError("the server to listen to has changed".into())),
            _ = ping.tick() => link.ping().await?,
            message = messages.recv() => match message {
                Ok(message) => hand_on(&message, sender),
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "dropped messages of emitters: too many came at once");
                }
                Err(broadcast::error::RecvError::Closed) => return Err(StoreError("the connection ended".into())),
            }
        }
    }
}

async fn open(nodes: &mut Nodes) -> Result<(Link, broadcast::Receiver<Delivered>), StoreError> {
    let (node, address) = nodes.pick().await?;
    let config = config_of(&nodes.connector.endpoint, &node, address, nodes.tls.clone());
    let (link, messages) =
        Link::open(config, CAPACITY).await.map_err(|error| StoreError::new(&node.to_string(), error))?;
    nodes.learn(&link).await?;
    link.subscribe_pattern(EVENTS).await?;
    link.subscribe(&[REQUESTS.to_owned()]).await?;
    Ok((link, messages))
}

/// Passes a message on, and never waits. A message without room is dropped, so that a flood of other programs' events
/// delays nothing.
fn hand_on(message: &Delivered, sender: &mpsc::Sender<ForeignMessage>) {
    let heard = if &*message.channel == REQUESTS {
        ForeignMessage::Request
    } else {
        let Some(bytes) = message.value.as_bytes() else { return };
        ForeignMessage::Emitted(bytes.to_vec())
    };
    if sender.try_send(heard).is_err() {
        tracing::debug!("dropped an emitter's message: the queue is full");
    }
}
