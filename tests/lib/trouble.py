"""Bad input and bad days: full disks, too few descriptors, files that are no images, images that lie, peers that hang.

    CAIRN_TEST_IMAGES   images changed at random (60)
"""

import errno
import itertools
import os
import resource
import signal
import subprocess
import threading
import time

import nbd

import qcow2 as wrong
import wire
from harness import (GIB, KIB, MIB, Daemon, QmpError, blockdev, export_options, face, image_options, main, memory_peak,
                     number, peer, proof, tested_is_peer, wait_for)
from stamps import SECTOR, ZERO, content, explain, stamp

IMAGES = number("CAIRN_TEST_IMAGES", 60)
IMG, IO = face("img"), face("io")


def make(place, name="disk.qcow2", size=8 * MIB, *more):
    path = place.path(name)
    place.ok([peer("qemu-img"), "create", "-q", "-f", "qcow2", *more, path, str(size)])
    return path


# --- the disk is full ---------------------------------------------------------------------------------------------

class Full:
    """An export on a file system that runs full: stamps written, and which of them were acknowledged."""

    def __init__(self, place, driver):
        self.place, self.folder = place, place.tmpfs("small", "6m")
        self.filler, self.image = os.path.join(self.folder, "filler"), os.path.join(self.folder, "disk")
        with open(self.filler, "wb") as file:
            file.write(b"f" * 2 * MIB)
        place.ok([peer("qemu-img"), "create", "-q", "-f", driver, self.image, "32M"])
        self.driver = driver
        self.start()
        self.acked, self.tried, self.sequence = {}, {}, 0

    def start(self):
        self.daemon = Daemon(self.place, *image_options(self.driver, "disk", self.image, discard="unmap"), *export_options("disk"))
        self.handle = nbd.NBD()
        self.handle.connect_uri(self.daemon.uri("disk"))

    def write(self, first, count):
        """True if it was acknowledged; False at ENOSPC; anything else fails the proof."""
        self.sequence += 1
        for sector in range(first, first + count):
            self.tried.setdefault(sector, [-1]).append(self.sequence)
        try:
            self.handle.pwrite(content(first, count, self.sequence), first * SECTOR)
        except nbd.Error as error:
            assert error.errnum == errno.ENOSPC, f"write at sector {first}: error {error.errnum} instead of ENOSPC"
            return False
        for sector in range(first, first + count):
            self.acked[sector] = self.sequence
            self.tried[sector] = [self.sequence]
        return True

    def flush(self):
        try:
            self.handle.flush()
            return True
        except nbd.Error as error:
            assert error.errnum == errno.ENOSPC, f"flush: error {error.errnum}"
            return False

    def check_content(self, read):
        for sector, may in self.tried.items():
            data = read(sector)
            assert any(data == (ZERO if value == -1 else stamp(sector, value)) for value in may), \
                f"sector {sector} holds {explain(data)}; may hold requests {may}"


@proof("a disk that runs full gives ENOSPC and poisons nothing: room made, writes go on, nothing acknowledged is lost",
       ("tmpfs", "peer:qemu-img"), 120)
