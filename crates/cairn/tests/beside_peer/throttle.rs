//! Throttle groups and their filter over QMP: replies and refusals, word for word.
use crate::pair::*;
use std::fmt::Write;

/// Commands for a daemon, each with its arguments; what it answers but for the greeting.
pub fn told(commands: &[&str]) -> String {
    let mut script = String::from("{\"execute\":\"qmp_capabilities\"}\\n");
    for command in commands {
        let (name, arguments) = command.split_once(' ').unwrap_or((command, "{}"));
        write!(script, "{{\"execute\":\"{name}\",\"arguments\":{arguments}}}\\n").unwrap();
    }
    script.push_str("{\"execute\":\"quit\"}\\n");
    let script = script.replace('"', "\\\"");
    format!("sh -c 'printf \"{script}\" | qemu-storage-daemon --chardev stdio,id=m --monitor m | sed 1d'")
}

#[test]
fn groups_are_made_read_changed_and_deleted_as_with_the_peer() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("throttle-groups");
    let group = r#""qom-type":"throttle-group","id":"g""#;
    let add = format!(
        r#"object-add {{{group},"limits":{{"iops-total":100,"bps-read":1000,"bps-read-max":5000,"bps-read-max-length":3}}}}"#
    );
    let flat = r#"object-add {"qom-type":"throttle-group","id":"h","x-iops-total":5,"x-iops-total-max":9,"x-iops-size":512}"#;
    let set = |value: &str| format!(r#"qom-set {{"path":"/objects/g","property":"limits","value":{value}}}"#);
    let node = |rest: &str| format!(r#"blockdev-add {{"driver":"throttle","node-name":"t"{rest}}}"#);
    let reopen = |rest: &str| {
        format!(r#"blockdev-reopen {{"options":[{{"driver":"throttle","node-name":"t","file":"n"{rest}}}]}}"#)
    };
    let child = r#","file":{"driver":"null-co","node-name":"n"}"#;
    let (in_g, in_h) = (r#","throttle-group":"g""#, r#","throttle-group":"h""#);
    pair.same(&told(&[
        &add,
        &add,
        flat,
        r#"qom-list {"path":"/objects"}"#,
        r#"qom-list {"path":"/objects/g"}"#,
        r#"qom-list {"path":"/nope"}"#,
        r#"qom-get {"path":"/objects/g","property":"limits"}"#,
        r#"qom-get {"path":"h","property":"x-iops-total"}"#,
        r#"qom-get {"path":"/objects/h","property":"type"}"#,
        r#"qom-get {"path":"/objects/h","property":"nope"}"#,
        &set(r#"{"iops-total":7}"#),
        &set(r#"{"iops-total":"x"}"#),
        &set(r#"{"foo":1}"#),
        &set("3"),
        &set(r#"{"iops-read":1}"#),
        r#"qom-get {"path":"/objects/g","property":"limits"}"#,
        r#"qom-set {"path":"/objects/g","property":"x-iops-total","value":9}"#,
        r#"qom-set {"path":"/objects/g","property":"type","value":"x"}"#,
        &node(child),
        &node(&format!(r#"{child},"throttle-group":"nope""#)),
        &node(in_g),
        &node(&format!("{child}{in_g}")),
        r#"object-del {"id":"g"}"#,
        &reopen(r#","throttle-group":"nope""#),
        &reopen(in_h),
        r#"object-del {"id":"g"}"#,
        r#"object-del {"id":"h"}"#,
        r#"blockdev-del {"node-name":"t"}"#,
        r#"object-del {"id":"h"}"#,
        r#"qom-list-properties {"typename":"throttle-group"}"#,
        r#"qom-list-types {"implements":"throttle-group"}"#,
    ]));
}

#[test]
fn limits_that_contradict_each_other_are_refused_in_the_peers_words() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("throttle-limits");
    let limits = [
        r#""iops-total":-1"#,
        r#""iops-total":1000000000000001"#,
        r#""iops-total":1,"iops-read":1,"bps-read":-1"#,
        r#""bps-total":1,"bps-total-max":5,"bps-write-max":3"#,
        r#""bps-read-max":4"#,
        r#""bps-read":4,"bps-read-max":3"#,
        r#""bps-read":4,"bps-read-max-length":3"#,
        r#""bps-read":4,"bps-read-max":9,"bps-read-max-length":0"#,
        r#""bps-read":4,"bps-read-max":100000000000000,"bps-read-max-length":11"#,
        r#""iops-size":3,"bps-read":3"#,
        r#""iops-read":3,"iops-read-max":5,"iops-read-max-length":4294967296"#,
        r#""bps-read":4,"bps-read-max-length":1"#,
    ];
    let add = |limits: &&str| {
        format!(r#"object-add {{"qom-type":"throttle-group","id":"g","limits":{{{limits}}}}}"#)
    };
    let commands: Vec<_> = limits.iter().map(add).collect();
    pair.same(&told(&commands.iter().map(String::as_str).collect::<Vec<_>>()));
}

#[test]
fn a_threshold_is_set_on_a_node_and_told() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("write-threshold");
    pair.same(&told(&[
        r#"blockdev-add {"driver":"null-co","node-name":"n"}"#,
        r#"block-set-write-threshold {"node-name":"nope","write-threshold":5}"#,
        r#"block-set-write-threshold {"node-name":"n"}"#,
        r#"block-set-write-threshold {"node-name":"n","write-threshold":5}"#,
        r#"block-set-write-threshold {"node-name":"n","write-threshold":0}"#,
    ]));
}
