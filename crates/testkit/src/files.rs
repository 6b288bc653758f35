//! The files of a stack on a disk, as the independent readers take them.

use sim::Disk;

use crate::stack::Stack;

/// Longest chain that is followed.
const LONGEST_CHAIN: usize = 16;

/// The bytes of a file.
pub fn content(disk: &Disk, file: &str) -> Result<Vec<u8>, String> {
    Ok(disk.content(file).ok_or_else(|| format!("{file} is gone"))?.to_vec())
}

/// The bytes of the top image.
pub fn top(stack: &Stack, disk: &Disk) -> Result<Vec<u8>, String> {
    content(disk, top_name(stack)?)
}

/// The file of the top image.
pub fn top_name(stack: &Stack) -> Result<&'static str, String> {
    Ok(stack.images.last().ok_or("the stack has no image")?.file)
}

/// A file and those below it, names and bytes, the top first. `backing`: the name of the file below an image.
pub fn chain(
    disk: &Disk,
    file: &str,
    backing: impl Fn(&[u8]) -> Result<Option<String>, String>,
) -> Result<Vec<(String, Vec<u8>)>, String> {
    let (mut chain, mut next) = (Vec::new(), Some(file.to_owned()));
    while let Some(file) = next {
        if chain.len() == LONGEST_CHAIN {
            return Err("the chain has no end".to_owned());
        }
        let bytes = content(disk, &file)?;
        next = backing(&bytes)?;
        chain.push((file, bytes));
    }
    Ok(chain)
}

/// What the top image shows over all that is below it. `backing`: the name of the file below an image; `read`: what an image
/// shows over what is below it, and whether it is the top.
pub fn shown(
    stack: &Stack,
    disk: &Disk,
    backing: impl Fn(&[u8]) -> Result<Option<String>, String>,
    read: impl Fn(&[u8], &[u8], bool) -> Result<Vec<u8>, String>,
) -> Result<Vec<u8>, String> {
    let chain = chain(disk, top_name(stack)?, backing)?;
    chain.iter().enumerate().rev().try_fold(Vec::new(), |below, (depth, (file, bytes))| {
        read(bytes, &below, depth == 0).map_err(|text| format!("{file}: {text}"))
    })
}

/// The little-endian word at an offset of a file.
pub fn word(bytes: &[u8], at: usize) -> Result<u32, String> {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk());
    word.map(|word| u32::from_le_bytes(*word)).ok_or_else(|| format!("the file ends before {at:#x}"))
}
