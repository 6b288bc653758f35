//! What one sample and the one before it say together: rates, latencies, time left.

use super::sample::{Counters, Export, Job, Sample};
use api::{Dict, Value};
use std::collections::HashMap;

/// How much of a job's rate is that of the last interval; the rest is what it was before.
const NEWEST: f64 = 0.4;

/// Rates of a device or a node in the last interval.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rates {
    /// Bytes per second.
    pub(super) read: f64,
    /// Bytes per second.
    pub(super) written: f64,
    /// Requests per second.
    pub(super) reads: f64,
    /// Requests per second.
    pub(super) writes: f64,
    /// Requests per second.
    pub(super) flushes: f64,
    /// Average time of a read in seconds, if there was one.
    pub(super) read_time: Option<f64>,
    /// Average time of a write in seconds, if there was one.
    pub(super) write_time: Option<f64>,
}

/// A device with what it does.
pub(super) struct DeviceFigures {
    pub(super) name: String,
    pub(super) node: String,
    pub(super) status: String,
    pub(super) rates: Option<Rates>,
    pub(super) counters: Counters,
}

/// A node with what it does.
pub(super) struct NodeFigures {
    pub(super) name: String,
    pub(super) driver: String,
    pub(super) file: String,
    pub(super) size: u64,
    pub(super) read_only: bool,
    pub(super) rates: Option<Rates>,
    pub(super) counters: Counters,
}

/// A job with how fast it is.
pub(super) struct JobFigures {
    pub(super) job: Job,
    /// Bytes per second.
    pub(super) rate: f64,
    /// Seconds; nothing if it does not move.
    pub(super) left: Option<f64>,
}

/// Everything that is shown.
pub(super) struct Figures {
    pub(super) server: String,
    /// Length of the interval in seconds.
    pub(super) interval: f64,
    pub(super) devices: Vec<DeviceFigures>,
    pub(super) nodes: Vec<NodeFigures>,
    /// Exports, with the rates of their nodes.
    pub(super) exports: Vec<(Export, Option<Rates>)>,
    pub(super) jobs: Vec<JobFigures>,
}

/// The rates of jobs over several intervals, by job.
#[derive(Default)]
pub(super) struct Smooth(HashMap<String, f64>);

impl Smooth {
    fn rate(&mut self, job: &str, newest: f64) -> f64 {
        let rate = self.0.get(job).map_or(newest, |before| NEWEST * newest + (1.0 - NEWEST) * before);
        self.0.insert(job.to_owned(), rate);
        rate
    }
}

impl Figures {
    /// What happened from `before` to `now`.
    pub(super) fn between(before: &Sample, now: &Sample, smooth: &mut Smooth) -> Figures {
        let interval = (now.at_ns.saturating_sub(before.at_ns)).max(1) as f64 / 1e9;
        smooth.0.retain(|id, _| now.jobs.iter().any(|job| job.id == *id));
        let devices = now.devices.iter().map(|device| {
            let old = before.devices.iter().find(|old| old.name == device.name);
            DeviceFigures {
                name: device.name.clone(),
                node: device.node.clone(),
                status: device.status.clone(),
                rates: rates(old.map(|old| old.counters), device.counters, interval),
                counters: device.counters,
            }
        });
        let nodes = now.nodes.iter().map(|node| {
            let old = before.nodes.iter().find(|old| old.name == node.name);
            NodeFigures {
                name: node.name.clone(),
                driver: node.driver.clone(),
                file: node.file.clone(),
                size: node.size,
                read_only: node.read_only,
                rates: rates(old.map(|old| old.counters), node.counters, interval),
                counters: node.counters,
            }
        });
        let nodes: Vec<_> = nodes.collect();
        let exports = now.exports.iter().map(|export| {
            let node = nodes.iter().find(|node| node.name == export.node);
            (export.clone(), node.and_then(|node| node.rates))
        });
        let jobs = now.jobs.iter().map(|job| {
            let old = before.jobs.iter().find(|old| old.id == job.id);
            let moved = old.map_or(0, |old| job.done.saturating_sub(old.done));
            let rate = smooth.rate(&job.id, moved as f64 / interval);
            let still = job.all.saturating_sub(job.done) as f64;
            let left = (rate >= 1.0 && job.status == "running").then(|| still / rate);
            JobFigures { job: job.clone(), rate, left }
        });
        Figures {
            server: now.server.clone(),
            interval,
            devices: devices.collect(),
            exports: exports.collect(),
            jobs: jobs.collect(),
            nodes,
        }
    }

