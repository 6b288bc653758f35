//! Requests that are begun and reported later: each is a task, reported in the order in which they end.

use super::Session;
use super::arguments::{self, Refused};
use super::command::Outcome;
use super::report::{self, Style};
use super::transfer::{self, Content, Expect, ReadDone, ReadFlags, WriteFlags};
use super::witness::{Deed, told};
use crate::getopt::{Flag, Table};
use crate::outln;
use block::{Backend, BlockError, Flags, IoKind, Request};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// `aio_read`.
pub const READ: Table<ReadFlags> = &[&[
    transfer::machine(),
    Flag::set("-i", "count an invalid request, and do nothing else", |s| s.invalid = true),
    transfer::compared(),
    transfer::quiet(),
    transfer::registered(),
    transfer::dump(),
]];

/// `aio_write`.
pub const WRITE: Table<WriteFlags> = &[
    &[
        transfer::machine(),
        transfer::fua(),
        Flag::set("-i", "count an invalid request, and do nothing else", |s| s.invalid = true),
        transfer::written(),
        transfer::quiet(),
        transfer::registered(),
    ],
    &transfer::zeroes(),
];

/// What `help` says of these commands.
pub const NOTE: &str = " The request is reported when it has ended; aio_flush waits for that.\n";

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
    Discarded(Result<(), BlockError>),
}

/// Requests that are under way.
#[derive(Default)]
pub struct UnderWay {
    tasks: Vec<rt::JoinHandle<()>>,
    ended: Arc<Mutex<VecDeque<Ended>>>,
    /// One was reported that failed, or read what was not expected.
    failed: bool,
}

impl UnderWay {
    /// Whether a request was reported since the last call that failed, or read what was not expected.
    pub(super) fn take_failed(&mut self) -> bool {
        std::mem::take(&mut self.failed)
    }
}

/// `aio_read off len [len..]`.
pub async fn read(session: &mut Session<'_>, args: &[String]) -> Result<Outcome, Refused> {
    let (flags, operands) = session.transfer_flags("aio_read", READ, args)?;
    let Some((offset, lengths)) = transfer::pieces(&operands) else {
        return Err(session.misused("aio_read"));
    };
    let offset = session.or_refuse(arguments::number(offset))?;
    let length = session.or_refuse(arguments::lengths(lengths))?;
    let expect = session.expectation(&flags, length)?;
    if flags.invalid {
        return session.count_invalid(IoKind::Read, "read");
    }
    let (backend, keep, style) = (session.backend()?, flags.dump, flags.style);
    let shift = session.shift;
    session.begin(async move {
        let started = Instant::now();
        let result =
            transfer::read_all(transfer::Place::disk(&backend, offset, length), expect, keep, shift).await;
        Ended { style, offset, length, took: started.elapsed(), answer: Answer::Read(expect, result) }
    });
    rt::yield_now().await;
    Ok(Outcome::Done)
}

/// `aio_write off len [len..]`.
pub async fn write(session: &mut Session<'_>, args: &[String]) -> Result<Outcome, Refused> {
    let (mut flags, operands) = session.transfer_flags("aio_write", WRITE, args)?;
    let Some((offset, lengths)) = transfer::pieces(&operands) else {
        return Err(session.misused("aio_write"));
    };
    if flags.zero && lengths.len() > 1 {
        return Err(session.refuse(format_args!("-z supports only a single length parameter")));
    }
    if flags.zero {
        // Here zeroes go before a pattern, as scripts know it; `write` refuses both.
        flags.pattern = None;
    }
    let content = session.content(&flags)?;
    let offset = session.or_refuse(arguments::number(offset))?;
    if flags.invalid {
        return session.count_invalid(IoKind::Write, "write");
    }
    let length = match (&content, lengths) {
        (Content::Zeroes { .. }, [length, ..]) => session.or_refuse(arguments::number(length))?,
        _ => session.or_refuse(arguments::lengths(lengths))?,
    };
    let (backend, fua, style) = (session.writable_backend()?, flags.fua, flags.style);
    let shift = session.shift;
    let (witness, deed) = (session.witness.clone(), content.deed(offset, length, fua));
    session.begin(async move {
        let started = Instant::now();
        let request = Request::GUEST.with_if(fua, Flags::FUA);
        let to = transfer::Place::disk(&backend, offset, length);
        let result = told(witness, deed, transfer::write_all(to, &content, request, shift)).await;
        Ended { style, offset, length, took: started.elapsed(), answer: Answer::Wrote(result) }
    });
    rt::yield_now().await;
    Ok(Outcome::Done)
}

/// `aio_discard off len`.
pub async fn discard(session: &mut Session<'_>, args: &[String]) -> Result<Outcome, Refused> {
    let (flags, operands) = session.transfer_flags("aio_discard", transfer::DISCARD, args)?;
    let [offset, length] = operands.as_slice() else { return Err(session.misused("aio_discard")) };
    let offset = session.or_refuse(arguments::number(offset))?;
    let length = session.or_refuse(arguments::length(length))?;
    let (backend, style) = (session.writable_backend()?, flags.style);
    let (witness, deed) = (session.witness.clone(), Deed::Discard { offset, length });
    session.begin(async move {
        let started = Instant::now();
        let result = told(witness, deed, transfer::discard_all(&backend, offset, length)).await;
        Ended { style, offset, length, took: started.elapsed(), answer: Answer::Discarded(result) }
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
    fn writable_backend(&mut self) -> Result<Arc<Backend>, Refused> {
        let backend = self.backend()?;
        if backend.node().read_only() {
            self.console.error("Block node is read-only");
            return Err(Refused);
        }
        Ok(backend)
    }

    /// Counts a request that a guest's device would have refused.
    fn count_invalid(&mut self, kind: IoKind, word: &str) -> Result<Outcome, Refused> {
        self.backend()?.account().invalid(kind);
        outln!(self.console, "injecting invalid {word} request");
        Ok(Outcome::Done)
    }

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

    /// Reports the requests that were held back, and those that have ended, since.
    pub(super) fn report_finished(&mut self) {
        self.report_held();
        self.under_way.tasks.retain(|task| !task.is_finished());
        loop {
            let next = self.under_way.ended.lock().pop_front();
            let Some(ended) = next else { return };
            self.report_one(ended);
        }
    }

    fn report_one(&mut self, ended: Ended) {
        let Ended { style, offset, length, took, answer } = ended;
        self.under_way.failed |= match &answer {
            Answer::Read(_, Ok(done)) => !done.matched,
            Answer::Read(_, Err(_)) | Answer::Wrote(Err(_)) => true,
            Answer::Discarded(Err(_)) => true,
            Answer::Wrote(Ok(())) | Answer::Discarded(Ok(())) => false,
        };
        let verb = match answer {
            Answer::Read(expect, Ok(done)) => {
                self.tell_mismatch(offset, expect, done.matched);
                report::dump(self.console, style, offset as i64, &done.kept);
                "read"
            }
            Answer::Wrote(Ok(())) => "wrote",
            // With a blank of its own, as scripts know it.
            Answer::Discarded(Ok(())) => "discarded ",
            Answer::Read(_, Err(error)) => {
                outln!(self.console, "readv failed: {}", error.strerror());
                return;
            }
            Answer::Wrote(Err(error)) => {
                outln!(self.console, "aio_write failed: {}", error.strerror());
                return;
            }
            Answer::Discarded(Err(error)) => {
                outln!(self.console, "aio_discard failed: {}", error.strerror());
                return;
            }
        };
        report::request(self.console, style, verb, offset as i64, length, length, took);
    }
}
