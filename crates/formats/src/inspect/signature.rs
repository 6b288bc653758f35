//! Marks by which files are told: where each stands, and what a file that has it could be taken for.
//!
//! A file may have several: at its start, further inside (optical discs, partition tables) and at its end (VHD, DMG). Whoever reads it
//! goes by one of them, and not all go by the same.

use crate::field::le32;
pub use api::ImageSignatureClass as Class;

/// One mark.
#[derive(Debug, PartialEq, Eq)]
pub struct Signature {
    /// What it is the mark of.
    pub name: &'static str,
    /// What that is.
    pub class: Class,
    /// Where it stands, from the start of the file.
    pub offset: u64,
    /// The bytes of the mark.
    bytes: &'static [u8],
}

const fn image(name: &'static str, offset: u64, bytes: &'static [u8]) -> Signature {
    Signature { name, class: Class::Image, offset, bytes }
}

const fn disk(name: &'static str, offset: u64, bytes: &'static [u8]) -> Signature {
    Signature { name, class: Class::Disk, offset, bytes }
}

const fn file(name: &'static str, bytes: &'static [u8]) -> Signature {
    Signature { name, class: Class::File, offset: 0, bytes }
}

/// Marks of images at their start.
pub(super) const IMAGES: &[Signature] = &[
    image("qcow2", 0, b"QFI\xfb\0\0\0\x02"),
    image("qcow2", 0, b"QFI\xfb\0\0\0\x03"),
    image("qcow", 0, b"QFI\xfb\0\0\0\x01"),
    image("qed", 0, b"QED\0"),
    image("vmdk", 0, b"KDMV"),
    image("vmdk", 0, b"COWD"),
    image("vmdk", 0, DESCRIPTOR),
    image("vdi", 0x40, b"\x7f\x10\xda\xbe"),
    image("vhdx", 0, b"vhdxfile"),
    image("vpc", 0, b"conectix"),
    image("parallels", 0, b"WithoutFreeSpace"),
    image("parallels", 0, b"WithouFreSpacExt"),
    image("luks", 0, b"LUKS\xba\xbe"),
    image("bochs", 0, b"Bochs Virtual HD Image"),
    image("cloop", 0, b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop"),
    image("cow", 0, b"OOOM"),
];

/// How a VMDK descriptor begins, in any case of letters.
const DESCRIPTOR: &[u8] = b"# Disk DescriptorFile";

/// A qcow2 header of a version that no specification has.
const QCOW_LATER: Signature = image("qcow2", 0, b"QFI\xfb");
/// A VMDK descriptor that begins with comments of its own.
const VMDK_TEXT: Signature = image("vmdk", 0, b"version=");
/// A VHD of fixed size: the disk, and a footer.
const VPC_FOOTER: Signature = image("vpc", 0, b"conectix");
/// A disk image of macOS: its trailer.
const DMG: Signature = image("dmg", 0, b"koly\0\0\0\x04\0\0\x02\0");

/// Marks of everything else.
const OTHERS: &[Signature] = &[
    // Those of containers first, which keep what was there before.
    disk("lvm", 512, b"LABELONE"),
    disk("bitlocker", 3, b"-FVE-FS-"),
    disk("swap", 4086, b"SWAPSPACE2"),
    disk("btrfs", 0x10040, b"_BHRfS_M"),
    disk("xfs", 0, b"XFSB"),
    disk("ext", 0x438, b"\x53\xef"),
    disk("f2fs", 0x400, b"\x10\x20\xf5\xf2"),
    disk("ntfs", 3, b"NTFS    "),
    disk("exfat", 3, b"EXFAT   "),
    disk("fat", 82, b"FAT32   "),
    disk("fat", 54, b"FAT16   "),
    disk("fat", 54, b"FAT12   "),
    disk("squashfs", 0, b"hsqs"),
    disk("erofs", 0x400, b"\xe2\xe1\xf5\xe0"),
    disk("apfs", 32, b"NXSB"),
    disk("hfsplus", 0x400, b"H+\x00\x04"),
    disk("udf", 0x8001, b"BEA01"),
    disk("udf", 0x8801, b"BEA01"),
    disk("iso9660", 0x8001, b"CD001"),
    disk("gpt", 512, b"EFI PART"),
    disk("gpt", 4096, b"EFI PART"),
    file("gzip", b"\x1f\x8b\x08"),
    file("bzip2", b"BZh"),
    file("xz", b"\xfd7zXZ\0"),
    file("zstd", b"\x28\xb5\x2f\xfd"),
    file("lz4", b"\x04\x22\x4d\x18"),
    file("zip", b"PK\x03\x04"),
    file("7z", b"7z\xbc\xaf\x27\x1c"),
    Signature { offset: 257, ..file("tar", b"ustar") },
    file("elf", b"\x7fELF"),
    file("pdf", b"%PDF-"),
];

const MBR: Signature = disk("mbr", 510, b"\x55\xaa");

/// The marks that a file has: `head` is its start, `tail` its end.
pub fn of(head: &[u8], tail: &[u8]) -> Vec<&'static Signature> {
    let mut found: Vec<_> = IMAGES.iter().filter(|mark| mark.stands_in(head)).collect();
    if found.is_empty() && QCOW_LATER.stands_in(head) {
        found.push(&QCOW_LATER);
    }
    if !found.iter().any(|mark| mark.name == VMDK_TEXT.name) && crate::vmdk::begins_as_descriptor(head) {
        found.push(&VMDK_TEXT);
    }
    let footer = |len: usize| tail.len().checked_sub(len).and_then(|at| tail.get(at..)).unwrap_or_default();
    // Footers of old programs have 511 bytes.
    let is_fixed = [512, 511].iter().any(|len| footer(*len).starts_with(VPC_FOOTER.bytes));
    if is_fixed && !found.iter().any(|mark| mark.name == VPC_FOOTER.name) {
        found.push(&VPC_FOOTER);
    }
    if footer(512).starts_with(DMG.bytes) {
        found.push(&DMG);
    }
    found.extend(OTHERS.iter().filter(|mark| mark.stands_in(head)));
    if has_partitions(head) {
        found.push(&MBR);
    }
    found
}

