//! New refcount structures, written behind everything that is in use, where no entry leads to, be it beyond the end of
//! the file.
//!
//! ```text
//!  … in use │ table │ block │ block …      then one header write switches from the old structures to these
//! ```
use super::counts::Counts;
use super::findings::{self, Findings};
use super::stored::{RefcountTable, put_count};
use super::{Image, MAX_REPAIR_CLUSTERS, PIECE};
use crate::qcow2::header::{Header, MAX_REFCOUNT_TABLE_BYTES};
use block::{BlockError, ErrorKind, Node, Result};
use rt::BufMut;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

/// Gaps between dangling references that are tried.
const MAX_TRIES: u32 = 64;

/// Writes refcount structures that hold the references in `counts`, and switches to them.
pub(super) async fn rebuild(
    file: &Arc<Node>,
    header: &mut Header,
    file_len: u64,
    old: &RefcountTable,
    counts: &mut Counts,
    findings: &mut Findings,
) -> Result<()> {
    let mut new = header.clone();
    let image = Image { file, header, file_len };
    let kept = if findings.complete { 0 } else { keep_unknown(image, old, counts) };
    let start = counts.highest().map_or(1, |highest| highest + 1);
    let given_up = give_up_old(image, old, counts);
    let dangling = Dangling::sorted(image, findings)?;
    let plan = Plan::apart_from(&dangling, image, counts, start)?;
    let start = plan.start;
    counts.grow(start + plan.clusters());
    let now_inside = dangling.iter().filter(|d| d.clusters.end <= start);
    now_inside
        .clone()
        .for_each(|d| d.clusters.clone().for_each(|cluster| counts.add(cluster, d.found.times)));
    (start..start + plan.clusters()).for_each(|cluster| counts.add(cluster, 1));
    plan.write(image, counts).await?;
    file.flush().await?;
    new.refcount_table_offset = start << new.cluster_bits;
    new.refcount_table_clusters = plan.table_clusters as u32;
    new.store(file).await?;
    file.flush().await?;
    *header = new;
    let max = header.refcount_max();
    let differing: Vec<_> = counts.differing().map(|(cluster, _, refs)| (cluster, refs)).collect();
    let overflows = differing.iter().map(|(_, refs)| refs.saturating_sub(max)).sum();
    differing.into_iter().for_each(|(cluster, refs)| counts.set_stored(cluster, refs.min(max)));
    findings.rebuilt(&given_up, overflows, kept);
    now_inside.for_each(|d| findings.dangling_counted(d.found));
    findings.image_end((start + plan.clusters()) << header.cluster_bits);
    Ok(())
}

/// Where not every reference could be followed, no count goes down, and a cluster whose count is lost has one: something
/// may lead there. Tells how many clusters that concerns.
fn keep_unknown(image: Image<'_>, old: &RefcountTable, counts: &mut Counts) -> u64 {
    let per_block = image.header.refcounts_per_block();
    let mut kept = 0;
    for cluster in 0..image.clusters() {
        let (stored, refs) = counts.get(cluster);
        let least = if old.block(image, cluster / per_block).is_some() { stored } else { 1 };
        if refs < least {
            counts.add_many(cluster, least - refs);
            kept += 1;
        }
    }
    kept
}

/// Takes the references of the old structures back, and tells their clusters.
fn give_up_old(image: Image<'_>, old: &RefcountTable, counts: &mut Counts) -> Vec<u64> {
    let bits = image.header.cluster_bits;
    let mut clusters = Vec::new();
    if image.header.refcount_fault(image.file_len).is_none() {
        let first = image.header.refcount_table_offset >> bits;
        clusters.extend(first..first + u64::from(image.header.refcount_table_clusters));
    }
    let blocks = old.entries().iter().filter(|&&entry| entry != 0 && image.holds_cluster(entry));
    clusters.extend(blocks.map(|entry| entry >> bits));
    clusters.sort_unstable();
    clusters.iter().for_each(|&cluster| counts.remove(cluster, 1));
    clusters.retain(|&cluster| counts.get(cluster).1 == 0);
    clusters.dedup();
    clusters
}

fn out_of_reach() -> BlockError {
    let text = "the image has clusters so far behind each other that no refcount table reaches them all";
    BlockError::new(ErrorKind::Limit, text)
}

/// References to clusters that reach behind the end of the file.
struct Dangling {
    clusters: Range<u64>,
    found: findings::Dangling,
}

