//! Changes of what follows the fields: extensions and the backing file name, under the rule of the first sector.
//!
//! ```text
//!  1  first sector: fields, extensions without the table of names    name: in it, or durable elsewhere before
//!  2  second sector and on: what the final arrangement has there     nothing leads to it yet
//!  3  first sector: the final arrangement                            only where it is longer than a sector
//! ```
//!
//! After each step the header is whole: the old one up to step 1, the new one from then on.
use super::{
    AUTOCLEAR_BITMAPS, BACKING_FORMAT, BITMAPS, BitmapsExtension, DATA_FILE, ENCRYPTION, Extension,
    FEATURE_NAMES, Header, HeaderError, MAX_BACKING_NAME, SECTOR, extension,
};
use block::{Link, Node, Request, Result};
use rt::Buf;
use std::ops::Range;
use std::sync::Arc;

/// Smaller clusters have better use for their room than names of features.
const NAMES_FROM_CLUSTER_SIZE: u64 = 8192;

/// Bytes of the fields of version 2.
const LENGTH_2: usize = 72;
/// Bytes of the fields of version 3, with those that are known here.
const LENGTH_3: usize = 112;

/// The writes that replace a header, in order.
struct Switch {
    /// The backing file name, where nothing is yet.
    name: Option<Vec<u8>>,
    /// The header from the write of its first sector on.
    first: Header,
    /// The final arrangement where it is longer than a sector, and its bytes from the second sector on.
    rest: Option<(Header, Vec<u8>)>,
}

impl Header {
    /// Stores a new link to a backing file, durable when it returns. On an error the header is the old one or the
    /// new one, in memory as on disk.
    pub async fn set_backing_link(&mut self, file: &Arc<Node>, link: &Link) -> Result<()> {
        let mut new = self.clone();
        new.backing_name = link.filename.clone().filter(|name| !name.is_empty());
        new.extensions.retain(|extension| extension.kind != BACKING_FORMAT);
        if let (Some(format), Some(_)) = (&link.format, &new.backing_name) {
            new.extensions.insert(0, Extension::new(BACKING_FORMAT, format.as_bytes().to_vec()));
        }
        self.switch_to(file, new).await
    }

    /// Has the header on disk lead to another bitmap directory or to none, durably. On an error the header is the old one or
    /// the new one; on disk it is one of them after [`Header::store_again`].
    pub async fn set_bitmaps(&mut self, file: &Arc<Node>, bitmaps: Option<BitmapsExtension>) -> Result<()> {
        let mut new = self.clone();
        let present = new.extensions.iter().position(|extension| extension.kind == BITMAPS);
        let Some(bitmaps) = bitmaps else {
            new.autoclear &= !AUTOCLEAR_BITMAPS;
            new.extensions.retain(|extension| extension.kind != BITMAPS);
            return self.switch_to(file, new).await;
        };
        new.autoclear |= AUTOCLEAR_BITMAPS;
        let data = bitmaps.encode();
        match present.and_then(|at| new.extensions.get_mut(at)) {
            // One sector has all of it.
            Some(extension) if extension.is_in_one_sector() && extension.data.len() == data.len() => {
                let place = extension.offset;
                extension.data = data.to_vec();
                self.replace_data(file, new, place, &data).await
            }
            Some(extension) => {
                extension.data = data.to_vec();
                self.switch_to(file, new).await
            }
            None => {
                new.extensions.push(Extension::new(BITMAPS, data.to_vec()));
                self.switch_to(file, new).await
            }
        }
    }

    /// Replaces the data of an extension that lie in one sector, by one write of it; the features by another one, if that is
    /// not the first.
    async fn replace_data(
        &mut self,
        file: &Arc<Node>,
        mut new: Header,
        place: u64,
        data: &[u8],
    ) -> Result<()> {
        if place < SECTOR as u64 {
            new.sector.iter_mut().skip(place as usize).zip(data).for_each(|(to, from)| *to = *from);
        } else {
            file.write(place, Buf::from_slice(data), Request::DRIVER).await?;
            file.flush().await?;
        }
        if new.sector() != self.sector() {
            new.store(file).await?;
            file.flush().await?;
        }
        *self = new;
        Ok(())
    }

