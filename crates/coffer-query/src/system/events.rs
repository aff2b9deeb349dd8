//! `system_coffer.events`: what happened to the keys of tables.

use std::collections::BTreeMap;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::cells::{Cell, optional_text, text, text_map, texts, timestamp, uuid};
use super::definition::{C, P, R, SystemTable, Type};
use crate::database::{Database, Session};
use crate::error::Result;
use crate::events::Event;
use crate::table_source::VirtualRow;

pub(super) fn events() -> SystemTable {
    SystemTable {
        name: "events",
        comment: "what happened to the keys of tables",
        columns: &[
            ("day", P, Type::Text),
            ("id", C, Type::TimeUuid),
            ("at", R, Type::Timestamp),
            ("deadline", R, Type::Timestamp),
            ("delivered", R, Type::FrozenMapTextText),
            ("detail", R, Type::Text),
            ("incident", R, Type::Text),
            ("key_arn", R, Type::Text),
            ("keyspace_name", R, Type::Text),
            ("kind", R, Type::Text),
            ("pending", R, Type::FrozenSetText),
            ("since", R, Type::Timestamp),
            ("state", R, Type::Text),
            ("table_name", R, Type::Text),
            ("todo", R, Type::Text),
        ],
        rows: event_rows,
    }
}

fn event_rows(database: &Database, _session: &Session) -> Result<Vec<VirtualRow>> {
    Ok(database.events().iter().map(cells).collect())
}

fn cells(event: &Event) -> VirtualRow {
    let millis = |value: Option<i64>| -> Cell { value.and_then(timestamp) };
    let delivered = event.delivered.iter();
    let delivered: BTreeMap<String, String> =
        delivered.map(|(channel, at)| (channel.clone(), rfc3339(*at))).collect();
    vec![
        text(&day(event.at_millis)),
        uuid(event.id),
        timestamp(event.at_millis),
        millis(event.deadline_millis),
        text_map(&delivered),
        text(&event.detail),
        text(&event.incident),
        optional_text(event.key_arn.as_deref()),
        text(&event.keyspace),
        text(event.kind.as_str()),
        texts(&event.pending),
        millis(event.since_millis),
        text(&event.state),
        text(&event.table),
        text(&event.todo),
    ]
}

fn moment(millis: i64) -> OffsetDateTime {
    let nanos = i128::from(millis) * 1_000_000;
    OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// As `2026-11-22`.
fn day(millis: i64) -> String {
    moment(millis).date().to_string()
}

/// As `2026-11-22T08:00:00.5Z`.
fn rfc3339(millis: i64) -> String {
    moment(millis).format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_times_are_those_of_utc() {
        let millis = 1_795_305_599_500; // 2026-11-21T23:59:59.5Z
        assert_eq!(day(millis), "2026-11-21");
        assert_eq!(day(millis + 500), "2026-11-22");
        assert_eq!(rfc3339(millis), "2026-11-21T23:59:59.5Z");
    }
}
