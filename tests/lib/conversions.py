"""Conversions that are cut off and go on, and conversions that are proven, with the real program.

    CAIRN_TEST_KILLS   kills in all, about (24)
"""

import os
import signal
import subprocess
import time

from harness import KIB, MIB, Daemon, export_options, face, image_options, main, number, peer, proof, wait_for

IMG, IO = face("img"), face("io")
KILLS = number("CAIRN_TEST_KILLS", 24)
SIZE = 48 * MIB


def disk(place, name="source.raw", size=SIZE):
    """Data, holes and written zeroes; data at the start."""
    path = place.path(name)
    with open(path, "wb") as file:
        file.truncate(size)
        at = 0
        while at < size:
            length = min(place.rng.choice([4 * KIB, 64 * KIB, MIB, 5 * MIB]), size - at)
            kind = place.rng.randrange(4)
            file.seek(at)
            if kind < 2:
                file.write(place.rng.randbytes(length))
            elif kind == 2:
                file.write(bytes(length))
            at += length
        file.seek(0)
        file.write(place.rng.randbytes(MIB))
    return path


def digest(place, path, format_):
    return place.ok([*IMG, "hash", "-f", format_, path]).out.split()[0]


def cut_off(place, command, how=signal.SIGKILL, after=None):
    """Runs a command for some time, then ends it; the exit code, or None if it had ended by itself."""
    process = place.spawn(command, stderr=subprocess.DEVNULL)
    time.sleep(place.rng.random() * 2.5 if after is None else after)
    if process.poll() is not None:
        return None
    return place.end(process, how)


def go_on(place, command, source, source_format, target, target_format):
    """Kills a conversion until it has ended, then looks at what came of it."""
    kills = 0
    journal = command[command.index("--journal") + 1]
    limit = place.rng.randrange(1, 5)
    while kills < limit and cut_off(place, [*command, "-r", "12M"]) is not None:
        kills += 1
    place.ok(command)
    assert not os.path.exists(journal), "the journal is left"
    place.ok([peer("qemu-img"), "compare", "-f", source_format, "-F", target_format, source, target])
    assert digest(place, source, source_format) == digest(place, target, target_format)
    if target_format in ("qcow2", "vdi", "vhdx", "qed"):
        place.ok([peer("qemu-img"), "check", "-f", target_format, target])
    return kills


TARGETS = [["raw"], ["qcow2"], ["qcow2", "-c"], ["qcow2", "-o", "lazy_refcounts=on,cluster_size=4k"], ["vdi"], ["vhdx"],
           ["qed"], ["qcow2", "-W", "-m", "16"], ["raw", "-S", "0"]]


@proof("a conversion that is killed again and again ends with the source's content", ("peer:qemu-img",), 120 + 10 * KILLS)
def _(place):
    kills = 0
    for number_ in range(10 ** 6):
        target_format, *options = TARGETS[number_ % len(TARGETS)]
        source, target = disk(place), place.path("target")
        source_format = place.rng.choice(["raw", "qcow2"])
        if source_format == "qcow2":
            place.ok([peer("qemu-img"), "convert", "-f", "raw", "-O", "qcow2", source, place.path("source.qcow2")])
            source = place.path("source.qcow2")
        command = [*IMG, "convert", "--journal", place.path("journal"), "-f", source_format, "-O", target_format,
                   *options, source, target]
        done = go_on(place, command, source, source_format, target, target_format)
        place.tell(f"{target_format} {options}: {done} kills")
        kills += done
        os.unlink(target)
        if kills >= KILLS:
            break


@proof("an interrupt is answered with what to do, and the program ends by that signal")
def _(place):
    source, target = disk(place), place.path("target")
    command = [*IMG, "convert", "--journal", place.path("j"), "-O", "qcow2", "-f", "raw", source, target]
    for how in (signal.SIGINT, signal.SIGTERM):
        process = place.spawn([*command, "-r", "4M"])
        wait_for("the journal", lambda: os.path.exists(place.path("j")))
        time.sleep(0.5)
        assert place.end(process, how) == -how
        log = open(process.log).read()
        assert "interrupted; what is done is noted in" in log and "give the same command again" in log, log
    run = place.ok(command)
    assert "the conversion goes on: " in run.err and " 0 bytes of" not in run.err, str(run)
    assert digest(place, source, "raw") == digest(place, target, "qcow2")


