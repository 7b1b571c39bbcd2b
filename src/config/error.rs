//! What is wrong with a configuration: all faults at once, each with its variable, value and source.

use std::fmt;

/// The exit code of a program whose configuration is wrong.
pub const EXIT_CODE: u8 = 64;

/// All faults of a configuration. A program that ends because of them exits with [`EXIT_CODE`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// The faults, at least one.
    pub problems: Vec<Problem>,
    /// Values that are allowed but look wrong, one sentence each. A misspelt name may explain the fault.
    pub warnings: Vec<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.as_slice() {
            [problem] => write!(f, "the configuration is wrong: {problem}"),
            problems => {
                write!(f, "the configuration is wrong in {} places:", problems.len())?;
                problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
            }
        }?;
        self.warnings.iter().try_for_each(|warning| write!(f, "\nwarning: {warning}"))
    }
}

/// One thing that is wrong. Its text never has the value of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The variable; the first one where two contradict each other.
    pub variable: String,
    /// A sentence that names the variable, its value, where that came from and what is allowed.
    pub message: String,
}

impl Problem {
    pub(super) fn new(variable: &str, message: String) -> Self {
        Self { variable: variable.into(), message }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
