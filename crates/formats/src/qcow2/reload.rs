//! Reading again: another program has had the image meanwhile.
//!
//! All that was known of the image is forgotten, and its header, snapshots and bitmaps are read again. What a driver is made for at
//! the open (sizes of clusters and entries, where data is, how it is encrypted) must be the same: no program changes that of an image that
//! others have open.
use super::driver::Qcow2;
use super::header::Header;
use block::{BlockError, Common, ErrorKind, Result};
use std::sync::atomic::Ordering::*;

impl Qcow2 {
    /// Takes over the image as it is now. Nothing is under way, nothing is dirty, and nobody else may write from now on.
    pub(super) async fn read_again(&self, common: &Common) -> Result<()> {
        let image = &self.image;
        let file = image.order.file.node()?;
        let header = Header::read(&file).await?;
        let old = image.header.read().clone();
        // Over another image, holes would show what they don't any more.
        if is_made_as(&header) != is_made_as(&old)
            || header.backing_name != old.backing_name
            || image.shows_snapshot.load(Acquire)
        {
            let text = format!("'{}' is another image by now; open it anew", file.filename());
            return Err(BlockError::new(ErrorKind::Busy, text));
        }
        image.order.tables.clear();
        image.counts.clear();
        image.forget_ahead();
        image.overlap.tables.clear();
        image.refcount_order.store(header.refcount_order, Release);
        image.size.store(header.virtual_size(), Release);
        for doubt in [&image.header_in_doubt, &image.disagrees, &image.counts_wait] {
            doubt.store(false, Release);
        }
        image.take_header(header.clone());
        self.list(&file, &header).await;
        if common.for_repair {
            return Ok(());
        }
        image.load_bitmaps().await?;
        self.tell_notices();
        Ok(())
    }
}

/// What can't change while a driver has the image open.
fn is_made_as(header: &Header) -> (u32, bool, bool, u32) {
    (header.cluster_bits, header.has_extended_l2(), header.has_data_file(), header.crypt_method)
}
