//! Keys of a table that is made from the files of another one.

use super::*;
use crate::{KeySource, SourceAccess};

/// A table with two table keys, each of which a file needs.
struct Source {
    record: KeyRecord,
    files: Vec<(WrappedDataKey, FileIdentity)>,
}

impl Source {
    fn needed(&self) -> HashSet<TableKeyId> {
        self.files.iter().map(|(wrapped, _)| wrapped.table_key_id).collect()
    }
}

async fn source(f: &Fixture, specification: &EncryptionSpecification) -> Source {
    let prepared = f.prepared(1, specification).await.unwrap();
    let first = prepared.record().clone();
    f.keyring.install(prepared);
    let (_, old) = f.keyring.create_data_key(&identity(1, 1)).unwrap();
    let needed = HashSet::from([old.table_key_id]);
    let prepared = f.keyring.renew(&table(1), &first, &needed).await.unwrap();
    let record = prepared.record().clone();
    f.keyring.install(prepared);
    let (_, new) = f.keyring.create_data_key(&identity(1, 2)).unwrap();
    Source { record, files: vec![(old, identity(1, 1)), (new, identity(1, 2))] }
}

const LIVE: SourceAccess<'_> = SourceAccess::Live;
const DROPPED: SourceAccess<'_> = SourceAccess::Dropped { temporary_grant: None };

async fn adopt(
    f: &Fixture,
    source: &Source,
    access: SourceAccess<'_>,
    to: &EncryptionSpecification,
) -> Result<PreparedKeys, KeyChangeError> {
    let (needed, names, context) = (source.needed(), names(2), context(2));
    let name = table(1);
    let source = KeySource { table: &name, record: &source.record, needed: &needed, access };
    f.keyring.adopt(source, &table(2), new_keys(to, &context, &names)).await
}

/// The new table opens all files of the source, also after a restart.
async fn opens(f: &Fixture, source: &Source, prepared: PreparedKeys) {
    let record = prepared.record().clone();
    f.keyring.install(prepared);
    for is_restarted in [false, true] {
        if is_restarted {
            f.keyring.forget(&[2; 16]);
            f.keyring.open(&table(2), &record).await.unwrap();
        }
        for (wrapped, birth) in &source.files {
            f.keyring.unwrap_data_key(&[2; 16], wrapped, birth).unwrap();
        }
        f.keyring.create_data_key(&identity(2, 9)).unwrap();
    }
}

fn drop_source(f: &Fixture, source: &Source, kinds: &[&str]) {
    f.keyring.forget(&[1; 16]);
    let keyring = &f.keyring;
    for grant in source.record.grants.iter().filter(|grant| kinds.contains(&&*grant.kind)) {
        let name = table(1);
        let retired = keyring.retire_grant(&name, &grant.key_arn, &grant.grant_id);
        futures_now(retired).unwrap();
    }
}

