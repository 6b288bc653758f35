//! Images in vmdk: headers of sparse files, descriptors, grain directories and tables, compressed grains.

use crate::hostile::{self, Hostile};
use testkit::stack::TestImage;
use tools::image::Image;

/// A sparse file or a descriptor. That may name the image itself, and `/extent`, which has the same bytes.
pub fn image(input: &[u8]) {
    Hostile::new("vmdk", input).with_file("/extent", input).drive();
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
    hostile::made(recipe, async |image: Image| {
        hostile::fill(&image, [0, 12 << 10, 40 << 10], 8192).await;
        image.close().await
    })
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
