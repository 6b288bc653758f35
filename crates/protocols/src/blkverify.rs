//! `blkverify`: does everything to an image and to a raw copy of the disk, and compares what both answer.
//!
//! ```text
//! blkverify:RAW:IMAGE
//!                 ┌▶ test   the image whose driver is on trial; its answers are given
//! request ─ lease ┤
//!                 └▶ raw    the copy that is trusted
//! ```
//!
//! When they differ, one of them is wrong, and nothing that comes after can be believed: the program is told
//! ([`Notice::Diverged`]), which ends, and every further request fails.
//!
//! Requests that overlap take turns, as far as one of them writes: else they could meet in another order in the image than in
//! the copy.
use api::PreallocMode;
use api::codec::NoArguments;
use block::{
    BlockError, ChildId, ChildRole, ChildSpec, Driver, DriverType, Edges, ErrorKind, Extent, ExtentKind,
    Facts, Lease, Leases, Node, Notice, Notices, Open, OpenContext, Opened, Opt, Options, Request, Result,
    Want,
};
use futures_util::future::join;
use rt::{BoxFuture, Buf, BufMut};
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};

const PREFIX: &str = "blkverify:";
/// The names of the options in which a file name's parts are kept until it is known how they are opened.
const RAW_NAME: &str = "x-raw";
const IMAGE_NAME: &str = "x-image";

/// The `blkverify` driver.
pub const BLKVERIFY: DriverType = DriverType {
    name: "blkverify",
    prefixes: &[PREFIX],
    parse_filename: Some(parse_filename),
    adapt: Some(adapt),
    open: &Open(open),
    ..DriverType::PROTOCOL
};

/// `blkverify:RAW:IMAGE`; a name without the prefix is the image's.
fn parse_filename(name: &str) -> Result<Options> {
    let Some(rest) = name.strip_prefix(PREFIX) else {
        return Ok(Options::new().with_str(IMAGE_NAME, name));
    };
    let Some((raw, image)) = rest.split_once(':') else {
        return Err(BlockError::invalid(format!(
            "'{name}' must be blkverify:RAW:IMAGE, a raw copy and an image"
        )));
    };
    Ok(Options::new().with_str(RAW_NAME, raw).with_str(IMAGE_NAME, image))
}

/// The children of a file name.
fn adapt(options: &mut Options) -> Result<()> {
    if let Some(name) = options.take_str("filename")? {
        for (name, value) in parse_filename(&name)?.iter() {
            options.set(name, value.clone());
        }
    }
    for (given, child) in [(RAW_NAME, "raw"), (IMAGE_NAME, "test")] {
        if let Some(filename) = options.take_str(given)? {
            let described = options.take_dict(child)?.unwrap_or_default().with_str("filename", &filename);
            options.set(child, Opt::Dict(described));
        }
    }
    Ok(())
}

struct Blkverify {
    edges: Arc<Edges>,
    test: ChildId,
    raw: ChildId,
    leases: Arc<Leases>,
    notices: Notices,
    /// The two have differed.
    diverged: AtomicBool,
}

fn open(context: &mut OpenContext, _: NoArguments) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(async move {
        let role = ChildRole::DATA.union(ChildRole::NAMED);
        let (raw, _) = context.needed(ChildSpec { name: "raw".into(), role, stored: None }).await?;
        let role = role.union(ChildRole::PRIMARY).union(ChildRole::IMAGE);
        let (test, _) = context.needed(ChildSpec { name: "test".into(), role, stored: None }).await?;
        let (edges, notices) = (context.edges().clone(), context.notices());
        let diverged = AtomicBool::new(false);
        let driver = Blkverify { edges, test, raw, leases: Leases::new(), notices, diverged };
        Ok(Opened { driver: Arc::new(driver), filename: None })
    })
}

impl Blkverify {
    /// The image and the copy, for a request that is in nobody's way.
    async fn begin(&self, offset: u64, len: u64, exclusive: bool) -> Result<(Lease, Arc<Node>, Arc<Node>)> {
        let lease = self.leases.lease(offset, offset.saturating_add(len), exclusive).await;
        if self.diverged.load(Acquire) {
            let text = "the image and its copy have differed: nothing more is done to them";
            return Err(BlockError::new(ErrorKind::Io, text));
        }
        Ok((lease, self.edges.need(self.test)?, self.edges.need(self.raw)?))
    }

    fn differ(&self, what: impl Display) -> BlockError {
        let name = |id| self.edges.get(id).map(|node| node.filename()).unwrap_or_default();
        let text =
            format!("blkverify: '{}' and its raw copy '{}' differ: {what}", name(self.test), name(self.raw));
        self.diverged.store(true, Release);
        self.notices.tell(Notice::Diverged(&text));
        BlockError::new(ErrorKind::Io, text)
    }

