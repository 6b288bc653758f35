// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! What a daemon or a machine does, as 'cairn top --json' tells it.

use crate::Dict;
use crate::codec::*;

/// What was done in the interval before a look.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TopRates {
    /// Bytes read per second.
    pub read_rate: Option<f64>,
    /// Bytes written per second.
    pub write_rate: Option<f64>,
    /// Reads per second.
    pub reads_rate: Option<f64>,
    /// Writes per second.
    pub writes_rate: Option<f64>,
    /// Flushes per second.
    pub flushes_rate: Option<f64>,
    /// Average time of a read in seconds, if there was one.
    pub read_time: Option<f64>,
    /// Average time of a write in seconds, if there was one.
    pub write_time: Option<f64>,
}

impl Object for TopRates {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            read_rate: from.optional("read-rate")?,
            write_rate: from.optional("write-rate")?,
            reads_rate: from.optional("reads-rate")?,
            writes_rate: from.optional("writes-rate")?,
            flushes_rate: from.optional("flushes-rate")?,
            read_time: from.optional("read-time")?,
            write_time: from.optional("write-time")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("read-rate", &self.read_rate);
        to.put_optional("write-rate", &self.write_rate);
        to.put_optional("reads-rate", &self.reads_rate);
        to.put_optional("writes-rate", &self.writes_rate);
        to.put_optional("flushes-rate", &self.flushes_rate);
        to.put_optional("read-time", &self.read_time);
        to.put_optional("write-time", &self.write_time);
    }
}
object_codec!(TopRates);

/// The same, with what was done since the beginning.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TopCounters {
    /// Bytes read per second.
    pub read_rate: Option<f64>,
    /// Bytes written per second.
    pub write_rate: Option<f64>,
    /// Reads per second.
    pub reads_rate: Option<f64>,
    /// Writes per second.
    pub writes_rate: Option<f64>,
    /// Flushes per second.
    pub flushes_rate: Option<f64>,
    /// Average time of a read in seconds, if there was one.
    pub read_time: Option<f64>,
    /// Average time of a write in seconds, if there was one.
    pub write_time: Option<f64>,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
    /// Flushes.
    pub flushes: u64,
    /// Discards.
    pub discards: u64,
    /// Requests that failed.
    pub failed: u64,
}

impl Object for TopCounters {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            read_rate: from.optional("read-rate")?,
            write_rate: from.optional("write-rate")?,
            reads_rate: from.optional("reads-rate")?,
            writes_rate: from.optional("writes-rate")?,
            flushes_rate: from.optional("flushes-rate")?,
            read_time: from.optional("read-time")?,
            write_time: from.optional("write-time")?,
            read_bytes: from.required("read-bytes")?,
            written_bytes: from.required("written-bytes")?,
            reads: from.required("reads")?,
            writes: from.required("writes")?,
            flushes: from.required("flushes")?,
            discards: from.required("discards")?,
            failed: from.required("failed")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("read-rate", &self.read_rate);
        to.put_optional("write-rate", &self.write_rate);
        to.put_optional("reads-rate", &self.reads_rate);
        to.put_optional("writes-rate", &self.writes_rate);
        to.put_optional("flushes-rate", &self.flushes_rate);
        to.put_optional("read-time", &self.read_time);
        to.put_optional("write-time", &self.write_time);
        to.put("read-bytes", &self.read_bytes);
        to.put("written-bytes", &self.written_bytes);
        to.put("reads", &self.reads);
        to.put("writes", &self.writes);
        to.put("flushes", &self.flushes);
        to.put("discards", &self.discards);
        to.put("failed", &self.failed);
    }
}
object_codec!(TopCounters);

/// A job.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TopJob {
    /// Its id.
    pub id: String,
    /// Its kind.
    pub r#type: String,
    /// Its state.
    pub status: String,
    /// How much is done.
    pub current_progress: u64,
    /// How much there is to do.
    pub total_progress: u64,
    /// The limit that it has, in bytes per second; 0: none.
    pub speed: u64,
    /// How fast it is, in bytes per second.
    pub rate: f64,
    /// Seconds that are left, if it moves.
    pub left: Option<f64>,
    /// What it failed with.
    pub error: Option<String>,
}

