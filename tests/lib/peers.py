"""Images pass between our programs and QEMU's own: what one writes the other checks, reads and goes on writing.

    CAIRN_TEST_ROUNDS   images per proof that goes round (24)
"""

import json
import os


from harness import KIB, MIB, Daemon, export_options, face, image_options, main, number, peer, proof, tested_is_peer

ROUNDS = number("CAIRN_TEST_ROUNDS", 24)
IMG, IO = face("img"), face("io")
PEER_IMG, PEER_IO = [peer("qemu-img")], [peer("qemu-io")]
SIZE = 4 * MIB
CLUSTERS = [512 << shift for shift in range(13)]


class Content:
    """What a disk of bytes must hold; a discarded byte may be zero or what it was."""

    def __init__(self, size, data=None):
        self.data = bytearray(data if data is not None else size)
        self.maybe = bytearray(size)

    def write(self, offset, length, value):
        self.data[offset:offset + length] = bytes([value]) * length
        self.maybe[offset:offset + length] = bytes(length)

    def discard(self, offset, length):
        self.maybe[offset:offset + length] = b"\1" * length

    def check(self, got, who):
        assert len(got) == len(self.data), f"{who}: {len(got)} bytes instead of {len(self.data)}"
        for at in range(0, len(got), 4096):
            a, b = got[at:at + 4096], self.data[at:at + 4096]
            if a == b:
                continue
            for index, (x, y) in enumerate(zip(a, b)):
                if x != y and not (x == 0 and self.maybe[at + index]):
                    raise AssertionError(f"{who}: byte {at + index} is {x}, must be {y}")
        self.data[:] = got
        self.maybe[:] = bytes(len(got))


def random_commands(rng, content, count, story):
    """Commands of io, and their effect on the content."""
    commands, size, outstanding = [], len(content.data), 0
    for _ in range(count):
        kind = rng.choices(("write", "zero", "discard", "aio", "flush", "fua"), (40, 16, 12, 16, 6, 10))[0]
        offset = rng.randrange(size)
        length = rng.choice((1, 100, 512, 4096, 4097, 65536, 70000, 131072, 300000))
        if rng.random() < 0.5:
            offset, length = offset // 4096 * 4096, -(-length // 4096) * 4096
        length = min(length, size - offset)
        value = rng.randrange(1, 256)
        if kind == "flush":
            commands.append(rng.choice(("flush", "aio_flush")))
        elif kind == "zero":
            commands.append(f"write -z {rng.choice(('', '-u '))}{offset} {length}")
            content.write(offset, length, 0)
        elif kind == "discard":
            offset, length = offset // 512 * 512, max(512, length // 512 * 512)
            length = min(length, size - offset)
            commands.append(f"discard {offset} {length}")
            content.discard(offset, length)
        elif kind == "aio":
            commands += [f"aio_write -P {value} {offset} {length}", "aio_flush"]
            content.write(offset, length, value)
        else:
            commands.append(f"write {'-f ' if kind == 'fua' else ''}-P {value} {offset} {length}")
            content.write(offset, length, value)
    story("; ".join(commands))
    return [word for command in commands for word in ("-c", command)]


def work(place, io, image, commands, *more):
    run = place.ok([*io, "-f", "qcow2", "-d", place.rng.choice(("unmap", "ignore")), *more, *commands, image])
    assert "failed" not in (run.out + run.err).lower(), str(run)


def read_by(place, img, image, who, content):
    raw = place.path("read.raw")
    place.ok([*img, "convert", "-f", "qcow2", "-O", "raw", image, raw])
    with open(raw, "rb") as file:
        content.check(file.read(), who)
    os.unlink(raw)


def sound(place, img, image):
    """Not even a leak."""
    run = place.run([*img, "check", "-f", "qcow2", image])
    assert run.code == 0, str(run)


def variant(rng, index):
    cluster = CLUSTERS[index % len(CLUSTERS)]
    if rng.random() < 0.3:
        return f"cluster_size={cluster},compat=0.10"
    extra = rng.choice(("", "", ",lazy_refcounts=on", ",preallocation=metadata", ",preallocation=full", ",preallocation=falloc"))
    return f"cluster_size={cluster},compat=1.1,refcount_bits={rng.choice((1, 2, 4, 8, 16, 32, 64))}{extra}"


