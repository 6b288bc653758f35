"""Every command and option of `qemu-io` and `qemu-nbd` with good, bad and boundary values, and every option that the help of
`qemu-img` names, beside QEMU's own programs. What is answered otherwise on purpose stands in tables of its own, with the reason.
"""

import os
import re
import shutil

from beside import Beside
from harness import face, free_port, main, peer, proof

# Commands of qemu-io, each on a qcow2 and on a raw image; the first word stands once.
IO = {
    "read": [
        "", "0", "0 512 512", "-q 0 512", "-C 0 512", "-Cq 0 512", "-v 0 40", "-vq 0 40", "-vC 0 40", "-p 0 512", "-r 0 512",
        "-b 0 512", "-b 0 100", "-b 3 512", "-P 0 0 512", "-P 0x0 0 512", "-P 00 0 512", "-P -1 0 512", "-P 256 0 512",
        "-P 0x100 0 512", "-P 1k 0 512", "-P", "-P 0", "-P 1 -q 0 512", "-P 1 -C 0 512", "-P 1 -v 0 40", "-s 0 0 512",
        "-l 0 0 512", "-P 0 -s 0 0 512", "-P 0 -l 0 0 512", "-P 0 -s 512 0 512", "-P 0 -s 513 0 512", "-P 0 -s -1 0 512",
        "-P 0 -l -1 0 512", "-P 0 -l 513 0 512", "-P 0 -s 1 -l 511 0 512", "-P 0 -s 1 -l 512 0 512", "-P 0 -s x 0 512",
        "-P 0 -l x 0 512", "-P 1 -s 1k -l 1k 0 4k", "-P 1 -P 0 0 512", "-x 0 512", "-qx 0 512", "-z 0 512", "-f 0 512",
        "-u 0 512", "-- 0 512", "-- -1 512", "-1 512", "0 -1", "0 -v 512", "0 512 -v", "0x10 0x10", "010 010", "1k 1k",
        "1.5k 1k", "1.3 1k", "1e3 1", "1K 1K", "1b 1b", "1B 1B", "1s 1", "9223372036854775807 1", "9223372036854775808 1",
        "18446744073709551615 1", "18446744073709551616 1", "8E 1", "7E 1", "0 2147483136", "0 2147483137", "0 2147483647",
        "0 2147483648", "0 4G", "0 0", "10M 0", "1M 0", "1M 1", "10M 1", "1048575 1", "1048575 2", "10485759 2",
        "-b -P 7 0 64k", "-b 0 1M", "-v 0 16",
    ],
    "readv": [
        "0", "0 512", "0 512 512", "0 0", "0 0 0", "-q 0 512", "-C 0 512 1k", "-v 0 20 20", "-r 0 512", "-P 0 0 512 512",
        "-P 1 0 512 512", "-P", "-a 0 512", "-p 0 512", "-b 0 512", "-s 0 0 512", "0 x", "x 512", "-1 512", "0 -1",
        "0 2147483137", "0 1G 1G", "0 512 x", "20M 512", "0 512",
    ],
    "write": [
        "", "0", "0 512 512", "0 512", "-q 0 512", "-C 0 512", "-p 0 512", "-r 0 512", "-f 0 512", "-fq 0 512", "-b 0 512",
        "-b 0 100", "-b 1 512", "-bz 0 512", "-bf 0 512", "-bc 0 64k", "-b -P 7 0 64k", "-n 0 512", "-z 0 512", "-zn 0 64k",
        "-zu 0 64k", "-zun 0 64k", "-zf 0 64k", "-zfu 0 64k", "-zq 0 64k", "-zC 0 64k", "-z -P 1 0 512", "-z -s pat 0 512",
        "-s pat -P 1 0 512", "-u 0 512", "-s pat 0 512", "-s empty 0 512", "-s nowhere 0 512", "-s . 0 512", "-s big 0 64k",
        "-s pat -q 0 64k", "-s", "-P 1 0 512", "-P 0 0 512", "-P 0xff 0 512", "-P 0377 0 512", "-P 256 0 512", "-P -1 0 512",
        "-P x 0 512", "-P 1 -P 2 0 512", "-a 0 512", "-v 0 512", "-x 0 512", "0 0", "-z 0 0", "1M 0", "10M 0", "10M 1", "1M 1",
        "-z 10M 1", "-1 512", "0 -1", "0 2147483136", "0 2147483137", "-z 0 2147483137", "-zn 0 2147483137", "-zn 0 8E",
        "-zn 0 7E", "8E 1", "7E 1", "x 1", "0 x", "1.5k 100", "-z 1 1", "-z 511 2", "-zu 1000 70000",
    ],
    "writev": [
        "", "0", "0 512", "0 512 1k", "-q 0 512", "-C 0 512", "-f 0 512", "-r 0 512", "-P 3 0 512 512", "-P x 0 512",
        "-P 300 0 512", "-z 0 512", "-s pat 0 512", "-p 0 512", "0 x", "x 1", "0 0", "20M 512", "0 1 2 3", "0 1G 1G",
    ],
    "aio_read": [
        "0 512", "", "0", "-q 0 512", "-C 0 512", "-i 0 512", "-v 0 40", "-P 0 0 512", "-P 1 1M 0", "-P 1 4k 512",
        "-P 1000 0 512", "-P", "-x 0 512", "0 x", "x 0", "20M 512", "-q 20M 512", "0 1k 1k", "-p 0 512", "-s 0 0 512", "-1 5",
        "0 3G",
    ],
    "aio_write": [
        "0 512", "", "0", "-q 0 512", "-C 0 512", "-i 0 512", "-f 0 512", "-z 0 512", "-zu 0 64k", "-zf 0 64k", "-zq 0 64k",
        "-u 0 512", "-z -P 3 0 512", "-P 3 0 512", "-P x 0 512", "-n 0 512", "-zn 0 512", "-s pat 0 512", "-c 0 64k",
        "-b 0 64k", "20M 512", "-z 20M 512", "0 512 512", "-z 0 512 512", "0 x", "-z 0 x", "x 0",
    ],
    "aio_flush": [
        "", "x",
    ],
    "flush": [
        "", "x",
    ],
    "discard": [
        "", "0", "0 64k", "-q 0 64k", "-C 0 64k", "-Cq 0 64k", "-x 0 64k", "-P 1 0 64k", "0 0", "0 x", "x 0", "-1 1", "0 -1",
        "1 1", "1000 70000", "0 10M", "0 20M", "20M 1", "0 2147483136", "0 2147483137", "0 3G", "0 64k 64k",
    ],
    "truncate": [
        "", "x", "-1", "0", "1000", "1M", "10M", "-m", "-m off 10M", "-m foo 10M", "-m metadata 11M", "-m falloc 12M",
        "-m full 13M", "-m falloc 12M", "-x 10M", "8E", "7E", "10M", "10M",
    ],
    "length": [
        "", "", "x",
    ],
    "info": [
        "", "x",
    ],
    "alloc": [
        "", "0", "0 0", "0 1", "0 1M", "0 100M", "1k 1k", "1 1", "x", "0 x", "-1", "0 -1", "20M", "10M", "10M 1", "0 1 2",
        "-q 0", "8E", "7E 7E",
    ],
    "map": [
        "", "x",
    ],
    "sleep": [
        "", "0", "1", "x", "-1", "1.5", "1k", "0x1", "1 2",
    ],
    "sigraise": [
        "", "x", "0", "-1", "1 2", "0x0", "1000", "18",
    ],
    "help": [
        "x", "read x", "?",
    ],
    "r": [
        "0 512",
    ],
    "w": [
        "0 512",
    ],
    "f": [
        "",
    ],
    "c": [
        "",
    ],
    "i": [
        "",
    ],
    "l": [
        "",
    ],
    "a": [
        "0",
    ],
    "d": [
        "0 64k",
    ],
    "t": [
        "1M",
    ],
    "tr": [
        "1M",
    ],
    "o": [
        "a.raw",
    ],
    "q": [
        "",
    ],
    "exit": [
        "",
    ],
    "rv": [
        "0 512",
    ],
    "wv": [
        "0 512",
    ],
    "break": [
        "", "x", "x y", "read_aio A", "write_aio A B",
    ],
    "remove_break": [
        "A", "",
    ],
    "resume": [
        "A", "",
    ],
    "wait_break": [
        "",
    ],
    "open": [
        "",
    ],
    "close": [
        "x",
    ],
    "reopen": [
        "", "-r", "-w", "-rw", "-c", "-c none", "-c foo", "-c writeback", "-c writethrough", "-c unsafe", "-c directsync",
        "-x", "x", "-o", "-o x", "-o x=y", "-o lazy-refcounts=on", "-o read-only=on", "-r -o read-only=off",
        "-o cache.direct=on", "-o cache.foo=on", "-c none -o cache.direct=off", "-o driver=raw", "-o node-name=x",
        "-o discard=unmap", "-o detect-zeroes=on", "-o detect-zeroes=foo", "-o size=4k",
    ],
    "zone_report": [
        "", "0", "0 1", "0 0", "x 1", "0 x", "-1 1", "0 1 2",
    ],
    "zone_open": [
        "0 64k", "0", "x 1", "0 x",
    ],
    "zone_close": [
        "0 64k", "",
    ],
    "zone_finish": [
        "0 64k", "",
    ],
    "zone_reset": [
        "0 64k", "",
    ],
    "zone_append": [
        "0 4k", "0 4k 4k", "0", "x 4k", "0 x", "1 4k", "0 1",
    ],
    "zrp": [
        "0 1",
    ],
    "zo": [
        "0 1",
    ],
    "zc": [
        "0 1",
    ],
    "zf": [
        "0 1",
    ],
    "zrs": [
        "0 1",
    ],
    "zap": [
        "0 1", "0 4k",
    ],
}

