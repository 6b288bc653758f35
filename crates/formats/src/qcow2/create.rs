//! Making an image.
//!
//! ```text
//!  header │ refcount table │ refcount blocks │ L1 table │ [L2 tables │ data clusters]
//!                                                         └ with preallocation only ┘
//! ```
//!
//! Laws:
//! - the first sector of the header comes last, when everything it leads to is durable: a power cut leaves a file
//!   that is no image, or the whole image;
//! - all refcounts an image starts with are written at once, whatever their number;
//! - the data clusters are one run in the order of the disk;
//! - metadata is written whole, its zeroes too: no later change of it needs space that the file system may not have.
//!
//! Bounds: tables are written in pieces of 1 MiB.
use super::encryption::{self, NewEncryption};
use super::header::{
    AUTOCLEAR_DATA_RAW, COMPATIBLE_LAZY_REFCOUNTS, COPIED, Compression, ENCRYPTION, Extension, Header,
    INCOMPATIBLE_COMPRESSION, INCOMPATIBLE_DATA_FILE, INCOMPATIBLE_EXTENDED_L2, MAX_REFCOUNT_TABLE_BYTES,
    SECTOR, ZERO,
};
use super::subclusters::Subclusters;
use crate::encryption::Place;
use crate::new_file;
use api::{BlockdevQcow2Version, PreallocMode, Qcow2CompressionType, Qcow2CreateOptions};
use block::{
    BlockError, CodedAt, Coding, Create, CreateOption, CreateRequest, ErrorKind, Node, Opt, OptionKind,
    Options, Request, Result, not_negative,
};
use crypto::luks1::Change;
use rt::{Buf, BufMut};
use std::iter::repeat;
use std::sync::Arc;

/// The smallest clusters that can have subclusters, in bytes.
const LEAST_EXTENDED_CLUSTER: u64 = 16 << 10;
/// Bytes written at a time.
const PIECE: usize = 1 << 20;

/// The options that create takes or refuses by name, in the order in which they are told. Scripts know what is said of them.
pub(super) const OPTIONS: &[CreateOption] = &[
    option(
        "encryption",
        OptionKind::Bool,
        "Encrypt the image with format 'aes'. (Deprecated in favor of encrypt.format=aes)",
    ),
    option("encrypt.format", OptionKind::Str, "Encrypt the image, format choices: 'aes', 'luks'"),
    option("encrypt.key-secret", OptionKind::Str, "ID of secret providing qcow AES key or LUKS passphrase"),
    option("encrypt.cipher-alg", OptionKind::Str, "Name of encryption cipher algorithm"),
    option("encrypt.cipher-mode", OptionKind::Str, "Name of encryption cipher mode"),
    option("encrypt.ivgen-alg", OptionKind::Str, "Name of IV generator algorithm"),
    option("encrypt.ivgen-hash-alg", OptionKind::Str, "Name of IV generator hash algorithm"),
    option("encrypt.hash-alg", OptionKind::Str, "Name of encryption hash algorithm"),
    option("encrypt.iter-time", OptionKind::Number, "Time to spend in PBKDF in milliseconds"),
    option("cluster_size", OptionKind::Size, "qcow2 cluster size").default("65536"),
    option("extended_l2", OptionKind::Bool, "Extended L2 tables").default("off"),
    option(
        "preallocation",
        OptionKind::Str,
        "Preallocation mode (allowed values: off, metadata, falloc, full)",
    ),
    option("compression_type", OptionKind::Str, "Compression method used for image cluster compression")
        .default("zlib"),
    CreateOption::SIZE,
    option("compat", OptionKind::Str, "Compatibility level (v2 [0.10] or v3 [1.1])"),
    option("backing_file", OptionKind::Str, "File name of a base image"),
    option("backing_fmt", OptionKind::Str, "Image format of the base image"),
    option("data_file", OptionKind::Str, "File name of an external data file"),
    option("data_file_raw", OptionKind::Bool, "The external data file must stay valid as a raw image"),
    // Today's lists, which scripts compare, do not have it.
    option("keep_data_file", OptionKind::Bool, ""),
    option("lazy_refcounts", OptionKind::Bool, "Postpone refcount updates").default("off"),
    option("refcount_bits", OptionKind::Number, "Width of a reference count entry in bits").default("16"),
];

