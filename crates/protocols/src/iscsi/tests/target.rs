//! A target with a disk in memory, by the rules that a test gives it.

use codec::Crc32c;
use iscsi::{
    Answer, DIGEST, HEADER, Header, Keys, Lengths, NO_TAG, Numbers, Request, Residual, Stage, digest, padding,
};
use parking_lot::Mutex;
use rt::net::{Listener, Stream};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

pub const BLOCK: usize = 512;
pub const BLOCKS: usize = 4096;

/// How the target behaves.
#[derive(Clone)]
pub struct Rules {
    /// Keys that are answered in the operational stage.
    pub keys: &'static str,
    /// Longest data segment to the initiator.
    pub segment: usize,
    /// Most data that are asked for at once.
    pub burst: usize,
    /// Commands that there is room for at once.
    pub window: u32,
    pub protected: bool,
    pub cached: bool,
    pub thin: bool,
    pub durable_writes: bool,
    /// It says that it knows how to flush.
    pub flushes: bool,
    pub serial: [u8; 4],
    pub capacity: (u64, u32),
    /// What a command is answered with in place of being carried out: by its code, one after the other.
    pub refusals: Vec<(u8, Refusal)>,
}

/// A status, and sense: key, code, qualifier.
pub type Refusal = (u8, [u8; 3]);

impl Default for Rules {
    fn default() -> Self {
        Self {
            keys: "",
            segment: 8192,
            burst: 256 << 10,
            window: 64,
            protected: false,
            cached: true,
            thin: true,
            durable_writes: true,
            flushes: true,
            serial: *b"disk",
            capacity: (BLOCKS as u64, BLOCK as u32),
            refusals: Vec::new(),
        }
    }
}

/// What the disk holds, and what was done to it.
pub struct Disk {
    pub rules: Mutex<Rules>,
    pub bytes: Mutex<Vec<u8>>,
    /// What a power cut leaves.
    pub durable: Mutex<Vec<u8>>,
    pub mapped: Mutex<Vec<bool>>,
    pub sessions: AtomicUsize,
    pub isids: Mutex<Vec<[u8; 6]>>,
    pub commands: Mutex<Vec<u8>>,
    /// Commands after which the connection is closed, from now on.
    pub fuse: AtomicUsize,
}

impl Disk {
    pub fn new(rules: Rules) -> Arc<Self> {
        Arc::new(Self {
            rules: Mutex::new(rules),
            bytes: Mutex::new(vec![0; BLOCK * BLOCKS]),
            durable: Mutex::new(vec![0; BLOCK * BLOCKS]),
            mapped: Mutex::new(vec![false; BLOCKS]),
            sessions: AtomicUsize::new(0),
            isids: Mutex::default(),
            commands: Mutex::default(),
            fuse: AtomicUsize::new(usize::MAX),
        })
    }

    /// The power goes: what was not flushed is lost.
    pub fn lose_power(&self) {
        let durable = self.durable.lock().clone();
        *self.bytes.lock() = durable;
    }

    pub fn count(&self, code: u8) -> usize {
        self.commands.lock().iter().filter(|other| **other == code).count()
    }

    /// Serves one session after the other, for ever.
    pub async fn serve(self: Arc<Self>, listener: Listener) {
        loop {
            let mut guest = Guest::greet(&listener, &self).await;
            while self.one(&mut guest).await.is_some() {}
        }
    }

    /// Carries one request out; `None`: the session is over.
    pub async fn one(&self, guest: &mut Guest) -> Option<()> {
        let (request, data) = guest.next().await?;
        self.carry_out(guest, request, data).await
    }

    pub async fn carry_out(&self, guest: &mut Guest, request: Request, data: Vec<u8>) -> Option<()> {
        match request {
            Request::Command { tag, block, expected, lun, .. } => {
                assert_eq!(lun, iscsi::Lun::of(1).unwrap());
                let code = block[0];
                self.commands.lock().push(code);
                if self.fuse.load(Ordering::Relaxed) == 0 {
                    self.fuse.store(usize::MAX, Ordering::Relaxed);
                    return None;
                }
                self.fuse.fetch_sub(
                    usize::from(self.fuse.load(Ordering::Relaxed) != usize::MAX),
                    Ordering::Relaxed,
                );
                let refusal = {
                    let refusals = &mut self.rules.lock().refusals;
                    let at = refusals.iter().position(|(other, _)| *other == code);
                    at.map(|at| refusals.remove(at).1)
                };
                if let Some((status, sense)) = refusal {
                    guest.refuse(tag, status, sense).await;
                    return Some(());
                }
                self.command(guest, tag, block, expected as usize, data).await
            }
            Request::Nop { tag: NO_TAG, .. } => Some(()),
            Request::Nop { tag, lun, .. } => {
                guest.send(Answer::Nop { lun, tag, target_tag: NO_TAG }, &[]).await;
                Some(())
            }
            Request::Logout { tag, .. } => {
                guest.send(Answer::Logout { tag, response: 0 }, &[]).await;
                None
            }
            other => panic!("{other:?}"),
        }
    }

