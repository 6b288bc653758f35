//! The stored refcounts: table and blocks, and how counts of any width are read and written.
use super::counts::{Counts, FULL};
use super::findings::Findings;
use super::{Image, PIECE};
use crate::qcow2::header::REFCOUNT_BLOCK_MASK;
use block::Result;

/// The refcount table in memory.
pub(super) struct RefcountTable {
    entries: Vec<u64>,
}

impl RefcountTable {
    /// Reads the table; one that lies where no table can lie is as if it were empty.
    pub(super) async fn read(image: Image<'_>, findings: &mut Findings) -> Result<Self> {
        if let Some(fault) = image.header.refcount_fault(image.file_len) {
            findings.structure_corruption(|| fault.to_string());
            return Ok(Self { entries: Vec::new() });
        }
        let (offset, len) = (image.header.refcount_table_offset, image.header.refcount_table_bytes());
        match image.read(offset, len).await {
            Ok(bytes) => {
                let entries = bytes.as_chunks().0.iter().map(|word| u64::from_be_bytes(*word)).collect();
                Ok(Self { entries })
            }
            Err(e) => {
                findings.check_error(format!("the refcount table can't be read: {e}"));
                Ok(Self { entries: Vec::new() })
            }
        }
    }

    /// All entries.
    pub(super) fn entries(&self) -> &[u64] {
        &self.entries
    }

    /// Where the block with this index is, if there is one that can be read.
    pub(super) fn block(&self, image: Image<'_>, index: u64) -> Option<u64> {
        let offset = self.entries.get(usize::try_from(index).ok()?)? & REFCOUNT_BLOCK_MASK;
        (offset != 0 && image.holds_cluster(offset)).then_some(offset)
    }

    /// Reads the counts of the window.
    pub(super) async fn load(
        &self,
        image: Image<'_>,
        counts: &mut Counts,
        findings: &mut Findings,
    ) -> Result<()> {
        let per_block = image.header.refcounts_per_block();
        let cluster_size = image.header.cluster_size();
        let clusters = image.clusters() + 1;
        let end = counts.end().min(clusters).div_ceil(per_block);
        let mut index = counts.first() / per_block;
        while index < end {
            let Some(offset) = self.block(image, index) else {
                index += 1;
                continue;
            };
            // Blocks that follow each other in the file are read at once.
            let follows = |n: &u64| self.block(image, index + n) == Some(offset + n * cluster_size);
            let most = (PIECE / cluster_size).max(1).min(end - index);
            let run = (1..most).take_while(follows).count() as u64 + 1;
            match image.read(offset, run * cluster_size).await {
                Ok(bytes) => set_stored(counts, index * per_block, &bytes, image.header.refcount_order),
                Err(e) => findings.check_error(format!("refcount block {index} can't be read: {e}")),
            }
            index += run;
        }
        if (end..self.entries.len() as u64).any(|index| self.block(image, index).is_some())
            && end * per_block < clusters
        {
            counts.note_beyond(counts.end());
        }
        Ok(())
    }
}

/// Enters the counts of blocks, the first of which is that of cluster `first`.
fn set_stored(counts: &mut Counts, first: u64, blocks: &[u8], order: u32) {
    if first < counts.first() {
        return each_count(blocks, order, |at, count| counts.set_stored(first + at, count));
    }
    let slots = counts.fresh_slots(first);
    if order == 4 && set_small(slots, blocks) {
        return;
    }
    let mut large = Vec::new();
    each_count(blocks, order, |at, count| match slots.get_mut(at as usize) {
        Some(slot) if count < u64::from(FULL) => *slot = (count as u32) << 16,
        Some(_) => large.push((first + at, count)),
        None => {}
    });
    large.into_iter().for_each(|(cluster, count)| counts.set_stored(cluster, count));
}

/// Enters counts of two bytes, if all are less than [`FULL`].
fn set_small(slots: &mut [u32], blocks: &[u8]) -> bool {
    let counts = || blocks.as_chunks().0.iter().map(|count| u16::from_be_bytes(*count));
    if counts().fold(false, |full, count| full | (u32::from(count) == FULL)) {
        return false;
    }
    slots.iter_mut().zip(counts()).for_each(|(slot, count)| *slot = u32::from(count) << 16);
    true
}

/// Calls `f` with each count that is not zero: its index from the start of `bytes`, its value.
fn each_count(bytes: &[u8], order: u32, mut f: impl FnMut(u64, u64)) {
    fn whole<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> u64, mut f: impl FnMut(u64, u64)) {
        for (at, count) in bytes.as_chunks::<N>().0.iter().map(|c| value(*c)).enumerate() {
            if count != 0 {
                f(at as u64, count);
            }
        }
    }
    match order {
        0..=2 => {
            let (bits, mask) = (1 << order, (1u8 << (1 << order)) - 1);
            let per_byte = 8 / bits;
            for (at, &byte) in bytes.iter().enumerate().filter(|(_, byte)| **byte != 0) {
                for i in 0..per_byte {
                    let count = byte >> (i * bits) & mask;
                    if count != 0 {
                        f(at as u64 * per_byte + i, u64::from(count));
                    }
                }
            }
        }
        3 => whole(bytes, |[b]: [u8; 1]| u64::from(b), f),
        4 => whole(bytes, |b| u64::from(u16::from_be_bytes(b)), f),
        5 => whole(bytes, |b| u64::from(u32::from_be_bytes(b)), f),
        _ => whole(bytes, u64::from_be_bytes, f),
    }
}

/// Puts a count into a block.
pub(super) fn put_count(block: &mut [u8], order: u32, index: u64, count: u64) {
    let bits = 1u64 << order;
    let at = (index * bits / 8) as usize;
    if order < 3 {
        let shift = index * bits % 8;
        let mask = ((1u16 << bits) - 1) as u8;
        if let Some(byte) = block.get_mut(at) {
            *byte = *byte & !(mask << shift) | (count as u8 & mask) << shift;
        }
        return;
    }
    let word = count.to_be_bytes();
    let bytes = word.get(8 - bits as usize / 8..).unwrap_or_default();
    block.iter_mut().skip(at).zip(bytes).for_each(|(to, from)| *to = *from);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_every_width_come_back_as_they_were_put() {
        for order in 0..=6 {
            let max = u64::MAX >> (64 - (1 << order));
            let mut block = vec![0; 512];
            let counts = (512 * 8) >> order;
            let value = |index: u64| index.wrapping_mul(0x9e37_79b9_7f4a_7c15) & max;
            (0..counts).for_each(|index| put_count(&mut block, order, index, value(index)));
            let mut found = vec![0; counts as usize];
            each_count(&block, order, |index, count| found[index as usize] = count);
            assert!((0..counts).all(|index| found[index as usize] == value(index)), "order {order}");
        }
    }
}
