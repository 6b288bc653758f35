"""NBD in TLS: our ends with those of others, who is refused, and that no key is shown anywhere."""

import os
import resource
import signal
import socket
import ssl
import threading

import nbd

import wire
from harness import (MIB, Daemon, QmpError, face, free_port, image_options, main, memory_peak, noise, peer, proof,
                     raw_image, tcp_listening, wait_for)

STARTTLS, TLS_REQD, INVALID, POLICY = 5, 0x80000005, 0x80000003, 0x80000002
HOST = "disk.example"
KEY = "5ec4e75ec4e7" + "ab" * 26


class Authority:
    """A folder with an authority, and folders with what its servers and clients need."""

    def __init__(self, place, name="good"):
        self.place, self.name = place, name
        self.key, self.certificate = place.path(f"{name}-ca-key.pem"), place.path(f"{name}-ca.pem")
        self._run("--generate-privkey", "--key-type", "ecdsa", "--curve", "secp256r1", "--outfile", self.key)
        self._make("--generate-self-signed", self.key, self.certificate, f"cn = {name}", "ca", "cert_signing_key", "crl_signing_key")

    def _run(self, *words):
        self.place.ok(["certtool", "--no-text", *words])

    def _make(self, how, key, certificate, *lines, more=()):
        template = self.place.write("template", "\n".join((*lines, "expiration_days = 9")).encode())
        self._run(how, "--load-privkey", key, "--template", template, "--outfile", certificate, *more)

    def folder(self, name, *ends, lines=()):
        """A folder with certificates of these ends: `server`, `client`."""
        folder = self.place.path(f"{self.name}-{name}")
        os.mkdir(folder)
        os.link(self.certificate, f"{folder}/ca-cert.pem")
        for end in ends:
            key, certificate = f"{folder}/{end}-key.pem", f"{folder}/{end}-cert.pem"
            self._run("--generate-privkey", "--bits", "2048", "--outfile", key)
            signer = ("--load-ca-certificate", self.certificate, "--load-ca-privkey", self.key)
            names = (f"dns_name = {HOST}", "dns_name = localhost", "ip_address = 127.0.0.1") if end == "server" else ()
            # QEMU 10 wants a use of keys that only RSA has, though nothing is encrypted with them.
            uses = ("signing_key", "encryption_key", f"tls_www_{end}")
            self._make("--generate-certificate", key, certificate, f"cn = {name}", "organization = Cairn", *names, *uses,
                       *lines, more=signer)
        return folder


def shared_keys(place, name="keys", user="alice", key=KEY):
    folder = place.path(name)
    os.mkdir(folder)
    place.write(f"{name}/keys.psk", f"{user}:{key}\n".encode())
    return folder


def x509(folder, end, **more):
    words = "".join(f",{name.replace('_', '-')}={value}" for name, value in more.items())
    return ["--object", f"tls-creds-x509,id=tls,endpoint={end},dir={folder}{words}"]


def psk(folder, end, user=None):
    return ["--object", f"tls-creds-psk,id=tls,endpoint={end},dir={folder}" + (f",username={user}" if user else "")]


def options(address, hostname=None, export="disk"):
    return f"driver=nbd,{address},export={export},tls-creds=tls" + (f",tls-hostname={hostname}" if hostname else "")


def use(place, programs, credentials, disk, size=16 * MIB):
    """What a client's programs do with a server's disk, which is noise."""
    io = [*programs("io"), *credentials, "--image-opts", disk]
    place.ok([*io[:-1], "-c", "write -P 7 1M 3M", "-c", "read -P 7 1M 3M", "-c", "flush", io[-1]])
    info = place.ok([*programs("img"), "info", *credentials, "--image-opts", disk, "--output=json"]).json()
    assert info["virtual-size"] == size, info
    copy = place.path("copy.raw")
    place.ok([*programs("img"), "convert", *credentials, "--image-opts", disk, "-O", "raw", copy])
    with open(copy, "rb") as file:
        assert file.read()[MIB:4 * MIB] == bytes([7]) * 3 * MIB


def of_peer(name):
    return [peer(f"qemu-{name}")]


def serve(place, programs, credentials, image, *more):
    """A server on a port: its number."""
    port = free_port()
    place.spawn([*programs("nbd"), "-t", "-e", "0", "-b", "127.0.0.1", "-p", str(port), "-f", "raw", "-x", "disk",
                 "--tls-creds", "tls", *credentials, *more, image])
    wait_for("the port", lambda: tcp_listening(port))
    return port


