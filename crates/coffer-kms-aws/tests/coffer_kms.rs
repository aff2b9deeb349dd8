//! The provider against Coffer's own KMS server: signed requests, users, policies, grants, states.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use coffer_crypto::{
    KeyRecord, RootKey,
    clock::{Clock, SystemClock},
};
use coffer_keys::{
    EmbeddedKms, EmbeddedKmsOptions, EncryptionSpecification, ErrorClass, GrantNames, KeyArn,
    KeyError, Keyring, KeyringOptions, NewKey, NewKeys, TableName, encryption_context,
};
use coffer_kms::http::{Peer, serve_connection};
use coffer_kms_aws::{AwsKms, AwsKmsOptions, KmsThread};
use std::{
    fs,
    io::Write,
    sync::{Arc, Mutex},
};
use tokio::net::TcpListener;

struct Fixture {
    _dir: tempfile::TempDir,
    kms: Arc<EmbeddedKms>,
    _server: KmsThread,
    endpoint: String,
}

/// A KMS server with one user, who may do what the operator of a database grants it, and whose
/// credentials are in a profile of the shared file.
async fn fixture(profile: &str, policy: &str) -> (Fixture, AwsKmsOptions) {
    let dir = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let kms =
        EmbeddedKms::open(&dir.path().join("kms"), &EmbeddedKmsOptions::default(), clock).unwrap();
    let user = kms.kms().create_user(profile, Some(policy)).unwrap();
    add_to_shared_file(&user.to_section(profile, "us-east-1"));
    let server = KmsThread::start("kms-server", || ()).unwrap();
    let (bound, address) = tokio::sync::oneshot::channel();
    let served = Arc::clone(kms.kms());
    server.handle().spawn(async move {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        bound.send(listener.local_addr().unwrap()).unwrap();
        while let Ok((stream, peer)) = listener.accept().await {
            let peer = Peer { address: peer.ip(), tls: None };
            tokio::spawn(serve_connection(stream, Arc::clone(&served), peer));
        }
    });
    let endpoint = format!("http://{}", address.await.unwrap());
    let options = AwsKmsOptions {
        region: "us-east-1".into(),
        endpoint: Some(endpoint.clone()),
        profile: Some(profile.into()),
        principal_arn: Some(user.arn),
        ..AwsKmsOptions::default()
    };
    (Fixture { _dir: dir, kms, _server: server, endpoint }, options)
}

/// Adds a section to the shared file of this program; the environment names it before anything reads
/// it.
#[expect(unsafe_code, reason = "the environment of a test program")]
fn add_to_shared_file(section: &str) {
    static FILE: Mutex<Option<tempfile::TempDir>> = Mutex::new(None);
    let mut file = FILE.lock().unwrap();
    let dir = file.get_or_insert_with(|| {
        let dir = tempfile::tempdir().unwrap();
        // SAFETY: once, before the program reads the environment
        unsafe { std::env::set_var("AWS_SHARED_CREDENTIALS_FILE", dir.path().join("file")) };
        // SAFETY: as above
        unsafe { std::env::set_var("AWS_CONFIG_FILE", "/nonexistent") };
        dir
    });
    // what others read of it meanwhile stays as it is
    let mut options = fs::OpenOptions::new();
    let mut file = options.create(true).append(true).open(dir.path().join("file")).unwrap();
    file.write_all(format!("\n{section}").as_bytes()).unwrap();
}

async fn keyring(options: AwsKmsOptions) -> Arc<Keyring> {
    let thread = Arc::new(KmsThread::start("kms-client", || ()).unwrap());
    let provider = AwsKms::new(options, thread).await.unwrap();
    let root = RootKey::generate().unwrap();
    Keyring::new(Arc::new(provider), root, Arc::new(SystemClock), KeyringOptions::default())
}

fn table() -> TableName {
    TableName::new([1; 16], "ks", "t")
}

async fn new_record(keyring: &Arc<Keyring>, arn: &str) -> Result<KeyRecord, KeyError> {
    let specification = EncryptionSpecification::CustomerManaged(KeyArn::parse(arn).unwrap());
    let context = encryption_context(&table(), "000000000000");
    let names = GrantNames { data: "d".into(), snapshot: "s".into() };
    let new = NewKeys {
        specification: &specification,
        context: &context,
        grants: Some(&names),
        double_wrapped: true,
    };
    keyring.describe(&table(), &specification).await?;
    let prepared = keyring.new_record(&table(), new).await.map_err(|failed| failed.error)?;
    Ok(prepared.record().clone())
}

const CONTROL: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":
    ["kms:DescribeKey","kms:CreateGrant","kms:RetireGrant","kms:ListGrants"],"Resource":"*"}]}"#;

#[tokio::test]
async fn a_table_lives_by_its_grants_on_a_server_of_its_own() {
    let (f, options) = fixture("coffer", CONTROL).await;
    let arn = f.kms.create_key(NewKey::default()).unwrap().arn;
    let keyring = keyring(options).await;
    let record = new_record(&keyring, &arn).await.unwrap();
    assert_eq!(record.grants.len(), 2);
    keyring.open(&table(), &record).await.unwrap();
    for result in keyring.check(&table(), &record).await {
        assert!(result.outcome.is_ok(), "{result:?}");
    }
    let rewrapped = keyring.rewrap(&table(), &record).await.unwrap();
    assert_ne!(rewrapped.blob, record.blob);
    keyring.flush(None);
    keyring.open(&table(), &rewrapped).await.unwrap();

    f.kms.disable_key(&arn).unwrap();
    keyring.flush(None);
    let error = keyring.open(&table(), &rewrapped).await.unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with(&format!("KMS key disabled error: {arn} is disabled.")), "{text}");
    f.kms.enable_key(&arn).unwrap();
    keyring.open(&table(), &rewrapped).await.unwrap();

    for grant in &record.grants {
        keyring.retire_grant(&table(), &grant.key_arn, &grant.grant_id).await.unwrap();
        keyring.retire_grant(&table(), &grant.key_arn, &grant.grant_id).await.unwrap();
    }
    keyring.flush(None);
    let error = keyring.open(&table(), &rewrapped).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Definitive);
    assert!(error.to_string().contains("missing permission kms:Decrypt"), "{error}");
}

#[tokio::test]
async fn keys_that_are_not_there_and_credentials_that_are_wrong_are_told_apart() {
    let (f, options) = fixture("wrong", CONTROL).await;
    let nowhere = "arn:aws:kms:us-east-1:000000000000:key/11111111-1111-1111-1111-111111111111";
    let right = keyring(options.clone()).await;
    let error = new_record(&right, nowhere).await.unwrap_err();
    assert!(error.to_string().starts_with("KMS key not found error: "), "{error}");
    assert!(error.to_string().contains("no such key"), "{error}");

    add_to_shared_file("[forged]\naws_access_key_id = AKIDNOBODY\naws_secret_access_key = x\n");
    assert_eq!(options.endpoint, Some(f.endpoint.clone()));
    let forged = keyring(AwsKmsOptions { profile: Some("forged".into()), ..options }).await;
    let error = new_record(&forged, nowhere).await.unwrap_err();
    assert!(matches!(error, KeyError::Credentials(_)), "{error}");
    assert!(error.to_string().starts_with("KMS credentials error: "), "{error}");
}
