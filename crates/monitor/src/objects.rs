//! User objects (`object-add`): checked here, and kept in the graph for what refers to them.
use crate::commands::failed;
use api::{
    Dict, Encode, IothreadProperties, ObjectOptions, ObjectOptionsBranch, QCryptoSecretFormat, QmpError,
    SecretProperties, ThrottleGroupProperties, Value,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use block::{Iothread, Object, Objects, Secret};
use std::io::Read;

/// Largest secret, in bytes.
const MAX_SECRET: u64 = 1 << 20;

/// Highest limit of a throttle group, in bytes or requests a second.
const MAX_LIMIT: i64 = 1_000_000_000_000_000;

/// Makes an object.
pub(crate) async fn add(objects: &Objects, options: ObjectOptions) -> Result<(), QmpError> {
    let ObjectOptions { id, branch } = options;
    let added = match branch {
        ObjectOptionsBranch::Iothread(properties) => {
            check_iothread(&properties)?;
            objects.add(&id, Iothread)
        }
        ObjectOptionsBranch::Secret(properties) => {
            let secret = Secret::new(read_secret(properties).await?);
            objects.add(&id, secret)
        }
        ObjectOptionsBranch::ThrottleGroup(properties) => {
            check_throttle(&properties)?;
            objects.add(&id, ThrottleGroup)
        }
    };
    added.map_err(failed)
}

/// A throttle group. Its limits are checked; there is no filter yet that enforces them.
struct ThrottleGroup;

impl Object for ThrottleGroup {
    const KIND: &'static str = "throttle-group";
}

/// An iothread's settings belong to QEMU's event loop: they are checked, and have no effect on the workers.
fn check_iothread(properties: &IothreadProperties) -> Result<(), QmpError> {
    let figures = [
        ("aio-max-batch", properties.aio_max_batch),
        ("thread-pool-min", properties.thread_pool_min),
        ("thread-pool-max", properties.thread_pool_max),
        ("poll-max-ns", properties.poll_max_ns),
        ("poll-grow", properties.poll_grow),
        ("poll-shrink", properties.poll_shrink),
    ];
    match figures.into_iter().find(|(_, figure)| figure.is_some_and(|n| n < 0)) {
        None => Ok(()),
        Some((name, _)) => Err(QmpError::generic(format!("{name} value must be in range [0, {}]", i64::MAX))),
    }
}

/// The limits of a throttle group: in one object, or each as a property of its own.
fn check_throttle(properties: &ThrottleGroupProperties) -> Result<(), QmpError> {
    if let Some(Value::Dict(limits)) = properties.limits.as_ref().map(Encode::encode) {
        check_limits(&limits)?;
    }
    let Value::Dict(properties) = properties.encode() else { return Ok(()) };
    let mut limits = Dict::default();
    for (name, value) in properties.iter() {
        if let Some(name) = name.strip_prefix("x-") {
            limits.insert(name, value.clone());
        }
    }
    check_limits(&limits)
}

fn check_limits(limits: &Dict) -> Result<(), QmpError> {
    let allowed = |value: &Value| value.as_i64().is_some_and(|n| (0..=MAX_LIMIT).contains(&n));
    if !limits.iter().all(|(_, value)| allowed(value)) {
        return Err(QmpError::generic(format!("bps/iops/max values must be within [0, {MAX_LIMIT}]")));
    }
    let of = |name: String| limits.get(name.as_str()).and_then(Value::as_i64).unwrap_or(0);
    contradiction(of).map_or(Ok(()), |text| Err(QmpError::generic(text)))
}

/// The first contradiction in a set of limits.
fn contradiction(of: impl Fn(String) -> i64) -> Option<&'static str> {
    let set = |name: String| of(name) != 0;
    for unit in ["bps", "iops"] {
        for part in ["", "-max"] {
            let [total, read, write] = ["total", "read", "write"].map(|d| set(format!("{unit}-{d}{part}")));
            if total && (read || write) {
                return Some(
                    "bps/iops/max total values and read/write values cannot be used at the same time",
                );
            }
        }
    }
    if set("iops-size".to_owned()) && !["total", "read", "write"].iter().any(|d| set(format!("iops-{d}"))) {
        return Some("iops size requires an iops value to be set");
    }
    for name in ["bps-total", "bps-read", "bps-write", "iops-total", "iops-read", "iops-write"] {
        let (average, most) = (of(name.to_owned()), of(format!("{name}-max")));
        if most != 0 && average == 0 {
            return Some("bps_max/iops_max require corresponding bps/iops values");
        }
        if most != 0 && most < average {
            return Some("bps_max/iops_max cannot be lower than bps/iops");
        }
        if most == 0 && of(format!("{name}-max-length")) > 1 {
            return Some("burst length set without burst rate");
        }
    }
    None
}

