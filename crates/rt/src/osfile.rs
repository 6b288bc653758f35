//! The operating system's files: inline calls by class, everything else as operations or on the blocking pool.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FallocateFlags, OFlags, SeekFrom, Stat};

use crate::blocking::blocking;
use crate::buf::{Buf, BufMut};
use crate::class::{self, Class, ClassCell, LOCAL_MAX, MEMORY_MAX, Quick};
use crate::file::{
    Allocate, Disc, File, FileExtent, FileKind, FileLayout, FileStat, OpenOptions, RawFile, Try,
};
use crate::op::{Action, Op};
use crate::perform::perform;
use crate::{BoxFuture, held, sys};

const BLKGETSIZE64: u64 = 0x8008_1272;
const BLKSSZGET: u64 = 0x1268;
const BLKDISCARD: u64 = 0x1277;
const BLKZEROOUT: u64 = 0x127f;
const BLKROGET: u64 = 0x125e;
/// Asks a CD drive for its state; the argument says which disc of a changer: the current one.
const CDROM_DRIVE_STATUS: u64 = 0x5326;
const CDSL_CURRENT: libc::c_int = libc::c_int::MAX;
const FS_IOC_GETFLAGS: u64 = 0x8008_6601;
const FS_IOC_SETFLAGS: u64 = 0x4008_6602;
const FS_NOCOW_FL: libc::c_int = 0x0080_0000;
const FS_IOC_FSGETXATTR: u64 = 0x801c_581f;
const FS_IOC_FSSETXATTR: u64 = 0x401c_5820;
const FS_XFLAG_EXTSIZE: u32 = 0x0800;
const FICLONERANGE: u64 = 0x4020_940d;
/// Words of the kernel's `struct file_clone_range`: descriptor, offset and length of the source, offset of the target.
type FileCloneRange = [u64; 4];
/// Words of the kernel's `struct fsxattr`: flags first, then the extent size.
type FileAttributes = [u32; 7];
/// All requests to devices and file systems that this module makes, but for sharing (FICLONERANGE): a confined process copies.
pub(crate) const REQUESTS: [u64; 10] = [
    BLKGETSIZE64,
    BLKSSZGET,
    BLKDISCARD,
    BLKZEROOUT,
    BLKROGET,
    CDROM_DRIVE_STATUS,
    FS_IOC_GETFLAGS,
    FS_IOC_SETFLAGS,
    FS_IOC_FSGETXATTR,
    FS_IOC_FSSETXATTR,
];
/// Those that change a file's attributes, for which a descriptor for reading suffices.
pub(crate) const ATTRIBUTES: [u64; 2] = [FS_IOC_SETFLAGS, FS_IOC_FSSETXATTR];
const PUNCH: FallocateFlags = FallocateFlags::PUNCH_HOLE.union(FallocateFlags::KEEP_SIZE);
/// What O_DIRECT asks for where nothing better is known.
const SAFE_ALIGNMENT: u32 = 4096;

struct OsFile {
    fd: Arc<OwnedFd>,
    kind: FileKind,
    alignment: u32,
    /// Threads do what waits, also where there is a ring.
    threads: bool,
    reads: ClassCell,
    writes: ClassCell,
    write_pace: Quick,
    /// Whether it lives on this machine, and how quick queries of its layout are.
    local: bool,
    query_pace: Quick,
}

/// What `path` is, links followed; waits where it must.
pub(crate) fn stat(path: &Path) -> io::Result<Stat> {
    if let Some(stat) = held::stat(path) {
        return stat;
    }
    match crate::fdset::of(path) {
        Some(set) => sys::fstat(crate::fdset::any(set)?.as_fd()),
        None => sys::stat(path),
    }
}

/// Opens a file as `fs::open` says, waiting where it must.
pub(crate) fn open(path: &Path, options: &OpenOptions) -> io::Result<File> {
    match stat(path) {
        Ok(stat) => refuse(kind_of(stat.st_mode))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound && (options.create || options.create_new) => {}
        Err(error) => return Err(error),
    }
    of_fd(open_fd(path, options)?, options)
}

