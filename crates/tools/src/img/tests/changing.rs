//! Commands that make or change images: `create`, `commit`, `rebase`, `resize`, `snapshot`.

use super::{image, overlay, shows, write};
use crate::testing::Faces;

pub fn create(faces: &Faces) {
    assert_eq!(
        faces.ok("img create -f qcow2 @a.qcow2 1M"),
        "Formatting '@a.qcow2', fmt=qcow2 cluster_size=65536 extended_l2=off compression_type=zlib size=1048576 \
         lazy_refcounts=off refcount_bits=16\n"
    );
    assert_eq!(faces.ok("img create -q @plain 3k"), "", "quiet");
    assert_eq!(faces.read("plain").len(), 3072, "raw where no format is given");
    faces.ok("img create -q -f qcow2 -o cluster_size=4k -o compat=0.10 @b.qcow2 1M");
    let info = faces.ok("img info --output=json @b.qcow2");
    assert!(info.contains("\"cluster-size\": 4096") && info.contains("\"compat\": \"0.10\""), "{info}");
    assert!(faces.ok("img create -f qcow2 -o help").contains("cluster_size=<size>"));

    faces.ok("img create -q --object secret,id=s,data=x -f qcow2 -b @a.qcow2 -F qcow2 @over.qcow2");
    let info = faces.ok("img info --output=json @over.qcow2");
    assert!(info.contains("\"virtual-size\": 1048576"), "the size is the backing file's: {info}");
    assert!(info.contains("\"backing-filename-format\": \"qcow2\""), "{info}");
    faces.ok("img create -q -f qcow2 -u -b @nowhere -F raw @over.qcow2 2M");
    assert!(faces.ok("img info @over.qcow2").contains("backing file: @nowhere\n"));

    assert!(
        faces
            .fails(1, "img create -f qcow2 -b @nowhere -F raw @c 1M")
            .contains("Could not open backing image.")
    );
    assert!(faces.fails(1, "img create -f qcow2 -b @a.qcow2 @c").contains("Detected format of qcow2."));
    assert!(faces.fails(1, "img create -f qcow2 @c").contains("Image creation needs a size parameter"));
    assert!(faces.fails(1, "img create -f frob @c 1M").contains("Unknown file format 'frob'"));
    assert!(faces.fails(1, "img create @c 1M more").contains("Unexpected argument: more"));
    assert!(faces.fails(1, "img create @c 1e3").contains("Invalid image size specified: '1e3'."));
    assert!(faces.fails(1, "img create -o size=1M @c 2M").contains("must be specified only once"));
    assert!(faces.fails(1, "img create --object frob,id=x @c 1M").contains("does not accept value 'frob'"));
    assert!(!faces.path("c").exists(), "what is refused makes no file");
}

pub fn commit(faces: &Faces) {
    image(faces, "@base", 1);
    overlay(faces, "@mid", "@base", 2);
    overlay(faces, "@top", "@mid", 3);
    assert_eq!(faces.ok("img commit -f qcow2 -t writethrough @top"), "Image committed.\n");
    shows(faces, "@mid", 3, "64k 64k");
    let emptied = faces.ok("img map --output=json @top");
    assert!(
        !emptied.contains("\"depth\": 0, \"present\": true, \"zero\": false, \"data\": true"),
        "{emptied}"
    );

    write(faces, "@top", 4, "0 64k");
    assert_eq!(faces.ok("img commit -q -d -r 100M @top"), "");
    shows(faces, "@mid", 4, "0 64k");
    assert!(faces.ok("img map @top").contains("@top"), "-d leaves the overlay as it is");

    let said = faces.ok("img commit -p -b @base --object secret,id=s,data=x @top");
    assert!(said.starts_with("    (0.00/100%)\r"), "{said}");
    assert!(said.ends_with("    (100.00/100%)\r    (100.00/100%)\r\nImage committed.\n"), "{said}");
    shows(faces, "@base", 4, "0 64k");
    shows(faces, "@base", 3, "64k 64k");
    faces.ok("img commit -q --image-opts driver=qcow2,file.filename=@top");

    assert!(
        faces.fails(1, "img commit -b @other @top").contains("Did not find '@other' in the backing chain")
    );
    assert!(faces.fails(1, "img commit @base").contains("Image does not have a backing file"));
    assert!(faces.fails(1, "img commit -t fast @top").contains("Invalid cache option: fast"));
    assert!(faces.fails(1, "img commit -r -1 @top").contains("Invalid rate limit specified."));
}

