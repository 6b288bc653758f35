//! The connections of a file, as many as there may be: those in use, and those that wait for the next request.
//!
//! What comes on a connection wakes the worker that made it: a request goes over one of its own worker's, or a new one, and over
//! another worker's only where no more may be made.

use super::connection::Connection;
use super::location::Server;
use event_listener::{Event, IntoNotification};
use parking_lot::Mutex;
use std::sync::Arc;

/// The connections.
pub(super) struct Pool {
    state: Mutex<State>,
    freed: Event,
    limit: usize,
}

#[derive(Default)]
struct State {
    in_use: usize,
    /// None is kept any more.
    closed: bool,
    /// The one that was used last is the last.
    idle: Vec<(Server, Connection)>,
}

impl State {
    /// The connection that is to be used for the next request, which counts as in use already; where it waits.
    fn find(&self, server: &Server, limit: usize) -> Option<usize> {
        let worker = rt::current_worker();
        let own = |(other, connection): &(Server, Connection)| other == server && connection.worker == worker;
        let is_full = self.in_use + self.idle.len() > limit;
        let any = || self.idle.iter().rposition(|(other, _)| is_full && other == server);
        self.idle.iter().rposition(own).or_else(any)
    }
}

/// The right to a connection, and where there is one that waited, that.
pub(super) struct Lease {
    pool: Arc<Pool>,
    server: Server,
    pub connection: Option<Connection>,
}

impl Pool {
    /// Of at most so many connections.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), freed: Event::new(), limit })
    }

    /// Waits until there may be one more in use.
    pub async fn take(self: &Arc<Self>, server: &Server) -> Lease {
        loop {
            let freed = self.freed.listen();
            if let Some(connection) = self.try_take(server) {
                return Lease { pool: self.clone(), server: server.clone(), connection };
            }
            freed.await;
        }
    }

    fn try_take(&self, server: &Server) -> Option<Option<Connection>> {
        let mut state = self.state.lock();
        if state.in_use >= self.limit {
            return None;
        }
        state.in_use += 1;
        while let Some(at) = state.find(server, self.limit) {
            let (_, connection) = state.idle.remove(at);
            if connection.is_free() {
                return Some(Some(connection));
            }
        }
        if state.in_use + state.idle.len() > self.limit {
            // One of another server makes room.
            state.idle.remove(0);
        }
        Some(None)
    }

    /// Closes those that wait, and from now on each that comes back.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.idle.clear();
    }
}

impl Lease {
    /// Keeps a connection for another request, if it is good for one.
    pub fn give_back(self, connection: Connection) {
        // Whether something comes that nobody asked for is looked at when it is taken again.
        if connection.is_done() {
            let mut state = self.pool.state.lock();
            if !state.closed {
                state.idle.push((self.server.clone(), connection));
            }
        }
    }

    /// Connections that are in use, this one too.
    pub fn in_use(&self) -> usize {
        self.pool.state.lock().in_use.max(1)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pool.state.lock().in_use -= 1;
        self.pool.freed.notify(1.additional());
    }
}
