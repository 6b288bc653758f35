//! Creating and resizing files: durable, with their directory entry, before success is reported.
use super::lock::Locks;
use api::{FilePlaceOptions, PreallocMode};
use block::{BlockError, Claim, Claiming, CreateOption, MAKER, OptionKind, Result};
use rt::{Allocate, BoxFuture, BufMut, File, FileLayout, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Bytes that a new file stores from the start.
const FIRST_BLOCK: u64 = 4096;

pub(super) const FILE_OPTIONS: &[CreateOption] = &[
    CreateOption::new(
        "extent_size_hint",
        OptionKind::Size,
        "Extent size hint for the image file, 0 to disable",
    ),
    CreateOption::new("nocow", OptionKind::Bool, "Turn off copy-on-write (valid only on btrfs)"),
    CreateOption::new(
        "preallocation",
        OptionKind::Str,
        "Preallocation mode (allowed values: off, falloc, full)",
    ),
    CreateOption::SIZE,
];

pub(super) const DEVICE_OPTIONS: &[CreateOption] = &[
    CreateOption::new("preallocation", OptionKind::Str, "Preallocation mode (allowed values: off)"),
    CreateOption::SIZE,
];

/// Opens the file, or makes it, and locks it against all other writers.
pub(super) fn claim_file(filename: &str, options: FilePlaceOptions) -> Claiming<'_> {
    Box::pin(async move {
        let filename = filename.strip_prefix("file:").unwrap_or(filename);
        let layout = LayoutWanted::of(&options)?;
        let path = Path::new(filename);
        let (file, made) = open_or_make(path).await.map_err(|e| could_not_create(filename, &e))?;
        layout.ask(&file, filename);
        let claim =
            FileClaim { locks: Locks::new(file.clone(), filename.to_owned()), path: path.into(), file, made };
        if claim.locks.possible() {
            claim.locks.set(MAKER)?;
        }
        Ok(Box::new(claim) as Box<dyn Claim>)
    })
}

/// Default extent size hint in bytes: images that grow in small steps are less fragmented.
const EXTENT_SIZE: u32 = 1 << 20;

/// How the file is to be laid out. Few file systems have a choice; that one has none is no error.
struct LayoutWanted {
    nocow: bool,
    /// As given, if given.
    extent_size: Option<u32>,
}

impl LayoutWanted {
    fn of(options: &FilePlaceOptions) -> Result<Self> {
        let extent_size =
            options.extent_size_hint.map(|hint| u32::try_from(hint.0)).transpose().map_err(|_| {
                BlockError::invalid("Extent size hint is too large: it must be less than 4 GiB")
            })?;
        Ok(Self { nocow: options.nocow.unwrap_or(false), extent_size })
    }

    fn ask(&self, file: &File, filename: &str) {
        let wanted = self.extent_size.unwrap_or(EXTENT_SIZE);
        if wanted > 0
            && let Err(error) = file.set_layout(FileLayout::ExtentSize(wanted))
            && self.extent_size.is_some()
        {
            tracing::error!(filename, %error, "the extent size hint has no effect");
        }
        // A file system without copy-on-write has nothing to turn off.
        if self.nocow
            && let Err(error) = file.set_layout(FileLayout::NoCopyOnWrite)
        {
            tracing::debug!(filename, %error, "copy-on-write could not be turned off");
        }
    }
}

/// After a failure the file is removed only if it was made here, or was empty: then nothing is lost with it, and a script that
/// looks whether there is an image finds none.
async fn open_or_make(path: &Path) -> std::io::Result<(File, bool)> {
    let open = OpenOptions::read_write();
    let new = OpenOptions { create_new: true, ..open };
    match rt::fs::open(path, &new).await {
        Ok(file) => Ok((file, true)),
        // A dangling link: its file is made, and is not removed after a failure.
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            let (file, named) =
                (rt::fs::open(path, &OpenOptions { create: true, ..open }).await?, path.to_owned());
            let empty =
                move || std::fs::symlink_metadata(named).is_ok_and(|at| at.is_file() && at.len() == 0);
            Ok((file, rt::blocking(empty).await))
        }
        Err(e) => Err(e),
    }
}

