//! Making an image: its files, in places that are claimed for each, then what makes them one.
//!
//! ```text
//!  sparse   header │ descriptor │ directory 2 │ tables 2 │ directory 1 │ tables 1 │ to a whole grain
//!  stream   header │ descriptor │ directory                                       │ to a whole grain
//! ```
//!
//! Law: the first sector of the image's own file comes last, when everything it leads to is durable: a power cut leaves a file
//! that is no image, or the whole image.
//!
//! Tables are holes of their files, where these can have some; they get their space before they are changed.
use super::descriptor::{NO_PARENT, geometry};
use super::header::{Hosted, SECTOR};
use crate::new_file;
use api::{
    BlockdevVmdkAdapterType as Adapter, BlockdevVmdkSubformat as Subformat, ImageInfoSpecific, PreallocMode,
    VmdkCreateOptions, codec::Enumeration,
};
use block::{
    BlockError, Create, CreateOption, CreateRequest, ErrorKind, Node, Opt, OptionKind, Options, Places,
    Request, Result,
};
use rt::{Buf, BufMut};
use std::sync::Arc;

/// Bytes of a grain where nothing is said, and what it may have.
const GRAIN: u64 = 64 << 10;
const GRAINS: std::ops::RangeInclusive<u64> = 4 << 10..=64 << 20;
/// Entries of a table.
const ENTRIES: u64 = 512;
/// Sectors that a descriptor inside of a sparse file has.
const DESCRIPTOR: u64 = 20;
/// Bytes of the disk in one of several files.
const PART: u64 = 2 << 30;
/// Bytes written at a time.
const PIECE: usize = 1 << 20;

/// The options that create takes, in the order in which they are told.
pub const OPTIONS: &[CreateOption] = &[
    CreateOption::SIZE,
    CreateOption::new(
        "adapter_type",
        OptionKind::Str,
        "Adapter that is named: ide, lsilogic, buslogic or legacyESX",
    ),
    CreateOption::new("backing_file", OptionKind::Str, "File name of a base image"),
    CreateOption::new("backing_fmt", OptionKind::Str, "Image format of the base image, which is vmdk"),
    CreateOption::new("compat6", OptionKind::Bool, "Name version 6 of the virtual hardware").default("off"),
    CreateOption::new("hwversion", OptionKind::Str, "Version of the virtual hardware that is named")
        .default("undefined"),
    CreateOption::new("toolsversion", OptionKind::Str, "Version of the guest tools that is named"),
    CreateOption::new(
        "subformat",
        OptionKind::Str,
        "monolithicSparse, monolithicFlat, twoGbMaxExtentSparse, twoGbMaxExtentFlat or streamOptimized",
    ),
    CreateOption::new("zeroed_grain", OptionKind::Bool, "Grains can be called zeroed"),
    // Lists of options that scripts compare do not have it.
    CreateOption::new("x-grain-size", OptionKind::Size, ""),
];

/// How images are made.
pub const CREATE: Create<VmdkCreateOptions> = Create {
    adapt: Some(adapt),
    judge: |size, options| Plan::new(size, options).map(drop),
    create: |request| Box::pin(create(request)),
    measure: None,
};

/// Turns the older forms of options into the schema's.
fn adapt(options: &mut Options) -> Result<()> {
    let hwversion = options.take_str("hwversion")?.filter(|version| version != "undefined");
    if options.take_bool("compat6")?.unwrap_or(false) {
        if hwversion.is_some() {
            return Err(BlockError::invalid("compat6 cannot be enabled with hwversion set"));
        }
        options.set("hwversion", Opt::Str("6".to_owned()));
    } else if let Some(version) = hwversion {
        options.set("hwversion", Opt::Str(version));
    }
    Ok(())
}

/// What is to be made, of options that have been judged.
struct Plan {
    subformat: Subformat,
    /// Sectors of the disk.
    sectors: u64,
    /// Sectors of a grain.
    grain: u64,
}

