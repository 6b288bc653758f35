//! What is told of encryption: librbd's formats by the schema's names, and how an encrypted image is recognised.
use api::RbdImageEncryptionFormat;
use ceph::Format;

/// Bytes at the start of an image that tell whether it is encrypted.
pub(super) const MARK: usize = 8;

/// The start of a LUKS header, and that of an encrypted clone, which librbd gives a mark of its own; then the version.
const LUKS: &[u8] = b"LUKS\xba\xbe";
const CLONE: &[u8] = b"RBDL\xba\xbe";

/// The format by the schema's name.
pub(super) fn told(format: Format) -> RbdImageEncryptionFormat {
    match format {
        Format::Luks1 => RbdImageEncryptionFormat::Luks,
        Format::Luks2 => RbdImageEncryptionFormat::Luks2,
        Format::AnyLuks => RbdImageEncryptionFormat::LuksAny,
    }
}

/// The format that the start of an image shows, if it shows one.
pub(super) fn recognised(head: &[u8]) -> Option<RbdImageEncryptionFormat> {
    let version = head.strip_prefix(LUKS).or_else(|| head.strip_prefix(CLONE))?;
    match version {
        [0, 1, ..] => Some(RbdImageEncryptionFormat::Luks),
        [0, 2, ..] => Some(RbdImageEncryptionFormat::Luks2),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_both_versions_are_recognised_and_nothing_else() {
        assert_eq!(recognised(b"LUKS\xba\xbe\0\x01"), Some(RbdImageEncryptionFormat::Luks));
        assert_eq!(recognised(b"LUKS\xba\xbe\0\x02more"), Some(RbdImageEncryptionFormat::Luks2));
        assert_eq!(recognised(b"RBDL\xba\xbe\0\x02"), Some(RbdImageEncryptionFormat::Luks2));
        for other in [&b"LUKS\xba\xbe\0\x03"[..], b"LUKS\xba\xbe", b"", b"QFI\xfb\0\0\0\x03"] {
            assert_eq!(recognised(other), None);
        }
    }
}
