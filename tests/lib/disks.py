"""Disks with a real ext4, NTFS and FAT: converted to every writable format and back, written there as guests write, and made
there by the tools of the file systems. What comes back is the same disk; its own tools find it sound, and the files in it.

    CAIRN_TEST_DISKS   file systems to try (ext4,ntfs,fat)
"""

import hashlib
import os
import shutil
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor

from harness import KIB, MIB, Daemon, face, main, peer, proof

IMG, NBD = face("img"), face("nbd")
# No multiple of a cluster of any format, nor of the cylinders of a VHD.
SIZE = 50 * MIB + 3 * KIB
ASKED = os.environ.get("CAIRN_TEST_DISKS", "ext4,ntfs,fat").split(",")
QUICK = "iter-time=10"  # trying a passphrase shall not take a second
SECRET = ["--object", "secret,id=s,data=passphrase"]
TOOLS = ["mkfs.ext4", "e2fsck", "debugfs", "mkntfs", "ntfscp", "ntfscat", "ntfsfix", "ntfsls", "mkfs.fat", "fsck.fat", "mcopy"]

# `once`: a stream, which is written from its start to its end. `lone`: QEMU reads the format no more.
Target = namedtuple("Target", "format options compressed once lone", defaults=("", False, False, False))
TARGETS = [
    Target("raw"),
    Target("raw", "preallocation=full"),
    Target("qcow2"),
    Target("qcow2", "compat=0.10"),
    Target("qcow2", "cluster_size=512"),
    Target("qcow2", "cluster_size=2M"),
    Target("qcow2", "refcount_bits=1"),
    Target("qcow2", "refcount_bits=64,lazy_refcounts=on"),
    Target("qcow2", "extended_l2=on"),
    Target("qcow2", "extended_l2=on,cluster_size=2M,preallocation=metadata"),
    Target("qcow2", "preallocation=falloc"),
    Target("qcow2", "data_file=DATA"),
    Target("qcow2", "data_file=DATA,data_file_raw=on"),
    Target("qcow2", "encrypt.format=luks,encrypt.key-secret=s,encrypt." + QUICK),
    Target("qcow2", "encrypt.format=aes,encrypt.key-secret=s"),
    Target("qcow2", "", compressed=True),
    Target("qcow2", "compression_type=zstd,extended_l2=on", compressed=True),
    Target("qcow"),
    Target("qcow", "encrypt.format=aes,encrypt.key-secret=s"),
    Target("qcow", "", compressed=True),
    Target("qed"),
    Target("qed", "cluster_size=4k,table_size=2"),  # QEMU makes images with a table of one cluster, and can't open them
    Target("cow", lone=True),
    Target("vdi"),
    Target("vdi", "static=on"),
    Target("vmdk"),
    Target("vmdk", "zeroed_grain=on"),
    Target("vmdk", "subformat=monolithicFlat"),
    Target("vmdk", "subformat=twoGbMaxExtentSparse"),
    Target("vmdk", "subformat=twoGbMaxExtentFlat"),
    Target("vmdk", "subformat=streamOptimized", once=True),
    Target("vhdx"),
    Target("vhdx", "subformat=fixed"),
    Target("vhdx", "block_size=1M,block_state_zero=off"),
    Target("vpc"),
    Target("vpc", "force_size=on"),
    Target("vpc", "subformat=fixed"),
    Target("vpc", "subformat=fixed,force_size=on"),
    Target("parallels"),
    Target("parallels", "cluster_size=64k"),
    Target("luks", "key-secret=s," + QUICK),
]
CHECKED = {"qcow2", "qed", "vdi", "vmdk", "vhdx", "parallels"}


def digest(folder):
    """Names and content of all files below a folder."""
    found = {}
    for place, _, files in os.walk(folder):
        for name in files:
            with open(os.path.join(place, name), "rb") as file:
                found[os.path.relpath(os.path.join(place, name), folder)] = hashlib.sha256(file.read()).hexdigest()
    return found


class Ext4:
    """An ext4, with folders, by e2fsprogs."""

    def make(self, ok, disk, source):
        ok(["mkfs.ext4", "-q", "-F", "-d", source, disk])

    def check(self, ok, disk):
        ok(["e2fsck", "-fn", disk])

    def extract(self, ok, disk, out):
        ok(["debugfs", "-R", f"rdump / {out}", disk])
        shutil.rmtree(os.path.join(out, "lost+found"))


