"""Images that are wrong, made from one that is right: by kind of wrongness, and at random.

Specification: https://www.qemu.org/docs/master/interop/qcow2.html
"""

import struct

CLUSTER = 65536
COPIED = 1 << 63
FIELDS = {  # name → offset, width
    "magic": (0, 4), "version": (4, 4), "backing_offset": (8, 8), "backing_size": (16, 4), "cluster_bits": (20, 4),
    "size": (24, 8), "crypt": (32, 4), "l1_size": (36, 4), "l1_offset": (40, 8), "refcount_offset": (48, 8),
    "refcount_clusters": (56, 4), "snapshots": (60, 4), "snapshots_offset": (64, 8), "incompatible": (72, 8),
    "compatible": (80, 8), "autoclear": (88, 8), "refcount_order": (96, 4), "header_length": (100, 4)}


class Image:
    """The bytes of a qcow2 file, with its fields by name."""

    def __init__(self, data):
        self.data = bytearray(data)

    def get(self, name):
        offset, width = FIELDS[name]
        return int.from_bytes(self.data[offset:offset + width], "big")

    def put(self, name, value):
        offset, width = FIELDS[name]
        self.data[offset:offset + width] = (value & ((1 << 8 * width) - 1)).to_bytes(width, "big")

    def entry(self, offset):
        return struct.unpack_from(">Q", self.data, offset)[0]

    def put_entry(self, offset, value):
        if offset + 8 <= len(self.data):
            struct.pack_into(">Q", self.data, offset, value & 0xFFFFFFFFFFFFFFFF)

    @property
    def l1(self):
        return self.get("l1_offset")

    @property
    def l2(self):
        return self.entry(self.l1) & 0x00FFFFFFFFFFFE00

    @property
    def refcount_table(self):
        return self.get("refcount_offset")

    @property
    def refcount_block(self):
        return self.entry(self.refcount_table) & ~0x1FF


def wrong_entries(image, end):
    """Values that no table entry may have, or that two entries may not share."""
    return {
        "0 with COPIED": COPIED, "beyond the end": (end + 64 * CLUSTER) | COPIED, "at the far end": 0x00FFFFFFFFFF0000,
        "unaligned": (5 * CLUSTER + 512) | COPIED, "odd bits": (5 * CLUSTER) | 0x1FE, "at the header": 0 | COPIED | 1,
        "at cluster 0 of the tables": image.l1 | COPIED, "at the refcount table": image.refcount_table | COPIED,
        "at the refcount block": image.refcount_block | COPIED, "at the L2 table": image.l2 | COPIED,
        "all ones": 0xFFFFFFFFFFFFFFFF, "compressed, far": 1 << 62 | 0x3FFFFFFFFFFFFFFF, "compressed, at 0": 1 << 62}


def by_kind(good):
    """(name, bytes) of images each wrong in one way."""
    def changed(name, change):
        image = Image(good)
        change(image)
        return name, bytes(image.data)

    values = {
        "version": (0, 1, 4, 0xFFFFFFFF), "cluster_bits": (0, 8, 22, 31, 63, 64, 0xFFFFFFFF), "size": (1, 1 << 62, (1 << 64) - 1, (1 << 63) - 512),
        "crypt": (1, 2, 3, 99), "l1_size": (0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 22), "l1_offset": (0, 1, 512, 1 << 62, (1 << 64) - 65536),
        "refcount_offset": (0, 1, 512, 1 << 62, (1 << 64) - 65536), "refcount_clusters": (0, 2, 129, 0x7FFFFFFF, 0xFFFFFFFF),
        "snapshots": (1, 65536, 65537, 0xFFFFFFFF), "incompatible": (1, 2, 3, 4, 8, 16, 1 << 63, (1 << 64) - 1),
        "autoclear": (1, 2, (1 << 64) - 1), "refcount_order": (0, 3, 6, 7, 63, 0xFFFFFFFF), "header_length": (0, 71, 72, 103, 105, 112, 65536, 0xFFFFFFFF),
        "backing_offset": (1, 104, 65536, (1 << 64) - 1), "backing_size": (1, 1023, 1024, 0xFFFFFFFF), "magic": (0,)}
    for field, wrong in values.items():
        for value in wrong:
            def change(image, field=field, value=value):
                image.put(field, value)
                if field == "backing_size":
                    image.put("backing_offset", 400)
                if field == "backing_offset":
                    image.put("backing_size", 10)
                if field == "snapshots":
                    image.put("snapshots_offset", 3 * CLUSTER)
            yield changed(f"{field} = {value:#x}", change)
    model = Image(good)
    for table, offset in (("L1", model.l1), ("L2", model.l2), ("L2 again", model.l2 + 8), ("refcount table", model.refcount_table),
                          ("second refcount", model.refcount_table + 8)):
        for name, value in wrong_entries(model, len(good)).items():
            yield changed(f"{table} entry {name}", lambda image, o=offset, v=value: image.put_entry(o, v))
    yield changed("two L2 entries on one cluster", lambda image: image.put_entry(image.l2 + 8, image.entry(image.l2)))
    yield changed("counts all 0", lambda image: image.data.__setitem__(
        slice(image.refcount_block, image.refcount_block + 64), bytes(64)))
    yield changed("counts all ones", lambda image: image.data.__setitem__(
        slice(image.refcount_block, image.refcount_block + CLUSTER), b"\xff" * CLUSTER))
    for cut in (0, 1, 4, 71, 72, 103, 104, 511, 512, 4096, CLUSTER - 1, CLUSTER, 2 * CLUSTER, 3 * CLUSTER + 7, 4 * CLUSTER, 5 * CLUSTER + 1):
        yield f"cut at {cut}", bytes(good[:cut])
    for kind, length in ((0xE2792ACA, 0xFFFFFFFF), (0x6803F857, 0x7FFFFFFF), (0x23852875, 24), (0x12345678, 70000), (0, 8)):
        def extend(image, kind=kind, length=length):
            image.data[image.get("header_length"):image.get("header_length") + 16] = struct.pack(">II", kind, length) + b"x" * 8
        yield changed(f"header extension {kind:#x} of {length} bytes", extend)


