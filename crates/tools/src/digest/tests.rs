use super::*;
use proptest::prelude::*;

/// Byte `i` is `i` modulo 251.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

fn tree(data: &[u8]) -> Digest {
    let mut tree = Tree::default();
    data.chunks(LEAF as usize).for_each(|data| tree.push(leaf(data)));
    tree.finish(data.len() as u64)
}

fn zeroes(size: u64) -> Digest {
    let mut tree = Tree::default();
    tree.zeroes(size.div_ceil(LEAF));
    tree.finish(size)
}

/// The vectors of docs/hash.md, which a program without anything of ours has computed.
#[test]
fn the_digests_are_those_of_the_specification() {
    let page = include_str!("../../../../docs/hash.md");
    let (mut patterns, mut runs) = (0, 0);
    for line in page.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [what, size, digest] = cells[..] else { continue };
        let Some(digest) = Digest::parse(digest.trim_matches('`')) else { continue };
        let size: u64 = size.replace(',', "").parse().unwrap();
        match what {
            "pattern" => {
                assert_eq!(tree(&pattern(size as usize)), digest, "pattern of {size} bytes");
                patterns += 1;
            }
            "zeroes" => {
                assert_eq!(zeroes(size), digest, "{size} zeroes");
                runs += 1;
            }
            "a byte 1 in the middle" => {
                let mut tree = Tree::default();
                tree.zeroes(size / 2 / LEAF);
                tree.push(leaf(&[1]));
                tree.zeroes(size / 2 / LEAF - 1);
                assert_eq!(tree.finish(size), digest);
            }
            "blksum" => {
                let mut outer = Outer::default();
                pattern(size as usize)
                    .chunks(LEAF as usize)
                    .for_each(|data| outer.push(blkhash::block(data)));
                assert_eq!(outer.finish(size), digest, "blksum of {size} bytes");
            }
            other => panic!("{other}"),
        }
    }
    assert!(patterns >= 8 && runs >= 6);
}

/// Vectors of blkhash's own tests: of 64 KiB of 'A', of as many zeroes, and of eight times and a half as many.
#[test]
fn the_digests_of_blksum_are_those_that_its_project_publishes() {
    let of = |data: &[u8]| {
        let mut outer = Outer::default();
        data.chunks(LEAF as usize).for_each(|data| outer.push(blkhash::block(data)));
        outer.finish(data.len() as u64).to_string()
    };
    let half = LEAF as usize / 2;
    assert_eq!(of(&vec![b'A'; 2 * half]), "2e3a5f57d5e726ee5de62db1a85ff816f4fa6ea4627807d9a51bdc4c883e165e");
    assert_eq!(of(&vec![b'A'; half]), "9467334d6d7668a2f06898185b5cddc78cdfbd962f50c6bf250101f03a0e54dc");
    assert_eq!(of(&vec![0; 2 * half]), "8ab067ab7939a3d4f40cbb118956c07c06aeae2d075d6e0a2ebbb94bd42832af");
    assert_eq!(of(&vec![0; 17 * half]), "e623a5702b1feb08fbb3d18e35bbb7ec10146b8cd1bcff811200a3948c78c55c");
    let mut run = Outer::default();
    run.zeroes((1 << 30) / LEAF);
    let published = "c6d6562c3074a2caa0ceea3e1f460f3af678c792ed05e64157eb51e68ae5260d";
    assert_eq!(run.finish(1 << 30).to_string(), published);
}

#[test]
fn a_size_and_each_byte_of_the_content_count() {
    let data = pattern(3 * LEAF as usize + 5);
    let whole = tree(&data);
    for at in [0, 1, LEAF as usize - 1, LEAF as usize, data.len() - 1] {
        let mut changed = data.clone();
        changed[at] ^= 0x80;
        assert_ne!(tree(&changed), whole, "byte {at}");
    }
    assert_ne!(tree(&[data.clone(), vec![0]].concat()), whole);
    assert_ne!(zeroes(LEAF), zeroes(LEAF - 1));
    assert_ne!(zeroes(u64::MAX), zeroes(u64::MAX - 1));
}

#[derive(Clone, Debug)]
enum Run {
    Data(usize),
    WrittenZeroes(usize),
    Hole(usize),
}

fn any_run() -> impl Strategy<Value = Run> {
    let len = prop_oneof![0..5usize, 65530..65540usize, 0..300_000usize];
    (0..3, len).prop_map(|(kind, len)| match kind {
        0 => Run::Data(len),
        1 => Run::WrittenZeroes(len),
        _ => Run::Hole(len),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_digest_of_bytes_that_come_in_runs_is_that_of_all_of_them(runs in proptest::collection::vec(any_run(), 0..8)) {
        let (mut running, mut all) = (Running::default(), Vec::new());
        for run in runs {
            let (data, hole) = match run {
                Run::Data(len) => (pattern(len + 7)[7..].to_vec(), false),
                Run::WrittenZeroes(len) => (vec![0; len], false),
                Run::Hole(len) => (vec![0; len], true),
            };
            match hole {
                true => running.zeroes(data.len() as u64),
                false => running.data(&data),
            }
            all.extend(data);
        }
        prop_assert_eq!(running.size(), all.len() as u64);
        prop_assert_eq!(running.finish(), tree(&all));
    }

    #[test]
    fn a_run_of_zeroes_is_as_many_leaves_of_zeroes(before in 0..40u64, run in 0..600u64) {
        let (mut one, mut other) = (Tree::default(), Tree::default());
        for tree in [&mut one, &mut other] {
            (0..before).for_each(|at| tree.push(leaf(&[at as u8, 1])));
        }
        one.zeroes(run);
        (0..run).for_each(|_| other.push(leaf(&[])));
        prop_assert_eq!(one.finish(before), other.finish(before));
    }
}