/// The file system that a partition or a disk begins with, or what it is a part of.
pub fn filesystem(front: &[u8]) -> Option<&'static Signature> {
    let of_disks = OTHERS.iter().filter(|mark| mark.class == Class::Disk && mark.name != "gpt");
    let mut luks = IMAGES.iter().filter(|mark| mark.name == "luks");
    luks.find(|mark| mark.stands_in(front))
        .or_else(|| of_disks.into_iter().find(|mark| mark.stands_in(front)))
}

impl Signature {
    fn stands_in(&self, head: &[u8]) -> bool {
        let at = usize::try_from(self.offset).unwrap_or(usize::MAX);
        let end = at.saturating_add(self.bytes.len());
        let Some(there) = head.get(at..end) else { return false };
        match self.bytes == DESCRIPTOR {
            true => there.eq_ignore_ascii_case(self.bytes),
            false => there == self.bytes,
        }
    }
}

/// Whether there is a partition table of the old kind with a partition in it: boot sectors alone have the same mark.
fn has_partitions(head: &[u8]) -> bool {
    let is_entry = |at: usize| {
        let kind = head.get(at + 4).copied().unwrap_or(0);
        let active = head.get(at).copied().unwrap_or(1);
        kind != 0 && active & 0x7f == 0 && le32(head, at + 12).is_some_and(|sectors| sectors > 0)
    };
    MBR.stands_in(head) && [446, 462, 478, 494].into_iter().any(is_entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(head: &[u8], tail: &[u8]) -> Vec<&'static str> {
        of(head, tail).iter().map(|mark| mark.name).collect()
    }

    #[test]
    fn every_mark_is_found_where_it_stands() {
        for mark in IMAGES.iter().chain(OTHERS) {
            let mut head = vec![0; mark.offset as usize];
            head.extend(mark.bytes);
            assert_eq!(names(&head, &[]), [mark.name], "{mark:?}");
            head.truncate(mark.offset as usize + 1);
            assert_eq!(names(&head, &[]), [""; 0], "{mark:?} cut off");
        }
    }

    #[test]
    fn a_file_has_all_of_its_marks() {
        let mut head = vec![0; 0x9000];
        head[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
        head[0x8001..0x8006].copy_from_slice(b"CD001");
        let mut tail = vec![0; 512];
        tail[..8].copy_from_slice(b"conectix");
        assert_eq!(names(&head, &tail), ["qcow2", "vpc", "iso9660"]);
        head[4..8].copy_from_slice(&9u32.to_be_bytes());
        assert_eq!(names(&head, &[]), ["qcow2", "iso9660"], "of a version to come");
        assert_eq!(names(b"#\n\nversion=1\nCID=1\n", &[]), ["vmdk"]);
        assert_eq!(names(b"# DISK DESCRIPTORFILE\n", &[]), ["vmdk"]);
    }

    #[test]
    fn a_boot_sector_without_partitions_is_no_partition_table() {
        let mut head = vec![0; 512];
        head[510..].copy_from_slice(b"\x55\xaa");
        assert_eq!(names(&head, &[]), [""; 0]);
        head[446 + 4] = 0xee;
        head[446 + 12] = 1;
        assert_eq!(names(&head, &[]), ["mbr"]);
    }
}
