//! The file driver on a real file system, through the graph as every user reaches it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers end it where they can't go on")]

use block::{
    BackendRequest, BlockError, Common, ErrorKind, Flags, Graph, NewBitmap, Objects, Opt, Options, Perms,
    PlaceRequest, Policy, Registry, Request,
};
use rt::{Buf, BufMut};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("cairn-file-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    /// In the folder of the build: O_DIRECT needs a real file system, not a temporary one in memory.
    fn for_direct(name: &str) -> Self {
        let folder =
            std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn graph() -> Graph {
    Graph::new(Registry::new(&[protocols::DRIVERS]), |_| Err(BlockError::invalid("no json here")))
}

fn options(filename: &str) -> Options {
    Options::new()
        .with_str("driver", "file")
        .with_str("node-name", "f")
        .with_str("filename", filename)
        .with_str("discard", "unmap")
}

fn writer(node: &std::sync::Arc<block::Node>) -> BackendRequest {
    BackendRequest { label: "test".to_owned(), node: node.clone(), perms: Perms::WRITER, pinned: false }
}

#[test]
fn what_is_written_is_read_and_zeroed_and_discarded_ranges_read_as_zeroes() {
    let scratch = Scratch::new("io");
    let name = scratch.path("a");
    rt::block_on_control(async move {
        let graph = graph();
        graph.create("file", &name, 1 << 20, Options::new()).await.unwrap();
        let node = graph.add(options(&name)).await.unwrap();
        assert_eq!(node.length(), 1 << 20);
        let disk = graph.attach(writer(&node)).await.unwrap();
        disk.write(1000, Buf::from_slice(&[7; 70000]), Request::GUEST.with(Flags::FUA)).await.unwrap();
        disk.write_zeroes(4096, 8192, Request::GUEST).await.unwrap();
        disk.discard(20480, 4096, Request::GUEST).await.unwrap();
        let (data, result) = disk.read(0, BufMut::with_len(1 << 17)).await;
        result.unwrap();
        for (at, byte) in data.iter().enumerate() {
            let zeroed = (4096..4096 + 8192).contains(&at) || (20480..24576).contains(&at);
            let written = (1000..71000).contains(&at) && !zeroed;
            assert_eq!(*byte, if written { 7 } else { 0 }, "byte {at}");
        }
        let status = disk.status(1 << 19, 4096).await.unwrap();
        assert!(status.zero && !status.data);
        disk.flush().await.unwrap();
        let e = disk.write((1 << 20) - 1, Buf::from_slice(&[1, 2]), Request::GUEST).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Invalid);
        assert_eq!(
            (disk.stats().write.ops, disk.stats().write.invalid, disk.stats().read.bytes),
            (2, 1, 1 << 17)
        );
        graph.detach(&disk).await.unwrap();
        graph.remove("f").await.unwrap();
        assert!(graph.nodes().is_empty());
    });
}

#[test]
fn what_is_written_behind_a_files_end_is_in_its_bitmaps() {
    let scratch = Scratch::new("grown");
    let name = scratch.path("a");
    rt::block_on_control(async move {
        let graph = graph();
        graph.create("file", &name, 4096, Options::new()).await.unwrap();
        let node = graph.add(options(&name)).await.unwrap();
        let disk = graph.attach(writer(&node)).await.unwrap();
        let new = |name: &str, enabled| NewBitmap {
            name: name.to_owned(),
            granularity: Some(512),
            persistent: false,
            enabled,
        };
        let recording = node.add_bitmap(new("recording", true)).unwrap();
        let idle = node.add_bitmap(new("idle", false)).unwrap();
        node.write(8192, Buf::from_slice(&[1; 512]), Request::DRIVER).await.unwrap();
        let inline = node.try_write(16384, &[1; 512], Request::DRIVER).unwrap();
        node.write(16384, Buf::from_slice(&[1; 512]), Request::DRIVER).await.unwrap();
        assert!(inline == 0 || inline == 512);
        node.write_zeroes(20480, 1024, Request::DRIVER).await.unwrap();
        let marked = [(8192, 8704), (16384, 16896), (20480, 21504)];
        assert_eq!(recording.bits().runs().collect::<Vec<_>>(), marked);
        node.grow_to(1 << 20).await.unwrap();
        assert_eq!(recording.bits().runs().collect::<Vec<_>>(), marked, "what is new is clean");
        for bitmap in [&recording, &idle] {
            assert_eq!(bitmap.bits().length(), 1 << 20);
        }
        assert!(idle.bits().is_clean());
        graph.detach(&disk).await.unwrap();
        graph.close_all().await.unwrap();
    });
}

#[test]
fn zeroes_are_fast_and_keep_their_room_also_where_the_file_system_zeroes_no_ranges() {
    if !std::path::Path::new("/dev/shm").is_dir() {
        println!("skipped: there is no memory file system at /dev/shm");
        return;
    }
    let folder = PathBuf::from(format!("/dev/shm/cairn-file-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let name = folder.join("a").display().to_string();
    std::fs::write(&name, vec![7; 1 << 20]).unwrap();
    rt::block_on_control(async move {
        let graph = graph();
        let node = graph.add(options(&name)).await.unwrap();
        let disk = graph.attach(writer(&node)).await.unwrap();
        for unmap in [false, true] {
            let flags = Request::GUEST.with_if(unmap, Flags::MAY_UNMAP).with(Flags::NO_FALLBACK);
            for (offset, len) in [(4096, 1 << 16), (1 << 17, 100), ((1 << 18) + 5, 9001)] {
                disk.write(offset, Buf::from_slice(&vec![7; len]), Request::GUEST).await.unwrap();
                disk.write_zeroes(offset, len as u64, flags).await.unwrap();
                let (data, result) = disk.read(offset - 1, BufMut::with_len(len + 2)).await;
                result.unwrap();
                assert!(data[1..=len].iter().all(|byte| *byte == 0), "{len} bytes at {offset}");
                assert_eq!((data[0], data[len + 1]), (7, 7), "the neighbours of {len} bytes at {offset}");
            }
        }
        assert!(std::fs::metadata(&name).unwrap().len() == 1 << 20);
        graph.detach(&disk).await.unwrap();
        graph.remove("f").await.unwrap();
    });
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_second_writer_is_refused_with_the_holder_named_and_the_first_keeps_its_locks() {
    let scratch = Scratch::new("lock");
    let name = scratch.path("a");
    rt::block_on_control(async move {
        let (one, two) = (graph(), graph());
        one.create("file", &name, 4096, Options::new()).await.unwrap();
        let node = one.add(options(&name)).await.unwrap();
        let strict = Perms { share: block::Share::READ, ..Perms::WRITER };
        let disk = one.attach(BackendRequest { perms: strict, ..writer(&node) }).await.unwrap();
        let node = two.add(options(&name)).await.unwrap();
        for _ in 0..2 {
            let e = two.attach(writer(&node)).await.unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Locked);
            assert!(e.message().contains(&format!("process {}", std::process::id())), "{e}");
        }
        one.detach(&disk).await.unwrap();
        two.attach(writer(&node)).await.unwrap();
    });
}

#[test]
fn a_directory_and_a_fifo_are_refused_and_never_waited_on() {
    let scratch = Scratch::new("kind");
    let (folder, fifo) = (scratch.path("."), scratch.path("fifo"));
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    rt::block_on_control(async move {
        let graph = graph();
        for name in [folder, fifo] {
            let e = graph.add(options(&name)).await.unwrap_err();
            assert!(e.message().contains("to be a regular file"), "{e}");
        }
        assert!(graph.nodes().is_empty());
    });
}

#[test]
fn unknown_options_are_refused_by_name_and_leave_nothing_behind() {
    let scratch = Scratch::new("options");
    let name = scratch.path("a");
    rt::block_on_control(async move {
        let graph = graph();
        graph.create("file", &name, 4096, Options::new()).await.unwrap();
        let e = graph.add(options(&name).with("frobnicate", Opt::Int(1))).await.unwrap_err();
        assert_eq!(e.message(), "Parameter 'frobnicate' is unexpected");
        let e = graph.add(options(&name).with_str("aio", "native")).await.unwrap_err();
        assert!(e.message().contains("requires cache.direct=on"), "{e}");
        assert!(graph.nodes().is_empty());
        let common = Common { read_only: true, ..Common::default() };
        let node = graph.open_image(&name, Some("file"), common, Policy::ALONE).await.unwrap();
        assert_eq!(graph.attach(writer(&node)).await.unwrap_err().kind(), ErrorKind::ReadOnly);
    });
}

#[test]
fn unaligned_direct_writes_leave_the_length_and_the_neighbours_as_they_are() {
    let scratch = Scratch::for_direct("direct");
    let name = scratch.path("a");
    std::fs::write(&name, vec![1; 10_000]).unwrap();
    rt::block_on_control(async move {
        let graph = graph();
        let cache = Options::new().with("direct", Opt::Bool(true));
        let node = match graph.add(options(&name).with("cache", Opt::Dict(cache))).await {
            Ok(node) => node,
            Err(e) if e.message().contains("O_DIRECT") => {
                println!("left out: {e}");
                return;
            }
            Err(e) => panic!("{e}"),
        };
        let disk = graph.attach(writer(&node)).await.unwrap();
        for (offset, len) in [(3, 5), (4090, 20), (9_990, 10), (511, 2)] {
            disk.write(offset, Buf::from_slice(&vec![2; len]), Request::GUEST).await.unwrap();
        }
        disk.write_zeroes(100, 5_000, Request::GUEST).await.unwrap();
        disk.flush().await.unwrap();
        let on_disk = std::fs::read(&name).unwrap();
        assert_eq!(on_disk.len(), 10_000);
        for (at, byte) in on_disk.iter().enumerate() {
            let expected = match at {
                100..5_100 => 0,
                3..8 | 9_990..10_000 => 2,
                _ => 1,
            };
            assert_eq!(*byte, expected, "byte {at}");
        }
        let (data, result) = disk.read(9_985, BufMut::with_len(15)).await;
        result.unwrap();
        assert_eq!(&data[..], [1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]);
    });
}

#[test]
fn a_lock_leaves_a_descriptor_that_was_handed_over_past_the_page_cache() {
    let scratch = Scratch::for_direct("set");
    let name = scratch.path("a");
    std::fs::write(&name, vec![1; 10_000]).unwrap();
    rt::block_on_control(async move {
        let graph = graph();
        let mut flags = Vec::new();
        for locking in ["off", "auto"] {
            let file = std::fs::File::options().read(true).write(true).open(&name).unwrap();
            let (set, number) = rt::fdset::add(None, file.into(), None).unwrap();
            let options = options(&format!("/dev/fdset/{set}"))
                .with_str("node-name", locking)
                .with_str("locking", locking)
                .with("cache", Opt::Dict(Options::new().with("direct", Opt::Bool(true))));
            match graph.add(options).await {
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::Invalid => {
                    println!("left out, O_DIRECT is not possible here: {e}");
                    return;
                }
                Err(e) => panic!("{e}"),
            }
            let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap();
            flags.extend(info.lines().find(|line| line.starts_with("flags:")).map(str::to_owned));
            assert!(rt::fdset::remove(set, None));
        }
        assert_eq!(flags.first(), flags.last());
    });
}

/// Whether this process has the file open past the page cache; the flags are octal.
fn is_open_direct(name: &str) -> bool {
    const O_DIRECT: u32 = 0o40000;
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(Result::ok);
    let of_file = descriptors
        .filter(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to == std::path::Path::new(name)));
    of_file.into_iter().any(|fd| {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.file_name().display()))
            .unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap_or("0").trim();
        u32::from_str_radix(flags, 8).unwrap() & O_DIRECT != 0
    })
}

