//! Verification of AWS Signature Version 4 for the service `kms`: the `Authorization` header only,
//! no presigned addresses, no session tokens.
//!
//! The text that is signed holds the method, the path `/`, an empty query, the signed headers and
//! the hash of the whole body, so nothing a call depends on can be changed on the way. A request is
//! good for five minutes around its date by the wall clock; a test clock does not move that.

use crate::KmsException;
use hmac::{Hmac, KeyInit, Mac};
use hyper::HeaderMap;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use time::{OffsetDateTime, PrimitiveDateTime, macros::format_description};
use zeroize::Zeroizing;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const SERVICE: &str = "kms";
const TERMINATOR: &str = "aws4_request";
/// How far the date of a request may be from the wall clock.
const SKEW_SECONDS: i64 = 5 * 60;
/// More headers than any client signs.
const SIGNED_HEADERS_MAX: usize = 64;

/// Verifies a `POST /` and returns the access key id that signed it. `secret_of` gives the secret
/// of an access key that may sign; `now_millis` is the wall clock.
///
/// # Errors
/// `MissingAuthenticationTokenException`, `IncompleteSignatureException`,
/// `UnrecognizedClientException`, `InvalidSignatureException`, as AWS uses them.
pub fn verify(
    headers: &HeaderMap,
    body: &[u8],
    region: &str,
    now_millis: i64,
    secret_of: impl FnOnce(&str) -> Option<Zeroizing<String>>,
) -> Result<String, KmsException> {
    let authorization = Authorization::parse(headers)?;
    authorization.check_scope(region)?;
    authorization.check_signed_headers(headers)?;
    let date = request_date(headers)?;
    let written = header_text(headers, "x-amz-date");
    if authorization.date != date_of(date) {
        return Err(invalid(format!(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from \
             HTTP: '{}' != '{}'.",
            authorization.date,
            date_of(date)
        )));
    }
    // a token belongs to temporary credentials, and there are none here
    let secret = if headers.contains_key("x-amz-security-token") {
        None
    } else {
        secret_of(authorization.access_key_id)
    };
    let secret = secret.ok_or_else(|| {
        let message = "The security token included in the request is invalid.";
        KmsException::new("UnrecognizedClientException", message)
    })?;
    check_date(date, now_millis)?;
    let stamp = written.map_or_else(|| stamp_of(date), str::to_owned);
    let expected = authorization.signature_of(headers, body, &stamp, &secret)?;
    if bool::from(expected.as_bytes().ct_eq(authorization.signature.as_bytes())) {
        Ok(authorization.access_key_id.to_owned())
    } else {
        Err(invalid(
            "The request signature we calculated does not match the signature you provided. Check \
             your AWS Secret Access Key and signing method. Consult the service documentation for \
             details.",
        ))
    }
}

fn invalid(message: impl Into<String>) -> KmsException {
    KmsException::new("InvalidSignatureException", message)
}

fn incomplete(message: impl Into<String>) -> KmsException {
    KmsException::new("IncompleteSignatureException", message)
}

/// The parts of an `Authorization` header.
struct Authorization<'a> {
    access_key_id: &'a str,
    date: &'a str,
    region: &'a str,
    service: &'a str,
    terminator: &'a str,
    signed_headers: Vec<&'a str>,
    signature: &'a str,
}