/// What was opened with these options, without waiting.
pub(crate) fn of_fd(fd: OwnedFd, options: &OpenOptions) -> io::Result<File> {
    let stat = sys::fstat(fd.as_fd())?;
    let kind = kind_of(stat.st_mode);
    // Again: the name may lead to another file by now.
    refuse(kind)?;
    refuse_read_only_device(fd.as_fd(), kind, options)?;
    // Only the open itself had to be kept from waiting; a ring would take the flag as "never wait".
    sys::set_status_flags(fd.as_fd(), if options.direct { OFlags::DIRECT } else { OFlags::empty() })?;
    let magic = if kind == FileKind::Regular { sys::fs_magic(fd.as_fd())? } else { 0 };
    let (reads, writes) = class::classify(kind, magic, options.direct);
    let (local_class, _) = class::classify(kind, magic, false);
    let alignment = if options.direct { direct_alignment(fd.as_fd(), kind) } else { 1 };
    Ok(File::new(OsFile {
        fd: Arc::new(fd),
        kind,
        alignment,
        threads: options.threads,
        reads: ClassCell::new(reads),
        writes: ClassCell::new(writes),
        write_pace: Quick::default(),
        local: local_class != Class::Never,
        query_pace: Quick::default(),
    }))
}

fn open_fd(path: &Path, options: &OpenOptions) -> io::Result<OwnedFd> {
    let access = match (options.read, options.write) {
        (_, false) => OFlags::RDONLY,
        (false, true) => OFlags::WRONLY,
        (true, true) => OFlags::RDWR,
    };
    if let Some(fd) = held::open(path, options) {
        return fd;
    }
    if let Some(set) = crate::fdset::of(path) {
        return crate::fdset::open(set, access);
    }
    let mut flags = access | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::LARGEFILE;
    let wanted = [
        (options.create, OFlags::CREATE),
        (options.create_new, OFlags::CREATE | OFlags::EXCL),
        (options.truncate, OFlags::TRUNC),
        (options.direct, OFlags::DIRECT),
    ];
    flags |= wanted.iter().filter(|(set, _)| *set).fold(OFlags::empty(), |all, (_, flag)| all | *flag);
    sys::open(path, flags, 0o644).map_err(|error| {
        if options.direct && error.raw_os_error() == Some(libc::EINVAL) {
            let text = "its file system does not support O_DIRECT; open it with the page cache";
            return io::Error::new(io::ErrorKind::InvalidInput, text);
        }
        error
    })
}

/// Refuses what can only be read from start to end, if at all: FIFOs, sockets and directories.
pub(crate) fn refuse_unseekable(stat: &Stat) -> io::Result<()> {
    refuse(kind_of(stat.st_mode))
}

fn refuse(kind: FileKind) -> io::Result<()> {
    let (error, name) = match kind {
        FileKind::Directory => (io::ErrorKind::IsADirectory, "a directory"),
        FileKind::Fifo => (io::ErrorKind::InvalidInput, "a FIFO"),
        FileKind::Socket => (io::ErrorKind::InvalidInput, "a socket"),
        _ => return Ok(()),
    };
    Err(io::Error::new(error, format!("it is {name}; a regular file or a device is needed")))
}

fn kind_of(mode: u32) -> FileKind {
    match mode & libc::S_IFMT {
        libc::S_IFREG => FileKind::Regular,
        libc::S_IFBLK => FileKind::Block,
        libc::S_IFCHR => FileKind::Char,
        libc::S_IFDIR => FileKind::Directory,
        libc::S_IFIFO => FileKind::Fifo,
        libc::S_IFSOCK => FileKind::Socket,
        _ => FileKind::Other,
    }
}

/// The kernel's answer as [`FileStat`].
pub(crate) fn file_stat(stat: &Stat) -> FileStat {
    FileStat {
        kind: kind_of(stat.st_mode),
        len: u64::try_from(stat.st_size).unwrap_or(0),
        allocated: u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512),
        dev: stat.st_dev,
        ino: stat.st_ino,
        rdev: stat.st_rdev,
        mode: stat.st_mode,
        modified_ns: ns(stat.st_mtime, stat.st_mtime_nsec as i64),
        changed_ns: ns(stat.st_ctime, stat.st_ctime_nsec as i64),
    }
}

fn ns(seconds: i64, ns: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(ns)
}

