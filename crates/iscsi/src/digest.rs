//! Digests of headers and of data: CRC-32C, its bytes in the order of the register (section 13.1).
use codec::Crc32c;

/// Bytes of a digest.
pub const DIGEST: usize = 4;

/// The digest of a sum over all bytes it covers, padding among them.
pub fn digest(sum: Crc32c) -> [u8; DIGEST] {
    sum.sum().to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digests_of_the_specification_come_out() {
        // RFC 7143, appendix A.4.
        assert_eq!(digest(Crc32c::default().with(&[0; 32])), [0xaa, 0x36, 0x91, 0x8a]);
        assert_eq!(digest(Crc32c::default().with(&[0xff; 32])), [0x43, 0xab, 0xa8, 0x62]);
    }
}
