//! The provider against a canned KMS: what it sends, and what it makes of answers.
#![expect(clippy::expect_used, reason = "a test that cannot go on ends")]

mod canned;

use canned::{Answer, CannedKms, Request};
use coffer_keys::{
    CreateGrantRequest, DecryptRequest, EncryptionContext, ErrorClass, GenerateDataKeyRequest,
    GrantKind, KeyState, KmsError, KmsProvider, ReEncryptRequest,
};
use coffer_kms_aws::{AwsKms, AwsKmsOptions, KmsThread};
use std::sync::Arc;

const ARN: &str = "arn:aws:kms:us-east-1:000000000000:key/k";

struct Fixture {
    kms: CannedKms,
    provider: AwsKms,
    _thread: KmsThread,
}

async fn fixture(answering: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Fixture {
    let thread = KmsThread::start("canned", || ()).expect("a thread");
    let kms = CannedKms::start(&thread, answering).await.expect("a port");
    let provider = canned::provider(&kms, || ()).await;
    Fixture { kms, provider, _thread: thread }
}

fn context() -> EncryptionContext {
    [("aws:cassandra:tableName", "t"), ("tenant", "acme")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

async fn decrypt(provider: &AwsKms) -> Result<Vec<u8>, KmsError> {
    let context = context();
    let request = DecryptRequest {
        key: ARN,
        blob: b"blob",
        context: &context,
        grant_tokens: &["token".to_owned()],
        dry_run: false,
        principal: None,
    };
    provider.decrypt(request).await.map(|opened| opened.plaintext.to_vec())
}

fn good(request: &Request) -> Answer {
    let body = match request.operation.as_str() {
        "DescribeKey" => format!(
            r#"{{"KeyMetadata":{{"AWSAccountId":"0","Arn":"{ARN}","KeyId":"k","CreationDate":1.5,
            "KeyState":"PendingDeletion","Enabled":false,"KeyUsage":"ENCRYPT_DECRYPT",
            "KeySpec":"SYMMETRIC_DEFAULT","DeletionDate":86400.0,"CurrentKeyMaterialId":"m"}}}}"#
        ),
        "CreateGrant" => r#"{"GrantId":"id","GrantToken":"token"}"#.to_owned(),
        "RetireGrant" => String::new(),
        "ReEncrypt" => format!(
            r#"{{"CiphertextBlob":"bmV3","SourceKeyId":"{ARN}","KeyId":"{ARN}",
            "DestinationKeyMaterialId":"m2"}}"#
        ),
        _ => format!(
            r#"{{"CiphertextBlob":"YmxvYg==","Plaintext":"cGxhaW4=","KeyId":"{ARN}",
            "KeyMaterialId":"m"}}"#
        ),
    };
    Some((200, body))
}

#[tokio::test]
async fn every_operation_is_sent_and_its_answer_understood() {
    let f = fixture(good).await;
    let context = context();
    let described = f.provider.describe_key(ARN).await.unwrap();
    assert_eq!((described.key_state, described.arn.as_str()), (KeyState::PendingDeletion, ARN));
    assert_eq!(described.deletion_date, Some(86_400.0));
    for kind in [GrantKind::Data, GrantKind::Snapshot] {
        let request = CreateGrantRequest { key: ARN, kind, context: &context, name: "name" };
        assert_eq!(f.provider.create_grant(request).await.unwrap().grant_id, "id");
    }
    f.provider.retire_grant(ARN, "id").await.unwrap();
    let tokens = ["token".to_owned()];
    let request = GenerateDataKeyRequest {
        key: ARN,
        context: &context,
        grant_tokens: &tokens,
        dry_run: true,
    };
    let made = f.provider.generate_data_key(request).await.unwrap();
    assert_eq!((made.plaintext.as_slice(), made.blob.as_slice()), (&b"plain"[..], &b"blob"[..]));
    assert_eq!(decrypt(&f.provider).await.unwrap(), b"plain");
    let request = ReEncryptRequest {
        blob: b"blob",
        source_key: ARN,
        source_context: &context,
        destination_key: ARN,
        destination_context: &context,
    };
    let new = f.provider.re_encrypt(request).await.unwrap();
    assert_eq!((new.blob.as_slice(), new.key_material_id.as_deref()), (&b"new"[..], Some("m2")));

    let requests = f.kms.requests.lock().unwrap().clone();
    let has = |index: usize, parts: &[&str]| {
        let request: &Request = &requests[index];
        for part in parts {
            assert!(request.body.contains(part), "{part} in {}", request.body);
        }
    };
    let (own, grants) = ("arn:aws:iam::1:user/coffer", "EncryptionContextSubset");
    has(1, &[own, grants, "acme", "GenerateDataKey", "RetireGrant", "\"Name\":\"name\""]);
    has(2, &["ReEncryptFrom", grants, "\"RetiringPrincipal\""]);
    assert!(
        !requests[2].body.contains("GenerateDataKey") && !requests[2].body.contains("Encrypt\"")
    );
    has(4, &["\"DryRun\":true", "\"GrantTokens\":[\"token\"]", "AES_256", "\"tenant\":\"acme\""]);
    has(5, &[ARN, "\"GrantTokens\":[\"token\"]"]);
    assert!(!requests[5].body.contains("DryRun"));
}

