//! Opening: the file's first bytes tell whether it is a descriptor or a sparse file; then come the extents, each through the
//! open policy, and the image below.
use super::descriptor::{Descriptor, ExtentLine, LineKind, MOST};
use super::driver::Vmdk;
use super::extent::{Kind, Part};
use super::grains::Grains;
use super::header::{self, AT_END, Hosted, SECTOR, sectors};
use super::image::{DescriptorPlace, Image};
use super::se_sparse::SeSparse;
use super::stream::{self, Stream};
use super::tables::{Stored, Tables};
use api::codec::NoArguments;
use block::metacache::{Access, MetadataFile};
use block::{BlockError, ChildId, ChildName, ChildRole, ChildSpec, Link, Node, OpenContext, Opened, Result};
use parking_lot::RwLock;
use rt::{BoxFuture, BufMut};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The subformats whose descriptor is a file of its own.
const WITH_EXTENTS: [&str; 8] = [
    "monolithicFlat",
    "twoGbMaxExtentSparse",
    "twoGbMaxExtentFlat",
    "vmfs",
    "vmfsSparse",
    "seSparse",
    "fullDevice",
    "custom",
];
/// The least memory for the tables of one extent, in bytes.
const LEAST_CACHE: u64 = 64 << 10;

pub fn open(context: &mut OpenContext, _: NoArguments) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(async move {
        let (child, file) = context.file().await?;
        let name = file.filename();
        let image = open_image(context, child, &file).await.map_err(|e| e.about_file(&name))?;
        Ok(Opened { driver: Arc::new(Vmdk { image: Arc::new(image) }), filename: None })
    })
}

async fn open_image(context: &mut OpenContext, child: ChildId, file: &Arc<Node>) -> Result<Image> {
    let head = read(file, 0, SECTOR.min(file.length())).await?;
    let sparse = match Hosted::parse(&head) {
        // A header without a disk only carries the descriptor.
        Some(hosted) => Some(hosted).filter(|hosted| hosted.capacity != 0 || hosted.descriptor.0 == 0),
        None => None,
    };
    let is_sparse = sparse.is_some() || head.starts_with(b"COWD");
    let (place, descriptor) = descriptor(file, &head).await?;
    let (create_type, parts) = if is_sparse {
        let cache = context.limits().cache_bytes;
        let names_parent = descriptor.named_parent().is_some();
        let (mut part, _) = sparse_part(context, child, file, cache, names_parent).await?;
        part.word = "";
        let default = if sparse.is_some() { "monolithicSparse" } else { "vmfsSparse" };
        (descriptor.create_type.clone().unwrap_or_else(|| default.to_owned()), vec![part])
    } else {
        let create_type = descriptor
            .create_type
            .clone()
            .ok_or_else(|| BlockError::invalid("invalid VMDK image descriptor: it tells no createType"))?;
        if !WITH_EXTENTS.contains(&create_type.as_str()) {
            return Err(BlockError::unsupported(format!("Unsupported image type '{create_type}'")));
        }
        (create_type, extents(context, &descriptor).await?)
    };
    let len = parts.iter().map(|part| part.len).sum();
    if !context.common().read_only
        && parts.iter().any(|part| matches!(part.kind, Kind::SeSparse(_) | Kind::Zero))
    {
        context.fall_back_to_read_only();
    }
    let link = Link { filename: descriptor.named_parent().cloned(), format: Some("vmdk".to_owned()) };
    context.backing(Some(&link)).await?;
    let mut descriptor = descriptor;
    descriptor.create_type = Some(create_type);
    Ok(Image {
        edges: context.edges().clone(),
        file: MetadataFile::new(context.edges().clone(), child, "vmdk"),
        place,
        descriptor: RwLock::new(descriptor),
        parts,
        len,
        cid: Access::default(),
        parent_is_known: AtomicBool::new(false),
    })
}

async fn read(file: &Arc<Node>, offset: u64, len: u64) -> Result<BufMut> {
    let (bytes, result) = file.read(offset, BufMut::with_len(len as usize)).await;
    result.map(|()| bytes)
}

/// Reads the descriptor: the file, or the place in it that a sparse file's header names.
pub async fn descriptor(file: &Arc<Node>, head: &[u8]) -> Result<(DescriptorPlace, Descriptor)> {
    if head.starts_with(b"COWD") {
        return Ok((DescriptorPlace::Nowhere, Descriptor::default()));
    }
    let (place, offset, len) = match Hosted::parse(head) {
        Some(Hosted { descriptor: (0, _) | (_, 0), .. }) => {
            return Ok((DescriptorPlace::Nowhere, Descriptor::default()));
        }
        Some(Hosted { descriptor: (at, len), .. }) => {
            let (offset, room) = (sectors(at)?, sectors(len)?.min(MOST));
            if offset.checked_add(room).is_none_or(|end| end > file.length()) {
                let text = format!("the descriptor lies beyond the end of the file ({:#x})", file.length());
                return Err(BlockError::corrupt(text).at(offset));
            }
            (DescriptorPlace::Inside { offset, room }, offset, room)
        }
        None if file.length() > MOST => {
            return Err(BlockError::invalid(
                "the file is neither a sparse file nor a descriptor: it is too long",
            ));
        }
        None => (DescriptorPlace::Whole, 0, file.length()),
    };
    Ok((place, Descriptor::parse(&read(file, offset, len).await?)?))
}

