"""Commands at random: every one is answered, nothing crashes or hangs, and nothing is left behind.

    CAIRN_TEST_COMMANDS   commands of a client in one round (600)
    CAIRN_TEST_SECONDS    time for the rounds of one program (50)
    CAIRN_TEST_ROUNDS     their seeds, separated by commas, instead of those below and a new one

A round: a chain of images with an export that a guest writes to; clients whose commands are drawn from the schema, each from
its own seed; then everything is taken away, by public commands, and must be gone. The rounds of the first seeds are the same
in every run; the last one's seed is printed.
"""

import collections
import os
import random
import resource
import threading
import time

import wire
from grammar import Grammar
from harness import MIB, SEED, Daemon, QmpError, face, main, number, peer, proof, wait_for

COMMANDS, SECONDS = number("CAIRN_TEST_COMMANDS", 600), number("CAIRN_TEST_SECONDS", 50)
ROUNDS = [int(seed) for seed in os.environ.get("CAIRN_TEST_ROUNDS", "").split(",") if seed] or [1, 2, 3, 4, SEED]
CLIENTS = 2
# Longer than this for an answer is a hang, on a loaded machine too.
PATIENCE = 90
SIZE = 8 * MIB
# They end the session or the program, or answer the same at each call, at length.
LEFT_OUT = ("quit", "query-qmp-schema", "query-commands", "qmp_capabilities", "human-monitor-command", "device_add")

HUMAN = ("info block", "info blockstats", "info block-jobs", "info snapshots", "commit all", "commit {device}", "savevm s1",
         "loadvm s1", "delvm s1", "eject -f {device}", "change {device} {file}", "block_resize {device} 8M",
         "drive_add 0 if=none,id={device},file={file},format=qcow2", "drive_del {device}", "block_stream {device}",
         "drive_mirror -f {device} {file} qcow2", "drive_backup -f {device} {file} qcow2", "block_job_cancel -f {device}",
         "block_job_set_speed {device} 1M", "snapshot_blkdev {device} {file} qcow2", "snapshot_blkdev_internal {device} i1",
         "snapshot_delete_blkdev_internal {device} i1", 'qemu-io {device} "write -P 3 64k 64k"',
         'qemu-io {node} "read 0 64k"', 'qemu-io {device} "discard 0 1M"', "block_set_io_throttle {device} 0 0 0 0 0 0",
         "nonsense", "", "help", "info nonsense", "qemu-io {device}", 'qemu-io {node} "aio_write 0 64k"')
MODELS = ("virtio-blk", "scsi-hd", "scsi-cd", "ide-hd", "ide-cd", "floppy", "virtio-scsi", "nonsense")


class Names:
    """What commands may be about: mostly what is there, as far as it was seen, and what may come."""

    groups = ("g0", "g1", "nope")

    def __init__(self, place, rng, machine):
        self.place, self.rng = place, rng
        self.all_devices = ["d0", "d1", "d2"] if machine else ["d0", "d1"]
        self.seen = {"nodes": [], "jobs": [], "exports": [], "bitmaps": [], "devices": [], "groups": []}
        # Nodes, each with the name of a bitmap of it.
        self.marked = []

    def look(self, qmp):
        """Sees what is there."""
        nodes = qmp.run("query-named-block-nodes", {"flat": True})
        # Those without a name of their own are rarely what a command is about.
        nodes = [node for node in nodes if node["node-name"][0] != "#" or self.rng.random() < 0.1]
        self.marked = [(node["node-name"], bitmap["name"]) for node in nodes for bitmap in node.get("dirty-bitmaps", [])]
        bitmaps = [name for _, name in self.marked]
        self.seen = {"nodes": [node["node-name"] for node in nodes], "bitmaps": bitmaps,
                     "jobs": [job["id"] for job in qmp.run("query-jobs")],
                     "exports": [export["id"] for export in qmp.run("query-block-exports")],
                     "devices": [device["device"] for device in qmp.run("query-block")],
                     "groups": [each["name"] for each in qmp.run("qom-list", {"path": "/objects"})]}

    def mostly(self, kind, others):
        return self.seen[kind] if self.seen[kind] and self.rng.random() < 0.8 else others

    def nodes(self):
        top = ["n2"] if "n2" in self.seen["nodes"] and self.rng.random() < 0.4 else []
        return top or self.mostly("nodes", ["n0", "n1", "n2", *(f"r{i}" for i in range(8)), *self.all_devices])

    def new_nodes(self):
        return [f"r{i}" for i in range(10)]

    def devices(self):
        return self.all_devices

    def jobs(self):
        return self.mostly("jobs", self.new_jobs())

    def new_jobs(self):
        return [f"j{i}" for i in range(6)]

    def exports(self):
        return self.mostly("exports", ["e0", "e1"])

    def bitmaps(self):
        return self.mostly("bitmaps", ["b0", "b1", "b2"])

    def files(self):
        return [self.place.path(name) for name in (*(f"f{i}" for i in range(12)), "i0", "i1", "i2", "nowhere/x")]

    def any(self):
        return [*self.nodes(), *self.jobs(), *self.exports(), *self.bitmaps(), *self.groups, "p0", "p1"]


