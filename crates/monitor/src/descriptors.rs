//! Descriptors that a client sends with its commands, and those that the program was started with.
//!
//! ```text
//! client ─SCM_RIGHTS─▶ received (oldest first) ─getfd─▶ named ─▶ nbd-server-start, blockdev-add
//!                                              └add-fd─▶ /dev/fdset/N
//! service manager ─▶ by name or number ──────────────────▶ --nbd-server, --chardev, --blockdev
//! ```
//!
//! Received descriptors that no command took are closed when others arrive, or with the session.
//!
//! Bounds: [`RECEIVED`] descriptors wait, [`NAMED`] have a name.
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;

/// Most descriptors that wait for the command they came with.
const RECEIVED: usize = 16;
/// Most descriptors with a name.
const NAMED: usize = 256;

/// The descriptors of one session.
#[derive(Default)]
pub(crate) struct Descriptors {
    received: Mutex<VecDeque<OwnedFd>>,
    named: Mutex<BTreeMap<String, OwnedFd>>,
}

impl Descriptors {
    /// Keeps descriptors for the commands that they came with. Those beyond the bound are closed, and those that an earlier
    /// command left because it was refused: a later command must not get them.
    pub(crate) fn receive(&self, descriptors: impl IntoIterator<Item = OwnedFd>) {
        let new: VecDeque<_> = descriptors.into_iter().take(RECEIVED).collect();
        if !new.is_empty() {
            *self.received.lock() = new;
        }
    }

    /// The descriptor that came with a command.
    pub(crate) fn next(&self) -> Option<OwnedFd> {
        self.received.lock().pop_front()
    }

    /// Keeps a descriptor under a name, replacing one of the same name; false if there are too many.
    pub(crate) fn keep(&self, name: String, fd: OwnedFd) -> bool {
        let mut named = self.named.lock();
        let room = named.len() < NAMED || named.contains_key(&name);
        if room {
            named.insert(name, fd);
        }
        room
    }

    /// Takes the descriptor of a name.
    pub(crate) fn named(&self, name: &str) -> Option<OwnedFd> {
        self.named.lock().remove(name)
    }

    /// Takes the socket that an address means: by the name of `getfd`, by the service manager's, or by its number.
    pub(crate) fn socket(&self, text: &str) -> io::Result<OwnedFd> {
        if let Some(fd) = self.named(text) {
            return Ok(fd);
        }
        rt::handed::named(text)
    }

    /// Lets the nodes that `opened` opens take named descriptors. One session at a time lends, so that a name means its own
    /// descriptor.
    pub(crate) async fn lend<T>(&self, opened: impl Future<Output = T>) -> T {
        static TURN: futures_util::lock::Mutex<()> = futures_util::lock::Mutex::new(());
        if self.named.lock().is_empty() {
            return opened.await;
        }
        let _turn = TURN.lock().await;
        let _lent = Lent::new(self);
        opened.await
    }
}

/// The descriptors of a session while they are lent; those that were not taken come back.
struct Lent<'a>(&'a Descriptors);

impl<'a> Lent<'a> {
    fn new(owner: &'a Descriptors) -> Self {
        rt::handed::lend(std::mem::take(&mut owner.named.lock()));
        Self(owner)
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.0.named.lock().append(&mut rt::handed::reclaim());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn a_command_gets_the_descriptor_that_came_with_it_and_none_that_an_earlier_one_left() {
        let descriptors = Descriptors::default();
        let new = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let (left, own, second) = (new(), new(), new());
        let numbers = [own.as_raw_fd(), second.as_raw_fd()];
        descriptors.receive([left]);
        descriptors.receive([own, second]);
        // Later parts of a long command arrive without descriptors.
        descriptors.receive([]);
        let taken: Vec<_> = std::iter::from_fn(|| descriptors.next()).collect();
        assert_eq!(taken.iter().map(AsRawFd::as_raw_fd).collect::<Vec<_>>(), numbers);
    }
}
