// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! Throttling of devices.

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

/// The handlers of section `throttle`.
pub trait ThrottleCommands: Send + Sync {
    /// Limits the requests of a device, together with the other devices of its group; with no limit at all it leaves the group.
    fn block_set_io_throttle(
        &self,
        arguments: BlockIOThrottle,
    ) -> impl Future<Output = Result<(), QmpError>> + Send;
}
