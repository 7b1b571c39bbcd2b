//! The scheduled function on AWS Lambda: reads `REDIS_URL`, connects once, and sweeps at each invocation.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use slotcast::config::ProcessEnvironment;
use slotcast::config::function::FunctionConfig;
use slotcast::function;
use slotcast::store::redis::{Fence, RedisOptions, RedisStore};
use slotcast::store::{JournalBounds, SlotStore};
use slotcast::telemetry::log;

/// The variables that AWS Lambda sets for every function. The library panics if one is missing.
const PLATFORM: [&str; 4] = [
    "AWS_LAMBDA_RUNTIME_API",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_VERSION",
];

/// One thread is enough: an invocation is one sweep, and a small function gets less than one processor.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    if let Some(missing) = PLATFORM.iter().find(|name| std::env::var_os(name).is_none()) {
        let reason =
            format!("{missing} is not set: this program runs on AWS Lambda; elsewhere there is `slotcast sweep`");
        let _ = writeln!(std::io::stderr(), "sweeper_lambda: {reason}");
        return ExitCode::FAILURE;
    }
    let store = match start() {
        Ok(store) => store,
        Err(error) => {
            let reason = format!("{error:#}");
            if let Err(error) = function::report_failed_start(&reason).await {
                return fail(&format!("{reason} (and the platform could not be told: {error})"));
            }
            return fail(&reason);
        }
    };
    match function::run(store).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

/// Reads the configuration, starts logging, and opens the store that all invocations use.
fn start() -> anyhow::Result<Arc<dyn SlotStore>> {
    let config = FunctionConfig::load(&ProcessEnvironment)?;
    log::init(log::Format::Json, &config.log_filter)?;
    open_store(&config)
}

/// Opens the store without checking it: a sweep reports its own failure, and a check would slow down each start.
fn open_store(config: &FunctionConfig) -> anyhow::Result<Arc<dyn SlotStore>> {
    let journal = JournalBounds { days: config.journal_days, ..JournalBounds::default() };
    let options = RedisOptions { fence: Fence::WhereAllowed, journal, ..RedisOptions::default() };
    Ok(Arc::new(RedisStore::open(&config.redis_url, &config.redis_prefix, options)?))
}

fn fail(reason: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "{}", log::fatal_line(log::Format::Json, "sweeper_lambda", reason));
    ExitCode::FAILURE
}
