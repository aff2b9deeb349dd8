//! Replacing a file so that a crash leaves the old or the new one.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

/// Puts the file `from` in the place of `to` in the same directory; durable when this returns.
#[expect(clippy::disallowed_methods, reason = "the one place of this crate that replaces a file")]
pub(crate) fn replace(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    match to.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent),
        _ => sync_dir(Path::new(".")),
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
