"""`img hash` beside the specification of docs/hash.md, written anew here."""

import hashlib
import json
import os
import re
import struct

from harness import GIB, KIB, MIB, Daemon, export_options, face, image_options, main, peer, proof

IMG, IO = face("img"), face("io")
PAGE = os.path.join(os.path.dirname(__file__), "../../docs/hash.md")
LEAF = 64 * KIB
CONTEXTS = [f"cairn 2026-11-30 disk digest v1 {kind}" for kind in ("leaf", "node", "root")]


def blake(context, data):
    from blake3 import blake3

    return blake3(data, derive_key_context=context).digest()


def digest_of_leaves(size, leaves):
    """The digest of a disk of zeroes but for some leaves: from a leaf's number to its bytes."""
    leaf, node, root = CONTEXTS
    zero = blake(leaf, bytes(LEAF))
    level = {index: blake(leaf, data.ljust(LEAF, b"\0")) for index, data in leaves.items()}
    for _ in range(48):
        above = {index // 2 for index in level}
        level = {index: blake(node, level.get(2 * index, zero) + level.get(2 * index + 1, zero)) for index in above}
        zero = blake(node, zero + zero)
    return blake(root, struct.pack("<Q", size) + level.get(0, zero)).hex()


def digest(data):
    return digest_of_leaves(len(data), {at // LEAF: data[at:at + LEAF] for at in range(0, len(data), LEAF)})


def blksum(data):
    blocks = b"".join(hashlib.sha256(data[at:at + LEAF]).digest() for at in range(0, len(data), LEAF))
    return hashlib.sha256(blocks + struct.pack("<Q", len(data))).hexdigest()


def pattern(size):
    return bytes(range(251)) * (size // 251) + bytes(range(size % 251))


def hashed(place, *words):
    """The digests that the program tells."""
    return [line.split("  ")[0] for line in place.ok([*IMG, "hash", *words]).out.splitlines()]


@proof("the vectors of the page are what its specification gives", ("python:blake3",))
def _(place):
    rows = re.findall(r"^\| ([a-z0-9 ]+) \| ([0-9,]+) \| `([0-9a-f]{64})` \|$", open(PAGE).read(), re.M)
    assert len(rows) >= 18, rows
    for what, size, expected in rows:
        size = int(size.replace(",", ""))
        found = {
            "pattern": lambda: digest(pattern(size)),
            "zeroes": lambda: digest_of_leaves(size, {}),
            "a byte 1 in the middle": lambda: digest_of_leaves(size, {size // 2 // LEAF: b"\1"}),
            "blksum": lambda: blksum(pattern(size)),
        }[what]()
        assert found == expected, (what, size, found)


@proof("the program tells the digests of the specification, of files of any size", ("python:blake3",))
def _(place):
    rng = place.rng
    for size in (0, 1, 511, 512, LEAF - 1, LEAF, LEAF + 1, MIB + 7, *(rng.randrange(6 * MIB) for _ in range(12))):
        data = bytearray(size)
        for _ in range(rng.randrange(5)):
            at, length = rng.randrange(size + 1), rng.choice([1, 600, LEAF, MIB])
            data[at:at + length] = rng.randbytes(len(data[at:at + length]))
        data = bytes(data)
        # A raw disk ends with a whole sector.
        disk = data.ljust(-(-size // 512) * 512, b"\0")
        path = place.write("disk", data)
        assert hashed(place, "-f", "raw", path) == [digest(disk)], size
        assert hashed(place, "--blkhash", "-f", "raw", path) == [blksum(disk)], size


@proof("one disk has one digest, whatever its format, layout, snapshot or way", ("python:blake3", "peer:qemu-img"))
def _(place):
    data = bytearray(24 * MIB)
    for at in (0, 3 * MIB + 512, 9 * MIB, 24 * MIB - 4 * KIB):
        data[at:at + MIB] = place.rng.randbytes(MIB)[:24 * MIB - at]
    data[12 * MIB:13 * MIB] = bytes(MIB)
    path, expected = place.write("disk.raw", data), digest(bytes(data))
    images = [path]
    for name, options in {
        "a.qcow2": ["qcow2"], "b.qcow2": ["qcow2", "-o", "cluster_size=512"], "c.qcow2": ["qcow2", "-c"],
        "d.qcow2": ["qcow2", "-o", "cluster_size=2M,preallocation=metadata"], "e.qcow2": ["qcow2", "-S", "0"],
        "f.vmdk": ["vmdk"], "g.vdi": ["vdi"], "h.vhdx": ["vhdx"], "i.vmdk": ["vmdk", "-o", "subformat=streamOptimized"],
        "j.qed": ["qed"], "k.raw": ["raw", "-S", "0"], "l.parallels": ["parallels"],
    }.items():
        place.ok([peer("qemu-img"), "convert", "-f", "raw", "-O", *options, path, place.path(name)])
        images.append(place.path(name))
    over = place.path("over.qcow2")
    place.ok([peer("qemu-img"), "create", "-q", "-f", "qcow2", "-b", images[1], "-F", "qcow2", over])
    place.ok([*IO, "-c", "write -q -P 7 100k 200k", "-f", "qcow2", over])
    place.ok([*IMG, "snapshot", "-c", "before", over])
    place.ok([peer("qemu-io"), "-c", f"write -q -s {path} 0 1M", over])
    assert hashed(place, *images, over) == [expected] * (len(images) + 1)
    other = hashed(place, "-l", "before", over)
    assert other != [expected] and len(other) == 1
    assert len(set(hashed(place, "--blkhash", *images))) == 1
    daemon = Daemon(place, *image_options("qcow2", "disk", images[1]), *export_options("disk", writable=False))
    assert hashed(place, "-f", "raw", daemon.uri("disk")) == [expected]
    daemon.stop()


@proof("digests in a file are checked, and what differs or is not there is named")
def _(place):
    for name in ("one", "two", "three\nlines"):
        place.write(name, name.encode() * 4096)
    names = ["one", "two", "three\nlines"]
    lines = place.ok([*IMG, "hash", "-f", "raw", *names]).out
    list_ = place.write("list", b"# kept\n\n" + lines.encode())
    assert place.ok([*IMG, "hash", "--check", "-f", "raw", list_]).out == "one: OK\ntwo: OK\nthree\nlines: OK\n"
    assert place.ok([*IMG, "hash", "-q", "--check", "-f", "raw", "-"], stdin=lines).out == ""
    place.write("two", b"two" * 4095 + b"tow")
    os.unlink(place.path("one"))
    run = place.run([*IMG, "hash", "-q", "--check", "-f", "raw", list_])
    assert run.code == 1 and run.out == "one: FAILED open or read\ntwo: FAILED\n", str(run)
    assert "1 of 3 images do not have the content" in run.err and "1 of 3 images could not be read" in run.err, str(run)
    run = place.run([*IMG, "hash", "--output=json", "--check", "-f", "raw", list_])
    found = json.loads(run.out)
    assert [entry["equal"] for entry in found] == [False, False, True] and "error" in found[0], found
    place.refused([*IMG, "hash", "--check", place.write("bad", b"12345  one\n")], "line 1 is no digest")


@proof("a hole costs nothing: the digest of 8 EiB")
def _(place):
    run = place.ok([*IMG, "hash", "--image-opts", f"driver=null-co,size={(1 << 63) - GIB},read-zeroes=on"], seconds=20)
    assert re.match("^[0-9a-f]{64}  ", run.out), str(run)


main("digests")
