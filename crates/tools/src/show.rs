//! What an image is, for people and as JSON: the one description both are printed from.

use crate::console::Console;
use crate::{out, outln, size};
use api::{BlockLimitsInfo, Dict, Encode, ImageInfoSpecific, SnapshotInfo, Value};
use block::{ChildRole, Node};
use std::sync::Arc;

/// Everything known of one node and its children other than its backing node, as it was when it was looked at.
pub struct Description {
    format: &'static str,
    length: u64,
    allocated: Option<u64>,
    filename: String,
    info: block::DriverInfo,
    /// Where the stored backing name leads.
    full_backing: Option<String>,
    /// What requests are to be, where that is told.
    limits: Option<BlockLimitsInfo>,
    children: Vec<(String, Description)>,
}

impl Description {
    /// Describes a node.
    pub fn of(node: &Arc<Node>) -> Description {
        Description::with(node, |_| None)
    }

    /// The same, with what requests are to be.
    pub fn with_limits(node: &Arc<Node>) -> Description {
        Description::with(node, |node| Some(node.limits()))
    }

    fn with(node: &Arc<Node>, limits: fn(&Node) -> Option<BlockLimitsInfo>) -> Description {
        let mut info = node.driver().info();
        let file = node.primary();
        if node.facts().transparent
            && let Some(file) = &file
        {
            let below = file.skip_filters().driver().info();
            info.cluster_size = info.cluster_size.or(below.cluster_size);
            info.dirty = info.dirty.or(below.dirty);
        }
        if let Some(keeper) = node.snapshot_keeper() {
            info.snapshots = keeper.driver().info().snapshots;
        }
        let filename = node.filename();
        let full_backing =
            info.backing_filename.as_ref().map(|stored| block::resolve_filename(&node.place(), stored));
        // Those that were opened last are told first.
        let children =
            node.edges().all().into_iter().rev().filter(|child| !child.role.has(ChildRole::BACKING));
        let children =
            children.map(|child| (child.name.to_string(), Description::with(&child.node, limits))).collect();
        Description {
            format: node.driver_name(),
            // A disk consists of whole sectors, whatever its file's length is.
            length: node.length().next_multiple_of(512),
            allocated: node.allocated_size(),
            filename,
            info,
            full_backing,
            limits: limits(node),
            children,
        }
    }

    /// The stored backing name and format, and where they lead.
    pub fn backing(&self) -> Option<(&str, Option<&str>)> {
        self.full_backing.as_deref().map(|full| (full, self.info.backing_format.as_deref()))
    }

    /// The description as an object.
    pub fn object(&self) -> Value {
        let mut object = Dict::new();
        let child = |(name, child): &(String, Description)| {
            Value::Dict(
                [("name", Value::from(name.as_str())), ("info", child.object())].into_iter().collect(),
            )
        };
        object.insert("virtual-size", self.length);
        object.insert("filename", self.filename.as_str());
        object.insert("format", self.format);
        for (name, number) in [("cluster-size", self.info.cluster_size), ("actual-size", self.allocated)] {
            put(&mut object, name, number);
        }
        let texts = [
            ("backing-filename", &self.info.backing_filename),
            ("full-backing-filename", &self.full_backing),
            ("backing-filename-format", &self.info.backing_format),
        ];
        for (name, text) in texts {
            put(&mut object, name, text.as_deref());
        }
        if !self.info.snapshots.is_empty() {
            object.insert("snapshots", self.info.snapshots.encode());
        }
        put(&mut object, "limits", self.limits.as_ref().map(Encode::encode));
        put(&mut object, "format-specific", self.info.specific.as_ref().map(Encode::encode));
        put(&mut object, "encrypted", self.info.encrypted.then_some(true));
        put(&mut object, "compressed", self.info.compressed);
        put(&mut object, "dirty-flag", self.info.dirty);
        // The last: of two names that share a place it comes first.
        object.insert("children", self.children.iter().map(child).collect::<Vec<_>>());
        Value::Dict(object)
    }

    /// The same without the files below it.
    #[must_use]
    pub fn without_children(self) -> Description {
        Description { children: Vec::new(), ..self }
    }

    /// The description for people, as text.
    pub fn text(&self) -> String {
        Console::kept(|console| self.print(console))
    }

    /// Prints the description for people.
    pub fn print(&self, console: &mut Console) {
        self.print_at(console, "", 0);
    }

    fn print_at(&self, console: &mut Console, path: &str, depth: usize) {
        let pad = " ".repeat(depth);
        let labels = if self.children.is_empty() && depth > 0 {
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
        if let Some(Value::Dict(limits)) = self.limits.as_ref().map(Encode::encode) {
            outln!(console, "{pad}Block limits:");
            tree(console, &limits, depth + 4);
        }
        snapshots(console, &pad, &self.info.snapshots);
        if let Some(specific) = &self.info.specific {
            print_specific(console, specific, depth);
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

/// Sets a member, if it has a value.
fn put(object: &mut Dict, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        object.insert(name, value);
    }
}

/// Prints for people what only images of one format have, if it is anything.
pub fn print_specific(console: &mut Console, specific: &ImageInfoSpecific, depth: usize) {
    if let Value::Dict(mut object) = specific.encode()
        && let Some(Value::Dict(data)) = object.remove("data")
        && !data.is_empty()
    {
        outln!(console, "{:depth$}Format specific information:", "");
        tree(console, &data, depth + 4);
    }
}

/// Prints named values for people, nested ones below their names.
fn tree(console: &mut Console, values: &Dict, depth: usize) {
    for (name, value) in values.iter() {
        branch(console, &name.replace('-', " "), value, depth);
    }
}

fn branch(console: &mut Console, name: &str, value: &Value, depth: usize) {
    out!(console, "{:depth$}{name}:", "");
    match value {
        Value::Dict(values) => {
            outln!(console);
            tree(console, values, depth + 4);
        }
        Value::List(items) => {
            outln!(console);
            for (index, item) in items.iter().enumerate() {
                branch(console, &format!("[{index}]"), item, depth + 4);
            }
        }
        Value::String(text) => outln!(console, " {text}"),
        scalar => outln!(console, " {scalar}"),
    }
}

/// Lists snapshots, if there are any.
pub fn snapshots(console: &mut Console, pad: &str, list: &[SnapshotInfo]) {
    if list.is_empty() {
        return;
    }
    outln!(console, "{pad}Snapshot list:");
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
        // None of them is negative.
        let number = |number: i64| u64::try_from(number).unwrap_or(0);
        let clock = number(snapshot.vm_clock_sec);
        let clock = format!(
            "{:04}:{:02}:{:02}.{:03}",
            clock / 3600,
            clock / 60 % 60,
            clock % 60,
            number(snapshot.vm_clock_nsec) / 1_000_000
        );
        let icount = snapshot.icount.map_or_else(|| "--".to_owned(), |icount| icount.to_string());
        outln!(
            console,
            "{pad}{:<7} {:<16} {:>8} {:>19} {clock:>15} {icount:>10}",
            snapshot.id,
            snapshot.name,
            size::human(number(snapshot.vm_state_size)),
            date(number(snapshot.date_sec.saturating_add(rt::local_offset(snapshot.date_sec)))),
        );
    }
}

/// A moment as year-month-day hour:minute:second.
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