def _(place):
    for driver in ("qcow2", "raw"):
        full = Full(place, driver)
        refusals, first = 0, 0
        while refusals < 12:
            first = (first + 300) % (32 * MIB // SECTOR - 300)
            refusals += not full.write(first, place.rng.choice((1, 8, 100, 128, 256)))
            if refusals and place.rng.random() < 0.3:
                full.flush()
        written = [sector for sector in full.acked]
        for _ in range(20):  # what is there already can be written over
            assert full.write(place.rng.choice(written), 1), "a write over what is there needs no room"
        full.check_content(lambda sector: bytes(full.handle.pread(SECTOR, sector * SECTOR)))
        full.daemon.alive()
        os.unlink(full.filler)
        for _ in range(8):
            first = (first + 300) % (32 * MIB // SECTOR - 300)
            assert full.write(first, 64), "there is room now, still ENOSPC"
        full.handle.flush()
        read = lambda sector: bytes(full.handle.pread(SECTOR, sector * SECTOR))
        full.check_content(read)
        # Full once more, and the end comes while it is.
        while full.write(first, 256):
            first = (first + 300) % (32 * MIB // SECTOR - 300)
        flushed = full.flush()
        full.handle.shutdown()
        code = place.end(full.daemon.process)
        assert code == 0 or not flushed, f"exit code {code}: {full.daemon.log()}"
        if driver == "qcow2":
            check = place.run([peer("qemu-img"), "check", "-f", "qcow2", full.image])
            assert check.code in (0, 3), str(check)
        full.start()
        full.check_content(read)
        full.daemon.kill()
        subprocess.run(["umount", "-l", full.folder])
        os.rmdir(full.folder)


@proof("a full disk fails create and convert with a word about it, and no half image is left", ("tmpfs",))
def _(place):
    folder = place.tmpfs("small", "3m")
    source = place.write("source", os.urandom(8 * MIB))
    target = os.path.join(folder, "out")
    for format in ("raw", "qcow2"):
        place.refused([*IMG, "convert", "-f", "raw", "-O", format, source, target], "no space")
        if os.path.exists(target):
            os.unlink(target)
    place.refused([*IMG, "create", "-f", "qcow2", "-o", "preallocation=full", target, "8M"], "no space")
    assert not os.path.exists(target) or tested_is_peer()


@proof("a limit of a file's size is an error that is told, not the end of the process")
def _(place):
    def limited():
        os.setpgid(0, 0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, MIB))

    if tested_is_peer():
        return
    source = place.write("source", os.urandom(4 * MIB))
    for format in ("raw", "qcow2"):
        place.refused([*IMG, "convert", "-f", "raw", "-O", format, source, place.path("out")], "too large", preexec_fn=limited)
        place.refused([*IMG, "create", "-f", format, "-o", "preallocation=full", place.path("new"), "4M"], "too large",
                      preexec_fn=limited)
    place.refused([*IMG, "resize", "-f", "raw", source, "8M"], "too large", preexec_fn=limited)


# --- too few descriptors ------------------------------------------------------------------------------------------

def few(count):
    def child():
        os.setpgid(0, 0)
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))
    return child


@proof("too few descriptors are told as such, and a daemon that has none left serves on as soon as it has")
def _(place):
    image = make(place, "l0.qcow2")
    for layer in range(1, 24):
        image = make(place, f"l{layer}.qcow2", 8 * MIB, "-b", image, "-F", "qcow2")
    word = ("too many open files", "descriptors")
    place.refused([*IMG, "info", "--backing-chain", image], word, preexec_fn=few(4)) if not tested_is_peer() else None
    place.refused([*IMG, "map", image], word, preexec_fn=few(16))
    place.refused([*IO, "-f", "qcow2", "-c", "read 0 4k", image], word, preexec_fn=few(16))
    if tested_is_peer():
        return
    place.refused([*face("daemon"), *blockdev("qcow2", "d", file={"driver": "file", "filename": image})], word, preexec_fn=few(16))
    daemon = Daemon(place, *image_options("raw", "raw", place.write("raw", bytes(MIB))), *export_options("raw"), preexec_fn=few(28))
    clients, seconds = [], []
    for _ in range(40):
        client = wire.Client(daemon.nbd_path, seconds=0.2)
        try:
            client.go("raw")
            clients.append(client)
        except (TimeoutError, EOFError, OSError):
            seconds.append(client)
    assert clients, "not one client was served with 28 descriptors"
    assert seconds, "all forty were served with 28 descriptors?"
    daemon.alive()
    for client in clients:
        client.request(wire.READ, 0, 16)
        assert client.answer(16)[2] == bytes(16)
    for client in clients + seconds:
        client.close()
    handle = nbd.NBD()
    handle.connect_uri(daemon.uri("raw"))
    assert bytes(handle.pread(16, 0)) == bytes(16)
    handle.shutdown()
    daemon.stop()


# --- no images ----------------------------------------------------------------------------------------------------