def at_random(good, rng, count):
    """(name, bytes) of images with a few bytes changed, mostly where the tables are."""
    model = Image(good)
    areas = [(0, 120), (0, 600), (model.l1, 64), (model.l2, 256), (model.refcount_table, 32), (model.refcount_block, 64), (0, len(good))]
    for index in range(count):
        data = bytearray(good)
        for _ in range(rng.choice((1, 1, 2, 4, 16))):
            start, length = rng.choice(areas)
            at = min(start + rng.randrange(length), len(data) - 9)
            kind = rng.randrange(4)
            if kind == 0:
                data[at] ^= 1 << rng.randrange(8)
            elif kind == 1:
                data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
            elif kind == 2:
                at &= ~7
                data[at:at + 8] = struct.pack(">Q", rng.choice((0, COPIED, 1, (1 << 64) - 1, rng.randrange(40) * CLUSTER | COPIED)))
            else:
                data[at:at + 4] = rng.randbytes(4)
        if rng.random() < 0.2:
            del data[rng.randrange(len(data)):]
        yield f"random {index}", bytes(data)


def many_on_one(path, entries=8192):
    """Row 27: `entries` L1 entries on one L2 table that is full: little file, much to follow."""
    l1_clusters = -(-entries * 8 // CLUSTER)
    header = struct.pack(">4sIQIIQIIQQIIQQQQII", b"QFI\xfb", 3, 0, 0, 16, entries * 8192 * CLUSTER, 0, entries, 3 * CLUSTER,
                         CLUSTER, 1, 0, 0, 0, 0, 0, 4, 104)
    l2_at = (3 + l1_clusters) * CLUSTER
    with open(path, "wb") as file:
        file.write(header)
        file.seek(CLUSTER)
        file.write(struct.pack(">Q", 2 * CLUSTER))
        file.seek(2 * CLUSTER)
        file.write(struct.pack(">H", 1) * (4 + l1_clusters))
        file.seek(3 * CLUSTER)
        file.write(struct.pack(">Q", l2_at) * entries)
        file.seek(l2_at)
        file.write(b"".join(struct.pack(">Q", l2_at + CLUSTER + index * CLUSTER) for index in range(8192)))
        file.truncate(l2_at + CLUSTER + 8192 * CLUSTER)


def all_tables(path, gib=1):
    """A file of `gib` GiB that says every cluster of it is an L2 table of its own; most are holes, so empty tables."""
    tables = gib * (1 << 30) // CLUSTER - 64
    l1_clusters = -(-tables * 8 // CLUSTER)
    header = struct.pack(">4sIQIIQIIQQIIQQQQII", b"QFI\xfb", 3, 0, 0, 16, tables * 8192 * CLUSTER, 0, tables, 3 * CLUSTER,
                         CLUSTER, 1, 0, 0, 0, 0, 0, 4, 104)
    first = 3 + l1_clusters
    with open(path, "wb") as file:
        file.write(header)
        file.seek(CLUSTER)
        file.write(struct.pack(">Q", 2 * CLUSTER))
        file.seek(2 * CLUSTER)
        file.write(struct.pack(">H", 1) * 32768)
        file.seek(3 * CLUSTER)
        file.write(b"".join(struct.pack(">Q", (first + index) * CLUSTER | COPIED) for index in range(tables)))
        file.truncate(gib * (1 << 30))


def dense_counts(path, gib=1):
    """Every byte that may be a refcount block is one: a table of 128 clusters that points all over a file of `gib` GiB."""
    entries = 128 * CLUSTER // 8
    header = struct.pack(">4sIQIIQIIQQIIQQQQII", b"QFI\xfb", 3, 0, 0, 16, 1 << 30, 0, 2, 2 * CLUSTER,
                         3 * CLUSTER, 128, 0, 0, 0, 0, 0, 4, 104)
    first, end = 132, gib * (1 << 30) // CLUSTER
    with open(path, "wb") as file:
        file.write(header)
        file.seek(3 * CLUSTER)
        file.write(b"".join(struct.pack(">Q", (first + index % (end - first)) * CLUSTER) for index in range(entries)))
        file.truncate(gib * (1 << 30))
