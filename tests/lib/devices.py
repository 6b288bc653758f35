"""Block devices of the host as disks (docs/devices.md): loop devices, which need the superuser."""

import json
import os
import subprocess

from harness import KIB, MIB, Daemon, Qmp, QmpError, blockdev, face, main, noise, peer, proof, tested_is_peer, wait_for

IMG, IO = face("img"), face("io")
NEEDS = ("root", "losetup", "/dev/loop-control")
PEER_IMG = peer("qemu-img")


class Loop:
    """A loop device over a file of its own."""

    def __init__(self, place, size=16 * MIB, *options, name="back", content=None):
        self.place, self.back = place, place.path(name)
        with open(self.back, "wb") as file:
            file.write(noise(size, size) if content is None else content)
        self.path = place.ok(["losetup", "--show", "-f", *options, self.back]).out.strip()
        place.closers.append(self.detach)

    def detach(self):
        subprocess.run(["losetup", "-d", self.path], stderr=subprocess.DEVNULL)

    def resize(self, size):
        """What an administrator does to a volume."""
        os.truncate(self.back, size)
        self.place.ok(["losetup", "-c", self.path])

    def stored(self):
        """Bytes that the file takes."""
        os.sync()
        return os.stat(self.back).st_blocks * 512

    def holds(self):
        os.sync()
        with open(self.back, "rb") as file:
            return file.read()


def same_info(place, name, *words):
    """What is told of an image is what the peer tells, as text and as JSON."""
    for output in ("human", "json"):
        command = ["info", f"--output={output}", *words, name]
        mine, theirs = place.ok([*IMG, *command]).out, place.ok([PEER_IMG, *command]).out
        assert mine == theirs, f"{name}:\n{mine}\n{theirs}"
    return json.loads(mine)


def sizes(qmp):
    nodes = qmp.run("query-named-block-nodes", flat=True)
    return {node["node-name"]: node["image"]["virtual-size"] for node in nodes}


@proof("a device is told as the peer tells it, by its name and by the driver's", NEEDS)
def _(place):
    loop = Loop(place)
    for name in (loop.path, f"host_device:{loop.path}"):
        told = same_info(place, name)
        assert told["children"][0]["info"]["format"] == "host_device", told
    named = json.dumps({"driver": "raw", "file": {"driver": "host_device", "filename": loop.path}})
    same_info(place, f"json:{named}")
    if not tested_is_peer():
        told = place.ok([*IMG, "info", "--output=json", f"host_floppy:{loop.path}"]).json()
        assert told["children"][0]["info"]["format"] == "host_floppy", told


@proof("images are converted to devices and from them, through the page cache and past it", NEEDS)
def _(place):
    loop, source = Loop(place), place.path("source.qcow2")
    raw = place.write("source.raw", noise(5 * MIB, 5) + bytes(6 * MIB) + noise(5 * MIB, 6))
    place.ok([*IMG, "convert", "-O", "qcow2", raw, source])
    for cache in ("writeback", "none", "directsync"):
        place.ok(["losetup", "-c", loop.path])
        place.ok([*IMG, "convert", "-n", "-t", cache, "-T", cache, "-O", "raw", source, loop.path])
        assert loop.holds() == open(raw, "rb").read(), cache
        place.ok([*IMG, "convert", "-T", cache, "-O", "qcow2", loop.path, place.path("back.qcow2")])
        place.ok([PEER_IMG, "compare", "-f", "qcow2", "-F", "raw", place.path("back.qcow2"), raw])
    # A format that grows lies in a device as well, and the peer reads it.
    place.ok([*IMG, "create", "-f", "qcow2", loop.path, "8M"])
    place.ok([*IO, "-f", "qcow2", "-c", "write -P 7 1M 64k", "-c", "flush", loop.path])
    place.ok([peer("qemu-io"), "-r", "-f", "qcow2", "-c", "read -P 7 1M 64k", loop.path])
    place.ok([PEER_IMG, "check", "-f", "qcow2", loop.path])
    # What has no room in it is refused, and says so.
    place.refused([*IMG, "convert", "-n", "-O", "raw", place.write("large", bytes(17 * MIB)), loop.path], "smaller")


