//! Unmodified boto3 and awscli, from PyPI in a virtual environment below the target folder, against
//! `coffer kms serve`.
#![expect(
    clippy::indexing_slicing,
    reason = "what is missing in a JSON object is null when it is read"
)]

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use cql_tests::{
    KmsService, Result, SERVICE_REGION,
    python::{environment, folder, run},
    run_coffer,
};
use serde_json::Value;

/// What `bob` may do by IAM; `ann` may do nothing.
const BOBS_POLICY: &str = r#"{"Version": "2012-10-17", "Statement":
    {"Effect": "Allow", "Action": "kms:ListKeys", "Resource": "*"}}"#;

#[test]
fn boto3_works_unmodified() -> Result<()> {
    let bin = environment("kms-requirements.txt")?;
    let service = KmsService::start::<&str>(&[], &[])?;
    let policy = service.directory().join("bob.json");
    fs::write(&policy, BOBS_POLICY)?;
    let policy = policy.to_str().ok_or("path")?;
    let mut credentials = fs::read_to_string(service.credentials())?;
    for arguments in [
        ["kms", "create-user", "ann", "--data-dir"].as_slice(),
        ["kms", "create-user", "bob", "--policy", policy, "--data-dir"].as_slice(),
    ] {
        credentials.push_str(&run_coffer(arguments, &service.directory())?);
    }
    let file = service.directory().join("everybody");
    fs::write(&file, credentials)?;
    let output = run(Command::new(bin.join("python"))
        .arg(folder().join("kms_suite.py"))
        .args([format!("http://{}", service.address()), SERVICE_REGION.to_owned()])
        .env("AWS_SHARED_CREDENTIALS_FILE", &file)
        .env("AWS_EC2_METADATA_DISABLED", "true"))?;
    let text = String::from_utf8(output.stdout)?;
    assert!(text.ends_with("all good\n"), "{text}");
    Ok(())
}

/// `aws kms` with the credentials of the account root.
struct Aws<'a> {
    service: &'a KmsService,
    bin: &'a Path,
}

impl Aws<'_> {
    fn run(&self, arguments: &[&str]) -> Result<Output> {
        Ok(Command::new(self.bin.join("aws"))
            .args(["kms", "--output", "json", "--region", SERVICE_REGION, "--endpoint-url"])
            .arg(format!("http://{}", self.service.address()))
            .args(arguments)
            .env("AWS_SHARED_CREDENTIALS_FILE", self.service.credentials())
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .output()?)
    }

    fn call(&self, arguments: &[&str]) -> Result<Value> {
        let output = self.run(arguments)?;
        let (out, err) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
        if !output.status.success() {
            return Err(format!("{arguments:?}: {out}{err}").into());
        }
        if out.trim().is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_str(&out)?) }
    }

    fn refused(&self, arguments: &[&str], wanted: &str) -> Result<()> {
        let output = self.run(arguments)?;
        let err = String::from_utf8(output.stderr)?;
        assert!(!output.status.success(), "{arguments:?} was not refused");
        assert!(err.contains(wanted), "{arguments:?}: {err}");
        Ok(())
    }
}

/// What an administrator does with a key beside using it.
fn policies_rotation_and_grants(aws: &Aws<'_>, key: &str) -> Result<()> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let folder = aws.service.directory();
    let policy = aws.call(&["get-key-policy", "--key-id", key, "--policy-name", "default"])?;
    let file = folder.join("policy.json");
    fs::write(&file, text(&policy["Policy"]).replace("kms:*", "kms:Decrpyt"))?;
    let document = format!("file://{}", file.display());
    let put =
        ["put-key-policy", "--key-id", key, "--policy-name", "default", "--policy", &document];
    aws.refused(&put, "(MalformedPolicyDocumentException)")?;
    fs::write(&file, text(&policy["Policy"]))?;
    aws.call(&put)?;

    aws.call(&["enable-key-rotation", "--key-id", key])?;
    let status = aws.call(&["get-key-rotation-status", "--key-id", key])?;
    assert_eq!(status["KeyRotationEnabled"], true);
    let subset = "--constraints=EncryptionContextSubset={Tenant=blue}";
    let root = "arn:aws:iam::111122223333:root";
    let grant = [
        "create-grant",
        "--key-id",
        key,
        "--grantee-principal",
        root,
        "--operations",
        "Decrypt",
        subset,
    ];
    let granted = aws.call(&grant)?;
    let listed = aws.call(&["list-grants", "--key-id", key])?;
    assert_eq!(listed["Grants"][0]["GrantId"], granted["GrantId"]);
    aws.call(&["revoke-grant", "--key-id", key, "--grant-id", &text(&granted["GrantId"])])?;
    Ok(())
}

