//! Key slots through power cuts: whoever has a passphrase that opens the image before a change, and is meant to open it
//! afterwards, is locked out at no instant; and what it opens shows the data.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use block::{ErrorKind, Opt, Options};
use parking_lot::Mutex;
use sim::{Config, Disk, Rng, Sim};
use std::sync::Arc;
use testkit::stack::{Stack, TestImage};

const SIZE: u64 = 64 << 10;

/// Power cuts tried at each moment at which the disk changes.
const CUTS: usize = 4;

/// The formats, each with what stands before the names of its options.
const FORMATS: [(&str, &str); 2] = [("luks", ""), ("qcow2", "encrypt.")];

/// An image that is opened by one of the secrets `old` and `new`.
fn stack((format, prefix): (&'static str, &str), secret: &str) -> Stack {
    let key = format!("{prefix}key-secret");
    let image = TestImage::new(format, "/image", SIZE)
        .with(&key, "old")
        .with(&format!("{prefix}iter-time"), "0")
        .opened_with(&key, secret);
    let image = if format == "qcow2" { image.with("encrypt.format", "luks") } else { image };
    let drivers = [protocols::DRIVERS, formats::DRIVERS];
    Stack {
        secrets: vec![("old", "a passphrase"), ("new", "another one")],
        ..Stack::of(format, &drivers, vec![image])
    }
}

fn boot(disk: &Disk, seed: u64) -> Sim {
    Sim::boot(Config::seeded(seed), disk.clone())
}

/// The disk of a new image with data in it.
fn made(format: (&'static str, &'static str)) -> Disk {
    let sim = boot(&Disk::default(), 1);
    sim.run(async move {
        let stack = stack(format, "old");
        stack.create().await.unwrap();
        let session = stack.open().await.unwrap();
        session.write(0, &[7; 4096], true).await.unwrap();
        session.close().await.unwrap();
    });
    sim.world().disk()
}

/// Changes key slots; answers the disks that power cuts on the way leave, and the last one, or the error.
fn amended(
    disk: &Disk,
    format: (&'static str, &'static str),
    (secret, options, force): (&'static str, &[(&str, Opt)], bool),
    seed: u64,
) -> (Vec<Disk>, Result<Disk, ErrorKind>) {
    let sim = boot(disk, seed);
    let left = Arc::new(Mutex::new(Vec::new()));
    let (kept, mut rng) = (left.clone(), Rng::new(seed));
    let options = options
        .iter()
        .fold(Options::new(), |all, (name, value)| all.with(&format!("{}{name}", format.1), value.clone()));
    let world = sim.world().clone();
    let changed = sim.run(async move {
        let session = stack(format, secret).open().await.unwrap();
        world.watch(Some(Box::new(move |_, disk| {
            kept.lock().extend((0..CUTS).map(|_| disk.power_cut(&mut rng)));
        })));
        let changed = session.graph.amend(&session.node, options, force, &|_, _| {}).await;
        world.watch(None);
        session.close().await.unwrap();
        changed
    });
    let disks = std::mem::take(&mut *left.lock());
    (disks, changed.map(|()| sim.world().disk()).map_err(|e| e.kind()))
}

/// Whether a secret opens the image; then it must show the data.
fn opens(disk: &Disk, format: (&'static str, &'static str), secret: &'static str) -> bool {
    boot(disk, 1).run(async move {
        match stack(format, secret).open_read_only().await {
            Ok(session) => {
                assert_eq!(session.read(0, 4096).await.unwrap(), vec![7; 4096]);
                session.close().await.unwrap();
                true
            }
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::Permission, "{e}");
                false
            }
        }
    })
}

fn text(text: &str) -> Opt {
    Opt::Str(text.to_owned())
}

#[test]
fn an_interrupted_change_of_key_slots_locks_nobody_out() {
    for format in FORMATS {
        let disk = made(format);
        let add = [("state", text("active")), ("new-secret", text("new")), ("iter-time", Opt::Uint(0))];
        let (left, added) = amended(&disk, format, ("old", &add, false), 3);
        let added = added.unwrap();
        assert!(left.len() > 4 * CUTS && !opens(&disk, format, "new"));
        assert!(left.iter().all(|disk| opens(disk, format, "old")), "{format:?}: added");
        assert!(opens(&added, format, "old") && opens(&added, format, "new"));

        let erase = [("state", text("inactive")), ("old-secret", text("old"))];
        let (left, erased) = amended(&added, format, ("new", &erase, false), 5);
        let erased = erased.unwrap();
        assert!(left.len() >= 3 * CUTS);
        assert!(left.iter().all(|disk| opens(disk, format, "new")), "{format:?}: erased");
        assert!(!opens(&erased, format, "old") && opens(&erased, format, "new"));

        // A slot in use is overwritten by force alone; the passphrase of the other one opens all the time.
        let over = [&add[..], &[("keyslot", Opt::Uint(0))]].concat();
        let (left, refused) = amended(&added, format, ("old", &over, false), 7);
        assert!(refused.is_err() && left.is_empty());
        let (left, forced) = amended(&added, format, ("old", &over, true), 7);
        assert!(
            left.iter().chain([&forced.unwrap()]).all(|disk| opens(disk, format, "new")),
            "{format:?}: forced"
        );
    }
}

#[test]
fn the_only_key_slot_is_overwritten_by_way_of_a_free_one() {
    for format in FORMATS {
        let disk = made(format);
        let over = [
            ("state", text("active")),
            ("new-secret", text("new")),
            ("iter-time", Opt::Uint(0)),
            ("keyslot", Opt::Uint(0)),
        ];
        for seed in [3, 5] {
            let (left, forced) = amended(&disk, format, ("old", &over, true), seed);
            assert!(left.len() > 8 * CUTS);
            for cut in &left {
                assert!(opens(cut, format, "old") || opens(cut, format, "new"), "{format:?}: locked out");
            }
            let forced = forced.unwrap();
            assert!(!opens(&forced, format, "old") && opens(&forced, format, "new"));
        }
    }
}

#[test]
fn the_last_key_slot_goes_by_force_alone() {
    for format in FORMATS {
        let disk = made(format);
        for erase in [
            &[("state", text("inactive")), ("old-secret", text("old"))][..],
            &[("state", text("inactive")), ("keyslot", Opt::Uint(0))],
        ] {
            let (left, refused) = amended(&disk, format, ("old", erase, false), 3);
            assert!(refused.is_err() && left.is_empty(), "{format:?}");
            let (_, erased) = amended(&disk, format, ("old", erase, true), 3);
            assert!(!opens(&erased.unwrap(), format, "old"), "{format:?}");
        }
    }
}

#[test]
fn what_is_asked_wrongly_changes_nothing() {
    for format in FORMATS {
        let disk = made(format);
        for wrong in [
            &[("state", text("active"))][..],
            &[("state", text("active")), ("new-secret", text("none"))],
            &[("state", text("active")), ("new-secret", text("new")), ("old-secret", text("old"))],
            &[("state", text("active")), ("new-secret", text("new")), ("keyslot", Opt::Uint(8))],
            &[("state", text("inactive"))],
            &[("state", text("inactive")), ("old-secret", text("new"))],
            &[("state", text("inactive")), ("keyslot", Opt::Uint(3))],
            &[("state", text("inactive")), ("old-secret", text("old")), ("new-secret", text("new"))],
            &[("state", text("asleep"))],
        ] {
            let (left, refused) = amended(&disk, format, ("old", wrong, true), 3);
            assert!(refused.is_err() && left.is_empty(), "{format:?} {wrong:?}");
        }
    }
}
