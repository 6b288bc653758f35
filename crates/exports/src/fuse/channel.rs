//! Serves the requests of one device: in line what needs no waiting, all else in tasks that reply by themselves.
//!
//! ```text
//!   kernel ──▶ receive ──▶ at once ──────────────▶ reply
//!                 │  └──▶ Room ──▶ task ──────────▶ reply
//!                 └ the mount is gone, or the export closes: no more is received
//! ```
//!
//! Law: what was received is answered, also by a task that panics ([`Reply`]), as its sender can't be interrupted.
//!
//! Bounds: one buffer of [`MOST_DATA`] while requests come; for what waits see [`Room`].

use super::file::{Answer, File};
use super::room::{Place, Room};
use super::wire::{HEAD, MOST_DATA, Refused, Request, op, reply_header, written};
use event_listener::{Event, IntoNotification};
use futures_util::future::{Either, select};
use rt::fuse::Device;
use rt::{Buf, BufMut, Errno};
use std::io::{self, IoSlice};
use std::pin::pin;
use std::sync::Arc;

/// Requests received before other tasks of the worker run.
const TURN: usize = 64;
/// From so many bytes on a write that has to wait takes the buffer that it came in, instead of a copy.
const KEPT: usize = 64 << 10;

/// Why no more is received.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Nobody has the file any more: it was unmounted.
    Gone,
    /// The export closes.
    Closing,
}

/// One device of a mount, and what serves it.
pub(super) struct Channel {
    pub device: Arc<Device>,
    pub file: Arc<File>,
    /// The file closes.
    pub closing: Arc<Event>,
}

impl Channel {
    /// Serves requests until there will be no more; returns when the last one has been answered.
    pub async fn serve(self) -> End {
        let room = Arc::new(Room::default());
        let end = self.receive(&room).await;
        room.empty().await;
        end
    }

    async fn receive(&self, room: &Arc<Room>) -> End {
        let (mut head, mut turn) = ([0; HEAD], 0);
        let mut body = BufMut::with_len(MOST_DATA);
        while !self.file.is_closing() {
            match self.device.try_receive(&mut head, &mut body) {
                Ok(len) => match Request::parse(&head, &body, len) {
                    Some(request) => body = self.serve_one(request, body, room).await,
                    None => tracing::warn!(
                        export = self.file.id(),
                        "a request that can't be read was passed over"
                    ),
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // The buffer goes back to where all take theirs from.
                    drop(std::mem::replace(&mut body, BufMut::with_len(0)));
                    if let Err(error) = self.wait().await {
                        return self.failed(&error);
                    }
                    body = BufMut::with_len(MOST_DATA);
                    turn = 0;
                }
                // ENOENT: the request was taken back.
                Err(error) if error.kind() == io::ErrorKind::Interrupted || is(&error, Errno::NOENT) => {}
                Err(error) if is(&error, Errno::NODEV) => return End::Gone,
                Err(error) => return self.failed(&error),
            }
            turn += 1;
            if turn >= TURN {
                rt::yield_now().await;
                turn = 0;
            }
        }
        End::Closing
    }

    fn failed(&self, error: &io::Error) -> End {
        tracing::error!(export = self.file.id(), %error, "requests of a FUSE export can't be received any more");
        End::Gone
    }

    /// Waits for a request, or for the export to close.
    async fn wait(&self) -> io::Result<()> {
        let closing = self.closing.listen();
        if self.file.is_closing() {
            return Ok(());
        }
        match select(pin!(self.device.readable()), closing).await {
            Either::Left((ready, _)) => ready,
            Either::Right(_) => Ok(()),
        }
    }

