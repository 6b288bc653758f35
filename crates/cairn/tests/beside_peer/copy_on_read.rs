//! What is read with `qemu-io -C`, or through the filter, is in the image afterwards.
use crate::pair::*;

#[test]
fn what_is_read_is_copied_as_by_the_peer() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("copy-on-read");
    let over = |name: &str, options: &str| {
        format!("qemu-img create -q -f qcow2 {options} -b base.qcow2 -F qcow2 {name}.qcow2")
    };
    pair.given(&[
        "qemu-img create -q -f qcow2 base.qcow2 512k",
        "qemu-io -f qcow2 -c 'write -P 1 0 256k' base.qcow2",
        &over("a", ""),
        &over("b", ""),
        &over("parts", "-o cluster_size=128k,extended_l2=on"),
    ]);
    let read = "-c 'read -P 1 70k 4k' -c 'read -P 1 192k 64k'";
    pair.all_same(&[
        &format!("qemu-io -C -f qcow2 {read} a.qcow2"),
        "qemu-img map --output=json a.qcow2",
        "qemu-img check a.qcow2",
        &format!("qemu-io -c 'open -o driver=copy-on-read,file.driver=qcow2 b.qcow2' {read}"),
        "qemu-img map --output=json b.qcow2",
        &format!("qemu-io -C -f qcow2 {read} parts.qcow2"),
        "qemu-io -f qcow2 -c map parts.qcow2",
        "qemu-img check parts.qcow2",
        "qemu-io -C -r -f qcow2 -c length a.qcow2",
    ]);
}
