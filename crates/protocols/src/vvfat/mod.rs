//! `vvfat`: a folder of the host as a disk with a FAT file system. It is only read.
//!
//! ```text
//!  folder ─ read once, at the open ─▶ tree ─▶ disk: first sectors · tables · folders │ clusters ◀─ read when asked for ─ files
//! ```
//!
//! What the disk shows of names is what the folder held when it was opened. What is read of a file is what the file holds then: a
//! file that was replaced, or is shorter than it was, fails there.
//!
//! Bounds: those of the tree; at most [`open_files::MOST_OPEN`] files are kept open.
mod disk;
mod entry;
mod layout;
mod name;
mod open_files;
mod tree;

use api::BlockdevOptionsVVFAT;
use block::{
    BlockError, Driver, DriverType, ErrorKind, Extent, ExtentKind, Facts, Open, OpenContext, Opened, Opt,
    Options, Result, Undo, Want,
};
use disk::{Disk, Piece};
use layout::{Layout, Width};
use open_files::OpenFiles;
use rt::folder::Folder;
use rt::{BoxFuture, BufMut};
use std::path::Path;
use std::sync::Arc;
use tree::{Tree, told};

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
        let read_only = context.common().read_only || context.fall_back_to_read_only();
        if options.rw == Some(true) {
            return Err(match read_only {
                true => BlockError::invalid("Unable to set VVFAT to 'rw' when drive is read-only"),
                false => {
                    BlockError::unsupported("folders can't be written to yet; leave 'rw' out to read them")
                }
            });
        }
        if !read_only {
            return Err(refused());
        }
        let dir = options.dir;
        let folder = Folder::open(Path::new(&dir)).await;
        let folder = folder.map_err(|e| BlockError::os(format!("Could not read directory {dir}"), &e))?;
        let tree = Tree::read(&folder, &dir, &layout, &label).await?;
        if let (count, Some(first)) = &tree.left_out {
            let text = format!(
                "{} is neither a file nor a folder, as {count} of the names in '{dir}': these are not shown",
                told(&dir, first)
            );
            context.notices().warn(&text);
        }
        let disk = Disk::new(layout, &label, tree);
        Ok(Opened {
            driver: Arc::new(Vvfat { disk, files: OpenFiles::new(folder, dir), naming }),
            filename: None,
        })
    })
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
    disk: Disk,
    files: OpenFiles,
    /// What was said of it.
    naming: Options,
}

impl Vvfat {
    /// Fills the front of `buf` with what needs no file; tells how many bytes.
    fn fill(&self, offset: u64, buf: &mut [u8]) -> usize {
        let mut filled = 0;
        while let Some(rest) = buf.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let (piece, len) = self.disk.piece_at(offset + filled as u64);
            let len = rest.len().min(usize::try_from(len).unwrap_or(usize::MAX));
            let Some(part) = rest.get_mut(..len) else { break };
            match piece {
                Piece::Zero => part.fill(0),
                Piece::Bytes(bytes) => part.copy_from_slice(bytes.get(..len).unwrap_or_default()),
                Piece::Table(from) => self.disk.fill_table(from, part),
                Piece::File(..) => break,
            }
            filled += len;
        }
        filled
    }

    async fn fill_all(&self, offset: u64, mut buf: BufMut) -> (BufMut, Result<()>) {
        let mut filled = 0;
        loop {
            filled += self.fill(offset + filled as u64, buf.get_mut(filled..).unwrap_or_default());
            if filled == buf.len() {
                return (buf, Ok(()));
            }
            let (piece, len) = self.disk.piece_at(offset + filled as u64);
            let Piece::File(file, from) = piece else { continue };
            let len = (buf.len() - filled).min(usize::try_from(len).unwrap_or(usize::MAX));
            match self.files.read(file, from, len).await {
                Ok(bytes) => {
                    if let Some(to) = buf.get_mut(filled..filled + len) {
                        to.copy_from_slice(&bytes);
                    }
                }
                Err(e) => return (buf, Err(e.at(offset + filled as u64))),
            }
            filled += len;
        }
    }
}

impl Driver for Vvfat {
    fn facts(&self) -> Facts {
        Facts::default()
    }

    fn length(&self) -> u64 {
        self.disk.len()
    }

    fn naming_options(&self) -> Options {
        self.naming.clone()
    }

    fn map(&self, offset: u64, len: u64, _: Want) -> BoxFuture<'_, Result<Extent>> {
        let is_zero = |at| matches!(self.disk.piece_at(at).0, Piece::Zero);
        let zero = is_zero(offset);
        let mut end = offset;
        while end < offset + len && is_zero(end) == zero {
            end += self.disk.piece_at(end).1;
        }
        let kind = if zero { ExtentKind::Zero { reserved: None } } else { ExtentKind::Stored };
        Box::pin(async move { Ok(Extent { len: len.min(end - offset), kind }) })
    }

    fn try_read(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        Ok(self.fill(offset, buf))
    }

    fn read(&self, offset: u64, buf: BufMut) -> BoxFuture<'_, (BufMut, Result<()>)> {
        Box::pin(self.fill_all(offset, buf))
    }

    fn flush(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn set_writable(&self, writable: bool) -> BoxFuture<'_, Result<Undo>> {
        Box::pin(async move { if writable { Err(refused()) } else { Ok(Box::new(|| {}) as Undo) } })
    }
}

#[cfg(test)]
mod tests;
