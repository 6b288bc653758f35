//! What an image has for its crash order, and what its format gives to it.
use super::access::Access;
use super::cache::Cache;
use super::codec::Codec;
use super::dirty::Sealed;
use super::file::MetadataFile;
use super::freed::{Cause, Freed, GivenUp};
use super::space::{Reservations, Run};
use crate::error::Result;
use crate::graph::Domain;
use crate::group_commit::GroupCommit;
use crate::lease::Leases;
use std::sync::Arc;

/// The parts of an image that its crash order needs. An image holds it and says so by [`Format::order`].
pub struct Order<C: Codec> {
    /// The file that all metadata is in.
    pub file: MetadataFile,
    /// Whether changes are allowed.
    pub access: Access,
    /// The tables whose entries lead to guest data. They change in memory, and are written by epochs.
    pub tables: Cache<C>,
    /// Leases of their pages, by key: of those that are loaded, given space in the file, or made.
    pub pages: Arc<Leases>,
    /// References that were given up.
    pub freed: Freed,
    /// Blocks that were handed out and are not mapped yet.
    pub reservations: Reservations,
    pub(super) group: GroupCommit,
    pub(super) domain: Arc<Domain>,
}

impl<C: Codec> Order<C> {
    /// The crash order of an image in `file`, whose tables take about `cache` bytes of memory. No changes are allowed yet.
    pub fn new(file: MetadataFile, domain: Arc<Domain>, cache: usize) -> Self {
        Self {
            file,
            access: Access::default(),
            tables: Cache::new(cache),
            pages: Leases::new(),
            freed: Freed::default(),
            reservations: Reservations::default(),
            group: GroupCommit::default(),
            domain,
        }
    }
}

/// The open image of a format that uses the crash order.
pub trait Format: Send + Sync + 'static {
    /// How the words of its tables are stored.
    type Codec: Codec;

    /// Its crash order.
    fn order(&self) -> &Order<Self::Codec>;

    /// log2 of the bytes of a block.
    fn block_bits(&self) -> u32;

    /// Virtual size in bytes.
    fn size(&self) -> u64;

    /// Whether entries are two words each, which change together.
    fn has_pairs(&self) -> bool {
        false
    }

    /// The blocks that an entry refers to, by its first word.
    fn blocks_of(&self, entry: <Self::Codec as Codec>::Word) -> Option<Run>;

    /// Writes what must be durable before the tables: whatever says that blocks are in use (counts of references, a
    /// bitmap), where the format has such a thing, and the length of the file. Flush A follows. `entries`: entries are
    /// written after it.
    fn write_ahead(&self, entries: bool) -> impl Future<Output = Result<()>> + Send;

    /// Writes pages of the tables, after flush A and before flush B: in place, where the format has no second copy of them
    /// and no journal.
    fn write_tables(&self, sealed: &[Sealed<Self::Codec>]) -> impl Future<Output = Result<()>> + Send {
        self.order().file.write_pages(sealed)
    }

    /// Takes one reference from each block that was given up. A block whose last reference that is becomes free, but for
    /// one that `keep` tells to keep: it is answered, and comes a second time when its space in the file system is given
    /// back. Without counts of references each has one, and is free ([`Format::free`]).
    fn drop_references(
        &self,
        given_up: &[GivenUp],
        keep: impl Fn(Cause) -> bool + Send + Sync,
    ) -> impl Future<Output = Result<Vec<Run>>> + Send {
        async move {
            let (kept, free): (Vec<GivenUp>, Vec<_>) =
                given_up.iter().partition(|given_up| keep(given_up.cause));
            let runs = |given_up: Vec<GivenUp>| given_up.into_iter().map(|given_up| given_up.run).collect();
            self.free(runs(free)).await;
            Ok(runs(kept))
        }
    }

    /// Frees blocks that nothing refers to any more, for formats without counts of references.
    fn free(&self, runs: Vec<Run>) -> impl Future<Output = ()> + Send {
        let _ = runs;
        async {}
    }

    /// Whether blocks given up for this cause shall leave holes in the file, where the file allows holes.
    fn punches(&self, cause: Cause) -> bool {
        cause != Cause::Replaced
    }
}