pub fn rebase(faces: &Faces) {
    image(faces, "@base", 1);
    image(faces, "@other", 9);
    overlay(faces, "@top", "@base", 2);
    let said = faces.ok("img rebase -p -f qcow2 -t writethrough -T none -b @other -F qcow2 @top");
    assert!(said.starts_with("    (0.00/100%)\r"), "{said}");
    assert!(said.ends_with("    (100.00/100%)\r    (100.00/100%)\r\n"), "{said}");
    assert!(faces.ok("img info @top").contains("backing file: @other\nbacking file format: qcow2\n"));
    shows(faces, "@top", 1, "0 64k");
    shows(faces, "@top", 2, "64k 64k");

    faces.ok("img rebase -q -u -U -b @moved -F qcow2 @top");
    assert!(faces.ok("img info @top").contains("backing file: @moved\n"), "-u changes the name only");
    faces.ok("img rebase -u -b @other -F qcow2 @top");
    faces.ok("img rebase --object secret,id=s,data=x --image-opts -b '' driver=qcow2,file.filename=@top");
    assert!(!faces.ok("img info @top").contains("backing file"));
    shows(faces, "@top", 1, "0 64k");

    faces.ok("img create -b @base -F qcow2 -f qcow2 @packed");
    faces.ok("img rebase -c -f qcow2 -b '' @packed");
    assert_eq!(faces.ok("img compare @base @packed"), "Images are identical.\n");
    assert!(faces.ok("img map --output=json @packed").contains("\"compressed\": true"));
    // Of a cluster that the image has parts of, the others are stored as they are.
    faces.ok("img create -o extended_l2=on -b @base -F qcow2 -f qcow2 @parts");
    faces.ok("io -c 'write -q -P 5 4k 4k' @parts");
    faces.ok("img convert -O qcow2 @parts @before");
    faces.ok("img rebase -c -f qcow2 -b '' @parts");
    assert_eq!(faces.ok("img compare @before @parts"), "Images are identical.\n");
    assert!(faces.ok("img map --output=json @parts").contains("\"compressed\": true"));
    assert!(
        faces.fails(1, "img rebase @top").contains("Must specify backing file (-b) or use unsafe mode (-u)")
    );
    assert!(faces.fails(1, "img rebase -b @base @top").contains("backing format must be specified"));
    assert!(faces.fails(1, "img rebase -b @base -F frob @top").contains("Invalid format name: 'frob'"));
    assert!(faces.fails(1, "img rebase -T fast -b '' @top").contains("Invalid source cache option: fast"));
}

pub fn resize(faces: &Faces) {
    image(faces, "@a", 1);
    let size = |bytes: u64| {
        let info = faces.ok("img info --output=json @a");
        assert!(info.contains(&format!("\"virtual-size\": {bytes},")), "{info}");
    };
    assert_eq!(faces.ok("img resize -f qcow2 @a 2M"), "Image resized.\n");
    size(2 << 20);
    assert_eq!(faces.ok("img resize -q @a +512k"), "");
    size(5 << 19);
    assert!(
        faces.fails(1, "img resize @a 1M").contains("Use the --shrink option to perform a shrink operation.")
    );
    size(5 << 19);
    faces.ok("img resize --shrink @a 2M");
    faces.ok("img resize --shrink @a -512k");
    size(3 << 19);
    faces.ok("img resize --preallocation=metadata --object secret,id=s,data=x @a +512k");
    size(2 << 20);
    assert!(faces.ok("img map --output=json @a").contains("\"offset\""));
    faces.ok("img resize --image-opts driver=qcow2,file.filename=@a +1M");
    size(3 << 20);
    shows(faces, "@a", 1, "0 128k");

    assert!(
        faces
            .fails(1, "img resize --preallocation=some @a +1M")
            .contains("Invalid preallocation mode 'some'")
    );
    assert!(faces.fails(1, "img resize --preallocation=full @a 1M").contains("only be used for growing"));
    assert!(faces.fails(1, "img resize @a -4M").contains("New image size must be positive"));
    assert!(faces.fails(1, "img resize @a").contains("Expecting image file name and size"));
    assert!(faces.fails(1, "img resize @a 1e3").contains("Parameter 'size' expects a non-negative number"));
    let both = faces.fails(1, "img resize -f raw --image-opts driver=qcow2,file.filename=@a +1M");
    assert!(both.contains("--image-opts and --format are mutually exclusive"), "{both}");
}

