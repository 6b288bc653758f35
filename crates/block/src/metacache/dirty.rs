//! Pages that differ from what is in the file, and copies of them to be written.
//!
//! Law: sealing copies a page; changes after it go into the live page and keep it dirty, so that a page leaves the
//! dirty set only with exactly the content that was written. A seal that is given up therefore needs no undo.
use super::cache::Pages;
use super::codec::Codec;
use super::page::Page;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::Ordering::*;

/// Pages that differ from what is in the file.
pub struct Dirty<C: Codec> {
    pages: Mutex<Pages<C>>,
}

impl<C: Codec> Default for Dirty<C> {
    fn default() -> Self {
        Self { pages: Mutex::default() }
    }
}

/// A copy of a dirty page, to be written.
pub struct Sealed<C: Codec> {
    page: Arc<Page<C>>,
    changes: u64,
    /// Byte offset in the file.
    pub place: u64,
    /// The content to write.
    pub words: Vec<C::Word>,
}

impl<C: Codec> Sealed<C> {
    /// The page's key.
    pub fn key(&self) -> u64 {
        self.page.key()
    }
}

impl<C: Codec> Dirty<C> {
    /// Marks a page whose words were set.
    pub fn mark(&self, page: &Arc<Page<C>>) {
        page.changes.fetch_add(1, AcqRel);
        let mut pages = self.pages.lock();
        // A page that was forgotten and loaded anew takes the place of its predecessor.
        if pages.get(&page.key()).is_none_or(|listed| !Arc::ptr_eq(listed, page)) {
            pages.insert(page.key(), page.clone());
        }
    }

    /// Number of dirty pages.
    pub fn len(&self) -> usize {
        self.pages.lock().len()
    }

    /// Whether no page is dirty.
    pub fn is_empty(&self) -> bool {
        self.pages.lock().is_empty()
    }

    /// Copies of all dirty pages, in the order of their places. They stay dirty until [`Dirty::settle`].
    pub fn seal(&self) -> Vec<Sealed<C>> {
        let mut sealed: Vec<_> = self.pages.lock().values().map(Sealed::of).collect();
        sealed.sort_unstable_by_key(|s| s.place);
        sealed
    }

    /// The copies are in the file: pages that have not changed since are clean.
    pub fn settle(&self, sealed: &[Sealed<C>]) {
        let mut pages = self.pages.lock();
        for s in sealed {
            // A change after this look is followed by a mark, which waits for the lock and lists the page again.
            let listed = pages.get(&s.page.key()).is_some_and(|page| Arc::ptr_eq(page, &s.page));
            if listed && s.page.changes.load(Acquire) == s.changes {
                pages.remove(&s.page.key());
            }
        }
    }
}

impl<C: Codec> Sealed<C> {
    /// A copy of a page.
    pub(super) fn of(page: &Arc<Page<C>>) -> Self {
        // The count comes first: a change that is only half seen then leaves the page dirty.
        let changes = page.changes.load(Acquire);
        Self { changes, place: page.place(), words: page.copy(), page: page.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::codec::Le32;
    use super::*;

    fn page(key: u64) -> Arc<Page<Le32>> {
        Page::new(key, key * 4096, 0, [key as u32; 512])
    }

    #[test]
    fn a_page_changed_after_it_was_sealed_stays_dirty() {
        let (dirty, a, b) = (Dirty::default(), page(1), page(2));
        dirty.mark(&a);
        dirty.mark(&b);
        let sealed = dirty.seal();
        a.set(0, 77);
        dirty.mark(&a);
        dirty.settle(&sealed);
        assert_eq!(dirty.seal().iter().map(|s| (s.page.key(), s.words[0])).collect::<Vec<_>>(), [(1, 77)]);
    }
}
