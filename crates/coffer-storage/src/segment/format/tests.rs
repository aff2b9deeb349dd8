//! Round trips and refusals of the parts of a segment.

use coffer_crypto::{FORMAT_VERSION, NewDataKey, TableKey};

use super::*;

fn header() -> Header {
    let identity = FileIdentity {
        format_version: FORMAT_VERSION,
        cluster_id: [1; 16],
        table_id: [2; 16],
        file_id: [3; 16],
    };
    let key = TableKey::generate().expect("a key");
    let data_key = NewDataKey::generate().expect("a key");
    let wrapped = key.wrap_data_key(&data_key, &identity).expect("wraps");
    Header { identity, wrapped }
}

#[test]
fn a_header_is_read_back_and_a_cut_or_foreign_one_refused() {
    let header = header();
    let mut bytes = header.encode();
    assert_eq!(bytes.len(), HEADER_LEN);
    assert_eq!(bytes.len(), 166);
    assert_eq!(Header::decode(&bytes), Ok(header));
    assert!(Header::decode(&bytes[..HEADER_LEN - 1]).is_err());
    bytes[9] ^= 1;
    assert!(Header::decode(&bytes).expect_err("a version of the future").contains("version"));
    bytes[0] ^= 1;
    assert!(Header::decode(&bytes).is_err());
}

#[test]
fn a_footer_must_describe_the_file_without_gaps() {
    let extent = |offset, length, blocks| Extent { offset, length, blocks };
    let footer = Footer {
        body: extent(166, 1000, 3),
        top: extent(1166, 50, 2),
        filter: extent(1216, 100, 1),
        statistics: extent(1316, 90, 1),
    };
    let bytes = footer.encode();
    assert_eq!(bytes.len(), Footer::LEN);
    assert_eq!(Footer::decode(&bytes, 1406).expect("reads"), footer);
    assert!(Footer::decode(&bytes, 1407).is_err());
    assert!(Footer::decode(&bytes[1..], 1406).is_err());
    for place in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[place] ^= 0x80;
        if let Ok(read) = Footer::decode(&damaged, 1406) {
            // only the counts may differ here; what they count is checked unit by unit
            assert_eq!((read.body.length, read.top.offset), (1000, 1166));
        }
    }
}

#[test]
fn statistics_and_handles_are_read_back() {
    let statistics = SegmentStatistics {
        rows: 1,
        partitions: 2,
        static_rows: 3,
        partition_tombstones: 4,
        tombstones: 5,
        min_timestamp: -6,
        max_timestamp: 7,
        min_deletion_secs: 8,
        max_deletion_secs: 9,
        min_key: vec![10; 300],
        max_key: vec![11; 3],
    };
    let bytes = statistics.encode();
    assert_eq!(SegmentStatistics::decode(&bytes).expect("reads"), statistics);
    assert!(SegmentStatistics::decode(&bytes[..bytes.len() - 1]).is_err());
    let handle = Handle { block: 1, offset: u64::MAX, length: 3 };
    assert_eq!(Handle::decode(&handle.encode()).expect("reads"), handle);
    assert!(Handle::decode(&handle.encode()[1..]).is_err());
}
