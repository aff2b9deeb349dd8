//! The keys of the embedded KMS and their file: every version whole, sealed, under a new name.

use crate::{
    durable::{self, SecretFileError},
    kms::{KeyState, KmsError, KmsOperation},
};
use coffer_crypto::{DocumentKind, RootKey, SealedDocument, WrappingKey};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};
use zeroize::Zeroizing;

const EXTENSION: &str = "keys";
const FILE_LEN_MAX: u64 = 64 * 1024 * 1024;
/// Everything the KMS keeps. A value: changed as a copy.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Store {
    pub(super) account: String,
    pub(super) region: String,
    pub(super) keys: Vec<StoredKey>,
    /// Alias with `alias/` to the ARN of its key.
    pub(super) aliases: BTreeMap<String, String>,
}

/// One key.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct StoredKey {
    pub(super) arn: String,
    pub(super) description: String,
    pub(super) created_at_millis: i64,
    pub(super) enabled: bool,
    pub(super) deletion_at_millis: Option<i64>,
    pub(super) pending_window_days: Option<u32>,
    /// 64 hex digits.
    pub(super) material_id: String,
    #[serde(with = "material")]
    pub(super) material: Arc<WrappingKey>,
}

impl StoredKey {
    pub(super) fn id(&self) -> &str {
        self.arn.rsplit_once('/').map_or("", |(_, id)| id)
    }

    pub(super) fn state(&self) -> KeyState {
        match (self.deletion_at_millis, self.enabled) {
            (Some(_), _) => KeyState::PendingDeletion,
            (None, true) => KeyState::Enabled,
            (None, false) => KeyState::Disabled,
        }
    }

    fn is_due(&self, now_millis: i64) -> bool {
        self.deletion_at_millis.is_some_and(|at| at <= now_millis)
    }
}

impl Store {
    pub(super) fn new(account: &str, region: &str) -> Self {
        Self {
            account: account.to_owned(),
            region: region.to_owned(),
            keys: Vec::new(),
            aliases: BTreeMap::new(),
        }
    }

    /// The key of an id, ARN, alias (with or without `alias/`) or alias ARN.
    pub(super) fn find(&self, operation: KmsOperation, name: &str) -> Result<&StoredKey, KmsError> {
        let position = self.position(operation, name)?;
        self.keys.get(position).ok_or_else(|| self.not_found(operation, name))
    }

    pub(super) fn find_mut(
        &mut self,
        operation: KmsOperation,
        name: &str,
    ) -> Result<&mut StoredKey, KmsError> {
        let position = self.position(operation, name)?;
        let error = self.not_found(operation, name);
        self.keys.get_mut(position).ok_or(error)
    }

    pub(super) fn has_due(&self, now_millis: i64) -> bool {
        self.keys.iter().any(|key| key.is_due(now_millis))
    }

    /// Drops the keys whose deletion date has come, and their aliases.
    pub(super) fn delete_due(&mut self, now_millis: i64) {
        self.keys.retain(|key| !key.is_due(now_millis));
        let keys = &self.keys;
        self.aliases.retain(|_, arn| keys.iter().any(|key| key.arn == *arn));
    }

    /// At least the length of the JSON form: a buffer that grew would leave unwiped copies behind.
    fn json_len_max(&self) -> usize {
        let keys = self.keys.iter().map(|key| 1024 + key.arn.len() + 6 * key.description.len());
        let aliases = self.aliases.iter().map(|(alias, arn)| 16 + alias.len() + arn.len());
        1024 + keys.chain(aliases).sum::<usize>()
    }

    fn position(&self, operation: KmsOperation, name: &str) -> Result<usize, KmsError> {
        let alias_arn = format!("arn:aws:kms:{}:{}:", self.region, self.account);
        let alias = name.strip_prefix(&alias_arn).unwrap_or(name);
        let arn = self.aliases.get(alias).or_else(|| self.aliases.get(&format!("alias/{name}")));
        let arn = arn.map_or(name, String::as_str);
        self.keys
            .iter()
            .position(|key| key.arn == arn || key.id() == arn)
            .ok_or_else(|| self.not_found(operation, name))
    }

    fn not_found(&self, operation: KmsOperation, name: &str) -> KmsError {
        let (region, account) = (&self.region, &self.account);
        let given_region = name.strip_prefix("arn:").and_then(|rest| rest.split(':').nth(2));
        let message = match given_region {
            Some(other) if other != region => format!("Invalid arn {other}"),
            Some(_) if name.contains(":alias/") => format!("Alias {name} is not found."),
            Some(_) => format!("Key '{name}' does not exist"),
            None if name.starts_with("alias/") => {
                format!("Alias arn:aws:kms:{region}:{account}:{name} is not found.")
            }
            None => format!("Key 'arn:aws:kms:{region}:{account}:key/{name}' does not exist"),
        };
        KmsError::new(operation, "NotFoundException", message)
    }
}

