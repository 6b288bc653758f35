//! `crashtest`: what a power cut or a kill would leave of an image, at every point of a script of `io` commands.
//!
//! ```text
//!   script ─▶ simulated machine over the real files (nothing is written to them) ─▶ Recording
//!   Recording ─▶ moments × cuts, on all cores ─▶ Judge: open · check · compare ─▶ Verdict
//! ```
//!
//! Exit codes: 0 the image survives, 1 not completed, 2 it does not survive.
//!
//! Bounds: what a script writes is held in memory (`--memory`), the image is read as it is needed; at most [`MOMENTS`] moments
//! of a run.

mod bitmaps;
mod judge;
mod outside;
mod point;
mod record;
mod report;
#[cfg(test)]
mod tests;

use super::Call;
use crate::console::Console;
use crate::failure::Failure;
use crate::flags::{self, Output, Verbosity, has_parts};
use crate::getopt::{Flag, Table};
use crate::image::{self, Image, Source};
use crate::io::witness::{Script, ScriptError};
use crate::object::{self, Given};
use crate::progress::{self, Progress, Told};
use crate::runtime;
use crate::usage::Manual;
use block::{Graph, Share};
use crash::cuts::{Cuts, Kinds, shares};
use futures_util::future::join_all;
use judge::Judge;
use outside::Files;
use parking_lot::Mutex;
use point::Point;
use record::{Recording, compared, record};
use report::{Broken, Verdict};
use sim::Disk;
use std::io::Read;
use std::num::NonZero;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Most moments of one run that are kept.
const MOMENTS: u64 = 4096;

/// Longest script in bytes.
const LONGEST: u64 = 16 << 20;

pub(super) const FLAGS: Table<Args> = &[
    &[Flag::help(), flags::quiet(), flags::progress()],
    &flags::source(flags::FORMAT_OF_THE_IMAGE),
    &[
        Flag::take(
            "-c --cmd",
            "COMMAND",
            "a line of the script, in place of SCRIPT; may be given again",
            |s, line| {
                s.commands.push(line.to_owned());
                Ok(())
            },
        ),
        Flag::take("--points", "NUMBER", "crashes to try at most (10000)", |s, text| {
            s.points = super::bounded("number of crashes", text, 1, 1 << 40)?;
            Ok(())
        }),
        Flag::take(
            "--runs",
            "NUMBER",
            "runs of the script, each in another order of what is under way at once (4)",
            |s, text| {
                s.runs = super::bounded("number of runs", text, 1, 1 << 20)?;
                Ok(())
            },
        ),
        Flag::take(
            "--seed",
            "NUMBER",
            "source of every choice; the same one tries the same (1)",
            |s, text| {
                s.seed = super::bounded("seed", text, 0, u64::MAX >> 1)?;
                Ok(())
            },
        ),
        Flag::take(
            "--crash",
            "power|kill|both",
            "power cuts, kills of the process, or both (both)",
            |s, word| {
                s.kinds = match word {
                    "power" => Kinds::PowerCuts,
                    "kill" => Kinds::Kills,
                    "both" => Kinds::Both,
                    other => {
                        return Err(Failure::usage(format_args!(
                            "--crash expects 'power', 'kill' or 'both' not '{other}'"
                        )));
                    }
                };
                Ok(())
            },
        ),
        Flag::take("--point", "POINT", "just this crash, as a failure names it", |s, text| {
            s.point = Some(text.parse()?);
            Ok(())
        }),
        Flag::take(
            "--keep",
            "DIR",
            "leave the files of the first crash that fails in this new folder",
            |s, folder| {
                s.keep = Some(folder.to_owned());
                Ok(())
            },
        ),
        Flag::take(
            "--compare",
            "SIZE",
            "compare so much of the disk after each crash, what was written first (16M)",
            |s, text| {
                s.compare = super::bounded("size to compare", text, 1 << 20, 1 << 40)?;
                Ok(())
            },
        ),
        Flag::take("--memory", "SIZE", "what the script writes may take so much memory (1G)", |s, text| {
            s.memory = super::bounded("amount of memory", text, 1 << 20, 1 << 44)?;
            Ok(())
        }),
        flags::output(),
        flags::object(),
    ],
];

