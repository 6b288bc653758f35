//! The registry: which drivers there are, what they are called, and how they are opened and created.
//!
//! A wing lists its drivers in one constant; the program joins the lists. The core finds drivers by name, by a
//! file name's prefix, or by what a file's start looks like.
use crate::create::{Claimer, CreateOption, Creator};
use crate::error::{BlockError, Result};
use crate::open::{OpenContext, Opened};
use crate::options::Options;
use api::codec::Object;
use rt::BoxFuture;
use std::sync::Arc;

/// Where a driver stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriverKind {
    /// Interprets a file child.
    Format,
    /// Reaches storage.
    Protocol,
    /// Changes or watches requests.
    Filter,
}

/// The file names without a protocol's prefix that a driver is for.
#[derive(Debug, Clone, Copy)]
pub enum PlainNames {
    /// None.
    None,
    /// Those that the function knows.
    Some(fn(&str) -> bool),
    /// All others.
    Others,
}

/// How much of a file's start a probe sees, in bytes.
pub const PROBE_BYTES: usize = 512;

/// What a probe sees of a file.
#[derive(Debug, Clone, Copy)]
pub struct Glimpse<'a> {
    /// The first [`PROBE_BYTES`], or what there is of them.
    pub head: &'a [u8],
    /// The file's name.
    pub filename: &'a str,
}

/// What opens a driver.
pub trait Opener: Sync {
    /// Reads the driver's own options, leaves those of its children to the context, and opens it.
    fn open<'a>(&self, context: &'a mut OpenContext) -> Result<BoxFuture<'a, Result<Opened>>>;

    /// Whether it opens anything: not where its name is known only so that it can be refused with the reason.
    fn is_there(&self) -> bool {
        true
    }
}

/// Opens a driver whose own options, beside those of its children, are of the schema's type `O`.
pub struct Open<O>(pub for<'a> fn(&'a mut OpenContext, O) -> BoxFuture<'a, Result<Opened>>);

impl<O: Object> Opener for Open<O> {
    fn open<'a>(&self, context: &'a mut OpenContext) -> Result<BoxFuture<'a, Result<Opened>>> {
        let own = context.given.take_typed()?;
        Ok(self.0(context, own))
    }
}

/// Opens nothing: there is a name, and no more.
struct NotYet;

impl Opener for NotYet {
    fn open<'a>(&self, _: &'a mut OpenContext) -> Result<BoxFuture<'a, Result<Opened>>> {
        Err(BlockError::unsupported("images of this format can't be opened yet"))
    }
}

/// One driver. What it has not, it leaves to [`DriverType::FORMAT`] and its like: `..DriverType::FORMAT`.
pub struct DriverType {
    /// Its name, as in `driver=`.
    pub name: &'static str,
    /// Where it stands.
    pub kind: DriverKind,
    /// How sure it is (1–100, 0: not mine) that a file that looks so is its own.
    pub probe: Option<fn(&Glimpse<'_>) -> u32>,
    /// Prefixes of file names that mean this protocol, each with its colon.
    pub prefixes: &'static [&'static str],
    /// Which file names without a prefix it is for.
    pub plain_names: PlainNames,
    /// It shows any bytes as a disk, where its option `offset` is given from there on: what no format recognises is taken
    /// for one of its images, and new images are of it where nothing else is said.
    pub fallback: bool,
    /// Only jobs make nodes of it, as filters over others: options can't name it.
    pub internal: bool,
    /// Its nodes are called as what they filter: what they are is nothing that a name could say.
    pub unnamed: bool,
    /// Overlays that a program makes for itself are images of it.
    pub overlay: bool,
    /// A filter that copies what is read from backing images into the image: programs put it over an image for which that
    /// is asked.
    pub copies_on_read: bool,
    /// Turns a file name into options (without `driver`).
    pub parse_filename: Option<fn(&str) -> Result<Options>>,
    /// Turns what is older than the schema, or is not in it, into what the schema has; or refuses it by name.
    pub adapt: Option<fn(&mut Options) -> Result<()>>,
    /// Opens it: an [`Open`] with the function that does.
    pub open: &'static dyn Opener,
    /// Makes images: a [`crate::Create`].
    pub create: Option<&'static dyn Creator>,
    /// Makes the file for an image, where there is none yet (protocols that can): a [`crate::ClaimPlace`].
    pub claim: Option<&'static dyn Claimer>,
    /// The names of the options that `create` takes, in the order in which they are told.
    pub create_options: &'static [CreateOption],
    /// The names of the options that `amend` takes, in the order in which they are told; none: it can't.
    pub amend_options: &'static [CreateOption],
    /// Whether images of it may have a backing file.
    pub supports_backing: bool,
    /// Whether data can be stored compressed in images of it ([`crate::Facts::can_compress`]).
    pub supports_compression: bool,
    /// Whether an image made with these options is written as one stream ([`crate::Facts::must_compress`]).
    pub streams: fn(&Options) -> bool,
}

