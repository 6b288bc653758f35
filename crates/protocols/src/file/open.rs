//! Opening files and devices: what their options mean, and the switch between writable and read-only.
use super::FileDriver;
use super::device::{self, Kind};
use super::lock::Locks;
use api::{BlockdevAioOptions, BlockdevOptionsFile, OnOffAuto};
use block::{BlockError, ErrorKind, OpenContext, Opened, Options, Result};
use rt::{BoxFuture, Errno, File, FileKind, FileStat, OpenOptions};
use std::path::Path;
use std::sync::Arc;

/// How the file is opened. Whatever `aio` is, what needs no waiting is done inline.
pub(super) fn open_options(given: &BlockdevOptionsFile, writable: bool, direct: bool) -> OpenOptions {
    let threads = given.aio == Some(BlockdevAioOptions::Threads);
    OpenOptions { read: true, write: writable, direct, threads, ..OpenOptions::default() }
}

/// Accepts options that other programs know and that have no effect here, and refuses what is not available.
pub(super) fn adapt(options: &mut Options) -> Result<()> {
    if options.get("filename").is_none() {
        return Err(BlockError::invalid("The 'file' block driver requires a file name"));
    }
    // A hint about the size of batches, which has no use here.
    options.take_u64("aio-max-batch")?;
    for (name, default) in [("drop-cache", true), ("x-check-cache-dropped", false)] {
        if options.take_bool(name)?.is_some_and(|on| on != default) {
            let text =
                format!("option '{name}': disks don't move to another host here, so no cache is dropped");
            return Err(BlockError::unsupported(text));
        }
    }
    match options.take_str("pr-manager")? {
        None => Ok(()),
        Some(manager) => {
            Err(BlockError::unsupported(format!("persistent reservations ('{manager}') are not available")))
        }
    }
}

/// Refuses an `aio` mode that is not available.
pub(super) fn check_aio(aio: Option<BlockdevAioOptions>, direct: bool) -> Result<()> {
    match aio {
        Some(BlockdevAioOptions::Native) if !direct => Err(BlockError::invalid(
            "aio=native was specified, but it requires cache.direct=on, which was not specified.",
        )),
        Some(BlockdevAioOptions::IoUring) if rt::engine_name() == "threads" => Err(BlockError::unsupported(
            "aio=io_uring was asked for, but this system or the runtime's settings do not allow it; leave it out",
        )),
        _ => Ok(()),
    }
}

pub(super) fn parse_filename(name: &str) -> Result<Options> {
    Ok(Options::new().with_str("filename", name.strip_prefix("file:").unwrap_or(name)))
}

pub(super) fn parse_device_name(name: &str) -> Result<Options> {
    let prefixes = ["host_device:", "host_cdrom:", "host_floppy:"];
    let plain = prefixes.iter().find_map(|prefix| name.strip_prefix(prefix));
    Ok(Options::new().with_str("filename", plain.unwrap_or(name)))
}

/// Whether a block or character device has this name.
pub(super) fn is_device(name: &str) -> bool {
    matches!(rt::fs::kind(name), Ok(FileKind::Block | FileKind::Char))
}

pub(super) fn open_file(
    context: &mut OpenContext,
    given: BlockdevOptionsFile,
) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(open(context, given, "file", Kind::Regular))
}

pub(super) fn open_device(
    context: &mut OpenContext,
    given: BlockdevOptionsFile,
) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(open(context, given, "host_device", Kind::Device))
}

pub(super) fn open_floppy_drive(
    context: &mut OpenContext,
    given: BlockdevOptionsFile,
) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(open(context, given, "host_floppy", Kind::Device))
}

pub(super) fn open_cd_drive(
    context: &mut OpenContext,
    given: BlockdevOptionsFile,
) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(async move {
        if !context.common().read_only && !context.fall_back_to_read_only() {
            return Err(only_reads(&given.filename));
        }
        open(context, given, "host_cdrom", Kind::CdDrive).await
    })
}

/// The error of whoever wants to write to a CD drive.
pub(super) fn only_reads(filename: &str) -> BlockError {
    let text = format!("The device '{filename}' is not writable: a CD drive only reads");
    BlockError::new(ErrorKind::ReadOnly, text)
}

