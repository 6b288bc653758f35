//! A machine as its management program sees it: devices, trays, media, and the monitor for people.
use crate::pair::*;
use std::fmt::Write;
use std::process::Command;

/// Whether the peer's machine is here.
fn peer_is_a_machine() -> bool {
    let version = Command::new("qemu-system-x86_64").arg("--version").output();
    let here = peer_is_here() && version.is_ok_and(|output| output.status.success());
    if !here {
        println!("skipped: qemu-system-x86_64 is not installed");
    }
    here
}

/// Commands for a machine, each with its arguments; a line that begins with `:` is one of the monitor for people.
fn told(options: &str, commands: &[&str]) -> String {
    let mut script = String::from("{\"execute\":\"qmp_capabilities\"}\\n");
    for command in commands {
        if let Some(line) = command.strip_prefix(':') {
            write!(
                script,
                "{{\"execute\":\"human-monitor-command\",\"arguments\":{{\"command-line\":\"{line}\"}}}}\\n"
            )
            .unwrap();
            continue;
        }
        let (name, arguments) = command.split_once(' ').unwrap_or((command, "{}"));
        write!(script, "{{\"execute\":\"{name}\",\"arguments\":{arguments}}}\\n").unwrap();
    }
    script.push_str("{\"execute\":\"quit\"}\\n");
    let script = script.replace('"', "\\\"");
    // What differs from run to run is left out: moments, numbers of nodes and of devices without a name.
    let filter = "sed -E -e 1d -e \"s/\\\"(micro)?seconds\\\": [0-9]+/T/g; s/#block[0-9]+/NODE/g; \
                  s/device\\[[0-9]+\\]/DEVICE/g; s/_ns\\\": [0-9]+/NS/g\"";
    format!(
        "sh -c 'printf \"{script}\" | qemu-system-x86_64 -display none -nodefaults -machine pc -accel tcg -S \
         -qmp stdio {options} | {filter}'"
    )
}

#[test]
fn devices_their_trays_and_media_are_told_and_changed_the_same() {
    if !peer_is_a_machine() {
        return;
    }
    let pair = Pair::new("machine-devices");
    pair.given(&[
        "qemu-img create -q -f qcow2 a 10M",
        "qemu-img create -q -f qcow2 -b a -F qcow2 b",
        "qemu-img create -q -f raw c 1M",
    ]);
    let options = "-drive file=b,if=none,id=d0,format=qcow2 -device virtio-blk,drive=d0,id=vb \
                   -drive if=none,id=d1 -device ide-cd,drive=d1,id=cd0 -device virtio-scsi,id=s \
                   -blockdev null-co,node-name=n0,read-zeroes=on -device scsi-hd,drive=n0 -drive if=floppy \
                   -blockdev driver=file,node-name=cf,filename=c,read-only=on -drive if=none,id=bare";
    pair.same(&told(
        options,
        &[
            "query-block",
            ":info block",
            ":info block -v d0",
            ":info block bare",
            ":info status",
            "eject {\"device\":\"d0\"}",
            "eject {\"id\":\"cd0\"}",
            "blockdev-insert-medium {\"id\":\"cd0\",\"node-name\":\"nope\"}",
            "blockdev-insert-medium {\"id\":\"cd0\",\"node-name\":\"cf\"}",
            "blockdev-insert-medium {\"id\":\"cd0\",\"node-name\":\"cf\"}",
            "blockdev-close-tray {\"id\":\"cd0\"}",
            ":info block d1",
            "blockdev-remove-medium {\"id\":\"cd0\"}",
            "blockdev-open-tray {\"device\":\"d1\"}",
            "blockdev-remove-medium {\"id\":\"cd0\"}",
            "blockdev-close-tray {\"id\":\"cd0\"}",
            "blockdev-open-tray {\"device\":\"floppy0\"}",
            "blockdev-open-tray {\"id\":\"nope\"}",
            "blockdev-open-tray {\"device\":\"d1\",\"id\":\"cd0\"}",
            "eject {}",
            "device_add {\"driver\":\"scsi-hd\",\"id\":\"x\"}",
            "device_add {\"driver\":\"scsi-hd\",\"id\":\"x\",\"drive\":\"nope\"}",
            "device_add {\"driver\":\"scsi-foo\",\"id\":\"x\"}",
            "device_add {\"id\":\"x\"}",
            "device_del {\"id\":\"nope\"}",
            "device_del {\"id\":\"vb\"}",
            "query-status",
            "cont",
            "query-status",
            "stop",
            "query-status",
            ":foo",
            ":info foo",
            ":qemu-io nope read",
            ":drive_add 0 if=none,id=e,driver=null-co",
            ":drive_add 0 if=none,id=e,driver=null-co",
            ":info block e",
            ":drive_del e",
            ":drive_del e",
            ":info block-jobs",
        ],
    ));
}