impl DriverType {
    /// A format that has nothing yet.
    pub const FORMAT: Self = Self {
        name: "",
        kind: DriverKind::Format,
        probe: None,
        prefixes: &[],
        plain_names: PlainNames::None,
        fallback: false,
        internal: false,
        unnamed: false,
        overlay: false,
        copies_on_read: false,
        parse_filename: None,
        adapt: None,
        open: &NotYet,
        create: None,
        claim: None,
        create_options: &[],
        amend_options: &[],
        supports_backing: false,
        supports_compression: false,
        streams: |_| false,
    };
    /// A protocol that has nothing yet.
    pub const PROTOCOL: Self = Self { kind: DriverKind::Protocol, ..Self::FORMAT };
    /// A filter that has nothing yet.
    pub const FILTER: Self = Self { kind: DriverKind::Filter, ..Self::FORMAT };

    /// Whether it opens files of this machine, by names without a prefix.
    pub fn is_of_plain_names(&self) -> bool {
        !matches!(self.plain_names, PlainNames::None)
    }

    /// The options in the words of the schema.
    pub(crate) fn adapted(&self, options: Options) -> Result<Options> {
        let mut options = options.nested();
        self.adapt.map_or(Ok(()), |adapt| adapt(&mut options))?;
        Ok(options)
    }
}

impl PartialEq for DriverType {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// All drivers of the program.
pub struct Registry {
    drivers: Vec<&'static DriverType>,
}

impl Registry {
    /// Joins the lists of the wings.
    pub fn new(lists: &[&'static [DriverType]]) -> Arc<Self> {
        Arc::new(Self { drivers: lists.iter().flat_map(|l| l.iter()).collect() })
    }

    /// All drivers, in order.
    pub fn drivers(&self) -> &[&'static DriverType] {
        &self.drivers
    }

    /// The names of those that open something, sorted.
    pub fn names(&self) -> Vec<&'static str> {
        let there = self.drivers.iter().filter(|driver| driver.open.is_there());
        let mut names: Vec<_> = there.map(|driver| driver.name).collect();
        names.sort_unstable();
        names
    }

    /// The driver of this name.
    pub fn find(&self, name: &str) -> Option<&'static DriverType> {
        self.drivers.iter().copied().find(|d| d.name == name)
    }

    /// The driver of this name, or an error that names it.
    pub fn need(&self, name: &str) -> Result<&'static DriverType> {
        self.find_or(name, |name| format!("Unknown driver '{name}'"))
    }

    /// The driver of this name, or an error that says what `unknown` says.
    pub fn find_or(&self, name: &str, unknown: impl FnOnce(&str) -> String) -> Result<&'static DriverType> {
        self.find(name).ok_or_else(|| BlockError::invalid(unknown(name)))
    }

    /// The protocol that a file name's prefix means. `Ok(None)`: a plain file name.
    pub fn protocol_of(&self, filename: &str) -> Result<Option<&'static DriverType>> {
        let Some(colon) = prefix_end(filename) else { return Ok(None) };
        let prefix = &filename[..=colon];
        match self.drivers.iter().find(|d| d.prefixes.iter().any(|p| filename.starts_with(p))) {
            Some(driver) => Ok(Some(driver)),
            None => Err(BlockError::invalid(format!("Unknown protocol '{}'", prefix.trim_end_matches(':')))),
        }
    }

    /// The protocol of a file name without a prefix.
    pub fn plain_protocol(&self, filename: &str) -> Result<&'static DriverType> {
        let known = |d: &&&DriverType| matches!(d.plain_names, PlainNames::Some(knows) if knows(filename));
        let others = |d: &&&DriverType| matches!(d.plain_names, PlainNames::Others);
        let found = self.drivers.iter().find(known).or_else(|| self.drivers.iter().find(others));
        found.copied().ok_or_else(|| BlockError::unsupported("there is no driver for plain file names"))
    }

    /// The format of what no format recognises.
    pub fn fallback(&self) -> Option<&'static DriverType> {
        self.drivers.iter().copied().find(|d| d.fallback)
    }

    /// The format of overlays that a program makes for itself.
    pub fn overlay(&self) -> Option<&'static DriverType> {
        self.drivers.iter().copied().find(|d| d.overlay)
    }

    /// The filter that copies on read.
    pub fn copies_on_read(&self) -> Option<&'static DriverType> {
        self.drivers.iter().find(|driver| driver.copies_on_read).copied()
    }

    /// The format that a file looks like; `None` when no driver is sure.
    pub fn probe(&self, seen: &Glimpse<'_>) -> Option<&'static DriverType> {
        let scored = self.drivers.iter().filter_map(|d| Some((d.probe?(seen), *d)));
        scored.filter(|(score, _)| *score > 0).max_by_key(|(score, _)| *score).map(|(_, d)| d)
    }
}

/// The position of a protocol prefix's colon: only letters, digits, `+`, `-`, `.` and `_` may stand before it, and a
/// slash before it makes the whole a path.
fn prefix_end(filename: &str) -> Option<usize> {
    let colon = filename.find(':')?;
    let before = &filename[..colon];
    let plain = before.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_'));
    (plain && !before.is_empty()).then_some(colon)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slash_before_the_colon_makes_a_path() {
        assert_eq!(prefix_end("nbd://host"), Some(3));
        assert_eq!(prefix_end("host_device:/dev/sda"), Some(11));
        assert_eq!(prefix_end("./a:b"), None);
        assert_eq!(prefix_end("a.img"), None);
        assert_eq!(prefix_end(":x"), None);
    }
}
