"""Metrics: their text, their figures, the dashboard's queries, and scrapers that nobody wants."""

import json
import os
import re
import socket
import threading
import time

import nbd
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from harness import MIB, Daemon, Qmp, export_options, face, image_options, main, memory_peak, ours, proof, sockets, wait_for

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")


def request(path, text, seconds=30):
    """What a metrics socket answers: status, headers, body."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(seconds)
        client.connect(path)
        client.sendall(text.encode())
        answer = b""
        while data := client.recv(1 << 20):
            answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *headers = head.decode().split("\r\n")
    return status, dict(line.lower().split(": ", 1) for line in headers), body.decode()


def scrape(path):
    """The families of a scrape, read by a parser that is not ours."""
    status, headers, body = request(path, "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: application/openmetrics-text\r\n\r\n")
    assert status == "HTTP/1.1 200 OK", status
    assert headers["content-type"].startswith("application/openmetrics-text; version=1.0.0"), headers
    assert int(headers["content-length"]) == len(body.encode()) and body.endswith("# EOF\n"), headers
    return {family.name: family for family in text_string_to_metric_families(body)}


def value(families, name, **labels):
    """The one sample of that name with those labels."""
    found = [sample.value for family in families.values() for sample in family.samples
             if sample.name == name and labels.items() <= sample.labels.items()]
    assert len(found) == 1, (name, labels, found)
    return found[0]


def daemon_with_all(place, *more):
    """A daemon with an export, a bitmap and a job that waits, and its metrics socket."""
    image, path = place.path("d.qcow2"), place.path("metrics.sock")
    place.ok([ours("qemu-img"), "create", "-q", "-f", "qcow2", image, "64M"])
    daemon = Daemon(place, *image_options("qcow2", "disk", image, discard="unmap"), *export_options("disk", name="d", export_id='e-0'),
                    "--metrics", f"unix:{path}", *more)
    qmp = daemon.qmp()
    qmp.run("block-dirty-bitmap-add", node="disk", name="b \"quoted\\")
    return daemon, qmp, path


def machine_with_all(place):
    """A machine with a device whose latencies are counted."""
    image, path, monitor = place.path("m.qcow2"), place.path("machine.sock"), place.path("machine.qmp")
    place.ok([ours("qemu-img"), "create", "-q", "-f", "qcow2", image, "64M"])
    process = place.serve(
        face("machine") + ["-nodefaults", "-display", "none", "-metrics", f"unix:{path}", "-qmp", f"unix:{monitor},server,nowait",
                           "-drive", f"file={image},if=none,id=d0,format=qcow2", "-device", "virtio-blk-pci,drive=d0,id=v0"], monitor)
    qmp = Qmp(monitor)
    place.closers.append(qmp.close)
    qmp.run("block-latency-histogram-set", {"id": "v0", "boundaries": [10_000, 1_000_000, 1_000_000_000]})
    for command in ("write -P 1 0 1M", "read 0 1M", "read 0 4k", "flush"):
        qmp.run("human-monitor-command", {"command-line": f'qemu-io d0 "{command}"'})
    return process, qmp, path


@proof("a scrape is OpenMetrics to another parser, has what the docs list, and its figures are those of the requests made")
def _(place):
    daemon, qmp, path = daemon_with_all(place)
    handle = nbd.NBD()
    handle.connect_uri(daemon.uri("d"))
    for at in range(8):
        handle.pwrite(bytes([at + 1]) * MIB, at * MIB)
    handle.pread(2 * MIB, 0)
    handle.trim(MIB, 0)
    handle.flush()
    qmp.run("blockdev-create", {"job-id": "made", "options": {"driver": "file", "filename": place.path("new"), "size": MIB}})
    qmp.wait_event("JOB_STATUS_CHANGE", status="concluded")
    families = scrape(path)
    of_export = {"export": "e-0", "type": "nbd", "node": "disk"}
    assert value(families, "cairn_export_bytes_total", operation="write", **of_export) == 8 * MIB
    assert value(families, "cairn_export_operations_total", operation="write", **of_export) == 8
    assert value(families, "cairn_export_bytes_total", operation="read", **of_export) == 2 * MIB
    assert value(families, "cairn_export_operations_total", operation="discard", **of_export) == 1
    assert value(families, "cairn_export_operations_total", operation="flush", **of_export) >= 1
    assert value(families, "cairn_export_time_seconds_total", operation="write", **of_export) > 0
    assert value(families, "cairn_node_bytes_total", operation="write", node="disk", driver="qcow2") == 8 * MIB
    assert value(families, "cairn_node_size_bytes", node="disk") == 64 * MIB
    assert value(families, "cairn_bitmap_dirty_bytes", node="disk", bitmap="b \"quoted\\") == 8 * MIB
    assert value(families, "cairn_job_status", job="made", type="create", status="concluded") == 1
    assert value(families, "cairn_running") == 1 and value(families, "cairn_nbd_connections") == 1
    assert 0 < value(families, "cairn_memory_resident_bytes") <= memory_peak(daemon.pid)
    assert abs(value(families, "cairn_start_time_seconds") - time.time()) < 600
    with open(os.path.join(ROOT, "docs", "metrics.md"), encoding="utf-8") as page:
        rows = [[cell.strip().strip("`") for cell in line.split("|")[1:5]] for line in page if line.startswith("| `cairn_")]
    documented = {re.sub("_(total|info)$", "", name): (kind, set(filter(None, labels.split(", ")))) for name, kind, labels, _ in rows}
    for name, family in families.items():
        kind, labels = documented[name]
        assert family.type == kind and family.documentation, (name, family.type)
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == labels, sample
    assert value(scrape(path), "cairn_scrapes_total") == 2
    daemon.stop()
    assert not os.path.exists(path), "the socket is left behind"


@proof("a device's counters and latency histogram are told of, and the medium's node")
def _(place):
    process, qmp, path = machine_with_all(place)
    families = scrape(path)
    assert value(families, "cairn_device_bytes_total", device="d0", operation="read") == MIB + 4096
    assert value(families, "cairn_device_operations_total", device="d0", operation="write") == 1
    buckets = {sample.labels["le"]: sample.value for sample in families["cairn_device_latency_seconds"].samples
               if sample.labels["operation"] == "read" and sample.name.endswith("_bucket")}
    assert len(buckets) == 4 and buckets["+Inf"] == 2, buckets
    counts = list(buckets.values())
    assert counts == sorted(counts), buckets
    assert value(families, "cairn_device_error", device="d0") == 0
    qmp.run("stop")
    assert value(scrape(path), "cairn_running") == 0
    stats = [each for each in qmp.run("query-blockstats") if each["device"] == "d0"][0]["stats"]
    assert stats["rd_latency_histogram"]["bins"] == [int(b - a) for a, b in zip([0] + counts, counts)], (stats, buckets)
    qmp.run("quit")
    assert process.wait(60) == 0


@proof("every query of the dashboard names metrics and labels that a scrape has")
def _(place):
    _, _, machine = machine_with_all(place)
    daemon, qmp, path = daemon_with_all(place)
    qmp.run("blockdev-create", {"job-id": "made", "options": {"driver": "file", "filename": place.path("new"), "size": MIB}})
    qmp.wait_event("JOB_STATUS_CHANGE", status="concluded")
    labels = {}
    for scraped in (machine, path):
        for family in scrape(scraped).values():
            for sample in family.samples:
                labels.setdefault(sample.name, set()).update(sample.labels)
    with open(os.path.join(ROOT, "examples", "grafana", "cairn.json"), encoding="utf-8") as file:
        board = json.load(file)
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    queries = [(panel["title"], target["expr"], target["legendFormat"]) for panel in panels for target in panel["targets"]]
    queries += [("a variable", re.search(r"\((\w+),", variable["definition"])[1], "")
                for variable in board["templating"]["list"] if variable["type"] == "query"]
    assert len(queries) > 25
    named = set()
    for title, query, legend in queries:
        metrics = re.findall(r"\bcairn_\w+", query)
        assert metrics and query.count("(") == query.count(")") and query.count("{") == query.count("}"), (title, query)
        # What the monitoring system itself adds.
        known = {"instance", "job_name"}.union(*(labels.get(metric, set()) for metric in metrics))
        for metric in metrics:
            assert metric in labels, f"{title}: there is no {metric}"
        used = set(re.findall(r"\{\{(\w+)\}\}", legend))
        for group in re.findall(r"\bby \(([^)]*)\)", query):
            used.update(label.strip() for label in group.split(","))
        for selector in re.findall(r"(?<!\{)\{([^{}]*)\}(?!\})", query):
            used.update(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector))
        assert used <= known, f"{title}: {used - known} is no label of {metrics}"
        named.update(metrics)
    # All that one would look at is on the board.
    left_out = {name for name in labels if name not in named} - {
        "cairn_scrapes_total", "cairn_scrapes_refused_total", "cairn_node_operations_total", "cairn_node_failed_total",
        "cairn_node_time_seconds_total", "cairn_node_written_end_bytes", "cairn_bitmap_granularity_bytes", "cairn_bitmap_recording"}
    assert not left_out, left_out
    daemon.stop()


@proof("scrapers that are slow, greedy or speak something else are turned away, and clients of the export do not notice", seconds=120)
def _(place):
    daemon, _, path = daemon_with_all(place)
    handle = nbd.NBD()
    handle.connect_uri(daemon.uri("d"))
    stop, served = threading.Event(), []

    def client():
        while not stop.is_set():
            start = time.monotonic()
            handle.pwrite(b"x" * 4096, 0)
            served.append(time.monotonic() - start)

    thread = threading.Thread(target=client)
    thread.start()
    try:
        for text, status in (("GET / HTTP/1.0\r\n\r\n", "200"), ("HEAD /metrics HTTP/1.1\r\n\r\n", "200"), ("GET /x HTTP/1.1\r\n\r\n", "404"),
                             ("POST /metrics HTTP/1.1\r\n\r\n", "405"), ("{'execute': 'quit'}\n\n", "400"), ("\0\n\n", "400")):
            answer, _, body = request(path, text)
            assert f" {status} " in answer, (text, answer)
            assert not body or not text.startswith("HEAD")
        before = sockets(daemon.pid)
        idle = []
        for _ in range(100):
            one = socket.socket(socket.AF_UNIX)
            one.settimeout(30)
            try:
                one.connect(path)
                one.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
            except OSError:
                pass
            idle.append(one)
        wait_for("no more than the limit to be open", lambda: sockets(daemon.pid) <= before + 16, 20)
        # Those that hang are cut off, and then it is others' turn.
        wait_for("room for others", lambda: answered(path), 30, 0.2)
        for one in idle:
            one.close()
        # A request without an end.
        with socket.socket(socket.AF_UNIX) as greedy:
            greedy.settimeout(30)
            greedy.connect(path)
            try:
                for _ in range(10_000):
                    greedy.sendall(b"x" * 1024)
                raise AssertionError("10 MB of a request were taken")
            except OSError:
                pass
        # One that asks and does not read.
        deaf = socket.socket(socket.AF_UNIX)
        deaf.connect(path)
        deaf.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        for _ in range(50):
            scrape(path)
        deaf.close()
        families = scrape(path)
        assert value(families, "cairn_scrapes_refused_total") >= 84, families["cairn_scrapes_refused"]
    finally:
        stop.set()
        thread.join()
    assert len(served) > 100, len(served)
    wait_for("all scrapers to be gone", lambda: sockets(daemon.pid) <= before, 30)
    assert memory_peak(daemon.pid) < 256 * MIB
    daemon.stop()


def answered(path):
    try:
        return request(path, "GET /metrics HTTP/1.1\r\n\r\n", 2)[0].endswith("200 OK")
    except OSError:
        return False


@proof("metrics are served on TCP too, and addresses that are none are refused")
def _(place):
    daemon = Daemon(place, "--metrics", "tcp:127.0.0.1:0")
    inodes = {os.readlink(f"/proc/{daemon.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{daemon.pid}/fd")}
    (port,) = [int(line.split()[1].split(":")[1], 16) for line in list(open("/proc/net/tcp"))[1:]
               if f"socket:[{line.split()[9]}]" in inodes and line.split()[3] == "0A"]
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 200 OK")
    daemon.stop()
    for text in ("nowhere", "unix:", "tcp:127.0.0.1:x", f"unix:{place.path('no/folder')}"):
        place.refused(face("daemon") + ["--metrics", text], "--metrics")


main("metrics")
