"""What every proof stands on: named proofs, a scratch place with its processes, a small QMP client.

    @proof("a sentence that is shown to be true")
    def _(place): ...

    main("title")

Each proof has a fresh folder and ends every process it started. The first one that fails is printed with its seed, its
story and the tail of its logs, and ends the run. Environment:

    CAIRN_TEST_DIR    where scratch folders go (memory if writable, else TMPDIR)
    CAIRN_TEST_SEED   the seed (printed at the start)
    CAIRN_TEST_TIME   seconds that one proof may take, and more where it says so (240)
    CAIRN_TEST_KEEP   a folder to which a failed proof's files are copied, and its whole story
    CAIRN_TEST_GO_ON  go on after a failure
    CAIRN_TEST_VERBOSE  print each proof's story as it goes
    CAIRN_TEST_PEER   folder of QEMU's own programs (/usr/bin)
"""

import ctypes
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback

SEED = int(os.environ.get("CAIRN_TEST_SEED") or random.randrange(1 << 31))
TIME = int(os.environ.get("CAIRN_TEST_TIME", "240"))
PEER = os.environ.get("CAIRN_TEST_PEER", "/usr/bin")
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

_proofs = []
_libc = ctypes.CDLL(None, use_errno=True)


def number(name, default):
    """An integer from the environment."""
    return int(os.environ.get(name, default))


def peer(name):
    """Path of one of QEMU's own programs."""
    return os.path.join(PEER, name)


def ours(name):
    """Path of our program of that name, as the caller's PATH finds it."""
    return shutil.which(name) or name


def face(name):
    """The command that starts a face of the program: `cairn img`, or `qemu-img` where only the names are there."""
    cairn = os.environ.get("CAIRN")
    if cairn:
        return [cairn, name]
    return [ours("qemu-storage-daemon" if name == "daemon" else f"qemu-{name}")]


def tested_is_peer():
    """Whether the programs under test are QEMU's own (how these proofs were tried out first)."""
    return os.path.realpath(ours("qemu-img")) == os.path.realpath(peer("qemu-img"))


def proof(sentence, needs=(), seconds=None):
    """Registers a proof. `needs`: programs without which it is left out, said aloud."""

    def register(function):
        _proofs.append((sentence, needs, max(seconds or 0, TIME), function))
        return function

    return register


def wait_for(what, condition, seconds=120.0, pause=0.01):
    """Waits until `condition()` is true and returns its value."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds} s in vain for: {what}")
        time.sleep(pause)


def listening(path):
    """Whether somebody accepts connections on a UNIX socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
            return True
        except OSError:
            return False


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def tcp_listening(port):
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def noise(size, seed=1):
    return random.Random(seed).randbytes(size)


def raw_image(place, name="disk.raw", size=64 * MIB):
    """Data, holes and zeroes."""
    path = place.path(name)
    with open(path, "wb") as file:
        file.truncate(size)
        for at in (0, 5 * MIB, size - MIB):
            file.seek(at)
            file.write(noise(MIB, at))
    return path


def memory_peak(pid):
    """The most memory a process has had resident, in bytes."""
    with open(f"/proc/{pid}/status") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * KIB
    raise AssertionError("no VmHWM")


def sockets(pid):
    """How many sockets a process has open."""
    count = 0
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            count += os.readlink(f"/proc/{pid}/fd/{name}").startswith("socket:")
        except FileNotFoundError:
            pass
    return count


class Run:
    """What a finished command left."""

    def __init__(self, command, code, out, err, seconds):
        self.command, self.code, self.out, self.err, self.seconds = command, code, out, err, seconds

    def __str__(self):
        return f"{' '.join(self.command)}\n  exit code {self.code}\n  out: {self.out[-1500:]}\n  err: {self.err[-1500:]}"

    def json(self):
        return json.loads(self.out)


def _child():
    os.setpgid(0, 0)
    _libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: nothing outlives these proofs


