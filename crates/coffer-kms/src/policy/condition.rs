//! The `Condition` element: operators, the keys they apply to, and how they compare.

use super::{
    Context, MalformedPolicy,
    json::Json,
    keys::{self, KeyName, ValueType},
    pattern::Pattern,
    values::{IpRange, parse_date, parse_number},
};
use std::cmp::Ordering;

/// One operator over one condition key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    key: KeyName,
    quantifier: Quantifier,
    /// `…IfExists`: holds when the request lacks the key.
    is_if_exists: bool,
    test: Test,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quantifier {
    /// The plain form, for keys with one value.
    Single,
    AllValues,
    AnyValue,
}

/// What each value of the request is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    /// `Null`: whether the key must be missing.
    Null(bool),
    Compare {
        is_negated: bool,
        any_of: Vec<Comparison>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Comparison {
    Text(String),
    TextBlind(String),
    Like(Pattern),
    /// Six parts, each with its own wildcards.
    Arn(Vec<Pattern>),
    Bool(bool),
    Number(Order, NumberText),
    Date(Order, i64),
    Ip(IpRange),
}

/// A number as it stands in a policy, comparable as a number.
#[derive(Clone, Debug, PartialEq, Eq)]
struct NumberText(String);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Order {
    fn holds(self, found: Ordering) -> bool {
        match self {
            Self::Equal => found.is_eq(),
            Self::Less => found.is_lt(),
            Self::LessOrEqual => found.is_le(),
            Self::Greater => found.is_gt(),
            Self::GreaterOrEqual => found.is_ge(),
        }
    }
}

/// The operators without quantifier and `IfExists`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Text { is_blind: bool },
    Like,
    Arn,
    Bool,
    Null,
    Number(Order),
    Date(Order),
    Ip,
}

impl Operator {
    /// The operator and whether it is the negated form.
    fn parse(name: &str) -> Option<(Self, bool)> {
        Some(match name {
            "StringEquals" => (Self::Text { is_blind: false }, false),
            "StringNotEquals" => (Self::Text { is_blind: false }, true),
            "StringEqualsIgnoreCase" => (Self::Text { is_blind: true }, false),
            "StringNotEqualsIgnoreCase" => (Self::Text { is_blind: true }, true),
            "StringLike" => (Self::Like, false),
            "StringNotLike" => (Self::Like, true),
            "ArnEquals" | "ArnLike" => (Self::Arn, false),
            "ArnNotEquals" | "ArnNotLike" => (Self::Arn, true),
            "Bool" => (Self::Bool, false),
            "Null" => (Self::Null, false),
            "NumericEquals" => (Self::Number(Order::Equal), false),
            "NumericNotEquals" => (Self::Number(Order::Equal), true),
            "NumericLessThan" => (Self::Number(Order::Less), false),
            "NumericLessThanEquals" => (Self::Number(Order::LessOrEqual), false),
            "NumericGreaterThan" => (Self::Number(Order::Greater), false),
            "NumericGreaterThanEquals" => (Self::Number(Order::GreaterOrEqual), false),
            "DateEquals" => (Self::Date(Order::Equal), false),
            "DateNotEquals" => (Self::Date(Order::Equal), true),
            "DateLessThan" => (Self::Date(Order::Less), false),
            "DateLessThanEquals" => (Self::Date(Order::LessOrEqual), false),
            "DateGreaterThan" => (Self::Date(Order::Greater), false),
            "DateGreaterThanEquals" => (Self::Date(Order::GreaterOrEqual), false),
            "IpAddress" => (Self::Ip, false),
            "NotIpAddress" => (Self::Ip, true),
            _ => return None,
        })
    }

    /// Whether it can compare values of this type.
    fn fits(self, value_type: ValueType) -> bool {
        match self {
            Self::Null => true,
            Self::Text { .. } | Self::Like => {
                matches!(value_type, ValueType::Text | ValueType::Arn)
            }
            Self::Arn => value_type == ValueType::Arn,
            Self::Bool => value_type == ValueType::Bool,
            Self::Number(_) => value_type == ValueType::Number,
            Self::Date(_) => value_type == ValueType::Date,
            Self::Ip => value_type == ValueType::Ip,
        }
    }

