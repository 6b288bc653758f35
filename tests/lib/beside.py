"""The same command lines run by our programs and by QEMU's, in two folders that begin the same.

What is printed must be the same, but for figures that differ from run to run, and so must exit codes. Of what goes to standard
error only whether there is something is compared: sentences are everybody's own.
"""

import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor

from harness import PEER, ours, peer

PROGRAMS = ("qemu-img", "qemu-io", "qemu-nbd")
# Seconds that one line may take, and what its exit code is then.
BOUND, NO_END = 60, "no end"


def words(line):
    """Splits at blanks, except inside single quotes."""
    found = []
    for index, part in enumerate(line.split("'")):
        found += [part] if index % 2 else part.split()
    return found


def plain(text):
    """Text without what chance decides: rates, how often progress is told, and the words that explain a usage line."""
    text = text.replace("\r", "\n")
    text = re.sub(r"(?m)^(\d+,\d+),\d+:\d\d:\d\d\.\d\d,.*", r"\1", text)
    text = re.sub(r"(?m)^    \((?!0\.00|100\.00)\d+\.\d\d/100%\)\n", "", text)
    text = re.sub(r"(?m)^(    \(\d+\.00/100%\)\n)\1+", r"\1", text)
    return "\n".join(line.split(" ops; ")[0].split(" -- ")[0].rstrip() for line in text.splitlines())


class Beside:
    """Two folders, ours and the peer's, and what was not the same in them."""

    def __init__(self, place):
        self.place, self.differences, self.lines = place, [], 0
        self.folders = {side: place.path(side) for side in ("ours", "peer")}
        programs = place.path("programs")
        os.mkdir(programs)
        for name in PROGRAMS:
            os.symlink(ours(name), os.path.join(programs, name))
        self.paths = {"ours": programs, "peer": PEER}
        for folder in self.folders.values():
            os.mkdir(folder)

    def given(self, *lines):
        """Made once by QEMU's programs; each folder gets a copy."""
        for line in lines:
            code, out, err = self._run("peer", line)
            assert code == 0, f"{line}: {out}{err}"
        made = self.place.path("made")
        os.rename(self.folders["peer"], made)
        for folder in self.folders.values():
            self.place.ok(["cp", "-a", "--sparse=always", f"{made}/.", folder])

    def _run(self, side, line):
        env = dict(os.environ, PATH=f"{self.paths[side]}:{os.environ['PATH']}", LC_ALL="C", TZ="UTC")
        env.pop("CAIRN", None)
        process = subprocess.Popen(words(line), cwd=self.folders[side], env=env, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
        try:
            out, err = process.communicate(timeout=BOUND)
        except subprocess.TimeoutExpired:
            # With what it has started: a server is waited for by nobody.
            os.killpg(process.pid, 9)
            out, err = process.communicate()
            return NO_END, out.decode(errors="replace"), err.decode(errors="replace")
        return process.returncode, out.decode(errors="replace"), err.decode(errors="replace")

    def both(self, line):
        self.lines += 1
        with ThreadPoolExecutor(2) as pool:
            return tuple(pool.map(lambda side: self._run(side, line), ("ours", "peer")))

    def same(self, *lines):
        """Each line ends the same and prints the same."""
        for line in lines:
            ours, peers = self.both(line)
            seen = [(code, plain(out), bool(err)) for code, out, err in (ours, peers)]
            if seen[0] != seen[1] or NO_END in (ours[0], peers[0]):
                told = [f"  {side} ({code})\n{plain(out)[-1500:]}\n  on standard error: {err[-500:]}"
                        for side, (code, out, err) in (("ours", ours), ("peer", peers))]
                self.differences.append("\n".join([line, *told]))

    def ours_alone(self, line, code, *found):
        """A line that is answered otherwise on purpose: ours ends with `code`, and says these words somewhere."""
        self.lines += 1
        ended, out, err = self._run("ours", line)
        if ended != code or not all(word in out + err for word in found):
            self.differences.append(f"{line}\n  ours ({ended})\n{out[-1500:]}\n  on standard error: {err[-500:]}")

    def same_disk(self, format, image):
        """Both have made the same disk."""
        left, right = (os.path.join(folder, image) for folder in self.folders.values())
        run = self.place.run([peer("qemu-img"), "compare", "-f", format, "-F", format, left, right])
        if run.code or "mismatch" in run.out + run.err:
            self.differences.append(f"{image}: another disk: {run}")

    def end(self):
        self.place.tell(f"{self.lines} lines")
        assert not self.differences, f"{len(self.differences)} of {self.lines} differ:\n" + "\n".join(self.differences)
