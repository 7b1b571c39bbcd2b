//! The findings of a check of a store.

/// One line for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How serious it is.
    pub severity: Severity,
    /// One sentence: what is wrong, and what to do.
    pub text: String,
}

/// How serious a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Nothing is wrong.
    Good,
    /// The store works, but with less than it could have.
    Warning,
    /// A node would not work with the store, or would break its promises.
    Error,
}

impl Severity {
    /// Its name in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Severity::Good => "ok",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}
