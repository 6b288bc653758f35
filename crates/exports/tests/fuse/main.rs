//! A node as a file: what its users see, by the system's own calls.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test a failure of its own world is a failure"
)]

mod world;

use api::PreallocMode;
use exports::{AllowOther, ExportError, FuseKind, RemoveMode};
use rt::Errno;
use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use world::{SIZE, errno, program, run, user, writable};

fn open(path: &Path) -> File {
    File::options().read(true).write(true).open(path).unwrap()
}

fn number(errno: Errno) -> Option<i32> {
    Some(errno.raw_os_error())
}

/// Numbers that look like nothing in particular.
fn scattered(seed: &mut u64, below: u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) % below
}

#[test]
fn what_users_write_at_any_place_is_what_they_read_and_what_the_node_has() {
    for format in ["raw", "qcow2"] {
        run(format, async |world| {
            let path = world.export(writable("e"), world.kind("mp")).await;
            // Four users, each in a quarter of the disk.
            let users = (0..4).map(|user| {
                let path = path.clone();
                std::thread::spawn(move || {
                    let (file, start, quarter) = (open(&path), user * (SIZE / 4), SIZE / 4);
                    let (mut seed, mut shown) = (user + 1, vec![0; quarter as usize]);
                    for _ in 0..200 {
                        let at = scattered(&mut seed, quarter);
                        let len = (scattered(&mut seed, 70_000) + 1).min(quarter - at);
                        let part = &mut shown[at as usize..(at + len) as usize];
                        if scattered(&mut seed, 2) == 0 {
                            part.fill(scattered(&mut seed, 255) as u8 + 1);
                            file.write_all_at(part, start + at).unwrap();
                        } else {
                            let mut read = vec![0; len as usize];
                            file.read_exact_at(&mut read, start + at).unwrap();
                            assert!(read == part);
                        }
                    }
                    file.sync_all().unwrap();
                    shown
                })
            });
            let users: Vec<_> = users.collect();
            let shown =
                user(move || users.into_iter().flat_map(|user| user.join().unwrap()).collect::<Vec<_>>())
                    .await;
            let (read, result) = world.node.read(0, rt::BufMut::with_len(SIZE as usize)).await;
            result.unwrap();
            assert!(read[..] == shown[..]);
        });
    }
}

#[test]
fn a_file_ends_where_the_disk_ends_unless_it_may_grow() {
    run("raw", async |world| {
        let fixed = world.export(writable("fixed"), world.kind("fixed")).await;
        let kind = FuseKind { growable: true, ..world.kind("grows") };
        let grows = world.export(writable("grows"), kind).await;
        user(move || {
            let file = open(&fixed);
            assert_eq!(file.write_at(&[1; 1024], SIZE - 512).unwrap(), 512);
            assert_eq!(errno(file.write_at(&[1; 1024], SIZE)), number(Errno::IO));
            assert_eq!(file.read_at(&mut [0; 1024], SIZE - 512).unwrap(), 512);
            assert_eq!(file.read_at(&mut [0; 1024], SIZE).unwrap(), 0);
            // Opening it to empty it changes nothing; who wants another length says so.
            File::create(&fixed).unwrap();
            assert_eq!(file.metadata().unwrap().len(), SIZE);
            open(&grows).write_all_at(&[7; 4096], SIZE + 8192).unwrap();
            assert_eq!(file.metadata().unwrap().len(), SIZE + 12288, "both show the same disk");
            file.set_len(SIZE * 2).unwrap();
            assert_eq!(open(&grows).metadata().unwrap().len(), SIZE * 2);
            fallocate(&file, FallocateFlags::empty(), SIZE * 2, 4096).unwrap();
            assert_eq!(file.metadata().unwrap().len(), SIZE * 2 + 4096);
            assert!(fallocate(&file, FallocateFlags::empty(), 0, 4096).is_err(), "space in the middle");
            file.set_len(SIZE).unwrap();
        })
        .await;
        assert_eq!(world.node.length(), SIZE);
        world.graph.resize(&world.node, SIZE * 3, PreallocMode::Off).await.unwrap();
        let path = world.folder.join("fixed");
        assert_eq!(user(move || path.metadata().unwrap().len()).await, SIZE * 3);
    });
}