/// What O_DIRECT demands of offsets, lengths and memory.
fn direct_alignment(fd: BorrowedFd<'_>, kind: FileKind) -> u32 {
    let told = sys::dio_alignment(fd);
    let sector = || match kind {
        FileKind::Block => {
            sys::ioctl_get::<libc::c_int>(fd, BLKSSZGET).ok().and_then(|n| u32::try_from(n).ok())
        }
        _ => None,
    };
    let found = told.or_else(sector).or_else(|| probe_alignment(fd));
    found.filter(|n| n.is_power_of_two()).unwrap_or(SAFE_ALIGNMENT)
}

/// The smallest length that the file lets us read at its start.
fn probe_alignment(fd: BorrowedFd<'_>) -> Option<u32> {
    let mut buf = BufMut::with_len(SAFE_ALIGNMENT as usize);
    [512u32, 1024, 2048, 4096].into_iter().find(|&n| {
        // An empty file answers 0 to any length, and proves nothing.
        buf.get_mut(..n as usize).is_some_and(|part| matches!(sys::pread(fd, 0, part), Ok(got) if got > 0))
    })
}

impl OsFile {
    fn op(&self, off: u64, moved: usize, action: Action) -> Arc<Op> {
        Arc::new(Op::new(self.fd.clone(), self.alignment, off, moved, action).by_thread(self.threads))
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// What an inline call's error means; `fallback` is the class to try next where this one is not supported.
    fn settle(result: io::Result<usize>, class: &ClassCell, fallback: Class) -> Try<usize> {
        match &result {
            Err(error) => match error.raw_os_error() {
                Some(libc::EAGAIN | libc::EINTR) => Try::WouldBlock,
                Some(libc::EOPNOTSUPP | libc::ENOSYS) if class.get() == Class::Nowait => {
                    class.set(fallback);
                    Try::WouldBlock
                }
                _ => Try::Done(result),
            },
            Ok(_) => Try::Done(result),
        }
    }

    /// Writes inline at the file's pace, so long as that is quick.
    fn write_paced(&self, off: u64, buf: &[u8]) -> Try<usize> {
        let start = sys::now_ns();
        if buf.len() > LOCAL_MAX || !self.write_pace.allows(start) {
            return Try::WouldBlock;
        }
        let result = sys::pwrite(self.fd(), off, buf);
        self.write_pace.note(start, sys::now_ns());
        Self::settle(result, &self.writes, Class::Never)
    }

    /// The rest of a write, of which `moved` bytes are done, as an operation.
    async fn write_waiting(&self, off: u64, moved: usize, buf: Buf, durable: bool) -> (Buf, io::Result<()>) {
        match perform(self.op(off, moved, Action::Write { buf, durable })).await {
            (Action::Write { buf, .. }, result) => (buf, result.map(drop)),
            (_, result) => (Buf::from_slice(&[]), result.map(drop)),
        }
    }

    /// A short system call: inline where that has been quick, else on the blocking pool.
    async fn query<T: Send + 'static>(&self, call: impl FnOnce(BorrowedFd<'_>) -> T + Send + 'static) -> T {
        let start = sys::now_ns();
        if self.is_memory() || (self.local && self.query_pace.allows(start)) {
            let answer = call(self.fd());
            self.query_pace.note(start, sys::now_ns());
            return answer;
        }
        let fd = self.fd.clone();
        blocking(move || call(fd.as_fd())).await
    }

    fn is_memory(&self) -> bool {
        self.writes.get() == Class::Memory
    }

    fn lock(
        &self,
        command: libc::c_int,
        kind: libc::c_int,
        start: u64,
        len: u64,
    ) -> io::Result<libc::flock64> {
        // SAFETY: all-zero is a valid `flock64`.
        let mut lock: libc::flock64 = unsafe { std::mem::zeroed() };
        lock.l_type = kind as libc::c_short;
        lock.l_whence = libc::SEEK_SET as libc::c_short;
        lock.l_start = sys::offset(start)?;
        lock.l_len = sys::offset(len)?;
        // SAFETY: `lock` lives during the call.
        sys::check(unsafe { libc::fcntl(self.fd.as_raw_fd(), command, &mut lock) })?;
        Ok(lock)
    }
}