class Client:
    """A client with its own commands."""

    def __init__(self, world, seed):
        self.world, self.rng = world, random.Random(seed)
        self.qmp = world.daemon.qmp(seconds=PATIENCE)
        self.names = Names(world.place, self.rng, world.machine)
        schema = self.qmp.run("query-qmp-schema")
        self.grammar = Grammar(schema, self.names, self.rng, LEFT_OUT)
        self.counts = collections.Counter()

    def step(self, number):
        if number % 8 == 0:
            self.names.look(self.qmp)
        for name, arguments in self.draw():
            self.one(name, arguments)
        # Jobs get on meanwhile.
        time.sleep(self.rng.random() * 0.02)

    def one(self, name, arguments):
        self.world.tell(f"{self.qmp.number + 1} {name} {arguments}")
        try:
            self.qmp.run(name, arguments if isinstance(arguments, dict) else {})
            self.counts[name] += 1
        except QmpError as error:
            assert "defect" not in error.desc, f"{name} {arguments}: {error}"
            self.counts[f"-{name}"] += 1
            self.world.tell(f"  {name}: {error}")
        except TimeoutError as error:
            raise AssertionError(f"no answer within {PATIENCE} s: {name} {arguments}") from error
        del self.qmp.events[:-50]

    def draw(self):
        """One command, or a few that belong together."""
        choose, likely = self.rng.choice, self.rng.random()
        if self.world.machine and likely < 0.12:
            line = choose(HUMAN).format(device=choose(self.names.devices()), node=choose(self.names.nodes()),
                                        file=choose(self.names.files()))
            return [("human-monitor-command", {"command-line": line})]
        if self.world.machine and likely < 0.17:
            drive = choose(self.names.nodes() + self.names.devices())
            return [("device_add", {"driver": choose(MODELS), "id": choose(("p0", "p1", "p2")), "drive": drive})]
        if likely < 0.20:
            return [part for part in self.world.parts() if self.lacks(*part)]
        if likely < 0.25:
            # Whole images, so that there is something to work with.
            return [("blockdev-add", {"driver": "qcow2", "node-name": choose(self.names.new_nodes()), "file": {
                "driver": "file", "filename": choose(self.names.files())}})]
        if likely < 0.65:
            return [self.rng.choice((self.job, self.job, self.action, self.transaction, self.change))()]
        return [self.grammar.command()]

    def lacks(self, command, arguments):
        """Whether something of what a round begins with is gone."""
        seen, name = self.names.seen, arguments.get("node-name") or arguments.get("id")
        if command == "nbd-server-start":
            return "guest" not in seen["exports"]
        return name not in seen["nodes"] + seen["exports"] + seen["devices"] + seen["groups"]

    def job(self):
        """A job that is likely to begin, or something that happens to one."""
        names, choose = self.names, self.rng.choice
        node, verbs = choose(names.nodes()), {"id": choose(names.jobs())}
        about = {"job-id": choose(names.new_jobs()), "device": node}
        for name, values in (("speed", (0, 65536, 1 << 20)), ("auto-finalize", (False,)), ("auto-dismiss", (False,)),
                             ("filter-node-name", names.new_nodes())):
            if self.rng.random() < 0.2:
                about[name] = choose(values)
        stream = {name: about[name] for name in about if name != "filter-node-name"}
        to = {"target": choose((choose(self.fresh()), choose(names.nodes()))), "sync": choose(("full", "top", "none"))}
        file = {"target": choose(names.files()[:12]), "sync": to["sync"], "format": "qcow2"}
        mode = {"copy-mode": choose(("background", "write-blocking"))}
        return choose((
            ("block-stream", stream), ("block-commit", about), ("blockdev-mirror", about | to | mode),
            ("blockdev-backup", about | to), ("blockdev-backup", about | to | self.increment()), ("drive-mirror", stream | file),
            ("drive-backup", stream | file), ("job-complete", verbs), ("job-cancel", verbs), ("job-finalize", verbs),
            ("job-dismiss", verbs), ("job-dismiss", verbs), ("job-pause", verbs), ("job-resume", verbs),
            ("block-job-cancel", {"device": verbs["id"]}), ("block-job-set-speed", {"device": verbs["id"], "speed": 0}),
        ))

    def fresh(self):
        """Nodes that only these commands have made."""
        return [name for name in self.names.seen["nodes"] if name.startswith("r")] or self.names.new_nodes()

    def increment(self):
        device, bitmap = self.rng.choice(self.names.marked or [("n2", "b0")])
        return {"device": device, "sync": self.rng.choice(("incremental", "bitmap")), "bitmap": bitmap, "bitmap-mode": "on-success"}

    def action(self):
        """An action that a transaction may have, and most of which are commands too."""
        names, choose = self.names, self.rng.choice
        node = choose(names.nodes())
        marked, bitmap = choose(names.marked) if names.marked else (node, "b0")
        return choose((
            ("blockdev-snapshot-sync", {"node-name": node, "format": "qcow2", "snapshot-file": choose(names.files()[:12]),
                                        "snapshot-node-name": choose(names.new_nodes())}),
            ("blockdev-snapshot", {"node": node, "overlay": choose(self.fresh())}),
            ("blockdev-snapshot-internal-sync", {"device": node, "name": choose(("s0", "s1", "s2"))}),
            ("block-dirty-bitmap-add", {"node": node, "name": choose(("b0", "b1", "b2")), "persistent": self.rng.random() < 0.5}),
            ("block-dirty-bitmap-clear", {"node": marked, "name": bitmap}),
            ("block-dirty-bitmap-remove", {"node": marked, "name": bitmap}),
            ("block-dirty-bitmap-disable", {"node": marked, "name": bitmap}),
            ("block-dirty-bitmap-enable", {"node": marked, "name": bitmap}),
            ("block-dirty-bitmap-merge", {"node": marked, "target": bitmap, "bitmaps": [{"node": marked, "name": bitmap}]}),
            ("blockdev-backup", {"job-id": choose(names.new_jobs()), "device": node, "target": choose(self.fresh()),
                                 "sync": choose(("full", "none"))}),
        ))

    def transaction(self):
        actions = [self.action() for _ in range(self.rng.choice((1, 2, 2, 3)))]
        if self.rng.random() < 0.15:
            actions.append(("abort", {}))
        arguments = {"actions": [{"type": kind, "data": data} for kind, data in actions]}
        if self.rng.random() < (0.5 if {kind for kind, _ in actions} == {"blockdev-backup"} else 0.03):
            arguments["properties"] = {"completion-mode": "grouped"}
        return "transaction", arguments

    def change(self):
        """A change of the graph that is likely to be possible."""
        names, choose = self.names, self.rng.choice
        node, number = choose(names.nodes()), choose("012")
        reopened = {"driver": "qcow2", "node-name": f"n{number}", "discard": choose(("unmap", "ignore")),
                    "detect-zeroes": choose(("off", "on")), "read-only": self.rng.random() < 0.2,
                    "file": {"driver": "file", "filename": self.world.place.path(f"i{number}")}}
        if number != "0":
            reopened["backing"] = choose((f"n{int(number) - 1}", None))
        layer = {"driver": choose(("raw", "throttle", "copy-on-read", "compress", "preallocate")), "file": node,
                 "node-name": choose(names.new_nodes())}
        if layer["driver"] == "throttle":
            layer["throttle-group"] = choose(names.groups)
        return choose((
            ("blockdev-reopen", {"options": [reopened]}), ("blockdev-add", layer), ("blockdev-del", {"node-name": choose(self.fresh())}),
            ("qom-set", {"path": "/objects/g0", "property": "limits", "value": {"bps-total": choose((0, 1 << 20, 16 << 20))}}),
            ("block_resize", {"node-name": node, "size": choose((SIZE, SIZE, 2 * SIZE))}),
            ("block-export-add", {"type": "nbd", "id": choose(("e0", "e1")), "node-name": node, "name": choose(("x", "y")),
                                  "writable": self.rng.random() < 0.5}),
            ("block-export-del", {"id": choose(names.exports()), "mode": choose(("safe", "hard"))}),
        ))


