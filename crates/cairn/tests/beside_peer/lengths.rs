//! A cluster exists whole in the file: after each command of a random row the file is as long as all that its tables lead to,
//! and little longer than the peer's after the same row; the disks are the same.
use crate::pair::{Pair, peer_is_here, run};
use std::fs;
use std::path::Path;

/// Rows that are tried.
const SEEDS: u64 = 16;

/// Where an entry of a table leads.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const COMPRESSED: u64 = 1 << 62;

/// A generator of numbers that come again with their seed (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end.max(1)
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

fn number(bytes: &[u8], at: u64) -> u64 {
    u64::from_be_bytes(bytes[at as usize..at as usize + 8].try_into().unwrap())
}

/// The words of a table; what the file lacks of it is told as missing elsewhere.
fn words(bytes: &[u8], at: u64, count: u64) -> Vec<u64> {
    let end = (at + count * 8).min(bytes.len() as u64);
    (at..end.saturating_sub(7)).step_by(8).map(|at| number(bytes, at)).collect()
}

/// What the tables of an image lead to and the file does not hold whole.
fn missing(image: &Path) -> Vec<String> {
    let bytes = fs::read(image).unwrap();
    let cluster = 1 << (number(&bytes, 16) & 0xff);
    let (l1, l1_entries) = (number(&bytes, 40), number(&bytes, 32) & 0xffff_ffff);
    let (counts, counts_clusters) = (number(&bytes, 48), number(&bytes, 56) >> 32);
    let tables: Vec<_> = words(&bytes, l1, l1_entries).into_iter().map(|word| word & OFFSET).collect();
    let blocks = words(&bytes, counts, counts_clusters * cluster / 8);
    let data = tables.iter().filter(|at| **at != 0).flat_map(|at| words(&bytes, *at, cluster / 8));
    let data = data.filter(|word| word & COMPRESSED == 0).map(|word| word & OFFSET).collect();
    let whole = |at: &u64| *at != 0 && at + cluster > bytes.len() as u64;
    let told = |what: &str, places: Vec<u64>| {
        let short = places.into_iter().filter(whole);
        short.map(|at| format!("{what} at {at:#x} of {:#x} bytes", bytes.len())).collect::<Vec<_>>()
    };
    [told("table", tables), told("counts", blocks), told("data", data)].concat()
}

/// A row of commands on `a.qcow2`, over `b.qcow2` or alone.
fn row(random: &mut Random, cluster: u64) -> Vec<String> {
    let unit = cluster.min(1 << 20);
    let size = (1 + random.below(60)) * unit + 512 * random.below(2);
    let made = format!("qemu-img create -q -f qcow2 -o cluster_size={cluster}");
    let over = random.below(5) < 2;
    let mut lines = match over {
        true => vec![
            format!("qemu-img create -q -f qcow2 b.qcow2 {size}"),
            format!("qemu-io -c 'write -P 7 0 {}' b.qcow2", size.min(unit * 3 / 2).next_multiple_of(512)),
            format!("{made} -b b.qcow2 -F qcow2 a.qcow2"),
        ],
        false => {
            let reserved = random.one_of(&["off", "off", "metadata", "falloc", "full"]);
            vec![format!("{made},preallocation={reserved} a.qcow2 {size}")]
        }
    };
    let mut now = size;
    for _ in 0..2 + random.below(5) {
        let at = random.below(now / 512) * 512;
        let len = random.one_of(&[512, 1024, cluster, 2 * cluster, 5 * cluster]).min(now - at);
        lines.push(match random.below(8) {
            0 | 1 => format!("qemu-io -d unmap -c 'write -P 3 {at} {len}' a.qcow2"),
            2 => format!("qemu-io -d unmap -c 'write -P 4 {} 5' a.qcow2", at + random.below(500)),
            3 => format!("qemu-io -d unmap -c 'write -z {at} {len}' a.qcow2"),
            4 => format!("qemu-io -d unmap -c 'write -z -u {at} {len}' a.qcow2"),
            5 => format!("qemu-io -d unmap -c 'discard {at} {len}' a.qcow2"),
            6 => {
                now = (1 + random.below(2 * size / 512)) * 512;
                format!("qemu-img resize -q --shrink -f qcow2 a.qcow2 {now}")
            }
            _ if over => "qemu-img commit -q a.qcow2".to_owned(),
            _ => format!("qemu-img convert -O qcow2 -o cluster_size={cluster} a.qcow2 c.qcow2"),
        });
    }
    lines
}

#[test]
fn the_file_is_as_long_as_all_that_its_tables_lead_to_after_any_row_of_commands() {
    if !peer_is_here() {
        return;
    }
    for seed in 0..SEEDS {
        let mut random = Random(seed);
        let cluster = random.one_of(&[512, 4096, 65536, 65536, 2 << 20]);
        let pair = Pair::new(&format!("lengths-{seed}"));
        for line in row(&mut random, cluster) {
            pair.same(&line);
            for name in ["a.qcow2", "b.qcow2", "c.qcow2"] {
                let [ours, peer] = ["ours", "peer"].map(|folder| pair.root.join(folder).join(name));
                if !ours.exists() {
                    continue;
                }
                assert_eq!(missing(&ours), Vec::<String>::new(), "seed {seed}: {name} after {line}");
                let [ours, peer] = [ours, peer].map(|path| fs::metadata(path).unwrap().len());
                assert!(ours <= peer + 2 * cluster, "seed {seed}: {name} after {line}: {ours}, not {peer}");
            }
        }
        let same = run(&pair.root, None, "qemu-img compare ours/a.qcow2 peer/a.qcow2");
        assert!(same.status.success(), "seed {seed}: the disks differ");
        let sound = run(&pair.root, None, "qemu-img check ours/a.qcow2");
        assert!(sound.status.success(), "seed {seed}: {}", String::from_utf8_lossy(&sound.stdout));
    }
}

#[test]
fn five_bytes_make_a_file_of_the_length_that_the_peers_has() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("five-bytes");
    pair.given(&[
        "qemu-img create -q -f raw a.raw 64M",
        "qemu-io -f raw -c 'write -P 1 5M 5' a.raw",
        "qemu-img create -q -f qcow2 b.qcow2 64M",
        "qemu-img create -q -f qcow2 -b b.qcow2 -F qcow2 o.qcow2",
    ]);
    pair.all_same(&[
        "qemu-img convert -f raw -O qcow2 a.raw a.qcow2",
        "stat -c %s a.qcow2",
        "qemu-io -c 'write -P 1 5M 5' o.qcow2",
        "stat -c %s o.qcow2",
        "qemu-img commit -q o.qcow2",
        "stat -c %s b.qcow2",
        "qemu-img resize -q a.qcow2 65M",
        "stat -c %s a.qcow2",
    ]);
}