const fn option(name: &'static str, kind: OptionKind, help: &'static str) -> CreateOption {
    CreateOption::new(name, kind, help)
}

/// How images are made.
pub(super) const CREATE: Create<Qcow2CreateOptions> = Create {
    adapt: Some(adapt),
    judge: |size, options| Plan::new(size, options).map(drop),
    create: |request| Box::pin(create(request)),
    measure: Some(|request| Box::pin(super::measure::measure(request))),
};

/// How the file gets its length.
fn of_file(preallocation: PreallocMode) -> PreallocMode {
    match preallocation {
        PreallocMode::Metadata => PreallocMode::Off,
        other => other,
    }
}

/// What is to be made, of options that have all been judged.
struct Plan {
    preallocation: PreallocMode,
    header: Header,
    layout: Layout,
    first_cluster: Vec<u8>,
    encryption: Option<NewEncryption>,
}

impl Plan {
    fn new(size: u64, options: &Qcow2CreateOptions) -> Result<Self> {
        let mut preallocation = options.preallocation.unwrap_or(PreallocMode::Off);
        let mut header = new_header(options, size, preallocation)?;
        if header.is_data_raw() && preallocation == PreallocMode::Off {
            // What is not mapped would be zeroes to one reader, and to the other whatever is there.
            preallocation = PreallocMode::Metadata;
        }
        let encryption = options.encrypt.as_ref().map(NewEncryption::new).transpose()?;
        if encryption.is_some() {
            judge_encrypted(options, &header)?;
        }
        header.crypt_method = encryption.as_ref().map_or(0, NewEncryption::method);
        let encryption_len = encryption.as_ref().map_or(0, NewEncryption::header_len);
        let layout = Layout::new(&mut header, preallocation, encryption_len)?;
        let first_cluster = header.lay_out(options.backing_fmt.as_deref(), options.data_file.as_deref())?;
        Ok(Self { preallocation, header, layout, first_cluster, encryption })
    }
}

/// Makes an image in the file of the request.
async fn create(request: CreateRequest<'_, Qcow2CreateOptions>) -> Result<()> {
    let CreateRequest { file, size, options, places } = request;
    let Plan { preallocation, header, layout, first_cluster, encryption } = Plan::new(size, &options)?;
    // What takes seconds, and may be refused, comes before the file is touched.
    let (coding, volume) = match (encryption, &options.encrypt) {
        (Some(encryption), Some(options)) => {
            let (coding, volume) = encryption.make(places.objects(), options).await?;
            (Some(coding), volume)
        }
        _ => (None, None),
    };
    new_file::require_room(&file, layout.end(&header))?;
    let data = match &options.data_file {
        Some(name) => Some(places.further(name).await?),
        None => None,
    };
    if let Some(data) = &data {
        let keep = options.keep_data_file.unwrap_or(false);
        if keep && data.length() == 0 {
            let text = format!("there is nothing to keep: '{}' is empty, or not there", data.filename());
            return Err(BlockError::new(ErrorKind::NotFound, text));
        }
        make_data_file(data, header.size, if keep { None } else { Some(of_file(preallocation)) }).await?;
    }
    let data_is_there = header.is_data_raw() || options.keep_data_file.unwrap_or(false);
    let fresh = new_file::empty(&file, SECTOR).await?;
    let image = NewImage { file: &file, header: &header, layout, fresh, coding, volume, data_is_there };
    image.write(preallocation, &first_cluster).await
}