pub fn bitmap(faces: &Faces) {
    image(faces, "@a", 1);
    faces.ok("img bitmap --add -g 64k @a one");
    faces.ok("img bitmap --object secret,id=s,data=x -f qcow2 --add --disable @a two");
    write(faces, "@a", 2, "64k 64k");
    let listed = || faces.ok("img info --output=json @a");
    assert!(listed().contains("\"name\": \"one\"") && listed().contains("\"granularity\": 65536"));
    faces.ok("img bitmap --image-opts --merge one driver=qcow2,file.filename=@a two");
    faces.ok("img bitmap --enable --clear @a two");
    faces.ok("img create -q -f qcow2 @b 1M");
    faces.ok("img bitmap --add --merge one -b @a -F qcow2 @b three");
    faces.ok("img convert -q --bitmaps -O qcow2 @b @copy");
    assert!(faces.ok("img info @copy").contains("name: three"));
    faces.ok("img bitmap --remove @a two");
    assert!(listed().contains("\"name\": \"one\"") && !listed().contains("\"name\": \"two\""));
    assert!(faces.fails(1, "img bitmap --remove @a two").contains("two"));
    assert!(faces.fails(1, "img bitmap --remove-all @b three").contains("Expecting filename"));
    assert!(
        faces.fails(1, "img bitmap --remove-all --add @b").contains("Expecting filename and bitmap name")
    );
    faces.ok("img bitmap --remove-all --add @b four");
    let said = faces.ok("img info @b");
    assert!(said.contains("name: four") && !said.contains("name: three"), "{said}");
    faces.ok("img bitmap --remove-all @b");
    assert!(!faces.ok("img info @b").contains("bitmaps"));
    assert!(faces.fails(1, "img bitmap @a one").contains("Need at least one of"));
    faces.ok("img check -q @a");
}

