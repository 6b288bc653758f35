//! qcow2 through crashes: thousands of power cuts and kills, at every moment a disk changes, with small clusters so that
//! metadata is dense. `QCOW2_CRASH_SEED` runs one seed, `QCOW2_CRASH_COUNT` so many; `QCOW2_ALL_POINTS` makes a long run of
//! all kinds of test by turns.

use block::{ErrorKind, NewBitmap, Opt, Options};
use rt::BoxFuture;
use sim::{Disk, EIO, ENOSPC, OpKind, Plant, Rng, World};
use testkit::chance;
use testkit::crash::{
    CrashTest, Kind, inspect_qcow2, inspect_qcow2_v2, run_kinds, run_seeds, share_with_snapshot,
};
use testkit::guest::{Faults, Mix, Plan};
use testkit::stack::{Session, Stack, TestImage};

const CLUSTERS: [&str; 4] = ["512", "1024", "2048", "4096"];
const REFCOUNT_BITS: [&str; 7] = ["1", "2", "4", "8", "16", "32", "64"];

/// An image of any cluster size, refcount width and version.
fn qcow2(rng: &mut Rng, file: &'static str, size: u64) -> TestImage {
    let image = TestImage::new("qcow2", file, size);
    if rng.chance(1, 4) {
        // Subclusters of one sector or two.
        let cluster = rng.pick(&["16384", "32768"]).unwrap_or("16384");
        return image.with("extended_l2", "on").with("cluster_size", cluster);
    }
    let image = image.with("cluster_size", CLUSTERS[rng.index(4)]);
    let image = match rng.below(5) {
        0 => return image.with("compat", "0.10"),
        1 => image,
        _ => image.with("refcount_bits", REFCOUNT_BITS[rng.index(7)]),
    };
    if rng.chance(1, 5) { image.with("lazy_refcounts", "on") } else { image }
}

fn any_plan(rng: &mut Rng, size: u64) -> Plan {
    let depth = 1 + rng.below(8);
    let mix = match rng.below(3) {
        0 => Mix::ALL,
        // Allocation and freeing, over and over.
        1 => Mix { read: 2, write: 8, zero: 6, discard: 6, flush: 3, resize: 0, fua: 10, compressed: 0 },
        _ => Mix { read: 4, write: 12, zero: 1, discard: 1, flush: 2, resize: 0, fua: 10, compressed: 0 },
    };
    let span = if rng.chance(1, 3) { 16 } else { 0 };
    Plan {
        requests: 48 / depth,
        depth,
        mix,
        longest: 1 + rng.below(20),
        span,
        largest: 2 * size / 512,
        faults: Faults::None,
    }
}

fn any_test(seed: u64) -> CrashTest {
    let mut rng = Rng::new(seed);
    let size = 16 << 10 << rng.below(4);
    let drivers = [protocols::DRIVERS, filters::DRIVERS, formats::DRIVERS];
    let stack = chance::overlay(&mut rng, &drivers, size, qcow2);
    CrashTest {
        config: chance::machine(&mut rng),
        inspect: Some(inspect_qcow2),
        reopen_every: 10,
        ..CrashTest::new(stack, any_plan(&mut rng, size))
    }
}

#[test]
fn what_was_flushed_is_there_after_any_crash_and_no_sector_shows_anothers_data() {
    run_seeds("QCOW2_CRASH", 600, any_test);
}

/// A test whose top image has these methods of encryption.
fn encrypted(seed: u64, method: &str) -> CrashTest {
    let mut test = any_test(seed);
    if let Some((top, below)) = test.stack.images.split_last() {
        let top = top
            .clone()
            .with("encrypt.format", method)
            .with("encrypt.key-secret", "s")
            .opened_with("encrypt.key-secret", "s");
        let top = if method == "luks" { top.with("encrypt.iter-time", "0") } else { top };
        let images = [below, &[top]].concat();
        let stack = Stack::of("encrypted qcow2", &test.stack.drivers, images);
        test.stack = Stack { secrets: vec![("s", "a passphrase"), ("t", "another one")], ..stack };
    }
    CrashTest { inspect: None, moments: 12, reopen_every: 1, ..test }
}

fn with_encryption(seed: u64) -> CrashTest {
    encrypted(seed, if seed.is_multiple_of(3) { "aes" } else { "luks" })
}

