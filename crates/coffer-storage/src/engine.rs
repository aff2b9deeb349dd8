//! The engine: open, append, read, and the life of tables. Everything here is synchronous; nothing
//! waits for a KMS.

use std::path::Path;
use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use coffer_crypto::{DataKeySource, RootKey, clock::Clock};
use coffer_model::{Mutation, TableId, Token};

use crate::catalog::Catalog;
use crate::error::Result;
use crate::options::EngineOptions;
use crate::vfs::Vfs;
use crate::{Lsn, PartitionCursor, PartitionRead, ScanCursor, ScanRange, TableStatistics};

/// The storage engine over one data directory.
pub struct Engine {}

impl Engine {
    /// Opens (or creates) the data directory: locks it, reads the catalog, scans the structure of
    /// the commit log. Asks no KMS and opens no table.
    ///
    /// # Errors
    /// `Locked`, `Tampered`, `WrongKey` or `Io`, naming the file.
    pub fn open(
        directory: &Path,
        options: EngineOptions,
        keys: Arc<dyn DataKeySource>,
        root_key: Arc<RootKey>,
        vfs: Arc<dyn Vfs>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let _ = (directory, options, keys, root_key, vfs, clock);
        todo!()
    }

    /// The catalog as it is now, one immutable value.
    #[must_use]
    pub fn catalog(&self) -> Arc<Catalog> {
        todo!()
    }

    /// Changes the catalog: `change` maps the present value to the next one, which is persisted and
    /// then published. Changes are serialised. `version`, `log`, and the file lists of existing
    /// tables are the engine's own: what `change` does to them is ignored.
    ///
    /// # Errors
    /// What `change` returns, or `Io` (then nothing is published).
    pub fn update_catalog(
        &self,
        change: &mut dyn FnMut(&Catalog) -> Result<Catalog>,
    ) -> Result<Arc<Catalog>> {
        let _ = change;
        todo!()
    }

    /// Opens a table of the catalog: its segments, its tail files, its records in the log. Blocking;
    /// the table's key must be in the key source. Opening an open table does nothing.
    ///
    /// # Errors
    /// `NoSuchTable`, `KeyUnavailable`, `Tampered`, `WrongKey`, `Io`.
    pub fn open_table(&self, table: TableId) -> Result<()> {
        let _ = table;
        todo!()
    }

    /// Whether the table is open and its key lease valid.
    #[must_use]
    pub fn is_open(&self, table: TableId) -> bool {
        let _ = table;
        todo!()
    }

    /// Hands a batch to the commit log; it is in the frame whose number is returned, whole or not at
    /// all. The batch is durable and visible once [`Engine::committed`] reaches that number.
    ///
    /// # Errors
    /// `TableNotOpen`, `KeyUnavailable`, `Overloaded`, `Poisoned`, `TooLarge`; nothing was written.
    pub fn append(&self, mutations: &[Mutation]) -> Result<Lsn> {
        let _ = mutations;
        todo!()
    }

    /// The last durable and visible log frame.
    #[must_use]
    pub fn committed(&self) -> Lsn {
        todo!()
    }

    /// Wakes `waker` once when `lsn` is committed or the engine is poisoned. Returns true, without
    /// registering, when that is already so.
    #[must_use]
    pub fn wake_at(&self, lsn: Lsn, waker: &Waker) -> bool {
        let _ = (lsn, waker);
        todo!()
    }

    /// Wakes `waker` once when an append that got `Overloaded` may be tried again. Returns true,
    /// without registering, when there is room now.
    #[must_use]
    pub fn wake_when_room(&self, waker: &Waker) -> bool {
        let _ = waker;
        todo!()
    }

    /// Blocks until `lsn` is committed. For tests and tools; the server uses [`Engine::wake_at`].
    ///
    /// # Errors
    /// `Poisoned` when it never will be.
    pub fn wait_committed(&self, lsn: Lsn) -> Result<()> {
        let _ = lsn;
        todo!()
    }

    /// An error once a log write or sync has failed.
    ///
    /// # Errors
    /// `Poisoned`.
    pub fn poisoned(&self) -> Result<()> {
        todo!()
    }

    /// Starts reading one partition. The cursor holds one [`crate::View`]; nothing moves under it.
    ///
    /// # Errors
    /// `TableNotOpen`, `KeyUnavailable`, `Tampered`, `Io`.
    pub fn read_partition(
        &self,
        table: TableId,
        read: &PartitionRead<'_>,
        now_seconds: u32,
    ) -> Result<PartitionCursor> {
        let _ = (table, read, now_seconds);
        todo!()
    }

    /// One live row by its full primary key (`clustering` is ordered bytes), or `None`.
    ///
    /// # Errors
    /// `TableNotOpen`, `KeyUnavailable`, `Tampered`, `Io`.
    pub fn read_row(
        &self,
        table: TableId,
        partition_key: &[u8],
        token: Token,
        clustering: &[u8],
        now_seconds: u32,
    ) -> Result<Option<Bytes>> {
        let _ = (table, partition_key, token, clustering, now_seconds);
        todo!()
    }

    /// The live static row of one partition, or `None`.
    ///
    /// # Errors
    /// As [`Engine::read_row`].
    pub fn read_static_row(
        &self,
        table: TableId,
        partition_key: &[u8],
        token: Token,
        now_seconds: u32,
    ) -> Result<Option<Bytes>> {
        let _ = (table, partition_key, token, now_seconds);
        todo!()
    }

    /// Scans a table, or a token range of it, in token order.
    ///
    /// # Errors
    /// `TableNotOpen`, `KeyUnavailable`, `Tampered`, `Io`.
    pub fn scan(&self, table: TableId, range: &ScanRange<'_>, now_seconds: u32) -> Result<ScanCursor> {
        let _ = (table, range, now_seconds);
        todo!()
    }

    /// Removes all rows of the table, those in the log included, and unlinks its files. Works while
    /// the key is away.
    ///
    /// # Errors
    /// `NoSuchTable`, `Io`.
    pub fn truncate(&self, table: TableId) -> Result<()> {
        let _ = table;
        todo!()
    }

    /// Removes the table from the catalog and unlinks its files. Works while the key is away.
    ///
    /// # Errors
    /// `NoSuchTable`, `Io`.
    pub fn drop_table(&self, table: TableId) -> Result<()> {
        let _ = table;
        todo!()
    }

    /// Writes the table's memtables to segments; returns when they are in the catalog.
    ///
    /// # Errors
    /// `TableNotOpen`, `KeyUnavailable`, `Io`.
    pub fn flush(&self, table: TableId) -> Result<()> {
        let _ = table;
        todo!()
    }

    /// Compacts all segments of the table into one; blocks until done.
    ///
    /// # Errors
    /// `TableNotOpen`, `KeyUnavailable`, `Tampered`, `Io`.
    pub fn compact(&self, table: TableId) -> Result<()> {
        let _ = table;
        todo!()
    }

    /// Closes the table because its key is gone: drops memtables, opened blocks and ciphers. What
    /// was not flushed is in the log and comes back with [`Engine::open_table`].
    pub fn forget_key(&self, table: TableId) {
        let _ = table;
        todo!()
    }

    /// Sizes and counts of one table.
    ///
    /// # Errors
    /// `NoSuchTable`.
    pub fn statistics(&self, table: TableId) -> Result<TableStatistics> {
        let _ = table;
        todo!()
    }

    /// Commits what was appended, flushes, ends the log, and joins the threads.
    pub fn shutdown(&self) {
        todo!()
    }
}
