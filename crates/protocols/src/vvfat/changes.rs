//! What a disk holds now beside what its folder holds: which files and folders stay, move, are new, or go.
//!
//! A folder, or a file with content, is found again by its first cluster, whatever its name; what has none by its name. A file stays
//! the host's file as long as its clusters are the same ones and nobody wrote to them. Whatever is found again, the outcome is what
//! the disk says: to be found again only spares a copy, and keeps what a disk can't tell (owner, permissions).
//!
//! Work: each name is looked at once, and names of folders in which something has changed are compared.
use super::listing::Spelling;
use super::name::Short;
use super::volume::{Index, ROOT, Span, Volume};
use std::collections::{HashMap, HashSet};

/// What becomes of a folder or a file on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is where it was.
    Stays(Index),
    /// It was elsewhere, or had another name.
    Moves(Index),
    /// It is made; a file like this one of the folder.
    New(Option<Index>),
}

/// What changes a folder to what a disk says.
pub struct Changes {
    /// What becomes of each node of the new volume.
    pub fates: Vec<Fate>,
    /// The nodes of the old volume that leave their place, those in folders before the folders.
    pub leaving: Vec<Index>,
}

impl Changes {
    /// Compares what a disk holds `now` with what it held when it and the folder were `before`: the names of `now` become those that
    /// the folder will have. `is_fresh` tells whether clusters were written to since.
    ///
    /// # Errors
    /// A node with a name that another one in its folder has.
    pub fn between(
        before: &Volume,
        now: &mut Volume,
        is_fresh: impl Fn(Span) -> bool,
    ) -> Result<Self, Index> {
        let mut fates = vec![Fate::Stays(ROOT)];
        let mut stays = vec![false; before.nodes.len()];
        let mut moves = vec![false; before.nodes.len()];
        let starts = starts(before);
        let mut at = 1;
        while let Some(parent) = now.nodes.get(at).map(|node| node.parent) {
            let end = at + now.nodes.iter().skip(at).take_while(|node| node.parent == parent).count();
            let old_folder = fates.get(parent as usize).and_then(|fate| fate.old());
            let children =
                old_folder.map_or(0..0, |folder| starts.get(folder as usize).cloned().unwrap_or_default());
            let names = names(before, children);
            spell(before, now, at..end, old_folder, &names)?;
            for index in at..end {
                let fate = fate(before, now, index, old_folder, &names, &is_fresh);
                match fate {
                    Fate::Stays(old) => {
                        stays.get_mut(old as usize).into_iter().for_each(|stays| *stays = true)
                    }
                    Fate::Moves(old) => {
                        moves.get_mut(old as usize).into_iter().for_each(|moves| *moves = true)
                    }
                    Fate::New(_) => {}
                }
                fates.push(fate);
            }
            at = end;
        }
        let leaving = (1..before.nodes.len()).rev().filter(|old| !stays.get(*old).copied().unwrap_or(false));
        Ok(Self { fates, leaving: leaving.map(|old| old as Index).collect() })
    }

    /// Whether no name and no content changes.
    pub fn is_empty(&self) -> bool {
        self.leaving.is_empty() && self.fates.iter().all(|fate| matches!(fate, Fate::Stays(_)))
    }

    /// What goes, and nothing takes its place.
    pub fn removed(&self) -> Vec<Index> {
        let kept = self.fates.iter().filter_map(|fate| match fate {
            Fate::Stays(old) | Fate::Moves(old) | Fate::New(Some(old)) => Some(*old),
            Fate::New(None) => None,
        });
        let kept: HashSet<Index> = kept.collect();
        self.leaving.iter().copied().filter(|old| !kept.contains(old)).collect()
    }

    pub fn fate(&self, index: Index) -> Fate {
        self.fates.get(index as usize).copied().unwrap_or(Fate::New(None))
    }
}

impl Fate {
    /// Which node it was.
    pub fn old(self) -> Option<Index> {
        match self {
            Self::Stays(old) | Self::Moves(old) => Some(old),
            Self::New(_) => None,
        }
    }
}

