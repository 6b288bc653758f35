//! Random requests, one after the other and at once.
use super::*;
use api::PreallocMode;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Op {
    Write {
        offset: u64,
        len: u64,
        byte: u8,
    },
    /// The whole clusters of a range, some of which do not shrink.
    Compressed {
        offset: u64,
        len: u64,
        seed: u64,
    },
    Zero {
        offset: u64,
        len: u64,
        unmap: bool,
    },
    Discard {
        offset: u64,
        len: u64,
    },
    Flush,
    Reopen,
    /// From now on so many bytes are read of a table at a time, at most a table.
    Slices(u64),
    Resize {
        size: u64,
        preallocation: PreallocMode,
    },
    /// Several writes, zeroes and discards at once, on ranges that do not overlap.
    Together(u64),
}

impl World {
    /// A range as far as it is inside the disk, whose size may have changed.
    fn inside(&self, offset: u64, len: u64) -> (u64, u64) {
        let size = self.model.len() as u64;
        let offset = offset.min(size);
        (offset, len.min(size - offset))
    }

    /// The bytes of a range up to the end of its last cluster, or of the disk.
    fn whole_clusters(&self, offset: u64, len: u64) -> u64 {
        len.next_multiple_of(self.variant.cluster_size).min(self.model.len() as u64 - offset)
    }

    async fn run(&mut self, disk: Disk, op: &Op) -> Disk {
        match *op {
            Op::Write { offset, len, byte } => {
                let (offset, len) = self.inside(offset, len);
                disk.write(offset, &vec![byte; len as usize]).await;
                self.put(offset, len, byte);
            }
            Op::Compressed { offset, len, seed } => {
                let (offset, len) = self.inside(offset, len);
                let within = offset % self.variant.cluster_size;
                let (offset, len) = (offset - within, self.whole_clusters(offset - within, len + within));
                let data = some_noise(len, self.variant.cluster_size, seed);
                let request = Request::GUEST.with(Flags::COMPRESSED);
                disk.backend.write(offset, Buf::from_slice(&data), request).await.unwrap();
                self.model[offset as usize..(offset + len) as usize].copy_from_slice(&data);
            }
            Op::Zero { offset, len, unmap } => {
                let (offset, len) = self.inside(offset, len);
                let flags = Request::GUEST.with_if(unmap, Flags::MAY_UNMAP);
                disk.backend.write_zeroes(offset, len, flags).await.unwrap();
                self.put(offset, len, 0);
            }
            Op::Discard { offset, len } => {
                let (offset, len) = self.inside(offset, len);
                disk.backend.discard(offset, len, Request::GUEST).await.unwrap();
                self.discard(offset, len);
            }
            Op::Flush => disk.backend.flush().await.unwrap(),
            Op::Reopen => {
                disk.close().await;
                return Disk::open(&self.path).await;
            }
            Op::Slices(bytes) => disk.read_tables_by(bytes.min(self.variant.cluster_size)).await,
            Op::Resize { size, preallocation } => {
                let preallocation =
                    if size < self.model.len() as u64 { PreallocMode::Off } else { preallocation };
                disk.graph.resize(&disk.backend.node(), size, preallocation).await.unwrap();
                self.model.resize(size as usize, 0);
            }
            Op::Together(seed) => self.together(&disk, seed).await,
        }
        disk
    }

    /// Requests on neighbouring pieces of a few sectors, all at once: they meet in the same clusters.
    async fn together(&mut self, disk: &Disk, seed: u64) {
        let sectors = self.model.len() as u64 / 512;
        // Half of them by whole clusters.
        let unit = if seed & 1 == 0 { 1 } else { self.variant.cluster_size / 512 };
        let mut at = seed % sectors.saturating_sub(64).max(1) / unit * unit;
        let mut tasks = Vec::new();
        for i in 0..12 {
            let random = seed.wrapping_mul(i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
            let len = random % (self.variant.cluster_size / 512 * 2).min(300) + 1;
            let len = len.next_multiple_of(unit).min(sectors - at);
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
                    let packed = unit > 1 && random >> 18 & 1 == 0;
                    let request = Request::GUEST.with_if(packed, Flags::COMPRESSED);
                    tasks.push(on(i, async move { backend.write(offset, data, request).await }));
                }
                2 => {
                    self.put(offset, bytes, 0);
                    let flags = Request::GUEST.with_if(random >> 18 & 1 == 0, Flags::MAY_UNMAP);
                    tasks.push(on(i, async move { backend.write_zeroes(offset, bytes, flags).await }));
                }
                _ => {
                    self.discard(offset, bytes);
                    tasks.push(on(i, async move { backend.discard(offset, bytes, Request::GUEST).await }));
                }
            }
        }
        for task in tasks {
            task.await.unwrap().unwrap();
        }
    }
}

/// Clusters of one byte each, and some of noise.
fn some_noise(len: u64, cluster_size: u64, seed: u64) -> Vec<u8> {
    let mut data = vec![0; len as usize];
    for (i, cluster) in data.chunks_mut(cluster_size as usize).enumerate() {
        let mut random = random_of(seed.wrapping_add(i as u64) >> 1);
        match random(4) {
            0 => cluster.iter_mut().for_each(|byte| *byte = random(256) as u8),
            _ => cluster.fill(random(255) as u8),
        }
    }
    data
}

