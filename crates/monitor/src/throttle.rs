//! Limits of throttle groups and devices, between the schema's types and the core's.
use crate::commands::failed;
use api::codec::Encode;
use api::{BlockIOThrottle, Dict, QmpError, ThrottleGroupProperties, ThrottleLimits, Value};
use block::{BlockError, Device, Graph, IoLimits, Rate, Rates, ThrottleGroup};
use std::sync::Arc;

/// What is put before the name of a limit that is a property of its own.
const PREFIX: &str = "x-";

/// The limits of a group that is made: in one object, or each as a property of its own.
pub(crate) fn group_limits(properties: &ThrottleGroupProperties) -> Result<IoLimits, QmpError> {
    let mut flat = Dict::default();
    if let Value::Dict(given) = properties.encode() {
        let own = given.iter().filter_map(|(name, value)| Some((name.strip_prefix(PREFIX)?, value)));
        own.for_each(|(name, value)| flat.insert(name, value.clone()));
    }
    if flat.iter().any(|(_, value)| value.as_i64().is_some_and(|n| n < 0)) {
        return Err(QmpError::generic("Property values cannot be negative"));
    }
    check_lengths(&flat, PREFIX)?;
    let limits = IoLimits::default().with(&api::codec::decode(Value::Dict(flat)).map_err(failed)?);
    match &properties.limits {
        None => Ok(limits),
        Some(given) => changed_limits(limits, given),
    }
}

/// `limits`, with those that are given.
pub(crate) fn changed_limits(limits: IoLimits, given: &ThrottleLimits) -> Result<IoLimits, QmpError> {
    if let Value::Dict(given) = given.encode() {
        check_lengths(&given, "")?;
    }
    Ok(limits.with(given))
}

/// The limits that a device is given.
pub(crate) fn device_limits(given: &BlockIOThrottle) -> IoLimits {
    let g = given;
    let rate = |average: i64, burst: Option<i64>, seconds: Option<i64>| Rate {
        average,
        burst: burst.unwrap_or(0),
        burst_seconds: seconds.unwrap_or(1),
    };
    IoLimits {
        bytes: Rates {
            total: rate(g.bps, g.bps_max, g.bps_max_length),
            read: rate(g.bps_rd, g.bps_rd_max, g.bps_rd_max_length),
            write: rate(g.bps_wr, g.bps_wr_max, g.bps_wr_max_length),
        },
        requests: Rates {
            total: rate(g.iops, g.iops_max, g.iops_max_length),
            read: rate(g.iops_rd, g.iops_rd_max, g.iops_rd_max_length),
            write: rate(g.iops_wr, g.iops_wr_max, g.iops_wr_max_length),
        },
        request_size: g.iops_size.unwrap_or(0),
    }
}

/// Limits a device, as one of the group of this name: of the one it is in, or of its own, if none is named. With no limit at
/// all it leaves its group.
///
/// # Errors
/// Limits that contradict each other.
pub fn limit(
    graph: &Graph,
    device: &Device,
    group: Option<&str>,
    limits: IoLimits,
) -> Result<(), BlockError> {
    limits.check()?;
    if !limits.any() {
        device.set_throttle_group(None);
        return Ok(());
    }
    let present = device.throttle_group();
    let shown = device.shown();
    let name = group.or(present.as_ref().map(|group| group.name())).unwrap_or(&shown);
    let wanted = graph.objects().hold_or_imply(name, || ThrottleGroup::new(name))?;
    wanted.set_limits(limits)?;
    if !present.is_some_and(|present| Arc::ptr_eq(&present, &wanted)) {
        device.set_throttle_group(Some(wanted));
    }
    Ok(())
}

fn check_lengths(given: &Dict, prefix: &str) -> Result<(), QmpError> {
    let most = i64::from(u32::MAX);
    let too_long = |(name, value): &(&str, &Value)| {
        name.ends_with("-max-length") && value.as_i64().is_some_and(|n| n > most)
    };
    match given.iter().find(too_long) {
        None => Ok(()),
        Some((name, _)) => {
            Err(QmpError::generic(format!("{prefix}{name} value must be in the range [0, {most}]")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(text: &str) -> Result<IoLimits, String> {
        let properties = api::codec::decode(api::json::parse(text).unwrap()).unwrap();
        let limits = group_limits(&properties).map_err(|e| e.desc)?;
        limits.check().map_err(|e| e.message()).map(|()| limits)
    }

    #[test]
    fn a_limit_may_be_a_property_of_its_own_and_those_in_the_object_count_more() {
        let is = limits(
            "{'x-iops-total': 5, 'x-iops-total-max': 9, 'limits': {'iops-total': 7, 'iops-size': 512}}",
        );
        let is = is.unwrap();
        assert_eq!((is.requests.total.average, is.requests.total.burst, is.request_size), (7, 9, 512));
    }

    #[test]
    fn what_contradicts_itself_is_refused_in_the_order_of_the_field() {
        let both = "bps/iops/max total values and read/write values cannot be used at the same time";
        let range = "bps/iops/max values must be within [0, 1000000000000000]";
        for (given, refusal) in [
            ("'iops-total': -1", range),
            ("'iops-total': 1000000000000001", range),
            ("'iops-total': 1, 'iops-read': 1, 'bps-read': -1", both),
            ("'bps-total': 1, 'bps-total-max': 5, 'bps-write-max': 3", both),
            ("'bps-read-max': 4, 'iops-size': 4", "iops size requires an iops value to be set"),
            ("'bps-read-max': 4", "bps_max/iops_max require corresponding bps/iops values"),
            ("'bps-read': 4, 'bps-read-max': 3", "bps_max/iops_max cannot be lower than bps/iops"),
            ("'bps-read': 4, 'bps-read-max-length': 3", "burst length set without burst rate"),
            ("'bps-read': 4, 'bps-read-max': 9, 'bps-read-max-length': 0", "the burst length cannot be 0"),
            (
                "'bps-read': 4, 'bps-read-max': 100000000000000, 'bps-read-max-length': 11",
                "burst length too high for this burst rate",
            ),
        ] {
            assert_eq!(limits(&format!("{{'limits': {{{given}}}}}")).unwrap_err(), refusal);
        }
        let refused = |text: &str| limits(text).unwrap_err();
        assert_eq!(refused("{'x-iops-total': -1}"), "Property values cannot be negative");
        let long = "{'x-iops-read': 3, 'x-iops-read-max': 5, 'x-iops-read-max-length': 4294967296}";
        assert_eq!(refused(long), "x-iops-read-max-length value must be in the range [0, 4294967295]");
        limits("{'limits': {'bps-read': 4, 'bps-read-max-length': 1}}").unwrap();
    }
}
