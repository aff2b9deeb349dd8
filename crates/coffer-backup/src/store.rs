//! Where backups are: a directory, or a bucket of an S3-compatible store. Files go through in pieces;
//! none is in memory as a whole.

use std::fs::File;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt, TryStreamExt};
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    Error as StoreError, GetOptions, MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload,
    UploadPart,
};
use reqwest::Url;
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};
use crate::key_object::{BackupId, KEY_OBJECT_BYTES_MAX, KeyObject};
use crate::{BackupFile, KEY, MANIFEST};

/// Longer files go in parts of this length.
const PART_BYTES: usize = 8 << 20;
/// How much of an object is asked for at once.
const READ_BYTES: u64 = 64 << 20;
/// How often a piece is asked for before it is given up.
const READ_ATTEMPTS: u32 = 4;
/// Parts under way at a time.
const PARTS_MAX: usize = 4;
const SCHEME: &str = "s3://";

/// Told how many bytes are done.
type Progress<'a> = &'a dyn Fn(u64);

/// A backup that is there.
#[derive(Debug)]
pub struct Listed {
    /// Its id.
    pub id: BackupId,
    /// Its keys, or why they cannot be read: then the backup is damaged.
    pub key: Result<KeyObject>,
    /// Whether it has its manifest: else its export was interrupted.
    pub is_complete: bool,
    /// Bytes of all objects.
    pub bytes: u64,
}

/// The folder of a backup.
struct Folder {
    id: BackupId,
    has_manifest: bool,
    bytes: u64,
}

/// An open place for backups.
#[derive(Debug, Clone)]
pub struct Store {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    location: String,
    /// Where it is on this machine.
    directory: Option<PathBuf>,
}

impl Store {
    /// A directory, or `s3://bucket/prefix` with the credentials and the region of the standard
    /// environment variables of AWS. `endpoint` is the URL of another S3-compatible store; plain HTTP
    /// is for this machine only. `create` makes the directory, and none that it would be in: where a
    /// disk is not mounted nothing is written.
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
            // whatever the environment says
            builder = builder.with_allow_http(false);
            if let Some(endpoint) = endpoint {
                let is_plain = is_plain_to_this_machine(endpoint).map_err(wrong)?;
                builder = builder.with_endpoint(endpoint).with_allow_http(is_plain);
            }
            let store = builder.build().map_err(|error| wrong(error.to_string()))?;
            let prefix = Path::parse(prefix.trim_end_matches('/'));
            let prefix = prefix.map_err(|error| wrong(error.to_string()))?;
            let location = location.to_owned();
            return Ok(Self { store: Arc::new(store), prefix, location, directory: None });
        }
        if location.contains("://") || location.is_empty() {
            return Err(wrong("a directory or s3://BUCKET/PREFIX is wanted".to_owned()));
        }
        if create {
            create_last(FilePath::new(location)).map_err(wrong)?;
        }
        let store = LocalFileSystem::new_with_prefix(location);
        let store = store.map_err(|error| wrong(error.to_string()))?.with_fsync(true);
        let directory =
            std::fs::canonicalize(location).map_err(|error| wrong(error.to_string()))?;
        let location = directory.to_string_lossy().into_owned();
        let (store, prefix) = (Arc::new(store), Path::default());
        Ok(Self { store, prefix, location, directory: Some(directory) })
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
        let first = read_part(&mut source, from, &mut digest)?;
        let mut length = first.len() as u64;
        if length < PART_BYTES as u64 {
            check(from, file, length, digest)?;
            let put = self.store.put(&path, PutPayload::from(first)).await;
            put.map_err(failed())?;
            progress(length);
            return Ok(true);
        }
        let upload = self.store.put_multipart(&path).await.map_err(failed())?;
        let mut upload = Upload { upload, parts: FuturesUnordered::new() };
        let uploaded = async {
            let mut part = first;
            while !part.is_empty() {
                let bytes = part.len() as u64;
                upload.put(part).await.map_err(failed())?;
                progress(bytes);
                part = read_part(&mut source, from, &mut digest)?;
                length += part.len() as u64;
            }
            check(from, file, length, digest)?;
            upload.finish().await.map_err(failed())
        };
        let uploaded = uploaded.await;
        if uploaded.is_err() {
            // parts of an upload that is not finished are no object, but they are kept and paid for
            upload.abort().await;
        }
        uploaded.map(|()| true)
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
        let found = match self.store.head(&path).await {
            Err(StoreError::NotFound { .. }) => {
                return Err(Error::tampered(path.to_string(), "it is missing"));
            }
            found => found.map_err(failed())?,
        };
        let mut digest = Sha256::new();
        if found.size != file.length {
            return check(FilePath::new(path.as_ref()), file, found.size, digest);
        }
        let mut length = 0_u64;
        while length < file.length {
            let end = file.length.min(length.saturating_add(READ_BYTES));
            let piece = self.piece(&path, length..end).await.map_err(failed())?;
            let wanted = end - length;
            if piece.len() as u64 != wanted {
                let what = format!("{} bytes came where {wanted} were asked for", piece.len());
                return Err(Error::tampered(path.to_string(), what));
            }
            digest.update(&piece);
            take(&piece)?;
            length = end;
        }
        check(FilePath::new(path.as_ref()), file, length, digest)
    }

    /// A piece of an object. The store's client gives up a request after a time, so only as much is
    /// asked for at once as comes within it also on a slow line, and asked for again when it did not.
    async fn piece(
        &self,
        path: &Path,
        range: std::ops::Range<u64>,
    ) -> std::result::Result<Bytes, StoreError> {
        let mut attempt = 1;
        loop {
            match self.store.get_range(path, range.clone()).await {
                Err(StoreError::Generic { .. }) if attempt < READ_ATTEMPTS => attempt += 1,
                found => return found,
            }
        }
    }

    /// The backups that are here, oldest first, those that are damaged last.
    ///
    /// # Errors
    /// The store's, when it does not tell what is in it.
    pub async fn list(&self) -> Result<Vec<Listed>> {
        let folders = match &self.directory {
            Some(directory) => folders_in(directory)?,
            None => self.folders().await?,
        };
        let mut backups = Vec::new();
        for Folder { id, has_manifest, bytes } in folders {
            let key = match self.get(id, KEY, KEY_OBJECT_BYTES_MAX).await {
                // an export begins with its key
                Ok(None) if !has_manifest => continue,
                Ok(None) => Err(Error::tampered(format!("{id}/{KEY}"), "it is missing")),
                Ok(Some(key)) => KeyObject::from_bytes(id, &key),
                Err(error) => Err(error),
            };
            let is_complete = has_manifest && key.is_ok();
            backups.push(Listed { id, key, is_complete, bytes });
        }
        let created_at =
            |backup: &Listed| backup.key.as_ref().ok().map(|key| key.created_at_millis);
        backups.sort_by_key(|backup| (created_at(backup).is_none(), created_at(backup), backup.id));
        Ok(backups)
    }

    async fn folders(&self) -> Result<Vec<Folder>> {
        let failed = || Error::store("list", self.location.clone());
        let listed = self.store.list_with_delimiter(Some(&self.prefix)).await.map_err(failed())?;
        let mut folders = Vec::new();
        for folder in listed.common_prefixes {
            let Some(id) = folder.filename().and_then(|name| name.parse::<BackupId>().ok()) else {
                continue;
            };
            let objects: Vec<_> =
                self.store.list(Some(&folder)).try_collect().await.map_err(failed())?;
            let manifest = self.path(id, MANIFEST);
            folders.push(Folder {
                id,
                has_manifest: objects.iter().any(|object| object.location == manifest),
                bytes: objects.iter().map(|object| object.size).sum(),
            });
        }
        Ok(folders)
    }
}

