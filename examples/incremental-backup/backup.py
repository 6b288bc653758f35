#!/usr/bin/env python3
"""Incremental backups of a disk in use, over QMP and NBD: Cairn's daemon or QEMU's, it makes no difference.

    writers ─▶ gate (throttle) ─┬───────────────────────▶ disk ◀─ bitmaps: what changed since the last round
                                └─▶ copy-before-write ──▶ disk        (while a round is under way)
                                         ├─▶ scratch: what is overwritten meanwhile is kept there
                                         └─▶ snapshot-access ─▶ NBD export with the bitmap ─▶ this program

Each round pulls what the last round's bitmap says has changed, as the disk was when the round began. Writers go on
meanwhile. A round that fails leaves everything as it was: the next one pulls what it should have.

    backup.py round   --qmp qmp.sock --nbd nbd.sock --node disk --gate gate --group g --verify backups/
    backup.py restore backups/ disk.raw
    backup.py list    backups/

Needs Python 3.9 and libnbd's module (Debian: python3-libnbd). The daemon has a writers' export on a `throttle` node (the gate)
over the disk, and its NBD server listens on a UNIX socket. The disk's node keeps bitmaps (qcow2).
"""

import argparse
import contextlib
import hashlib
import json
import os
import socket
import sys
import tempfile

import nbd

PIECE = 1 << 20  # bytes of one read
EXPORT = "fleece"
ZERO = bytes(PIECE)


class Refused(Exception):
    """A command's error."""