#[test]
fn a_reopen_passes_the_page_cache_by_and_back_or_changes_nothing() {
    let folder =
        std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("reopen-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let scratch = Scratch(folder);
    let name = scratch.path("a");
    std::fs::write(&name, vec![1; 10_000]).unwrap();
    rt::block_on_control(async move {
        let graph = graph();
        let node = graph.add(options(&name)).await.unwrap();
        let disk = graph.attach(writer(&node)).await.unwrap();
        let cached = |direct| {
            options(&name).with("cache", Opt::Dict(Options::new().with("direct", Opt::Bool(direct))))
        };
        match graph.reopen(vec![cached(true)]).await {
            Err(e) if e.message().contains("O_DIRECT") => {
                println!("left out: {e}");
                return;
            }
            result => result.unwrap(),
        }
        assert!(is_open_direct(&name) && node.common().direct);
        // Odd requests are padded from now on.
        disk.write(3, Buf::from_slice(&[2; 5]), Request::GUEST).await.unwrap();
        // A writer needs a writable file in the new way too.
        graph.detach(&disk).await.unwrap();
        graph.reopen(vec![cached(true).with("read-only", Opt::Bool(true))]).await.unwrap();
        graph.reopen(vec![cached(false)]).await.unwrap();
        assert!(!is_open_direct(&name) && !node.common().direct);
        let disk = graph.attach(writer(&node)).await.unwrap();
        disk.write(9, Buf::from_slice(&[3; 5]), Request::GUEST).await.unwrap();
        // The name leads elsewhere now: nothing changes, and the file that is open serves on.
        let kept = format!("{name}.kept");
        std::fs::rename(&name, &kept).unwrap();
        std::fs::write(&name, vec![9; 10_000]).unwrap();
        let e = graph.reopen(vec![cached(true)]).await.unwrap_err();
        assert!(e.message().contains("is another file now"), "{e}");
        assert!(!is_open_direct(&name) && !is_open_direct(&kept) && !node.common().direct);
        disk.write(20, Buf::from_slice(&[4; 5]), Request::GUEST).await.unwrap();
        let (data, result) = disk.read(0, BufMut::with_len(26)).await;
        result.unwrap();
        assert_eq!(data[..], [1, 1, 1, 2, 2, 2, 2, 2, 1, 3, 3, 3, 3, 3, 1, 1, 1, 1, 1, 1, 4, 4, 4, 4, 4, 1]);
        graph.detach(&disk).await.unwrap();
        assert_eq!(std::fs::read(&kept).unwrap()[..26], data[..]);
    });
}

#[test]
fn what_a_reopen_cannot_change_is_refused_by_name() {
    let scratch = Scratch::new("fixed");
    let name = scratch.path("a");
    rt::block_on_control(async move {
        let graph = graph();
        graph.create("file", &name, 4096, Options::new()).await.unwrap();
        graph.add(options(&name).with_str("aio", "threads")).await.unwrap();
        graph.reopen(vec![options(&name)]).await.unwrap();
        graph
            .reopen(vec![options(&name).with_str("aio", "threads").with_str("locking", "auto")])
            .await
            .unwrap();
        for (option, value) in [("aio", "io_uring"), ("locking", "off"), ("filename", "other")] {
            let e = graph.reopen(vec![options(&name).with_str(option, value)]).await.unwrap_err();
            assert!(e.message().contains(option), "{e}");
        }
        for (option, value) in
            [("drop-cache", "off"), ("x-check-cache-dropped", "on"), ("aio-max-batch", "many")]
        {
            let e = graph
                .add(options(&name).with_str("node-name", "g").with_str(option, value))
                .await
                .unwrap_err();
            assert!(e.message().contains(option), "{e}");
        }
    });
}

#[test]
fn two_writers_to_one_passed_descriptor_see_each_others_locks() {
    let scratch = Scratch::new("twice");
    let name = scratch.path("a");
    std::fs::write(&name, vec![1; 4096]).unwrap();
    rt::block_on_control(async move {
        let graph = graph();
        let file = std::fs::File::options().read(true).write(true).open(&name).unwrap();
        let (set, _) = rt::fdset::add(None, file.into(), None).unwrap();
        let node = async |node: &str| {
            graph.add(options(&format!("/dev/fdset/{set}")).with_str("node-name", node)).await.unwrap()
        };
        let (one, other) = (node("one").await, node("other").await);
        let alone = |node| BackendRequest { perms: block::MAKER, ..writer(node) };
        let disk = graph.attach(alone(&one)).await.unwrap();
        assert_eq!(graph.attach(alone(&other)).await.err().map(|e| e.kind()), Some(ErrorKind::Locked));
        graph.detach(&disk).await.unwrap();
        graph.attach(alone(&other)).await.unwrap();
        assert!(rt::fdset::remove(set, None));
    });
}

/// Tries to make a file with a bad option; answers what there is of it afterwards.
fn refused(name: &str, old: Option<&str>) -> Option<String> {
    if let Some(old) = old {
        std::fs::write(name, old).unwrap();
    }
    let name = name.to_owned();
    rt::block_on_control(async move {
        for (option, value) in [("preallocation", "bogus"), ("no-such-option", "1"), ("nocow", "maybe")] {
            let options = Options::new().with_str(option, value);
            graph().create("file", &name, 4096, options).await.unwrap_err();
        }
        std::fs::read_to_string(name).ok()
    })
}

#[test]
fn a_refused_create_changes_and_makes_no_file() {
    let scratch = Scratch::new("refused");
    assert_eq!(refused(&scratch.path("old"), Some("keep")).as_deref(), Some("keep"));
    assert_eq!(refused(&scratch.path("new"), None), None);
    assert_eq!(refused(&scratch.path("empty"), Some("")), None, "nothing is lost with it");
    std::os::unix::fs::symlink("nowhere", scratch.path("link")).unwrap();
    refused(&scratch.path("link"), None);
    assert!(std::fs::symlink_metadata(scratch.path("link")).is_ok(), "a link is never removed");
}

#[test]
fn a_refused_create_keeps_an_empty_file_that_was_prepared() {
    let scratch = Scratch::new("prepared");
    let empty = |name: &str| {
        let path = scratch.path(name);
        std::fs::write(&path, "").unwrap();
        path
    };
    let private = empty("private");
    std::fs::set_permissions(&private, std::fs::Permissions::from_mode(0o600)).unwrap();
    let linked = empty("linked");
    std::fs::hard_link(&linked, scratch.path("other name")).unwrap();
    let pointed_to = empty("pointed to");
    std::os::unix::fs::symlink(&pointed_to, scratch.path("pointer")).unwrap();
    let open = std::fs::File::create(empty("open")).unwrap();
    let by_descriptor = format!("/dev/fd/{}", open.as_raw_fd());
    let pointer = scratch.path("pointer");
    for name in [&private, &linked, &pointer, &by_descriptor] {
        assert_eq!(refused(name, None).as_deref(), Some(""), "{name}");
    }
    assert!(std::fs::symlink_metadata(pointer).unwrap().is_symlink());
    assert!(std::fs::exists(scratch.path("open")).unwrap());
    let foreign = empty("foreign");
    // Only a superuser can prepare that.
    if std::os::unix::fs::chown(&foreign, Some(12345), None).is_ok() {
        assert_eq!(refused(&foreign, None).as_deref(), Some(""));
    }
}

#[test]
fn a_file_is_made_in_a_folder_that_may_be_written_to_and_not_read() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new("unread");
    std::fs::set_permissions(&scratch.0, PermissionsExt::from_mode(0o300)).unwrap();
    let name = scratch.path("a");
    if std::fs::read_dir(&scratch.0).is_ok() {
        println!("left out: whoever runs this may read every folder");
    } else {
        rt::block_on_control(
            async move { graph().create("file", &name, 4096, Options::new()).await.unwrap() },
        );
    }
    std::fs::set_permissions(&scratch.0, PermissionsExt::from_mode(0o700)).unwrap();
}

