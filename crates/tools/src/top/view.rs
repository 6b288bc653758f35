//! The figures as lines of text.

use super::figures::{DeviceFigures, Figures, JobFigures, NodeFigures, Rates};
use crate::console::printable;
use crate::size;

/// A line: its text, and whether it is a heading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) text: String,
    pub(super) heading: bool,
}

/// Width of a job's bar in characters.
const BAR: usize = 20;
/// Blanks between columns.
const GAP: &str = "  ";

/// How a column's cells stand in it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

const RATE_COLUMNS: [(&str, Side); 7] = [
    ("READ/s", Side::Right),
    ("WRITE/s", Side::Right),
    ("READS/s", Side::Right),
    ("WRITES/s", Side::Right),
    ("FLUSHES/s", Side::Right),
    ("READ TIME", Side::Right),
    ("WRITE TIME", Side::Right),
];

/// All lines, as long as they are.
pub(super) fn lines(figures: &Figures) -> Vec<Line> {
    let mut lines = Vec::new();
    jobs(&mut lines, &figures.jobs);
    let exports = figures.exports.iter().map(|(export, rates)| {
        let state = if export.shutting_down { "ending" } else { "" };
        let cells = [export.id.clone(), export.kind.clone(), export.node.clone(), state.to_owned()];
        cells.into_iter().chain(rate_cells(rates.as_ref())).collect()
    });
    let columns = [("EXPORT", Side::Left), ("TYPE", Side::Left), ("NODE", Side::Left), ("", Side::Left)];
    table(&mut lines, &with_rates(&columns), exports.collect());
    let devices = figures.devices.iter().map(|DeviceFigures { name, node, status, rates, counters }| {
        let status = if counters.failed > 0 { format!("{} failed", counters.failed) } else { status.clone() };
        let node = if node.is_empty() { "(empty)" } else { node };
        let cells = [name.clone(), node.to_owned(), status];
        cells.into_iter().chain(rate_cells(rates.as_ref())).collect()
    });
    let columns = [("DEVICE", Side::Left), ("NODE", Side::Left), ("STATUS", Side::Left)];
    table(&mut lines, &with_rates(&columns), devices.collect());
    let nodes = figures.nodes.iter().map(|node| {
        let NodeFigures { name, driver, file, size, read_only, rates, .. } = node;
        let access = if *read_only { "ro" } else { "rw" };
        let cells = [name.clone(), driver.clone(), access.to_owned(), size::human(*size)];
        cells.into_iter().chain(rate_cells(rates.as_ref())).chain([file.clone()]).collect()
    });
    let columns = [("NODE", Side::Left), ("DRIVER", Side::Left), ("", Side::Left), ("SIZE", Side::Right)];
    let mut columns = with_rates(&columns);
    columns.push(("FILE", Side::Left));
    table(&mut lines, &columns, nodes.collect());
    lines
}

/// A line as it is printed where there is no terminal.
pub(super) fn plain(line: &Line) -> &str {
    &line.text
}

fn jobs(lines: &mut Vec<Line>, jobs: &[JobFigures]) {
    let columns = [
        ("JOB", Side::Left),
        ("TYPE", Side::Left),
        ("STATUS", Side::Left),
        ("PROGRESS", Side::Left),
        ("", Side::Right),
        ("DONE", Side::Right),
        ("OF", Side::Right),
        ("RATE", Side::Right),
        ("LIMIT", Side::Right),
        ("LEFT", Side::Right),
        ("ERROR", Side::Left),
    ];
    let rows = jobs.iter().map(|JobFigures { job, rate, left }| {
        let limit = if job.limit == 0 { String::new() } else { per_second(job.limit as f64) };
        vec![
            job.id.clone(),
            job.kind.clone(),
            job.status.clone(),
            bar(job.done, job.all),
            format!("{:.0} %", share(job.done, job.all) * 100.0),
            size::human(job.done),
            size::human(job.all),
            per_second(*rate),
            limit,
            left.map(time_left).unwrap_or_default(),
            job.error.clone(),
        ]
    });
    table(lines, &columns, rows.collect());
}