/// What is written in place, what is copied around a short write, and zeroes as data, all encrypted.
#[test]
fn an_encrypted_image_keeps_what_was_flushed_through_every_crash() {
    run_seeds("QCOW2_ENCRYPTED", 60, with_encryption);
}

fn with_key_slots(seed: u64) -> CrashTest {
    CrashTest { beside: Some(change_key_slots), ..encrypted(seed, "luks") }
}

#[test]
fn the_owner_of_an_encrypted_image_opens_it_after_any_crash_amid_changes_of_other_key_slots() {
    run_seeds("QCOW2_KEY_SLOTS", 20, with_key_slots);
}

/// Adds a passphrase and takes it away again, now and then.
fn change_key_slots(session: Session, world: World) -> BoxFuture<'static, block::Result<()>> {
    Box::pin(async move {
        let mut rng = world.rng();
        let text = |text: &str| Opt::Str(text.to_owned());
        for round in 0..4 {
            for _ in 0..rng.below(12) {
                rt::yield_now().await;
            }
            let options = match round % 2 {
                0 => Options::new()
                    .with("encrypt.state", text("active"))
                    .with("encrypt.new-secret", text("t"))
                    .with("encrypt.iter-time", Opt::Uint(0)),
                _ => Options::new()
                    .with("encrypt.state", text("inactive"))
                    .with("encrypt.old-secret", text("t")),
            };
            session.graph.amend(&session.node, options, false, &|_, _| {}).await?;
        }
        Ok(())
    })
}

fn with_compression(seed: u64) -> CrashTest {
    let mut test = any_test(seed);
    test.plan.mix.compressed = 60;
    if let Some(top) = test.stack.images.last_mut()
        && seed.is_multiple_of(3)
        && top.options.get_str("compat") != Some("0.10")
    {
        top.options.set("compression_type", Opt::Str("zstd".to_owned()));
    }
    if seed % 4 == 1 {
        // All data, by a filter that stores parts of clusters anew with what is around them.
        let below = Opt::Dict(std::mem::take(&mut test.stack.top));
        test.stack.top = Options::new().with_str("driver", "compress").with("file", below);
    }
    test
}

#[test]
fn compressed_clusters_share_their_space_and_come_and_go_one_by_one_through_any_crash() {
    run_seeds("QCOW2_COMPRESSED", 300, with_compression);
}

fn over_a_snapshot(seed: u64) -> CrashTest {
    let mut test = any_test(seed);
    // Counts of one bit can't share; the first refcount block must have room for the snapshot's tables.
    if let Some(top) = test.stack.images.last_mut() {
        top.options.take("refcount_bits");
        if top.options.get_str("compat") == Some("0.10") {
            // Snapshots of version 2 don't say how large the disk was.
            test.plan.mix.resize = 0;
        }
        if top.options.get_str("extended_l2").is_none() {
            top.options.set("cluster_size", Opt::Str("4096".to_owned()));
        }
    }
    test.prepare = Some(share_with_snapshot);
    test.plan.mix.compressed = 30 * (seed % 2);
    test
}

#[test]
fn clusters_shared_with_an_internal_snapshot_are_copied_and_the_snapshot_never_changes() {
    run_seeds("QCOW2_SNAPSHOT", 360, over_a_snapshot);
}

fn with_data_file(seed: u64) -> CrashTest {
    let mut test = any_test(seed);
    let mut rng = Rng::new(!seed);
    if let Some(top) = test.stack.images.last_mut() {
        top.options.take("compat");
        top.options.set("data_file", Opt::Str("/data".to_owned()));
        if top.options.get_str("backing_file").is_none() && rng.chance(1, 2) {
            top.options.set("data_file_raw", Opt::Str("on".to_owned()));
            // What a raw data file has behind the end is the disk's when it grows, be it left by a cut off shrink.
            test.plan.mix.resize = 0;
        }
    }
    test
}

#[test]
fn guest_data_in_a_file_of_its_own_survives_as_what_is_in_the_image() {
    run_seeds("QCOW2_DATA_FILE", 300, with_data_file);
}

/// A test whose top image has subclusters.
fn with_subclusters(seed: u64) -> CrashTest {
    let mut test = any_test(seed);
    if let Some(top) = test.stack.images.last_mut() {
        top.options.take("compat");
        top.options.set("extended_l2", Opt::Str("on".to_owned()));
        let cluster = if seed.is_multiple_of(2) { "16384" } else { "32768" };
        top.options.set("cluster_size", Opt::Str(cluster.to_owned()));
    }
    test
}