/// Where the store is kept: `<version>.keys`, one at a time.
pub(super) struct StoreFile {
    dir: PathBuf,
    root: RootKey,
    version: u64,
}

impl StoreFile {
    /// Whether `dir` holds a store.
    pub(super) fn exists(dir: &Path) -> io::Result<bool> {
        Ok(!versions(dir)?.is_empty())
    }

    /// Reads the newest version and removes what a crash left of others. No store: `None`.
    pub(super) fn open(dir: &Path, root: RootKey) -> Result<(Option<Store>, Self), String> {
        let mut versions = versions(dir).map_err(|error| error.to_string())?;
        let mut file = Self { dir: dir.to_owned(), root, version: 0 };
        let Some(newest) = versions.pop() else {
            return Ok((None, file));
        };
        file.version = newest;
        let store = file.read().map_err(|reason| format!("{}: {reason}", name(newest)))?;
        for old in versions {
            durable::remove(dir, &name(old)).map_err(|error| error.to_string())?;
        }
        let unfinished = format!("{}.tmp", name(newest.saturating_add(1)));
        durable::remove(dir, &unfinished).map_err(|error| error.to_string())?;
        Ok((Some(store), file))
    }

    /// Makes `store` the one that a restart finds, then removes the version before it.
    pub(super) fn publish(&mut self, store: &Store) -> Result<(), String> {
        let mut json = Zeroizing::new(Vec::with_capacity(store.json_len_max()));
        serde_json::to_writer(&mut *json, store).map_err(|error| error.to_string())?;
        let version = self.version.saturating_add(1);
        let sealed = SealedDocument::seal(&self.root, DocumentKind::KmsStore, version, &json)
            .map_err(|error| error.to_string())?;
        durable::publish(&self.dir, &name(version), &sealed)
            .map_err(|error| format!("write {}: {error}", name(version)))?;
        let before = std::mem::replace(&mut self.version, version);
        if let Err(error) = durable::remove(&self.dir, &name(before)) {
            tracing::error!(%error, file = name(before), "old keys of the KMS cannot be removed");
        }
        Ok(())
    }

    fn read(&self) -> Result<Store, String> {
        let path = self.dir.join(name(self.version));
        let bytes = match durable::read_secret(&path, FILE_LEN_MAX) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Err("the file is gone".to_owned()),
            Err(SecretFileError::Loose(mode)) => {
                return Err(format!(
                    "others may read or write it, run chmod 600 on it first, mode={mode:04o}"
                ));
            }
            Err(SecretFileError::NoSuchFile) => return Err("not a store of keys".to_owned()),
            Err(SecretFileError::Io(error)) => return Err(error.to_string()),
        };
        let opened = SealedDocument::open(&self.root, DocumentKind::KmsStore, &bytes)
            .map_err(|error| error.to_string())?;
        if opened.version != self.version {
            return Err(format!("holds another version, version={}", opened.version));
        }
        // serde's text may quote what it read
        serde_json::from_slice(&opened.plaintext).map_err(|_| "not a store of keys".to_owned())
    }
}

fn name(version: u64) -> String {
    format!("{version:020}.{EXTENSION}")
}

/// Versions in `dir`, oldest first.
fn versions(dir: &Path) -> io::Result<Vec<u64>> {
    let mut versions = Vec::new();
    for entry in fs::read_dir(dir)? {
        let file_name = entry?.file_name();
        let stem = file_name.to_str().and_then(|text| text.strip_suffix(".keys"));
        if let Some(version) = stem.and_then(|stem| stem.parse().ok()) {
            versions.push(version);
        }
    }
    versions.sort_unstable();
    Ok(versions)
}

/// Key material as 64 hex digits, without copies that nobody wipes.
mod material {
    use coffer_crypto::WrappingKey;
    use serde::{Deserializer, Serializer, de};
    use std::{fmt, sync::Arc};
    use zeroize::Zeroizing;

    pub(super) fn serialize<S: Serializer>(
        material: &Arc<WrappingKey>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut digits = Zeroizing::new([0; 64]);
        hex::encode_to_slice(material.expose_bytes(), digits.as_mut_slice())
            .map_err(serde::ser::Error::custom)?;
        let digits = std::str::from_utf8(&*digits).map_err(serde::ser::Error::custom)?;
        serializer.serialize_str(digits)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Arc<WrappingKey>, D::Error> {
        deserializer.deserialize_str(Digits)
    }

    struct Digits;

    impl de::Visitor<'_> for Digits {
        type Value = Arc<WrappingKey>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("64 hex digits")
        }

        fn visit_str<E: de::Error>(self, digits: &str) -> Result<Self::Value, E> {
            let mut bytes = Zeroizing::new([0; 32]);
            hex::decode_to_slice(digits, bytes.as_mut_slice())
                .map_err(|_| E::custom("not 64 hex digits"))?;
            WrappingKey::from_slice(bytes.as_slice()).map(Arc::new).map_err(E::custom)
        }
    }
}
