//! The FAT file system that a guest leaves on the disk of a folder (vvfat).

/// Bytes of the table that an input has behind its first byte, which is the kind of the disk.
const TABLE: usize = 96;
/// Where the clusters of a floppy disk with entries of 12 bits begin behind its tables, and of one with 16 bits.
const CLUSTERS: [usize; 2] = [14 * 512, 15 * 512];

/// The kind of the disk, the front of its table, and what lies behind its tables.
pub fn volume(input: &[u8]) {
    let Some((kind, rest)) = input.split_first() else { return };
    let (table, behind) = rest.split_at(TABLE.min(rest.len()));
    let first = protocols::judge_volume(*kind, table, behind);
    assert_eq!(first, protocols::judge_volume(*kind, table, behind), "the answer changes");
}

/// A disk of each kind with a file in the root, one with a long name in a folder, and an empty one.
pub fn seeds() -> Vec<Vec<u8>> {
    (0..3).map(seed).collect()
}

fn seed(kind: u8) -> Vec<u8> {
    // The root of a disk with 32 bits lies in its first cluster.
    let next = if kind == 2 { 3_u8 } else { 2 };
    let entry = |name: &[u8; 11], attributes: u8, cluster: u8, len: u8| {
        let mut entry = [0; 32];
        entry[..11].copy_from_slice(name);
        (entry[11], entry[26], entry[28]) = (attributes, cluster, len);
        entry
    };
    let mut input = vec![0; 1 + TABLE];
    input[0] = kind;
    // All clusters are the ends of their chains.
    input[1..1 + TABLE / 4].fill(0xff);
    let cluster = if kind == 2 { 4096 } else { 512 };
    let clusters = CLUSTERS.get(usize::from(kind)).copied().unwrap_or(4096);
    let mut behind = vec![0; clusters + 2 * cluster];
    let mut put = |at: usize, entries: &[[u8; 32]]| {
        behind[at..at + 32 * entries.len()].copy_from_slice(&entries.concat())
    };
    put(
        0,
        &[
            entry(b"LABEL      ", 0x08, 0, 0),
            entry(b"FILE    TXT", 0x20, next, 9),
            entry(b"FOLDER     ", 0x10, next + 1, 0),
            entry(b"EMPTY      ", 0x21, 0, 0),
        ],
    );
    let mut long = [0xff; 32];
    long[..11].copy_from_slice(b"\x41a\0 \0l\0o\0n\0");
    (long[11], long[12], long[13]) = (0x0f, 0, sum(b"ALONGN~1   "));
    long[14..26].copy_from_slice(b"g\0 \0n\0a\0m\0e\0");
    long[26..30].copy_from_slice(&[0; 4]);
    put(
        clusters + cluster,
        &[
            entry(b".          ", 0x10, next + 1, 0),
            entry(b"..         ", 0x10, 0, 0),
            long,
            entry(b"ALONGN~1   ", 0x20, next + 2, 5),
        ],
    );
    input.extend(behind);
    input
}

/// What an entry of a long name has of the short one.
fn sum(short: &[u8; 11]) -> u8 {
    short.iter().fold(0, |sum: u8, byte| sum.rotate_right(1).wrapping_add(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_sound_disks() {
        for seed in seeds() {
            let (table, behind) = seed[1..].split_at(TABLE);
            let paths: Vec<_> = protocols::judge_volume(seed[0], table, behind).unwrap();
            let paths: Vec<_> = paths.iter().map(|(path, len)| (path.to_str().unwrap(), *len)).collect();
            assert_eq!(paths, [("FILE.TXT", 9), ("FOLDER", 0), ("EMPTY", 0), ("FOLDER/a long name", 5)]);
        }
    }
}