@proof("a full disk ends a conversion with its journal, and with room it goes on", ("tmpfs", "peer:qemu-img"))
def _(place):
    small = place.tmpfs("small", "20M")
    source = place.write("source.raw", place.rng.randbytes(24 * MIB))
    for target_format in ("raw", "qcow2"):
        target = os.path.join(small, "target")
        command = [*IMG, "convert", "--journal", place.path("j"), "-f", "raw", "-O", target_format, source, target]
        run = place.refused(command, "No space left on device", "give the same command again")
        assert run.code == 1, str(run)
        place.refused(command, "No space left on device")
        place.ok(["mount", "-o", "remount,size=60M", small])
        run = place.ok(command)
        assert " 0 bytes of" not in run.err, str(run)
        assert digest(place, source, "raw") == digest(place, target, target_format)
        os.unlink(target)
        place.ok(["mount", "-o", "remount,size=20M", small])


@proof("a server that goes away ends a conversion with its journal, and back again it goes on; if it serves another disk it is refused")
def _(place):
    source, target = disk(place), place.path("target.qcow2")
    options = [*image_options("raw", "disk", source), *export_options("disk", writable=False)]
    daemon = Daemon(place, *options)
    command = [*IMG, "convert", "--journal", place.path("j"), "-f", "raw", "-O", "qcow2", daemon.uri("disk"), target]
    process = place.spawn([*command, "-r", "8M"])
    wait_for("the journal", lambda: os.path.exists(place.path("j")))
    time.sleep(2.5)
    daemon.kill()
    assert process.wait(60) == 1
    assert "give the same command again" in open(process.log).read()
    os.unlink(daemon.nbd_path)
    with open(source, "r+b") as file:
        first = file.read(4 * MIB)
        file.seek(4711)
        file.write(bytes([first[4711] ^ 1]))
    daemon = Daemon(place, *options)
    place.refused(command, "source", "has changed in the", "at byte 0")
    with open(source, "r+b") as file:
        file.write(first)
    run = place.ok(command)
    assert " 0 bytes of" not in run.err, str(run)
    assert digest(place, source, "raw") == digest(place, target, "qcow2")
    daemon.stop()


@proof("a source that has changed is always refused")
def _(place):
    source, target = disk(place), place.path("target")
    command = [*IMG, "convert", "--journal", place.path("j"), "-f", "raw", "-O", "raw", source, target]
    process = place.spawn([*command, "-r", "4M"])
    wait_for("the journal", lambda: os.path.exists(place.path("j")))
    time.sleep(1.5)
    place.end(process, signal.SIGINT)
    for _ in range(20):
        before = os.stat(source)
        with open(source, "r+b") as file:
            file.seek(place.rng.randrange(SIZE))
            file.write(place.rng.randbytes(1))
        place.refused(command, "source.raw", "modified")
        if place.rng.randrange(2):
            os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns - 1))
            place.refused(command, "source.raw", "modified")
    os.truncate(source, SIZE + 512)
    place.refused(command, "source.raw", "size")


@proof("a target that loses what was written is found out", ("nbdkit",))
def _(place):
    source, path = disk(place), place.path("nbd")
    place.serve(["nbdkit", "-f", "-U", path, "null", str(SIZE)], path)
    first = next(at for at, byte in enumerate(open(source, "rb").read()) if byte)
    command = [*IMG, "convert", "--verify", "-n", "-f", "raw", "-O", "raw", source, f"nbd+unix://?socket={path}"]
    run = place.refused(command, "differs from what was copied to it")
    at = int(run.err.split("from byte ")[1].split()[0])
    assert first - first % 512 == at, (first, str(run))


