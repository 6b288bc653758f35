//! What is written is read back, however both ends agreed to carry it.
use super::*;
use crate::pump::Pumped as _;
use block::ExtentKind;

const EACH: [&str; 7] = [
    "",
    "HeaderDigest=CRC32C\0DataDigest=CRC32C\0",
    "InitialR2T=No\0",
    "InitialR2T=No\0FirstBurstLength=1024\0MaxRecvDataSegmentLength=512\0",
    "ImmediateData=No\0",
    "ImmediateData=No\0InitialR2T=No\0HeaderDigest=CRC32C\0FirstBurstLength=4096\0",
    "DataDigest=CRC32C\0MaxRecvDataSegmentLength=262144\0MaxBurstLength=262144\0FirstBurstLength=65536\0",
];

#[test]
fn what_is_written_is_read_back_however_it_is_carried() {
    for keys in EACH {
        for (segment, burst) in [(512, 1024), (8192, 4096), (256 << 10, 256 << 10)] {
            run(async || {
                let (disk, driver) = at(Rules { keys, segment, burst, ..Rules::default() }).await;
                assert_eq!(driver.length(), (target::BLOCKS * target::BLOCK) as u64);
                for (offset, len) in [(0, 512), (1024, 4096), (8192, 300 << 10), (512, 1 << 20)] {
                    let data = noise(len);
                    write(&driver, offset, &data).await.unwrap();
                    assert_eq!(disk.bytes.lock()[offset as usize..offset as usize + len], data);
                    assert_eq!(read(&driver, offset, len).await.unwrap(), data, "{keys:?}");
                }
                driver.close().await.unwrap();
            });
        }
    }
}

#[test]
fn many_requests_at_once_reach_a_target_with_little_room() {
    for window in [1, 3, 200] {
        run(async || {
            let keys = "InitialR2T=No\0FirstBurstLength=2048\0MaxRecvDataSegmentLength=512\0";
            let (disk, driver) = at(Rules { window, keys, burst: 1024, ..Rules::default() }).await;
            let driver = Arc::new(driver);
            let tasks: Vec<_> = (0..200u64)
                .map(|n| {
                    let driver = driver.clone();
                    rt::spawn(async move {
                        let data = vec![n as u8 + 1; 5120];
                        write(&driver, n * 10_240, &data).await?;
                        Ok::<_, BlockError>(read(&driver, n * 10_240, 5120).await? == data)
                    })
                })
                .collect();
            for task in tasks {
                assert!(task.await.unwrap().unwrap());
            }
            assert_eq!(disk.count(0x8a), 200);
        });
    }
}