/// Devices have calls of their own. What reads zero afterwards goes through `fallocate`, which frees only what the device promises
/// to read as zeroes; a plain discard promises nothing.
fn allocate_on_device(fd: BorrowedFd<'_>, mode: Allocate, off: u64, len: u64) -> io::Result<()> {
    match mode {
        Allocate::PunchHole => sys::fallocate(fd, PUNCH, off, len),
        Allocate::Discard => sys::ioctl_range(fd, BLKDISCARD, off, len),
        Allocate::ZeroRange => sys::ioctl_range(fd, BLKZEROOUT, off, len),
        // A device's space is always allocated.
        Allocate::Reserve | Allocate::ReserveKeepSize => Ok(()),
    }
}

/// Refuses to open a read-only device for writing: the kernel allows the open and fails the first write.
fn refuse_read_only_device(fd: BorrowedFd<'_>, kind: FileKind, options: &OpenOptions) -> io::Result<()> {
    let asked = kind == FileKind::Block && options.write;
    match asked && sys::ioctl_get::<libc::c_int>(fd, BLKROGET).is_ok_and(|read_only| read_only != 0) {
        true => Err(io::Error::from_raw_os_error(libc::EACCES)),
        false => Ok(()),
    }
}

/// What a CD drive says of its disc.
fn disc(fd: BorrowedFd<'_>) -> io::Result<Disc> {
    match sys::ioctl_number(fd, CDROM_DRIVE_STATUS, CDSL_CURRENT) {
        Ok(1) => Ok(Disc::Missing),
        Ok(2) => Ok(Disc::TrayOpen),
        Ok(3) => Ok(Disc::NotReady),
        Ok(_) => Ok(Disc::Present),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTTY | libc::EINVAL | libc::ENOSYS)) => {
            Err(io::ErrorKind::Unsupported.into())
        }
        Err(error) => Err(error),
    }
}

/// The major number of CD drives (Linux, admin-guide/devices: "SCSI CD-ROM devices").
const CD_DRIVES: libc::c_uint = 11;

/// Whether a CD drive has this name, with a disc or without; waits where it must. Other devices are not opened: their drivers may take
/// long, or wait for ever.
pub(crate) fn is_cd_drive(path: &Path) -> bool {
    let block = sys::stat(path)
        .is_ok_and(|stat| kind_of(stat.st_mode) == FileKind::Block && libc::major(stat.st_rdev) == CD_DRIVES);
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    block && sys::open(path, flags, 0).is_ok_and(|fd| disc(fd.as_fd()).is_ok())
}

fn lock_kind(exclusive: bool) -> libc::c_int {
    if exclusive { libc::F_WRLCK } else { libc::F_RDLCK }
}

impl RawFile for OsFile {
    fn try_read(&self, off: u64, buf: &mut [u8]) -> Try<usize> {
        match self.reads.get() {
            Class::Memory if buf.len() as u64 <= MEMORY_MAX => {
                Self::settle(sys::pread(self.fd(), off, buf), &self.reads, Class::Never)
            }
            Class::Nowait if buf.len() as u64 <= MEMORY_MAX => {
                Self::settle(sys::pread_nowait(self.fd(), off, buf), &self.reads, Class::Never)
            }
            _ => Try::WouldBlock,
        }
    }

    fn try_write(&self, off: u64, buf: &[u8]) -> Try<usize> {
        match self.writes.get() {
            Class::Memory if buf.len() as u64 <= MEMORY_MAX => {
                Self::settle(sys::pwrite(self.fd(), off, buf), &self.writes, Class::Never)
            }
            Class::Nowait if buf.len() as u64 <= MEMORY_MAX => {
                let answer =
                    Self::settle(sys::pwrite_nowait(self.fd(), off, buf), &self.writes, Class::Local);
                if self.writes.get() == Class::Local { self.write_paced(off, buf) } else { answer }
            }
            Class::Local => self.write_paced(off, buf),
            _ => Try::WouldBlock,
        }
    }

