//! `inspect`: what an image that nobody vouches for would make a host open, what else it could be taken for, and whether a policy lets
//! it in.
//!
//! Always in a confined process: see [`super::untrusted`]. Exit codes: 0 the policy lets the image in, 1 it could not be looked
//! at, 2 the policy refuses it, and those of a confined process.

use super::Call;
use super::untrusted::{self, Untrusted};
use crate::console::{Console, printable};
use crate::failure::Failure;
use crate::flags::{self, Output, has_parts};
use crate::getopt::{Flag, Table};
use crate::image::{self, Source};
use crate::usage::Manual;
use crate::{outln, runtime, size};
use api::{Encode, Enumeration, ImageFeature, ImageFinding, ImageInspection, ImageReference, ImageSignature};
use block::{Common, Graph, Node, Options, Policy as OpenPolicy};
use formats::inspect::{self, Code, Inspection, Measure, POLICIES, Policy, Seen, Signature};
use rt::BufMut;
use rt::confine::Access;
use std::sync::Arc;

/// The policy refuses the image.
const REFUSED: u8 = 2;
/// Most bytes of the file of a policy.
const MOST_POLICY: u64 = 1 << 20;

pub(super) const FLAGS: Table<Args> = &[
    &[
        Flag::help(),
        flags::format("-f --format", "format that it is said to be of; found by its content if left out"),
        Flag::take("--policy", "NAME|FILE", "what is let in (default); see below", |s, text| {
            s.policy = policy(text)?;
            Ok(())
        }),
        Flag::take("--max-virtual-size", "SIZE", "the largest disk that is let in", |s, text| {
            s.max_virtual_size = Some(super::bounded("virtual size", text, 0, i64::MAX as u64)?);
            Ok(())
        }),
        flags::force_share("look even while another process writes"),
        flags::output(),
    ],
    &untrusted::flags(),
];

const MANUAL: Manual = Manual {
    synopsis: "[-f FMT] [--policy=NAME|FILE] [--max-virtual-size=SIZE] [-U] [--output=human|json] FILE",
    about: "Tells what an image would make a host open, and whether a policy lets it in.",
    operands: &[("FILE", "the image")],
    examples: &[
        ("upload.qcow2", "exit code 0: let in; 2: refused"),
        ("-f qcow2 --policy=glance --output=json upload", "for a script, with the format that was declared"),
    ],
    notes: "Policies are default, glance, nova, cdi and lima, or a file with '/' or '.' in its name (docs/untrusted.md). \n\
            Nothing is opened but FILE, by a process that the kernel confines, whether or not --untrusted is given.",
};

#[derive(Debug)]
pub(super) struct Args {
    source: Source,
    policy: Option<Policy>,
    max_virtual_size: Option<u64>,
    output: Output,
    untrusted: Untrusted,
}

has_parts!(Args { source: Source, output: Output, untrusted: Untrusted });

impl Args {
    pub(super) fn new() -> Args {
        Args {
            source: Source::named(""),
            policy: None,
            max_virtual_size: None,
            output: Output::default(),
            untrusted: Untrusted::LOOK,
        }
    }
}

pub fn run(console: &mut Console, call: &Call) -> Result<u8, Failure> {
    let Some((mut args, operands)) = call.read(console, &MANUAL, FLAGS, Args::new())? else { return Ok(0) };
    args.source.name = super::one_image(&operands)?;
    let mut policy = match args.policy.take() {
        Some(policy) => policy,
        None => Policy::named(POLICIES[0]).map_err(Failure::new)?,
    };
    if let Some(size) = args.max_virtual_size {
        policy = policy.with_max_virtual_size(size);
    }
    let files = [(args.source.name.as_str(), Access::Read)];
    args.untrusted.always().run(console, &call.name, &files, |console| {
        let report = runtime::run(look(&args.source, &policy))??;
        match args.output {
            Output::Human => report.print(console),
            Output::Json => console.json(&report.told().encode()),
        }
        Ok(if report.refused.is_empty() { 0 } else { REFUSED })
    })
}

