//! Commands that only look: `bench`, `check`, `compare`, `info`, `inspect`, `map`, `measure`.

use super::{image, overlay, shows};
use crate::testing::Faces;
use api::{ImageTreeEntry, json};

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

/// Gives a command all flags of `--untrusted`. How it is confined is tried by the program's own tests.
pub fn untrusted(faces: &Faces, command: &str, operands: &str) {
    let limits = "--limit-time 60 --limit-memory 256M --limit-output 64M";
    faces.ok(&format!("img {command} --untrusted {limits} {operands}"));
    faces.ok(&format!("img {command} --require-confinement {operands}"));
    for (flags, why) in [
        ("--limit-time 5", "are those of --untrusted"),
        ("--untrusted --limit-time 0", "Invalid time limit specified. Must be between 1 and"),
        ("--untrusted --limit-memory 1M", "Invalid memory limit specified."),
        ("--untrusted --limit-output x", "Invalid output limit specified: 'x'."),
        ("--untrusted --image-opts", "--untrusted takes the name of a file"),
    ] {
        let said = faces.fails(1, &format!("img {command} {flags} {operands}"));
        assert!(said.contains(why), "{command} {flags}: {said}");
    }
}

pub fn check(faces: &Faces) {
    image(faces, "@a", 1);
    untrusted(faces, "check", "@a");
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
    assert!(said.starts_with("    (0.00/100%)\r"), "{said}");
    assert!(said.ends_with("    (100.00/100%)\rImages are identical.\n\n"), "{said}");
    assert_eq!(said.matches("(100.00/100%)").count(), 1, "{said}");
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
    let said = faces.ok("img info -f qcow2 -t none -U @top");
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
    let mut disk = vec![0; 1 << 20];
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk[446..462].copy_from_slice(&[0x80, 0, 0, 0, 0x83, 0, 0, 0, 8, 0, 0, 0, 0, 4, 0, 0]);
    disk[4096 + 0x438..4096 + 0x43a].copy_from_slice(&[0x53, 0xef]);
    std::fs::write(faces.path("disk"), &disk).unwrap();
    std::fs::write(faces.path("short"), &disk[..512]).unwrap();
    let said = faces.ok("img info -f raw --partitions @short");
    assert!(said.ends_with("Partitions (mbr):\n    1: -, 512 KiB from 4096 on, type 0x83\n"), "{said}");
    let said = faces.ok("img info -f raw --partitions @disk");
    assert!(said.ends_with("Partitions (mbr):\n    1: ext, 512 KiB from 4096 on, type 0x83\n"), "{said}");
    let mut forged = vec![0; 1 << 20];
    for at in [512, (1 << 20) - 512] {
        forged[at..at + 8].copy_from_slice(b"EFI PART");
        forged[at + 12..at + 16].copy_from_slice(&92_u32.to_le_bytes());
        forged[at + 80..at + 84].copy_from_slice(&1_u32.to_le_bytes());
        forged[at + 84..at + 88].copy_from_slice(&(if at == 512 { 128_u32 } else { 132 }).to_le_bytes());
    }
    std::fs::write(faces.path("forged"), forged).unwrap();
    assert!(faces.ok("img info -f raw -P @forged").ends_with("Content: not known\n"));
    assert!(faces.ok("img info -P @a").ends_with("Content: not known\n"));
    // As QEMU 11.1 tells it: of an image whose format was found, of one whose format was given, of formats with clusters.
    let limits = |line: &str| {
        let said = faces.ok(&format!("img info --limits {line}"));
        let list = said.lines().skip_while(|line| *line != "Block limits:").skip(1);
        let list = list.take_while(|line| line.starts_with("    "));
        list.map(|line| line.trim().to_owned()).collect::<Vec<_>>().join(", ")
    };
    let memory = "min mem alignment: 1, opt mem alignment: 4096, max iov: 1024";
    assert_eq!(limits("@disk"), format!("request alignment: 512, {memory}"));
    assert_eq!(limits("-f raw @disk"), format!("request alignment: 1, {memory}"));
    assert_eq!(
        limits("@top"),
        "write zeroes alignment: 65536, request alignment: 1, min mem alignment: 1, discard alignment: 65536, \
         opt mem alignment: 4096, max iov: 1024"
    );
    let json = faces.ok("img info --limits --output=json -f raw @disk");
    assert!(json.starts_with("{\n    \"limits\": {\n        \"request-alignment\": 1,\n"), "{json}");
    assert_eq!(json.matches("\"limits\"").count(), 2, "{json}");
    assert!(faces.fails(1, "img info --output=xml @a").contains("expects 'human' or 'json' not 'xml'"));
    untrusted(faces, "info", "@top");
    assert!(faces.fails(1, "img info --untrusted -b @top").contains("no --backing-chain"));
}

