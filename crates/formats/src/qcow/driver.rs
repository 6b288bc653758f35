//! The driver: qcow as the core sees it.
use super::compressed::Streams;
use super::header::Header;
use crate::encryption;
use crate::overlay;
use crate::streams::Stream;
use crate::two_level::{Children, Entry, Geometry, Image, Layout};
use api::{BlockdevQcowEncryption, QcowOptions};
use block::metacache::{Be64, Format, MetadataFile, Order};
use block::{
    BlockError, Coding, Common, Driver, DriverInfo, Edge, ErrorKind, Extent, Facts, Flags, Link, MapChange,
    Node, OpenContext, Opened, Opt, Options, Perms, Request, Result, Secret, Undo, Want, WritePlan,
};
use rt::{BoxFuture, BufMut};
use std::sync::Arc;

/// Mark of an entry of a compressed cluster.
const COMPRESSED: u64 = 1 << 63;

/// What qcow has of its own.
pub(super) struct Qcow {
    header: Header,
    pub streams: Streams,
}

impl Layout for Qcow {
    type Codec = Be64;

    const NAME: &'static str = "qcow";
    const ZERO: Option<u64> = None;
    const DATA_BEFORE_TABLE: bool = false;
    const ADVICE: &'static str =
        "; what can be read of the image can be copied by 'cairn img convert --salvage'";

    fn entry(word: u64, geometry: &Geometry) -> Entry {
        if word & COMPRESSED != 0 {
            let place_bits = 63 - geometry.cluster_bits;
            let len = (word & !COMPRESSED) >> place_bits;
            return Entry::Stream(Stream { offset: word & ((1 << place_bits) - 1), len });
        }
        match word {
            0 => Entry::Hole,
            _ if geometry.within(word) == 0 => Entry::Data(word),
            _ => Entry::Bad("it is not aligned to a cluster"),
        }
    }

    /// The walk before it may have found the clusters of old streams free.
    async fn make_header_ready(&self, _: &MetadataFile) -> Result<()> {
        self.streams.forget().await;
        Ok(())
    }
}

/// The entry of a cluster that is compressed.
pub(super) fn stream_entry(stream: Stream, geometry: &Geometry) -> u64 {
    COMPRESSED | stream.len << (63 - geometry.cluster_bits) | stream.offset
}

/// There is one kind of encryption: it need not be told.
pub(super) fn adapt(options: &mut Options) -> Result<()> {
    if let Some(mut encrypt) = options.take_dict("encrypt")? {
        if encrypt.get("format").is_none() {
            encrypt.set("format", Opt::Str("aes".to_owned()));
        }
        options.set("encrypt", Opt::Dict(encrypt));
    }
    Ok(())
}

/// Opens an image.
pub(super) fn open(context: &mut OpenContext, options: QcowOptions) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(async move {
        let (file_id, file) = context.file().await?;
        let named = |e: BlockError| e.context(format!("qcow image '{}'", file.filename()));
        let header = Header::read(&file).await.map_err(named)?;
        if file.read_only() && !context.common().read_only && !context.fall_back_to_read_only() {
            let text = format!("Block node '{}' is read-only", file.name());
            return Err(BlockError::new(ErrorKind::ReadOnly, text));
        }
        let key_secret = match options.encrypt {
            Some(BlockdevQcowEncryption::Aes(aes)) => Some(aes.key_secret),
            None => None,
        };
        if key_secret.is_some() && !header.encrypted {
            let text = "No encryption in image header, but options specified format 'aes'";
            return Err(named(BlockError::invalid(text)));
        }
        let key_secret = key_secret.flatten();
        let coding = if !header.encrypted {
            None
        } else if context.common().without_content {
            Some(encryption::locked())
        } else {
            let id = key_secret.as_deref();
            let key =
                encryption::passphrase_of(context.objects(), "encrypt.key-secret", id).map_err(named)?;
            Some(encryption::qcow_aes(&key).map_err(named)?)
        };
        let link = Link { filename: header.backing_name.clone(), format: None };
        let (backing, _) = context.backing(Some(&link)).await?;
        let children = Children { edges: context.edges().clone(), file: file_id, backing };
        let (geometry, size) = (header.geometry(), header.size);
        let names_backing = header.backing_name.is_some();
        let layout = Qcow { header, streams: Streams::default() };
        let mut image = Image::new(layout, geometry, size, children, context.domain().clone());
        image.set_names_backing(names_backing);
        image.encrypted = coding.is_some();
        let driver = QcowDriver { image: Arc::new(image), coding, key_secret };
        Ok(Opened { driver: Arc::new(driver), filename: None })
    })
}

