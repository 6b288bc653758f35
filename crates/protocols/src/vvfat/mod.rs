//! `vvfat`: a folder of the host as a disk with a FAT file system.
//!
//! ```text
//!  folder ─ read once, at the open ─▶ tree ─▶ disk: first sectors · tables · folders │ clusters ◀─ read when asked for ─ files
//!     ▲                                        ╰─▶ shown: what was written (overlay), else the disk
//!     ╰─ apply ◀─ changes ◀─ volume: the file system as it stands ◀─╯
//! ```
//!
//! What the disk shows of names is what the folder held when it was opened. What is read of a file is what the file holds then: a
//! file that was replaced, or is shorter than it was, fails there. A disk that can be written to shows what was written, and the
//! folder follows (`writing`).
//!
//! Bounds: those of the tree, of a volume and of the overlay; at most [`open_files::MOST_OPEN`] files are kept open.
mod apply;
mod bits;
mod changes;
mod disk;
mod entry;
mod judge;
mod layout;
mod listing;
mod name;
mod open_files;
mod overlay;
mod pace;
mod shown;
mod tree;
mod turn;
mod volume;
mod writing;

use api::BlockdevOptionsVVFAT;
pub use judge::judge_volume;

use block::{
    BlockError, Driver, DriverType, ErrorKind, Extent, Facts, Notices, Open, OpenContext, Opened, Opt,
    Options, Request, Result, Undo, Want,
};
use disk::Disk;
use layout::{Layout, SECTOR, Width};
use open_files::OpenFiles;
use overlay::Overlay;
use parking_lot::RwLock;
use rt::folder::Folder;
use rt::{BoxFuture, Buf, BufMut};
use shown::Shown;
use std::path::Path;
use std::sync::Arc;
use tree::{Tree, told};
use writing::{Wait, Writing};

/// The `vvfat` driver.
pub const VVFAT: DriverType = DriverType {
    name: "vvfat",
    prefixes: &["fat:"],
    parse_filename: Some(parse_filename),
    open: &Open(open),
    ..DriverType::PROTOCOL
};

/// The label where none is given.
const LABEL: &str = "QEMU VVFAT";

/// Reads `fat:[floppy:][12:|16:|32:][rw:]folder`, in any order.
fn parse_filename(name: &str) -> Result<Options> {
    let mut rest = name.strip_prefix("fat:").unwrap_or(name);
    let (mut width, mut floppy, mut rw) = (0, false, false);
    while let Some((word, behind)) = rest.split_once(':') {
        match word {
            "floppy" => floppy = true,
            "rw" => rw = true,
            "12" => width = 12,
            "16" => width = 16,
            "32" => width = 32,
            _ => break,
        }
        rest = behind;
    }
    let mut options = Options::new().with_str("dir", rest);
    options.set("fat-type", Opt::Int(width));
    options.set("floppy", Opt::Bool(floppy));
    options.set("rw", Opt::Bool(rw));
    Ok(options)
}

fn open(context: &mut OpenContext, options: BlockdevOptionsVVFAT) -> BoxFuture<'_, Result<Opened>> {
    Box::pin(async move {
        let naming = naming(&options);
        let layout = layout_of(&options)?;
        let label = label_of(options.label.as_deref().unwrap_or(LABEL))?;
        let writable = options.rw == Some(true);
        if writable && context.common().read_only {
            return Err(BlockError::invalid("Unable to set VVFAT to 'rw' when drive is read-only"));
        }
        if !writable && !context.common().read_only && !context.fall_back_to_read_only() {
            return Err(refused());
        }
        let name = options.dir;
        let folder = Folder::open(Path::new(&name)).await;
        let folder = folder.map_err(|e| BlockError::os(format!("Could not read directory {name}"), &e))?;
        let mut tree = Tree::read(&folder, &name, &layout, &label).await?;
        let notices = context.notices();
        tell(&notices, &name, &tree);
        let found = std::mem::take(&mut tree.found);
        let shown = Shown {
            disk: RwLock::new(Disk::new(layout, &label, tree)),
            files: OpenFiles::new(folder.clone(), name.clone()),
            overlay: if writable { Some(Arc::new(Overlay::new(&layout).await?)) } else { None },
        };
        let writing = match shown.overlay.clone() {
            Some(overlay) => Some(Writing::new(folder, name, layout, notices, &shown, overlay, found).await?),
            None => None,
        };
        Ok(Opened {
            driver: Arc::new(Vvfat { layout, disk: Arc::new(Both { shown, writing }), naming }),
            filename: None,
        })
    })
}

/// Tells what of a folder is not shown.
fn tell(notices: &Notices, name: &str, tree: &Tree) {
    if let (count, Some(first)) = &tree.left_out {
        notices.warn(&format!(
            "{} is neither a file nor a folder, as {count} of the names in '{name}': these are not shown",
            told(name, first)
        ));
    }
    for left in &tree.left_behind {
        notices.warn(&format!(
            "{} was left when a program was killed that changed the folder: what it holds is not shown, and the file 'contents' in it \
             tells where it belongs",
            told(name, left)
        ));
    }
}

/// What was said of the disk.
fn naming(options: &BlockdevOptionsVVFAT) -> Options {
    let mut naming = Options::new();
    if let Some(width) = options.fat_type {
        naming.set("fat-type", Opt::Int(width));
    }
    naming.set("dir", Opt::Str(options.dir.clone()));
    if let Some(label) = &options.label {
        naming.set("label", Opt::Str(label.clone()));
    }
    if let Some(floppy) = options.floppy {
        naming.set("floppy", Opt::Bool(floppy));
    }
    if let Some(rw) = options.rw {
        naming.set("rw", Opt::Bool(rw));
    }
    naming
}

