//! `io` and `nbd` beside the programs whose place they take, as `differential.rs` does for `img`.
use crate::pair::*;

#[test]
fn io_commands_print_the_same() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("io");
    pair.given(&["qemu-img create -q -f qcow2 a.qcow2 10M", "qemu-img create -q -f raw a.raw 1M"]);
    for (format, image) in [("qcow2", "a.qcow2"), ("raw", "a.raw")] {
        for command in [
            "read 0 64k",
            "read -P 1 0 64k",
            "write -P 7 4k 4k",
            "read -P 7 4k 4k",
            "read -P 7 -s 2k -l 4k 2k 16k",
            "read -P 7 -s 2k -l 8k 2k 16k",
            "read -P 7 -l 80k 2k 16k",
            "read -v 4090 40",
            "read -q 0 4k",
            "read 0 0",
            "read 20M 4k",
            "write 20M 4k",
            "read",
            "read 0",
            "read x 1",
            "read 0 x",
            "read 0 3G",
            "read -Z 0 1",
            "write -P 256 0 4k",
            "write -P x 0 4k",
            "write -z -P 1 0 4k",
            "write -u 0 4k",
            "write -n 0 4k",
            "write -z 0 1536",
            "write -z -u 0 64k",
            "write -f 1 3",
            "writev 0 1k 2k",
            "readv -P 205 0 1k 2k",
            "readv 0",
            "readv 0 1G 1G 1G",
            "discard 0 64k",
            "discard 0 10G",
            "discard 1 1",
            "discard 0",
            "flush",
            "length",
            "length x",
            "alloc 0 1M",
            "alloc 0",
            "alloc x",
            "alloc 20M 1",
            "map",
            "truncate 2M",
            "length",
            "truncate foo",
            "truncate",
            "aio_write -P 3 0 64k",
            "aio_write 20M 64k",
            "aio_write -z 0 64k 3k",
            "aio_read 20M 4k",
            "aio_flush",
            "close",
            "foo",
            "sleep 1",
            "sleep foo",
            "sleep",
            "quit",
        ] {
            pair.same(&format!("qemu-io -f {format} -c '{command}' {image}"));
        }
        pair.same(&format!("qemu-io -f {format} -r -c 'write 0 4k' {image}"));
        pair.same(&format!("qemu-io -f {format} -r -c 'aio_write 0 4k' -c aio_flush {image}"));
        pair.same(&format!("qemu-io -f {format} -c 'reopen -r' -c 'write 0 4k' {image}"));
        for changed in
            ["-o file.driver=file", "-o file.driver=null-co", "-o file.filename=other", "-r -o read-only=off"]
        {
            pair.same(&format!("qemu-io -f {format} -c 'reopen {changed}' -c 'read 0 4k' {image}"));
        }
        pair.same(&format!("qemu-io -f {format} -c 'reopen -c none -o cache.direct=off' {image}"));
        for cache in ["cache.direct=on", "cache.no-flush=on", "cache.direct=on,cache.no-flush=on"] {
            let write = "-c 'write -P 9 511 3' -c 'reopen -o cache.direct=off' -c 'read -P 9 511 3'";
            pair.same(&format!("qemu-io -f {format} -c 'reopen -o {cache}' {write} {image}"));
        }
    }
    pair.all_same(&[
        "qemu-io -c 'read 0 4k'",
        "qemu-io nowhere -c length",
        "qemu-io -c 'open nowhere'",
        "qemu-io -c 'open -r -o driver=raw a.qcow2' -c length",
        "qemu-io -c 'close' -c 'close' -f raw a.raw",
        "qemu-io --image-opts driver=qcow2,file.filename=a.qcow2 -c length",
        "qemu-io --image-opts -f raw a.raw",
        // A secret for an image that is not encrypted.
        "qemu-io --object secret,id=s,data=x --image-opts driver=qcow2,encrypt.key-secret=s,file.filename=a.qcow2 -c length",
        "qemu-io --image-opts driver=qcow2,encrypt.key-secret=none,file.filename=a.qcow2 -c length",
        "qemu-io --image-opts driver=qcow2,encrypt.format=luks,encrypt.key-secret=none,file.filename=a.qcow2 -c length",
        "qemu-io -t foo a.raw",
        "qemu-io --image-opts driver=raw,file.driver=qcow2,file.file.filename=a.qcow2 -c info",
        "qemu-io -c info -f raw a.raw",
        "qemu-io -c 'open -o driver=raw,file.locking=off file:a.raw' -c length",
        "qemu-io -c 'open -o file.locking=off a.qcow2' -c info",
        "qemu-io -c 'open -o file.foo=off a.qcow2' -c info",
        "qemu-io -c 'open -o file.locking=off json:{\"driver\":\"qcow2\",\"file\":{\"filename\":\"a.qcow2\"}}' -c info",
        // What is given goes before what the name says.
        "qemu-io -c 'open -o driver=qcow2 json:{\"driver\":\"raw\",\"file.filename\":\"a.qcow2\"}' -c info",
        "qemu-img info -f qcow2 'json:{\"driver\":\"raw\",\"file.filename\":\"a.qcow2\"}'",
    ]);
}

