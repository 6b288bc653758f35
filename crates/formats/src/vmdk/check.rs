//! Checking: every entry of every sparse file is held against the file and against the others.
//!
//! A wrong entry is one that leads out of the file, into tables, or to a grain that another entry has. It is mended by what
//! the second copy of its table says, where that is sound and nobody else has the grain; else the grain becomes a hole.
//! Copies that differ are made equal to the first. Nothing is mended where tables lie over each other. What no entry leads to is
//! used again when the file is written to next: there are no leaks to free.
//!
//! Order of a repair: first copies of mended tables, flush, second copies, flush. A crash between them leaves copies that differ,
//! which are made equal before the next write.
use super::driver::Vmdk;
use super::extent::Kind;
use super::grains::Grains;
use super::grains::scan::{self, Piece, Scan};
use super::tables::Tables;
use block::{CheckReport, Checker, Repair, Result};
use rt::{BoxFuture, Buf};

/// Findings that are told one by one.
const MOST_MESSAGES: usize = 64;

impl Checker for Vmdk {
    fn check(&self, repair: Repair) -> BoxFuture<'_, Result<CheckReport>> {
        Box::pin(async move {
            let writable = self.image.cid.writable();
            if writable {
                // What was given up is free before the grains in use are found anew.
                self.image.end_changes(false).await?;
            }
            let report = self.check_parts(repair).await;
            match repair {
                _ if !writable => {}
                Repair::No => self.image.set_access(true),
                // What is in use may have changed.
                _ => self.image.become_writable().await?,
            }
            report
        })
    }
}

impl Vmdk {
    async fn check_parts(&self, repair: Repair) -> Result<CheckReport> {
        let mut report = CheckReport::default();
        for part in &self.image.parts {
            match &part.kind {
                Kind::Grains(grains) if grains.is_written() => grains.check(repair, &mut report).await?,
                Kind::Grains(grains) => grains.tables.check(&mut report).await?,
                Kind::Stream(stream) => stream.tables.check(&mut report).await?,
                _ => {}
            }
        }
        Ok(report)
    }
}

fn tell(report: &mut CheckReport, message: String) {
    if report.messages.len() < MOST_MESSAGES {
        report.messages.push(message);
    }
}

impl Grains {
    async fn check(&self, repair: Repair, report: &mut CheckReport) -> Result<()> {
        let name = self.tables.order.file.name();
        let scan = Scan::of(&self.tables).await?;
        for finding in &scan.findings {
            tell(report, format!("ERROR: {name}: {finding}"));
        }
        // A file that was not closed may have copies that differ: whoever writes to it next makes them equal first.
        let expected = self.is_unclean().await?;
        let (mut wrong, mut differ) = (scan.wrong, u64::from(scan.copies_differ > 0 && !expected));
        if differ > 0 {
            let text = format!(
                "ERROR: {name}: {} entries differ in the two copies of the tables",
                scan.copies_differ
            );
            tell(report, text);
        }
        if repair == Repair::All && wrong + differ > 0 && !scan.misplaced {
            let mended = mend(&self.tables, scan).await?;
            scan::copy_tables(&self.tables).await?;
            self.tables.order.tables.clear();
            report.corruptions_fixed += mended + differ;
            (wrong, differ) = (wrong.saturating_sub(mended), 0);
        }
        report.corruptions += wrong + differ;
        Ok(())
    }
}

/// Replaces wrong entries of the first copies; tells how many. `taken`: a scan, which has marked what all sound entries lead to,
/// so that no second copy is given a grain of theirs.
async fn mend(tables: &Tables, mut taken: Scan) -> Result<u64> {
    let shape = tables.shape;
    let mut seen = Scan::of_metadata(tables).await?;
    let (mut mended, mut at) = (0, 0);
    while at < shape.tables() {
        let mut piece = Piece::read(tables, at).await?;
        at += piece.places.len() as u64;
        let second = piece.redundant.as_ref().map(|(_, words)| words.as_slice()).unwrap_or_default();
        let mut changed = vec![false; piece.places.len()];
        for (index, word) in piece.words.iter_mut().enumerate() {
            if seen.judge(tables, *word).is_ok() {
                continue;
            }
            let other = second.get(index).copied().unwrap_or(0);
            *word = if other != *word && taken.judge(tables, other).is_ok() { other } else { 0 };
            mended += 1;
            if let Some(changed) = changed.get_mut(index / shape.entries as usize) {
                *changed = true;
            }
        }
        let words = piece.words.chunks(shape.entries as usize);
        for ((place, words), _) in piece.places.iter().zip(words).zip(changed).filter(|(_, changed)| *changed)
        {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            if *place != 0 {
                tables.order.file.write(*place, Buf::from_slice(&bytes)).await?;
            }
        }
    }
    tables.order.file.flush().await?;
    Ok(mended)
}

impl Tables {
    /// Looks at each table of a file that is not written in place. Nothing of it is stored twice, and nothing is mended.
    async fn check(&self, report: &mut CheckReport) -> Result<()> {
        let shape = self.shape;
        for table in 0..shape.tables() {
            let page = match self.table(table).await {
                Ok(Some(page)) => page,
                Ok(None) => continue,
                Err(e) => {
                    report.corruptions += 1;
                    tell(report, format!("ERROR: {e}"));
                    continue;
                }
            };
            let end = self.file_len();
            for (index, word) in page.words_from(0).enumerate() {
                if !self.is_sound(word, end) {
                    report.corruptions += 1;
                    let guest = (table * shape.entries + index as u64) << shape.grain_bits;
                    tell(
                        report,
                        format!(
                            "ERROR: the entry of guest offset {guest:#x} ({word:#x}) leads out of the file"
                        ),
                    );
                }
            }
        }
        Ok(())
    }
}
