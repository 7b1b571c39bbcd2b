#![doc = include_str!("README.md")]

pub mod domain;
pub mod store;
pub mod feed;
pub mod calls;
pub mod realtime;
pub mod http;
pub mod sweeper;
pub mod presence;
pub mod node;
pub mod app;
pub mod auth;
pub mod config;
pub mod net;
pub mod telemetry;
pub mod cli;
pub mod clock;
#[doc(hidden)]
pub mod fuzzing;
