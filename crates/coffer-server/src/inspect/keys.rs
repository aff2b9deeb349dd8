//! Proof for files of tables: the catalog says under which keys they are, the KMS opens those.

use std::collections::{BTreeSet, HashSet};
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coffer_crypto::clock::{Clock, SystemClock};
use coffer_crypto::{EncryptionType, KeyRecord, RootKey, RootKeys};
use coffer_keys::{
    EmbeddedKms, EmbeddedKmsOptions, KeyError, KeySource, Keyring, KeyringOptions, SourceAccess,
    TableName,
};
use coffer_model::TableId;
use coffer_storage::inspect::{
    LogStructure, SegmentStructure, compare_tail_with_catalog, compare_with_catalog,
    newest_catalog, verify_log as verify_records, verify_segment as verify,
};
use coffer_storage::vfs::OsVfs;
use coffer_storage::{Catalog, SegmentEntry};
use serde_json::{Map, Value, json};

use super::{Place, Proof, proof_of};
use crate::error::{CommandError, Result};

/// How often the KMS's store is copied while a server replaces files of it.
const COPY_ATTEMPTS: u32 = 8;

/// What can be told without opening anything.
pub(super) fn describe_record(record: &KeyRecord) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("encryption_type".to_owned(), json!(record.encryption_type.as_str()));
    fields.insert("kms_key_arn".to_owned(), json!(record.kms_key_arn));
    fields.insert("current_table_key".to_owned(), json!(record.table_key_id.to_string()));
    fields.insert("older_table_keys".to_owned(), json!(record.older.len()));
    fields
}

/// The root key and the catalog, or why they are not at hand.
fn catalog(place: &Place) -> std::result::Result<(RootKey, Catalog), Proof> {
    let root = place.root_key().map_err(Proof::NoKey)?;
    let Some(data_dir) = &place.data_dir else {
        return Err(Proof::NoKey("no data directory above the file: give --data-dir".to_owned()));
    };
    match newest_catalog(&OsVfs, data_dir, root.duplicate()) {
        Ok(Some(catalog)) => Ok((root, catalog)),
        Ok(None) => Err(Proof::NoKey("the data directory has no catalog".to_owned())),
        // the catalog is another file than the one in question: it is not that one's tampering
        Err(error) => Err(Proof::NoKey(error.to_string())),
    }
}

/// A table whose keys open files.
#[derive(Debug, Clone)]
pub(crate) struct Owner {
    pub(crate) name: TableName,
    pub(crate) key: Arc<KeyRecord>,
    pub(crate) is_dropped: bool,
}

/// A table with its key record, live or dropped.
fn key_of(catalog: &Catalog, table: TableId) -> Option<Owner> {
    let live = catalog.tables.get(&table).map(|entry| &entry.schema);
    let schema = live.or_else(|| catalog.dropped.get(&table).map(|dropped| &dropped.schema))?;
    Some(Owner {
        name: TableName::new(table.0, &schema.keyspace, &schema.name),
        key: Arc::clone(catalog.key_record(table)?),
        is_dropped: live.is_none(),
    })
}

/// Compares a segment with the catalog, then opens every block of it.
pub(super) fn verify_segment(
    path: &Path,
    place: &Place,
    structure: &SegmentStructure,
) -> Result<(Proof, Option<Arc<KeyRecord>>)> {
    let (root, catalog) = match catalog(place) {
        Ok(found) => found,
        Err(proof) => return Ok((proof, None)),
    };
    let data_dir = place.data_dir.as_deref().unwrap_or(Path::new("."));
    let find = |is_it: &dyn Fn(&SegmentEntry) -> bool| {
        let live = catalog.tables.iter().map(|(table, entry)| (*table, &entry.segments));
        let kept = catalog.snapshots.values().map(|kept| (kept.schema.id, &kept.segments));
        live.chain(kept).find_map(|(table, segments)| {
            let segment = segments.iter().find(|segment| is_it(segment))?;
            Some((key_of(&catalog, table)?, table, segment))
        })
    };
    // by name before identity: a file under another one's name is a swapped file
    let by_name = find(&|segment| segment.path(Path::new("")).file_name() == path.file_name());
    let found = by_name.or_else(|| find(&|segment| segment.id == structure.segment));
    let Some((owner, table, segment)) = found else {
        let reason = "the catalog does not list this segment: dropped, compacted away or foreign";
        return Ok((Proof::NoKey(reason.to_owned()), None));
    };
    let record = Some(Arc::clone(&owner.key));
    if let Err(error) = compare_with_catalog(&OsVfs, path, segment) {
        return Ok((proof_of(error)?, record));
    }
    let opened = InspectKeys::open(data_dir, None, root)?;
    let opened = opened.and_then(|keys| keys.unlock(&owner).map(|()| keys));
    let keys = match opened {
        Ok(keys) => keys,
        Err(reason) => return Ok((Proof::NoKey(reason), record)),
    };
    match verify(&OsVfs, path, table, segment, keys.keyring.as_ref()) {
        Ok(_) => Ok((Proof::Verified, record)),
        Err(error) => Ok((proof_of(error)?, record)),
    }
}

