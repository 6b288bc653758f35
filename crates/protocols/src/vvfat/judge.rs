//! The reader of file systems as programs that test it drive it: on bytes of their own.
use super::changes::{Changes, Fate};
use super::layout::{Layout, SECTOR, Width};
use super::listing::Spelling;
use super::volume::{ROOT, Volume, Walk};
use std::path::{Component, PathBuf};

/// Reads the file system of a disk of this kind (a floppy disk of 12 or 16 bits, else a hard disk of 32) whose first sectors are right:
/// the bytes of its first table, and those of all that lies behind the tables; zeroes behind either. Answers paths and lengths, or
/// what is wrong.
///
/// # Panics
/// Where what was read breaks a law: paths stay inside, files lie in their clusters, no cluster is of two, and a disk compared with
/// itself has not changed.
pub fn judge_volume(kind: u8, table: &[u8], behind: &[u8]) -> Result<Vec<(PathBuf, u32)>, String> {
    let layout = match kind % 3 {
        0 => Layout::of_floppy(Some(Width::Fat12)).map_err(|e| e.to_string())?,
        1 => Layout::of_floppy(Some(Width::Fat16)).map_err(|e| e.to_string())?,
        _ => Layout::of_hard_disk(Width::Fat32),
    };
    let volume = read(&layout, table, behind)?;
    let mut clusters = 0;
    for (index, node) in volume.below_root() {
        let path = volume.path(index);
        assert!(path.components().all(|part| matches!(part, Component::Normal(_))), "{path:?} leads out");
        assert!(path.components().count() > 0 && node.parent < index, "{path:?}");
        let own: u64 = node.chain.iter().map(|span| u64::from(span.clusters)).sum();
        assert!(u64::from(node.len) <= own * layout.cluster(), "{path:?} is longer than its clusters");
        clusters += own;
    }
    clusters +=
        volume.get(ROOT).map_or(0, |root| root.chain.iter().map(|span| u64::from(span.clusters)).sum());
    assert_eq!(clusters, volume.in_use().count() as u64, "clusters that are of two");
    let mut again = volume.clone();
    if let Ok(changes) = Changes::between(&volume, &mut again, |_| false) {
        let inside = |fate: &Fate| fate.old().is_none_or(|old| (old as usize) < volume.nodes.len());
        assert!(changes.fates.iter().all(inside));
        let exact = volume.nodes.iter().all(|node| node.spelling == Spelling::Exact);
        assert!(!exact || changes.is_empty(), "a disk differs from itself");
    }
    Ok(volume.below_root().map(|(index, node)| (volume.path(index), node.len)).collect())
}

fn read(layout: &Layout, table: &[u8], behind: &[u8]) -> Result<Volume, String> {
    let boot = layout.boot_sectors(&[b' '; 11], 0);
    let mut walk = Walk::new(layout, &layout.partition_table(), &boot, table).map_err(|e| e.to_string())?;
    while let Some(places) = walk.wanted() {
        let mut bytes = Vec::new();
        for place in places {
            let from = (place.start - layout.root() * SECTOR) as usize;
            let len = (place.end - place.start) as usize;
            let found =
                behind.get(from.min(behind.len())..(from + len).min(behind.len())).unwrap_or_default();
            bytes.extend_from_slice(found);
            bytes.resize(bytes.len() + len - found.len(), 0);
        }
        walk.take(&bytes).map_err(|e| e.to_string())?;
    }
    Ok(walk.into_volume())
}
