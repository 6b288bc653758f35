"""The daemon, steered over QMP: by the PyPI client `qemu.qmp`, by many at once, and by clients that behave badly."""

import asyncio
import json
import os
import signal
import sys
import time

import nbd

from harness import (KIB, MIB, Daemon, Qmp, QmpError, blockdev, export_options, face, image_options, listening, main,
                     memory_peak, ours, peer, proof, tested_is_peer, wait_for)

SIZE = 16 * MIB
EXPORT = ["--nbd-server"]


def qcow2(place, name, size=SIZE, *more):
    path = place.path(name)
    place.ok([ours("qemu-img"), "create", "-q", "-f", "qcow2", *more, path, str(size)])
    return path


def write(daemon, export, data, offset):
    handle = nbd.NBD()
    handle.connect_uri(daemon.uri(export))
    handle.pwrite(data, offset)
    handle.flush()
    handle.shutdown()


def read(daemon, export, count, offset):
    handle = nbd.NBD()
    handle.connect_uri(daemon.uri(export))
    data = bytes(handle.pread(count, offset))
    handle.shutdown()
    return data


def refused(qmp, command, arguments=None, *words, cls="GenericError"):
    """The command must fail; the description holds all of `words`."""
    try:
        value = qmp.run(command, arguments)
    except QmpError as error:
        assert error.cls == cls, f"{command}: class {error.cls} instead of {cls}: {error.desc}"
        for word in words:
            assert word in error.desc, f"{command}: no '{word}' in: {error.desc}"
        return error
    raise AssertionError(f"{command} {arguments} went through: {value}")


@proof("the PyPI client qemu.qmp adds nodes, exports, snapshots and commits, with every event in its order",
       ("python:qemu.qmp",))
def _(place):
    from qemu.qmp import ExecuteError, QMPClient
    base, overlay = qcow2(place, "base.qcow2"), place.path("overlay.qcow2")
    daemon = Daemon(place, nbd=False)
    sock = place.path("late.nbd")
    daemon.nbd_path = sock

    async def story():
        client = QMPClient("proof")
        await client.connect(daemon.qmp_path)
        run = client.execute
        assert any(command["name"] == "block-commit" for command in await run("query-commands"))
        await run("blockdev-add", {"driver": "file", "node-name": "f", "filename": base})
        await run("blockdev-add", {"driver": "qcow2", "node-name": "disk", "file": "f"})
        await run("nbd-server-start", {"addr": {"type": "unix", "data": {"path": sock}}})
        await run("block-export-add", {"type": "nbd", "id": "e", "node-name": "disk", "name": "disk", "writable": True})
        assert [export["id"] for export in await run("query-block-exports")] == ["e"]
        write(daemon, "disk", b"before" * 100, 0)
        await run("blockdev-snapshot-sync", {
            "node-name": "disk", "snapshot-file": overlay, "snapshot-node-name": "top"})
        write(daemon, "disk", b"after" * 100, MIB)
        nodes = {node["node-name"]: node for node in await run("query-named-block-nodes", {"flat": True})}
        assert nodes["top"]["backing_file"] == base and nodes["top"]["file"] == overlay, nodes["top"]
        assert nodes["disk"]["ro"], "the base of a snapshot is read-only"
        try:
            await run("block-commit", {"device": "nobody"})
            raise AssertionError("no error")
        except ExecuteError as error:
            assert error.error_class == "DeviceNotFound", error
        with client.listener() as events:
            await run("block-commit", {"job-id": "j", "device": "top", "base-node": "disk"})
            seen = []
            while not seen or seen[-1][0] != "BLOCK_JOB_READY":
                event = await asyncio.wait_for(events.get(), 20)
                seen.append((event["event"], event["data"].get("status")))
                assert set(event["timestamp"]) == {"seconds", "microseconds"}, event
            jobs = await run("query-block-jobs")
            assert len(jobs) == 1 and jobs[0]["device"] == "j" and jobs[0]["ready"], jobs
            assert (await run("query-jobs"))[0]["status"] == "ready"
            write(daemon, "disk", b"during" * 100, 2 * MIB)
            await run("block-job-complete", {"device": "j"})
            while seen[-1] != ("JOB_STATUS_CHANGE", "null"):
                event = await asyncio.wait_for(events.get(), 20)
                seen.append((event["event"], event["data"].get("status")))
                if event["event"] == "BLOCK_JOB_COMPLETED":
                    data = event["data"]
                    assert data["type"] == "commit" and data["device"] == "j" and "error" not in data, data
                    assert data["len"] == data["offset"], data
        change = "JOB_STATUS_CHANGE"
        # Pauses for a drain may show in between, as they do in QEMU.
        shown = [item for index, item in enumerate(seen) if item[1] not in ("paused", "standby")]
        shown = [item for index, item in enumerate(shown) if index == 0 or item != shown[index - 1]]
        assert shown == [(change, "created"), (change, "running"), (change, "ready"), ("BLOCK_JOB_READY", None),
                         (change, "waiting"), (change, "pending"), ("BLOCK_JOB_COMPLETED", None),
                         (change, "concluded"), (change, "null")], seen
        assert await run("query-jobs") == []
        for at, data in ((0, b"before"), (MIB, b"after"), (2 * MIB, b"during")):
            assert read(daemon, "disk", len(data) * 100, at) == data * 100, at
        with client.listener("BLOCK_EXPORT_DELETED") as events:
            await run("block-export-del", {"id": "e"})
            assert (await asyncio.wait_for(events.get(), 20))["data"]["id"] == "e"
        await run("nbd-server-stop")
        await run("blockdev-del", {"node-name": "disk"})
        await run("blockdev-del", {"node-name": "f"})
        names = [node["node-name"] for node in await run("query-named-block-nodes")]
        assert not {"disk", "f"} & set(names), names
        await run("quit")
        try:
            await client.disconnect()
        except Exception:
            pass

    asyncio.run(story())
    assert daemon.process.wait(20) == 0
    place.ok([peer("qemu-img"), "check", "-f", "qcow2", base])
    run = place.ok([peer("qemu-io"), "-f", "qcow2", "-c", "read -v 2M 8", base])
    assert "during" in run.out, str(run)


