//! How far a log goes: the place of a record in it, and what that record is.

use std::{fmt, str::FromStr};

/// A record of a log. As text `FILE/RECORDS/SHA256`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditPosition {
    /// Number of the file it stands in.
    pub file: u64,
    /// Records of that file up to it, itself included.
    pub records: u64,
    /// SHA-256 of the record.
    pub sha256: [u8; 32],
}

impl fmt::Display for AuditPosition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}/{}", self.file, self.records, hex::encode(self.sha256))
    }
}

/// The text is that of no position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no place in an audit log")]
pub struct NoPosition;

impl FromStr for AuditPosition {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<Self, NoPosition> {
        let parts: Vec<&str> = text.split('/').collect();
        let [file, records, digest] = parts.as_slice() else { return Err(NoPosition) };
        let mut sha256 = [0; 32];
        hex::decode_to_slice(digest, &mut sha256).map_err(|_| NoPosition)?;
        let number = |text: &str| text.parse().map_err(|_| NoPosition);
        Ok(Self { file: number(file)?, records: number(records)?, sha256 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_comes_back_from_its_text() {
        let position = AuditPosition { file: 3, records: 120, sha256: [7; 32] };
        assert_eq!(position.to_string().parse(), Ok(position));
        for text in ["", "3/120", "3/120/07", "a/120/07", "3/120/07/1"] {
            assert_eq!(text.parse::<AuditPosition>(), Err(NoPosition), "{text}");
        }
    }
}
