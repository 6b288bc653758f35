//! The live driver against a model in memory and against QEMU's own programs.
use super::*;
use block::{Backend, BackendRequest, Common, Discard, Perms, Share, WriteFlags, ZeroFlags};
use proptest::prelude::*;
use rt::{Buf, BufMut};

/// An image that is open for writing.
struct Disk {
    graph: Graph,
    backend: Arc<Backend>,
}

fn graph() -> Graph {
    Graph::new(Registry::new(&[protocols::DRIVERS, crate::DRIVERS]), |_| Ok(Options::new()))
}

impl Disk {
    async fn open(path: &Path) -> Self {
        Self::try_open(path, Common { discard: Discard::Unmap, ..Common::default() }).await.unwrap()
    }

    async fn try_open(path: &Path, common: Common) -> block::Result<Self> {
        let graph = graph();
        let perms = if common.read_only { Perms::READER } else { Perms { share: Share::ALL, ..Perms::WRITER } };
        let node = graph.open_image(path.to_str().unwrap(), Some("qcow2"), common, Policy::FOLLOW).await?;
        let request = BackendRequest { label: "test".to_owned(), node, perms, pinned: false };
        let backend = graph.attach(request).await?;
        Ok(Self { graph, backend })
    }

    async fn write(&self, offset: u64, data: &[u8]) {
        let done = self.backend.try_write(offset, data).unwrap();
        if done < data.len() {
            let rest = Buf::from_slice(&data[done..]);
            self.backend.write(offset + done as u64, rest, WriteFlags::default()).await.unwrap();
        }
    }

    async fn read(&self, offset: u64, len: usize) -> BufMut {
        let mut buf = BufMut::with_len(len);
        let done = self.backend.try_read(offset, &mut buf).unwrap();
        let rest = buf.len() - done;
        if rest > 0 {
            let (tail, result) = self.backend.read(offset + done as u64, BufMut::with_len(rest)).await;
            result.unwrap();
            buf[done..].copy_from_slice(&tail);
        }
        buf
    }

    async fn close(self) {
        self.graph.detach(&self.backend).await.unwrap();
    }
}

#[derive(Debug, Clone)]
enum Op {
    Write { offset: u64, len: u64, byte: u8 },
    Zero { offset: u64, len: u64, unmap: bool },
    Discard { offset: u64, len: u64 },
    Flush,
    Reopen,
    /// Several writes, zeroes and discards at once, on ranges that do not overlap.
    Together(u64),
}

/// What is in the image before the first write of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    Empty,
    /// Data of the peer's, and an internal snapshot of it.
    Snapshot,
    /// Data that the peer compressed.
    Compressed(&'static str),
}

/// One kind of image.
#[derive(Debug, Clone, Copy)]
struct Variant {
    start: Start,
    cluster_size: u64,
    refcount_bits: u32,
    v2: bool,
    backing: bool,
    size: u64,
}

const PLAIN: Variant = Variant {
    start: Start::Empty,
    cluster_size: 65536,
    refcount_bits: 16,
    v2: false,
    backing: false,
    size: 3 << 20,
};

const VARIANTS: [Variant; 14] = [
    PLAIN,
    Variant { backing: true, size: (3 << 20) + 1536, ..PLAIN },
    Variant { cluster_size: 512, refcount_bits: 64, backing: true, size: (1 << 20) + 512, ..PLAIN },
    Variant { cluster_size: 512, refcount_bits: 1, size: 2 << 20, ..PLAIN },
    Variant { cluster_size: 4096, refcount_bits: 8, backing: true, size: 2 << 20, ..PLAIN },
    Variant { v2: true, ..PLAIN },
    Variant { v2: true, backing: true, ..PLAIN },
    Variant { cluster_size: 2 << 20, refcount_bits: 32, backing: true, size: (9 << 20) + 512, ..PLAIN },
    Variant { start: Start::Snapshot, ..PLAIN },
    Variant { start: Start::Snapshot, cluster_size: 512, refcount_bits: 2, backing: true, size: 1 << 20, ..PLAIN },
    Variant { start: Start::Snapshot, v2: true, cluster_size: 1024, size: 1 << 20, ..PLAIN },
    Variant { start: Start::Compressed("zlib"), ..PLAIN },
    Variant { start: Start::Compressed("zstd"), cluster_size: 4096, size: 1 << 20, ..PLAIN },
    Variant { start: Start::Compressed("zlib"), cluster_size: 512, size: 1 << 20, ..PLAIN },
];

