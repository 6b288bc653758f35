//! The procedures of NFS version 3 that a disk needs.
//!
//! Specification: RFC 1813, section 3.

use crate::limits;
use crate::rpc::Call;
use crate::status::Status;
use crate::xdr::{Malformed, Reader, Text, Xdr, layout, put_opaque};

/// The program.
pub const PROGRAM: u32 = 100_003;
/// Its version.
pub const VERSION: u32 = 3;
/// The port that servers have it on, unless a portmapper says otherwise.
pub const PORT: u16 = 2049;

/// A file or folder of a server, for as long as it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handle(Vec<u8>);

impl Handle {
    /// Of these bytes, if they are not too many.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (bytes.len() <= limits::HANDLE).then(|| Self(bytes.to_vec()))
    }
}

impl Xdr for Handle {
    fn put(&self, out: &mut Vec<u8>) {
        put_opaque(&self.0, out);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        from.opaque(limits::HANDLE).map(|bytes| Self(bytes.to_vec()))
    }
}

/// What a procedure comes to: what it answers, or a status with what is told all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome<T, F>(pub Result<T, (Status, F)>);

impl<T: Xdr, F: Xdr> Xdr for Outcome<T, F> {
    fn put(&self, out: &mut Vec<u8>) {
        match &self.0 {
            Ok(done) => {
                Status::OK.put(out);
                done.put(out);
            }
            Err((status, told)) => {
                status.put(out);
                told.put(out);
            }
        }
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self(match Status::take(from)? {
            Status::OK => Ok(T::take(from)?),
            status => Err((status, F::take(from)?)),
        }))
    }
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileType {
    /// A file with content.
    Regular,
    /// A folder.
    Folder,
    /// A block device of the server.
    BlockDevice,
    /// A character device of the server.
    CharacterDevice,
    /// A symbolic link.
    Link,
    /// A socket.
    Socket,
    /// A named pipe.
    Pipe,
}

impl FileType {
    const ALL: [Self; 7] = [
        Self::Regular,
        Self::Folder,
        Self::BlockDevice,
        Self::CharacterDevice,
        Self::Link,
        Self::Socket,
        Self::Pipe,
    ];
}

impl Xdr for FileType {
    fn put(&self, out: &mut Vec<u8>) {
        let number = Self::ALL.iter().position(|kind| kind == self).map_or(0, |at| at + 1);
        crate::xdr::put_length(number, out);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let value = u32::take(from)?;
        let at = (value as usize).checked_sub(1);
        let kind = at.and_then(|at| Self::ALL.get(at)).copied();
        kind.ok_or(Malformed::Unknown { what: "the type of a file", value })
    }
}

/// How durable a write is to be, or has become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stability {
    /// The server may keep it in memory until a commit.
    Unstable,
    /// The data, and what is needed to read them, are durable.
    Data,
    /// All of it is durable.
    File,
}

impl Xdr for Stability {
    fn put(&self, out: &mut Vec<u8>) {
        (*self as u32).put(out);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        match u32::take(from)? {
            0 => Ok(Self::Unstable),
            1 => Ok(Self::Data),
            2 => Ok(Self::File),
            value => Err(Malformed::Unknown { what: "how durable a write is", value }),
        }
    }
}

/// A number of the server that changes when it may have lost what was written and not committed.
pub type Verifier = [u8; 8];

/// What a caller may do with a file, as bits.
pub mod access {
    /// Read it.
    pub const READ: u32 = 0x01;
    /// Change what it holds.
    pub const MODIFY: u32 = 0x04;
    /// Let it grow.
    pub const EXTEND: u32 = 0x08;
}

