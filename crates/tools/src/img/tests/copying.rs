//! Commands that copy: `convert`, `dd`.

use super::{image, overlay, shows};
use crate::testing::Faces;

pub fn convert(faces: &Faces) {
    image(faces, "@a", 1);
    overlay(faces, "@top", "@a", 2);
    let said = faces.ok("img convert -p -f qcow2 -O raw -T none -t writeback @top @flat");
    assert!(said.starts_with("    (0.00/100%)\r"), "{said}");
    assert!(said.ends_with("    (100.00/100%)\r    (100.00/100%)\r\n"), "{said}");
    let flat = faces.read("flat");
    assert_eq!(flat.len(), 1 << 20);
    assert!(
        flat[..64 << 10].iter().all(|byte| *byte == 1) && flat[64 << 10..128 << 10].iter().all(|b| *b == 2)
    );

    super::looking::untrusted(faces, "convert -O raw", "@a @untrusted");
    assert_eq!(faces.read("untrusted").len(), 1 << 20);
    sources_and_targets(faces);
    ways_of_copying(faces);
    proofs(faces);
    journals(faces);
    refusals(faces);
}

fn sources_and_targets(faces: &Faces) {
    faces.ok(
        "img convert -q -O qcow2 -o cluster_size=4k --source-image-opts driver=qcow2,file.filename=@top @b",
    );
    assert!(faces.ok("img info @b").contains("cluster_size: 4096\n"));
    shows(faces, "@b", 2, "64k 64k");
    faces.ok("img convert -O qcow2 -B @a -F qcow2 --object secret,id=s,data=x @top @over");
    assert!(faces.ok("img info @over").contains("backing file: @a\n"));
    let map = faces.ok("img map --output=json @over");
    assert!(
        map.contains("\"depth\": 1, \"present\": true"),
        "what the backing file shows is not copied: {map}"
    );
    faces.ok("img convert -U -O raw @a @top @both");
    assert_eq!(faces.read("both").len(), 2 << 20, "sources one after the other");

    faces.ok("img create -q -f qcow2 @target 1M");
    faces.ok("img convert -n --target-is-zero -O qcow2 @top @target");
    shows(faces, "@target", 1, "0 64k");
    faces.ok("img convert -n --target-image-opts @a driver=qcow2,file.filename=@target");
    shows(faces, "@target", 1, "64k 64k");
    assert!(faces.ok("img convert -O qcow2 -o help").contains("Supported qcow2 options:"));
}

fn ways_of_copying(faces: &Faces) {
    faces.ok("img convert -S 0 -O qcow2 @a @full");
    assert!(!faces.ok("img map --output=json @full").contains("\"zero\": true"), "-S 0 leaves no hole");
    faces.ok("img convert -S 64k -m 3 -W -r 100M --salvage -O qcow2 @top @c");
    assert_eq!(faces.ok("img compare @top @c"), "Images are identical.\n");
    for options in
        ["", "-S 0", "-m 4 -W", "-o compression_type=zstd", "-o cluster_size=2M", "-o cluster_size=512"]
    {
        faces.ok(&format!("img convert -c {options} -O qcow2 @top @z"));
        assert_eq!(faces.ok("img compare @top @z"), "Images are identical.\n", "{options}");
        assert!(faces.ok("img map --output=json @z").contains("\"compressed\": true"), "{options}");
        faces.ok("img check @z");
    }
    faces.ok("img convert -C -O qcow2 @top @d");
    assert_eq!(faces.ok("img compare @top @d"), "Images are identical.\n");
}

/// With `--verify` each kind of target is found to be what it should be, and one that loses what is written is not.
fn proofs(faces: &Faces) {
    faces.ok("img create -q -f qcow2 @large 3M");
    faces.ok("img snapshot -c before @top");
    for line in [
        "-O raw @top @v",
        "-p -O qcow2 @top @v",
        "-c -O qcow2 @top @v",
        "-O qcow2 -o preallocation=falloc,cluster_size=512 @top @v",
        "-O qcow2 -o size=5M @top @v",
        "-O vmdk -o subformat=streamOptimized @top @v",
        "-O vdi -S 0 @top @v",
        "-W -m 16 -O vhdx @top @a @v",
        "-c -O qcow2 -o cluster_size=2M @top @a @top @v",
        "-O qcow2 -B @a -F qcow2 @top @v",
        "-O qcow2 -B @top -F qcow2 @a @v",
        "-l before -O raw @top @v",
        "--salvage -O raw @top @v",
        "-n -O qcow2 @top @large",
        "-n -t none -O qcow2 @a @top @large",
        "-O luks --object secret,id=s,data=x -o key-secret=s,iter-time=1 @top @v",
        "-O qcow2 --object secret,id=s,data=x -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=1 @top @v",
    ] {
        faces.ok(&format!("img convert --verify {line}"));
    }
    // It takes all writes, and shows zeroes.
    let loses = "img convert --verify -n --target-image-opts @a driver=null-co,size=1M,read-zeroes=on";
    let said = faces.fails(1, loses);
    assert!(said.contains("differs from what was copied to it, from byte 0 on"), "{said}");
    let said = faces.fails(1, "img convert --verify -t unsafe @a @never");
    assert!(said.contains("not -t unsafe"), "{said}");
}