#[tokio::test]
async fn calls_are_signed_and_name_coffer() {
    let f = fixture(good).await;
    f.provider.describe_key(ARN).await.unwrap();
    let requests = f.kms.requests.lock().unwrap().clone();
    let head = requests[0].head.to_lowercase();
    let agent = concat!("user-agent: coffer/", env!("CARGO_PKG_VERSION"), " aws-sdk-rust/");
    assert!(head.contains(agent), "{head}");
    assert!(head.contains("credential=akidexample/") && head.contains("/us-east-1/kms/"), "{head}");
}

#[tokio::test]
async fn exceptions_keep_their_name_and_text_in_every_form() {
    let denied = "User: arn:aws:iam::1:role/a is not authorized to perform: kms:Decrypt on it";
    let cases = [
        (400, r#"{"__type":"DisabledException","message":"k is disabled."}"#.to_owned(),
            "DisabledException", "k is disabled.", ErrorClass::Definitive),
        (400, format!(r#"{{"__type":"AccessDeniedException","Message":"{denied}"}}"#),
            "AccessDeniedException", denied, ErrorClass::Definitive),
        (400, r#"{"__type":"com.amazonaws.kms#KMSInvalidStateException","message":"k is pending import because"}"#.to_owned(),
            "KMSInvalidStateException", "k is pending import because", ErrorClass::Definitive),
        (400, r#"{"__type":"InvalidCiphertextException"}"#.to_owned(),
            "InvalidCiphertextException", "", ErrorClass::Integrity),
        (400, r#"{"__type":"ThrottlingException","message":"slow"}"#.to_owned(),
            "ThrottlingException", "slow", ErrorClass::Transient),
        (400, r#"{"__type":"DryRunOperationException","message":"would"}"#.to_owned(),
            "DryRunOperationException", "would", ErrorClass::Configuration),
        (400, r#"{"__type":"UnrecognizedClientException","message":"who"}"#.to_owned(),
            "UnrecognizedClientException", "who", ErrorClass::Credentials),
        (400, r#"{"__type":"ExpiredTokenException","message":"old"}"#.to_owned(),
            "ExpiredTokenException", "old", ErrorClass::Credentials),
        (400, r#"{"__type":"OfTheFutureException","message":"x"}"#.to_owned(),
            "OfTheFutureException", "x", ErrorClass::Ambiguous),
        (500, String::new(), "InternalFailure", "HTTP 500", ErrorClass::Transient),
        (503, "<html>".to_owned(), "InternalFailure", "HTTP 503", ErrorClass::Transient),
    ];
    for (status, body, name, message, class) in cases {
        let sent = body.clone();
        let f = fixture(move |_| Some((status, sent.clone()))).await;
        let error = decrypt(&f.provider).await.unwrap_err();
        assert_eq!((error.name(), error.class()), (name, class), "{status} {body}: {error}");
        assert!(error.message().contains(message), "{body}: {error}");
        let attempts = f.kms.operations().len();
        assert!((1..=2).contains(&attempts), "{attempts} attempts");
    }
}

#[tokio::test]
async fn answers_that_cannot_be_read_or_do_not_come_are_transient() {
    let bodies = ["", "{", "{}", "[]", "null", r#"{"Plaintext":"%%%","KeyId":"k"}"#];
    for body in bodies {
        let f = fixture(move |_| Some((200, body.to_owned()))).await;
        let error = decrypt(&f.provider).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Transient, "{body}: {error}");
        let error = f.provider.describe_key(ARN).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Transient, "{body}: {error}");
    }
    let f = fixture(|_| None).await;
    let error = decrypt(&f.provider).await.unwrap_err();
    assert_eq!((error.name(), error.class()), ("ConnectionFailure", ErrorClass::Transient));
    let closed = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let options = AwsKmsOptions {
        region: "us-east-1".into(),
        endpoint: Some(closed),
        ..AwsKmsOptions::default()
    };
    let thread = Arc::new(KmsThread::start("client", || ()).unwrap());
    let provider = AwsKms::new(options, thread).await.unwrap();
    let error = decrypt(&provider).await.unwrap_err();
    assert_eq!((error.name(), error.class()), ("ConnectionFailure", ErrorClass::Transient));
}

