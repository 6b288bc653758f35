//! Requests that are begun and reported later: each is a task, reported in the order in which they end.

use super::Session;
use super::command::Outcome;
use super::report::{self, Style};
use super::transfer::{self, Content, Expect, Id, ReadDone};
use super::words::Refused;
use crate::getopt::Flag;
use crate::outln;
use block::BlockError;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Help of `aio_read`.
pub const READ_MORE: &str = " -C  print numbers separated by commas
 -i  make an invalid request, for the statistics
 -P  compare what is read with this byte
 -q  print nothing about the request
 -r  accepted
 -v  print what was read

 The request is reported when it has ended; aio_flush waits for that.
";

/// Help of `aio_write`.
pub const WRITE_MORE: &str = " -C  print numbers separated by commas
 -f  durable before it is reported
 -i  make an invalid request, for the statistics
 -P  write this byte
 -q  print nothing about the request
 -r  accepted
 -u  with -z: space may be given up
 -z  write zeroes

 The request is reported when it has ended; aio_flush waits for that.
";

const READ: &[Flag<Id>] = &[
    Flag::bare(Id::Machine, Some('C'), None, ""),
    Flag::bare(Id::Invalid, Some('i'), None, ""),
    Flag::bare(Id::Quiet, Some('q'), None, ""),
    Flag::bare(Id::Registered, Some('r'), None, ""),
    Flag::bare(Id::Dump, Some('v'), None, ""),
    Flag::valued(Id::Pattern, Some('P'), None, "BYTE", ""),
];

const WRITE: &[Flag<Id>] = &[
    Flag::bare(Id::Machine, Some('C'), None, ""),
    Flag::bare(Id::Fua, Some('f'), None, ""),
    Flag::bare(Id::Invalid, Some('i'), None, ""),
    Flag::bare(Id::Quiet, Some('q'), None, ""),
    Flag::bare(Id::Registered, Some('r'), None, ""),
    Flag::bare(Id::Unmap, Some('u'), None, ""),
    Flag::bare(Id::Zero, Some('z'), None, ""),
    Flag::valued(Id::Pattern, Some('P'), None, "BYTE", ""),
];

/// A request that has ended.
struct Ended {
    style: Style,
    offset: u64,
    length: u64,
    took: Duration,
    answer: Answer,
}

enum Answer {
    Read(Option<Expect>, Result<ReadDone, BlockError>),
    Wrote(Result<(), BlockError>),
}

/// Requests that are under way.
#[derive(Default)]
pub struct UnderWay {
    tasks: Vec<rt::JoinHandle<()>>,
    ended: Arc<Mutex<VecDeque<Ended>>>,
}

/// `aio_read off len [len..]`.
pub async fn read(session: &mut Session<'_>, args: &[String]) -> Result<Outcome, Refused> {
    let parsed = session.flags("aio_read", READ, args)?;
    let Some((offset, lengths)) = parsed.operands.split_first().filter(|(_, lengths)| !lengths.is_empty())
    else {
        return Err(session.misused("aio_read"));
    };
    if parsed.has(Id::Invalid) {
        return Err(session.refuse(format_args!("-i: invalid requests are not supported yet")));
    }
    let offset = session.number(offset)?;
    let length = session.lengths(lengths)?;
    let expect = session.expectation(&parsed, length)?;
    let (backend, keep, style) = (session.backend()?, parsed.has(Id::Dump), transfer::style(&parsed));
    let shift = session.shift;
    session.begin(async move {
        let started = Instant::now();
        let result = transfer::read_all(&backend, offset, length, expect, keep, shift).await;
        Ended { style, offset, length, took: started.elapsed(), answer: Answer::Read(expect, result) }
    });
    rt::yield_now().await;
    Ok(Outcome::Done)
}

/// `aio_write off len [len..]`.
pub async fn write(session: &mut Session<'_>, args: &[String]) -> Result<Outcome, Refused> {
    let parsed = session.flags("aio_write", WRITE, args)?;
    let Some((offset, lengths)) = parsed.operands.split_first().filter(|(_, lengths)| !lengths.is_empty())
    else {
        return Err(session.misused("aio_write"));
    };
    if parsed.has(Id::Invalid) {
        return Err(session.refuse(format_args!("-i: invalid requests are not supported yet")));
    }
    if parsed.has(Id::Zero) && lengths.len() > 1 {
        return Err(session.refuse(format_args!("-z supports only a single length parameter")));
    }
    let content = session.content(&parsed)?;
    let offset = session.number(offset)?;
    let length = match (&content, lengths) {
        (Content::Zeroes { .. }, [length, ..]) => session.number(length)?,
        _ => session.lengths(lengths)?,
    };
    let (backend, fua, style) = (session.backend()?, parsed.has(Id::Fua), transfer::style(&parsed));
    let shift = session.shift;
    if backend.node().read_only() {
        session.console.error("Block node is read-only");
        return Err(Refused);
    }
    session.begin(async move {
        let started = Instant::now();
        let result = transfer::write_all(&backend, offset, length, &content, fua, shift).await;
        Ended { style, offset, length, took: started.elapsed(), answer: Answer::Wrote(result) }
    });
    rt::yield_now().await;
    Ok(Outcome::Done)
}

/// `aio_flush`.
pub async fn flush(session: &mut Session<'_>, args: &[String]) -> Result<Outcome, Refused> {
    session.finish_requests().await;
    transfer::flush(session, args).await
}

impl Session<'_> {
    fn begin(&mut self, request: impl Future<Output = Ended> + Send + 'static) {
        let ended = self.under_way.ended.clone();
        self.under_way.tasks.push(rt::spawn(async move {
            let request = request.await;
            ended.lock().push_back(request);
        }));
    }

    /// Waits for all requests that are under way, and reports them.
    pub(super) async fn finish_requests(&mut self) {
        for task in std::mem::take(&mut self.under_way.tasks) {
            if let Err(error) = task.await {
                self.console.error(error);
            }
        }
        self.report_finished();
    }

    /// Reports the requests that have ended since.
    pub(super) fn report_finished(&mut self) {
        self.under_way.tasks.retain(|task| !task.is_finished());
        loop {
            let next = self.under_way.ended.lock().pop_front();
            let Some(ended) = next else { return };
            self.report_one(ended);
        }
    }

    fn report_one(&mut self, ended: Ended) {
        let Ended { style, offset, length, took, answer } = ended;
        let verb = match answer {
            Answer::Read(expect, Ok(done)) => {
                self.tell_mismatch(offset, expect, done.matched);
                report::dump(self.console, offset as i64, &done.kept);
                "read"
            }
            Answer::Wrote(Ok(())) => "wrote",
            Answer::Read(_, Err(error)) => {
                outln!(self.console, "readv failed: {}", error.strerror());
                return;
            }
            Answer::Wrote(Err(error)) => {
                outln!(self.console, "aio_write failed: {}", error.strerror());
                return;
            }
        };
        report::request(self.console, style, verb, offset as i64, length, length, took);
    }
}
