//! What a disk tells of itself.
use super::number;

/// The standard answer to INQUIRY (SPC-4, section 6.6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inquiry {
    /// Whether there is a unit behind the number.
    pub present: bool,
    /// What kind of device it is: 0 a disk, 5 a CD.
    pub kind: u8,
}

impl Inquiry {
    /// A disk.
    pub const DISK: u8 = 0;
    /// A CD or DVD.
    pub const CD: u8 = 5;
    /// A disk with fewer commands.
    pub const SIMPLE_DISK: u8 = 14;

    /// What the answer says; `None` if it is empty.
    pub fn parse(data: &[u8]) -> Option<Self> {
        let first = *data.first()?;
        Some(Self { present: first >> 5 == 0, kind: first & 0x1f })
    }
}

/// The body of a page of vital product data, if it is the page that was asked for.
fn page(data: &[u8], code: u8) -> Option<&[u8]> {
    let len = number::<2>(data, 2)? as usize;
    let body = data.get(4..)?;
    (data.get(1) == Some(&code)).then(|| body.get(..len).unwrap_or(body))
}

/// The pages that there are (page 0x00).
pub fn pages(data: &[u8]) -> &[u8] {
    page(data, 0).unwrap_or_default()
}

/// The serial number (page 0x80).
pub fn serial_number(data: &[u8]) -> Option<&[u8]> {
    page(data, 0x80).map(<[u8]>::trim_ascii).filter(|serial| !serial.is_empty())
}

/// What identifies the unit (page 0x83): its first designator that is no relative one, with its type in front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identification(pub Vec<u8>);

impl Identification {
    /// That of the page; `None` where it has none.
    pub fn parse(data: &[u8]) -> Option<Self> {
        let mut rest = page(data, 0x83)?;
        while let [_, kind, _, len, ..] = *rest {
            let end = 4 + usize::from(len);
            let designator = rest.get(4..end)?;
            // Of the unit itself: T10 vendor, EUI-64, NAA or a name.
            if kind >> 4 & 3 == 0 && matches!(kind & 0xf, 1 | 2 | 3 | 8) && !designator.is_empty() {
                return Some(Self([&[kind & 0xf], designator].concat()));
            }
            rest = rest.get(end..)?;
        }
        None
    }
}

/// Bounds on commands, in blocks (page 0xb0; SBC-3, section 6.6.3); 0: none is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BlockLimits {
    /// Most of a READ or WRITE.
    pub transfer: u32,
    /// Best for a READ or WRITE.
    pub optimal: u32,
    /// Most of an UNMAP's ranges together.
    pub unmap: u32,
    /// Most ranges of an UNMAP.
    pub unmap_ranges: u32,
    /// What is given back at once.
    pub granularity: u32,
    /// Most of a WRITE SAME.
    pub write_same: u64,
}

impl BlockLimits {
    /// Those of the page.
    pub fn parse(data: &[u8]) -> Option<Self> {
        let body = page(data, 0xb0)?;
        // Places are told from the begin of the whole page.
        let word = |at: usize| number::<4>(body, at - 4).unwrap_or(0) as u32;
        Some(Self {
            transfer: word(8),
            optimal: word(12),
            unmap: word(20),
            unmap_ranges: word(24),
            granularity: word(28),
            write_same: number::<8>(body, 32).unwrap_or(0),
        })
    }
}

/// What can be given back (page 0xb2; SBC-3, section 6.6.4).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Provisioning {
    /// By UNMAP.
    pub unmap: bool,
    /// By WRITE SAME(16).
    pub write_same: bool,
    /// By WRITE SAME(10).
    pub write_same_10: bool,
}

impl Provisioning {
    /// That of the page.
    pub fn parse(data: &[u8]) -> Option<Self> {
        let flags = *page(data, 0xb2)?.get(1)?;
        let has = |bit: u8| flags & bit != 0;
        Some(Self { unmap: has(0x80), write_same: has(0x40), write_same_10: has(0x20) })
    }
}

/// How large a unit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Its blocks.
    pub blocks: u64,
    /// Bytes of a block.
    pub block_size: u32,
    /// Not all of it need have space of its own.
    pub thin: bool,
    /// What has no space reads as zeroes.
    pub zeroes: bool,
}

impl Capacity {
    /// Bytes of an answer to READ CAPACITY(16).
    pub const LEN: usize = 32;

