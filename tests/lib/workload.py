"""A workload over an NBD export that knows what it wrote."""

import nbd


class Disk:
    """A writer and reader of an NBD export that knows what it wrote."""

    def __init__(self, place, uri, size):
        self.rng, self.size, self.expected = place.rng, size, bytearray(size)
        self.handle = nbd.NBD()
        self.handle.connect_uri(uri)

    def step(self):
        length = self.rng.randrange(1, 96) * 512
        at = self.rng.randrange((self.size - length) // 512) * 512
        turn = self.rng.random()
        if turn < 0.5:
            data = self.rng.randbytes(length)
            fua = nbd.CMD_FLAG_FUA if self.rng.random() < 0.1 else 0
            self.handle.pwrite(data, at, fua)
            self.expected[at:at + length] = data
        elif turn < 0.55:
            self.handle.zero(length, at)
            self.expected[at:at + length] = bytes(length)
        elif turn < 0.65:
            self.handle.flush()
        else:
            assert self.handle.pread(length, at) == self.expected[at:at + length], f"{length} bytes at {at} differ"
