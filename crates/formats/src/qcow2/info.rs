//! What `info` tells of an image beyond size and name.
use super::bitmaps::Bitmap;
use super::header::Header;
use super::snapshots::{Snapshot, Snapshots};
use super::{bitmaps, header};
use block::{DriverInfo, Node, Opt, Options, Result};
use std::sync::Arc;

/// Most names of bitmaps in one sentence.
const MOST_NAMES: usize = 8;

/// The parts of `info` that lie outside of the header. They are read at open, because asking for them later must
/// not wait.
#[derive(Debug, Clone, Default)]
pub(super) struct Listed {
    /// Internal snapshots.
    pub snapshots: Snapshots,
    bitmaps: Vec<Bitmap>,
}

impl Listed {
    /// Reads the directories of snapshots and bitmaps. A wrong snapshot table refuses the image; a wrong bitmap
    /// directory is no more than a warning, for nothing else depends on it.
    pub(super) async fn read(file: &Arc<Node>, header: &Header) -> Result<Self> {
        let snapshots = Snapshots::read(file, header).await?;
        let bitmaps = bitmaps::read(file, header).await.unwrap_or_else(|error| {
            tracing::warn!(file = %file.filename(), %error, "bitmaps are not listed");
            Vec::new()
        });
        Ok(Self { snapshots, bitmaps })
    }
}

/// What the first write makes out of date, in a sentence for each kind: things beside the data that only other programs
/// keep up to date.
pub(super) fn outdated_by_writing(header: &Header, listed: &Listed, image: &str) -> Vec<String> {
    let mut told = Vec::new();
    if bitmaps::consistent(header).is_some() {
        let names: Vec<_> =
            listed.bitmaps.iter().take(MOST_NAMES).map(|bitmap| format!("'{}'", bitmap.name())).collect();
        let more = if listed.bitmaps.len() > MOST_NAMES { ", …" } else { "" };
        told.push(format!(
            "'{image}' has persistent bitmaps ({}{more}), which are not kept up to date here: the first write makes all \
             of them invalid",
            names.join(", ")
        ));
    }
    if let Some(names) = header.unknown_autoclear() {
        told.push(format!(
            "'{image}' has features that are not kept up to date here ({names}): the first write switches them off"
        ));
    }
    told
}

/// What `info` tells.
pub(super) fn describe(header: &Header, listed: &Listed) -> DriverInfo {
    let bitmaps = listed.bitmaps.iter().map(|b| Opt::Dict(b.describe())).collect::<Vec<_>>();
    let mut specific = Options::new().with_str("compat", if header.version >= 3 { "1.1" } else { "0.10" });
    specific.set("compression-type", Opt::Str(header.compression.name().to_owned()));
    if header.version >= 3 {
        specific.set("lazy-refcounts", Opt::Bool(header.has_lazy_refcounts()));
    }
    if !bitmaps.is_empty() {
        specific.set("bitmaps", Opt::List(bitmaps));
    }
    specific.set("refcount-bits", Opt::Uint(u64::from(header.refcount_bits())));
    if header.version >= 3 {
        specific.set("corrupt", Opt::Bool(header.is_corrupt()));
        let extended = header.incompatible & header::INCOMPATIBLE_EXTENDED_L2 != 0;
        specific.set("extended-l2", Opt::Bool(extended));
    }
    DriverInfo {
        cluster_size: Some(header.cluster_size()),
        dirty: Some(header.is_dirty()),
        encrypted: header.crypt_method != 0,
        compressed: None,
        vm_state_offset: header.vm_state_offset(),
        backing_filename: header.backing_name.clone(),
        backing_format: header.backing_format(),
        specific: Some(("qcow2", specific)),
        snapshots: listed.snapshots.list.iter().map(Snapshot::describe).collect(),
    }
}
