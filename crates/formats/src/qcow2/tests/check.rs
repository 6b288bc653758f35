//! Check and repair, against QEMU's own check over images with every wrong kind of entry.
use super::*;
use crate::qcow2::header::field::be64;
use crate::qcow2::header::{COMPRESSED, COPIED, OFFSET_MASK, ZERO};
use block::{CheckReport, Repair};

/// Checks the image at `path`.
fn check(path: &Path, repair: Repair) -> block::Result<CheckReport> {
    rt::block_on_control(async {
        let opened = Opened::new(path).await;
        let result = match Header::read(&opened.file).await {
            Ok(mut header) => crate::qcow2::check::check(&opened.file, &mut header, repair).await,
            Err(e) => Err(e),
        };
        opened.close().await;
        result
    })
}

/// The exit code that a report means.
fn code(result: &block::Result<CheckReport>) -> i32 {
    match result {
        Err(_) => 1,
        Ok(report) if report.check_errors > 0 => 1,
        Ok(report) if report.corruptions > 0 => 2,
        Ok(report) if report.leaks > 0 => 3,
        Ok(_) => 0,
    }
}

/// The numbers of a report by the names of its JSON form.
fn numbers(report: &CheckReport) -> [(&'static str, u64); 8] {
    [
        ("image-end-offset", report.image_end_offset.unwrap_or(0)),
        ("corruptions", report.corruptions),
        ("leaks", report.leaks),
        ("check-errors", report.check_errors),
        ("total-clusters", report.total_clusters.unwrap_or(0)),
        ("allocated-clusters", report.allocated_clusters.unwrap_or(0)),
        ("fragmented-clusters", report.fragmented_clusters.unwrap_or(0)),
        ("compressed-clusters", report.compressed_clusters.unwrap_or(0)),
    ]
}

/// An image with data, zeroes, compressed clusters, a snapshot and a bitmap, made by the peer.
fn sample(scratch: &Scratch, options: &str, snapshot: bool, bitmap: bool) -> Option<Vec<u8>> {
    let path = scratch.path("sample");
    let compressed = scratch.path("compressed");
    let (name, small) = (path.to_str()?, compressed.to_str()?);
    let tool = |program: &str, args: &[&str]| match peer(program, args) {
        Some((0, _)) => Some(()),
        Some((code, text)) => panic!("{program} {args:?} ends with {code}: {text}"),
        None => None,
    };
    tool("qemu-img", &["create", "-q", "-f", "qcow2", "-o", options, small, "4M"])?;
    tool("qemu-io", &["-c", "write -q -P 17 0 300k", "-c", "write -q -P 18 1M 200k", "-c", "write -q -P 19 3M 70k", small])?;
    tool("qemu-img", &["convert", "-c", "-O", "qcow2", "-o", options, small, name])?;
    tool("qemu-io", &["-c", "write -q -P 20 200k 300k", "-c", "write -q -z 1M 64k", "-c", "write -q -P 3 2M 192k", name])?;
    if snapshot {
        tool("qemu-img", &["snapshot", "-c", "one", name])?;
        tool("qemu-io", &["-c", "write -q -P 21 2M 100k", "-c", "write -q -z -u 3M 64k", name])?;
    }
    if bitmap {
        tool("qemu-img", &["bitmap", "--add", "--enable", "-g", "64k", name, "b"])?;
        tool("qemu-io", &["-c", "write -q -P 22 0 64k", name])?;
    }
    Some(std::fs::read(&path).unwrap())
}

/// Offsets of all table entries of an image: L1, L2, refcount table, refcount blocks, snapshot table, bitmaps.
fn entries(image: &[u8]) -> Vec<u64> {
    let header = Header::parse(image, image.len() as u64).unwrap();
    let word = |at: u64| be64(image, at as usize).unwrap_or(0);
    let mut found = Vec::new();
    let mut some = |at: u64, count: u64, step: u64| found.extend((0..count).step_by(step as usize).map(|i| at + i * 8));
    some(header.l1_offset, u64::from(header.l1_entries), 1);
    for l1 in 0..u64::from(header.l1_entries) {
        let table = word(header.l1_offset + l1 * 8) & OFFSET_MASK;
        if table != 0 {
            some(table, header.l2_entries().min(64), 1);
        }
    }
    some(header.refcount_table_offset, 3, 1);
    some(word(header.refcount_table_offset), 8, 1);
    if header.snapshot_count > 0 {
        some(header.snapshots_offset, 10, 1);
    }
    if let Some(bitmaps) = header.bitmaps() {
        some(bitmaps.directory_offset, 4, 1);
        some(word(bitmaps.directory_offset), 2, 1);
    }
    found
}

/// What a table entry can wrongly be.
fn wrong_values(old: u64, image_len: u64, neighbour: u64) -> [u64; 10] {
    [
        0,
        COPIED,
        ZERO,
        old ^ COPIED,
        old | 1 << 60,
        old.wrapping_add(512),
        (image_len + (1 << 30)) & OFFSET_MASK | COPIED,
        neighbour,
        old ^ COMPRESSED,
        u64::MAX,
    ]
}

fn with(image: &[u8], at: u64, value: u64) -> Vec<u8> {
    let mut changed = image.to_vec();
    if let Some(bytes) = changed.get_mut(at as usize..at as usize + 8) {
        bytes.copy_from_slice(&value.to_be_bytes());
    }
    changed
}

#[test]
fn numbers_and_verdicts_are_the_peers_on_good_images() {
    let scratch = Scratch::new();
    let path = scratch.path("image");
    for options in ["cluster_size=512", "cluster_size=4k,refcount_bits=64", "cluster_size=64k", "compat=0.10"] {
        for rich in [false, true] {
            let Some(image) = sample(&scratch, options, rich, rich && options != "compat=0.10") else { return };
            std::fs::write(&path, &image).unwrap();
            let report = check(&path, Repair::No).unwrap();
            let (their_code, json) = peer("qemu-img", &["check", "--output=json", path.to_str().unwrap()]).unwrap();
            assert_eq!(their_code, 0, "{json}");
            for (name, number) in numbers(&report) {
                assert_eq!(number, member(&json, name), "{options} {rich}: {name}: {:?} {json}", report.messages);
            }
        }
    }
}

#[test]
#[ignore]
fn explore() {
    let scratch = Scratch::new();
    let path = scratch.path("image");
    let name = path.to_str().unwrap();
    let only = std::env::var("ONLY").unwrap_or_default();
    let (mut total, mut same, mut class) = (0, 0, 0);
    for options in ["cluster_size=4k", "cluster_size=64k"] {
        let Some(image) = sample(&scratch, options, true, true) else { return };
        let all = entries(&image);
        for (i, &at) in all.iter().enumerate().step_by(std::env::var("STEP").map_or(7, |s| s.parse().unwrap())) {
            let old = be64(&image, at as usize).unwrap();
            let neighbour = be64(&image, all[(i + 1) % all.len()] as usize).unwrap();
            for value in wrong_values(old, image.len() as u64, neighbour) {
                let what = format!("{options} {at:#x}: {old:#x} -> {value:#x}");
                if !what.contains(&only) { continue; }
                total += 1;
                std::fs::write(&path, with(&image, at, value)).unwrap();
                let result = check(&path, Repair::No);
                let (their_code, json) = peer("qemu-img", &["check", "--output=json", name]).unwrap();
                let ours = code(&result);
                let mut diff = String::new();
                if let Ok(report) = &result {
                    for (n, v) in numbers(report) {
                        if their_code != 1 && v != member(&json, n) { diff += &format!(" {n}: {v}/{}", member(&json, n)); }
                    }
                }
                if ours == their_code { class += 1; }
                if let Ok(r) = &result && diff.is_empty() && ours == their_code && std::env::var("LINES").is_ok() {
                    let (_, text) = peer("qemu-img", &["check", name]).unwrap();
                    let theirs: Vec<_> = text.lines().filter(|l| l.starts_with("ERROR") || l.starts_with("Leaked")).collect();
                    if theirs != r.messages { println!("LINES {what}\n{}\n---\n{}", r.messages.join("\n"), theirs.join("\n")); }
                }
                if ours == their_code && diff.is_empty() { same += 1; } else {
                    println!("{what}: code {ours}/{their_code}{diff}");
                    if !only.is_empty() {
                        println!("{json}");
                        match result { Ok(r) => println!("{}", r.messages.join("\n")), Err(e) => println!("{e}") }
                    }
                }
            }
        }
    }
    println!("{total} images, {class} same verdict, {same} same numbers");
}

#[test]
#[ignore]
fn explore_repair() {
    let scratch = Scratch::new();
    let (a, b) = (scratch.path("a"), scratch.path("b"));
    let (an, bn) = (a.to_str().unwrap(), b.to_str().unwrap());
    let only = std::env::var("ONLY").unwrap_or_default();
    let (mut total, mut same) = (0, 0);
    for options in ["cluster_size=4k", "cluster_size=64k"] {
        let Some(image) = sample(&scratch, options, true, false) else { return };
        let all = entries(&image);
        for (i, &at) in all.iter().enumerate().step_by(std::env::var("STEP").map_or(7, |s| s.parse().unwrap())) {
            let old = be64(&image, at as usize).unwrap();
            let neighbour = be64(&image, all[(i + 1) % all.len()] as usize).unwrap();
            for value in wrong_values(old, image.len() as u64, neighbour) {
                let what = format!("{options} {at:#x}: {old:#x} -> {value:#x}");
                if !what.contains(&only) { continue; }
                total += 1;
                for repair in [Repair::Leaks, Repair::All] {
                    let word = if repair == Repair::All { "all" } else { "leaks" };
                    std::fs::write(&a, with(&image, at, value)).unwrap();
                    std::fs::write(&b, with(&image, at, value)).unwrap();
                    let result = check(&a, repair);
                    let again = code(&check(&a, Repair::No));
                    let (their_code, text) = peer("qemu-img", &["check", "-r", word, bn]).unwrap();
                    let (mine, _) = peer("qemu-img", &["check", an]).unwrap();
                    let (fixed, leaks) = match &result { Ok(r) => (r.corruptions_fixed, r.leaks_fixed), Err(_) => (99, 99) };
                    let n = |w: &str| text.lines().find(|l| l.ends_with(w)).and_then(|l| l.trim().split(' ').next()?.parse().ok()).unwrap_or(0u64);
                    let (tf, tl) = (n(" corruptions"), n(" leaked clusters"));
                    if mine == their_code && again == mine && (fixed, leaks) == (tf, tl) { same += 1; } else {
                        println!("{what} {word}: ours {again} per peer {mine}, theirs {their_code}; fixed {fixed},{leaks} / {tf},{tl}");
                        if !only.is_empty() {
                            println!("{text}-----");
                            match result { Ok(r) => println!("{}", r.messages.join("\n")), Err(e) => println!("{e}") }
                        }
                    }
                    if std::env::var("LINES").is_ok() && let Ok(r) = check_lines(&a, &with(&image, at, value), repair) {
                        let theirs: Vec<_> = text.lines().filter(|l| l.starts_with("ERROR") || l.starts_with("Leaked") || l.starts_with("Re")).collect();
                        if theirs != r { println!("LINES {what}\n{}\n---\n{}", r.join("\n"), theirs.join("\n")); }
                    }
                }
            }
        }
    }
    println!("{total} images, {same} same");
}
fn check_lines(path: &Path, image: &[u8], repair: Repair) -> block::Result<Vec<String>> {
    std::fs::write(path, image).unwrap();
    check(path, repair).map(|r| r.messages)
}

#[test]
#[ignore]
fn time_it() {
    for name in std::env::var("IMAGES").unwrap().split(',') {
        for _ in 0..5 {
            let start = std::time::Instant::now();
            let report = check(Path::new(name), Repair::No).unwrap();
            println!("{name} {:?} {:?}", start.elapsed(), numbers(&report));
        }
    }
}
