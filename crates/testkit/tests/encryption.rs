//! Encrypted images: parts of sectors, images opened without their content, and what is refused, each by its own error.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use api::{Enumeration, PreallocMode};
use block::{BlockError, Common, ErrorKind, Opt, Options, Policy, Repair};
use sim::{Config, Disk, Sim};
use testkit::stack::{Stack, TestImage};

const SIZE: u64 = 64 << 10;
/// Where a LUKS header has the iterations of its first key slot.
const ITERATIONS: usize = 212;

fn stack(secret: &str) -> Stack {
    let image = TestImage::new("luks", "/luks", SIZE)
        .with("key-secret", "s")
        .with("iter-time", "0")
        .opened_with("key-secret", secret);
    let secrets = vec![("s", "a passphrase"), ("other", "another one")];
    Stack { secrets, ..Stack::of("luks", &[protocols::DRIVERS, formats::DRIVERS], vec![image]) }
}

fn made() -> Disk {
    let sim = Sim::boot(Config::seeded(1), Disk::default());
    sim.run(async { stack("s").create().await.unwrap() });
    sim.world().disk()
}

fn opened(disk: Disk, secret: &'static str, more: &[(&str, Opt)]) -> Option<BlockError> {
    let mut stack = stack(secret);
    more.iter().for_each(|(name, value)| stack.top.set(*name, value.clone()));
    Sim::boot(Config::seeded(1), disk).run(async move {
        match stack.open().await {
            Ok(session) => {
                session.close().await.unwrap();
                None
            }
            Err(e) => Some(e),
        }
    })
}

#[test]
fn writes_of_parts_of_one_sector_at_once_all_stay() {
    for seed in 1..=60 {
        let config = Config { inline: seed % 3 != 0, workers: 1 + seed as usize % 3, ..Config::seeded(seed) };
        let seen = Sim::boot(config, made()).run(async move {
            let session = stack("s").open().await.unwrap();
            session.write(0, &[0; 2048], false).await.unwrap();
            let parts = (0..16_u8).map(|n| {
                let session = session.clone();
                rt::spawn(async move {
                    // Some are whole sectors, most end inside of one.
                    let (at, len) = if n == 8 { (512, 512) } else { (u64::from(n) * 100, 100) };
                    session.write(at, &vec![n + 1; len as usize], false).await
                })
            });
            for part in parts.collect::<Vec<_>>() {
                part.await.unwrap().unwrap();
            }
            session.read(0, 2048).await.unwrap()
        });
        for (n, at) in (0..16_u8).map(|n| (n, usize::from(n) * 100)) {
            let whole = seen[at..at + 100].iter().enumerate().all(|(i, byte)| {
                // The whole sector may be older or newer than what is in it.
                let in_sector = (512..1024).contains(&(at + i));
                (*byte == n + 1 && n != 8) || (in_sector && *byte == 9)
            });
            assert!(whole || n == 8, "seed {seed}: part {n} is {:?}", &seen[at..at + 100]);
        }
        assert!(seen[1600..].iter().all(|byte| *byte == 0), "seed {seed}");
    }
}

