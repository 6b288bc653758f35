"""Files of an SSH server: ours beside QEMU's driver, who is let in, a server that is killed, and that no password is shown.

Environment:
    CAIRN_TEST_KILLS   how often the server is killed while a disk is in use (3)
"""

import base64
import getpass
import hashlib
import json
import os
import random
import signal
import subprocess

import nbd

from harness import (KIB, MIB, Daemon, QmpError, blockdev, export_options, face, free_port, main, peer, proof, raw_image, tcp_listening,
                     wait_for)
from workload import Disk

IMG, IO = face("img"), face("io")
NEEDS = ("/usr/sbin/sshd", "ssh-agent", "ssh-keygen")
PASSPHRASE, WRONG = "5ec4e7 pa55ph4ase", "w4ong pa55ph4ase"
USER = getpass.getuser()
KILLS = int(os.environ.get("CAIRN_TEST_KILLS", "3"))


class Server:
    """A server of the files of this host, with one user's key and an agent that holds it."""

    def __init__(self, place):
        self.place, self.port, self.process = place, free_port(), None
        for name in ("host_ed25519", "host_ecdsa", "user"):
            kind = "ecdsa" if name == "host_ecdsa" else "ed25519"
            place.ok(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", place.path(name)])
        with open(place.path("user.pub")) as key:
            place.write("authorized", key.read().encode())
        place.write("config", f"""ListenAddress 127.0.0.1:{self.port}
HostKey {place.path("host_ed25519")}
HostKey {place.path("host_ecdsa")}
AuthorizedKeysFile {place.path("authorized")}
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
UseDNS no
Subsystem sftp internal-sftp
MaxStartups 100
""".encode())
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        self.start()
        socket = place.path("agent")
        place.serve(["ssh-agent", "-D", "-a", socket], socket)
        self.env = dict(os.environ, SSH_AUTH_SOCK=socket, HOME=place.dir)
        place.ok(["ssh-add", "-q", place.path("user")], env=self.env)

    def start(self):
        self.process = self.place.spawn(["/usr/sbin/sshd", "-D", "-e", "-f", self.place.path("config")])
        wait_for("the port", lambda: tcp_listening(self.port))

    def kill(self):
        """Kills it with everything that it has started."""
        for pid in descendants(self.process.pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.place.end(self.process, signal.SIGKILL)

    def key(self, kind="ed25519"):
        with open(self.place.path(f"host_{kind}.pub")) as key:
            return key.read().split()[:2]

    def digest(self, how, kind="ed25519"):
        return hashlib.new(how, base64.b64decode(self.key(kind)[1])).hexdigest()

    def url(self, path, check="no", user=f"{USER}@"):
        return f"ssh://{user}127.0.0.1:{self.port}{path}" + (f"?host_key_check={check}" if check else "")

    def options(self, path, **more):
        """As a node of today's spelling."""
        return {"driver": "ssh", "server": {"host": "127.0.0.1", "port": str(self.port)}, "path": path, "user": USER,
                "host-key-check": {"mode": "none"}, **more}

    def ok(self, command, **more):
        return self.place.ok(command, env=self.env, **more)

    def refused(self, command, *words, env=None):
        return self.place.refused(command, *words, env=env or self.env)


def descendants(pid):
    found = []
    for name in os.listdir("/proc"):
        try:
            with open(f"/proc/{name}/stat") as stat:
                parent = int(stat.read().rsplit(")", 1)[1].split()[1])
        except (OSError, ValueError):
            continue
        if parent == pid:
            found += [int(name), *descendants(int(name))]
    return found


def json_name(options):
    return "json:" + json.dumps(options)


def same(one, other):
    with open(one, "rb") as first, open(other, "rb") as second:
        while True:
            data = first.read(MIB)
            if data != second.read(MIB):
                return False
            if not data:
                return True


@proof("what info and map tell is told as by QEMU, for each spelling", (*NEEDS, "peer:qemu-img"))
def _(place):
    server, disk = Server(place), raw_image(place, size=16 * MIB)
    small = place.write("small", b"x" * 1000)
    flat = f"driver=ssh,host=127.0.0.1,port={server.port},path={disk},user={USER}"
    now = f"driver=ssh,server.host=127.0.0.1,server.port={server.port},path={disk},user={USER},host-key-check.mode"
    digest = server.digest("sha256")
    for words in (
            [server.url(disk)],
            [server.url(disk, "no", "")],
            [server.url(disk, f"sha256:{digest}")],
            [server.url(disk, f"md5:{server.digest('md5')}")],
            [server.url(disk, f"sha1:{server.digest('sha1')}")],
            [server.url(small)],
            ["--image-opts", f"{flat},host_key_check=no"],
            ["--image-opts", f"{now}=none"],
            ["--image-opts", f"{now}=hash,host-key-check.type=sha256,host-key-check.hash={digest}"],
            [json_name(server.options(disk))],
            [json_name({"driver": "raw", "file": server.options(disk)})],
    ):
        for command in (["info"], ["info", "--output=json"], ["map", "--output=json"]):
            mine, theirs = (server.ok([*program, *command, *words]).out for program in (IMG, [peer("qemu-img")]))
            assert mine == theirs, f"{command} {words}\n{mine}\n{theirs}"
    for words in (["ssh://127.0.0.1/?x"], ["--image-opts", f"{flat},bad=1"], ["--image-opts", "driver=ssh,path=/x"],
                  ["--image-opts", "driver=ssh,port=22,path=/x"], [server.url("/x", "maybe")], ["ssh:x"]):
        assert server.place.run([*IMG, "info", *words]).code == 1


@proof("images that are made, converted and resized over SSH are what QEMU makes of them", (*NEEDS, "peer:qemu-img"))
def _(place):
    server, disk = Server(place), raw_image(place, size=32 * MIB)
    far = place.path("far")
    for form in ("raw", "qcow2", "vmdk"):
        if os.path.exists(far):
            os.unlink(far)
        server.ok([*IMG, "convert", "-O", form, disk, server.url(far)])
        server.ok([peer("qemu-img"), "compare", "-f", form, "-F", "raw", far, disk])
        for program in (IMG, [peer("qemu-img")]):
            server.ok([*program, "convert", "-f", form, "-O", "raw", server.url(far), place.path("back")])
            assert same(place.path("back"), disk), form
    server.ok([*IMG, "create", "-f", "qcow2", server.url(place.path("new"), "no"), "1G"])
    server.ok([peer("qemu-img"), "check", place.path("new")])
    server.ok([*IO, "-c", "write -P 5 1M 3M", "-c", "write -P 6 1023M 1M", "-c", "flush", server.url(place.path("new"))])
    server.ok([*IMG, "check", server.url(place.path("new"))])
    server.ok([peer("qemu-io"), "-c", "read -P 5 1M 3M", "-c", "read -P 6 1023M 1M", "-c", "read -P 0 4M 1M", place.path("new")])
    server.ok([*IMG, "create", "-f", "raw", server.url(place.path("raw")), "3M"])
    assert os.path.getsize(place.path("raw")) == 3 * MIB
    assert os.stat(place.path("raw")).st_mode & 0o777 == 0o644
    for size in ("5M", "1M"):
        server.ok([*IMG, "resize", "--shrink", "-f", "raw", server.url(place.path("raw")), size])
        assert os.path.getsize(place.path("raw")) == int(size[:-1]) * MIB
    server.refused([*IMG, "resize", "--preallocation=full", "-f", "raw", server.url(place.path("raw")), "9M"], "preallocation")
    # What could not be made is not there, and what was there stays.
    server.refused([*IMG, "create", "-f", "qcow2", "-o", "cluster_size=3", server.url(place.path("none")), "1M"], "cluster size")
    assert not os.path.exists(place.path("none"))
    server.refused([*IMG, "create", "-f", "qcow2", "-o", "cluster_size=3", server.url(place.path("raw")), "1M"], "cluster size")
    assert os.path.getsize(place.path("raw")) == MIB
    server.refused([*IMG, "create", "-f", "raw", server.url("/nowhere/x"), "1M"], "failed to open remote file '/nowhere/x'", "No such file")
    server.refused([*IMG, "info", server.url(place.dir)], "is a directory")


@proof("a server is known by its digest or by a list, with the key of a kind that is listed, and else refused", NEEDS)
def _(place):
    server, disk = Server(place), raw_image(place, size=MIB)
    info = [*IMG, "info"]
    os.mkdir(place.path(".ssh"))
    known = place.path(".ssh/known_hosts")
    server.refused([*info, server.url(disk, None)], "known_hosts file not found")
    for kind in ("ed25519", "ecdsa"):
        place.write(".ssh/known_hosts", f"[127.0.0.1]:{server.port} {' '.join(server.key(kind))}\n".encode())
        server.ok([*info, server.url(disk, "yes")])
        place.ok(["ssh-keygen", "-q", "-H", "-f", known])
        server.ok([*info, server.url(disk, None)])
        with open(known) as hashed:
            assert hashed.read().startswith("|1|")
    place.ok(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", place.path("other")])
    with open(place.path("other.pub")) as key:
        other = " ".join(key.read().split()[:2])
    for line, word in ((f"[127.0.0.1]:{server.port} {other}", "does not match the one in known_hosts"),
                       (f"127.0.0.1 {' '.join(server.key())}", "no host key was found in known_hosts"),
                       (f"@revoked * {' '.join(server.key())}", "is revoked")):
        place.write(".ssh/known_hosts", f"{line}\n".encode())
        server.refused([*info, server.url(disk, None)], word)
    listed = place.write("list", f"[127.0.0.1]:{server.port} {' '.join(server.key())}\n".encode())
    options = server.options(disk, **{"known-hosts-file": listed})
    del options["host-key-check"]
    server.ok([*info, json_name(options)])
    wrong = "sha256:" + "0" * 64
    server.refused([*info, server.url(disk, wrong)], f"does not match host_key_check '{wrong}'", server.digest("sha256"))


@proof("a user is let in by the agent, by the files of the home folder, by a key file with a passphrase that is nowhere shown", NEEDS)
def _(place):
    server, disk = Server(place), raw_image(place, size=MIB)
    info = [*IMG, "info"]
    alone = {name: value for name, value in server.env.items() if name != "SSH_AUTH_SOCK"}
    server.ok([*info, server.url(disk)])
    server.refused([*info, server.url(disk)], "failed to authenticate", env=alone)
    server.refused([*info, server.url(disk, user="nobody-here@")], "failed to authenticate")
    place.ok([*info, json_name(server.options(disk, **{"key-file": place.path("user")}))], env=alone)
    os.mkdir(place.path(".ssh"))
    for kind, name in (("rsa", "id_rsa"), ("ecdsa", "id_ecdsa"), ("ed25519", "id_ed25519")):
        path = place.path(f".ssh/{name}")
        place.ok(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", path])
        with open(f"{path}.pub") as key:
            place.write("authorized", key.read().encode())
        place.ok([*info, server.url(disk)], env=alone)
        os.unlink(path)
    place.ok(["ssh-keygen", "-q", "-t", "ed25519", "-N", PASSPHRASE, "-f", place.path("locked")])
    with open(place.path("locked.pub")) as key:
        place.write("authorized", key.read().encode())
    shown = ""
    locked = server.options(disk, **{"key-file": place.path("locked"), "key-secret": "word"})
    for word, works in ((PASSPHRASE, True), (WRONG, False)):
        secret = place.write("word", word.encode())
        # Everything that can be told is.
        command = [*IMG, "-T", "*", "info", "--object", f"secret,id=word,file={secret}", json_name(locked)]
        run = place.run(command, env=alone)
        assert (run.code == 0) == works, str(run)
        shown += run.out + run.err
    del locked["key-secret"]
    shown += server.refused([*info, json_name(locked)], "has a passphrase", "key-secret", env=alone).err
    assert PASSPHRASE not in shown and WRONG not in shown, shown
    server.refused([*info, json_name(server.options(disk, **{"key-file": place.path("config")}))], "no private key", env=alone)
    server.refused([*info, f"ssh://{USER}:w0rd@127.0.0.1:{server.port}{disk}"], "password-secret")


@proof("what is written through an export is in the file, whoever writes at the same time, and stays when the server is killed", NEEDS,
       seconds=400)
def _(place):
    server, disk = Server(place), place.path("disk.qcow2")
    size = 64 * MIB
    server.ok([*IMG, "create", "-f", "qcow2", server.url(disk), str(size)])
    node = {"driver": "qcow2", "node-name": "n", "file": server.options(disk)}
    daemon = Daemon(place, "--blockdev", json.dumps(node), *export_options("n"), env=server.env)
    expected, dice = bytearray(size), random.Random(place.sentence)
    handle = nbd.NBD()
    handle.connect_uri(daemon.uri("n"))
    for _ in range(3):
        pending = []
        for slot in dice.sample(range(size // MIB), 48):
            at, data = slot * MIB + dice.randrange(MIB // 2), dice.randbytes(dice.choice([1, 512, 4096, 70_000, MIB // 2]))
            buffer = nbd.Buffer.from_bytearray(bytearray(data))
            pending.append(handle.aio_pwrite(buffer, at))
            expected[at:at + len(data)] = data
        while pending:
            handle.poll(-1)
            pending = [cookie for cookie in pending if not handle.aio_command_completed(cookie)]
        for _ in range(40):
            at = dice.randrange(size - 100_000)
            assert handle.pread(100_000, at) == expected[at:at + 100_000]
    handle.flush()
    # The server goes in the middle of what is not flushed.
    handle.pwrite(b"\xaa" * 4096, 0)
    server.kill()
    for attempt in (lambda: handle.pread(512, 0), lambda: handle.pwrite(b"x" * 512, 0), handle.flush):
        try:
            attempt()
            raise AssertionError("a request succeeded without its server")
        except nbd.Error:
            pass
    handle.shutdown()
    client = daemon.qmp()
    assert [node["node-name"] for node in client.run("query-named-block-nodes", flat=True) if node["drv"] == "qcow2"] == ["n"]
    daemon.alive()
    server.start()
    # Opened anew it works again.
    client.run("block-export-del", id="e-n", mode="hard")
    client.wait_event("BLOCK_EXPORT_DELETED")
    try:
        client.run("blockdev-del", {"node-name": "n"})
    except QmpError:
        pass
    client.run("blockdev-add", {**node, "node-name": "again", "read-only": True})
    daemon.kill()
    server.ok([*IMG, "convert", "-O", "raw", server.url(disk), place.path("back")])
    with open(place.path("back"), "rb") as back:
        found = bytearray(back.read())
    # What was not flushed is there or not.
    assert found[4096:] == expected[4096:] and found[:4096] in (expected[:4096], b"\xaa" * 4096)
    server.ok([*IMG, "check", server.url(disk)])


@proof("a disk in use survives that its server is killed and started again", NEEDS)
def _(place):
    server, size = Server(place), 4 * MIB
    paths = {form: place.path(f"disk.{form}") for form in ("raw", "qcow2")}
    for form, path in paths.items():
        server.ok([*IMG, "create", "-q", "-f", form, server.url(path), str(size)])
    nodes = [words for form, path in paths.items()
             for words in blockdev(form, form, file=server.options(path, **{"reconnect-delay": 60}))]
    daemon = Daemon(place, *nodes, *export_options("raw"), *export_options("qcow2"), env=server.env)
    disks = [Disk(place, daemon.uri(form), size) for form in paths]
    for turn in range(KILLS + 1):
        for step in range(150):
            if turn and step == 20:
                place.tell("the server is killed")
                server.kill()
                server.start()
            for disk in disks:
                disk.step()
    for disk in disks:
        disk.handle.flush()
        disk.handle.shutdown()
    daemon.stop()
    assert open(paths["raw"], "rb").read() == disks[0].expected
    server.ok([*IMG, "check", server.url(paths["qcow2"])])
    server.ok([*IMG, "convert", "-O", "raw", server.url(paths["qcow2"]), place.path("out.raw")])
    assert open(place.path("out.raw"), "rb").read() == disks[1].expected


@proof("a server that comes back too late fails requests in time, and then is there again", NEEDS)
def _(place):
    server, disk = Server(place), raw_image(place, size=MIB)
    daemon = Daemon(place, *blockdev("raw", "n", file=server.options(disk, **{"reconnect-delay": 1})), *export_options("n"),
                    env=server.env)
    handle = nbd.NBD()
    handle.connect_uri(daemon.uri("n"))
    handle.pwrite(b"x" * 512, 0)
    server.kill()
    try:
        handle.pread(512, 0)
        raise AssertionError("a request succeeded without its server")
    except nbd.Error:
        pass
    server.start()

    def works():
        try:
            return handle.pread(512, 0) == b"x" * 512
        except nbd.Error:
            return False

    wait_for("the file", works)
    # What was written before is made durable with the rest.
    handle.flush()
    handle.shutdown()
    daemon.stop()


@proof("files are made by a job, and refused where the server, the user or the folder is not what it should be", NEEDS)
def _(place):
    server = Server(place)
    daemon = Daemon(place, env=server.env)
    client = daemon.qmp()

    def make(path, size=4 * MIB, **more):
        location = server.options(path, **more)
        del location["driver"]
        client.run("blockdev-create", {"job-id": "j", "options": {"driver": "ssh", "location": location, "size": size}})
        client.wait_event("JOB_STATUS_CHANGE", status="concluded")
        error = client.run("query-jobs")[0].get("error")
        client.run("job-dismiss", id="j")
        return error

    path = place.path("made")
    assert make(path) is None and os.path.getsize(path) == 4 * MIB
    assert make(path, 8 * MIB, **{"host-key-check": {"mode": "hash", "type": "sha1", "hash": server.digest("sha1")}}) is None
    assert os.path.getsize(path) == 8 * MIB
    wrong = make(path, **{"host-key-check": {"mode": "hash", "type": "md5", "hash": "wrong"}})
    assert wrong.endswith("does not match host_key_check 'md5:wrong'"), wrong
    assert "failed to open remote file '/nowhere/x'" in make("/nowhere/x")
    assert "failed to authenticate" in make(path, user="nobody-here")
    daemon.stop()


@proof("a full disk of the server is an error of the write, and a file that is cut while it is read ends in zeroes", (*NEEDS, "tmpfs"))
def _(place):
    server, small = Server(place), place.tmpfs("small", "2M")
    disk = os.path.join(small, "disk")
    server.ok([*IMG, "create", "-f", "raw", server.url(disk), "16M"])
    node = server.options(disk)
    run = place.run([*IO, "-c", "write -P 1 0 8M", "-c", "read 0 64k", json_name({"driver": "raw", "file": node})], env=server.env)
    assert run.code == 1 and "refused a write" in run.out + run.err or "write failed" in run.out + run.err, str(run)
    daemon = Daemon(place, *blockdev("raw", "n", file=node), *export_options("n"), env=server.env)
    handle = nbd.NBD()
    handle.connect_uri(daemon.uri("n"))
    os.truncate(disk, 4096)
    assert handle.pread(64 * KIB, MIB) == bytes(64 * KIB)
    handle.shutdown()
    daemon.stop()


@proof("with twenty nodes there is one thread of SSH, and none without", NEEDS)
def _(place):
    server, disk = Server(place), raw_image(place, size=MIB)
    daemon = Daemon(place, env=server.env)

    def threads():
        names = []
        for thread in os.listdir(f"/proc/{daemon.pid}/task"):
            with open(f"/proc/{daemon.pid}/task/{thread}/comm") as comm:
                names.append(comm.read().strip())
        return names

    client = daemon.qmp()
    assert "ssh" not in threads()
    for number in range(20):
        client.run("blockdev-add", {**server.options(disk), "node-name": f"n{number}", "read-only": True})
    assert threads().count("ssh") == 1, threads()
    for number in range(20):
        client.run("blockdev-del", {"node-name": f"n{number}"})
    daemon.stop()


main("SSH")
