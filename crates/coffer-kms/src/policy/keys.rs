//! The condition keys that are evaluated. Any other key makes a policy malformed.

/// Prefix of the keys that each look at one pair of the encryption context.
pub(super) const ENCRYPTION_CONTEXT: &str = "kms:encryptioncontext:";

/// A condition key in lower case: names of keys are blind to case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct KeyName(String);

impl KeyName {
    pub(super) fn new(name: &str) -> Self {
        Self(name.to_lowercase())
    }
}

/// How the values of a key compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueType {
    Text,
    Arn,
    Bool,
    Number,
    Date,
    Ip,
}

pub(super) struct ConditionKey {
    pub(super) name: KeyName,
    pub(super) value_type: ValueType,
    pub(super) is_multivalued: bool,
}

/// Every key but `kms:EncryptionContext:…`, with its type and whether it has several values.
const KEYS: [(&str, ValueType, bool); 30] = [
    ("aws:CurrentTime", ValueType::Date, false),
    ("aws:PrincipalAccount", ValueType::Text, false),
    ("aws:PrincipalArn", ValueType::Arn, false),
    ("aws:PrincipalType", ValueType::Text, false),
    ("aws:SecureTransport", ValueType::Bool, false),
    ("aws:SourceIp", ValueType::Ip, false),
    ("aws:username", ValueType::Text, false),
    ("aws:ViaAWSService", ValueType::Bool, false),
    ("kms:BypassPolicyLockoutSafetyCheck", ValueType::Bool, false),
    ("kms:CallerAccount", ValueType::Text, false),
    ("kms:EncryptionAlgorithm", ValueType::Text, false),
    ("kms:EncryptionContextKeys", ValueType::Text, true),
    ("kms:ExpirationModel", ValueType::Text, false),
    ("kms:GranteePrincipal", ValueType::Arn, false),
    ("kms:GrantConstraintType", ValueType::Text, false),
    ("kms:GrantIsForAWSResource", ValueType::Bool, false),
    ("kms:GrantOperations", ValueType::Text, true),
    ("kms:KeyOrigin", ValueType::Text, false),
    ("kms:KeySpec", ValueType::Text, false),
    ("kms:KeyUsage", ValueType::Text, false),
    ("kms:MultiRegion", ValueType::Bool, false),
    ("kms:ReEncryptOnSameKey", ValueType::Bool, false),
    ("kms:RequestAlias", ValueType::Text, false),
    ("kms:ResourceAliases", ValueType::Text, true),
    ("kms:RetiringPrincipal", ValueType::Arn, false),
    ("kms:RotationPeriodInDays", ValueType::Number, false),
    ("kms:ScheduleKeyDeletionPendingWindowInDays", ValueType::Number, false),
    ("kms:ViaService", ValueType::Text, false),
    ("kms:WrappingAlgorithm", ValueType::Text, false),
    ("kms:WrappingKeySpec", ValueType::Text, false),
];

/// The key of this name, blind to case.
pub(super) fn find(name: &str) -> Option<ConditionKey> {
    let lower = KeyName::new(name);
    if lower.0.strip_prefix(ENCRYPTION_CONTEXT).is_some_and(|rest| !rest.is_empty()) {
        let value_type = ValueType::Text;
        return Some(ConditionKey { name: lower, value_type, is_multivalued: false });
    }
    KEYS.iter().find(|(known, _, _)| known.eq_ignore_ascii_case(name)).map(
        |&(_, value_type, is_multivalued)| ConditionKey { name: lower, value_type, is_multivalued },
    )
}
