//! A small FAT driver that writes to a disk as guests do: the whole of a folder or a table at a time, and no faster than needed.
//!
//! It is written from the specification, and shares nothing with the driver but the layout.
use super::super::layout::{Layout, SECTOR, TABLES};
use block::{Node, Request};
use rt::{Buf, BufMut};
use std::sync::Arc;

/// An entry of a folder: its long name, and its bytes with those of the long name in front.
#[derive(Clone)]
struct Entry {
    name: String,
    bytes: Vec<u8>,
}

pub struct Guest {
    pub node: Arc<Node>,
    pub layout: Layout,
    /// Entries of the table.
    table: Vec<u32>,
    /// How many short names were made.
    made: u32,
}

impl Entry {
    fn field(&self, at: usize, len: usize) -> u32 {
        let from = self.bytes.len() - 32 + at;
        self.bytes[from..from + len].iter().rev().fold(0, |all, byte| all << 8 | u32::from(*byte))
    }

    fn set(&mut self, at: usize, bytes: &[u8]) {
        let from = self.bytes.len() - 32 + at;
        self.bytes[from..from + bytes.len()].copy_from_slice(bytes);
    }

    fn first(&self) -> u32 {
        self.field(26, 2) | self.field(20, 2) << 16
    }

    fn set_first(&mut self, cluster: u32) {
        self.set(26, &(cluster as u16).to_le_bytes());
        self.set(20, &((cluster >> 16) as u16).to_le_bytes());
    }

    fn is_folder(&self) -> bool {
        self.field(11, 1) & 0x10 != 0
    }
}

impl Guest {
    pub async fn of(node: Arc<Node>, layout: Layout) -> Self {
        let mut guest = Self { node, layout, table: Vec::new(), made: 0 };
        let bytes = guest.read(layout.first_table() * SECTOR, layout.table * SECTOR).await;
        guest.table = (0..layout.clusters() + 2).map(|cluster| layout.entry_in(&bytes, cluster)).collect();
        guest
    }

    pub async fn read(&self, at: u64, len: u64) -> Vec<u8> {
        let (buf, result) = self.node.read(at, BufMut::with_len(len as usize)).await;
        result.unwrap();
        buf.to_vec()
    }

    pub async fn write(&self, at: u64, bytes: &[u8]) {
        self.node.write(at, Buf::from_slice(bytes), Request::GUEST).await.unwrap();
    }

    /// Writes both tables where they differ from what they were.
    pub async fn store_table(&self) {
        let mut bytes = vec![0_u8; (self.layout.table * SECTOR) as usize];
        let bits = match self.layout.end_of_chain() {
            0xfff => 12,
            0xffff => 16,
            _ => 32,
        };
        for (cluster, entry) in self.table.iter().enumerate() {
            for bit in 0..bits {
                let at = cluster * bits + bit;
                bytes[at / 8] |= ((entry >> bit & 1) as u8) << (at % 8);
            }
        }
        for copy in 0..TABLES {
            let start = (self.layout.first_table() + copy * self.layout.table) * SECTOR;
            let old = self.read(start, self.layout.table * SECTOR).await;
            for (number, sector) in bytes.chunks(SECTOR as usize).enumerate() {
                let at = number * SECTOR as usize;
                if old[at..at + sector.len()] != *sector {
                    self.write(start + at as u64, sector).await;
                }
            }
        }
    }

    /// Makes an entry of the table something else.
    pub fn link(&mut self, cluster: u32, entry: u32) {
        self.table[cluster as usize] = entry;
    }

    pub fn chain(&self, first: u32) -> Vec<u32> {
        let mut chain = Vec::new();
        let mut cluster = first;
        while cluster != 0 && cluster < self.layout.end_of_chain() & !7 {
            chain.push(cluster);
            cluster = self.table[cluster as usize];
        }
        chain
    }

    pub fn place(&self, cluster: u32) -> u64 {
        self.layout.data() * SECTOR + u64::from(cluster - 2) * self.layout.cluster()
    }

    /// So many clusters, as a chain; every other one where there is room.
    fn allocate(&mut self, count: usize) -> Vec<u32> {
        let free: Vec<u32> =
            (2..self.table.len() as u32).filter(|cluster| self.table[*cluster as usize] == 0).collect();
        let step = if free.len() > 4 * count { 2 } else { 1 };
        let taken: Vec<u32> = free.into_iter().step_by(step).take(count).collect();
        assert_eq!(taken.len(), count, "the disk is full");
        for (at, cluster) in taken.iter().enumerate() {
            self.table[*cluster as usize] = taken.get(at + 1).copied().unwrap_or(self.layout.end_of_chain());
        }
        taken
    }

    fn free(&mut self, first: u32) {
        for cluster in self.chain(first) {
            self.table[cluster as usize] = 0;
        }
    }

    /// Where the bytes of a folder lie; its first cluster, 0 of the root.
    fn places(&self, first: u32) -> Vec<(u64, u64)> {
        match first {
            0 if self.layout.root_entries > 0 => {
                vec![(self.layout.root() * SECTOR, self.layout.root_entries * 32)]
            }
            0 => self.places(2),
            first => self.chain(first).iter().map(|c| (self.place(*c), self.layout.cluster())).collect(),
        }
    }

