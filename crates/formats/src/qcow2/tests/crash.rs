//! Power cuts during create, change of the backing link, and repair, on the simulated disk.
use super::*;
use crate::qcow2::check::check;
use crate::qcow2::header::COPIED;
use block::{CheckReport, Link, Repair};
use parking_lot::Mutex;
use sim::{Config, Disk, Rng, Sim};
use std::future::Future;

const PATH: &str = "/image";

/// Power cuts tried at each moment at which the disk changes.
const CUTS: usize = 3;

/// Runs `work` on a disk with `image` in it. Answers the disks that power cuts on the way leave, and the last one.
fn cuts<F>(seed: u64, image: &[u8], work: impl FnOnce() -> F) -> (Vec<Vec<u8>>, Vec<u8>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut disk = Disk::default();
    disk.put(PATH, image);
    let machine = Sim::boot(Config::seeded(seed), disk);
    let left = Arc::new(Mutex::new(Vec::new()));
    let (kept, mut rng) = (left.clone(), Rng::new(seed));
    machine.world().watch(Some(Box::new(move |_, disk| {
        let mut kept = kept.lock();
        kept.extend((0..CUTS).map(|_| content(&disk.power_cut(&mut rng))));
    })));
    machine.run(work());
    machine.world().watch(None);
    let last = content(&machine.world().disk());
    (std::mem::take(&mut left.lock()), last)
}

fn content(disk: &Disk) -> Vec<u8> {
    disk.content(PATH).map(|content| content.to_vec()).unwrap_or_default()
}

/// Checks an image that is only bytes.
fn checked(image: &[u8]) -> CheckReport {
    let mut disk = Disk::default();
    disk.put(PATH, image);
    Sim::boot(Config::seeded(1), disk).run(async {
        let opened = Opened::new(Path::new(PATH)).await;
        let mut header = Header::read(&opened.file).await.unwrap();
        let report = check(&opened.file, &mut header, Repair::No).await.unwrap();
        opened.close().await;
        report
    })
}

fn made(options: &[(&str, &str)]) -> (Vec<Vec<u8>>, Vec<u8>) {
    let options = options.iter().fold(Options::new(), |all, (name, value)| all.with_str(name, value));
    cuts(7, &[], || async {
        make(Path::new(PATH), 1 << 20, options).await.unwrap();
    })
}

#[test]
fn a_power_cut_during_create_leaves_no_image_or_the_whole_image() {
    let long = "b".repeat(600);
    for options in [
        &[("cluster_size", "4096"), ("backing_file", "b"), ("backing_fmt", "raw")][..],
        &[("cluster_size", "16384"), ("backing_file", &long)],
        &[("cluster_size", "512"), ("preallocation", "metadata")],
    ] {
        let (left, whole) = made(options);
        let header = Header::parse(&whole, whole.len() as u64).unwrap();
        assert!(left.len() > CUTS * 3);
        for image in left {
            match Header::parse(&image, image.len() as u64) {
                Ok(found) => {
                    assert_eq!(found, header);
                    let report = checked(&image);
                    assert_eq!((report.corruptions, report.leaks), (0, 0), "{report:?}");
                }
                Err(_) => assert!(image.iter().take(512).all(|&b| b == 0)),
            }
        }
    }
}

#[test]
fn a_power_cut_during_a_change_of_the_backing_link_leaves_the_old_or_the_new_one() {
    let (old, new) = ("o".repeat(300), "n".repeat(400));
    for (old, new) in [("a", "b"), (&old, "b"), ("a", &new), (&old, &new)] {
        let (_, image) = made(&[("cluster_size", "8192"), ("backing_file", old), ("backing_fmt", "raw")]);
        let link = Link { filename: Some(new.to_owned()), format: Some("qcow2".to_owned()) };
        let (left, _) = cuts(11, &image, || async move {
            let opened = Opened::new(Path::new(PATH)).await;
            let mut header = Header::read(&opened.file).await.unwrap();
            header.set_backing_link(&opened.file, &link).await.unwrap();
            opened.close().await;
        });
        assert!(!left.is_empty());
        for image in left {
            let header = Header::parse(&image, image.len() as u64).unwrap();
            let link = (header.backing_name.as_deref(), header.backing_format());
            let known = [(Some(old), Some("raw".to_owned())), (Some(new), Some("qcow2".to_owned()))];
            assert!(known.contains(&link), "{link:?}");
        }
    }
}