class Place:
    """A scratch folder, and the processes, mounts and logs of one proof."""

    def __init__(self, sentence, seed):
        shm = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.dir = tempfile.mkdtemp(prefix="cairn-proof-", dir=os.environ.get("CAIRN_TEST_DIR") or shm)
        self.sentence, self.rng = sentence, random.Random(seed)
        self.processes, self.mounts, self.logs, self.story, self.closers = [], [], [], [], []
        self.late = False

    def path(self, name):
        return os.path.join(self.dir, name)

    def tell(self, line):
        """Adds a line to the story that a failure prints."""
        self.story.append(line)
        if os.environ.get("CAIRN_TEST_VERBOSE"):
            print(f"      {line}", flush=True)

    def write(self, name, content):
        with open(self.path(name), "wb") as file:
            file.write(content)
        return self.path(name)

    def run(self, command, seconds=120, stdin=None, **more):
        """Runs a command to its end, bounded in time."""
        command = [str(word) for word in command]
        start = time.monotonic()
        kept = more.pop("stdout", subprocess.PIPE)
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL, stdout=kept,
            stderr=subprocess.PIPE, cwd=self.dir, preexec_fn=more.pop("preexec_fn", _child), **more)
        self.processes.append(process)
        try:
            data = stdin.encode() if isinstance(stdin, str) else stdin
            out, err = process.communicate(data, timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"did not end within {seconds} s: "
                                 f"{Run(command, None, (out or b'').decode(errors='replace'), err.decode(errors='replace'), seconds)}")
        finally:
            self.processes.remove(process)
        return Run(command, process.returncode, (out or b"").decode(errors="replace"), err.decode(errors="replace"),
                   time.monotonic() - start)

    def ok(self, command, **more):
        """Runs a command that must succeed."""
        run = self.run(command, **more)
        assert run.code == 0, str(run)
        return run

    def refused(self, command, *words, **more):
        """Runs a command that must fail with a message (never by a signal) that holds all of `words`."""
        run = self.run(command, **more)
        assert run.code is not None and 0 < run.code < 126, str(run)
        assert run.err.strip(), f"refused without a word: {run}"
        for word in words:
            choices = word if isinstance(word, tuple) else (word,)
            assert any(str(choice).lower() in run.err.lower() for choice in choices), f"no '{word}' in: {run}"
        assert "panicked" not in run.err, str(run)
        return run

    def spawn(self, command, **more):
        """Starts a process that runs beside the proof."""
        log = tempfile.NamedTemporaryFile("w+", dir=self.dir, prefix="log-", delete=False)
        self.logs.append((" ".join(map(str, command)), log.name))
        process = subprocess.Popen(
            [str(word) for word in command], stdin=more.pop("stdin", subprocess.DEVNULL),
            stdout=more.pop("stdout", log), stderr=more.pop("stderr", log), cwd=self.dir,
            preexec_fn=more.pop("preexec_fn", _child), **more)
        process.log = log.name
        log.close()
        self.processes.append(process)
        return process

    def serve(self, command, socket_path, seconds=120, up=None, **more):
        """Starts a server and waits until it listens."""
        process = self.spawn(command, **more)
        up = up or (lambda: os.path.exists(socket_path) and listening(socket_path))

        def there():
            assert process.poll() is None, f"{' '.join(map(str, command))} ended: {open(process.log).read()}"
            return up()

        wait_for(f"{socket_path} to be served", there, seconds)
        return process

    def end(self, process, how=signal.SIGTERM, seconds=120):
        """Ends a process by a signal and returns its exit code."""
        if process.poll() is None:
            process.send_signal(how)
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"did not end within {seconds} s of signal {how}: {open(process.log).read()[-2000:]}")
        if process in self.processes:
            self.processes.remove(process)
        return code

    def tmpfs(self, name, size):
        """A small file system of its own, to run full."""
        path = self.path(name)
        os.mkdir(path)
        self.ok(["mount", "-t", "tmpfs", "-o", f"size={size}", "cairn-proof", path])
        self.mounts.append(path)
        return path

    def tails(self):
        for command, log in self.logs[-6:]:
            try:
                with open(log, errors="replace") as file:
                    tail = file.read()[-1500:].strip()
            except OSError:
                continue
            if tail:
                yield f"    log of {command[:300]}\n      " + tail.replace("\n", "\n      ")

    def close(self):
        for closer in reversed(self.closers):
            try:
                closer()
            except Exception:
                pass
        for process in self.processes:
            if process.poll() is None:
                process.kill()
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                pass
        for mount in reversed(self.mounts):
            subprocess.run(["umount", "-l", mount], stderr=subprocess.DEVNULL)
        shutil.rmtree(self.dir, ignore_errors=True)


class QmpError(Exception):
    """An error that the other side answered; `cls` is its class."""

    def __init__(self, error):
        super().__init__(f"{error['class']}: {error['desc']}")
        self.cls, self.desc = error["class"], error["desc"]


