//! What goes over `/dev/fuse`: requests as they come, and replies as bytes. Numbers are in the machine's order.
//!
//! ```text
//! request:  length u32 · opcode u32 · unique u64 · node u64 · user, group, process u32 · 4 bytes │ arguments │ data
//! reply:    length u32 · -errno i32 · unique u64 │ results │ data
//! ```
//!
//! Specification: the kernel's `linux/fuse.h`, version 7.38; structures are named as there.

use block::BlockError;
use std::fmt;

/// Bytes of `fuse_in_header`.
const IN_HEADER: usize = 40;
/// Bytes of `fuse_out_header`.
pub(super) const OUT_HEADER: usize = 16;
/// Bytes of a request's header, and of the arguments of a write: its data begin there.
pub(super) const HEAD: usize = IN_HEADER + 40;
/// Bytes of the longest arguments that are looked at: `fuse_setattr_in`.
const ARGUMENTS: usize = 88;

/// Version of the protocol: of the larger minor versions only flags that the kernel offers are used.
const MAJOR: u32 = 7;
const MINOR: u32 = 38;

/// Most bytes of one read or write, and its pages of 4 KiB.
pub(super) const MOST_DATA: usize = 1 << 20;
const MOST_PAGES: u16 = 256;
/// Most requests that the kernel sends without waiting for their replies on behalf of nobody (direct I/O of several blocks,
/// read-ahead), and how many of them let it slow down.
const MOST_BACKGROUND: u16 = 128;
const CONGESTED: u16 = 96;

/// Offers of the kernel that are taken up.
mod init {
    pub const ASYNC_READ: u32 = 1;
    pub const ATOMIC_O_TRUNC: u32 = 1 << 3;
    pub const BIG_WRITES: u32 = 1 << 5;
    pub const ASYNC_DIO: u32 = 1 << 15;
    pub const MAX_PAGES: u32 = 1 << 22;
    pub const INIT_EXT: u32 = 1 << 30;
    pub const TAKEN: u32 = ASYNC_READ | ATOMIC_O_TRUNC | BIG_WRITES | ASYNC_DIO | MAX_PAGES | INIT_EXT;
    /// `FUSE_DIRECT_IO_ALLOW_MMAP`, of the second word.
    pub const MMAP: u32 = 1 << 4;
}

/// `FOPEN_DIRECT_IO` and `FOPEN_PARALLEL_DIRECT_WRITES`: nothing of the file is kept in the page cache, for it may change
/// otherwise than through this file.
const OPENED: u32 = 1 | 1 << 6;

/// `O_DSYNC`, which `O_SYNC` has too. The kernel leaves it to the file system where nothing goes through the page cache.
const DSYNC: u32 = 0o10_000;

/// Opcodes.
pub(super) mod op {
    pub const FORGET: u32 = 2;
    pub const GETATTR: u32 = 3;
    pub const SETATTR: u32 = 4;
    pub const OPEN: u32 = 14;
    pub const READ: u32 = 15;
    pub const WRITE: u32 = 16;
    pub const STATFS: u32 = 17;
    pub const RELEASE: u32 = 18;
    pub const FSYNC: u32 = 20;
    pub const FLUSH: u32 = 25;
    pub const INIT: u32 = 26;
    pub const DESTROY: u32 = 38;
    pub const BATCH_FORGET: u32 = 42;
    pub const FALLOCATE: u32 = 43;
    pub const LSEEK: u32 = 46;
}

/// What `fuse_setattr_in.valid` says is set.
pub(super) mod attr {
    pub const MODE: u32 = 1;
    pub const UID: u32 = 1 << 1;
    pub const GID: u32 = 1 << 2;
    pub const SIZE: u32 = 1 << 3;
    const FH: u32 = 1 << 6;
    const LOCKOWNER: u32 = 1 << 9;
    const CTIME: u32 = 1 << 10;
    const KILL_SUIDGID: u32 = 1 << 11;
    /// What comes along and changes nothing here.
    pub const IGNORED: u32 = FH | LOCKOWNER | CTIME | KILL_SUIDGID;
}

/// A request that failed, with the error number that its sender is told.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused(pub i32);

impl Refused {
    pub const NXIO: Self = Self(6);
    pub const IO: Self = Self(5);
    pub const ACCES: Self = Self(13);
    pub const PERM: Self = Self(1);
    pub const INVAL: Self = Self(22);
    pub const FBIG: Self = Self(27);
    pub const ROFS: Self = Self(30);
    pub const NOSYS: Self = Self(38);
    pub const PROTO: Self = Self(71);
    pub const OPNOTSUPP: Self = Self(95);
}

impl From<BlockError> for Refused {
    fn from(error: BlockError) -> Self {
        tracing::debug!(%error, "request failed");
        // Numbers beyond these are no replies to the kernel.
        Self(Some(error.errno()).filter(|errno| (1..512).contains(errno)).unwrap_or(Self::IO.0))
    }
}

impl fmt::Debug for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "errno {}", self.0)
    }
}

