"""Units of an iSCSI target (docs/iscsi.md): tgt's target in user space, QEMU's driver and libiscsi's tools beside ours."""

import json
import os
import random
import re
import signal
import threading

import nbd

from harness import (KIB, MIB, Daemon, QmpError, export_options, face, free_port, main, noise, peer, proof, raw_image, tcp_listening,
                     wait_for)

TARGET = "/usr/sbin/tgtd"
BLOCKS = "/usr/lib/x86_64-linux-gnu/qemu/block-iscsi.so"
NEEDS = (TARGET, "iscsi-inq")
IQN = "iqn.2026-01.example.cairn"
OWN, THEIRS = "0wn-s3cret-word", "th3ir-other-word"
SECRETS = ["--object", f"secret,id=own,data={OWN}", "--object", f"secret,id=theirs,data={THEIRS}",
           "--object", "secret,id=wrong,data=some-other-word"]


class Target:
    """A target with an open name, one that wants CHAP, and one that gives it, too; each unit is a file."""

    def __init__(self, place, *units):
        self.place, self.port, self.units = place, free_port(), units
        self.number = random.randrange(10, 32000)
        self.env = dict(os.environ, TGT_IPC_SOCKET=place.path("tgt"))
        self.start()

    def adm(self, *words):
        return self.place.ok(["/usr/sbin/tgtadm", "-C", self.number, "--lld", "iscsi", *words], env=self.env)

    def start(self):
        """Portals are bound last: nobody is let in before everything is there."""
        self.process = self.place.spawn([TARGET, "-f", "-C", self.number, "--iscsi", f"portal=127.0.0.1:{self.port}"],
                                        env=self.env)
        wait_for("the target", lambda: os.path.exists(f"{self.env['TGT_IPC_SOCKET']}.{self.number}")
                 and self.place.run(["/usr/sbin/tgtadm", "-C", self.number, "--op", "show", "--mode", "sys"], env=self.env).code == 0)
        for user, password in (("alice", OWN), ("bob", THEIRS)):
            self.adm("--op", "new", "--mode", "account", "--user", user, "--password", password)
        for tid, name in enumerate(("open", "chap", "both"), 1):
            self.adm("--op", "new", "--mode", "target", "--tid", tid, "-T", f"{IQN}:{name}")
            for lun, (image, size, parameters) in enumerate(self.units, 1):
                unit = ["--mode", "logicalunit", "--tid", tid, "--lun", lun]
                self.adm("--op", "new", *unit, "-b", image, "--blocksize", size)
                if parameters:
                    self.adm("--op", "update", *unit, "--params", parameters)
            if name != "open":
                self.adm("--op", "bind", "--mode", "account", "--tid", tid, "--user", "alice")
        self.adm("--op", "bind", "--mode", "account", "--tid", 3, "--user", "bob", "--outgoing")
        for tid in (1, 2, 3):
            self.adm("--op", "bind", "--mode", "target", "--tid", tid, "-I", "ALL")
        wait_for("the port", lambda: tcp_listening(self.port))

    def kill(self):
        self.place.end(self.process, signal.SIGKILL)
        os.unlink(f"{self.env['TGT_IPC_SOCKET']}.{self.number}")

    def url(self, lun=1, name="open", user=""):
        return f"iscsi://{user}127.0.0.1:{self.port}/{IQN}:{name}/{lun}"

    def options(self, lun=1, name="open", **more):
        words = "".join(f",{key.replace('_', '-')}={value}" for key, value in more.items())
        return f"driver=iscsi,transport=tcp,portal=127.0.0.1:{self.port},target={IQN}:{name},lun={lun}{words}"


def unit(image, size=512, parameters=""):
    return image, size, parameters


def same(place, one, other):
    place.ok(["cmp", one, other])


def ours(name):
    return face(name)


def theirs(name):
    return [peer(f"qemu-{name}")]


def look(place, program, *words):
    return place.ok([*program("img"), "info", "--output=json", *words]).json()


def mapped(place, program, *words):
    return place.ok([*program("img"), "map", "--output=json", *words]).json()


