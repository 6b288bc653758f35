//! What a job has copied, kept in a file, so that the same job goes on from there after the program was killed.
//!
//! ```text
//!   copied pieces ─▶ notes ──now and then──▶ target flushed ─▶ ID.job.new written, synced ─▶ renamed to ID.job, directory synced
//! ```
//!
//! Laws:
//! - the file is there as long as its job is, and stays when the program ends first, in order or not;
//! - it is whole or not there: a new one replaces the old one by a rename. What it notes is durable in the target before;
//! - it is believed in nothing but which bytes to compare ([`CopyNotes`]). One of another copy, or one that is damaged, is
//!   refused, and stays as it is.
//!
//! The file, all numbers big-endian: magic number (8 bytes) · version (4) · length of the description (4) · number of bytes of the
//! bits (8) · description (JSON) · bits, the lowest of a byte first · SHA-256 of all that.
use crate::register::Jobs;
use api::{Dict, Enumeration, JobType, Value, json};
use block::{BlockError, CopyNotes, ErrorKind, Graph, Node, Result};
use event_listener::{Event, IntoNotification};
use futures_util::future::join;
use rt::{BoxFuture, FileKind, OpenOptions};
use sha2::{Digest, Sha256};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::time::Duration;

const MAGIC: &[u8; 8] = b"cairnjob";
const VERSION: u32 = 1;

/// Bytes before the description.
const HEAD: usize = 24;
/// Bytes of the checksum.
const SUM: usize = 32;
/// Most bytes of the description.
const MOST_ABOUT: u64 = 1 << 20;

/// Most bytes of the notes: they are in memory twice while they are written. Of larger disks, from 128 TiB on, nothing is noted.
const MOST_NOTES: u64 = 16 << 20;

/// How often what was copied is noted, at most.
const PACE: Duration = Duration::from_secs(1);
/// The part of the time that noting may take, as a divisor.
const SHARE: u32 = 20;

/// Makes durable what has been copied.
pub(crate) type Flush<'a, 'f> = &'a (dyn Fn() -> BoxFuture<'f, Result<()>> + Sync);

/// The saved state of a job.
pub(crate) struct Saved {
    graph: Graph,
    jobs: Jobs,
    path: PathBuf,
    /// What the file says of the copy.
    about: Dict,
    notes: Arc<CopyNotes>,
    goes_on: bool,
}

/// Refuses a directory that states can't be kept in.
pub(crate) async fn check_directory(dir: &Path) -> Result<()> {
    let what = || format!("job states can't be kept in '{}'", dir.display());
    match rt::fs::stat(dir).await {
        Ok(stat) if stat.kind == FileKind::Directory => Ok(()),
        Ok(_) => Err(BlockError::invalid(format!("{}: it is no directory", what()))),
        Err(e) => Err(BlockError::os(what(), &e)),
    }
}

/// Notes for a disk of this length, unless it is too large.
fn notes_of(length: u64) -> Option<CopyNotes> {
    Some(CopyNotes::new(length)).filter(|notes| notes.stored_len() <= MOST_NOTES)
}

/// An image as its name and format.
fn image(node: &Arc<Node>) -> String {
    let image = node.skip_filters();
    format!("{}:{}", image.driver_name(), image.exact_filename())
}

impl Saved {
    /// The state of a job that is to copy `source` to `target`: what the same job has left, or a new one. `None` where states are
    /// not kept.
    pub(crate) async fn begin(
        graph: &Graph,
        jobs: &Jobs,
        (id, kind): (&str, JobType),
        (source, target): (&Arc<Node>, &Arc<Node>),
    ) -> Result<Option<Self>> {
        let Some(dir) = jobs.states() else { return Ok(None) };
        let length = source.length();
        let Some(notes) = notes_of(length) else {
            graph.notices().warn(&format!("job '{id}': the disk is too large to note what was copied of it"));
            return Ok(None);
        };
        let mut about = Dict::new();
        about.insert("job", kind.name());
        about.insert("source", image(source).as_str());
        about.insert("target", image(target).as_str());
        about.insert("length", i64::try_from(length).unwrap_or(i64::MAX));
        let path = dir.join(format!("{id}.job"));
        let (graph, jobs) = (graph.clone(), jobs.clone());
        let mut this = Self { graph, jobs, path, about, notes: Arc::new(notes), goes_on: false };
        this.goes_on = this.load().await.map_err(|e| this.explain(e, id))?;
        if this.goes_on {
            tracing::info!(job = id, noted = this.notes.noted(), "what was copied before is compared");
        }
        Ok(Some(this))
    }

