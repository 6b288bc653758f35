//! Making an image.
//!
//! ```text
//!  identifier, headers, regions │ log │ block allocation table │ metadata │ … │ blocks, in a fixed image
//!  0                            1 MiB
//! ```
//!
//! The identifier of the file comes last: without it the file is no image.
use super::bat::{Bat, ZERO, present};
use super::header::{Current, Header};
use super::metadata::{LARGEST, Metadata};
use super::regions::{Part, Regions, TABLES};
use super::words::Guid;
use super::{IDENTIFIER, MIB};
use crate::new_file;
use api::{BlockdevVhdxSubformat, VhdxCreateOptions};
use block::{
    BlockError, Create, CreateOption, CreateRequest, ErrorKind, Opt, OptionKind, Options, Request, Result,
};
use rt::Buf;

/// Bytes behind the metadata before the first block.
const BEHIND: u64 = 4 * MIB;
/// Bytes of the largest block.
const LARGEST_BLOCK: u64 = 256 * MIB;
/// Bytes that tell what a file is.
const HEAD: usize = 4096;

pub(super) const OPTIONS: &[CreateOption] = &[
    CreateOption { help: "Virtual disk size; max of 64TB.", ..CreateOption::SIZE },
    CreateOption::new("log_size", OptionKind::Size, "Log size; min 1MB.").default("1048576"),
    CreateOption::new(
        "block_size",
        OptionKind::Size,
        "Block Size; min 1MB, max 256MB. 0 means auto-calculate based on image size.",
    )
    .default("0"),
    CreateOption::new(
        "subformat",
        OptionKind::Str,
        "VHDX format type, can be either 'dynamic' or 'fixed'. Default is 'dynamic'.",
    ),
    CreateOption::new(
        "block_state_zero",
        OptionKind::Bool,
        "Force use of payload blocks of type 'ZERO'. Non-standard, but default.  Do not set to 'off' when using 'qemu-img convert' with subformat=dynamic.",
    ),
];

pub(super) const CREATE: Create<VhdxCreateOptions> = Create {
    adapt: Some(adapt),
    judge: |size, options| Plan::new(size, options).map(drop),
    create: |request| Box::pin(create(request)),
    measure: None,
};

/// Command lines give sizes that are made whole MiB, and 0 for a block by the size of the disk.
fn adapt(options: &mut Options) -> Result<()> {
    for (name, most) in [("log-size", u64::MAX), ("block-size", LARGEST_BLOCK)] {
        let asked = match options.get(name) {
            Some(Opt::Uint(bytes)) => Some(*bytes),
            Some(Opt::Str(text)) => api::parse_size(text).ok(),
            _ => None,
        };
        let Some(asked) = asked else { continue };
        if name == "block-size" && asked == 0 {
            options.take(name);
        } else if let Some(whole) = asked.min(most).checked_next_multiple_of(MIB) {
            options.set(name, Opt::Uint(whole));
        }
    }
    Ok(())
}

/// What is to be made, of options that have been judged.
struct Plan {
    metadata: Metadata,
    bat: Bat,
    /// The state of blocks that are nowhere.
    nowhere: u64,
    log: Part,
    table: Part,
    place: Part,
    /// Where blocks begin.
    first: u64,
}

impl Plan {
    fn new(size: u64, options: &VhdxCreateOptions) -> Result<Self> {
        let size = size.checked_next_multiple_of(512).filter(|size| *size <= LARGEST);
        let size =
            size.ok_or_else(|| BlockError::new(ErrorKind::Limit, "Image size too large; max of 64TB"))?;
        let log = options.log_size.map_or(MIB, |size| size.0);
        if log >= 4 << 30 {
            return Err(BlockError::invalid("Log size must be smaller than 4 GB"));
        }
        if log == 0 || !log.is_multiple_of(MIB) {
            return Err(BlockError::invalid("Log size must be a multiple of 1 MB"));
        }
        let block = match options.block_size.map(|size| size.0) {
            None if size > 32 << 40 => 64 * MIB,
            None if size > 100 << 30 => 32 * MIB,
            None if size > 1 << 30 => 16 * MIB,
            None => 8 * MIB,
            Some(asked) => asked,
        };
        if block == 0 || !block.is_multiple_of(MIB) {
            return Err(BlockError::invalid("Block size must be a multiple of 1 MB"));
        }
        if !block.is_power_of_two() {
            return Err(BlockError::invalid("Block size must be a power of two"));
        }
        if block > LARGEST_BLOCK {
            return Err(BlockError::invalid(format!("Block size must not exceed {LARGEST_BLOCK}")));
        }
        let fixed = options.subformat == Some(BlockdevVhdxSubformat::Fixed);
        let metadata = Metadata { block, fixed, parent: None, size, sector: 512 };
        let bat = Bat::new(&metadata);
        let log = Part { offset: MIB, len: log };
        let table = Part { offset: log.end(), len: (bat.entries() * 8).next_multiple_of(MIB).max(MIB) };
        let place = Part { offset: table.end(), len: MIB };
        let nowhere = if options.block_state_zero.unwrap_or(true) { ZERO } else { 0 };
        Ok(Self { metadata, bat, nowhere, log, table, place, first: place.end() + BEHIND })
    }

    /// Bytes of the file.
    fn len(&self) -> u64 {
        self.first + if self.metadata.fixed { self.bat.blocks * self.metadata.block } else { 0 }
    }

    /// Entries of the table from one on.
    fn entries(&self, from: u64, count: u64) -> Vec<u8> {
        let entry = |index: u64| match self.bat.block_of(index) {
            Some(block) if self.metadata.fixed => present((self.first + block * self.metadata.block) / MIB),
            Some(_) => self.nowhere,
            None => 0,
        };
        (from..from + count).flat_map(|index| entry(index).to_le_bytes()).collect()
    }
}

async fn create(request: CreateRequest<'_, VhdxCreateOptions>) -> Result<()> {
    let CreateRequest { file, size, options, .. } = request;
    let plan = Plan::new(size, &options)?;
    new_file::make_of_length(&file, plan.len(), HEAD).await?;
    let header = Header {
        sequence: rt::random_u64() >> 32,
        file_write: Guid::random(),
        data_write: Guid::random(),
        log: Guid::ZERO,
        log_len: plan.log.len as u32,
        log_offset: plan.log.offset,
    };
    Current::create(&file, header).await?;
    let regions = Regions::new_bytes(plan.table, plan.place);
    for at in TABLES {
        file.write(at, Buf::from_slice(&regions), Request::DRIVER).await?;
    }
    // Where all entries are zeroes they are there.
    let (all, piece) = (plan.bat.entries(), MIB / 8);
    if plan.nowhere != 0 || plan.metadata.fixed || !file.facts().grows_with_zeroes {
        for from in (0..all).step_by(piece as usize) {
            let entries = plan.entries(from, piece.min(all - from));
            file.write(plan.table.offset + from * 8, Buf::from_slice(&entries), Request::DRIVER).await?;
        }
    }
    let Metadata { block, fixed, size, .. } = plan.metadata;
    let metadata = Metadata::new_bytes(block, fixed, size);
    file.write(plan.place.offset, Buf::from_slice(&metadata), Request::DRIVER).await?;
    file.flush().await?;
    let mut identifier = [0; HEAD];
    let creator = "Cairn".encode_utf16().flat_map(u16::to_le_bytes);
    identifier.iter_mut().zip(IDENTIFIER.iter().copied().chain(creator)).for_each(|(to, byte)| *to = byte);
    file.write(0, Buf::from_slice(&identifier), Request::DRIVER).await?;
    file.flush().await
}
