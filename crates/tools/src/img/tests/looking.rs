//! Commands that only look: `bench`, `check`, `compare`, `info`, `map`, `measure`.

use super::{image, overlay, shows};
use crate::testing::Faces;

pub fn bench(faces: &Faces) {
    image(faces, "@a", 1);
    let said = faces.ok("img bench -q -f qcow2 -t none -c 40 -s 512 -d 4 -o 1024 -S 4096 -i threads -U @a");
    let first =
        "Sending 40 read requests, 512 bytes each, 4 in parallel (starting at offset 1024, step size 4096)\n";
    assert!(said.starts_with(first) && said.contains("\nRun completed in "), "{said}");
    faces.ok("img create -q @raw 64k");
    let said = faces.ok("img bench -n -t none -w --pattern 7 --flush-interval 8 -c 16 -d 8 -s 4k @raw");
    assert!(
        said.contains("Sending 16 write requests") && said.contains("Sending flush every 8 requests"),
        "{said}"
    );
    // A request never starts behind the last place where a whole one fits.
    assert!(faces.read("raw")[..60 << 10].iter().all(|byte| *byte == 7));
    let asynchronous =
        "img bench -w --no-drain --flush-interval 8 -c 16 -d 8 --object secret,id=s,data=x --image-opts";
    let said = faces.ok(&format!("{asynchronous} driver=raw,file.filename=@raw"));
    assert!(said.contains("Sending asynchronous flush every 8 requests"), "{said}");
    shows(faces, "@raw", 0, "0 60k");

    for (flags, why) in [
        ("--flush-interval 8", "--flush-interval is only available in write tests"),
        ("-w --flush-interval 8 -d 16", "Flush interval can't be smaller than depth"),
        ("-d 5000", "at most 4096 requests"),
        ("--pattern 256", "Invalid pattern byte specified. Must be between 0 and 255."),
        ("-c 0", "Invalid request count specified. Must be between 1 and 2147483647."),
        ("-i frob", "Invalid aio option: frob"),
    ] {
        let said = faces.fails(1, &format!("img bench {flags} @a"));
        assert!(said.contains(why), "{flags}: {said}");
    }
}

pub fn check(faces: &Faces) {
    image(faces, "@a", 1);
    let said = faces.ok("img check -f qcow2 -T none -U @a");
    assert!(said.starts_with("No errors were found on the image.\n2/16 = 12.50% allocated"), "{said}");
    assert_eq!(faces.ok("img check -q @a"), "");
    let said = faces.ok("img check --output=json --object secret,id=s,data=x @a");
    assert!(said.contains("\"check-errors\": 0") && said.contains("\"filename\": \"@a\""), "{said}");

    // A cluster behind the last one is counted and has no reference: the third count of the block is one too many.
    let mut bytes = faces.read("a");
    let table = u64::from_be_bytes(bytes[48..56].try_into().unwrap()) as usize;
    let block = u64::from_be_bytes(bytes[table..table + 8].try_into().unwrap()) as usize;
    let last = bytes.len().div_ceil(65536);
    bytes[block + 2 * last..block + 2 * last + 2].copy_from_slice(&1u16.to_be_bytes());
    bytes.resize((last + 1) << 16, 0);
    std::fs::write(faces.path("a"), &bytes).unwrap();
    assert!(faces.fails(3, "img check @a").contains("1 leaked clusters were found on the image."));
    let said = faces.ok("img check -r leaks --image-opts driver=qcow2,file.filename=@a");
    assert!(said.contains("    1 leaked clusters\n    0 corruptions\n"), "{said}");
    faces.ok("img check @a");

    faces.ok("img create -q @raw 64k");
    assert_eq!(faces.fails(63, "img check -f raw @raw"), "img: This image format does not support checks\n");
    assert!(faces.fails(1, "img check -r some @a").contains("expects 'leaks' or 'all' not 'some'"));
    assert!(faces.fails(1, "img check --output=xml @a").contains("expects 'human' or 'json' not 'xml'"));
    assert!(faces.fails(1, "img check @a @raw").contains("Expecting one image file name"));
}

