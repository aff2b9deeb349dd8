//! Tests of the embedded KMS: states, contexts, blobs, and its store on disk.

use super::*;
use crate::{ErrorClass, TableName, encryption_context};
use coffer_crypto::clock::ManualClock;
use std::fs;

struct Fixture {
    dir: tempfile::TempDir,
    clock: Arc<ManualClock>,
    kms: Arc<EmbeddedKms>,
}

fn reopen(dir: &Path, clock: &Arc<ManualClock>) -> Result<Arc<EmbeddedKms>> {
    let clock: Arc<dyn Clock> = Arc::clone(clock) as _;
    EmbeddedKms::open(&dir.join("kms"), &EmbeddedKmsOptions::default(), clock)
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let clock = ManualClock::at(1_700_000_000_000);
    let kms = reopen(dir.path(), &clock).unwrap();
    Fixture { dir, clock, kms }
}

fn context() -> EncryptionContext {
    encryption_context(&TableName::new([1; 16], "ks", "t"), "000000000000")
}

fn new_key(kms: &EmbeddedKms) -> String {
    kms.create_key(NewKey::default()).unwrap().arn
}

/// Names of what each operation that needs the key says; empty for a success.
async fn uses(kms: &EmbeddedKms, arn: &str, blob: &[u8], other: &str) -> Vec<String> {
    let context = context();
    let re_encrypt = |source_key, destination_key| ReEncryptRequest {
        blob,
        source_key: Some(source_key),
        source_context: &context,
        destination_key,
        destination_context: &context,
    };
    let name = |error: Option<KmsError>| error.map_or(String::new(), |e| e.name().to_owned());
    vec![
        name(kms.generate_data_key(arn, &context).await.err()),
        name(kms.decrypt(Some(arn), blob, &context).await.err()),
        name(kms.decrypt(None, blob, &context).await.err()),
        name(kms.encrypt(arn, b"x", &context).await.err()),
        name(kms.re_encrypt(re_encrypt(arn, other)).await.err()),
    ]
}

#[tokio::test]
async fn a_data_key_decrypts_to_what_was_generated() {
    let Fixture { dir: _dir, kms, .. } = fixture();
    let arn = new_key(&kms);
    assert!(arn.starts_with("arn:aws:kms:us-east-1:000000000000:key/"));
    let generated = kms.generate_data_key(&arn, &context()).await.unwrap();
    assert_eq!(generated.plaintext.len(), 32);
    let decrypted = kms.decrypt(Some(&arn), &generated.blob, &context()).await.unwrap();
    assert_eq!(*decrypted.plaintext, *generated.plaintext);
    assert_eq!(decrypted.key_arn, arn);
    assert_eq!(decrypted.key_material_id, generated.key_material_id);
    let again = kms.generate_data_key(&arn, &context()).await.unwrap();
    assert!(again.plaintext != generated.plaintext && again.blob != generated.blob);
}

#[tokio::test]
async fn another_context_or_a_changed_blob_is_invalid() {
    let Fixture { dir: _dir, kms, .. } = fixture();
    let arn = new_key(&kms);
    let blob = kms.encrypt(&arn, b"secret", &context()).await.unwrap().blob;
    let mut contexts = vec![EncryptionContext::new()];
    for (name, value) in context() {
        let mut other = context();
        other.insert(name.clone(), value.to_uppercase() + "x");
        contexts.push(other);
        let mut fewer = context();
        fewer.remove(&name);
        contexts.push(fewer);
    }
    let mut more = context();
    more.insert("a".into(), String::new());
    contexts.push(more);
    for other in contexts {
        let error = kms.decrypt(Some(&arn), &blob, &other).await.err().unwrap();
        assert_eq!((error.name(), error.message()), ("InvalidCiphertextException", ""));
        assert_eq!(error.class(), ErrorClass::Integrity);
    }
    for bit in 0..blob.len() * 8 {
        let mut changed = blob.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(kms.decrypt(Some(&arn), &changed, &context()).await.is_err(), "bit {bit}");
    }
    for len in 0..blob.len() {
        assert!(kms.decrypt(None, &blob[..len], &context()).await.is_err());
    }
}

