//! Under which names bitmaps are handed over.
use crate::error::MigrationError;
use api::{BitmapMigrationBitmapAlias, BitmapMigrationNodeAlias};
use block::MAX_BITMAP_NAME;
use std::collections::HashSet;

/// Longest name on the way, in bytes.
pub(crate) const MAX_ALIAS: usize = 255;

/// Longest name of a node, in bytes.
const MAX_NODE_NAME: usize = 31;

/// Names on the way, each for one node and bitmap: whoever has a mapping hands over, and takes, nothing else.
#[derive(Debug, Clone, Default)]
pub struct Mapping(Vec<BitmapMigrationNodeAlias>);

/// A bitmap here, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mapped {
    pub(crate) node: String,
    pub(crate) bitmap: String,
    pub(crate) persistent: Option<bool>,
}

impl Mapping {
    /// A mapping that leads from one name to one, in both directions.
    pub fn new(nodes: Vec<BitmapMigrationNodeAlias>) -> Result<Self, MigrationError> {
        let (mut names, mut aliases) = (HashSet::new(), HashSet::new());
        for node in &nodes {
            let BitmapMigrationNodeAlias { node_name, alias, bitmaps } = node;
            if !is_name(alias) {
                return Err(invalid(format!("The node alias '{alias}' is not well-formed")));
            }
            check_length("node alias", alias, MAX_ALIAS)?;
            check_length("node name", node_name, MAX_NODE_NAME)?;
            if !names.insert(node_name) {
                return Err(invalid(format!("The node name '{node_name}' is mapped twice")));
            }
            if !aliases.insert(alias) {
                return Err(invalid(format!("The node alias '{alias}' is used twice")));
            }
            check_bitmaps(node_name, alias, bitmaps)?;
        }
        Ok(Self(nodes))
    }

    /// The same as it was given.
    pub fn nodes(&self) -> &[BitmapMigrationNodeAlias] {
        &self.0
    }

    pub(crate) fn of_node(&self, name: &str) -> Option<&BitmapMigrationNodeAlias> {
        self.0.iter().find(|node| node.node_name == name)
    }

    /// The bitmap here that a pair of names on the way means.
    pub(crate) fn arriving(&self, alias: &str, bitmap_alias: &str) -> Result<Mapped, String> {
        let node = self.0.iter().find(|node| node.alias == alias);
        let node = node.ok_or_else(|| format!("Unknown node alias '{alias}'"))?;
        let name = &node.node_name;
        let bitmap = node.bitmaps.iter().find(|bitmap| bitmap.alias == bitmap_alias).ok_or_else(|| {
            format!("Unknown bitmap alias '{bitmap_alias}' on node '{name}' (alias '{alias}')")
        })?;
        Ok(Mapped { node: name.clone(), bitmap: bitmap.name.clone(), persistent: persistence(bitmap) })
    }
}

/// Whether a bitmap is to be kept in the image, where that is said.
pub(crate) fn persistence(bitmap: &BitmapMigrationBitmapAlias) -> Option<bool> {
    bitmap.transform.as_ref().and_then(|transform| transform.persistent)
}

fn check_bitmaps(
    node: &str,
    alias: &str,
    bitmaps: &[BitmapMigrationBitmapAlias],
) -> Result<(), MigrationError> {
    let (mut names, mut aliases) = (HashSet::new(), HashSet::new());
    for bitmap in bitmaps {
        check_length("bitmap alias", &bitmap.alias, MAX_ALIAS)?;
        check_length("bitmap name", &bitmap.name, MAX_BITMAP_NAME)?;
        if !names.insert(&bitmap.name) {
            return Err(invalid(format!("The bitmap '{node}'/'{}' is mapped twice", bitmap.name)));
        }
        if !aliases.insert(&bitmap.alias) {
            return Err(invalid(format!("The bitmap alias '{alias}'/'{}' is used twice", bitmap.alias)));
        }
    }
    Ok(())
}

fn check_length(what: &str, name: &str, most: usize) -> Result<(), MigrationError> {
    if name.len() <= most {
        return Ok(());
    }
    Err(invalid(format!("The {what} '{name}' is longer than {most} bytes")))
}

/// A letter first, then letters, digits, `-`, `.` and `_`.
fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))
}

fn invalid(why: String) -> MigrationError {
    MigrationError::Invalid(format!("Invalid mapping given for block-bitmap-mapping: {why}"))
}