pub fn compare(faces: &Faces) {
    image(faces, "@a", 1);
    overlay(faces, "@top", "@a", 2);
    faces.ok("img convert -O raw @top @flat");
    assert_eq!(faces.ok("img compare -f qcow2 -F raw -T none -U @top @flat"), "Images are identical.\n");
    assert_eq!(faces.fails(1, "img compare @a @top"), "Content mismatch at offset 65536!\n");
    assert_eq!(faces.fails(1, "img compare -q @a @top"), "");
    let said = faces.ok("img compare -p --object secret,id=s,data=x @top @flat");
    assert_eq!(said, "    (0.00/100%)\r    (100.00/100%)\rImages are identical.\n\n");
    faces.ok("img create -q -f qcow2 @empty 1M");
    faces.ok("img create -q -f raw @zero 1M");
    let said = faces.fails(1, "img compare -s -f qcow2 -F raw @empty @flat");
    assert!(said.contains("mismatch"), "{said}");
    faces.ok("img create -q -f qcow2 @longer 2M");
    assert_eq!(faces.fails(1, "img compare -s @empty @longer"), "Strict mode: Image size mismatch!\n");
    assert_eq!(
        faces.ok("img compare @empty @longer"),
        "Warning: Image size mismatch!\nImages are identical.\n"
    );
    faces.ok("img compare --image-opts driver=qcow2,file.filename=@top driver=raw,file.filename=@flat");

    assert!(faces.fails(2, "img compare @a @nowhere").contains("Could not open '@nowhere'"));
    assert!(faces.fails(2, "img compare -T fast @a @a").contains("Invalid source cache option: fast"));
    assert!(faces.fails(1, "img compare @a").contains("Expecting two image file names"));
    let both = faces.fails(2, "img compare -F raw --image-opts driver=qcow2,file.filename=@a driver=raw");
    assert!(both.contains("--image-opts and --format are mutually exclusive"), "{both}");
}

pub fn info(faces: &Faces) {
    image(faces, "@a", 1);
    overlay(faces, "@top", "@a", 2);
    let said = faces.ok("img info -f qcow2 -U @top");
    let first = "image: @top\nfile format: qcow2\nvirtual size: 1 MiB (1048576 bytes)\n";
    assert!(said.starts_with(first) && said.contains("backing file: @a\n"), "{said}");
    let chain = faces.ok("img info -b --output=json @top");
    assert!(chain.starts_with("[\n    {\n") && chain.contains("\"filename\": \"@a\""), "{chain}");
    let said = faces.ok("img info --object secret,id=s,data=x --image-opts driver=raw,file.filename=@top");
    assert!(said.contains("file format: raw\n"), "{said}");
    assert_eq!(
        faces.fails(1, "img info @nowhere"),
        "img: Could not open '@nowhere': Could not open '@nowhere': No such file or directory\n"
    );
    assert!(faces.fails(1, "img info --output=xml @a").contains("expects 'human' or 'json' not 'xml'"));
}

pub fn map(faces: &Faces) {
    image(faces, "@a", 1);
    overlay(faces, "@top", "@a", 2);
    let said = faces.ok("img map -f qcow2 -U @top");
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines[0], "Offset          Length          Mapped to       File");
    assert!(lines[1].starts_with("0               0x10000") && lines[1].ends_with("@a"), "{said}");
    assert!(lines[2].starts_with("0x10000         0x10000") && lines[2].ends_with("@top"), "{said}");
    let said = faces.ok("img map --output=json -s 64k -l 128k --object secret,id=s,data=x @top");
    let second = "[{ \"start\": 65536, \"length\": 65536, \"depth\": 0, \"present\": true, \"zero\": false, \"data\": true,";
    assert!(said.starts_with(second) && said.contains("{ \"start\": 131072, \"length\": 65536,"), "{said}");
    faces.ok("img map --image-opts driver=qcow2,file.filename=@top");
    assert!(faces.fails(1, "img map -s -1 @top").contains("Invalid start offset specified."));
    assert!(faces.fails(1, "img map -l x @top").contains("Invalid max length specified: 'x'."));
}

pub fn measure(faces: &Faces) {
    image(faces, "@a", 1);
    assert_eq!(
        faces.ok("img measure -O qcow2 -s 1G"),
        "required size: 393216\nfully allocated size: 1074135040\n"
    );
    let said = faces.ok("img measure -O qcow2 -o cluster_size=4k --output=json -f qcow2 -U @a");
    assert!(said.contains("\"bitmaps\": 0") && said.contains("\"required\": "), "{said}");
    faces.ok("img measure --object secret,id=s,data=x --image-opts driver=qcow2,file.filename=@a");
    for (line, why) in [
        ("-l snap @a", "Failed to load snapshot: Can't find snapshot"),
        ("-l snap -s 1M", "-l can only be used with a filename"),
        ("-s 1M @a", "--size N cannot be used together with a filename."),
        ("", "Either --size N or one filename must be specified."),
        ("@a @a", "At most one filename argument is allowed."),
        ("-O nbd -s 1M", "support"),
        ("-s 1e3", "Invalid image size specified: '1e3'."),
    ] {
        let said = faces.fails(1, &format!("img measure {line}"));
        assert!(said.contains(why), "{line}: {said}");
    }
}
