//! `blkdebug`: a filter for tests. It fails requests by rules ([`rules`]), holds them back at steps, and has limits as a
//! device may have them ([`limits`]).
//!
//! It takes every request itself, on the waiting path. What it does not fail passes to its child `image` unchanged, in
//! pieces as its limits ask. Its parents tell it of steps ([`block::Step`]); a request that is held back goes on when it is
//! told to, or when somebody waits for the requests inside.
mod limits;
mod options;
mod rules;
#[cfg(test)]
mod tests;

use api::{BlkdebugIOType, BlkdebugOptions, BlockPermission};
use block::{
    BlockError, Breakpoints, ChildRole, ChildSpec, Common, Driver, DriverInfo, DriverType, Edge, Extent,
    Facts, Filtered, Flags, Holder, MapChange, Open, OpenContext, Opened, Options, Perms, Reopened, Request,
    Result, Share, Source, Step, Want, WritePlan,
};
use limits::{Limits, pieces};
use rt::{BoxFuture, Buf, BufMut};
use rules::Engine;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};

/// The longest file of rules, in bytes.
const MAX_RULES: u64 = 1 << 20;

/// The `blkdebug` driver.
pub const BLKDEBUG: DriverType = DriverType {
    name: "blkdebug",
    prefixes: &["blkdebug:"],
    parse_filename: Some(options::parse_filename),
    adapt: Some(options::adapt),
    open: &Open(open),
    ..DriverType::PROTOCOL
};

struct Blkdebug {
    below: Filtered,
    engine: Engine,
    limits: Limits,
    held: Holder,
    /// Something was changed since the last flush.
    changed: AtomicBool,
    take: Share,
    unshare: Share,
    /// What it was opened with.
    options: BlkdebugOptions,
}

fn open(context: &mut OpenContext, options: BlkdebugOptions) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(async move {
        let limits = Limits::new(&options)?;
        let engine = Engine::default();
        if let Some(name) = &options.config {
            let rules = options::parse_rules(name, &read_rules(name).await?)?;
            rules.faults.iter().try_for_each(|rule| engine.add_fault(rule))?;
            rules.changes.iter().for_each(|rule| engine.add_change(rule));
        }
        options.inject_error.iter().flatten().try_for_each(|rule| engine.add_fault(rule))?;
        options.set_state.iter().flatten().for_each(|rule| engine.add_change(rule));
        let role = ChildRole::FILTERED.union(ChildRole::PRIMARY);
        let (child, _) = context.needed(ChildSpec { name: "image".into(), role, stored: None }).await?;
        engine.step(Step::None);
        let driver = Blkdebug {
            below: Filtered::new(context.edges().clone(), child),
            engine,
            limits,
            held: Holder::default(),
            changed: AtomicBool::new(false),
            take: permissions(options.take_child_perms.as_deref()),
            unshare: permissions(options.unshare_child_perms.as_deref()),
            options,
        };
        Ok(Opened { driver: Arc::new(driver), filename: None })
    })
}

async fn read_rules(name: &str) -> Result<String> {
    let failed = |e: std::io::Error| BlockError::os(format_args!("could not read the rules in '{name}'"), &e);
    let path = rt::fs::path(Path::new(name));
    let len = rt::fs::stat(&path).await.map_err(failed)?.len;
    if len > MAX_RULES {
        return Err(BlockError::invalid(format!("'{name}' is no file of rules: it has more than 1 MiB")));
    }
    let file = rt::fs::open(&path, &rt::OpenOptions::read_only()).await.map_err(failed)?;
    let text = file.read_exact(0, len as usize).await.map_err(failed)?;
    String::from_utf8(text.to_vec())
        .map_err(|_| BlockError::invalid(format!("'{name}' is no file of rules: it is no text")))
}

fn permissions(named: Option<&[BlockPermission]>) -> Share {
    let bit = |permission: &BlockPermission| match permission {
        BlockPermission::ConsistentRead => Share::READ,
        BlockPermission::Write => Share::WRITE,
        BlockPermission::WriteUnchanged => Share::WRITE_UNCHANGED,
        BlockPermission::Resize => Share::RESIZE,
    };
    named.into_iter().flatten().map(bit).fold(Share::NONE, Share::union)
}

