//! An independent reader of dynamic VHDX images, which carries their logs out. Nothing here is shared with the driver.
use sim::Disk;

use crate::files;
use crate::stack::Stack;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const PAGE: usize = 4 * KIB;

/// The checksum, bit by bit in a table.
fn crc(bytes: &[u8]) -> u32 {
    let table: Vec<u32> = (0..256u32)
        .map(|byte| (0..8).fold(byte, |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 }))
        .collect();
    !bytes.iter().fold(u32::MAX, |crc, byte| crc >> 8 ^ table[(crc as u8 ^ byte) as usize])
}

fn bytes<const N: usize>(file: &[u8], at: usize) -> Result<[u8; N], String> {
    let found = file.get(at..at + N).and_then(|bytes| bytes.try_into().ok());
    found.ok_or_else(|| format!("the file ends before {at:#x}"))
}

fn u32_at(file: &[u8], at: usize) -> Result<u32, String> {
    bytes(file, at).map(u32::from_le_bytes)
}

fn u64_at(file: &[u8], at: usize) -> Result<u64, String> {
    bytes(file, at).map(u64::from_le_bytes)
}

/// Whether a structure has the checksum that stands at its byte 4.
fn sound(structure: &[u8]) -> bool {
    let mut zeroed = structure.to_vec();
    zeroed[4..8].fill(0);
    u32_at(structure, 4) == Ok(crc(&zeroed))
}

/// Makes the checksum of a structure that of its bytes.
pub fn seal(structure: &mut [u8]) {
    structure[4..8].fill(0);
    let sum = crc(structure).to_le_bytes();
    structure[4..8].copy_from_slice(&sum);
}

/// Makes an image one over a parent: what it is known by, and where it is, by a relative name of Windows. Of the blocks nothing
/// changes.
pub fn put_parent(image: &mut [u8], linkage: &str, name: &str) {
    let at = image.chunks(64 * KIB).position(|part| part.starts_with(b"metadata"));
    assert!(at.is_some(), "the image has a table of metadata");
    let table = at.unwrap_or_default() * 64 * KIB;
    let items = table + 64 * KIB;
    let mut put = |at: usize, what: &[u8]| image[at..at + what.len()].copy_from_slice(what);
    // The flag that says so, in the first item.
    put(items + 4, &2u32.to_le_bytes());
    // The locator: a kind, and pairs of texts.
    let units = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
    let mut locator = b"\xb7\xef\x4a\xb0\x9e\xd1\x81\x4a\xb7\x89\x25\xb8\xe9\x44\x59\x13\0\0\x02\0".to_vec();
    let mut texts = Vec::new();
    for (key, value) in [("parent_linkage", linkage), ("relative_path", name)] {
        let at = 20 + 24 + texts.len() as u32;
        let (key, value) = (units(key), units(value));
        locator.extend([at.to_le_bytes(), (at + key.len() as u32).to_le_bytes()].concat());
        locator.extend([(key.len() as u16).to_le_bytes(), (value.len() as u16).to_le_bytes()].concat());
        texts.extend([key, value].concat());
    }
    locator.extend(texts);
    put(items + 512, &locator);
    put(table + 10, &[6, 0]);
    let item = table + 32 * 6;
    put(item, b"\x2d\x5f\xd3\xa8\x0b\xb3\x4d\x45\xab\xf7\xd3\xd8\x48\x34\xab\x0c");
    put(item + 16, &(64 * KIB as u32 + 512).to_le_bytes());
    put(item + 20, &(locator.len() as u32).to_le_bytes());
    put(item + 24, &6u32.to_le_bytes());
}

/// The header that counts.
fn header(file: &[u8]) -> Result<&[u8], String> {
    let both = [64 * KIB, 128 * KIB].map(|at| file.get(at..at + PAGE));
    let whole = both.into_iter().flatten().filter(|header| header.starts_with(b"head") && sound(header));
    whole.max_by_key(|header| u64_at(header, 8).unwrap_or(0)).ok_or_else(|| "no header is whole".to_owned())
}

/// An entry of a log, put together where it goes on at the front; none, where there is none.
fn entry(log: &[u8], at: usize, guid: &[u8]) -> Option<Vec<u8>> {
    let front = log.get(at..at + PAGE)?;
    let len = u32_at(front, 8).ok()? as usize;
    if !front.starts_with(b"loge")
        || front[32..48] != *guid
        || !len.is_multiple_of(PAGE)
        || len < PAGE
        || len > log.len()
    {
        return None;
    }
    let whole: Vec<u8> = log[at..].iter().chain(log).take(len).copied().collect();
    sound(&whole).then_some(whole)
}

