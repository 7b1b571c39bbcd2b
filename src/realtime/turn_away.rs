//! Sends a client away so that it comes back by itself.
//!
//! A stock client does not come back after a `connect_error`. It does when its connection ends, after a pause that it chooses.

use std::time::Duration;

use socketioxide::TransportType;
use socketioxide::socket::Socket;

use super::Realtime;
use super::connect::websocket_of;

/// How long a client may take to end its upgrade. The library closes a session whose upgrade takes longer.
const UPGRADE_WAIT: Duration = Duration::from_secs(10);

/// How often it is looked whether the upgrade has ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Ends the connection of a client that is not connected to the namespace yet. When it returns, nothing that is sent to the
/// client is read any more.
pub(super) async fn turn_away(realtime: &Realtime, socket: &Socket) {
    if let Some(connection) = websocket_of(socket) {
        return connection.kill();
    }
    let engine_id = socket.id.to_string();
    realtime.engine_sessions.find(&engine_id).iter().for_each(|session| session.note_over());
    // A client that is being upgraded has stopped polling, and does not look at the new connection yet: it would notice the
    // end only when its ping is late.
    let upgraded = tokio::time::timeout(UPGRADE_WAIT, end_of_upgrade(realtime, socket, &engine_id)).await;
    if let Some(connection) = realtime.connections.upgraded(&engine_id) {
        connection.kill();
    }
    if upgraded != Ok(true) {
        realtime.end_polling(&engine_id).await;
    }
}

/// Resolves when no upgrade is under way, and tells whether the session is on a websocket now.
async fn end_of_upgrade(realtime: &Realtime, socket: &Socket, engine_id: &str) -> bool {
    loop {
        let is_upgraded = socket.transport_type() == TransportType::Websocket;
        if is_upgraded || realtime.connections.upgraded(engine_id).is_none() {
            return is_upgraded;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
