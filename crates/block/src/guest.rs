//! A guest's requests: what is done about those that fail, and how all of them wait while the machine is stopped.
//!
//! ```text
//! request fails ─▶ the device's policy ─┬─ report: the guest is told
//!                                       ├─ ignore: it is answered as if it had been done
//!                                       └─ stop:   the machine stops; the request waits, and is done again when it goes on
//! ```
//!
//! A request waits before its gate: whoever changes the graph meanwhile does not wait for it.
use crate::backend::Backend;
use crate::device::Device;
use crate::error::{BlockError, ErrorKind, Result};
use crate::graph::{BackendRequest, Graph, QUIESCE_TIMEOUT};
use crate::node::Node;
use crate::stats::IoKind;
use crate::sync::{AtomicBool, Event, Ordering::*, notify_all};
use api::{BlockDeviceIoStatus, BlockErrorAction, BlockdevOnError};
use event_listener::EventListener;
use std::sync::{Arc, OnceLock};

/// What is done about errors of the guest's requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnError {
    /// At reads.
    pub read: BlockdevOnError,
    /// At writes, zeroes, discards and flushes.
    pub write: BlockdevOnError,
}

impl Default for OnError {
    fn default() -> Self {
        Self { read: BlockdevOnError::Report, write: BlockdevOnError::Enospc }
    }
}

impl OnError {
    /// Whether one of them stops the machine.
    pub fn may_stop(self) -> bool {
        let stops = |on_error| matches!(on_error, BlockdevOnError::Stop | BlockdevOnError::Enospc);
        stops(self.read) || stops(self.write)
    }

    /// What is done about an error.
    fn action(self, read: bool, error: &BlockError) -> BlockErrorAction {
        let default = Self::default();
        let (on_error, default) = if read { (self.read, default.read) } else { (self.write, default.write) };
        match if on_error == BlockdevOnError::Auto { default } else { on_error } {
            BlockdevOnError::Ignore => BlockErrorAction::Ignore,
            BlockdevOnError::Stop => BlockErrorAction::Stop,
            BlockdevOnError::Enospc if error.kind() == ErrorKind::NoSpace => BlockErrorAction::Stop,
            BlockdevOnError::Enospc | BlockdevOnError::Report | BlockdevOnError::Auto => {
                BlockErrorAction::Report
            }
        }
    }
}

/// Whether guests' requests go on, of all devices of a graph; a handle, cheap to clone.
#[derive(Clone, Default)]
pub struct Running(Arc<State>);

#[derive(Default)]
struct State {
    stopped: AtomicBool,
    /// The machine goes on, or somebody is not to wait any more.
    changed: Event,
}

impl Running {
    /// From now on guests' requests wait; those under way go on.
    pub fn stop(&self) {
        self.0.stopped.store(true, SeqCst);
    }

    /// Lets the requests that wait go on.
    pub fn go_on(&self) {
        self.0.stopped.store(false, SeqCst);
        self.wake();
    }

    /// Whether guests' requests wait.
    pub fn is_stopped(&self) -> bool {
        self.0.stopped.load(SeqCst)
    }

    /// Has those that wait look again whether they must.
    pub(crate) fn wake(&self) {
        notify_all(&self.0.changed);
    }

    pub(crate) fn listen(&self) -> EventListener {
        self.0.changed.listen()
    }
}

/// A guest's request that failed.
pub struct GuestFailure<'a> {
    /// The device.
    pub device: &'a Device,
    /// The node that it was sent to.
    pub node: &'a Node,
    /// It was a read.
    pub read: bool,
    /// What is done about it.
    pub action: BlockErrorAction,
    /// Why it failed.
    pub error: &'a BlockError,
}

/// Hears of the requests of guests that fail. On [`BlockErrorAction::Stop`] it stops the machine.
type Listener = Box<dyn Fn(&GuestFailure<'_>) + Send + Sync>;

/// What all guests of a graph share; a handle, cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Guests {
    pub(crate) running: Running,
    failed: Arc<OnceLock<Listener>>,
}

/// What follows a guest's request.
pub(crate) enum After {
    /// Its result is told.
    Told,
    /// It is told to have been done.
    Ignored,
    /// It is done again, when the machine goes on.
    Again,
}

/// Whether an error is a failure of the storage. What can't be done, as zeroes where they are to be fast, is an answer: it would be
/// the same the next time.
fn is_failure(kind: ErrorKind) -> bool {
    use ErrorKind::{Cancelled, Closed, Refused, Unsupported};
    !matches!(kind, Cancelled | Closed | Refused | Unsupported)
}

