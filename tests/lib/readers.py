"""Readers that other projects wrote read every image of a matrix: sizes of clusters, versions, bits of a refcount,
preallocation, and the ways in which an image comes to be what it is.

    CAIRN_TEST_READERS   readers to try (7zz,libqcow,libvhdi,dissect); those that are not installed are named and left out
"""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from harness import KIB, MIB, face, main, proof

IMG, IO = face("img"), face("io")
SIZE = 5 * MIB + 3 * KIB
CLUSTERS = ["512", "4k", "64k", "2M"]
ASKED = os.environ.get("CAIRN_TEST_READERS", "7zz,libqcow,libvhdi,dissect").split(",")


def seven_zip(path):
    """What 7-Zip unpacks."""
    done = subprocess.run(["7zz", "e", "-so", "-tqcow", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-300:]
    return done.stdout


def libqcow(path):
    """What libqcow shows, with its parents."""
    import pyqcow

    opened = []
    while path:
        image = pyqcow.file()
        image.open(path)
        if opened:
            opened[-1].set_parent(image)
        opened.append(image)
        name = image.get_backing_filename()
        path = name and os.path.join(os.path.dirname(path), name)
    content = opened[0].read_buffer(opened[0].get_media_size())
    while opened:
        opened.pop(0).close()
    return content


def dissect(path):
    """What Dissect shows; it opens backing files itself."""
    from dissect.hypervisor.disk.qcow2 import QCow2

    image = QCow2(Path(path))
    return image.open().read(image.size)


def libvhdi(path):
    """What libvhdi shows of a VHD or VHDX image."""
    import pyvhdi

    image = pyvhdi.file()
    image.open(path)
    content = image.read_buffer(image.get_media_size())
    image.close()
    return content


def dissect_vhd(path):
    """What Dissect shows of a VHD image."""
    from dissect.hypervisor.disk.vhd import VHD

    with open(path, "rb") as file:
        image = VHD(file)
        return image.read(image.size)


def dissect_vhdx(path):
    """What Dissect shows of a VHDX image."""
    from dissect.hypervisor.disk.vhdx import VHDX

    with open(path, "rb") as file:
        image = VHDX(file)
        return image.read(image.size)


def importable(name):
    try:
        __import__(name)
        return True
    except ImportError:
        return False


READERS = {
    "7zz": (seven_zip, lambda: shutil.which("7zz") is not None),
    "libqcow": (libqcow, lambda: importable("pyqcow")),
    "libvhdi": (libvhdi, lambda: importable("pyvhdi")),
    "dissect": (dissect, lambda: importable("dissect.hypervisor.disk.qcow2")),
}
# The readers of each format, by the end of a name.
OF_FORMAT = {
    "qcow2": ("7zz", "libqcow", "dissect"),
    "vhd": ("libvhdi", "dissect"),
    "vhdx": ("libvhdi", "dissect"),
}
DISSECT = {"qcow2": dissect, "vhd": dissect_vhd, "vhdx": dissect_vhdx}


class Images:
    """The images of one proof, and what each must show."""

    def __init__(self, place):
        self.folder = place.dir
        self.read = 0
        self.here = [name for name in ASKED if READERS[name][1]()]
        assert self.here, "none of the readers is installed"
        place.tell("readers: " + ", ".join(self.here))

    def path(self, name):
        return os.path.join(self.folder, name)

    def run(self, command, *args):
        done = subprocess.run([*command, *args], cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert done.returncode == 0, f"{args}: {done.stdout.decode(errors='replace')}"

    def make(self, name, options, size=SIZE, below=None):
        """A new image; its content."""
        under = ["-b", below[0], "-F", "qcow2"] if below else []
        self.run(IMG, "create", "-q", "-f", "qcow2", *under, "-o", ",".join(options), name, str(size))
        content = bytearray(below[1] if below else b"")[:size]
        return content + bytes(size - len(content))

    def write(self, name, content, writes):
        """Writes `(offset, bytes, value)`, a value of None as zeroes."""
        commands = []
        for at, length, value in writes:
            how = "-z" if value is None else f"-P {value}"
            commands += ["-c", f"write -q {how} {at} {length}"]
            content[at:at + length] = bytes([value or 0]) * length
        self.run(IO, "-f", "qcow2", *commands, name)

    def check(self, name, content, without=()):
        """Every reader shows the content."""
        expected = hashlib.sha256(content).hexdigest()
        format = name.rsplit(".", 1)[1]
        for reader in self.here:
            if reader in without or reader not in OF_FORMAT[format]:
                continue
            read = DISSECT[format] if reader == "dissect" else READERS[reader][0]
            try:
                got = read(self.path(name))
            except Exception as error:
                raise AssertionError(f"{reader} can't read {name}: {error}") from error
            assert len(got) == len(content), f"{reader} shows {len(got)} of {len(content)} bytes of {name}"
            assert hashlib.sha256(got).hexdigest() == expected, f"{reader} shows other bytes of {name}"
            self.read += 1


def some():
    """A few writes: within a cluster, over several, at the end, zeroes over data."""
    return [
        (MIB + 100, 5, 1),
        (2 * MIB, 300 * KIB, 2),
        (SIZE - 700, 700, 3),
        (2 * MIB + 64 * KIB, 64 * KIB, None),
        (0, 1, 4),
    ]


def layouts():
    """The options of the matrix."""
    for cluster in CLUSTERS:
        yield [f"cluster_size={cluster}", "compat=0.10"]
        for bits in ("1", "16", "64"):
            yield [f"cluster_size={cluster}", "compat=1.1", f"refcount_bits={bits}"]
        yield [f"cluster_size={cluster}", "compat=1.1", "lazy_refcounts=on"]
        for preallocation in ("metadata", "falloc", "full"):
            yield [f"cluster_size={cluster}", "compat=1.1", f"preallocation={preallocation}"]


def each_layout(place, work):
    images = Images(place)
    for options in layouts():
        for left in os.listdir(images.folder):
            if left.endswith(".qcow2") or left.endswith(".raw"):
                os.remove(images.path(left))
        try:
            work(images, options)
        except AssertionError as error:
            raise AssertionError(f"{','.join(options)}: {error}") from error
    place.tell(f"{images.read} readings")


@proof("readers of other projects read images that are new, and written to")
def _(place):
    def work(images, options):
        content = images.make("a.qcow2", options)
        images.check("a.qcow2", content)
        images.write("a.qcow2", content, some())
        images.check("a.qcow2", content)

    each_layout(place, work)


@proof("readers of other projects read images that were converted")
def _(place):
    def work(images, options):
        content = bytearray(SIZE)
        content[5 * MIB:5 * MIB + 5] = b"hello"
        with open(images.path("a.raw"), "wb") as raw:
            raw.write(content)
        content += bytes(-len(content) % 512)
        images.run(IMG, "convert", "-f", "raw", "-O", "qcow2", "-o", ",".join(options), "a.raw", "a.qcow2")
        images.check("a.qcow2", content)
        images.run(IMG, "convert", "-S", "0", "-f", "qcow2", "-O", "qcow2", "-o", ",".join(options), "a.qcow2", "b.qcow2")
        images.check("b.qcow2", content)

    each_layout(place, work)


@proof("readers of other projects read images that were resized")
def _(place):
    def work(images, options):
        content = images.make("a.qcow2", options)
        images.write("a.qcow2", content, some())
        images.run(IMG, "resize", "-q", "-f", "qcow2", "a.qcow2", str(9 * MIB))
        content += bytes(9 * MIB - SIZE)
        images.check("a.qcow2", content)
        images.write("a.qcow2", content, [(9 * MIB - 512, 512, 5)])
        images.run(IMG, "resize", "-q", "--shrink", "-f", "qcow2", "a.qcow2", str(3 * MIB))
        images.check("a.qcow2", content[:3 * MIB])

    each_layout(place, work)


@proof("readers of other projects read overlays, and what was committed")
def _(place):
    def work(images, options):
        # 7-Zip has no backing files, and Dissect can't find the name of one in a header of version 2, whoever wrote it.
        blind = ["7zz", "dissect"] if "compat=0.10" in options else ["7zz"]
        plain = [option for option in options if not option.startswith("preallocation")]
        base = images.make("base.qcow2", options)
        images.write("base.qcow2", base, [(0, MIB, 6), (4 * MIB, 64 * KIB, 7)])
        over = images.make("over.qcow2", plain, below=("base.qcow2", base))
        images.write("over.qcow2", over, some())
        images.check("over.qcow2", over, without=blind)
        images.run(IMG, "commit", "-q", "-f", "qcow2", "over.qcow2")
        images.check("base.qcow2", over)
        images.check("over.qcow2", over, without=blind)
        images.run(IMG, "rebase", "-f", "qcow2", "-b", "", "over.qcow2")
        images.check("over.qcow2", over)

    each_layout(place, work)


VHD = {
    "vpc": ("subformat=dynamic", "subformat=fixed", "force_size=on", "subformat=fixed,force_size=on"),
    "vhdx": ("subformat=dynamic", "subformat=fixed", "block_size=1M", "block_state_zero=off,log_size=2M"),
}


@proof("readers of other projects read VHD and VHDX images")
def _(place):
    images = Images(place)
    for format, options in ((format, options) for format in VHD for options in VHD[format]):
        first, second = (f"{name}.{'vhd' if format == 'vpc' else format}" for name in "ab")
        images.run(IMG, "create", "-q", "-f", format, "-o", options, first, str(9 * MIB))
        commands = ["write -q -P 1 0 512", "write -q -P 2 3M 64k", "write -q -P 3 5M 3M", "write -q -z -u 6M 2M"]
        images.run(IO, "-f", format, *(word for command in commands for word in ("-c", command)), first)
        images.run(IMG, "convert", "-f", format, "-O", "raw", first, "a.raw")
        content = Path(images.path("a.raw")).read_bytes()
        assert content[3 * MIB:3 * MIB + 64 * KIB] == bytes([2]) * 64 * KIB
        images.check(first, content)
        images.run(IMG, "convert", "-f", "raw", "-O", format, "-o", options, "a.raw", second)
        images.run(IMG, "convert", "-f", format, "-O", "raw", second, "b.raw")
        images.check(second, Path(images.path("b.raw")).read_bytes())
    place.tell(f"{images.read} readings")


for absent in (name for name in ASKED if not READERS[name][1]()):
    print(f"  --  left out, not installed: {absent}", flush=True)
main("readers")
