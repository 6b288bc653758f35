//! Looking through all tables of a sparse file: what is in use, and what is wrong.
//!
//! Bounds: tables are read in pieces of [`PIECE`] bytes; findings are counted beyond the first [`MOST_FINDINGS`]; a bit for
//! each grain of the file.
use super::super::header::SECTOR;
use super::super::tables::{Entry, Tables};
use block::metacache::{Blocks, Run};
use block::{BlockError, Result};
use rt::Buf;
use std::collections::BTreeSet;

/// Bytes of tables that are read at a time.
const PIECE: u64 = 1 << 20;
/// Findings that are told one by one.
const MOST_FINDINGS: usize = 64;
/// Most places of tables that do not follow each other.
const MOST_RUNS: usize = 1 << 20;
/// The smallest grain of a file that can be written to, in sectors: the bits of a smaller one would take much memory.
const LEAST_GRAIN: u64 = 8;

/// What was found.
pub struct Scan {
    /// Grains in use.
    pub blocks: Blocks,
    /// What is wrong, in words: the first of it.
    pub findings: Vec<String>,
    /// How much is wrong.
    pub wrong: u64,
    /// Entries whose second copy says something else.
    pub copies_differ: u64,
    /// Tables lie where they can't be: nothing may be written to them.
    pub misplaced: bool,
}

/// Some tables that follow each other, both copies.
pub struct Piece {
    /// The first table.
    pub first: u64,
    /// Where each is; 0: there is none.
    pub places: Vec<u64>,
    /// Their entries; nothing where all are 0.
    pub words: Vec<u32>,
    /// The second copies, where there are any.
    pub redundant: Option<(Vec<u64>, Vec<u32>)>,
}

impl Scan {
    /// Looks through the tables.
    pub async fn of(tables: &Tables) -> Result<Self> {
        let mut scan = Self::of_metadata(tables).await?;
        let mut at = 0;
        while at < tables.shape.tables() {
            let piece = Piece::read(tables, at).await?;
            scan.look(tables, &piece);
            at += piece.places.len() as u64;
        }
        Ok(scan)
    }

    /// Finds what the tables themselves take.
    pub async fn of_metadata(tables: &Tables) -> Result<Self> {
        let shape = tables.shape;
        if shape.grain() < LEAST_GRAIN * SECTOR {
            let text = format!("grains of {} bytes are too small to be written to", shape.grain());
            return Err(BlockError::unsupported(text));
        }
        let length = tables.file_len().div_ceil(shape.grain());
        let limit = (u64::from(u32::MAX) + 1) * SECTOR / shape.grain();
        let mut scan = Self {
            blocks: Blocks::new(length, limit),
            findings: Vec::new(),
            wrong: 0,
            copies_differ: 0,
            misplaced: false,
        };
        let mut taken = vec![(0, SECTOR)];
        taken.extend(shape.descriptor);
        for directory in [Some(shape.directory), shape.redundant].into_iter().flatten() {
            taken.push((directory, directory + shape.tables() * 4));
            let mut at = 0;
            while at < shape.tables() {
                let count = (shape.tables() - at).min(PIECE / 4);
                for place in read_places(tables, directory, at, count).await? {
                    match taken.last_mut() {
                        Some((_, end)) if *end == place => *end += shape.table_len(),
                        _ => taken.push((place, place + shape.table_len())),
                    }
                }
                at += count;
                if taken.len() > MOST_RUNS {
                    return Err(BlockError::corrupt("the grain tables lie in too many places"));
                }
            }
        }
        taken.sort_unstable();
        let pairs = taken.iter().zip(taken.iter().skip(1));
        scan.misplaced = pairs.clone().any(|((_, end), (next, _))| next < end);
        if scan.misplaced {
            scan.find(|| {
                "grain tables or directories lie over each other, or over the header or the descriptor"
                    .to_owned()
            });
        }
        let blocks = |(start, end): &(u64, u64)| {
            let (first, last) = (start / shape.grain(), end.div_ceil(shape.grain()));
            first.max(shape.first / shape.grain())..last.min(length)
        };
        let metadata: BTreeSet<u64> =
            taken.iter().filter(|(_, end)| *end > shape.first).flat_map(blocks).collect();
        let mut mark = |run: Run| scan.blocks.mark(run);
        mark(Run { start: 0, count: shape.first.div_ceil(shape.grain()).min(length) }).ok();
        metadata.into_iter().for_each(|block| _ = mark(Run { start: block, count: 1 }));
        Ok(scan)
    }

