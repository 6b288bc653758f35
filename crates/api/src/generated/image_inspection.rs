// Generated from schema/*.json by `cargo xtask generate`; edit the schema, not this file.
//! What an image that nobody vouches for would make a host open, as the tool tells it, and what is let in.

use crate::Dict;
use crate::codec::*;

/// Kinds of findings, which policies judge by: they never change their meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ImageFindingCode {
    /// The image names a backing file: what it does not hold is read from there.
    BackingFile,
    /// The image names a data file: its content is read from there, and written to it.
    DataFile,
    /// The image names a file that is a part of it.
    Extent,
    /// A name is absolute.
    AbsoluteName,
    /// A name leads out of the folder of the image.
    EscapingName,
    /// A name is one of a protocol, which may connect to another host.
    ProtocolName,
    /// A name is a list of options, which may name any files and hosts.
    JsonName,
    /// A name leads to a device or to an interface of the system (/dev, /proc, /sys).
    SystemName,
    /// It is not what it is said to be.
    FormatMismatch,
    /// It could be taken for images of several formats.
    FormatAmbiguous,
    /// The policy does not have its format.
    FormatNotAllowed,
    /// The policy does not have its kind of image inside of the format.
    SubformatNotAllowed,
    /// It is an image, and at the same time something else, such as an archive or an optical disc.
    Polyglot,
    /// The disk that it shows begins like an image.
    NestedImage,
    /// Feature bits are set that the specification has not.
    UnknownFeatures,
    /// Fields of the header contradict each other, or the specification.
    HeaderContradiction,
    /// Tables lie in each other.
    MetadataOverlap,
    /// A table lies beyond the end of the file.
    BeyondEnd,
    /// Bytes follow that belong to nothing in the image.
    TrailingData,
    /// The image is marked corrupt.
    CorruptMark,
    /// The image was not closed.
    Dirty,
    /// There are internal snapshots: disks beside the one that is shown.
    Snapshots,
    /// There are dirty bitmaps.
    Bitmaps,
    /// The content is encrypted.
    Encrypted,
    /// Where its tables are is told at the end of the file: who reads it as a stream can't know.
    Footer,
    /// The file is empty.
    EmptyFile,
    /// The disk is larger than the policy allows.
    TooLarge,
    /// It can't be opened.
    CannotOpen,
}

impl Enumeration for ImageFindingCode {
    const VALUES: &'static [(&'static str, Self)] = &[
        ("backing-file", Self::BackingFile),
        ("data-file", Self::DataFile),
        ("extent", Self::Extent),
        ("absolute-name", Self::AbsoluteName),
        ("escaping-name", Self::EscapingName),
        ("protocol-name", Self::ProtocolName),
        ("json-name", Self::JsonName),
        ("system-name", Self::SystemName),
        ("format-mismatch", Self::FormatMismatch),
        ("format-ambiguous", Self::FormatAmbiguous),
        ("format-not-allowed", Self::FormatNotAllowed),
        ("subformat-not-allowed", Self::SubformatNotAllowed),
        ("polyglot", Self::Polyglot),
        ("nested-image", Self::NestedImage),
        ("unknown-features", Self::UnknownFeatures),
        ("header-contradiction", Self::HeaderContradiction),
        ("metadata-overlap", Self::MetadataOverlap),
        ("beyond-end", Self::BeyondEnd),
        ("trailing-data", Self::TrailingData),
        ("corrupt-mark", Self::CorruptMark),
        ("dirty", Self::Dirty),
        ("snapshots", Self::Snapshots),
        ("bitmaps", Self::Bitmaps),
        ("encrypted", Self::Encrypted),
        ("footer", Self::Footer),
        ("empty-file", Self::EmptyFile),
        ("too-large", Self::TooLarge),
        ("cannot-open", Self::CannotOpen),
    ];
}
enumeration_codec!(ImageFindingCode);

/// Something that a policy may judge by.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageFinding {
    /// What kind it is.
    pub code: ImageFindingCode,
    /// What was found, for people.
    pub text: String,
    /// Where in the file.
    pub offset: Option<u64>,
    /// The policy refuses it.
    pub refused: bool,
}

impl Object for ImageFinding {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            code: from.required("code")?,
            text: from.required("text")?,
            offset: from.optional("offset")?,
            refused: from.required("refused")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("code", &self.code);
        to.put("text", &self.text);
        to.put_optional("offset", &self.offset);
        to.put("refused", &self.refused);
    }
}
object_codec!(ImageFinding);

