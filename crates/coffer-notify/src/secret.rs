//! Secrets of channels: each in a file that only its owner may read.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use zeroize::Zeroizing;

use crate::error::SetupError;

/// Longest secret.
const SECRET_BYTES_MAX: u64 = 4096;

/// Reads a secret; a line end after it is not part of it.
///
/// # Errors
/// When others than its owner may read the file, or it holds less than `least` bytes.
pub(crate) fn read_secret(
    what: &'static str,
    path: &Path,
    least: usize,
) -> Result<Zeroizing<Vec<u8>>, SetupError> {
    let failed = |problem: String| SetupError::File { what, path: path.to_owned(), problem };
    let mut file = File::open(path).map_err(|error| failed(error.to_string()))?;
    let metadata = file.metadata().map_err(|error| failed(error.to_string()))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(failed(format!("mode {mode:o} lets others read it: chmod 600 it")));
    }
    if !metadata.is_file() || metadata.len() > SECRET_BYTES_MAX {
        return Err(failed(format!("it is no file of at most {SECRET_BYTES_MAX} bytes")));
    }
    // of that size from the start, so that no copy is left behind when it grows
    let length = usize::try_from(metadata.len()).unwrap_or_default();
    let mut secret = Zeroizing::new(Vec::with_capacity(length.saturating_add(1)));
    file.by_ref()
        .take(SECRET_BYTES_MAX)
        .read_to_end(&mut secret)
        .map_err(|error| failed(error.to_string()))?;
    while secret.last().is_some_and(|byte| matches!(byte, b'\r' | b'\n')) {
        secret.pop();
    }
    if secret.len() < least {
        return Err(failed(format!("it holds less than {least} bytes")));
    }
    Ok(secret)
}

/// Longest certificate file.
const CERTIFICATE_BYTES_MAX: u64 = 1 << 20;

/// Reads a file of certificates.
///
/// # Errors
/// The operating system's; when it is too long.
pub(crate) fn read_certificates(path: &Path) -> Result<Vec<u8>, SetupError> {
    let what = "ca_file";
    let failed = |problem: String| SetupError::File { what, path: path.to_owned(), problem };
    let file = File::open(path).map_err(|error| failed(error.to_string()))?;
    let mut text = Vec::new();
    file.take(CERTIFICATE_BYTES_MAX)
        .read_to_end(&mut text)
        .map_err(|error| failed(error.to_string()))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        std::fs::write(&path, "0123456789abcdef\r\n").unwrap();
        let set = |mode| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        for mode in [0o640, 0o604, 0o666] {
            set(mode);
            let text = read_secret("secret_file", &path, 1).unwrap_err().to_string();
            assert!(text.contains("secret_file") && text.contains("chmod 600"), "{text}");
        }
        set(0o600);
        assert_eq!(&**read_secret("secret_file", &path, 16).unwrap(), b"0123456789abcdef");
        assert!(read_secret("secret_file", &path, 17).is_err());
        assert!(read_secret("secret_file", &directory.path().join("none"), 1).is_err());
    }
}