impl Device {
    /// Decides what follows an error of a guest's request, and tells of it.
    pub(crate) fn judge(&self, node: &Node, op: IoKind, error: &BlockError) -> After {
        let Some(heard) = self.guests().failed.get().filter(|_| is_failure(error.kind())) else {
            return After::Told;
        };
        let read = op == IoKind::Read;
        let action = self.on_error().action(read, error);
        if action == BlockErrorAction::Stop {
            let full = error.kind() == ErrorKind::NoSpace;
            self.note_status(if full { BlockDeviceIoStatus::Nospace } else { BlockDeviceIoStatus::Failed });
        }
        heard(&GuestFailure { device: self, node, read, action, error });
        match action {
            BlockErrorAction::Report => After::Told,
            BlockErrorAction::Ignore => After::Ignored,
            BlockErrorAction::Stop => After::Again,
        }
    }
}

impl Graph {
    /// Calls `heard` for every guest's request that fails. Only the first listener counts.
    pub fn on_guest_failure(&self, heard: impl Fn(&GuestFailure<'_>) + Send + Sync + 'static) {
        if self.guests().failed.set(Box::new(heard)).is_err() {
            tracing::warn!("there is a listener for failures already");
        }
    }

    /// Whether guests' requests go on.
    pub fn running(&self) -> &Running {
        &self.guests().running
    }

    /// Waits until no request of a guest is under way, and makes durable what they wrote: for a machine that was stopped, whose images
    /// may be looked at now.
    pub async fn settle_guests(&self) -> Result<()> {
        let media = self.devices().into_iter().filter_map(|device| device.medium());
        let guests = self.entries().into_iter().filter(|entry| entry.serves_guest());
        let entries: Vec<_> = media.chain(guests).collect();
        let settled = async {
            let mut result = Ok(());
            for entry in entries {
                entry.gate.grace().await;
                // One that is gone meanwhile was flushed as it went.
                let Ok(_inside) = entry.stay().await else { continue };
                result = result.and(entry.node().flush().await);
            }
            result
        };
        let late =
            |_| Err(BlockError::new(ErrorKind::Timeout, "requests of its devices did not end within 30 s"));
        rt::timeout(QUIESCE_TIMEOUT, settled).await.unwrap_or_else(late)
    }

    /// Attaches an entry for the guest of a device. Its requests count as the device's, have its limits, and wait while the
    /// machine is stopped; what the device does about errors is done about theirs.
    /// `tolerant`: it copes with a node that is, or becomes, inactive.
    pub async fn attach_guest(
        &self,
        request: BackendRequest,
        device: &Arc<Device>,
        tolerant: bool,
    ) -> Result<Arc<Backend>> {
        let mut change = self.change().await;
        let entry = change.attach_entry(request, device.account().clone(), tolerant);
        let entry = change.end(entry).await?;
        entry.serve_guest_of(device.clone());
        device.add_guest(&entry);
        Ok(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_about_an_error_depends_on_the_policy_and_on_whether_space_ran_out() {
        use BlockErrorAction::{Ignore, Report, Stop};
        let (io, full) =
            (BlockError::new(ErrorKind::Io, "broken"), BlockError::new(ErrorKind::NoSpace, "full"));
        for (policy, at_io, at_full) in [
            (BlockdevOnError::Report, Report, Report),
            (BlockdevOnError::Ignore, Ignore, Ignore),
            (BlockdevOnError::Stop, Stop, Stop),
            (BlockdevOnError::Enospc, Report, Stop),
        ] {
            let on_error = OnError { read: BlockdevOnError::Report, write: policy };
            assert_eq!((on_error.action(false, &io), on_error.action(false, &full)), (at_io, at_full));
            assert_eq!(on_error.action(true, &full), Report);
        }
        let auto = OnError { read: BlockdevOnError::Auto, write: BlockdevOnError::Auto };
        assert_eq!((auto.action(true, &full), auto.action(false, &full)), (Report, Stop));
        assert!(OnError::default().may_stop());
        assert!(
            is_failure(ErrorKind::Io) && is_failure(ErrorKind::NoSpace) && is_failure(ErrorKind::Poisoned)
        );
        assert!(!is_failure(ErrorKind::Unsupported) && !is_failure(ErrorKind::Closed));
    }
}
