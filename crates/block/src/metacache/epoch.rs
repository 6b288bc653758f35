//! The order in which changes become durable.
//!
//! ```text
//!  {data, new tables, counts up} · flush A · {entries in place} · flush B → answered · {counts down, punches}
//! ```
//!
//! A flush that came while an epoch was under way takes part in the next one. Sealing copies what the epoch writes:
//! the references given up first, then the pages (so that every reference given up is missing in the sealed pages),
//! then what the format writes ahead (so that every entry in the sealed pages is counted). Data of sealed entries was
//! written before they were set, so flush A covers it.
//!
//! Pages that an epoch writes in place have their space since before they were first changed
//! ([`super::MetadataFile::place`]): it needs none that a full file system could refuse.
//!
//! Failures: nothing is taken off a list before it is durable, so an epoch that ends early, because of a write that failed or
//! because nobody waits for it any more, needs no undo; the next one does its work. Pages that such a write stored, all or in
//! part, lead to what flush A made durable.
use super::codec::Codec;
use super::order::{Format, Order};
use crate::driver::Undo;
use crate::error::Result;
use std::sync::Arc;

impl<C: Codec> Order<C> {
    /// Everything acknowledged before the call is durable when it returns.
    pub async fn flush<F: Format<Codec = C>>(image: &Arc<F>) -> Result<()> {
        let order = image.order();
        if !order.access.writable() {
            return Ok(());
        }
        let its = image.clone();
        order.group.run(move || async move { its.order().epoch(&its).await }).await
    }

    async fn epoch<F: Format<Codec = C>>(&self, image: &Arc<F>) -> Result<()> {
        self.file.unharmed()?;
        self.freed.seal();
        let tables = self.tables.dirty.seal();
        image.write_ahead(!tables.is_empty()).await?;
        self.file.flush().await?;
        if tables.is_empty() && self.freed.none_sealed() {
            return Ok(());
        }
        image.write_tables(&tables).await?;
        self.file.flush().await?;
        self.tables.dirty.settle(&tables);
        Self::release_unmapped(image);
        Ok(())
    }

    /// Before a change of a page of `words` words: waits for an epoch where too much is dirty or waits to be freed. The
    /// caller may hold leases, and nothing that an epoch takes.
    pub async fn make_room<F: Format<Codec = C>>(image: &Arc<F>, words: usize) -> Result<()> {
        let order = image.order();
        if order.tables.is_crowded(words) || order.too_much_waits(&**image) {
            return Self::flush(image).await;
        }
        Ok(())
    }

    /// Ends the changes of an image that is closed, or read-only from now on: what is dirty is durable, what was given up is
    /// free, and `last` is done, with no release under way. `in_time`: the image stays open, so that requests elsewhere are
    /// waited for only so long, and changes are allowed still where it fails.
    pub async fn end<F: Format<Codec = C>, L>(
        image: &Arc<F>,
        in_time: bool,
        last: impl FnOnce() -> L,
    ) -> Result<()>
    where
        L: Future<Output = Result<()>>,
    {
        let order = image.order();
        if !order.access.writable() {
            return Ok(());
        }
        let flushed = Self::flush(image).await;
        if flushed.is_ok() && in_time {
            // Where nothing was given up, nobody is waited for.
            if !order.freed.is_empty() {
                Self::release_all_in_time(image).await;
            }
        } else if flushed.is_ok() {
            order.release_all(&**image).await;
        }
        let _none_released = order.hold_releases().await;
        let ended = match flushed {
            Ok(()) => last().await,
            Err(error) => Err(error),
        };
        if ended.is_ok() || !in_time {
            order.access.forbid();
        }
        ended
    }

    /// What undoes a switch that has allowed changes, or ended them; `ready`: the header says all the time what it must.
    pub fn undo<F: Format<Codec = C>>(image: &Arc<F>, allowed: bool, ready: bool) -> Undo {
        let image = image.clone();
        Box::new(move || {
            let access = &image.order().access;
            if allowed { access.forbid() } else { access.allow(ready) }
        })
    }

    /// What is dirty becomes durable, and what was given up is free; changes may go on. No request is under way.
    pub async fn settle<F: Format<Codec = C>>(image: &Arc<F>) -> Result<()> {
        Self::flush(image).await?;
        image.order().release_all(&**image).await;
        Ok(())
    }
}
