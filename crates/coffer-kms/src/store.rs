//! The state on disk: a sealed checkpoint `<version>.keys`, and a sealed journal `<version>.journal`
//! of the changes since.
//!
//! Changes that are made at the same time share one write and one sync. A journal is never opened
//! again for append: the first change after a start makes the next checkpoint, and so does a write
//! that failed. Whatever the journal lacks then is in the checkpoint. Destroyed key material leaves
//! the disk with the checkpoint that is made before the call returns.

mod former;

use crate::{
    durable::{self, SecretFileError},
    state::{Change, State},
    wiped::to_json,
};
use coffer_crypto::{
    DocumentKind, JOURNAL_HEADER_LEN, JournalKind, JournalLink, JournalReader, JournalWriter,
    RootKey, SealedDocument,
};
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};
use zeroize::Zeroizing;

const KEYS: &str = "keys";
const JOURNAL: &str = "journal";
const FORMAT: u32 = 2;
const FILE_LEN_MAX: u64 = 4 << 30;
/// A journal gets this long before the next checkpoint, or as long as the last checkpoint.
const JOURNAL_LEN_MIN: u64 = 4 << 20;

#[derive(Serialize)]
struct Checkpoint<'a> {
    format: u32,
    account: &'a str,
    region: &'a str,
    changes: &'a [Change],
}

#[derive(Deserialize)]
struct OpenedCheckpoint {
    account: String,
    region: String,
    changes: Vec<Change>,
}

/// Tells the formats apart; the former one does not say.
#[derive(Deserialize)]
struct Format {
    format: Option<u32>,
}

/// The files of one KMS.
pub(crate) struct Store {
    dir: PathBuf,
    root: RootKey,
    writer: Mutex<Writer>,
    /// Number of the last change that a crash cannot undo.
    durable: AtomicU64,
}

struct Writer {
    /// Of the newest checkpoint; 0 before the first.
    version: u64,
    checkpoint_len: u64,
    /// `None` when the next change needs a checkpoint.
    journal: Option<Journal>,
}

struct Journal {
    file: File,
    writer: JournalWriter,
    len: u64,
}

impl Store {
    /// Whether `dir` holds a store.
    pub(crate) fn exists(dir: &Path) -> io::Result<bool> {
        Ok(!versions(dir, KEYS)?.is_empty())
    }

    /// Reads the newest checkpoint and its journal, and removes what a crash left of others. No
    /// checkpoint: `None`. Errors name the file.
    pub(crate) fn open(dir: &Path, root: RootKey) -> Result<(Option<State>, Self), String> {
        let mut checkpoints = versions(dir, KEYS).map_err(|error| error.to_string())?;
        let version = checkpoints.pop().unwrap_or(0);
        let mut store = Self {
            dir: dir.to_owned(),
            root,
            writer: Mutex::new(Writer { version, checkpoint_len: 0, journal: None }),
            durable: AtomicU64::new(0),
        };
        if version == 0 {
            store.check_new()?;
            return Ok((None, store));
        }
        let state = store.read(version)?;
        store.tidy(version).map_err(|error| error.to_string())?;
        Ok((Some(state), store))
    }

    /// Returns when change `sequence`, and with it every earlier one, is durable. With `checkpoint`
    /// also every file is gone that holds what is not in the state any more.
    ///
    /// # Errors
    /// Why it is not durable; it may become so with a later change.
    pub(crate) fn commit(
        &self,
        state: &RwLock<State>,
        sequence: u64,
        checkpoint: bool,
    ) -> Result<(), String> {
        let is_durable = || !checkpoint && self.durable.load(Ordering::Acquire) >= sequence;
        if is_durable() {
            return Ok(());
        }
        let mut writer = self.writer.lock();
        // whoever had the lock may have written this change as well
        if is_durable() {
            return Ok(());
        }
        let limit = writer.checkpoint_len.max(JOURNAL_LEN_MIN);
        let Some(journal) = writer.journal.as_mut().filter(|journal| journal.len < limit) else {
            return self.checkpoint(&mut writer, state);
        };
        if checkpoint {
            return self.checkpoint(&mut writer, state);
        }
        let (changes, sequence) = {
            let mut state = state.write();
            (std::mem::take(&mut state.pending), state.sequence)
        };
        match journal.append(&changes) {
            Ok(()) => {
                self.durable.store(sequence, Ordering::Release);
                Ok(())
            }
            Err(reason) => {
                tracing::error!(reason, "journal of the KMS cannot be written");
                self.checkpoint(&mut writer, state)
            }
        }
    }

    /// Publishes the whole state under the next version with an empty journal, then removes the
    /// files before it.
    fn checkpoint(&self, writer: &mut Writer, state: &RwLock<State>) -> Result<(), String> {
        // from here on the old journal lacks changes
        writer.journal = None;
        let (changes, account, region, sequence) = {
            let mut state = state.write();
            state.pending.clear();
            (state.snapshot(), state.account.clone(), state.region.clone(), state.sequence)
        };
        let version = writer.version.saturating_add(1);
        let failed = |error: String| format!("write {}: {error}", name(version, KEYS));
        let checkpoint =
            Checkpoint { format: FORMAT, account: &account, region: &region, changes: &changes };
        let json = to_json(&checkpoint).map_err(|error| failed(error.to_string()))?;
        let sealed = SealedDocument::seal(&self.root, DocumentKind::KmsStore, version, &json)
            .map_err(|error| failed(error.to_string()))?;
        // the journal first: a checkpoint without its journal is a damaged store
        let journal = Journal::create(&self.dir, &self.root, version).map_err(failed)?;
        durable::publish(&self.dir, &name(version, KEYS), &sealed)
            .map_err(|error| failed(error.to_string()))?;
        writer.version = version;
        writer.checkpoint_len = sealed.len() as u64;
        writer.journal = Some(journal);
        self.durable.store(sequence, Ordering::Release);
        self.tidy(version).map_err(|error| format!("remove older keys: {error}"))
    }

