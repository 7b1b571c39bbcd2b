//! The HTTP calls of the contract, each with its refusals.

mod boards;
mod acts;
mod spaces;
mod operations;
mod every_call;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use slotcast::config::{AuthConfig, KeySource};
use slotcast::domain::{Day, Schedule};
use slotcast::store::{SpaceChange, SweepBatch};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::scripted_store::ScriptedStore;
use crate::support::{TestApp, request};

/// Slots of tomorrow in space 3 of site 1.
fn slots(app: &TestApp, numbers: &[u64]) -> Value {
    json!({"idSpazio": 3, "sedeId": 1, "date": app.tomorrow(), "slots": numbers})
}

/// One slot of tomorrow in space 3 of site 1, named by the path.
fn slot(app: &TestApp) -> Value {
    json!({"idSpazio": 3, "sedeId": 1, "date": app.tomorrow()})
}

fn with(mut body: Value, key: &str, value: impl Into<Value>) -> Value {
    body[key] = value.into();
    body
}

/// The entry of one slot of tomorrow, as the holder of the token sees it.
async fn entry(app: &TestApp, number: usize, token: &str) -> Value {
    let path = format!("/api/slots/3/{}?sedeId=1", app.tomorrow());
    let board = if token.is_empty() { app.get(&path).await } else { app.get_as(&path, token).await };
    board.data()["slots"][number - 1].clone()
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}
