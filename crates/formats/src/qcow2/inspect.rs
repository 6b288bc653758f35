//! What the header of a qcow2 image says, read without believing it: an image that can't be opened is looked at, too.
//!
//! Bounds: [`FIRST`] bytes of the header's cluster are read, one name, one entry of the refcount table and one count.

use super::header::{
    AUTOCLEAR_BITMAPS, AUTOCLEAR_DATA_RAW, BACKING_FORMAT, BITMAPS, DATA_FILE, ENCRYPTION,
    INCOMPATIBLE_CORRUPT, INCOMPATIBLE_DATA_FILE, INCOMPATIBLE_DIRTY, MAX_BACKING_NAME, REFCOUNT_BLOCK_MASK,
};
use crate::field::{be32, be64, until_nul};
use crate::inspection::{Code, Feature, Finding, ImageFeatureSet, Kind, Reference, Seen, read};
use block::{Node, Result};
use rt::BoxFuture;
use std::ops::Range;
use std::sync::Arc;

/// How much of the header's cluster is looked at: no program writes longer extensions.
const FIRST: u64 = 64 << 10;
/// Most extensions that are looked at.
const MOST_EXTENSIONS: usize = 64;

const INCOMPATIBLE: &[&str] = &["dirty", "corrupt", "data-file", "compression-type", "extended-l2"];
const COMPATIBLE: &[&str] = &["lazy-refcounts"];
const AUTOCLEAR: &[&str] = &["bitmaps", "data-file-raw"];

/// The fields as they are stored, and what extensions there are.
struct Fields {
    version: u32,
    backing: (u64, u32),
    cluster_bits: u32,
    size: u64,
    crypt_method: u32,
    l1: (u64, u32),
    refcounts: (u64, u32),
    snapshots: (u64, u32),
    incompatible: u64,
    compatible: u64,
    autoclear: u64,
    refcount_order: u32,
    length: u32,
}

impl Fields {
    fn of(head: &[u8]) -> Option<Self> {
        let version = be32(head, 4)?;
        // Version 2 ends before these.
        let later = |at| if version >= 3 { be64(head, at) } else { Some(0) };
        Some(Self {
            version,
            backing: (be64(head, 8)?, be32(head, 16)?),
            cluster_bits: be32(head, 20)?,
            size: be64(head, 24)?,
            crypt_method: be32(head, 32)?,
            l1: (be64(head, 40)?, be32(head, 36)?),
            refcounts: (be64(head, 48)?, be32(head, 56)?),
            snapshots: (be64(head, 64)?, be32(head, 60)?),
            incompatible: later(72)?,
            compatible: later(80)?,
            autoclear: later(88)?,
            refcount_order: if version >= 3 { be32(head, 96)? } else { 4 },
            length: if version >= 3 { be32(head, 100)? } else { 72 },
        })
    }

    fn cluster(&self) -> Option<u64> {
        (9..=21).contains(&self.cluster_bits).then(|| 1 << self.cluster_bits)
    }
}

/// Looks at an image.
pub fn look<'a>(file: &'a Arc<Node>, seen: &'a mut Seen) -> BoxFuture<'a, Result<()>> {
    Box::pin(async move {
        let head = read(file, 0, FIRST).await?;
        let Some(fields) = Fields::of(&head) else {
            seen.findings.push(finding(Code::HeaderContradiction, 0, "the file ends inside the header"));
            return Ok(());
        };
        for (set, bits, names) in [
            (ImageFeatureSet::Incompatible, fields.incompatible, INCOMPATIBLE),
            (ImageFeatureSet::Compatible, fields.compatible, COMPATIBLE),
            (ImageFeatureSet::Autoclear, fields.autoclear, AUTOCLEAR),
        ] {
            note_features(seen, set, bits, names);
        }
        let extensions = extensions(&head, &fields, seen);
        let extension =
            |kind| extensions.iter().find(|(found, _)| *found == kind).map(|(_, data)| data.clone());
        let text = |data: Range<usize>| {
            let bytes = head.get(data).unwrap_or_default();
            codec::filename::text(until_nul(bytes))
        };
        backing(file, &fields, extension(BACKING_FORMAT).map(text), seen).await?;
        let external = fields.incompatible & INCOMPATIBLE_DATA_FILE != 0;
        match (extension(DATA_FILE), external) {
            (Some(data), _) => {
                let offset = Some(data.start as u64);
                let reference = Reference::new(Kind::DataFile, text(data));
                seen.note(file, Reference { followed: external, offset, ..reference });
            }
            // Somebody has to name it when the image is opened.
            (None, true) => {
                seen.findings.push(finding(
                    Code::DataFile,
                    72,
                    "its content is in a data file that it does not name",
                ));
            }
            (None, false) => {}
        }
        marks(&fields, extension(ENCRYPTION).is_some(), seen);
        let bitmaps = extension(BITMAPS).map(|data| (data.clone(), head.get(data).unwrap_or_default()));
        let mut tables = tables(&fields);
        if let Some((data, bytes)) = bitmaps {
            seen.bitmaps = be32(bytes, 0).unwrap_or(0).into();
            let directory = (be64(bytes, 16).unwrap_or(0), be64(bytes, 8).unwrap_or(0));
            tables.push(("bitmap directory", data.start as u64, directory.0, directory.1));
            if seen.bitmaps > 0 {
                let text = format!("{} dirty bitmaps", seen.bitmaps);
                seen.findings.push(finding(Code::Bitmaps, data.start as u64, text));
            }
        }
        contradictions(&fields, seen);
        places(file, tables, seen);
        trailing(file, &fields, seen).await
    })
}