/// A tail is proven by its digest in the catalog.
pub(super) fn verify_tail(path: &Path, place: &Place) -> Result<Proof> {
    let catalog = match catalog(place) {
        Ok((_, catalog)) => catalog,
        Err(proof) => return Ok(proof),
    };
    let name = path.file_name();
    // by name alone: its table stands in the file in question
    let live = catalog.tables.values().flat_map(|entry| &entry.tails);
    let kept = catalog.snapshots.values().flat_map(|kept| &kept.tails);
    let archived = catalog.archives.values().flat_map(|archive| &archive.log);
    let mut tails = live.chain(kept).chain(archived.map(|log| &log.tail));
    let tail = tails.find(|tail| tail.path(Path::new("")).file_name() == name);
    let Some(tail) = tail else {
        return Ok(Proof::NoKey("the catalog does not list this tail".to_owned()));
    };
    match compare_tail_with_catalog(&OsVfs, path, tail) {
        Ok(()) => Ok(Proof::Verified),
        Err(error) => proof_of(error),
    }
}

/// Opens the records of all tables whose keys can be had.
pub(super) fn verify_log(path: &Path, place: &Place, structure: &LogStructure) -> Result<Proof> {
    let (root, catalog) = match catalog(place) {
        Ok(found) => found,
        Err(proof) => return Ok(proof),
    };
    if structure.cluster != catalog.cluster_id {
        return Ok(Proof::Tampered("file of another cluster".to_owned()));
    }
    let data_dir = place.data_dir.as_deref().unwrap_or(Path::new("."));
    let keyring = match InspectKeys::open(data_dir, None, root.duplicate())? {
        Ok(keyring) => keyring,
        Err(reason) => return Ok(Proof::NoKey(reason)),
    };
    let tables = structure.frames.iter().flat_map(|frames| frames.tables.keys());
    let tables: BTreeSet<_> = tables.map(|(table, _)| *table).collect();
    let mut reasons = Vec::new();
    for table in tables {
        let opened = match key_of(&catalog, table) {
            Some(owner) => keyring.unlock(&owner),
            None => Err("the catalog does not list it any more".to_owned()),
        };
        if let Err(reason) = opened {
            reasons.push(format!("records of table {table}: {reason}"));
        }
    }
    match verify_records(&OsVfs, path, &root, keyring.keyring.as_ref()) {
        Ok(_) if !reasons.is_empty() => Ok(Proof::NoKey(reasons.join("; "))),
        Ok(away) if away.is_empty() => Ok(Proof::Verified),
        Ok(_) => Ok(Proof::NoKey("table keys are not at hand".to_owned())),
        Err(error) => proof_of(error),
    }
}

/// A keyring over a copy of the embedded KMS: asking it leaves no trace in the KMS's audit log.
pub(crate) struct InspectKeys {
    pub(crate) keyring: Arc<Keyring>,
    /// Why the embedded KMS opens no keys; tables under the service's own need none of it.
    pub(crate) without_kms: Option<String>,
    runtime: tokio::runtime::Runtime,
    _copy: KmsCopy,
}

