//! Compressed clusters beside the peer's programs: what is said, what the image is then, and that each reads what the other
//! wrote.
use crate::pair::*;

#[test]
fn compressed_writes_say_and_make_the_same() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("compressed-writes");
    pair.given(&[
        "qemu-img create -q -f qcow2 a.qcow2 1000448",
        "qemu-img create -q -f qcow2 -o compression_type=zstd,cluster_size=4k z.qcow2 1M",
        "qemu-img create -q -f qcow2 -o compat=0.10,cluster_size=512 old.qcow2 1M",
        "qemu-img create -q -f raw a.raw 1M",
    ]);
    pair.all_same(&[
        "qemu-io -c 'write -q -c -P 1 0 128k' -c 'read -P 1 0 128k' a.qcow2",
        "qemu-io -c 'write -c 1000 64k' a.qcow2",
        "qemu-io -c 'write -c 128k 1000' a.qcow2",
        "qemu-io -c 'write -c 128k 4k' a.qcow2",
        "qemu-io -c 'write -c 130k 64k' a.qcow2",
        "qemu-io -c 'write -c -f 128k 64k' a.qcow2",
        "qemu-io -c 'write -c -b 128k 64k' a.qcow2",
        "qemu-io -f raw -c 'write -c 0 64k' a.raw",
        // The last cluster is cut off.
        "qemu-io -c 'write -q -c -P 7 983040 17408' -c 'read -P 7 983040 17408' a.qcow2",
        "qemu-io -c 'write -q -c -z 64k 64k' -c 'write -q -c -P 0 256k 64k' a.qcow2",
        "qemu-img map --output=json a.qcow2",
        "qemu-io -c 'write -P 3 4k 4k' -c 'discard 256k 64k' -c 'read -P 1 0 4k' -c 'read -P 3 4k 4k' a.qcow2",
        "qemu-img check -q a.qcow2",
        "qemu-io -c 'write -q -c -P 9 64k 400k' -c 'read -P 9 64k 400k' z.qcow2",
        "qemu-img map --output=json z.qcow2",
        "qemu-img check -q z.qcow2",
        "qemu-io -c 'write -q -c -P 5 512 5k' -c 'read -P 5 512 5k' old.qcow2",
        "qemu-img map --output=json old.qcow2",
        "qemu-img check -q old.qcow2",
        "qemu-io --image-opts -c 'write -q -P 6 700k 1k' -c 'read -P 6 700k 1k' -c 'read -P 0 699k 1k' \
         driver=compress,file.driver=qcow2,file.file.filename=z.qcow2",
        "qemu-img map --output=json z.qcow2",
        "qemu-io --image-opts -c 'read 0 1k' driver=compress,file.driver=raw,file.file.filename=a.raw",
    ]);
}

#[test]
fn compressed_copies_say_and_make_the_same() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("compressed-copies");
    pair.given(&[
        "qemu-img create -q -f raw a.raw 1047552",
        "qemu-img create -q -f raw b.raw 1047552",
        "qemu-io -f raw -c 'write -q -P 1 0 100k' -c 'write -q -P 2 300k 4k' -c 'write -q -P 3 1022k 1k' a.raw",
        "qemu-io -f raw -c 'write -q -P 4 0 1k' -c 'write -q -P 5 64k 64k' b.raw",
        "qemu-img create -q -f qcow2 -b a.raw -F raw over.qcow2",
        "qemu-io -c 'write -q -P 8 500k 10k' over.qcow2",
    ]);
    pair.all_same(&[
        "qemu-img convert -c -f raw -O qcow2 a.raw one.qcow2",
        "qemu-img map --output=json one.qcow2",
        "qemu-img convert -c -f raw -O qcow2 a.raw b.raw two.qcow2",
        "qemu-img map --output=json two.qcow2",
        "qemu-img check -q two.qcow2",
        "qemu-img convert -c -S 0 -f raw -O qcow2 -o compression_type=zstd a.raw full.qcow2",
        "qemu-img map --output=json full.qcow2",
        "qemu-img convert -c -f raw -O raw a.raw never.raw",
        "qemu-img convert -c -f raw -O qcow2 -o preallocation=metadata a.raw never.qcow2",
        "qemu-img convert -c -f raw -O qcow2 -o compat=0.10,compression_type=zstd a.raw never.qcow2",
        "qemu-img rebase -c -f qcow2 -b '' over.qcow2",
        "qemu-img map --output=json over.qcow2",
        "qemu-img compare over.qcow2 one.qcow2",
        "qemu-img check -q over.qcow2",
    ]);
}