pub fn inspect(faces: &Faces) {
    image(faces, "@a", 1);
    overlay(faces, "@top", "@a", 2);
    let said = faces.ok("img inspect -f qcow2 -U --policy cdi --max-virtual-size 1M --limit-time 5 @a");
    assert!(said.starts_with("image: @a\nformat: qcow2 (as it was said)\n"), "{said}");
    assert!(said.ends_with("\npolicy 'cdi': lets it in\n"), "{said}");
    let said = faces.ok("img inspect --untrusted --limit-memory 64M --limit-output 1M --output=json @a");
    assert!(said.contains("\"allowed\": true"), "{said}");
    let said = faces.fails(2, "img inspect --require-confinement @top");
    assert!(said.contains("\nREFUSED: backing-file at "), "{said}");
    assert!(faces.fails(2, "img inspect --max-virtual-size 1k @a").contains("REFUSED: too-large"));
    assert!(faces.fails(1, "img inspect --policy nobody @a").contains("there is no policy 'nobody'"));
    assert!(faces.fails(1, "img inspect @nowhere").contains("Could not open '@nowhere'"));
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
    let said = faces.ok("img map --picture text @top");
    assert!(said.starts_with("0x0 |1111") || said.contains("0x0 |1111"), "{said}");
    assert!(said.contains("of data in @top\n1 ") && said.contains("of data in @a\n"), "{said}");
    assert!(faces.ok("img map --picture=svg @top").ends_with("</svg>\n"));
    assert!(faces.fails(1, "img map --picture=png @top").contains("--picture expects 'text' or 'svg'"));
    untrusted(faces, "map", "@a");
    assert!(faces.fails(1, "img map --untrusted @top").contains("may not be opened here"));
    assert!(faces.fails(1, "img map -s -1 @top").contains("Invalid start offset specified."));
    assert!(faces.fails(1, "img map -l x @top").contains("Invalid max length specified: 'x'."));
}

