//! Build configurations.

use std::collections::BTreeMap;

/// A kernel's build configuration: option without `CONFIG_`, value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kconfig(BTreeMap<String, String>);

impl Kconfig {
    /// Reads a `.config`; lines that are not assignments are passed over.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        Self(
            text.lines()
                .filter_map(|line| line.strip_prefix("CONFIG_")?.split_once('='))
                .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
                .collect(),
        )
    }

    /// The value of an option, with or without `CONFIG_`; `None` if it is not set.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let name = name.strip_prefix("CONFIG_").unwrap_or(name);
        self.0.get(name).map(String::as_str)
    }

    /// Whether an option is built in (`y`).
    #[must_use]
    pub fn is_yes(&self, name: &str) -> bool {
        self.get(name) == Some("y")
    }

    /// All options, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }

    /// The configuration as lines of a `.config`.
    #[must_use]
    pub fn to_text(&self) -> String {
        self.0
            .iter()
            .map(|(name, value)| format!("CONFIG_{name}={value}\n"))
            .collect()
    }
}
