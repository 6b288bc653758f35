//! Images of formats that are only read, made without a driver.

/// A growing image of Bochs, version 2, that shows this: extents of 4 KiB, the last ones of the disk first in the file.
pub fn bochs(shown: &[u8]) -> Vec<u8> {
    const EXTENT: usize = 4096;
    let entries = shown.len().div_ceil(EXTENT);
    let mut file = vec![0; 512];
    file[..22].copy_from_slice(b"Bochs Virtual HD Image");
    file[32..39].copy_from_slice(b"Redolog");
    file[48..55].copy_from_slice(b"Growing");
    let words = [(64, 0x0002_0000), (68, 512), (72, entries), (76, 1), (80, EXTENT), (88, shown.len())];
    for (at, word) in words {
        file[at..at + 4].copy_from_slice(&(word as u32).to_le_bytes());
    }
    file.resize(512 + 4 * entries, 0xff);
    let mut places = 0_u32;
    for (entry, content) in shown.chunks(EXTENT).enumerate().rev() {
        if content.iter().all(|byte| *byte == 0) {
            continue;
        }
        file[512 + 4 * entry..][..4].copy_from_slice(&places.to_le_bytes());
        places += 1;
        let mut bitmap = [0; 512];
        for (sector, bytes) in content.chunks(512).enumerate() {
            bitmap[sector / 8] |= u8::from(bytes.iter().any(|byte| *byte != 0)) << (sector % 8);
        }
        file.extend(bitmap);
        file.extend_from_slice(content);
        file.resize(file.len() + EXTENT - content.len(), 0);
    }
    file
}

/// A compressed loopback image that shows this, in blocks of so many bytes. Its streams are stored, not packed.
pub fn cloop(shown: &[u8], block: usize) -> Vec<u8> {
    let mut file =
        b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\nexit $?\n"
            .to_vec();
    file.resize(128, 0);
    let blocks = shown.len().div_ceil(block);
    file.extend((block as u32).to_be_bytes());
    file.extend((blocks as u32).to_be_bytes());
    let streams: Vec<Vec<u8>> = shown.chunks(block).map(|content| stored(content, block)).collect();
    let mut at = file.len() + 8 * (blocks + 1);
    for stream in &streams {
        file.extend((at as u64).to_be_bytes());
        at += stream.len();
    }
    file.extend((at as u64).to_be_bytes());
    file.extend(streams.concat());
    file
}

/// A zlib stream of stored blocks; `content` is filled up with zeroes.
pub(crate) fn stored(content: &[u8], len: usize) -> Vec<u8> {
    let mut content = content.to_vec();
    content.resize(len, 0);
    let mut stream = vec![0x78, 0x01];
    let parts = content.chunks(0xffff);
    let last = parts.len() - 1;
    for (nth, part) in parts.enumerate() {
        let len = part.len() as u16;
        stream.push(u8::from(nth == last));
        stream.extend(len.to_le_bytes());
        stream.extend((!len).to_le_bytes());
        stream.extend_from_slice(part);
    }
    let (mut a, mut b) = (1_u32, 0_u32);
    for byte in &content {
        a = (a + u32::from(*byte)) % 65521;
        b = (b + a) % 65521;
    }
    stream.extend((b << 16 | a).to_be_bytes());
    stream
}