/// What the mark of a file tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ImageSignatureClass {
    /// An image with a format of its own: what is opened without saying how is opened as this.
    Image,
    /// A disk: a partition table or a file system, as at the start of raw images.
    Disk,
    /// An archive, a compressed file or a program.
    File,
}

impl Enumeration for ImageSignatureClass {
    const VALUES: &'static [(&'static str, Self)] =
        &[("image", Self::Image), ("disk", Self::Disk), ("file", Self::File)];
}
enumeration_codec!(ImageSignatureClass);

/// What a file could be taken for.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageSignature {
    /// Its name.
    pub name: String,
    /// What that is.
    pub class: ImageSignatureClass,
    /// Where its mark stands.
    pub offset: u64,
}

impl Object for ImageSignature {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            name: from.required("name")?,
            class: from.required("class")?,
            offset: from.required("offset")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("name", &self.name);
        to.put("class", &self.class);
        to.put("offset", &self.offset);
    }
}
object_codec!(ImageSignature);

/// What a file is to the image that names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ImageReferenceKind {
    /// What the image does not hold is read from it.
    Backing,
    /// All content is in it.
    DataFile,
    /// It is a part of the image.
    Extent,
}

impl Enumeration for ImageReferenceKind {
    const VALUES: &'static [(&'static str, Self)] =
        &[("backing", Self::Backing), ("data-file", Self::DataFile), ("extent", Self::Extent)];
}
enumeration_codec!(ImageReferenceKind);

/// A file that an image names.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageReference {
    /// What it is to the image.
    pub kind: ImageReferenceKind,
    /// The name as it is stored.
    pub stored: String,
    /// The format that is stored with it.
    pub format: Option<String>,
    /// Where it leads, seen from the image: an absolute name, or one of a protocol.
    pub resolved: String,
    /// Who opens the image opens this.
    pub followed: bool,
    /// The protocol, where the name is one of a protocol.
    pub protocol: Option<String>,
    /// The name is absolute.
    pub absolute: bool,
    /// The name leads out of the folder of the image.
    pub escaping: bool,
    /// Where in the file the name stands.
    pub offset: Option<u64>,
}

impl Object for ImageReference {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            kind: from.required("kind")?,
            stored: from.required("stored")?,
            format: from.optional("format")?,
            resolved: from.required("resolved")?,
            followed: from.required("followed")?,
            protocol: from.optional("protocol")?,
            absolute: from.required("absolute")?,
            escaping: from.required("escaping")?,
            offset: from.optional("offset")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("kind", &self.kind);
        to.put("stored", &self.stored);
        to.put_optional("format", &self.format);
        to.put("resolved", &self.resolved);
        to.put("followed", &self.followed);
        to.put_optional("protocol", &self.protocol);
        to.put("absolute", &self.absolute);
        to.put("escaping", &self.escaping);
        to.put_optional("offset", &self.offset);
    }
}
object_codec!(ImageReference);

/// Sets of feature bits, by what a program does that does not know a bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ImageFeatureSet {
    /// It may not open the image.
    Incompatible,
    /// It may take no notice.
    Compatible,
    /// It clears the bit when it writes to the image.
    Autoclear,
}

impl Enumeration for ImageFeatureSet {
    const VALUES: &'static [(&'static str, Self)] = &[
        ("incompatible", Self::Incompatible),
        ("compatible", Self::Compatible),
        ("autoclear", Self::Autoclear),
    ];
}
enumeration_codec!(ImageFeatureSet);

/// A feature bit that is set.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageFeature {
    /// The set that it is of.
    pub set: ImageFeatureSet,
    /// Its number.
    pub bit: u32,
    /// What the specification calls it; nothing where it has no such bit.
    pub name: Option<String>,
}

impl Object for ImageFeature {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self { set: from.required("set")?, bit: from.required("bit")?, name: from.optional("name")? })
    }

    fn put(&self, to: &mut Dict) {
        to.put("set", &self.set);
        to.put("bit", &self.bit);
        to.put_optional("name", &self.name);
    }
}
object_codec!(ImageFeature);

