"""A real ext4 written through the export, while snapshots are taken and committed under it; checked by its own tools.

Ways, by what the machine allows:
    mounted    nbdfuse makes the export a file, the kernel mounts it and writes (needs /dev/fuse, a loop device, root)
    copied     mkfs.ext4 -d fills a file system, nbdcopy writes it through the export and reads it back
"""

import hashlib
import os
import shutil
import threading
import time

from harness import MIB, Daemon, export_options, image_options, main, ours, peer, proof, wait_for

SIZE = 96 * MIB


def tree(place, name, count=120):
    """Files of many sizes in a folder: a source to compare with."""
    root = place.path(name)
    for index in range(count):
        folder = os.path.join(root, f"d{index % 7}", f"e{index % 3}")
        os.makedirs(folder, exist_ok=True)
        size = place.rng.choice((0, 1, 100, 4096, 5000, 70000, 300000))
        with open(os.path.join(folder, f"file{index}"), "wb") as file:
            file.write(place.rng.randbytes(size))
    os.symlink("d1", os.path.join(root, "link"))
    return root


def digest(root):
    """Names and content of all files below a folder."""
    found = {}
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name != "lost+found"]
        for name in files + [name for name in folders if os.path.islink(os.path.join(folder, name))]:
            path = os.path.join(folder, name)
            data = os.readlink(path).encode() if os.path.islink(path) else open(path, "rb").read()
            found[os.path.relpath(path, root)] = hashlib.sha256(data).hexdigest()
    return found


class Churn:
    """Snapshots taken and committed, over and over, in the background."""

    def __init__(self, place, daemon, node):
        self.place, self.daemon, self.node = place, daemon, node
        self.stopping, self.rounds, self.error = False, 0, None
        self.qmp = daemon.qmp()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        try:
            while not self.stopping:
                self._round()
                self.rounds += 1
                time.sleep(0.05)
        except Exception as error:
            self.error = error

    def _round(self):
        """An overlay or two on top, then all back into the base."""
        number, names = self.rounds, [self.node]
        for layer in range(1 + number % 2):
            name, overlay = f"s{number}-{layer}", self.place.path(f"overlay-{number}-{layer}.qcow2")
            self.qmp.run("blockdev-snapshot-sync", {
                "node-name": names[-1], "snapshot-file": overlay, "snapshot-node-name": name})
            names.append(name)
            time.sleep(0.1)
        if len(names) == 3:
            self.qmp.run("block-commit", {"job-id": f"m{number}", "device": names[2], "top-node": names[1], "base-node": names[0]})
            self._completed()
            del names[1]
        self.qmp.run("block-commit", {"job-id": f"a{number}", "device": names[1], "base-node": names[0]})
        self.qmp.wait_event("BLOCK_JOB_READY")
        self.qmp.run("block-job-complete", {"device": f"a{number}"})
        self._completed()
        for name in os.listdir(self.place.dir):
            if name.startswith(f"overlay-{number}-"):
                os.unlink(self.place.path(name))

    def _completed(self):
        event = self.qmp.wait_event("BLOCK_JOB_COMPLETED")
        assert "error" not in event["data"], event

    def stop(self):
        """Ends after a whole round: the base is the active layer again."""
        self.stopping = True
        self.thread.join(60)
        assert not self.thread.is_alive(), "a job does not end"
        if self.error:
            raise self.error
        self.place.tell(f"{self.rounds} rounds of snapshot and commit meanwhile")
        assert self.rounds > 0, "no round of snapshot and commit came about"


def fresh_daemon(place, format="qcow2"):
    image = place.path("disk.qcow2")
    place.ok([ours("qemu-img"), "create", "-q", "-f", "qcow2", image, str(SIZE)])
    return Daemon(place, *image_options("qcow2", "disk", image, discard="unmap"), *export_options("disk", "disk")), image


