//! User objects (`object-add`): checked here, and kept in the graph for what refers to them.
use crate::commands::failed;
use crate::secret;
use api::{
    Dict, Encode, IothreadProperties, ObjectOptions, ObjectOptionsBranch, QmpError, ThrottleGroupProperties,
    Value,
};
use block::{Iothread, Object, Objects};

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
            let key = secret::key_of(objects, &properties).map_err(failed)?;
            let read = rt::blocking(move || secret::read(properties, key.as_deref())).await;
            objects.add(&id, read.map_err(failed)?)
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
}