/// The folders of backups in a directory. Whatever else is there, and whatever it is called, stays out.
fn folders_in(directory: &FilePath) -> Result<Vec<Folder>> {
    let entries = std::fs::read_dir(directory).map_err(Error::io("list", directory))?;
    let mut folders = Vec::new();
    for entry in entries {
        let entry = entry.map_err(Error::io("list", directory))?;
        let name = entry.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse::<BackupId>().ok()) else {
            continue;
        };
        let path = entry.path();
        // what cannot be counted shows when it is read
        let bytes = bytes_below(&path).unwrap_or_default();
        folders.push(Folder { id, has_manifest: path.join(MANIFEST).is_file(), bytes });
    }
    Ok(folders)
}

/// Bytes of all files of a backup: its own, and those of its folders.
fn bytes_below(folder: &FilePath) -> std::io::Result<u64> {
    let mut bytes = 0_u64;
    for entry in std::fs::read_dir(folder)? {
        let (entry, mut inner) = (entry?, 0);
        if entry.file_type()?.is_dir() {
            for file in std::fs::read_dir(entry.path())? {
                inner += file?.metadata()?.len();
            }
        } else {
            inner = entry.metadata()?.len();
        }
        bytes = bytes.saturating_add(inner);
    }
    Ok(bytes)
}

/// Makes a directory in one that is there.
fn create_last(directory: &FilePath) -> std::result::Result<(), String> {
    let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty());
    match std::fs::create_dir(directory) {
        Err(_) if directory.is_dir() => Ok(()),
        Err(error) => Err(match parent {
            Some(parent) if error.kind() == std::io::ErrorKind::NotFound => format!(
                "there is no directory {}: mount it or make it first, only the last folder of the \
                 path is made here",
                parent.display()
            ),
            _ => error.to_string(),
        }),
        Ok(()) => Ok(()),
    }
}

fn read_part(source: &mut File, from: &FilePath, digest: &mut Sha256) -> Result<Vec<u8>> {
    let mut part = Vec::with_capacity(PART_BYTES);
    let mut piece = source.take(PART_BYTES as u64);
    piece.read_to_end(&mut part).map_err(Error::io("read", from))?;
    digest.update(&part);
    Ok(part)
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

/// An upload in parts, of which some are under way.
struct Upload {
    upload: Box<dyn MultipartUpload>,
    parts: FuturesUnordered<UploadPart>,
}

impl Upload {
    async fn put(&mut self, part: Vec<u8>) -> std::result::Result<(), StoreError> {
        if self.parts.len() >= PARTS_MAX {
            self.parts.next().await.transpose()?;
        }
        self.parts.push(self.upload.put_part(PutPayload::from(part)));
        Ok(())
    }

    async fn finish(&mut self) -> std::result::Result<(), StoreError> {
        while self.parts.next().await.transpose()?.is_some() {}
        self.upload.complete().await.map(drop)
    }

    async fn abort(&mut self) {
        // one that arrives later would stay
        self.parts.clear();
        let _ = self.upload.abort().await;
    }
}

/// Whether the URL of an endpoint is plain HTTP to this machine.
///
/// # Errors
/// What is wrong with it.
fn is_plain_to_this_machine(endpoint: &str) -> std::result::Result<bool, String> {
    let url = Url::parse(endpoint).map_err(|error| format!("the endpoint is no URL: {error}"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("the endpoint holds a user: credentials come from the environment".to_owned());
    }
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let is_here =
        host == "localhost" || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    match url.scheme() {
        "https" => Ok(false),
        "http" if is_here => Ok(true),
        _ => Err("the endpoint is neither https:// nor http:// to this machine".to_owned()),
    }
}

#[cfg(test)]
mod tests;
