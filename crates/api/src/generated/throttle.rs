// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! Throttling: of devices, and by groups that share limits.

use crate::codec::*;
use crate::{Dict, QmpError};

/// Limits of a device. Those that are absent are none.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockIOThrottle {
    /// The device.
    pub device: Option<String>,
    /// The device, by the name of what uses it.
    pub id: Option<String>,
    /// Bytes per second.
    pub bps: i64,
    /// Bytes read per second.
    pub bps_rd: i64,
    /// Bytes written per second.
    pub bps_wr: i64,
    /// Requests per second.
    pub iops: i64,
    /// Reads per second.
    pub iops_rd: i64,
    /// Writes per second.
    pub iops_wr: i64,
    /// Bytes per second in a burst.
    pub bps_max: Option<i64>,
    /// Bytes read per second in a burst.
    pub bps_rd_max: Option<i64>,
    /// Bytes written per second in a burst.
    pub bps_wr_max: Option<i64>,
    /// Requests per second in a burst.
    pub iops_max: Option<i64>,
    /// Reads per second in a burst.
    pub iops_rd_max: Option<i64>,
    /// Writes per second in a burst.
    pub iops_wr_max: Option<i64>,
    /// Longest burst of `bps_max` in seconds.
    pub bps_max_length: Option<i64>,
    /// Longest burst of `bps_rd_max` in seconds.
    pub bps_rd_max_length: Option<i64>,
    /// Longest burst of `bps_wr_max` in seconds.
    pub bps_wr_max_length: Option<i64>,
    /// Longest burst of `iops_max` in seconds.
    pub iops_max_length: Option<i64>,
    /// Longest burst of `iops_rd_max` in seconds.
    pub iops_rd_max_length: Option<i64>,
    /// Longest burst of `iops_wr_max` in seconds.
    pub iops_wr_max_length: Option<i64>,
    /// Bytes up to which a request counts as one.
    pub iops_size: Option<i64>,
    /// The throttle group; the one that it is in, or else one of the device's name, if absent.
    pub group: Option<String>,
}

impl Object for BlockIOThrottle {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            device: from.optional("device")?,
            id: from.optional("id")?,
            bps: from.required("bps")?,
            bps_rd: from.required("bps_rd")?,
            bps_wr: from.required("bps_wr")?,
            iops: from.required("iops")?,
            iops_rd: from.required("iops_rd")?,
            iops_wr: from.required("iops_wr")?,
            bps_max: from.optional("bps_max")?,
            bps_rd_max: from.optional("bps_rd_max")?,
            bps_wr_max: from.optional("bps_wr_max")?,
            iops_max: from.optional("iops_max")?,
            iops_rd_max: from.optional("iops_rd_max")?,
            iops_wr_max: from.optional("iops_wr_max")?,
            bps_max_length: from.optional("bps_max_length")?,
            bps_rd_max_length: from.optional("bps_rd_max_length")?,
            bps_wr_max_length: from.optional("bps_wr_max_length")?,
            iops_max_length: from.optional("iops_max_length")?,
            iops_rd_max_length: from.optional("iops_rd_max_length")?,
            iops_wr_max_length: from.optional("iops_wr_max_length")?,
            iops_size: from.optional("iops_size")?,
            group: from.optional("group")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("device", &self.device);
        to.put_optional("id", &self.id);
        to.put("bps", &self.bps);
        to.put("bps_rd", &self.bps_rd);
        to.put("bps_wr", &self.bps_wr);
        to.put("iops", &self.iops);
        to.put("iops_rd", &self.iops_rd);
        to.put("iops_wr", &self.iops_wr);
        to.put_optional("bps_max", &self.bps_max);
        to.put_optional("bps_rd_max", &self.bps_rd_max);
        to.put_optional("bps_wr_max", &self.bps_wr_max);
        to.put_optional("iops_max", &self.iops_max);
        to.put_optional("iops_rd_max", &self.iops_rd_max);
        to.put_optional("iops_wr_max", &self.iops_wr_max);
        to.put_optional("bps_max_length", &self.bps_max_length);
        to.put_optional("bps_rd_max_length", &self.bps_rd_max_length);
        to.put_optional("bps_wr_max_length", &self.bps_wr_max_length);
        to.put_optional("iops_max_length", &self.iops_max_length);
        to.put_optional("iops_rd_max_length", &self.iops_rd_max_length);
        to.put_optional("iops_wr_max_length", &self.iops_wr_max_length);
        to.put_optional("iops_size", &self.iops_size);
        to.put_optional("group", &self.group);
    }
}
object_codec!(BlockIOThrottle);

