//! Check and repair: every reference in the image is counted, and compared with the counts it stores.
//!
//! ```text
//!  refcount table ─▶ blocks ───────────────▶ stored ┐
//!                                                   ├─ Counts, one slot a cluster ─▶ leaks, corruptions
//!  header, tables, L1s ─▶ distinct L2 tables ─▶ refs ┘
//! ```
//!
//! Laws:
//! - each table is read once, whoever and how many refer to it: an L2 table that N entries lead to counts N-fold;
//! - what can't be followed is a corruption, and from then on nothing counts as leaked beyond doubt: leaks are not
//!   given up, no rebuilt refcount is less than the old one, and one where that is lost;
//! - repair keeps count ≥ references at every instant where that was so before: entries are cleared, durably, before
//!   counts go down; counts go up, durably, before flags say that a cluster is owned; new refcount structures are
//!   durable before one header write switches to them; the dirty and corrupt bits go last.
//!
//! Bounds: memory is four bytes a cluster in windows of [`counts::WINDOW`] clusters, further windows cost another
//! pass each; work is linear in what the file can hold, for all tables of one kind together are never longer than
//! it. A repair needs all counts at once.
mod counts;
mod findings;
mod mend;
mod rebuild;
mod salvage;
mod scan;
mod stored;
mod tables;
mod walk;

use super::bitmaps;
use super::header::{AUTOCLEAR_BITMAPS, BITMAPS, Header, INCOMPATIBLE_CORRUPT, INCOMPATIBLE_DIRTY};
use block::{BlockError, CheckReport, ErrorKind, Node, Repair, Result};
use counts::Counts;
use findings::Findings;
use rt::{Buf, BufMut};
use std::sync::Arc;
use stored::RefcountTable;
use tables::TableSet;
use walk::Walk;

/// Bytes read or written at a time where tables lie side by side.
const PIECE: u64 = 256 << 10;

/// Most windows that are looked at.
const MAX_WINDOWS: u64 = 64;

/// Most clusters that a repair can handle: their counts take 1 GiB.
const MAX_REPAIR_CLUSTERS: u64 = 1 << 28;

/// The image as the parts of a check see it.
#[derive(Clone, Copy)]
struct Image<'a> {
    file: &'a Arc<Node>,
    header: &'a Header,
    /// Bytes of the file when the check began.
    file_len: u64,
}

impl Image<'_> {
    /// Clusters of the file, the last one perhaps cut off.
    fn clusters(&self) -> u64 {
        self.file_len.div_ceil(self.header.cluster_size())
    }

    /// Reads; zeroes beyond the end of the file.
    async fn read(&self, offset: u64, len: u64) -> Result<BufMut> {
        let (buf, result) = self.file.read(offset, BufMut::with_len(len as usize)).await;
        result.map(|()| buf)
    }

    async fn write(&self, offset: u64, data: BufMut) -> Result<()> {
        self.file.write(offset, Buf::from(data), block::Request::DRIVER).await
    }

    /// Where what there is of a table ends: an entry that the end of the file cuts off is part of it, read with zeroes.
    fn table_end(&self, offset: u64, bytes: u64) -> u64 {
        offset.saturating_add(bytes.min(self.file_len.saturating_sub(offset).next_multiple_of(8)))
    }

    /// Whether a table begins at this offset in the file.
    fn holds_cluster(&self, offset: u64) -> bool {
        offset.is_multiple_of(self.header.cluster_size()) && offset < self.file_len
    }
}

/// Checks the image and mends what `repair` allows. Nobody else may use the file meanwhile. `header` is the header
/// on disk afterwards too.
pub(super) async fn check(file: &Arc<Node>, header: &mut Header, repair: Repair) -> Result<CheckReport> {
    let file_len = file.length();
    let mut findings = Findings::new(repair);
    if repair == Repair::No {
        look(Image { file, header, file_len }, &mut findings).await?;
        return Ok(findings.into_report());
    }
    if file_len.div_ceil(header.cluster_size()) > MAX_REPAIR_CLUSTERS {
        let text = "the image has more clusters than can be repaired in memory; rewrite it with 'convert'";
        return Err(BlockError::new(ErrorKind::Limit, text));
    }
    clear_unknown_autoclear(file, header).await?;
    repair_image(file, header, file_len, &mut findings).await?;
    finish_header(file, header, &findings).await?;
    Ok(findings.into_report())
}

/// Looks only, window by window.
async fn look(image: Image<'_>, findings: &mut Findings) -> Result<()> {
    let table = RefcountTable::read(image, findings).await?;
    let mut tables = TableSet::new(image.clusters());
    let mut counts = Counts::window(0, image.clusters() + 1);
    for pass in 0..MAX_WINDOWS {
        table.load(image, &mut counts, findings).await?;
        Walk::new(image, &table, &mut tables, &mut counts, findings, pass == 0).run().await?;
        compare(image, &mut counts, findings);
        match counts.beyond() {
            None => return Ok(()),
            Some(next) => counts = Counts::window(next, image.clusters() + 1 - next),
        }
    }
    findings.check_error("the clusters in use lie too far apart in the file to be checked all".to_owned());
    Ok(())
}

