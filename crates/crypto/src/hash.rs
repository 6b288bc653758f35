//! The hashes that LUKS headers name.

use sha2::digest::Digest;
use zeroize::Zeroize;

/// A hash function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Hash {
    Md5,
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
    Ripemd160,
    Sm3,
}

/// A hash that is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("hash '{0}' is not known; known are md5, sha1, sha224, sha256, sha384, sha512, ripemd160 and sm3")]
pub struct UnknownHash(pub String);

/// Runs `$body` with `$D` as the type that computes hash `$hash`.
macro_rules! with_hash {
    ($hash:expr, $D:ident => $body:expr) => {
        match $hash {
            $crate::Hash::Md5 => with_hash!(@ md5::Md5, $D, $body),
            $crate::Hash::Sha1 => with_hash!(@ sha1::Sha1, $D, $body),
            $crate::Hash::Sha224 => with_hash!(@ sha2::Sha224, $D, $body),
            $crate::Hash::Sha256 => with_hash!(@ sha2::Sha256, $D, $body),
            $crate::Hash::Sha384 => with_hash!(@ sha2::Sha384, $D, $body),
            $crate::Hash::Sha512 => with_hash!(@ sha2::Sha512, $D, $body),
            $crate::Hash::Ripemd160 => with_hash!(@ ripemd::Ripemd160, $D, $body),
            $crate::Hash::Sm3 => with_hash!(@ sm3::Sm3, $D, $body),
        }
    };
    (@ $type:ty, $D:ident, $body:expr) => {{
        type $D = $type;
        $body
    }};
}
pub(crate) use with_hash;

impl Hash {
    /// All of them.
    pub const ALL: [Hash; 8] = [
        Hash::Md5,
        Hash::Sha1,
        Hash::Sha224,
        Hash::Sha256,
        Hash::Sha384,
        Hash::Sha512,
        Hash::Ripemd160,
        Hash::Sm3,
    ];

    /// Its name in headers and options.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha224 => "sha224",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
            Self::Ripemd160 => "ripemd160",
            Self::Sm3 => "sm3",
        }
    }

    /// The hash of this name.
    pub fn from_name(name: &str) -> Result<Self, UnknownHash> {
        Self::ALL.into_iter().find(|hash| hash.name() == name).ok_or_else(|| UnknownHash(name.into()))
    }

    /// Length of a digest, in bytes.
    pub const fn digest_len(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 | Self::Ripemd160 => 20,
            Self::Sha224 => 28,
            Self::Sha256 | Self::Sm3 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// Puts the digest of all `parts`, one after the other, at the start of `out`; of a shorter `out` only what fits.
    pub fn digest(self, parts: &[&[u8]], out: &mut [u8]) {
        with_hash!(self, D => {
            let mut state = D::new();
            parts.iter().for_each(|part| state.update(part));
            let mut digest = state.finalize();
            out.iter_mut().zip(digest.iter()).for_each(|(out, byte)| *out = *byte);
            digest.as_mut_slice().zeroize();
        });
    }
}

impl std::fmt::Display for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The published digests of "abc": RFC 1321, FIPS 180-4, the RIPEMD-160 page, GB/T 32905.
    #[test]
    fn the_published_digests_of_abc() {
        for (hash, digest) in [
            (Hash::Md5, "900150983cd24fb0d6963f7d28e17f72"),
            (Hash::Sha1, "a9993e364706816aba3e25717850c26c9cd0d89d"),
            (Hash::Sha224, "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7"),
            (Hash::Sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (
                Hash::Sha384,
                "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed\
                 8086072ba1e7cc2358baeca134c825a7",
            ),
            (
                Hash::Sha512,
                "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
                 2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
            ),
            (Hash::Ripemd160, "8eb208f7e05d987a9b044a8e98c6b087f15a0bfc"),
            (Hash::Sm3, "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"),
        ] {
            let mut out = vec![0; hash.digest_len()];
            hash.digest(&[b"a", b"bc"], &mut out);
            assert_eq!(hex(&out), digest, "{}", hash.name());
            let mut start = [0; 5];
            hash.digest(&[b"abc"], &mut start);
            assert_eq!(start, out[..5]);
            assert_eq!(Hash::from_name(hash.name()), Ok(hash));
        }
        assert_eq!(Hash::from_name("whirlpool"), Err(UnknownHash("whirlpool".into())));
    }
}
