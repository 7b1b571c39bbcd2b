//! The program: reads the configuration, starts logging, and hands over to a command.

use std::io::{Write, stdout};
use std::process::ExitCode;

use clap::Parser;
use tokio_util::sync::CancellationToken;

use slotcast::cli::{self, Cli, Command};
use slotcast::config::{Config, KeySource, Loaded, Needs, ProcessEnvironment};
use slotcast::{clock, config, http, telemetry};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    match run(Cli::parse().command()) {
        Ok(code) => code,
        Err(error) => {
            let line =
                telemetry::log::fatal_line(config::log_format(&ProcessEnvironment), "slotcast", &format!("{error:#}"));
            let _ = writeln!(std::io::stderr(), "{line}");
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
        Command::Migrate => {
            let config = load(Needs::SWEEP)?;
            block_on(cli::migrate::migrate(&config, &mut stdout()))?;
        }
        Command::Journal(args) => {
            let config = load(Needs::SWEEP)?;
            block_on(async {
                let shutdown = CancellationToken::new();
                tokio::spawn(wait_for_signal(shutdown.clone())?);
                cli::journal::journal(&config, &args, shutdown, &mut stdout()).await
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
        Command::CheckConfig(args) => {
            let loaded = Config::load(&ProcessEnvironment, args.purpose.needs());
            let findings = block_on(async { Ok(cli::check_config::check_store(&loaded).await) })?;
            return Ok(cli::check_config::report(&loaded, &findings, args, &mut stdout())?.into());
        }
        Command::OpenApi => writeln!(stdout(), "{}", http::openapi().to_pretty_json()?)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads the configuration, starts logging as it says, and logs its warnings.
fn load(needs: Needs) -> anyhow::Result<Config> {
    let Loaded { config, warnings, .. } = Config::load(&ProcessEnvironment, needs)?;
    telemetry::log::init(config.environment.log_format(), &config.log_filter)?;
    let secret = config.auth.as_ref().and_then(|auth| match &auth.keys {
        KeySource::Secret(secret) => Some(secret.as_slice()),
        KeySource::Jwks { .. } => None,
    });
    telemetry::users::init(config.log_users, secret);
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    Ok(config)
}

fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}

/// Resolves at the first SIGTERM, SIGINT or SIGHUP. Platforms send SIGTERM or SIGINT; a terminal that closes sends SIGHUP.
/// If SIGHUP was ignored when the program started (`nohup`), it stays ignored.
fn wait_for_signal(shutdown: CancellationToken) -> anyhow::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut hangup = if is_hangup_ignored() { None } else { Some(signal(SignalKind::hangup())?) };
    Ok(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
            () = async {
                match &mut hangup {
                    Some(hangup) => drop(hangup.recv().await),
                    None => std::future::pending().await,
                }
            } => "SIGHUP",
        };
        tracing::info!(signal = name, "leaving");
        shutdown.cancel();
    })
}

/// Whether SIGHUP was ignored when this program started. Linux tells it as a mask in which signal N is bit N-1.
fn is_hangup_ignored() -> bool {
    const SIGHUP_BIT: u64 = 1;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & SIGHUP_BIT != 0)
}