impl Blkdebug {
    /// Fails, or delays, a request for which a rule is in force.
    async fn check(&self, kind: BlkdebugIOType, offset: u64, len: u64) -> Result<()> {
        use BlkdebugIOType::{Discard, Write, WriteZeroes};
        if matches!(kind, Discard | Write | WriteZeroes) && !self.changed.load(Relaxed) {
            self.changed.store(true, Release);
        }
        let Some(verdict) = self.engine.fault(kind, offset, len) else { return Ok(()) };
        if !verdict.delay.is_zero() {
            rt::sleep(verdict.delay).await;
        }
        let Some(errno) = verdict.errno else { return Ok(()) };
        if !verdict.immediately {
            rt::yield_now().await;
        }
        Err(BlockError::from_io(&std::io::Error::from_raw_os_error(errno)))
    }

    async fn read_pieces(&self, offset: u64, buf: BufMut) -> (BufMut, Result<()>) {
        let mut rest = buf;
        let mut done: Option<BufMut> = None;
        let mut result = Ok(());
        for piece in
            pieces(offset..offset.saturating_add(rest.len() as u64), self.limits.align, self.limits.transfer)
        {
            let len = piece.end - piece.start;
            result = self.check(BlkdebugIOType::Read, piece.start, len).await;
            let mut part = rest.split_to(len as usize);
            if result.is_ok() {
                (part, result) = match self.below.node() {
                    Ok(child) => child.read_or_zero(piece.start, part).await,
                    Err(e) => (part, Err(e)),
                };
            }
            match &mut done {
                Some(done) => done.unsplit(part),
                None => done = Some(part),
            }
            if result.is_err() {
                break;
            }
        }
        let whole = match done {
            None => rest,
            Some(done) if rest.is_empty() => done,
            Some(mut done) => {
                done.unsplit(rest);
                done
            }
        };
        (whole, result)
    }
}

impl Driver for Blkdebug {
    fn filtered(&self) -> Option<&Filtered> {
        Some(&self.below)
    }

    fn facts(&self) -> Facts {
        let child = self.below.facts();
        Facts {
            mapping: false,
            transparent: false,
            alignment: self.limits.align as u32,
            fua: false,
            can_compress: false,
            can_fill: false,
            steps: true,
            ..child
        }
    }

    fn info(&self) -> DriverInfo {
        DriverInfo { limits: self.limits.into(), ..DriverInfo::default() }
    }

    fn try_map(&self, _: u64, _: u64, _: Want) -> Option<Extent> {
        None
    }

