//! Sends `stats` every two seconds to the staff who watch.

use std::sync::Arc;
use std::time::Duration;

use super::Realtime;
use super::session::Session;
use crate::calls::stats;
use crate::domain::ServerEvent;
use crate::domain::event::to_raw_json;

const EVERY: Duration = Duration::from_secs(2);

/// Sends the statistics while somebody watches them. Never returns.
pub(super) async fn run(realtime: Realtime) {
    loop {
        tokio::time::sleep(EVERY).await;
        let watching = realtime.sessions.all().into_iter().filter(|session| session.watches_stats()).collect();
        send_to(&realtime, watching).await;
    }
}

/// Reads the statistics once, for all who watch.
pub(super) async fn send_to(realtime: &Realtime, watching: Vec<Arc<Session>>) {
    if watching.is_empty() {
        return;
    }
    match stats::collect_stats(&realtime.app).await {
        Ok(stats) => {
            let payload = to_raw_json(&stats);
            for session in watching {
                session.emit(ServerEvent::Stats.as_str(), &payload);
            }
        }
        Err(refusal) => tracing::warn!(%refusal, "cannot read the statistics"),
    }
}
