//! What an operator can set: defaults, then a TOML file, then the environment. The file uses the variables' own names.
//!
//! - `default.toml`: every variable with its meaning and default.
//! - [`node`]: what a node and its commands can be told.
//! - [`source`]: which value is in force, and where it comes from.
//! - [`load`]: makes a checked [`Config`] of these; `parse` checks each variable's text, and `auth` checks secrets.
//! - `files`: secrets that come from a file of their own.
//! - [`function`]: the few variables that the scheduled function reads, from the environment alone.
//! - `slips`: newlines, quotes and placeholders in a value.
//! - [`webhooks`]: the endpoints that hear of acts.
//! - [`error`]: what is wrong, all at once.

#[cfg(feature = "server")]
pub mod node;
#[cfg(feature = "server")]
pub mod source;
#[cfg(feature = "server")]
pub mod load;
mod files;
pub mod function;
pub mod error;
pub mod strings;
#[cfg(feature = "server")]
mod auth;
#[cfg(feature = "server")]
mod parse;
#[cfg(feature = "server")]
mod proxies;
mod redis;
#[cfg(feature = "server")]
mod slips;
#[cfg(feature = "server")]
pub mod webhooks;
#[cfg(all(test, feature = "server"))]
mod tests;

pub use error::{ConfigError, EXIT_CODE, Problem};
#[cfg(feature = "server")]
pub use load::{KeyNeed, Loaded, Needs, Setting, log_format};
#[cfg(feature = "server")]
pub use node::*;
#[cfg(feature = "server")]
pub use proxies::{ForwardedHeader, Network};
#[cfg(feature = "server")]
pub use source::Source;
pub use strings::{ProcessEnvironment, Strings};
#[cfg(feature = "server")]
pub use webhooks::Webhook;