/// A conversion that has ended leaves no journal; one that failed leaves it, and says what to do.
fn journals(faces: &Faces) {
    faces.ok("img convert --journal @notes --verify -O qcow2 @top @j");
    assert!(!faces.path("notes").exists());
    assert_eq!(faces.ok("img compare @top @j"), "Images are identical.\n");
    let loses = "img convert --journal @notes --verify -n --target-image-opts @a driver=null-co,size=1M,read-zeroes=on";
    let said = faces.fails(1, loses);
    assert!(said.contains("what is done is noted in '@notes': give the same command again"), "{said}");
    assert!(faces.path("notes").exists());
    let said = faces.fails(1, loses);
    // Nothing is believed of what the proof has not found.
    assert!(!said.contains("does not hold any more"), "{said}");
    assert!(said.contains("the conversion goes on: 0 bytes of 1048576 were copied before"), "{said}");
    // Neither the target nor a source is written over.
    let said = faces.fails(1, "img convert --journal @itself -O qcow2 @top @itself");
    assert!(said.contains("can't be the journal: '@itself' is one of the images"), "{said}");
    std::fs::copy(faces.path("a"), faces.path("notes2.new")).unwrap();
    let said = faces.fails(1, "img convert --journal @notes2 -f qcow2 -O qcow2 @notes2.new @k");
    assert!(said.contains("'@notes2.new' is one of the images"), "{said}");
    faces.ok("img check -q -f qcow2 @notes2.new");
    let said = faces.fails(1, "img convert --journal @notes -O raw @a @never");
    assert!(
        said.contains("it is of another command: its target was") && said.contains("(delete it"),
        "{said}"
    );
    std::fs::remove_file(faces.path("notes")).unwrap();
    let stream = "img convert --journal @notes -O vmdk -o subformat=streamOptimized @a @stream";
    assert!(faces.fails(1, stream).contains("is written as one stream"));
    assert!(!faces.path("stream").exists(), "it is refused before it is made");
    for (journal, why) in [
        ("@a", "it is no journal"),
        ("@", "it is a directory"),
        ("/dev/null", "it is no regular file"),
        ("@none/notes", "No such file or directory"),
    ] {
        let said = faces.fails(1, &format!("img convert --journal {journal} -O raw @top @never"));
        assert!(said.contains(why), "{journal}: {said}");
    }
}

fn refusals(faces: &Faces) {
    for (flags, why) in [
        ("-l snap", "Failed to load snapshot: Can't find snapshot"),
        ("--skip-broken-bitmaps", "Use of --skip-broken-bitmaps requires --bitmaps"),
        ("-C -S 4k", "Cannot enable copy offloading when -S is used"),
        ("-c", "Compression not supported for this file format"),
        ("-c -O qcow2 -o preallocation=full", "Compression and preallocation not supported at the same time"),
        (
            "-c -O qcow2 -o encryption=on,preallocation=full",
            "Compression and encryption not supported at the same time",
        ),
        ("-C -c", "Cannot enable copy offloading when -c is used"),
        ("-C --salvage", "Cannot use copy offloading in salvaging mode"),
        ("--target-is-zero", "--target-is-zero requires use of -n flag"),
        ("--target-image-opts", "--target-image-opts requires use of -n flag"),
        ("-n --target-image-opts -O raw", "--target-image-opts and -O are mutually exclusive"),
        ("-n -o size=1M", "-o has no effect when skipping image creation"),
        ("-m 17", "Invalid number of coroutines specified. Must be between 1 and 16."),
        ("-S 100", "Invalid buffer size for sparse output specified."),
        ("-B @a", "Backing file not supported for file format 'raw'"),
        ("-O qcow2 -B @a", "Use of backing file requires explicit backing format"),
        ("-O qcow2 -F raw", "Backing format cannot be used without backing file"),
        ("-t fast", "Invalid cache option: fast"),
        ("-T fast", "Invalid source cache option: fast"),
    ] {
        let said = faces.fails(1, &format!("img convert {flags} @a @never"));
        assert!(said.contains(why), "{flags}: {said}");
    }
    assert!(faces.fails(1, "img convert @a").contains("Must specify image file name"));
    assert!(faces.fails(1, "img convert -B @a -F raw @a @a @never").contains("Having a backing file"));
    assert!(!faces.path("never").exists(), "what is refused makes no file");
    assert!(faces.fails(1, "img convert --bitmaps -O raw @a @made").contains("does not support bitmaps"));
}

pub fn dd(faces: &Faces) {
    image(faces, "@a", 1);
    overlay(faces, "@top", "@a", 2);
    faces.ok("img dd -f qcow2 -O raw bs=64k skip=1 count=2 if=@top of=@part");
    let part = faces.read("part");
    assert_eq!(part.len(), 128 << 10);
    assert!(part[..64 << 10].iter().all(|byte| *byte == 2) && part[64 << 10..].iter().all(|byte| *byte == 0));
    faces.ok("img dd -U --object secret,id=s,data=x -O qcow2 --image-opts if=driver=qcow2,file.filename=@top of=@b");
    assert_eq!(faces.ok("img compare -F qcow2 @top @b"), "Images are identical.\n");

    assert!(faces.fails(1, "img dd if=@a").contains("Must specify both input and output files"));
    assert!(faces.fails(1, "img dd if=@a of=@c frob=1").contains("unrecognized operand frob"));
    assert!(faces.fails(1, "img dd if=@a of=@c bs=0").contains("Invalid bs specified."));
    assert!(faces.fails(1, "img dd -O frob if=@a of=@c").contains("Unknown file format 'frob'"));
    assert!(faces.run("img dd skip=1M if=@a of=@c").err.contains("cannot skip to specified offset"));
}
