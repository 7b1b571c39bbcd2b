//! The commands of the `slotcast` binary. Their results go to stdout, everything else to stderr.

pub mod check_config;
pub mod healthcheck;
pub mod journal;
pub mod migrate;
pub mod serve;
pub mod sweep;
pub mod token;

use clap::{Parser, Subcommand};

use crate::config;

/// Live availability server: hold, book and release slots, seen at once by every Socket.IO client.
///
/// Settings come from the environment and a TOML file: `slotcast check-config` shows them.
#[derive(Clone, Debug, Parser)]
#[command(name = "slotcast", version = crate::telemetry::build::VERSION)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Subcommand)]
pub enum Command {
    /// Run a node (the default).
    Serve,
    /// Free ended holds, once or at intervals, and print each report as a line of JSON.
    Sweep(sweep::SweepArgs),
    /// Move all stored data to the format of this version at once, and print a report as a line of JSON.
    Migrate,
    /// Print the journal: who did what to which slots, one line of JSON for each entry.
    Journal(journal::JournalArgs),
    /// Print a token signed with JWT_SECRET.
    Token(token::TokenArgs),
    /// Ask the node on this machine for its health: exit 0 if it answers 200.
    Healthcheck(healthcheck::HealthcheckArgs),
    /// Show the settings in force, where each comes from, and what is wrong: exit 64 if `serve` would refuse them.
    CheckConfig(check_config::CheckConfigArgs),
    /// Print the OpenAPI document.
    #[command(name = "openapi")]
    OpenApi,
}

impl Cli {
    /// The command that was given, or [`Command::Serve`].
    pub fn command(self) -> Command {
        self.command.unwrap_or(Command::Serve)
    }
}

/// The exit code of a program that ends with this error: [`config::EXIT_CODE`] for a wrong configuration, else 1.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    if error.chain().any(|cause| cause.is::<config::ConfigError>()) { config::EXIT_CODE } else { 1 }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::config::{Config, Needs};

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Cli::try_parse_from(line.split(' ')).map(Cli::command)
    }

    #[test]
    fn the_definitions_are_sound() {
        <Cli as CommandFactory>::command().debug_assert();
    }

    #[test]
    fn no_command_is_serve() {
        assert_eq!(parse("slotcast").unwrap(), Command::Serve);
        assert_eq!(parse("slotcast serve").unwrap(), Command::Serve);
        assert_eq!(parse("slotcast sweep").unwrap(), Command::Sweep(sweep::SweepArgs { every: None }));
        let every = Some(std::time::Duration::from_secs(30));
        assert_eq!(parse("slotcast sweep --every 30s").unwrap(), Command::Sweep(sweep::SweepArgs { every }));
        assert!(parse("slotcast sweep --every 1ms").is_err());
        let probe = healthcheck::HealthcheckArgs { path: "/readyz".into(), timeout: 3 };
        assert_eq!(parse("slotcast healthcheck --path /readyz").unwrap(), Command::Healthcheck(probe));
        let plain = check_config::CheckConfigArgs::default();
        assert_eq!(parse("slotcast check-config").unwrap(), Command::CheckConfig(plain));
        let sweep = check_config::CheckConfigArgs { purpose: check_config::Purpose::Sweep, strict: true, ..plain };
        assert_eq!(parse("slotcast check-config --strict --for sweep").unwrap(), Command::CheckConfig(sweep));
        let args = journal::JournalArgs { follow: true, site: crate::domain::SiteId::new(3), ..Default::default() };
        assert_eq!(parse("slotcast journal --follow --site 3").unwrap(), Command::Journal(args));
        for bad in ["--site x", "--act dance", "--from yesterday", "--user="] {
            assert!(parse(&format!("slotcast journal {bad}")).is_err(), "{bad}");
        }
        assert_eq!(parse("slotcast migrate").unwrap(), Command::Migrate);
        assert_eq!(parse("slotcast openapi").unwrap(), Command::OpenApi);
        assert!(parse("slotcast dance").is_err());
    }

    #[test]
    fn a_wrong_configuration_has_an_exit_code_of_its_own() {
        let env = std::collections::BTreeMap::from([("PORT".to_string(), "x".to_string())]);
        let error = anyhow::Error::new(Config::load(&env, Needs::SERVE).unwrap_err());
        assert_eq!(exit_code(&error), 64);
        assert_eq!(exit_code(&error.context("while starting")), 64);
        assert_eq!(exit_code(&anyhow::anyhow!("other")), 1);
    }
}
