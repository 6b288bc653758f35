//! Conversions with a journal that are cut off by kills and power cuts, at any moment and several times: the same command again ends
//! with a target that is the source.

use super::*;
use crate::digest::{self, Digest};
use sim::{Config, Disk, OpKind, Rng, Sim};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;
use testkit::crash::{flatten, seeds};
use testkit::long::on_all_cores;
use testkit::stack::{Stack, TestImage};

const SIZE: u64 = 6 << 20;
const UNIT: u64 = 64 << 10;
const JOURNAL: &str = "/journal";

/// Words of a command line.
#[derive(Clone, Debug)]
struct Case {
    sources: &'static [&'static str],
    source_format: &'static str,
    target_format: &'static str,
    options: Option<&'static str>,
    compress: bool,
    backing: bool,
    create: bool,
    out_of_order: bool,
    parallel: usize,
}

fn any_case(rng: &mut Rng) -> Case {
    let formats = [
        ("raw", None),
        ("raw", None),
        ("qcow2", None),
        ("qcow2", Some("cluster_size=4k")),
        ("qcow2", Some("cluster_size=512k,lazy_refcounts=on")),
        ("vdi", None),
        ("vhdx", None),
        ("qed", None),
        ("parallels", None),
    ];
    let (target_format, options) = rng.pick(&formats).unwrap_or(("raw", None));
    let qcow2 = target_format == "qcow2";
    let source_format = if rng.chance(1, 2) { "raw" } else { "qcow2" };
    let backing = qcow2 && source_format == "qcow2" && rng.chance(1, 4);
    Case {
        sources: if !backing && rng.chance(1, 5) { &["/source", "/more"] } else { &["/source"] },
        source_format,
        target_format,
        options,
        compress: qcow2 && !backing && rng.chance(1, 3),
        backing,
        create: backing || rng.chance(3, 4),
        out_of_order: rng.chance(1, 3),
        parallel: 1 + rng.index(8),
    }
}

impl Case {
    fn args(&self, rate: Option<u64>) -> Args {
        let mut args = Args {
            sources: self.sources.iter().map(|&name| name.to_owned()).collect(),
            source: Source::named("").format(Some(self.source_format)),
            output: "/target".to_owned(),
            target: Target { format: Some(self.target_format.to_owned()), ..Target::default() },
            compress: self.compress,
            create: self.create,
            out_of_order: self.out_of_order,
            parallel: self.parallel,
            journal: Some(JOURNAL.to_owned()),
            rate,
            ..Args::new()
        };
        if let Some(options) = self.options.filter(|_| self.create) {
            args.target.options.add(options).unwrap();
        }
        if self.backing {
            args.backing = Backing { name: Some("/base".to_owned()), format: Some("raw".to_owned()) };
        }
        args
    }

    fn size(&self) -> u64 {
        self.sources.len() as u64 * SIZE
    }
}

fn console() -> Console {
    Console::on("test", Box::new(std::io::sink()), Arc::new(|_| {}))
}

async fn run_command(args: Args) -> Result<(), Failure> {
    convert(&mut console(), &args, &Arc::default()).await
}

/// A disk of units that are data, written zeroes, or holes.
fn content(rng: &mut Rng) -> Vec<u8> {
    let mut bytes = vec![0; SIZE as usize];
    for unit in bytes.chunks_mut(UNIT as usize) {
        if rng.chance(1, 3) {
            continue;
        }
        let value = rng.below(256) as u8;
        let len = if rng.chance(1, 3) { 512 * (1 + rng.index(127)) } else { unit.len() };
        unit[..len]
            .iter_mut()
            .enumerate()
            .for_each(|(at, byte)| *byte = value.wrapping_add((at / 512) as u8));
    }
    bytes
}

/// The sources, and a target where the command makes none; and what the sources show together.
fn prepare(case: &Case, rng: &mut Rng) -> (Disk, Vec<u8>) {
    let mut disk = Disk::default();
    let mut all = Vec::new();
    for (number, name) in case.sources.iter().enumerate() {
        let bytes = content(rng);
        let file = if case.source_format == "raw" { (*name).to_owned() } else { format!("/raw{number}") };
        disk.put(&file, &bytes);
        disk.make_sparse(&file);
        all.extend(bytes);
    }
    if case.backing {
        // The lower half of the source, in part.
        disk.put(
            "/base",
            &all.iter()
                .enumerate()
                .map(|(at, b)| if at / 200_000 % 2 == 0 { *b } else { 9 })
                .collect::<Vec<_>>(),
        );
    }
    let sim = Sim::boot(Config::seeded(rng.next_u64()), disk);
    let (made, size) = (case.clone(), case.size());
    sim.run(async move {
        for (number, name) in made.sources.iter().enumerate().filter(|_| made.source_format != "raw") {
            let args = Args {
                sources: vec![format!("/raw{number}")],
                source: Source::named("").format(Some("raw")),
                output: (*name).to_owned(),
                target: Target { format: Some(made.source_format.to_owned()), ..Target::default() },
                backing: match made.backing {
                    true => Backing { name: Some("/base".to_owned()), format: Some("raw".to_owned()) },
                    false => Backing::default(),
                },
                target_cache: Some(Cache::WRITEBACK),
                ..Args::new()
            };
            run_command(args).await.unwrap();
        }
        if !made.create {
            // What it holds is in nobody's way.
            image::graph().create(made.target_format, "/target", size, block::Options::new()).await.unwrap();
            let graph = image::graph();
            let target = Source::named("/target").format(Some(made.target_format)).writable();
            let target = Image::open_in(&graph, &target).await.unwrap();
            let noise = rt::Buf::from_slice(&[0xee; 300_000]);
            target.backend.write(SIZE / 3, noise, block::Request::GUEST).await.unwrap();
            target.close().await.unwrap();
        }
    });
    sim.settle();
    (sim.world().disk(), all)
}

