//! Commands about the open image itself: open, close, reopen, info, length, truncate.

use super::Session;
use super::arguments::{self, Refused};
use super::command::Outcome;
use super::witness::{Deed, told};
use crate::cache::Cache;
use crate::failure::Failure;
use crate::flags::{self, has_parts};
use crate::getopt::{Flag, Table};
use crate::image::{self, Image, Source};
use crate::{outln, show, size};
use api::PreallocMode;
use block::{BlockError, ErrorKind, Node, Opt, Options};

/// What the flags of `open` say.
#[derive(Debug)]
pub struct OpenFlags {
    source: Source,
    snapshot: bool,
}

has_parts!(OpenFlags { source: Source });

impl OpenFlags {
    pub(super) fn new() -> OpenFlags {
        OpenFlags { source: Source::named("").writable(), snapshot: false }
    }
}

/// `open`.
pub const OPEN: Table<OpenFlags> = &[&[
    Flag::set("-r", "for reading only", |s| s.source.writable = false),
    Flag::set("-s", "write to a temporary overlay", |s| s.snapshot = true),
    flags::no_cache("-n", "pass the page cache by, as -t none"),
    Flag::set("-U", "take no locks and share everything", |s| s.source.force_share = true),
    flags::native_aio("-k"),
    flags::aio("-i"),
    flags::cache("-t", "cache mode"),
    flags::discard("-d"),
    Flag::take("-o", "OPTIONS", "options of the driver", |s, list| {
        s.source.options = image::from_list(list)?;
        Ok(())
    }),
    Flag::set("-C", "copy what is read from backing files", |s| s.source.copy_on_read = true),
]];

/// What the flags of `reopen` say.
#[derive(Debug, Default)]
pub struct ReopenFlags {
    read_only: bool,
    writable: bool,
    cache: Option<Cache>,
    options: Options,
}

/// `reopen`.
pub const REOPEN: Table<ReopenFlags> = &[&[
    Flag::set("-r", "read-only from now on", |s| s.read_only = true),
    Flag::set("-w", "writable from now on", |s| s.writable = true),
    Flag::take("-c", "MODE", "cache mode", |s, mode| {
        s.cache = Some(Cache::parse(mode).map_err(Failure::new)?);
        Ok(())
    }),
    Flag::take("-o", "OPTIONS", "options of the driver", |s, list| {
        s.options = image::from_list(list)?;
        Ok(())
    }),
]];

/// What the flags of `truncate` say.
#[derive(Debug, Default)]
pub struct TruncateFlags {
    preallocation: Option<PreallocMode>,
}

/// `truncate`.
pub const TRUNCATE: Table<TruncateFlags> = &[&[Flag::take(
    "-m",
    "MODE",
    "off, metadata, falloc or full: how the new part is allocated",
    |s, word| {
        s.preallocation = Some(flags::read_preallocation(word)?);
        Ok(())
    },
)]];

/// `open [path]`.
pub async fn open(session: &mut Session<'_>, args: &[String]) -> Result<Outcome, Refused> {
    let parsed = session.flags("open", OPEN, args)?;
    let mut flags = OpenFlags::new();
    session.or_complain(parsed.apply(&mut flags).map_err(|f| f.message().to_owned()))?;
    let OpenFlags { mut source, snapshot } = flags;
    match parsed.operands.as_slice() {
        [] if source.options.is_empty() => return Err(session.misused("open")),
        [] => {}
        // With --image-opts on the command line, a bare list of options stands for the name here too.
        [name] => source.name = name.clone(),
        _ => return Err(session.misused("open")),
    }
    source.image_opts = session.image_opts && !source.name.is_empty();
    if session.image.is_some() {
        session.console.error("file open already, try 'help close'");
        return Err(Refused);
    }
    session.open(&source, snapshot).await
}

/// `close`.
pub async fn close(session: &mut Session<'_>, _: &[String]) -> Result<Outcome, Refused> {
    session.finish_requests().await;
    session.close_image().await
}

/// `length`.
pub async fn length(session: &mut Session<'_>, _: &[String]) -> Result<Outcome, Refused> {
    let length = session.backend()?.length();
    outln!(session.console, "{}", size::exact(length));
    Ok(Outcome::Done)
}

/// `info`.
pub async fn info(session: &mut Session<'_>, _: &[String]) -> Result<Outcome, Refused> {
    let Some(node) = session.image.as_ref().map(Image::node) else { return Err(Refused) };
    let info = node.driver().info();
    outln!(session.console, "format name: {}", node.driver_name());
    // What only passes data through has the figures of what is below.
    let mut figures = vec![node.clone()];
    figures.extend(node.primary().filter(|_| node.facts().transparent));
    let cluster = figures.iter().find_map(|n| n.driver().info().cluster_size.or(n.facts().cluster_size));
    let vm_state = figures.iter().find_map(|n| n.driver().info().vm_state_offset);
    outln!(session.console, "cluster size: {}", size::exact(cluster.unwrap_or(0)));
    outln!(session.console, "vm state offset: {}", size::exact(vm_state.unwrap_or(0)));
    if let Some(specific) = &info.specific {
        show::print_specific(session.console, specific, 0);
    }
    Ok(Outcome::Done)
}

