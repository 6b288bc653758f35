//! Images in vpc (VHD) and vhdx: footers, headers, tables, bitmaps of blocks, and a log.

use crate::hostile::Hostile;
use codec::Crc32c;
use sim::Sim;
use testkit::stack::{Stack, TestImage};

/// A VHD image whose checksums are right.
pub fn vpc_image(input: &[u8]) {
    let mut bytes = input.to_vec();
    for (start, len, at) in [(0, 512, 64), (512, 1024, 36)] {
        if let Some(structure) = bytes.get_mut(start..start + len) {
            structure[at..at + 4].fill(0);
            let sum = !structure.iter().map(|byte| u32::from(*byte)).sum::<u32>();
            structure[at..at + 4].copy_from_slice(&sum.to_be_bytes());
        }
    }
    Hostile::new("vpc", &bytes).drive();
}

/// Where the parts of a VHDX image are in its file that an input has one behind the other, and how long each is: header, table of
/// regions, log, block allocation table, table of metadata, metadata.
const PARTS: [(usize, usize); 6] = [
    (64 << 10, 4 << 10),
    (192 << 10, 1 << 10),
    (1 << 20, 8 << 10),
    (2 << 20, 4 << 10),
    (3 << 20, 1 << 10),
    ((3 << 20) + (64 << 10), 256),
];
/// Bytes of the file.
const FILE: usize = 8 << 20;

/// A VHDX image whose parts are those of the input, and whose checksums are right.
pub fn vhdx_image(input: &[u8]) {
    let (mut file, mut rest) = (vec![0; FILE], input);
    file[..8].copy_from_slice(b"vhdxfile");
    for (at, len) in PARTS {
        let (part, behind) = rest.split_at(len.min(rest.len()));
        file[at..at + part.len()].copy_from_slice(part);
        rest = behind;
    }
    let entry = file[(1 << 20) + 8..].first_chunk().map_or(0, |len| u32::from_le_bytes(*len) as usize);
    for (at, len) in [(64 << 10, 4 << 10), (192 << 10, 64 << 10), (1 << 20, entry.clamp(8, 1 << 20))] {
        file[at + 4..at + 8].fill(0);
        let sum = Crc32c::default().with(&file[at..at + len]).sum();
        file[at + 4..at + 8].copy_from_slice(&sum.to_le_bytes());
    }
    Hostile::new("vhdx", &file).drive();
}

/// A new image, one with a block, and one that was not closed.
pub fn vhdx_seeds() -> Vec<Vec<u8>> {
    let made = |write: bool, close: bool| {
        let sim = Sim::new(1);
        sim.run(async move {
            let image = TestImage::new("vhdx", "/image", 5 << 20).with("block_size", "1M");
            let stack = Stack::of("seed", &[protocols::DRIVERS, formats::DRIVERS], vec![image]);
            if stack.create().await.is_ok()
                && write
                && let Ok(session) = stack.open().await
            {
                session.write(5000, &[7; 700], true).await.ok();
                if close {
                    session.close().await.ok();
                }
            }
        });
        let disk = sim.world().disk();
        let file = disk.content("/image").map(sim::Content::to_vec).unwrap_or_default();
        let parts = PARTS.iter().map(|(at, len)| file.get(*at..at + len).unwrap_or_default());
        parts.collect::<Vec<_>>().concat()
    };
    vec![made(false, true), made(true, true), made(true, false)]
}

/// Dynamic images with blocks in use, and a fixed one.
pub fn vpc_seeds() -> Vec<Vec<u8>> {
    let mut used = testkit::vpc::image(20 << 10, 4096);
    let footer = used.split_off(used.len() - 512);
    for block in [3u32, 0] {
        let sector = used.len() as u32 / 512;
        let entry = 1536 + 4 * block as usize;
        used[entry..entry + 4].copy_from_slice(&sector.to_be_bytes());
        used.extend([0xf0; 512]);
        used.extend([block as u8; 4096]);
    }
    used.extend_from_slice(&footer);
    let mut fixed = vec![5; 4096];
    let mut end = footer;
    end[60..64].copy_from_slice(&2u32.to_be_bytes());
    end[48..56].copy_from_slice(&4096u64.to_be_bytes());
    end[64..68].fill(0);
    let sum = !end.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    end[64..68].copy_from_slice(&sum.to_be_bytes());
    fixed.extend_from_slice(&end);
    vec![testkit::vpc::image(1 << 20, 2 << 20), used, fixed]
}
