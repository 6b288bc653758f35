//! The guard, through the graph and on a real file.
use block::{
    Backend, BackendRequest, Common, Discard, ErrorKind, Graph, Options, Perms, Policy, Registry, Request,
};
use rt::{Buf, BufMut};
use std::path::PathBuf;
use std::sync::Arc;

const SIZE: u64 = 1 << 20;

struct Disk {
    path: PathBuf,
    graph: Graph,
    backend: Arc<Backend>,
}

impl Disk {
    /// A file with these bytes at these places, opened with its format guessed.
    async fn guessed(name: &str, parts: &[(u64, &[u8])]) -> Disk {
        let path = std::env::temp_dir().join(format!("cairn-guard-{name}-{}", std::process::id()));
        let mut bytes = vec![0; SIZE as usize];
        for (at, part) in parts {
            bytes[*at as usize..][..part.len()].copy_from_slice(part);
        }
        std::fs::write(&path, &bytes).unwrap();
        let graph = Graph::new(Registry::new(&[protocols::DRIVERS, crate::DRIVERS]), |_| Ok(Options::new()));
        let common = Common { discard: Discard::Unmap, ..Common::default() };
        let node = graph.open_image(path.to_str().unwrap(), None, common, Policy::FOLLOW).await.unwrap();
        assert_eq!(node.driver_name(), "raw");
        let perms = Perms { share: block::Share::ALL, ..Perms::WRITER };
        let request = BackendRequest { label: "test".to_owned(), node, perms, pinned: false };
        let backend = graph.attach(request).await.unwrap();
        Disk { path, graph, backend }
    }

    async fn write(&self, at: u64, data: &[u8]) -> Result<(), ErrorKind> {
        let done = self.backend.try_write(at, data, Request::GUEST).map_err(|e| e.kind())?;
        let rest = Buf::from_slice(&data[done..]);
        if rest.is_empty() {
            return Ok(());
        }
        self.backend.write(at + done as u64, rest, Request::GUEST).await.map_err(|e| e.kind())
    }

    async fn zero(&self, at: u64, len: u64) -> Result<(), ErrorKind> {
        self.backend.write_zeroes(at, len, Request::GUEST).await.map_err(|e| e.kind())
    }

    /// Closes it; its file must still look like raw.
    async fn close(self) -> Vec<u8> {
        self.graph.detach(&self.backend).await.unwrap();
        let path = self.path.to_str().unwrap();
        let common = Common { read_only: true, ..Common::default() };
        let node = self.graph.open_image(path, None, common, Policy::FOLLOW).await.unwrap();
        assert_eq!(node.driver_name(), "raw");
        self.graph.release(&node).await.unwrap();
        let bytes = std::fs::read(&self.path).unwrap();
        std::fs::remove_file(&self.path).unwrap();
        bytes
    }
}

const REFUSED: Result<(), ErrorKind> = Err(ErrorKind::Permission);

#[test]
fn no_write_makes_a_guessed_disk_another_format() {
    rt::block_on_control(async {
        let disk = Disk::guessed("heads", &[]).await;
        let at_the_start: &[&[u8]] = &[
            b"QFI\xfb\0\0\0\x03",
            b"QFI\xfb\0\0\0\x01",
            b"KDMV",
            b"# Disk DescriptorFile\n",
            b"version=1\n",
            b"LUKS\xba\xbe\0\x02",
            b"conectix",
            b"QED\0",
            b"vhdxfile",
            b"WithoutFreeSpace",
            b"Bochs Virtual HD Image\0\0\0\0\0\0\0\0\0\0Redolog\0\0\0\0\0\0\0\0\0Growing\0\0\0\0\0\0\0\0\0\0\0\x02\0",
        ];
        for magic in at_the_start {
            assert_eq!(disk.write(0, magic).await, REFUSED, "{magic:?}");
            let whole = [magic, &vec![0; 70_000][..]].concat();
            assert_eq!(disk.write(0, &whole).await, REFUSED, "{magic:?} in a long write");
        }
        assert_eq!(disk.write(0x40, b"\x7f\x10\xda\xbe").await, REFUSED);
        assert_eq!(disk.write(4096, b"QFI\xfb\0\0\0\x03").await, Ok(()));
        assert_eq!(disk.write(0, &[0x33; 512]).await, Ok(()));
        let bytes = disk.close().await;
        assert_eq!((&bytes[..512], &bytes[4096..4100]), (&[0x33; 512][..], &b"QFI\xfb"[..]));
    });
}

#[test]
fn pieces_of_a_magic_number_written_together_do_not_make_it() {
    rt::block_on_control(async {
        for round in 0..50 {
            let disk = Disk::guessed("pieces", &[(4, &[0, 0, 0, 3])]).await;
            let (first, second) =
                futures_util::future::join(disk.write(0, b"QF"), disk.write(2, b"I\xfb")).await;
            assert_eq!([first, second].iter().filter(|r| **r == REFUSED).count(), 1, "round {round}");
            disk.close().await;
        }
    });
}

