//! Making an image.
//!
//! The footer at the front, or of a fixed image the one at the end, comes last: without it the file is no image.
use super::footer::{FOOTER, Footer, Kind};
use super::geometry::{Geometry, SECTOR, of_new_disk};
use super::header::{BLOCK, HEADER, Header};
use crate::new_file;
use api::{BlockdevVpcSubformat, VpcCreateOptions};
use block::{BlockError, Create, CreateOption, CreateRequest, ErrorKind, Node, OptionKind, Request, Result};
use rt::{Buf, BufMut};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where the table of a new image begins.
const TABLE: u64 = (FOOTER + HEADER) as u64;
/// Bytes written at a time.
const PIECE: u64 = 1 << 20;
/// Seconds from 1970 to 2000.
const EPOCH: Duration = Duration::from_secs(946_684_800);

pub(super) const OPTIONS: &[CreateOption] = &[
    CreateOption::SIZE,
    CreateOption::new(
        "subformat",
        OptionKind::Str,
        "Type of virtual hard disk format. Supported formats are {dynamic (default) | fixed} ",
    ),
    CreateOption::new(
        "force_size",
        OptionKind::Bool,
        "Force disk size calculation to use the actual size specified, rather than using the nearest CHS-based calculation",
    ),
];

pub(super) const CREATE: Create<VpcCreateOptions> = Create {
    adapt: None,
    judge: |size, options| Plan::new(size, options).map(drop),
    create: |request| Box::pin(create(request)),
    measure: None,
};

/// What is to be made, of options that have been judged.
struct Plan {
    kind: Kind,
    exact: bool,
    /// Bytes of the disk.
    size: u64,
    geometry: Geometry,
}

impl Plan {
    fn new(size: u64, options: &VpcCreateOptions) -> Result<Self> {
        let kind = match options.subformat.unwrap_or(BlockdevVpcSubformat::Dynamic) {
            BlockdevVpcSubformat::Dynamic => Kind::Dynamic,
            BlockdevVpcSubformat::Fixed => Kind::Fixed,
        };
        let exact = options.force_size.unwrap_or(false);
        let (sectors, geometry) = of_new_disk(size, exact).ok_or_else(|| {
            let text = "The image size is too large for file format 'vpc'";
            BlockError::new(ErrorKind::Limit, text)
        })?;
        Ok(Self { kind, exact, size: sectors * SECTOR, geometry })
    }

    fn footer(&self) -> Footer {
        let halves = [rt::random_u64(), rt::random_u64()];
        let mut id = [0; 16];
        id.iter_mut()
            .zip(halves.iter().flat_map(|half| half.to_be_bytes()))
            .for_each(|(to, byte)| *to = byte);
        let now = SystemTime::now().duration_since(UNIX_EPOCH + EPOCH).unwrap_or_default();
        let creator = if self.exact { *b"qem2" } else { *b"qemu" };
        Footer::new(self.kind, creator, self.size, self.geometry, id, now.as_secs() as u32)
    }
}

async fn create(request: CreateRequest<'_, VpcCreateOptions>) -> Result<()> {
    let CreateRequest { file, size, options, .. } = request;
    let plan = Plan::new(size, &options)?;
    let footer = Buf::from_slice(&plan.footer().bytes);
    match plan.kind {
        Kind::Fixed => {
            empty(&file, plan.size + FOOTER as u64).await?;
            // A device keeps what it has: its end is the image's, too.
            let end = file.length().max(plan.size + FOOTER as u64) - FOOTER as u64;
            file.write(end, footer, Request::DRIVER).await?;
        }
        Kind::Dynamic | Kind::Differencing => {
            let entries = plan.size.div_ceil(BLOCK.into());
            let table = (entries * 4).next_multiple_of(SECTOR);
            empty(&file, TABLE + table + FOOTER as u64).await?;
            let header = Header::new_bytes(TABLE, entries as u32);
            file.write(FOOTER as u64, Buf::from_slice(&header), Request::DRIVER).await?;
            for at in (0..table).step_by(PIECE as usize) {
                let mut unused = BufMut::with_len(PIECE.min(table - at) as usize);
                unused.fill(0xff);
                file.write(TABLE + at, unused.freeze(), Request::DRIVER).await?;
            }
            file.write(TABLE + table, footer.clone(), Request::DRIVER).await?;
            file.flush().await?;
            file.write(0, footer, Request::DRIVER).await?;
        }
    }
    file.flush().await
}

/// Takes the old content away, the footers of a device, too, and gives the file its length.
async fn empty(file: &Arc<Node>, need: u64) -> Result<()> {
    new_file::make_of_length(file, need, FOOTER).await?;
    if file.facts().grows_with_zeroes {
        return Ok(());
    }
    file.write(file.length() - FOOTER as u64, BufMut::zeroed(FOOTER).freeze(), Request::DRIVER).await?;
    file.flush().await
}