@proof("a discard, and zeroes that may give space back, punch the file behind a device", NEEDS)
def _(place):
    loop = Loop(place)
    before = loop.stored()
    place.ok([*IO, "-f", "raw", "-d", "unmap", "-c", "discard 4M 4M", loop.path])
    freed = before - loop.stored()
    assert freed >= 4 * MIB, f"{freed} bytes were given back by the discard"
    place.ok([*IO, "-f", "raw", "-d", "unmap", "-c", "write -z -u 8M 4M", loop.path])
    freed = before - loop.stored()
    assert freed >= 8 * MIB, f"{freed} bytes were given back with the zeroes"
    content = loop.holds()
    assert content[8 * MIB:12 * MIB] == bytes(4 * MIB)
    # Zeroes that keep their place, and odd ones, are zeroes and nothing beside.
    wanted = bytearray(content)
    for at, length in ((0, MIB), (MIB + 5, 3000), (13 * MIB, 4096), (16 * MIB - 1, 1)):
        place.ok([*IO, "-f", "raw", "-c", f"write -z {at} {length}", loop.path])
        wanted[at:at + length] = bytes(length)
    assert loop.holds() == bytes(wanted)
    # Without leave a discard does nothing.
    stored = loop.stored()
    place.ok([*IO, "-f", "raw", "-d", "ignore", "-c", "discard 0 1M", loop.path])
    assert loop.stored() == stored and loop.holds() == bytes(wanted)


@proof("a device that has become larger or smaller is taken up by block_resize, as with the peer", NEEDS)
def _(place):
    loop = Loop(place)
    daemons = [Daemon(place, *blockdev("host_device", "device", filename=loop.path), *blockdev("raw", "disk", file="device"),
                      name="mine", nbd=False)]
    if not tested_is_peer():
        daemons.append(Daemon(place, *blockdev("host_device", "device", filename=loop.path, locking="off"),
                              *blockdev("raw", "disk", file="device"), name="theirs", nbd=False,
                              command=[peer("qemu-storage-daemon")]))
    clients = [daemon.qmp() for daemon in daemons]

    def both(expected):
        for qmp in clients:
            assert sizes(qmp) == {"device": expected, "disk": expected}, sizes(qmp)

    both(16 * MIB)
    for qmp in clients:
        try:
            qmp.run("block_resize", node_name="disk", size=32 * MIB)
            raise AssertionError("a device grew by itself")
        except QmpError as error:
            assert "Cannot grow device files" in error.desc, error
    loop.resize(24 * MIB)
    both(16 * MIB)
    for qmp in clients:
        qmp.run("block_resize", node_name="disk", size=24 * MIB)
    both(24 * MIB)
    loop.resize(12 * MIB)
    for qmp in clients:
        qmp.run("block_resize", node_name="device", size=12 * MIB)
    for qmp in clients:
        assert sizes(qmp)["device"] == 12 * MIB
    for daemon in daemons:
        daemon.stop()


@proof("what a device has grown by can be written to, by clients of an export made anew", NEEDS)
def _(place):
    loop = Loop(place)
    daemon = Daemon(place, *blockdev("host_device", "device", filename=loop.path, discard="unmap"),
                    "--export", "type=nbd,id=e,node-name=device,name=disk,writable=on")
    qmp, uri = daemon.qmp(), daemon.uri("disk")
    beyond = place.run([*IO, "-f", "raw", "-c", "write -P 1 16M 64k", uri])
    assert beyond.code == 1 and "write failed" in beyond.out, beyond
    loop.resize(20 * MIB)
    # Clients of NBD are told of a size once.
    qmp.run("block-export-del", id="e", mode="hard")
    qmp.wait_event("BLOCK_EXPORT_DELETED")
    qmp.run("block_resize", node_name="device", size=20 * MIB)
    qmp.run("block-export-add", type="nbd", id="e", node_name="device", name="disk", writable=True)
    place.ok([*IO, "-f", "raw", "-c", "write -P 1 16M 64k", "-c", "flush", "-c", "discard 0 1M", uri])
    assert loop.holds()[16 * MIB:16 * MIB + 64 * KIB] == b"\1" * 64 * KIB
    daemon.stop()


