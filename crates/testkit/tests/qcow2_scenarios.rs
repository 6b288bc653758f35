//! Named scenarios: what has gone wrong in other block layers, each tried in every way that a small scope has.
#![expect(clippy::panic, reason = "a failed scenario is a failed test")]

use block::{BlockError, Request, Result};
use rt::BufMut;
use sim::{Config, Disk, Fault, OpKind, Plant, Sim, World};
use std::time::Duration;
use testkit::crash::inspect_qcow2;
use testkit::long::{number, on_all_cores};
use testkit::scope::{Op, SmallScope};
use testkit::stack::{Stack, TestImage};

/// An image of `cluster` bytes a cluster, with room for 64 sectors.
fn stack(cluster: &str) -> Stack {
    let image = TestImage::new("qcow2", "/top", 32 << 10).with("cluster_size", cluster);
    Stack::of("qcow2", &[protocols::DRIVERS, formats::DRIVERS], vec![image])
}

/// An image of 2 clusters of 32 subclusters of a sector, over a backing image of the same size.
fn with_subclusters() -> Stack {
    let top = TestImage::new("qcow2", "/top", 32 << 10).with("cluster_size", "16384");
    let top = top.with("extended_l2", "on").with("backing_file", "/base").with("backing_fmt", "raw");
    let base = TestImage::new("raw", "/base", 32 << 10);
    Stack::of("qcow2 with subclusters", &[protocols::DRIVERS, formats::DRIVERS], vec![base, top])
}

fn over_backing(cluster: &str) -> Stack {
    let base = TestImage::new("raw", "/base", 32 << 10);
    let top = TestImage::new("qcow2", "/top", 32 << 10).with("cluster_size", cluster);
    let top = top.with("backing_file", "/base").with("backing_fmt", "raw");
    Stack::of("qcow2 over raw", &[protocols::DRIVERS, formats::DRIVERS], vec![base, top])
}

fn scope(stack: Stack, before: &[Op], tasks: &[&[Op]]) -> SmallScope {
    let (before, tasks) = (before.to_vec(), tasks.iter().map(|ops| ops.to_vec()).collect());
    SmallScope { before, tasks, most: 512, ..SmallScope::new(stack, inspect_qcow2) }
}

fn explore(stack: Stack, before: &[Op], tasks: &[&[Op]], seeds: u64) {
    explore_scope(&scope(stack, before, tasks), seeds);
}

fn explore_scope(scope: &SmallScope, seeds: u64) {
    let disks: u64 = (1..=seeds).map(|seed| scope.run(seed).unwrap_or_else(|text| panic!("{text}"))).sum();
    println!("{disks} disks looked at");
}

#[test]
fn a_write_and_a_write_of_zeroes_at_once_on_one_cluster_leave_one_reference_to_each_cluster() {
    for before in [&[][..], &[Op::Write(8, 8)]] {
        explore(stack("4096"), before, &[&[Op::Write(8, 8)], &[Op::Zero(8, 8)]], 30);
        explore(stack("4096"), before, &[&[Op::Write(9, 2)], &[Op::Zero(8, 8)], &[Op::Discard(8, 8)]], 30);
    }
}

#[test]
fn a_cluster_freed_by_zeroes_or_a_discard_is_not_reused_before_its_unmapping_is_durable() {
    for freeing in [Op::Zero(0, 8), Op::Discard(0, 8)] {
        let before = [Op::Write(0, 8)];
        explore(stack("4096"), &before, &[&[freeing, Op::Write(16, 8), Op::Write(24, 8)]], 20);
        explore(stack("4096"), &before, &[&[freeing, Op::Flush, Op::Write(16, 8)], &[Op::Write(32, 8)]], 20);
    }
}

#[test]
fn streams_that_share_a_cluster_are_freed_and_followed_by_others_without_a_stream_lost() {
    let shared = [Op::Compress(0, 8), Op::Compress(8, 8)];
    for ops in [
        // The last reference of the shared cluster goes, while others would be appended to it.
        [&[Op::Discard(0, 16), Op::Flush][..], &[Op::Compress(16, 8), Op::Compress(24, 8)]],
        [&[Op::Compress(0, 8), Op::Zero(8, 8)], &[Op::Flush, Op::Compress(16, 16)]],
        [&[Op::Write(0, 1), Op::Write(8, 8)], &[Op::Compress(16, 8), Op::Flush, Op::Compress(32, 8)]],
        [&[Op::Compress(0, 8), Op::Compress(0, 8)], &[Op::Read(0, 16), Op::Compress(8, 8), Op::Flush]],
    ] {
        explore(stack("4096"), &shared, &ops, 15);
        explore(over_backing("4096"), &shared, &ops, 5);
    }
}

