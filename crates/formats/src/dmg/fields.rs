//! Big-endian numbers in headers; zero, where a header is cut off.
use crate::field::{be16, be32, be64};

pub fn short(bytes: &[u8], at: usize) -> u16 {
    be16(bytes, at).unwrap_or(0)
}

pub fn word(bytes: &[u8], at: usize) -> u32 {
    be32(bytes, at).unwrap_or(0)
}

pub fn long(bytes: &[u8], at: usize) -> u64 {
    be64(bytes, at).unwrap_or(0)
}