fn new_header(options: &Qcow2CreateOptions, size: u64, preallocation: PreallocMode) -> Result<Header> {
    let version = options.version.unwrap_or(BlockdevQcow2Version::V3);
    let needs_v3 = |what: &str| {
        let text = format!("{what} compatibility level 1.1 and above (use version=v3 or greater)");
        if version == BlockdevQcow2Version::V3 { Ok(()) } else { Err(BlockError::invalid(text)) }
    };
    let extended = options.extended_l2.unwrap_or(false);
    if extended {
        needs_v3("Extended L2 entries are only supported with")?;
    }
    let cluster_size = cluster_size(options)?;
    let size =
        size.checked_next_multiple_of(512).filter(|&s| i64::try_from(s).is_ok()).ok_or_else(too_large)?;
    let number = if version == BlockdevQcow2Version::V3 { 3 } else { 2 };
    let mut header = Header::new(number, cluster_size.trailing_zeros(), size);
    header.set_incompatible(INCOMPATIBLE_EXTENDED_L2, extended);
    let refcount_bits = refcount_bits(options)?;
    if refcount_bits != 16 {
        needs_v3("Different refcount widths than 16 bits require")?;
        header.refcount_order = refcount_bits.trailing_zeros();
    }
    if options.lazy_refcounts.unwrap_or(false) {
        needs_v3("Lazy refcounts only supported with")?;
        header.compatible |= COMPATIBLE_LAZY_REFCOUNTS;
    }
    if options.compression_type == Some(Qcow2CompressionType::Zstd) {
        needs_v3("Non-zlib compression type is only supported with")?;
        header.compression = Compression::Zstd;
        header.incompatible |= INCOMPATIBLE_COMPRESSION;
    }
    header.backing_name = options.backing_file.clone().filter(|name| !name.is_empty());
    if options.backing_fmt.is_some() && header.backing_name.is_none() {
        return Err(BlockError::invalid("Backing format cannot be used without backing file"));
    }
    judge_data_file(options, &mut header, preallocation)?;
    if header.backing_name.is_some() && !extended && preallocation != PreallocMode::Off {
        let text = "Backing file and preallocation can only be used at the same time if extended_l2 is on";
        return Err(BlockError::invalid(text));
    }
    Ok(header)
}

/// Bytes of a cluster.
pub(super) fn cluster_size(options: &Qcow2CreateOptions) -> Result<u64> {
    let size = options.cluster_size.map_or(65536, |size| size.0);
    if !size.is_power_of_two() || !(512..=2 << 20).contains(&size) {
        return Err(BlockError::invalid("Cluster size must be a power of two between 512 and 2048k"));
    }
    if options.extended_l2.unwrap_or(false) && size < LEAST_EXTENDED_CLUSTER {
        let text = "Extended L2 entries are only supported with cluster sizes of at least 16384 bytes";
        return Err(BlockError::invalid(text));
    }
    Ok(size)
}

/// Bits of a refcount.
pub(super) fn refcount_bits(options: &Qcow2CreateOptions) -> Result<u64> {
    let bits = not_negative("refcount-bits", options.refcount_bits)?.unwrap_or(16);
    if !bits.is_power_of_two() || bits > 64 {
        return Err(BlockError::invalid("Refcount width must be a power of two and may not exceed 64 bits"));
    }
    Ok(bits)
}

/// Turns the older forms of options into the schema's: the compatibility level into the version it means.
fn adapt(options: &mut Options) -> Result<()> {
    if let Some(level) = options.take_str("compat")? {
        let version = match level.as_str() {
            "1.1" => "v3",
            "0.10" => "v2",
            other => other,
        };
        options.set("version", Opt::Str(version.to_owned()));
    }
    crate::encryption::adapt_create(options)
}

/// Enters the data file into the header, and refuses what it can't go with.
fn judge_data_file(
    options: &Qcow2CreateOptions,
    header: &mut Header,
    preallocation: PreallocMode,
) -> Result<()> {
    let (raw, keep) = (options.data_file_raw.unwrap_or(false), options.keep_data_file.unwrap_or(false));
    let refused = |text: &str| Err(BlockError::invalid(text));
    if options.data_file.is_none() {
        return match (raw, keep) {
            (true, _) => refused("data-file-raw requires data-file"),
            (_, true) => refused("keep-data-file requires data-file"),
            _ => Ok(()),
        };
    }
    if header.version < 3 {
        return refused(
            "External data files are only supported with compatibility level 1.1 and above (use version=v3 or greater)",
        );
    }
    if raw && header.backing_name.is_some() {
        return refused("Backing file and data-file-raw cannot be used at the same time");
    }
    if keep && !raw && preallocation == PreallocMode::Off {
        return refused(
            "keep-data-file needs data-file-raw or preallocation=metadata, for without a mapping nothing of the data file can \
             be seen",
        );
    }
    header.set_incompatible(INCOMPATIBLE_DATA_FILE, true);
    if raw {
        header.autoclear |= AUTOCLEAR_DATA_RAW;
    }
    Ok(())
}

