//! The file of an image, as its metadata are written to it; and when nothing may be written any more.
//!
//! Laws:
//! - a write that failed may have stored all it had, a part, or nothing. That does no harm where nothing on disk leads to it
//!   yet, and none where the page stays dirty: what it leads to is durable, and the next epoch writes it again
//!   ([`MetadataFile::write`]);
//! - lack of space poisons nothing: what could not be written may be tried again;
//! - a failed flush leaves unknown what is on disk of all that was written before, and so does a failed write over what is in
//!   use and held nowhere ([`MetadataFile::overwrite`]): the image's node and the file's are poisoned. Reads go on; nothing
//!   is written before the image is closed and opened anew.
use super::codec::Codec;
use super::dirty::Sealed;
use super::page::{Page, UNPLACED};
use crate::edges::{ChildId, Edges};
use crate::error::{BlockError, ErrorKind, Result};
use crate::node::Node;
use crate::request::{Flags, Request};
use crate::steps::{Step, Told};
use rt::{Buf, BufMut};
use std::sync::{Arc, OnceLock, Weak};

/// Pages that follow each other are written together, in pieces of about this many bytes.
const PIECE: usize = 1 << 20;

/// The file child of an image.
pub struct MetadataFile {
    edges: Arc<Edges>,
    child: ChildId,
    /// The image's own node, once there is one.
    node: OnceLock<Weak<Node>>,
    /// The format's name, for messages.
    format: &'static str,
}

impl MetadataFile {
    /// The file at an edge of an image of the named format.
    pub fn new(edges: Arc<Edges>, child: ChildId, format: &'static str) -> Self {
        Self { edges, child, node: OnceLock::new(), format }
    }

    /// The edge that leads to the file.
    pub fn child(&self) -> ChildId {
        self.child
    }

    /// The file's node.
    pub fn node(&self) -> Result<Arc<Node>> {
        self.edges.need(self.child)
    }

    /// The file's name, for messages.
    pub fn name(&self) -> String {
        self.node().map(|file| file.filename()).unwrap_or_default()
    }

    /// Takes note of the image's own node. Told once.
    pub fn attached(&self, node: &Arc<Node>) {
        self.node.get_or_init(|| Arc::downgrade(node));
    }

    /// The image's own node, while it is open.
    pub fn image(&self) -> Option<Arc<Node>> {
        self.node.get()?.upgrade()
    }

    /// Refuses to go on where an earlier failure stopped all writing.
    pub fn unharmed(&self) -> Result<()> {
        match self.image().into_iter().chain(self.node().ok()).find(|n| n.poisoned()) {
            Some(node) => Err(node.poison_error()),
            None => Ok(()),
        }
    }

    /// Judges a failed flush, or a failed write over what is held nowhere, by the laws above.
    pub fn failed(&self, error: BlockError) -> BlockError {
        let harmed = self.node().is_ok_and(|file| file.poisoned());
        if error.kind() != ErrorKind::NoSpace || harmed { self.lost(error) } else { error }
    }

    /// What is in memory is no longer what is on disk, or what it may be: nothing is written any more, whatever the error.
    pub fn lost(&self, error: BlockError) -> BlockError {
        self.image().into_iter().chain(self.node().ok()).for_each(|node| node.poison(&error));
        error
    }

    /// Reads metadata.
    pub async fn read(&self, offset: u64, len: u64) -> Result<BufMut> {
        let (bytes, result) = self.node()?.read(offset, BufMut::with_len(len as usize)).await;
        result.map(|()| bytes).map_err(|e| e.context(format!("reading {} metadata", self.format)))
    }

    /// Writes metadata that nothing on disk leads to, or that the caller holds until it is stored. Not durable before the next
    /// flush. A failure stops nothing.
    pub async fn write(&self, offset: u64, bytes: Buf) -> Result<()> {
        let written = self.node()?.write(offset, bytes, Request::DRIVER).await;
        written.map_err(|e| e.context(format!("writing {} metadata", self.format)))
    }

    /// Makes zeroes of space that nothing on disk leads to, which may lose its place on disk: a page is given it before its
    /// first change. Not durable before the next flush. A failure stops nothing.
    pub async fn write_zeroes(&self, offset: u64, len: u64) -> Result<()> {
        let written = self.node()?.write_zeroes(offset, len, Request::DRIVER.with(Flags::MAY_UNMAP)).await;
        written.map_err(|e| e.context(format!("writing {} metadata", self.format)))
    }

    /// Writes over metadata in use that is held nowhere. Not durable before the next flush.
    pub async fn overwrite(&self, offset: u64, bytes: Buf) -> Result<()> {
        self.write(offset, bytes).await.map_err(|e| self.failed(e))
    }

    /// Tells the file of a step that is about to be done there.
    pub fn announce(&self, step: Step) -> Told<'static> {
        self.edges.announce_to(self.child, step)
    }

    /// Makes all that was written durable.
    pub async fn flush(&self) -> Result<()> {
        self.announce(Step::FlushToDisk).await;
        self.node()?.flush().await.map_err(|e| self.failed(e))
    }

    /// Writes sealed pages to their places, neighbours together.
    pub async fn write_pages<C: Codec>(&self, sealed: &[Sealed<C>]) -> Result<()> {
        let mut rest = sealed;
        while let Some(first) = rest.first() {
            let mut words = first.words.clone();
            let mut count = 1;
            while let Some(next) = rest.get(count)
                && next.place == first.place + (words.len() * C::BYTES) as u64
                && words.len() * C::BYTES < PIECE
            {
                words.extend(&next.words);
                count += 1;
            }
            self.write(first.place, C::bytes(&words).freeze()).await?;
            rest = rest.get(count..).unwrap_or_default();
        }
        Ok(())
    }

    /// Makes the file at least as long as `end` bytes, with zeroes. The caller holds the allocator, so that nobody writes
    /// behind the end meanwhile.
    pub async fn cover(&self, end: u64) -> Result<()> {
        let file = self.node()?;
        if !file.facts().grows_with_zeroes {
            return Ok(());
        }
        let covered = file.grow_to(end).await;
        covered.map_err(|e| e.context("growing the file to the end of its last cluster"))
    }

    /// Before the first change of a page: gives it space in the file. A change that is accepted must not fail later, when
    /// an epoch writes it, for lack of space. What is written is what is there, so the caller keeps others from changing
    /// the page meanwhile.
    pub async fn place<C: Codec>(&self, page: &Page<C>) -> Result<()> {
        if page.marks() & UNPLACED == 0 {
            return Ok(());
        }
        let words: Vec<_> = page.words_from(0).collect();
        self.write(page.place(), C::bytes(&words).freeze()).await?;
        page.change_marks(0, UNPLACED);
        Ok(())
    }
}
