//! Files that the catalog does not name: a crash left them, or they could not be unlinked.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use coffer_model::TableId;

use crate::catalog::{Catalog, archive_directory};
use crate::core::Core;
use crate::error::{Error, Result};
use crate::ids::SnapshotId;

impl Core {
    /// Unlinks what crashed writers left and what the catalog does not name.
    pub(crate) fn remove_orphans(&self) -> Result<()> {
        let catalog = self.catalog.current();
        for (part, named) in [
            ("tables", tables as fn(&Core, &Catalog, &str) -> Option<Named>),
            ("snapshots", snapshots),
            ("archive", archives),
        ] {
            let directory = self.directory.join(part);
            for name in self.names_in(&directory)? {
                let Some(named) = named(self, &catalog, &name) else { continue };
                self.remove_unnamed(&directory.join(&name), &named)?;
            }
        }
        Ok(())
    }

    fn remove_unnamed(&self, directory: &Path, named: &Named) -> Result<()> {
        let unnamed = self.names_in(directory)?.into_iter().map(|name| directory.join(name));
        for path in unnamed.filter(|path| !named.files.contains(path)) {
            self.remove_file(&path);
        }
        if named.is_gone
            && let Err(error) = self.vfs.remove_directory(directory)
        {
            tracing::warn!(directory = %directory.display(), %error, "a directory of no use stays until the next start");
        }
        Ok(())
    }

    /// Unlinks all files of a directory, and the directory. What cannot be unlinked now is at the next
    /// start.
    pub(crate) fn remove_all_in(&self, directory: &Path) {
        let unnamed = Named { files: HashSet::new(), is_gone: true };
        if let Err(error) = self.remove_unnamed(directory, &unnamed) {
            tracing::warn!(error = %error.chain(), "files of no use stay until the next start");
        }
    }

    fn names_in(&self, directory: &Path) -> Result<Vec<String>> {
        self.vfs.list(directory).map_err(|error| Error::io("list directory", directory, error))
    }
}

/// What the catalog names in one directory.
struct Named {
    files: HashSet<PathBuf>,
    /// The directory itself is not named.
    is_gone: bool,
}

impl Named {
    fn new(files: Option<HashSet<PathBuf>>) -> Self {
        Self { is_gone: files.is_none(), files: files.unwrap_or_default() }
    }
}

/// `None` for a name that is none of ours.
fn tables(core: &Core, catalog: &Catalog, name: &str) -> Option<Named> {
    let table = name.parse::<TableId>().ok()?;
    let directory = core.table_directory(table);
    let files = catalog.tables.get(&table).map(|entry| {
        let segments = entry.segments.iter().map(|segment| segment.path(&directory));
        segments.chain(entry.tails.iter().map(|tail| tail.path(&directory))).collect()
    });
    Some(Named::new(files))
}

fn snapshots(core: &Core, catalog: &Catalog, name: &str) -> Option<Named> {
    let id = name.parse::<SnapshotId>().ok()?;
    let files = catalog.snapshots.get(&id).map(|snapshot| {
        let directory = snapshot.directory(&core.directory);
        let segments = snapshot.segments.iter().map(|segment| segment.path(&directory));
        segments.chain(snapshot.tails.iter().map(|tail| tail.path(&directory))).collect()
    });
    Some(Named::new(files))
}

fn archives(core: &Core, catalog: &Catalog, name: &str) -> Option<Named> {
    let table = name.parse::<TableId>().ok()?;
    let directory = archive_directory(&core.directory, table);
    let files = catalog
        .archives
        .get(&table)
        .map(|archive| archive.log.iter().map(|log| log.tail.path(&directory)).collect());
    Some(Named::new(files))
}
