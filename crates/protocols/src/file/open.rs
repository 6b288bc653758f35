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
    locking: Locking,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Locking {
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
    // All three are served by the same engine; what they promise about the page cache is checked.
    match options.take_str("aio")?.as_deref() {
        Some("native") if !direct => {
            return Err(BlockError::invalid(
                "aio=native was specified, but it requires cache.direct=on, which was not specified.",
            ));
        }
        None | Some("threads" | "native" | "io_uring") => {}
        Some(other) => {
            return Err(BlockError::invalid(format!("Parameter 'aio' does not accept value '{other}'")));
        }
    }
    // Tuning hints without meaning here: the page cache is the kernel's business, batches are as long as they come.
    options.take("aio-max-batch");
    options.take_bool("drop-cache")?;
    options.take_bool("x-check-cache-dropped")?;
    if let Some(manager) = options.take_str("pr-manager")? {
        return Err(BlockError::unsupported(format!(
            "persistent reservations ('{manager}') are not available"
        )));
    }
    Ok(Given { filename, locking })
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
    let filename = given.filename;
    let path = Path::new(&filename);
    let stat = rt::fs::stat(path).await.map_err(|e| could_not_open(&filename, &e))?;
    check_kind(&filename, &stat, device)?;
    let direct = context.common().direct;
    let file = match open_path(path, !context.common().read_only, direct).await {
        Err(e) if refused(&e) && context.fall_back_to_read_only() => open_path(path, false, direct).await,
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
        // With the same flags: a descriptor that was handed over shares them with its copies.
        let lock_file = open_path(path, false, direct).await;
        match lock_file {
            Ok(lock_file) => Some(Locks::new(lock_file, filename.clone()))
                .filter(|locks| given.locking == Locking::On || locks.possible()),
            Err(e) if given.locking == Locking::On => return Err(could_not_open(&filename, &e)),
            Err(_) => None,
        }
    };
    let driver = FileDriver::new(filename.clone(), file, direct, locks)?;
    Ok(Opened { driver: Arc::new(driver), filename: Some(reusable(filename)) })
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

async fn open_path(path: &Path, writable: bool, direct: bool) -> std::io::Result<File> {
    rt::fs::open(path, &OpenOptions { read: true, write: writable, direct, ..OpenOptions::default() }).await
}

/// Opens the same file again for the other access, and makes sure that it is the same file.
pub(super) async fn reopen(place: &Path, old: &File, writable: bool, direct: bool) -> Result<File> {
    let filename = place.display().to_string();
    let file = open_path(place, writable, direct).await.map_err(|e| could_not_open(&filename, &e))?;
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
