//! The KMS of one data directory: the one door to its keys.

use crate::{
    Caller, KmsException, OpenError, Principal,
    api::KeyMetadata,
    audit::{AuditError, AuditLog, AuditOptions, KmsCall, Parameters, is_mutating},
    call::Call,
    due::Due,
    durable,
    operations::{self, Perform},
    policy::{Document, DocumentKind},
    principal::CONTROL_ROLE,
    root_key_file::{create_root_key, load_root_key},
    state::{Change, State},
    store::Store,
    users,
    wiped::to_json,
};
use coffer_crypto::{JournalKind, RootKey, clock::Clock};
use parking_lot::RwLock;
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};
use zeroize::Zeroizing;

/// AWS's limit.
const GRANTS_PER_KEY_MAX: usize = 50_000;
/// After a change that is due could not be stored.
const DUE_RETRY_MILLIS: i64 = 1_000;
/// What IAM lets Coffer's control identity do, on keys whose policy leaves it to IAM.
const CONTROL_POLICY: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":
["kms:DescribeKey","kms:CreateGrant","kms:ListGrants","kms:RetireGrant"],"Resource":"*"}]}"#;
/// The file of the account's own access key.
const CREDENTIALS: &str = "credentials";
/// The directory of the audit log.
const AUDIT: &str = "audit";

/// How a KMS is opened.
#[derive(Clone, Debug)]
pub struct KmsOptions {
    /// Account of new keys; `000000000000` at the first start, kept from then on.
    pub account: Option<String>,
    /// Region of new keys; `us-east-1` at the first start, kept from then on.
    pub region: Option<String>,
    /// Where its root key is; `root.key` in its directory otherwise.
    pub root_key_file: Option<PathBuf>,
    /// Its keys were there before: without them it is damaged, not new.
    pub must_exist: bool,
    /// Most grants on one key.
    pub grants_per_key_max: usize,
}

impl Default for KmsOptions {
    fn default() -> Self {
        Self {
            account: None,
            region: None,
            root_key_file: None,
            must_exist: false,
            grants_per_key_max: GRANTS_PER_KEY_MAX,
        }
    }
}

/// The KMS of one data directory.
///
/// Operations look at the state in memory and never wait for the disk, except that whoever changed
/// something, or saw a change that is not durable yet, waits for that.
pub struct Kms {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) options: KmsOptions,
    /// Held for moments only, never over a write to the disk.
    pub(crate) state: RwLock<State>,
    store: Store,
    /// When the next key is deleted, rotated, or loses its material.
    due_at_millis: AtomicI64,
    control_policy: Document,
    audit: AuditLog,
}