/// A task on one of the data workers: those run in parallel.
fn on<F: Future<Output: Send + 'static> + Send + 'static>(worker: u64, task: F) -> rt::JoinHandle<F::Output> {
    rt::spawn_on(rt::Target::Worker(worker as usize), task)
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
        4 => (range(), any::<u64>()).prop_map(|((offset, len), seed)| Op::Compressed { offset, len, seed }),
        3 => (range(), any::<bool>()).prop_map(|((offset, len), unmap)| Op::Zero { offset, len, unmap }),
        3 => range().prop_map(|(offset, len)| Op::Discard { offset, len }),
        2 => Just(Op::Flush),
        1 => Just(Op::Reopen),
        1 => (9..17u32).prop_map(|bits| Op::Slices(1 << bits)),
        2 => any::<u64>().prop_map(|seed| Op::Together(seed >> 1)),
    ]
}

fn any_variant() -> impl Strategy<Value = Variant> {
    let start = prop_oneof![
        4 => Just(Start::Empty),
        2 => Just(Start::Snapshot),
        1 => Just(Start::Compressed("zlib")),
        1 => Just(Start::Compressed("zstd")),
    ];
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), 0..5u32);
    (start, 9..=21u32, 0..=6u32, flags, 1..=64u64, 0..8u64).prop_map(
        |(start, bits, order, (backing, long_backing, lazy, version), clusters, sectors)| {
            // The compressed start makes the image anew.
            let plain = matches!(start, Start::Compressed(_));
            let v2 = version == 0 && !plain;
            let refcount_bits =
                if v2 { 16 } else { (1 << order).max(2 * u32::from(start == Start::Snapshot)) };
            let cluster_size = 1 << bits;
            let size =
                (cluster_size * clusters).clamp(64 << 10, 10 << 20).max(3 * cluster_size) + sectors * 512;
            let backing = backing && !plain;
            Variant { start, cluster_size, refcount_bits, v2, backing, long_backing, lazy: lazy && !v2, size }
        },
    )
}

fn any_resize(variant: Variant) -> impl Strategy<Value = Op> {
    let reserving = vec![PreallocMode::Metadata, PreallocMode::Falloc, PreallocMode::Full];
    let mode = prop_oneof![3 => Just(PreallocMode::Off), 3 => prop::sample::select(reserving)];
    (1..variant.size / 512 * 3 / 2, mode)
        .prop_map(|(sectors, preallocation)| Op::Resize { size: sectors * 512, preallocation })
}

fn any_run() -> impl Strategy<Value = (Variant, Vec<Op>)> {
    prop_oneof![(0..VARIANTS.len()).prop_map(|i| VARIANTS[i]), any_variant()].prop_flat_map(|variant| {
        // Version 2 does not say how large the disk of a snapshot is.
        let fixed = variant.v2 && variant.start == Start::Snapshot;
        let op = prop_oneof![
            12 => any_op(variant),
            u32::from(!fixed) => any_resize(variant),
        ];
        (Just(variant), proptest::collection::vec(op, 1..40))
    })
}

