//! What can be wrong with a header, in words that name the field, its offset in the file, and what to do.
use super::MAX_BACKING_NAME;
use block::{BlockError, ErrorKind};

/// A header that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// The magic is another one.
    #[error("Image is not in qcow2 format")]
    NotQcow2,
    /// The bytes given end before the header does.
    #[error("the file ends inside the header, at byte {have}; it is truncated")]
    Short {
        /// Bytes there were.
        have: usize,
    },
    /// A version of the format that is not known.
    #[error("Unsupported qcow2 version {0}")]
    Version(u32),
    /// A field has a value it must not have.
    #[error("{field} (header offset {offset}) is {value}: {why}")]
    Field {
        /// Name as in the specification.
        field: &'static str,
        /// Byte offset of the field in the file.
        offset: u64,
        /// What it holds.
        value: u64,
        /// Why that can't be.
        why: &'static str,
    },
    /// A table lies where it can't lie.
    #[error("{table}: {bytes} bytes at offset {offset:#x} {why}")]
    Table {
        /// Which table.
        table: &'static str,
        /// Byte offset of the table in the file.
        offset: u64,
        /// Its length in bytes.
        bytes: u64,
        /// Why that can't be.
        why: &'static str,
    },
    /// A header extension is cut off or too long.
    #[error(
        "header extension {kind:#010x} at offset {offset}: its {bytes} bytes do not end before byte {limit}"
    )]
    Extension {
        /// Type of the extension.
        kind: u32,
        /// Byte offset of the extension in the file.
        offset: u64,
        /// Its declared length.
        bytes: u64,
        /// Where the extension area ends.
        limit: u64,
    },
    /// Incompatible features that this program does not know, by the names that the image gives them.
    #[error("Unsupported qcow2 feature(s): {0}")]
    UnknownFeatures(String),
    /// A known feature that is not there.
    #[error("Unsupported qcow2 feature(s): {0}")]
    Unsupported(&'static str),
    /// A changed header would not fit where one write can change it.
    #[error(
        "the header extensions take {bytes} bytes, and a header can be changed safely only while they end within its \
         first 512; rewrite the image with 'convert' to be able to change it"
    )]
    NoRoom {
        /// Bytes the header and its extensions would take.
        bytes: u64,
    },
    /// An encrypted image without what its keys are made of.
    #[error("the image is encrypted, and its header says nowhere where its LUKS header is: it is damaged")]
    NoEncryptionHeader,
    /// A backing file name that no header may have.
    #[error(
        "a backing file name may have {MAX_BACKING_NAME} bytes, this one has {bytes}; a link or a folder nearer by makes it \
         shorter"
    )]
    NameTooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// A backing file name that can't be stored.
    #[error(
        "a backing file name of {bytes} bytes does not fit into the first cluster beside the present one"
    )]
    NoRoomForName {
        /// Its length in bytes.
        bytes: usize,
    },
}

impl From<HeaderError> for BlockError {
    fn from(error: HeaderError) -> Self {
        let kind = match &error {
            HeaderError::NotQcow2 => ErrorKind::Invalid,
            HeaderError::Version(_) | HeaderError::UnknownFeatures(_) | HeaderError::Unsupported(_) => {
                ErrorKind::Unsupported
            }
            HeaderError::NoRoom { .. }
            | HeaderError::NameTooLong { .. }
            | HeaderError::NoRoomForName { .. } => ErrorKind::Limit,
            _ => ErrorKind::Corrupt,
        };
        let offset = match &error {
            HeaderError::Field { offset, .. }
            | HeaderError::Table { offset, .. }
            | HeaderError::Extension { offset, .. } => Some(*offset),
            _ => None,
        };
        let block = BlockError::of(kind, error);
        match offset {
            Some(offset) => block.at(offset),
            None => block,
        }
    }
}
