//! Requests that wait: each a task of its own, which puts down its reply when it has ended.

use super::background::Task;
use super::reply::Reply;
use super::sparse;
use ::nbd::{Command, CommandFlags, ExtentFlags, Headers, ReplyTo, Request};
use block::{Backend, BlockError, DirtyBitmap, ErrorKind, Flags, NamedBitmap, Node, Result, Status};
use rt::{Buf, BufMut};
use std::sync::Arc;

/// The data of a read begin at this offset of their buffer, aligned as direct I/O wants it; the header is put
/// right before them.
const LEAD: usize = 4096;
/// Most extents in a block status reply.
const EXTENTS: usize = 64 << 10;
/// Most queries of the graph for one block status reply: extents of one kind count once, but cost as many.
const QUERIES: usize = 64 << 10;
/// Most bytes that zeroes or a trim change at once. Between such steps a request whose connection is gone is given
/// up: one of 2^63 bytes must not keep an export from being closed.
const STEP: u64 = 4 << 30;
/// Bytes read at a time to serve a cache request.
const CACHE_PIECE: u64 = 1 << 20;

/// Bytes of memory a request holds while it waits.
pub(super) fn cost(request: &Request, headers: Headers) -> usize {
    match request.command {
        // The rules have bounded these.
        Command::READ | Command::WRITE => request.length as usize + LEAD,
        Command::CACHE => request.length.min(CACHE_PIECE) as usize,
        Command::BLOCK_STATUS if !request.flags.contains(CommandFlags::REQ_ONE) => {
            EXTENTS * (size_of::<(u64, ExtentFlags)>() + headers.extent_len())
        }
        _ => LEAD,
    }
}

/// The buffer of a read: room for the header, what was read inline, and what is still to be read.
pub(super) struct ReadBuffer {
    lead: BufMut,
    done: BufMut,
    rest: BufMut,
}

impl ReadBuffer {
    /// For `length` bytes, of which the first are `done`.
    pub fn new(length: usize, done: &[u8]) -> Self {
        let mut rest = BufMut::with_len(LEAD + length);
        let lead = rest.split_to(LEAD);
        let mut front = rest.split_to(done.len());
        let done = done.get(..front.len()).unwrap_or(done);
        front.copy_from_slice(done);
        Self { lead, done: front, rest }
    }
}

/// Reads what is still missing.
pub(super) async fn read(task: Task, backend: Arc<Backend>, buffer: ReadBuffer) {
    let (request, headers) = (task.request, task.headers);
    let ReadBuffer { mut lead, done, rest } = buffer;
    let (rest, result) = backend.read(request.offset + done.len() as u64, rest).await;
    if let Err(error) = result {
        return task.finish(Reply::failed(&request, headers, &error));
    }
    let reply = ReplyTo::new(&request, headers);
    let header = reply.data(request.offset, request.length as u32, true); // the rules have bounded it
    drop(lead.split_to(LEAD.saturating_sub(header.len())));
    lead.copy_from_slice(&header);
    lead.unsplit(done);
    lead.unsplit(rest);
    let whole = lead.freeze();
    if !sparse::allowed(&request, headers) {
        return task.finish(Reply::Data(whole));
    }
    let data = whole.slice(header.len()..);
    let runs: Vec<_> = sparse::runs(&data).collect();
    task.finish(match runs[..] {
        [sparse::Run { hole: false, .. }] => Reply::Data(whole),
        _ => Reply::Chunks(sparse_chunks(&request, reply, &data, &runs)),
    });
}

/// The chunks of a reply whose zeroes are holes. A hole keeps no data in memory.
fn sparse_chunks(request: &Request, reply: ReplyTo, data: &Buf, runs: &[sparse::Run]) -> Vec<Buf> {
    let mut chunks = Vec::new();
    for run in runs {
        // Both at most what a read may ask for.
        let (offset, len) = (request.offset + run.start as u64, run.len as u32);
        if run.hole {
            chunks.push(Buf::from_slice(&reply.hole(offset, len, run.last)));
        } else {
            chunks.push(Buf::from_slice(&reply.data(offset, len, run.last)));
            chunks.push(data.slice(run.start..run.start + run.len));
        }
    }
    chunks
}

