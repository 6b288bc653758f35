//! A LUKS header in a file: read, and opened by a passphrase.
use block::{BlockError, ErrorKind, Node, Result};
use crypto::kdf::{Budget, Limits};
use crypto::luks::{Area, Opened, Unlock, UnlockError};
use crypto::{CipherSpec, Key, SectorCipher, SectorLen, Step, luks, luks1, luks2};
use rt::{Buf, BufMut};
use std::sync::Arc;

/// Bytes that are read first.
const FIRST: u64 = 4096;

/// Where a header stands.
#[derive(Clone)]
pub(crate) struct Place {
    /// The file.
    pub(crate) file: Arc<Node>,
    /// Its first byte there.
    pub(crate) offset: u64,
    /// Bytes that belong to header, key material and data, as far as these stand together.
    pub(crate) len: u64,
}

impl Place {
    async fn read(&self, offset: u64, len: u64) -> Result<BufMut> {
        let len = len.min(self.len.saturating_sub(offset));
        let len = usize::try_from(len).map_err(|_| BlockError::corrupt("the LUKS header is too long"))?;
        let (bytes, result) = self.file.read_or_zero(self.offset + offset, BufMut::with_len(len)).await;
        result.map(|()| bytes)
    }

    /// Carries steps out in their order.
    pub(crate) async fn carry_out(&self, steps: &[Step]) -> Result<()> {
        for step in steps {
            match step {
                Step::Write { offset, bytes } => {
                    let at = self.offset + offset;
                    self.file.write(at, Buf::from_slice(bytes), block::Request::DRIVER).await?;
                }
                Step::Flush => self.file.flush().await?,
            }
        }
        Ok(())
    }
}

/// A header of either version.
#[derive(Debug, Clone)]
pub(crate) enum Volume {
    /// Version 1.
    Luks1(Box<luks1::Header>),
    /// Version 2.
    Luks2(Box<luks2::Header>),
}

impl Volume {
    /// Reads the header at a place.
    pub(crate) async fn read(place: &Place) -> Result<Self> {
        let start = place.read(0, FIRST).await?;
        let corrupt = |e: &dyn std::fmt::Display| BlockError::corrupt(e.to_string());
        match luks::version(&start) {
            Some(2) => {
                let stated =
                    start.get(8..16).and_then(|len| len.try_into().ok()).map_or(0, u64::from_be_bytes);
                let both = stated.saturating_mul(2).clamp(FIRST, luks2::HEADERS_LEN as u64);
                let mut headers = place.read(0, both).await?;
                let mut parsed = luks2::Header::parse(&headers, place.len);
                if parsed.is_err() && both < luks2::HEADERS_LEN as u64 {
                    // The stated length may be what is damaged.
                    headers = place.read(0, luks2::HEADERS_LEN as u64).await?;
                    parsed = luks2::Header::parse(&headers, place.len);
                }
                parsed.map(|header| Self::Luks2(Box::new(header))).map_err(|e| corrupt(&e))
            }
            _ => luks1::Header::parse(&start, place.len)
                .map(|header| Self::Luks1(Box::new(header)))
                .map_err(|e| corrupt(&e)),
        }
    }

