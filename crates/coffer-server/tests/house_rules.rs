//! The rules of the house that no lint knows: crate arrows, one home for each dependency, names, sizes,
//! documents that point at what exists.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Which of our crates each of our crates may use. Everything not listed is forbidden.
const ARROWS: &[(&str, &[&str])] = &[
    ("cql-types", &[]),
    ("cql-parser", &[]),
    ("coffer-crypto", &[]),
    ("cql-protocol", &["cql-types"]),
    ("coffer-model", &["cql-types"]),
    ("coffer-storage", &["coffer-model", "coffer-crypto"]),
    ("coffer-kms", &["coffer-crypto"]),
    ("coffer-keys", &["coffer-crypto", "coffer-kms"]),
    ("coffer-kms-aws", &["coffer-keys"]),
    ("coffer-health", &[]),
    ("coffer-notify", &[]),
    ("coffer-backup", &["coffer-model", "coffer-crypto", "coffer-storage"]),
    (
        "coffer-query",
        &[
            "cql-parser",
            "cql-types",
            "coffer-model",
            "coffer-storage",
            "coffer-keys",
            "coffer-crypto",
            "coffer-health",
        ],
    ),
    (
        "coffer-server",
        &[
            "cql-protocol",
            "cql-types",
            "coffer-model",
            "coffer-crypto",
            "coffer-storage",
            "coffer-keys",
            "coffer-kms",
            "coffer-kms-aws",
            "coffer-query",
            "coffer-health",
            "coffer-notify",
            "coffer-backup",
        ],
    ),
    ("cql-tests", &["cql-protocol", "cql-types"]),
    // `bench/src/bin/engine` measures the engine without a server
    ("coffer-bench", &["coffer-crypto", "coffer-model", "coffer-storage"]),
];

/// Third-party crates with one home (the packages outside `crates/` start the server and are exempt
/// where named).
const HOMES: &[(&str, &[&str])] = &[
    ("aes-gcm", &["coffer-crypto"]),
    ("ring", &["coffer-crypto"]),
    ("nom", &["cql-parser"]),
    ("memmap2", &["coffer-storage", "coffer-crypto"]),
    ("lz4_flex", &["coffer-storage", "cql-protocol"]),
    ("clap", &["coffer-server", "cql-tests", "coffer-bench"]),
    (
        "tokio",
        &[
            "coffer-kms",
            "coffer-keys",
            "coffer-kms-aws",
            "coffer-notify",
            "coffer-backup",
            "coffer-query", // turns of waiting key changes, nothing else
            "coffer-server",
            "cql-tests",
            "coffer-bench",
        ],
    ),
    ("aws-sdk-kms", &["coffer-kms-aws"]),
    ("aws-sdk-sts", &["coffer-kms-aws"]),
    ("aws-config", &["coffer-kms-aws"]),
    ("hyper", &["coffer-kms", "coffer-server"]),
    ("rustls", &["coffer-server"]),
    ("prometheus-client", &["coffer-server"]),
    ("lettre", &["coffer-notify"]),
    ("reqwest", &["coffer-notify", "coffer-backup"]), // the latter for the TLS of object_store
    ("object_store", &["coffer-backup"]),
    ("scylla", &["cql-tests", "coffer-bench"]),
];

const LINES_PER_FILE_MAX: usize = 600;
const BANNED_MODULES: &[&str] = &["utils", "util", "common", "misc", "helpers", "helper"];
const BANNED_ENDINGS: &[&str] = &["Manager", "Handler", "Helper", "Processor", "Impl"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Direct dependencies (not for tests) of every package of the workspace.
fn dependencies() -> Result<BTreeMap<String, BTreeSet<String>>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root())
        .output()?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let packages =
        metadata.get("packages").and_then(|list| list.as_array()).ok_or("no packages")?;
    Ok(packages
        .iter()
        .map(|package| {
            let direct = package["dependencies"].as_array().cloned().unwrap_or_default();
            let used = direct.iter().filter(|dependency| dependency["kind"] != "dev");
            (text(&package["name"]), used.map(|dependency| text(&dependency["name"])).collect())
        })
        .collect())
}

/// Every Rust source file below `crates/*/src`.
fn sources() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![root().join("crates")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.push(path);
            }
        }
    }
    found.retain(|path| path.components().any(|part| part.as_os_str() == "src"));
    assert!(found.len() > 50, "the sources were not found");
    Ok(found)
}

