//! Probing, and the guard of a raw image whose format was guessed.

use crate::bytes::Bytes;
use block::{Glimpse, PROBE_BYTES, Registry, Request};
use rt::Buf;
use sim::{Config, Disk, Sim};
use std::sync::Arc;
use tools::image::{Image, Source};

fn registry() -> Arc<Registry> {
    Registry::new(&[formats::DRIVERS, protocols::DRIVERS])
}

/// Asks all formats what a file is whose front the input begins with, and whose name follows. Law: the answer does not change.
pub fn probe(input: &[u8]) {
    let mut bytes = Bytes(input);
    let head = bytes.take(PROBE_BYTES);
    let filename = String::from_utf8_lossy(bytes.0);
    let registry = registry();
    let asked = || registry.probe(&Glimpse { head, filename: &filename }).map(|driver| driver.name);
    assert_eq!(asked(), asked());
}

/// The front of each format that is recognised.
pub fn probe_seeds() -> Vec<Vec<u8>> {
    let fronts: [&[u8]; 11] = [
        b"QFI\xfb\0\0\0\x03",
        b"QFI\xfb\0\0\0\x01",
        b"KDMV",
        b"# Disk DescriptorFile\nversion=1\n",
        b"vhdxfile",
        b"conectix",
        b"QED\0",
        b"LUKS\xba\xbe\0\x01",
        b"WithoutFreeSpace",
        b"Bochs Virtual HD Image\0Redolog\0Growing\0",
        b"#!/bin/sh\n#V2.0 Format\n",
    ];
    let padded = |front: &&[u8]| {
        let mut seed = front.to_vec();
        seed.resize(PROBE_BYTES, 0);
        seed.extend_from_slice(b"disk.dmg");
        seed
    };
    fronts.iter().map(padded).collect()
}

/// Opens a file of the input's front without a format, and writes to it as the rest says. Law: a file that was taken for
/// a raw disk is never made to look like another format.
pub fn guard(input: &[u8]) {
    let mut bytes = Bytes(input);
    let len = bytes.short() % 4096;
    let mut disk = Disk::default();
    disk.put("/disk", bytes.take(len));
    let writes = writes(&mut bytes);
    let sim = Sim::boot(Config::seeded(1), disk);
    let raw = sim.run(async move {
        let Ok(image) = Image::open(&Source::named("/disk").writable()).await else { return false };
        let raw = image.guessed_raw;
        for (at, data) in writes {
            let end = image.backend.length();
            let len = (data.len() as u64).min(end.saturating_sub(at));
            // A write that is refused is as good as one that is done.
            if data.iter().all(|byte| *byte == 0) {
                image.backend.write_zeroes(at.min(end), len, Request::GUEST).await.ok();
            } else {
                let data = Buf::from_slice(data.get(..len as usize).unwrap_or_default());
                image.backend.write(at.min(end), data, Request::GUEST).await.ok();
            }
        }
        image.close().await.ok();
        raw
    });
    if raw {
        let found = sim.world().disk().content("/disk").map(sim::Content::to_vec).unwrap_or_default();
        let head = found.get(..PROBE_BYTES.min(found.len())).unwrap_or_default();
        let seen = registry().probe(&Glimpse { head, filename: "/disk" }).map(|driver| driver.name);
        assert_eq!(seen, None, "a disk that was raw looks like something else now");
    }
}

fn writes(bytes: &mut Bytes<'_>) -> Vec<(u64, Vec<u8>)> {
    let mut writes = Vec::new();
    while !bytes.0.is_empty() && writes.len() < 16 {
        let (at, len) = (bytes.short() as u64, usize::from(bytes.byte()));
        writes.push((at, bytes.take(len).to_vec()));
    }
    writes
}

/// A disk of zeroes that gets a format's front, its end, or both in two writes.
pub fn guard_seeds() -> Vec<Vec<u8>> {
    let disk = |writes: &[(u16, &[u8])]| {
        let mut seed = vec![0x0c, 0x00];
        seed.resize(2 + 0xc00, 0);
        for (at, data) in writes {
            seed.extend_from_slice(&at.to_be_bytes());
            seed.push(data.len() as u8);
            seed.extend_from_slice(data);
        }
        seed
    };
    vec![
        disk(&[(0, b"QFI\xfb\0\0\0\x03")]),
        disk(&[(0xa00, b"conectix")]),
        disk(&[(2, b"I\xfb\0\0\0\x03"), (0, b"QF")]),
        disk(&[(0, b"vhdxfile"), (512, &[0; 16]), (0, &[0; 8])]),
    ]
}
