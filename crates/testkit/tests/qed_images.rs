//! qed images: growing, damage and its repair, files that say more than is true.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use block::{CheckReport, ErrorKind, Opt, Repair};
use sim::{Config, Disk, Sim};
use std::time::Instant;
use testkit::qed::Qed;
use testkit::stack::{Session, Stack, TestImage};

const CLUSTER: usize = 4096;
const DRIVERS: [&[block::DriverType]; 2] = [protocols::DRIVERS, formats::DRIVERS];

fn image(size: u64) -> TestImage {
    TestImage::new("qed", "/top", size).with("cluster_size", "4096").with("table_size", "1")
}

fn stack(images: Vec<TestImage>) -> Stack {
    Stack::of("qed", &DRIVERS, images)
}

/// The bytes of an image of 64 clusters, of which some hold data, each its own number.
fn written(clusters: &'static [u64]) -> Vec<u8> {
    let sim = Sim::new(1);
    sim.run(async move {
        let stack = stack(vec![image(64 * CLUSTER as u64)]);
        stack.create().await.unwrap();
        let session = stack.open().await.unwrap();
        for cluster in clusters {
            let data = vec![*cluster as u8 + 1; CLUSTER];
            session.write(cluster * CLUSTER as u64, &data, false).await.unwrap();
        }
        session.close().await.unwrap();
    });
    sim.world().disk().content("/top").unwrap().to_vec()
}

/// Runs `work` on the opened image with these bytes; tells what it answers, and the bytes afterwards.
fn on<T: Send + 'static, F: Future<Output = T> + Send>(
    bytes: &[u8],
    work: impl FnOnce(Session) -> F + Send + 'static,
) -> (block::Result<T>, Vec<u8>) {
    let mut disk = Disk::default();
    disk.put("/top", bytes);
    let sim = Sim::boot(Config::seeded(1), disk);
    let answer = sim.run(async move {
        let session = stack(vec![image(0)]).open().await?;
        let answer = work(session.clone()).await;
        session.close().await.ok();
        Ok(answer)
    });
    sim.settle();
    (answer, sim.world().disk().content("/top").unwrap().to_vec())
}