/// A file in which an image is being made.
struct FileClaim {
    path: PathBuf,
    file: File,
    made: bool,
    locks: Locks,
}

impl Claim for FileClaim {
    fn settle(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.make_durable().await.map_err(|e| could_not_create(&self.path.to_string_lossy(), &e))
        })
    }

    fn keep(self: Box<Self>) {
        self.locks.release();
    }

    fn undo(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        Box::pin(async move {
            let result = if self.made { self.remove().await } else { Ok(()) };
            self.locks.release();
            result.map_err(|e| BlockError::os(format!("could not remove '{}'", self.path.display()), &e))
        })
    }
}

impl FileClaim {
    /// Makes the file and its name durable. A folder that may not be read can't be synced, nor can any in some file systems:
    /// there the sync of the file must suffice.
    async fn make_durable(&self) -> std::io::Result<()> {
        self.file.sync(false).await?;
        let folder = self.path.parent().filter(|p| !p.as_os_str().is_empty());
        match rt::fs::sync_dir(folder.unwrap_or(Path::new("."))).await {
            Err(e)
                if matches!(
                    e.kind(),
                    ErrorKind::PermissionDenied | ErrorKind::InvalidInput | ErrorKind::Unsupported
                ) =>
            {
                tracing::debug!(path = %self.path.display(), error = %e, "the folder of a new file can't be synced");
                Ok(())
            }
            result => result,
        }
    }

    /// Removes the name, if it still is this file's.
    async fn remove(&self) -> std::io::Result<()> {
        let (own, there) = (self.file.stat()?, rt::fs::stat(&self.path).await?);
        match (own.dev, own.ino) == (there.dev, there.ino) {
            true => rt::fs::unlink(&self.path).await,
            false => Ok(()),
        }
    }
}

fn could_not_create(filename: &str, e: &std::io::Error) -> BlockError {
    BlockError::os(format!("Could not create '{filename}'"), e)
}

/// Changes a file's length. After a failure half-way, reserved space is given back.
pub(super) async fn resize(
    file: &File,
    filename: &str,
    old: u64,
    size: u64,
    preallocation: PreallocMode,
) -> Result<()> {
    let failed = |e: std::io::Error| BlockError::os(format!("Could not resize '{filename}'"), &e);
    let result = match preallocation {
        PreallocMode::Off => file.set_len(size).await,
        _ if size < old => {
            return Err(BlockError::unsupported("Preallocation can't be used for shrinking files"));
        }
        PreallocMode::Falloc if size == old => Ok(()),
        PreallocMode::Falloc => match file.allocate(Allocate::Reserve, old, size - old).await {
            // ext2, ext3, many FUSE and network file systems reserve nothing; writing zeroes allocates the space as well.
            Err(e) if e.kind() == ErrorKind::Unsupported => write_zeroes(file, old, size).await,
            result => result,
        },
        PreallocMode::Full => write_zeroes(file, old, size).await,
        PreallocMode::Metadata => {
            return Err(BlockError::invalid("Parameter 'preallocation' does not accept value 'metadata'"));
        }
    };
    if let Err(e) = result {
        // A plain change of the length is made or not, and others may have written behind the old end meanwhile.
        if size > old && preallocation != PreallocMode::Off {
            // The first error is the one reported; the length counts as it was, and what lies behind it reads as zeroes.
            if let Err(left) = file.set_len(old).await {
                tracing::warn!(file = filename, error = %left, "the file stays longer than it was");
            }
        }
        return Err(failed(e));
    }
    if old == 0 {
        store_first_block(file, size).await;
    }
    Ok(())
}

/// Stores the first block of a file that was empty: the alignment that O_DIRECT demands can be probed on it, not on a hole.
/// The file is usable without, so a failure is no error.
async fn store_first_block(file: &File, size: u64) {
    let len = size.min(FIRST_BLOCK);
    let alignment = u64::from(file.alignment());
    if len > 0
        && len.is_multiple_of(alignment)
        && let (_, Err(e)) = file.write(0, BufMut::zeroed(len as usize).freeze()).await
    {
        tracing::debug!(error = %e, "the first block of a new file stays a hole");
    }
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
