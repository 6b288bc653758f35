//! The filter for tests: how it and what is above it are named, and when requests are held back and go on.
use crate::pair::*;

#[test]
fn what_is_above_the_filter_is_named_as_with_the_peer() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("blkdebug-names");
    pair.given(&[
        "qemu-img create -q -f qcow2 base.qcow2 1M",
        "qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 a.qcow2",
        "sh -c 'echo \"[set-state]\" >rules; echo \"event = \\\"l2_load\\\"\" >>rules; echo \"new_state = \\\"2\\\"\" >>rules'",
    ]);
    let named = |options: &str| {
        format!(
            r#"qemu-img info --backing-chain 'json:{{"driver":"qcow2","file":{{"driver":"blkdebug",{options}}}}}'"#
        )
    };
    pair.all_same(&[
        "qemu-img info blkdebug::a.qcow2",
        "qemu-img info --backing-chain blkdebug:rules:a.qcow2",
        "qemu-img info -f raw blkdebug::a.qcow2",
        &named(r#""image":{"driver":"file","filename":"a.qcow2"}"#),
        &named(r#""align":512,"image":{"driver":"file","filename":"a.qcow2"}"#),
        &named(r#""config":"rules","image":{"driver":"file","filename":"a.qcow2"}"#),
        &named(r#""inject-error":[{"event":"l1_update"}],"image":{"driver":"file","filename":"a.qcow2"}"#),
    ]);
}

#[test]
fn requests_are_held_back_and_go_on_when_the_peers_do() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("blkdebug-breaks");
    pair.given(&["qemu-img create -q -f qcow2 a.qcow2 1M"]);
    for commands in [
        "-c 'break write_aio A' -c 'aio_write 0 64k' -c 'sleep 100' -c 'wait_break A' -c length -c 'resume A' -c aio_flush",
        "-c 'break write_aio A' -c 'aio_write 64k 64k' -c 'wait_break A' -c length -c 'resume A' -c aio_flush -c length",
        "-c 'break write_aio A' -c 'remove_break A' -c 'remove_break A'",
        "-c 'break write_aio A' -c 'break write_aio B' -c 'aio_write 192k 64k' -c 'wait_break A' -c 'aio_write 256k 64k' \
         -c 'wait_break B' -c 'resume B' -c 'sleep 100' -c 'resume A' -c aio_flush",
    ] {
        pair.same(&format!("qemu-io -f qcow2 {commands} blkdebug::a.qcow2"));
    }
}