# Command, exit code, words of ours, why it is not as QEMU's.
IO_ALONE = [
    ("write -q -P 1 0 64k' -c 'write -c -P 9 0 64k' -c 'read -P 9 0 64k", 0, "wrote 65536", "QEMU fails where the cluster has data already"),
    ("aio_read -r 0 512", 0, "read 512/512", "QEMU ends by an assertion"),
    ("aio_write -r 0 512", 0, "wrote 512/512", "QEMU ends by an assertion"),
    ("wait_break A", 1, "Operation not supported", "QEMU waits for ever"),
    ("truncate 1M 2M", 1, "truncate [-m prealloc_mode] off", "QEMU takes no notice of the second size"),
    ("quit now", 1, "bad argument count", "QEMU takes no notice of the word"),
    ("write -s empty 0 512", 1, "empty", ""),
    ("aio_discard 0 64k' -c 'aio_flush", 0, "discarded ", "since QEMU 11.1"),
]

# Further command lines of qemu-io.
IO_LINES = [
    "qemu-io", "qemu-io -c 'read 0 4k'", "qemu-io nowhere -c length", "qemu-io -f foo a.raw",
    "qemu-io -f qcow2 a.raw", "qemu-io -c length -c length -f raw a.raw", "qemu-io --cmd length --format raw a.raw",
    "qemu-io -r -f raw -c 'write 0 1' a.raw", "qemu-io --read-only -f raw -c 'aio_write 0 1' -c aio_flush a.raw",
    "qemu-io -s -f qcow2 -c 'write -P 9 0 4k' -c 'read -P 9 0 4k' a.qcow2", "qemu-io --snapshot -f raw -c 'write -P 9 0 4k' a.raw",
    "qemu-io -f raw -c 'read -P 9 0 4k' a.raw", "qemu-io -n -f raw -c 'read 0 512' a.raw", "qemu-io --nocache -f raw -c 'write 1 1' a.raw",
    "qemu-io -C -f qcow2 -c 'read 0 64k' -c map o.qcow2", "qemu-io -C -r -f qcow2 -c length o.qcow2", "qemu-io -m -f raw -c 'write 0 512' a.raw",
    "qemu-io --misalign -n -f raw -c 'write 0 512' -c 'readv 0 512 512' a.raw", "qemu-io -k -f raw -c length a.raw", "qemu-io -k -n -f raw -c 'read 0 4k' a.raw",
    "qemu-io -i threads -f raw -c 'read 0 4k' a.raw", "qemu-io -i native -n -f raw -c 'read 0 4k' a.raw", "qemu-io -i io_uring -f raw -c 'read 0 4k' a.raw",
    "qemu-io -i foo a.raw", "qemu-io -t none -f raw -c 'read 0 4k' a.raw", "qemu-io -t writethrough -f raw -c 'write 0 4k' a.raw",
    "qemu-io -t foo a.raw", "qemu-io -d unmap -f qcow2 -c 'discard 0 64k' a.qcow2", "qemu-io -d ignore -f raw -c 'discard 0 64k' a.raw",
    "qemu-io -d on -f raw -c 'discard 0 64k' a.raw", "qemu-io -d foo a.raw", "qemu-io -U -r -f raw -c length a.raw", "qemu-io -U -f raw -c length a.raw",
    "qemu-io --image-opts -f raw a.raw", "qemu-io --image-opts -c length driver=qcow2,file.filename=a.qcow2", "qemu-io --image-opts -c length a.raw",
    "qemu-io --object secret,id=s,data=x -f raw -c length a.raw", "qemu-io --object foo,id=s a.raw",
    "qemu-io -c 'open -r a.qcow2' -c length -c close -c 'open -s a.raw' -c length", "qemu-io -c 'open -n -o driver=raw a.raw' -c 'read 0 512'",
    "qemu-io -c 'open -C o.qcow2' -c 'read 0 64k'", "qemu-io -c 'open -U -r a.raw' -c length", "qemu-io -c 'open -k a.raw' -c length", "qemu-io -c 'open -i threads a.raw' -c length",
    "qemu-io -c 'open -t foo a.raw'", "qemu-io -c 'open -d foo a.raw'", "qemu-io -c 'open -i foo a.raw'", "qemu-io -c 'open -x a.raw'", "qemu-io -c 'open a.raw a.raw'",
    "qemu-io -c open", "qemu-io -c 'open -o driver=foo a.raw'", "qemu-io -c 'open -o driver=qcow2,file.filename=a.qcow2' -c length", "qemu-io -c 'open -o'",
    "qemu-io -c 'sigraise 15' -f raw a.raw", "qemu-io -c 'sigraise 9' -f raw a.raw", "qemu-io -c 'sigraise 6' -f raw a.raw", "qemu-io -c 'help x'", "qemu-io -c 'help sleep'",
    "qemu-io -c 'break read_aio A' -c 'aio_read 0 512' -c 'wait_break A' -c 'resume A' -c aio_flush blkdebug::a.raw",
    "qemu-io -c 'break read_aio A' -c 'remove_break A' -c 'remove_break A' -c 'resume A' blkdebug::a.raw", "qemu-io -c 'break foo A' blkdebug::a.raw",
    "sh -c 'printf \"length\\nfoo\\nquit\\nlength\\n\" | qemu-io -f raw a.raw'", "sh -c 'printf \"read 0 1\" | qemu-io -f raw a.raw'", "sh -c 'printf \"\\n\\n \\n\" | qemu-io'",
]
# Misuse, of which QEMU's tells by the whole help.
IO_MISUSED = ["a.raw a.qcow2", "-c", "-f", "--foo", "-Z", "-i", "-t"]


