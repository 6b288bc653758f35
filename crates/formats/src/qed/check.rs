//! Check and repair: each reference is followed, and what the file has beside what is referred to is leaked.
//!
//! ```text
//!  look:    L1 table ─▶ L2 tables first, then data clusters ─▶ used ─▶ leaks = clusters of the file - used
//!  errors:  {copies of what is there twice} · flush · {entries: to the copy, or cleared} · flush
//!  leaks:   {clusters from the end of the file copied into leaked ones} · flush · {their entries} · flush · truncate
//! ```
//!
//! Laws:
//! - an entry that leads nowhere is cleared: its range is not in this image any more;
//! - a cluster that several entries lead to stays with the first; the others get copies of it. Tables have the first claim. An
//!   open for writing makes no copies: a small file could claim that much is to be copied;
//! - leaks are mended only where all references could be followed, and no error is left;
//! - nothing is written to a cluster before, durably, nothing leads to it.
//!
//! Bounds: memory is a bit a cluster in use, and [`MOST_MENDS`] entries; what is beyond those is counted, and mended by the
//! next run. Copies take no more bytes in a run than the file has before it. Tables are read by pieces.
mod compact;
mod mend;

use super::header::Header;
use crate::two_level::{Entry, Geometry, Layout, fixed_runs, wrong_entry, wrong_table};
use api::PreallocMode;
use block::metacache::{Blocks, Codec, Le64, Reservations, Run};
use block::{CheckReport, Node, Request, Result};
use rt::{Buf, BufMut};
use std::sync::Arc;

/// Bytes that are read at a time.
const PIECE: u64 = 1 << 20;
/// Most lines that are kept; the numbers count all.
const MOST_LINES: usize = 65_536;
/// Most errors that one run mends.
const MOST_MENDS: usize = 1 << 20;

/// What a check may mend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mend {
    Nothing,
    /// Entries that lead nowhere, as an open for writing does.
    Lost,
    Leaks,
    All,
}

/// An entry of a table, and its byte offset in the file.
#[derive(Debug, Clone, Copy)]
struct Stored {
    place: u64,
    word: u64,
}

/// An entry that is to be mended.
#[derive(Debug, Clone, Copy)]
enum Wrong {
    /// It leads nowhere.
    Lost(Stored),
    /// An L1 entry whose table, or a part of it, is something else too.
    TableTwice(Stored),
    /// An L2 entry whose cluster is something else too.
    DataTwice(Stored),
}

struct Check<'a> {
    file: &'a Arc<Node>,
    g: Geometry,
    /// Bytes of the file when the check began.
    length: u64,
    mend: Mend,
    report: CheckReport,
    used: Blocks,
    reservations: Reservations,
    wrong: Vec<Wrong>,
    /// Bytes that may still be copied.
    room: u64,
}

/// Checks the image and mends what `mend` allows. Nobody else uses the file meanwhile.
pub(super) async fn check(file: &Arc<Node>, header: &Header, mend: Mend) -> Result<CheckReport> {
    let (g, length) = (header.geometry(), file.length());
    let report = CheckReport { total_clusters: Some(g.clusters(header.size)), ..CheckReport::default() };
    let used = Blocks::new(g.clusters(length), g.limit);
    let reservations = Reservations::default();
    let mut check =
        Check { file, g, length, mend, report, used, reservations, wrong: Vec::new(), room: length };
    check.look().await?;
    if matches!(mend, Mend::Lost | Mend::All) {
        check.mend_errors().await?;
    }
    check.report.leaks = check.leaks();
    if matches!(mend, Mend::Leaks | Mend::All) && check.report.corruptions == 0 && check.report.leaks > 0 {
        check.mend_leaks().await?;
    }
    Ok(check.report)
}

