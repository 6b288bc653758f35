//! Persistent dirty bitmaps: what ours records and stores, the peer reads, and the other way round.
use crate::pair::*;
use std::fs;

/// What the peer reads of the bitmaps of the images in one of the two folders.
fn bits(pair: &Pair, folder: &str, image: &str, names: &[&str]) -> String {
    names.iter().map(|name| bits_by(pair, folder, image, name, "", "")).collect()
}

/// The same of one bitmap, with the server and the client of these folders of programs; empty: the peer's.
fn bits_by(pair: &Pair, folder: &str, image: &str, name: &str, server: &str, client: &str) -> String {
    let folder = pair.root.join(folder);
    let serve =
        format!("{server}qemu-nbd -r -e 9 -f qcow2 -k $PWD/socket -B {name} --fork --pid-file=pid {image}");
    let nbd = "driver=nbd,server.type=unix,server.path=socket";
    let map = format!(
        "{client}qemu-img map --output=json --image-opts {nbd},x-dirty-bitmap=qemu:dirty-bitmap:{name}"
    );
    let end = "p=$(cat pid); kill $p; while kill -0 $p 2>/dev/null; do sleep 0.01; done";
    let output = run(&folder, None, &format!("sh -c '{serve} && {map}; {end}'"));
    format!("{name} {}\n{}", plain(&output.stdout), plain(&output.stderr))
}

/// What both list of the bitmaps of an image, in order.
fn lists(image: &str) -> String {
    format!("sh -c 'qemu-img info --output=json {image} | sed -n \"/bitmaps/,/\\]/p\"'")
}

#[test]
fn every_verb_leaves_the_bitmaps_that_it_leaves_with_the_peer_and_the_peer_reads_them() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("bitmap-verbs");
    for options in ["", "-o cluster_size=512", "-o cluster_size=2M,refcount_bits=1"] {
        for folder in ["ours", "peer"] {
            fs::remove_file(pair.root.join(folder).join("a.qcow2")).ok();
        }
        pair.same(&format!("qemu-img create -q -f qcow2 {options} a.qcow2 10M"));
        for line in [
            "qemu-img bitmap --add a.qcow2 b0",
            "qemu-io -c 'write 3M 1M' a.qcow2",
            "qemu-img bitmap --add -g 512 -f qcow2 a.qcow2 b1",
            "qemu-img bitmap --add --disable a.qcow2 b2",
            "qemu-io -c 'write 4095k 2k' -c 'write -z 9M 64k' -c 'write 10485248 512' a.qcow2",
            "qemu-img bitmap --merge b0 --disable a.qcow2 b2",
            "qemu-img bitmap --clear --enable a.qcow2 b0",
            "qemu-img resize -q a.qcow2 11M",
            "qemu-io -c 'write 10M 1k' a.qcow2",
            "qemu-img bitmap --remove --add -g 1M --merge b1 a.qcow2 b2",
            "qemu-img resize -q --shrink a.qcow2 10486272",
            "qemu-io -c 'discard 1M 128k' a.qcow2",
        ] {
            pair.same(line);
            pair.same(&lists("a.qcow2"));
        }
        let names = ["b0", "b1", "b2"];
        assert_eq!(
            bits(&pair, "ours", "a.qcow2", &names),
            bits(&pair, "peer", "a.qcow2", &names),
            "{options}"
        );
        pair.same("sh -c 'qemu-img check a.qcow2 | head -1'");
        let peers = bits(&pair, "ours", "a.qcow2", &["b1"]);
        for (server, client) in [("../bin/", ""), ("", "../bin/"), ("../bin/", "../bin/")] {
            assert_eq!(bits_by(&pair, "ours", "a.qcow2", "b1", server, client), peers, "{server} {client}");
        }
        // Ours goes on with what the peer has stored, and the other way round.
        let (ours, peer) = (pair.root.join("ours/a.qcow2"), pair.root.join("peer/a.qcow2"));
        let other = pair.root.join("other");
        fs::rename(&ours, &other).unwrap();
        fs::rename(&peer, &ours).unwrap();
        fs::rename(&other, &peer).unwrap();
        pair.same("qemu-io -c 'write 2M 1k' a.qcow2");
        pair.same("qemu-img bitmap --remove a.qcow2 b1");
        assert_eq!(
            bits(&pair, "ours", "a.qcow2", &["b0", "b2"]),
            bits(&pair, "peer", "a.qcow2", &["b0", "b2"])
        );
        for program in ["ours", "peer"] {
            let checked = run(&pair.root.join(program), None, "qemu-img check a.qcow2");
            assert_eq!(checked.status.code(), Some(0), "{options}: {}", plain(&checked.stdout));
        }
        pair.all_same(&["qemu-img bitmap --remove a.qcow2 b0", "qemu-img bitmap --remove a.qcow2 b2"]);
        pair.same(&lists("a.qcow2"));
        pair.same("sh -c 'qemu-img check a.qcow2 | head -1'");
    }
}

