//! What of a file is in use, in MiB, eight bytes for each run.
use super::MIB;
use super::regions::Part;
use block::metacache::Run;

/// Runs in use.
pub(super) struct Used {
    /// First MiB, and how many.
    runs: Vec<(u32, u32)>,
    /// What is kept for blocks that are nowhere.
    kept: Vec<(u32, u32)>,
}

/// The same, in order.
pub(super) struct Sorted(Vec<(u32, u32)>);

fn narrow(run: Run) -> (u32, u32) {
    // What lies beyond is beyond the end of every file that is written to.
    (u32::try_from(run.start).unwrap_or(u32::MAX), u32::try_from(run.count).unwrap_or(u32::MAX))
}

impl Used {
    /// The regions.
    pub fn new(parts: &[Part]) -> Self {
        let runs = parts.iter().map(|part| narrow(Run { start: part.offset / MIB, count: part.len / MIB }));
        Self { runs: runs.collect(), kept: Vec::new() }
    }

    /// A block.
    pub fn add(&mut self, run: Run) {
        self.runs.push(narrow(run));
    }

    /// What may be in use: it is, as far as nothing else is there.
    pub fn add_kept(&mut self, run: Run) {
        self.kept.push(narrow(run));
    }

    /// All of it in a file of `length` MiB.
    pub fn sorted(mut self, length: u64) -> Sorted {
        self.runs.sort_unstable();
        self.kept.retain(|run| u64::from(run.0) + u64::from(run.1) <= length);
        self.kept.sort_unstable();
        self.kept.dedup();
        let (mut all, mut kept) =
            (Vec::with_capacity(self.runs.len() + self.kept.len()), self.kept.into_iter().peekable());
        let mut end = 0;
        for run in self.runs {
            while let Some(one) = kept.next_if(|one| one.0 < run.0) {
                if one.0 >= end && one.0.saturating_add(one.1) <= run.0 {
                    end = one.0.saturating_add(one.1);
                    all.push(one);
                }
            }
            end = end.max(run.0.saturating_add(run.1));
            all.push(run);
        }
        for one in kept {
            if one.0 >= end {
                end = one.0.saturating_add(one.1);
                all.push(one);
            }
        }
        Sorted(all)
    }
}

impl Sorted {
    pub fn iter(&self) -> impl Iterator<Item = Run> {
        self.0.iter().map(|(start, count)| Run { start: u64::from(*start), count: u64::from(*count) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_counts_where_nothing_else_is() {
        let mut used = Used::new(&[Part { offset: MIB, len: 2 * MIB }]);
        let run = |start, count| Run { start, count };
        used.add(run(20, 4));
        used.add(run(10, 4));
        for start in [2, 5, 6, 12, 16, 16, 23, 30, 60] {
            used.add_kept(run(start, 4));
        }
        let all: Vec<_> = used.sorted(50).iter().map(|run| (run.start, run.count)).collect();
        assert_eq!(all, [(1, 2), (5, 4), (10, 4), (16, 4), (20, 4), (30, 4)]);
    }
}
