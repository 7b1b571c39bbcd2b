//! Every metric of a node, on one page. The doc comment of each is its help text; its name is `slotcast_` and the
//! field's, with `_total` after a counter's.

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use super::build;
use crate::domain::{Act, ClientEvent, ServerEvent};

/// Buckets, in seconds, of things that should take milliseconds: an act, a delivery.
const SHORT: &[f64] = &[0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// Buckets, in seconds, of lateness: finest around the promised 250 ms, and up to a sweeper that is switched off.
const LATENESS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 60.0, 300.0, 3600.0];

/// Stands for any name of an event that clients may not send, so that a client cannot make new series.
const OTHER: &str = "other";

/// Stands for any name of an event that nodes do not send by themselves.
const NOTIFICATION: &str = "notification";

metrics! {
    /// Counts what happens on this node. Clones share the same counts.
    pub struct Metrics {
        /// Sockets that are connected now.
        connections: IntGauge,
        /// Distinct users among the connected sockets.
        users: IntGauge,
        /// Rooms that have a member on this node.
        rooms: IntGauge,
        /// Memberships of sockets in rooms.
        room_members: IntGauge,
        /// Stored records of slots that could not be read when their day was last read: shown as blocked.
        unreadable_records: IntGauge,
        /// Engine.IO sessions that are held now, also those that wait for their end.
        engine_sessions: IntGauge,
        /// Engine.IO sessions among them whose client has shown no token that holds.
        strangers: IntGauge,
        /// Attempts to connect, by outcome: accepted, no_token, bad_token, keys_unavailable, foreign_namespace, draining,
        /// node_full, connection_full.
        connects: IntCounterVec ["outcome"],
        /// Sockets that were closed, by reason.
        disconnects: IntCounterVec ["reason"],
        /// Sockets that the library lost without a word, and that were ended for it.
        sockets_lost: IntCounter,
        /// Events from clients, by name; names that are not of the protocol count as other.
        events_in: IntCounterVec ["event"],
        /// Events to clients, by name, one per socket; messages of the application count as notification.
        events_out: IntCounterVec ["event"],
        /// Acts on slots, by act and outcome: ok, repeat, or the code of the refusal.
        acts: IntCounterVec ["act", "outcome"],
        /// Calls to erase a user, by outcome: ok, or the code of the refusal.
        erasures: IntCounterVec ["outcome"],
        /// Seconds from the end of a hold to its freeing.
        hold_lateness_seconds: Histogram in LATENESS,
        /// Holds that this node freed because they ended.
        freed: IntCounter,
        /// Sweeps, by what caused them: deadline, interval, call.
        sweeps: IntCounterVec ["trigger"],
        /// Seconds from the timestamp of a change to its delivery to the sockets of this node.
        feed_lag_seconds: Histogram in LATENESS,
        /// Messages heard from the store, by kind.
        feed_messages: IntCounterVec ["kind"],
        /// Times that a topic was read from the log because something may have been missed, by cause.
        feed_catch_ups: IntCounterVec ["cause"],
        /// Snapshots of a day that were sent.
        feed_snapshots: IntCounter,
        /// Topics that this node watches.
        feed_topics: IntGauge,
        /// Events that wait in the queues of sockets.
        queue_depth: IntGauge,
        /// Sockets that were closed because they could not keep up.
        slow_clients_closed: IntCounter,
        /// Messages of emitters of other programs, by outcome: sent, too_large, malformed, binary, foreign, reserved, request.
        emitter_messages: IntCounterVec ["outcome"],
        /// Messages to endpoints of webhooks, by endpoint and outcome: delivered, refused (a status that is none of 2xx), timeout,
        /// unreachable; skipped when one was tried for three days.
        webhook_deliveries: IntCounterVec ["endpoint", "outcome"],
        /// Entries of the journal that were no longer kept, by endpoint, before they were delivered or looked at.
        webhook_lost: IntCounterVec ["endpoint"],
        /// Seconds from an act to its delivery, by endpoint.
        webhook_lag_seconds: HistogramVec ["endpoint"] in LATENESS,
        /// Spaces with an entry that is still to be delivered, by endpoint; 0 on nodes that send no webhooks now.
        webhook_waiting: IntGaugeVec ["endpoint"],
        /// Seconds since the oldest entry that is to be delivered was written, by endpoint; 0 on nodes that send no webhooks now.
        webhook_oldest_seconds: IntGaugeVec ["endpoint"],
        /// Seconds that the store took to answer, by operation.
        store_seconds: HistogramVec ["operation"] in SHORT,
        /// Operations of the store that failed, refusals not counted.
        store_errors: IntCounterVec ["operation"],
        /// Entries of the journal that calls answered.
        journal_entries: IntCounter,
        /// Calls that wait for the first new entry of the journal.
        journal_waiting: IntGauge,
        /// Seconds from a request's head to its answer's, by method, route and status.
        http_seconds: HistogramVec ["method", "route", "status"] in SHORT,
        /// Requests that are being answered now.
        http_in_flight: IntGauge,
        /// TCP connections of clients that are open now, also those that say nothing.
        tcp_connections: IntGauge,
        /// TCP connections that were refused because as many were open as files may be.
        tcp_refused: IntCounter,
        /// Tasks of the runtime that live now: some of the node itself, and a few for each connection and watched space.
        tasks: IntGauge,
        /// Whether this node is going away: 1 or 0.
        draining: IntGauge,
        /// Whether the node is ready to serve, as `/readyz` says, looked at every few seconds: 1 or 0.
        ready: IntGauge,
        /// Always 1; the labels are the version of the program and the commit that it was built from.
        build_info: IntGaugeVec ["version", "commit"],
    }
}

