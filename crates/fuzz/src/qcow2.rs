//! Images in qcow2: header, extensions, L1 and L2 tables, refcounts, snapshot table, bitmap directory.

use api::PreallocMode;
use block::{BlockError, NewBitmap, NewSnapshot, Opt, Options, Repair, Request, SnapshotName};
use rt::{Buf, BufMut};
use sim::{Config, Disk, Sim};
use testkit::stack::{Stack, TestImage};
use tools::image::{Image, Source};
use tools::show::Description;

/// Most extents that are asked for.
const EXTENTS: usize = 256;

/// Most snapshots that are looked at.
const SNAPSHOTS: usize = 3;

/// Bytes that are read at the front and at the end.
const READ: u64 = 64 << 10;

/// Opens the input as an image: describes it, walks its extents, reads its ends, writes to it, amends it, checks and repairs
/// it. Laws: extents make progress and stay inside; a read gives all that it was asked for; what a repair says is mended,
/// the next check finds mended.
pub fn image(input: &[u8]) {
    let mut disk = Disk::default();
    disk.put("/image", input);
    let boot = |disk: &Disk| Sim::boot(Config::seeded(1), disk.clone());
    boot(&disk).run(async { look(Source::named("/image").format(Some("qcow2")).alone()).await.ok() });
    boot(&disk).run(async { change().await.ok() });
    boot(&disk).run(async { amend().await.ok() });
    let sim = boot(&disk);
    sim.run(async { repair().await.ok() });
}

async fn look(source: Source) -> Result<(), BlockError> {
    let image = Image::open(&source).await?;
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
    let snapshots = image.node().driver().info().snapshots;
    image.close().await?;
    for snapshot in snapshots.into_iter().take(SNAPSHOTS) {
        let which = SnapshotName::Both { id: Some(snapshot.id), name: Some(snapshot.name) };
        let Ok(image) = Image::open(&Source { snapshot: Some(which), ..source.clone() }).await else {
            continue;
        };
        let wanted = READ.min(image.backend.length()) as usize;
        let (buf, result) = image.backend.read(0, BufMut::with_len(wanted)).await;
        assert!(result.is_err() || buf.len() == wanted);
        image.close().await?;
    }
    Ok(())
}

/// What a write to a broken image does, it does without a panic, and closes.
async fn change() -> Result<(), BlockError> {
    let image = Image::open(&Source::named("/image").format(Some("qcow2")).alone().writable()).await?;
    let length = image.backend.length();
    for start in [0, length / 2] {
        let len = 4096.min(length - start) as usize;
        image.backend.write(start, Buf::from_slice(&vec![7; len]), Request::GUEST).await.ok();
        image.backend.discard(start, len as u64, Request::GUEST).await.ok();
    }
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

/// The same of changes of the image as a whole.
async fn amend() -> Result<(), BlockError> {
    let image = Image::open(&Source::named("/image").format(Some("qcow2")).alone().writable()).await?;
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

async fn repair() -> Result<(), BlockError> {
    let source =
        Source { for_repair: true, ..Source::named("/image").format(Some("qcow2")).alone().writable() };
    let image = Image::open(&source).await?;
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
fn made_by(recipe: TestImage, snapshots: &'static [&str]) -> Vec<u8> {
    let sim = Sim::new(1);
    sim.run(async move {
        let stack = Stack::of("seed", &[protocols::DRIVERS, formats::DRIVERS], vec![recipe]);
        if stack.create().await.is_ok()
            && let Ok(image) =
                Image::open(&Source::named("/image").format(Some("qcow2")).alone().writable()).await
        {
            for at in [0, 3 << 10, 40 << 10] {
                let data = Buf::from_slice(&[at as u8 ^ 0x55; 700]);
                image.backend.write(at, data, Request::GUEST).await.ok();
            }
            let node = image.node();
            for name in snapshots {
                let new = NewSnapshot { name: (*name).to_owned(), ..NewSnapshot::default() };
                image.graph.create_snapshot(&node, new, |_| Ok(())).await.ok();
                image.backend.write(5 << 10, Buf::from_slice(&[0x77; 3000]), Request::GUEST).await.ok();
                let bitmap = NewBitmap {
                    name: (*name).to_owned(),
                    granularity: None,
                    persistent: true,
                    enabled: true,
                };
                node.add_bitmap(bitmap).ok();
            }
            image.backend.write(0, Buf::from_slice(&[0x66; 900]), Request::GUEST).await.ok();
            drop(node);
            image.close().await.ok();
        }
    });
    sim.settle();
    sim.world().disk().content("/image").map(sim::Content::to_vec).unwrap_or_default()
}