@proof("commands of qemu-io answer as QEMU's to every option and every kind of value", ["peer:qemu-io"], 600)
def _(place):
    beside = Beside(place)
    beside.given("qemu-img create -q -f qcow2 a.qcow2 10M", "qemu-img create -q -f raw a.raw 1M",
                 "qemu-io -f qcow2 -c 'write -P 1 0 64k' a.qcow2", "qemu-img create -q -f qcow2 -b a.qcow2 -F qcow2 o.qcow2",
                 "sh -c 'printf abc >pat; : >empty; seq 1 100000 >big'")
    for format in ("qcow2", "raw"):
        beside.same(*(f"qemu-io -f {format} -c '{word} {args}' a.{format}" for word in IO for args in IO[word]))
    for command, code, words, _ in IO_ALONE:
        beside.ours_alone(f"qemu-io -f qcow2 -c '{command}' a.qcow2", code, words)
    beside.end()


@proof("command lines of qemu-io answer as QEMU's", ["peer:qemu-io"], 600)
def _(place):
    beside = Beside(place)
    beside.given("qemu-img create -q -f qcow2 a.qcow2 10M", "qemu-img create -q -f raw a.raw 1M",
                 "qemu-io -f qcow2 -c 'write -P 1 0 64k' a.qcow2", "qemu-img create -q -f qcow2 -b a.qcow2 -F qcow2 o.qcow2")
    beside.same(*IO_LINES)
    beside.same(*(f"sh -c 'qemu-io {options} >told 2>&1'" for options in IO_MISUSED))
    beside.end()

