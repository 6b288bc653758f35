//! The live driver against a model in memory and against QEMU's own programs.
mod bitmaps;
mod bomb;
mod chain;
mod layout;
mod random;
mod resize;
mod states;
mod wrong;

use super::*;
use block::{Backend, BackendRequest, Common, Discard, Flags, Perms, Request, Share};
use rt::{Buf, BufMut};

/// An image that is open for writing.
struct Disk {
    graph: Graph,
    backend: Arc<Backend>,
}

fn graph() -> Graph {
    Graph::new(Registry::new(&[protocols::DRIVERS, filters::DRIVERS, crate::DRIVERS]), |_| Ok(Options::new()))
}

impl Disk {
    async fn open(path: &Path) -> Self {
        Self::try_open(path, Common { discard: Discard::Unmap, ..Common::default() }).await.unwrap()
    }

    async fn try_open(path: &Path, common: Common) -> block::Result<Self> {
        Self::open_with(path, common, Options::new()).await
    }

    /// `options`: the driver's own.
    async fn open_with(path: &Path, common: Common, options: Options) -> block::Result<Self> {
        let own = options;
        let graph = graph();
        let perms =
            if common.read_only { Perms::READER } else { Perms { share: Share::ALL, ..Perms::WRITER } };
        // Small caches, so that pages are evicted and epochs come early.
        let options = graph.image_options(path.to_str().unwrap(), Some("qcow2"))?;
        let options = options.with_str("l2-cache-size", "65536").with_str("refcount-cache-size", "65536");
        let options = own.iter().fold(options, |all, (name, value)| all.with(name, value.clone()));
        let node = graph.open_with(options, common, Policy::FOLLOW).await?;
        let request = BackendRequest { label: "test".to_owned(), node, perms, pinned: false };
        let backend = graph.attach(request).await?;
        Ok(Self { graph, backend })
    }

    async fn write(&self, offset: u64, data: &[u8]) {
        let done = self.backend.try_write(offset, data, Request::GUEST).unwrap();
        if done < data.len() {
            let rest = Buf::from_slice(&data[done..]);
            self.backend.write(offset + done as u64, rest, Request::GUEST).await.unwrap();
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

    /// Reads and keeps so many bytes of a table at a time from now on.
    async fn read_tables_by(&self, bytes: u64) {
        let node = self.backend.node();
        let name = |child: Option<Arc<Node>>| child.map(|child| block::Opt::Str(child.name().to_owned()));
        let options = Options::new()
            .with_str("driver", "qcow2")
            .with_str("node-name", node.name())
            .with("l2-cache-size", block::Opt::Uint(65536))
            .with("l2-cache-entry-size", block::Opt::Uint(bytes))
            .with_str("discard", "unmap")
            .with("backing", name(node.backing()).unwrap_or(block::Opt::Null))
            .with("file", name(node.primary()).unwrap());
        self.graph.reopen(vec![options]).await.unwrap();
    }

    async fn close(self) {
        self.graph.detach(&self.backend).await.unwrap();
    }
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
    /// The backing file is longer than the image, not shorter.
    long_backing: bool,
    lazy: bool,
    size: u64,
}

const PLAIN: Variant = Variant {
    start: Start::Empty,
    cluster_size: 65536,
    refcount_bits: 16,
    v2: false,
    backing: false,
    long_backing: false,
    lazy: false,
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
    Variant {
        start: Start::Snapshot,
        cluster_size: 512,
        refcount_bits: 2,
        backing: true,
        size: 1 << 20,
        ..PLAIN
    },
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
        let (path, raw, base) =
            (scratch.path("image.qcow2"), scratch.path("model.raw"), scratch.path("base.raw"));
        let cluster_size = variant.cluster_size.to_string();
        let refcount_bits = variant.refcount_bits.to_string();
        let mut options = vec![("cluster_size", cluster_size.as_str()), ("refcount_bits", &refcount_bits)];
        options.push(("compat", if variant.v2 { "0.10" } else { "1.1" }));
        options.push(("lazy_refcounts", if variant.lazy { "on" } else { "off" }));
        let mut model = vec![0; variant.size as usize];
        let base_name = base.to_str().unwrap().to_owned();
        if variant.backing {
            // With a hole.
            let len = if variant.long_backing { variant.size + 100_000 } else { variant.size / 4 * 3 };
            let content: Vec<u8> = (0..len)
                .map(|at| if (300_000..600_000).contains(&at) { 0 } else { backing_byte(at) })
                .collect();
            let shown = content.len().min(model.len());
            model[..shown].copy_from_slice(&content[..shown]);
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
        let Some((0, _)) = peer("qemu-io", &["-f", "qcow2", "-c", &writes[0], "-c", &writes[1], &path])
        else {
            return;
        };
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
        let to_end = offset + len == self.model.len() as u64;
        let end = if to_end { offset + len } else { (offset + len) / cs * cs };
        if start < end && !(self.variant.v2 && self.variant.backing) {
            self.put(start, end - start, 0);
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

/// Bytes of a file changed in place.
fn patch(path: &Path, offset: u64, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;
    std::fs::File::options().write(true).open(path).unwrap().write_all_at(bytes, offset).unwrap();
}

fn word_at(path: &Path, offset: u64) -> u64 {
    let bytes = std::fs::read(path).unwrap();
    u64::from_be_bytes(bytes[offset as usize..offset as usize + 8].try_into().unwrap())
}
