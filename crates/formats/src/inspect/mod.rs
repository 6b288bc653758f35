//! What the bytes of an image say that an opened image no longer shows: other formats it could be taken for, the files it names,
//! contradictions.
//!
//! ```text
//!  file ── signatures ─▶ formats ── look of the format ─▶ references · features · findings ── policy ─▶ refused codes
//! ```
//!
//! Nothing here opens a file, and nothing is believed: fields are told as they are stored. An image that its driver refuses is
//! looked at like any other.
//!
//! Bounds: what is read is at most [`HEAD`] and [`TAIL`] bytes of the file, and one header, descriptor or table entry at a time.
mod links;
mod policy;
pub mod signature;

pub use crate::inspection::{Code, Feature, Finding, Kind, Reference, Seen};
pub use policy::{Measure, POLICIES, Policy, PolicyError};
pub use signature::{Class, Signature, filesystem};

use crate::inspection::read;
use block::{Node, Result};
use rt::BoxFuture;
use std::sync::Arc;

/// How much of the start of a file the signatures look at, in bytes: the superblock of btrfs is the farthest.
pub const HEAD: u64 = 68 << 10;
/// How much of its end.
pub const TAIL: u64 = 1 << 10;

/// What the bytes of a file say.
#[derive(Debug, Clone, Default)]
pub struct Inspection {
    /// What the file could be taken for.
    pub signatures: Vec<&'static Signature>,
    /// What was seen of it as an image.
    pub seen: Seen,
}

/// Adds to what was seen of an image what the disk that it shows begins with.
pub fn note_disk(seen: &mut Seen, head: &[u8]) {
    for signature in signature::of(head, &[]).into_iter().filter(|found| found.class == Class::Image) {
        let text = format!("the disk begins like an image of the format '{}'", signature.name);
        seen.find(Code::NestedImage, text);
    }
}

/// What looks at the images of one format.
type Look = for<'a> fn(&'a Arc<Node>, &'a mut Seen) -> BoxFuture<'a, Result<()>>;

/// The formats whose images name files or carry marks.
const LOOKS: &[(&str, Look)] = &[
    ("qcow2", crate::qcow2::inspect::look),
    ("vmdk", crate::vmdk::inspect::look),
    ("qcow", links::qcow),
    ("qed", links::qed),
    ("cow", links::cow),
    ("vpc", links::vpc),
    ("vdi", links::vdi),
];

/// Looks at a file as an image of `format`. `given`: somebody said so, and it may be wrong; else its content was asked.
///
/// # Errors
/// When the file can't be read.
pub async fn inspect(file: &Arc<Node>, format: &str, given: bool) -> Result<Inspection> {
    let mut seen = Seen::default();
    let length = file.length();
    let head = read(file, 0, HEAD).await?;
    let tail = read(file, length.saturating_sub(TAIL), TAIL).await?;
    let signatures = signature::of(&head, &tail);
    if length == 0 {
        seen.find(Code::EmptyFile, "the file is empty");
    }
    judge_formats(&mut seen, &signatures, format, given);
    // Whatever it is said to be: who opens it without saying so takes it for what it looks like.
    for (name, look) in LOOKS {
        if *name == format || signatures.iter().any(|signature| signature.name == *name) {
            look(file, &mut seen).await?;
        }
    }
    Ok(Inspection { signatures, seen })
}

/// Compares what the file could be taken for with what it is opened as.
fn judge_formats(seen: &mut Seen, signatures: &[&'static Signature], format: &str, given: bool) {
    let images: Vec<_> = signatures.iter().copied().filter(|s| s.class == Class::Image).collect();
    let others: Vec<_> = images.iter().copied().filter(|s| s.name != format).collect();
    let names = |list: &[&Signature]| {
        let mut names: Vec<_> = list.iter().map(|s| s.name).collect();
        names.dedup();
        names.join(", ")
    };
    if given && !others.is_empty() && others.len() == images.len() {
        let text = format!("it is said to be of the format '{format}', and looks like: {}", names(&others));
        seen.find(Code::FormatMismatch, text);
    } else if !others.is_empty() {
        let text = format!("it is opened as '{format}', and could also be taken for: {}", names(&others));
        seen.find(Code::FormatAmbiguous, text);
    } else if given && images.is_empty() && signature::IMAGES.iter().any(|image| image.name == format) {
        let text = format!("it is said to be of the format '{format}', and does not begin like that");
        seen.find(Code::FormatMismatch, text);
    }
    let foreign: Vec<_> = signatures.iter().copied().filter(|s| s.class != Class::Image).collect();
    if let (false, Some(first)) = (images.is_empty(), foreign.first()) {
        // What of an image is at the place where others have their mark is up to who made the image.
        let text = format!("it is an image, and could also be taken for: {}", names(&foreign));
        seen.find_at(Code::Polyglot, first.offset, text);
    }
}