@proof("a directory, a FIFO, a socket, a device and nothing at all are refused at once and by name (row 26)")
def _(place):
    os.mkdir(place.path("folder"))
    os.mkfifo(place.path("fifo"))
    import socket
    held = socket.socket(socket.AF_UNIX)
    held.bind(place.path("socket"))
    names = ["folder", "socket", "missing", "folder/missing/deep"] + ([] if tested_is_peer() else ["fifo"])
    for name in names:
        path = place.path(name)
        for command in (["info", path], ["check", path], ["map", path], ["convert", "-O", "raw", path, place.path("out")],
                        ["info", "-f", "qcow2", path], ["check", "-f", "qcow2", path], ["resize", "-f", "raw", path, "1M"],
                        ["compare", path, path], ["create", "-f", "qcow2", "-b", path, "-F", "raw", place.path("o")]):
            place.refused([*IMG, *command], name, seconds=120)
        place.refused([*IO, "-f", "raw", "-c", "read 0 1", path], name, seconds=120)
        place.refused([*face("nbd"), "-k", place.path("s"), "-f", "raw", path], name, seconds=120)
        place.refused([*face("daemon"), *blockdev("file", "x", filename=path)], name, seconds=120)
    place.refused([*face("daemon"), *blockdev("file", "x", filename="/dev/null")], "/dev/null", seconds=120)
    place.refused([*face("daemon"), *blockdev("host_device", "x", filename=place.write("plain", b""))], seconds=120)
    daemon = Daemon(place, nbd=False)
    qmp = daemon.qmp()
    for name in names:
        try:
            qmp.run("blockdev-add", {"driver": "file", "node-name": "x", "filename": place.path(name)})
            raise AssertionError(f"{name} was opened")
        except QmpError as error:
            assert name in error.desc, error
    held.close()
    daemon.stop()


@proof("a missing backing file and a loop of backing files are told by name", ("peer:qemu-img",))
def _(place):
    base, top = make(place, "base.qcow2"), place.path("top.qcow2")
    place.ok([peer("qemu-img"), "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", top])
    os.rename(base, place.path("gone.qcow2"))
    for command in (["info", "--backing-chain", top], ["map", top], ["convert", "-O", "raw", top, place.path("out")], ["compare", top, top]):
        place.refused([*IMG, *command], "base.qcow2")
    place.ok([*IMG, "info", top])
    if not tested_is_peer():
        place.ok([*IMG, "check", top])
    place.refused([*IO, "-f", "qcow2", "-c", "read 0 1", top], "base.qcow2")
    place.refused([*face("daemon"), *image_options("qcow2", "x", top)], "base.qcow2")
    os.rename(place.path("gone.qcow2"), base)
    for name, other in (("a.qcow2", "b.qcow2"), ("b.qcow2", "c.qcow2"), ("c.qcow2", "a.qcow2"), ("self.qcow2", "self.qcow2")):
        os.rename(make(place, "new", 8 * MIB, "-u", "-b", place.path(other), "-F", "qcow2"), place.path(name))
    for name in ("a.qcow2", "self.qcow2"):
        path = place.path(name)
        commands = [["info", "--backing-chain", path], ["map", path], ["convert", "-O", "raw", path, place.path("out")]]
        for command in commands[:1] if tested_is_peer() else commands:
            place.refused([*IMG, *command], ".qcow2", seconds=120)
        if not tested_is_peer():
            place.refused([*face("daemon"), *image_options("qcow2", "x", path)], ".qcow2", seconds=120)


