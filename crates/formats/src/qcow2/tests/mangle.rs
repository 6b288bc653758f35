//! Bad input: whatever is in a file, opening, describing, mapping, reading, checking and repairing it end, within
//! bounds, with an answer or an error.
use super::check::sample;
use super::*;
use block::{Common, Discard, Flags, Repair, Request};
use proptest::prelude::*;
use std::time::{Duration, Instant};

/// Longest time for one small image, on a machine busy with other things.
const MOST: Duration = Duration::from_secs(120);

/// Most guest bytes that are mapped and read.
const LOOK: u64 = 64 << 20;

/// Opens the image as a tool does and asks it everything. Whatever the answers are, they come.
async fn ask_everything(path: &Path, repair: Repair) {
    let registry = Registry::new(&[protocols::DRIVERS, crate::DRIVERS]);
    let graph = Graph::new(registry, |_| Ok(Options::new()));
    let common =
        Common { read_only: repair == Repair::No, for_repair: repair != Repair::No, ..Common::default() };
    let Ok(node) = graph.open_image(path.to_str().unwrap(), Some("qcow2"), common, Policy::ALONE).await
    else {
        return;
    };
    let _ = node.driver().info();
    let (mut at, end) = (0, node.length().min(LOOK));
    while at < end {
        let Ok(status) = node.status(at, end - at, None).await else { break };
        assert!(status.len > 0 && status.len <= end - at);
        at += status.len;
    }
    at = 0;
    while at < end {
        let _ = node.read(at, rt::BufMut::with_len(4096.min(end - at) as usize)).await;
        at += end.div_ceil(16).max(4096);
    }
    if let Some(checker) = node.driver().checker() {
        let _ = checker.check(repair).await;
    }
    let _ = graph.release(&node).await;
}

/// Opens the image for writing and writes, zeroes and discards here and there, as far as it goes.
async fn scribble(path: &Path, seed: u64) {
    let registry = Registry::new(&[protocols::DRIVERS, crate::DRIVERS]);
    let graph = Graph::new(registry, |_| Ok(Options::new()));
    let common = Common { discard: Discard::Unmap, ..Common::default() };
    let Ok(node) = graph.open_image(path.to_str().unwrap(), Some("qcow2"), common, Policy::ALONE).await
    else {
        return;
    };
    let (mut state, sectors) = (seed | 1, node.length().min(LOOK) / 512);
    for _ in 0..24 {
        let first = random(&mut state) % sectors.max(1);
        let count = (1 + random(&mut state) % 200).min(sectors.saturating_sub(first));
        let (offset, len) = (first * 512, count * 512);
        let data = || rt::BufMut::from_slice(&vec![0x5a; len as usize]).freeze();
        let _ = match random(&mut state) % 6 {
            0 => node.write_zeroes(offset, len, Request::GUEST.with(Flags::MAY_UNMAP)).await,
            1 => node.write_zeroes(offset, len, Request::GUEST).await,
            2 => node.discard(offset, len, Request::GUEST).await,
            3 => node.flush().await,
            _ => node.write(offset, data(), Request::GUEST).await,
        };
    }
    let _ = graph.release(&node).await;
}

/// What no request may change in a header: everything before the fields that say where tables are, and the size.
fn fixed_fields(image: &[u8]) -> Option<&[u8]> {
    image.get(..36)
}

fn survives(path: &Path, image: &[u8], what: &str) {
    for repair in [Repair::No, Repair::All] {
        std::fs::write(path, image).unwrap();
        let start = Instant::now();
        rt::block_on_control(ask_everything(path, repair));
        assert!(start.elapsed() < MOST, "{what}, {repair:?}: {:?}", start.elapsed());
    }
    std::fs::write(path, image).unwrap();
    let start = Instant::now();
    let seed = what.bytes().fold(17, |all: u64, byte| all.wrapping_mul(31).wrapping_add(byte.into()));
    rt::block_on_control(scribble(path, seed));
    assert!(start.elapsed() < MOST, "{what}, written: {:?}", start.elapsed());
    let after = std::fs::read(path).unwrap();
    assert!(fixed_fields(&after) == fixed_fields(image), "{what}: a write has changed the header");
}

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn every_field_of_a_header_may_hold_anything() {
    let scratch = Scratch::new();
    let path = scratch.path("image");
    create(&path, 1 << 20, &[("cluster_size", "4096"), ("backing_file", "b"), ("backing_fmt", "raw")])
        .unwrap();
    let good = std::fs::read(&path).unwrap();
    for at in (4..128).step_by(4) {
        for value in
            [0u32, 1, 2, 0xffff, 0x10000, 0x1000, 0x1001, 0x0fff_ffff, 0x7fff_ffff, 0x8000_0000, u32::MAX]
        {
            let mut image = good.clone();
            image[at..at + 4].copy_from_slice(&value.to_be_bytes());
            survives(&path, &image, &format!("{value:#x} at {at}"));
        }
    }
}