async fn open(
    context: &mut OpenContext,
    given: BlockdevOptionsFile,
    driver: &str,
    kind: Kind,
) -> Result<Opened> {
    check_aio(given.aio, context.common().direct)?;
    let locking = given.locking.unwrap_or(OnOffAuto::Auto);
    let filename = given.filename.clone();
    let path = Path::new(&filename);
    let could_not_open = |e: &std::io::Error| could_not_open(&filename, kind, e);
    let stat = rt::fs::stat(path).await.map_err(|e| could_not_open(&e))?;
    check_kind(&filename, &stat, driver, kind)?;
    let direct = context.common().direct;
    let open = async |writable| rt::fs::open(path, &open_options(&given, writable, direct)).await;
    let file = match open(!context.common().read_only).await {
        Err(e) if refused(&e) && context.fall_back_to_read_only() => open(false).await,
        other => other,
    };
    let file = file.map_err(|e| match stat.kind {
        FileKind::Block if refused(&e) && !context.common().read_only => {
            BlockError::os(format!("The device '{filename}' is not writable"), &e)
        }
        _ => could_not_open(&e),
    })?;
    // Another file may have taken the name meanwhile.
    let opened = file.stat().map_err(|e| could_not_open(&e))?;
    check_kind(&filename, &opened, driver, kind)?;
    match kind {
        Kind::CdDrive => device::need_cd_drive(&filename, &file).await?,
        Kind::Device if opened.kind == FileKind::Block => device::need_medium(&filename, &file).await?,
        Kind::Device | Kind::Regular => {}
    }
    let locks = if context.common().force_share || locking == OnOffAuto::Off {
        None
    } else {
        // Locks need a descriptor that may read; an image that can only be written to goes without.
        match open_for_locks(path, &file, &open_options(&given, false, direct)).await {
            Ok(lock_file) => Some(Locks::new(lock_file, filename.clone()))
                .filter(|locks| locking == OnOffAuto::On || locks.possible()),
            Err(e) if locking == OnOffAuto::On => return Err(could_not_open(&e)),
            Err(_) => None,
        }
    };
    let driver = FileDriver::new(given, kind, file, direct, locks)?;
    Ok(Opened { driver: Arc::new(driver), filename: Some(reusable(filename)) })
}

/// Opens the file a second time. A file passed as a descriptor is opened anew by the system, where that is allowed: copies
/// of a descriptor share their locks, and two users of it would not see each other. Else by such a copy, with the same
/// flags, which it shares too.
async fn open_for_locks(path: &Path, file: &File, options: &OpenOptions) -> std::io::Result<File> {
    if let Some(own) = rt::fdset::own_name(path)
        && let Ok(opened) = rt::fs::open(&own, &OpenOptions::read_only()).await
    {
        let (one, other) = (opened.stat()?, file.stat()?);
        if (one.dev, one.ino) == (other.dev, other.ino) {
            return Ok(opened);
        }
    }
    rt::fs::open(path, options).await
}

/// A name by which the same file can be opened again: a colon before the first slash would be a protocol's.
fn reusable(filename: String) -> String {
    match filename.find(['/', ':']).map(|at| filename.as_bytes().get(at)) {
        Some(Some(b':')) => format!("./{filename}"),
        _ => filename,
    }
}

fn check_kind(filename: &str, stat: &FileStat, driver: &str, kind: Kind) -> Result<()> {
    let wrong =
        |what| Err(BlockError::invalid(format!("'{driver}' driver requires '{filename}' to be {what}")));
    match (kind, stat.kind) {
        (Kind::Regular, FileKind::Regular) => Ok(()),
        (Kind::Regular, _) => wrong("a regular file"),
        (_, FileKind::Block | FileKind::Char) => Ok(()),
        _ => wrong("either a character or block device"),
    }
}

/// Opens the file again with other options, and checks that it is the same file.
pub(super) async fn reopen(place: &Path, kind: Kind, old: &File, options: &OpenOptions) -> Result<File> {
    let filename = place.display().to_string();
    let file = rt::fs::open(place, options).await.map_err(|e| could_not_open(&filename, kind, &e))?;
    let (before, after) = (old.stat()?, file.stat()?);
    if (before.dev, before.ino) != (after.dev, after.ino) {
        let text = format!(
            "'{filename}' is another file now than the one that was opened; it was replaced meanwhile"
        );
        return Err(BlockError::new(ErrorKind::Invalid, text));
    }
    Ok(file)
}

/// Refusals that `auto-read-only` may answer with a read-only open.
fn refused(e: &std::io::Error) -> bool {
    matches!(Errno::from_io_error(e), Some(Errno::ACCESS | Errno::PERM | Errno::ROFS))
}

fn could_not_open(filename: &str, kind: Kind, e: &std::io::Error) -> BlockError {
    let what = format!("Could not open '{filename}'");
    if kind == Kind::Regular { BlockError::os(what, e) } else { device::failed(what, e) }
}
