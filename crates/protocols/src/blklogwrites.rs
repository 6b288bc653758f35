//! `blklogwrites`: a filter that writes down every change of its child `file`, in the order in which they took effect, to its
//! child `log`. What reads logs of the kernel's dm-log-writes can replay it up to any point.
//!
//! ```text
//! sector 0   magic u64 · version u64 · entries u64 · sector size u32          the superblock
//! sector 1   sector u64 · sectors u64 · flags u64 · length u64                the first entry, a sector by itself
//! sector 2 … its data (none of a discard or flush) · the next entry · …       all little-endian
//! ```
//!
//! - A change is in the log before it is answered; changes of overlapping ranges take turns. The log is written by one at a time.
//! - The superblock counts entries that are in the log: it is written when enough came together, and with each flush, after which the
//!   log is durable. Behind a crash what it does not count is not part of the log.
//!
//! Specification: the kernel's documentation, "dm-log-writes".
use api::BlklogwritesOptions;
use block::{
    BlockError, ChildId, ChildRole, ChildSpec, Driver, DriverType, Edge, Edges, Extent, Facts, Filtered,
    Flags, Leases, MapChange, Open, OpenContext, Opened, Opt, Options, Perms, Request, Result, Share, Source,
    Want, WritePlan,
};
use futures_util::lock::Mutex as Lock;
use rt::{BoxFuture, Buf, BufMut};
use std::sync::Arc;

/// The `blklogwrites` driver.
pub const BLKLOGWRITES: DriverType =
    DriverType { name: "blklogwrites", open: &Open(open), ..DriverType::PROTOCOL };

const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;
const SECTOR_SIZES: std::ops::RangeInclusive<u32> = 512..=(1 << 23);
const UPDATE_INTERVAL: u64 = 4096;

/// Flags of an entry.
mod flag {
    pub const FLUSH: u64 = 1;
    pub const FUA: u64 = 2;
    pub const DISCARD: u64 = 4;
}

/// What an entry holds beside its place.
enum Payload {
    /// So many sectors, which follow.
    Data(Buf),
    /// So many bytes of zeroes, which follow.
    Zeroes(u64),
    /// So many bytes that were given up.
    Gone(u64),
}

struct Blklogwrites {
    below: Filtered,
    edges: Arc<Edges>,
    log: ChildId,
    sector: u64,
    interval: u64,
    leases: Arc<Leases>,
    place: Lock<Place>,
    given: BlklogwritesOptions,
}

/// Where the log goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    /// The next free sector.
    next: u64,
    /// Entries before it.
    entries: u64,
    /// How many of them the superblock counts.
    counted: u64,
}

fn open(context: &mut OpenContext, given: BlklogwritesOptions) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(async move {
        let below = context.filtered().await?;
        let role = ChildRole::METADATA.union(ChildRole::NAMED);
        let (log, node) = context.needed(ChildSpec { name: "log".into(), role, stored: None }).await?;
        let interval = given.log_super_update_interval.unwrap_or(UPDATE_INTERVAL);
        if interval == 0 {
            return Err(BlockError::invalid("'log-super-update-interval' must be at least 1"));
        }
        let (sector, place) = if given.log_append.unwrap_or(false) {
            if given.log_sector_size.is_some() {
                return Err(BlockError::invalid("'log-append' and 'log-sector-size' exclude each other"));
            }
            find_end(&node).await?
        } else {
            let size = given.log_sector_size.unwrap_or(512);
            (sector_size(size)?, Place { next: 1, entries: 0, counted: u64::MAX })
        };
        let (edges, place) = (context.edges().clone(), Lock::new(place));
        let leases = Leases::new();
        let driver = Blklogwrites { below, edges, log, sector, interval, leases, place, given };
        Ok(Opened { driver: Arc::new(driver), filename: None })
    })
}

