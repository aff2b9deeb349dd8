//! The switch of the positive controls: off until called, unreadable for everybody else after.

use coffer_crypto::{DocumentKind, RootKey, SealedDocument};

#[test]
fn sealing_is_skipped_only_after_it_was_asked_for() {
    let root = RootKey::generate().unwrap();
    let marker = b"canary-marker";
    let holds_marker = |bytes: &[u8]| bytes.windows(marker.len()).any(|window| window == marker);
    let seal = || SealedDocument::seal(&root, DocumentKind::Catalog, 1, marker).unwrap();

    let sealed = seal();
    assert!(!holds_marker(&sealed));
    coffer_crypto::danger::skip_sealing();
    let skipped = seal();
    assert!(holds_marker(&skipped));
    let opened = SealedDocument::open(&root, DocumentKind::Catalog, &skipped).unwrap();
    assert_eq!(*opened.plaintext, marker);
    assert!(SealedDocument::open(&root, DocumentKind::Catalog, &sealed).is_err());
}