impl<'a> Authorization<'a> {
    fn parse(headers: &'a HeaderMap) -> Result<Self, KmsException> {
        let missing = || {
            let message = "Missing Authentication Token";
            KmsException::new("MissingAuthenticationTokenException", message)
        };
        let mut values = headers.get_all("authorization").iter();
        let value = values.next().ok_or_else(missing)?;
        if values.next().is_some() {
            return Err(incomplete("The request has more than one Authorization header."));
        }
        let text = value.to_str().map_err(|_| incomplete("Authorization is not text."))?;
        let rest = text
            .strip_prefix(ALGORITHM)
            .filter(|rest| rest.starts_with(' '))
            .ok_or_else(|| incomplete(format!("Authorization must use {ALGORITHM}.")))?;
        let mut parts = [None; 3];
        for part in rest.split(',') {
            let (name, value) = part.trim().split_once('=').unwrap_or_default();
            let [credential, signed_headers, signature] = &mut parts;
            let place = match name {
                "Credential" => credential,
                "SignedHeaders" => signed_headers,
                "Signature" => signature,
                _ => return Err(incomplete("Authorization has an unknown parameter.")),
            };
            if place.replace(value).is_some() {
                return Err(incomplete(format!("Authorization has '{name}' twice.")));
            }
        }
        let [credential, signed_headers, signature] = parts;
        let required = |value: Option<&'a str>, name: &str| {
            let message = format!("Authorization header requires '{name}' parameter.");
            value.filter(|value| !value.is_empty()).ok_or_else(|| incomplete(message))
        };
        let credential = required(credential, "Credential")?;
        let signed_headers = required(signed_headers, "SignedHeaders")?;
        let signature = required(signature, "Signature")?;
        let scope: Vec<&str> = credential.split('/').collect();
        let &[access_key_id, date, region, service, terminator] = scope.as_slice() else {
            return Err(incomplete(
                "Credential must have exactly 5 slash-delimited elements, e.g. \
                 keyid/date/region/service/term",
            ));
        };
        let signed_headers = signed_headers.split(';').collect();
        Ok(Self { access_key_id, date, region, service, terminator, signed_headers, signature })
    }

    fn check_scope(&self, region: &str) -> Result<(), KmsException> {
        if self.region != region {
            let found = self.region;
            return Err(invalid(format!(
                "Credential should be scoped to a valid region, not '{found}': this is '{region}'."
            )));
        }
        if self.service != SERVICE {
            return Err(invalid(format!(
                "Credential should be scoped to correct service: '{SERVICE}'."
            )));
        }
        if self.terminator != TERMINATOR {
            return Err(invalid(format!(
                "Credential should be scoped with a valid terminator: '{TERMINATOR}'."
            )));
        }
        Ok(())
    }

    /// The headers that say what is called, when and where must be signed, and every `x-amz-` one.
    fn check_signed_headers(&self, headers: &HeaderMap) -> Result<(), KmsException> {
        let names = &self.signed_headers;
        let is_sorted = names.is_sorted_by(|left, right| left < right);
        let is_lower = |name: &&str| !name.is_empty() && !name.contains(|c: char| c.is_uppercase());
        if names.len() > SIGNED_HEADERS_MAX || !is_sorted || !names.iter().all(is_lower) {
            return Err(incomplete("SignedHeaders must be sorted and in lower case."));
        }
        let is_signed = |name: &str| names.contains(&name);
        if !is_signed("host") {
            return Err(invalid(
                "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.",
            ));
        }
        let must_be = |name: &str| name.starts_with("x-amz-") || name == "content-type";
        let present = headers.keys().map(hyper::header::HeaderName::as_str);
        let unsigned = present.filter(|name| must_be(name)).find(|name| !is_signed(name));
        if let Some(name) = unsigned.or_else(|| {
            (!headers.contains_key("x-amz-date") && !is_signed("date")).then_some("date")
        }) {
            return Err(invalid(format!(
                "'{name}' must be a 'SignedHeader' in the AWS Authorization."
            )));
        }
        Ok(())
    }

    fn signature_of(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        stamp: &str,
        secret: &str,
    ) -> Result<String, KmsException> {
        let mut canonical = String::from("POST\n/\n\n");
        for name in &self.signed_headers {
            canonical.push_str(name);
            canonical.push(':');
            let mut values = headers.get_all(*name).iter().peekable();
            if values.peek().is_none() {
                return Err(invalid(format!("The signed header '{name}' is missing.")));
            }
            for (index, value) in values.enumerate() {
                let text = value.to_str().map_err(|_| invalid("A signed header is not text."))?;
                if index > 0 {
                    canonical.push(',');
                }
                let words: Vec<&str> = text.split_ascii_whitespace().collect();
                canonical.push_str(&words.join(" "));
            }
            canonical.push('\n');
        }
        canonical.push('\n');
        canonical.push_str(&self.signed_headers.join(";"));
        canonical.push('\n');
        canonical.push_str(&hex::encode(Sha256::digest(body)));
        let (date, region) = (self.date, self.region);
        let hash = hex::encode(Sha256::digest(canonical.as_bytes()));
        let to_sign =
            format!("{ALGORITHM}\n{stamp}\n{date}/{region}/{SERVICE}/{TERMINATOR}\n{hash}");
        let mut key = Zeroizing::new(format!("AWS4{secret}").into_bytes());
        for part in [date, region, SERVICE, TERMINATOR] {
            key = Zeroizing::new(hmac(&key, part.as_bytes())?);
        }
        Ok(hex::encode(hmac(&key, to_sign.as_bytes())?))
    }
}

