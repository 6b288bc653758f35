//! A kind of export that serves the client at the other end of a connected socket.
//!
//! ```text
//! request:  'r' or 'w' · sector, 8 bytes · of a write: 512 bytes
//! reply:    0 or 1 for an error · the size now, 8 bytes · of a read: 512 bytes
//! ```
//!
//! What one has to write: an [`ExportKind`], which is made with its own options and says what it needs of the node
//! (`perms`), refuses what it can (`check`) and starts to serve (`start`); and an [`Export`], which says whether a client
//! uses it and ends it. The register flushes at the end, releases the node and reports it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};

use block::{Backend, Perms, Request, Result, Share};
use exports::{Export, ExportError, ExportKind, ExportSpec, ExportTerms};
use futures_util::lock::Mutex as Lock;
use rt::net::Stream;
use rt::{BoxFuture, Buf, BufMut, Target};

/// Bytes of a sector.
pub const SECTOR: usize = 512;
/// Bytes of a request, without the data of a write.
pub const REQUEST: usize = 9;
/// Bytes of a reply, without the data of a read.
pub const REPLY: usize = 9;

/// An export to be made, for the client of this socket.
pub struct SocketKind(pub Stream);

impl ExportKind for SocketKind {
    fn name(&self) -> &'static str {
        "socket"
    }

    /// Its clients are told of each new size.
    fn perms(&self, writable: bool) -> Perms {
        let need = if writable { Share::READ.union(Share::WRITE) } else { Share::READ };
        Perms { need, share: Share::ALL }
    }

    fn check(&self, spec: &ExportSpec) -> std::result::Result<(), ExportError> {
        match spec.writethrough {
            true => Err(ExportError::of_kind("this kind has no writethrough")),
            false => Ok(()),
        }
    }

    fn start(
        self: Box<Self>,
        terms: ExportTerms,
    ) -> BoxFuture<'static, std::result::Result<Arc<dyn Export>, ExportError>> {
        Box::pin(async move {
            let line = Arc::new(Line {
                stream: self.0,
                writable: terms.spec.writable,
                size: AtomicU64::new(terms.backend.length()),
                backend: terms.backend,
                gone: AtomicBool::new(false),
            });
            let serves = line.clone();
            let task = rt::spawn_on(Target::LeastLoaded, async move { serves.serve().await });
            Ok(Arc::new(Served { line, task: Lock::new(Some(task)) }) as Arc<dyn Export>)
        })
    }
}

struct Line {
    stream: Stream,
    writable: bool,
    size: AtomicU64,
    backend: Arc<Backend>,
    /// The client has hung up.
    gone: AtomicBool,
}

impl Line {
    /// Answers one request after the other, until the client or the export goes.
    async fn serve(&self) {
        while let Ok(()) = self.answer().await {}
        self.gone.store(true, Release);
    }

    async fn answer(&self) -> std::io::Result<()> {
        let mut head = [0; REQUEST];
        self.stream.recv_exact(&mut head).await?;
        let [op, sector @ ..] = head;
        let offset = u64::from_le_bytes(sector).saturating_mul(SECTOR as u64);
        let mut data = BufMut::zeroed(if op == b'w' { SECTOR } else { 0 });
        self.stream.recv_exact(&mut data).await?;
        let done = self.request(op, offset, data.freeze()).await;
        let mut reply = vec![u8::from(done.is_err())];
        reply.extend(self.size.load(Acquire).to_le_bytes());
        reply.extend_from_slice(&done.unwrap_or_default());
        self.stream.send_all(&reply).await
    }

    async fn request(&self, op: u8, offset: u64, data: Buf) -> Result<Vec<u8>> {
        match op {
            b'r' => {
                let (bytes, read) = self.backend.read(offset, BufMut::with_len(SECTOR)).await;
                read.map(|()| bytes.to_vec())
            }
            b'w' if self.writable => {
                self.backend.write(offset, data, Request::GUEST).await.map(|()| Vec::new())
            }
            _ => Err(block::BlockError::unsupported("no such request")),
        }
    }
}

struct Served {
    line: Arc<Line>,
    task: Lock<Option<rt::JoinHandle<()>>>,
}

impl Export for Served {
    fn close_if_unused(&self) -> bool {
        self.line.gone.load(Acquire)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            // A socket that is broken already needs no shutting down.
            let _ = self.line.stream.shutdown();
            let mut task = self.task.lock().await;
            if let Some(serving) = task.as_mut() {
                // Whether or not it panicked, it has ended.
                let _ = serving.await;
            }
            *task = None;
        })
    }

    /// Its client can't reconnect: this export lives as long as its socket.
    fn is_cut_off(&self) -> bool {
        self.line.gone.load(Acquire)
    }

    fn resized(&self, size: u64) {
        self.line.size.store(size, Release);
    }
}
