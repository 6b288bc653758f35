//! Every driver and stack runs the conformance suite.

use block::{Opt, Options};
use sim::Config;
use testkit::conformance::Suite;
use testkit::crash::{inspect_qcow2, inspect_raw};
use testkit::stack::{Stack, TestImage};
use testkit::{cow, parallels, qcow, qed, vdi, vmdk};

const DRIVERS: [&[block::DriverType]; 3] = [protocols::DRIVERS, filters::DRIVERS, formats::DRIVERS];
const SIZE: u64 = 96 << 10;

fn stack(name: &str, images: Vec<TestImage>) -> Stack {
    Stack::of(name, &DRIVERS, images)
}

fn qcow2(file: &'static str, cluster: &str) -> TestImage {
    TestImage::new("qcow2", file, SIZE + 512).with("cluster_size", cluster)
}

#[test]
fn raw_over_a_file() {
    Suite::of(stack("raw", vec![TestImage::new("raw", "/raw", SIZE)]), Some(inspect_raw)).run();
}

#[test]
fn raw_over_a_file_past_the_page_cache() {
    let mut stack = stack("raw, direct", vec![TestImage::new("raw", "/raw", SIZE)]);
    stack.top.set("cache", Opt::Dict(Options::new().with("direct", Opt::Bool(true))));
    let config = Config { direct_alignment: 4096, ..Config::seeded(0) };
    Suite { config, ..Suite::of(stack, Some(inspect_raw)) }.run();
}

#[test]
fn a_window_of_a_raw_file() {
    let mut stack = stack("raw window", vec![TestImage::new("raw", "/raw", SIZE)]);
    stack.top = stack.top.with("offset", Opt::Uint(0)).with("size", Opt::Uint(SIZE));
    stack.resizes = false;
    Suite::of(stack, Some(inspect_raw)).run();
}

#[test]
fn null_takes_everything_and_keeps_nothing() {
    let mut stack = stack("null-co", Vec::new());
    stack.top = Options::new()
        .with_str("driver", "null-co")
        .with("size", Opt::Uint(SIZE))
        .with("read-zeroes", Opt::Bool(true));
    stack.keeps_data = false;
    Suite::of(stack, None).run();
}

#[test]
fn qcow2_of_small_clusters() {
    Suite::of(stack("qcow2, 512", vec![qcow2("/top", "512")]), Some(inspect_qcow2)).run();
}

#[test]
fn qcow2_of_usual_clusters() {
    Suite::of(stack("qcow2, 64k", vec![qcow2("/top", "65536")]), Some(inspect_qcow2)).run();
}

#[test]
fn a_filter_that_compresses_over_qcow2() {
    let mut stack = stack("compress over qcow2", vec![qcow2("/top", "4096")]);
    stack.top = Options::new().with_str("driver", "compress").with("file", Opt::Dict(stack.top));
    Suite::of(stack, Some(inspect_qcow2)).run();
}

#[test]
fn qcow2_of_version_2_with_narrow_tables() {
    let image = qcow2("/top", "1024").with("compat", "0.10");
    Suite::of(stack("qcow2, v2", vec![image]), Some(inspect_qcow2)).run();
}

fn vmdk(name: &str, options: &[(&str, &str)]) -> Suite {
    let image = TestImage::new("vmdk", "/top", SIZE + 512).with("x-grain-size", "4096");
    let image = options.iter().fold(image, |image, (option, value)| image.with(option, value));
    let mut stack = stack(name, vec![image]);
    stack.resizes = false;
    Suite::of(stack, Some(vmdk::inspect))
}

#[test]
fn vmdk_of_one_sparse_file() {
    vmdk("vmdk", &[]).run();
}

#[test]
fn vmdk_with_zeroed_grains() {
    vmdk("vmdk, zeroed grains", &[("zeroed_grain", "on")]).run();
}

#[test]
fn vmdk_of_a_flat_file() {
    vmdk("vmdk, flat", &[("subformat", "monolithicFlat")]).run();
}

#[test]
fn vmdk_of_a_descriptor_and_a_sparse_file() {
    vmdk("vmdk, split", &[("subformat", "twoGbMaxExtentSparse")]).run();
}

#[test]
fn vmdk_past_the_page_cache() {
    let mut suite = vmdk("vmdk, direct", &[]);
    suite.stack.top.set("cache", Opt::Dict(Options::new().with("direct", Opt::Bool(true))));
    suite.config = Config { direct_alignment: 4096, ..Config::seeded(0) };
    suite.run();
}

