//! Requests that are signed: Signature Version 4 of AWS, which object stores of all makers take.
//!
//! ```text
//! request ─▶ canonical text ─hash─▶ text to sign ─▶ HMAC by a key of the day, region and service ─▶ Authorization
//! ```
//!
//! Specification: "Authenticating Requests: Using the Authorization Header" of the S3 API. The body is always empty here.

use crate::calendar;
use block::{BlockError, Result, Secret};
use hmac::{Hmac, KeyInit, Mac};
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method};
use sha2::{Digest, Sha256};
use std::time::{SystemTime, UNIX_EPOCH};
use zeroize::Zeroizing;

/// The hash of no bytes.
const NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const CONTENT: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

/// Who signs, and for which region.
#[derive(Clone)]
pub(crate) struct Signer {
    key_id: String,
    secret: Secret,
    token: Option<HeaderValue>,
    region: String,
}

impl PartialEq for Signer {
    fn eq(&self, other: &Self) -> bool {
        let parts = |signer: &Self| (signer.key_id.clone(), signer.token.clone(), signer.region.clone());
        parts(self) == parts(other) && self.secret.bytes() == other.secret.bytes()
    }
}

impl Signer {
    /// Signs with this key; a key that is lent comes with a token.
    ///
    /// # Errors
    /// The token has characters that a header can't have.
    pub fn new(key_id: String, secret: Secret, token: Option<&Secret>, region: String) -> Result<Self> {
        let value = |token: &Secret| {
            let wrong = |_| BlockError::invalid("the session token has characters that a header can't have");
            let mut value = HeaderValue::from_bytes(token.bytes().trim_ascii()).map_err(wrong)?;
            value.set_sensitive(true);
            Ok::<_, BlockError>(value)
        };
        Ok(Self { key_id, secret, token: token.map(value).transpose()?, region })
    }

    /// Adds to a request's headers what says who makes it. `target` is its path, encoded, with its query in order.
    pub fn sign(&self, method: &Method, target: &str, headers: &mut HeaderMap, now: SystemTime) {
        let (date, time) = stamp(now);
        let stamped = [
            (CONTENT, HeaderValue::from_static(NOTHING)),
            (DATE, HeaderValue::try_from(time.as_str()).unwrap_or(HeaderValue::from_static(""))),
        ];
        headers.extend(stamped);
        if let Some(token) = &self.token {
            headers.insert(TOKEN, token.clone());
        }
        let signed: Vec<_> = [header::HOST, header::RANGE, CONTENT, DATE, TOKEN]
            .into_iter()
            .filter_map(|name| Some((headers.get(&name)?.to_str().ok()?.trim(), name)))
            .collect();
        let names = signed.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>().join(";");
        let lines: String = signed.iter().map(|(value, name)| format!("{name}:{value}\n")).collect();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let canonical = format!("{method}\n{path}\n{query}\n{lines}\n{names}\n{NOTHING}");
        let scope = format!("{date}/{}/s3/aws4_request", self.region);
        let text =
            format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex(&Sha256::digest(canonical.as_bytes())));
        let first = Zeroizing::new([b"AWS4", self.secret.bytes()].concat());
        let key = [date.as_str(), &self.region, "s3", "aws4_request"]
            .into_iter()
            .fold(first, |key, part| mac(&key, part));
        let signature = hex(&mac(&key, &text));
        let told = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope},SignedHeaders={names},Signature={signature}",
            self.key_id
        );
        // One that is malformed is not sent, and the request refused.
        if let Ok(mut told) = HeaderValue::try_from(told) {
            told.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, told);
        }
    }
}

fn mac(key: &[u8], text: &str) -> Zeroizing<Vec<u8>> {
    // HMAC takes keys of any length.
    let mac = Hmac::<Sha256>::new_from_slice(key).map(|mac| mac.chain_update(text.as_bytes()));
    Zeroizing::new(mac.map(|mac| mac.finalize().into_bytes().to_vec()).unwrap_or_default())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The day, and the second, as they are written in basic ISO 8601.
fn stamp(now: SystemTime) -> (String, String) {
    let seconds = now.duration_since(UNIX_EPOCH).map(|since| since.as_secs()).unwrap_or_default();
    let (year, month, day) = calendar::date((seconds / 86_400) as i64);
    let date = format!("{year:04}{month:02}{day:02}");
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let time = format!("{date}T{hour:02}{minute:02}{second:02}Z");
    (date, time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_request_is_signed_as_the_specification_s_example() {
        let secret = Secret::new(b"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_vec());
        let signer = Signer::new("AKIAIOSFODNN7EXAMPLE".into(), secret, None, "us-east-1".into()).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("examplebucket.s3.amazonaws.com"));
        headers.insert(header::RANGE, HeaderValue::from_static("bytes=0-9"));
        let day = UNIX_EPOCH + Duration::from_secs(1_369_353_600);
        signer.sign(&Method::GET, "/test.txt", &mut headers, day);
        assert_eq!(headers[DATE], "20130524T000000Z");
        let told = headers[header::AUTHORIZATION].to_str().unwrap();
        let signature = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41";
        let names = "host;range;x-amz-content-sha256;x-amz-date";
        let scope = "AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request";
        assert_eq!(
            told,
            format!("AWS4-HMAC-SHA256 Credential={scope},SignedHeaders={names},Signature={signature}")
        );
    }
}