@proof("a commit below the active layer, pause, resume, speed, cancel, and a snapshot on an overlay made beforehand")
def _(place):
    base = qcow2(place, "base.qcow2")
    middle = qcow2(place, "middle.qcow2", SIZE, "-b", base, "-F", "qcow2")
    top = qcow2(place, "top.qcow2", SIZE, "-b", middle, "-F", "qcow2")
    daemon = Daemon(
        place, *image_options("qcow2", "base", base, read_only=True, auto_read_only=True),
        *image_options("qcow2", "middle", middle, read_only=True, auto_read_only=True, backing="base"),
        *image_options("qcow2", "top", top, backing="middle"), *export_options("top", "disk"))
    daemon.stop()
    place.ok([ours("qemu-io"), "-f", "qcow2", "-c", "write -P 1 0 8M", base])
    place.ok([ours("qemu-io"), "-f", "qcow2", "-c", "write -P 2 4M 6M", middle])
    daemon = Daemon(
        place, *image_options("qcow2", "base", base, read_only=True, auto_read_only=True),
        *image_options("qcow2", "middle", middle, read_only=True, auto_read_only=True, backing="base"),
        *image_options("qcow2", "top", top, backing="middle"), *export_options("top", "disk"))
    qmp = daemon.qmp()
    write(daemon, "disk", b"3" * MIB, 9 * MIB)
    qmp.run("block-commit", {"job-id": "slow", "device": "top", "top-node": "middle", "base-node": "base", "speed": 64 * KIB})
    refused(qmp, "blockdev-snapshot-sync", {"node-name": "middle", "snapshot-file": place.path("no"), "snapshot-node-name": "no"})
    qmp.run("block-job-pause", {"device": "slow"})
    wait_for("the pause", lambda: qmp.run("query-block-jobs")[0]["status"] == "paused")
    offset = qmp.run("query-block-jobs")[0]["offset"]
    time.sleep(0.3)
    assert qmp.run("query-block-jobs")[0]["offset"] == offset, "a paused job copies nothing"
    refused(qmp, "block-job-complete", {"device": "slow"})
    qmp.run("block-job-resume", {"device": "slow"})
    qmp.run("block-job-cancel", {"device": "slow"})
    event = qmp.wait_event("BLOCK_JOB_CANCELLED")
    assert event["data"]["type"] == "commit" and event["data"]["device"] == "slow", event
    refused(qmp, "block-job-cancel", {"device": "slow"}, "slow", cls="DeviceNotActive")
    assert read(daemon, "disk", 4, 4 * MIB) == b"\2" * 4, "a cancelled commit changes nothing that is seen"
    qmp.run("block-commit", {"job-id": "fast", "device": "top", "top-node": "middle", "base-node": "base", "speed": 64 * KIB})
    qmp.run("block-job-set-speed", {"device": "fast", "speed": 0})
    event = qmp.wait_event("BLOCK_JOB_COMPLETED")
    assert "error" not in event["data"] and event["data"]["len"] == event["data"]["offset"], event
    names = [node["node-name"] for node in qmp.run("query-named-block-nodes", {"flat": True})]
    refused(qmp, "block-commit", {"device": "top", "top-node": "middle", "base-node": "base"})
    info = place.ok([peer("qemu-img"), "info", "-U", "--output=json", top]).json()
    assert info["backing-filename"] == base, f"the overlay's header names the base now: {info}"
    for at, data in ((0, b"\1"), (4 * MIB, b"\2"), (9 * MIB, b"3")):
        assert read(daemon, "disk", 4, at) == data * 4, at
    made = qcow2(place, "made.qcow2", SIZE, "-u", "-b", top, "-F", "qcow2")
    qmp.run("blockdev-add", {"driver": "qcow2", "node-name": "made", "file": {"driver": "file", "filename": made}, "backing": None})
    qmp.run("blockdev-snapshot", {"node": "top", "overlay": "made"})
    write(daemon, "disk", b"4" * KIB, 0)
    assert read(daemon, "disk", 4, 4 * MIB) == b"\2" * 4
    assert [n for n in names if n == "base"], names
    daemon.stop()
    for image in (base, top, made):
        place.ok([peer("qemu-img"), "check", "-f", "qcow2", image])
    run = place.ok([peer("qemu-io"), "-f", "qcow2", "-c", "read -P 1 0 4k", top])
    assert "failed" not in run.out, "the snapshot below is as it was"


@proof("a reopen takes the file's options inside, where the file was opened together with its image")
def _(place):
    image, named = qcow2(place, "disk.qcow2"), qcow2(place, "named.qcow2")
    daemon = Daemon(
        place,
        *blockdev("qcow2", "disk", file={"driver": "file", "filename": image}),
        *blockdev("file", "f", filename=named),
        *blockdev("qcow2", "other", file="f"),
    )
    qmp = daemon.qmp()

    def options(node, name, **common):
        return {"options": [{"driver": "qcow2", "node-name": node, "file": {"driver": "file", "filename": name}, **common}]}

    for read_only in [True, False]:
        qmp.run("blockdev-reopen", options("disk", image, **{"read-only": read_only}))
        ro = {node["node-name"]: node["ro"] for node in qmp.run("query-named-block-nodes", {"flat": True})}
        assert ro["disk"] == read_only, ro
    refused(qmp, "blockdev-reopen", options("disk", named), "filename")
    refused(qmp, "blockdev-reopen", options("other", named), "file")


