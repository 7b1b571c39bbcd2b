//! Sockets: who is connected, what they may do, what they ask, and what they are told.
//!
//! - [`gate`]: in front of the Socket.IO library: drain, sessions that must end, request heads, back-pressure.
//!   `request`: reads once what a request asks for.
//! - [`connect`]: token, session, `connection_confirmed`, the end.
//! - [`session`]: one socket; [`sessions`]: all sockets of this node.
//! - [`inbox`]: the events of one socket, in order, in a bounded queue that `worker` empties; `outbox`: the bounded
//!   queue to the socket.
//! - [`events`]: the effect of each event. `emitter`: the events that other programs send.
//! - [`engine_ids`]: how a polling client names its session, and so the session's node. [`owners`]: the addresses of
//!   the nodes. `engine_sessions`: the library's sessions, and how many clients have shown no token yet.
//! - `guests`: sockets without a token, if the configuration allows them.
//! - [`notifications`]: messages to one user, kept until the user has them; `cursor`: the place of one socket in them.
//! - [`expiry`]: warns before tokens end, and disconnects after.
//! - `freed`: `slots_freed`, for everyone, for sites, for rooms.
//! - `turn_away`: ends a connection so that its client comes back.
//! - [`statistics`]: `stats` every two seconds to the staff who watch.
//!
//! **Invariant:** no handler broadcasts. Acts go to the store, and their effects come back through [`crate::feed`].

pub mod connect;
mod cursor;
pub mod engine_ids;
mod engine_sessions;
mod emitter;
pub mod events;
pub mod expiry;
mod freed;
pub mod gate;
mod guests;
pub mod inbox;
mod worker;
pub mod notifications;
mod outbox;
pub mod owners;
pub(crate) mod request;
pub mod session;
pub mod sessions;
pub mod statistics;
mod turn_away;

use std::ops::Deref;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use serde_json::value::RawValue;
use socketioxide::handler::ConnectHandler;
use socketioxide::{ParserConfig, SocketIo, TransportType};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tower::ServiceExt;

use crate::app::{App, AppState};
use crate::domain::Bucket;
use crate::feed::Feed;
use crate::feed::buckets::{Audience, FreedSummary};
use crate::net::connection::{ConnectionHandle, Connections};
use crate::store::{DisconnectUser, EveryoneMessage, ForeignMessage, UserMessage};

use sessions::Sessions;

/// The largest event that a socket may send, in bytes.
const MAX_EVENT_BYTES: usize = 64 * 1024;

/// How long a client may take between its handshake and its token. Stock clients send the token with their next packet.
const TOKEN_WAIT: Duration = Duration::from_secs(10);

/// A route of the library that matches every namespace but `/`.
const ANY_NAMESPACE: &str = "/{*name}";

/// The Engine.IO packet that ends a session.
const ENGINE_CLOSE: &str = "1";

/// The read buffer of each websocket, kept for its life. It is small because clients send little.
const READ_BUFFER_BYTES: usize = 512;

/// What every socket's handlers need. All sockets share it.
#[derive(Clone)]
pub struct Realtime(Arc<Shared>);

impl Deref for Realtime {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// The shared state of all sockets. Only this crate sees inside.
pub struct Shared {
    pub(crate) app: Arc<App>,
    pub(crate) feed: Feed,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) connections: Connections,
    pub(crate) expiry: expiry::Timers,
    pub(crate) receipts: notifications::Receipts,
    /// How many sockets may read kept messages of their users at once.
    pub(crate) backlog_reads: Semaphore,
    /// `None` if this node is the only one.
    pub(crate) owners: Option<owners::Owners>,
    pub(crate) engine_ids: engine_ids::EngineIds,
    pub(crate) engine_sessions: engine_sessions::EngineSessions,
    pub(crate) guests: guests::Guests,
    /// Set once, when the routes are made.
    library: OnceLock<Library>,
}

/// The Socket.IO library, behind the gate.
struct Library {
    io: SocketIo,
    routes: Router,
}

impl Realtime {
    /// Wires the parts, and starts the tasks that all sockets share. They run as long as the node.
    pub fn start(
        app: Arc<App>,
        feed: Feed,
        sessions: Arc<Sessions>,
        connections: Connections,
        owners: Option<owners::Owners>,
        engine_ids: engine_ids::EngineIds,
        background: &mut JoinSet<()>,
    ) -> Self {
        let (expiry, expired) = expiry::Timers::new();
        let (receipts, received) = notifications::Receipts::new();
        let engine_sessions = engine_sessions::EngineSessions::new(app.metrics.clone());
        let guests = guests::Guests::new(app.config.limits.guests);
        let realtime = Self(Arc::new(Shared {
            guests,
            app,
            feed,
            sessions,
            connections,
            expiry,
            receipts,
            backlog_reads: Semaphore::new(notifications::BACKLOG_READS),
            owners,
            engine_ids,
            engine_sessions,
            library: OnceLock::new(),
        }));
        background.spawn(expiry::run(realtime.clone(), expired));
        background.spawn(notifications::write_receipts(realtime.app.store.clone(), received));
        background.spawn(statistics::run(realtime.clone()));
        background.spawn(connect::reconcile(realtime.clone()));
        background.spawn(realtime.feed.clone().follow_buckets(Arc::new(realtime.clone())));
        realtime
    }

