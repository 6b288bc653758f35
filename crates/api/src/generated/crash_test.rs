// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! Whether an image survives crashes, as the tool tells it.

use crate::Dict;
use crate::codec::*;

/// What the crashes came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CrashTestVerdict {
    /// Nothing is lost or corrupt after any.
    Survives,
    /// Something is, after one.
    Broken,
}

impl Enumeration for CrashTestVerdict {
    const VALUES: &'static [(&'static str, Self)] = &[("survives", Self::Survives), ("broken", Self::Broken)];
}
enumeration_codec!(CrashTestVerdict);

/// What became of a change that was not yet durable.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CrashTestFate {
    /// The change, in words.
    pub change: String,
    /// Whether it was kept, lost or torn.
    pub fate: String,
}

impl Object for CrashTestFate {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { change: from.required("change")?, fate: from.required("fate")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("change", &self.change);
        to.put("fate", &self.fate);
    }
}
object_codec!(CrashTestFate);

/// A crash that the image does not survive.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CrashTestFailure {
    /// Its name, which the command takes to try it alone.
    pub point: String,
    /// What happens, in words.
    pub crash: String,
    /// What is wrong after it, in words.
    pub what: String,
    /// Where on the guest's disk, if it is at a place.
    pub offset: Option<u64>,
    /// How many changes of files had been begun.
    pub change: u64,
    /// How many there were in the run.
    pub changes: u64,
    /// The changes that were not yet durable.
    pub not_durable: Vec<CrashTestFate>,
    /// Where the broken files were kept.
    pub kept: Vec<String>,
}

impl Object for CrashTestFailure {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            point: from.required("point")?,
            crash: from.required("crash")?,
            what: from.required("what")?,
            offset: from.optional("offset")?,
            change: from.required("change")?,
            changes: from.required("changes")?,
            not_durable: from.required("not-durable")?,
            kept: from.required("kept")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("point", &self.point);
        to.put("crash", &self.crash);
        to.put("what", &self.what);
        to.put_optional("offset", &self.offset);
        to.put("change", &self.change);
        to.put("changes", &self.changes);
        to.put("not-durable", &self.not_durable);
        to.put("kept", &self.kept);
    }
}
object_codec!(CrashTestFailure);

/// What was tried, and what it came to.
#[derive(Debug, Clone, PartialEq)]
pub struct CrashTestReport {
    /// The image.
    pub filename: String,
    /// What was done to it.
    pub script: String,
    /// Whether it survives.
    pub verdict: CrashTestVerdict,
    /// The seed of the first run.
    pub seed: u64,
    /// How often the script was run.
    pub runs: u64,
    /// Crashes that were tried.
    pub crashes: u64,
    /// Changes of files in all runs.
    pub changes: u64,
    /// Moments that there were.
    pub moments: u64,
    /// Moments at which crashes were tried.
    pub moments_tried: u64,
    /// Moments at which every subset of what was not yet durable was tried.
    pub moments_complete: u64,
    /// Crashes that leave leaked clusters.
    pub crashes_with_leaks: u64,
    /// The most that one of them leaves.
    pub most_leaked_clusters: u64,
    /// The first crash that it does not survive.
    pub failure: Option<CrashTestFailure>,
}

impl Object for CrashTestReport {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            filename: from.required("filename")?,
            script: from.required("script")?,
            verdict: from.required("verdict")?,
            seed: from.required("seed")?,
            runs: from.required("runs")?,
            crashes: from.required("crashes")?,
            changes: from.required("changes")?,
            moments: from.required("moments")?,
            moments_tried: from.required("moments-tried")?,
            moments_complete: from.required("moments-complete")?,
            crashes_with_leaks: from.required("crashes-with-leaks")?,
            most_leaked_clusters: from.required("most-leaked-clusters")?,
            failure: from.optional("failure")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("filename", &self.filename);
        to.put("script", &self.script);
        to.put("verdict", &self.verdict);
        to.put("seed", &self.seed);
        to.put("runs", &self.runs);
        to.put("crashes", &self.crashes);
        to.put("changes", &self.changes);
        to.put("moments", &self.moments);
        to.put("moments-tried", &self.moments_tried);
        to.put("moments-complete", &self.moments_complete);
        to.put("crashes-with-leaks", &self.crashes_with_leaks);
        to.put("most-leaked-clusters", &self.most_leaked_clusters);
        to.put_optional("failure", &self.failure);
    }
}
object_codec!(CrashTestReport);