@proof("resize, reopen and delete: what users of a node must not lose is refused")
def _(place):
    image = qcow2(place, "disk.qcow2")
    daemon = Daemon(place, *blockdev("file", "f", filename=image), *blockdev("qcow2", "disk", file="f"))
    qmp = daemon.qmp()
    qmp.run("block_resize", {"node-name": "disk", "size": 2 * SIZE})
    assert qmp.run("query-named-block-nodes", {"flat": True})[0]["image"]["virtual-size"] == 2 * SIZE
    refused(qmp, "block_resize", {"node-name": "disk", "size": -1}, "size")
    refused(qmp, "block_resize", {"node-name": "nobody", "size": SIZE}, "nobody")
    qmp.run("blockdev-reopen", {"options": [{"driver": "qcow2", "node-name": "disk", "file": "f", "read-only": True}]})
    ro = {node["node-name"]: node["ro"] for node in qmp.run("query-named-block-nodes", {"flat": True})}
    assert ro["disk"], ro
    refused(qmp, "block_resize", {"node-name": "disk", "size": SIZE})
    refused(qmp, "block-export-add", {"type": "nbd", "id": "e", "node-name": "disk", "writable": True})
    qmp.run("blockdev-reopen", {"options": [{"driver": "qcow2", "node-name": "disk", "file": "f", "read-only": False}]})
    qmp.run("block-export-add", {"type": "nbd", "id": "e", "node-name": "disk", "name": "disk", "writable": True})
    write(daemon, "disk", b"x" * KIB, SIZE + KIB)
    refused(qmp, "blockdev-del", {"node-name": "disk"}, "disk")
    refused(qmp, "blockdev-del", {"node-name": "f"}, "f")
    refused(qmp, "blockdev-reopen", {"options": [{"driver": "qcow2", "node-name": "disk", "file": "f", "read-only": True}]})
    refused(qmp, "blockdev-reopen", {"options": [{"driver": "raw", "node-name": "disk", "file": "f"}]})
    refused(qmp, "blockdev-add", {"driver": "null-co", "node-name": "disk"}, "disk")
    refused(qmp, "blockdev-add", {"driver": "null-co", "node-name": "1bad"}, "1bad")
    refused(qmp, "block-export-add", {"type": "nbd", "id": "e", "node-name": "disk"}, "e")
    assert read(daemon, "disk", KIB, SIZE + KIB) == b"x" * KIB
    qmp.run("block-export-del", {"id": "e"})
    qmp.wait_event("BLOCK_EXPORT_DELETED", id="e")
    qmp.run("blockdev-del", {"node-name": "disk"})
    qmp.run("blockdev-del", {"node-name": "f"})
    daemon.stop()
    place.ok([peer("qemu-img"), "check", "-f", "qcow2", image])


@proof("statistics are real figures: what clients read, wrote and flushed is counted")
def _(place):
    image = qcow2(place, "disk.qcow2")
    daemon = Daemon(place, *image_options("qcow2", "disk", image), *export_options("disk"))
    qmp = daemon.qmp()
    write(daemon, "disk", b"x" * 300 * KIB, 0)
    read(daemon, "disk", 100 * KIB, 0)
    stats = {entry.get("node-name"): entry for entry in qmp.run("query-blockstats", {"query-nodes": True})}
    assert stats["disk"]["stats"]["wr_highest_offset"] >= 0, stats["disk"]
    assert stats["disk-file"]["stats"]["wr_highest_offset"] >= 300 * KIB, stats["disk-file"]
    assert qmp.run("query-block") == [] or tested_is_peer() is False
    assert qmp.run("query-version")["qemu"]["major"] >= 2
    schema = qmp.run("query-qmp-schema")
    names = {entry["name"] for entry in schema if entry["meta-type"] == "command"}
    listed = {entry["name"] for entry in qmp.run("query-commands")}
    assert names == listed, names ^ listed
    for name in ("blockdev-add", "blockdev-del", "blockdev-reopen", "block-commit", "blockdev-snapshot-sync", "quit",
                 "blockdev-snapshot", "query-jobs", "nbd-server-start", "block-export-add", "query-block-jobs"):
        assert name in listed, name
    daemon.stop()


@proof("hundreds of commands sent at once are answered in their order, each with its id")
def _(place):
    daemon = Daemon(place, nbd=False)
    qmp = daemon.qmp()
    text = b""
    for index in range(300):
        text += json.dumps({"execute": "query-version" if index % 3 else "nonsense", "id": {"n": [index]}}).encode()
        text += b"" if index % 5 else b"\r\n"
    qmp.socket.sendall(text)
    for index in range(300):
        document = qmp.receive()
        assert document["id"] == {"n": [index]}, (index, document)
        assert ("error" in document) == (index % 3 == 0), document
    for byte in b'{"execute": "query-version", "id": "in pieces"}':
        qmp.socket.sendall(bytes([byte]))
        time.sleep(0.001)
    assert qmp.receive()["id"] == "in pieces"
    daemon.stop()


SAY = [
    '{"execute": "query-version"', '{"execute": }', '{"execute": "query-version"}}', '[}', ']', '}', '"just text"', '[1, 2]',
    '17', '{"execute": "query-version", "id": 1e400}', '{"execute": "query-version", "id": "\\ud800"}',
    '{"execute": "query-version", "id": "\\u0000"}', '{"execute": "query-version", "id": "\\q"}',
    '{"execute": 5}', '{"execute": null}', '{}', '{"id": 1}', '{"arguments": {}}', '{"execute": "query-version", "extra": 1}',
    '{"execute": "query-version", "execute": "quit"}', '{"execute": "query-version", "arguments": []}',
    '{"execute": "query-version", "arguments": {"a": 1}}', "{'execute': 'query-version', 'id': 'single'}",
    '{"exec-oob": "query-version", "id": 1}', '{"execute": "qmp_capabilities"}', '{"execute": "QUERY-VERSION"}',
    '{"execute": "query-version", "id": {"deep": [1, 2.5, null, true, "x"]}}', '{"execute": "query-version",}',
    '{"execute" "query-version"}', '{"execute": "query-version" "id": 1}', 'nonsense', 'nul', 'tru', '{"execute": nan}',
    '{"execute": "blockdev-add"}', '{"execute": "blockdev-add", "arguments": {"driver": "nope", "node-name": "x"}}',
    '{"execute": "blockdev-add", "arguments": {"driver": 7, "node-name": "x"}}',
    '{"execute": "blockdev-add", "arguments": {"driver": "null-co", "node-name": "x", "size": "big"}}',
    '{"execute": "blockdev-add", "arguments": {"driver": "null-co", "node-name": "x", "size": 99999999999999999999}}',
    '{"execute": "blockdev-add", "arguments": {"driver": "null-co", "node-name": "x", "size": 1.5}}',
    '{"execute": "blockdev-add", "arguments": {"driver": "null-co", "node-name": "x", "cache": {"direct": 1}}}',
    '{"execute": "blockdev-add", "arguments": {"driver": "null-co", "node-name": "x", "cache": {"foo": true}}}',
    '{"execute": "blockdev-add", "arguments": {"driver": "null-co", "node-name": "x", "foo": true}}',
    '{"execute": "blockdev-reopen", "arguments": {"options": []}}', '{"execute": "blockdev-reopen", "arguments": {"options": 1}}',
    '{"execute": "blockdev-reopen", "arguments": {"options": [{}]}}',
    '{"execute": "block_resize", "arguments": {"size": 1}}',
    '{"execute": "block-job-cancel", "arguments": {"device": "nobody"}}',
    '{"execute": "block-export-del", "arguments": {"id": "nobody"}}', '{"execute": "nbd-server-stop"}',
    '{"execute": "blockdev-add", "arguments": {"driver": "qcow2", "node-name": "x", "file": {"driver": "file"}}}',
    b'{"execute": "query-version", "id": "\xff\xfe"}', b'\xff', b'\xc0\x80', b'{"execute": "query-version", "id": "\xc0\xaf"}',
    b'{"execute": "query-version", "id": "\xed\xa0\x80"}', b'\0', b'{"execute": "query-version", "id": "\x01"}',
    '[' * 1025, '{"a":' * 1025, '[' * 100000,
]


