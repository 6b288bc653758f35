//! What was seen of an image that nobody vouches for, as the look of each format tells it ([`crate::inspect`]).
//!
//! Nothing is believed: fields are told as they are stored.
mod reference;

pub use api::{ImageFeatureSet, ImageFindingCode as Code, ImageReferenceKind as Kind};
pub use reference::Reference;

use block::{Node, Result};
use rt::BufMut;

/// A feature bit that is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feature {
    /// The set that it is of.
    pub set: ImageFeatureSet,
    /// The bit's number.
    pub bit: u32,
    /// What the specification calls it; `None` where it has no such bit.
    pub name: Option<&'static str>,
}

/// Something that a policy may judge by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What kind it is.
    pub code: Code,
    /// What was found, for people.
    pub text: String,
    /// Where in the file.
    pub offset: Option<u64>,
}

/// What was seen of an image.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The kind of image inside of the format, where it has several.
    pub subformat: Option<String>,
    /// The files that the image names.
    pub references: Vec<Reference>,
    /// Its feature bits.
    pub features: Vec<Feature>,
    /// Internal snapshots, as its header counts them.
    pub snapshots: u64,
    /// Dirty bitmaps, as its header counts them.
    pub bitmaps: u64,
    /// What a policy may judge by.
    pub findings: Vec<Finding>,
}

impl Seen {
    pub(crate) fn find(&mut self, code: Code, text: impl Into<String>) {
        self.findings.push(Finding { code, text: text.into(), offset: None });
    }

    pub(crate) fn find_at(&mut self, code: Code, offset: u64, text: impl Into<String>) {
        self.findings.push(Finding { code, text: text.into(), offset: Some(offset) });
    }

    /// Takes note of a name, and of what speaks against it.
    pub(crate) fn note(&mut self, file: &Node, reference: Reference) {
        let reference = reference.resolved_from(file);
        for (code, text) in reference.faults() {
            self.findings.push(Finding { code, text, offset: reference.offset });
        }
        self.references.push(reference);
    }

    /// Adds the image below that its driver names, where the look of the format has not told of that name.
    pub fn note_below(&mut self, file: &Node, name: &str, format: Option<&str>) {
        let known = |told: &Reference| told.kind == Kind::Backing && told.stored == name;
        if !self.references.iter().any(known) {
            let format = format.map(str::to_owned);
            self.note(file, Reference { format, ..Reference::new(Kind::Backing, name.to_owned()) });
        }
    }

    /// Adds that its driver says that the content is encrypted.
    pub fn note_encryption(&mut self) {
        if self.findings.iter().all(|found| found.code != Code::Encrypted) {
            self.find(Code::Encrypted, "the content is encrypted");
        }
    }

    /// Adds that its driver can't open the image.
    pub fn note_refusal(&mut self, error: &block::BlockError) {
        let (code, text, offset) = (Code::CannotOpen, error.to_string(), error.offset());
        self.findings.push(Finding { code, text, offset });
    }
}

/// Reads what there is of a range.
pub(crate) async fn read(file: &Node, offset: u64, len: u64) -> Result<BufMut> {
    let len = len.min(file.length().saturating_sub(offset));
    let (bytes, result) = file.read(offset, BufMut::with_len(usize::try_from(len).unwrap_or(0))).await;
    result.map(|()| bytes)
}
