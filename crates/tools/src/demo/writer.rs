//! A client that writes stamped blocks through the export, and knows what it wrote.

use crate::failure::Failure;
use crate::image::{self, Image, Source};
use parking_lot::Mutex;
use rt::{BufMut, JoinHandle};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::time::Duration;

/// Bytes of one write.
const BLOCK: u64 = 16 << 10;

/// Between two writes: a guest that works, but leaves a commit at a bounded speed a chance to catch up.
const PACE: Duration = Duration::from_millis(2);

pub(super) struct Writer {
    image: Image,
    shared: Arc<Shared>,
    task: Option<JoinHandle<Result<(), Failure>>>,
}

struct Shared {
    /// Where the client's part of the disk begins, in bytes.
    start: u64,
    /// The number of the last write to each block; 0: none.
    last: Mutex<Vec<u64>>,
    count: AtomicU64,
    stop: AtomicBool,
}

impl Writer {
    /// Begins to write to `start..end` of the export.
    pub(super) async fn start(url: &str, start: u64, end: u64) -> Result<Writer, Failure> {
        let image = image::open(&Source::named(url).format(Some("raw")).writable()).await?;
        let blocks = usize::try_from((end - start) / BLOCK).unwrap_or(0);
        let shared = Arc::new(Shared {
            start,
            last: Mutex::new(vec![0; blocks]),
            count: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let task = rt::spawn(write_on(image.backend.clone(), shared.clone()));
        Ok(Writer { image, shared, task: Some(task) })
    }

    /// Writes that were acknowledged.
    pub(super) fn written(&self) -> u64 {
        self.shared.count.load(Relaxed)
    }

    /// Stops writing, flushes, and compares every written block with what the export serves.
    pub(super) async fn verify(&self) -> Result<(u64, u64), Failure> {
        self.shared.stop.store(true, Release);
        while !self.task.as_ref().is_none_or(JoinHandle::is_finished) {
            rt::sleep(Duration::from_millis(1)).await;
        }
        self.image.backend.flush().await?;
        let blocks = compare(&self.image, &self.shared).await?;
        Ok((blocks, self.written()))
    }

    /// Compares every written block with an image file.
    pub(super) async fn verify_file(mut self, name: &str) -> Result<u64, Failure> {
        if let Some(task) = self.task.take() {
            task.await.map_err(|_| Failure::new("the client's task ended in a panic"))??;
        }
        let file = image::open(&Source::named(name).format(Some("qcow2"))).await?;
        let blocks = compare(&file, &self.shared).await?;
        file.close().await?;
        Ok(blocks)
    }
}

async fn write_on(disk: Arc<block::Backend>, shared: Arc<Shared>) -> Result<(), Failure> {
    let blocks = shared.last.lock().len() as u64;
    while !shared.stop.load(Acquire) {
        let (block, number) = (rt::random_u64() % blocks.max(1), shared.count.load(Relaxed) + 1);
        let data = stamped(block, number).freeze();
        disk.write(shared.start + block * BLOCK, data, block::Request::GUEST).await?;
        if let Some(last) = shared.last.lock().get_mut(usize::try_from(block).unwrap_or(usize::MAX)) {
            *last = number;
        }
        shared.count.store(number, Relaxed);
        rt::sleep(PACE).await;
    }
    Ok(())
}

async fn compare(image: &Image, shared: &Shared) -> Result<u64, Failure> {
    let last = shared.last.lock().clone();
    let mut compared = 0;
    for (block, number) in (0..).zip(last).filter(|(_, number)| *number > 0) {
        let at = shared.start + block * BLOCK;
        let (data, result) = image.backend.read(at, BufMut::with_len(BLOCK as usize)).await;
        result?;
        if data[..] != stamped(block, number)[..] {
            return Err(Failure::new(format_args!(
                "the block at {at:#x} is not what write {number} put there"
            )));
        }
        compared += 1;
    }
    Ok(compared)
}

/// A block's content: its own number and that of the write, over and over.
fn stamped(block: u64, number: u64) -> BufMut {
    let mut data = BufMut::with_len(BLOCK as usize);
    for word in data.chunks_exact_mut(16) {
        let (front, back) = word.split_at_mut(8);
        front.copy_from_slice(&block.to_le_bytes());
        back.copy_from_slice(&number.to_le_bytes());
    }
    data
}
