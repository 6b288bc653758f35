//! The bitmaps that are handed over.
use crate::error::MigrationError;
use crate::mapping::{MAX_ALIAS, Mapping, persistence};
use block::{BitmapUse, Graph, NamedBitmap, Node};
use std::collections::HashSet;
use std::sync::Arc;

/// A bitmap that is handed over, under its names on the way. It is in use until this is dropped, and stays this program's unless it is
/// [handed over](Outgoing::hand_over).
pub struct Outgoing {
    pub(crate) node: String,
    pub(crate) name: String,
    pub(crate) persistent: bool,
    pub(crate) held: BitmapUse,
}

impl Outgoing {
    /// All bitmaps of a graph, or those that a mapping names. Refused if one of them can't be handed over: it is in use, may miss changes,
    /// or has a name that is too long.
    pub fn all(graph: &Graph, mapping: Option<&Mapping>) -> Result<Vec<Self>, MigrationError> {
        let (mut all, mut seen) = (Vec::new(), HashSet::new());
        let by_name = graph.nodes().into_iter().map(|node| (node.name().to_owned(), node));
        let nodes: Vec<_> = match mapping {
            Some(_) => by_name.collect(),
            // A device's name is what machines agree on.
            None => devices(graph).into_iter().chain(by_name).collect(),
        };
        for (alias, node) in nodes {
            if !seen.insert(Arc::as_ptr(&node)) {
                continue;
            }
            for bitmap in node.bitmaps().all().iter() {
                all.extend(Self::of(&node, &alias, bitmap, mapping)?);
            }
        }
        Ok(all)
    }

    fn of(
        node: &Node,
        alias: &str,
        bitmap: &Arc<NamedBitmap>,
        mapping: Option<&Mapping>,
    ) -> Result<Option<Self>, MigrationError> {
        let (mut alias, mut name, mut persistent) = (alias, bitmap.name(), bitmap.is_persistent());
        if let Some(mapping) = mapping {
            let Some(mapped) = mapping.of_node(node.name()) else { return Ok(None) };
            let Some(bitmap) = mapped.bitmaps.iter().find(|known| known.name == name) else {
                return Ok(None);
            };
            (alias, name) = (&mapped.alias, &bitmap.alias);
            persistent = persistence(bitmap).unwrap_or(persistent);
        }
        let refused = |why: String| MigrationError::Bitmap {
            name: bitmap.name().to_owned(),
            node: node.name().to_owned(),
            why,
        };
        if alias.starts_with('#') {
            return Err(refused("the node has no name that the other machine would know".to_owned()));
        }
        if name.len().max(alias.len()) > MAX_ALIAS {
            return Err(refused(format!("Name is longer than {MAX_ALIAS} bytes")));
        }
        bitmap.check_usable().map_err(|e| refused(e.to_string()))?;
        let held = bitmap.hold().map_err(|e| refused(e.to_string()))?;
        Ok(Some(Self { node: alias.to_owned(), name: name.to_owned(), persistent, held }))
    }

    /// From now on it is not stored here; or it is again.
    pub fn hand_over(&self, given: bool) {
        self.held.bitmap().hand_over(given);
    }
}

/// The nodes of devices, with the devices' names: below filters that have no bitmaps.
fn devices(graph: &Graph) -> Vec<(String, Arc<Node>)> {
    let node_of = |device: &Arc<block::Device>| {
        let mut node = device.medium()?.node();
        while let Some(below) = node.filtered().filter(|_| node.bitmaps().all().is_empty()) {
            node = below;
        }
        Some(node)
    };
    let named = graph.devices().into_iter().filter(|device| !device.name().is_empty());
    named.filter_map(|device| Some((device.name().to_owned(), node_of(&device)?))).collect()
}