class Qmp:
    """A plain QMP client: one command at a time, events kept in order."""

    def __init__(self, path, seconds=120, negotiate=True):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(seconds)
        self.socket.connect(path)
        self.buffer, self.events, self.number = b"", [], 0
        self.greeting = self.receive()
        assert "QMP" in self.greeting, self.greeting
        if negotiate:
            self.run("qmp_capabilities")

    def close(self):
        self.socket.close()

    def receive(self, seconds=None):
        """The next document, or None at the end of the stream."""
        if seconds is not None:
            self.socket.settimeout(seconds)
        while b"\n" not in self.buffer:
            data = self.socket.recv(65536)
            if not data:
                return None
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        return json.loads(line)

    def send(self, command, arguments=None, **more):
        """Sends a command; its id is returned."""
        self.number += 1
        message = {"execute": command, "id": self.number}
        arguments = dict(arguments or {}, **{key.replace("_", "-"): value for key, value in more.items()})
        if arguments:
            message["arguments"] = arguments
        self.socket.sendall(json.dumps(message).encode() + b"\n")
        return self.number

    def answer(self, number):
        """The answer to that id; events on the way are kept."""
        while True:
            document = self.receive()
            assert document is not None, "the daemon closed the QMP connection"
            if "event" in document:
                self.events.append(document)
            elif document.get("id") == number:
                if "error" in document:
                    raise QmpError(document["error"])
                return document["return"]

    def run(self, command, arguments=None, **more):
        return self.answer(self.send(command, arguments, **more))

    def pump(self):
        """Takes in what has arrived, without waiting; False at the end of the stream."""
        self.socket.setblocking(False)
        try:
            while True:
                data = self.socket.recv(65536)
                if not data:
                    return False
                self.buffer += data
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            self.socket.settimeout(120)

    def arrived(self):
        """Documents already taken in, whole lines only."""
        while b"\n" in self.buffer:
            line, self.buffer = self.buffer.split(b"\n", 1)
            yield json.loads(line)

    def wait_event(self, name, seconds=120, **data):
        """The first event of that name (and data) that has not been taken yet; those before it are dropped."""
        end = time.monotonic() + seconds
        while True:
            while self.events:
                event = self.events.pop(0)
                if event["event"] == name and all(event["data"].get(key) == value for key, value in data.items()):
                    return event
            left = end - time.monotonic()
            if left <= 0:
                raise AssertionError(f"no event {name} {data} within {seconds} s")
            try:
                document = self.receive(left)
            except TimeoutError:
                continue
            finally:
                self.socket.settimeout(120)
            assert document is not None, "the daemon closed the QMP connection"
            if "event" in document:
                self.events.append(document)


class Daemon:
    """A daemon with a QMP socket and an NBD server on UNIX sockets."""

    def __init__(self, place, *options, name="d", command=None, nbd=True, **more):
        self.place, self.name = place, name
        self.qmp_path, self.nbd_path = place.path(f"{name}.qmp"), place.path(f"{name}.nbd")
        line = list(command or face("daemon"))
        self.pid_file = place.path(f"{name}.pid")
        if os.path.exists(self.pid_file):
            os.unlink(self.pid_file)
        line += ["--pidfile", self.pid_file]  # written when all is set up
        line += ["--chardev", f"socket,id=qmp,path={self.qmp_path},server=on,wait=off", "--monitor", "chardev=qmp"]
        if nbd:
            line += ["--nbd-server", f"addr.type=unix,addr.path={self.nbd_path},max-connections=0"]
        self.process = place.serve(line + list(options), self.pid_file, up=self._up, **more)

    def _up(self):
        return os.path.exists(self.pid_file) and os.path.getsize(self.pid_file)

    @property
    def pid(self):
        return self.process.pid

    def qmp(self, **more):
        client = Qmp(self.qmp_path, **more)
        self.place.closers.append(client.close)
        return client

    def uri(self, export):
        return f"nbd+unix:///{export}?socket={self.nbd_path}"

    def log(self):
        with open(self.process.log, errors="replace") as file:
            return file.read()

    def alive(self):
        assert self.process.poll() is None, f"the daemon ended with {self.process.returncode}: {self.log()[-2000:]}"
        return True

    def kill(self):
        return self.place.end(self.process, signal.SIGKILL)

    def stop(self):
        """A clean end by SIGTERM."""
        code = self.place.end(self.process)
        assert code == 0, f"exit code {code} after SIGTERM: {self.log()[-2000:]}"
        assert "panicked" not in self.log(), self.log()


