//! Why a channel cannot be set up, or did not deliver.

use std::path::PathBuf;

use thiserror::Error;

/// A channel cannot be set up.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SetupError {
    /// A file of it cannot be used.
    #[error("{what} {}: {problem}", path.display())]
    File {
        /// What the file is for.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A setting is wrong.
    #[error("{name}: {problem}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// What is wrong, and what to do.
        problem: String,
    },
}

impl SetupError {
    pub(crate) fn setting(name: &'static str, problem: impl Into<String>) -> Self {
        Self::Setting { name, problem: problem.into() }
    }
}

/// A message was not delivered.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("{reason}")]
pub struct DeliveryError {
    /// What the receiver answered, or that it did not.
    pub reason: String,
    /// The receiver refused this message, and will for now: others may still get through.
    pub is_refused: bool,
}

impl DeliveryError {
    pub(crate) fn failed(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), is_refused: false }
    }

    pub(crate) fn refused(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), is_refused: true }
    }
}

/// What others answered, with control characters replaced: it goes to logs and terminals.
pub(crate) fn printable(text: &str) -> String {
    let shown = |character: char| if character.is_control() { '\u{fffd}' } else { character };
    text.chars().map(shown).collect()
}

/// An error and its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    printable(&text)
}