/// Writes pieces by tasks that run in every order and in between each other; tells whether the file still looks raw.
fn stays_raw(seed: u64, pieces: &'static [(u64, &'static [u8])]) -> bool {
    let machine = sim::Sim::new(seed);
    machine.world().put("/disk", &[0; 8192]);
    machine.run(async move {
        let graph = Graph::new(Registry::new(&[protocols::DRIVERS, crate::DRIVERS]), |_| Ok(Options::new()));
        let node = graph.open_image("/disk", None, Common::default(), Policy::FOLLOW).await.unwrap();
        let perms = Perms { share: block::Share::ALL, ..Perms::WRITER };
        let request = BackendRequest { label: "test".to_owned(), node, perms, pinned: false };
        let backend = graph.attach(request).await.unwrap();
        let write = |(at, data): &(u64, &'static [u8])| {
            let (backend, at, data) = (backend.clone(), *at, Buf::from_slice(data));
            rt::spawn(async move { backend.write(at, data, Request::GUEST).await })
        };
        let results = futures_util::future::join_all(pieces.iter().map(write).collect::<Vec<_>>()).await;
        let refused = results.into_iter().filter(|result| result.as_ref().unwrap().is_err()).count();
        assert!(refused <= 1, "{refused} refused: what was let through is not part of it");
        graph.detach(&backend).await.unwrap();
        let common = Common { read_only: true, ..Common::default() };
        graph.open_image("/disk", None, common, Policy::FOLLOW).await.is_ok_and(|n| n.driver_name() == "raw")
    })
}

#[test]
fn pieces_of_a_magic_number_by_tasks_in_any_order_do_not_make_it() {
    let pairs: &[(u64, &[u8])] = &[(0, b"QF"), (2, b"I\xfb"), (4, b"\0\0\0\x03")];
    let bytes: &[(u64, &[u8])] = &[(0, b"K"), (1, b"D"), (2, b"M"), (3, b"V")];
    for seed in 0..40 {
        assert!(stays_raw(seed, pairs) && stays_raw(seed, bytes), "seed {seed}");
    }
}

#[test]
fn zeroes_and_discards_uncover_no_format() {
    rt::block_on_control(async {
        let disk = Disk::guessed("zeroes", &[(0, b"QED!"), (512, &[7; 512])]).await;
        assert_eq!(disk.zero(3, 1).await, REFUSED);
        assert_eq!(disk.backend.discard(3, 1, Request::GUEST).await.map_err(|e| e.kind()), Ok(()));
        let (head, result) = disk.backend.read(0, BufMut::with_len(4)).await;
        result.unwrap();
        assert_eq!(&head[..], b"QED!", "a discard that is not carried out");
        // Data and zeroes at once: either comes first, and the second is refused.
        let (data, zeroes) = futures_util::future::join(disk.write(0, b"QED"), disk.zero(3, 1)).await;
        assert_eq!((data, zeroes), (Ok(()), REFUSED));
        assert_eq!(disk.zero(0, SIZE).await, Ok(()));
        assert!(disk.close().await.iter().all(|byte| *byte == 0));
    });
}

#[test]
fn nothing_is_written_behind_the_end_of_a_window_by_whoever_is_above_it() {
    let path = std::env::temp_dir().join(format!("cairn-window-{}", std::process::id()));
    std::fs::write(&path, vec![1; 1 << 20]).unwrap();
    rt::block_on_control(async {
        let graph = Graph::new(Registry::new(&[protocols::DRIVERS, crate::DRIVERS]), |_| Ok(Options::new()));
        let options = Options::new().with_str("driver", "raw").with_str("size", "4096");
        let options =
            options.with_str("file.driver", "file").with_str("file.filename", path.to_str().unwrap());
        let node = graph.open(options, Policy::ALONE).await.unwrap();
        assert!(!node.facts().grows_with_zeroes);
        for (at, len) in [(4096u64, 512usize), (3584, 1024), (1 << 40, 512)] {
            assert_eq!(node.try_write(at, &vec![2; len], Request::DRIVER).unwrap(), 0);
            let written = node.write(at, Buf::from_slice(&vec![2; len]), Request::DRIVER).await;
            assert_eq!(written.unwrap_err().kind(), ErrorKind::NoSpace);
            assert!(node.write_zeroes(at, len as u64, Request::DRIVER).await.is_err());
        }
        node.write(3584, Buf::from_slice(&[2; 512]), Request::DRIVER).await.unwrap();
        graph.release(&node).await.unwrap();
    });
    let bytes = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(bytes[3584..4096].iter().all(|b| *b == 2) && bytes[4096..].iter().all(|b| *b == 1));
}
