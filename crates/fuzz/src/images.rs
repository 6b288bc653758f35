//! Images of the smaller formats: their headers, and the tables that lead to their data.

use block::{BlockError, Repair, Request};
use rt::{Buf, BufMut};
use sim::{Config, Disk, Sim};
use testkit::parallels::Layout;
use testkit::stack::{Stack, TestImage};
use tools::image::{Image, Source};
use tools::show::Description;

/// Most extents that are asked for.
const EXTENTS: usize = 256;

/// Bytes that are read at the front and at the end.
const READ: u64 = 64 << 10;

/// An image of Bochs.
pub fn bochs(input: &[u8]) {
    image("bochs", input);
}

/// A compressed loopback image.
pub fn cloop(input: &[u8]) {
    image("cloop", input);
}

/// A Parallels image.
pub fn parallels(input: &[u8]) {
    image("parallels", input);
}

/// A VDI image.
pub fn vdi(input: &[u8]) {
    image("vdi", input);
}

/// Opens the input as an image of this format: describes it, walks its extents, reads its ends, writes to it, checks and
/// repairs it. Laws: extents make progress and stay inside; a read gives all that it was asked for; what a repair says is
/// mended, the next check finds mended.
fn image(format: &'static str, input: &[u8]) {
    let mut disk = Disk::default();
    disk.put("/image", input);
    let boot = |disk: &Disk| Sim::boot(Config::seeded(1), disk.clone());
    boot(&disk).run(async { look(format).await.ok() });
    boot(&disk).run(async { change(format).await.ok() });
    boot(&disk).run(async { repair(format).await.ok() });
}

fn source(format: &str) -> Source {
    Source::named("/image").format(Some(format)).alone()
}

async fn look(format: &str) -> Result<(), BlockError> {
    let image = Image::open(&source(format)).await?;
    // The description is of some size, and can be had.
    assert!(Description::of(&image.node()).object().as_dict().is_some_and(|object| !object.is_empty()));
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
    if let Some(checker) = image.node().driver().checker() {
        checker.check(Repair::No).await.ok();
    }
    image.close().await
}

/// What a write to a broken image does, it does without a panic, and closes.
async fn change(format: &str) -> Result<(), BlockError> {
    let image = Image::open(&source(format).writable()).await?;
    let length = image.backend.length();
    for start in [0, length / 2] {
        let len = 4096.min(length - start) as usize;
        image.backend.write(start, Buf::from_slice(&vec![7; len]), Request::GUEST).await.ok();
        image.backend.discard(start, len as u64, Request::GUEST).await.ok();
    }
    image.backend.flush().await.ok();
    image.close().await
}

async fn repair(format: &str) -> Result<(), BlockError> {
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

/// An empty image, and one with small blocks of which some are in use.
pub fn vdi_seeds() -> Vec<Vec<u8>> {
    vec![made(TestImage::new("vdi", "/image", 64 << 10)), testkit::vdi::made(&shown(), 1024)]
}

/// An image with written sectors in some extents.
pub fn bochs_seeds() -> Vec<Vec<u8>> {
    vec![testkit::read_only::bochs(&shown())]
}

/// Images of small and of large blocks.
pub fn cloop_seeds() -> Vec<Vec<u8>> {
    [512, 8192].map(|block| testkit::read_only::cloop(&shown(), block)).to_vec()
}

/// What a small disk shows.
fn shown() -> Vec<u8> {
    let mut shown = vec![0; 32 << 10];
    shown[..512].fill(1);
    shown[9 << 10..20 << 10].fill(2);
    shown
}

/// An empty image, and images of both versions of which some clusters are in use.
pub fn parallels_seeds() -> Vec<Vec<u8>> {
    let of = |old| testkit::parallels::made(&shown(), Layout { cluster: 3, old });
    vec![
        made(TestImage::new("parallels", "/image", 64 << 10).with("cluster_size", "512")),
        of(true),
        of(false),
        with_extension(of(false)),
    ]
}

/// The same image with a dirty bitmap in a format extension.
fn with_extension(mut file: Vec<u8>) -> Vec<u8> {
    const CLUSTER: usize = 3 * 512;
    let end = file.len() as u64 / 512;
    let mut extension = vec![0; CLUSTER];
    extension[24..32].copy_from_slice(&0x2038_5fae_252c_b34a_u64.to_le_bytes());
    extension[40..44].copy_from_slice(&40_u32.to_le_bytes());
    // Of 64 sectors, two a bit, with a table of one cluster.
    extension[48..56].copy_from_slice(&64_u64.to_le_bytes());
    extension[72..76].copy_from_slice(&2_u32.to_le_bytes());
    extension[76..80].copy_from_slice(&1_u32.to_le_bytes());
    extension[80..88].copy_from_slice(&(end + 3).to_le_bytes());
    let mut sum = [0; 16];
    crypto::Hash::Md5.digest(&[&extension[24..]], &mut sum);
    extension[..8].copy_from_slice(&0xab23_4cef_23dc_ea87_u64.to_le_bytes());
    extension[8..24].copy_from_slice(&sum);
    file[56..64].copy_from_slice(&end.to_le_bytes());
    file.extend(extension);
    file.resize(file.len() + CLUSTER, 0x55);
    file
}

/// The bytes of a new image.
fn made(recipe: TestImage) -> Vec<u8> {
    let sim = Sim::new(1);
    sim.run(async move {
        Stack::of("seed", &[protocols::DRIVERS, formats::DRIVERS], vec![recipe]).create().await.ok()
    });
    sim.settle();
    sim.world().disk().content("/image").map(sim::Content::to_vec).unwrap_or_default()
}