@proof("an image locked by another process is refused, and the process is named with its command", ("peer:qemu-io",))
def _(place):
    image = make(place)

    def named(run, process, command):
        if not tested_is_peer():
            assert str(process.pid) in run.err and command in run.err, f"pid {process.pid} ({command}) is not named: {run}"
        assert "lock" in run.err and "disk.qcow2" in run.err, str(run)

    daemon = Daemon(place, *image_options("qcow2", "disk", image), *export_options("disk"))
    command = os.path.basename(os.readlink(f"/proc/{daemon.pid}/exe"))[:15]
    for line in ([*IO, "-f", "qcow2", "-c", "write 0 1", image], [*IMG, "check", image], [*IMG, "info", image],
                 [*IMG, "convert", "-O", "raw", image, place.path("out")], [*IMG, "resize", image, "16M"],
                 [*face("nbd"), "-k", place.path("s"), "-f", "qcow2", image]):
        named(place.refused(line), daemon.process, command)
    place.ok([*IMG, "info", "-U", image])
    place.ok([*IO, "-U", "-r", "-f", "qcow2", "-c", "read 0 1", image])
    run = place.refused([peer("qemu-img"), "info", image], "lock")
    daemon.stop()
    holder = place.spawn([peer("qemu-io"), "-f", "qcow2", image], stdin=subprocess.PIPE)
    # It is asked itself: whoever tries the image meanwhile may take the locks that it is about to take.
    holder.stdin.write(b"length\n")
    holder.stdin.flush()
    wait_for("QEMU to hold it", lambda: "MiB" in open(holder.log).read())
    named(place.refused([*IO, "-f", "qcow2", "-c", "write 0 1", image]), holder, "qemu-io")
    daemon = Daemon(place, nbd=False)
    try:
        daemon.qmp().run("blockdev-add", {"driver": "qcow2", "node-name": "x", "file": {"driver": "file", "filename": image}})
        raise AssertionError("opened what another holds")
    except QmpError as error:
        assert "lock" in error.desc and (str(holder.pid) in error.desc or tested_is_peer()), error
    place.end(holder, signal.SIGKILL)
    place.ok([*IO, "-f", "qcow2", "-c", "write 0 1", image])


# --- output that nobody takes -------------------------------------------------------------------------------------

@proof("a standard output that is closed or full never hurts an image, and is no reason to crash")
def _(place):
    image = make(place)
    place.ok([peer("qemu-io"), "-f", "qcow2", "-c", "write -P 1 0 4M", image])
    before = open(image, "rb").read()
    commands = [[*IMG, "info", image], [*IMG, "map", "--output=json", image], [*IMG, "check", image],
                [*IO, "-r", "-f", "qcow2", "-c", "read 0 64k", "-c", "help", image], [*IMG, "--help"]]
    for command in commands:
        with open("/dev/full", "w") as full:
            run = place.run(command, stdout=full)
        assert run.code is not None and 0 <= run.code < 126 and "panicked" not in run.err, str(run)
        if not tested_is_peer():
            assert run.code != 0 and run.err.strip(), f"output was lost without a word: {run}"
        reader, writer = os.pipe()
        os.close(reader)
        run = place.run(command, stdout=writer)
        os.close(writer)
        assert "panicked" not in run.err and (run.code in (-signal.SIGPIPE, 0, 1)), str(run)
        run = place.run(["sh", "-c", '"$@" >&-', "sh", *command])
        assert run.code < 126 and "panicked" not in run.err, str(run)
        assert open(image, "rb").read() == before, f"{command} wrote its words into the image"


# --- images that lie ----------------------------------------------------------------------------------------------

def limits():
    os.setpgid(0, 0)
    resource.setrlimit(resource.RLIMIT_AS, (GIB, GIB))
    resource.setrlimit(resource.RLIMIT_CPU, (30, 30))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def bounded(place, name, command, seconds=10, still_working=False):
    """Runs a command under OpenStack's limits; it must answer in 10 s and 256 MiB, whatever the answer is."""
    out, err = place.path("bounded.out"), place.path("bounded.err")
    with open(out, "wb") as stdout, open(err, "wb") as stderr:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, cwd=place.dir, preexec_fn=limits)
    place.processes.append(process)
    end = time.monotonic() + seconds
    pid = 0
    while not pid and time.monotonic() < end:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if not pid:
            time.sleep(0.002)
    place.processes.remove(process)
    shown = f"{name}: {' '.join(command)}"
    if not pid:
        used = memory_peak(process.pid)
        os.kill(process.pid, signal.SIGKILL)
        os.wait4(process.pid, 0)
        process.returncode = -9
        assert still_working, f"{shown}: no answer within {seconds} s"
        assert used <= 256 * MIB, f"{shown}: {used / MIB:.0f} MiB"
        return None
    process.returncode = code = os.waitstatus_to_exitcode(status)
    said = open(err, errors="replace").read()
    assert code >= 0 and code != 101 and "panicked" not in said, f"{shown}: ended with {code}: {said[-1500:]}"
    assert usage.ru_maxrss * KIB <= 256 * MIB, f"{shown}: {usage.ru_maxrss / KIB:.0f} MiB"
    assert code == 0 or said.strip() or os.path.getsize(out), f"{shown}: exit code {code} without a word"
    return code