/// An open image.
struct QcowDriver {
    image: Arc<Image<Qcow>>,
    coding: Option<Arc<dyn Coding>>,
    /// The id of the secret that the image is open with.
    key_secret: Option<String>,
}

impl QcowDriver {
    /// The header never changes: another one is another image.
    async fn check_header(&self) -> Result<()> {
        let file = self.image.order.file.node()?;
        if Header::read(&file).await? == self.image.layout.header {
            return Ok(());
        }
        let text = format!("'{}' was changed while it was open here; open it again", file.filename());
        Err(BlockError::new(ErrorKind::Busy, text))
    }
}

impl Driver for QcowDriver {
    fn facts(&self) -> Facts {
        let image = &self.image;
        Facts {
            mapping: true,
            cluster_size: Some(image.geometry.cluster_size()),
            can_write_zeroes: !image.encrypted && !image.shows_backing(),
            grows_with_zeroes: true,
            // Streams are not encrypted: what must not be readable is not stored so.
            can_compress: !image.encrypted,
            can_fill: true,
            ..Facts::default()
        }
    }

    fn length(&self) -> u64 {
        self.image.size()
    }

    fn coding(&self) -> Option<Arc<dyn Coding>> {
        self.coding.clone()
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
        Box::pin(async move {
            self.image.first_write().await?;
            match change {
                MapChange::Data if request.has(Flags::COMPRESSED) => {
                    self.image.plan_compressed(offset, len, request).await
                }
                MapChange::Data => self.image.plan_data(offset, len, request).await,
                MapChange::Zero | MapChange::Discard => {
                    self.image.plan_clearing(offset, len, change, request).await
                }
            }
        })
    }

    fn read(&self, offset: u64, buf: BufMut) -> BoxFuture<'_, (BufMut, Result<()>)> {
        Box::pin(self.image.read_encoded(offset, buf))
    }

    fn is_settled(&self, offset: u64, len: u64) -> bool {
        self.image.is_settled(offset, len)
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(Order::flush(&self.image))
    }

    fn make_empty(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.image.layout.streams.forget().await;
            self.image.make_empty().await
        })
    }

    fn reclaim(&self) -> BoxFuture<'_, bool> {
        Box::pin(Order::reclaim(&self.image))
    }

    fn start<'a>(&'a self, common: &'a Common) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            if common.inactive {
                return Ok(());
            }
            if !common.force_share {
                self.check_header().await?;
            }
            if !common.read_only {
                self.image.order.access.allow(false);
            }
            Ok(())
        })
    }

    fn set_writable(&self, writable: bool) -> BoxFuture<'_, Result<Undo>> {
        Box::pin(async move {
            if writable {
                self.image.order.access.allow(false);
            } else {
                self.image.end_changes(true).await?;
            }
            Ok(Order::undo(&self.image, writable, false))
        })
    }

    fn reload<'a>(&'a self, _: &'a Common) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.check_header().await?;
            self.image.layout.streams.forget().await;
            self.image.forget_tables();
            Ok(())
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.image.end_changes(false))
    }

    fn child_perms(&self, child: &Edge, parents: Perms, read_only: bool) -> Perms {
        overlay::child_perms(child, parents, read_only)
    }

    fn naming_options(&self) -> Options {
        encryption::naming_options("encrypt.key-secret", self.key_secret.as_deref())
    }

    fn judge_passphrase<'a>(&'a self, passphrase: &'a Secret) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let none = || BlockError::unsupported("the image is not encrypted");
            encryption::judge_qcow_aes(&**self.coding.as_ref().ok_or_else(none)?, passphrase)
        })
    }

    fn info(&self) -> DriverInfo {
        DriverInfo {
            cluster_size: Some(self.image.geometry.cluster_size()),
            dirty: Some(false),
            encrypted: self.image.encrypted,
            backing_filename: self.image.layout.header.backing_name.clone(),
            ..DriverInfo::default()
        }
    }

    fn attached(&self, node: &Arc<Node>) {
        self.image.order.file.attached(node);
    }
}