/// What is in the target, by a reader of its own where there is one.
fn shown(case: &Case, disk: &Disk) -> Result<Vec<u8>, String> {
    let image = TestImage::new(case.target_format, "/target", case.size());
    let stack = Stack::of("target", &[protocols::DRIVERS, formats::DRIVERS], vec![image]);
    match case.target_format {
        "raw" => testkit::files::content(disk, "/target"),
        "qcow2" => flatten(disk, "/target", true),
        "vdi" => testkit::vdi::inspect(&stack, disk, true),
        "vhdx" => testkit::vhdx::inspect(&stack, disk, true),
        "qed" => testkit::qed::inspect(&stack, disk, true),
        _ => testkit::parallels::inspect(&stack, disk, true),
    }
}

fn judge(case: &Case, disk: &Disk, expected: &[u8]) -> Result<(), String> {
    if let Some(left) = disk.paths().find(|path| path.to_string_lossy().contains("journal")) {
        return Err(format!("{} is left", left.display()));
    }
    let shown = shown(case, disk)?;
    let at = shown.iter().zip(expected).position(|(a, b)| a != b);
    if at.is_some() || shown.len() < expected.len() {
        return Err(format!("the target differs from byte {at:?} on, of {}", shown.len()));
    }
    Ok(())
}

/// Runs a command up to some time; whether it has ended by then, and well.
fn run_for(sim: &Sim, args: Args, time: Duration) -> Result<bool, String> {
    let ended = Arc::new(AtomicBool::new(false));
    let done = ended.clone();
    let work = async move {
        let command = rt::spawn(async move {
            let result = run_command(args).await;
            done.store(true, SeqCst);
            result
        });
        rt::sleep(time).await;
        if ended.load(SeqCst) { command.await.unwrap().map(|()| true) } else { Ok(false) }
    };
    let ended = sim.try_run(work).map_err(|stuck| format!("{stuck:?}"))?;
    ended.map_err(|failure| failure.message().to_owned())
}

fn crash_and_go_on(seed: u64) -> Result<u64, String> {
    let mut rng = Rng::new(seed);
    let case = any_case(&mut rng);
    let report = |text: String| format!("seed {seed}, {case:?}: {text}");
    let (disk, expected) = prepare(&case, &mut rng);
    let config =
        Config { workers: 1 + rng.index(3), inline: rng.chance(1, 2), ..Config::seeded(rng.next_u64()) };
    let mut sim = Sim::boot(config, disk);
    let crashes = 1 + rng.below(3);
    for _ in 0..crashes {
        let time = Duration::from_micros(rng.below(8_000_000));
        let complete = run_for(&sim, case.args(Some(1 << 20)), time).map_err(report)?;
        sim = if rng.chance(2, 3) { sim.power_cut() } else { sim.kill() };
        if complete {
            // It has said so: no crash takes it back.
            judge(&case, &sim.world().disk(), &expected)
                .map_err(|text| report(format!("completed: {text}")))?;
        }
    }
    let args = Args { verify: rng.chance(1, 2), ..case.args(None) };
    sim.run(run_command(args)).map_err(|failure| report(failure.message().to_owned()))?;
    sim.settle();
    judge(&case, &sim.world().disk(), &expected).map_err(report)?;
    let cut = sim.power_cut();
    judge(&case, &cut.world().disk(), &expected)
        .map_err(|text| report(format!("after a power cut: {text}")))?;
    Ok(crashes)
}

#[test]
fn a_conversion_that_is_given_again_after_crashes_ends_with_a_target_that_is_the_source() {
    let done = on_all_cores("CONVERT_CRASH", seeds("CONVERT_CRASH", 40), u64::MAX, crash_and_go_on);
    assert!(done.failures.is_empty(), "{:#?}", done.failures);
}

const PLAIN: Case = Case {
    sources: &["/source"],
    source_format: "raw",
    target_format: "qcow2",
    options: None,
    compress: false,
    backing: false,
    create: true,
    out_of_order: false,
    parallel: 4,
};

