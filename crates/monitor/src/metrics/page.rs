//! The text of OpenMetrics 1.0, family by family.

use super::family::{FAMILIES, Family, Kind};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Samples, put in order by their families.
#[derive(Default)]
pub(super) struct Page {
    /// The lines of each family, by its place in the table.
    lines: BTreeMap<usize, String>,
}

/// A number of a sample. Counts are written whole.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    Count(u64),
    /// Nanoseconds, written as seconds.
    Nanoseconds(u64),
}

impl From<u64> for Number {
    fn from(count: u64) -> Number {
        Number::Count(count)
    }
}

impl From<bool> for Number {
    fn from(flag: bool) -> Number {
        Number::Count(flag.into())
    }
}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Number::Count(count) => write!(f, "{count}"),
            Number::Nanoseconds(ns) => write!(f, "{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000),
        }
    }
}

impl Page {
    /// Adds a sample. `labels` are the values of the family's labels, in their order. A name that is in no table has no sample.
    pub(super) fn add(&mut self, name: &str, labels: &[&str], value: impl Into<Number>) {
        let Some((at, family)) = place(name) else { return };
        let suffix = match family.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        };
        self.line(at, family, suffix, labels, None, value.into());
    }

    /// Adds a histogram: bounds in nanoseconds that rise, and how many are below each, then how many there are in all.
    pub(super) fn add_histogram(&mut self, name: &str, labels: &[&str], bounds: &[u64], bins: &[u64]) {
        let Some((at, family)) = place(name) else { return };
        let mut below = 0_u64;
        for (index, count) in bins.iter().enumerate() {
            below = below.saturating_add(*count);
            let bound = match bounds.get(index) {
                Some(bound) => Number::Nanoseconds(*bound).to_string(),
                None => "+Inf".to_owned(),
            };
            self.line(at, family, "_bucket", labels, Some(&bound), below.into());
        }
    }

    fn line(
        &mut self,
        at: usize,
        family: &Family,
        suffix: &str,
        labels: &[&str],
        bound: Option<&str>,
        value: Number,
    ) {
        let text = self.lines.entry(at).or_default();
        let named = family.labels.iter().copied().zip(labels.iter().copied());
        let named = named.chain(bound.map(|bound| ("le", bound)));
        let named: Vec<_> = named.map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let braces = if named.is_empty() { String::new() } else { format!("{{{}}}", named.join(",")) };
        // Writing to a string does not fail.
        writeln!(text, "{}{suffix}{braces} {value}", family.name).ok();
    }

    /// The whole text.
    pub(super) fn finish(self) -> String {
        let mut text = String::new();
        for (at, lines) in self.lines {
            let Some(Family { name, kind, unit, help, .. }) = FAMILIES.get(at) else { continue };
            writeln!(text, "# TYPE {name} {}", kind.name()).ok();
            if !unit.is_empty() {
                writeln!(text, "# UNIT {name} {unit}").ok();
            }
            writeln!(text, "# HELP {name} {help}.").ok();
            text += &lines;
        }
        text + "# EOF\n"
    }
}

fn place(name: &str) -> Option<(usize, &'static Family)> {
    FAMILIES.iter().enumerate().find(|(_, family)| family.name == name)
}

/// A label's value between quotes.
fn escaped(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for letter in value.chars() {
        match letter {
            '\\' => escaped += "\\\\",
            '"' => escaped += "\\\"",
            '\n' => escaped += "\\n",
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_a_family_stand_together_with_its_type_unit_and_help() {
        let mut page = Page::default();
        page.add("cairn_node_read_only", &["a\"b\\c\nd", "x"], true);
        page.add("cairn_device_time_seconds", &["d", "n", "read"], Number::Nanoseconds(1_500_000_001));
        page.add("cairn_node_read_only", &["e", "x"], false);
        page.add_histogram(
            "cairn_device_latency_seconds",
            &["d", "n", "read"],
            &[1000, 2_000_000],
            &[1, 0, 4],
        );
        page.add("cairn_nothing", &[], 1);
        let text = page.finish();
        let want = "\
# TYPE cairn_device_time_seconds counter
# UNIT cairn_device_time_seconds seconds
# HELP cairn_device_time_seconds Time that requests of a device have taken, together.
cairn_device_time_seconds_total{device=\"d\",node=\"n\",operation=\"read\"} 1.500000001
# TYPE cairn_device_latency_seconds histogram
# UNIT cairn_device_latency_seconds seconds
# HELP cairn_device_latency_seconds How long requests of a device took, since block-latency-histogram-set.
cairn_device_latency_seconds_bucket{device=\"d\",node=\"n\",operation=\"read\",le=\"0.000001000\"} 1
cairn_device_latency_seconds_bucket{device=\"d\",node=\"n\",operation=\"read\",le=\"0.002000000\"} 1
cairn_device_latency_seconds_bucket{device=\"d\",node=\"n\",operation=\"read\",le=\"+Inf\"} 5
# TYPE cairn_node_read_only gauge
# HELP cairn_node_read_only 1 if a node takes no writes, else 0.
cairn_node_read_only{node=\"a\\\"b\\\\c\\nd\",driver=\"x\"} 1
cairn_node_read_only{node=\"e\",driver=\"x\"} 0
# EOF
";
        assert_eq!(text, want);
    }
}
