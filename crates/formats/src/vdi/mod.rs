//! `vdi`: the disk images of VirtualBox, dynamic and static.
//!
//! ```text
//!  │ header, one sector │ table: one u32 a guest block │ block 0 │ block 1 │ …      blocks of 1 MiB
//! ```
//!
//! An entry is the number of a block of the file, or says that there is none (free, or discarded: both read as zeroes). The
//! header counts the blocks in use: other programs take the block of that number for their next one.
//!
//! Law: the header's count is durable, and above every block that an entry on disk leads to, before that entry is. Order and
//! repair: `docs/formats/vdi.md`.
mod create;
mod header;

use crate::block_table::{Layout, TableDriver};
use api::codec::NoArguments;
use block::metacache::MetadataFile;
use block::{
    BlockError, CreateOption, DriverInfo, DriverType, ExtentKind, Glimpse, Node, Open, OpenContext, Opened,
    OptionKind, Result,
};
use header::{DISCARDED, FREE, Header, Kind};
use rt::{BoxFuture, Buf, BufMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::*};

/// The `vdi` driver.
pub const VDI: DriverType = DriverType {
    name: "vdi",
    probe: Some(probe),
    open: &Open(open),
    create: Some(&create::CREATE),
    create_options: &[
        CreateOption::SIZE,
        CreateOption::new("static", OptionKind::Bool, "VDI static (pre-allocated) image").default("off"),
    ],
    ..DriverType::FORMAT
};

fn open(context: &mut OpenContext, _: NoArguments) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(async move {
        let (child, file) = context.file().await?;
        let layout = Vdi::read(&file).await?;
        Ok(TableDriver::opened(context, child, layout))
    })
}

fn probe(seen: &Glimpse<'_>) -> u32 {
    let signed =
        seen.head.get(header::SIGNATURE_AT..).is_some_and(|rest| rest.starts_with(&header::SIGNATURE));
    if signed { 100 } else { 0 }
}

/// What VDI adds to its table.
struct Vdi {
    header: Header,
    /// The blocks in use by the header's word in the file.
    allocated: AtomicU32,
}

impl Vdi {
    async fn count(&self, file: &MetadataFile, end: u64) -> Result<()> {
        // No more blocks than an entry can tell.
        let end = u32::try_from(end).unwrap_or(u32::MAX);
        if self.allocated.load(Acquire) == end {
            return Ok(());
        }
        file.overwrite(0, Buf::from_slice(&self.header.with_allocated(end))).await?;
        self.allocated.store(end, Release);
        Ok(())
    }
}

impl Layout for Vdi {
    const FORMAT: &'static str = "vdi";
    const NOTHING: u32 = FREE;
    const EMPTY: ExtentKind = ExtentKind::Zero { reserved: None };
    const DROPS_LOST: bool = false;
    const REPAIRS_AT_OPEN: bool = false;
    const COUNTS_CLUSTERS: bool = false;

    async fn read(file: &Arc<Node>) -> Result<Self> {
        let named = |e: BlockError| e.about_file(&file.filename());
        let (bytes, read) = file.read_or_zero(0, BufMut::with_len(header::LEN)).await;
        read.map_err(|e| e.context("reading the VDI header"))?;
        let bytes = bytes.first_chunk().ok_or_else(|| BlockError::corrupt("the file has no VDI header"))?;
        let header = Header::parse(*bytes).map_err(|e| {
            named(BlockError::of(block::ErrorKind::Invalid, e).context("the VDI header").at(0))
        })?;
        let allocated = AtomicU32::new(header.allocated());
        Ok(Self { header, allocated })
    }

    fn is_like(&self, other: &Self) -> bool {
        self.header.with_allocated(0) == other.header.with_allocated(0)
    }

    fn size(&self) -> u64 {
        self.header.size
    }

    fn block_size(&self) -> u64 {
        self.header.block_size
    }

    fn table(&self) -> u64 {
        self.header.table
    }

    fn entries(&self) -> u64 {
        self.header.blocks.into()
    }

    fn data(&self) -> u64 {
        self.header.data
    }

    fn most_blocks(&self) -> u64 {
        self.header.blocks.into()
    }

    fn place(&self, entry: u32) -> Option<u64> {
        (entry < DISCARDED).then(|| self.header.data + u64::from(entry) * self.header.block_size)
    }

    fn entry(&self, block: u64) -> u32 {
        block as u32
    }

    fn counted(&self) -> Option<u64> {
        Some(self.allocated.load(Acquire).into())
    }

    async fn write_ahead(&self, file: &MetadataFile, end: u64) -> Result<()> {
        self.count(file, end).await
    }

    fn is_thin(&self) -> bool {
        self.header.kind == Kind::Static
    }

    fn info(&self) -> DriverInfo {
        DriverInfo { cluster_size: Some(self.header.block_size), dirty: Some(false), ..DriverInfo::default() }
    }
}
