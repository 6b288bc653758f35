//! VMDK images beside the peer's programs: what is said, what the image is then, and that each reads and writes what the other
//! made.
use crate::pair::*;
use std::fs;

const SUBFORMATS: [&str; 5] =
    ["monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat", "streamOptimized"];

#[test]
fn vmdk_commands_say_and_make_the_same() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("vmdk-commands");
    pair.all_same(&[
        "qemu-img create -f vmdk a.vmdk 100M",
        "qemu-img create -f vmdk -o subformat=monolithicFlat,adapter_type=lsilogic f.vmdk 10M",
        "qemu-img create -f vmdk -o subformat=twoGbMaxExtentSparse,hwversion=11 t.vmdk 5G",
        "qemu-img create -f vmdk -o zeroed_grain=on,compat6 z.vmdk 1000",
        "qemu-img create -f vmdk -o adapter_type=foo never.vmdk 1M",
        "qemu-img create -f vmdk -o subformat=foo never.vmdk 1M",
        "qemu-img create -f vmdk -o compat6,hwversion=7 never.vmdk 1M",
        "qemu-img create -f vmdk -o subformat=monolithicFlat,zeroed_grain=on never.vmdk 1M",
        "qemu-img create -f vmdk -o subformat=monolithicFlat -b a.vmdk -F vmdk never.vmdk",
        "qemu-img create -f raw a.raw 1M",
        "qemu-img create -f vmdk -b a.raw -F raw never.vmdk",
        "qemu-img create -f vmdk -b a.vmdk -F vmdk over.vmdk",
        "qemu-io -c 'write -P 5 1M 64k' -c 'write -P 6 0 512' -c 'write -P 9 10M 20M' a.vmdk",
        "qemu-img map --output=json a.vmdk",
        "qemu-img map a.vmdk",
        "qemu-img check a.vmdk",
        "qemu-img check --output=json a.vmdk",
        // The image below has changed since the overlay was made.
        "qemu-io -c 'read 0 64k' over.vmdk",
        "qemu-img create -q -f vmdk -b a.vmdk -F vmdk over.vmdk",
        "qemu-io -c 'read -P 6 0 512' -c 'write -P 7 1M 512' -c 'read -P 5 1049088 1k' over.vmdk",
        "qemu-img map --output=json over.vmdk",
        "qemu-img commit over.vmdk",
        "qemu-io -r -c 'read -P 7 1M 512' -c 'read -P 5 1049088 1k' a.vmdk",
        "qemu-img rebase -u -b '' over.vmdk",
        "qemu-img resize a.vmdk 200M",
        "qemu-img snapshot -c x a.vmdk",
        "qemu-img measure -O vmdk --size 1G",
        "qemu-io -c 'write -P 3 0 64k' -c 'write -P 2 128k 128k' f.vmdk",
        "qemu-img map f.vmdk",
        "qemu-img map --output=json f.vmdk",
        "qemu-io -c 'write -P 4 2147450880 64k' -c 'read -P 4 2147450880 64k' t.vmdk",
        "qemu-img map --output=json t.vmdk",
        "qemu-img check t.vmdk",
        "qemu-img create -q -f vmdk -o zeroed_grain=on z.vmdk 10M",
        "qemu-io -c 'write -z 0 64k' -c 'write -z 128k 1k' -c 'write -z 64k 192k' -c 'write 1M 64k' -c 'write -z 1M 64k' z.vmdk",
        "qemu-img map --output=json z.vmdk",
        "qemu-img check z.vmdk",
        "qemu-img convert -c -O vmdk a.vmdk c.vmdk",
        "qemu-img create -q -f vmdk -o subformat=streamOptimized s.vmdk 10M",
        "qemu-io -c 'write -c -P 1 64k 64k' -c 'write -P 2 1M 128k' -c 'write -c 5M 1k' -c 'write -c 64k 64k' s.vmdk",
        "qemu-io -c 'read -P 1 64k 64k' -c 'read -P 2 1M 128k' -c 'read -P 0 2M 1M' s.vmdk",
        "qemu-img map --output=json s.vmdk",
        "qemu-img map s.vmdk",
        "qemu-img check s.vmdk",
    ]);
}

#[test]
fn info_of_vmdk_is_the_same() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("vmdk-info");
    for subformat in SUBFORMATS {
        let name = format!("{subformat}.vmdk");
        pair.given(&[&format!("qemu-img create -q -f vmdk -o subformat={subformat} {name} 5G")]);
        // Content identifiers come by chance.
        for folder in ["ours", "peer"] {
            let path = pair.root.join(folder).join(&name);
            let mut bytes = fs::read(&path).unwrap();
            let at = bytes.windows(5).position(|window| window == b"\nCID=").unwrap() + 5;
            let digits = bytes[at..].iter().take_while(|byte| **byte != b'\n').count();
            bytes[at..at + digits].copy_from_slice(format!("{:0digits$x}", 0xbad).as_bytes());
            fs::write(path, bytes).unwrap();
        }
        let lines = [
            format!("qemu-img info {name}"),
            format!("qemu-img info --output=json {name}"),
            format!("qemu-io -r -c info {name}"),
        ];
        lines.iter().for_each(|line| pair.same(line));
    }
}

#[test]
fn what_one_makes_and_writes_the_other_reads_and_writes_on_in() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("vmdk-both-ways");
    let noise: Vec<u8> = (0..5_000_003u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let text: Vec<u8> = b"hello ".iter().copied().cycle().take(3 << 20).collect();
    fs::write(pair.root.join("a.raw"), [&noise[..], &vec![0; 7 << 20], &text].concat()).unwrap();
    for first in BOTH {
        let second = first.other();
        for subformat in SUBFORMATS {
            pair.must(
                first,
                &format!("qemu-img convert -f raw -O vmdk -o subformat={subformat} a.raw d.vmdk"),
            );
            for reader in [first, second] {
                pair.must(reader, "qemu-img compare -f raw -F vmdk a.raw d.vmdk");
                pair.must(reader, "qemu-img check d.vmdk");
            }
            // What the peer appends to a stream that has its end, it does not find again itself.
            if subformat == "streamOptimized" && second == Peer {
                continue;
            }
            // Whole grains where there was nothing, which a stream takes too.
            pair.must(second, "qemu-io -c 'write -P 170 7M 1M' d.vmdk");
            pair.must(first, "qemu-io -c 'read -P 170 7M 1M' -c 'read -P 0 8M 64k' d.vmdk");
            let third = if subformat == "streamOptimized" { second } else { first };
            pair.must(third, "qemu-io -c 'write -P 171 9M 64k' d.vmdk");
            pair.must(second, "qemu-io -c 'read -P 171 9M 64k' -c 'read -P 170 7M 1M' d.vmdk");
            pair.must(second, "qemu-img check d.vmdk");
            pair.must(first, "qemu-img check d.vmdk");
        }
    }
}
