//! The journal of a conversion: with it the same command goes on where an earlier one was cut off.
//!
//! ```text
//!   target made and durable ─▶ header written (a new file, renamed)
//!   pieces copied ─▶ ledger ──now and then──▶ target flushed ─▶ checkpoint appended, synced
//!   target flushed and closed, its name synced ─▶ proof, if asked for ─▶ journal removed
//!                                                  └ fails ─▶ a new journal of what is right, renamed
//! ```
//!
//! Laws:
//! - what a checkpoint tells was durable in the target before the checkpoint was written;
//! - it is not believed: when the command goes on, all of it is read in the target, and by its digest it is there, or it is
//!   copied again. What it does not tell of is copied in any case, whatever the target holds there;
//! - a source that is not the same any more is refused ([`source`]);
//! - where a proof finds something else in the target, only what is right is told of any more.
//!
//! docs/convert.md says what can be relied on.

mod file;
mod source;

pub(super) use file::Record;

use super::Args;
use super::ledger::{Ledger, Ranges};
use crate::digest;
use crate::failure::Failure;
use crate::image::Image;
use api::{Dict, Value, json};
use block::{Backend, BlockError, ErrorKind, Identity, Node};
use file::{MOST_RECORDS, Tail};
use futures_channel::oneshot;
use futures_util::future::{join, select};
use futures_util::stream::StreamExt;
use rt::{File, FileKind, OpenOptions};
use source::Now;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

/// How often what was copied is noted, at most.
const PACE: Duration = Duration::from_secs(1);
/// The part of the time that noting may take, as a divisor.
const SHARE: u32 = 20;

/// A journal.
pub(super) struct Journal {
    path: PathBuf,
    about: Dict,
    /// The file, once it is there, and where in it the next checkpoint goes.
    open: Option<(File, Tail)>,
    /// Sources of which only their content tells whether they are what they were.
    by_content: Vec<bool>,
    /// Zeroes stand for what could not be read.
    salvages: bool,
    goes_on: bool,
    is_usable: bool,
    told: bool,
}

/// A source, and where in the target it begins.
#[derive(Clone)]
pub(super) struct Part {
    pub entry: Arc<Backend>,
    pub start: u64,
}

/// What an earlier command has left in the target.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// What is there.
    pub done: Ranges,
    /// Bytes that were noted and are not what they were, and the first of them.
    pub lost: u64,
    pub first_lost: Option<u64>,
}

impl Journal {
    /// The journal of this command, which an earlier one may have begun.
    pub async fn open(path: &str, args: &Args, sources: &[Image]) -> Result<Journal, Failure> {
        let about = describe(args, sources).await;
        let by_content = vec![false; sources.len()];
        let mut journal = Journal {
            path: rt::fs::path(path),
            about,
            open: None,
            by_content,
            salvages: args.salvage,
            goes_on: false,
            is_usable: false,
            told: false,
        };
        journal.load().await?;
        journal.goes_on = journal.open.is_some();
        journal.is_usable = journal.goes_on;
        Ok(journal)
    }

    /// The failure of a file that is something else.
    fn foreign(&self, why: impl std::fmt::Display) -> Failure {
        Failure::new(format_args!("'{}' can't be the journal: {why}", self.path.display()))
    }

    /// The failure of a journal that nothing can go on from.
    fn explain(&self, error: &BlockError) -> Failure {
        let path = self.path.display();
        Failure::new(format_args!(
            "the conversion can't go on from '{path}' (delete it, and the conversion begins anew): {error}"
        ))
        .because(error)
    }

    /// Whether the same command can go on from it.
    pub fn is_usable(&self) -> bool {
        self.is_usable
    }

    /// Whether an earlier command has begun.
    pub fn goes_on(&self) -> bool {
        self.goes_on
    }

    /// Reads the header, if there is one.
    async fn load(&mut self) -> Result<(), Failure> {
        let file = match rt::fs::open(&self.path, &OpenOptions::read_write()).await {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return self.check_folder().await,
            Err(e) => return Err(self.foreign(BlockError::os("it can't be opened", &e))),
        };
        let stat = file.stat().map_err(|e| self.foreign(BlockError::os("it can't be read", &e)))?;
        if stat.kind != FileKind::Regular {
            return Err(self.foreign("it is no regular file"));
        }
        if stat.len == 0 {
            return Ok(());
        }
        let (was, tail) = file::read_header(&file).await.map_err(|error| match error.kind() {
            ErrorKind::Invalid => self.foreign(error),
            _ => self.explain(&error),
        })?;
        self.compare(&was).map_err(|error| self.explain(&error))?;
        self.open = Some((file, tail));
        Ok(())
    }