/// The embedded KMS's changes run on a thread of their own, so they need a runtime.
fn futures_now<T>(future: impl Future<Output = T>) -> T {
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(future))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_key_can_be_left_and_taken_and_only_what_is_needed_must_be_accessible() {
    for from_cmk in [false, true] {
        for to_cmk in [false, true] {
            for is_accessible in [true, false] {
                let f = fixture();
                let of = |is_cmk: bool| match is_cmk {
                    true => f.specification(),
                    false => EncryptionSpecification::AwsOwned,
                };
                let (from, to) = (of(from_cmk), of(to_cmk));
                let source = source(&f, &from).await;
                if !is_accessible && let Some(arn) = from.arn() {
                    f.kms.disable_key(arn).unwrap();
                }
                let case = format!("{from_cmk} -> {to_cmk}, accessible {is_accessible}");
                let adopted = adopt(&f, &source, LIVE, &to).await;
                if is_accessible || !from_cmk {
                    let prepared = adopted.map_err(|error| format!("{case}: {error}")).unwrap();
                    assert_eq!(prepared.record().older.len(), 2, "{case}");
                    assert_eq!(prepared.record().kms_key_arn.as_deref(), to.arn());
                    assert_eq!(prepared.record().grants.len(), if to_cmk { 2 } else { 0 });
                    // from now on the source's key is needed no more
                    if let Some(arn) = from.arn() {
                        f.kms.disable_key(arn).unwrap();
                    }
                    opens(&f, &source, prepared).await;
                } else {
                    let failed = adopted.err().unwrap_or_else(|| panic!("{case}: adopted"));
                    assert!(matches!(failed.error, KeyError::Definitive(_)), "{case}: {failed}");
                    let text = failed.to_string();
                    assert!(text.contains(from.arn().unwrap()), "{text}");
                    assert!(text.contains("DisabledException"), "{text}");
                    assert!(failed.grants.is_empty(), "nothing was made before: {case}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_key_that_cannot_be_used_is_named_with_the_grants_that_were_made() {
    let f = fixture();
    let source = source(&f, &EncryptionSpecification::AwsOwned).await;
    let to = f.specification();
    f.fail(Some((KmsOperation::GenerateDataKey, "AccessDeniedException")));
    let failed = adopt(&f, &source, LIVE, &to).await.err().unwrap();
    assert!(failed.to_string().contains(to.arn().unwrap()), "{failed}");
    assert_eq!(failed.grants.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_source_is_opened_through_its_snapshot_grant() {
    let f = fixture();
    let (a, b) = (f.specification(), f.specification());
    let source = source(&f, &a).await;
    drop_source(&f, &source, &["data"]);
    let refused = adopt(&f, &source, LIVE, &b).await.err().unwrap();
    assert!(matches!(refused.error, KeyError::Definitive(_)), "{refused}");
    let _ = f.recorder.operations();
    let prepared = adopt(&f, &source, DROPPED, &b).await.unwrap();
    let asked = ["Decrypt", "CreateGrant", "CreateGrant", "GenerateDataKey"];
    assert_eq!(f.recorder.operations(), asked);
    opens(&f, &source, prepared).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_grant_a_temporary_one_is_made_used_and_retired() {
    let f = fixture();
    let (a, b) = (f.specification(), f.specification());
    let source = source(&f, &a).await;
    drop_source(&f, &source, &["data", "snapshot"]);
    let refused = adopt(&f, &source, DROPPED, &b).await.err().unwrap();
    assert!(refused.to_string().contains("kms:Decrypt"), "{refused}");
    assert!(refused.grants.is_empty());

    let _ = f.recorder.operations();
    let access = SourceAccess::Dropped { temporary_grant: Some("t2-source") };
    let prepared = adopt(&f, &source, access, &b).await.unwrap();
    let asked = f.recorder.operations();
    let first = ["Decrypt", "CreateGrant", "Decrypt", "RetireGrant"];
    assert_eq!(asked[..4], first);
    opens(&f, &source, prepared).await;

    // it may be there: not the refusal, after which nothing would be looked for
    *f.gate.lost.lock() = Some(KmsOperation::CreateGrant);
    let failed =
        adopt(&f, &source, access, &EncryptionSpecification::AwsOwned).await.err().unwrap();
    assert!(matches!(failed.error, KeyError::Transient(_)), "{failed}");
    *f.gate.lost.lock() = None;

    f.fail(Some((KmsOperation::RetireGrant, "KMSInternalException")));
    let failed = adopt(&f, &source, access, &b).await.err().unwrap();
    assert_eq!(failed.grants.len(), 1, "the caller retires it later");
    assert_eq!(Some(&*failed.grants[0].key_arn), a.arn());
}

#[tokio::test(flavor = "multi_thread")]
async fn older_keys_that_no_file_needs_are_left_behind() {
    let f = fixture();
    let mut source = source(&f, &f.specification()).await;
    let (old, birth) = source.files.remove(0);
    let prepared = adopt(&f, &source, LIVE, &EncryptionSpecification::AwsOwned).await.unwrap();
    let older: Vec<_> = prepared.record().older.iter().map(|older| older.table_key_id).collect();
    assert_eq!(older, [source.record.table_key_id]);
    f.keyring.install(prepared);
    let gone = f.keyring.unwrap_data_key(&[2; 16], &old, &birth);
    assert!(matches!(gone, Err(Error::UnknownTableKey(id)) if id == old.table_key_id));
}
