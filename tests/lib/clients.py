"""NBD clients of others at our exports, our clients at theirs, and clients that nobody wants."""

import array
import os
import random
import socket
import struct
import sys
import time

import nbd

import wire
from harness import (KIB, MIB, Daemon, Qmp, QmpError, export_options, face, free_port, image_options, main, memory_peak,
                     noise, ours, peer, proof, raw_image, sockets, tcp_listening, tested_is_peer, wait_for)

EINVAL, ENOSPC = 22, 28
EPERM = (1, 22) if tested_is_peer() else 1
SIZE = 64 * MIB


def two_exports(place, *more):
    """A raw one, writable, and a qcow2 one of the same content, and the qcow2 read-only."""
    raw, qcow2 = raw_image(place), place.path("disk.qcow2")
    place.ok([ours("qemu-img"), "convert", "-f", "raw", "-O", "qcow2", raw, qcow2])
    daemon = Daemon(
        place,
        *image_options("raw", "raw", raw, discard="unmap"), *image_options("qcow2", "qcow2", qcow2, discard="unmap"),
        *export_options("raw"), *export_options("qcow2"),
        *export_options("qcow2", "reader", writable=False, export_id="e-reader"), *more)
    return daemon, raw, qcow2


def connect(uri, contexts=True, **settings):
    handle = nbd.NBD()
    if contexts:
        handle.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
    handle.connect_uri(uri)
    return handle


def expect(code, action):
    """`action` must fail with that error, and with no other consequence."""
    codes = code if isinstance(code, tuple) else (code,)
    try:
        action()
    except nbd.Error as error:
        assert error.errnum in codes, f"expected error {codes}, got {error.errnum}: {error}"
        return
    raise AssertionError(f"went through; expected error {code}")


def statuses(handle, offset=0, length=SIZE):
    """Extents of base:allocation, merged: (start, length, flags)."""
    found = []
    end = offset + length
    while offset < end:
        entries = []
        handle.block_status(end - offset, offset, lambda name, at, extents, error: entries.extend(extents) or 0)
        assert entries, "no extents"
        for size, flags in zip(entries[::2], entries[1::2]):
            size = min(size, end - offset)
            if found and found[-1][2] == flags:
                found[-1] = (found[-1][0], found[-1][1] + size, flags)
            elif size:
                found.append((offset, size, flags))
            offset += size
    return found


@proof("nbdinfo lists every export with size, permissions and abilities, and maps them", ("nbdinfo",))
def _(place):
    daemon, _, _ = two_exports(place)
    uri = f"nbd+unix://?socket={daemon.nbd_path}"
    listed = place.ok(["nbdinfo", "--list", "--json", uri]).json()["exports"]
    assert sorted(each["export-name"] for each in listed) == ["qcow2", "raw", "reader"], listed
    for each in listed:
        assert each["export-size"] == SIZE, each
        assert each["is_read_only"] == (each["export-name"] == "reader"), each
        assert each["can_flush"] and each["can_multi_conn"] and each["can_df"], each
        writable = each["export-name"] != "reader"
        for ability in ("can_fua", "can_trim", "can_zero", "can_fast_zero", "can_cache"):
            assert each[ability] or (not writable and ability != "can_cache"), (ability, each)
        assert "base:allocation" in each["contexts"], each
    text = place.ok(["nbdinfo", daemon.uri("raw")]).out
    assert "newstyle-fixed" in text and "structured packets" in text, text
    place.ok(["nbdinfo", "--can", "structured-reply", daemon.uri("raw")])
    assert place.ok(["nbdinfo", "--size", daemon.uri("qcow2")]).out.strip() == str(SIZE)
    place.refused(["nbdinfo", daemon.uri("nothing")])
    want = [(0, MIB, 0), (MIB, 4 * MIB, 3), (5 * MIB, MIB, 0), (6 * MIB, SIZE - 7 * MIB, 3), (SIZE - MIB, MIB, 0)]
    for name in ("raw", "qcow2", "reader"):
        extents = place.ok(["nbdinfo", "--map", "--json", daemon.uri(name)]).json()
        merged = []
        for extent in extents:
            if merged and merged[-1][2] == extent["type"]:
                merged[-1] = (merged[-1][0], merged[-1][1] + extent["length"], extent["type"])
            else:
                merged.append((extent["offset"], extent["length"], extent["type"]))
        assert merged == want, (name, merged)
    daemon.stop()


