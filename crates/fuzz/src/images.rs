//! Images of the smaller formats: their headers, and the tables that lead to their data.

use crate::hostile::{self, Hostile};
use testkit::parallels::Layout;
use testkit::stack::TestImage;
use tools::image::Image;

/// An image of Bochs.
pub fn bochs(input: &[u8]) {
    Hostile::new("bochs", input).drive();
}

/// A compressed loopback image.
pub fn cloop(input: &[u8]) {
    Hostile::new("cloop", input).drive();
}

/// A disk image of Apple: a whole one, or the data and tables of one whose list and trailer are right.
pub fn dmg(input: &[u8]) {
    Hostile::new("dmg", input).drive();
    let (data, table) = input.split_at(input.len().min(2048));
    let tables = vec![table.to_vec()];
    let image = testkit::dmg::Image { data: data.to_vec(), tables, sectors: SHOWN as u64 / 512 };
    Hostile::new("dmg", &image.with_list()).drive();
}

/// A Parallels image.
pub fn parallels(input: &[u8]) {
    Hostile::new("parallels", input).drive();
}

/// A VDI image.
pub fn vdi(input: &[u8]) {
    Hostile::new("vdi", input).drive();
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

/// Images of both kinds of tables, and the data and tables of some.
pub fn dmg_seeds() -> Vec<Vec<u8>> {
    let image = testkit::dmg::Image::of(&shown(), 4096, &testkit::dmg::ALL);
    let mut seeds = vec![image.with_list(), image.with_fork()];
    for kind in testkit::dmg::ALL {
        let mut image = testkit::dmg::Image::of(&shown()[8 << 10..10 << 10], 2048, &[kind]);
        image.data.resize(2048, 0);
        seeds.push([image.data, image.tables.concat()].concat());
    }
    seeds
}

/// Bytes of a small disk.
const SHOWN: usize = 32 << 10;

/// What a small disk shows.
fn shown() -> Vec<u8> {
    let mut shown = vec![0; SHOWN];
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
    hostile::made(recipe, Image::close)
}
