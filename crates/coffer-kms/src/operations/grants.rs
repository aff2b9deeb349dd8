//! Grants.

use super::Perform;
use crate::{
    KmsException,
    api::{
        CreateGrantRequest, CreateGrantResponse, GrantConstraints, ListGrantsRequest,
        ListGrantsResponse, ListRetirableGrantsRequest, RetireGrantRequest, RevokeGrantRequest,
    },
    authorize::GrantUse,
    call::Call,
    grant_token::GrantToken,
    paging::Page,
    state::{Change, Grant, Key},
    validation::Validation,
};
use coffer_crypto::random_array;
use std::{collections::BTreeSet, sync::Arc};

type Result<T> = std::result::Result<T, KmsException>;

/// What a grant on a symmetric key can allow.
const SYMMETRIC: [&str; 11] = [
    "Decrypt",
    "Encrypt",
    "GenerateDataKey",
    "GenerateDataKeyWithoutPlaintext",
    "ReEncryptFrom",
    "ReEncryptTo",
    "CreateGrant",
    "RetireGrant",
    "DescribeKey",
    "GenerateDataKeyPair",
    "GenerateDataKeyPairWithoutPlaintext",
];
/// What a grant on other keys can allow besides.
const OTHERS: [&str; 6] =
    ["Sign", "Verify", "GetPublicKey", "GenerateMac", "VerifyMac", "DeriveSharedSecret"];
const PAIRS_MAX: usize = 8;
const PAIR_LEN_MAX: usize = 384;

impl Perform for CreateGrantRequest {
    fn perform(&self, call: &mut Call<'_>) -> Result<CreateGrantResponse> {
        let grantee = self.check()?;
        let key = call.find_by_id(&self.key_id)?;
        call.authorize(
            &key,
            "CreateGrant",
            GrantUse::Parent {
                operations: &self.operations,
                constraints: self.constraints.as_ref(),
            },
        )?;
        call.check_usable(&key)?;
        self.check_operations(&key)?;
        call.check_grant_tokens(&self.grant_tokens)?;
        call.check_dry_run(self.dry_run)?;
        let grant = self.grant(call, &key, grantee)?;
        let max = call.kms.options.grants_per_key_max;
        let id = call.change(|state| {
            let grants = state.grants.get(key.id());
            let named = grants.map_or(&[][..], |grants| grants.named(&grant.name));
            if let Some(same) = named.iter().find(|other| is_same(other, &grant)) {
                return Ok((same.id.clone(), Vec::new()));
            }
            // the key may have been deleted meanwhile
            state.find_by_id(&key.arn, i64::MIN)?;
            if grants.is_some_and(|grants| grants.len() >= max) {
                return Err(KmsException::limit(format!("{} has {max} grants.", key.arn)));
            }
            Ok((grant.id.clone(), vec![Change::Grant(Arc::new(grant))]))
        })?;
        let grant_token = GrantToken::new(&key.arn, &id)?.to_text();
        Ok(CreateGrantResponse { grant_id: id, grant_token })
    }
}

impl CreateGrantRequest {
    /// Checks what can be checked without the key; returns the grantee.
    fn check(&self) -> Result<&str> {
        let name = self.name.as_deref();
        let is_name_char = |c: char| c.is_ascii_alphanumeric() || ":/_-".contains(c);
        let is_good_name = name.is_none_or(|name| name.chars().all(is_name_char));
        let all: Vec<&str> = SYMMETRIC.into_iter().chain(OTHERS).collect();
        let mut validation = Validation::default()
            .key_id("keyId", &self.key_id)
            .length("granteePrincipal", self.grantee_principal.as_deref(), 1, 256)
            .length("retiringPrincipal", self.retiring_principal.as_deref(), 1, 256)
            .length("name", name, 1, 256)
            .pattern("name", name.unwrap_or_default(), is_good_name, "^[a-zA-Z0-9:/_-]+$")
            .grant_tokens(&self.grant_tokens);
        for operation in &self.operations {
            validation = validation.one_of("operations", Some(operation), &all);
        }
        validation.finish()?;
        if self.grantee_service_principal.is_some() || self.retiring_service_principal.is_some() {
            return Err(unsupported("Service principals are not supported."));
        }
        let missing = |what: &str| KmsException::validation(format!("{what} is required."));
        let grantee = self.grantee_principal.as_deref();
        let grantee = grantee.ok_or_else(|| missing("GranteePrincipal"))?;
        if self.operations.is_empty() {
            return Err(missing("Operations"));
        }
        check_principal(grantee)?;
        self.retiring_principal.as_deref().map_or(Ok(()), check_principal)?;
        self.constraints.as_ref().map_or(Ok(()), check_constraints)?;
        Ok(grantee)
    }

