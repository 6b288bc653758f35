//! Files of the folder, opened when they are read, and some of them kept open.
use super::tree::{HostFile, told};
use block::{BlockError, ErrorKind, Result};
use parking_lot::Mutex;
use rt::BufMut;
use rt::file::File;
use rt::folder::Folder;
use std::collections::VecDeque;

/// Files that are kept open.
pub const MOST_OPEN: usize = 64;

pub struct OpenFiles {
    folder: Folder,
    /// Its name, for messages.
    name: String,
    /// Those that were read last, by what they are.
    open: Mutex<VecDeque<((u64, u64), File)>>,
}

impl OpenFiles {
    pub fn new(folder: Folder, name: String) -> Self {
        Self { folder, name, open: Mutex::default() }
    }

    /// Reads so many bytes of a file.
    pub async fn read(&self, file: &HostFile, from: u64, len: usize) -> Result<BufMut> {
        let open = self.opened(file).await?;
        let (mut bytes, read) = open.read(from, BufMut::with_len(len)).await;
        let read = read.map_err(|e| {
            BlockError::from_io(&e).context(format!("reading {}", told(&self.name, &file.path)))
        })?;
        if read < len {
            return Err(self.changed(file, "is shorter now"));
        }
        bytes.truncate(len);
        Ok(bytes)
    }

    async fn opened(&self, file: &HostFile) -> Result<File> {
        let known =
            self.open.lock().iter().find(|(known, _)| *known == file.identity).map(|(_, open)| open.clone());
        if let Some(open) = known {
            return Ok(open);
        }
        let failed = |e: std::io::Error| {
            BlockError::from_io(&e).context(format!("opening {}", told(&self.name, &file.path)))
        };
        let open = self.folder.open_file(&file.path).await.map_err(failed)?;
        let stat = open.stat().map_err(failed)?;
        if (stat.dev, stat.ino) != file.identity {
            return Err(self.changed(file, "is another file now"));
        }
        let mut all = self.open.lock();
        all.truncate(MOST_OPEN - 1);
        all.push_front((file.identity, open.clone()));
        Ok(open)
    }

    fn changed(&self, file: &HostFile, how: &str) -> BlockError {
        let text = format!("{} {how} than when the disk was opened", told(&self.name, &file.path));
        BlockError::new(ErrorKind::Io, text)
    }
}