    /// Removes the files of other versions; the removal is durable when this returns.
    fn tidy(&self, version: u64) -> io::Result<()> {
        for extension in [KEYS, JOURNAL] {
            for other in versions(&self.dir, extension)? {
                if other != version {
                    durable::remove(&self.dir, &name(other, extension))?;
                }
            }
        }
        let unfinished = format!("{}.tmp", name(version.saturating_add(1), KEYS));
        durable::remove(&self.dir, &unfinished)
    }

    /// A journal with records belongs to a checkpoint that is lost. One without is of a first start
    /// that was cut short.
    fn check_new(&self) -> Result<(), String> {
        for version in versions(&self.dir, JOURNAL).map_err(|error| error.to_string())? {
            let file = self.dir.join(name(version, JOURNAL));
            let len = fs::metadata(file).map_err(|error| error.to_string())?.len();
            if len > JOURNAL_HEADER_LEN as u64 {
                return Err(format!("{}: the file is gone", name(version, KEYS)));
            }
        }
        Ok(())
    }

    fn read(&mut self, version: u64) -> Result<State, String> {
        let checkpoint = name(version, KEYS);
        let named = |reason: String| format!("{checkpoint}: {reason}");
        let bytes = self.read_file(&checkpoint)?;
        self.writer.get_mut().checkpoint_len = bytes.len() as u64;
        let opened = SealedDocument::open(&self.root, DocumentKind::KmsStore, &bytes)
            .map_err(|error| named(error.to_string()))?;
        if opened.version != version {
            return Err(named(format!("holds another version, version={}", opened.version)));
        }
        // serde's text may quote what it read
        let unreadable = |_| named("not a store of keys".to_owned());
        let format: Format = serde_json::from_slice(&opened.plaintext).map_err(unreadable)?;
        match format.format {
            None => return former::read(&opened.plaintext).map_err(named),
            Some(FORMAT) => {}
            Some(other) => return Err(named(format!("unknown format, format={other}"))),
        }
        let checkpoint: OpenedCheckpoint =
            serde_json::from_slice(&opened.plaintext).map_err(unreadable)?;
        let mut state = State::new(&checkpoint.account, &checkpoint.region);
        for change in checkpoint.changes {
            state.apply(change);
        }
        self.replay(version, &mut state)?;
        Ok(state)
    }

    /// Makes the changes of the journal. A record that a crash cut off was not acknowledged.
    fn replay(&self, version: u64, state: &mut State) -> Result<(), String> {
        let journal = name(version, JOURNAL);
        let named = |reason: String| format!("{journal}: {reason}");
        let bytes = self.read_file(&journal)?;
        let mut reader = JournalReader::open(&self.root, JournalKind::KmsStore, &bytes)
            .map_err(|error| named(error.to_string()))?;
        if reader.number() != version {
            return Err(named(format!("is another journal, number={}", reader.number())));
        }
        while let Some(record) = reader.next_record().map_err(|error| named(error.to_string()))? {
            let change: Change = serde_json::from_slice(&record)
                .map_err(|_| named("holds what is no change".to_owned()))?;
            state.apply(change);
        }
        Ok(())
    }

    fn read_file(&self, name: &str) -> Result<Zeroizing<Vec<u8>>, String> {
        let reason = match durable::read_secret(&self.dir.join(name), FILE_LEN_MAX) {
            Ok(Some(bytes)) => return Ok(bytes),
            Ok(None) => "the file is gone".to_owned(),
            Err(SecretFileError::Loose(mode)) => {
                format!("others may read or write it, run chmod 600 on it first, mode={mode:04o}")
            }
            Err(SecretFileError::NoSuchFile) => "not a store of keys".to_owned(),
            Err(SecretFileError::Io(error)) => error.to_string(),
        };
        Err(format!("{name}: {reason}"))
    }
}

impl Journal {
    fn create(dir: &Path, root: &RootKey, version: u64) -> Result<Self, String> {
        let (writer, header) =
            JournalWriter::create(root, JournalKind::KmsStore, version, JournalLink::NONE)
                .map_err(|error| error.to_string())?;
        let file = durable::create_log(dir, &name(version, JOURNAL), &header)
            .map_err(|error| error.to_string())?;
        Ok(Self { file, writer, len: header.len() as u64 })
    }

    /// One write, one sync.
    fn append(&mut self, changes: &[Change]) -> Result<(), String> {
        let mut batch = Vec::with_capacity(changes.len().saturating_mul(512));
        for change in changes {
            let record = to_json(change).map_err(|error| error.to_string())?;
            self.writer.append(&record, &mut batch).map_err(|error| error.to_string())?;
        }
        self.file.write_all(&batch).map_err(|error| error.to_string())?;
        self.file.sync_data().map_err(|error| error.to_string())?;
        self.len = self.len.saturating_add(batch.len() as u64);
        Ok(())
    }
}

fn name(version: u64, extension: &str) -> String {
    format!("{version:020}.{extension}")
}

/// Versions in `dir`, oldest first.
fn versions(dir: &Path, extension: &str) -> io::Result<Vec<u64>> {
    let mut versions = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|found| found == extension) {
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            versions.extend(stem.and_then(|stem| stem.parse::<u64>().ok()));
        }
    }
    versions.sort_unstable();
    Ok(versions)
}
