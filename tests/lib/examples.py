"""The programs under examples/, as a user runs them."""

import os
import random
import signal
import sys
import threading

import nbd

from harness import KIB, MIB, Daemon, export_options, face, main, ours, peer, proof, wait_for

EXAMPLES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "examples")
BACKUP = [sys.executable, os.path.join(EXAMPLES, "incremental-backup", "backup.py")]
MANAGE = [sys.executable, os.path.join(EXAMPLES, "management-2.1", "manage.py")]
SIZE = 64 * MIB
SERVERS = {"ours": None, "peer": [peer("qemu-storage-daemon")]}


class Writer:
    """A client that writes, zeroes and trims without a pause, and knows what the disk holds."""

    def __init__(self, uri, seed):
        self.handle, self.rng = nbd.NBD(), random.Random(seed)
        self.handle.connect_uri(uri)
        self.disk, self.writes, self.error = bytearray(SIZE), 0, None
        self.stop_it = threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        try:
            while not self.stop_it.is_set():
                length = self.rng.choice((512, 4 * KIB, 64 * KIB, 100 * KIB + 512))
                at = self.rng.randrange(0, SIZE - length) // 512 * 512
                if self.rng.random() < 0.2:
                    self.handle.zero(length, at)
                    self.disk[at:at + length] = bytes(length)
                else:
                    data = self.rng.randbytes(length)
                    self.handle.pwrite(data, at)
                    self.disk[at:at + length] = data
                self.writes += 1
        except nbd.Error as error:
            self.error = error

    def stop(self):
        self.stop_it.set()
        self.thread.join()
        assert self.error is None, self.error
        assert self.handle.pread(16 * MIB, 0) == self.disk[:16 * MIB]


def disk_in_use(place, name, command):
    """A daemon with a disk behind a gate, and a client that writes to it."""
    image = place.path(f"{name}.qcow2")
    place.ok([ours("qemu-img"), "create", "-q", "-f", "qcow2", image, str(SIZE)])
    daemon = Daemon(place, "--object", "throttle-group,id=g",
                    "--blockdev", f"driver=qcow2,node-name=disk,discard=unmap,file.driver=file,file.filename={image}",
                    "--blockdev", "driver=throttle,node-name=gate,throttle-group=g,file=disk,discard=unmap",
                    *export_options("gate", name="disk", export_id="e"), name=name, command=command)
    writer = Writer(daemon.uri("disk"), place.rng.random())
    place.closers.append(writer.stop_it.set)
    return daemon, writer, image


def round_of(place, daemon, folder, *more):
    return BACKUP + ["round", "--qmp", daemon.qmp_path, "--nbd", daemon.nbd_path, "--node", "disk", "--gate", "gate", "--group", "g",
                     "--scratch", place.path(f"scratch-{daemon.name}"), *more, folder]


def nodes_and_bitmaps(daemon):
    qmp = daemon.qmp()
    infos = qmp.run("query-named-block-nodes", flat=True)
    qmp.close()
    names = {info["node-name"] for info in infos if not info["node-name"].startswith("#")}
    (disk,) = [info for info in infos if info["node-name"] == "disk"]
    return names, [bitmap["name"] for bitmap in disk.get("dirty-bitmaps", [])]


