//! Which clusters of the file are in use: a walk through all tables, before the first write.
//!
//! Compressed data share clusters with each other, and with nothing else.
use super::Layout;
use super::geometry::{Entry, Geometry};
use super::image::Image;
use super::tables::{words, wrong_entry, wrong_table};
use block::Result;
use block::metacache::{Blocks, Run};
use std::ops::Range;

/// Bytes of a table that are read at a time.
const PIECE: u64 = 1 << 20;

impl<L: Layout> Image<L> {
    /// Marks all that the image refers to; what can't be is an error, and then the image must not be written to.
    pub(super) async fn find_used(&self) -> Result<Blocks> {
        let g = &self.geometry;
        let length = self.order.file.node()?.length();
        let mut blocks = Blocks::new(g.clusters(length), g.limit);
        for run in fixed_runs(g) {
            blocks.mark(run).map_err(|_| self.damaged("the file ends before its L1 table does", 0))?;
        }
        let mut tables = Vec::new();
        for index in 0..g.l1_entries.div_ceil(PIECE / 8) {
            let first = index * (PIECE / 8);
            let len = 8 * (g.l1_entries - first).min(PIECE / 8);
            let bytes = self.order.file.read(g.l1_offset + 8 * first, len).await?;
            for (index, word) in (first..).zip(words::<L>(&bytes)).filter(|(_, word)| *word != 0) {
                let guest = index.saturating_mul(g.table_span());
                let named = |why| {
                    let what = format!("the L1 entry of guest offset {guest:#x} is {word:#x}: {why}");
                    self.damaged(what, guest)
                };
                wrong_table(word, g, length).map_or(Ok(()), |why| Err(named(why)))?;
                let run = Run { start: g.cluster(word), count: g.clusters(g.table_len()) };
                blocks.mark(run).map_err(|_| named("another L2 table is there".to_owned()))?;
                tables.push((guest, word));
            }
        }
        let mut streams = Blocks::new(g.clusters(length), g.limit);
        for (guest, table) in tables {
            self.mark_entries(guest, table, length, &mut blocks, &mut streams).await?;
        }
        Ok(blocks)
    }

    async fn mark_entries(
        &self,
        guest: u64,
        table: u64,
        length: u64,
        blocks: &mut Blocks,
        streams: &mut Blocks,
    ) -> Result<()> {
        let g = &self.geometry;
        for at in (0..g.table_len()).step_by(PIECE as usize) {
            let bytes = self.order.file.read(table + at, PIECE.min(g.table_len() - at)).await?;
            for (index, word) in (at / 8..).zip(words::<L>(&bytes)) {
                let entry = L::entry(word, g);
                let marked = match (wrong_entry(entry, g, length), entry) {
                    (Some(why), _) => Err(why),
                    (None, Entry::Data(host)) => mark(blocks, Run { start: g.cluster(host), count: 1 }),
                    (None, Entry::Stream(stream)) => {
                        let end = g.clusters(stream.offset + stream.len).min(g.clusters(length));
                        // What another stream has marked is shared with this one.
                        (g.cluster(stream.offset)..end)
                            .map(|start| Run { start, count: 1 })
                            .filter(|run| streams.mark(*run).is_ok())
                            .collect::<Vec<_>>()
                            .into_iter()
                            .try_for_each(|run| mark(blocks, run))
                    }
                    (None, _) => Ok(()),
                };
                marked.map_err(|why| {
                    let guest = guest.saturating_add(index << g.cluster_bits);
                    let what = format!("the L2 entry of guest offset {guest:#x} is {word:#x}: {why}");
                    self.damaged(what, guest)
                })?;
            }
        }
        Ok(())
    }
}

fn mark(blocks: &mut Blocks, run: Run) -> Result<(), String> {
    blocks.mark(run).map_err(|_| "something else is there too".to_owned())
}

/// The clusters of the header and the L1 table, which may share one.
pub(crate) fn fixed_runs(g: &Geometry) -> Vec<Run> {
    let clusters = |bytes: Range<u64>| g.cluster(bytes.start)..g.clusters(bytes.end);
    let [(_, header), (_, l1)] = g.fixed();
    let (header, l1) = (clusters(header), clusters(l1));
    let run = |clusters: Range<u64>| Run { start: clusters.start, count: clusters.end - clusters.start };
    if l1.start <= header.end && header.start <= l1.end {
        return vec![run(header.start.min(l1.start)..header.end.max(l1.end))];
    }
    vec![run(header), run(l1)]
}
