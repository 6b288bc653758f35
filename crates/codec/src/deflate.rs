//! Deflate for clusters: raw streams whose matches reach back 4 KiB at most, as qcow2 asks for, made fast.
//!
//! ```text
//!  source ─ find ─▶ tokens: literals and matches ─ count ─▶ codes ─▶ a block of the cheapest kind
//! ```
//!
//! Matches are taken greedily, at the last place where the same four bytes were; where nothing matches for long, the search
//! makes larger steps. A block holds up to [`BLOCK`] bytes. Its size is known before it is written, so that what does not
//! fit the target is given up without writing it.
//!
//! Bounds: the state has about 300 KiB, is made once a thread, and nothing grows with the source.
//! Specification: RFC 1951.
use crate::huffman::{self, Code};

/// How far back a match may be, in bytes: a window of 12 bits.
const WINDOW: usize = 1 << 12;
/// Bytes without a match after which the search begins to make larger steps.
const PATIENCE: usize = 64;
/// Bytes of source in a block.
const BLOCK: usize = 1 << 16;
/// Shortest match.
const SHORTEST: usize = 4;
/// Longest match (3.2.5).
const LONGEST: usize = 258;
/// log2 of the places that are remembered.
const HASH_BITS: u32 = 13;
/// A place that nothing is near to.
const NOWHERE: u32 = 1 << 31;
/// Literals and lengths; the end of a block is one of them.
const LITERALS: usize = 286;
const END: usize = 256;
const DISTANCES: usize = 30;
/// The order in which the lengths of the codes of code lengths are stored (3.2.7).
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// Symbol, number of extra bits, and first length of each length code.
const LENGTHS: [(u16, u8, u16); LONGEST + 1] = lengths();

const fn lengths() -> [(u16, u8, u16); LONGEST + 1] {
    let mut table = [(0, 0, 0); LONGEST + 1];
    let (mut code, mut first) = (0u16, 3usize);
    while code < 28 {
        let extra = if code < 8 { 0 } else { (code / 4 - 1) as u8 };
        let mut length = first;
        while length < first + (1 << extra) && length < LONGEST {
            table[length] = (257 + code, extra, first as u16);
            length += 1;
        }
        first += 1 << extra;
        code += 1;
    }
    table[LONGEST] = (285, 0, LONGEST as u16);
    table
}

/// Code and number of extra bits of a distance less one.
fn distance_code(less: u32) -> (usize, u32) {
    if less < 4 {
        return (less as usize, 0);
    }
    let high = less.ilog2();
    ((2 * high + (less >> (high - 1) & 1)) as usize, high - 1)
}

/// Room for the items: literals, the end, and each length by itself.
const ITEMS: usize = 1024;
/// The item of length 0.
const LENGTH: usize = END + 1;

/// A literal, or a match: its item, and for a match the code of its distance, which no literal has, and the extra bits.
#[derive(Clone, Copy, Default)]
struct Token(u32);

/// The distance code of literals, which takes no bits.
const NO_DISTANCE: usize = DISTANCES;

impl Token {
    fn literal(byte: u8) -> Self {
        Self((NO_DISTANCE as u32) << 10 | u32::from(byte))
    }

    fn matched(length: usize, less: u32) -> Self {
        let (code, extra) = distance_code(less);
        Self((less & ((1 << extra) - 1)) << 15 | (code as u32) << 10 | (LENGTH + length) as u32)
    }

    fn item(self) -> usize {
        (self.0 & 0x3ff) as usize
    }

    fn distance(self) -> usize {
        (self.0 >> 10 & 0x1f) as usize
    }

    fn extra(self) -> u64 {
        u64::from(self.0 >> 15)
    }
}

/// The working memory of an encoder.
pub(crate) struct Deflater {
    /// Where four bytes of this hash were last.
    places: Box<[u32; 1 << HASH_BITS]>,
    tokens: Box<[Token; BLOCK]>,
    /// How many there are.
    count: usize,
    items: [u32; ITEMS],
    literals: [u32; LITERALS],
    distances: [u32; 32],
}

impl Default for Deflater {
    fn default() -> Self {
        Self {
            places: Box::new([NOWHERE; 1 << HASH_BITS]),
            tokens: Box::new([Token::default(); BLOCK]),
            count: 0,
            items: [0; ITEMS],
            literals: [0; LITERALS],
            distances: [0; 32],
        }
    }
}

