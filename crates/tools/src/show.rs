//! What an image is, for people and as JSON: the one description both are printed from.
//!
//! The order of JSON members is that of QEMU's tools, which scripts and reviewers diff; one table holds it.

use crate::console::Console;
use crate::{out, outln, size};
use block::{ChildRole, Node, Opt, Options};
use std::sync::Arc;

/// Order of members, for every kind of object together; names that are not here come last, as they were.
const ORDER: &[&str] = &[
    "children",
    "backing-filename-format",
    "snapshots",
    "virtual-size",
    "filename",
    "cluster-size",
    "format",
    "actual-size",
    "format-specific",
    "full-backing-filename",
    "encrypted",
    "compressed",
    "backing-filename",
    "dirty-flag",
];

/// Order of the members of qcow2's own part.
const QCOW2_ORDER: &[&str] = &[
    "compat",
    "compression-type",
    "lazy-refcounts",
    "bitmaps",
    "refcount-bits",
    "encrypt",
    "data-file",
    "data-file-raw",
    "corrupt",
    "extended-l2",
];

/// Order of the members of a snapshot.
const SNAPSHOT_ORDER: &[&str] =
    &["icount", "vm-clock-nsec", "name", "date-sec", "date-nsec", "vm-clock-sec", "id", "vm-state-size"];

fn sorted(options: &Options, order: &[&str]) -> Options {
    let mut result = Options::new();
    for name in order {
        if let Some(value) = options.get(name) {
            result.set(*name, value.clone());
        }
    }
    for (name, value) in options.iter() {
        if result.get(name).is_none() {
            result.set(name, value.clone());
        }
    }
    result
}

/// Everything known of one node and its children other than its backing node, as it was when it was looked at.
pub struct Description {
    format: &'static str,
    /// It reaches storage and interprets nothing.
    protocol: bool,
    length: u64,
    allocated: Option<u64>,
    filename: String,
    info: block::DriverInfo,
    /// Where the stored backing name leads.
    full_backing: Option<String>,
    children: Vec<(String, Description)>,
}

impl Description {
    /// Describes a node.
    pub fn of(node: &Arc<Node>) -> Description {
        let mut info = node.driver().info();
        let file = node.primary();
        if node.facts().transparent
            && let Some(file) = &file
        {
            let below = file.driver().info();
            info.cluster_size = info.cluster_size.or(below.cluster_size.or(file.facts().cluster_size));
            info.dirty = info.dirty.or(below.dirty);
        }
        info.cluster_size = info.cluster_size.or(node.facts().cluster_size);
        let filename = node.filename();
        let full_backing =
            info.backing_filename.as_ref().map(|stored| block::resolve_filename(&node.place(), stored));
        let children = node.edges().all().into_iter().filter(|child| !child.role.has(ChildRole::BACKING));
        let children = children.map(|child| (child.name.to_string(), Description::of(&child.node))).collect();
        Description {
            format: node.driver_name(),
            protocol: node.driver_type().kind == block::DriverKind::Protocol,
            // A disk consists of whole sectors, whatever its file's length is.
            length: node.length().next_multiple_of(512),
            allocated: node.allocated_size(),
            filename,
            info,
            full_backing,
            children,
        }
    }

    /// The stored backing name and format, and where they lead.
    pub fn backing(&self) -> Option<(&str, Option<&str>)> {
        self.full_backing.as_deref().map(|full| (full, self.info.backing_format.as_deref()))
    }