#[tokio::test]
async fn a_blob_of_another_key_is_an_incorrect_key() {
    let Fixture { dir: _dir, kms, .. } = fixture();
    let (first, second) = (new_key(&kms), new_key(&kms));
    let blob = kms.encrypt(&first, b"x", &context()).await.unwrap().blob;
    let error = kms.decrypt(Some(&second), &blob, &context()).await.err().unwrap();
    assert_eq!(error.name(), "IncorrectKeyException");
    assert_eq!(*kms.decrypt(None, &blob, &context()).await.unwrap().plaintext, b"x");
}

#[tokio::test]
async fn re_encrypt_moves_a_blob_to_another_key_and_context() {
    let Fixture { dir: _dir, kms, .. } = fixture();
    let (first, second) = (new_key(&kms), new_key(&kms));
    let blob = kms.encrypt(&first, b"secret", &context()).await.unwrap().blob;
    let other = EncryptionContext::new();
    let request = ReEncryptRequest {
        blob: &blob,
        source_key: Some(&first),
        source_context: &context(),
        destination_key: &second,
        destination_context: &other,
    };
    let moved = kms.re_encrypt(request).await.unwrap();
    assert_eq!((&moved.source_key_arn, &moved.key_arn), (&first, &second));
    kms.disable_key(&first).unwrap();
    let opened = kms.decrypt(Some(&second), &moved.blob, &other).await.unwrap();
    assert_eq!(*opened.plaintext, b"secret");
}

#[tokio::test]
async fn a_key_goes_through_its_states() {
    let Fixture { dir: _dir, clock, kms } = fixture();
    let (arn, other) = (new_key(&kms), new_key(&kms));
    let blob = kms.encrypt(&arn, b"x", &context()).await.unwrap().blob;
    let all = |name: &str| vec![name.to_owned(); 5];
    assert_eq!(uses(&kms, &arn, &blob, &other).await, all(""));

    assert_eq!(kms.disable_key(&arn).unwrap().key_state, KeyState::Disabled);
    assert_eq!(uses(&kms, &arn, &blob, &other).await, all("DisabledException"));
    let error = kms.encrypt(&arn, b"x", &context()).await.unwrap_err();
    assert_eq!(error.message(), format!("{arn} is disabled."));
    assert!(kms.describe_key(&arn).await.is_ok());
    kms.enable_key(&arn).unwrap();
    assert_eq!(uses(&kms, &arn, &blob, &other).await, all(""));

    let pending = kms.schedule_key_deletion(&arn, Some(7)).unwrap();
    assert_eq!(pending.key_state, KeyState::PendingDeletion);
    assert_eq!(pending.deletion_date, Some(1_700_000_000.0 + 7.0 * 86_400.0));
    assert_eq!(uses(&kms, &arn, &blob, &other).await, all("KMSInvalidStateException"));
    for refused in
        [kms.enable_key(&arn), kms.disable_key(&arn), kms.schedule_key_deletion(&arn, None)]
    {
        assert_eq!(refused.unwrap_err().message(), format!("{arn} is pending deletion."));
    }
    assert_eq!(kms.cancel_key_deletion(&arn).unwrap().key_state, KeyState::Disabled);
    let error = kms.cancel_key_deletion(&arn).unwrap_err();
    assert_eq!(error.message(), format!("{arn} is not pending deletion."));
    kms.enable_key(&arn).unwrap();
    assert_eq!(uses(&kms, &arn, &blob, &other).await, all(""));

    kms.schedule_key_deletion(&arn, None).unwrap();
    clock.advance(30 * MILLIS_PER_DAY - 1);
    assert_eq!(kms.describe(&arn).unwrap().key_state, KeyState::PendingDeletion);
    clock.advance(1);
    assert_eq!(uses(&kms, &arn, &blob, &other).await, all("NotFoundException"));
    assert_eq!(kms.describe(&arn).unwrap_err().message(), format!("Key '{arn}' does not exist"));
    assert!(kms.cancel_key_deletion(&arn).is_err());
    assert_eq!(kms.list_keys().len(), 1);
}

#[test]
fn the_test_clock_deletes_keys_too() {
    let Fixture { dir: _dir, clock, kms } = fixture();
    let arn = new_key(&kms);
    kms.schedule_key_deletion(&arn, Some(7)).unwrap();
    clock.set_key_offset(7 * MILLIS_PER_DAY);
    assert!(kms.describe(&arn).is_err());
}