    fn explain(&self, error: BlockError, id: &str) -> BlockError {
        let path = self.path.display();
        error.context(format!("job '{id}' can't go on from '{path}' (delete it, and the job begins anew)"))
    }

    /// What has been copied.
    pub(crate) fn notes(&self) -> Arc<CopyNotes> {
        self.notes.clone()
    }

    /// Whether the target holds some of the copy already.
    pub(crate) fn goes_on(&self) -> bool {
        self.goes_on
    }

    /// Reads the file, if there is one.
    async fn load(&self) -> Result<bool> {
        let failed = |e: io::Error| BlockError::os("it can't be read", &e);
        let file = match rt::fs::open(&self.path, &OpenOptions::read_only()).await {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(failed(e)),
        };
        let most = (HEAD + SUM) as u64 + MOST_ABOUT + self.notes.stored_len();
        let len = file.len().map_err(failed)?.min(most.saturating_add(1));
        let bytes = file.read_exact(0, usize::try_from(len).unwrap_or(usize::MAX)).await.map_err(failed)?;
        let (about, bits) = parse(&bytes)?;
        for (name, ours) in self.about.iter() {
            let theirs = about.get(name);
            if theirs != Some(ours) {
                let show = |value: Option<&Value>| value.map_or("nothing".to_owned(), json::to_line);
                let (theirs, ours) = (show(theirs), show(Some(ours)));
                let text = format!("it is of a copy with the {name} {theirs}, and now that is {ours}");
                return Err(BlockError::invalid(text));
            }
        }
        if bits.len() as u64 != self.notes.stored_len() {
            return Err(damaged("its notes have another length than they should"));
        }
        self.notes.take_over(bits);
        Ok(true)
    }

    /// Does the work of a job and notes now and then what has been copied. `flush` makes that durable.
    pub(crate) async fn beside<T>(&self, flush: Flush<'_, '_>, work: impl Future<Output = T> + Send) -> T {
        let (ended, done) = (Event::new(), AtomicBool::new(false));
        let work = async {
            let result = work.await;
            done.store(true, Release);
            ended.notify(usize::MAX.additional());
            result
        };
        let keep = async {
            let (mut pace, mut noted) = (PACE, 0);
            loop {
                let end = ended.listen();
                let last = done.load(Acquire) || rt::timeout(pace, end).await.is_ok();
                if (!last || self.jobs.is_ending()) && self.notes.noted() != noted {
                    noted = self.notes.noted();
                    let before = rt::now_ns();
                    self.save(flush).await;
                    let took = Duration::from_nanos(rt::now_ns().saturating_sub(before));
                    pace = PACE.max(took.saturating_mul(SHARE));
                }
                if last {
                    return;
                }
            }
        };
        let result = join(work, keep).await.0;
        self.tell();
        result
    }

    /// Says what was noted and could not be relied on.
    fn tell(&self) {
        let differing = self.notes.differing();
        if differing > 0 {
            let text = |name| self.about.get(name).and_then(Value::as_str).unwrap_or_default();
            self.graph.notices().warn(&format!(
                "'{}' or '{}' has changed since the copy of the one to the other was cut off: {differing} bytes were \
                 copied again",
                text("source"),
                text("target")
            ));
        }
    }

    async fn save(&self, flush: Flush<'_, '_>) {
        // Noted first: what is copied during the flush may not be durable after it.
        let bytes = file(&self.about, &self.notes.stored());
        let saved = async {
            flush().await?;
            let failed = |e: io::Error| BlockError::os(format!("'{}'", self.path.display()), &e);
            self.replace(&bytes).await.map_err(failed)
        };
        if let Err(error) = saved.await {
            tracing::warn!(%error, "what a job has copied could not be noted");
        }
    }