impl Kms {
    /// Opens the KMS in `dir`; creates directory, root key, store and the account's access key
    /// (`dir/credentials`) at the first start.
    ///
    /// # Errors
    /// [`OpenError`] when a file is damaged, open to others, or does not fit the root key; when the
    /// root key or the store is gone; when account or region are not those of the first start.
    pub fn open(
        dir: &Path,
        options: &KmsOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, OpenError> {
        let failed =
            |reason: String| OpenError { action: "open KMS", path: dir.to_owned(), reason };
        durable::create_dir(dir).map_err(|error| failed(error.to_string()))?;
        let default_path = dir.join("root.key");
        let root_path = options.root_key_file.as_deref().unwrap_or(&default_path);
        let has_store = Store::exists(dir).map_err(|error| failed(error.to_string()))?;
        if options.must_exist && !has_store {
            return Err(failed("the file of its keys is missing".to_owned()));
        }
        let root = match load_root_key(root_path)? {
            Some(root) => root,
            None if has_store => {
                let path = root_path.display();
                return Err(failed(format!("its keys are there but its root key is not: {path}")));
            }
            None => create_root_key(root_path)?,
        };
        let audit_root = root.duplicate();
        let control_policy = Document::parse(CONTROL_POLICY, DocumentKind::Identity)
            .map_err(|error| failed(error.to_string()))?;
        let (state, store) = open_store(dir, root, options).map_err(failed)?;
        let due_at_millis = AtomicI64::new(state.due_at_millis().unwrap_or(i64::MAX));
        let state = RwLock::new(state);
        let audit = open_audit(dir, audit_root, &state.read(), &clock)
            .map_err(|error| failed(error.to_string()))?;
        let options = options.clone();
        let kms = Self { clock, options, state, store, due_at_millis, control_policy, audit };
        kms.ensure_root_credentials(dir).map_err(failed)?;
        Ok(Arc::new(kms))
    }

    /// The account, twelve digits.
    #[must_use]
    pub fn account(&self) -> String {
        self.state.read().account.clone()
    }

    /// Its audit log.
    #[must_use]
    pub fn audit_log(&self) -> &AuditLog {
        &self.audit
    }

    /// The Region of new keys.
    #[must_use]
    pub fn region(&self) -> String {
        self.state.read().region.clone()
    }

    /// Performs an operation by its name: JSON in, JSON out (nothing, where an operation answers
    /// nothing).
    ///
    /// # Errors
    /// `UnknownOperationException`, `SerializationException`, and those of the operation.
    pub fn call(
        &self,
        caller: &Caller,
        operation: &str,
        body: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, KmsException> {
        crate::dispatch::call(self, caller, operation, body)
    }

    /// Performs an operation: the same door, for callers in the process.
    ///
    /// # Errors
    /// Those of the operation in AWS's API.
    #[expect(private_bounds, reason = "only this crate knows how operations are performed")]
    pub fn perform<R: Perform>(
        &self,
        caller: &Caller,
        request: &R,
    ) -> Result<R::Response, KmsException> {
        if let Err(error) = self.run_due() {
            tracing::error!(%error, "what is due on keys of the KMS cannot be stored");
        }
        let mut call = Call::new(self, caller, R::OPERATION, Parameters::of(request));
        let result = self.check_audit(R::OPERATION).and_then(|()| request.perform(&mut call));
        // a refusal too may rest on a change that is not durable yet
        let result = call.commit().and(result);
        self.record(&call, result.as_ref().map(Parameters::of))?;
        result
    }

    /// What cannot be recorded must not happen.
    fn check_audit(&self, operation: &str) -> Result<(), KmsException> {
        if !is_mutating(operation) {
            return Ok(());
        }
        self.audit.check().map_err(|error| KmsException::internal(error.to_string()))
    }

    fn record(
        &self,
        call: &Call<'_>,
        outcome: Result<Parameters, &KmsException>,
    ) -> Result<(), KmsException> {
        let request_id = match &call.caller.source.request_id {
            Some(id) => id.clone(),
            None => uuid::Uuid::new_v4().to_string(),
        };
        let event = KmsCall {
            operation: call.operation,
            caller: call.caller,
            account: &call.account,
            parameters: &call.parameters,
            outcome: outcome.as_ref().map_err(|error| *error),
            key_arns: &call.resources,
            request_id: &request_id,
            additional: &call.additional,
        };
        self.audit.record(event).map_err(|error| KmsException::internal(error.to_string()))
    }

    /// As [`Self::perform`], with the answer as JSON.
    pub(crate) fn perform_json<R: Perform>(
        &self,
        caller: &Caller,
        body: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, KmsException> {
        let body = if body.is_empty() { b"{}".as_slice() } else { body };
        let malformed = || KmsException::new("SerializationException", "");
        if body.trim_ascii_start().first() != Some(&b'{') {
            return Err(malformed());
        }
        // serde's text may quote secrets
        let request: R = serde_json::from_slice(body).map_err(|_| malformed())?;
        let response = self.perform(caller, &request)?;
        let json = to_json(&response).map_err(|_| KmsException::internal("answer"))?;
        Ok(if *json == b"null" { Zeroizing::new(Vec::new()) } else { json })
    }

    /// All keys in the order they were made, for the operator.
    #[must_use]
    pub fn all_keys(&self) -> Vec<KeyMetadata> {
        let now = self.clock.key_wall_millis();
        let keys = operations::by_creation(&self.state.read(), now);
        keys.iter().map(|key| operations::metadata(key, now)).collect()
    }

    /// Names of the aliases of a key, by its id.
    #[must_use]
    pub fn aliases_of(&self, key_id: &str) -> Vec<String> {
        self.state.read().aliases_of(key_id)
    }

    /// Does what has become due: deletes keys whose waiting period is over, rotates, drops expired
    /// material. Every operation does so too; a server that wants it on the day calls this now and
    /// then. When it returns, destroyed material is gone from memory and files.
    ///
    /// # Errors
    /// `KMSInternalException` when it cannot be stored; what is gone is unusable all the same.
    pub fn run_due(&self) -> Result<(), KmsException> {
        let now = self.clock.key_wall_millis();
        if now < self.due_at_millis.load(Ordering::Acquire) {
            return Ok(());
        }
        let (sequence, due) = {
            let mut state = self.state.write();
            let mut due = Due::of(&state, now)?;
            if due.changes.is_empty() {
                self.set_due(&state);
                return Ok(());
            }
            let sequence = state.change(std::mem::take(&mut due.changes));
            self.set_due(&state);
            (sequence, due)
        };
        self.commit(sequence, due.destroys).inspect_err(|_| {
            self.due_at_millis.fetch_min(now.saturating_add(DUE_RETRY_MILLIS), Ordering::AcqRel);
        })?;
        for event in due.events {
            self.audit.record(event).map_err(|error| KmsException::internal(error.to_string()))?;
        }
        Ok(())
    }

    pub(crate) fn set_due(&self, state: &State) {
        self.due_at_millis.store(state.due_at_millis().unwrap_or(i64::MAX), Ordering::Release);
    }

    pub(crate) fn commit(&self, sequence: u64, destroys: bool) -> Result<(), KmsException> {
        self.store.commit(&self.state, sequence, destroys).map_err(KmsException::internal)
    }

    /// What IAM lets a role do.
    pub(crate) fn role_policy(&self, role: &str) -> Option<&Document> {
        (role == CONTROL_ROLE).then_some(&self.control_policy)
    }

    fn ensure_root_credentials(&self, dir: &Path) -> Result<(), String> {
        if self.state.read().users.contains_key(users::ROOT) {
            return Ok(());
        }
        let now = self.clock.key_wall_millis();
        let user = users::new_user(users::ROOT, true, now).map_err(|error| error.to_string())?;
        // the file first: an access key nobody knows would be of no use
        let credentials = users::credentials(&user, &self.account());
        let text = credentials.to_section("default", &self.region());
        durable::publish(dir, CREDENTIALS, text.as_bytes()).map_err(|error| error.to_string())?;
        let sequence = self.state.write().change(vec![Change::User(Arc::new(user))]);
        self.store.commit(&self.state, sequence, false)
    }
}

fn open_audit(
    dir: &Path,
    root: RootKey,
    state: &State,
    clock: &Arc<dyn Clock>,
) -> Result<AuditLog, AuditError> {
    let options = AuditOptions {
        dir: dir.join(AUDIT),
        kind: JournalKind::KmsAudit,
        root,
        older_roots: Vec::new(),
        account: state.account.clone(),
        region: state.region.clone(),
    };
    AuditLog::open(options, Arc::clone(clock))
}

fn open_store(dir: &Path, root: RootKey, options: &KmsOptions) -> Result<(State, Store), String> {
    let is_account = |text: &str| text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit());
    let is_region = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let account = options.account.as_deref();
    if let Some(account) = account.filter(|text| !is_account(text)) {
        return Err(format!("account must be 12 digits, account={account}"));
    }
    let region = options.region.as_deref();
    if let Some(region) = region.filter(|text| !is_region(text)) {
        return Err(format!("region must be letters, digits and '-', region={region}"));
    }
    let (stored, store) = Store::open(dir, root)?;
    let Some(state) = stored else {
        let account = account.unwrap_or("000000000000");
        return Ok((State::new(account, region.unwrap_or("us-east-1")), store));
    };
    for (name, given, kept) in
        [("account", account, &state.account), ("region", region, &state.region)]
    {
        if let Some(given) = given.filter(|given| given != kept) {
            return Err(format!("{name} was set at the first start, {name}={kept} given={given}"));
        }
    }
    Ok((state, store))
}

impl Kms {
    /// A call by the account itself from inside the process: the operator's.
    #[must_use]
    pub fn operator() -> Caller {
        Caller::internal(Principal::Root, None)
    }
}

#[cfg(test)]
mod tests;