@proof("certificates and shared keys: our server with QEMU's client, and QEMU's server with our client",
       ("certtool", "peer:qemu-nbd", "peer:qemu-img"))
def _(place):
    authority = Authority(place)
    folder = authority.folder("both", "server", "client")
    keys = shared_keys(place)
    for number, (server, client) in enumerate(((face, of_peer), (of_peer, face), (face, face))):
        image = raw_image(place, f"disk{number}.raw", 16 * MIB)
        port = serve(place, server, x509(folder, "server"), image)
        use(place, client, x509(folder, "client"), options(f"host=localhost,port={port}"))
        use(place, client, x509(folder, "client"), options(f"host=127.0.0.1,port={port}", HOST))
        listed = place.ok([*client("nbd"), "--list", "-b", "localhost", "-p", str(port), "--tls-creds", "tls",
                           *x509(folder, "client")]).out
        assert "export: 'disk'" in listed, listed
        sock = place.path(f"s{number}")
        place.serve([*server("nbd"), "-t", "-e", "0", "-k", sock, "-f", "raw", "-x", "disk", "--tls-creds", "tls",
                     *psk(keys, "server"), image], sock)
        use(place, client, psk(keys, "client", "alice"), options(f"path={sock}"))


@proof("libnbd's tools read and write at our server in TLS, with certificates and with shared keys", ("certtool", "nbdinfo", "nbdcopy"))
def _(place):
    folder = Authority(place).folder("both", "server", "client")
    image = raw_image(place, size=16 * MIB)
    port = serve(place, face, x509(folder, "server"), image)
    keys = shared_keys(place)
    sock = place.path("s")
    place.serve([*face("nbd"), "-t", "-e", "0", "-k", sock, "-f", "raw", "-x", "disk", "--tls-creds", "tls",
                 *psk(keys, "server"), image], sock)
    for uri in (f"nbds://localhost:{port}/disk?tls-certificates={folder}",
                f"nbds+unix://alice@/disk?socket={sock}&tls-psk-file={keys}/keys.psk"):
        told = place.ok(["nbdinfo", "--json", uri]).json()
        assert told["TLS"] and told["exports"][0]["export-size"] == 16 * MIB, told
        copy = place.path("copy.raw")
        place.ok(["nbdcopy", uri, copy])
        place.ok(["cmp", image, copy])
        place.ok(["nbdcopy", "--flush", copy, uri])
        handle = nbd.NBD()
        handle.set_uri_allow_local_file(True)
        handle.connect_uri(uri)
        handle.pwrite(noise(3 * MIB + 17, 5), 123)
        assert handle.pread(3 * MIB + 17, 123) == noise(3 * MIB + 17, 5)
        assert handle.get_tls_negotiated()
        handle.shutdown()


@proof("our client works over nbdkit in TLS, with certificates and with shared keys", ("certtool", "nbdkit"))
def _(place):
    folder = Authority(place).folder("both", "server", "client")
    keys = shared_keys(place)
    for name, at_server, at_client, host in (
            ("a", [f"--tls-certificates={folder}", "--tls-verify-peer"], x509(folder, "client"), HOST),
            ("b", [f"--tls-psk={keys}/keys.psk"], psk(keys, "client", "alice"), None)):
        sock = place.path(name)
        place.serve(["nbdkit", "-f", "-U", sock, "--tls=require", *at_server, "memory", str(16 * MIB)], sock)
        use(place, face, at_client, options(f"path={sock}", host, export=""))


@proof("our client works over Debian's nbd-server in TLS", ("certtool", "nbd-server"))
def _(place):
    folder = Authority(place).folder("both", "server", "client")
    image, port = raw_image(place, size=16 * MIB), free_port()
    settings = place.write("config", f"""[generic]
    port = {port}
    listenaddr = 127.0.0.1
    allowlist = true
    cacertfile = {folder}/ca-cert.pem
    certfile = {folder}/server-cert.pem
    keyfile = {folder}/server-key.pem
    force_tls = true
[disk]
    exportname = {image}
""".encode())
    # It goes to the background, and ends with the proof by its number.
    pid = place.path("pid")
    place.ok(["nbd-server", "-C", settings, "-p", pid])
    wait_for("its number", lambda: os.path.exists(pid) and os.path.getsize(pid))
    with open(pid) as file:
        number = int(file.read())
    place.closers.append(lambda: os.kill(number, signal.SIGTERM))
    wait_for("the port", lambda: tcp_listening(port))
    use(place, face, x509(folder, "client"), options(f"host=localhost,port={port}"))