    /// Both must succeed, or both fail.
    fn compare(&self, what: impl Display, test: Result<()>, raw: Result<()>) -> Result<()> {
        match (test, raw) {
            (Err(e), Ok(())) => Err(self.differ(format_args!("{what} fails in the image alone: {e}"))),
            (Ok(()), Err(e)) => Err(self.differ(format_args!("{what} fails in the copy alone: {e}"))),
            (test, _) => test,
        }
    }

    /// Changes both.
    async fn change<F: Future<Output = Result<()>>>(
        &self,
        what: &str,
        (offset, len): (u64, u64),
        work: impl Fn(Arc<Node>) -> F,
    ) -> Result<()> {
        let (_lease, test, raw) = self.begin(offset, len, true).await?;
        let (test, raw) = join(work(test), work(raw)).await;
        self.compare(format_args!("{what} of {len} bytes at {offset}"), test, raw)
    }
}

impl Driver for Blkverify {
    fn facts(&self) -> Facts {
        let grows = |id| self.edges.get(id).is_some_and(|node| node.facts().grows_with_zeroes);
        Facts {
            can_write_zeroes: true,
            grows_with_zeroes: grows(self.test) && grows(self.raw),
            ..Facts::default()
        }
    }

    fn length(&self) -> u64 {
        self.edges.with(self.test, |test| test.map_or(0, |test| test.length()))
    }

    fn try_map(&self, _: u64, _: u64, _: Want) -> Option<Extent> {
        None
    }

    /// What status tells is the image's.
    fn map(&self, offset: u64, len: u64, _: Want) -> BoxFuture<'_, Result<Extent>> {
        Box::pin(async move {
            let status = self.edges.need(self.test)?.status(offset, len, None).await?;
            let kind = if status.zero { ExtentKind::Zero { reserved: None } } else { ExtentKind::Stored };
            Ok(Extent { len: status.len, kind })
        })
    }

    fn read(&self, offset: u64, buf: BufMut) -> BoxFuture<'_, (BufMut, Result<()>)> {
        Box::pin(async move {
            let len = buf.len();
            let (_lease, test, raw) = match self.begin(offset, len as u64, false).await {
                Ok(begun) => begun,
                Err(e) => return (buf, Err(e)),
            };
            let copy = BufMut::with_len(len);
            let ((buf, test), (copy, raw)) =
                join(test.read_or_zero(offset, buf), raw.read_or_zero(offset, copy)).await;
            let mut result = self.compare(format_args!("a read of {len} bytes at {offset}"), test, raw);
            if result.is_ok()
                && let Some(at) = buf.iter().zip(&copy[..]).position(|(test, raw)| test != raw)
            {
                let what =
                    format_args!("a read of {len} bytes at {offset}, from byte {} on", offset + at as u64);
                result = Err(self.differ(what));
            }
            (buf, result)
        })
    }

    fn write(&self, offset: u64, data: Buf, request: Request) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let range = (offset, data.len() as u64);
            self.change("a write", range, |node| {
                let data = data.clone();
                async move { node.write(offset, data, request).await }
            })
            .await
        })
    }

    fn write_zeroes(&self, offset: u64, len: u64, request: Request) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            // One may be able to do it fast where the other is not.
            let request = request.without(block::Flags::NO_FALLBACK);
            self.change("zeroing", (offset, len), |node| async move {
                node.write_zeroes(offset, len, request).await
            })
            .await
        })
    }

    /// What was discarded reads as whatever each likes: it is left as it is, so that it can be compared.
    fn discard(&self, _: u64, _: u64, _: Request) -> BoxFuture<'_, Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let (test, raw) = (self.edges.need(self.test)?, self.edges.need(self.raw)?);
            let (test, raw) = join(test.flush(), raw.flush()).await;
            test.and(raw)
        })
    }

    fn resize(&self, size: u64, preallocation: PreallocMode) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let (test, raw) = (self.edges.need(self.test)?, self.edges.need(self.raw)?);
            raw.set_length(size, preallocation).await?;
            test.set_length(size, preallocation).await
        })
    }

    fn name_over(&self, image: String) -> Option<String> {
        let raw = self.edges.get(self.raw)?.filename();
        (!raw.starts_with("json:")).then(|| format!("{PREFIX}{raw}:{image}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_names_the_copy_and_then_the_image() -> Result<()> {
        let mut options = Options::new().with_str("filename", "blkverify:a.raw:nbd://host/x");
        adapt(&mut options)?;
        let named = |child: &str| match options.get(child) {
            Some(Opt::Dict(described)) => described.get_str("filename").map(str::to_owned),
            _ => None,
        };
        assert_eq!(
            (named("raw").as_deref(), named("test").as_deref()),
            (Some("a.raw"), Some("nbd://host/x"))
        );
        assert!(parse_filename("blkverify:a.raw").is_err());
        Ok(())
    }
}
