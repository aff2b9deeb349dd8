//! Where backups are: a directory, or a bucket of an S3-compatible store. Files go through in pieces;
//! none is in memory as a whole.

use std::fs::File;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path as FilePath;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    Error as StoreError, GetOptions, ObjectStore, ObjectStoreExt, PutPayload, WriteMultipart,
};
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};
use crate::key_object::{BackupId, KEY_OBJECT_BYTES_MAX, KeyObject};
use crate::{BackupFile, KEY, MANIFEST};

/// Longer files go in parts of this length.
const PART_BYTES: usize = 8 << 20;
/// Parts under way at a time.
const PARTS_MAX: usize = 4;
const SCHEME: &str = "s3://";

/// Told how many bytes are done.
type Progress<'a> = &'a dyn Fn(u64);

/// A backup that is there.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Its keys.
    pub key: KeyObject,
    /// Whether it has its manifest: else its export was interrupted.
    pub is_complete: bool,
    /// Bytes of all objects.
    pub bytes: u64,
}

/// An open place for backups.
#[derive(Debug, Clone)]
pub struct Store {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    location: String,
}

impl Store {
    /// A directory, or `s3://bucket/prefix` with the credentials and the region of the standard
    /// environment variables of AWS. `endpoint` is the URL of another S3-compatible store; plain HTTP
    /// is for this machine only.
    ///
    /// # Errors
    /// `Location` when it is none or cannot be opened.
    pub fn open(location: &str, endpoint: Option<&str>, create: bool) -> Result<Self> {
        let wrong = |what: String| Error::Location { location: location.to_owned(), what };
        if let Some(rest) = location.strip_prefix(SCHEME) {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            if bucket.is_empty() {
                return Err(wrong("s3://BUCKET or s3://BUCKET/PREFIX is wanted".to_owned()));
            }
            let mut builder = AmazonS3Builder::from_env()
                .with_bucket_name(bucket)
                .with_virtual_hosted_style_request(false);
            if let Some(endpoint) = endpoint {
                builder = builder.with_endpoint(endpoint).with_allow_http(is_loopback(endpoint));
            }
            let store = builder.build().map_err(|error| wrong(error.to_string()))?;
            let prefix = Path::parse(prefix.trim_end_matches('/'));
            let prefix = prefix.map_err(|error| wrong(error.to_string()))?;
            return Ok(Self { store: Arc::new(store), prefix, location: location.to_owned() });
        }
        if location.contains("://") || location.is_empty() {
            return Err(wrong("a directory or s3://BUCKET/PREFIX is wanted".to_owned()));
        }
        if create {
            std::fs::create_dir_all(location).map_err(|error| wrong(error.to_string()))?;
        }
        let store = LocalFileSystem::new_with_prefix(location);
        let store = store.map_err(|error| wrong(error.to_string()))?.with_fsync(true);
        let location = std::fs::canonicalize(location).map_err(|error| wrong(error.to_string()))?;
        let location = location.to_string_lossy().into_owned();
        Ok(Self { store: Arc::new(store), prefix: Path::default(), location })
    }

    /// The place, as it is known everywhere on this machine.
    #[must_use]
    pub fn location(&self) -> &str {
        &self.location
    }

    fn path(&self, backup: BackupId, object: &str) -> Path {
        let parts = self.prefix.parts().map(|part| part.as_ref().to_owned());
        let parts = parts.chain([backup.to_string()]);
        Path::from_iter(parts.chain(object.split('/').map(str::to_owned)))
    }

    /// Writes a small object.
    ///
    /// # Errors
    /// The store's.
    pub async fn put(&self, backup: BackupId, object: &str, bytes: Vec<u8>) -> Result<()> {
        let path = self.path(backup, object);
        let put = self.store.put(&path, PutPayload::from(bytes)).await;
        put.map(drop).map_err(Error::store("write", path.to_string()))
    }

