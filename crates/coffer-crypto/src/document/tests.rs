//! Tests of sealed documents: every length, every flipped bit, every cut.

use super::*;

fn sealed(root: &RootKey, plaintext: &[u8]) -> Vec<u8> {
    SealedDocument::seal(root, DocumentKind::Catalog, 9, plaintext).unwrap()
}

#[test]
fn documents_of_every_length_come_back() {
    let root = RootKey::generate().unwrap();
    for len in [0, 1, CHUNK_LEN - 1, CHUNK_LEN, CHUNK_LEN + 1, 3 * CHUNK_LEN] {
        let plaintext = vec![0xA5; len];
        let bytes = sealed(&root, &plaintext);
        let opened = SealedDocument::open(&root, DocumentKind::Catalog, &bytes).unwrap();
        assert_eq!((opened.version, &*opened.plaintext), (9, &plaintext), "length {len}");
        assert!(len < 8 || !bytes.windows(8).any(|window| window == [0xA5; 8]));
    }
}

#[test]
fn any_flipped_bit_or_cut_is_refused() {
    let root = RootKey::generate().unwrap();
    let bytes = sealed(&root, b"schema");
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(SealedDocument::open(&root, DocumentKind::Catalog, &changed).is_err(), "bit {bit}");
    }
    for len in 0..bytes.len() {
        assert!(SealedDocument::open(&root, DocumentKind::Catalog, &bytes[..len]).is_err());
    }
    let longer = [bytes.as_slice(), &[0; 16]].concat();
    assert!(SealedDocument::open(&root, DocumentKind::Catalog, &longer).is_err());
}

#[test]
fn a_cut_or_swap_between_chunks_is_refused() {
    let root = RootKey::generate().unwrap();
    let bytes = sealed(&root, &vec![1; 3 * CHUNK_LEN]);
    let chunk = CHUNK_LEN + TAG_LEN;
    let cut = &bytes[..HEADER_LEN + chunk];
    let opened = SealedDocument::open(&root, DocumentKind::Catalog, cut);
    assert!(matches!(opened, Err(Error::Tampered)));
    let mut swapped = bytes.clone();
    swapped[HEADER_LEN..HEADER_LEN + 2 * chunk].rotate_left(chunk);
    let opened = SealedDocument::open(&root, DocumentKind::Catalog, &swapped);
    assert!(matches!(opened, Err(Error::Tampered)));
}

#[test]
fn a_wrong_root_key_is_told_from_changed_data() {
    let root = RootKey::generate().unwrap();
    let bytes = sealed(&root, b"schema");
    let other = RootKey::generate().unwrap();
    let opened = SealedDocument::open(&other, DocumentKind::Catalog, &bytes);
    assert!(matches!(opened, Err(Error::WrongKey)));
    let mut changed = bytes.clone();
    *changed.last_mut().unwrap() ^= 1;
    let opened = SealedDocument::open(&root, DocumentKind::Catalog, &changed);
    assert!(matches!(opened, Err(Error::Tampered)));
    let opened = SealedDocument::open(&root, DocumentKind::KmsStore, &bytes);
    assert!(matches!(opened, Err(Error::Malformed { .. })));
}

#[test]
fn the_same_contents_never_seal_to_the_same_bytes() {
    let root = RootKey::generate().unwrap();
    let (first, second) = (sealed(&root, b"schema"), sealed(&root, b"schema"));
    assert_eq!(first[..PREFIX_LEN], second[..PREFIX_LEN]);
    assert_ne!(first[PREFIX_LEN..], second[PREFIX_LEN..]);
}

#[test]
fn versions_past_the_limit_of_wraps_are_refused() {
    let root = RootKey::generate().unwrap();
    let seal = |version| SealedDocument::seal(&root, DocumentKind::Catalog, version, b"");
    assert!(seal(WRAPS_PER_KEY_MAX).is_ok());
    assert!(matches!(seal(WRAPS_PER_KEY_MAX + 1), Err(Error::WrapLimit)));
}
