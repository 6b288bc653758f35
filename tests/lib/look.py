"""What people look at: `cairn graph`, `cairn top` and `cairn qmp`, beside our daemon and QEMU's."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
import xml.dom.minidom

from harness import MIB, Daemon, face, image_options, export_options, main, ours, peer, proof, wait_for

SERVERS = {"ours": None, "QEMU's": [peer("qemu-storage-daemon")]}


def servers(place):
    """Our daemon and QEMU's, each with an overlay that is exported."""
    for name, command in SERVERS.items():
        short = name[:2].lower()
        base, top = place.path(f"base-{short}.q"), place.path(f"top-{short}.q")
        place.ok([ours("qemu-img"), "create", "-q", "-f", "qcow2", base, "64M"])
        place.ok([ours("qemu-img"), "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", top])
        daemon = Daemon(place, *image_options("qcow2", "disk", top), *export_options("disk", name="d", export_id="e0"),
                        name=short, command=command)
        yield name, daemon


class Screen:
    """A program on a terminal of its own."""

    def __init__(self, place, command, columns=120, rows=30):
        self.master, slave = pty.openpty()
        self.before = termios.tcgetattr(slave)
        self.slave, self.text = slave, ""
        self.resize(columns, rows)

        def child():
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, preexec_fn=child, cwd=place.dir,
                                        env={**os.environ, "TERM": "xterm"})
        place.processes.append(self.process)
        self.place = place

    def resize(self, columns, rows):
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys):
        os.write(self.master, keys.encode())

    def read(self, seconds):
        ready, _, _ = select.select([self.master], [], [], seconds)
        if ready:
            self.text += os.read(self.master, 65536).decode(errors="replace")

    def see(self, pattern, seconds=60):
        """Waits until the text since the last sight matches, and gives the match."""
        end = time.monotonic() + seconds
        while True:
            match = re.search(pattern, self.text, re.S)
            if match:
                self.text = self.text[match.end():]
                return match
            assert time.monotonic() < end, f"not seen: {pattern!r} in {self.text[-3000:]!r}"
            self.read(0.2)

    def left(self, seconds=30):
        """The exit code, with the terminal as it was before."""
        end = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < end, "did not end"
            self.read(0.05)
        self.place.processes.remove(self.process)
        self.read(0.1)
        now = termios.tcgetattr(self.slave)
        assert now == self.before, f"the terminal is not as it was: {now} {self.before}"
        return self.process.returncode


@proof("the graph is drawn as text, DOT and SVG, and the same of our daemon as of QEMU's")
def _(place):
    texts = {}
    for name, daemon in servers(place):
        qmp = daemon.qmp()
        qmp.run("blockdev-add", {"driver": "null-co", "node-name": "alone"})
        qmp.close()  # QEMU's monitor serves one client
        text = place.ok(face("graph") + [daemon.qmp_path]).out
        # Generated names differ, and the file names.
        texts[name] = re.sub(r"#block\d+", "#block", text).replace(f"-{daemon.name}.q", ".q")
        assert "export e0 [disk, nbd]\n└─ rw--/rwu- disk [qcow2, 64 MiB] " in text, text
        assert re.search(r"backing r---/rwus #block\d+ \[qcow2, read-only, 64 MiB\]", text), text
        assert re.search(r"^alone \[null-co", text, re.M), text
        dot = place.ok(face("graph") + ["--dot", daemon.qmp_path]).out
        assert dot.startswith("digraph") and dot.count("->") == 4 and dot.count("shape=") == 6, dot
        svg = xml.dom.minidom.parseString(place.ok(face("graph") + ["--svg", daemon.qmp_path]).out)
        assert len(svg.getElementsByTagName("rect")) == 6 and len(svg.getElementsByTagName("polyline")) == 4
        assert daemon.name in svg.toxml()
        daemon.stop()
    lines = {name: sorted(text.split("\n")) for name, text in texts.items()}
    assert len(set(map(len, lines.values()))) == 1, texts
    strip = lambda line: re.sub(r"^[ │├└─]*", "", line)
    ours_, theirs = (sorted(map(strip, lines[name])) for name in SERVERS)
    for one, other in zip(ours_, theirs):
        assert re.sub(r"\d+ KiB|\d+ GiB", "N", one) == re.sub(r"\d+ KiB|\d+ GiB", "N", other), texts


