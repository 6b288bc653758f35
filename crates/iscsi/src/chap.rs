//! CHAP (RFC 1994; section 12.1.3): who knows a secret proves it with the digest of an identifier, the secret and a
//! challenge.
use crate::limits;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// How a response is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// MD5, which every peer knows.
    Md5,
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
}

/// The offer, strongest first: the peer takes the first that it knows.
pub const OFFER: &str = "7,6,5";
/// MD5 alone.
pub const PLAIN_OFFER: &str = "5";

impl Algorithm {
    /// The one with this number (`CHAP_A`).
    pub fn of(number: &str) -> Option<Self> {
        match number {
            "5" => Some(Self::Md5),
            "6" => Some(Self::Sha1),
            "7" => Some(Self::Sha256),
            _ => None,
        }
    }

    /// The response to a challenge.
    pub fn response(self, identifier: u8, secret: &[u8], challenge: &[u8]) -> Vec<u8> {
        fn over<D: Digest>(parts: [&[u8]; 3]) -> Vec<u8> {
            parts.iter().fold(D::new(), |digest, part| digest.chain_update(part)).finalize().to_vec()
        }
        let parts = [&[identifier][..], secret, challenge];
        match self {
            Self::Md5 => over::<Md5>(parts),
            Self::Sha1 => over::<Sha1>(parts),
            Self::Sha256 => over::<Sha256>(parts),
        }
    }
}

/// Whether two responses are the same, in a time that tells nothing of where they differ.
pub fn same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

/// Bytes as the value of a key.
pub fn to_text(bytes: &[u8]) -> String {
    let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
    std::iter::once("0x".to_owned()).chain(digits).collect()
}

/// Bytes of the value of a key, in hexadecimal or Base64 (section 6.1); `None` where it is neither, or too long.
pub fn to_bytes(text: &str) -> Option<Vec<u8>> {
    let (kind, digits) = text.split_at_checked(2)?;
    if digits.len() > 2 * limits::CHALLENGE {
        return None;
    }
    let bytes = match kind {
        "0x" | "0X" if digits.bytes().all(|digit| digit.is_ascii_hexdigit()) => {
            // A peer may leave out a leading zero.
            let even = format!("{}{digits}", if digits.len() % 2 == 1 { "0" } else { "" });
            let pairs = (0..even.len()).step_by(2);
            pairs.map(|at| u8::from_str_radix(even.get(at..at + 2)?, 16).ok()).collect::<Option<Vec<_>>>()?
        }
        "0b" | "0B" => STANDARD.decode(digits).ok()?,
        _ => return None,
    };
    (!bytes.is_empty() && bytes.len() <= limits::CHALLENGE).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn responses_are_the_digests_of_known_texts() {
        // MD5, SHA-1 and SHA-256 of "abc", in three parts.
        let of = |algorithm: Algorithm| to_text(&algorithm.response(b'a', b"b", b"c"));
        assert_eq!(of(Algorithm::Md5), "0x900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(of(Algorithm::Sha1), "0xa9993e364706816aba3e25717850c26c9cd0d89d");
        let sha256 = "0xba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(of(Algorithm::Sha256), sha256);
    }

    #[test]
    fn both_forms_of_bytes_are_read_and_others_are_not() {
        assert_eq!(to_bytes("0xAbC"), Some(vec![0x0a, 0xbc]));
        assert_eq!(to_bytes("0bAAEC"), Some(vec![0, 1, 2]));
        for text in ["", "0x", "0b", "12", "0xg0", "0x€€", "€€", "0b!", "0x+1"] {
            assert_eq!(to_bytes(text), None, "{text}");
        }
        assert_eq!(to_bytes(&format!("0x{}", "0".repeat(2 * limits::CHALLENGE + 1))), None);
    }

    proptest! {
        #[test]
        fn bytes_come_back(bytes in proptest::collection::vec(any::<u8>(), 1..limits::CHALLENGE)) {
            prop_assert_eq!(to_bytes(&to_text(&bytes)), Some(bytes.clone()));
            prop_assert!(same(&bytes, &bytes));
            prop_assert_eq!(to_bytes(&format!("0b{}", STANDARD.encode(&bytes))), Some(bytes));
        }
    }
}
