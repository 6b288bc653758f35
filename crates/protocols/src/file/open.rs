//! Opening files and devices: what their options mean, and the switch between writable and read-only.
use super::FileDriver;
use super::lock::Locks;
use block::{BlockError, ErrorKind, OpenContext, Opened, Options, Result};
use rt::{BoxFuture, File, FileKind, FileStat, OpenOptions};
use std::path::Path;
use std::sync::Arc;

/// The driver's own options.
pub(super) struct Given {
    pub(super) filename: String,
    pub(super) locking: Locking,
    pub(super) aio: Option<Aio>,
}

/// Who does what must wait. What need not wait is done at once in any case.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Aio {
    /// A pool of threads.
    Threads,
    /// The kernel by itself, where it does so; needs O_DIRECT.
    Native,
    /// The kernel, over its ring.
    Ring,
}

impl Given {
    /// How the file is opened.
    pub(super) fn open_options(&self, writable: bool, direct: bool) -> OpenOptions {
        let threads = self.aio == Some(Aio::Threads);
        OpenOptions { read: true, write: writable, direct, threads, ..OpenOptions::default() }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Locking {
    Auto,
    On,
    Off,
}

/// Takes the driver's own options.
pub(super) fn take(options: &mut Options, direct: bool) -> Result<Given> {
    let filename = options
        .take_str("filename")?
        .ok_or_else(|| BlockError::invalid("The 'file' block driver requires a file name"))?;
    let locking = match options.take_str("locking")?.as_deref() {
        None | Some("auto") => Locking::Auto,
        Some("on") => Locking::On,
        Some("off") => Locking::Off,
        Some(other) => {
            return Err(BlockError::invalid(format!("Parameter 'locking' does not accept value '{other}'")));
        }
    };
    let aio = take_aio(options, direct)?;
    // A hint about batches: they are as long as they come.
    options.take_u64("aio-max-batch")?;
    for (name, default) in [("drop-cache", true), ("x-check-cache-dropped", false)] {
        if options.take_bool(name)?.is_some_and(|on| on != default) {
            let text =
                format!("option '{name}': disks don't move to another host here, so no cache is dropped");
            return Err(BlockError::unsupported(text));
        }
    }
    if let Some(manager) = options.take_str("pr-manager")? {
        return Err(BlockError::unsupported(format!(
            "persistent reservations ('{manager}') are not available"
        )));
    }
    Ok(Given { filename, locking, aio })
}

fn take_aio(options: &mut Options, direct: bool) -> Result<Option<Aio>> {
    match options.take_str("aio")?.as_deref() {
        None => Ok(None),
        Some("threads") => Ok(Some(Aio::Threads)),
        Some("native") if direct => Ok(Some(Aio::Native)),
        Some("native") => Err(BlockError::invalid(
            "aio=native was specified, but it requires cache.direct=on, which was not specified.",
        )),
        Some("io_uring") if rt::engine_name() == "threads" => Err(BlockError::unsupported(
            "aio=io_uring was asked for, but this system or the runtime's settings do not allow it; leave it out",
        )),
        Some("io_uring") => Ok(Some(Aio::Ring)),
        Some(other) => Err(BlockError::invalid(format!("Parameter 'aio' does not accept value '{other}'"))),
    }
}

pub(super) fn parse_filename(name: &str) -> Result<Options> {
    Ok(Options::new().with_str("filename", name.strip_prefix("file:").unwrap_or(name)))
}

pub(super) fn parse_device_name(name: &str) -> Result<Options> {
    Ok(Options::new().with_str("filename", name.strip_prefix("host_device:").unwrap_or(name)))
}

pub(super) fn open_file(context: &mut OpenContext, options: Options) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(open(context, options, false))
}

pub(super) fn open_device(context: &mut OpenContext, options: Options) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(open(context, options, true))
}

async fn open(context: &mut OpenContext, options: Options, device: bool) -> Result<Opened> {
    let mut options = options;
    let given = take(&mut options, context.common().direct)?;
    options.finish()?;
    let filename = given.filename.clone();
    let path = Path::new(&filename);
    let stat = rt::fs::stat(path).await.map_err(|e| could_not_open(&filename, &e))?;
    check_kind(&filename, &stat, device)?;
    let direct = context.common().direct;
    let open = async |writable| rt::fs::open(path, &given.open_options(writable, direct)).await;
    let file = match open(!context.common().read_only).await {
        Err(e) if refused(&e) && context.fall_back_to_read_only() => open(false).await,
        other => other,
    };
    let file = file.map_err(|e| match stat.kind {
        FileKind::Block if refused(&e) && !context.common().read_only => {
            BlockError::os(format!("The device '{filename}' is not writable"), &e)
        }
        _ => could_not_open(&filename, &e),
    })?;
    let locks = if context.common().force_share || given.locking == Locking::Off {
        None
    } else {
        // Locks need a descriptor that may read; an image that can only be written to goes without.
        match open_for_locks(path, &file, &given.open_options(false, direct)).await {
            Ok(lock_file) => Some(Locks::new(lock_file, filename.clone()))
                .filter(|locks| given.locking == Locking::On || locks.possible()),
            Err(e) if given.locking == Locking::On => return Err(could_not_open(&filename, &e)),
            Err(_) => None,
        }
    };
    let driver = FileDriver::new(given, file, direct, locks)?;
    Ok(Opened { driver: Arc::new(driver), filename: Some(reusable(filename)) })
}

/// Opens the file a second time. What was handed over as a descriptor is opened by the system, where that is allowed: copies
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

fn check_kind(filename: &str, stat: &FileStat, device: bool) -> Result<()> {
    let wrong = |driver: &str, kind: &str| {
        Err(BlockError::invalid(format!("'{driver}' driver requires '{filename}' to be {kind}")))
    };
    match stat.kind {
        FileKind::Block | FileKind::Char if device => Ok(()),
        _ if device => wrong("host_device", "either a character or block device"),
        FileKind::Regular => Ok(()),
        _ => wrong("file", "a regular file"),
    }
}

/// Opens the same file again in another way, and makes sure that it is the same file.
pub(super) async fn reopen(place: &Path, old: &File, options: &OpenOptions) -> Result<File> {
    let filename = place.display().to_string();
    let file = rt::fs::open(place, options).await.map_err(|e| could_not_open(&filename, &e))?;
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
    const EACCES: i32 = 13;
    const EPERM: i32 = 1;
    const EROFS: i32 = 30;
    matches!(e.raw_os_error(), Some(EACCES | EPERM | EROFS))
}

fn could_not_open(filename: &str, e: &std::io::Error) -> BlockError {
    BlockError::os(format!("Could not open '{filename}'"), e)
}
