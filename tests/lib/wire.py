"""NBD by hand, byte for byte: a client that may misbehave, and a server that may.

Specification: https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md
"""

import socket
import struct
import threading
import time

INIT, OPTION, REPLY = 0x4E42444D41474943, 0x49484156454F5054, 0x3E889045565A9
REQUEST, SIMPLE, CHUNK, EXTENDED_REQUEST = 0x25609513, 0x67446698, 0x668E33EF, 0x21E41C71
EXPORT_NAME, ABORT, LIST, INFO, GO, STRUCTURED, LIST_META, SET_META, EXTENDED = 1, 2, 3, 6, 7, 8, 9, 10, 11
READ, WRITE, DISC, FLUSH, TRIM, CACHE, ZERO, STATUS = 0, 1, 2, 3, 4, 5, 6, 7
ACK, REP_SERVER, REP_INFO, REP_META = 1, 2, 3, 4
FLAGS = 1 | 1 << 2 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 8  # has flags, flush, FUA, trim, zeroes, multi-conn


def receive(sock, count):
    data = b""
    while len(data) < count:
        more = sock.recv(min(count - len(data), 1 << 20))
        if not more:
            raise EOFError(f"the stream ended after {len(data)} of {count} bytes")
        data += more
    return data


class Client:
    """A client that says exactly what it is told to."""

    def __init__(self, path, seconds=120):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(seconds)
        self.socket.connect(path)
        self.cookie = 0

    def greet(self):
        magic, option, flags = struct.unpack(">QQH", receive(self.socket, 18))
        assert (magic, option) == (INIT, OPTION), "no NBD greeting"
        self.socket.sendall(struct.pack(">I", flags & 3))
        return self

    def option(self, number, data=b""):
        self.socket.sendall(struct.pack(">QII", OPTION, number, len(data)) + data)

    def reply(self):
        magic, option, kind, length = struct.unpack(">QIII", receive(self.socket, 20))
        assert magic == REPLY, hex(magic)
        return option, kind, receive(self.socket, length)

    def replies(self):
        """Replies to one option, the last one included."""
        found = []
        while True:
            found.append(self.reply())
            if found[-1][1] == ACK or found[-1][1] >= 1 << 31:
                return found

    def go(self, name, *options):
        """Into transmission, with simple replies if no options ask for others first."""
        self.greet()
        for option in options:
            self.option(option)
            assert self.replies()[-1][1] == ACK
        self.option(GO, struct.pack(">I", len(name)) + name.encode() + struct.pack(">H", 0))
        assert self.replies()[-1][1] == ACK
        return self

    def request(self, kind, offset=0, length=0, data=b"", flags=0):
        self.cookie += 1
        self.socket.sendall(struct.pack(">IHHQQI", REQUEST, flags, kind, self.cookie, offset, length) + data)
        return self.cookie

    def answer(self, length=0):
        """Error, cookie and data of a simple reply; `length` bytes follow where there is no error."""
        magic, error, cookie = struct.unpack(">IIQ", receive(self.socket, 16))
        assert magic == SIMPLE, hex(magic)
        return error, cookie, receive(self.socket, length) if not error else b""

    def ended(self):
        """Whether the server has hung up (waits for it)."""
        try:
            while self.socket.recv(1 << 16):
                pass
            return True
        except (ConnectionResetError, BrokenPipeError):
            return True
        except TimeoutError:
            return False

    def close(self):
        self.socket.close()


class Server:
    """A small server over bytes in memory; its hooks make it fail, stall, lie and remember.

    `hook(kind, offset, length)` may return an error number, the string "silence" (never answered), "endless" (chunks
    without end) or None; `log` holds every request that changed something.
    """

    def __init__(self, path, size, hook=None, structured=True):
        self.path, self.data, self.hook, self.structured = path, bytearray(size), hook, structured
        self.log, self.lock, self.stopping = [], threading.Lock(), False
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(16)
        threading.Thread(target=self._accept, daemon=True).start()

    def uri(self, name=""):
        return f"nbd+unix:///{name}?socket={self.path}"

    def close(self):
        self.stopping = True
        self.listener.close()

    def _accept(self):
        while not self.stopping:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._guard, args=(sock,), daemon=True).start()

    def _guard(self, sock):
        try:
            chunks = self._handshake(sock)
            if chunks is not None:
                self._serve(sock, chunks)
        except (OSError, EOFError, struct.error):
            pass
        finally:
            sock.close()

    def _handshake(self, sock):
        sock.sendall(struct.pack(">QQH", INIT, OPTION, 3))
        receive(sock, 4)
        chunks = False
        while True:
            magic, option, length = struct.unpack(">QII", receive(sock, 16))
            receive(sock, length)

            def reply(kind, data=b""):
                sock.sendall(struct.pack(">QIII", REPLY, option, kind, len(data)) + data)

            if option == GO or option == INFO:
                reply(REP_INFO, struct.pack(">HQH", 0, len(self.data), FLAGS))
                reply(ACK)
                if option == GO:
                    return chunks
            elif option == EXPORT_NAME:
                sock.sendall(struct.pack(">QH", len(self.data), FLAGS))
                return chunks
            elif option == STRUCTURED and self.structured:
                chunks = True
                reply(ACK)
            elif option == ABORT:
                reply(ACK)
                return None
            else:
                reply(1 << 31 | 1)

    def _serve(self, sock, chunks):
        while True:
            magic, flags, kind, cookie, offset, length = struct.unpack(">IHHQQI", receive(sock, 28))
            body = receive(sock, length) if kind == WRITE else b""
            if kind == DISC:
                return
            error = self.hook(kind, offset, length) if self.hook else None
            if error == "silence":
                continue
            if error == "endless":
                self._endless(sock, cookie, offset)
                return
            with self.lock:
                if not error:
                    self._change(kind, offset, length, body)
                data = bytes(self.data[offset:offset + length]) if kind == READ and not error else b""
            if not chunks or kind != READ:
                sock.sendall(struct.pack(">IIQ", SIMPLE, error or 0, cookie) + data)
            elif error:
                sock.sendall(struct.pack(">IHHQI", CHUNK, 1, 1 << 15 | 1, cookie, 6) + struct.pack(">IH", error, 0))
            else:
                sock.sendall(struct.pack(">IHHQI", CHUNK, 1, 1, cookie, 8 + length) + struct.pack(">Q", offset) + data)

    def _endless(self, sock, cookie, offset):
        """Chunks that add nothing and never end."""
        chunk = struct.pack(">IHHQI", CHUNK, 0, 1, cookie, 8 + 1) + struct.pack(">Q", offset) + b"x"
        while not self.stopping:
            sock.sendall(chunk * 100)
            time.sleep(0.001)

    def _change(self, kind, offset, length, body):
        if kind == WRITE:
            self.data[offset:offset + length] = body
        elif kind in (ZERO, TRIM):
            self.data[offset:offset + length] = bytes(length)
        if kind in (WRITE, ZERO, TRIM, FLUSH):
            self.log.append((kind, offset, length))
