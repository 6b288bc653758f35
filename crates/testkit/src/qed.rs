//! A reader of qed images that knows nothing of the driver: what an image shows, and what must hold of it at any time.
//!
//! Written from the specification (QEMU's qed_spec).

use sim::Disk;

use crate::files;
use crate::stack::Stack;

const MAGIC: &[u8] = b"QED\0";
const BACKING: u64 = 1;
const NEED_CHECK: u64 = 2;
const RAW_BACKING: u64 = 4;

/// What an image and the chain below it show, or what is wrong.
pub fn inspect(stack: &Stack, disk: &Disk, settled: bool) -> Result<Vec<u8>, String> {
    let backing = |bytes: &[u8]| Qed::of(bytes).map_or(Ok(None), |image| image.backing());
    files::shown(stack, disk, backing, |bytes, below, top| match Qed::of(bytes) {
        Some(image) => image.read(below, settled && top),
        None => Ok(bytes.to_vec()),
    })
}

/// A qed image in memory.
pub struct Qed<'a> {
    bytes: &'a [u8],
}

impl<'a> Qed<'a> {
    /// The image, if the bytes begin as one does.
    pub fn of(bytes: &'a [u8]) -> Option<Self> {
        bytes.starts_with(MAGIC).then_some(Self { bytes })
    }

    fn u32_at(&self, at: usize) -> Result<usize, String> {
        let bytes = self.bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        bytes
            .map(|bytes| u32::from_le_bytes(bytes) as usize)
            .ok_or_else(|| format!("the file ends at {at:#x}"))
    }

    fn u64_at(&self, at: usize) -> Result<u64, String> {
        Ok(self.u32_at(at)? as u64 | (self.u32_at(at + 4)? as u64) << 32)
    }

    /// The name of the backing file.
    pub fn backing(&self) -> Result<Option<String>, String> {
        if self.u64_at(16)? & BACKING == 0 {
            return Ok(None);
        }
        let (at, len) = (self.u32_at(56)?, self.u32_at(60)?);
        let name = self.bytes.get(at..at + len).ok_or("the name of the backing file is cut off")?;
        Ok(Some(String::from_utf8_lossy(name).into_owned()))
    }

    /// Whether the backing file is called raw.
    pub fn has_raw_backing(&self) -> Result<bool, String> {
        Ok(self.u64_at(16)? & RAW_BACKING != 0)
    }

    /// What the image shows over what its backing file does. `settled`: it was closed cleanly, and nothing is leaked.
    pub fn read(&self, below: &[u8], settled: bool) -> Result<Vec<u8>, String> {
        let (cluster, table_clusters) = (self.u32_at(4)?, self.u32_at(8)?);
        let (features, l1, size) = (self.u64_at(16)?, self.u64_at(40)?, self.u64_at(48)? as usize);
        if settled && features & NEED_CHECK != 0 {
            return Err("it was closed and needs a check".to_owned());
        }
        let mut used = Used { owners: vec![None; self.bytes.len().div_ceil(cluster)], cluster };
        used.take(0, self.u32_at(12)?, "the header".to_owned())?;
        used.take(l1, table_clusters, "the L1 table".to_owned())?;
        let mut shown = below.to_vec();
        shown.resize(size, 0);
        let entries = cluster * table_clusters / 8;
        for index in 0..entries {
            let table = self.u64_at(l1 as usize + 8 * index)?;
            if table == 0 {
                continue;
            }
            used.take(table, table_clusters, format!("L2 table {index}"))?;
            for entry in 0..entries {
                let (host, number) = (self.u64_at(table as usize + 8 * entry)?, index * entries + entry);
                let guest = number * cluster;
                if host > 1 {
                    used.take(host, 1, format!("guest cluster {number}"))?;
                }
                if host == 0 || guest >= size {
                    continue;
                }
                let end = size.min(guest + cluster);
                let to = shown.get_mut(guest..end).ok_or("no such cluster")?;
                match host {
                    1 => to.fill(0),
                    _ => to.copy_from_slice(
                        self.bytes
                            .get(host as usize..host as usize + to.len())
                            .ok_or("the file is too short")?,
                    ),
                }
            }
        }
        match used.owners.iter().position(Option::is_none) {
            Some(leaked) if settled => Err(format!("cluster {leaked} leaks after a clean close")),
            _ => Ok(shown),
        }
    }
}

/// What each cluster of a file is.
struct Used {
    owners: Vec<Option<String>>,
    cluster: usize,
}

impl Used {
    fn take(&mut self, offset: u64, count: usize, what: String) -> Result<(), String> {
        let first = offset as usize / self.cluster;
        if !(offset as usize).is_multiple_of(self.cluster) {
            return Err(format!("{what} is at {offset:#x}, which is no cluster's start"));
        }
        let ends = || format!("{what} is at {offset:#x}, and the file ends before it does");
        for owner in self.owners.get_mut(first..first + count).ok_or_else(ends)? {
            if let Some(other) = owner.replace(what.clone()) {
                return Err(format!("{what} is at {offset:#x}, where {other} is too"));
            }
        }
        Ok(())
    }
}