#[test]
fn windows_of_seven_to_thirty_days_are_allowed() {
    let Fixture { dir: _dir, kms, .. } = fixture();
    for (days, allowed) in [(0, false), (6, false), (7, true), (30, true), (31, false)] {
        let arn = new_key(&kms);
        let scheduled = kms.schedule_key_deletion(&arn, Some(days));
        assert_eq!(scheduled.is_ok(), allowed, "{days} days");
    }
    let arn = new_key(&kms);
    let default = kms.schedule_key_deletion(&arn, None).unwrap();
    assert_eq!(default.pending_deletion_window_in_days, Some(30));
}

#[test]
fn keys_are_found_by_id_arn_and_alias() {
    let Fixture { dir: _dir, kms, .. } = fixture();
    let sample = "arn:aws:kms:eu-west-1:5555555555555:key/11111111-1111-111-1111-111111111111";
    let new =
        NewKey { description: "d".into(), alias: Some("orders".into()), arn: Some(sample.into()) };
    assert_eq!(kms.create_key(new).unwrap().arn, sample);
    let names = [
        sample,
        "11111111-1111-111-1111-111111111111",
        "alias/orders",
        "orders",
        "arn:aws:kms:us-east-1:000000000000:alias/orders",
    ];
    for name in names {
        let found = kms.describe(name).unwrap();
        assert_eq!((found.arn.as_str(), found.account.as_str()), (sample, "5555555555555"));
        assert_eq!(found.aliases, ["alias/orders"]);
    }
    let missing = [
        ("nothing", "Key 'arn:aws:kms:us-east-1:000000000000:key/nothing' does not exist"),
        ("alias/a", "Alias arn:aws:kms:us-east-1:000000000000:alias/a is not found."),
        ("arn:aws:kms:eu-west-2:1:key/k", "Invalid arn eu-west-2"),
        ("arn:aws:kms:us-east-1:1:key/k", "Key 'arn:aws:kms:us-east-1:1:key/k' does not exist"),
    ];
    for (name, message) in missing {
        assert_eq!(kms.describe(name).unwrap_err().message(), message);
    }
}

#[test]
fn a_key_that_cannot_be_named_so_is_not_made() {
    let Fixture { dir: _dir, kms, .. } = fixture();
    let new = NewKey {
        description: String::new(),
        alias: Some("orders".into()),
        arn: Some("arn:aws:kms:eu-west-1:5:key/k".into()),
    };
    kms.create_key(new.clone()).unwrap();
    assert_eq!(kms.create_key(new).unwrap_err().name(), "AlreadyExistsException");
    let alias_again = NewKey { alias: Some("alias/orders".into()), ..NewKey::default() };
    assert_eq!(kms.create_key(alias_again).unwrap_err().name(), "AlreadyExistsException");
    for alias in ["", "aws/x", "a b", "alias/"] {
        let new = NewKey { alias: Some(alias.into()), ..NewKey::default() };
        assert_eq!(kms.create_key(new).unwrap_err().name(), "InvalidAliasNameException");
    }
    let no_arn = NewKey { arn: Some("alias/x".into()), ..NewKey::default() };
    assert_eq!(kms.create_key(no_arn).unwrap_err().name(), "InvalidArnException");
}

#[tokio::test]
async fn keys_survive_a_restart_and_one_version_is_kept() {
    let Fixture { dir, clock, kms } = fixture();
    let (first, second) = (new_key(&kms), new_key(&kms));
    let blob = kms.encrypt(&first, b"x", &context()).await.unwrap().blob;
    kms.disable_key(&second).unwrap();
    let before = kms.list_keys();
    drop(kms);
    // what a crash between rename and unlink, and before a rename, leaves
    let store_dir = dir.path().join("kms");
    let newest = versions(&store_dir).pop().unwrap();
    fs::copy(store_dir.join(&newest), store_dir.join(format!("{:020}.keys", 1))).unwrap();
    fs::write(store_dir.join(format!("{:020}.keys.tmp", 5)), "half").unwrap();
    let kms = reopen(dir.path(), &clock).unwrap();
    assert_eq!(kms.list_keys(), before);
    assert_eq!(*kms.decrypt(None, &blob, &context()).await.unwrap().plaintext, b"x");
    assert_eq!(versions(&store_dir), [newest]);
    assert_eq!(fs::read_dir(&store_dir).unwrap().count(), 2, "root key and one version");
}

fn versions(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    let names = names.map(|name| name.into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.ends_with(".keys")).collect();
    names.sort();
    names
}

