//! AES-256-XTS, the cipher of almost every encrypted image, by AWS-LC's code for the processor at hand.
//!
//! The library's contexts remember a vector, so each can serve one thread at a time. There are as many as processors;
//! a thread has its own, and takes another one's only where two threads share one: nobody waits as long as there are
//! no more threads at work than processors.

use std::sync::atomic::{AtomicUsize, Ordering};

use cipher::consts::U16;
use parking_lot::{Mutex, MutexGuard};

use super::evp::{Context, Direction};
use super::iv::Vectors;
use super::modes::in_batches;
use super::{CipherError, Sectors};

/// More contexts than this are not made.
const MOST: usize = 16;

/// On a cache line of its own.
#[repr(align(128))]
struct Slot(Mutex<Context>);

/// The contexts of one direction, at least one.
struct Contexts {
    first: Slot,
    others: Box<[Slot]>,
}

thread_local! {
    /// A number for each thread, in the order in which they come here.
    static THREAD: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed)
    };
}

impl Contexts {
    fn new(key: &[u8; 64], direction: Direction, count: usize) -> Option<Contexts> {
        let slot = || Context::new(key, direction).map(|context| Slot(Mutex::new(context)));
        Some(Contexts { first: slot()?, others: (1..count).map(|_| slot()).collect::<Option<_>>()? })
    }

    /// A context that no other thread uses: the thread's own, else any, else the own one when it is free.
    fn take(&self) -> MutexGuard<'_, Context> {
        let count = self.others.len() + 1;
        let own = THREAD.with(|thread| thread % count);
        let slot = |at: usize| at.checked_sub(1).and_then(|at| self.others.get(at)).unwrap_or(&self.first);
        (own..own + count).find_map(|at| slot(at % count).0.try_lock()).unwrap_or_else(|| slot(own).0.lock())
    }
}

pub(super) struct Aes256Xts {
    encrypt: Contexts,
    decrypt: Contexts,
    vectors: Vectors<U16>,
    sector: usize,
}

impl Aes256Xts {
    /// Under a key of 64 bytes, unless the library refuses it.
    pub(super) fn new(key: &[u8], vectors: Vectors<U16>, sector: usize) -> Option<Aes256Xts> {
        let key: &[u8; 64] = key.try_into().ok()?;
        let count = std::thread::available_parallelism().map_or(1, usize::from).min(MOST);
        let contexts = |direction| Contexts::new(key, direction, count);
        let (encrypt, decrypt) = (contexts(Direction::Encrypt)?, contexts(Direction::Decrypt)?);
        Some(Aes256Xts { encrypt, decrypt, vectors, sector })
    }

    fn in_place(&self, contexts: &Contexts, first: u64, data: &mut [u8]) -> Result<(), CipherError> {
        let mut context = contexts.take();
        in_batches(&self.vectors, self.sector, first, data, |ivs, batch| {
            let mut sectors = batch.chunks_mut(self.sector).zip(ivs);
            done(sectors.all(|(sector, iv)| context.sector(&iv.0, sector)))
        })
    }

    fn across(
        &self,
        contexts: &Contexts,
        first: u64,
        source: &[u8],
        target: &mut [u8],
    ) -> Result<(), CipherError> {
        let mut context = contexts.take();
        let mut sources = source.chunks(self.sector);
        in_batches(&self.vectors, self.sector, first, target, |ivs, batch| {
            let mut sectors = batch.chunks_mut(self.sector).zip(ivs).zip(&mut sources);
            done(sectors.all(|((sector, iv), source)| context.sector_to(&iv.0, source, sector)))
        })
    }
}

fn done(all: bool) -> Result<(), CipherError> {
    if all { Ok(()) } else { Err(CipherError::Library) }
}

impl Sectors for Aes256Xts {
    fn encrypt(&self, first: u64, data: &mut [u8]) -> Result<(), CipherError> {
        self.in_place(&self.encrypt, first, data)
    }

    fn decrypt(&self, first: u64, data: &mut [u8]) -> Result<(), CipherError> {
        self.in_place(&self.decrypt, first, data)
    }

    fn encrypt_to(&self, first: u64, source: &[u8], target: &mut [u8]) -> Result<(), CipherError> {
        self.across(&self.encrypt, first, source, target)
    }

    fn decrypt_to(&self, first: u64, source: &[u8], target: &mut [u8]) -> Result<(), CipherError> {
        self.across(&self.decrypt, first, source, target)
    }
}
