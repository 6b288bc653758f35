//! Each target on its seeds and on mutations of them, and the files of `fuzz/` held against the table of targets.

use super::*;
use mutate::mutate;
use sim::Rng;
use std::path::PathBuf;

/// Mutations of each target, unless `FUZZ_COUNT` in the environment says otherwise.
const COUNT: u64 = 200;

/// Memory that all targets together may have used at once, in KiB.
const MOST_KIB: u64 = 1 << 20;

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|count| count.parse().ok())
}

/// The inputs for a target in the folder that `FUZZ_CORPUS` in the environment names, in the order of their names.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = std::env::var_os("FUZZ_CORPUS").map(|folder| PathBuf::from(folder).join(name));
    let entries = folder.and_then(|folder| std::fs::read_dir(folder).ok()).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
    files.sort();
    files.iter().filter_map(|file| std::fs::read(file).ok()).collect()
}

fn try_target(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let count = number("FUZZ_COUNT").unwrap_or(COUNT);
    let mut seeds = (target.seeds)();
    seeds.extend(corpus(name));
    seeds.iter().for_each(|seed| (target.run)(seed));
    let first = number("FUZZ_FIRST").unwrap_or(0);
    for number in first..first.saturating_add(count) {
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
    bochs_image,
    cloop_image,
    compressed_cluster,
    cow_image,
    dmg_image,
    fat_volume,
    ftp_replies,
    http_answer,
    http_names,
    inspection,
    io_commands,
    iscsi_target,
    iscsi_unit,
    luks1_header,
    luks2_header,
    nbd_client,
    nbd_location,
    nbd_server,
    nfs_location,
    nfs_replies,
    option_text,
    parallels_image,
    probe,
    qcow2_edits,
    qcow2_image,
    qcow_image,
    qed_image,
    qmp_commands,
    qmp_session,
    raw_guard,
    secret,
    sftp_replies,
    ssh_location,
    tftp_packet,
    vdi_image,
    vhdx_image,
    vpc_image,
    vmdk_image,
}
