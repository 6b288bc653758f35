//! Creating and resizing files: durable, with their directory entry, before anybody is told.
use super::lock::Locks;
use block::{BlockError, CreateOption, CreateRequest, OptionKind, Perms, Result, Share};
use rt::{Allocate, BoxFuture, BufMut, File, OpenOptions};
use std::path::Path;

pub(super) const FILE_OPTIONS: &[CreateOption] = &[
    CreateOption {
        name: "extent_size_hint",
        kind: OptionKind::Size,
        help: "Extent size hint for the image file, 0 to disable",
    },
    CreateOption {
        name: "nocow",
        kind: OptionKind::Bool,
        help: "Turn off copy-on-write (valid only on btrfs)",
    },
    CreateOption {
        name: "preallocation",
        kind: OptionKind::Str,
        help: "Preallocation mode (allowed values: off, falloc, full)",
    },
    CreateOption { name: "size", kind: OptionKind::Size, help: "Virtual disk size" },
];

pub(super) const DEVICE_OPTIONS: &[CreateOption] = &[
    CreateOption {
        name: "preallocation",
        kind: OptionKind::Str,
        help: "Preallocation mode (allowed values: off)",
    },
    CreateOption { name: "size", kind: OptionKind::Size, help: "Virtual disk size" },
];

/// Makes a file of `size` bytes, or empties one that is there and in nobody's use.
pub(super) fn create_file(request: CreateRequest) -> BoxFuture<'static, Result<()>> {
    Box::pin(async move {
        let CreateRequest { filename, size, mut options, .. } = request;
        let filename = filename.strip_prefix("file:").unwrap_or(&filename).to_owned();
        let preallocation = options.take_str("preallocation")?.unwrap_or_else(|| "off".to_owned());
        // Hints to file systems that have such a thing; others have nothing to turn off.
        options.take("nocow");
        options.take("extent_size_hint");
        options.take("size");
        options.finish()?;
        let path = Path::new(&filename);
        let what = format!("Could not create '{filename}'");
        let failed = |e: std::io::Error| BlockError::os(&what, &e);
        let open = OpenOptions { read: true, write: true, create: true, ..OpenOptions::default() };
        let file = rt::fs::open(path, &open).await.map_err(failed)?;
        let locks = Locks::new(file.clone(), filename.clone());
        let user =
            Perms { need: Share::WRITE.and(Share::RESIZE), share: Share::READ.and(Share::WRITE_UNCHANGED) };
        locks.set(user)?;
        let result = fill(&file, &filename, size, &preallocation).await;
        locks.release();
        result?;
        file.sync(false).await.map_err(failed)?;
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        rt::fs::sync_dir(folder).await.map_err(failed)
    })
}

/// Removes the regular file that a failed create left behind.
pub(super) fn remove_file(filename: String) -> BoxFuture<'static, Result<()>> {
    Box::pin(async move {
        let path = Path::new(filename.strip_prefix("file:").unwrap_or(&filename));
        let removed = rt::fs::unlink(path).await;
        removed.map_err(|e| BlockError::os(format!("could not remove '{filename}'"), &e))
    })
}

async fn fill(file: &File, filename: &str, size: u64, preallocation: &str) -> Result<()> {
    file.set_len(0).await.map_err(|e| BlockError::os(format!("Could not create '{filename}'"), &e))?;
    resize(file, filename, 0, size, preallocation).await
}

/// "Creates" on a device: it must be there and be large enough.
pub(super) fn create_device(request: CreateRequest) -> BoxFuture<'static, Result<()>> {
    Box::pin(async move {
        let CreateRequest { filename, size, mut options, .. } = request;
        let filename = filename.strip_prefix("host_device:").unwrap_or(&filename).to_owned();
        if let Some(mode) = options.take_str("preallocation")?.filter(|m| m != "off") {
            return Err(BlockError::unsupported(format!(
                "preallocation '{mode}' is not possible on a device"
            )));
        }
        options.take("size");
        options.finish()?;
        let what = format!("Could not open '{filename}'");
        let file = rt::fs::open(Path::new(&filename), &OpenOptions::read_write()).await;
        let room = file.and_then(|f| f.len()).map_err(|e| BlockError::os(what, &e))?;
        if room < size {
            return Err(BlockError::new(
                block::ErrorKind::NoSpace,
                format!("'{filename}' has {room} bytes, fewer than the {size} of the image"),
            ));
        }
        Ok(())
    })
}

/// Changes a file's length. What was reserved is given back when it fails half-way.
pub(super) async fn resize(
    file: &File,
    filename: &str,
    old: u64,
    size: u64,
    preallocation: &str,
) -> Result<()> {
    let failed = |e: std::io::Error| BlockError::os(format!("Could not resize '{filename}'"), &e);
    let result = match preallocation {
        "off" => file.set_len(size).await,
        _ if size < old => {
            return Err(BlockError::unsupported("Preallocation can't be used for shrinking files"));
        }
        "falloc" if size == old => Ok(()),
        "falloc" => file.allocate(Allocate::Reserve, old, size - old).await,
        "full" => write_zeroes(file, old, size).await,
        other => {
            return Err(BlockError::invalid(format!(
                "Parameter 'preallocation' does not accept value '{other}'"
            )));
        }
    };
    if let Err(e) = result {
        if size > old {
            file.set_len(old).await.map_err(failed)?;
        }
        return Err(failed(e));
    }
    Ok(())
}

async fn write_zeroes(file: &File, from: u64, to: u64) -> std::io::Result<()> {
    file.set_len(to).await?;
    let zeroes = BufMut::zeroed(1 << 20).freeze();
    let mut at = from;
    while at < to {
        let len = (to - at).min(zeroes.len() as u64);
        file.write(at, zeroes.slice(0..len as usize)).await.1?;
        at += len;
    }
    file.sync(true).await
}
