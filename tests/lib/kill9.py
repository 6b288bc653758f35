"""kill -9 of the daemon in the middle of everything: what was flushed is there, and no sector holds another's data.

    CAIRN_TEST_KILLS   kills in all, about (40)
"""

import os
import signal
import threading

import nbd

from harness import MIB, Daemon, KIB, export_options, image_options, main, number, ours, peer, proof, wait_for
from stamps import SECTOR, Model, Writer, content, read_disk, sector_reader

KILLS = number("CAIRN_TEST_KILLS", 40)
SECTORS = 16 * MIB // SECTOR
LONG = 60 + 6 * KILLS


class Disk:
    """One disk over its kills: the chain of files as a manager knows it, base first."""

    def __init__(self, place, cluster, extra="", over=False):
        self.place, self.rng, self.serial = place, place.rng, 0
        self.model = Model(SECTORS)
        if over:  # a backing file that is full of stamps: zeroes and trims must not let it show through
            over = place.write("backing.raw", content(0, SECTORS, 0))
            self.model.base = [0] * SECTORS
        self.cluster, self.extra = cluster, extra
        self.chain = [self.name()]
        options = f"cluster_size={cluster}{extra}"
        backing = ["-b", over, "-F", "raw"] if over else []
        place.ok([ours("qemu-img"), "create", "-q", "-f", "qcow2", "-o", options, *backing, self.chain[0], SECTORS * SECTOR])
        self.maybe = None  # another top that a command without an answer may have made the right one

    def name(self):
        self.serial += 1
        return self.place.path(f"image-{self.serial}.qcow2")

    @property
    def top(self):
        return self.chain[-1]

    def start(self):
        """A daemon over the chain, each layer a node of its own, as managers build it."""
        options = []
        for index, path in enumerate(self.chain):
            more = {"discard": "unmap"}
            if index:
                more["backing"] = f"n{index - 1}"
            options += image_options("qcow2", f"n{index}", path, read_only=index + 1 < len(self.chain), **more)
        # A layer that becomes writable during a commit must be able to.
        options = [word.replace('"read-only": true', '"read-only": true, "auto-read-only": true') for word in options]
        self.daemon = Daemon(self.place, *options, *export_options(f"n{len(self.chain) - 1}", "disk"))
        return self.daemon

    def verify(self, round_name):
        """The law, read by QEMU's own program, on whichever top may be the right one."""
        reports = []
        for chain in [self.chain] + ([self.maybe] if self.maybe else []):
            found = self._verify_chain(chain)
            if not found:
                self.chain, self.maybe = chain, None
                return
            reports.append(found)
        raise AssertionError(f"{round_name}: " + "\n  ".join(reports[0]) +
                             ("\n and with the other top:\n  " + "\n  ".join(reports[1]) if len(reports) > 1 else ""))

    def _verify_chain(self, chain):
        for path in chain:
            info = self.place.ok([peer("qemu-img"), "info", "--output=json", path]).json()
            if info.get("dirty-flag"):
                continue  # lazy counts: mended when it is opened again
            check = self.place.run([peer("qemu-img"), "check", "-f", "qcow2", path])
            if check.code not in (0, 3):
                return [f"qemu-img check of {os.path.basename(path)}: {check}"]
        raw = self.place.path("raw")
        convert = self.place.run([peer("qemu-img"), "convert", "-f", "qcow2", "-O", "raw", chain[-1], raw])
        if convert.code:
            return [str(convert)]
        with open(raw, "rb") as file:
            read = sector_reader(file.read())
        found = self.model.violations(read)
        if not found:
            self.model.settle(read)
        return found


class Killer:
    """Kills the daemon after a while, or at once when told to."""

    def __init__(self, daemon, seconds):
        self.daemon = daemon
        self.timer = threading.Timer(seconds, self.now)
        self.timer.start()

    def now(self):
        self.timer.cancel()
        self.daemon.process.kill()


