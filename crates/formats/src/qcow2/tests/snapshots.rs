//! Damaged snapshot tables: what can be opened, what a repair keeps, what the peer says to it.
use super::*;
use crate::field::{be16, be32, be64};
use block::{CheckReport, Common, Discard, Repair};

/// An image with the snapshots `one`, `two` and `three`, and its table.
struct Table {
    bytes: Vec<u8>,
    /// Offsets of the entries.
    entries: Vec<usize>,
    end: usize,
}

impl Table {
    /// Made by the peer; `None` where it is not installed.
    fn new(scratch: &Scratch, version: &str) -> Option<Self> {
        let path = scratch.path("made");
        let name = path.to_str()?;
        let options = format!("compat={version},cluster_size=4k");
        peer("qemu-img", &["create", "-q", "-f", "qcow2", "-o", &options, name, "4M"])?;
        for (i, snapshot) in ["one", "two", "three"].into_iter().enumerate() {
            let write = format!("write -q -P {} {}k 64k", i + 1, i * 64);
            assert_eq!(peer("qemu-io", &["-c", &write, name])?.0, 0);
            assert_eq!(peer("qemu-img", &["snapshot", "-c", snapshot, name])?.0, 0);
        }
        assert_eq!(peer("qemu-io", &["-c", "write -q -P 9 16k 64k", name])?.0, 0);
        Some(Self::of(std::fs::read(&path).unwrap()))
    }

    fn of(bytes: Vec<u8>) -> Self {
        let mut at = be64(&bytes, 64).unwrap() as usize;
        let mut entries = Vec::new();
        for _ in 0..be32(&bytes, 60).unwrap() {
            at = at.next_multiple_of(8);
            entries.push(at);
            let names = be16(&bytes, at + 12).unwrap() + be16(&bytes, at + 14).unwrap();
            at += 40 + be32(&bytes, at + 36).unwrap() as usize + usize::from(names);
        }
        Self { bytes, entries, end: at }
    }

    fn put(&mut self, at: usize, value: &[u8]) -> &mut Self {
        self.bytes[at..at + value.len()].copy_from_slice(value);
        self
    }

    /// The second entry with so many bytes of extra data, and all entries in a table at the end of the file.
    fn with_extra(&mut self, len: usize) -> &mut Self {
        let mut table = Vec::new();
        for (i, &at) in self.entries.iter().enumerate() {
            table.resize(usize::next_multiple_of(table.len(), 8), 0);
            let names = at + 40 + be32(&self.bytes, at + 36).unwrap() as usize;
            let end = self.entries.get(i + 1).map_or(self.end, |next| *next);
            if i == 1 {
                table.extend(&self.bytes[at..at + 36]);
                let mut extra = self.bytes[at + 40..names].to_vec();
                extra.resize(len, 0x55);
                table.extend((len as u32).to_be_bytes());
                table.extend(extra);
                table.extend(&self.bytes[names..end]);
            } else {
                table.extend(&self.bytes[at..end]);
            }
        }
        self.move_to_end(&table)
    }

    fn move_to_end(&mut self, table: &[u8]) -> &mut Self {
        let place = self.bytes.len().next_multiple_of(4096);
        self.bytes.resize(place, 0);
        self.bytes.extend(table);
        self.put(64, &(place as u64).to_be_bytes());
        let moved = Self::of(self.bytes.clone());
        (self.entries, self.end) = (moved.entries, moved.end);
        self
    }
}

/// Opens the image as a tool does, and does with it what is asked for.
async fn opened<R>(
    path: &Path,
    common: Common,
    work: impl AsyncFnOnce(&Arc<Node>) -> block::Result<R>,
) -> block::Result<R> {
    let graph = Graph::new(Registry::new(&[protocols::DRIVERS, crate::DRIVERS]), |_| Ok(Options::new()));
    let node = graph.open_image(path.to_str().unwrap(), Some("qcow2"), common, Policy::ALONE).await?;
    let result = work(&node).await;
    graph.release(&node).await?;
    result
}

fn check(path: &Path, repair: Repair) -> block::Result<CheckReport> {
    let common =
        Common { read_only: repair == Repair::No, for_repair: repair != Repair::No, ..Common::default() };
    rt::block_on_control(opened(path, common, async |node| {
        node.driver().checker().unwrap().check(repair).await
    }))
}

