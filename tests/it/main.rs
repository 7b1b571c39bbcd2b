//! The one integration-test binary.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking; clippy does not count helpers of tests as tests"
)]

mod bookings_api;
mod documents;
mod embedded_store;
mod feed;
mod feed_epochs;
mod formats;
mod fuzz_parsers;
#[cfg(feature = "lambda")]
mod function;
mod feed_renewal;
mod http_api;
mod journal_calls;
mod journal_halves;
mod journal_metrics;
mod journal_reader;
mod journal_store;
mod layering;
mod library_faults;
mod openapi;
mod polling;
mod privacy_calls;
mod privacy_store;
mod redis_agreement;
mod redis_clock;
mod redis_formats;
mod redis_half_told;
mod redis_halves;
mod redis_indexes;
mod redis_moving_slots;
mod redis_repeats;
mod redis_restored;
mod redis_store;
mod redis_subscriptions;
mod rule_properties;
mod slot_taken;
mod store_conformance;
mod support;
mod sweeper;
mod terraform;
mod webhook_delivery;
mod webhook_places;