    async fn entries(&self, first: u32) -> Vec<Entry> {
        let mut bytes = Vec::new();
        for (at, len) in self.places(first) {
            bytes.extend(self.read(at, len).await);
        }
        let (mut found, mut long, mut raw) = (Vec::new(), Vec::new(), Vec::new());
        for entry in bytes.chunks(32) {
            match (entry[0], entry[11]) {
                (0, _) => break,
                (0xe5, _) => (long, raw) = (Vec::new(), Vec::new()),
                (_, 0x0f) => {
                    let part = [&entry[1..11], &entry[14..26], &entry[28..32]].concat();
                    let part: Vec<u16> =
                        part.chunks(2).map(|pair| u16::from(pair[0]) | u16::from(pair[1]) << 8).collect();
                    long = [part, long].concat();
                    raw.extend_from_slice(entry);
                }
                _ => {
                    let units = long.split(|unit| *unit == 0).next().unwrap();
                    let part = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
                    let short = format!("{}.{}", part(&entry[..8]), part(&entry[8..11]));
                    let short = if matches!(&*short, "..") {
                        ".".to_owned()
                    } else {
                        short.trim_end_matches('.').to_owned()
                    };
                    let name = if units.is_empty() { short } else { String::from_utf16(units).unwrap() };
                    raw.extend_from_slice(entry);
                    found.push(Entry { name, bytes: std::mem::take(&mut raw) });
                    long = Vec::new();
                }
            }
        }
        found
    }

