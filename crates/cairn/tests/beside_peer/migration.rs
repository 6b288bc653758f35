//! Inactive nodes and hand-overs: replies, classes of errors, and events in their order.
use crate::pair::*;
use std::fmt::Write;

/// Commands for `program`, each with its arguments; `|` waits a while for what the one before has begun.
fn told(program: &str, commands: &[&str]) -> String {
    let mut parts = vec![String::from("{\"execute\":\"qmp_capabilities\"}\\n")];
    for command in commands {
        if *command == "|" {
            parts.push(String::new());
            continue;
        }
        let (name, arguments) = command.split_once(' ').unwrap_or((command, "{}"));
        write!(parts.last_mut().unwrap(), "{{\"execute\":\"{name}\",\"arguments\":{arguments}}}\\n").unwrap();
    }
    parts.last_mut().unwrap().push_str("{\"execute\":\"quit\"}\\n");
    let parts: Vec<_> =
        parts.iter().map(|part| format!("printf \"{}\"", part.replace('"', "\\\""))).collect();
    // Moments, amounts and the words of errors are everybody's own.
    let filter = "sed -E -e 1d -e \"s/\\\"(micro)?seconds\\\": [0-9]+/T/g; s/\\\"desc\\\": \\\".*\\\"/DESC/; \
                  s/-time\\\": [0-9]+/-time/g; s/\\\"ram\\\": .*/RAM/; s/downtime\\\": [0-9]+/downtime/; s/(actual|virtual)-size\\\": [0-9]+/SIZE/g; \
                  s/\\\"children\\\": \\[[^]]*\\], //g\"";
    format!("sh -c '( {} ) | {program} | {filter}'", parts.join("; sleep 1; "))
}

const MACHINE: &str = "qemu-system-x86_64 -display none -nodefaults -machine none -qmp stdio";

fn peer_is_a_machine() -> bool {
    let version = std::process::Command::new("qemu-system-x86_64").arg("--version").output();
    let here = peer_is_here() && version.is_ok_and(|output| output.status.success());
    if !here {
        println!("skipped: qemu-system-x86_64 is not installed");
    }
    here
}

#[test]
fn nodes_become_inactive_and_active_as_with_the_peer() {
    if !peer_is_a_machine() {
        return;
    }
    let pair = Pair::new("inactive");
    pair.given(&["qemu-img create -q -f qcow2 a 1M", "qemu-img create -q -f qcow2 -b a -F qcow2 b"]);
    let nodes = "--blockdev driver=file,filename=a,node-name=af --blockdev driver=qcow2,file=af,node-name=a \
                 --blockdev driver=file,filename=b,node-name=bf,active=off \
                 --blockdev driver=qcow2,file=bf,node-name=b,backing=a,active=off \
                 --blockdev null-co,node-name=n --chardev stdio,id=m --monitor m \
                 --nbd-server addr.type=unix,addr.path=sock";
    let set = |node: &str, active: &str| {
        format!("blockdev-set-active {{\"node-name\":\"{node}\",\"active\":{active}}}")
    };
    let export = |node: &str, more: &str| {
        format!(
            "block-export-add {{\"type\":\"nbd\",\"id\":\"e\",\"node-name\":\"{node}\",\"writable\":true{more}}}"
        )
    };
    let list = "query-named-block-nodes {\"flat\":true}";
    let commands = [
        list.to_owned(),
        set("nope", "true"),
        "blockdev-set-active".to_owned(),
        "blockdev-set-active {\"active\":3}".to_owned(),
        set("af", "false"),
        set("a", "false"),
        list.to_owned(),
        set("af", "true"),
        set("af", "false"),
        "block_resize {\"node-name\":\"a\",\"size\":2097152}".to_owned(),
        "blockdev-add {\"driver\":\"raw\",\"node-name\":\"r\",\"file\":\"a\"}".to_owned(),
        "blockdev-add {\"driver\":\"raw\",\"node-name\":\"r\",\"file\":\"a\",\"active\":false}".to_owned(),
        "blockdev-del {\"node-name\":\"r\"}".to_owned(),
        "block-commit {\"job-id\":\"j\",\"device\":\"b\"}".to_owned(),
        "block-stream {\"job-id\":\"j\",\"device\":\"b\"}".to_owned(),
        "blockdev-mirror {\"job-id\":\"j\",\"device\":\"n\",\"target\":\"a\",\"sync\":\"full\"}".to_owned(),
        "blockdev-backup {\"job-id\":\"j\",\"device\":\"n\",\"target\":\"a\",\"sync\":\"full\"}".to_owned(),
        set("b", "true"),
        list.to_owned(),
        set("a", "false"),
        export("b", ""),
        set("b", "false"),
        "block-export-del {\"id\":\"e\"}".to_owned(),
        "|".to_owned(),
        set("b", "false"),
        export("b", ",\"allow-inactive\":true"),
        list.to_owned(),
        set("b", "true"),
        set("b", "false"),
        "block-export-del {\"id\":\"e\"}".to_owned(),
        "|".to_owned(),
        export("b", ",\"allow-inactive\":false"),
        list.to_owned(),
        "blockdev-set-active {\"active\":true}".to_owned(),
        "blockdev-set-active {\"active\":false}".to_owned(),
        list.to_owned(),
    ];
    let commands: Vec<_> = commands.iter().map(String::as_str).collect();
    pair.same(&told(&format!("qemu-storage-daemon {nodes}"), &commands));
    pair.same("qemu-img check b");
}

