//! Frames byte by byte, written down from the specification.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

use bytes::{Bytes, BytesMut};
use cql_protocol::{
    BoundValue, ChangeKind, ChangeTarget, ColumnSpec, Compression, Consistency, Cut,
    EncodedColumns, Envelope, ErrorBody, ErrorDetail, Event, Execute, Frame, FrameCodec,
    FrameFlags, Prepared, ProtocolError, Query, QueryParameters, Received, ReceivedBody, Request,
    Response, Rows, RowsMetadata, SchemaChange, Startup, Text, Values, encode_request,
    encode_response,
};
use cql_types::CqlType;
use uuid::Uuid;

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|letter| !letter.is_whitespace())
        .map(|letter| u8::try_from(letter.to_digit(16).unwrap()).unwrap())
        .collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn frame(bytes: &[u8]) -> Frame {
    match FrameCodec::new(1 << 20).cut(&mut BytesMut::from(bytes)) {
        Cut::Frame(frame) => frame,
        other => panic!("{other:?}"),
    }
}

fn decode(bytes: &[u8]) -> Result<Request, ProtocolError> {
    let frame = frame(bytes);
    Request::decode(frame.header.opcode, frame.header.flags, frame.body)
}

fn encode(response: &Response<'_>) -> Vec<u8> {
    let mut out = BytesMut::new();
    encode_response(&mut out, &Envelope { stream: 7, ..Envelope::default() }, response);
    out.to_vec()
}

#[test]
fn startup_is_the_specified_bytes() {
    let bytes = unhex("04 00 0001 01 00000016 0001 000b 43514c5f56455253494f4e 0005 332e302e30");
    let options = vec![(Text::from("CQL_VERSION"), Text::from("3.0.0"))];
    let request = Request::Startup(Startup { options });
    assert_eq!(decode(&bytes).unwrap(), request);
    let mut out = BytesMut::new();
    encode_request(&mut out, 1, FrameFlags::default(), None, &request);
    assert_eq!(out.to_vec(), bytes);
}

#[test]
fn query_with_every_flag_is_the_specified_bytes() {
    // SELECT 1, QUORUM, all flags: named value, page size, paging state, LOCAL_SERIAL, timestamp
    let bytes = unhex(
        "04 02 ffff 07 00000037 00000008 53454c4543542031 0004 7f \
         0001 0001 61 00000001 2a 00001388 00000002 beef 0009 0000000000000064",
    );
    let length = u8::try_from(bytes.len() - 9).unwrap();
    let mut bytes = bytes;
    bytes[8] = length;
    let request = Request::Query(Query {
        statement: Text::from("SELECT 1"),
        parameters: QueryParameters {
            consistency: Consistency::Quorum,
            values: Values::Named(vec![(
                Text::from("a"),
                BoundValue::Value(Bytes::from_static(b"\x2a")),
            )]),
            skip_metadata: true,
            page_size: Some(5000),
            paging_state: Some(Bytes::from_static(b"\xbe\xef")),
            serial_consistency: Some(Consistency::LocalSerial),
            default_timestamp: Some(100),
        },
    });
    assert_eq!(decode(&bytes).unwrap(), request);
    let mut out = BytesMut::new();
    encode_request(&mut out, -1, FrameFlags(FrameFlags::TRACING), None, &request);
    assert_eq!(out.to_vec(), bytes);
}

#[test]
fn execute_tells_null_from_unset() {
    let bytes = unhex("04 00 0002 0a 00000015 0002 abcd 0001 01 0003 ffffffff fffffffe 00000000");
    let Request::Execute(Execute { id, parameters }) = decode(&bytes).unwrap() else { panic!() };
    assert_eq!(&id[..], b"\xab\xcd");
    let expected = [BoundValue::Null, BoundValue::Unset, BoundValue::Value(Bytes::new())];
    assert_eq!(parameters.values, Values::Positional(expected.to_vec()));
    let mut below = bytes;
    below[25] = 0xfd;
    assert_eq!(decode(&below), Err(ProtocolError::InvalidLength(-3)));
}