    async fn store(&mut self, first: u32, entries: &[Entry]) {
        let mut bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.bytes.clone()).collect();
        let room: u64 = self.places(first).iter().map(|(_, len)| len).sum();
        if bytes.len() as u64 > room {
            let chain = self.chain(if first == 0 { 2 } else { first });
            let more = self.allocate((bytes.len() as u64 - room).div_ceil(self.layout.cluster()) as usize);
            self.link(*chain.last().unwrap(), more[0]);
        }
        let room: u64 = self.places(first).iter().map(|(_, len)| len).sum();
        bytes.resize(room as usize, 0);
        let mut from = 0;
        for (at, len) in self.places(first) {
            self.write(at, &bytes[from..from + len as usize]).await;
            from += len as usize;
        }
    }

    fn entry(&mut self, name: &str, attributes: u8) -> Entry {
        self.made += 1;
        let short = format!("G{:07}TMP", self.made).into_bytes();
        let sum = short.iter().fold(0_u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
        let mut units: Vec<u16> = name.encode_utf16().collect();
        if !units.len().is_multiple_of(13) {
            units.push(0);
        }
        units.resize(units.len().next_multiple_of(13), 0xffff);
        let mut bytes = Vec::new();
        for (number, part) in units.chunks(13).enumerate().rev() {
            let part: Vec<u8> = part.iter().flat_map(|unit| unit.to_le_bytes()).collect();
            let last = if (number + 1) * 13 == units.len() { 0x40 } else { 0 };
            bytes.push((number as u8 + 1) | last);
            bytes.extend(&part[..10]);
            bytes.extend([0x0f, 0, sum]);
            bytes.extend(&part[10..22]);
            bytes.extend([0, 0]);
            bytes.extend(&part[22..]);
        }
        bytes.extend(&short);
        bytes.extend([attributes, 0]);
        bytes.resize(bytes.len() + 19, 0);
        let mut entry = Entry { name: name.to_owned(), bytes };
        entry.set(22, &(12_u16 << 11).to_le_bytes());
        entry.set(24, &(44_u16 << 9 | 6 << 5 | 7).to_le_bytes());
        entry
    }

    /// The first cluster of the folder of a path, its entries, and the name without the path.
    async fn folder<'a>(&self, path: &'a str) -> (u32, Vec<Entry>, &'a str) {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut first = 0;
        for part in folder.split('/').filter(|part| !part.is_empty()) {
            let entries = self.entries(first).await;
            first = entries
                .iter()
                .find(|entry| entry.name == part)
                .unwrap_or_else(|| panic!("no {part}"))
                .first();
        }
        (first, self.entries(first).await, name)
    }

    /// The first cluster of what has this path.
    pub async fn first(&self, path: &str) -> u32 {
        let (_, entries, name) = self.folder(path).await;
        entries.iter().find(|entry| entry.name == name).unwrap_or_else(|| panic!("no {path}")).first()
    }

    /// Makes a file, or gives it other content.
    pub async fn put(&mut self, path: &str, content: &[u8]) {
        let clusters = content.len().div_ceil(self.layout.cluster() as usize);
        let chain = if clusters > 0 { self.allocate(clusters) } else { Vec::new() };
        for (cluster, part) in chain.iter().zip(content.chunks(self.layout.cluster() as usize)) {
            let mut part = part.to_vec();
            part.resize(part.len().next_multiple_of(SECTOR as usize), 0);
            self.write(self.place(*cluster), &part).await;
        }
        let (folder, mut entries, name) = self.folder(path).await;
        let at = entries.iter().position(|entry| entry.name == name);
        let at = at.unwrap_or_else(|| {
            entries.push(self.entry(name, 0x20));
            entries.len() - 1
        });
        self.free(entries[at].first());
        entries[at].set_first(chain.first().copied().unwrap_or(0));
        entries[at].set(28, &(content.len() as u32).to_le_bytes());
        self.store(folder, &entries).await;
        self.store_table().await;
    }

    /// Makes a folder.
    pub async fn mkdir(&mut self, path: &str) {
        let (folder, mut entries, name) = self.folder(path).await;
        let cluster = self.allocate(1)[0];
        let dots = [(&b".          "[..], cluster), (&b"..         "[..], folder)].map(|(name, first)| {
            let mut entry = Entry { name: String::new(), bytes: vec![0; 32] };
            entry.set(0, name);
            entry.set(11, &[0x10]);
            entry.set_first(first);
            entry
        });
        self.store(cluster, &dots).await;
        let mut entry = self.entry(name, 0x10);
        entry.set_first(cluster);
        entries.push(entry);
        self.store(folder, &entries).await;
        self.store_table().await;
    }

    /// The same, with other bytes where the folder lies before its entry is there.
    pub async fn mkdir_but(&mut self, path: &str, bytes: &[u8]) {
        let (folder, mut entries, name) = self.folder(path).await;
        let cluster = self.allocate(1)[0];
        self.write(self.place(cluster), bytes).await;
        let mut entry = self.entry(name, 0x10);
        entry.set_first(cluster);
        entries.push(entry);
        self.store(folder, &entries).await;
        self.store_table().await;
    }

    /// Removes a file or a folder, with what is in it.
    pub async fn remove(&mut self, path: &str) {
        let (folder, mut entries, name) = self.folder(path).await;
        let at = entries.iter().position(|entry| entry.name == name).unwrap();
        let gone = entries.remove(at);
        self.store(folder, &entries).await;
        let mut all = vec![gone];
        while let Some(entry) = all.pop() {
            if entry.is_folder() {
                all.extend(self.entries(entry.first()).await.into_iter().skip(2));
            }
            self.free(entry.first());
        }
        self.store_table().await;
    }

    /// Gives what has a path another one.
    pub async fn rename(&mut self, from: &str, to: &str) {
        let (old, mut entries, name) = self.folder(from).await;
        let at = entries.iter().position(|entry| entry.name == name).unwrap();
        let gone = entries.remove(at);
        self.store(old, &entries).await;
        let (new, mut entries, name) = self.folder(to).await;
        let mut entry = self.entry(name, 0);
        let own = gone.bytes.len() - 32;
        entry.set(11, &gone.bytes[own + 11..]);
        entries.push(entry);
        self.store(new, &entries).await;
        if gone.is_folder() && old != new {
            let mut inside = self.entries(gone.first()).await;
            inside[1].set_first(new);
            self.store(gone.first(), &inside).await;
        }
        self.store_table().await;
    }

    /// Writes into a file, in place.
    pub async fn patch(&self, path: &str, sector: u64, bytes: &[u8]) {
        let first = self.first(path).await;
        let per_cluster = self.layout.sectors_per_cluster;
        let cluster = self.chain(first)[(sector / per_cluster) as usize];
        self.write(self.place(cluster) + sector % per_cluster * SECTOR, bytes).await;
    }

    /// Changes bytes of an entry, from one on.
    pub async fn edit(&mut self, path: &str, at: usize, bytes: &[u8]) {
        let (folder, mut entries, name) = self.folder(path).await;
        let entry = entries.iter_mut().find(|entry| entry.name == name).unwrap();
        entry.set(at, bytes);
        self.store(folder, &entries).await;
    }

    /// Makes an entry with these bytes of a name, short alone.
    pub async fn put_short(&mut self, folder: &str, short: &[u8; 11]) {
        let (first, mut entries, _) = self.folder(&format!("{folder}/x")).await;
        let mut bytes = vec![0; 32];
        bytes[..11].copy_from_slice(short);
        bytes[11] = 0x20;
        entries.push(Entry { name: String::new(), bytes });
        self.store(first, &entries).await;
    }

    /// All files and folders with what the disk shows of them.
    pub async fn all(&self) -> super::Content {
        let mut found = super::Content::new();
        let mut folders = vec![(String::new(), 0)];
        while let Some((path, first)) = folders.pop() {
            let skipped = if path.is_empty() { 0 } else { 2 };
            for entry in self.entries(first).await.into_iter().skip(skipped) {
                let path = format!("{path}/{}", entry.name).trim_start_matches('/').to_owned();
                if entry.is_folder() {
                    found.insert(path.clone(), None);
                    folders.push((path, entry.first()));
                } else if entry.field(11, 1) & 0x08 == 0 {
                    let mut content = Vec::new();
                    for cluster in self.chain(entry.first()) {
                        content.extend(self.read(self.place(cluster), self.layout.cluster()).await);
                    }
                    content.truncate(entry.field(28, 4) as usize);
                    found.insert(path, Some(content));
                }
            }
        }
        found
    }
}
