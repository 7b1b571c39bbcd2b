//! The load generator: raw websockets that speak as much Engine.IO 4 and Socket.IO 5 as a stock client does, and HTTP calls,
//! all on one thread, so that it costs a fraction of what the servers do.
//!
//! It reads one command a line from its input, as JSON, and answers each with one line of JSON when it is done; in
//! between, its clients go on to answer pings and to hear updates. It ends when its input does.

mod client;
mod commands;
mod generator;
mod latency;
mod publisher;

use std::io::{BufRead, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use anyhow::Context;
use serde_json::{Value, json};

use crate::commands::Command;
use crate::generator::Generator;

fn main() -> anyhow::Result<()> {
    let mut generator = Generator::new()?;
    // The waker lives as long as the poll. If it were dropped earlier, its last wake would be lost.
    let waker = Arc::new(generator.waker()?);
    let lines = read_lines(waker.clone());
    loop {
        generator.turn(None)?;
        while let Ok(line) = lines.try_recv() {
            let Some(line) = line else { return Ok(()) };
            let answer = run(&mut generator, &line).unwrap_or_else(|error| json!({ "error": format!("{error:#}") }));
            writeln!(std::io::stdout().lock(), "{answer}")?;
        }
    }
}

fn run(generator: &mut Generator, line: &str) -> anyhow::Result<Value> {
    let command: Command = serde_json::from_str(line).context("not a command")?;
    match command {
        Command::Open(open) => generator.open(open),
        Command::Forget => Ok(generator.forget()),
        Command::Heard => Ok(generator.heard()),
        Command::Publish(publish) => generator.publish(publish),
        Command::ComeBack(come_back) => generator.come_back(come_back),
        Command::AwaitBack { patience_ms } => generator.await_back(patience_ms),
        Command::Close => generator.close(),
    }
}

/// The lines of the input, and nothing at its end. A thread of its own waits for them.
fn read_lines(waker: Arc<mio::Waker>) -> Receiver<Option<String>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { break };
            if sender.send(Some(line)).is_err() || waker.wake().is_err() {
                return;
            }
        }
        let _ = sender.send(None);
        let _ = waker.wake();
    });
    receiver
}
