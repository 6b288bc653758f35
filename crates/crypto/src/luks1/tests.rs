use proptest::prelude::*;

use super::*;
use crate::cipher::{Algorithm, CipherSpec, IvGenerator, Mode};
use crate::kdf::{Budget, Limits};
use crate::luks::UnlockError;
use crate::random::tests::Seeded;
use crate::{Hash, Key, Step};

fn budget() -> Budget<'static> {
    Budget::new(Limits::default(), &|| false)
}

fn phrase(text: &str) -> Key {
    Key::new(text.as_bytes().to_vec())
}

fn new_volume() -> NewVolume {
    NewVolume {
        spec: CipherSpec::new(Algorithm::Aes128, Mode::Xts, IvGenerator::Plain64).unwrap(),
        hash: Hash::Sha256,
        iterations: Iterations { slot: 10, digest: 10 },
        payload: Payload::Packed,
    }
}

fn new_slot<'a>(key: &'a Key, passphrase: &'a Key, iterations: u32) -> NewSlot<'a> {
    NewSlot { key, found_in: None, passphrase, iterations }
}

/// A file that steps are done on.
#[derive(Clone, Default)]
struct Disk(Vec<u8>);

impl Disk {
    fn write(&mut self, offset: u64, bytes: &[u8]) {
        let offset = offset as usize;
        self.0.resize(self.0.len().max(offset + bytes.len()), 0);
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    fn run(&mut self, steps: &[Step]) {
        for step in steps {
            if let Step::Write { offset, bytes } = step {
                self.write(*offset, bytes);
            }
        }
    }

    /// As long as header and areas are, whatever has been written.
    fn header(&self) -> Result<Header, HeaderError> {
        Header::parse(&self.0, 1 << 30)
    }

    /// The slots that a passphrase opens, and the volume key.
    fn opened_by(&self, passphrase: &str) -> (Vec<usize>, Option<Key>) {
        let (header, passphrase) = (self.header().unwrap(), phrase(passphrase));
        let mut unlock = header.unlock(&passphrase, budget());
        let (mut slots, mut key) = (Vec::new(), None);
        while let Some(area) = unlock.next_area() {
            let mut material = self.0.get(area.offset as usize..).unwrap_or_default().to_vec();
            material.resize(area.len, 0);
            if let Some(opened) = unlock.offer(area, &material).unwrap() {
                slots.push(opened.slot);
                key = Some(opened.key);
            }
        }
        (slots, key)
    }

    fn opens(&self, passphrase: &str) -> Vec<usize> {
        self.opened_by(passphrase).0
    }
}

/// A volume with slot 0 for "first".
fn volume(new: &NewVolume) -> (Disk, Key, Header) {
    let (key, change) = create(new, &phrase("first"), &mut budget(), &mut Seeded(1)).unwrap();
    let mut disk = Disk::default();
    disk.run(&change.steps);
    assert_eq!(disk.header().unwrap().as_bytes(), change.header.as_bytes());
    (disk, key, change.header)
}

#[test]
fn a_new_volume_opens_by_its_passphrase_alone() {
    for (key_len, text) in [
        (64, "aes-xts-plain64"),
        (32, "aes-cbc-essiv:sha256"),
        (24, "serpent-cbc-plain"),
        (48, "twofish-xts-plain64"),
        (16, "cast5-cbc-plain64"),
        (32, "aes-ecb"),
    ] {
        let spec = CipherSpec::from_text(text, key_len).unwrap();
        for hash in [Hash::Sha1, Hash::Sha512] {
            let new = NewVolume { spec, hash, ..new_volume() };
            let (disk, key, header) = volume(&new);
            let (slots, opened) = disk.opened_by("first");
            assert_eq!(slots, [0], "{text}");
            assert_eq!(opened.unwrap().as_bytes(), key.as_bytes());
            assert!(disk.opens("second").is_empty());
            assert_eq!((header.spec(), header.hash()), (&spec, hash));
            assert!(header.slots().iter().all(|slot| slot.fault.is_none()));
        }
    }
}

#[test]
fn the_layout_is_the_one_that_other_tools_make() {
    let spec = CipherSpec::from_text("aes-xts-plain64", 64).unwrap();
    let offset = |payload| volume(&NewVolume { spec, payload, ..new_volume() }).2.payload_offset();
    assert_eq!(offset(Payload::Packed), 4040 * 512);
    assert_eq!(offset(Payload::Aligned(1 << 20)), 4096 * 512);
    assert_eq!(offset(Payload::Detached), 0);
    let header = volume(&NewVolume { spec, ..new_volume() }).2;
    let offsets = header.slots().clone().map(|slot| slot.offset);
    assert_eq!(offsets, [4096, 262144, 520192, 778240, 1036288, 1294336, 1552384, 1810432]);
    for to in [0, 1000, u64::MAX - 511] {
        let new = NewVolume { payload: Payload::Aligned(to), ..new_volume() };
        let error = create(&new, &phrase("p"), &mut budget(), &mut Seeded(1)).unwrap_err();
        assert!(matches!(error, ChangeError::Alignment(_)), "{to}: {error}");
    }
}

#[test]
fn slots_are_added_replaced_and_erased() {
    let (mut disk, key, header) = volume(&new_volume());
    let random = &mut Seeded(2);
    let add = |header: &Header, text: &str, slot, loss, random: &mut Seeded| {
        header.add(&new_slot(&key, &phrase(text), 10), slot, loss, &mut budget(), random)
    };
    let change = add(&header, "second", None, Loss::Refused, random).unwrap();
    disk.run(&change.steps);
    let change = add(&change.header, "third", Some(6), Loss::Refused, random).unwrap();
    disk.run(&change.steps);
    assert_eq!(disk.opens("first"), [0]);
    assert_eq!(disk.opens("second"), [1]);
    assert_eq!(disk.opens("third"), [6]);
    assert_eq!(add(&change.header, "x", Some(6), Loss::Refused, random).unwrap_err(), ChangeError::InUse(6));
    assert_eq!(
        add(&change.header, "x", Some(8), Loss::Refused, random).unwrap_err(),
        ChangeError::NoSuchSlot(8)
    );

    let change =
        change.header.replace(&new_slot(&key, &phrase("fourth"), 10), &[0], &mut budget(), random).unwrap();
    disk.run(&change.steps);
    assert_eq!(disk.opens("fourth"), [2]);
    assert!(disk.opens("first").is_empty());

    let header = change.header;
    assert_eq!(header.erase(&[0], Loss::Refused, random).unwrap_err(), ChangeError::NotInUse(0));
    assert_eq!(header.erase(&[1, 2, 6], Loss::Refused, random).unwrap_err(), ChangeError::Last(6));
    let change = header.erase(&[1, 2], Loss::Refused, random).unwrap();
    disk.run(&change.steps);
    assert!(disk.opens("second").is_empty());
    assert_eq!(change.header.erase(&[6], Loss::Refused, random).unwrap_err(), ChangeError::Last(6));
    let change = change
        .header
        .add(&new_slot(&key, &phrase("fifth"), 10), Some(6), Loss::Allowed, &mut budget(), random)
        .unwrap();
    disk.run(&change.steps);
    assert!(disk.opens("third").is_empty());
    assert_eq!(disk.opens("fifth"), [6]);
    let change = change.header.erase(&[6], Loss::Allowed, random).unwrap();
    disk.run(&change.steps);
    assert_eq!(disk.header().unwrap().as_bytes(), change.header.as_bytes());
    let passphrase = phrase("fifth");
    let mut unlock = change.header.unlock(&passphrase, budget());
    assert_eq!(unlock.next_area(), None);
    assert_eq!(unlock.failed(), UnlockError::NoSlot);
}

#[test]
fn a_full_header_takes_no_other_slot() {
    let (_, key, mut header) = volume(&new_volume());
    let random = &mut Seeded(3);
    for _ in 1..SLOTS {
        header = header
            .add(&new_slot(&key, &phrase("x"), 1), None, Loss::Refused, &mut budget(), random)
            .unwrap()
            .header;
    }
    let error =
        header.add(&new_slot(&key, &phrase("x"), 1), None, Loss::Refused, &mut budget(), random).unwrap_err();
    assert_eq!(error, ChangeError::AllInUse);
    let error = header.replace(&new_slot(&key, &phrase("x"), 1), &[0], &mut budget(), random).unwrap_err();
    assert_eq!(error, ChangeError::AllInUse);
}

/// What a power cut can leave of some steps: all before the last flush that was done, and of what came after any
/// sectors, in any order.
fn disks_after_power_cuts(disk: &Disk, steps: &[Step], mut visit: impl FnMut(&Disk)) {
    let mut durable = disk.clone();
    for epoch in steps.split_inclusive(|step| *step == Step::Flush) {
        let sectors: Vec<(u64, &[u8])> = epoch
            .iter()
            .filter_map(|step| match step {
                Step::Write { offset, bytes } => Some((*offset, bytes)),
                Step::Flush => None,
            })
            .flat_map(|(offset, bytes)| {
                bytes.chunks(512).enumerate().map(move |(at, part)| (offset + at as u64 * 512, part))
            })
            .collect();
        // None, all, each alone, all but each; of a large epoch some of those.
        let stride = sectors.len().div_ceil(12).max(1);
        for at in (0..sectors.len()).step_by(stride) {
            let mut alone = durable.clone();
            alone.write(sectors[at].0, sectors[at].1);
            visit(&alone);
            let mut others = durable.clone();
            for (_, sector) in sectors.iter().enumerate().filter(|(other, _)| *other != at) {
                others.write(sector.0, sector.1);
            }
            visit(&others);
        }
        visit(&durable);
        durable.run(epoch);
        visit(&durable);
    }
}

#[test]
fn a_power_cut_in_a_change_locks_nobody_out() {
    for target in 1..SLOTS {
        let (mut disk, key, header) = volume(&new_volume());
        let random = &mut Seeded(target as u64);
        let keep = if target == 7 { 5 } else { 7 };
        let change = header
            .add(&new_slot(&key, &phrase("keeps"), 10), Some(keep), Loss::Refused, &mut budget(), random)
            .unwrap();
        disk.run(&change.steps);
        let header = change.header;

        let added = header
            .add(&new_slot(&key, &phrase("new"), 10), Some(target), Loss::Refused, &mut budget(), random)
            .unwrap();
        disks_after_power_cuts(&disk, &added.steps, |cut| {
            assert_eq!(cut.opens("first"), [0], "slot {target} added");
            assert_eq!(cut.opens("keeps"), [keep], "slot {target} added");
        });
        let mut done = disk.clone();
        done.run(&added.steps);
        let erased = added.header.erase(&[target], Loss::Refused, random).unwrap();
        disks_after_power_cuts(&done, &erased.steps, |cut| {
            assert_eq!(cut.opens("first"), [0], "slot {target} erased");
            assert_eq!(cut.opens("keeps"), [keep], "slot {target} erased");
        });
    }
}

#[test]
fn a_power_cut_in_a_replacement_leaves_the_old_or_the_new_passphrase() {
    let (disk, key, header) = volume(&new_volume());
    let change =
        header.replace(&new_slot(&key, &phrase("new"), 10), &[0], &mut budget(), &mut Seeded(9)).unwrap();
    disks_after_power_cuts(&disk, &change.steps, |cut| {
        assert!(cut.opens("first") == [0] || cut.opens("new") == [1]);
    });
}

#[test]
fn a_power_cut_while_the_only_slot_is_overwritten_leaves_the_old_or_the_new_passphrase() {
    let (disk, key, header) = volume(&new_volume());
    let phrase = phrase("new");
    for found_in in [Some(0), None] {
        let new = NewSlot { found_in, ..new_slot(&key, &phrase, 10) };
        let change = header.add(&new, Some(0), Loss::Allowed, &mut budget(), &mut Seeded(9)).unwrap();
        disks_after_power_cuts(&disk, &change.steps, |cut| {
            assert!(cut.opens("first") == [0] || !cut.opens("new").is_empty());
        });
        let mut done = disk.clone();
        done.run(&change.steps);
        assert_eq!((done.opens("first"), done.opens("new")), (vec![], vec![0]));
        assert!(change.header.slots().iter().skip(1).all(|slot| !slot.active), "the spare one is freed");
    }
}

#[test]
fn a_slot_of_a_full_header_is_overwritten_only_by_who_opens_another_one() {
    let (mut disk, key, mut header) = volume(&new_volume());
    let random = &mut Seeded(3);
    let other = phrase("other");
    for _ in 1..SLOTS {
        let new = new_slot(&key, &other, 1);
        let change = header.add(&new, None, Loss::Refused, &mut budget(), random).unwrap();
        disk.run(&change.steps);
        header = change.header;
    }
    let phrase = phrase("new");
    let mut add = |found_in| {
        let new = NewSlot { found_in, ..new_slot(&key, &phrase, 1) };
        header.add(&new, Some(3), Loss::Allowed, &mut budget(), random)
    };
    assert_eq!(add(None).unwrap_err(), ChangeError::NoSpare(3));
    assert_eq!(add(Some(3)).unwrap_err(), ChangeError::NoSpare(3));
    let change = add(Some(0)).unwrap();
    disks_after_power_cuts(&disk, &change.steps, |cut| assert_eq!(cut.opens("first"), [0]));
    disk.run(&change.steps);
    assert_eq!(disk.opens("new"), [3]);
}

#[test]
fn a_power_cut_while_a_volume_is_made_leaves_none_or_a_whole_one() {
    let (_, change) = create(&new_volume(), &phrase("first"), &mut budget(), &mut Seeded(1)).unwrap();
    disks_after_power_cuts(&Disk(vec![0; 4096]), &change.steps, |cut| {
        assert!(cut.header().is_err() || cut.opens("first") == [0]);
    });
}

#[test]
fn a_damaged_slot_is_told_of_and_the_others_open() {
    let (mut disk, key, header) = volume(&new_volume());
    let change = header
        .add(&new_slot(&key, &phrase("second"), 10), Some(1), Loss::Refused, &mut budget(), &mut Seeded(4))
        .unwrap();
    disk.run(&change.steps);
    let slot = |number: u64| 208 + 48 * number;
    for (at, value, fault) in [
        (0, 7_u32, SlotFault::State(7)),
        (4, 0, SlotFault::NoIterations),
        (40, 1, SlotFault::InsideHeader(512)),
        (40, 0x00ff_0000, SlotFault::InsidePayload { end: 0x1_fe01_f400, payload: 1052672 }),
        (40, header.slots()[1].offset as u32 / 512, SlotFault::Overlap(1)),
        (44, 0, SlotFault::Stripes(0)),
        (44, u32::MAX, SlotFault::Stripes(u32::MAX)),
    ] {
        let mut damaged = disk.clone();
        damaged.write(slot(0) + at, &value.to_be_bytes());
        let header = damaged.header().unwrap();
        assert_eq!(header.slots()[0].fault, Some(fault.clone()));
        if fault != SlotFault::Overlap(1) {
            assert_eq!(damaged.opens("second"), [1], "{fault}");
            let error = header.erase(&[1], Loss::Refused, &mut Seeded(5)).unwrap_err();
            assert_eq!(error, ChangeError::Last(1), "a damaged slot opens nothing");
        }
        let error = header.erase(&[0], Loss::Allowed, &mut Seeded(5)).unwrap_err();
        assert_eq!(error, ChangeError::Damaged { slot: 0, fault });
    }
}

#[test]
fn a_damaged_header_says_where() {
    let (disk, ..) = volume(&new_volume());
    let error = |at: u64, bytes: &[u8]| {
        let mut damaged = disk.clone();
        damaged.write(at, bytes);
        damaged.header().unwrap_err()
    };
    assert_eq!(error(0, b"X"), HeaderError::Magic);
    assert_eq!(error(6, &[0, 2]), HeaderError::Version(2));
    assert_eq!(error(8, b"\n"), HeaderError::Text { field: "cipher name", at: 8 });
    assert_eq!(error(40, &[b'x'; 32]), HeaderError::Text { field: "cipher mode", at: 40 });
    assert_eq!(
        error(8, b"idea").to_string().split(';').next(),
        Some("the volume can't be opened: cipher 'idea' is not known")
    );
    assert!(matches!(error(72, b"whirlpool"), HeaderError::Hash(_)));
    assert_eq!(error(104, &1_u32.to_be_bytes()), HeaderError::PayloadInside(512));
    assert!(matches!(error(104, &[255; 4]), HeaderError::PayloadOutside { .. }));
    assert!(matches!(error(108, &[255; 4]), HeaderError::Cipher(_)));
    assert_eq!(error(164, &[0; 4]), HeaderError::NoIterations);
    assert_eq!(Header::parse(&disk.0[..591], 591).unwrap_err(), HeaderError::TooShort(591));
}

#[test]
fn a_slot_that_asks_for_too_much_work_is_passed_over() {
    let (mut disk, key, header) = volume(&new_volume());
    let change = header
        .add(&new_slot(&key, &phrase("second"), 10), Some(1), Loss::Refused, &mut budget(), &mut Seeded(4))
        .unwrap();
    disk.run(&change.steps);
    disk.write(208 + 4, &u32::MAX.to_be_bytes());
    assert_eq!(disk.opens("second"), [1]);
    let (header, passphrase) = (disk.header().unwrap(), phrase("first"));
    let mut unlock = header.unlock(&passphrase, budget());
    while let Some(area) = unlock.next_area() {
        let material = &disk.0[area.offset as usize..][..area.len];
        assert!(unlock.offer(area, material).unwrap().is_none());
    }
    let text = unlock.failed().to_string();
    assert!(text.starts_with("the passphrase opens none of the key slots 1; not tried: slot 0: "), "{text}");
}

proptest! {
    /// Whatever a header says, reading it and trying a passphrase ends soon and never panics.
    #[test]
    fn mutated_headers_are_read_or_refused(
        places in prop::collection::vec((0_usize..592, any::<u8>()), 1..12),
        word in (0_usize..148, prop::sample::select(vec![0, 1, 2, 8, 0xffff_ffff_u32, 0x8000_0000, 0x7fff_ffff, 0x00ac_71f3])),
        len in prop::sample::select(vec![0, 592, 4096, 1 << 21, u64::MAX]),
    ) {
        let (_, _, header) = volume(&new_volume());
        let mut raw = header.as_bytes().to_vec();
        for (at, value) in places {
            raw[at] = value;
        }
        raw[word.0 * 4..][..4].copy_from_slice(&word.1.to_be_bytes());
        if let Ok(header) = Header::parse(&raw, len) {
            let limits = Limits { slot_rounds: 1000, rounds: 4000, ..Limits::default() };
            let passphrase = phrase("p");
            let mut unlock = header.unlock(&passphrase, Budget::new(limits, &|| false));
            while let Some(area) = unlock.next_area() {
                prop_assert!(area.len <= 4 << 20);
                prop_assert!(unlock.offer(area, &vec![0; area.len])?.is_none());
            }
            unlock.failed();
            let key = Key::new(vec![1; header.spec().key_len()]);
            let added = header.add(&new_slot(&key, &passphrase, 1), None, Loss::Refused, &mut budget(), &mut Seeded(1));
            if let Ok(change) = added {
                prop_assert_ne!(change.header.as_bytes(), header.as_bytes());
            }
        }
    }
}