# QEMU 10 asserts on the one (row 26) and answers the other with what is no JSON.
FATAL_TO_QEMU = ['{"execute": "blockdev-reopen", "arguments": {"options": []}}', '{"execute": "query-version", "id": 1e400}']


def say(path, message):
    """What a daemon answers to one message: (class or 'return', id) of each answer, up to the marker's."""
    qmp = Qmp(path)
    data = message if isinstance(message, bytes) else message.encode()
    # 0xff, which no JSON text holds, makes a parser begin anew: what clients send who do not know where they are.
    marker = b'{"execute": "query-name", "id": "marker"}\n'
    qmp.socket.sendall(data + b"\n\xff\n" + marker)
    answers = []
    while True:
        document = qmp.receive(10)
        assert document is not None, "hung up on"
        if document.get("id") == "marker":
            qmp.close()
            return answers
        answers.append((document["error"]["class"] if "error" in document else "return", document.get("id")))


@proof("bad input is answered as QEMU answers it, and the session goes on", ("peer:qemu-storage-daemon",), 120)
def _(place):
    mine = Daemon(place, nbd=False)
    theirs = Daemon(place, nbd=False, name="peer", command=[peer("qemu-storage-daemon")])
    for message in SAY:
        shown = message[:100]
        if tested_is_peer() and message in FATAL_TO_QEMU:
            continue
        a = say(mine.qmp_path, message)
        if message in FATAL_TO_QEMU:
            assert len(a) == 2, (shown, a)
            continue
        b = say(theirs.qmp_path, message)
        # The number of complaints about one piece of garbage is nobody's contract; that there is one is.
        fold = [item for index, item in enumerate(a) if index == 0 or item != a[index - 1]]
        want = [item for index, item in enumerate(b) if index == 0 or item != b[index - 1]]
        assert fold == want, f"{shown!r}: {fold}, QEMU: {want}"
        mine.alive()
    mine.stop()


def add(node, file, driver="qcow2", **more):
    nested = {"driver": "file", "filename": file, "node-name": node + "-file"}
    return "blockdev-add", {"driver": driver, "node-name": node, "file": nested, **more}


def commit(**more):
    return "block-commit", {"device": "top", "job-id": "j", **{key.replace("_", "-"): value for key, value in more.items()}}


def verbs(job):
    """Every verb of both generations; set-speed with a wrong speed, so that nothing changes by it."""
    names = ("pause", "resume", "complete", "finalize", "dismiss")
    yield from ((f"job-{name}", {"id": job}) for name in names)
    yield from ((f"block-job-{name}", {"id" if name in ("finalize", "dismiss") else "device": job}) for name in names)
    yield "block-job-set-speed", {"device": job, "speed": -1}


def wait(event, status=None):
    return "wait", event, status


CHAIN = [add("base", "base", **{"read-only": True, "backing": None}),
         add("mid", "mid", **{"read-only": True, "backing": "base"}), add("top", "top", backing="mid")]
END = wait("JOB_STATUS_CHANGE", "null")

# What both daemons are told; each story begins with fresh images and a fresh daemon.
STORIES = {
    "nodes": CHAIN + [
        add("top", "other"), add("1x", "other"), add("x" * 32, "other"), add("x", "missing"), add("x", "other", cache=True),
        add("x", "other", **{"detect-zeroes": "unmap"}), add("x", "other", **{"force-share": True}),
        ("blockdev-add", {"driver": "qcow2", "node-name": "x", "file": "nobody"}), ("blockdev-add", {"driver": "raw"}),
        ("blockdev-add", {"driver": "qcow2", "node-name": "x"}), ("blockdev-del", {}), ("blockdev-del", {"node-name": "x"}),
        ("blockdev-del", {"node-name": "top", "x": 1}), ("block_resize", {"node-name": "top", "size": -1}),
        ("block_resize", {"node-name": "top", "size": 1000}), ("block_resize", {"node-name": "x", "size": 512}),
        ("block_resize", {"size": 512}), ("block_resize", {"device": "x", "node-name": "top", "size": 8 * MIB}),
        ("query-block", {}), ("query-blockstats", {}), ("query-named-block-nodes", {"flat": 1}),
        ("blockdev-snapshot-sync", {"node-name": "top", "snapshot-file": "s"}),
        ("blockdev-snapshot-sync", {"node-name": "top", "snapshot-file": "s", "snapshot-node-name": "mid"}),
        ("blockdev-snapshot-sync", {"node-name": "top", "snapshot-file": "s", "snapshot-node-name": "s", "format": "raw"}),
        ("blockdev-snapshot-sync", {"node-name": "top", "snapshot-file": "no/s", "snapshot-node-name": "s"}),
        ("blockdev-snapshot", {"node": "top", "overlay": "nobody"}), ("blockdev-snapshot", {"node": "top", "overlay": "mid"}),
        ("blockdev-del", {"node-name": "top"}), ("blockdev-del", {"node-name": "mid"})],
    "requests": CHAIN + [
        commit(job_id=None), commit(device="nobody", speed=-1), commit(job_id="1j"), commit(top="x"), commit(base="x"),
        commit(top_node="x"), commit(base_node="x"), commit(top_node="top", base_node="top"), commit(device="mid"),
        commit(top_node="base", base_node="mid"), commit(base="base", base_node="base"), commit(backing_file="x"),
        commit(base_node="top-file"), commit(device="top-file"), commit(on_error="x"), commit(filter_node_name="1x"),
        commit(filter_node_name="mid"), commit(backing_mask_protocol=1), ("query-jobs", {}), *verbs("nobody")],
    "below": CHAIN + [commit(top_node="mid"), END, ("query-jobs", {}), ("blockdev-del", {"node-name": "mid"})],
    "by hand": CHAIN + [
        commit(top_node="mid", auto_finalize=False, auto_dismiss=False), wait("BLOCK_JOB_PENDING"), ("query-jobs", {}),
        ("query-block-jobs", {}), *[verb for verb in verbs("j") if "finalize" not in verb[0]], ("job-finalize", {"id": "j"}),
        wait("JOB_STATUS_CHANGE", "concluded"), ("query-jobs", {}), *[verb for verb in verbs("j") if "dismiss" not in verb[0]],
        ("job-cancel", {"id": "j"}), ("block-job-cancel", {"device": "j"}), ("job-dismiss", {"id": "j"}), END],
    "active": CHAIN + [
        commit(), wait("BLOCK_JOB_READY"), ("query-jobs", {}), ("query-block-jobs", {}), ("job-finalize", {"id": "j"}),
        ("job-dismiss", {"id": "j"}), ("blockdev-del", {"node-name": "top"}), ("block-job-pause", {"device": "j"}),
        wait("JOB_STATUS_CHANGE", "standby"), ("block-job-cancel", {"device": "j"}), ("job-pause", {"id": "j"}),
        ("block-job-resume", {"device": "j"}), wait("JOB_STATUS_CHANGE", "ready"), ("job-complete", {"id": "j"}), END,
        ("query-jobs", {}), ("blockdev-del", {"node-name": "top"}), ("blockdev-del", {"node-name": "mid"})],
    "left in place": CHAIN + [commit(), wait("BLOCK_JOB_READY"), ("block-job-cancel", {"device": "j"}), END],
    "given up": CHAIN + [commit(), wait("BLOCK_JOB_READY"), ("job-cancel", {"id": "j"}), END],
}