/// A byte that tells where it is.
fn backing_byte(at: u64) -> u8 {
    (at / 512 % 251) as u8 + 1
}

struct World {
    scratch: Scratch,
    path: PathBuf,
    raw: PathBuf,
    model: Vec<u8>,
    /// What the snapshot holds.
    snapshot: Option<Vec<u8>>,
    variant: Variant,
}

impl World {
    fn new(variant: Variant) -> Self {
        let scratch = Scratch::new();
        let (path, raw, base) = (scratch.path("image.qcow2"), scratch.path("model.raw"), scratch.path("base.raw"));
        let cluster_size = variant.cluster_size.to_string();
        let refcount_bits = variant.refcount_bits.to_string();
        let mut options = vec![("cluster_size", cluster_size.as_str()), ("refcount_bits", &refcount_bits)];
        options.push(("compat", if variant.v2 { "0.10" } else { "1.1" }));
        let mut model = vec![0; variant.size as usize];
        let base_name = base.to_str().unwrap().to_owned();
        if variant.backing {
            // Shorter than the image, and with a hole.
            let content: Vec<u8> = (0..variant.size / 4 * 3)
                .map(|at| if (300_000..600_000).contains(&at) { 0 } else { backing_byte(at) })
                .collect();
            model[..content.len()].copy_from_slice(&content);
            std::fs::write(&base, &content).unwrap();
            options.extend([("backing_file", base_name.as_str()), ("backing_fmt", "raw")]);
        }
        create(&path, variant.size, &options).unwrap();
        let mut world = Self { scratch, path, raw, model, snapshot: None, variant };
        match variant.start {
            Start::Empty => {}
            Start::Snapshot => world.take_snapshot(),
            Start::Compressed(kind) => world.compress(kind),
        }
        world
    }

    /// Writes with the peer's program, and takes a snapshot.
    fn take_snapshot(&mut self) {
        let path = self.path.to_str().unwrap().to_owned();
        let (size, cs) = (self.variant.size, self.variant.cluster_size);
        let (first, second) = (size / 8, size / 2 / cs * cs);
        let writes = [format!("write -P 77 {first} {}", size / 4), format!("write -P 78 {second} {cs}")];
        let Some((0, _)) = peer("qemu-io", &["-f", "qcow2", "-c", &writes[0], "-c", &writes[1], &path]) else { return };
        self.put(first, size / 4, 77);
        self.put(second, cs, 78);
        assert_eq!(peer("qemu-img", &["snapshot", "-c", "before", &path]).unwrap().0, 0);
        self.snapshot = Some(self.model.clone());
    }

    /// Makes the image anew by the peer's program, compressed.
    fn compress(&mut self, kind: &str) {
        let third = self.variant.size as usize / 3;
        for (at, byte) in self.model.iter_mut().enumerate().skip(third / 2).take(third) {
            *byte = backing_byte(at as u64);
        }
        std::fs::write(&self.raw, &self.model).unwrap();
        let options = format!("cluster_size={},compression_type={kind}", self.variant.cluster_size);
        let (raw, path) = (self.raw.to_str().unwrap(), self.path.to_str().unwrap());
        let args = ["convert", "-c", "-f", "raw", "-O", "qcow2", "-o", &options, raw, path];
        if peer("qemu-img", &args).is_none() {
            self.model.fill(0);
        }
    }

    fn put(&mut self, offset: u64, len: u64, byte: u8) {
        self.model[offset as usize..(offset + len) as usize].fill(byte);
    }

    /// What a discard does: whole clusters read as zeroes, where the format can say so.
    fn discard(&mut self, offset: u64, len: u64) {
        let cs = self.variant.cluster_size;
        let start = offset.next_multiple_of(cs);
        let end = if offset + len == self.variant.size { offset + len } else { (offset + len) / cs * cs };
        if start < end && !(self.variant.v2 && self.variant.backing) {
            self.put(start, end - start, 0);
        }
    }

    async fn run(&mut self, disk: Disk, op: &Op) -> Disk {
        match *op {
            Op::Write { offset, len, byte } => {
                disk.write(offset, &vec![byte; len as usize]).await;
                self.put(offset, len, byte);
            }
            Op::Zero { offset, len, unmap } => {
                let flags = ZeroFlags { unmap, ..ZeroFlags::default() };
                disk.backend.write_zeroes(offset, len, flags).await.unwrap();
                self.put(offset, len, 0);
            }
            Op::Discard { offset, len } => {
                disk.backend.discard(offset, len).await.unwrap();
                self.discard(offset, len);
            }
            Op::Flush => disk.backend.flush().await.unwrap(),
            Op::Reopen => {
                disk.close().await;
                return Disk::open(&self.path).await;
            }
            Op::Together(seed) => self.together(&disk, seed).await,
        }
        disk
    }

