//! Parallels images whose clusters are counted from elsewhere than the header says: they are read, nothing in them is written over
//! or cut off, and a repair moves them.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use block::{BlockError, CheckReport, Common, Policy, Repair};
use sim::{Config, Disk, Sim};
use testkit::stack::{Stack, TestImage};

const SECTOR: usize = 512;
const CLUSTER: usize = 63 * SECTOR;

/// An image of the old version as some tools make them: the header has no offset of the data, and the clusters, of which the
/// last one comes first, begin at sector 63.
fn image() -> Vec<u8> {
    let mut bytes = vec![0; CLUSTER];
    bytes[..16].copy_from_slice(b"WithoutFreeSpace");
    for (at, word) in [(16, 2), (20, 16), (24, 1), (28, 63), (32, 3), (36, 3 * 63)] {
        bytes[at..at + 4].copy_from_slice(&u32::to_le_bytes(word));
    }
    for (entry, number) in [(2, 1), (1, 2), (0, 3)] {
        bytes[64 + 4 * entry..][..4].copy_from_slice(&(63 * u32::from(number)).to_le_bytes());
        bytes.extend([number; CLUSTER]);
    }
    bytes
}

fn disk(bytes: &[u8]) -> Disk {
    let mut disk = Disk::default();
    disk.put("/top", bytes);
    disk
}

fn stack() -> Stack {
    let image = TestImage::new("parallels", "/top", 3 * CLUSTER as u64);
    Stack::of("parallels", &[protocols::DRIVERS, formats::DRIVERS], vec![image])
}

/// What an image shows.
fn shown(disk: &Disk, writable: bool) -> Result<Vec<u8>, BlockError> {
    Sim::boot(Config::seeded(1), disk.clone()).run(async move {
        let session = if writable { stack().open().await? } else { stack().open_read_only().await? };
        let read = session.read(0, session.backend.length()).await;
        session.close().await?;
        read
    })
}

/// What a check finds, and the disk that it leaves.
fn checked(bytes: &[u8], repair: Repair) -> (CheckReport, Disk) {
    let sim = Sim::boot(Config::seeded(1), disk(bytes));
    let report = sim.run(async move {
        let graph = stack().graph();
        let for_repair = repair != Repair::No;
        let common = Common { read_only: !for_repair, for_repair, ..Common::default() };
        let node = graph.open_with(stack().top, common, Policy::ALONE).await.unwrap();
        let report = node.driver().checker().unwrap().check(repair).await.unwrap();
        graph.release(&node).await.unwrap();
        report
    });
    (report, sim.world().disk())
}

fn expected() -> Vec<u8> {
    [[3; CLUSTER], [2; CLUSTER], [1; CLUSTER]].concat()
}

#[test]
fn clusters_that_are_counted_from_elsewhere_are_read_and_not_changed_by_an_open() {
    assert_eq!(shown(&disk(&image()), false).unwrap(), expected());
    let sim = Sim::boot(Config::seeded(1), disk(&image()));
    let error = sim.run(async { stack().open().await.map(drop).unwrap_err().to_string() });
    assert!(error.contains("can be opened read-only"), "{error}");
    assert_eq!(sim.world().disk().content("/top").unwrap().to_vec(), image());
}

#[test]
fn giving_up_leaks_cuts_off_no_cluster() {
    let (report, after) = checked(&image(), Repair::Leaks);
    assert_eq!((report.corruptions, report.leaks, report.leaks_fixed), (3, 0, 0), "{:?}", report.messages);
    assert_eq!(after.content("/top").unwrap().to_vec(), image());
}

#[test]
fn a_repair_moves_clusters_to_where_none_is() {
    let mut in_use = image();
    in_use[44..48].copy_from_slice(&0x746f_6e59u32.to_le_bytes());
    assert_eq!(shown(&disk(&in_use), true).unwrap(), expected());
    let (report, after) = checked(&image(), Repair::All);
    assert_eq!((report.corruptions, report.corruptions_fixed), (0, 3), "{:?}", report.messages);
    assert_eq!(shown(&after, true).unwrap(), expected());
}