impl Deflater {
    /// Makes a stream of all of `source`; tells its length, or `None` if it does not fit `target`.
    pub(crate) fn deflate(&mut self, source: &[u8], target: &mut [u8]) -> Option<usize> {
        self.places.fill(NOWHERE);
        let mut out = Bits { target, at: 0, bits: 0, count: 0 };
        let mut start = 0;
        loop {
            let end = source.len().min(start + BLOCK);
            self.find_tokens(source, start, end);
            self.write_block(source, start..end, end == source.len(), &mut out)?;
            start = end;
            if start == source.len() {
                return Some(out.finish());
            }
        }
    }

    /// Parts a block into literals and matches, and counts their symbols.
    fn find_tokens(&mut self, source: &[u8], start: usize, end: usize) {
        self.items.fill(0);
        self.distances.fill(0);
        let Self { places, tokens, items, distances, .. } = self;
        let block = &source[..end];
        let (mut at, mut count, mut missed) = (start, 0, 0);
        while at + 8 <= end {
            let eight = load8(block, at);
            let place = &mut places[hash(eight as u32)];
            let distance = (at as u32).wrapping_sub(*place);
            *place = at as u32;
            let before = at.wrapping_sub(distance as usize);
            if distance as usize <= WINDOW {
                let differs = load8(block, before) ^ eight;
                if differs as u32 == 0 {
                    let length = match differs {
                        0 => match_length(block, before, at),
                        _ => (differs.trailing_zeros() / 8) as usize,
                    };
                    let token = Token::matched(length, distance - 1);
                    tokens[count] = token;
                    count += 1;
                    items[token.item()] += 1;
                    distances[token.distance()] += 1;
                    places[hash((eight >> 8) as u32)] = at as u32 + 1;
                    places[hash((eight >> 16) as u32)] = at as u32 + 2;
                    at += length;
                    missed = 0;
                    continue;
                }
            }
            if missed < PATIENCE {
                tokens[count] = Token::literal(eight as u8);
                items[usize::from(eight as u8)] += 1;
                (count, at, missed) = (count + 1, at + 1, missed + 1);
                continue;
            }
            // Where nothing matches for long, some bytes are not looked up.
            let step = missed / PATIENCE;
            missed += step;
            for literal in &block[at..end.min(at + step)] {
                tokens[count] = Token::literal(*literal);
                items[usize::from(*literal)] += 1;
                count += 1;
            }
            at = end.min(at + step);
        }
        for literal in &block[at..] {
            tokens[count] = Token::literal(*literal);
            items[usize::from(*literal)] += 1;
            count += 1;
        }
        self.count = count;
        self.literals.fill(0);
        self.literals[..END].copy_from_slice(&self.items[..END]);
        self.literals[END] = 1;
        for ((code, ..), count) in LENGTHS.iter().zip(&self.items[LENGTH..]).skip(SHORTEST) {
            self.literals[usize::from(*code)] += count;
        }
    }

    /// Writes the block in the shortest of the three ways.
    fn write_block(
        &self,
        source: &[u8],
        block: std::ops::Range<usize>,
        last: bool,
        out: &mut Bits<'_>,
    ) -> Option<()> {
        let dynamic = Tables::of(&self.literals, &self.distances[..DISTANCES]);
        let fixed = Tables::fixed();
        let (dynamic_bits, fixed_bits) = (
            dynamic.header.bits() + dynamic.bits(&self.literals, &self.distances[..DISTANCES]),
            fixed.bits(&self.literals, &self.distances[..DISTANCES]),
        );
        let stored_bits = stored_bits(block.len(), out.count);
        let shortest = dynamic_bits.min(fixed_bits);
        if out.room() < shortest.min(stored_bits) + 3 {
            return None;
        }
        if stored_bits <= shortest {
            out.store(&source[block], last);
            return Some(());
        }
        let tables = if fixed_bits <= dynamic_bits { &fixed } else { &dynamic };
        let kind = if fixed_bits <= dynamic_bits { 1 } else { 2 };
        out.put(u64::from(last) | kind << 1, 3);
        out.flush();
        if kind == 2 {
            tables.header.write(out);
        }
        self.write_tokens(tables, out);
        Some(())
    }