#[test]
fn a_slow_request_never_meets_what_its_cluster_was_given_to_after_it_was_freed() {
    let others: &[Op] = &[Op::Flush, Op::Write(16, 8), Op::Write(24, 8), Op::Write(32, 8), Op::Write(40, 8)];
    let slow = |kind| Plant { fault: Fault::Stall(3_000_000), ..Plant::nth_of(kind, 0, 0) };
    for freeing in [Op::Zero(0, 8), Op::Discard(0, 8)] {
        let freed = [&[freeing], others].concat();
        for (request, kind) in [(Op::Read(0, 8), OpKind::Read), (Op::Write(0, 8), OpKind::Write)] {
            let mut scope = scope(stack("4096"), &[Op::Write(0, 8)], &[&[request], &freed]);
            scope.config.inline = false;
            scope.plants = vec![slow(kind)];
            explore_scope(&scope, 40);
        }
    }
}

#[test]
fn outside_of_a_requests_own_bytes_live_data_is_never_overwritten_in_place() {
    let before = [Op::Write(0, 24)];
    for ops in [
        [Op::Zero(3, 2), Op::Write(5, 1)],
        [Op::Write(7, 2), Op::Zero(1, 11)],
        [Op::Discard(1, 10), Op::Write(2, 1)],
    ] {
        explore(stack("4096"), &before, &[&ops], 15);
        explore(over_backing("4096"), &[], &[&ops], 15);
    }
}

#[test]
fn two_writers_on_one_l2_slice_and_one_refcount_sector_across_a_seal_lose_no_sector_whatever_subset_is_lost()
{
    for cluster in ["512", "4096"] {
        let writers: [&[Op]; 3] = [
            &[Op::Write(0, 8), Op::Write(16, 8)],
            &[Op::Write(8, 8), Op::Write(24, 8)],
            &[Op::Flush, Op::Flush],
        ];
        explore(stack(cluster), &[], &writers, 25);
        explore(
            stack(cluster),
            &[Op::Write(0, 16)],
            &[&[Op::Zero(0, 8), Op::Flush], &[Op::Write(8, 8), Op::Write(32, 4)]],
            25,
        );
    }
}

#[test]
fn a_table_that_grows_is_never_half_there() {
    // 512-byte clusters: 64 entries a table, a refcount block for 256 clusters.
    explore(
        stack("512"),
        &[],
        &[&[Op::Write(0, 1), Op::Write(63, 1), Op::Resize(200), Op::Write(190, 10)]],
        10,
    );
    explore(
        stack("512"),
        &[Op::Write(0, 60)],
        &[&[Op::Resize(300), Op::Write(64, 60), Op::Write(130, 60), Op::Write(200, 60)]],
        5,
    );
}

/// All scripts of three requests over this alphabet, with a flush behind, and up to 256 subsets of what is not durable at a
/// moment. `SCOPE_FULL=1` in the environment: of four requests with a flush behind, also two at a time, and every subset there
/// is; `SCOPE_SEED` begins with the script of this number.
fn all_scripts(name: &str, stack: &Stack, before: &[Op], alphabet: &[Op]) {
    let full = number("SCOPE", "FULL").is_some();
    let (requests, ways, most) = if full { (4, 2, u64::MAX) } else { (3, 1, 256) };
    let letters = alphabet.len() as u64;
    let first = number("SCOPE", "SEED").unwrap_or(0);
    let done = on_all_cores(name, first..ways * letters.pow(requests), u64::MAX, |number| {
        let script = number / ways;
        let ops: Vec<Op> =
            (0..requests).map(|nth| alphabet[(script / letters.pow(nth) % letters) as usize]).collect();
        let tasks: Vec<&[Op]> = match number % ways {
            0 => vec![&ops],
            _ => ops.chunks(2).collect(),
        };
        SmallScope { most, ..scope(stack.clone(), before, &tasks) }.run(number)
    });
    println!("{} disks looked at", done.count);
    if let Some((number, text)) = done.failures.first() {
        panic!("{text}\n{} scripts fail; SCOPE_SEED={number} begins with the first", done.failures.len());
    }
}

#[test]
fn four_requests_on_clusters_of_one_sector_in_every_order_survive_every_subset_of_their_writes() {
    let alphabet =
        [Op::Write(0, 1), Op::Write(0, 2), Op::Zero(0, 1), Op::Discard(1, 1), Op::Flush, Op::Fua(62, 2)];
    all_scripts("one sector", &stack("512"), &[Op::Write(0, 1)], &alphabet);
}