const MANUAL: Manual = Manual {
    synopsis: "[-q] [-p] [-f FMT | --image-opts] [--points=NUMBER] [--runs=NUMBER] [--seed=NUMBER] [--crash=KIND]\n       \
               [--point=POINT] [--keep=DIR] [--compare=SIZE] [--memory=SIZE] [--output=human|json] FILE SCRIPT",
    about: "Tells whether an image survives power cuts and kills while it is written to. FILE is never changed.",
    operands: &[("FILE", "the image"), ("SCRIPT", "lines of commands of io; - is standard input")],
    examples: &[
        ("-p disk.qcow2 script", "tries up to 10000 crashes"),
        ("-c 'write -P 1 0 64k' -c flush -c 'write -P 2 0 64k' disk.qcow2", "a script of three lines"),
        ("--point 1:7:keep-5 --keep broken disk.qcow2 script", "one crash, and the files as they are then"),
    ],
    notes: "Exit codes: 0 the image survives, 1 not completed, 2 it does not survive. Leaked clusters are no failure.",
};

#[derive(Debug)]
pub(super) struct Args {
    source: Source,
    output: Output,
    verbosity: Verbosity,
    commands: Vec<String>,
    points: u64,
    runs: u64,
    seed: u64,
    kinds: Kinds,
    point: Option<Point>,
    keep: Option<String>,
    compare: u64,
    memory: u64,
    /// Makes the graphs that images are opened in, with the objects of the command.
    graph: fn(&Given) -> Graph,
    given: Given,
}

has_parts!(Args { source: Source, output: Output, verbosity: Verbosity });

impl Args {
    pub(super) fn new() -> Args {
        Args {
            source: Source::named("").writable(),
            output: Output::default(),
            verbosity: Verbosity::default(),
            commands: Vec::new(),
            points: 10_000,
            runs: 4,
            seed: 1,
            kinds: Kinds::Both,
            point: None,
            keep: None,
            compare: 16 << 20,
            memory: 1 << 30,
            graph: image::quiet_graph,
            given: Given::default(),
        }
    }

    /// How many moments of a run are kept.
    fn moments_kept(&self) -> usize {
        (self.points / self.runs).clamp(1, MOMENTS) as usize
    }
}

pub fn run(console: &mut Console, call: &Call) -> Result<u8, Failure> {
    let Some((mut args, operands)) = call.read(console, &MANUAL, FLAGS, Args::new())? else { return Ok(0) };
    let (name, script, told) = match operands.as_slice() {
        [name, script] if args.commands.is_empty() => (name, script_file(script)?, script.clone()),
        [name] if !args.commands.is_empty() => {
            let told: Vec<_> = args.commands.iter().map(|line| format!("-c '{line}'")).collect();
            (name, args.commands.join("\n"), told.join(" "))
        }
        _ => return Err(Failure::usage("Expecting one image file name, and a script or -c")),
    };
    args.source.name = name.clone();
    args.given = object::given();
    super::exclusive(&args.source)?;
    let wrong = |e: ScriptError| Failure::new(format_args!("line {} of the script: {}", e.line, e.text));
    let script = Script::read(&script).map_err(wrong)?;
    if script.is_empty() {
        return Err(Failure::new("the script has no commands"));
    }
    let verdict = runtime::run(test(console, Arc::new(args), script, &call.name, told))??;
    Ok(verdict)
}

/// The text of a script.
fn script_file(name: &str) -> Result<String, Failure> {
    let mut text = String::new();
    let read = match name {
        "-" => std::io::stdin().lock().take(LONGEST).read_to_string(&mut text),
        name => std::fs::File::open(rt::fs::path(name))
            .and_then(|file| file.take(LONGEST).read_to_string(&mut text)),
    };
    match read {
        Ok(len) if len as u64 == LONGEST => Err(Failure::new(format_args!("{name}: the script is too long"))),
        Ok(_) => Ok(text),
        Err(error) => Err(Failure::new(format_args!("{name}: {}", block::BlockError::from_io(&error)))),
    }
}