    fn write_tokens(&self, tables: &Tables, out: &mut Bits<'_>) {
        let (mut items, mut distances) = ([(0u32, 0u32); ITEMS], [(0u32, 0u32, 0u32); 32]);
        for (item, code) in items.iter_mut().zip(&tables.literals[..=END]) {
            *item = (u32::from(code.bits), u32::from(code.len));
        }
        for (length, (symbol, extra, first)) in LENGTHS.iter().enumerate().skip(SHORTEST) {
            let code = tables.literals[usize::from(*symbol)];
            let bits = u32::from(code.bits) | ((length as u32) - u32::from(*first)) << code.len;
            items[LENGTH + length] = (bits, u32::from(code.len) + u32::from(*extra));
        }
        for (index, code) in tables.distances[..DISTANCES].iter().enumerate() {
            let extra = (index as u32 / 2).saturating_sub(1);
            distances[index] = (u32::from(code.bits), u32::from(code.len), extra);
        }
        for token in &self.tokens[..self.count] {
            // At most 20 bits of a length, 15 of a distance, and 10 extra: with the 7 that a flush leaves, less than 64.
            let (bits, count) = items[token.item()];
            out.put(u64::from(bits), count);
            let (bits, count, extra) = distances[token.distance()];
            out.put(u64::from(bits) | token.extra() << count, count + extra);
            out.flush();
        }
        out.put_code(tables.literals[END]);
        out.flush();
    }
}

fn load8(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |eight| u64::from_le_bytes(*eight))
}

fn hash(four: u32) -> usize {
    (four.wrapping_mul(0x9e37_79b1) >> (32 - HASH_BITS)) as usize
}

/// How long what begins at `at` goes on as what begins at `before`; eight bytes are known to.
fn match_length(bytes: &[u8], before: usize, at: usize) -> usize {
    let most = LONGEST.min(bytes.len() - at);
    let mut length = 8;
    while length + 8 <= most {
        let differs = load8(bytes, before + length) ^ load8(bytes, at + length);
        if differs != 0 {
            return length + (differs.trailing_zeros() / 8) as usize;
        }
        length += 8;
    }
    while length < most && bytes[before + length] == bytes[at + length] {
        length += 1;
    }
    length
}

/// Bits that stored blocks take for so many bytes, when `count` bits of a byte are in use.
fn stored_bits(bytes: usize, count: u32) -> usize {
    let pieces = bytes.div_ceil(0xffff).max(1);
    // Three bits and a rest of a byte before the lengths; the pieces that follow begin at a byte.
    let first = (count as usize + 3).next_multiple_of(8) - count as usize;
    first + (pieces - 1) * 8 + pieces * 32 + bytes * 8
}

/// The codes of a block.
struct Tables {
    literals: [Code; huffman::MOST_SYMBOLS],
    distances: [Code; 32],
    header: Header,
}

impl Tables {
    /// The codes that suit these counts best.
    fn of(literal_counts: &[u32], distance_counts: &[u32]) -> Self {
        let (mut literals, mut distances) = ([0; LITERALS], [0; DISTANCES]);
        huffman::lengths(literal_counts, 15, &mut literals);
        huffman::lengths(distance_counts, 15, &mut distances);
        Self::with(&literals, &distances, Header::of(&literals, &distances))
    }

    /// The codes that need not be told (3.2.6).
    fn fixed() -> Self {
        let mut literals = [8; huffman::MOST_SYMBOLS];
        literals[144..256].fill(9);
        literals[256..280].fill(7);
        Self::with(&literals, &[5; 32], Header::default())
    }

    fn with(literals: &[u8], distances: &[u8], header: Header) -> Self {
        let mut tables = Self {
            literals: [Code::default(); huffman::MOST_SYMBOLS],
            distances: [Code::default(); 32],
            header,
        };
        huffman::codes(literals, &mut tables.literals);
        huffman::codes(distances, &mut tables.distances);
        tables
    }

    /// Bits that symbols of these counts take, with what they say beside.
    fn bits(&self, literals: &[u32], distances: &[u32]) -> usize {
        let literal = |(symbol, count): (usize, &u32)| {
            let extra = if symbol < 265 || symbol == 285 { 0 } else { (symbol - 261) / 4 };
            *count as usize * (usize::from(self.literals[symbol].len) + extra)
        };
        let distance = |(code, count): (usize, &u32)| {
            *count as usize * (usize::from(self.distances[code].len) + (code / 2).saturating_sub(1))
        };
        literals.iter().enumerate().map(literal).sum::<usize>()
            + distances.iter().enumerate().map(distance).sum::<usize>()
    }
}

/// What a block says of its codes: the lengths of all codes, run after run, in a code of their own (3.2.7).
#[derive(Default)]
struct Header {
    literals: usize,
    distances: usize,
    /// Symbol, extra bits and their number.
    runs: Vec<(u8, u8, u8)>,
    lengths: [u8; 19],
    /// Lengths that are stored.
    stored: usize,
}

