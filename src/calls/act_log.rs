//! Reports each act when it is over: one line in the log and one count. Nothing else logs or counts acts.
//!
//! A line names the act, its outcome, the user who has the slots, the caller with its role, the space, the day, the
//! slots, the version, the request's id and the duration. Its level is INFO for an act that was done, DEBUG for a
//! refused act, and WARN for a failure of this side.

use std::fmt::{self, Write as _};
use std::time::Instant;

use crate::app::App;
use crate::auth::Claims;
use crate::clock;
use crate::domain::act::MAX_SLOTS_PER_ACT;
use crate::domain::{Day, Refusal, SlotNumber, SpaceKey, UserId};
use crate::telemetry::request::current_id;
use crate::telemetry::users::logged;

/// What an act is about, as the request names it.
pub(super) struct About<'a> {
    /// The space.
    pub space: SpaceKey,
    /// The local day as the request names it; `None` for an act that is not about one day.
    pub date: Option<&'a str>,
    /// The slots as the request names them.
    pub slots: &'a [SlotNumber],
    /// The user who has or gets the slots, if the request names one.
    pub user: Option<&'a UserId>,
}

/// An act that has begun.
pub(super) struct RunningAct<'a> {
    app: &'a App,
    act: &'static str,
    caller: &'a Claims,
    started: Instant,
}

/// The result of an act that was not refused.
pub(super) struct Done {
    /// The version of its last event.
    pub version: u64,
    /// Whether the act had been done before, and only its answer was repeated.
    pub is_repeat: bool,
}

/// Begins an act. Its duration counts from here.
pub(super) fn begin<'a>(app: &'a App, act: &'static str, caller: &'a Claims) -> RunningAct<'a> {
    RunningAct { app, act, caller, started: clock::instant() }
}

impl RunningAct<'_> {
    /// Counts and logs how the act ended. `done_of` reads the version from the answer.
    pub(super) fn end<T>(self, about: &About<'_>, result: &Result<T, Refusal>, done_of: impl FnOnce(&T) -> Done) {
        let done = result.as_ref().map(done_of);
        let outcome = match &done {
            Ok(Done { is_repeat: false, .. }) => "ok",
            Ok(Done { is_repeat: true, .. }) => "repeat",
            Err(refusal) => refusal.code.as_str(),
        };
        self.app.metrics.acts.with_label_values(&[self.act, outcome]).inc();
        let took_ms = clock::instant().saturating_duration_since(self.started).as_micros() as f64 / 1_000.0;
        let version = done.ok().map(|done| done.version);
        // `tracing` needs the level of a line at compile time, so each level has a line of its own.
        macro_rules! tell {
            ($level:ident) => {
                tracing::$level!(
                    act = self.act,
                    outcome,
                    user.id = %logged(about.user.unwrap_or(&self.caller.user)),
                    actor.id = %logged(&self.caller.user),
                    actor.role = self.caller.role.map(|role| role.as_str()),
                    space.id = %about.space,
                    day = about.date.and_then(Day::parse).map(tracing::field::display),
                    slots = %Numbers(about.slots),
                    version,
                    request.id = current_id().as_deref(),
                    duration_ms = took_ms,
                    "act"
                )
            };
        }
        match result {
            Ok(_) => tell!(info),
            Err(refusal) if refusal.code.status() >= 500 => tell!(warn),
            Err(_) => tell!(debug),
        }
    }
}

/// Slot numbers with commas between them. If a request names too many, only as many as an act may have are shown.
struct Numbers<'a>(&'a [SlotNumber]);

impl fmt::Display for Numbers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, number) in self.0.iter().take(MAX_SLOTS_PER_ACT).enumerate() {
            if index > 0 {
                f.write_char(',')?;
            }
            write!(f, "{number}")?;
        }
        if self.0.len() > MAX_SLOTS_PER_ACT { f.write_str(",...") } else { Ok(()) }
    }
}
