//! Body compression agreed in STARTUP: lz4 (big-endian length, one block) and snappy (raw block).

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::{ProtocolError, Result};

/// A compression of frame bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// `lz4`.
    Lz4,
    /// `snappy`.
    Snappy,
}

impl Compression {
    /// The compression with this name in STARTUP, in any letter case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        if name.eq_ignore_ascii_case("lz4") {
            Some(Self::Lz4)
        } else if name.eq_ignore_ascii_case("snappy") {
            Some(Self::Snappy)
        } else {
            None
        }
    }

    /// Its name in STARTUP and SUPPORTED.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Lz4 => "lz4",
            Self::Snappy => "snappy",
        }
    }

    /// Appends `body` compressed to `out`. Answers false, with `out` unchanged, when the body
    /// cannot be compressed (longer than the format holds).
    pub fn compress(self, body: &[u8], out: &mut BytesMut) -> bool {
        let Ok(length) = u32::try_from(body.len()) else {
            return false;
        };
        match self {
            Self::Lz4 => {
                let block = lz4_flex::block::compress(body);
                out.put_u32(length);
                out.put_slice(&block);
                true
            }
            Self::Snappy => match snap::raw::Encoder::new().compress_vec(body) {
                Ok(block) => {
                    out.put_slice(&block);
                    true
                }
                Err(_) => false,
            },
        }
    }

    /// The body that was compressed, if it has at most `bytes_max` bytes; the announced length is
    /// checked against the limit, and against what the format can expand to, before memory is set
    /// aside.
    ///
    /// # Errors
    /// [`ProtocolError::TooLarge`], [`ProtocolError::BadCompression`],
    /// [`ProtocolError::Truncated`].
    pub fn decompress(self, body: &Bytes, bytes_max: u32) -> Result<Bytes> {
        match self {
            Self::Lz4 => {
                let Some((length, block)) = body.split_first_chunk::<4>() else {
                    return Err(ProtocolError::Truncated { needed: 4, left: body.len() });
                };
                let length = Self::checked_length(
                    u64::from(u32::from_be_bytes(*length)),
                    block.len(),
                    bytes_max,
                )?;
                if length == 0 {
                    return Ok(Bytes::new());
                }
                match lz4_flex::block::decompress(block, length) {
                    Ok(bytes) if bytes.len() == length => Ok(bytes.into()),
                    _ => Err(ProtocolError::BadCompression),
                }
            }
            Self::Snappy => {
                let length =
                    snap::raw::decompress_len(body).map_err(|_| ProtocolError::BadCompression)?;
                Self::checked_length(
                    u64::try_from(length).unwrap_or(u64::MAX),
                    body.len(),
                    bytes_max,
                )?;
                match snap::raw::Decoder::new().decompress_vec(body) {
                    Ok(bytes) => Ok(bytes.into()),
                    Err(_) => Err(ProtocolError::BadCompression),
                }
            }
        }
    }

    /// Neither format expands one byte into more than 255.
    fn checked_length(length: u64, block_bytes: usize, bytes_max: u32) -> Result<usize> {
        if length > u64::from(bytes_max) {
            return Err(ProtocolError::TooLarge { length, maximum: u64::from(bytes_max) });
        }
        let reach = u64::try_from(block_bytes).unwrap_or(u64::MAX).saturating_mul(255);
        if length > reach {
            return Err(ProtocolError::BadCompression);
        }
        usize::try_from(length).map_err(|_| ProtocolError::BadCompression)
    }
}
