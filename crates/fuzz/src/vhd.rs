//! Images in vpc (VHD) and vhdx: footers, headers, tables, bitmaps of blocks, and a log.

use block::{BlockError, Repair, Request};
use codec::Crc32c;
use rt::{Buf, BufMut};
use sim::{Config, Disk, Sim};
use testkit::stack::{Stack, TestImage};
use tools::image::{Image, Source};

/// Most extents that are asked for.
const EXTENTS: usize = 256;
/// Bytes that are read at the front and at the end.
const READ: u64 = 64 << 10;

/// Opens the input as a VHD image whose checksums are right: walks its extents, reads its ends, writes to it, checks and
/// repairs it. Laws: extents make progress and stay inside; what a repair says is mended, the next check finds mended.
pub fn vpc_image(input: &[u8]) {
    let mut bytes = input.to_vec();
    for (start, len, at) in [(0, 512, 64), (512, 1024, 36)] {
        if let Some(structure) = bytes.get_mut(start..start + len) {
            structure[at..at + 4].fill(0);
            let sum = !structure.iter().map(|byte| u32::from(*byte)).sum::<u32>();
            structure[at..at + 4].copy_from_slice(&sum.to_be_bytes());
        }
    }
    drive("vpc", &bytes);
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

/// Opens a VHDX image whose parts are those of the input, and whose checksums are right. Laws as of [`vpc_image`].
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
    drive("vhdx", &file);
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

/// Drives the driver of `format` with an image.
fn drive(format: &'static str, bytes: &[u8]) {
    let mut disk = Disk::default();
    disk.put("/image", bytes);
    let boot = |disk: &Disk| Sim::boot(Config::seeded(1), disk.clone());
    boot(&disk).run(async move { look(format).await.ok() });
    boot(&disk).run(async move { change(format).await.ok() });
    boot(&disk).run(async move { repair(format).await.ok() });
}

fn source(format: &'static str) -> Source {
    Source::named("/image").format(Some(format)).alone()
}

async fn look(format: &'static str) -> Result<(), BlockError> {
    let image = Image::open(&source(format)).await?;
    let length = image.backend.length();
    let mut at = 0;
    for _ in 0..EXTENTS {
        if at >= length {
            break;
        }
        let Ok(status) = image.backend.status(at, length - at).await else { break };
        assert!(status.len > 0 && status.len <= length - at, "an extent of {} at {at}", status.len);
        at += status.len;
    }
    for start in [0, length.saturating_sub(READ)] {
        let wanted = READ.min(length - start) as usize;
        let (buf, result) = image.backend.read(start, BufMut::with_len(wanted)).await;
        assert!(result.is_err() || buf.len() == wanted);
    }
    image.close().await
}

async fn change(format: &'static str) -> Result<(), BlockError> {
    let image = Image::open(&source(format).writable()).await?;
    let length = image.backend.length();
    for start in [0, length / 2] {
        let len = 4096.min(length - start) as usize;
        let written = image.backend.write(start, Buf::from_slice(&vec![7; len]), Request::GUEST).await;
        let (buf, read) = image.backend.read(start, BufMut::with_len(len)).await;
        assert!(
            written.is_err() || read.is_err() || buf.iter().all(|byte| *byte == 7),
            "other bytes were read"
        );
        image.backend.discard(start, len as u64, Request::GUEST).await.ok();
    }
    image.backend.flush().await.ok();
    image.close().await
}

async fn repair(format: &'static str) -> Result<(), BlockError> {
    let image = Image::open(&Source { for_repair: true, ..source(format).writable() }).await?;
    let node = image.node();
    if let Some(checker) = node.driver().checker() {
        let mended = checker.check(Repair::All).await?;
        let again = checker.check(Repair::No).await?;
        if mended.check_errors == 0 && mended.corruptions == 0 && mended.leaks == 0 {
            let left = (again.corruptions, again.leaks, again.check_errors);
            assert_eq!(left, (0, 0, 0), "mended, and then: {:?}", again.messages);
        }
    }
    drop(node);
    image.close().await
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
