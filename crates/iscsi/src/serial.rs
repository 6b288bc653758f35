//! Numbers that wrap (RFC 1982, section 4.2.2.1): commands and answers are counted with 32 bits.

/// Whether `a` comes before `b`, or is the same.
pub fn up_to(a: u32, b: u32) -> bool {
    b.wrapping_sub(a) < 1 << 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_compared_over_the_wrap() {
        assert!(up_to(5, 5) && up_to(5, 6) && !up_to(6, 5));
        assert!(up_to(u32::MAX, 0) && !up_to(0, u32::MAX));
    }
}
