//! Which files the catalog wants, and whose they are.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use coffer_keys::TableName;
use coffer_model::TableId;
use coffer_storage::{Catalog, SegmentEntry, TailRecord};

use crate::inspect::keys::Owner;

/// A file that must be there.
#[derive(Debug, Clone)]
pub(super) enum Expected {
    /// A segment that belongs to this table now.
    Segment(TableId, SegmentEntry),
    /// A tail file that belongs to this table now.
    Tail(TableId, TailRecord),
    /// A file of the log.
    Log,
    /// The newest version of the catalog.
    Catalog,
}

/// The tables that the catalog has keys of, live ones and dropped ones that something is kept of.
pub(super) fn owners(catalog: &Catalog) -> BTreeMap<TableId, Owner> {
    let name = |id: &TableId, schema: &coffer_model::TableSchema| {
        TableName::new(id.0, &schema.keyspace, &schema.name)
    };
    let live = catalog.tables.iter().map(|(id, entry)| {
        let key = Arc::clone(&entry.key);
        (*id, Owner { name: name(id, &entry.schema), key, is_dropped: false })
    });
    let dropped = catalog.dropped.iter().map(|(id, table)| {
        let key = Arc::clone(&table.key);
        (*id, Owner { name: name(id, &table.schema), key, is_dropped: true })
    });
    // a table that was dropped while it was looked at stands in one of both only
    dropped.chain(live).collect()
}

/// The files by their path below the data directory.
pub(super) fn expected(catalog: &Catalog) -> BTreeMap<String, Expected> {
    let mut files = BTreeMap::new();
    let mut put = |path: &Path, file: Expected| {
        files.insert(path.to_string_lossy().into_owned(), file);
    };
    let root = Path::new("");
    for (id, entry) in &catalog.tables {
        let directory = root.join("tables").join(id.to_string());
        for segment in &entry.segments {
            put(&segment.path(&directory), Expected::Segment(*id, segment.clone()));
        }
        for tail in &entry.tails {
            put(&tail.path(&directory), Expected::Tail(*id, tail.clone()));
        }
    }
    for snapshot in catalog.snapshots.values() {
        let (id, directory) = (snapshot.schema.id, snapshot.directory(root));
        for segment in &snapshot.segments {
            put(&segment.path(&directory), Expected::Segment(id, segment.clone()));
        }
        for tail in &snapshot.tails {
            put(&tail.path(&directory), Expected::Tail(id, tail.clone()));
        }
    }
    for (id, archive) in &catalog.archives {
        let directory = coffer_storage::archive_directory(root, *id);
        for log in &archive.log {
            put(&log.tail.path(&directory), Expected::Tail(*id, log.tail.clone()));
        }
    }
    for number in catalog.log.oldest.max(1)..=catalog.log.known {
        put(&root.join("log").join(format!("{number:016x}.log")), Expected::Log);
    }
    let newest = format!("{:016x}.catalog", catalog.version);
    put(&root.join("catalog").join(newest), Expected::Catalog);
    files
}