#[test]
fn what_can_not_be_done_with_a_bitmap_is_refused_as_by_the_peer() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("bitmap-refused");
    let long = "n".repeat(1023);
    pair.given(&[
        "qemu-img create -q -f raw r.raw 1M",
        "qemu-img create -q -f qcow2 a.qcow2 1M",
        "qemu-img create -q -f qcow2 larger.qcow2 2M",
        "qemu-img create -q -f qcow2 -b a.qcow2 -F qcow2 over.qcow2",
        "qemu-img create -q -f qcow2 -o compat=0.10 old.qcow2 1M",
        "qemu-img bitmap --add a.qcow2 b0",
        "qemu-img bitmap --add larger.qcow2 b0",
        "qemu-img bitmap --add over.qcow2 o",
    ]);
    for line in [
        "--add --merge o -b over.qcow2 -F qcow2 a.qcow2 o",
        "--add --merge b0 -b a.qcow2 -F qcow2 a.qcow2 b1",
        "--add --merge b0 -b a.qcow2 -F qcow2 over.qcow2 b0",
        "a.qcow2",
        "a.qcow2 b0",
        "--add a.qcow2",
        "--add a.qcow2 b0 b1",
        "--add a.qcow2 b0",
        "--add --add a.qcow2 b1",
        "--add a.qcow2 ''",
        "--add -g 100 a.qcow2 b2",
        "--add -g 1000 a.qcow2 b2",
        "--add -g 4G a.qcow2 b2",
        "--clear -g 64k a.qcow2 b0",
        "--clear -b larger.qcow2 a.qcow2 b0",
        "--merge b0 -F qcow2 a.qcow2 b0",
        "--merge b0 a.qcow2 b0",
        "--merge none a.qcow2 b0",
        "--merge b0 -b larger.qcow2 -F qcow2 a.qcow2 b0",
        "--merge b0 -b missing.qcow2 -F qcow2 a.qcow2 b0",
        "--remove a.qcow2 none",
        "--add -f raw r.raw b0",
        "--add old.qcow2 b0",
        "--add missing.qcow2 b0",
        "--add --image-opts -f qcow2 a.qcow2 b3",
        "--add --image-opts driver=qcow2,file.filename=a.qcow2 b3",
        &format!("--add a.qcow2 {long}"),
        &format!("--add a.qcow2 {long}n"),
    ] {
        pair.same(&format!("qemu-img bitmap {line}"));
    }
    pair.same(&lists("a.qcow2"));
    // A program that ends without closing it leaves them in use.
    pair.given(&["sh -c 'ulimit -c 0; qemu-io -c write\\ 0\\ 1k -c abort a.qcow2 2>/dev/null; true'"]);
    for line in [
        "qemu-img bitmap --clear a.qcow2 b0",
        "qemu-img bitmap --merge b0 a.qcow2 b1",
        "qemu-img bitmap --add a.qcow2 b4",
        "qemu-io -c 'write 0 1k' a.qcow2",
        "qemu-img measure -O qcow2 a.qcow2",
        "qemu-img convert --bitmaps -O qcow2 a.qcow2 c.qcow2",
        "qemu-img convert --bitmaps --skip-broken-bitmaps -O qcow2 a.qcow2 c.qcow2",
        "qemu-img bitmap --remove a.qcow2 b0",
    ] {
        pair.same(line);
        pair.same(&lists("a.qcow2"));
    }
    pair.same(&lists("c.qcow2"));
}