/// Writes what is still missing: `data` are the last bytes of the request.
pub(super) async fn write(task: Task, backend: Arc<Backend>, data: Buf, through: bool) {
    let request = task.request;
    let offset = request.offset + request.length - data.len() as u64;
    let fua = through || request.flags.contains(CommandFlags::FUA);
    settle(task, backend.write(offset, data, block::Request::GUEST.with_if(fua, Flags::FUA)).await);
}

/// Serves everything that is neither a read nor a write.
pub(super) async fn other(task: Task, backend: Arc<Backend>, through: bool) {
    let request = task.request;
    let fua = through || request.flags.contains(CommandFlags::FUA);
    let result = match request.command {
        Command::FLUSH => backend.flush().await,
        Command::TRIM => match trim(&task, &backend).await {
            Ok(()) if fua => backend.flush().await,
            result => result,
        },
        Command::WRITE_ZEROES => write_zeroes(&task, &backend, fua).await,
        Command::CACHE => cache(&task, &backend).await,
        _ => Err(BlockError::invalid("unknown request")),
    };
    settle(task, result);
}

fn settle(task: Task, result: Result<()>) {
    let request = task.request;
    let reply = match result {
        Ok(()) => Reply::success(&request, task.headers),
        Err(error) => Reply::failed(&request, task.headers, &error),
    };
    task.finish(reply);
}

async fn trim(task: &Task, backend: &Backend) -> Result<()> {
    for (at, len) in steps(&task.request) {
        still_wanted(task, at)?;
        backend.discard(at, len, block::Request::GUEST).await?;
    }
    Ok(())
}

async fn write_zeroes(task: &Task, backend: &Backend, fua: bool) -> Result<()> {
    let unmap = !task.request.flags.contains(CommandFlags::NO_HOLE);
    let no_fallback = task.request.flags.contains(CommandFlags::FAST_ZERO);
    let request = block::Request::GUEST
        .with_if(unmap, Flags::MAY_UNMAP)
        .with_if(no_fallback, Flags::NO_FALLBACK)
        .with_if(fua, Flags::FUA);
    for (at, len) in steps(&task.request) {
        still_wanted(task, at)?;
        backend.write_zeroes(at, len, request).await?;
    }
    Ok(())
}

/// Offset and length of each step of a request; there is one at least.
fn steps(request: &Request) -> impl Iterator<Item = (u64, u64)> + use<> {
    let Request { offset, length, .. } = *request;
    (0..length.div_ceil(STEP).max(1)).map(move |n| (offset + n * STEP, (length - n * STEP).min(STEP)))
}

/// Whether to go on with the step at `at`; the first one always.
fn still_wanted(task: &Task, at: u64) -> Result<()> {
    if at == task.request.offset || task.is_wanted() {
        Ok(())
    } else {
        Err(BlockError::new(ErrorKind::Closed, "the client of the request has left"))
    }
}

/// Reads the range and discards the data: caches below have it then.
async fn cache(task: &Task, backend: &Backend) -> Result<()> {
    let Request { offset, length, .. } = task.request;
    let mut buf = BufMut::with_len(length.min(CACHE_PIECE) as usize);
    let mut done = 0;
    while done < length {
        still_wanted(task, offset + done)?;
        buf.truncate((length - done).min(CACHE_PIECE) as usize);
        let result;
        (buf, result) = backend.read(offset + done, buf).await;
        result?;
        done += buf.len() as u64;
    }
    Ok(())
}

/// A metadata context that block status is asked of.
pub(super) struct Context {
    /// Its number on the wire.
    pub id: u32,
    /// What it tells.
    pub about: About,
}

/// What a context tells of an extent.
pub(super) enum About {
    /// Whether it is a hole, and zeroes.
    Allocation,
    /// Which layer of the chain holds it.
    Depth,
    /// Whether it is dirty.
    Bitmap(Arc<NamedBitmap>),
}

