//! The rule of `docs/damage.md`, case by case: what may make data wrong or lost is refused or marked; all else goes on,
//! with a notice. Where the peer decides differently, the table says so and why.
use super::check::check;
use super::*;
use block::{Common, Notice, Repair};
use std::sync::Mutex;

/// One extension with its padding.
fn extension(kind: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = [kind.to_be_bytes(), (data.len() as u32).to_be_bytes()].concat();
    bytes.extend(data);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

fn put(image: &mut [u8], at: usize, bytes: &[u8]) {
    image[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Extensions, and a name of a backing file at `offset` with a stored length of `len`.
fn put_header(image: &mut [u8], extensions: &[u8], offset: u64, len: u32, name: &[u8]) {
    put(image, 112, extensions);
    put(image, 8, &offset.to_be_bytes());
    put(image, 16, &len.to_be_bytes());
    put(image, offset as usize, name);
}

/// What opening does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Opens,
    /// Opens, and says what is odd.
    Tells,
    Refuses,
}
use Verdict::*;

/// Name, damage, what ours does, what the peer does.
type Case = (&'static str, fn(&mut Vec<u8>), Verdict, Verdict);

const BITMAPS: u32 = 0x2385_2875;
const ENCRYPTION: u32 = 0x0537_be77;
const FORMAT: u32 = 0xe279_2aca;
const END: [u8; 8] = [0; 8];

const CASES: &[Case] = &[
    (
        "an unknown extension",
        |i| put(i, 112, &[&extension(0x1234_5678, b"abc")[..], &END].concat()),
        Opens,
        Opens,
    ),
    (
        "an extension longer than the cluster",
        |i| put(i, 112, &[0x12, 0x34, 0x56, 0x78, 0x7f, 255, 255, 255]),
        Refuses,
        Refuses,
    ),
    // What is name and what is extension nobody can tell, and the name decides on the data.
    (
        "a backing name inside of an extension",
        |i| put_header(i, &extension(0x1234_5678, &[b'x'; 32]), 124, 0, b""),
        Refuses,
        Refuses,
    ),
    (
        "a backing name inside of an extension's head",
        |i| put_header(i, &extension(0x1234_5678, &[b'x'; 8]), 116, 0, b""),
        Refuses,
        Refuses,
    ),
    ("a backing name beyond the cluster", |i| put(i, 8, &[255; 8]), Refuses, Refuses),
    (
        "a backing name that the cluster's end cuts off",
        |i| put_header(i, &END, 65530, 10, b""),
        Refuses,
        Refuses,
    ),
    ("a backing name of 1,024 bytes", |i| put_header(i, &END, 200, 1024, b""), Refuses, Refuses),
    (
        "a backing name at once behind the header, no end mark",
        |i| put_header(i, b"", 112, 4, b"base"),
        Opens,
        Opens,
    ),
    (
        "a backing name padded with NULs",
        |i| put_header(i, &[&extension(FORMAT, b"qcow2")[..], &END].concat(), 200, 8, b"base\0\0\0\0"),
        Opens,
        Opens,
    ),
    (
        "a backing format padded with NULs",
        |i| put_header(i, &[&extension(FORMAT, b"qcow2\0\0\0")[..], &END].concat(), 200, 4, b"base"),
        Opens,
        Opens,
    ),
    // Data may be encrypted.
    (
        "an encryption header without encryption",
        |i| put(i, 112, &[&extension(ENCRYPTION, &[0; 16])[..], &END].concat()),
        Refuses,
        Refuses,
    ),
    // Bitmaps that hold nothing any more: nothing is lost.
    (
        "bitmaps that do not hold, cut short",
        |i| put(i, 112, &[&extension(BITMAPS, &[0; 4])[..], &END].concat()),
        Opens,
        Refuses,
    ),
    (
        "bitmaps that do not hold",
        |i| put(i, 112, &[&extension(BITMAPS, &BITMAP)[..], &END].concat()),
        Tells,
        Tells,
    ),
    // Who takes them for leaks loses them.
    (
        "bitmaps that hold, cut short",
        |i| {
            put(i, 112, &[&extension(BITMAPS, &[0; 4])[..], &END].concat());
            i[95] = 1;
        },
        Refuses,
        Refuses,
    ),
    (
        "bitmaps that hold, of none",
        |i| {
            put(i, 112, &[&extension(BITMAPS, &[0; 24])[..], &END].concat());
            i[95] = 1;
        },
        Tells,
        Refuses,
    ),
    // Perhaps the count is wrong; reading does without.
    (
        "a place for no snapshots that can't be",
        |i| put(i, 64, &[0x12, 0x34, 0x56, 0x78, 0x90, 0xab, 0xcd, 0xef]),
        Tells,
        Refuses,
    ),
    ("a place for no snapshots beyond the end", |i| put(i, 64, &[0, 0, 0, 1, 0, 0, 0, 0]), Opens, Opens),
    // Reading does without.
    (
        "a snapshot at a place that can't be",
        |i| {
            put(i, 60, &[0, 0, 0, 1]);
            put(i, 64, &[0, 0, 0, 0, 0, 3, 2, 0]);
        },
        Tells,
        Refuses,
    ),
    ("too many snapshots", |i| put(i, 60, &[255; 4]), Tells, Refuses),
    ("unknown compatible features", |i| i[87] = 1 << 5, Opens, Opens),
    ("unknown autoclear features", |i| i[95] = 1 << 5, Opens, Opens),
    ("unknown incompatible features", |i| i[79] = 1 << 5, Refuses, Refuses),
    // Where the extensions begin nobody can tell.
    ("a header length that is no multiple of 8", |i| put(i, 100, &[0, 0, 0, 107]), Refuses, Opens),
    ("a header of 96 bytes", |i| put(i, 100, &[0, 0, 0, 96]), Refuses, Refuses),
    ("an L1 table that is not aligned", |i| put(i, 40, &[0, 0, 0, 0, 0, 3, 2, 0]), Refuses, Refuses),
    ("an L1 table too small for the disk", |i| put(i, 36, &[0; 4]), Refuses, Refuses),
    // Reading does without; the peer refuses only where it writes, too.
    ("a refcount table that is not aligned", |i| put(i, 48, &[0, 0, 0, 0, 0, 1, 2, 0]), Opens, Refuses),
];

/// One bitmap in a directory at 0x40000.
const BITMAP: [u8; 24] = [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0, 0, 0, 0, 4, 0, 0];

/// Opens for reading; answers what is told, or `None` if it is refused.
fn open(path: &Path) -> Option<Vec<String>> {
    let told = Arc::new(Mutex::new(Vec::new()));
    let kept = told.clone();
    let graph = Graph::new(Registry::new(&[protocols::DRIVERS, crate::DRIVERS]), |_| Ok(Options::new()));
    graph.on_notice(move |notice| match notice {
        Notice::Warning(text) => kept.lock().unwrap().push(text.to_owned()),
        Notice::Damaged { damage, .. } => kept.lock().unwrap().push(damage.to_string()),
        Notice::Repaired { image, .. } => panic!("{image} is repaired where it is only read"),
        _ => panic!("nobody has asked for that"),
    });
    let common = Common { read_only: true, ..Common::default() };
    rt::block_on_control(async {
        let node =
            graph.open_image(path.to_str().unwrap(), Some("qcow2"), common, Policy::FOLLOW).await.ok()?;
        let (_, result) = node.read(0, rt::BufMut::with_len(512)).await;
        let released = graph.release(&node).await;
        (result.is_ok() && released.is_ok()).then(|| told.lock().unwrap().clone())
    })
}

#[test]
fn damage_of_a_header_is_refused_only_where_data_may_be_wrong_or_lost() {
    let scratch = Scratch::new();
    let (path, base) = (scratch.path("image"), scratch.path("base"));
    create(&base, 1 << 20, &[]).unwrap();
    create(&path, 1 << 20, &[]).unwrap();
    let good = std::fs::read(&path).unwrap();
    for (what, damage, ours, theirs) in CASES {
        let mut image = good.clone();
        // No table of names in the way.
        image[112..65536].fill(0);
        damage(&mut image);
        std::fs::write(&path, &image).unwrap();
        let told = open(&path);
        let verdict = match &told {
            None => Refuses,
            Some(told) if told.is_empty() => Opens,
            Some(_) => Tells,
        };
        assert_eq!(verdict, *ours, "{what}: {told:?}");
        assert!(std::fs::read(&path).unwrap() == image, "{what}");
        let read = ["-r", "-f", "qcow2", "-c", "read 0 512", path.to_str().unwrap()];
        let Some((code, text)) = peer("qemu-io", &read) else { continue };
        let verdict = if code != 0 {
            Refuses
        } else if text.contains("warning") {
            Tells
        } else {
            Opens
        };
        assert_eq!(verdict, *theirs, "the peer, {what}: {text}");
    }
}

#[test]
fn bitmaps_whose_directory_is_damaged_are_dropped_by_a_repair_and_by_nothing_else() {
    let scratch = Scratch::new();
    let path = scratch.path("image");
    let name = path.to_str().unwrap();
    create(&path, 1 << 20, &[]).unwrap();
    for bitmap in ["b0", "b1"] {
        let Some((0, _)) = peer("qemu-img", &["bitmap", "--add", name, bitmap]) else { return };
    }
    let good = std::fs::read(&path).unwrap();
    let extension = header(&path).unwrap().extension(BITMAPS).unwrap().offset as usize;
    let directory = header(&path).unwrap().bitmaps().unwrap().directory_offset as usize;
    for (what, at, bytes) in [
        ("fewer than there are", extension, &[0, 0, 0, 1][..]),
        ("more than there are", extension, &[0, 0, 0, 3]),
        ("more than there can be", extension, &[0, 1, 0, 0]),
        ("a directory too short", extension + 8, &[0, 0, 0, 0, 0, 0, 0, 8]),
        ("a directory that is not aligned", extension + 22, &[2]),
        ("a table that is not aligned", directory + 6, &[2]),
        ("no name", directory + 18, &[0, 0]),
        ("a name beyond the directory", directory + 18, &[255, 255]),
        ("a granularity that can't be", directory + 17, &[99]),
        ("the same name twice", directory + 32 + 25, b"0"),
    ] {
        let mut image = good.clone();
        put(&mut image, at, bytes);
        std::fs::write(&path, &image).unwrap();
        assert!(open(&path).is_some(), "{what}");
        assert_ne!(
            peer("qemu-img", &["check", "-r", "all", name]).unwrap().0,
            0,
            "{what}: the peer can't even repair"
        );
        let leaks = check(&path, Repair::Leaks).unwrap();
        assert!(leaks.corruptions > 0 && leaks.leaks_fixed == 0, "{what}: {leaks:?}");
        assert!(std::fs::read(&path).unwrap() == image, "{what}");
        let all = check(&path, Repair::All).unwrap();
        assert!(all.corruptions_fixed > 0 && all.leaks_fixed > 0 && all.corruptions == 0, "{what}: {all:?}");
        let clean = check(&path, Repair::No).unwrap();
        assert_eq!((clean.corruptions, clean.leaks), (0, 0), "{what}: {clean:?}");
        let (code, text) = peer("qemu-img", &["check", name]).unwrap();
        assert!(code == 0 && !text.contains("warning"), "{what}: {text}");
        assert_eq!(peer("qemu-img", &["bitmap", "--add", name, "b2"]).unwrap().0, 0, "{what}");
    }
}