impl Dangling {
    /// All of them, in the order of the file.
    fn sorted(image: Image<'_>, findings: &Findings) -> Result<Vec<Self>> {
        if !findings.all_dangling_known {
            let text = "too many entries lead beyond the end of the file for new refcount structures to keep clear of \
                        them; rewrite the image with 'convert'";
            return Err(BlockError::new(ErrorKind::Limit, text));
        }
        let bits = image.header.cluster_bits;
        let clusters = |d: &findings::Dangling| d.offset >> bits..((d.offset + d.size - 1) >> bits) + 1;
        let mut all: Vec<_> =
            findings.dangling.iter().map(|d| Self { clusters: clusters(d), found: *d }).collect();
        all.sort_by_key(|d| d.clusters.start);
        Ok(all)
    }
}

/// Where the new structures go: the table at cluster `start`, the blocks behind it.
struct Plan {
    start: u64,
    table_clusters: u64,
    /// Indices of the blocks there are.
    blocks: BTreeSet<u64>,
}

impl Plan {
    /// A place from cluster `start` on that no dangling reference leads to. References before it come to lie inside of
    /// the file, and are counted with the rest.
    fn apart_from(dangling: &[Dangling], image: Image<'_>, counts: &Counts, start: u64) -> Result<Self> {
        let per_block = image.header.refcounts_per_block();
        let used = (0..start).filter(|&cluster| counts.get(cluster).1 > 0).map(|cluster| cluster / per_block);
        let mut used: BTreeSet<u64> = used.collect();
        let mut start = start;
        let mut rest = dangling.iter().peekable();
        for tries in 0.. {
            let plan = Self::new(image, start, &used)?;
            let needed = plan.clusters();
            if rest.peek().is_none_or(|d| d.clusters.start >= start + needed) {
                return Ok(plan);
            }
            // Where each of many gaps is too small, the place is behind all of them.
            while let Some(d) = rest.next_if(|d| tries >= MAX_TRIES || d.clusters.start < start + needed) {
                start = start.max(d.clusters.end);
                if start > MAX_REPAIR_CLUSTERS {
                    return Err(out_of_reach());
                }
                used.extend(d.clusters.start / per_block..=(d.clusters.end - 1) / per_block);
            }
        }
        Err(out_of_reach())
    }

    /// `used`: blocks that count what there is before `start`.
    fn new(image: Image<'_>, start: u64, used: &BTreeSet<u64>) -> Result<Self> {
        let per_block = image.header.refcounts_per_block();
        let mut plan = Self { start, table_clusters: 1, blocks: used.clone() };
        // Each block may need a further one to be counted in: a few rounds settle it.
        loop {
            let before = (plan.clusters(), plan.blocks.len());
            plan.blocks.extend(start / per_block..=(start + plan.clusters() - 1) / per_block);
            let entries = plan.blocks.last().map_or(0, |last| last + 1);
            plan.table_clusters = (entries * 8).div_ceil(image.header.cluster_size());
            if (plan.clusters(), plan.blocks.len()) == before {
                break;
            }
        }
        if plan.table_clusters << image.header.cluster_bits > MAX_REFCOUNT_TABLE_BYTES {
            return Err(out_of_reach());
        }
        Ok(plan)
    }

    /// Clusters of all new structures.
    fn clusters(&self) -> u64 {
        self.table_clusters + self.blocks.len() as u64
    }

    async fn write(&self, image: Image<'_>, counts: &Counts) -> Result<()> {
        let header = image.header;
        let cluster_size = header.cluster_size();
        let per_block = header.refcounts_per_block();
        let max = header.refcount_max();
        let mut table = BufMut::zeroed((self.table_clusters * cluster_size) as usize);
        let mut offset = (self.start + self.table_clusters) * cluster_size;
        let all: Vec<u64> = self.blocks.iter().copied().collect();
        for some in all.chunks((PIECE / cluster_size).max(1) as usize) {
            let mut blocks = BufMut::zeroed(some.len() * cluster_size as usize);
            for (block, &index) in blocks.chunks_mut(cluster_size as usize).zip(some) {
                for at in 0..per_block {
                    let refs = counts.get(index * per_block + at).1.min(max);
                    if refs > 0 {
                        put_count(block, header.refcount_order, at, refs);
                    }
                }
            }
            image.write(offset, blocks).await?;
            for &index in some {
                let entry = table.iter_mut().skip(index as usize * 8);
                entry.zip(offset.to_be_bytes()).for_each(|(to, from)| *to = from);
                offset += cluster_size;
            }
        }
        image.write(self.start * cluster_size, table).await
    }
}