/// Answers block status for these contexts. `block`: smallest length that the client knows.
pub(super) async fn block_status(task: Task, backend: Arc<Backend>, contexts: Vec<Context>, block: u64) {
    let (request, headers) = (task.request, task.headers);
    let most = match request.flags.contains(CommandFlags::REQ_ONE) {
        true => 1,
        false => (EXTENTS / contexts.len().max(1)).max(1),
    };
    let reply = ReplyTo::new(&request, headers);
    let mut bytes = Vec::new();
    for (index, context) in contexts.iter().enumerate() {
        let extents = match &context.about {
            About::Bitmap(bitmap) => Ok(dirty_extents(bitmap.bits(), &request, block, most)),
            About::Allocation => extents(&backend, &request, block, most, ALLOCATION).await,
            About::Depth => extents(&backend, &request, block, most, DEPTH).await,
        };
        let extents = match extents {
            Ok(extents) => extents,
            Err(error) => return task.finish(Reply::failed(&request, headers, &error)),
        };
        let last = index + 1 == contexts.len();
        let header = reply.status(context.id, extents.len() as u32, last); // at most EXTENTS
        bytes.reserve(header.len() + headers.extent_len() * extents.len());
        bytes.extend_from_slice(&header);
        extents.iter().for_each(|&(len, flags)| bytes.extend_from_slice(&reply.extent(len, flags)));
    }
    task.finish(Reply::Bytes(bytes));
}

/// What a bitmap says of the request's range, in at most `most` extents, each a multiple of `block` long if the request is:
/// a block is dirty if any of it is.
fn dirty_extents(
    bitmap: &DirtyBitmap,
    request: &Request,
    block: u64,
    most: usize,
) -> Vec<(u64, ExtentFlags)> {
    let end = request.offset.saturating_add(request.length);
    let mut extents: Vec<(u64, ExtentFlags)> = Vec::new();
    let mut at = request.offset;
    let length = bitmap.length();
    while at < end {
        // Behind the end of a bitmap of a shorter layer nothing is known.
        let (mut dirty, run) = if at < length { bitmap.run_at(at, end) } else { (true, end) };
        let mut to = run.max(at + 1).min(end);
        if to < end && !to.is_multiple_of(block) {
            let down = to - to % block;
            dirty |= down <= at;
            to = if dirty { (down + block).min(end) } else { down };
        }
        let flags = ExtentFlags::when(dirty, ExtentFlags::DIRTY);
        let count = extents.len();
        match extents.last_mut() {
            Some(last) if last.1 == flags => last.0 += to - at,
            _ if count == most => break,
            _ => extents.push((to - at, flags)),
        }
        at = to;
    }
    extents
}

/// Extents from the start of the request on, neighbours of one kind joined; at least one, and at most `most`. Each is a multiple of `block`
/// long if the request is.
async fn extents(
    backend: &Backend,
    request: &Request,
    block: u64,
    most: usize,
    telling: Telling,
) -> Result<Vec<(u64, ExtentFlags)>> {
    let mut extents: Vec<(u64, ExtentFlags)> = Vec::new();
    let (mut at, mut left) = (request.offset, request.length);
    let mut queries = QUERIES;
    while queries > 0 {
        let (len, flags) = next_extent(backend, (at, left), block, telling, &mut queries).await?;
        let count = extents.len();
        match extents.last_mut() {
            Some(last) if last.1 == flags => last.0 += len, // all lengths sum up to the request's at most
            _ if count == most => break,
            _ => extents.push((len, flags)),
        }
        at += len;
        left -= len;
        if left == 0 || len == 0 {
            break;
        }
    }
    Ok(extents)
}

