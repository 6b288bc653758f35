//! Randomness for keys, salts and UUIDs.

/// The system gave no random bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random bytes: {0}")]
pub struct NoRandomness(pub String);

/// Where random bytes come from: the system, or a seed in tests.
pub trait Random {
    /// Fills `bytes`.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), NoRandomness>;
}

/// The system's generator. It blocks until the system has seeded it, once after boot.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), NoRandomness> {
        getrandom::fill(bytes).map_err(|e| NoRandomness(e.to_string()))
    }
}

/// A random UUID as text (RFC 9562, version 4).
pub(crate) fn uuid(random: &mut dyn Random) -> Result<String, NoRandomness> {
    let mut bytes = [0; 16];
    random.fill(&mut bytes)?;
    let bits = u128::from_be_bytes(bytes) & !(0xf << 76) & !(0x3 << 62) | (4 << 76) | (2 << 62);
    let hex = format!("{bits:032x}");
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| hex.get(range).unwrap_or_default());
    Ok(parts.join("-"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A generator that gives the same bytes in each run; enough for tests.
    pub(crate) struct Seeded(pub u64);

    impl Random for Seeded {
        fn fill(&mut self, bytes: &mut [u8]) -> Result<(), NoRandomness> {
            for byte in bytes {
                self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                *byte = (self.0 >> 56) as u8;
            }
            Ok(())
        }
    }

    #[test]
    fn a_uuid_has_its_version_and_variant() {
        for seed in 0..100 {
            let text = uuid(&mut Seeded(seed)).unwrap();
            assert_eq!(text.len(), 36, "{text}");
            assert_eq!(text.as_bytes()[14], b'4', "{text}");
            assert!(b"89ab".contains(&text.as_bytes()[19]), "{text}");
        }
        assert_ne!(uuid(&mut SystemRandom).unwrap(), uuid(&mut SystemRandom).unwrap());
    }
}