    fn check_operations(&self, key: &Key) -> Result<()> {
        let has_constraints = self.constraints.as_ref().is_some_and(|constraints| {
            constraints.encryption_context_equals.is_some()
                || constraints.encryption_context_subset.is_some()
        });
        if !key.is_symmetric() && has_constraints {
            let message = "Encryption context constraints are for symmetric keys only.";
            return Err(KmsException::validation(message));
        }
        let cannot =
            |operation: &&String| key.is_symmetric() && OTHERS.contains(&operation.as_str());
        match self.operations.iter().find(cannot) {
            None => Ok(()),
            Some(operation) => Err(KmsException::validation(format!(
                "Operation {operation} is not supported for key spec {}.",
                key.spec
            ))),
        }
    }

    fn grant(&self, call: &Call<'_>, key: &Key, grantee: &str) -> Result<Grant> {
        let id = random_array::<32>().map_err(|_| KmsException::internal("no randomness"))?;
        Ok(Grant {
            id: hex::encode(id),
            key_arn: key.arn.clone(),
            name: self.name.clone().unwrap_or_default(),
            created_at_millis: call.now_millis,
            grantee: grantee.to_owned(),
            retiring: self.retiring_principal.clone(),
            issuing_account: call.account.clone(),
            operations: self.operations.clone(),
            constraints: self.constraints.clone().filter(|it| *it != GrantConstraints::default()),
            sequence: 0,
        })
    }
}

/// Whether a grant of this name was asked for before; its id and date are its own.
fn is_same(a: &Grant, b: &Grant) -> bool {
    let operations = |grant: &Grant| grant.operations.iter().cloned().collect::<BTreeSet<_>>();
    (&a.name, &a.grantee, &a.retiring, &a.issuing_account, &a.constraints)
        == (&b.name, &b.grantee, &b.retiring, &b.issuing_account, &b.constraints)
        && operations(a) == operations(b)
}

fn check_principal(arn: &str) -> Result<()> {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let is_good = match *parts {
        ["arn", _, "iam", "", account, resource] => {
            let is_named =
                |kind| resource.strip_prefix(kind).is_some_and(|name: &str| !name.is_empty());
            is_account(account) && (resource == "root" || is_named("user/") || is_named("role/"))
        }
        ["arn", _, "sts", "", account, resource] => {
            is_account(account)
                && (resource.starts_with("assumed-role/")
                    || resource.starts_with("federated-user/"))
        }
        _ => is_account(arn),
    };
    if is_good {
        return Ok(());
    }
    Err(KmsException::new("InvalidArnException", format!("Invalid principal ARN: {arn}")))
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn check_constraints(constraints: &GrantConstraints) -> Result<()> {
    if constraints.source_arn.is_some() {
        return Err(unsupported("The constraint SourceArn is not supported."));
    }
    let all = [&constraints.encryption_context_equals, &constraints.encryption_context_subset];
    for context in all.into_iter().flatten() {
        if context.len() > PAIRS_MAX {
            let message = format!("A grant constraint can have at most {PAIRS_MAX} pairs.");
            return Err(KmsException::validation(message));
        }
        let is_long = |text: &String| text.chars().count() > PAIR_LEN_MAX;
        if context.iter().any(|(name, value)| name.is_empty() || is_long(name) || is_long(value)) {
            let message = format!(
                "Names and values of a grant constraint have 1 to {PAIR_LEN_MAX} characters."
            );
            return Err(KmsException::validation(message));
        }
    }
    Ok(())
}

fn unsupported(message: &str) -> KmsException {
    KmsException::new("UnsupportedOperationException", message)
}

impl Perform for ListGrantsRequest {
    fn perform(&self, call: &mut Call<'_>) -> Result<ListGrantsResponse> {
        Validation::default().key_id("keyId", &self.key_id).finish()?;
        let page = Page::parse(self.limit, self.marker.as_deref(), 50, 100)?;
        let key = call.authorized(&self.key_id)?;
        if self.grantee_service_principal.is_some() {
            return Ok(ListGrantsResponse {
                grants: Vec::new(),
                next_marker: None,
                truncated: false,
            });
        }
        call.saw_all();
        let state = call.kms.state.read();
        let grants = state.grants.get(key.id());
        let grants = grants.into_iter().flat_map(|grants| grants.after(page.after()));
        let grants = grants.filter(|grant| {
            let is_asked = |asked: &Option<String>, found: &str| {
                asked.as_deref().is_none_or(|asked| asked == found)
            };
            is_asked(&self.grant_id, &grant.id) && is_asked(&self.grantee_principal, &grant.grantee)
        });
        Ok(answer(&page, grants))
    }
}

impl Perform for ListRetirableGrantsRequest {
    fn perform(&self, call: &mut Call<'_>) -> Result<ListGrantsResponse> {
        let page = Page::parse(self.limit, self.marker.as_deref(), 50, 100)?;
        if self.retiring_service_principal.is_some() {
            return Err(unsupported("Service principals are not supported."));
        }
        let retiring = self.retiring_principal.as_deref();
        let missing = || KmsException::validation("RetiringPrincipal is required.");
        let retiring = retiring.ok_or_else(missing)?;
        check_principal(retiring)?;
        call.authorize_account("ListRetirableGrants", "*")?;
        call.saw_all();
        let state = call.kms.state.read();
        let grants = state.grants.values().flat_map(|grants| grants.after(page.after()));
        let mut grants: Vec<&Arc<Grant>> =
            grants.filter(|grant| grant.retiring.as_deref() == Some(retiring)).collect();
        grants.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(answer(&page, grants))
    }
}

fn answer<'a>(page: &Page, grants: impl IntoIterator<Item = &'a Arc<Grant>>) -> ListGrantsResponse {
    let (grants, next_marker) = page.cut(grants, |grant| &grant.id);
    ListGrantsResponse {
        grants: grants.into_iter().map(|grant| grant.list_entry()).collect(),
        truncated: next_marker.is_some(),
        next_marker,
    }
}

