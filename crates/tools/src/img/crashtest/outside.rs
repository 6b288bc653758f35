//! The files of this machine as the simulated one begins with them: read as they are needed, never changed.

use parking_lot::Mutex;
use sim::{Base, Outside};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

/// The files of this machine.
#[derive(Default)]
pub struct Files {
    /// Numbers of files by device and inode.
    known: Mutex<BTreeMap<(u64, u64), u64>>,
    trouble: Trouble,
}

/// The first read that failed, in words.
#[derive(Clone, Default)]
struct Trouble(Arc<Mutex<Option<String>>>);

impl Files {
    /// The first read that failed, in words. What was found since then says nothing of an image.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.0.lock().clone()
    }
}

impl Outside for Files {
    fn find(&self, path: &Path) -> io::Result<Option<(u64, Arc<dyn Base>)>> {
        let meta = match std::fs::metadata(path) {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let device = meta.file_type().is_block_device();
        if !meta.is_file() && !device {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let file = File::open(path)?;
        let len = if device { io::Seek::seek(&mut &file, io::SeekFrom::End(0))? } else { meta.len() };
        let mut known = self.known.lock();
        let next = known.len() as u64;
        let identity = *known.entry((meta.dev(), meta.ino())).or_insert(next);
        let name = path.display().to_string();
        Ok(Some((identity, Arc::new(RealFile { file, len, name, trouble: self.trouble.clone() }))))
    }
}

struct RealFile {
    file: File,
    len: u64,
    name: String,
    trouble: Trouble,
}

impl Base for RealFile {
    fn len(&self) -> u64 {
        self.len
    }

    fn read(&self, off: u64, buf: &mut [u8]) {
        if let Err(error) = self.file.read_exact_at(buf, off) {
            buf.fill(0);
            let why = block::BlockError::from_io(&error);
            let text = || format!("reading '{}' at offset {off}: {why}", self.name);
            self.trouble.0.lock().get_or_insert_with(text);
        }
    }
}