    /// A small object; `None` when there is none.
    ///
    /// # Errors
    /// The store's; `Tampered` when it is longer than `bytes_max`.
    pub async fn get(
        &self,
        backup: BackupId,
        object: &str,
        bytes_max: u64,
    ) -> Result<Option<Bytes>> {
        self.get_at(&self.path(backup, object), bytes_max).await
    }

    async fn get_at(&self, path: &Path, bytes_max: u64) -> Result<Option<Bytes>> {
        let failed = || Error::store("read", path.to_string());
        let found = match self.store.get(path).await {
            Err(StoreError::NotFound { .. }) => return Ok(None),
            found => found.map_err(failed())?,
        };
        if found.meta.size > bytes_max {
            return Err(Error::tampered(path.to_string(), "too long"));
        }
        found.bytes().await.map(Some).map_err(failed())
    }

    /// Copies a file into the backup as it is, unless it is there already. Returns whether it was
    /// copied.
    ///
    /// # Errors
    /// `Tampered` when the file is not what the manifest says; the store's, the operating system's.
    pub async fn put_file(
        &self,
        backup: BackupId,
        file: &BackupFile,
        from: &FilePath,
        progress: Progress<'_>,
    ) -> Result<bool> {
        if self.is_there(backup, file).await? {
            progress(file.length);
            return Ok(false);
        }
        let path = self.path(backup, &file.object);
        let failed = || Error::store("write", path.to_string());
        let mut source = File::open(from).map_err(Error::io("read", from))?;
        let mut digest = Sha256::new();
        let mut read_part = || -> Result<Vec<u8>> {
            let mut part = Vec::with_capacity(PART_BYTES);
            let mut piece = (&mut source).take(PART_BYTES as u64);
            piece.read_to_end(&mut part).map_err(Error::io("read", from))?;
            digest.update(&part);
            Ok(part)
        };
        let first = read_part()?;
        let mut length = first.len() as u64;
        if length < PART_BYTES as u64 {
            check(from, file, length, digest)?;
            let put = self.store.put(&path, PutPayload::from(first)).await;
            put.map_err(failed())?;
            progress(length);
            return Ok(true);
        }
        let upload = self.store.put_multipart(&path).await.map_err(failed())?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        let mut part = first;
        while !part.is_empty() {
            upload.wait_for_capacity(PARTS_MAX).await.map_err(failed())?;
            let bytes = part.len() as u64;
            upload.put(Bytes::from(part));
            progress(bytes);
            part = read_part()?;
            length += part.len() as u64;
        }
        match check(from, file, length, digest) {
            Ok(()) => upload.finish().await.map(|_| true).map_err(failed()),
            Err(error) => {
                // parts of an upload that is not finished are no object
                let _ = upload.abort().await;
                Err(error)
            }
        }
    }

    /// Whether the object of a file is there, as long as it is to be and with that SHA-256.
    ///
    /// # Errors
    /// The store's.
    pub async fn is_there(&self, backup: BackupId, file: &BackupFile) -> Result<bool> {
        let path = self.path(backup, &file.object);
        let head = self.store.get_opts(&path, GetOptions { head: true, ..GetOptions::default() });
        match head.await {
            Err(StoreError::NotFound { .. }) => return Ok(false),
            Err(error) => return Err(Error::store("look for", path.to_string())(error)),
            Ok(found) if found.meta.size != file.length => return Ok(false),
            Ok(_) => {}
        }
        Ok(self.verify(backup, file, &|_| {}).await.is_ok())
    }

    /// Reads the object of a file and compares length and SHA-256.
    ///
    /// # Errors
    /// `Tampered` when it differs or is missing; the store's.
    pub async fn verify(
        &self,
        backup: BackupId,
        file: &BackupFile,
        progress: Progress<'_>,
    ) -> Result<()> {
        self.read(backup, file, &mut |bytes| {
            progress(bytes.len() as u64);
            Ok(())
        })
        .await
    }

