//! An open image: which sectors it holds, and how it comes to hold more.
use super::CACHE;
use super::header::{Header, LENGTH, SECTOR};
use api::PreallocMode;
use block::metacache::{Change, Format, MetadataFile, Order, Page, Raw, Run};
use block::{
    Action, BlockError, ChildId, Domain, Edges, Extent, ExtentKind, Flags, Lease, Leases, MapChange, Node,
    Request, Result, Want, WritePlan,
};
use parking_lot::RwLock;
use rt::BufMut;
use std::sync::Arc;

/// Bytes of a page.
const PAGE: u64 = 4096;
/// Sectors of a page.
const PAGE_SECTORS: u64 = PAGE * 8;
/// Mark of a page whose bits were looked at.
const JUDGED: u32 = 1;
/// Mark of a page that has a bit of a sector behind the end of the file.
const SUSPECT: u32 = 2;
/// Bytes of zeroes that are written at a time.
const PIECE: u64 = 1 << 20;

pub(super) struct Image {
    pub order: Order<Raw>,
    pub header: RwLock<Header>,
    size: u64,
    bitmap_len: u64,
    data_offset: u64,
    /// Leases of bytes of the bitmap that change.
    bytes: Arc<Leases>,
    edges: Arc<Edges>,
    backing: ChildId,
}

impl Format for Image {
    type Codec = Raw;

    fn order(&self) -> &Order<Raw> {
        &self.order
    }

    fn block_bits(&self) -> u32 {
        SECTOR.trailing_zeros()
    }

    fn size(&self) -> u64 {
        self.size
    }

    /// A sector has the place that it has: there is nothing to give up.
    fn blocks_of(&self, _: u8) -> Option<Run> {
        None
    }

    async fn write_ahead(&self, _: bool) -> Result<()> {
        Ok(())
    }
}

/// How many sectors from this one on are as it is, in a page; and whether the image holds them.
fn alike(page: &Page<Raw>, sector: u64, most: u64) -> (u64, bool) {
    let bit = |sector: u64| page.word((sector / 8) as usize) >> (sector % 8) & 1 == 1;
    let (start, held) = (sector % PAGE_SECTORS, bit(sector % PAGE_SECTORS));
    let end = PAGE_SECTORS.min(start.saturating_add(most));
    let (mut at, whole) = (start, if held { 0xff } else { 0 });
    while at < end {
        if at.is_multiple_of(8) && page.word((at / 8) as usize) == whole {
            at += 8;
        } else if bit(at) == held {
            at += 1;
        } else {
            break;
        }
    }
    (at.min(end) - start, held)
}

impl Image {
    pub fn new(
        header: Header,
        edges: Arc<Edges>,
        file: ChildId,
        backing: ChildId,
        domain: Arc<Domain>,
    ) -> Self {
        let order = Order::new(MetadataFile::new(edges.clone(), file, "cow"), domain, CACHE);
        Self {
            order,
            size: header.size,
            bitmap_len: header.bitmap_len(),
            data_offset: header.data_offset(),
            header: RwLock::new(header),
            bytes: Leases::new(),
            edges,
            backing,
        }
    }

    fn backing(&self) -> Option<Arc<Node>> {
        self.edges.get(self.backing)
    }

    /// Whether what is not held shows something else than zeroes: here, or where the image is opened by its header.
    pub fn shows_backing(&self) -> bool {
        self.backing().is_some() || self.header.read().backing_name.is_some()
    }

    // ---- mapping ----

    pub fn try_map(&self, offset: u64, len: u64, want: Want) -> Option<Extent> {
        if want == Want::Write && !self.order.access.is_ready() {
            return None;
        }
        let page = offset / SECTOR / PAGE_SECTORS;
        let extent = |page: &Page<Raw>| {
            let sound = page.marks() & (JUDGED | SUSPECT) == JUDGED;
            sound.then(|| self.extent(page, offset, len, want))
        };
        self.order.tables.with(page, extent).flatten()
    }

