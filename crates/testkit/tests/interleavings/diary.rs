//! What happened in a run, by the world's numbers: writes, flushes, and which file was the device. It says what a disk that is
//! left by a crash may show.
use super::SECTOR;
use parking_lot::Mutex;
use std::collections::BTreeSet;

struct Write {
    sector: u64,
    byte: u8,
    begun: u64,
    /// When it was acknowledged.
    ended: Option<u64>,
}

struct Flush {
    guest: u64,
    begun: u64,
    ended: u64,
}

/// The diary of a run.
#[derive(Default)]
pub struct Diary {
    writes: Mutex<Vec<Write>>,
    flushes: Mutex<Vec<Flush>>,
    devices: Mutex<Vec<(u64, String)>>,
}

impl Diary {
    /// A write begins; the answer is its number here.
    pub fn begins(&self, sector: u64, byte: u8, now: u64) -> usize {
        let mut writes = self.writes.lock();
        writes.push(Write { sector, byte, begun: now, ended: None });
        writes.len() - 1
    }

    /// A write was acknowledged.
    pub fn ended(&self, write: usize, now: u64) {
        self.writes.lock()[write].ended = Some(now);
    }

    /// A flush of this guest was acknowledged.
    pub fn flushed(&self, guest: u64, begun: u64, ended: u64) {
        self.flushes.lock().push(Flush { guest, begun, ended });
    }

    /// The device is this file.
    pub fn device(&self, now: u64, file: String) {
        self.devices.lock().push((now, file));
    }

    /// The files that may be the device after a crash at this moment.
    pub fn candidates(&self, moment: u64) -> BTreeSet<String> {
        let mut devices = self.devices.lock();
        devices.sort();
        let after = devices.partition_point(|(at, _)| *at <= moment);
        let seen = after.saturating_sub(1)..(after + 1).min(devices.len());
        devices[seen].iter().map(|(_, file)| file.clone()).collect()
    }

    /// Whether a disk that was left by a crash at this moment may show this; else the sector that it loses. Each sector is
    /// one guest's, who writes it once after the other.
    pub fn allows(&self, shown: &[u8], guests: u64, moment: u64) -> Result<(), String> {
        let (writes, flushes) = (self.writes.lock(), self.flushes.lock());
        for (sector, data) in (0..).zip(shown.chunks(SECTOR as usize)) {
            let mine = || writes.iter().filter(|w| w.sector == sector && w.begun <= moment);
            let is_flushed = |write: &Write| {
                let covers =
                    |f: &&Flush| f.guest == sector % guests && write.ended.is_some_and(|e| e <= f.begun);
                flushes.iter().filter(|f| f.ended <= moment).any(|f| covers(&f))
            };
            let floor = mine().filter(|w| is_flushed(w)).map(|w| w.begun).max();
            let mut allowed: Vec<u8> =
                mine().filter(|w| floor.is_none_or(|floor| w.begun >= floor)).map(|w| w.byte).collect();
            if floor.is_none() {
                allowed.push(0);
            }
            if data.iter().any(|byte| !allowed.contains(byte) || *byte != data[0]) {
                return Err(format!("sector {sector} shows {}, and not one of {allowed:?}", data[0]));
            }
        }
        Ok(())
    }
}