fn finding(code: Code, offset: u64, text: impl Into<String>) -> Finding {
    Finding { code, text: text.into(), offset: Some(offset) }
}

fn note_features(seen: &mut Seen, set: ImageFeatureSet, bits: u64, names: &[&'static str]) {
    for bit in (0..u64::BITS).filter(|bit| bits & (1 << bit) != 0) {
        seen.features.push(Feature { set, bit, name: names.get(bit as usize).copied() });
    }
    // Only what must be understood decides whether an image can be read.
    let unknown = bits.checked_shr(names.len() as u32).unwrap_or(0);
    if set == ImageFeatureSet::Incompatible && unknown != 0 {
        let text = format!("unknown incompatible features: bits {:#x}", unknown << names.len());
        seen.findings.push(finding(Code::UnknownFeatures, 72, text));
    }
}

/// The extensions: type, and where the data stand in `head`.
fn extensions(head: &[u8], fields: &Fields, seen: &mut Seen) -> Vec<(u32, Range<usize>)> {
    let (mut found, mut at) = (Vec::new(), fields.length as usize);
    let end = usize::try_from(fields.backing.0).ok().filter(|end| *end > at).unwrap_or(usize::MAX);
    while found.len() < MOST_EXTENSIONS && at < end {
        let (Some(kind), Some(len)) = (be32(head, at), be32(head, at + 4)) else { break };
        if kind == 0 {
            break;
        }
        let data = at + 8..(at + 8).saturating_add(len as usize);
        if data.end > head.len().min(end) {
            let text =
                format!("the extension {kind:#010x} of {len} bytes does not end before what follows it");
            seen.findings.push(finding(Code::HeaderContradiction, at as u64, text));
            break;
        }
        at = data.end.next_multiple_of(8);
        found.push((kind, data));
    }
    found
}

async fn backing(file: &Arc<Node>, fields: &Fields, format: Option<String>, seen: &mut Seen) -> Result<()> {
    let (at, len) = fields.backing;
    if at == 0 {
        return Ok(());
    }
    let within = fields.cluster().unwrap_or(FIRST);
    if len > MAX_BACKING_NAME || at < fields.length.into() || at.saturating_add(len.into()) > within {
        let text =
            format!("the backing file name ({at:#x}, {len} bytes) is too long, or not in the first cluster");
        seen.findings.push(finding(Code::HeaderContradiction, 8, text));
    }
    let name = read(file, at, len.min(MAX_BACKING_NAME).into()).await?;
    let name = codec::filename::text(until_nul(&name));
    seen.note(file, Reference { format, offset: Some(at), ..Reference::new(Kind::Backing, name) });
    Ok(())
}

/// What the header says of the state of the image.
fn marks(fields: &Fields, has_key: bool, seen: &mut Seen) {
    let marks = [
        (Code::Dirty, 72, fields.incompatible & INCOMPATIBLE_DIRTY != 0, "the image was not closed"),
        (
            Code::CorruptMark,
            72,
            fields.incompatible & INCOMPATIBLE_CORRUPT != 0,
            "the image is marked corrupt",
        ),
        (Code::Encrypted, 32, fields.crypt_method != 0, "the content is encrypted"),
        (
            Code::HeaderContradiction,
            32,
            has_key != (fields.crypt_method == 2),
            "there is an encryption header without encryption, or the other way round",
        ),
    ];
    let set = marks.into_iter().filter(|(_, _, is_set, _)| *is_set);
    seen.findings.extend(set.map(|(code, offset, _, text)| finding(code, offset, text)));
    seen.snapshots = fields.snapshots.1.into();
    if seen.snapshots > 0 {
        seen.findings.push(finding(Code::Snapshots, 60, format!("{} internal snapshots", seen.snapshots)));
    }
}

/// The tables that the header leads to: name, the field's place, offset and length.
fn tables(fields: &Fields) -> Vec<(&'static str, u64, u64, u64)> {
    let cluster = fields.cluster().unwrap_or(0);
    // The length of the snapshot table is known when it has been read; an entry has at least 40 bytes.
    let snapshots = u64::from(fields.snapshots.1).saturating_mul(40);
    vec![
        ("header", 0, 0, cluster.min(FIRST)),
        ("L1 table", 40, fields.l1.0, u64::from(fields.l1.1).saturating_mul(8)),
        ("refcount table", 48, fields.refcounts.0, u64::from(fields.refcounts.1).saturating_mul(cluster)),
        ("snapshot table", 64, fields.snapshots.0, snapshots),
    ]
}

/// Fields that contradict each other, or the specification.
fn contradictions(fields: &Fields, seen: &mut Seen) {
    let cluster = fields.cluster();
    let is_aligned = |offset: u64| cluster.is_none_or(|cluster| offset.is_multiple_of(cluster));
    // A table of L2 tables has an eighth of a cluster of entries, each for a cluster; half of that with subclusters.
    let entry = if fields.incompatible & (1 << 4) != 0 { 16 } else { 8 };
    let per_l1 = cluster.map(|cluster| (cluster / entry).saturating_mul(cluster));
    let needed = per_l1.map_or(0, |span| fields.size.div_ceil(span.max(1)));
    let external = fields.incompatible & INCOMPATIBLE_DATA_FILE != 0;
    let wrong = [
        (4, !(2..=3).contains(&fields.version), format!("version {}", fields.version)),
        (20, cluster.is_none(), format!("clusters of 2^{} bytes", fields.cluster_bits)),
        (24, i64::try_from(fields.size).is_err(), format!("a disk of {} bytes", fields.size)),
        (32, fields.crypt_method > 2, format!("encryption method {}", fields.crypt_method)),
        (
            36,
            u64::from(fields.l1.1) < needed,
            format!("an L1 table of {} entries, where the disk needs {needed}", fields.l1.1),
        ),
        (40, !is_aligned(fields.l1.0), format!("an L1 table at {:#x}, inside of a cluster", fields.l1.0)),
        (
            48,
            !is_aligned(fields.refcounts.0),
            format!("a refcount table at {:#x}, inside of a cluster", fields.refcounts.0),
        ),
        (
            64,
            !is_aligned(fields.snapshots.0),
            format!("a snapshot table at {:#x}, inside of a cluster", fields.snapshots.0),
        ),
        (96, fields.refcount_order > 6, format!("counts of 2^{} bits", fields.refcount_order)),
        (
            100,
            fields.version >= 3 && (fields.length < 104 || !fields.length.is_multiple_of(8)),
            format!("a header of {} bytes", fields.length),
        ),
        (
            88,
            fields.autoclear & AUTOCLEAR_DATA_RAW != 0 && !external,
            "a raw data file where there is none".to_owned(),
        ),
        (
            88,
            fields.autoclear & AUTOCLEAR_BITMAPS != 0 && seen.bitmaps == 0,
            "bitmaps where there are none".to_owned(),
        ),
    ];
    let wrong = wrong.into_iter().filter(|(_, is_wrong, _)| *is_wrong);
    let found: Vec<_> = wrong
        .map(|(at, _, what)| finding(Code::HeaderContradiction, at, format!("the header says: {what}")))
        .collect();
    seen.findings.extend(found);
}

/// Tables that lie beyond the end of the file, or in each other.
fn places(file: &Node, tables: Vec<(&'static str, u64, u64, u64)>, seen: &mut Seen) {
    let length = file.length();
    let tables: Vec<_> = tables.into_iter().filter(|(.., len)| *len > 0).collect();
    for (index, (name, field, offset, len)) in tables.iter().enumerate() {
        let end = offset.saturating_add(*len);
        if *offset >= length && *field != 0 {
            let text = format!("the {name} is at {offset:#x}, beyond the end of the file ({length:#x})");
            seen.findings.push(finding(Code::BeyondEnd, *field, text));
        }
        for (other, _, at, other_len) in tables.iter().take(index) {
            if *offset < at.saturating_add(*other_len) && *at < end {
                let text = format!("the {name} ({offset:#x}) and the {other} ({at:#x}) lie in each other");
                seen.findings.push(finding(Code::MetadataOverlap, *field, text));
            }
        }
    }
}

/// Whether the last cluster of the file is counted: what is not belongs to nothing in the image.
async fn trailing(file: &Arc<Node>, fields: &Fields, seen: &mut Seen) -> Result<()> {
    let length = file.length();
    let (Some(cluster), 0..=6) = (fields.cluster(), fields.refcount_order) else { return Ok(()) };
    if length <= cluster {
        return Ok(());
    }
    let last = (length - 1) / cluster;
    let counts = (cluster * 8) >> fields.refcount_order;
    let at = fields.refcounts.0.saturating_add((last / counts).saturating_mul(8));
    let table_end = fields.refcounts.0.saturating_add(u64::from(fields.refcounts.1).saturating_mul(cluster));
    let block = match at < table_end {
        true => be64(&read(file, at, 8).await?, 0).unwrap_or(0) & REFCOUNT_BLOCK_MASK,
        false => 0,
    };
    let bits = 1u64 << fields.refcount_order;
    let bit = (last % counts) * bits;
    let is_counted = block != 0 && {
        let bytes = read(file, block.saturating_add(bit / 8), bits.div_ceil(8)).await?;
        match bits {
            8.. => bytes.iter().any(|byte| *byte != 0),
            // The first count of a byte is in its lowest bits.
            _ => bytes.first().is_some_and(|byte| (byte >> (bit % 8)) & ((1 << bits) - 1) != 0),
        }
    };
    if !is_counted {
        let text = "the last cluster of the file is not counted: it belongs to nothing in the image";
        seen.findings.push(finding(Code::TrailingData, last * cluster, text));
    }
    Ok(())
}
