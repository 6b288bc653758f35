//! The graph with the permissions of every use, word for word: libraries and people read it to find out who is in the way.
use crate::pair::*;
use crate::throttle::told;

#[test]
fn the_graph_shows_nodes_users_and_permissions_as_the_peers() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("graph");
    pair.given(&[
        "qemu-img create -q -f qcow2 base.q 1M",
        "qemu-img create -q -f qcow2 -b base.q -F qcow2 top.q",
        "qemu-img create -q -f qcow2 other.q 1M",
    ]);
    let show = "x-debug-query-block-graph";
    let file = |name: &str| {
        format!(
            r#"blockdev-add {{"driver":"file","node-name":"{name}f","filename":"{name}.q","read-only":{}}}"#,
            name == "base"
        )
    };
    let (base, top, other) = (file("base"), file("top"), file("other"));
    let image = |name: &str, more: &str| {
        format!(r#"blockdev-add {{"driver":"qcow2","node-name":"{name}","file":"{name}f"{more}}}"#)
    };
    let export = |id: &str, node: &str, more: &str| {
        format!(r#"block-export-add {{"type":"nbd","id":"{id}","node-name":"{node}","name":"{id}"{more}}}"#)
    };
    let graphs = told(&[
        show,
        &base,
        &image("base", r#","read-only":true"#),
        show,
        &top,
        &image("top", r#","backing":"base""#),
        show,
        r#"nbd-server-start {"addr":{"type":"unix","data":{"path":"n.sock"}}}"#,
        &export("w", "top", r#","writable":true"#),
        &export("r", "top", ""),
        &export("b", "base", ""),
        show,
        &other,
        &image("other", ""),
        &export("o", "other", r#","writable":true"#),
        show,
    ]);
    // The rest is events, in which times differ.
    pair.same(&graphs.replace("sed 1d", "grep edges"));
}