fn sector_size(size: u32) -> Result<u64> {
    match SECTOR_SIZES.contains(&size) && size.is_power_of_two() {
        true => Ok(size.into()),
        false => Err(BlockError::invalid(format!(
            "a log has sectors of a power of two, from 512 bytes to 8 MiB, not of {size}"
        ))),
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    let part = bytes.get(at..at + 8).and_then(|part| part.try_into().ok());
    u64::from_le_bytes(part.unwrap_or_default())
}

/// The sector size of a log, and where it ends. It is followed as far as the file goes.
async fn find_end(log: &block::Node) -> Result<(u64, Place)> {
    let wrong = |offset: u64, what: String| {
        Err(BlockError::corrupt(format!("'{}' is no log to append to: {what}", log.filename())).at(offset))
    };
    let (head, read) = log.read_or_zero(0, BufMut::with_len(512)).await;
    read?;
    let (magic, version, entries) = (word(&head, 0), word(&head, 8), word(&head, 16));
    if magic != MAGIC || version != VERSION {
        return wrong(0, format!("its magic number is {magic:#x}, its version {version}"));
    }
    let sector = sector_size(word(&head, 24) as u32)?;
    let mut next = 1u64;
    for entry in 0..entries {
        let at = next.saturating_mul(sector);
        if at.saturating_add(sector) > log.length() {
            return wrong(at, format!("it ends before entry {entry} of {entries}"));
        }
        let (head, read) = log.read(at, BufMut::with_len(32)).await;
        read?;
        let (sectors, flags) = (word(&head, 8), word(&head, 16));
        let data = if flags & flag::DISCARD != 0 { 0 } else { sectors };
        next = next.saturating_add(1).saturating_add(data);
    }
    Ok((sector, Place { next, entries, counted: entries }))
}

impl Blklogwrites {
    /// Writes an entry behind the last one.
    async fn append(&self, offset: u64, payload: Payload, flags: u64) -> Result<()> {
        let log = self.edges.need(self.log)?;
        let mut place = self.place.lock().await;
        if place.counted == u64::MAX {
            // A new log: what is in the file is none of it.
            self.count(&log, &mut place).await?;
        }
        let bytes = match &payload {
            Payload::Data(data) => data.len() as u64,
            Payload::Zeroes(len) | Payload::Gone(len) => *len,
        };
        let sectors = bytes.div_ceil(self.sector);
        let mut head = BufMut::zeroed(self.sector as usize);
        for (at, value) in [(0, offset / self.sector), (8, sectors), (16, flags)] {
            head[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        let (at, mut stored) = (place.next * self.sector, 0);
        match payload {
            Payload::Data(data) => {
                stored = sectors;
                let whole = (sectors * self.sector) as usize;
                let padded = if data.len() == whole { data } else { padded(&data, whole) };
                log.write(at + self.sector, padded, Request::DRIVER).await?;
            }
            Payload::Zeroes(_) => {
                stored = sectors;
                log.write_zeroes(at + self.sector, sectors * self.sector, Request::DRIVER).await?;
            }
            Payload::Gone(_) => {}
        }
        log.write(at, head.freeze(), Request::DRIVER).await?;
        place.next += 1 + stored;
        place.entries += 1;
        if place.entries - place.counted >= self.interval || flags & flag::FLUSH != 0 {
            self.count(&log, &mut place).await?;
        }
        Ok(())
    }

    /// Writes the superblock.
    async fn count(&self, log: &block::Node, place: &mut Place) -> Result<()> {
        let mut head = BufMut::zeroed(self.sector as usize);
        for (at, value) in [(0, MAGIC), (8, VERSION), (16, place.entries), (24, self.sector)] {
            head[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        // What it counts must be there after a crash.
        log.flush().await?;
        log.write(0, head.freeze(), Request::DRIVER).await?;
        place.counted = place.entries;
        Ok(())
    }
}

fn padded(data: &[u8], len: usize) -> Buf {
    let mut whole = BufMut::zeroed(len);
    if let Some(front) = whole.get_mut(..data.len()) {
        front.copy_from_slice(data);
    }
    whole.freeze()
}

fn durable(request: Request) -> u64 {
    if request.has(Flags::FUA) { flag::FUA } else { 0 }
}

impl Driver for Blklogwrites {
    fn filtered(&self) -> Option<&Filtered> {
        Some(&self.below)
    }

    fn facts(&self) -> Facts {
        let alignment = self.sector as u32;
        Facts {
            mapping: false,
            transparent: false,
            alignment,
            fua: false,
            fua_zeroes: false,
            can_compress: false,
            can_fill: false,
            ..self.below.facts()
        }
    }

    fn try_map(&self, _: u64, _: u64, _: Want) -> Option<Extent> {
        None
    }

    fn prepare_write(&self, _: u64, _: u64, _: MapChange, _: Request) -> BoxFuture<'_, Result<WritePlan>> {
        Box::pin(async { Err(BlockError::unsupported("this driver changes no mappings")) })
    }

    fn try_write(&self, _: u64, _: &[u8]) -> Result<usize> {
        Ok(0)
    }

    fn write(&self, offset: u64, data: Buf, request: Request) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            // What the core has added behind the end is nobody's.
            let (data, request) = match request.source() {
                Source::Padding { beyond } => {
                    let len = data.len().saturating_sub(beyond as usize);
                    (data.slice(0..len), request.sent_by(Source::Guest))
                }
                _ => (data, request),
            };
            let _lease = self.leases.lease(offset, offset + data.len() as u64, true).await;
            self.below.node()?.write(offset, data.clone(), request).await?;
            self.append(offset, Payload::Data(data), durable(request)).await
        })
    }

    fn write_zeroes(&self, offset: u64, len: u64, request: Request) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let _lease = self.leases.lease(offset, offset.saturating_add(len), true).await;
            self.below.node()?.write_zeroes(offset, len, request).await?;
            self.append(offset, Payload::Zeroes(len), durable(request)).await
        })
    }

    fn discard(&self, offset: u64, len: u64, request: Request) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let _lease = self.leases.lease(offset, offset.saturating_add(len), true).await;
            self.below.node()?.discard(offset, len, request).await?;
            self.append(offset, Payload::Gone(len), flag::DISCARD).await
        })
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.below.node()?.flush().await?;
            self.append(0, Payload::Gone(0), flag::FLUSH).await?;
            self.edges.need(self.log)?.flush().await
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let log = self.edges.need(self.log)?;
            let mut place = self.place.lock().await;
            match place.counted == place.entries || place.counted == u64::MAX {
                true => Ok(()),
                false => self.count(&log, &mut place).await,
            }
        })
    }

    /// The log is this node's alone.
    fn child_perms(&self, child: &Edge, parents: Perms, read_only: bool) -> Perms {
        match child.name().name {
            "log" if read_only => Perms { need: Share::READ, share: Share::READ },
            "log" => Perms { need: Share::READ.union(Share::WRITE).union(Share::RESIZE), share: Share::READ },
            _ => parents,
        }
    }

    fn naming_options(&self) -> Options {
        match Opt::try_from(api::Encode::encode(&self.given)) {
            Ok(Opt::Dict(given)) => given,
            _ => Options::new(),
        }
    }
}
