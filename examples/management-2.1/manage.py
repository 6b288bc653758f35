#!/usr/bin/env python3
"""A day of a disk's life, told to a machine in the words that the interface of QEMU 2.1 documents.

Every command stands here as it was written for that version: devices are named, jobs have the names of their devices, options of
`blockdev-add` stand in `options`. Programs of that time run unchanged:

    manage.py FOLDER -- cairn machine

FOLDER gets the images. The command after `--` is a machine's, to which the options of its block part are added.
"""

import json
import os
import socket
import subprocess
import sys
import time


class Qmp:
    def __init__(self, path):
        deadline = time.monotonic() + 60
        self.socket = socket.socket(socket.AF_UNIX)
        while True:
            try:
                self.socket.connect(path)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        self.lines = self.socket.makefile("rb")
        self.events = []
        self.receive()
        self('{ "execute": "qmp_capabilities" }')

    def receive(self):
        line = self.lines.readline()
        if not line:
            raise ConnectionError("the machine closed the connection")
        return json.loads(line)

    def __call__(self, text):
        """Sends a command as it is written, and gives its answer."""
        self.socket.sendall(text.encode() + b"\n")
        while True:
            answer = self.receive()
            if "event" in answer:
                self.events.append(answer)
            elif "error" in answer:
                raise SystemExit(f"{text}\n  was refused: {answer['error']['desc']}")
            else:
                return answer["return"]

    def wait(self, name, device):
        """Waits for an event of a device."""
        while True:
            while self.events:
                event = self.events.pop(0)
                if event["event"] == name and event.get("data", {}).get("device") == device:
                    if event["data"].get("error"):
                        raise SystemExit(f"{event} tells of an error")
                    return event
            answer = self.receive()
            if "event" in answer:
                self.events.append(answer)

    def guest(self, device, command):
        """What a guest would do: a request of the device."""
        self(json.dumps({"execute": "human-monitor-command", "arguments": {"command-line": f'qemu-io {device} "{command}"'}}))


def info(qmp, device):
    (found,) = [info for info in qmp('{ "execute": "query-block" }') if info["device"] == device]
    return found


