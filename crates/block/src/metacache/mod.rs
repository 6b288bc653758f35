//! Metadata of an image in memory, and the order in which its changes become durable: one for all formats.
//!
//! ```text
//!  guest's change ─▶ reserve blocks ─▶ data ─▶ entries set in a page, page dirty ─▶ what they led to given up
//!                                                │ sealed by an epoch
//!  {data, counts up} · flush A · {entries in place} · flush B ─▶ grace ─▶ punched ─▶ references dropped ─▶ free
//! ```
//!
//! Laws, each kept where it is told:
//! - what an entry on disk leads to was durable before the entry was written (`epoch`);
//! - what is given up is used again only when its unmapping is durable and all requests that may know it have ended
//!   (`freed`): leak, never dangle;
//! - before the first write the header says what others must know of an image that is being written (`access`);
//! - a change that was accepted does not fail later for lack of space (`file`), and what was reserved and is not mapped comes
//!   back (`space`);
//! - a failed flush ends all writing; a page that could not be written is still dirty, and is written again (`file`);
//! - no block that holds metadata is written as something else (`regions`).
//!
//! A format holds an [`Order`], says so by its [`Format`], and gives what only it knows: what an entry refers to, what must be
//! durable before its tables, how references are dropped. It uses the parts that it needs: a format whose blocks have one
//! reference each and no counts keeps [`Blocks`] in memory; one with a journal or a second copy of its tables writes them by
//! [`Format::write_tables`]; one that frees nothing never gives anything up.
//!
//! Where things are: `codec` how words are stored · `page`, `cache`, `dirty`, `tables` pages in memory · `order` the parts
//! and the format's trait · `change` a change that waits for its data · `epoch` flushes · `freed` references given
//! up · `space`, `blocks` handing out blocks · `regions` what holds metadata · `file` writing, failing · `access` the header.
mod access;
mod blocks;
mod cache;
mod change;
mod codec;
mod dirty;
mod epoch;
mod file;
mod freed;
mod order;
mod page;
mod regions;
mod space;
mod tables;

pub use access::{Access, HeaderTurn};
pub use blocks::{Blocks, Found};
pub use cache::Cache;
pub use change::Change;
pub use codec::{Be32, Be64, Codec, Le32, Le64, Raw, Word};
pub use dirty::{Dirty, Sealed};
pub use file::MetadataFile;
pub use freed::{Cause, Freed, GivenUp, ReleaseTurn};
pub use order::{Format, Order};
pub use page::{Page, UNPLACED, may_lie_in_a_hole};
pub use regions::{Claim, KnownTables, MOST_TABLES, Region, Regions};
pub use space::{Reservations, Reserved, Run};