    fn new_path(&self) -> PathBuf {
        self.path.with_extension("job.new")
    }

    async fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        let new = self.new_path();
        let options = OpenOptions { write: true, create: true, truncate: true, ..OpenOptions::default() };
        let file = rt::fs::open(&new, &options).await?;
        file.write_all(0, bytes).await?;
        file.sync(false).await?;
        rt::fs::rename(&new, &self.path).await?;
        rt::fs::sync_name(&self.path).await
    }

    /// The job has ended: the file goes, unless the job was given up because the program ends.
    pub(crate) async fn end(&self, success: bool) {
        if !success && self.jobs.is_ending() {
            return;
        }
        for path in [&self.path, &self.new_path()] {
            match rt::fs::unlink(path).await {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(path = %path.display(), error = %e, "the state of a job that has ended is left behind");
                }
                _ => {}
            }
        }
        if let Err(e) = rt::fs::sync_name(&self.path).await {
            tracing::warn!(error = %e, "the state of a job that has ended may come back");
        }
    }
}

fn damaged(text: &str) -> BlockError {
    BlockError::new(ErrorKind::Corrupt, text)
}

/// The bytes of the file.
fn file(about: &Dict, bits: &[u8]) -> Vec<u8> {
    let about = json::to_line(&Value::Dict(about.clone()));
    let mut bytes = Vec::with_capacity(HEAD + about.len() + bits.len() + SUM);
    bytes.extend(MAGIC);
    bytes.extend(VERSION.to_be_bytes());
    bytes.extend((about.len() as u32).to_be_bytes());
    bytes.extend((bits.len() as u64).to_be_bytes());
    bytes.extend(about.as_bytes());
    bytes.extend(bits);
    let sum = Sha256::digest(&bytes);
    bytes.extend(sum.as_slice());
    bytes
}

/// The description and the bits.
fn parse(bytes: &[u8]) -> Result<(Dict, &[u8])> {
    let (body, sum) = bytes.split_last_chunk::<SUM>().ok_or_else(|| damaged("it is too short"))?;
    let (magic, rest) = body.split_first_chunk::<8>().ok_or_else(|| damaged("it is too short"))?;
    if magic != MAGIC {
        return Err(BlockError::invalid("it is no state of a job"));
    }
    if Sha256::digest(body).as_slice() != sum {
        return Err(damaged("its checksum is wrong"));
    }
    let number = |from: &[u8]| from.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    let (head, rest) = rest.split_first_chunk::<{ HEAD - 8 }>().ok_or_else(|| damaged("it is too short"))?;
    let [version, about, bits] = [&head[..4], &head[4..8], &head[8..]].map(number);
    if version != u64::from(VERSION) {
        return Err(BlockError::unsupported(format!("it has version {version}, known is {VERSION}")));
    }
    if about.saturating_add(bits) != rest.len() as u64 {
        return Err(damaged("its lengths are wrong"));
    }
    let (about, bits) =
        rest.split_at_checked(about as usize).ok_or_else(|| damaged("its lengths are wrong"))?;
    let text = std::str::from_utf8(about).map_err(|_| damaged("its description is no text"))?;
    match json::parse(text) {
        Ok(Value::Dict(about)) => Ok((about, bits)),
        _ => Err(damaged("its description is no object")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_of_any_size_can_t_have_notes_of_any_size() {
        assert!(notes_of(0).is_some() && notes_of(128 << 40).is_some());
        assert!(notes_of(129 << 40).is_none() && notes_of(i64::MAX as u64).is_none());
    }

    #[test]
    fn what_is_written_is_read_back_and_any_byte_that_changes_is_noticed() {
        let mut about = Dict::new();
        about.insert("source", "raw:/a\"b");
        let bytes = file(&about, &[1, 2, 3]);
        assert_eq!(parse(&bytes).unwrap(), (about, [1, 2, 3].as_slice()));
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(parse(&changed).is_err(), "byte {at}");
            assert!(parse(&bytes[..at]).is_err(), "{at} bytes");
        }
    }
}