# What qemu-nbd refuses, as QEMU's does.
NBD = [
    "", "a b", "nowhere", "-p", "-p x -f raw a.raw", "-p 0 -f raw nowhere", "-p -1 -f raw a.raw", "-p 1k -f raw a.raw",
    "-p 0x10 -f raw nowhere", "-b nohost.invalid -f raw a.raw", "-b 1.2.3.4 -p 20111 -f raw a.raw",
    "-b 300.1.1.1 -p 20111 -f raw a.raw", "-b '' -k /x -f raw nowhere", "-b 127.0.0.1 -k /x -f raw nowhere",
    "-p 1 -k /x -f raw nowhere", "-k", "-k '' a.raw", "-k relative a.raw", "-k /nowhere/s -f raw a.raw",
    "-k /0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123 -f raw a.raw",
    "-e", "-e x a.raw", "-e -1 a.raw", "-e 0 nowhere", "-e 4294967296 a.raw", "-e 2147483647 nowhere", "-e 2147483648 nowhere",
    "-e 1k nowhere", "-x", "-x '' nowhere", "-D", "-D '' nowhere", "-o", "-o x -f raw a.raw", "-o -1 -f raw a.raw",
    "-o 1k -f raw nowhere", "-o 0x100000000000000000 -f raw a.raw", "-B", "-B b1 -f qcow2 -k /nowhere/s a.qcow2",
    "-B b1 -f raw -k /nowhere/s a.raw", "-B '' -f qcow2 -k /nowhere/s a.qcow2", "-l", "-l s9 -f qcow2 -k /nowhere/s a.qcow2",
    "-l '' -f qcow2 -k /nowhere/s a.qcow2", "-l snapshot.name=s9 -f qcow2 -k /nowhere/s a.qcow2",
    "-l snapshot.id=9 -f qcow2 -k /nowhere/s a.qcow2", "-l snapshot.id=1,snapshot.name=s9 -f qcow2 -k /nowhere/s a.qcow2",
    "-l snapshot.foo=1 -f qcow2 -k /nowhere/s a.qcow2", "-l snapshot.id=1,foo=2 -f qcow2 -k /nowhere/s a.qcow2",
    "-l s1 -f raw -k /nowhere/s a.raw", "-l s1 -l s2 -f qcow2 nowhere", "--cache", "--cache=foo a.raw", "--cache= a.raw",
    "--cache=none --cache=none a.raw", "--cache=none -n a.raw", "-n -n a.raw", "--aio=foo a.raw", "--aio=native -f raw a.raw",
    "--aio=threads --aio=threads a.raw", "--discard=foo a.raw", "--discard=on --discard=on a.raw", "--discard=off nowhere",
    "--discard=unmap nowhere", "--discard=ignore nowhere", "--detect-zeroes=foo -f raw a.raw", "--detect-zeroes= -f raw a.raw",
    "--detect-zeroes=unmap -f raw a.raw", "--detect-zeroes=unmap --discard=unmap -f raw nowhere",
    "--detect-zeroes=on -f raw nowhere", "-f", "-f foo a.raw", "-f '' a.raw", "-f qcow2 a.raw", "--per -f raw nowhere",
    "--p 1 -f raw nowhere", "--s -f raw nowhere", "-Z", "-L nowhere", "-L", "-L -k /nowhere/s", "-L -b 127.0.0.1 -p 1",
    "-L -k relative", "-L -f raw", "-L -c /dev/nbd0", "-L -d /dev/nbd0", "-L --fork -k /nowhere/s", "-L -o 1 -k /nowhere/s",
    "-L -B b -k /nowhere/s", "-L -A -k /nowhere/s", "-L -l s1 -k /nowhere/s", "-L -n -k /nowhere/s", "-L -r -k /nowhere/s",
    "-L -s -k /nowhere/s", "-L -x foo -k /nowhere/s", "-L -D foo -k /nowhere/s", "-L -e 2 -k /nowhere/s",
    "-L -t -k /nowhere/s", "-L --pid-file=x -k /nowhere/s", "-L --image-opts -k /nowhere/s",
    "-L --discard=unmap -k /nowhere/s", "-L --aio=threads -k /nowhere/s", "-L --cache=none -k /nowhere/s",
    "-L --detect-zeroes=on -k /nowhere/s", "--image-opts -f raw driver=raw", "--image-opts driver=raw", "--image-opts a.raw",
    "--image-opts driver=raw,file.filename=nowhere", "--image-opts ''", "--handshake-limit", "--handshake-limit x a.raw",
    "--handshake-limit -1 a.raw", "--handshake-limit 0 nowhere", "--handshake-limit 4294967296 nowhere",
    "--handshake-limit 4294967295 nowhere", "--pid-file", "--pid-file=/nowhere/p -f raw -k /nowhere/s a.raw",
    "--pid-file=. -f raw -k /nowhere/s a.raw", "--fork --pid-file=/nowhere/p -f raw -k /nowhere/s a.raw", "--fork nowhere",
    "--fork -f qcow2 a.raw", "--fork -k /nowhere/s -f raw a.raw", "--fork -v nowhere", "-v nowhere", "-r nowhere",
    "-s nowhere", "-t nowhere", "-A nowhere", "--allocation-depth nowhere", "-c", "-c /dev/nbd0 nowhere",
    "-c /dev/nbd0 -f raw a.raw", "-c /dev/nbd0", "-c /dev/nbd0 -v -f raw a.raw", "--connect=/dev/nbd0 -f raw a.raw",
    "-c /dev/nbd0 -p 1 -f raw a.raw", "-c /dev/nbd0 -k /nowhere/s -f raw a.raw", "-c /dev/nbd0 -r -f raw a.raw",
    "-c a.raw -f raw a.raw", "--fork -c /dev/nbd0 a.raw --cache=none", "-d", "-d /dev/nbd0", "-d nowhere",
    "--disconnect /dev/nbd0", "--disconnect=/dev/nbd0", "-d /dev/nbd0 -p 1", "-d a b", "-c /dev/nbd0 -d /dev/nbd0", "--object",
    "--object foo a.raw", "--object secret,id=s nowhere", "--object secret,id=s,data=x nowhere", "--tls-creds",
    "--tls-creds=t nowhere", "--tls-creds=t -f raw a.raw", "--tls-authz=t -f raw a.raw", "--tls-hostname=t -f raw a.raw",
    "--object secret,id=t,data=x --tls-creds=t -f raw a.raw", "-L --tls-creds=t", "-L --tls-authz=t", "-L --tls-hostname=t",
    "--selinux-label", "--selinux-label=foo nowhere", "--selinux-label=foo -k /nowhere/s -f raw a.raw", "-T", "-T foo nowhere",
    "-T '' nowhere", "--trace=enable=foo nowhere", "-?", "-Z -h", "-r -r nowhere", "-f raw -f qcow2 nowhere",
    "-k /a -k /b nowhere",
]
NBD_LINES = [
    "sh -c 'qemu-nbd -k $PWD/s -f raw -x $(printf %05000d 0) a.raw'",
    "sh -c 'qemu-nbd -k $PWD/s -f raw -D $(printf %05000d 0) a.raw'",
    "sh -c 'qemu-nbd -k $PWD/s -f raw -x $(printf %04097d 0) a.raw'", "sh -c 'qemu-nbd -o 1048577 -f raw -k $PWD/s a.raw'",
    "sh -c 'qemu-nbd -o 9223372036854775807 -f raw -k $PWD/s a.raw'",
    "sh -c 'qemu-nbd -o 9223372036854775808 -f raw -k $PWD/s a.raw'",
    "sh -c 'qemu-nbd -B $(printf %02000d 0) -f qcow2 -k $PWD/s a.qcow2'",
    "sh -c 'qemu-nbd --help nowhere | wc -l | sed s/.*/n/'", "sh -c 'qemu-nbd --version x | head -1 | cut -c1-16'",
    "sh -c 'LISTEN_PID=$$ LISTEN_FDS=1 exec qemu-nbd -p 1 -f raw a.raw 3</dev/null'",
    "sh -c 'LISTEN_PID=$$ LISTEN_FDS=1 exec qemu-nbd -k /x -f raw a.raw 3</dev/null'",
    "sh -c 'LISTEN_PID=$$ LISTEN_FDS=1 exec qemu-nbd -b h -f raw a.raw 3</dev/null'",
    "sh -c 'LISTEN_PID=$$ LISTEN_FDS=1 exec qemu-nbd -c /dev/nbd0 -f raw a.raw 3</dev/null'",
    "sh -c 'LISTEN_PID=$$ LISTEN_FDS=1 exec qemu-nbd -d /dev/nbd0 3</dev/null'",
    "sh -c 'LISTEN_PID=$$ LISTEN_FDS=1 exec qemu-nbd -L 3</dev/null'",
    "sh -c 'LISTEN_PID=$$ LISTEN_FDS=1 exec qemu-nbd -f raw a.raw 3</dev/null'",
    "sh -c 'LISTEN_PID=$$ LISTEN_FDS=2 exec qemu-nbd -f raw a.raw 3</dev/null 4</dev/null'",
    "sh -c 'LISTEN_PID=1 LISTEN_FDS=1 exec qemu-nbd -k /nowhere/s -f raw a.raw 3</dev/null'",
    "sh -c 'LISTEN_PID=x LISTEN_FDS=1 exec qemu-nbd -k /nowhere/s -f raw a.raw 3</dev/null'",
    "sh -c 'LISTEN_PID=$$ LISTEN_FDS=x exec qemu-nbd -k /nowhere/s -f raw a.raw 3</dev/null'",
    "sh -c 'LISTEN_PID=$$ LISTEN_FDS=0 exec qemu-nbd -k /nowhere/s -f raw a.raw 3</dev/null'",
]