@proof("nothing is granted before TLS, and what is sent between the request for it and TLS ends the connection")
def _(place):
    keys, sock = shared_keys(place), place.path("s")
    image = raw_image(place, size=MIB)
    server = place.serve([*face("nbd"), "-t", "-e", "0", "-k", sock, "-f", "raw", "-x", "disk", "--tls-creds", "tls",
                          *psk(keys, "server"), image], sock)
    client = wire.Client(sock).greet()
    for option in (wire.LIST, wire.INFO, wire.GO, wire.STRUCTURED, wire.EXTENDED, wire.SET_META, 77):
        client.option(option, b"\0" * 100)
        _, kind, _ = client.reply()
        assert kind == TLS_REQD, (option, hex(kind))
    client.option(STARTTLS, b"more")
    assert client.reply()[1] == INVALID
    client.option(wire.ABORT)
    assert client.reply()[1] == wire.ACK and client.ended()

    client = wire.Client(sock).greet()
    client.option(wire.EXPORT_NAME, b"disk")
    assert client.ended(), "an export was given away by its name"

    # The list is asked for in plain text behind STARTTLS: it must not be answered, in TLS or out of it.
    client = wire.Client(sock).greet()
    client.socket.sendall(b"".join(wire.struct.pack(">QII", wire.OPTION, option, 0) for option in (STARTTLS, wire.LIST)))
    assert client.reply()[1] == wire.ACK and client.ended()

    # The same for a client: a list behind the grant.
    for answer, words in (((STARTTLS, wire.ACK, b"more"), "not in TLS"), ((STARTTLS, POLICY, b""), "does not begin TLS")):
        fake = place.path(f"fake{len(words)}")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(fake)
        listener.listen()

        def speak():
            peer_socket = listener.accept()[0]
            peer_socket.sendall(wire.struct.pack(">QQH", wire.INIT, wire.OPTION, 3))
            wire.receive(peer_socket, 4 + 16)
            option, kind, behind = answer
            peer_socket.sendall(wire.struct.pack(">QIII", wire.REPLY, option, kind, 0) + behind)
            peer_socket.recv(1 << 16)

        thread = threading.Thread(target=speak)
        thread.start()
        place.refused([*face("img"), "info", *psk(keys, "client", "alice"), "--image-opts", options(f"path={fake}")], words)
        thread.join()
    assert server.poll() is None


@proof("a client whose handshake is slow or no TLS keeps nobody from being served, and is cut off at the deadline")
def _(place):
    keys, sock = shared_keys(place), place.path("s")
    image = raw_image(place, size=16 * MIB)
    place.serve([*face("nbd"), "-t", "-e", "0", "-k", sock, "-f", "raw", "-x", "disk", "--handshake-limit", "3",
                 "--tls-creds", "tls", *psk(keys, "server"), image], sock)
    slow = []
    for what in (b"", b"\x16\x03\x01", b"garbage, and more of it" * 9):
        client = wire.Client(sock).greet()
        client.option(STARTTLS)
        assert client.reply()[1] == wire.ACK
        client.socket.sendall(what)
        slow.append(client)
    use(place, face, psk(keys, "client", "alice"), options(f"path={sock}"))
    assert all(client.ended() for client in slow)


@proof("who is let in is decided by rules, and rules in a file can be changed while the server runs", ("certtool",))
def _(place):
    authority = Authority(place)
    server = authority.folder("host", "server")
    clients = {name: authority.folder(name, "client") for name in ("alice", "bob")}
    image = raw_image(place, size=16 * MIB)
    rules = place.path("rules.json")

    def allow(name):
        text = f'{{"policy": "deny", "rules": [{{"match": "CN={name},*", "policy": "allow", "format": "glob"}}]}}'
        os.replace(place.write("rules.new", text.encode()), rules)

    allow("alice")
    listed = "authz-list,id=z,policy=deny,rules.0.match=*CN=alice*,rules.0.policy=allow,rules.0.format=glob"
    for made in (f"authz-simple,id=z,identity=CN=alice,,O=Cairn", listed, f"authz-listfile,id=z,filename={rules}"):
        port = serve(place, face, x509(server, "server"), image, "--object", made, "--tls-authz", "z")
        disk = options(f"host=localhost,port={port}")
        look = lambda name: [*face("img"), "info", *x509(clients[name], "client"), "--image-opts", disk]
        place.ok(look("alice"))
        place.refused(look("bob"), "access is denied")
    allow("bob")
    place.ok(look("bob"))
    place.refused(look("alice"), "access is denied")


