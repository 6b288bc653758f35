//! Changes of what follows the fields: extensions and the backing file name, under the rule of the first sector.
use super::{BACKING_FORMAT, Extension, FEATURE_NAMES, Header, HeaderError, MAX_BACKING_NAME, SECTOR, extension};
use block::{Link, Node, Result, WriteFlags};
use rt::Buf;
use std::sync::Arc;

impl Header {
    /// Stores a new link to a backing file, durable when it returns. The header is changed only on success.
    pub async fn set_backing_link(&mut self, file: &Arc<Node>, link: &Link) -> Result<()> {
        let mut new = self.clone();
        let name = new.relink(link)?;
        if let Some((offset, name)) = name {
            file.write(offset, Buf::from_slice(name.as_bytes()), WriteFlags::default()).await?;
            file.flush().await?;
        }
        new.store(file).await?;
        file.flush().await?;
        *self = new;
        Ok(())
    }

    /// Changes the link in memory. Answers the name and where it must be durable before the first sector is
    /// written, if it lies outside of it.
    fn relink(&mut self, link: &Link) -> Result<Option<(u64, String)>, HeaderError> {
        let name = link.filename.clone().filter(|name| !name.is_empty());
        let format = link.format.as_ref().filter(|_| name.is_some());
        let old_name = self.backing_offset..self.backing_offset + u64::from(self.backing_size);
        let old_extensions_end = self.extensions_end;
        self.place_extensions(format.map(|f| Extension::new(BACKING_FORMAT, f.as_bytes().to_vec())))?;
        self.backing_name.clone_from(&name);
        let Some(name) = name else {
            (self.backing_offset, self.backing_size) = (0, 0);
            return Ok(None);
        };
        let len = name.len() as u64;
        let no_room = HeaderError::NoRoomForName { bytes: name.len() };
        if len > u64::from(MAX_BACKING_NAME) {
            return Err(no_room);
        }
        self.backing_size = len as u32;
        if self.extensions_end + len <= SECTOR as u64 {
            self.backing_offset = self.extensions_end;
            self.put(self.extensions_end as usize, name.as_bytes());
            return Ok(None);
        }
        // Until the switch the old extensions and the old name are still the ones that count.
        let first = old_extensions_end.max(SECTOR as u64);
        let overlaps = first < old_name.end && old_name.start < first + len;
        self.backing_offset = if overlaps { old_name.end } else { first };
        if self.backing_offset + len > self.cluster_size() {
            return Err(no_room);
        }
        Ok(Some((self.backing_offset, name)))
    }

    /// Lays all extensions out anew within the first sector, with `format` in place of the present backing format.
    /// The feature name table, a mere help for messages, is shortened as needed.
    fn place_extensions(&mut self, format: Option<Extension>) -> Result<(), HeaderError> {
        let names = self.extensions.iter().find(|e| e.kind == FEATURE_NAMES).cloned();
        let mut all: Vec<Extension> = format.into_iter().collect();
        let rest = self.extensions.iter().filter(|e| ![BACKING_FORMAT, FEATURE_NAMES].contains(&e.kind));
        all.extend(rest.cloned());
        let start = self.length as usize;
        let taken = start + all.iter().map(Extension::stored_len).sum::<usize>() + 8;
        let Some(room) = SECTOR.checked_sub(taken) else {
            return Err(HeaderError::NoRoom { bytes: taken as u64 });
        };
        all.extend(names.and_then(|names| extension::shorten_names(&names, room.saturating_sub(8))));
        let mut at = self.length as u64;
        for extension in &mut all {
            extension.offset = at + 8;
            at += extension.stored_len() as u64;
        }
        self.put(start, &vec![0; SECTOR.saturating_sub(start)]);
        self.put(start, &extension::encode(&all));
        self.extensions = all;
        self.extensions_end = at + 8;
        Ok(())
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.sector.iter_mut().skip(at).zip(bytes).for_each(|(to, from)| *to = *from);
    }
}