# What follows `qemu-nbd`, exit code, words of ours, why it is not as QEMU's.
NBD_ALONE = [
    ("-p 65536 -f raw a.raw", 1, "Invalid port", "QEMU listens on some other port"),
    ("-p '' -f raw a.raw", 1, "Invalid port", "QEMU listens on some other port"),
    ("-c /dev/nbd0 --fork -f raw a.raw", 1, "kernel devices (-c) are not supported", "QEMU fails behind the caller's back"),
    ("-d a.raw", 1, "kernel devices (-d) are not supported", "QEMU tells that a regular file is disconnected"),
    ("--selinux-label=foo -f raw a.raw", 1, "labels for SELinux are not supported", ""),
]

INFO = "nbdinfo --json URI | grep -v uri; nbdinfo --map URI"
# What an image is served with, and how clients see it. The option -o counts in sectors for QEMU: others are not here.
SERVED = [
    "-f raw a.raw", "-r -f raw a.raw", "-s -f raw a.raw", "-f qcow2 a.qcow2", "-f qcow2 o.qcow2", "-r -f qcow2 o.qcow2", "-s -f qcow2 o.qcow2",
    "-A -f qcow2 o.qcow2", "-A -r -f raw a.raw", "-B b0 -r -f qcow2 a.qcow2", "-B b0 -B b1 -f qcow2 a.qcow2", "-A -B b0 -f qcow2 a.qcow2",
    "-l s1 -f qcow2 a.qcow2", "-l snapshot.id=1 -f qcow2 a.qcow2", "-l snapshot.name=s1 -f qcow2 a.qcow2", "-l 1 -f qcow2 a.qcow2",
    "-o 64k -f raw a.raw", "-o 65536 -f raw a.raw", "-o 65536 -r -f qcow2 a.qcow2", "-o 1048576 -f raw a.raw", "-f raw odd.raw", "a.qcow2", "-s odd.raw", "-r odd.raw",
    "-D desc -f raw a.raw", "-e 0 -f raw a.raw", "-e 2 -f raw a.raw", "-e 2 -r -f raw a.raw", "--cache=none -f raw a.raw", "--cache=writethrough -f raw a.raw",
    "--cache=directsync -f raw a.raw", "--cache=unsafe -f raw a.raw", "-n -f raw a.raw", "--aio=threads -f raw a.raw", "--aio=native -n -f raw a.raw",
    "--aio=io_uring -f raw a.raw", "--discard=unmap -f raw a.raw", "--discard=on -f raw a.raw", "--discard=ignore -f raw a.raw", "--detect-zeroes=on -f raw a.raw",
    "--discard=unmap --detect-zeroes=unmap -f raw a.raw", "--image-opts driver=qcow2,file.filename=a.qcow2",
    "--image-opts driver=raw,file.filename=a.raw,offset=64k,size=64k", "--image-opts driver=qcow2,file.filename=a.qcow2 -r -B b0", "-v -f raw a.raw",
    "--persistent --shared=0 --format raw a.raw", "--handshake-limit 0 -f raw a.raw", "--export-name= --description=text --bitmap=b0 --allocation-depth -r -f qcow2 a.qcow2",
]
DEPTHS = "nbdinfo --map=qemu:allocation-depth URI"
# Options, the work of clients, and the name that they ask for.
WORK = [
    ("-f raw a.raw", "qemu-io -f raw -c length URI; sleep 0.2", ""),
    ("-t -f raw a.raw", "qemu-io -f raw -c length URI; sleep 0.2; qemu-io -f raw -c length URI", ""),
    ("-t -x name -D about -A -B b0 -f qcow2 a.qcow2", "qemu-nbd -L -k $PWD/s; nbdinfo --map=qemu:dirty-bitmap:b0 URI", "name"),
    ("-t -A -f qcow2 o.qcow2", DEPTHS, ""),
    ("-t -A -f qcow2 a.qcow2", DEPTHS, ""),
    ("-t -A -f raw a.raw", DEPTHS, ""),
    ("-t -A -f qcow2 longer.qcow2", DEPTHS, ""),
    ("-t -A -s -f qcow2 o.qcow2", "nbdinfo --map=qemu:allocation-depth URI", ""),
    ("-t -A --image-opts driver=qcow2,file.filename=o.qcow2,backing.driver=qcow2,backing.file.filename=a.qcow2", DEPTHS, ""),
    ("-t --discard=unmap --detect-zeroes=off -f qcow2 a.qcow2", "qemu-io -f raw -c \"write -z 0 64k\" -c \"write -P 0 64k 64k\" URI >out; qemu-img map -U --output=json a.qcow2", ""),
    ("-t --discard=unmap --detect-zeroes=on -f qcow2 a.qcow2", "qemu-io -f raw -c \"write -P 0 64k 64k\" URI >out; qemu-img map -U --output=json a.qcow2", ""),
    ("-t --discard=unmap --detect-zeroes=unmap -f qcow2 a.qcow2", "qemu-io -f raw -c \"write -P 0 512k 64k\" URI >out; qemu-img map -U --output=json a.qcow2", ""),
    ("-t --discard=ignore -f qcow2 a.qcow2", "qemu-io -f raw -c \"discard 512k 64k\" URI >out; qemu-img map -U --output=json a.qcow2", ""),
    ("-t -s -f qcow2 a.qcow2", "qemu-io -f raw -c \"write -P 9 0 1M\" -c \"read -P 9 0 1M\" URI >out; qemu-img map -U --output=json a.qcow2", ""),
]
LIST_ALONE = ["-f raw", "-x foo", "-D foo", "-o 1", "-B b", "-A", "-l s", "-n", "--cache=none", "--aio=threads", "--discard=unmap", "--fork"]
LIST_WITH = ["", "--detect-zeroes=on", "-r", "-s", "-e 2", "-t", "--pid-file=p", "--image-opts", "-v", "--handshake-limit 3", "--object secret,id=s,data=x"]