@proof("names that mean something to XML, DOT or a terminal stay names")
def _(place):
    path = place.path("a<b>&\"'\x1b[2J.raw")
    place.write("a<b>&\"'\x1b[2J.raw", bytes(MIB))
    daemon = Daemon(place, "--blockdev", json.dumps({"driver": "raw", "node-name": "disk", "file": {"driver": "file", "filename": path}}))
    for form in ("--text", "--dot", "--svg"):
        out = place.ok(face("graph") + [form, daemon.qmp_path]).out
        assert "\x1b" not in out, out
    xml.dom.minidom.parseString(out)
    assert "a&lt;b&gt;&amp;&quot;&apos;?[2J.raw" in out, out
    assert "\x1b" not in place.ok(face("top") + ["-i", "0.1", daemon.qmp_path]).out
    daemon.stop()


@proof("top shows jobs with progress and time left, and rates, as text and as JSON")
def _(place):
    for name, daemon in servers(place):
        qmp = daemon.qmp()
        top = place.path(f"top-{daemon.name}.q")
        place.ok([ours("qemu-io"), "-f", "raw", "-c", "write -P 7 0 32M", "-c", "read 0 1M", daemon.uri("d")])
        target = place.path(f"target-{daemon.name}.raw")
        place.write(os.path.basename(target), bytes(64 * MIB))
        qmp.run("blockdev-add", {"driver": "raw", "node-name": "t", "file": {"driver": "file", "filename": target}})
        qmp.run("blockdev-mirror", {"job-id": "copy", "device": "disk", "target": "t", "sync": "full", "speed": 4 * MIB})
        qmp.close()
        look = place.ok(face("top") + ["-i", "1.5", daemon.qmp_path]).out
        assert re.search(r"^copy +mirror +running +[█░]{20} +\d+ % .* 4 MiB/s", look, re.M), look
        assert re.search(r"^e0 +nbd +\S+", look, re.M) and re.search(r"^disk +qcow2 +rw +64 MiB", look, re.M), look
        looks = [json.loads(line) for line in place.ok(face("top") + ["--json", "-n", "4", "-i", "1.2", daemon.qmp_path]).out.splitlines()]
        assert len(looks) == 4, looks
        (job,) = looks[-1]["jobs"]
        assert job["type"] == "mirror" and job["speed"] == 4 * MIB and job["total-progress"] == 64 * MIB, job
        # A speed limit is kept by steps, which may be longer than a look.
        assert job["rate"] > 0 and 0 < job["left"] < 600, job
        (node,) = [node for node in looks[-1]["nodes"] if node["node-name"] == "disk"]
        if name == "ours":
            assert node["read-bytes"] >= 4 * MIB and node["reads"] >= 4 and any(n["read-rate"] > 0 for look in looks for n in look["nodes"] if "read-rate" in n) and node["writes-rate"] == 0, node
        qmp = daemon.qmp()
        qmp.run("block-job-cancel", device="copy", force=True)
        qmp.wait_event("BLOCK_JOB_CANCELLED")
        place.refused(face("top") + ["-i", "0", daemon.qmp_path], "interval")
        daemon.stop()
    place.refused(face("top") + [place.path("nothing")], "could not connect")


