//! Logs go to standard error. They may name keyspaces and tables, never columns, values or
//! statements.

use std::io::{IsTerminal, stderr};

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// What tells at level INFO of each look for credentials: heard at WARN, unless more than INFO is wanted.
const TALKATIVE: [&str; 3] = ["aws_config", "aws_credential_types", "aws_smithy_runtime"];

/// Starts logging; a second call does nothing.
pub(crate) fn start(level: Level) {
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        .with_target(false)
        // a log that cannot be written must not take the thread that logs with it
        .log_internal_errors(false);
    let started = tracing_subscriber::registry().with(filter(level)).with(lines).try_init();
    // only tests start twice in one process
    drop(started);
}

fn filter(level: Level) -> Targets {
    let others = if level == Level::INFO { Level::WARN } else { level };
    let talkative = TALKATIVE.map(|target| (target, LevelFilter::from_level(others)));
    Targets::new().with_default(level).with_targets(talkative)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crates_that_tell_of_each_credential_are_heard_when_they_warn() {
        const TARGET: &str = "aws_config::profile::credentials";
        let usual = filter(Level::INFO);
        assert!(!usual.would_enable(TARGET, &Level::INFO));
        assert!(usual.would_enable(TARGET, &Level::WARN));
        assert!(usual.would_enable("coffer_server", &Level::INFO));
        assert!(filter(Level::DEBUG).would_enable(TARGET, &Level::DEBUG));
        assert!(!filter(Level::ERROR).would_enable(TARGET, &Level::WARN));
    }
}