def day(qmp, folder):
    # Throttled, as the tenant pays for it.
    qmp('''{ "execute": "block_set_io_throttle", "arguments": { "device": "virtio0",
                                                                "bps": 100000000,
                                                                "bps_rd": 0,
                                                                "bps_wr": 0,
                                                                "iops": 0,
                                                                "iops_rd": 0,
                                                                "iops_wr": 0,
                                                                "bps_max": 800000000,
                                                                "bps_rd_max": 0,
                                                                "bps_wr_max": 0,
                                                                "iops_max": 0,
                                                                "iops_rd_max": 0,
                                                                "iops_wr_max": 0,
                                                                "iops_size": 0 } }''')
    assert info(qmp, "virtio0")["inserted"]["bps"] == 100000000
    qmp.guest("virtio0", "write -P 1 0 1M")

    # A second disk.
    qmp('''{ "execute": "blockdev-add",
             "arguments": {
                 "options" : {
                   "driver": "qcow2",
                   "id": "my_disk",
                   "discard": "unmap",
                   "cache": {
                     "direct": false,
                     "writeback": true
                   },
                   "file": {
                     "driver": "file",
                     "filename": "second.qcow2"
                   }
                 }
               }
           }''')
    assert info(qmp, "my_disk")["inserted"]["drv"] == "qcow2"
    qmp('{ "execute": "block_resize", "arguments": { "device": "my_disk", "size": 67108864 } }')
    assert info(qmp, "my_disk")["inserted"]["image"]["virtual-size"] == 67108864

    # Snapshots of both at one moment.
    qmp('''{ "execute": "transaction",
             "arguments": { "actions": [
                 { "type": "blockdev-snapshot-sync", "data" : { "device": "virtio0",
                                                 "snapshot-file": "snap1.qcow2",
                                                 "format": "qcow2" } },
                 { "type": "blockdev-snapshot-internal-sync", "data" : {
                                                 "device": "my_disk",
                                                 "name": "snapshot0" } } ] } }''')
    assert info(qmp, "virtio0")["inserted"]["backing_file_depth"] == 1
    assert info(qmp, "my_disk")["inserted"]["image"]["snapshots"][0]["name"] == "snapshot0"
    qmp('{ "execute": "blockdev-snapshot-delete-internal-sync", "arguments": { "device": "my_disk", "name": "snapshot0" } }')
    qmp.guest("virtio0", "write -P 2 1M 1M")
    qmp('''{ "execute": "blockdev-snapshot-sync", "arguments": { "device": "virtio0",
                                                        "snapshot-file": "snap2.qcow2",
                                                        "format": "qcow2" } }''')
    qmp.guest("virtio0", "write -P 3 2M 1M")

    # The layer in the middle is written back, then all of it is pulled up.
    qmp('{ "execute": "block-commit", "arguments": { "device": "virtio0", "top": "snap1.qcow2" } }')
    qmp.wait("BLOCK_JOB_COMPLETED", "virtio0")
    assert info(qmp, "virtio0")["inserted"]["backing_file_depth"] == 1
    qmp('{ "execute": "block-stream", "arguments": { "device": "virtio0" } }')
    qmp.wait("BLOCK_JOB_COMPLETED", "virtio0")
    assert info(qmp, "virtio0")["inserted"]["backing_file_depth"] == 0

    # A backup of this moment, then a move to another file.
    qmp('''{ "execute": "drive-backup", "arguments": { "device": "virtio0",
                                                "sync": "full",
                                                "format": "qcow2",
                                                "target": "backup.img" } }''')
    qmp.guest("virtio0", "write -P 4 3M 1M")
    qmp.wait("BLOCK_JOB_COMPLETED", "virtio0")
    qmp('''{ "execute": "drive-mirror", "arguments": { "device": "virtio0",
                                               "target": "mirror.qcow2",
                                               "sync": "full",
                                               "format": "qcow2" } }''')
    qmp('{ "execute": "block-job-set-speed", "arguments": { "device": "virtio0", "speed": 0 } }')
    qmp.wait("BLOCK_JOB_READY", "virtio0")
    (job,) = qmp('{ "execute": "query-block-jobs" }')
    assert job["type"] == "mirror" and job["device"] == "virtio0" and job["ready"], job
    qmp.guest("virtio0", "write -P 5 4M 1M")
    qmp('{ "execute": "block-job-complete", "arguments": { "device": "virtio0" } }')
    qmp.wait("BLOCK_JOB_COMPLETED", "virtio0")
    assert info(qmp, "virtio0")["inserted"]["file"].endswith("mirror.qcow2")
    qmp.guest("virtio0", "write -P 6 5M 1M")

    # What others read, and the medium of the CD drive.
    qmp('{ "execute": "nbd-server-start", "arguments": { "addr": { "type": "unix", "data": { "path": "nbd.sock" } } } }')
    qmp('{ "execute": "nbd-server-add", "arguments": { "device": "virtio0", "writable": false } }')
    qmp('{ "execute": "nbd-server-stop" }')
    qmp('{ "execute": "eject", "arguments": { "device": "ide1-cd0", "force": true } }')
    assert "inserted" not in info(qmp, "ide1-cd0")
    qmp('''{ "execute": "change",
             "arguments": { "device": "ide1-cd0",
                            "target": "other.iso",
                            "arg": "raw" } }''')
    assert info(qmp, "ide1-cd0")["inserted"]["file"].endswith("other.iso")

    (stats,) = [stats for stats in qmp('{ "execute": "query-blockstats" }') if stats["device"] == "virtio0"]
    assert stats["stats"]["wr_bytes"] >= 6 << 20 and stats["stats"]["wr_operations"] >= 6, stats
    assert {node["drv"] for node in qmp('{ "execute": "query-named-block-nodes" }')} >= {"qcow2", "file"}
    qmp('{ "execute": "quit" }')


def main():
    if len(sys.argv) < 4 or sys.argv[2] != "--":
        sys.exit(__doc__)
    folder, machine = os.path.abspath(sys.argv[1]), sys.argv[3:]
    os.makedirs(folder, exist_ok=True)
    for name, size in (("first.qcow2", "64M"), ("second.qcow2", "32M")):
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", name, size], cwd=folder, check=True)
    for name in ("one.iso", "other.iso"):
        with open(os.path.join(folder, name), "wb") as file:
            file.truncate(1 << 20)
    log = open(os.path.join(folder, "machine.log"), "w+", encoding="utf-8")
    process = subprocess.Popen(
        machine + ["-nodefaults", "-display", "none", "-qmp", "unix:qmp.sock,server,nowait",
                   "-drive", "file=first.qcow2,if=none,id=virtio0,format=qcow2", "-device", "virtio-blk-pci,drive=virtio0",
                   "-drive", "file=one.iso,if=none,id=ide1-cd0,media=cdrom,format=raw,readonly=on",
                   "-device", "ide-cd,drive=ide1-cd0"], cwd=folder, stdout=log)
    try:
        here = os.getcwd()
        os.chdir(folder)
        day(Qmp("qmp.sock"), folder)
        os.chdir(here)
        if process.wait(60) != 0:
            sys.exit(f"the machine ended with {process.returncode}")
    finally:
        process.kill()
        process.wait()
    # What the guest's requests came to stands there.
    log.seek(0)
    if "failed" in log.read():
        sys.exit(f"{log.name} tells of a request that failed")
    print("all commands of the day were carried out")


if __name__ == "__main__":
    main()
