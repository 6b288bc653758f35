//! Writes the seeds of all targets into a folder, one folder a target: where a fuzzer begins. Images that are named besides
//! become seeds of the targets that take such images.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Larger images are no seeds, in bytes.
const LARGEST: usize = 1 << 20;

/// What an image begins with, a target that takes it, and how many bytes from its front.
const TAKEN: [(&[u8], &str, Option<usize>); 6] = [
    (b"QFI\xfb", "qcow2_image", None),
    (b"LUKS\xba\xbe\0\x01", "luks1_header", Some(1 << 10)),
    (b"LUKS\xba\xbe\0\x02", "luks2_header", Some(32 << 10)),
    (b"KDMV", "vmdk_image", None),
    (b"# Disk DescriptorFile", "vmdk_image", None),
    (b"", "probe", Some(1 << 10)),
];

fn main() -> std::io::Result<()> {
    let mut args = std::env::args().skip(1);
    let folder = PathBuf::from(args.next().unwrap_or_else(|| "fuzz/corpus".to_owned()));
    for target in fuzz::TARGETS {
        for (number, seed) in (target.seeds)().iter().enumerate() {
            put(&folder.join(target.name), &format!("seed-{number}"), seed)?;
        }
    }
    for image in args {
        let mut bytes = Vec::new();
        File::open(&image)?.take(LARGEST as u64 + 1).read_to_end(&mut bytes)?;
        let name = Path::new(&image).file_name().unwrap_or_default().to_string_lossy().into_owned();
        for (_, target, front) in TAKEN.iter().filter(|(magic, ..)| bytes.starts_with(magic)) {
            let front = front.unwrap_or(bytes.len()).min(bytes.len());
            if front > LARGEST {
                println!("{image}: larger than {LARGEST} bytes, left out");
                continue;
            }
            put(&folder.join(target), &name, bytes.get(..front).unwrap_or_default())?;
        }
    }
    Ok(())
}

fn put(folder: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join(name), bytes)
}
