//! What a file holds: its length and its pages; a page that is not there is a hole and reads as zeros.
//!
//! Pages are shared until they are written to, so that keeping the whole disk at thousands of moments costs little.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use crate::base::{Base, Below, Runs};

/// Bytes of a page, the unit of allocation.
pub const PAGE: u64 = 4096;

type Page = [u8; PAGE as usize];

/// The bytes of one file: pages that were written, over what still shows of a file outside, if it began as one.
#[derive(Clone, Default)]
pub struct Content {
    pages: BTreeMap<u64, Arc<Page>>,
    len: u64,
    below: Option<Below>,
}

/// The pieces of a byte range by page: page number, range inside the page, range inside the caller's bytes.
fn pieces(off: u64, len: u64) -> impl Iterator<Item = (u64, Range<usize>, Range<usize>)> {
    let end = off.saturating_add(len);
    let first = off / PAGE;
    (first..end.div_ceil(PAGE).max(first)).map(move |page| {
        let (from, to) = (off.max(page * PAGE), end.min((page + 1) * PAGE));
        let inside = (from - page * PAGE) as usize..(to - page * PAGE) as usize;
        (page, inside, (from - off) as usize..(to - off) as usize)
    })
}

impl Content {
    /// What a file outside holds.
    pub fn of(base: Arc<dyn Base>) -> Content {
        let below = Below::new(base);
        Content { pages: BTreeMap::new(), len: below.shown, below: Some(below) }
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of the pages that are stored; of a file that began outside, only of those that were written.
    pub fn allocated(&self) -> u64 {
        self.pages.len() as u64 * PAGE
    }

    /// Whether nothing was ever changed of a file that began outside.
    pub fn untouched(&self) -> bool {
        self.below.as_ref().is_some_and(|below| {
            self.pages.is_empty() && below.gone == Runs::default() && below.shown == self.len
        })
    }

    /// Whether zeroes and reserved space take no pages: the file began outside and may be of any size.
    pub(crate) fn is_sparse(&self) -> bool {
        self.below.is_some()
    }

    /// Bytes of the pages of a range that are not stored.
    pub fn missing(&self, off: u64, len: u64) -> u64 {
        let (first, end) = (off / PAGE, off.saturating_add(len).div_ceil(PAGE));
        let stored = if first < end { self.pages.range(first..end).count() as u64 } else { 0 };
        (end.saturating_sub(first) - stored).saturating_mul(PAGE)
    }

    /// Reads from `off` on; how many bytes there were.
    pub fn read(&self, off: u64, buf: &mut [u8]) -> usize {
        let len = self.len.saturating_sub(off).min(buf.len() as u64);
        let mut at = off;
        while at < off + len {
            let (source, end) = self.run(at);
            let end = end.min(off + len);
            if let Some(buf) = buf.get_mut((at - off) as usize..(end - off) as usize) {
                match source {
                    Shows::Page(page) => {
                        let from = (at % PAGE) as usize;
                        buf.copy_from_slice(page.get(from..from + buf.len()).unwrap_or_default());
                    }
                    Shows::Base(base) => base.read(at, buf),
                    Shows::Nothing => buf.fill(0),
                }
            }
            at = end;
        }
        len as usize
    }

    /// What shows at an offset, and how far it goes on.
    fn run(&self, at: u64) -> (Shows<'_>, u64) {
        let page = at / PAGE;
        if let Some(bytes) = self.pages.get(&page) {
            return (Shows::Page(bytes), (page + 1) * PAGE);
        }
        let stored = self.pages.range(page..).next().map_or(u64::MAX, |(next, _)| next * PAGE);
        match &self.below {
            Some(below) if at < below.shown => {
                let (gone, next) = below.gone.run_at(page);
                let end = stored.min(next.saturating_mul(PAGE));
                if gone { (Shows::Nothing, end) } else { (Shows::Base(&*below.base), end.min(below.shown)) }
            }
            _ => (Shows::Nothing, stored),
        }
    }

    /// All bytes.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len as usize];
        self.read(0, &mut bytes);
        bytes
    }

    /// The page; it is stored from now on.
    fn page(&mut self, page: u64) -> &mut Page {
        let below = &self.below;
        Arc::make_mut(self.pages.entry(page).or_insert_with(|| {
            let mut bytes = [0; PAGE as usize];
            let start = page * PAGE;
            if let Some(below) = below.as_ref().filter(|below| !below.gone.contains(page)) {
                let len = below.shown.saturating_sub(start).min(PAGE);
                let (front, _) = bytes.split_at_mut(len as usize);
                if !front.is_empty() {
                    below.base.read(start, front);
                }
            }
            Arc::new(bytes)
        }))
    }

    /// Writes `data`, growing the file.
    pub fn write(&mut self, off: u64, data: &[u8]) {
        for (page, inside, at) in pieces(off, data.len() as u64) {
            if let (Some(to), Some(from)) = (self.page(page).get_mut(inside), data.get(at)) {
                to.copy_from_slice(from);
            }
        }
        if !data.is_empty() {
            self.len = self.len.max(off.saturating_add(data.len() as u64));
        }
    }

