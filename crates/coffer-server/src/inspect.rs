//! `coffer inspect`: what a file is, under which table key and wrapping, tags verified; never
//! plaintext. Takes no lock, so it works beside a running server.

mod journal;
pub(crate) mod keys;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use coffer_crypto::{DocumentKind, RootKey, SealedDocument};
use coffer_keys::load_root_key;
use coffer_storage::Error;
use coffer_storage::inspect::{
    inspect_catalog, inspect_log, inspect_segment, inspect_tail, is_log, is_segment, is_tail,
};
use coffer_storage::vfs::OsVfs;
use serde_json::{Map, Value, json};

use crate::cli::Inspect;
use crate::error::{CommandError, Result};

/// Bytes read to tell what a file is.
const START_BYTES: u64 = 64;
/// Exit code: the key is not at hand, so nothing is proven.
const EXIT_NO_KEY: u8 = 3;
/// Exit code: changed, cut, swapped.
const EXIT_TAMPERED: u8 = 4;
/// Beginning of the store of the embedded KMS and of the catalog.
const DOCUMENT_MAGIC: &[u8] = b"COFRDOC\0";
/// Where a document's header has its kind: after magic and format version.
const DOCUMENT_KIND_OFFSET: usize = 10;
/// Longest store of the embedded KMS that is read.
const KMS_STORE_BYTES_MAX: u64 = 256 << 20;

/// What could be proven.
#[derive(Debug)]
pub(crate) enum Proof {
    /// All tags hold.
    Verified,
    /// The key is not at hand, for this reason.
    NoKey(String),
    /// Something does not hold.
    Tampered(String),
}

/// What is known of a file.
#[derive(Debug)]
pub(crate) struct Report {
    kind: &'static str,
    fields: Map<String, Value>,
    pub(crate) proof: Proof,
}

impl Report {
    fn new(kind: &'static str, fields: Value, proof: Proof) -> Self {
        let fields = match fields {
            Value::Object(fields) => fields,
            _ => Map::new(),
        };
        Self { kind, fields, proof }
    }

    /// What the file is.
    pub(crate) fn kind(&self) -> &'static str {
        self.kind
    }
}

/// Where keys are looked for.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) root_key_file: Option<PathBuf>,
    pub(crate) kms_root_key_file: Option<PathBuf>,
}

impl Place {
    /// As given, or the nearest directory above the file that holds a catalog.
    fn of(command: &Inspect) -> Self {
        let path = std::path::absolute(&command.file).unwrap_or_else(|_| command.file.clone());
        let above = || {
            let mut directories = path.ancestors().skip(1);
            directories.find(|directory| directory.join("catalog").is_dir()).map(Path::to_owned)
        };
        let data_dir = command.data_dir.clone().or_else(above);
        let in_directory = || data_dir.as_ref().map(|directory| directory.join("root.key"));
        let root_key_file = command.root_key_file.clone().or_else(in_directory);
        Self { root_key_file, data_dir, kms_root_key_file: None }
    }

