//! Images in qcow2: header, extensions, L1 and L2 tables, refcounts, snapshot table, bitmap directory.

use crate::hostile::{self, Hostile, READ};
use api::PreallocMode;
use block::{BlockError, NewBitmap, NewSnapshot, Opt, Options, Request, SnapshotName};
use rt::Buf;
use testkit::stack::TestImage;
use tools::image::{Image, Source};

/// Most snapshots that are looked at.
const SNAPSHOTS: usize = 3;

/// Drives an image, whose snapshots are looked at and changed too, and which is amended.
pub fn image(input: &[u8]) {
    let image = Hostile::new("qcow2", input);
    image.read_only(hostile::look);
    image.read_only(look_at_snapshots);
    image.writable(change);
    image.writable(amend);
    image.repair_with_rough_counts();
}

async fn look_at_snapshots(image: Image) -> Result<(), BlockError> {
    let snapshots = image.node().driver().info().snapshots;
    image.close().await?;
    for snapshot in snapshots.into_iter().take(SNAPSHOTS) {
        let which = SnapshotName::Both { id: Some(snapshot.id), name: Some(snapshot.name) };
        let source = Source { snapshot: Some(which), ..hostile::source("qcow2") };
        let Ok(image) = Image::open(&source).await else { continue };
        hostile::read(&image, 0, READ).await;
        image.close().await?;
    }
    Ok(())
}

async fn change(image: Image) -> Result<(), BlockError> {
    hostile::write_to(&image).await;
    let node = image.node();
    let named = |name: &str| SnapshotName::Any(name.to_owned());
    let new = NewSnapshot { name: "another".to_owned(), ..NewSnapshot::default() };
    image.graph.create_snapshot(&node, new, |_| Ok(())).await.ok();
    let first = node.driver().info().snapshots.first().map(|snapshot| snapshot.id.clone());
    if let Some(id) = first {
        image.graph.apply_snapshot(&node, &named(&id)).await.ok();
        image.graph.delete_snapshot(&node, &named(&id)).await.ok();
    }
    drop(node);
    image.backend.flush().await.ok();
    image.close().await
}

/// Changes of the image as a whole.
async fn amend(image: Image) -> Result<(), BlockError> {
    let (node, length) = (image.node(), image.backend.length());
    for bitmap in node.bitmaps().all().iter().take(2) {
        node.remove_bitmap(bitmap).await.ok();
    }
    let wide = Options::new().with("refcount_bits", Opt::Uint(32));
    image.graph.amend(&node, wide, false, &|_, _| {}).await.ok();
    for size in [length.saturating_add(1 << 20), length / 2] {
        image.graph.resize(&node, size / 512 * 512, PreallocMode::Off).await.ok();
    }
    let old = Options::new().with("compat", Opt::Str("0.10".to_owned())).with("refcount_bits", Opt::Uint(16));
    image.graph.amend(&node, old, false, &|_, _| {}).await.ok();
    drop(node);
    image.close().await
}

/// Small images: of both versions, with data, with a backing file's name, with a snapshot, with a bitmap, with a compressed
/// cluster, with subclusters, with most of this at once.
pub fn seeds() -> Vec<Vec<u8>> {
    let new = |options: &[(&str, &str)]| {
        let recipe = TestImage::new("qcow2", "/image", 64 << 10).with("cluster_size", "512");
        options.iter().fold(recipe, |recipe, (name, value)| recipe.with(name, value))
    };
    let plain = made(new(&[]));
    let mut with_snapshot = plain.clone();
    let mut with_bitmap = plain.clone();
    let mut seeds = vec![
        made(new(&[("compat", "0.10")])),
        made(new(&[("lazy_refcounts", "on")])),
        made(new(&[("refcount_bits", "1")])),
        made(new(&[("backing_file", "/nowhere"), ("backing_fmt", "raw")])),
        plain,
    ];
    if testkit::qcow2::add_snapshot(&mut with_snapshot).is_ok() {
        seeds.push(with_snapshot);
    }
    if testkit::qcow2::add_bitmap(&mut with_bitmap).is_ok() {
        seeds.push(with_bitmap);
    }
    seeds.extend(with_compressed_cluster());
    let subclusters = [("cluster_size", "16384"), ("extended_l2", "on"), ("compression_type", "zstd")];
    seeds.push(made(new(&subclusters)));
    seeds.push(made_by(new(&[("cluster_size", "1024")]), &["old", "new"]));
    seeds.push(made_by(new(&subclusters), &["old"]));
    seeds
}

/// An image whose first cluster is a deflate stream at the end of the file.
fn with_compressed_cluster() -> Option<Vec<u8>> {
    const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
    let number =
        |bytes: &[u8], at: usize| bytes.get(at..)?.first_chunk().map(|chunk| u64::from_be_bytes(*chunk));
    let mut bytes = made(TestImage::new("qcow2", "/image", 64 << 10).with("cluster_size", "512"));
    let l1 = number(&bytes, 40)?;
    let l2 = (number(&bytes, l1 as usize)? & OFFSET) as usize;
    // Of two sectors.
    let compressed = 1 << 62 | 1 << 61 | bytes.len() as u64;
    bytes.get_mut(l2..)?.first_chunk_mut()?.clone_from(&u64::to_be_bytes(compressed));
    // A stored block of one cluster: its length, and the length's complement.
    bytes.extend_from_slice(&[1, 0, 2, 0xff, 0xfd]);
    bytes.resize(bytes.len() + 1019, 7);
    Some(bytes)
}

/// The bytes of a new image with some data in it.
fn made(recipe: TestImage) -> Vec<u8> {
    made_by(recipe, &[])
}

/// The same with internal snapshots and, if there are any, a bitmap.
fn made_by(recipe: TestImage, snapshots: &'static [&'static str]) -> Vec<u8> {
    hostile::made(recipe, async move |image: Image| {
        hostile::fill(&image, [0, 3 << 10, 40 << 10], 700).await;
        let node = image.node();
        for name in snapshots {
            let new = NewSnapshot { name: (*name).to_owned(), ..NewSnapshot::default() };
            image.graph.create_snapshot(&node, new, |_| Ok(())).await.ok();
            image.backend.write(5 << 10, Buf::from_slice(&[0x77; 3000]), Request::GUEST).await.ok();
            let bitmap =
                NewBitmap { name: (*name).to_owned(), granularity: None, persistent: true, enabled: true };
            node.add_bitmap(bitmap).ok();
        }
        image.backend.write(0, Buf::from_slice(&[0x66; 900]), Request::GUEST).await.ok();
        drop(node);
        image.close().await
    })
}