#[test]
fn a_file_in_which_an_image_is_being_made_is_locked() {
    let scratch = Scratch::new("claim");
    let name = scratch.path("a");
    rt::block_on_control(async move {
        let claimer = protocols::DRIVERS.iter().find(|driver| driver.name == "file").unwrap().claim.unwrap();
        let objects = Objects::default();
        let claim = || {
            let (location, options) = (Options::new(), Options::new());
            claimer.claim(PlaceRequest { filename: &name, location, objects: &objects, options })
        };
        let first = claim().await.unwrap();
        let e = claim().await.err().unwrap();
        assert_eq!(e.kind(), ErrorKind::Locked);
        let graph = graph();
        let node = graph.add(options(&name)).await.unwrap();
        assert_eq!(graph.attach(writer(&node)).await.unwrap_err().kind(), ErrorKind::Locked);
        // The name may have changed hands: then it is another's file that stays.
        std::fs::remove_file(&name).unwrap();
        std::fs::write(&name, "keep").unwrap();
        first.undo().await.unwrap();
        assert_eq!(std::fs::read_to_string(&name).unwrap(), "keep");
        let again = claim().await.unwrap();
        again.undo().await.unwrap();
        assert!(std::fs::exists(&name).unwrap(), "it was there before the claim");
    });
}