    pub async fn map(&self, offset: u64, len: u64, want: Want) -> Result<Extent> {
        if want == Want::Write {
            self.first_write().await?;
        }
        let page = self.page(offset / SECTOR / PAGE_SECTORS).await?;
        let extent = self.extent(&page, offset, len, want);
        if page.marks() & SUSPECT == 0 || extent.kind.is_hole() {
            return Ok(extent);
        }
        // Some of these sectors lie behind the end of the file: those before it can be read.
        let place = self.data_offset + offset;
        let length = self.order.file.node()?.length();
        if place >= length {
            return Err(self.missing(offset, length));
        }
        Ok(Extent { len: extent.len.min(length - place), ..extent })
    }

    /// Before the first write: the file must have all sectors that are held. It grows by what is written, and those that are
    /// missing would read as zeroes then.
    pub async fn first_write(&self) -> Result<()> {
        if !self.order.access.needs_header()? {
            return Ok(());
        }
        self.order.access.make_ready(async || self.find_missing().await).await
    }

    async fn find_missing(&self) -> Result<()> {
        let file = self.order.file.node()?;
        let length = file.length();
        let sectors = length.saturating_sub(self.data_offset).div_ceil(SECTOR);
        let mut at = sectors / 8;
        while at < self.bitmap_len {
            let rest = self.bitmap_len - at;
            let status = file.status(LENGTH + at, rest, None).await?;
            let mut len = status.len;
            if !status.zero {
                len = len.min(PIECE);
                let bytes = self.order.file.read(LENGTH + at, len).await?;
                let held = (0..8 * len).filter(|bit| {
                    bytes.get((bit / 8) as usize).is_some_and(|byte| byte >> (bit % 8) & 1 == 1)
                });
                if let Some(sector) = held.map(|bit| 8 * at + bit).find(|sector| *sector >= sectors) {
                    let error = self.missing(sector * SECTOR, length);
                    // However often it is tried, it is not better.
                    self.order.file.image().into_iter().for_each(|node| node.poison(&error));
                    return Err(error);
                }
            }
            at += len;
        }
        Ok(())
    }

    /// The image holds a sector that is not in the file.
    fn missing(&self, offset: u64, length: u64) -> BlockError {
        let (file, place) = (self.order.file.name(), self.data_offset + offset);
        let text = format!(
            "cow image '{file}': the bitmap has a sector at {place:#x}, beyond the end of the file ({length:#x})"
        );
        BlockError::corrupt(text).at(offset)
    }

    async fn page(&self, number: u64) -> Result<Arc<Page<Raw>>> {
        let len = self.bitmap_len.saturating_sub(number * PAGE).min(PAGE);
        let page = self.order.page(number, LENGTH + number * PAGE, len).await?;
        if page.marks() & JUDGED == 0 {
            let bytes: Vec<u8> = page.words_from(0).collect();
            let last = bytes.iter().rposition(|byte| *byte != 0).map(|at| {
                let bit = bytes.get(at).map_or(0, |byte| 7 - u64::from(byte.leading_zeros()));
                number * PAGE_SECTORS + 8 * at as u64 + bit
            });
            let length = self.order.file.node()?.length();
            let beyond = last.is_some_and(|sector| self.data_offset + sector * SECTOR >= length);
            page.change_marks(JUDGED | if beyond { SUSPECT } else { 0 }, 0);
        }
        Ok(page)
    }

    fn extent(&self, page: &Page<Raw>, offset: u64, len: u64, want: Want) -> Extent {
        let within = offset % SECTOR;
        let most = if want == Want::Status { PAGE_SECTORS } else { (within + len).div_ceil(SECTOR) };
        let (count, held) = alike(page, offset / SECTOR, most.max(1));
        let (child, offset) = (self.order.file.child(), self.data_offset + offset);
        let kind = if held { ExtentKind::Data { child, offset, owned: true } } else { ExtentKind::HOLE };
        let bytes = count * SECTOR - within;
        Extent { len: if want == Want::Status { bytes } else { bytes.min(len) }, kind }
    }

    /// Whether the bits of a range are durable.
    pub fn is_settled(&self, offset: u64, len: u64) -> bool {
        let (first, end) = (offset / SECTOR / 8, (offset + len).div_ceil(SECTOR * 8));
        self.bytes.try_lease(first, end, false).is_some_and(|_lease| self.order.tables.dirty.is_empty())
    }