def blockdev(driver, node, **options):
    """`--blockdev` in its JSON form, as a pair of words."""
    tree = {"driver": driver, "node-name": node}
    for key, value in options.items():
        tree[key.replace("_", "-")] = value
    return ["--blockdev", json.dumps(tree)]


def image_options(driver, node, filename, **options):
    """A format node over a file node of its own, as a pair of words."""
    return blockdev(driver, node, file={"driver": "file", "filename": filename, "node-name": f"{node}-file"}, **options)


def export_options(node, name=None, writable=True, export_id=None):
    return ["--export", f"type=nbd,id={export_id or 'e-' + node},node-name={node},name={name or node},"
                        f"writable={'on' if writable else 'off'}"]


def _watch(place, seconds, done):
    if not done.wait(seconds):
        place.late = True
        for process in list(place.processes):
            if process.poll() is None:
                process.kill()
        if not done.wait(15):
            print(f"FAILED  {place.sentence}: still at work after {seconds} s", flush=True)
            place.close()
            os._exit(1)


def _prove(index, sentence, seconds, function):
    place = Place(sentence, f"{SEED}:{index}")
    done = threading.Event()
    watch = threading.Thread(target=_watch, args=(place, seconds, done), daemon=True)
    watch.start()
    start = time.monotonic()
    try:
        function(place)
        assert not place.late, f"took longer than {seconds} s"
    except BaseException as error:
        done.set()
        late = f" (stopped after {seconds} s)" if place.late else ""
        print(f"FAILED  {sentence}{late}\n    seed {SEED}", flush=True)
        for line in place.story[-40:]:
            print(f"    {line}")
        for frame in traceback.extract_tb(error.__traceback__)[1:]:
            print(f"    {os.path.basename(frame.filename)}:{frame.lineno} in {frame.name}: {frame.line}")
        print("    " + f"{type(error).__name__}: {error}"[:4000].replace("\n", "\n      "))
        for tail in place.tails():
            print(tail)
        kept = os.environ.get("CAIRN_TEST_KEEP")
        if kept:
            shutil.copytree(place.dir, kept, dirs_exist_ok=True, ignore_dangling_symlinks=True,
                            ignore=lambda folder, names: [n for n in names if not os.path.isfile(os.path.join(folder, n))])
            with open(os.path.join(kept, "story"), "w") as story:
                story.writelines(f"{line}\n" for line in place.story)
            print(f"    its files are in {kept}")
        sys.stdout.flush()
        return isinstance(error, Exception)
    finally:
        done.set()
        place.close()
    print(f"  ok  {sentence} ({time.monotonic() - start:.1f} s)", flush=True)
    return None


def main(title):
    """Runs the proofs (those whose sentence holds the argument, if one is given)."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    chosen = sys.argv[1] if len(sys.argv) > 1 else ""
    print(f"{title}: seed {SEED}, against {ours('qemu-img')}", flush=True)
    passed, broken, left_out = 0, 0, 0
    for index, (sentence, needs, seconds, function) in enumerate(_proofs):
        if chosen not in sentence:
            continue
        missing = [need for need in needs if not _there(need)]
        if missing:
            print(f"  --  left out, {', '.join(missing)} missing: {sentence}", flush=True)
            left_out += 1
            continue
        failed = _prove(index, sentence, seconds, function)
        if failed is None:
            passed += 1
            continue
        broken += 1
        if not failed or not os.environ.get("CAIRN_TEST_GO_ON"):
            break
    if left_out:
        print(f"{left_out} left out for want of what they need")
    print(f"{passed} passed, {broken} failed", flush=True)
    sys.exit(1 if broken else 0)


def _may_mount():
    """Whether we may mount a small file system of our own."""
    folder = tempfile.mkdtemp(prefix="cairn-proof-")
    try:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "cairn-proof", folder], stderr=subprocess.DEVNULL).returncode == 0
        if mounted:
            subprocess.run(["umount", folder], stderr=subprocess.DEVNULL)
        return mounted
    finally:
        os.rmdir(folder)


def _there(need):
    if need == "tmpfs":
        return _may_mount()
    if need == "root":
        return os.geteuid() == 0
    if need.startswith("python:"):
        try:
            __import__(need[7:])
            return True
        except ImportError:
            return False
    if need.startswith("peer:"):
        return os.access(peer(need[5:]), os.X_OK)
    if need.startswith("/"):
        return os.path.exists(need)
    return shutil.which(need) is not None