/// A disk on which a conversion was cut off at its middle.
fn cut_off(case: &Case) -> (Disk, Vec<u8>) {
    let mut rng = Rng::new(11);
    let (disk, expected) = prepare(case, &mut rng);
    let sim = Sim::boot(Config::seeded(5), disk);
    assert!(!run_for(&sim, case.args(Some(1 << 20)), Duration::from_millis(3500)).unwrap());
    let disk = sim.kill().world().disk();
    assert!(disk.content(JOURNAL).is_some());
    (disk, expected)
}

/// Runs the command again: how it ended, the disk then, and bytes read of the source and written by it.
fn again(disk: Disk, args: Args) -> (Result<(), String>, Disk, u64) {
    let sim = Sim::boot(Config::seeded(6), disk);
    let writes = sim.world().count(Some(OpKind::Write));
    let ended = sim.run(run_command(args)).map_err(|failure| failure.message().to_owned());
    sim.settle();
    let writes = sim.world().count(Some(OpKind::Write)) - writes;
    (ended, sim.world().disk(), writes)
}

#[test]
fn only_what_was_not_copied_is_written_when_a_conversion_goes_on() {
    for target_format in ["raw", "qcow2"] {
        let case = Case { target_format, ..PLAIN };
        let (disk, expected) = cut_off(&case);
        let mut fresh = Disk::default();
        fresh.put("/source", &expected);
        let (ended, after, goes_on) = again(disk, case.args(None));
        ended.unwrap();
        judge(&case, &after, &expected).unwrap();
        let (ended, _, anew) = again(fresh, case.args(None));
        ended.unwrap();
        assert!(goes_on * 4 < anew * 3, "{target_format}: {goes_on} writes, {anew} of a whole conversion");
    }
}

#[test]
fn a_source_that_has_changed_and_another_command_are_refused_by_name_and_nothing_is_written() {
    let (disk, expected) = cut_off(&PLAIN);
    let refused = |change: &dyn Fn(&mut Disk), args: Args| {
        let mut disk = disk.clone();
        change(&mut disk);
        let before = disk.content("/target").unwrap().to_vec();
        let (ended, after, _) = again(disk, args);
        assert!(after.content("/target").unwrap().to_vec() == before, "the target was written to");
        assert!(after.content(JOURNAL).is_some());
        ended.unwrap_err()
    };
    let nothing = |_: &mut Disk| {};
    let text = refused(&|disk| disk.put("/source", &expected), PLAIN.args(None));
    assert!(text.contains("/source") && text.contains("inode"), "{text}");
    let in_place = |disk: &mut Disk| {
        let sim = Sim::boot(Config::seeded(1), disk.clone());
        sim.run(async {
            let file = rt::fs::open("/source".as_ref(), &rt::OpenOptions::read_write()).await.unwrap();
            file.write_all(SIZE - 1, &[1]).await.unwrap();
        });
        *disk = sim.world().disk();
    };
    let text = refused(&in_place, PLAIN.args(None));
    assert!(text.contains("'/source'") && text.contains("modified"), "{text}");
    let text = refused(&nothing, Args { compress: true, ..PLAIN.args(None) });
    assert!(text.contains("another command") && text.contains("compress"), "{text}");
    let text = refused(&nothing, Args { output: "/source".to_owned(), ..PLAIN.args(None) });
    assert!(text.contains("target") && text.contains("\"/target\""), "{text}");
    let damage = |disk: &mut Disk| {
        let mut bytes = disk.content(JOURNAL).unwrap().to_vec();
        bytes[40] ^= 1;
        disk.put(JOURNAL, &bytes);
    };
    let text = refused(&damage, PLAIN.args(None));
    assert!(text.contains("checksum") && text.contains(JOURNAL), "{text}");
    let text = refused(&|disk| disk.put(JOURNAL, &[7; 4096]), PLAIN.args(None));
    assert!(text.contains("no journal"), "{text}");
}

#[test]
fn what_others_changed_in_the_target_is_copied_again() {
    let case = Case { target_format: "raw", ..PLAIN };
    let (mut disk, expected) = cut_off(&case);
    let mut bytes = disk.content("/target").unwrap().to_vec();
    bytes[100_000..500_000].fill(0xee);
    disk.put("/target", &bytes);
    let (ended, after, _) = again(disk, case.args(None));
    ended.unwrap();
    judge(&case, &after, &expected).unwrap();
}

/// The digest of an image.
async fn digest_of(name: &'static str, format: &'static str) -> Digest {
    let image = image::open(&Source::named(name).format(Some(format))).await.unwrap();
    let told = crate::progress::Told::bytes(0);
    let digest = digest::of_image(&image.backend, digest::Scheme::Tree, &told).await.unwrap();
    image.close().await.unwrap();
    digest
}

#[test]
fn a_conversion_that_went_on_is_verified_and_has_the_digest_of_its_source() {
    for compress in [false, true] {
        let case = Case { compress, ..PLAIN };
        let sim = Sim::boot(Config::seeded(8), cut_off(&case).0);
        sim.run(async move {
            run_command(Args { verify: true, ..case.args(None) }).await.unwrap();
            assert_eq!(digest_of("/source", "raw").await, digest_of("/target", "qcow2").await);
        });
    }
}
