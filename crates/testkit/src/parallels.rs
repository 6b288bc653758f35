//! Parallels images, read and made without the driver.

use sim::Disk;

use crate::files::{self, word};
use crate::stack::Stack;

const TABLE: usize = 64;
const SECTOR: usize = 512;
const IN_USE: u32 = 0x746f_6e59;

/// How a file is laid out.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Sectors of a cluster.
    pub cluster: usize,
    /// Entries count sectors, not clusters.
    pub old: bool,
}

/// What an image in a file shows, or what is wrong.
pub fn inspect(stack: &Stack, disk: &Disk, settled: bool) -> Result<Vec<u8>, String> {
    read(&files::top(stack, disk)?, settled)
}

/// What the disk shows, or what is wrong with the image. `settled`: it was closed, so that nothing leaks behind the last
/// cluster.
fn read(file: &[u8], settled: bool) -> Result<Vec<u8>, String> {
    let unit = match file.get(..16) {
        Some(b"WithoutFreeSpace") => SECTOR,
        Some(b"WithouFreSpacExt") => word(file, 28)? as usize * SECTOR,
        _ => return Err("no Parallels image".to_owned()),
    };
    let (cluster, entries) = (word(file, 28)? as usize * SECTOR, word(file, 32)? as usize);
    let (size, data) = (word(file, 36)? as usize * SECTOR, word(file, 48)? as usize * SECTOR);
    let in_use = word(file, 44)? == IN_USE;
    if settled && in_use {
        return Err("it was closed and is called in use".to_owned());
    }
    let mut shown = vec![0; size];
    let (mut owners, mut end) = (std::collections::HashMap::new(), data);
    for (entry, to) in (0..entries).zip(shown.chunks_mut(cluster)) {
        let at = word(file, TABLE + 4 * entry)? as usize * unit;
        if at == 0 {
            continue;
        }
        if at < data || !(at - data).is_multiple_of(cluster) {
            return Err(format!("entry {entry} leads to {at:#x}, where no cluster is"));
        }
        if let Some(other) = owners.insert(at, entry) {
            return Err(format!("entries {other} and {entry} both lead to {at:#x}"));
        }
        if file.len() < at + cluster {
            return Err(format!("entry {entry}: the file ends before its cluster at {at:#x} does"));
        }
        end = end.max(at + cluster);
        to.copy_from_slice(&file[at..at + to.len()]);
    }
    if !in_use && file.len() > end {
        return Err(format!(
            "the file has {} bytes, its clusters end at {end}, and it is not in use",
            file.len()
        ));
    }
    Ok(shown)
}

/// An image that shows this. The last clusters of the disk come first in the file.
pub fn made(shown: &[u8], layout: Layout) -> Vec<u8> {
    let cluster = layout.cluster * SECTOR;
    let entries = shown.len().div_ceil(cluster);
    let (unit, magic) = match layout.old {
        true => (SECTOR, b"WithoutFreeSpace"),
        false => (cluster, b"WithouFreSpacExt"),
    };
    let data = (TABLE + 4 * entries).next_multiple_of(unit);
    let mut file = vec![0; data];
    file[..16].copy_from_slice(magic);
    for (entry, content) in shown.chunks(cluster).enumerate().rev() {
        if content.iter().all(|byte| *byte == 0) {
            continue;
        }
        let at = (file.len() / unit) as u32;
        file[TABLE + 4 * entry..][..4].copy_from_slice(&at.to_le_bytes());
        file.extend_from_slice(content);
        let end = data + (file.len() - data).next_multiple_of(cluster);
        file.resize(end, 0);
    }
    let words = [
        (16, 2),
        (20, 16),
        (28, layout.cluster as u32),
        (32, entries as u32),
        (36, (shown.len() / SECTOR) as u32),
        (48, (data / SECTOR) as u32),
    ];
    for (at, word) in words {
        file[at..at + 4].copy_from_slice(&word.to_le_bytes());
    }
    file
}