/// A test of a disk with so many clusters, and so few to a refcount block, that the refcount table grows.
fn with_many_clusters(seed: u64) -> CrashTest {
    let mut test = any_test(seed);
    let image = TestImage::new("qcow2", "/top", 2304 << 10).with("cluster_size", "512");
    let image = image.with("refcount_bits", "64");
    test.stack = Stack::of(
        "qcow2 of many clusters",
        &[protocols::DRIVERS, filters::DRIVERS, formats::DRIVERS],
        vec![image],
    );
    test.plan.mix =
        Mix { read: 1, write: 20, zero: 1, discard: 1, flush: 4, resize: 1, fua: 10, compressed: 0 };
    (test.plan.longest, test.plan.span, test.plan.largest) = (600, 0, 6000);
    // Each look at so many clusters takes long.
    CrashTest { moments: 8, crashes: 1, ..test }
}

#[test]
fn tables_that_grow_lose_nothing_through_any_crash() {
    run_seeds("QCOW2_GROWTH", 20, with_many_clusters);
}

/// A test in which the image becomes another one beside the guest, and so may be of any width of counts and any version.
fn with_amendments(seed: u64) -> CrashTest {
    CrashTest { beside: Some(amend), ..any_test(seed) }
}

#[test]
fn an_image_that_is_amended_amid_requests_is_the_old_one_or_the_new_one_and_shows_the_same() {
    run_seeds("QCOW2_AMEND", 120, with_amendments);
}

/// Changes the version, the width of refcounts and whether they are lazy, now and then.
fn amend(session: Session, world: World) -> BoxFuture<'static, block::Result<()>> {
    Box::pin(async move {
        let mut rng = world.rng();
        let text = |text: &str| Opt::Str(text.to_owned());
        for _ in 0..2 + rng.below(5) {
            for _ in 0..rng.below(12) {
                rt::yield_now().await;
            }
            let options = match rng.below(4) {
                0 => Options::new().with("compat", text("1.1")),
                1 => Options::new()
                    .with("compat", text("0.10"))
                    .with("refcount_bits", Opt::Uint(16))
                    .with("lazy_refcounts", Opt::Bool(false)),
                2 => Options::new().with("refcount_bits", Opt::Uint(1 << rng.below(7))),
                _ => Options::new().with("lazy_refcounts", Opt::Bool(rng.chance(1, 2))),
            };
            match session.graph.amend(&session.node, options, false, &|_, _| {}).await {
                // Version 2 has one width of counts only, and no subclusters.
                Err(error) if matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Unsupported) => {}
                done => done?,
            }
        }
        Ok(())
    })
}

/// A test whose image can have snapshots.
fn with_snapshots(seed: u64) -> CrashTest {
    let mut test = any_test(seed);
    let mut rng = Rng::new(!seed);
    let mut reopen_every = 10;
    if let Some(top) = test.stack.images.last_mut() {
        // Counts of one bit can't share.
        if top.options.get_str("refcount_bits") == Some("1") {
            top.options.take("refcount_bits");
        }
        if top.options.get_str("compat") == Some("0.10") {
            // A check of ours tells of COPIED that does not agree with the count.
            test.inspect = Some(inspect_qcow2_v2);
            reopen_every = 0;
            test.plan.mix.resize = 0;
        }
    }
    CrashTest { snapshots: 2 + rng.below(6), reopen_every, ..test }
}

#[test]
fn snapshots_made_applied_and_deleted_amid_requests_are_there_as_a_whole_or_not_at_all() {
    run_seeds("QCOW2_SNAPSHOTS", 300, with_snapshots);
}

#[test]
fn after_any_one_failed_operation_snapshots_are_what_they_were_or_what_they_were_to_be() {
    run_seeds("QCOW2_SNAPSHOTS_FAULT", 300, with_snapshots_and_a_fault);
}

fn with_snapshots_and_a_fault(seed: u64) -> CrashTest {
    let mut test = with_snapshots(seed);
    let mut rng = Rng::new(seed.rotate_left(32));
    let kinds = [OpKind::Sync, OpKind::Write, OpKind::Write, OpKind::SetLen, OpKind::Read, OpKind::Read];
    plant_one(&mut test, &mut rng, &kinds, 40);
    test
}