    /// The service's root key; the text tells why it is not at hand.
    fn root_key(&self) -> std::result::Result<RootKey, String> {
        let file = self
            .root_key_file
            .as_ref()
            .ok_or("no data directory above the file: give --data-dir or --root-key-file")?;
        match load_root_key(file) {
            Ok(Some(key)) => Ok(key),
            Ok(None) => Err(format!("there is no root key {}", file.display())),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Runs the command.
///
/// # Errors
/// When the file cannot be read at all.
pub(crate) fn run(command: &Inspect, say: &mut dyn FnMut(&str)) -> Result<ExitCode> {
    let mut report = inspect(command)?;
    let (word, reason, code) = match &report.proof {
        Proof::Verified => ("verified", None, ExitCode::SUCCESS),
        Proof::NoKey(reason) => ("no key", Some(reason.clone()), ExitCode::from(EXIT_NO_KEY)),
        Proof::Tampered(what) => ("tampered", Some(what.clone()), ExitCode::from(EXIT_TAMPERED)),
    };
    let mut all = Map::new();
    all.insert("file".to_owned(), Value::from(command.file.display().to_string()));
    all.insert("kind".to_owned(), Value::from(report.kind));
    all.append(&mut report.fields);
    all.insert("result".to_owned(), Value::from(word));
    if let Some(reason) = reason {
        all.insert("reason".to_owned(), Value::from(reason));
    }
    if command.json {
        say(&format!("{:#}\n", Value::Object(all)));
    } else {
        for (name, value) in &all {
            let value = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
            say(&format!("{name}: {value}\n"));
        }
    }
    Ok(code)
}

fn inspect(command: &Inspect) -> Result<Report> {
    inspect_file(&command.file, &Place::of(command))
}

/// What one file is, and whether it is as it was written.
///
/// # Errors
/// When the file cannot be read at all.
pub(crate) fn inspect_file(path: &Path, place: &Place) -> Result<Report> {
    let failed = || CommandError::io(format!("read {}", path.display()));
    let mut start = Vec::new();
    let file = File::open(path).map_err(failed())?;
    file.take(START_BYTES).read_to_end(&mut start).map_err(failed())?;
    if is_segment(&start) {
        segment(path, place)
    } else if is_log(&start) {
        log(path, place)
    } else if is_tail(&start) {
        tail(path, place)
    } else if start.starts_with(DOCUMENT_MAGIC) {
        document(path, place, start.get(DOCUMENT_KIND_OFFSET).copied())
    } else if start.starts_with(journal::MAGIC) {
        journal::journal(path, place, start.get(DOCUMENT_KIND_OFFSET).copied())
    } else if start.starts_with(b"coffer-root-key") {
        Ok(match load_root_key(path) {
            Ok(Some(key)) => {
                let id = hex::encode(key.id());
                Report::new("root key", json!({ "id": id }), Proof::Verified)
            }
            Ok(None) => Report::new("root key", json!({}), Proof::NoKey("it went away".to_owned())),
            Err(error) => Report::new("root key", json!({}), Proof::Tampered(error.to_string())),
        })
    } else {
        let what = "not the beginning of any file of this version of coffer".to_owned();
        Ok(Report::new("unknown", json!({}), Proof::Tampered(what)))
    }
}

/// The proof that an error leaves; errors of the operating system end the command.
fn proof_of(error: Error) -> Result<Proof> {
    match error {
        Error::WrongKey { .. } | Error::KeyUnavailable(_) => Ok(Proof::NoKey(error.to_string())),
        Error::Io { .. } => Err(CommandError::Engine(error)),
        other => Ok(Proof::Tampered(other.to_string())),
    }
}

/// Whether a file has the name of another one of its kind: as long, and as hexadecimal, as its own.
fn is_renamed(path: &Path, own: &str) -> bool {
    let (Some(stem), Some(name)) = (path.file_stem(), path.file_name()) else {
        return false;
    };
    let (stem, own_stem) = (stem.to_string_lossy(), Path::new(own).file_stem());
    let is_number = stem.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_number && own_stem.is_some_and(|own| own.len() == stem.len()) && name != own
}

fn segment(path: &Path, place: &Place) -> Result<Report> {
    let structure = match inspect_segment(&OsVfs, path) {
        Ok(structure) => structure,
        Err(error) => return Ok(Report::new("segment", json!({}), proof_of(error)?)),
    };
    let mut fields = json!({
        "format_version": structure.format_version,
        "cluster": structure.cluster.to_string(),
        "table": structure.table.to_string(),
        "segment": structure.segment.to_string(),
        "wrapped_under_table_key": structure.table_key.to_string(),
        "bytes": structure.length,
        "sha256": hex::encode(structure.sha256),
    });
    let name = format!("{}.segment", structure.segment);
    let (proof, record) = if is_renamed(path, &name) {
        let what = format!("it says that it is {name}, under another name");
        (Proof::Tampered(what), None)
    } else {
        keys::verify_segment(path, place, &structure)?
    };
    if let (Some(fields), Some(record)) = (fields.as_object_mut(), record) {
        let description = keys::describe_record(&record);
        fields.extend(description);
    }
    Ok(Report::new("segment", fields, proof))
}

fn log(path: &Path, place: &Place) -> Result<Report> {
    let root = place.root_key();
    let (structure, proof) = match inspect_log(&OsVfs, path, root.as_ref().ok()) {
        Ok(structure) => (Some(structure), root.map_or_else(Proof::NoKey, |_| Proof::Verified)),
        Err(error) => {
            let proof = proof_of(error)?;
            (inspect_log(&OsVfs, path, None).ok(), proof)
        }
    };
    let Some(structure) = structure else {
        return Ok(Report::new("commit log", json!({}), proof));
    };
    let name = format!("{:016x}.log", structure.number);
    let proof = match proof {
        Proof::Verified if is_renamed(path, &name) => {
            Proof::Tampered(format!("it is {name} under another name"))
        }
        Proof::Verified => keys::verify_log(path, place, &structure)?,
        unproven => unproven,
    };
    let frames = structure.frames.map(|frames| {
        let tables = frames.tables.iter().map(|((table, key), groups)| {
            json!({
                "table": table.to_string(),
                "wrapped_under_table_key": key.to_string(),
                "groups": groups,
            })
        });
        json!({
            "first": frames.range.map(|(first, _)| first.0),
            "last": frames.range.map(|(_, last)| last.0),
            "ended": frames.ended,
            "catalog_version": frames.catalog_version,
            "tables": tables.collect::<Vec<_>>(),
        })
    });
    let fields = json!({
        "cluster": structure.cluster.to_string(),
        "number": structure.number,
        "bytes": structure.length,
        "frames": frames,
    });
    Ok(Report::new("commit log", fields, proof))
}

fn tail(path: &Path, place: &Place) -> Result<Report> {
    let structure = match inspect_tail(&OsVfs, path) {
        Ok(structure) => structure,
        Err(error) => return Ok(Report::new("log tail", json!({}), proof_of(error)?)),
    };
    let groups = structure.groups.iter().map(
        |(key, groups)| json!({ "wrapped_under_table_key": key.to_string(), "groups": groups }),
    );
    let fields = json!({
        "table": structure.table.to_string(),
        "groups": groups.collect::<Vec<_>>(),
    });
    Ok(Report::new("log tail", fields, keys::verify_tail(path, place)?))
}

fn document(path: &Path, place: &Place, kind: Option<u8>) -> Result<Report> {
    if kind == Some(DocumentKind::KmsStore as u8) {
        return kms_store(path, place);
    }
    if kind != Some(DocumentKind::Catalog as u8) {
        let what = "kind of sealed document".to_owned();
        return Ok(Report::new("sealed document", json!({}), Proof::Tampered(what)));
    }
    let root = match place.root_key() {
        Ok(root) => root,
        Err(reason) => return Ok(Report::new("catalog", json!({}), Proof::NoKey(reason))),
    };
    let structure = match inspect_catalog(&OsVfs, path, &root) {
        Ok(structure) => structure,
        Err(error) => return Ok(Report::new("catalog", json!({}), proof_of(error)?)),
    };
    let tables = structure.tables.iter().map(|(id, table)| {
        json!({
            "table": id.to_string(),
            "table_key": table.table_key.to_string(),
            "older_table_keys": table.older_keys,
            "segments": table.segments,
            "tails": table.tails,
        })
    });
    let fields = json!({
        "version": structure.version,
        "cluster": structure.cluster.to_string(),
        "wrapped_under_root_key": hex::encode(root.id()),
        "keyspaces": structure.keyspaces,
        "tables": tables.collect::<Vec<_>>(),
    });
    let name = format!("{:016x}.catalog", structure.version);
    let proof = if is_renamed(path, &name) {
        Proof::Tampered(format!("it is {name} under another name"))
    } else {
        Proof::Verified
    };
    Ok(Report::new("catalog", fields, proof))
}

/// The root key of the embedded KMS lies beside its store, above its audit log.
fn kms_root_key(path: &Path, place: &Place) -> std::result::Result<RootKey, String> {
    let above = path.parent().and_then(Path::parent).map(|parent| parent.join("root.key"));
    let beside = path.with_file_name("root.key");
    let is_audit = path.extension().is_some_and(|extension| extension == "audit");
    let near = above.filter(|_| is_audit).unwrap_or(beside);
    let file = match &place.data_dir {
        _ if place.kms_root_key_file.is_some() => {
            place.kms_root_key_file.clone().unwrap_or_default()
        }
        Some(data_dir) if !near.exists() => data_dir.join("kms").join("root.key"),
        _ => near,
    };
    match load_root_key(&file) {
        Ok(Some(root)) => Ok(root),
        Ok(None) => Err(format!("there is no root key {}", file.display())),
        Err(error) => Err(error.to_string()),
    }
}

fn kms_store(path: &Path, place: &Place) -> Result<Report> {
    const KIND: &str = "store of the embedded KMS";
    let root = match kms_root_key(path, place) {
        Ok(root) => root,
        Err(reason) => return Ok(Report::new(KIND, json!({}), Proof::NoKey(reason))),
    };
    let failed = || CommandError::io(format!("read {}", path.display()));
    let mut bytes = Vec::new();
    let opened = File::open(path).map_err(failed())?;
    opened.take(KMS_STORE_BYTES_MAX).read_to_end(&mut bytes).map_err(failed())?;
    Ok(match SealedDocument::open(&root, DocumentKind::KmsStore, &bytes) {
        Ok(document) => {
            let root = hex::encode(root.id());
            let fields = json!({ "version": document.version, "wrapped_under_root_key": root });
            Report::new(KIND, fields, Proof::Verified)
        }
        Err(error @ coffer_crypto::Error::WrongKey) => {
            Report::new(KIND, json!({}), Proof::NoKey(error.to_string()))
        }
        Err(error) => Report::new(KIND, json!({}), Proof::Tampered(error.to_string())),
    })
}