#[test]
fn what_the_monitor_for_people_does_to_images_is_the_same() {
    if !peer_is_a_machine() {
        return;
    }
    let pair = Pair::new("machine-images");
    pair.given(&["qemu-img create -q -f qcow2 a 10M", "qemu-img create -q -f qcow2 -b a -F qcow2 b"]);
    let options = "-drive file=b,if=none,id=d0,format=qcow2";
    pair.same(&told(
        options,
        &[
            ":qemu-io d0 \\\\\"write -P 7 0 64k\\\\\"",
            ":commit d0",
            ":commit nope",
            ":commit all",
            ":qemu-io d0 \\\\\"read -P 7 0 64k\\\\\"",
            ":block_resize d0 20",
            ":snapshot_blkdev_internal d0 s1",
            ":snapshot_delete_blkdev_internal d0 s1",
            ":snapshot_delete_blkdev_internal d0 s1",
        ],
    ));
    pair.all_same(&["qemu-io -f qcow2 -c 'read -P 7 0 64k' a", "qemu-img map b", "qemu-img info -f qcow2 a"]);
    pair.same("sh -c 'qemu-img info b | grep size:'");
}

#[test]
fn drives_are_placed_opened_and_listed_in_the_same_order() {
    if !peer_is_a_machine() {
        return;
    }
    let pair = Pair::new("machine-order");
    pair.given(&[
        "qemu-img create -q -f qcow2 base 1M",
        "qemu-img create -q -f qcow2 -b base -F qcow2 mid",
        "qemu-img create -q -f qcow2 -b mid -F qcow2 top",
        "qemu-img create -q -f qcow2 -b mid -F qcow2 other",
    ]);
    let options = "-drive driver=qcow2,file=top,node-name=top,backing.node-name=mid \
                   -drive driver=qcow2,file=other,node-name=other,backing=mid -drive if=none -drive if=none,id=d \
                   -blockdev null-co,node-name=n,size=1048576 -drive if=none,driver=null-co,size=1M";
    pair.same(&told(
        options,
        &[
            "query-named-block-nodes {\"flat\":true}",
            "query-block",
            "query-blockstats {\"query-nodes\":true}",
        ],
    ));
}

#[test]
fn limits_statistics_and_policies_of_drives_are_taken_and_refused_the_same() {
    if !peer_is_a_machine() {
        return;
    }
    let pair = Pair::new("machine-drives");
    let drive = |number: usize, options: &str| {
        format!(":drive_add 0 if=none,id=x{number},driver=raw,file.driver=null-co,{options}")
    };
    let options = [
        "stats-intervals.0=0",
        "stats-intervals.0=x",
        "stats-intervals.1=4",
        "stats-intervals.0=3,stats-intervals.1=60,stats-account-invalid=off",
        "stats-account-failed=maybe",
        "stats-account-failed=off",
        "copy-on-read=maybe",
        "bps=100",
        "bps=100,bps_rd=10",
        "throttling.bps-total=10,bps=5",
        "iops_max=5",
        "throttling.iops-total=100,throttling.group=g1",
        "iops_size=4096,iops=10,iops_max=20",
        "werror=foo",
        "rerror=enospc",
        "werror=stop,rerror=ignore",
    ];
    let mut commands: Vec<_> = options.iter().enumerate().map(|(n, options)| drive(n, options)).collect();
    commands.extend(["query-block".to_owned(), "query-blockstats".to_owned()]);
    let commands: Vec<_> = commands.iter().map(String::as_str).collect();
    pair.same(&told("", &commands));
}

#[test]
fn a_device_is_told_without_the_filters_of_jobs_that_nobody_named() {
    if !peer_is_a_machine() {
        return;
    }
    let pair = Pair::new("machine-job-filters");
    pair.given(&["qemu-img create -q -f qcow2 a 10M", "qemu-img create -q -f qcow2 -b a -F qcow2 b"]);
    let options = "-drive file=b,if=none,id=d0,format=qcow2,node-name=top -device virtio-scsi,id=s \
                   -device scsi-hd,drive=d0 -blockdev null-co,node-name=n0,read-zeroes=on,size=10M";
    for name in ["", ",\"filter-node-name\":\"over\""] {
        let mirror = format!(
            "blockdev-mirror {{\"job-id\":\"j\",\"device\":\"d0\",\"target\":\"n0\",\"sync\":\"full\",\
             \"speed\":1{name}}}"
        );
        // The job goes on meanwhile: its events come between the replies.
        let told = told(options, &[&mirror, "query-block", ":info block"]);
        pair.same(&told.replace("| sed", "| grep -v JOB_ | sed"));
    }
}
