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

    sources_and_targets(faces);
    ways_of_copying(faces);
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