    /// Copies the object of a file to `to`, unless the file is there already. What stands at `to` is
    /// as the manifest says when this returns.
    ///
    /// # Errors
    /// `Tampered` when the object differs or is missing; the store's, the operating system's.
    pub async fn get_file(
        &self,
        backup: BackupId,
        file: &BackupFile,
        to: &FilePath,
        progress: Progress<'_>,
    ) -> Result<()> {
        if is_file(to, file) {
            progress(file.length);
            return Ok(());
        }
        let mut options = File::options();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut out = options.open(to).map_err(Error::io("write", to))?;
        self.read(backup, file, &mut |bytes| {
            progress(bytes.len() as u64);
            out.write_all(bytes).map_err(Error::io("write", to))
        })
        .await?;
        out.sync_all().map_err(Error::io("sync", to))
    }

    async fn read(
        &self,
        backup: BackupId,
        file: &BackupFile,
        take: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let path = self.path(backup, &file.object);
        let failed = || Error::store("read", path.to_string());
        let found = match self.store.get(&path).await {
            Err(StoreError::NotFound { .. }) => {
                return Err(Error::tampered(path.to_string(), "it is missing"));
            }
            found => found.map_err(failed())?,
        };
        let mut stream = found.into_stream();
        let (mut digest, mut length) = (Sha256::new(), 0_u64);
        while let Some(bytes) = stream.try_next().await.map_err(failed())? {
            length += bytes.len() as u64;
            digest.update(&bytes);
            take(&bytes)?;
        }
        check(FilePath::new(path.as_ref()), file, length, digest)
    }

    /// The backups that are here, oldest first.
    ///
    /// # Errors
    /// The store's; `Tampered` for an object `key` that is none.
    pub async fn list(&self) -> Result<Vec<Listed>> {
        let failed = || Error::store("list", self.location.clone());
        let listed = self.store.list_with_delimiter(Some(&self.prefix)).await.map_err(failed())?;
        let mut backups = Vec::new();
        for folder in listed.common_prefixes {
            let Some(id) = folder.filename().and_then(|name| name.parse::<BackupId>().ok()) else {
                continue;
            };
            let key = self.get(id, KEY, KEY_OBJECT_BYTES_MAX).await?;
            let Some(key) = key else { continue };
            let objects: Vec<_> =
                self.store.list(Some(&folder)).try_collect().await.map_err(failed())?;
            let manifest = self.path(id, MANIFEST);
            backups.push(Listed {
                key: KeyObject::from_bytes(&key)?,
                is_complete: objects.iter().any(|object| object.location == manifest),
                bytes: objects.iter().map(|object| object.size).sum(),
            });
        }
        backups.sort_by_key(|backup| backup.key.created_at_millis);
        Ok(backups)
    }
}

fn check(path: &FilePath, file: &BackupFile, length: u64, digest: Sha256) -> Result<()> {
    let name = || path.display().to_string();
    if length != file.length {
        return Err(Error::tampered(name(), format!("length is {length}, not {}", file.length)));
    }
    if <[u8; 32]>::from(digest.finalize()) != file.sha256 {
        return Err(Error::tampered(name(), "SHA-256 is not the one of the manifest"));
    }
    Ok(())
}

/// Whether the file of an earlier attempt is there as a whole.
fn is_file(path: &FilePath, wanted: &BackupFile) -> bool {
    let Ok(mut file) = File::open(path) else { return false };
    let mut digest = Sha256::new();
    let (mut buffer, mut length) = (vec![0; 1 << 20], 0_u64);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return check(path, wanted, length, digest).is_ok(),
            Ok(read) => {
                digest.update(buffer.get(..read).unwrap_or_default());
                length += read as u64;
            }
            Err(_) => return false,
        }
    }
}

/// Whether a URL is of this machine.
fn is_loopback(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("http://") else { return false };
    let authority = rest.split('/').next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(host) => host.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests;