#[test]
fn bitmaps_are_measured_and_copied_as_by_the_peer() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("bitmap-copies");
    pair.given(&[
        "qemu-img create -q -f qcow2 base.qcow2 10M",
        "qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 a.qcow2",
        "qemu-img create -q -f qcow2 larger.qcow2 20M",
        "qemu-img create -q -f raw r.raw 10M",
        "qemu-img bitmap --add -g 512 a.qcow2 fine",
        "qemu-io -c 'write 1M 64k' a.qcow2",
        "qemu-img bitmap --add --disable --merge fine a.qcow2 off",
        "qemu-img bitmap --add base.qcow2 below",
    ]);
    pair.all_same(&[
        "qemu-img measure -O qcow2 a.qcow2",
        "qemu-img measure -O qcow2 -o cluster_size=512 --output=json a.qcow2",
        "qemu-img measure -O qcow2 -o compat=0.10 a.qcow2",
        "qemu-img measure -O raw a.qcow2",
        "qemu-img measure -O qcow2 -f raw r.raw",
        "qemu-img convert --bitmaps -O qcow2 a.qcow2 c.qcow2",
        &lists("c.qcow2"),
        "qemu-img convert --bitmaps -O qcow2 -o cluster_size=512 a.qcow2 small.qcow2",
        &lists("small.qcow2"),
        "qemu-img convert --bitmaps -O qcow2 -B base.qcow2 -F qcow2 a.qcow2 over.qcow2",
        &lists("over.qcow2"),
        "qemu-img convert -O qcow2 a.qcow2 without.qcow2",
        &lists("without.qcow2"),
        "qemu-img convert --bitmaps -O raw a.qcow2 c.raw",
        "qemu-img convert --bitmaps -f raw -O qcow2 r.raw c2.qcow2",
        "qemu-img convert --bitmaps -O qcow2 a.qcow2 base.qcow2 c3.qcow2",
        "qemu-img convert --bitmaps -O qcow2 -o compat=0.10 a.qcow2 c4.qcow2",
        "qemu-img convert --bitmaps -n -O qcow2 a.qcow2 larger.qcow2",
        &lists("larger.qcow2"),
        // What is committed is a change of the base, and no loss for the overlay.
        "qemu-img commit -q a.qcow2",
        &lists("a.qcow2"),
        &lists("base.qcow2"),
        "sh -c 'qemu-img check base.qcow2 | head -2'",
    ]);
    let ours_and_peers =
        |image, names: &[_]| ["ours", "peer"].map(|folder| bits(&pair, folder, image, names));
    for (image, names) in
        [("c.qcow2", &["fine", "off"][..]), ("small.qcow2", &["fine"]), ("base.qcow2", &["below"])]
    {
        let [ours, peers] = ours_and_peers(image, names);
        assert_eq!(ours, peers, "{image}");
    }
}

/// Commands of a monitor, one a line, and how it answers each of them: our words of errors are our own.
fn answers(pair: &Pair, commands: &[&str]) {
    let script = commands.join("\n");
    for folder in ["ours", "peer"] {
        fs::write(pair.root.join(folder).join("script"), format!("{script}\n")).unwrap();
    }
    let nodes = "--blockdev file,filename=a.qcow2,node-name=file --blockdev qcow2,file=file,node-name=a \
                 --blockdev null-co,size=1048576,node-name=null";
    let monitor = "--chardev stdio,id=c --monitor chardev=c";
    let plain = "sed \"1d; s/\\\"desc\\\": \\\"[^\\\"]*\\\"//; s/\\\"timestamp.*//\"";
    pair.same(&format!("sh -c 'qemu-storage-daemon {nodes} {monitor} <script | {plain}'"));
}

