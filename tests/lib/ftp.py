"""Files of FTP and TFTP servers as disks: what is read is what is there, names are QEMU's, and servers may come and go."""

import hashlib
import json
import os
import signal
import socket

import nbd

from harness import (KIB, MIB, Daemon, QmpError, blockdev, export_options, face, free_port, main, noise, peer, proof,
                     tcp_listening, wait_for)

VSFTPD, TFTPD = "/usr/sbin/vsftpd", "/usr/sbin/in.tftpd"
IMG, IO = face("img"), face("io")
PASSWORD = "the-5ec4et-password"
SIZE = 24 * MIB


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def disk(place, name="disk.img", size=SIZE):
    os.makedirs(place.path("srv"), exist_ok=True)
    path = place.write(f"srv/{name}", noise(size))
    os.chmod(path, 0o644)
    return path


class Vsftpd:
    """A server with one user, `anonymous`, and one password; it listens on one port, in TLS at once or after AUTH."""

    def __init__(self, place, implicit=False, reuse=True):
        self.place, self.port = place, free_port()
        self.ca = place.path("ca.pem")
        if not os.path.exists(self.ca):
            place.ok(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
                      "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", place.path("key.pem"), "-out", self.ca])
        place.write("passwords", PASSWORD.encode() + b"\n")
        os.makedirs(place.path("empty"), exist_ok=True)
        place.ok(["chmod", "755", place.dir, place.path("empty"), place.path("srv")])
        yes = {True: "YES", False: "NO"}
        self.config = place.write(f"vsftpd-{self.port}.conf", f"""listen=YES
listen_address=127.0.0.1
listen_port={self.port}
background=NO
run_as_launching_user=YES
seccomp_sandbox=NO
isolate=NO
isolate_network=NO
anonymous_enable=YES
local_enable=NO
secure_email_list_enable=YES
email_password_file={place.path("passwords")}
anon_root={place.path("srv")}
anon_world_readable_only=NO
secure_chroot_dir={place.path("empty")}
mdtm_write=NO
xferlog_enable=YES
vsftpd_log_file={place.path("vsftpd.log")}
delay_failed_login=0
delay_successful_login=0
rsa_cert_file={self.ca}
rsa_private_key_file={place.path("key.pem")}
ssl_enable=YES
allow_anon_ssl=YES
force_anon_data_ssl=NO
force_anon_logins_ssl=NO
require_ssl_reuse={yes[reuse]}
ssl_ciphers=HIGH
implicit_ssl={yes[implicit]}
""".encode())
        self.process = None
        self.start()

    def start(self):
        self.process = self.place.spawn([VSFTPD, self.config])
        wait_for("vsftpd", lambda: tcp_listening(self.port))

    def kill(self):
        """The server and all its sessions, without a word."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def url(self, name="disk.img", scheme="ftp", user=f"anonymous:{PASSWORD}@"):
        return f"{scheme}://{user}127.0.0.1:{self.port}/{name}"


class Tftpd:
    def __init__(self, place, *options):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        place.ok(["chmod", "755", place.dir, place.path("srv")])
        self.place = place
        self.command = [TFTPD, "--foreground", "--address", f"127.0.0.1:{self.port}", "--user", "root", "--secure", *options,
                        place.path("srv")]
        self.start()

    def start(self):
        self.process = self.place.spawn(self.command)
        wait_for("tftpd", lambda: self.place.ok(["ss", "-Hlnu", f"sport = :{self.port}"]).out.strip())

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def url(self, name="disk.img"):
        return f"tftp://127.0.0.1:{self.port}/{name}"


SECRET = ["--object", f"secret,id=s,data={PASSWORD}"]
FTP, TFTP = (VSFTPD, "curl", "openssl"), (TFTPD, "curl", "root")


def silent(place):
    """No command that ran has told the password."""
    for _, log in place.logs:
        with open(log, errors="replace") as file:
            assert PASSWORD not in file.read(), log


def told(run):
    assert PASSWORD not in run.out and PASSWORD not in run.err, str(run)
    return run


def copied(place, words, source):
    """What a copy of the image holds, beside the file it is of."""
    copy = place.path("copy.raw")
    told(place.ok([*IMG, "convert", "-O", "raw", *words, copy]))
    assert digest(copy) == digest(source)
    os.unlink(copy)


@proof("a file of an FTP server is what it is by every name, as QEMU tells it, and is copied whole", FTP)
def _(place):
    source = disk(place)
    server = Vsftpd(place)
    bare = server.url(user="")
    forms = {
        "url": ["-f", "raw", server.url()],
        "options": [*SECRET, "--image-opts",
                    f"driver=raw,file.driver=ftp,file.url={bare},file.username=anonymous,file.password-secret=s"],
        "older": [*SECRET, "--image-opts",
                  f"driver=raw,file.driver=ftp,file.filename={bare},file.username=anonymous,file.password-secret=s"],
        "json": [*SECRET, "json:" + json.dumps({"driver": "raw", "file": {
            "driver": "ftp", "url": bare, "username": "anonymous", "password-secret": "s"}})],
        "unaided": ["--image-opts", f"driver=raw,file.driver=ftp,file.url={server.url()},file.readahead=0"],
    }
    for words in forms.values():
        info = told(place.ok([*IMG, "info", "--output=json", *words])).json()
        assert info["virtual-size"] == SIZE and info["children"][0]["info"]["format"] == "ftp", info
        mapped = told(place.ok([*IMG, "map", "--output=json", *words])).json()
        assert [(extent["start"], extent["length"], extent["data"]) for extent in mapped] == [(0, SIZE, True)], mapped
        copied(place, words, source)
    name = place.ok([*IMG, "info", "--output=json", *forms["url"]]).json()["filename"]
    assert name == server.url(user="anonymous@"), name
    if os.access(peer("qemu-img"), os.X_OK):
        theirs = place.run([peer("qemu-img"), "info", "--output=json", *forms["options"]], seconds=60)
        if theirs.code == 0:  # it hangs, or lacks the driver, at times
            assert place.ok([*IMG, "info", "--output=json", *forms["options"]]).json()["filename"] == theirs.json()["filename"]
    # Of what is no whole sector the rest is zero.
    disk(place, "small.img", 100_001)
    place.ok([*IO, "-r", "-f", "raw", "-c", "read -P 0 100001 351", server.url("small.img")])


@proof("what a server refuses is told with the URL, and no password is in what is printed", FTP)
def _(place):
    disk(place)
    server = Vsftpd(place)
    wrong = server.url(user="anonymous:another-5ec4et@")
    for words in (["info", wrong], ["convert", "-O", "raw", wrong, "out"], ["info", "--image-opts", f"driver=ftp,url={wrong}"]):
        run = place.refused([*IMG, *words], "does not let the user in: 530", f"127.0.0.1:{server.port}")
        assert "another-5ec4et" not in run.err + run.out, str(run)
    told(place.refused([*IMG, "info", server.url("none")], "550", "none"))
    told(place.refused([*IMG, "info", server.url("x%0d%0aDELE%20disk.img")], "line ends"))
    told(place.refused([*IMG, "info", server.url(scheme="ftps")], "TLS"))
    told(place.refused([*IO, "-f", "raw", "-c", "write 0 4k", server.url()], "read-only"))
    told(place.refused([*IMG, "create", "-f", "raw", server.url("new", user=""), "1M"], "image creation"))
    assert os.path.exists(place.path("srv/disk.img"))
    place.refused([*IMG, "info", f"ftp://127.0.0.1:{free_port()}/x"], "Connection refused")


@proof("in TLS, at once or after AUTH, a file is copied whole from a server that demands one session, and others are refused", FTP)
def _(place):
    source = disk(place)
    for implicit, scheme in ((True, "ftps"), (False, "ftpes")):
        server = Vsftpd(place, implicit=implicit)
        options = f"file.driver=ftps,file.url={server.url(scheme='ftps')}" + ("" if implicit else ",file.explicit=on")
        image = f"driver=raw,{options}"
        copied(place, ["--image-opts", f"{image},file.cafile={server.ca}"], source)
        copied(place, ["--image-opts", f"{image},file.sslverify=off"], source)
        told(place.refused([*IMG, "info", "--image-opts", image], "certificate"))
        told(place.refused([*IMG, "info", server.url(scheme=scheme)], "certificate"))
        told(place.refused([*IMG, "info", "--image-opts", image.replace("127.0.0.1", "localhost.localdomain") + f",file.cafile={server.ca}"]))
        name = place.ok([*IMG, "info", "--output=json", "--image-opts", f"{image},file.sslverify=off"]).json()["filename"]
        assert name.startswith("json:") and PASSWORD not in name, name
        # Places all over the file.
        reads = [word for at in range(0, SIZE, 5 * MIB) for word in ("-c", f"read {at} 64k")]
        told(place.ok([*IO, "-r", *reads, "--image-opts", f"{image},file.cafile={server.ca}"]))


@proof("a file of a TFTP server is copied whole, with all sizes of blocks and windows", TFTP)
def _(place):
    # In blocks of 512 bytes, each waited for, more takes long.
    source = disk(place, size=3 * MIB)
    for options in ((), ("--refuse", "blksize")):
        server = Tftpd(place, *options)
        copied(place, ["-f", "raw", server.url()], source)
        server.kill()
    server = Tftpd(place)
    for more in ("blksize=65464,windowsize=1", "blksize=8192", "windowsize=1", "cache-size=1M", "readahead=0"):
        more = ",".join(f"file.{word}" for word in more.split(","))
        copied(place, ["--image-opts", f"driver=raw,file.driver=tftp,file.url={server.url()},{more}"], source)
    copied(place, ["--image-opts", f"driver=raw,file.driver=tftp,file.filename={server.url()}"], source)
    assert place.ok([*IMG, "info", "--output=json", "-f", "raw", server.url()]).json()["filename"] == server.url()
    place.refused([*IMG, "info", server.url("none")], "not found", server.url("none"))
    place.refused([*IMG, "info", f"tftp://127.0.0.1:{free_port()}/x"], "did not answer")
    # Back and forth, in less memory than the file has.
    reads = [word for at in (2800, 100, 1500, 0, 2000) for word in ("-c", f"read {at}k 64k")]
    place.ok([*IO, "-r", *reads, "--image-opts", f"driver=raw,file.driver=tftp,file.url={server.url()},file.cache-size=1M"])


def overlay(place, url):
    """A daemon that exports an overlay over a file of a server. The image's header has the URL without the password."""
    top = place.path("top.qcow2")
    place.ok([*IMG, "create", "-q", "-f", "qcow2", "-u", "-b", url, "-F", "raw", top, SIZE])
    file = {"driver": "ftp", "url": url, "username": "anonymous", "password-secret": "s"}
    options = [*SECRET, *blockdev("raw", "base", file=file, read_only=True),
               *blockdev("qcow2", "disk", file={"driver": "file", "filename": top}, backing="base"),
               *export_options("disk")]
    daemon = Daemon(place, *options)
    client = nbd.NBD()
    client.connect_uri(daemon.uri("disk"))
    return daemon, client


