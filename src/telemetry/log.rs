//! Logs, one line an event, to stderr: stdout belongs to what commands answer.

use std::io::IsTerminal;

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

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
/// What of the filter is not understood.
pub fn parse_filter(filter: &str) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
    EnvFilter::builder().parse(filter)
}

fn subscriber<W>(format: Format, filter: EnvFilter, colours: bool, writer: W) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    match format {
        Format::Text => Box::new(lines.with_ansi(colours).finish()),
        // The fields stay top-level, where log collectors look for them.
        Format::Json => Box::new(lines.json().flatten_event(true).with_span_list(false).finish()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
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
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
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