fn hmac(key: &[u8], text: &[u8]) -> Result<Vec<u8>, KmsException> {
    let mac = Hmac::<Sha256>::new_from_slice(key)
        .map_err(|_| KmsException::internal("The signature cannot be verified."))?;
    Ok(mac.chain_update(text).finalize().into_bytes().to_vec())
}

fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The date of `x-amz-date`, or of `date`.
fn request_date(headers: &HeaderMap) -> Result<OffsetDateTime, KmsException> {
    let missing = || {
        incomplete(
            "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.",
        )
    };
    let basic = format_description!("[year][month][day]T[hour][minute][second]Z");
    if headers.contains_key("x-amz-date") {
        let text = header_text(headers, "x-amz-date").ok_or_else(missing)?;
        let parsed = PrimitiveDateTime::parse(text, &basic).map_err(|_| {
            incomplete(format!("Date must be in ISO-8601 'basic format'. Got '{}'.", shown(text)))
        })?;
        return Ok(parsed.assume_utc());
    }
    let text = header_text(headers, "date").ok_or_else(missing)?;
    let rfc = time::format_description::well_known::Rfc2822;
    OffsetDateTime::parse(text, &rfc)
        .map_err(|_| incomplete(format!("Date is not valid. Got '{}'.", shown(text))))
}

/// Text of a client in a message.
fn shown(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_graphic()).take(40).collect()
}

fn check_date(date: OffsetDateTime, now_millis: i64) -> Result<(), KmsException> {
    let now = now_millis.div_euclid(1000);
    let seconds = date.unix_timestamp();
    let at = |seconds: i64| {
        OffsetDateTime::from_unix_timestamp(seconds).map(stamp_of).unwrap_or_default()
    };
    let (earliest, latest) = (now.saturating_sub(SKEW_SECONDS), now.saturating_add(SKEW_SECONDS));
    if seconds < earliest {
        return Err(invalid(format!(
            "Signature expired: {} is now earlier than {} ({} - 5 min.)",
            stamp_of(date),
            at(earliest),
            at(now)
        )));
    }
    if seconds > latest {
        return Err(invalid(format!(
            "Signature not yet current: {} is still later than {} ({} + 5 min.)",
            stamp_of(date),
            at(latest),
            at(now)
        )));
    }
    Ok(())
}

fn date_of(date: OffsetDateTime) -> String {
    date.format(format_description!("[year][month][day]")).unwrap_or_default()
}

fn stamp_of(date: OffsetDateTime) -> String {
    let format = format_description!("[year][month][day]T[hour][minute][second]Z");
    date.to_offset(time::UtcOffset::UTC).format(format).unwrap_or_default()
}

#[cfg(test)]
mod tests;
