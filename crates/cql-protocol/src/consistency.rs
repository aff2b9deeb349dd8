//! Consistency levels (section 3 of the specification).

use std::fmt;

use crate::error::{ProtocolError, Result};

/// How many replicas must answer. One node answers every level the same way; what matters is that
/// each level is known, carried into error bodies, and that the serial ones are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
#[expect(missing_docs, reason = "the specification's own names")]
pub enum Consistency {
    Any = 0x0000,
    One = 0x0001,
    Two = 0x0002,
    Three = 0x0003,
    Quorum = 0x0004,
    All = 0x0005,
    LocalQuorum = 0x0006,
    EachQuorum = 0x0007,
    Serial = 0x0008,
    LocalSerial = 0x0009,
    LocalOne = 0x000A,
}

impl Consistency {
    const LEVELS: [Self; 11] = [
        Self::Any,
        Self::One,
        Self::Two,
        Self::Three,
        Self::Quorum,
        Self::All,
        Self::LocalQuorum,
        Self::EachQuorum,
        Self::Serial,
        Self::LocalSerial,
        Self::LocalOne,
    ];

    /// The level with this code.
    ///
    /// # Errors
    /// [`ProtocolError::UnknownCode`].
    pub fn from_code(code: u16) -> Result<Self> {
        Self::LEVELS
            .get(usize::from(code))
            .copied()
            .ok_or(ProtocolError::UnknownCode { what: "consistency level", code: i64::from(code) })
    }

    /// Its code on the wire.
    #[must_use]
    pub fn code(self) -> u16 {
        self as u16
    }

    /// SERIAL or LOCAL_SERIAL.
    #[must_use]
    pub fn is_serial(self) -> bool {
        matches!(self, Self::Serial | Self::LocalSerial)
    }
}

impl fmt::Display for Consistency {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Any => "ANY",
            Self::One => "ONE",
            Self::Two => "TWO",
            Self::Three => "THREE",
            Self::Quorum => "QUORUM",
            Self::All => "ALL",
            Self::LocalQuorum => "LOCAL_QUORUM",
            Self::EachQuorum => "EACH_QUORUM",
            Self::Serial => "SERIAL",
            Self::LocalSerial => "LOCAL_SERIAL",
            Self::LocalOne => "LOCAL_ONE",
        })
    }
}
