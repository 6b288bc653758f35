//! Steps: what drivers and the core are about to do, told to whoever is below and wants to know.
//!
//! A filter for tests binds rules to steps: it fails requests from one on, or holds one back there. A format tells its steps
//! to the file they are for, the core those of its own to the node they happen at. Where nobody listens, which is
//! always but in tests, telling costs one relaxed load, and the inline path tells nothing: who listens has no inline path.
use crate::edges::{ChildId, Edges};
use crate::node::{Node, Slow};
use crate::registry::DriverKind;
pub use api::BlkdebugEvent as Step;
use rt::BoxFuture;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::*;
use std::task::{Context, Poll};

/// What a driver that holds requests back at steps lets others say about it. Each is named by a tag.
pub trait Breakpoints: Send + Sync {
    /// The next request that comes to `step` is held back there.
    fn set(&self, step: Step, tag: &str);
    /// Lets the request that was held back first under this tag go on; whether there is one.
    fn resume(&self, tag: &str) -> bool;
    /// Takes back what was set under this tag, and lets go all that it holds: how many requests that are. `None` if there was
    /// nothing.
    fn remove(&self, tag: &str) -> Option<usize>;
    /// The tags of the requests that were held back since this was last asked, in the order in which they came.
    fn arrived(&self) -> Vec<String>;
    /// Waits until a request is held back under this tag.
    fn held<'a>(&'a self, tag: &'a str) -> BoxFuture<'a, ()>;
}

/// Whoever wants to know of a step is being told of it; done at once where nobody does. Two words long, so that telling
/// costs the futures of requests no room.
#[must_use]
pub struct Told<'a>(Option<BoxFuture<'a, ()>>);

impl Told<'_> {
    pub(crate) const NOBODY: Self = Self(None);
}

impl Future for Told<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().map_or(Poll::Ready(()), |told| told.as_mut().poll(cx))
    }
}

impl Node {
    /// Tells the node of a step; it may be held back here.
    pub fn announce(&self, step: Step) -> Told<'_> {
        Told(self.hears_steps().then(|| self.driver.announced(step)))
    }

    /// As [`Node::announce`], for as long as it takes.
    fn announce_owned(self: Arc<Self>, step: Step) -> Told<'static> {
        Told(Some(Box::pin(async move { self.announce(step).await })))
    }

    /// Whether somebody wants to know of steps.
    pub(crate) fn hears_steps(&self) -> bool {
        self.slow.load(Relaxed) & Slow::STEPS != 0
    }

    /// Tells a child in which this node, as a format, has its data.
    pub(crate) fn announce_to(&self, child: ChildId, step: Step) -> Told<'static> {
        if self.driver_type.kind == DriverKind::Format {
            self.edges.announce_to(child, step)
        } else {
            Told::NOBODY
        }
    }

    /// Tells the file of this node, if it is a format.
    pub(crate) fn announce_to_file(&self, step: Step) -> Told<'static> {
        self.edges.primary().map_or(Told::NOBODY, |file| self.announce_to(file, step))
    }
}

impl Edges {
    /// Tells a child of a step.
    pub(crate) fn announce_to(&self, child: ChildId, step: Step) -> Told<'static> {
        let listener = self.with(child, |child| child.filter(|child| child.hears_steps()).cloned());
        listener.map_or(Told::NOBODY, |child| child.announce_owned(step))
    }
}
