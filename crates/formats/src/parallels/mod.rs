//! `parallels`: the expandable disk images of Parallels, in both versions.
//!
//! ```text
//!  │ header, 64 bytes │ table: one u32 a guest cluster │ … │ cluster │ cluster │ …
//! ```
//!
//! An entry is 0, or where its cluster is: in sectors (`WithoutFreeSpace`) or in clusters of the file (`WithouFreSpacExt`).
//!
//! Laws:
//! - an image says durably that it is in use before its first change, and no longer when it is closed; one that still says so
//!   when it is opened for writing is checked and repaired first, as is one whose table contradicts itself;
//! - the extension, which says what was so before, is gone with the first change.
//!
//! Order and repair: `docs/formats/parallels.md`.
mod create;
mod extension;
mod header;

use crate::block_table::{Findings, Layout, TableDriver};
use api::codec::{Members, Object, Size};
use api::{DecodeError, Dict, PreallocMode};
use block::metacache::MetadataFile;
use block::{
    Bitmaps, BlockError, CreateOption, DriverInfo, DriverType, ErrorKind, ExtentKind, Glimpse, Node, Notices,
    Open, OpenContext, Opened, OptionKind, Result,
};
use extension::Extension;
use header::{Header, LEN, MAGIC_1, MAGIC_2, SECTOR, Unit};
use parking_lot::Mutex;
use rt::{BoxFuture, Buf, BufMut};
use std::sync::{Arc, OnceLock};

/// The `parallels` driver.
pub const PARALLELS: DriverType = DriverType {
    name: "parallels",
    probe: Some(probe),
    open: &Open(open),
    create: Some(&create::CREATE),
    create_options: &[
        CreateOption::SIZE,
        CreateOption::new("cluster_size", OptionKind::Size, "Parallels image cluster size")
            .default("1048576"),
    ],
    ..DriverType::FORMAT
};

fn probe(seen: &Glimpse<'_>) -> u32 {
    if seen.head.starts_with(MAGIC_1) || seen.head.starts_with(MAGIC_2) { 100 } else { 0 }
}

/// Bytes by which a file grows at least, where nothing else is asked for.
const PREALLOCATION: u64 = 128 << 20;

/// What an image is opened with beside its file.
struct ParallelsOptions {
    /// Bytes by which the file grows at least.
    size: Option<Size>,
    /// How it grows: falloc or truncate.
    mode: Option<String>,
}

impl Object for ParallelsOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { size: from.optional("prealloc-size")?, mode: from.optional("prealloc-mode")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("prealloc-size", &self.size);
        to.put_optional("prealloc-mode", &self.mode);
    }
}

/// How the file grows.
#[derive(Clone, Copy)]
struct Growth {
    /// Bytes at least.
    size: u64,
    mode: PreallocMode,
}

impl Growth {
    fn new(options: &ParallelsOptions) -> Result<Self> {
        let mode = match options.mode.as_deref() {
            None | Some("falloc") => PreallocMode::Falloc,
            Some("truncate") => PreallocMode::Off,
            Some(other) => {
                let text = format!("prealloc-mode is 'falloc' or 'truncate', not '{other}'");
                return Err(BlockError::invalid(text));
            }
        };
        Ok(Self { size: options.size.map_or(PREALLOCATION, |size| size.0), mode })
    }
}

fn open(context: &mut OpenContext, options: ParallelsOptions) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(async move {
        let growth = Growth::new(&options)?;
        let (child, file) = context.file().await?;
        let (bitmaps, notices) = (context.bitmaps().clone(), context.notices());
        let layout = Parallels { growth, bitmaps, notices, ..Parallels::read(&file).await? };
        Ok(TableDriver::opened(context, child, layout))
    })
}

/// What Parallels adds to its table.
struct Parallels {
    /// As it was at the open.
    header: Header,
    /// As it is in the file.
    stored: Mutex<Header>,
    growth: Growth,
    /// Offsets in the file of the clusters of the extension.
    others: OnceLock<Vec<u64>>,
    bitmaps: Arc<Bitmaps>,
    notices: Notices,
}

impl Parallels {
    /// Stores a header that came of the one in the file. The image is not changed at the time, so nobody else stores one.
    async fn store(&self, file: &MetadataFile, change: impl Fn(&Header) -> Header) -> Result<()> {
        let header = change(&self.stored.lock());
        file.overwrite(0, Buf::from_slice(&header.bytes())).await?;
        *self.stored.lock() = header;
        file.flush().await
    }

    /// Makes the bitmaps known that the extension has; nobody changes them, as nobody writes to the image.
    async fn load_bitmaps(&self, file: &Arc<Node>, extension: &Extension) -> Result<()> {
        let mut loaded = Vec::new();
        for bitmap in &extension.bitmaps {
            let bitmap = bitmap.load(file, &self.header).await?;
            if self.bitmaps.find(bitmap.name()).is_none() {
                loaded.push(bitmap);
            }
        }
        self.bitmaps.extend(loaded);
        Ok(())
    }
}

impl Layout for Parallels {
    const FORMAT: &'static str = "parallels";
    const NOTHING: u32 = 0;
    const EMPTY: ExtentKind = ExtentKind::HOLE;
    const DROPS_LOST: bool = true;
    const REPAIRS_AT_OPEN: bool = true;
    const COUNTS_CLUSTERS: bool = true;