#[test]
fn batch_reads_text_and_prepared_statements() {
    let bytes = unhex(
        "04 00 0003 0d 0000001f 01 0002 00 00000003 55 50 44 0000 01 0002 aabb 0001 00000001 07 \
         0001 20 00000000000000ff",
    );
    let mut bytes = bytes;
    bytes[8] = u8::try_from(bytes.len() - 9).unwrap();
    let request = decode(&bytes).unwrap();
    let Request::Batch(batch) = &request else { panic!() };
    assert_eq!((batch.statements.len(), batch.default_timestamp), (2, Some(255)));
    let mut out = BytesMut::new();
    encode_request(&mut out, 3, FrameFlags::default(), None, &request);
    assert_eq!(out.to_vec(), bytes);
    // names cannot work in a batch
    let flags = bytes.len() - 9;
    bytes[flags] = 0x40;
    assert!(matches!(decode(&bytes), Err(ProtocolError::UnknownFlags { flags: 0x40, .. })));
}

#[test]
fn unknown_flags_codes_and_trailing_bytes_are_errors() {
    let query = |flags: &str| unhex(&format!("04000000 07 00000008 00000001 53 0001 {flags}"));
    assert!(decode(&query("00")).is_ok());
    assert!(matches!(decode(&query("80")), Err(ProtocolError::UnknownFlags { flags: 0x80, .. })));
    assert!(matches!(decode(&query("40")), Err(ProtocolError::UnknownFlags { flags: 0x40, .. })));
    let consistency = unhex("04000000 07 00000008 00000001 53 000b 00");
    assert!(matches!(decode(&consistency), Err(ProtocolError::UnknownCode { code: 11, .. })));
    assert_eq!(decode(&unhex("04000000 05 00000001 00")), Err(ProtocolError::TrailingBytes(1)));
    assert_eq!(decode(&unhex("04000000 04 00000000")), Err(ProtocolError::UnknownOpcode(4)));
    assert_eq!(decode(&unhex("04000000 08 00000000")), Err(ProtocolError::WrongDirection(8)));
}

#[test]
fn custom_payload_is_read_and_dropped() {
    let bytes = unhex("04 04 0000 05 0000000a 0001 0001 61 00000001 62");
    assert_eq!(decode(&bytes).unwrap(), Request::Options);
}

fn columns() -> EncodedColumns {
    let spec = |name, ty| ColumnSpec { keyspace: "k", table: "t", name, ty };
    EncodedColumns::new([spec("a", &CqlType::Int), spec("b", &CqlType::Text)].into_iter())
}

#[test]
fn rows_tell_the_table_once_and_the_paging_state_before_the_columns() {
    let columns = columns();
    let content = unhex("00000004 00000001 ffffffff");
    let rows = Response::Rows(Rows {
        metadata: RowsMetadata::Columns(&columns),
        paging_state: Some(b"\x09"),
        count: 1,
        content: &content,
    });
    let expected = unhex(
        "84 00 0007 08 00000031 00000002 00000003 00000002 00000001 09 0001 6b 0001 74 \
         0001 61 0009 0001 62 000d 00000001 00000004 00000001 ffffffff",
    );
    let mut expected = expected;
    expected[8] = u8::try_from(expected.len() - 9).unwrap();
    assert_eq!(encode(&rows), expected);

    let skipped = Response::Rows(Rows {
        metadata: RowsMetadata::Skipped { columns: 2 },
        paging_state: None,
        count: 1,
        content: &content,
    });
    let expected = unhex(
        "84 00 0007 08 0000001c 00000002 00000004 00000002 00000001 00000004 00000001 ffffffff",
    );
    assert_eq!(encode(&skipped), expected);
}

#[test]
fn prepared_tells_the_partition_key_indexes_of_version_4() {
    let columns = columns();
    let prepared = Response::Prepared(Prepared {
        id: b"\x01\x02",
        bind: &columns,
        partition_key_indexes: &[1, 0],
        result: None,
    });
    let mut expected = unhex(
        "84 00 0007 08 00000000 00000004 0002 0102 00000001 00000002 00000002 0001 0000 \
         0001 6b 0001 74 0001 61 0009 0001 62 000d 00000004 00000000",
    );
    expected[8] = u8::try_from(expected.len() - 9).unwrap();
    assert_eq!(encode(&prepared), expected);
}