impl InspectKeys {
    /// A keyring without keys, or why there can be none.
    pub(crate) fn open(
        data_dir: &Path,
        kms_root_key_file: Option<&Path>,
        roots: impl Into<RootKeys>,
    ) -> Result<std::result::Result<Self, String>> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let mut copy = KmsCopy::make(data_dir)?;
        let root_key_file = match kms_root_key_file {
            Some(file) => file.to_owned(),
            None => data_dir.join("kms").join("root.key"),
        };
        let open = |copy: &KmsCopy, root_key_file| {
            let options = EmbeddedKmsOptions { root_key_file, ..EmbeddedKmsOptions::default() };
            EmbeddedKms::open_copy(&copy.directory, &options, Arc::clone(&clock))
        };
        let opened = if !copy.has_store {
            Err("the data directory has no embedded KMS".to_owned())
        } else if root_key_file.exists() {
            open(&copy, Some(root_key_file)).map_err(|error| error.to_string())
        } else {
            Err(format!("there is no root key {}", root_key_file.display()))
        };
        let (kms, without_kms) = match opened {
            Ok(kms) => (kms, None),
            Err(reason) => {
                copy.clear().map_err(CommandError::io("remove the copy of the KMS's store"))?;
                match open(&copy, None) {
                    Ok(empty) => (empty, Some(reason)),
                    Err(error) => return Ok(Err(error.to_string())),
                }
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(CommandError::io("start a thread"))?;
        Ok(Ok(Self {
            keyring: Keyring::new(kms, roots, clock, KeyringOptions::default()),
            without_kms,
            runtime,
            _copy: copy,
        }))
    }

    /// Gets the table's keys; the text tells why they cannot be had. Those of a dropped table, whose
    /// data grant is gone, are opened as the control identity would, or else by the right of the account:
    /// whether its files are proven does not depend on a new table of its name.
    pub(crate) fn unlock(&self, owner: &Owner) -> std::result::Result<(), String> {
        let record = &owner.key;
        if record.encryption_type != EncryptionType::AwsOwned
            && let Some(reason) = &self.without_kms
        {
            return Err(reason.clone());
        }
        if self.keyring.is_usable(&owner.name.id) {
            return Ok(());
        }
        let opened = if owner.is_dropped {
            self.open_dropped(owner)
        } else {
            self.runtime.block_on(self.keyring.open(&owner.name, record))
        };
        opened.map_err(|error| match (&record.kms_key_arn, error.refusal()) {
            (Some(arn), Some(refusal))
                if matches!(
                    refusal.error.name(),
                    "NotFoundException" | "InvalidArnException"
                ) =>
            {
                format!(
                    "the embedded KMS of this directory has no key {arn}, and no other KMS is asked: \
                     the key is another KMS's, or was deleted here"
                )
            }
            _ => error.to_string(),
        })
    }

    fn open_dropped(&self, owner: &Owner) -> std::result::Result<(), KeyError> {
        let older = owner.key.older.iter().map(|older| older.table_key_id);
        let needed: HashSet<_> = older.chain([owner.key.table_key_id]).collect();
        let source = KeySource {
            table: &owner.name,
            record: &owner.key,
            needed: &needed,
            access: SourceAccess::Dropped { temporary_grant: None },
        };
        self.runtime.block_on(self.keyring.open_files(source)).map_err(|failed| failed.error)
    }
}

/// A copy of the KMS's sealed store: opening the store itself tidies its directory up, which only
/// the holder of the data directory's lock may do. The key that opens it stays where it is.
struct KmsCopy {
    directory: PathBuf,
    has_store: bool,
}

impl KmsCopy {
    fn make(data_dir: &Path) -> Result<Self> {
        let failed = || CommandError::io("copy the KMS's store");
        let name = hex::encode(coffer_crypto::random_array::<8>()?);
        let directory = std::env::temp_dir().join(format!("coffer-inspect-{name}"));
        DirBuilder::new().mode(0o700).create(&directory).map_err(failed())?;
        let mut copy = Self { directory, has_store: false };
        let kms = data_dir.join("kms");
        if !kms.is_dir() {
            return Ok(copy);
        }
        let mut attempt = 1;
        loop {
            match copy.fill(&kms) {
                Ok(()) => return Ok(copy),
                // a server at work put a newer file in its place
                Err(error)
                    if error.kind() == std::io::ErrorKind::NotFound && attempt < COPY_ATTEMPTS =>
                {
                    attempt += 1;
                }
                Err(error) => return Err(failed()(error)),
            }
        }
    }

    /// Removes what was copied.
    fn clear(&mut self) -> std::io::Result<()> {
        for earlier in std::fs::read_dir(&self.directory)? {
            let path = earlier?.path();
            if path.is_dir() {
                std::fs::remove_dir_all(&path)?;
            } else {
                std::fs::remove_file(&path)?;
            }
        }
        self.has_store = false;
        Ok(())
    }

    /// Copies all files, of which none may have gone meanwhile.
    fn fill(&mut self, kms: &Path) -> std::io::Result<()> {
        self.clear()?;
        for file in std::fs::read_dir(kms)? {
            let file = file?;
            let path = file.path();
            let extension = path.extension().unwrap_or_default();
            if extension == "keys" || extension == "journal" {
                std::fs::copy(&path, self.directory.join(file.file_name()))?;
                self.has_store = true;
            }
        }
        Ok(())
    }
}

impl Drop for KmsCopy {
    fn drop(&mut self) {
        // what stays behind is sealed
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
