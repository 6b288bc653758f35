//! The codes by which a finding is known: they never change their meaning, and new ones may come.

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

macro_rules! codes {
    ($($(#[$doc:meta])+ $code:ident $name:literal)+) => {
        /// The kinds of findings.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $($(#[$doc])+ $code,)+
        }

        impl Code {
            /// All of them.
            pub const ALL: &[Code] = &[$(Code::$code),+];

            /// Its name in reports and in policies.
            pub fn name(self) -> &'static str {
                match self {
                    $(Code::$code => $name,)+
                }
            }
        }
    };
}

codes! {
    /// The image names a backing file: what it does not hold is read from there.
    BackingFile "backing-file"
    /// The image names a data file: its content is read from there, and written to it.
    DataFile "data-file"
    /// The image names a file that is a part of it.
    Extent "extent"
    /// A name is absolute.
    AbsoluteName "absolute-name"
    /// A name leads out of the folder of the image.
    EscapingName "escaping-name"
    /// A name is one of a protocol, which may connect to another host.
    ProtocolName "protocol-name"
    /// A name is a list of options (`json:`), which may name any files and hosts.
    JsonName "json-name"
    /// A name leads to a device or to an interface of the system (`/dev`, `/proc`, `/sys`).
    SystemName "system-name"
    /// It is not what it is said to be.
    FormatMismatch "format-mismatch"
    /// It could be taken for images of several formats.
    FormatAmbiguous "format-ambiguous"
    /// The policy does not have its format.
    FormatNotAllowed "format-not-allowed"
    /// The policy does not have its kind of image inside of the format.
    SubformatNotAllowed "subformat-not-allowed"
    /// It is an image, and at the same time something else, such as an archive or an optical disc.
    Polyglot "polyglot"
    /// The disk that it shows begins like an image.
    NestedImage "nested-image"
    /// Feature bits are set that the specification has not.
    UnknownFeatures "unknown-features"
    /// Fields of the header contradict each other, or the specification.
    HeaderContradiction "header-contradiction"
    /// Tables lie in each other.
    MetadataOverlap "metadata-overlap"
    /// A table lies beyond the end of the file.
    BeyondEnd "beyond-end"
    /// Bytes follow that belong to nothing in the image.
    TrailingData "trailing-data"
    /// The image is marked corrupt.
    CorruptMark "corrupt-mark"
    /// The image was not closed.
    Dirty "dirty"
    /// There are internal snapshots: disks beside the one that is shown.
    Snapshots "snapshots"
    /// There are dirty bitmaps.
    Bitmaps "bitmaps"
    /// The content is encrypted.
    Encrypted "encrypted"
    /// Where its tables are is told at the end of the file: who reads it as a stream can't know.
    Footer "footer"
    /// The file is empty.
    EmptyFile "empty-file"
    /// The disk is larger than the policy allows.
    TooLarge "too-large"
    /// It can't be opened.
    CannotOpen "cannot-open"
}

impl Code {
    /// The code of this name.
    pub fn of(name: &str) -> Option<Code> {
        Code::ALL.iter().copied().find(|code| code.name() == name)
    }
}
