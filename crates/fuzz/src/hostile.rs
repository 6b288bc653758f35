//! An image that nobody vouches for, and what is done with it whatever its format: each session opens it on a machine of its own.
//!
//! ```text
//! look     described, its extents walked, its ends read, checked
//! change   written to, read back, given up
//! repair   repaired, checked once more
//! ```
//!
//! Laws: extents make progress and stay inside; a read gives all that it was asked for, and what was just written there; what
//! a repair says is left, the next check finds, and no more.

use block::{BlockError, CheckReport, Repair, Request};
use rt::{Buf, BufMut};
use sim::{Config, Disk, Sim};
use testkit::stack::{Stack, TestImage};
use tools::image::{Image, Source};
use tools::show::Description;

/// Most extents that are asked for.
const EXTENTS: usize = 256;

/// Bytes that are read at the front and at the end.
pub(crate) const READ: u64 = 64 << 10;

/// An image in `/image`.
pub(crate) struct Hostile {
    format: &'static str,
    disk: Disk,
}

impl Hostile {
    pub fn new(format: &'static str, bytes: &[u8]) -> Self {
        Self { format, disk: Disk::default() }.with_file("/image", bytes)
    }

    /// The same with a further file.
    pub fn with_file(mut self, name: &str, bytes: &[u8]) -> Self {
        self.disk.put(name, bytes);
        self
    }

    /// A session of each kind.
    pub fn drive(&self) {
        self.read_only(look);
        self.writable(change);
        self.repair();
    }

    /// Opens it for reading. That it can't be opened, or the work not be done, is as good as that it can.
    pub fn read_only<F>(&self, work: impl FnOnce(Image) -> F + Send + 'static)
    where
        F: Future<Output = Result<(), BlockError>> + Send,
    {
        self.session(source(self.format), work);
    }

    /// The same for writing.
    pub fn writable<F>(&self, work: impl FnOnce(Image) -> F + Send + 'static)
    where
        F: Future<Output = Result<(), BlockError>> + Send,
    {
        self.session(source(self.format).writable(), work);
    }

    pub fn repair(&self) {
        self.for_repair(|image| repair(image, true));
    }

    /// The same where a repair may count more than once what it leaves: the law holds where it leaves nothing.
    pub fn repair_with_rough_counts(&self) {
        self.for_repair(|image| repair(image, false));
    }

    fn for_repair<F>(&self, work: impl FnOnce(Image) -> F + Send + 'static)
    where
        F: Future<Output = Result<(), BlockError>> + Send,
    {
        self.session(Source { for_repair: true, ..source(self.format).writable() }, work);
    }

    fn session<F>(&self, source: Source, work: impl FnOnce(Image) -> F + Send + 'static)
    where
        F: Future<Output = Result<(), BlockError>> + Send,
    {
        Sim::boot(Config::seeded(1), self.disk.clone())
            .run(async move { work(Image::open(&source).await.ok()?).await.ok() });
    }
}

/// The image in `/image`, and none below it.
pub(crate) fn source(format: &str) -> Source {
    Source::named("/image").format(Some(format)).alone()
}

pub(crate) async fn look(image: Image) -> Result<(), BlockError> {
    // The description is of some size, and can be had.
    assert!(Description::of(&image.node()).object().as_dict().is_some_and(|object| !object.is_empty()));
    let length = image.backend.length();
    let mut at = 0;
    for _ in 0..EXTENTS {
        if at >= length {
            break;
        }
        let Ok(status) = image.backend.status(at, length - at).await else { break };
        assert!(status.len > 0 && status.len <= length - at, "an extent of {} at {at}", status.len);
        at += status.len;
    }
    for start in [0, length.saturating_sub(READ)] {
        read(&image, start, READ).await;
    }
    if let Some(checker) = image.node().driver().checker() {
        checker.check(Repair::No).await.ok();
    }
    image.close().await
}

/// Reads, at most to the end.
pub(crate) async fn read(image: &Image, start: u64, most: u64) -> Option<BufMut> {
    let wanted = most.min(image.backend.length() - start) as usize;
    let (buf, result) = image.backend.read(start, BufMut::with_len(wanted)).await;
    assert!(result.is_err() || buf.len() == wanted);
    result.is_ok().then_some(buf)
}

pub(crate) async fn change(image: Image) -> Result<(), BlockError> {
    write_to(&image).await;
    image.backend.flush().await.ok();
    image.close().await
}

/// Writes at the front and in the middle, and gives up what was written: at once, and when it was made zeroes.
pub(crate) async fn write_to(image: &Image) {
    let length = image.backend.length();
    for start in [0, length / 2] {
        let len = 4096.min(length - start);
        for zeroes in [false, true] {
            let data = Buf::from_slice(&vec![7; len as usize]);
            if image.backend.write(start, data, Request::GUEST).await.is_ok() {
                let found = read(image, start, len).await;
                assert!(
                    found.is_none_or(|found| found.iter().all(|byte| *byte == 7)),
                    "other bytes were read"
                );
            }
            if zeroes {
                image.backend.write_zeroes(start, len, Request::GUEST).await.ok();
            }
            image.backend.discard(start, len, Request::GUEST).await.ok();
        }
    }
}

async fn repair(image: Image, exact: bool) -> Result<(), BlockError> {
    let node = image.node();
    if let Some(checker) = node.driver().checker() {
        let mended = checker.check(Repair::All).await?;
        let again = checker.check(Repair::No).await?;
        let left = |report: &CheckReport| (report.corruptions, report.leaks, report.check_errors);
        if exact || left(&mended) == (0, 0, 0) {
            assert_eq!(left(&mended), left(&again), "mended, and then: {:?}", again.messages);
        }
    }
    drop(node);
    image.close().await
}

/// The bytes of a new image when this was done with it.
pub(crate) fn made<F>(recipe: TestImage, work: impl FnOnce(Image) -> F + Send + 'static) -> Vec<u8>
where
    F: Future<Output = Result<(), BlockError>> + Send,
{
    let sim = Sim::new(1);
    sim.run(async move {
        let source = source(recipe.format).writable();
        Stack::of("seed", &[protocols::DRIVERS, formats::DRIVERS], vec![recipe]).create().await.ok()?;
        work(Image::open(&source).await.ok()?).await.ok()
    });
    sim.settle();
    sim.world().disk().content("/image").map(sim::Content::to_vec).unwrap_or_default()
}

/// Writes so many bytes at each of these places, other ones at each.
pub(crate) async fn fill(image: &Image, places: [u64; 3], len: usize) {
    for at in places {
        let data = Buf::from_slice(&vec![at as u8 ^ 0x55; len]);
        image.backend.write(at, data, Request::GUEST).await.ok();
    }
}
