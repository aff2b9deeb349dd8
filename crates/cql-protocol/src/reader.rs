//! Reads the protocol's notations from a body; every method fails instead of panicking.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use cql_types::BoundValue;
use uuid::Uuid;

use crate::consistency::Consistency;
use crate::error::{ProtocolError, Result};
use crate::text::Text;

/// A position in a body. Strings and values are slices of the body, not copies.
#[derive(Debug)]
pub struct Reader {
    rest: Bytes,
}

impl Reader {
    /// Reads from the start of `body`.
    #[must_use]
    pub fn new(body: Bytes) -> Self {
        Self { rest: body }
    }

    /// Bytes not read yet.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The next `length` bytes.
    ///
    /// # Errors
    /// [`ProtocolError::Truncated`] when fewer are left.
    pub fn take(&mut self, length: usize) -> Result<Bytes> {
        if length > self.rest.len() {
            return Err(ProtocolError::Truncated { needed: length, left: self.rest.len() });
        }
        Ok(self.rest.split_to(length))
    }

    /// The next `N` bytes as an array.
    ///
    /// # Errors
    /// [`ProtocolError::Truncated`] when fewer are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let Some(array) = self.rest.first_chunk::<N>().copied() else {
            return Err(ProtocolError::Truncated { needed: N, left: self.rest.len() });
        };
        bytes::Buf::advance(&mut self.rest, N);
        Ok(array)
    }

    /// One byte.
    ///
    /// # Errors
    /// [`ProtocolError::Truncated`].
    pub fn byte(&mut self) -> Result<u8> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    /// `[short]`.
    ///
    /// # Errors
    /// [`ProtocolError::Truncated`].
    pub fn short(&mut self) -> Result<u16> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    /// `[int]`.
    ///
    /// # Errors
    /// [`ProtocolError::Truncated`].
    pub fn int(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    /// `[long]`.
    ///
    /// # Errors
    /// [`ProtocolError::Truncated`].
    pub fn long(&mut self) -> Result<i64> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    /// `[uuid]`.
    ///
    /// # Errors
    /// [`ProtocolError::Truncated`].
    pub fn uuid(&mut self) -> Result<Uuid> {
        Ok(Uuid::from_bytes(self.array()?))
    }

    /// `[int]` that counts things of at least `least_bytes` each: refused when the rest of the
    /// body cannot hold that many, so that a count never sizes an allocation by itself.
    ///
    /// # Errors
    /// [`ProtocolError::InvalidLength`].
    pub fn count(&mut self, least_bytes: usize) -> Result<usize> {
        let count = self.int()?;
        let invalid = ProtocolError::InvalidLength(i64::from(count));
        let count = usize::try_from(count).map_err(|_| invalid.clone())?;
        self.check_count(count, least_bytes, invalid)
    }

    /// As [`Reader::count`], for `[short]`.
    ///
    /// # Errors
    /// [`ProtocolError::InvalidLength`].
    pub fn short_count(&mut self, least_bytes: usize) -> Result<usize> {
        let count = self.short()?;
        let invalid = ProtocolError::InvalidLength(i64::from(count));
        self.check_count(usize::from(count), least_bytes, invalid)
    }

    fn check_count(
        &self,
        count: usize,
        least_bytes: usize,
        invalid: ProtocolError,
    ) -> Result<usize> {
        match count.checked_mul(least_bytes) {
            Some(bytes) if bytes <= self.rest.len() => Ok(count),
            _ => Err(invalid),
        }
    }

    /// `[string]`.
    ///
    /// # Errors
    /// [`ProtocolError::Truncated`], [`ProtocolError::InvalidUtf8`].
    pub fn string(&mut self) -> Result<Text> {
        let length = usize::from(self.short()?);
        Text::new(self.take(length)?)
    }

    /// `[long string]`.
    ///
    /// # Errors
    /// [`ProtocolError::Truncated`], [`ProtocolError::InvalidLength`],
    /// [`ProtocolError::InvalidUtf8`].
    pub fn long_string(&mut self) -> Result<Text> {
        let length = self.int()?;
        let length =
            usize::try_from(length).map_err(|_| ProtocolError::InvalidLength(i64::from(length)))?;
        Text::new(self.take(length)?)
    }

    /// `[short bytes]`.
    ///
    /// # Errors
    /// [`ProtocolError::Truncated`].
    pub fn short_bytes(&mut self) -> Result<Bytes> {
        let length = usize::from(self.short()?);
        self.take(length)
    }

    /// `[bytes]`: `None` for any negative length.
    ///
    /// # Errors
    /// [`ProtocolError::Truncated`].
    pub fn bytes(&mut self) -> Result<Option<Bytes>> {
        match usize::try_from(self.int()?) {
            Ok(length) => Ok(Some(self.take(length)?)),
            Err(_) => Ok(None),
        }
    }

    /// `[value]`: length -1 is null, -2 is unset.
    ///
    /// # Errors
    /// [`ProtocolError::Truncated`]; [`ProtocolError::InvalidLength`] below -2.
    pub fn value(&mut self) -> Result<BoundValue> {
        match self.int()? {
            -1 => Ok(BoundValue::Null),
            -2 => Ok(BoundValue::Unset),
            length => {
                let length = usize::try_from(length)
                    .map_err(|_| ProtocolError::InvalidLength(i64::from(length)))?;
                Ok(BoundValue::Value(self.take(length)?))
            }
        }
    }

    /// `[consistency]`.
    ///
    /// # Errors
    /// [`ProtocolError::Truncated`], [`ProtocolError::UnknownCode`].
    pub fn consistency(&mut self) -> Result<Consistency> {
        Consistency::from_code(self.short()?)
    }

    /// `[string list]`.
    ///
    /// # Errors
    /// As [`Reader::string`].
    pub fn string_list(&mut self) -> Result<Vec<Text>> {
        let count = self.short_count(2)?;
        (0..count).map(|_| self.string()).collect()
    }

    /// `[string map]`.
    ///
    /// # Errors
    /// As [`Reader::string`].
    pub fn string_map(&mut self) -> Result<Vec<(Text, Text)>> {
        let count = self.short_count(4)?;
        (0..count).map(|_| Ok((self.string()?, self.string()?))).collect()
    }

    /// `[string multimap]`.
    ///
    /// # Errors
    /// As [`Reader::string`].
    pub fn string_multimap(&mut self) -> Result<Vec<(Text, Vec<Text>)>> {
        let count = self.short_count(4)?;
        (0..count).map(|_| Ok((self.string()?, self.string_list()?))).collect()
    }

    /// `[bytes map]`.
    ///
    /// # Errors
    /// As [`Reader::string`] and [`Reader::bytes`].
    pub fn bytes_map(&mut self) -> Result<Vec<(Text, Option<Bytes>)>> {
        let count = self.short_count(6)?;
        (0..count).map(|_| Ok((self.string()?, self.bytes()?))).collect()
    }

    /// `[inet]`: address length, address, port.
    ///
    /// # Errors
    /// [`ProtocolError::InvalidLength`] for lengths other than 4 and 16.
    pub fn inet(&mut self) -> Result<SocketAddr> {
        let address = match self.byte()? {
            4 => IpAddr::from(self.array::<4>()?),
            16 => IpAddr::from(self.array::<16>()?),
            length => return Err(ProtocolError::InvalidLength(i64::from(length))),
        };
        let port = self.int()?;
        let port =
            u16::try_from(port).map_err(|_| ProtocolError::InvalidLength(i64::from(port)))?;
        Ok(SocketAddr::new(address, port))
    }

    /// Ends reading.
    ///
    /// # Errors
    /// [`ProtocolError::TrailingBytes`] when something is left.
    pub fn finish(self) -> Result<()> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(ProtocolError::TrailingBytes(self.rest.len()))
        }
    }
}
