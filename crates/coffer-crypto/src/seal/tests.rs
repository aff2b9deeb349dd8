//! Tests of sealing: the published vectors, equal backends, and that nothing changed opens.

use super::*;

const BACKENDS: [Backend; 2] = [Backend::Ring, Backend::Reference];

fn identity() -> FileIdentity {
    FileIdentity {
        format_version: crate::FORMAT_VERSION,
        cluster_id: [1; 16],
        table_id: [2; 16],
        file_id: [3; 16],
    }
}

fn bytes(field: &str) -> Vec<u8> {
    if field == "-" { Vec::new() } else { hex::decode(field).unwrap() }
}

/// A sealer and an opener under one fixed key.
fn pair(backend: Backend) -> (Sealer, Opener) {
    let key = || Secret::from_array(&[7; 32]);
    let sealer = Sealer::with_backend(NewDataKey(key()), &identity(), backend).unwrap();
    let opener = Opener::with_backend(&DataKey(key()), &identity(), backend).unwrap();
    (sealer, opener)
}

#[test]
fn published_vectors_seal_and_open_in_every_backend() {
    let mut count = 0;
    for line in include_str!("nist_gcm_256.txt").lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<_> = line.split(' ').map(bytes).collect();
        let [key, nonce, plaintext, aad, ciphertext, tag] = fields.try_into().unwrap();
        let nonce: [u8; 12] = nonce.try_into().unwrap();
        for backend in BACKENDS {
            let cipher = Cipher::new(&Secret::from_slice(&key).unwrap(), backend).unwrap();
            let mut text = plaintext.clone();
            let found = cipher.seal(nonce, &aad, &mut text).unwrap();
            assert_eq!((&text, found.as_slice()), (&ciphertext, tag.as_slice()), "{line}");
            text.extend_from_slice(&found);
            cipher.open(nonce, &aad, &mut text).unwrap();
            assert!(text.starts_with(&plaintext));
        }
        count += 1;
    }
    assert!(count >= 30, "only {count} vectors");
}

#[test]
fn backends_give_the_same_bytes_and_open_each_others() {
    for len in [0, 1, 15, 16, 17, 255, 4096, 65_537] {
        let text: Vec<u8> = (0..len).map(|i: u32| i.to_le_bytes()[0]).collect();
        let [mut ring, mut reference] = BACKENDS.map(|backend| {
            let mut buffer = text.clone();
            let (mut sealer, _) = pair(backend);
            sealer.seal_in_place(Component::Data, Place::Last, b"x", &mut buffer, 0).unwrap();
            buffer
        });
        assert_eq!(ring, reference, "length {len}");
        for (backend, sealed) in [(Backend::Reference, &mut ring), (Backend::Ring, &mut reference)]
        {
            let (_, opener) = pair(backend);
            let opened =
                opener.open_in_place(Component::Data, 0, Place::Last, b"x", sealed).unwrap();
            assert_eq!(opened, text);
        }
    }
}

#[test]
fn a_flipped_bit_anywhere_does_not_authenticate() {
    for backend in BACKENDS {
        let (mut sealer, opener) = pair(backend);
        let mut sealed = b"row of a table".to_vec();
        sealer.seal_in_place(Component::Index, Place::Inner, b"", &mut sealed, 0).unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let opened = opener.open_in_place(Component::Index, 0, Place::Inner, b"", &mut changed);
            assert!(matches!(opened, Err(Error::Tampered)), "bit {bit}");
        }
        for len in 0..sealed.len() {
            let mut cut = sealed[..len].to_vec();
            assert!(
                opener.open_in_place(Component::Index, 0, Place::Inner, b"", &mut cut).is_err()
            );
        }
    }
}

#[test]
fn a_block_in_another_place_does_not_authenticate() {
    for backend in BACKENDS {
        let (mut sealer, opener) = pair(backend);
        let mut sealed = b"row".to_vec();
        sealer.seal_in_place(Component::Data, Place::Inner, b"lsn 5", &mut sealed, 0).unwrap();
        let moved: [(Component, u64, Place, &[u8]); 5] = [
            (Component::Index, 0, Place::Inner, b"lsn 5"),
            (Component::Data, 1, Place::Inner, b"lsn 5"),
            (Component::Data, 0, Place::Last, b"lsn 5"),
            (Component::Data, 0, Place::Inner, b"lsn 6"),
            (Component::Data, 0, Place::Inner, b""),
        ];
        for (component, block, place, extra) in moved {
            let mut copy = sealed.clone();
            let opened = opener.open_in_place(component, block, place, extra, &mut copy);
            assert!(matches!(opened, Err(Error::Tampered)), "{component:?} {block} {place:?}");
        }
        let mut elsewhere = Vec::new();
        for part in 0..4 {
            let mut id = identity();
            match part {
                0 => id.format_version += 1,
                1 => id.cluster_id[15] ^= 1,
                2 => id.table_id[0] ^= 1,
                _ => id.file_id[7] ^= 1,
            }
            elsewhere.push(id);
        }
        for id in elsewhere {
            let key = DataKey(Secret::from_array(&[7; 32]));
            let opener = Opener::with_backend(&key, &id, backend).unwrap();
            let mut copy = sealed.clone();
            let opened =
                opener.open_in_place(Component::Data, 0, Place::Inner, b"lsn 5", &mut copy);
            assert!(matches!(opened, Err(Error::Tampered)), "{id:?}");
        }
        opener.open_in_place(Component::Data, 0, Place::Inner, b"lsn 5", &mut sealed).unwrap();
    }
}

#[test]
fn nonces_of_one_key_never_repeat() {
    let components = [
        Component::Data,
        Component::Index,
        Component::Filter,
        Component::Statistics,
        Component::Footer,
        Component::Log,
        Component::Document,
    ];
    let (mut sealer, _) = pair(Backend::Ring);
    let mut nonces = std::collections::HashSet::new();
    for expected in 0..10 {
        for component in components {
            let mut buffer = Vec::new();
            let block = sealer.seal_in_place(component, Place::Inner, b"", &mut buffer, 0).unwrap();
            assert_eq!(block, expected);
            assert!(nonces.insert(nonce(component, block)));
        }
    }
}

#[test]
fn a_failed_seal_consumes_its_number() {
    let (mut sealer, _) = pair(Backend::Ring);
    let too_much = [0; BlockAad::EXTRA_MAX + 1];
    let mut buffer = Vec::new();
    sealer.seal_in_place(Component::Log, Place::Inner, &too_much, &mut buffer, 0).unwrap_err();
    sealer.seal_in_place(Component::Log, Place::Inner, b"", &mut buffer, 1).unwrap_err();
    assert_eq!(sealer.next_block(Component::Log), 2);
    let most = &too_much[1..];
    assert_eq!(
        sealer.seal_in_place(Component::Log, Place::Inner, most, &mut buffer, 0).unwrap(),
        2
    );
}

#[test]
fn one_key_seals_no_more_blocks_than_are_safe() {
    let (mut sealer, _) = pair(Backend::Ring);
    sealer.next_block[Component::Log as usize] = SEALS_PER_COMPONENT_MAX - 1;
    let mut seal = || sealer.seal_in_place(Component::Log, Place::Inner, b"", &mut Vec::new(), 0);
    assert_eq!(seal().unwrap(), SEALS_PER_COMPONENT_MAX - 1);
    assert!(matches!(seal(), Err(Error::SealLimit)));
}
