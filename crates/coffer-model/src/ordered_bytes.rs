//! placeholder
use crate::Error;
use bytes::Bytes;
use cql_types::CqlType;
/// Appends.
pub fn encode(
    _ty: &CqlType,
    _reversed: bool,
    _value: &[u8],
    _out: &mut Vec<u8>,
) -> Result<(), Error> {
    todo!()
}
/// Decodes.
pub fn decode(_ty: &CqlType, _reversed: bool, _input: &mut &[u8]) -> Result<Bytes, Error> {
    todo!()
}
