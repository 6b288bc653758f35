//! The name by which an image can be opened again with the same content.
//!
//! A file's name is not enough where a node was opened with another backing image than its header names: opened by
//! that name alone it would show other content. Such a node is named by a `json:` text.
use crate::edges::{ChildName, ChildRole};
use crate::error::Result;
use crate::node::Node;
use crate::options::{Opt, Options};
use crate::registry::DriverKind;
use std::collections::HashSet;
use std::sync::Arc;

/// Images below one another that a name describes; one header holds fewer than that.
const MAX_DESCRIBED: usize = 16;

/// The nodes that, with all images below them, are those that the headers name.
type Named = HashSet<*const Node>;

/// Whether an image of another format than the header above says is another image.
#[derive(Clone, Copy, PartialEq)]
enum Formats {
    /// It is: a name that is stored has to lead to the same content.
    Compared,
    /// It is not, as QEMU tells names.
    Ignored,
}

impl Node {
    /// The name by which the image can be opened: the protocol's own, that of the file child, or a `json:` text where
    /// the latter alone would mean another disk.
    pub fn filename(&self) -> String {
        if let Some(node) = self.filtered().filter(|_| self.driver_type.unnamed) {
            return node.filename();
        }
        self.plain_name().unwrap_or_else(|| format!("json:{}", self.described(None, 0).to_json()))
    }

    /// The name, where it is no `json:` text.
    fn plain_name(&self) -> Option<String> {
        if let Some(name) = &self.filename {
            return Some(name.clone());
        }
        match self.primary() {
            // A file without a name of its own is told by its options.
            None => self.driver.naming_options().is_empty().then(String::new),
            Some(file) => self.driver.name_over(file.plain_name()?),
        }
    }

    /// A name that leads to what the node shows now: [`Node::filename`] where that is enough.
    pub fn exact_filename(self: &Arc<Self>) -> String {
        self.name_of_chain(Formats::Compared)
    }

    /// The name that clients are told: a `json:` text where another image is attached than a header names. One of
    /// another format than the header says is told by its plain name.
    pub fn told_filename(self: &Arc<Self>) -> String {
        self.name_of_chain(Formats::Ignored)
    }

    fn name_of_chain(self: &Arc<Self>, formats: Formats) -> String {
        // From the lowest up, each once: a chain may be long.
        let layers: Vec<_> =
            std::iter::successors(Some(self.without_unnamed()), |node| node.below()).collect();
        let mut named = Named::new();
        for node in layers.iter().rev() {
            if node.is_as_named(&named, formats) {
                named.insert(Arc::as_ptr(node));
            }
        }
        layers.first().unwrap_or(self).name_with(&named)
    }

    fn name_with(self: &Arc<Self>, named: &Named) -> String {
        if named.contains(&Arc::as_ptr(self)) {
            return self.filename();
        }
        format!("json:{}", self.described(Some(named), MAX_DESCRIBED).to_json())
    }

    /// The node, or what it filters, at any depth, without filters that have no name of their own.
    fn without_unnamed(self: &Arc<Self>) -> Arc<Node> {
        let mut node = self.clone();
        while let Some(child) = node.filtered().filter(|_| node.driver_type.unnamed) {
            node = child;
        }
        node
    }

    /// The next image below. A node that shows its file unchanged counts as the file.
    fn below(&self) -> Option<Arc<Node>> {
        let below = match self.driver_type.supports_backing {
            true => self.backing(),
            false => self.facts().transparent.then(|| self.primary()).flatten(),
        };
        below.map(|node| node.without_unnamed())
    }

    /// Whether a file's name and the node's format mean the node: the file is shown to it as it is.
    fn is_of_plain_file(&self) -> bool {
        let mut below = self.primary();
        while let Some(node) = below.take_if(|node| node.driver_type.kind != DriverKind::Protocol) {
            if !node.facts().transparent || !node.driver.naming_options().is_empty() {
                return false;
            }
            below = node.primary();
        }
        below.is_none_or(|node| node.plain_name().is_some())
    }

    /// Whether the node and all images below it are those that the headers name; `named` has those below that are.
    fn is_as_named(&self, named: &Named, formats: Formats) -> bool {
        if !self.is_of_plain_file() {
            return false;
        }
        if !self.driver_type.supports_backing {
            return true;
        }
        let info = self.driver.info();
        let (backing, stored) = match (self.below(), info.backing_filename) {
            (None, stored) => return stored.is_none(),
            (Some(_), None) => return false,
            (Some(backing), Some(stored)) => (backing, stored),
        };
        let compared = info.backing_format.filter(|_| formats == Formats::Compared);
        if compared.is_some_and(|format| !backing.is_called(&format)) {
            return false;
        }
        if stored.starts_with("json:") {
            return stored == backing.name_with(named);
        }
        let (stored, opened) = (resolve_filename(&self.place(), &stored), backing.filename());
        named.contains(&Arc::as_ptr(&backing)) && (stored == opened || absolute(&stored) == absolute(&opened))
    }

