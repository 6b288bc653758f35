"""A disk whose every sector tells who wrote it, and the law that a crash must keep.

Each sector that a writer writes holds its own number and the sequence number of the request, sixteen times over. From
the list of requests the model knows, for every sector, what may stand there after a crash:

    last durable  ─ write, FUA or followed by a flush that was answered
    or later      ─ any write of that same sector that was sent after it
    trims         ─ may leave what was there, or zeroes

Requests in flight at the same time never share a sector (they often share a cluster), so each sector's writes have one
order. Never allowed: another sector's data, a torn sector, something older than the last durable write.
"""

import struct
import time

import nbd

SECTOR = 512
_STAMP = struct.Struct("<8sQQQ")
_MAGIC = b"CairnTst"
ZERO = bytes(SECTOR)
ZERO_SEQUENCE = -1  # in the sets of what may stand in a sector: zeroes


def stamp(sector, sequence):
    return _STAMP.pack(_MAGIC, sector, sequence, sector ^ sequence ^ 0x5A5A) * (SECTOR // _STAMP.size)


def content(first, count, sequence):
    return b"".join(stamp(sector, sequence) for sector in range(first, first + count))


def explain(data):
    """What one sector's bytes are, in words."""
    if data == ZERO:
        return "zeroes"
    magic, sector, sequence, check = _STAMP.unpack_from(data)
    if magic != _MAGIC or check != sector ^ sequence ^ 0x5A5A:
        return f"bytes nobody wrote: {data[:24].hex()}…"
    whole = "" if data == stamp(sector, sequence) else ", torn"
    return f"sector {sector} by request {sequence}{whole}"


class Request:
    __slots__ = ("number", "kind", "first", "count", "acked", "durable")

    def __init__(self, number, kind, first, count):
        self.number, self.kind, self.first, self.count = number, kind, first, count
        self.acked = self.durable = False

    def __str__(self):
        state = "durable" if self.durable else "answered" if self.acked else "in flight"
        return f"{self.number} {self.kind} {self.first}+{self.count} ({state})"


class Model:
    """What may stand in each sector."""

    def __init__(self, sectors):
        self.sectors = sectors
        self.base = [ZERO_SEQUENCE] * sectors  # what was last seen there
        self.requests, self.number, self.busy = [], 0, set()

    def begin(self, kind, first, count):
        self.number += 1
        request = Request(self.number, kind, first, count)
        self.requests.append(request)
        self.busy.update(range(first, first + count))
        return request

    def end(self, request, fua=False):
        request.acked = True
        request.durable = request.durable or fua
        self.busy.difference_update(range(request.first, request.first + request.count))

    def free(self, first, count):
        """Whether no request in flight touches these sectors."""
        return self.busy.isdisjoint(range(first, first + count))

    def before_flush(self):
        """What a flush that is sent now makes durable."""
        return [request for request in self.requests if request.acked and not request.durable]

    def after_flush(self, covered):
        for request in covered:
            request.durable = True

    def _replay(self, request, allowed):
        for sector in range(request.first, request.first + request.count):
            value = request.number if request.kind == "write" else ZERO_SEQUENCE
            old = allowed.get(sector) or {self.base[sector]}
            if request.kind == "trim":
                allowed[sector] = old | {value}
            elif request.durable:
                allowed[sector] = {value}
            else:
                allowed[sector] = old | {value}

    def allowed(self):
        """Sector → sequence numbers that may stand there, of all sectors that were touched."""
        allowed = {}
        for request in self.requests:
            self._replay(request, allowed)
        return allowed

    def violations(self, read, limit=8):
        """Reads `read(sector)` for every sector; tells which break the law."""
        allowed, found = self.allowed(), []
        for sector in range(self.sectors):
            may = allowed.get(sector) or (self.base[sector],)
            data = read(sector)
            if any(data == (ZERO if value == ZERO_SEQUENCE else stamp(sector, value)) for value in may):
                continue
            names = ", ".join("zeroes" if value == ZERO_SEQUENCE else f"request {value}" for value in sorted(may))
            found.append(f"sector {sector} holds {explain(data)}; allowed: {names}")
            for request in self.requests:
                if request.first <= sector < request.first + request.count:
                    found.append(f"    request {request}")
            if len(found) >= limit * 4:
                break
        return found

    def settle(self, read):
        """What stands there now is the start of the next story. Call it after `violations` found none."""
        for sector in self.allowed():
            data = read(sector)
            self.base[sector] = ZERO_SEQUENCE if data == ZERO else _STAMP.unpack_from(data)[2]
        self.requests, self.busy = [], set()

    def current(self, first, count):
        """What a read of these sectors may return now; only while no request in flight touches them."""
        allowed = {}
        for request in self.requests:
            if request.first < first + count and first < request.first + request.count:
                for sector in range(max(first, request.first), min(first + count, request.first + request.count)):
                    value = request.number if request.kind == "write" else ZERO_SEQUENCE
                    old = allowed.get(sector) or {self.base[sector]}
                    allowed[sector] = old | {value} if request.kind == "trim" else {value}
        return [allowed.get(sector) or {self.base[sector]} for sector in range(first, first + count)]


def sector_reader(data):
    """`read(sector)` over the bytes of a whole disk."""
    view = bytes(data)
    return lambda sector: view[sector * SECTOR:(sector + 1) * SECTOR]


class Writer:
    """A client with several connections that keeps `depth` random requests in flight, and a model of them."""

    def __init__(self, model, uri, rng, connections=2, depth=12, hot=None, mix=None):
        self.model, self.rng, self.depth = model, rng, depth
        self.hot = hot or 64  # sectors of a neighbourhood that requests like to share
        self.mix = mix or {"write": 60, "zero": 14, "trim": 10, "flush": 8, "read": 8}
        self.handles, self.flying, self.error, self.spent = [], 0, None, []
        for _ in range(connections):
            handle = nbd.NBD()
            handle.connect_uri(uri)
            self.handles.append(handle)
        assert connections == 1 or self.handles[0].can_multi_conn(), "the export does not announce multi-conn"
        self.focus = self.rng.randrange(self.model.sectors)
        self.answered = 0

    def _finish(self, error, done, data=None):
        self.flying -= 1
        if data is not None:
            self.spent.append(data)
        if error.value and self.error is None:
            self.error = error.value
        if not error.value:
            self.answered += 1
            done()
        return 1

    def _place(self):
        if self.rng.random() < 0.05:
            self.focus = self.rng.randrange(self.model.sectors)
        count = self.rng.choice((1, 1, 1, 2, 3, 7, 8, 16, 40, 128, 130, 300))
        if self.rng.random() < 0.5:
            first = self.focus + self.rng.randrange(-self.hot, self.hot)
        else:
            first = self.rng.randrange(self.model.sectors)
        if self.rng.random() < 0.3:
            first, count = first // 128 * 128, 128 * self.rng.randrange(1, 4)
        first = max(0, min(first, self.model.sectors - 1))
        return first, min(count, self.model.sectors - first)

    def submit(self):
        """Sends one request; False if the place it chose is busy."""
        handle = self.rng.choice(self.handles)
        kind = self.rng.choices(list(self.mix), list(self.mix.values()))[0]
        if kind == "flush":
            covered = self.model.before_flush()
            self.flying += 1
            handle.aio_flush(completion=lambda e: self._finish(e, lambda: self.model.after_flush(covered)))
            return True
        first, count = self._place()
        if not self.model.free(first, count):
            return False
        if kind == "read":
            self._read(handle, first, count)
        else:
            self._change(handle, kind, first, count)
        return True

    def _read(self, handle, first, count):
        want = self.model.current(first, count)
        self.model.busy.update(range(first, first + count))
        data = bytearray(count * SECTOR)

        def done():
            self.model.busy.difference_update(range(first, first + count))
            read = sector_reader(data)
            for index, may in enumerate(want):
                sector = first + index
                if not any(read(index) == (ZERO if v == ZERO_SEQUENCE else stamp(sector, v)) for v in may):
                    self.error = self.error or f"live read: sector {sector} holds {explain(read(index))}, " \
                                               f"expected one of {sorted(may)}"

        self.flying += 1
        handle.aio_pread(nbd.Buffer.from_buffer(data), first * SECTOR, completion=lambda e: self._finish(e, done, data))

    def _change(self, handle, kind, first, count):
        fua = self.rng.random() < 0.08
        flags = nbd.CMD_FLAG_FUA if fua else 0
        request = self.model.begin(kind, first, count)
        offset, length = first * SECTOR, count * SECTOR

        data = bytearray(content(first, count, request.number)) if kind == "write" else None

        def completion(error):
            return self._finish(error, lambda: self.model.end(request, fua), data)

        self.flying += 1
        if kind == "write":
            handle.aio_pwrite(nbd.Buffer.from_buffer(data), offset, completion=completion, flags=flags)
        elif kind == "zero":
            if self.rng.random() < 0.5:
                flags |= nbd.CMD_FLAG_NO_HOLE
            handle.aio_zero(length, offset, completion=completion, flags=flags)
        else:
            handle.aio_trim(length, offset, completion=completion, flags=flags)

    def turn(self):
        """Fills the queue and takes in what has come back; raises nbd.Error when the server is gone."""
        tries = 0
        while self.flying < self.depth and tries < 2 * self.depth:
            tries += 1
            self.submit()
        for handle in self.handles:
            if handle.aio_in_flight():
                handle.poll(2)
        self._forget()

    def _forget(self):
        """Empties the buffers of requests that have ended: this binding of libnbd never lets go of them."""
        for data in self.spent:
            data.clear()
        self.spent.clear()

    def bury(self):
        """The server is dead: every request that was on its way ends in an error."""
        for handle in self.handles:
            try:
                while handle.aio_in_flight():
                    handle.poll(1000)
            except nbd.Error:
                pass
        self.handles = []
        self._forget()

    def drain(self, seconds=120):
        """Waits for all answers."""
        end = time.monotonic() + seconds
        while self.flying:
            assert time.monotonic() < end, f"{self.flying} requests got no answer in {seconds} s"
            for handle in self.handles:
                if handle.aio_in_flight():
                    handle.poll(50)
        self._forget()

    def flush(self):
        """All that was answered is durable after this."""
        self.drain()
        covered = self.model.before_flush()
        self.handles[0].flush()
        self.model.after_flush(covered)

    def close(self):
        for handle in self.handles:
            try:
                handle.shutdown()
            except nbd.Error:
                pass
        self.handles = []


def read_disk(uri, sectors):
    """The whole disk through an export."""
    handle = nbd.NBD()
    handle.connect_uri(uri)
    size = sectors * SECTOR
    assert handle.get_size() == size, f"the export has {handle.get_size()} bytes, not {size}"
    data = b"".join(bytes(handle.pread(min(1 << 20, size - at), at)) for at in range(0, size, 1 << 20))
    handle.shutdown()
    return data