/// `truncate size`.
pub async fn truncate(session: &mut Session<'_>, args: &[String]) -> Result<Outcome, Refused> {
    let parsed = session.flags("truncate", TRUNCATE, args)?;
    let mut flags = TruncateFlags::default();
    session.or_complain(parsed.apply(&mut flags).map_err(|f| f.message().to_owned()))?;
    let [size] = parsed.operands.as_slice() else { return Err(session.misused("truncate")) };
    let size = session.or_refuse(arguments::number(size))?;
    let mode = flags.preallocation.unwrap_or(PreallocMode::Off);
    let Some(image) = &session.image else { return Err(Refused) };
    let node = image.node();
    let resizing = image.graph.resize(&node, size, mode);
    match told(session.witness.clone(), Deed::Resize(size), resizing).await {
        Ok(()) => Ok(Outcome::Done),
        Err(error) => {
            session.console.error(error);
            Err(Refused)
        }
    }
}

/// `reopen`.
pub async fn reopen(session: &mut Session<'_>, args: &[String]) -> Result<Outcome, Refused> {
    let parsed = session.flags("reopen", REOPEN, args)?;
    let mut flags = ReopenFlags::default();
    session.or_complain(parsed.apply(&mut flags).map_err(|f| f.message().to_owned()))?;
    if !parsed.operands.is_empty() {
        return Err(session.misused("reopen"));
    }
    let ReopenFlags { read_only, writable, cache, options } = flags;
    let refused = if read_only && writable {
        Some("Only one -r/-w option may be given")
    } else if (read_only || writable) && options.get("read-only").is_some() {
        Some("Cannot set both -r/-w and 'read-only'")
    } else if cache.is_some() && options.get("cache").is_some() {
        Some("Cannot set both -c and the cache options")
    } else {
        None
    };
    session.or_complain(refused.map_or(Ok(()), Err))?;
    session.finish_requests().await;
    let Some(image) = &session.image else { return Err(Refused) };
    let writable = writable || !read_only && !image.node().read_only();
    match change(image, options, cache, writable).await {
        Ok(()) => Ok(Outcome::Done),
        Err(error) => {
            session.console.error(error);
            Err(Refused)
        }
    }
}

/// Reopens the image in place: what is not named stays as it is.
async fn change(image: &Image, options: Options, cache: Option<Cache>, writable: bool) -> block::Result<()> {
    let node = image.node();
    let common = node.common();
    let cache = cache.unwrap_or(Cache {
        direct: common.direct,
        no_flush: common.no_flush,
        writeback: !common.write_through,
    });
    let cache_options = Options::new()
        .with("direct", Opt::Bool(cache.direct))
        .with("no-flush", Opt::Bool(cache.no_flush))
        .with("writeback", Opt::Bool(cache.writeback));
    let mut all = Options::new()
        .with_str("node-name", node.name())
        .with_str("driver", node.driver_name())
        .with("read-only", Opt::Bool(!writable))
        .with("force-share", Opt::Bool(common.force_share))
        .with("cache", Opt::Dict(cache_options.clone()))
        .with_str("discard", if common.discard == block::Discard::Unmap { "unmap" } else { "ignore" });
    if let Some(file) = node.primary() {
        all.set("file", Opt::Str(file.name().to_owned()));
    }
    if node.driver_type().supports_backing {
        let backing = node.backing().map_or(Opt::Null, |below| Opt::Str(below.name().to_owned()));
        all.set("backing", backing);
    }
    for (name, value) in options.iter() {
        let value = match (name, value, node.primary()) {
            ("file", Opt::Dict(own), Some(file)) => Opt::Dict(over_present(&file, own)),
            ("cache", Opt::Dict(own), _) => Opt::Dict(over(cache_options.clone(), own)),
            _ => value.clone(),
        };
        all.set(name, value);
    }
    image.reopen(all, writable).await
}

/// Changed options of a file over those that say which file it is.
fn over_present(file: &Node, changed: &Options) -> Options {
    let mut present = Options::new().with_str("driver", file.driver_name());
    if file.driver_type().is_of_plain_names() {
        present = present.with_str("filename", &file.filename());
    }
    over(present, changed)
}

fn over(mut present: Options, changed: &Options) -> Options {
    changed.iter().for_each(|(name, value)| present.set(name, value.clone()));
    present
}