impl Check<'_> {
    /// Clusters of the file that nothing refers to. A device is no longer than what is used of it.
    fn leaks(&mut self) -> u64 {
        let grows = self.file.facts().grows_with_zeroes;
        self.used.take_unused(&self.reservations);
        let end = if grows { self.g.cluster(self.file.length()) } else { self.used.used_end() };
        end.saturating_sub(self.used.used_count())
    }

    fn found(&mut self, line: String) {
        self.report.corruptions += 1;
        if self.report.messages.len() < MOST_LINES {
            self.report.messages.push(line);
        }
    }

    fn note(&mut self, wrong: Wrong) {
        let wanted = match self.mend {
            Mend::All => true,
            Mend::Lost => matches!(wrong, Wrong::Lost(_)),
            Mend::Nothing | Mend::Leaks => false,
        };
        if wanted && self.wrong.len() < MOST_MENDS {
            self.wrong.push(wrong);
        }
    }

    // ---- looking ----

    async fn look(&mut self) -> Result<()> {
        for run in fixed_runs(&self.g) {
            // The header was judged: the file has them.
            let _fixed = self.used.mark(run);
        }
        let mut tables = Vec::new();
        let mut at = 0;
        while at < self.g.l1_entries {
            let entries = self.entries(self.g.l1_offset + 8 * at, self.g.l1_entries - at).await?;
            for stored in entries.iter().filter(|stored| stored.word != 0) {
                if self.look_at_table(*stored) {
                    tables.push(stored.word);
                }
            }
            at += entries.len() as u64;
        }
        let (mut allocated, mut fragmented) = (0, 0);
        for table in tables {
            let (data, parts) = self.look_into_table(table).await?;
            allocated += data;
            fragmented += parts;
        }
        self.report.allocated_clusters = Some(allocated);
        self.report.fragmented_clusters = Some(fragmented);
        Ok(())
    }

    /// Judges an L1 entry; whether the table is its own.
    fn look_at_table(&mut self, stored: Stored) -> bool {
        let Stored { place, word } = stored;
        if let Some(why) = wrong_table(word, &self.g, self.length) {
            self.found(format!("ERROR L1 entry at {place:#x} is {word:#x}: {why}"));
            self.note(Wrong::Lost(stored));
            return false;
        }
        let run = Run { start: self.g.cluster(word), count: self.g.clusters(self.g.table_len()) };
        if self.used.mark(run).is_err() {
            self.found(format!("ERROR L1 entry at {place:#x} is {word:#x}: another L2 table is there"));
            self.note(Wrong::TableTwice(stored));
            return false;
        }
        true
    }

    /// Judges the entries of an L2 table; how many lead to data, and how many of these do not follow the one before.
    async fn look_into_table(&mut self, table: u64) -> Result<(u64, u64)> {
        let (total, mut at) = (self.g.table_len() / 8, 0);
        let (mut allocated, mut fragmented, mut next) = (0, 0, None);
        while at < total {
            let entries = self.entries(table + 8 * at, total - at).await?;
            for stored in &entries {
                let Stored { place, word } = *stored;
                let entry = entry(word, &self.g);
                if let Some(why) = wrong_entry(entry, &self.g, self.length) {
                    self.found(format!("ERROR L2 entry at {place:#x} is {word:#x}: {why}"));
                    self.note(Wrong::Lost(*stored));
                    continue;
                }
                let Entry::Data(host) = entry else { continue };
                allocated += 1;
                fragmented += u64::from(next.is_some_and(|next| next != host));
                next = Some(host + self.g.cluster_size());
                if self.used.mark(Run { start: self.g.cluster(host), count: 1 }).is_err() {
                    self.found(format!(
                        "ERROR L2 entry at {place:#x} is {word:#x}: something else is there too"
                    ));
                    self.note(Wrong::DataTwice(*stored));
                }
            }
            at += entries.len() as u64;
        }
        Ok((allocated, fragmented))
    }

    // ---- the file ----

    /// Up to a piece of `count` entries.
    async fn entries(&self, place: u64, count: u64) -> Result<Vec<Stored>> {
        let bytes = self.read(place, 8 * count.min(PIECE / 8)).await?;
        let places = (place..).step_by(8);
        Ok(places.zip(Le64::words(&bytes)).map(|(place, word)| Stored { place, word }).collect())
    }

    async fn read(&self, offset: u64, len: u64) -> Result<BufMut> {
        let (bytes, result) = self.file.read(offset, BufMut::with_len(len as usize)).await;
        result.map(|()| bytes)
    }

    async fn write(&self, offset: u64, bytes: Buf) -> Result<()> {
        self.file.write(offset, bytes, Request::DRIVER).await
    }

    /// Copies bytes of the file to another place.
    async fn copy(&self, from: u64, to: u64, len: u64) -> Result<()> {
        for at in (0..len).step_by(PIECE as usize) {
            let bytes = self.read(from + at, PIECE.min(len - at)).await?;
            self.write(to + at, bytes.freeze()).await?;
        }
        Ok(())
    }

    /// Replaces entries when all that was written before is durable; durable when it returns.
    async fn replace(&self, entries: &[Stored]) -> Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        self.file.flush().await?;
        for Stored { place, word } in entries {
            self.write(*place, Le64::bytes(&[*word]).freeze()).await?;
        }
        self.file.flush().await
    }

    /// Cuts the file behind the last cluster that is used.
    async fn truncate(&mut self) -> Result<()> {
        self.used.take_unused(&self.reservations);
        let end = self.used.used_end() << self.g.cluster_bits;
        if self.file.facts().grows_with_zeroes && end < self.file.length() {
            self.file.set_length(end, PreallocMode::Off).await?;
            self.file.flush().await?;
        }
        Ok(())
    }
}

fn entry(word: u64, g: &Geometry) -> Entry {
    super::driver::Qed::entry(word, g)
}