#[test]
fn a_truncated_image_is_an_error_or_an_answer_at_every_length() {
    let scratch = Scratch::new();
    let path = scratch.path("image");
    create(&path, 1 << 20, &[("cluster_size", "512"), ("preallocation", "metadata")]).unwrap();
    let good = std::fs::read(&path).unwrap();
    for len in (0..200).step_by(7).chain((200..good.len()).step_by(good.len() / 50)) {
        survives(&path, &good[..len], &format!("cut at {len}"));
    }
}

/// Changed images of each kind; `QCOW2_MANGLE_ROUNDS` asks for so many.
fn rounds() -> u64 {
    std::env::var("QCOW2_MANGLE_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60)
}

#[test]
fn random_changes_of_a_rich_image_are_survived() {
    let scratch = Scratch::new();
    let path = scratch.path("image");
    let mut state = 0x1234_5678_9abc_def1;
    for options in
        ["cluster_size=512,refcount_bits=1", "cluster_size=4k,compression_type=zstd", "cluster_size=64k"]
    {
        let rich = !options.contains("refcount_bits=1");
        let good = match sample(&scratch, options, rich, rich) {
            Some(image) => image,
            None => {
                create(&path, 4 << 20, &[("preallocation", "metadata")]).unwrap();
                std::fs::read(&path).unwrap()
            }
        };
        for round in 0..rounds() {
            let mut image = good.clone();
            for _ in 0..1 + random(&mut state) % 8 {
                // Metadata is dense at the beginning and scattered behind.
                let span = if random(&mut state).is_multiple_of(2) { 1024 } else { image.len() as u64 };
                let at = (random(&mut state) % span.min(image.len() as u64 - 8)) as usize & !7;
                let value = match random(&mut state) % 4 {
                    0 => random(&mut state),
                    1 => 1 << (random(&mut state) % 64),
                    2 => (random(&mut state) % (image.len() as u64 * 2)) & !511,
                    _ => {
                        u64::from_be_bytes(image[at..at + 8].try_into().unwrap())
                            ^ (1 << (random(&mut state) % 64))
                    }
                };
                image[at..at + 8].copy_from_slice(&value.to_be_bytes());
            }
            survives(&path, &image, &format!("{options}, round {round}"));
        }
    }
}

proptest! {
    #[test]
    fn a_header_of_random_bytes_is_parsed_or_refused(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..2048),
        version in 2u32..4,
        cluster_bits in 9u32..22,
        file_len in any::<u64>(),
    ) {
        for (at, value) in [(0, crate::qcow2::header::MAGIC), (4, version), (20, cluster_bits)] {
            if let Some(field) = bytes.get_mut(at..at + 4) {
                field.copy_from_slice(&value.to_be_bytes());
            }
        }
        if let Ok(header) = Header::parse(&bytes, file_len) {
            prop_assert!(header.l1_offset < file_len || header.l1_entries == 0);
            prop_assert!(Header::parse(&[&header.sector()[..], &bytes[bytes.len().min(512)..]].concat(), file_len).is_ok());
        }
    }

    #[test]
    fn good_fields_before_random_extensions_are_parsed_or_refused(
        tail in proptest::collection::vec(any::<u8>(), 0..400),
        kinds in proptest::collection::vec((any::<u32>(), 0u32..64), 0..8),
    ) {
        let mut header = Header::new(3, 16, 0);
        let mut bytes = header.lay_out(None, None).unwrap();
        bytes.truncate(112);
        for (kind, len) in kinds {
            bytes.extend(kind.to_be_bytes());
            bytes.extend(len.to_be_bytes());
            bytes.extend(std::iter::repeat_n(0xaa, (len as usize).next_multiple_of(8)));
        }
        bytes.extend(tail);
        bytes.resize(65536, 0);
        if let Ok(parsed) = Header::parse(&bytes, 1 << 20) {
            for extension in &parsed.extensions {
                let at = extension.offset as usize;
                prop_assert!(bytes[at..at + extension.data.len()] == extension.data);
            }
        }
    }
}