#[test]
fn requests_of_one_worker_after_another_are_carried_out_while_their_connection_moves_there() {
    let config = rt::Config { workers: Some(3), ..rt::Config::default() };
    rt::Runtime::new(config).unwrap().block_on(async {
        let keys = "InitialR2T=No\0FirstBurstLength=2048\0MaxRecvDataSegmentLength=512\0";
        let (disk, driver) = at(Rules { keys, burst: 4096, ..Rules::default() }).await;
        let driver = Arc::new(driver);
        for (round, worker) in [0, 1, 2, 1, 0].into_iter().enumerate() {
            let tasks: Vec<_> = (0..50u64)
                .map(|n| {
                    let driver = driver.clone();
                    rt::spawn_on(rt::Target::Worker(worker), async move {
                        let (offset, data) = (n * 40_960, vec![(round * 50) as u8 ^ n as u8; 20_480]);
                        write(&driver, offset, &data).await?;
                        Ok::<_, BlockError>(read(&driver, offset, data.len()).await? == data)
                    })
                })
                .collect();
            for task in tasks {
                assert!(task.await.unwrap().unwrap());
            }
            assert_eq!(driver.link.way.connection().signals().worker(), worker);
            // Others are made elsewhere meanwhile.
            assert_eq!(read(&driver, 20_480, 512).await.unwrap(), [0; 512]);
        }
        assert_eq!(disk.sessions.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn zeroes_discards_and_status_reach_the_target() {
    run(async || {
        let (disk, driver) = at(Rules::default()).await;
        assert!(driver.facts().can_write_zeroes && driver.facts().fua);
        write(&driver, 0, &noise(1 << 20)).await.unwrap();
        driver.write_zeroes(4096, 8192, Request::GUEST.with(Flags::MAY_UNMAP)).await.unwrap();
        driver.write_zeroes(65536, 512, Request::GUEST).await.unwrap();
        driver.discard(131_072, 65536, Request::GUEST).await.unwrap();
        assert!(read(&driver, 4096, 8192).await.unwrap().iter().all(|byte| *byte == 0));
        assert!(read(&driver, 65536, 512).await.unwrap().iter().all(|byte| *byte == 0));
        assert_eq!((disk.count(0x93), disk.count(0x42)), (2, 1));
        let zero = ExtentKind::Zero { reserved: None };
        for (offset, len, kind) in [
            (0, 4096, ExtentKind::Stored),
            (4096, 8192, zero),
            (8192, 4096, zero),
            (12_288, 131_072 - 12_288, ExtentKind::Stored),
            (131_072, 65536, zero),
            (1 << 20, 1 << 20, zero),
        ] {
            let extent = driver.map(offset, 1 << 20, Want::Status).await.unwrap();
            assert_eq!(extent, Extent { len, kind }, "{offset}");
        }
        // A whole piece of the disk is one command, and the next write makes what is known old.
        write(&driver, 4096, &[1; 512]).await.unwrap();
        let extent = driver.map(4096, 512, Want::Status).await.unwrap();
        assert_eq!(extent.kind, ExtentKind::Stored);
    });
}

#[test]
fn a_unit_without_thin_provisioning_holds_data_everywhere() {
    run(async || {
        let (disk, driver) = at(Rules { thin: false, ..Rules::default() }).await;
        let extent = driver.map(0, 1 << 20, Want::Status).await.unwrap();
        assert_eq!(extent, Extent { len: 1 << 20, kind: ExtentKind::Stored });
        driver.discard(0, 512, Request::GUEST).await.unwrap();
        let fast = Request::GUEST.with(Flags::NO_FALLBACK).with(Flags::MAY_UNMAP);
        let refused = driver.write_zeroes(0, 512, fast).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unsupported);
        assert_eq!((disk.count(0x93), disk.count(0x42)), (0, 0));
    });
}

#[test]
fn durable_writes_are_durable_and_a_flush_makes_the_others_so() {
    run(async || {
        let (disk, driver) = at(Rules::default()).await;
        let data = Buf::from_slice(&[7; 512]);
        driver.write(0, data, Request::GUEST.with(Flags::FUA)).await.unwrap();
        write(&driver, 512, &[8; 512]).await.unwrap();
        assert_eq!(disk.durable.lock()[..513], [&[7; 512][..], &[0]].concat());
        driver.flush().await.unwrap();
        assert_eq!(disk.durable.lock()[512..1024], [8; 512]);
        let (disk, driver) = at(Rules { cached: false, ..Rules::default() }).await;
        driver.flush().await.unwrap();
        assert_eq!(disk.count(0x91), 0, "a unit without a cache has nothing to flush");
    });
}

#[test]
fn a_dropped_request_is_carried_out_and_its_answer_disturbs_no_other() {
    run(async || {
        let (_, driver) = at(Rules { burst: 512, ..Rules::default() }).await;
        let data = Buf::from_slice(&[8; 204_800]);
        let _ = rt::timeout(Duration::ZERO, driver.write(0, data, Request::GUEST)).await;
        let data = read(&driver, 0, 204_800).await.unwrap();
        assert!(data.iter().all(|byte| *byte == 8) || data.iter().all(|byte| *byte == 0));
        assert_eq!(read(&driver, 409_600, 512).await.unwrap(), [0; 512]);
    });
}
