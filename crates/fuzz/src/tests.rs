//! Each target on its seeds and on mutations of them, and the files of `fuzz/` held against the table of targets.

use super::*;
use mutate::mutate;
use sim::Rng;
use std::path::PathBuf;

/// Mutations of each target, unless `FUZZ_COUNT` in the environment says otherwise.
const COUNT: u64 = 200;

/// Memory that all targets together may have used at once, in KiB.
const MOST_KIB: u64 = 1 << 20;

fn try_target(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let count = std::env::var("FUZZ_COUNT").ok().and_then(|count| count.parse().ok()).unwrap_or(COUNT);
    let seeds = (target.seeds)();
    seeds.iter().for_each(|seed| (target.run)(seed));
    for number in 0..count {
        let mut rng = Rng::new(number);
        let mut input = seeds[rng.index(seeds.len())].clone();
        // Every fourth grows out of several steps.
        for _ in 0..=rng.below(4) {
            mutate(&mut input, &mut rng);
        }
        let ran = std::panic::catch_unwind(|| (target.run)(&input));
        assert!(ran.is_ok(), "{name}: mutation {number}: {input:02x?}");
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let most = most.and_then(|text| text.trim().strip_suffix(" kB")).and_then(|kib| kib.parse::<u64>().ok());
    assert!(most.is_none_or(|most| most < MOST_KIB), "{name}: {most:?} KiB of memory");
}

macro_rules! targets {
    ($($name:ident),+ $(,)?) => {
        $(#[test]
        fn $name() {
            try_target(stringify!($name));
        })+

        #[test]
        fn every_target_is_tried_here_and_has_its_file_for_the_fuzzer() {
            let tried: &[&str] = &[$(stringify!($name)),+];
            let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(names, tried);
            let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
            let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
            let readme = std::fs::read_to_string(folder.join("README.md")).unwrap();
            for name in &names {
                let file = std::fs::read_to_string(folder.join(format!("fuzz_targets/{name}.rs"))).unwrap();
                assert!(file.contains(&format!("\"{name}\"")), "{name}");
                assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name}");
                assert!(readme.contains(&format!("`{name}`")), "{name}");
            }
            let files = std::fs::read_dir(folder.join("fuzz_targets")).unwrap().count();
            assert_eq!(files, names.len(), "a file without a target");
        }
    };
}

targets! {
    compressed_cluster,
    io_commands,
    luks1_header,
    luks2_header,
    nbd_client,
    nbd_location,
    nbd_server,
    option_text,
    probe,
    qcow2_image,
    qmp_commands,
    qmp_session,
    raw_guard,
    secret,
}