/// Limits of I/O. Each may have a burst, for a time.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ThrottleLimits {
    /// Requests per second.
    pub iops_total: Option<i64>,
    /// Requests per second in a burst.
    pub iops_total_max: Option<i64>,
    /// Longest burst in seconds.
    pub iops_total_max_length: Option<i64>,
    /// Reads per second.
    pub iops_read: Option<i64>,
    /// Reads per second in a burst.
    pub iops_read_max: Option<i64>,
    /// Longest burst in seconds.
    pub iops_read_max_length: Option<i64>,
    /// Writes per second.
    pub iops_write: Option<i64>,
    /// Writes per second in a burst.
    pub iops_write_max: Option<i64>,
    /// Longest burst in seconds.
    pub iops_write_max_length: Option<i64>,
    /// Bytes per second.
    pub bps_total: Option<i64>,
    /// Bytes per second in a burst.
    pub bps_total_max: Option<i64>,
    /// Longest burst in seconds.
    pub bps_total_max_length: Option<i64>,
    /// Bytes read per second.
    pub bps_read: Option<i64>,
    /// Bytes read per second in a burst.
    pub bps_read_max: Option<i64>,
    /// Longest burst in seconds.
    pub bps_read_max_length: Option<i64>,
    /// Bytes written per second.
    pub bps_write: Option<i64>,
    /// Bytes written per second in a burst.
    pub bps_write_max: Option<i64>,
    /// Longest burst in seconds.
    pub bps_write_max_length: Option<i64>,
    /// Bytes up to which a request counts as one.
    pub iops_size: Option<i64>,
}

impl Object for ThrottleLimits {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            iops_total: from.optional("iops-total")?,
            iops_total_max: from.optional("iops-total-max")?,
            iops_total_max_length: from.optional("iops-total-max-length")?,
            iops_read: from.optional("iops-read")?,
            iops_read_max: from.optional("iops-read-max")?,
            iops_read_max_length: from.optional("iops-read-max-length")?,
            iops_write: from.optional("iops-write")?,
            iops_write_max: from.optional("iops-write-max")?,
            iops_write_max_length: from.optional("iops-write-max-length")?,
            bps_total: from.optional("bps-total")?,
            bps_total_max: from.optional("bps-total-max")?,
            bps_total_max_length: from.optional("bps-total-max-length")?,
            bps_read: from.optional("bps-read")?,
            bps_read_max: from.optional("bps-read-max")?,
            bps_read_max_length: from.optional("bps-read-max-length")?,
            bps_write: from.optional("bps-write")?,
            bps_write_max: from.optional("bps-write-max")?,
            bps_write_max_length: from.optional("bps-write-max-length")?,
            iops_size: from.optional("iops-size")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("iops-total", &self.iops_total);
        to.put_optional("iops-total-max", &self.iops_total_max);
        to.put_optional("iops-total-max-length", &self.iops_total_max_length);
        to.put_optional("iops-read", &self.iops_read);
        to.put_optional("iops-read-max", &self.iops_read_max);
        to.put_optional("iops-read-max-length", &self.iops_read_max_length);
        to.put_optional("iops-write", &self.iops_write);
        to.put_optional("iops-write-max", &self.iops_write_max);
        to.put_optional("iops-write-max-length", &self.iops_write_max_length);
        to.put_optional("bps-total", &self.bps_total);
        to.put_optional("bps-total-max", &self.bps_total_max);
        to.put_optional("bps-total-max-length", &self.bps_total_max_length);
        to.put_optional("bps-read", &self.bps_read);
        to.put_optional("bps-read-max", &self.bps_read_max);
        to.put_optional("bps-read-max-length", &self.bps_read_max_length);
        to.put_optional("bps-write", &self.bps_write);
        to.put_optional("bps-write-max", &self.bps_write_max);
        to.put_optional("bps-write-max-length", &self.bps_write_max_length);
        to.put_optional("iops-size", &self.iops_size);
    }
}
object_codec!(ThrottleLimits);