#[test]
fn no_image_is_made_in_a_file_that_is_in_use_here_whatever_it_is_called() {
    let scratch = Scratch::new("same");
    let (name, other) = (scratch.path("a"), scratch.path("b"));
    std::fs::write(&name, "keep").unwrap();
    std::fs::hard_link(&name, &other).unwrap();
    rt::block_on_control(async move {
        let graph = graph();
        graph.add(options(&name).with_str("locking", "off")).await.unwrap();
        let e = graph.create("file", &other, 4096, Options::new()).await.unwrap_err();
        assert!(e.message().contains("node 'f'"), "{e}");
        assert_eq!(std::fs::read_to_string(&name).unwrap(), "keep");
    });
}

#[test]
fn character_devices_open_as_devices_and_content_without_an_end_is_refused() {
    rt::block_on_control(async {
        let graph = graph();
        let null = options("/dev/null").with_str("driver", "host_device");
        let node = graph.add(null).await.unwrap();
        assert_eq!((node.length(), node.driver_name()), (0, "host_device"));
        graph.remove("f").await.unwrap();
        let e = graph.add(options("/dev/null")).await.unwrap_err();
        assert!(e.message().contains("to be a regular file"), "{e}");
        // Its size is reported as 0, and reading it gives more.
        let made_up = options("/proc/version").with("read-only", Opt::Bool(true));
        assert_eq!(graph.add(made_up).await.unwrap_err().kind(), ErrorKind::Invalid);
    });
}

