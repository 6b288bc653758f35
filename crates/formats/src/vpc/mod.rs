//! `vpc`: images of Virtual PC, Virtual Server, Hyper-V and Azure, called VHD.
//!
//! ```text
//! fixed    │ the disk │ footer │
//! dynamic  │ footer │ header │ table │ bitmap, block │ bitmap, block │ … │ footer │
//! ```
//!
//! Fixed and dynamic images are read, written and made; differencing ones, which are dynamic ones over a parent, are read.
//! Changes of a dynamic image keep the shared crash order (`block::metacache`); what a crash may leave, and where the disk
//! is another one elsewhere: `docs/formats/vpc.md`.
//! Specification: Microsoft, *Virtual Hard Disk Image Format Specification* 1.0.
mod check;
mod create;
mod driver;
mod fixed;
mod footer;
mod geometry;
mod header;
mod image;

use api::codec::Enumeration as _;
use api::{VpcOptions, VpcSizeCalculation};
use block::{
    BlockError, DriverType, ErrorKind, Glimpse, Link, Node, Open, OpenContext, Opened, Options, Result,
};
use driver::Dynamic;
use fixed::Fixed;
use footer::{COOKIE, FOOTER, Footer, Kind, NoFooter};
use geometry::{SECTOR, sectors_of};
use header::{HEADER, Header};
use image::Image;
use rt::{BoxFuture, BufMut};
use std::sync::Arc;

/// The `vpc` driver.
pub const VPC: DriverType = DriverType {
    name: "vpc",
    probe: Some(probe),
    open: &Open(open),
    create: Some(&create::CREATE),
    create_options: create::OPTIONS,
    ..DriverType::FORMAT
};

/// A dynamic disk begins with a footer. A fixed one has it at the end alone, where any disk may have the same bytes: it is
/// a raw disk to whoever is not told what it is.
fn probe(seen: &Glimpse<'_>) -> u32 {
    if seen.head.starts_with(COOKIE) { 100 } else { 0 }
}

fn open(context: &mut OpenContext, options: VpcOptions) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(async move {
        let (child, file) = context.file().await?;
        let named = |e: BlockError| e.context(format!("VHD image '{}'", file.filename()));
        let footer = read_footer(&file).await.map_err(named)?;
        let by = options.force_size_calc;
        let size = size_of(&footer, by).map_err(named)?;
        if footer.kind == Kind::Fixed {
            let room = file.length().saturating_sub(FOOTER as u64 - 1);
            if size > room {
                let text =
                    format!("the disk has {size} bytes, and the file ends before all of them are there");
                return Err(named(BlockError::corrupt(text).at(file.length())));
            }
            let driver = Fixed { edges: context.edges().clone(), file: child, size, naming: naming(by) };
            return Ok(Opened { driver: Arc::new(driver), filename: None });
        }
        let header = read_header(&file, &footer, size).await.map_err(named)?;
        let differencing = footer.kind == Kind::Differencing;
        if differencing && !context.common().read_only && !context.fall_back_to_read_only() {
            let text = "images over a parent are only read; 'convert' makes a whole one";
            return Err(named(BlockError::new(ErrorKind::ReadOnly, text)));
        }
        let parent = if differencing { header.parent(&file).await.map_err(named)? } else { None };
        if differencing {
            let link = Link { filename: parent.clone(), format: Some("vpc".to_owned()) };
            let (_, backing) = context.backing(Some(&link)).await?;
            judge_parent(&header, backing).await.map_err(named)?;
        }
        let (edges, domain) = (context.edges().clone(), context.domain().clone());
        let image = Image::new((footer, header, size), (edges, child), domain);
        Ok(Opened {
            driver: Arc::new(Dynamic { image: Arc::new(image), parent, naming: naming(by) }),
            filename: None,
        })
    })
}

fn naming(by: Option<VpcSizeCalculation>) -> Options {
    let named = |by: VpcSizeCalculation| Options::new().with_str("force_size_calc", by.name());
    by.map(named).unwrap_or_default()
}

async fn read(file: &Arc<Node>, offset: u64, len: usize) -> Result<BufMut> {
    let (bytes, result) = file.read(offset, BufMut::with_len(len)).await;
    result.map(|()| bytes)
}

/// The footer at the front, or the one at the end, where the other is not there or is damaged. A sound one of a fixed disk at
/// the end counts in any case: what lies at the front of such a disk is its guest's.
async fn read_footer(file: &Arc<Node>) -> Result<Footer> {
    let length = file.length();
    if length < FOOTER as u64 - 1 {
        return Err(BlockError::invalid(format!("a file of {length} bytes is too short")));
    }
    // Early fixed images lack the last byte of theirs.
    let len = if length % SECTOR == SECTOR - 1 { FOOTER - 1 } else { FOOTER };
    let end = length.saturating_sub(len as u64);
    let back = Footer::parse(&read(file, end, len.min(length as usize)).await?);
    let back = match back {
        Ok(footer) if footer.kind == Kind::Fixed => return Ok(footer),
        other => other,
    };
    let front = match Footer::parse(&read(file, 0, FOOTER.min(length as usize)).await?) {
        Ok(footer) if footer.kind != Kind::Fixed => return Ok(footer),
        other => other.err(),
    };
    match back {
        Ok(footer) => Ok(footer),
        Err(NoFooter::Cookie) => match front.unwrap_or(NoFooter::Cookie) {
            NoFooter::Cookie => Err(BlockError::invalid("this is no VHD image: there is no footer")),
            wrong => Err(BlockError::of(ErrorKind::Corrupt, wrong).at(0)),
        },
        Err(wrong) => Err(BlockError::of(ErrorKind::Corrupt, wrong).at(end)),
    }
}

fn size_of(footer: &Footer, by: Option<VpcSizeCalculation>) -> Result<u64> {
    let size =
        sectors_of(footer, by).checked_mul(SECTOR).filter(|size| *size <= geometry::MOST_SECTORS * SECTOR);
    size.ok_or_else(|| {
        let text =
            format!("the footer states a size of {} bytes; 2,040 GiB are the most", footer.current_size);
        BlockError::new(ErrorKind::Limit, text)
    })
}

async fn read_header(file: &Arc<Node>, footer: &Footer, size: u64) -> Result<Header> {
    let at = footer.header;
    let inside = at.checked_add(HEADER as u64).is_some_and(|end| end <= file.length());
    if !inside {
        let text =
            format!("the dynamic header should be at {at:#x}, and the file has {} bytes", file.length());
        return Err(BlockError::corrupt(text));
    }
    let bytes = read(file, at, HEADER).await?;
    Header::parse(&bytes, size).map_err(|wrong| BlockError::of(ErrorKind::Corrupt, wrong).at(at))
}

/// Refuses another image in the place of the parent: what is not in the image would be another disk's.
async fn judge_parent(header: &Header, parent: Option<Arc<Node>>) -> Result<()> {
    let Some(parent) = parent.filter(|parent| parent.driver_name() == "vpc") else { return Ok(()) };
    let Some(file) = parent.primary() else { return Ok(()) };
    let id = read_footer(&file).await?.id;
    if id == header.parent_id {
        return Ok(());
    }
    let text =
        format!("'{}' is not the image that it was made over: their identifiers differ", file.filename());
    Err(BlockError::corrupt(text))
}