/// Refuses what the data of an encrypted image can't be.
fn judge_encrypted(options: &Qcow2CreateOptions, header: &Header) -> Result<()> {
    let refused = |text: &str| Err(BlockError::invalid(text));
    if header.is_data_raw() {
        return refused(
            "data-file-raw and encryption cannot be used at the same time: the file would not be a raw image",
        );
    }
    if options.keep_data_file.unwrap_or(false) {
        return refused(
            "keep-data-file and encryption cannot be used at the same time: what is there has another key, or none",
        );
    }
    Ok(())
}

fn too_large() -> BlockError {
    let text = "The image size is too large for file format 'qcow2' (try using a larger cluster size)";
    BlockError::new(ErrorKind::Limit, text)
}

/// Makes the data file one of zeroes; `None`: it stays as it is, and is made longer where it is too short.
async fn make_data_file(data: &Arc<Node>, size: u64, fresh: Option<PreallocMode>) -> Result<()> {
    if fresh.is_some() && !new_file::empty(data, SECTOR).await? {
        data.write_zeroes(0, data.length().min(size), Request::DRIVER).await?;
    }
    if data.length() < size {
        data.driver().resize(size, fresh.unwrap_or(PreallocMode::Off)).await?;
    }
    data.flush().await
}

/// Where everything goes, in clusters.
#[derive(Debug, Clone, Copy)]
struct Layout {
    blocks: u64,
    l1_at: u64,
    l1_clusters: u64,
    /// Of the encryption header, behind the L1 table.
    encryption_clusters: u64,
    l2_tables: u64,
    guest_clusters: u64,
    total: u64,
}

impl Layout {
    /// Finds the layout and enters it into the header.
    fn new(header: &mut Header, preallocation: PreallocMode, encryption_len: u64) -> Result<Self> {
        let cluster_size = header.cluster_size();
        let l1_entries = header.l1_entries_for(header.size).ok_or_else(too_large)?;
        let l1_clusters = (l1_entries * 8).div_ceil(cluster_size);
        let encryption_clusters = encryption_len.div_ceil(cluster_size);
        let (l2_tables, guest_clusters) = match preallocation {
            PreallocMode::Off => (0, 0),
            // Nothing but encrypted zeroes could stand in the clusters: that is no matter of metadata.
            PreallocMode::Metadata if header.stores_zeroes() => (l1_entries, 0),
            _ => (l1_entries, header.size.div_ceil(cluster_size)),
        };
        let own_clusters = if header.has_data_file() { 0 } else { guest_clusters };
        let (mut blocks, mut table) = (1, 1);
        loop {
            let total = 1 + table + blocks + l1_clusters + encryption_clusters + l2_tables + own_clusters;
            let need_blocks = total.div_ceil(header.refcounts_per_block());
            let need_table = (need_blocks * 8).div_ceil(cluster_size);
            if (need_blocks, need_table) == (blocks, table) {
                break;
            }
            (blocks, table) = (need_blocks.max(blocks), need_table.max(table));
        }
        if table * cluster_size > MAX_REFCOUNT_TABLE_BYTES {
            return Err(too_large());
        }
        let l1_at = 1 + table + blocks;
        header.refcount_table_offset = cluster_size;
        header.refcount_table_clusters = table as u32;
        header.l1_entries = l1_entries as u32;
        header.l1_offset = if l1_entries == 0 { 0 } else { l1_at * cluster_size };
        if encryption_clusters > 0 {
            let place = (l1_at + l1_clusters) * cluster_size;
            let data = [place, encryption_len].map(u64::to_be_bytes).concat();
            header.extensions.push(Extension::new(ENCRYPTION, data));
        }
        let total = l1_at + l1_clusters + encryption_clusters + l2_tables + own_clusters;
        Ok(Self { blocks, l1_at, l1_clusters, encryption_clusters, l2_tables, guest_clusters, total })
    }