def served(options, work, name=""):
    """A shell line: a server on the socket `s`, what clients do, and how the server ended."""
    work = work.replace("URI", f'"nbd+unix:///{name}?socket=s"')
    return (f"sh -c 'rm -f s; qemu-nbd -k $PWD/s {options} >told 2>&1 & P=$!; "
            f"for i in $(seq 1000); do [ -e s ] && break; kill -0 $P || break; sleep 0.01; done; "
            f"{work}; kill $P 2>/dev/null; wait $P; echo ended $?; [ -e s ] && echo left'")


def background(options, work):
    """A shell line: `qemu-nbd --fork`, with its process in the file `p`."""
    gone = "while kill -0 $(cat p) 2>/dev/null; do sleep 0.01; done"
    return f"sh -c 'rm -f s p; qemu-nbd --fork {options} --pid-file=$PWD/p -f raw a.raw; echo $?; {work}; {gone}; ls s p 2>/dev/null'"


def activated(sockets, options, work):
    """A shell line: sockets of a service manager, which starts the server for the first client."""
    return (f"sh -c 'rm -f s s2; systemd-socket-activate {sockets} qemu-nbd {options} -f raw a.raw 2>err & P=$!; "
            f"for i in $(seq 1000); do [ -S s ] && break; sleep 0.01; done; sleep 0.1; {work}; kill $P 2>/dev/null; wait $P; echo $?'")