class Qmp:
    """A control connection: one command at a time."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.lines = self.socket.makefile("rb")
        self.events = []
        if "QMP" not in self.receive():
            raise SystemExit(f"{path}: that is no QMP server")
        self.run("qmp_capabilities")

    def receive(self):
        line = self.lines.readline()
        if not line:
            raise ConnectionError("the server closed the QMP connection")
        return json.loads(line)

    def run(self, command, **arguments):
        arguments = {name.replace("_", "-"): value for name, value in arguments.items()}
        message = {"execute": command, **({"arguments": arguments} if arguments else {})}
        self.socket.sendall(json.dumps(message).encode() + b"\n")
        while True:
            answer = self.receive()
            if "event" in answer:
                self.events.append(answer)
            elif "error" in answer:
                raise Refused(f"{command}: {answer['error']['desc']}")
            else:
                return answer["return"]

    def wait(self, event, **data):
        """Waits for an event with that data."""
        while True:
            while self.events:
                found = self.events.pop(0)
                if found["event"] == event and data.items() <= found.get("data", {}).items():
                    return found
            answer = self.receive()
            if "event" in answer:
                self.events.append(answer)


class Backups:
    """A folder with the rounds: for each a list of pieces, and a file with their data one after the other."""

    def __init__(self, folder):
        self.folder = folder
        os.makedirs(folder, exist_ok=True)

    def path(self, name):
        return os.path.join(self.folder, name)

    def rounds(self):
        """What is known of each round, the oldest first."""
        names = sorted(name for name in os.listdir(self.folder) if name.endswith(".json"))
        found = []
        for name in names:
            with open(self.path(name), encoding="utf-8") as file:
                found.append(json.load(file))
        return found

    def store(self, size, bitmap, pieces):
        """Stores a round. It counts from the moment its list is there under its name."""
        number = len(self.rounds())
        name = f"round-{number:04}"
        kept, digest = [], hashlib.sha256()
        with open(self.path(f"{name}.data"), "wb") as file:
            for offset, length, data in pieces:
                kept.append([offset, length, data is not None])
                if data is not None:
                    file.write(data)
                    digest.update(data)
            file.flush()
            os.fsync(file.fileno())
        about = {"round": number, "size": size, "bitmap": bitmap, "sha256": digest.hexdigest(), "pieces": kept}
        with open(self.path(f"{name}.new"), "w", encoding="utf-8") as file:
            json.dump(about, file)
            file.flush()
            os.fsync(file.fileno())
        os.rename(self.path(f"{name}.new"), self.path(f"{name}.json"))
        folder = os.open(self.folder, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
        return about

    def restore(self, target):
        """Writes the disk of the last round into a file, which is sparse where the disk holds zeroes."""
        rounds = self.rounds()
        if not rounds:
            raise SystemExit(f"{self.folder}: there is no round")
        with open(target, "wb") as disk:
            for about in rounds:
                disk.truncate(about["size"])
                digest = hashlib.sha256()
                with open(self.path(f"round-{about['round']:04}.data"), "rb") as data:
                    for offset, length, is_data in about["pieces"]:
                        piece = data.read(length) if is_data else bytes(length)
                        if len(piece) != length:
                            raise SystemExit(f"round {about['round']}: data are missing")
                        if is_data:
                            digest.update(piece)
                        disk.seek(offset)
                        disk.write(piece)
                if digest.hexdigest() != about["sha256"]:
                    raise SystemExit(f"round {about['round']}: the data are not those that were stored")
            disk.flush()
            os.fsync(disk.fileno())


class Disk:
    """A node in use, and what a round needs around it."""

    def __init__(self, qmp, node, gate, group):
        self.qmp, self.node, self.gate, self.group = qmp, node, gate, group

    def size(self):
        (info,) = [info for info in self.qmp.run("query-named-block-nodes", flat=True) if info["node-name"] == self.node]
        return info["image"]["virtual-size"]

    def bitmaps(self):
        (info,) = [info for info in self.qmp.run("query-named-block-nodes", flat=True) if info["node-name"] == self.node]
        return {bitmap["name"]: bitmap for bitmap in info.get("dirty-bitmaps", []) if "name" in bitmap}

    def lead(self, below):
        """Leads the gate, and with it all writers, to another node."""
        self.qmp.run("blockdev-reopen", options=[
            {"driver": "throttle", "node-name": self.gate, "throttle-group": self.group, "file": below}])

    def attempt(self, command, **arguments):
        """Runs a command that may have nothing to do."""
        with contextlib.suppress(Refused):
            self.qmp.run(command, **arguments)

    def tidy_up(self, last, new):
        """Takes away what a round left behind that was broken off: nothing of what was written since then may be missed."""
        if any(export["id"] == EXPORT for export in self.qmp.run("query-block-exports")):
            self.qmp.run("block-export-del", id=EXPORT, mode="hard")
            self.qmp.wait("BLOCK_EXPORT_DELETED", id=EXPORT)
        self.attempt("blockdev-del", node_name="frozen")
        if any(info["node-name"] == "cbw" for info in self.qmp.run("query-named-block-nodes", flat=True)):
            self.lead(self.node)
            self.qmp.run("blockdev-del", node_name="cbw")
        self.attempt("blockdev-del", node_name="scratch")
        bitmaps = self.bitmaps()
        if last and not bitmaps[last]["recording"]:
            self.qmp.run("block-dirty-bitmap-enable", node=self.node, name=last)
        if new in bitmaps:
            if last:
                self.qmp.run("block-dirty-bitmap-merge", node=self.node, target=last, bitmaps=[new])
            self.qmp.run("block-dirty-bitmap-remove", node=self.node, name=new)
        for old in bitmaps:
            if old.startswith("backup-") and old not in (last, new):
                self.qmp.run("block-dirty-bitmap-remove", node=self.node, name=old)

    @contextlib.contextmanager
    def frozen(self, scratch):
        """The disk as it is now, as a node that stays so while writers go on."""
        undo = contextlib.ExitStack()
        with undo:
            with open(scratch, "wb") as file:
                file.truncate(self.size())
            undo.callback(os.unlink, scratch)
            self.qmp.run("blockdev-add", driver="raw", node_name="scratch", discard="unmap",
                         file={"driver": "file", "filename": os.path.abspath(scratch), "discard": "unmap"})
            undo.callback(self.qmp.run, "blockdev-del", node_name="scratch")
            # Where the scratch file has no space left, the round fails and not the writers.
            self.qmp.run("blockdev-add", driver="copy-before-write", node_name="cbw", file=self.node, target="scratch",
                         on_cbw_error="break-snapshot")
            undo.callback(self.qmp.run, "blockdev-del", node_name="cbw")
            self.lead("cbw")
            undo.callback(self.lead, self.node)
            self.qmp.run("blockdev-add", driver="snapshot-access", node_name="frozen", file="cbw")
            undo.callback(self.qmp.run, "blockdev-del", node_name="frozen")
            yield "frozen"

    @contextlib.contextmanager
    def exported(self, node, bitmap):
        """A node as a read-only export, with the bitmap that tells what changed, if there is one."""
        bitmaps = {"bitmaps": [{"node": self.node, "name": bitmap}]} if bitmap else {}
        self.qmp.run("block-export-add", type="nbd", id=EXPORT, node_name=node, name=EXPORT, **bitmaps)
        try:
            yield EXPORT
        finally:
            self.qmp.run("block-export-del", id=EXPORT, mode="hard")
            self.qmp.wait("BLOCK_EXPORT_DELETED", id=EXPORT)


def extents(handle, context, size):
    """All extents of a meta context, merged: (offset, length, flags)."""
    found, offset = [], 0

    def take(name, at, entries, _error):
        nonlocal offset
        if name == context:
            for length, flags in zip(entries[::2], entries[1::2]):
                length = min(length, size - offset)
                if found and found[-1][2] == flags:
                    found[-1] = (found[-1][0], found[-1][1] + length, flags)
                elif length:
                    found.append((offset, length, flags))
                offset += length
        return 0

    while offset < size:
        before = offset
        handle.block_status(min(size - offset, 1 << 30), offset, take)
        if offset == before:
            raise SystemExit(f"the server tells nothing of {context}")
    return found


def connect(path, export, contexts):
    handle = nbd.NBD()
    for context in contexts:
        handle.add_meta_context(context)
    handle.set_export_name(export)
    handle.connect_unix(path)
    for context in contexts:
        if not handle.can_meta_context(context):
            raise SystemExit(f"the server does not tell of {context}")
    return handle


def pull(path, export, bitmap):
    """The pieces that changed: (offset, length, data), data None for zeroes."""
    contexts = [nbd.CONTEXT_BASE_ALLOCATION] + ([f"qemu:dirty-bitmap:{bitmap}"] if bitmap else [])
    handle = connect(path, export, contexts)
    size = handle.get_size()
    zero = [(offset, offset + length) for offset, length, flags in extents(handle, contexts[0], size) if flags & nbd.STATE_ZERO]
    if bitmap:
        changed = [(offset, length) for offset, length, flags in extents(handle, contexts[1], size) if flags & 1]
    else:
        changed = [(0, size)]
    # No request is larger than the server takes.
    piece = min(PIECE, handle.get_block_size(nbd.SIZE_MAXIMUM) or PIECE)
    at = 0
    for offset, length in changed:
        end = offset + length
        while offset < end:
            while at < len(zero) and zero[at][1] <= offset:
                at += 1
            if at < len(zero) and zero[at][0] <= offset:
                step = min(end, zero[at][1], offset + PIECE) - offset
                yield offset, step, None
            else:
                step = min(end, zero[at][0] if at < len(zero) else end, offset + piece) - offset
                data = handle.pread(step, offset)
                yield offset, step, None if data == ZERO[:step] else bytes(data)
            offset += step
    handle.shutdown()


def differences(path, export, restored):
    """Where the export and a restored file differ."""
    handle = connect(path, export, [])
    size, found = handle.get_size(), []
    with open(restored, "rb") as file:
        if os.path.getsize(restored) != size:
            found.append((0, "sizes"))
        for offset in range(0, size, PIECE):
            length = min(PIECE, size - offset)
            if handle.pread(length, offset) != file.read(length):
                found.append((offset, length))
    handle.shutdown()
    return found


def back_up(args):
    backups = Backups(args.folder)
    rounds = backups.rounds()
    disk = Disk(Qmp(args.qmp), args.node, args.gate, args.group)
    last = rounds[-1]["bitmap"] if rounds else None
    if last and last not in disk.bitmaps():
        raise SystemExit(f"node '{args.node}' has no bitmap '{last}': begin anew in an empty folder")
    new = f"backup-{len(rounds):04}"
    scratch = args.scratch or os.path.join(tempfile.gettempdir(), f"scratch-{os.getpid()}.raw")
    disk.tidy_up(last, new)
    # It records from before the disk is frozen, and the old one until after: what is written in between is in both.
    disk.qmp.run("block-dirty-bitmap-add", node=args.node, name=new, persistent=True)
    try:
        with disk.frozen(scratch) as frozen:
            if last:
                disk.qmp.run("block-dirty-bitmap-disable", node=args.node, name=last)
            with disk.exported(frozen, last) as export:
                about = backups.store(disk.size(), new, pull(args.nbd, export, last))
                if args.verify:
                    restored = backups.path("verify.raw")
                    backups.restore(restored)
                    wrong = differences(args.nbd, export, restored)
                    os.unlink(restored)
                    if wrong:
                        raise SystemExit(f"the backup differs from the disk at {wrong[:10]}")
    except BaseException:
        if len(backups.rounds()) == len(rounds):
            disk.tidy_up(last, new)
        raise
    if last:
        disk.qmp.run("block-dirty-bitmap-remove", node=args.node, name=last)
    tell(about)


def tell(about):
    data = sum(length for _, length, is_data in about["pieces"] if is_data)
    zeroes = sum(length for _, length, is_data in about["pieces"] if not is_data)
    print(f"round {about['round']}: {data} bytes of data, {zeroes} of zeroes, of {about['size']}")


def main():
    parser = argparse.ArgumentParser(description="Incremental backups of a disk in use, over QMP and NBD.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    back = commands.add_parser("round", help="pull what has changed since the last round; all, at first")
    back.add_argument("folder", help="where the rounds are")
    back.add_argument("--qmp", required=True, help="the daemon's QMP socket")
    back.add_argument("--nbd", required=True, help="the socket of its NBD server")
    back.add_argument("--node", required=True, help="the disk's node")
    back.add_argument("--gate", required=True, help="the throttle node above it, through which all writers go")
    back.add_argument("--group", required=True, help="the gate's throttle group")
    back.add_argument("--scratch", help="where what is overwritten meanwhile is kept")
    back.add_argument("--verify", action="store_true", help="compare all rounds with the disk before it goes on")
    back.set_defaults(run=back_up)
    restore = commands.add_parser("restore", help="write the disk of the last round into a file")
    restore.add_argument("folder")
    restore.add_argument("target")
    restore.set_defaults(run=lambda args: Backups(args.folder).restore(args.target))
    listing = commands.add_parser("list", help="tell of all rounds")
    listing.add_argument("folder")
    listing.set_defaults(run=lambda args: [tell(about) for about in Backups(args.folder).rounds()])
    args = parser.parse_args()
    try:
        args.run(args)
    except (Refused, ConnectionError, nbd.Error, OSError) as error:
        sys.exit(f"backup.py: {error}")


if __name__ == "__main__":
    main()