/// Images of one 4 KiB-clustered preallocated megabyte, each broken in another way.
fn broken() -> Vec<(&'static str, Vec<u8>)> {
    let (_, good) = made(&[("cluster_size", "4096"), ("preallocation", "metadata")]);
    let header = Header::parse(&good, good.len() as u64).unwrap();
    let word = |at: u64| u64::from_be_bytes(good[at as usize..at as usize + 8].try_into().unwrap());
    let block = word(header.refcount_table_offset);
    let l2 = word(header.l1_offset) & !COPIED;
    let with = |changes: &[(u64, u64)]| {
        let mut image = good.clone();
        for (at, value) in changes {
            image[*at as usize..*at as usize + 8].copy_from_slice(&value.to_be_bytes());
        }
        image
    };
    let first = word(l2);
    // A snapshot of an empty disk, its table behind everything else; the length of its extra data is nonsense.
    let end = good.len().next_multiple_of(4096) as u64;
    let mut snapshot = good.clone();
    snapshot.resize(end as usize + 2 * 4096, 0);
    let entry = [end, 1 << 32 | 1 << 16 | 3, 0, 0, 0x7fff_ffff, 0, 1 << 20, u64::MAX];
    let table = entry.map(u64::to_be_bytes).concat();
    for (at, bytes) in [
        (end + 4096, &table[..]),
        (end + 4096 + 64, b"1one"),
        (block + end / 4096 * 2, &[0, 1, 0, 1]),
        (60, &[0, 0, 0, 1]),
        (64, &(end + 4096).to_be_bytes()),
    ] {
        snapshot[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
    }
    vec![
        ("snapshot table", snapshot),
        ("leaks", with(&[(block + 520, 0x0003_0003_0003_0003), (block + 640, u64::MAX)])),
        ("counts too low", with(&[(l2 + 8, first), (l2 + 16, first), (l2 + 24, 1)])),
        ("flags", with(&[(l2 + 8, word(l2 + 8) & !COPIED), (header.l1_offset, l2)])),
        ("unaligned zero cluster", with(&[(l2 + 8, 0x12_3200 | 1)])),
        ("flags without a table", with(&[(header.l1_offset, COPIED)])),
        ("no blocks", with(&[(header.refcount_table_offset, 0)])),
        ("no table", with(&[(48, 1 << 40)])),
        ("all at once", with(&[(72, 3), (block + 520, 0), (l2 + 8, first), (l2 + 24, 0x12_3200 | 1)])),
    ]
}

/// Corruptions other than flags: a wrong flag comes to light when its count is right at last.
fn harmful(report: &CheckReport) -> usize {
    report.messages.iter().filter(|line| line.starts_with("ERROR") && !line.contains("OFLAG")).count()
}

#[test]
fn a_power_cut_during_repair_makes_nothing_worse_and_the_next_repair_mends_it() {
    for (what, image) in broken() {
        let before = checked(&image);
        let repair = || async {
            let opened = Opened::new(Path::new(PATH)).await;
            let mut header = Header::read(&opened.file).await.unwrap();
            check(&opened.file, &mut header, Repair::All).await.unwrap();
            opened.close().await;
        };
        let (left, last) = cuts(13, &image, repair);
        assert!(before.corruptions + before.leaks > 0 && !left.is_empty(), "{what}: {before:?}");
        for (i, image) in left.iter().chain([&last]).enumerate() {
            let header = Header::parse(image, image.len() as u64).unwrap();
            let report = checked(image);
            assert!(harmful(&report) <= harmful(&before), "{what} {i}: {before:?} {report:?}");
            // The bits that keep others from writing go only when all is well.
            let bits = Header::parse(&last, last.len() as u64).unwrap().incompatible;
            assert!(
                header.incompatible != bits || !what.starts_with("all") || report.corruptions == 0,
                "{what} {i}"
            );
            let (_, mended) = cuts(17, image, repair);
            let report = checked(&mended);
            assert_eq!((report.corruptions, report.leaks), (0, 0), "{what} {i}: {report:?}");
        }
    }
}
