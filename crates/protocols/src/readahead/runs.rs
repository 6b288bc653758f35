//! Which reads follow each other.
//!
//! Several readers of one file may each have a run, and requests of a run come in another order than they were made in, as long as
//! several are under way: a read near to where the last one ended is the next one.

/// Runs that are followed at a time.
const MOST: usize = 8;
/// Bytes from where the last read ended within which the next one begins.
const NEAR: u64 = 64 << 10;
/// Reads that follow each other before anything is fetched for a run.
const PROVEN: u32 = 2;

/// The runs of a file.
pub(super) struct Runs {
    runs: Vec<Run>,
    clock: u64,
}

/// Reads that follow each other.
pub(super) struct Run {
    /// Where the last read ended.
    next: u64,
    reads: u32,
    last_used: u64,
    /// Where what was fetched for it ends.
    pub ahead: u64,
    /// Bytes to be fetched ahead; it grows.
    pub reach: u64,
}

impl Default for Runs {
    fn default() -> Self {
        Self { runs: Vec::with_capacity(MOST), clock: 0 }
    }
}

impl Runs {
    /// Notes a read; its run, if there is one. `reach` is what is fetched ahead at its start.
    pub fn note(&mut self, offset: u64, len: u64, reach: u64) -> Option<&mut Run> {
        self.clock += 1;
        let end = offset + len;
        let follows = |run: &Run| offset.abs_diff(run.next) <= NEAR.min(reach);
        let at = match self.runs.iter().position(follows) {
            Some(at) => at,
            None => {
                // Nearly everything is read from the start: the first read is taken for a run.
                let reads = if self.clock == 1 { PROVEN } else { 0 };
                let run = Run { next: end, reads, last_used: 0, ahead: offset, reach };
                self.keep(run)
            }
        };
        let clock = self.clock;
        let run = self.runs.get_mut(at)?;
        if run.last_used > 0 {
            run.reads = run.reads.saturating_add(1);
        }
        run.last_used = clock;
        run.next = if run.next.abs_diff(end) <= len.saturating_add(NEAR) { run.next.max(end) } else { end };
        run.ahead = run.ahead.max(offset);
        (run.reads >= PROVEN).then_some(run)
    }

    /// Keeps a new run instead of that which was not continued for longest; where it stands.
    fn keep(&mut self, run: Run) -> usize {
        if self.runs.len() < MOST {
            self.runs.push(run);
            return self.runs.len() - 1;
        }
        let oldest = (0..MOST).min_by_key(|at| self.runs.get(*at).map(|run| run.last_used)).unwrap_or(0);
        if let Some(place) = self.runs.get_mut(oldest) {
            *place = run;
        }
        oldest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REACH: u64 = 256 << 10;

    #[test]
    fn the_first_read_begins_a_run_and_others_when_two_have_followed() {
        let mut runs = Runs::default();
        assert!(runs.note(0, 512, REACH).is_some());
        assert!(runs.note(512, 4096, REACH).is_some());
        let far = 1 << 30;
        assert!(runs.note(far, 4096, REACH).is_none());
        assert!(runs.note(far + 4096, 4096, REACH).is_none());
        assert!(runs.note(far + 8192, 4096, REACH).is_some());
    }

    #[test]
    fn the_requests_of_a_run_may_come_out_of_order() {
        let mut runs = Runs::default();
        for piece in [0, 2, 1, 3, 5, 4, 7, 6, 8] {
            assert!(runs.note(piece * 4096, 4096, REACH).is_some(), "{piece}");
        }
    }

    #[test]
    fn reads_here_and_there_are_no_run() {
        let mut runs = Runs::default();
        let mut at = 0u64;
        let mut taken = 0;
        for _ in 0..10_000 {
            at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            taken += u32::from(runs.note(at >> 30 << 12, 4096, REACH).is_some());
        }
        assert!(taken <= 3, "{taken}");
    }
}
