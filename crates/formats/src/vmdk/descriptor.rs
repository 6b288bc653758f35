//! The descriptor: lines of text that say what an image is, which files it consists of, and which image is below it.
//!
//! ```text
//!  CID=fffffffe          changes before the content does
//!  parentCID=ffffffff    that of the image below, when this one was made
//!  createType="monolithicFlat"
//!  RW 20480 FLAT "disk-flat.vmdk" 0
//!  ddb.adapterType = "ide"
//! ```
//!
//! It is a file of its own, or stands in the sparse file that it describes. Keys that mean nothing here stay as they are.
//!
//! Bounds: a descriptor has at most [`MOST`] bytes and [`MOST_EXTENTS`] extents.
//! Specification: VMware Virtual Disk Format 1.1, "The Descriptor File".
use block::BlockError;
use std::ops::Range;

/// Most bytes of a descriptor.
pub const MOST: u64 = 1 << 20;
/// Most extents of an image.
pub const MOST_EXTENTS: usize = 8192;
/// The parent's CID where there is no parent.
pub const NO_PARENT: u32 = 0xffff_ffff;

/// What a line says that names an extent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtentLine {
    /// It may be written to.
    pub writable: bool,
    /// Sectors of the disk.
    pub sectors: u64,
    /// Its kind.
    pub kind: LineKind,
    /// The name of its file, as it is stored; empty where there is none.
    pub name: String,
}

/// The kinds of extents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineKind {
    /// The bytes of the disk, from this sector of the file on; `vmfs`: by the name that ESX hosts have for it.
    Flat { sector: u64, vmfs: bool },
    /// A sparse file of hosted products.
    Sparse,
    /// A sparse file of older ESX hosts.
    VmfsSparse,
    /// A sparse file of today's ESX hosts.
    SeSparse,
    /// Zeroes, without a file.
    Zero,
}

impl LineKind {
    /// Its name in descriptors.
    pub fn name(self) -> &'static str {
        match self {
            Self::Flat { vmfs: false, .. } => "FLAT",
            Self::Flat { vmfs: true, .. } => "VMFS",
            Self::Sparse => "SPARSE",
            Self::VmfsSparse => "VMFSSPARSE",
            Self::SeSparse => "SESPARSE",
            Self::Zero => "ZERO",
        }
    }
}

/// A descriptor as it was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Descriptor {
    /// The content identifier.
    pub cid: u32,
    /// That of the image below.
    pub parent_cid: Option<u32>,
    /// The subformat.
    pub create_type: Option<String>,
    /// The name of the image below.
    pub parent: Option<String>,
    /// The extents, in the order of the disk.
    pub extents: Vec<ExtentLine>,
    /// The whole text.
    text: Vec<u8>,
    /// Where the value of CID stands in it.
    cid_at: Option<Range<usize>>,
}

