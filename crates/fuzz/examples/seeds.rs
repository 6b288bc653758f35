//! Writes the seeds of all targets into a folder, one folder a target: where a fuzzer begins. Images that are named besides
//! become seeds of the targets that take such images.

use std::path::{Path, PathBuf};

/// Larger images are no seeds, in bytes.
const LARGEST: u64 = 1 << 20;

/// What an image begins with, and the targets that take it.
const TAKEN: [(&[u8], &[&str]); 2] =
    [(b"QFI\xfb", &["qcow2_image"]), (b"LUKS\xba\xbe", &["luks1_header", "luks2_header"])];

fn main() -> std::io::Result<()> {
    let mut args = std::env::args().skip(1);
    let folder = PathBuf::from(args.next().unwrap_or_else(|| "fuzz/corpus".to_owned()));
    for target in fuzz::TARGETS {
        for (number, seed) in (target.seeds)().iter().enumerate() {
            put(&folder.join(target.name), &format!("seed-{number}"), seed)?;
        }
    }
    for image in args {
        if std::fs::metadata(&image)?.len() > LARGEST {
            println!("{image}: larger than {LARGEST} bytes, left out");
            continue;
        }
        let bytes = std::fs::read(&image)?;
        let targets =
            TAKEN.iter().filter(|(magic, _)| bytes.starts_with(magic)).flat_map(|(_, names)| *names);
        let name = Path::new(&image).file_name().unwrap_or_default().to_string_lossy().into_owned();
        for target in targets.chain(&["probe"]) {
            put(&folder.join(target), &name, &bytes)?;
        }
    }
    Ok(())
}

fn put(folder: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join(name), bytes)
}
