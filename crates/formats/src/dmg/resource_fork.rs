//! The resource fork of older images: tables as resources of the type `blkx`.
//!
//! ```text
//!  data offset, map offset, data length, map length │ … │ data: length, bytes │ … │ map: … type list, list of each type
//! ```
//!
//! Offsets of the map's lists count from the map and the type list, those of data from where the data begin. Layout: *Inside
//! Macintosh: More Macintosh Toolbox*, "Resource File Format".
use super::chunks::{Chunks, TableError};
use super::fields::{short, word};

/// What is wrong with a resource fork.
#[derive(Debug, thiserror::Error)]
pub enum ForkError {
    #[error("its {0} lies outside")]
    Outside(&'static str),
    #[error("table {0}: {1}")]
    Table(usize, #[source] TableError),
}

/// Adds the chunks of all tables; tells how many tables there are.
pub fn read(fork: &[u8], chunks: &mut Chunks) -> Result<usize, ForkError> {
    let part = |name, bytes: &'_ [u8], at: usize| -> Result<usize, ForkError> {
        if at < bytes.len() { Ok(at) } else { Err(ForkError::Outside(name)) }
    };
    let data = &fork[part("data", fork, word(fork, 0) as usize)?..];
    let map = &fork[part("map", fork, word(fork, 4) as usize)?..];
    let types = &map[part("list of types", map, short(map, 24).into())?..];
    let mut tables = 0;
    // The counts are of what comes after the first.
    for kind in (0..=usize::from(short(types, 0))).map(|nth| 2 + 8 * nth) {
        if types.get(kind..kind + 4) != Some(b"blkx") {
            continue;
        }
        let list = &types[part("list of tables", types, short(types, kind + 6).into())?..];
        for nth in 0..=usize::from(short(types, kind + 4)) {
            let at = (word(list, 12 * nth + 4) & 0xff_ffff) as usize;
            let stored = &data[part("table", data, at)?..];
            let table = stored.get(4..).unwrap_or_default();
            let len = word(stored, 0) as usize;
            let table = table.get(..len).ok_or(ForkError::Outside("table"))?;
            chunks.add_table(table).map_err(|e| ForkError::Table(tables, e))?;
            tables += 1;
        }
    }
    Ok(tables)
}