impl Object for TopJob {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: from.required("id")?,
            r#type: from.required("type")?,
            status: from.required("status")?,
            current_progress: from.required("current-progress")?,
            total_progress: from.required("total-progress")?,
            speed: from.required("speed")?,
            rate: from.required("rate")?,
            left: from.optional("left")?,
            error: from.optional("error")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("id", &self.id);
        to.put("type", &self.r#type);
        to.put("status", &self.status);
        to.put("current-progress", &self.current_progress);
        to.put("total-progress", &self.total_progress);
        to.put("speed", &self.speed);
        to.put("rate", &self.rate);
        to.put_optional("left", &self.left);
        to.put_optional("error", &self.error);
    }
}
object_codec!(TopJob);

/// An export. Its rates are those of its node; they are left out where nothing was ever counted.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TopExport {
    /// Bytes read per second.
    pub read_rate: Option<f64>,
    /// Bytes written per second.
    pub write_rate: Option<f64>,
    /// Reads per second.
    pub reads_rate: Option<f64>,
    /// Writes per second.
    pub writes_rate: Option<f64>,
    /// Flushes per second.
    pub flushes_rate: Option<f64>,
    /// Average time of a read in seconds, if there was one.
    pub read_time: Option<f64>,
    /// Average time of a write in seconds, if there was one.
    pub write_time: Option<f64>,
    /// Its id.
    pub id: String,
    /// Its kind.
    pub r#type: String,
    /// Its node.
    pub node_name: String,
    /// It is about to end.
    pub shutting_down: bool,
}

impl Object for TopExport {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            read_rate: from.optional("read-rate")?,
            write_rate: from.optional("write-rate")?,
            reads_rate: from.optional("reads-rate")?,
            writes_rate: from.optional("writes-rate")?,
            flushes_rate: from.optional("flushes-rate")?,
            read_time: from.optional("read-time")?,
            write_time: from.optional("write-time")?,
            id: from.required("id")?,
            r#type: from.required("type")?,
            node_name: from.required("node-name")?,
            shutting_down: from.required("shutting-down")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("read-rate", &self.read_rate);
        to.put_optional("write-rate", &self.write_rate);
        to.put_optional("reads-rate", &self.reads_rate);
        to.put_optional("writes-rate", &self.writes_rate);
        to.put_optional("flushes-rate", &self.flushes_rate);
        to.put_optional("read-time", &self.read_time);
        to.put_optional("write-time", &self.write_time);
        to.put("id", &self.id);
        to.put("type", &self.r#type);
        to.put("node-name", &self.node_name);
        to.put("shutting-down", &self.shutting_down);
    }
}
object_codec!(TopExport);

/// A device. Its rates are left out where nothing was ever counted.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TopDevice {
    /// Bytes read per second.
    pub read_rate: Option<f64>,
    /// Bytes written per second.
    pub write_rate: Option<f64>,
    /// Reads per second.
    pub reads_rate: Option<f64>,
    /// Writes per second.
    pub writes_rate: Option<f64>,
    /// Flushes per second.
    pub flushes_rate: Option<f64>,
    /// Average time of a read in seconds, if there was one.
    pub read_time: Option<f64>,
    /// Average time of a write in seconds, if there was one.
    pub write_time: Option<f64>,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
    /// Flushes.
    pub flushes: u64,
    /// Discards.
    pub discards: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Its name.
    pub device: String,
    /// The node of its medium.
    pub node_name: String,
    /// Whether its requests fail.
    pub io_status: String,
}

impl Object for TopDevice {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            read_rate: from.optional("read-rate")?,
            write_rate: from.optional("write-rate")?,
            reads_rate: from.optional("reads-rate")?,
            writes_rate: from.optional("writes-rate")?,
            flushes_rate: from.optional("flushes-rate")?,
            read_time: from.optional("read-time")?,
            write_time: from.optional("write-time")?,
            read_bytes: from.required("read-bytes")?,
            written_bytes: from.required("written-bytes")?,
            reads: from.required("reads")?,
            writes: from.required("writes")?,
            flushes: from.required("flushes")?,
            discards: from.required("discards")?,
            failed: from.required("failed")?,
            device: from.required("device")?,
            node_name: from.required("node-name")?,
            io_status: from.required("io-status")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("read-rate", &self.read_rate);
        to.put_optional("write-rate", &self.write_rate);
        to.put_optional("reads-rate", &self.reads_rate);
        to.put_optional("writes-rate", &self.writes_rate);
        to.put_optional("flushes-rate", &self.flushes_rate);
        to.put_optional("read-time", &self.read_time);
        to.put_optional("write-time", &self.write_time);
        to.put("read-bytes", &self.read_bytes);
        to.put("written-bytes", &self.written_bytes);
        to.put("reads", &self.reads);
        to.put("writes", &self.writes);
        to.put("flushes", &self.flushes);
        to.put("discards", &self.discards);
        to.put("failed", &self.failed);
        to.put("device", &self.device);
        to.put("node-name", &self.node_name);
        to.put("io-status", &self.io_status);
    }
}
object_codec!(TopDevice);

