//! Frames from strangers: whatever is sent, the sender gets an error or is cut off, and nobody else
//! notices.
#![expect(clippy::expect_used, reason = "a panic fails the test")]

use std::time::Duration;

use cql_protocol::{FrameHeader, HEADER_BYTES};
use cql_tests::{Client, Result, Server, ServerBuilder, exchange};

/// How long a server that does not answer must be silent before a test believes it.
const SILENCE: Duration = Duration::from_millis(300);

fn frame(version: u8, flags: u8, stream: i16, opcode: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![version, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.push(opcode);
    bytes.extend_from_slice(&u32::try_from(body.len()).expect("short").to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

fn string_map(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut body = u16::try_from(pairs.len()).expect("few").to_be_bytes().to_vec();
    for text in pairs.iter().flat_map(|(key, value)| [key, value]) {
        body.extend_from_slice(&u16::try_from(text.len()).expect("short").to_be_bytes());
        body.extend_from_slice(text.as_bytes());
    }
    body
}

fn startup() -> Vec<u8> {
    frame(4, 0, 0, 0x01, &string_map(&[("CQL_VERSION", "3.0.0")]))
}

/// Header and error code of the first frame of an answer.
fn first_error(answer: &[u8]) -> Option<(FrameHeader, i32)> {
    let header = FrameHeader::decode(answer.first_chunk::<HEADER_BYTES>()?);
    let code = answer.get(HEADER_BYTES..HEADER_BYTES + 4)?;
    (header.opcode == 0).then(|| (header, i32::from_be_bytes(code.try_into().expect("four bytes"))))
}

#[test]
fn other_versions_are_told_which_are_supported_in_a_v4_frame() -> Result<()> {
    let server = Server::start()?;
    for version in [3, 5, 6, 65, 66] {
        for (opcode, body) in [(0x05, Vec::new()), (0x01, string_map(&[("CQL_VERSION", "3.0.0")]))]
        {
            let answer =
                exchange(server.address(), &frame(version, 0x10, 7, opcode, &body), SILENCE)?;
            let (header, code) = first_error(&answer).ok_or("no error")?;
            assert_eq!((header.version, header.stream, code), (4, 7, 0x0A), "version {version}");
            let text = String::from_utf8_lossy(&answer);
            assert!(
                text.contains(&format!("Invalid or unsupported protocol version ({version})")),
                "{text}"
            );
        }
    }
    Ok(())
}

#[test]
fn requests_before_startup_are_protocol_errors() -> Result<()> {
    let server = Server::start()?;
    let mut body = 8_u32.to_be_bytes().to_vec();
    body.extend_from_slice(b"SELECT 1\x00\x01\x00");
    for opcode in [0x07, 0x09, 0x0A, 0x0B, 0x0D] {
        let answer = exchange(server.address(), &frame(4, 0, 3, opcode, &body), SILENCE)?;
        let (header, code) = first_error(&answer).ok_or("no error")?;
        assert_eq!((header.stream, code), (3, 0x0A), "opcode {opcode}");
    }
    Ok(())
}

#[test]
fn a_broken_body_costs_one_error_and_not_the_connection() -> Result<()> {
    let server = Server::start()?;
    let mut client = Client::connect(server.address())?;
    for (opcode, body) in [
        (0x07_u8, &b"\x7f\xff\xff\xff"[..]),
        (0x07, b""),
        (0x07, b"\x00\x00\x00\x01x\x00\x01\xff"),
        (0x0A, b"\xff\xff"),
        (0x09, b"\x00\x00\x00\x02\xff\xfe"),
        (0x0D, b"\x09\xff\xff"),
        (0x0B, b"\x00\x01\x00\x01X"),
        (0x42, b"anything"),
        (0x08, b""),
    ] {
        client.send(&frame(4, 0, 9, opcode, body))?;
        let answer = format!("{:?}", client.receive()?);
        assert!(
            answer.contains("stream: 9") && answer.contains("Protocol"),
            "opcode {opcode}: {answer}"
        );
    }
    assert_eq!(
        client.rows("SELECT key FROM system.local")?.rows.len(),
        1,
        "the connection still works"
    );
    Ok(())
}

#[test]
fn a_frame_over_the_limit_is_refused_before_memory_is_taken() -> Result<()> {
    let server = ServerBuilder::default().environment("COFFER_FRAME_BYTES_MAX", "65536").start()?;
    let mut client = Client::connect(server.address())?;
    // At the limit: read whole, and found to be no CQL.
    let statement = " ".repeat(65536 - 4 - 3);
    let mut body = u32::try_from(statement.len())?.to_be_bytes().to_vec();
    body.extend_from_slice(statement.as_bytes());
    body.extend_from_slice(&[0, 1, 0]);
    client.send(&frame(4, 0, 1, 0x07, &body))?;
    assert!(format!("{:?}", client.receive()?.body).contains("Syntax"));
    // One past it.
    body.push(0);
    let answer =
        exchange(server.address(), &[startup(), frame(4, 0, 2, 0x07, &body)].concat(), SILENCE)?;
    let text = String::from_utf8_lossy(&answer);
    assert!(text.contains("65537") && text.contains("65536"), "{text}");
    // A header that promises 4 GiB takes nothing.
    let huge = [startup(), vec![4, 0, 0, 2, 0x07, 0xff, 0xff, 0xff, 0xff]].concat();
    let resident = resident_kib(server.pid())?;
    exchange(server.address(), &huge, SILENCE)?;
    assert!(resident_kib(server.pid())? < resident + 64 * 1024, "memory was taken for a promise");
    assert_eq!(
        client.rows("SELECT key FROM system.local")?.rows.len(),
        1,
        "another client goes on"
    );
    Ok(())
}

#[test]
fn random_bytes_and_cut_frames_harm_nobody() -> Result<()> {
    let server = Server::start()?;
    let mut witness = Client::connect(server.address())?;
    let valid = [startup(), frame(4, 0, 1, 0x05, &[])].concat();
    for cut in 0..valid.len() {
        exchange(server.address(), &valid[..cut], Duration::from_millis(1))?;
    }
    let mut seed = 0x2545_F491_4F6C_DD1D_u64;
    for _ in 0..300 {
        let mut bytes = valid.clone();
        for _ in 0..8 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let place = usize::try_from(seed % bytes.len() as u64)?;
            bytes[place] = u8::try_from((seed >> 32) & 0xff)?;
        }
        exchange(server.address(), &bytes, Duration::from_millis(1))?;
    }
    assert_eq!(witness.rows("SELECT key FROM system.local")?.rows.len(), 1);
    assert!(!server.log()?.contains("panicked"), "a task panicked: {}", server.log()?);
    Ok(())
}

#[test]
fn deep_nesting_is_refused_by_name() -> Result<()> {
    let server = Server::start()?;
    let mut client = Client::connect(server.address())?;
    let (code, _) = client
        .error(&format!("SELECT * FROM system.local WHERE key = {}1", "[".repeat(200_000)))?;
    assert_eq!(code, 0x2000);
    let (code, text) = client.error(&format!(
        "SELECT {}key{} FROM system.local",
        "f(".repeat(10_000),
        ")".repeat(10_000)
    ))?;
    assert_eq!(code, 0x2000, "{text}");
    assert_eq!(client.rows("SELECT key FROM system.local")?.rows.len(), 1);
    Ok(())
}

fn resident_kib(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}
