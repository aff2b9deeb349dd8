//! `--kms-fault`: a script of faults around the calls to the KMS, for tests.
//!
//! The file is read at each call, so a change counts at once; a missing one means no faults, and one
//! that cannot be read or parsed leaves the rules as they were. Of the rules that fit a call the first
//! one that is not used up applies.

use std::path::{Path, PathBuf};
use std::time::Duration;

use coffer_keys::{KmsError, KmsFuture, KmsHook, KmsOperation, failure};
use parking_lot::Mutex;
use serde::Deserialize;

/// Longest file that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// How soon a held call sees that its rule is gone.
const POLL: Duration = Duration::from_millis(50);

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FaultKind {
    /// It is made after `millis`.
    Delay,
    /// It is not made and fails with `error`.
    Error,
    /// It is not made and fails with `ThrottlingException`.
    Throttle,
    /// It is made, and the connection ends before its answer.
    Drop,
    /// It is made, and its answer is cut short.
    Truncate,
    /// It is held until its rule is gone from the file; then it is made.
    Blackhole,
}

impl FaultKind {
    fn is_before(self) -> bool {
        !matches!(self, Self::Drop | Self::Truncate)
    }
}

/// One rule of the file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    /// Name of the operation, or `*`.
    operation: String,
    /// ARN, or `*`.
    key: String,
    pub(crate) fault: FaultKind,
    /// Name of the exception of `error`.
    #[serde(default)]
    pub(crate) error: Option<String>,
    #[serde(default)]
    pub(crate) millis: u64,
    /// How many calls it applies to; all when missing.
    #[serde(default)]
    count: Option<u64>,
}

impl Rule {
    fn fits(&self, operation: KmsOperation, key: &str) -> bool {
        (self.operation == "*" || self.operation == operation.to_string())
            && (self.key == "*" || self.key == key)
    }
}

/// The rules as last read, and how often each was used.
#[derive(Debug, Default)]
struct Script {
    text: Vec<u8>,
    rules: Vec<(Rule, u64)>,
}

/// A hook that does what the file says.
#[derive(Debug)]
pub(crate) struct KmsFaults {
    path: PathBuf,
    script: Mutex<Script>,
}

impl KmsFaults {
    pub(crate) fn new(path: PathBuf) -> Self {
        let script = Mutex::default();
        Self { path, script }
    }

    /// Takes one use of the first rule that applies.
    fn take(&self, operation: KmsOperation, key: &str, is_before: bool) -> Option<Rule> {
        let mut script = self.script.lock();
        script.reload(&self.path);
        let (rule, used) = script.rules.iter_mut().find(|(rule, used)| {
            rule.fits(operation, key)
                && rule.fault.is_before() == is_before
                && rule.count.is_none_or(|count| *used < count)
        })?;
        *used += 1;
        Some(rule.clone())
    }

    /// Takes one use of the first rule for this operation and a key that `is_key` knows.
    pub(crate) fn take_for(&self, operation: &str, is_key: impl Fn(&str) -> bool) -> Option<Rule> {
        let mut script = self.script.lock();
        script.reload(&self.path);
        let (rule, used) = script.rules.iter_mut().find(|(rule, used)| {
            (rule.operation == "*" || rule.operation == operation)
                && (rule.key == "*" || is_key(&rule.key))
                && rule.count.is_none_or(|count| *used < count)
        })?;
        *used += 1;
        Some(rule.clone())
    }

    /// Waits until a rule is gone from the file.
    pub(crate) async fn hold(&self, rule: &Rule) {
        while self.has(rule) {
            tokio::time::sleep(POLL).await;
        }
    }

    fn has(&self, rule: &Rule) -> bool {
        let mut script = self.script.lock();
        script.reload(&self.path);
        script.rules.iter().any(|(other, _)| other == rule)
    }