/// Carries out what the log holds, where the header names one.
fn replay(file: &mut Vec<u8>) -> Result<(), String> {
    let header = header(file)?.to_vec();
    let guid = &header[48..64];
    if guid == [0; 16] {
        return Ok(());
    }
    let (len, at) = (u32_at(&header, 68)? as usize, u64_at(&header, 72)? as usize);
    let log = file.get(at..at + len).ok_or("the file ends in the log")?.to_vec();
    let mut best: Option<(u64, Vec<Vec<u8>>)> = None;
    for start in (0..len).step_by(PAGE) {
        let (mut sequence, mut places, mut at) = (Vec::new(), Vec::new(), start);
        while let Some(next) = entry(&log, at, guid) {
            let number = u64_at(&next, 16)?;
            let follows = sequence.last().is_none_or(|last: &Vec<u8>| u64_at(last, 16) == Ok(number - 1));
            if !follows || places.contains(&at) {
                break;
            }
            places.push(at);
            at = (at + next.len()) % len;
            sequence.push(next);
        }
        let Some(last) = sequence.last() else { continue };
        let (number, tail) = (u64_at(last, 16)?, u32_at(last, 12)? as usize);
        let Some(first) = places.iter().position(|place| *place == tail) else { continue };
        if best.as_ref().is_none_or(|(best, _)| *best < number) {
            best = Some((number, sequence.split_off(first)));
        }
    }
    let Some((_, entries)) = best else {
        return Err("the header names a log, and no entry there is whole".to_owned());
    };
    for entry in entries {
        let (flushed, last) = (u64_at(&entry, 48)? as usize, u64_at(&entry, 56)? as usize);
        if file.len() < flushed {
            return Err(format!(
                "the file has {} bytes, and an entry of its log counts on {flushed}",
                file.len()
            ));
        }
        file.resize(file.len().max(last), 0);
        let count = u32_at(&entry, 24)? as usize;
        let (number, mut data) = (u64_at(&entry, 16)?, (64 + 32 * count).next_multiple_of(PAGE));
        for descriptor in entry[64..].chunks(32).take(count) {
            let to = u64_at(descriptor, 16)? as usize;
            if !descriptor.starts_with(b"desc") || u64_at(descriptor, 24)? != number {
                return Err("an entry of the log has a descriptor of another one".to_owned());
            }
            let mut sector = entry.get(data..data + PAGE).ok_or("an entry ends in its data")?.to_vec();
            let halves = u64::from(u32_at(&sector, 4)?) << 32 | u64::from(u32_at(&sector, PAGE - 4)?);
            if !sector.starts_with(b"data") || halves != number {
                return Err("an entry of the log has a sector of another one".to_owned());
            }
            sector[..8].copy_from_slice(&descriptor[8..16]);
            sector[PAGE - 4..].copy_from_slice(&descriptor[4..8]);
            file.get_mut(to..to + PAGE).ok_or("the log writes behind the end")?.copy_from_slice(&sector);
            data += PAGE;
        }
    }
    Ok(())
}

/// The place and the length that follow an identifier in a table.
fn find(table: &[u8], guid: [u8; 16], wide: bool) -> Result<(usize, usize), String> {
    let found = table.chunks(16).position(|bytes| *bytes == guid).ok_or("a table lacks an entry")?;
    let at = 16 * (found + 1);
    Ok(match wide {
        true => (u64_at(table, at)? as usize, u32_at(table, at + 8)? as usize),
        false => (u32_at(table, at)? as usize, u32_at(table, at + 4)? as usize),
    })
}

const BAT: [u8; 16] = *b"\x66\x77\xc2\x2d\x23\xf6\x00\x42\x9d\x64\x11\x5e\x9b\xfd\x4a\x08";
const METADATA: [u8; 16] = *b"\x06\xa2\x7c\x8b\x90\x47\x9a\x4b\xb8\xfe\x57\x5f\x05\x0f\x88\x6e";
const PARAMETERS: [u8; 16] = *b"\x37\x67\xa1\xca\x36\xfa\x43\x4d\xb3\xb6\x33\xf0\xaa\x44\xe7\x6b";
const SIZE: [u8; 16] = *b"\x24\x42\xa5\x2f\x1b\xcd\x76\x48\xb2\x11\x5d\xbe\xd8\x3b\xf4\xb8";

/// What a dynamic image with sectors of 512 bytes shows, and all that is promised of its file.
pub fn inspect(stack: &Stack, disk: &Disk, settled: bool) -> Result<Vec<u8>, String> {
    let mut file = files::top(stack, disk)?;
    if settled && header(&file)?[48..64] != [0; 16] {
        return Err("it was closed, and its log is not empty".to_owned());
    }
    replay(&mut file)?;
    let regions = file
        .get(192 * KIB..256 * KIB)
        .filter(|table| sound(table))
        .ok_or("the table of regions is damaged")?;
    let (bat, bat_len) = find(regions, BAT, true)?;
    let (metadata, metadata_len) = find(regions, METADATA, true)?;
    let items = file.get(metadata..metadata + 64 * KIB).ok_or("the file ends in metadata")?;
    let block = u32_at(&file, metadata + find(items, PARAMETERS, false)?.0)? as usize;
    let size = u64_at(&file, metadata + find(items, SIZE, false)?.0)? as usize;
    let ratio = (512 << 23) / block;
    let log = u64_at(header(&file)?, 72)? as usize;
    let log_len = u32_at(header(&file)?, 68)? as usize;
    let mut parts = vec![(0, MIB), (log, log_len), (bat, bat_len), (metadata, metadata_len)];
    let mut shown = vec![0; size.next_multiple_of(block)];
    for (number, to) in shown.chunks_mut(block).enumerate() {
        let entry = u64_at(&file, bat + 8 * (number + number / ratio))?;
        let at = (entry >> 20) as usize * MIB;
        match entry & 0xf_ffff {
            6 => {}
            0 | 2 if at == 0 => continue,
            _ => return Err(format!("entry {number} is {entry:#x}")),
        }
        let from = file
            .get(at..at + block)
            .ok_or_else(|| format!("entry {number}: there is no block at {at:#x}"))?;
        to.copy_from_slice(from);
        parts.push((at, block));
    }
    parts.sort_unstable();
    if let Some(pair) = parts.windows(2).find(|pair| pair[0].0 + pair[0].1 > pair[1].0) {
        return Err(format!("what is at {:#x} and at {:#x} overlaps", pair[0].0, pair[1].0));
    }
    shown.truncate(size);
    Ok(shown)
}