@proof("a unit is named, described and mapped as QEMU does, and both read what the other wrote", (*NEEDS, BLOCKS))
def _(place):
    image = raw_image(place, size=48 * MIB)
    thin = place.write("thin.raw", b"")
    os.truncate(thin, 48 * MIB)
    target = Target(place, unit(image), unit(thin, parameters="thin_provisioning=1"))
    for words in ([target.url()], [target.url(2)], ["--image-opts", target.options()],
                  [*SECRETS, "--image-opts", target.options(name="chap", user="alice", password_secret="own", header_digest="crc32c-none",
                                                            initiator_name="iqn.2026-01.example:me", timeout=9)],
                  [f"json:{json.dumps({'driver': 'iscsi', 'transport': 'tcp', 'portal': f'127.0.0.1:{target.port}', 'target': f'{IQN}:open', 'lun': 1})}"]):
        assert look(place, ours, *words) == look(place, theirs, *words), words
    for program in (ours, theirs):
        copy = place.path("copy.raw")
        place.ok([*program("img"), "convert", "-O", "raw", target.url(), copy])
        same(place, image, copy)
    # Each writes with holes, both map the same.
    for program in (ours, theirs):
        place.ok([*program("img"), "convert", "-n", "-O", "raw", image, target.url(2)])
        same(place, image, thin)
        place.ok([*program("io"), "-f", "raw", "-c", "write -P 5 20M 1M", "-c", "write -zu 20M 64k", "-c", "write -z 20608k 64k",
                  "-c", "discard 20864k 64k", "-c", "flush", target.url(2)])
        assert mapped(place, ours, target.url(2)) == mapped(place, theirs, target.url(2))
    zero = [extent for extent in mapped(place, ours, target.url(2)) if extent["zero"]]
    assert any(extent["start"] <= 20 * MIB and extent["start"] + extent["length"] == 20 * MIB + 64 * KIB for extent in zero), zero
    place.ok([*ours("io"), "-f", "raw", "-c", "discard 0 48M", target.url(2)])
    assert os.stat(thin).st_blocks * 512 < MIB, "the space was given back"
    size = place.ok(["iscsi-readcapacity16", "-s", target.url()]).out.strip()
    assert int(size) == look(place, ours, target.url())["virtual-size"], size


@proof("requests of every kind and size, beside a file, with digests of headers and data", NEEDS)
def _(place):
    image, beside = place.write("disk.raw", noise(8 * MIB)), place.write("beside.raw", noise(8 * MIB))
    large = place.write("large.raw", noise(8 * MIB))
    target = Target(place, unit(image, parameters="thin_provisioning=1"), unit(large, 4096))
    dice, commands = random.Random(place.rng.random()), []
    for _ in range(80):
        first = dice.randrange(0, 8 * MIB - 1)
        length = min(dice.choice((1, 512, 4 * KIB, 70 * KIB, 300 * KIB, MIB)) + dice.randrange(0, 3), 8 * MIB - first)
        kind = dice.choice(("write -P 1", "write -f -P 2", "write -z", "write -zu", "write -P 3", "discard"))
        if kind == "discard":
            first, length = first - first % 4096, max(length - length % 4096, 4096)
            kind = "write -zu"
        commands += ["-c", f"{kind} {first} {min(length, 8 * MIB - first)}"]
    digests = {"header_digest": "crc32c", "data_digest": "crc32c"}
    place.refused([*ours("img"), "info", "--image-opts", target.options(**digests)], "HeaderDigest")
    for options, file in ((target.options(), image), (target.options(2), large), (target.options(**digests), image),
                          (target.options(2, **digests), large)):
        if "crc32c" in options:
            for name in ("HeaderDigest", "DataDigest"):
                target.adm("--op", "update", "--mode", "target", "--tid", 1, "--name", name, "--value", "CRC32C")
        before = place.path("before.raw")
        place.ok(["cp", file, before])
        place.ok([*ours("io"), *commands, "-c", "flush", "--image-opts", options])
        place.ok([*ours("io"), "-f", "raw", *commands, before])
        same(place, before, file)
        copy = place.path("copy.raw")
        place.ok([*ours("img"), "convert", "--image-opts", options, "-O", "raw", copy])
        same(place, file, copy)


@proof("CHAP both ways: who has the wrong secret is not let in, a target that has it is not believed", NEEDS)
def _(place):
    target = Target(place, unit(raw_image(place, size=8 * MIB)))
    info = [*ours("img"), "info", *SECRETS]
    place.ok([*info, target.url(name="chap", user=f"alice%{OWN}@")])
    place.ok([*info, "--image-opts", target.options(name="chap", user="alice", password_secret="own")])
    both = dict(name="both", user="alice", password_secret="own", target_user="bob")
    place.ok([*info, "--image-opts", target.options(**both, target_password_secret="theirs")])
    for options, words in ((target.options(name="chap"), ("'user'", "authentication")),
                           (target.options(name="chap", user="alice", password_secret="wrong"), ("authentication failed",)),
                           (target.options(name="chap", user="mallory", password_secret="own"), ("authentication failed",)),
                           (target.options(**both, target_password_secret="wrong"), ("could not prove that it is 'bob'",)),
                           (target.options(**dict(both, name="open"), target_password_secret="theirs"), (("prove", "authentication"),)),
                           (target.options(**both, target_password_secret="own"), ("must not be the same",))):
        place.refused([*info, "--image-opts", options], *words)


