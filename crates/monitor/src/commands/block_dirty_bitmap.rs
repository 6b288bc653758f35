//! Dirty bitmaps: added, removed, changed, by commands of their own and in transactions.
use super::failed;
use crate::control::Control;
use api::{
    BlockDirtyBitmap, BlockDirtyBitmapAdd, BlockDirtyBitmapCommands, BlockDirtyBitmapMerge,
    BlockDirtyBitmapOrStr, BlockDirtyBitmapSha256, QmpError,
};
use block::{BlockError, NamedBitmap, NewBitmap, Node};
use crypto::Hash;
use std::sync::Arc;

/// Bytes of bits that are looked at together.
const PIECE: u64 = 4096;

/// A node and one of its bitmaps.
pub(super) type Named = (Arc<Node>, Arc<NamedBitmap>);

impl Control {
    /// The node and the bitmap that a command names.
    pub(super) fn bitmap(&self, of: &BlockDirtyBitmap) -> Result<Named, BlockError> {
        let node = self.graph().need_node(&of.node)?;
        let bitmap = node.need_bitmap(&of.name)?;
        Ok((node, bitmap))
    }

    /// Adds a bitmap.
    pub(super) fn add_bitmap(&self, new: BlockDirtyBitmapAdd) -> Result<Named, BlockError> {
        let BlockDirtyBitmapAdd { node, name, granularity, persistent, disabled } = new;
        let node = self.graph().need_node(&node)?;
        let bitmap = node.add_bitmap(NewBitmap {
            name,
            granularity: granularity.map(u64::from),
            persistent: persistent.unwrap_or(false),
            enabled: !disabled.unwrap_or(false),
        })?;
        Ok((node, bitmap))
    }

    /// The target of a merge, and what goes into it.
    pub(super) fn bitmaps_to_merge(
        &self,
        merge: BlockDirtyBitmapMerge,
    ) -> Result<(Named, Vec<Arc<NamedBitmap>>), BlockError> {
        let BlockDirtyBitmapMerge { node, target, bitmaps } = merge;
        let node = self.graph().need_node(&node)?;
        let target = node.need_bitmap(&target)?;
        let source = |source: &BlockDirtyBitmapOrStr| match source {
            BlockDirtyBitmapOrStr::Local(name) => node.need_bitmap(name),
            BlockDirtyBitmapOrStr::External(of) => self.bitmap(of).map(|(_, bitmap)| bitmap),
        };
        let sources = bitmaps.iter().map(source).collect::<Result<_, _>>()?;
        Ok(((node, target), sources))
    }
}

impl BlockDirtyBitmapCommands for Control {
    async fn block_dirty_bitmap_add(&self, arguments: BlockDirtyBitmapAdd) -> Result<(), QmpError> {
        self.add_bitmap(arguments).map(drop).map_err(failed)
    }

    async fn block_dirty_bitmap_remove(&self, arguments: BlockDirtyBitmap) -> Result<(), QmpError> {
        let (node, bitmap) = self.bitmap(&arguments).map_err(failed)?;
        node.remove_bitmap(&bitmap).await.map_err(failed)
    }

    async fn block_dirty_bitmap_clear(&self, arguments: BlockDirtyBitmap) -> Result<(), QmpError> {
        let (node, bitmap) = self.bitmap(&arguments).map_err(failed)?;
        node.clear_bitmap(&bitmap).map_err(failed)
    }

    async fn block_dirty_bitmap_enable(&self, arguments: BlockDirtyBitmap) -> Result<(), QmpError> {
        let (_, bitmap) = self.bitmap(&arguments).map_err(failed)?;
        bitmap.enable(true).map_err(failed)
    }

    async fn block_dirty_bitmap_disable(&self, arguments: BlockDirtyBitmap) -> Result<(), QmpError> {
        let (_, bitmap) = self.bitmap(&arguments).map_err(failed)?;
        bitmap.enable(false).map_err(failed)
    }

    async fn block_dirty_bitmap_merge(&self, arguments: BlockDirtyBitmapMerge) -> Result<(), QmpError> {
        let ((node, target), sources) = self.bitmaps_to_merge(arguments).map_err(failed)?;
        node.merge_bitmaps(&target, &sources).map_err(failed)
    }

    async fn x_debug_block_dirty_bitmap_sha256(
        &self,
        arguments: BlockDirtyBitmap,
    ) -> Result<BlockDirtyBitmapSha256, QmpError> {
        let (_, bitmap) = self.bitmap(&arguments).map_err(failed)?;
        let sha256 = rt::compute(move || digest(&bitmap)).await;
        Ok(BlockDirtyBitmapSha256 { sha256 })
    }
}

/// The digest of the bits: whole words of 64, the lowest bit of each byte first, at least one word.
fn digest(bitmap: &NamedBitmap) -> String {
    let bits = bitmap.bits();
    let total = (bits.chunks().div_ceil(64) * 8).max(8);
    let clean = [0; PIECE as usize];
    let pieces: Vec<Option<Vec<u8>>> = (0..total.div_ceil(PIECE))
        .map(|piece| {
            let (first, bytes) = (piece * PIECE * 8, PIECE.min(total - piece * PIECE));
            (!bits.is_clean_between(first, first + bytes * 8)).then(|| {
                let mut piece = vec![0; bytes as usize];
                bits.bits(first, &mut piece);
                piece
            })
        })
        .collect();
    let rest = (total - (total - 1) / PIECE * PIECE) as usize;
    let last = pieces.len() - 1;
    let parts: Vec<&[u8]> = pieces
        .iter()
        .enumerate()
        .map(|(at, piece)| match piece {
            Some(piece) => piece.as_slice(),
            None if at == last => clean.get(..rest).unwrap_or_default(),
            None => &clean,
        })
        .collect();
    let mut digest = [0; 32];
    Hash::Sha256.digest(&parts, &mut digest);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use block::DirtyBitmap;

    #[test]
    fn a_digest_is_that_of_all_words_also_of_those_that_were_never_marked() {
        let bitmap = |length, marks: &[u64]| {
            let bits = DirtyBitmap::new(length, 512);
            marks.iter().for_each(|at| bits.mark(*at, 1));
            digest(&NamedBitmap::new("b", bits))
        };
        let of = |bytes: &[u8]| {
            let mut digest = [0; 32];
            Hash::Sha256.digest(&[bytes], &mut digest);
            digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        assert_eq!(bitmap(0, &[]), of(&[0; 8]));
        assert_eq!(bitmap(512, &[0]), of(&[1, 0, 0, 0, 0, 0, 0, 0]));
        let large = 3 * PIECE * 8 * 512 + 65 * 512;
        let mut bytes = vec![0; 3 * PIECE as usize + 16];
        bytes[PIECE as usize + 1] = 2;
        assert_eq!(bitmap(large, &[(PIECE * 8 + 9) * 512]), of(&bytes));
    }
}