    /// What READ CAPACITY(10) answered; `None` where it is too short, or the unit is larger than it can tell.
    pub fn parse_10(data: &[u8]) -> Option<Self> {
        let last = number::<4>(data, 0).filter(|last| *last < u32::MAX.into())?;
        let block_size = number::<4>(data, 4)? as u32;
        Some(Self { blocks: last + 1, block_size, thin: false, zeroes: false })
    }

    /// What READ CAPACITY(16) answered; `None` where it is too short or makes no sense.
    pub fn parse_16(data: &[u8]) -> Option<Self> {
        let blocks = number::<8>(data, 0)?.checked_add(1)?;
        let block_size = number::<4>(data, 8)? as u32;
        let flags = data.get(14).copied().unwrap_or(0);
        Some(Self { blocks, block_size, thin: flags & 0x80 != 0, zeroes: flags & 0x40 != 0 })
    }
}

/// How writes are carried out, by MODE SENSE(6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteControl {
    /// The unit can't be written.
    pub protected: bool,
    /// Single writes can be made durable (DPOFUA).
    pub durable_writes: bool,
    /// Writes are answered before they are durable (WCE); `None` where it is not said.
    pub cached: Option<bool>,
}

impl WriteControl {
    /// What the answer says, with the page of the cache (0x08) if it is in it.
    pub fn parse(data: &[u8]) -> Option<Self> {
        let (len, flags) = (usize::from(*data.first()?) + 1, *data.get(2)?);
        let data = data.get(..len).unwrap_or(data);
        let mut rest = data.get(4 + usize::from(*data.get(3)?)..).unwrap_or_default();
        let mut cached = None;
        while let [code, len, ..] = *rest {
            // Pages with sub-pages have longer heads.
            let (head, len) = match code & 0x40 {
                0 => (2, usize::from(len)),
                _ => (4, number::<2>(rest, 2).unwrap_or(0) as usize),
            };
            if code & 0x7f == 0x08
                && let Some(flags) = rest.get(2)
            {
                cached = Some(flags & 0x04 != 0);
            }
            rest = rest.get(head + len..).unwrap_or_default();
        }
        Some(Self { protected: flags & 0x80 != 0, durable_writes: flags & 0x10 != 0, cached })
    }
}

/// Whether a unit knows a command, by REPORT SUPPORTED OPERATION CODES; `None` where it does not say.
pub fn supports(data: &[u8]) -> Option<bool> {
    match data.get(1)? & 7 {
        1 => Some(false),
        3 | 5 => Some(true),
        _ => None,
    }
}

/// Some blocks, and whether they have space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The first block.
    pub at: u64,
    /// How many there are.
    pub blocks: u32,
    /// They have data of their own.
    pub mapped: bool,
}

/// The extents that GET LBA STATUS answered, as they stand.
pub fn lba_status(data: &[u8]) -> impl Iterator<Item = Extent> {
    let len = number::<4>(data, 0).unwrap_or(0) as usize;
    let body = data.get(8..).unwrap_or_default();
    // The length counts from behind itself.
    let body = body.get(..len.saturating_sub(4)).unwrap_or(body);
    body.chunks_exact(16).map(|extent| Extent {
        at: number::<8>(extent, 0).unwrap_or(0),
        blocks: number::<4>(extent, 8).unwrap_or(0) as u32,
        // Deallocated, or anchored; all else may be data (SBC-4, provisioning status).
        mapped: extent.get(12).is_none_or(|status| !matches!(status & 0xf, 1 | 2)),
    })
}

/// The units of a target, by REPORT LUNS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Units(pub Vec<[u8; 8]>);