@proof("a daemon serves in TLS and reconnects in it; QEMU's programs in place of either end", ("certtool", "peer:qemu-nbd"))
def _(place):
    folder = Authority(place).folder("both", "server", "client")
    image, sock = raw_image(place, size=16 * MIB), place.path("s")
    command = [*face("nbd"), "-t", "-e", "0", "-k", sock, "-f", "raw", "-x", "disk", "--tls-creds", "tls",
               *x509(folder, "server"), image]
    server = place.serve(command, sock)
    node = f"driver=nbd,node-name=far,server.type=unix,server.path={sock},export=disk,tls-creds=tls,tls-hostname={HOST},reconnect-delay=60"
    daemon = Daemon(place, *x509(folder, "client"), "--blockdev", node)
    qmp = daemon.qmp()
    qmp.run("object-add", {"qom-type": "tls-creds-x509", "id": "own", "endpoint": "server", "dir": folder})
    port = free_port()
    address = {"type": "inet", "data": {"host": "127.0.0.1", "port": str(port)}}
    qmp.run("nbd-server-stop")
    for wrong, words in (({"tls-creds": "tls"}, "server endpoint"), ({"tls-creds": "none"}, "none"), ({"tls-authz": "x"}, "tls-creds")):
        try:
            qmp.run("nbd-server-start", {"addr": address, **wrong})
            raise AssertionError(f"{wrong} was taken")
        except QmpError as error:
            assert words in error.desc, error.desc
    qmp.run("nbd-server-start", {"addr": address, "tls-creds": "own", "max-connections": 2})
    qmp.run("block-export-add", {"type": "nbd", "id": "e", "node-name": "far", "name": "disk", "writable": True})
    try:
        qmp.run("object-del", id="own")
        raise AssertionError("credentials in use were deleted")
    except QmpError as error:
        assert "in use" in error.desc
    disk = options(f"host=localhost,port={port}")
    use(place, of_peer, x509(folder, "client"), disk)
    # The far server goes, and comes again.
    place.end(server)
    place.serve(command, sock)
    use(place, face, x509(folder, "client"), disk)
    qmp.run("nbd-server-stop")
    qmp.run("object-del", id="own")


@proof("no key and no password is in anything that is told: answers, names, errors, logs", ("certtool", "openssl"))
def _(place):
    folder = Authority(place).folder("both", "server", "client")
    plain = f"{folder}/server-key.pem"
    place.ok(["openssl", "pkcs8", "-topk8", "-in", plain, "-out", place.path("sealed.pem"), "-passout", "pass:s3same-0pen"])
    os.replace(place.path("sealed.pem"), plain)
    keys, image = shared_keys(place), raw_image(place, size=16 * MIB)
    hidden = [KEY, KEY[:12], "s3same-0pen"]
    for name in ("server-key.pem", "client-key.pem"):
        with open(f"{folder}/{name}") as file:
            hidden += [line for line in file.read().splitlines() if len(line) > 20 and "-----" not in line]
    told = []
    daemon = Daemon(place, "--trace", "debug", "--object", "secret,id=p,data=s3same-0pen",
                    "--object", f"tls-creds-x509,id=own,endpoint=server,dir={folder},passwordid=p",
                    "--object", f"tls-creds-psk,id=shared,endpoint=server,dir={keys}",
                    "--object", f"tls-creds-psk,id=mine,endpoint=client,dir={keys},username=alice",
                    *image_options("raw", "disk", image), nbd=False)
    qmp = daemon.qmp()
    sock = place.path("n")
    qmp.run("nbd-server-start", {"addr": {"type": "unix", "data": {"path": sock}}, "tls-creds": "shared"})
    qmp.run("block-export-add", {"type": "nbd", "id": "e", "node-name": "disk", "name": "disk", "writable": True})
    far = {"driver": "nbd", "node-name": "far", "export": "disk", "tls-creds": "mine", "server": {"type": "unix", "path": sock}}
    qmp.run("blockdev-add", far)
    told += [qmp.run("query-named-block-nodes"), qmp.run("query-block-exports"), qmp.run("qom-list", path="/objects")]
    for name in ("own", "shared", "mine", "p"):
        told.append(qmp.run("qom-list-get", paths=[f"/objects/{name}"]))
    for wrong in ({"qom-type": "tls-creds-psk", "dir": keys, "username": "bob"}, {"qom-type": "tls-creds-x509", "dir": folder, "endpoint": "server"}):
        try:
            qmp.run("object-add", {"id": "x", **wrong})
            raise AssertionError(f"{wrong} was taken")
        except QmpError as error:
            told.append(error.desc)
    wrong = shared_keys(place, "wrong", key="cd" * 32)
    for credentials in (psk(keys, "client", "alice"), psk(wrong, "client", "alice")):
        for how in (["--output=json"], []):
            run = place.run([*face("img"), "info", *how, *credentials, "--image-opts", options(f"path={sock}")])
            told += [run.out, run.err]
    assert "handshake failed" in daemon.log(), daemon.log()[-500:]
    told.append(daemon.log())
    for secret in hidden:
        for text in told:
            assert secret not in str(text), f"{secret} is in {str(text)[:2000]}"