@proof("a device that only reads is refused for writing, by name, and read where that will do", NEEDS)
def _(place):
    loop = Loop(place, 16 * MIB, "-r")
    for name in (loop.path, f"host_device:{loop.path}"):
        run = place.refused([*IO, "-f", "raw", "-c", "write 0 512", name], "not writable", loop.path)
        theirs = place.run([peer("qemu-io"), "-f", "raw", "-c", "write 0 512", name])
        assert "not writable" in theirs.err and run.code == theirs.code, theirs
        place.ok([*IO, "-r", "-f", "raw", "-c", "read 0 512", name])
    place.ok([*IMG, "compare", "-f", "raw", "-F", "raw", loop.path, loop.back])
    daemon = Daemon(place, *blockdev("host_device", "device", filename=loop.path, auto_read_only=True))
    qmp = daemon.qmp()
    assert [node["ro"] for node in qmp.run("query-named-block-nodes")] == [True]
    try:
        qmp.run("block-export-add", type="nbd", id="e", node_name="device", writable=True)
        raise AssertionError("a read-only device was exported for writing")
    except QmpError:
        pass
    daemon.stop()


@proof("a device of 4 KiB sectors takes requests of any size, through the page cache and past it", NEEDS)
def _(place):
    loop = Loop(place, 16 * MIB, "-b", "4096")
    wanted = bytearray(loop.holds())
    for cache in ("writeback", "none"):
        for number, (at, length) in enumerate(((0, 512), (4096 - 512, 1024), (12345, 4321), (MIB + 1, 70_000), (16 * MIB - 7, 7))):
            pattern = number + 1 + (100 if cache == "none" else 0)
            place.ok([*IO, "-f", "raw", "-t", cache, "-c", f"write -P {pattern} {at} {length}", "-c",
                      f"read -P {pattern} {at} {length}", loop.path])
            wanted[at:at + length] = bytes([pattern]) * length
        place.ok([*IO, "-f", "raw", "-t", cache, "-c", "write -z 2M 5000", "-c", "read -P 0 2M 5000", loop.path])
        wanted[2 * MIB:2 * MIB + 5000] = bytes(5000)
        place.ok([*IO, "-f", "raw", "-t", cache, "-d", "unmap", "-c", "discard 512 100", "-c", "flush", loop.path])
    assert loop.holds() == bytes(wanted)
    place.ok([*IMG, "create", "-f", "qcow2", loop.path, "8M"])
    place.ok([*IO, "-f", "qcow2", "-t", "none", "-c", "write -P 9 513 100", "-c", "read -P 9 513 100", loop.path])
    place.ok([PEER_IMG, "check", "-f", "qcow2", loop.path])


@proof("a partition is a device of its own", (*NEEDS, "addpart"))
def _(place):
    loop = Loop(place)
    # By hand: not every kernel reads tables of partitions.
    place.ok(["addpart", loop.path, "2", "10240", "8192"])
    place.closers.append(lambda: subprocess.run(["delpart", loop.path, "2"], stderr=subprocess.DEVNULL))
    second = f"{loop.path}p2"
    wait_for(f"{second} to be there", lambda: os.path.exists(second))
    told = same_info(place, second)
    assert told["virtual-size"] == 4 * MIB, told
    before = loop.holds()
    place.ok([*IO, "-f", "raw", "-c", "write -P 5 0 4M", second])
    beyond = place.run([*IO, "-f", "raw", "-c", "write -P 6 4M 512", second])
    assert beyond.code == 1, beyond
    at = 10240 * 512
    assert loop.holds() == before[:at] + b"\5" * 4 * MIB + before[at + 4 * MIB:]