#[test]
fn a_corruption_that_is_found_is_reported_once_and_marked() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("corrupt");
    // The second refcount block is where no cluster begins.
    pair.given(&[
        "qemu-img create -q -f qcow2 -o refcount_bits=64,cluster_size=1k a.qcow2 1M",
        "qemu-io -f qcow2 -c 'write 0 124k' -c 'discard 121k 1k' -c 'discard 123k 1k' a.qcow2",
        "qemu-io -f raw -c 'write -P 6 1038 1' a.qcow2",
    ]);
    pair.all_same(&[
        "sh -c 'qemu-io -f qcow2 -c \"write 121k 3k\" a.qcow2 2>&1'",
        "sh -c 'qemu-img info --output=json a.qcow2 | grep corrupt'",
        "sh -c 'qemu-io -f qcow2 -c length a.qcow2; qemu-io -r -f qcow2 -c \"read 0 4k\" a.qcow2'",
    ]);
}

#[test]
fn nbd_refuses_the_same_command_lines() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("nbd");
    pair.given(&["qemu-img create -q -f raw a.raw 1M"]);
    pair.all_same(&[
        "qemu-nbd",
        "qemu-nbd a b",
        "qemu-nbd nowhere",
        "qemu-nbd -p x -f raw a.raw",
        "qemu-nbd -e x a.raw",
        "qemu-nbd -k relative a.raw",
        "qemu-nbd -k /nowhere/s -f raw a.raw",
        "qemu-nbd --cache=foo a.raw",
        "qemu-nbd --cache=none -n a.raw",
        "qemu-nbd --aio=foo a.raw",
        "qemu-nbd --discard=foo a.raw",
        "qemu-nbd --discard=on --discard=on a.raw",
        "qemu-nbd --aio=threads --aio=threads a.raw",
        "qemu-nbd -o x -f raw a.raw",
        "sh -c 'qemu-nbd -o 2097152 -f raw -k $PWD/s a.raw 2>&1 | grep -o cannot.be.greater'",
        "qemu-nbd -f foo a.raw",
        "qemu-nbd --foo",
        "qemu-nbd -L nowhere",
        "qemu-nbd -L -k /nowhere/s",
        "qemu-nbd --image-opts -f raw driver=raw",
        "qemu-nbd --handshake-limit x a.raw",
    ]);
}

#[test]
fn an_offset_serves_what_follows_it() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("offset");
    pair.given(&[
        "qemu-img create -q -f qcow2 a.qcow2 1M",
        "qemu-io -f qcow2 -c 'write -P 7 102400 3k' a.qcow2",
    ]);
    for (options, how, command) in [
        ("-r", "-r", "length"),
        ("-r", "-r", "read -P 7 0 3k"),
        ("", "", "write -P 9 1k 1k"),
        ("-s", "", "write -P 1 0 512"),
        ("", "", "read 900k 64k"),
    ] {
        pair.same(&format!(
            "sh -c 'qemu-nbd -o 0x19000 -f qcow2 -k $PWD/s {options} a.qcow2 & \
             until [ -e s ]; do sleep 0.01; done; \
             qemu-io {how} -f raw -c \"{command}\" \"nbd+unix:///?socket=$PWD/s\"; wait'"
        ));
    }
    pair.same("qemu-io -r -f qcow2 -c 'read -P 9 103424 1k' a.qcow2");
    pair.same("qemu-io -r -f qcow2 -c 'read -P 7 102400 1k' a.qcow2");
}