    async fn read(file: &Arc<Node>) -> Result<Self> {
        let (bytes, read) = file.read_or_zero(0, BufMut::with_len(LEN)).await;
        read.map_err(|e| e.context("reading the Parallels header"))?;
        let bytes = bytes.first_chunk().copied().unwrap_or([0; LEN]);
        let header = Header::parse(bytes).map_err(|e| {
            let error = BlockError::of(ErrorKind::Invalid, e).context("the Parallels header");
            error.about_file(&file.filename()).at(0)
        })?;
        Ok(Self {
            stored: Mutex::new(header.clone()),
            header,
            growth: Growth { size: PREALLOCATION, mode: PreallocMode::Off },
            others: OnceLock::new(),
            bitmaps: Arc::default(),
            notices: Notices::default(),
        })
    }

    fn is_like(&self, other: &Self) -> bool {
        let disk = |header: &Header| (header.unit, header.cluster, header.entries, header.size, header.data);
        disk(&self.header) == disk(&other.header)
    }

    fn size(&self) -> u64 {
        self.header.size
    }

    fn block_size(&self) -> u64 {
        self.header.cluster
    }

    fn table(&self) -> u64 {
        LEN as u64
    }

    fn entries(&self) -> u64 {
        self.header.entries.into()
    }

    fn data(&self) -> u64 {
        self.header.data
    }

    fn most_blocks(&self) -> u64 {
        let most = u64::from(u32::MAX);
        match self.header.unit {
            Unit::Sectors => (most * SECTOR).saturating_sub(self.header.data) / self.header.cluster,
            Unit::Clusters => most.saturating_sub(self.header.data / self.header.cluster),
        }
    }

    fn place(&self, entry: u32) -> Option<u64> {
        let unit = match self.header.unit {
            Unit::Sectors => SECTOR,
            Unit::Clusters => self.header.cluster,
        };
        (entry != 0).then(|| u64::from(entry) * unit)
    }

    fn entry(&self, block: u64) -> u32 {
        let offset = self.header.data + block * self.header.cluster;
        match self.header.unit {
            Unit::Sectors => (offset / SECTOR) as u32,
            Unit::Clusters => (offset / self.header.cluster) as u32,
        }
    }

    fn other_blocks(&self) -> Vec<u64> {
        self.others.get().cloned().unwrap_or_default()
    }

    async fn opened(&self, file: &MetadataFile, read_only: bool) -> Result<()> {
        // What an image that was not closed says of itself is out of date.
        if self.header.extension().is_none() || self.header.is_in_use() {
            return Ok(());
        }
        let file = file.node()?;
        let extension = match Extension::read(&file, &self.header).await {
            Ok(extension) => extension,
            Err(e) => {
                self.notices.warn(&format!("'{}' is opened without its bitmaps: {e}", file.filename()));
                return Ok(());
            }
        };
        let clusters = self.header.extension().into_iter().chain(extension.clusters());
        self.others.get_or_init(|| clusters.collect());
        if read_only {
            return self.load_bitmaps(&file, &extension).await;
        }
        if extension.must_stay {
            let text =
                "the image has features that are not known here and must be kept; it can be opened read-only";
            return Err(BlockError::unsupported(text).about_file(&file.filename()));
        }
        let text = format!(
            "the format extension of '{}', with its bitmaps, goes with the first write",
            file.filename()
        );
        self.notices.warn(&text);
        Ok(())
    }

    fn needs_repair(&self) -> bool {
        let stored = self.stored.lock();
        stored.is_in_use() || stored.data_is_wrong
    }

    fn check_header(&self, found: &mut Findings) {
        let stored = self.stored.lock();
        if stored.is_in_use() {
            found.corruption(found.mends(), || "image was not closed correctly".to_owned());
        }
        if stored.data_is_wrong {
            found.corruption(found.mends(), || "data_off field has incorrect value".to_owned());
        }
    }

    async fn mend_header(&self, file: &MetadataFile) -> Result<()> {
        if self.needs_repair() { self.store(file, Header::mended).await } else { Ok(()) }
    }

    /// The file grows by much at once, so that it lies together on the disk.
    async fn reserve(&self, file: &Node, end: u64) {
        let length = file.length();
        if end <= length || !file.facts().grows_with_zeroes {
            return;
        }
        let further = length.saturating_add(self.growth.size);
        let grown = async {
            // Where a file can't grow it is cut to what it was: no data may lie behind that by then.
            file.grow_to(end).await?;
            if further > end { file.set_length(further, self.growth.mode).await } else { Ok(()) }
        };
        if let Err(error) = grown.await {
            // The data may have room all the same, or their write tells that they have none.
            tracing::debug!(file = file.filename(), further, %error, "the file was not made longer in advance");
        }
    }

    async fn begin_changes(&self, file: &MetadataFile) -> Result<()> {
        self.store(file, Header::written_to).await
    }

    async fn end_changes(&self, file: &MetadataFile, end: u64) -> Result<()> {
        let node = file.node()?;
        if node.facts().grows_with_zeroes && node.length() > end {
            node.set_length(end, PreallocMode::Off).await?;
            file.flush().await?;
        }
        self.store(file, Header::closed).await
    }

    fn info(&self) -> DriverInfo {
        DriverInfo::default()
    }
}