/// Runs; `QCOW2_RANDOM_CASES` asks for so many.
fn cases() -> u32 {
    std::env::var("QCOW2_RANDOM_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(64)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

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

/// The random numbers of worker `me`, each below what is asked.
fn random_of(me: u64) -> impl FnMut(u64) -> u64 {
    let mut seed = me + 88_172_645_463_325_252;
    move |below| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    }
}

/// Works on the clusters whose number leaves `me` when divided by 4, and remembers what they hold.
async fn work(backend: Arc<Backend>, me: u64, cluster_size: u64) -> Vec<(u64, Vec<u8>)> {
    let clusters = backend.length() / cluster_size;
    let mut mine: Vec<_> =
        (me..clusters).step_by(4).map(|c| (c * cluster_size, vec![0u8; cluster_size as usize])).collect();
    let mut random = random_of(me);
    for step in 0..1500 {
        let at = random(mine.len() as u64) as usize;
        let Some((offset, content)) = mine.get_mut(at) else { continue };
        let (first, byte) = (random(cluster_size / 512) * 512, random(255) as u8);
        match random(12) {
            0 => {
                content.copy_from_slice(&some_noise(cluster_size, cluster_size, random(u64::MAX)));
                let request = Request::GUEST.with(Flags::COMPRESSED);
                backend.write(*offset, Buf::from_slice(content), request).await.unwrap();
            }
            1..=5 => {
                let len = 512.max(random(cluster_size - first) / 512 * 512);
                content[first as usize..(first + len) as usize].fill(byte);
                let data = Buf::from_slice(&vec![byte; len as usize]);
                backend.write(*offset + first, data, Request::GUEST).await.unwrap();
            }
            n @ 6..=8 => {
                content.fill(0);
                let flags = Request::GUEST.with_if(n != 6, Flags::MAY_UNMAP);
                backend.write_zeroes(*offset, cluster_size, flags).await.unwrap();
            }
            9 => {
                content.fill(0);
                backend.discard(*offset, cluster_size, Request::GUEST).await.unwrap();
            }
            10 => {
                let (read, result) = backend.read(*offset, BufMut::with_len(content.len())).await;
                result.unwrap();
                assert!(read[..] == content[..], "worker {me}, step {step}, offset {offset:#x}");
            }
            _ => backend.flush().await.unwrap(),
        }
    }
    mine
}

#[test]
fn workers_in_parallel_on_neighbouring_clusters_do_not_disturb_each_other() {
    for (cluster_size, refcount_bits) in [(65536, 16), (512, 1), (4096, 64)] {
        let size = cluster_size * 96;
        let variant = Variant { cluster_size, refcount_bits, size, ..PLAIN };
        let mut world = World::new(variant);
        rt::block_on_control(async {
            let disk = Disk::open(&world.path).await;
            let backend = || disk.backend.clone();
            let tasks: Vec<_> = (0..4).map(|me| on(me, work(backend(), me, cluster_size))).collect();
            for task in tasks {
                for (offset, content) in task.await.unwrap() {
                    world.model[offset as usize..offset as usize + content.len()].copy_from_slice(&content);
                }
            }
            world.agrees(&disk).await;
            disk.close().await;
        });
        world.accepted_by_the_peer();
    }
}

/// What the last requests of each worker left a sector as: `None` for zeroes, whatever was before after a discard.
type LastActs = Vec<Vec<Option<[u8; 8]>>>;

/// Works anywhere on the disk, together with others, and remembers what a sector may hold by its doing.
async fn collide(backend: Arc<Backend>, me: u64, cluster_size: u64) -> LastActs {
    let sectors = backend.length() / 512;
    let mut left: LastActs = vec![Vec::new(); sectors as usize];
    let mut random = random_of(me);
    for step in 0..2500u64 {
        let first = random(sectors);
        let count = (1 + random(3 * cluster_size / 512)).min(sectors - first);
        let (offset, len) = (first * 512, count * 512);
        let touched = &mut left[first as usize..(first + count) as usize];
        match random(12) {
            0..=4 => {
                let mut data = BufMut::zeroed(len as usize);
                for ((sector, content), acts) in (first..).zip(data.chunks_mut(512)).zip(touched) {
                    let stamp = (sector << 40 | me << 32 | (step + 1)).to_be_bytes();
                    content.chunks_mut(8).for_each(|word| word.copy_from_slice(&stamp));
                    *acts = vec![Some(stamp)];
                }
                backend.write(offset, data.freeze(), Request::GUEST).await.unwrap();
            }
            n @ 5..=7 => {
                touched.fill(vec![None]);
                let flags = Request::GUEST.with_if(n != 6, Flags::MAY_UNMAP);
                backend.write_zeroes(offset, len, flags).await.unwrap();
            }
            8 => {
                touched.iter_mut().for_each(|acts| acts.push(None));
                backend.discard(offset, len, Request::GUEST).await.unwrap();
            }
            9 | 10 => {
                let (content, result) = backend.read(offset, BufMut::with_len(len as usize)).await;
                result.unwrap();
                for (sector, content) in (first..).zip(content.chunks(512)) {
                    let (word, _) = content.as_chunks::<8>().0.split_first().unwrap();
                    let number = u64::from_be_bytes(*word);
                    assert!(number == 0 || number >> 40 == sector, "sector {sector} shows {number:#x}");
                }
            }
            _ => backend.flush().await.unwrap(),
        }
    }
    left
}

#[test]
fn workers_that_collide_leave_each_sector_as_the_last_request_of_one_of_them() {
    for (cluster_size, refcount_bits, lazy) in [(65536, 16, false), (512, 1, true), (4096, 64, false)] {
        let variant = Variant { cluster_size, refcount_bits, lazy, size: cluster_size * 24 + 512, ..PLAIN };
        let mut world = World::new(variant);
        rt::block_on_control(async {
            let disk = Disk::open(&world.path).await;
            let tasks: Vec<_> =
                (0..4).map(|me| on(me, collide(disk.backend.clone(), me, cluster_size))).collect();
            let mut left = Vec::new();
            for task in tasks {
                left.push(task.await.unwrap());
            }
            let content = disk.read(0, world.model.len()).await;
            for (sector, content) in content.chunks(512).enumerate() {
                let word: [u8; 8] = content[..8].try_into().unwrap();
                assert!(content.chunks(8).all(|other| other == word), "sector {sector} is torn");
                let seen = (word != [0; 8]).then_some(word);
                let allowed = left.iter().any(|acts| acts[sector].contains(&seen));
                let untouched = left.iter().all(|acts| acts[sector].is_empty());
                assert!(allowed || (untouched && seen.is_none()), "sector {sector} shows {word:x?}");
            }
            world.model.copy_from_slice(&content);
            disk.close().await;
        });
        world.accepted_by_the_peer();
    }
}