@proof("a device that loses what is behind it fails, shows no zeroes instead, and the program lives on", NEEDS)
def _(place):
    loop, other = Loop(place), Loop(place, 4 * MIB, name="other")
    daemon = Daemon(place, *blockdev("host_device", "device", filename=loop.path), *blockdev("host_device", "other", filename=other.path),
                    "--export", "type=nbd,id=e,node-name=device,name=disk,writable=on",
                    "--export", "type=nbd,id=f,node-name=other,name=other,writable=on")
    uri = daemon.uri("disk")
    place.ok([*IO, "-f", "raw", "-c", "read 8M 64k", uri])
    # The node is not told.
    os.truncate(loop.back, 4 * MIB)
    place.ok(["losetup", "-c", loop.path])
    gone = place.run([*IO, "-f", "raw", "-c", "read 8M 64k", uri])
    assert gone.code == 1 and "read failed: Input/output error" in gone.out, gone
    daemon.alive()
    place.ok([*IO, "-f", "raw", "-c", "read 0 64k", uri])
    place.ok([*IO, "-f", "raw", "-c", "write -P 3 0 64k", "-c", "flush", daemon.uri("other")])
    daemon.stop()


@proof("hardware that is missing is told, each case in its own words", NEEDS)
def _(place):
    node = place.path("nobody")
    # A CD drive of SCSI, of which there is none with this number; a kind of device that no driver is for.
    place.ok(["mknod", node, "b", "11", "250"])
    for name in (node, f"host_device:{node}", f"host_cdrom:{node}"):
        place.refused([*IMG, "info", name], "no device is behind this name", node)
    place.refused([*IMG, "info", f"host_device:{node}-else"], "No such file or directory", "no device has this name")
    for driver in ("host_device", "host_cdrom", "host_floppy"):
        plain = place.write("plain", b"x")
        place.refused([*IMG, "info", f"{driver}:{plain}"],
                      f"'{driver}' driver requires '{plain}' to be either a character or block device")
    loop = Loop(place)
    place.refused([*IMG, "info", f"host_cdrom:{loop.path}"], "to be a CD drive", "use 'host_device'")


@proof("an image in a device is one program's", NEEDS)
def _(place):
    loop = Loop(place)
    place.ok([*IMG, "create", "-f", "qcow2", loop.path, "8M"])
    daemon = Daemon(place, *blockdev("qcow2", "disk", file={"driver": "host_device", "filename": loop.path}),
                    "--export", "type=nbd,id=e,node-name=disk,name=disk,writable=on")
    for image in (IMG, [PEER_IMG]):
        place.refused([*image, "info", loop.path], "lock")
        place.ok([*image, "info", "-U", loop.path])
    place.refused([*IO, "-f", "qcow2", "-c", "write 0 512", loop.path], "lock")
    daemon.stop()
    place.ok([*IO, "-f", "qcow2", "-c", "write 0 512", loop.path])


@proof("the medium of a machine's CD drive is a device, and goes through the tray", NEEDS)
def _(place):
    first, second = Loop(place, 4 * MIB, "-r", name="first"), Loop(place, 6 * MIB, "-r", name="second")
    socket = place.path("m.qmp")
    place.serve([*face("machine"), "-nodefaults", "-qmp", f"unix:{socket},server=on,wait=off",
                 "-drive", f"if=ide,media=cdrom,index=2,id=cd,file={first.path},format=raw"], socket)
    qmp = Qmp(socket)
    place.closers.append(qmp.close)

    def drive():
        return next(one for one in qmp.run("query-block") if one["device"] == "cd")

    told = drive()
    assert told["inserted"]["image"]["virtual-size"] == 4 * MIB and told["inserted"]["ro"], told
    assert told["removable"] and told["tray_open"] is False, told
    qmp.run("blockdev-open-tray", device="cd")
    qmp.wait_event("DEVICE_TRAY_MOVED", **{"device": "cd", "tray-open": True})
    assert drive()["tray_open"] is True
    qmp.run("blockdev-change-medium", device="cd", filename=second.path, format="raw")
    qmp.wait_event("DEVICE_TRAY_MOVED", **{"device": "cd", "tray-open": False})
    assert drive()["inserted"]["image"]["virtual-size"] == 6 * MIB
    qmp.run("eject", device="cd")
    qmp.wait_event("DEVICE_TRAY_MOVED", **{"device": "cd", "tray-open": True})
    assert "inserted" not in drive()
    # Nobody has them any more.
    for loop in (first, second):
        place.ok(["losetup", "-d", loop.path])
        wait_for(f"{loop.path} to be free", lambda: not subprocess.run(["losetup", "-j", loop.back], stdout=subprocess.PIPE).stdout)


main("devices")