impl Session<'_> {
    /// Opens an image; complains when it can't be.
    pub(super) async fn open(&mut self, source: &Source, snapshot: bool) -> Result<Outcome, Refused> {
        if source.copy_on_read && !source.writable {
            self.refuse_open(source, "Can't use copy-on-read on read-only device");
            return Err(Refused);
        }
        let opened = if snapshot { Image::open_overlaid(source).await } else { Image::open(source).await };
        match opened {
            Ok(image) => {
                if image.guessed_raw && source.writable {
                    image::warn_of_guess(self.console, &source.name);
                }
                self.image = Some(image);
                Ok(Outcome::Done)
            }
            Err(error) => {
                self.refuse_open(source, error);
                Err(Refused)
            }
        }
    }

    fn refuse_open(&mut self, source: &Source, why: impl std::fmt::Display) {
        match source.name.as_str() {
            name if !source.image_opts && !name.is_empty() => {
                let name = block::hide_passwords(name);
                self.console.error(format_args!("can't open device {name}: {why}"));
            }
            _ => self.console.error(format_args!("can't open: {why}")),
        }
    }

    /// Closes the image, if one is open; complains when what was written could not be kept.
    pub(super) async fn close_image(&mut self) -> Result<Outcome, Refused> {
        let Some(image) = self.image.take() else { return Ok(Outcome::Done) };
        // A close tries once more to keep what was written: whether it could is another answer than why it could not before.
        let poisoned = image.node().poisoned();
        let flushed = if poisoned { Ok(()) } else { image.node().flush().await };
        let failed = [flushed.err(), image.close().await.err()];
        // A command that failed was told of it already.
        let known = |error: &BlockError| {
            image::is_known(error) || poisoned && self.failed && error.kind() == ErrorKind::Poisoned
        };
        for error in failed.iter().flatten().filter(|error| !known(error)) {
            self.console.error(error);
        }
        if failed.iter().all(Option::is_none) { Ok(Outcome::Done) } else { Err(Refused) }
    }

    /// What was read, or else why not on standard error.
    fn or_complain<T>(&mut self, read: Result<T, impl std::fmt::Display>) -> Result<T, Refused> {
        read.map_err(|complaint| {
            self.console.error(complaint);
            Refused
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::img::faults;
    use block::Request;
    use sim::OpKind;
    use testkit::steps::{Failing, Fuse, at_every_step};

    /// Whether a reopen succeeded, and whether writes are taken before and after it.
    type Came = (bool, bool, bool);

    fn try_reopen(name: &str, from: bool, to: bool) {
        let disk = faults::disk_with(vec![faults::image("/base"), faults::overlay("/top")]);
        let act = move |fuse: Fuse| -> rt::BoxFuture<'static, Came> {
            Box::pin(async move {
                let source = Source::named("/top").format(Some("qcow2"));
                let source = if from { source.writable() } else { source };
                let image = Image::open(&source).await.unwrap();
                let before = takes_writes(&image).await;
                fuse.arm();
                let reopened = change(&image, Options::new(), None, to).await;
                fuse.disarm();
                let after = takes_writes(&image).await;
                image.close().await.ok();
                (reopened.is_ok(), before, after)
            })
        };
        let judge = |(done, before, after): Came, _: &sim::Disk, failing: Option<Failing>| {
            let expected = if done { to } else { from };
            let harmed = failing.is_some_and(|f| matches!(f.kind, OpKind::Sync | OpKind::Write));
            let right = before == from && (after == expected || harmed && !after);
            faults::ensure(right, &format!("succeeded: {done}; takes writes: {before}, then {after}"))
        };
        at_every_step(name, &disk, &act, &judge);
    }

    async fn takes_writes(image: &Image) -> bool {
        let data = rt::Buf::from_slice(&[7; 512]);
        image.backend.write(0, data, Request::GUEST).await.is_ok()
    }

    #[test]
    fn a_close_that_succeeds_has_kept_all_that_was_written() {
        let disk = faults::disk_with(vec![faults::image("/base"), faults::overlay("/top")]);
        let mut written = faults::content_of(&disk, "/top").unwrap();
        for (offset, byte) in WRITES {
            written[offset as usize..][..512].fill(byte);
        }
        let act = move |fuse: Fuse| -> rt::BoxFuture<'static, bool> {
            Box::pin(async move {
                let image =
                    Image::open(&Source::named("/top").format(Some("qcow2")).writable()).await.unwrap();
                for (offset, byte) in WRITES {
                    let data = rt::Buf::from_slice(&[byte; 512]);
                    image.backend.write(offset, data, Request::GUEST).await.unwrap();
                }
                fuse.arm();
                let closed = image.close().await;
                fuse.disarm();
                closed.is_ok()
            })
        };
        let judge = |done: bool, disk: &sim::Disk, _: Option<Failing>| {
            let durable = disk.cut_keeping(|_| false);
            let (now, later) = (faults::content_of(disk, "/top")?, faults::content_of(&durable, "/top")?);
            let kept = now == written && later == written;
            faults::ensure(kept || !done, "it succeeded, and what was written is not kept")
        };
        at_every_step("close", &disk, &act, &judge);
    }

    /// Where it is written, and which bytes.
    const WRITES: [(u64, u8); 4] = [(0, 1), (9000, 2), (40000, 3), (60000, 4)];

    #[test]
    fn a_reopen_that_failed_leaves_the_image_as_writable_as_it_was() {
        try_reopen("reopen -r", true, false);
        try_reopen("reopen -w", false, true);
    }
}