@proof("what is not there, or can't be used, is refused by name", NEEDS)
def _(place):
    image = raw_image(place, size=8 * MIB)
    target = Target(place, unit(image), unit(image, parameters="readonly=1"))
    info = [*ours("img"), "info"]
    place.refused([*info, target.url(7)], "no such unit", "0, 1, 2")
    place.refused([*info, target.url(0)], "no disk")
    place.refused([*info, target.url(name="nope")], "no such target", f"offers: {IQN}:open")
    place.refused([*info, f"iscsi://127.0.0.1:{target.port}/"], "names no target", f"offers: {IQN}:open")
    place.refused([*info, f"iscsi://127.0.0.1:{free_port()}/{IQN}:open/1"], "Failed to connect")
    place.refused([*ours("io"), "-f", "raw", "-c", "write 0 512", target.url(2)], "write-protected")
    place.ok([*ours("io"), "-r", "-f", "raw", "-c", "read 0 512", target.url(2)])
    place.ok([*ours("img"), "create", "-f", "raw", target.url(), "8M"])
    place.refused([*ours("img"), "create", "-f", "raw", target.url(), "9M"], "fewer than")
    place.refused([*ours("img"), "resize", "-f", "raw", target.url(), "9M"], "resize")
    place.ok([*ours("img"), "create", "-f", "qcow2", target.url(), "100M"])
    assert look(place, ours, target.url())["virtual-size"] == 100 * MIB


@proof("a workload through an NBD export goes on over a target that is killed and started again, and nothing is lost", NEEDS)
def _(place):
    size = 32 * MIB
    image = place.write("disk.raw", bytes(size))
    target = Target(place, unit(image))
    daemon = Daemon(place, "--blockdev", f"{target.options()},node-name=disk", *export_options("disk"))
    expected, faults, stop = bytearray(size), [], threading.Event()
    region = size // 4

    def work(number):
        dice = random.Random(f"{place.rng.random()}{number}")
        client = nbd.NBD()
        client.connect_uri(daemon.uri("disk"))
        try:
            rounds = 0
            while not stop.is_set() or rounds < 50:
                rounds += 1
                at = region * number + dice.randrange(0, (region - 64 * KIB) // 512) * 512
                data = dice.randbytes(dice.choice((512, 4 * KIB, 64 * KIB)))
                client.pwrite(data, at)
                expected[at:at + len(data)] = data
                assert client.pread(len(data), at) == data
                if dice.random() < 0.05:
                    client.flush()
            client.flush()
        except (nbd.Error, AssertionError) as error:
            faults.append(error)
        client.shutdown()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        wait_for("some writes", lambda: sum(expected[:MIB]) or faults, 60)
        target.kill()
        target.start()
        wait_for("the session", lambda: "127.0.0.1" in target.adm("--op", "show", "--mode", "conn", "--tid", 1).out or faults)
    stop.set()
    for thread in threads:
        thread.join()
    assert not faults, faults
    daemon.stop()
    with open(image, "rb") as file:
        assert file.read() == expected


@proof("a target that stands still is given up in time, named, and found again when it goes on", NEEDS)
def _(place):
    target = Target(place, unit(raw_image(place, size=8 * MIB)))
    daemon = Daemon(place, "--trace", "warn", "--blockdev", f"{target.options(timeout=2)},node-name=disk", *export_options("disk"))
    client = nbd.NBD()
    client.connect_uri(daemon.uri("disk"))
    client.pread(512, 0)
    target.process.send_signal(signal.SIGSTOP)
    try:
        client.pread(512, 0)
        raise AssertionError("nobody can have answered")
    except nbd.Error as error:
        assert error.errnum, error
    assert target.url() in daemon.log(), daemon.log()
    target.process.send_signal(signal.SIGCONT)

    def answered():
        try:
            return client.pread(512, 0)
        except nbd.Error:
            return None

    wait_for("an answer", answered)
    daemon.stop()


@proof("no password is in anything that is told: names, answers, errors, logs", NEEDS)
def _(place):
    target = Target(place, unit(raw_image(place, size=8 * MIB)))
    told = []
    for user in (f"alice%{OWN}@", "alice%wr0ng-w0rd@"):
        for name in ("chap", "nope"):
            for command in (["info"], ["info", "--output=json"], ["map"], ["check"]):
                run = place.run([*ours("img"), *command, target.url(name=name, user=user)])
                told.append(run.out + run.err)
        run = place.run([*ours("img"), "info", f"iscsi://{user}127.0.0.1:{target.port}/nothing"])
        told.append(run.out + run.err)
        run = place.run([*ours("img"), "create", "-f", "qcow2", "-b", target.url(name="chap", user=user), "-F", "raw", place.path("o.qcow2")])
        told.append(run.out + run.err)
    daemon = Daemon(place, "--trace", "debug", *SECRETS, "--blockdev",
                    f"{target.options(name='both', user='alice', password_secret='own', target_user='bob', target_password_secret='theirs')},node-name=disk")
    qmp = daemon.qmp()
    for command in ("query-named-block-nodes", "query-block", "x-debug-query-block-graph", "query-blockstats"):
        told.append(json.dumps(qmp.run(command)))
    try:
        qmp.run("blockdev-add", {"driver": "iscsi", "node-name": "n", "transport": "tcp", "portal": f"127.0.0.1:{target.port}",
                                 "target": f"{IQN}:both", "lun": 1, "user": "alice", "password-secret": "wrong"})
        raise AssertionError("it was let in")
    except QmpError as error:
        told.append(error.desc)
    daemon.stop()
    told.append(daemon.log())
    for text in told:
        for word in (OWN, THEIRS, "wr0ng-w0rd", "some-other-word"):
            assert word not in text, text


main("iSCSI")
