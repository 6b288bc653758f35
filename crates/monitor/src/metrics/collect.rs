//! What the graph, the exports and the jobs have to tell, as samples.

use super::page::{Number, Page};
use crate::control::Control;
use api::BlockDeviceIoStatus;
use block::{Account, Backend, BackendStats, Device, IoKind, Node, OpCount};
use std::sync::Arc;

/// The operations that are counted, by their names in labels.
fn operations(stats: &BackendStats) -> [(&'static str, OpCount); 4] {
    [("read", stats.read), ("write", stats.write), ("flush", stats.flush), ("discard", stats.unmap)]
}

/// The operations that histograms are kept of.
const HISTOGRAMS: [(&str, IoKind); 3] =
    [("read", IoKind::Read), ("write", IoKind::Write), ("flush", IoKind::Flush)];

/// The page as it is now. Other tasks are served in between.
pub(super) async fn collect(control: &Control, page: &mut Page) {
    program(page);
    page.add("cairn_running", &[], control.machine().state().now().running);
    if let Some(server) = control.nbd().server() {
        page.add("cairn_nbd_connections", &[], server.connections() as u64);
    }
    for device in control.graph().devices() {
        rt::yield_now().await;
        add_device(page, &device);
    }
    for export in control.exports().list() {
        rt::yield_now().await;
        let Some(entry) = control.exports().backend(&export.id) else { continue };
        let labels = [export.id.as_str(), export.kind, &export.node_name];
        counters(page, "cairn_export", &labels, &[entry.account().clone()], true);
        page.add("cairn_export_in_flight", &labels, in_flight(&entry));
    }
    let entries = control.graph().entries();
    for node in control.graph().nodes() {
        rt::yield_now().await;
        add_node(page, &node, &entries);
    }
    for job in control.jobs().all() {
        let (info, limit) = (job.info(), job.block_info().speed);
        let labels = [info.id.as_str(), name(&info.r#type), name(&info.status)];
        let [of_job @ .., _] = &labels;
        page.add("cairn_job_progress", of_job, whole(info.current_progress));
        page.add("cairn_job_length", of_job, whole(info.total_progress));
        page.add("cairn_job_speed_limit", of_job, whole(limit));
        page.add("cairn_job_status", &labels, 1);
    }
}

fn program(page: &mut Page) {
    let version = api::introspect::version();
    let interface = format!("{}.{}.{}", version.qemu.major, version.qemu.minor, version.qemu.micro);
    page.add("cairn_build", &[env!("CARGO_PKG_VERSION"), &interface], 1);
    if let Some(bytes) = rt::process::resident_bytes() {
        page.add("cairn_memory_resident_bytes", &[], bytes);
    }
}

fn add_device(page: &mut Page, device: &Device) {
    let (shown, medium) = (device.shown(), device.medium());
    let node = medium.as_ref().map(|medium| medium.node().name().to_owned()).unwrap_or_default();
    let labels = [shown.as_str(), node.as_str()];
    counters(page, "cairn_device", &labels, std::slice::from_ref(device.account()), true);
    page.add("cairn_device_in_flight", &labels, medium.as_deref().map_or(0, in_flight));
    let held = device.io_status().is_some_and(|status| status != BlockDeviceIoStatus::Ok);
    page.add("cairn_device_error", &labels, held);
    for (operation, kind) in HISTOGRAMS {
        if let Some(histogram) = device.account().histogram(kind) {
            let labels = [shown.as_str(), &node, operation];
            page.add_histogram(
                "cairn_device_latency_seconds",
                &labels,
                &histogram.boundaries,
                &histogram.bins,
            );
        }
    }
}

fn add_node(page: &mut Page, node: &Arc<Node>, entries: &[Arc<Backend>]) {
    let labels = [node.name(), node.driver_name()];
    let of_node = entries.iter().filter(|entry| Arc::ptr_eq(&entry.node(), node));
    let accounts: Vec<_> = of_node.map(|entry| entry.account().clone()).collect();
    // A node that only other nodes use has no counters of its own.
    if !accounts.is_empty() {
        counters(page, "cairn_node", &labels, &accounts, false);
    }
    page.add("cairn_node_size_bytes", &labels, node.length());
    if let Some(bytes) = node.allocated_size() {
        page.add("cairn_node_allocated_bytes", &labels, bytes);
    }
    page.add("cairn_node_written_end_bytes", &labels, node.highest_offset());
    page.add("cairn_node_read_only", &labels, node.read_only());
    page.add("cairn_node_poisoned", &labels, node.poisoned());
    for bitmap in node.bitmaps().all().iter() {
        let labels = [node.name(), bitmap.name()];
        let bits = bitmap.bits();
        page.add("cairn_bitmap_dirty_bytes", &labels, bits.dirty_chunks().saturating_mul(bits.granularity()));
        page.add("cairn_bitmap_granularity_bytes", &labels, bits.granularity());
        page.add("cairn_bitmap_recording", &labels, bitmap.is_enabled());
        page.add("cairn_bitmap_inconsistent", &labels, !bitmap.is_consistent());
    }
}

/// The counters of several accounts together. `with_invalid`: requests that were refused are told too.
fn counters(page: &mut Page, prefix: &str, labels: &[&str], accounts: &[Arc<Account>], with_invalid: bool) {
    let all: Vec<_> = accounts.iter().map(|account| operations(&account.stats())).collect();
    for (at, (operation, _)) in operations(&BackendStats::default()).into_iter().enumerate() {
        let of_operation = || all.iter().filter_map(|account| Some(account.get(at)?.1));
        let sum = |pick: fn(OpCount) -> u64| of_operation().map(pick).fold(0, u64::saturating_add);
        let labels: Vec<_> = labels.iter().copied().chain([operation]).collect();
        let mut add = |name: &str, value: Number| page.add(&format!("{prefix}_{name}"), &labels, value);
        if operation != "flush" {
            add("bytes", sum(|count| count.bytes).into());
        }
        add("operations", sum(|count| count.ops).into());
        add("failed", sum(|count| count.failed).into());
        if with_invalid {
            add("invalid", sum(|count| count.invalid).into());
        }
        add("time_seconds", Number::Nanoseconds(sum(|count| count.ns)));
    }
}

fn in_flight(entry: &Backend) -> u64 {
    u64::try_from(entry.in_flight()).unwrap_or(0)
}

fn whole(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// A value of an enumeration by its name.
fn name<E: api::Enumeration>(value: &E) -> &'static str {
    E::VALUES.iter().find(|(_, known)| known == value).map_or("", |(name, _)| name)
}
