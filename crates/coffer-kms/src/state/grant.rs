//! Grants of a key, and the index that finds the one that allows a request.

use crate::api::{EncryptionContext, GrantConstraints, GrantListEntry};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// A grant.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Grant {
    pub(crate) id: String,
    pub(crate) key_arn: String,
    pub(crate) name: String,
    pub(crate) created_at_millis: i64,
    pub(crate) grantee: String,
    pub(crate) retiring: Option<String>,
    pub(crate) issuing_account: String,
    /// In the order they were given.
    pub(crate) operations: Vec<String>,
    pub(crate) constraints: Option<GrantConstraints>,
    #[serde(skip)]
    pub(crate) sequence: u64,
}

impl Grant {
    pub(crate) fn allows(&self, operation: &str) -> bool {
        self.operations.iter().any(|allowed| allowed == operation)
    }

    /// Whether a request with this encryption context is within the constraints.
    pub(crate) fn fits(&self, context: &EncryptionContext) -> bool {
        let Some(constraints) = &self.constraints else {
            return true;
        };
        let equals = constraints.encryption_context_equals.as_ref();
        let subset = constraints.encryption_context_subset.as_ref();
        equals.is_none_or(|equals| equals == context)
            && subset.is_none_or(|subset| is_subset(subset, context))
    }

    /// The pairs that a request must have, all of them.
    fn pairs(&self) -> Option<&EncryptionContext> {
        let constraints = self.constraints.as_ref()?;
        let pairs = constraints.encryption_context_equals.as_ref();
        let pairs = pairs.or(constraints.encryption_context_subset.as_ref())?;
        (!pairs.is_empty()).then_some(pairs)
    }

    #[expect(clippy::cast_precision_loss, reason = "milliseconds of any real date fit 2^53")]
    pub(crate) fn list_entry(&self) -> GrantListEntry {
        GrantListEntry {
            key_id: self.key_arn.clone(),
            grant_id: self.id.clone(),
            name: self.name.clone(),
            // AWS gives grants whole seconds
            creation_date: self.created_at_millis.div_euclid(1000) as f64,
            grantee_principal: self.grantee.clone(),
            retiring_principal: self.retiring.clone(),
            issuing_account: format!("arn:aws:iam::{}:root", self.issuing_account),
            operations: self.operations.clone(),
            constraints: self.constraints.clone(),
        }
    }
}

pub(crate) fn is_subset(subset: &EncryptionContext, context: &EncryptionContext) -> bool {
    subset.iter().all(|(name, value)| context.get(name) == Some(value))
}

/// The grants of one key.
#[derive(Default)]
pub(crate) struct Grants {
    by_id: BTreeMap<String, Arc<Grant>>,
    by_name: HashMap<String, Vec<Arc<Grant>>>,
    by_grantee: HashMap<String, Grantee>,
}

/// The grants of one grantee on one key. A grant with constraints stands under one of the pairs it
/// asks for, the one with the fewest others: a request looks at the grants of its own pairs only, so
/// that tens of thousands of tables under one key cost no more than one.
#[derive(Default)]
struct Grantee {
    unconstrained: Vec<Arc<Grant>>,
    by_pair: HashMap<(String, String), Vec<Arc<Grant>>>,
    /// The pair a grant stands under.
    pair_of: HashMap<String, (String, String)>,
    /// For operations that look at no constraints: grants by operation.
    by_operation: HashMap<String, BTreeMap<String, Arc<Grant>>>,
}

impl Grants {
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Arc<Grant>> {
        self.by_id.get(id)
    }