def told(qmp, step):
    """The events up to the awaited one. Pauses for a drain, which QEMU shows more often, are left out."""
    _, name, status = step
    fits = lambda event: event["event"] == name and status in (None, event["data"].get("status"))
    while not any(map(fits, qmp.events)):
        document = qmp.receive(30)
        assert document is not None and "event" in document, document
        qmp.events.append(document)
    seen = []
    for event in qmp.events:
        seen.append((event["event"], event["data"]))
        states = [data.get("status") for _, data in seen[-3:]]
        if states == ["running", "paused", "running"]:
            del seen[-2:]
    qmp.events.clear()
    return seen


@proof("one script, two daemons: answers, errors and the events of jobs are the same", ("peer:qemu-storage-daemon",), 120)
def _(place):
    def play(name, command, story):
        for image, below in (("base", None), ("mid", "base"), ("top", "mid"), ("other", None)):
            link = ["-b", below, "-F", "qcow2"] if below else []
            place.ok([peer("qemu-img"), "create", "-q", "-f", "qcow2", *link, image, str(4 * MIB)])
        for image, at in (("base", 0), ("mid", 1), ("top", 2)):
            place.ok([peer("qemu-io"), "-f", "qcow2", "-c", f"write -P {at} {at}M 1M", image])
        daemon = Daemon(place, nbd=False, name=name, command=command)
        qmp, heard = daemon.qmp(), []
        for step in story:
            if step[0] == "wait":
                heard.append(told(qmp, step))
                continue
            try:
                given = {key: value for key, value in step[1].items() if value is not None or key == "backing"}
                heard.append(qmp.run(step[0], given))
            except QmpError as error:
                # Who is in the way may be told more exactly.
                heard.append((error.cls, error.desc.split(" is in use")[0].split(" is busy")[0]))
        daemon.stop()
        return heard

    for name, story in STORIES.items():
        mine = play(f"mine-{name}".replace(" ", "-"), None, story)
        theirs = play(f"theirs-{name}".replace(" ", "-"), [peer("qemu-storage-daemon")], story)
        for step, a, b in zip(story, mine, theirs):
            assert a == b, f"{name}: {step}:\n  ours {a}\n  QEMU {b}"


@proof("an argument that does not fit is named by its dotted path")
def _(place):
    daemon = Daemon(place, nbd=False)
    qmp = daemon.qmp()
    image = qcow2(place, "disk.qcow2")
    add = {"driver": "qcow2", "node-name": "x", "file": {"driver": "file", "filename": image}}
    for change, *words in [
            ({"file": {"driver": "file"}}, "file.filename"), ({"file": {"driver": "file", "filename": 7}}, "file.filename"),
            ({"file": {"driver": "file", "filename": "x", "cache": {"direct": "yes"}}}, "file.cache.direct"),
            ({"file": {"driver": "file", "filename": "x", "locking": "maybe"}}, "maybe"),
            ({"file": {"driver": "file", "filename": "x", "nope": 1}}, "file.nope"),
            ({"file": {"driver": "nothing"}}, "nothing"), ({"l2-cache-size": -1}, "l2-cache-size"),
            ({"l2-cache-size": 1 << 80}, "l2-cache-size"), ({"node-name": None}, "node-name"),
            ({"driver": None}, "driver"), ({"whatever": 1}, "whatever")]:
        arguments = {key: value for key, value in dict(add, **change).items()}
        refused(qmp, "blockdev-add", arguments, *words)
    names = qmp.run("query-named-block-nodes")
    assert names == [], "nothing is left of what was refused"
    daemon.stop()


