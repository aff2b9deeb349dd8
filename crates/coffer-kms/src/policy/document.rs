//! Parsing of policy documents: every element is understood, or the document is refused.

use super::{
    DocumentKind, MalformedPolicy, actions, condition::Condition, json::Json, pattern::Pattern,
    principal::NamedPrincipal,
};

/// Longest policy document in bytes.
pub const POLICY_LEN_MAX: usize = 32 * 1024;
const SID_LEN_MAX: usize = 2_048;

/// A policy document that can be evaluated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    pub(super) kind: DocumentKind,
    pub(super) statements: Vec<Statement>,
}

/// One statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) is_allow: bool,
    /// None in identity policies.
    pub(super) principals: Option<Listed<NamedPrincipal>>,
    pub(super) actions: Listed<Pattern>,
    pub(super) resources: Listed<Pattern>,
    pub(super) conditions: Vec<Condition>,
}

/// An element or its `Not…` form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed<T> {
    pub(super) is_negated: bool,
    pub(super) items: Vec<T>,
}

impl Listed<Pattern> {
    pub(super) fn covers(&self, text: &str) -> bool {
        self.items.iter().any(|pattern| pattern.matches(text)) != self.is_negated
    }
}

impl Document {
    /// Parses and validates a policy.
    ///
    /// # Errors
    /// [`MalformedPolicy`] naming the element, operator, condition key, variable or action that is
    /// wrong or that this program does not evaluate.
    pub fn parse(json: &str, kind: DocumentKind) -> Result<Self, MalformedPolicy> {
        if json.len() > POLICY_LEN_MAX {
            return Err(MalformedPolicy::new(format!(
                "The policy is longer than {POLICY_LEN_MAX} bytes"
            )));
        }
        let root: Json = serde_json::from_str(json)
            .map_err(|error| MalformedPolicy::new(format!("The policy is no JSON: {error}")))?;
        let members = object("The policy", &root)?;
        let mut version = None;
        let mut statements = None;
        for (name, value) in members {
            match name.as_str() {
                "Version" => version = Some(string("Version", value)?),
                "Id" => {
                    string("Id", value)?;
                }
                "Statement" => statements = Some(value),
                other => return Err(unknown("element", other)),
            }
        }
        let has_variables = match version {
            Some("2012-10-17") => true,
            Some("2008-10-17") | None => false,
            Some(other) => return Err(unknown("Version", other)),
        };
        let statements = match statements {
            Some(Json::Array(statements)) if !statements.is_empty() => statements.as_slice(),
            Some(statement @ Json::Object(_)) => std::slice::from_ref(statement),
            _ => return Err(MalformedPolicy::new("The policy has no statement")),
        };
        let mut sids = Vec::new();
        let mut parsed = Vec::with_capacity(statements.len());
        for statement in statements {
            let members = object("A statement", statement)?;
            parsed.push(StatementParser { kind, has_variables, members }.parse(&mut sids)?);
        }
        Ok(Self { kind, statements: parsed })
    }
}

struct StatementParser<'a> {
    kind: DocumentKind,
    has_variables: bool,
    members: &'a [(String, Json)],
}

impl<'a> StatementParser<'a> {
    fn parse(&self, sids: &mut Vec<&'a str>) -> Result<Statement, MalformedPolicy> {
        for (name, _) in self.members {
            let is_known = matches!(
                name.as_str(),
                "Sid"
                    | "Effect"
                    | "Principal"
                    | "NotPrincipal"
                    | "Action"
                    | "NotAction"
                    | "Resource"
                    | "NotResource"
                    | "Condition"
            );
            if !is_known {
                return Err(unknown("element", name));
            }
        }
        self.check_sid(sids)?;
        let is_allow = match string("Effect", self.required("Effect")?)? {
            "Allow" => true,
            "Deny" => false,
            other => return Err(unknown("Effect", other)),
        };
        Ok(Statement {
            is_allow,
            principals: self.principals(is_allow)?,
            actions: self.actions()?,
            resources: self.resources()?,
            conditions: match self.member("Condition") {
                Some(json) => Condition::parse_all(json, self.has_variables)?,
                None => Vec::new(),
            },
        })
    }

    fn check_sid(&self, sids: &mut Vec<&'a str>) -> Result<(), MalformedPolicy> {
        let Some(sid) = self.member("Sid") else {
            return Ok(());
        };
        let sid = string("Sid", sid)?;
        // identity policies allow letters and digits only, key policies any text
        let is_good = sid.len() <= SID_LEN_MAX
            && (self.kind == DocumentKind::Key || sid.bytes().all(|b| b.is_ascii_alphanumeric()));
        if !is_good {
            return Err(MalformedPolicy::new(format!("Sid {sid:?} is not valid")));
        }
        if !sid.is_empty() && sids.contains(&sid) {
            return Err(MalformedPolicy::new(format!("Sid {sid:?} stands twice")));
        }
        sids.push(sid);
        Ok(())
    }