    /// All of it as an object. Times are in seconds, sizes in bytes, rates in bytes or requests per second.
    pub(super) fn object(&self) -> Value {
        let devices = self.devices.iter().map(|device| {
            let mut object = members([
                ("device", device.name.as_str().into()),
                ("node-name", device.node.as_str().into()),
                ("io-status", device.status.as_str().into()),
            ]);
            add_rates(&mut object, device.rates.as_ref(), Some(&device.counters));
            Value::Dict(object)
        });
        let nodes = self.nodes.iter().map(|node| {
            let mut object = members([
                ("node-name", node.name.as_str().into()),
                ("driver", node.driver.as_str().into()),
                ("file", node.file.as_str().into()),
                ("size", node.size.into()),
                ("read-only", node.read_only.into()),
            ]);
            add_rates(&mut object, node.rates.as_ref(), Some(&node.counters));
            Value::Dict(object)
        });
        let exports = self.exports.iter().map(|(export, rates)| {
            let mut object = members([
                ("id", export.id.as_str().into()),
                ("type", export.kind.as_str().into()),
                ("node-name", export.node.as_str().into()),
                ("shutting-down", export.shutting_down.into()),
            ]);
            add_rates(&mut object, rates.as_ref(), None);
            Value::Dict(object)
        });
        let jobs = self.jobs.iter().map(|JobFigures { job, rate, left }| {
            let mut object = members([
                ("id", job.id.as_str().into()),
                ("type", job.kind.as_str().into()),
                ("status", job.status.as_str().into()),
                ("current-progress", job.done.into()),
                ("total-progress", job.all.into()),
                ("speed", job.limit.into()),
                ("rate", (*rate).into()),
            ]);
            left.iter().for_each(|left| object.insert("left", *left));
            if !job.error.is_empty() {
                object.insert("error", job.error.as_str());
            }
            Value::Dict(object)
        });
        Value::Dict(members([
            ("server", self.server.as_str().into()),
            ("interval", self.interval.into()),
            ("jobs", jobs.collect::<Vec<_>>().into()),
            ("exports", exports.collect::<Vec<_>>().into()),
            ("devices", devices.collect::<Vec<_>>().into()),
            ("nodes", nodes.collect::<Vec<_>>().into()),
        ]))
    }
}

fn members<const N: usize>(members: [(&str, Value); N]) -> Dict {
    members.into_iter().collect()
}

fn add_rates(object: &mut Dict, rates: Option<&Rates>, counters: Option<&Counters>) {
    if let Some(rates) = rates {
        object.insert("read-rate", rates.read);
        object.insert("write-rate", rates.written);
        object.insert("reads-rate", rates.reads);
        object.insert("writes-rate", rates.writes);
        object.insert("flushes-rate", rates.flushes);
        rates.read_time.iter().for_each(|time| object.insert("read-time", *time));
        rates.write_time.iter().for_each(|time| object.insert("write-time", *time));
    }
    if let Some(counters) = counters {
        object.insert("read-bytes", counters.read_bytes);
        object.insert("written-bytes", counters.written_bytes);
        object.insert("reads", counters.reads);
        object.insert("writes", counters.writes);
        object.insert("flushes", counters.flushes);
        object.insert("discards", counters.discards);
        object.insert("failed", counters.failed);
    }
}

/// Nothing where nothing was ever counted: QEMU counts at devices only. What has just come has no rates yet.
fn rates(old: Option<Counters>, new: Counters, seconds: f64) -> Option<Rates> {
    if new == Counters::default() {
        return None;
    }
    let old = old.unwrap_or(new);
    let change = |of: fn(&Counters) -> u64| of(&new).saturating_sub(of(&old)) as f64;
    let (reads, writes) = (change(|c| c.reads), change(|c| c.writes));
    Some(Rates {
        read: change(|c| c.read_bytes) / seconds,
        written: change(|c| c.written_bytes) / seconds,
        reads: reads / seconds,
        writes: writes / seconds,
        flushes: change(|c| c.flushes) / seconds,
        read_time: (reads > 0.0).then(|| change(|c| c.read_ns) / reads / 1e9),
        write_time: (writes > 0.0).then(|| change(|c| c.write_ns) / writes / 1e9),
    })
}