    // ---- changes ----

    pub async fn prepare(
        self: &Arc<Self>,
        offset: u64,
        len: u64,
        change: MapChange,
        request: Request,
    ) -> Result<WritePlan> {
        self.first_write().await?;
        if change == MapChange::Data {
            return self.plan_data(offset, len, request).await;
        }
        let Extent { len, kind } = self.map(offset, len, Want::Read).await?;
        let action = match kind {
            ExtentKind::Data { .. } if request.has(Flags::IF_UNALLOCATED) => Action::Nothing,
            ExtentKind::Data { child, offset, .. } => Action::Forward { child, offset },
            _ if change == MapChange::Zero && self.shows_backing() => Action::AsData,
            _ => Action::Nothing,
        };
        Ok(WritePlan { len, action, token: None })
    }

    /// Plans data for the start of a range: for the sectors that the image holds alike.
    async fn plan_data(self: &Arc<Self>, offset: u64, len: u64, request: Request) -> Result<WritePlan> {
        let (sector, within) = (offset / SECTOR, offset % SECTOR);
        let most = (within + len).div_ceil(SECTOR).min(PAGE_SECTORS - sector % PAGE_SECTORS);
        let (first, end) = (sector / 8, (sector + most).div_ceil(8));
        let lease = self.bytes.lease(first, end, true).await;
        let page = self.page(sector / PAGE_SECTORS).await?;
        self.order.place(&page).await?;
        Order::make_room(self, PAGE as usize).await?;
        let (count, held) = alike(&page, sector, most);
        let bytes = count * SECTOR - within;
        let len = bytes.min(len);
        let place = |head, tail| {
            let child = self.order.file.child();
            Action::Store { child, offset: self.data_offset + offset, head, tail, fresh: false }
        };
        if held {
            let fills = request.has(Flags::IF_UNALLOCATED);
            let action = if fills { Action::Nothing } else { place(0, 0) };
            return Ok(WritePlan { len, action, token: None });
        }
        let token = self.holding(page, sector, count, lease);
        Ok(WritePlan { len, action: place(within, bytes - len), token: Some(Box::new(token)) })
    }

    /// The change by which the image holds `count` sectors of a page.
    fn holding(
        self: &Arc<Self>,
        page: Arc<Page<Raw>>,
        sector: u64,
        count: u64,
        lease: Lease,
    ) -> Change<Self> {
        let start = sector % PAGE_SECTORS;
        let (first, end) = (start / 8, (start + count).div_ceil(8));
        let bits = |byte: u64| (byte * 8..byte * 8 + 8).filter(|bit| (start..start + count).contains(bit));
        let new = |byte: u64| bits(byte).fold(page.word(byte as usize), |word, bit| word | 1 << (bit % 8));
        let entries = (first..end).map(new).collect();
        let (image, first) = (self.clone(), first as usize);
        Change { image, page, first, entries, reserved: None, cause: None, lease }
    }

    /// Lets go of all sectors, so that the backing file shows through.
    pub async fn make_empty(self: &Arc<Self>) -> Result<()> {
        self.first_write().await?;
        Order::flush(self).await?;
        for at in (0..self.bitmap_len).step_by(PIECE as usize) {
            let zeroes = BufMut::zeroed(PIECE.min(self.bitmap_len - at) as usize);
            self.order.file.overwrite(LENGTH + at, zeroes.freeze()).await?;
        }
        self.order.tables.clear();
        self.order.file.flush().await?;
        let file = self.order.file.node()?;
        if Order::release_all_in_time(self).await
            && file.facts().grows_with_zeroes
            && file.length() > self.data_offset
        {
            file.set_length(self.data_offset, PreallocMode::Off).await?;
        }
        Ok(())
    }

    /// Ends all changes: the image is closed, or read-only from now on.
    pub async fn end_changes(self: &Arc<Self>, in_time: bool) -> Result<()> {
        Order::end(self, in_time, async || Ok(())).await
    }
}