    /// Stores again what a change that failed may have left otherwise: the first sector, and the data of the bitmaps extension
    /// where they are replaced in another one. Durable after the caller's flush.
    pub async fn store_again(&self, file: &Arc<Node>) -> Result<()> {
        self.store(file).await?;
        let beyond = |extension: &&Extension| {
            extension.kind == BITMAPS && extension.is_in_one_sector() && extension.offset >= SECTOR as u64
        };
        if let Some(extension) = self.extensions.iter().find(beyond) {
            // Only then: the feature may be on for the new data, and must not be for old ones that do not hold.
            file.flush().await?;
            file.write(extension.offset, Buf::from_slice(&extension.data), Request::DRIVER).await?;
        }
        Ok(())
    }

    /// Stores another name of the data file, or none, durably. On an error the header is the old one or the new one, in memory
    /// as on disk.
    pub async fn set_data_file(&mut self, file: &Arc<Node>, name: &str) -> Result<()> {
        self.switch_to(file, self.with_data_file(name)).await
    }

    /// Whether there is room for this name of the data file.
    pub fn check_data_file(&self, name: &str) -> Result<(), HeaderError> {
        self.plan_switch(self.with_data_file(name)).map(drop)
    }

    fn with_data_file(&self, name: &str) -> Header {
        let mut new = self.clone();
        new.extensions.retain(|extension| extension.kind != DATA_FILE);
        if !name.is_empty() {
            new.extensions.insert(0, data_file_extension(name));
        }
        new
    }

    /// Removes an extension from the header on disk, durably.
    pub async fn drop_extension(&mut self, file: &Arc<Node>, kind: u32) -> Result<()> {
        let mut new = self.clone();
        new.extensions.retain(|extension| extension.kind != kind);
        self.switch_to(file, new).await
    }

    /// Lays a new header out: the bytes of the first cluster, as far as they are not zero.
    pub fn lay_out(
        &mut self,
        backing_format: Option<&str>,
        data_file: Option<&str>,
    ) -> Result<Vec<u8>, HeaderError> {
        self.extensions.retain(|extension| extension.kind == ENCRYPTION);
        self.extensions.extend(backing_format.map(|f| Extension::new(BACKING_FORMAT, f.as_bytes().to_vec())));
        self.extensions.extend(data_file.map(data_file_extension));
        if self.version >= 3 && self.cluster_size() >= NAMES_FROM_CLUSTER_SIZE {
            self.extensions.push(extension::feature_names());
        }
        self.arrange()
    }

    /// Stores the header as one of another version, durably: as one of version 3 with a table of names, as one of version 2
    /// without all that version 2 does not have. On an error the header is the old one or the new one, in memory as on disk.
    pub async fn set_version(&mut self, file: &Arc<Node>, version: u32) -> Result<()> {
        self.switch_to(file, self.of_version(version)).await
    }

    /// Whether there is room for the header as one of another version.
    pub fn check_version(&self, version: u32) -> Result<(), HeaderError> {
        self.plan_switch(self.of_version(version)).map(drop)
    }

    fn of_version(&self, version: u32) -> Header {
        let mut new = self.clone();
        let length = if version >= 3 { LENGTH_3 } else { LENGTH_2 };
        (new.version, new.length) = (version, length as u32);
        (new.incompatible, new.compatible, new.autoclear) = (0, 0, 0);
        new.extensions.retain(|extension| ![FEATURE_NAMES, BITMAPS].contains(&extension.kind));
        if version >= 3 && self.cluster_size() >= NAMES_FROM_CLUSTER_SIZE {
            new.extensions.push(extension::feature_names());
        }
        // What version 2 has there is no field.
        new.sector.iter_mut().take(LENGTH_3).skip(LENGTH_2).for_each(|byte| *byte = 0);
        new
    }

    /// Replaces the header on disk by `new`, which differs in what follows the fields, and in fields of the first sector.
    async fn switch_to(&mut self, file: &Arc<Node>, new: Header) -> Result<()> {
        let Switch { name, first, rest } = self.plan_switch(new)?;
        if let Some(name) = name {
            file.write(first.backing_offset, Buf::from_slice(&name), Request::DRIVER).await?;
            file.flush().await?;
        }
        first.store(file).await?;
        file.flush().await?;
        *self = first;
        if let Some((last, tail)) = rest {
            file.write(SECTOR as u64, Buf::from_slice(&tail), Request::DRIVER).await?;
            file.flush().await?;
            last.store(file).await?;
            file.flush().await?;
            *self = last;
        }
        Ok(())
    }