/// A node. Its rates are left out where nothing was ever counted.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TopNode {
    /// Bytes read per second.
    pub read_rate: Option<f64>,
    /// Bytes written per second.
    pub write_rate: Option<f64>,
    /// Reads per second.
    pub reads_rate: Option<f64>,
    /// Writes per second.
    pub writes_rate: Option<f64>,
    /// Flushes per second.
    pub flushes_rate: Option<f64>,
    /// Average time of a read in seconds, if there was one.
    pub read_time: Option<f64>,
    /// Average time of a write in seconds, if there was one.
    pub write_time: Option<f64>,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
    /// Flushes.
    pub flushes: u64,
    /// Discards.
    pub discards: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Its name.
    pub node_name: String,
    /// Its driver.
    pub driver: String,
    /// Its file name.
    pub file: String,
    /// Bytes that it shows.
    pub size: u64,
    /// It can't be written to.
    pub read_only: bool,
}

impl Object for TopNode {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            read_rate: from.optional("read-rate")?,
            write_rate: from.optional("write-rate")?,
            reads_rate: from.optional("reads-rate")?,
            writes_rate: from.optional("writes-rate")?,
            flushes_rate: from.optional("flushes-rate")?,
            read_time: from.optional("read-time")?,
            write_time: from.optional("write-time")?,
            read_bytes: from.required("read-bytes")?,
            written_bytes: from.required("written-bytes")?,
            reads: from.required("reads")?,
            writes: from.required("writes")?,
            flushes: from.required("flushes")?,
            discards: from.required("discards")?,
            failed: from.required("failed")?,
            node_name: from.required("node-name")?,
            driver: from.required("driver")?,
            file: from.required("file")?,
            size: from.required("size")?,
            read_only: from.required("read-only")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("read-rate", &self.read_rate);
        to.put_optional("write-rate", &self.write_rate);
        to.put_optional("reads-rate", &self.reads_rate);
        to.put_optional("writes-rate", &self.writes_rate);
        to.put_optional("flushes-rate", &self.flushes_rate);
        to.put_optional("read-time", &self.read_time);
        to.put_optional("write-time", &self.write_time);
        to.put("read-bytes", &self.read_bytes);
        to.put("written-bytes", &self.written_bytes);
        to.put("reads", &self.reads);
        to.put("writes", &self.writes);
        to.put("flushes", &self.flushes);
        to.put("discards", &self.discards);
        to.put("failed", &self.failed);
        to.put("node-name", &self.node_name);
        to.put("driver", &self.driver);
        to.put("file", &self.file);
        to.put("size", &self.size);
        to.put("read-only", &self.read_only);
    }
}
object_codec!(TopNode);

/// One look: a line.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TopLook {
    /// What program it is of.
    pub server: String,
    /// Seconds since the look before.
    pub interval: f64,
    /// The jobs.
    pub jobs: Vec<TopJob>,
    /// The exports.
    pub exports: Vec<TopExport>,
    /// The devices.
    pub devices: Vec<TopDevice>,
    /// The nodes.
    pub nodes: Vec<TopNode>,
}

impl Object for TopLook {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            server: from.required("server")?,
            interval: from.required("interval")?,
            jobs: from.required("jobs")?,
            exports: from.required("exports")?,
            devices: from.required("devices")?,
            nodes: from.required("nodes")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("server", &self.server);
        to.put("interval", &self.interval);
        to.put("jobs", &self.jobs);
        to.put("exports", &self.exports);
        to.put("devices", &self.devices);
        to.put("nodes", &self.nodes);
    }
}
object_codec!(TopLook);
