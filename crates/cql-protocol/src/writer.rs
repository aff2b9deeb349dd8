//! Appends the protocol's notations to an output buffer.

use std::net::{IpAddr, SocketAddr};

use bytes::{BufMut, BytesMut};
use cql_types::BoundValue;
use uuid::Uuid;

use crate::consistency::Consistency;

/// A thin layer over the output buffer. Strings longer than their length field can say are cut at
/// a character boundary: only texts that Coffer itself makes pass through here, and an error
/// message that long is better cut than lost.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut BytesMut,
}

impl<'a> Writer<'a> {
    /// Appends to `out`.
    #[must_use]
    pub fn new(out: &'a mut BytesMut) -> Self {
        Self { out }
    }

    /// Raw bytes.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.out.put_slice(bytes);
    }

    /// One byte.
    pub fn byte(&mut self, value: u8) {
        self.out.put_u8(value);
    }

    /// `[short]`.
    pub fn short(&mut self, value: u16) {
        self.out.put_u16(value);
    }

    /// `[int]`.
    pub fn int(&mut self, value: i32) {
        self.out.put_i32(value);
    }

    /// `[int]` that counts or measures; what does not fit (never, under the frame limit) becomes
    /// the largest one.
    pub fn length(&mut self, value: usize) {
        self.int(i32::try_from(value).unwrap_or(i32::MAX));
    }

    /// `[short]` that counts.
    pub fn short_length(&mut self, value: usize) {
        self.short(u16::try_from(value).unwrap_or(u16::MAX));
    }

    /// `[long]`.
    pub fn long(&mut self, value: i64) {
        self.out.put_i64(value);
    }

    /// `[uuid]`.
    pub fn uuid(&mut self, value: Uuid) {
        self.raw(value.as_bytes());
    }

    /// `[string]`.
    pub fn string(&mut self, text: &str) {
        let text = match u16::try_from(text.len()) {
            Ok(_) => text,
            Err(_) => text.get(..text.floor_char_boundary(usize::from(u16::MAX))).unwrap_or(""),
        };
        self.short_length(text.len());
        self.raw(text.as_bytes());
    }

    /// `[long string]`.
    pub fn long_string(&mut self, text: &str) {
        self.length(text.len());
        self.raw(text.as_bytes());
    }

    /// `[short bytes]`.
    pub fn short_bytes(&mut self, bytes: &[u8]) {
        self.short_length(bytes.len());
        self.raw(bytes);
    }

    /// `[bytes]`, null as -1.
    pub fn bytes(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => {
                self.length(bytes.len());
                self.raw(bytes);
            }
            None => self.int(-1),
        }
    }

    /// `[value]`.
    pub fn value(&mut self, value: &BoundValue) {
        match value {
            BoundValue::Null => self.int(-1),
            BoundValue::Unset => self.int(-2),
            BoundValue::Value(bytes) => self.bytes(Some(bytes)),
        }
    }

    /// `[consistency]`.
    pub fn consistency(&mut self, consistency: Consistency) {
        self.short(consistency.code());
    }

    /// `[string list]`.
    pub fn string_list<S: AsRef<str>>(&mut self, list: &[S]) {
        self.short_length(list.len());
        for text in list {
            self.string(text.as_ref());
        }
    }

    /// `[string map]`.
    pub fn string_map<'t>(&mut self, map: impl ExactSizeIterator<Item = (&'t str, &'t str)>) {
        self.short_length(map.len());
        for (key, value) in map {
            self.string(key);
            self.string(value);
        }
    }

    /// `[inet]`.
    pub fn inet(&mut self, address: SocketAddr) {
        match address.ip() {
            IpAddr::V4(ip) => {
                self.byte(4);
                self.raw(&ip.octets());
            }
            IpAddr::V6(ip) => {
                self.byte(16);
                self.raw(&ip.octets());
            }
        }
        self.int(i32::from(address.port()));
    }
}