    fn comparison(self, value: &str, has_variables: bool) -> Result<Comparison, String> {
        let pattern = |text: &str| {
            Pattern::parse(text, has_variables)
                .map_err(|variable| format!("Unknown or unsupported policy variable: {variable}"))
        };
        let literal = |text: &str| {
            // only the escapes ${*}, ${?}, ${$} are variables here, so the pattern is a text
            if has_variables && text.contains("${") {
                pattern(text).map(|_| unescaped(text))
            } else {
                Ok(text.to_owned())
            }
        };
        let invalid = || format!("Condition value {value:?} is not valid");
        Ok(match self {
            Self::Text { is_blind: false } => Comparison::Text(literal(value)?),
            Self::Text { is_blind: true } => Comparison::TextBlind(literal(value)?.to_lowercase()),
            Self::Like => Comparison::Like(pattern(value)?),
            Self::Arn => {
                let parts: Vec<&str> = value.splitn(6, ':').collect();
                if parts.len() != 6 || parts.first() != Some(&"arn") {
                    return Err(invalid());
                }
                Comparison::Arn(parts.into_iter().map(pattern).collect::<Result<_, _>>()?)
            }
            Self::Bool | Self::Null => Comparison::Bool(parse_bool(value).ok_or_else(invalid)?),
            Self::Number(order) => {
                parse_number(value).ok_or_else(invalid)?;
                Comparison::Number(order, NumberText(value.to_owned()))
            }
            Self::Date(order) => Comparison::Date(order, parse_date(value).ok_or_else(invalid)?),
            Self::Ip => Comparison::Ip(IpRange::parse(value).ok_or_else(invalid)?),
        })
    }
}

fn unescaped(text: &str) -> String {
    text.replace("${*}", "*").replace("${?}", "?").replace("${$}", "$")
}