@proof("nbdcopy brings the same bytes out and in, over several connections", ("nbdcopy",))
def _(place):
    daemon, raw, qcow2 = two_exports(place)
    original = open(raw, "rb").read()
    for name in ("raw", "qcow2", "reader"):
        out = place.path("out")
        place.ok(["nbdcopy", "--connections=4", "--requests=16", daemon.uri(name), out])
        assert open(out, "rb").read() == original, name
        os.unlink(out)
    other = bytearray(noise(SIZE // 4, 7) + bytes(SIZE // 4) + noise(SIZE // 2, 8))
    source = place.write("other", other)
    for name in ("raw", "qcow2"):
        place.ok(["nbdcopy", "--connections=4", "--flush", source, daemon.uri(name)])
        place.ok(["nbdcopy", daemon.uri(name), place.path("back")])
        assert open(place.path("back"), "rb").read() == other, name
    place.ok(["nbdcopy", daemon.uri("raw"), daemon.uri("qcow2")])
    place.refused(["nbdcopy", source, daemon.uri("reader")])
    daemon.stop()
    place.ok([peer("qemu-img"), "compare", "-f", "raw", "-F", "qcow2", raw, qcow2])
    place.ok([peer("qemu-img"), "check", "-f", "qcow2", qcow2])


@proof("a libnbd client has every command: structured replies, status, FUA, trim, zeroes, cache, flush, several connections")
def _(place):
    daemon, raw, qcow2 = two_exports(place)
    for name in ("raw", "qcow2"):
        handle, second = connect(daemon.uri(name)), connect(daemon.uri(name))
        assert handle.get_structured_replies_negotiated() and handle.can_multi_conn() and handle.get_size() == SIZE
        assert handle.get_block_size(nbd.SIZE_MAXIMUM) in (0, 32 * MIB), handle.get_block_size(nbd.SIZE_MAXIMUM)
        data = noise(MIB, 3)
        handle.pwrite(data, 10 * MIB, nbd.CMD_FLAG_FUA)
        assert second.pread(MIB, 10 * MIB) == data, "another connection sees what was answered"
        second.flush()
        handle.pwrite(b"odd bytes", 10 * MIB + 12345)
        assert second.pread(9, 10 * MIB + 12345) == b"odd bytes"
        handle.pwrite(data, 10 * MIB)
        handle.zero(64 * KIB, 10 * MIB + 64 * KIB, nbd.CMD_FLAG_NO_HOLE)
        handle.zero(64 * KIB, 10 * MIB + 256 * KIB, nbd.CMD_FLAG_FUA)
        assert second.pread(64 * KIB, 10 * MIB + 64 * KIB) == bytes(64 * KIB)
        assert second.pread(64 * KIB, 10 * MIB + 256 * KIB) == bytes(64 * KIB)
        assert second.pread(64 * KIB, 10 * MIB) == data[:64 * KIB]
        handle.zero(100, 10 * MIB + 50)
        assert second.pread(200, 10 * MIB) == data[:50] + bytes(100) + data[150:200]
        try:
            handle.zero(MIB, 20 * MIB, nbd.CMD_FLAG_FAST_ZERO)
            assert second.pread(MIB, 20 * MIB) == bytes(MIB)
        except nbd.Error as error:
            assert error.errnum == 95, error  # EOPNOTSUPP: not faster than a write, nothing done
        handle.trim(256 * KIB, 10 * MIB + 512 * KIB)
        assert second.pread(256 * KIB, 10 * MIB + 512 * KIB) in (bytes(256 * KIB), data[512 * KIB:768 * KIB])
        handle.cache(4 * MIB, 8 * MIB)
        found = statuses(handle, 8 * MIB, 8 * MIB)
        assert sum(size for _, size, _ in found) == 8 * MIB
        assert found[0][2] & 2, f"never written, reads as zeroes: {found}"
        assert any(start <= 10 * MIB < start + size and flags == 0 for start, size, flags in found), found
        chunks = []
        handle.pread_structured(4 * MIB, 8 * MIB, lambda buf, at, status, error: chunks.append((at, len(buf), status)) or 0)
        covered = sum(size for _, size, status in chunks)
        assert covered == 4 * MIB or any(s == nbd.READ_HOLE for _, _, s in chunks), chunks
        whole = []
        handle.pread_structured(4 * MIB, 8 * MIB, lambda buf, at, status, error: whole.append(status) or 0, nbd.CMD_FLAG_DF)
        assert len(whole) == 1, "DF: in one piece"
        handle.pwrite(noise(32 * MIB, 4), 16 * MIB)
        assert handle.pread(32 * MIB, 16 * MIB) == noise(32 * MIB, 4), "the largest request that is agreed on"
        handle.flush()
        handle.shutdown()
        second.shutdown()
    daemon.stop()
    place.ok([peer("qemu-img"), "check", "-f", "qcow2", qcow2])


@proof("a bad request is refused and the connection goes on")
def _(place):
    daemon, raw, _ = two_exports(place)
    for name in ("raw", "qcow2"):
        handle = connect(daemon.uri(name))
        handle.set_strict_mode(0)
        expect(EINVAL, lambda: handle.pread(4096, SIZE))
        expect(EINVAL, lambda: handle.pread(4096, SIZE - 100))
        expect(EINVAL, lambda: handle.pread(512, (1 << 63) - 512))
        expect((ENOSPC, EINVAL), lambda: handle.pwrite(b"x" * 4096, SIZE - 100))
        expect((ENOSPC, EINVAL), lambda: handle.pwrite(b"x" * 4096, (1 << 64) - 4096))
        expect((ENOSPC, EINVAL), lambda: handle.zero(4096, SIZE))
        expect((ENOSPC, EINVAL), lambda: handle.zero(0xFFFFF000, SIZE - 4096))
        expect((ENOSPC, EINVAL), lambda: handle.trim(4096, SIZE))
        expect((ENOSPC, EINVAL), lambda: handle.cache(4096, SIZE))
        expect(EINVAL, lambda: handle.block_status(4096, SIZE, lambda *_: 0))
        assert handle.pread(16, 0) == noise(MIB, 0)[:16]
        handle.shutdown()
    reader = connect(daemon.uri("reader"))
    reader.set_strict_mode(0)
    before = reader.pread(4096, 0)
    expect(EPERM, lambda: reader.pwrite(b"x" * 4096, 0))
    expect(EPERM, lambda: reader.zero(4096, 0))
    expect(EPERM, lambda: reader.trim(4096, 0))
    reader.flush()
    assert reader.pread(4096, 0) == before
    client = wire.Client(daemon.nbd_path).go("raw")
    for kind, offset, length, data, flags in [
            (99, 0, 0, b"", 0),                               # no such command
            (wire.READ, 0, 64 * MIB, b"", 0),                 # longer than agreed
            (wire.READ, 0, 512, b"", 1 << 15),                # unknown flag
            (wire.STATUS, 0, 512, b"", 0)]:                   # not negotiated
        client.request(kind, offset, length, data, flags)
        error, cookie, _ = client.answer(length)
        assert error == EINVAL and cookie == client.cookie, (kind, length, flags, error)
    try:
        # Longer than agreed: refused, and its data skipped; or hung up on.
        client.request(wire.WRITE, 0, 33 * MIB, bytes(33 * MIB))
        error, _, _ = client.answer()
        assert error == EINVAL, error
        client.request(wire.READ, 0, 16)
        assert client.answer(16)[2] == noise(MIB, 0)[:16], "nothing of it was written"
    except (EOFError, ConnectionError):
        pass
    assert open(raw, "rb").read(16) == noise(MIB, 0)[:16]
    daemon.alive()
    daemon.stop()


@proof("qemu-nbd --list of QEMU and of ours tell the same of our daemon", ("peer:qemu-nbd",))
def _(place):
    daemon, _, _ = two_exports(place)
    theirs = place.ok([peer("qemu-nbd"), "--list", "-k", daemon.nbd_path]).out
    mine = place.ok([*face("nbd"), "--list", "-k", daemon.nbd_path]).out
    for line in ("exports available: 3", "export: 'raw'", f"size:  {SIZE}", "base:allocation"):
        assert line in theirs, theirs
    assert sorted(mine.split("\n")) == sorted(theirs.split("\n")), f"{mine}\n-- theirs:\n{theirs}"
    daemon.stop()


@proof("QEMU's qemu-io and qemu-img work over our exports", ("peer:qemu-io",))
def _(place):
    daemon, raw, qcow2 = two_exports(place)
    commands = ["write -P 7 3M 70000", "read -P 7 3M 70000", "write -z 4M 1M", "read -P 0 4M 1M", "write -f -P 9 8M 4k",
                "aio_write -P 11 9M 1M", "aio_flush", "read -P 11 9M 1M", "discard 16M 1M", "flush"]
    for name in ("raw", "qcow2"):
        line = [peer("qemu-io"), "-f", "raw", "-d", "unmap"]
        for command in commands:
            line += ["-c", command]
        run = place.ok([*line, daemon.uri(name)])
        assert "failed" not in run.out.lower(), str(run)
    place.ok([peer("qemu-img"), "compare", "-f", "raw", "-F", "raw", daemon.uri("raw"), daemon.uri("qcow2")])
    assert place.ok([peer("qemu-img"), "info", "--output=json", daemon.uri("raw")]).json()["virtual-size"] == SIZE
    total = sum(entry["length"] for entry in place.ok(
        [peer("qemu-img"), "map", "-f", "raw", "--output=json", daemon.uri("qcow2")]).json())
    assert total == SIZE, total
    place.ok([peer("qemu-img"), "convert", "-f", "raw", "-O", "qcow2", daemon.uri("reader"), place.path("copy.qcow2")])
    place.ok([peer("qemu-img"), "convert", "-n", "-f", "raw", "-O", "raw", raw_image(place, "other.raw"), daemon.uri("qcow2")])
    place.ok([peer("qemu-img"), "bench", "-f", "raw", "-c", "2000", "-d", "32", "-w", daemon.uri("raw")])
    daemon.stop()
    place.ok([peer("qemu-img"), "check", "-f", "qcow2", qcow2])


def use_ours_at(place, uri, size):
    """Our tools as clients of somebody's export."""
    io, img = [*face("io"), "-f", "raw"], face("img")
    for command in ["write -P 7 3M 70000", "write -z 4M 1M", "aio_write -P 11 9M 1M", "aio_flush", "flush", "write -P 5 1001 999"]:
        io += ["-c", command]
    place.ok([*io, uri])
    for command in ["read -P 7 3M 70000", "read -P 0 4M 1M", "read -P 11 9M 1M", "read -P 5 1001 999", "length"]:
        run = place.ok([*face("io"), "-r", "-f", "raw", "-c", command, uri])
        assert "failed" not in (run.out + run.err).lower(), str(run)
    run = place.run([*face("io"), "-r", "-f", "raw", "-c", f"read {size} 4k", uri])
    assert run.code == 1 and "read failed" in run.out, str(run)
    assert place.ok([*img, "info", "--output=json", uri]).json()["virtual-size"] == size
    out = place.path("fetched.qcow2")
    place.ok([*img, "convert", "-f", "raw", "-O", "qcow2", uri, out])
    place.ok([*img, "compare", "-f", "raw", "-F", "qcow2", uri, out])
    place.ok([peer("qemu-img"), "compare", "-f", "raw", "-F", "qcow2", uri, out])
    mine = place.ok([*img, "map", "-f", "raw", "--output=json", uri]).json()
    theirs = place.ok([peer("qemu-img"), "map", "-f", "raw", "--output=json", uri]).json()
    assert mine == theirs, (mine, theirs)
    os.unlink(out)
    fresh = place.path("fresh.raw")
    with open(fresh, "wb") as file:
        file.truncate(size)
        file.seek(6 * MIB)
        file.write(noise(MIB, 6))
    place.ok([*img, "convert", "-n", "-f", "raw", "-O", "raw", fresh, uri])
    place.ok([*img, "compare", "-f", "raw", "-F", "raw", fresh, uri])


@proof("our io and img work over QEMU's qemu-nbd, UNIX and TCP", ("peer:qemu-nbd",))
def _(place):
    raw, sock = raw_image(place), place.path("s")
    server = place.serve([peer("qemu-nbd"), "-t", "-e", "0", "-k", sock, "-f", "raw", "-x", "disk", "--discard=unmap", raw], sock)
    use_ours_at(place, f"nbd+unix:///disk?socket={sock}", SIZE)
    place.refused([*face("img"), "info", f"nbd+unix:///wrong?socket={sock}"], "wrong")
    place.end(server)
    port = free_port()
    place.spawn([peer("qemu-nbd"), "-t", "-e", "0", "-b", "127.0.0.1", "-p", str(port), "-f", "raw", "-x", "disk", raw])
    wait_for("the port", lambda: tcp_listening(port))
    use_ours_at(place, f"nbd://127.0.0.1:{port}/disk", SIZE)
    place.refused([*face("img"), "info", f"nbd://127.0.0.1:{free_port()}/disk"], "refused")


@proof("a client that asks for zeroes of 32 TiB and leaves keeps no server from ending")
def _(place):
    image, sock = place.path("vast.qcow2"), place.path("s")
    place.ok([ours("qemu-img"), "create", "-q", "-f", "qcow2", image, "64T"])
    server = place.serve([*face("nbd"), "-t", "-e", "0", "-f", "qcow2", "-x", "disk", "-k", sock, image], sock)
    client = wire.Client(sock).go("disk", wire.EXTENDED)
    client.socket.sendall(struct.pack(">IHHQQQ", wire.EXTENDED_REQUEST, 0, wire.ZERO, 7, 0, 32 << 40))
    time.sleep(0.5)
    client.socket.close()
    assert place.end(server, seconds=60) == 0
    place.ok([ours("qemu-img"), "check", "-q", image])


@proof("a client without TLS at a server that requires it is told what to look for, and what the server says, once",
       ("peer:qemu-nbd",))
def _(place):
    raw, sock, keys = raw_image(place, size=MIB), place.path("s"), place.path("keys")
    os.mkdir(keys)
    with open(os.path.join(keys, "keys.psk"), "w") as file:
        file.write(f"somebody:{'ab' * 32}\n")
    place.serve([peer("qemu-nbd"), "-t", "-e", "0", "-f", "raw", "-k", sock, "-x", "disk", "--tls-creds", "tls",
                 "--object", f"tls-creds-psk,id=tls,endpoint=server,dir={keys}", raw], sock)
    for command in ([*face("img"), "info", f"nbd+unix:///disk?socket={sock}"], [*face("nbd"), "--list", "-k", sock]):
        run = place.refused(command, ("requires TLS", "TLS negotiation required"), "forget a valid tls-creds", "server reported: ")
        assert run.err.count("not permitted before TLS") == 1, run


@proof("our io and img work over nbdkit, with and without structured replies", ("nbdkit",))
def _(place):
    for index, more in enumerate(([], ["--no-sr"], ["--filter=blocksize-policy", "blocksize-minimum=512", "blocksize-error-policy=error"])):
        sock = place.path(f"s{index}")
        plugin = ["memory", str(SIZE)]
        filters = [word for word in more if word.startswith("--")]
        settings = [word for word in more if not word.startswith("--")]
        place.serve(["nbdkit", "-f", "-U", sock, *filters, *plugin, *settings], sock)
        use_ours_at(place, f"nbd+unix:///?socket={sock}", SIZE)


@proof("our nbd face serves one image: read-only, export name, several clients, and ends with the last one", ("nbdinfo",))
def _(place):
    raw, sock = raw_image(place), place.path("n.sock")
    server = place.serve([*face("nbd"), "-t", "-r", "-e", "3", "-f", "raw", "-x", "disk", "-D", "a disk", "-k", sock, raw], sock)
    info = place.ok(["nbdinfo", "--json", f"nbd+unix:///disk?socket={sock}"]).json()["exports"][0]
    assert info["export-name"] == "disk" and info["is_read_only"] and info["export-size"] == SIZE, info
    assert info.get("description") == "a disk", info
    place.refused(["nbdinfo", f"nbd+unix:///other?socket={sock}"])
    handles = [connect(f"nbd+unix:///disk?socket={sock}") for _ in range(3)]
    assert all(handle.pread(4, 0) == noise(MIB, 0)[:4] for handle in handles)
    place.end(server)
    sock = place.path("once.sock")
    server = place.spawn([*face("nbd"), "-f", "raw", "-k", sock, "--pid-file", place.path("pid"), raw])
    wait_for("the socket", lambda: os.path.exists(sock))
    handle = connect(f"nbd+unix:///?socket={sock}")
    handle.pwrite(b"written", 0)
    handle.shutdown()
    assert server.wait(20) == 0, "ends when the last client has left"
    assert not os.path.exists(sock), "takes its socket with it"
    assert open(raw, "rb").read(7) == b"written"
    place.refused([*face("nbd"), "-k", "relative.sock", "-f", "raw", raw])
    place.refused([*face("nbd"), "-k", place.path("x.sock"), "-f", "raw", place.path("nothing.raw")], "nothing.raw")


def works(daemon, name="raw"):
    """A well-behaved client is served at once."""
    start = time.monotonic()
    handle = connect(daemon.uri(name))
    assert handle.pread(16, 0) == noise(MIB, 0)[:16]
    handle.pwrite(noise(16, 0), 0)
    handle.shutdown()
    assert time.monotonic() - start < 60, "the others wait for one"
    daemon.alive()


GARBAGE = [
    b"", b"\0" * 64, b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 4096,
    struct.pack(">I", 0xFFFFFFFF),                                                   # unknown client flags
    struct.pack(">IQII", 3, 0xDEADBEEF, 7, 0),                                       # no option magic
    struct.pack(">IQII", 3, wire.OPTION, 7, 0xFFFFFFFF),                             # an option of 4 GiB
    struct.pack(">IQII", 3, wire.OPTION, 7, 6) + struct.pack(">IH", 0xFFFFFFFF, 0),  # a name of 4 GiB
    struct.pack(">IQII", 3, wire.OPTION, 7, 4096) + b"x" * 4096,
    struct.pack(">IQII", 3, wire.OPTION, 10, 12) + struct.pack(">III", 0, 0xFFFFFFFF, 0),
    struct.pack(">IQII", 3, wire.OPTION, 1, 3) + b"\xff\xfe\xfd",
    struct.pack(">IQII", 1, wire.OPTION, 9, 0) * 40,
]


@proof("garbage instead of a handshake costs nobody else anything")
def _(place):
    daemon, _, _ = two_exports(place)
    before = sockets(daemon.pid)
    rounds = [(data, cut) for data in GARBAGE for cut in (True, False)]
    rounds += [(place.rng.randbytes(place.rng.randrange(1, 3000)), True) for _ in range(40)]
    clients = []
    for data, cut in rounds:
        client = wire.Client(daemon.nbd_path)
        try:
            client.socket.sendall(data)
        except OSError:
            pass
        if cut:
            client.close()
        else:
            clients.append(client)
    works(daemon)
    for client in clients:
        client.close()
    wait_for("sockets to be given back", lambda: sockets(daemon.pid) <= before)
    # Past the handshake: bytes that are no request.
    client = wire.Client(daemon.nbd_path).go("raw")
    client.socket.sendall(b"\x55" * 28)
    assert client.ended(), "a stream that is out of step is hung up on"
    works(daemon)
    daemon.stop()


@proof("half a handshake and then silence ends at the deadline", seconds=90)
def _(place):
    sock = place.path("n.sock")
    raw = raw_image(place)
    server = place.serve([*face("nbd"), "-t", "-e", "0", "--handshake-limit", "2", "-f", "raw", "-k", sock, raw], sock)
    silent = wire.Client(sock)
    half = wire.Client(sock).greet()
    half.socket.sendall(struct.pack(">QI", wire.OPTION, wire.GO))
    done = wire.Client(sock).go("")
    start = time.monotonic()
    assert silent.ended() and half.ended(), "never hung up on"
    assert 0.5 < time.monotonic() - start, time.monotonic() - start
    done.request(wire.READ, 0, 16)
    assert done.answer(16)[2] == noise(MIB, 0)[:16], "who is through may be silent as long as it likes"
    place.end(server)


@proof("a client that reads no replies costs bounded memory while another works (row 27)")
def _(place):
    daemon, _, _ = two_exports(place)
    works(daemon)
    before = memory_peak(daemon.pid)
    hogs = []
    for _ in range(4):
        hog = wire.Client(daemon.nbd_path).go("raw")
        hog.socket.setblocking(False)
        request = struct.pack(">IHHQQI", wire.REQUEST, 0, wire.READ, 1, 0, MIB) * 2000
        for _ in range(50):
            try:
                request = request[hog.socket.send(request):]
            except BlockingIOError:
                time.sleep(0.01)
        hogs.append(hog)
    end = time.monotonic() + 2
    rounds = 0
    while time.monotonic() < end or rounds < 10:
        works(daemon)
        rounds += 1
    grown = (memory_peak(daemon.pid) - before) / MIB
    place.tell(f"four such clients: {grown:.0f} MiB")
    assert grown / len(hogs) < (80 if tested_is_peer() else 12), f"{grown:.0f} MiB for {len(hogs)} clients that do not read"
    for hog in hogs:
        hog.close()
    works(daemon)
    daemon.stop()


@proof("a client that begins writes and never sends their data costs bounded memory")
def _(place):
    daemon, _, _ = two_exports(place)
    works(daemon)
    before = memory_peak(daemon.pid)
    clients = []
    for _ in range(16):
        client = wire.Client(daemon.nbd_path).go("raw")
        client.request(wire.WRITE, 0, 32 * MIB, b"x" * 100)
        clients.append(client)
    works(daemon)
    time.sleep(0.3)
    grown = (memory_peak(daemon.pid) - before) / MIB
    assert grown < 64 or tested_is_peer(), f"{grown:.0f} MiB for 16 promises of 32 MiB"
    for client in clients:
        client.close()
    works(daemon)
    daemon.stop()


@proof("clients that vanish in the middle of requests leave nothing behind")
def _(place):
    daemon, raw, qcow2 = two_exports(place)
    works(daemon)
    before = sockets(daemon.pid)
    for index in range(60):
        client = wire.Client(daemon.nbd_path).go(place.rng.choice(("raw", "qcow2")))
        batch = b""
        for cookie in range(place.rng.randrange(1, 30)):
            kind = place.rng.choice((wire.READ, wire.WRITE, wire.ZERO, wire.TRIM, wire.FLUSH))
            length = place.rng.choice((512, 4096, 70000, MIB)) if kind != wire.FLUSH else 0
            offset = place.rng.randrange(2, 60) * MIB if kind != wire.FLUSH else 0
            batch += struct.pack(">IHHQQI", wire.REQUEST, 0, kind, cookie, offset, length)
            batch += b"v" * length if kind == wire.WRITE else b""
        client.socket.setblocking(False)
        try:
            client.socket.send(batch[:place.rng.randrange(1, len(batch) + 1)])
        except BlockingIOError:
            pass
        if index % 3:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    works(daemon)
    wait_for("sockets to be given back", lambda: sockets(daemon.pid) <= before)
    daemon.stop()
    place.ok([peer("qemu-img"), "check", "-f", "qcow2", qcow2])


@proof("a hundred clients at once are all served")
def _(place):
    daemon, _, _ = two_exports(place)
    handles = [connect(daemon.uri("raw" if index % 2 else "qcow2")) for index in range(100)]
    pending = []
    for index, handle in enumerate(handles):
        buffer = nbd.Buffer.from_bytearray(bytearray(noise(64 * KIB, index)))
        pending.append((handle, handle.aio_pwrite(buffer, 10 * MIB + index * 128 * KIB)))
    for handle, cookie in pending:
        while not handle.aio_command_completed(cookie):
            handle.poll(1000)
    for index, handle in enumerate(handles):
        assert handle.pread(64 * KIB, 10 * MIB + index * 128 * KIB) == noise(64 * KIB, index), index
    place.tell(f"{memory_peak(daemon.pid) / MIB:.0f} MiB at most")
    for handle in handles:
        handle.shutdown()
    works(daemon)
    daemon.stop()


def start_activated(place, count, command, names=None, **more):
    """Starts a program with listening sockets from descriptor 3 on, as a service manager does."""
    paths = [place.path(f"handed{index}") for index in range(count)]
    listeners = [socket.socket(socket.AF_UNIX) for _ in paths]
    for listener, path in zip(listeners, paths):
        if os.path.exists(path):
            os.unlink(path)
        listener.bind(path)
        listener.listen(5)
    for index, listener in enumerate(listeners):
        os.dup2(listener.fileno(), 50 + index)
    begin = ("import os, sys\n"
             "for index in range(int(os.environ['LISTEN_FDS'])):\n"
             "    os.dup2(50 + index, 3 + index)\n"
             "os.environ['LISTEN_PID'] = str(os.getpid())\n"
             "os.execvp(sys.argv[1], sys.argv[1:])\n")
    environment = dict(os.environ, LISTEN_FDS=str(count), **({"LISTEN_FDNAMES": names} if names else {}))
    process = place.spawn([sys.executable, "-c", begin, *command], pass_fds=range(50, 50 + count), env=environment,
                          **more)
    for index in range(count):
        os.close(50 + index)
    return process, paths


@proof("sockets of a service manager are served on, all of them, and nothing else is opened")
def _(place):
    raw = raw_image(place)
    process, paths = start_activated(place, 2, [*face("nbd"), "-t", "-r", "-e", "0", "-f", "raw", raw])
    for path in paths:
        assert connect(f"nbd+unix:///?socket={path}", contexts=False).get_size() == SIZE
    place.end(process)
    target = place.path("copy")
    place.ok(["nbdcopy", "--", "[", *face("nbd"), "-r", "-f", "raw", raw, "]", target])
    with open(raw, "rb") as one, open(target, "rb") as other:
        assert one.read() == other.read()
    for contradiction in (["-p", "10811"], ["-b", "127.0.0.1"], ["-k", place.path("own")]):
        process, _ = start_activated(place, 1, [*face("nbd"), *contradiction, "-f", "raw", raw])
        assert process.wait(60) == 1, contradiction
    assert not os.path.exists(place.path("own"))


@proof("the daemon serves NBD and QMP on sockets that were handed over, by name and by number")
def _(place):
    for nbd_socket, qmp_socket, names in (("disk", "qmp", "disk:qmp"), ("3", "4", None)):
        command = [*face("daemon"), "--blockdev", "null-co,node-name=n,size=1048576",
                   "--nbd-server", f"addr.type=fd,addr.str={nbd_socket}", "--export", "nbd,id=e,node-name=n",
                   "--chardev", f"socket,id=c,fd={qmp_socket},server=on,wait=off", "--monitor", "c"]
        process, paths = start_activated(place, 2, command, names)
        qmp = Qmp(paths[1])
        assert connect(f"nbd+unix:///n?socket={paths[0]}", contexts=False).get_size() == MIB
        qmp.run("quit")
        assert process.wait(60) == 0
        for path in paths:
            os.unlink(path)


@proof("the daemon says so when sockets are handed over and no option uses them")
def _(place):
    def told(*more):
        with open(place.path("errors"), "w+") as errors:
            command = [*face("daemon"), "--blockdev", "null-co,node-name=n", "--pidfile", place.path("pid"), *more]
            process, paths = start_activated(place, 1, command, stderr=errors)
            wait_for("the daemon to be up", lambda: os.path.exists(place.path("pid")), 60)
            place.end(process)
            for path in paths:
                os.unlink(path)
            errors.seek(0)
            return errors.read()

    assert "descriptor 3" in told() and "LISTEN_FDS" in told()
    assert "warning" not in told("--nbd-server", "addr.type=fd,addr.str=3")


@proof("a node takes a connected socket that was handed over: by number, and by the name of getfd")
def _(place):
    raw = raw_image(place, size=MIB)
    server = Daemon(place, *image_options("raw", "raw", raw), *export_options("raw"), name="server")

    def connected():
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(server.nbd_path)
        return connection

    def node(name, what):
        return {"driver": "nbd", "node_name": name, "export": "raw", "server": {"type": "fd", "str": what}}

    inherited = connected()
    number = inherited.fileno()
    daemon = Daemon(place, "--blockdev", f"nbd,node-name=first,export=raw,server.type=fd,server.str={number}",
                    pass_fds=[number])
    inherited.close()
    qmp = daemon.qmp()
    by_name = connected()
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [by_name.fileno()]))]
    qmp.socket.sendmsg([b" "], rights)
    qmp.run("getfd", fdname="mine")
    by_name.close()
    for wrong in ("yours", str(number), "-1"):
        try:
            qmp.run("blockdev-add", **node("wrong", wrong))
        except QmpError:
            continue
        raise AssertionError(f"descriptor {wrong} was there")
    qmp.run("blockdev-add", **node("second", "mine"))
    try:
        qmp.run("blockdev-add", **node("third", "mine"))
        raise AssertionError("a socket serves once")
    except QmpError:
        pass
    for name in ("first", "second"):
        qmp.run("block-export-add", type="nbd", id=f"e-{name}", node_name=name)
        handle = connect(daemon.uri(name), contexts=False)
        assert handle.pread(4096, 0) == noise(MIB, 0)[:4096]
        handle.shutdown()
    qmp.run("quit")