    /// Frees whole pages and zeroes parts of others; the length stays.
    pub fn punch(&mut self, off: u64, len: u64) {
        let end = off.saturating_add(len).min(self.len.next_multiple_of(PAGE));
        if off >= end {
            return;
        }
        let (first, last) = (off.div_ceil(PAGE), end / PAGE);
        if first > last {
            return self.zero_part(off, end);
        }
        self.zero_part(off, first * PAGE);
        self.zero_part(last * PAGE, end);
        let freed: Vec<u64> = self.pages.range(first..last).map(|(page, _)| *page).collect();
        freed.iter().for_each(|page| drop(self.pages.remove(page)));
        if let Some(below) = &mut self.below {
            below.gone.insert(first, last.min(below.shown.div_ceil(PAGE)));
        }
    }

    /// Zeroes bytes of one page, unless it is a hole.
    fn zero_part(&mut self, from: u64, to: u64) {
        let page = from / PAGE;
        if from < to && !matches!(self.run(page * PAGE).0, Shows::Nothing) {
            let inside = (from - page * PAGE) as usize..(to - page * PAGE) as usize;
            self.page(page).get_mut(inside).into_iter().for_each(|bytes| bytes.fill(0));
        }
    }

    /// Frees pages that hold only zeroes.
    pub fn make_sparse(&mut self) {
        let zero = |page: &Page| page.iter().all(|byte| *byte == 0);
        let zeroes: Vec<u64> =
            self.pages.iter().filter(|(_, page)| zero(page)).map(|(page, _)| *page).collect();
        zeroes.iter().for_each(|page| self.punch(page * PAGE, PAGE));
    }

    /// Zeroes what lies inside the file and stores it; the length stays.
    pub fn zero(&mut self, off: u64, len: u64) {
        let len = len.min(self.len.saturating_sub(off));
        if self.is_sparse() {
            return self.punch(off, len);
        }
        for (page, inside, _) in pieces(off, len) {
            if let Some(bytes) = self.page(page).get_mut(inside) {
                bytes.fill(0);
            }
        }
    }

    /// Stores the pages of a range, their bytes as they are; grows the file to `len_at_least`.
    pub fn reserve(&mut self, off: u64, len: u64, len_at_least: u64) {
        self.len = self.len.max(len_at_least);
        let len = len.min(self.len.saturating_sub(off));
        if self.is_sparse() {
            return;
        }
        for (page, _, _) in pieces(off, len) {
            self.page(page);
        }
    }

    /// Changes the length; what the file grows by is a hole.
    pub fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.punch(len, self.len.next_multiple_of(PAGE) - len);
            self.below.iter_mut().for_each(|below| below.shown = below.shown.min(len));
        }
        self.len = len;
    }

    /// Whether `off` lies in a stored page, and where the run of such pages or of holes ends.
    pub fn extent(&self, off: u64) -> (bool, u64) {
        let (mut end, mut stored) = (off, None);
        while end < self.len {
            let (shows, next) = self.run(end);
            let here = !matches!(shows, Shows::Nothing);
            if stored.is_some_and(|stored| stored != here) {
                break;
            }
            (stored, end) = (Some(here), next);
        }
        (stored.unwrap_or(false), end.min(self.len))
    }
}

/// What shows at a place of a file.
enum Shows<'a> {
    Page(&'a Page),
    Base(&'a dyn Base),
    Nothing,
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Content({} bytes, {} stored)", self.len, self.allocated())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_cut_removed_reads_zero_when_the_file_grows_again() {
        let mut content = Content::default();
        content.write(0, &[7; 10_000]);
        content.set_len(100);
        content.set_len(10_000);
        let bytes = content.to_vec();
        assert!(bytes.iter().take(100).all(|b| *b == 7) && bytes.iter().skip(100).all(|b| *b == 0));
        assert_eq!((content.extent(0), content.extent(4096)), ((true, 4096), (false, 10_000)));
    }

    #[test]
    fn a_punch_frees_whole_pages_and_zeroes_parts() {
        let mut content = Content::default();
        content.write(0, &[7; 3 * 4096]);
        content.punch(1000, 8192);
        assert_eq!((content.allocated(), content.len()), (2 * PAGE, 3 * PAGE));
        let bytes = content.to_vec();
        assert_eq!(bytes.iter().filter(|b| **b == 7).count(), 3 * 4096 - 8192);
        assert!(bytes[1000..9192].iter().all(|b| *b == 0));
    }

    struct Bytes(Vec<u8>);

    impl Base for Bytes {
        fn len(&self) -> u64 {
            self.0.len() as u64
        }

        fn read(&self, off: u64, buf: &mut [u8]) {
            buf.copy_from_slice(&self.0[off as usize..][..buf.len()]);
        }
    }

    #[test]
    fn a_file_that_began_outside_reads_as_one_that_was_written_here() {
        for seed in 0..400 {
            let mut rng = crate::rng::Rng::new(seed);
            let bytes: Vec<u8> = (0..rng.below(60_000)).map(|n| n as u8 | 1).collect();
            let (mut here, mut outside) = (Content::default(), Content::of(Arc::new(Bytes(bytes.clone()))));
            here.write(0, &bytes);
            for _ in 0..6 {
                let (off, len) = (rng.below(70_000), 1 + rng.below(20_000));
                for content in [&mut here, &mut outside] {
                    match off % 5 {
                        0 => content.write(off, &vec![7; len as usize]),
                        1 => content.punch(off, len),
                        2 => content.zero(off, len),
                        3 => content.reserve(off, len, off + len),
                        _ => content.set_len(off),
                    }
                }
                assert!(here.to_vec() == outside.to_vec(), "seed {seed}");
            }
        }
    }
}
