#![doc = include_str!("README.md")]

pub mod domain;
pub mod store;
pub mod calls;
pub mod app;
pub mod auth;
pub mod config;
pub mod telemetry;
pub mod cli;
pub mod clock;