# A server whose medium keeps nothing of one piece, until the file `healed` is there.
LOSES = """#!/bin/sh
case "$1" in
    get_size) echo {size} ;;
    can_write) exit 0 ;;
    pread) exec dd if=store iflag=skip_bytes,count_bytes skip=$4 count=$3 bs=1M status=none ;;
    pwrite)
        if [ "$4" -ge {start} ] && [ "$4" -lt {end} ] && [ ! -e healed ]; then exec cat >/dev/null; fi
        exec dd of=store conv=notrunc oflag=seek_bytes iflag=fullblock seek=$4 bs=1M status=none ;;
    *) exit 2 ;;
esac
"""


@proof("with a journal only what a proof has not found in the target is copied again", ("nbdkit",))
def _(place):
    size, source, store = 16 * MIB, place.path("full.raw"), place.path("store")
    with open(source, "wb") as file:
        file.write(place.rng.randbytes(size))
    with open(store, "wb") as file:
        file.truncate(size)
    script, path = place.path("loses"), place.path("nbd")
    with open(script, "w") as file:
        file.write(LOSES.format(size=size, start=5 * MIB, end=6 * MIB).replace("store", store).replace("healed", place.path("healed")))
    os.chmod(script, 0o755)
    place.serve(["nbdkit", "-f", "-U", path, "sh", script], path)
    target = f"nbd+unix://?socket={path}"
    command = [*IMG, "convert", "--journal", place.path("j"), "--verify", "-n", "-f", "raw", "-O", "raw", source, target]
    place.refused(command, f"from byte {5 * MIB} on", "give the same command again")
    open(place.path("healed"), "w").close()
    run = place.ok(command)
    assert f"{size - MIB} bytes of {size} were copied before" in run.err, str(run)
    assert open(source, "rb").read() == open(store, "rb").read()
    assert not os.path.exists(place.path("j"))


@proof("with -C a target shares the storage of its source, where the file system has that", ("root", "tmpfs", "mkfs.xfs", "/dev/loop-control"))
def _(place):
    image, folder = place.path("fs"), place.path("mnt")
    with open(image, "wb") as file:
        file.truncate(512 * MIB)
    place.ok(["mkfs.xfs", "-q", "-m", "reflink=1", image])
    os.mkdir(folder)
    place.ok(["mount", "-o", "loop", image, folder])
    place.mounts.append(folder)
    source = os.path.join(folder, "source")
    place.ok(["cp", "--sparse=always", disk(place), source])
    with open(source, "ab") as file:
        file.write(place.rng.randbytes(2560))

    def used():
        os.sync()
        state = os.statvfs(folder)
        return (state.f_blocks - state.f_bfree) * state.f_frsize

    # Each target stays: the space of a file that goes comes back some time later.
    for options, shares in (["-C"], True), (["-C", "--verify"], True), ([], False), (["-C", "--journal", place.path("j")], False):
        before, target = used(), os.path.join(folder, f"target{len(os.listdir(folder))}")
        place.ok([*IMG, "convert", *options, "-f", "raw", "-O", "raw", source, target])
        grown = used() - before
        assert (grown < 2 * MIB) == shares, (options, grown)
        # What is written, and not shared, has room behind it for a while.
        assert not shares or os.stat(target).st_blocks <= os.stat(source).st_blocks + 64, "a hole became data"
        assert open(source, "rb").read() == open(target, "rb").read(), options
    target = os.path.join(folder, "both")
    place.ok([*IMG, "convert", "-C", "-f", "raw", "-O", "raw", source, source, target])
    assert open(source, "rb").read() * 2 == open(target, "rb").read(), "the second one does not begin at a block"
    # What is written to one of both is not in the other.
    place.ok([*IO, "-f", "raw", "-c", "write -q -P 7 0 1M", target])
    assert open(source, "rb").read(MIB) != b"\7" * MIB


main("conversions")