/// What was seen of an image, and the verdict.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ImageInspection {
    /// Its name.
    pub filename: String,
    /// The format that was given, else that of its content.
    pub format: String,
    /// It was given.
    pub format_given: bool,
    /// The kind of image inside of the format, where it has several.
    pub subformat: Option<String>,
    /// Bytes of its file.
    pub file_length: u64,
    /// Bytes of its disk, if it can be opened.
    pub virtual_size: Option<u64>,
    /// Bytes that its file takes, if it can be opened.
    pub actual_size: Option<u64>,
    /// It is encrypted; there if it can be opened.
    pub encrypted: Option<bool>,
    /// What the file could be taken for.
    pub signatures: Vec<ImageSignature>,
    /// The files that it names.
    pub references: Vec<ImageReference>,
    /// The feature bits that are set, of qcow2.
    pub features: Vec<ImageFeature>,
    /// Internal snapshots, as the header counts them.
    pub snapshots: u64,
    /// Dirty bitmaps, as the header counts them.
    pub bitmaps: u64,
    /// What a policy may judge by.
    pub findings: Vec<ImageFinding>,
    /// The policy.
    pub policy: String,
    /// It lets the image in.
    pub allowed: bool,
    /// What it refuses.
    pub refused: Vec<ImageFindingCode>,
}

impl Object for ImageInspection {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            filename: from.required("filename")?,
            format: from.required("format")?,
            format_given: from.required("format-given")?,
            subformat: from.optional("subformat")?,
            file_length: from.required("file-length")?,
            virtual_size: from.optional("virtual-size")?,
            actual_size: from.optional("actual-size")?,
            encrypted: from.optional("encrypted")?,
            signatures: from.required("signatures")?,
            references: from.required("references")?,
            features: from.required("features")?,
            snapshots: from.required("snapshots")?,
            bitmaps: from.required("bitmaps")?,
            findings: from.required("findings")?,
            policy: from.required("policy")?,
            allowed: from.required("allowed")?,
            refused: from.required("refused")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put("filename", &self.filename);
        to.put("format", &self.format);
        to.put("format-given", &self.format_given);
        to.put_optional("subformat", &self.subformat);
        to.put("file-length", &self.file_length);
        to.put_optional("virtual-size", &self.virtual_size);
        to.put_optional("actual-size", &self.actual_size);
        to.put_optional("encrypted", &self.encrypted);
        to.put("signatures", &self.signatures);
        to.put("references", &self.references);
        to.put("features", &self.features);
        to.put("snapshots", &self.snapshots);
        to.put("bitmaps", &self.bitmaps);
        to.put("findings", &self.findings);
        to.put("policy", &self.policy);
        to.put("allowed", &self.allowed);
        to.put("refused", &self.refused);
    }
}
object_codec!(ImageInspection);

/// The policies that the tool has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ImagePolicyName {
    /// Nothing that makes a host open another file, or that two programs could understand in two ways.
    Default,
    /// What the image service of OpenStack lets in.
    Glance,
    /// What the compute service of OpenStack lets in.
    Nova,
    /// What the importer of KubeVirt lets in.
    Cdi,
    /// What Lima lets in.
    Lima,
}

impl Enumeration for ImagePolicyName {
    const VALUES: &'static [(&'static str, Self)] = &[
        ("default", Self::Default),
        ("glance", Self::Glance),
        ("nova", Self::Nova),
        ("cdi", Self::Cdi),
        ("lima", Self::Lima),
    ];
}
enumeration_codec!(ImagePolicyName);

/// A policy of the user's own, as a file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ImagePolicy {
    /// The policy that it changes. (default)
    pub base: Option<ImagePolicyName>,
    /// The formats that are let in.
    pub formats: Option<Vec<String>>,
    /// The kinds of vmdk that are let in.
    pub vmdk_types: Option<Vec<String>>,
    /// What is refused besides.
    pub refuse: Option<Vec<ImageFindingCode>>,
    /// What is not refused.
    pub allow: Option<Vec<ImageFindingCode>>,
    /// Bytes of the largest disk that is let in.
    pub max_virtual_size: Option<u64>,
}

impl Object for ImagePolicy {
    fn take(from: &mut Members<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            base: from.optional("base")?,
            formats: from.optional("formats")?,
            vmdk_types: from.optional("vmdk-types")?,
            refuse: from.optional("refuse")?,
            allow: from.optional("allow")?,
            max_virtual_size: from.optional("max-virtual-size")?,
        })
    }

    fn put(&self, to: &mut Dict) {
        to.put_optional("base", &self.base);
        to.put_optional("formats", &self.formats);
        to.put_optional("vmdk-types", &self.vmdk_types);
        to.put_optional("refuse", &self.refuse);
        to.put_optional("allow", &self.allow);
        to.put_optional("max-virtual-size", &self.max_virtual_size);
    }
}
object_codec!(ImagePolicy);
