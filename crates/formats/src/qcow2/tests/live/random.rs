//! Random requests, one after the other and at once.
use super::*;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Op {
    Write {
        offset: u64,
        len: u64,
        byte: u8,
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
    /// Several writes, zeroes and discards at once, on ranges that do not overlap.
    Together(u64),
}

impl World {
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
                    tasks.push(rt::spawn(
                        async move { backend.write(offset, data, WriteFlags::default()).await },
                    ));
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
    (0..VARIANTS.len())
        .prop_flat_map(|i| (Just(VARIANTS[i]), proptest::collection::vec(any_op(VARIANTS[i]), 1..40)))
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
