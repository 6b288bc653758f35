//! VDI images, read and made without the driver.
use sim::Disk;

use crate::files::{self, word};
use crate::stack::Stack;
use crate::stamp::SECTOR;

const TABLE: usize = 512;
const FREE: u32 = u32::MAX;
const DISCARDED: u32 = u32::MAX - 1;

/// What an image in a file shows, or what is wrong.
pub fn inspect(stack: &Stack, disk: &Disk, settled: bool) -> Result<Vec<u8>, String> {
    read(&files::top(stack, disk)?, settled)
}

/// What the disk shows, or what is wrong with the image. `settled`: it was closed, so that nothing leaks behind the last block.
fn read(file: &[u8], settled: bool) -> Result<Vec<u8>, String> {
    if word(file, 0x40)? != 0xbeda_107f || word(file, 0x44)? != 0x0001_0001 {
        return Err("no VDI image of version 1.1".to_owned());
    }
    let (table, data) = (word(file, 0x154)? as usize, word(file, 0x158)? as usize);
    let (size, block) = (word(file, 0x170)? as usize, word(file, 0x178)? as usize);
    let (blocks, counted) = (word(file, 0x180)?, word(file, 0x184)?);
    let mut shown = vec![0; size];
    let mut owners = std::collections::HashMap::new();
    for (entry, to) in (0..blocks as usize).zip(shown.chunks_mut(block)) {
        let leads = word(file, table + 4 * entry)?;
        if leads == FREE || leads == DISCARDED {
            continue;
        }
        if leads >= counted || counted > blocks {
            return Err(format!(
                "entry {entry} leads to block {leads}, and {counted} of {blocks} are counted"
            ));
        }
        if let Some(other) = owners.insert(leads, entry) {
            return Err(format!("entries {other} and {entry} both lead to block {leads}"));
        }
        let at = data + leads as usize * block;
        if file.len() < at + block {
            return Err(format!("entry {entry}: the file ends before block {leads} does"));
        }
        to.copy_from_slice(&file[at..at + to.len()]);
    }
    // A write that failed may have left a gap.
    let end = owners.keys().max().map_or(0, |last| last + 1);
    if settled && counted != end {
        return Err(format!(
            "{counted} blocks are counted after a clean close, and the last one in use ends at {end}"
        ));
    }
    Ok(shown)
}

/// An image with blocks of `block` bytes that shows this: the last blocks of the disk come first in the file, and every
/// second one without content has been discarded.
pub fn made(shown: &[u8], block: usize) -> Vec<u8> {
    let blocks = shown.len().div_ceil(block);
    let data = (TABLE + 4 * blocks).next_multiple_of(SECTOR as usize);
    let mut table = vec![FREE; blocks];
    let mut stored = Vec::new();
    for (entry, content) in shown.chunks(block).enumerate().rev() {
        if content.iter().all(|byte| *byte == 0) {
            table[entry] = if entry % 2 == 0 { FREE } else { DISCARDED };
            continue;
        }
        table[entry] = (stored.len() / block) as u32;
        stored.extend_from_slice(content);
        stored.resize(stored.len().next_multiple_of(block), 0);
    }
    let mut file = vec![0; data];
    let words = [
        (0x40, 0xbeda_107f),
        (0x44, 0x0001_0001),
        (0x48, 0x180),
        (0x4c, 1),
        (0x154, TABLE as u32),
        (0x158, data as u32),
        (0x168, 512),
        (0x170, shown.len() as u32),
        (0x178, block as u32),
        (0x180, blocks as u32),
        (0x184, (stored.len() / block) as u32),
    ];
    let entries = (TABLE..).step_by(4).zip(table);
    for (at, word) in words.into_iter().chain(entries) {
        file[at..at + 4].copy_from_slice(&word.to_le_bytes());
    }
    file.extend(stored);
    file
}