#[test]
fn awscli_works_unmodified() -> Result<()> {
    let bin = environment("kms-requirements.txt")?;
    let service = KmsService::start::<&str>(&[], &[])?;
    let aws = Aws { service: &service, bin: &bin };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();

    let made = aws.call(&[
        "create-key",
        "--description",
        "from the shell",
        "--tags",
        "TagKey=a,TagValue=b",
    ])?;
    let key = text(&made["KeyMetadata"]["Arn"]);
    aws.call(&["create-alias", "--alias-name", "alias/shell", "--target-key-id", &key])?;
    let described = aws.call(&["describe-key", "--key-id", "alias/shell"])?;
    assert_eq!(text(&described["KeyMetadata"]["Arn"]), key);

    let folder = service.directory();
    let (plain, sealed) = (folder.join("plain"), folder.join("sealed"));
    fs::write(&plain, b"from a file")?;
    let context = "--encryption-context=Tenant=blue";
    let from = |path: &Path| format!("fileb://{}", path.display());
    let encrypted =
        aws.call(&["encrypt", "--key-id", "alias/shell", "--plaintext", &from(&plain), context])?;
    let decode = |name: &str, path: &Path| -> Result<()> {
        let program =
            "import base64, sys; open(sys.argv[1], 'wb').write(base64.b64decode(sys.argv[2]))";
        run(Command::new(bin.join("python")).args(["-c", program]).arg(path).arg(name)).map(|_| ())
    };
    decode(&text(&encrypted["CiphertextBlob"]), &sealed)?;
    let opened = aws.call(&["decrypt", "--ciphertext-blob", &from(&sealed), context])?;
    decode(&text(&opened["Plaintext"]), &folder.join("opened"))?;
    assert_eq!(fs::read(folder.join("opened"))?, b"from a file");
    aws.refused(&["decrypt", "--ciphertext-blob", &from(&sealed)], "(InvalidCiphertextException)")?;
    let dry = ["decrypt", "--dry-run", "--ciphertext-blob", &from(&sealed), context];
    aws.refused(&dry, "(DryRunOperationException)")?;

    for _ in 0..3 {
        aws.call(&["create-key"])?;
    }
    let all = aws.call(&["list-keys", "--page-size", "2"])?;
    assert_eq!(all["Keys"].as_array().map(Vec::len), Some(4), "{all}");
    let some = aws.call(&["list-keys", "--max-items", "3"])?;
    assert_eq!(some["Keys"].as_array().map(Vec::len), Some(3), "{some}");
    assert!(some["NextToken"].is_string(), "{some}");

    policies_rotation_and_grants(&aws, &key)?;

    aws.call(&["disable-key", "--key-id", &key])?;
    let wanted =
        format!("(DisabledException) when calling the Decrypt operation: {key} is disabled.");
    aws.refused(&["decrypt", "--ciphertext-blob", &from(&sealed), context], &wanted)?;
    let scheduled =
        aws.call(&["schedule-key-deletion", "--key-id", &key, "--pending-window-in-days", "7"])?;
    assert_eq!(scheduled["KeyState"], "PendingDeletion");
    aws.call(&["cancel-key-deletion", "--key-id", &key])?;
    aws.call(&["enable-key", "--key-id", &key])?;
    aws.call(&["decrypt", "--ciphertext-blob", &from(&sealed), context])?;
    aws.refused(
        &["encrypt", "--key-id", "alias/nowhere", "--plaintext", &from(&plain)],
        "(NotFoundException)",
    )
}