/// Opens the extents that the descriptor names.
async fn extents(context: &mut OpenContext, descriptor: &Descriptor) -> Result<Vec<Part>> {
    if descriptor.extents.is_empty() {
        return Err(BlockError::invalid("invalid VMDK image descriptor: it names no extent"));
    }
    let files = descriptor.extents.iter().filter(|line| line.kind != LineKind::Zero).count().max(1) as u64;
    let names_parent = descriptor.named_parent().is_some();
    let cache = (context.limits().cache_bytes / files).max(LEAST_CACHE);
    let (mut parts, mut start, mut index): (Vec<Part>, u64, u32) = (Vec::new(), 0, 0);
    for line in &descriptor.extents {
        let part = match line.kind {
            LineKind::Zero => part(sectors(line.sectors)?, Kind::Zero, line, None),
            _ => {
                let part = extent(context, line, index, cache, names_parent).await?;
                index += 1;
                part
            }
        };
        parts.push(Part { start, ..part });
        let end = start.checked_add(parts.last().map_or(0, |part| part.len));
        let end = end.filter(|end| i64::try_from(*end).is_ok());
        start =
            end.ok_or_else(|| BlockError::corrupt("the extents together are longer than a disk can be"))?;
    }
    Ok(parts)
}

fn part(len: u64, kind: Kind, line: &ExtentLine, child: Option<ChildId>) -> Part {
    Part { start: 0, len, kind, word: line.kind.name(), name: line.name.clone(), child }
}

async fn extent(
    context: &mut OpenContext,
    line: &ExtentLine,
    index: u32,
    cache: u64,
    names_parent: bool,
) -> Result<Part> {
    let name = ChildName { name: "extents", index: Some(index) };
    let flat = matches!(line.kind, LineKind::Flat { .. });
    let role = if flat { ChildRole::DATA } else { ChildRole::DATA.union(ChildRole::METADATA) };
    let stored = Link { filename: Some(line.name.clone()), format: None };
    let len = sectors(line.sectors)?;
    let (child, file) = context.child(ChildSpec { name, role, stored: Some(&stored) }).await?;
    let Some(file) = file else { return Ok(part(len, Kind::Absent, line, None)) };
    if !line.writable && !context.common().read_only && !context.fall_back_to_read_only() {
        let text = format!("the extent '{}' may only be read; open the image read-only", line.name);
        return Err(BlockError::new(block::ErrorKind::ReadOnly, text));
    }
    let (found, its) = match line.kind {
        LineKind::Flat { sector, .. } => {
            return Ok(part(len, Kind::Flat(child, sectors(sector)?), line, Some(child)));
        }
        LineKind::SeSparse => {
            let opened = SeSparse::open(context.edges(), child, context.domain(), cache as usize).await?;
            let its = opened.len;
            (part(len, Kind::SeSparse(opened), line, Some(child)), its)
        }
        _ => {
            let sparse = sparse_part(context, child, &file, cache, names_parent).await;
            let (sparse, its) = sparse.map_err(|e| e.about_file(&file.filename()))?;
            (part(len, sparse.kind, line, Some(child)), its)
        }
    };
    if its < len {
        let text = format!("the extent is for {its} bytes of the disk, and the descriptor says {len}");
        return Err(BlockError::corrupt(text).about_file(&file.filename()));
    }
    Ok(found)
}

/// Opens a sparse file; tells also how many bytes of the disk it is for.
async fn sparse_part(
    context: &OpenContext,
    child: ChildId,
    file: &Arc<Node>,
    cache: u64,
    names_parent: bool,
) -> Result<(Part, u64)> {
    let head = read(file, 0, SECTOR.min(file.length())).await?;
    let (edges, domain) = (context.edges(), context.domain());
    let tables =
        |shape, stored| Tables::new(edges, child, domain, (shape, stored), cache as usize, names_parent);
    let made = |shape: header::Shape, kind| {
        let part = Part { start: 0, len: shape.len, kind, word: "", name: String::new(), child: Some(child) };
        Ok((part, shape.len))
    };
    if let Some(shape) = header::cowd(&head) {
        let (shape, why) = (shape?, "vmfsSparse extents are not written to");
        return made(shape, Kind::Grains(Grains::new(tables(shape, Stored::Plain), Some(why))));
    }
    let (hosted, has_footer) = hosted(file, &head).await?;
    let shape = hosted.shape()?;
    if file.length() < shape.first {
        let text = format!("File truncated, expecting at least {} bytes", shape.first);
        return Err(BlockError::corrupt(text));
    }
    if shape.directory == AT_END {
        return Err(BlockError::corrupt("the footer tells no directory"));
    }
    if hosted.is_compressed() {
        let stream = Stream::new(tables(shape, Stored::Compressed), hosted, has_footer);
        return made(shape, Kind::Stream(stream));
    }
    let why = (hosted.version == 3).then_some("VMDK version 3 must be read only");
    made(shape, Kind::Grains(Grains::new(tables(shape, Stored::Plain), why)))
}

/// The header that leads to the tables: of the first sector, or of the footer, which is told too.
pub async fn hosted(file: &Arc<Node>, head: &[u8]) -> Result<(Hosted, bool)> {
    let front = Hosted::parse(head)
        .ok_or_else(|| BlockError::invalid("this is no sparse extent: it has no header"))?;
    match front.directory {
        AT_END => Ok((footer(file).await?, true)),
        _ => Ok((front, false)),
    }
}

/// Reads the header at the end of a stream.
async fn footer(file: &Arc<Node>) -> Result<Hosted> {
    let missing = || BlockError::corrupt("the stream has no end: its footer is missing");
    let at = file.length().checked_sub(stream::FOOTER_LEN).ok_or_else(missing)?;
    let last = read(file, at, stream::FOOTER_LEN).await?;
    stream::footer(&last).ok_or_else(|| missing().at(at))
}