    fn principals(
        &self,
        is_allow: bool,
    ) -> Result<Option<Listed<NamedPrincipal>>, MalformedPolicy> {
        if self.kind == DocumentKind::Identity {
            for element in ["Principal", "NotPrincipal"] {
                if self.member(element).is_some() {
                    return Err(MalformedPolicy::new(format!(
                        "An identity policy has no {element}"
                    )));
                }
            }
            return Ok(None);
        }
        let (element, is_negated, json) = self.either("Principal", "NotPrincipal")?;
        if is_negated && is_allow {
            return Err(MalformedPolicy::new("NotPrincipal is not supported with Effect Allow"));
        }
        let items = NamedPrincipal::parse_element(element, json)?;
        Ok(Some(Listed { is_negated, items }))
    }

    fn actions(&self) -> Result<Listed<Pattern>, MalformedPolicy> {
        let (element, is_negated, json) = self.either("Action", "NotAction")?;
        let mut items = Vec::new();
        for text in strings(element, json)? {
            let invalid = || MalformedPolicy::new(format!("{element} {text:?} is no action"));
            let pattern = self.pattern(element, text)?.case_blind();
            if text != "*" {
                let (vendor, name) = text.split_once(':').ok_or_else(invalid)?;
                let is_vendor = !vendor.is_empty()
                    && vendor.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
                let is_name = !name.is_empty()
                    && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"*?".contains(&b));
                if !is_vendor || !is_name {
                    return Err(invalid());
                }
                if vendor.eq_ignore_ascii_case("kms") && !actions::matches_any(&pattern) {
                    return Err(unknown("action", text));
                }
            }
            items.push(pattern);
        }
        Ok(Listed { is_negated, items })
    }

    fn resources(&self) -> Result<Listed<Pattern>, MalformedPolicy> {
        let (element, is_negated, json) = self.either("Resource", "NotResource")?;
        let mut items = Vec::new();
        for text in strings(element, json)? {
            if text != "*" && !(text.starts_with("arn:") && text.split(':').count() >= 6) {
                return Err(MalformedPolicy::new(format!(
                    "{element} {text:?} must be \"*\" or an ARN"
                )));
            }
            items.push(self.pattern(element, text)?);
        }
        Ok(Listed { is_negated, items })
    }

    fn pattern(&self, element: &str, text: &str) -> Result<Pattern, MalformedPolicy> {
        Pattern::parse(text, self.has_variables)
            .map_err(|variable| unknown(&format!("policy variable in {element}"), &variable))
    }

    fn member(&self, name: &str) -> Option<&'a Json> {
        self.members.iter().find(|(found, _)| found == name).map(|(_, value)| value)
    }

    fn required(&self, name: &str) -> Result<&'a Json, MalformedPolicy> {
        self.member(name).ok_or_else(|| MalformedPolicy::new(format!("A statement has no {name}")))
    }

    /// Exactly one of an element and its negated form.
    fn either(
        &self,
        name: &'static str,
        negated: &'static str,
    ) -> Result<(&'static str, bool, &'a Json), MalformedPolicy> {
        match (self.member(name), self.member(negated)) {
            (Some(_), Some(_)) => {
                Err(MalformedPolicy::new(format!("A statement has both {name} and {negated}")))
            }
            (Some(json), None) => Ok((name, false, json)),
            (None, Some(json)) => Ok((negated, true, json)),
            (None, None) => Err(MalformedPolicy::new(format!("A statement has no {name}"))),
        }
    }
}

fn unknown(what: &str, name: &str) -> MalformedPolicy {
    MalformedPolicy::new(format!("Unknown or unsupported {what}: {name}"))
}

fn object<'a>(what: &str, json: &'a Json) -> Result<&'a [(String, Json)], MalformedPolicy> {
    match json {
        Json::Object(members) => Ok(members),
        _ => Err(MalformedPolicy::new(format!("{what} must be a JSON object"))),
    }
}

fn string<'a>(what: &str, json: &'a Json) -> Result<&'a str, MalformedPolicy> {
    match json {
        Json::String(text) => Ok(text),
        _ => Err(MalformedPolicy::new(format!("{what} must be a string"))),
    }
}

/// A string, or a list of at least one string.
pub(super) fn strings<'a>(what: &str, json: &'a Json) -> Result<Vec<&'a str>, MalformedPolicy> {
    match json {
        Json::Array(values) if values.is_empty() => {
            Err(MalformedPolicy::new(format!("{what} must not be empty")))
        }
        Json::Array(values) => values.iter().map(|value| string(what, value)).collect(),
        json => Ok(vec![string(what, json)?]),
    }
}