/// Has one operation of these kinds fail once, or three in a row: one of the first 150 writes, or of the first `most` others.
fn plant_one(test: &mut CrashTest, rng: &mut Rng, kinds: &[OpKind], most: u64) {
    let kind = rng.pick(kinds).unwrap_or(OpKind::Sync);
    let most = if kind == OpKind::Write { 150 } else { most };
    let errno = if rng.chance(1, 3) && kind != OpKind::Sync { ENOSPC } else { EIO };
    let times = if rng.chance(1, 4) { 3 } else { 1 };
    test.faults = vec![Plant { times, ..Plant::nth_of(kind, rng.below(most), errno) }];
    test.plan.faults = if kind == OpKind::Sync { Faults::Syncs } else { Faults::Some };
}

/// Where what the disk showed before its first write is kept.
const FIRST: &str = "/first";

/// Gives the image a bitmap that says that nothing has changed.
fn add_bitmap(stack: &Stack, disk: &mut Disk) -> Result<(), String> {
    let mut bytes = disk.content("/top").ok_or("no image")?.to_vec();
    disk.put(FIRST, &inspect_qcow2(stack, disk, false)?);
    testkit::qcow2::add_bitmap(&mut bytes)?;
    disk.put("/top", &bytes);
    inspect_qcow2(stack, disk, true).map(drop)
}

/// A bitmap that is not in use has all that was changed since it was empty.
fn inspect_with_bitmap(stack: &Stack, disk: &Disk, settled: bool) -> Result<Vec<u8>, String> {
    let shown = inspect_qcow2(stack, disk, settled)?;
    let bytes = disk.content("/top").ok_or("no image")?.to_vec();
    let first = disk.content(FIRST).ok_or("not prepared")?.to_vec();
    let bitmaps = testkit::qcow2::bitmaps(&bytes)?;
    if settled && bitmaps.iter().all(|bitmap| bitmap.in_use) {
        return Err("no bitmap was stored".to_owned());
    }
    for bitmap in bitmaps.iter().filter(|bitmap| !bitmap.in_use && bitmap.auto) {
        for (chunk, (then, now)) in first.chunks(512).zip(shown.chunks(512)).enumerate() {
            let chunk = chunk * 512 / bitmap.granularity as usize;
            let dirty = bitmap.bits.get(chunk / 8).is_some_and(|bits| bits >> (chunk % 8) & 1 == 1);
            if then != now && !dirty {
                let name = String::from_utf8_lossy(&bitmap.name);
                return Err(format!("chunk {chunk} has changed, and the bitmap '{name}' does not say so"));
            }
        }
    }
    Ok(shown)
}

fn with_bitmap(seed: u64) -> CrashTest {
    let mut test = any_test(seed);
    let image =
        TestImage::new("qcow2", "/top", 64 << 10).with("cluster_size", CLUSTERS[1 + seed as usize % 3]);
    test.stack = Stack::of(
        "qcow2 with a bitmap",
        &[protocols::DRIVERS, filters::DRIVERS, formats::DRIVERS],
        vec![image],
    );
    // What is cut off and comes again is another disk's.
    test.plan.mix.resize = 0;
    CrashTest { prepare: Some(add_bitmap), inspect: Some(inspect_with_bitmap), moments: 40, ..test }
}

#[test]
fn a_bitmap_has_every_change_since_it_was_empty_or_says_that_it_was_in_use() {
    run_seeds("QCOW2_BITMAP", 120, with_bitmap);
}

#[test]
fn bitmaps_that_come_and_go_beside_the_guest_have_every_change_or_say_that_they_were_in_use() {
    run_seeds("QCOW2_BITMAPS", 60, with_bitmaps);
}

fn with_bitmaps(seed: u64) -> CrashTest {
    CrashTest { beside: Some(change_bitmaps), ..with_bitmap(seed) }
}

/// Adds and removes bitmaps; each new one takes over what the first one has.
fn change_bitmaps(session: Session, _: World) -> BoxFuture<'static, block::Result<()>> {
    Box::pin(async move {
        let node = session.backend.node();
        for round in 0..6 {
            let new = NewBitmap {
                name: format!("b{round}"),
                granularity: Some(512 << (round % 3)),
                persistent: true,
                enabled: true,
            };
            let added = node.add_bitmap(new)?;
            node.merge_bitmaps(&added, &[node.need_bitmap("b")?])?;
            rt::yield_now().await;
            if round % 2 == 1 {
                let older = node.need_bitmap(&format!("b{}", round - 1))?;
                node.remove_bitmap(&older).await?;
            }
        }
        Ok(())
    })
}

