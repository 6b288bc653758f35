//! File systems, and what else a partition may be, by the marks that they have at fixed places.

/// A mark: what has it, where, and its bytes.
type Mark = (&'static str, usize, &'static [u8]);

/// The marks, in the order in which they are looked for: those of containers first, which keep what was there before.
const MARKS: &[Mark] = &[
    ("crypto_LUKS", 0, b"LUKS\xba\xbe"),
    ("lvm2", 512, b"LABELONE"),
    ("bitlocker", 3, b"-FVE-FS-"),
    ("swap", 4086, b"SWAPSPACE2"),
    ("btrfs", 0x1_0040, b"_BHRfS_M"),
    ("xfs", 0, b"XFSB"),
    ("ext", 0x438, b"\x53\xef"),
    ("f2fs", 0x400, b"\x10\x20\xf5\xf2"),
    ("ntfs", 3, b"NTFS    "),
    ("exfat", 3, b"EXFAT   "),
    ("fat", 82, b"FAT32   "),
    ("fat", 54, b"FAT16   "),
    ("fat", 54, b"FAT12   "),
    ("squashfs", 0, b"hsqs"),
    ("erofs", 0x400, b"\xe2\xe1\xf5\xe0"),
    ("apfs", 32, b"NXSB"),
    ("hfsplus", 0x400, b"H+\x00\x04"),
    ("ufs", 0x255c, b"\x19\x01\x54\x19"),
    ("udf", 0x8001, b"BEA01"),
    ("iso9660", 0x8001, b"CD001"),
    ("minix", 0x410, b"\x7f\x13"),
];

/// What begins with these bytes.
pub(super) fn of(front: &[u8]) -> Option<&'static str> {
    let has = |(_, at, bytes): &&Mark| front.get(*at..).is_some_and(|rest| rest.starts_with(bytes));
    MARKS.iter().find(has).map(|(name, ..)| *name)
}