    /// Requests on neighbouring pieces of a few sectors, all at once: they meet in the same clusters.
    async fn together(&mut self, disk: &Disk, seed: u64) {
        let sectors = self.variant.size / 512;
        let mut at = seed % sectors.saturating_sub(64).max(1);
        let mut tasks = Vec::new();
        for i in 0..12 {
            let random = seed.wrapping_mul(i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
            let len = (random % (self.variant.cluster_size / 512 * 2).min(300) + 1).min(sectors - at);
            if len == 0 {
                break;
            }
            let (offset, bytes) = (at * 512, len * 512);
            at += len;
            let backend = disk.backend.clone();
            match random >> 16 & 3 {
                0 | 1 => {
                    let data = BufMut::from_slice(&vec![i as u8 + 100; bytes as usize]).freeze();
                    self.put(offset, bytes, i as u8 + 100);
                    tasks.push(rt::spawn(async move { backend.write(offset, data, WriteFlags::default()).await }));
                }
                2 => {
                    self.put(offset, bytes, 0);
                    let flags = ZeroFlags { unmap: random >> 18 & 1 == 0, ..ZeroFlags::default() };
                    tasks.push(rt::spawn(async move { backend.write_zeroes(offset, bytes, flags).await }));
                }
                _ => {
                    self.discard(offset, bytes);
                    tasks.push(rt::spawn(async move { backend.discard(offset, bytes).await }));
                }
            }
        }
        for task in tasks {
            task.await.unwrap().unwrap();
        }
    }

    async fn agrees(&self, disk: &Disk) {
        let content = disk.read(0, self.model.len()).await;
        // Equality of slices is fast without optimisation too.
        if content[..] == self.model[..] {
            return;
        }
        if let Some(at) = content.iter().zip(&self.model).position(|(a, b)| a != b) {
            panic!("byte {at:#x} is {} and should be {}", content[at], self.model[at]);
        }
    }

    /// What QEMU's programs find in the closed image.
    fn accepted_by_the_peer(&self) {
        let path = self.path.to_str().unwrap();
        let Some((code, text)) = peer("qemu-img", &["check", path]) else { return };
        assert_eq!(code, 0, "{text}");
        self.same_content(&self.path, &self.model);
        if let Some(snapshot) = &self.snapshot {
            let copy = self.scratch.path("applied.qcow2");
            std::fs::copy(&self.path, &copy).unwrap();
            assert_eq!(peer("qemu-img", &["snapshot", "-a", "before", copy.to_str().unwrap()]).unwrap().0, 0);
            self.same_content(&copy, snapshot);
        }
    }

    fn same_content(&self, image: &Path, content: &[u8]) {
        std::fs::write(&self.raw, content).unwrap();
        let (image, raw) = (image.to_str().unwrap(), self.raw.to_str().unwrap());
        let (code, text) = peer("qemu-img", &["compare", "-f", "qcow2", "-F", "raw", image, raw]).unwrap();
        assert_eq!(code, 0, "{text}");
    }
}

fn any_op(variant: Variant) -> impl Strategy<Value = Op> {
    let range = move || {
        let sectors = variant.size / 512;
        let longest = (variant.cluster_size / 512 * 5).clamp(64, 2048);
        (0..sectors, 1..longest, any::<bool>()).prop_map(move |(at, len, aligned)| {
            let unit = if aligned { variant.cluster_size } else { 512 };
            let offset = at * 512 / unit * unit;
            (offset, (len * 512).next_multiple_of(unit).min(variant.size - offset))
        })
    };
    prop_oneof![
        6 => (range(), 1..=255u8).prop_map(|((offset, len), byte)| Op::Write { offset, len, byte }),
        3 => (range(), any::<bool>()).prop_map(|((offset, len), unmap)| Op::Zero { offset, len, unmap }),
        3 => range().prop_map(|(offset, len)| Op::Discard { offset, len }),
        2 => Just(Op::Flush),
        1 => Just(Op::Reopen),
        2 => any::<u64>().prop_map(|seed| Op::Together(seed >> 1)),
    ]
}

fn any_run() -> impl Strategy<Value = (Variant, Vec<Op>)> {
    (0..VARIANTS.len()).prop_flat_map(|i| {
        (Just(VARIANTS[i]), proptest::collection::vec(any_op(VARIANTS[i]), 1..40))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_written_is_read_and_the_peer_finds_no_fault((variant, ops) in any_run()) {
        let mut world = World::new(variant);
        rt::block_on_control(async {
            let mut disk = Disk::open(&world.path).await;
            for op in &ops {
                disk = world.run(disk, op).await;
            }
            world.agrees(&disk).await;
            disk.close().await;
        });
        world.accepted_by_the_peer();
    }
}

/// An image of the peer's with some data, opened by us.
fn peer_image(scratch: &Scratch, options: &str, size: &str, commands: &[&str]) -> Option<PathBuf> {
    let path = scratch.path("peer.qcow2");
    let mut create = vec!["create", "-q", "-f", "qcow2"];
    if !options.is_empty() {
        create.extend(["-o", options]);
    }
    create.extend([path.to_str().unwrap(), size]);
    let (code, text) = peer("qemu-img", &create)?;
    assert_eq!(code, 0, "{text}");
    for command in commands {
        let (code, text) = peer("qemu-io", &["-f", "qcow2", "-c", command, path.to_str().unwrap()])?;
        assert_eq!(code, 0, "{text}");
    }
    Some(path)
}

fn checked_by_peer(path: &Path) {
    if let Some((code, text)) = peer("qemu-img", &["check", path.to_str().unwrap()]) {
        assert_eq!(code, 0, "{text}");
    }
}

#[test]
fn refcount_structures_grow_with_the_image() {
    // 64 counts a block, 64 entries in the first table cluster: both grow many times over.
    for (cluster_size, bits, size) in [("512", "64", 12 << 20), ("512", "1", 4 << 20), ("1024", "32", 24 << 20)] {
        let scratch = Scratch::new();
        let path = scratch.path("image.qcow2");
        create(&path, size, &[("cluster_size", cluster_size), ("refcount_bits", bits)]).unwrap();
        let content: Vec<u8> = (0..size).map(backing_byte).collect();
        rt::block_on_control(async {
            let disk = Disk::open(&path).await;
            for (i, piece) in content.chunks(700_000).enumerate() {
                disk.write(i as u64 * 700_000, piece).await;
            }
            disk.close().await;
            let disk = Disk::open(&path).await;
            assert!(disk.read(0, size as usize).await[..] == content[..]);
            disk.backend.write_zeroes(0, size, ZeroFlags { unmap: true, ..ZeroFlags::default() }).await.unwrap();
            disk.backend.flush().await.unwrap();
            disk.write(5000, &content[..4_000_000]).await;
            disk.close().await;
        });
        checked_by_peer(&path);
    }
}

#[test]
fn a_resize_shows_zeroes_and_never_old_data() {
    let sizes = [1 << 20, (5 << 20) + 512, (1 << 20) + 1024, 9 << 20, 100_352, 0, 700_416, 3 << 20];
    for variant in [1, 2, 5, 6, 7, 8, 11].map(|i| VARIANTS[i]) {
        for preallocation in ["off", "metadata", "falloc", "full"] {
            let mut world = World::new(variant);
            rt::block_on_control(async {
                let mut disk = Disk::open(&world.path).await;
                for (i, size) in sizes.into_iter().enumerate() {
                    let old = world.model.len() as u64;
                    if old > 4096 {
                        let (offset, len) = (old - 4096, 4096);
                        disk.write(offset, &[i as u8 + 1; 4096]).await;
                        world.put(offset, len, i as u8 + 1);
                    }
                    let preallocation = if size < old { "off" } else { preallocation };
                    disk.graph.resize(&disk.backend.node(), size, preallocation).await.unwrap();
                    world.model.resize(size as usize, 0);
                    world.agrees(&disk).await;
                    if i % 3 == 2 {
                        disk.close().await;
                        disk = Disk::open(&world.path).await;
                        world.agrees(&disk).await;
                    }
                }
                disk.close().await;
            });
            world.accepted_by_the_peer();
        }
    }
}

#[test]
fn a_shrunk_image_gives_its_space_back() {
    let scratch = Scratch::new();
    let path = scratch.path("image.qcow2");
    create(&path, 40 << 20, &[]).unwrap();
    rt::block_on_control(async {
        let disk = Disk::open(&path).await;
        disk.write(0, &vec![7; 40 << 20]).await;
        disk.graph.resize(&disk.backend.node(), 1 << 20, "off").await.unwrap();
        assert!(path.metadata().unwrap().len() < 2 << 20);
        disk.close().await;
    });
    checked_by_peer(&path);
}

#[test]
fn bitmaps_are_declared_inconsistent_before_the_first_write_and_not_by_reading() {
    let scratch = Scratch::new();
    let Some(path) = peer_image(&scratch, "", "4M", &["write 0 1M"]) else { return };
    assert_eq!(peer("qemu-img", &["bitmap", "--add", path.to_str().unwrap(), "b0"]).unwrap().0, 0);
    rt::block_on_control(async {
        let disk = Disk::open(&path).await;
        disk.read(0, 4 << 20).await;
        disk.close().await;
        assert_eq!(header(&path).unwrap().autoclear, 1);
        let disk = Disk::open(&path).await;
        // Not flushed by us: the header is durable by itself, before the data.
        disk.write(512, &[1; 512]).await;
        assert_eq!(std::fs::read(&path).unwrap()[88..96], [0; 8]);
        disk.close().await;
    });
}

/// Bytes of a file changed in place.
fn patch(path: &Path, offset: u64, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;
    std::fs::File::options().write(true).open(path).unwrap().write_all_at(bytes, offset).unwrap();
}

fn word_at(path: &Path, offset: u64) -> u64 {
    let bytes = std::fs::read(path).unwrap();
    u64::from_be_bytes(bytes[offset as usize..offset as usize + 8].try_into().unwrap())
}

/// Opens the image and does one request on it; the error must name what is wrong.
async fn fails(path: &Path, read_only: bool, write: bool, words: &str) {
    let common = Common { read_only, ..Common::default() };
    let disk = Disk::try_open(path, common).await.unwrap();
    let error = if write {
        disk.backend.write(0, Buf::from_slice(&[1; 512]), WriteFlags::default()).await.unwrap_err()
    } else {
        disk.backend.read(0, BufMut::with_len(512)).await.1.unwrap_err()
    };
    assert!(error.to_string().contains(words), "{error}");
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    // The other clusters can still be read.
    let (content, result) = disk.backend.read(128 << 10, BufMut::with_len(512)).await;
    result.unwrap();
    assert_eq!(content[..], [3; 512]);
    let closed = disk.graph.detach(&disk.backend).await;
    assert_eq!(closed.is_ok(), read_only, "{closed:?}");
}

#[test]
fn each_wrong_table_entry_is_an_error_that_names_it_and_marks_the_image_corrupt() {
    let l2_entries: [(u64, &str); 8] = [
        (1 << 63, "header"),
        (1 << 63 | 0x9_0200, "not aligned"),
        (1 << 63 | 0x4000_0000, "beyond the end"),
        (1 << 63 | 0x3_0000, "active L1 table"),
        (1 << 63 | 0x1_0000, "refcount table"),
        (1 << 63 | 0x4_0000, "active L2 table"),
        (1 << 58 | 0x5_0000, "reserved bits"),
        (1 << 63 | 1 << 62 | 0x5_0000, "compressed"),
    ];
    for (entry, words) in l2_entries {
        for write in [false, true] {
            let scratch = Scratch::new();
            let writes = ["write -P 1 0 64k", "write -P 3 128k 64k"];
            let Some(path) = peer_image(&scratch, "", "4M", &writes) else { return };
            let l2 = word_at(&path, 0x3_0000) & !(1 << 63);
            patch(&path, l2, &u64::to_be_bytes(entry));
            rt::block_on_control(async {
                if !write {
                    fails(&path, true, false, words).await;
                    assert!(!header(&path).unwrap().is_corrupt());
                }
                fails(&path, false, write, words).await;
                assert!(header(&path).unwrap().is_corrupt(), "{words}");
                // Marked: no more writers, readers still.
                let refused = Disk::try_open(&path, Common::default()).await.map(drop).unwrap_err();
                assert!(refused.to_string().contains("corrupt"), "{refused}");
                fails(&path, true, false, words).await;
            });
        }
    }
}

#[test]
fn each_wrong_l1_entry_is_an_error_that_names_it() {
    let entries: [(u64, &str); 6] = [
        (1 << 63, "header"),
        (1 << 63 | 0x9_0200, "not aligned"),
        (1 << 63 | 0x4000_0000, "beyond the end"),
        (1 << 63 | 0x3_0000, "active L1 table"),
        (1 << 63 | 0x1_0000, "refcount table"),
        (1 << 57 | 0x4_0000, "reserved bits"),
    ];
    for (entry, words) in entries {
        let scratch = Scratch::new();
        let Some(path) = peer_image(&scratch, "", "4M", &["write 0 64k"]) else { return };
        patch(&path, 0x3_0000, &u64::to_be_bytes(entry));
        rt::block_on_control(async {
            for (read_only, write) in [(true, false), (false, true)] {
                let disk = Disk::try_open(&path, Common { read_only, ..Common::default() }).await.unwrap();
                let error = if write {
                    disk.backend.write(0, Buf::from_slice(&[1; 512]), WriteFlags::default()).await.unwrap_err()
                } else {
                    disk.backend.read(0, BufMut::with_len(512)).await.1.unwrap_err()
                };
                assert!(error.to_string().contains(words), "{error}");
                assert_eq!(disk.graph.detach(&disk.backend).await.is_ok(), read_only);
            }
            assert!(header(&path).unwrap().is_corrupt());
        });
    }
}

#[test]
fn clusters_that_wrong_refcounts_call_free_are_not_overwritten_when_they_hold_metadata() {
    let scratch = Scratch::new();
    let Some(path) = peer_image(&scratch, "", "4M", &["write -P 1 0 64k"]) else { return };
    let before = std::fs::read(&path).unwrap();
    // Counts of header, refcount table, refcount block, L1 and L2: every one of them in turn.
    for cluster in 0..5 {
        std::fs::write(&path, &before).unwrap();
        patch(&path, 0x2_0000 + cluster * 2, &[0, 0]);
        rt::block_on_control(async {
            let disk = Disk::try_open(&path, Common::default()).await.unwrap();
            let data = Buf::from_slice(&[1; 512]);
            let error = disk.backend.write(1 << 20, data, WriteFlags::default()).await.unwrap_err();
            assert!(error.to_string().contains("free that overlap the"), "{error}");
            disk.graph.detach(&disk.backend).await.unwrap_err();
        });
        let after = std::fs::read(&path).unwrap();
        let same = (80..after.len()).filter(|at| before[*at] != after[*at]).collect::<Vec<_>>();
        assert_eq!(same, [(0x2_0000 + cluster * 2 + 1) as usize], "only the count that was patched differs");
    }
}

#[test]
fn an_image_that_was_left_dirty_is_repaired_when_it_is_opened_for_writing() {
    let scratch = Scratch::new();
    let Some(path) = peer_image(&scratch, "lazy_refcounts=on", "4M", &["write -P 1 0 64k"]) else { return };
    // As lazy refcounts leave an image: dirty, the data cluster not counted.
    patch(&path, 79, &[1]);
    patch(&path, 0x2_0000 + 5 * 2, &[0, 0]);
    rt::block_on_control(async {
        let disk = Disk::try_open(&path, Common { read_only: true, ..Common::default() }).await.unwrap();
        assert_eq!(disk.read(0, 512).await[..], [1; 512]);
        disk.close().await;
        assert!(header(&path).unwrap().is_dirty());
        let disk = Disk::open(&path).await;
        disk.write(1 << 20, &[2; 512]).await;
        assert_eq!(disk.read(0, 512).await[..], [1; 512]);
        disk.close().await;
    });
    assert!(!header(&path).unwrap().is_dirty());
    checked_by_peer(&path);
}

#[test]
fn a_node_turns_read_only_and_writable_again_in_place() {
    let scratch = Scratch::new();
    let path = scratch.path("image.qcow2");
    create(&path, 4 << 20, &[]).unwrap();
    rt::block_on_control(async {
        let disk = Disk::open(&path).await;
        for round in 1..4u8 {
            disk.write(u64::from(round) << 18, &[round; 4096]).await;
            disk.backend.discard(0, 1 << 18).await.unwrap();
            // A writer may not be there while the node is read-only.
            disk.graph.set_perms(&disk.backend, Perms::READER).await.unwrap();
            disk.graph.set_writable(&disk.backend.node(), false).await.unwrap();
            checked_by_peer(&path);
            let (data, flags) = (Buf::from_slice(&[9; 512]), WriteFlags::default());
            disk.backend.write(0, data, flags).await.unwrap_err();
            assert_eq!(disk.read(u64::from(round) << 18, 4096).await[..], [round; 4096]);
            disk.graph.set_writable(&disk.backend.node(), true).await.unwrap();
            disk.write(0, &[round; 70_000]).await;
        }
        disk.close().await;
    });
    checked_by_peer(&path);
}
