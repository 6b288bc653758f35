//! VHD images beside the peer: what one makes and writes the other reads, and both tell the same.
use crate::pair::*;
use std::fs;

const LAYOUTS: [&str; 4] =
    ["subformat=dynamic", "subformat=fixed", "force_size=on", "subformat=fixed,force_size=on"];

#[test]
fn what_is_made_is_the_same_and_as_large() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("vpc-create");
    // Without a sector the peer can't open a fixed one of its own.
    for size in ["512", "1M", "9M", "1000000512", "1G", "33822351360", "126G", "127G", "128G", "2040G"] {
        for options in LAYOUTS {
            pair.all_same(&[
                &format!("qemu-img create -f vpc -o {options} a.vhd {size}"),
                "qemu-img info -f vpc --output=json a.vhd",
                "qemu-img info a.vhd",
                "qemu-img map -f vpc --output=json a.vhd",
                "stat -c %s a.vhd",
            ]);
        }
    }
    pair.all_same(&[
        "qemu-img create -f vpc -o help",
        "qemu-img create -f vpc a.vhd 2041G",
        "qemu-img create -f vpc -o subformat=other a.vhd 1M",
        "qemu-img create -f vpc -b a.vhd -F vpc b.vhd",
        "qemu-img resize -f vpc a.vhd 3G",
        "qemu-img measure -O vpc --size 1G",
    ]);
}

#[test]
fn what_one_writes_the_other_reads() {
    if !peer_is_here() {
        return;
    }
    for options in LAYOUTS {
        let pair = Pair::new("vpc-write");
        pair.all_same(&[
            &format!("qemu-img create -q -f vpc -o {options} a.vhd 20M"),
            "qemu-io -f vpc -c 'write -P 1 0 512' -c 'write -P 2 1M 3M' -c 'write -P 3 19M 700' a.vhd",
            "qemu-io -f vpc -c 'write -P 4 7M 64k' -c 'write -z 2M 1M' -c 'write -P 5 9M 5' a.vhd",
            "qemu-io -f vpc -c 'read -P 2 1M 1M' -c 'read -P 0 2M 1M' -c 'read -P 5 9M 5' -c 'read -P 0 15M 1M' a.vhd",
            "qemu-img map -f vpc --output=json a.vhd",
            "stat -c %s a.vhd",
        ]);
        // Each goes on where the other has left off.
        pair.written_on("vpc", "a.vhd", "-c 'write -P 6 12M 3M' -c 'write -P 7 0 4k'");
        if !options.contains("fixed") {
            pair.must(Ours, "qemu-img check -f vpc ours/a.vhd");
            pair.must(Ours, "qemu-img check -f vpc peer/a.vhd");
        }
        pair.all_same(&[
            "qemu-img convert -f vpc -O raw a.vhd a.raw",
            &format!("qemu-img convert -f raw -O vpc -o {options} a.raw b.vhd"),
            "stat -c %s b.vhd",
            "qemu-img map -f vpc --output=json b.vhd",
        ]);
    }
}

#[test]
fn who_made_an_image_decides_how_large_it_is() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("vpc-size");
    pair.given(&["qemu-img create -q -f vpc a.vhd 1G"]);
    for creator in ["vpc ", "qemu", "qem2", "win ", "d2v ", "tap\0", "CTXS", "vs  ", "conx", "none"] {
        for folder in ["ours", "peer"] {
            let image = pair.root.join(folder).join("a.vhd");
            let mut bytes = fs::read(&image).unwrap();
            bytes[28..32].copy_from_slice(creator.as_bytes());
            bytes[48..56].copy_from_slice(&(1u64 << 30).to_be_bytes());
            bytes[64..68].fill(0);
            let sum = !bytes[..512].iter().map(|byte| u32::from(*byte)).sum::<u32>();
            bytes[64..68].copy_from_slice(&sum.to_be_bytes());
            fs::write(&image, bytes).unwrap();
        }
        pair.same("qemu-img info --output=json a.vhd");
        for by in ["chs", "current_size", "other"] {
            pair.same(&format!(
                "qemu-img info --image-opts driver=vpc,file.filename=a.vhd,force_size_calc={by}"
            ));
        }
    }
}