/// A request, without the data of a write.
#[derive(Clone, Copy)]
pub(super) struct Request {
    pub opcode: u32,
    /// What its reply names it by.
    pub unique: u64,
    /// What follows the header, zeroes where nothing does.
    arguments: [u8; ARGUMENTS],
}

impl Request {
    /// Reads a request of which `len` bytes have come, in two parts. Nothing where it is too short or contradicts itself.
    pub fn parse(head: &[u8; HEAD], rest: &[u8], len: usize) -> Option<Self> {
        if len < IN_HEADER || u32_at(head, 0) as usize != len {
            return None;
        }
        let opcode = u32_at(head, 4);
        let mut arguments = [0; ARGUMENTS];
        let (here, further) = (len.min(HEAD) - IN_HEADER, len.saturating_sub(HEAD));
        arguments.get_mut(..here)?.copy_from_slice(head.get(IN_HEADER..IN_HEADER + here)?);
        if opcode != op::WRITE {
            let further = further.min(ARGUMENTS - (HEAD - IN_HEADER));
            arguments.get_mut(HEAD - IN_HEADER..)?.get_mut(..further)?.copy_from_slice(rest.get(..further)?);
        }
        let request = Self { opcode, unique: u64_at(head, 8), arguments };
        // The data of a write are exactly what follows its arguments.
        (opcode != op::WRITE || request.size() == further).then_some(request)
    }

    /// Of a read, write, fallocate or lseek.
    pub fn offset(&self) -> u64 {
        u64_at(&self.arguments, 8)
    }

    /// Of a read or write, in bytes.
    pub fn size(&self) -> usize {
        u32_at(&self.arguments, 16) as usize
    }

    /// Of a write: whether it must be durable before its reply, by the file's flags or its own.
    pub fn is_durable(&self) -> bool {
        u32_at(&self.arguments, 32) & DSYNC != 0
    }

    /// Of an open: flags as `open` takes them.
    pub fn open_flags(&self) -> u32 {
        u32_at(&self.arguments, 0)
    }

    /// Of a fallocate: its length and mode.
    pub fn length_and_mode(&self) -> (u64, u32) {
        (u64_at(&self.arguments, 16), u32_at(&self.arguments, 24))
    }

    /// Of an lseek.
    pub fn whence(&self) -> u32 {
        u32_at(&self.arguments, 16)
    }

    /// Of a setattr.
    pub fn wanted(&self) -> Wanted {
        let at = |offset| u32_at(&self.arguments, offset);
        Wanted { valid: at(0), size: u64_at(&self.arguments, 16), mode: at(68), uid: at(76), gid: at(80) }
    }

    /// The reply to FUSE_INIT.
    pub fn init(&self) -> Result<Vec<u8>, Refused> {
        let at = |offset| u32_at(&self.arguments, offset);
        // A kernel with a later major version asks again with this one.
        if at(0) < MAJOR {
            return Err(Refused::PROTO);
        }
        let (offered, second) = (at(12), at(16));
        let second = if offered & init::INIT_EXT != 0 { second & init::MMAP } else { 0 };
        let mut out = Fields::default();
        out.u32(MAJOR).u32(MINOR).u32(at(8)).u32(offered & init::TAKEN);
        out.u16(MOST_BACKGROUND).u16(CONGESTED).u32(MOST_DATA as u32);
        // Times are in steps of 1 ns.
        out.u32(1).u16(MOST_PAGES).u16(0).u32(second).zeroes(28);
        Ok(out.0)
    }
}

/// What a setattr asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub valid: u32,
    pub size: u64,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

/// What is told of the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attributes {
    pub size: u64,
    pub allocated: u64,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds since 1970 of the last change.
    pub changed: u64,
}

/// Bytes that are best read or written at once.
const BLOCK: u32 = 4096;
/// Node number of the only file.
const ROOT: u64 = 1;

impl Attributes {
    /// `fuse_attr_out`. The kernel keeps nothing of it: the size may change.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Fields::default();
        out.u64(0).u64(0);
        out.u64(ROOT).u64(self.size).u64(self.allocated.div_ceil(512));
        out.u64(self.changed).u64(self.changed).u64(self.changed).zeroes(12);
        out.u32(self.mode).u32(1).u32(self.uid).u32(self.gid).u32(0).u32(BLOCK).u32(0);
        out.0
    }
}

/// `fuse_open_out`.
pub(super) fn opened() -> Vec<u8> {
    let mut out = Fields::default();
    out.u64(0).u32(OPENED).u32(0);
    out.0
}

/// `fuse_statfs_out`: blocks of 512 bytes, of which nothing is told, and names of 255 bytes.
pub(super) fn file_system() -> Vec<u8> {
    let mut out = Fields::default();
    out.zeroes(40).u32(512).u32(255).u32(512).zeroes(28);
    out.0
}

/// `fuse_write_out`.
pub(super) fn written(bytes: usize) -> Vec<u8> {
    let mut out = Fields::default();
    out.u32(bytes as u32).u32(0);
    out.0
}