    /// Refuses a folder that is not there before a target is made for nothing.
    async fn check_folder(&self) -> Result<(), Failure> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let there = rt::fs::stat(folder.unwrap_or(Path::new("."))).await;
        there.map(drop).map_err(|e| self.foreign(BlockError::from_io(&e)))
    }

    /// Refuses another command, and sources that are not what they were.
    fn compare(&mut self, was: &Dict) -> Result<(), BlockError> {
        for (name, ours) in self.about.iter().filter(|(name, _)| *name != "sources") {
            if was.get(name) != Some(ours) {
                return Err(BlockError::invalid(format!(
                    "it is of another command: {}",
                    differs(name, was.get(name), Some(ours))
                )));
            }
        }
        let list = |about: &Dict| {
            about.get("sources").and_then(Value::as_list).map(<[Value]>::to_vec).unwrap_or_default()
        };
        let (before, now) = (list(was), list(&self.about));
        if before.len() != now.len() {
            return Err(BlockError::invalid("it is of a conversion of other sources"));
        }
        for ((was, is), by_content) in before.iter().zip(&now).zip(&mut self.by_content) {
            let (Some(was), Some(is)) = (was.as_dict(), is.as_dict()) else {
                return Err(BlockError::invalid("it does not describe its sources"));
            };
            match source::compare(was, is) {
                Now::Same => {}
                Now::Unknown => *by_content = true,
                Now::Changed(text) => return Err(BlockError::invalid(text)),
            }
        }
        Ok(())
    }

    /// Begins the journal of a target that was made, or whose content is nothing to build on, and is durable.
    pub async fn begin(&mut self, images: impl Iterator<Item = Arc<Node>> + Clone) -> Result<(), Failure> {
        // Neither the target, which is there by now, nor a source is replaced.
        for name in [self.path.clone(), self.new_path()] {
            let Ok(stat) = rt::fs::stat(&name).await else { continue };
            let storage = Identity::of_file(&stat);
            if images.clone().any(|image| image.stored_at(&storage)) {
                return Err(self.foreign(format_args!("'{}' is one of the images", name.display())));
            }
        }
        let (bytes, tail) = file::header(&self.about);
        let file = self.replace(&bytes).await.map_err(|error| {
            Failure::from(BlockError::from_io(&error)).within(&format!("'{}'", self.path.display()))
        })?;
        self.open = Some((file, tail));
        self.is_usable = true;
        Ok(())
    }

    /// Where a new journal is until it is whole.
    fn new_path(&self) -> PathBuf {
        let mut new = self.path.clone().into_os_string();
        new.push(".new");
        new.into()
    }

    async fn replace(&self, bytes: &[u8]) -> io::Result<File> {
        let new = &self.new_path();
        let options = OpenOptions { create: true, truncate: true, ..OpenOptions::read_write() };
        let file = rt::fs::open(new, &options).await?;
        let written = async {
            file.write_all(0, bytes).await?;
            file.sync(false).await?;
            rt::fs::rename(new, &self.path).await?;
            rt::fs::sync_name(&self.path).await
        };
        if let Err(error) = written.await {
            // Why it is not there is what counts.
            rt::fs::unlink(new).await.ok();
            return Err(error);
        }
        Ok(file)
    }

    /// Looks at all that an earlier command has noted: what is in the target, and whether the sources are what they were where only
    /// that can tell.
    pub async fn look(
        &mut self,
        sources: &[Part],
        target: &Arc<Backend>,
        ledger: &Ledger,
    ) -> Result<Found, Failure> {
        let mut found = Found::default();
        let Some((file, mut tail)) = self.open.take() else { return Ok(found) };
        let looked = async {
            while let Some((records, next)) = file::read_checkpoint(&file, tail).await? {
                tail = next;
                let looks = records.into_iter().map(|record| {
                    let source = self.source_to_read(sources, &record);
                    let target = target.clone();
                    let salvages = self.salvages;
                    async move { look(&record, source, &target, salvages).await.map(|there| (record, there)) }
                });
                let mut looks = pin!(digest::spread(looks));
                while let Some(looked) = looks.next().await {
                    let looked = looked.map_err(|e| BlockError::new(ErrorKind::Io, e.to_string()))?;
                    let (record, there) = looked?;
                    match there {
                        true => {
                            found.done.add(record.start..record.start + record.len);
                            ledger.add_known(&[record]);
                        }
                        false => {
                            found.lost = found.lost.saturating_add(record.len);
                            let first = found.first_lost.unwrap_or(u64::MAX);
                            found.first_lost = Some(first.min(record.start));
                        }
                    }
                }
            }
            // What was being written goes, lest it look like damage.
            file.set_len(tail.at).await.map_err(|e| BlockError::os("it can't be written", &e))
        };
        if let Err(error) = looked.await {
            self.is_usable = false;
            return Err(self.explain(&error));
        }
        self.open = Some((file, tail));
        Ok(found)
    }

    /// The source that a record is of, if it has to be read again.
    fn source_to_read(&self, sources: &[Part], record: &Record) -> Option<Part> {
        let index = sources.partition_point(|part| part.start <= record.start).checked_sub(1)?;
        let again = self.by_content.get(index).copied().unwrap_or(true);
        sources.get(index).filter(|_| again).cloned()
    }

    /// Does the work of a copy, and notes now and then what it has brought to the target.
    pub async fn beside<T>(
        &mut self,
        target: &Backend,
        ledger: &Ledger,
        warn: &(impl Fn(&str) + Sync),
        work: impl Future<Output = T>,
    ) -> T {
        let (end, mut ended) = oneshot::channel::<()>();
        let work = async {
            let result = work.await;
            drop(end);
            result
        };
        let keep = async {
            let mut pace = PACE;
            loop {
                let sleep = pin!(rt::sleep(pace));
                let last = matches!(select(sleep, &mut ended).await, futures_util::future::Either::Right(_));
                let before = rt::now_ns();
                self.save(target, ledger, warn).await;
                let took = Duration::from_nanos(rt::now_ns().saturating_sub(before));
                pace = PACE.max(took.saturating_mul(SHARE));
                if last {
                    return;
                }
            }
        };
        join(work, keep).await.0
    }

    async fn save(&mut self, target: &Backend, ledger: &Ledger, warn: &impl Fn(&str)) {
        let records = ledger.take_fresh();
        if records.is_empty() || self.open.is_none() {
            return;
        }
        let mut noted = 0;
        let saved = async {
            target.flush().await?;
            for records in records.chunks(MOST_RECORDS) {
                self.append(records).await?;
                noted += records.len();
            }
            Ok(())
        };
        let saved: Result<(), BlockError> = saved.await;
        if let Err(error) = saved {
            ledger.put_back(records.get(noted..).unwrap_or_default());
            if !std::mem::replace(&mut self.told, true) {
                warn(&format!("'{}': what was copied could not be noted: {error}", self.path.display()));
            }
        }
    }

    async fn append(&mut self, records: &[Record]) -> Result<(), BlockError> {
        let Some((file, tail)) = &mut self.open else { return Ok(()) };
        let (bytes, next) = file::checkpoint(*tail, records);
        let failed = |e: io::Error| BlockError::from_io(&e);
        file.write_all(tail.at, &bytes).await.map_err(failed)?;
        if let Err(error) = file.sync(false).await {
            // What of it is durable is unknown from here on, and no later sync would tell.
            self.open = None;
            return Err(failed(error));
        }
        *tail = next;
        Ok(())
    }

    /// The conversion is complete, and durable: the journal goes.
    pub async fn end(&self) -> Result<(), Failure> {
        let removed = async {
            rt::fs::unlink(&self.path).await?;
            rt::fs::sync_name(&self.path).await
        };
        removed.await.map_err(|error| {
            let (path, why) = (self.path.display(), BlockError::from_io(&error));
            Failure::new(format_args!(
                "the conversion is complete, but its journal '{path}' can't be removed: {why}"
            ))
            .because(&why)
        })
    }

    /// The target is not what was copied to it: the journal tells of what is right in it from now on, and of nothing else, which is
    /// copied again by the same command. A look through the page cache would not tell what the medium has.
    ///
    /// # Errors
    /// What to do where nothing can go on from here.
    pub async fn keep_only(&mut self, right: Option<Vec<Record>>) -> Result<(), String> {
        let Some(right) = right else { return Err(self.give_up()) };
        let (mut bytes, mut tail) = file::header(&self.about);
        for records in right.chunks(MOST_RECORDS) {
            let (more, next) = file::checkpoint(tail, records);
            bytes.extend(more);
            tail = next;
        }
        match self.replace(&bytes).await {
            Ok(file) => {
                self.open = Some((file, tail));
                Ok(())
            }
            Err(_) => Err(self.give_up()),
        }
    }

    /// What to do about a target of which nothing is known: what was noted need not be true of the medium.
    pub fn give_up(&mut self) -> String {
        self.is_usable = false;
        format!("delete '{}' to convert anew", self.path.display())
    }

    /// What to do after a conversion that was cut off.
    pub fn advice(&self) -> String {
        format!(
            "what is done is noted in '{}': give the same command again, and the conversion goes on, or delete that file to \
             begin anew",
            self.path.display()
        )
    }
}