impl Header {
    fn of(literals: &[u8], distances: &[u8]) -> Self {
        let used = |lengths: &[u8], least| {
            lengths.iter().rposition(|l| *l != 0).map_or(least, |last| (last + 1).max(least))
        };
        let mut header =
            Self { literals: used(literals, 257), distances: used(distances, 1), ..Self::default() };
        let mut all =
            literals[..header.literals].iter().chain(&distances[..header.distances]).copied().peekable();
        let mut counts = [0u32; 19];
        while let Some(length) = all.next() {
            let mut run = 1;
            while all.next_if_eq(&length).is_some() {
                run += 1;
            }
            header.add_run(length, run, &mut counts);
        }
        huffman::lengths(&counts, 7, &mut header.lengths);
        header.stored =
            ORDER.iter().rposition(|symbol| header.lengths[*symbol] != 0).map_or(4, |last| (last + 1).max(4));
        header
    }

    fn add_run(&mut self, length: u8, run: usize, counts: &mut [u32; 19]) {
        let mut add = |symbol: u8, extra: usize, bits| {
            counts[usize::from(symbol)] += 1;
            self.runs.push((symbol, extra as u8, bits));
        };
        let mut left = run;
        if length != 0 {
            add(length, 0, 0);
            left -= 1;
        }
        while left > 0 {
            let taken = match (length, left) {
                (0, 11..) => left.min(138),
                (0, 3..) => left,
                (_, 3..) => left.min(6),
                _ => 1,
            };
            match (length, taken) {
                (_, 1) => add(length, 0, 0),
                (0, 11..) => add(18, taken - 11, 7),
                (0, _) => add(17, taken - 3, 3),
                _ => add(16, taken - 3, 2),
            }
            left -= taken;
        }
    }

    fn bits(&self) -> usize {
        let run = |(symbol, _, bits): &(u8, u8, u8)| usize::from(self.lengths[usize::from(*symbol)] + bits);
        14 + 3 * self.stored + self.runs.iter().map(run).sum::<usize>()
    }

    fn write(&self, out: &mut Bits<'_>) {
        out.put((self.literals - 257) as u64, 5);
        out.put((self.distances - 1) as u64, 5);
        out.put((self.stored - 4) as u64, 4);
        out.flush();
        for symbol in &ORDER[..self.stored] {
            out.put(u64::from(self.lengths[*symbol]), 3);
            out.flush();
        }
        let mut codes = [Code::default(); 19];
        huffman::codes(&self.lengths, &mut codes);
        for (symbol, extra, bits) in &self.runs {
            out.put_code(codes[usize::from(*symbol)]);
            out.put(u64::from(*extra), u32::from(*bits));
            out.flush();
        }
    }
}

/// Where bits are written, from each byte's lowest on.
struct Bits<'a> {
    target: &'a mut [u8],
    /// Whole bytes so far.
    at: usize,
    bits: u64,
    /// Bits that are in `bits`; fewer than eight after a flush.
    count: u32,
}

impl Bits<'_> {
    /// Bits that there is room for.
    fn room(&self) -> usize {
        ((self.target.len() - self.at) * 8).saturating_sub(self.count as usize)
    }

    fn put(&mut self, bits: u64, count: u32) {
        self.bits |= bits << self.count;
        self.count += count;
    }

    fn put_code(&mut self, code: Code) {
        self.put(u64::from(code.bits), u32::from(code.len));
    }

    fn flush(&mut self) {
        let bytes = self.bits.to_le_bytes();
        let whole = self.count / 8;
        let rest = &mut self.target[self.at..];
        match rest.first_chunk_mut::<8>() {
            Some(next) => *next = bytes,
            None => rest.iter_mut().zip(bytes).for_each(|(to, byte)| *to = byte),
        }
        self.at += whole as usize;
        self.bits >>= whole * 8;
        self.count &= 7;
    }

    /// Writes stored blocks.
    fn store(&mut self, source: &[u8], last: bool) {
        let mut pieces = source.chunks(0xffff).peekable();
        while let Some(piece) = pieces.next() {
            self.put(u64::from(last && pieces.peek().is_none()), 3);
            self.count = self.count.next_multiple_of(8);
            self.flush();
            let len = piece.len() as u64;
            self.put(len | (!len & 0xffff) << 16, 32);
            self.flush();
            self.target[self.at..][..piece.len()].copy_from_slice(piece);
            self.at += piece.len();
        }
    }

    /// Fills the last byte; tells how many there are.
    fn finish(mut self) -> usize {
        self.count = self.count.next_multiple_of(8);
        self.flush();
        self.at
    }
}
