//! TFTP on the wire: packets, without I/O.
//!
//! ```text
//! read request  1 │ name 0 mode 0 (option 0 value 0)*       data   3 │ number │ bytes
//! options       6 │ (option 0 value 0)*                     error  5 │ code │ text 0
//! acknowledged  4 │ number
//! ```
//!
//! Specifications: RFC 1350 (the protocol), 2347 (options), 2348 (blksize), 2349 (tsize), 7440 (windowsize).

/// Bytes of a packet before the data of a block.
pub(super) const HEAD: usize = 4;
/// Bytes of a block where nothing else was agreed on.
pub(super) const PLAIN_BLOCK: u16 = 512;
/// Bytes of a server's text that are kept.
const MOST_TEXT: usize = 256;
/// Options of one answer that are looked at; four are asked for.
const MOST_OPTIONS: usize = 16;

const READ: u16 = 1;
const DATA: u16 = 3;
const ACKNOWLEDGED: u16 = 4;
const ERROR: u16 = 5;
const OPTIONS: u16 = 6;

/// Why a transfer is ended: the codes of RFC 1350 and 2347.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Code(pub u16);

impl Code {
    pub const NOT_DEFINED: Code = Code(0);
    pub const NOT_FOUND: Code = Code(1);
    pub const ACCESS_VIOLATION: Code = Code(2);
    pub const UNKNOWN_TRANSFER: Code = Code(5);
    pub const OPTIONS_REFUSED: Code = Code(8);
}

/// What a server may send.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Packet<'a> {
    /// A block, by the low 16 bits of its number; the first is 1.
    Data { number: u16, bytes: &'a [u8] },
    /// Which options it takes, and with what values.
    Options(Agreed),
    /// It ends the transfer.
    Error { code: Code, text: String },
}

/// The options that a server has answered.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Agreed {
    /// Bytes of a block.
    pub block: Option<u16>,
    /// Bytes of the file.
    pub size: Option<u64>,
    /// Blocks that are sent before an acknowledgement is waited for.
    pub window: Option<u16>,
}

/// A read request. `None` where the name can't be sent.
pub(super) fn read_request(name: &[u8], block: u16, window: u16) -> Option<Vec<u8>> {
    if name.is_empty() || name.contains(&0) {
        return None;
    }
    let mut packet = READ.to_be_bytes().to_vec();
    let (block, window) = (block.to_string(), window.to_string());
    let words: [&[u8]; 8] =
        [name, b"octet", b"tsize", b"0", b"blksize", block.as_bytes(), b"windowsize", window.as_bytes()];
    for word in words {
        packet.extend_from_slice(word);
        packet.push(0);
    }
    Some(packet)
}

/// The acknowledgement of all blocks up to this number.
pub(super) fn acknowledgement(number: u16) -> [u8; HEAD] {
    let ([a, b], [c, d]) = (ACKNOWLEDGED.to_be_bytes(), number.to_be_bytes());
    [a, b, c, d]
}

/// The end of a transfer before its time.
pub(super) fn error(code: Code, text: &str) -> Vec<u8> {
    let mut packet = ERROR.to_be_bytes().to_vec();
    packet.extend_from_slice(&code.0.to_be_bytes());
    packet.extend_from_slice(text.as_bytes());
    packet.push(0);
    packet
}

impl<'a> Packet<'a> {
    /// Reads a packet; `None`: it is none of those that a server sends.
    pub fn parse(packet: &'a [u8]) -> Option<Self> {
        let (kind, rest) = number(packet)?;
        match kind {
            DATA => number(rest).map(|(number, bytes)| Self::Data { number, bytes }),
            OPTIONS => Agreed::parse(rest).map(Self::Options),
            ERROR => {
                let (code, text) = number(rest)?;
                Some(Self::Error { code: Code(code), text: shown(text) })
            }
            _ => None,
        }
    }
}

impl Agreed {
    /// Reads options and their values. Those that nobody asked for are passed over; a value that is no number, or is told
    /// twice, makes the packet none.
    fn parse(mut rest: &[u8]) -> Option<Self> {
        let mut agreed = Self::default();
        for _ in 0..MOST_OPTIONS {
            if rest.is_empty() {
                return Some(agreed);
            }
            let (name, behind) = word(rest)?;
            let (value, behind) = word(behind)?;
            rest = behind;
            let value = || value.trim().parse::<u64>().ok();
            if name.eq_ignore_ascii_case("blksize") {
                set(&mut agreed.block, u16::try_from(value()?).ok()?)?;
            } else if name.eq_ignore_ascii_case("windowsize") {
                set(&mut agreed.window, u16::try_from(value()?).ok()?)?;
            } else if name.eq_ignore_ascii_case("tsize") {
                set(&mut agreed.size, value()?)?;
            }
        }
        None
    }
}

fn set<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.replace(value).is_none().then_some(())
}

fn number(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<2>()?;
    Some((u16::from_be_bytes(*number), rest))
}

/// A text with its zero byte, and what is behind it.
fn word(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    let (text, rest) = bytes.split_at_checked(end)?;
    Some((std::str::from_utf8(text).ok()?, rest.get(1..)?))
}

/// A server's text for people: short, and on one line.
fn shown(bytes: &[u8]) -> String {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    let text = text.get(..MOST_TEXT).unwrap_or(text);
    String::from_utf8_lossy(text).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_request_names_the_file_and_asks_for_its_size_long_blocks_and_a_window() {
        let request = read_request(b"a/b", 1428, 16).unwrap();
        assert_eq!(request, b"\x00\x01a/b\0octet\0tsize\x000\0blksize\x001428\0windowsize\x0016\0");
        assert_eq!(read_request(b"a\0b", 512, 1), None);
        assert_eq!(read_request(b"", 512, 1), None);
    }

    #[test]
    fn what_a_server_sends_is_read_and_what_it_should_not_send_is_none() {
        assert_eq!(Packet::parse(b"\x00\x03\xff\xfeab"), Some(Packet::Data { number: 0xfffe, bytes: b"ab" }));
        assert_eq!(Packet::parse(b"\x00\x03\x00\x01"), Some(Packet::Data { number: 1, bytes: b"" }));
        let options = b"\x00\x06BLKSIZE\x001024\0TSize\x0077\0utimeout\x009\0windowsize\x004\0";
        let agreed = Agreed { block: Some(1024), size: Some(77), window: Some(4) };
        assert_eq!(Packet::parse(options), Some(Packet::Options(agreed)));
        assert_eq!(Packet::parse(b"\x00\x06"), Some(Packet::Options(Agreed::default())));
        let text = "no \u{fffd} file".to_owned();
        let told = b"\x00\x05\x00\x01no \xff\nfile\0more";
        assert_eq!(Packet::parse(told), Some(Packet::Error { code: Code::NOT_FOUND, text }));
        for garbage in [
            &b""[..],
            b"\0",
            b"\x00\x03\x00",
            b"\x00\x01file\0octet\0",
            b"\x00\x04\x00\x01",
            b"\x00\x05",
            b"\x00\x06blksize\0",
            b"\x00\x06blksize\0x\0",
            b"\x00\x06blksize\x0070000\0",
            b"\x00\x06tsize\x00-1\0",
            b"\x00\x06tsize\x001\0tsize\x002\0",
            b"\x00\x06\xff\0\xff\0",
            b"\x00\x07",
        ] {
            assert_eq!(Packet::parse(garbage), None, "{garbage:?}");
        }
        let many = [&b"\x00\x06"[..], &b"x\x001\0".repeat(MOST_OPTIONS)].concat();
        assert_eq!(Packet::parse(&many), None);
    }
}