    /// In the order of their ids, after `marker`.
    pub(crate) fn after<'a>(
        &'a self,
        marker: Option<&str>,
    ) -> impl Iterator<Item = &'a Arc<Grant>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let start = marker.map_or(Unbounded, |marker| Excluded(marker.to_owned()));
        self.by_id.range((start, Unbounded)).map(|(_, grant)| grant)
    }

    pub(crate) fn named(&self, name: &str) -> &[Arc<Grant>] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }

    /// The grant that lets `grantee` do `operation`, if any. `context` is `None` for operations that
    /// have none: those look at no constraints.
    pub(crate) fn find(
        &self,
        grantee: &str,
        operation: &str,
        context: Option<&EncryptionContext>,
    ) -> Option<&Arc<Grant>> {
        let grants = self.by_grantee.get(grantee)?;
        let Some(context) = context else {
            return grants.by_operation.get(operation)?.values().next();
        };
        let under_pairs = context.iter().filter_map(|(name, value)| {
            // a key of two Strings cannot be looked up by two &str
            grants.by_pair.get(&(name.clone(), value.clone()))
        });
        grants
            .unconstrained
            .iter()
            .chain(under_pairs.flatten())
            .find(|grant| grant.allows(operation) && grant.fits(context))
    }

    /// All grants that let `grantee` do `operation` under some circumstances.
    pub(crate) fn allowing<'a>(
        &'a self,
        grantee: &str,
        operation: &str,
    ) -> impl Iterator<Item = &'a Arc<Grant>> {
        let grants = self.by_grantee.get(grantee);
        let grants = grants.and_then(|grants| grants.by_operation.get(operation));
        grants.into_iter().flat_map(BTreeMap::values)
    }

    pub(crate) fn insert(&mut self, grant: Arc<Grant>) {
        self.remove(&grant.id);
        if !grant.name.is_empty() {
            self.by_name.entry(grant.name.clone()).or_default().push(Arc::clone(&grant));
        }
        self.by_grantee.entry(grant.grantee.clone()).or_default().insert(&grant);
        self.by_id.insert(grant.id.clone(), grant);
    }

    pub(crate) fn remove(&mut self, id: &str) {
        let Some(grant) = self.by_id.remove(id) else {
            return;
        };
        if let Some(named) = self.by_name.get_mut(&grant.name) {
            named.retain(|other| other.id != id);
            if named.is_empty() {
                self.by_name.remove(&grant.name);
            }
        }
        if let Some(grantee) = self.by_grantee.get_mut(&grant.grantee)
            && grantee.remove(&grant)
        {
            self.by_grantee.remove(&grant.grantee);
        }
    }
}

impl Grantee {
    fn insert(&mut self, grant: &Arc<Grant>) {
        for operation in &grant.operations {
            let grants = self.by_operation.entry(operation.clone()).or_default();
            grants.insert(grant.id.clone(), Arc::clone(grant));
        }
        let rarest = grant.pairs().and_then(|pairs| {
            let pairs = pairs.iter().map(|(name, value)| (name.clone(), value.clone()));
            pairs.min_by_key(|pair| self.by_pair.get(pair).map_or(0, Vec::len))
        });
        match rarest {
            None => self.unconstrained.push(Arc::clone(grant)),
            Some(pair) => {
                self.by_pair.entry(pair.clone()).or_default().push(Arc::clone(grant));
                self.pair_of.insert(grant.id.clone(), pair);
            }
        }
    }

    /// Whether nothing is left.
    fn remove(&mut self, grant: &Grant) -> bool {
        for operation in &grant.operations {
            if let Some(grants) = self.by_operation.get_mut(operation) {
                grants.remove(&grant.id);
                if grants.is_empty() {
                    self.by_operation.remove(operation);
                }
            }
        }
        match self.pair_of.remove(&grant.id) {
            None => self.unconstrained.retain(|other| other.id != grant.id),
            Some(pair) => {
                if let Some(grants) = self.by_pair.get_mut(&pair) {
                    grants.retain(|other| other.id != grant.id);
                    if grants.is_empty() {
                        self.by_pair.remove(&pair);
                    }
                }
            }
        }
        self.unconstrained.is_empty() && self.pair_of.is_empty()
    }
}