layout! {
    /// A moment.
    Time {
        /// Since the start of 1970.
        seconds: u32,
        /// Beyond these seconds.
        nanoseconds: u32,
    }

    /// What is known of a file (`fattr3`).
    Attributes {
        /// What it is.
        kind: FileType,
        /// Permissions.
        mode: u32,
        /// How many names it has.
        links: u32,
        /// Owner.
        user: u32,
        /// Group.
        group: u32,
        /// Bytes that it holds.
        size: u64,
        /// Bytes that it takes on the disk.
        used: u64,
        /// Of a device its number, in two parts.
        device: [u8; 8],
        /// Its file system.
        file_system: u64,
        /// Its number there.
        number: u64,
        /// When it was read last.
        accessed: Time,
        /// When it was written to last.
        modified: Time,
        /// When its attributes changed last.
        changed: Time,
    }

    /// What was known of a file before it was changed.
    Before {
        /// Bytes that it held.
        size: u64,
        /// When it was written to last.
        modified: Time,
        /// When its attributes changed last.
        changed: Time,
    }

    /// A file before and after a change (`wcc_data`).
    Change {
        /// Before it.
        before: Option<Before>,
        /// After it.
        after: Option<Attributes>,
    }

    /// A name in a folder.
    Name {
        /// The folder.
        folder: Handle,
        /// The name.
        name: Text<{ limits::NAME }>,
    }

    /// `NFSPROC3_GETATTR`.
    GetAttributes {
        /// Of this file.
        file: Handle,
    }

    /// `NFSPROC3_SETATTR`.
    SetAttributes {
        /// Of this file.
        file: Handle,
        /// What is set.
        new: NewAttributes,
        /// Only where the file was changed last at this time.
        only_if: Option<Time>,
    }

    /// `NFSPROC3_LOOKUP`.
    Lookup {
        /// What is looked for.
        of: Name,
    }

    /// What a lookup finds.
    Found {
        /// The file.
        file: Handle,
        /// What is known of it.
        attributes: Option<Attributes>,
        /// What is known of the folder.
        folder: Option<Attributes>,
    }

    /// `NFSPROC3_ACCESS`.
    Access {
        /// To this file.
        file: Handle,
        /// What is wanted, as bits of [`access`].
        wanted: u32,
    }

    /// What may be done.
    Allowed {
        /// What is known of the file.
        attributes: Option<Attributes>,
        /// Those bits of the wanted ones that are allowed.
        allowed: u32,
    }

    /// `NFSPROC3_READLINK`.
    ReadLink {
        /// The link.
        link: Handle,
    }

    /// Where a symbolic link leads.
    Target {
        /// What is known of the link.
        attributes: Option<Attributes>,
        /// A path.
        path: Text<{ limits::PATH }>,
    }

    /// `NFSPROC3_READ`.
    Read {
        /// From this file.
        file: Handle,
        /// From this byte on.
        offset: u64,
        /// So many bytes at most.
        count: u32,
    }

    /// What a read answers, without the bytes that follow.
    ReadDone {
        /// What is known of the file.
        attributes: Option<Attributes>,
        /// How many bytes there are.
        count: u32,
        /// They reach to the end of the file.
        is_end: bool,
        /// The length of the bytes that follow; the same again.
        len: u32,
    }

    /// `NFSPROC3_WRITE`, without the length and the bytes that follow.
    Write {
        /// To this file.
        file: Handle,
        /// From this byte on.
        offset: u64,
        /// So many bytes.
        count: u32,
        /// How durable they are to be.
        stability: Stability,
    }

    /// What a write answers.
    WriteDone {
        /// The file before and after it.
        change: Change,
        /// Bytes that were written.
        count: u32,
        /// How durable they are.
        stability: Stability,
        /// It tells whether the server may have lost them later.
        verifier: Verifier,
    }

    /// `NFSPROC3_CREATE` of a regular file.
    Create {
        /// Its name.
        at: Name,
        /// What if there is one.
        how: CreateHow,
        /// What it is to be.
        new: NewAttributes,
    }

    /// What was created.
    Created {
        /// The file.
        file: Option<Handle>,
        /// What is known of it.
        attributes: Option<Attributes>,
        /// The folder before and after it.
        folder: Change,
    }

    /// `NFSPROC3_REMOVE`.
    Remove {
        /// The name that is taken away.
        of: Name,
    }

    /// `NFSPROC3_FSINFO`.
    FileSystemInfo {
        /// A file or folder of the file system.
        of: Handle,
    }

    /// What a server takes.
    Info {
        /// What is known of the file or folder that was named.
        attributes: Option<Attributes>,
        /// Most bytes of a read.
        read_most: u32,
        /// Best size of a read.
        read_best: u32,
        /// Its unit.
        read_unit: u32,
        /// Most bytes of a write.
        write_most: u32,
        /// Best size of a write.
        write_best: u32,
        /// Its unit.
        write_unit: u32,
        /// Best size of a read of a folder.
        folder_best: u32,
        /// Most bytes of a file.
        file_most: u64,
        /// How exact times are.
        time_step: Time,
        /// Further facts, as bits.
        properties: u32,
    }

    /// `NFSPROC3_COMMIT`.
    Commit {
        /// Of this file.
        file: Handle,
        /// From this byte on.
        offset: u64,
        /// So many bytes; 0: all of them.
        count: u32,
    }

    /// What a commit answers.
    CommitDone {
        /// The file before and after it.
        change: Change,
        /// What was written with this verifier is durable.
        verifier: Verifier,
    }
}