impl Units {
    /// Those of the answer.
    pub fn parse(data: &[u8]) -> Self {
        let len = number::<4>(data, 0).unwrap_or(0) as usize;
        let body = data.get(8..).unwrap_or_default();
        let body = body.get(..len).unwrap_or(body);
        Self(body.as_chunks::<8>().0.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn vital(code: u8, body: &[u8]) -> Vec<u8> {
        let len = (body.len() as u16).to_be_bytes();
        [&[0, code][..], &len, body].concat()
    }

    #[test]
    fn only_what_has_no_space_or_is_anchored_is_no_data() {
        for (status, mapped) in
            [(0, true), (1, false), (2, false), (3, true), (4, true), (15, true), (0xf1, false)]
        {
            let mut data = [0; 24];
            data[3] = 20;
            data[20] = status;
            let extents: Vec<_> = lba_status(&data).collect();
            assert_eq!((extents.len(), extents[0].mapped), (1, mapped), "{status:#x}");
        }
    }

    #[test]
    fn capacities_are_read_and_a_lie_about_the_last_block_is_seen() {
        let mut data = [0; 32];
        data[..12].copy_from_slice(&[0, 0, 0, 0, 0, 1, 0xff, 0xff, 0, 0, 2, 0]);
        data[14] = 0xc0;
        let capacity = Capacity { blocks: 0x2_0000, block_size: 512, thin: true, zeroes: true };
        assert_eq!(Capacity::parse_16(&data), Some(capacity));
        assert_eq!(Capacity::parse_16(&[0xff; 32]), None);
        assert_eq!(Capacity::parse_10(&[0xff, 0xff, 0xff, 0xff, 0, 0, 2, 0]), None);
        let small = Capacity { blocks: 8, block_size: 4096, thin: false, zeroes: false };
        assert_eq!(Capacity::parse_10(&[0, 0, 0, 7, 0, 0, 16, 0]), Some(small));
    }

    #[test]
    fn limits_stand_where_the_page_has_them() {
        let mut body = [0; 60];
        for (at, value) in [(8, 1), (12, 2), (20, 3), (24, 4), (28, 5), (40, 6)] {
            body[at - 4 + 3] = value;
        }
        let limits =
            BlockLimits { transfer: 1, optimal: 2, unmap: 3, unmap_ranges: 4, granularity: 5, write_same: 6 };
        assert_eq!(BlockLimits::parse(&vital(0xb0, &body)), Some(limits));
        // SBC-2 has a shorter page.
        let short = BlockLimits { transfer: 1, optimal: 2, ..BlockLimits::default() };
        assert_eq!(BlockLimits::parse(&vital(0xb0, &body[..12])), Some(short));
        assert_eq!(BlockLimits::parse(&vital(0xb1, &body)), None, "another page");
    }

    #[test]
    fn a_unit_is_known_by_its_own_designator() {
        // One of the port comes first.
        let body = [1, 0x93, 0, 2, 9, 9, 1, 0x03, 0, 3, 0x60, 1, 2];
        assert_eq!(Identification::parse(&vital(0x83, &body)), Some(Identification(vec![3, 0x60, 1, 2])));
        assert_eq!(Identification::parse(&vital(0x83, &[1, 3, 0, 200, 1])), None);
        assert_eq!(serial_number(&vital(0x80, b"  beaf11 ")), Some(&b"beaf11"[..]));
    }

    #[test]
    fn write_protection_and_the_cache_are_found() {
        // A block descriptor, another page and the page of the cache.
        let mut data = vec![0, 0, 0x90, 8];
        data.extend([0; 8]);
        data.extend([0x01, 2, 0, 0]);
        data.extend([0x88, 3, 0x00, 0, 0]);
        data[0] = data.len() as u8 - 1;
        let control = WriteControl { protected: true, durable_writes: true, cached: Some(false) };
        assert_eq!(WriteControl::parse(&data), Some(control));
        let unknown = WriteControl { protected: false, durable_writes: false, cached: None };
        assert_eq!(WriteControl::parse(&[3, 0, 0, 0]), Some(unknown));
    }

    #[test]
    fn extents_and_units_end_where_the_answer_does() {
        let mut data = vec![0, 0, 0, 36, 0, 0, 0, 0];
        data.extend([0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 4, 0, 0, 0, 0]);
        data.extend([0, 0, 0, 0, 0, 0, 0, 12, 0, 0, 0, 1, 1, 0, 0, 0]);
        data.extend([7; 16]);
        let extents: Vec<_> = lba_status(&data).collect();
        assert_eq!(
            extents,
            [Extent { at: 8, blocks: 4, mapped: true }, Extent { at: 12, blocks: 1, mapped: false }]
        );
        assert_eq!(Units::parse(&[0, 0, 0, 16, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]).0.len(), 1);
        assert_eq!(supports(&[0, 3]), Some(true));
    }

    proptest! {
        #[test]
        fn no_answer_is_too_strange(data in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = (Inquiry::parse(&data), Capacity::parse_10(&data), Capacity::parse_16(&data));
            let _ = (WriteControl::parse(&data), supports(&data), Units::parse(&data));
            prop_assert!(lba_status(&data).count() <= data.len() / 16);
            for code in [0, 0x80, 0x83, 0xb0, 0xb2] {
                let mut data = data.clone();
                if let Some(byte) = data.get_mut(1) {
                    *byte = code;
                }
                let _ = (pages(&data), serial_number(&data), Identification::parse(&data));
                let _ = (BlockLimits::parse(&data), Provisioning::parse(&data));
            }
        }
    }
}
