//! Formats that are recognised but can't be opened yet, so that none of their images is taken for a raw disk.
//!
//! Each row is a name and how its images are told from other files. A driver that is added for one of them takes over its row
//! and its function.
//!
//! Magic numbers: the formats' own specifications (Microsoft *VHD* 1.0 and *VHDX*
//! 1.00, QEMU's documents of qed and parallels), and the images themselves for the rest.
//! The scores are those of the field: 100 for a magic number, 2 for a name or the start of a script.
use block::{DriverType, Glimpse};

pub const DMG: DriverType = row("dmg", dmg);

/// Sure of it.
const CERTAIN: u32 = 100;
/// A guess, used if no format is sure.
const LIKELY: u32 = 2;

const fn row(name: &'static str, probe: fn(&Glimpse<'_>) -> u32) -> DriverType {
    DriverType { name, probe: Some(probe), ..DriverType::RECOGNISED }
}

/// The trailer with its version (4) and its own length (512), or the name.
fn dmg(seen: &Glimpse<'_>) -> u32 {
    if seen.tail.starts_with(b"koly\0\0\0\x04\0\0\x02\0") {
        return CERTAIN;
    }
    if seen.filename.ends_with(".dmg") { LIKELY } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use block::Registry;

    fn seen_as(head: &[u8], tail: &[u8], filename: &str) -> Option<&'static str> {
        let registry = Registry::new(&[crate::DRIVERS]);
        registry.probe(&Glimpse { head, tail, filename }).map(|driver| driver.name)
    }

    #[test]
    fn every_magic_is_recognised() {
        let at_64 = [&[0; 64][..], b"\x7f\x10\xda\xbe"].concat();
        let script = b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\nexit $?\n";
        let heads: &[(&[u8], &str)] = &[
            (b"KDMV\x01\0\0\0", "vmdk"),
            (b"COWD\x01\0\0\0", "vmdk"),
            (b"# Disk DescriptorFile\nversion=1\n", "vmdk"),
            (b"# disk descriptorfile\r\nencoding=\"UTF-8\"\r\n", "vmdk"),
            (b"#\n \r\n\nversion=3\r\nCID=1", "vmdk"),
            (&at_64, "vdi"),
            (b"vhdxfile", "vhdx"),
            (b"conectix", "vpc"),
            (b"QED\0", "qed"),
            (b"QFI\xfb\0\0\0\x01", "qcow"),
            (b"QFI\xfb\0\0\0\x02", "qcow2"),
            (b"WithoutFreeSpace", "parallels"),
            (b"WithouFreSpacExt", "parallels"),
            (b"LUKS\xba\xbe\0\x01", "luks"),
            (b"LUKS\xba\xbe\0\x02", "luks"),
            (script, "cloop"),
        ];
        for (head, format) in heads {
            assert_eq!(seen_as(head, &[], "x"), Some(*format));
        }
    }

    #[test]
    fn a_trailer_is_recognised_whole() {
        let trailer = b"koly\0\0\0\x04\0\0\x02\0";
        assert_eq!(seen_as(&[0; 512], trailer, "x"), Some("dmg"));
        assert_eq!(seen_as(&[0; 512], b"koly\0\0\0\x04\0\0\0\0", "x"), None);
        let footer = [&b"conectix\0\0\0\x02\0\x01\0\0"[..], &[0xff; 8], &[0; 36], &[0, 0, 0, 2]].concat();
        assert_eq!(seen_as(&[0; 512], &footer, "x"), None, "a fixed disk has to be told");
    }

    #[test]
    fn what_only_resembles_a_format_is_not_recognised() {
        let heads: &[&[u8]] = &[
            b"",
            b"KDM",
            b"LUKS\xba\xbe\0\x03",
            b"LUKS\xba\xbe",
            b"QFI\xfb\0\0\0\0",
            b"#!/bin/sh\nversion=1",
            b"version=4\n",
            b"version=1",
            b"\x7f\x10\xda\xbe",
            b"#!/bin/sh\n#V2.0 Format\n",
            b"\n\n\n",
        ];
        for head in heads {
            assert_eq!(seen_as(head, &[], "x.img"), None, "{head:?}");
        }
        assert_eq!(seen_as(&[0; 512], &[0; 512], "x.dmg"), Some("dmg"), "by its name");
        assert_eq!(
            seen_as(b"QFI\xfb\0\0\0\x03", &[0; 512], "x.dmg"),
            Some("qcow2"),
            "a magic number is worth more"
        );
    }
}