    /// Whether a header that stores this format means the node's.
    fn is_called(&self, format: &str) -> bool {
        format == self.driver_name()
            || (self.fallback == Some(format) && self.driver_type.kind == DriverKind::Protocol)
    }

    /// The children that are told of beside the primary one.
    fn named_children(&self) -> Vec<(ChildName, Arc<Node>)> {
        let told = |role: ChildRole| role.has(ChildRole::NAMED) && !role.has(ChildRole::PRIMARY);
        let children = self.edges.all().into_iter().filter(|child| told(child.role));
        children.map(|child| (child.name, child.node)).collect()
    }

    /// The options that lead to what the node shows; without `named`, with the backing image that its header names.
    fn described(&self, named: Option<&Named>, left: usize) -> Options {
        if let Some(name) = &self.filename {
            // A file's name is an option of its driver; that of a server is read to find its driver's options.
            let says_nothing = |parse: fn(&str) -> Result<Options>| parse(name).is_ok_and(|o| o.is_empty());
            let driver = Options::new().with_str("driver", self.driver_name());
            return match name.contains("://") {
                true if self.driver_type.parse_filename.is_some_and(says_nothing) => driver,
                true => Options::new().with_str("filename", name),
                false => {
                    // A name that others keep is seen from elsewhere.
                    let name = if named.is_some() { absolute(name) } else { name.clone() };
                    driver.with_str("filename", &name)
                }
            };
        }
        let mut options = Options::new();
        // A backing image that the header names is not repeated.
        let is_as_named = named.is_none_or(|named| named.contains(&std::ptr::from_ref(self)));
        let has_none = || self.backing().is_none() && self.driver.info().backing_filename.is_none();
        if self.driver_type.supports_backing && !is_as_named && !has_none() {
            let below = self.below().filter(|_| left > 0);
            let below = below.map_or(Opt::Null, |backing| Opt::Dict(backing.described(named, left - 1)));
            options.set("backing", below);
        }
        options.set("driver", Opt::Str(self.driver_name().to_owned()));
        if let Some(edge) = self.edges.primary().and_then(|id| self.edges.edge(id))
            && let Some(file) = self.primary().map(|file| file.without_unnamed())
        {
            options.set(edge.name().to_string(), Opt::Dict(file.described(named, left)));
        }
        for (name, child) in self.named_children() {
            let described = Opt::Dict(child.without_unnamed().described(named, left));
            let mut listed = match options.take(name.name) {
                Some(Opt::List(listed)) => listed,
                _ => Vec::new(),
            };
            let described = match name.index {
                None => described,
                Some(_) => {
                    listed.push(described);
                    Opt::List(listed)
                }
            };
            options.set(name.name, described);
        }
        for (name, value) in self.driver.naming_options().iter() {
            // As it was written, unless it was changed since.
            let word = self.words.get_str(name).filter(|word| value.is_written(word));
            options.set(name, word.map_or_else(|| value.clone(), |word| Opt::Str(word.to_owned())));
        }
        options
    }
}

/// An absolute path; a name with a protocol unchanged.
fn absolute(name: &str) -> String {
    match name.starts_with("json:") || name.contains("://") {
        true => name.to_owned(),
        false => rt::fs::absolute(name),
    }
}

/// Joins a stored backing name with the folder of the image that names it, whose place is `overlay` ([`Node::place`]).
pub fn resolve_filename(overlay: &str, stored: &str) -> String {
    let has_protocol = stored.split_once(':').is_some_and(|(p, _)| !p.is_empty() && !p.contains('/'));
    if stored.starts_with('/') || has_protocol {
        return stored.to_owned();
    }
    match overlay.rsplit_once('/') {
        Some((folder, _)) => format!("{folder}/{stored}"),
        None => stored.to_owned(),
    }
}

/// The name by which an image at `overlay` can refer to `file` so that [`resolve_filename`] leads back to it: as it is
/// where that works, else absolute.
pub fn name_seen_from(overlay: &str, file: &str) -> String {
    if resolve_filename(overlay, file) == file {
        return file.to_owned();
    }
    rt::fs::absolute(file)
}