class Ntfs:
    """An NTFS, by ntfs-3g's tools, which write to its first folder only."""

    def make(self, ok, disk, source):
        ok(["mkntfs", "-q", "-Q", "-F", "-s", "512", "-p", "0", "-H", "16", "-S", "63", disk])
        for name in os.listdir(source):
            if os.path.isfile(os.path.join(source, name)):
                ok(["ntfscp", "-q", "-f", disk, os.path.join(source, name), name])

    def check(self, ok, disk):
        ok(["ntfsfix", "-n", disk])

    def extract(self, ok, disk, out):
        for name in ok(["ntfsls", "-f", disk]).out.split():
            with open(os.path.join(out, name), "wb") as file:
                ok(["ntfscat", "-f", disk, name], stdout=file)


class Fat:
    """A FAT, with folders, by dosfstools and mtools."""

    def make(self, ok, disk, source):
        ok(["mkfs.fat", disk])
        ok(["mcopy", "-s", "-i", disk, *(os.path.join(source, name) for name in sorted(os.listdir(source))), "::"])

    def check(self, ok, disk):
        ok(["fsck.fat", "-n", disk])

    def extract(self, ok, disk, out):
        ok(["mcopy", "-s", "-n", "-i", disk, "::*", out])


SYSTEMS = {name: system for name, system in (("ext4", Ext4()), ("ntfs", Ntfs()), ("fat", Fat())) if name in ASKED}


class Disks:
    """Files, disks that hold them, and the images that these are brought to."""

    def __init__(self, place):
        self.place, self.ok = place, place.ok
        self.source = place.path("source")
        for index in range(40):
            # A few of them in the first folder, for the NTFS.
            folder = os.path.join(self.source, *(f"folder{index % 3}", f"below{index % 2}") if index % 4 else ())
            os.makedirs(folder, exist_ok=True)
            size = place.rng.choice((0, 1, 100, 4096, 5000, 70_000, 300_000, 1_000_000))
            with open(os.path.join(folder, f"file{index}"), "wb") as file:
                file.write(place.rng.randbytes(size) if index % 3 else bytes(size))
        all_of_it = digest(self.source)
        first = {name: sum_ for name, sum_ in all_of_it.items() if "/" not in name}
        self.wanted = {name: first if name == "ntfs" else all_of_it for name in SYSTEMS}

    def empty(self, name):
        path = self.place.path(name)
        with open(path, "wb") as file:
            file.truncate(SIZE)
        return path

    def made(self):
        """A raw disk with each of the file systems, by its name."""
        disks = {name: self.empty(f"{name}.raw") for name in SYSTEMS}
        for name, disk in disks.items():
            SYSTEMS[name].make(self.ok, disk, self.source)
            self.sound(name, disk)
        return disks

    def sound(self, name, disk):
        """Its own tools find the file system sound, and the files in it are those that were put there."""
        SYSTEMS[name].check(self.ok, disk)
        out = disk + ".files"
        os.mkdir(out)
        SYSTEMS[name].extract(self.ok, disk, out)
        found = digest(out)
        shutil.rmtree(out)
        assert found == self.wanted[name], sorted(set(found.items()) ^ set(self.wanted[name].items()))[:4]

    def each(self, work, targets=TARGETS):
        """Does `work(image, name)` for every target and file system, two at a time."""
        jobs = [(Image(self, target, f"image-{index}-{name}"), name) for index, target in enumerate(targets) for name in SYSTEMS]

        def one(job):
            image, name = job
            try:
                work(image, name)
            except AssertionError as error:
                raise AssertionError(f"{name} in {image.told}: {error}") from error
            finally:
                image.remove()

        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            list(pool.map(one, jobs))
        self.place.tell(f"{len(jobs)} images")