#[test]
fn error_carries_the_fields_of_its_code() {
    let body = ErrorBody::new(
        ErrorDetail::ReadFailure {
            consistency: Consistency::One,
            received: 0,
            block_for: 1,
            failures: 1,
            data_present: false,
        },
        "no",
    );
    let expected =
        unhex("84 00 0007 00 00000017 00001300 0002 6e6f 0001 00000000 00000001 00000001 00");
    assert_eq!(encode(&Response::Error(&body)), expected);
}

#[test]
fn what_surrounds_a_response_comes_in_order() {
    let envelope = Envelope {
        stream: -1,
        tracing_id: Some(Uuid::from_u128(5)),
        warnings: &["w".to_owned()],
        custom_payload: &[("p".to_owned(), None)],
        compression: None,
    };
    let change = SchemaChange {
        kind: ChangeKind::Created,
        keyspace: "k".to_owned(),
        target: ChangeTarget::Table("t".to_owned()),
    };
    let event = Event::SchemaChange(change);
    let mut out = BytesMut::new();
    encode_response(&mut out, &envelope, &Response::Event(&event));
    let mut expected = unhex(
        "84 0e ffff 0c 00000000 00000000000000000000000000000005 0001 0001 77 0001 0001 70 ffffffff \
         000d 534348454d415f4348414e4745 0007 43524541544544 0005 5441424c45 0001 6b 0001 74",
    );
    expected[8] = u8::try_from(expected.len() - 9).unwrap();
    assert_eq!(out.to_vec(), expected);
    let received = Received::decode(&frame(&out), None, 1 << 20).unwrap();
    assert_eq!(received.body, ReceivedBody::Event(event));
    assert_eq!(received.warnings, ["w"]);
}

#[test]
fn compressed_bodies_come_back_and_bombs_do_not() {
    let content: Vec<u8> = (0..4000_u32).flat_map(|number| (number / 9).to_be_bytes()).collect();
    for compression in [Compression::Lz4, Compression::Snappy] {
        let error = ErrorBody::new(ErrorDetail::Invalid, "x".repeat(5000));
        let mut out = BytesMut::new();
        let envelope = Envelope { compression: Some(compression), ..Envelope::default() };
        encode_response(&mut out, &envelope, &Response::Error(&error));
        let frame = frame(&out);
        assert!(frame.header.flags.has(FrameFlags::COMPRESSED) && frame.body.len() < 1000);
        let received = Received::decode(&frame, Some(compression), 1 << 20).unwrap();
        assert_eq!(received.body, ReceivedBody::Error(error));

        let mut packed = BytesMut::new();
        assert!(compression.compress(&content, &mut packed));
        let packed = packed.freeze();
        assert_eq!(compression.decompress(&packed, 16_000).unwrap(), content);
        assert!(matches!(
            compression.decompress(&packed, 15_999),
            Err(ProtocolError::TooLarge { length: 16_000, maximum: 15_999 })
        ));
        for length in 0..packed.len() {
            assert!(compression.decompress(&packed.slice(..length), 16_000).is_err());
        }
    }
    // announces more than any block of this length can hold
    let bomb = Bytes::from_static(b"\x00\x10\x00\x00\x10");
    assert_eq!(Compression::Lz4.decompress(&bomb, 1 << 24), Err(ProtocolError::BadCompression));
}

#[test]
fn codec_takes_a_frame_at_the_limit_and_skips_one_past_it() {
    let mut codec = FrameCodec::new(4);
    let mut buffer = BytesMut::new();
    buffer.extend_from_slice(&unhex("04 00 0001 05 00000004 01020304 04 00 0002 05 00000005 0102"));
    assert!(matches!(codec.cut(&mut buffer), Cut::Frame(frame) if frame.body.len() == 4));
    assert!(matches!(codec.cut(&mut buffer), Cut::TooLarge(header) if header.stream == 2));
    assert!(matches!(codec.cut(&mut buffer), Cut::Incomplete(None)));
    // the rest of the skipped body, then a good frame
    buffer.extend_from_slice(&unhex("030405 04 00 0003 05 00000000"));
    assert!(matches!(codec.cut(&mut buffer), Cut::Frame(frame) if frame.header.stream == 3));
    buffer.extend_from_slice(&unhex("02"));
    assert!(matches!(codec.cut(&mut buffer), Cut::OldVersion(2)));
}
