//! The driver: a thin shell around the image.

use std::sync::Arc;

use api::codec::{Members, NoArguments};
use api::{DecodeError, Dict};
use block::BlockError;
use block::metacache::Order;
use block::{
    Common, Create, CreateRequest, Driver, DriverType, Edge, Extent, Facts, MapChange, Node, Open,
    OpenContext, Opened, Perms, Request, Result, Share, Undo, Want, WritePlan,
};
use rt::{BoxFuture, Buf, BufMut};

use crate::Bug;
use crate::header::{BLOCK, Header, TABLE, sum};
use crate::image::Image;

pub const DRIVERS: &[DriverType] =
    &[DriverType { name: "u32table", open: &Open(open), create: Some(&CREATE), ..DriverType::FORMAT }];

/// What an image is opened with beside its file.
struct TableOptions {
    bug: Option<String>,
}

impl api::codec::Object for TableOptions {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { bug: from.optional("bug")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("bug", &self.bug);
    }
}

const CREATE: Create<NoArguments> = Create { adapt: None, judge: |_, _| Ok(()), create, measure: None };

fn create(request: CreateRequest<'_, NoArguments>) -> BoxFuture<'_, Result<()>> {
    Box::pin(async move {
        let header = Header { size: request.size, in_use: false, sum: 0 };
        let table = vec![0; header.entries() as usize * 4];
        let mut bytes = Header { sum: sum(&table), ..header }.bytes();
        bytes.resize(TABLE as usize, 0);
        bytes.extend(table);
        bytes.resize((header.first_block() * BLOCK) as usize, 0);
        request.file.write(0, Buf::from_slice(&bytes), Request::DRIVER).await?;
        request.file.flush().await
    })
}

fn open(context: &mut OpenContext, options: TableOptions) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(async move {
        let (child, file) = context.file().await?;
        let bug = options.bug.unwrap_or_default();
        let (head, result) = file.read(0, BufMut::with_len(512)).await;
        result?;
        let header = Header::parse(&head).ok_or_else(|| BlockError::corrupt("this is no u32table image"))?;
        let (edges, domain) = (context.edges().clone(), context.domain().clone());
        let image = Image::new(edges, child, domain, header, Bug::named(&bug));
        Ok(Opened { driver: Arc::new(Table { image: Arc::new(image) }), filename: None })
    })
}

struct Table {
    image: Arc<Image>,
}

impl Driver for Table {
    fn facts(&self) -> Facts {
        Facts {
            mapping: true,
            cluster_size: Some(BLOCK),
            can_write_zeroes: true,
            grows_with_zeroes: true,
            ..Facts::default()
        }
    }

    fn length(&self) -> u64 {
        self.image.header.size
    }

    fn try_map(&self, offset: u64, len: u64, want: Want) -> Option<Extent> {
        self.image.try_map(offset, len, want)
    }

    fn map(&self, offset: u64, len: u64, want: Want) -> BoxFuture<'_, Result<Extent>> {
        Box::pin(self.image.map(offset, len, want))
    }

    fn prepare_write(
        &self,
        offset: u64,
        len: u64,
        change: MapChange,
        request: Request,
    ) -> BoxFuture<'_, Result<WritePlan>> {
        Box::pin(self.image.prepare(offset, len, change, request))
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(Order::flush(&self.image))
    }

    fn reclaim(&self) -> BoxFuture<'_, bool> {
        Box::pin(Order::reclaim(&self.image))
    }

    fn start<'a>(&'a self, common: &'a Common) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { if common.read_only { Ok(()) } else { self.image.become_writable().await } })
    }

    fn set_writable(&self, writable: bool) -> BoxFuture<'_, Result<Undo>> {
        Box::pin(async move {
            if writable {
                self.image.become_writable().await?;
            } else {
                self.image.end_changes(true).await?;
            }
            Ok(Order::undo(&self.image, writable, false))
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.image.end_changes(false))
    }

    fn child_perms(&self, _: &Edge, _: Perms, read_only: bool) -> Perms {
        // The table is held in memory: nobody else writes.
        let need = if read_only { Share::READ } else { Share::READ.union(Share::WRITE).union(Share::RESIZE) };
        Perms { need, share: Share::READ.union(Share::WRITE_UNCHANGED) }
    }

    fn attached(&self, node: &Arc<Node>) {
        self.image.order.file.attached(node);
    }
}