    fn map(&self, offset: u64, len: u64, _: Want) -> BoxFuture<'_, Result<Extent>> {
        Box::pin(async move {
            self.check(BlkdebugIOType::BlockStatus, offset, len).await?;
            Ok(self.below.place(offset, len))
        })
    }

    fn prepare_write(&self, _: u64, _: u64, _: MapChange, _: Request) -> BoxFuture<'_, Result<WritePlan>> {
        Box::pin(async { Err(BlockError::unsupported("this driver changes no mappings")) })
    }

    fn try_read(&self, _: u64, _: &mut [u8]) -> Result<usize> {
        Ok(0)
    }

    fn try_write(&self, _: u64, _: &[u8]) -> Result<usize> {
        Ok(0)
    }

    fn read(&self, offset: u64, buf: BufMut) -> BoxFuture<'_, (BufMut, Result<()>)> {
        Box::pin(self.read_pieces(offset, buf))
    }

    fn write(&self, offset: u64, data: Buf, request: Request) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            // What the core has added behind the end is nobody's: the child would have to be grown for it.
            let (data, request) = match request.source() {
                Source::Padding { beyond } => {
                    let len = data.len().saturating_sub(beyond as usize);
                    (data.slice(0..len), request.sent_by(Source::Guest))
                }
                _ => (data, request),
            };
            let range = offset..offset.saturating_add(data.len() as u64);
            for piece in pieces(range, self.limits.align, self.limits.transfer) {
                let (start, len) = ((piece.start - offset) as usize, (piece.end - piece.start) as usize);
                self.check(BlkdebugIOType::Write, piece.start, len as u64).await?;
                self.below.node()?.write(piece.start, data.slice(start..start + len), request).await?;
            }
            Ok(())
        })
    }

    fn write_zeroes(&self, offset: u64, len: u64, request: Request) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let (align, most) = self.limits.zero;
            let child = self.below.node()?;
            for piece in pieces(offset..offset.saturating_add(len), align, most) {
                let len = piece.end - piece.start;
                if len.is_multiple_of(align) {
                    self.check(BlkdebugIOType::WriteZeroes, piece.start, len).await?;
                    child.write_zeroes(piece.start, len, request).await?;
                    continue;
                }
                if request.has(Flags::NO_FALLBACK) && piece.start == offset {
                    return Err(BlockError::unsupported("zeroes can't be written faster than data here"));
                }
                // Too short for the quick way.
                for piece in pieces(piece, self.limits.align, self.limits.transfer.min(MAX_RULES)) {
                    let len = piece.end - piece.start;
                    self.check(BlkdebugIOType::Write, piece.start, len).await?;
                    let zeroes = BufMut::zeroed(len as usize).freeze();
                    child.write(piece.start, zeroes, request.without(Flags::NO_FALLBACK)).await?;
                }
            }
            Ok(())
        })
    }

    fn discard(&self, offset: u64, len: u64, request: Request) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let (align, most) = self.limits.discard;
            for piece in pieces(offset..offset.saturating_add(len), align, most) {
                let len = piece.end - piece.start;
                self.check(BlkdebugIOType::Discard, piece.start, len).await?;
                self.below.node()?.discard(piece.start, len, request).await?;
            }
            Ok(())
        })
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            // Where there is nothing to make durable, nothing of it can fail.
            let flushed = match self.changed.swap(false, AcqRel) {
                true => self.check(BlkdebugIOType::Flush, 0, 0).await,
                false => Ok(()),
            };
            if flushed.is_err() {
                self.changed.store(true, Release);
            }
            flushed?;
            self.below.node()?.flush().await
        })
    }

    fn reopen<'a>(&'a self, options: Options, _: &Common) -> BoxFuture<'a, Result<Reopened<'a>>> {
        Box::pin(async move {
            if options.read::<BlkdebugOptions>()? != self.options {
                return Err(BlockError::invalid(
                    "rules and limits can't be changed while the node is in use",
                ));
            }
            Ok(Box::new(|| {}) as Reopened<'a>)
        })
    }

    fn announced(&self, step: Step) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if let Some(stay) = self.engine.step(step) {
                self.held.hold(stay.over()).await;
            }
        })
    }

    fn drain(&self, begins: bool) {
        self.held.drain(begins);
    }

    fn child_perms(&self, _: &Edge, parents: Perms, _: bool) -> Perms {
        Perms { need: parents.need.union(self.take), share: parents.share.without(self.unshare) }
    }

    fn allocated_size(&self) -> Option<u64> {
        None
    }

    fn name_over(&self, file: String) -> Option<String> {
        let named = BlkdebugOptions { config: self.options.config.clone(), ..BlkdebugOptions::default() };
        let config = named.config.as_deref().unwrap_or_default();
        (self.options == named).then(|| format!("blkdebug:{config}:{file}"))
    }

    fn naming_options(&self) -> Options {
        options::describe(&self.options)
    }

    fn breakpoints(&self) -> Option<&dyn Breakpoints> {
        Some(self)
    }
}

impl Breakpoints for Blkdebug {
    fn set(&self, step: Step, tag: &str) {
        self.engine.add_breakpoint(step, tag);
    }

    fn resume(&self, tag: &str) -> bool {
        self.engine.resume(tag)
    }

    fn remove(&self, tag: &str) -> Option<usize> {
        self.engine.remove(tag)
    }

    fn arrived(&self) -> Vec<String> {
        self.engine.arrived()
    }

    fn held<'a>(&'a self, tag: &'a str) -> BoxFuture<'a, ()> {
        Box::pin(self.engine.held(tag))
    }
}
