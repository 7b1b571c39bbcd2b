//! The environment as the configuration reads it.

use std::collections::BTreeMap;

/// Texts by name, as in the environment. Tests use a map.
pub trait Strings {
    /// The text under a name. A value that is not UTF-8 comes with U+FFFD in it, and is refused.
    fn get(&self, name: &str) -> Option<String>;

    /// The names of all texts.
    fn names(&self) -> Vec<String>;
}

/// The environment of this process.
pub struct ProcessEnvironment;

impl Strings for ProcessEnvironment {
    fn get(&self, name: &str) -> Option<String> {
        std::env::var_os(name).map(|text| text.to_string_lossy().into_owned())
    }

    fn names(&self) -> Vec<String> {
        std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned()).collect()
    }
}

impl Strings for BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<String> {
        BTreeMap::get(self, name).cloned()
    }

    fn names(&self) -> Vec<String> {
        self.keys().cloned().collect()
    }
}