pub fn snapshot(faces: &Faces) {
    image(faces, "@a", 1);
    assert_eq!(faces.ok("img snapshot @a"), "", "none are listed where there are none");
    assert_eq!(faces.ok("img snapshot -q -f qcow2 --object secret,id=s,data=x -c one @a"), "");
    write(faces, "@a", 2, "0 64k");
    faces.ok("img snapshot -c one @a");
    faces.ok("img snapshot --image-opts -c 1 driver=qcow2,file.filename=@a");
    let listed = faces.ok("img snapshot -l -U @a");
    let told: Vec<Vec<_>> = listed.lines().skip(2).map(|line| line.split_whitespace().collect()).collect();
    let names: Vec<_> = told.iter().map(|line| (line[0], line[1], line[2], line[3])).collect();
    assert_eq!(names, [("1", "one", "0", "B"), ("2", "one", "0", "B"), ("3", "1", "0", "B")], "{listed}");

    faces.ok("img snapshot -a 1 @a");
    shows(faces, "@a", 1, "0 128k");
    faces.ok("img snapshot -a 2 @a");
    shows(faces, "@a", 2, "0 64k");
    faces.ok("img convert -l 1 -O qcow2 @a @copy");
    shows(faces, "@copy", 1, "0 128k");
    faces.ok("img convert -l snapshot.id=2,snapshot.name=one -O qcow2 @a @copy");
    shows(faces, "@copy", 2, "0 64k");
    for wrong in ["nope", "snapshot.id=3,snapshot.name=one", "snapshot.name=2"] {
        let said = faces.fails(1, &format!("img convert -l {wrong} @a @other"));
        assert!(said.contains("Failed to load snapshot: Can't find snapshot"), "{wrong}: {said}");
    }
    assert!(
        faces.fails(1, "img convert -l snapshot.x=1 @a @other").contains("Invalid parameter 'snapshot.x'")
    );
    assert!(faces.fails(1, "img convert -l 1 @a @a @other").contains("concatenating multiple snapshot"));

    assert!(
        faces.fails(1, "img snapshot -d 3 @a").contains("Could not delete snapshot '3': snapshot not found")
    );
    assert!(faces.fails(1, "img snapshot -a nope @a").contains("Could not apply snapshot 'nope'"));
    assert!(faces.fails(1, "img snapshot -a 1 -d one @a").contains("Cannot mix '-l', '-a', '-c', '-d'"));
    assert!(
        faces.fails(1, "img snapshot -c x -U @a").contains("force-share=on can only be used with read-only")
    );
    for name in ["one", "one", "1"] {
        faces.ok(&format!("img snapshot -d {name} @a"));
    }
    assert_eq!(faces.ok("img snapshot -l @a"), "");
    assert!(faces.ok("img check @a").starts_with("No errors were found on the image.\n"));

    faces.ok("img create -q -f qcow2 -o refcount_bits=1 @narrow 1M");
    write(faces, "@narrow", 1, "0 64k");
    let said = faces.fails(1, "img snapshot -c x @narrow");
    assert!(said.contains("refcounts of 1 bits"), "{said}");
    assert!(faces.ok("img check @narrow").starts_with("No errors were found on the image.\n"));
    faces.ok("img create -q @raw 64k");
    assert_eq!(faces.ok("img snapshot -f raw -l @raw"), "");
    assert!(faces.fails(1, "img snapshot -f raw -c x @raw").contains("does not support internal snapshots"));
    assert!(faces.fails(1, "img snapshot -f raw -d x @raw").contains("snapshot not found"));
}

pub fn amend(faces: &Faces) {
    let secrets = "--object secret,id=s,data=one --object secret,id=t,data=two";
    faces.ok("img create -q --object secret,id=s,data=one -f luks -o key-secret=s,iter-time=0 @a 1M");
    assert!(faces.ok("img amend -f luks -o help").contains("new-secret=<str>"));
    let open = "--image-opts driver=luks,file.filename=@a,key-secret";
    let said = faces.ok(&format!("img amend -p {secrets} -o state=active,new-secret=t,iter-time=0 {open}=s"));
    assert!(said.contains("(100.00/100%)"), "{said}");
    faces.ok(&format!("img amend -q -t writeback {secrets} -o state=inactive,old-secret=s {open}=t"));
    let compared = |secret| format!("img compare {secrets} {open}={secret} driver=null-co,size=0");
    assert!(faces.fails(2, &compared("s")).contains("passphrase is wrong"));
    let last = format!("img amend {secrets} -o state=inactive,old-secret=t {open}=t");
    assert!(faces.fails(1, &last).contains("the last one"));
    faces.ok(&last.replace("amend", "amend --force"));
    assert!(faces.fails(2, &compared("t")).contains("none of its key slots is active"));

    faces.ok("img create -q -f qcow2 -o compat=0.10 @q 1M");
    assert!(faces.ok("img amend -f qcow2 -o help").contains("refcount_bits=<num>"));
    let said =
        faces.ok("img amend -p -f qcow2 -o compat=1.1,refcount_bits=32 -o lazy_refcounts=on,size=2M @q");
    assert!(said.contains("(100.00/100%)"), "{said}");
    let info = faces.ok("img info @q");
    for line in ["compat: 1.1", "refcount bits: 32", "lazy refcounts: true", "2 MiB"] {
        assert!(info.contains(line), "{info}");
    }
    let refused = faces.fails(1, "img amend -o size=3M,cluster_size=4k @q");
    assert!(refused.contains("only supported for image creation"), "{refused}");
    assert!(faces.fails(1, "img amend -o size=3M,compat=0.10 @q").contains("refcount_bits=16"));
    faces.ok("img amend -q -o compat=0.10,refcount_bits=16 @q");
    assert!(faces.ok("img info @q").contains("compat: 0.10"));
}
