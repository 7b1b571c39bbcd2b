//! The report of each sentinel, and the conclusion from all reports.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::store::redis::endpoint::Node;

/// How long a report counts. If a sentinel ends while it replaces a primary, nodes wait this long: the other sentinels need
/// that time to hear what it did.
pub(super) const FRESH: Duration = Duration::from_secs(3);

/// The states of a failover in which a replica may be promoted already, and is not named yet.
const REPLACING: &[&str] = &["select_slave", "send_slaveof_noone", "wait_promotion"];

/// The reports of all sentinels.
#[derive(Default)]
pub(super) struct Heard {
    /// The reports by the sentinels' own ids, because a sentinel may be known under several addresses.
    pub(super) reports: BTreeMap<String, Report>,
    /// The sentinels that a task listens to.
    pub(super) followed: HashSet<Node>,
}

/// The report of one sentinel.
#[derive(Clone, Debug)]
pub(super) struct Report {
    pub(super) at: Instant,
    pub(super) primary: Option<Node>,
    /// The epoch of the sentinel's configuration.
    pub(super) epoch: u64,
    pub(super) is_replacing: bool,
    /// How many other sentinels it knows.
    pub(super) others: usize,
}

/// The conclusion from the reports.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sum {
    /// The server that most reports of the newest configuration name.
    pub(super) primary: Option<Node>,
    pub(super) is_replacing: bool,
    /// How many reports name the primary.
    pub(super) agreeing: usize,
    pub(super) all: usize,
}

impl Heard {
    /// Takes a report. A warning that came after the question stays: the answer may be older than the warning.
    pub(super) fn take(&mut self, id: &str, mut report: Report) {
        let warned = self.reports.get(id).is_some_and(|last| last.is_replacing && last.at > report.at);
        report.is_replacing |= warned;
        self.reports.insert(id.to_owned(), report);
    }

    /// The conclusion from the reports since an instant.
    pub(super) fn sum(&self, since: Instant) -> Sum {
        let fresh: Vec<&Report> = self.reports.values().filter(|report| report.at >= since).collect();
        let all = fresh.iter().map(|report| report.others + 1).max().unwrap_or(0).max(fresh.len());
        let newest = fresh.iter().filter(|report| report.primary.is_some()).map(|report| report.epoch).max();
        let mut votes: BTreeMap<(&str, u16), (usize, &Node)> = BTreeMap::new();
        for report in fresh.iter().filter(|report| Some(report.epoch) == newest) {
            if let Some(node) = &report.primary {
                votes.entry((&node.host, node.port)).or_insert((0, node)).0 += 1;
            }
        }
        let elected = votes.into_values().max_by_key(|(count, _)| *count);
        let primary = elected.map(|(_, node)| node.clone());
        Sum {
            is_replacing: fresh.iter().any(|report| report.is_replacing),
            agreeing: fresh.iter().filter(|report| report.primary.is_some() && report.primary == primary).count(),
            primary,
            all,
        }
    }

    /// Whether all sentinels that were heard lately have answered since an instant.
    pub(super) fn all_answered(&self, since: Instant) -> bool {
        let lately = since.checked_sub(FRESH).unwrap_or(since);
        self.reports.values().filter(|report| report.at >= lately).all(|report| report.at >= since)
    }
}

pub(super) fn report_of(at: Instant, master: &HashMap<String, String>, address: Option<(String, u16)>) -> Report {
    let number = |name: &str| master.get(name).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    Report {
        at,
        primary: address.map(|(host, port)| Node { host, port }),
        epoch: number("config-epoch"),
        is_replacing: master.get("failover-state").is_some_and(|state| REPLACING.contains(&state.as_str())),
        others: usize::try_from(number("num-other-sentinels")).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(port: u16) -> Node {
        Node { host: "h".into(), port }
    }

    fn heard(reports: &[(u16, u64, bool)]) -> Heard {
        let report = |(id, (port, epoch, is_replacing)): (usize, &(u16, u64, bool))| {
            let primary = Some(node(*port));
            (
                id.to_string(),
                Report { at: Instant::now(), primary, epoch: *epoch, is_replacing: *is_replacing, others: 2 },
            )
        };
        Heard { reports: reports.iter().enumerate().map(report).collect(), ..Heard::default() }
    }

    fn sum(reports: &[(u16, u64, bool)]) -> (Option<u16>, bool, usize) {
        let now = Instant::now();
        let sum = heard(reports).sum(now.checked_sub(FRESH).unwrap_or(now));
        assert_eq!(sum.all, 3);
        (sum.primary.map(|node| node.port), sum.is_replacing, sum.agreeing)
    }

    #[test]
    fn the_newest_configuration_names_the_primary() {
        assert_eq!(sum(&[(1, 0, false), (1, 0, false), (1, 0, false)]), (Some(1), false, 3));
        // The sentinel that did the failover is the first to say it.
        assert_eq!(sum(&[(1, 0, false), (2, 1, false), (1, 0, false)]), (Some(2), false, 1));
        // A sentinel that was away does not know it yet.
        assert_eq!(sum(&[(2, 1, false), (2, 1, false), (1, 0, false)]), (Some(2), false, 2));
        // Among reports of one configuration, the majority is right.
        assert_eq!(sum(&[(1, 0, false), (2, 0, false), (2, 0, false)]), (Some(2), false, 2));
        assert_eq!(sum(&[(1, 3, false)]), (Some(1), false, 1));
    }

    #[test]
    fn a_failover_is_one_whoever_does_it() {
        assert_eq!(sum(&[(1, 0, false), (1, 0, true), (1, 0, false)]), (Some(1), true, 3));
    }

    #[test]
    fn only_what_was_said_lately_counts() {
        let heard = heard(&[(1, 0, true), (1, 0, false), (1, 0, false)]);
        let later = Instant::now() + Duration::from_millis(1);
        assert_eq!(heard.sum(later), Sum { primary: None, is_replacing: false, agreeing: 0, all: 0 });
        assert!(!heard.all_answered(later));
    }

    #[test]
    fn a_report_is_read_from_what_a_sentinel_answers() {
        let master = |state: &[(&str, &str)]| {
            let fields = [("config-epoch", "7"), ("num-other-sentinels", "2")];
            fields.iter().chain(state).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let at = Instant::now();
        let report = report_of(at, &master(&[]), Some(("h".into(), 1)));
        assert_eq!((report.primary, report.epoch, report.is_replacing, report.others), (Some(node(1)), 7, false, 2));
        for (state, expected) in
            [("wait_start", false), ("select_slave", true), ("wait_promotion", true), ("reconf_slaves", false)]
        {
            assert_eq!(report_of(at, &master(&[("failover-state", state)]), None).is_replacing, expected, "{state}");
        }
    }
}
