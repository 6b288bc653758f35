//! How large the file of an image would be.
use super::bitmaps;
use super::create::{cluster_size, refcount_bits};
use super::encryption::NewEncryption;
use super::header::MAX_L1_BYTES;
use crate::encryption::no_secret;
use api::{BlockdevQcow2Version, PreallocMode, Qcow2CreateEncryption, Qcow2CreateOptions};
use block::{Backend, BlockError, ErrorKind, MeasureRequest, Measured, Result, data_in_units};

/// Bytes of an entry of an L1 table, and of an L2 table that tells of no subclusters.
const ENTRY: u64 = 8;

pub(super) async fn measure(request: MeasureRequest<'_, Qcow2CreateOptions>) -> Result<Measured> {
    let MeasureRequest { size, options, source } = request;
    let layout = Layout {
        cluster: cluster_size(&options)?,
        refcount_bits: refcount_bits(&options)?,
        l2_entry: if options.extended_l2.unwrap_or(false) { 16 } else { ENTRY },
    };
    let size = size.checked_next_multiple_of(layout.cluster).ok_or_else(too_large)?;
    if let Some(Qcow2CreateEncryption::Luks(luks)) = &options.encrypt
        && luks.key_secret.is_none()
    {
        return Err(no_secret("encrypt.key-secret"));
    }
    let encryption = options.encrypt.as_ref().map(NewEncryption::new).transpose()?;
    let keys = encryption.map_or(0, |new| new.header_len().next_multiple_of(layout.cluster));
    let full = layout.full(size).and_then(|full| full.checked_add(keys)).ok_or_else(too_large)?;
    let data = match (source, options.preallocation) {
        (_, Some(PreallocMode::Falloc | PreallocMode::Full)) => size,
        (Some(source), _) => data_in_units(source, layout.cluster).await?,
        (None, _) => 0,
    };
    let node = source.map(Backend::node).filter(|node| node.driver().info().bitmaps);
    let node = node.filter(|_| options.version != Some(BlockdevQcow2Version::V2));
    let bitmaps = node.map(|node| bitmaps::bytes_of(node.bitmaps(), layout.cluster));
    Ok(Measured { required: full - size + data, full, bitmaps })
}

fn too_large() -> BlockError {
    let text = "The image size is too large (try using a larger cluster size)";
    BlockError::new(ErrorKind::Limit, text)
}

/// What decides how much metadata a qcow2 file has.
struct Layout {
    cluster: u64,
    refcount_bits: u64,
    /// Bytes of an entry of an L2 table.
    l2_entry: u64,
}

impl Layout {
    /// Bytes of a file that holds `size` bytes, all of them allocated; `None` if that is more than the format has
    /// tables for.
    fn full(&self, size: u64) -> Option<u64> {
        let cluster = self.cluster;
        let entries = (size / cluster).checked_next_multiple_of(cluster / self.l2_entry)?;
        let l2 = entries.checked_mul(self.l2_entry)?;
        let l1 = (l2 / cluster).checked_next_multiple_of(cluster / ENTRY)?.checked_mul(ENTRY)?;
        if l1 > MAX_L1_BYTES {
            return None;
        }
        let before = cluster.checked_add(l2)?.checked_add(l1)?.checked_add(size)?;
        before.checked_add(self.refcounts(before / cluster)?.checked_mul(cluster)?)
    }

    /// Clusters of refcount blocks and table that count `clusters` others and themselves.
    fn refcounts(&self, clusters: u64) -> Option<u64> {
        let counts_a_block = self.cluster * 8 / self.refcount_bits;
        let (mut own, mut last) = (0u64, u64::MAX);
        while own != last {
            last = own;
            let blocks = clusters.checked_add(own)?.div_ceil(counts_a_block);
            own = blocks + blocks.div_ceil(self.cluster / 8);
        }
        Some(own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_qcow2_file_has_the_size_that_is_known() {
        let full =
            |cluster, refcount_bits, size| Layout { cluster, refcount_bits, l2_entry: ENTRY }.full(size);
        assert_eq!(full(65536, 16, 0), Some(196608));
        assert_eq!(full(65536, 16, 1 << 30), Some(1074135040));
        assert_eq!(full(65536, 16, 1 << 40), Some(1099679662080));
        assert_eq!(full(512, 16, 10 << 30), Some(10951259648));
        assert_eq!(full(2 << 20, 64, 10 << 40), Some(10995208552448));
        assert_eq!(full(512, 1, 3 << 30), Some(3273156096));
    }

    #[test]
    fn an_image_of_more_than_the_tables_can_hold_has_no_size() {
        let full = |cluster, size| Layout { cluster, refcount_bits: 16, l2_entry: ENTRY }.full(size);
        assert!(full(512, 128 << 30).is_some());
        assert_eq!(full(512, (128 << 30) + 512), None);
        assert_eq!(full(65536, 1 << 56), None);
    }
}
