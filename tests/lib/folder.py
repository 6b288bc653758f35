"""Folders of the host shown as FAT disks (docs/vvfat.md), read and written by programs of other projects.

    CAIRN_TEST_FOLDERS   random folders to try (12)
    CAIRN_TEST_GUESTS    random runs of changes on each kind of disk (1)
"""

import hashlib
import os
import random
import shutil
import subprocess

from harness import KIB, MIB, SEED, Daemon, blockdev, face, main, number, proof

IMG, IO = face("img"), face("io")
FOLDERS = number("CAIRN_TEST_FOLDERS", 12)
GUESTS = number("CAIRN_TEST_GUESTS", 1)
SECTOR = 512
# What mtools take for patterns in names.
PATTERNS = set("[]`")
# Options in a file name, and the sector of the file system on the disk.
DISKS = {"": 63, "12:": 63, "32:": 63, "floppy:": 0, "floppy:12:": 0, "floppy:16:": 0}
LETTERS = "abcdefghijkmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .-_~!#$%&'()@^`{}+,;=[]äßçñøλжд漢字"  # mtools show no names beyond the first 65,536 characters of Unicode


def run(*command, env=None):
    """What a program that must succeed tells."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
    text = done.stderr.decode(errors="replace") + done.stdout.decode(errors="replace")
    assert done.returncode == 0, f"{' '.join(command)}: {text[-600:]}"
    return done.stdout


def random_name(dice, taken):
    while True:
        name = "".join(dice.choice(LETTERS) for _ in range(dice.choice([1, 3, 8, 12, 13, 14, 26, 60])))
        if dice.random() < 0.3:
            name = name.upper()[:8] + "." + name[:3]
        name = name.rstrip(". ")
        if name and not name.startswith(" ") and name.casefold() not in taken and name.upper() not in taken:
            taken.update((name.casefold(), name.upper()))
            return name


def fill(dice, folder, names, room, depth=0):
    """Fills a folder with so many names at most and so many bytes."""
    taken = set()
    for _ in range(dice.randrange(names + 1)):
        path = os.path.join(folder, random_name(dice, taken))
        if depth < 4 and dice.random() < 0.25:
            os.mkdir(path)
            room = fill(dice, path, names // 2, room, depth + 1)
            continue
        size = min(dice.choice([0, 1, 511, 512, 4 * KIB, 8 * KIB, 8 * KIB + 1, 100_000]), room)
        room -= size
        with open(path, "wb") as file:
            file.write(dice.randbytes(size))
        os.utime(path, (1_700_000_000, dice.randrange(315_619_200, 4_000_000_000)))
    return room


def tree(folder):
    """Each path below a folder, and what it holds."""
    found = {}
    for place, folders, files in os.walk(folder):
        for name in folders:
            found[os.path.relpath(os.path.join(place, name), folder)] = None
        for name in files:
            path = os.path.join(place, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, folder)] = hashlib.sha256(file.read()).hexdigest()
    return found


def unpacked(disk, sector, to):
    """What mtools find on a disk."""
    shutil.rmtree(to, ignore_errors=True)
    os.mkdir(to)
    env = dict(os.environ, MTOOLS_SKIP_CHECK="1", LC_ALL="C.UTF-8", MTOOLS_LOWER_CASE="0")
    if run("mdir", "-b", "-i", f"{disk}@@{sector * SECTOR}", "::", env=env).strip():
        run("mcopy", "-s", "-n", "-m", "-i", f"{disk}@@{sector * SECTOR}", "::*", to, env=env)
    return tree(to)


def check(disk, sector, scratch):
    """What fsck.fat says of a disk; it must find nothing."""
    part = disk
    if sector:
        part = os.path.join(scratch, "part")
        run(*IMG, "convert", "-O", "raw", "--image-opts",
            f"driver=raw,offset={sector * SECTOR},file.filename={disk}", part)
    told = run("fsck.fat", "-n", "-v", part).decode(errors="replace")
    # Each disk is of its kind by the count of its clusters.
    return told


@proof("random folders are sound file systems on disks of every kind, and mtools find the same files", ["mcopy", "fsck.fat"])
def _(place):
    dice = random.Random(SEED)
    for nth in range(FOLDERS):
        for options, sector in DISKS.items():
            folder, disk = os.path.join(place.dir, "folder"), os.path.join(place.dir, "disk")
            shutil.rmtree(folder, ignore_errors=True)
            os.mkdir(folder)
            fill(dice, folder, 20, 700 * KIB if "floppy" in options else 8 * MIB)
            run(*IMG, "convert", "-O", "raw", f"fat:{options}{folder}", disk)
            told = check(disk, sector, place.dir)
            width = options.replace("floppy", "").strip(":") or ("12" if sector == 0 else "16")
            assert f"{width} bit entries" in told, (options, told)
            wanted, found = tree(folder), unpacked(disk, sector, os.path.join(place.dir, "found"))
            assert wanted == found, (nth, options, sorted(set(wanted.items()) ^ set(found.items()))[:6])
            allocated = os.stat(disk).st_blocks * SECTOR
            assert allocated < 48 * MIB, f"{allocated} bytes for a copy"


@proof("times, attributes and the label are those of the folder and the options", ["mdir"])
def _(place):
    folder, disk = os.path.join(place.dir, "folder"), os.path.join(place.dir, "disk")
    os.mkdir(folder)
    for name, mode, time in (("plain", 0o644, 1_700_000_000), ("READONLY.TXT", 0o444, 0), ("late", 0o600, 1 << 33)):
        path = os.path.join(folder, name)
        open(path, "w").close()
        os.chmod(path, mode)
        os.utime(path, (time, time))
    options = f"driver=vvfat,dir={folder},label=MY LABEL"
    env = dict(os.environ, TZ="UTC", MTOOLS_SKIP_CHECK="1")
    run(*IMG, "convert", "--image-opts", "-O", "raw", options, disk, env=env)
    listed = run("mdir", "-a", "-i", f"{disk}@@{63 * SECTOR}", "::", env=env).decode()
    assert "Volume in drive : is MY LABEL" in listed, listed
    assert "2023-11-14  22:13" in listed and "1980-01-01   0:00" in listed and "2107-12-31  23:59" in listed, listed
    attributes = run("mattrib", "-i", f"{disk}@@{63 * SECTOR}", "::*", env=env).decode()
    assert [line.split()[:2] for line in attributes.splitlines() if "READONLY" in line] == [["A", "R"]], attributes


@proof("a full disk holds what fits, and not one cluster more", ["mcopy", "fsck.fat"])
def _(place):
    folder, disk = os.path.join(place.dir, "folder"), os.path.join(place.dir, "disk")
    os.mkdir(folder)
    free = (2880 - 1 - 2 * 9 - 14) * SECTOR
    with open(os.path.join(folder, "ALL.BIN"), "wb") as file:
        file.write(os.urandom(free))
    run(*IMG, "convert", "-O", "raw", f"fat:floppy:12:{folder}", disk)
    check(disk, 0, place.dir)
    assert unpacked(disk, 0, os.path.join(place.dir, "found")) == tree(folder)
    with open(os.path.join(folder, "ONE.BIN"), "wb") as file:
        file.write(b"1")
    done = subprocess.run([*IMG, "info", f"fat:floppy:12:{folder}"], stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    assert done.returncode == 1 and b"ONE.BIN" in done.stderr, done.stderr


@proof("the same folder is the same disk each time, and all of it can be read")
def _(place):
    folder = os.path.join(place.dir, "folder")
    os.mkdir(folder)
    fill(random.Random(SEED), folder, 20, MIB)
    ours, again = os.path.join(place.dir, "ours"), os.path.join(place.dir, "again")
    run(*IMG, "convert", "-f", "vvfat", "-O", "raw", f"fat:{folder}", ours)
    run(*IMG, "compare", "-f", "vvfat", "-F", "raw", f"fat:{folder}", ours)
    run(*IMG, "convert", "-O", "raw", f"fat:{folder}", again)
    with open(ours, "rb") as a, open(again, "rb") as b:
        assert a.read(4 * MIB) == b.read(4 * MIB), "the same folder is another disk"
    run(*IO, "-r", "-c", "read 0 504M", f"fat:{folder}")


class Disk:
    """A folder served as a disk that can be written to, in a file by FUSE; mtools are the guest."""

    def __init__(self, place, folder, kind, name="disk"):
        self.place, self.folder = place, folder
        self.file = place.path(f"{name}-file")
        open(self.file, "w").close()
        words = kind.strip(":").split(":")
        options = {"fat-type": int(words[-1])} if words[-1].isdigit() else {}
        self.sector = DISKS[kind]
        self.daemon = Daemon(place, *blockdev("vvfat", "d", dir=folder, floppy="floppy" in words, rw=True, **options),
                             "--export", f"type=fuse,id=e,node-name=d,mountpoint={self.file},writable=on", name=name)
        self.env = dict(os.environ, MTOOLS_SKIP_CHECK="1", LC_ALL="C.UTF-8", MTOOLS_LOWER_CASE="0")

    def guest(self, command, *words):
        return run(command, "-i", f"{self.file}@@{self.sector * SECTOR}", *words, env=self.env)

    def flush(self):
        with open(self.file, "r+b") as file:
            os.fsync(file.fileno())

    def check(self):
        """The disk is a sound file system, and mtools find on it what the folder holds, as far as names have a case there."""
        copy = self.place.path("copy")
        run("cp", "--sparse=always", self.file, copy)
        check(copy, self.sector, self.place.dir)
        found, held = ({path.casefold(): content for path, content in paths.items()}
                       for paths in (unpacked(copy, self.sector, self.place.path("found")), tree(self.folder)))
        assert found == held, sorted(set(found.items()) ^ set(held.items()))[:6]


def changes(dice, disk, model, steps, room):
    """Changes a disk by mtools, and what is expected of its folder."""
    source, taken = disk.place.path("source"), {os.path.basename(path).casefold() for path in model}

    def folders():
        return [""] + [path + "/" for path, content in model.items() if content is None and path.count("/") < 3]

    def name():
        while True:
            found = random_name(dice, taken)
            # mtools lose the case of short names when they rename, and make a short name that fsck.fat calls bad of one with a tilde.
            if not set(found) & PATTERNS and len(found) > 12 and "~" not in found and found.isascii():
                return found

    def fresh():
        return dice.choice(folders()) + name()

    for _ in range(steps):
        kind = dice.choice(["new", "new", "new", "change", "folder", "remove", "tree", "rename", "attribute"])
        files = [path for path, content in model.items() if content is not None]
        if kind in ("new", "change"):
            if kind == "change" and not files:
                continue
            path = fresh() if kind == "new" else dice.choice(files)
            content = dice.randbytes(dice.choice([0, 1, 511, 512, 8 * KIB, 8 * KIB + 1, room // 20]))
            with open(source, "wb") as file:
                file.write(content)
            disk.guest("mcopy", "-o", source, f"::{path}")
            model[path] = hashlib.sha256(content).hexdigest()
        elif kind == "folder":
            path = fresh()
            disk.guest("mmd", f"::{path}")
            model[path] = None
        elif kind == "remove" and files:
            path = dice.choice(files)
            disk.guest("mdel", f"::{path}")
            del model[path]
        elif kind == "tree" and len(model) > 10:
            path = dice.choice(list(model))
            disk.guest("mdeltree", f"::{path}")
            for other in [other for other in model if other == path or other.startswith(path + "/")]:
                del model[other]
        elif kind == "rename" and model:
            path = dice.choice(list(model))
            new = os.path.join(os.path.dirname(path), name())
            disk.guest("mren", f"::{path}", f"::{new}")
            for other in [other for other in model if other == path or other.startswith(path + "/")]:
                model[new + other[len(path):]] = model.pop(other)
        elif kind == "attribute" and files:
            path = dice.choice(files)
            disk.guest("mattrib", "+r", "+h", f"::{path}")
            disk.flush()
            assert not os.stat(os.path.join(disk.folder, path)).st_mode & 0o222, path
            disk.guest("mattrib", "-r", "-h", f"::{path}")
        disk.flush()
        found = tree(disk.folder)
        if found != model:
            # The close tells what is wrong with the disk.
            disk.place.end(disk.daemon.process)
            raise AssertionError((kind, sorted(set(found.items()) ^ set(model.items()))[:6], disk.daemon.log()[-600:]))


@proof("a folder follows what mtools do to its disk, on disks of every kind, and the disk stays a sound file system",
       ["mcopy", "fsck.fat", "/dev/fuse", "root"], seconds=480)
def _(place):
    dice = random.Random(SEED)
    for nth in range(GUESTS):
        for kind in DISKS:
            folder = place.path("folder")
            shutil.rmtree(folder, ignore_errors=True)
            os.mkdir(folder)
            room = 400 * KIB if "floppy" in kind else 4 * MIB
            fill(dice, folder, 12, room)
            for at, folders, files in os.walk(folder):
                for name in folders + files:
                    # Names that mtools can't write again as they are.
                    if set(name) & (PATTERNS | {"~"}) or not name.isascii():
                        path = os.path.join(at, name)
                        shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
            disk = Disk(place, folder, kind, f"disk{nth}{kind.replace(':', '')}")
            place.tell(f"{kind or 'plain'}: {len(tree(folder))} names")
            changes(dice, disk, tree(folder), 40, room)
            disk.check()
            disk.daemon.stop()
            assert "warning" not in disk.daemon.log(), disk.daemon.log()
            assert not [name for name in os.listdir(folder) if name.startswith(".cairn")]


@proof("where the host's file system is full the folder stays as it was, and follows when there is room",
       ["mcopy", "/dev/fuse", "root", "tmpfs"])
def _(place):
    small = place.tmpfs("small", "3M")
    folder = os.path.join(small, "folder")
    os.mkdir(folder)
    with open(os.path.join(folder, "old"), "wb") as file:
        file.write(os.urandom(MIB))
    ballast = os.path.join(small, "ballast")
    with open(ballast, "wb") as file:
        file.write(bytes(MIB))
    before = tree(folder)
    disk = Disk(place, folder, "")
    large = place.write("large", os.urandom(1536 * KIB))
    disk.guest("mcopy", "-o", large, "::old")
    disk.guest("mmd", "::made")
    disk.flush()
    assert tree(folder) == before, "a part of it was changed"
    assert "is not in" in disk.daemon.log() and "No space left" in disk.daemon.log(), disk.daemon.log()
    os.unlink(ballast)
    disk.guest("mmd", "::later")
    disk.flush()
    after = tree(folder)
    disk.place.end(disk.daemon.process)
    assert set(after) == {"old", "made", "later"} and after["old"] != before["old"], (after, disk.daemon.log())


@proof("a disk that is formatted anew, or no sound file system at the end, leaves the folder as it was, and says why",
       ["mcopy", "mkfs.fat", "/dev/fuse", "root"])
def _(place):
    for what, words in (("formatted", "formatted anew"), ("crossed", "share cluster")):
        folder = place.path(what)
        os.mkdir(folder)
        fill(random.Random(SEED), folder, 20, MIB)
        place.write(f"{what}/A.BIN", b"a" * 20000)
        place.write(f"{what}/B.BIN", b"b" * 20000)
        before = tree(folder)
        disk = Disk(place, folder, "floppy:", what)
        if what == "formatted":
            run("mkfs.fat", "-F", "12", disk.file)
        else:
            with open(disk.file, "r+b") as file:
                root = file.read(64 * KIB)
                a, b = root.index(b"A       BIN"), root.index(b"B       BIN")
                file.seek(a + 26)
                file.write(root[b + 26:b + 28])
        disk.flush()
        disk.place.end(disk.daemon.process)
        assert tree(folder) == before, what
        assert words in disk.daemon.log(), (what, disk.daemon.log())


@proof("a daemon that is killed while the folder follows loses nothing of what was there",
       ["mcopy", "/dev/fuse", "root"])
def _(place):
    dice = random.Random(SEED)
    for nth in range(6):
        folder = place.path(f"folder{nth}")
        os.mkdir(folder)
        kept = {}
        for number_ in range(300):
            content = dice.randbytes(2000)
            place.write(f"folder{nth}/kept{number_}", content)
            kept[f"kept{number_}"] = hashlib.sha256(content).hexdigest()
        disk = Disk(place, folder, "32:", f"killed{nth}")
        disk.guest("mmd", "::to")
        disk.flush()
        # All files move, so that each is renamed twice.
        guest = subprocess.Popen(["mmove", "-i", f"{disk.file}@@{disk.sector * SECTOR}", "::kept*", "::to"],
                                 env=disk.env, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        for _ in range(dice.randrange(400)):
            os.listdir(folder)
        disk.daemon.kill()
        subprocess.run(["umount", "-l", disk.file], stderr=subprocess.DEVNULL)
        guest.wait()
        left = sorted(content for content in tree(folder).values() if content)
        missing = [name for name, content in kept.items() if content not in left]
        assert not missing, (nth, len(missing), missing[:4])


@proof("what a folder is shown as can't be written to without rw, nor with it where the node is read-only")
def _(place):
    os.mkdir(place.path("folder"))
    place.refused([*IO, "-c", "write 0 512", f"fat:{place.path('folder')}"], "read-only")
    place.refused([*IO, "-r", "-c", "read 0 512", f"fat:rw:{place.path('folder')}"],
                  "Unable to set VVFAT to 'rw' when drive is read-only")


main("folders as disks")