    /// Serves a request; `body` has the data of a write. What is returned is for the next one.
    async fn serve_one(&self, request: Request, mut body: BufMut, room: &Arc<Room>) -> BufMut {
        let reply = || Reply { device: self.device.clone(), unique: request.unique, sent: false };
        let offset = request.offset();
        match request.opcode {
            op::FORGET | op::BATCH_FORGET => {}
            op::READ => {
                let len = self.file.readable(offset, request.size().min(MOST_DATA));
                let into = body.get_mut(..len).unwrap_or_default();
                let got = match self.file.try_read(offset, into) {
                    Ok(got) if got == len => {
                        reply().data([into, &[]]);
                        return body;
                    }
                    Ok(got) => got,
                    Err(refused) => {
                        reply().send(Err(refused));
                        return body;
                    }
                };
                let place = room.take(len).await;
                let front = Buf::from_slice(body.get(..got).unwrap_or_default());
                let (file, reply) = (self.file.clone(), reply());
                rt::spawn(read(file, reply, place, offset, front, len)).detach();
            }
            op::WRITE => {
                let (len, durable) = (request.size(), request.is_durable());
                let data = body.get(..len).unwrap_or_default();
                let done = match self.file.try_write(offset, data, durable) {
                    Ok(done) if done == len => {
                        reply().send(Ok(written(len)));
                        return body;
                    }
                    Ok(done) => done,
                    Err(refused) => {
                        reply().send(Err(refused));
                        return body;
                    }
                };
                let place = room.take(len).await;
                let rest = if len - done >= KEPT {
                    let mut whole = std::mem::replace(&mut body, BufMut::with_len(MOST_DATA));
                    whole.truncate(len);
                    whole.freeze().slice(done..)
                } else {
                    Buf::from_slice(body.get(done..len).unwrap_or_default())
                };
                let (file, reply) = (self.file.clone(), reply());
                rt::spawn(async move {
                    let result = file.write(offset + done as u64, rest, durable).await;
                    reply.send(result.map(|more| written(done + more)));
                    drop(place);
                })
                .detach();
            }
            _ => match self.file.answer_now(&request) {
                Some(answer) => reply().send(answer),
                None => {
                    let place = room.take(0).await;
                    rt::spawn(other(self.file.clone(), reply(), place, request)).detach();
                }
            },
        }
        body
    }
}

async fn read(file: Arc<File>, reply: Reply, place: Place, offset: u64, front: Buf, len: usize) {
    let done = front.len();
    match file.read(offset + done as u64, len - done).await {
        Ok(rest) => reply.data([&front, &rest]),
        Err(refused) => reply.send(Err(refused)),
    }
    drop(place);
}

async fn other(file: Arc<File>, reply: Reply, place: Place, request: Request) {
    let answer = file.answer(&request).await;
    reply.send(answer);
    drop(place);
}

/// The reply that the sender of a request waits for: EIO where it is dropped unsent.
struct Reply {
    device: Arc<Device>,
    unique: u64,
    sent: bool,
}

impl Reply {
    fn send(mut self, answer: Answer) {
        match answer {
            Ok(bytes) => self.put(None, [&bytes, &[]]),
            Err(refused) => self.put(Some(refused), [&[], &[]]),
        }
    }

    /// Success, with data that lie in two places.
    fn data(mut self, data: [&[u8]; 2]) {
        self.put(None, data);
    }

    fn put(&mut self, error: Option<Refused>, [front, rest]: [&[u8]; 2]) {
        self.sent = true;
        let header = reply_header(self.unique, error, front.len() + rest.len());
        let parts = [IoSlice::new(&header), IoSlice::new(front), IoSlice::new(rest)];
        // It fails where nobody waits for the reply any more: the mount is gone, or the request was taken back.
        if let Err(error) = self.device.reply(&parts) {
            tracing::debug!(unique = self.unique, %error, "a reply was not taken");
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !self.sent {
            self.put(Some(Refused::IO), [&[], &[]]);
        }
    }
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

/// Has all channels of a file see that it closes.
pub(super) fn close(file: &File, closing: &Event) {
    file.close();
    closing.notify(usize::MAX.additional());
}