#[test]
fn an_image_of_whole_sectors_grows_to_the_next_one_also_by_writes_that_are_durable() {
    run("qcow2", async |world| {
        let kind = FuseKind { growable: true, ..world.kind("mp") };
        let path = world.export(writable("e"), kind).await;
        let image = world.folder.join("disk");
        // What the image's own file says of the first clusters: nothing before a table that maps them was written to it.
        let mapped = move || {
            let bytes = std::fs::read(&image).unwrap();
            let table = u64::from_be_bytes(bytes[40..48].try_into().unwrap()) as usize;
            bytes[table..table + 8] != [0; 8]
        };
        user(move || {
            let lazy = open(&path);
            lazy.write_all_at(&[6; 100], 0).unwrap();
            assert!(!mapped());
            let file = File::options()
                .write(true)
                .custom_flags(rustix::fs::OFlags::DSYNC.bits() as i32)
                .open(&path)
                .unwrap();
            file.write_all_at(&[6; 100], 0).unwrap();
            assert!(mapped());
            file.write_all_at(&[7; 100], SIZE).unwrap();
            assert_eq!(path.metadata().unwrap().len(), SIZE + 512);
            file.set_len(SIZE + 1000).unwrap();
            assert_eq!(path.metadata().unwrap().len(), SIZE + 1024);
            let read = std::fs::read(&path).unwrap();
            assert_eq!(read[SIZE as usize..][..101], [&[7; 100][..], &[0]].concat());
        })
        .await;
    });
}

#[test]
fn holes_are_made_and_found() {
    run("qcow2", async |world| {
        let path = world.export(writable("e"), world.kind("mp")).await;
        user(move || {
            let file = open(&path);
            let find = |whence| seek(&file, whence).map_err(std::io::Error::from);
            assert_eq!(
                (find(SeekFrom::Hole(0)).unwrap(), errno(find(SeekFrom::Data(0)))),
                (0, number(Errno::NXIO))
            );
            file.write_all_at(&[9; 196_608], 131_072).unwrap();
            assert_eq!(find(SeekFrom::Data(5)).unwrap(), 131_072);
            assert_eq!(find(SeekFrom::Hole(131_072)).unwrap(), 327_680);
            let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            fallocate(&file, punch, 131_072, 65_536).unwrap();
            // What is behind the end is a hole already.
            fallocate(&file, punch, SIZE - 100, 65_536).unwrap();
            fallocate(&file, punch, SIZE * 2, 65_536).unwrap();
            assert_eq!(find(SeekFrom::Data(0)).unwrap(), 196_608);
            // At any place, also within a cluster.
            fallocate(&file, FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE, 200_001, 9).unwrap();
            let mut read = [0; 11];
            file.read_exact_at(&mut read, 200_000).unwrap();
            assert_eq!(read, [9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
            assert_eq!(find(SeekFrom::Hole(SIZE)).unwrap(), SIZE);
            assert_eq!(errno(find(SeekFrom::Hole(SIZE + 1))), number(Errno::NXIO));
            assert_eq!(file.metadata().unwrap().len(), SIZE);
        })
        .await;
    });
}

#[test]
fn who_may_not_write_can_not_open_it_for_writing_and_permissions_are_as_they_are_set() {
    run("raw", async |world| {
        let spec = exports::ExportSpec { writable: false, ..writable("reads") };
        let kind = FuseKind { allow_other: AllowOther::Off, ..world.kind("reads") };
        let reads = world.export(spec, kind).await;
        let kind = FuseKind { allow_other: AllowOther::On, ..world.kind("writes") };
        let writes = world.export(writable("writes"), kind).await;
        user(move || {
            assert_eq!(errno(File::options().write(true).open(&reads)), number(Errno::ACCESS));
            let set = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode));
            assert_eq!(errno(set(&reads, 0o600)), number(Errno::ROFS));
            assert_eq!(errno(set(&reads, 0o444)), number(Errno::PERM));
            set(&reads, 0o500).unwrap();
            assert_eq!(reads.metadata().unwrap().mode(), 0o100_500);
            set(&writes, 0o644).unwrap();
            std::os::unix::fs::chown(&writes, Some(65_534), None).unwrap();
            let meta = writes.metadata().unwrap();
            assert_eq!((meta.mode(), meta.uid(), meta.len()), (0o100_644, 65_534, SIZE));
            assert!(std::os::unix::fs::chown(&reads, Some(65_534), None).is_err());
        })
        .await;
    });
}