    async fn command(
        &self,
        guest: &mut Guest,
        tag: u32,
        block: [u8; 16],
        expected: usize,
        data: Vec<u8>,
    ) -> Option<()> {
        let rules = self.rules.lock().clone();
        let at = u64::from_be_bytes(block[2..10].try_into().unwrap()) as usize;
        let count = u32::from_be_bytes(block[10..14].try_into().unwrap()) as usize;
        let answer = match (block[0], block[1] & 0x1f) {
            (0x00, _) => Vec::new(),
            (0x12, 0) => vec![0, 0, 6, 2, 31],
            (0x12, _) => match block[2] {
                0 => vec![0, 0, 0, 5, 0, 0x80, 0x83, 0xb0, 0xb2],
                0x80 => [&b"\0\x80\0\x04"[..], &rules.serial].concat(),
                0x83 => vec![0, 0x83, 0, 7, 1, 3, 0, 3, 0x60, 1, 2],
                0xb0 => [&[0, 0xb0, 0, 60][..], &[0; 60]].concat(),
                _ => vec![0, 0xb2, 0, 4, 0, if rules.thin { 0xe4 } else { 0 }, 0, 0],
            },
            (0x9e, 0x10) => {
                let (blocks, size) = rules.capacity;
                let mut answer = (blocks.wrapping_sub(1)).to_be_bytes().to_vec();
                answer.extend(size.to_be_bytes());
                answer.extend([0, 0, if rules.thin { 0xc0 } else { 0 }, 0]);
                answer.resize(32, 0);
                answer
            }
            (0x9e, 0x12) => self.status(at),
            (0x1a, _) => {
                let flags = u8::from(rules.protected) << 7 | u8::from(rules.durable_writes) << 4;
                vec![7, 0, flags, 0, 8, 2, if rules.cached { 4 } else { 0 }, 0]
            }
            (0xa3, _) => {
                let known = rules.flushes || !matches!(block[3], 0x35 | 0x91);
                vec![0, if known { 3 } else { 1 }, 0, 16]
            }
            (0x88, _) => self.bytes.lock()[at * BLOCK..(at + count) * BLOCK].to_vec(),
            (0x8a, _) => {
                let data = guest.gather(tag, expected, data, rules.burst).await?;
                self.store(at, &data, block[1] & 8 != 0);
                Vec::new()
            }
            (0x93, _) => {
                let data = guest.gather(tag, expected, data, rules.burst).await?;
                assert_eq!(data.len(), BLOCK);
                self.store(at, &data.repeat(count), false);
                if block[1] & 8 != 0 {
                    self.mapped.lock()[at..at + count].fill(false);
                }
                Vec::new()
            }
            (0x42, _) => {
                let data = guest.gather(tag, expected, data, rules.burst).await?;
                let at = u64::from_be_bytes(data[8..16].try_into().unwrap()) as usize;
                let count = u32::from_be_bytes(data[16..20].try_into().unwrap()) as usize;
                self.bytes.lock()[at * BLOCK..(at + count) * BLOCK].fill(0);
                self.mapped.lock()[at..at + count].fill(false);
                Vec::new()
            }
            (0x91, _) => {
                let bytes = self.bytes.lock().clone();
                *self.durable.lock() = bytes;
                Vec::new()
            }
            _ => {
                guest.refuse(tag, 2, [5, 0x20, 0]).await;
                return Some(());
            }
        };
        guest.give(tag, &answer[..answer.len().min(expected)], expected, rules.segment).await;
        Some(())
    }

    fn store(&self, at: usize, data: &[u8], durable: bool) {
        let range = at * BLOCK..at * BLOCK + data.len();
        self.bytes.lock()[range.clone()].copy_from_slice(data);
        self.mapped.lock()[at..at + data.len() / BLOCK].fill(true);
        if durable {
            self.durable.lock()[range].copy_from_slice(data);
        }
    }