    /// The description as an object.
    pub fn object(&self) -> Opt {
        let mut object = Options::new();
        let children = self.children.iter().map(|(name, child)| {
            Opt::Dict(Options::new().with_str("name", name).with("info", child.object()))
        });
        object.set("children", Opt::List(children.collect()));
        object.set("virtual-size", Opt::Uint(self.length));
        object.set("filename", Opt::Str(self.filename.clone()));
        object.set("format", Opt::Str(self.format.to_owned()));
        let numbers = [("cluster-size", self.info.cluster_size), ("actual-size", self.allocated)];
        for (name, number) in numbers {
            if let Some(number) = number {
                object.set(name, Opt::Uint(number));
            }
        }
        let texts = [
            ("backing-filename", &self.info.backing_filename),
            ("full-backing-filename", &self.full_backing),
            ("backing-filename-format", &self.info.backing_format),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                object.set(name, Opt::Str(text.clone()));
            }
        }
        if !self.info.snapshots.is_empty() {
            let snapshots = self.info.snapshots.iter().map(|s| Opt::Dict(sorted(s, SNAPSHOT_ORDER)));
            object.set("snapshots", Opt::List(snapshots.collect()));
        }
        if let Some((kind, data)) = self.specific() {
            object.set(
                "format-specific",
                Opt::Dict(Options::new().with_str("type", kind).with("data", Opt::Dict(data))),
            );
        }
        if self.info.encrypted {
            object.set("encrypted", Opt::Bool(true));
        }
        if let Some(compressed) = self.info.compressed {
            object.set("compressed", Opt::Bool(compressed));
        }
        if let Some(dirty) = self.info.dirty {
            object.set("dirty-flag", Opt::Bool(dirty));
        }
        Opt::Dict(sorted(&object, ORDER))
    }

    fn specific(&self) -> Option<(&'static str, Options)> {
        self.info.specific.as_ref().map(|(kind, data)| (*kind, sorted(data, QCOW2_ORDER)))
    }

    /// Prints the description for people.
    pub fn print(&self, console: &mut Console) {
        self.print_at(console, "", 0);
    }

    fn print_at(&self, console: &mut Console, path: &str, depth: usize) {
        let pad = " ".repeat(depth);
        let labels = if self.protocol && depth > 0 {
            ("filename", "protocol type", "file length")
        } else {
            ("image", "file format", "virtual size")
        };
        let length = self.length;
        outln!(console, "{pad}{}: {}", labels.0, self.filename);
        outln!(console, "{pad}{}: {}", labels.1, self.format);
        outln!(console, "{pad}{}: {} ({length} bytes)", labels.2, size::human(length));
        let disk = self.allocated.map_or_else(|| "unavailable".to_owned(), size::human);
        outln!(console, "{pad}disk size: {disk}");
        self.print_header(console, &pad);
        if !self.info.snapshots.is_empty() {
            outln!(console, "{pad}Snapshot list:");
            snapshots(console, &pad, &self.info.snapshots);
        }
        if let Some((_, data)) = self.specific().filter(|(_, data)| !data.is_empty()) {
            outln!(console, "{pad}Format specific information:");
            tree(console, &data, depth + 4);
        }
        for (name, child) in &self.children {
            let path = format!("{path}/{name}");
            outln!(console, "{pad}Child node '{path}':");
            child.print_at(console, &path, depth + 4);
        }
    }

    fn print_header(&self, console: &mut Console, pad: &str) {
        if self.info.encrypted {
            outln!(console, "{pad}encrypted: yes");
        }
        if let Some(cluster_size) = self.info.cluster_size {
            outln!(console, "{pad}cluster_size: {cluster_size}");
        }
        if self.info.dirty == Some(true) {
            outln!(console, "{pad}cleanly shut down: no");
        }
        if let (Some(stored), Some(full)) = (&self.info.backing_filename, &self.full_backing) {
            out!(console, "{pad}backing file: {stored}");
            if full != stored {
                out!(console, " (actual path: {full})");
            }
            outln!(console);
            if let Some(format) = &self.info.backing_format {
                outln!(console, "{pad}backing file format: {format}");
            }
        }
    }
}

/// Prints named values for people, nested ones below their names.
pub fn tree(console: &mut Console, options: &Options, depth: usize) {
    for (name, value) in options.iter() {
        branch(console, &name.replace('-', " "), value, depth);
    }
}

fn branch(console: &mut Console, name: &str, value: &Opt, depth: usize) {
    out!(console, "{:depth$}{name}:", "");
    match value {
        Opt::Dict(options) => {
            outln!(console);
            tree(console, options, depth + 4);
        }
        Opt::List(items) => {
            outln!(console);
            for (index, item) in items.iter().enumerate() {
                branch(console, &format!("[{index}]"), item, depth + 4);
            }
        }
        Opt::Null => outln!(console, " null"),
        Opt::Bool(on) => outln!(console, " {on}"),
        Opt::Int(number) => outln!(console, " {number}"),
        Opt::Uint(number) => outln!(console, " {number}"),
        Opt::Str(text) => outln!(console, " {text}"),
    }
}

fn snapshots(console: &mut Console, pad: &str, list: &[Options]) {
    outln!(
        console,
        "{pad}{:<7} {:<16} {:>8} {:>19} {:>15} {:>10}",
        "ID",
        "TAG",
        "VM_SIZE",
        "DATE",
        "VM_CLOCK",
        "ICOUNT"
    );
    for snapshot in list {
        let text = |name| snapshot.get_str(name).unwrap_or_default();
        let number = |name| match snapshot.get(name) {
            Some(Opt::Uint(number)) => *number,
            Some(Opt::Int(number)) => u64::try_from(*number).unwrap_or(0),
            _ => 0,
        };
        let clock = number("vm-clock-sec");
        let clock = format!(
            "{:04}:{:02}:{:02}.{:03}",
            clock / 3600,
            clock / 60 % 60,
            clock % 60,
            number("vm-clock-nsec") / 1_000_000
        );
        let icount = snapshot.get("icount").map(|_| number("icount").to_string()).unwrap_or_default();
        outln!(
            console,
            "{pad}{:<7} {:<16} {:>8} {:>19} {clock:>15} {icount:>10}",
            text("id"),
            text("name"),
            size::human(number("vm-state-size")),
            date(number("date-sec")),
        );
    }
}

/// A moment of UTC as year-month-day hour:minute:second.
fn date(seconds: u64) -> String {
    let (days, rest) = (seconds / 86400, seconds % 86400);
    // Days since 0000-03-01, by which a leap day is the last day of its year.
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month, later) = (day - (153 * month + 2) / 5 + 1, (month + 2) % 12 + 1, u64::from(month >= 10));
    let year = year + era * 400 + later;
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right_at_the_edges_of_years_and_leap_days() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_400, "2000-02-29 00:00:00"),
            (951_868_799, "2000-02-29 23:59:59"),
            (978_307_199, "2000-12-31 23:59:59"),
            (1_795_573_920, "2026-11-25 02:32:00"),
            (4_107_542_400, "2100-03-01 00:00:00"),
        ] {
            assert_eq!(date(seconds), text);
        }
    }
}