@proof("incremental backups while a client writes hold the disk as it was at each round, with our daemon and with QEMU's", seconds=400)
def _(place):
    for name, command in SERVERS.items():
        daemon, writer, image = disk_in_use(place, name, command)
        folder = place.path(f"backups-{name}")
        wait_for("the first writes", lambda: writer.writes > 50)
        for number in range(4):
            before = writer.writes
            told = place.ok(round_of(place, daemon, folder, "--verify"), seconds=200).out
            assert told.startswith(f"round {number}: "), told
            place.tell(f"{name}: {told.strip()}, {writer.writes - before} writes meanwhile")
            assert writer.writes > before
            assert nodes_and_bitmaps(daemon) == ({"disk", "gate"}, [f"backup-{number:04}"])
        writer.stop()
        place.ok(round_of(place, daemon, folder), seconds=200)
        data = [int(line.split()[2]) for line in place.ok(BACKUP + ["list", folder]).out.splitlines()]
        assert len(data) == 5 and data[4] < SIZE, data
        restored = place.path(f"restored-{name}.raw")
        place.ok(BACKUP + ["restore", folder, restored])
        assert open(restored, "rb").read() == writer.disk, "what was restored is not what the client wrote"
        daemon.stop()
        place.ok([peer("qemu-img"), "compare", "-f", "raw", "-F", "qcow2", restored, image])
        place.ok([peer("qemu-img"), "check", "-q", "-f", "qcow2", image])
        # The bitmap is in the image: a later daemon goes on from it.
        daemon = Daemon(place, "--object", "throttle-group,id=g",
                        "--blockdev", f"driver=qcow2,node-name=disk,file.driver=file,file.filename={image}",
                        "--blockdev", "driver=throttle,node-name=gate,throttle-group=g,file=disk", name=name, command=command)
        told = place.ok(round_of(place, daemon, folder, "--verify"), seconds=200).out
        assert told == f"round 5: 0 bytes of data, 0 of zeroes, of {SIZE}\n", told
        daemon.stop()


@proof("a round that is broken off loses nothing: the next one pulls what it should have", seconds=400)
def _(place):
    for name, command in SERVERS.items():
        daemon, writer, _ = disk_in_use(place, name, command)
        folder = place.path(f"backups-{name}")
        wait_for("the first writes", lambda: writer.writes > 50)
        place.ok(round_of(place, daemon, folder), seconds=200)
        for delay in (0.05, 0.1, 0.2, 0.3, 0.5):
            broken = place.spawn(round_of(place, daemon, folder))
            threading.Event().wait(delay + place.rng.random() / 10)
            place.end(broken, signal.SIGKILL)
        told = place.ok(round_of(place, daemon, folder, "--verify"), seconds=200).out
        assert nodes_and_bitmaps(daemon)[0] == {"disk", "gate"}
        # One that fails by itself tidies up.
        os.makedirs(place.path("no-file"), exist_ok=True)
        place.refused(round_of(place, daemon, folder, "--scratch", place.path("no-file")), "backup.py")
        assert nodes_and_bitmaps(daemon)[0] == {"disk", "gate"}
        writer.stop()
        place.ok(round_of(place, daemon, folder), seconds=200)
        restored = place.path(f"restored-{name}.raw")
        place.ok(BACKUP + ["restore", folder, restored])
        assert open(restored, "rb").read() == writer.disk, told
        daemon.stop()


@proof("a backup that was changed on its disk is not restored")
def _(place):
    daemon, writer, _ = disk_in_use(place, "d", None)
    folder = place.path("backups")
    wait_for("the first writes", lambda: writer.writes > 50)
    place.ok(round_of(place, daemon, folder), seconds=200)
    writer.stop()
    with open(os.path.join(folder, "round-0000.data"), "r+b") as data:
        data.write(b"other")
    place.refused(BACKUP + ["restore", folder, place.path("restored")], "not those that were stored")
    daemon.stop()


@proof("a day of a disk's life is carried out in the words of QEMU 2.1's interface, and all that was written is there")
def _(place):
    folder = place.path("day")
    told = place.ok(MANAGE + [folder, "--"] + face("machine"), seconds=200)
    assert told.out == "all commands of the day were carried out\n", told
    io = [peer("qemu-io"), "-r", "-f", "qcow2"]
    in_mirror = [["-c", f"read -P {number + 1} {number}M 1M"] for number in range(6)]
    read = place.ok(io + sum(in_mirror, []) + [os.path.join(folder, "mirror.qcow2")])
    assert "failed" not in read.out and read.out.count("read 1048576") == 6, read
    # The backup is of the moment at which it began.
    read = place.ok(io + sum(in_mirror[:3], []) + ["-c", "read -P 0 3M 1M", os.path.join(folder, "backup.img")])
    assert "failed" not in read.out and read.out.count("read 1048576") == 4, read
    for name in ("first.qcow2", "second.qcow2", "snap1.qcow2", "snap2.qcow2", "mirror.qcow2", "backup.img"):
        place.ok([peer("qemu-img"), "check", "-q", "-f", "qcow2", os.path.join(folder, name)])


main("examples")
