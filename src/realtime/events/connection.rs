//! The events about the connection itself.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Answer;
use super::rooms::leave;
use crate::calls;
use crate::domain::event::to_raw_json;
use crate::domain::{Code, Refusal};
use crate::realtime::session::Session;
use crate::realtime::{Realtime, statistics};

#[derive(Deserialize)]
pub(super) struct RefreshRequest {
    token: String,
}

pub(super) async fn refresh_token(realtime: &Realtime, session: &Arc<Session>, request: RefreshRequest) -> Answer {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Refreshed {
        expires_at: String,
    }
    let claims = calls::verify_token(&realtime.app, &request.token).await?;
    if claims.user != *session.user() {
        return Err(Refusal::because(Code::Forbidden, "id_utente: the new token is of another user"));
    }
    let expires = claims.expires;
    session.set_claims(claims);
    realtime.expiry.watch(session.id(), expires);
    for space in session.spaces() {
        if !session.claims().may_enter(space.site) {
            leave(realtime, session, space).await;
        }
    }
    Ok(to_raw_json(&Refreshed { expires_at: expires.rfc3339() }))
}

pub(super) async fn watch_stats(realtime: &Realtime, session: &Arc<Session>) -> Answer {
    if !session.claims().is_staff_everywhere() {
        return Err(Code::Forbidden.into());
    }
    session.set_watches_stats();
    statistics::send_to(realtime, vec![session.clone()]).await;
    Ok(to_raw_json(&serde_json::Map::new()))
}