class Round:
    """One life of the daemon, up to its kill."""

    def __init__(self, disk, kind, index):
        self.disk, self.kind, self.rng, self.index = disk, kind, disk.rng, index
        self.daemon = disk.start()
        self.qmp = self.daemon.qmp()
        self.writer = Writer(disk.model, self.daemon.uri("disk"), self.rng, connections=self.rng.choice((1, 2, 4)),
                             depth=self.rng.choice((4, 12, 24)), hot=disk.cluster // SECTOR + 8)
        self.script = getattr(self, f"{kind}_script")()
        self.waiting, self.events, self.told = None, [], []

    def run(self):
        pause = self.rng.uniform(0.02, 0.5)
        self.killer = Killer(self.daemon, pause if self.kind == "plain" else 20)
        self.aimed = None if self.kind == "plain" else self.rng.choice(("any", "any", "told"))
        self.fuse = None
        if self.aimed == "any":
            self.start_fuse = self.rng.uniform(0.0, self.rng.choice((0.004, 0.03, 0.2)))
        try:
            while self.daemon.process.poll() is None:
                self.writer.turn()
                assert not isinstance(self.writer.error, str), self.writer.error
                if self.writer.error:  # an error of the server's, or of the connection, if the kill has just come
                    wait_for(f"death (a live daemon answered error {self.writer.error})",
                             lambda: self.daemon.process.poll() is not None, 2)
                    break
                if self.kind != "plain":
                    self.step()
        except nbd.Error:
            pass
        self.killer.now()
        self.daemon.process.wait()
        self.disk.place.processes.remove(self.daemon.process)
        self.in_flight = self.writer.flying
        self.writer.bury()
        assert not isinstance(self.writer.error, str), self.writer.error
        assert self.daemon.process.returncode == -signal.SIGKILL, \
            f"the daemon ended by itself with {self.daemon.process.returncode}: {self.daemon.log()[-3000:]}"
        self.qmp.pump()  # what the daemon had sent before it died is known to its manager
        for document in self.qmp.arrived():
            self.take(document)
        self.qmp.close()
        self.conclude()

    # The QMP side: a script is a generator that yields commands or events to wait for.

    def step(self):
        self.qmp.pump()
        for document in self.qmp.arrived():
            self.take(document)
        if self.waiting is None:
            self.advance(None)

    def take(self, document):
        self.told.append(document)
        if "event" in document:
            self.events.append(document["event"])
            if document["event"] == "BLOCK_JOB_COMPLETED":
                assert "error" not in document["data"], document
                self.completed()
                if self.aimed == "told":
                    self.killer.now()
        elif "error" in document:
            raise AssertionError(f"{self.waiting}: {document}")
        if self.waiting and self.waiting(document):
            self.waiting = None
            self.advance(document)

    def advance(self, document):
        try:
            wanted = self.script.send(document)
        except StopIteration:
            self.waiting = lambda _: False
            if self.aimed == "told":
                self.killer.now()
            return
        if isinstance(wanted, str):
            self.waiting = lambda doc: doc.get("event") == wanted
        else:
            command, arguments, fuse = wanted
            if fuse and self.aimed == "any":
                threading.Timer(self.start_fuse, self.killer.now).start()
            try:
                sent = self.qmp.send(command, arguments)
            except OSError:
                sent = -1
            self.waiting = lambda doc: doc.get("id") == sent

    def plain_script(self):
        return
        yield

    def snapshot_script(self):
        """Overlays under the writes, one after the other."""
        while len(self.disk.chain) < 5:
            node, overlay = f"n{len(self.disk.chain) - 1}", self.disk.name()
            if len(self.disk.chain) > 1:
                node = self.node or node
            self.overlay, self.node_of_overlay = overlay, f"o{self.disk.serial}"
            self.pending = self.disk.chain + [overlay]
            yield ("blockdev-snapshot-sync", {
                "node-name": node, "snapshot-file": overlay, "snapshot-node-name": self.node_of_overlay}, True)
            self.disk.chain, self.pending, self.node = self.pending, None, self.node_of_overlay

    node = None
    pending = None
    on_completed = None

    def commit_script(self):
        """The active layer into the one below it, with the switch."""
        if len(self.disk.chain) < 2:
            yield from self.snapshot_once()
        top = self.node or f"n{len(self.disk.chain) - 1}"
        after = self.disk.chain[:-1]

        def completed():
            os.unlink(self.disk.chain[-1])
            self.disk.chain, self.pending = after, None

        self.on_completed = completed
        yield ("block-commit", {"job-id": "j", "device": top, "base-node": f"n{len(after) - 1}"}, self.rng.random() < 0.4)
        if "BLOCK_JOB_READY" not in self.events:
            yield "BLOCK_JOB_READY"
        self.pending = after
        yield ("block-job-complete", {"device": "j"}, True)
        if "BLOCK_JOB_COMPLETED" not in self.events:
            yield "BLOCK_JOB_COMPLETED"

    def middle_script(self):
        """A layer below the active one into its backing file, without a switch."""
        while len(self.disk.chain) < 3:
            yield from self.snapshot_once()
        count = len(self.disk.chain)
        device = self.node or f"n{count - 1}"
        gone = self.disk.chain[-2]
        after = self.disk.chain[:-2] + [self.disk.chain[-1]]

        def completed():
            os.unlink(gone)
            self.disk.chain, self.pending = after, None

        self.on_completed = completed
        self.pending = after
        base, top = self.names()[-3], self.names()[-2]
        yield ("block-commit", {"job-id": "j", "device": device, "base-node": base, "top-node": top}, True)
        if "BLOCK_JOB_COMPLETED" not in self.events:
            yield "BLOCK_JOB_COMPLETED"

    def snapshot_once(self):
        overlay, node = self.disk.name(), f"o{self.disk.serial}"
        self.pending = self.disk.chain + [overlay]
        yield ("blockdev-snapshot-sync", {
            "node-name": self.names()[-1], "snapshot-file": overlay, "snapshot-node-name": node}, False)
        self.made = getattr(self, "made", []) + [node]
        self.disk.chain, self.pending, self.node = self.pending, None, node

    def names(self):
        """Node names of the chain as it is now."""
        made = getattr(self, "made", [])
        return [f"n{index}" for index in range(len(self.disk.chain) - len(made))] + made

    def completed(self):
        if self.on_completed:
            self.on_completed()
            self.on_completed = None

    def conclude(self):
        """A command without an answer may or may not have been done: both tops are possible, unless one is no image."""
        self.disk.maybe = None
        if self.pending:
            info = self.disk.place.run([peer("qemu-img"), "info", "-U", "--output=json", self.pending[-1]])
            if info.code == 0 and (len(self.pending) == 1 or "backing-filename" in info.json()):
                self.disk.maybe = self.pending
        self.disk.place.tell(
            f"kill {self.index} ({self.kind}, aimed {self.aimed}): {self.writer.answered} answered, "
            f"{self.in_flight} in flight, events {self.events}, chain {[os.path.basename(p) for p in self.disk.chain]}")


def kills(place, disk, kinds, count):
    for index in range(count):
        kind = place.rng.choices(list(kinds), list(kinds.values()))[0]
        if kind == "snapshot" and len(disk.chain) > 3:
            kind = "middle" if "middle" in kinds else "commit"
        Round(disk, kind, index).run()
        disk.verify(f"kill {index} ({kind})")
    # And by ours: a last life, a clean end, the same content.
    daemon = disk.start()
    assert not disk.model.violations(sector_reader(read_disk(daemon.uri("disk"), SECTORS)))
    daemon.stop()
    disk.verify("after a clean end")
    for path in disk.chain:
        place.ok([peer("qemu-img"), "check", "-f", "qcow2", "-r", "leaks", path])


NEEDS = ("peer:qemu-img",)


@proof("killed amid writes, zeroes and trims, what was flushed is there (64 KiB clusters)", NEEDS, LONG)
def _(place):
    kills(place, Disk(place, 64 * KIB), {"plain": 1}, max(2, KILLS // 10))


@proof("killed amid writes, zeroes and trims, what was flushed is there (4 KiB clusters, 1-bit counts)", NEEDS, LONG)
def _(place):
    kills(place, Disk(place, 4 * KIB, ",refcount_bits=1"), {"plain": 1}, max(2, KILLS // 10))


@proof("killed amid writes, zeroes and trims, what was flushed is there (512-byte clusters, version 2)", NEEDS, LONG)
def _(place):
    kills(place, Disk(place, 512, ",compat=0.10"), {"plain": 1}, max(2, KILLS // 10))


@proof("killed amid writes, zeroes and trims over a backing file, nothing below shows through", NEEDS, LONG)
def _(place):
    kills(place, Disk(place, place.rng.choice((4, 64, 256)) * KIB, over=True), {"plain": 1}, max(2, KILLS // 10))


@proof("killed with counts kept lazily, the dirty image is mended when it is opened again", NEEDS, LONG)
def _(place):
    kills(place, Disk(place, 64 * KIB, ",lazy_refcounts=on"), {"plain": 1}, max(2, KILLS // 10))


@proof("killed amid writes over an internal snapshot, the snapshot is as it was", NEEDS, LONG)
def _(place):
    disk = Disk(place, place.rng.choice((4, 64)) * KIB)
    kills(place, disk, {"plain": 1}, 1)
    place.ok([peer("qemu-img"), "snapshot", "-c", "kept", disk.top])
    raw = place.path("kept.raw")
    take = [peer("qemu-img"), "convert", "-l", "snapshot.name=kept", "-O", "raw", disk.top, raw]
    place.ok(take)
    kept = open(raw, "rb").read()
    kills(place, disk, {"plain": 1}, max(2, KILLS // 10))
    place.ok(take)
    assert open(raw, "rb").read() == kept, "the snapshot has changed"


@proof("killed amid live snapshots and commits, right after BLOCK_JOB_COMPLETED too, the chain holds all (row 21)", NEEDS, LONG)
def _(place):
    kills(place, Disk(place, 64 * KIB), {"snapshot": 3, "commit": 4, "middle": 3}, KILLS // 2)


main("kill -9")
