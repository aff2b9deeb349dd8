//! A data directory with one table, an engine on it, and rows for it.

use std::{
    collections::{BTreeMap, HashMap},
    error::Error,
    path::Path,
    sync::{Arc, Mutex},
};

use coffer_crypto::{
    DataKey, DataKeySource, EncryptionType, FileIdentity, HexBytes, KeyLease, KeyRecord,
    NewDataKey, RootKey, TableKey, TableKeyId, WrappedDataKey, clock::SystemClock,
};
use coffer_model::{
    CellRef, Column, ColumnId, ColumnKind, CqlType, KeyspaceSchema, Liveness, Mutation,
    MutationBuilder, RowBuilder, TableId, TableOptions, TableSchema, Token, WriteTimestamp,
    ordered_bytes,
};
use coffer_storage::{Catalog, Durability, Engine, EngineOptions, TableEntry, vfs::OsVfs};

/// Any failure ends the run with its text.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The table that most cases use.
pub(crate) const TABLE: TableId = TableId([0xa1; 16]);
/// Later than every write.
pub(crate) const NOW_SECONDS: u32 = 2_000_000_000;

/// Whether the engine's files are sealed or only copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cipher {
    Sealed,
    #[cfg(feature = "null-cipher")]
    Null,
}

/// Table keys in memory, made on first use.
#[derive(Default)]
struct MemoryKeys(Mutex<HashMap<[u8; 16], Arc<TableKey>>>);

impl MemoryKeys {
    fn key(&self, table: [u8; 16]) -> coffer_crypto::Result<Arc<TableKey>> {
        let mut keys = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(key) = keys.get(&table) {
            return Ok(Arc::clone(key));
        }
        let key = Arc::new(TableKey::generate()?);
        keys.insert(table, Arc::clone(&key));
        Ok(key)
    }
}

impl DataKeySource for MemoryKeys {
    fn create_data_key(
        &self,
        identity: &FileIdentity,
    ) -> coffer_crypto::Result<(NewDataKey, WrappedDataKey)> {
        let key = NewDataKey::generate()?;
        let wrapped = self.key(identity.table_id)?.wrap_data_key(&key, identity)?;
        Ok((key, wrapped))
    }

    fn unwrap_data_key(
        &self,
        table: &[u8; 16],
        wrapped: &WrappedDataKey,
        birth: &FileIdentity,
    ) -> coffer_crypto::Result<DataKey> {
        self.key(*table)?.unwrap_data_key(wrapped, birth)
    }

    fn lease(&self, _: &[u8; 16]) -> coffer_crypto::Result<Arc<KeyLease>> {
        Ok(Arc::new(KeyLease::unlimited()))
    }

    fn wrapping_key(&self, table: &[u8; 16]) -> Option<(TableKeyId, u64)> {
        Some((self.key(*table).ok()?.id(), 0))
    }
}

/// What it takes to open a data directory again and again.
pub(crate) struct House {
    directory: tempfile::TempDir,
    root_key: Arc<RootKey>,
    keys: Arc<MemoryKeys>,
}

impl House {
    pub(crate) fn new(parent: &Path) -> Result<Self> {
        Ok(Self {
            directory: tempfile::tempdir_in(parent)?,
            root_key: Arc::new(RootKey::generate()?),
            keys: Arc::default(),
        })
    }

    /// Opens the engine; its tables stay closed.
    pub(crate) fn open(&self, options: EngineOptions) -> Result<Engine> {
        let keys: Arc<dyn DataKeySource> = self.keys.clone();
        let path = self.directory.path().join("data");
        let root_key = Arc::clone(&self.root_key);
        Ok(Engine::open(&path, options, keys, root_key, Arc::new(OsVfs), Arc::new(SystemClock))?)
    }

    /// A new engine with the one table open.
    pub(crate) fn engine(&self, cipher: Cipher, options: EngineOptions) -> Result<Engine> {
        let engine = self.open(options)?;
        #[cfg(feature = "null-cipher")]
        if cipher == Cipher::Null {
            coffer_crypto::danger::skip_sealing_of(engine.catalog().cluster_id.0);
        }
        #[cfg(not(feature = "null-cipher"))]
        let Cipher::Sealed = cipher;
        self.create(&engine, &[TABLE])?;
        engine.open_table(TABLE)?;
        Ok(engine)
    }

    /// Creates tables in one change of the catalog.
    pub(crate) fn create(&self, engine: &Engine, tables: &[TableId]) -> Result<()> {
        let mut records = Vec::new();
        for table in tables {
            records.push((*table, key_record(&*self.keys.key(table.0)?)));
        }
        engine.update_catalog(&mut |old: &Catalog| {
            let mut new = old.clone();
            new.keyspaces.insert("bench".into(), Arc::new(keyspace()));
            for (table, record) in &records {
                let entry = TableEntry::new(Arc::new(schema(*table)), Arc::new(record.clone()));
                new.tables.insert(*table, Arc::new(entry));
            }
            Ok(new)
        })?;
        Ok(())
    }
}