#[test]
fn a_bitmap_that_can_not_be_stored_is_lost_and_nothing_else() {
    run_seeds("QCOW2_BITMAP_FAULT", 120, with_bitmap_and_a_fault);
}

fn with_bitmap_and_a_fault(seed: u64) -> CrashTest {
    let mut rng = Rng::new(!seed);
    let kinds = [OpKind::Sync, OpKind::Write, OpKind::Write, OpKind::Read, OpKind::SetLen];
    let kind = rng.pick(&kinds).unwrap_or(OpKind::Sync);
    let errno = if rng.chance(1, 2) && kind != OpKind::Sync { ENOSPC } else { EIO };
    let mut test = with_bitmap(seed);
    test.plan.requests = test.plan.requests.min(8);
    test.faults = vec![Plant { times: 2, ..Plant::nth_of(kind, rng.below(40), errno) }];
    test.plan.faults = if kind == OpKind::Sync { Faults::Syncs } else { Faults::Some };
    test
}

#[test]
fn after_any_one_failed_operation_nothing_flushed_is_lost_and_nothing_becomes_corrupt() {
    run_seeds("QCOW2_FAULT", 600, with_a_fault);
}

fn with_a_fault(seed: u64) -> CrashTest {
    let mut test = any_test(seed);
    let mut rng = Rng::new(!seed);
    let kinds = [OpKind::Sync, OpKind::Write, OpKind::Write, OpKind::Allocate, OpKind::SetLen, OpKind::Read];
    plant_one(&mut test, &mut rng, &kinds, 30);
    test
}

#[test]
fn after_a_failed_fsync_no_flush_and_no_fua_write_is_answered_as_durable() {
    run_seeds("QCOW2_FSYNC", 360, |seed| {
        let mut test = any_test(seed);
        test.plan.mix =
            Mix { read: 1, write: 10, zero: 2, discard: 2, flush: 5, resize: 0, fua: 40, compressed: 0 };
        test.plan.span = 24;
        test.plan.faults = Faults::Syncs;
        test.faults = vec![Plant::nth_of(OpKind::Sync, seed % 12, EIO)];
        CrashTest { crashes: 4, ..test }
    });
}

#[test]
fn a_full_file_system_costs_nothing_that_was_accepted_and_no_flush_fails() {
    run_seeds("QCOW2_FULL", 600, on_a_full_file_system);
}

fn on_a_full_file_system(seed: u64) -> CrashTest {
    let mut test = any_test(seed);
    let mut rng = Rng::new(!seed);
    test.plan.faults = Faults::Full;
    // So large that tables have pages of the file system to themselves, which a sparse copy may lack.
    if let Some(top) = test.stack.images.last_mut() {
        let cluster = rng.pick(&["4096", "8192", "16384"]).unwrap_or("4096");
        if top.options.get_str("extended_l2").is_none() {
            top.options.set("cluster_size", Opt::Str(cluster.to_owned()));
        }
    }
    test.room = Some(rng.below(test.stack.size() / 2));
    test.sparse = rng.chance(1, 2);
    test
}

/// What a long run tries by turns.
const KINDS: [Kind<'static>; 16] = [
    ("plain", &any_test),
    ("plain, a fault", &with_a_fault),
    ("subclusters", &with_subclusters),
    ("compressed", &with_compression),
    ("data file", &with_data_file),
    ("over a snapshot", &over_a_snapshot),
    ("snapshots", &with_snapshots),
    ("snapshots, a fault", &with_snapshots_and_a_fault),
    ("bitmap", &with_bitmap),
    ("bitmaps", &with_bitmaps),
    ("bitmap, a fault", &with_bitmap_and_a_fault),
    ("amended", &with_amendments),
    ("encrypted", &with_encryption),
    ("key slots", &with_key_slots),
    ("many clusters", &with_many_clusters),
    ("full file system", &on_a_full_file_system),
];

#[test]
fn every_kind_of_change_has_its_turn_in_a_long_run() {
    run_kinds("QCOW2_ALL", KINDS.len() as u64, &KINDS);
}