/// The extent at `at`, at most `left` bytes of it. Of a block with several kinds of bytes only what is safe to believe of all of
/// them is reported.
async fn next_extent(
    backend: &Backend,
    (at, left): (u64, u64),
    block: u64,
    telling: Telling,
    queries: &mut usize,
) -> Result<(u64, ExtentFlags)> {
    let status = backend.status(at, left).await?;
    *queries -= 1;
    let (mut len, mut all) = (status.len.min(left), (telling.of)(backend, &status));
    if len == left || len >= block {
        let whole = if len == left { len } else { len - len % block };
        return Ok((whole, all));
    }
    let end = block.min(left);
    while len < end && *queries > 0 {
        let status = backend.status(at + len, end - len).await?;
        *queries -= 1;
        if status.len == 0 {
            break;
        }
        len += status.len.min(end - len);
        all = (telling.both)(all, (telling.of)(backend, &status));
    }
    Ok((end, if len < end { telling.unknown } else { all }))
}

/// How a context is told from block status.
#[derive(Clone, Copy)]
struct Telling {
    of: fn(&Backend, &Status) -> ExtentFlags,
    /// Of a block that has bytes of both.
    both: fn(ExtentFlags, ExtentFlags) -> ExtentFlags,
    /// Of a block that is not looked at to its end.
    unknown: ExtentFlags,
}

/// A block is a hole, or zeroes, if all of it is.
const ALLOCATION: Telling = Telling {
    of: |_, status| {
        ExtentFlags::when(!status.data, ExtentFlags::HOLE) | ExtentFlags::when(status.zero, ExtentFlags::ZERO)
    },
    both: |one, other| ExtentFlags(one.0 & other.0),
    unknown: ExtentFlags::NONE,
};

/// A block is of the nearest layer that holds some of it: who copies the nearest layers only misses none.
const DEPTH: Telling = Telling {
    of: |backend, status| ExtentFlags(depth(&backend.node(), status)),
    both: |one, other| {
        ExtentFlags([one.0, other.0].into_iter().filter(|&layer| layer > 0).min().unwrap_or(0))
    },
    unknown: ExtentFlags(1),
};

/// The layer that holds a range: 1 the first one, 2 the one below it, …, 0 none.
fn depth(top: &Arc<Node>, status: &Status) -> u32 {
    if status.allocated {
        return status.depth.saturating_add(1);
    }
    // The zeroes behind the end of a shorter image count as that image's.
    let below = |layer: Arc<Node>| layer.skip_filters().backing();
    match (0..=status.depth).try_fold(top.clone(), |layer, _| below(layer)) {
        Some(_) => status.depth.saturating_add(2),
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_of_several_layers_is_told_to_be_of_the_nearest() {
        let both = |one, other| (DEPTH.both)(ExtentFlags(one), ExtentFlags(other)).0;
        assert_eq!([both(1, 2), both(3, 0), both(0, 0), both(2, 1)], [1, 3, 0, 1]);
    }

    #[test]
    fn a_bitmap_is_told_in_whole_blocks_of_which_each_is_dirty_that_has_a_dirty_byte() {
        let bitmap = DirtyBitmap::new(1 << 20, 512);
        for (at, len) in [(1024, 512), (4096 + 512, 8192), (1 << 19, 1 << 19)] {
            bitmap.mark(at, len);
        }
        let told = |offset, length, block, most| {
            let request = Request {
                command: Command::BLOCK_STATUS,
                flags: CommandFlags::NONE,
                cookie: 0,
                offset,
                length,
            };
            let extents = dirty_extents(&bitmap, &request, block, most);
            extents.into_iter().map(|(len, flags)| (len, flags == ExtentFlags::DIRTY)).collect::<Vec<_>>()
        };
        let fine = [(1024, false), (512, true), (3072, false), (8192, true), (3584, false)];
        assert_eq!(told(0, 16384, 1, 100), fine);
        assert_eq!(told(0, 16384, 1, 2), fine[..2]);
        assert_eq!(told(0, 20480, 4096, 100), [(16384, true), (4096, false)]);
        assert_eq!(told(1 << 19, 1 << 19, 4096, 1), [(1 << 19, true)]);
        assert_eq!(told((1 << 20) - 100, 100, 1, 1), [(100, true)]);
        // The disk has grown, and the bitmap, of a layer below, has not.
        assert_eq!(told(1 << 20, u64::from(u32::MAX), 1, 100), [(u64::from(u32::MAX), true)]);
    }
}
