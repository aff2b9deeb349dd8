//! A KMS as its administrator sees it: through boto3, in a process of its own.
#![expect(
    clippy::indexing_slicing,
    reason = "what is missing in a JSON object is null when it is read"
)]

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde_json::{Value, json};

use crate::{Result, python};

/// One client of a KMS. Ends when dropped.
pub struct Boto {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// What a KMS refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Name of the exception.
    pub code: String,
    /// Its text.
    pub message: String,
}

impl Boto {
    /// A client of `endpoint` with the credentials of a section of an AWS credentials file, which trusts
    /// the certificates of `authority` instead of the system's.
    ///
    /// # Errors
    /// When boto3 cannot be installed or started.
    pub fn start(
        endpoint: &str,
        region: &str,
        credentials: &Path,
        profile: &str,
        authority: Option<&Path>,
    ) -> Result<Self> {
        let bin = python::environment("kms-requirements.txt")?;
        let mut command = Command::new(bin.join("python"));
        command.arg(python::folder().join("kms.py")).args([endpoint, region, profile]);
        command.env("AWS_SHARED_CREDENTIALS_FILE", credentials);
        command.env("AWS_EC2_METADATA_DISABLED", "true");
        if let Some(authority) = authority {
            command.env("AWS_CA_BUNDLE", authority);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take().ok_or("no input")?;
        let output = BufReader::new(child.stdout.take().ok_or("no output")?);
        Ok(Self { child, input, output })
    }

    /// Makes a call by its AWS name; the inner result is what the KMS said.
    ///
    /// # Errors
    /// When boto3 itself failed.
    pub fn attempt(
        &mut self,
        operation: &str,
        arguments: Value,
    ) -> Result<std::result::Result<Value, Refused>> {
        let mut line =
            serde_json::to_vec(&json!({"operation": operation, "arguments": arguments}))?;
        line.push(b'\n');
        self.input.write_all(&line)?;
        self.input.flush()?;
        let mut answer = String::new();
        self.output.read_line(&mut answer)?;
        let mut answer: Value = serde_json::from_str(&answer)
            .map_err(|error| format!("{operation}: boto3 ended or printed {answer:?}: {error}"))?;
        if let Some(ok) = answer.get_mut("ok") {
            return Ok(Ok(ok.take()));
        }
        let text = |name: &str| answer["error"][name].as_str().unwrap_or_default().to_owned();
        Ok(Err(Refused { code: text("Code"), message: text("Message") }))
    }

    /// Makes a call that must succeed.
    ///
    /// # Errors
    /// When it is refused.
    pub fn call(&mut self, operation: &str, arguments: Value) -> Result<Value> {
        self.attempt(operation, arguments)?
            .map_err(|refused| format!("{operation}: {refused:?}").into())
    }

    /// The grants of a key.
    ///
    /// # Errors
    /// When the call is refused.
    pub fn grants(&mut self, key: &str) -> Result<Vec<Value>> {
        let mut all = Vec::new();
        let mut arguments = json!({"KeyId": key, "Limit": 100});
        loop {
            let mut answer = self.call("ListGrants", arguments.clone())?;
            all.append(answer["Grants"].as_array_mut().ok_or("no grants")?);
            if answer["Truncated"] != json!(true) {
                return Ok(all);
            }
            arguments["Marker"] = answer["NextMarker"].clone();
        }
    }
}

impl Drop for Boto {
    fn drop(&mut self) {
        if self.child.kill().is_ok() && self.child.wait().is_err() {}
    }
}
