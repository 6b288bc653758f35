//! All metrics there are: one entry each.

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It only grows, from the program's beginning on.
    Counter,
    /// It goes up and down.
    Gauge,
    /// How many were at most as large as each bound.
    Histogram,
    /// Words that don't change.
    Info,
}

impl Kind {
    /// Its name in the text.
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Info => "info",
        }
    }
}

/// A metric.
#[derive(Debug)]
pub(super) struct Family {
    /// Its name, which ends with its unit.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// Its unit; empty for plain numbers.
    pub(super) unit: &'static str,
    /// Its labels.
    pub(super) labels: &'static [&'static str],
    pub(super) help: &'static str,
}

const fn family(
    name: &'static str,
    kind: Kind,
    unit: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Family {
    Family { name, kind, unit, labels, help }
}

use Kind::{Counter, Gauge, Histogram, Info};

const DEVICE: &[&str] = &["device", "node"];
const DEVICE_OPERATION: &[&str] = &["device", "node", "operation"];
const EXPORT: &[&str] = &["export", "type", "node"];
const EXPORT_OPERATION: &[&str] = &["export", "type", "node", "operation"];
const NODE: &[&str] = &["node", "driver"];
const NODE_OPERATION: &[&str] = &["node", "driver", "operation"];
const BITMAP: &[&str] = &["node", "bitmap"];
const JOB: &[&str] = &["job", "type"];

/// The metrics, in the order of the text.
pub(super) const FAMILIES: &[Family] = &[
    family(
        "cairn_build",
        Info,
        "",
        &["version", "interface"],
        "The program's version, and the version of QEMU whose interface it has",
    ),
    family(
        "cairn_start_time_seconds",
        Gauge,
        "seconds",
        &[],
        "When the program began, since the beginning of 1970",
    ),
    family("cairn_memory_resident_bytes", Gauge, "bytes", &[], "Memory of the program that is in use"),
    family(
        "cairn_running",
        Gauge,
        "",
        &[],
        "1 if requests of guests are carried out, 0 while the machine is stopped",
    ),
    family("cairn_nbd_connections", Gauge, "", &[], "Clients that are connected to the NBD server"),
    family("cairn_scrapes", Counter, "", &[], "Answers to scrapers, this one too"),
    family(
        "cairn_scrapes_refused",
        Counter,
        "",
        &[],
        "Scrapers that were turned away: there were too many, or they were too slow",
    ),
    family(
        "cairn_device_bytes",
        Counter,
        "bytes",
        DEVICE_OPERATION,
        "Bytes of requests of a device that went well",
    ),
    family("cairn_device_operations", Counter, "", DEVICE_OPERATION, "Requests of a device that went well"),
    family("cairn_device_failed", Counter, "", DEVICE_OPERATION, "Requests of a device that failed"),
    family(
        "cairn_device_invalid",
        Counter,
        "",
        DEVICE_OPERATION,
        "Requests of a device that were refused for their range",
    ),
    family(
        "cairn_device_time_seconds",
        Counter,
        "seconds",
        DEVICE_OPERATION,
        "Time that requests of a device have taken, together",
    ),
    family("cairn_device_in_flight", Gauge, "", DEVICE, "Requests of a device under way"),
    family(
        "cairn_device_error",
        Gauge,
        "",
        DEVICE,
        "1 if a request of a device has failed and is held until the machine goes on, else 0",
    ),
    family(
        "cairn_device_latency_seconds",
        Histogram,
        "seconds",
        DEVICE_OPERATION,
        "How long requests of a device took, since block-latency-histogram-set",
    ),
    family(
        "cairn_export_bytes",
        Counter,
        "bytes",
        EXPORT_OPERATION,
        "Bytes of requests of an export's clients that went well",
    ),
    family(
        "cairn_export_operations",
        Counter,
        "",
        EXPORT_OPERATION,
        "Requests of an export's clients that went well",
    ),
    family(
        "cairn_export_failed",
        Counter,
        "",
        EXPORT_OPERATION,
        "Requests of an export's clients that failed",
    ),
    family(
        "cairn_export_invalid",
        Counter,
        "",
        EXPORT_OPERATION,
        "Requests of an export's clients that were refused for their range",
    ),
    family(
        "cairn_export_time_seconds",
        Counter,
        "seconds",
        EXPORT_OPERATION,
        "Time that requests of an export's clients have taken, together",
    ),
    family("cairn_export_in_flight", Gauge, "", EXPORT, "Requests of an export's clients under way"),
    family(
        "cairn_node_bytes",
        Counter,
        "bytes",
        NODE_OPERATION,
        "Bytes of requests that went well, of all present users of a node but other nodes",
    ),
    family(
        "cairn_node_operations",
        Counter,
        "",
        NODE_OPERATION,
        "Requests that went well, of all present users of a node but other nodes",
    ),
    family(
        "cairn_node_failed",
        Counter,
        "",
        NODE_OPERATION,
        "Requests that failed, of all present users of a node but other nodes",
    ),
    family(
        "cairn_node_time_seconds",
        Counter,
        "seconds",
        NODE_OPERATION,
        "Time that requests have taken, of all present users of a node but other nodes",
    ),
    family("cairn_node_size_bytes", Gauge, "bytes", NODE, "Size of the disk that a node shows"),
    family("cairn_node_allocated_bytes", Gauge, "bytes", NODE, "Space that a node's image takes"),
    family("cairn_node_written_end_bytes", Gauge, "bytes", NODE, "End of the highest write to a node"),
    family("cairn_node_read_only", Gauge, "", NODE, "1 if a node takes no writes, else 0"),
    family(
        "cairn_node_poisoned",
        Gauge,
        "",
        NODE,
        "1 if a node takes no more writes because a flush failed, else 0",
    ),
    family(
        "cairn_bitmap_dirty_bytes",
        Gauge,
        "bytes",
        BITMAP,
        "What a dirty bitmap has recorded, in whole bits",
    ),
    family(
        "cairn_bitmap_granularity_bytes",
        Gauge,
        "bytes",
        BITMAP,
        "Bytes for which a dirty bitmap has one bit",
    ),
    family("cairn_bitmap_recording", Gauge, "", BITMAP, "1 if a dirty bitmap records changes, else 0"),
    family(
        "cairn_bitmap_inconsistent",
        Gauge,
        "",
        BITMAP,
        "1 if changes may be missing in a dirty bitmap, else 0",
    ),
    family("cairn_job_progress", Gauge, "", JOB, "Work that a job has done: bytes, in most jobs"),
    family("cairn_job_length", Gauge, "", JOB, "All work of a job, in the unit of its progress; it may grow"),
    family("cairn_job_speed_limit", Gauge, "", JOB, "A job's limit in bytes per second; 0 is none"),
    family("cairn_job_status", Gauge, "", &["job", "type", "status"], "1 for the status that a job is in"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_end_with_their_unit_and_none_is_a_beginning_that_a_suffix_makes_another() {
        let names: BTreeSet<_> = FAMILIES.iter().map(|family| family.name).collect();
        assert_eq!(names.len(), FAMILIES.len());
        for Family { name, unit, labels, help, .. } in FAMILIES {
            assert!(unit.is_empty() || name.ends_with(&format!("_{unit}")), "{name}");
            assert!(!help.is_empty() && !help.contains(['\\', '\n', '"']), "{name}");
            assert!(
                name.chars()
                    .chain(labels.iter().flat_map(|l| l.chars()))
                    .all(|c| c.is_ascii_lowercase() || c == '_')
            );
            for suffix in ["_total", "_created", "_bucket", "_count", "_sum", "_info"] {
                assert!(!name.ends_with(suffix) && !names.contains(&*format!("{name}{suffix}")), "{name}");
            }
        }
    }

    #[test]
    fn the_page_of_the_docs_has_each_metric_with_its_kind_and_labels_and_no_other() {
        let page = include_str!("../../../../docs/metrics.md");
        let documented: Vec<_> = page.lines().filter(|line| line.starts_with("| `cairn_")).collect();
        assert_eq!(documented.len(), FAMILIES.len());
        for (family, line) in FAMILIES.iter().zip(documented) {
            let suffix = match family.kind {
                Kind::Counter => "_total",
                Kind::Info => "_info",
                _ => "",
            };
            let labels = family.labels.join(", ");
            let want = format!(
                "| `{}{suffix}` | {} | {labels} | {} |",
                family.name,
                family.kind.name(),
                family.help
            );
            assert_eq!(line, want);
        }
    }
}
