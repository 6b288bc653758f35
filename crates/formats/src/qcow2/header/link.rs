//! Changes of what follows the fields: extensions and the backing file name, under the rule of the first sector.
use super::{BACKING_FORMAT, Extension, FEATURE_NAMES, Header, HeaderError, MAX_BACKING_NAME, SECTOR, extension};
use block::{Link, Node, Result, WriteFlags};
use rt::Buf;
use std::sync::Arc;

/// Smaller clusters have better use for their room than names of features.
const NAMES_FROM_CLUSTER_SIZE: u64 = 8192;

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

    /// Removes an extension from the header on disk, durably.
    pub async fn drop_extension(&mut self, file: &Arc<Node>, kind: u32) -> Result<()> {
        let link = Link { filename: self.backing_name.clone(), format: self.backing_format() };
        let mut new = self.clone();
        new.extensions.retain(|extension| extension.kind != kind);
        new.set_backing_link(file, &link).await?;
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
        self.put(start, &vec![0; SECTOR.saturating_sub(start)]);
        self.put(start, &extension::encode(&all));
        self.extensions = all;
        self.number_extensions();
        Ok(())
    }

    /// Lays a new header out: the bytes of the first cluster, as far as they are not zero.
    pub fn lay_out(&mut self, backing_format: Option<&str>) -> Result<Vec<u8>, HeaderError> {
        self.extensions.clear();
        self.extensions.extend(backing_format.map(|f| Extension::new(BACKING_FORMAT, f.as_bytes().to_vec())));
        if self.version >= 3 && self.cluster_size() >= NAMES_FROM_CLUSTER_SIZE {
            self.extensions.push(extension::feature_names());
        }
        let mut bytes = vec![0; self.length as usize];
        bytes.extend(extension::encode(&self.extensions));
        self.number_extensions();
        (self.backing_offset, self.backing_size) = (0, 0);
        if let Some(name) = &self.backing_name {
            if name.len() > MAX_BACKING_NAME as usize {
                return Err(HeaderError::NoRoomForName { bytes: name.len() });
            }
            (self.backing_offset, self.backing_size) = (bytes.len() as u64, name.len() as u32);
            bytes.extend(name.as_bytes());
        }
        if bytes.len() as u64 > self.cluster_size() {
            return Err(HeaderError::NoRoom { bytes: bytes.len() as u64 });
        }
        self.sector = [0; SECTOR];
        self.put(0, &bytes);
        self.sector = self.sector();
        bytes.iter_mut().zip(self.sector).for_each(|(to, from)| *to = from);
        Ok(bytes)
    }

    /// Tells each extension where it is.
    fn number_extensions(&mut self) {
        let mut at = u64::from(self.length);
        for extension in &mut self.extensions {
            extension.offset = at + 8;
            at += extension.stored_len() as u64;
        }
        self.extensions_end = at + 8;
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.sector.iter_mut().skip(at).zip(bytes).for_each(|(to, from)| *to = *from);
    }
}