fn key_record(key: &TableKey) -> KeyRecord {
    KeyRecord {
        table_key_id: key.id(),
        encryption_type: EncryptionType::AwsOwned,
        kms_key_arn: None,
        blob: HexBytes(vec![0; 16]),
        encryption_context: BTreeMap::new(),
        key_material_id: None,
        created_at_millis: 0,
        wraps: 0,
        older: Vec::new(),
        grants: Vec::new(),
        double_wrapped: false,
    }
}

fn keyspace() -> KeyspaceSchema {
    KeyspaceSchema {
        name: "bench".into(),
        replication: BTreeMap::new(),
        durable_writes: true,
        tags: BTreeMap::new(),
        custom_properties: BTreeMap::new(),
        types: BTreeMap::new(),
    }
}

/// `(p bigint, c bigint, v blob, primary key (p, c))`; compaction runs only when a case asks for it.
fn schema(id: TableId) -> TableSchema {
    let column = |number, name: &str, ty, kind| Column {
        id: ColumnId(number),
        name: name.to_owned(),
        ty,
        kind,
    };
    let mut options = TableOptions::default();
    options.compaction.insert("enabled".into(), "false".into());
    TableSchema {
        id,
        keyspace: "bench".into(),
        name: format!("t{id}"),
        columns: vec![
            column(0, "p", CqlType::BigInt, ColumnKind::PartitionKey { position: 0 }),
            column(
                1,
                "c",
                CqlType::BigInt,
                ColumnKind::Clustering { position: 0, reversed: false },
            ),
            column(2, "v", CqlType::Blob, ColumnKind::Regular),
        ],
        options,
        custom_properties: BTreeMap::new(),
        dropped_columns: Vec::new(),
        next_column_id: 3,
        created_at_millis: 1,
    }
}

/// Limits under which nothing is flushed or refused behind a case's back.
pub(crate) fn options(
    durability: Durability,
    block_bytes: u32,
    block_cache_bytes: u64,
) -> EngineOptions {
    EngineOptions {
        memtable_total_bytes: 8 << 30,
        memtable_flush_bytes: 4 << 30,
        log_total_bytes: 16 << 30,
        log_file_bytes: 64 << 20,
        block_bytes,
        block_cache_bytes,
        durability,
        ..EngineOptions::default()
    }
}

/// Numbers that look random: a permutation of 64 bits.
pub(crate) fn scatter(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The key of a row.
pub(crate) struct Key {
    pub(crate) partition_key: [u8; 8],
    pub(crate) token: Token,
    pub(crate) clustering: Vec<u8>,
}

pub(crate) fn key(partition: u64, row: u64) -> Key {
    let partition_key = scatter(partition).to_be_bytes();
    Key { partition_key, token: Token::of(&partition_key), clustering: clustering(row) }
}

pub(crate) fn clustering(row: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    // a bigint of eight bytes always encodes
    let _ = ordered_bytes::encode(&CqlType::BigInt, false, &row.to_be_bytes(), &mut bytes);
    bytes
}

/// A row whose value is half random bytes, half repeated ones.
pub(crate) fn insert(
    table: TableId,
    partition: u64,
    row: u64,
    value_bytes: usize,
) -> Result<Mutation> {
    let key = key(partition, row);
    let mut value = Vec::with_capacity(value_bytes);
    while value.len() < value_bytes {
        let seed = partition ^ row.rotate_left(32) ^ value.len() as u64;
        value.extend_from_slice(&scatter(seed).to_be_bytes());
        value.extend_from_slice(b"measured");
    }
    value.truncate(value_bytes);
    let timestamp = WriteTimestamp(1_700_000_000_000_000);
    let mut cells = RowBuilder::new(Some(Liveness { timestamp, expiry: None }), None);
    cells.push(&CellRef::live(ColumnId(2), timestamp, &value));
    let mut mutation = MutationBuilder::new(table, &key.partition_key)?;
    mutation.row(&key.clustering, cells);
    Ok(mutation.finish())
}

/// Writes rows `0..rows` of each of `partitions` and waits for them.
pub(crate) fn load(
    engine: &Engine,
    table: TableId,
    partitions: std::ops::Range<u64>,
    rows: u64,
    value_bytes: usize,
) -> Result<()> {
    let mut last = engine.committed();
    for partition in partitions {
        for row in 0..rows {
            last = append(engine, &insert(table, partition, row, value_bytes)?)?;
        }
    }
    Ok(engine.wait_committed(last)?)
}

/// Appends; waits where the engine has no room yet.
pub(crate) fn append(engine: &Engine, mutation: &Mutation) -> Result<coffer_storage::Lsn> {
    loop {
        match engine.append(std::slice::from_ref(mutation)) {
            Err(coffer_storage::Error::Overloaded(_)) => std::thread::yield_now(),
            appended => return Ok(appended?),
        }
    }
}