#[test]
fn an_export_that_is_removed_leaves_users_behind_and_all_they_wrote_is_in_the_image() {
    run("raw", async |world| {
        let path = world.export(writable("e"), world.kind("mp")).await;
        let again = path.clone();
        let file = user(move || {
            let file = open(&path);
            file.write_all_at(b"kept", 77).unwrap();
            file
        })
        .await;
        assert!(world.graph.remove("disk").await.unwrap_err().message().contains("is in use"));
        world.exports.remove("e", RemoveMode::Safe).unwrap();
        world.exports.wait_gone(&["e".to_owned()]).await;
        assert_eq!(errno(file.write_at(b"lost", 0)), number(Errno::NOTCONN));
        assert_eq!(again.metadata().unwrap().len(), 0, "the file that was mounted over is itself again");
        assert_eq!(std::fs::read(world.folder.join("disk")).unwrap()[77..81], *b"kept");
        // The image may be mounted over itself, and the file is free for another export.
        let over = FuseKind { mountpoint: world.folder.join("disk"), ..world.kind("mp") };
        let over = world.export(writable("over"), over).await;
        world.export(writable("e"), world.kind("mp")).await;
        let kept = user(move || std::fs::read(&over).unwrap() == std::fs::read(&again).unwrap());
        assert!(kept.await);
        assert_eq!(*world.told.lock(), ["e"]);
    });
}

#[test]
fn an_export_ends_when_its_file_is_unmounted_and_no_longer_in_use() {
    run("raw", async |world| {
        let path = world.export(writable("e"), world.kind("mp")).await;
        let name = path.display().to_string();
        user(move || {
            let file = open(&path);
            assert!(program("umount", &["-l", &name]));
            file.write_all_at(b"still", 0).unwrap();
        })
        .await;
        world.ended(1).await;
        assert!(world.exports.list().is_empty());
        world.export(writable("e"), world.kind("mp")).await;
    });
}

#[test]
fn what_can_not_be_mounted_over_is_refused_and_leaves_nothing_behind() {
    run("raw", async |world| {
        let at = |mountpoint| FuseKind { mountpoint, ..world.kind("mp") };
        let words = |error: ExportError| error.to_string();
        let shown = |name: &str| world.folder.join(name).display().to_string();
        let missing = world.refused(writable("e"), at(world.folder.join("missing"))).await;
        assert_eq!(
            words(missing),
            format!("Failed to stat '{}': No such file or directory", shown("missing"))
        );
        let folder = world.refused(writable("e"), at(world.folder.clone())).await;
        assert_eq!(words(folder), format!("'{}' is not a regular file", world.folder.display()));
        world.export(writable("first"), world.kind("mp")).await;
        let taken = world.refused(writable("e"), world.kind("mp")).await;
        assert_eq!(words(taken), format!("There already is a FUSE export on '{}'", shown("mp")));
        // Under another name too, which serves as well as the file's own.
        let link = |name: &str, to| {
            let path = world.folder.join(name);
            std::os::unix::fs::symlink(to, &path).unwrap();
            path
        };
        let taken = world.refused(writable("e"), at(link("taken", "mp"))).await;
        assert_eq!(words(taken), format!("There already is a FUSE export on '{}'", shown("taken")));
        assert_eq!(world.graph.entries().len(), 1);
        let (below, linked) = (world.mountpoint("below"), link("linked", "below"));
        world.export(writable("linked"), at(linked)).await;
        let length = |path: PathBuf| user(move || path.metadata().unwrap().len());
        assert_eq!(length(below.clone()).await, SIZE);
        world.exports.remove("linked", RemoveMode::Safe).unwrap();
        world.exports.wait_gone(&["linked".to_owned()]).await;
        assert_eq!(length(below).await, 0, "it is mounted no more");
    });
}