@proof("top is live on a terminal: it scrolls, follows its size, and gives the terminal back on q, a signal, and the server's end")
def _(place):
    for name, daemon in servers(place):
        line = face("top") + ["-i", "0.2", daemon.qmp_path]
        screen = Screen(place, line)
        screen.see(r"\x1b\[\?1049h")
        screen.see(r"EXPORT.*e0.*NODE.*disk")
        screen.resize(40, 6)
        screen.process.send_signal(signal.SIGWINCH)
        screen.see(r"more lines")
        for text in re.findall(r"\x1b\[H(.*?)\x1b\[J", screen.text, re.S)[-1:]:
            rows = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", row) for row in text.split("\n")]
            assert len(rows) <= 6 and all(len(row) <= 40 for row in rows), rows
        screen.type("\x1b[B\x1b[B ")
        screen.see(r"\x1b\[H")
        screen.type("q")
        screen.see(r"\x1b\[\?1049l")
        assert screen.left() == 0
        for how in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            screen = Screen(place, line)
            screen.see(r"EXPORT")
            screen.process.send_signal(how)
            assert screen.left() == 0
        screen = Screen(place, line)
        screen.see(r"EXPORT")
        screen.type("\x03")
        assert screen.left() == 0
        screen = Screen(place, line)
        screen.see(r"EXPORT")
        daemon.stop()
        screen.see(r"\x1b\[\?1049l.*(closed the connection|connection failed|the program is ending)")
        assert screen.left() == 1


@proof("qmp carries out one command, those of a file, and whole requests, and its exit code tells how that went")
def _(place):
    for name, daemon in servers(place):
        qmp = face("qmp") + [daemon.qmp_path]
        assert place.ok(qmp + ["query-version"]).json()["qemu"]["major"] >= 10
        place.ok(qmp + ["blockdev-add", "node-name=n", "driver=null-co", "size=1M", "read-zeroes=on"])
        place.ok(qmp + ["blockdev-add", "driver=raw", "node-name=r", "file.driver=file", "file.filename=" + place.write("r", b"")])
        place.ok(qmp + ["block_resize", "node-name=r", "size=128M"])
        assert place.ok(face("qmp") + ["-c", daemon.qmp_path, '{"execute": "query-block-exports", "id": 1}']).out.count("\n") == 1
        refused = place.refused(qmp + ["blockdev-del", "node-name=nothing"], "blockdev-del:", "nothing")
        assert refused.code == 1 and refused.out == "", refused
        unknown = place.refused(qmp + ["no-such-command"], "CommandNotFound")
        assert unknown.code == 1, unknown
        assert place.refused(qmp + ["block_resize", "size=x"], "not a whole number").code == 2
        script = """
            # comments and empty lines are passed over

            query-jobs
            blockdev-add driver=null-co
               node-name
            blockdev-add driver=null-co node-name=second
            {"execute": "blockdev-del",
             "arguments": {"node-name": "second"}}
            blockdev-del node-name="n"
        """
        run = place.run(qmp, stdin=script)
        # The third and fourth lines are refused, what follows is done.
        assert run.code == 1 and run.out.count("{") == 3 and run.err.count("\n") == 2, run
        nodes = place.ok(qmp + ["query-named-block-nodes", "flat=on"]).json()
        assert [node["image"]["virtual-size"] for node in nodes if node["node-name"] == "r"] == [128 * MIB]
        assert not [node for node in nodes if node["node-name"] in ("n", "second")]
        listener = place.spawn(face("qmp") + ["-c", "-l", daemon.qmp_path, "block-export-del", "id=e0"])
        wait_for("the event to be printed", lambda: 'BLOCK_EXPORT_DELETED {"id": "e0"}' in open(listener.log).read())
        assert place.end(listener, signal.SIGINT) == 0
        place.ok(qmp + ["quit"])
    assert place.refused(face("qmp") + [place.path("nothing"), "query-version"], "could not connect").code == 2


@proof("the shell completes from the schema, keeps a history, shows events above the line, and gives the terminal back")
def _(place):
    for name, daemon in servers(place):
        screen = Screen(place, face("qmp") + [daemon.qmp_path])
        screen.see("qmp> ")
        screen.type("query-vers\t\r")
        screen.see(r"query-version.*\"qemu\".*qmp> ")
        screen.type("block_res\tnode-n\tnone siz\t64M\r")
        screen.see(r"block_resize node-name=none size=.*block_resize: .*none.*qmp> ")
        screen.type("block-export-del id=e0 mode=h\t\r")
        screen.see(r"BLOCK_EXPORT_DELETED \{.*qmp> ")
        screen.type("blockdev-add driver=null-c\tnode-name=z\r")
        screen.see(r"driver=null-co .*\{\s*\}.*qmp> ")
        screen.type("\x1b[A\r")
        screen.see(r"blockdev-add driver=null-co node-name=z.*[Dd]uplicate.*qmp> ")
        screen.type("help block_resize\r")
        screen.see(r"size=int.*qmp> ")
        screen.type("exit\r")
        assert screen.left() == 0
        screen = Screen(place, face("qmp") + [daemon.qmp_path])
        screen.see("qmp> ")
        screen.type("\x04")
        assert screen.left() == 0
        screen = Screen(place, face("qmp") + [daemon.qmp_path])
        screen.see("qmp> ")
        screen.type("half a li")
        daemon.stop()
        screen.see("closed the connection|connection failed")
        assert screen.left() == 2