pub fn crashtest(faces: &Faces) {
    image(faces, "@a", 1);
    overlay(faces, "@top", "@a", 2);
    let below = faces.read("a");
    let script = "# over both layers\n\nwrite -P 7 0 64k\nflush\naio_write -P 8 64k 5k\naio_write -P 9 66k 5k\n\
                  aio_flush\nwrite -z -u 0 4k\naio_discard 128k 64k\nread -P 9 70k 512\ntruncate 2M\nwrite -f 1800k 512\n";
    std::fs::write(faces.path("script"), script).unwrap();
    let said = faces.ok("img crashtest -p --points 200 --runs 2 --seed 5 @top @script");
    assert!(said.contains("(100.00/100%)") && said.contains("The image survives: "), "{said}");
    assert_eq!(faces.ok("img crashtest -q -f qcow2 --crash power --points 50 @top @script"), "");
    let said = faces.ok("img crashtest --output json --crash kill --points 90 --compare 1M --image-opts driver=qcow2,file.filename=@top @script");
    assert!(said.contains("\"verdict\": \"survives\""), "{said}");
    let said =
        faces.ok("img crashtest --point 7:0:kill-0 --seed 3 --output json -c 'write 0 4k' -f qcow2 @top");
    assert!(said.contains("\"seed\": 7,") && said.contains("\"runs\": 1,"), "{said}");
    faces.ok("img crashtest --points 40 -f raw --memory 2M --object secret,id=s,data=x -c 'write 0 4k' -c flush @a");

    faces.ok("img bitmap --add @top records");
    faces.ok("img bitmap --add --disable @top rests");
    faces.ok("img snapshot -c here @top");
    let said = faces.ok("img crashtest --points 100 --runs 1 -f qcow2 @top @script");
    assert!(said.contains("The image survives: "), "{said}");
    let above = faces.read("top");

    // Without flushes nothing holds the order.
    let unsafe_ = "driver=qcow2,cache.no-flush=on,file.filename=@top";
    let said = faces.run(&format!("img crashtest --points 50 --keep @kept --image-opts {unsafe_} @script"));
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.out.starts_with("The image does not survive 1:0:keep-0: a power cut "), "{}", said.out);
    assert!(said.out.contains("\n  lost  @top: write 0x"), "{}", said.out);
    assert!(said.out.contains("\nKept as it is then: @kept/top\n"), "{}", said.out);
    let again = said.out.lines().last().unwrap().strip_prefix("This crash alone: ").unwrap();
    let again = faces.run(again);
    assert_eq!((again.code, again.out.lines().next()), (2, said.out.lines().next()), "{again:?}");
    assert!(faces.path("kept/top").exists() && !faces.path("kept/a").exists());
    let said = faces.run(&format!("img crashtest --points 50 --keep @kept --image-opts {unsafe_} @script"));
    assert!(said.code == 1 && said.err.contains("exists"), "{said:?}");
    assert!(said.out.starts_with("The image does not survive 1:0:keep-0: "), "{}", said.out);
    assert!(faces.read("a") == below && faces.read("top") == above, "the files are as they were");

    let secret = "--object secret,id=s,data=x";
    for (driver, options) in [
        ("luks", "key-secret=s,iter-time=1"),
        ("qcow2", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=1"),
    ] {
        faces.ok(&format!("img create -f {driver} {secret} -o {options} @secret 1M"));
        let key = options.split(',').find(|option| option.contains("key-secret")).unwrap();
        let options = format!("--image-opts driver={driver},{key},file.filename=@secret");
        let test = "img crashtest --points 20 --runs 1 -c 'write -P 7 0 64k' -c flush -c 'write -P 8 4k 4k'";
        let said = faces.ok(&format!("{test} {secret} {options}"));
        assert!(said.contains("The image survives: "), "{said}");
        assert!(faces.fails(1, &format!("{test} {options}")).contains("No secret with id 's'"));
        let said = faces.run(&format!("{test} {secret} {options},cache.no-flush=on"));
        assert!(said.code == 2 && said.out.contains(" --object secret,id=s,... --image-opts "), "{said:?}");
    }

    for (line, why) in [
        ("@top", "Expecting one image file name, and a script or -c"),
        ("-c flush @top @script", "Expecting one image file name, and a script or -c"),
        ("@top @none", "@none: No such file or directory"),
        ("-c '# nothing' @top", "the script has no commands"),
        ("-c flush -c 'wirte 0 4k' @top", "line 2 of the script: command \"wirte\" not found"),
        (
            "-c 'write 0' @top",
            "line 1 of the script: bad argument count 1 to write, expected at least 2 arguments",
        ),
        ("-c 'open @a' @top", "line 1 of the script: 'open' can't be part of a script for one image"),
        ("-c flush -c abort @top", "line 2 of the script: 'abort' can't be part of a script"),
        ("-c flush -c 'write 0 2M' @top", "line 2 of the script: write failed: Input/output error"),
        (
            "-c flush -c 'aio_write 1M 1M' -c flush @top",
            "of the script: aio_write failed: Input/output error",
        ),
        ("-c 'read -P 3 0 4k' @top", "line 1 of the script: Pattern verification failed"),
        ("-c 'aio_read -P 3 0 4k' @top", "line 1 of the script: Pattern verification failed"),
        (
            "--memory 1M -f qcow2 -c 'write 0 900k' @top",
            "--memory (1048576 bytes) bounds what a script may write",
        ),
        ("--point 1:99:kill-0 -c flush @top", "there is no crash 1:99:kill-0: the run has"),
        ("--point x -c flush @top", "--point expects SEED:MOMENT:CUT"),
        ("--crash flood -c flush @top", "--crash expects 'power', 'kill' or 'both' not 'flood'"),
        ("-f qcow2 -c flush @none", "Could not open '@none'"),
    ] {
        let said = faces.fails(1, &format!("img crashtest {line}"));
        assert!(said.contains(why), "{line}: {said}");
    }
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

pub fn tree(faces: &Faces) {
    faces.ok("img create -q -f qcow2 @base.qcow2 1M");
    faces.ok("img create -q -f qcow2 -b @base.qcow2 -F qcow2 @middle.qcow2");
    faces.ok("img create -q -f qcow2 -b @middle.qcow2 -F qcow2 @top.qcow2");
    faces.ok("img create -q -f vmdk -o subformat=monolithicFlat @flat.vmdk 1M");
    faces.ok("img create -q -f raw @plain.raw 1M");
    faces.ok("img create -q -f qcow2 -b @plain.raw -F raw @other.qcow2");
    faces.ok("img create -q -f raw @alone.raw 1M");
    faces.ok("io -c 'write -q -P 7 64k 128k' @middle.qcow2");
    faces.ok("io -f vmdk -c 'write -q -P 0x51 0 64k' @flat.vmdk");
    let entries =
        |line: &str| -> Vec<ImageTreeEntry> { api::decode(json::parse(&faces.ok(line)).unwrap()).unwrap() };
    let all = entries("img tree --object secret,id=s,data=x --output json @.");
    let names: Vec<_> = all.iter().map(|entry| entry.filename.as_str()).collect();
    assert_eq!(
        names,
        [
            "@./base.qcow2",
            "@./flat.vmdk",
            "@./middle.qcow2",
            "@./other.qcow2",
            "@./plain.raw",
            "@./top.qcow2"
        ]
    );
    let [base, flat, middle, other, plain, top] = &all[..] else { panic!("{names:?}") };
    assert_eq!(base.breaks, ["@./middle.qcow2", "@./top.qcow2"]);
    assert_eq!((&middle.breaks[..], &top.breaks[..]), (&["@./top.qcow2".to_owned()][..], &[][..]));
    assert_eq!(plain.breaks, ["@./other.qcow2"]);
    assert_eq!(other.backing.as_deref(), Some("@./plain.raw"));
    assert_eq!((base.held, middle.held, top.held), (Some(0), Some(128 << 10), Some(0)));
    assert!(flat.files.as_ref().is_some_and(|files| files[0].ends_with("flat-flat.vmdk")));
    let skipped = entries("img tree -s --output=json @base.qcow2 @middle.qcow2");
    assert!(skipped.iter().all(|entry| entry.held.is_none()));
    assert!(faces.ok("img tree -a --output=human @.").contains("@./alone.raw  raw, 1 MiB"));

    let held = std::fs::File::open(faces.path("base.qcow2")).unwrap();
    let said = faces.ok("img tree @.");
    let place = said.find("@./base.qcow2  qcow2, 1 MiB, holds 0 B").unwrap_or_else(|| panic!("{said}"));
    let below = &said[place..];
    assert!(below.contains(&format!("\n   read by {}: ", std::process::id())), "{said}");
    assert!(below.contains("\n└─ @./middle.qcow2  qcow2, 1 MiB, holds 128 KiB"), "{said}");
    assert!(below.contains("\n   └─ @./top.qcow2  qcow2"), "{said}");
    drop(held);

    faces.ok("img create -q -f qcow2 -o data_file=@outside,data_file_raw=on @inside.qcow2 1M");
    let both = entries("img tree --output=json @inside.qcow2 @outside");
    assert_eq!((both[0].problem.as_deref(), both.len()), (None, 2), "{both:?}");
    assert_eq!(both[0].files.as_deref(), Some(&["@outside".to_owned()][..]));
    assert_eq!(both[1].breaks, ["@inside.qcow2"]);
    std::fs::remove_file(faces.path("inside.qcow2")).unwrap();
    std::fs::remove_file(faces.path("outside")).unwrap();

    std::fs::remove_file(faces.path("base.qcow2")).unwrap();
    let said = faces.run("img tree @.");
    assert_eq!(said.code, 2);
    assert!(
        said.out.contains("@./middle.qcow2  qcow2, ") && said.out.contains("base.qcow2' is not there"),
        "{}",
        said.out
    );
    faces.ok("img rebase -u -b @top.qcow2 -F qcow2 @middle.qcow2");
    let said = faces.run("img tree @.");
    assert_eq!(said.code, 2);
    assert!(said.out.contains("BROKEN: it stands on itself"), "{}", said.out);
    for (line, why) in
        [("img tree", "Expecting a folder"), ("img tree @none", "Could not look at '@none': No such file")]
    {
        assert!(faces.fails(1, line).contains(why), "{line}");
    }
}

pub fn hash(faces: &Faces) {
    image(faces, "@a", 1);
    faces.ok("img convert -q -O raw @a @a.raw");
    let line = faces.ok("img hash -f qcow2 -T none --object secret,id=s,data=x @a");
    let (digest, name) = line.trim_end().split_once("  ").unwrap();
    assert_eq!((digest.len(), name), (64, "@a"));
    let both = faces.ok("img hash @a @a.raw");
    assert_eq!(both, format!("{digest}  @a\n{digest}  @a.raw\n"), "a format is no part of the content");
    let said = faces.ok("img hash -U --image-opts --output json driver=qcow2,file.filename=@a");
    assert!(
        said.contains(&format!("\"digest\": \"{digest}\"")) && said.contains("\"virtual-size\": 1048576"),
        "{said}"
    );
    let said = faces.ok("img hash -p @a");
    assert!(
        said.starts_with("    (0.00/100%)\r") && said.ends_with(&format!("(100.00/100%)\r\n{digest}  @a\n")),
        "{said}"
    );
    let other = faces.ok("img hash --blkhash @a.raw");
    assert!(!other.starts_with(digest));

    std::fs::write(
        faces.path("list"),
        format!("# of today\n\n{both}").replace('@', &faces.path("").display().to_string()),
    )
    .unwrap();
    assert_eq!(faces.ok("img hash --check @list"), "@a: OK\n@a.raw: OK\n");
    assert_eq!(faces.ok("img hash -q -c @list"), "");
    faces.ok("img snapshot -c before @a");
    super::write(faces, "@a", 2, "0 512");
    assert_eq!(faces.ok("img hash -l before @a"), format!("{digest}  @a\n"));
    std::fs::remove_file(faces.path("a.raw")).unwrap();
    let said = faces.run("img hash --check @list");
    assert_eq!((said.code, &*said.out), (1, "@a: FAILED\n@a.raw: FAILED open or read\n"));
    assert!(said.err.contains("1 of 2 images do not have the content that was expected"), "{}", said.err);
    let said = faces.run("img hash --output json --check @list");
    assert!(
        said.out.contains("\"equal\": false") && said.out.contains("\"error\": \"Could not open"),
        "{said:?}"
    );

    let said = faces.run("img hash @none @a");
    assert!(said.code == 1 && said.out.ends_with("  @a\n"), "the others are told all the same: {said:?}");
    std::fs::write(faces.path("list"), "x\n").unwrap();
    std::fs::write(faces.path("empty"), "# nothing\n").unwrap();
    for (line, why) in [
        ("", "Expecting at least one image file name"),
        ("-l snap @a", "Failed to load snapshot: Can't find snapshot"),
        ("--check @none", "@none: No such file or directory"),
        ("--check @list", "@list: line 1 is no digest"),
        ("--check @empty", "there are no digests to check"),
        ("--image-opts -f raw @a", "--image-opts and --format are mutually exclusive"),
    ] {
        let said = faces.fails(1, &format!("img hash {line}"));
        assert!(said.contains(why), "{line}: {said}");
    }
}