@proof("an overlay over a file of a server serves what was written and what is there, also when the server was killed and began again", FTP)
def _(place):
    source = disk(place)
    with open(source, "rb") as file:
        expected = bytearray(file.read())
    server = Vsftpd(place)
    daemon, client = overlay(place, server.url(user=""))

    def visit(steps):
        for _ in range(steps):
            at, length = place.rng.randrange(SIZE - 300 * KIB) & ~511, place.rng.choice([512, 4 * KIB, 64 * KIB, 256 * KIB])
            if place.rng.random() < 0.3:
                data = place.rng.randbytes(length)
                client.pwrite(data, at)
                expected[at:at + length] = data
            else:
                assert client.pread(length, at) == expected[at:at + length], at

    visit(60)
    for _ in range(3):
        server.kill()
        server.start()
        visit(30)
    # Without a server reads fail in time, and the daemon lives on.
    server.kill()
    failed = 0
    for at in range(0, SIZE, 6 * MIB):
        try:
            client.pread(64 * KIB, at + 13 * 512)
        except nbd.Error:
            failed += 1
    assert failed, "there is no server"
    server.start()
    visit(30)
    qmp = daemon.qmp()
    assert PASSWORD not in json.dumps(qmp.run("query-named-block-nodes")) + json.dumps(qmp.run("query-block-exports"))
    try:
        qmp.run("blockdev-add", driver="ftp", node_name="x", read_only=True, url=server.url("none"))
        raise AssertionError("there is no such file")
    except QmpError as error:
        assert PASSWORD not in error.desc and "550" in error.desc, error.desc
    client.shutdown()
    daemon.stop()
    silent(place)


@proof("a TFTP server may be killed and begin again between two reads", TFTP)
def _(place):
    source = disk(place, size=4 * MIB)
    server = Tftpd(place)
    options = [*blockdev("raw", "disk", file={"driver": "tftp", "url": server.url(), "cache-size": MIB, "timeout": 2}, read_only=True),
               *export_options("disk", writable=False)]
    daemon = Daemon(place, *options)
    client = nbd.NBD()
    client.connect_uri(daemon.uri("disk"))
    with open(source, "rb") as file:
        expected = file.read()
    for at in (0, 3 * MIB, 2 * MIB):
        assert client.pread(MIB, at) == expected[at:at + MIB]
        server.kill()
        server.start()
    server.kill()
    try:
        client.pread(MIB, 0)
        raise AssertionError("there is no server")
    except nbd.Error:
        pass
    server.start()
    assert client.pread(MIB, 0) == expected[:MIB]
    client.shutdown()
    daemon.stop()


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    main("files of FTP and TFTP servers")
