"""Files of web servers as disks: what is read is what curl reads, names are QEMU's, and servers may come and go."""

import hashlib
import hmac
import http.server
import json
import os
import signal
import subprocess
import threading
import urllib.parse

import nbd

from harness import (KIB, MIB, Daemon, QmpError, blockdev, export_options, face, free_port, main, noise, peer, proof,
                     raw_image, tcp_listening, wait_for)

NGINX = "/usr/sbin/nginx"
NEEDS = (NGINX, "curl", "openssl")
PASSWORD, COOKIE, KEY = "the-5ec4et-password", "session=the-5ec4et-cookie", "the-5ec4et-key"
# A proxy of the environment has nothing to do with these servers.
for name in ("http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY", "ALL_PROXY"):
    os.environ.pop(name, None)


class Web:
    """nginx with a folder of files, plain and in TLS."""

    def __init__(self, place):
        self.place, self.http, self.https = place, free_port(), free_port()
        self.files = place.path("files")
        os.mkdir(self.files)
        self.ca, key = place.path("ca.pem"), place.path("key.pem")
        place.ok(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
                  "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", self.ca])
        hashed = place.ok(["openssl", "passwd", "-apr1", PASSWORD]).out.strip()
        place.write("users", f"alice:{hashed}\n".encode())
        user = "user root;" if os.geteuid() == 0 else ""
        temporary = " ".join(f"{kind}_temp_path {place.dir}/tmp-{kind};"
                             for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        self.config = place.write("nginx.conf", f"""
            {user} daemon off; master_process off; pid {place.dir}/nginx.pid; error_log {place.dir}/nginx.errors;
            events {{ worker_connections 256; }}
            http {{ access_log {place.dir}/access; default_type application/octet-stream; {temporary}
             server {{ listen 127.0.0.1:{self.http}; listen 127.0.0.1:{self.https} ssl; keepalive_requests 100;
              ssl_certificate {self.ca}; ssl_certificate_key {key};
              location / {{ root {self.files}; }}
              location /tls12/ {{ alias {self.files}/; }}
              location /stream/ {{ alias {self.files}/; max_ranges 0; }}
              location /auth/ {{ alias {self.files}/; auth_basic x; auth_basic_user_file {place.dir}/users; }}
              location /cookie/ {{ alias {self.files}/; if ($http_cookie != "{COOKIE}") {{ return 403; }} }}
              location /key/ {{ alias {self.files}/; if ($http_x_key != "{KEY}") {{ return 403; }} }}
              location /gethead/ {{ alias {self.files}/; limit_except GET {{ deny all; }} if ($request_method = HEAD) {{ return 403; }} }}
              location /moved/ {{ rewrite ^/moved/(.*) /auth/../$1 redirect; }}
              location /away/ {{ return 302 http://localhost:{self.http}$request_uri; }} }} }}
            """.encode())
        self.process = None
        self.start()

    def start(self):
        self.process = self.place.spawn([NGINX, "-p", self.place.dir, "-c", self.config, "-e", f"{self.place.dir}/nginx.errors"])
        wait_for("nginx", lambda: tcp_listening(self.http) and tcp_listening(self.https))

    def kill(self):
        self.place.end(self.process, signal.SIGKILL)

    def url(self, name, folder="", tls=False):
        scheme, port = ("https", self.https) if tls else ("http", self.http)
        return f"{scheme}://127.0.0.1:{port}/{folder}{name}"

    def disk(self, name="disk.raw", size=24 * MIB):
        path = raw_image(self.place, name, size)
        os.rename(path, os.path.join(self.files, name))
        return os.path.join(self.files, name)


def secrets(place):
    """The secrets of all proofs, as options of a tool."""
    files = {"p": PASSWORD, "c": COOKIE, "h": f"X-Key: {KEY}\n"}
    paths = {name: place.write(f"secret-{name}", text.encode()) for name, text in files.items()}
    return [word for name, path in paths.items() for word in ("--object", f"secret,id={name},file={path}")]


def tree(driver, url, **more):
    return "json:" + json.dumps({"driver": "raw", "file": {"driver": driver, "url": url,
                                                            **{key.replace("_", "-"): value for key, value in more.items()}}})


def digest(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def copied(place, *source, how=()):
    """The digest of what a conversion reads."""
    copy = place.path("copy.raw")
    place.ok([*face("img"), "convert", *how, *source, "-O", "raw", copy])
    return digest(copy)


@proof("what is read is what is there and what curl reads: plain, in TLS, moved, as a stream, and by whoever may", NEEDS)
def _(place):
    web = Web(place)
    wanted = digest(web.disk())
    curl = place.path("curl.raw")
    place.ok(["curl", "-s", "-o", curl, web.url("disk.raw")])
    assert digest(curl) == wanted
    known = secrets(place)
    for source in (
            web.url("disk.raw"), web.url("disk.raw", "moved/"), web.url("disk.raw", "stream/"), web.url("disk.raw", "gethead/"),
            tree("https", web.url("disk.raw", tls=True), cafile=web.ca),
            tree("https", web.url("disk.raw", tls=True).replace("127.0.0.1", "localhost"), cafile=web.ca),
            tree("https", web.url("disk.raw", tls=True), sslverify=False),
            tree("http", web.url("disk.raw", "auth/"), username="alice", password_secret="p"),
            tree("http", web.url("disk.raw", "auth/").replace("//", f"//alice:{PASSWORD}@")),
            tree("http", web.url("disk.raw", "cookie/"), cookie_secret="c"),
            tree("http", web.url("disk.raw", "cookie/"), cookie=COOKIE),
            tree("http", web.url("disk.raw", "key/"), header_secret="h"),
            tree("http", web.url("disk.raw"), connections=1, readahead=0, force_range=True)):
        place.tell(source)
        assert copied(place, *known, source) == wanted, source


@proof("TLS 1.2 alone is spoken too", NEEDS)
def _(place):
    web = Web(place)
    wanted = digest(web.disk())
    web.kill()
    with open(web.config, "rb") as file:
        text = file.read().replace(b"ssl_certificate ", b"ssl_protocols TLSv1.2; ssl_certificate ")
    place.write("nginx.conf", text)
    web.start()
    assert copied(place, tree("https", web.url("disk.raw", tls=True), cafile=web.ca)) == wanted


@proof("every way to write the options leads to the same disk, in 2.1's words and today's", NEEDS)
def _(place):
    web = Web(place)
    wanted = digest(web.disk())
    url = web.url("disk.raw")
    whole = place.path("whole.raw")
    for words in (
            ["-f", "raw", url], ["--image-opts", f"driver=http,url={url}"], ["--image-opts", f"driver=http,filename={url}"],
            ["--image-opts", f"driver=raw,file.driver=http,file.url={url},file.readahead=64k,file.timeout=7"],
            ["--image-opts", f"driver=raw,file.driver=http,file.filename={url}"],
            ["--image-opts", f"driver=raw,file.filename={url}"],
            ['json:{"driver": "http", "url": "%s"}' % url], ['json:{"driver": "http", "filename": "%s"}' % url],
            ['json:{"file.driver": "http", "file.url": "%s", "file.sslverify": "off", "driver": "raw"}' % url]):
        place.ok([*face("img"), "convert", *words, "-O", "raw", whole])
        assert digest(whole) == wanted, words


@proof("names are QEMU's, byte for byte, and what QEMU refuses is refused",
       (*NEEDS, "peer:qemu-img", "/usr/lib/x86_64-linux-gnu/qemu/block-curl.so"))
def _(place):
    web = Web(place)
    web.disk()
    known, url = secrets(place), web.url("disk.raw")

    def names(programs, words):
        # QEMU's driver stands still at times.
        for _ in range(5):
            try:
                told = place.ok([*programs, "info", "--output=json", *known, *words], seconds=10).json()
                return [told["filename"], [child["info"]["filename"] for child in told["children"]], told["virtual-size"]]
            except AssertionError as error:
                if "did not end within" not in str(error):
                    raise
        raise AssertionError("QEMU's program did not end")

    for words in (
            [url], [web.url("disk.raw", "moved/")], ["--image-opts", f"driver=http,url={url}"], [url + "?a=b#c"],
            [tree("http", url, readahead=65536, timeout=7)], [tree("http", url, sslverify=True)],
            [tree("https", web.url("disk.raw", tls=True), sslverify=False)],
            [tree("https", web.url("disk.raw", tls=True), sslverify="off", timeout=9)],
            [tree("http", web.url("disk.raw", "auth/"), username="alice", password_secret="p")],
            [tree("http", url, username="x")], [tree("http", url, cookie_secret="c")],
            [tree("http", url, proxy_username="s", proxy_password_secret="p")]):
        ours, theirs = names(face("img"), words), names([peer("qemu-img")], words)
        assert ours == theirs, (words, ours, theirs)
    for words, why in (
            ([url + "x"], "404"), ([web.url("disk.raw", "auth/")], "401"),
            ([web.url("disk.raw", tls=True)], "certificate"), ([f"http://127.0.0.1:{free_port()}/x"], "connect"),
            ([tree("http", web.url("disk.raw", tls=True))], "http://"), ([tree("http", url, readahead=513)], "multiple of 512"),
            ([tree("http", url, timeout=10001)], "timeout"), ([tree("http", url, cookie="a", cookie_secret="c")], "cookie"),
            ([tree("http", url, password_secret="none")], "No secret with id 'none'")):
        place.refused([*face("img"), "info", *known, *words], why)
        place.refused([peer("qemu-img"), "info", *known, *words], why, seconds=20)


@proof("what was read and is kept on disk is not asked for again, takes no more than its bound, and is in no folder", NEEDS)
def _(place):
    web = Web(place)
    disk = web.disk()
    with open(disk, "rb") as file:
        content = file.read()
    kept = place.path("kept")
    os.mkdir(kept)

    def asked():
        with open(f"{place.dir}/access", encoding="utf-8") as log:
            return sum("GET" in line for line in log)

    options = {"url": web.url("disk.raw"), "readahead": 0, "read-only": True, "cache-path": kept}
    for bound, again in ((64 * MIB, 0), (MIB, None)):
        daemon = Daemon(place, *blockdev("http", "far", **options, **{"cache-disk-size": bound}),
                        *export_options("far", writable=False))
        client = nbd.NBD()
        client.connect_uri(daemon.uri("far"))
        counts = []
        # The disk may be slower than the server, and not keep all at first.
        ways = 3 if again is None else 50
        while len(counts) < ways and counts[-1:] != [again]:
            before = asked()
            for at in range(0, len(content), MIB):
                assert client.pread(MIB, at) == content[at:at + MIB], at
            counts.append(asked() - before)
        assert os.listdir(kept) == []
        assert counts[-1] == again or again is None and counts[-1] > 0, counts
        with open(daemon.pid_file, encoding="ascii") as file:
            descriptors = f"/proc/{int(file.read())}/fd"
        held = [os.stat(os.path.join(descriptors, name)) for name in os.listdir(descriptors)]
        unnamed = [file for file in held if file.st_nlink == 0 and file.st_dev == os.stat(kept).st_dev and file.st_size]
        assert unnamed and all(file.st_size <= bound and file.st_mode & 0o777 == 0o600 for file in unnamed), unnamed
        client.shutdown()
        daemon.stop()
    web.kill()


@proof("nothing is written: what would is refused in words", NEEDS)
def _(place):
    web = Web(place)
    web.disk()
    url = web.url("disk.raw")
    place.refused([*face("io"), "-f", "raw", "-c", "write 0 512", url], "read")
    place.refused([*face("img"), "create", "-f", "raw", url, "1M"], "does not support image creation")
    place.refused([*face("img"), "resize", "-f", "raw", url, "64M"], "read")


@proof("an overlay stands on an image of a web server, here and in QEMU", (*NEEDS, "peer:qemu-img"))
def _(place):
    web = Web(place)
    disk = web.disk()
    base = os.path.join(web.files, "base.qcow2")
    place.ok([*face("img"), "convert", "-f", "raw", "-O", "qcow2", "-c", disk, base])
    top, url = place.path("top.qcow2"), web.url("base.qcow2")
    place.ok([*face("img"), "create", "-f", "qcow2", "-b", url, "-F", "qcow2", top])
    place.ok([*face("io"), "-f", "qcow2", "-c", "write -P 9 1M 2M", "-c", "flush", top])
    place.ok([*face("img"), "compare", "-f", "qcow2", "-F", "raw", url, disk])
    told = place.ok([*face("img"), "info", "--output=json", top]).json()
    assert told["full-backing-filename"] == url, told
    ours = copied(place, "-f", "qcow2", top)
    place.ok([*face("io"), "-f", "raw", "-c", "write -P 9 1M 2M", disk])
    assert ours == digest(disk)
    mapped = place.ok([*face("img"), "map", "--output=json", "-f", "qcow2", top]).json()
    assert {entry["depth"] for entry in mapped} >= {0, 1}, mapped


@proof("an NBD export of a file of a web server is read whole and here and there, and the server may be killed meanwhile", NEEDS)
def _(place):
    web = Web(place)
    path = web.disk(size=48 * MIB)
    with open(path, "r+b") as file:
        file.write(noise(48 * MIB, 7))
    with open(path, "rb") as file:
        content = file.read()
    daemon = Daemon(place, *blockdev("http", "far", url=web.url("disk.raw"), timeout=20, **{"read-only": True}),
                    *export_options("far", writable=False))
    client = nbd.NBD()
    client.connect_uri(daemon.uri("far"))
    for nth in range(400):
        at, size = place.rng.randrange(47 * MIB), place.rng.choice((512, 4 * KIB, 60 * KIB, MIB))
        assert client.pread(size, at) == content[at:at + size], at
        if nth == 150:
            web.kill()
            number = subprocess.Popen(["sh", "-c", f"sleep 1; exec {NGINX} -p {place.dir} -c {web.config} -e {place.dir}/nginx.errors"],
                                      stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            place.processes.append(number)
            web.process = number
    copy = place.path("copy.raw")
    place.ok(["nbdcopy", daemon.uri("far"), copy])
    assert digest(copy) == digest(path)
    qmp = daemon.qmp()
    node = [node for node in qmp.run("query-named-block-nodes") if node["node-name"] == "far"][0]
    assert node["file"] == web.url("disk.raw") and node["ro"], node
    web.kill()
    client.shutdown()
    qmp.run("yank", instances=[{"type": "block-node", "node-name": "far"}])
    daemon.stop()


@proof("a file that is exchanged while it is read is told of, never mixed", NEEDS)
def _(place):
    web = Web(place)
    path = web.disk(size=16 * MIB)
    daemon = Daemon(place, *blockdev("http", "far", url=web.url("disk.raw"), readahead=0, **{"read-only": True}),
                    *export_options("far", writable=False))
    client = nbd.NBD()
    client.connect_uri(daemon.uri("far"))
    client.pread(4096, 0)
    other = place.write("other", noise(16 * MIB, 99))
    os.utime(other, (1_000_000_000, 1_000_000_000))
    os.rename(other, path)
    try:
        client.pread(4096, 8 * MIB)
        raise AssertionError("two versions were mixed")
    except nbd.Error as error:
        assert error.errno == "EIO", error
    client.shutdown()
    daemon.stop()
    copy = place.path("copy.raw")
    place.refused([*face("img"), "convert", web.url("none"), copy], "404")


@proof("no password, cookie or key is in a name, an answer, an error or a log", NEEDS)
def _(place):
    web = Web(place)
    web.disk()
    known, told = secrets(place), []
    daemon = Daemon(place, *known)
    qmp = daemon.qmp()
    nodes = (
        {"url": web.url("disk.raw", "auth/"), "username": "alice", "password-secret": "p"},
        {"url": web.url("disk.raw", "auth/").replace("//", f"//alice:{PASSWORD}@")},
        {"url": web.url("disk.raw", "cookie/"), "cookie": COOKIE}, {"url": web.url("disk.raw", "cookie/"), "cookie-secret": "c"},
        {"url": web.url("disk.raw", "key/"), "header-secret": "h"},
        {"url": web.url("none", "auth/"), "username": "alice", "password-secret": "p"},
        {"url": web.url("none", "key/"), "header-secret": "h", "cookie-secret": "c"},
        {"url": web.url("none", "cookie/"), "cookie": COOKIE})
    for nth, node in enumerate(nodes):
        try:
            qmp.run("blockdev-add", {"driver": "http", "node-name": f"n{nth}", "read-only": True, **node})
        except QmpError as error:
            assert "none" in node["url"], error
            told.append(error.desc)
    assert len(told) == 3, told
    told += [qmp.run("query-named-block-nodes"), qmp.run("query-block"), qmp.run("x-debug-query-block-graph"),
             qmp.run("qom-list", path="/objects")]
    for name in "pch":
        told.append(qmp.run("qom-list-get", paths=[f"/objects/{name}"]))
    daemon.stop()
    told.append(daemon.log())
    for node in nodes[:5]:
        if PASSWORD in node["url"] or "cookie" in node:
            continue
        name = tree("http", **{key.replace("-", "_"): value for key, value in node.items()})
        run = place.ok([*face("img"), "info", "--output=json", *known, name])
        told += [run.out, run.err]
    for text in told:
        for secret in (PASSWORD, COOKIE, KEY, "alice:", "YWxpY2U6"):
            assert secret not in str(text), f"{secret} is in {str(text)[:2000]}"


class Store:
    """A store of objects that checks signatures, written from the specification: one bucket, `disks`."""

    KEY_ID, SECRET = "AKIDEXAMPLE", "the-5ec4et/key+of=the-store"

    def __init__(self, objects):
        store = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def answer(self, status, body=b"", **headers):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("Content-Length", str(headers.pop("length", len(body))))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def do_GET(self):
                content = objects.get(urllib.parse.unquote(self.path))
                if not store.is_signed(self.command, self.path, self.headers):
                    return self.answer(403, b"<Error><Code>SignatureDoesNotMatch</Code></Error>")
                if content is None:
                    return self.answer(404)
                if self.command == "HEAD":
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(content)))
                    self.send_header("Accept-Ranges", "bytes")
                    return self.end_headers()
                span = self.headers.get("Range")
                if span is None:
                    return self.answer(200, content)
                first, last = map(int, span.removeprefix("bytes=").split("-"))
                part = content[first:last + 1]
                return self.answer(206, part, Content_Range=f"bytes {first}-{first + len(part) - 1}/{len(content)}")

            do_HEAD = do_GET

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def is_signed(self, method, target, headers):
        scheme, _, rest = (headers.get("Authorization") or "").partition(" ")
        said = dict(part.strip().split("=", 1) for part in rest.split(",")) if scheme == "AWS4-HMAC-SHA256" else {}
        if said.get("Credential", "").split("/")[0] != self.KEY_ID:
            return False
        _, day, region, service, end = said["Credential"].split("/")
        path, _, query = target.partition("?")
        lines = "".join(f"{name}:{' '.join(headers[name].split())}\n" for name in said["SignedHeaders"].split(";"))
        canonical = "\n".join((method, path, query, lines, said["SignedHeaders"], headers["x-amz-content-sha256"]))
        scope = "/".join((day, region, service, end))
        text = "\n".join((scheme, headers["x-amz-date"], scope, hashlib.sha256(canonical.encode()).hexdigest()))
        key = ("AWS4" + self.SECRET).encode()
        for part in (day, region, service, end):
            key = hmac.digest(key, part.encode(), "sha256")
        return {"host", "x-amz-date"} <= set(said["SignedHeaders"].split(";")) and \
            hmac.digest(key, text.encode(), "sha256").hex() == said["Signature"]


@proof("an object of a store that checks signatures is read as curl reads it, and by nobody else", ("curl",))
def _(place):
    content = noise(5 * MIB, 3)
    store = Store({"/disks/a folder/disk+1.raw": content, "/disks/v?versionId=two": content[:MIB]})
    curl = place.path("curl.raw")
    # curl shows that the store checks as others sign.
    place.ok(["curl", "-sf", "--aws-sigv4", "aws:amz:eu-west-1:s3", "--user", f"{store.KEY_ID}:{store.SECRET}", "-H",
              "x-amz-content-sha256: UNSIGNED-PAYLOAD", "-o", curl, f"{store.url}/disks/a%20folder/disk%2B1.raw"])
    assert digest(curl) == hashlib.sha256(content).hexdigest()
    secret = ["--object", f"secret,id=s,file={place.write('s3-secret', store.SECRET.encode())}"]
    options = {"driver": "s3", "bucket": "disks", "key": "a folder/disk+1.raw", "endpoint": store.url, "region": "eu-west-1"}
    signed = {**options, "access-key": store.KEY_ID, "secret-key-secret": "s"}
    named = lambda tree: "json:" + json.dumps({"driver": "raw", "file": tree})
    assert copied(place, *secret, named(signed)) == digest(curl)
    environment = {**os.environ, "AWS_ENDPOINT_URL": store.url, "AWS_REGION": "eu-west-1"}
    place.refused([*face("img"), "info", "s3://disks/a folder/disk+1.raw"], "403", env=environment)
    told = place.ok([*face("img"), "info", "--output=json", *secret, named({**signed, "key": "v", "version": "two"})])
    assert told.json()["virtual-size"] == MIB and store.SECRET not in told.out + told.err
    other = ["--object", f"secret,id=s,file={place.write('other-secret', b'another')}"]
    for objects, tree in ((other, signed), (secret, {**signed, "region": "us-east-1x", "access-key": "nobody"}), (secret, options)):
        run = place.refused([*face("img"), "info", *objects, named(tree)], "403")
        assert store.SECRET not in run.err
    place.refused([*face("img"), "info", *secret, named({**signed, "key": "none"})], "404")


main("files of web servers")