fn with_rates(columns: &[(&'static str, Side)]) -> Vec<(&'static str, Side)> {
    columns.iter().copied().chain(RATE_COLUMNS).collect()
}

fn rate_cells(rates: Option<&Rates>) -> Vec<String> {
    let Some(rates) = rates else { return vec!["-".to_owned(); RATE_COLUMNS.len()] };
    vec![
        per_second(rates.read),
        per_second(rates.written),
        format!("{:.0}", rates.reads),
        format!("{:.0}", rates.writes),
        format!("{:.0}", rates.flushes),
        rates.read_time.map(time).unwrap_or_default(),
        rates.write_time.map(time).unwrap_or_default(),
    ]
}

/// A table below a heading, and an empty line; nothing if it has no rows.
fn table(lines: &mut Vec<Line>, columns: &[(&'static str, Side)], rows: Vec<Vec<String>>) {
    if rows.is_empty() {
        return;
    }
    let width = |column: usize, title: &str| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.fold(title.chars().count(), usize::max)
    };
    let widths: Vec<_> = columns.iter().enumerate().map(|(at, (title, _))| width(at, title)).collect();
    let compose = |cells: &mut dyn Iterator<Item = &str>| {
        let cells = cells.zip(columns.iter().zip(&widths)).map(|(cell, ((_, side), &width))| match side {
            Side::Left => format!("{cell:<width$}"),
            Side::Right => format!("{cell:>width$}"),
        });
        let text = cells.collect::<Vec<_>>().join(GAP);
        // Names come from others: no control character of theirs reaches the terminal.
        printable(text.trim_end())
    };
    let heading = compose(&mut columns.iter().map(|(title, _)| *title));
    lines.push(Line { text: heading, heading: true });
    for row in &rows {
        lines.push(Line { text: compose(&mut row.iter().map(String::as_str)), heading: false });
    }
    lines.push(Line { text: String::new(), heading: false });
}

fn share(done: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { (done as f64 / all as f64).min(1.0) }
}

fn bar(done: u64, all: u64) -> String {
    let filled = ((share(done, all) * BAR as f64) as usize).min(BAR);
    "█".repeat(filled) + &"░".repeat(BAR - filled)
}

fn per_second(bytes: f64) -> String {
    format!("{}/s", size::human(bytes.max(0.0) as u64))
}

/// A short time.
fn time(seconds: f64) -> String {
    match seconds {
        s if s < 1e-3 => format!("{:.0} µs", s * 1e6),
        s if s < 1.0 => format!("{:.1} ms", s * 1e3),
        s => format!("{s:.1} s"),
    }
}

/// A long time: `1:02:03`, or days where it is several.
pub(super) fn time_left(seconds: f64) -> String {
    let whole = seconds.clamp(0.0, 1e12).round() as u64;
    let (hours, minutes, seconds) = (whole / 3600, whole / 60 % 60, whole % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02}"),
        1..48 => format!("{hours}:{minutes:02}:{seconds:02}"),
        _ => format!("{} days", hours / 24),
    }
}

/// The lines that a terminal of this size has room for: a title, the lines from `first` on, and how many are left out.
pub(super) fn screen(
    title: &str,
    lines: &[Line],
    first: usize,
    (columns, rows): (usize, usize),
) -> Vec<String> {
    let room = rows.saturating_sub(2);
    let mut shown = vec![styled("\x1b[7m", &format!("{title:<columns$}"), columns)];
    for line in lines.iter().skip(first).take(room) {
        let style = if line.heading { "\x1b[1m" } else { "" };
        shown.push(styled(style, &line.text, columns));
    }
    let below = lines.len().saturating_sub(first + room);
    if below > 0 && rows > 1 {
        shown.push(styled("\x1b[2m", &format!("{below} more lines: the arrows scroll"), columns));
    }
    shown.truncate(rows.max(1));
    shown
}

fn styled(style: &str, text: &str, columns: usize) -> String {
    style.to_owned() + &text.chars().take(columns).collect::<String>()
}
