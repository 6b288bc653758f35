//! How long requests of an entry take, where somebody wants to know it closer: histograms, and figures of the last interval.
//!
//! Figures of an interval are those of a window that is between half an interval and a whole one long: two windows of that
//! length begin half of it apart, each begins anew when it is over, and the older one is shown.
use crate::error::{BlockError, Result};
use crate::stats::{IoKind, KINDS};

const NS: u64 = 1_000_000_000;

/// Most boundaries of a histogram.
const MAX_BOUNDARIES: usize = 1 << 16;

/// How many requests took how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LatencyHistogram {
    /// Times in nanoseconds between the bins, rising.
    pub boundaries: Vec<u64>,
    /// One bin more: the first holds those below the first boundary, each other those from a boundary on.
    pub bins: Vec<u64>,
}

/// Times of one kind of request in nanoseconds; 0 where there was none.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LatencyFigures {
    /// The shortest.
    pub min_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// The average.
    pub average_ns: u64,
    /// How many were under way at a time, on average.
    pub queue_depth: f64,
}

/// The figures of an interval.
#[derive(Debug, Clone, PartialEq)]
pub struct IntervalFigures {
    /// Its length in seconds.
    pub seconds: u32,
    figures: [LatencyFigures; KINDS],
}

impl IntervalFigures {
    /// Those of one kind of request.
    pub fn of(&self, kind: IoKind) -> LatencyFigures {
        self.figures[kind as usize]
    }
}

#[derive(Default)]
pub(crate) struct Latencies {
    histograms: [Option<LatencyHistogram>; KINDS],
    intervals: Vec<Interval>,
}

struct Interval {
    seconds: u32,
    windows: [Pair; KINDS],
}

/// The two windows of one kind of request.
#[derive(Clone, Copy, Default)]
struct Pair([Window; 2]);

#[derive(Clone, Copy, Default)]
struct Window {
    begins_ns: u64,
    min_ns: u64,
    max_ns: u64,
    sum_ns: u64,
    count: u64,
}

impl Latencies {
    /// Whether there is anything to note.
    pub(crate) fn wanted(&self) -> bool {
        !self.intervals.is_empty() || self.histograms.iter().any(Option::is_some)
    }

    pub(crate) fn note(&mut self, kind: IoKind, now: u64, took: u64, in_intervals: bool) {
        if let Some(histogram) = &mut self.histograms[kind as usize] {
            let at = histogram.boundaries.partition_point(|boundary| *boundary <= took);
            histogram.bins.get_mut(at).into_iter().for_each(|bin| *bin += 1);
        }
        for interval in self.intervals.iter_mut().filter(|_| in_intervals) {
            let length = interval.length();
            interval.windows[kind as usize]
                .current(now, length)
                .iter_mut()
                .for_each(|window| window.note(took));
        }
    }

    /// Begins a histogram, or ends it.
    pub(crate) fn set_histogram(&mut self, kind: IoKind, boundaries: Option<Vec<u64>>) -> Result<()> {
        let Some(boundaries) = boundaries else {
            self.histograms[kind as usize] = None;
            return Ok(());
        };
        let rising = boundaries.iter().zip(boundaries.iter().skip(1)).all(|(a, b)| a < b);
        if !rising || boundaries.first() == Some(&0) || boundaries.len() > MAX_BOUNDARIES {
            return Err(BlockError::invalid(format!(
                "boundaries of a histogram are at most {MAX_BOUNDARIES} numbers that rise from above 0"
            )));
        }
        let bins = vec![0; boundaries.len() + 1];
        self.histograms[kind as usize] = Some(LatencyHistogram { boundaries, bins });
        Ok(())
    }

    pub(crate) fn histogram(&self, kind: IoKind) -> Option<LatencyHistogram> {
        self.histograms[kind as usize].clone()
    }

    pub(crate) fn set_intervals(&mut self, seconds: &[u32]) {
        let interval = |seconds: &u32| Interval { seconds: *seconds, windows: [Pair::default(); KINDS] };
        self.intervals = seconds.iter().map(interval).collect();
    }