class Image:
    """An image of one of the targets."""

    def __init__(self, disks, target, name):
        self.disks, self.ok, self.target = disks, disks.ok, target
        self.folder = disks.place.path(name)
        self.path, self.back = os.path.join(self.folder, "image"), os.path.join(self.folder, "back.raw")
        options = target.options.replace("DATA", os.path.join(self.folder, "data"))
        self.making = ["-O", target.format, *(["-o", options] if options else []), *(["-c"] if target.compressed else [])]
        key = ",encrypt.key-secret=s" if "encrypt.key-secret" in options else ",key-secret=s" if "key-secret" in options else ""
        self.opened = f"driver={target.format},file.filename={self.path}{key}"
        self.told = f"{target.format} {target.options}{' compressed' if target.compressed else ''}"
        os.mkdir(self.folder)

    def remove(self):
        shutil.rmtree(self.folder)

    def create(self):
        words = ["-f" if word == "-O" else word for word in self.making if word != "-c"]
        self.ok([*IMG, "create", "-q", *SECRET, *words, self.path, SIZE])

    def reader(self):
        return IMG if self.target.lone else [peer("qemu-img")]

    def checked(self):
        """QEMU finds the image sound."""
        if self.target.format in CHECKED:
            self.ok([peer("qemu-img"), "check", "-q", *SECRET, "--image-opts", self.opened])

    def shows(self, disk):
        """QEMU sees the disk in it; a VHD may have whole cylinders."""
        told = self.ok([*self.reader(), "compare", *SECRET, "--image-opts", f"driver=raw,file.filename={disk}", self.opened])
        assert "size mismatch" not in told.out + told.err or self.target.format == "vpc", told

    def to_raw(self, by):
        self.ok([*by, "convert", *SECRET, "--image-opts", "-O", "raw", self.opened, self.back])
        assert os.path.getsize(self.back) == SIZE or self.target.format == "vpc"
        return self.back

    def same_raw(self, by):
        """A raw disk again, without what a VHD has added to it."""
        self.to_raw(by)
        os.truncate(self.back, SIZE)
        return self.back


@proof("disks converted to every format come back as they were, and QEMU sees the same in between", [*TOOLS, "peer:qemu-img"])
def _(place):
    disks = Disks(place)
    made = disks.made()

    def there_and_back(image, name):
        place.ok([*IMG, "convert", *SECRET, "-f", "raw", *image.making, made[name], image.path])
        image.checked()
        image.shows(made[name])
        back = image.same_raw(IMG)
        place.ok(["cmp", made[name], back])
        disks.sound(name, back)

    disks.each(there_and_back)


@proof("a disk that goes through every format, one after the other, is the same at the end", [*TOOLS, "peer:qemu-img"])
def _(place):
    disks = Disks(place)
    for name, disk in disks.made().items():
        last = f"driver=raw,file.filename={disk}"
        targets = [target for target in TARGETS if target.format != "vpc" or "force_size" in target.options]
        place.rng.shuffle(targets)
        before = None
        for index, target in enumerate(targets):
            image = Image(disks, target, f"{name}{index}")
            place.ok([*IMG, "convert", *SECRET, "--image-opts", *image.making, last, image.path])
            if before:
                before.remove()
            last, before = image.opened, image
        back = before.to_raw(IMG)
        place.ok(["cmp", disk, back])
        disks.sound(name, back)
        before.remove()


WRITABLE = [target for target in TARGETS if not target.once and not target.compressed]


@proof("disks copied into new images by an NBD client, as guests write, are sound there", [*TOOLS, "nbdcopy", "peer:qemu-img"])
def _(place):
    disks = Disks(place)
    made = disks.made()

    def copied(image, name):
        image.create()
        path = os.path.join(image.folder, "socket")
        server = place.serve([*NBD, "-t", "-e", "8", "-k", path, *SECRET, "--image-opts", image.opened], path)
        place.ok(["nbdcopy", "--flush", made[name], f"nbd+unix:///?socket={path}"])
        assert place.end(server) == 0
        image.checked()
        image.shows(made[name])
        disks.sound(name, image.same_raw(IMG))

    disks.each(copied, WRITABLE)


@proof("file systems made by their tools right in images of every format, through a file of FUSE, are sound there",
       [*TOOLS, "root", "/dev/fuse", "peer:qemu-img"])
def _(place):
    disks = Disks(place)

    def made_there(image, name):
        image.create()
        file = os.path.join(image.folder, "disk")
        open(file, "wb").close()
        node = image.opened.replace("file.filename", "node-name=disk,file.driver=file,file.filename")
        kind = [option for option in image.target.options.split(",") if option.startswith("encrypt.format")]
        export = f"type=fuse,id=e,node-name=disk,mountpoint={file},writable=on"
        daemon = Daemon(place, *SECRET, "--blockdev", ",".join([node, *kind]), "--export", export,
                        name=os.path.basename(image.folder), nbd=False)
        SYSTEMS[name].make(place.ok, file, disks.source)
        disks.sound(name, file)
        daemon.stop()
        image.checked()
        disks.sound(name, image.to_raw(image.reader()))

    disks.each(made_there, WRITABLE)


main("disks with file systems")