/// The bytes of a secret.
async fn read_secret(properties: SecretProperties) -> Result<Vec<u8>, QmpError> {
    let SecretProperties { format, data, file, keyid, iv } = properties;
    if keyid.or(iv).is_some() {
        return Err(QmpError::generic("secrets that are encrypted by another secret are not supported yet"));
    }
    let raw = match (data, file) {
        (Some(_), Some(_)) => return Err(QmpError::generic("'file' and 'data' are mutually exclusive")),
        (None, None) => return Err(QmpError::generic("Either 'file' or 'data' must be provided")),
        (Some(data), None) => data.into_bytes(),
        (None, Some(file)) => {
            let name = file.clone();
            let read = rt::blocking(move || read_bounded(&name)).await;
            read.map_err(|e| {
                QmpError::generic(block::BlockError::os(format!("Unable to read {file}"), &e).to_string())
            })?
        }
    };
    match format {
        Some(QCryptoSecretFormat::Base64) => from_base64(&raw),
        Some(QCryptoSecretFormat::Raw) | None => Ok(raw),
    }
}

/// Reads a secret's file; a FIFO is refused, not waited on.
fn read_bounded(name: &str) -> std::io::Result<Vec<u8>> {
    let path = rt::fs::path(name);
    if !std::fs::metadata(&path)?.is_file() {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MAX_SECRET + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_SECRET {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "it is larger than 1 MiB"));
    }
    Ok(bytes)
}

/// Decodes base64 (RFC 4648, section 4). White space between is passed over.
fn from_base64(text: &[u8]) -> Result<Vec<u8>, QmpError> {
    let text: Vec<u8> = text.iter().copied().filter(|c| !c.is_ascii_whitespace()).collect();
    STANDARD.decode(text).map_err(|e| QmpError::generic(format!("the secret is not valid base64: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_contradict_each_other_are_refused() {
        let of = |given: &[(&str, i64)], name: &str| {
            given.iter().find(|(n, _)| *n == name).map_or(0, |(_, value)| *value)
        };
        let refused = |given: &[(&str, i64)]| contradiction(|name| of(given, &name));
        assert_eq!(refused(&[("iops-total", 100), ("bps-read", 5), ("bps-read-max", 6)]), None);
        assert!(refused(&[("iops-total", 100), ("iops-read", 4)]).unwrap().contains("same time"));
        assert!(refused(&[("bps-total-max", 100)]).unwrap().contains("corresponding"));
        assert!(refused(&[("bps-total", 200), ("bps-total-max", 100)]).unwrap().contains("lower"));
        assert!(refused(&[("bps-total", 200), ("bps-total-max-length", 9)]).unwrap().contains("burst"));
        assert!(refused(&[("bps-total", 200), ("iops-size", 9)]).unwrap().contains("iops size"));
    }

    #[test]
    fn a_limit_may_be_a_property_of_its_own() {
        let of = |text: &str| check_throttle(&api::codec::decode(api::json::parse(text).unwrap()).unwrap());
        of("{'x-iops-total': 5, 'x-iops-total-max': 9, 'x-iops-size': 512}").unwrap();
        for wrong in ["{'x-iops-total': -1}", "{'x-bps-total-max': 9}", "{'limits': {'bps-read-max': 9}}"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_secret_that_another_one_encrypts_is_refused_by_name() {
        let properties = api::json::parse("{'data': 'AAAA', 'keyid': 'k', 'iv': 'AAAA'}").unwrap();
        let refused = rt::block_on_control(read_secret(api::codec::decode(properties).unwrap())).unwrap_err();
        assert!(refused.to_string().contains("another secret"), "{refused}");
    }

    #[test]
    fn base64_is_decoded_and_what_is_none_is_refused() {
        assert_eq!(from_base64(b"Y2Fpcm4=").unwrap(), b"cairn");
        assert_eq!(from_base64(b"Y2Fp\ncm4x\n").unwrap(), b"cairn1");
        assert_eq!(from_base64(b"").unwrap(), b"");
        for wrong in ["Y2F", "Y2Fp=", "====", "Y2=p", "Y2Fpcm4*", "YQ===", "YQ==YQ=="] {
            assert!(from_base64(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