    fn plan_switch(&self, mut new: Header) -> Result<Switch, HeaderError> {
        let bytes = new.arrange()?;
        if new.extensions_end <= SECTOR as u64 {
            let (first, name) = self.with_name_beside(new, SECTOR as u64)?;
            return Ok(Switch { name, first, rest: None });
        }
        let mut short = new.clone();
        short.extensions.retain(|extension| extension.kind != FEATURE_NAMES);
        short.arrange()?;
        if short.extensions_end > SECTOR as u64 {
            return Err(HeaderError::NoRoom { bytes: short.extensions_end });
        }
        let (first, name) = self.with_name_beside(short, bytes.len() as u64)?;
        let tail = bytes.get(SECTOR..).unwrap_or_default().to_vec();
        Ok(Switch { name, first, rest: Some((new, tail)) })
    }

    /// A header whose extensions end within the first sector, its name there too or in unused space, where it is to be
    /// written before. Bytes before `free_from` are left alone.
    fn with_name_beside(
        &self,
        mut new: Header,
        free_from: u64,
    ) -> Result<(Header, Option<Vec<u8>>), HeaderError> {
        let Some(name) = new.stored_name().filter(|_| new.name_range().end > SECTOR as u64) else {
            return Ok((new, None));
        };
        // Until the switch the old extensions and the old name are still the ones that count.
        let (old, len) = (self.name_range(), name.len() as u64);
        let first = free_from.max(self.extensions_end).max(SECTOR as u64);
        if old.start >= first && self.backing_name == new.backing_name {
            new.place_name(old.start);
            return Ok((new, None));
        }
        let overlaps = first < old.end && old.start < first + len;
        new.place_name(if overlaps { old.end } else { first });
        if new.name_range().end > self.cluster_size() {
            return Err(HeaderError::NoRoomForName { bytes: name.len() });
        }
        Ok((new, Some(name)))
    }

    /// Arranges fields, extensions and backing file name one behind the other. Answers the bytes they take from the
    /// start of the file; the first sector is kept.
    fn arrange(&mut self) -> Result<Vec<u8>, HeaderError> {
        let length = self.length as usize;
        let Some(fields) = self.sector.get(..length) else {
            return Err(HeaderError::NoRoom { bytes: u64::from(self.length) });
        };
        let mut bytes = [fields, &extension::encode(&self.extensions)].concat();
        let mut at = u64::from(self.length);
        for extension in &mut self.extensions {
            extension.offset = at + 8;
            at += extension.stored_len() as u64;
        }
        self.extensions_end = at + 8;
        (self.backing_offset, self.backing_size) = (0, 0);
        if let Some(name) = self.stored_name() {
            if name.len() > MAX_BACKING_NAME as usize {
                return Err(HeaderError::NameTooLong { bytes: name.len() });
            }
            self.backing_size = name.len() as u32;
            bytes.extend(&name);
            self.backing_offset = self.extensions_end;
        }
        if bytes.len() as u64 > self.cluster_size() {
            return Err(HeaderError::NoRoom { bytes: bytes.len() as u64 });
        }
        self.keep_sector(&bytes);
        bytes.iter_mut().zip(self.sector).for_each(|(to, from)| *to = from);
        Ok(bytes)
    }

    /// Moves the backing file name out of the first sector.
    fn place_name(&mut self, offset: u64) {
        let without_name = self.sector.get(..self.extensions_end as usize).unwrap_or_default().to_vec();
        self.backing_offset = offset;
        self.keep_sector(&without_name);
    }

    /// Takes the first sector from these bytes and the fields.
    fn keep_sector(&mut self, bytes: &[u8]) {
        self.sector = [0; SECTOR];
        self.sector.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        self.sector = self.sector();
    }

    /// The backing file name as it is stored: bytes.
    fn stored_name(&self) -> Option<Vec<u8>> {
        self.backing_name.as_ref().map(|name| codec::filename::bytes(name.as_bytes()).into_owned())
    }

    fn name_range(&self) -> Range<u64> {
        self.backing_offset..self.backing_offset + u64::from(self.backing_size)
    }
}

/// The extension that names the data file.
fn data_file_extension(name: &str) -> Extension {
    Extension::new(DATA_FILE, codec::filename::bytes(name.as_bytes()).into_owned())
}