#[tokio::test]
async fn missing_credentials_are_the_operators_matter_and_ask_nobody() {
    let f = fixture(good).await;
    let options = AwsKmsOptions {
        region: "us-east-1".into(),
        endpoint: Some(f.kms.endpoint.clone()),
        profile: Some("nobody-has-this-profile".into()),
        assume_role_arn: None,
        ..AwsKmsOptions::default()
    };
    let thread = Arc::new(KmsThread::start("client", || ()).unwrap());
    let provider = AwsKms::new(options, thread).await.unwrap();
    let error = decrypt(&provider).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Credentials, "{error}");
    assert_eq!(error.name(), "MissingCredentials");
    assert!(f.kms.operations().is_empty());
}

#[tokio::test]
async fn a_role_is_assumed_and_its_session_signs() {
    let f = fixture(|request: &Request| {
        if request.operation != "sts" {
            return good(request);
        }
        let role = if request.body.contains("role%2Fann") { "ANN" } else { "COFFER" };
        Some((
            200,
            format!(
                "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
                 <AssumeRoleResult><Credentials><AccessKeyId>AKID{role}</AccessKeyId>\
                 <SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>\
                 <Expiration>2999-01-01T00:00:00Z</Expiration></Credentials>\
                 </AssumeRoleResult></AssumeRoleResponse>"
            ),
        ))
    })
    .await;
    let options = AwsKmsOptions {
        region: "us-east-1".into(),
        endpoint: Some(f.kms.endpoint.clone()),
        data_role_arn: Some("arn:aws:iam::1:role/data".into()),
        control_role_arn: Some("arn:aws:iam::1:role/control".into()),
        ..AwsKmsOptions::default()
    };
    let thread = Arc::new(KmsThread::start("client", || ()).unwrap());
    let provider = AwsKms::new(options, thread).await.unwrap();
    decrypt(&provider).await.unwrap();
    let context = context();
    let request = DecryptRequest {
        key: ARN,
        blob: b"blob",
        context: &context,
        grant_tokens: &[],
        dry_run: false,
        principal: Some("arn:aws:iam::1:role/ann"),
    };
    provider.decrypt(request).await.unwrap();
    let request =
        CreateGrantRequest { key: ARN, kind: GrantKind::Snapshot, context: &context, name: "n" };
    provider.create_grant(request).await.unwrap();
    let requests = f.kms.requests.lock().unwrap().clone();
    let signers: Vec<_> = requests
        .iter()
        .filter(|request| request.operation == "Decrypt")
        .map(|request| request.head.contains("AKIDANN"))
        .collect();
    assert_eq!(signers, [false, true]);
    let grant = requests.iter().find(|request| request.operation == "CreateGrant").unwrap();
    assert!(grant.head.contains("AKIDCOFFER"), "{}", grant.head);
    assert!(grant.body.contains("role/control") && !grant.body.contains("role/data"));
}

/// As an instance that is given another profile while the server runs.
#[tokio::test]
async fn a_changed_caller_is_another_identity_whatever_the_options_say() {
    let f = fixture(|request: &Request| {
        let name = ["AKIDONE", "AKIDTWO"].into_iter().find(|id| request.head.contains(id))?;
        let role = if name == "AKIDONE" { "one" } else { "two" };
        Some((
            200,
            format!(
                "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
                 <GetCallerIdentityResult><Arn>arn:aws:sts::1:assumed-role/{role}/i-0</Arn>\
                 <UserId>u</UserId><Account>1</Account></GetCallerIdentityResult>\
                 </GetCallerIdentityResponse>"
            ),
        ))
    })
    .await;
    let directory = tempfile::tempdir().unwrap();
    let credentials = directory.path().join("credentials");
    let become_caller = |id: &str| {
        let text = format!(
            r#"{{"Version":1,"AccessKeyId":"{id}","SecretAccessKey":"s","SessionToken":"t",
            "Expiration":"2999-01-01T00:00:00Z"}}"#
        );
        std::fs::write(&credentials, text).unwrap();
    };
    become_caller("AKIDONE");
    let process = format!("credential_process = cat {}", credentials.display());
    std::fs::write(canned::CONFIG_FILE, format!("[profile changing]\n{process}\n")).unwrap();
    let options = AwsKmsOptions {
        region: "us-east-1".into(),
        endpoint: Some(f.kms.endpoint.clone()),
        profile: Some("changing".into()),
        principal_arn: Some("arn:aws:iam::1:role/said".into()),
        ..AwsKmsOptions::default()
    };
    let thread = Arc::new(KmsThread::start("client", || ()).unwrap());
    let provider = AwsKms::new(options, thread).await.unwrap();
    let one = provider.identity(ARN).await.unwrap();
    assert!(one.contains("role/one"), "{one}");
    assert_eq!(provider.identity(ARN).await.unwrap(), one);
    assert_eq!(f.kms.operations(), ["sts"], "asked once for the same credentials");
    become_caller("AKIDTWO");
    let two = provider.identity(ARN).await.unwrap();
    assert!(two.contains("role/two"), "{two}");
    // STS does not say whose these are
    become_caller("AKIDTHREE");
    assert!(provider.identity(ARN).await.is_err());
}
