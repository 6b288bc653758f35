//! What a server tells at one moment.

use crate::client::Client;
use crate::failure::Failure;
use api::Value;

/// What has been counted of one device or node from its beginning on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) read_bytes: u64,
    pub(super) written_bytes: u64,
    pub(super) reads: u64,
    pub(super) writes: u64,
    pub(super) flushes: u64,
    pub(super) discards: u64,
    pub(super) read_ns: u64,
    pub(super) write_ns: u64,
    /// Requests of all kinds that failed.
    pub(super) failed: u64,
}

/// A device.
#[derive(Clone, Debug, Default)]
pub(super) struct Device {
    pub(super) name: String,
    /// The node in it; empty if there is none.
    pub(super) node: String,
    pub(super) status: String,
    pub(super) counters: Counters,
}

/// A node.
#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) driver: String,
    pub(super) file: String,
    pub(super) size: u64,
    pub(super) read_only: bool,
    pub(super) counters: Counters,
}

/// An export.
#[derive(Clone, Debug, Default)]
pub(super) struct Export {
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) node: String,
    pub(super) shutting_down: bool,
}

/// A job.
#[derive(Clone, Debug, Default)]
pub(super) struct Job {
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) status: String,
    pub(super) done: u64,
    pub(super) all: u64,
    /// Bytes per second at most; 0 is no limit.
    pub(super) limit: u64,
    pub(super) error: String,
}

/// Everything at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Sample {
    /// When the answers had come, in nanoseconds of this program's clock.
    pub(super) at_ns: u64,
    pub(super) server: String,
    pub(super) devices: Vec<Device>,
    pub(super) nodes: Vec<Node>,
    pub(super) exports: Vec<Export>,
    pub(super) jobs: Vec<Job>,
}

impl Sample {
    /// Asks for it.
    pub(super) async fn ask(client: &mut Client) -> Result<Sample, Failure> {
        let flat = [("flat", true.into())];
        let nodes = client.ask("query-named-block-nodes", &flat).await?;
        let of_nodes = client.ask_if_known("query-blockstats", &[("query-nodes", true.into())]).await?;
        let of_devices = client.ask_if_known("query-blockstats", &[]).await?.unwrap_or_default();
        let devices = client.ask_if_known("query-block", &[]).await?.unwrap_or_default();
        let exports = client.ask_if_known("query-block-exports", &[]).await?.unwrap_or_default();
        let jobs = client.ask_if_known("query-jobs", &[]).await?.unwrap_or_default();
        let block_jobs = client.ask_if_known("query-block-jobs", &[]).await?.unwrap_or_default();
        let version = client.ask("query-version", &[]).await?;
        // Nobody waits for events here.
        client.take_events().for_each(drop);
        let of_nodes = of_nodes.unwrap_or_default();
        Ok(Sample {
            at_ns: rt::now_ns(),
            server: server(&version),
            devices: list(&devices).iter().map(|it| device(it, list(&of_devices))).collect(),
            nodes: list(&nodes).iter().rev().map(|it| node(it, list(&of_nodes))).collect(),
            exports: list(&exports).iter().map(export).collect(),
            jobs: list(&jobs).iter().map(|it| job(it, list(&block_jobs))).collect(),
        })
    }
}

fn server(version: &Value) -> String {
    let numbers = version.get("qemu").unwrap_or(&Value::Null);
    let part = |name| number(numbers, name);
    let package = word(version, "package");
    let about = if package.is_empty() { String::new() } else { format!(" ({package})") };
    format!("QEMU {}.{}.{}{about}", part("major"), part("minor"), part("micro"))
}

fn device(device: &Value, stats: &[Value]) -> Device {
    let (name, model) = (word(device, "device"), word(device, "qdev"));
    let is_it = |it: &&Value| word(it, "device") == name && (model.is_empty() || word(it, "qdev") == model);
    Device {
        name: if name.is_empty() { model } else { name }.to_owned(),
        node: device.get("inserted").map(|node| word(node, "node-name")).unwrap_or_default().to_owned(),
        status: word(device, "io-status").to_owned(),
        counters: stats.iter().find(is_it).map(counters).unwrap_or_default(),
    }
}

fn node(node: &Value, stats: &[Value]) -> Node {
    let name = word(node, "node-name");
    Node {
        name: name.to_owned(),
        driver: word(node, "drv").to_owned(),
        file: word(node, "file").to_owned(),
        size: node.get("image").map_or(0, |image| number(image, "virtual-size")),
        read_only: node.get("ro").and_then(Value::as_bool) == Some(true),
        counters: stats.iter().find(|it| word(it, "node-name") == name).map(counters).unwrap_or_default(),
    }
}

fn export(export: &Value) -> Export {
    Export {
        id: word(export, "id").to_owned(),
        kind: word(export, "type").to_owned(),
        node: word(export, "node-name").to_owned(),
        shutting_down: export.get("shutting-down").and_then(Value::as_bool) == Some(true),
    }
}

fn job(job: &Value, block_jobs: &[Value]) -> Job {
    let id = word(job, "id");
    let block_job = block_jobs.iter().find(|it| word(it, "device") == id);
    Job {
        id: id.to_owned(),
        kind: word(job, "type").to_owned(),
        status: word(job, "status").to_owned(),
        done: number(job, "current-progress"),
        all: number(job, "total-progress"),
        limit: block_job.map_or(0, |it| number(it, "speed")),
        error: word(job, "error").to_owned(),
    }
}

fn counters(entry: &Value) -> Counters {
    let stats = entry.get("stats").unwrap_or(&Value::Null);
    let of = |name: &str| number(stats, name);
    Counters {
        read_bytes: of("rd_bytes"),
        written_bytes: of("wr_bytes"),
        reads: of("rd_operations"),
        writes: of("wr_operations"),
        flushes: of("flush_operations"),
        discards: of("unmap_operations"),
        read_ns: of("rd_total_time_ns"),
        write_ns: of("wr_total_time_ns"),
        failed: ["rd", "wr", "flush", "unmap"]
            .iter()
            .map(|kind| of(&format!("failed_{kind}_operations")))
            .fold(0, u64::saturating_add),
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_list().unwrap_or_default()
}

fn word<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// A number from 0 on; 0 if there is none.
fn number(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_i64).and_then(|number| u64::try_from(number).ok()).unwrap_or(0)
}