#[tokio::test]
async fn the_material_of_a_deleted_key_is_gone_from_the_file() {
    let Fixture { dir, clock, kms } = fixture();
    let arn = new_key(&kms);
    let blob = kms.encrypt(&arn, b"x", &context()).await.unwrap().blob;
    kms.schedule_key_deletion(&arn, Some(7)).unwrap();
    clock.advance(7 * MILLIS_PER_DAY);
    kms.delete_due_keys().unwrap();
    drop(kms);
    // even when the clock goes back
    clock.advance(-8 * MILLIS_PER_DAY);
    let kms = reopen(dir.path(), &clock).unwrap();
    assert!(kms.list_keys().is_empty());
    assert!(kms.decrypt(None, &blob, &context()).await.is_err());
}

#[test]
fn a_damaged_or_foreign_store_is_refused_by_name() {
    let Fixture { dir, clock, kms } = fixture();
    let arn = new_key(&kms);
    drop(kms);
    let store_dir = dir.path().join("kms");
    let file = store_dir.join(versions(&store_dir).pop().unwrap());
    let good = fs::read(&file).unwrap();
    assert!(!good.windows(8).any(|window| window == &arn.as_bytes()[..8]), "names are sealed");
    for position in (0..good.len()).step_by(7) {
        let mut changed = good.clone();
        changed[position] ^= 0x10;
        fs::write(&file, &changed).unwrap();
        let text = reopen(dir.path(), &clock).err().unwrap().to_string();
        assert!(text.contains(".keys: "), "{text}");
    }
    fs::write(&file, &good).unwrap();
    let renamed = store_dir.join(format!("{:020}.keys", 99));
    fs::copy(&file, &renamed).unwrap();
    assert!(reopen(dir.path(), &clock).is_err(), "an old version under a new name");
    fs::remove_file(&renamed).unwrap();

    let root = store_dir.join("root.key");
    let kept = fs::read(&root).unwrap();
    fs::remove_file(&root).unwrap();
    let text = reopen(dir.path(), &clock).err().unwrap().to_string();
    assert!(text.contains("root.key"), "a lost root key is not replaced: {text}");
    create_root_key(&root).unwrap();
    let text = reopen(dir.path(), &clock).err().unwrap().to_string();
    assert!(text.contains("wrong key"), "{text}");
    fs::write(&root, kept).unwrap();
    assert!(reopen(dir.path(), &clock).unwrap().describe(&arn).is_ok());
}

#[test]
fn account_and_region_are_those_of_the_first_start() {
    let dir = tempfile::tempdir().unwrap();
    let open = |account: Option<&str>, region: Option<&str>| {
        let options = EmbeddedKmsOptions {
            account: account.map(Into::into),
            region: region.map(Into::into),
            ..EmbeddedKmsOptions::default()
        };
        EmbeddedKms::open(&dir.path().join("kms"), &options, ManualClock::at(0))
    };
    assert!(open(Some("abc"), None).is_err() && open(None, Some("a b")).is_err());
    let kms = open(Some("111122223333"), Some("eu-west-1")).unwrap();
    assert!(new_key(&kms).starts_with("arn:aws:kms:eu-west-1:111122223333:key/"));
    drop(kms);
    let kms = open(None, Some("eu-west-1")).unwrap();
    assert_eq!((kms.account(), kms.region()), ("111122223333".into(), "eu-west-1".into()));
    let text = open(Some("999900001111"), None).err().unwrap().to_string();
    assert!(text.contains("account=111122223333"), "{text}");
}

#[tokio::test]
async fn encrypt_takes_one_to_4096_bytes() {
    let Fixture { dir: _dir, kms, .. } = fixture();
    let arn = new_key(&kms);
    for (len, allowed) in [(0, false), (1, true), (4096, true), (4097, false)] {
        let encrypted = kms.encrypt(&arn, &vec![0; len], &context()).await;
        assert_eq!(encrypted.is_ok(), allowed, "{len} bytes");
    }
}

#[test]
fn keys_that_were_there_and_are_gone_are_damage_and_not_a_first_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kms");
    let open = |must_exist| {
        let options = EmbeddedKmsOptions { must_exist, ..EmbeddedKmsOptions::default() };
        EmbeddedKms::open(&path, &options, ManualClock::at(0))
    };
    let Err(error) = open(true) else { panic!("opened without its keys") };
    assert!(error.to_string().contains("the file of its keys is missing"), "{error}");
    assert!(open(false).is_ok() && open(true).is_ok());
}