#[test]
fn an_image_that_is_made_writable_while_it_is_inactive_can_be_written_to_later() {
    if !peer_is_a_machine() {
        return;
    }
    let pair = Pair::new("inactive-writable");
    pair.given(&["qemu-img create -q -f qcow2 a 1M"]);
    let node = "--blockdev driver=qcow2,node-name=a,read-only=on,file.driver=file,file.filename=a --chardev stdio,id=m --monitor m";
    let reopen = |read_only: bool| {
        format!(
            "blockdev-reopen {{\"options\":[{{\"driver\":\"qcow2\",\"node-name\":\"a\",\"read-only\":{read_only},\
             \"file\":{{\"driver\":\"file\",\"filename\":\"a\"}}}}]}}"
        )
    };
    let set = |active: bool| format!("blockdev-set-active {{\"node-name\":\"a\",\"active\":{active}}}");
    let resize = |size: u64| format!("block_resize {{\"node-name\":\"a\",\"size\":{size}}}");
    let commands = [
        set(false),
        reopen(false),
        set(true),
        resize(2 << 20),
        set(false),
        reopen(true),
        set(true),
        resize(3 << 20),
        "blockdev-del {\"node-name\":\"a\"}".to_owned(),
    ];
    let commands: Vec<_> = commands.iter().map(String::as_str).collect();
    pair.same(&told(&format!("qemu-storage-daemon {node}"), &commands));
    pair.same("qemu-img check a");
    pair.same("qemu-img info a | grep virtual");
}

#[test]
fn a_hand_over_is_asked_for_and_told_as_with_the_peer() {
    if !peer_is_a_machine() {
        return;
    }
    let pair = Pair::new("migration");
    pair.given(&["qemu-img create -q -f qcow2 a 1M"]);
    let disk = "-blockdev driver=file,filename=a,node-name=f -blockdev driver=qcow2,file=f,node-name=q";
    let events = "migrate-set-capabilities {\"capabilities\":[{\"capability\":\"events\",\"state\":true}]}";
    let mapping = |nodes: &str| format!("migrate-set-parameters {{\"block-bitmap-mapping\":[{nodes}]}}");
    let commands = [
        "query-migrate".to_owned(),
        "query-migrate-capabilities".to_owned(),
        mapping("{\"node-name\":\"q\",\"alias\":\"x\",\"bitmaps\":[{\"name\":\"b\",\"alias\":\"c\",\"transform\":{\"persistent\":true}}]}"),
        "query-migrate-parameters".to_owned(),
        mapping("{\"node-name\":\"q\",\"alias\":\"1\",\"bitmaps\":[]}"),
        mapping("{\"node-name\":\"q\",\"alias\":\"x\",\"bitmaps\":[]},{\"node-name\":\"q\",\"alias\":\"y\",\"bitmaps\":[]}"),
        mapping("{\"node-name\":\"q\"}"),
        mapping(""),
        "migrate-set-parameters {\"downtime-limit\":3000000}".to_owned(),
        "migrate-set-capabilities {\"capabilities\":[{\"capability\":\"nope\",\"state\":true}]}".to_owned(),
        "migrate-continue {\"state\":\"pre-switchover\"}".to_owned(),
        "migrate-incoming {\"uri\":\"unix:sock\"}".to_owned(),
        "migrate-start-postcopy".to_owned(),
        "migrate_cancel".to_owned(),
        "migrate".to_owned(),
        "migrate {\"uri\":\"nope:x\"}".to_owned(),
        "migrate {\"uri\":\"tcp:localhost\"}".to_owned(),
        "migrate {\"uri\":\"fd:nope\"}".to_owned(),
        "query-migrate".to_owned(),
        "migrate {\"uri\":\"unix:nope\"}".to_owned(),
        "|".to_owned(),
        "query-migrate".to_owned(),
        "query-status".to_owned(),
        "migrate {\"uri\":\"unix:nope\",\"channels\":[{\"channel-type\":\"main\",\"addr\":{\"transport\":\"file\",\"filename\":\"x\",\"offset\":0}}]}".to_owned(),
        events.to_owned(),
        "block-dirty-bitmap-add {\"node\":\"q\",\"name\":\"kept\",\"persistent\":true}".to_owned(),
        "migrate {\"channels\":[{\"channel-type\":\"main\",\"addr\":{\"transport\":\"exec\",\"args\":[\"/bin/cat\"]}}]}".to_owned(),
        "|".to_owned(),
        "|".to_owned(),
        "query-migrate".to_owned(),
        "query-status".to_owned(),
        "query-named-block-nodes {\"flat\":true}".to_owned(),
        "migrate {\"uri\":\"unix:nope\"}".to_owned(),
        "stop".to_owned(),
        "cont".to_owned(),
        "query-status".to_owned(),
        "query-named-block-nodes {\"flat\":true}".to_owned(),
    ];
    let commands: Vec<_> = commands.iter().map(String::as_str).collect();
    pair.same(&told(&format!("{MACHINE} {disk}"), &commands));
    pair.same(&told(
        &format!("{MACHINE} {disk} -incoming defer"),
        &[
            "query-status",
            "query-migrate",
            "query-named-block-nodes {\"flat\":true}",
            "stop",
            "cont",
            "query-status",
            "migrate {\"uri\":\"unix:nope\"}",
            "migrate-incoming {\"uri\":\"nope:x\"}",
        ],
    ));
}
