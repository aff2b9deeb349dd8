//! Whatever bytes come, decoding answers an error or a message, and never panics.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use bytes::{Bytes, BytesMut};
use cql_protocol::{
    AuthResponse, Batch, BatchKind, BatchStatement, BoundValue, Compression, Consistency, Cut,
    EventKind, Execute, Frame, FrameCodec, FrameFlags, FrameHeader, Prepare, Query,
    QueryParameters, Received, Register, Request, Startup, Statement, Text, Values, encode_request,
};

fn requests() -> Vec<Request> {
    let parameters = QueryParameters {
        values: Values::Positional(vec![
            BoundValue::Null,
            BoundValue::Unset,
            BoundValue::Value(Bytes::from_static(b"value")),
        ]),
        page_size: Some(10),
        paging_state: Some(Bytes::from_static(b"state")),
        serial_consistency: Some(Consistency::Serial),
        default_timestamp: Some(-5),
        ..QueryParameters::default()
    };
    let named = Values::Named(vec![(Text::from("n"), BoundValue::Value(Bytes::new()))]);
    let statement = |statement| BatchStatement { statement, values: parameters.values.clone() };
    vec![
        Request::Options,
        Request::Startup(Startup {
            options: vec![(Text::from("cql_version"), Text::from("4.0.0"))],
        }),
        Request::AuthResponse(AuthResponse { token: Some(Bytes::from_static(b"\0u\0p")) }),
        Request::Query(Query { statement: Text::from("SELECT"), parameters: parameters.clone() }),
        Request::Query(Query {
            statement: Text::from("SELECT"),
            parameters: QueryParameters { values: named, ..parameters.clone() },
        }),
        Request::Prepare(Prepare { statement: Text::from("INSERT") }),
        Request::Execute(Execute {
            id: Bytes::from_static(b"0123456789abcdef"),
            parameters: parameters.clone(),
        }),
        Request::Batch(Batch {
            kind: BatchKind::Unlogged,
            statements: vec![
                statement(Statement::Text(Text::from("UPDATE"))),
                statement(Statement::Prepared(Bytes::from_static(b"id"))),
            ],
            consistency: Consistency::LocalQuorum,
            serial_consistency: Some(Consistency::LocalSerial),
            default_timestamp: Some(1),
        }),
        Request::Register(Register {
            events: vec![EventKind::SchemaChange, EventKind::StatusChange],
        }),
    ]
}

fn cut(out: &BytesMut) -> Frame {
    match FrameCodec::new(1 << 20).cut(&mut out.clone()) {
        Cut::Frame(frame) => frame,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_request_comes_back_with_and_without_compression() {
    for request in requests() {
        for compression in [None, Some(Compression::Lz4), Some(Compression::Snappy)] {
            let mut out = BytesMut::new();
            encode_request(&mut out, 5, FrameFlags::default(), compression, &request);
            let frame = cut(&out);
            let body = match (frame.header.flags.has(FrameFlags::COMPRESSED), compression) {
                (true, Some(compression)) => compression.decompress(&frame.body, 1 << 20).unwrap(),
                _ => frame.body,
            };
            let flags = frame.header.flags;
            assert_eq!(Request::decode(frame.header.opcode, flags, body).unwrap(), request);
        }
    }
}

#[test]
fn every_prefix_of_a_request_is_an_error() {
    for request in requests() {
        let mut out = BytesMut::new();
        encode_request(&mut out, 5, FrameFlags::default(), None, &request);
        let frame = cut(&out);
        for length in 0..frame.body.len() {
            let body = frame.body.slice(..length);
            let decoded = Request::decode(frame.header.opcode, FrameFlags::default(), body);
            assert!(decoded.is_err(), "{request:?} cut to {length}");
        }
    }
}

/// A small generator with a seed: a failure can be run again.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }
}

#[test]
fn mutated_and_random_bodies_never_panic() {
    let mut random = Random(0x5eed_c0ff_ee00_0001);
    let bodies: Vec<Vec<u8>> = requests()
        .iter()
        .map(|request| {
            let mut out = BytesMut::new();
            encode_request(&mut out, 1, FrameFlags::default(), None, request);
            cut(&out).body.to_vec()
        })
        .collect();
    let mut decoded = 0;
    for round in 0..60_000 {
        let mut body = bodies[round % bodies.len()].clone();
        for _ in 0..=random.below(4) {
            match random.below(3) {
                0 if !body.is_empty() => {
                    let place = random.below(body.len());
                    body[place] = u8::try_from(random.next() & 0xff).unwrap();
                }
                1 => body.truncate(random.below(body.len() + 1)),
                _ => body.extend((0..random.below(9)).map(|_| 0xff)),
            }
        }
        let opcode = u8::try_from(random.below(18)).unwrap();
        let flags = FrameFlags(u8::try_from(random.next() & 0x1f).unwrap());
        let body = Bytes::from(body);
        decoded += usize::from(Request::decode(opcode, flags, body.clone()).is_ok());
        for compression in [Compression::Lz4, Compression::Snappy] {
            drop(compression.decompress(&body, 4096));
        }
        let header = FrameHeader {
            version: 4,
            is_response: true,
            flags,
            stream: 0,
            opcode,
            body_bytes: u32::try_from(body.len()).unwrap(),
        };
        decoded += usize::from(Received::decode(&Frame { header, body }, None, 4096).is_ok());
    }
    assert!(decoded > 0, "some bodies stay good: the test reaches past the first field");
}