impl Metrics {
    /// All metrics at zero, in a registry of their own, so that two nodes in one process do not mix.
    #[expect(clippy::expect_used, reason = "names, labels and buckets are constants: every test that makes one checks")]
    pub fn new() -> Self {
        let metrics = Self::register(Registry::new()).expect("the metrics have distinct, valid names");
        metrics.watch_process();
        metrics.build_info.with_label_values(&[env!("CARGO_PKG_VERSION"), build::COMMIT]).set(1);
        // Series that alerts watch exist from the start: a rate over a series that appears with its first count is 0.
        for outcome in [
            "accepted",
            "no_token",
            "bad_token",
            "keys_unavailable",
            "foreign_namespace",
            "draining",
            "node_full",
            "connection_full",
        ] {
            metrics.connects.with_label_values(&[outcome]);
        }
        for act in Act::ALL {
            for outcome in ["ok", "unavailable"] {
                metrics.acts.with_label_values(&[act.as_str(), outcome]);
            }
        }
        for outcome in ["ok", "unavailable"] {
            metrics.erasures.with_label_values(&[outcome]);
        }
        for trigger in ["deadline", "interval", "call"] {
            metrics.sweeps.with_label_values(&[trigger]);
        }
        metrics
    }

    /// Adds the facts of this process that are read at each scrape: `process_cpu_seconds_total`,
    /// `process_resident_memory_bytes`, `process_open_fds`, and others that the crate knows. Only Linux tells them.
    fn watch_process(&self) {
        #[cfg(target_os = "linux")]
        {
            let process = prometheus::process_collector::ProcessCollector::for_self();
            if let Err(error) = self.registry.register(Box::new(process)) {
                tracing::warn!(%error, "cannot collect the metrics of this process");
            }
        }
    }