impl Plan {
    fn new(size: u64, options: &VmdkCreateOptions) -> Result<Self> {
        if size == 0 {
            return Err(BlockError::invalid(
                "a vmdk image can't have the size 0: no extent can be described as empty",
            ));
        }
        let subformat = options.subformat.unwrap_or(Subformat::MonolithicSparse);
        let sectors = size.div_ceil(SECTOR);
        let grain = options.x_grain_size.map_or(GRAIN, |size| size.0);
        if !grain.is_power_of_two() || !GRAINS.contains(&grain) {
            return Err(BlockError::invalid("Grain size must be a power of two between 4k and 64M"));
        }
        let plan = Self { subformat, sectors, grain: grain / SECTOR };
        if options.backing_file.is_some() {
            if options.backing_fmt.as_deref().is_some_and(|format| format != "vmdk") {
                return Err(BlockError::invalid("backing_file must be a vmdk image"));
            }
            if plan.is_flat() {
                return Err(BlockError::unsupported("Flat image can't have backing file"));
            }
        }
        if plan.is_flat() && options.zeroed_grain == Some(true) {
            return Err(BlockError::unsupported("Flat image can't enable zeroed grain"));
        }
        if options.backing_file.iter().any(|name| name.contains(['"', '\n', '\0'])) {
            return Err(BlockError::invalid(
                "the name of a backing file has a character that no descriptor can hold",
            ));
        }
        plan.parts().try_for_each(|part| plan.layout(part, options).map(drop))?;
        Ok(plan)
    }

    fn is_flat(&self) -> bool {
        matches!(self.subformat, Subformat::MonolithicFlat | Subformat::TwoGbMaxExtentFlat)
    }

    /// Whether the descriptor is a file of its own.
    fn is_split(&self) -> bool {
        !matches!(self.subformat, Subformat::MonolithicSparse | Subformat::StreamOptimized)
    }

    /// Sectors of each file.
    fn parts(&self) -> impl Iterator<Item = u64> + use<> {
        let most = match self.subformat {
            Subformat::TwoGbMaxExtentSparse | Subformat::TwoGbMaxExtentFlat => PART / SECTOR,
            _ => u64::MAX,
        };
        let mut left = Some(self.sectors);
        std::iter::from_fn(move || {
            let part = left?.min(most);
            left = left.map(|left| left - part).filter(|left| *left > 0);
            Some(part)
        })
    }

    /// The header of a sparse file, with everything's place.
    fn layout(&self, sectors: u64, options: &VmdkCreateOptions) -> Result<Hosted> {
        let zeroed = options.zeroed_grain.unwrap_or(false);
        let stream = self.subformat == Subformat::StreamOptimized;
        let mut header = if stream { Hosted::stream(sectors, zeroed) } else { Hosted::new(sectors, zeroed) };
        header.grain = self.grain;
        let tables = sectors.div_ceil(self.grain * ENTRIES);
        let (directory, all_tables) = ((tables * 4).div_ceil(SECTOR), tables * ENTRIES * 4 / SECTOR);
        let first = 1 + DESCRIPTOR;
        let end = if stream {
            header.directory = first;
            first + directory
        } else {
            header.redundant = first;
            header.directory = first + directory + all_tables;
            first + 2 * (directory + all_tables)
        };
        header.descriptor = (1, DESCRIPTOR);
        header.overhead = end.next_multiple_of(self.grain);
        let too_large =
            || BlockError::new(ErrorKind::Limit, "the image size is too large for file format 'vmdk'");
        if header.overhead > u64::from(u32::MAX) {
            return Err(too_large());
        }
        header.shape().map_err(|_| too_large())?;
        Ok(header)
    }
}

async fn create(request: CreateRequest<'_, VmdkCreateOptions>) -> Result<()> {
    let CreateRequest { file, size, options, places } = request;
    let plan = Plan::new(size, &options)?;
    let parent = match &options.backing_file {
        Some(name) => Some(parent_cid(places, name).await?),
        None => None,
    };
    let name = file.filename();
    let name = name.rsplit_once('/').map_or(name.as_str(), |(_, name)| name).to_owned();
    if name.contains(['"', '\n']) {
        return Err(BlockError::invalid("the name of the file has a character that no descriptor can hold"));
    }
    new_file::empty(&file, SECTOR as usize).await?;
    let mut lines = String::new();
    if plan.is_split() {
        for (index, sectors) in (0u32..).zip(plan.parts()) {
            let extent = extent_name(&plan, &name, index + 1);
            let node = places.further(&extent).await?;
            new_file::empty(&node, SECTOR as usize).await?;
            if plan.is_flat() {
                node.driver().resize(sectors * SECTOR, PreallocMode::Off).await?;
                lines += &format!("RW {sectors} FLAT \"{extent}\" 0\n");
            } else {
                make_sparse(&node, &plan.layout(sectors, &options)?, None).await?;
                lines += &format!("RW {sectors} SPARSE \"{extent}\"\n");
            }
            node.flush().await?;
        }
        let text = describe(&plan, &options, parent, &lines);
        write(&file, 0, text.as_bytes()).await?;
    } else {
        lines += &format!("RW {} SPARSE \"{name}\"\n", plan.sectors);
        let text = describe(&plan, &options, parent, &lines);
        make_sparse(&file, &plan.layout(plan.sectors, &options)?, Some(text)).await?;
    }
    file.flush().await
}