@proof("descriptors come with QMP commands: sockets by name, files as sets")
def _(place):
    raw = raw_image(place, size=MIB)
    daemon = Daemon(place, nbd=False)
    qmp = daemon.qmp()

    def hand(command, descriptor, **arguments):
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
        qmp.socket.sendmsg([b" "], rights)
        return qmp.run(command, **arguments)

    def refused(command, **arguments):
        try:
            qmp.run(command, **arguments)
        except QmpError:
            return
        raise AssertionError(f"{command} {arguments} went through")

    listener, path = socket.socket(socket.AF_UNIX), place.path("named")
    listener.bind(path)
    listener.listen(5)
    refused("getfd", fdname="nothing")
    hand("getfd", listener.fileno(), fdname="served")
    listener.close()
    qmp.run("nbd-server-start", addr={"type": "fd", "data": {"str": "served"}})
    refused("closefd", fdname="served")
    reader, writer = os.open(raw, os.O_RDONLY), os.open(raw, os.O_RDWR)
    set_id = hand("add-fd", reader, opaque="reader")["fdset-id"]
    file = {"driver": "file", "filename": f"/dev/fdset/{set_id}"}
    refused("blockdev-add", driver="raw", node_name="early", file=file)
    hand("add-fd", writer, fdset_id=set_id)
    os.close(reader)
    os.close(writer)
    assert [len(found["fds"]) for found in qmp.run("query-fdsets")] == [2]
    os.rename(raw, raw + ".moved")
    qmp.run("blockdev-add", driver="raw", node_name="disk", file=file)
    qmp.run("remove-fd", fdset_id=set_id)
    assert qmp.run("query-fdsets") == []
    refused("remove-fd", fdset_id=set_id)
    qmp.run("block-export-add", type="nbd", id="e", node_name="disk", writable=True)
    handle = connect(f"nbd+unix:///disk?socket={path}", contexts=False)
    assert handle.pread(4096, 0) == noise(MIB, 0)[:4096]
    handle.pwrite(b"w" * 512, 0)
    handle.shutdown()
    with open(raw + ".moved", "rb") as moved:
        assert moved.read(512) == b"w" * 512
    qmp.run("quit")


main("NBD clients")