fn parse_bool(text: &str) -> Option<bool> {
    match text {
        _ if text.eq_ignore_ascii_case("true") => Some(true),
        _ if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

impl Comparison {
    fn matches(&self, value: &str) -> bool {
        match self {
            Self::Text(expected) => value == expected,
            Self::TextBlind(expected) => value.to_lowercase() == *expected,
            Self::Like(pattern) => pattern.matches(value),
            Self::Arn(patterns) => {
                let parts: Vec<&str> = value.splitn(6, ':').collect();
                parts.len() == patterns.len()
                    && patterns.iter().zip(parts).all(|(pattern, part)| pattern.matches(part))
            }
            Self::Bool(expected) => parse_bool(value) == Some(*expected),
            Self::Number(order, bound) => parse_number(value)
                .zip(parse_number(&bound.0))
                .and_then(|(value, bound)| value.partial_cmp(&bound))
                .is_some_and(|found| order.holds(found)),
            Self::Date(order, bound) => {
                parse_date(value).is_some_and(|value| order.holds(value.cmp(bound)))
            }
            Self::Ip(range) => value.parse().is_ok_and(|address| range.contains(address)),
        }
    }
}

impl Condition {
    /// All conditions of a `Condition` element; they must all hold.
    pub(super) fn parse_all(
        json: &Json,
        has_variables: bool,
    ) -> Result<Vec<Self>, MalformedPolicy> {
        let Json::Object(operators) = json else {
            return Err(MalformedPolicy::new("Condition must be a JSON object"));
        };
        let mut conditions = Vec::new();
        for (operator, keys) in operators {
            let Json::Object(keys) = keys else {
                return Err(MalformedPolicy::new(format!("{operator} must be a JSON object")));
            };
            if keys.is_empty() {
                return Err(MalformedPolicy::new(format!("{operator} must not be empty")));
            }
            for (index, (key, values)) in keys.iter().enumerate() {
                let before = keys.get(..index).unwrap_or_default();
                if before.iter().any(|(other, _)| other.eq_ignore_ascii_case(key)) {
                    return Err(MalformedPolicy::new(format!("{operator} has {key} twice")));
                }
                conditions.push(Self::parse(operator, key, values, has_variables)?);
            }
        }
        Ok(conditions)
    }

    fn parse(
        operator_name: &str,
        key_name: &str,
        values: &Json,
        has_variables: bool,
    ) -> Result<Self, MalformedPolicy> {
        let malformed = |text: String| MalformedPolicy::new(text);
        let unknown_operator =
            || malformed(format!("Unknown or unsupported condition operator: {operator_name}"));
        let (quantifier, rest) = match operator_name.split_once(':') {
            Some(("ForAllValues", rest)) => (Quantifier::AllValues, rest),
            Some(("ForAnyValue", rest)) => (Quantifier::AnyValue, rest),
            Some(_) => return Err(unknown_operator()),
            None => (Quantifier::Single, operator_name),
        };
        let (rest, is_if_exists) = match rest.strip_suffix("IfExists") {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        let (operator, is_negated) = Operator::parse(rest).ok_or_else(unknown_operator)?;
        let is_null = operator == Operator::Null;
        if is_null && (is_if_exists || quantifier != Quantifier::Single) {
            return Err(unknown_operator());
        }
        let key = keys::find(key_name).ok_or_else(|| {
            malformed(format!("Unknown or unsupported condition key: {key_name}"))
        })?;
        if !operator.fits(key.value_type) {
            return Err(malformed(format!("{operator_name} cannot compare {key_name}")));
        }
        if key.is_multivalued && quantifier == Quantifier::Single && !is_null {
            return Err(malformed(format!(
                "{key_name} has several values: use ForAllValues:{operator_name} or \
                 ForAnyValue:{operator_name}"
            )));
        }
        let any_of = condition_values(key_name, values)?
            .iter()
            .map(|value| operator.comparison(value, has_variables).map_err(malformed))
            .collect::<Result<Vec<_>, _>>()?;
        let test = match any_of.as_slice() {
            [Comparison::Bool(is_missing)] if is_null => Test::Null(*is_missing),
            _ if is_null => return Err(malformed(format!("Null of {key_name} takes one value"))),
            _ => Test::Compare { is_negated, any_of },
        };
        Ok(Self { key: key.name, quantifier, is_if_exists, test })
    }

    /// Whether the condition holds. Where a request gives several values to a key that should have
    /// one, an allowance needs all of them to match and a denial is content with one.
    pub(super) fn holds(&self, context: &Context, is_allow: bool) -> bool {
        let values = context.values(&self.key);
        let (is_negated, any_of) = match &self.test {
            Test::Null(is_missing) => return values.is_empty() == *is_missing,
            Test::Compare { is_negated, any_of } => (*is_negated, any_of),
        };
        let matches = |value: &&str| any_of.iter().any(|one| one.matches(value)) != is_negated;
        if values.is_empty() {
            return match self.quantifier {
                _ if self.is_if_exists => true,
                Quantifier::Single => is_negated,
                Quantifier::AllValues => true,
                Quantifier::AnyValue => false,
            };
        }
        match self.quantifier {
            Quantifier::AllValues => values.iter().all(matches),
            Quantifier::AnyValue => values.iter().any(matches),
            Quantifier::Single if is_allow => values.iter().all(matches),
            Quantifier::Single => values.iter().any(matches),
        }
    }
}

fn condition_values(key: &str, json: &Json) -> Result<Vec<String>, MalformedPolicy> {
    let one = |json: &Json| match json {
        Json::String(text) | Json::Number(text) => Ok(text.clone()),
        Json::Bool(value) => Ok(value.to_string()),
        _ => Err(MalformedPolicy::new(format!("The value of {key} must be a string"))),
    };
    match json {
        Json::Array(values) if values.is_empty() => {
            Err(MalformedPolicy::new(format!("The list of {key} must not be empty")))
        }
        Json::Array(values) => values.iter().map(one).collect(),
        json => Ok(vec![one(json)?]),
    }
}