def nbd_world(place):
    beside = Beside(place)
    beside.given(
        "qemu-img create -q -f raw a.raw 1M", "qemu-io -f raw -c 'write -P 1 64k 64k' a.raw",
        "qemu-img create -q -f qcow2 a.qcow2 1M", "qemu-io -f qcow2 -c 'write -P 1 64k 64k' a.qcow2",
        "qemu-img bitmap --add a.qcow2 b0", "qemu-img bitmap --add a.qcow2 b1", "qemu-io -f qcow2 -c 'write -P 1 512k 64k' a.qcow2",
        "qemu-img snapshot -c s1 a.qcow2", "qemu-io -f qcow2 -c 'write -P 2 64k 64k' a.qcow2",
        "qemu-img create -q -f qcow2 -b a.qcow2 -F qcow2 o.qcow2", "qemu-io -f qcow2 -c 'write -P 3 256k 64k' -c 'write -z 320k 64k' o.qcow2",
        "qemu-img create -q -f qcow2 -b o.qcow2 -F qcow2 longer.qcow2 2M", "qemu-io -f qcow2 -c 'write -P 4 1536k 64k' longer.qcow2",
        "qemu-img create -q -f raw odd.raw 1M", "truncate -s 1000001 odd.raw")
    return beside


@proof("qemu-nbd refuses what QEMU's refuses", ["peer:qemu-nbd"], 600)
def _(place):
    beside = nbd_world(place)
    beside.same(*(f"qemu-nbd {line}" for line in NBD), *NBD_LINES)
    for line, code, words, _ in NBD_ALONE:
        beside.ours_alone(f"qemu-nbd {line}", code, words)
    beside.end()


@proof("clients see of an image with every option of qemu-nbd what they see with QEMU's", ["peer:qemu-nbd", "nbdinfo"], 600)
def _(place):
    beside = nbd_world(place)
    beside.same(*(served(f"-t {options}", INFO) for options in SERVED))
    beside.same(*(served(*row) for row in WORK))
    beside.same(*(served("-t -f raw a.raw", f"qemu-nbd -L -k $PWD/s {options}") for options in LIST_WITH))
    for options in LIST_ALONE:
        beside.same(served("-t -f raw a.raw", f"qemu-nbd -L -k $PWD/s {options}; echo $?"))
    beside.end()


@proof("qemu-nbd goes to the background, and ends, as QEMU's", ["peer:qemu-nbd", "nbdinfo"])
def _(place):
    beside = nbd_world(place)
    size = 'nbdinfo --size "nbd+unix:///?socket=s"'
    beside.same(background("-k $PWD/s", f"wc -l <p; stat -c %a p; {size}"))
    beside.same(*(background("-t -k $PWD/s", f"{size}; kill -{signal} $(cat p)") for signal in ("TERM", "INT", "HUP")))
    port = free_port()
    for side in ("ours", "peer"):
        code, out, err = beside._run(side, background(f"-t -b 127.0.0.1 -p {port}", f"nbdinfo --size nbd://127.0.0.1:{port}; kill $(cat p)"))
        assert out.split()[:2] == ["0", "1048576"], (side, code, out, err)
    # A file that is no socket is not removed, and a socket that somebody listens on is not taken over: QEMU does both.
    beside.ours_alone("sh -c ': >s; qemu-nbd -k $PWD/s -f raw a.raw; E=$?; rm s; exit $E'", 1, "exists and is no socket")
    beside.ours_alone("sh -c 'qemu-nbd --fork -t --pid-file=$PWD/p -k $PWD/s -f raw a.raw; qemu-nbd -k $PWD/s -f raw odd.raw; E=$?; kill $(cat p); exit $E'",
                      1, "listens on")
    beside.end()


