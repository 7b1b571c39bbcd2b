//! Sends a client away so that it comes back by itself.
//!
//! A stock client does not come back after a `connect_error`. After the end of its connection it comes back, after a pause
//! that it chooses.

use std::time::Duration;

use socketioxide::TransportType;
use socketioxide::socket::Socket;

use super::Realtime;
use super::connect::websocket_of;

/// How long a client may take to end its upgrade. The library closes a session whose upgrade takes longer.
const UPGRADE_WAIT: Duration = Duration::from_secs(10);

/// How often the end of the upgrade is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Ends the connection of a client that is not connected to the namespace yet. After the return, the client reads nothing
/// more that is sent to it.
pub(super) async fn turn_away(realtime: &Realtime, socket: &Socket) {
    if let Some(connection) = websocket_of(socket) {
        return connection.kill();
    }
    let engine_id = socket.id.to_string();
    realtime.engine_sessions.find(&engine_id).iter().for_each(|session| session.note_over());
    // A client in an upgrade has stopped polling, and does not look at the new connection yet. It would notice the end only
    // when its ping is late.
    let upgraded = tokio::time::timeout(UPGRADE_WAIT, end_of_upgrade(realtime, socket, &engine_id)).await;
    if let Some(connection) = realtime.connections.upgraded(&engine_id) {
        connection.kill();
    }
    if upgraded != Ok(true) {
        realtime.end_polling(&engine_id).await;
    }
}

/// Resolves when no upgrade is under way. Answers whether the session is on a websocket now.
async fn end_of_upgrade(realtime: &Realtime, socket: &Socket, engine_id: &str) -> bool {
    loop {
        let is_upgraded = socket.transport_type() == TransportType::Websocket;
        if is_upgraded || realtime.connections.upgraded(engine_id).is_none() {
            return is_upgraded;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
