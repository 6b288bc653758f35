//! Pages of tables, loaded and made ready for a change.
//!
//! Laws:
//! - a page is loaded under a lease of its key: one copy of it is in memory;
//! - a page has its space in the file before its first change ([`super::MetadataFile::place`]).
use super::codec::Codec;
use super::order::Order;
use super::page::{Page, UNPLACED};
use crate::error::Result;
use std::sync::Arc;

impl<C: Codec> Order<C> {
    /// The page of a table that has `len` bytes at `place` in the file, from memory or loaded.
    pub async fn page(&self, key: u64, place: u64, len: u64) -> Result<Arc<Page<C>>> {
        if let Some(page) = self.tables.get(key) {
            return Ok(page);
        }
        let _lease = self.pages.lease(key, key + 1, true).await;
        if let Some(page) = self.tables.get(key) {
            return Ok(page);
        }
        let bytes = self.file.read(place, len).await?;
        Ok(self.tables.insert(Page::read(key, place, &bytes)))
    }

    /// Before a change of a page: gives it space in the file where it may have none.
    pub async fn place(&self, page: &Page<C>) -> Result<()> {
        if page.marks() & UNPLACED == 0 {
            return Ok(());
        }
        let _lease = self.pages.lease(page.key(), page.key() + 1, true).await;
        self.file.place(page).await
    }
}