fn layout_of(options: &BlockdevOptionsVVFAT) -> Result<Layout> {
    let width = match options.fat_type.unwrap_or(0) {
        0 => None,
        12 => Some(Width::Fat12),
        16 => Some(Width::Fat16),
        32 => Some(Width::Fat32),
        _ => return Err(BlockError::invalid("Valid FAT types are only 12, 16 and 32")),
    };
    match options.floppy {
        Some(true) => Layout::of_floppy(width),
        _ => Ok(Layout::of_hard_disk(width.unwrap_or(Width::Fat16))),
    }
}

/// A label as it stands on the disk.
fn label_of(label: &str) -> Result<[u8; 11]> {
    let mut bytes = [b' '; 11];
    match bytes.get_mut(..label.len()) {
        Some(front) if label.bytes().all(|byte| matches!(byte, b' '..=b'~')) => {
            front.copy_from_slice(label.as_bytes());
            Ok(bytes)
        }
        Some(_) => Err(BlockError::invalid("the label of a FAT disk is text in ASCII")),
        None => Err(BlockError::invalid("vvfat label cannot be longer than 11 bytes")),
    }
}

/// The error of a disk that can't be written to.
fn refused() -> BlockError {
    BlockError::new(ErrorKind::ReadOnly, "Image is read-only")
}

/// An open disk.
struct Vvfat {
    layout: Layout,
    disk: Arc<Both>,
    /// What was said of it.
    naming: Options,
}

/// What a disk shows, and how it is written to, if it can be.
struct Both {
    shown: Shown,
    writing: Option<Writing>,
}

impl Both {
    fn writing(&self) -> Result<&Writing> {
        self.writing.as_ref().ok_or_else(refused)
    }

    /// Brings the folder in step after a write of something watched: now, or when it is time.
    async fn follow(self: &Arc<Self>, writing: &Writing) {
        let later = match writing.wait() {
            // What waits is told at the close, and before that by notices.
            Wait::Now => writing.settle_in_passing(&self.shown).await,
            Wait::SomebodyDoes => None,
            Wait::For(time) => Some(time),
        };
        let Some(time) = later else { return };
        let disk = Arc::downgrade(self);
        let settle = async move {
            rt::sleep(time).await;
            if let Some(disk) = disk.upgrade()
                && let Some(writing) = &disk.writing
            {
                writing.waited();
                writing.settle_in_a_pause(&disk.shown).await;
            }
        };
        rt::spawn(settle).detach();
    }

    async fn settle(&self) -> Result<()> {
        match &self.writing {
            Some(writing) => writing.settle(&self.shown).await,
            None => Ok(()),
        }
    }
}

impl Driver for Vvfat {
    fn facts(&self) -> Facts {
        match self.disk.writing {
            Some(_) => Facts { alignment: SECTOR as u32, can_write_zeroes: true, ..Facts::default() },
            None => Facts::default(),
        }
    }

    fn length(&self) -> u64 {
        self.layout.sectors * SECTOR
    }

    fn naming_options(&self) -> Options {
        self.naming.clone()
    }

    fn map(&self, offset: u64, len: u64, _: Want) -> BoxFuture<'_, Result<Extent>> {
        Box::pin(async move { Ok(self.disk.shown.map(offset, len)) })
    }

    fn try_read(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        match &self.disk.writing {
            None => self.disk.shown.fill(offset, buf),
            Some(writing) => match writing.turn.try_enter() {
                Some(_inside) => self.disk.shown.fill(offset, buf),
                None => Ok(0),
            },
        }
    }

    fn read(&self, offset: u64, buf: BufMut) -> BoxFuture<'_, (BufMut, Result<()>)> {
        Box::pin(async move {
            let _inside = match &self.disk.writing {
                Some(writing) => Some(writing.turn.enter().await),
                None => None,
            };
            self.disk.shown.fill_all(offset, buf).await
        })
    }

    fn try_write(&self, offset: u64, data: &[u8]) -> Result<usize> {
        let writing = self.disk.writing()?;
        // What is watched may have the folder follow, which takes its time.
        match writing.turn.try_enter() {
            Some(_inside) if !writing.overlay.is_watched(offset, data.len() as u64) => {
                writing.overlay.try_write(offset, data)
            }
            _ => Ok(0),
        }
    }

    fn write(&self, offset: u64, data: Buf, _: Request) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let writing = self.disk.writing()?;
            let len = data.len() as u64;
            let inside = writing.turn.enter().await;
            writing.overlay.write(offset, data).await?;
            let watched = writing.wrote(offset, len);
            drop(inside);
            if watched {
                self.disk.follow(writing).await;
            }
            Ok(())
        })
    }

    fn write_zeroes(&self, offset: u64, len: u64, _: Request) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let writing = self.disk.writing()?;
            let inside = writing.turn.enter().await;
            writing.overlay.write_zeroes(offset, len).await?;
            let watched = writing.wrote(offset, len);
            drop(inside);
            if watched {
                self.disk.follow(writing).await;
            }
            Ok(())
        })
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async {
            // Guests flush in the middle of their work: what can't be in the folder yet is told by notices, and at the close.
            // What is gone from one folder and whose clusters are taken may be about to appear in another one.
            if let Some(writing) = &self.disk.writing {
                writing.settle_in_a_pause(&self.disk.shown).await;
            }
            Ok(())
        })
    }

    fn set_writable(&self, writable: bool) -> BoxFuture<'_, Result<Undo>> {
        Box::pin(async move {
            match writable {
                true => _ = self.disk.writing()?,
                false => self.disk.settle().await?,
            }
            Ok(Box::new(|| {}) as Undo)
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.disk.settle())
    }
}

#[cfg(test)]
mod tests;
