//! Filters: drivers that show one child as it is, and do something beside.
//!
//! A filter says what it changes. Everything else passes to its child by derivation: the default of each method of
//! [`Driver`] that is about content is written with [`through`], which asks the driver whether it filters
//! ([`Driver::filtered`]); only for what doesn't does the method's absence mean something (an error, or "the core does it
//! otherwise"). So a method that is added to the trait later can be missed by no filter; `cargo xtask tidy` refuses a
//! default that does not go this way.
//!
//! What passes goes to the child's *node*, where its options, hooks, alignment and poison apply, as any parent's requests.
use crate::driver::{Action, Driver, Extent, ExtentKind, Facts, WritePlan};
use crate::edges::{ChildId, Edges};
use crate::error::Result;
use crate::node::Node;
use rt::{BoxFuture, BufMut};
use std::sync::Arc;

/// The edge to what a filter filters.
pub struct Filtered {
    edges: Arc<Edges>,
    child: ChildId,
}

/// Passes a call to what `driver` filters; `absent` is what its absence means for others.
pub(crate) fn through<'a, T>(
    driver: &'a (impl Driver + ?Sized),
    pass: impl FnOnce(&'a Filtered) -> T,
    absent: impl FnOnce() -> T,
) -> T {
    match driver.filtered() {
        Some(below) => pass(below),
        None => absent(),
    }
}

/// An answer that is there already.
pub(crate) fn ready<'a, T: Send + 'a>(answer: T) -> BoxFuture<'a, T> {
    Box::pin(std::future::ready(answer))
}

impl Filtered {
    /// The edge `child` of the driver whose edges these are.
    pub fn new(edges: Arc<Edges>, child: ChildId) -> Self {
        Self { edges, child }
    }

    /// The edge.
    pub fn child(&self) -> ChildId {
        self.child
    }

    /// The child.
    pub fn node(&self) -> Result<Arc<Node>> {
        self.edges.need(self.child)
    }

    /// Looks at the child without touching its reference count; `without` is the answer where it is gone.
    pub fn with<T>(&self, without: T, look: impl FnOnce(&Node) -> Result<T>) -> Result<T> {
        self.edges.with(self.child, |child| child.map_or(Ok(without), |child| look(child)))
    }

    /// The facts of a filter.
    pub fn facts(&self) -> Facts {
        let child = self.node().map(|child| child.facts()).unwrap_or_default();
        Facts { mapping: true, transparent: true, alignment: 1, ..child }
    }

    /// The child's length, in bytes.
    pub fn length(&self) -> u64 {
        self.edges.with(self.child, |child| child.map_or(0, |child| child.length()))
    }

    /// Where the bytes of a range are: all of them in the child, at the same offset.
    pub fn place(&self, offset: u64, len: u64) -> Extent {
        Extent { len, kind: ExtentKind::Data { child: self.child, offset, owned: true } }
    }

    /// A change of a range is the child's.
    pub fn plan(&self, offset: u64, len: u64) -> WritePlan {
        WritePlan { len, action: Action::Forward { child: self.child, offset }, token: None }
    }

    /// Does something with the child.
    pub fn run<'a, T: 'a, F: Future<Output = Result<T>> + Send>(
        &'a self,
        work: impl FnOnce(Arc<Node>) -> F + Send + 'a,
    ) -> BoxFuture<'a, Result<T>> {
        Box::pin(async move { work(self.node()?).await })
    }

    pub(crate) fn read(&self, offset: u64, buf: BufMut) -> BoxFuture<'_, (BufMut, Result<()>)> {
        Box::pin(async move {
            match self.node() {
                Ok(child) => child.read(offset, buf).await,
                Err(e) => (buf, Err(e)),
            }
        })
    }
}
