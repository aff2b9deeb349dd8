//! Proof for files of tables: the catalog says under which keys they are, the KMS opens those.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coffer_crypto::clock::{Clock, SystemClock};
use coffer_crypto::{EncryptionType, KeyRecord, RootKey};
use coffer_keys::{EmbeddedKms, EmbeddedKmsOptions, Keyring, KeyringOptions, TableName};
use coffer_model::TableId;
use coffer_storage::inspect::{
    SegmentStructure, compare_tail_with_catalog, compare_with_catalog, newest_catalog,
    verify_segment as verify,
};
use coffer_storage::vfs::OsVfs;
use coffer_storage::{Catalog, TableEntry};
use serde_json::{Map, Value, json};

use super::{Place, Proof, proof_of};
use crate::error::{CommandError, Result};

/// What can be told without opening anything.
pub(super) fn describe_record(record: &KeyRecord) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert(
        "encryption_type".to_owned(),
        json!(record.encryption_type.as_str()),
    );
    fields.insert("kms_key_arn".to_owned(), json!(record.kms_key_arn));
    fields.insert(
        "current_table_key".to_owned(),
        json!(record.table_key_id.to_string()),
    );
    fields.insert("older_table_keys".to_owned(), json!(record.older.len()));
    fields
}

/// The root key and the catalog, or why they are not at hand.
fn catalog(place: &Place) -> std::result::Result<(RootKey, Catalog), Proof> {
    let root = place.root_key().map_err(Proof::NoKey)?;
    let Some(data_dir) = &place.data_dir else {
        return Err(Proof::NoKey(
            "no data directory above the file: give --data-dir".to_owned(),
        ));
    };
    match newest_catalog(&OsVfs, data_dir, &root) {
        Ok(Some(catalog)) => Ok((root, catalog)),
        Ok(None) => Err(Proof::NoKey("the data directory has no catalog".to_owned())),
        // the catalog is another file than the one in question: it is not that one's tampering
        Err(error) => Err(Proof::NoKey(error.to_string())),
    }
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
    // by place as well as by identity: a file under another one's name is a swapped file
    let data_dir = place.data_dir.as_deref().unwrap_or(Path::new("."));
    let found = catalog.tables.iter().find_map(|(id, entry)| {
        let segment = entry
            .segments
            .iter()
            .find(|segment| segment.id == structure.segment)?;
        Some((*id, entry, segment))
    });
    let Some((table, entry, segment)) = found else {
        let reason = "the catalog does not list this segment: dropped, compacted away or foreign";
        return Ok((Proof::NoKey(reason.to_owned()), None));
    };
    let record = Some(Arc::clone(&entry.key));
    if let Err(error) = compare_with_catalog(&OsVfs, path, segment) {
        return Ok((proof_of(error)?, record));
    }
    let keyring = match keyring(data_dir, root, table, entry)? {
        Ok(keyring) => keyring,
        Err(reason) => return Ok((Proof::NoKey(reason), record)),
    };
    match verify(&OsVfs, path, table, segment, keyring.as_ref()) {
        Ok(_) => Ok((Proof::Verified, record)),
        Err(error) => Ok((proof_of(error)?, record)),
    }
}

/// A tail is proven by its digest in the catalog.
pub(super) fn verify_tail(path: &Path, place: &Place, table: TableId) -> Result<Proof> {
    let catalog = match catalog(place) {
        Ok((_, catalog)) => catalog,
        Err(proof) => return Ok(proof),
    };
    let name = path.file_name();
    let tail = catalog.tables.get(&table).and_then(|entry| {
        entry
            .tails
            .iter()
            .find(|tail| tail.path(Path::new("")).file_name() == name)
    });
    let Some(tail) = tail else {
        return Ok(Proof::NoKey(
            "the catalog does not list this tail".to_owned(),
        ));
    };
    match compare_tail_with_catalog(&OsVfs, path, tail) {
        Ok(()) => Ok(Proof::Verified),
        Err(error) => proof_of(error),
    }
}

/// A keyring that holds the table's keys, or why they cannot be had.
fn keyring(
    data_dir: &Path,
    root: RootKey,
    table: TableId,
    entry: &TableEntry,
) -> Result<std::result::Result<Arc<Keyring>, String>> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let copy = KmsCopy::make(data_dir)?;
    let needs_kms = entry.key.encryption_type != EncryptionType::AwsOwned;
    if needs_kms && !copy.has_store {
        return Ok(Err("the data directory has no embedded KMS".to_owned()));
    }
    let options = EmbeddedKmsOptions {
        root_key_file: copy
            .has_store
            .then(|| data_dir.join("kms").join("root.key")),
        ..EmbeddedKmsOptions::default()
    };
    let kms = match EmbeddedKms::open(&copy.directory, &options, Arc::clone(&clock)) {
        Ok(kms) => kms,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let keyring = Keyring::new(kms, root, clock, KeyringOptions::default());
    let name = TableName::new(table.0, &entry.schema.keyspace, &entry.schema.name);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CommandError::io("start a thread"))?;
    let opened = runtime.block_on(keyring.open(&name, &entry.key));
    Ok(opened.map(|()| keyring).map_err(|error| error.to_string()))
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
        DirBuilder::new()
            .mode(0o700)
            .create(&directory)
            .map_err(failed())?;
        let mut copy = Self {
            directory,
            has_store: false,
        };
        let kms = data_dir.join("kms");
        if !kms.is_dir() {
            return Ok(copy);
        }
        for file in std::fs::read_dir(&kms).map_err(failed())? {
            let file = file.map_err(failed())?;
            if file
                .path()
                .extension()
                .is_some_and(|extension| extension == "keys")
            {
                std::fs::copy(file.path(), copy.directory.join(file.file_name()))
                    .map_err(failed())?;
                copy.has_store = true;
            }
        }
        Ok(copy)
    }
}

impl Drop for KmsCopy {
    fn drop(&mut self) {
        // what stays behind is sealed
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
