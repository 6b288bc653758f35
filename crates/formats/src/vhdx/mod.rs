//! `vhdx`: images of Hyper-V since 2012.
//!
//! ```text
//!  identifier │ header │ header │ regions │ regions │ log │ block allocation table │ metadata │ blocks …
//!  0            64 KiB   128 KiB  192 KiB   256 KiB   1 MiB and on, in any order
//! ```
//!
//! Dynamic and fixed images are read, written and made; images over a parent are read. Changes of the block allocation table
//! go through the log ([`journal`]), whose entries another program, or the next open, carries out after a crash ([`replay`]).
//! Order on disk, and what is refused: `docs/formats/vhdx.md`.
//! Specification: MS-VHDX, *Virtual Hard Disk v2 (VHDX) File Format*.
mod bat;
mod change;
mod check;
mod create;
mod driver;
mod header;
mod image;
mod journal;
mod log;
mod map;
mod metadata;
mod parent;
mod regions;
mod replay;
mod used;
mod words;

use api::codec::NoArguments;
use bat::Bat;
use block::{BlockError, DriverType, ErrorKind, Glimpse, Link, Node, Open, OpenContext, Opened, Result};
use driver::Vhdx;
use header::Current;
use image::Image;
use metadata::Metadata;
use parent::Parent;
use regions::Regions;
use replay::{Replay, Seen};
use rt::{BoxFuture, BufMut};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What the file begins with.
const IDENTIFIER: &[u8; 8] = b"vhdxfile";
/// What everything behind the headers is aligned to, in bytes.
const MIB: u64 = 1 << 20;

/// The `vhdx` driver.
pub const VHDX: DriverType = DriverType {
    name: "vhdx",
    probe: Some(probe),
    open: &Open(open),
    create: Some(&create::CREATE),
    create_options: create::OPTIONS,
    ..DriverType::FORMAT
};

fn probe(seen: &Glimpse<'_>) -> u32 {
    if seen.head.starts_with(IDENTIFIER) { 100 } else { 0 }
}

/// Reads; zeroes beyond the end of the file.
async fn read(file: &Arc<Node>, offset: u64, len: usize) -> Result<BufMut> {
    let (bytes, result) = file.read_or_zero(offset, BufMut::with_len(len)).await;
    result.map(|()| bytes)
}

fn open(context: &mut OpenContext, _: NoArguments) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(async move {
        let (child, file) = context.file().await?;
        let named = |e: BlockError| e.context(format!("VHDX image '{}'", file.filename()));
        if read(&file, 0, IDENTIFIER.len()).await?[..] != *IDENTIFIER {
            return Err(named(BlockError::invalid("this is no VHDX image: the file does not begin as one")));
        }
        let current = Current::read(&file).await.map_err(named)?;
        let replay = Replay::find(&file, &current.header).await.map_err(named)?;
        if replay.is_some() && context.common().read_only {
            return Err(BlockError::new(ErrorKind::Permission, must_be_replayed(&file.filename())));
        }
        let seen = Seen { file: &file, log: replay.as_ref() };
        let regions = Regions::read(seen).await.map_err(named)?;
        let metadata = Metadata::read(seen, regions.metadata).await.map_err(named)?;
        let bat = Bat::new(&metadata);
        if bat.entries() * 8 > regions.bat.len || replay.is_none() && regions.bat.end() > file.length() {
            let text = "the block allocation table is shorter than the disk needs, or does not end before the file does";
            return Err(named(BlockError::corrupt(text).at(regions.bat.offset)));
        }
        let Parent { name, linkage } = metadata.parent.as_deref().map(parent::parse).unwrap_or_default();
        if metadata.parent.is_some() {
            if !context.common().read_only && !context.fall_back_to_read_only() {
                let text = "images over a parent are only read; 'convert' makes a whole one";
                return Err(named(BlockError::new(ErrorKind::ReadOnly, text)));
            }
            let link = Link { filename: name.clone(), format: Some("vhdx".to_owned()) };
            let (_, backing) = context.backing(Some(&link)).await?;
            judge_parent(&linkage, backing).await.map_err(named)?;
        }
        let (edges, domain) = (context.edges().clone(), context.domain().clone());
        let image = Arc::new(Image::new((current, regions, metadata), (edges, child), domain));
        let driver = Vhdx { image, parent: name, replayed: AtomicBool::new(false) };
        Ok(Opened { driver: Arc::new(driver), filename: None })
    })
}

/// Scripts know how such an image is told of, and what is to be done.
fn must_be_replayed(file: &str) -> String {
    format!(
        "VHDX image '{file}' was not closed, and is opened for reading only: what its log holds has to be carried out first\n\
         To replay the log, run:\nqemu-img check -r all '{file}'"
    )
}

/// Refuses another image in the place of the parent: what is not in the image would be another disk's.
async fn judge_parent(linkage: &[words::Guid], parent: Option<Arc<Node>>) -> Result<()> {
    let Some(parent) = parent.filter(|parent| parent.driver_name() == "vhdx") else { return Ok(()) };
    let Some(file) = parent.primary() else { return Ok(()) };
    if linkage.contains(&Current::read(&file).await?.header.data_write) {
        return Ok(());
    }
    let text = format!(
        "'{}' is not as it was when the image was made over it: their identifiers differ",
        file.filename()
    );
    Err(BlockError::corrupt(text))
}