#[test]
fn a_monitor_answers_commands_about_bitmaps_as_the_peer_does() {
    if !peer_is_here() {
        return;
    }
    let pair = Pair::new("bitmap-monitor");
    pair.given(&[
        "qemu-img create -q -f qcow2 a.qcow2 10M",
        "qemu-io -c 'write 0 1M' a.qcow2",
        "qemu-img bitmap --add a.qcow2 kept",
        "qemu-io -c 'write 1M 3k' a.qcow2",
        "qemu-img bitmap --add -g 512 --disable --merge kept a.qcow2 off",
    ]);
    let digest = |node: &str, name: &str| {
        format!(
            r#"{{"execute":"x-debug-block-dirty-bitmap-sha256","arguments":{{"node":"{node}","name":"{name}"}}}}"#
        )
    };
    let on = |verb: &str, node: &str, name: &str| {
        format!(
            r#"{{"execute":"block-dirty-bitmap-{verb}","arguments":{{"node":"{node}","name":"{name}"}}}}"#
        )
    };
    let add = |rest: &str| format!(r#"{{"execute":"block-dirty-bitmap-add","arguments":{{{rest}}}}}"#);
    let merge = |rest: &str| format!(r#"{{"execute":"block-dirty-bitmap-merge","arguments":{{{rest}}}}}"#);
    let transaction =
        |actions: &str| format!(r#"{{"execute":"transaction","arguments":{{"actions":[{actions}]}}}}"#);
    let action = |verb: &str, name: &str| {
        format!(r#"{{"type":"block-dirty-bitmap-{verb}","data":{{"node":"a","name":"{name}"}}}}"#)
    };
    let commands = [
        r#"{"execute":"qmp_capabilities"}"#.to_owned(),
        digest("a", "kept"),
        digest("a", "off"),
        digest("a", "none"),
        digest("none", "kept"),
        add(r#""node":"a","name":"b""#),
        add(r#""node":"a","name":"b""#),
        add(r#""node":"a","name":"""#),
        add(r#""node":"a","name":"g","granularity":1000"#),
        add(r#""node":"a","name":"p","granularity":2147483648,"persistent":true,"disabled":true"#),
        add(r#""node":"null","name":"b""#),
        add(r#""node":"null","name":"p","persistent":true"#),
        on("enable", "a", "off"),
        on("disable", "a", "kept"),
        on("disable", "a", "none"),
        merge(r#""node":"a","target":"b","bitmaps":["kept",{"node":"a","name":"off"}]"#),
        merge(r#""node":"a","target":"b","bitmaps":["kept",{"node":"null","name":"b"}]"#),
        merge(r#""node":"a","target":"b","bitmaps":["none"]"#),
        digest("a", "b"),
        on("clear", "a", "b"),
        digest("a", "b"),
        transaction(&[action("add", "t"), action("clear", "kept"), action("enable", "kept")].join(",")),
        digest("a", "kept"),
        transaction(
            &[
                action("clear", "off"),
                action("disable", "off"),
                action("add", "u"),
                action("remove", "t"),
                r#"{"type":"abort","data":{}}"#.to_owned(),
            ]
            .join(","),
        ),
        digest("a", "off"),
        digest("a", "t"),
        digest("a", "u"),
        transaction(&[action("remove", "t"), action("remove", "t")].join(",")),
        transaction(&[action("remove", "t"), action("add", "t")].join(",")),
        transaction(&[action("remove", "t"), action("add", "v")].join(",")),
        digest("a", "t"),
        transaction(&[action("add", "t"), action("remove", "v")].join(",")),
        transaction(
            r#"{"type":"block-dirty-bitmap-merge","data":{"node":"a","target":"b","bitmaps":["off"]}}"#,
        ),
        digest("a", "b"),
        on("remove", "a", "kept"),
        on("remove", "a", "none"),
        r#"{"execute":"quit"}"#.to_owned(),
    ];
    answers(&pair, &commands.iter().map(String::as_str).collect::<Vec<_>>());
    pair.same(&lists("a.qcow2"));
    pair.same("sh -c 'qemu-img check a.qcow2 | head -1'");
    // What is told of nodes, but for what else is told of them.
    for folder in ["ours", "peer"] {
        let query = concat!(
            r#"{"execute":"qmp_capabilities"}"#,
            "\n",
            r#"{"execute":"query-named-block-nodes","arguments":{"flat":true}}"#,
            "\n",
            r#"{"execute":"quit"}"#,
            "\n"
        );
        fs::write(pair.root.join(folder).join("query"), query).unwrap();
    }
    pair.same(
        "sh -c 'qemu-storage-daemon --blockdev file,filename=a.qcow2,node-name=file --blockdev qcow2,file=file,node-name=a \
         --chardev stdio,id=c --monitor chardev=c <query | grep -o \"\\\"dirty-bitmaps\\\": \\[[^]]*\\]\" | tr \"{},\" \"\\n\" | sort'",
    );
}
