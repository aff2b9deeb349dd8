//! What goes to a terminal or a log.

use indicatif::{ProgressBar, ProgressStyle};

/// The text with control characters replaced: names of files and answers of others come from outside.
pub(crate) fn printable(text: &str) -> String {
    let shown = |character: char| if character.is_control() { '\u{fffd}' } else { character };
    text.chars().map(shown).collect()
}

/// On standard error, and only where that is a terminal.
pub(crate) fn progress_bar(bytes: u64) -> ProgressBar {
    let bar = ProgressBar::new(bytes);
    let style = "{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta} {wide_msg}";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_replaced() {
        assert_eq!(printable("a\nb\u{1b}[2Jc ä\u{85}"), "a\u{fffd}b\u{fffd}[2Jc ä\u{fffd}");
    }
}