/// A loop device over a file; `None`, with a note, where there are none.
struct Loop(String);

impl Loop {
    fn new(args: &[&str], file: &str) -> Option<Self> {
        let made = std::process::Command::new("losetup").args(["--show", "-f"]).args(args).arg(file).output();
        let name =
            made.ok().filter(|made| made.status.success()).and_then(|m| String::from_utf8(m.stdout).ok());
        if name.is_none() {
            println!("left out: no loop devices");
        }
        name.map(|name| Self(name.trim().to_owned()))
    }

    fn options(&self) -> Options {
        options(&self.0).with_str("driver", "host_device")
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        std::process::Command::new("losetup").args(["-d", &self.0]).status().unwrap();
    }
}

#[test]
fn zeroes_that_may_unmap_and_discards_give_a_devices_space_back() {
    use std::os::unix::fs::MetadataExt;
    let scratch = Scratch::new("device");
    let backing = scratch.path("a");
    std::fs::write(&backing, vec![7; 8 << 20]).unwrap();
    let Some(device) = Loop::new(&[], &backing) else { return };
    rt::block_on_control(async {
        let graph = graph();
        let node = graph.add(device.options()).await.unwrap();
        let disk = graph.attach(writer(&node)).await.unwrap();
        let before = std::fs::metadata(&backing).unwrap().blocks();
        // Zeroes that keep their place come first, and odd ones: neither costs the device its holes.
        disk.write_zeroes(0, 1 << 20, Request::GUEST).await.unwrap();
        disk.write_zeroes((1 << 20) + 5, 3000, Request::GUEST.with(Flags::MAY_UNMAP)).await.unwrap();
        disk.write_zeroes(2 << 20, 2 << 20, Request::GUEST.with(Flags::MAY_UNMAP)).await.unwrap();
        disk.discard(4 << 20, 2 << 20, Request::GUEST).await.unwrap();
        disk.flush().await.unwrap();
        let freed = before - std::fs::metadata(&backing).unwrap().blocks();
        assert!(freed * 512 >= 4 << 20, "{freed} sectors were given back");
        let (data, result) = disk.read(0, BufMut::with_len(4 << 20)).await;
        result.unwrap();
        let zero = |at: usize| at < 1 << 20 || (5..3005).contains(&(at - (1 << 20))) || at >= 2 << 20;
        assert!(data.iter().enumerate().all(|(at, byte)| *byte == if zero(at) { 0 } else { 7 }));
        graph.detach(&disk).await.unwrap();
        graph.remove("f").await.unwrap();
    });
}