fn check(bytes: &[u8], repair: Repair) -> (CheckReport, Vec<u8>) {
    let (report, bytes) =
        on(bytes, move |session| async move { session.check(repair).await.unwrap().unwrap() });
    (report.unwrap(), bytes)
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn put(bytes: &mut [u8], at: usize, word: u64) {
    bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
}

/// Where the L2 table is, by the first L1 entry.
fn table(bytes: &[u8]) -> usize {
    word(bytes, CLUSTER) as usize
}

#[test]
fn leaked_clusters_are_given_back_wherever_they_are() {
    let mut bytes = written(&[0, 1, 2, 3, 4, 5, 6, 7]);
    let shown = Qed::of(&bytes).unwrap().read(&[], true).unwrap();
    // The third and the sixth cluster are not referred to any more, and there is something behind the last one.
    let (mut expected, table) = (shown.clone(), table(&bytes));
    for cluster in [2, 5] {
        put(&mut bytes, table + 8 * cluster, 0);
        expected[cluster * CLUSTER..][..CLUSTER].fill(0);
    }
    bytes.resize(bytes.len() + 3 * CLUSTER, 9);
    let (report, same) = check(&bytes, Repair::No);
    assert_eq!((report.leaks, report.corruptions, same == bytes), (5, 0, true));
    let (report, mended) = check(&bytes, Repair::Leaks);
    assert_eq!((report.leaks, report.leaks_fixed, report.corruptions), (0, 5, 0));
    assert_eq!(mended.len(), bytes.len() - 5 * CLUSTER);
    assert!(Qed::of(&mended).unwrap().read(&[], true).unwrap() == expected);
}

#[test]
fn what_is_there_twice_is_copied_and_what_leads_nowhere_is_cleared() {
    let mut bytes = written(&[0, 1, 2, 3]);
    let (mut expected, table) = (Qed::of(&bytes).unwrap().read(&[], true).unwrap(), table(&bytes));
    let first = word(&bytes, table);
    put(&mut bytes, table + 8 * 9, first);
    put(&mut bytes, table + 8, 1 << 40);
    put(&mut bytes, table + 16, first + 5);
    // A second disk's worth of tables is the same table.
    put(&mut bytes, CLUSTER + 8, table as u64);
    expected.copy_within(..CLUSTER, 9 * CLUSTER);
    expected[CLUSTER..3 * CLUSTER].fill(0);
    let (report, _) = check(&bytes, Repair::No);
    assert_eq!((report.corruptions, report.messages.len()), (4, 4), "{:?}", report.messages);
    let (report, same) = check(&bytes, Repair::Leaks);
    assert_eq!((report.corruptions, report.leaks_fixed, same == bytes), (4, 0, true));
    let (report, mended) = check(&bytes, Repair::All);
    assert_eq!((report.corruptions, report.corruptions_fixed, report.leaks), (0, 4, 0));
    assert!(Qed::of(&mended).unwrap().read(&[], true).unwrap() == expected);
    assert_eq!(check(&mended, Repair::No).0.corruptions, 0);
}

/// A table that begins in the middle of another one, and data that only it leads to.
#[test]
fn what_a_table_leads_to_that_is_partly_another_one_is_copied_before_its_place_is_taken() {
    let sim = Sim::new(1);
    sim.run(async move {
        let top = TestImage::new("qed", "/top", 2048 * CLUSTER as u64).with("cluster_size", "4096");
        let stack = stack(vec![top.with("table_size", "2")]);
        stack.create().await.unwrap();
        let session = stack.open().await.unwrap();
        for cluster in 0..4 {
            session.write(cluster * CLUSTER as u64, &[cluster as u8 + 1; CLUSTER], false).await.unwrap();
        }
        session.close().await.unwrap();
    });
    let mut bytes = sim.world().disk().content("/top").unwrap().to_vec();
    let table = table(&bytes);
    let (second, third) = (word(&bytes, table + 8), word(&bytes, table + 16));
    assert_eq!((second as usize, third as usize), (table + 2 * CLUSTER, table + 3 * CLUSTER));
    bytes[table + 8..table + 32].fill(0);
    bytes[second as usize..][..CLUSTER].fill(0);
    put(&mut bytes, second as usize, third);
    put(&mut bytes, second as usize + 8, third + CLUSTER as u64);
    put(&mut bytes, CLUSTER + 8, (table + CLUSTER) as u64);
    let (report, mended) = check(&bytes, Repair::All);
    assert_eq!((report.corruptions, report.corruptions_fixed), (0, 1), "{:?}", report.messages);
    let shown = Qed::of(&mended).unwrap().read(&[], false).unwrap();
    let (first, rest) = shown[(1024 + 512) * CLUSTER..].split_at(CLUSTER);
    assert!(first.iter().all(|byte| *byte == 3) && rest[..CLUSTER].iter().all(|byte| *byte == 4));
}

#[test]
fn an_image_that_contradicts_itself_is_read_elsewhere_and_not_written_to() {
    let mut bytes = written(&[0, 1, 2, 3]);
    let table = table(&bytes);
    let at = |cluster: usize| (cluster * CLUSTER) as u64;
    for wrong in [1 << 40, 77, 0x1000] {
        put(&mut bytes, table + 8, wrong);
        let (answers, after) = on(&bytes, move |session| async move {
            let read = session.read(at(2), 512).await.map(|bytes| bytes[0]);
            let failed = session.read(at(1), 512).await.map_err(|error| error.to_string());
            let written = session.write(at(8), &[1; 512], false).await.map_err(|error| error.kind());
            (read.ok(), failed, written)
        });
        let (read, failed, written) = answers.unwrap();
        let text = failed.unwrap_err();
        assert_eq!((read, written), (Some(3), Err(ErrorKind::Corrupt)), "{text}");
        assert!(text.contains("/top") && text.contains("0x1000") && text.contains("check -r all"), "{text}");
        assert!(after == bytes, "it was written to");
    }
}

#[test]
fn an_image_that_was_not_closed_is_repaired_before_it_is_written_to() {
    let mut bytes = written(&[0, 1, 2]);
    let table = table(&bytes);
    put(&mut bytes, table + 8, 1 << 40);
    bytes[16] |= 2;
    let (read, after) = on(&bytes, |session| async move { session.read(CLUSTER as u64, 512).await.unwrap() });
    assert_eq!((read.unwrap(), after[16] & 2, word(&after, table + 8)), (vec![0; 512], 0, 0));
}

/// Entries that all lead to one cluster: mending them makes the file longer than it was.
#[test]
fn what_a_small_file_claims_is_not_copied_by_an_open_and_by_a_repair_in_bounds() {
    let mut bytes = written(&[0]);
    let table = table(&bytes);
    let data = word(&bytes, table);
    (0..64).for_each(|cluster| put(&mut bytes, table + 8 * cluster, data));
    bytes[16] |= 2;
    let (refused, after) = on(&bytes, |_| async {});
    let text = refused.unwrap_err().to_string();
    assert!(after == bytes && text.contains("63 errors") && text.contains("check -r all"), "{text}");
    bytes[16] &= !2;
    let (report, mended) = check(&bytes, Repair::All);
    let fixed = bytes.len() / CLUSTER;
    assert_eq!((report.corruptions, report.corruptions_fixed), (63 - fixed as u64, fixed as u64));
    assert_eq!(mended.len(), 2 * bytes.len());
    assert!(report.messages.iter().any(|line| line.contains("run it again")), "{:?}", report.messages);
    let rest = (0..8).fold(mended, |bytes, _| check(&bytes, Repair::All).1);
    assert!(Qed::of(&rest).unwrap().read(&[], true).unwrap().iter().all(|byte| *byte == 1));
}

#[test]
fn a_disk_that_grows_shows_zeroes_and_not_what_lies_below_behind_its_old_end() {
    let (short, long) = (3 * CLUSTER as u64 + 512, 64 * CLUSTER as u64);
    let sim = Sim::new(1);
    sim.run(async move {
        let base = TestImage::new("raw", "/base", long);
        let top = image(short).with("backing_file", "/base").with("backing_fmt", "raw");
        let stack = stack(vec![base.clone(), top]);
        stack.create().await.unwrap();
        let below = stack.open_image(&base).await.unwrap();
        below.write(0, &vec![7; long as usize], false).await.unwrap();
        below.close().await.unwrap();
        let session = stack.open().await.unwrap();
        session.resize(long).await.unwrap();
        let shown = session.read(0, long).await.unwrap();
        assert!(shown[..short as usize].iter().all(|byte| *byte == 7));
        assert!(shown[short as usize..].iter().all(|byte| *byte == 0));
        let refused = session.resize(short).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unsupported);
        session.close().await.unwrap();
    });
    let disk = sim.world().disk();
    let (top, base) = (disk.content("/top").unwrap().to_vec(), disk.content("/base").unwrap().to_vec());
    let shown = Qed::of(&top).unwrap().read(&base, true).unwrap();
    assert!(shown[short as usize..].iter().all(|byte| *byte == 0));
}