@proof("ten thousand clients that rest take less than 256 MiB of a server, and those in TLS no more", ("certtool",))
def _(place):
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    folder = Authority(place).folder("both", "server", "client")
    image = raw_image(place, size=MIB)
    context = ssl.create_default_context(cafile=f"{folder}/ca-cert.pem")
    context.load_cert_chain(f"{folder}/client-cert.pem", f"{folder}/client-key.pem")
    for name, count, credentials in (("plain", 10_000, []), ("tls", 1000, ["--tls-creds", "tls", *x509(folder, "server")])):
        count = min(count, most - 200)
        place.tell(f"{count} clients, {name}")
        sock = place.path(name)
        server = place.serve([*face("nbd"), "-t", "-e", "0", "-k", sock, "-f", "raw", "-x", "disk", *credentials, image], sock)
        before, clients = memory_peak(server.pid), []
        for _ in range(count):
            client = wire.Client(sock).greet()
            if credentials:
                client.option(STARTTLS)
                assert client.reply()[1] == wire.ACK
                client.socket = context.wrap_socket(client.socket, server_hostname=HOST)
            client.option(wire.GO, wire.struct.pack(">I", 4) + b"disk\0\0")
            assert client.replies()[-1][1] == wire.ACK
            client.request(wire.READ, 0, 4096)
            assert client.answer(4096)[0] == 0
            clients.append(client)
        each = (memory_peak(server.pid) - before) / count
        place.tell(f"{each / 1024:.1f} KiB each")
        assert each < 256 * MIB / 10_000, f"{each} bytes for each of {count} clients ({name})"
        for client in clients:
            client.socket.close()
        place.end(server)


@proof("a vsock address is taken on both ends, and refused in words where the system has none")
def _(place):
    image = raw_image(place, size=MIB)
    place.refused([*face("img"), "info", "--image-opts", "driver=nbd,server.type=vsock,server.cid=x,server.port=1"],
                  "Failed to parse cid 'x'")
    loopback = "driver=nbd,server.type=vsock,server.cid=1,server.port=10809,export=disk"
    daemon = Daemon(place, *image_options("raw", "disk", image), nbd=False)
    qmp = daemon.qmp()
    try:
        with socket.socket(socket.AF_VSOCK) as probe:
            probe.bind((1, 10808))
        is_there = True
    except OSError:
        is_there = False
    try:
        qmp.run("nbd-server-start", {"addr": {"type": "vsock", "data": {"cid": "1", "port": "10809"}}})
        assert is_there
    except QmpError as error:
        assert not is_there and "Failed to bind socket to 1:10809" in error.desc, error.desc
        place.refused([*face("img"), "info", "--image-opts", loopback], "Failed to connect to '1:10809'")
        return
    qmp.run("block-export-add", {"type": "nbd", "id": "e", "node-name": "disk", "name": "disk"})
    told = place.ok([*face("img"), "info", "--output=json", "--image-opts", loopback]).json()
    assert told["virtual-size"] == MIB and '"server.cid": "1"' in told["filename"], told


main("TLS")