/// Counts as they are and as they should be.
fn compare(image: Image<'_>, counts: &mut Counts, findings: &mut Findings) {
    if counts.get(image.clusters()).1 == 0 {
        // The cluster behind the end matters only to a reference that reaches into it.
        counts.set_stored(image.clusters(), 0);
    }
    let max = image.header.refcount_max();
    for (cluster, stored, refs) in counts.differing() {
        if refs > max {
            findings.overflow(cluster << image.header.cluster_bits, refs - max);
        }
        if stored != refs.min(max) {
            findings.count_differs(cluster, stored, refs.min(max));
        }
    }
    if let Some(highest) = counts.highest() {
        findings.image_end((highest + 1) << image.header.cluster_bits);
    }
}

async fn repair_image(
    file: &Arc<Node>,
    header: &mut Header,
    file_len: u64,
    findings: &mut Findings,
) -> Result<()> {
    if findings.repair() == Repair::All {
        drop_damaged_bitmaps(file, header, findings).await?;
    }
    let image = Image { file, header, file_len };
    let table = RefcountTable::read(image, findings).await?;
    let mut tables = TableSet::new(image.clusters());
    let mut counts = Counts::whole(image.clusters() + 1);
    table.load(image, &mut counts, findings).await?;
    let kept = if findings.repair() == Repair::All { salvage::look(image).await? } else { None };
    Walk::new(image, &table, &mut tables, &mut counts, findings, true)
        .with_snapshots(kept.as_ref())
        .run()
        .await?;
    mend::entries(image, &counts, findings).await?;
    if let Some(kept) = kept {
        kept.write(file, header, file_len, &mut counts, findings).await?;
    }
    let image = Image { file, header, file_len };
    compare(image, &mut counts, findings);
    let all = findings.repair() == Repair::All;
    if findings.beyond_leaks && !all {
        let text =
            "the refcount structures have to be rebuilt, which only 'check -r all' does; nothing was changed";
        return Err(BlockError::corrupt(text.to_owned()));
    }
    // What could not be read may be readable the next time.
    if findings.rebuild && all && findings.all_read() {
        if findings.complete {
            forget_bitmaps(file, header).await?;
        }
        rebuild::rebuild(file, header, file_len, &table, &mut counts, findings).await?;
    } else {
        if findings.complete && findings.fixable_leaks() {
            forget_bitmaps(file, header).await?;
        }
        mend::counts(Image { file, header, file_len }, &table, &mut counts, findings).await?;
    }
    // Flags follow from counts: they are looked at, and set, when those hold.
    let image = Image { file, header, file_len };
    mend::flags(image, &tables, &counts, findings).await?;
    Ok(())
}

/// Features that are unknown here may depend on what a repair changes: their bits go first.
async fn clear_unknown_autoclear(file: &Arc<Node>, header: &mut Header) -> Result<()> {
    let known = AUTOCLEAR_BITMAPS | header.maintained();
    if header.autoclear & !known == 0 {
        return Ok(());
    }
    let mut cleared = header.clone();
    cleared.autoclear &= known;
    cleared.store(file).await?;
    file.flush().await?;
    *header = cleared;
    Ok(())
}

/// Bitmaps that another program left inconsistent are leaks; when their clusters are given up, nothing may lead to
/// them any more.
async fn forget_bitmaps(file: &Arc<Node>, header: &mut Header) -> Result<()> {
    if header.autoclear & AUTOCLEAR_BITMAPS != 0 || header.extension(BITMAPS).is_none() {
        return Ok(());
    }
    header.drop_extension(file, BITMAPS).await
}

/// Bitmaps whose directory is damaged keep other programs from opening the image at all, and nobody can tell what they
/// said: they go, and their clusters with the leaks.
async fn drop_damaged_bitmaps(file: &Arc<Node>, header: &mut Header, findings: &mut Findings) -> Result<()> {
    let fault = match bitmaps::read(file, header).await {
        Err(fault) if fault.kind() == ErrorKind::Corrupt => fault,
        other => return other.map(drop),
    };
    let mut without = header.clone();
    without.autoclear &= !AUTOCLEAR_BITMAPS;
    without.store(file).await?;
    file.flush().await?;
    *header = without;
    forget_bitmaps(file, header).await?;
    findings.mended(|| format!("{}: the bitmaps are dropped", fault.message()));
    Ok(())
}

/// An image that is consistent now is marked so.
async fn finish_header(file: &Arc<Node>, header: &mut Header, findings: &Findings) -> Result<()> {
    file.flush().await?;
    if !findings.consistent() || !(header.is_dirty() || header.is_corrupt()) {
        return Ok(());
    }
    let mut clean = header.clone();
    clean.set_incompatible(INCOMPATIBLE_DIRTY | INCOMPATIBLE_CORRUPT, false);
    clean.store(file).await?;
    file.flush().await?;
    *header = clean;
    Ok(())
}