/// What of a file is set; the rest stays as it is (`sattr3`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NewAttributes {
    /// Permissions.
    pub mode: Option<u32>,
    /// Bytes that it holds.
    pub size: Option<u64>,
}

impl Xdr for NewAttributes {
    fn put(&self, out: &mut Vec<u8>) {
        self.mode.put(out);
        // Owner and group.
        [false; 2].iter().for_each(|set| set.put(out));
        self.size.put(out);
        // Times.
        [0u32; 2].iter().for_each(|how| how.put(out));
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mode = Xdr::take(from)?;
        let _owner: (Option<u32>, Option<u32>) = (Xdr::take(from)?, Xdr::take(from)?);
        let size = Xdr::take(from)?;
        for _ in 0..2 {
            match u32::take(from)? {
                0 | 1 => {}
                2 => {
                    Time::take(from)?;
                }
                value => return Err(Malformed::Unknown { what: "how a time is set", value }),
            }
        }
        Ok(Self { mode, size })
    }
}

/// What becomes of a file that is there already when one is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CreateHow {
    /// It is taken.
    Unchecked,
    /// It is an error.
    Guarded,
}

impl Xdr for CreateHow {
    fn put(&self, out: &mut Vec<u8>) {
        (*self as u32).put(out);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        match u32::take(from)? {
            0 => Ok(Self::Unchecked),
            1 => Ok(Self::Guarded),
            value => Err(Malformed::Unknown { what: "how a file is created", value }),
        }
    }
}

/// The procedures: number, name, and what each answers.
/// Asks for nothing: a server without this version of the program says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Null;

impl Xdr for Null {
    fn put(&self, _: &mut Vec<u8>) {}

    fn take(_: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self)
    }
}

impl Call for Null {
    const PROGRAM: u32 = PROGRAM;
    const VERSION: u32 = VERSION;
    const PROCEDURE: u32 = 0;
    const NAME: &'static str = "NULL";
    type Reply = ();
}

macro_rules! procedures {
    ($($call:ident = $number:literal $name:literal -> $done:ty, $failed:ty;)*) => {$(
        impl Call for $call {
            const PROGRAM: u32 = PROGRAM;
            const VERSION: u32 = VERSION;
            const PROCEDURE: u32 = $number;
            const NAME: &'static str = $name;
            type Reply = Outcome<$done, $failed>;
        }
    )*};
}

procedures! {
    GetAttributes = 1 "GETATTR" -> Attributes, ();
    SetAttributes = 2 "SETATTR" -> Change, Change;
    Lookup = 3 "LOOKUP" -> Found, Option<Attributes>;
    Access = 4 "ACCESS" -> Allowed, Option<Attributes>;
    ReadLink = 5 "READLINK" -> Target, Option<Attributes>;
    Read = 6 "READ" -> ReadDone, Option<Attributes>;
    Write = 7 "WRITE" -> WriteDone, Change;
    Create = 8 "CREATE" -> Created, Change;
    Remove = 12 "REMOVE" -> Change, Change;
    FileSystemInfo = 19 "FSINFO" -> Info, Option<Attributes>;
    Commit = 21 "COMMIT" -> CommitDone, Change;
}
