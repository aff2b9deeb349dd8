//! What a notification says about each kind of event.

use coffer_notify::{Moment, Notification, Severity};
use coffer_query::{Event, EventKind};

/// The message of an event. `keep_days` is how long the snapshot of a lost table is kept.
pub(super) fn notification(event: &Event, cluster: &str, keep_days: i64) -> Notification {
    Notification {
        id: event.id.to_string(),
        incident: event.incident.clone(),
        kind: event.kind.as_str().to_owned(),
        severity: severity(event),
        at: Moment(event.at_millis),
        cluster: cluster.to_owned(),
        keyspace: event.keyspace.clone(),
        table: event.table.clone(),
        key_arn: event.key_arn.clone(),
        state: event.state.clone(),
        since: event.since_millis.map(Moment),
        deadline: event.deadline_millis.map(Moment),
        summary: summary(event).to_owned(),
        what_happens: what_happens(event, keep_days),
        what_to_do: event.todo.clone(),
        detail: event.detail.clone(),
    }
}

/// The message of `coffer notify test`.
pub(super) fn test(id: String, incident: String, now_millis: i64, cluster: &str) -> Notification {
    Notification {
        id,
        incident,
        kind: "test".to_owned(),
        severity: Severity::Info,
        at: Moment(now_millis),
        cluster: cluster.to_owned(),
        keyspace: "system_coffer".to_owned(),
        table: "events".to_owned(),
        key_arn: None,
        state: "test".to_owned(),
        since: None,
        deadline: None,
        summary: "an operator ran coffer notify test. No table is concerned.".to_owned(),
        what_happens: "Nothing.".to_owned(),
        what_to_do: "Nothing: this channel works.".to_owned(),
        detail: String::new(),
    }
}

/// Whether nothing is left that a table could be restored from.
fn is_gone(event: &Event) -> bool {
    event.kind == EventKind::Purged && event.state == "PURGED"
}

fn severity(event: &Event) -> Severity {
    match event.kind {
        EventKind::Purged if !is_gone(event) => Severity::Info,
        EventKind::KeyLost
        | EventKind::Reminder
        | EventKind::SnapshotFailed
        | EventKind::Dropped
        | EventKind::DropBlocked => Severity::Critical,
        EventKind::Unreachable | EventKind::Purged | EventKind::CreateFailed => Severity::Warning,
        EventKind::Recovered
        | EventKind::Reachable
        | EventKind::SnapshotTaken
        | EventKind::Restored => Severity::Info,
    }
}

fn summary(event: &Event) -> &'static str {
    match event.kind {
        EventKind::KeyLost => {
            "Coffer detected that it does not have access to a table that is encrypted under a KMS \
             key of yours. The table is currently inaccessible."
        }
        EventKind::Reminder => {
            "Coffer still does not have access to a table that is encrypted under a KMS key of \
             yours. The table is inaccessible, and its time runs out."
        }
        EventKind::Recovered => "Coffer can use the KMS key of a table again.",
        EventKind::Unreachable => {
            "Coffer cannot find out whether it may use the KMS key of a table: the KMS cannot be \
             reached, or its answer does not tell that the key is lost."
        }
        EventKind::Reachable => "the KMS answers for the key of a table again.",
        EventKind::SnapshotTaken => {
            "Coffer took a snapshot of a table, still encrypted, and verified it."
        }
        EventKind::SnapshotFailed => {
            "Coffer could not take or verify the snapshot of a table whose KMS key is lost."
        }
        EventKind::Dropped => {
            "Coffer dropped a table because its KMS key was lost for as long as its policy says."
        }
        EventKind::DropBlocked => {
            "Coffer did not drop a table whose KMS key is lost and whose time is over."
        }
        EventKind::Restored => "a table was restored.",
        EventKind::Purged if !is_gone(event) => {
            "Coffer erased a part of what it kept of a table: a snapshot, or its history."
        }
        EventKind::Purged => {
            "Coffer erased what it kept of a table: its keys first, then its files."
        }
        EventKind::CreateFailed => {
            "a table was not created: its KMS key became unusable while it was being created."
        }
    }
}

