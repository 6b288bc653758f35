//! Which processes have a file open, as far as the system tells the caller.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Longest command line that is told, in characters.
const COMMAND: usize = 120;

/// A file by the numbers of its device and inode.
pub type FileId = (u64, u64);

/// A process that has a file open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opener {
    /// Its number.
    pub pid: u32,
    /// Its command line, or its name where it has none.
    pub command: String,
    /// It has the file open for writing.
    pub writes: bool,
}

/// The processes, by file, that have one of these files open; besides how many processes could not be looked at.
pub fn openers(of: &[FileId]) -> (HashMap<FileId, Vec<Opener>>, usize) {
    let (mut found, mut hidden) = (HashMap::<FileId, Vec<Opener>>::new(), 0);
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in processes {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else {
            // One that has ended meanwhile is none.
            hidden += usize::from(process.path().exists());
            continue;
        };
        for descriptor in descriptors.flatten() {
            let Ok(file) = fs::metadata(descriptor.path()) else { continue };
            let id = (file.dev(), file.ino());
            if !of.contains(&id) {
                continue;
            }
            let writes = writes(&process.path().join("fdinfo").join(descriptor.file_name()));
            let openers = found.entry(id).or_default();
            match openers.iter_mut().find(|opener| opener.pid == pid) {
                Some(opener) => opener.writes |= writes,
                None => openers.push(Opener { pid, command: command(&process.path()), writes }),
            }
        }
    }
    found.values_mut().for_each(|openers| openers.sort_by_key(|opener| opener.pid));
    (found, hidden)
}

/// Whether a descriptor is open for writing, by its description in `/proc/PID/fdinfo`.
fn writes(description: &Path) -> bool {
    let text = fs::read_to_string(description).unwrap_or_default();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok()).unwrap_or(0);
    flags & libc::O_ACCMODE != libc::O_RDONLY
}

fn command(process: &Path) -> String {
    let words = fs::read(process.join("cmdline")).unwrap_or_default();
    let words = String::from_utf8_lossy(&words).trim_end_matches('\0').replace(['\0', '\n'], " ");
    let words = match words.is_empty() {
        false => words,
        true => fs::read_to_string(process.join("comm")).unwrap_or_default().trim_end().to_owned(),
    };
    // It is printed: what a terminal would obey is left out.
    let words: String = words.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    match words.char_indices().nth(COMMAND) {
        None => words,
        Some((end, _)) => format!("{}…", words.get(..end).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_told_with_what_it_may_do() {
        let path = std::env::temp_dir().join(format!("openers-{}", std::process::id()));
        let written = fs::File::create(&path).unwrap();
        let other = fs::File::open("/proc/self/exe").unwrap();
        let id = |file: &fs::File| file.metadata().map(|file| (file.dev(), file.ino())).unwrap();
        let (found, _) = openers(&[id(&written), id(&other)]);
        let own = |file: &fs::File| {
            let openers = found.get(&id(file)).cloned().unwrap_or_default();
            openers.into_iter().find(|opener| opener.pid == std::process::id())
        };
        assert!(own(&written).is_some_and(|opener| opener.writes && !opener.command.is_empty()));
        assert!(own(&other).is_some_and(|opener| !opener.writes));
        fs::remove_file(path).unwrap();
    }
}