/// How long the backing image is that nobody opened is not known.
#[test]
fn a_disk_that_grows_without_its_backing_image_shows_zeroes_over_it_later() {
    let long = 64 * CLUSTER as u64;
    for (format, short) in ["qed", "qcow2"].into_iter().flat_map(|format| [(format, 4096), (format, 4608)]) {
        let sim = Sim::new(1);
        sim.run(async move {
            let base = TestImage::new("raw", "/base", long);
            let top = TestImage::new(format, "/top", short).with("cluster_size", "4096");
            let top = top.with("backing_file", "/base").with("backing_fmt", "raw");
            let stack = stack(vec![base.clone(), top]);
            stack.create().await.unwrap();
            let below = stack.open_image(&base).await.unwrap();
            below.write(0, &vec![7; long as usize], false).await.unwrap();
            below.close().await.unwrap();
            let mut alone = stack.clone();
            alone.top.set("backing", Opt::Null);
            let session = alone.open().await.unwrap();
            // What is in a cluster before the end could not be kept.
            let resized = session.resize(long).await.map_err(|e| e.kind());
            let whole = short.is_multiple_of(CLUSTER as u64);
            assert_eq!(resized, if whole { Ok(()) } else { Err(ErrorKind::Unsupported) }, "{format}");
            session.close().await.unwrap();
            let session = stack.open().await.unwrap();
            let shown = session.read(0, if whole { long } else { short }).await.unwrap();
            assert!(shown[..short as usize].iter().all(|byte| *byte == 7), "{format}");
            assert!(shown[short as usize..].iter().all(|byte| *byte == 0), "{format}");
            session.close().await.unwrap();
        });
    }
}

/// A file whose L1 entries all lead to one table, and a table whose entries all lead to one cluster.
#[test]
fn a_small_file_that_claims_a_vast_disk_is_refused_soon() {
    let mut bytes = written(&[0]);
    let table = table(&bytes);
    let size = 512 * 512 * CLUSTER as u64;
    put(&mut bytes, 48, size);
    let data = word(&bytes, table);
    for i in 0..512 {
        put(&mut bytes, CLUSTER + 8 * i, table as u64);
        put(&mut bytes, table + 8 * i, data);
    }
    let start = Instant::now();
    let (told, _) = on(&bytes, move |session| async move {
        let mut at = 0;
        while at < size {
            match session.backend.status(at, size - at).await {
                Ok(status) => at += status.len,
                Err(error) => return (at, Some(error.kind())),
            }
        }
        (at, None)
    });
    assert_eq!(told.unwrap(), (512 * CLUSTER as u64, Some(ErrorKind::Corrupt)));
    let (written, _) = on(&bytes, |session| async move { session.write(0, &[1; 512], false).await });
    assert_eq!(written.unwrap().unwrap_err().kind(), ErrorKind::Corrupt);
    assert!(start.elapsed().as_secs_f32() < 5.0, "{:?}", start.elapsed());
}
