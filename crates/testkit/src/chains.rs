//! Random chains of images for the tests of jobs: layers of several sizes, with holes, zeroes and data, short and long ones below
//! each other, and guests that write to the uppermost.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed step is a failed test")]

use crate::crash::flatten;
use crate::stack::{Session, Stack, TestImage};
use crate::stamp::stamped;
use block::{DriverType, Flags, Node, Request};
use parking_lot::Mutex;
use sim::{Disk, Rng};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};

/// Bytes of a sector.
pub const SECTOR: u64 = 512;

const FILES: [&str; 4] = ["/0", "/1", "/2", "/3"];

/// Layers of random sizes, clusters and versions; the lowest may be raw.
pub fn chain(rng: &mut Rng, drivers: &'static [&'static [DriverType]]) -> Stack {
    let mut images = Vec::new();
    for (at, file) in FILES.into_iter().take(2 + rng.index(3)).enumerate() {
        let size = (8 + rng.below(72)) * SECTOR;
        if at == 0 && rng.chance(1, 4) {
            images.push(TestImage::new("raw", file, size));
            continue;
        }
        let image = TestImage::new("qcow2", file, size);
        let image = image.with("cluster_size", rng.pick(&["512", "1024", "4096"]).unwrap());
        let image = image.with("compat", rng.pick(&["0.10", "1.1", "1.1"]).unwrap());
        images.push(match images.last() {
            None => image,
            Some(TestImage { format, file, .. }) => {
                image.with("backing_file", file).with("backing_fmt", format)
            }
        });
    }
    Stack::of("chain", drivers, images)
}

/// Data and zeroes in every layer, each through what is below it.
pub async fn fill(stack: &Stack, mut rng: Rng) {
    stack.create().await.unwrap();
    for (image, layer) in stack.images.iter().zip(1..) {
        let session = stack.open_image(image).await.unwrap();
        let sectors = image.size / SECTOR;
        for _ in 0..rng.below(5) {
            let first = rng.below(sectors);
            let count = (1 + rng.below(24)).min(sectors - first);
            if rng.chance(1, 3) {
                zero(&session, first, count, rng.chance(1, 2)).await;
            } else {
                session.write(first * SECTOR, &stamped(first, count * SECTOR, layer), false).await.unwrap();
            }
        }
        session.close().await.unwrap();
    }
}

async fn zero(session: &Session, first: u64, count: u64, unmap: bool) {
    let flags = Request::GUEST.with_if(unmap, Flags::MAY_UNMAP);
    session.backend.write_zeroes(first * SECTOR, count * SECTOR, flags).await.unwrap();
}

/// The guest's disk, as it must be.
pub type Book = Arc<Mutex<Vec<u8>>>;

/// Writes and zeroes on sectors of its own until it is stopped, and finds them as it wrote them.
pub async fn guest(
    session: Session,
    book: Book,
    mut rng: Rng,
    (number, of): (u64, u64),
    stop: Arc<AtomicBool>,
) {
    let sectors = book.lock().len() as u64 / SECTOR;
    let (from, to) = (sectors * number / of, sectors * (number + 1) / of);
    let mut write = 100;
    while !stop.load(Relaxed) {
        let first = from + rng.below(to - from);
        let count = (1 + rng.below(6)).min(to - first);
        let (start, end) = ((first * SECTOR) as usize, ((first + count) * SECTOR) as usize);
        write += of;
        let data = if rng.chance(1, 3) {
            zero(&session, first, count, rng.chance(1, 2)).await;
            vec![0; end - start]
        } else {
            let data = stamped(first, count * SECTOR, write + number);
            session.write(first * SECTOR, &data, false).await.unwrap();
            data
        };
        book.lock()[start..end].copy_from_slice(&data);
        let (at, len) = (from * SECTOR, (to - from) * SECTOR);
        let found = session.read(at, len).await.unwrap();
        let wrong = first_difference(&found, &book.lock()[at as usize..(at + len) as usize]);
        assert_eq!(wrong, None, "a guest finds something else than it wrote, at this sector of its own");
        rt::sleep(std::time::Duration::from_micros(30)).await;
    }
}

/// The layers of a chain, the lowest first.
pub fn layers(top: &Arc<Node>) -> Vec<Arc<Node>> {
    let mut nodes = vec![top.clone()];
    while let Some(below) = nodes.last().and_then(|node| node.backing()) {
        nodes.push(below);
    }
    nodes.reverse();
    nodes
}

/// What each layer shows.
pub fn shown(stack: &Stack, disk: &Disk) -> Vec<Vec<u8>> {
    let read = |image: &TestImage| match image.format {
        "raw" => disk.content(image.file).unwrap().to_vec(),
        _ => flatten(disk, image.file, false).unwrap_or_else(|text| panic!("{}: {text}", image.file)),
    };
    stack.images.iter().map(read).collect()
}

/// The first sector in which two disks differ.
pub fn first_difference(one: &[u8], other: &[u8]) -> Option<usize> {
    one.iter().zip(other).position(|(a, b)| a != b).map(|at| at / SECTOR as usize)
}
