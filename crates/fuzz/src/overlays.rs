//! Images of the older formats that have a mapping and may have a backing file: each a header and tables.

use crate::hostile::{self, Hostile};
use api::PreallocMode;
use block::{BlockError, Request};
use testkit::stack::TestImage;
use tools::image::Image;

/// Drives an image, which is also resized and emptied when it has been written to.
fn image(format: &'static str, input: &[u8]) {
    let image = Hostile::new(format, input);
    image.read_only(hostile::look);
    image.writable(change);
    image.repair();
}

async fn change(image: Image) -> Result<(), BlockError> {
    hostile::write_to(&image).await;
    let (node, length) = (image.node(), image.backend.length());
    image.graph.resize(&node, length.saturating_add(1 << 20), PreallocMode::Off).await.ok();
    node.driver().make_empty().await.ok();
    drop(node);
    image.backend.flush().await.ok();
    image.close().await
}

/// The bytes of a new image with some data in it.
fn made(recipe: TestImage) -> Vec<u8> {
    hostile::made(recipe, async |image: Image| {
        hostile::fill(&image, [0, 9 << 10, 40 << 10], 700).await;
        image.backend.write_zeroes(16 << 10, 8 << 10, Request::GUEST).await.ok();
        image.close().await
    })
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
