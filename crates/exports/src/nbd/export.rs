//! One export: a name, a backend, and the clients that use it.

use super::waiting::About;
use ::nbd::server::Offer;
use ::nbd::{ALLOCATION_DEPTH, BASE_ALLOCATION, DIRTY_BITMAP, TransmissionFlags};
use block::{Backend, BitmapUse};
use event_listener::{Event, IntoNotification};
use parking_lot::Mutex;
use std::sync::Arc;
use tls::Channel;

/// What is exported, and how.
pub struct NbdExportSpec {
    /// The name by which clients ask for it; may be empty.
    pub name: String,
    /// Description for people; may be empty.
    pub description: String,
    /// The entry that serves it.
    pub backend: Arc<Backend>,
    /// Clients may write.
    pub writable: bool,
    /// Each write is durable before it is acknowledged.
    pub writethrough: bool,
    /// Minimum block size that clients are told, in bytes: a power of two, at most 64 KiB.
    pub minimum_block: u32,
    /// Several connections of one client see each other's writes (multi-conn): true unless only one is allowed.
    pub multi_conn: bool,
    /// Clients may ask which layer of a chain holds a range.
    pub allocation_depth: bool,
    /// Dirty bitmaps that clients may ask for.
    pub bitmaps: Vec<BitmapUse>,
}

/// An export of a running server.
pub(super) struct NbdExport {
    spec: NbdExportSpec,
    clients: Mutex<Clients>,
    left: Event,
}

#[derive(Default)]
struct Clients {
    streams: Vec<Arc<Channel>>,
    closing: bool,
}

/// A client's use of an export; ends when it is dropped.
pub(super) struct Visit {
    export: Arc<NbdExport>,
    stream: Arc<Channel>,
}

impl NbdExport {
    pub fn new(spec: NbdExportSpec) -> Arc<Self> {
        Arc::new(Self { spec, clients: Mutex::default(), left: Event::new() })
    }

    pub fn name(&self) -> &str {
        &self.spec.name
    }

    pub fn description(&self) -> &str {
        &self.spec.description
    }

    pub fn backend(&self) -> &Arc<Backend> {
        &self.spec.backend
    }

    pub fn writethrough(&self) -> bool {
        self.spec.writethrough
    }

    /// What clients are told.
    pub fn offer(&self) -> Offer {
        use TransmissionFlags as T;
        let writes = T::SEND_TRIM | T::SEND_WRITE_ZEROES | T::SEND_FAST_ZERO;
        let flags = T::HAS_FLAGS
            | T::SEND_FLUSH
            | T::SEND_FUA
            | T::SEND_CACHE
            | T::when(self.spec.multi_conn, T::CAN_MULTI_CONN)
            | if self.spec.writable { writes } else { T::READ_ONLY };
        Offer {
            size: self.spec.backend.length(),
            flags,
            description: self.spec.description.clone(),
            minimum_block: self.spec.minimum_block,
            preferred_block: 4096,
            contexts: self.contexts(),
        }
    }

    /// The names of what clients may ask of the disk, in the order of their numbers.
    fn contexts(&self) -> Vec<String> {
        let name = |about| match about {
            About::Allocation => BASE_ALLOCATION.to_owned(),
            About::Depth => ALLOCATION_DEPTH.to_owned(),
            About::Bitmap(bitmap) => format!("{DIRTY_BITMAP}{}", bitmap.name()),
        };
        self.abouts().map(name).collect()
    }

    /// What clients may ask of the disk: its allocation first, then what its bitmaps say.
    fn abouts(&self) -> impl Iterator<Item = About> {
        let depth = self.spec.allocation_depth.then_some(About::Depth);
        let bitmaps = self.spec.bitmaps.iter().map(|bitmap| About::Bitmap(bitmap.bitmap().clone()));
        std::iter::once(About::Allocation).chain(depth).chain(bitmaps)
    }

    /// What the context of this number is about.
    pub fn about(&self, context: u32) -> About {
        self.abouts().nth(context as usize).unwrap_or(About::Allocation)
    }

    /// Lets a client in; `None` when the export is being closed.
    pub fn enter(self: &Arc<Self>, stream: &Arc<Channel>) -> Option<Visit> {
        let mut clients = self.clients.lock();
        if clients.closing {
            return None;
        }
        clients.streams.push(stream.clone());
        Some(Visit { export: self.clone(), stream: stream.clone() })
    }

    /// Connections that use it now.
    pub fn client_count(&self) -> usize {
        self.clients.lock().streams.len()
    }

    /// If no client is connected, lets no further one in; whether that is so.
    pub fn close_if_unused(&self) -> bool {
        let mut clients = self.clients.lock();
        clients.closing |= clients.streams.is_empty();
        clients.closing
    }

    /// Disconnects all clients and waits until their last request has ended.
    pub async fn close(&self) {
        {
            let mut clients = self.clients.lock();
            clients.closing = true;
            // A socket that is broken already needs no shutting down.
            clients.streams.iter().for_each(|stream| drop(stream.shutdown()));
        }
        loop {
            let left = self.left.listen();
            if self.client_count() == 0 {
                return;
            }
            left.await;
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.export.clients.lock().streams.retain(|stream| !Arc::ptr_eq(stream, &self.stream));
        self.export.left.notify(usize::MAX.additional());
    }
}