    /// Counts an event from a client, whatever its name. Answers the name under which it was counted.
    pub fn count_event_in(&self, event: &str) -> &'static str {
        let label = ClientEvent::parse(event).map_or(OTHER, ClientEvent::as_str);
        self.events_in.with_label_values(&[label]).inc();
        label
    }

    /// Counts an event that went to `sockets` sockets, whatever its name.
    pub fn count_event_out(&self, event: &str, sockets: u64) {
        self.events_out
            .with_label_values(&[ServerEvent::parse(event).map_or(NOTIFICATION, ServerEvent::as_str)])
            .inc_by(sockets);
    }

    /// All metrics as Prometheus text.
    pub fn encode(&self) -> String {
        let families = self.registry.gather();
        TextEncoder::new().encode_to_string(&families).unwrap_or_else(|error| format!("# {error}\n"))
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Makes the struct and its `register` from lines `name: Kind ["label", ...] in BUCKETS`. The doc comment is the help
/// text.
macro_rules! metrics {
    (
        $(#[$attribute:meta])*
        pub struct $Metrics:ident {
            $($(#[doc = $help:literal])+ $name:ident: $Kind:ident $([$($label:literal),+])? $(in $buckets:ident)?,)+
        }
    ) => {
        $(#[$attribute])*
        #[derive(Clone)]
        pub struct $Metrics {
            registry: Registry,
            $($(#[doc = $help])+ pub $name: $Kind,)+
        }

        impl $Metrics {
            fn register(registry: Registry) -> prometheus::Result<Self> {
                Ok(Self {
                    $($name: $Kind::make(Description {
                        name: stringify!($name),
                        help: concat!($($help),+),
                        labels: &[$($($label),+)?],
                        buckets: <[&[f64]]>::first(&[$($buckets)?]).copied().unwrap_or_default(),
                    }, &registry)?,)+
                    registry,
                })
            }
        }
    };
}
use metrics;

/// Counts a call in a gauge until it is answered, or its caller goes away.
pub struct InFlight<'a>(&'a IntGauge);

impl<'a> InFlight<'a> {
    /// Counts the call from now on.
    pub fn enter(gauge: &'a IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The facts from which a metric is made.
struct Description<'a> {
    name: &'a str,
    help: &'a str,
    labels: &'a [&'a str],
    buckets: &'a [f64],
}

impl Description<'_> {
    fn opts(&self, suffix: &str) -> Opts {
        Opts::new(format!("slotcast_{}{suffix}", self.name), self.help.trim())
    }

    fn histogram_opts(&self) -> HistogramOpts {
        HistogramOpts::from(self.opts("")).buckets(self.buckets.to_vec())
    }
}

/// A kind of metric.
trait Make: Collector + Clone + Sized + 'static {
    fn build(description: Description) -> prometheus::Result<Self>;

    fn make(description: Description, registry: &Registry) -> prometheus::Result<Self> {
        let metric = Self::build(description)?;
        registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }
}

impl Make for IntCounter {
    fn build(description: Description) -> prometheus::Result<Self> {
        Self::with_opts(description.opts("_total"))
    }
}

impl Make for IntCounterVec {
    fn build(description: Description) -> prometheus::Result<Self> {
        Self::new(description.opts("_total"), description.labels)
    }
}

impl Make for IntGauge {
    fn build(description: Description) -> prometheus::Result<Self> {
        Self::with_opts(description.opts(""))
    }
}

impl Make for IntGaugeVec {
    fn build(description: Description) -> prometheus::Result<Self> {
        Self::new(description.opts(""), description.labels)
    }
}

impl Make for Histogram {
    fn build(description: Description) -> prometheus::Result<Self> {
        Self::with_opts(description.histogram_opts())
    }
}

impl Make for HistogramVec {
    fn build(description: Description) -> prometheus::Result<Self> {
        Self::new(description.histogram_opts(), description.labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_doc_comment_is_the_help_text() {
        let metrics = Metrics::new();
        metrics.freed.inc_by(2);
        let text = metrics.encode();
        assert!(text.contains("# HELP slotcast_connections Sockets that are connected now.\n"), "{text}");
        assert!(text.contains("# TYPE slotcast_freed_total counter\nslotcast_freed_total 2\n"), "{text}");
        assert!(text.contains("slotcast_connects_total{outcome=\"bad_token\"} 0\n"), "{text}");
        assert!(text.contains("slotcast_hold_lateness_seconds_bucket{le=\"0.25\"} 0\n"), "{text}");
        let known = ["slotcast_", "process_", "# "];
        assert!(text.lines().all(|line| known.iter().any(|start| line.starts_with(start))), "{text}");
    }

    #[test]
    fn what_was_built_and_what_the_process_takes_are_told() {
        let text = Metrics::new().encode();
        let version = env!("CARGO_PKG_VERSION");
        let commit = build::COMMIT;
        assert!(
            text.contains(&format!("slotcast_build_info{{commit=\"{commit}\",version=\"{version}\"}} 1\n")),
            "{text}"
        );
        for name in
            ["process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds", "process_threads"]
        {
            let value = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
            assert!(value.is_some_and(|value| value.parse::<f64>().is_ok_and(|value| value >= 0.0)), "{name}: {text}");
        }
    }

    #[test]
    fn a_client_cannot_make_new_series() {
        let metrics = Metrics::new();
        for event in ["join_space", "hold_slot", "x", "y", ""] {
            metrics.count_event_in(event);
        }
        assert_eq!(metrics.events_in.with_label_values(&["other"]).get(), 3);
        assert_eq!(metrics.events_in.with_label_values(&["join_space"]).get(), 1);
        metrics.count_event_out("slot_update", 10);
        metrics.count_event_out("booking_paid", 2);
        assert_eq!(metrics.events_out.with_label_values(&["slot_update"]).get(), 10);
        assert_eq!(metrics.events_out.with_label_values(&["notification"]).get(), 2);
    }

    #[test]
    fn clones_share_their_counts_and_two_nodes_do_not() {
        let (one, other) = (Metrics::new(), Metrics::new());
        one.clone().connections.inc();
        assert_eq!((one.connections.get(), other.connections.get()), (1, 0));
    }
}
