//! What `info` tells of an image beyond size and name.
use super::bitmaps::{self, Bitmap, Persistent};
use super::header::{Compression, Header};
use super::snapshots::{Snapshot, Snapshots};
use api::{
    ImageInfoSpecific, ImageInfoSpecificQCow2, ImageInfoSpecificQCow2Encryption, Qcow2CompressionType,
};
use block::{BlockError, DriverInfo, Node, RequestLimits, Result};
use std::sync::Arc;

/// The parts of `info` that lie outside of the header. They are read at open, because asking for them later must
/// not wait.
#[derive(Debug, Clone, Default)]
pub(super) struct Listed {
    /// Internal snapshots.
    pub snapshots: Snapshots,
    /// Why there are no snapshots here although the image has some.
    pub snapshots_fault: Option<BlockError>,
    /// The same of bitmaps.
    pub bitmaps_fault: Option<BlockError>,
}

impl Listed {
    /// Reads the directories of snapshots and bitmaps, as far as they are right: nobody needs them to read the disk.
    pub(super) async fn read(file: &Arc<Node>, header: &Header, persistent: &Persistent) -> Self {
        fn apart<T: Default>(read: Result<T>) -> (T, Option<BlockError>) {
            read.map_or_else(|fault| (T::default(), Some(fault)), |list| (list, None))
        }
        let (snapshots, snapshots_fault) = apart(Snapshots::read(file, header).await);
        let (bitmaps, bitmaps_fault) = apart(bitmaps::read(file, header).await);
        persistent.take(bitmaps_fault.is_none().then_some(bitmaps));
        Self { snapshots, snapshots_fault, bitmaps_fault }
    }

    /// What a person should know of an image that is opened, in sentences.
    pub(super) fn notices(&self, header: &Header, image: &str) -> Vec<String> {
        let mut told = Vec::new();
        if let Some(fault) = &self.snapshots_fault {
            told.push(format!(
                "the snapshots of '{image}' can't be listed ({fault}); 'cairn img check -r all' repairs their table"
            ));
        }
        if let Some(fault) = &self.bitmaps_fault {
            told.push(format!("the persistent bitmaps of '{image}' can't be listed ({fault})"));
        }
        if header.bitmaps().is_some() && bitmaps::consistent(header).is_none() {
            told.push(format!(
                "a program that does not keep bitmaps has written to '{image}': its persistent bitmaps are invalid; \
                 'cairn img check -r leaks' gives their space back"
            ));
        }
        told
    }
}

/// What the first write makes out of date, in a sentence for each kind: things beside the data that only other programs
/// keep up to date.
pub(super) fn outdated_by_writing(header: &Header, listed: &Listed, image: &str) -> Vec<String> {
    let mut told = Vec::new();
    if bitmaps::consistent(header).is_some() && listed.bitmaps_fault.is_some() {
        told.push(format!(
            "the persistent bitmaps of '{image}' can't be kept up to date: the first write makes all of them invalid"
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
pub(super) fn describe(
    header: &Header,
    listed: &Listed,
    bitmaps: &[Bitmap],
    encrypt: Option<ImageInfoSpecificQCow2Encryption>,
) -> DriverInfo {
    let of_version_3 = |flag: bool| (header.version >= 3).then_some(flag);
    let specific = ImageInfoSpecificQCow2 {
        compat: if header.version >= 3 { "1.1" } else { "0.10" }.to_owned(),
        compression_type: match header.compression {
            Compression::Zlib => Qcow2CompressionType::Zlib,
            Compression::Zstd => Qcow2CompressionType::Zstd,
        },
        lazy_refcounts: of_version_3(header.has_lazy_refcounts()),
        bitmaps: (!bitmaps.is_empty()).then(|| bitmaps.iter().map(Bitmap::describe).collect()),
        refcount_bits: i64::from(header.refcount_bits()),
        data_file: header.data_file_name(),
        data_file_raw: header.has_data_file().then(|| header.is_data_raw()),
        encrypt,
        corrupt: of_version_3(header.is_corrupt()),
        extended_l2: of_version_3(header.has_extended_l2()),
    };
    let cluster = header.cluster_size();
    DriverInfo {
        cluster_size: Some(cluster),
        dirty: Some(header.is_dirty()),
        encrypted: header.crypt_method != 0,
        compressed: None,
        vm_state_offset: header.vm_state_offset(),
        backing_filename: header.backing_name.clone(),
        backing_format: header.backing_format(),
        specific: Some(ImageInfoSpecific::Qcow2(specific)),
        bitmaps: header.version >= 3,
        snapshots: listed.snapshots.list.iter().map(Snapshot::describe).collect(),
        limits: RequestLimits {
            zeroes_alignment: Some(if header.has_extended_l2() { cluster / 32 } else { cluster }),
            discard_alignment: Some(cluster),
            ..RequestLimits::default()
        },
    }
}