def inspect(place, image, source):
    """fsck finds nothing; the files are those of the source."""
    place.ok([peer("qemu-img"), "check", "-f", "qcow2", image])
    raw, out = place.path("inspect.raw"), place.path("inspect")
    place.ok([peer("qemu-img"), "convert", "-f", "qcow2", "-O", "raw", image, raw])
    place.ok(["e2fsck", "-fn", raw])
    os.mkdir(out)
    place.ok(["debugfs", "-R", f"rdump / {out}", raw])
    assert digest(out) == source, "the files are others than those written"


@proof("an ext4 copied in by nbdcopy while snapshots are taken and committed comes out as it went in",
       ("mkfs.ext4", "debugfs", "e2fsck", "nbdcopy"), 120)
def _(place):
    source = tree(place, "source")
    plain = place.path("ext4.raw")
    with open(plain, "wb") as file:
        file.truncate(SIZE)
    place.ok(["mkfs.ext4", "-q", "-F", "-d", source, plain])
    place.ok(["e2fsck", "-fn", plain])
    daemon, image = fresh_daemon(place)
    churn = Churn(place, daemon, "disk")
    for _ in range(2):
        place.ok(["nbdcopy", "--connections=4", "--flush", plain, daemon.uri("disk")])
    back = place.path("back.raw")
    place.ok(["nbdcopy", daemon.uri("disk"), back])
    place.ok(["cmp", plain, back])
    churn.stop()
    place.ok(["nbdcopy", daemon.uri("disk"), back])
    place.ok(["cmp", plain, back])
    place.ok(["e2fsck", "-fn", back])
    daemon.stop()
    inspect(place, image, digest(source))


def mount_through_fuse(place, daemon):
    """The export as a file, the file as a file system: the folder, or None where the machine does not let us."""
    fuse, folder = place.path("fuse"), place.path("mounted")
    os.mkdir(fuse)
    os.mkdir(folder)
    device = os.path.join(fuse, "disk")
    process = place.spawn(["nbdfuse", device, daemon.uri("disk")])
    try:
        wait_for("nbdfuse", lambda: process.poll() is not None or os.path.exists(device), 10)
    except AssertionError:
        return None
    if process.poll() is not None:
        return None
    place.mounts.append(fuse)
    place.ok(["mkfs.ext4", "-q", "-F", device])
    mounted = place.run(["timeout", "20", "mount", "-o", "loop", device, folder])
    if mounted.code:
        place.tell(f"no loop mount here: {mounted.err.strip()}")
        return None
    place.mounts.append(folder)
    return folder


def unmount(place, *folders):
    for folder in folders:
        def gone(folder=folder):
            return place.run(["umount", folder]).code == 0
        wait_for(f"{folder} to be unmounted", gone, 20, 0.2)
        place.mounts.remove(folder)


@proof("an ext4 mounted by the kernel and written while snapshots are taken and committed is sound and whole",
       ("root", "/dev/fuse", "nbdfuse", "mkfs.ext4", "debugfs", "e2fsck"), 120)
def _(place):
    daemon, image = fresh_daemon(place)
    folder = mount_through_fuse(place, daemon)
    if not folder:
        print("  --  this machine lets us mount nothing: only the copied file system was tried", flush=True)
        return
    source = tree(place, "source", 60)
    churn = Churn(place, daemon, "disk")
    for turn in range(3):
        place.ok(["cp", "-a", source, os.path.join(folder, f"copy{turn}")])
        place.ok(["sync", "-f", folder])
        if turn:
            shutil.rmtree(os.path.join(folder, f"copy{turn - 1}"))
            place.ok(["fstrim", folder]) if turn == 2 else None
    churn.stop()
    assert digest(os.path.join(folder, "copy2")) == digest(source)
    want = digest(folder)
    unmount(place, folder, os.path.dirname(folder) + "/fuse")
    daemon.stop()
    inspect(place, image, want)


main("a real file system")