@proof("partitions are told as sfdisk tells them, file systems by what made them, through an overlay", needs=["sfdisk"])
def _(place):
    layouts = {
        "gpt": "label: gpt\nsize=8M, type=uefi, name=boot\nsize=16M, type=linux, name=\"my root\"\nsize=4M, type=swap\n",
        "dos": "label: dos\nsize=8M, type=c\nsize=8M, type=83\nsize=4M, type=83\ntype=5\nsize=16M, type=83\nsize=8M, type=82\n",
    }
    for label, layout in layouts.items():
        disk = place.path(f"{label}.raw")
        place.ok(face("img") + ["create", "-q", "-f", "raw", disk, "64M"])
        place.ok(["sfdisk", "-q", disk], stdin=layout)
        told = json.loads(place.ok(["sfdisk", "-J", disk]).out)["partitiontable"]["partitions"]
        for partition, make in zip(told, (["mkfs.vfat"], ["mkfs.ext4", "-q", "-F"])):
            part = place.path("part")
            place.ok(["truncate", "-s", str(partition["size"] * 512), part])
            place.ok(make + [part])
            place.ok(["dd", f"if={part}", f"of={disk}", "bs=512", f"seek={partition['start']}", "conv=notrunc", "status=none"])
            os.unlink(part)
        overlay = place.path(f"{label}.qcow2")
        place.ok(face("img") + ["create", "-q", "-f", "qcow2", "-b", disk, "-F", "raw", overlay])
        content = json.loads(place.ok(face("img") + ["info", "-P", "--output=json", overlay]).out)["content"]
        assert content["partition-table"] == {"gpt": "gpt", "dos": "mbr"}[label], content
        numbers = [int(re.search(r"(\d+)$", partition["node"]).group(1)) for partition in told]
        kinds = [partition["type"].upper() if label == "gpt" else int(partition["type"], 16) for partition in told]
        expected = list(zip(numbers, [p["start"] * 512 for p in told], [p["size"] * 512 for p in told], kinds))
        kind = str.upper if label == "gpt" else (lambda kind: int(kind, 16))
        found = [(p["number"], p["start"], p["length"], kind(p["kind"])) for p in content["partitions"]]
        assert found == expected, (found, expected)
        assert [p.get("filesystem") for p in content["partitions"]][:2] == ["fat", "ext"], content
        if label == "gpt":
            assert [p.get("name") for p in content["partitions"]] == ["boot", "my root", None], content
        people = place.ok(face("img") + ["info", "--partitions", overlay]).out
        assert "2: ext" in people, people
    plain = place.path("plain.raw")
    place.ok(["truncate", "-s", "16M", plain])
    place.ok(["mkfs.ext4", "-q", "-F", plain])
    assert place.ok(face("img") + ["info", "-P", "-f", "raw", plain]).out.endswith("Content: ext\n")


@proof("the shell of the package qemu.qmp connects, and shows what it sent and what came")
def _(place):
    daemon = Daemon(place)
    lines = "blockdev-add driver=null-co node-name=n size=1048576\nblock_resize node-name=n size=4096\nquery-version\nblockdev-del node-name=n\n"
    shell = place.ok([sys.executable, "-m", "qemu.qmp.qmp_shell", daemon.qmp_path], stdin=lines)
    assert "Connected to QEMU 10.0" in shell.out and shell.out.count('{"return": {}}') == 3 and '"package": "cairn' in shell.out, shell
    daemon.stop()


main("what people look at")