/// `fuse_lseek_out`.
pub(super) fn position(offset: u64) -> Vec<u8> {
    offset.to_ne_bytes().to_vec()
}

/// The header of a reply with so many bytes behind it.
pub(super) fn reply_header(unique: u64, error: Option<Refused>, bytes: usize) -> [u8; OUT_HEADER] {
    let mut header = [0; OUT_HEADER];
    let length = (OUT_HEADER + bytes) as u32;
    header[..4].copy_from_slice(&length.to_ne_bytes());
    header[4..8].copy_from_slice(&error.map_or(0, |refused| -refused.0).to_ne_bytes());
    header[8..].copy_from_slice(&unique.to_ne_bytes());
    header
}

/// A structure that is written field by field.
#[derive(Default)]
struct Fields(Vec<u8>);

impl Fields {
    fn u16(&mut self, value: u16) -> &mut Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    fn zeroes(&mut self, bytes: usize) -> &mut Self {
        self.0.resize(self.0.len() + bytes, 0);
        self
    }
}

/// The number at `offset`; 0 beyond the end.
fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    let part = bytes.get(offset..offset + 4).and_then(|part| part.try_into().ok());
    u32::from_ne_bytes(part.unwrap_or_default())
}

/// The number at `offset`; 0 beyond the end.
fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    let part = bytes.get(offset..offset + 8).and_then(|part| part.try_into().ok());
    u64::from_ne_bytes(part.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(opcode: u32, arguments: &[u8], data: usize) -> ([u8; HEAD], Vec<u8>, usize) {
        let len = IN_HEADER + arguments.len() + data;
        let mut bytes = vec![0; len.max(HEAD)];
        bytes[..4].copy_from_slice(&(len as u32).to_ne_bytes());
        bytes[4..8].copy_from_slice(&opcode.to_ne_bytes());
        bytes[8..16].copy_from_slice(&77u64.to_ne_bytes());
        bytes[IN_HEADER..IN_HEADER + arguments.len()].copy_from_slice(arguments);
        let (head, rest) = bytes.split_at(HEAD);
        (head.try_into().unwrap_or([0; HEAD]), rest.to_vec(), len)
    }

    #[test]
    fn arguments_are_read_across_the_two_parts_of_a_request() {
        let mut arguments = [0; 88];
        arguments[..4].copy_from_slice(&(attr::SIZE | attr::MODE).to_ne_bytes());
        arguments[16..24].copy_from_slice(&4096u64.to_ne_bytes());
        arguments[68..72].copy_from_slice(&0o640u32.to_ne_bytes());
        let (head, rest, len) = request(op::SETATTR, &arguments, 0);
        let wanted = Request::parse(&head, &rest, len).map(|request| request.wanted());
        assert!(wanted.is_some_and(|w| (w.valid, w.size, w.mode) == (9, 4096, 0o640)), "{wanted:?}");
    }

    #[test]
    fn a_request_that_contradicts_itself_is_none() {
        let mut arguments = [0; 40];
        arguments[16..20].copy_from_slice(&512u32.to_ne_bytes());
        let (head, rest, len) = request(op::WRITE, &arguments, 512);
        assert!(Request::parse(&head, &rest, len).is_some_and(|r| (r.unique, r.size()) == (77, 512)));
        assert!(Request::parse(&head, &rest, len - 1).is_none(), "less has come than it says");
        assert!(Request::parse(&head, &rest, len).is_some_and(|write| !write.is_durable()));
        let mut durable = arguments;
        durable[32..36].copy_from_slice(&(DSYNC | 1).to_ne_bytes());
        let (head, rest, len) = request(op::WRITE, &durable, 512);
        assert!(Request::parse(&head, &rest, len).is_some_and(|write| write.is_durable()));
        let (head, rest, len) = request(op::WRITE, &arguments, 511);
        assert!(Request::parse(&head, &rest, len).is_none(), "its data are shorter than it says");
        assert!(Request::parse(&[0; HEAD], &[], 10).is_none(), "no header");
    }

    #[test]
    fn replies_have_the_sizes_of_the_kernels_structures() {
        let file = Attributes { size: 1, allocated: 1, mode: 0, uid: 0, gid: 0, changed: 0 };
        let sizes =
            [file.bytes().len(), opened().len(), file_system().len(), written(1).len(), position(0).len()];
        assert_eq!(sizes, [104, 16, 80, 8, 8]);
        let mut arguments = [0; 64];
        arguments[..4].copy_from_slice(&7u32.to_ne_bytes());
        let (head, rest, len) = request(op::INIT, &arguments, 0);
        let init = Request::parse(&head, &rest, len).map(|request| request.init().map(|bytes| bytes.len()));
        assert_eq!(init, Some(Ok(64)));
        assert_eq!(reply_header(5, Some(Refused::IO), 0)[..8], [16, 0, 0, 0, 251, 255, 255, 255]);
    }
}
