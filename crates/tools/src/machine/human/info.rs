//! `info`: what there is, for people.

use super::{Asked, Told, migration, snapshots};
use crate::show::Description;
use api::{Dict, Value};
use std::fmt::Write;

/// Tells of what is asked for.
pub async fn tell(asked: &Asked<'_>) -> Result<String, Told> {
    match asked.words.get("what").unwrap_or_default() {
        "block" => block(asked).await,
        "blockstats" => blockstats(asked).await,
        "block-jobs" => jobs(asked).await,
        "migrate" => migration::tell(asked).await,
        "migrate_capabilities" => migration::capabilities(asked).await,
        "migrate_parameters" => migration::parameters(asked).await,
        "snapshots" => snapshots::tell(asked),
        "status" => status(asked).await,
        "version" => Ok(version()),
        other => Err(Told(format!("unknown command: 'info {other}'\n"))),
    }
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn flag(value: &Value, name: &str) -> bool {
    value.get(name).and_then(Value::as_bool).unwrap_or(false)
}

fn number(value: &Value, name: &str) -> i64 {
    match value.get(name) {
        Some(Value::Int(number)) => *number,
        _ => 0,
    }
}

async fn listed(asked: &Asked<'_>, command: &str) -> Result<Vec<Value>, Told> {
    match asked.ask(command, Dict::new()).await? {
        Value::List(list) => Ok(list),
        _ => Ok(Vec::new()),
    }
}

async fn block(asked: &Asked<'_>) -> Result<String, Told> {
    let only = asked.words.get("device");
    let mut parts = Vec::new();
    if asked.words.has('n') {
        for node in listed(asked, "query-named-block-nodes").await? {
            if only.is_none_or(|only| only == text(&node, "node-name")) {
                parts.push(entry(asked, None, Some(&node)));
            }
        }
        return Ok(parts.join("\n"));
    }
    for (index, device) in listed(asked, "query-block").await?.into_iter().enumerate() {
        if only.is_none_or(|only| only == text(&device, "device")) {
            // An empty line is before each but the first of all devices.
            let before = if only.is_some() && index > 0 { "\n" } else { "" };
            parts.push(format!("{before}{}", entry(asked, Some(&device), device.get("inserted"))));
        }
    }
    if parts.is_empty()
        && let Some(only) = only
    {
        let nodes = listed(asked, "query-named-block-nodes").await?;
        let named = nodes.iter().filter(|node| text(node, "node-name") == only);
        parts.extend(named.map(|node| entry(asked, None, Some(node))));
    }
    Ok(parts.join("\n"))
}

/// A device, or a node by itself.
fn entry(asked: &Asked<'_>, device: Option<&Value>, inserted: Option<&Value>) -> String {
    let mut out = String::new();
    let name = device.map(|device| text(device, "device")).unwrap_or_default();
    let node = inserted.map(|inserted| text(inserted, "node-name")).unwrap_or_default();
    let qdev = device.map(|device| text(device, "qdev")).unwrap_or_default();
    match (name, node) {
        ("", "") => out.push_str(qdev),
        ("", node) => out.push_str(node),
        (name, "") => out.push_str(name),
        (name, node) => put(&mut out, format_args!("{name} ({node})")),
    }
    match inserted {
        None => out.push_str(": [not inserted]\n"),
        Some(inserted) => put(
            &mut out,
            format_args!(
                ": {} ({}{}{})\n",
                text(inserted, "file"),
                text(inserted, "drv"),
                if flag(inserted, "ro") { ", read-only" } else { "" },
                if flag(inserted, "encrypted") { ", encrypted" } else { "" },
            ),
        ),
    }
    if let Some(device) = device {
        about_device(&mut out, device, qdev);
    }
    if let Some(inserted) = inserted {
        about_medium(&mut out, inserted);
    }
    if asked.words.has('v') {
        out.push_str(&images(asked, inserted));
    }
    out
}

/// Writing to a string never fails.
fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).ok();
}

fn line(out: &mut String, title: &str, text: &str) {
    put(out, format_args!("    {title:<18}{text}\n"));
}

fn about_device(out: &mut String, device: &Value, qdev: &str) {
    if !qdev.is_empty() {
        line(out, "Attached to:", qdev);
    }
    let status = text(device, "io-status");
    if !matches!(status, "" | "ok") {
        line(out, "I/O status:", status);
    }
    if flag(device, "removable") {
        let lock = if flag(device, "locked") { "" } else { "not " };
        let tray = if flag(device, "tray_open") { "open" } else { "closed" };
        line(out, "Removable device:", &format!("{lock}locked, tray {tray}"));
    }
}

