//! User objects (`object-add`): kept by id for whatever refers to them.
use api::{
    Encode, IothreadProperties, ObjectOptions, ObjectOptionsBranch, ObjectType, QCryptoSecretFormat, QmpError,
};
use api::{SecretProperties, ThrottleLimits, Value};
use parking_lot::Mutex;
use std::io::Read;

/// Largest secret, in bytes.
const MAX_SECRET: u64 = 1 << 20;

/// Highest limit of a throttle group, in bytes or requests a second.
const MAX_LIMIT: i64 = 1_000_000_000_000_000;

/// Most objects.
const MAX_OBJECTS: usize = 4096;

/// The objects.
#[derive(Default)]
pub(crate) struct Objects(Mutex<Vec<Object>>);

struct Object {
    id: String,
    kind: ObjectType,
}

impl Objects {
    /// Makes an object.
    pub(crate) async fn add(&self, options: ObjectOptions) -> Result<(), QmpError> {
        let ObjectOptions { id, branch } = options;
        if !is_id(&id) {
            return Err(QmpError::generic("Parameter 'id' expects an identifier"));
        }
        let kind = branch.qom_type();
        match branch {
            ObjectOptionsBranch::Iothread(properties) => check_iothread(&properties)?,
            ObjectOptionsBranch::Secret(properties) => check_secret(properties).await?,
            ObjectOptionsBranch::ThrottleGroup(properties) => check_limits(properties.limits.as_ref())?,
        }
        let mut objects = self.0.lock();
        if objects.iter().any(|o| o.id == id) {
            let text = format!("attempt to add duplicate property '{id}' to object (type 'container')");
            return Err(QmpError::generic(text));
        }
        if objects.len() >= MAX_OBJECTS {
            return Err(QmpError::generic(format!("there are {MAX_OBJECTS} objects already; delete some")));
        }
        objects.push(Object { id, kind });
        Ok(())
    }

    /// Deletes an object.
    pub(crate) fn remove(&self, id: &str) -> Result<(), QmpError> {
        let mut objects = self.0.lock();
        let at = objects.iter().position(|o| o.id == id);
        let at = at.ok_or_else(|| QmpError::generic(format!("object '{id}' not found")))?;
        objects.remove(at);
        Ok(())
    }

    /// Whether there is an object of this kind and id.
    pub(crate) fn has(&self, kind: ObjectType, id: &str) -> bool {
        self.0.lock().iter().any(|o| o.kind == kind && o.id == id)
    }
}

fn is_id(id: &str) -> bool {
    id.starts_with(|c: char| c.is_ascii_alphabetic())
        && id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))
}

/// An iothread's figures are those of another engine; they are checked, and the workers keep their own.
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

/// Limits of a throttle group, which its filter will keep once there is one.
fn check_limits(limits: Option<&ThrottleLimits>) -> Result<(), QmpError> {
    let Some(Value::Dict(limits)) = limits.map(Encode::encode) else { return Ok(()) };
    let allowed = |value: &Value| value.as_i64().is_some_and(|n| (0..=MAX_LIMIT).contains(&n));
    if !limits.iter().all(|(_, value)| allowed(value)) {
        return Err(QmpError::generic(format!("bps/iops/max values must be within [0, {MAX_LIMIT}]")));
    }
    let of = |name: String| limits.get(name.as_str()).and_then(Value::as_i64).unwrap_or(0);
    contradiction(of).map_or(Ok(()), |text| Err(QmpError::generic(text)))
}

/// What in a set of limits excludes something else.
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

/// Reads a secret as whoever uses it would, so that a wrong one is refused when it is given. Nothing uses one yet, so
/// it is not kept.
async fn check_secret(properties: SecretProperties) -> Result<(), QmpError> {
    let SecretProperties { format, data, file } = properties;
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
        Some(QCryptoSecretFormat::Base64) => from_base64(&raw).map(drop),
        Some(QCryptoSecretFormat::Raw) | None => Ok(()),
    }
}

/// Reads a secret's file; never waits on a FIFO's writer longer than it takes to see that it is one.
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
    let invalid = || QmpError::generic("the secret is not valid base64");
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count, mut padding) = (0u32, 0, 0);
    for c in text.iter().filter(|c| !c.is_ascii_whitespace()) {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' if count % 4 >= 2 => {
                padding += 1;
                0
            }
            _ => return Err(invalid()),
        };
        if padding > 0 && *c != b'=' {
            return Err(invalid());
        }
        bits = bits << 6 | u32::from(value);
        count += 1;
        if count % 4 == 0 {
            bytes.extend_from_slice(bits.to_be_bytes().get(1..).unwrap_or_default());
        }
    }
    if count % 4 != 0 || padding > 2 {
        return Err(invalid());
    }
    bytes.truncate(bytes.len() - padding);
    Ok(bytes)
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
    fn base64_is_decoded_and_what_is_none_is_refused() {
        assert_eq!(from_base64(b"Y2Fpcm4=").unwrap(), b"cairn");
        assert_eq!(from_base64(b"Y2Fp\ncm4x\n").unwrap(), b"cairn1");
        assert_eq!(from_base64(b"").unwrap(), b"");
        for wrong in ["Y2F", "Y2Fp=", "====", "Y2=p", "Y2Fpcm4*", "YQ===", "YQ==YQ=="] {
            assert!(from_base64(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
