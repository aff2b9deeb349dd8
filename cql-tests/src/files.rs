//! Files of a data directory, changed and copied behind a server's back.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use crate::Result;

/// The path below `directory` as text.
#[must_use]
pub fn relative(directory: &Path, path: &Path) -> String {
    path.strip_prefix(directory).unwrap_or(path).to_string_lossy().into_owned()
}

/// All files below a folder, sorted.
///
/// # Errors
/// When a folder cannot be read.
pub fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            match entry.file_type()? {
                kind if kind.is_dir() => folders.push(entry.path()),
                kind if kind.is_file() => files.push(entry.path()),
                _ => {}
            }
        }
    }
    files.sort();
    Ok(files)
}

/// The files below a folder whose name ends so; none when there is no such folder.
///
/// # Errors
/// When a folder cannot be read.
pub fn files_that_end(folder: &Path, ending: &str) -> Result<Vec<PathBuf>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut files = files_below(folder)?;
    files.retain(|path| path.to_string_lossy().ends_with(ending));
    Ok(files)
}

/// Copies all files; a link becomes a file of its own.
///
/// # Errors
/// When a file cannot be copied.
pub fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    for path in files_below(from)? {
        let target = to.join(relative(from, &path));
        fs::create_dir_all(target.parent().ok_or("no parent")?)?;
        fs::copy(&path, &target)?;
    }
    Ok(())
}

/// Turns all bits of one byte, in place: links to the file see it too. Twice is as before.
///
/// # Errors
/// When the file has no such byte.
pub fn flip_byte(path: &Path, offset: u64) -> Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset)?;
    file.write_all_at(&byte.map(|byte| !byte), offset)?;
    Ok(())
}
