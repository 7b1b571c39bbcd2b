//! Logs, one line for each event, on stderr. stdout is for the results of commands.

use std::io::IsTerminal;

use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// The first part of the targets of this program's own events.
const OWN_TARGETS: [&str; 2] = ["slotcast", "sweeper_lambda"];

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One object a line, for log collectors.
    Json,
}

/// Starts logging.
///
/// # Errors
///
/// A bad filter (which [`crate::config`] has already refused), or logging that was started before.
pub fn init(format: Format, filter: &str) -> anyhow::Result<()> {
    let filter = parse_filter(filter)?;
    let colours = std::io::stderr().is_terminal();
    subscriber(format, filter, colours, std::io::stderr).try_init()?;
    Ok(())
}

/// Parses `SLOTCAST_LOG`, a tracing filter such as `info,slotcast::feed=debug`.
///
/// # Errors
///
/// A part of the filter that is not understood.
pub fn parse_filter(filter: &str) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
    EnvFilter::builder().parse(filter)
}

fn subscriber<W>(format: Format, filter: EnvFilter, colours: bool, writer: W) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let harmless = filter_fn(shows_no_token);
    match format {
        Format::Text => Box::new(lines.with_ansi(colours).finish().with(harmless)),
        // The fields stay at the top level, where log collectors look for them.
        Format::Json => Box::new(lines.json().flatten_event(true).with_span_list(false).finish().with(harmless)),
    }
}

/// Whether an event may be logged, whatever the filter says. Lines of libraries below `info` contain requests, packets and
/// commands, and so tokens and passwords.
fn shows_no_token(event: &Metadata<'_>) -> bool {
    let is_own = |name: &&str| {
        let rest = event.target().strip_prefix(*name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    *event.level() <= Level::INFO || OWN_TARGETS.iter().any(is_own)
}

/// A program's last log line, in the format of its log, which says why the program ends. It is shown whatever the filter
/// says.
pub fn fatal_line(format: Format, program: &str, reason: &str) -> String {
    match format {
        Format::Text => format!("{program}: {reason}"),
        Format::Json => {
            let timestamp = crate::clock::wall().rfc3339();
            serde_json::json!({"timestamp": timestamp, "level": "ERROR", "message": reason, "target": program})
                .to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: Format, filter: &str) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = subscriber(format, parse_filter(filter).unwrap(), false, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(user.id = 7, "joined");
            tracing::debug!("hidden");
        });
        let bytes = lines.0.lock().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn no_level_shows_what_libraries_say_of_requests() {
        for filter in ["trace", "engineioxide=trace", "info,hyper=trace,slotcast=trace", "[{token}]=trace"] {
            let lines = Lines::default();
            let writer = lines.clone();
            let subscriber = subscriber(Format::Text, parse_filter(filter).unwrap(), false, move || writer.clone());
            tracing::subscriber::with_default(subscriber, || {
                let _span =
                    tracing::trace_span!(target: "engineioxide::service", "request", token = "geheim").entered();
                tracing::trace!(target: "engineioxide::service", "GET /socket.io/?token=geheim");
                tracing::debug!(target: "hyper::proto", "geheim");
                tracing::debug!(target: "slotcaster", "geheim");
                tracing::trace!(target: "slotcast::realtime", "ours");
                tracing::info!(target: "hyper::server", "theirs");
            });
            let text = String::from_utf8(lines.0.lock().clone()).unwrap();
            assert!(!text.contains("geheim"), "{filter}: {text}");
            assert_eq!(
                text.contains("ours"),
                filter == "trace" || filter.contains("slotcast=trace"),
                "{filter}: {text}"
            );
        }
    }

    #[test]
    fn a_fatal_error_has_the_form_of_the_log() {
        let reason = "while starting: the port\nis taken";
        assert_eq!(fatal_line(Format::Text, "slotcast", reason), "slotcast: while starting: the port\nis taken");
        let line = fatal_line(Format::Json, "slotcast", reason);
        assert_eq!(line.lines().count(), 1);
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&line["level"], &line["message"]), (&"ERROR".into(), &reason.into()));
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'), "{line}");
    }

    #[test]
    fn people_read_text() {
        let text = logged(Format::Text, "info");
        assert!(text.contains("INFO") && text.contains("joined user.id=7"), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }

    #[test]
    fn collectors_read_one_json_object_a_line() {
        let text = logged(Format::Json, "slotcast=info");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["message"], "joined");
        assert_eq!(line["user.id"], 7);
        assert_eq!(line["level"], "INFO");
    }

    #[test]
    fn a_bad_filter_is_an_error() {
        assert!(parse_filter("slotcast=loud").is_err());
    }
}
