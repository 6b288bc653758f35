//! Sizes as people write them, beside the peer: the same texts are taken, and mean the same.
use crate::pair::{Pair, peer_is_here};

const TEXTS: &[&str] = &[
    "0",
    "1",
    "512",
    "1k",
    "1K",
    "1.5k",
    "1.5M",
    ".5k",
    "5.k",
    "0.1M",
    "1.1k",
    "1.9999999999k",
    "1024.0b",
    "7b",
    "2B",
    "0x10",
    "0X1f",
    "0x",
    "0xg",
    "0x1k",
    "0x1.8k",
    "010",
    "+1k",
    "-1",
    "-1k",
    "-",
    "''",
    "k",
    ".",
    ".k",
    "1e3",
    "1e3k",
    "1.5",
    "1.5b",
    "1kk",
    "1kB",
    "1x",
    "'5 '",
    "' 5k'",
    "1,000",
    "1_000",
    "1.5.5k",
    "0x7fffffffffffffff",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "8E",
    "7.9E",
    "16E",
    "15.99999999999999999E",
    "99999999999999999999999999999",
    "0xffffffffffffffff",
    "0x10000000000000000",
    "nan",
    "inf",
];

#[test]
fn a_size_is_read_as_the_peer_reads_it() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("sizes");
    pair.given(&["qemu-img create -q -f raw a 1M"]);
    for text in TEXTS {
        pair.same(&format!("qemu-img measure -O raw --size={text}"));
        pair.same(&format!("qemu-img map --output=json --start-offset={text} a"));
        pair.same(&format!("qemu-io -f raw -c 'read -q {} 0' a", text.trim_matches('\'')));
    }
    for text in ["64k", "0x10000", "65536", "1.5k", "1e3", "3", "64kk", "2M"] {
        pair.same(&format!("qemu-img create -q -f qcow2 -o cluster_size={text} b 1M"));
    }
}
