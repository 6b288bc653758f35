//! Images of the older formats that have a mapping and may have a backing file: each a header and tables.

use api::PreallocMode;
use block::{BlockError, Repair, Request};
use rt::{Buf, BufMut};
use sim::{Config, Disk, Sim};
use testkit::stack::{Stack, TestImage};
use tools::image::{Image, Source};
use tools::show::Description;

/// Most extents that are asked for.
const EXTENTS: usize = 256;

/// Bytes that are read at the front and at the end.
const READ: u64 = 64 << 10;

/// Opens the input as an image of a format: describes it, walks its extents, reads its ends, writes to it, resizes it, checks
/// and repairs it. Laws: extents make progress and stay inside; a read gives all that it was asked for; what a repair says is
/// mended, the next check finds mended.
fn image(format: &'static str, input: &[u8]) {
    let mut disk = Disk::default();
    disk.put("/image", input);
    let boot = || Sim::boot(Config::seeded(1), disk.clone());
    boot().run(async { look(format).await.ok() });
    boot().run(async { change(format).await.ok() });
    boot().run(async { repair(format).await.ok() });
}

fn source(format: &str) -> Source {
    Source::named("/image").format(Some(format)).alone()
}

async fn look(format: &str) -> Result<(), BlockError> {
    let image = Image::open(&source(format)).await?;
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
    image.close().await
}

/// What a write to a broken image does, it does without a panic, and closes.
async fn change(format: &str) -> Result<(), BlockError> {
    let image = Image::open(&source(format).writable()).await?;
    let length = image.backend.length();
    for start in [0, length / 2] {
        let len = 4096.min(length - start);
        image.backend.write(start, Buf::from_slice(&vec![7; len as usize]), Request::GUEST).await.ok();
        image.backend.write_zeroes(start, len, Request::GUEST).await.ok();
        image.backend.discard(start, len, Request::GUEST).await.ok();
    }
    let node = image.node();
    image.graph.resize(&node, length.saturating_add(1 << 20), PreallocMode::Off).await.ok();
    node.driver().make_empty().await.ok();
    drop(node);
    image.backend.flush().await.ok();
    image.close().await
}

async fn repair(format: &str) -> Result<(), BlockError> {
    let image = Image::open(&Source { for_repair: true, ..source(format).writable() }).await?;
    let node = image.node();
    if let Some(checker) = node.driver().checker() {
        let mended = checker.check(Repair::All).await?;
        let again = checker.check(Repair::No).await?;
        let left = |report: &block::CheckReport| (report.corruptions, report.leaks, report.check_errors);
        assert_eq!(left(&mended), left(&again), "mended, and then: {:?}", again.messages);
    }
    drop(node);
    image.close().await
}

/// The bytes of a new image with some data in it.
fn made(recipe: TestImage) -> Vec<u8> {
    let format = recipe.format;
    let sim = Sim::new(1);
    sim.run(async move {
        let stack = Stack::of("seed", &[protocols::DRIVERS, formats::DRIVERS], vec![recipe]);
        if stack.create().await.is_ok()
            && let Ok(image) = Image::open(&source(format).writable()).await
        {
            for at in [0, 9 << 10, 40 << 10] {
                let data = Buf::from_slice(&[at as u8 ^ 0x55; 700]);
                image.backend.write(at, data, Request::GUEST).await.ok();
            }
            image.backend.write_zeroes(16 << 10, 8 << 10, Request::GUEST).await.ok();
            image.close().await.ok();
        }
    });
    sim.settle();
    sim.world().disk().content("/image").map(sim::Content::to_vec).unwrap_or_default()
}

/// An image in qed: header, L1 table, L2 tables.
pub fn qed(input: &[u8]) {
    image("qed", input);
}

/// Small images with a table of one cluster: alone, and with a backing file's name.
pub fn qed_seeds() -> Vec<Vec<u8>> {
    let new =
        || TestImage::new("qed", "/image", 64 << 10).with("cluster_size", "4096").with("table_size", "1");
    vec![made(new()), made(new().with("backing_file", "/nowhere").with("backing_fmt", "raw"))]
}

/// An image in qcow, of the first version: header, L1 table, L2 tables, streams.
pub fn qcow(input: &[u8]) {
    image("qcow", input);
}

/// Small images: alone, and with a backing file's name, which makes clusters small.
pub fn qcow_seeds() -> Vec<Vec<u8>> {
    let new = || TestImage::new("qcow", "/image", 64 << 10);
    vec![made(new()), made(new().with("backing_file", "/nowhere"))]
}

/// An image in cow: header, bitmap.
pub fn cow(input: &[u8]) {
    image("cow", input);
}

/// Small images: alone, and with a backing file's name.
pub fn cow_seeds() -> Vec<Vec<u8>> {
    let new = || TestImage::new("cow", "/image", 64 << 10);
    vec![made(new()), made(new().with("backing_file", "/nowhere"))]
}