    fn unlock<'a>(&'a self, passphrase: &'a Key, budget: Budget<'a>) -> Unlock<'a> {
        match self {
            Self::Luks1(header) => header.unlock(passphrase, budget),
            Self::Luks2(header) => header.unlock(passphrase, budget),
        }
    }

    /// The first slot that the passphrase opens, with the volume key.
    pub(crate) async fn open(&self, place: &Place, passphrase: &Key, limits: Limits) -> Result<Opened> {
        self.opened_by(place, passphrase, limits, Only::First)
            .await?
            .and_then(|mut slots| slots.pop().ok_or(UnlockError::NoSlot))
            .map_err(refused)
    }

    /// The slots that a passphrase opens: the first one, one, or all of them.
    pub(crate) async fn opened_by(
        &self,
        place: &Place,
        passphrase: &Key,
        limits: Limits,
        only: Only,
    ) -> Result<std::result::Result<Vec<Opened>, UnlockError>> {
        let areas = self.read_areas(place, only).await?;
        let (volume, passphrase) = (self.clone(), passphrase.clone());
        let tried = rt::compute(move || {
            let mut unlock = volume.unlock(&passphrase, Budget::new(limits, &|| false));
            let mut found = Vec::new();
            while let Some(area) = unlock.next_area() {
                let Some((_, material)) = areas.iter().find(|(read, _)| *read == area) else { continue };
                if let Some(opened) = unlock.offer(area, material)? {
                    found.push(opened);
                    if only == Only::First {
                        break;
                    }
                }
            }
            if found.is_empty() { Err(unlock.failed()) } else { Ok(found) }
        });
        Ok(tried.await)
    }

    /// The key material of all slots that can be tried: at most 4 MiB each.
    async fn read_areas(&self, place: &Place, only: Only) -> Result<Vec<(Area, BufMut)>> {
        let mut read = Vec::new();
        for area in self.areas(only) {
            read.push((area, place.read(area.offset, area.len as u64).await?));
        }
        Ok(read)
    }

    /// Where that is.
    fn areas(&self, only: Only) -> Vec<Area> {
        let no_passphrase = Key::new(Vec::new());
        let mut unlock = self.unlock(&no_passphrase, Budget::new(Limits::default(), &|| false));
        let all = std::iter::from_fn(|| unlock.next_area());
        all.filter(|area| !matches!(only, Only::Slot(slot) if slot != area.slot)).collect()
    }

    /// Where the data begins, and how long it is if the header says so.
    pub(crate) fn payload(&self) -> Result<(u64, Option<u64>)> {
        match self {
            Self::Luks1(header) => Ok((header.payload_offset(), None)),
            Self::Luks2(header) => self.segment(header).map(|segment| (segment.offset, segment.len)),
        }
    }

    fn segment<'a>(&self, header: &'a luks2::Header) -> Result<&'a luks2::Segment> {
        match header.segments() {
            [segment] => Ok(segment),
            segments => {
                let text = format!("LUKS2 volumes of {} segments can't be opened here", segments.len());
                Err(BlockError::unsupported(text))
            }
        }
    }

    /// What the data is encrypted with, the length of its sectors, and the number of the first one.
    pub(crate) fn cipher(&self, key: &Key) -> Result<(SectorCipher, u64)> {
        let (spec, sector, first) = self.sectors()?;
        let cipher = SectorCipher::new(spec, key, sector).map_err(|e| BlockError::corrupt(e.to_string()))?;
        Ok((cipher, first))
    }

    /// Cipher, length of a sector, number of the first.
    fn sectors(&self) -> Result<(CipherSpec, SectorLen, u64)> {
        match self {
            Self::Luks1(header) => Ok((*header.spec(), SectorLen::B512, 0)),
            Self::Luks2(header) => {
                let segment = self.segment(header)?;
                Ok((segment.spec, segment.sector, segment.first_sector))
            }
        }
    }

    /// Bytes of a sector.
    pub(crate) fn sector(&self) -> Result<u64> {
        self.sectors().map(|(_, sector, _)| sector.bytes() as u64)
    }
}

/// Which slots are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Only {
    /// Up to the first that opens.
    First,
    /// This one.
    Slot(usize),
    /// All.
    All,
}

/// The error of a passphrase that opens nothing.
pub(crate) fn refused(e: UnlockError) -> BlockError {
    let kind = match &e {
        UnlockError::WrongPassphrase(_) | UnlockError::NoSlot => ErrorKind::Permission,
        UnlockError::PassedOver { .. } => ErrorKind::Limit,
        UnlockError::Stopped => ErrorKind::Cancelled,
    };
    let passed_over = matches!(e, UnlockError::PassedOver { .. });
    let error = BlockError::of(kind, e);
    if passed_over {
        return error.context("the options 'x-max-rounds' and 'x-max-memory' raise what opening may cost");
    }
    error
}