#[test]
fn four_requests_over_a_backing_image_in_every_order_survive_every_subset_of_their_writes() {
    let alphabet = [Op::Write(0, 1), Op::Zero(0, 4), Op::Discard(0, 2), Op::Flush];
    all_scripts("backing", &over_backing("1024"), &[], &alphabet);
}

#[test]
fn four_compressed_and_other_requests_in_every_order_survive_every_subset_of_their_writes() {
    let alphabet = [Op::Compress(0, 1), Op::Compress(0, 2), Op::Write(1, 1), Op::Discard(0, 2), Op::Flush];
    all_scripts("compressed", &stack("512"), &[Op::Compress(0, 2)], &alphabet);
}

#[test]
fn four_requests_on_a_data_file_in_every_order_survive_every_subset_of_their_writes() {
    let image = TestImage::new("qcow2", "/top", 32 << 10).with("cluster_size", "512");
    let image = image.with("data_file", "/data");
    let stack = Stack::of("qcow2 with a data file", &[protocols::DRIVERS, formats::DRIVERS], vec![image]);
    let alphabet = [Op::Write(0, 2), Op::Zero(0, 1), Op::Discard(1, 1), Op::Flush, Op::Fua(62, 2)];
    all_scripts("data file", &stack, &[Op::Write(0, 1)], &alphabet);
}

#[test]
fn four_requests_and_changes_of_snapshots_in_every_order_survive_every_subset_of_their_writes() {
    let alphabet = [Op::Write(0, 2), Op::Discard(1, 1), Op::Snapshot, Op::Apply, Op::Delete];
    all_scripts("snapshots", &stack("512"), &[Op::Write(0, 1), Op::Snapshot], &alphabet);
}

#[test]
fn four_requests_on_subclusters_in_every_order_survive_every_subset_of_their_writes() {
    let alphabet = [Op::Write(2, 2), Op::Zero(1, 2), Op::Zero(0, 32), Op::Write(31, 3), Op::Discard(0, 32)];
    all_scripts("subclusters", &with_subclusters(), &[Op::Write(1, 2)], &alphabet);
}

#[test]
fn requests_at_once_on_the_subclusters_of_one_cluster_do_not_cost_each_other_anything() {
    let stack = with_subclusters;
    for before in [&[][..], &[Op::Write(4, 4)], &[Op::Write(0, 32)]] {
        explore(stack(), before, &[&[Op::Write(2, 4)], &[Op::Zero(5, 3)], &[Op::Write(7, 2)]], 20);
        explore(
            stack(),
            before,
            &[&[Op::Write(2, 4), Op::Flush], &[Op::Zero(0, 32)], &[Op::Write(7, 2)]],
            20,
        );
        explore(stack(), before, &[&[Op::Write(30, 4)], &[Op::Discard(0, 32)], &[Op::Zero(31, 2)]], 20);
    }
}

/// What the first sector shows after zeroes, and later: a slow write of it was admitted before the zeroes, which keep the
/// cluster's place, and a write beside it comes before that is stored.
async fn shown_after_zeroes(stack: Stack, world: World) -> Result<[u8; 2]> {
    let data = |byte: u8, len: usize| BufMut::from_slice(&vec![byte; len]).freeze();
    stack.create().await?;
    let session = stack.open().await?;
    let disk = session.backend.clone();
    disk.write(0, data(1, 4096), Request::GUEST).await?;
    world.plant(Plant { fault: Fault::Stall(3_000_000), ..Plant::nth_of(OpKind::Write, 0, 0) });
    let (writer, old) = (disk.clone(), data(2, 512));
    let slow = rt::spawn(async move { writer.write(0, old, Request::GUEST).await });
    rt::sleep(Duration::from_micros(100)).await;
    disk.write_zeroes(0, 4096, Request::GUEST).await?;
    let (before, result) = disk.read(0, BufMut::with_len(1)).await;
    result?;
    disk.write(1024, data(3, 512), Request::GUEST).await?;
    slow.await.map_err(|e| BlockError::invalid(e.to_string()))??;
    let (after, result) = disk.read(0, BufMut::with_len(1)).await;
    result?;
    let shown = [before[0], after[0]];
    session.close().await?;
    Ok(shown)
}

#[test]
fn who_has_read_zeroes_never_reads_the_older_write_that_was_under_way() {
    for seed in 1..=20 {
        for stack in [stack("4096"), with_subclusters()] {
            let sim = Sim::boot(Config { inline: false, ..Config::seeded(seed) }, Disk::default());
            let shown = sim.run(shown_after_zeroes(stack, sim.world().clone()));
            assert_eq!(shown.unwrap_or_else(|e| panic!("seed {seed}: {e}")), [0, 0], "seed {seed}");
        }
    }
}
