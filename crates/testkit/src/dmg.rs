//! Disk images of Apple, made without a driver.
use std::io::Write;

/// How a chunk is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Not at all; a chunk of other bytes than zeroes is stored plain instead.
    Zero,
    /// As `Zero`, by its other number.
    Ignore,
    /// As it is.
    Plain,
    /// By Apple Data Compression.
    Adc,
    /// By zlib.
    Zlib,
    /// By bzip2.
    Bzip2,
    /// By LZFSE.
    Lzfse,
    /// By xz.
    Xz,
}

/// All kinds.
pub const ALL: [Kind; 8] =
    [Kind::Zero, Kind::Adc, Kind::Zlib, Kind::Plain, Kind::Bzip2, Kind::Ignore, Kind::Lzfse, Kind::Xz];

impl Kind {
    /// Its number in a table.
    pub fn number(self) -> u32 {
        match self {
            Self::Zero => 0,
            Self::Plain => 1,
            Self::Ignore => 2,
            Self::Adc => 0x8000_0004,
            Self::Zlib => 0x8000_0005,
            Self::Bzip2 => 0x8000_0006,
            Self::Lzfse => 0x8000_0007,
            Self::Xz => 0x8000_0008,
        }
    }

    /// What is stored of a chunk with this content.
    pub fn stored(self, content: &[u8]) -> Vec<u8> {
        match self {
            Self::Zero | Self::Ignore => Vec::new(),
            Self::Plain => content.to_vec(),
            Self::Adc => adc(content),
            Self::Zlib => crate::read_only::stored(content, content.len()),
            Self::Bzip2 => {
                let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
                encoder.write_all(content).and_then(|()| encoder.finish()).unwrap_or_default()
            }
            Self::Lzfse => {
                let mut stream = Vec::new();
                lzfse_rust::encode_bytes(content, &mut stream).map(|_| stream).unwrap_or_default()
            }
            Self::Xz => {
                let options = lzma_rust2::XzOptions::with_preset(1);
                let encoder = lzma_rust2::XzWriter::new(Vec::new(), options);
                let stream = encoder.and_then(|mut encoder| {
                    encoder.write_all(content)?;
                    encoder.finish()
                });
                stream.unwrap_or_default()
            }
        }
    }
}

/// Runs of a byte as copies of two and of three bytes, all else as it is.
fn adc(content: &[u8]) -> Vec<u8> {
    let mut stream = Vec::new();
    for run in content.chunk_by(|a, b| a == b) {
        let mut left = run.len() - 1;
        stream.extend([0x80, run[0]]);
        while left >= 4 {
            let len = left.min(67);
            match len {
                4..=18 => stream.extend([(len as u8 - 3) << 2, 0]),
                _ => stream.extend([0x40 | (len as u8 - 4), 0, 0]),
            }
            left -= len;
        }
        for _ in 0..left {
            stream.extend([0x80, run[0]]);
        }
    }
    stream
}

/// An image that is being made.
#[derive(Debug, Default)]
pub struct Image {
    /// The data fork, which the file begins with.
    pub data: Vec<u8>,
    /// The tables.
    pub tables: Vec<Vec<u8>>,
    /// Sectors of the disk.
    pub sectors: u64,
}

/// One chunk in a table: its kind, and the sector, sectors, offset and length.
pub type Entry = (u32, [u64; 4]);

/// A table of chunks that begins at this sector, its offsets counting from that of the data.
pub fn table(sector: u64, offset: u64, entries: &[Entry]) -> Vec<u8> {
    let mut table = vec![0; 204];
    table[..8].copy_from_slice(b"mish\0\0\0\x01");
    table[8..16].copy_from_slice(&sector.to_be_bytes());
    let sectors = entries.iter().map(|(_, fields)| fields[0].saturating_add(fields[1])).max().unwrap_or(0);
    table[16..24].copy_from_slice(&sectors.to_be_bytes());
    table[24..32].copy_from_slice(&offset.to_be_bytes());
    table[32..36].copy_from_slice(&2056u32.to_be_bytes());
    table[200..204].copy_from_slice(&(entries.len() as u32).to_be_bytes());
    for (kind, fields) in entries {
        table.extend(kind.to_be_bytes());
        table.extend([0; 4]);
        fields.iter().for_each(|field| table.extend(field.to_be_bytes()));
    }
    table
}

