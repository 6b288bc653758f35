//! Clusters that have become zeroes in this session and kept their place in the file.
//!
//! A write in place takes no lease: one that was admitted while the cluster was data may store its bytes long after the
//! cluster reads as zeroes. As long as it may, the place must not be shown again, or who has read zeroes would read that
//! older write later. (A write whose bytes are stored before the new ones are is overwritten, and one that is stored after
//! they are shown is not older to anybody; in between both are told as done.) So a new write to such a cluster gets it a new place, until every request that was admitted before
//! it became zeroes has ended.
//!
//! Where a part of a cluster stays data (extended L2 entries), nothing of it can move, and the zeroes of the rest are as
//! other disks have them: a write and zeroes at once may be seen in either order, also one after the other.
//!
//! Nor can anything move in an external data file.
//!
//! Bounds: [`MOST`] clusters; further ones give their place up.
use super::entry::Entry;
use super::image::Image;
use block::Token;
use parking_lot::Mutex;
use rt::BoxFuture;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::sync::{Arc, Weak};

/// Clusters that may wait, and a few more.
const MOST: usize = 1 << 16;

/// How far a cluster has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It may be data still; the change of this number makes it zeroes.
    Planned(u64),
    /// It reads as zeroes.
    Zero,
    /// It does, and the requests admitted before are waited for.
    Waiting,
}

/// Guest clusters whose place must not be shown again yet.
#[derive(Default)]
pub(super) struct Kept {
    /// Whether there are any: looked at first, without a lock.
    some: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    clusters: HashMap<u64, Phase>,
    changes: u64,
    /// A task waits for requests to end.
    waits: bool,
}

impl Kept {
    /// Whether a write must get this cluster a new place.
    pub fn has(&self, cluster: u64) -> bool {
        if !self.some.load(Acquire) {
            return false;
        }
        self.state.lock().clusters.contains_key(&cluster)
    }

    /// Whether no further cluster may keep its place.
    pub fn is_full(&self) -> bool {
        self.some.load(Acquire) && self.state.lock().clusters.len() >= MOST
    }

    /// Takes note of a change; tells its number.
    fn plan(&self, clusters: &[u64]) -> u64 {
        let mut state = self.state.lock();
        state.changes += 1;
        let number = state.changes;
        state.clusters.extend(clusters.iter().map(|cluster| (*cluster, Phase::Planned(number))));
        self.some.store(true, Release);
        number
    }

    /// Takes note that clusters read as zeroes now; tells whether a task is needed that waits.
    fn published(&self, clusters: &[u64], change: u64) -> bool {
        let mut state = self.state.lock();
        for cluster in clusters {
            if let Some(phase) = state.clusters.get_mut(cluster)
                && *phase == Phase::Planned(change)
            {
                *phase = Phase::Zero;
            }
        }
        !std::mem::replace(&mut state.waits, true)
    }

    /// Nobody may know what was in these clusters.
    fn forget(&self, clusters: &[u64], change: u64) {
        let mut state = self.state.lock();
        for cluster in clusters {
            // Another change may have planned the same meanwhile.
            if state.clusters.get(cluster) == Some(&Phase::Planned(change)) {
                state.clusters.remove(cluster);
            }
        }
        self.some.store(!state.clusters.is_empty(), Release);
    }

    /// Whether there is anything to wait for; what there is now is waited for from now on.
    fn begin_wait(&self) -> bool {
        let mut state = self.state.lock();
        for phase in state.clusters.values_mut().filter(|phase| **phase == Phase::Zero) {
            *phase = Phase::Waiting;
        }
        state.waits = state.clusters.values().any(|phase| *phase == Phase::Waiting);
        state.waits
    }

    /// All that was waited for has ended.
    fn end_wait(&self) {
        let mut state = self.state.lock();
        state.clusters.retain(|_, phase| *phase != Phase::Waiting);
        self.some.store(!state.clusters.is_empty(), Release);
    }
}

/// A change by which clusters become zeroes in their place.
struct Keeping {
    change: Option<Box<dyn Token>>,
    image: Arc<Image>,
    clusters: Vec<u64>,
    number: u64,
}

impl Token for Keeping {
    fn commit(mut self: Box<Self>) -> BoxFuture<'static, block::Result<()>> {
        Box::pin(async move {
            match self.change.take() {
                Some(change) => change.commit().await,
                None => Ok(()),
            }
        })
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        self.change = None;
        if self.image.domain.inside() <= 1 {
            // This is the only request.
            return self.image.kept.forget(&self.clusters, self.number);
        }
        if self.image.kept.published(&self.clusters, self.number) {
            rt::spawn(wait(Arc::downgrade(&self.image))).detach();
        }
    }
}

/// Waits until no request is left that may know what was there before.
async fn wait(image: Weak<Image>) {
    loop {
        let Some(domain) = image.upgrade().filter(|i| i.kept.begin_wait()).map(|i| i.domain.clone()) else {
            return;
        };
        domain.grace().await;
        let Some(image) = image.upgrade() else { return };
        image.kept.end_wait();
    }
}

impl Image {
    /// The host cluster that new data of a guest cluster may be stored in, if it has one of its own. Where there is data in
    /// it, that stays where it is: writes in place may be under way.
    pub(super) fn own_place(&self, entry: &Entry, cluster: u64) -> Option<u64> {
        if self.geometry.data_file {
            return Some(cluster << self.geometry.cluster_bits);
        }
        entry.own_host().filter(|_| entry.has_data() || !self.kept.has(cluster))
    }

    /// The change by which these clusters, which are data as yet, become zeroes in their place.
    pub(super) fn keeping(self: &Arc<Self>, change: Box<dyn Token>, clusters: Vec<u64>) -> Box<dyn Token> {
        if clusters.is_empty() {
            return change;
        }
        let number = self.kept.plan(&clusters);
        Box::new(Keeping { change: Some(change), image: self.clone(), clusters, number })
    }
}
