//! Command blocks. Places and lengths are in blocks of the unit, lengths of answers in bytes.

/// A command block; shorter commands have zeroes behind them.
pub type Block = [u8; 16];

/// Durable before it is answered (FUA), in READ and WRITE.
const FUA: u8 = 0x08;
/// The blocks may be given back, in WRITE SAME.
const UNMAP: u8 = 0x08;

/// Bytes of an UNMAP's parameters in front of its descriptors, and of each of these.
const UNMAP_HEADER: usize = 8;
const UNMAP_DESCRIPTOR: usize = 16;

/// How large the numbers of READ, WRITE and their like are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Width {
    /// Commands of 10 bytes: places with 32 bits, lengths with 16.
    Ten,
    /// Commands of 16 bytes: places with 64 bits, lengths with 32.
    Sixteen,
}

impl Width {
    /// Most blocks of one command.
    pub fn most_blocks(self) -> u32 {
        match self {
            Self::Ten => u16::MAX.into(),
            Self::Sixteen => u32::MAX,
        }
    }

    /// A command over a range of blocks. The caller keeps to [`Width::most_blocks`], and to places that fit.
    fn over(self, (ten, sixteen): (u8, u8), flags: u8, (at, blocks): (u64, u32)) -> Block {
        let mut block = [0; 16];
        block[1] = flags;
        match self {
            Self::Ten => {
                block[0] = ten;
                block[2..6].copy_from_slice(&(at as u32).to_be_bytes());
                block[7..9].copy_from_slice(&(blocks as u16).to_be_bytes());
            }
            Self::Sixteen => {
                block[0] = sixteen;
                block[2..10].copy_from_slice(&at.to_be_bytes());
                block[10..14].copy_from_slice(&blocks.to_be_bytes());
            }
        }
        block
    }

    /// READ.
    pub fn read(self, range: (u64, u32)) -> Block {
        self.over((0x28, 0x88), 0, range)
    }

    /// WRITE.
    pub fn write(self, range: (u64, u32), durable: bool) -> Block {
        self.over((0x2a, 0x8a), if durable { FUA } else { 0 }, range)
    }

    /// WRITE SAME: its data are one block.
    pub fn write_same(self, range: (u64, u32), unmap: bool) -> Block {
        self.over((0x41, WRITE_SAME_16), if unmap { UNMAP } else { 0 }, range)
    }

    /// SYNCHRONIZE CACHE, of the whole unit.
    pub fn synchronize(self) -> Block {
        self.over(SYNCHRONIZE_CACHE, 0, (0, 0))
    }
}

/// The codes of SYNCHRONIZE CACHE(10) and (16).
pub const SYNCHRONIZE_CACHE: (u8, u8) = (0x35, 0x91);

/// The code of WRITE SAME(16).
pub const WRITE_SAME_16: u8 = 0x93;

/// TEST UNIT READY.
pub fn test_unit_ready() -> Block {
    [0; 16]
}

/// INQUIRY; a page of vital product data, or the standard answer.
pub fn inquiry(page: Option<u8>, len: u16) -> Block {
    let mut block = [0; 16];
    block[..3].copy_from_slice(&[0x12, page.is_some().into(), page.unwrap_or(0)]);
    block[3..5].copy_from_slice(&len.to_be_bytes());
    block
}

/// READ CAPACITY(10), whose answer has 8 bytes.
pub fn read_capacity_10() -> Block {
    let mut block = [0; 16];
    block[0] = 0x25;
    block
}

/// READ CAPACITY(16).
pub fn read_capacity_16(len: u32) -> Block {
    service_action_in(0x10, 0, len)
}

/// GET LBA STATUS, from a block on.
pub fn get_lba_status(at: u64, len: u32) -> Block {
    service_action_in(0x12, at, len)
}

fn service_action_in(action: u8, at: u64, len: u32) -> Block {
    let mut block = [0; 16];
    block[..2].copy_from_slice(&[0x9e, action]);
    block[2..10].copy_from_slice(&at.to_be_bytes());
    block[10..14].copy_from_slice(&len.to_be_bytes());
    block
}

/// MODE SENSE(6) of a page; 0x3f: all of them.
pub fn mode_sense_6(page: u8, len: u8) -> Block {
    let mut block = [0; 16];
    block[..5].copy_from_slice(&[0x1a, 0, page, 0, len]);
    block
}

/// REPORT SUPPORTED OPERATION CODES, of one code without service actions.
pub fn report_supported(code: u8, len: u32) -> Block {
    let mut block = [0; 16];
    block[..4].copy_from_slice(&[0xa3, 0x0c, 0x01, code]);
    block[6..10].copy_from_slice(&len.to_be_bytes());
    block
}

/// REPORT LUNS.
pub fn report_luns(len: u32) -> Block {
    let mut block = [0; 16];
    block[0] = 0xa0;
    block[6..10].copy_from_slice(&len.to_be_bytes());
    block
}

/// UNMAP of some ranges: the block, and the data that go with it.
pub fn unmap(ranges: &[(u64, u32)]) -> (Block, Vec<u8>) {
    let descriptors = ranges.len() * UNMAP_DESCRIPTOR;
    let mut data = vec![0; UNMAP_HEADER];
    // The lengths behind each of the two; a caller has few ranges.
    data[..2].copy_from_slice(&((UNMAP_HEADER - 2 + descriptors) as u16).to_be_bytes());
    data[2..4].copy_from_slice(&(descriptors as u16).to_be_bytes());
    for (at, blocks) in ranges {
        data.extend_from_slice(&at.to_be_bytes());
        data.extend_from_slice(&blocks.to_be_bytes());
        data.extend_from_slice(&[0; 4]);
    }
    let mut block = [0; 16];
    block[0] = 0x42;
    block[7..9].copy_from_slice(&(data.len() as u16).to_be_bytes());
    (block, data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_stand_where_each_width_has_them() {
        let ten = Width::Ten.write((0x0102_0304, 0x0506), true);
        assert_eq!(ten[..10], [0x2a, 8, 1, 2, 3, 4, 0, 5, 6, 0]);
        let sixteen = Width::Sixteen.write_same((0x0102_0304_0506_0708, 0x090a_0b0c), true);
        assert_eq!(sixteen, [0x93, 8, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 0]);
        assert_eq!(Width::Sixteen.read((0, 1))[0], 0x88);
        assert_eq!(Width::Ten.synchronize()[0], 0x35);
    }

    #[test]
    fn an_unmap_counts_its_bytes_twice() {
        let (block, data) = unmap(&[(1, 2), (3, 4)]);
        assert_eq!((data.len(), block[8]), (40, 40));
        assert_eq!(data[..8], [0, 38, 0, 32, 0, 0, 0, 0]);
        assert_eq!(data[8..24], [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0]);
    }

    #[test]
    fn questions_say_how_long_an_answer_may_be() {
        assert_eq!(inquiry(Some(0xb0), 0x0102)[..6], [0x12, 1, 0xb0, 1, 2, 0]);
        assert_eq!(read_capacity_16(32)[..14], [0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32]);
        assert_eq!(mode_sense_6(0x3f, 252)[..6], [0x1a, 0, 0x3f, 0, 252, 0]);
        assert_eq!(report_supported(0x93, 20)[..10], [0xa3, 0x0c, 1, 0x93, 0, 0, 0, 0, 0, 20]);
        assert_eq!(report_luns(16)[9], 16);
    }
}