/// Limits that several nodes share.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ThrottleGroupProperties {
    /// The limits; none if absent.
    pub limits: Option<ThrottleLimits>,
    /// The same as `iops-total` of the limits.
    pub x_iops_total: Option<i64>,
    /// The same as `iops-total-max` of the limits.
    pub x_iops_total_max: Option<i64>,
    /// The same as `iops-total-max-length` of the limits.
    pub x_iops_total_max_length: Option<i64>,
    /// The same as `iops-read` of the limits.
    pub x_iops_read: Option<i64>,
    /// The same as `iops-read-max` of the limits.
    pub x_iops_read_max: Option<i64>,
    /// The same as `iops-read-max-length` of the limits.
    pub x_iops_read_max_length: Option<i64>,
    /// The same as `iops-write` of the limits.
    pub x_iops_write: Option<i64>,
    /// The same as `iops-write-max` of the limits.
    pub x_iops_write_max: Option<i64>,
    /// The same as `iops-write-max-length` of the limits.
    pub x_iops_write_max_length: Option<i64>,
    /// The same as `bps-total` of the limits.
    pub x_bps_total: Option<i64>,
    /// The same as `bps-total-max` of the limits.
    pub x_bps_total_max: Option<i64>,
    /// The same as `bps-total-max-length` of the limits.
    pub x_bps_total_max_length: Option<i64>,
    /// The same as `bps-read` of the limits.
    pub x_bps_read: Option<i64>,
    /// The same as `bps-read-max` of the limits.
    pub x_bps_read_max: Option<i64>,
    /// The same as `bps-read-max-length` of the limits.
    pub x_bps_read_max_length: Option<i64>,
    /// The same as `bps-write` of the limits.
    pub x_bps_write: Option<i64>,
    /// The same as `bps-write-max` of the limits.
    pub x_bps_write_max: Option<i64>,
    /// The same as `bps-write-max-length` of the limits.
    pub x_bps_write_max_length: Option<i64>,
    /// The same as `iops-size` of the limits.
    pub x_iops_size: Option<i64>,
}

impl Object for ThrottleGroupProperties {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            limits: from.optional("limits")?,
            x_iops_total: from.optional("x-iops-total")?,
            x_iops_total_max: from.optional("x-iops-total-max")?,
            x_iops_total_max_length: from.optional("x-iops-total-max-length")?,
            x_iops_read: from.optional("x-iops-read")?,
            x_iops_read_max: from.optional("x-iops-read-max")?,
            x_iops_read_max_length: from.optional("x-iops-read-max-length")?,
            x_iops_write: from.optional("x-iops-write")?,
            x_iops_write_max: from.optional("x-iops-write-max")?,
            x_iops_write_max_length: from.optional("x-iops-write-max-length")?,
            x_bps_total: from.optional("x-bps-total")?,
            x_bps_total_max: from.optional("x-bps-total-max")?,
            x_bps_total_max_length: from.optional("x-bps-total-max-length")?,
            x_bps_read: from.optional("x-bps-read")?,
            x_bps_read_max: from.optional("x-bps-read-max")?,
            x_bps_read_max_length: from.optional("x-bps-read-max-length")?,
            x_bps_write: from.optional("x-bps-write")?,
            x_bps_write_max: from.optional("x-bps-write-max")?,
            x_bps_write_max_length: from.optional("x-bps-write-max-length")?,
            x_iops_size: from.optional("x-iops-size")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("limits", &self.limits);
        to.put_optional("x-iops-total", &self.x_iops_total);
        to.put_optional("x-iops-total-max", &self.x_iops_total_max);
        to.put_optional("x-iops-total-max-length", &self.x_iops_total_max_length);
        to.put_optional("x-iops-read", &self.x_iops_read);
        to.put_optional("x-iops-read-max", &self.x_iops_read_max);
        to.put_optional("x-iops-read-max-length", &self.x_iops_read_max_length);
        to.put_optional("x-iops-write", &self.x_iops_write);
        to.put_optional("x-iops-write-max", &self.x_iops_write_max);
        to.put_optional("x-iops-write-max-length", &self.x_iops_write_max_length);
        to.put_optional("x-bps-total", &self.x_bps_total);
        to.put_optional("x-bps-total-max", &self.x_bps_total_max);
        to.put_optional("x-bps-total-max-length", &self.x_bps_total_max_length);
        to.put_optional("x-bps-read", &self.x_bps_read);
        to.put_optional("x-bps-read-max", &self.x_bps_read_max);
        to.put_optional("x-bps-read-max-length", &self.x_bps_read_max_length);
        to.put_optional("x-bps-write", &self.x_bps_write);
        to.put_optional("x-bps-write-max", &self.x_bps_write_max);
        to.put_optional("x-bps-write-max-length", &self.x_bps_write_max_length);
        to.put_optional("x-iops-size", &self.x_iops_size);
    }
}
object_codec!(ThrottleGroupProperties);

/// The handlers of section `throttle`.
pub trait ThrottleCommands: Send + Sync {
    /// Limits the requests of a device, together with the other devices of its group; with no limit at all it leaves the group.
    fn block_set_io_throttle(
        &self,
        arguments: BlockIOThrottle,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;
}
