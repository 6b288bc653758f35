"""Objects of Ceph's gateway as disks: what curl put there is read, of one version, by whoever has the key."""

import atexit
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading

import nbd

from harness import KIB, MIB, Daemon, blockdev, export_options, face, main, noise, proof, raw_image, tcp_listening, wait_for

SCRIPT = os.path.join(os.path.dirname(__file__), "../../../shared/servers/ceph.sh")
NEEDS = ("curl", "ceph-mon", "ceph-osd", "radosgw")
VERSIONED = ('<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Status>Enabled</Status>'
             "</VersioningConfiguration>")
# The environment says nothing of proxies and stores.
for name in [name for name in os.environ if name.lower().endswith("_proxy") or name.startswith("AWS_")]:
    os.environ.pop(name)


class Store:
    """A gateway that all proofs share, with a bucket, `disks`, that keeps versions."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="cairn-s3-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
        small = os.path.join(self.dir, "small.raw")
        with open(small, "wb") as file:
            file.truncate(KIB)
        atexit.register(self.stop)
        environment = dict(os.environ, CEPH_MGR="0", CEPH_RGW="1", CEPH_BYTES=str(2 << 30))
        started = subprocess.run(["bash", SCRIPT, "start", self.dir, small], env=environment, text=True,
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=240)
        assert started.returncode == 0, started.stdout
        told = dict(line.split("=", 1) for line in started.stdout.splitlines() if "=" in line)
        self.url, self.key_id, self.secret = told["s3_endpoint"], told["s3_access"], told["s3_secret"]
        self.curl("-X", "PUT", f"{self.url}/disks")
        self.curl("-X", "PUT", "--data-binary", VERSIONED, f"{self.url}/disks?versioning=")

    def stop(self):
        subprocess.run(["bash", SCRIPT, "stop", self.dir], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120)
        shutil.rmtree(self.dir, ignore_errors=True)

    def curl(self, *words):
        done = subprocess.run(["curl", "-sSf", "--aws-sigv4", "aws:amz:us-east-1:s3", "--user", f"{self.key_id}:{self.secret}",
                               "-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD", *words],
                              text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
        assert done.returncode == 0, f"curl {words}: {done.stderr}"
        return done.stdout

    def put(self, path, key):
        """Puts a file into the bucket; the version that it gets."""
        heads = self.curl("-T", path, "-D", "-", "-o", os.devnull, f"{self.url}/disks/{key}")
        return next(line.split(":", 1)[1].strip() for line in heads.splitlines() if line.lower().startswith("x-amz-version-id"))

    def options(self, key, **more):
        named = {"driver": "s3", "bucket": "disks", "key": key, "endpoint": self.url, "access-key": self.key_id,
                 "secret-key-secret": "k", **{name.replace("_", "-"): value for name, value in more.items()}}
        return {name: value for name, value in named.items() if value is not None}

    def disk(self, key, driver="raw", **more):
        return "json:" + json.dumps({"driver": driver, "file": self.options(key, **more)})

    def kill(self):
        """Kills the gateway; what starts it again."""
        pid = int(open(os.path.join(self.dir, "rgw.pid")).read())
        port = int(self.url.rsplit(":", 1)[1])
        os.kill(pid, signal.SIGKILL)
        wait_for("the gateway to be gone", lambda: not tcp_listening(port))
        log = open(os.path.join(self.dir, "rgw.again.log"), "wb")

        def start():
            again = subprocess.Popen(["radosgw", "-f", "-c", os.path.join(self.dir, "ceph.conf"), "-n", "client.admin"],
                                     stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
            with open(os.path.join(self.dir, "rgw.pid"), "w") as file:
                file.write(str(again.pid))

        return start


_store = []


def store():
    if not _store:
        _store.append(Store())
    return _store[0]


def key(place, text=None):
    name = "another-key" if text else "key"
    return ["--object", f"secret,id=k,file={place.write(name, (text or store().secret).encode())}"]


def img(*words):
    return [*face("img"), *words]


@proof("info, map, convert and compare see the disk that curl put there, raw and in qcow2", NEEDS)
def _(place):
    there, known = store(), key(place)
    raw = raw_image(place, size=24 * MIB)
    image = place.path("disk.qcow2")
    place.ok(img("convert", "-c", "-O", "qcow2", raw, image))
    there.put(raw, "a%20folder/disk%2B1.raw")
    there.put(image, "disk.qcow2")
    for disk in (there.disk("a folder/disk+1.raw"), there.disk("a folder/disk+1.raw", connections=1, readahead=0),
                 there.disk("disk.qcow2", "qcow2"), there.disk("disk.qcow2", "qcow2", readahead=MIB),
                 there.disk("disk.qcow2", "qcow2", cache_path=place.dir, cache_disk_size=MIB)):
        told = place.ok(img("info", "--output=json", *known, disk)).json()
        assert told["virtual-size"] == 24 * MIB, told
        place.ok(img("map", *known, disk))
        place.ok(img("compare", *known, disk, raw))
        copy = place.path("copy.raw")
        place.ok(img("convert", *known, disk, "-O", "raw", copy))
        place.ok(["cmp", copy, raw])
    place.ok(img("check", *known, there.disk("disk.qcow2", "qcow2")))
    # An overlay that names the object: its name leads back to it.
    top = place.path("top.qcow2")
    place.ok(img("create", *known, "-f", "qcow2", "-F", "qcow2", "-b", there.disk("disk.qcow2", "qcow2"), top))
    place.ok(img("compare", *known, top, raw))


@proof("who has another key, or none, is refused, and what is not there is told of, without the key", NEEDS)
def _(place):
    there, known = store(), key(place)
    there.put(raw_image(place, size=8 * MIB), "disk.raw")
    said = [place.ok(img("info", "--output=json", *known, there.disk("disk.raw"))).out]
    for credentials, disk, why in (
            (key(place, "another"), there.disk("disk.raw"), "403"), (known, there.disk("disk.raw", access_key="nobody"), "403"),
            ([], there.disk("disk.raw", access_key=None, secret_key_secret=None), "403"), (known, there.disk("none"), "404"),
            (known, there.disk("disk.raw", bucket="nowhere"), "404"), (known, there.disk("disk.raw", version="none"), ("400", "404")),
            (known, there.disk("disk.raw", access_key=None), "together"),
            (known, there.disk("disk.raw", endpoint=there.url.replace("//", f"//me:{there.secret}@")), "names no user")):
        run = place.refused(img("info", *credentials, disk), why)
        said += [run.out, run.err]
    place.refused([*face("io"), *known, "-c", "write 0 512", there.disk("disk.raw")], "read")
    assert not any(there.secret in text for text in said), said


@proof("each version of an object is a disk of its own, and stays while others are written", NEEDS)
def _(place):
    there, known = store(), key(place)
    paths = [place.write(f"v{nth}", noise((nth + 1) * MIB, nth)) for nth in range(3)]
    versions = [there.put(path, "versioned") for path in paths]
    assert len(set(versions)) == 3, versions
    for path, version in [*zip(paths, versions), (paths[2], None)]:
        place.ok(img("compare", *known, there.disk("versioned", version=version), path))
    place.ok(["test", "-n", there.curl("-X", "DELETE", "-D", "-", f"{there.url}/disks/versioned")])
    place.refused(img("info", *known, there.disk("versioned")), "404")
    place.ok(img("compare", *known, there.disk("versioned", version=versions[0]), paths[0]))


@proof("an object that is written anew while it is read is told of, never mixed, and its old version goes on", NEEDS)
def _(place):
    there, known = store(), key(place)
    old, new = (noise(8 * MIB, seed) for seed in (1, 2))
    version = there.put(place.write("old", old), "changing")
    more = {"readahead": 0, "read-only": True}
    latest, fixed = (blockdev("s3", name, **{k: v for k, v in there.options("changing", **of).items() if k != "driver"}, **more)
                     for name, of in (("latest", {}), ("fixed", {"version": version})))
    daemon = Daemon(place, *known, *latest, *fixed, *export_options("latest", writable=False), *export_options("fixed", writable=False))
    clients = {}
    for name in ("latest", "fixed"):
        clients[name] = nbd.NBD()
        clients[name].connect_uri(daemon.uri(name))
        assert clients[name].pread(64 * KIB, 0) == old[:64 * KIB]
    there.put(place.write("new", new), "changing")
    try:
        clients["latest"].pread(64 * KIB, 4 * MIB)
        raise AssertionError("two versions were mixed")
    except nbd.Error as error:
        assert error.errno == "EIO", error
    assert clients["fixed"].pread(64 * KIB, 4 * MIB) == old[4 * MIB:4 * MIB + 64 * KIB]
    for client in clients.values():
        client.shutdown()
    daemon.stop()
    assert there.secret not in daemon.log()


@proof("a gateway that is killed and comes back costs time, and no read", NEEDS)
def _(place):
    there, known = store(), key(place)
    content = noise(16 * MIB, 5)
    there.put(place.write("kept", content), "kept")
    options = {name: value for name, value in there.options("kept", timeout=60).items() if name != "driver"}
    daemon = Daemon(place, *known, *blockdev("s3", "far", **options, **{"read-only": True}), *export_options("far", writable=False))
    client = nbd.NBD()
    client.connect_uri(daemon.uri("far"))
    for nth in range(120):
        at, size = place.rng.randrange(15 * MIB), place.rng.choice((512, 4 * KIB, 60 * KIB, MIB))
        if nth == 40:
            timer = threading.Timer(1, there.kill())
            timer.start()
        assert client.pread(size, at) == content[at:at + size], at
    timer.join()
    client.shutdown()
    daemon.stop()


if not os.path.exists(SCRIPT):
    print("left out: the scripts that start servers are not beside this checkout (../shared/servers)")
    sys.exit(0)
main("objects of a store")
