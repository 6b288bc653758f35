//! `bench`: how long many requests of one size take.
//!
//! Bounds: [`MAX_DEPTH`] requests and [`MAX_BYTES`] of buffers at once.

use super::Call;
use crate::console::Console;
use crate::failure::Failure;
use crate::flags::{self, has_parts};
use crate::getopt::{Flag, Table};
use crate::image::{self, Image, Source};
use crate::usage::Manual;
use crate::{outln, runtime};
use block::{Backend, BlockError, Request};
use rt::{Buf, BufMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// Most requests that are under way at once.
const MAX_DEPTH: u64 = 4096;

/// Most bytes of buffers.
const MAX_BYTES: u64 = 512 << 20;

/// Most that a number of requests or of bytes may be.
const MOST: u64 = i32::MAX as u64;

pub(super) const FLAGS: Table<Args> = &[
    &[Flag::help(), Flag::ignored("-q --quiet", "accepted", "all that is printed is the result")],
    &flags::source(flags::FORMAT_OF_THE_IMAGE),
    &[
        flags::cache("-t --cache", "cache mode (writeback)"),
        Flag::take("-c --count", "NUMBER", "requests (75000)", |s, text| {
            store(&mut s.count, super::bounded("request count", text, 1, MOST))
        }),
        Flag::take("-s --buffer-size", "SIZE", "bytes of each (4k)", |s, text| {
            store(&mut s.size, super::bounded("buffer size", text, 1, MOST))
        }),
        Flag::take("-d --depth", "NUMBER", "requests that are under way at once (64)", |s, text| {
            store(&mut s.depth, super::bounded("queue depth", text, 1, MOST))
        }),
        Flag::take("-o --offset", "OFFSET", "where the first one goes (0)", |s, text| {
            store(&mut s.offset, super::bounded("offset", text, 0, i64::MAX as u64))
        }),
        Flag::take("-S --step-size", "SIZE", "from one to the next (the size of one)", |s, text| {
            store(&mut s.step, super::bounded("step size", text, 0, MOST))
        }),
        flags::aio("-i --aio"),
        flags::native_aio("-n --native"),
        Flag::set("-w --write", "write", |s| s.write = true),
        Flag::take("--pattern", "BYTE", "write this byte (0)", |s, text| {
            let byte = super::bounded("pattern byte", text, 0, 255)?;
            s.pattern = u8::try_from(byte).unwrap_or(u8::MAX);
            Ok(())
        }),
        Flag::take("--flush-interval", "NUMBER", "flush after so many writes", |s, text| {
            store(&mut s.interval, super::bounded("flush interval", text, 0, MOST))
        }),
        Flag::set("--no-drain", "go on while a flush is under way", |s| s.drain = false),
        flags::force_share("read even while another process writes"),
        flags::object(),
    ],
];

fn store(place: &mut u64, number: Result<u64, Failure>) -> Result<(), Failure> {
    *place = number?;
    Ok(())
}

const MANUAL: Manual = Manual {
    synopsis: "[OPTIONS] FILE",
    about: "Tells how long many requests of one size take.",
    operands: &[("FILE", "the image")],
    examples: &[
        ("-f qcow2 -c 100000 -d 32 disk.qcow2", "reads of 4 KiB, 32 at once"),
        ("-w -f raw --flush-interval 100 disk.raw", "writes; what the image held is lost"),
    ],
    notes: "",
};

#[derive(Debug)]
pub(super) struct Args {
    source: Source,
    count: u64,
    size: u64,
    depth: u64,
    offset: u64,
    /// From one request to the next; 0 stands for the size of one.
    step: u64,
    write: bool,
    pattern: u8,
    interval: u64,
    drain: bool,
}

has_parts!(Args { source: Source });

impl Args {
    pub(super) fn new() -> Args {
        Args {
            source: Source::named(""),
            count: 75000,
            size: 4096,
            depth: 64,
            offset: 0,
            step: 0,
            write: false,
            pattern: 0,
            interval: 0,
            drain: true,
        }
    }
}

pub fn run(console: &mut Console, call: &Call) -> Result<u8, Failure> {
    let Some((mut args, operands)) = call.read(console, &MANUAL, FLAGS, Args::new())? else { return Ok(0) };
    args.source.name = super::one_image(&operands)?;
    args.source.writable = args.write;
    super::exclusive(&args.source)?;
    refuse_combinations(&args)?;
    if args.step == 0 {
        args.step = args.size;
    }
    runtime::run(open_and_bench(console, &args))??;
    Ok(0)
}

fn refuse_combinations(args: &Args) -> Result<(), Failure> {
    if !args.write && args.interval > 0 {
        return Err(Failure::new("--flush-interval is only available in write tests"));
    }
    if args.interval > 0 && args.interval < args.depth {
        return Err(Failure::new("Flush interval can't be smaller than depth"));
    }
    let at_once = args.depth.min(args.count);
    if at_once > MAX_DEPTH || at_once.saturating_mul(args.size) > MAX_BYTES {
        return Err(Failure::new(format_args!(
            "at most {MAX_DEPTH} requests and {} MiB of buffers can be under way at once",
            MAX_BYTES >> 20
        )));
    }
    Ok(())
}

async fn open_and_bench(console: &mut Console, args: &Args) -> Result<(), Failure> {
    let image = image::open(&args.source).await?;
    if image.guessed_raw && args.write {
        image::warn_of_guess(console, &args.source.name);
    }
    let result = bench(console, &image, args).await;
    let closed = image.close().await;
    result?;
    Ok(closed?)
}

async fn bench(console: &mut Console, image: &Image, args: &Args) -> Result<(), Failure> {
    let Args { count, size, depth, offset, step, .. } = args;
    let verb = if args.write { "write" } else { "read" };
    outln!(
        console,
        "Sending {count} {verb} requests, {size} bytes each, {depth} in parallel (starting at offset {offset}, step size {step})"
    );
    if args.interval > 0 {
        outln!(
            console,
            "Sending {}flush every {} requests",
            if args.drain { "" } else { "asynchronous " },
            args.interval
        );
    }
    let load = Arc::new(Load::new(image, args));
    let started = Instant::now();
    let mut done = 0;
    while done < args.count {
        // A flush that is waited for ends a round of requests.
        let round = if args.drain && args.interval > 0 {
            args.interval.min(args.count - done)
        } else {
            args.count - done
        };
        load.round(done + round, args.depth.min(round)).await?;
        if args.drain && args.interval > 0 {
            image.backend.flush().await?;
        }
        done += round;
    }
    outln!(console, "Run completed in {:3.3} seconds.", started.elapsed().as_secs_f64());
    Ok(())
}

/// The requests, shared by the tasks that make them.
struct Load {
    backend: Arc<Backend>,
    next: AtomicU64,
    size: u64,
    offset: u64,
    step: u64,
    /// Requests start below this.
    room: u64,
    /// What is written; nothing for reads.
    data: Option<Buf>,
    /// A flush follows after so many requests, with nobody waiting; 0: none does.
    interval: u64,
}

impl Load {
    fn new(image: &Image, args: &Args) -> Load {
        let data = args.write.then(|| {
            let mut buf = BufMut::with_len(args.size as usize);
            buf.fill(args.pattern);
            buf.freeze()
        });
        Load {
            backend: image.backend.clone(),
            next: AtomicU64::new(0),
            size: args.size,
            offset: args.offset,
            step: args.step,
            room: image.backend.length().saturating_sub(args.size),
            data,
            interval: if args.drain { 0 } else { args.interval },
        }
    }

    /// Where a request goes that comes after the first: round and round in the image.
    fn place(&self, number: u64) -> u64 {
        let along = u128::from(self.offset) + u128::from(number) * u128::from(self.step);
        u64::try_from(along % u128::from(self.room.max(1))).unwrap_or(0)
    }

    /// Makes requests up to number `end`, `depth` at once.
    async fn round(self: &Arc<Load>, end: u64, depth: u64) -> Result<(), Failure> {
        let tasks: Vec<_> = (0..depth)
            .map(|_| {
                let load = self.clone();
                rt::spawn(async move { load.requests(end).await })
            })
            .collect();
        let mut result = Ok(());
        for task in tasks {
            result = result.and(task.await.map_err(Failure::new)?.map_err(Failure::from));
        }
        self.next.store(end, Relaxed);
        result
    }

    async fn requests(&self, end: u64) -> Result<(), BlockError> {
        loop {
            let number = self.next.fetch_add(1, Relaxed);
            if number >= end {
                return Ok(());
            }
            let at = match (number, self.room) {
                // The first one goes where it was asked to, be it beyond the end.
                (0, _) => self.offset,
                (_, 0) => 0,
                _ => self.place(number),
            };
            match &self.data {
                Some(data) => self.backend.write(at, data.clone(), Request::GUEST).await?,
                None => self.backend.read(at, BufMut::with_len(self.size as usize)).await.1?,
            }
            if self.interval > 0 && (number + 1).is_multiple_of(self.interval) {
                self.backend.flush().await?;
            }
        }
    }
}
