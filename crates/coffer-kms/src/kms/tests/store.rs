//! What is on disk: it survives crashes, names damage, and forgets what is destroyed.

use super::*;
use std::{fs, os::unix::fs::PermissionsExt};

fn file(house: &House, extension: &str) -> PathBuf {
    let names = fs::read_dir(house.path()).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> =
        names.filter(|path| path.extension() == Some(extension.as_ref())).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found.pop().unwrap()
}

/// Opens what `house` left behind.
fn reopen(house: &House) -> Result<Arc<Kms>, OpenError> {
    Kms::open(&house.path(), &house.options, house.clock.clone())
}

#[test]
fn everything_comes_back_after_a_restart_without_a_checkpoint() {
    let house = new_house();
    let key = house.create();
    let blob = house.encrypt(&key, b"x").unwrap().ciphertext_blob;
    let before = file(&house, "keys");
    let house = house.reopened();
    assert_eq!(file(&house, "keys"), before, "a start writes nothing");
    house.decrypt(&blob).unwrap();
    let second = house.create();
    assert_ne!(file(&house, "keys"), before, "a journal is not opened for append again");
    let house = house.reopened();
    house.decrypt(&blob).unwrap();
    house.describe(&second);
}

#[test]
fn a_record_that_a_crash_cut_off_is_dropped_and_what_was_before_stays() {
    let house = new_house();
    let kept = house.create();
    let len = fs::metadata(file(&house, "journal")).unwrap().len();
    let lost = house.create();
    let journal = file(&house, "journal");
    let whole = fs::read(&journal).unwrap();
    for cut in [1, 20, whole.len() - usize::try_from(len).unwrap()] {
        fs::write(&journal, &whole[..whole.len() - cut]).unwrap();
        let kms = reopen(&house).unwrap();
        let arns: Vec<String> = kms.all_keys().into_iter().map(|key| key.arn).collect();
        assert_eq!(arns, std::slice::from_ref(&kept), "cut of {cut}");
        assert!(!arns.contains(&lost));
    }
}

