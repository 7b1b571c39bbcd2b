//! The one integration-test binary.

mod embedded_store;
mod rule_properties;
mod store_conformance;