/// The crashes to try: a number leads to one.
struct Plan {
    judge: Judge,
    recordings: Vec<Recording>,
    /// The number of the first crash of a moment; which recording, which moment of it, and its cuts.
    parts: Vec<(u64, usize, usize, Cuts)>,
    total: u64,
}

/// How far the crashes are.
struct Work {
    next: AtomicU64,
    told: Told,
    leaking: AtomicU64,
    most_leaks: AtomicU64,
    /// The first failure in the order of the plan.
    failed: Mutex<Option<(u64, Broken)>>,
}

async fn test(
    console: &mut Console,
    args: Arc<Args>,
    script: Script,
    program: &str,
    told: String,
) -> Result<u8, Failure> {
    // Held open while it is read: nobody else writes to it meanwhile.
    let held =
        Source { writable: false, share: Share::READ.union(Share::WRITE_UNCHANGED), ..args.source.clone() };
    let held = image::open(&held).await?;
    if held.guessed_raw {
        image::warn_of_guess(console, &args.source.name);
    }
    let tested = try_crashes(console, args.clone(), script, &held).await;
    let closed = held.close().await;
    let mut verdict = tested?;
    closed?;
    let kept = match (&args.keep, &mut verdict.failure) {
        (Some(folder), Some(broken)) => broken.keep(folder),
        _ => Ok(()),
    };
    // What was found is told also where its files could not be kept.
    verdict.print(console, &args, program, &told);
    kept?;
    Ok(if verdict.failure.is_some() { 2 } else { 0 })
}

async fn try_crashes(
    console: &mut Console,
    args: Arc<Args>,
    script: Script,
    held: &Image,
) -> Result<Verdict, Failure> {
    let size = held.backend.length();
    let settings = args.clone();
    let plan = Arc::new(rt::compute(move || plan(&settings, &script, size)).await?);
    let work = Arc::new(Work::new(plan.total));
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let workers = (0..cores).map(|_| {
        let (plan, work) = (plan.clone(), work.clone());
        rt::compute(move || work.run(&plan))
    });
    let mut progress = Progress::new(console, args.verbosity);
    let whole = |_: &Vec<()>| work.told.done() >= plan.total;
    progress::watch(console, &mut progress, &work.told, join_all(workers), whole).await;
    progress.end(console);
    if let Some(trouble) = plan.judge.trouble() {
        return Err(Failure::new(trouble));
    }
    let failure = work.failed.lock().take().map(|(_, broken)| broken);
    Ok(Verdict {
        seed: plan.recordings.first().map_or(args.seed, |recording| recording.seed),
        runs: plan.recordings.len() as u64,
        crashes: work.told.done(),
        moments: (plan.parts.len() as u64, plan.recordings.iter().map(|recording| recording.seen).sum()),
        complete: plan.parts.iter().filter(|part| part.3.has_all_subsets()).count() as u64,
        changes: plan.recordings.iter().map(|recording| recording.changes).sum(),
        leaking: (work.leaking.load(Relaxed), work.most_leaks.load(Relaxed)),
        failure,
    })
}