/// Which nodes lie in each folder.
fn starts(volume: &Volume) -> Vec<std::ops::Range<usize>> {
    let mut all = vec![0..0; volume.nodes.len()];
    for (index, node) in volume.below_root() {
        let Some(range) = all.get_mut(node.parent as usize) else { continue };
        let index = index as usize;
        *range = if range.end == 0 { index..index + 1 } else { range.start..index + 1 };
    }
    all
}

/// What the names in a folder were.
struct Names {
    long: HashMap<String, Index>,
    short: HashMap<Short, Index>,
}

fn names(volume: &Volume, children: std::ops::Range<usize>) -> Names {
    let mut names = Names { long: HashMap::new(), short: HashMap::new() };
    for index in children {
        if let Some(node) = volume.get(index as Index) {
            names.long.insert(node.name.to_uppercase(), index as Index);
            names.short.insert(node.short, index as Index);
        }
    }
    names
}

/// Spells names that the disk has without a case: as the folder has them, and else in small letters, as QEMU does.
fn spell(
    before: &Volume,
    now: &mut Volume,
    children: std::ops::Range<usize>,
    old_folder: Option<Index>,
    names: &Names,
) -> Result<(), Index> {
    let nodes = |now: &Volume| {
        children.clone().filter_map(|at| Some((at, now.nodes.get(at)?.clone()))).collect::<Vec<_>>()
    };
    if !now.nodes.iter().take(children.end).skip(children.start).any(|node| node.spelling == Spelling::Short)
    {
        return Ok(());
    }
    let all = nodes(now);
    let exact = all.iter().filter(|(_, node)| node.spelling == Spelling::Exact);
    let mut taken: HashSet<String> = exact.map(|(_, node)| node.name.to_uppercase()).collect();
    for (at, node) in all.iter().filter(|(_, node)| node.spelling == Spelling::Short) {
        let begins = node.chain.first().and_then(|span| before.beginning_in(span.first));
        let same_file = begins.filter(|old| {
            before.get(*old).is_some_and(|old| Some(old.parent) == old_folder && old.short == node.short)
        });
        let same_name =
            || names.short.get(&node.short).or_else(|| names.long.get(&node.name.to_uppercase())).copied();
        let known = same_file.or_else(same_name).and_then(|old| before.get(old)).map(|old| old.name.clone());
        let known = known.filter(|name| !taken.contains(&name.to_uppercase()));
        let name = known.unwrap_or_else(|| node.name.to_lowercase());
        if !taken.insert(name.to_uppercase()) {
            return Err(*at as Index);
        }
        if let Some(node) = now.nodes.get_mut(*at) {
            node.name = name;
        }
    }
    Ok(())
}

fn fate(
    before: &Volume,
    now: &Volume,
    index: usize,
    old_folder: Option<Index>,
    names: &Names,
    is_fresh: &impl Fn(Span) -> bool,
) -> Fate {
    let Some(node) = now.nodes.get(index) else { return Fate::New(None) };
    let found = |old: Index| before.get(old).filter(|old| old.is_folder == node.is_folder);
    let begins = node.chain.first().and_then(|span| before.beginning_in(span.first));
    let named = names.long.get(&node.name.to_uppercase()).copied();
    let again = if node.chain.is_empty() { named } else { begins };
    let again = again.and_then(|old| Some((old, found(old)?)));
    let is_same = |old: &super::volume::Node| {
        let same_bytes = old.len == node.len && old.chain == node.chain;
        node.is_folder || (same_bytes && !node.chain.iter().any(|span| is_fresh(*span)))
    };
    match again {
        Some((index, old)) if is_same(old) => {
            let in_place = Some(old.parent) == old_folder && old.name == node.name;
            if in_place { Fate::Stays(index) } else { Fate::Moves(index) }
        }
        _ => Fate::New(named.filter(|old| !node.is_folder && found(*old).is_some())),
    }
}
