//! qcow images, of the first version, that contradict themselves, and files that say more than is true.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use block::{ErrorKind, Flags, Request};
use sim::{Config, Disk, Sim};
use testkit::stack::{Session, Stack, TestImage};

const CLUSTER: usize = 4096;
/// Where the L1 table of an image without a backing file is.
const L1: usize = 48;
const DRIVERS: [&[block::DriverType]; 2] = [protocols::DRIVERS, formats::DRIVERS];

fn stack() -> Stack {
    Stack::of("qcow", &DRIVERS, vec![TestImage::new("qcow", "/top", 8 << 20)])
}

/// The bytes of an image whose first four clusters hold data, each its own number.
fn written() -> Vec<u8> {
    let sim = Sim::new(1);
    sim.run(async move {
        stack().create().await.unwrap();
        let session = stack().open().await.unwrap();
        for cluster in 0..4 {
            session.write(cluster * CLUSTER as u64, &[cluster as u8 + 1; CLUSTER], false).await.unwrap();
        }
        session.close().await.unwrap();
    });
    sim.world().disk().content("/top").unwrap().to_vec()
}

fn on<T: Send + 'static, F: Future<Output = T> + Send>(
    bytes: &[u8],
    work: impl FnOnce(Session) -> F + Send + 'static,
) -> (block::Result<T>, Vec<u8>) {
    let mut disk = Disk::default();
    disk.put("/top", bytes);
    let sim = Sim::boot(Config::seeded(1), disk);
    let answer = sim.run(async move {
        let session = stack().open().await?;
        let answer = work(session.clone()).await;
        session.close().await.ok();
        Ok(answer)
    });
    sim.settle();
    (answer, sim.world().disk().content("/top").unwrap().to_vec())
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn put(bytes: &mut [u8], at: usize, word: u64) {
    bytes[at..at + 8].copy_from_slice(&word.to_be_bytes());
}

#[test]
fn an_image_that_contradicts_itself_is_read_elsewhere_and_not_written_to() {
    let good = written();
    let table = word(&good, L1) as usize;
    let first = word(&good, table);
    // Beyond the file, off a cluster's start, at the header, a stream of nothing, a stream in the middle of data.
    for wrong in
        [1 << 40, 77, 1 << 63 | 1 << 51, 1 << 63 | 1 << 61 | 1 << 45, 1 << 63 | 8 << 51 | (first + 5)]
    {
        let mut bytes = good.clone();
        put(&mut bytes, table + 8, wrong);
        let (answers, after) = on(&bytes, |session| async move {
            let read = session.read(2 * CLUSTER as u64, 512).await.map(|bytes| bytes[0]);
            let failed = session.read(CLUSTER as u64, 512).await.map_err(|error| error.to_string());
            let written = session.write(8 * CLUSTER as u64, &[1; 512], false).await;
            (read.ok(), failed, written.map_err(|error| error.kind()))
        });
        let (read, failed, written) = answers.unwrap();
        assert_eq!((read, written), (Some(3), Err(ErrorKind::Corrupt)), "{wrong:#x}");
        assert!(failed.as_ref().unwrap_err().contains("/top"), "{failed:?}");
        assert!(after == bytes, "it was written to");
    }
}

/// L1 entries that all lead to one table.
#[test]
fn a_small_file_that_claims_a_vast_disk_is_refused_soon() {
    let mut bytes = written();
    let table = word(&bytes, L1);
    (1..4).for_each(|i| put(&mut bytes, L1 + 8 * i, table));
    let size = 8 << 20;
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
    assert_eq!(told.unwrap(), (2 << 20, Some(ErrorKind::Corrupt)));
}

#[test]
fn a_table_of_more_than_the_file_has_is_refused_at_the_open() {
    let mut bytes = written();
    put(&mut bytes, 24, 1 << 45);
    let (opened, _) = on(&bytes, |_| async {});
    assert_eq!(opened.unwrap_err().kind(), ErrorKind::Corrupt);
}

/// Nothing leads to the last stream any more, and a switch to read-only that is taken back has another walk.
#[test]
fn a_stream_is_not_put_behind_one_whose_place_is_another_s_by_now() {
    let mut expected = [0; 3].map(|_| vec![0; CLUSTER]);
    (1..4).zip(&mut expected).for_each(|(byte, cluster)| cluster.fill(byte));
    let [first, second, third] = expected.clone().map(|bytes| rt::Buf::from_slice(&bytes));
    let sim = Sim::new(1);
    sim.run(async move {
        stack().create().await.unwrap();
        let session = stack().open().await.unwrap();
        let (guest, compressed) = (Request::GUEST, Request::GUEST.with(Flags::COMPRESSED));
        session.backend.write(0, third.clone(), compressed).await.unwrap();
        session.backend.write(0, first, guest).await.unwrap();
        let undo = session.node.driver().set_writable(false).await.unwrap();
        undo();
        session.backend.write(CLUSTER as u64, second, guest).await.unwrap();
        session.backend.write(2 * CLUSTER as u64, third, compressed).await.unwrap();
        let shown = session.read(0, 3 * CLUSTER as u64).await.unwrap();
        assert!(shown == expected.concat());
        session.close().await.unwrap();
    });
}