def go_round(place, index, first, second):
    """Made and written by `first`, then written by `second`, then by `first`; all checked by both each time."""
    rng, image = place.rng, place.path(f"r{index}.qcow2")
    (name_a, img_a, io_a), (name_b, img_b, io_b) = first, second
    options = variant(rng, index)
    place.tell(f"round {index}: {options}, made by {name_a}")
    backing, content = [], Content(SIZE)
    if rng.random() < 0.4 and "preallocation" not in options:
        size = rng.choice((SIZE, SIZE // 2 + 512))
        base = place.write(f"base{index}.raw", bytes([0xBA]) * size)
        content.data[:size] = bytes([0xBA]) * size
        backing = ["-b", base, "-F", "raw"]
    place.ok([*img_a, "create", "-q", "-f", "qcow2", "-o", options, *backing, image, str(SIZE)])
    for name, io in ((name_a, io_a), (name_b, io_b), (name_a, io_a)):
        commands = random_commands(rng, content, 25, lambda text: place.tell(f"  {name}: {text}"))
        work(place, io, image, commands)
        sound(place, PEER_IMG, image)
        sound(place, IMG, image)
        read_by(place, PEER_IMG, image, f"{name} wrote, QEMU reads", content)
        read_by(place, IMG, image, f"{name} wrote, ours reads", content)
    os.unlink(image)


OURS, THEIRS = ("ours", IMG, IO), ("QEMU", PEER_IMG, PEER_IO)
NEEDS = ("peer:qemu-img", "peer:qemu-io")


@proof("images made by ours, of every cluster size, version and width, are sound to QEMU, and it writes on in them", NEEDS, 150)
def _(place):
    for index in range(ROUNDS):
        go_round(place, index, OURS, THEIRS)


@proof("images made by QEMU, of every cluster size, version and width, are sound to ours, and it writes on in them", NEEDS, 150)
def _(place):
    for index in range(ROUNDS):
        go_round(place, index, THEIRS, OURS)


@proof("what later versions care for is kept: snapshots stay as they were, bitmaps and unknown bits are cleared, compressed clusters counted", NEEDS)
def _(place):
    for index in range(ROUNDS // 4):
        rng, content = place.rng, Content(SIZE)
        plain, image = place.path("plain.qcow2"), place.path(f"s{index}.qcow2")
        cluster = rng.choice((4096, 65536, 262144))
        place.ok([*PEER_IMG, "create", "-q", "-f", "qcow2", plain, str(SIZE)])
        work(place, PEER_IO, plain, random_commands(rng, content, 15, place.tell))
        read_by(place, PEER_IMG, plain, "the start", content)
        place.ok([*PEER_IMG, "convert", *rng.choice(([], ["-c"])), "-O", "qcow2", "-o", f"cluster_size={cluster}", plain, image])
        place.ok([*PEER_IMG, "snapshot", "-c", "kept", image])
        place.ok([*PEER_IMG, "bitmap", "--add", image, "b"])
        kept = Content(SIZE, content.data)
        for _ in range(2):
            work(place, IO, image, random_commands(rng, content, 20, place.tell))
            for img in (PEER_IMG, IMG):
                run = place.run([*img, "check", "-f", "qcow2", image])
                assert run.code in (0, 3), str(run)  # the bitmap's clusters may count as leaked
            read_by(place, PEER_IMG, image, "QEMU reads", content)
            read_by(place, IMG, image, "ours reads", content)
        raw = place.path("snap.raw")
        place.ok([*PEER_IMG, "convert", "-l", "snapshot.name=kept", "-O", "raw", image, raw])
        kept.check(open(raw, "rb").read(), "the snapshot")
        place.run([*PEER_IMG, "bitmap", "--remove", image, "b"])
        place.ok([*PEER_IMG, "snapshot", "-a", "kept", image])
        run = place.run([*PEER_IMG, "check", "-f", "qcow2", "-r", "leaks", image])
        assert run.code == 0, str(run)
        read_by(place, IMG, image, "ours reads the snapshot that QEMU went back to", kept)


def test_images(place):
    """Images of many sorts, by QEMU."""
    q, i = PEER_IMG, PEER_IO
    base, middle, top = place.path("base.qcow2"), place.path("middle.qcow2"), place.path("top.qcow2")
    place.ok([*q, "create", "-q", "-f", "qcow2", base, "6M"])
    place.ok([*i, "-f", "qcow2", "-c", "write -P 1 0 1M", "-c", "write -P 2 5M 70k", base])
    place.ok([*q, "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", middle, "8M"])
    place.ok([*i, "-f", "qcow2", "-c", "write -P 3 512k 1M", "-c", "write -z 5M 64k", middle])
    place.ok([*q, "create", "-q", "-f", "qcow2", "-o", "compat=0.10", "-b", "middle.qcow2", "-F", "qcow2", top, "8M"])
    place.ok([*i, "-f", "qcow2", "-c", "write -P 4 7M 1M", "-c", "write -P 5 1001 17", top])
    raw = place.path("disk.raw")
    with open(raw, "wb") as file:
        file.truncate(8 * MIB)
        file.seek(MIB)
        file.write(b"r" * MIB)
    packed, lazy, odd = place.path("packed.qcow2"), place.path("lazy.qcow2"), place.path("odd.qcow2")
    place.ok([*q, "convert", "-c", "-O", "qcow2", raw, packed])
    place.ok([*q, "create", "-q", "-f", "qcow2", "-o", "lazy_refcounts=on,cluster_size=2M,refcount_bits=64", lazy, "1G"])
    place.ok([*i, "-f", "qcow2", "-c", "write -P 6 100M 3M", lazy])
    place.ok([*q, "create", "-q", "-f", "qcow2", "-o", "cluster_size=512", odd, "1500500"])
    place.ok([*i, "-f", "qcow2", "-c", "write -P 8 1M 400k", odd])
    return [(base, "qcow2"), (middle, "qcow2"), (top, "qcow2"), (raw, "raw"), (packed, "qcow2"), (lazy, "qcow2"), (odd, "qcow2")]


def merged(entries):
    """Map entries with those joined that tell apart only which stored data is known to be zeroes: ours looks closer."""
    found = []
    for entry in entries:
        entry = {key: value for key, value in entry.items() if key != "zero" or not entry["data"]}
        last = found[-1] if found else None
        follows = last and all(last.get(key) == entry.get(key) for key in ("depth", "present", "zero", "data", "compressed")) \
            and ("offset" in last) == ("offset" in entry) and last.get("offset", 0) + last["length"] == entry.get("offset", last["length"])
        if follows:
            last["length"] += entry["length"]
        else:
            found.append(entry)
    return found


def same_json(place, arguments):
    a, b = place.run([*IMG, *arguments]), place.run([*PEER_IMG, *arguments])
    assert a.code == b.code, f"{a}\n-- QEMU:\n{b}"
    if a.code and not b.out.strip():
        return
    x, y = a.json(), b.json()
    if arguments[0] == "map":
        x, y = merged(x), merged(y)
    assert x == y, f"{' '.join(arguments)}:\nours {json.dumps(x)[:1500]}\nQEMU {json.dumps(y)[:1500]}"


@proof("info, map, check and measure say in JSON what QEMU's say", NEEDS)
def _(place):
    for path, format in test_images(place):
        same_json(place, ["info", "--output=json", path])
        same_json(place, ["info", "--output=json", "--backing-chain", path])
        same_json(place, ["info", "-f", format, "--output=json", path])
        same_json(place, ["map", "-f", format, "--output=json", path])
        same_json(place, ["map", "--output=json", "--start-offset=1M", "--max-length=2500000", path])
        if "lazy" not in path:  # half of a cluster there is a hole: ours needs less
            same_json(place, ["measure", "-f", format, "-O", "qcow2", "--output=json", path])
        same_json(place, ["measure", "-f", format, "-O", "raw", "--output=json", path])
        if format == "qcow2":
            same_json(place, ["check", "--output=json", path])
        for human in (["info", path], ["check", path], *([] if "lazy" in path else [["map", path]])):
            a, b = place.run([*IMG, *human]), place.run([*PEER_IMG, *human])
            assert (a.code, a.out) == (b.code, b.out), f"{a}\n-- QEMU:\n{b}"


@proof("convert in every way gives the same content, to QEMU's compare and to ours", NEEDS)
def _(place):
    images = test_images(place)
    for path, format in images:
        if "lazy" in path:
            continue
        for index, more in enumerate((["-O", "raw"], ["-O", "qcow2"], ["-O", "qcow2", "-m", "8", "-W"], ["-O", "raw", "-S", "0"],
                                      ["-O", "raw", "-S", "64k"], ["-O", "qcow2", "-o", "cluster_size=4k,compat=0.10"],
                                      ["-O", "qcow2", "-o", "preallocation=metadata"], ["-p", "-O", "qcow2"])):
            out = place.path("out")
            target = more[more.index("-O") + 1]
            place.ok([*IMG, "convert", "-f", format, *more, path, out])
            for img in (PEER_IMG, IMG):
                place.ok([*img, "compare", "-f", format, "-F", target, path, out])
            if target == "qcow2":
                sound(place, PEER_IMG, out)
            os.unlink(out)
    base, middle, top = images[0][0], images[1][0], images[2][0]
    out = place.path("thin.qcow2")
    place.ok([*IMG, "convert", "-f", "qcow2", "-O", "qcow2", "-B", middle, "-F", "qcow2", top, out])
    place.ok([*PEER_IMG, "compare", "-f", "qcow2", "-F", "qcow2", top, out])
    assert place.ok([*PEER_IMG, "info", "--output=json", out]).json()["backing-filename"] == middle
    assert os.stat(out).st_size < 2 * MIB + 512 * KIB, "only what differs"
    joined = place.path("joined.raw")
    place.ok([*IMG, "convert", "-O", "raw", base, top, joined])
    assert os.stat(joined).st_size == 14 * MIB
    for different, code in ((top, 1), (place.path("nothing"), 2)):
        for img in (IMG, PEER_IMG):
            run = place.run([*img, "compare", base, different])
            assert run.code == code, str(run)
    run = place.ok([*IMG, "convert", "-p", "-O", "qcow2", top, place.path("progress.qcow2")])
    assert "(100.00/100%)" in run.out, run.out


@proof("resize and commit do what QEMU's do, and the images stay sound", NEEDS)
def _(place):
    results = []
    for name, img, io in (OURS, THEIRS):
        folder = place.path(name)
        os.mkdir(folder)
        base, top = os.path.join(folder, "base.qcow2"), os.path.join(folder, "top.qcow2")
        place.ok([*PEER_IMG, "create", "-q", "-f", "qcow2", base, "6M"])
        place.ok([*PEER_IO, "-f", "qcow2", "-c", "write -P 1 0 6M", base])
        place.ok([*PEER_IMG, "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", top, "8M"])
        place.ok([*PEER_IO, "-f", "qcow2", "-c", "write -P 2 1M 1M", "-c", "write -z 3M 1M", "-c", "write -P 3 7M 512k", top])
        place.ok([*img, "resize", "-f", "qcow2", top, "+4M"])
        place.refused([*img, "resize", "-f", "qcow2", top, "4M"], "shrink")
        sound(place, PEER_IMG, top)
        place.ok([*io, "-f", "qcow2", "-c", "write -P 4 11M 1M", top])
        place.ok([*img, "resize", "-f", "qcow2", "--shrink", top, "9M"])
        sound(place, PEER_IMG, top)
        place.ok([*img, "resize", "-f", "qcow2", top, "10M"])
        raw = place.path(f"{name}.raw")
        place.ok([*PEER_IMG, "convert", "-O", "raw", top, raw])
        place.ok([*img, "commit", "-f", "qcow2", top])
        sound(place, PEER_IMG, base)
        sound(place, PEER_IMG, top)
        place.ok([*PEER_IMG, "compare", raw, base])
        place.ok([*PEER_IMG, "compare", raw, top])
        info = place.ok([*PEER_IMG, "info", "--output=json", base]).json()["virtual-size"]
        plain = os.path.join(folder, "plain.raw")
        place.ok([*img, "create", "-q", "-f", "raw", plain, "1500500"])
        place.ok([*img, "resize", "-f", "raw", plain, "+1M"])
        results.append((info, open(raw, "rb").read(), os.stat(plain).st_size))
    assert results[0] == results[1], [(a[0], a[2]) for a in results]


@proof("writes, zeroes and trims in parallel on the same clusters leave one reference to each host cluster (row 22)", NEEDS)
def _(place):
    if tested_is_peer():
        return
    from stamps import SECTOR, Model, Writer, sector_reader
    for cluster in (64 * KIB, 512 * KIB):
        for round_number in range(max(2, ROUNDS // 6)):
            image = place.path("parallel.qcow2")
            place.ok([*IMG, "create", "-q", "-f", "qcow2", "-o", f"cluster_size={cluster}", image, "8M"])
            daemon = Daemon(place, *image_options("qcow2", "disk", image, discard="unmap"), *export_options("disk"))
            model = Model(8 * MIB // SECTOR)
            writer = Writer(model, daemon.uri("disk"), place.rng, connections=4, depth=48, hot=cluster // SECTOR,
                            mix={"write": 45, "zero": 35, "trim": 10, "flush": 2, "read": 8})
            while writer.answered < 700:
                writer.turn()
                assert writer.error is None, writer.error
            writer.flush()
            assert writer.error is None, writer.error
            writer.close()
            daemon.stop()
            sound(place, PEER_IMG, image)
            raw = place.path("parallel.raw")
            place.ok([*PEER_IMG, "convert", "-f", "qcow2", "-O", "raw", image, raw])
            found = model.violations(sector_reader(open(raw, "rb").read()))
            assert not found, "\n".join(found)
            os.unlink(image)


main("peers")
