//! The verdict, for a person or for a script.

use super::judge::Wrong;
use super::record::Recording;
use super::{Args, Point, keep};
use crate::console::Console;
use crate::failure::Failure;
use crate::flags::Output;
use crate::{out, outln};
use api::{CrashTestFailure, CrashTestFate, CrashTestReport, CrashTestVerdict, Encode};
use crash::moments::Moment;
use sim::Disk;
use std::path::{Path, PathBuf};

/// What the crashes came to.
pub struct Verdict {
    /// The seed of the first run, and how many runs there were.
    pub seed: u64,
    pub runs: u64,
    /// How many were tried.
    pub crashes: u64,
    /// At how many moments, of how many there were.
    pub moments: (u64, u64),
    /// At so many of them every subset of what was not yet durable was tried.
    pub complete: u64,
    /// Changes of files in all runs.
    pub changes: u64,
    /// After how many crashes there were leaks, and the most clusters that leaked.
    pub leaking: (u64, u64),
    /// The first failure.
    pub failure: Option<Broken>,
}

/// A crash that an image does not survive.
pub struct Broken {
    /// Which one.
    pub point: Point,
    /// What is wrong.
    pub wrong: Wrong,
    /// How many changes of files had been begun, and how many there were in the run.
    pub change: (u64, u64),
    /// What was not durable, and what became of it.
    pub fates: Vec<(String, String)>,
    /// Where the broken files were kept.
    pub kept: Vec<String>,
    /// The disk after the crash, and which of its files the script had changed.
    disk: Disk,
    changed: Vec<PathBuf>,
}

/// Lines of fates that a person is shown.
const FATES: usize = 40;

impl Broken {
    /// What is known of a crash that failed.
    pub fn new(recording: &Recording, moment: &Moment, point: Point, wrong: Wrong) -> Broken {
        let effects = moment.disk.pending_effects().into_iter();
        let changed = |path: &Path| moment.disk.content(path).is_some_and(|content| !content.untouched());
        let fates = moment.disk.fates(point.cut).into_iter().map(|fate| fate.to_string());
        Broken {
            point,
            wrong,
            change: (moment.disk.changes(), recording.changes),
            fates: fates.zip(effects).collect(),
            kept: Vec::new(),
            disk: moment.disk.after(point.cut),
            changed: moment.disk.paths().filter(|path| changed(path)).map(PathBuf::from).collect(),
        }
    }

    /// Leaves the broken files in a new folder.
    pub fn keep(&mut self, folder: &str) -> Result<(), Failure> {
        self.kept = keep(&self.disk, &self.changed, folder)?;
        Ok(())
    }
}

impl Verdict {
    /// Prints it.
    pub fn print(&self, console: &mut Console, args: &Args, program: &str, script: &str) {
        match args.output {
            Output::Json => console.json(&self.told(args, script).encode()),
            Output::Human => self.tell(console, args, program, script),
        }
    }

    fn tell(&self, console: &mut Console, args: &Args, program: &str, script: &str) {
        if let Some(broken) = &self.failure {
            return broken.tell(console, args, program, script);
        }
        if args.verbosity.quiet {
            return;
        }
        let Verdict { crashes, moments: (tried, seen), complete, changes, leaking, .. } = self;
        outln!(
            console,
            "The image survives: {crashes} crashes tried, and nothing is lost or corrupt after any."
        );
        outln!(
            console,
            "{changes} changes of files in {} runs of the script; {tried} of {seen} moments.",
            self.runs
        );
        if complete == tried {
            outln!(
                console,
                "At each of them, every subset of the changes that were not yet durable was tried."
            );
        } else {
            outln!(
                console,
                "At {complete} of them every subset of the changes that were not yet durable was tried, at the others a sample."
            );
        }
        match leaking {
            (0, _) => outln!(console, "No crash leaves leaked clusters."),
            (count, most) => outln!(
                console,
                "{count} crashes leave leaked clusters, {most} at most: space that 'check -r leaks' gives back, no harm."
            ),
        }
    }

    fn told(&self, args: &Args, script: &str) -> CrashTestReport {
        CrashTestReport {
            filename: args.source.name.clone(),
            script: script.to_owned(),
            verdict: match self.failure {
                Some(_) => CrashTestVerdict::Broken,
                None => CrashTestVerdict::Survives,
            },
            seed: self.seed,
            runs: self.runs,
            crashes: self.crashes,
            changes: self.changes,
            moments: self.moments.1,
            moments_tried: self.moments.0,
            moments_complete: self.complete,
            crashes_with_leaks: self.leaking.0,
            most_leaked_clusters: self.leaking.1,
            failure: self.failure.as_ref().map(Broken::told),
        }
    }
}

impl Broken {
    fn tell(&self, console: &mut Console, args: &Args, program: &str, script: &str) {
        let Broken { point, wrong, change: (at, of), fates, kept, .. } = self;
        outln!(console, "The image does not survive {point}: {}, after change {at} of {of}.", point.kind());
        outln!(console, "\n{}", wrong.what);
        if fates.is_empty() {
            outln!(console, "\nAll changes before it were durable.");
        } else {
            outln!(console, "\nNot yet durable then, and what became of it:");
        }
        for (fate, effect) in fates.iter().take(FATES) {
            outln!(console, "  {fate:<5} {effect}");
        }
        if fates.len() > FATES {
            outln!(console, "  and {} more", fates.len() - FATES);
        }
        for name in kept {
            outln!(console, "\nKept as it is then: {name}");
        }
        out!(console, "\nThis crash alone: {program} --point {point}");
        for id in args.given.secrets() {
            out!(console, " --object secret,id={id},...");
        }
        if let Some(format) = &args.source.format {
            out!(console, " -f {format}");
        }
        out!(console, "{}", if args.source.image_opts { " --image-opts" } else { "" });
        outln!(console, " {} {script}", args.source.name);
    }

    fn told(&self) -> CrashTestFailure {
        let fate =
            |(fate, change): &(String, String)| CrashTestFate { change: change.clone(), fate: fate.clone() };
        CrashTestFailure {
            point: self.point.to_string(),
            crash: self.point.kind().to_owned(),
            what: self.wrong.what.clone(),
            offset: self.wrong.offset,
            change: self.change.0,
            changes: self.change.1,
            not_durable: self.fates.iter().map(fate).collect(),
            kept: self.kept.clone(),
        }
    }
}