def good_images(place):
    """Images with data, holes, zeroes, a snapshot, a bitmap, compressed clusters and a backing file."""
    plain = make(place, "plain.qcow2")
    io = [peer("qemu-io"), "-f", "qcow2", "-c", "write -P 1 0 1M", "-c", "write -P 2 3M 100k", "-c", "write -z 5M 1M"]
    place.ok([*io, plain])
    rich = place.path("rich.qcow2")
    place.ok([peer("qemu-img"), "convert", "-c", "-O", "qcow2", plain, rich])
    place.ok([peer("qemu-img"), "snapshot", "-c", "snap", rich])
    place.ok([peer("qemu-io"), "-f", "qcow2", "-c", "write -P 3 2M 64k", rich])
    place.ok([peer("qemu-img"), "bitmap", "--add", rich, "b"])
    old = make(place, "old.qcow2", 4 * MIB, "-o", "compat=0.10,cluster_size=4k")
    place.ok([peer("qemu-io"), "-f", "qcow2", "-c", "write -P 1 0 300k", old])
    return [open(path, "rb").read() for path in (plain, rich, old)]


def all_commands(place, name, path):
    codes = [bounded(place, name, [*IMG, *command, path]) for command in (
        ["info", "-f", "qcow2"], ["check", "-f", "qcow2"], ["map", "-f", "qcow2", "--output=json"])]
    out = place.path("converted")
    codes.append(bounded(place, name, [*IMG, "convert", "-f", "qcow2", "-O", "qcow2", path, out], still_working=True))
    if os.path.exists(out):
        os.unlink(out)
    return codes


@proof("every kind of wrong table and header is answered by info, check, map and convert in time and memory", ("peer:qemu-img",), 240)
def _(place):
    if tested_is_peer():
        return
    plain, rich, _ = good_images(place)
    chosen = ((f"rich, {name}", data) for name, data in wrong.by_kind(rich) if place.rng.random() < 0.15)
    for name, data in itertools.chain(wrong.by_kind(plain), chosen):
        path = place.write("wrong.qcow2", data)
        place.tell(name)
        all_commands(place, name, path)
        theirs = place.run(["timeout", "-s", "KILL", "3", peer("qemu-img"), "check", "-f", "qcow2", path])  # it may not end
        mine = place.run([*IMG, "check", "-f", "qcow2", path], seconds=120)
        if theirs.code == 2:
            assert mine.code in (1, 2), f"{name}: QEMU finds corruption, ours does not: {mine}\n{theirs}"
        if theirs.code == 0 and not name.startswith(("header_length", "backing_")):  # where ours is the stricter
            assert mine.code == 0, f"{name}: QEMU finds it sound, ours does not: {mine}"