    pub(crate) fn intervals(&self) -> Vec<u32> {
        self.intervals.iter().map(|interval| interval.seconds).collect()
    }

    pub(crate) fn interval_figures(&mut self, now: u64) -> Vec<IntervalFigures> {
        let figures = |interval: &mut Interval| {
            let length = interval.length();
            let of = |pair: &mut Pair| pair.figures(now, length);
            IntervalFigures { seconds: interval.seconds, figures: interval.windows.each_mut().map(of) }
        };
        self.intervals.iter_mut().map(figures).collect()
    }
}

impl Interval {
    /// Nanoseconds.
    fn length(&self) -> u64 {
        u64::from(self.seconds.max(1)) * NS
    }
}

impl Pair {
    /// Both windows; one that is over begins anew.
    fn current(&mut self, now: u64, length: u64) -> &mut [Window; 2] {
        for (window, ahead) in self.0.iter_mut().zip([0, length / 2]) {
            let begins = (now + ahead) / length * length;
            let begins = begins.saturating_sub(ahead);
            if window.begins_ns != begins {
                *window = Window { begins_ns: begins, ..Window::default() };
            }
        }
        &mut self.0
    }

    fn figures(&mut self, now: u64, length: u64) -> LatencyFigures {
        let older = self.current(now, length).iter().min_by_key(|window| window.begins_ns);
        let window = older.copied().unwrap_or_default();
        let passed = now.saturating_sub(window.begins_ns).max(1);
        LatencyFigures {
            min_ns: window.min_ns,
            max_ns: window.max_ns,
            average_ns: window.sum_ns.checked_div(window.count).unwrap_or(0),
            queue_depth: window.sum_ns as f64 / passed as f64,
        }
    }
}

impl Window {
    fn note(&mut self, took: u64) {
        self.min_ns = if self.count == 0 { took } else { self.min_ns.min(took) };
        self.max_ns = self.max_ns.max(took);
        self.sum_ns = self.sum_ns.saturating_add(took);
        self.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_counts_in_the_bin_between_its_boundaries() {
        let mut latencies = Latencies::default();
        for wrong in [vec![0], vec![10, 10], vec![20, 10], vec![0, 5]] {
            assert!(latencies.set_histogram(IoKind::Read, Some(wrong)).is_err());
        }
        assert!(!latencies.wanted());
        latencies.set_histogram(IoKind::Read, Some(vec![10, 50, 100])).unwrap();
        for took in [0, 9, 10, 49, 50, 99, 100, 1_000_000] {
            latencies.note(IoKind::Read, 0, took, true);
            latencies.note(IoKind::Write, 0, took, true);
        }
        assert_eq!(latencies.histogram(IoKind::Read).unwrap().bins, [2, 2, 2, 2]);
        latencies.set_histogram(IoKind::Read, Some(Vec::new())).unwrap();
        assert_eq!(latencies.histogram(IoKind::Read).unwrap().bins, [0], "it begins anew");
        latencies.set_histogram(IoKind::Read, None).unwrap();
        assert!(!latencies.wanted());
    }

    #[test]
    fn figures_are_of_the_last_half_to_whole_interval() {
        let mut latencies = Latencies::default();
        latencies.set_intervals(&[10]);
        let at = |latencies: &mut Latencies, seconds: u64| {
            latencies.interval_figures(seconds * NS).first().unwrap().of(IoKind::Write)
        };
        assert_eq!(at(&mut latencies, 3), LatencyFigures::default());
        for (seconds, took) in [(4, NS), (6, 3 * NS)] {
            latencies.note(IoKind::Write, seconds * NS, took, true);
        }
        let seen = at(&mut latencies, 8);
        assert_eq!((seen.min_ns, seen.max_ns, seen.average_ns), (NS, 3 * NS, 2 * NS));
        assert!((seen.queue_depth - 0.5).abs() < 1e-9, "{seen:?}");
        let seen = at(&mut latencies, 11);
        assert_eq!((seen.min_ns, seen.max_ns, seen.average_ns), (3 * NS, 3 * NS, 3 * NS), "since second 5");
        assert_eq!(at(&mut latencies, 16), LatencyFigures::default());
    }
}