#[test]
fn qcow2_past_the_page_cache() {
    let mut stack = stack("qcow2, direct", vec![qcow2("/top", "2048")]);
    stack.top.set("cache", Opt::Dict(Options::new().with("direct", Opt::Bool(true))));
    let config = Config { direct_alignment: 4096, ..Config::seeded(0) };
    Suite { config, ..Suite::of(stack, Some(inspect_qcow2)) }.run();
}

#[test]
fn qcow2_over_a_shorter_raw_image() {
    let base = TestImage::new("raw", "/base", SIZE / 2);
    let top = qcow2("/top", "4096").with("backing_file", "/base").with("backing_fmt", "raw");
    Suite::of(stack("qcow2 over raw", vec![base, top]), Some(inspect_qcow2)).run();
}

#[test]
fn a_chain_of_four_overlays_of_different_clusters() {
    let over =
        |file, cluster, below| qcow2(file, cluster).with("backing_file", below).with("backing_fmt", "qcow2");
    let images = vec![
        qcow2("/0", "4096"),
        over("/1", "512", "/0"),
        over("/2", "8192", "/1").with("compat", "0.10"),
        over("/3", "1024", "/2").with("refcount_bits", "1"),
    ];
    Suite::of(stack("four overlays", images), Some(inspect_qcow2)).run();
}

/// A stack whose images are encrypted by the passphrase of the secret `s`.
fn encrypted(name: &str, images: Vec<TestImage>) -> Stack {
    Stack { secrets: vec![("s", "a passphrase")], ..stack(name, images) }
}

#[test]
fn qcow2_encrypted_by_luks() {
    for (cluster, mode, iv) in
        [("512", "xts", "plain64"), ("4096", "cbc", "essiv"), ("65536", "xts", "plain64")]
    {
        let image = qcow2("/top", cluster)
            .with("encrypt.format", "luks")
            .with("encrypt.key-secret", "s")
            .with("encrypt.iter-time", "0")
            .with("encrypt.cipher-mode", mode)
            .with("encrypt.ivgen-alg", iv);
        let image = image.opened_with("encrypt.format", "luks").opened_with("encrypt.key-secret", "s");
        Suite::of(encrypted("qcow2, luks", vec![image]), None).run();
    }
}

#[test]
fn qcow2_encrypted_by_the_old_method_over_a_shorter_raw_image() {
    let base = TestImage::new("raw", "/base", SIZE / 2);
    let top = qcow2("/top", "4096")
        .with("encryption", "on")
        .with("encrypt.key-secret", "s")
        .with("backing_file", "/base")
        .with("backing_fmt", "raw")
        .opened_with("encrypt.key-secret", "s");
    Suite::of(encrypted("qcow2, aes", vec![base, top]), None).run();
}

#[test]
fn a_luks_volume() {
    let image = TestImage::new("luks", "/luks", SIZE).with("key-secret", "s").with("iter-time", "0");
    let mut stack = encrypted("luks", vec![image.opened_with("key-secret", "s")]);
    // It grows by what the file has there, decrypted.
    stack.resizes = false;
    Suite::of(stack, None).run();
}

#[test]
fn vdi_whose_blocks_have_a_place_when_they_are_written() {
    let mut stack = stack("vdi", vec![TestImage::new("vdi", "/top", (2 << 20) + 512)]);
    stack.resizes = false;
    Suite::of(stack, Some(vdi::inspect)).run();
}

#[test]
fn vdi_whose_blocks_all_have_a_place() {
    let image = TestImage::new("vdi", "/top", (1 << 20) + SIZE).with("static", "on");
    let mut stack = stack("static vdi", vec![image]);
    stack.resizes = false;
    Suite::of(stack, Some(vdi::inspect)).run();
}

/// A dynamic VHD image of so many bytes a block.
fn small_vpc(block: &str) -> Stack {
    let image = TestImage::new("small-vpc", "/vpc", SIZE + 512).with("block", block);
    let mut stack =
        Stack::of("vpc", &[DRIVERS[0], DRIVERS[1], testkit::vpc::drivers(formats::DRIVERS)], vec![image]);
    stack.resizes = false;
    stack
}

#[test]
fn vpc_of_small_blocks() {
    for block in ["1024", "8192", "65536"] {
        Suite::of(small_vpc(block), Some(testkit::vpc::inspect)).run();
    }
}

#[test]
fn vpc_as_it_is_made_here() {
    for (subformat, inspect) in [("dynamic", Some(testkit::vpc::inspect as _)), ("fixed", None)] {
        let image = TestImage::new("vpc", "/vpc", SIZE).with("subformat", subformat).with("force_size", "on");
        let mut stack = stack("vpc", vec![image]);
        stack.resizes = false;
        Suite::of(stack, inspect).run();
    }
}