/// The content identifier of the image below, which must be one of ours.
async fn parent_cid(places: &mut Places, name: &str) -> Result<u32> {
    match places.backing_info(name, "vmdk").await?.specific {
        Some(ImageInfoSpecific::Vmdk(info)) => Ok(info.cid as u32),
        _ => Err(BlockError::invalid("backing_file must be a vmdk image")),
    }
}

/// The name of an extent's file beside the descriptor's.
fn extent_name(plan: &Plan, name: &str, number: u32) -> String {
    let (stem, suffix) = name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()).unwrap_or((name, ""));
    let suffix = if suffix.is_empty() { String::new() } else { format!(".{suffix}") };
    match plan.subformat {
        Subformat::MonolithicFlat => format!("{stem}-flat{suffix}"),
        Subformat::TwoGbMaxExtentFlat => format!("{stem}-f{number:03}{suffix}"),
        _ => format!("{stem}-s{number:03}{suffix}"),
    }
}

/// The text of the descriptor.
fn describe(plan: &Plan, options: &VmdkCreateOptions, parent: Option<u32>, lines: &str) -> String {
    // The one value that stands for nothing is left out.
    let cid = (rt::random_u64() as u32).min(NO_PARENT - 1);
    let hint = options.backing_file.as_ref();
    let hint = hint.map_or(String::new(), |name| format!("parentFileNameHint=\"{name}\""));
    let adapter = options.adapter_type.unwrap_or(Adapter::Ide);
    let (cylinders, heads, sectors) = geometry(plan.sectors, adapter == Adapter::Ide);
    let (hardware, tools) = (options.hwversion.as_deref(), options.toolsversion.as_deref());
    format!(
        "# Disk DescriptorFile\n\
         version=1\n\
         CID={cid:08x}\n\
         parentCID={parent:08x}\n\
         createType=\"{create_type}\"\n\
         {hint}\n\
         # Extent description\n\
         {lines}\n\
         # The Disk Data Base\n\
         #DDB\n\n\
         ddb.virtualHWVersion = \"{hardware}\"\n\
         ddb.geometry.cylinders = \"{cylinders}\"\n\
         ddb.geometry.heads = \"{heads}\"\n\
         ddb.geometry.sectors = \"{sectors}\"\n\
         ddb.adapterType = \"{adapter}\"\n\
         ddb.toolsVersion = \"{tools}\"\n",
        parent = parent.unwrap_or(NO_PARENT),
        create_type = plan.subformat.name(),
        hardware = hardware.unwrap_or("4"),
        adapter = adapter.name(),
        tools = tools.unwrap_or("2147483647"),
    )
}

/// Makes a sparse file without grains; its header comes last.
async fn make_sparse(file: &Arc<Node>, header: &Hosted, descriptor: Option<String>) -> Result<()> {
    let end = header.overhead * SECTOR;
    let fresh = file.length() == 0 && file.facts().grows_with_zeroes;
    if file.length() < end {
        file.driver().resize(end, PreallocMode::Off).await?;
    }
    if !fresh {
        file.write_zeroes(SECTOR, end - SECTOR, Request::DRIVER).await?;
    }
    if let Some(text) = descriptor.as_ref() {
        if text.len() as u64 > DESCRIPTOR * SECTOR {
            return Err(BlockError::invalid(
                "the descriptor is too long: names and versions in it must be shorter",
            ));
        }
        write(file, SECTOR, text.as_bytes()).await?;
    }
    let tables = header.capacity.div_ceil(header.grain * ENTRIES);
    let of_directory = (tables * 4).div_ceil(SECTOR);
    if !header.is_compressed() {
        for directory in [header.redundant, header.directory] {
            write_directory(file, directory, directory + of_directory, tables).await?;
        }
    }
    file.flush().await?;
    write(file, 0, &header.bytes()).await
}

/// Writes a directory, in sectors, whose tables follow each other from `first` on.
async fn write_directory(file: &Arc<Node>, directory: u64, first: u64, tables: u64) -> Result<()> {
    let mut places = (0..tables).map(|table| (first + table * ENTRIES * 4 / SECTOR) as u32).peekable();
    let mut at = directory * SECTOR;
    while places.peek().is_some() {
        let piece: Vec<u8> = places.by_ref().take(PIECE / 4).flat_map(u32::to_le_bytes).collect();
        write(file, at, &piece).await?;
        at += piece.len() as u64;
    }
    Ok(())
}

async fn write(file: &Arc<Node>, offset: u64, data: &[u8]) -> Result<()> {
    file.write(offset, Buf::from(BufMut::from_slice(data)), Request::DRIVER).await
}