/// Whether a range of the target is what was copied there. An error if it is not what the source shows now.
async fn look(
    record: &Record,
    source: Option<Part>,
    target: &Arc<Backend>,
    salvages: bool,
) -> Result<bool, BlockError> {
    let end = record.start.checked_add(record.len).filter(|end| *end <= target.length());
    let Some(end) = end else { return Ok(false) };
    if let Some(source) = source {
        let from = record.start - source.start;
        let to = (end - source.start).min(source.entry.length());
        let shown = digest::of_range(&source.entry, from..to).await;
        // Zeroes may stand for what could not be read: then it is tried, and copied, again.
        if salvages && !shown.as_ref().is_ok_and(|shown| *shown == record.digest) {
            return Ok(false);
        }
        let shown =
            shown.map_err(|error| BlockError::invalid(format!("a source can't be read again: {error}")))?;
        if shown != record.digest {
            let text = format!(
                "source '{}' has changed in the {} bytes at byte {from}",
                source.entry.node().exact_filename(),
                record.len
            );
            return Err(BlockError::invalid(text));
        }
    }
    // What can't be read in the target is copied again.
    Ok(digest::of_range(target, record.start..end).await.is_ok_and(|shown| shown == record.digest))
}

/// What a journal says of its conversion: whatever makes another target of it.
async fn describe(args: &Args, sources: &[Image]) -> Dict {
    let mut list = Vec::new();
    for source in sources {
        list.push(Value::Dict(source::describe(&source.node()).await));
    }
    let mut about = Dict::new();
    about.insert("sources", Value::List(list));
    args.describe(&mut about);
    about
}