#[test]
fn damage_is_named_with_its_file() {
    let house = new_house();
    house.create();
    house.create();
    for extension in ["keys", "journal"] {
        let path = file(&house, extension);
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let whole = fs::read(&path).unwrap();
        for place in (0..whole.len()).step_by(41) {
            let mut changed = whole.clone();
            changed[place] ^= 4;
            fs::write(&path, changed).unwrap();
            let error = reopen(&house).err().map(|error| error.to_string());
            let error = error.unwrap_or_else(|| panic!("byte {place} of {name} not noticed"));
            assert!(error.contains(&name), "{error}");
        }
        fs::remove_file(&path).unwrap();
        assert!(reopen(&house).err().expect("gone").to_string().contains(&name));
        fs::write(&path, &whole).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(reopen(&house).err().unwrap().to_string().contains("0644"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    assert_eq!(reopen(&house).unwrap().all_keys().len(), 2);
}

#[test]
fn a_crash_between_a_checkpoint_and_the_removal_of_the_one_before_is_tidied() {
    let house = new_house();
    let key = house.create();
    let older: Vec<_> = ["keys", "journal"]
        .map(|it| file(&house, it))
        .into_iter()
        .map(|it| (it.clone(), fs::read(it).unwrap()))
        .collect();
    let house = house.reopened();
    let second = house.create();
    for (path, bytes) in &older {
        fs::write(path, bytes).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    // an unfinished next checkpoint, whose journal was made first
    fs::write(house.path().join("00000000000000000009.journal"), b"").unwrap();
    let house = house.reopened();
    let mut arns: Vec<String> = house.kms.all_keys().into_iter().map(|key| key.arn).collect();
    arns.sort_unstable();
    let mut expected = vec![key, second];
    expected.sort_unstable();
    assert_eq!(arns, expected);
    assert!(older.iter().all(|(path, _)| !path.exists()), "older files are gone");
    file(&house, "journal");
}

#[test]
fn a_deleted_key_is_gone_from_memory_and_files_when_its_day_has_come() {
    let house = new_house();
    let key = house.create();
    let kept = house.create();
    let blob = house.encrypt(&key, b"x").unwrap().ciphertext_blob;
    house.schedule_deletion(&key);
    house.clock.advance(7 * DAY - 1);
    assert_eq!(house.describe(&key).key_state, KeyState::PendingDeletion);
    let older = [file(&house, "keys"), file(&house, "journal")];
    house.clock.advance(1);
    house.kms.run_due().unwrap();
    assert!(older.iter().all(|path| !path.exists()), "files that hold its material are gone");
    let describe = DescribeKeyRequest { key_id: key.clone(), ..Default::default() };
    assert_refused(house.root(&describe).map(|_| ()), "NotFoundException");
    let decrypt = DecryptRequest { ciphertext_blob: blob, key_id: Some(key), ..Default::default() };
    assert_refused(house.root(&decrypt).map(|_| ()), "NotFoundException");
    assert_eq!(house.kms.state.read().keys.len(), 1);
    let house = house.reopened();
    house.describe(&kept);
}

#[test]
fn no_secret_is_in_the_clear_in_any_file() {
    let house = new_house();
    let key = house.create();
    house.root(&RotateKeyOnDemandRequest { key_id: key }).unwrap();
    let user = house.kms.create_user("ann", None).unwrap();
    let mut secrets = vec![user.secret_access_key.as_bytes().to_vec()];
    for key in house.kms.state.read().keys.values() {
        for material in &key.materials {
            let bytes = material.bytes.as_ref().unwrap().expose_bytes();
            secrets.extend([bytes.to_vec(), hex::encode(bytes).into_bytes()]);
        }
    }
    assert_eq!(secrets.len(), 5);
    let house = house.reopened();
    house.create();
    for (path, bytes) in bytes_of_files(&house.path()) {
        for secret in &secrets {
            let is_found = bytes.windows(secret.len()).any(|window| window == &secret[..]);
            assert!(!is_found, "{}", path.display());
        }
    }
}

#[test]
fn a_store_of_the_former_format_is_taken_over() {
    use coffer_crypto::{DocumentKind, SealedDocument};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kms");
    fs::create_dir(&path).unwrap();
    let root = create_root_key(&path.join("root.key")).unwrap();
    let arn = "arn:aws:kms:eu-west-1:111122223333:key/k";
    let json = serde_json::json!({
        "account": "111122223333", "region": "eu-west-1",
        "keys": [{"arn": arn, "description": "old", "created_at_millis": START, "enabled": true,
            "deletion_at_millis": null, "pending_window_days": null,
            "material_id": "ab".repeat(32), "material": "07".repeat(32)}],
        "aliases": {"alias/a": arn},
    });
    let bytes = json.to_string();
    let sealed = SealedDocument::seal(&root, DocumentKind::KmsStore, 4, bytes.as_bytes()).unwrap();
    durable::publish(&path, "00000000000000000004.keys", &sealed).unwrap();
    let material = coffer_crypto::WrappingKey::from_slice(&[7; 32]).unwrap();
    let pairs = context(&[("a", "b")]);
    let blob = crate::blob::seal(arn, &"ab".repeat(32), &material, &pairs, b"secret").unwrap();
    let options = KmsOptions { must_exist: true, ..Default::default() };
    for _ in 0..2 {
        let kms = Kms::open(&path, &options, ManualClock::at(START)).unwrap();
        let request = DecryptRequest {
            ciphertext_blob: blob.clone().into(),
            encryption_context: pairs.clone(),
            key_id: Some("alias/a".to_owned()),
            ..Default::default()
        };
        let opened = kms.perform(&Kms::operator(), &request).unwrap();
        assert_eq!(&*opened.plaintext, b"secret");
        assert_eq!((kms.account(), kms.region()), ("111122223333".into(), "eu-west-1".into()));
    }
    assert!(!path.join("00000000000000000004.keys").exists());
}

#[test]
fn a_change_that_cannot_be_stored_is_refused_and_made_up_for() {
    let house = new_house();
    let key = house.create();
    // a folder under the name of the next journal's predecessor makes the directory unwritable
    let path = house.path();
    let house = house.reopened();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o500)).unwrap();
    let is_superuser = fs::write(path.join("probe"), b"").is_ok();
    let made = house.root(&CreateKeyRequest::default()).map(|_| ());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    if !is_superuser {
        assert_refused(made, "KMSInternalException");
    }
    house.encrypt(&key, b"x").unwrap();
    let after = house.create();
    house.reopened().describe(&after);
}

#[test]
fn changes_at_the_same_time_are_all_durable() {
    let house = new_house();
    let key = house.create();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (house, key) = (&house, &key);
            scope.spawn(move || {
                for n in 0..50 {
                    let request = CreateGrantRequest {
                        key_id: key.clone(),
                        grantee_principal: Some("arn:aws:iam::000000000000:role/r".to_owned()),
                        operations: vec!["Decrypt".to_owned()],
                        name: Some(format!("{thread}-{n}")),
                        ..Default::default()
                    };
                    house.root(&request).unwrap();
                }
            });
        }
    });
    let house = house.reopened();
    let id = key.rsplit('/').next().unwrap();
    assert_eq!(house.kms.state.read().grants[id].len(), 400);
}
