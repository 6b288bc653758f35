//! Which format each file is taken for, where none is told.
use block::{Glimpse, Registry};

fn seen_as(head: &[u8], filename: &str) -> Option<&'static str> {
    let registry = Registry::new(&[crate::DRIVERS]);
    registry.probe(&Glimpse { head, filename }).map(|driver| driver.name)
}

#[test]
fn every_magic_is_recognised() {
    let at_64 = [&[0; 64][..], b"\x7f\x10\xda\xbe"].concat();
    let script =
        b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\nexit $?\n";
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
        assert_eq!(seen_as(head, "x"), Some(*format));
    }
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
        assert_eq!(seen_as(head, "x.img"), None, "{head:?}");
    }
    assert_eq!(seen_as(&[0; 512], "x.dmg"), Some("dmg"), "by its name");
    assert_eq!(seen_as(b"QFI\xfb\0\0\0\x03", "x.dmg"), Some("qcow2"), "a magic number is worth more");
}