    /// Two extents from a block on.
    fn status(&self, at: usize) -> Vec<u8> {
        let mapped = self.mapped.lock();
        let mut answer = vec![0; 8];
        let mut from = at;
        while from < mapped.len() && answer.len() < 8 + 2 * 16 {
            let len = mapped[from..].iter().take_while(|other| **other == mapped[from]).count();
            answer.extend((from as u64).to_be_bytes());
            answer.extend((len as u32).to_be_bytes());
            answer.extend([u8::from(!mapped[from]), 0, 0, 0]);
            from += len;
        }
        let len = (answer.len() as u32 - 4).to_be_bytes();
        answer[..4].copy_from_slice(&len);
        answer
    }
}

/// An initiator that has logged in, as the target sees it.
pub struct Guest {
    pub stream: Stream,
    pub stat: u32,
    expected_command: u32,
    window: u32,
    digests: (bool, bool),
    /// The command that was taken last has data that come unasked.
    unasked: bool,
    /// Commands that came while data of another were awaited.
    early: Vec<(Request, Vec<u8>)>,
}

impl Guest {
    /// Takes one initiator through the login.
    pub async fn greet(listener: &Listener, disk: &Disk) -> Self {
        loop {
            let stream = listener.accept().await.unwrap();
            let rules = disk.rules.lock().clone();
            let mut guest = Self {
                stream,
                stat: 100,
                expected_command: 0,
                window: rules.window,
                digests: (false, false),
                unasked: false,
                early: Vec::new(),
            };
            if guest.log_in(disk, rules.keys).await.is_some() {
                disk.sessions.fetch_add(1, Ordering::Relaxed);
                return guest;
            }
        }
    }

    async fn log_in(&mut self, disk: &Disk, answers: &str) -> Option<()> {
        loop {
            let (request, text) = self.next().await?;
            let Request::Login { stage, next, isid, tag, command, .. } = request else { return None };
            self.expected_command = command;
            let keys = Keys::parse(&text).unwrap();
            let mut answer = match stage {
                Stage::Security => "AuthMethod=None\0TargetPortalGroupTag=1\0".to_owned(),
                _ => answers.to_owned(),
            };
            if stage == Stage::Operational {
                assert_eq!(keys.get("ErrorRecoveryLevel"), Some("0"));
                if !answer.contains("MaxRecv") {
                    answer.push_str("MaxRecvDataSegmentLength=4096\0");
                }
            }
            let login =
                Answer::Login { stage, next, continues: false, isid, tsih: 1, tag, class: 0, detail: 0 };
            self.send(login, answer.as_bytes()).await;
            if next == Some(Stage::FullFeature) {
                disk.isids.lock().push(isid);
                let has = |key: &str| answers.contains(&format!("{key}=CRC32C"));
                self.digests = (has("HeaderDigest"), has("DataDigest"));
                return Some(());
            }
        }
    }

    /// The next request with its data.
    pub async fn next(&mut self) -> Option<(Request, Vec<u8>)> {
        let next = match self.early.is_empty() {
            false => self.early.remove(0),
            true => self.next_sent().await?,
        };
        self.unasked = matches!(next.0, Request::Command { complete: false, .. });
        Some(next)
    }

    async fn next_sent(&mut self) -> Option<(Request, Vec<u8>)> {
        let mut header: Header = [0; HEADER];
        self.stream.recv_exact(&mut header).await.ok()?;
        if self.digests.0 {
            let mut told = [0; DIGEST];
            self.stream.recv_exact(&mut told).await.ok()?;
            assert_eq!(told, digest(Crc32c::default().with(&header)));
        }
        let len = Lengths::of(&header).data;
        let mut data = vec![0; len + padding(len)];
        self.stream.recv_exact(&mut data).await.ok()?;
        if self.digests.1 && len > 0 {
            let mut told = [0; DIGEST];
            self.stream.recv_exact(&mut told).await.ok()?;
            assert_eq!(told, digest(Crc32c::default().with(&data)));
        }
        data.truncate(len);
        let request = Request::parse(&header).unwrap();
        if let Request::Command { command, .. } = request {
            assert_eq!(command, self.expected_command, "commands come in order");
            self.expected_command = command.wrapping_add(1);
        }
        Some((request, data))
    }

