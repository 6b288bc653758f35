//! Chains as jobs see them: a node with all below it, and which of those a client means.
use block::{BlockError, DriverKind, ErrorKind, Graph, Link, Node, Result, name_seen_from, resolve_filename};
use std::sync::Arc;

/// The node and all below it in its chain, filters too, top-down.
pub(crate) fn chain(node: &Arc<Node>) -> Vec<Arc<Node>> {
    std::iter::successors(Some(node.clone()), |n| n.next_in_chain()).collect()
}

/// Whether two nodes show the same image, but for filters.
pub(crate) fn same_image(one: &Arc<Node>, other: &Arc<Node>) -> bool {
    Arc::ptr_eq(&one.skip_filters(), &other.skip_filters())
}

/// Whether the node is `top` or below it in its chain.
pub(crate) fn is_in_chain(top: &Arc<Node>, node: &Arc<Node>) -> bool {
    chain(top).iter().any(|n| Arc::ptr_eq(n, node))
}

/// The node of this name.
pub(crate) fn named(graph: &Graph, name: &str) -> Result<Arc<Node>> {
    graph.node(name).ok_or_else(|| {
        BlockError::new(ErrorKind::NotFound, format!("Cannot find device='' nor node-name='{name}'"))
    })
}

/// The backing node, at any depth below `top`, that a file name means: by the name it was opened by, as seen from its
/// overlay too, or by being the same file.
pub(crate) async fn find_backing(top: &Arc<Node>, file: &str) -> Result<Arc<Node>> {
    let chain: Vec<_> = top.images().collect();
    let mut layers = Vec::with_capacity(chain.len());
    for (overlay, node) in chain.iter().zip(chain.iter().skip(1)) {
        let (filename, resolved) = (node.filename(), resolve_filename(&overlay.place(), file));
        // The name that its overlay stores may be another image's: users can open a chain another way.
        layers.push((filename == file || filename == resolved, resolved, filename));
    }
    // A file system may take long to answer.
    let find = move || layers.iter().position(|(named, a, b)| *named || same_path(a, b));
    let found = rt::blocking(find).await.and_then(|at| chain.get(at + 1).cloned());
    found.ok_or_else(|| {
        BlockError::new(ErrorKind::NotFound, format!("Can't find '{file}' in the backing chain"))
    })
}

fn same_path(a: &str, b: &str) -> bool {
    let real = |name: &str| std::fs::canonicalize(rt::fs::path(name)).ok();
    real(a).is_some_and(|a| Some(a) == real(b))
}

/// What the header of `overlay` is to say of its backing image, without the filters on it: `name`, or by its absence the name
/// of `base`. With `mask_protocol` the format of a file of no format is raw.
pub(crate) fn link_to(
    graph: &Graph,
    overlay: &Node,
    base: &Arc<Node>,
    (name, mask_protocol): (Option<&str>, bool),
) -> Link {
    let base = base.skip_filters();
    let own = || name_seen_from(&overlay.place(), &base.exact_filename());
    let filename = name.map_or_else(own, str::to_owned);
    let masked = mask_protocol && base.driver_type().kind == DriverKind::Protocol;
    let plain = graph.registry().fallback().filter(|_| masked);
    let format = plain.map_or(base.driver_name(), |format| format.name);
    Link { filename: Some(filename), format: Some(format.to_owned()) }
}