#[test]
fn no_image_is_made_on_a_device_that_another_writes_to() {
    let scratch = Scratch::new("busy-device");
    let backing = scratch.path("a");
    std::fs::write(&backing, vec![7; 1 << 20]).unwrap();
    let Some(device) = Loop::new(&[], &backing) else { return };
    rt::block_on_control(async {
        let (user, maker) = (graph(), graph());
        let node = user.add(device.options()).await.unwrap();
        let disk = user.attach(writer(&node)).await.unwrap();
        let e = maker.create("host_device", &device.0, 4096, Options::new()).await.unwrap_err();
        assert_eq!(e.kind(), ErrorKind::Locked);
        assert!(maker.nodes().is_empty());
        let (data, result) = disk.read(0, BufMut::with_len(4096)).await;
        result.unwrap();
        assert!(data.iter().all(|byte| *byte == 7));
        user.detach(&disk).await.unwrap();
        user.remove("f").await.unwrap();
        maker.create("host_device", &device.0, 4096, Options::new()).await.unwrap();
        assert!(maker.nodes().is_empty());
    });
}

#[test]
fn a_read_only_device_is_refused_for_writing_unless_reading_will_do() {
    let scratch = Scratch::new("ro-device");
    let backing = scratch.path("a");
    std::fs::write(&backing, vec![7; 1 << 20]).unwrap();
    let Some(device) = Loop::new(&["-r"], &backing) else { return };
    rt::block_on_control(async {
        let graph = graph();
        let e = graph.add(device.options()).await.unwrap_err();
        assert!(e.message().contains("not writable"), "{e}");
        let node = graph.add(device.options().with("auto-read-only", Opt::Bool(true))).await.unwrap();
        assert!(node.read_only());
        graph.remove("f").await.unwrap();
    });
}

#[test]
fn a_name_that_is_no_text_leads_to_the_file_of_these_bytes() {
    use std::os::unix::ffi::OsStrExt;
    let scratch = Scratch::new("bytes");
    let bytes = [scratch.path("n").as_bytes(), b"\xff\xc3.raw"].concat();
    let path = PathBuf::from(std::ffi::OsStr::from_bytes(&bytes));
    let name = codec::filename::text(&bytes);
    rt::block_on_control(async move {
        let graph = graph();
        graph.create("file", &name, 4096, Options::new()).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 4096);
        assert_eq!(graph.add(options(&name)).await.unwrap().filename(), name);
    });
}