    /// Bytes that the file has at least.
    fn end(&self, header: &Header) -> u64 {
        match self.total - self.l1_at - self.l1_clusters {
            0 => self.l1_at * header.cluster_size() + header.l1_bytes(),
            _ => self.total * header.cluster_size(),
        }
    }

    /// The cluster of an L2 table; the data clusters follow the last one.
    fn l2_at(&self, table: u64) -> u64 {
        self.l1_at + self.l1_clusters + self.encryption_clusters + table
    }
}

/// An image in the making.
struct NewImage<'a> {
    file: &'a Arc<Node>,
    header: &'a Header,
    layout: Layout,
    /// The file reads as zeroes where nothing is written.
    fresh: bool,
    /// The form of its data, where that is encrypted.
    coding: Option<Arc<dyn Coding>>,
    /// Its LUKS header and key material.
    volume: Option<Change>,
    /// What is in the data file is the disk's.
    data_is_there: bool,
}

impl NewImage<'_> {
    async fn write(&self, preallocation: PreallocMode, first_cluster: &[u8]) -> Result<()> {
        self.size_file(preallocation).await?;
        self.write_refcounts().await?;
        self.write_mapping().await?;
        self.write_data().await?;
        if let (Some(change), Some((offset, len))) = (&self.volume, self.header.encryption()) {
            Place { file: self.file.clone(), offset, len }.carry_out(&change.steps).await?;
        }
        let (sector, rest) = first_cluster.split_at_checked(SECTOR).unwrap_or((first_cluster, &[]));
        write(self.file, SECTOR as u64, rest).await?;
        self.write_zeroes((SECTOR + rest.len()) as u64, self.header.cluster_size()).await?;
        self.file.flush().await?;
        let mut whole_sector = [0; SECTOR];
        whole_sector.iter_mut().zip(sector).for_each(|(to, from)| *to = *from);
        write(self.file, 0, &whole_sector).await?;
        self.file.flush().await
    }

    /// Gives the file its length; what does not read as zeroes by itself is zeroed.
    async fn size_file(&self, preallocation: PreallocMode) -> Result<()> {
        let cluster_size = self.header.cluster_size();
        let end = self.layout.end(self.header);
        if self.file.length() < end {
            let reserve =
                if self.header.has_data_file() { PreallocMode::Off } else { of_file(preallocation) };
            self.file.driver().resize(end, reserve).await?;
        }
        if self.fresh {
            return Ok(());
        }
        // Data clusters that are not read yet need no zeroes.
        let unread = self.zero_flag() || self.header.has_extended_l2();
        let flagged = preallocation == PreallocMode::Metadata && unread;
        let to_zero = if flagged { self.layout.l2_at(0) * cluster_size } else { end };
        self.file.write_zeroes(SECTOR as u64, to_zero - SECTOR as u64, Request::DRIVER).await
    }

    /// Whether preallocated clusters are marked as reading zeroes.
    fn zero_flag(&self) -> bool {
        // A data file has been zeroed.
        let old = !self.fresh && !self.header.has_data_file();
        let noise = old || self.header.crypt_method != 0;
        noise && self.header.version >= 3 && !self.header.has_extended_l2()
    }

    async fn write_refcounts(&self) -> Result<()> {
        let cluster_size = self.header.cluster_size();
        let blocks_at = 1 + u64::from(self.header.refcount_table_clusters);
        let table = (0..self.layout.blocks).map(|b| (blocks_at + b) * cluster_size);
        let entries = (self.header.refcount_table_bytes() / 8) as usize;
        self.write_words(self.header.refcount_table_offset, table.chain(repeat(0)).take(entries)).await?;
        let bits = self.layout.total << self.header.refcount_order;
        let (whole, rest) = (bits / 8, bits % 8);
        let one = counts_of_one(self.header.refcount_order);
        let mut at = blocks_at * cluster_size;
        let end = at + whole;
        let piece = one.iter().copied().cycle().take(PIECE).collect::<Vec<_>>();
        while at < end {
            let len = (end - at).min(PIECE as u64);
            write(self.file, at, piece.get(..len as usize).unwrap_or_default()).await?;
            at += len;
        }
        if rest > 0 {
            // Counts of less than a byte begin at its lowest bit.
            let last = one.first().copied().unwrap_or_default() & ((1u16 << rest) - 1) as u8;
            write(self.file, end, &[last]).await?;
        }
        let blocks_end = (blocks_at + self.layout.blocks) * cluster_size;
        self.write_zeroes(end + u64::from(rest > 0), blocks_end).await
    }

    async fn write_mapping(&self) -> Result<()> {
        let (cluster_size, l2_entries) = (self.header.cluster_size(), self.header.l2_entries());
        let layout = self.layout;
        let l1 = (0..layout.l2_tables).map(|t| (layout.l2_at(t) * cluster_size) | COPIED);
        let l1_entries = self.header.l1_entries as usize;
        self.write_words(self.header.l1_offset, l1.chain(repeat(0)).take(l1_entries)).await?;
        let zero = if self.zero_flag() { ZERO } else { 0 };
        let data = if self.header.has_data_file() { 0 } else { layout.l2_at(layout.l2_tables) };
        let l2 = (data..data + layout.guest_clusters).map(|cluster| (cluster * cluster_size) | COPIED | zero);
        // Subclusters of what is preallocated are holes: a backing file shows through them. What is in a data file from the
        // start is shown.
        let words = (self.header.l2_entry_bytes() / 8) as usize;
        let parts = if self.data_is_there { Subclusters::DATA } else { Subclusters::HOLE };
        let l2 = l2.flat_map(|entry| [entry, parts.bits()].into_iter().take(words));
        let whole = (layout.l2_tables * l2_entries) as usize * words;
        self.write_words(layout.l2_at(0) * cluster_size, l2.chain(repeat(0)).take(whole)).await
    }

    /// Writes the zeroes of preallocated clusters where nothing else can say that they are some.
    async fn write_data(&self) -> Result<()> {
        let Some(coding) = self.coding.as_deref().filter(|_| self.header.stores_zeroes()) else {
            return Ok(());
        };
        let (layout, cluster_size) = (self.layout, self.header.cluster_size());
        let stored = layout.l2_at(layout.l2_tables) * cluster_size;
        let at = CodedAt { guest: 0, stored };
        encryption::store_zeroes(coding, self.file, at, layout.guest_clusters * cluster_size).await
    }

    /// Writes zeroes as data from one offset to another.
    async fn write_zeroes(&self, from: u64, to: u64) -> Result<()> {
        let zeroes = BufMut::zeroed(to.saturating_sub(from).min(PIECE as u64) as usize).freeze();
        let mut at = from;
        while at < to {
            let len = (to - at).min(PIECE as u64);
            self.file.write(at, zeroes.slice(..len as usize), Request::DRIVER).await?;
            at += len;
        }
        Ok(())
    }

    /// Writes big-endian words in pieces.
    async fn write_words(&self, mut at: u64, words: impl Iterator<Item = u64>) -> Result<()> {
        let mut words = words.peekable();
        while words.peek().is_some() {
            let piece = words.by_ref().take(PIECE / 8).flat_map(u64::to_be_bytes).collect::<Vec<_>>();
            write(self.file, at, &piece).await?;
            at += piece.len() as u64;
        }
        Ok(())
    }
}

/// Eight bytes of counts that are all one.
fn counts_of_one(order: u32) -> [u8; 8] {
    match order {
        0 => [0xff; 8],
        1 => [0x55; 8],
        2 => [0x11; 8],
        3 => [1; 8],
        4 => [0, 1, 0, 1, 0, 1, 0, 1],
        5 => [0, 0, 0, 1, 0, 0, 0, 1],
        _ => [0, 0, 0, 0, 0, 0, 0, 1],
    }
}

async fn write(file: &Arc<Node>, offset: u64, data: &[u8]) -> Result<()> {
    if data.is_empty() {
        return Ok(());
    }
    file.write(offset, Buf::from(BufMut::from_slice(data)), Request::DRIVER).await
}