class World:
    """One round: the program, the images, the guest."""

    def __init__(self, place, seed, machine):
        self.place, self.machine, self.lock = place, machine, threading.Lock()
        # The last thing that was refused at the end.
        self.refused = ""
        for name, below in (("i0", None), ("i1", "i0"), ("i2", "i1"), ("f0", None), ("f1", "f0"), *((f"f{i}", None) for i in range(2, 9))):
            backing = ["-b", place.path(below), "-F", "qcow2"] if below else []
            place.ok([*face("img"), "create", "-q", "-f", "qcow2", *backing, place.path(name), str(SIZE)])
        # One round in two speaks the interface's first generation, where the generations contradict each other.
        self.daemon = self.start(["--compat", "2.1"] if seed % 2 else [])
        self.qmp = self.daemon.qmp(seconds=PATIENCE)
        for command, arguments in self.parts():
            self.qmp.run(command, arguments)
        self.clients = [Client(self, f"{seed}:{index}") for index in range(CLIENTS)]
        self.failure, self.ends = None, False
        self.guest = threading.Thread(target=self.write, args=(random.Random(f"{seed}:guest"),), daemon=True)
        self.guest.start()

    def start(self, options):
        # Sizes are drawn at random, and space may be asked for.
        limited = lambda: (os.setpgid(0, 0), resource.setrlimit(resource.RLIMIT_FSIZE, (32 * MIB, 32 * MIB)))
        if not self.machine:
            return Daemon(self.place, *options, nbd=False, preexec_fn=limited)
        daemon = Daemon.__new__(Daemon)
        daemon.place, daemon.qmp_path = self.place, self.place.path("d.qmp")
        daemon.nbd_path = self.place.path("d.nbd")
        line = [*face("machine"), "-nodefaults", "-display", "none", "-qmp", f"unix:{daemon.qmp_path},server=on,wait=off",
                "-drive", f"if=none,id=d2,file={self.place.path('f3')},format=qcow2", *options]
        daemon.process = self.place.serve(line, daemon.qmp_path, preexec_fn=limited)
        return daemon

    def parts(self):
        """What a round begins with; commands may take it away, and these bring it back."""
        parts = [("nbd-server-start", {"addr": {"type": "unix", "data": {"path": self.daemon.nbd_path}}, "max-connections": 0})]
        parts += [("object-add", {"qom-type": "throttle-group", "id": group}) for group in ("g0", "g1")]
        backing = None
        for name in ("0", "1", "2"):
            file = {"driver": "file", "filename": self.place.path(f"i{name}")}
            parts.append(("blockdev-add", {"driver": "qcow2", "node-name": f"n{name}", "backing": backing, "file": file,
                                           "discard": "unmap"}))
            backing = f"n{name}"
        for device, name in (("d0", "f2"), ("d1", "f4")):
            file = {"driver": "file", "filename": self.place.path(name)}
            parts.append(("blockdev-add", {"driver": "qcow2", "id": device, "file": file}))
        export = {"type": "nbd", "id": "guest", "node-name": "n2", "name": "guest", "writable": True}
        return [*parts, ("block-export-add", export)]

    def tell(self, line):
        with self.lock:
            self.place.tell(line)

    def write(self, rng):
        """A guest: it goes on when its export was taken away and is there again. What it is answered does not matter."""
        while not self.ends:
            try:
                client = wire.Client(self.daemon.nbd_path, PATIENCE).go("guest")
                while not self.ends:
                    kind = rng.choice((wire.WRITE, wire.WRITE, wire.READ, wire.ZERO, wire.TRIM, wire.FLUSH))
                    offset, length = (0, 0) if kind == wire.FLUSH else (rng.randrange(SIZE // 65536) * 65536, 65536)
                    client.request(kind, offset, length, bytes([rng.randrange(256)]) * (kind == wire.WRITE and length))
                    client.answer(kind == wire.READ and length)
                    time.sleep(0.002)
            except (OSError, EOFError, AssertionError):
                time.sleep(0.05)

    def drive(self, client, count):
        try:
            for number in range(count):
                if self.failure:
                    return
                client.step(number)
        except BaseException as error:
            self.failure = self.failure or error

    def run(self, count):
        threads = [threading.Thread(target=self.drive, args=(client, count), daemon=True) for client in self.clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.failure:
            raise self.failure
        self.daemon.alive()

    # --- the end: everything is taken away ---

    def tried(self, command, arguments=None):
        """Runs a command that may be refused."""
        try:
            result = self.qmp.run(command, arguments)
            self.tell(f"end {command} {arguments or ''}")
            return result
        except QmpError as error:
            if error.desc != self.refused:
                self.refused = error.desc
                self.tell(f"end {command} {arguments or ''}: {error}")
            return None

    def jobs_end(self):
        for job in self.qmp.run("query-jobs"):
            name = {"id": job["id"]}
            if job["status"] in ("paused", "standby"):
                self.tried("job-resume", name)
            for verb in ("job-cancel", "job-finalize", "job-dismiss"):
                self.tried(verb, name)
            for verb in ("block-job-cancel", "block-job-resume"):
                self.tried(verb, {"device": job["id"]})
        return not self.qmp.run("query-jobs")

    def exports_end(self):
        for export in self.qmp.run("query-block-exports"):
            self.tried("block-export-del", {"id": export["id"], "mode": "hard"})
        return not self.qmp.run("query-block-exports")

    def nodes_end(self):
        """Whether all nodes and devices are gone; they go from above to below."""
        for device in self.qmp.run("query-block"):
            self.tried("blockdev-del", {"node-name": device["device"]})
            if self.machine:
                self.tried("human-monitor-command", {"command-line": f"drive_del {device['device']}"})
        for node in self.qmp.run("query-named-block-nodes", {"flat": True}):
            self.tried("blockdev-del", {"node-name": node["node-name"]})
        return not self.qmp.run("query-named-block-nodes") and not self.qmp.run("query-block")

    def take_away(self):
        self.ends = True
        self.tried("cont")
        for group in ("g0", "g1"):
            self.tried("qom-set", {"path": f"/objects/{group}", "property": "limits", "value": {}})
        for what, gone in (("exports", self.exports_end), ("jobs", self.jobs_end)):
            wait_for(f"{what} to end", gone, PATIENCE, 0.05)
        if self.machine:
            for model in ("p0", "p1", "p2"):
                self.tried("device_del", {"id": model})
            self.tried("system_reset")
        try:
            wait_for("nodes to go", self.nodes_end, 20, 0.05)
        except AssertionError as error:
            left = [(node["node-name"], node["drv"]) for node in self.qmp.run("query-named-block-nodes", {"flat": True})]
            raise AssertionError(f"left behind: {left} {self.qmp.run('query-block')}") from error
        self.guest.join(PATIENCE)
        assert not self.guest.is_alive(), "the guest's last request is not answered"
        self.qmp.run("quit")
        code = wait_for("the end of the program", lambda: (self.daemon.process.poll(),)[0] is not None, PATIENCE)
        assert code and self.daemon.process.returncode == 0, f"exit code {self.daemon.process.returncode}: {self.daemon.log()[-2000:]}"
        assert "panicked" not in self.daemon.log(), self.daemon.log()


def rounds(place, machine):
    began, total = time.monotonic(), collections.Counter()
    done = 0
    for seed in ROUNDS:
        if done and time.monotonic() - began > SECONDS:
            break
        done += 1
        place.story.clear()
        place.tell(f"round {seed}")
        for name in os.listdir(place.dir):
            if not os.path.isdir(place.path(name)):
                os.unlink(place.path(name))
        try:
            world = World(place, seed, machine)
            world.run(COMMANDS)
            world.take_away()
        except Exception as error:
            raise AssertionError(f"round {seed}: {error}") from error
        for client in world.clients:
            total.update(client.counts)
    if os.environ.get("CAIRN_TEST_VERBOSE"):
        for name in sorted(name for name in total if not name.startswith("-")):
            print(f"      {total[name]:5} done {total['-' + name]:5} refused {name}")
        print("      never done:", sorted(name[1:] for name in total if name.startswith("-") and not total[name[1:]]))
    print(f"      {done} rounds of {COMMANDS * CLIENTS} commands, {sum(n for name, n in total.items() if name[0] != '-')} carried out",
          flush=True)


@proof("a daemon answers every command of the schema, whatever its arguments, and nothing is left when all is taken away",
       seconds=4 * SECONDS + 240)
def _(place):
    rounds(place, machine=False)


@proof("so does a machine, with its devices and its monitor for people", seconds=4 * SECONDS + 240)
def _(place):
    rounds(place, machine=True)


if __name__ == "__main__":
    main("Commands at random")