@proof("images changed at random are answered in time and memory; repaired, they are sound or refused", ("peer:qemu-img",), 240)
def _(place):
    if tested_is_peer():
        return
    goods = good_images(place)
    for index in range(3):
        for name, data in wrong.at_random(goods[index], place.rng, IMAGES // 3):
            path = place.write("wrong.qcow2", data)
            place.tell(f"image {index}, {name}")
            all_commands(place, name, path)
            bounded(place, name, [*IO, "-f", "qcow2", "-c", "read 0 4M", "-c", "write -P 9 1000 200k", "-c", "write -z 2M 1M",
                                  "-c", "discard 0 1M", "-c", "flush", path])
            path = place.write("wrong.qcow2", data)
            code = bounded(place, name, [*IMG, "check", "-f", "qcow2", "-r", "all", path])
            if code == 0:
                again = place.run([*IMG, "check", "-f", "qcow2", path])
                assert again.code == 0, f"repaired, and wrong still: {again}"
                theirs = place.run([peer("qemu-img"), "check", "-f", "qcow2", path])
                # 1: what ours has no use for (reserved bytes, the offset of no snapshots) makes QEMU refuse to look at all.
                assert theirs.code in (0, 1), f"repaired, but QEMU finds: {theirs}"


@proof("images of a gigabyte that are all tables are answered in 10 s and 256 MiB (row 27)", (), 200)
def _(place):
    for name, maker in (("8,192 L1 entries on one L2", wrong.many_on_one), ("every cluster an L2 table", wrong.all_tables),
                        ("every cluster a refcount block", wrong.dense_counts)):
        path = place.path("big.qcow2")
        maker(path)
        if tested_is_peer():
            place.run([*IMG, "info", path])
            continue
        place.tell(f"{name}: {all_commands(place, name, path)}")
        os.unlink(path)


@proof("an L1 entry of 0 with COPIED, written through, is refused or repaired, never a crash (row 26)", ("peer:qemu-img",))
def _(place):
    if tested_is_peer():
        return
    plain = good_images(place)[0]
    image = wrong.Image(plain)
    image.put_entry(image.l1, wrong.COPIED)
    path = place.write("l1.qcow2", bytes(image.data))
    daemon = Daemon(place, *image_options("qcow2", "disk", path), *export_options("disk"))
    handle = nbd.NBD()
    handle.connect_uri(daemon.uri("disk"))
    for offset in (0, MIB, 7 * MIB):
        try:
            handle.pwrite(b"x" * 4096, offset)
        except nbd.Error:
            pass
    daemon.alive()
    head = open(path, "rb").read(4)
    assert head == b"QFI\xfb", "the header is as it was"
    del handle
    assert place.end(daemon.process) in (0, 1) and "panicked" not in daemon.log(), daemon.log()


# --- peers that hang, and a disk whose fsync fails ------------------------------------------------------------------

@proof("map tells what it found before an entry that is wrong, wherever that is", ("peer:qemu-img", "peer:qemu-io"))
def _(place):
    for cluster in (3, 10, 640, 1023):
        path = make(place, f"disk{cluster}", 64 * MIB)
        place.ok([peer("qemu-io"), "-f", "qcow2", "-c", "write 0 64k", "-c", "write 256k 128k", path])
        with open(path, "r+b") as file:
            file.seek(40)
            file.seek(int.from_bytes(file.read(8), "big"))
            table = int.from_bytes(file.read(8), "big") & 0xfffffffffffe00
            file.seek(table + 8 * cluster)
            file.write((1 << 63 | 0x123456).to_bytes(8, "big"))
        for form in ("json", "human"):
            mine, theirs = (place.run([*program, "map", f"--output={form}", path]) for program in (IMG, [peer("qemu-img")]))
            # The comma behind an entry is printed with it there, and before the next one here.
            told = [(run.out.rstrip(",\n"), run.code) for run in (mine, theirs)]
            assert told[0] == told[1], f"{cluster} {form}\n{mine}\n{theirs}"


@proof("an NBD server that never answers, or answers without end, ends at a deadline (row 27)", (), 120)
def _(place):
    if tested_is_peer():
        return  # hangs for ever
    import socket
    mute = socket.socket(socket.AF_UNIX)
    mute.bind(place.path("mute.sock"))
    mute.listen(5)
    waiting = [place.spawn([*IMG, "info", f"nbd+unix:///?socket={place.path('mute.sock')}"])]
    for lie in ("silence", "endless"):
        server = wire.Server(place.path(f"{lie}.sock"), MIB, lambda kind, offset, length, lie=lie: lie if kind == wire.READ and offset else None)
        place.closers.append(server.close)
        waiting.append(place.spawn([*IO, "-r", "-f", "raw", "-c", "read 4k 4k", server.uri()]))
    start = time.monotonic()
    for process in waiting:
        code = process.wait(max(1, start + 180 - time.monotonic()))
        said = open(process.log).read()
        assert code == 1 and said.strip() and "panicked" not in said, f"exit code {code}: {said}"
        place.tell(f"{time.monotonic() - start:.1f} s: {said.strip()}")
    mute.close()


def over_server(place, server, size="16M"):
    """A daemon whose qcow2 image lies on a server of ours."""
    daemon = Daemon(place, *blockdev("qcow2", "disk", discard="unmap", file={
        "driver": "nbd", "server": {"type": "unix", "path": server.path}, "discard": "unmap"}), *export_options("disk"))
    handle = nbd.NBD()
    handle.connect_uri(daemon.uri("disk"))
    return daemon, handle


def qcow2_bytes(place, *more):
    path = make(place, "template.qcow2", 16 * MIB, *more)
    data = open(path, "rb").read()
    return data


@proof("sectors that a request does not touch are never overwritten in place (row 25)", ("peer:qemu-img",))
def _(place):
    server = wire.Server(place.path("back.sock"), 32 * MIB)
    place.closers.append(server.close)
    template = qcow2_bytes(place)
    server.data[:len(template)] = template
    daemon, handle = over_server(place, server)
    for index in range(8):
        handle.pwrite(content(index * 128, 128, 7), index * 64 * KIB)
    handle.flush()
    image = wrong.Image(server.data)
    hosts = {index: image.entry(image.l2 + 8 * index) & 0x00FFFFFFFFFFFE00 for index in range(8)}
    server.log.clear()
    touched = []
    for index in range(60):
        first, count = place.rng.randrange(8 * 128 - 20), place.rng.randrange(1, 20)
        touched.append((first * SECTOR, count * SECTOR))
        if index % 3:
            handle.pwrite(content(first, count, 100 + index), first * SECTOR)
        else:
            handle.zero(count * SECTOR, first * SECTOR, nbd.CMD_FLAG_NO_HOLE if index % 2 else 0)
    handle.flush()
    for kind, offset, length in server.log:
        if kind == wire.FLUSH:
            continue
        for index, host in hosts.items():
            start, end = max(offset, host), min(offset + length, host + CLUSTER)
            while start < end:
                guest = index * CLUSTER + start - host
                owner = [(at, size) for at, size in touched if at <= guest < at + size]
                # Zeroing in place is right where a request asked for it; what no request touched stays.
                assert owner or tested_is_peer(), f"guest byte {guest} was overwritten (request {kind} {offset}+{length})"
                start += 512
    handle.shutdown()
    daemon.stop()


CLUSTER = 65536


@proof("a failed fsync poisons: nothing is written after it, no flush or FUA is answered OK, reads go on (row 24)", ("peer:qemu-img",))
def _(place):
    if tested_is_peer():
        return
    failing = threading.Event()
    server = wire.Server(place.path("back.sock"), 32 * MIB,
                         lambda kind, offset, length: 5 if kind == wire.FLUSH and failing.is_set() else None)
    place.closers.append(server.close)
    template = qcow2_bytes(place)
    server.data[:len(template)] = template
    daemon, handle = over_server(place, server)
    handle.pwrite(content(0, 128, 1), 0)
    handle.flush()
    failing.set()
    handle.pwrite(content(128, 128, 2), 64 * KIB)
    try:
        handle.flush()
        raise AssertionError("the flush was answered OK, its fsync had failed")
    except nbd.Error:
        pass
    failing.clear()
    server.log.clear()
    for action in (handle.flush, lambda: handle.pwrite(b"x" * 512, 0, nbd.CMD_FLAG_FUA), lambda: handle.pwrite(b"x" * 512, 2 * MIB),
                   lambda: handle.zero(64 * KIB, 0), handle.flush):
        try:
            action()
            raise AssertionError("a write or flush after a failed fsync was answered OK")
        except nbd.Error:
            pass
    assert bytes(handle.pread(64 * KIB, 0)) == content(0, 128, 1), "reads go on"
    handle.shutdown()
    place.end(daemon.process)
    changed = [entry for entry in server.log if entry[0] != wire.FLUSH]
    assert not changed, f"written after a failed fsync: {changed[:5]}"
    path = place.write("after.qcow2", server.data)
    check = place.run([peer("qemu-img"), "check", "-f", "qcow2", path])
    assert check.code in (0, 3), str(check)


main("trouble")