fn about_medium(out: &mut String, inserted: &Value) {
    let cache = inserted.get("cache").cloned().unwrap_or_default();
    let mode = if flag(&cache, "writeback") { "writeback" } else { "writethrough" };
    let direct = if flag(&cache, "direct") { ", direct" } else { "" };
    let no_flush = if flag(&cache, "no-flush") { ", ignore flushes" } else { "" };
    line(out, "Cache mode:", &format!("{mode}{direct}{no_flush}"));
    if inserted.get("backing_file").is_some() {
        let depth = number(inserted, "backing_file_depth");
        line(out, "Backing file:", &format!("{} (chain depth: {depth})", text(inserted, "backing_file")));
    }
    let zeroes = text(inserted, "detect_zeroes");
    if zeroes != "off" {
        line(out, "Detect zeroes:", zeroes);
    }
    let limits = ["bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"];
    if limits.iter().any(|name| number(inserted, name) != 0) {
        let names = [
            "bps",
            "bps_rd",
            "bps_wr",
            "bps_max",
            "bps_rd_max",
            "bps_wr_max",
            "iops",
            "iops_rd",
            "iops_wr",
            "iops_max",
            "iops_rd_max",
            "iops_wr_max",
            "iops_size",
        ];
        let all: Vec<_> = names.iter().map(|name| format!("{name}={}", number(inserted, name))).collect();
        line(out, "I/O throttling:", &format!("{} group={}", all.join(" "), text(inserted, "group")));
    }
}

/// The images of a chain, as `img info` describes each.
fn images(asked: &Asked<'_>, inserted: Option<&Value>) -> String {
    let name = inserted.map(|inserted| text(inserted, "node-name")).unwrap_or_default();
    let Some(node) = asked.control.graph().node(name) else { return String::new() };
    let chain = std::iter::successors(Some(node), |node| node.skip_filters().backing());
    let texts: String = chain.map(|node| Description::of(&node).without_children().text()).collect();
    format!("\nImages:\n{texts}")
}

async fn blockstats(asked: &Asked<'_>) -> Result<String, Told> {
    let mut out = String::new();
    let names = [
        "rd_bytes",
        "wr_bytes",
        "rd_operations",
        "wr_operations",
        "flush_operations",
        "wr_total_time_ns",
        "rd_total_time_ns",
        "flush_total_time_ns",
        "rd_merged",
        "wr_merged",
        "idle_time_ns",
    ];
    for device in listed(asked, "query-blockstats").await? {
        let Some(stats) = device.get("stats") else { continue };
        put(&mut out, format_args!("{}:", text(&device, "device")));
        names.iter().for_each(|name| put(&mut out, format_args!(" {name}={}", number(stats, name))));
        out.push('\n');
    }
    Ok(out)
}

async fn jobs(asked: &Asked<'_>) -> Result<String, Told> {
    let jobs = listed(asked, "query-block-jobs").await?;
    if jobs.is_empty() {
        return Ok("No active jobs\n".to_owned());
    }
    let mut out = String::new();
    for job in jobs {
        let (kind, device) = (text(&job, "type"), text(&job, "device"));
        let head = match kind {
            "stream" => format!("Streaming device {device}"),
            kind => format!("Type {kind}, device {device}"),
        };
        let (done, all, speed) = (number(&job, "offset"), number(&job, "len"), number(&job, "speed"));
        put(&mut out, format_args!("{head}: Completed {done} of {all} bytes, speed limit {speed} bytes/s\n"));
    }
    Ok(out)
}

async fn status(asked: &Asked<'_>) -> Result<String, Told> {
    let status = asked.ask("query-status", Dict::new()).await?;
    let (running, state) = (flag(&status, "running"), text(&status, "status"));
    let shown = if running { "running" } else { "paused" };
    let more = if matches!(state, "running" | "paused") { String::new() } else { format!(" ({state})") };
    Ok(format!("VM status: {shown}{more}\n"))
}

fn version() -> String {
    let version = api::introspect::version();
    let qemu = version.qemu;
    format!("{}.{}.{} ({})\n", qemu.major, qemu.minor, qemu.micro, version.package)
}