/// Names of the snapshots that are listed.
fn listed(path: &Path) -> Vec<String> {
    let common = Common { read_only: true, ..Common::default() };
    let names = rt::block_on_control(opened(path, common, async |node| {
        let snapshots = node.driver().info().snapshots;
        Ok(snapshots.into_iter().map(|s| s.name).collect())
    }));
    names.unwrap()
}

/// The disk as it is read through the driver.
fn disk(path: &Path) -> Vec<u8> {
    let common = Common { read_only: true, discard: Discard::Unmap, ..Common::default() };
    let read = async |node: &Arc<Node>| {
        let (content, result) = node.read(0, rt::BufMut::with_len(node.length() as usize)).await;
        result.map(|()| content.to_vec())
    };
    rt::block_on_control(opened(path, common, read)).unwrap()
}

/// Name of the case, the damage, the snapshots that a repair keeps.
type Damage = (&'static str, fn(&mut Table), &'static [&'static str]);

const ALL: &[&str] = &["one", "two", "three"];

const DAMAGES: &[Damage] = &[
    (
        "extra data too large by the entry's word",
        |t| _ = t.put(t.entries[1] + 36, &[0x7f, 255, 255, 255]),
        ALL,
    ),
    ("the same in the first entry", |t| _ = t.put(t.entries[0] + 36, &[255; 4]), ALL),
    ("extra data too large, and all there", |t| _ = t.with_extra(2000), ALL),
    (
        "an entry whose lengths are all nonsense",
        |t| _ = t.put(t.entries[1] + 12, &[255; 28]),
        &["one", "", "three"],
    ),
    (
        "an entry of zeroes",
        |t| _ = t.put(t.entries[1], &vec![0; t.entries[2] - t.entries[1]]),
        &["one", "three"],
    ),
    ("a count too large by one", |t| _ = t.put(60, &[0, 0, 0, 4]), ALL),
    ("a count as large as there can be", |t| _ = t.put(60, &[0, 1, 0, 0]), ALL),
    ("a count too large", |t| _ = t.put(60, &[255; 4]), ALL),
    (
        "cut off behind the first entry",
        |t| {
            t.with_extra(24);
            t.bytes.truncate(t.entries[1]);
        },
        &["one"],
    ),
    (
        "cut off in the last entry's name",
        |t| {
            t.with_extra(24);
            t.bytes.truncate(t.entries[2] + 40 + 24 + 1 + 2);
        },
        &["one", "two", "th"],
    ),
    (
        "cut off in the second entry, behind its table",
        |t| {
            t.with_extra(24);
            t.bytes.truncate(t.entries[1] + 20);
        },
        &["one", ""],
    ),
    (
        "a name longer than the file",
        |t| {
            let name = t.with_extra(24).entries[2] + 14;
            t.put(name, &[255; 2]);
        },
        ALL,
    ),
    (
        "not at the start of a cluster",
        |t| {
            let (start, table) = (t.entries[0], t.bytes[t.entries[0]..t.end].to_vec());
            t.put(start + 512, &table).put(64, &(start as u64 + 512).to_be_bytes());
        },
        ALL,
    ),
    (
        "said not to be at the start of a cluster",
        |t| _ = t.put(64, &(t.entries[0] as u64 + 8).to_be_bytes()),
        ALL,
    ),
    ("beyond the end of the file", |t| _ = t.put(64, &[0, 0, 0, 0, 0x40, 0, 0, 0]), &[]),
    ("beyond the end of any file", |t| _ = t.put(64, &[255, 255, 255, 255, 255, 255, 0xf0, 0]), &[]),
    ("at the header", |t| _ = t.put(64, &[0; 8]), &[]),
];

#[test]
fn a_damaged_snapshot_table_leaves_the_disk_readable_and_a_repair_keeps_what_can_be_kept() {
    let scratch = Scratch::new();
    let path = scratch.path("image");
    for version in ["0.10", "1.1"] {
        let Some(good) = Table::new(&scratch, version) else { return };
        std::fs::write(&path, &good.bytes).unwrap();
        assert_eq!(listed(&path), ALL);
        let content = disk(&path);
        for (what, damage, kept) in DAMAGES {
            let mut table = Table::of(good.bytes.clone());
            damage(&mut table);
            std::fs::write(&path, &table.bytes).unwrap();
            let what = format!("{version}: {what}");
            assert!(disk(&path) == content, "{what}");
            let looked = check(&path, Repair::No).unwrap();
            assert!(looked.corruptions + looked.check_errors > 0, "{what}: {looked:?}");
            // Clusters of snapshots that nobody can follow are no leaks.
            let leaks = check(&path, Repair::Leaks);
            assert!(leaks.map_or(true, |r| r.leaks_fixed == 0 || !kept.contains(&"three")), "{what}");
            let mended = check(&path, Repair::All).unwrap();
            assert!(
                mended.corruptions_fixed > 0 && mended.corruptions + mended.leaks == 0,
                "{what}: {mended:?}"
            );
            let clean = check(&path, Repair::No).unwrap();
            assert_eq!((clean.corruptions, clean.leaks, clean.check_errors), (0, 0, 0), "{what}: {clean:?}");
            assert_eq!(&listed(&path), kept, "{what}");
            assert!(disk(&path) == content, "{what}");
            let (code, text) = peer("qemu-img", &["check", path.to_str().unwrap()]).unwrap();
            assert_eq!(code, 0, "{what}: {text}");
            // What each snapshot kept is what it was.
            for (i, name) in kept.iter().enumerate().filter(|(_, name)| ALL.contains(name)) {
                let number = ALL.iter().position(|all| all == name).unwrap();
                let read = format!("read -q -P {} {}k 64k", number + 1, number * 64);
                let back = scratch.path("back");
                std::fs::copy(&path, &back).unwrap();
                let back = back.to_str().unwrap();
                assert_eq!(peer("qemu-img", &["snapshot", "-a", name, back]).unwrap().0, 0, "{what} {i}");
                assert_eq!(
                    peer("qemu-io", &["-c", &read, back]).unwrap(),
                    (0, String::new()),
                    "{what} {name}"
                );
            }
        }
    }
}

#[test]
fn an_image_with_a_damaged_snapshot_table_is_not_written_to() {
    let scratch = Scratch::new();
    let path = scratch.path("image");
    let Some(good) = Table::new(&scratch, "1.1") else { return };
    for (what, damage, _) in DAMAGES {
        let mut table = Table::of(good.bytes.clone());
        damage(&mut table);
        // An image that was not closed is not repaired in passing: that would drop snapshots.
        for dirty in [0, 1] {
            table.put(79, &[dirty]);
            std::fs::write(&path, &table.bytes).unwrap();
            let Err(error) = rt::block_on_control(opened(&path, Common::default(), async |_| Ok(()))) else {
                assert!(matches!(*what, "an entry of zeroes" | "a count too large by one"), "{what}");
                continue;
            };
            assert!(error.message().contains("check -r all"), "{what}: {error}");
            assert!(std::fs::read(&path).unwrap() == table.bytes, "{what}");
        }
    }
}

#[test]
fn a_place_for_no_snapshots_that_can_not_be_means_that_the_count_may_be_wrong() {
    let scratch = Scratch::new();
    let path = scratch.path("image");
    let Some(mut table) = Table::new(&scratch, "1.1") else { return };
    let place = table.entries[0] as u64 + 8;
    table.put(60, &[0; 4]).put(64, &place.to_be_bytes());
    std::fs::write(&path, &table.bytes).unwrap();
    let error = rt::block_on_control(opened(&path, Common::default(), async |_| Ok(()))).unwrap_err();
    assert!(error.message().contains("check -r all"), "{error}");
    // What the snapshots refer to is not given up before somebody says so.
    assert_eq!(check(&path, Repair::Leaks).unwrap().leaks_fixed, 0);
    assert_eq!(check(&path, Repair::All).unwrap().corruptions, 0);
    let clean = check(&path, Repair::No).unwrap();
    assert_eq!((clean.corruptions, clean.leaks), (0, 0), "{clean:?}");
    assert_eq!(peer("qemu-img", &["check", path.to_str().unwrap()]).unwrap().0, 0);
}

#[test]
fn entries_without_the_extra_data_of_version_3_are_completed() {
    let scratch = Scratch::new();
    let path = scratch.path("image");
    let Some(good) = Table::new(&scratch, "1.1") else { return };
    for extra in [0, 4, 8] {
        let mut table = Table::of(good.bytes.clone());
        table.with_extra(extra);
        std::fs::write(&path, &table.bytes).unwrap();
        let report = check(&path, Repair::All).unwrap();
        assert!(
            report.corruptions == 0 && report.messages.iter().any(|m| m.contains("entry 1 is incomplete"))
        );
        assert_eq!(check(&path, Repair::No).unwrap().corruptions, 0, "{extra}");
        assert_eq!(peer("qemu-img", &["check", path.to_str().unwrap()]).unwrap().0, 0, "{extra}");
        assert_eq!(listed(&path), ALL, "{extra}");
    }
}

#[test]
fn bytes_of_a_guest_never_become_a_snapshot() {
    let scratch = Scratch::new();
    let path = scratch.path("image");
    let Some(good) = Table::new(&scratch, "1.1") else { return };
    // The count is too large, and a whole good table of other names lies in the clusters behind.
    let mut table = Table::of(good.bytes.clone());
    let entry = table.bytes[table.entries[0]..table.entries[1]].to_vec();
    let mut forged = vec![0; 4096];
    forged[..entry.len()].copy_from_slice(&entry);
    let old = table.bytes[table.entries[0]..table.end].to_vec();
    table.move_to_end(&old);
    let end = table.bytes.len().next_multiple_of(4096);
    table.bytes.resize(end, 0);
    table.bytes.extend(forged);
    table.put(60, &[0, 0, 0x10, 0]);
    std::fs::write(&path, &table.bytes).unwrap();
    check(&path, Repair::All).unwrap();
    assert_eq!(listed(&path), ALL);
}

#[test]
fn names_end_at_their_first_nul_as_the_peer_reads_them() {
    let scratch = Scratch::new();
    let path = scratch.path("image");
    let Some(good) = Table::new(&scratch, "1.1") else { return };
    let mut table = Table::of(good.bytes.clone());
    // "one" becomes "o", padded.
    let name = table.entries[0] + 40 + 24 + 1;
    table.put(name + 1, &[0, 0]);
    std::fs::write(&path, &table.bytes).unwrap();
    assert_eq!(listed(&path), ["o", "two", "three"]);
    let (_, text) = peer("qemu-img", &["snapshot", "-l", path.to_str().unwrap()]).unwrap();
    assert!(text.contains("1       o     "), "{text}");
}

/// An entry of the table, padded.
fn entry(l1: u64, l1_entries: u32, name: &[u8]) -> Vec<u8> {
    let mut entry = [&l1.to_be_bytes()[..], &l1_entries.to_be_bytes(), &1u16.to_be_bytes()].concat();
    entry.extend((name.len() as u16).to_be_bytes());
    entry.extend([0; 20]);
    entry.extend(24u32.to_be_bytes());
    entry.extend([0; 24]);
    entry.extend(b"1");
    entry.extend(name);
    entry.resize(entry.len().next_multiple_of(8), 0);
    entry
}

#[test]
fn l1_tables_are_looked_at_a_few_times_however_many_entries_lead_there() {
    const L1: usize = 64 << 10;
    for (count, repaired) in [(4, true), (400, false)] {
        let scratch = Scratch::new();
        let path = scratch.path("image");
        create(&path, 4 << 20, &[("cluster_size", "4096")]).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let l1 = bytes.len().next_multiple_of(4096);
        let table = l1 + L1;
        bytes.resize(table, 0);
        // Within each name lies what could be the next entry.
        let hidden = entry(l1 as u64, L1 as u32 / 8, b"n");
        let name = [b"n\0\0\0\0\0\0", hidden.as_slice()].concat();
        let damaged = [&entry(l1 as u64, 1, b"n")[..36], &[0xff; 4], &[0; 24], b"1n"].concat();
        bytes.extend(damaged);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        (0..count).for_each(|_| bytes.extend(entry(l1 as u64, L1 as u32 / 8, &name)));
        bytes[60..64].copy_from_slice(&(2 * count + 1u32).to_be_bytes());
        bytes[64..72].copy_from_slice(&(table as u64).to_be_bytes());
        std::fs::write(&path, bytes).unwrap();
        let common = Common { for_repair: true, ..Common::default() };
        let checked = rt::block_on_control(opened(&path, common, async |node| {
            node.driver().checker().unwrap().check(Repair::All).await
        }));
        assert_eq!(checked.map_err(|e| e.kind()).err(), (!repaired).then_some(block::ErrorKind::Limit));
    }
}
