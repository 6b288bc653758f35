//! Repair in place: entries, counts, flags. Each step is durable before the next begins.
use super::counts::Counts;
use super::findings::Findings;
use super::stored::{RefcountTable, put_count};
use super::tables::TableSet;
use super::{Image, PIECE};
use crate::qcow2::header::{COMPRESSED, COPIED, OFFSET_MASK};
use block::{Repair, Result};
use rt::BufMut;

/// Replaces the table entries that can be, in tables that are nothing else.
pub(super) async fn entries(image: Image<'_>, counts: &Counts, findings: &mut Findings) -> Result<()> {
    let mends = std::mem::take(&mut findings.mends);
    for mend in &mends {
        let certain = mend.target.is_none_or(|cluster| {
            let (stored, refs) = counts.get(cluster);
            refs == u64::from(mend.refs) && stored >= refs
        });
        if !is_only(counts, mend.at >> image.header.cluster_bits, mend.refs) {
            findings.left_alone(mend);
        } else if certain {
            image.write(mend.at, BufMut::from_slice(&mend.value.to_be_bytes())).await?;
        } else {
            findings.left_in_doubt(mend);
        }
    }
    if mends.is_empty() { Ok(()) } else { image.file.flush().await }
}

/// Whether a cluster has no references beside the `refs` that make it a table: otherwise a change of the table would
/// change the header, other metadata or data.
fn is_only(counts: &Counts, cluster: u64, refs: u32) -> bool {
    counts.get(cluster).1 <= u64::from(refs)
}

/// Writes the right counts into the blocks that there are.
pub(super) async fn counts(
    image: Image<'_>,
    table: &RefcountTable,
    counts: &mut Counts,
    findings: &mut Findings,
) -> Result<()> {
    if findings.structure_is_corrupt() {
        return Ok(());
    }
    let (header, per_block) = (image.header, image.header.refcounts_per_block());
    let max = header.refcount_max();
    for index in 0..counts.end().div_ceil(per_block) {
        let range = index * per_block..(index + 1) * per_block;
        let wrong =
            counts.differing_in(range.start, range.end).map(|(k, stored, refs)| (k, stored, refs.min(max)));
        let wrong: Vec<_> =
            wrong.filter(|(_, stored, refs)| stored != refs && findings.fixes(stored < refs)).collect();
        let Some(offset) = table.block(image, index).filter(|_| !wrong.is_empty()) else { continue };
        let mut block = image.read(offset, header.cluster_size()).await?;
        for (cluster, stored, refs) in wrong {
            put_count(&mut block, header.refcount_order, cluster - range.start, refs);
            counts.set_stored(cluster, refs);
            findings.count_fixed(cluster, stored, refs);
        }
        image.write(offset, block).await?;
    }
    image.file.flush().await
}

/// Compares the flags of the active tables with the counts, and sets them right: that a cluster is not owned always
/// (it costs a copy at worst), that it is owned only when nothing else is wrong.
pub(super) async fn flags(
    image: Image<'_>,
    tables: &TableSet,
    counts: &Counts,
    findings: &mut Findings,
) -> Result<()> {
    let (clean, all) = (findings.clean(), findings.repair() == Repair::All);
    let repairs = |owned: bool| clean || (!owned && all);
    let header = image.header;
    let (mut at, end) = (header.l1_offset, header.l1_offset + header.l1_bytes());
    while at < end {
        let len = PIECE.min(end - at);
        let mut piece = image.read(at, len).await?;
        let first = (at - header.l1_offset) / 8;
        let bits = header.cluster_bits;
        let only = (at >> bits..=(at + len - 1) >> bits).all(|cluster| is_only(counts, cluster, 1));
        let changed = set_flags(
            &mut piece,
            image,
            counts,
            1,
            |_| true,
            |i, word, refcount| {
                let repaired = only && repairs(refcount == 1);
                findings.flag_differs(1, repaired, || {
                    format!("L2 cluster: l1_index={} l1_entry={word:x} refcount={refcount}", first + i as u64)
                });
                repaired
            },
        );
        if changed {
            image.write(at, piece).await?;
        }
        at += len;
    }
    let (cluster_size, words) = (header.cluster_size(), header.l2_entry_bytes() as usize / 8);
    for run in tables.runs((PIECE / cluster_size).max(1) as usize) {
        let Some(first) = run.first().filter(|_| run.iter().any(|table| table.active > 0)) else { continue };
        let at = first.cluster << header.cluster_bits;
        let mut bytes = image.read(at, cluster_size * run.len() as u64).await?;
        let mut changed = false;
        for (table, bytes) in
            run.iter().zip(bytes.chunks_mut(cluster_size as usize)).filter(|(t, _)| t.active > 0)
        {
            let standard = |word: u64| word & COMPRESSED == 0 && !header.has_data_file();
            let only = is_only(counts, table.cluster, table.refs);
            changed |= set_flags(bytes, image, counts, words, standard, |_, word, refcount| {
                let repaired = only && repairs(refcount == 1);
                findings.flag_differs(table.active, repaired, || {
                    format!("data cluster: l2_entry={word:x} refcount={refcount}")
                });
                repaired
            });
        }
        if changed {
            image.write(at, bytes).await?;
        }
        rt::yield_now().await;
    }
    Ok(())
}

/// Sets the flags of a table's entries, of so many `words` each, by the counts, where `differs`, told each wrong one, allows it. Answers
/// whether any changed.
fn set_flags(
    table: &mut [u8],
    image: Image<'_>,
    counts: &Counts,
    words: usize,
    concerns: impl Fn(u64) -> bool,
    mut differs: impl FnMut(usize, u64, u64) -> bool,
) -> bool {
    let mut changed = false;
    for (i, entry) in table.as_chunks_mut().0.iter_mut().step_by(words).enumerate() {
        let word = u64::from_be_bytes(*entry);
        let offset = word & OFFSET_MASK;
        if offset == 0 || !concerns(word) {
            continue;
        }
        let refcount = counts.get(offset >> image.header.cluster_bits).0;
        if (refcount == 1) != (word & COPIED != 0) && differs(i, word, refcount) {
            *entry = (word ^ COPIED).to_be_bytes();
            changed = true;
        }
    }
    changed
}
