//! The checksum CRC-32C (Castagnoli), by eight tables: eight bytes at a step.
const POLYNOMIAL: u32 = 0x82f6_3b78;

static TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut step = 1;
    while step < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[step - 1][byte];
            tables[step][byte] = before >> 8 ^ tables[0][(before & 0xff) as usize];
            byte += 1;
        }
        step += 1;
    }
    tables
}

/// A checksum of bytes that come in parts.
#[derive(Debug, Clone, Copy)]
pub struct Crc32c(u32);

impl Default for Crc32c {
    fn default() -> Self {
        Self(u32::MAX)
    }
}

impl Crc32c {
    /// The same with further bytes.
    #[must_use]
    pub fn with(self, bytes: &[u8]) -> Self {
        Self(update(self.0, bytes))
    }

    /// The checksum of all of them.
    pub fn sum(self) -> u32 {
        !self.0
    }
}

fn update(mut crc: u32, bytes: &[u8]) -> u32 {
    let (steps, rest) = bytes.as_chunks::<8>();
    for step in steps {
        let [a, b, c, d] = (crc ^ u32::from_le_bytes([step[0], step[1], step[2], step[3]])).to_le_bytes();
        let behind = [a, b, c, d, step[4], step[5], step[6], step[7]];
        crc = behind
            .iter()
            .zip(TABLES.iter().rev())
            .fold(0, |sum, (byte, table)| sum ^ table[usize::from(*byte)]);
    }
    rest.iter().fold(crc, |crc, byte| crc >> 8 ^ TABLES[0][usize::from(crc as u8 ^ byte)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_checksums_come_out() {
        assert_eq!(Crc32c::default().with(b"123456789").sum(), 0xe306_9283);
        assert_eq!(Crc32c::default().with(b"1234").with(b"").with(b"56789").sum(), 0xe306_9283);
        assert_eq!(Crc32c::default().with(&[0; 32]).sum(), 0x8a91_36aa);
        assert_eq!(Crc32c::default().with(&[0xff; 32]).sum(), 0x62a8_ab43);
        let counted: Vec<u8> = (0..32).collect();
        assert_eq!(Crc32c::default().with(&counted).sum(), 0x46dd_794e);
        assert_eq!(Crc32c::default().with(&[]).sum(), 0);
    }
}