/// Runs the script and finds the crashes to try.
fn plan(args: &Args, script: &Script, size: u64) -> Result<Plan, Failure> {
    let files = Arc::new(Files::default());
    let (seeds, only) = match args.point {
        Some(point) => (point.seed..point.seed + 1, Some(point.moment)),
        None => (args.seed..args.seed.saturating_add(args.runs), None),
    };
    let recordings: Result<Vec<_>, _> = seeds.map(|seed| record(args, &files, script, seed, only)).collect();
    let recordings = recordings?;
    let ranges = recordings.first().map(|recording| compared(&recording.book, size, args.compare));
    let judge = Judge::new(args, &files, script, ranges.unwrap_or_default())?;
    let (mut parts, mut total) = (Vec::new(), 0);
    for (run, recording) in recordings.iter().enumerate() {
        let pending: Vec<_> = recording.moments.iter().map(|moment| moment.disk.pending()).collect();
        for (at, share) in shares(&pending, args.points / args.runs).into_iter().enumerate() {
            let pending = pending.get(at).copied().unwrap_or(0);
            let cuts = match args.point {
                Some(point) => Cuts::just(point.cut),
                None => Cuts::new(pending, share, args.kinds, recording.seed ^ at as u64),
            };
            parts.push((total, run, at, cuts));
            total += cuts.count();
        }
    }
    if let Some(point) = args.point.filter(|_| parts.is_empty()) {
        let seen = recordings.first().map_or(0, |recording| recording.seen);
        return Err(Failure::new(format_args!("there is no crash {point}: the run has {seen} moments")));
    }
    Ok(Plan { judge, recordings, parts, total })
}

impl Work {
    fn new(total: u64) -> Self {
        let (next, leaking, most_leaks) = Default::default();
        Self { next, told: Told::steps(total), leaking, most_leaks, failed: Mutex::default() }
    }

    /// Tries one crash after the other until there is none left, or until one before has failed.
    fn run(&self, plan: &Plan) {
        loop {
            let number = self.next.fetch_add(1, Relaxed);
            let failed = self.failed.lock().as_ref().map_or(u64::MAX, |(number, _)| *number);
            if number >= plan.total.min(failed) || plan.judge.trouble().is_some() {
                return;
            }
            self.crash(plan, number);
            self.told.add(1);
        }
    }

    fn crash(&self, plan: &Plan, number: u64) {
        let part = plan.parts.partition_point(|part| part.0 <= number).checked_sub(1);
        let Some((first, run, at, cuts)) = part.and_then(|part| plan.parts.get(part)) else { return };
        let Some(recording) = plan.recordings.get(*run) else { return };
        let Some(moment) = recording.moments.get(*at) else { return };
        let cut = cuts.get(number - first);
        match plan.judge.crash(recording, moment, cut) {
            Ok(0) => {}
            Ok(leaks) => {
                self.leaking.fetch_add(1, Relaxed);
                self.most_leaks.fetch_max(leaks, Relaxed);
            }
            Err(wrong) => {
                let point = Point { seed: recording.seed, moment: moment.number, cut };
                let broken = Broken::new(recording, moment, point, wrong);
                let mut failed = self.failed.lock();
                if failed.as_ref().is_none_or(|(before, _)| number < *before) {
                    *failed = Some((number, broken));
                }
            }
        }
    }
}

/// Writes files of a disk into a new folder; their names there.
fn keep(disk: &Disk, files: &[PathBuf], folder: &str) -> Result<Vec<String>, Failure> {
    let path = rt::fs::path(folder);
    let failed = |name: &Path, error: &std::io::Error| {
        Failure::new(format_args!("{}: {}", name.display(), block::BlockError::from_io(error)))
    };
    std::fs::create_dir(&path).map_err(|error| failed(&path, &error))?;
    let mut names = Vec::new();
    for file in files {
        let Some(content) = disk.content(file) else { continue };
        let name = path.join(file.file_name().unwrap_or_default());
        write_sparse(&name, content).map_err(|error| failed(&name, &error))?;
        names.push(name.display().to_string());
    }
    Ok(names)
}

/// Writes a file with holes where there are only zeroes.
fn write_sparse(name: &Path, content: &sim::Content) -> std::io::Result<()> {
    const STEP: usize = 1 << 16;
    let file = std::fs::File::create_new(name)?;
    file.set_len(content.len())?;
    let (mut buf, mut at) = (vec![0; STEP], 0);
    while at < content.len() {
        let len = content.read(at, &mut buf);
        let read = buf.get(..len).unwrap_or_default();
        if read.iter().any(|byte| *byte != 0) {
            file.write_all_at(read, at)?;
        }
        at += STEP as u64;
    }
    Ok(())
}
