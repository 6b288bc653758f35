//! What a disk shows: what was written to it, and beneath that what the folder gave.
use super::disk::{Disk, Piece};
use super::open_files::OpenFiles;
use super::overlay::Overlay;
use block::{Extent, ExtentKind, Result};
use parking_lot::RwLock;
use rt::BufMut;
use std::ops::Range;
use std::sync::Arc;

/// Bytes that are copied at once.
pub const PORTION: u64 = 1 << 20;

pub struct Shown {
    pub disk: RwLock<Disk>,
    pub files: OpenFiles,
    /// Only of a disk that can be written to.
    pub overlay: Option<Arc<Overlay>>,
}

impl Shown {
    /// Whether the byte was written, and for how many bytes from it on this is so, of `len`.
    fn is_written(&self, at: u64, len: u64) -> (bool, u64) {
        self.overlay.as_ref().map_or((false, len), |overlay| overlay.has(at, len))
    }

    /// Fills the front of `buf` with what can be had without waiting; tells how many bytes.
    pub fn fill(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let disk = self.disk.read();
        let mut filled = 0;
        while let Some(rest) = buf.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let at = offset + filled as u64;
            let (written, alike) = self.is_written(at, rest.len() as u64);
            let (piece, len) = disk.piece_at(at);
            let len = if written { alike } else { alike.min(len) };
            let len = rest.len().min(usize::try_from(len).unwrap_or(usize::MAX));
            let Some(part) = rest.get_mut(..len) else { break };
            match (piece, &self.overlay) {
                (_, Some(overlay)) if written => match overlay.try_read(at, part)? {
                    0 => break,
                    read => {
                        filled += read;
                        continue;
                    }
                },
                (Piece::Zero, _) => part.fill(0),
                (Piece::Bytes(bytes), _) => part.copy_from_slice(bytes.get(..len).unwrap_or_default()),
                (Piece::Table(from), _) => disk.fill_table(from, part),
                (Piece::File(..), _) => break,
            }
            filled += len;
        }
        Ok(filled)
    }

    pub async fn fill_all(&self, offset: u64, mut buf: BufMut) -> (BufMut, Result<()>) {
        match self.fill_rest(offset, &mut buf).await {
            Ok(()) => (buf, Ok(())),
            Err(e) => (buf, Err(e)),
        }
    }

    async fn fill_rest(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let mut filled = 0;
        while filled < buf.len() {
            let at = offset + filled as u64;
            filled += self.fill(at, buf.get_mut(filled..).unwrap_or_default())?;
            if filled == buf.len() {
                break;
            }
            let at = offset + filled as u64;
            let (written, alike) = self.is_written(at, (buf.len() - filled) as u64);
            let file = match self.disk.read().piece_at(at) {
                _ if written => None,
                (Piece::File(file, from), len) => Some((file.clone(), from, alike.min(len))),
                _ => continue,
            };
            let bytes = match (file, &self.overlay) {
                (Some((file, from, len)), _) => {
                    self.files.read(&file, from, len as usize).await.map_err(|e| e.at(at))?
                }
                (None, Some(overlay)) => overlay.read(at, alike as usize).await?,
                (None, None) => continue,
            };
            if let Some(to) = buf.get_mut(filled..filled + bytes.len()) {
                to.copy_from_slice(&bytes);
            }
            filled += bytes.len();
        }
        Ok(())
    }

    /// Some bytes of the disk.
    pub async fn read(&self, range: Range<u64>) -> Result<BufMut> {
        let buf = BufMut::with_len(range.end.saturating_sub(range.start) as usize);
        let (buf, result) = self.fill_all(range.start, buf).await;
        result.map(|()| buf)
    }

    /// Zeroes and other bytes.
    pub fn map(&self, offset: u64, len: u64) -> Extent {
        let disk = self.disk.read();
        let piece_at = |at: u64| {
            let (written, alike) = self.is_written(at, offset + len - at);
            let (piece, len) = disk.piece_at(at);
            (!written && matches!(piece, Piece::Zero), if written { alike } else { alike.min(len) })
        };
        let zero = piece_at(offset).0;
        let mut end = offset;
        while end < offset + len {
            let (is_zero, len) = piece_at(end);
            if is_zero != zero {
                break;
            }
            end += len;
        }
        let kind = if zero { ExtentKind::Zero { reserved: None } } else { ExtentKind::Stored };
        Extent { len: len.min(end - offset), kind }
    }

    /// Copies what files of the folder hold of these bytes to where what was written is: the folder can do without them then.
    pub async fn keep(&self, range: Range<u64>) -> Result<()> {
        let Some(overlay) = &self.overlay else { return Ok(()) };
        let mut at = range.start;
        while at < range.end {
            let (written, alike) = overlay.has(at, range.end - at);
            let (is_file, len) = match self.disk.read().piece_at(at) {
                (Piece::File(..), len) => (true, len),
                (_, len) => (false, len),
            };
            let len = if written { alike } else { alike.min(len).min(PORTION) };
            if is_file && !written {
                // Whole sectors: behind the end of a file there are zeroes.
                let end = (at + len).next_multiple_of(super::layout::SECTOR);
                let bytes = self.read(at..end).await?;
                overlay.keep(at, &bytes).await?;
                at = end;
            } else {
                at += len;
            }
        }
        Ok(())
    }
}
