//! Creating and resizing files: durable, with their directory entry, before success is reported.
use super::lock::Locks;
use api::{FilePlaceOptions, PreallocMode};
use block::{BlockError, Claim, Claiming, CreateOption, MAKER, OptionKind, Result};
use rt::{Allocate, BoxFuture, BufMut, File, FileKind, FileLayout, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
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
        let locks = Locks::new(file.clone(), filename.to_owned());
        let mut claim = FileClaim { locks, path: path.into(), file, after_failure: AfterFailure::Leave };
        let locked = claim.locks.possible();
        if locked {
            claim.locks.set(MAKER)?;
        }
        // Judged under the lock: another process may have filled the file since it was opened.
        if claim.file.stat().is_ok_and(|at| at.kind == FileKind::Regular && at.len == 0) {
            claim.after_failure = match made || (locked && claim.is_as_made().await) {
                true => AfterFailure::Remove,
                false if locked => AfterFailure::Empty,
                false => AfterFailure::Leave,
            };
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

/// Opens the file, or makes it; tells whether it was made.
async fn open_or_make(path: &Path) -> std::io::Result<(File, bool)> {
    let open = OpenOptions::read_write();
    let new = OpenOptions { create_new: true, ..open };
    match rt::fs::open(path, &new).await {
        Ok(file) => Ok((file, true)),
        // The file of a dangling link is made too, but is reached by a link, which stays.
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            Ok((rt::fs::open(path, &OpenOptions { create: true, ..open }).await?, false))
        }
        Err(e) => Err(e),
    }
}

/// What becomes of a file in which no image could be made.
enum AfterFailure {
    /// It had content, or may be in use.
    Leave,
    /// It was empty, and may be somebody's preparation: its owner, permissions or names tell it from a new file.
    Empty,
    /// It was made here, or was empty and like a file made here: nothing is lost with it, and a script that looks whether
    /// there is an image finds none.
    Remove,
}

/// Permissions that a new file has, less those that the umask may take.
const NEW_MODE: u32 = 0o644;

/// A file in which an image is being made.
struct FileClaim {
    path: PathBuf,
    file: File,
    after_failure: AfterFailure,
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
            let result = match self.after_failure {
                AfterFailure::Leave => Ok(()),
                AfterFailure::Empty => self.file.set_len(0).await,
                AfterFailure::Remove => self.remove().await,
            };
            self.locks.release();
            result.map_err(|e| {
                BlockError::os(format!("could not remove what was written to '{}'", self.path.display()), &e)
            })
        })
    }
}

impl FileClaim {
    /// Makes the file and its name durable.
    async fn make_durable(&self) -> std::io::Result<()> {
        self.file.sync(false).await?;
        rt::fs::sync_name(&self.path).await
    }

    /// Whether the file is one as would be made here, and its name is its only one, not a link to it.
    async fn is_as_made(&self) -> bool {
        let Ok(own) = self.file.stat() else { return false };
        let path = rt::fs::path(&self.path);
        let there = move || std::fs::symlink_metadata(path);
        rt::blocking(there).await.is_ok_and(|there| {
            (there.dev(), there.ino(), there.nlink()) == (own.dev, own.ino, 1)
                && there.uid() == rt::fs::user()
                && there.mode() & (NEW_MODE | 0o7000) == NEW_MODE
        })
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
