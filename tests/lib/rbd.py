"""Images in a Ceph cluster of one machine: as QEMU's driver sees them, under a workload, while storage goes and comes, who is refused, and
that no key is shown anywhere."""

import atexit
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import nbd

from harness import KIB, MIB, Daemon, QmpError, face, main, noise, peer, proof, raw_image, wait_for

SCRIPT = os.path.join(os.path.dirname(__file__), "../../../shared/servers/ceph.sh")
SECRET = "correct-horse-battery"


class Cluster:
    """A cluster that all proofs share: a monitor and one daemon with its storage in memory."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="cairn-ceph-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
        self.source = os.path.join(self.dir, "source.raw")
        with open(self.source, "wb") as file:
            file.truncate(48 * MIB)
            for at in (0, 13 * MIB, 47 * MIB):
                file.seek(at)
                file.write(noise(MIB, at))
        atexit.register(self.stop)
        environment = dict(os.environ, CEPH_MGR="0", CEPH_BYTES=str(2 << 30))
        started = subprocess.run(["bash", SCRIPT, "start", self.dir, self.source], env=environment, text=True,
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=240)
        assert started.returncode == 0, started.stdout
        self.conf = os.path.join(self.dir, "ceph.conf")
        for line in open(os.path.join(self.dir, "keyring")):
            if line.startswith("["):
                section = line.strip("[]\n")
            elif "key =" in line and section == "client.admin":
                self.key = line.split("=", 1)[1].strip()
        self.monitor = next(line for line in open(self.conf) if "mon host" in line).split("v1:", 1)[1].split("]")[0]

    def stop(self):
        subprocess.run(["bash", SCRIPT, "stop", self.dir], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120)
        shutil.rmtree(self.dir, ignore_errors=True)

    def run(self, *words, program="rbd"):
        done = subprocess.run([program, "-c", self.conf, *words], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
        assert done.returncode == 0, f"{program} {words}: {done.stderr}"
        return done.stdout

    def told(self, image):
        """What Ceph's own program tells of an image."""
        return json.loads(self.run("info", "--format", "json", f"rbd/{image}"))

    def name(self, image, *settings):
        return ":".join([f"rbd:rbd/{image}", f"conf={self.conf}", *settings])

    def options(self, image, **more):
        return {"driver": "rbd", "pool": "rbd", "image": image, "conf": self.conf, **more}

    def json(self, image, **more):
        return "json:" + json.dumps(self.options(image, **more))

    def pid(self, daemon):
        return int(open(os.path.join(self.dir, f"{daemon}.pid")).read())

    def end_storage(self):
        """Kills the daemon that has the data."""
        pid = self.pid("osd")
        os.kill(pid, signal.SIGKILL)
        wait_for("the storage to be gone", lambda: _state(pid) in (None, "Z"))

    def hold_storage(self, held):
        """Stops the daemon that has the data, which loses nothing, or lets it go on."""
        os.kill(self.pid("osd"), signal.SIGSTOP if held else signal.SIGCONT)