    /// All data of a command: those that came with it, those that come unasked, and those that are asked for.
    async fn gather(&mut self, tag: u32, expected: usize, first: Vec<u8>, burst: usize) -> Option<Vec<u8>> {
        let mut data = first;
        let mut open: HashMap<u32, usize> = HashMap::new();
        let mut asked = data.len();
        // What comes unasked is known by its tag; when nothing is on its way, the rest is asked for, two bursts at once.
        loop {
            if data.len() == expected {
                return Some(data);
            }
            if open.is_empty() && !self.comes_unasked(tag, &mut data).await? {
                asked = asked.max(data.len());
                for number in 0..2 {
                    let len = burst.min(expected - asked);
                    if len > 0 {
                        let target_tag = 77 + number;
                        let lun = iscsi::Lun::default();
                        let (offset, len32) = (asked as u32, len as u32);
                        let ready = Answer::Ready { lun, tag, target_tag, number, offset, len: len32 };
                        self.send(ready, &[]).await;
                        open.insert(target_tag, len);
                        asked += len;
                    }
                }
            }
            if open.is_empty() {
                continue;
            }
            let (target_tag, last) = self.next_data(tag, &mut data).await?;
            if last {
                open.remove(&target_tag).unwrap();
            }
        }
    }

    /// Takes data that come without having been asked for, if a command said that there are some.
    async fn comes_unasked(&mut self, tag: u32, data: &mut Vec<u8>) -> Option<bool> {
        if !std::mem::take(&mut self.unasked) {
            return Some(false);
        }
        while !self.next_data(tag, data).await?.1 {}
        Some(true)
    }

    /// Takes the next data of a command: for which of the target's questions, and whether they are the last for it.
    async fn next_data(&mut self, tag: u32, data: &mut Vec<u8>) -> Option<(u32, bool)> {
        let is_ours = |request: &Request| matches!(request, Request::DataOut { tag: of, .. } if *of == tag);
        let came = self.early.iter().position(|(request, _)| is_ours(request));
        let mut next = came.map(|at| self.early.remove(at));
        loop {
            let (request, part) = match next.take() {
                Some(next) => next,
                None => self.next_sent().await?,
            };
            match request {
                Request::DataOut { target_tag, offset, last, .. } if is_ours(&request) => {
                    assert_eq!(offset as usize, data.len());
                    data.extend(part);
                    return Some((target_tag, last));
                }
                other => self.early.push((other, part)),
            }
        }
    }

    fn numbers(&mut self, answer: &Answer) -> Numbers {
        let stat = self.stat;
        if answer.is_counted() {
            self.stat = self.stat.wrapping_add(1);
        }
        let expected_command = self.expected_command;
        Numbers { stat, expected_command, most_command: expected_command.wrapping_add(self.window - 1) }
    }

    /// Sends an answer with its number.
    pub async fn send(&mut self, answer: Answer, data: &[u8]) {
        let header = answer.encode(self.numbers(&answer), data.len());
        self.send_raw(&header, data).await;
    }

    /// Sends a header as it is, with digests.
    pub async fn send_raw(&mut self, header: &Header, data: &[u8]) {
        let mut bytes = header.to_vec();
        if self.digests.0 {
            bytes.extend(digest(Crc32c::default().with(header)));
        }
        let mut data = data.to_vec();
        data.resize(data.len() + padding(data.len()), 0);
        bytes.extend(&data);
        if self.digests.1 && !data.is_empty() {
            bytes.extend(digest(Crc32c::default().with(&data)));
        }
        // The initiator may have gone.
        let _ = self.stream.send_all(&bytes).await;
    }

    /// Answers with data and a good status.
    pub async fn give(&mut self, tag: u32, data: &[u8], expected: usize, segment: usize) {
        let missing = expected - data.len();
        let residual =
            if missing > 0 && !data.is_empty() { Residual::Under(missing as u32) } else { Residual::None };
        let count = data.len().div_ceil(segment);
        for (number, part) in data.chunks(segment).enumerate() {
            let last = number + 1 == count;
            let status = last.then_some(0);
            let residual = if last { residual } else { Residual::None };
            let (number, offset) = (number as u32, (number * segment) as u32);
            self.send(Answer::DataIn { tag, number, offset, last, status, residual }, part).await;
        }
        if data.is_empty() {
            self.send(Answer::Response { tag, response: 0, status: 0, residual }, &[]).await;
        }
    }

    /// Answers with a status and sense data.
    pub async fn refuse(&mut self, tag: u32, status: u8, [key, code, qualifier]: [u8; 3]) {
        let sense = [0, 8, 0x72, key, code, qualifier, 0, 0, 0, 0];
        let data = if status == 2 { &sense[..] } else { &[] };
        self.send(Answer::Response { tag, response: 0, status, residual: Residual::None }, data).await;
    }
}