fn what_happens(event: &Event, keep_days: i64) -> String {
    let deadline = event.deadline_millis.map(Moment);
    let text = match (event.kind, deadline) {
        (EventKind::KeyLost | EventKind::Reminder, Some(deadline)) => {
            return format!(
                "Reads and writes of the table fail. If Coffer has no access to the key until \
                 {deadline}, it takes a snapshot of the table, still encrypted, verifies it, and \
                 drops the table. The snapshot is kept for {keep_days} days more; with the key, RESTORE \
                 TABLE brings the rows back until then."
            );
        }
        (EventKind::KeyLost | EventKind::Reminder, None) => {
            "Reads and writes of the table fail. Nothing is deleted: the policy of the table says \
             never."
        }
        (EventKind::Recovered, _) => {
            "The table can be read and written again. Nothing will be deleted."
        }
        (EventKind::Unreachable, _) => {
            "Nothing is deleted for this cause. Reads and writes fail when the key in memory \
             reaches its maximum age."
        }
        (EventKind::Reachable, _) => "The table can be read and written as before.",
        (EventKind::SnapshotTaken, _) => "The table is dropped next; its snapshot stays.",
        (EventKind::SnapshotFailed | EventKind::DropBlocked, _) => {
            "The table is not dropped. Coffer tries again."
        }
        (EventKind::Dropped, Some(deadline)) => {
            return format!(
                "The snapshot is kept until {deadline}. Then its keys and files are erased, and \
                 nobody can restore the table."
            );
        }
        (EventKind::Dropped, None) => "The snapshot is kept.",
        (EventKind::Restored, _) => "The new table can be used.",
        (EventKind::Purged, _) if event.state == "KEPT" => {
            "The table was dropped before. What else is kept of it can be restored as before."
        }
        (EventKind::Purged, _) if !is_gone(event) => {
            "The table is there and keeps its rows. What was erased cannot be restored any more."
        }
        (EventKind::Purged, _) => "The rows cannot be restored from this server any more.",
        (EventKind::CreateFailed, _) => "There is no such table, and nothing of it is left.",
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: EventKind, state: &str, deadline_millis: Option<i64>) -> Event {
        Event {
            id: uuid::Uuid::nil(),
            at_millis: 0,
            at_age: 0,
            kind,
            keyspace: "k".to_owned(),
            table: "t".to_owned(),
            key_arn: None,
            state: state.to_owned(),
            since_millis: None,
            deadline_millis,
            incident: String::new(),
            todo: String::new(),
            detail: String::new(),
            pending: Default::default(),
            delivered: Default::default(),
        }
    }

    #[test]
    fn a_lost_key_is_told_with_its_deadline_or_that_there_is_none() {
        let deadline = Some(1_795_910_400_000);
        let text = what_happens(&event(EventKind::KeyLost, "", deadline), 90);
        assert!(text.contains("until 2026-11-29 00:00:00 UTC"), "{text}");
        assert!(text.contains("for 90 days more"), "{text}");
        let text = what_happens(&event(EventKind::KeyLost, "", None), 90);
        assert!(text.contains("Nothing is deleted"), "{text}");
    }

    #[test]
    fn an_erase_says_what_is_left() {
        for (state, severity, says) in [
            ("PURGED", Severity::Warning, "The rows cannot be restored"),
            ("KEPT", Severity::Info, "can be restored as before"),
            ("ACTIVE", Severity::Info, "keeps its rows"),
        ] {
            let told = notification(&event(EventKind::Purged, state, None), "c", 35);
            assert_eq!(told.severity, severity, "{state}");
            assert!(told.what_happens.contains(says), "{}", told.what_happens);
        }
    }
}
