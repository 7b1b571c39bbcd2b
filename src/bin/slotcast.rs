//! The program: reads the configuration, starts logging, and hands over to a command.

use std::io::{Write, stdout};
use std::process::ExitCode;

use clap::Parser;
use tokio_util::sync::CancellationToken;

use slotcast::cli::{self, Cli, Command};
use slotcast::config::{Config, Loaded, Needs, ProcessEnvironment};
use slotcast::{clock, http, telemetry};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run(Cli::parse().command()) {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "slotcast: {error:#}");
            cli::exit_code(&error).into()
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve => {
            let config = load(Needs::SERVE)?;
            block_on(async {
                let shutdown = CancellationToken::new();
                tokio::spawn(wait_for_signal(shutdown.clone())?);
                cli::serve::serve(config, shutdown, &mut stdout()).await
            })?;
        }
        Command::Sweep(args) => {
            let config = load(Needs::SWEEP)?;
            block_on(async {
                let Some(every) = args.every else { return cli::sweep::sweep(&config, &mut stdout()).await };
                let shutdown = CancellationToken::new();
                tokio::spawn(wait_for_signal(shutdown.clone())?);
                cli::sweep::sweep_every(&config, every, shutdown, &mut stdout()).await
            })?;
        }
        Command::Healthcheck(args) => {
            let config = Config::load(&ProcessEnvironment, Needs::PROBE)?.config;
            cli::healthcheck::healthcheck(&config.listen, &args)?;
        }
        Command::Token(args) => {
            let config = load(Needs::TOKEN)?;
            writeln!(stdout(), "{}", cli::token::make_token(config.auth.as_ref(), &args, clock::wall())?)?;
        }
        Command::CheckConfig => {
            let loaded = Config::load(&ProcessEnvironment, Needs::CHECK);
            let findings = block_on(async { Ok(cli::check_config::check_store(&loaded).await) })?;
            return Ok(cli::check_config::report(&loaded, &findings, &mut stdout())?.into());
        }
        Command::OpenApi => writeln!(stdout(), "{}", http::openapi().to_pretty_json()?)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads the configuration, starts logging by it, and logs what looks wrong with it.
fn load(needs: Needs) -> anyhow::Result<Config> {
    let Loaded { config, warnings, .. } = Config::load(&ProcessEnvironment, needs)?;
    telemetry::log::init(config.environment.log_format(), &config.log_filter)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    Ok(config)
}

fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}

/// Resolves at the first SIGTERM or SIGINT; platforms send either.
fn wait_for_signal(shutdown: CancellationToken) -> anyhow::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal = name, "leaving");
        shutdown.cancel();
    })
}
