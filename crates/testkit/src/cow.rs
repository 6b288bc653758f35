//! A reader and a writer of cow images that know nothing of the driver.

use sim::Disk;

use crate::files;
use crate::stack::Stack;

const MAGIC: &[u8] = b"OOOM\0\0\0\x02";
const HEADER: usize = 1056;
const SECTOR: usize = 512;

fn data_offset(size: usize) -> usize {
    (HEADER + (size / SECTOR).div_ceil(8)).next_multiple_of(SECTOR)
}

/// What an image and the chain below it show, or what is wrong.
pub fn inspect(stack: &Stack, disk: &Disk, _: bool) -> Result<Vec<u8>, String> {
    let below = |bytes: &[u8]| Ok(if is_cow(bytes) { backing(bytes) } else { None });
    files::shown(stack, disk, below, |bytes, below, _| match is_cow(bytes) {
        true => read(bytes, below),
        false => Ok(bytes.to_vec()),
    })
}

/// Whether the bytes begin as an image does.
fn is_cow(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// The name of the backing file.
pub fn backing(bytes: &[u8]) -> Option<String> {
    let name = bytes.get(8..1032)?.split(|byte| *byte == 0).next()?;
    (!name.is_empty()).then(|| String::from_utf8_lossy(name).into_owned())
}

/// What an image shows over what its backing file does.
pub fn read(bytes: &[u8], below: &[u8]) -> Result<Vec<u8>, String> {
    let field = bytes.get(1040..1048).and_then(|bytes| bytes.try_into().ok()).ok_or("no header")?;
    let size = u64::from_be_bytes(field) as usize;
    if bytes.get(1048..1052) != Some(&[0, 0, 2, 0]) {
        return Err("sectors of another size".to_owned());
    }
    let mut shown = below.to_vec();
    shown.resize(size, 0);
    for (sector, to) in shown.chunks_mut(SECTOR).enumerate() {
        let byte = bytes.get(HEADER + sector / 8).ok_or("the bitmap is cut off")?;
        if byte >> (sector % 8) & 1 == 1 {
            let at = data_offset(size) + sector * SECTOR;
            let from = bytes.get(at..at + to.len());
            to.copy_from_slice(from.ok_or_else(|| format!("sector {sector} is held, and behind the end"))?);
        }
    }
    Ok(shown)
}

/// An image of these sectors of a disk of `size` bytes, as another program would have written it.
pub fn write(size: usize, backing: &str, sectors: &[(usize, [u8; SECTOR])]) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(backing.as_bytes());
    bytes.resize(1032, 0);
    // When the backing file was changed: a time like another.
    bytes.extend_from_slice(&0x5000_0000_u32.to_be_bytes());
    bytes.resize(1040, 0);
    bytes.extend_from_slice(&(size as u64).to_be_bytes());
    bytes.extend_from_slice(&512_u32.to_be_bytes());
    let end = sectors.iter().map(|(sector, _)| data_offset(size) + (sector + 1) * SECTOR).max();
    bytes.resize(end.unwrap_or(0).max(data_offset(size)), 0);
    for (sector, data) in sectors {
        bytes[HEADER + sector / 8] |= 1 << (sector % 8);
        bytes[data_offset(size) + sector * SECTOR..][..SECTOR].copy_from_slice(data);
    }
    bytes
}