    async fn apply(&self, operation: KmsOperation, rule: Rule) -> Result<(), KmsError> {
        tracing::debug!(%operation, fault = ?rule.fault, "scripted KMS fault");
        let refused = |name: &str, what: &str| Err(KmsError::new(operation, name, what));
        match rule.fault {
            FaultKind::Delay => {
                tokio::time::sleep(Duration::from_millis(rule.millis)).await;
                Ok(())
            }
            FaultKind::Error => {
                let name = rule.error.as_deref().unwrap_or("KMSInternalException");
                refused(name, "scripted fault")
            }
            FaultKind::Throttle => refused("ThrottlingException", "Rate exceeded"),
            FaultKind::Drop => refused(failure::CONNECTION, "connection ended before the answer"),
            FaultKind::Truncate => refused(failure::RESPONSE, "the answer is cut short"),
            FaultKind::Blackhole => {
                self.hold(&rule).await;
                Ok(())
            }
        }
    }

    async fn around(
        &self,
        operation: KmsOperation,
        key: &str,
        is_before: bool,
    ) -> Result<(), KmsError> {
        match self.take(operation, key, is_before) {
            Some(rule) => self.apply(operation, rule).await,
            None => Ok(()),
        }
    }
}

impl Script {
    fn reload(&mut self, path: &Path) {
        let read = match std::fs::metadata(path) {
            Ok(file) if file.len() > FILE_BYTES_MAX => return,
            Ok(_) => std::fs::read(path),
            Err(error) => Err(error),
        };
        let text = match read {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                *self = Self::default();
                return;
            }
            Err(_) => return,
        };
        if text == self.text {
            return;
        }
        match serde_json::from_slice::<Vec<Rule>>(&text) {
            Ok(rules) => {
                self.rules = rules.into_iter().map(|rule| (rule, 0)).collect();
                self.text = text;
            }
            // perhaps it is being written
            Err(error) => {
                tracing::warn!(%error, "file of --kms-fault is not understood, its rules stay");
            }
        }
    }
}

impl KmsHook for KmsFaults {
    fn before<'a>(&'a self, operation: KmsOperation, key: &'a str) -> KmsFuture<'a, ()> {
        Box::pin(self.around(operation, key, true))
    }

    fn after<'a>(&'a self, operation: KmsOperation, key: &'a str) -> KmsFuture<'a, ()> {
        Box::pin(self.around(operation, key, false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coffer_keys::ErrorClass;

    const KEY: &str = "arn:aws:kms:us-east-1:000000000000:key/k";

    async fn call(faults: &KmsFaults, operation: KmsOperation) -> Result<(), KmsError> {
        faults.before(operation, KEY).await?;
        faults.after(operation, KEY).await
    }

    fn script(text: &str) -> (tempfile::TempDir, KmsFaults) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("faults.json");
        std::fs::write(&path, text).unwrap();
        (directory, KmsFaults::new(path))
    }

    #[tokio::test]
    async fn a_rule_fails_its_operation_and_key_as_often_as_it_says() {
        let (_directory, faults) = script(&format!(
            r#"[{{"operation": "Decrypt", "key": "{KEY}", "fault": "error",
                  "error": "DisabledException", "millis": 0, "count": 2}},
                {{"operation": "*", "key": "other", "fault": "throttle"}},
                {{"operation": "DescribeKey", "key": "*", "fault": "drop", "count": null}}]"#
        ));
        for _ in 0..2 {
            let error = call(&faults, KmsOperation::Decrypt).await.unwrap_err();
            assert_eq!(error.class(), ErrorClass::Definitive);
        }
        call(&faults, KmsOperation::Decrypt).await.unwrap();
        call(&faults, KmsOperation::GenerateDataKey).await.unwrap();
        faults.before(KmsOperation::DescribeKey, KEY).await.unwrap();
        let lost = faults.after(KmsOperation::DescribeKey, KEY).await;
        assert_eq!(lost.unwrap_err().class(), ErrorClass::Transient);
    }

    #[tokio::test]
    async fn a_held_call_goes_on_when_its_rule_is_gone() {
        let (_directory, faults) =
            script(r#"[{"operation": "*", "key": "*", "fault": "blackhole"}]"#);
        let path = faults.path.clone();
        let mut held = Box::pin(call(&faults, KmsOperation::Decrypt));
        let waited = tokio::time::timeout(2 * POLL, &mut held).await;
        assert!(waited.is_err(), "the call is held");
        std::fs::write(&path, "[{").unwrap();
        let waited = tokio::time::timeout(2 * POLL, &mut held).await;
        assert!(waited.is_err(), "half a file changes nothing");
        std::fs::remove_file(&path).unwrap();
        held.await.unwrap();
    }
}
