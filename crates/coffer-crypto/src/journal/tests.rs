//! Tests of sealed journals: every flipped bit, every cut, every swap of records.

use super::*;

const KIND: JournalKind = JournalKind::KmsAudit;

/// A file of these records, and the offset at which each begins.
fn journal(root: &RootKey, records: &[&[u8]], close: bool) -> (Vec<u8>, Vec<usize>) {
    let (mut writer, mut bytes) =
        JournalWriter::create(root, KIND, 3, JournalLink([7; 32])).unwrap();
    let mut offsets = Vec::new();
    for record in records {
        offsets.push(bytes.len());
        writer.append(record, &mut bytes).unwrap();
    }
    if close {
        offsets.push(bytes.len());
        writer.close(&mut bytes).unwrap();
    }
    (bytes, offsets)
}

fn read(root: &RootKey, bytes: &[u8]) -> Result<(Vec<Vec<u8>>, JournalEnd, JournalLink)> {
    let mut reader = JournalReader::open(root, KIND, bytes)?;
    let mut records = Vec::new();
    while let Some(record) = reader.next_record()? {
        records.push(record.to_vec());
    }
    Ok((records, reader.end().expect("the end was reached"), reader.link()))
}

#[test]
fn records_come_back_in_order_with_the_links_of_the_writer() {
    let root = RootKey::generate().unwrap();
    let (mut writer, mut bytes) =
        JournalWriter::create(&root, KIND, 3, JournalLink([7; 32])).unwrap();
    let first = writer.append(b"CreateKey", &mut bytes).unwrap();
    let second = writer.append(b"", &mut bytes).unwrap();
    assert_ne!(first, second);
    let (records, end, link) = read(&root, &bytes).unwrap();
    assert_eq!((records.len(), end, link), (2, JournalEnd::Open, second));
    assert_eq!(records[0], b"CreateKey");
    let closed = writer.close(&mut bytes).unwrap();
    let (records, end, link) = read(&root, &bytes).unwrap();
    assert_eq!((records.len(), end, link), (2, JournalEnd::Closed, closed));
    let reader = JournalReader::open(&root, KIND, &bytes).unwrap();
    assert_eq!((reader.number(), reader.previous()), (3, JournalLink([7; 32])));
    assert!(!bytes.windows(9).any(|window| window == b"CreateKey"));
}

#[test]
fn any_flipped_bit_is_named() {
    let root = RootKey::generate().unwrap();
    let (bytes, _) = journal(&root, &[b"one", b"two"], false);
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(read(&root, &changed).is_err(), "bit {bit}");
    }
}

#[test]
fn a_cut_keeps_the_whole_records_before_it_and_says_where_it_is() {
    let root = RootKey::generate().unwrap();
    let (bytes, offsets) = journal(&root, &[b"one", b"two", b"three"], true);
    for len in 0..bytes.len() {
        let cut = read(&root, &bytes[..len]);
        if len < JOURNAL_HEADER_LEN {
            assert!(matches!(cut, Err(Error::Malformed { .. })), "length {len}");
            continue;
        }
        let begun = offsets.iter().filter(|&&offset| offset < len).count();
        let (records, end, _) = cut.unwrap();
        if offsets.contains(&len) {
            assert_eq!((records.len(), end), (begun, JournalEnd::Open), "length {len}");
        } else {
            let torn = JournalEnd::Torn { offset: offsets[begun - 1] };
            assert_eq!((records.len(), end), (begun - 1, torn), "length {len}");
        }
    }
}