#[test]
fn parallels_of_small_clusters() {
    for cluster in ["512", "4608", "65536"] {
        let image = TestImage::new("parallels", "/top", SIZE + 512).with("cluster_size", cluster);
        let image = image.opened_with("prealloc-size", "8192");
        let mut stack = stack("parallels", vec![image]);
        stack.resizes = false;
        Suite::of(stack, Some(parallels::inspect)).run();
    }
}

#[test]
fn vhdx() {
    for subformat in ["dynamic", "fixed"] {
        let image =
            TestImage::new("vhdx", "/vhdx", SIZE + 512).with("block_size", "1M").with("subformat", subformat);
        let mut stack = stack("vhdx", vec![image]);
        stack.resizes = false;
        Suite::of(stack, Some(testkit::vhdx::inspect)).run();
    }
}

fn qed(name: &str, images: Vec<TestImage>) -> Stack {
    // It only grows.
    Stack { resizes: false, ..stack(name, images) }
}

#[test]
fn qed_of_small_clusters_and_tables() {
    let image = TestImage::new("qed", "/top", SIZE + 512).with("cluster_size", "4096");
    let small = qed("qed, 4k", vec![image.clone().with("table_size", "1")]);
    Suite::of(small, Some(qed::inspect)).run();
    Suite::of(qed("qed, 4k, tables of 16", vec![image.with("table_size", "16")]), Some(qed::inspect)).run();
}

#[test]
fn qed_of_usual_clusters_over_a_shorter_raw_image() {
    let base = TestImage::new("raw", "/base", SIZE / 2);
    let top = TestImage::new("qed", "/top", 2 * SIZE);
    let top = top.with("backing_file", "/base").with("backing_fmt", "raw");
    Suite::of(qed("qed over raw", vec![base, top]), Some(qed::inspect)).run();
}

#[test]
fn qed_past_the_page_cache() {
    let image = TestImage::new("qed", "/top", SIZE).with("cluster_size", "4096").with("table_size", "1");
    let mut stack = qed("qed, direct", vec![image]);
    stack.top.set("cache", Opt::Dict(Options::new().with("direct", Opt::Bool(true))));
    let config = Config { direct_alignment: 4096, ..Config::seeded(0) };
    Suite { config, ..Suite::of(stack, Some(qed::inspect)) }.run();
}

/// A stack whose images do not shrink, or have one size for ever.
fn of_one_size(name: &str, images: Vec<TestImage>) -> Stack {
    Stack { resizes: false, ..stack(name, images) }
}

/// An image over a raw one that is half as long.
fn over_raw(format: &'static str) -> Vec<TestImage> {
    let top = TestImage::new(format, "/top", SIZE + 512);
    let top = top.with("backing_file", "/base").with("backing_fmt", "raw");
    vec![TestImage::new("raw", "/base", SIZE / 2), top]
}

#[test]
fn qcow_alone_and_over_a_shorter_raw_image() {
    let alone = of_one_size("qcow", vec![TestImage::new("qcow", "/top", SIZE + 512)]);
    Suite::of(alone, Some(qcow::inspect)).run();
    Suite::of(of_one_size("qcow over raw", over_raw("qcow")), Some(qcow::inspect)).run();
}

#[test]
fn qcow_past_the_page_cache_and_through_a_filter_that_compresses() {
    let image = || vec![TestImage::new("qcow", "/top", SIZE)];
    let mut direct = of_one_size("qcow, direct", image());
    direct.top.set("cache", Opt::Dict(Options::new().with("direct", Opt::Bool(true))));
    let config = Config { direct_alignment: 4096, ..Config::seeded(0) };
    Suite { config, ..Suite::of(direct, Some(qcow::inspect)) }.run();
    let mut compressed = of_one_size("compress over qcow", image());
    compressed.top = Options::new().with_str("driver", "compress").with("file", Opt::Dict(compressed.top));
    Suite::of(compressed, Some(qcow::inspect)).run();
}

#[test]
fn qcow_encrypted_over_a_shorter_raw_image() {
    let mut images = over_raw("qcow");
    if let Some(top) = images.pop() {
        let top = top.with("encrypt.format", "aes").with("encrypt.key-secret", "s");
        images.push(top.opened_with("encrypt.key-secret", "s"));
    }
    let stack = Stack { secrets: vec![("s", "a passphrase")], ..of_one_size("qcow, aes", images) };
    Suite::of(stack, None).run();
}

#[test]
fn cow_alone_and_over_a_shorter_raw_image() {
    let alone = of_one_size("cow", vec![TestImage::new("cow", "/top", SIZE + 512)]);
    Suite::of(alone, Some(cow::inspect)).run();
    Suite::of(of_one_size("cow over raw", over_raw("cow")), Some(cow::inspect)).run();
}
