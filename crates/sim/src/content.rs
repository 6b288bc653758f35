//! What a file holds: its length and its pages; a page that is not there is a hole and reads as zeros.
//!
//! Pages are shared until they are written to, so that keeping the whole disk at thousands of moments costs little.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Bytes of a page, the unit of allocation.
pub const PAGE: u64 = 4096;

type Page = [u8; PAGE as usize];

/// The bytes of one file.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Content {
    pages: BTreeMap<u64, Arc<Page>>,
    len: u64,
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
    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of the pages that are stored.
    pub fn allocated(&self) -> u64 {
        self.pages.len() as u64 * PAGE
    }

    /// Bytes of the pages of a range that are not stored.
    pub fn missing(&self, off: u64, len: u64) -> u64 {
        pieces(off, len).filter(|(page, ..)| !self.pages.contains_key(page)).count() as u64 * PAGE
    }

    /// Reads from `off` on; how many bytes there were.
    pub fn read(&self, off: u64, buf: &mut [u8]) -> usize {
        let len = self.len.saturating_sub(off).min(buf.len() as u64);
        for (page, inside, at) in pieces(off, len) {
            let Some(buf) = buf.get_mut(at) else { continue };
            match self.pages.get(&page).and_then(|page| page.get(inside)) {
                Some(bytes) => buf.copy_from_slice(bytes),
                None => buf.fill(0),
            }
        }
        len as usize
    }

    /// All bytes.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len as usize];
        self.read(0, &mut bytes);
        bytes
    }

    /// The page; it is stored from now on.
    fn page(&mut self, page: u64) -> &mut Page {
        Arc::make_mut(self.pages.entry(page).or_insert_with(|| Arc::new([0; PAGE as usize])))
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
        let touched: Vec<u64> = match off < end {
            true => self.pages.range(off / PAGE..end.div_ceil(PAGE)).map(|(page, _)| *page).collect(),
            false => Vec::new(),
        };
        for page in touched {
            let (from, to) = (off.max(page * PAGE) - page * PAGE, end.min((page + 1) * PAGE) - page * PAGE);
            if (from, to) == (0, PAGE) {
                self.pages.remove(&page);
            } else if let Some(bytes) = self.page(page).get_mut(from as usize..to as usize) {
                bytes.fill(0);
            }
        }
    }

    /// Frees pages that hold only zeroes.
    pub fn make_sparse(&mut self) {
        self.pages.retain(|_, page| page.iter().any(|byte| *byte != 0));
    }

    /// Zeroes what lies inside the file and stores it; the length stays.
    pub fn zero(&mut self, off: u64, len: u64) {
        let len = len.min(self.len.saturating_sub(off));
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
        for (page, _, _) in pieces(off, len) {
            self.page(page);
        }
    }

    /// Changes the length; what the file grows by is a hole.
    pub fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.punch(len, self.len.next_multiple_of(PAGE) - len);
        }
        self.len = len;
    }

    /// Whether `off` lies in a stored page, and where the run of such pages or of holes ends.
    pub fn extent(&self, off: u64) -> (bool, u64) {
        let first = off / PAGE;
        let stored = self.pages.contains_key(&first);
        let end = if stored {
            let run =
                self.pages.range(first..).zip(first..).take_while(|((page, _), at)| **page == *at).count();
            (first + run as u64) * PAGE
        } else {
            self.pages.range(first..).next().map_or(u64::MAX, |(page, _)| page * PAGE)
        };
        (stored, end.min(self.len))
    }
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
}