@proof("qemu-nbd serves on sockets that a service manager passes, as QEMU's", ["peer:qemu-nbd", "nbdinfo", "systemd-socket-activate"])
def _(place):
    beside = nbd_world(place)
    size = 'nbdinfo --size "nbd+unix:///?socket=s"'
    for sockets in ("-l $PWD/s", "--fdname=nbd -l $PWD/s"):
        beside.same(activated(sockets, "-t", size), activated(sockets, "", f"{size}; wait $P"))
    for refused in ("-k /x", "-p 5", "-b h", "-c /dev/nbd0", "-d /dev/nbd0", "-L"):
        beside.same(activated("-l $PWD/s", refused, f"timeout 10 {size} >out 2>&1; wait $P"))
    # Several sockets are all served: QEMU ends.
    line = activated("-l $PWD/s -l $PWD/s2", "-t", size + '; nbdinfo --size "nbd+unix:///?socket=s2"')
    beside.ours_alone(line, 0, "1048576\n1048576\n")
    beside.end()


# Spellings since QEMU 11, and what they stand for; each in a folder of its own, whose images must be the same then.
NEWER = [
    ("create -q -f qcow2 -b a.qcow2 -B qcow2 new", "create -q -f qcow2 -b a.qcow2 -F qcow2 new"),
    ("rebase -u -b a.qcow2 -B qcow2 o.qcow2", "rebase -u -b a.qcow2 -F qcow2 o.qcow2"),
    ("convert -O qcow2 -b a.qcow2 -F qcow2 o.qcow2 new", "convert -O qcow2 -B a.qcow2 -F qcow2 o.qcow2 new"),
    ("convert --snapshot s1 -O raw a.qcow2 new", "convert -l s1 -O raw a.qcow2 new"),
    ("convert --target-format qcow2 --target-format-options cluster_size=4k a.raw new", "convert -O qcow2 -o cluster_size=4k a.raw new"),
    ("convert --rate-limit 1G -O raw a.qcow2 new", "convert -r 1G -O raw a.qcow2 new"),
    ("commit --rate-limit 1G o.qcow2", "commit -r 1G o.qcow2"),
    ("measure -O qcow2 --target-format-options cluster_size=4k -s 1G", "measure -O qcow2 -o cluster_size=4k --size 1G"),
    ("info -t none a.qcow2", "info a.qcow2"), ("info --cache=none a.qcow2", "info a.qcow2"),
    ("bitmap --remove-all a.qcow2", "bitmap --remove a.qcow2 b0"),
]


@proof("qemu-img takes every option that the help of QEMU's names", ["peer:qemu-img"])
def _(place):
    img, tried = [Beside(place).paths["ours"] + "/qemu-img"], 0
    commands = re.findall(r"(?m)^  (\w+) - ", place.ok([peer("qemu-img"), "--help"]).out)
    assert len(commands) > 10, commands
    for command in commands:
        told = place.ok([peer("qemu-img"), command, "--help"]).out
        for option in sorted(set(re.findall(r"(?m)^  (?:[^\n]*, )?(--?[A-Za-z][\w-]*)", told) + re.findall(r"(?m)^  (-\w)[, ]", told))):
            if (command, option) in NOT_TAKEN:
                continue
            run = place.run([*img, command, option])
            assert not re.search("unrecognized|invalid option", run.err), f"{command} {option}: {run}"
            tried += 1
    place.tell(f"{tried} options")


# `info --limits` of QEMU 10.2 is not there yet.
NOT_TAKEN = {("info", "--limits")}


@proof("the spellings of newer versions of QEMU do what the older ones do", ["peer:qemu-img"])
def _(place):
    for newer, older in NEWER:
        shown = []
        for line in (newer, older):
            world = place.path("world")
            os.mkdir(world)
            for made in ("create -q -f qcow2 a.qcow2 1M", "create -q -f raw a.raw 1M", "snapshot -c s1 a.qcow2", "bitmap --add a.qcow2 b0",
                         "create -q -f qcow2 -b a.qcow2 -F qcow2 o.qcow2", line):
                run = place.run(["sh", "-c", f"cd {world} && {' '.join(face('img'))} {made}"])
                assert run.code == 0, f"{line}: {run}"
            names = sorted(os.listdir(world))
            told = [place.ok(["sh", "-c", f"cd {world} && {' '.join(face('img'))} info {name}"]).out for name in names]
            shown.append((re.sub(r"20\d\d-\S+ \S+", "", "".join([run.out, *told])), names))
            shutil.rmtree(world)
        assert shown[0] == shown[1], f"{newer}: {shown}"


@proof("protocols whose projects have ended are refused with the reason, by every spelling, and are in no list of what there is")
def _(place):
    for name, urls in (("Sheepdog", ("sheepdog:disk", "sheepdog://host/disk", "sheepdog+unix:///disk?socket=s", "sheepdog+tcp://h/d")),
                       ("Archipelago", ("archipelago:disk", "archipelago:disk/mport=1"))):
        described = f"driver={name.lower()},volume=disk,vdi=disk"
        for words in (*(["info", url] for url in urls), ["info", "--image-opts", described], ["convert", urls[0], "x.raw"],
                      ["info", 'json:{"driver": "raw", "file": {"driver": "%s"}}' % name.lower()],
                      ["create", "-f", "qcow2", "-b", urls[0], "-F", "raw", "x.qcow2"]):
            place.refused([*face("img"), *words], f"{name} is not supported", "its project has ended")
    listed = place.ok([*face("img"), "--help"]).out.rsplit("Formats:", 1)[1].split()
    assert "file" in listed and not {"sheepdog", "archipelago"} & set(listed), listed


main("options")