impl Descriptor {
    /// Reads the text, up to a zero byte if there is one.
    pub fn parse(bytes: &[u8]) -> Result<Self, BlockError> {
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        let text = bytes.get(..end).unwrap_or_default();
        let mut descriptor = Self { text: text.to_vec(), ..Self::default() };
        let mut at = 0;
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            let start = at;
            at += line.len();
            let trimmed = line.trim_ascii();
            if trimmed.starts_with(b"#") {
                continue;
            }
            if let Some(extent) = extent_line(trimmed)? {
                if descriptor.extents.len() == MOST_EXTENTS {
                    let text = format!("the descriptor has more than {MOST_EXTENTS} extents");
                    return Err(BlockError::corrupt(text));
                }
                descriptor.extents.push(extent);
                continue;
            }
            let Some(equals) = line.iter().position(|byte| *byte == b'=') else { continue };
            let (key, value) = line.split_at_checked(equals).unwrap_or_default();
            let value = value.get(1..).unwrap_or_default();
            let offset = start + equals + 1;
            descriptor.take(key.trim_ascii(), value, offset);
        }
        Ok(descriptor)
    }

    /// Takes a key's value, which begins at `offset` of the text.
    fn take(&mut self, key: &[u8], value: &[u8], offset: usize) {
        let word = value.trim_ascii();
        let unquoted = || codec::filename::text(without_quotes(word));
        match key {
            b"CID" if self.cid_at.is_none() => {
                let space = value.len() - value.trim_ascii_start().len();
                let digits = word.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
                self.cid = hex(word).unwrap_or(0);
                self.cid_at = Some(offset + space..offset + space + digits);
            }
            b"parentCID" if self.parent_cid.is_none() => self.parent_cid = hex(word),
            b"createType" if self.create_type.is_none() => self.create_type = Some(unquoted()),
            b"parentFileNameHint" if self.parent.is_none() => {
                self.parent = Some(unquoted()).filter(|name| !name.is_empty());
            }
            _ => {}
        }
    }

    /// The image below that it names.
    pub fn named_parent(&self) -> Option<&String> {
        self.parent.as_ref().filter(|_| self.parent_cid != Some(NO_PARENT))
    }

    /// The whole text.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// The same descriptor with another content identifier; `None` where it has none.
    pub fn with_cid(&self, cid: u32) -> Option<Self> {
        let at = self.cid_at.clone()?;
        let digits = format!("{cid:08x}").into_bytes();
        let (mut text, end) = (self.text.clone(), at.start + digits.len());
        text.splice(at.clone(), digits);
        Some(Self { cid, text, cid_at: Some(at.start..end), ..self.clone() })
    }
}

/// Text without the quotation marks around it.
fn without_quotes(word: &[u8]) -> &[u8] {
    let front = word.strip_prefix(b"\"").unwrap_or(word);
    let end = front.iter().position(|byte| *byte == b'"').unwrap_or(front.len());
    front.get(..end).unwrap_or_default()
}

fn hex(word: &[u8]) -> Option<u32> {
    let digits: Vec<u8> = word.iter().copied().take_while(u8::is_ascii_hexdigit).collect();
    u32::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()
}

/// What a line says of an extent; `None`: it is no such line.
fn extent_line(line: &[u8]) -> Result<Option<ExtentLine>, BlockError> {
    let (access, rest) = word(line);
    let writable = match access {
        b"RW" => true,
        b"RDONLY" => false,
        b"NOACCESS" => return Err(invalid(line, "the extent may not be accessed")),
        _ => return Ok(None),
    };
    let ((sectors, rest), number) =
        (word(rest), |word: &[u8]| -> Option<u64> { std::str::from_utf8(word).ok()?.parse().ok() });
    let sectors = number(sectors).filter(|sectors| *sectors > 0 && *sectors <= i64::MAX as u64 / 512);
    let sectors = sectors.ok_or_else(|| invalid(line, "it tells no size"))?;
    let (kind, rest) = word(rest);
    let (name, rest) = match rest.trim_ascii_start().strip_prefix(b"\"") {
        Some(quoted) => {
            let end = quoted.iter().position(|byte| *byte == b'"');
            let end = end.ok_or_else(|| invalid(line, "the name has no end"))?;
            let (name, rest) = quoted.split_at_checked(end).unwrap_or_default();
            (Some(codec::filename::text(name)), rest.get(1..).unwrap_or_default())
        }
        None => (None, rest),
    };
    let last = rest.trim_ascii();
    let kind = match (kind, last.is_empty()) {
        (b"FLAT", false) => {
            let sector = number(last).filter(|sector| *sector <= i64::MAX as u64 / 512);
            LineKind::Flat { sector: sector.ok_or_else(|| invalid(line, "it tells no offset"))?, vmfs: false }
        }
        (b"VMFS", true) => LineKind::Flat { sector: 0, vmfs: true },
        (b"SPARSE", true) => LineKind::Sparse,
        (b"VMFSSPARSE", true) => LineKind::VmfsSparse,
        (b"SESPARSE", true) => LineKind::SeSparse,
        (b"ZERO", true) => LineKind::Zero,
        (b"FLAT" | b"VMFS" | b"SPARSE" | b"VMFSSPARSE" | b"SESPARSE" | b"ZERO", _) => {
            return Err(invalid(line, "it has too few or too many words"));
        }
        _ => return Err(BlockError::unsupported(format!("Unsupported extent type in '{}'", shown(line)))),
    };
    match name {
        Some(name) if !name.is_empty() => Ok(Some(ExtentLine { writable, sectors, kind, name })),
        None if kind == LineKind::Zero => {
            Ok(Some(ExtentLine { writable, sectors, kind, name: String::new() }))
        }
        _ => Err(invalid(line, "it names no file")),
    }
}

