//! Header extensions: kept in order and verbatim, also those of other programs.
//!
//! ```text
//!  header_length ─▶ [type u32][length u32][data … padded to 8] … [0][0] ─▶ backing file name or end of the cluster
//! ```
use super::HeaderError;
use crate::field::{be32, be64};

/// Name of the backing file's format.
pub const BACKING_FORMAT: u32 = 0xe279_2aca;
/// Name of the external data file.
pub const DATA_FILE: u32 = 0x4441_5441;
/// Names of feature bits.
pub const FEATURE_NAMES: u32 = 0x6803_f857;
/// Where the bitmap directory is.
pub const BITMAPS: u32 = 0x2385_2875;

/// Where the key material of an encrypted image is.
pub const ENCRYPTION: u32 = 0x0537_be77;

/// Bytes of an entry of the feature name table: bitmap, bit, 46 bytes of name.
const NAME_ENTRY: usize = 48;

/// One extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    /// Its type.
    pub kind: u32,
    /// Byte offset of its data in the file.
    pub offset: u64,
    /// Its data without padding.
    pub data: Vec<u8>,
}

impl Extension {
    /// A new extension, not placed yet.
    pub fn new(kind: u32, data: Vec<u8>) -> Self {
        Self { kind, offset: 0, data }
    }

    /// Whether its data, wherever they are stored, lie in one sector.
    pub fn is_in_one_sector(&self) -> bool {
        let sector = super::SECTOR as u64;
        self.offset > 0 && self.offset / sector == (self.offset + self.data.len() as u64 - 1) / sector
    }

    /// Bytes it takes with head and padding.
    pub fn stored_len(&self) -> usize {
        8 + self.data.len().next_multiple_of(8)
    }
}

/// The bitmaps extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BitmapsExtension {
    /// Number of bitmaps.
    pub count: u32,
    /// Bytes of the directory.
    pub directory_size: u64,
    /// Byte offset of the directory.
    pub directory_offset: u64,
}

impl BitmapsExtension {
    /// Reads it; `None` when it is too short to be one, or its reserved field is not zero.
    pub fn parse(data: &[u8]) -> Option<Self> {
        (be32(data, 4)? == 0).then_some(())?;
        Some(Self {
            count: be32(data, 0)?,
            directory_size: be64(data, 8)?,
            directory_offset: be64(data, 16)?,
        })
    }

    /// Its data.
    pub fn encode(self) -> [u8; 24] {
        let mut data = [0; 24];
        let fields = [u64::from(self.count) << 32, self.directory_size, self.directory_offset];
        data.chunks_mut(8).zip(fields).for_each(|(to, field)| to.copy_from_slice(&field.to_be_bytes()));
        data
    }
}

/// Reads the extensions that begin at `start` of the first cluster and end before `limit`. `bytes` may hold less
/// than that: then [`HeaderError::Short`] asks for more.
pub(super) fn parse(bytes: &[u8], start: u64, limit: u64) -> Result<(Vec<Extension>, u64), HeaderError> {
    let short = || HeaderError::Short { have: bytes.len() };
    let mut extensions = Vec::new();
    let mut at = start;
    // A head that the backing file name would cut through is read all the same: it must be the end marker.
    while at < limit {
        let head = usize::try_from(at).map_err(|_| short())?;
        let (kind, len) = be32(bytes, head).zip(be32(bytes, head + 4)).ok_or_else(short)?;
        if kind == 0 {
            return Ok((extensions, at + 8));
        }
        let (offset, bytes_len) = (at + 8, u64::from(len));
        if bytes_len > limit.saturating_sub(offset) || offset > limit {
            return Err(HeaderError::Extension { kind, offset: at, bytes: bytes_len, limit });
        }
        let data = bytes.get(head + 8..head + 8 + len as usize).ok_or_else(short)?.to_vec();
        extensions.push(Extension { kind, offset, data });
        at = offset + bytes_len.next_multiple_of(8);
    }
    Ok((extensions, at.min(limit)))
}

/// The extensions as they are stored, with the end marker.
pub(super) fn encode(extensions: &[Extension]) -> Vec<u8> {
    let mut out = Vec::new();
    for extension in extensions {
        out.extend(extension.kind.to_be_bytes());
        out.extend((extension.data.len() as u32).to_be_bytes());
        out.extend(&extension.data);
        out.resize(out.len().next_multiple_of(8), 0);
    }
    out.extend([0; 8]);
    out
}

/// The known features: which bitmap (0 incompatible, 1 compatible, 2 autoclear), bit, name.
const FEATURES: [(u8, u8, &str); 8] = [
    (0, 0, "dirty bit"),
    (0, 1, "corrupt bit"),
    (0, 2, "external data file"),
    (0, 3, "compression type"),
    (0, 4, "extended L2 entries"),
    (1, 0, "lazy refcounts"),
    (2, 0, "bitmaps"),
    (2, 1, "raw external data"),
];

/// The feature name table that new images carry.
pub(super) fn feature_names() -> Extension {
    let mut data = Vec::with_capacity(FEATURES.len() * NAME_ENTRY);
    for (bitmap, bit, name) in FEATURES {
        let end = data.len() + NAME_ENTRY;
        data.extend([bitmap, bit]);
        data.extend(name.as_bytes());
        data.resize(end, 0);
    }
    Extension::new(FEATURE_NAMES, data)
}

/// The names of the feature bits in `bits`, by the image's own table where it has one. `bitmap`: which one they are of, as
/// that table numbers it; `kind`: how it is called.
pub(super) fn describe(extensions: &[Extension], bitmap: u8, kind: &str, bits: u64) -> String {
    let table = extensions.iter().rfind(|e| e.kind == FEATURE_NAMES).map_or(&[][..], |e| &e.data);
    let name_of = |bit: u8| {
        let entry =
            table.chunks(NAME_ENTRY).find(|e| e.first() == Some(&bitmap) && e.get(1) == Some(&bit))?;
        let text = entry.get(2..)?.split(|&b| b == 0).next()?;
        (!text.is_empty()).then(|| String::from_utf8_lossy(text).into_owned())
    };
    let mut names = Vec::new();
    let mut unnamed = 0u64;
    for bit in (0..64u8).filter(|bit| bits & (1 << bit) != 0) {
        match name_of(bit) {
            Some(name) => names.push(name),
            None => unnamed |= 1 << bit,
        }
    }
    if unnamed != 0 {
        names.push(format!("Unknown {kind} feature: {unnamed:x}"));
    }
    names.join(", ")
}