/// The policy of a name, or in a file.
fn policy(text: &str) -> Result<Option<Policy>, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::new(format_args!("--policy: {error}"));
    if !text.contains(['/', '.']) {
        return Policy::named(text).map(Some).map_err(|error| failed(&error));
    }
    let json = rt::fs::read_bounded(&rt::fs::path(text), MOST_POLICY)
        .and_then(|bytes| String::from_utf8(bytes).map_err(|_| std::io::ErrorKind::InvalidData.into()));
    let json = json.map_err(|error| failed(&format_args!("'{text}' can't be read: {error}")))?;
    Policy::parse(text, &json).map(Some).map_err(|error| failed(&format_args!("'{text}': {error}")))
}

/// What is told of an image.
struct Report {
    filename: String,
    format: String,
    /// Somebody said that it is of this format.
    given: bool,
    file_length: u64,
    /// Of an image that could be opened.
    opened: Option<Opened>,
    signatures: Vec<&'static Signature>,
    seen: Seen,
    policy: String,
    refused: Vec<Code>,
}

struct Opened {
    virtual_size: u64,
    actual_size: Option<u64>,
    encrypted: bool,
}

async fn look(source: &Source, policy: &Policy) -> Result<Report, Failure> {
    let cannot_open = |error| image::cannot_open(&source.name, &error);
    let graph = image::quiet_graph(&crate::object::given());
    let driver = graph.registry().plain_protocol(&source.name)?.name;
    let options = Options::new().with_str("driver", driver).with_str("filename", &source.name);
    let common = Common {
        read_only: true,
        without_content: true,
        force_share: source.force_share,
        ..Common::default()
    };
    let file = graph.open_with(options, common.clone(), OpenPolicy::DESCRIBE).await.map_err(cannot_open)?;
    let report = look_at(&graph, &file, common, source, policy).await;
    let closed = graph.release(&file).await;
    let report = report.map_err(cannot_open)?;
    closed?;
    Ok(report)
}

async fn look_at(
    graph: &Graph,
    file: &Arc<Node>,
    common: Common,
    source: &Source,
    policy: &Policy,
) -> Result<Report, block::BlockError> {
    let given = source.format.is_some();
    let format = match &source.format {
        Some(format) => format.clone(),
        None => graph.probe(file).await?.map_or_else(image::plain_format, |driver| driver.name).to_owned(),
    };
    let Inspection { signatures, mut seen } = inspect::inspect(file, &format, given).await?;
    let options = Options::new().with_str("driver", &format).with_str("file", file.name());
    let opened = match graph.open_with(options, common, OpenPolicy::DESCRIBE).await {
        Ok(image) => {
            let opened = look_inside(&image, file, &mut seen).await;
            graph.release(&image).await?;
            Some(opened)
        }
        Err(error) => {
            seen.note_refusal(&error);
            None
        }
    };
    let virtual_size = opened.as_ref().map(|opened| opened.virtual_size);
    let refused = policy.judge(&mut seen, Measure { format: &format, virtual_size });
    Ok(Report {
        filename: file.filename(),
        format,
        given,
        file_length: file.length(),
        opened,
        signatures,
        seen,
        policy: policy.name.clone(),
        refused,
    })
}

/// Looks at an open image: what its driver tells, and what the disk begins with.
async fn look_inside(image: &Arc<Node>, file: &Node, seen: &mut Seen) -> Opened {
    let info = image.driver().info();
    if let Some(name) = &info.backing_filename {
        seen.note_below(file, name, info.backing_format.as_deref());
    }
    // The disk of a raw image is the file, whose marks are known.
    if !info.encrypted && !image.facts().transparent {
        let len = image.length().min(inspect::HEAD);
        let (head, result) = image.read(0, BufMut::with_len(len as usize)).await;
        // What can't be read, as a disk whose parts are in other files, begins like nothing.
        if result.is_ok() {
            inspect::note_disk(seen, &head);
        }
    }
    if info.encrypted {
        seen.note_encryption();
    }
    Opened { virtual_size: image.length(), actual_size: image.allocated_size(), encrypted: info.encrypted }
}

