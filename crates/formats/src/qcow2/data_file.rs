//! Images whose guest data is in a file of its own.
//!
//! ```text
//!  image file     header ─▶ L1 ─▶ L2: is the cluster data, zeroes, or a hole?
//!  data file      each cluster at the offset that it has on the disk
//! ```
//!
//! Laws:
//! - nothing is allocated in the data file and nothing counts references to it: that an entry names a place there only says
//!   that the bytes in it are the disk's;
//! - the data file is flushed before the tables are written: what an entry on disk calls data was durable before;
//! - what is given up there becomes a hole before the entry says so. No entry but this one ever leads to the place, so
//!   nothing else can be met in it;
//! - a raw data file holds at any time what the disk shows: zeroes are written to it before the entry calls them so, and what
//!   is behind its old end when the disk grows is the disk's: somebody's who has appended it, or the old disk's where a
//!   shrink was cut off by a crash. What was discarded may be anything there.
//!
//! Specification: qcow2.rst, "External data file bit", "Raw external data bit".
use super::entry::Entry;
use super::header::Header;
use super::image::Image;
use api::PreallocMode;
use block::{
    Action, BlockError, ChildId, ChildRole, ChildSpec, Grant, Link, MapChange, OpenContext, Request, Result,
};

/// Opens the data file, if the image has one; tells the edge where guest data is. Who looks at images that nobody vouches
/// for opens it without: its mapping can be told then, and nothing be read.
pub(super) async fn open(context: &mut OpenContext, file: ChildId, header: &Header) -> Result<ChildId> {
    let link = Link { filename: header.data_file_name(), format: None };
    let stored = header.has_data_file().then_some(&link);
    let spec = ChildSpec { name: "data-file".into(), role: ChildRole::DATA, stored };
    let (id, data) = context.child(spec).await?;
    match data {
        Some(_) if !header.has_data_file() => {
            Err(BlockError::invalid("'data-file' can only be set for images with an external data file"))
        }
        None if !header.has_data_file() => Ok(file),
        None if context.policy().data_file == Grant::Skip && context.common().read_only => Ok(id),
        None => {
            let text =
                "'data-file' is required for this image: its header names no file for the guest's data";
            Err(BlockError::invalid(text))
        }
        Some(data) => {
            let own = context.edges().get(file).and_then(|file| file.identity());
            if own.is_some() && own == data.identity() {
                let text = format!("'{}' can't be the data file of the image in it", data.filename());
                return Err(BlockError::invalid(text));
            }
            Ok(id)
        }
    }
}

impl Image {
    /// Refuses by name what needs more than one copy of a cluster, which a data file has no place for.
    pub(super) fn without_data_file(&self, what: &str) -> Result<()> {
        if !self.geometry.data_file {
            return Ok(());
        }
        let text = format!("an image with an external data file can't have {what}");
        Err(BlockError::unsupported(text))
    }

    /// The data file does the same as is asked of the image.
    pub(super) fn in_data_file(&self, offset: u64) -> Action {
        Action::Forward { child: self.data, offset }
    }

    /// Whether clearing these entries changes the data file too.
    pub(super) fn clears_data_file(&self, entries: &[Entry], change: MapChange, unmap: bool) -> bool {
        if !self.geometry.data_file {
            return false;
        }
        let settings = self.settings.read();
        let gives_up =
            (change == MapChange::Discard || unmap) && settings.pass_request && !settings.keep_discarded;
        let zeroes = change == MapChange::Zero && self.data_is_raw();
        zeroes || gives_up && entries.iter().any(|entry| entry.host_cluster().is_some())
    }

    /// Makes the data file as long as the disk will be, with zeroes behind its old end where it is no raw one.
    pub(super) async fn grow_data_file(&self, old: u64, size: u64, reserve: PreallocMode) -> Result<()> {
        let Some(data) = self.data_file()? else { return Ok(()) };
        let there = data.length().min(size);
        if there > old && !self.data_is_raw() {
            data.write_zeroes(old, there - old, Request::DRIVER).await?;
        }
        if data.length() >= size || !data.facts().grows_with_zeroes {
            return Ok(());
        }
        let reserve = if reserve == PreallocMode::Metadata { PreallocMode::Off } else { reserve };
        data.set_length(size, reserve).await
    }

    /// Cuts the data file at the new end of the disk, which nothing leads behind any more.
    pub(super) async fn cut_data_file(&self, size: u64) -> Result<()> {
        match self.data_file()? {
            Some(data) if data.length() > size && data.facts().grows_with_zeroes => {
                data.set_length(size, PreallocMode::Off).await
            }
            _ => Ok(()),
        }
    }
}
