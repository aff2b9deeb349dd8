//! SUPPORTED: a string multimap.

use crate::writer::Writer;

pub(super) fn encode(options: &[(&str, &[&str])], writer: &mut Writer<'_>) {
    writer.short_length(options.len());
    for (key, values) in options {
        writer.string(key);
        writer.string_list(values);
    }
}