impl Perform for RetireGrantRequest {
    fn perform(&self, call: &mut Call<'_>) -> Result<()> {
        let (key_id, grant_id) = match (&self.grant_token, &self.key_id, &self.grant_id) {
            (Some(token), None, None) => {
                let token = GrantToken::parse(token)?;
                (token.key_arn, token.grant_id)
            }
            (None, Some(key), Some(grant)) => (key.clone(), grant.clone()),
            _ => {
                let message = "Either GrantToken or KeyId and GrantId must be given.";
                return Err(KmsException::validation(message));
            }
        };
        if !key_id.starts_with("arn:") {
            let message = format!("Invalid arn {key_id}");
            return Err(KmsException::new("InvalidArnException", message));
        }
        call.additional.push(("grantId", grant_id.clone()));
        let key = call.find_by_id(&key_id)?;
        let grant = find_grant(call, &key, &grant_id)?;
        let is_grantee = grant.grantee == call.principal_arn && grant.allows("RetireGrant");
        let is_retiring = grant.retiring.as_ref() == Some(&call.principal_arn);
        if !is_grantee && !is_retiring {
            call.authorize(&key, "RetireGrant", GrantUse::Never)?;
        }
        call.check_dry_run(self.dry_run)?;
        delete(call, &key, &grant_id)
    }
}

impl Perform for RevokeGrantRequest {
    fn perform(&self, call: &mut Call<'_>) -> Result<()> {
        Validation::default()
            .key_id("keyId", &self.key_id)
            .text("grantId", &self.grant_id, 128)
            .finish()?;
        let key = call.authorized(&self.key_id)?;
        find_grant(call, &key, &self.grant_id)?;
        call.check_dry_run(self.dry_run)?;
        delete(call, &key, &self.grant_id)
    }
}

fn find_grant(call: &mut Call<'_>, key: &Key, id: &str) -> Result<Arc<Grant>> {
    let state = call.kms.state.read();
    let grant = state.grants.get(key.id()).and_then(|grants| grants.get(id)).cloned();
    drop(state);
    let grant = grant.ok_or_else(|| no_grant(id))?;
    call.saw(grant.sequence);
    Ok(grant)
}

fn no_grant(id: &str) -> KmsException {
    KmsException::new("NotFoundException", format!("Grant ID {id} not found"))
}

fn delete(call: &mut Call<'_>, key: &Key, id: &str) -> Result<()> {
    call.change(|state| {
        let grants = state.grants.get(key.id());
        grants.and_then(|grants| grants.get(id)).ok_or_else(|| no_grant(id))?;
        let change = Change::GrantDeleted { key: key.id().to_owned(), grant: id.to_owned() };
        Ok(((), vec![change]))
    })
}