def _state(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(") ", 1)[1].split()[0]
    except FileNotFoundError:
        return None


_cluster = []


def cluster():
    if not _cluster:
        _cluster.append(Cluster())
    return _cluster[0]


def secret(name, text, encoding="raw"):
    return ["--object", f"secret,id={name},format={encoding},data={text}"]


def img(*words):
    return [*face("img"), *words]


def both(place, *words, **more):
    """What our program and QEMU's say to the same words: it is the same."""
    mine, theirs = (place.run([*command, *words], **more) for command in (face("img"), [peer("qemu-img")]))
    assert (mine.code, mine.out) == (theirs.code, theirs.out), f"{mine}\n--- and QEMU's:\n{theirs}"
    return mine


def same(place, image, file, *credentials):
    place.ok(img("compare", *credentials, "-F", "raw", image, file))


NEEDS = ("ceph-mon", "ceph-osd", "rbd", "peer:qemu-img", "/usr/lib/x86_64-linux-gnu/qemu/block-rbd.so")


@proof("info and map say of every form of name what QEMU's programs say, byte for byte", NEEDS)
def _(place):
    ceph = cluster()
    for command in (("namespace", "create", "rbd/tenant"), ("create", "rbd/tenant/inner", "--size", "8M"),
                    ("create", "rbd/small-objects", "--size", "1G", "--object-size", "64K"),
                    ("create", "rbd/plain", "--size", "8M", "--image-feature", "layering"),
                    ("snap", "create", "--no-progress", "rbd/disk@monday"), ("snap", "create", "--no-progress", "rbd/disk@tuesday")):
        ceph.run(*command)
    names = [ceph.name("disk"), ceph.name("disk", "id=admin"), ceph.name("disk@monday", "id=admin"), ceph.name("tenant/inner"),
             ceph.name("small-objects"), ceph.name("plain"), ceph.name("di\\sk", "rbd_cache=false", "debug_rbd=0"),
             ceph.json("disk"), ceph.json("disk", user="admin", snapshot="tuesday"), ceph.json("inner", namespace="tenant"),
             ceph.json("disk", server=[{"host": "127.0.0.1", "port": ceph.monitor.rsplit(":", 1)[1].split("/")[0]}]),
             "json:" + json.dumps({"driver": "raw", "file": ceph.options("disk")})]
    for number, name in enumerate(names):
        if number < 3:
            both(place, "info", name)
            both(place, "map", name)
        both(place, "info", "--output=json", name)
        both(place, "map", "--output=json", name)
    for wrong in ("rbd:", "rbd:pool", ceph.name("nothing"), ceph.name("disk@never"), ceph.name("nowhere/disk"), ceph.name("disk", "x"),
                  f"rbd:nothing/disk:conf={ceph.conf}", "rbd:rbd/disk:conf=/nowhere", ceph.name("disk", "bogus=1"),
                  ceph.name("disk", "id=nobody"), "json:" + json.dumps({"driver": "rbd", "pool": "rbd"})):
        mine, theirs = (place.run([*command, "info", wrong]) for command in (face("img"), [peer("qemu-img")]))
        assert mine.code == theirs.code == 1, f"{mine}\n{theirs}"
        cause = theirs.err.strip().split("': ", 1)[1]
        assert cause in mine.err, f"'{cause}' is not in what we say: {mine.err}"
    for snapshot in ("monday", "tuesday"):
        ceph.run("snap", "rm", "--no-progress", f"rbd/disk@{snapshot}")


@proof("disks are copied from a cluster and to it, as Ceph's own program exports them", NEEDS)
def _(place):
    ceph = cluster()
    copy = place.path("copy.qcow2")
    place.ok(img("convert", "-O", "qcow2", ceph.name("disk"), copy))
    same(place, copy, ceph.source)
    place.ok(img("convert", "-O", "raw", "-o", "cluster_size=1M", copy, ceph.name("copied")))
    told = ceph.told("copied")
    assert (told["size"], told["object_size"]) == (48 * MIB, MIB), told
    exported = place.path("exported.raw")
    ceph.run("export", "--no-progress", "rbd/copied", exported)
    place.ok(["cmp", exported, ceph.source])
    # What is empty stays so.
    used = [extent for extent in place.ok(img("map", "--output=json", ceph.name("copied"))).json() if extent["data"]]
    assert sum(extent["length"] for extent in used) <= 6 * MIB, used
    place.refused(img("create", "-f", "raw", ceph.name("copied"), "1M"), "error rbd create: File exists")
    # A format that grows its file is made in an image, too.
    place.ok(img("convert", "-O", "qcow2", ceph.name("disk"), ceph.name("as-qcow2")))
    place.ok([peer("qemu-img"), "compare", "-f", "qcow2", ceph.name("as-qcow2"), ceph.source])
    place.ok(img("check", "-f", "qcow2", ceph.name("as-qcow2")))
    for words, text in ((["-o", "cluster_size=5000"], "power of 2"), (["-o", "cluster_size=512"], "too small"),
                        (["-o", "preallocation=full"], "preallocation"), (["-o", "nothing=1"], "nothing")):
        place.refused(img("create", "-f", "raw", *words, ceph.name("never"), "1M"), text)
    assert "never" not in ceph.run("ls", "rbd"), "what was refused is left"


@proof("images are made, resized and given snapshots, as Ceph's own program sees it", NEEDS)
def _(place):
    ceph = cluster()
    name = ceph.name("changing")
    place.ok(img("create", "-f", "rbd", name, "10M"))
    for words, size in ((("20M",), 20), (("--shrink", "5M"), 5), (("+3M",), 8)):
        place.ok(img("resize", "-f", "raw", *words[:-1], name, words[-1]))
        assert ceph.told("changing")["size"] == size * MIB
    place.refused(img("resize", "-f", "raw", "--preallocation=full", name, "30M"), "Unsupported preallocation mode 'full'")
    io = [*face("io"), "-f", "raw", name]
    place.ok([*io, "-c", "write -P 1 0 8M"])
    place.ok(img("snapshot", "-c", "one", name))
    place.ok([*io, "-c", "write -P 2 0 8M"])
    place.ok(img("snapshot", "-c", "two", name))
    both(place, "snapshot", "-l", name)
    assert [s["name"] for s in json.loads(ceph.run("snap", "ls", "--format", "json", "rbd/changing"))] == ["one", "two"]
    place.ok([*face("io"), "-f", "raw", "-r", ceph.name("changing@one"), "-c", "read -P 1 0 8M"])
    place.refused([*face("io"), "-f", "raw", ceph.name("changing@one"), "-c", "write 0 1M"], "rbd snapshots are read-only")
    place.ok(img("snapshot", "-a", "one", name))
    assert "Pattern" not in place.ok([*io, "-c", "read -P 1 0 8M"]).out
    place.refused(img("snapshot", "-d", "three", name), "Could not delete snapshot 'three': snapshot not found")
    place.refused(img("snapshot", "-c", "one", name), "File exists")
    place.refused(img("snapshot", "-c", "", name), "Could not create snapshot '': Invalid argument")
    ceph.run("snap", "protect", "rbd/changing@one")
    place.refused(img("snapshot", "-d", "one", name), "busy")
    ceph.run("snap", "unprotect", "rbd/changing@one")
    for snapshot in ("one", "two"):
        place.ok(img("snapshot", "-d", snapshot, name))
    assert ceph.run("snap", "ls", "rbd/changing") == ""
    # Making one by options, as a client of the control interface does it.
    daemon = Daemon(place, nbd=False)
    qmp = daemon.qmp()
    location = {name: value for name, value in ceph.options("described").items() if name != "driver"}
    options = {"driver": "rbd", "location": location, "size": 12 * MIB, "cluster-size": 65536}
    for expected in (None, "error rbd create: File exists"):
        qmp.run("blockdev-create", {"job-id": "make", "options": options})
        qmp.wait_event("JOB_STATUS_CHANGE", id="make", status="concluded")
        job = qmp.run("query-jobs")[0]
        assert (job.get("error") is None) if expected is None else (expected in job["error"]), job
        qmp.run("job-dismiss", {"id": "make"})
    assert (ceph.told("described")["size"], ceph.told("described")["object_size"]) == (12 * MIB, 65536)
    daemon.stop()


def workload(place, uri, size, seconds, seed=1):
    """Writes, zeroes, trims and reads at a server's disk, many at once, and compares with what it keeps itself."""
    model, handle = bytearray(size), nbd.NBD()
    handle.connect_uri(uri)
    model[:] = handle.pread(size, 0)
    rng, end, done = place.rng, time.monotonic() + seconds, 0
    block, unknown = 4 * KIB, set()
    while time.monotonic() < end:
        # Sixteen pieces that do not overlap, at once.
        batch, places = [], rng.sample(range(size // (64 * KIB)), 16)
        for at in places:
            offset, length = at * 64 * KIB + rng.randrange(8) * block, rng.randrange(1, 8) * block
            kind = rng.choice("wwwrrzt")
            if kind == "w":
                data = rng.randbytes(length)
                batch.append((handle.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(data)), offset), None, None))
                model[offset:offset + length] = data
                unknown -= set(range(offset // block, (offset + length) // block))
            elif kind == "z":
                batch.append((handle.aio_zero(length, offset, flags=rng.choice((0, nbd.CMD_FLAG_NO_HOLE))), None, None))
                model[offset:offset + length] = bytes(length)
                unknown -= set(range(offset // block, (offset + length) // block))
            elif kind == "t":
                batch.append((handle.aio_trim(length, offset), None, None))
                unknown |= set(range(offset // block, (offset + length) // block))
            else:
                buffer = nbd.Buffer(length)
                batch.append((handle.aio_pread(buffer, offset), buffer, offset))
        for cookie, buffer, offset in batch:
            while not handle.aio_command_completed(cookie):
                handle.poll(-1)
            if buffer is not None:
                got = buffer.to_bytearray()
                for at in range(0, len(got), block):
                    if (offset + at) // block not in unknown:
                        assert got[at:at + block] == model[offset + at:offset + at + block], f"other bytes at {offset + at:#x}"
        done += len(batch)
        if rng.random() < 0.1:
            handle.flush()
    handle.flush()
    handle.shutdown()
    place.tell(f"{done} requests")
    return model, unknown


def compare_with_model(model, unknown, file):
    with open(file, "rb") as opened:
        got = opened.read()
    for at in range(0, len(model), 4 * KIB):
        if at // (4 * KIB) not in unknown:
            assert got[at:at + 4 * KIB] == model[at:at + 4 * KIB], f"other bytes at {at:#x}"


@proof("a workload that checks what it reads finds nothing wrong, and Ceph's own program exports what it wrote", NEEDS)
def _(place):
    ceph = cluster()
    ceph.run("create", "rbd/busy", "--size", "32M")
    for number, more in enumerate(([], ["--cache=none"])):
        sock = place.path(f"s{number}")
        server = place.serve([*face("nbd"), "-t", "-e", "0", "-k", sock, "-f", "raw", "--discard=unmap", *more, ceph.name("busy")], sock)
        model, unknown = workload(place, f"nbd+unix:///?socket={sock}", 32 * MIB, 4)
        assert place.end(server) == 0
        exported = place.path(f"exported{number}.raw")
        ceph.run("export", "--no-progress", "rbd/busy", exported)
        compare_with_model(model, unknown, exported)


@proof("storage that is gone and comes back costs time, and nothing that was written", NEEDS)
def _(place):
    ceph = cluster()
    ceph.run("create", "rbd/held", "--size", "16M")
    sock = place.path("s")
    server = place.serve([*face("nbd"), "-t", "-k", sock, "-f", "raw", ceph.name("held")], sock)
    uri = f"nbd+unix:///?socket={sock}"
    holding = threading.Event()

    def hold():
        for _ in range(2):
            if holding.wait(1.5):
                return
            ceph.hold_storage(True)
            holding.wait(2)
            ceph.hold_storage(False)

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        model, unknown = workload(place, uri, 16 * MIB, 7)
    finally:
        holding.set()
        holder.join()
        ceph.hold_storage(False)
    assert place.end(server) == 0
    exported = place.path("exported.raw")
    ceph.run("export", "--no-progress", "rbd/held", exported)
    compare_with_model(model, unknown, exported)


@proof("requests that the cluster does not answer fail after the node's patience, and the program lives on", NEEDS)
def _(place):
    ceph = cluster()
    ceph.run("create", "rbd/patient", "--size", "16M")
    daemon = Daemon(place)
    qmp = daemon.qmp()
    qmp.run("blockdev-add", dict(ceph.options("patient", timeout=2), **{"node-name": "d", "cache": {"direct": True}}))
    qmp.run("block-export-add", {"type": "nbd", "id": "e", "node-name": "d", "name": "d", "writable": True})
    handle = nbd.NBD()
    handle.connect_uri(f"nbd+unix:///d?socket={daemon.nbd_path}")
    handle.pwrite(b"a" * 4096, 0)
    ceph.hold_storage(True)
    try:
        start = time.monotonic()
        for attempt in (lambda: handle.pread(4096, 4096), lambda: handle.pwrite(b"b" * 4096, 0)):
            try:
                attempt()
                raise AssertionError("it was answered without storage")
            except nbd.Error as error:
                assert error.errno in ("ETIMEDOUT", "EIO"), error
        assert time.monotonic() - start < 30
        assert qmp.run("query-named-block-nodes")
        # Opening another one fails in time, too.
        start = time.monotonic()
        refused = place.refused([*face("img"), "info", ceph.json("disk", timeout=2)], "timed out", seconds=60)
        assert time.monotonic() - start < 40, refused
    finally:
        ceph.hold_storage(False)
    assert handle.pread(4096, 0) in (b"a" * 4096, b"b" * 4096)
    handle.pwrite(b"c" * 4096, 8192)
    assert handle.pread(4096, 8192) == b"c" * 4096
    handle.shutdown()
    daemon.stop()
    # A monitor that nobody answers for.
    start = time.monotonic()
    lost = {"driver": "rbd", "pool": "rbd", "image": "disk", "conf": "/dev/null", "timeout": 2, "auth-client-required": ["none"],
            "server": [{"host": "127.0.0.1", "port": "1"}]}
    place.refused([*face("img"), "info", "json:" + json.dumps(lost)], "error connecting", seconds=60)
    assert time.monotonic() - start < 40


@proof("who may not log in is refused, and no key is in anything that is said", NEEDS)
def _(place):
    ceph = cluster()
    without = place.write("without.conf", "".join(line for line in open(ceph.conf) if not line.startswith("keyring")).encode())
    key = secret("k", ceph.key, "base64")
    named = {"driver": "rbd", "pool": "rbd", "image": "disk", "conf": without, "user": "admin"}
    said = []

    def listen(run):
        said.append(run.out + run.err)
        return run

    good = "json:" + json.dumps(dict(named, **{"key-secret": "k"}))
    for words in (["info", *key, good], ["info", "--output=json", *key, good], ["map", *key, good],
                  ["info", f"rbd:rbd/disk:conf={without}:id=admin:key={ceph.key}"]):
        listen(place.ok(img(*words)))
    wrong = "AQ" + ceph.key[2:10] + "A" * (len(ceph.key) - 12) + "=="
    bad = secret("k", wrong, "base64")
    in_name = f"rbd:rbd/disk:conf={without}:id=admin:key={wrong}"
    for face_name, words in (("img", ["create", "-f", "raw", in_name, "1M"]), ("io", ["-f", "raw", "-c", "read 0 1", in_name]),
                             ("nbd", ["-f", "raw", in_name]), ("img", ["convert", in_name, "copy.raw"]), ("img", ["snapshot", "-l", in_name])):
        listen(place.refused([*face(face_name), *words], "error connecting"))
    for words in (["info", *bad, good], ["info", "json:" + json.dumps(named)], ["info", in_name],
                  ["info", *key, "json:" + json.dumps(dict(named, **{"key-secret": "k", "user": "nobody"}))],
                  ["info", *key, "json:" + json.dumps(dict(named, **{"key-secret": "none"}))]):
        listen(place.refused(img(*words), ("permission denied", "error connecting", "No secret")))
    daemon = Daemon(place, *key, nbd=False)
    qmp = daemon.qmp()
    qmp.run("blockdev-add", dict(named, **{"key-secret": "k", "node-name": "d"}))
    try:
        qmp.run("blockdev-add", dict(named, **{"key-secret": "k", "node-name": "e", "image": "nothing"}))
        raise AssertionError("an image that is not there was opened")
    except QmpError as error:
        said.append(str(error))
    said.append(json.dumps([qmp.run("query-named-block-nodes"), qmp.run("query-block")]))
    daemon.stop()
    for text in said:
        for hidden in (ceph.key, wrong):
            assert hidden not in text, text
    # A user who may only read opens what is opened read-only.
    ceph.run("auth", "get-or-create", "client.reader", "mon", "profile rbd", "osd", "profile rbd-read-only", program="ceph")
    reader = secret("k", ceph.run("auth", "get-key", "client.reader", program="ceph").strip(), "base64")
    read = "json:" + json.dumps({"driver": "raw", "file": dict(named, **{"key-secret": "k", "user": "reader"})})
    place.ok([*face("io"), *reader, "-r", read, "-c", "read 0 1M"])
    place.refused([*face("io"), *reader, read, "-c", "write 0 1M"], ("not permitted", "permission denied"))


@proof("encrypted images are QEMU's and ours alike, keep their size at every resize, and show nothing without the passphrase", NEEDS, 600)
def _(place):
    # Each open derives a key, which takes librbd seconds.
    ceph = cluster()
    words = secret("s", SECRET)
    for form in ("luks", "luks2"):
        image = f"hidden-{form}"
        disk = "json:" + json.dumps({"driver": "raw", "file": ceph.options(image, encrypt={"format": form, "key-secret": "s"})})
        more = ["-o", f"encrypt.format={form},encrypt.key-secret=s"] + (["-o", "encrypt.cipher-alg=aes-128"] if form == "luks" else [])
        place.ok(img("create", "-f", "raw", *words, *more, ceph.name(image), "20M"))
        both(place, "info", "-f", "raw", ceph.name(image))
        last = 19 * MIB + 512
        place.ok([*face("io"), *words, disk, "-c", "write -P 1 1M 1M", "-c", f"write -P 9 {last} 1000", "-c", "flush"])
        place.ok([peer("qemu-io"), *words, disk, "-c", "read -P 1 1M 1M", "-c", f"read -P 9 {last} 1000", "-c", "write -P 2 2M 1M"])
        for size, shown in ((("33M",), 33), (("--shrink", "20M"), 20)):
            place.ok(img("resize", *words, *size[:-1], disk, size[-1]))
            told = place.ok(img("info", "--output=json", *words, disk)).json()
            assert told["virtual-size"] == shown * MIB, told
        place.ok([*face("io"), *words, disk, "-c", "read -P 1 1M 1M", "-c", "read -P 2 2M 1M", "-c", f"read -P 9 {last} 1000"])
        exported = place.path(f"{form}.raw")
        ceph.run("export", "--no-progress", f"rbd/{image}", exported)
        with open(exported, "rb") as file:
            content = file.read()
        assert content.startswith(b"LUKS") and bytes([1]) * 512 not in content and bytes([2]) * 512 not in content
    place.refused(img("info", *secret("s", "another"), disk), "encryption load fail: Operation not permitted")
    place.refused(img("info", *words, ceph.json("disk", encrypt={"format": "luks2", "key-secret": "s"})), "encryption load fail")
    place.refused(img("create", "-f", "raw", *words, "-o", "encrypt.format=luks-any,encrypt.key-secret=s", ceph.name("never"), "1M"), "encrypt")
    assert "never" not in ceph.run("ls", "rbd"), "what was refused is left"


@proof("without the library an error names its package, and everything else works", NEEDS)
def _(place):
    ceph = cluster()
    library = next(line.split("=> ")[1].strip() for line in place.ok(["/sbin/ldconfig", "-p"]).out.splitlines() if "librbd.so.1" in line)
    script = f'mount --bind /dev/null "{os.path.realpath(library)}" && exec "$@"'
    place.refused(["unshare", "-m", "sh", "-c", script, "sh", *img("info", ceph.name("disk"))], "librbd.so.1", "package 'librbd1'")
    file = raw_image(place)
    place.ok(["unshare", "-m", "sh", "-c", script, "sh", *img("info", file)])


@proof("storage that dies for good fails what is under way, and the program ends in time", NEEDS)
def _(place):
    ceph = cluster()
    ceph.run("create", "rbd/dying", "--size", "16M")
    sock = place.path("s")
    disk = "json:" + json.dumps({"driver": "raw", "file": ceph.options("dying", timeout=3)})
    server = place.serve([*face("nbd"), "-t", "-k", sock, disk], sock)
    handle = nbd.NBD()
    handle.connect_uri(f"nbd+unix:///?socket={sock}")
    handle.pwrite(b"a" * 65536, 0)
    ceph.end_storage()
    try:
        handle.pwrite(b"b" * 65536, 65536)
        handle.flush()
        raise AssertionError("a flush succeeded without storage")
    except nbd.Error as error:
        assert error.errno in ("ETIMEDOUT", "EIO", "ESHUTDOWN"), error
    start = time.monotonic()
    place.end(server, seconds=60)
    assert time.monotonic() - start < 60
    # Nothing below comes after this one: storage was in memory.


if not os.path.exists(SCRIPT):
    print("left out: the scripts that start servers are not beside this checkout (../shared/servers)")
    sys.exit(0)
main("RBD")