/// The first word of a line, and the rest.
fn word(line: &[u8]) -> (&[u8], &[u8]) {
    let line = line.trim_ascii_start();
    let end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
    line.split_at_checked(end).unwrap_or_default()
}

fn shown(line: &[u8]) -> String {
    String::from_utf8_lossy(line).chars().take(200).collect()
}

fn invalid(line: &[u8], why: &str) -> BlockError {
    BlockError::invalid(format!("Invalid extent line: {} ({why})", shown(line)))
}

/// The geometry of a disk, which old guests ask for: cylinders, heads, sectors.
pub fn geometry(sectors: u64, ide: bool) -> (u64, u64, u64) {
    let (heads, track) = if ide { (16, 63) } else { (255, 63) };
    (sectors / (heads * track), heads, track)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"# Disk DescriptorFile\nversion=1 \nCID=a454774a \nparentCID=0000000f\r\n\
        createType=\"twoGbMaxExtentFlat\"\nparentFileNameHint=\"b c.vmdk\"\n# Extent description\n\
        RW 4194304 FLAT \"a f001.vmdk\" 7\nRW 10 SPARSE \"s.vmdk\"\nRDONLY 4 ZERO\n\nddb.toolsVersion = \"9\"\n\0\0junk";

    #[test]
    fn a_descriptor_is_what_its_lines_say() {
        let read = Descriptor::parse(TEXT).unwrap();
        assert_eq!((read.cid, read.parent_cid), (0xa454_774a, Some(15)));
        assert_eq!(read.create_type.as_deref(), Some("twoGbMaxExtentFlat"));
        assert_eq!(read.parent.as_deref(), Some("b c.vmdk"));
        let line = |writable, sectors, kind, name: &str| ExtentLine {
            writable,
            sectors,
            kind,
            name: name.to_owned(),
        };
        let flat = LineKind::Flat { sector: 7, vmfs: false };
        let lines = [
            line(true, 4_194_304, flat, "a f001.vmdk"),
            line(true, 10, LineKind::Sparse, "s.vmdk"),
            line(false, 4, LineKind::Zero, ""),
        ];
        assert_eq!(read.extents, lines);
    }

    #[test]
    fn another_cid_changes_nothing_else() {
        let read = Descriptor::parse(TEXT).unwrap();
        let changed = read.with_cid(0x12).unwrap();
        assert_eq!(changed, Descriptor::parse(changed.text()).unwrap());
        let text = String::from_utf8(read.text().to_vec()).unwrap();
        assert_eq!(changed.text(), text.replace("a454774a", "00000012").as_bytes());
        let short = Descriptor::parse(b"CID= f\n").unwrap();
        assert_eq!(short.with_cid(1).unwrap().text(), b"CID= 00000001\n");
        assert!(Descriptor::parse(b"version=1\n").unwrap().with_cid(1).is_none());
    }

    #[test]
    fn a_line_that_is_no_extent_is_refused() {
        for line in [
            "RW 0 FLAT \"a\" 0",
            "RW -5 FLAT \"a\" 0",
            "RW 9223372036854775807 FLAT \"a\" 0",
            "RW 5 FLAT \"a\"",
            "RW 5 FLAT \"a\" -1",
            "RW 5 VMFS \"a\" 0",
            "RW 5 SPARSE \"a",
            "RW 5 SPARSE",
            "RW 5 FOO \"a\"",
            "NOACCESS 5 SPARSE \"a\"",
            "RW 12581888 VMFS \"dummy.vmdk\" 1",
        ] {
            assert!(Descriptor::parse(line.as_bytes()).is_err(), "{line}");
        }
    }
}