#[test]
fn zeros_from_a_sector_on_are_a_torn_record_and_other_zeros_are_not() {
    let root = RootKey::generate().unwrap();
    let long = vec![7; 3 * SECTOR_LEN];
    let (bytes, offsets) = journal(&root, &[b"one", &long], false);
    let mut torn = bytes.clone();
    torn[2 * SECTOR_LEN..].fill(0);
    let (records, end, _) = read(&root, &torn).unwrap();
    assert_eq!((records.len(), end), (1, JournalEnd::Torn { offset: offsets[1] }));
    let mut grown = bytes.clone();
    grown.resize(bytes.len() + 90, 0);
    let (records, end, _) = read(&root, &grown).unwrap();
    assert_eq!((records.len(), end), (2, JournalEnd::Torn { offset: bytes.len() }));
    grown[bytes.len() + 30] = 1;
    assert!(matches!(read(&root, &grown), Err(Error::Tampered)));
    let mut hole = bytes;
    hole[2 * SECTOR_LEN..3 * SECTOR_LEN].fill(0);
    assert!(matches!(read(&root, &hole), Err(Error::Tampered)));
}

#[test]
fn a_record_left_out_repeated_or_moved_is_named() {
    let root = RootKey::generate().unwrap();
    let (bytes, at) = journal(&root, &[b"same", b"same", b"same"], false);
    let record = |index: usize| {
        let end = at.get(index + 1).copied().unwrap_or(bytes.len());
        bytes[at[index]..end].to_vec()
    };
    let orders: [&[usize]; 5] = [&[0, 2], &[1, 2], &[1, 0, 2], &[0, 0, 1, 2], &[0, 1, 2, 2]];
    for order in orders {
        let mut changed = bytes[..JOURNAL_HEADER_LEN].to_vec();
        for &index in order {
            changed.extend_from_slice(&record(index));
        }
        assert!(matches!(read(&root, &changed), Err(Error::Tampered)), "{order:?}");
    }
    let (other, _) = journal(&root, &[b"same", b"same"], false);
    let foreign = [&other[..JOURNAL_HEADER_LEN], &record(0)].concat();
    assert!(matches!(read(&root, &foreign), Err(Error::Tampered)));
    let (closed, _) = journal(&root, &[b"same"], true);
    let longer = [closed.as_slice(), &[0; 600]].concat();
    assert!(matches!(read(&root, &longer), Err(Error::Tampered)), "bytes after the last record");
}

#[test]
fn another_root_key_or_kind_does_not_open_it() {
    let root = RootKey::generate().unwrap();
    let (bytes, _) = journal(&root, &[b"one"], false);
    let other = RootKey::generate().unwrap();
    assert!(matches!(read(&other, &bytes), Err(Error::WrongKey)));
    let opened = JournalReader::open(&root, JournalKind::KmsStore, &bytes);
    assert!(matches!(opened, Err(Error::Malformed { .. })));
}

#[test]
fn a_new_root_key_leaves_records_and_links_as_they_are() {
    let root = RootKey::generate().unwrap();
    let (bytes, _) = journal(&root, &[b"one", b"two"], true);
    let new = RootKey::generate().unwrap();
    let header = rewrap_header(&root, &new, KIND, &bytes).unwrap();
    let renewed = [header.as_slice(), &bytes[JOURNAL_HEADER_LEN..]].concat();
    assert_eq!(read(&new, &renewed).unwrap(), read(&root, &bytes).unwrap());
    assert!(matches!(read(&root, &renewed), Err(Error::WrongKey)));
    assert!(rewrap_header(&new, &root, KIND, &bytes).is_err());
}

#[test]
fn records_past_the_limit_are_refused() {
    let root = RootKey::generate().unwrap();
    let (mut writer, mut bytes) = JournalWriter::create(&root, KIND, 0, JournalLink::NONE).unwrap();
    let longest = vec![0; JOURNAL_RECORD_LEN_MAX + 1];
    assert!(writer.append(&longest[1..], &mut bytes).is_ok());
    assert!(matches!(writer.append(&longest, &mut bytes), Err(Error::Malformed { .. })));
    let late = JournalWriter::create(&root, KIND, WRAPS_PER_KEY_MAX + 1, JournalLink::NONE);
    assert!(matches!(late, Err(Error::WrapLimit)));
}