    fn read(&self, off: u64, mut buf: BufMut) -> BoxFuture<'_, (BufMut, io::Result<usize>)> {
        Box::pin(async move {
            let mut moved = 0;
            while moved < buf.len() {
                let rest = buf.get_mut(moved..).unwrap_or_default();
                match self.try_read(off.saturating_add(moved as u64), rest) {
                    Try::Done(Ok(0)) => return (buf, Ok(moved)),
                    Try::Done(Ok(n)) => moved += n,
                    Try::Done(Err(error)) => return (buf, Err(error)),
                    Try::WouldBlock => {
                        return match perform(self.op(off, moved, Action::Read(buf))).await {
                            (Action::Read(buf), result) => (buf, result),
                            (_, result) => (BufMut::with_len(0), result),
                        };
                    }
                }
            }
            (buf, Ok(moved))
        })
    }

    fn write(&self, off: u64, buf: Buf) -> BoxFuture<'_, (Buf, io::Result<()>)> {
        Box::pin(async move {
            let mut moved = 0;
            while moved < buf.len() {
                let rest = buf.get(moved..).unwrap_or_default();
                match self.try_write(off.saturating_add(moved as u64), rest) {
                    Try::Done(Ok(0)) => return (buf, Err(io::ErrorKind::WriteZero.into())),
                    Try::Done(Ok(n)) => moved += n,
                    Try::Done(Err(error)) => return (buf, Err(error)),
                    Try::WouldBlock => {
                        return self.write_waiting(off, moved, buf, false).await;
                    }
                }
            }
            (buf, Ok(()))
        })
    }

    fn write_durably(&self, off: u64, buf: Buf) -> BoxFuture<'_, (Buf, io::Result<()>)> {
        if self.is_memory() {
            return self.write(off, buf);
        }
        Box::pin(async move {
            // Others may take the flag and not heed it: a FUSE server is told of it, and may do as it likes.
            if !self.local || self.kind == FileKind::Char {
                return (buf, Err(io::ErrorKind::Unsupported.into()));
            }
            if buf.is_empty() {
                return (buf, Ok(()));
            }
            self.write_waiting(off, 0, buf, true).await
        })
    }

    fn sync(&self, data_only: bool) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            if self.is_memory() {
                return sys::sync(self.fd(), data_only);
            }
            // A character device like /dev/null stores nothing that could be made durable.
            if self.kind == FileKind::Char {
                return match sys::sync(self.fd(), data_only) {
                    Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
                    result => result,
                };
            }
            perform(self.op(0, 0, Action::Sync { data_only })).await.1.map(drop)
        })
    }

    fn allocate(&self, mode: Allocate, off: u64, len: u64) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            if self.kind == FileKind::Block {
                let fd = self.fd.clone();
                return blocking(move || allocate_on_device(fd.as_fd(), mode, off, len)).await;
            }
            let mode = match mode {
                Allocate::Reserve => FallocateFlags::empty(),
                Allocate::ReserveKeepSize => FallocateFlags::KEEP_SIZE,
                Allocate::PunchHole | Allocate::Discard => PUNCH,
                Allocate::ZeroRange => FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE,
            };
            if self.is_memory() && len <= MEMORY_MAX {
                return sys::fallocate(self.fd(), mode, off, len);
            }
            perform(self.op(off, 0, Action::Fallocate { mode, len })).await.1.map(drop)
        })
    }

    fn set_len(&self, len: u64) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            if self.is_memory() {
                return sys::ftruncate(self.fd(), len);
            }
            let fd = self.fd.clone();
            blocking(move || sys::ftruncate(fd.as_fd(), len)).await
        })
    }

    fn set_layout(&self, layout: FileLayout) -> io::Result<()> {
        match layout {
            FileLayout::NoCopyOnWrite => {
                let flags: libc::c_int = sys::ioctl_get(self.fd(), FS_IOC_GETFLAGS)?;
                sys::ioctl_set(self.fd(), FS_IOC_SETFLAGS, &(flags | FS_NOCOW_FL))?;
                // Where the file has data already, the flag is ignored without an error.
                let flags: libc::c_int = sys::ioctl_get(self.fd(), FS_IOC_GETFLAGS)?;
                if flags & FS_NOCOW_FL == 0 { Err(io::ErrorKind::Unsupported.into()) } else { Ok(()) }
            }
            FileLayout::ExtentSize(bytes) => {
                let [flags, _, rest @ ..]: FileAttributes = sys::ioctl_get(self.fd(), FS_IOC_FSGETXATTR)?;
                let mut attributes: FileAttributes = [flags | FS_XFLAG_EXTSIZE, bytes, 0, 0, 0, 0, 0];
                attributes[2..].copy_from_slice(&rest);
                sys::ioctl_set(self.fd(), FS_IOC_FSSETXATTR, &attributes)
            }
        }
    }

    fn share<'a>(
        &'a self,
        off: u64,
        source: &'a File,
        source_off: u64,
        len: u64,
    ) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(async move {
            let source = source.descriptor().ok_or(io::ErrorKind::Unsupported)?;
            let fd = self.fd.clone();
            blocking(move || {
                let range: FileCloneRange = [source.as_raw_fd() as u64, source_off, len, off];
                sys::ioctl_set(fd.as_fd(), FICLONERANGE, &range)
            })
            .await
        })
    }

    fn disc(&self) -> BoxFuture<'_, io::Result<Disc>> {
        let fd = self.fd.clone();
        Box::pin(blocking(move || disc(fd.as_fd())))
    }

    fn descriptor(&self) -> Option<Arc<OwnedFd>> {
        Some(self.fd.clone())
    }

    fn len(&self) -> io::Result<u64> {
        match self.kind {
            FileKind::Block => sys::ioctl_get::<u64>(self.fd(), BLKGETSIZE64),
            // Files whose content the kernel generates (/proc) fail here, whatever size stat reports.
            _ => sys::lseek(self.fd(), SeekFrom::End(0)),
        }
    }

    fn extent(&self, off: u64) -> BoxFuture<'_, io::Result<FileExtent>> {
        Box::pin(async move {
            if self.kind == FileKind::Regular
                && let Some(found) = self.query(move |fd| extent(fd, off)).await?
            {
                return Ok(found);
            }
            // The system does not tell, or only that no data follows: the length does.
            let len = self.len()?;
            if off >= len {
                let text = format!("offset {off} lies beyond the end of the file ({len} bytes)");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
            let data = self.kind != FileKind::Regular || !self.query(tells_extents).await;
            Ok(FileExtent { data, end: len })
        })
    }

    fn stat(&self) -> io::Result<FileStat> {
        let mut stat = file_stat(&sys::fstat(self.fd())?);
        if self.kind == FileKind::Block {
            stat.len = self.len()?;
        }
        Ok(stat)
    }

    fn alignment(&self) -> u32 {
        self.alignment
    }

    fn try_lock(&self, start: u64, len: u64, exclusive: bool) -> io::Result<bool> {
        match self.lock(libc::F_OFD_SETLK, lock_kind(exclusive), start, len) {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn unlock(&self, start: u64, len: u64) -> io::Result<()> {
        self.lock(libc::F_OFD_SETLK, libc::F_UNLCK, start, len).map(drop)
    }

    fn test_lock(&self, start: u64, len: u64, exclusive: bool) -> io::Result<bool> {
        let found = self.lock(libc::F_OFD_GETLK, lock_kind(exclusive), start, len)?;
        Ok(found.l_type == libc::F_UNLCK as libc::c_short)
    }
}

/// The run that contains `off`; nothing where no data follows, or the file system can't tell.
fn extent(fd: BorrowedFd<'_>, off: u64) -> io::Result<Option<FileExtent>> {
    let data = match sys::lseek(fd, SeekFrom::Data(off)) {
        Ok(data) => data,
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENXIO | libc::EINVAL | libc::EOPNOTSUPP)) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    if data > off {
        return Ok(Some(FileExtent { data: false, end: data }));
    }
    // Others may have punched or cut between the calls; then one byte of data is still a true answer of before.
    let hole = sys::lseek(fd, SeekFrom::Hole(off)).unwrap_or(off + 1);
    Ok(Some(FileExtent { data: true, end: hole.max(off + 1) }))
}

/// Whether the file system tells data from holes at all.
fn tells_extents(fd: BorrowedFd<'_>) -> bool {
    let refused = |error: &io::Error| matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP));
    !sys::lseek(fd, SeekFrom::Data(0)).is_err_and(|error| refused(&error))
}
