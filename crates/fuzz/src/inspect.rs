//! What is told of an image that nobody vouches for.

use block::{Options, Policy};
use sim::{Config, Disk, Sim};

/// Most findings that any image has: a few of each kind, and two for each name that is told.
const MOST_FINDINGS: usize = 256;

/// Inspects a file of the input as what it looks like, and as what it may not be. Laws: what is found is bounded, and the same when
/// it is asked for again.
pub fn file(input: &[u8]) {
    let mut disk = Disk::default();
    disk.put("/disk", input);
    let sim = Sim::boot(Config::seeded(1), disk);
    sim.run(async move {
        let graph = tools::image::quiet_graph(&tools::object::given());
        let driver = graph.registry().plain_protocol("/disk").map_or("", |driver| driver.name);
        let options = Options::new().with_str("driver", driver).with_str("filename", "/disk");
        let Ok(file) = graph.open(options, Policy::DESCRIBE).await else { return };
        for (format, given) in [("raw", false), ("qcow2", true), ("vmdk", true), ("qed", true), ("vpc", true)]
        {
            let Ok(told) = formats::inspect::inspect(&file, format, given).await else { continue };
            let found = told.seen.findings;
            assert!(found.len() <= MOST_FINDINGS, "{}", found.len());
            let again = formats::inspect::inspect(&file, format, given).await;
            assert_eq!(again.map(|again| again.seen.findings).ok(), Some(found));
        }
        graph.release(&file).await.ok();
    });
}

/// Headers that name files, and a descriptor.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut qcow2 = vec![0; 4 << 16];
    let words: [(usize, &[u8]); 11] = [
        (0, b"QFI\xfb\0\0\0\x03"),
        (8, &200u64.to_be_bytes()),
        (16, &4u32.to_be_bytes()),
        (20, &16u32.to_be_bytes()),
        (24, &(1u64 << 20).to_be_bytes()),
        (36, &1u32.to_be_bytes()),
        (40, &(3u64 << 16).to_be_bytes()),
        (48, &(1u64 << 16).to_be_bytes()),
        (100, &104u32.to_be_bytes()),
        (104, b"DATA\0\0\0\x04/x/y"),
        (200, b"../b"),
    ];
    for (at, word) in words {
        if let Some(place) = qcow2.get_mut(at..at + word.len()) {
            place.copy_from_slice(word);
        }
    }
    let descriptor = b"# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=2\nparentFileNameHint=\"/p\"\n\
                       createType=\"monolithicFlat\"\nRW 8 FLAT \"/x\" 0\nRW 8 SPARSE \"../y\"\n";
    let mut hollow = b"KDMV\x01\0\0\0\x03\0\0\0".to_vec();
    hollow.resize(28, 0);
    hollow.extend([1u64.to_le_bytes(), 20u64.to_le_bytes()].concat());
    hollow.resize(512, 0);
    hollow.extend(descriptor);
    hollow.resize(21 * 512, 0);
    let mut qed = b"QED\0".to_vec();
    qed.resize(16, 0);
    qed.extend(1u64.to_le_bytes());
    qed.resize(56, 0);
    qed.extend([64u32.to_le_bytes(), 4u32.to_le_bytes()].concat());
    qed.extend(b"/etc");
    let mut differencing = b"conectix\0\0\0\x02\0\x01\0\0".to_vec();
    differencing.extend(512u64.to_be_bytes());
    differencing.resize(60, 0);
    differencing.extend(4u32.to_be_bytes());
    differencing.resize(512 + 64, 0);
    differencing.extend(b"\0p\0a\0r");
    differencing.resize(2048, 0);
    vec![qcow2, descriptor.to_vec(), hollow, qed, differencing]
}