    fn look(&mut self, tables: &Tables, piece: &Piece) {
        let shape = tables.shape;
        for (table, place) in (piece.first..).zip(&piece.places) {
            if *place == 0 {
                self.find(|| format!("the grain directory has no table {table}"));
            }
        }
        for (at, word) in piece.words.iter().enumerate() {
            let guest = || (piece.first * shape.entries + at as u64) << shape.grain_bits;
            if let Err(why) = self.judge(tables, *word) {
                self.find(|| format!("the entry of guest offset {:#x} ({word:#x}) {why}", guest()));
            }
        }
        if let Some((_, words)) = &piece.redundant {
            let both = or_zeroes(&piece.words).zip(or_zeroes(words)).take(piece.words.len().max(words.len()));
            let differ = both.filter(|(first, second)| first != second).count();
            self.copies_differ += differ as u64;
        }
    }

    fn find(&mut self, what: impl FnOnce() -> String) {
        self.wrong += 1;
        if self.findings.len() < MOST_FINDINGS {
            self.findings.push(what());
        }
    }

    /// Marks what an entry leads to, or tells why it can't be so.
    pub fn judge(&mut self, tables: &Tables, word: u32) -> Result<(), &'static str> {
        let Entry::At(place) = tables.entry(word) else { return Ok(()) };
        let grain = tables.shape.grain();
        if place % grain != 0 {
            return Err("is no multiple of the grain size");
        }
        if !tables.is_sound(word, tables.file_len()) {
            return Err("leads out of the file");
        }
        let marked = self.blocks.mark(Run { start: place / grain, count: 1 });
        marked.map_err(|_| "leads to what is in use already")
    }
}

impl Piece {
    /// Reads tables from this one on.
    pub async fn read(tables: &Tables, first: u64) -> Result<Self> {
        let shape = tables.shape;
        let count = (shape.tables() - first).min((PIECE / shape.table_len()).max(1));
        let places = read_places(tables, shape.directory, first, count).await?;
        let words = read_tables(tables, &places).await?;
        let redundant = match shape.redundant {
            None => None,
            Some(directory) => {
                let places = read_places(tables, directory, first, count).await?;
                let words = read_tables(tables, &places).await?;
                Some((places, words))
            }
        };
        Ok(Self { first, places, words, redundant })
    }
}

async fn read_places(tables: &Tables, directory: u64, first: u64, count: u64) -> Result<Vec<u64>> {
    let (place, len) = (directory + first * 4, count * 4);
    tables.inside(place, len, "the grain directory")?;
    let bytes = tables.order.file.read(place, len).await?;
    let words = bytes.as_chunks().0.iter().map(|word| u64::from(u32::from_le_bytes(*word)) * SECTOR);
    Ok(words.collect())
}

/// The words of tables at these places, those that lie together read together. Nothing, where all of them are zeroes that the
/// file need not be read for: large disks have large tables, most of them holes.
async fn read_tables(tables: &Tables, places: &[u64]) -> Result<Vec<u32>> {
    let (entries, len) = (tables.shape.entries as usize, tables.shape.table_len());
    let file = tables.order.file.node()?;
    let mut words = Vec::new();
    let (mut rest, mut done) = (places, 0);
    while let Some(first) = rest.first() {
        let follows = |(n, place): &(u64, &u64)| *first != 0 && **place == first + n * len;
        let count = (0..).zip(rest).take_while(follows).count().max(1);
        let bytes = count as u64 * len;
        let is_read = match *first {
            0 => false,
            _ => {
                tables.inside(*first, bytes, "a grain table")?;
                let status = file.status(*first, bytes, None).await?;
                !status.zero || status.len < bytes
            }
        };
        if is_read {
            let read = tables.order.file.read(*first, bytes).await?;
            words.resize(done * entries, 0);
            words.extend(read.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)));
        }
        done += count;
        rest = rest.get(count..).unwrap_or_default();
    }
    if !words.is_empty() {
        words.resize(places.len() * entries, 0);
    }
    Ok(words)
}

/// The words of tables, and zeroes where there are none.
fn or_zeroes(words: &[u32]) -> impl Iterator<Item = u32> {
    words.iter().copied().chain(std::iter::repeat(0))
}

/// Makes the second copy of each table equal to the first, durably.
pub async fn copy_tables(tables: &Tables) -> Result<()> {
    let mut at = 0;
    while at < tables.shape.tables() {
        let piece = Piece::read(tables, at).await?;
        at += piece.places.len() as u64;
        let Some((places, second)) = &piece.redundant else { return Ok(()) };
        let entries = tables.shape.entries as usize;
        let some = piece.words.len().max(second.len());
        let (mut first, mut second) = (or_zeroes(&piece.words), or_zeroes(second));
        for place in places.iter().take(some / entries) {
            let (first, second): (Vec<u32>, Vec<u32>) =
                (first.by_ref().take(entries).collect(), second.by_ref().take(entries).collect());
            if first != second && *place != 0 {
                let bytes: Vec<u8> = first.iter().flat_map(|word| word.to_le_bytes()).collect();
                tables.order.file.write(*place, Buf::from_slice(&bytes)).await?;
            }
        }
    }
    tables.order.file.flush().await
}
