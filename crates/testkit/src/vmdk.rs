//! An independent reader of vmdk images with small grains: what the disk shows, and all that the format promises of it, from the
//! bytes of the files alone. Slow and simple, so that no mistake is shared.
//!
//! The image below, where a stack has one, is the raw image that it has besides.
use crate::files;
use crate::stack::Stack;
use sim::Disk;
use std::collections::HashSet;

const SECTOR: usize = 512;

/// The disk of a stack whose top is a vmdk image of one file, or of a descriptor and its files. `settled`: it was closed.
pub fn inspect(stack: &Stack, disk: &Disk, settled: bool) -> Result<Vec<u8>, String> {
    let below = match stack.images.as_slice() {
        [base, _] => files::content(disk, base.file)?,
        _ => Vec::new(),
    };
    read(disk, files::top_name(stack)?, &below, settled)
}

fn read(disk: &Disk, name: &str, below: &[u8], settled: bool) -> Result<Vec<u8>, String> {
    let file = files::content(disk, name)?;
    if file.starts_with(b"KDMV") {
        descriptor(&file[SECTOR..20 * SECTOR])?;
        return sparse(&file, below, settled);
    }
    let text = descriptor(&file)?;
    let mut shown = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("RW ")) {
        let words: Vec<&str> = line.split(' ').collect();
        let len = words[1].parse::<usize>().map_err(|e| e.to_string())? * SECTOR;
        let name = format!("/{}", words[3].trim_matches('"'));
        let bytes = files::content(disk, &name)?;
        match words[2] {
            "FLAT" => shown.extend(bytes.get(..len).ok_or("a flat extent is too short")?),
            _ => {
                let under = below.get(shown.len()..).unwrap_or_default();
                shown.extend(sparse(&bytes, under, settled)?);
            }
        }
    }
    Ok(shown)
}

/// The text of a descriptor, which must have a content identifier at any moment.
fn descriptor(bytes: &[u8]) -> Result<String, String> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let text = String::from_utf8(bytes[..end].to_vec()).map_err(|e| e.to_string())?;
    let cid = text.lines().find_map(|line| line.strip_prefix("CID=")).ok_or("no CID")?;
    match u32::from_str_radix(cid, 16) {
        Ok(cid) if cid != u32::MAX => Ok(text),
        _ => Err(format!("the CID is '{cid}'")),
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Result<usize, String> {
    let word = bytes.get(at..at + 4).ok_or(format!("the file ends before {at:#x}"))?;
    Ok(u32::from_le_bytes([word[0], word[1], word[2], word[3]]) as usize)
}

fn u64_at(bytes: &[u8], at: usize) -> Result<usize, String> {
    Ok(u32_at(bytes, at)? | u32_at(bytes, at + 4)? << 32)
}

/// What the entries of all tables of a directory say.
fn entries(file: &[u8], directory: usize, tables: usize, per_table: usize) -> Result<Vec<usize>, String> {
    let mut all = Vec::new();
    for table in 0..tables {
        let place = u32_at(file, directory * SECTOR + table * 4)?;
        for entry in 0..per_table {
            all.push(if place == 0 { 0 } else { u32_at(file, place * SECTOR + entry * 4)? });
        }
    }
    Ok(all)
}

fn sparse(file: &[u8], below: &[u8], settled: bool) -> Result<Vec<u8>, String> {
    let flags = u32_at(file, 8)?;
    let (len, grain) = (u64_at(file, 12)? * SECTOR, u64_at(file, 20)? * SECTOR);
    let per_table = u32_at(file, 44)?;
    let compressed = flags & 1 << 16 != 0;
    let at_end = u64_at(file, 56)? == usize::MAX;
    if settled && compressed && !at_end && u64_at(file, 56)? >= u64_at(file, 64)? {
        return Err("the stream was closed and has no footer".to_owned());
    }
    let header = if at_end { file.len() - 1024 } else { 0 };
    let (second, first) = (u64_at(file, header + 48)?, u64_at(file, header + 56)?);
    let (overhead, unclean) = (u64_at(file, 64)? * SECTOR, file[72] != 0);
    let tables = len.div_ceil(grain * per_table);
    let mapped = entries(file, first, tables, per_table)?;
    if flags & 2 != 0 && !unclean && mapped != entries(file, second, tables, per_table)? {
        return Err("the copies of the tables differ, and the file is not called in use".to_owned());
    }
    if settled && unclean {
        return Err("it was closed and is called in use".to_owned());
    }
    let mut shown = below.get(..len.min(below.len())).unwrap_or_default().to_vec();
    shown.resize(len, 0);
    let mut known = HashSet::new();
    for (n, to) in shown.chunks_mut(grain).enumerate() {
        match mapped[n] {
            0 => {}
            1 if flags & 4 != 0 => to.fill(0),
            sector => {
                let place = sector * SECTOR;
                if place < overhead || !known.insert(place) {
                    return Err(format!("entry {n} leads to {place:#x}, which is something else's"));
                }
                let stored = file.get(place..).ok_or(format!("entry {n} leads out of the file"))?;
                if compressed {
                    inflate(stored, grain, to).map_err(|e| format!("grain {n} at {place:#x}: {e}"))?;
                } else if !place.is_multiple_of(grain) || stored.len() < grain {
                    return Err(format!("entry {n} leads to {place:#x}, where there is no whole grain"));
                } else {
                    to.copy_from_slice(&stored[..to.len()]);
                }
            }
        }
    }
    Ok(shown)
}

fn inflate(stored: &[u8], grain: usize, to: &mut [u8]) -> Result<(), String> {
    let stream = stored.get(12..12 + u32_at(stored, 8)?).ok_or("the stream is cut off")?;
    let mut whole = vec![0; grain];
    codec::decode(codec::Algorithm::Zlib, stream, &mut whole).map_err(|e| e.to_string())?;
    to.copy_from_slice(&whole[..to.len()]);
    Ok(())
}
