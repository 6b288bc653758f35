"""Folders of the host shown as FAT disks (docs/vvfat.md), read by programs of other projects.

    CAIRN_TEST_FOLDERS   random folders to try (12)
"""

import hashlib
import os
import random
import shutil
import subprocess

from harness import KIB, MIB, SEED, face, main, number, proof

IMG, IO = face("img"), face("io")
FOLDERS = number("CAIRN_TEST_FOLDERS", 12)
SECTOR = 512
# Options in a file name, and the sector of the file system on the disk.
DISKS = {"": 63, "12:": 63, "32:": 63, "floppy:": 0, "floppy:12:": 0, "floppy:16:": 0}
LETTERS = "abcdefghijkmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .-_~!#$%&'()@^`{}+,;=[]äßçñøλжд漢字"  # mtools show no names beyond the first 65,536 characters of Unicode


def run(*command, env=None):
    """What a program that must succeed tells."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
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


main("folders as disks")
