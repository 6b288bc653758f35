//! A reader of qcow images, of the first version, that knows nothing of the driver: what an image shows, and what must hold of
//! it at any time.

use sim::Disk;

use crate::files;
use crate::stack::Stack;

const MAGIC: &[u8] = b"QFI\xfb\0\0\0\x01";
const COMPRESSED: u64 = 1 << 63;

/// What an image and the chain below it show, or what is wrong.
pub fn inspect(stack: &Stack, disk: &Disk, _: bool) -> Result<Vec<u8>, String> {
    let backing = |bytes: &[u8]| Qcow::of(bytes).map_or(Ok(None), |image| image.backing());
    files::shown(stack, disk, backing, |bytes, below, _| match Qcow::of(bytes) {
        Some(image) => image.read(below),
        None => Ok(bytes.to_vec()),
    })
}

/// A qcow image in memory.
pub struct Qcow<'a> {
    bytes: &'a [u8],
}

impl<'a> Qcow<'a> {
    /// The image, if the bytes begin as one does.
    pub fn of(bytes: &'a [u8]) -> Option<Self> {
        bytes.starts_with(MAGIC).then_some(Self { bytes })
    }

    fn u64_at(&self, at: usize) -> Result<u64, String> {
        let bytes = self.bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
        bytes.map(u64::from_be_bytes).ok_or_else(|| format!("the file ends at {at:#x}"))
    }

    /// The name of the backing file.
    pub fn backing(&self) -> Result<Option<String>, String> {
        let (at, len) = (self.u64_at(8)? as usize, (self.u64_at(16)? >> 32) as usize);
        if at == 0 {
            return Ok(None);
        }
        let name = self.bytes.get(at..at + len).ok_or("the name of the backing file is cut off")?;
        Ok(Some(String::from_utf8_lossy(name).into_owned()))
    }

    /// What the image shows over what its backing file does. Data clusters and tables have clusters of the file to themselves;
    /// compressed data share theirs with each other.
    pub fn read(&self, below: &[u8]) -> Result<Vec<u8>, String> {
        let bits = self.u64_at(32)? >> 48;
        let (cluster_bits, l2_bits) = ((bits >> 8) as u32, (bits & 0xff) as u32);
        let (size, l1, cluster) = (self.u64_at(24)? as usize, self.u64_at(40)? as usize, 1 << cluster_bits);
        let entries = size.div_ceil(cluster << l2_bits);
        let mut used = Used { owners: vec![None; self.bytes.len().div_ceil(cluster)], cluster };
        used.take(0..l1 + 8 * entries, "header", true)?;
        let mut shown = below.to_vec();
        shown.resize(size, 0);
        for index in 0..entries {
            let table = self.u64_at(l1 + 8 * index)? as usize;
            if table == 0 {
                continue;
            }
            used.take(table..table + (8 << l2_bits), "table", false)?;
            for entry in 0..1 << l2_bits {
                let (word, guest) = (self.u64_at(table + 8 * entry)?, ((index << l2_bits) + entry) * cluster);
                if word == 0 || guest >= size {
                    continue;
                }
                let end = size.min(guest + cluster);
                let to = shown.get_mut(guest..end).ok_or("no such cluster")?;
                if word & COMPRESSED == 0 {
                    used.take(word as usize..word as usize + cluster, "data", false)?;
                    let from = self.bytes.get(word as usize..word as usize + to.len());
                    to.copy_from_slice(from.ok_or("the file ends in a cluster")?);
                    continue;
                }
                let len = (word & !COMPRESSED) >> (63 - cluster_bits);
                let start = (word & ((1 << (63 - cluster_bits)) - 1)) as usize;
                let stream = start..start + len as usize;
                used.take(stream.clone(), "stream", true)?;
                let mut content = vec![0; cluster];
                let stream = self.bytes.get(stream).ok_or("the file ends in a stream")?;
                codec::decode(codec::Algorithm::Deflate, stream, &mut content).map_err(|e| e.to_string())?;
                to.copy_from_slice(content.get(..to.len()).unwrap_or_default());
            }
        }
        Ok(shown)
    }
}

/// What each cluster of a file is.
struct Used {
    owners: Vec<Option<&'static str>>,
    cluster: usize,
}

impl Used {
    fn take(
        &mut self,
        bytes: std::ops::Range<usize>,
        what: &'static str,
        shares: bool,
    ) -> Result<(), String> {
        if !shares && !bytes.start.is_multiple_of(self.cluster) {
            return Err(format!("a {what} begins at {:#x}, which is no cluster's start", bytes.start));
        }
        let clusters = bytes.start / self.cluster..bytes.end.div_ceil(self.cluster);
        let ends = || format!("a {what} at {:#x} does not end before the file", bytes.start);
        for owner in self.owners.get_mut(clusters).ok_or_else(ends)? {
            match owner.replace(what) {
                Some(other) if !shares || other != what => {
                    return Err(format!("a {what} is at {:#x}, where a {other} is too", bytes.start));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
