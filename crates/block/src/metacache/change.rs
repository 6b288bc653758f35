//! A change of a mapping that waits for its data.
use super::codec::Codec;
use super::freed::{Cause, GivenUp};
use super::order::{Format, Order};
use super::page::Page;
use super::space::Reserved;
use crate::driver::Token;
use crate::error::Result;
use crate::lease::Lease;
use rt::BoxFuture;
use std::sync::Arc;

/// Entries to set in one page. Dropping it gives the reservation and the lease back.
pub struct Change<F: Format> {
    /// The image.
    pub image: Arc<F>,
    /// The page, with space in the file ([`super::MetadataFile::place`]).
    pub page: Arc<Page<F::Codec>>,
    /// Index of the first entry's first word.
    pub first: usize,
    /// The words of the new entries.
    pub entries: Vec<<F::Codec as Codec>::Word>,
    /// The references that they are, where these are new.
    pub reserved: Option<Reserved>,
    /// Why what the old entries refer to is given up; `None`: it is left alone.
    pub cause: Option<Cause>,
    /// Of the guest blocks.
    pub lease: Lease,
}

impl<F: Format> Token for Change<F> {
    fn commit(mut self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        self.publish();
        Order::release_early(&self.image);
        Box::pin(async { Ok(()) })
    }
}

impl<F: Format> Change<F> {
    /// Sets the entries; what they referred to is given up afterwards, so that an epoch that takes a reference
    /// given up also has the entry without it.
    fn publish(&mut self) {
        // Entries with references of their own give up the old ones, even to the same blocks.
        let own_references = self.reserved.take().map(Reserved::keep).is_some();
        let mut given_up = Vec::new();
        let mut replaced = |old, new| {
            let old = self.image.blocks_of(old);
            if let Some(run) = old.filter(|run| own_references || self.image.blocks_of(new) != Some(*run))
                && let Some(cause) = self.cause
            {
                given_up.push(GivenUp { run, cause });
            }
        };
        if self.image.has_pairs() {
            for (i, pair) in self.entries.as_chunks().0.iter().enumerate() {
                let [old, _] = self.page.set_pair(self.first + 2 * i, *pair);
                replaced(old, pair[0]);
            }
        } else {
            for (index, entry) in (self.first..).zip(&self.entries) {
                replaced(self.page.set(index, *entry), *entry);
            }
        }
        let order = self.image.order();
        order.tables.dirty.mark(&self.page);
        given_up.into_iter().for_each(|given_up| order.freed.give_up(given_up));
    }
}