#[test]
fn an_encrypted_image_shows_zeroes_where_nothing_was_written_however_it_was_made() {
    type List = &'static [(&'static str, &'static str)];
    const LUKS: List = &[("encrypt.format", "luks"), ("encrypt.iter-time", "0")];
    const AES: List = &[("encrypt.format", "aes")];
    const OLD: (&str, &str) = ("compat", "0.10");
    let cases: [(List, List, PreallocMode); 7] = [
        (LUKS, &[], PreallocMode::Metadata),
        (LUKS, &[("data_file", "/data")], PreallocMode::Metadata),
        (LUKS, &[("data_file", "/data"), ("extended_l2", "on")], PreallocMode::Metadata),
        (LUKS, &[OLD], PreallocMode::Metadata),
        (LUKS, &[OLD], PreallocMode::Full),
        (AES, &[OLD, ("cluster_size", "512")], PreallocMode::Falloc),
        (AES, &[OLD], PreallocMode::Metadata),
    ];
    for (kind, more, preallocation) in cases {
        let image = TestImage::new("qcow2", "/image", SIZE)
            .with("encrypt.key-secret", "s")
            .with("preallocation", preallocation.name())
            .opened_with("encrypt.key-secret", "s");
        let image = kind.iter().chain(more).fold(image, |image, (name, value)| image.with(name, value));
        let secrets = vec![("s", "a passphrase")];
        let stack =
            Stack { secrets, ..Stack::of("qcow2", &[protocols::DRIVERS, formats::DRIVERS], vec![image]) };
        Sim::boot(Config::seeded(1), Disk::default()).run(async move {
            stack.create().await.unwrap();
            let session = stack.open().await.unwrap();
            session.graph.resize(&session.node, 3 * SIZE, preallocation).await.unwrap();
            let told = format!("{kind:?} {more:?} {preallocation:?}");
            assert!(session.read(0, 3 * SIZE).await.unwrap().iter().all(|byte| *byte == 0), "{told}");
            for at in [512, SIZE + 512] {
                session.write(at, &[7; 512], false).await.unwrap();
                let seen = session.read(at - 512, 2048).await.unwrap();
                assert!(seen[512..1024].iter().all(|byte| *byte == 7), "{told}");
                assert!(seen[..512].iter().chain(&seen[1024..]).all(|byte| *byte == 0), "{told}");
            }
            let report = session.check(Repair::No).await.unwrap().unwrap();
            assert_eq!((report.corruptions, report.leaks), (0, 0), "{told}");
            session.close().await.unwrap();
        });
    }
}

#[test]
fn each_reason_why_a_volume_stays_closed_has_its_own_error() {
    let disk = made();
    let told = |secret, more: &[(&str, Opt)]| opened(disk.clone(), secret, more).map(|e| e.message());
    assert_eq!(told("s", &[]), None);
    assert!(told("other", &[]).unwrap().contains("passphrase is wrong"));
    assert!(told("none", &[]).unwrap().contains("No secret with id 'none'"));
    assert!(told("s", &[("key-secret", Opt::Null)]).is_some());

    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut disk = disk.clone();
        let mut bytes = disk.content("/luks").unwrap().to_vec();
        change(&mut bytes);
        disk.put("/luks", &bytes);
        disk
    };
    let bomb = changed(&|bytes| bytes[ITERATIONS..ITERATIONS + 4].copy_from_slice(&[0xff; 4]));
    let refused = opened(bomb.clone(), "s", &[]).unwrap();
    assert_eq!(refused.kind(), ErrorKind::Limit);
    let text = refused.to_string();
    assert!(text.contains("8589934590 rounds") && text.contains("x-max-rounds"), "{text}");
    let few = opened(disk.clone(), "s", &[("x-max-rounds", Opt::Uint(100))]).unwrap();
    assert_eq!(few.kind(), ErrorKind::Limit);

    let locked_out = changed(&|bytes| bytes[208..212].copy_from_slice(&[0, 0, 0xde, 0xad]));
    assert!(opened(locked_out, "s", &[]).unwrap().message().contains("none of its key slots is active"));
    let no_volume = changed(&|bytes| bytes[0] = 0);
    assert_eq!(opened(no_volume, "s", &[]).unwrap().kind(), ErrorKind::Corrupt);
}

#[test]
fn a_volume_that_is_only_looked_at_needs_no_secret_and_shows_nothing() {
    Sim::boot(Config::seeded(1), made()).run(async {
        let graph = stack("s").graph();
        let file = Options::new().with_str("driver", "file").with_str("filename", "/luks");
        let options = Options::new().with_str("driver", "luks").with("file", Opt::Dict(file));
        let refused = graph.open_with(options.clone(), Common::default(), Policy::ALONE).await.unwrap_err();
        assert!(refused.message().contains("'key-secret' is required"), "{refused}");
        let common = Common { without_content: true, read_only: true, ..Common::default() };
        let node = graph.open_with(options, common, Policy::ALONE).await.unwrap();
        assert!(node.driver().info().encrypted && node.length() == SIZE);
        let (_, read) = node.read(0, rt::BufMut::with_len(512)).await;
        assert_eq!(read.unwrap_err().kind(), ErrorKind::Permission);
        graph.release(&node).await.unwrap();
    });
}