impl Report {
    fn told(&self) -> ImageInspection {
        let Report { seen, opened, refused, .. } = self;
        ImageInspection {
            filename: self.filename.clone(),
            format: self.format.clone(),
            format_given: self.given,
            subformat: seen.subformat.clone(),
            file_length: self.file_length,
            virtual_size: opened.as_ref().map(|opened| opened.virtual_size),
            actual_size: opened.as_ref().and_then(|opened| opened.actual_size),
            encrypted: opened.as_ref().map(|opened| opened.encrypted),
            signatures: self.signatures.iter().map(|mark| signature(mark)).collect(),
            references: seen.references.iter().map(reference).collect(),
            features: seen.features.iter().map(feature).collect(),
            snapshots: seen.snapshots,
            bitmaps: seen.bitmaps,
            findings: seen.findings.iter().map(|found| self.finding(found)).collect(),
            policy: self.policy.clone(),
            allowed: refused.is_empty(),
            refused: refused.clone(),
        }
    }

    fn finding(&self, found: &inspect::Finding) -> ImageFinding {
        let inspect::Finding { code, text, offset } = found.clone();
        ImageFinding { code, text, offset, refused: self.refused.contains(&code) }
    }

    fn print(&self, console: &mut Console) {
        let said = if self.given { "as it was said" } else { "as its content says" };
        outln!(console, "image: {}", printable(&self.filename));
        outln!(console, "format: {} ({said})", printable(&self.format));
        if let Some(subformat) = &self.seen.subformat {
            outln!(console, "kind: {}", printable(subformat));
        }
        outln!(console, "file length: {} ({} bytes)", size::human(self.file_length), self.file_length);
        if let Some(Opened { virtual_size, .. }) = self.opened {
            outln!(console, "virtual size: {} ({virtual_size} bytes)", size::human(virtual_size));
        }
        for mark in &self.signatures {
            outln!(console, "looks like: {} ({}, at {:#x})", mark.name, mark.class.name(), mark.offset);
        }
        for reference in &self.seen.references {
            let (kind, stored) = (reference.kind.name(), printable(&reference.stored));
            let what = if reference.followed { "would be opened" } else { "is not opened" };
            outln!(console, "names: {kind} '{stored}', which {what}: '{}'", printable(&reference.resolved));
        }
        for feature in &self.seen.features {
            let name = feature.name.unwrap_or("unknown");
            outln!(console, "feature: {name} ({}, bit {})", feature.set.name(), feature.bit);
        }
        for found in &self.seen.findings {
            let verdict = if self.refused.contains(&found.code) { "REFUSED" } else { "found" };
            let place = found.offset.map(|offset| format!(" at {offset:#x}")).unwrap_or_default();
            outln!(console, "{verdict}: {}{place}: {}", found.code.name(), printable(&found.text));
        }
        let verdict = if self.refused.is_empty() { "lets it in" } else { "refuses it" };
        outln!(console, "policy '{}': {verdict}", self.policy);
    }
}

fn signature(mark: &Signature) -> ImageSignature {
    ImageSignature { name: mark.name.to_owned(), class: mark.class, offset: mark.offset }
}

fn reference(reference: &inspect::Reference) -> ImageReference {
    let protocol = reference.protocol().map(str::to_owned);
    let (absolute, escaping) = (reference.is_absolute(), reference.is_escaping());
    let inspect::Reference { kind, stored, format, resolved, followed, offset } = reference.clone();
    ImageReference { kind, stored, format, resolved, followed, protocol, absolute, escaping, offset }
}

fn feature(feature: &inspect::Feature) -> ImageFeature {
    ImageFeature { set: feature.set, bit: feature.bit, name: feature.name.map(str::to_owned) }
}