impl Image {
    /// An image that shows this, in chunks of so many bytes and of these kinds in turn, in tables of seven chunks each.
    pub fn of(shown: &[u8], chunk: usize, kinds: &[Kind]) -> Self {
        let mut image = Self { sectors: shown.len().div_ceil(512) as u64, ..Self::default() };
        let mut kinds = kinds.iter().cycle();
        for part in shown.chunks(7 * chunk) {
            let (mut entries, start) = (Vec::new(), image.data.len() as u64);
            let mut sector = 0;
            for content in part.chunks(chunk) {
                let kind = kinds.next().copied().unwrap_or(Kind::Plain);
                let is_zero = content.iter().all(|byte| *byte == 0);
                let kind = if kind.stored(content).is_empty() && !is_zero { Kind::Plain } else { kind };
                let mut content = content.to_vec();
                content.resize(content.len().next_multiple_of(512), 0);
                let (offset, stored) = (image.data.len() as u64 - start, kind.stored(&content));
                let sectors = content.len() as u64 / 512;
                entries.push((kind.number(), [sector, sectors, offset, stored.len() as u64]));
                image.data.extend(stored);
                sector += sectors;
            }
            // A comment, and the end.
            entries.push((0x7fff_fffe, [sector, 0, 0, 0]));
            entries.push((0xffff_ffff, [sector, 0, image.data.len() as u64 - start, 0]));
            let first = image.tables.len() * 7 * chunk / 512;
            image.tables.push(table(first as u64, start, &entries));
        }
        image
    }

    /// The file, with its tables in a property list.
    pub fn with_list(&self) -> Vec<u8> {
        let mut list = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!DOCTYPE plist PUBLIC \"-//Apple Computer//DTD PLIST \
                        1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n<plist version=\"1.0\">\n<dict>\n\
                        \t<key>resource-fork</key>\n\t<dict>\n\t\t<key>blkx</key>\n\t\t<array>\n"
            .to_owned();
        for (id, table) in self.tables.iter().enumerate() {
            list += "\t\t\t<dict>\n\t\t\t\t<key>Attributes</key>\n\t\t\t\t<string>0x0050</string>\n";
            list += "\t\t\t\t<key>CFName</key>\n\t\t\t\t<string>whole &amp; part</string>\n";
            list += "\t\t\t\t<key>Data</key>\n\t\t\t\t<data>\n";
            for line in table.chunks(39) {
                list += &format!("\t\t\t\t{}\n", base64(line));
            }
            list += &format!(
                "\t\t\t\t</data>\n\t\t\t\t<key>ID</key>\n\t\t\t\t<string>{id}</string>\n\t\t\t</dict>\n"
            );
        }
        list += "\t\t</array>\n\t\t<key>plst</key>\n\t\t<array>\n\t\t\t<dict>\n\t\t\t\t<key>Data</key>\n\t\t\t\t<data>\n";
        list += "\t\t\t\tAAAA\n\t\t\t\t</data>\n\t\t\t</dict>\n\t\t</array>\n\t</dict>\n</dict>\n</plist>\n";
        self.with_metadata(list.as_bytes(), 216)
    }

    /// The file, with its tables in a resource fork.
    pub fn with_fork(&self) -> Vec<u8> {
        let mut data = Vec::new();
        let mut list = Vec::new();
        for (id, table) in self.tables.iter().enumerate() {
            list.extend((id as u16).to_be_bytes());
            list.extend([0xff, 0xff]);
            list.extend((0x5000_0000 | data.len() as u32).to_be_bytes());
            list.extend([0; 4]);
            data.extend((table.len() as u32).to_be_bytes());
            data.extend(table);
        }
        // Two types: one that is not looked at, with one resource, and the tables.
        let mut types = vec![0, 1];
        types.extend(b"plst\0\0\0\x12");
        types.extend(b"blkx");
        types.extend((self.tables.len() as u16 - 1).to_be_bytes());
        types.extend([0, 30]);
        types.extend([0; 12]);
        types.extend(list);
        let mut map = vec![0; 28];
        map[24..26].copy_from_slice(&28u16.to_be_bytes());
        map[26..28].copy_from_slice(&(28 + types.len() as u16).to_be_bytes());
        map.extend(types);
        let lengths = [256, 256 + data.len(), data.len(), map.len()];
        let mut fork: Vec<u8> = lengths.iter().flat_map(|word| (*word as u32).to_be_bytes()).collect();
        map[..16].copy_from_slice(&fork);
        fork.resize(256, 0);
        fork.extend(data);
        fork.extend(map);
        self.with_metadata(&fork, 40)
    }

    /// The file, with these bytes behind the data, where a field of the trailer tells of them.
    pub fn with_metadata(&self, bytes: &[u8], field: usize) -> Vec<u8> {
        let mut file = self.data.clone();
        let mut trailer = vec![0; 512];
        trailer[..12].copy_from_slice(b"koly\0\0\0\x04\0\0\x02\0");
        trailer[15] = 1;
        let mut put = |at: usize, number: u64| trailer[at..at + 8].copy_from_slice(&number.to_be_bytes());
        put(32, self.data.len() as u64);
        put(56, 1 << 32 | 1);
        put(field, file.len() as u64);
        put(field + 8, bytes.len() as u64);
        put(488, 1 << 32);
        put(492, self.sectors);
        file.extend(bytes);
        file.extend(trailer);
        file
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for part in bytes.chunks(3) {
        let word = (0..3).fold(0_u32, |word, i| word << 8 | u32::from(part.get(i).copied().unwrap_or(0)));
        for digit in 0..4 {
            let sextet = word >> (18 - 6 * digit) & 63;
            text.push(if digit > part.len() { '=' } else { char::from(DIGITS[sextet as usize]) });
        }
    }
    text
}
