//! Images in vmdk: headers of sparse files, descriptors, grain directories and tables, compressed grains.

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

/// Opens the input as an image: describes it, walks its extents, reads its ends, writes to it, checks and repairs it. A
/// descriptor may name the image itself, and `/extent`, which has the same bytes. Laws: extents make progress and stay inside;
/// what a repair says is mended, the next check finds mended.
pub fn image(input: &[u8]) {
    let mut disk = Disk::default();
    disk.put("/image", input);
    disk.put("/extent", input);
    let boot = |disk: &Disk| Sim::boot(Config::seeded(1), disk.clone());
    boot(&disk).run(async { look().await.ok() });
    boot(&disk).run(async { change().await.ok() });
    boot(&disk).run(async { repair().await.ok() });
}

fn source() -> Source {
    Source::named("/image").format(Some("vmdk")).alone()
}

async fn look() -> Result<(), BlockError> {
    let image = Image::open(&source()).await?;
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

async fn change() -> Result<(), BlockError> {
    let image = Image::open(&source().writable()).await?;
    let length = image.backend.length();
    for start in [0, length / 2] {
        let len = 4096.min(length - start);
        image.backend.write(start, Buf::from_slice(&vec![7; len as usize]), Request::GUEST).await.ok();
        image.backend.discard(start, len, Request::GUEST).await.ok();
    }
    image.backend.flush().await.ok();
    image.close().await
}

async fn repair() -> Result<(), BlockError> {
    let image = Image::open(&Source { for_repair: true, ..source().writable() }).await?;
    if let Some(checker) = image.node().driver().checker() {
        let mended = checker.check(Repair::All).await?;
        let again = checker.check(Repair::No).await?;
        if mended.check_errors == 0 && mended.corruptions == 0 {
            assert_eq!(again.corruptions, 0, "mended, and then: {:?}", again.messages);
        }
    }
    image.close().await
}

/// A sparse file, one with zeroed grains, a stream, and descriptors of files of each kind.
pub fn seeds() -> Vec<Vec<u8>> {
    let new = || TestImage::new("vmdk", "/image", 64 << 10).with("x-grain-size", "4096");
    let descriptor = |lines: &str| {
        let text =
            "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType=\"custom\"\n";
        format!("{text}{lines}\nddb.adapterType = \"ide\"\n").into_bytes()
    };
    vec![
        made(new()),
        made(new().with("zeroed_grain", "on")),
        made(new().with("subformat", "streamOptimized")),
        descriptor("RW 8 FLAT \"extent\" 0\nRW 8 ZERO\nRW 8 FLAT \"/image\" 1"),
        descriptor("RW 8 VMFS \"extent\"\nRW 8 SPARSE \"extent\"\nRW 8 SESPARSE \"extent\""),
        descriptor("parentFileNameHint=\"/nowhere\"\nRDONLY 8 VMFSSPARSE \"extent\""),
        cowd(),
        se_sparse(),
    ]
}

/// The bytes of a new image with some data in it.
fn made(recipe: TestImage) -> Vec<u8> {
    let sim = Sim::new(1);
    sim.run(async move {
        let stack = Stack::of("seed", &[protocols::DRIVERS, formats::DRIVERS], vec![recipe]);
        if stack.create().await.is_ok()
            && let Ok(image) = Image::open(&source().writable()).await
        {
            for at in [0, 12 << 10, 40 << 10] {
                let data = Buf::from_slice(&[at as u8 ^ 0x55; 8192]);
                image.backend.write(at, data, Request::GUEST).await.ok();
            }
            image.close().await.ok();
        }
    });
    sim.settle();
    sim.world().disk().content("/image").map(sim::Content::to_vec).unwrap_or_default()
}

/// Words in their places in so many bytes.
fn laid_out<const N: usize>(len: usize, words: &[(usize, [u8; N])]) -> Vec<u8> {
    let mut bytes = vec![0; len];
    for (at, word) in words {
        bytes.iter_mut().skip(*at).zip(word).for_each(|(to, from)| *to = *from);
    }
    bytes
}

/// A file of older ESX hosts: a grain of a sector at sector 40, by the table at sector 5.
fn cowd() -> Vec<u8> {
    let words = [(0, *b"COWD"), (4, [1, 0, 0, 0])];
    let fields = [(12, 16u32), (16, 1), (20, 4), (24, 1), (2048, 5), (2560, 40)];
    let fields = fields.map(|(at, word)| (at, word.to_le_bytes()));
    laid_out(48 * 512, &[&words[..], &fields].concat())
}

/// A file of today's ESX hosts: a grain, by the one table.
fn se_sparse() -> Vec<u8> {
    let header = [0xcafe_babe, 0x2_0000_0001, 16, 8, 64];
    let places = [(10, 1), (11, 1), (16, 2), (17, 1), (18, 8), (19, 64), (24, 80), (25, 8)];
    let others = [(512, 0xcafe_cafe), (1024, 1 << 60), (4096, 3 << 60), (4104, 2 << 60)];
    let header = (0..).zip(header).map(|(n, word)| (n * 8, word));
    let words = header.chain(places.map(|(n, word)| (n * 8, word))).chain(others);
    let words: Vec<(usize, [u8; 8])> =
        words.map(|(at, word): (usize, u64)| (at, word.to_le_bytes())).collect();
    laid_out(96 * 512, &words)
}