/// In words, how two values of a member differ.
fn differs(member: &str, was: Option<&Value>, is: Option<&Value>) -> String {
    let shown = |value: Option<&Value>| value.map_or("nothing".to_owned(), json::to_line);
    format!("its {member} was {}, and is {}", shown(was), shown(is))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use sim::{Config, Disk, Sim};

    #[test]
    fn a_journal_tells_of_what_a_proof_found_right_and_of_nothing_else() {
        let record =
            |start: u64| Record { start: start << 20, len: 1 << 20, digest: Digest([start as u8; 32]) };
        Sim::boot(Config::seeded(1), Disk::default()).run(async move {
            let mut journal = Journal {
                path: "/j".into(),
                about: Dict::new(),
                open: None,
                by_content: Vec::new(),
                salvages: false,
                goes_on: false,
                is_usable: false,
                told: false,
            };
            journal.begin(std::iter::empty()).await.unwrap();
            let all: Vec<_> = (0..MOST_RECORDS as u64 + 3).map(record).collect();
            for records in all.chunks(MOST_RECORDS) {
                journal.append(records).await.unwrap();
            }
            let right: Vec<_> = all.into_iter().filter(|record| record.start >> 20 != 5).collect();
            journal.keep_only(Some(right.clone())).await.unwrap();
            // What is copied again is noted behind it.
            journal.append(&[record(5)]).await.unwrap();
            let file = rt::fs::open("/j".as_ref(), &OpenOptions::read_only()).await.unwrap();
            let (_, mut tail) = file::read_header(&file).await.unwrap();
            let mut told = Vec::new();
            while let Some((records, next)) = file::read_checkpoint(&file, tail).await.unwrap() {
                told.extend(records);
                tail = next;
            }
            assert_eq!(told, [right, vec![record(5)]].concat());
            assert!(journal.is_usable());
            journal.keep_only(None).await.unwrap_err();
            assert!(!journal.is_usable());
        });
    }
}