@proof("several sessions at once, each negotiating for itself, each told every event")
def _(place):
    image = qcow2(place, "disk.qcow2")
    daemon = Daemon(place, *image_options("qcow2", "disk", image), *export_options("disk"))
    if tested_is_peer():
        return  # QEMU's daemon serves one session after the other
    fresh = Qmp(daemon.qmp_path, negotiate=False)
    refused(fresh, "query-version", None, cls="CommandNotFound")
    sessions = [daemon.qmp() for _ in range(5)]
    refused(fresh, "query-version", None, cls="CommandNotFound")
    sessions[0].run("block-export-del", {"id": "e-disk"})
    for session in sessions:
        session.wait_event("BLOCK_EXPORT_DELETED", id="e-disk")
    sent = [session.send("query-version") for session in sessions for _ in range(20)]
    for index, number in enumerate(sent):
        sessions[index // 20].answer(number)
    for session in sessions[1:]:
        session.close()
    sessions[0].run("query-version")
    fresh.run("qmp_capabilities")
    fresh.run("query-version")
    daemon.stop()


@proof("a client that stops reading costs bounded memory, and nobody else waits for it", seconds=90)
def _(place):
    if tested_is_peer():
        return  # QEMU's daemon serves one session after the other
    daemon = Daemon(place, nbd=False)
    other = daemon.qmp()
    other.run("query-qmp-schema")
    before = memory_peak(daemon.pid)
    deaf = daemon.qmp()
    deaf.socket.settimeout(0.2)
    sent = 0
    command = b'{"execute": "query-qmp-schema"}\n' * 100
    end = time.monotonic() + 4
    while time.monotonic() < end:
        try:
            sent += deaf.socket.send(command)
        except (TimeoutError, BlockingIOError):
            break
        except OSError:
            break
    for _ in range(50):
        start = time.monotonic()
        other.run("query-version")
        assert time.monotonic() - start < 60, "others wait"
    grown = (memory_peak(daemon.pid) - before) / MIB
    place.tell(f"{sent} bytes taken, {grown:.0f} MiB more")
    assert grown < 64, f"{grown:.0f} MiB for a client that does not read"
    deaf.close()
    other.run("query-version")
    start = time.monotonic()
    daemon.stop()
    assert time.monotonic() - start < 60


BUSY = """
import sys, time, nbd
handle = nbd.NBD()
handle.connect_uri(sys.argv[1])
buffers, flying, number, end = [nbd.Buffer(65536) for _ in range(32)], [], 0, time.monotonic() + 6
while time.monotonic() < end:
    while len(flying) < 32:
        flying.append(handle.aio_pread(buffers[number % 32], number * 65536 % (16 << 20)))
        number += 1
    handle.poll(-1)
    flying = [cookie for cookie in flying if not handle.aio_command_completed(cookie)]
"""


@proof("however busy its NBD clients and a commit keep it, QMP is answered promptly")
def _(place):
    base = qcow2(place, "base.qcow2", 512 * MIB)
    top = qcow2(place, "top.qcow2", 512 * MIB, "-b", base, "-F", "qcow2")
    place.ok([ours("qemu-io"), "-f", "qcow2", "-c", "write -P 1 0 384M", top])
    raw = place.path("raw")
    place.ok([ours("qemu-img"), "create", "-q", "-f", "raw", raw, "16M"])
    place.ok([ours("qemu-io"), "-f", "raw", "-c", "write -P 1 0 16M", raw])
    daemon = Daemon(place, *image_options("raw", "disk", raw), *image_options("qcow2", "base", base, read_only=True),
                    *image_options("qcow2", "top", top, backing="base"), *export_options("disk", "disk"))
    clients = [place.spawn([sys.executable, "-c", BUSY, daemon.uri("disk")]) for _ in range(2 * os.cpu_count())]
    qmp, waits = daemon.qmp(), []
    time.sleep(0.5)
    qmp.run("block-commit", {"job-id": "j", "device": "top"})
    while any(client.poll() is None for client in clients):
        start = time.monotonic()
        qmp.run("query-jobs")
        waits.append(time.monotonic() - start)
        time.sleep(0.005)
    waits.sort()
    # QEMU's own median is 2 ms where ours is 0.2; a machine that is shared with others adds to both.
    assert len(waits) > 20 and waits[len(waits) // 2] < 0.05 and waits[-1] < 2, waits[-5:]
    daemon.stop()


@proof("a client that leaves in the middle of a command harms nobody; the job it began goes on")
def _(place):
    if tested_is_peer():
        return  # QEMU's daemon serves one session after the other
    base, image = qcow2(place, "base.qcow2"), place.path("o.qcow2")
    daemon = Daemon(place, *image_options("qcow2", "disk", base), *export_options("disk"))
    watcher = daemon.qmp()
    for cut in (1, 10, 30):
        client = daemon.qmp()
        client.socket.sendall(b'{"execute": "query-named-block-nodes"}'[:cut])
        client.close()
    client = daemon.qmp()
    client.socket.sendall(b'{"execute": "query-qmp-schema"}' * 50)
    client.close()
    client = daemon.qmp()
    client.send("blockdev-snapshot-sync", {"node-name": "disk", "snapshot-file": image, "snapshot-node-name": "top"})
    client.close()
    wait_for("the snapshot", lambda: any(
        node["node-name"] == "top" for node in watcher.run("query-named-block-nodes", {"flat": True})))
    write(daemon, "disk", b"x" * MIB, 0)
    client = daemon.qmp()
    client.send("block-commit", {"job-id": "j", "device": "top", "base-node": "disk"})
    client.close()
    watcher.wait_event("BLOCK_JOB_READY")
    client = daemon.qmp()
    client.send("block-job-complete", {"device": "j"})
    client.close()
    watcher.wait_event("BLOCK_JOB_COMPLETED")
    assert read(daemon, "disk", MIB, 0) == b"x" * MIB
    daemon.stop()
    place.ok([peer("qemu-img"), "check", "-f", "qcow2", base])


@proof("a second daemon never takes a live one's socket; a file left behind is replaced")
def _(place):
    daemon = Daemon(place)
    qmp, nbd_sock = daemon.qmp_path, daemon.nbd_path
    second = [*face("daemon"), "--chardev", f"socket,id=c,path={qmp},server=on,wait=off", "--monitor", "chardev=c"]
    third = [*face("daemon"), "--nbd-server", f"addr.type=unix,addr.path={nbd_sock}"]
    if not tested_is_peer():  # QEMU robs it
        place.refused(second, qmp)
        place.refused(third, nbd_sock)
    daemon.qmp().run("query-version")
    assert listening(nbd_sock)
    daemon.kill()
    assert os.path.exists(qmp) and os.path.exists(nbd_sock), "left behind by the kill"
    assert not listening(qmp)
    again = Daemon(place)
    again.qmp().run("query-version")
    again.stop()
    plain = place.write("d2.qmp", b"somebody's file")
    if not tested_is_peer():
        place.refused([*face("daemon"), "--chardev", f"socket,id=c,path={plain},server=on,wait=off"], plain)
        assert open(plain, "rb").read() == b"somebody's file", "no socket: never deleted"


@proof("SIGTERM, SIGINT, SIGHUP and quit end it cleanly: everything flushed, the pid file gone")
def _(place):
    for how in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, "quit"):
        image, pid_file = qcow2(place, "disk.qcow2"), place.path("d.pid")
        daemon = Daemon(place, *image_options("qcow2", "disk", image), *export_options("disk"))
        qmp = daemon.qmp()
        assert int(open(pid_file).read()) == daemon.pid
        handle = nbd.NBD()
        handle.connect_uri(daemon.uri("disk"))
        for index in range(64):
            handle.pwrite(bytes([index + 1]) * 64 * KIB, index * 128 * KIB)
        if how == "quit":
            qmp.run("quit")
        else:
            daemon.process.send_signal(how)
        assert daemon.process.wait(20) == 0, how
        assert not os.path.exists(pid_file), how
        assert "panicked" not in daemon.log(), daemon.log()
        place.ok([peer("qemu-img"), "check", "-f", "qcow2", image])
        run = place.ok([peer("qemu-io"), "-f", "qcow2", "-c", f"read -P 64 {63 * 128}k 64k", image])
        assert "failed" not in run.out, (how, run.out)


@proof("--daemonize returns when all is set up, --pidfile holds the id; what fails is told to the caller")
def _(place):
    image, pid_file, qmp = qcow2(place, "disk.qcow2"), place.path("p"), place.path("q")
    line = [*face("daemon"), "--chardev", f"socket,id=c,path={qmp},server=on,wait=off", "--monitor", "chardev=c",
            "--pidfile", pid_file, "--daemonize", *image_options("qcow2", "disk", image)]
    place.ok(line, seconds=120)
    pid = int(open(pid_file).read())
    try:
        session = Qmp(qmp)
        assert session.run("query-named-block-nodes", {"flat": True})
        assert os.readlink(f"/proc/{pid}/cwd") == "/", "in the background, in no folder"
        assert os.getsid(pid) != os.getsid(0), "a session of its own"
        place.refused(line, seconds=120)
        session.run("quit")
        session.close()
        wait_for("its end", lambda: not os.path.exists(f"/proc/{pid}") or open(f"/proc/{pid}/stat").read().split()[2] == "Z")
    finally:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    assert not os.path.exists(pid_file)
    place.refused([*face("daemon"), "--daemonize", "--pidfile", pid_file, *blockdev("file", "x", filename="/nowhere/x")], "/nowhere/x")
    assert not os.path.exists(pid_file)


@proof("every option in its key=value form and in its JSON form makes the same daemon")
def _(place):
    image = qcow2(place, "disk,odd.qcow2")
    q, n = place.path("q"), place.path("n")
    plain = ["--chardev", f"socket,id=c,path={q},server=on,wait=off", "--monitor", "mode=control,chardev=c,pretty=off",
             "--object", "iothread,id=t", "--object", "secret,id=s,data=hello",
             "--nbd-server", f"addr.type=unix,addr.path={n}",
             "--blockdev", "driver=file,node-name=f,filename=" + image.replace(",", ",,") + ",cache.direct=off,discard=unmap",
             "--blockdev", "qcow2,node-name=disk,file=f,read-only=off",
             "--export", "nbd,id=e,node-name=disk,name=disk,writable=on"]
    tree = ["--chardev", json.dumps({"id": "c", "backend": "socket", "path": q, "server": True, "wait": False}),
            "--monitor", json.dumps({"chardev": "c", "mode": "control", "pretty": False}),
            "--object", json.dumps({"qom-type": "iothread", "id": "t"}),
            "--object", json.dumps({"qom-type": "secret", "id": "s", "data": "hello"}),
            "--nbd-server", json.dumps({"addr": {"type": "unix", "path": n}}),
            "--blockdev", json.dumps({"driver": "file", "node-name": "f", "filename": image, "cache": {"direct": False}, "discard": "unmap"}),
            "--blockdev", json.dumps({"driver": "qcow2", "node-name": "disk", "file": "f", "read-only": False}),
            "--export", json.dumps({"type": "nbd", "id": "e", "node-name": "disk", "name": "disk", "writable": True})]
    seen = []
    for form in (plain, tree):
        if form is tree:  # QEMU takes --chardev in the key=value form only
            form = plain[:2] + tree[2:] if tested_is_peer() else tree
        daemon = place.serve([*face("daemon"), *form], q)
        session = Qmp(q)
        nodes = session.run("query-named-block-nodes", {"flat": True})
        seen.append(([(node["node-name"], node["drv"], node["ro"], node["cache"]) for node in nodes],
                     session.run("query-block-exports")))
        session.close()
        assert place.end(daemon) == 0
    assert seen[0] == seen[1], seen


@proof("an option that is wrong ends the start with status 1 and names it")
def _(place):
    image = qcow2(place, "disk.qcow2")
    line = face("daemon")
    for options, word in [
            (["--blockdev", "driver=qcow2,node-name=d"], "file"), (["--blockdev", "nonsense"], "nonsense"),
            (["--blockdev", "{driver: 1}"], ""), (["--blockdev", f"driver=file,node-name=f,filename={image},foo=1"], "foo"),
            (["--export", "type=nbd,id=e,node-name=nobody"], ""), (["--object", "nothing,id=x"], "nothing"),
            (["--monitor", "chardev=nobody"], "nobody"), (["--whatever"], "whatever"),
            (["--nbd-server", "addr.type=unix"], "path"),
            ([*image_options("qcow2", "d", image), *image_options("qcow2", "d", image)], "d"),
            (["--blockdev", "driver=file,node-name=f,filename=" + place.path("missing")], "missing")]:
        place.refused([*line, *options], *([word] if word else []), seconds=120)


@proof("under the name qemu-storage-daemon it is the same daemon")
def _(place):
    command = [ours("qemu-storage-daemon")]
    assert place.ok([*command, "--version"]).out.strip()
    assert "--blockdev" in place.ok([*command, "--help"]).out
    image = qcow2(place, "disk.qcow2")
    daemon = Daemon(place, *image_options("qcow2", "disk", image), *export_options("disk"), command=command)
    write(daemon, "disk", b"x" * KIB, 0)
    assert daemon.qmp().run("query-block-exports")[0]["node-name"] == "disk"
    daemon.stop()


@proof("a client that comes as soon as the socket is there finds all that the options say", seconds=90)
def _(place):
    options, image = [], qcow2(place, "disk.qcow2", MIB)
    for layer in range(6):
        image = qcow2(place, f"layer{layer}.qcow2", MIB, "-b", image, "-F", "qcow2")
    for index in range(40):
        options += image_options("qcow2", f"n{index}", image, read_only=True)
    for index in range(40):
        options += export_options(f"n{index}", writable=False)
    for turn in range(4):
        q, n = place.path(f"q{turn}"), place.path(f"n{turn}")
        process = place.spawn([*face("daemon"), "--chardev", f"socket,id=c,path={q},server=on,wait=off", "--monitor", "chardev=c",
                               "--nbd-server", f"addr.type=unix,addr.path={n}", *options])
        wait_for("the socket", lambda: os.path.exists(n) and listening(n), pause=0.0005)
        handle = nbd.NBD()
        handle.connect_uri(f"nbd+unix:///n39?socket={n}")
        handle.shutdown()
        session = Qmp(q)
        assert len(session.run("query-block-exports")) == 40
        session.close()
        assert place.end(process) == 0


MASTER_KEY = b"01234567890123456789012345678901"
# `passphrase` under AES-256-CBC with the key above and the vector `0123456789abcdef`.
SEALED = {"data": "pc2TTAMzSA2CZadF8AUmhQ==", "iv": "MDEyMzQ1Njc4OWFiY2RlZg==", "keyid": "masterKey0", "format": "base64"}


@proof("encrypted disks come and go as libvirt attaches them: secrets under a master key, one layer over another, grown")
def _(place):
    key = place.write("master-key.aes", MASTER_KEY)
    daemon = Daemon(place, "--object", json.dumps({"qom-type": "secret", "id": "masterKey0", "format": "raw", "file": key}))
    qmp = daemon.qmp()
    plain = ["--object", "secret,id=s,data=passphrase"]
    base, top, volume = (place.path(name) for name in ("base.qcow2", "top.qcow2", "volume.img"))
    luks = "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10"
    for image in (base, top):
        place.ok([ours("qemu-img"), "create", "-q", "-f", "qcow2", *plain, "-o", luks, image, str(SIZE)])
    place.ok([ours("qemu-img"), "create", "-q", "-f", "luks", *plain, "-o", "key-secret=s,iter-time=10", volume, str(SIZE)])

    def secret(layer):
        return f"libvirt-{layer}-format-encryption-secret0"

    def attach(layer, file, driver="qcow2", **more):
        qmp.run("object-add", {"qom-type": "secret", "id": secret(layer), **SEALED})
        qmp.run("blockdev-add", {"driver": "file", "filename": file, "node-name": f"libvirt-{layer}-storage",
                                 "auto-read-only": True, "discard": "unmap"})
        kind = {"key-secret": secret(layer)} if driver == "luks" else {"encrypt": {"format": "luks", "key-secret": secret(layer)}}
        qmp.run("blockdev-add", {"node-name": f"libvirt-{layer}-format", "read-only": False, "driver": driver, **kind,
                                 "file": f"libvirt-{layer}-storage", **more})

    def detach(layer):
        qmp.run("blockdev-del", {"node-name": f"libvirt-{layer}-format"})
        qmp.run("blockdev-del", {"node-name": f"libvirt-{layer}-storage"})
        qmp.run("object-del", {"id": secret(layer)})

    attach(2, base, **{"read-only": True, "backing": None})
    attach(1, top, backing="libvirt-2-format")
    attach(3, volume, "luks")
    exports = {"disk": "libvirt-1-format", "volume": "libvirt-3-format"}
    for name, node in exports.items():
        qmp.run("block_resize", {"node-name": node, "size": 2 * SIZE})
        qmp.run("block-export-add", {"type": "nbd", "id": name, "node-name": node, "name": name, "writable": True})
        write(daemon, name, name.encode() * 512, MIB)
        assert read(daemon, name, 512, MIB) == (name.encode() * 512)[:512]
        write(daemon, name, b"end!" * 128, 2 * SIZE - 512)
    told = {node["node-name"]: node for node in qmp.run("query-named-block-nodes", {"flat": True})}
    for layer in (1, 2, 3):
        assert told[f"libvirt-{layer}-format"]["encrypted"], told
    for name in exports:
        qmp.run("block-export-del", {"id": name})
        qmp.wait_event("BLOCK_EXPORT_DELETED", id=name)
    for layer in (3, 1, 2):
        detach(layer)
    # What is not there, not right or not the secret for it is refused, and leaves nothing behind.
    for change, words in [
            ({"key-secret": "nobody"}, ["nobody"]), ({"key-secret": "masterKey0"}, ["passphrase"]), ({}, ["key-secret"])]:
        refused(qmp, "blockdev-add", {"driver": "luks", "node-name": "v", "file": {"driver": "file", "filename": volume}, **change}, *words)
    for change, words in [
            ({"keyid": "nobody"}, ["nobody"]), ({"data": "!"}, ["base64"]), ({"iv": "MDEy"}, ["vector"]),
            ({"data": "MDEyMzQ1Njc4OWFiY2RlZg=="}, ["decrypt"])]:
        refused(qmp, "object-add", {"qom-type": "secret", "id": "wrong", **{**SEALED, **change}}, *words)
    assert qmp.run("query-named-block-nodes", {"flat": True}) == []
    daemon.stop()
    for image, name in ((f"driver=qcow2,encrypt.key-secret=s,file.filename={top}", "disk"),
                        (f"driver=luks,key-secret=s,file.filename={volume}", "volume")):
        line = [peer("qemu-io"), *plain, "-c", f"read -P {ord(name[0])} 1M 1", "-c", "read -P 101 33553920 1", "--image-opts", image]
        assert "failed" not in place.ok(line).out, name


main("QMP")
