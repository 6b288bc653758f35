//! Backups by QMP: the same refusals in the same words, and targets that hold the same in the same form.
use crate::pair::*;

/// Runs commands in a daemon and prints what errors say, in order. The jobs are over when a command that follows is answered
/// with a job's end: so each is asked for by name until it is gone.
fn daemon(commands: &[String]) -> String {
    let lines: String = commands.iter().map(|command| format!("{command}\\n")).collect();
    format!(
        "sh -c 'printf \"{}\" | qemu-storage-daemon --chardev stdio,id=c --monitor c | grep -o \"desc.*\" | sed s/..$//'",
        lines.replace('"', "\\\"")
    )
}

fn command(name: &str, arguments: &str) -> String {
    format!("{{\"execute\":\"{name}\",\"arguments\":{{{arguments}}}}}")
}

fn plain_command(name: &str) -> String {
    format!("{{\"execute\":\"{name}\"}}")
}

fn node(name: &str, file: &str) -> String {
    let file = format!("\"file\":{{\"driver\":\"file\",\"filename\":\"{file}\"}}");
    command("blockdev-add", &format!("\"driver\":\"qcow2\",\"node-name\":\"{name}\",{file}"))
}

fn backup(arguments: &str) -> String {
    command("blockdev-backup", arguments)
}

#[test]
fn what_is_refused_of_backups_and_their_filters_is_refused_in_the_same_words() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("backup-refused");
    pair.given(&[
        "qemu-img create -q -f qcow2 a 4M",
        "qemu-img create -q -f qcow2 t 4M",
        "qemu-img create -q -f qcow2 small 1M",
    ]);
    let cbw = |more: &str| {
        let fixed = "\"driver\":\"copy-before-write\",\"node-name\":\"c\",\"file\":\"a\",\"target\":\"t\"";
        command("blockdev-add", &format!("{fixed},{more}"))
    };
    let mut commands =
        vec![plain_command("qmp_capabilities"), node("a", "a"), node("t", "t"), node("s", "small")];
    commands.push(command("block-dirty-bitmap-add", "\"node\":\"a\",\"name\":\"b0\""));
    commands.push(command("block-dirty-bitmap-add", "\"node\":\"s\",\"name\":\"bs\""));
    for arguments in [
        "\"device\":\"nope\",\"target\":\"t\",\"sync\":\"full\"",
        "\"device\":\"a\",\"target\":\"nope\",\"sync\":\"full\"",
        "\"device\":\"a\",\"target\":\"t\",\"sync\":\"full\"",
        "\"device\":\"a\",\"target\":\"t\",\"sync\":\"some\",\"job-id\":\"j\"",
        "\"device\":\"a\",\"target\":\"a\",\"sync\":\"full\",\"job-id\":\"j\"",
        "\"device\":\"a\",\"target\":\"s\",\"sync\":\"full\",\"job-id\":\"j\"",
        "\"device\":\"a\",\"target\":\"t\",\"sync\":\"full\",\"job-id\":\"1\"",
        "\"device\":\"a\",\"target\":\"t\",\"sync\":\"full\",\"job-id\":\"j\",\"speed\":-1",
        "\"device\":\"a\",\"target\":\"t\",\"sync\":\"incremental\",\"job-id\":\"j\"",
        "\"device\":\"a\",\"target\":\"t\",\"sync\":\"bitmap\",\"job-id\":\"j\",\"bitmap\":\"x\"",
        "\"device\":\"a\",\"target\":\"t\",\"sync\":\"bitmap\",\"job-id\":\"j\",\"bitmap\":\"b0\"",
        "\"device\":\"a\",\"target\":\"t\",\"sync\":\"incremental\",\"job-id\":\"j\",\"bitmap\":\"b0\",\"bitmap-mode\":\"always\"",
        "\"device\":\"a\",\"target\":\"t\",\"sync\":\"full\",\"job-id\":\"j\",\"bitmap\":\"b0\",\"bitmap-mode\":\"never\"",
        "\"device\":\"a\",\"target\":\"t\",\"sync\":\"none\",\"job-id\":\"j\",\"bitmap\":\"b0\",\"bitmap-mode\":\"always\"",
        "\"device\":\"a\",\"target\":\"t\",\"sync\":\"full\",\"job-id\":\"j\",\"bitmap-mode\":\"always\"",
        "\"device\":\"a\",\"target\":\"t\",\"sync\":\"full\",\"job-id\":\"j\",\"x-perf\":{\"max-workers\":0}",
        "\"device\":\"a\",\"target\":\"t\",\"sync\":\"full\",\"job-id\":\"j\",\"x-perf\":{\"max-chunk\":-1}",
        "\"device\":\"a\",\"target\":\"t\",\"sync\":\"full\",\"job-id\":\"j\",\"x-perf\":{\"max-chunk\":4096}",
        "\"device\":\"a\",\"target\":\"t\",\"sync\":\"full\",\"job-id\":\"j\",\"x-perf\":{\"min-cluster-size\":5}",
        "\"device\":\"a\",\"target\":\"t\",\"sync\":\"full\",\"job-id\":\"j\",\"filter-node-name\":\"a\"",
        "\"device\":\"a\",\"target\":\"t\",\"sync\":\"full\",\"job-id\":\"j\",\"filter-node-name\":\"1\"",
    ] {
        commands.push(backup(arguments));
    }
    for more in [
        "\"min-cluster-size\":1000",
        "\"bitmap\":{\"node\":\"a\",\"name\":\"x\"}",
        "\"bitmap\":{\"node\":\"x\",\"name\":\"x\"}",
        "\"bitmap\":{\"node\":\"s\",\"name\":\"bs\"}",
        "\"on-cbw-error\":\"ignore\"",
    ] {
        commands.push(cbw(more));
    }
    commands.push(plain_command("quit"));
    pair.same(&daemon(&commands));
}