    /// Passes on what emitters of other programs send.
    pub fn hear_emitters(&self, messages: mpsc::Receiver<ForeignMessage>, background: &mut JoinSet<()>) {
        background.spawn(emitter::run(self.clone(), messages));
    }

    /// The routes of `/socket.io/`.
    pub fn routes(&self) -> Router {
        let (service, io) = SocketIo::builder()
            .req_path("/socket.io")
            .transports([TransportType::Websocket, TransportType::Polling])
            .ping_interval(Duration::from_secs(25))
            .ping_timeout(Duration::from_secs(20))
            .connect_timeout(TOKEN_WAIT)
            .max_buffer_size(outbox::OUTBOX_PACKETS)
            .max_payload(MAX_EVENT_BYTES as u64)
            .ws_max_message_size(MAX_EVENT_BYTES)
            .ws_max_frame_size(MAX_EVENT_BYTES)
            .ws_read_buffer_size(READ_BUFFER_BYTES)
            .with_parser(ParserConfig::common().max_incoming_binaries(0))
            .build_svc();
        let realtime = self.clone();
        let admit = realtime.clone();
        let on_connect =
            async move |socket: socketioxide::extract::SocketRef| connect::confirm(&realtime, &socket).await;
        let middleware = async move |connecting: connect::Connecting| connect::admit(&admit, connecting).await;
        // The local adapter has nothing to prepare. The result exists for other adapters.
        let () = io.ns("/", on_connect.with(middleware));
        let refuse = self.clone();
        let on_foreign = async move |_: socketioxide::extract::SocketRef| {};
        let foreign =
            async move |connecting: connect::Connecting| Err::<(), _>(connect::refuse_namespace(&refuse, &connecting));
        if let Err(error) = io.dyn_ns(ANY_NAMESPACE, on_foreign.with(foreign)) {
            tracing::error!(%error, "cannot refuse connections to other namespaces; the library answers them");
        }
        let routes = Router::new().route_service("/socket.io/", service.clone()).route_service("/socket.io", service);
        // The routes are made once. If they were made twice, either would do.
        let _ = self.library.set(Library { io, routes: routes.clone() });
        routes.layer(axum::middleware::from_fn_with_state(self.clone(), gate::pass))
    }

    /// Closes the connection of an Engine.IO session, so that its client comes back by itself and starts anew. A polling
    /// client shares its TCP connections with others, so only its session is ended.
    pub(crate) fn close_connection(&self, engine_id: &str, websocket: Option<ConnectionHandle>) {
        let session = self.engine_sessions.find(engine_id);
        session.iter().for_each(|session| session.note_over());
        // The session may have been upgraded since.
        if let Some(connection) = websocket.or_else(|| self.connections.upgraded(engine_id)) {
            return connection.kill();
        }
        if session.is_some() {
            let (realtime, engine_id) = (self.clone(), engine_id.to_owned());
            tokio::spawn(async move { realtime.end_polling(&engine_id).await });
        }
    }

    /// Ends the session of a client that polls.
    async fn end_polling(&self, engine_id: &str) {
        let close = Request::post(format!("/socket.io/?EIO=4&transport=polling&sid={engine_id}"));
        if let (Some(library), Ok(close)) = (self.library.get(), close.body(Body::from(ENGINE_CLOSE))) {
            // The routes cannot fail, and the session may be over already.
            let _ = library.routes.clone().oneshot(close).await;
        }
    }

    /// Forgets a namespace that the library has made for a client that asked for it.
    fn forget_namespace(&self, name: &str) {
        if let Some(library) = self.library.get() {
            library.io.delete_ns(name);
        }
    }

    /// The state for the HTTP side.
    pub fn app(&self) -> AppState {
        AppState(self.app.clone())
    }
}

impl Audience for Realtime {
    fn tell_freed(&self, freed: FreedSummary) {
        freed::tell(self, &freed);
    }

    fn tell_user(&self, message: UserMessage) {
        notifications::deliver(self, &message);
    }

    fn tell_user_messages_missed(&self, bucket: Bucket) {
        for session in
            self.sessions.all().into_iter().filter(|session| !session.is_guest() && session.user().bucket() == bucket)
        {
            notifications::deliver_missed(self, session);
        }
    }

    fn tell_everyone(&self, message: EveryoneMessage) {
        self.send_to_all(&message.event, &message.data);
    }

    fn disconnect_user(&self, command: DisconnectUser) {
        for session in self.sessions.of_user(&command.user) {
            if session.connected_before(command.before) {
                session.disconnect();
            }
        }
    }
}

impl Realtime {
    fn send_to_all(&self, event: &str, payload: &RawValue) {
        let sessions = self.sessions.all();
        let hears = |session: &&Arc<session::Session>| session.hears_broadcast(event) && session.emit(event, payload);
        let recipients = sessions.iter().filter(hears).count();
        tracing::info!(event.name = event, room = "*", recipients, "broadcast");
    }
}

pub(crate) use emitter::read_for_fuzzing as emitted_json;