/// The part of a file before its inline tests.
fn production(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap_or_default()
}

#[test]
fn crates_depend_only_along_the_arrows() -> Result<()> {
    let dependencies = dependencies()?;
    assert_eq!(dependencies.len(), ARROWS.len(), "a crate without a place in the house");
    for (name, allowed) in ARROWS {
        for used in dependencies.get(*name).ok_or("no such crate")? {
            let is_ours = dependencies.contains_key(used);
            assert!(
                !is_ours || allowed.contains(&used.as_str()),
                "{name} may not depend on {used}"
            );
        }
    }
    Ok(())
}

#[test]
fn dependencies_stay_in_their_homes() -> Result<()> {
    for (name, used) in dependencies()? {
        for (dependency, homes) in HOMES {
            assert!(
                !used.contains(*dependency) || homes.contains(&name.as_str()),
                "{dependency} has its home in {homes:?}, not in {name}"
            );
        }
    }
    Ok(())
}

#[test]
fn every_module_says_what_it_owns() -> Result<()> {
    for path in sources()? {
        let text = fs::read_to_string(&path)?;
        assert!(text.starts_with("//!"), "{} does not start with //!", path.display());
    }
    Ok(())
}

#[test]
fn files_stay_small() -> Result<()> {
    let is_test = |path: &PathBuf| path.to_string_lossy().ends_with("tests.rs");
    for path in sources()?.iter().filter(|path| !is_test(path)) {
        let text = fs::read_to_string(path)?;
        let lines = production(&text).lines().count();
        assert!(lines <= LINES_PER_FILE_MAX, "{} has {lines} lines", path.display());
    }
    Ok(())
}

#[test]
fn nothing_is_left_unfinished() -> Result<()> {
    for path in sources()? {
        let text = fs::read_to_string(&path)?;
        for mark in ["TODO", "FIXME", "XXX", "todo!(", "unimplemented!("] {
            assert!(!text.contains(mark), "{} holds {mark}", path.display());
        }
    }
    Ok(())
}

#[test]
fn names_say_what_a_thing_owns() -> Result<()> {
    for path in sources()? {
        let module = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        assert!(!BANNED_MODULES.contains(&module), "{} is called after nothing", path.display());
        for line in production(&fs::read_to_string(&path)?).lines() {
            let line = line.trim_start();
            let rest = ["pub struct ", "struct ", "pub enum ", "enum ", "pub trait "]
                .iter()
                .find_map(|keyword| line.strip_prefix(keyword));
            let Some(rest) = rest else { continue };
            let name: String = rest.chars().take_while(|letter| letter.is_alphanumeric()).collect();
            assert!(
                !BANNED_ENDINGS.iter().any(|ending| name.ends_with(ending)),
                "{}: {name} is called after what it does, not what it owns",
                path.display()
            );
        }
    }
    Ok(())
}

#[test]
fn every_file_belongs_to_a_module() -> Result<()> {
    let sources = sources()?;
    for path in &sources {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let is_root = ["lib", "main"].contains(&stem);
        let (name, folder) = match (stem, path.parent()) {
            ("mod", Some(folder)) => (
                folder.file_name().and_then(|name| name.to_str()).unwrap_or_default(),
                folder.parent(),
            ),
            (stem, folder) => (stem, folder),
        };
        let folder = folder.ok_or("no folder")?;
        let parents = [
            folder.join("lib.rs"),
            folder.join("main.rs"),
            folder.join("mod.rs"),
            folder.with_extension("rs"),
        ];
        let declaration = format!("mod {name};");
        let is_named = parents
            .iter()
            .filter_map(|parent| fs::read_to_string(parent).ok())
            .any(|text| text.contains(&declaration));
        assert!(is_root || is_named, "no module names {}", path.display());
    }
    Ok(())
}

#[test]
fn documents_link_to_what_exists() -> Result<()> {
    let mut documents = vec![root().join("README.md")];
    let mut folders = vec![root().join("docs"), root().join("bench")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "md") {
                documents.push(path);
            }
        }
    }
    for document in documents {
        let text = fs::read_to_string(&document)?;
        let folder = document.parent().ok_or("no folder")?;
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            let is_local = !target.is_empty() && !target.contains("://");
            assert!(
                !is_local || folder.join(target).exists(),
                "{} links to {target}, which does not exist",
                document.display()
            );
        }
    }
    Ok(())
}
