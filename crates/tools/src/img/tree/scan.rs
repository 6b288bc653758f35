//! The files of folders, each once, whatever names it has.

use crate::console::Console;
use crate::failure::Failure;
use block::BlockError;
use rt::openers::FileId;
use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Most files that are looked at.
const MOST: usize = 100_000;

/// A file, by a name of it.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub path: PathBuf,
    pub id: FileId,
    /// Somebody named it: it is shown, whatever it is.
    pub named: bool,
}

/// The files of what was named, in the order of their names. What can't be read inside of a folder is warned of.
pub(super) fn files(console: &mut Console, operands: &[String]) -> Result<Vec<Found>, Failure> {
    let (mut found, mut seen) = (Vec::new(), HashSet::new());
    for operand in operands {
        let path = rt::fs::path(operand);
        let file = fs::metadata(&path).map_err(|error| {
            Failure::from(BlockError::os(format_args!("Could not look at '{operand}'"), &error))
        })?;
        if file.is_dir() {
            folder(console, &path, &mut found, &mut seen)?;
        } else if file.is_file() || file.file_type().is_block_device() {
            let id = (file.dev(), file.ino());
            if seen.insert(id) {
                found.push(Found { path, id, named: true });
            }
        } else {
            return Err(Failure::new(format_args!("'{operand}' is neither a folder nor a file")));
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}

/// The files below a folder. Links are not followed: what they lead to is found where it is, or is not of this folder.
fn folder(
    console: &mut Console,
    top: &Path,
    found: &mut Vec<Found>,
    seen: &mut HashSet<FileId>,
) -> Result<(), Failure> {
    let mut folders = vec![top.to_owned()];
    while let Some(folder) = folders.pop() {
        let unreadable = |console: &mut Console, error: &std::io::Error| {
            console.warning(BlockError::os(format_args!("Could not read '{}'", folder.display()), error));
        };
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) => {
                unreadable(console, &error);
                continue;
            }
        };
        for entry in entries {
            let file = entry.and_then(|entry| Ok((entry.path(), entry.metadata()?)));
            let (path, file) = match file {
                Ok(file) => file,
                // One that has gone meanwhile is not there.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => {
                    unreadable(console, &error);
                    continue;
                }
            };
            let id = (file.dev(), file.ino());
            if file.is_dir() && seen.insert(id) {
                folders.push(path);
            } else if file.is_file() && file.len() > 0 && seen.insert(id) {
                if found.len() == MOST {
                    return Err(Failure::new(format_args!(
                        "there are more than {MOST} files below '{}'; name a folder inside of it",
                        top.display()
                    )));
                }
                found.push(Found { path, id, named: false });
            }
        }
    }
    Ok(())
}
